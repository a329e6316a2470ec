"""Becoming root for real: which way is taken, and what a wrong password costs, under sudo, sudo-rs and doas with PAM.

pam_faillock locks an account after a few failed logins, so each one that we cause counts here.
"""

import asyncio
from dataclasses import replace
import json
from pathlib import Path
import re
from typing import Any
import zlib

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import (
    FACTS_SCRIPT,
    SMARTCTL_ARGUMENTS,
    Facts,
    Privilege,
    Smart,
    parse_facts,
)
from custom_components.homelab_monitor.client.checks.privilege import read_ways
from custom_components.homelab_monitor.client.checks.remedies import Outcome, Remedy, Where, run_remedy
from custom_components.homelab_monitor.client.control.control import run_as_root
from custom_components.homelab_monitor.client.errors import ControlDenied, ControlFailed, TerminalRequired
from custom_components.homelab_monitor.client.probe.programs import load_programs
from custom_components.homelab_monitor.client.transport import prompt as question_module
from custom_components.homelab_monitor.client.transport.command import CommandResult

from .superuser import SUDOS, WAYS, Place

PASSWORD, WRONG = "canary-Pa55 'word\"$(id)", "canary-wrong"
PAM = """\
auth required pam_faillock.so preauth deny=100
auth [success=1 default=ignore] pam_unix.so
auth [default=die] pam_faillock.so authfail deny=100
auth sufficient pam_faillock.so authsucc deny=100
account required pam_unix.so
session required pam_permit.so
"""
AS_FEDORA = """\
auth required pam_faillock.so preauth silent deny=100
auth sufficient pam_unix.so
auth required pam_faillock.so authfail deny=100
auth required pam_deny.so
account required pam_unix.so
session required pam_permit.so
"""
"""The order of authselect(8)."""
REMEDY = Remedy(key="test", where=Where.HOST, commands=("id -un", "wc -c </dev/stdin"))
ROOT = "root\n0\n"
WORDS = Path(__file__).parents[1] / "custom_components/homelab_monitor/translations/en.json"

pytestmark = pytest.mark.usefixtures("socket_enabled")
every_sudo = pytest.mark.parametrize("place", SUDOS, indirect=True)
every_way = pytest.mark.parametrize("place", WAYS, indirect=True)


def furnish(place: Place, *rules: str, pam: str = PAM, doas: str = "") -> None:
    """Give the place a password, rules, and a PAM that counts."""
    assert place.sh("printf 'mon:%s\\n' \"$(cat)\" | chpasswd", stdin=PASSWORD).returncode == 0
    place.allow(*rules)
    place.write("/etc/pam.d/sudo", pam)
    if doas:
        place.write("/etc/doas.conf", f"{doas}\n")


def failed(place: Place) -> int:
    """Return how many failed logins PAM counts."""
    done = place.sh("faillock --user mon")
    assert done.returncode == 0, done.stderr
    return sum(line.endswith(" V") for line in done.stdout.splitlines())


@every_sudo
@pytest.mark.parametrize("pam", [PAM, AS_FEDORA], ids=["debian", "fedora"])
async def test_a_wrong_password_counts_once_and_the_right_one_works(place: Place, pam: str) -> None:
    furnish(place, "mon ALL=(ALL) ALL", pam=pam)
    async with place.logged_in() as connection:
        without = await run_remedy(connection, REMEDY)
        assert (without.outcome, failed(place)) == (Outcome.NEEDS_PASSWORD, 0)
        wrong = await run_remedy(connection, REMEDY, WRONG)
        assert (wrong.outcome, failed(place)) == (Outcome.WRONG_PASSWORD, 1)
        right = await run_remedy(connection, REMEDY, PASSWORD)
    assert (right.outcome, right.stdout, right.stderr.strip()) == (Outcome.DONE, ROOT, "")
    left = place.sh("ps -A -o stat=,comm=").stdout.splitlines()
    assert not [line for line in left if "sudo" in line and not line.startswith("Z")]


@pytest.mark.parametrize(
    "options",
    [
        "passwd_tries=1",
        "!passprompt_override",
        "passprompt_override",
        "use_pty, log_input, log_output",
        "lecture=always",
    ],
)
async def test_what_sudoers_sets_changes_nothing(place: Place, options: str) -> None:
    furnish(place, f"Defaults {options}", "mon ALL=(ALL) ALL")
    async with place.logged_in() as connection:
        wrong = await run_remedy(connection, REMEDY, WRONG)
        assert (wrong.outcome, failed(place)) == (Outcome.WRONG_PASSWORD, 1)
        right = await run_remedy(connection, REMEDY, PASSWORD)
    assert (right.outcome, right.stdout) == (Outcome.DONE, ROOT)


@every_sudo
@pytest.mark.parametrize("setting", ["targetpw", "rootpw"])
async def test_where_sudo_asks_for_roots_password_that_one_works_and_the_form_says_so(
    place: Place, setting: str
) -> None:
    """As sudo of openSUSE does where nobody has changed it."""
    furnish(place, f"Defaults {setting}", "ALL ALL=(ALL) ALL")
    assert place.sh("echo root:roots | chpasswd").returncode == 0
    async with place.logged_in() as connection:
        assert (await run_remedy(connection, REMEDY, PASSWORD)).outcome == Outcome.WRONG_PASSWORD
        assert (await run_remedy(connection, REMEDY, "roots")).stdout == ROOT
    form = json.loads(WORDS.read_text())["issues"]["check"]["fix_flow"]["step"]["password"]
    assert "password of root" in form["data_description"]["password"]


@every_sudo
async def test_doas_is_used_where_sudo_lets_the_user_do_nothing(place: Place) -> None:
    furnish(place, "root ALL=(ALL) ALL", doas="permit nopass mon")
    async with place.logged_in() as connection:
        assert (await run_remedy(connection, REMEDY)).stdout == ROOT
        done = await run_as_root(connection, "nas", await read_ways(connection), ("id", "-un"), 60)
    assert (done.stdout, failed(place)) == ("root\n", 0)


@every_sudo
async def test_doas_without_a_password_goes_before_sudo_with_one(place: Place) -> None:
    furnish(place, "mon ALL=(ALL) ALL", doas="permit nopass mon")
    async with place.logged_in() as connection:
        assert (await run_remedy(connection, REMEDY, WRONG)).stdout == ROOT
    assert failed(place) == 0


@every_sudo
async def test_sudo_without_a_password_needs_no_doas(place: Place) -> None:
    furnish(place, "mon ALL=(ALL) NOPASSWD: ALL", doas="deny mon")
    async with place.logged_in() as connection:
        assert (await run_remedy(connection, REMEDY)).stdout == ROOT
        done = await run_as_root(connection, "nas", await read_ways(connection), ("id", "-un"), 60)
    assert (done.stdout, failed(place)) == ("root\n", 0)


@every_way
async def test_a_control_that_nothing_allows_costs_no_failed_login(place: Place) -> None:
    furnish(place, "permit mon" if place.way == "doas" else "mon ALL=(ALL) ALL")
    async with place.logged_in() as connection:
        with pytest.raises(ControlDenied) as raised:
            await run_as_root(connection, "nas", await read_ways(connection), ("id", "-un"), 60)
        tries = [run_remedy(connection, REMEDY) for _ in range(2)]
        outcomes = [each.outcome for each in await asyncio.gather(*tries)]
    expected = Outcome.REFUSED if place.way == "doas" else Outcome.NEEDS_PASSWORD
    assert outcomes == [expected, expected]
    assert raised.value.detail
    assert failed(place) == 0


FIRST, SECOND = (
    f"auth required pam_ftp.so\n{PAM}",
    PAM.replace("auth sufficient", "auth required pam_ftp.so\nauth sufficient"),
)
"""pam_ftp asks in words of its own, as modules for a second factor do."""


@every_sudo
@pytest.mark.parametrize(("pam", "asked"), [(FIRST, 0), (SECOND, 1)], ids=["first", "second"])
async def test_another_question_gets_no_answer_and_is_reported(
    place: Place, monkeypatch: pytest.MonkeyPatch, pam: str, asked: int
) -> None:
    monkeypatch.setattr(question_module, "QUESTION_SECONDS", 6.0)
    furnish(place, "mon ALL=(ALL) ALL", pam=pam)
    async with place.logged_in() as connection:
        run, answered = connection.run, []

        async def watched(command: str, **options: object) -> CommandResult:
            result = await run(command, **options)
            answered.append(result.asked)
            return result

        monkeypatch.setattr(connection, "run", watched)
        result = await run_remedy(connection, REMEDY, PASSWORD)
    assert result.outcome is Outcome.OTHER_QUESTION, result
    assert "Password required for mon" in result.stderr or "Please" in result.stderr, result.stderr
    assert (answered[-1], failed(place)) == (asked, 0)


async def test_a_sudo_that_wants_a_terminal_is_told_so_and_what_is_said_helps(place: Place) -> None:
    rules = "Defaults requiretty", "mon ALL=(ALL) NOPASSWD: ALL"
    furnish(place, *rules)
    async with place.logged_in() as connection:
        assert (await run_remedy(connection, REMEDY)).outcome is Outcome.NEEDS_TERMINAL
        ways = await read_ways(connection)
        with pytest.raises(TerminalRequired, match="you must have a tty"):
            await run_as_root(connection, "nas", ways, ("id", "-un"), 60)
        place.allow(*rules, "Defaults:mon !requiretty")
        assert (await run_remedy(connection, REMEDY)).stdout == ROOT
        assert (await run_as_root(connection, "nas", ways, ("id", "-un"), 60)).stdout == "root\n"


WARNINGS = {
    "another's file": "echo >/etc/sudoers.d/other; chmod 440 /etc/sudoers.d/other; chown mon /etc/sudoers.d/other",
    "an open file": "echo >/etc/sudoers.d/other; chmod 666 /etc/sudoers.d/other",
    "a line that nobody understands": "echo x y >/etc/sudoers.d/other; chmod 440 /etc/sudoers.d/other",
    "no log": "echo Defaults logfile=/nowhere/sudo.log >/etc/sudoers.d/other; chmod 440 /etc/sudoers.d/other",
    "no host name": "echo 127.0.0.1 localhost >/etc/hosts; echo hosts: files >/etc/nsswitch.conf",
}


@every_sudo
async def test_what_sudo_warns_of_is_no_refusal_of_what_ran_and_failed(place: Place) -> None:
    place.write("/usr/local/sbin/fails", "#!/bin/sh\necho ran >>/tmp/ran\necho it is broken >&2\nexit 1\n", 0o755)
    warned = set()
    async with place.logged_in() as connection:
        ways = await read_ways(connection)
        for name, script in WARNINGS.items():
            place.allow("mon ALL=(root) NOPASSWD: /usr/local/sbin/fails")
            place.sh(f"{script}; rm -f /tmp/ran")
            said = place.ask("/usr/local/sbin/fails").stderr
            warned |= {name} if said != "it is broken\n" else set()
            with pytest.raises(ControlFailed):
                await run_as_root(connection, "nas", ways, ("/usr/local/sbin/fails",), 60)
            assert place.sh("wc -l </tmp/ran").stdout.strip() == "2", name
    assert warned


REFUSALS = {
    "root ALL=(ALL) ALL": "",
    "mon ALL=(ALL) ALL": "",
    "mon ALL=(root) NOPASSWD: /usr/bin/true": "",
    "mon ALL=(ALL) NOPASSWD: ALL, !/usr/bin/id": "",
    "mon ALL=(ALL) NOPASSWD:ALL": "chage -E 1 mon",
}


@every_sudo
@pytest.mark.parametrize("rule", REFUSALS)
async def test_what_sudo_does_not_run_is_a_refusal(place: Place, rule: str) -> None:
    furnish(place, rule)
    async with place.logged_in() as connection:
        place.sh(REFUSALS[rule])
        with pytest.raises(ControlDenied) as raised:
            await run_as_root(connection, "nas", await read_ways(connection), ("id", "-un"), 60)
    assert raised.value.detail != "neither sudo nor doas is installed"


# ---------------------------------------------------------------- what the capability test learns of it


def facts(place: Place) -> Facts:
    """Return what the facts tell of the place."""
    told = parse_facts(place.sh(FACTS_SCRIPT, user="mon").stdout)
    assert told.is_complete
    return told


@every_sudo
@pytest.mark.parametrize(
    ("rule", "doas", "privilege"),
    [
        ("mon ALL=(ALL) NOPASSWD: ALL", "permit nopass mon", Privilege.SUDO),
        ("mon ALL=(ALL) ALL", "permit nopass mon", Privilege.DOAS),
        ("root ALL=(ALL) ALL", "permit nopass mon", Privilege.DOAS),
        ("mon ALL=(ALL) ALL", "permit mon", Privilege.SUDO_PASSWORD),
    ],
)
def test_the_facts_name_the_way_that_works_and_cost_no_failed_login(
    place: Place, rule: str, doas: str, privilege: Privilege
) -> None:
    furnish(place, rule, doas=doas)
    assert (facts(place).privilege, failed(place)) == (privilege, 0)


SMARTCTL = """\
#!/bin/sh
case $* in *-j*) echo '{';; esac
[ "$(id -u)" = 0 ] || { echo "Smartctl open device: /dev/sda failed: Permission denied"; exit 2; }
[ "$*" = "-n standby -j -a /dev/sda" ] || exit 1
echo '}'
exit 64
"""
DISK = """
mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 600 /dev/sda b 8 0 &&
mkdir -p /sys/block/sda && echo 0 >/sys/block/sda/removable
"""
READS = f"/usr/local/sbin/smartctl {SMARTCTL_ARGUMENTS} /dev/sda"


@every_sudo
@pytest.mark.parametrize(
    ("rules", "is_readable"),
    [
        ([f"mon ALL=(root) NOPASSWD: {READS}"], True),
        (["mon ALL=(root) NOPASSWD: /usr/bin/id", f"mon ALL=(root) {READS}"], False),
        (["mon ALL=(root) NOPASSWD: /usr/bin/id", "mon ALL=(ALL) ALL"], False),
        (["mon ALL=(root) NOPASSWD: /usr/bin/id"], False),
    ],
    ids=["allowed", "with a password", "everything with a password", "not allowed"],
)
def test_disks_are_readable_only_where_the_poll_can_read_them(
    place: Place, rules: list[str], is_readable: bool
) -> None:
    furnish(place, *rules)
    place.write("/usr/local/sbin/smartctl", SMARTCTL, 0o755)
    done = place.sh(DISK)
    assert done.returncode == 0, done.stderr
    smart = Smart(tool="/usr/local/sbin/smartctl")
    expected = replace(smart, readable=("sda",)) if is_readable else replace(smart, denied=("sda",))
    assert (facts(place).smart, failed(place)) == (expected, 0)


# ---------------------------------------------------------------- the polls

FAIL2BAN = '#!/bin/sh\necho \'[{"sshd": ["192.0.2.7"]}]\'\n'
BANNED = "mon ALL=(root) NOPASSWD: /usr/bin/fail2ban-client banned"
MIXED = ["mon ALL=(ALL) ALL", "mon ALL=(root) NOPASSWD: /usr/sbin/sshd -T", BANNED]
SERVE = 'exec(compile(open("/usr/local/lib/probe.py").read(), "probe.py", "exec"))'


def polled(place: Place, times: int) -> list[dict[str, Any]]:
    """Return the replies of one connection to requests that may use sudo."""
    asked = {"sections": ["security", "sockets"], "sudo": ["security", "sockets"], "timeout": 60}
    requests = "".join(f"{json.dumps(asked | {'id': str(number)})}\n" for number in range(times))
    place.write("/usr/local/lib/probe.py", load_programs().linux.source.decode())
    done = place.sh(f"exec python3 -I -u -c '{SERVE}' >/home/mon/said", user="mon", stdin=requests)
    said = (place.folder / "upper/home/mon/said").read_bytes()
    frames = re.finditer(rb"\x1e\d+ (\d+) ([jz])\n", said)
    parts = [(said[each.end() : each.end() + int(each[1])], each[2]) for each in frames]
    assert len(parts) == times, done.stderr
    return [json.loads(zlib.decompress(part) if form == b"z" else part)["sections"] for part, form in parts]


@every_sudo
@pytest.mark.parametrize("rules", [["mon ALL=(ALL) ALL"], MIXED], ids=["all asked", "some not"])
def test_polls_cost_no_failed_login_whatever_sudo_lets_them_do(place: Place, rules: list[str]) -> None:
    furnish(place, "Defaults unknown_to_somebody", *rules)
    place.write("/usr/bin/fail2ban-client", FAIL2BAN, 0o755)
    # As OpenRC notes that it runs: a socket may outlive its server.
    place.write("/usr/bin/fail2ban-server", FAIL2BAN, 0o755)
    place.sh("mkdir -p /run/sshd /run/fail2ban /run/openrc/started; touch /run/openrc/started/fail2ban")
    replies = polled(place, 5) + polled(place, 5)
    assert failed(place) == 0
    for reply in replies:
        told = reply["security"]["fail2ban"]
        expected = (1, None) if rules is MIXED else (None, "permission_denied")
        assert (told.get("bans"), told.get("bans_unknown")) == expected
