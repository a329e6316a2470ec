"""The sensors of a host's items: one table per subject."""

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory

from ..client.models import Fan, Filesystem, Gpu, Service, Temperature
from ..client.tracking.items import Selection
from ..client.tracking.rates import ContainerRates, DiskRates, InterfaceRates
from ..entity import always
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
    tens,
)

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


def _active_state(unit: Service) -> str | None:
    """Return the unit's state; a word that systemd does not document is unknown."""
    return unit.active_state if unit.active_state in ACTIVE_STATES else None


CONTAINER_STATES = ["created", "running", "paused", "restarting", "removing", "exited", "dead"]
"""Every state of the Docker Engine API; the probe translates Podman's further ones."""
UNHEALTHY = "unhealthy"
"""What `docker ps` shows beside `Up`."""
HEALTH_STATES = ["starting", "healthy", "unhealthy", "none"]


def _container_state(item: ContainerRates) -> str | None:
    """Return the container's state, of one that runs also that it is unhealthy; an undocumented word is unknown."""
    if item.container.is_running and item.container.is_unhealthy:
        return UNHEALTHY
    return item.container.state if item.container.state in CONTAINER_STATES else None


def _health(item: ContainerRates) -> str | None:
    """Return what the container's own health check says, none where it has no check."""
    return item.container.health if item.container.health in HEALTH_STATES else None


def _has_health(item: ContainerRates) -> bool:
    """Return whether the container has a health check."""
    return item.container.health not in (None, "none")


def _image_parts(item: ContainerRates) -> dict[str, str | None]:
    """Return the image and its version one by one, as an automation wants them."""
    return {"repository": item.container.image_repository, "tag": item.container.image_tag}


def _age(item: Filesystem) -> dict[str, float] | None:
    """Return how old the values are, where they are not read each time."""
    return None if item.age_seconds is None else {"age_seconds": item.age_seconds}


FILESYSTEM_SENSORS: tuple[HomelabSensorDescription[Filesystem], ...] = (
    measured(
        FILESYSTEM,
        "usage",
        PERCENT,
        chosen_fn=Selection.is_chosen_filesystem,
        threshold_fn=lambda options: options.disk_threshold,
        attributes_fn=_age,
        value_fn=lambda item: item.used_percent,
    ),
    measured(FILESYSTEM, "used", SIZE, enabled=False, attributes_fn=_age, value_fn=lambda item: item.used_bytes),
    measured(
        FILESYSTEM, "available", SIZE, enabled=False, attributes_fn=_age, value_fn=lambda item: item.available_bytes
    ),
    measured(
        FILESYSTEM,
        "inodes",
        PERCENT,
        enabled=False,
        diagnostic=True,
        attributes_fn=_age,
        value_fn=lambda item: item.inodes_used_percent,
    ),
)

INTERFACE_SENSORS: tuple[HomelabSensorDescription[InterfaceRates], ...] = (
    measured(
        INTERFACE,
        "receive",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        chosen_fn=Selection.is_chosen_interface,
        exists_fn=always,
        value_fn=lambda item: item.receive_bytes_per_second,
    ),
    measured(
        INTERFACE,
        "transmit",
        RATE,
        enabled_fn=lambda item: item.is_primary,
        chosen_fn=Selection.is_chosen_interface,
        exists_fn=always,
        value_fn=lambda item: item.transmit_bytes_per_second,
    ),
    measured(
        INTERFACE,
        "speed",
        LINK_SPEED,
        enabled=False,
        diagnostic=True,
        value_fn=lambda item: item.speed_bits_per_second,
    ),
)

DISK_SENSORS: tuple[HomelabSensorDescription[DiskRates], ...] = (
    measured(DISK, "read", RATE, enabled=False, exists_fn=always, value_fn=lambda item: item.read_bytes_per_second),
    measured(
        DISK, "written", RATE, enabled=False, exists_fn=always, value_fn=lambda item: item.written_bytes_per_second
    ),
    measured(DISK, "busy", PERCENT, enabled=False, exists_fn=always, value_fn=lambda item: item.busy_percent),
)

GPU_SENSORS: tuple[HomelabSensorDescription[Gpu], ...] = (
    measured(GPU, "usage", PERCENT, value_fn=lambda item: item.usage_percent),
    measured(GPU, "memory_usage", PERCENT, value_fn=lambda item: item.memory_used_percent),
    measured(GPU, "temperature", CELSIUS, value_fn=lambda item: item.temperature_celsius),
    measured(GPU, "power", WATTS, value_fn=lambda item: item.power_watts),
    measured(GPU, "memory_used", SIZE, enabled=False, value_fn=lambda item: item.memory_used_bytes),
    measured(GPU, "fan", PERCENT, enabled=False, diagnostic=True, value_fn=lambda item: item.fan_percent),
    measured(GPU, "fan_speed", RPM, enabled=False, diagnostic=True, value_fn=lambda item: tens(item.fan_rpm)),
    measured(GPU, "clock", MEGAHERTZ, enabled=False, diagnostic=True, value_fn=lambda item: item.clock_hz),
    measured(
        GPU, "memory_clock", MEGAHERTZ, enabled=False, diagnostic=True, value_fn=lambda item: item.memory_clock_hz
    ),
    measured(GPU, "power_limit", WATTS, enabled=False, diagnostic=True, value_fn=lambda item: item.power_limit_watts),
)

SERVICE_SENSORS: tuple[HomelabSensorDescription[Service], ...] = (
    HomelabSensorDescription(
        key="state",
        subject=SERVICE,
        device_class=SensorDeviceClass.ENUM,
        options=ACTIVE_STATES,
        chosen_fn=Selection.is_chosen_service,
        value_fn=_active_state,
    ),
)

CONTAINER_SENSORS: tuple[HomelabSensorDescription[ContainerRates], ...] = (
    HomelabSensorDescription(
        key="state",
        subject=CONTAINER,
        device_class=SensorDeviceClass.ENUM,
        options=[*CONTAINER_STATES, UNHEALTHY],
        value_fn=_container_state,
    ),
    HomelabSensorDescription(
        key="health",
        subject=CONTAINER,
        device_class=SensorDeviceClass.ENUM,
        options=HEALTH_STATES,
        of_few=True,
        exists_fn=_has_health,
        value_fn=_health,
    ),
    measured(
        CONTAINER,
        "cpu_usage",
        PERCENT,
        of_few=True,
        calm=True,
        exists_fn=lambda item: item.container.cpu_seconds is not None,
        value_fn=lambda item: item.cpu_percent,
    ),
    measured(
        CONTAINER,
        "memory_used",
        SMALL_SIZE,
        of_few=True,
        calm=True,
        value_fn=lambda item: item.container.memory_bytes,
    ),
    HomelabSensorDescription(
        key="image",
        subject=CONTAINER,
        entity_category=EntityCategory.DIAGNOSTIC,
        of_few=True,
        exists_fn=lambda item: bool(item.container.image),
        attributes_fn=_image_parts,
        value_fn=lambda item: item.container.image_reference or None,
    ),
    measured(
        CONTAINER, "restarts", COUNT, enabled=False, diagnostic=True, value_fn=lambda item: item.container.restarts
    ),
)

TEMPERATURE_SENSORS: tuple[HomelabSensorDescription[Temperature], ...] = (
    measured(TEMPERATURE, "temperature", CELSIUS, enabled=False, diagnostic=True, value_fn=lambda item: item.celsius),
)

FAN_SENSORS: tuple[HomelabSensorDescription[Fan], ...] = (
    measured(FAN, "speed", RPM, enabled=False, diagnostic=True, value_fn=lambda item: tens(item.rpm)),
)
