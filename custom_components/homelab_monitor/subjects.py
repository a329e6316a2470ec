"""The subjects of entities: the host, or a kind of item on it.

A subject knows where its items are in a host's state, which readings return their values, and which placeholder
holds an item's name in the texts of its entities. `HOST` is the host itself; all others are items of the inventory.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from .client.models import Fan, Filesystem, Gpu, Service, Temperature
from .client.tracking.rates import ContainerRates, DiskRates, InterfaceRates
from .coordinator import HomelabCoordinator
from .readings import (
    CONTAINER_READINGS,
    DISK_READINGS,
    FAN_READINGS,
    FILESYSTEM_READINGS,
    GPU_READINGS,
    HOST_READINGS,
    INTERFACE_READINGS,
    SERVICE_READINGS,
    TEMPERATURE_READINGS,
    Readings,
)
from .state import HostState

HOST_ITEM = ""
"""The id of the only item of a host-wide subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject[ItemT]:
    """What entities are about; `ItemT` is the argument of the readings."""

    key: str
    readings: Readings[ItemT]
    """What sensors and binary sensors show, by the key of their rows."""
    placeholder: str | None = None
    """Name of the translation placeholder that holds the item's label."""
    is_device: bool = False
    """Whether each item is a device of its own, a child of the host's."""

    def item(self, state: HostState, item_id: str) -> ItemT | None:
        """Return the item's current value, None while it is absent."""
        return cast("ItemT | None", state.items.get(self.key, {}).get(item_id))

    def has(self, key: str) -> Callable[[ItemT], bool]:
        """Return a predicate: whether an item has a value for a key."""
        reading = self.readings[key]
        return lambda item: reading(item) is not None

    def ids(self, coordinator: HomelabCoordinator) -> Iterable[str]:
        """Return the ids of all known items, absent ones included."""
        return coordinator.inventory.items.get(self.key, {})

    def label(self, coordinator: HomelabCoordinator, item_id: str) -> str:
        """Return the item's name as people see it."""
        known = coordinator.inventory.items.get(self.key, {}).get(item_id)
        return known.title if known else item_id

    def name(self, coordinator: HomelabCoordinator, item_id: str) -> str:
        """Return the name by which people select the item: the one that the host reports."""
        known = coordinator.inventory.items.get(self.key, {}).get(item_id)
        return known.name if known else item_id


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSubject(Subject[HostState]):
    """The host as a whole: its only item is the state itself."""

    def item(self, state: HostState, item_id: str) -> HostState | None:  # noqa: ARG002
        """Return the state."""
        return state

    def ids(self, coordinator: HomelabCoordinator) -> Iterable[str]:  # noqa: ARG002
        """Return the only id."""
        return (HOST_ITEM,)


HOST = HostSubject(key="host", readings=HOST_READINGS)
FILESYSTEM: Subject[Filesystem] = Subject(key="filesystem", readings=FILESYSTEM_READINGS, placeholder="mountpoint")
DISK: Subject[DiskRates] = Subject(key="disk", readings=DISK_READINGS, placeholder="disk")
INTERFACE: Subject[InterfaceRates] = Subject(key="interface", readings=INTERFACE_READINGS, placeholder="interface")
GPU: Subject[Gpu] = Subject(key="gpu", readings=GPU_READINGS, placeholder="gpu")
SERVICE: Subject[Service] = Subject(key="service", readings=SERVICE_READINGS, placeholder="service")
CONTAINER: Subject[ContainerRates] = Subject(key="container", readings=CONTAINER_READINGS, is_device=True)
TEMPERATURE: Subject[Temperature] = Subject(key="temperature", readings=TEMPERATURE_READINGS, placeholder="sensor")
FAN: Subject[Fan] = Subject(key="fan", readings=FAN_READINGS, placeholder="sensor")
