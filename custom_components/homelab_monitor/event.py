"""One event entity per host: what happened, once per happening, in the order in which it was noticed."""

from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import HomelabConfigEntry
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .state import HostState
from .subjects import HOST

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class HomelabEventDescription[ItemT](EventEntityDescription, HomelabDescription[ItemT]):
    """One row: what an event entity can tell."""


HOST_EVENTS: tuple[HomelabEventDescription[HostState], ...] = (
    HomelabEventDescription(
        key="events",
        subject=HOST,
        stays_available=True,
        event_types=[
            "host_offline",
            "host_online",
            "rebooted",
            "service_failed",
            "service_recovered",
            "container_died",
            "container_unhealthy",
            "gpu_lost",
            "update_failed",
        ],
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the event entity of a host."""
    async_add_items(entry, "event", (HOST_EVENTS,), HomelabEvent, async_add_entities)


class HomelabEvent(HomelabEntity[HostState], EventEntity):
    """Tells what happened on a host."""

    entity_description: HomelabEventDescription[HostState]

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Tell each happening as a state of its own, so that automations see every one."""
        expected = {"expected": True} if self.coordinator.options.may_be_off else {}
        for happening in self.coordinator.data.happenings:
            attributes: dict[str, Any] = {"host": self.coordinator.name, **happening.about}
            if happening.type in ("host_offline", "host_online"):
                attributes |= expected
            self._trigger_event(happening.type, attributes)
            self.async_write_ha_state()
