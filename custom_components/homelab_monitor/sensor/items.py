"""The sensors of a host's items: one table per subject."""

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory

from ..client.models import Fan, Filesystem, Gpu, Service, Temperature
from ..client.tracking.items import Selection
from ..client.tracking.rates import ContainerRates, DiskRates, InterfaceRates
from ..entity import always
from ..readings import ACTIVE_STATES, CONTAINER_STATES, HEALTH_STATES, UNHEALTHY
from ..subjects import CONTAINER, DISK, FAN, FILESYSTEM, GPU, INTERFACE, SERVICE, TEMPERATURE
from .descriptions import (
    CELSIUS,
    COUNT,
    LINK_SPEED,
    MEGAHERTZ,
    PERCENT,
    RATE,
    RPM,
    SIZE,
    SMALL_SIZE,
    WATTS,
    HomelabSensorDescription,
    measured,
)


def _has_health(item: ContainerRates) -> bool:
    """Return whether the container has a health check."""
    return item.container.health not in (None, "none")


def _image_parts(item: ContainerRates) -> dict[str, str | None]:
    """Return the image and its version separately, as automations need them."""
    return {"repository": item.container.image_repository, "tag": item.container.image_tag}


def _age(item: Filesystem) -> dict[str, float] | None:
    """Return the age of the values, if they are not read at each poll."""
    return None if item.age_seconds is None else {"age_seconds": item.age_seconds}


FILESYSTEM_SENSORS: tuple[HomelabSensorDescription[Filesystem], ...] = (
    measured(
        FILESYSTEM,
        "usage",
        PERCENT,
        chosen_fn=Selection.is_chosen_filesystem,
        threshold_fn=lambda options: options.disk_threshold,
        attributes_fn=_age,
    ),
    measured(FILESYSTEM, "used", SIZE, enabled=False, attributes_fn=_age),
    measured(FILESYSTEM, "available", SIZE, enabled=False, attributes_fn=_age),
    measured(FILESYSTEM, "inodes", PERCENT, enabled=False, diagnostic=True, attributes_fn=_age),
)

INTERFACE_SENSORS: tuple[HomelabSensorDescription[InterfaceRates], ...] = (
    measured(
        INTERFACE,
        "receive",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        chosen_fn=Selection.is_chosen_interface,
        exists_fn=always,
    ),
    measured(
        INTERFACE,
        "transmit",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        chosen_fn=Selection.is_chosen_interface,
        exists_fn=always,
    ),
    measured(INTERFACE, "speed", LINK_SPEED, enabled=False, diagnostic=True),
)

DISK_SENSORS: tuple[HomelabSensorDescription[DiskRates], ...] = (
    measured(DISK, "read", RATE, enabled=False, exists_fn=always),
    measured(DISK, "written", RATE, enabled=False, exists_fn=always),
    measured(DISK, "busy", PERCENT, enabled=False, exists_fn=always),
)

GPU_SENSORS: tuple[HomelabSensorDescription[Gpu], ...] = (
    measured(GPU, "usage", PERCENT),
    measured(GPU, "memory_usage", PERCENT),
    measured(GPU, "temperature", CELSIUS),
    measured(GPU, "power", WATTS),
    measured(GPU, "memory_used", SIZE, enabled=False),
    measured(GPU, "fan", PERCENT, enabled=False, diagnostic=True),
    measured(GPU, "fan_speed", RPM, enabled=False, diagnostic=True),
    measured(GPU, "clock", MEGAHERTZ, enabled=False, diagnostic=True),
    measured(GPU, "memory_clock", MEGAHERTZ, enabled=False, diagnostic=True),
    measured(GPU, "power_limit", WATTS, enabled=False, diagnostic=True),
)

SERVICE_SENSORS: tuple[HomelabSensorDescription[Service], ...] = (
    HomelabSensorDescription(
        key="state",
        subject=SERVICE,
        device_class=SensorDeviceClass.ENUM,
        options=list(ACTIVE_STATES),
        chosen_fn=Selection.is_chosen_service,
    ),
)

CONTAINER_SENSORS: tuple[HomelabSensorDescription[ContainerRates], ...] = (
    HomelabSensorDescription(
        key="state",
        subject=CONTAINER,
        device_class=SensorDeviceClass.ENUM,
        options=[*CONTAINER_STATES, UNHEALTHY],
    ),
    HomelabSensorDescription(
        key="health",
        subject=CONTAINER,
        device_class=SensorDeviceClass.ENUM,
        options=list(HEALTH_STATES),
        of_few=True,
        exists_fn=_has_health,
    ),
    measured(
        CONTAINER,
        "cpu_usage",
        PERCENT,
        of_few=True,
        calm=True,
        exists_fn=lambda item: item.container.cpu_seconds is not None,
    ),
    measured(CONTAINER, "memory_used", SMALL_SIZE, of_few=True, calm=True),
    HomelabSensorDescription(
        key="image",
        subject=CONTAINER,
        entity_category=EntityCategory.DIAGNOSTIC,
        of_few=True,
        exists_fn=lambda item: bool(item.container.image),
        attributes_fn=_image_parts,
    ),
    measured(CONTAINER, "restarts", COUNT, enabled=False, diagnostic=True),
)

TEMPERATURE_SENSORS: tuple[HomelabSensorDescription[Temperature], ...] = (
    measured(TEMPERATURE, "temperature", CELSIUS, enabled=False, diagnostic=True),
)

FAN_SENSORS: tuple[HomelabSensorDescription[Fan], ...] = (measured(FAN, "speed", RPM, enabled=False, diagnostic=True),)
