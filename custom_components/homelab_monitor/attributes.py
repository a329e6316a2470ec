"""What fits into an entity's attributes: they are stored in the database, and sent to every browser, with each change.

A host decides how much there is to say. Texts are cut, and lists too, which then end with how many are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from homeassistant.helpers.json import json_bytes

_STEPS = ((300, 20), (120, 20), (60, 20), (60, 10), (30, 5), (15, 2))
"""Characters of a text and items of a list, the most that is tried first."""


def size(attributes: Mapping[str, Any]) -> int:
    """Return the bytes of attributes as Home Assistant stores them."""
    return len(json_bytes(dict(attributes)))


def fitting(attributes: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the attributes in at most so many bytes."""
    kept: dict[str, Any] = {}
    for characters, items in _STEPS:
        kept = {name: _cut(value, characters, items) for name, value in attributes.items()}
        if size(kept) <= limit:
            return kept
    # No row of ours has so many attributes, or such long names.
    while kept and size(kept) > limit:
        kept.popitem()
    return kept


def shortened(text: str, limit: int) -> str:
    """Return the text with a sign of it where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def _cut(value: Any, characters: int, items: int) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON value with shorter texts and lists."""
    match value:
        case str():
            # Home Assistant's frontend makes a link of what begins like an address, and a host may say anything.
            return shortened(f" {value}" if value.startswith("http") else value, characters)
        case Mapping():
            return {name: _cut(each, characters, items) for name, each in list(value.items())[:items]}
        case list() | tuple():
            return [_cut(each, characters, items) for each in value[:items]] + _left_out(value[items:])
    return value


def _left_out(rest: Sequence[Any]) -> list[str]:
    """Return what stands for the rest of a list."""
    return [f"+{len(rest)}"] if rest else []
