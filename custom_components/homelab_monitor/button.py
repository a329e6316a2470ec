"""Buttons: test a host now, wake it, restart it, shut it down."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import override

# 2026.9 has the device classes here, later versions in a module `const` beside it.
from homeassistant.components.button import (  # type: ignore[attr-defined]
    ButtonDeviceClass,
    ButtonEntity,
    ButtonEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .capability import async_test_host
from .client.control import PowerAction
from .const import CONF_POWER
from .controls import async_control_power, async_wake
from .coordinator import HomelabConfigEntry, HomelabCoordinator, HostState
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .subjects import HOST

PARALLEL_UPDATES = 1


@dataclass(frozen=True, kw_only=True)
class HomelabButtonDescription[ItemT](ButtonEntityDescription, HomelabDescription[ItemT]):
    """One row: what pressing a button does."""

    press_fn: Callable[[HomelabCoordinator], Awaitable[object]]
    """Do it."""


async def _test(coordinator: HomelabCoordinator) -> object:
    """Run the capability test."""
    return await async_test_host(coordinator.hass, coordinator.config_entry)


async def _shut_down(coordinator: HomelabCoordinator) -> None:
    """Shut the machine down."""
    await async_control_power(coordinator, PowerAction.SHUT_DOWN)


async def _restart(coordinator: HomelabCoordinator) -> None:
    """Restart the machine."""
    await async_control_power(coordinator, PowerAction.RESTART)


HOST_BUTTONS: tuple[HomelabButtonDescription[HostState], ...] = (
    HomelabButtonDescription(
        key="test",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        stays_available=True,
        press_fn=_test,
    ),
    HomelabButtonDescription(key="wake", subject=HOST, stays_available=True, press_fn=async_wake),
    HomelabButtonDescription(
        key="restart",
        subject=HOST,
        option=CONF_POWER,
        device_class=ButtonDeviceClass.RESTART,
        entity_category=EntityCategory.CONFIG,
        press_fn=_restart,
    ),
    HomelabButtonDescription(
        key="shut_down",
        subject=HOST,
        option=CONF_POWER,
        entity_category=EntityCategory.CONFIG,
        press_fn=_shut_down,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the buttons of one host."""
    async_add_items(entry, "button", (HOST_BUTTONS,), HomelabButton, async_add_entities)


class HomelabButton[ItemT](HomelabEntity[ItemT], ButtonEntity):
    """One button of one host."""

    entity_description: HomelabButtonDescription[ItemT]

    @override
    async def async_press(self) -> None:
        """Do what the row says."""
        await self.entity_description.press_fn(self.coordinator)
