"""Service units."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services by state, and the chosen ones in full."""

    counts: Mapping[str, int]
    units: tuple[Service, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)
