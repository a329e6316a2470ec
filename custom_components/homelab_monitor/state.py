"""The state of one host: all that entities read, and how reliable it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from homeassistant.util import dt as dt_util

from .client.checks.report import Report
from .client.errors import HomelabError
from .client.probe.snapshot import Snapshot
from .client.tracking.events import HostEvent
from .client.tracking.problems import Problem
from .client.tracking.rates import Rates


class HostStatus(StrEnum):
    """Whether a host counts as online."""

    STARTING = "starting"
    """The host has not answered yet, and no earlier state is stored."""
    ONLINE = "online"
    LATE = "late"
    OFFLINE = "offline"
    SUSPENDED = "suspended"


ONLINE = frozenset({HostStatus.ONLINE, HostStatus.LATE})
"""Where the last good values may be shown: the only definition of whether a host is online."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """All that entities read: the last good values, and how reliable they are.

    `items` maps a kind of item and its lasting id to its value; `since` is when the status began.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    rates: Rates = field(default_factory=Rates)
    items: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    status: HostStatus = HostStatus.STARTING
    error: HomelabError | None = None
    since: datetime = field(default_factory=dt_util.utcnow)
    poll_seconds: float | None = None
    problems: tuple[Problem, ...] = ()
    events: tuple[HostEvent, ...] = ()
    """What happened since the previous state."""
    last_test: Report | None = None
    """The last whole capability test, None before the first."""
    is_held: bool = False
    """Whether automations do not listen yet: the return of a host that was offline is reported when they do."""
    last_reason: str = ""
    """Why the host was offline at the end of the previous run, as the key of an error."""
    watched_until: datetime | None = None
    """Until when automations could see an absence that began before this run; None: not known."""
    unexpected_until: datetime | None = None
    """Until when they could see it as an unexpected absence; None: never, or not known."""
    watched_again: datetime | None = None
    """Since when they can see that absence again."""
    may_be_off: bool = False
    """Whether it is fine for the host to be off."""

    @property
    def is_online(self) -> bool:
        """Return whether the values may be shown."""
        return self.status in ONLINE

    @property
    def is_known(self) -> bool:
        """Return whether it is known if the host is online."""
        return self.status is not HostStatus.STARTING

    @property
    def is_shown_online(self) -> bool:
        """Return whether people and automations see the host as online."""
        return self.is_online and not self.is_held

    @property
    def present_problems(self) -> tuple[Problem, ...]:
        """Return the current problems: only `offline` for a host that is off, and none where it may be off."""
        if self.is_online:
            return self.problems
        return () if self.may_be_off or not self.is_known else (Problem(kind="offline"),)
