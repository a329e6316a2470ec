"""Typed values of files that anybody may have written: a value that does not fit becomes the default.

A dataclass of such values is encoded and decoded by mashumaro, without the limits of a host's replies.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Final, get_type_hints

from mashumaro.codecs import BasicDecoder, BasicEncoder
from mashumaro.dialect import Dialect

LARGEST: Final = 2**53
"""Beyond it JSON's numbers no longer represent all integers."""
DAY: Final = 86400
Seconds = Annotated[float, "seconds"]
"""A time to wait: more than 0, and at most a day."""
Texts = Annotated[tuple[str, ...], "texts"]
"""The texts of a list, without its other values."""
UNTYPED: Final = (ValueError, TypeError, LookupError, AttributeError)
"""The exceptions that a decoder raises."""


def text(value: object, default: str = "") -> str:
    """Return the value if it is a text, else the default."""
    return value if isinstance(value, str) else default


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list, without its other values; () for what is no list."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()


def number[DefaultT: float | None](value: object, default: DefaultT) -> float | DefaultT:
    """Return the value if it is a number below LARGEST, else the default; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return value if abs(value) < LARGEST else default


def yes(value: object) -> bool:
    """Return whether the value is True itself."""
    return value is True


def _number(value: object) -> float:
    """Return a number; raise TypeError if it is none."""
    if (given := number(value, None)) is None:
        raise TypeError("not a number")
    return given


def _seconds(value: object) -> float:
    """Return a time to wait; raise TypeError or ValueError if it is none."""
    if not 0 < (given := _number(value)) <= DAY:
        raise ValueError("no time to wait")
    return given


def _text(value: object) -> str:
    """Return a text; raise TypeError if it is none."""
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


class _Typed(Dialect):
    """Accept only the exact types: mashumaro alone would convert "3" to 3."""

    serialization_strategy = {  # noqa: RUF012
        kind: {"deserialize": read}
        for kind, read in {bool: yes, float: _number, str: _text, Seconds: _seconds, Texts: texts}.items()
    }


@cache
def decoder(kind: type) -> BasicDecoder[Any]:
    """Return the decoder of one type, which raises one of UNTYPED; cached, as building it compiles code."""
    return BasicDecoder(kind, default_dialect=_Typed)


@cache
def encoder(shape: type) -> BasicEncoder[Any]:
    """Return the encoder of one dataclass, the inverse of its decoder."""
    return BasicEncoder(shape, default_dialect=_Typed)


def restored[ShapeT](shape: type[ShapeT], stored: Mapping[str, object]) -> ShapeT:
    """Return a dataclass of stored values: a field that is missing or does not fit gets its default."""
    values = {}
    for name, kind in get_type_hints(shape, include_extras=True).items():
        with suppress(*UNTYPED):
            values[name] = decoder(kind).decode(stored[name])
    return shape(**values)
