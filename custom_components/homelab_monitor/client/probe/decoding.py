"""JSON from a host → typed sections, within the limits of `limits`. Pure.

A reply that would cost too much is refused before it is parsed. A section that follows the contract and is within
its limits is decoded by mashumaro, which is fast; any other one is read field by field, so that what is malformed or
beyond a limit loses as little as possible: an optional field is absent, a required one drops its row, and only a
required field of the section itself drops the section. Losses are counted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
import json
import re
from types import NoneType, UnionType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from mashumaro.codecs import BasicDecoder, BasicEncoder
from mashumaro.dialect import Dialect
import orjson

from ..errors import BadReply, ReplyTooLarge, first_line, printable
from ..limits import (
    AGE_LIMIT,
    EPOCH_LIMIT,
    LINE_LIMIT,
    LISTS,
    MARKS_LIMIT,
    NAME_LIMIT,
    NESTING_LIMIT,
    NUMBER_LIMIT,
    PATH_LIMIT,
)
from ..models.kinds import Age, Epoch, Line, Path, Percent

type _Json = Any
"""Any JSON value."""
type _Kind = Any
"""Type annotation of a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What was dropped of a section: beyond a limit, or malformed; whether its own lists lack rows because of that."""

    beyond: int = 0
    malformed: int = 0
    lacks_rows: bool = False

    @property
    def count(self) -> int:
        """Return the number of losses."""
        return self.beyond + self.malformed


@dataclass(frozen=True, slots=True)
class Decoded:
    """The typed sections by name, their losses, and the errors of the others."""

    sections: dict[str, object]
    losses: dict[str, Losses]
    wrong: dict[str, str]


# ---------------------------------------------------------------- before anything is typed


def parse(host: str, payload: bytes) -> dict[str, object]:
    """Parse the JSON object in the payload; raise BadReply, without parsing if that would cost too much."""
    _require_bounded(host, payload)
    try:
        document = _load(payload)
    except (ValueError, RecursionError) as err:
        raise BadReply(host, first_line(str(err))) from err
    if not isinstance(document, dict):
        raise BadReply(host, "the reply is not a JSON object")
    return document


def _load(payload: bytes) -> object:
    """Parse JSON; raise ValueError or RecursionError.

    orjson takes a third of the time, and refuses what is rare: a name that is not UTF-8, a number out of its range.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return _JSON.decode(payload.decode())


def _require_bounded(host: str, payload: bytes) -> None:
    """Raise ReplyTooLarge for more marks, BadReply for deeper nesting, than a reply may have."""
    opened = payload.count(b"[") + payload.count(b"{")
    marks = opened + payload.count(b",") + payload.count(b":")
    if marks > MARKS_LIMIT:
        raise ReplyTooLarge(host, f"{marks} names and values, but at most {MARKS_LIMIT} are read")
    if opened > NESTING_LIMIT and _is_too_deep(payload):
        raise BadReply(host, f"values nested more than {NESTING_LIMIT} deep")


_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_BUT_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def _is_too_deep(payload: bytes) -> bool:
    """Return whether brackets are nested beyond the limit: each pass removes the innermost ones."""
    if b'\\"' in payload or b"\\\\" in payload:  # A quotation mark that may not end its text.
        payload = _TEXT.sub(b"", payload)
    brackets = payload.translate(_TO_BRACKETS, _BUT_BRACKETS).replace(b'""', b"")
    if b'"' in brackets:  # A text contains brackets.
        brackets = _TEXT.sub(b"", payload).translate(_TO_BRACKETS, _BUT_BRACKETS)
    for _ in range(NESTING_LIMIT):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _no_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)


# ---------------------------------------------------------------- single values

# By class and not by isinstance: JSON has no other classes, and a bool is no number.


def _float_within(limit: float, least: float | None = None) -> Callable[[object], float]:
    """Return the reader of a number, from -limit to limit by default; NaN and infinity are within no limit."""
    lowest = -limit if least is None else least

    def read(value: _Json) -> float:
        kind = value.__class__
        if kind is not float and kind is not int:
            raise TypeError("not a number")
        if not lowest <= value <= limit:
            raise ValueError("a number out of range")
        return float(value)

    return read


def _whole(value: _Json) -> int:
    """Return an integer that fits what we store."""
    if value.__class__ is not int:
        raise TypeError("not a whole number")
    if not -NUMBER_LIMIT <= value <= NUMBER_LIMIT:
        raise ValueError("a number out of range")
    return int(value)


def _truth(value: _Json) -> bool:
    """Return a bool; raise TypeError for values that only count as true or false."""
    if value.__class__ is not bool:
        raise TypeError("neither true nor false")
    return bool(value)


def _text_within(limit: int) -> Callable[[object], str]:
    """Return the reader of a text that replaces invisible characters.

    Half of a surrogate pair, which is how Python represents a file name that is not UTF-8, would keep Home Assistant
    from saving any of its devices; control and bidi marks would falsify what is shown.
    """

    def read(value: _Json) -> str:
        if value.__class__ is not str:
            raise TypeError("not text")
        if len(value) > limit:
            raise ValueError("a text that is too long")
        return value if value.isprintable() else printable(value)

    return read


_TEXTS: Mapping[object, int] = {str: NAME_LIMIT, Line: LINE_LIMIT, Path: PATH_LIMIT}
_VALUES: Mapping[Any, Callable[[object], object]] = {
    bool: _truth,
    int: _whole,
    float: _float_within(NUMBER_LIMIT),
    Age: _float_within(AGE_LIMIT),
    Epoch: _float_within(EPOCH_LIMIT),
    Percent: _float_within(100, least=0),
} | {kind: _text_within(limit) for kind, limit in _TEXTS.items()}


class _Strict(Dialect):
    """Accept only the exact types: mashumaro alone would convert "3" to 3."""

    omit_none = True
    serialization_strategy = {  # noqa: RUF012
        kind: {"deserialize": read} for kind, read in _VALUES.items()
    }


@cache
def decoder(shape: type) -> BasicDecoder[Any]:
    """Return the strict decoder of one dataclass; cached, as building it compiles code."""
    return BasicDecoder(shape, default_dialect=_Strict)


@cache
def encoder(shape: type) -> BasicEncoder[Any]:
    """Return the encoder of one dataclass, the inverse of its decoder."""
    return BasicEncoder(shape, default_dialect=_Strict)


# ---------------------------------------------------------------- sections


def decode_sections(raw: Mapping[str, object], types: Mapping[str, type]) -> Decoded:
    """Decode the sections of these types, each on its own; ignore any other one."""
    decoded = Decoded({}, {}, {})
    for name in raw.keys() & types.keys():
        try:
            decoded.sections[name], losses = _decode(types[name], raw[name])
        except (ValueError, TypeError) as err:
            decoded.wrong[name] = first_line(f"wrong shape: {err}")
        else:
            if losses is not None:
                decoded.losses[name] = losses
    return decoded


def _decode(shape: type, raw: object) -> tuple[object, Losses | None]:
    """Return one typed section and its losses; raise ValueError or TypeError if it is malformed."""
    if (section := _decode_whole(shape, raw)) is not None:
        return section, None
    tally = _Tally()
    section = _row_reader(shape, is_section=True)(raw, tally)
    if tally.lacks_rows and (complete := getattr(section, "complete", None)):
        # It is unknown which source the missing row was of.
        section = replace(section, complete=dict.fromkeys(complete, False))  # type: ignore[type-var]
    return section, Losses(beyond=tally.beyond, malformed=tally.malformed, lacks_rows=tally.lacks_rows)


def _decode_whole(shape: type, raw: object) -> object | None:
    """Return a section that follows the contract within its limits, None for any other."""
    try:
        return decoder(shape).decode(raw) if _is_within(raw, _bounds(shape)) else None
    except ValueError, LookupError, TypeError, AttributeError:
        return None


@dataclass(frozen=True, slots=True)
class _Bound:
    """A field that is a list, a mapping or one row (`limit` None: one row); `inner` has the bounds of its rows."""

    name: str
    is_mapping: bool
    limit: int | None
    inner: tuple[_Bound, ...]


@cache
def _bounds(shape: type) -> tuple[_Bound, ...]:
    """Return the bounds of a dataclass, with those of its rows inside them."""
    found = []
    for name, kind in _kinds(shape).items():
        plain = _not_none(kind)
        is_mapping = _is_mapping(plain)
        limit = LISTS.get(f"{shape.__name__}.{name}")
        row = plain if limit is None else get_args(plain)[is_mapping]
        inner = _bounds(row) if is_dataclass(row) and isinstance(row, type) else ()
        if limit is not None or inner:
            found.append(_Bound(name, is_mapping, limit, inner))
    return tuple(found)


def _is_within(raw: _Json, bounds: tuple[_Bound, ...]) -> bool:
    """Return whether the lists of a row are lists within their limits; raise some exception for what is no row."""
    for bound in bounds:
        value = raw.get(bound.name)
        if value is None:
            continue
        rows: Iterable[Any] = (value,)
        if bound.limit is not None:
            if value.__class__ is not (dict if bound.is_mapping else list) or len(value) > bound.limit:
                return False
            rows = value.values() if value.__class__ is dict else value
        if bound.inner and not all(_is_within(row, bound.inner) for row in rows):
            return False
    return True


# ---------------------------------------------------------------- field by field


@dataclass(slots=True)
class _Tally:
    """Counts the losses of one section."""

    beyond: int = 0
    malformed: int = 0
    lacks_rows: bool = False


type _Reader = Callable[[object, _Tally], object]
"""Return the typed value; raise ValueError or TypeError if it is malformed."""


@cache
def _row_reader(shape: type, *, is_section: bool = False) -> _Reader:
    """Return the reader of a dataclass, field by field."""
    readers = {name: _field_reader(shape, name, kind, is_section=is_section) for name, kind in _kinds(shape).items()}
    needed = {f.name for f in fields(shape) if f.default is MISSING and f.default_factory is MISSING}
    lists = {name for name in readers if is_section and f"{shape.__name__}.{name}" in LISTS}

    def read(raw: object, tally: _Tally) -> object:
        row = _object(raw)
        values = {}
        for name, reader in readers.items():
            if name not in row:
                continue
            try:
                values[name] = reader(row[name], tally)
            except (ValueError, TypeError) as err:
                if name in needed:
                    raise ValueError(f"{name}: {err}") from None
                tally.malformed += 1
                tally.lacks_rows |= name in lists
        if missing := needed - values.keys():
            raise ValueError(f"without {min(missing)}")
        return shape(**values)

    return read


def _field_reader(shape: type, name: str, kind: _Kind, *, is_section: bool) -> _Reader:
    """Return the reader of one field of a dataclass."""
    plain = _not_none(kind)
    limit = LISTS.get(f"{shape.__name__}.{name}")
    reader = _reader(plain) if limit is None else _list_reader(plain, limit, is_section=is_section)
    if plain is kind:
        return reader
    return lambda value, tally: None if value is None else reader(value, tally)


@cache
def _reader(kind: _Kind) -> _Reader:
    """Return the reader of a value, a row or a pair."""
    if kind in _TEXTS:
        return _text_reader(kind)
    if value_fn := _VALUES.get(kind):
        return lambda value, _: value_fn(value)
    if is_dataclass(kind) and isinstance(kind, type):
        return _row_reader(kind)
    parts = tuple(map(_reader, get_args(kind)))

    def read(value: object, tally: _Tally) -> object:
        return tuple(part(each, tally) for part, each in zip(parts, _list(value), strict=True))

    return read


def _text_reader(kind: _Kind) -> _Reader:
    """Return the reader of a text, which cuts it if it is too long."""
    limit, text_fn = _TEXTS[kind], _VALUES[kind]

    def read(value: object, tally: _Tally) -> object:
        if isinstance(value, str) and len(value) > limit:
            tally.beyond += 1
            value = value[:limit]
        return text_fn(value)

    return read


def _list_reader(kind: _Kind, limit: int, *, is_section: bool) -> _Reader:
    """Return the reader of a list or a mapping: rows that are malformed or beyond the limit are dropped."""
    is_mapping = _is_mapping(kind)
    item_reader = _pair_reader(*map(_reader, get_args(kind))) if is_mapping else _reader(get_args(kind)[0])

    def read(value: object, tally: _Tally) -> object:
        items = list(_object(value).items()) if is_mapping else _list(value)
        kept: list[Any] = []
        for item in items[:limit]:
            # One bad row must not cost the next ones.
            try:
                kept.append(item_reader(item, tally))
            except ValueError, TypeError:
                tally.malformed += 1
        tally.beyond += max(0, len(items) - limit)
        tally.lacks_rows |= is_section and len(kept) < len(items)
        return dict(kept) if is_mapping else tuple(kept)

    return read


def _pair_reader(name_reader: _Reader, value_reader: _Reader) -> Callable[[Any, _Tally], tuple[Any, Any]]:
    """Return the reader of one entry of a mapping."""
    return lambda pair, tally: (name_reader(pair[0], tally), value_reader(pair[1], tally))


@cache
def _kinds(shape: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(shape, include_extras=True)


def _is_mapping(kind: _Kind) -> bool:
    """Return whether a field is a mapping."""
    origin: object = get_origin(kind)
    return origin is Mapping


def _not_none(kind: _Kind) -> _Kind:
    """Return a type without None."""
    if not isinstance(kind, UnionType):
        return kind
    (plain,) = (each for each in get_args(kind) if each is not NoneType)
    return plain


def _list(value: object) -> list[Any]:
    """Return a JSON list; raise TypeError for other values."""
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _object(value: object) -> dict[str, Any]:
    """Return a JSON object; raise TypeError for other values."""
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value
