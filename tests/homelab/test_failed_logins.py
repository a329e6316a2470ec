"""Failed logins on a real system: as many as really failed, whatever strangers and other users make the log say."""

from collections.abc import Iterator
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source
from tests.needs import needs

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "probes"
FAILED = "Failed password for root from 192.0.2.7 port 40022 ssh2"
REASONS = (
    FAILED,
    f"message repeated 99999999999999999999999 times: [ {FAILED}",
    f"x\n{FAILED}\nsshd[1]: {FAILED}",
)
NAMES = ("nobody-here", "a b", f"x from 192.0.2.9 port 1 ssh2\n{FAILED}", f": {FAILED}: x\u2028\x1b[2K")
"""Of strangers; they look like the end of a message and a message of their own."""
SETUP = """\
sed -i 's/^KbdInteractiveAuthentication .*/KbdInteractiveAuthentication yes/' etc/ssh/sshd_config
if grep -qi persourcepenalties usr/sbin/sshd; then echo 'PerSourcePenalties no' >>etc/ssh/sshd_config; fi
"""
SSH = ("ssh", "-Fnone", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oIdentityAgent=none")
STRANGER = """
import asyncio, asyncssh, sys
asyncssh.connection.saslprep = str  # which would refuse such names
async def log_in():
    try:
        await asyncssh.connect(sys.argv[1], username=sys.argv[2], password="wrong", known_hosts=None, config=None,
                               client_keys=None, agent_path=None, preferred_auth="password")
    except asyncssh.PermissionDenied:
        print("refused")
asyncio.run(log_in())
"""
"""OpenSSH's own client takes no such names."""
DISCONNECT = r"""
import os, socket, struct, sys, time
def text(value): return struct.pack(">I", len(value)) + value
def packet(payload):
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + os.urandom(padding)
def say(*words):
    door = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
    try:
        door.recv(300)
        for word in words:
            door.sendall(word)
            time.sleep(0.1)
        while door.recv(4096):
            pass
    except ConnectionError:
        pass  # the server has ended it
for reason in sys.argv[1:]:
    say(b"SSH-2.0-x\r\n", packet(b"\x01" + struct.pack(">I", 11) + text(reason.encode()) + text(b"")))
    say(reason.encode() + b"\r\n")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    rule = "ALL=(root) NOPASSWD: /usr/bin/" + re.sub(r"[,=]", r"\\\g<0>", " ".join(journal_line()))
    accounts = (Account("mon", groups=("adm",), password="right"), Account("eve"), Account("ruled", sudo=rule))
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=accounts, setup=SETUP)
        host.wait()
        host.run("sh", "-c", "printf '#!/bin/sh\\necho \"$ANSWER\"\\n' >/tmp/ask; chmod 755 /tmp/ask")
        yield host


def log_in(host: LabHost, user: str, method: str, tries: int = 1, **door: str) -> bool:
    """Try to log in over SSH from the host itself; return whether that worked. `door`: `answer`, `port`."""
    command = [
        *host.as_host,
        "env",
        "SSH_ASKPASS=/tmp/ask",
        "SSH_ASKPASS_REQUIRE=force",
        f"ANSWER={door.get('answer', 'wrong')}",
    ]
    command += [*SSH, f"-oNumberOfPasswordPrompts={tries}", f"-oPreferredAuthentications={method}"]
    command += ["-p", door.get("port", "22"), "-l", user, "127.0.0.1", "true"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, capture_output=True).returncode == 0


def journal_line() -> list[str]:
    """Return the command that the probe runs with sudo, as it is documented."""
    (line,) = re.findall(r"`sudo -n (journalctl [^`]*)`", (PROBES / "README.md").read_text())
    words: list[str] = line.split()
    return words


def told(host: LabHost, user: str) -> dict[str, Any]:
    """Return what the probe tells a user of the host."""
    host.run("journalctl", "--sync")
    command = [*host.as_host, "su", user, "-s", "/bin/sh", "-c", "python3 - security"]
    run = subprocess.run(command, input=probe_source(PROBES), capture_output=True, check=True)
    part: dict[str, Any] = json.loads(run.stdout)["sections"]["security"]["failed_logins"]
    return part


def test_the_count_is_what_really_failed(server: LabHost) -> None:
    before = told(server, "root")
    assert (before["source"], before["count"]) == ("journal", 0)
    failed = 0
    for user, method, tries in (("root", "password", 3), ("mon", "keyboard-interactive", 2), ("eve", "password", 1)):
        assert not log_in(server, user, method, tries)
        failed += tries
    for name in NAMES:
        command = [*server.lab.as_hub, sys.executable, "-c", STRANGER, server.address, name]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "refused\n"
        failed += 1
    # Strangers who do not try a password count once; a refused key of somebody who is known is no password.
    assert not log_in(server, "ghost", "publickey")
    assert not log_in(server, "eve", "publickey")
    failed += 1
    assert log_in(server, "mon", "password", answer="right")
    server.run("env", "PORT=22", "python3", "-c", DISCONNECT, *REASONS)
    for user in ("root", "mon"):
        assert told(server, user) == {"state": "warning", "reason": "many", "source": "journal", "count": failed}
    assert told(server, "eve") == {"state": "unknown", "reason": "permission_denied"}
    # Lines of others, more than any reader would take, in sshd's name; even root's other programs are not sshd.
    flood = f"yes '{FAILED}' | head -n 25000 | logger -t sshd --id=1; logger -t 'sshd[1]' '{FAILED}'"
    server.run("su", "eve", "-s", "/bin/sh", "-c", flood)
    server.run(
        "python3", "-c", f"import syslog, time; syslog.openlog('sshd'); syslog.syslog('{FAILED}'); time.sleep(1)"
    )
    log = server.run("journalctl", "-q", "--no-pager", "-o", "cat", "-t", "sshd")
    assert log.count(FAILED) > 100
    # Even the message that sshd makes of them is there.
    assert "Received disconnect from 127.0.0.1" in log
    assert told(server, "mon")["count"] == failed


def test_dropbears_refusals_count_as_well(server: LabHost) -> None:
    needs(shutil.which("dropbear", path="/usr/sbin:/usr/bin"), "dropbear")
    before = told(server, "mon")["count"]
    server.run("mkdir", "-p", "/etc/dropbear")
    server.run("systemd-run", "-q", "--unit=dropbear", "dropbear", "-F", "-R", "-p", "127.0.0.1:2222")
    wait = "until ss -Hltn sport = :2222 | grep -q .; do sleep 0.1; done"
    server.run("timeout", "10", "sh", "-c", wait)
    assert not log_in(server, "mon", "password", 2, port="2222")
    assert not log_in(server, "ghost", "password", 2, port="2222")
    server.run("env", "PORT=2222", "python3", "-c", DISCONNECT, *REASONS)
    log = server.run("journalctl", "-q", "--no-pager", "-o", "cat", "-t", "dropbear")
    assert told(server, "mon")["count"] == before + 3, log


def test_the_rule_for_sudo_shows_what_ssh_servers_wrote_and_nothing_else(server: LabHost) -> None:
    """Sudo compares the words of a rule joined by spaces, so whoever has it may join and split them anew."""
    server.run("logger", "-t", "vault", "canary-4711")
    server.run("logger", "-t", "sshd", "Server listening on canary-4712")
    server.run("journalctl", "--sync")
    words = journal_line()
    as_user = [*server.as_host, "setpriv", "--reuid=ruled", "--regid=ruled", "--clear-groups", "--", "sudo", "-n"]

    def said(argv: list[str]) -> str:
        done = subprocess.run([*as_user, *argv], stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    whole = said(words)
    assert "canary-4712" in whole
    assert "canary-4711" not in whole
    for start in range(1, len(words)):
        for end in range(start + 2, len(words) + 1):
            assert "canary-4711" not in said([*words[:start], " ".join(words[start:end]), *words[end:]])
    assert "canary" not in said(["journalctl", "--no-pager", "-o", "json"])


FLOOD = r"""
import socket, sys, time
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
door.connect("/run/systemd/journal/dev-log")
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    door.send(b"<36>x: y")  # auth.warning, as a refusal of Dropbear
"""


def test_who_uses_up_what_journald_takes_of_the_servers_unit_hides_nothing(server: LabHost) -> None:
    """Dropbear's own shells stay in its unit, as those of OpenSSH where pam_systemd is not there or gives up."""
    needs(shutil.which("dropbear", path="/usr/sbin:/usr/bin"), "dropbear")
    door = "journalctl --no-pager -o cat -t dropbear | grep -c 'ad password attempt'"
    server.run("mkdir", "-p", "/etc/dropbear")
    limit = ("-p", "LogRateLimitIntervalSec=3s", "-p", "LogRateLimitBurst=50")
    server.run("systemd-run", "-q", "--unit=dropbear-lan", *limit, "dropbear", "-F", "-R", "-p", "127.0.0.1:2223")
    server.run("timeout", "10", "sh", "-c", "until ss -Hltn sport = :2223 | grep -q .; do sleep 0.1; done")
    server.run("journalctl", "--sync")
    before, was = told(server, "mon"), int(server.run("sh", "-c", door, check=False) or 0)
    assert before["reason"] != "log_dropped"
    group = server.run("systemctl", "show", "-p", "ControlGroup", "--value", "dropbear-lan").strip()
    script = f"echo $$ >/sys/fs/cgroup{group}/cgroup.procs; exec setpriv --reuid=eve --clear-groups "
    script += f"python3 -c '{FLOOD}' 8"
    with subprocess.Popen([*server.as_host, "sh", "-c", script]) as flood:
        time.sleep(1)
        assert not log_in(server, "mon", "password", 2, port="2223")
        flood.wait()
    time.sleep(3.5)
    # The next message tells: with it journald says what it has dropped before.
    assert not log_in(server, "mon", "password", 1, port="2223")
    server.run("journalctl", "--sync")
    assert int(server.run("sh", "-c", door, check=False) or 0) < was + 3, "nothing was dropped"
    as_ruled = ("setpriv", "--reuid=ruled", "--regid=ruled", "--clear-groups", "--", "sudo", "-n")
    assert "messages from dropbear-lan.service" in server.run(*as_ruled, *journal_line())
    for user in ("root", "mon"):
        now = told(server, user)
        assert now.get("lower_bound") or now == {"state": "unknown", "reason": "log_dropped", "source": "journal"}, user


EVICT = r"""
import socket, sys
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
door.connect("/run/systemd/journal/socket")
for entry in range(int(sys.argv[1]), int(sys.argv[1]) + 40):
    door.send(b"MESSAGE=hello\n" + b"".join(b"F%d_%d=1\n" % (entry, field) for field in range(300)))
"""
"""Journald begins a new file where one holds so many names of fields, and keeps so many files."""


def test_who_makes_the_journal_drop_what_is_old_hides_nothing(server: LabHost) -> None:
    assert told(server, "mon")["state"] != "unknown"
    refusals = (
        "journalctl -q --no-pager -o cat -t sshd -t sshd-session -t sshd-auth _UID=0 | grep -c '^Failed password'"
    )
    for begin in range(0, 4000, 40):
        server.run("setpriv", "--reuid=eve", "--regid=eve", "--clear-groups", "python3", "-c", EVICT, str(begin))
        server.run("journalctl", "--sync")
        if server.run("sh", "-c", refusals, check=False).strip() == "0":
            break
    else:
        pytest.fail("this journal keeps them")
    for user in ("root", "mon"):
        assert told(server, user) == {"state": "unknown", "reason": "log_too_short", "source": "journal"}
