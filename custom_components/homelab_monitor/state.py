"""The state of one host: all that entities read, and how far to believe it."""

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
    """Whether a host can be believed to be there."""

    STARTING = "starting"
    """Nothing was heard of the host yet, nor is anything remembered."""
    ONLINE = "online"
    LATE = "late"
    OFFLINE = "offline"
    SUSPENDED = "suspended"


ONLINE = frozenset({HostStatus.ONLINE, HostStatus.LATE})
"""Where the last good values may be shown: the one answer to whether a host is online."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """All that entities read: the last good values, and how far to believe them.

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
    happenings: tuple[HostEvent, ...] = ()
    """What happened since the state before this one."""
    last_test: Report | None = None
    """The last whole capability test, None where there was none yet."""
    is_held: bool = False
    """Whether nobody listens yet: a host that was offline is told to be back when automations have begun."""
    last_reason: str = ""
    """Why the host was offline when it was last looked at before this run, as the key of an error."""
    watched_until: datetime | None = None
    """Until when automations could see an absence that began before this run; None: not known."""
    unexpected_until: datetime | None = None
    """Until when they could see it as one that somebody minds; None: never, or not known."""
    watched_again: datetime | None = None
    """Since when they can see that absence again."""
    may_be_off: bool = False
    """Whether nobody minds when the host is off."""

    @property
    def is_online(self) -> bool:
        """Return whether the values may be shown."""
        return self.status in ONLINE

    @property
    def is_known(self) -> bool:
        """Return whether anybody knows if the host is there."""
        return self.status is not HostStatus.STARTING

    @property
    def is_shown_online(self) -> bool:
        """Return whether people and automations are told that the host is online."""
        return self.is_online and not self.is_held

    @property
    def present_problems(self) -> tuple[Problem, ...]:
        """Return what is wrong now: of a host that is off that alone, and nothing where it may be."""
        if self.is_online:
            return self.problems
        return () if self.may_be_off or not self.is_known else (Problem(kind="offline"),)
