"""The probe behind every login shell, noisy start-up files included, and under every Python."""

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import sys

import asyncssh
import pytest

from custom_components.homelab_monitor.client.errors import HomelabError
from custom_components.homelab_monitor.client.probe import session as session_module
from custom_components.homelab_monitor.client.probe.programs import INTERPRETERS, load_programs
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport.keys import authorized_line
from tests.machine import Machine, make_machine  # noqa: F401
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd, is_running, wait_for

type MakeSession = Callable[..., ProbeSession]
type MakeSshd = Callable[..., Sshd]

SHELLS = ("sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh", "mksh", "ash")
START_FILES = {
    "bash": ".bashrc",  # Read for every command of sshd, unlike what its manual says of other non-interactive ones.
    "zsh": ".zshenv",
    "fish": ".config/fish/config.fish",
    "tcsh": ".tcshrc",
    "csh": ".cshrc",
}
NOISE = """\
echo "Welcome to $HOME"
echo "all of this is noise {...}"
echo "and some on stderr" 1>&2
"""
LATER_NOISE = "sh -c 'sleep 0.4; echo noise between replies' &\n"
PYTHONS = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin/python3"))


@pytest.fixture(scope="module")
def server(make_sshd: MakeSshd) -> Sshd:
    """Return a server with an account per shell that the machine has."""
    needs(IS_ROOT and shutil.which("unshare"), "root, for accounts with other login shells")
    found = {name: shutil.which("busybox" if name == "ash" else name) for name in SHELLS}
    server = make_sshd(shells={f"hm-{name}": path for name, path in found.items() if path and name != "ash"})
    if busybox := found["ash"]:
        # sshd takes a path without arguments: busybox looks at the name that it is called by.
        link = server.folder / "ash"
        link.symlink_to(busybox)
        server.stop()
        server.shells["hm-ash"] = str(link)
        server.start()
    for name, file in START_FILES.items():
        path = server.home(f"hm-{name}") / file
        if f"hm-{name}" in server.shells:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The C shells have another word for redirecting standard error.
            noise = NOISE.replace(" 1>&2", " > /dev/stderr") if name.endswith("csh") else NOISE
            path.write_text(noise + LATER_NOISE)
    return server


@pytest.mark.parametrize("shell", SHELLS)
async def test_the_probe_runs_behind_every_login_shell(server: Sshd, make_session: MakeSession, shell: str) -> None:
    needs(f"hm-{shell}" in server.shells, f"the shell {shell}")
    session = make_session(server, f"hm-{shell}")
    assert (await session.poll(["load"])).sections
    pid = session._probe._marker.pid
    reply = await session.poll(["slow", "load"])  # Answers after a second: the noise in between comes first.
    assert reply.sections
    expected = f"Welcome to {server.home(f'hm-{shell}')}" if shell in START_FILES else None
    assert session.noise == expected
    await session.close()
    await wait_for(lambda: not is_running(pid))


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_missing_interpreter_is_understood_behind_every_login_shell(
    server: Sshd, make_session: MakeSession, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(f"hm-{shell}" in server.shells, f"the shell {shell}")
    monkeypatch.setattr(session_module, "INTERPRETERS", ("no-such-python3", "/no/such/python3", *INTERPRETERS))
    session = make_session(server, f"hm-{shell}")
    assert (await session.poll(["load"])).sections
    assert session.python[1] == "python3"


async def test_the_line_to_paste_lets_us_in_and_forbids_the_rest(
    make_sshd: MakeSshd, make_session: MakeSession
) -> None:
    server = make_sshd()
    (server.folder / "authorized_keys").write_text(authorized_line(server.key, 'Home\'s "HA"') + "\n")
    session = make_session(server)
    assert (await session.poll(["load"])).sections
    connection = await session.connect()
    with pytest.raises(asyncssh.ChannelOpenError):
        await connection._conn.open_connection("127.0.0.1", server.port)
    (server.folder / "authorized_keys").write_text(server.key.public_openssh + "\n")
    await session.disconnect()
    connection = await session.connect()
    _, forwarded = await connection._conn.open_connection("127.0.0.1", server.port)  # Without `restrict` it is allowed.
    forwarded.close()


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
async def test_the_real_probe_runs_over_ssh_under_every_python(
    sshd: Sshd, make_session: MakeSession, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "INTERPRETERS", (str(python),))
    session = make_session(sshd, programs=load_programs())
    session._interpreter = str(python)
    reply = await session.poll(["cpu", "memory", "load", "uptime", "network", "system"])
    assert set(reply.sections) == {"cpu", "memory", "load", "uptime", "network", "system"}
    assert session.python == (python.parts[-3], str(python))


def test_there_is_a_python_3_6_to_try() -> None:
    needs(any(path.parts[-3].startswith("3.6.") for path in PYTHONS), "Python 3.6 (pyenv)")
    assert sys.version_info >= (3, 14)


# ---------------------------------------------------------------- what a login shell says of something else

ELSE = {
    # What fails is the shell's own business: a wrapper, a start-up file, an account that is closed.
    "wrapper": ("exec /usr/lib/no-such-shell-anywhere", "command_not_run", "not found"),
    "not executable": ("exec /etc/passwd", "command_not_run", "Permission denied"),
    "start-up file": ('echo "/etc/profile.d/site.sh: cannot open /srv/site: Permission denied" >&2; exit 1',
                      "session_refused", "Permission denied"),
    "module": ('echo "module: python3.9-tools: not found" >&2; exit 1', "probe_failed", "not found"),
    "folder": ('echo "/srv/python3/env: No such file or directory" >&2; exit 127', "command_not_run", "No such file"),
    "closed": ("echo This account is currently not available.; exit 1", "session_refused", "not available"),
    "maintenance": ("echo Closed for maintenance. >&2; exit 254", "session_refused", "Closed for maintenance."),
    "silent": ("exit 127", "command_not_run", ""),
    "killed": ("kill -9 $$", "probe_failed", ""),
    # These are of the interpreter, whatever else was said before and after.
    "missing": ("echo /etc/x: Permission denied >&2; python3-not-here; exec python3x-missing; ", "command_not_run", ""),
    "interpreter": ('echo "/etc/x: Permission denied" >&2; echo "bash: python3: command not found" >&2; exit 127',
                    "no_python", "python3: command not found"),
    "in another language": ('echo "bash: python3: Kommando nicht gefunden." >&2; exit 127', "no_python", "python3"),
    "of csh": ('echo "python3: Command not found."; exit 1', "no_python", "python3"),
    "with its path": ('echo "sh: /usr/bin/python3: Permission denied" >&2; exit 126', "no_python", "/usr/bin/python3"),
}  # fmt: skip
"""What a login shell does → the key of the error, and what is quoted."""


@pytest.mark.parametrize("case", ELSE)
async def test_what_a_login_shell_misses_for_itself_is_not_python(
    make_sshd: MakeSshd, make_session: MakeSession, case: str
) -> None:
    needs(IS_ROOT, "root, for an account with a login shell of its own")
    does, key, words = ELSE[case]
    server = make_sshd(shells={"odd": "/usr/bin/env"})
    shell = server.folder / "shell"
    shell.write_text(f"#!/bin/sh\n{does}\n")
    shell.chmod(0o755)
    server.stop()
    server.shells["odd"] = str(shell)
    server.start()
    with pytest.raises(HomelabError) as caught:
        await make_session(server, "odd").poll(["load"])
    assert (caught.value.key, caught.value.hard) == (key, key in {"command_not_run", "no_python"})
    assert words in caught.value.detail


async def test_a_machine_that_lets_nobody_in_without_pam_is_quoted(
    make_machine: Callable[..., Machine],  # noqa: F811
    make_session: MakeSession,
) -> None:
    machine = make_machine()
    machine.add_user("mon")
    (machine.etc / "nologin").write_text("Closed for maintenance.\n")
    with pytest.raises(HomelabError) as caught:
        await make_session(machine, "mon").poll(["load"])
    assert (caught.value.key, caught.value.hard) == ("session_refused", False)
    assert "Closed for maintenance." in caught.value.detail
