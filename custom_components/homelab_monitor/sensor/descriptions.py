"""How values are shown: the row that describes a sensor, and one quantity per kind of value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from homeassistant.components.sensor import SensorDeviceClass, SensorEntityDescription, SensorStateClass
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

from ..client.tracking.items import Selection
from ..entity import HomelabDescription, always, never_chosen
from ..settings import HostOptions
from ..subjects import Subject


@dataclass(frozen=True, kw_only=True)
class HomelabSensorDescription[ItemT](SensorEntityDescription, HomelabDescription[ItemT]):
    """One row: what a sensor shows of its item."""

    deadband: float = 0.0
    """Smallest change that is written, in the native unit: at most half the displayed step."""

    is_calm: bool = False
    """Whether only a change of at least the deadband is written: neither a smaller one after five minutes, nor one from
    zero. For kinds with many items, which are nearly idle most of the time and wake up all the time."""

    threshold_fn: Callable[[HostOptions], float] | None = None
    """Return the configured limit; crossing it is always written."""

    attributes_fn: Callable[[ItemT], Mapping[str, Any] | None] = lambda _: None
    """Return the attributes of the value."""

    moment_fn: Callable[[ItemT], float | None] = lambda _: None
    """Return when the value was found, if finding the same value again is news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How one kind of value is shown, and its smallest change that is worth a row in the database."""

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
RPM = Quantity(unit=REVOLUTIONS_PER_MINUTE, precision=0, deadband=0.5)
"""Rounded to tens: a fan's last digit is noise, and the frontend supports no precision below 0."""
SIZE = Quantity(
    unit=UnitOfInformation.BYTES,
    shown_unit=UnitOfInformation.GIBIBYTES,
    device_class=SensorDeviceClass.DATA_SIZE,
    precision=1,
    deadband=0.05 * 1024**3,
)
SMALL_SIZE = Quantity(
    unit=UnitOfInformation.BYTES,
    shown_unit=UnitOfInformation.MEBIBYTES,
    device_class=SensorDeviceClass.DATA_SIZE,
    precision=0,
    deadband=0.5 * 1024**2,
)
RATE = Quantity(
    unit=UnitOfDataRate.BYTES_PER_SECOND,
    shown_unit=UnitOfDataRate.KILOBYTES_PER_SECOND,
    device_class=SensorDeviceClass.DATA_RATE,
    precision=0,
    deadband=500,
)
LINK_SPEED = Quantity(
    unit=UnitOfDataRate.BITS_PER_SECOND,
    shown_unit=UnitOfDataRate.MEGABITS_PER_SECOND,
    device_class=SensorDeviceClass.DATA_RATE,
    precision=0,
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


def measured[ItemT](  # noqa: PLR0913 - a row says what is special about it, and only that
    subject: Subject[ItemT],
    key: str,
    quantity: Quantity,
    *,
    enabled: bool = True,
    diagnostic: bool = False,
    of_few: bool = False,
    calm: bool = False,
    threshold_fn: Callable[[HostOptions], float] | None = None,
    enabled_fn: Callable[[ItemT], bool] = always,
    chosen_fn: Callable[[Selection, str], bool] = never_chosen,
    exists_fn: Callable[[ItemT], bool] | None = None,
    attributes_fn: Callable[[ItemT], Mapping[str, Any] | None] = lambda _: None,
) -> HomelabSensorDescription[ItemT]:
    """Return the row of a measured value; without `exists_fn` it exists once it has been read."""
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
        of_few=of_few,
        is_calm=calm,
        threshold_fn=threshold_fn,
        enabled_fn=enabled_fn,
        chosen_fn=chosen_fn,
        exists_fn=exists_fn or subject.has(key),
        attributes_fn=attributes_fn,
    )
