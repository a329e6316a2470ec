"""What a capability test found: one row per check, kept as plain JSON in the store.

The words for people are in the translations; here are only their keys, and what fills them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from ..errors import HomelabError
from ..limits import EPOCH_LIMIT
from .host_facts import Family


class CheckStatus(StrEnum):
    """What a check says."""

    OK = "ok"
    INFO = "info"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "unknown"
    """There was no answer to judge."""


BESIDES = frozenset({"updates_rule"})
"""Checks of something beside monitoring: what they find is to be repaired, but hinders nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `reason` is a key of the translations, `placeholders` fill it and are remote text."""

    status: CheckStatus
    reason: str
    placeholders: Mapping[str, str] = field(default_factory=dict)
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult(Verdict):
    """One row of the test."""

    check: str = field(kw_only=True)

    @classmethod
    def of(cls, check: str, verdict: Verdict) -> Self:
        """Return the row of a check."""
        return cls(verdict.status, verdict.reason, verdict.placeholders, verdict.remedy, check=check)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return {
            "check": self.check,
            "status": self.status.value,
            "reason": self.reason,
            "placeholders": dict(self.placeholders),
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One capability test: when (Unix seconds), how long it took, and a row per check."""

    rows: tuple[CheckResult, ...]
    at: float = 0.0
    seconds: float = 0.0
    family: Family = Family.OTHER
    error: HomelabError | None = field(default=None, compare=False, repr=False)
    """What ended the test early; it is not stored."""

    @property
    def hindrance(self) -> CheckResult | None:
        """Return the first red row of those that stand in the way of monitoring."""
        rows = (row for row in self.rows if row.status is CheckStatus.RED and row.check not in BESIDES)
        return next(rows, None)

    @property
    def result(self) -> CheckStatus:
        """Return the worst that a check says: red, amber, else ok."""
        found = {row.status for row in self.rows}
        return next((status for status in (CheckStatus.RED, CheckStatus.AMBER) if status in found), CheckStatus.OK)

    def row(self, check: str) -> CheckResult | None:
        """Return the row of one check."""
        return next((row for row in self.rows if row.check == check), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values; `restore_report` is its inverse."""
        return {
            "at": self.at,
            "seconds": self.seconds,
            "family": self.family.value,
            "rows": [row.as_dict() for row in self.rows],
        }


def restore_report(stored: Mapping[str, Any] | None) -> Report | None:
    """Return the report that `as_dict` made, None when there is none that can be read."""
    try:
        match stored:
            case {"at": at, "seconds": seconds, "family": family, "rows": list() as rows} if 0 <= at <= EPOCH_LIMIT:
                typed = tuple(_restore_row(row) for row in rows)
                return Report(rows=typed, at=float(at), seconds=float(seconds), family=Family(family))
    except KeyError, TypeError, ValueError, AttributeError, OverflowError:
        return None
    return None


def _restore_row(stored: Mapping[str, Any]) -> CheckResult:
    """Return one stored row; raise when it is none."""
    placeholders = {str(name): str(value) for name, value in stored["placeholders"].items()}
    remedy = stored["remedy"]
    verdict = Verdict(CheckStatus(stored["status"]), str(stored["reason"]), placeholders, remedy and str(remedy))
    return CheckResult.of(str(stored["check"]), verdict)
