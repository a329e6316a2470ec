"""The way to root on a host: as root, or through a sudo or doas that asks nothing.

Used by remedies, which have a password for sudo as a last resort, and by controls, which have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .facts import Privilege
from .ssh import Connection

PREFIXES: Final[Mapping[Privilege, str]] = MappingProxyType(
    {
        Privilege.ROOT: "",
        Privilege.SUDO: "env LC_ALL=C sudo -n -k -- ",
        Privilege.DOAS: "doas -n ",
    }
)
"""What stands before a command so that it becomes root's without any question."""

_WAYS_SCRIPT: Final = b"""PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
echo "uid=$(id -u)"
for tool in sudo doas shutdown poweroff; do command -v $tool >/dev/null 2>&1 && echo $tool; done
[ -d /run/systemd/system ] && echo systemd
"""
"""POSIX sh, read from standard input: no login shell has anything to quote."""
_WAYS_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Ways:
    """How a command becomes root's on a host, and what is there to be called."""

    privilege: Privilege
    """ROOT, SUDO, DOAS or NONE; whether sudo asks for a password only shows when it is used."""
    has: frozenset[str]
    """Of `systemd` (as init), `shutdown` and `poweroff`."""


async def read_ways(connection: Connection) -> Ways:
    """Return the ways that the host has now; raise HomelabError when it cannot be asked."""
    result = await connection.run("sh", stdin=_WAYS_SCRIPT, timeout=_WAYS_SECONDS)
    words = frozenset(result.stdout.split())
    return Ways(_privilege(words), words)


def _privilege(words: frozenset[str]) -> Privilege:
    """Return the shortest way to root."""
    if "uid=0" in words:
        return Privilege.ROOT
    if "sudo" in words:
        return Privilege.SUDO
    return Privilege.DOAS if "doas" in words else Privilege.NONE
