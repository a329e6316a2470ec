"""Remedies: the catalog, what may enter a command line, and running one through a real sudo."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
import logging
from pathlib import Path
import re
import shlex
import shutil
import subprocess

import pytest
from syrupy.assertion import SnapshotAssertion

from custom_components.homelab_monitor.client.checks import remedies
from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, Family, parse_facts
from custom_components.homelab_monitor.client.checks.remedies import (
    REMEDIES,
    Outcome,
    Remedy,
    Where,
    remedy_for,
    run_remedy,
)
from custom_components.homelab_monitor.client.checks.rule_remedies import SMART_RULE_FILE
from custom_components.homelab_monitor.client.checks.update_script import update_script
from custom_components.homelab_monitor.client.transport.command import CommandResult, Question
from custom_components.homelab_monitor.client.transport.ssh import Connection, RemoteCommand
from custom_components.homelab_monitor.markdown import copyable
from tests.machine import CommandLines, Machine
from tests.needs import needs

CANARY = "canary-Pa55 'word\"$(x)"
DISKS = {"disks": "sda nvme0n1", "tool": "/usr/sbin/smartctl"}
WORDS = DISKS | {"manager": "apt"}
ALIKE = ("allow_smart", "allow_firewall", "quiet_shell", "install_updates_rule", "remove_updates_rule")
LIKE_DEBIAN = tuple((key, family) for key, family in sorted(REMEDIES) if key in ALIKE and family is not Family.DEBIAN)
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
    found = {row: remedy_for(*row, "mon", WORDS) for row in sorted(REMEDIES)}
    assert all(found.values())
    shown = {
        f"{key}, {family.value}: {remedy.where.value}": remedy.text.splitlines()
        for (key, family), remedy in found.items()
        if remedy.where is not Where.HOME_ASSISTANT and (key, family) not in LIKE_DEBIAN
    }
    assert shown == snapshot


LONG = [row for row in sorted(REMEDIES) if len(remedy_for(*row, "mon", WORDS).text.splitlines()) > 10]


@pytest.mark.parametrize("username", ["mon", "root"])
@pytest.mark.parametrize(("key", "family"), LONG)
def test_what_a_long_command_comes_to_is_short_and_is_in_the_command(key: str, family: Family, username: str) -> None:
    found = remedy_for(key, family, username, WORDS)
    assert found.changes
    assert sum(len(change.text.splitlines()) + 1 for change in found.changes) < 20
    for change in found.changes:
        assert change.path in found.text
        assert set(change.text.splitlines()) <= set(found.text.splitlines()), change.kind


def test_of_a_short_command_nothing_is_summed_up() -> None:
    rows = [remedy_for(*row, "mon", WORDS) for row in sorted(REMEDIES) if row not in LONG]
    assert not [each.key for each in rows if each.changes]


@pytest.mark.parametrize(("key", "family"), LIKE_DEBIAN)
def test_what_is_alike_everywhere(key, family):
    assert remedy_for(key, family, "mon", WORDS) == remedy_for(key, Family.DEBIAN, "mon", WORDS)


def test_only_the_sudoers_remedy_lets_a_section_use_sudo():
    sections = {key: remedy_for(key, family, "mon", WORDS).sudo_section for key, family in REMEDIES}
    assert {key: section for key, section in sections.items() if section} == {
        "allow_smart": "storage_health",
        "allow_firewall": "security",
    }


@pytest.mark.parametrize("family", [each for each in Family if each not in (Family.MACOS, Family.WINDOWS)])
@pytest.mark.parametrize("key", ["install_python", "set_clock", "join_docker", "start_docker", "start_sshd"])
def test_every_linux_family_has_every_remedy_that_is_a_command_there(key, family):
    has_none = family is Family.OTHER and key in {"install_python", "start_docker"}
    assert (remedy_for(key, family, "mon", {}) is None) is has_none


def test_what_is_done_by_hand_has_a_command_to_show():
    assert [row for row in remedies.REMEDIES.values() if row.where is Where.HAND and not row.commands] == []


def test_what_the_catalog_does_not_hold_has_no_remedy():
    assert remedy_for("install_python", Family.WINDOWS, "mon", {}) is None
    assert remedy_for("rm -rf /", Family.DEBIAN, "mon", {}) is None


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("key", ["join_docker", "allow_smart", "allow_firewall", "install_updates_rule"])
def test_a_user_name_that_is_more_than_a_name_never_reaches_a_command(key, name):
    assert remedy_for(key, Family.DEBIAN, name, WORDS) is None


@pytest.mark.parametrize(("as_root", "said"), [(True, "uid="), (False, "theirs")])
def test_as_root_no_program_runs_that_others_may_have_put_on_the_way(tmp_path: Path, as_root: bool, said: str) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho theirs\n")
    (tmp_path / "id").chmod(0o755)
    script = remedies._script(Remedy(key="set_clock", where=Where.HOST, commands=("id",), as_root=as_root), "token")
    # As sudo finds programs where its secure_path begins below /usr/local, which a group may write.
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", script], env=path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith(said)


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
    assert remedy_for("allow_smart", Family.DEBIAN, name, WORDS) is None
    assert remedy_for("install_updates_rule", Family.DEBIAN, name, WORDS) is None
    assert remedy_for("allow_firewall", Family.DEBIAN, name, WORDS) is None
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
    assert [line for line in remedy.commands[0].splitlines() if "NOPASSWD" in line] == [
        f"mon ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/smartctl -n standby -j -a /dev/{disk}"
        for disk in ("sda", "nvme0", "sdb")
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
        self.questions: list[Question | None] = []

    async def run(
        self, command: str, *, stdin: bytes = b"", question: Question | None = None, **_: object
    ) -> CommandResult:
        self.asked.append((command, question.answer if question else stdin))
        self.questions.append(question)
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
        ("sudo: no tty present and no askpass program specified", Outcome.NEEDS_PASSWORD),
        ("sudo-rs: A terminal is required to authenticate", Outcome.NEEDS_PASSWORD),
        ("sudo-rs: Interaction is required", Outcome.NEEDS_PASSWORD),
        ("sudo: authentication failed: interaction required", Outcome.NEEDS_PASSWORD),
        ("sudo-rs: Authentication required but not attempted", Outcome.NEEDS_PASSWORD),
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
        ("sudo: 3 incorrect password attempts", Outcome.WRONG_PASSWORD),
        ("sudo-rs: Incorrect authentication attempt", Outcome.WRONG_PASSWORD),
        ("sudo-rs: Authentication failed, try again.", Outcome.WRONG_PASSWORD),
        ("sudo-rs: Maximum 1 incorrect authentication attempts", Outcome.WRONG_PASSWORD),
        ("sudo: maximum 3 incorrect authentication attempts", Outcome.WRONG_PASSWORD),
        ("sudo-rs: PAM error: Permission denied", Outcome.WRONG_PASSWORD),
        ("sudo: PAM error: Authentication failure", Outcome.WRONG_PASSWORD),
        ("sudo: PAM error: Have exhausted maximum number of retries for service", Outcome.WRONG_PASSWORD),
        ("sudo: PAM error: Module is unknown", Outcome.REFUSED),
        ("sudo-rs: Account validation failure, is your account locked?", Outcome.REFUSED),
        ("sudo: PAM account management error: Permission denied", Outcome.REFUSED),
        ("sudo-rs: I'm sorry mon. I'm afraid I can't do that", Outcome.REFUSED),
        ("mon is not in the sudoers file.", Outcome.REFUSED),
    ],
)
async def test_what_sudo_says_to_a_password(words, outcome):
    wants = said(stderr="sudo: a password is required", status=1)
    connection = ScriptedConnection(SUDO, wants, replace(said(stderr=words, status=1), asked=1))
    assert (await run_remedy(connection, REMEDY, "secret")).outcome is outcome
    assert [stdin for _, stdin in connection.asked[1:]] == [b"", b"secret\n"]


@pytest.mark.parametrize(
    ("asked", "is_silent", "outcome"),
    [
        (2, False, Outcome.WRONG_PASSWORD),
        (1, True, Outcome.OTHER_QUESTION),
        (0, True, Outcome.OTHER_QUESTION),
        (0, False, Outcome.REFUSED),
    ],
)
async def test_how_often_sudo_asks_says_what_it_wants(asked, is_silent, outcome):
    wants = said(stderr="sudo: a password is required", status=1)
    ended = replace(said(stderr="insult", status=None), asked=asked, is_silent=is_silent)
    result = await run_remedy(ScriptedConnection(SUDO, wants, ended), REMEDY, "secret")
    assert (result.outcome, result.stderr) == (outcome, "insult")


@pytest.mark.parametrize("prompt", ["{}:", "[sudo: {}:] Password: "], ids=["sudo", "sudo-rs"])
async def test_the_prompt_by_which_sudo_asks_is_a_random_one_and_not_shown(prompt):
    wants = said(stderr="sudo: a password is required", status=1)
    words = f"{prompt.format(TOKEN)}Sorry, try again.\n{prompt.format(TOKEN)}\nsudo: no password was provided\n"
    connection = ScriptedConnection(SUDO, wants, replace(said(stderr=words, status=None), asked=2))
    result = await run_remedy(connection, REMEDY, "secret")
    assert (result.outcome, result.stderr) == (
        Outcome.WRONG_PASSWORD,
        "Sorry, try again.\n\nsudo: no password was provided\n",
    )
    assert f"SUDO_PROMPT={TOKEN}: sudo -S -k -- " in connection.asked[-1][0]
    begun = f"{TOKEN}\n".encode()
    assert connection.questions == [None, None, Question(f"{TOKEN}:".encode(), b"secret\n", begun)]


SUDO_RS = said("uid=1000\nsudo\nsudo-rs\n")


async def test_sudo_rs_is_ended_when_it_asks_and_asked_once_more_with_the_password():
    asks = replace(said(stderr="[sudo: authenticate] Password: ", status=None), asked=1)
    connection = ScriptedConnection(SUDO_RS, asks)
    result = await run_remedy(connection, REMEDY)
    assert (result.outcome, result.stderr) == (
        Outcome.NEEDS_PASSWORD,
        "sudo: interactive authentication is required\n",
    )
    connection = ScriptedConnection(SUDO_RS, asks, said(f"{TOKEN}\n", f"[sudo: {TOKEN}:] Password: \n{TOKEN}\n"))
    assert (await run_remedy(connection, REMEDY, "secret")).outcome is Outcome.DONE
    assert [command.partition("/bin")[0] for command, _ in connection.asked[1:]] == [
        "env LC_ALL=C sudo -S -k -- ",
        f"env LC_ALL=C SUDO_PROMPT={TOKEN}: sudo -S -k -- ",
    ]
    # It puts our prompt before every question: a code for a second factor is none of ours.
    cues = [question.cue for question in connection.questions if question]
    assert cues == [b"[sudo: ", f"[sudo: {TOKEN}:] Password:".encode()]


@pytest.mark.parametrize(
    ("by_sudo", "by_doas", "outcome", "words"),
    [
        ("sudo: a password is required", "", Outcome.DONE, ""),
        ("sudo: a password is required", "doas: Authentication required", Outcome.NEEDS_PASSWORD, "password is"),
        ("mon may not run sudo on nas.", "doas: Operation not permitted", Outcome.REFUSED, "may not run sudo"),
        ("mon may not run sudo on nas.", "", Outcome.DONE, ""),
    ],
)
async def test_what_sudo_does_not_let_be_run_doas_may(by_sudo, by_doas, outcome, words):
    done = said(stderr=by_doas, status=1) if by_doas else said(f"{TOKEN}\n", f"{TOKEN}\n")
    connection = ScriptedConnection(said("uid=1000\nsudo\ndoas\n"), said(stderr=by_sudo, status=1), done)
    result = await run_remedy(connection, REMEDY)
    assert result.outcome is outcome
    assert words in result.stderr
    assert not connection.answers


async def test_what_has_begun_is_not_begun_again():
    failed = said(f"{TOKEN}\n", f"{TOKEN}\nsudo: a password is required", 1)
    connection = ScriptedConnection(said("uid=1000\nsudo\ndoas\n"), failed)
    assert (await run_remedy(connection, REMEDY, "secret")).outcome is Outcome.FAILED


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
        ("uid=0\nsudo\ndoas\n", "/bin/sh -c "),
        ("motd\nuid=1000\nsudo\ndoas\n", "env LC_ALL=C sudo -n -k -- /bin/sh -c "),
        ("uid=1000\ndoas\n", "doas -n /bin/sh -c "),
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
    assert not re.search(r"[0-9a-f]{32}", wrong.stderr)
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

        async def watched(command: str, *, question: Question | None = None, **options: object) -> CommandResult:
            asked.append((command, question))
            return await run(command, question=question, **options)

        connection.run = watched
        result = await run_remedy(connection, remedy(SHOW_STDIN), CANARY)
    assert (result.outcome, result.stdout) == (Outcome.DONE, "root\n0\n")
    assert not [command for command, question in asked if question or "-S" in command]


async def test_a_password_that_sudo_no_longer_wants_is_not_sent(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.add_user("mon", password=CANARY, sudo="")
    async with logged_in(machine, "mon") as connection:
        written: list[bytes] = []
        write = RemoteCommand.write
        monkeypatch.setattr(RemoteCommand, "write", lambda self, data: written.append(data) or write(self, data))
        run = connection.run

        async def asked_nothing_more(command: str, **options: object) -> CommandResult:
            result = await run(command, **options)
            if "sudo -n" in command:
                (machine.etc / "sudoers.d" / "mon").write_text("mon ALL=(ALL) NOPASSWD: ALL\n")
            return result

        connection.run = asked_nothing_more
        result = await run_remedy(connection, remedy(SHOW_STDIN), CANARY)
    assert (result.outcome, result.stdout) == (Outcome.DONE, "root\n0\n")
    assert not [data for data in written if b"canary" in data]


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


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh", "mksh", "busybox ash"])
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
    kept = machine.folder / SMART_RULE_FILE[1:]
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
        "mon ALL=(root) NOPASSWD: /usr/local/sbin/smartctl -x",
        "mon ALL=(root) NOPASSWD: NOSETENV: /usr/local/sbin/smartctl -n standby -j -a /dev/sda",
        "mon ALL=(root) NOPASSWD: NOSETENV: /usr/local/sbin/smartctl -n standby -j -a /dev/nvme0n1",
        "Defaults!/usr/local/sbin/smartctl env_reset, !env_keep, !env_check",
    ]
    assert (kept.stat().st_mode & 0o777, kept.stat().st_uid) == (0o440, 0)


async def test_a_sudoers_file_that_would_lock_sudo_is_not_put_in_place(machine: Machine):
    machine.add_user("mon", sudo="NOPASSWD: ")
    tool = machine.folder / "sbin" / "smartctl"
    tool.touch(mode=0o755)
    cure = remedy_for("allow_smart", Family.DEBIAN, "mon", DISKS | {"tool": "/usr/local/sbin/smartctl"})
    assert cure
    mine = machine.folder / SMART_RULE_FILE[1:]
    mine.write_text("somebody wrote this")
    async with logged_in(machine, "mon") as connection:
        result = await run_remedy(connection, cure)
    assert result.outcome is Outcome.FAILED
    assert "syntax error" in result.stderr
    assert mine.read_text() == "somebody wrote this"
    assert [path.name for path in (machine.etc / "sudoers.d").iterdir() if "homelab" in path.name] == [mine.name]


async def test_who_can_change_smartctl_gets_no_rule_for_it(machine: Machine):
    machine.add_user("mon", sudo="NOPASSWD: ")
    tool = machine.folder / "sbin" / "smartctl"
    tool.touch(mode=0o755)
    cure = remedy_for("allow_smart", Family.DEBIAN, "mon", DISKS | {"tool": "/usr/local/sbin/smartctl"})
    assert cure
    for change in (lambda: tool.chmod(0o775), lambda: tool.chmod(0o755) or tool.parent.chmod(0o777)):
        change()
        async with logged_in(machine, "mon") as connection:
            result = await run_remedy(connection, cure)
        assert result.outcome is Outcome.FAILED
        assert "users other than root can change /usr/local/sbin" in result.stderr
        assert not (machine.folder / SMART_RULE_FILE[1:]).exists()


@pytest.mark.parametrize("manager", ["", "opkg", "apt; reboot", "$(reboot)", "apt\n", "../apt", "@COMMAND@"])
def test_a_host_cannot_choose_what_installs_its_updates(manager: str):
    assert remedy_for("install_updates_rule", Family.DEBIAN, "mon", {"manager": manager}) is None
    removal = remedy_for("remove_updates_rule", Family.DEBIAN, "mon", {"manager": manager})
    assert removal == remedy_for("remove_updates_rule", Family.DEBIAN, "mon", {})


@pytest.mark.parametrize("key", ["install_updates_rule", "remove_updates_rule"])
def test_a_script_of_many_lines_is_shown_as_it_is_run(key: str):
    found = remedy_for(key, Family.DEBIAN, "mon", WORDS)
    assert found
    (command,) = found.commands
    assert found.text == f"sudo {command}"
    assert command.count("'") == 2, "a quote within would end those around it"
    assert "\\\\" not in command, "fish reads two backslashes as one"
    shown = copyable(found.text)
    assert shown == f"```\n{found.text}\n```"
    assert shlex.split(command)[:2] == ["sh", "-c"]
    sent = remedies._script(found, "token")
    assert "\n" not in sent
    assert "!" not in sent
    assert sent.count("'") == 2


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh", "mksh", "busybox ash"])
async def test_every_login_shell_runs_a_script_of_many_lines(machine: Machine, shell: str):
    program = shutil.which(shell.split(maxsplit=1)[0])
    needs(program, shell)
    if shell == "busybox ash":
        (machine.folder / "bin" / "ash").symlink_to(program)
        program = "/usr/local/bin/ash"
    machine.add_user("mon", password=CANARY, sudo="", shell=program)
    cure = remedy_for("install_updates_rule", Family.DEBIAN, "mon", WORDS)
    assert cure
    with CommandLines() as seen:
        async with logged_in(machine, "mon") as connection:
            result = await run_remedy(connection, cure, CANARY)
    assert result.outcome is Outcome.DONE, result.stderr
    assert (machine.folder / "sbin" / "homelab_monitor-update").read_text() == update_script("apt")
    assert seen.holds("sudo\x00-S\x00-k")
    assert not seen.holds("canary")


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
