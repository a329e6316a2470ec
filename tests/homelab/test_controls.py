"""Controls and logs on a real systemd, over real connections: services, the journal, power, and polls beside them."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
import time
from typing import Any

import pytest
import pytest_socket

from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.remedies import remedy_for
from custom_components.homelab_monitor.client.checks.update_script import SCRIPT
from custom_components.homelab_monitor.client.control.control import (
    PowerAction,
    RunAction,
    control_power,
    control_service,
)
from custom_components.homelab_monitor.client.control.install_updates import (
    Installation,
    Phase,
    read_installation,
    start_installation,
)
from custom_components.homelab_monitor.client.errors import (
    ControlDenied,
    ControlFailed,
    NoSuchUnit,
    UpgradeDenied,
    WouldLockOut,
)
from custom_components.homelab_monitor.client.models import FailedLogins, Log, Processes
from custom_components.homelab_monitor.client.probe.programs import load_programs
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.tracking.usage import busiest, usages
from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

from .lab import SUBNET, Account, Lab, LabHost
from .needed import needs_lab

KEY = KeyPair.generate()
STOP_SECONDS = 4
SETUP = f"""\
unit() {{ printf '[Unit]\\nDescription=%s\\n[Service]\\n%s\\n' "$1" "$2" >etc/systemd/system/$1.service; }}
unit talks 'ExecStart=/bin/sh -c "echo one; echo zwei ✓ ächz; exec sleep 1000"'
unit slow 'ExecStart=/bin/sleep 1000
ExecStop=/bin/sleep {STOP_SECONDS}'
unit broken 'ExecStart=/bin/false
Type=oneshot'
unit busy 'ExecStart=/bin/sh -c "while :; do i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done; sleep 0.05; done"'
ln -s /dev/null etc/systemd/system/masked.service
printf '%s\\n' '#!/bin/sh' 'for verb in "$@"; do :; done' 'echo "$verb $DEBIAN_FRONTEND $(wc -c)"' \
  'while [ $verb = upgrade ] && [ ! -e /run/go ]; do sleep 0.05; done' \
  'read status 2>/dev/null </run/go; exit ${{status:-0}}' \
  >usr/bin/apt-get
chmod 755 usr/bin/apt-get
"""
ALLOWED = ("start -- slow.service", "stop -- slow.service", "restart -- slow.service", "poweroff")
SUDO = "ALL=(root) NOPASSWD: " + ", ".join(f"/usr/bin/systemctl {words}" for words in ALLOWED)


@pytest.fixture(autouse=True)
def _only_the_lab(socket_enabled: None) -> None:
    """Let tests connect to the lab: the harness forbids all but this machine itself, anew before each test."""
    pytest_socket.socket_allow_hosts([f"{SUBNET}.0/24"])


type Work[T] = Callable[[ProbeSession], Coroutine[Any, Any, T]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs_lab(systemd=True)
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab) -> LabHost:
    accounts = tuple(
        Account(name, authorized=(KEY.public_openssh,), sudo=sudo, groups=groups)
        for name, sudo, groups in (
            ("root", "", ()),
            ("mon", SUDO, ()),
            ("eve", "", ()),
            ("upgrader", "", ()),
            ("reader", "", ("systemd-journal",)),
        )
    )
    host = lab.add_host("server", systemd=True, accounts=accounts, setup=SETUP)
    host.wait()
    remedy = remedy_for("install_updates_rule", Family.DEBIAN, "upgrader", {"manager": "apt"})
    assert remedy
    host.run("sh", "-c", remedy.commands[0])
    return host


def logged_in[T](host: LabHost, username: str, work: Work[T]) -> T:
    """Do something with a session from where the client lives; a thread can be there, this process stays here."""

    async def run() -> T:
        target = Target(username, host.address, 22)
        session = ProbeSession(target, KEY, (host.host_key,), load_programs(), timeout=10)
        try:
            return await work(session)
        finally:
            await session.close()

    with ThreadPoolExecutor(1, initializer=host.lab.enter_hub) as thread:
        return thread.submit(asyncio.run, run()).result(120)


def control(host: LabHost, username: str, unit: str, action: RunAction) -> None:
    async def work(session: ProbeSession) -> None:
        async with session.aside() as connection:
            await control_service(connection, host.name, unit, action)

    logged_in(host, username, work)


def read_log(host: LabHost, username: str, unit: str, lines: int = 100) -> Log | str | None:
    """Return the log, or why there is none."""

    async def work(session: ProbeSession) -> Log | str | None:
        (reply,) = await session.ask_aside(["logs"], {"logs": [f"{lines} service {unit}"]}, timeout=15)
        told = reply.sections.get("logs")
        return told if isinstance(told, Log) else reply.missing.get("logs") or reply.errors.get("logs")

    return logged_in(host, username, work)


def state(host: LabHost, unit: str) -> str:
    return host.run("systemctl", "is-active", unit, check=False).strip()


def test_root_starts_restarts_and_stops_a_service(server: LabHost) -> None:
    for action, expected in (("start", "active"), ("restart", "active"), ("stop", "inactive")):
        control(server, "root", "talks.service", RunAction(action))
        assert state(server, "talks.service") == expected


def test_systemds_own_words_say_what_went_wrong(server: LabHost) -> None:
    for unit, words in (("broken.service", "control process exited"), ("masked.service", "is masked")):
        with pytest.raises(ControlFailed, match=words):
            control(server, "root", unit, RunAction.START)
    with pytest.raises(NoSuchUnit):
        control(server, "root", "nowhere.service", RunAction.START)
    with pytest.raises(WouldLockOut):
        control(server, "root", "ssh.service", RunAction.STOP)


def test_only_what_sudo_allows_is_done(server: LabHost) -> None:
    control(server, "mon", "slow.service", RunAction.START)
    assert state(server, "slow.service") == "active"
    for username, unit in (("mon", "talks.service"), ("eve", "slow.service")):
        with pytest.raises(ControlDenied) as denied:
            control(server, username, unit, RunAction.RESTART)
        assert denied.value.placeholders["command"] == f"/usr/bin/systemctl restart -- {unit}"


def test_polls_go_on_while_a_service_takes_its_time_to_stop(server: LabHost) -> None:
    server.run("systemctl", "start", "slow.service")

    async def work(session: ProbeSession) -> tuple[float, list[float]]:
        await session.poll(["cpu"])
        async with session.aside() as connection:
            started = time.monotonic()
            stopping = asyncio.create_task(control_service(connection, "server", "slow.service", RunAction.STOP))
            polls = []
            while not stopping.done():
                begun = time.monotonic()
                await session.poll(["cpu", "memory", "load"])
                polls.append(time.monotonic() - begun)
                await asyncio.sleep(0.1)
            await stopping
            return time.monotonic() - started, polls

    seconds, polls = logged_in(server, "mon", work)
    assert seconds >= STOP_SECONDS
    assert len(polls) > 2 * STOP_SECONDS
    assert max(polls) < STOP_SECONDS / 2
    assert state(server, "slow.service") == "inactive"


def test_the_journal_of_a_service_is_what_journalctl_prints(server: LabHost) -> None:
    server.run("systemctl", "restart", "talks.service")
    time.sleep(0.3)
    server.run("journalctl", "--sync")
    printed = server.run(
        "env", "LC_ALL=C", "journalctl", "-u", "talks.service", "-n", "20", "-o", "short-iso"
    ).splitlines()
    for username in ("root", "reader"):
        told = read_log(server, username, "talks.service", 20)
        assert isinstance(told, Log), told
        assert list(told.lines) == [line for line in printed if not line.startswith("-- Journal")]
        assert any(line.endswith("zwei ✓ ächz") for line in told.lines)
    last = read_log(server, "root", "talks.service", 1)
    assert isinstance(last, Log)
    assert last.lines == told.lines[-1:]


def test_who_may_not_read_the_journal_is_told_so(server: LabHost) -> None:
    assert read_log(server, "eve", "talks.service") == "permission_denied"
    assert read_log(server, "root", "nowhere.service") == "not_installed"


def test_who_may_not_read_the_journal_counts_no_failed_logins(server: LabHost) -> None:
    options = ("-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null")
    server.run("ssh", "-F", "none", *options, "stranger@127.0.0.1", "true", check=False)
    server.run("journalctl", "--sync")
    # Logged in, everybody has a journal of his own, in which nothing is of sshd: that is not the system's.
    server.run("su", "eve", "-s", "/bin/sh", "-c", "logger mine && sleep 1")

    async def work(session: ProbeSession) -> object:
        return (await session.poll(["security"])).sections["security"].failed_logins

    told = logged_in(server, "reader", work)
    assert told == FailedLogins(state="ok", reason="some", source="journal", count=1)
    told = logged_in(server, "eve", work)
    assert told.state == "unknown", told


def test_the_busiest_process_belongs_to_its_service(server: LabHost) -> None:
    server.run("systemctl", "start", "busy.service")

    async def work(session: ProbeSession) -> tuple[Processes, Processes]:
        first, second = await session.ask_aside(["processes"], timeout=15, again_after=1.0)
        return first.sections["processes"], second.sections["processes"]

    before, after = logged_in(server, "eve", work)
    server.run("systemctl", "stop", "busy.service")
    busy = [each for each in busiest(usages(before, after), 3) if each.process.unit == "busy.service"]
    assert busy
    assert busy[0].process.name == "sh"
    assert 5 < busy[0].cpu_percent <= 110


def upgrade(host: LabHost, username: str) -> None:
    async def work(session: ProbeSession) -> None:
        async with session.aside() as connection:
            await start_installation(connection, host.name, "apt")

    logged_in(host, username, work)


def told(host: LabHost, username: str) -> Installation:
    async def work(session: ProbeSession) -> Installation:
        async with session.aside() as connection:
            return await read_installation(connection, host.name, "apt")

    return logged_in(host, username, work)


def test_packages_are_installed_by_a_unit_that_nobody_has_to_wait_for(server: LabHost) -> None:
    assert told(server, "eve") == Installation(phase=Phase.NONE)
    with pytest.raises(UpgradeDenied):
        upgrade(server, "eve")
    upgrade(server, "upgrader")
    upgrade(server, "root")
    assert told(server, "eve") == Installation(phase=Phase.RUNNING)
    assert state(server, "homelab_monitor-update.service") == "active"
    for status, end in (("0", Phase.DONE), ("100", Phase.FAILED)):
        server.run("sh", "-c", f"echo {status} >/run/go")
        upgrade(server, "upgrader")
        deadline = time.monotonic() + 10
        while (found := told(server, "eve")).phase is Phase.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found.phase is end
        output = server.run("cat", "/run/homelab_monitor-update/output")
        assert output.splitlines()[0] == "update noninteractive 0", "with nothing to read"
    assert "homelab_monitor" not in server.run("systemctl", "list-units", "--all", "--failed"), (
        "it leaves no failed unit"
    )


def test_a_unit_that_was_killed_is_lost(server: LabHost) -> None:
    server.run("rm", "/run/go")
    upgrade(server, "upgrader")
    server.run("systemctl", "kill", "--signal=KILL", "homelab_monitor-update.service")
    deadline = time.monotonic() + 10
    while (found := told(server, "eve")).phase is Phase.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == Installation(phase=Phase.LOST)


def test_a_unit_has_nothing_of_who_started_it_and_is_started_once(server: LabHost) -> None:
    server.run("rm", "-f", "/run/go")
    server.run("rm", "-rf", "/run/homelab_monitor-update")
    asked = (
        "mkdir -p ~/bin; cd ~/bin; printf '#!/bin/sh\\nid -u >/tmp/mine\\n' >systemd-run; cp systemd-run env; "
        "chmod 755 *; umask 0; ulimit -f 100; ulimit -n 256; trap '' TERM HUP; export PATH=~/bin:$PATH; "
        "export APT_CONFIG=/tmp/x SYSTEMD_LOG_LEVEL=debug DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/bus ENV=/tmp/x; "
        f"for each in 1 2 3 4 5 6; do /usr/bin/sudo -n {SCRIPT} & done; "
        f"/usr/bin/sudo -n {SCRIPT} x; /usr/bin/sudo -n systemd-run id; wait"
    )
    server.run("su", "-", "upgrader", "-s", "/bin/sh", "-c", asked, check=False)
    main = server.run("systemctl", "show", "-p", "MainPID", "--value", "homelab_monitor-update").strip()
    deadline = time.monotonic() + 10
    while not (children := server.run("pgrep", "-f", "/bin/sh /usr/bin/apt-get.*upgrade", check=False).split()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(children) == 1
    environ = sorted(server.run("cat", f"/proc/{children[0]}/environ").strip("\0").split("\0"))
    names = {each.partition("=")[0] for each in environ}
    assert {"APT_CONFIG", "SYSTEMD_LOG_LEVEL", "DBUS_SYSTEM_BUS_ADDRESS", "ENV", "SUDO_USER", "USER"} & names == set()
    assert {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"} <= set(environ)
    limits = server.run("cat", f"/proc/{main}/limits")
    assert "Max file size             unlimited" in limits
    # Of itself systemd lets every service ignore SIGPIPE.
    assert "SigIgn:\t0000000000001000" in server.run("cat", f"/proc/{children[0]}/status")
    assert server.run("stat", "-c", "%U %a", "/run/homelab_monitor-update/output") == "root 644\n"
    assert server.run("ls", "/tmp/mine", check=False) == ""
    server.run("systemctl", "kill", "--signal=KILL", "homelab_monitor-update.service")


def test_a_machine_is_shut_down(server: LabHost) -> None:
    async def work(session: ProbeSession) -> None:
        async with session.aside() as connection:
            await control_power(connection, "server", PowerAction.SHUT_DOWN)

    outer = server._outer
    assert outer is not None
    logged_in(server, "mon", work)
    assert outer.wait(20) is not None
