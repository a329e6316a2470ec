"""Buttons: test a host now, wake it, restart it, shut it down; restart a container."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, override

# 2026.9 has the device classes here, later versions in a module `const` of this package.
from homeassistant.components.button import (  # type: ignore[attr-defined]
    ButtonDeviceClass,
    ButtonEntity,
    ButtonEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .capability import async_test_now
from .client.control.control import PowerAction, RunAction
from .client.tracking.rates import ContainerRates
from .controls import async_control_container, async_control_power, async_wake
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .state import HostState
from .subjects import CONTAINER, HOST

PARALLEL_UPDATES = 0
# Each press has its own channel, and nothing should wait for a container that takes minutes to stop.


@dataclass(frozen=True, kw_only=True)
class HomelabButtonDescription[ItemT](ButtonEntityDescription, HomelabDescription[ItemT]):
    """One row: the function that pressing a button calls."""

    press_fn: Callable[[HomelabCoordinator, ItemT], Awaitable[object]]
    """Called when the button is pressed."""


async def _test(coordinator: HomelabCoordinator, _state: HostState) -> object:
    """Run the capability test."""
    return await async_test_now(coordinator.hass, coordinator.config_entry)


async def _wake(coordinator: HomelabCoordinator, _state: HostState) -> None:
    """Wake the host."""
    await async_wake(coordinator)


async def _shut_down(coordinator: HomelabCoordinator, _state: HostState) -> None:
    """Shut the host down."""
    await async_control_power(coordinator, PowerAction.SHUT_DOWN)


async def _restart(coordinator: HomelabCoordinator, _state: HostState) -> None:
    """Restart the host."""
    await async_control_power(coordinator, PowerAction.RESTART)


async def _restart_container(coordinator: HomelabCoordinator, item: ContainerRates) -> None:
    """Restart a container."""
    await async_control_container(coordinator, item.container, RunAction.RESTART)


HOST_BUTTONS: tuple[HomelabButtonDescription[HostState], ...] = (
    HomelabButtonDescription(
        key="test",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        stays_available=True,
        press_fn=_test,
    ),
    HomelabButtonDescription(key="wake", subject=HOST, stays_available=True, press_fn=_wake),
    HomelabButtonDescription(
        key="restart",
        subject=HOST,
        offered_fn=lambda options: options.power,
        device_class=ButtonDeviceClass.RESTART,
        entity_category=EntityCategory.CONFIG,
        press_fn=_restart,
    ),
    HomelabButtonDescription(
        key="shut_down",
        subject=HOST,
        offered_fn=lambda options: options.power,
        entity_category=EntityCategory.CONFIG,
        press_fn=_shut_down,
    ),
)

CONTAINER_BUTTONS: tuple[HomelabButtonDescription[ContainerRates], ...] = (
    HomelabButtonDescription(
        key="restart",
        subject=CONTAINER,
        offered_fn=lambda options: options.control_containers,
        device_class=ButtonDeviceClass.RESTART,
        entity_category=EntityCategory.CONFIG,
        press_fn=_restart_container,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the buttons of one host."""
    async_add_items(entry, "button", (HOST_BUTTONS, CONTAINER_BUTTONS), HomelabButton[Any], async_add_entities)


class HomelabButton[ItemT](HomelabEntity[ItemT], ButtonEntity):
    """One button of one host."""

    entity_description: HomelabButtonDescription[ItemT]

    @override
    async def async_press(self) -> None:
        """Call the function of the row."""
        item = self.item
        if item is not None:
            await self.entity_description.press_fn(self.coordinator, item)
