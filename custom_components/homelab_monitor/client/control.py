"""Control what runs on a host: its services, its containers, and its power.

Commands are fixed; the one word that is put into them is a name of the form that systemd and the
engines give, and only when the host has something of that name. There is no password here: what
needs root runs as root, through a sudo or doas that asks nothing, or because polkit lets this user
do it. Containers are controlled by whoever may use their engine's socket, as they are watched.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
import re
import shlex
from types import MappingProxyType
from typing import Final

from .command import CommandResult
from .errors import (
    ConnectionLost,
    ControlDenied,
    ControlFailed,
    EngineDenied,
    NoSuchContainer,
    NoSuchUnit,
    WouldLockOut,
    first_line,
)
from .facts import Privilege
from .models import Container
from .root import PREFIXES, Ways, read_ways
from .ssh import Connection


class RunAction(StrEnum):
    """What can be done with a service or a container."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


class PowerAction(StrEnum):
    """What can be done with a machine that runs."""

    SHUT_DOWN = "shut_down"
    RESTART = "restart"


UNIT: Final = re.compile(r"(?![-.])(?:[A-Za-z0-9:_.@-]|\\x[0-9a-f]{2}){1,240}\.service")
"""systemd.unit(5): no other characters, and a backslash only as the start of an escape."""

CONTAINER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,250}")
"""What Docker and Podman allow as a name."""
_OWNER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

RUN_SECONDS: Final[Mapping[RunAction, float]] = MappingProxyType(
    {RunAction.START: 100.0, RunAction.STOP: 100.0, RunAction.RESTART: 200.0}
)
"""systemd gives a unit 90 s to start and 90 s to stop, unless it says otherwise (systemd-system.conf(5)); engines a
container 10 s."""
_QUESTION_SECONDS: Final = 20.0
_POWER_SECONDS: Final = 30.0

_SSH_SERVERS: Final = frozenset({"ssh.service", "sshd.service", "dropbear.service"})


async def control_service(connection: Connection, host: str, unit: str, action: RunAction) -> None:
    """Start, stop or restart a service and wait until that is done; raise HomelabError when it is not."""
    require_unit(host, unit)
    if await _real_name(connection, host, unit) in _SSH_SERVERS and action is RunAction.STOP:
        raise WouldLockOut(host, unit)
    ways = await read_ways(connection)
    await run_as_root(connection, host, ways, ("systemctl", action.value, "--", unit), RUN_SECONDS[action])


async def control_container(connection: Connection, host: str, container: Container, action: RunAction) -> None:
    """Start, stop or restart a container through its engine's own program; raise HomelabError when it does not work."""
    names = (container.engine in _ENGINES, CONTAINER.fullmatch(container.name), _OWNER.fullmatch(container.owner))
    if not all(names):
        raise NoSuchContainer(host, container.name)
    program, sockets = _ENGINES[container.engine]
    owner = "" if container.owner == "root" else container.owner
    script = _CONTAINER_SCRIPT.format(program=program, action=action.value, name=container.name, owner=owner, **sockets)
    result = await connection.run("sh", stdin=script.encode(), timeout=RUN_SECONDS[action])
    if result.exit_status != 0 and _SOCKET_DENIED.search(result.stderr):
        raise EngineDenied(host, first_line(result.stderr), engine=container.engine)
    _done(host, result)


_ENGINES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = MappingProxyType(
    {
        "docker": ("docker --host", {"system": "/var/run/docker.sock", "user": "docker.sock"}),
        "podman": ("podman --url", {"system": "/run/podman/podman.sock", "user": "podman/podman.sock"}),
    }
)
_CONTAINER_SCRIPT: Final = """PATH=$PATH:/usr/local/bin:/usr/bin:/snap/bin; LC_ALL=C; export PATH LC_ALL
socket={system}; owner={owner}
if [ -n "$owner" ]; then socket=/run/user/$(id -u "$owner" 2>/dev/null || echo "$owner")/{user}; fi
exec {program} "unix://$socket" {action} -- {name} </dev/null
"""
"""POSIX sh, read from standard input. The socket is named, so that no context of a user's can lead elsewhere."""


def require_unit(host: str, unit: str) -> None:
    """Raise NoSuchUnit for a name that no service can have."""
    if not UNIT.fullmatch(unit):
        raise NoSuchUnit(host, unit)


async def control_power(connection: Connection, host: str, action: PowerAction) -> None:
    """Shut the machine down or restart it; raise HomelabError when it refuses."""
    ways = await read_ways(connection)
    argv = next((argv for tool, argv in _POWER[action] if tool in ways.has), None)
    if argv is None:
        raise ControlFailed(host, "neither systemctl, shutdown nor poweroff")
    try:
        await run_as_root(connection, host, ways, argv, _POWER_SECONDS)
    except ConnectionLost:
        return  # It is on its way down.


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
            # Where there is a poweroff there is a reboot: both are busybox.
            ("poweroff", ("reboot",)),
        ),
    }
)
"""The first tool that the host has is used: init's own, SysV's, busybox's."""


async def _real_name(connection: Connection, host: str, unit: str) -> str:
    """Return what the unit is called that a name stands for; raise NoSuchUnit."""
    question = ("systemctl", "show", "--no-pager", "-p", "Id", "-p", "LoadState", "--", unit)
    result = await connection.run(_in_english(question), timeout=_QUESTION_SECONDS)
    told = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    if result.exit_status != 0:
        raise ControlFailed(host, first_line(result.stderr))
    if told.get("LoadState", "not-found") == "not-found":
        raise NoSuchUnit(host, unit)
    return told.get("Id", unit)


async def run_as_root(
    connection: Connection, host: str, ways: Ways, argv: Sequence[str], seconds: float
) -> CommandResult:
    """Run a command with root's rights; raise ControlDenied or ControlFailed with the host's own words."""
    command, words = shlex.join(argv), ""
    if ways.privilege is not Privilege.NONE:
        result = await connection.run(PREFIXES[ways.privilege] + command, timeout=seconds)
        is_refused = result.exit_status != 0 and _REFUSED.search(result.stderr)
        if ways.privilege is Privilege.ROOT or not is_refused:
            return _done(host, result)
        words = first_line(result.stderr)
    if argv[0] == "systemctl":
        # polkit may let this user do what sudo does not.
        by_polkit = ("systemctl", "--no-ask-password", *argv[1:])
        result = await connection.run(_in_english(by_polkit), timeout=seconds)
        if result.exit_status == 0 or not _DENIED.search(result.stderr):
            return _done(host, result)
        words = words or first_line(result.stderr)
    raise ControlDenied(host, words or "there is neither sudo nor doas", command=command)


_REFUSED: Final = re.compile(
    r"^(?:sudo|sudo-rs|doas): (?!unable to resolve)|^sorry, user |not in the sudoers|may not run sudo",
    re.IGNORECASE | re.MULTILINE,
)
"""sudo's, sudo-rs' and doas's own words, but for the one warning that keeps sudo from nothing."""
_DENIED: Final = re.compile(
    r"access denied|authentication (?:is )?required|permission denied|policykit|not permitted", re.IGNORECASE
)
"""systemd's words, and those about a polkit that is not there."""
_SOCKET_DENIED: Final = re.compile(
    r"permission denied while trying to connect|connect: permission denied", re.IGNORECASE
)
"""What docker and podman say of a socket; a program in the container that may not be run is denied, too."""


def _done(host: str, result: CommandResult) -> CommandResult:
    """Return the result of a command that did what it was told, else raise ControlFailed with its words."""
    if result.exit_status != 0:
        # Before it there may be what login scripts and the shell itself complain about.
        said = _REASON.search(result.stderr)
        words = said[0] if said else result.stderr
        raise ControlFailed(host, first_line(words) or f"exit status {result.exit_status}")
    return result


_REASON: Final = re.compile(r"^(?:Failed to|Job for|Unit|Error|Call to) ?.*$", re.MULTILINE)
"""How systemctl, docker and podman begin to say why."""


def _in_english(argv: Sequence[str]) -> str:
    """Return a command line that speaks the language that we understand."""
    return "env LC_ALL=C " + shlex.join(argv)
