"""The worst replies that a host can send: for each section the most rows, each as dear as it gets.

Made from the types of the sections, so that a new section or list has its worst reply at once. Every name differs from
row to row and from turn to turn, numbers move, and words are those that lead to most work.

    for name, asked, payload in worst_replies(turn=1): ...
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
import json
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from custom_components.homelab_monitor.client.limits import (
    LINE_LIMIT,
    LISTS,
    MARKS_LIMIT,
    NAME_LIMIT,
    PATH_LIMIT,
    REPLY_LIMIT,
)
from custom_components.homelab_monitor.client.models import ON_DEMAND, SECTIONS
from custom_components.homelab_monitor.client.models.kinds import Age, Epoch, Line, Path, Percent

TYPES: Mapping[str, type] = {name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND)
TEXTS = {str: NAME_LIMIT, Line: LINE_LIMIT, Path: PATH_LIMIT}
WORDS = {
    "active_state": "failed",
    "load_state": "loaded",
    "state": "dead",
    "health": "unhealthy",
    "engine": "docker",
    "owner": "root",
}
NASTY_NUMBERS = (
    *(0, -1, 1, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1, (1 << 64) - 1, 1 << 64),
    *(-(1 << 64) + 1, 1 << 200, 10**300, 5e-324, -5e-324, 1e-300, 1e9, 1e10, -1e10, 1e11, 1e15, 1e18, -1e18, 9.3e18),
    *(1e19, 1e100, 1e308, -1e308, 1.7976931348623157e308, 253402300800, -62135596801),
)
NASTY_VALUES = (
    *("", "\ud800", "\x00\x7f\u202e", "x" * 5000, "\x7f" * 5000, "\U000e0001" * 300, "a/" * 2000),
    *(None, True, False, [], {}, [[]], {"a": {}}, [None], 5, 0.5),
)


@dataclass(frozen=True)
class Filling:
    """How sections are filled: how many rows, what makes them differ, how long texts are, whether each row is wrong."""

    rows: int
    turn: int = 0
    text: str = ""
    """What texts are filled up with, as long as they may be; "": they are short."""
    inner: int = 1
    """Rows of lists inside rows."""
    is_late: bool = False
    """Whether what tells names apart stands at their end, behind what they are filled up with."""
    is_bad: bool = False
    """Whether the last value of each row is of a wrong shape, so that all have to be read field by field."""

    def section(self, shape: type) -> dict[str, Any]:
        """Return a section."""
        return {name: self._value(kind, name, 0, self.rows) for name, kind in _kinds(shape)}

    def _value(self, kind: Any, name: str, number: int, rows: int) -> Any:
        form, parts = _form(kind)
        if form == "row":
            return self._row(parts, number)
        if form == "mapping":
            return {self._name(each, 40): self._value(parts, name, each, self.inner) for each in range(rows)}
        if form == "list":
            return [self._value(parts, name, each, self.inner) for each in range(rows)]
        if form == "pair":
            return [self._value(part, name, number, rows) for part in parts]
        return self._single(parts, name, number)

    def _row(self, shape: type, number: int) -> dict[str, Any]:
        row = {name: self._value(kind, name, number, self.inner) for name, kind in _kinds(shape)}
        if self.is_bad:
            row[list(row)[-1]] = [[]]
        return row

    def _single(self, kind: Any, name: str, number: int) -> Any:
        if kind is bool:
            return name != "read_only"
        if kind in (int, float, Age, Epoch):
            counted = number + 1000 * self.turn
            return counted if kind is int else counted + 0.5
        if kind is Percent:
            return (number + 7 * self.turn) % 100 + 0.5
        return WORDS.get(name) or self._name(number, TEXTS[kind])

    def _name(self, number: int, length: int) -> str:
        mark = f"{self.turn}-{number}"
        if self.is_late:
            return f"{self.text * (length - len(mark) - 1)}-{mark}"
        return f"{mark}-".ljust(length, self.text) if self.text else mark


@cache
def _form(kind: Any) -> tuple[str, Any]:
    """Return what a type is in JSON, and what it is made of."""
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    parts = get_args(kind)
    if is_dataclass(kind):
        return "row", kind
    if get_origin(kind) is Mapping:
        return "mapping", parts[1]
    if get_origin(kind) is tuple:
        return ("list", parts[0]) if parts[-1] is Ellipsis else ("pair", parts)
    return "value", kind


@cache
def _kinds(shape: type) -> tuple[tuple[str, Any], ...]:
    return tuple(get_type_hints(shape, include_extras=True).items())


def limit_of(section: str) -> int:
    """Return how many rows the longest list of a section may have."""
    shape = TYPES[section]
    return max((LISTS.get(f"{shape.__name__}.{f.name}", 0) for f in fields(shape)), default=0)


def reply(sections: Mapping[str, object], **more: object) -> bytes:
    """Return a reply with these sections."""
    document = {"id": "1", "protocol": 1, "boot_id": "b", "epoch": 1_763_940_000.5, "sections": sections, **more}
    # Characters that cannot be seen are shortest as they are.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def marks(payload: bytes) -> int:
    """Return how many marks count."""
    return sum(map(payload.count, (b"[", b"{", b",", b":")))


def most_rows(*sections: str, room: float = 0.99, **filling: Any) -> int:
    """Return how many rows fit into a reply, whatever the limits of lists say."""
    some, more = (
        reply({name: Filling(rows, **filling).section(TYPES[name]) for name in sections}) for rows in (1000, 1020)
    )
    by_marks = MARKS_LIMIT / max(1, (marks(more) - marks(some)) / 20)
    by_bytes = REPLY_LIMIT / max(1, (len(more) - len(some)) / 20)
    return int(room * min(by_marks, by_bytes))


def filled(*sections: str, turn: int = 0, rows: int | None = None, **filling: Any) -> bytes:
    """Return a reply with these sections, filled with so many rows, or with all that fit."""
    count = most_rows(*sections, **filling) if rows is None else rows
    shapes = {name: Filling(count, turn=turn, **filling).section(TYPES[name]) for name in sections}
    return reply(shapes)


def with_lists() -> list[str]:
    """Return the sections that have lists."""
    return [name for name in TYPES if limit_of(name)]


FILLINGS: Mapping[str, dict[str, Any]] = {
    "short": {},
    "wrong": {"is_bad": True},
    "long": {"text": "x"},
    "unprintable": {"text": "\x85"},
    "deep": {"inner": 30},
    # One character that is sixteen in an entity id.
    "alike": {"text": "\u337f", "is_late": True},
}


def worst_replies(turn: int = 0) -> Iterator[tuple[str, tuple[str, ...], bytes]]:
    """Yield a name, the sections that were asked, and the reply: each list alone, and all that is polled at once."""
    polled = tuple(name for name in SECTIONS if limit_of(name))
    for kind, filling in FILLINGS.items():
        for name in with_lists():
            yield f"{name} {kind}", (name,), filled(name, turn=turn, **filling)
        yield f"everything {kind}", polled, filled(*polled, turn=turn, **filling)
