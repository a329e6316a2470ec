"""What the section filesystems is asked for besides the automatic ones: mountpoints, and patterns of them."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .mounts import Mount, is_strangers


class Watched:
    """The mountpoints that somebody wants to see, by their full names or by shell patterns; a slash at the end is none."""

    def __init__(self, told: "list[str]") -> None:
        self.names = frozenset(name.rstrip("/") or "/" for name in told if name)
        patterns = {name: compiled(name) for name in sorted(self.names)}
        self.patterns = [pattern for pattern in patterns.values() if pattern]
        self.in_full = [name for name, pattern in patterns.items() if not pattern]

    def names_it(self, mount: "Mount") -> bool:
        """Return whether somebody wrote a mountpoint in full."""
        return mount.mountpoint in self.names

    def fits(self, mount: "Mount", uid: int) -> bool:
        """Return whether somebody wants to see a mount; what another user mounted has to be named in full."""
        if self.names_it(mount):
            return True
        if not self.patterns or is_strangers(mount, uid):
            return False
        return any(pattern.match(mount.mountpoint) for pattern in self.patterns)


def compiled(name: str) -> "Any":
    """Return the expression of a shell pattern, None for what is none."""
    if not re.search(r"[*?[]", name):
        return None
    import fnmatch  # noqa: PLC0415

    try:
        return re.compile(fnmatch.translate(name))
    except re.error:  # a range from z to a, before Python 3.12
        return None
