"""The row *Root access* beside what sudo, sudo-rs and doas really do: only what ran as root needs no password."""

from dataclasses import dataclass
import json
import shutil

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, Privilege, parse_facts

from .needs import needs
from .superuser import SUDOS, Place
from .test_becoming_root import WORDS, failed, furnish

REASONS = json.loads(WORDS.read_text())["selector"]["check_reason"]["options"]
FREE, ASKS, NONE = Privilege.SUDO, Privilege.SUDO_PASSWORD, Privilege.NONE
ALL, WITH = "mon ALL=(ALL) NOPASSWD: ALL", "mon ALL=(ALL) ALL"


@dataclass(frozen=True)
class Case:
    """Rules, what else is done there, and what it comes to under sudo and under sudo-rs."""

    rules: tuple[str, ...]
    sudo: Privilege
    sudo_rs: Privilege
    script: str = ""


CASES = {
    "everything": Case((ALL,), FREE, FREE),
    "everything with a password": Case((WITH,), ASKS, ASKS),
    "nothing, of which sudo speaks only after the password": Case((), ASKS, NONE),
    "one other command": Case(("mon ALL=(root) NOPASSWD: /usr/bin/true",), ASKS, NONE),
    "on another machine": Case(("mon other=(ALL) NOPASSWD: ALL",), ASKS, NONE),
    "as somebody else": Case(("mon ALL=(nobody) NOPASSWD: ALL",), ASKS, NONE),
    "as somebody else by default": Case(("Defaults runas_default=nobody", ALL), NONE, FREE),
    "a terminal": Case(("Defaults requiretty", ALL), NONE, FREE),
    "a terminal and a password": Case(("Defaults requiretty", WITH), NONE, ASKS),
    "an account that has expired": Case((ALL,), NONE, NONE, "chage -E 1 mon"),
    "not setuid": Case((ALL,), NONE, NONE, "chmod u-s $(readlink -f /usr/bin/sudo)"),
    "warnings": Case(("Defaults nonsense", "Defaults logfile=/nowhere/log", ALL), FREE, FREE),
    "warnings and a password": Case(("Defaults nonsense", "Defaults logfile=/nowhere/log", WITH), ASKS, ASKS),
    "a name that cannot be looked up": Case(
        (ALL,), FREE, FREE, "echo 127.0.0.1 localhost >/etc/hosts; echo hosts: files >/etc/nsswitch.conf"
    ),
    "an id of the user's own": Case(
        (ALL,), FREE, FREE, "mkdir /home/mon/bin; echo 'echo 5' >/home/mon/bin/id; chmod 755 /home/mon/bin/id"
    ),
}


def told(place: Place) -> Privilege | None:
    """Return what the facts tell, with the shell's own programs first on the user's path, as some profiles do."""
    found = parse_facts(place.sh(f"PATH=/home/mon/bin:$PATH\n{FACTS_SCRIPT}", user="mon").stdout)
    assert found.is_complete
    return found.privilege


@pytest.mark.parametrize("place", SUDOS, indirect=True)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_row_says_what_sudo_really_does(place: Place, case: Case) -> None:
    furnish(place, *case.rules)
    place.sh(case.script)
    expected = case.sudo if place.way == "sudo" else case.sudo_rs
    assert (told(place), failed(place)) == (expected, 0)
    # What it says is what a person sees there.
    done = place.ask("/usr/bin/id", "-u")
    assert (done.stdout == "0\n") is (expected is FREE), done


@pytest.mark.parametrize("place", ["doas"], indirect=True)
@pytest.mark.parametrize(
    ("rule", "privilege"),
    [
        ("permit nopass mon", Privilege.DOAS),
        ("permit nopass keepenv mon", Privilege.DOAS),
        ("permit mon", NONE),
        ("permit nopass mon as nobody", NONE),
        ("permit nopass mon cmd true", NONE),
        ("permit nopass root", NONE),
        ("nonsense", NONE),
    ],
)
def test_the_row_says_what_doas_really_does(place: Place, rule: str, privilege: Privilege) -> None:
    place.allow(rule)
    assert told(place) is privilege
    assert (place.ask("/usr/bin/id", "-u").stdout == "0\n") is (privilege is Privilege.DOAS)


@pytest.mark.parametrize("place", ["doas"], indirect=True)
def test_of_a_doas_that_asks_for_a_password_no_more_is_said_than_that(place: Place) -> None:
    """As Alpine's does for the group wheel: it does let its members become root."""
    place.allow("permit persist :mon")
    assert place.run("doas", "-C", "/etc/doas.conf", "/usr/bin/id", user="mon").stdout == "permit\n"
    assert told(place) is NONE
    assert "doas allows it without a password" in REASONS["sudo_none"]


@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_a_sudo_that_only_says_something_lets_nothing_run(place: Place) -> None:
    version = place.sh("sudo --version | head -n 1").stdout.strip()
    for does in (
        "exit 0",
        "echo 0 >&2",
        "echo uid 0",
        "echo 00",
        "echo 0; echo 0",
        "echo 0; exit 1",
        "printf '\\n0\\nuid 0\\n' >&2",
    ):
        script = f"#!/bin/sh\ncase $1 in --version) echo '{version}';; *) {does};; esac\n"
        place.write("/usr/bin/sudo", script, 0o755)
        assert told(place) is NONE, does


@pytest.mark.parametrize("place", SUDOS, indirect=True)
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox ash", "mksh"])
def test_whatever_shell_sh_is_reports_the_same(place: Place, shell: str) -> None:
    needs(shutil.which(shell.split(maxsplit=1)[0]), shell)
    for case in ("warnings", "warnings and a password", "nothing, of which sudo speaks only after the password"):
        furnish(place, *CASES[case].rules)
        found = parse_facts(place.run(*shell.split(), stdin=FACTS_SCRIPT, user="mon").stdout)
        expected = CASES[case].sudo if place.way == "sudo" else CASES[case].sudo_rs
        assert (found.privilege, found.is_complete, failed(place)) == (expected, True, 0), case
