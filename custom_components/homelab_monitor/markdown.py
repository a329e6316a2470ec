r"""Make text of a host harmless for Home Assistant's dialogs, which render Markdown.

Flow and repair descriptions, abort reasons and titles of issues may hold text from a host only
through these functions; then nothing in it can become a link, an image, HTML or a new paragraph.
"""

from collections.abc import Iterable, Sequence
import re

from .client.errors import lines_of, printable

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
"""In CommonMark a backslash removes the meaning of every ASCII punctuation character."""
_LONG_WORD = re.compile(r"\S{17}")
"""A word wider than a column may be on a phone, at 360 pixels. Nothing is inserted to break it: a person copies it."""


def escaped(text: str) -> str:
    """Return text for the middle of a sentence or for a table's cell, all of it literal."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(printable(text).split()))


def has_long_word(text: str) -> bool:
    """Return whether a text has a word, such as a fingerprint or a path, that would widen the column of a table."""
    return _LONG_WORD.search(printable(text)) is not None


def inline(text: str) -> str:
    """Return text for the middle of a sentence; with long words as code, which wraps and is copied unchanged."""
    return copyable(" ".join(printable(text).split())) if has_long_word(text) else escaped(text)


def fenced(text: str) -> str:
    """Return text as a block to copy; its lines stay unchanged."""
    lines = [printable(line.rstrip("\r")) for line in lines_of(text.strip("\n"))]
    # A fence ends only at a run of backticks that is at least as long as its own.
    longest = max((len(run) for run in re.findall(r"`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def folded(title: str, text: str) -> str:
    """Return a long text as a folded block to copy; the title is a text of ours."""
    return f"<details><summary>{title}</summary>\n\n{fenced(text)}\n\n</details>"


def copyable(text: str) -> str:
    """Return commands or keys to copy, each line as code that wraps: a block would scroll, on a phone mostly hidden.

    A wrapped line is still copied as one line. Only a block keeps several spaces in a row.
    """
    lines = [printable(line.rstrip("\r")) for line in lines_of(text.strip("\n")) if line.strip()]
    return fenced(text) if any("  " in line for line in lines) else "\n".join(map(_code, lines))


def _code(line: str) -> str:
    """Return a line as a code span; the spaces beside a backtick of its own are not shown (CommonMark, 6.1)."""
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    space = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{'`' * (longest + 1)}{space}{line}{space}{'`' * (longest + 1)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; header and cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
