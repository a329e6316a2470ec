"""Names that would become one entity id: some stay as they are, all others get numbers that no id loses.

Home Assistant makes an entity's id of its name: in letters and digits of ASCII, where one character may become sixteen,
and cut at 255. For each of those that come to the same it counts up from 2, so that thousands cost minutes.
"""

from collections import Counter
from collections.abc import Callable, Collection
from functools import lru_cache
import re
import unicodedata

from ..limits import ALIKE, LABEL_LIMIT, ODD_LABELS

type Slug = Callable[[str], str]
"""Returns the form of a text in an entity id, as Home Assistant's `slugify` does."""

_SIMPLE = re.compile(r"[A-Za-z0-9 _./:;()+#@~*=-]*")
_BETWEEN = re.compile(r"[^a-z0-9]+")
_COUNTED = LABEL_LIMIT + 10
"""Letters of an entity id by which names are compared; numbered ones include their number."""
_ENTITY, _LETTER, _SIGN = 20, 4, 13
"""Most letters of an entity id for `&` (which may begin an HTML entity of any character), for one character of
Latin, Greek or Cyrillic, and for one of any other script, after its decomposition (NFKD)."""
_LETTERS_END = "\u0482"


def simple_slug(text: str) -> str | None:
    """Return the form of a text in an entity id, None if that depends on each character."""
    return _BETWEEN.sub("_", text.lower()).strip("_") if _SIMPLE.fullmatch(text) else None


def plain_slug(text: str) -> str:
    """Return the form of a text in an entity id, without all characters that are no ASCII letters: the default."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _BETWEEN.sub("_", plain.lower()).strip("_")


@lru_cache(maxsize=1024)
def numbered(label: str, number: int) -> str:
    """Return a label with its number; a long label is cut so that an entity id has room for both."""
    return f"{fitting(label)} ({number})"


@lru_cache(maxsize=1024)
def fitting(label: str) -> str:
    """Return the beginning of a label that has at most LABEL_LIMIT letters in an entity id."""
    if label.isascii() and "&" not in label:
        return label[:LABEL_LIMIT]
    room = LABEL_LIMIT
    for at, sign in enumerate(label):
        room -= _width(sign)
        if room < 0:
            return label[:at]
    return label


def _width(sign: str) -> int:
    """Return the most letters of an entity id that a character can become."""
    if sign.isascii():
        return _ENTITY if sign == "&" else 1
    parts = unicodedata.normalize("NFKD", sign)
    return len(parts) * (_LETTER if max(parts) < _LETTERS_END else _SIGN)


class Crowds:
    """Counts the names of a kind by their form in an entity id: beyond ALIKE of them there is no room.

    Checking each of many odd names would itself take long: then they all count as one.
    """

    def __init__(self, labels: Collection[str], slug: Slug) -> None:
        """Prepare for items with these labels, equal ones included."""
        self._is_needed = len(labels) > ALIKE
        odd = {label for label in labels if simple_slug(label) is None} if self._is_needed else set()
        self._slug = slug if len(odd) <= ODD_LABELS else None
        self._slugs: dict[str, str] = {}
        self._counts = Counter[tuple[str, int]]()
        self._first_numbers: dict[str, int] = {}

    def has_room(self, label: str, number: int) -> bool:
        """Return whether an entity id has room for one more item of that name."""
        return not self._is_needed or self._counts[self._form(label, number)] < ALIKE

    def add(self, label: str, number: int) -> None:
        """Count an item."""
        if not self._is_needed:
            return
        form = self._form(label, number)
        self._counts[form] += 1
        if self._counts[form] >= ALIKE and number >= self.first_number(label):
            self._first_numbers[self._form(label, 1)[0]] = number + 1

    def first_number(self, label: str) -> int:
        """Return the first number that may have room, at least 2."""
        return self._first_numbers.get(self._form(label, 1)[0], 2) if self._is_needed else 2

    def _form(self, label: str, number: int) -> tuple[str, int]:
        """Return what the entity ids of that name have in common."""
        text = label if number == 1 else fitting(label)
        if (found := self._slugs.get(text)) is None:
            found = simple_slug(text)
            if found is None:
                found = self._slug(text)[:_COUNTED] if self._slug else ""
            self._slugs[text] = found
        return found, number
