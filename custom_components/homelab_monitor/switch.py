"""Switches: containers that can be started and stopped, where the options allow it.

They have the category CONFIG, which voice commands and areas leave out: otherwise switching everything off in a room
would stop containers.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.switch import SwitchEntity, SwitchEntityDescription
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .client.control.control import RunAction
from .client.tracking.rates import ContainerRates
from .controls import async_control_container
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .subjects import CONTAINER

PARALLEL_UPDATES = 0
# Each call has its own channel, and nothing should wait for a container that takes minutes to stop.


@dataclass(frozen=True, kw_only=True)
class HomelabSwitchDescription[ItemT](SwitchEntityDescription, HomelabDescription[ItemT]):
    """One row: when a switch is on, and how it is turned."""

    turn_fn: Callable[[HomelabCoordinator, ItemT, bool], Awaitable[None]]
    """Turn it on or off."""

    is_on_fn: Callable[[ItemT], bool]
    """Whether it is on."""


async def _turn_container(coordinator: HomelabCoordinator, item: ContainerRates, is_on: bool) -> None:  # noqa: FBT001
    """Start or stop a container."""
    await async_control_container(coordinator, item.container, RunAction.START if is_on else RunAction.STOP)


CONTAINER_SWITCHES: tuple[HomelabSwitchDescription[ContainerRates], ...] = (
    HomelabSwitchDescription(
        key="running",
        subject=CONTAINER,
        offered_fn=lambda options: options.control_containers,
        entity_category=EntityCategory.CONFIG,
        turn_fn=_turn_container,
        is_on_fn=lambda item: item.container.is_running,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the switches of one host."""
    async_add_items(entry, "switch", (CONTAINER_SWITCHES,), HomelabSwitch[Any], async_add_entities)


class HomelabSwitch[ItemT](HomelabEntity[ItemT], SwitchEntity):
    """One switch of one item."""

    entity_description: HomelabSwitchDescription[ItemT]

    @property
    @override
    def shown(self) -> object:
        """Return whether it is available, and whether it is on."""
        return self.available, self.is_on

    @property
    @override
    def is_on(self) -> bool | None:
        """Return whether it is on."""
        item = self.item
        return None if item is None else self.entity_description.is_on_fn(item)

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Turn it on and wait until it is."""
        await self._async_turn(is_on=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Turn it off and wait until it is."""
        await self._async_turn(is_on=False)

    async def _async_turn(self, *, is_on: bool) -> None:
        """Call the function of the row; do nothing while the item is absent."""
        item = self.item
        if item is not None:
            await self.entity_description.turn_fn(self.coordinator, item, is_on)
