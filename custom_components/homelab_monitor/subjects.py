"""What a group of entities is about: one object each.

A subject knows where its values are in a host's state, and which placeholder names it in the
texts of its entities. `HOST` is the machine itself; all others are items of the inventory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from .client.models import Fan, Filesystem, Gpu, Service, Temperature
from .client.tracking.rates import ContainerRates, DiskRates, InterfaceRates
from .coordinator import HomelabCoordinator
from .state import HostState

HOST_ITEM = ""
"""The id of the one item that a host-wide subject has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject[ItemT]:
    """What entities are about; `ItemT` is what their `value_fn` is given."""

    key: str
    placeholder: str | None = None
    """Name of the translation placeholder that holds the item's label."""
    is_device: bool = False
    """Whether each item is a device of its own, a child of the host's."""

    def item(self, state: HostState, item_id: str) -> ItemT | None:
        """Return the item's value now, None while it is not there."""
        return cast("ItemT | None", state.items.get(self.key, {}).get(item_id))

    def ids(self, coordinator: HomelabCoordinator) -> Iterable[str]:
        """Return the ids of all known items, also of those that are away."""
        return coordinator.inventory.items.get(self.key, {})

    def label(self, coordinator: HomelabCoordinator, item_id: str) -> str:
        """Return what people call the item."""
        known = coordinator.inventory.items.get(self.key, {}).get(item_id)
        return known.title if known else item_id

    def name(self, coordinator: HomelabCoordinator, item_id: str) -> str:
        """Return by what people choose the item: what the host calls it."""
        known = coordinator.inventory.items.get(self.key, {}).get(item_id)
        return known.name if known else item_id


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSubject(Subject[HostState]):
    """The machine as a whole: its one item is the state itself."""

    def item(self, state: HostState, item_id: str) -> HostState | None:  # noqa: ARG002
        """Return the state."""
        return state

    def ids(self, coordinator: HomelabCoordinator) -> Iterable[str]:  # noqa: ARG002
        """Return the one id."""
        return (HOST_ITEM,)


HOST = HostSubject(key="host")
FILESYSTEM: Subject[Filesystem] = Subject(key="filesystem", placeholder="mountpoint")
DISK: Subject[DiskRates] = Subject(key="disk", placeholder="disk")
INTERFACE: Subject[InterfaceRates] = Subject(key="interface", placeholder="interface")
GPU: Subject[Gpu] = Subject(key="gpu", placeholder="gpu")
SERVICE: Subject[Service] = Subject(key="service", placeholder="service")
CONTAINER: Subject[ContainerRates] = Subject(key="container", is_device=True)
TEMPERATURE: Subject[Temperature] = Subject(key="temperature", placeholder="sensor")
FAN: Subject[Fan] = Subject(key="fan", placeholder="sensor")
