"""Sensors: one typed table per subject, and the class that writes states sparingly."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
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

from .client.models import Fan, Filesystem, Gpu, PressureStall, Sections, Service, Temperature
from .client.rates import CpuRates, DiskRates, InterfaceRates
from .coordinator import HomelabConfigEntry, HomelabCoordinator, HostState
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .settings import HostOptions
from .subjects import DISK, FAN, FILESYSTEM, GPU, HOST, INTERFACE, SERVICE, TEMPERATURE

PARALLEL_UPDATES = 0

ALWAYS_WRITTEN_SECONDS = 300.0
"""A value is written at least this often, however little it moves."""

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


def _cpu(state: HostState) -> CpuRates | None:
    """Return the shares of CPU time."""
    return state.rates.cpu


def _sections(state: HostState) -> Sections:
    """Return the sections of the last snapshot."""
    return state.snapshot.sections


def _boot_time(state: HostState) -> datetime | None:
    """Return when the host booted."""
    booted = state.snapshot.boot_time
    return None if booted is None else datetime.fromtimestamp(booted, UTC)


def _count(name: str) -> Callable[[HostState], int | None]:
    """Return the reader of how many services are in a state."""

    def read(state: HostState) -> int | None:
        services = _sections(state).services
        return None if services is None else services.counts.get(name, 0)

    return read


def _stall(resource: str, field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one pressure value."""

    def read(state: HostState) -> float | None:
        stall: PressureStall | None = getattr(_sections(state).pressure, resource, None)
        return getattr(stall, field, None)

    return read


def _section(section: str, field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one field of a section, None while the section is not there."""

    def read(state: HostState) -> float | None:
        return getattr(getattr(_sections(state), section), field, None)

    return read


def _share(field: str) -> Callable[[HostState], float | None]:
    """Return the reader of one share of CPU time."""

    def read(state: HostState) -> float | None:
        return getattr(_cpu(state), field, None)

    return read


def _active_state(unit: Service) -> str | None:
    """Return the unit's state; a word that systemd does not document is unknown."""
    return unit.active_state if unit.active_state in ACTIVE_STATES else None


def _has(section: str, field: str = "") -> Callable[[HostState], bool]:
    """Return whether a host has a section (and in it a value that is not None)."""

    def check(state: HostState) -> bool:
        found = getattr(_sections(state), section)
        return found is not None and (not field or getattr(found, field) is not None)

    return check


def _has_swap(state: HostState) -> bool:
    """Return whether the host has any swap."""
    memory = _sections(state).memory
    return memory is not None and memory.swap_total_bytes > 0


def _has_pressure(resource: str, field: str) -> Callable[[HostState], bool]:
    """Return whether the kernel tells this pressure."""
    read = _stall(resource, field)
    return lambda state: read(state) is not None


def _pressure(resource: str, kind: str) -> HomelabSensorDescription[HostState]:
    """Return the row of one pressure value; all are alike but for their place."""
    return HomelabSensorDescription(
        key=f"{resource}_pressure_{kind}",
        subject=HOST,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05,
        exists_fn=_has_pressure(resource, f"{kind}_avg60"),
        value_fn=_stall(resource, f"{kind}_avg60"),
    )


HOST_SENSORS: tuple[HomelabSensorDescription[HostState], ...] = (
    HomelabSensorDescription(
        key="cpu_usage",
        subject=HOST,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=_has("cpu"),
        value_fn=_share("usage_percent"),
    ),
    HomelabSensorDescription(
        key="cpu_temperature",
        subject=HOST,
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=_has("sensors", "cpu_celsius"),
        value_fn=_section("sensors", "cpu_celsius"),
    ),
    HomelabSensorDescription(
        key="load1",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        deadband=0.05,
        exists_fn=_has("load"),
        value_fn=_section("load", "load1"),
    ),
    HomelabSensorDescription(
        key="load5",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05,
        exists_fn=_has("load"),
        value_fn=_section("load", "load5"),
    ),
    HomelabSensorDescription(
        key="load15",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05,
        exists_fn=_has("load"),
        value_fn=_section("load", "load15"),
    ),
    HomelabSensorDescription(
        key="memory_usage",
        subject=HOST,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        threshold_fn=lambda options: options.memory_threshold,
        exists_fn=_has("memory"),
        value_fn=_section("memory", "used_percent"),
    ),
    HomelabSensorDescription(
        key="memory_used",
        subject=HOST,
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05 * 1024**3,
        exists_fn=_has("memory"),
        value_fn=_section("memory", "used_bytes"),
    ),
    HomelabSensorDescription(
        key="memory_available",
        subject=HOST,
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05 * 1024**3,
        exists_fn=_has("memory"),
        value_fn=_section("memory", "available_bytes"),
    ),
    HomelabSensorDescription(
        key="swap_usage",
        subject=HOST,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=_has_swap,
        value_fn=_section("memory", "swap_used_percent"),
    ),
    HomelabSensorDescription(
        key="boot_time",
        subject=HOST,
        device_class=SensorDeviceClass.UPTIME,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=_has("uptime"),
        value_fn=_boot_time,
    ),
    HomelabSensorDescription(
        key="failed_services",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        exists_fn=_has("services"),
        value_fn=_count("failed"),
    ),
    HomelabSensorDescription(
        key="active_services",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=_has("services"),
        value_fn=_count("active"),
    ),
    HomelabSensorDescription(
        key="inactive_services",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=_has("services"),
        value_fn=_count("inactive"),
    ),
    HomelabSensorDescription(
        key="processes",
        subject=HOST,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=_has("load", "processes"),
        value_fn=_section("load", "processes"),
    ),
    HomelabSensorDescription(
        key="cpu_iowait",
        subject=HOST,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=_has("cpu"),
        value_fn=_share("iowait_percent"),
    ),
    HomelabSensorDescription(
        key="cpu_frequency",
        subject=HOST,
        device_class=SensorDeviceClass.FREQUENCY,
        native_unit_of_measurement=UnitOfFrequency.HERTZ,
        suggested_unit_of_measurement=UnitOfFrequency.GIGAHERTZ,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05e9,
        exists_fn=_has("cpu", "frequency_hz"),
        value_fn=_section("cpu", "frequency_hz"),
    ),
    HomelabSensorDescription(
        key="poll_duration",
        subject=HOST,
        device_class=SensorDeviceClass.DURATION,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_unit_of_measurement=UnitOfTime.MILLISECONDS,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.0005,
        value_fn=lambda state: state.poll_seconds,
    ),
    _pressure("cpu", "some"),
    _pressure("memory", "some"),
    _pressure("memory", "full"),
    _pressure("io", "some"),
    _pressure("io", "full"),
)

FILESYSTEM_SENSORS: tuple[HomelabSensorDescription[Filesystem], ...] = (
    HomelabSensorDescription(
        key="usage",
        subject=FILESYSTEM,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        threshold_fn=lambda options: options.disk_threshold,
        value_fn=lambda item: item.used_percent,
    ),
    HomelabSensorDescription(
        key="used",
        subject=FILESYSTEM,
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05 * 1024**3,
        value_fn=lambda item: item.used_bytes,
    ),
    HomelabSensorDescription(
        key="available",
        subject=FILESYSTEM,
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05 * 1024**3,
        value_fn=lambda item: item.available_bytes,
    ),
    HomelabSensorDescription(
        key="inodes",
        subject=FILESYSTEM,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.inodes_used_percent is not None,
        value_fn=lambda item: item.inodes_used_percent,
    ),
)

INTERFACE_SENSORS: tuple[HomelabSensorDescription[InterfaceRates], ...] = (
    HomelabSensorDescription(
        key="receive",
        subject=INTERFACE,
        device_class=SensorDeviceClass.DATA_RATE,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.KILOBYTES_PER_SECOND,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=500,
        enabled_fn=lambda item: item.is_primary,
        value_fn=lambda item: item.receive_bytes_per_second,
    ),
    HomelabSensorDescription(
        key="transmit",
        subject=INTERFACE,
        device_class=SensorDeviceClass.DATA_RATE,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.KILOBYTES_PER_SECOND,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=500,
        enabled_fn=lambda item: item.is_primary,
        value_fn=lambda item: item.transmit_bytes_per_second,
    ),
)

DISK_SENSORS: tuple[HomelabSensorDescription[DiskRates], ...] = (
    HomelabSensorDescription(
        key="read",
        subject=DISK,
        device_class=SensorDeviceClass.DATA_RATE,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.KILOBYTES_PER_SECOND,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=500,
        value_fn=lambda item: item.read_bytes_per_second,
    ),
    HomelabSensorDescription(
        key="written",
        subject=DISK,
        device_class=SensorDeviceClass.DATA_RATE,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.KILOBYTES_PER_SECOND,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=500,
        value_fn=lambda item: item.written_bytes_per_second,
    ),
    HomelabSensorDescription(
        key="busy",
        subject=DISK,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5,
        value_fn=lambda item: item.busy_percent,
    ),
)

GPU_SENSORS: tuple[HomelabSensorDescription[Gpu], ...] = (
    HomelabSensorDescription(
        key="usage",
        subject=GPU,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.usage_percent is not None,
        value_fn=lambda item: item.usage_percent,
    ),
    HomelabSensorDescription(
        key="memory_usage",
        subject=GPU,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.memory_used_percent is not None,
        value_fn=lambda item: item.memory_used_percent,
    ),
    HomelabSensorDescription(
        key="temperature",
        subject=GPU,
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.temperature_celsius is not None,
        value_fn=lambda item: item.temperature_celsius,
    ),
    HomelabSensorDescription(
        key="power",
        subject=GPU,
        device_class=SensorDeviceClass.POWER,
        native_unit_of_measurement=UnitOfPower.WATT,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.power_watts is not None,
        value_fn=lambda item: item.power_watts,
    ),
    HomelabSensorDescription(
        key="memory_used",
        subject=GPU,
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        suggested_display_precision=1,
        deadband=0.05 * 1024**3,
        exists_fn=lambda item: item.memory_used_bytes is not None,
        value_fn=lambda item: item.memory_used_bytes,
    ),
    HomelabSensorDescription(
        key="fan",
        subject=GPU,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5,
        exists_fn=lambda item: item.fan_percent is not None,
        value_fn=lambda item: item.fan_percent,
    ),
    HomelabSensorDescription(
        key="clock",
        subject=GPU,
        device_class=SensorDeviceClass.FREQUENCY,
        native_unit_of_measurement=UnitOfFrequency.HERTZ,
        suggested_unit_of_measurement=UnitOfFrequency.MEGAHERTZ,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5e6,
        exists_fn=lambda item: item.clock_hz is not None,
        value_fn=lambda item: item.clock_hz,
    ),
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
    HomelabSensorDescription(
        key="temperature",
        subject=TEMPERATURE,
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=0,
        deadband=0.5,
        value_fn=lambda item: item.celsius,
    ),
)

FAN_SENSORS: tuple[HomelabSensorDescription[Fan], ...] = (
    HomelabSensorDescription(
        key="speed",
        subject=FAN,
        native_unit_of_measurement=REVOLUTIONS_PER_MINUTE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        suggested_display_precision=-1,
        deadband=5,
        value_fn=lambda item: item.rpm,
    ),
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
        if not isinstance(old, (int, float)) or not isinstance(value, (int, float)):
            return old != value
        # Idle and not idle are two things, whatever the size of the step.
        if (old == 0) != (value == 0):
            return True
        threshold_fn = self.entity_description.threshold_fn
        if threshold_fn and (old >= (limit := threshold_fn(self.coordinator.options))) != (value >= limit):
            return True
        return abs(value - old) >= max(self.entity_description.deadband, 1e-9)
