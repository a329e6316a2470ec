"""The report of a capability test: one row per check, stored as plain JSON.

The texts are in the translations; here are only their keys and placeholders.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from mashumaro import field_options

from ..errors import HomelabError
from ..limits import EPOCH_LIMIT
from ..typed import UNTYPED, decoder, encoder
from .host_facts import Family


class CheckStatus(StrEnum):
    """The status of a check."""

    OK = "ok"
    INFO = "info"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "unknown"
    """There was no answer to evaluate."""


BESIDES = frozenset({"updates_rule"})
"""Checks of something beside monitoring: their findings have to be fixed, but do not prevent monitoring."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check: `reason` is a key of the translations, `placeholders` fill it and are remote text."""

    check: str = field(default="", kw_only=True)
    """The key of the check; the first field, as in the stored row."""
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
        return dict(encoder(CheckResult).encode(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One capability test: when (Unix seconds), how long it took, and a row per check."""

    at: float = 0.0
    seconds: float = 0.0
    family: Family = Family.OTHER
    rows: tuple[CheckResult, ...]
    error: HomelabError | None = field(
        default=None,
        compare=False,
        repr=False,
        metadata=field_options(serialize="omit", deserialize=lambda _: None),
    )
    """What ended the test early; it is not stored."""

    @property
    def hindrance(self) -> CheckResult | None:
        """Return the first red row of a check that monitoring depends on."""
        rows = (row for row in self.rows if row.status is CheckStatus.RED and row.check not in BESIDES)
        return next(rows, None)

    @property
    def result(self) -> CheckStatus:
        """Return the worst status of all checks: red, amber, else ok."""
        found = {row.status for row in self.rows}
        return next((status for status in (CheckStatus.RED, CheckStatus.AMBER) if status in found), CheckStatus.OK)

    def row(self, check: str) -> CheckResult | None:
        """Return the row of one check."""
        return next((row for row in self.rows if row.check == check), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values; `restore_report` is its inverse."""
        return dict(encoder(Report).encode(self))


def restore_report(stored: Mapping[str, Any] | None) -> Report | None:
    """Return the report that `as_dict` made, None if there is none or it cannot be read."""
    match stored:
        case {"at": _, "seconds": _, "family": _, "rows": list()}:
            with suppress(*UNTYPED):
                report: Report = decoder(Report).decode(stored)
                return report if 0 <= report.at <= EPOCH_LIMIT else None
    return None
