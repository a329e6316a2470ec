"""What a check says becomes a repair issue, and ceases to be one: created and deleted in one function.

One issue per host and check. Its texts hold nothing that a host wrote, because every user may
list issues; what exactly is wrong is shown by the fix flow, to administrators. An ignored issue
is ignored as long as it exists, so it is not deleted for a moment's good answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.translation import async_get_cached_translations
from homeassistant.util.hass_dict import HassKey

from .checklist import words
from .client.report import CheckResult, Status
from .const import DOMAIN

BAD_POLLS = 3
"""Polls in a row that must find the same check amber or red before it is an issue."""
GOOD_POLLS = 6
"""Polls in a row that must find it right before the issue is deleted."""

_SEVERITIES: Mapping[Status, ir.IssueSeverity] = {
    Status.AMBER: ir.IssueSeverity.WARNING,
    Status.RED: ir.IssueSeverity.ERROR,
}
_REAUTH = "login"
"""A refused login is Home Assistant's own "authenticate again"."""
_OFFLINE = "reachable"
"""Being offline is a state of the host: only a test that counts makes an issue of it, any answer ends that."""
_AT_ONCE = frozenset({"host_key", "system", "python"})
"""These do not come and go, and polling is suspended by them: there is no second poll to wait for."""

_STREAKS: HassKey[dict[str, dict[str, int]]] = HassKey(f"{DOMAIN}_streaks")
_ROWS: HassKey[dict[str, dict[str, CheckResult]]] = HassKey(f"{DOMAIN}_rows")


@callback
def async_update_issues(
    hass: HomeAssistant, entry: ConfigEntry[Any], rows: Iterable[CheckResult], *, at_once: bool
) -> None:
    """Create and delete the issues of one host.

    `at_once`: the rows are those of a test and count by themselves; those of a poll count when
    several in a row agree. What was not answered changes nothing.
    """
    current = hass.data.setdefault(_ROWS, {}).setdefault(entry.entry_id, {})
    for row in rows:
        if row.check == _REAUTH or row.status is Status.UNKNOWN:
            continue
        is_wrong = row.status in _SEVERITIES
        if not _counts(hass, entry.entry_id, row.check, is_wrong=is_wrong, at_once=at_once):
            continue
        if is_wrong:
            current[row.check] = row
            _create(hass, entry, row)
        else:
            current.pop(row.check, None)
            ir.async_delete_issue(hass, DOMAIN, issue_id(entry.entry_id, row.check))


@callback
def async_remove_issues(hass: HomeAssistant, entry_id: str) -> None:
    """Delete every issue of a host that is no longer watched."""
    hass.data.get(_STREAKS, {}).pop(entry_id, None)
    hass.data.get(_ROWS, {}).pop(entry_id, None)
    # The registry also remembers issues of earlier runs that were ignored.
    for domain, known in list(ir.async_get(hass).issues):
        if domain == DOMAIN and known.startswith(issue_id(entry_id, "")):
            ir.async_delete_issue(hass, DOMAIN, known)


@callback
def async_issue_row(hass: HomeAssistant, entry_id: str, check: str) -> CheckResult | None:
    """Return the row that an issue was created from."""
    return hass.data.get(_ROWS, {}).get(entry_id, {}).get(check)


def issue_id(entry_id: str, check: str) -> str:
    """Return the id of the issue of one check."""
    return f"{entry_id}_{check}"


@callback
def _counts(hass: HomeAssistant, entry_id: str, check: str, *, is_wrong: bool, at_once: bool) -> bool:
    """Tell whether a check has said the same for long enough."""
    streaks = hass.data.setdefault(_STREAKS, {}).setdefault(entry_id, {})
    before = streaks.get(check, 0)
    streak = max(before, 0) + 1 if is_wrong else min(before, 0) - 1
    streaks[check] = streak
    if check == _OFFLINE:
        return at_once or not is_wrong
    return at_once or check in _AT_ONCE or streak >= BAD_POLLS or streak <= -GOOD_POLLS


@callback
def _create(hass: HomeAssistant, entry: ConfigEntry[Any], row: CheckResult) -> None:
    """Create the issue of a row; the same again is free."""
    texts = async_get_cached_translations(hass, hass.config.language, "selector", DOMAIN)
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id(entry.entry_id, row.check),
        is_fixable=True,
        severity=_SEVERITIES[row.status],
        translation_key=row.reason if row.reason == "host_key_changed" else "check",
        translation_placeholders={"name": entry.title, "problem": words(texts, "problem", row.reason)},
        # Every user may read this: the command is looked up by these two when an administrator asks.
        data={"entry_id": entry.entry_id, "check": row.check},
    )
