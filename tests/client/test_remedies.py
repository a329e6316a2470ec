"""Remedies: the catalog, what may enter a command line, and running one through a real sudo."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
import logging
import shlex
import shutil

import pytest
from syrupy.assertion import SnapshotAssertion

from custom_components.homelab_monitor.client import remedies
from custom_components.homelab_monitor.client.command import CommandResult
from custom_components.homelab_monitor.client.facts import FACTS_SCRIPT, Family, parse_facts
from custom_components.homelab_monitor.client.remedies import (
    REMEDIES,
    SUDOERS_FILE,
    Outcome,
    Remedy,
    Where,
    remedy_for,
    run_remedy,
)
from custom_components.homelab_monitor.client.ssh import Connection
from tests.machine import CommandLines, Machine
from tests.needs import needs

CANARY = "canary-Pa55 'word\"$(x)"
DISKS = {"disks": "sda nvme0n1", "tool": "/usr/sbin/smartctl"}
LIKE_DEBIAN = tuple(
    (key, family)
    for key, family in sorted(REMEDIES)
    if key in ("allow_smart", "quiet_shell") and family is not Family.DEBIAN
)
HOSTILE_NAMES = (
    "$(reboot)",
    "`reboot`",
    "mon; reboot",
    "mon'",
    'mon"',
    "mon\nreboot",
    "-G root",
    "--help",
    "",
    "mon docker",
    "mon\\",
    "a@b",
    "%wheel",
    "#0",
    "ALL=(ALL)",
    "m" * 65,
    "mon\x00",
    "*",
    "{username}",
    "{lines}",
)


# ---------------------------------------------------------------- the catalog


def test_every_remedy_of_every_family(snapshot: SnapshotAssertion):
    found = {row: remedy_for(*row, "mon", DISKS) for row in sorted(REMEDIES)}
    assert all(found.values())
    shown = {
        f"{key}, {family.value}: {remedy.where.value}": remedy.text.splitlines()
        for (key, family), remedy in found.items()
        if remedy.where is not Where.HOME_ASSISTANT and (key, family) not in LIKE_DEBIAN
    }
    assert shown == snapshot


@pytest.mark.parametrize(("key", "family"), LIKE_DEBIAN)
def test_what_is_alike_everywhere(key, family):
    assert remedy_for(key, family, "mon", DISKS) == remedy_for(key, Family.DEBIAN, "mon", DISKS)


def test_only_the_sudoers_remedy_lets_a_section_use_sudo():
    sections = {key: remedy_for(key, family, "mon", DISKS).sudo_section for key, family in REMEDIES}
    assert {key: section for key, section in sections.items() if section} == {"allow_smart": "storage_health"}


@pytest.mark.parametrize("family", [each for each in Family if each not in (Family.MACOS, Family.WINDOWS)])
@pytest.mark.parametrize("key", ["install_python", "set_clock", "join_docker", "start_docker", "start_sshd"])
def test_every_linux_family_has_every_remedy(key, family):
    assert remedy_for(key, family, "mon", {})


def test_what_the_catalog_does_not_hold_has_no_remedy():
    assert remedy_for("install_python", Family.WINDOWS, "mon", {}) is None
    assert remedy_for("rm -rf /", Family.DEBIAN, "mon", {}) is None


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("key", ["join_docker", "allow_smart"])
def test_a_user_name_that_is_more_than_a_name_never_reaches_a_command(key, name):
    assert remedy_for(key, Family.DEBIAN, name, DISKS) is None


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_remedy_without_a_user_name_is_the_same_for_every_user(name):
    assert remedy_for("set_clock", Family.DEBIAN, name, {}) == remedy_for("set_clock", Family.DEBIAN, "mon", {})


@pytest.mark.parametrize("name", ["mon", "Mon.Itor-1", "_svc", "1user"])
def test_an_ordinary_user_name_arrives_as_it_is(name):
    remedy = remedy_for("join_docker", Family.DEBIAN, name, {})
    assert remedy
    assert shlex.split(remedy.commands[0]) == ["usermod", "-aG", "docker", name]


@pytest.mark.parametrize("name", ["ALL", "ADMINS", "A", "MON_1"])
def test_a_user_name_that_means_others_to_sudo_gets_no_sudoers_file(name):
    assert remedy_for("allow_smart", Family.DEBIAN, name, DISKS) is None
    assert remedy_for("join_docker", Family.DEBIAN, name, DISKS)


@pytest.mark.parametrize(
    "placeholders",
    [
        {},
        DISKS | {"tool": "/home/mon/smartctl"},
        DISKS | {"tool": "/usr/sbin/smartctl, /bin/sh"},
        DISKS | {"tool": ""},
        DISKS | {"disks": ""},
        DISKS | {"disks": "sda\tALL, /bin/sh"} | {"tool": "smartctl"},
        DISKS | {"disks": "../sda $(reboot) sda,/bin/sh"},
    ],
)
def test_a_host_cannot_choose_what_root_may_run(placeholders):
    assert remedy_for("allow_smart", Family.DEBIAN, "mon", placeholders) is None


def test_of_the_disks_only_real_names_are_taken():
    remedy = remedy_for("allow_smart", Family.DEBIAN, "mon", DISKS | {"disks": "sda /bin/sh nvme0 'sdb' sdb"})
    assert remedy
    allowed = [word for word in shlex.split(shlex.split(remedy.commands[0])[2]) if "NOPASSWD" in word]
    assert [line.strip(";") for line in allowed] == [
        f"mon ALL=(root) NOPASSWD: /usr/sbin/smartctl -n standby -j -a /dev/{disk}" for disk in ("sda", "nvme0", "sdb")
    ]


@pytest.mark.parametrize(
    "row", [row for row in REMEDIES.values() if row.where is Where.HOST], ids=lambda row: row.remedy
)
def test_commands_that_run_mean_the_same_to_every_login_shell(row):
    script = remedies._script(Remedy(key=row.remedy, where=row.where, commands=row.commands), "token")
    assert "\n" not in script
    assert "!" not in script, "csh would look into its history"


def test_for_root_no_sudo_is_shown():
    for username, text in (("root", "apk add python3"), ("mon", "sudo apk add python3")):
        remedy = remedy_for("install_python", Family.ALPINE, username, {})
        assert remedy
        assert remedy.text == text


async def test_only_remedies_of_the_host_can_run():
    for where in (Where.HAND, Where.HOME_ASSISTANT):
        with pytest.raises(ValueError, match="does not run on the host"):
            await run_remedy(None, Remedy(key="x", where=where))


# ---------------------------------------------------------------- how sudo and doas answer


class ScriptedConnection:
    """Answers commands with what a test wrote; remembers what was asked and what was piped."""

    def __init__(self, *answers: CommandResult) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bytes]] = []

    async def run(self, command: str, *, stdin: bytes = b"", **_: object) -> CommandResult:
        self.asked.append((command, stdin))
        return self.answers.pop(0)


def said(stdout: str = "", stderr: str = "", status: int | None = 0) -> CommandResult:
    return CommandResult(stdout, stderr, status)


REMEDY = Remedy(key="set_clock", where=Where.HOST, commands=("timedatectl set-ntp true",))
SUDO = said("uid=1000\nsudo\n")
TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _known_token(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "machine" not in request.fixturenames:
        monkeypatch.setattr(remedies.secrets, "token_hex", lambda _: TOKEN)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("sudo: a password is required", Outcome.NEEDS_PASSWORD),
        ("sudo-rs: interactive authentication is required", Outcome.NEEDS_PASSWORD),
        ("sudo: a terminal is required to read the password", Outcome.NEEDS_PASSWORD),
        ("Sorry, user mon is not allowed to execute 'sh' as root on nas.", Outcome.REFUSED),
        ("sudo: /etc/sudoers is world writable", Outcome.REFUSED),
        ("", Outcome.REFUSED),
    ],
)
async def test_what_sudo_says_without_a_password(words, outcome):
    result = await run_remedy(ScriptedConnection(SUDO, said(stderr=words, status=1)), REMEDY)
    assert (result.outcome, result.stderr) == (outcome, words)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        (
            "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt",
            Outcome.WRONG_PASSWORD,
        ),
        ("sudo-rs: Incorrect authentication attempt", Outcome.WRONG_PASSWORD),
        ("mon is not in the sudoers file.", Outcome.REFUSED),
    ],
)
async def test_what_sudo_says_to_a_password(words, outcome):
    wants = said(stderr="sudo: a password is required", status=1)
    connection = ScriptedConnection(SUDO, wants, said(stderr=words, status=1))
    assert (await run_remedy(connection, REMEDY, "secret")).outcome is outcome
    assert [stdin for _, stdin in connection.asked[1:]] == [b"", b"secret\n"]


@pytest.mark.parametrize("password", ["", "one\ntwo", "one\r"])
async def test_what_cannot_be_a_password_is_not_sent(password):
    connection = ScriptedConnection(SUDO, said(stderr="sudo: a password is required", status=1))
    assert (await run_remedy(connection, REMEDY, password)).outcome is Outcome.WRONG_PASSWORD
    assert len(connection.asked) == 2


async def test_a_commands_own_words_about_passwords_are_not_sudos():
    done = said(f"noise\n{TOKEN}\nout", f"{TOKEN}\npassword is required", 1)
    result = await run_remedy(ScriptedConnection(SUDO, done), REMEDY, "secret")
    assert (result.outcome, result.stdout, result.stderr) == (Outcome.FAILED, "out", "password is required")


async def test_a_password_that_a_command_prints_is_blotted_out():
    wants = said(stderr="sudo: a password is required", status=1)
    echo = said(f"{TOKEN}\nmy secret", f"{TOKEN}\nsecret!")
    result = await run_remedy(ScriptedConnection(SUDO, wants, echo), REMEDY, "secret")
    assert (result.outcome, result.stdout, result.stderr) == (Outcome.DONE, "my •••", "•••!")


@pytest.mark.parametrize(
    ("way", "prefix"),
    [
        ("uid=0\nsudo\ndoas\n", "sh -c "),
        ("motd\nuid=1000\nsudo\ndoas\n", "env LC_ALL=C sudo -n -k -- sh -c "),
        ("uid=1000\ndoas\n", "doas -n sh -c "),
    ],
)
async def test_the_way_to_root_is_the_one_that_the_host_has(way, prefix):
    connection = ScriptedConnection(said(way), said(f"{TOKEN}\n", f"{TOKEN}\n"))
    assert (await run_remedy(connection, REMEDY)).outcome is Outcome.DONE
    assert connection.asked[1][0].startswith(prefix)


async def test_doas_that_asks_is_refused_and_never_given_a_password():
    connection = ScriptedConnection(said("uid=1000\ndoas\n"), said(stderr="doas: Authorization required", status=1))
    assert (await run_remedy(connection, REMEDY, "secret")).outcome is Outcome.REFUSED
    assert all(not stdin for command, stdin in connection.asked if command != "sh")


async def test_without_a_way_to_root_nothing_runs():
    connection = ScriptedConnection(said("uid=1000\n"))
    assert (await run_remedy(connection, REMEDY)).outcome is Outcome.NO_PRIVILEGE
    assert len(connection.asked) == 1


async def test_what_needs_no_root_asks_for_none():
    remedy = remedy_for("start_podman", Family.FEDORA, "mon", {})
    connection = ScriptedConnection(said(f"{TOKEN}\n", f"{TOKEN}\n"))
    assert remedy
    assert (await run_remedy(connection, remedy)).outcome is Outcome.DONE
    assert "sudo" not in remedy.text
    assert "sudo" not in connection.asked[0][0]


# ---------------------------------------------------------------- a real sshd and a real sudo


@pytest.fixture
def machine(make_machine: Callable[[], Machine]) -> Machine:
    return make_machine()


@asynccontextmanager
async def logged_in(machine: Machine, username: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(machine.target_for(username), machine.key, machine.host_keys, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def remedy(*commands: str) -> Remedy:
    return Remedy(key="test", where=Where.HOST, commands=commands)


SHOW_STDIN = "cat; id -un; wc -c </dev/stdin"


async def test_a_password_goes_to_sudo_and_nowhere_else(machine: Machine, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncssh").setLevel(logging.DEBUG)
    machine.add_user("mon", password=CANARY, sudo="", shell="/bin/bash")
    async with logged_in(machine, "mon") as connection:
        without = await run_remedy(connection, remedy(SHOW_STDIN))
        wrong = await run_remedy(connection, remedy(SHOW_STDIN), CANARY + "x")
        with CommandLines() as seen:
            right = await run_remedy(connection, remedy(SHOW_STDIN, "sleep 0.3"), CANARY)
    assert without.outcome is Outcome.NEEDS_PASSWORD
    assert wrong.outcome is Outcome.WRONG_PASSWORD
    assert (right.outcome, right.exit_status, right.stdout, right.stderr) == (Outcome.DONE, 0, "root\n0\n", "")
    assert seen.samples > 20
    assert seen.holds("sudo\x00-S\x00-k")
    assert not seen.holds("canary")
    assert "sudo -S -k" in caplog.text, "the log was meant to be as talkative as it can be"
    assert "canary" not in caplog.text


async def test_where_sudo_needs_no_password_none_is_piped(machine: Machine):
    machine.add_user("mon", password=CANARY, sudo="NOPASSWD: ")
    async with logged_in(machine, "mon") as connection:
        asked = []
        run = connection.run

        async def watched(command: str, *, stdin: bytes = b"", **options: object) -> CommandResult:
            asked.append((command, stdin))
            return await run(command, stdin=stdin, **options)

        connection.run = watched
        result = await run_remedy(connection, remedy(SHOW_STDIN), CANARY)
    assert (result.outcome, result.stdout) == (Outcome.DONE, "root\n0\n")
    assert not [command for command, stdin in asked if b"canary" in stdin or "-S" in command]


async def test_a_password_that_sudo_no_longer_wants_does_not_reach_the_command(machine: Machine):
    machine.add_user("mon", password=CANARY, sudo="")
    async with logged_in(machine, "mon") as connection:
        run = connection.run

        async def asked_nothing_more(command: str, **options: object) -> CommandResult:
            result = await run(command, **options)
            if "sudo -n" in command:
                (machine.etc / "sudoers.d" / "mon").write_text("mon ALL=(ALL) NOPASSWD: ALL\n")
            return result

        connection.run = asked_nothing_more
        result = await run_remedy(connection, remedy(SHOW_STDIN), CANARY)
    assert (result.outcome, result.stdout) == (Outcome.DONE, "root\n0\n")


async def test_a_user_without_rights_is_refused_even_with_the_right_password(machine: Machine):
    machine.add_user("mon", password=CANARY)
    async with logged_in(machine, "mon") as connection:
        result = await run_remedy(connection, remedy(SHOW_STDIN), CANARY)
    assert result.outcome is Outcome.REFUSED
    assert "not in the sudoers file" in result.stderr


async def test_a_failing_command_is_shown_as_it_failed(machine: Machine):
    machine.add_user("mon", sudo="NOPASSWD: ")
    async with logged_in(machine, "mon") as connection:
        result = await run_remedy(connection, remedy("echo before", "echo why >&2; exit 7", "echo never"))
    assert (result.outcome, result.exit_status) == (Outcome.FAILED, 7)
    assert (result.stdout, result.stderr) == ("before\n", "why\n")


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh", "mksh", "busybox ash"])
async def test_every_login_shell_runs_remedies_and_facts(machine: Machine, shell: str):
    program = shutil.which(shell.split(maxsplit=1)[0])
    needs(program, shell)
    if shell == "busybox ash":
        (machine.folder / "bin" / "ash").symlink_to(program)
        program = "/usr/local/bin/ash"
    machine.add_user("mon", password=CANARY, sudo="", shell=program)
    noisy = machine.folder / "home" / "mon"
    for name in (".bashrc", ".zshenv", ".tcshrc"):
        (noisy / name).write_text("echo Welcome\n")
    async with logged_in(machine, "mon") as connection:
        facts = parse_facts((await connection.run("sh", stdin=FACTS_SCRIPT.encode(), timeout=30)).stdout)
        result = await run_remedy(connection, remedy(SHOW_STDIN, "printf '%s\\n' \"a 'quoted' word\""), CANARY)
    assert facts.is_complete
    assert facts.privilege.value == "sudo_password"
    assert (result.outcome, result.stdout, result.stderr) == (Outcome.DONE, "root\n0\na 'quoted' word\n", "")


async def test_the_sudoers_file_is_checked_before_it_counts(machine: Machine):
    tool = machine.folder / "sbin" / "smartctl"
    tool.write_text("#!/bin/sh\nid -un\n")
    tool.chmod(0o755)
    machine.add_user("mon", password=CANARY, sudo="")
    cure = remedy_for("allow_smart", Family.DEBIAN, "mon", DISKS | {"tool": "/usr/local/sbin/smartctl"})
    assert cure
    kept = machine.etc / "sudoers.d" / SUDOERS_FILE
    kept.write_text("mon ALL=(root) NOPASSWD: /usr/bin/id\nmon ALL=(root) NOPASSWD: /usr/local/sbin/smartctl -x\n")
    async with logged_in(machine, "mon") as connection:
        result = await run_remedy(connection, cure, CANARY)
        asked = "sudo -n -k /usr/local/sbin/smartctl -n standby -j -a /dev/"
        allowed = await connection.run(asked + "sda", timeout=10)
        others = [await connection.run(line, timeout=10) for line in (asked + "sdb", asked + "sda -x", "sudo -n sh")]
    assert result.outcome is Outcome.DONE, result.stderr
    assert allowed.stdout == "root\n"
    assert [other.exit_status for other in others] == [1, 1, 1]
    assert kept.read_text().splitlines() == [
        "mon ALL=(root) NOPASSWD: /usr/bin/id",
        "mon ALL=(root) NOPASSWD: /usr/local/sbin/smartctl -n standby -j -a /dev/sda",
        "mon ALL=(root) NOPASSWD: /usr/local/sbin/smartctl -n standby -j -a /dev/nvme0n1",
    ]
    assert (kept.stat().st_mode & 0o777, kept.stat().st_uid) == (0o440, 0)


async def test_a_sudoers_file_that_would_lock_sudo_is_not_put_in_place(machine: Machine):
    machine.add_user("mon", sudo="NOPASSWD: ")
    cure = remedy_for("allow_smart", Family.DEBIAN, "mon", DISKS)
    assert cure
    # Nobody includes a name with a dot, and visudo is the one that is asked.
    checker = machine.folder / "sbin" / "visudo"
    checker.write_text("#!/bin/sh\necho parse error >&2; exit 1\n")
    checker.chmod(0o755)
    async with logged_in(machine, "mon") as connection:
        result = await run_remedy(connection, cure)
    assert (result.outcome, result.stderr) == (Outcome.FAILED, "parse error\n")
    assert [path.name for path in (machine.etc / "sudoers.d").iterdir() if "homelab" in path.name] == []


async def test_joining_docker_counts_from_the_next_login_on(machine: Machine):
    machine.add_user("mon", sudo="NOPASSWD: ")
    machine.install_docker()
    cure = remedy_for("join_docker", Family.DEBIAN, "mon", {})
    assert cure
    async with logged_in(machine, "mon") as connection:
        assert (await connection.run("docker version", timeout=10)).exit_status == 1
        assert (await run_remedy(connection, cure)).outcome is Outcome.DONE
    async with logged_in(machine, "mon") as connection:
        assert (await connection.run("docker version", timeout=10)).stdout == "27.3.1\n"
