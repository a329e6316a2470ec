"""Control what runs on a host: its services, its containers, and its power.

Commands are fixed; the only word that is filled in is a name of the form that systemd and the
engines allow, and only if the host has something of that name. There is no password here: what
needs root runs as root, through a sudo or doas that requires no password, or because polkit allows
it. Containers are controlled, as they are monitored, by users with access to their engine's socket.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
import re
import shlex
from types import MappingProxyType
from typing import Final

from ..checks.privilege import LIFE_SCRIPT, Ways, life_in, read_ways, refusal_in, time_left, try_ways
from ..checks.sudo_listing import wants_terminal
from ..errors import (
    ALARMS,
    ConnectionLost,
    ControlDenied,
    ControlFailed,
    EngineDenied,
    HomelabError,
    NoSuchContainer,
    NoSuchUnit,
    TerminalRequired,
    TimedOut,
    Unreachable,
    WouldLockOut,
    first_line,
    line_with,
    lines_of,
    only_asking,
    reason_in,
)
from ..models import Container
from ..probe.programs import INTERPRETERS
from ..time_limit import TimeLimit
from ..transport.command import CommandResult
from ..transport.ssh import Connection


class RunAction(StrEnum):
    """Actions for a service or a container."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


class PowerAction(StrEnum):
    """Actions for a running host."""

    SHUT_DOWN = "shut_down"
    RESTART = "restart"


UNIT: Final = re.compile(r"(?![-.])(?:[A-Za-z0-9:_.@-]|\\x[0-9a-f]{2}){1,247}\.service")
"""systemd.unit(5): no other characters, and a backslash only as the start of an escape."""

CONTAINER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,250}")
"""Names that Docker and Podman allow."""
_OWNER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

RUN_SECONDS: Final[Mapping[RunAction, float]] = MappingProxyType(
    {RunAction.START: 100.0, RunAction.STOP: 100.0, RunAction.RESTART: 200.0}
)
"""systemd allows a unit 90 s to start and 90 s to stop, unless the unit changes that (systemd-system.conf(5)); engines
allow a container 10 s."""
_QUESTION_SECONDS: Final = 20.0
_POWER_SECONDS: Final = 30.0

_SSH_SERVERS: Final = frozenset({"ssh.service", "sshd.service", "dropbear.service"})


async def control_service(connection: Connection, host: str, unit: str, action: RunAction) -> None:
    """Start, stop or restart a service and wait until that is done; raise HomelabError if it fails."""
    require_unit(host, unit)
    if await _real_name(connection, host, unit) in _SSH_SERVERS and action is RunAction.STOP:
        raise WouldLockOut(host, unit)
    ways = await read_ways(connection)
    place = _place(ways, host, "systemctl")
    await run_as_root(connection, host, ways, (place, action.value, "--", unit), RUN_SECONDS[action])


async def control_container(connection: Connection, host: str, container: Container, action: RunAction) -> None:
    """Start, stop or restart a container; raise HomelabError if it fails."""
    names = (container.engine in _ENGINES, CONTAINER.fullmatch(container.name), _OWNER.fullmatch(container.owner))
    if not all(names):
        raise NoSuchContainer(host, container.name)
    script = (_roots if container.owner == "root" else _users)(container, action)
    result = await connection.run("sh", stdin=script.encode(), timeout=RUN_SECONDS[action])
    if result.exit_status != 0 and _SOCKET_DENIED.search(result.stderr):
        raise EngineDenied(host, line_with(_SOCKET_DENIED, result.stderr), engine=container.engine)
    _done(host, result)


@dataclass(frozen=True, slots=True)
class _Engine:
    """How an engine is reached: root's through its own program, a user's through a socket below /run/user/UID."""

    program: str
    socket: str
    user_socket: str


_ENGINES: Final[Mapping[str, _Engine]] = MappingProxyType(
    {
        "docker": _Engine("docker --host", "/var/run/docker.sock", "docker.sock"),
        "podman": _Engine("podman --url", "/run/podman/podman.sock", "podman/podman.sock"),
    }
)


def _roots(container: Container, action: RunAction) -> str:
    """Return the script that controls a container of root's engine, with the engine's own program."""
    engine = _ENGINES[container.engine]
    # The socket is named, so that no context of a user can lead elsewhere.
    command = f"{engine.program} unix://{engine.socket} {action.value} -- {container.name}"
    return f"{_PATHS}exec {command} </dev/null\n"


def _users(container: Container, action: RunAction) -> str:
    """Return the script that controls a container of a user's engine, by its API, and connects to no other engine."""
    words = (
        container.owner,
        _ENGINES[container.engine].user_socket,
        f"/containers/{container.name}/{action.value}",
        str(int(RUN_SECONDS[action]) + 1),
    )
    return _PYTHON_SCRIPT.format(interpreters=" ".join(INTERPRETERS), argv=shlex.join((_ASK, *words)))


_PATHS: Final = "PATH=$PATH:/usr/local/bin:/usr/bin:/snap/bin; LC_ALL=C; export PATH LC_ALL\n"
"""POSIX sh, read from standard input."""
_PYTHON_SCRIPT: Final = (
    _PATHS
    + """for python in {interpreters}; do
  command -v $python >/dev/null 2>&1 && exec $python -I -c {argv} </dev/null
done
echo "Error: there is no Python" >&2; exit 1
"""
)
_ASK: Final = """\
import http.client, json, os, pwd, signal, socket, stat, struct, sys

owner, path, question, seconds = sys.argv[1:]
signal.alarm(int(seconds))
try:
    uid = pwd.getpwnam(owner).pw_uid
except KeyError:
    uid = int(owner) if owner.isdigit() else 0
if not uid:
    sys.exit("Error: there is no user " + owner)


class Door(http.client.HTTPConnection):
    def connect(self):
        folder, name = os.path.split("/run/user/%d/%s" % (uid, path))
        folder = os.open(folder, os.O_PATH | os.O_NOFOLLOW)
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
        for told, kind in ((os.fstat(folder), stat.S_IFDIR), (os.fstat(held), stat.S_IFSOCK)):
            if told.st_uid != uid or stat.S_IFMT(told.st_mode) != kind:
                sys.exit("Error: no socket of user %d, but a file of user %d" % (uid, told.st_uid))
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/proc/self/fd/%d" % held)
        peer = struct.unpack("iII", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if peer != uid:
            sys.exit("Error: the socket is of user %d" % peer)


try:
    door = Door("localhost")
    door.request("POST", question)
    answer = door.getresponse()
    body = answer.read(4096)
except PermissionError:
    sys.exit("Error: connect: permission denied")
except (OSError, http.client.HTTPException) as error:
    sys.exit("Error: %s" % error)
if answer.status not in (200, 204, 304):
    try:
        words = json.loads(body.decode())["message"]
    except (ValueError, LookupError, TypeError):
        words = answer.reason
    sys.exit("Error response from the engine: %s" % words)
"""
"""Python 3.6, without anything installed. A user can replace a path in their own folder at any moment: between a check
and the engine's program it may become a link to root's engine, where another container has that name. The peer of a
connection, which the kernel reports, cannot be forged. But connecting alone starts what systemd starts by a socket
(systemd.socket(5)): so folder and socket are opened first, checked, and connected to through /proc/self/fd.
304: the container is already in that state."""


def require_unit(host: str, unit: str) -> None:
    """Raise NoSuchUnit if no service can have this name."""
    if not UNIT.fullmatch(unit):
        raise NoSuchUnit(host, unit)


async def control_power(connection: Connection, host: str, action: PowerAction) -> None:
    """Shut the host down or restart it; raise HomelabError if it refuses."""
    ways = await read_ways(connection)
    tool, *words = next((argv for sign, argv in _POWER[action] if sign in ways.has or ways.place_of(sign)), ("",))
    if not tool:
        raise ControlFailed(host, "it has neither systemctl nor shutdown nor poweroff")
    argv = (_place(ways, host, tool), *words)
    try:
        await run_as_root(connection, host, ways, argv, _POWER_SECONDS)
    except ConnectionLost as err:
        # A host that goes down ends the connection, but so can an attacker who suppressed the command or its refusal.
        if not err.had_begun or not await _has_gone(connection, ways.life):
            raise


class _Seen(StrEnum):
    """What a new connection to a host has shown."""

    SILENT = "silent"
    RUNNING = "running"
    GONE = "gone"


async def _has_gone(connection: Connection, life: str) -> bool:
    """Return whether a host goes down or has been restarted; one that no longer answers goes down.

    It may answer for a while before it is down. A moment without an answer proves nothing, only lasting silence does.
    Raise the alarm if another machine answers.
    """
    clock = asyncio.get_running_loop().time
    begun = heard = clock()
    while True:
        await asyncio.sleep(_REST_SECONDS)
        seen = await _look(connection, life)
        if seen is _Seen.GONE:
            return True
        if seen is _Seen.RUNNING:
            heard = clock()
        if clock() >= (begun if seen is _Seen.RUNNING else heard) + _LOOKING_SECONDS:
            return seen is _Seen.SILENT


async def _look(connection: Connection, life: str) -> _Seen:
    """Check a host over a new connection; raise the alarm of another machine, for a command that may have run."""
    try:
        async with TimeLimit(_LOOK_SECONDS):
            again = await connection.again()
            try:
                words = (await again.run("sh", stdin=_LOOK_SCRIPT, timeout=_LOOK_SECONDS)).stdout.split()
            finally:
                await again.close()
    except TimeoutError, TimedOut, Unreachable, ConnectionLost:
        return _Seen.SILENT
    except ALARMS as alarm:
        alarm.had_begun = True
        raise
    except HomelabError:
        return _Seen.RUNNING  # It answers, and has not reported that it goes down.
    is_another_life = bool(life) and life_in(words) not in ("", life)
    return _Seen.GONE if is_another_life or "stopping" in words else _Seen.RUNNING


_LOOKING_SECONDS: Final = 20.0
"""How long a host may still answer, and how long silence has to last; the check that is running then is the last."""
_LOOK_SECONDS: Final = 10.0
_REST_SECONDS: Final = 2.0
_LOOK_SCRIPT: Final = f"""{LIFE_SCRIPT}[ -d /run/systemd/system ] && systemctl is-system-running
""".encode()


def _place(ways: Ways, host: str, tool: str) -> str:
    """Return the path of a program; raise ControlFailed if only PATH finds it, where others may put programs."""
    if place := ways.place_of(tool):
        return place
    raise ControlFailed(host, f"{tool} was not found in the system's folders")


_POWER: Final[Mapping[PowerAction, Sequence[tuple[str, tuple[str, ...]]]]] = MappingProxyType(
    {
        PowerAction.SHUT_DOWN: (
            ("systemd", ("systemctl", "poweroff")),
            ("shutdown", ("shutdown", "-h", "now")),
            ("poweroff", ("poweroff",)),
        ),
        PowerAction.RESTART: (
            ("systemd", ("systemctl", "reboot")),
            ("shutdown", ("shutdown", "-r", "now")),
            # A host with poweroff has reboot, too: both are busybox.
            ("poweroff", ("reboot",)),
        ),
    }
)
"""The first tool that the host has is used: that of init, SysV, busybox."""


async def _real_name(connection: Connection, host: str, unit: str) -> str:
    """Return the Id of the unit that a name or alias stands for; raise NoSuchUnit."""
    question = ("systemctl", "show", "--no-pager", "-p", "Id", "-p", "LoadState", "--", unit)
    with only_asking():
        result = await connection.run(_in_english(question), timeout=_QUESTION_SECONDS)
    properties = dict(line.split("=", 1) for line in lines_of(result.stdout) if "=" in line)
    if result.exit_status != 0:
        raise ControlFailed(host, reason_in(result.stderr) or first_line(result.stderr))
    if properties.get("LoadState", "not-found") == "not-found":
        raise NoSuchUnit(host, unit)
    return properties.get("Id", unit)


async def run_as_root(
    connection: Connection, host: str, ways: Ways, argv: Sequence[str], seconds: float
) -> CommandResult:
    """Run a command as root by the first way that works, within `seconds` in total.

    Raise ControlDenied or ControlFailed with the host's own words.
    """
    command, words = shlex.join(argv), ""
    until = asyncio.get_running_loop().time() + seconds
    for attempt in await try_ways(connection, ways, command, _is_refused, timeout=seconds):
        if not attempt.is_refused:
            return _done(host, attempt.result)
        words = words or refusal_in(attempt.result)
    if argv[0].endswith("/systemctl"):
        # polkit may allow this user what sudo does not.
        by_polkit = (argv[0], "--no-ask-password", *argv[1:])
        result = await connection.run(_in_english(by_polkit), timeout=time_left(until))
        if result.exit_status == 0 or not _DENIED.search(result.stderr):
            return _done(host, result)
        words = words or line_with(_DENIED, result.stderr)
    if wants_terminal(words):
        raise TerminalRequired(host, words, command=command)
    # A sudo rule for a command without arguments allows any, unless it ends in "".
    allowed = command if len(argv) > 1 else f'{command} ""'
    raise ControlDenied(host, words or "neither sudo nor doas is installed", command=allowed)


def _is_refused(result: CommandResult) -> bool:
    """Return whether sudo or doas did not run the command."""
    return bool(refusal_in(result))


_DENIED: Final = re.compile(
    r"access denied|authentication (?:is )?required|permission denied|policykit|not permitted", re.IGNORECASE
)
"""systemd's words, and those about a missing polkit."""
_SOCKET_DENIED: Final = re.compile(
    r"permission denied while trying to connect|connect: permission denied", re.IGNORECASE
)
"""The words of docker and podman about a socket; "denied" alone may be about a program in the container."""


def _done(host: str, result: CommandResult) -> CommandResult:
    """Return the result of a successful command, else raise ControlFailed with its words."""
    if result.exit_status != 0:
        # Complaints of login scripts and of the shell itself may come first.
        words = reason_in(result.stderr) or first_line(result.stderr)
        raise ControlFailed(host, words or f"exit status {result.exit_status}")
    return result


def _in_english(argv: Sequence[str]) -> str:
    """Return a command line that runs with LC_ALL=C, as output is parsed in English."""
    return "env LC_ALL=C " + shlex.join(argv)
