"""Sensors: one typed table per subject, and the class that writes states sparingly."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
import time
from typing import Any, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    PERCENTAGE,
    REVOLUTIONS_PER_MINUTE,
    EntityCategory,
    UnitOfDataRate,
    UnitOfFrequency,
    UnitOfInformation,
    UnitOfPower,
    UnitOfTemperature,
    UnitOfTime,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .client.models import Fan, Filesystem, Gpu, Service, Temperature
from .client.rates import DiskRates, InterfaceRates
from .coordinator import HomelabConfigEntry, HomelabCoordinator, HostState
from .entity import HomelabDescription, HomelabEntity, always, async_add_items
from .settings import HostOptions
from .subjects import DISK, FAN, FILESYSTEM, GPU, HOST, INTERFACE, SERVICE, TEMPERATURE, Subject

PARALLEL_UPDATES = 0

ALWAYS_WRITTEN_SECONDS = 300.0
"""A value is written at least this often, however little it moves."""
SAME_MOMENT = timedelta(seconds=1)
"""A boot time that is read again moves by what the network takes."""

ACTIVE_STATES = [
    "active",
    "reloading",
    "refreshing",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
]
"""Every active state that systemd knows (systemd(1), `systemctl --state=help`)."""


@dataclass(frozen=True, kw_only=True)
class HomelabSensorDescription[ItemT](SensorEntityDescription, HomelabDescription[ItemT]):
    """One row: what a sensor shows of its item."""

    deadband: float = 0.0
    """Smallest change that is written, in the native unit: at most half the displayed step."""

    threshold_fn: Callable[[HostOptions], float] | None = None
    """The configured limit whose crossing is always written."""

    value_fn: Callable[[ItemT], StateType | datetime]
    """The value of the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How one kind of value is shown, and the smallest change of it that is worth a row in the database."""

    unit: str | None = None
    shown_unit: str | None = None
    device_class: SensorDeviceClass | None = None
    precision: int | None = None
    deadband: float = 0.0


PERCENT = Quantity(unit=PERCENTAGE, precision=0, deadband=0.5)
STALL = Quantity(unit=PERCENTAGE, precision=1, deadband=0.05)
AVERAGE = Quantity(precision=1, deadband=0.05)
COUNT = Quantity()
CELSIUS = Quantity(
    unit=UnitOfTemperature.CELSIUS, device_class=SensorDeviceClass.TEMPERATURE, precision=0, deadband=0.5
)
WATTS = Quantity(unit=UnitOfPower.WATT, device_class=SensorDeviceClass.POWER, precision=0, deadband=0.5)
RPM = Quantity(unit=REVOLUTIONS_PER_MINUTE, precision=-1, deadband=5)
SIZE = Quantity(
    unit=UnitOfInformation.BYTES,
    shown_unit=UnitOfInformation.GIBIBYTES,
    device_class=SensorDeviceClass.DATA_SIZE,
    precision=1,
    deadband=0.05 * 1024**3,
)
RATE = Quantity(
    unit=UnitOfDataRate.BYTES_PER_SECOND,
    shown_unit=UnitOfDataRate.KILOBYTES_PER_SECOND,
    device_class=SensorDeviceClass.DATA_RATE,
    precision=0,
    deadband=500,
)
GIGAHERTZ = Quantity(
    unit=UnitOfFrequency.HERTZ,
    shown_unit=UnitOfFrequency.GIGAHERTZ,
    device_class=SensorDeviceClass.FREQUENCY,
    precision=1,
    deadband=0.05e9,
)
MEGAHERTZ = Quantity(
    unit=UnitOfFrequency.HERTZ,
    shown_unit=UnitOfFrequency.MEGAHERTZ,
    device_class=SensorDeviceClass.FREQUENCY,
    precision=0,
    deadband=0.5e6,
)
MILLISECONDS = Quantity(
    unit=UnitOfTime.SECONDS,
    shown_unit=UnitOfTime.MILLISECONDS,
    device_class=SensorDeviceClass.DURATION,
    precision=0,
    deadband=0.0005,
)


def _measured[ItemT](  # noqa: PLR0913 - a row says what is special about it, and only that
    subject: Subject[ItemT],
    key: str,
    quantity: Quantity,
    *,
    enabled: bool = True,
    diagnostic: bool = False,
    threshold_fn: Callable[[HostOptions], float] | None = None,
    enabled_fn: Callable[[ItemT], bool] = always,
    exists_fn: Callable[[ItemT], bool] | None = None,
    value_fn: Callable[[ItemT], float | None],
) -> HomelabSensorDescription[ItemT]:
    """Return the row of a measured value; without an `exists_fn` it exists once it has been read."""
    return HomelabSensorDescription(
        key=key,
        subject=subject,
        device_class=quantity.device_class,
        native_unit_of_measurement=quantity.unit,
        suggested_unit_of_measurement=quantity.shown_unit,
        suggested_display_precision=quantity.precision,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC if diagnostic else None,
        entity_registry_enabled_default=enabled,
        deadband=quantity.deadband,
        threshold_fn=threshold_fn,
        enabled_fn=enabled_fn,
        exists_fn=exists_fn or (lambda item: value_fn(item) is not None),
        value_fn=value_fn,
    )


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


def _active_state(unit: Service) -> str | None:
    """Return the unit's state; a word that systemd does not document is unknown."""
    return unit.active_state if unit.active_state in ACTIVE_STATES else None


# ---------------------------------------------------------------- the tables

HOST_SENSORS: tuple[HomelabSensorDescription[HostState], ...] = (
    # A share of time needs two readings; its entity is there from the first.
    _measured(HOST, "cpu_usage", PERCENT, exists_fn=_has("cpu"), value_fn=_share("usage_percent")),
    _measured(HOST, "cpu_temperature", CELSIUS, value_fn=_field("sensors", "cpu_celsius")),
    _measured(HOST, "load1", AVERAGE, value_fn=_field("load", "load1")),
    _measured(HOST, "load5", AVERAGE, enabled=False, value_fn=_field("load", "load5")),
    _measured(HOST, "load15", AVERAGE, enabled=False, value_fn=_field("load", "load15")),
    _measured(
        HOST,
        "memory_usage",
        PERCENT,
        threshold_fn=lambda options: options.memory_threshold,
        value_fn=_field("memory", "used_percent"),
    ),
    _measured(HOST, "memory_used", SIZE, enabled=False, value_fn=_field("memory", "used_bytes")),
    _measured(HOST, "memory_available", SIZE, enabled=False, value_fn=_field("memory", "available_bytes")),
    _measured(HOST, "swap_usage", PERCENT, value_fn=_field("memory", "swap_used_percent")),
    HomelabSensorDescription(
        key="boot_time",
        subject=HOST,
        device_class=SensorDeviceClass.UPTIME,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=_has("uptime"),
        value_fn=_boot_time,
    ),
    _measured(HOST, "failed_services", COUNT, value_fn=_count("failed")),
    _measured(HOST, "active_services", COUNT, enabled=False, diagnostic=True, value_fn=_count("active")),
    _measured(HOST, "inactive_services", COUNT, enabled=False, diagnostic=True, value_fn=_count("inactive")),
    _measured(HOST, "processes", COUNT, enabled=False, diagnostic=True, value_fn=_field("load", "processes")),
    _measured(
        HOST,
        "cpu_iowait",
        PERCENT,
        enabled=False,
        diagnostic=True,
        exists_fn=_has("cpu"),
        value_fn=_share("iowait_percent"),
    ),
    _measured(HOST, "cpu_frequency", GIGAHERTZ, enabled=False, diagnostic=True, value_fn=_field("cpu", "frequency_hz")),
    _measured(
        HOST,
        "poll_duration",
        MILLISECONDS,
        enabled=False,
        diagnostic=True,
        exists_fn=always,
        value_fn=lambda state: state.poll_seconds,
    ),
    *(
        _measured(
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

FILESYSTEM_SENSORS: tuple[HomelabSensorDescription[Filesystem], ...] = (
    _measured(
        FILESYSTEM,
        "usage",
        PERCENT,
        threshold_fn=lambda options: options.disk_threshold,
        value_fn=lambda item: item.used_percent,
    ),
    _measured(FILESYSTEM, "used", SIZE, enabled=False, value_fn=lambda item: item.used_bytes),
    _measured(FILESYSTEM, "available", SIZE, enabled=False, value_fn=lambda item: item.available_bytes),
    _measured(
        FILESYSTEM, "inodes", PERCENT, enabled=False, diagnostic=True, value_fn=lambda item: item.inodes_used_percent
    ),
)

INTERFACE_SENSORS: tuple[HomelabSensorDescription[InterfaceRates], ...] = (
    _measured(
        INTERFACE,
        "receive",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        exists_fn=always,
        value_fn=lambda item: item.receive_bytes_per_second,
    ),
    _measured(
        INTERFACE,
        "transmit",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        exists_fn=always,
        value_fn=lambda item: item.transmit_bytes_per_second,
    ),
)

DISK_SENSORS: tuple[HomelabSensorDescription[DiskRates], ...] = (
    _measured(DISK, "read", RATE, enabled=False, exists_fn=always, value_fn=lambda item: item.read_bytes_per_second),
    _measured(
        DISK, "written", RATE, enabled=False, exists_fn=always, value_fn=lambda item: item.written_bytes_per_second
    ),
    _measured(DISK, "busy", PERCENT, enabled=False, exists_fn=always, value_fn=lambda item: item.busy_percent),
)

GPU_SENSORS: tuple[HomelabSensorDescription[Gpu], ...] = (
    _measured(GPU, "usage", PERCENT, value_fn=lambda item: item.usage_percent),
    _measured(GPU, "memory_usage", PERCENT, value_fn=lambda item: item.memory_used_percent),
    _measured(GPU, "temperature", CELSIUS, value_fn=lambda item: item.temperature_celsius),
    _measured(GPU, "power", WATTS, value_fn=lambda item: item.power_watts),
    _measured(GPU, "memory_used", SIZE, enabled=False, value_fn=lambda item: item.memory_used_bytes),
    _measured(GPU, "fan", PERCENT, enabled=False, diagnostic=True, value_fn=lambda item: item.fan_percent),
    _measured(GPU, "clock", MEGAHERTZ, enabled=False, diagnostic=True, value_fn=lambda item: item.clock_hz),
)

SERVICE_SENSORS: tuple[HomelabSensorDescription[Service], ...] = (
    HomelabSensorDescription(
        key="state",
        subject=SERVICE,
        device_class=SensorDeviceClass.ENUM,
        options=ACTIVE_STATES,
        value_fn=_active_state,
    ),
)

TEMPERATURE_SENSORS: tuple[HomelabSensorDescription[Temperature], ...] = (
    _measured(TEMPERATURE, "temperature", CELSIUS, enabled=False, diagnostic=True, value_fn=lambda item: item.celsius),
)

FAN_SENSORS: tuple[HomelabSensorDescription[Fan], ...] = (
    _measured(FAN, "speed", RPM, enabled=False, diagnostic=True, value_fn=lambda item: item.rpm),
)

SENSORS: tuple[tuple[HomelabSensorDescription[Any], ...], ...] = (
    HOST_SENSORS,
    FILESYSTEM_SENSORS,
    INTERFACE_SENSORS,
    DISK_SENSORS,
    GPU_SENSORS,
    SERVICE_SENSORS,
    TEMPERATURE_SENSORS,
    FAN_SENSORS,
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of a host."""
    async_add_items(entry, "sensor", SENSORS, HomelabSensor[Any], async_add_entities)


class HomelabSensor[ItemT](HomelabEntity[ItemT], SensorEntity):
    """One value of one item, written when it says something new."""

    entity_description: HomelabSensorDescription[ItemT]

    def __init__(
        self, coordinator: HomelabCoordinator, description: HomelabSensorDescription[ItemT], item_id: str
    ) -> None:
        """Take the first value."""
        super().__init__(coordinator, description, item_id)
        self._written_at = time.monotonic()
        self._was_available = self.available
        self._attr_native_value = self._value()

    def _value(self) -> StateType | datetime:
        """Return the item's value now."""
        item = self.item
        return None if item is None else self.entity_description.value_fn(item)

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write the state unless it moved too little to be worth a row in the database."""
        value, available, now = self._value(), self.available, time.monotonic()
        old, self._was_available, changed = self._attr_native_value, available, available != self._was_available
        is_due = now - self._written_at >= ALWAYS_WRITTEN_SECONDS
        if not changed and not is_due and not self._is_news(old, value):
            return
        self._attr_native_value = value
        self._written_at = now
        self.async_write_ha_state()

    def _is_news(self, old: object, value: object) -> bool:
        """Return whether a value differs enough from the one that was written."""
        if isinstance(old, datetime) and isinstance(value, datetime):
            return abs(value - old) >= SAME_MOMENT
        if not isinstance(old, (int, float)) or not isinstance(value, (int, float)):
            return old != value
        # Idle and not idle are two things, whatever the size of the step.
        if (old == 0) != (value == 0):
            return True
        threshold_fn = self.entity_description.threshold_fn
        if threshold_fn and (old >= (limit := threshold_fn(self.coordinator.options))) != (value >= limit):
            return True
        return abs(value - old) >= max(self.entity_description.deadband, 1e-9)
