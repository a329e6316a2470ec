"""Values of files that anybody may have written, typed: what does not fit becomes the default, and raises nothing."""

from typing import Final

LARGEST: Final = 2**53
"""Beyond it JSON's numbers are no longer whole."""


def text(value: object, default: str = "") -> str:
    """Return a text."""
    return value if isinstance(value, str) else default


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()


def number[DefaultT: float | None](value: object, default: DefaultT) -> float | DefaultT:
    """Return a number that can be computed with; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return value if abs(value) < LARGEST else default


def yes(value: object) -> bool:
    """Return true for true alone."""
    return value is True
