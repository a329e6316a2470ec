"""Limit the size of an entity's attributes: each change stores them in the database and sends them to every browser.

A host decides how long they are. Texts and lists are cut; a cut list ends with the number of items left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from homeassistant.helpers.json import json_bytes

_STEPS = ((300, 20), (120, 20), (60, 20), (60, 10), (30, 5), (15, 2))
"""Maximum characters of a text and items of a list, in the order in which they are tried."""


def size(attributes: Mapping[str, Any]) -> int:
    """Return the size of attributes in bytes, as Home Assistant stores them."""
    return len(json_bytes(dict(attributes)))


def fitting(attributes: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the attributes, cut to at most `limit` bytes."""
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
    """Return the text in at most `limit` characters, with an ellipsis if it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def _cut(value: Any, characters: int, items: int) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON value with shorter texts and lists."""
    match value:
        case str():
            # Home Assistant's frontend turns text that starts like a URL into a link, and a host may send any text.
            return shortened(f" {value}" if value.startswith("http") else value, characters)
        case Mapping():
            return {name: _cut(each, characters, items) for name, each in list(value.items())[:items]}
        case list() | tuple():
            return [_cut(each, characters, items) for each in value[:items]] + _left_out(value[items:])
    return value


def _left_out(rest: Sequence[Any]) -> list[str]:
    """Return the item that replaces the rest of a list, if there is a rest."""
    return [f"+{len(rest)}"] if rest else []
