"""autofs in the section filesystems: it mounts on access, and unmounts after a time without any (autofs(5)).

Each access to such a mount keeps it mounted for another `timeout=`: polls would keep it mounted for ever.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

    from .mounts import Mount

AUTOFS_SECONDS = 600.0  # autofs' default, for lines without a timeout


def idle_seconds(mount: "Mount") -> float:
    """Return after how many seconds without access an autofs unmounts its mounts, 0 if never.

    30 25 0:27 / /mnt/nas rw,relatime - autofs systemd-1 rw,fd=51,pgrp=1,timeout=300,minproto=5,maxproto=5,direct
    """
    timeout = next((option for option in mount.options if re.match(r"timeout=\d{1,9}$", option)), None)
    return float(timeout[len("timeout=") :]) if timeout else AUTOFS_SECONDS


def automounted(mounts: "Iterable[Mount]") -> "dict[str, float]":
    """Return the ids of autofs' mounts and of mounts below them, and for how many seconds an access keeps them mounted."""
    by_id = {mount.id: mount for mount in mounts}
    spans = {}  # type: dict[str, float | None]
    for mount in by_id.values():
        start, way = mount, []  # type: Mount | None, list[Mount]
        while start and start.id not in spans:  # up to a mount whose result is known
            way.append(start)
            spans[start.id] = None
            start = by_id.get(start.parent)
        for each in reversed(way):
            above = by_id.get(each.parent)
            spans[each.id] = None if above is None or above is each else longest(spans[above.id], above)
    return {ident: span for ident, span in spans.items() if span is not None}


def longest(span: "float | None", above: "Mount") -> "float | None":
    """Return for how many seconds an access keeps mounted what is on the mount `above`, which the access passes through."""
    return max(span or 0.0, idle_seconds(above)) if above.kind == "autofs" else span


class Kept:
    """The result of reading an automounted filesystem, and when it was read (seconds since boot)."""

    def __init__(self, mount: "Mount", answer: "Any", at: float) -> None:
        self.mount = mount
        self.answer = answer
        self.at = at


class Automounts:
    """The watched filesystems that autofs mounted, by mountpoint: each is read once, and again only after two timeouts.

    By then it would have been unmounted without the probe. Its last result is reported until then, and while it is
    unmounted, as long as its autofs exists.
    """

    def __init__(self) -> None:
        self.kept = {}  # type: dict[str, Kept]
        self.spans = {}  # type: dict[str, float]
        self.places = ()  # type: tuple[str, ...]
        self.now = 0.0

    def look(self, mounts: "list[Mount]", now: float) -> None:
        """Begin a round: `mounts` are all mounts, `now` is in seconds since boot."""
        self.places = tuple(mount.mountpoint.rstrip("/") + "/" for mount in mounts if mount.kind == "autofs")
        self.spans, self.now = automounted(mounts) if self.places else {}, now
        self.kept = {place: one for place, one in self.kept.items() if self.would_mount(place)}

    def would_mount(self, place: str) -> bool:
        """Return whether an access to a path would mount something there."""
        return (place.rstrip("/") + "/").startswith(self.places)

    def is_made(self, mount: "Mount") -> bool:
        """Return whether autofs made a mount."""
        return mount.id in self.spans

    def rests(self, mount: "Mount") -> bool:
        """Return whether a mount must not be accessed now."""
        kept = self.kept.get(mount.mountpoint)
        if not self.is_made(mount) or kept is None or kept.mount.id != mount.id:
            return False
        return self.now - kept.at < 2 * self.spans[mount.id]

    def note(self, mount: "Mount", answer: "Any") -> None:
        """Store the result of reading a mount, which may be an OSError."""
        if self.is_made(mount):
            self.kept[mount.mountpoint] = Kept(mount, answer, self.now)

    def answer(self, mount: "Mount") -> "Any":
        """Return the last result of a mount."""
        return self.kept[mount.mountpoint].answer

    def age(self, mount: "Mount") -> float:
        """Return the age of the last result in seconds."""
        return self.now - self.kept[mount.mountpoint].at

    def unmounted(self, known: "set[str]") -> "list[Mount]":
        """Return the mounts with a stored result whose mountpoint is not in `known`."""
        return [one.mount for place, one in sorted(self.kept.items()) if place not in known]
