"""Show the capability test to people: a table in their language, and the command that fixes each row."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_get_translations

from ..client.checks.remedies import Remedy, remedy_for
from ..client.checks.report import CheckResult, CheckStatus, Report
from ..const import DOMAIN
from ..markdown import copyable, folded, has_long_word, inline, table

_NAME = 16
"""Characters of a check's name in one line."""
_LINES = 10
"""A command with more lines is shown as a summary of its changes, with its text folded."""
SHOWN_ONLY = frozenset({"section_timed_out"})
"""Only the test shows it: one slow reply needs no repair, and polls count how many there are."""
_SYMBOLS: Mapping[CheckStatus, str] = {
    CheckStatus.OK: "✅",
    CheckStatus.INFO: "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}",
    CheckStatus.AMBER: "⚠️",
    CheckStatus.RED: "❌",
    CheckStatus.UNKNOWN: "⏸️",
}


async def async_checklist(hass: HomeAssistant, report: Report, username: str) -> str:
    """Return the report as Markdown, in the language of Home Assistant."""
    texts = await async_get_translations(hass, hass.config.language, "selector", [DOMAIN])
    if not report.rows:
        return ""
    header = (words(texts, "checklist", "check"), words(texts, "checklist", "finding"))
    # A long word would make the table wider than a phone; below the table it wraps.
    below = [row for row in report.rows if any(map(has_long_word, row.placeholders.values()))]
    rows = [
        (_short(f"{symbol(row)} {check_name(texts, row)}"), finding(texts, row))
        for row in report.rows
        if row not in below
    ]
    parts = [table(header, rows)] if rows else []
    if below:
        parts.append("\n".join(f"- {symbol(row)} {check_name(texts, row)}: {finding(texts, row)}" for row in below))
    fixes = [
        f"**{check_name(texts, row)}**{_between(remedy)}{command(texts, remedy)}"
        for row in report.rows
        if (remedy := _remedy(row, report, username))
    ]
    return "\n\n".join([*parts, *fixes])


def _short(name: str) -> str:
    """Return a name that wraps only where it is long: it must neither lose its width to the long column nor take it."""
    return " ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in wrap(name, _NAME))


async def async_rows(hass: HomeAssistant, report: Report) -> list[dict[str, Any]]:
    """Return the report as plain values with their texts, for programs."""
    texts = await async_get_translations(hass, hass.config.language, "selector", [DOMAIN])
    return [
        row.as_dict() | {"text": words(texts, "check_reason", row.reason).format_map(row.placeholders)}
        for row in report.rows
    ]


async def async_notice(hass: HomeAssistant, report: Report, name: str) -> tuple[str, str]:
    """Return title and Markdown of a notification: which checks need action, and where to take it.

    Every user can read notifications, so they contain no text of the host; the name in the title is that of its entry.
    """
    texts = await async_get_translations(hass, hass.config.language, "selector", [DOMAIN])
    result = words(texts, "test_result", report.result)
    wrong = [row for row in report.rows if row.status in (CheckStatus.AMBER, CheckStatus.RED)]
    lines = [_notice_line(texts, row) for row in wrong]
    if not wrong:
        lines.append(words(texts, "test_notice", "nothing"))
    elif any(row.reason not in SHOWN_ONLY for row in wrong):
        lines.append(words(texts, "test_notice", "repairs"))
    title = words(texts, "test_notice", "title").format(name=name, result=result)
    return title, "\n\n".join(lines)


def _notice_line(texts: Mapping[str, str], row: CheckResult) -> str:
    """Return a check with the name of its issue; a refused login has none, as Home Assistant shows its own."""
    problem = words(texts, "problem", row.reason)
    return f"{symbol(row)} {check_name(texts, row)}" + ("" if problem == row.reason else f": {problem}")


def finding(texts: Mapping[str, str], row: CheckResult) -> str:
    """Return the finding of a check, with remote text made harmless."""
    placeholders = {name: inline(value) for name, value in row.placeholders.items()}
    return words(texts, "check_reason", row.reason).format_map(placeholders)


def symbol(row: CheckResult) -> str:
    """Return the symbol for the status of a row."""
    return _SYMBOLS[row.status]


def check_name(texts: Mapping[str, str], row: CheckResult) -> str:
    """Return the name of a check."""
    return words(texts, "check", row.check)


def _remedy(row: CheckResult, report: Report, username: str) -> Remedy | None:
    """Return the remedy of a row that has a command, None if there is none."""
    if row.status not in (CheckStatus.AMBER, CheckStatus.RED) or row.remedy is None:
        return None
    remedy = remedy_for(row.remedy, report.family, username, row.placeholders)
    return remedy if remedy and remedy.text else None


def command(texts: Mapping[str, str], remedy: Remedy) -> str:
    """Return a command to copy; for a long one a summary of its changes, and its text folded."""
    if not _is_long(remedy):
        return copyable(remedy.text)
    title = words(texts, "remedy_change", "whole").format(count=f"{len(remedy.text.splitlines()):,}")
    return f"{_changes(texts, remedy)}\n\n{folded(title, remedy.text)}"


def brief(texts: Mapping[str, str], remedy: Remedy) -> str:
    """Return a command for the form that asks for sudo's password, after it was shown; for a long one its files."""
    if not _is_long(remedy):
        return copyable(remedy.text)
    files = [f"- {copyable(each.path)}" for each in remedy.changes if not each.kind.endswith("_doas")]
    return "\n".join([words(texts, "remedy_change", "files"), "", *files])


def _is_long(remedy: Remedy) -> bool:
    """Return whether a command would fill the screen."""
    return len(remedy.text.splitlines()) > _LINES


def _between(remedy: Remedy) -> str:
    """Return the line breaks between the name of a check and its command."""
    return "\n\n" if _is_long(remedy) else "\n"


def _changes(texts: Mapping[str, str], remedy: Remedy) -> str:
    """Return the paragraphs that explain what a command does to which file."""
    shown = (
        (words(texts, "remedy_change", each.kind).format(path=copyable(each.path)), copyable(each.text))
        for each in remedy.changes
    )
    return "\n\n".join(part for parts in shown for part in parts if part)


def words(texts: Mapping[str, str], group: str, key: str) -> str:
    """Return one of our texts, or the bare key if a translation lacks it."""
    return texts.get(f"component.{DOMAIN}.selector.{group}.options.{key}", key)
