"""What Home Assistant shows is exactly what is meant: no character that nobody sees, as people copy from it.

A fingerprint with a zero-width space in it is another one to whoever searches for it, and a command with one fails.
"""

from collections.abc import Callable, Iterator, Mapping
import re
from typing import Any
import unicodedata
from unittest.mock import patch

from homeassistant.components import persistent_notification
from homeassistant.data_entry_flow import FlowHandler
from homeassistant.helpers import issue_registry as ir

_FLOW_RESULTS = ("async_show_form", "async_show_menu", "async_show_progress", "async_abort", "async_create_entry")


_UNSEEN = "\u00ad\u034f\u200b\u200c\u200d\u2060\ufeff"
"""What programs put between characters so that lines may break there, or not; control and bidi marks are elsewhere."""


def unseen(text: str) -> list[str]:
    """Return the characters of a text that have no look and no width of their own, by name."""
    return [unicodedata.name(c) for c in text if c in _UNSEEN]


def code(text: str) -> list[str]:
    """Return what the code spans and blocks of a Markdown text hold, as a browser lets it be copied."""
    blocks = [found[2] for found in re.finditer(r"^(`{3,})\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)]
    rest = re.sub(r"^(`{3,})\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [found[3] for found in re.finditer(r"(?<!`)(`+)(?!`)( ?)(.+?)\2(?<!`)\1(?!`)", rest)]
    return blocks + spans


def require_exact(shown: Any) -> None:
    """Fail where something that is shown holds a character that nobody sees."""
    match shown:
        case str():
            assert not unseen(shown), f"{unseen(shown)} in {shown!r}"
        case Mapping():
            for value in shown.values():
                require_exact(value)
        case list() | tuple():
            for value in shown:
                require_exact(value)


def watched() -> Iterator[None]:
    """Look at all that flows, repairs and notifications show."""

    def looked_at(method: Callable[..., Any]) -> Callable[..., Any]:
        def look(*words: Any, **options: Any) -> Any:
            for name in ("description_placeholders", "translation_placeholders", "title", "message"):
                require_exact(options.get(name))
            return method(*words, **options)

        return look

    places = [(FlowHandler, name) for name in _FLOW_RESULTS]
    places += [(ir, "async_create_issue"), (persistent_notification, "async_create")]
    patches = [patch.object(place, name, looked_at(getattr(place, name))) for place, name in places]
    for each in patches:
        each.start()
    yield
    for each in patches:
        each.stop()
