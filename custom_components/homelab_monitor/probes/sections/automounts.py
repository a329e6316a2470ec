"""What the section filesystems needs for autofs: it mounts when somebody looks, and unmounts when nobody does (autofs(5)).

Each look at what it mounted keeps that mounted for another `timeout=`: a poll would keep it for ever.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

    from .mounts import Mount

AUTOFS_SECONDS = 600.0  # autofs' own default, where a line tells no timeout


def idle_seconds(mount: "Mount") -> float:
    """Return after how long without a look an autofs unmounts what it mounted, 0 where it never does.

    30 25 0:27 / /mnt/nas rw,relatime - autofs systemd-1 rw,fd=51,pgrp=1,timeout=300,minproto=5,maxproto=5,direct
    """
    told = next((option for option in mount.options if re.match(r"timeout=\d{1,9}$", option)), None)
    return float(told[len("timeout=") :]) if told else AUTOFS_SECONDS


def automounted(mounts: "Iterable[Mount]") -> "dict[str, float]":
    """Return by id the mounts that autofs made, or that lie in one of these, and how long a look keeps them mounted."""
    by_id = {mount.id: mount for mount in mounts}
    spans = {}  # type: dict[str, float | None]
    for mount in by_id.values():
        one, way = mount, []  # type: Mount | None, list[Mount]
        while one and one.id not in spans:  # up to where it is known
            way.append(one)
            spans[one.id] = None
            one = by_id.get(one.parent)
        for each in reversed(way):
            above = by_id.get(each.parent)
            spans[each.id] = None if above is None or above is each else longest(spans[above.id], above)
    return {ident: span for ident, span in spans.items() if span is not None}


def longest(span: "float | None", above: "Mount") -> "float | None":
    """Return how long a look keeps mounted what is mounted on a mount, which a look at it passes through."""
    return max(span or 0.0, idle_seconds(above)) if above.kind == "autofs" else span


class Kept:
    """What an automounted filesystem answered, and when it was asked (seconds since boot)."""

    def __init__(self, mount: "Mount", answer: "Any", at: float) -> None:
        self.mount = mount
        self.answer = answer
        self.at = at


class Automounts:
    """The watched filesystems that autofs mounted, by mountpoint: each asked once, and again only after two timeouts.

    By then it would have been unmounted without us. What it answered stands for it until then, and while it is not
    mounted, as long as its autofs is there.
    """

    def __init__(self) -> None:
        self.kept = {}  # type: dict[str, Kept]
        self.spans = {}  # type: dict[str, float]
        self.places = ()  # type: tuple[str, ...]
        self.now = 0.0

    def look(self, mounts: "list[Mount]", now: float) -> None:
        """Begin a round: `mounts` are all that there are."""
        self.places = tuple(mount.mountpoint.rstrip("/") + "/" for mount in mounts if mount.kind == "autofs")
        self.spans, self.now = automounted(mounts) if self.places else {}, now
        self.kept = {place: one for place, one in self.kept.items() if self.would_mount(place)}

    def would_mount(self, place: str) -> bool:
        """Return whether a look at a place would mount something there."""
        return (place.rstrip("/") + "/").startswith(self.places)

    def is_made(self, mount: "Mount") -> bool:
        """Return whether autofs mounted it."""
        return mount.id in self.spans

    def rests(self, mount: "Mount") -> bool:
        """Return whether a mount is not to be looked at now."""
        kept = self.kept.get(mount.mountpoint)
        if not self.is_made(mount) or kept is None or kept.mount.id != mount.id:
            return False
        return self.now - kept.at < 2 * self.spans[mount.id]

    def note(self, mount: "Mount", answer: "Any") -> None:
        """Remember what a mount that was looked at answered, an OSError included."""
        if self.is_made(mount):
            self.kept[mount.mountpoint] = Kept(mount, answer, self.now)

    def answer(self, mount: "Mount") -> "Any":
        """Return what a mount answered when it was asked."""
        return self.kept[mount.mountpoint].answer

    def age(self, mount: "Mount") -> float:
        """Return how old that is, in seconds."""
        return self.now - self.kept[mount.mountpoint].at

    def unmounted(self, known: "set[str]") -> "list[Mount]":
        """Return the mounts of which something is remembered and nobody knows just now."""
        return [one.mount for place, one in sorted(self.kept.items()) if place not in known]
