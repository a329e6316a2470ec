"""The mountpoints, and patterns of them, that a request adds to the section filesystems."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .mounts import Mount, is_strangers


class Watched:
    """The watched mountpoints, by full names or shell patterns; a slash at the end is ignored."""

    def __init__(self, watched: "list[str]") -> None:
        self.names = frozenset(name.rstrip("/") or "/" for name in watched if name)
        patterns = {name: compiled(name) for name in sorted(self.names)}
        self.patterns = [pattern for pattern in patterns.values() if pattern]
        self.in_full = [name for name, pattern in patterns.items() if not pattern]

    def is_named(self, mount: "Mount") -> bool:
        """Return whether a mountpoint is watched by its full name."""
        return mount.mountpoint in self.names

    def fits(self, mount: "Mount", uid: int) -> bool:
        """Return whether a mount is watched; mounts of other users only by their full name."""
        if self.is_named(mount):
            return True
        if not self.patterns or is_strangers(mount, uid):
            return False
        return any(pattern.match(mount.mountpoint) for pattern in self.patterns)


def compiled(name: str) -> "Any":
    """Return the compiled expression of a shell pattern, None for plain names."""
    if not re.search(r"[*?[]", name):
        return None
    import fnmatch  # noqa: PLC0415

    try:
        return re.compile(fnmatch.translate(name))
    except re.error:  # a range from z to a, before Python 3.12
        return None
