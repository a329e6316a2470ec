"""A reply, and the snapshot that replies add up to.

A reply is decoded section by section, so that one section of a wrong shape costs only itself.
A snapshot is what is known of a host now: the newest good value of every section.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
import json
import math
import re
from typing import Any, NoReturn

from mashumaro.codecs import BasicDecoder
from mashumaro.dialect import Dialect

from .errors import BadReply, first_line, printable
from .models import ON_DEMAND, SECTIONS, Sections

PROTOCOL = 1
MISSED_ROUNDS = 3
"""How many of its rounds a section may miss before its last good value is dropped."""
TEXT_LIMIT = 4096
"""Characters of one text: a path may have so many (PATH_MAX), nothing else needs more."""
LONGEST_UPTIME_SECONDS = 1e10
"""Three centuries; a host that claims more is wrong, and no calendar holds when it booted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of a probe; `raw` keeps the sections as they came, for the store."""

    id: str
    boot_id: str
    epoch: float
    sections: Mapping[str, object]
    raw: Mapping[str, object]
    missing: Mapping[str, str]
    errors: Mapping[str, str]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a host: its sections, and what is missing or failed and why.

    `received` is the hub's wall clock (Unix seconds) of the last reply, `ages` the same
    per section, `seconds` what each section cost the host when it was last read.
    A section that fails or is late keeps its last value for a while.
    """

    boot_id: str = ""
    epoch: float = 0.0
    received: float = 0.0
    sections: Sections = field(default_factory=Sections)
    raw: Mapping[str, object] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def boot_time(self) -> float | None:
        """Return when the host booted, by the hub's clock (Unix seconds)."""
        uptime = self.sections.uptime
        if uptime is None or not 0 <= uptime.uptime_seconds <= LONGEST_UPTIME_SECONDS:
            return None
        return self.ages["uptime"] - uptime.uptime_seconds

    @property
    def clock_offset_seconds(self) -> float:
        """Return how far the host's clock is ahead of the hub's."""
        return self.epoch - self.received

    def merged(self, reply: Reply, received: float, stale_after: float) -> Snapshot:
        """Return the snapshot with this reply in it.

        What is late or failed keeps its last good value for `stale_after` seconds, or
        MISSED_ROUNDS of its own rounds where that is longer: the reason is beside it, and
        a reader that is late once must not make entities flap.
        """
        told = SECTIONS.keys() & {*reply.sections, *reply.missing, *reply.errors}
        failing = {name for name in told if reply.missing.get(name) == "timed_out"}
        failing |= told & reply.errors.keys()
        kept = {
            name
            for name in failing & self.ages.keys()
            if received - self.ages[name] < max(stale_after, keep_seconds(name))
        }
        gone = told - reply.sections.keys() - kept
        polled = _of_polls(reply.sections)
        changes = dict.fromkeys(gone) | polled
        fresh = dict.fromkeys(polled, received)
        return Snapshot(
            boot_id=reply.boot_id,
            epoch=reply.epoch,
            received=received,
            sections=replace(self.sections, **changes),
            raw=_without(self.raw, gone) | {name: reply.raw[name] for name in polled},
            missing=_without(self.missing, told) | _of_polls(reply.missing),
            errors=_without(self.errors, told) | _of_polls(reply.errors),
            ages=_without(self.ages, gone) | fresh,
            seconds=dict(self.seconds) | _of_polls(reply.seconds),
        )

    def as_dict(self) -> dict[str, object]:
        """Return the snapshot as plain JSON values; `restore_snapshot` is its inverse."""
        names = [f.name for f in fields(self) if f.name != "sections"]
        plain = {name: getattr(self, name) for name in names}
        plain["sections"] = dict(plain.pop("raw"))
        return plain


def restore_snapshot(stored: Mapping[str, object]) -> Snapshot:
    """Return the snapshot that `as_dict` made; sections that no longer fit are left out."""
    raw = _of_polls(_mapping(stored.get("sections")))
    sections, _ = _decode_sections(raw)
    plain = _decoder(_Stored).decode(dict(stored))
    return Snapshot(
        boot_id=plain.boot_id,
        epoch=plain.epoch,
        received=plain.received,
        sections=Sections(**sections),  # type: ignore[arg-type]
        raw={name: raw[name] for name in sections},
        missing=plain.missing,
        errors=plain.errors,
        ages={name: plain.ages.get(name, plain.received) for name in sections},
        seconds=plain.seconds,
    )


def decode_reply(host: str, payload: bytes) -> Reply:
    """Return the typed reply in `payload` (JSON).

    A section of a wrong shape becomes an entry of `errors`; a payload that is no reply at
    all raises BadReply.
    """
    document = _document(host, payload)
    if "error" in document:
        raise BadReply(host, first_line(str(document["error"])))
    try:
        envelope = _decoder(_Envelope).decode(document)
    except (ValueError, LookupError, TypeError) as err:
        raise BadReply(host, first_line(str(err))) from err
    if envelope.protocol != PROTOCOL:
        raise BadReply(host, f"protocol {envelope.protocol}, expected {PROTOCOL}")
    sections, wrong = _decode_sections(envelope.sections)
    return Reply(
        id=envelope.id,
        boot_id=first_line(envelope.boot_id),
        epoch=envelope.epoch,
        sections=sections,
        raw={name: envelope.sections[name] for name in sections},
        missing=_one_line_each(envelope.missing),
        errors=_one_line_each(envelope.errors) | wrong,
        seconds=_of_known_sections(envelope.seconds),
    )


def keep_seconds(section: str) -> float:
    """Return how long a section keeps its last good value while it fails."""
    return MISSED_ROUNDS * SECTIONS[section].every_seconds


def _of_polls[V](told: Mapping[str, V]) -> dict[str, V]:
    """Return what is told of sections that a snapshot is made of: the others are for who asked."""
    return {name: value for name, value in told.items() if name in SECTIONS}


def _of_known_sections[V](told: Mapping[str, V]) -> dict[str, V]:
    """Return what is told of sections that exist: names that a host makes up would add up for ever."""
    return {name: value for name, value in told.items() if name in _TYPES}


def _one_line_each(told: Mapping[str, str]) -> dict[str, str]:
    """Return a reason per section, short enough for an attribute of a state."""
    return {name: first_line(text) for name, text in _of_known_sections(told).items()}


# ---------------------------------------------------------------- decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """The reply before its sections are typed."""

    id: str
    protocol: int
    boot_id: str
    epoch: float
    sections: dict[str, Any]
    missing: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A stored snapshot without its sections."""

    boot_id: str
    epoch: float
    received: float
    missing: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def _finite(value: object) -> float:
    """Return a number that a counter could hold; NaN and infinity would poison averages and the recorder."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    if not math.isfinite(value) or abs(value) >= 1 << 64:
        raise ValueError("not a finite number")
    return float(value)


def _whole(value: object) -> int:
    """Return an integer that fits a 64-bit counter."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 64:
        raise TypeError("not a 64-bit integer")
    return value


def _text(value: object) -> str:
    """Return text, and nothing that merely could be made into text."""
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


class _Strict(Dialect):
    """Take JSON values for what they are: mashumaro alone would make "3" into 3."""

    serialization_strategy = {  # noqa: RUF012
        float: {"deserialize": _finite},
        int: {"deserialize": _whole},
        str: {"deserialize": _text},
    }


_TYPES: Mapping[str, type] = {name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND)


@cache
def _decoder(shape: type) -> BasicDecoder[Any]:
    """Return the decoder of one dataclass; building it compiles code, so once."""
    return BasicDecoder(shape, default_dialect=_Strict)


def _decode_sections(
    raw: Mapping[str, object],
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the typed sections by name, and what is wrong with the others."""
    typed: dict[str, object] = {}
    wrong: dict[str, str] = {}
    # A section that only a newer probe knows is none of our business.
    for name in raw.keys() & _TYPES.keys():
        try:
            typed[name] = _decoder(_TYPES[name]).decode(raw[name])
        except (ValueError, LookupError, TypeError, AttributeError) as err:
            wrong[name] = first_line(f"wrong shape: {err}")
    return typed, wrong


def _document(host: str, payload: bytes) -> dict[str, object]:
    """Return the JSON object in the payload, all its texts fit to be stored and shown."""
    try:
        document = _JSON.decode(payload.decode())
        if _MAY_BE_UNFIT.search(payload):
            document = _fit(document)
    except (ValueError, RecursionError) as err:
        raise BadReply(host, first_line(str(err))) from err
    if not isinstance(document, dict):
        raise BadReply(host, "the reply is not a JSON object")
    return document


_MAY_BE_UNFIT = re.compile(rb'\\|[\x80-\xff]|"[^"\\]{%d}' % TEXT_LIMIT)
"""An escape, anything but ASCII, or a text that is too long; most replies hold none of these."""


def _fit(value: object) -> object:
    """Return the JSON value without characters that cannot be seen.

    Half of a surrogate pair, which is how Python hands on a file name that is not UTF-8, would
    keep Home Assistant from saving any of its devices; control and bidi marks would forge what is shown.
    """
    match value:
        case str():
            return printable(value[:TEXT_LIMIT])
        case dict():
            return {printable(name[:TEXT_LIMIT]): _fit(each) for name, each in value.items()}
        case list():
            return [_fit(each) for each in value]
    return value


def _no_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)


def _mapping(value: object) -> Mapping[str, object]:
    """Return the value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _without[V](items: Mapping[str, V], names: set[str]) -> dict[str, V]:
    """Return the items but those."""
    return {name: value for name, value in items.items() if name not in names}
