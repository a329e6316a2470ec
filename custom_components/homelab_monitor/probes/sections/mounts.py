"""The list of mounts, of which several sections need a part."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host, Json, Late, Remembered

REPLACED_FILE = re.compile(r"\d+ \d+ \S+ \S+ (/proc/\S+) ")


def replaced_files(host: "Host", memo: "Json") -> "frozenset[str]":
    """Return the files of /proc that are mounts of their own: lxcfs tells a container's numbers there (lxcfs(1)).

    All others, and /sys, are about the whole machine: a number of one kind and one of the other make none together.
    """
    found = memo.setdefault("replaced", Remembered())
    return found.get(host.boottime(), None, lambda: frozenset(mounted_files(host)))  # type: ignore[no-any-return]


MOUNT_BYTES = 1 << 15  # of each end of a line; a path has 4095 bytes, and a space in it is written with four
MOUNTS_SECONDS = 1.5


def mount_lines(host: "Host") -> "Iterator[str]":
    """Yield the lines of the list of mounts (proc_pid_mountinfo(5)); raises OSError, Late.

    Whoever nests folders in each other makes a line of what is mounted in them as long as they like.
    """
    return host.short_lines("/proc/self/mountinfo", MOUNT_BYTES, MOUNTS_SECONDS)


def mounted_files(host: "Host") -> "Iterator[str]":
    """Yield the files of /proc that something is mounted over, as far as the list of mounts can be read."""
    try:
        for line in mount_lines(host):
            found = REPLACED_FILE.match(line)
            if found:
                yield found.group(1)
    except (OSError, Late):
        return
