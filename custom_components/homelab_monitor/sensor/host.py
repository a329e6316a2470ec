"""The sensors of the machine as a whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory

from ..client.checks.report import CheckStatus, Report
from ..client.models import (
    Containers,
    Cpu,
    FailedLogins,
    Interfaces,
    Load,
    Memory,
    Pressure,
    PressureStall,
    Security,
    Sensors,
    Services,
    Updates,
    Uptime,
)
from ..client.tracking.rates import CpuRates
from ..entity import always
from ..state import HostState
from ..subjects import HOST
from .descriptions import (
    AVERAGE,
    CELSIUS,
    COUNT,
    GIGAHERTZ,
    MILLISECONDS,
    PERCENT,
    SIZE,
    STALL,
    HomelabSensorDescription,
    PartReader,
    measured,
)

# ---------------------------------------------------------------- readers of the host's state


@dataclass(frozen=True, slots=True)
class _Part[PartT]:
    """One part of what a host tells; a row names its field by attribute, so that mypy sees one that is misspelt."""

    of: Callable[[HostState], PartT | None]
    """The part, None while it is not there."""

    def read[ValueT](self, value_fn: Callable[[PartT], ValueT | None]) -> PartReader[PartT, ValueT]:
        """Return the reader of one value of the part."""
        return PartReader(self.of, value_fn)

    def is_told(self, state: HostState) -> bool:
        """Return whether the host has the part."""
        return self.of(state) is not None


_CPU: Final = _Part[Cpu](lambda state: state.snapshot.sections.cpu)
_CPU_RATES: Final = _Part[CpuRates](lambda state: state.rates.cpu)
_MEMORY: Final = _Part[Memory](lambda state: state.snapshot.sections.memory)
_LOAD: Final = _Part[Load](lambda state: state.snapshot.sections.load)
_PRESSURE: Final = _Part[Pressure](lambda state: state.snapshot.sections.pressure)
_UPTIME: Final = _Part[Uptime](lambda state: state.snapshot.sections.uptime)
_SENSORS: Final = _Part[Sensors](lambda state: state.snapshot.sections.sensors)
_SERVICES: Final = _Part[Services](lambda state: state.snapshot.sections.services)
_CONTAINERS: Final = _Part[Containers](lambda state: state.snapshot.sections.containers)
_INTERFACES: Final = _Part[Interfaces](lambda state: state.snapshot.sections.interfaces)
_UPDATES: Final = _Part[Updates](lambda state: state.snapshot.sections.updates)
_SECURITY: Final = _Part[Security](lambda state: state.snapshot.sections.security)
_FAILED_LOGINS: Final = _Part(_SECURITY.read(lambda security: security.failed_logins))
_FAIL2BAN: Final = _Part(_SECURITY.read(lambda security: security.fail2ban))


def _stall(
    key: str, stall_fn: Callable[[Pressure], PressureStall | None], share_fn: Callable[[PressureStall], float | None]
) -> HomelabSensorDescription[HostState]:
    """Return the row of one pressure: the share of the last minute, which is long enough to be calm."""
    stall = _Part(_PRESSURE.read(stall_fn))
    return measured(HOST, key, STALL, enabled=False, diagnostic=True, value_fn=stall.read(share_fn))


def _boot_time(state: HostState) -> datetime | None:
    """Return when the host booted."""
    booted = state.snapshot.boot_time
    return None if booted is None else datetime.fromtimestamp(booted, UTC)


def _failed_logins_judged(part: FailedLogins) -> Mapping[str, Any]:
    """Return why the number is known, unknown, or less than it may have been."""
    return {"reason": part.reason, "lower_bound": part.lower_bound}


def _lists_refreshed(state: HostState) -> datetime | None:
    """Return when the host last learnt of new packages, by our own clock."""
    refreshed = state.snapshot.lists_time
    return None if refreshed is None else datetime.fromtimestamp(refreshed, UTC)


TEST_RESULTS = [CheckStatus.OK.value, CheckStatus.AMBER.value, CheckStatus.RED.value]
_LAST_TEST: Final = _Part[Report](lambda state: state.last_test)


def _checks(test: Report) -> Mapping[str, Any]:
    """Return when it was, and what each check said: no word of the host, as every user sees this."""
    tested = datetime.fromtimestamp(test.at, UTC).isoformat(timespec="seconds")
    return {"tested": tested, "checks": {row.check: row.status.value for row in test.rows}}


_PRIMARY_ADDRESS: Final = _INTERFACES.read(lambda interfaces: interfaces.primary_address)
"""The address that the host is reached at by default."""

# ---------------------------------------------------------------- the table

HOST_SENSORS: tuple[HomelabSensorDescription[HostState], ...] = (
    # A share of time needs two readings; its entity is there from the first.
    measured(
        HOST, "cpu_usage", PERCENT, exists_fn=_CPU.is_told, value_fn=_CPU_RATES.read(lambda rates: rates.usage_percent)
    ),
    measured(HOST, "cpu_temperature", CELSIUS, value_fn=_SENSORS.read(lambda sensors: sensors.cpu_celsius)),
    measured(HOST, "load1", AVERAGE, value_fn=_LOAD.read(lambda load: load.load1)),
    measured(HOST, "load5", AVERAGE, enabled=False, value_fn=_LOAD.read(lambda load: load.load5)),
    measured(HOST, "load15", AVERAGE, enabled=False, value_fn=_LOAD.read(lambda load: load.load15)),
    measured(
        HOST,
        "memory_usage",
        PERCENT,
        threshold_fn=lambda options: options.memory_threshold,
        value_fn=_MEMORY.read(lambda memory: memory.used_percent),
    ),
    measured(HOST, "memory_used", SIZE, enabled=False, value_fn=_MEMORY.read(lambda memory: memory.used_bytes)),
    measured(
        HOST, "memory_available", SIZE, enabled=False, value_fn=_MEMORY.read(lambda memory: memory.available_bytes)
    ),
    measured(HOST, "swap_usage", PERCENT, value_fn=_MEMORY.read(lambda memory: memory.swap_used_percent)),
    HomelabSensorDescription(
        key="boot_time",
        subject=HOST,
        device_class=SensorDeviceClass.UPTIME,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=_UPTIME.is_told,
        value_fn=_boot_time,
    ),
    HomelabSensorDescription(
        key="primary_address",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=lambda state: _PRIMARY_ADDRESS(state) is not None,
        value_fn=_PRIMARY_ADDRESS,
    ),
    measured(HOST, "failed_services", COUNT, value_fn=_SERVICES.read(lambda services: services.failed)),
    measured(HOST, "pending_updates", COUNT, value_fn=_UPDATES.read(lambda updates: updates.pending)),
    measured(HOST, "security_updates", COUNT, value_fn=_UPDATES.read(lambda updates: updates.security)),
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
        HOST,
        "failed_logins",
        COUNT,
        enabled=False,
        diagnostic=True,
        exists_fn=_FAILED_LOGINS.is_told,
        attributes_fn=_FAILED_LOGINS.read(_failed_logins_judged),
        value_fn=_FAILED_LOGINS.read(lambda logins: logins.count),
    ),
    measured(
        HOST,
        "fail2ban_bans",
        COUNT,
        enabled=False,
        diagnostic=True,
        value_fn=_FAIL2BAN.read(lambda fail2ban: fail2ban.bans),
    ),
    measured(
        HOST,
        "active_services",
        COUNT,
        enabled=False,
        diagnostic=True,
        value_fn=_SERVICES.read(lambda services: services.active),
    ),
    measured(
        HOST,
        "inactive_services",
        COUNT,
        enabled=False,
        diagnostic=True,
        value_fn=_SERVICES.read(lambda services: services.inactive),
    ),
    measured(HOST, "running_containers", COUNT, value_fn=_CONTAINERS.read(lambda containers: containers.running)),
    measured(HOST, "unhealthy_containers", COUNT, value_fn=_CONTAINERS.read(lambda containers: containers.unhealthy)),
    measured(
        HOST,
        "containers",
        COUNT,
        enabled=False,
        diagnostic=True,
        value_fn=_CONTAINERS.read(lambda containers: containers.total),
    ),
    measured(
        HOST, "processes", COUNT, enabled=False, diagnostic=True, value_fn=_LOAD.read(lambda load: load.processes)
    ),
    measured(
        HOST,
        "cpu_iowait",
        PERCENT,
        enabled=False,
        diagnostic=True,
        exists_fn=_CPU.is_told,
        value_fn=_CPU_RATES.read(lambda rates: rates.iowait_percent),
    ),
    measured(
        HOST,
        "cpu_frequency",
        GIGAHERTZ,
        enabled=False,
        diagnostic=True,
        value_fn=_CPU.read(lambda cpu: cpu.frequency_hz),
    ),
    measured(
        HOST,
        "poll_duration",
        MILLISECONDS,
        enabled=False,
        diagnostic=True,
        exists_fn=always,
        value_fn=lambda state: state.poll_seconds,
    ),
    HomelabSensorDescription(
        key="last_test",
        subject=HOST,
        device_class=SensorDeviceClass.ENUM,
        options=TEST_RESULTS,
        entity_category=EntityCategory.DIAGNOSTIC,
        # What stands in the way is of interest most while the host is offline.
        stays_available=True,
        exists_fn=_LAST_TEST.is_told,
        attributes_fn=_LAST_TEST.read(_checks),
        moment_fn=_LAST_TEST.read(lambda test: test.at),
        value_fn=_LAST_TEST.read(lambda test: test.result.value),
    ),
    _stall("cpu_pressure_some", lambda pressure: pressure.cpu, lambda stall: stall.some_avg60),
    _stall("memory_pressure_some", lambda pressure: pressure.memory, lambda stall: stall.some_avg60),
    _stall("memory_pressure_full", lambda pressure: pressure.memory, lambda stall: stall.full_avg60),
    _stall("io_pressure_some", lambda pressure: pressure.io, lambda stall: stall.some_avg60),
    _stall("io_pressure_full", lambda pressure: pressure.io, lambda stall: stall.full_avg60),
)
