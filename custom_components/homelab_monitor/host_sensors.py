"""The sensors of the machine as a whole."""

from collections.abc import Callable
from datetime import UTC, datetime

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory

from .entity import always
from .quantities import (
    AVERAGE,
    CELSIUS,
    COUNT,
    GIGAHERTZ,
    MILLISECONDS,
    PERCENT,
    SIZE,
    STALL,
    HomelabSensorDescription,
    measured,
)
from .state import HostState
from .subjects import HOST

# ---------------------------------------------------------------- readers of the host's state


def _field(section: str, field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one field of a section, None while the section is not there."""

    def read(state: HostState) -> float | None:
        return getattr(getattr(state.snapshot.sections, section), field, None)

    return read


def _has(section: str) -> Callable[[HostState], bool]:
    """Return whether a host has a section."""
    return lambda state: getattr(state.snapshot.sections, section) is not None


def _share(field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one share of CPU time."""
    return lambda state: getattr(state.rates.cpu, field, None)


def _count(name: str) -> Callable[[HostState], int | None]:
    """Return the reader of how many services are in a state."""

    def read(state: HostState) -> int | None:
        services = state.snapshot.sections.services
        return None if services is None else services.counts.get(name, 0)

    return read


def _stall(resource: str, kind: str) -> Callable[[HostState], float | None]:
    """Return the reader of one pressure: the share of the last minute, which is long enough to be calm."""

    def read(state: HostState) -> float | None:
        stall = getattr(state.snapshot.sections.pressure, resource, None)
        return getattr(stall, f"{kind}_avg60", None)

    return read


def _boot_time(state: HostState) -> datetime | None:
    """Return when the host booted."""
    booted = state.snapshot.boot_time
    return None if booted is None else datetime.fromtimestamp(booted, UTC)


def _security(part: str, field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one number about a host's protection, None while it is not known."""

    def read(state: HostState) -> float | None:
        return getattr(getattr(state.snapshot.sections.security, part, None), field, None)

    return read


def _lists_refreshed(state: HostState) -> datetime | None:
    """Return when the host last learnt of new packages, by our own clock."""
    updates = state.snapshot.sections.updates
    if updates is None or updates.metadata_age_seconds is None:
        return None
    return datetime.fromtimestamp(state.snapshot.ages["updates"] - updates.metadata_age_seconds, UTC)


def _primary_address(state: HostState) -> str | None:
    """Return the address that the host is reached at by default."""
    interfaces = state.snapshot.sections.interfaces
    return None if interfaces is None else interfaces.primary_address


# ---------------------------------------------------------------- the table

HOST_SENSORS: tuple[HomelabSensorDescription[HostState], ...] = (
    # A share of time needs two readings; its entity is there from the first.
    measured(HOST, "cpu_usage", PERCENT, exists_fn=_has("cpu"), value_fn=_share("usage_percent")),
    measured(HOST, "cpu_temperature", CELSIUS, value_fn=_field("sensors", "cpu_celsius")),
    measured(HOST, "load1", AVERAGE, value_fn=_field("load", "load1")),
    measured(HOST, "load5", AVERAGE, enabled=False, value_fn=_field("load", "load5")),
    measured(HOST, "load15", AVERAGE, enabled=False, value_fn=_field("load", "load15")),
    measured(
        HOST,
        "memory_usage",
        PERCENT,
        threshold_fn=lambda options: options.memory_threshold,
        value_fn=_field("memory", "used_percent"),
    ),
    measured(HOST, "memory_used", SIZE, enabled=False, value_fn=_field("memory", "used_bytes")),
    measured(HOST, "memory_available", SIZE, enabled=False, value_fn=_field("memory", "available_bytes")),
    measured(HOST, "swap_usage", PERCENT, value_fn=_field("memory", "swap_used_percent")),
    HomelabSensorDescription(
        key="boot_time",
        subject=HOST,
        device_class=SensorDeviceClass.UPTIME,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=_has("uptime"),
        value_fn=_boot_time,
    ),
    HomelabSensorDescription(
        key="primary_address",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=lambda state: _primary_address(state) is not None,
        value_fn=_primary_address,
    ),
    measured(HOST, "failed_services", COUNT, value_fn=_count("failed")),
    measured(HOST, "pending_updates", COUNT, value_fn=_field("updates", "pending")),
    measured(HOST, "security_updates", COUNT, value_fn=_field("updates", "security")),
    HomelabSensorDescription(
        key="package_lists",
        subject=HOST,
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=lambda state: _lists_refreshed(state) is not None,
        value_fn=_lists_refreshed,
    ),
    measured(
        HOST, "failed_logins", COUNT, enabled=False, diagnostic=True, value_fn=_security("failed_logins", "count")
    ),
    measured(HOST, "fail2ban_bans", COUNT, enabled=False, diagnostic=True, value_fn=_security("fail2ban", "bans")),
    measured(HOST, "active_services", COUNT, enabled=False, diagnostic=True, value_fn=_count("active")),
    measured(HOST, "inactive_services", COUNT, enabled=False, diagnostic=True, value_fn=_count("inactive")),
    measured(HOST, "running_containers", COUNT, value_fn=_field("containers", "running")),
    measured(HOST, "unhealthy_containers", COUNT, value_fn=_field("containers", "unhealthy")),
    measured(HOST, "containers", COUNT, enabled=False, diagnostic=True, value_fn=_field("containers", "total")),
    measured(HOST, "processes", COUNT, enabled=False, diagnostic=True, value_fn=_field("load", "processes")),
    measured(
        HOST,
        "cpu_iowait",
        PERCENT,
        enabled=False,
        diagnostic=True,
        exists_fn=_has("cpu"),
        value_fn=_share("iowait_percent"),
    ),
    measured(HOST, "cpu_frequency", GIGAHERTZ, enabled=False, diagnostic=True, value_fn=_field("cpu", "frequency_hz")),
    measured(
        HOST,
        "poll_duration",
        MILLISECONDS,
        enabled=False,
        diagnostic=True,
        exists_fn=always,
        value_fn=lambda state: state.poll_seconds,
    ),
    *(
        measured(
            HOST,
            f"{resource}_pressure_{kind}",
            STALL,
            enabled=False,
            diagnostic=True,
            value_fn=_stall(resource, kind),
        )
        for resource, kind in (
            ("cpu", "some"),
            ("memory", "some"),
            ("memory", "full"),
            ("io", "some"),
            ("io", "full"),
        )
    ),
)
