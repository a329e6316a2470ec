"""A reply, and the snapshot that replies are merged into.

A reply is decoded section by section, and only the sections that were requested: one of a wrong shape loses only
itself. A snapshot is what is known of a host now: the newest good value of every section.
"""

from collections.abc import Iterable, Mapping, Set as AbstractSet
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
import json
from types import MappingProxyType
from typing import Any

from ..errors import BadReply, first_line
from ..limits import NUMBER_LIMIT, STORED_BYTES
from ..models import (
    ON_DEMAND,
    SECTIONS,
    DiskCounters,
    DiskIo,
    Hardware,
    InterfaceCounters,
    Network,
    Sections,
    Updates,
    Uptime,
)
from ..models.kinds import Epoch, Line
from .decoding import Losses, decode_sections, decoder, encoder, parse

PROTOCOL = 1
MISSED_ROUNDS = 3
"""How many of its rounds a section may miss before its last good value is dropped."""
BOOTING_SECONDS = 300.0
"""How long after a boot a host may still start what comes after its SSH server (Docker, a firewall, NTP)."""
TYPES: Mapping[str, type] = MappingProxyType({name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND))
"""Every section, polled or on demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply of a probe, with the sections that were requested; `losses` has what was dropped of them."""

    id: str
    boot_id: str
    epoch: float
    sections: Mapping[str, object]
    missing: Mapping[str, str]
    errors: Mapping[str, str]
    seconds: Mapping[str, float]
    losses: Mapping[str, Losses] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a host: its sections, and what is missing or failed and why.

    `received` is the hub's wall clock (Unix seconds) of the last reply, `sent` that of its request, `ages` the former
    per section, `seconds` the time that each section took on the host when it was last read. What the host reports of
    itself was true at some moment between the two: a reply that comes late says nothing about a clock.
    `steady` and `heard` are `received` and `ages` by the monotonic clock, which all durations are computed with; they
    are not stored. A section that fails or is late keeps its last value for a while.
    """

    boot_id: str = ""
    epoch: float = 0.0
    received: float = 0.0
    sent: float = 0.0
    sections: Sections = field(default_factory=Sections)
    missing: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    moments: Mapping[str, float] = field(default_factory=dict)
    """Time of what a section reports as seconds ago, by the hub's clock; it moves only as far as a reply proves."""
    losses: Mapping[str, Losses] = field(default_factory=dict)
    """What was dropped, of each section that lost something."""
    unsure: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of disks and interfaces that may now be others than those in the section hardware; not stored."""
    late: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Sections that are late, and how many readings in a row; not stored."""
    steady: float = field(default=0.0, compare=False)
    heard: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Return how many rows, texts and values of each section were dropped or cut."""
        return {name: lost.count for name, lost in self.losses.items()}

    @property
    def beyond(self) -> Mapping[str, int]:
        """Return how much of each section is beyond our limits, not counting what has a wrong shape."""
        return {name: lost.beyond for name, lost in self.losses.items() if lost.beyond}

    def lacks_rows(self, section: str) -> bool:
        """Return whether a section's lists lack rows that the host reported; what is not in them may still exist."""
        return section in self.losses and self.losses[section].lacks_rows

    @property
    def is_booting(self) -> bool:
        """Return whether the host has booted so recently that what is missing may not have started yet."""
        uptime = self.sections.uptime
        return uptime is not None and uptime.uptime_seconds < BOOTING_SECONDS

    @property
    def boot_time(self) -> float | None:
        """Return when the host booted, by the hub's clock (Unix seconds)."""
        return self._moment("uptime")

    @property
    def lists_time(self) -> float | None:
        """Return when the host last refreshed its package lists, by the hub's clock (Unix seconds)."""
        return self._moment("updates")

    def _moment(self, section: str) -> float | None:
        """Return the time of what a section reports as seconds ago (Unix seconds)."""
        ago = _seconds_ago(getattr(self.sections, section))
        return None if ago is None else self.moments.get(section, self.ages[section] - ago)

    @property
    def clock_offset_seconds(self) -> float:
        """Return how far the host's clock is surely ahead of the hub's: beyond the time that request and reply took."""
        return self.epoch - min(max(self.epoch, self.sent), self.received)

    def _late(self, reply: Reply, reported: AbstractSet[str]) -> Mapping[str, int]:
        """Return how often each section has been late in a row; one that was not requested keeps its count."""
        late = {name for name in reply.missing.keys() & reported if reply.missing[name] == "timed_out"}
        if not late and not self.late:
            return {}
        return _without(self.late, reported) | {name: self.late.get(name, 0) + 1 for name in late}

    def _silent_seconds(self, section: str, received: float, steady: float) -> float:
        """Return how long ago a section was last read; for a stored section only the wall clock is known."""
        if section in self.heard:
            return steady - self.heard[section]
        return max(0.0, received - self.ages[section])

    def merged(
        self,
        reply: Reply,
        received: float,
        stale_after: float,
        steady: float | None = None,
        *,
        sent: float | None = None,
    ) -> Snapshot:
        """Return the snapshot with this reply merged into it.

        `steady` defaults to `received`, for callers without a monotonic clock; `sent` defaults to `received`, for a
        reply that took no time.

        A section that is late or failed keeps its last good value for `stale_after` seconds, or
        MISSED_ROUNDS of its own rounds if that is longer: the reason is stored beside it, and
        a reader that is late once must not make entities flap.
        """
        steady = received if steady is None else steady
        sent = received if sent is None else min(sent, received)
        reported = SECTIONS.keys() & {*reply.sections, *reply.missing, *reply.errors}
        failing = {name for name in reply.missing.keys() & reported if reply.missing[name] == "timed_out"}
        failing |= reported & reply.errors.keys()
        kept = {
            name
            for name in failing & self.ages.keys()
            if self._silent_seconds(name, received, steady) < max(stale_after, keep_seconds(name))
        }
        gone = reported - reply.sections.keys() - kept
        polled = _of_polls(reply.sections)
        changes = dict.fromkeys(gone) | polled
        return Snapshot(
            boot_id=reply.boot_id,
            epoch=reply.epoch,
            received=received,
            sent=sent,
            sections=replace(self.sections, **changes),
            missing=_without(self.missing, reported) | _of_polls(reply.missing),
            errors=_without(self.errors, reported) | _of_polls(reply.errors),
            ages=_without(self.ages, gone) | dict.fromkeys(polled, received),
            seconds=dict(self.seconds) | _of_polls(reply.seconds),
            moments=_without(self.moments, gone) | self._moments(polled, sent, received),
            losses=_without(self.losses, reported - kept) | _of_polls(reply.losses),
            unsure=self._unsure(reply, polled),
            late=self._late(reply, reported),
            steady=steady,
            heard=_without(self.heard, gone) | dict.fromkeys(polled, steady),
        )

    def _unsure(self, reply: Reply, reported: Mapping[str, object]) -> frozenset[str]:
        """Return the names that may be those of other disks and interfaces since the section hardware was last read.

        A name that was missing may come back with another disk; a name that was not missing may have been reassigned
        in between, and all of them at a boot.
        """
        hardware = reported.get("hardware", self.sections.hardware)
        if not isinstance(hardware, Hardware):
            return frozenset()
        unsure: set[str] = set()
        is_same_boot = self.boot_id in ("", reply.boot_id)
        if "hardware" not in reported:
            unsure |= self.unsure if is_same_boot else {*hardware.disks, *hardware.interfaces}
        for section, known in (("disk_io", hardware.disks), ("network", hardware.interfaces)):
            before, now = (_by_name(each) for each in (getattr(self.sections, section), reported.get(section)))
            if now is None:
                continue
            unsure |= known.keys() - now.keys()
            if "hardware" not in reported and before is not None and is_same_boot:
                unsure |= {name for name in before.keys() & now.keys() if is_another(before[name], now[name])}
        return frozenset(unsure)

    def _moments(self, reported: Mapping[str, object], sent: float, received: float) -> dict[str, float]:
        """Return the moments that a reply reports, each as close to its previous value as the reply allows."""
        ago = {name: seconds for name, section in reported.items() if (seconds := _seconds_ago(section)) is not None}
        return {
            name: min(max(self.moments.get(name, received - seconds), sent - seconds), received - seconds)
            for name, seconds in ago.items()
        }

    def as_dict(self) -> dict[str, object]:
        """Return the snapshot as plain JSON values, sections within STORED_BYTES; `restore_snapshot` is its inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_STORED}
        sections = {name: getattr(self.sections, name) for name in SECTIONS}
        encoded = {name: encoder(TYPES[name]).encode(each) for name, each in sections.items() if each is not None}
        plain["sections"] = within(encoded, STORED_BYTES)
        return plain


_NOT_STORED = ("sections", "losses", "unsure", "late", "steady", "heard")
"""Fields of a snapshot that are stored in another form, or mean nothing after a restart."""


def restore_snapshot(stored: Mapping[str, object]) -> Snapshot:
    """Return the snapshot from the output of `as_dict`; sections and values that no longer fit are left out."""
    restored = decode_sections(_of_polls(_mapping(stored["sections"])), TYPES)
    rest = decode_sections({"stored": stored}, {"stored": _Stored}).sections["stored"]
    if not isinstance(rest, _Stored):
        raise TypeError("no stored snapshot")
    return Snapshot(
        boot_id=rest.boot_id,
        epoch=rest.epoch,
        received=rest.received,
        sent=min(rest.sent, rest.received) if rest.sent else rest.received,
        sections=Sections(**restored.sections),  # type: ignore[arg-type]
        missing=_of_polls(rest.missing),
        errors=_of_polls(rest.errors),
        ages={name: rest.ages.get(name, rest.received) for name in restored.sections},
        seconds=_of_polls(rest.seconds),
        moments={name: rest.moments[name] for name in rest.moments.keys() & restored.sections.keys()},
        losses=restored.losses,
    )


def decode_reply(host: str, payload: bytes, requested: Iterable[str] = tuple(TYPES)) -> Reply:
    """Return the typed reply in `payload` (JSON), with the sections that were requested.

    A section of a wrong shape becomes an entry of `errors`. Raise BadReply if the payload is no reply.
    """
    document = parse(host, payload)
    if "error" in document:
        raise BadReply(host, str(document["error"]))
    types = {name: TYPES[name] for name in requested if name in TYPES}
    try:
        envelope = decoder(_Envelope).decode(document)
        raw = _of_requested(document, "sections", types)
        missing = _one_line_each(_of_requested(document, "missing", types))
        errors = _one_line_each(_of_requested(document, "errors", types))
        seconds = _numbers(_of_requested(document, "seconds", types))
    except (ValueError, LookupError, TypeError, AttributeError) as err:
        raise BadReply(host, first_line(str(err))) from err
    if envelope.protocol != PROTOCOL:
        raise BadReply(host, f"protocol {envelope.protocol}, expected {PROTOCOL}")
    decoded = decode_sections(raw, types)
    return Reply(
        id=envelope.id,
        boot_id=first_line(envelope.boot_id),
        epoch=envelope.epoch,
        sections=decoded.sections,
        missing=missing,
        errors=errors | decoded.wrong,
        seconds=seconds,
        losses=decoded.losses,
    )


def keep_seconds(section: str) -> float:
    """Return how many seconds a section keeps its last good value while it fails."""
    return MISSED_ROUNDS * SECTIONS[section].every_seconds


def _by_name(section: object) -> Mapping[str, DiskCounters | InterfaceCounters] | None:
    """Return the counters of a section by the names of disks or interfaces, None if it was not reported."""
    if isinstance(section, DiskIo):
        return section.disks
    return section.interfaces if isinstance(section, Network) else None


def is_another(before: DiskCounters | InterfaceCounters, now: DiskCounters | InterfaceCounters) -> bool:
    """Return whether a name may be that of another device after two readings of its counters."""
    if isinstance(before, InterfaceCounters) and isinstance(now, InterfaceCounters):
        # The kernel does not reuse an interface number until the next boot.
        return None not in (before.number, now.number) and before.number != now.number
    if isinstance(before, DiskCounters) and isinstance(now, DiskCounters):
        return now.read_bytes < before.read_bytes or now.written_bytes < before.written_bytes
    return False


def _seconds_ago(section: object) -> float | None:
    """Return the seconds that a section reports something to be ago, which do not depend on the host's clock."""
    seconds: float | None = None
    if isinstance(section, Uptime):
        seconds = section.uptime_seconds
    elif isinstance(section, Updates):
        seconds = section.metadata_age_seconds
    return None if seconds is None or seconds < 0 else seconds


def within(sections: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the parts, smallest first, that fit together into `most` bytes of JSON.

    The largest hold the most that is not new.
    """
    written = {name: json.dumps(each, ensure_ascii=False, separators=(",", ":")) for name, each in sections.items()}
    sizes = {name: len(text.encode(errors="surrogatepass")) for name, text in written.items()}
    order = sorted(sections, key=sizes.__getitem__)
    ends = dict(zip(order, accumulate(sizes[name] for name in order), strict=True))
    return {name: each for name, each in sections.items() if ends[name] <= most}


def _of_polls[V](values: Mapping[str, V]) -> dict[str, V]:
    """Return the values of polled sections: those on demand are for their caller."""
    if values.keys() <= SECTIONS.keys():
        return dict(values)
    return {name: value for name, value in values.items() if name in SECTIONS}


def _one_line_each(reasons: Mapping[str, Any]) -> dict[str, str]:
    """Return a reason per section, short enough for a state attribute; raise if one is no text."""
    return {name: first_line(text) for name, text in reasons.items()}


# ---------------------------------------------------------------- envelopes of the sections


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """A reply without its values per section."""

    id: str
    protocol: int
    boot_id: Line
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A stored snapshot without its sections; a value that does not fit gets its default."""

    boot_id: Line = ""
    epoch: Epoch = 0.0
    received: Epoch = 0.0
    sent: Epoch = 0.0
    missing: Mapping[str, Line] = field(default_factory=dict)
    errors: Mapping[str, Line] = field(default_factory=dict)
    ages: Mapping[str, Epoch] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    moments: Mapping[str, Epoch] = field(default_factory=dict)


def _of_requested(document: Mapping[str, Any], part: str, requested: Iterable[str]) -> dict[str, Any]:
    """Return the values of the requested sections and drop unknown names: unbounded growth otherwise."""
    values = document["sections"] if part == "sections" else document.get(part, {})
    names = values.keys()  # raises where it is no object
    return {name: values[name] for name in requested if name in names} if names else {}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers within NUMBER_LIMIT."""
    return {
        name: float(each)
        for name, each in values.items()
        if each.__class__ in (int, float) and -NUMBER_LIMIT <= each <= NUMBER_LIMIT
    }


def _mapping(value: object) -> Mapping[str, object]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _without[V](items: Mapping[str, V], names: AbstractSet[str]) -> dict[str, V]:
    """Return the items without these names."""
    if names.isdisjoint(items):
        return dict(items)
    return {name: value for name, value in items.items() if name not in names}
