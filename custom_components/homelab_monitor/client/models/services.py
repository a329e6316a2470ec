"""Service units."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Age, Line

UNSETTLED_STATES = frozenset({"activating", "deactivating"})
"""Transitional states: whether a unit that had failed is well is not known yet."""
RUNNING_STATES = frozenset({"active", "reloading", "refreshing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One monitored service unit (in systemd's terms)."""

    name: str
    active_state: str
    description: Line = ""
    load_state: str = "loaded"
    sub_state: str | None = None
    origin: str | None = None
    result: str | None = None
    exit_status: int | None = None
    restarts: int | None = None
    main_pid: int | None = None
    memory_bytes: int | None = None
    active_since_seconds: Age | None = None
    guest_uid: int | None = None
    """Its owner, if that is another user of the host, who can end it or let it fail at will."""

    @property
    def speaks_for_host(self) -> bool:
        """Return whether its failure counts for the host: that of another user's service does not."""
        return self.guest_uid is None

    @property
    def template(self) -> str:
        """Return the template that it is an instance of (systemd.unit(5)), "" if it is none."""
        name, at, instance = self.name.partition("@")
        return f"{name}@.{instance.rpartition('.')[2]}" if at and not instance.startswith(".") else ""

    @property
    def has_failed(self) -> bool:
        """Return whether it has failed."""
        return self.active_state == "failed"

    @property
    def is_unsettled(self) -> bool:
        """Return whether it is being started or stopped; one that failed may fail again."""
        return self.active_state in UNSETTLED_STATES

    @property
    def is_running(self) -> bool:
        """Return whether it is active."""
        return self.active_state in RUNNING_STATES

    @property
    def has_ended_well(self) -> bool:
        """Return whether a job ended without an error; also true after a reboot, before it has run."""
        return self.active_state == "inactive" and self.load_state == "loaded" and self.result == "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services by state, and the monitored ones in full."""

    counts: Mapping[str, int]
    units: tuple[Service, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Return how many have failed."""
        return self.counts.get("failed", 0)

    @property
    def active(self) -> int:
        """Return how many are active."""
        return self.counts.get("active", 0)

    @property
    def inactive(self) -> int:
        """Return how many are not active and have not failed."""
        return self.counts.get("inactive", 0)
