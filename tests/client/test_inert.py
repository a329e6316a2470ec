"""Nothing is sent to a host before the command that we asked for says that it reads.

A login shell may start another one instead of the command, be a menu, or print what it gets. To
each of them a program, a script or a password would be commands: here they are given the chance
to run them, and their homes are compared, file by file.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
import shutil

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import Privilege
from custom_components.homelab_monitor.client.checks.privilege import Ways, read_ways
from custom_components.homelab_monitor.client.checks.remedies import _run_with_password, remedy_for
from custom_components.homelab_monitor.client.checks.report import CheckStatus, Report
from custom_components.homelab_monitor.client.checks.testing import run_checks
from custom_components.homelab_monitor.client.errors import (
    CommandNotRun,
    HomelabError,
    KeyNotInstalled,
    OldForcedCommand,
    TimedOut,
)
from custom_components.homelab_monitor.client.probe import process as probe_module
from custom_components.homelab_monitor.client.probe.programs import (
    BOOTSTRAP,
    FORCED_COMMAND,
    Program,
    load_programs,
)
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport import ssh as ssh_module
from custom_components.homelab_monitor.client.transport.install import install_key
from custom_components.homelab_monitor.client.transport.keys import KeyPair, authorized_line
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd

type MakeSession = Callable[..., ProbeSession]
type MakeSshd = Callable[..., Sshd]
type Sends = Callable[[Connection], Awaitable[object]]

ROOT = Path(__file__).parents[2]
CANARY = "touch canary-password"
OLD_BOOTSTRAP = (
    'python3 -I -u -c "import sys,zlib;r=sys.stdin.buffer;'
    "exec(compile(zlib.decompress(r.read(int(r.readline()))),'probe.py','exec'))\""
)

STARTS: dict[str, tuple[str, str, str]] = {
    "bash starts fish": ("bash", ".bashrc", "exec fish"),
    "bash starts zsh": ("bash", ".bashrc", "exec zsh"),
    "bash starts sh": ("bash", ".bashrc", "echo Welcome; exec sh"),
    "bash starts bash": ("bash", ".bashrc", "[ $SHLVL -gt 1 ] || exec bash"),
    "bash starts tcsh": ("bash", ".bashrc", "exec tcsh"),
    "zsh starts fish": ("zsh", ".zshenv", "exec fish"),
    "zsh starts sh": ("zsh", ".zshenv", "exec sh"),
    "fish starts bash": ("fish", ".config/fish/config.fish", "exec bash"),
    "tcsh starts zsh": ("tcsh", ".tcshrc", "exec zsh"),
    "csh starts sh": ("csh", ".cshrc", "exec sh"),
}
"""Login shell, its start-up file, and what that does."""

MENUS = {
    "menu": 'echo "1) status  2) reboot"\nwhile read -r line; do eval "$line"; done\n',
    # What it prints goes through the escapes of its echo, which know of separators.
    "echo": 'echo "% $*"\nwhile read -r line; do echo "$line"; echo "$line" >&2; eval "$line"; done\n',
    "separator": "printf '\\036\\036homelab_monitor\\n\\036 7\\n'\nwhile read -r line; do eval \"$line\"; done\n",
    "deaf": "sleep 60; cat >typed\n",
}
"""Programs that are a login shell by themselves."""

SENDS: dict[str, Sends] = {
    "script": lambda connection: connection.run("sh", stdin=b"touch ran-script\n", timeout=30),
    "ways": read_ways,
    "key": lambda connection: install_key(connection, "nas", authorized_line(KeyPair.generate(), "new")),
    "password": lambda connection: _run_with_password(
        connection, Ways((Privilege.SUDO,)), "sh -c 'touch ran-command'", "0123456789abcdef", CANARY, 30
    ),
}
"""Everything but the probe that is written to a command."""


@pytest.fixture(scope="module")
def server(make_sshd: MakeSshd) -> Sshd:
    """Return a server whose accounts start another shell, or are a menu."""
    needs(IS_ROOT and shutil.which("unshare"), "root, for accounts with other login shells")
    shells = {_account(name): shutil.which(row[0]) for name, row in STARTS.items()}
    server = make_sshd(shells={account: path for account, path in shells.items() if path})
    for name, text in MENUS.items():
        program = server.folder / f"{name}-shell"
        program.write_text(f"#!/bin/sh\n{text}")
        program.chmod(0o755)
        server.shells[_account(name)] = str(program)
    server.stop()
    server.start()
    for name, (_, file, text) in STARTS.items():
        path = server.home(_account(name)) / file
        if _account(name) in server.shells:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
            for folder in (path, *path.parents):
                if folder.is_relative_to(server.home(_account(name))):
                    shutil.chown(folder, server.home(_account(name)).stat().st_uid)
    return server


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a hello no longer than shells need to start, and long for the end of one."""
    monkeypatch.setattr(ssh_module, "HELLO_SECONDS", 1.5)
    for module in (probe_module, ssh_module):
        monkeypatch.setattr(module, "SILENCE_SECONDS", 30.0)


def _account(name: str) -> str:
    """Return the user name of one case."""
    return "hm-" + name.replace(" ", "-")


def _home(server: Sshd, name: str) -> dict[str, tuple[int, bytes]]:
    """Return every file and folder of a home, with what it holds; what a shell keeps of its own is left out."""
    home = server.home(_account(name))
    paths = [path for path in home.rglob("*") if not _is_of_fish(path.relative_to(home))]
    return {
        str(path.relative_to(home)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in paths
    }


def _is_of_fish(path: Path) -> bool:
    """Tell whether fish makes that at every start."""
    is_folder = path.parts in ((".config",), (".config", "fish"))
    return is_folder or path.parts[0] == ".local" or path.name.startswith("fish_variables")


def _needs(server: Sshd, name: str) -> None:
    """Skip where the machine lacks one of the two shells."""
    words = STARTS.get(name, ("", "", ""))[2].split()
    found = _account(name) in server.shells and (not words or shutil.which(words[-1]))
    needs(found, f"the shells of: {name}")


@pytest.fixture
def untouched(server: Sshd, request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the home before and after."""
    name = request.node.callspec.params["name"]
    _needs(server, name)
    before = _home(server, name)
    yield
    assert _home(server, name) == before


# ---------------------------------------------------------------- login shells that run something else


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", [*STARTS, *MENUS])
async def test_a_login_shell_that_runs_something_else_gets_no_byte_of_the_program(
    server: Sshd, make_session: MakeSession, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "deaf":
        monkeypatch.setattr(probe_module, "SILENCE_SECONDS", 0.2)
    program = load_programs().linux
    # The real one is packed, so that few shells find a command of their own in it.
    payload = b"touch ran-program\n" + program.payload
    program = Program(program.name, program.source, payload, program.digest)
    session = make_session(server, _account(name), programs=replace(load_programs(), linux=program))
    await session.connect()
    session._timeout = 1.5
    with pytest.raises(TimedOut if name == "deaf" else CommandNotRun) as caught:
        await session.poll(["load"])
    assert caught.value.hard is (name != "deaf")
    assert session.connection.bytes_sent < 8000, "the program alone is ten times as long"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", [*STARTS, *MENUS])
async def test_a_login_shell_that_runs_something_else_gets_no_script_and_no_password(
    server: Sshd, make_session: MakeSession, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "deaf":
        monkeypatch.setattr(ssh_module, "SILENCE_SECONDS", 0.2)
    connection = await make_session(server, _account(name)).connect()
    before = connection.bytes_sent
    ended = await asyncio.gather(*(send(connection) for send in SENDS.values()), return_exceptions=True)
    assert [type(err) for err in ended] == [
        TimedOut if name == "deaf" else KeyNotInstalled if kind == "key" else CommandNotRun for kind in SENDS
    ]
    assert connection.bytes_sent - before < 4000  # Four channels and their commands.


@pytest.mark.parametrize("name", ["bash starts sh"])
async def test_the_check_says_that_the_login_shell_is_in_the_way(
    server: Sshd, make_session: MakeSession, name: str
) -> None:
    report = await _tested(make_session, server, _account(name))
    row = report.row("shell")
    assert (row.status, row.reason, row.remedy) == (CheckStatus.RED, "command_not_run_said", "plain_shell")
    assert row.placeholders["detail"] == "Welcome"
    assert row.placeholders["username"] == _account(name)
    assert [each.check for each in report.rows if each.status is CheckStatus.RED] == ["shell"]


async def _tested(make_session: MakeSession, server: Sshd, username: str | None = None) -> Report:
    """Return the report of a whole test, with little patience."""
    session = make_session(server, username)
    await session.connect()
    session._timeout = 1.5
    target = server.target_for(username) if username else server.target
    return (await run_checks(session, target, server.host_keys))[0]


def test_the_constant_command_is_what_the_documentation_says() -> None:
    # Audit rules and forced commands name it: it never changes.
    command = BOOTSTRAP.format(interpreter="python3")
    assert command == (
        'python3 -I -u -c "import sys,zlib;r=sys.stdin.buffer;'
        "print(chr(30)+'homelab_monitor program',flush=True);"
        "exec(compile(zlib.decompress(r.read(int(r.readline()))),'probe.py','exec'))\""
    )
    assert f"`{command}`" in (ROOT / "probes" / "README.md").read_text()
    assert f"restrict,{FORCED_COMMAND} ssh-ed25519 " in (ROOT / "docs" / "troubleshooting.md").read_text()


# ---------------------------------------------------------------- start-up files that read or repeat


@pytest.fixture
def account(make_sshd: MakeSshd) -> tuple[Sshd, Path]:
    """Return a server with one account, and its .bashrc."""
    needs(IS_ROOT and shutil.which("unshare"), "root, for accounts with other login shells")
    server = make_sshd(shells={"mon": shutil.which("bash")})
    return server, server.home("mon") / ".bashrc"


async def test_a_start_up_file_that_reads_a_line_gets_none_and_is_named(
    account: tuple[Sshd, Path], make_session: MakeSession
) -> None:
    server, start = account
    start.write_text('read -r line; echo "$line"; eval "$line"\n')
    session = make_session(server, "mon")
    await session.connect()
    session._timeout = 1.5
    with pytest.raises(TimedOut) as caught:
        await session.poll(["load"])
    assert "a start-up file of its login shell reads input" in caught.value.detail
    start.unlink()
    session._timeout = 10
    assert (await session.poll(["load"])).sections


async def test_a_start_up_file_that_starts_what_is_not_there_is_not_a_missing_python(
    account: tuple[Sshd, Path], make_session: MakeSession
) -> None:
    server, start = account
    start.write_text("exec no-such-shell\n")
    with pytest.raises(CommandNotRun, match="no-such-shell"):
        await make_session(server, "mon").poll(["load"])


async def test_a_start_up_file_may_print_the_command_and_separators(
    account: tuple[Sshd, Path], make_session: MakeSession
) -> None:
    server, start = account
    start.write_text(
        'echo "$BASH_EXECUTION_STRING"; echo -e "$BASH_EXECUTION_STRING"; printf "$BASH_EXECUTION_STRING" 2>/dev/null\n'
        "printf '\\036'; printf '\\036homelab_monitor\\n'; printf '\\036homelab_monitor 1'; printf 'no newline \\036'\n"
    )
    session = make_session(server, "mon")
    assert (await session.poll(["load"])).sections
    assert session.noise.startswith("python3 -I -u -c")
    connection = await session.connect()
    result = await connection.run("sh", stdin=b"echo told; echo wrong >&2; exit 3\n", timeout=10)
    assert (result.stdout, result.stderr, result.exit_status) == ("told\n", "wrong\n", 3)
    assert result.noise.startswith("sh -c 'printf")
    report = await _tested(make_session, server, "mon")
    assert report.row("shell").reason == "shell_noise_of"
    assert report.row("shell").placeholders["shell"] == shutil.which("bash")


async def test_a_host_that_is_slow_is_late_and_no_more(
    account: tuple[Sshd, Path], make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, start = account
    start.write_text("sleep 1\n")
    monkeypatch.setattr(probe_module, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(ssh_module, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(ssh_module, "HELLO_SECONDS", 0.3)
    session = make_session(server, "mon")
    connection = await session.connect()
    session._timeout = 0.3
    with pytest.raises(TimedOut) as caught:
        await session.poll(["load"])
    assert caught.value.detail.startswith("the probe did not start within 0.3 s: the host is very slow, or ")
    with pytest.raises(TimedOut):
        await connection.run("sh", stdin=b"touch ran\n", timeout=5)
    start.unlink()
    session._timeout = 10
    assert (await session.poll(["load"])).sections
    assert list(server.home("mon").iterdir()) == []


# ---------------------------------------------------------------- forced commands


async def test_a_forced_command_of_an_earlier_version_is_named_with_the_new_one(
    make_sshd: MakeSshd, make_session: MakeSession
) -> None:
    server = make_sshd()
    keys = server.folder / "authorized_keys"
    forced = OLD_BOOTSTRAP.replace('"', '\\"')
    keys.write_text(f'restrict,command="{forced}" {server.key.public_openssh} test\n')
    report = await _tested(make_session, server)
    row = report.row("shell")
    assert (row.status, row.reason, row.remedy) == (CheckStatus.RED, "old_forced_command", "renew_forced_command")
    assert [each.check for each in report.rows if each.status is CheckStatus.RED] == ["shell"]
    session = make_session(server)
    await session.connect()
    session._timeout = 1.5
    with pytest.raises(OldForcedCommand):
        await session.poll(["load"])
    # What the row says to put there works, and tells everything but the facts.
    remedy = remedy_for(row.remedy, report.family, server.target.username, row.placeholders)
    keys.write_text(f"restrict,{remedy.text} {server.key.public_openssh} test\n")
    report = await _tested(make_session, server)
    assert {each.check for each in report.rows if each.status is CheckStatus.RED} == set()
    assert report.row("shell").status is CheckStatus.OK
    assert report.row("docker").status is CheckStatus.UNKNOWN


async def test_a_forced_command_that_runs_the_probe_is_given_no_script(
    make_sshd: MakeSshd, make_session: MakeSession
) -> None:
    server = make_sshd()
    line = f"restrict,{FORCED_COMMAND} {server.key.public_openssh} test\n"
    (server.folder / "authorized_keys").write_text(line)
    connection = await make_session(server).connect()
    with pytest.raises(CommandNotRun):
        await connection.run("sh", stdin=b"5\nhello\n", timeout=30)


async def test_an_account_that_runs_one_fixed_program_is_quoted(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    session = make_session(make_sshd("ForceCommand echo Only git is served here."))
    with pytest.raises(CommandNotRun) as caught:
        await session.poll(["load"])
    assert caught.value.detail == "Only git is served here."
    connection = await session.connect()
    with pytest.raises(HomelabError, match="Only git is served here"):
        await connection.run("sh", stdin=b"touch ran\n", timeout=10)
