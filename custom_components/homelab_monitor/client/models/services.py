"""Service units."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UNSETTLED_STATES = frozenset({"activating", "deactivating"})
"""On the way to another state: nobody knows yet whether a unit that had failed is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service unit that the user cares about (systemd words)."""

    name: str
    active_state: str
    description: str = ""
    load_state: str = "loaded"
    sub_state: str | None = None
    origin: str | None = None
    result: str | None = None
    exit_status: int | None = None
    restarts: int | None = None
    main_pid: int | None = None
    memory_bytes: int | None = None
    active_since_seconds: float | None = None

    @property
    def has_failed(self) -> bool:
        """Return whether it has failed."""
        return self.active_state == "failed"

    @property
    def is_unsettled(self) -> bool:
        """Return whether it is being started or stopped; one that failed may well fail again."""
        return self.active_state in UNSETTLED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services by state, and the chosen ones in full."""

    counts: Mapping[str, int]
    units: tuple[Service, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)
