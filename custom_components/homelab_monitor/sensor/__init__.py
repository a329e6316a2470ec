"""Sensors: the tables of all subjects, and the class that writes states sparingly."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
import time
from typing import Any, override

from homeassistant.components.sensor import RestoreSensor
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from ..coordinator import HomelabConfigEntry, HomelabCoordinator
from ..entity import HomelabEntity, async_add_items, async_apply_choice
from ..readings import PartReader
from .descriptions import HomelabSensorDescription
from .host import HOST_SENSORS
from .items import (
    CONTAINER_SENSORS,
    DISK_SENSORS,
    FAN_SENSORS,
    FILESYSTEM_SENSORS,
    GPU_SENSORS,
    INTERFACE_SENSORS,
    SERVICE_SENSORS,
    TEMPERATURE_SENSORS,
)

PARALLEL_UPDATES = 0

ALWAYS_WRITTEN_SECONDS = 300.0
"""A value is written at least this often, however little it moves."""
SAME_MOMENT = timedelta(seconds=1)
"""A boot time that is read again varies with the delay of the network."""

SENSORS: tuple[tuple[HomelabSensorDescription[Any], ...], ...] = (
    HOST_SENSORS,
    FILESYSTEM_SENSORS,
    INTERFACE_SENSORS,
    DISK_SENSORS,
    GPU_SENSORS,
    SERVICE_SENSORS,
    CONTAINER_SENSORS,
    TEMPERATURE_SENSORS,
    FAN_SENSORS,
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of a host."""
    async_apply_choice(entry, "sensor", SENSORS)
    async_add_items(entry, "sensor", SENSORS, HomelabSensor[Any], async_add_entities)


class HomelabSensor[ItemT](HomelabEntity[ItemT], RestoreSensor):
    """One value of one item, written when it has changed enough."""

    entity_description: HomelabSensorDescription[ItemT]
    _unrecorded_attributes = frozenset({"checks"})

    def __init__(
        self, coordinator: HomelabCoordinator, description: HomelabSensorDescription[ItemT], item_id: str
    ) -> None:
        """Take the first value."""
        super().__init__(coordinator, description, item_id)
        self._written_at = time.monotonic()
        self._crossed_at = -ALWAYS_WRITTEN_SECONDS
        self._was_available = self.available
        self._restored: StateType | datetime = None
        self._reading = reading = description.subject.readings[description.key]
        self._part_fn: Callable[[Any], object] | None = reading.part_fn if isinstance(reading, PartReader) else None
        self._settled: object = None
        """The source of the written value; as long as it is the same object, there is no news."""
        self._attr_native_value, self._moment = self._read(self.item)

    def _read(self, item: ItemT | None) -> tuple[StateType | datetime, float | None]:
        """Return the item's current value, and when it was found; None for the time if that is no news."""
        value = None if item is None else self._reading(item)
        if value is None and not self.coordinator.has_polled:
            value = self._restored
        return value, None if item is None else self.entity_description.moment_fn(item)

    @property
    @override
    def attributes(self) -> Mapping[str, Any] | None:
        """Return the attributes of the value."""
        item = self.item
        return None if item is None else self.entity_description.attributes_fn(item)

    @override
    async def async_added_to_hass(self) -> None:
        """Restore the last value until the first poll has ended, if the stored state of the host does not contain it.

        Rates need two polls.
        """
        await super().async_added_to_hass()
        if self._attr_native_value is None and (last := await self.async_get_last_sensor_data()):
            self._restored = last.native_value if isinstance(last.native_value, (str, int, float, datetime)) else None
            self._attr_native_value, _ = self._read(self.item)

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write the state unless it moved too little to be worth a row in the database."""
        item, now = self.item, time.monotonic()
        source = item if item is None or self._part_fn is None else self._part_fn(item)
        if not self.coordinator.has_polled:
            source = None  # What is shown may be what was restored, and that ends with the first poll.
        available = self._is_available(item)
        is_due = now - self._written_at >= ALWAYS_WRITTEN_SECONDS and not self.entity_description.is_calm
        if source is self._settled is not None and available is self._was_available and not is_due:
            return
        value, moment = self._read(item)
        old, changed = self._attr_native_value, available != self._was_available or moment != self._moment
        if not changed and not is_due and not self._is_news(old, value, now):
            self._settled = source if value == old else None
            return
        are_new_words = changed or (value != old and not isinstance(value, (int, float)))
        if are_new_words and not self._may_write():
            return
        self._was_available, self._moment = available, moment
        if _crosses_zero(old, value):
            self._crossed_at = now
        self._attr_native_value = value
        self._settled = source
        self._written_at = now
        self.async_write_ha_state()

    def _is_news(self, old: object, value: object, now: float) -> bool:
        """Return whether a value differs enough from the one that was written."""
        if old == value:
            return False
        if isinstance(old, datetime) and isinstance(value, datetime):
            return abs(value - old) >= SAME_MOMENT
        if not isinstance(old, (int, float)) or not isinstance(value, (int, float)):
            return old != value
        # Idle and not idle differ, whatever the size of the step; but something that wakes up every minute is idle.
        may_cross = now - self._crossed_at >= ALWAYS_WRITTEN_SECONDS and not self.entity_description.is_calm
        if may_cross and _crosses_zero(old, value):
            return True
        threshold_fn = self.entity_description.threshold_fn
        if threshold_fn and (old >= (limit := threshold_fn(self.coordinator.options))) != (value >= limit):
            return True
        return abs(value - old) >= max(self.entity_description.deadband, 1e-9)


def _crosses_zero(old: object, value: object) -> bool:
    """Return whether exactly one of two numbers is zero: something has started or ended."""
    return isinstance(old, (int, float)) and isinstance(value, (int, float)) and (old == 0) != (value == 0)
