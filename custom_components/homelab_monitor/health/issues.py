"""Create and delete the repair issues for the results of checks, both in one function.

There is one issue per host and check. Its texts hold nothing that a host wrote, because every user
may list issues; the fix flow shows administrators what exactly is wrong. An ignored issue is
ignored as long as it exists, so it is not deleted after a single good result.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.translation import async_get_cached_translations
from homeassistant.util.hass_dict import HassKey

from ..client.bucket import Bucket
from ..client.checks.evaluation import CHECKS
from ..client.checks.report import CheckResult, CheckStatus
from ..client.limits import ALARM_WRITES, ISSUE_WRITES
from ..const import DOMAIN
from .checklist import SHOWN_ONLY, words

BAD_POLLS = 3
"""Polls in a row that must find the same check amber or red before it is an issue."""
GOOD_POLLS = 6
"""Polls in a row that must find the check green before the issue is deleted."""

_SEVERITIES: Mapping[CheckStatus, ir.IssueSeverity] = {
    CheckStatus.AMBER: ir.IssueSeverity.WARNING,
    CheckStatus.RED: ir.IssueSeverity.ERROR,
}
_REAUTH = "login"
"""A refused login is Home Assistant's own "authenticate again"."""
_OFFLINE = "reachable"
"""Being offline is a state of the host: only a row that counts at once makes an issue of it, and any reply ends it."""
_AT_ONCE = frozenset({"host_key", "system", "python"})
"""These do not come and go, and they suspend polling: there is no second poll to wait for."""
_RED_AT_ONCE = frozenset({"shell"})
"""A login shell that runs no command suspends polling as well, but one that only prints text does not."""
_ALARMS = frozenset({"host_key_changed", "another_machine"})
"""Somebody may have used up the limit on purpose, so that exactly this is not shown."""

_STREAKS: HassKey[dict[str, dict[str, int]]] = HassKey(f"{DOMAIN}_streaks")
_BUCKETS: HassKey[dict[str, dict[str, Bucket]]] = HassKey(f"{DOMAIN}_issue_buckets")
_ROWS: HassKey[dict[str, dict[str, CheckResult]]] = HassKey(f"{DOMAIN}_rows")


@callback
def async_end_reauth(hass: HomeAssistant, entry: ConfigEntry[Any]) -> bool:
    """Close the request to log in again, as the login works; return whether there was any dialog.

    A dialog in which somebody is past the first step goes on.
    """
    dialogs = list(entry.async_get_active_flows(hass, {SOURCE_REAUTH}))
    for flow in dialogs:
        if flow.get("step_id") == "reauth_confirm":
            hass.config_entries.flow.async_abort(flow["flow_id"])
    return bool(dialogs)


@callback
def async_update_issues(
    hass: HomeAssistant, entry: ConfigEntry[Any], rows: Iterable[CheckResult], *, at_once: bool
) -> None:
    """Create and delete the issues of one host.

    `at_once`: the rows are those of a test and count immediately; those of a poll count when
    several in a row agree. An unknown status changes nothing.
    """
    current = hass.data.setdefault(_ROWS, {}).setdefault(entry.entry_id, {})
    for row in rows:
        if row.check == _REAUTH or row.status is CheckStatus.UNKNOWN:
            continue
        is_wrong = row.status in _SEVERITIES
        if at_once and is_wrong and row.reason in SHOWN_ONLY:
            continue
        lasts = at_once or (row.status is CheckStatus.RED and row.check in _RED_AT_ONCE)
        if not _counts(hass, entry.entry_id, row.check, is_wrong=is_wrong, at_once=lasts):
            continue
        if is_wrong:
            current[row.check] = row
            _create(hass, entry, row, at_once=at_once)
        else:
            current.pop(row.check, None)
            ir.async_delete_issue(hass, DOMAIN, issue_id(entry.entry_id, row.check))


@callback
def async_rename_issues(hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
    """Show the current name of a host in its issues, after a person has changed it."""
    registry = ir.async_get(hass)
    for check, row in _rows(hass, entry.entry_id).items():
        issue = registry.async_get_issue(DOMAIN, issue_id(entry.entry_id, check))
        if issue is not None and issue.active:
            _create(hass, entry, row, at_once=True)


@callback
def async_remove_issues(hass: HomeAssistant, entry_id: str) -> None:
    """Delete every issue of a host that is no longer monitored."""
    hass.data.get(_STREAKS, {}).pop(entry_id, None)
    hass.data.get(_BUCKETS, {}).pop(entry_id, None)
    hass.data.get(_ROWS, {}).pop(entry_id, None)
    # The registry also remembers issues of earlier runs that were ignored.
    for known in _issues(hass, entry_id):
        ir.async_delete_issue(hass, DOMAIN, known)


@callback
def async_hide_issues(hass: HomeAssistant, entry_id: str) -> None:
    """Delete the issues of a host whose entry is disabled, as nobody can fix them; ignored ones stay ignored."""
    hass.data.get(_STREAKS, {}).pop(entry_id, None)
    hass.data.get(_ROWS, {}).pop(entry_id, None)
    registry = ir.async_get(hass)
    for known in _issues(hass, entry_id):
        if registry.issues[DOMAIN, known].dismissed_version is None:
            ir.async_delete_issue(hass, DOMAIN, known)


def _issues(hass: HomeAssistant, entry_id: str) -> list[str]:
    """Return the ids of all issues of a host; for those ignored in an earlier run the registry has only the id."""
    ids = [issue_id(entry_id, check.key) for check in CHECKS]
    return [known for known in ids if (DOMAIN, known) in ir.async_get(hass).issues]


@callback
def async_issue_row(hass: HomeAssistant, entry_id: str, check: str) -> CheckResult | None:
    """Return the row that an issue was created from."""
    return _rows(hass, entry_id).get(check)


@callback
def async_lost_issues(hass: HomeAssistant, entry_id: str) -> frozenset[str]:
    """Return the checks whose last result is wrong but that have no issue: deleted by others, or not created yet."""
    if not (rows := _rows(hass, entry_id)):
        return frozenset()
    registry = ir.async_get(hass)
    found = {check: registry.async_get_issue(DOMAIN, issue_id(entry_id, check)) for check in rows}
    return frozenset([check for check, issue in found.items() if issue is None or not issue.active])


@callback
def async_is_fixed(hass: HomeAssistant, entry_id: str, check: str) -> bool:
    """Return whether the last result of a check is good, and its issue is closed."""
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id(entry_id, check))
    return async_issue_row(hass, entry_id, check) is None and (issue is None or not issue.active)


def _rows(hass: HomeAssistant, entry_id: str) -> Mapping[str, CheckResult]:
    """Return the last result of every check of a host that is wrong, by check."""
    return hass.data.get(_ROWS, {}).get(entry_id, {})


def issue_id(entry_id: str, check: str) -> str:
    """Return the id of the issue of one check."""
    return f"{entry_id}_{check}"


@callback
def _counts(hass: HomeAssistant, entry_id: str, check: str, *, is_wrong: bool, at_once: bool) -> bool:
    """Return whether a check has had the same result often enough in a row to count."""
    streaks = hass.data.setdefault(_STREAKS, {}).setdefault(entry_id, {})
    before = streaks.get(check, 0)
    streak = max(before, 0) + 1 if is_wrong else min(before, 0) - 1
    streaks[check] = streak
    if check == _OFFLINE:
        return at_once or not is_wrong
    return at_once or check in _AT_ONCE or streak >= BAD_POLLS or streak <= -GOOD_POLLS


@callback
def _create(hass: HomeAssistant, entry: ConfigEntry[Any], row: CheckResult, *, at_once: bool) -> None:
    """Create or change the issue of a row; repeating it is free, and polls may change it only so often."""
    texts = async_get_cached_translations(hass, hass.config.language, "selector", DOMAIN)
    words_shown = {"name": entry.title, "problem": words(texts, "problem", row.reason)}
    known = ir.async_get(hass).async_get_issue(DOMAIN, issue_id(entry.entry_id, row.check))
    is_same = known is not None and known.active and known.translation_placeholders == words_shown
    is_alarm = row.reason in _ALARMS
    if not is_same and not at_once and not _bucket(hass, entry.entry_id, row.check, is_alarm=is_alarm).take():
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id(entry.entry_id, row.check),
        is_fixable=True,
        severity=_SEVERITIES[row.status],
        translation_key=row.reason if row.reason == "host_key_changed" else "check",
        translation_placeholders=words_shown,
        # Every user may read this: the fix flow of an administrator looks the command up by these two.
        data={"entry_id": entry.entry_id, "check": row.check},
    )


@callback
def _bucket(hass: HomeAssistant, entry_id: str, check: str, *, is_alarm: bool) -> Bucket:
    """Return the limit on how often polls change the issue of a check; an alarm may be shown again soon."""
    buckets = hass.data.setdefault(_BUCKETS, {}).setdefault(entry_id, {})
    return buckets.setdefault(check, Bucket(*(ALARM_WRITES if is_alarm else ISSUE_WRITES)))
