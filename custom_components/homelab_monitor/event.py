"""One event entity per host: each event once, in the order in which it was noticed."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .client.bucket import Bucket
from .client.limits import EVENT_OWNERS, EVENTS
from .client.tracking.events import EVENT_TYPES, HostEvent
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .state import HostState
from .subjects import HOST

PARALLEL_UPDATES = 0
_OTHERS = "/"
"""No owner has this name."""


@dataclass(frozen=True, kw_only=True)
class HomelabEventDescription[ItemT](EventEntityDescription, HomelabDescription[ItemT]):
    """One row: the event types of an event entity."""


HOST_EVENTS: tuple[HomelabEventDescription[HostState], ...] = (
    HomelabEventDescription(
        key="events",
        subject=HOST,
        stays_available=True,
        event_types=list(EVENT_TYPES),
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
    """Shows what happened on a host."""

    entity_description: HomelabEventDescription[HostState]

    def __init__(
        self, coordinator: HomelabCoordinator, description: HomelabEventDescription[HostState], item_id: str
    ) -> None:
        """Start with no event shown."""
        super().__init__(coordinator, description, item_id)
        self._buckets: dict[str, dict[str, Bucket]] = {name: {} for name in description.event_types or ()}
        """By type and owner: no flood of one type, or of one user, keeps another from being shown."""
        self._left_out: Counter[tuple[str, str]] = Counter()

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write a state for each event, so that automations see all of them."""
        for event in self.coordinator.data.events:
            share = self._share(event)
            if not self._buckets[event.type].setdefault(share, Bucket(*EVENTS)).take():
                self._left_out[event.type, share] += 1
                continue
            self._trigger_event(event.type, self._about(event, share))
            self.async_write_ha_state()

    def _share(self, event: HostEvent) -> str:
        """Return the name that an event is counted under: its owner, or `_OTHERS` where there are too many.

        A host may make owners up.
        """
        owner = self.coordinator.selection.guest(event.owner)
        buckets = self._buckets[event.type]
        if owner and owner not in buckets and len(buckets) >= EVENT_OWNERS:
            for name in [name for name in buckets if buckets[name].is_full]:
                if not self._left_out[event.type, name]:
                    del buckets[name]
        return owner if not owner or owner in buckets or len(buckets) < EVENT_OWNERS else _OTHERS

    def _about(self, event: HostEvent, share: str) -> dict[str, Any]:
        """Return the attributes of an event, with how many of its type and owner were left out before it."""
        name = self.device_entry.name_by_user if self.device_entry else None
        about: dict[str, Any] = {"host": name or self.coordinator.name, **event.about}
        if event.type in ("host_offline", "host_online") and self.coordinator.options.may_be_off:
            about["expected"] = True
        if left_out := self._left_out.pop((event.type, share), 0):
            about["left_out"] = left_out
        return about
