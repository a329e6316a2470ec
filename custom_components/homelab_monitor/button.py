"""Buttons: test a host now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import override

from homeassistant.components.button import ButtonEntity, ButtonEntityDescription
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .capability import async_test_host
from .coordinator import HomelabConfigEntry, HomelabCoordinator, HostState
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .subjects import HOST

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class HomelabButtonDescription[ItemT](ButtonEntityDescription, HomelabDescription[ItemT]):
    """One row: what pressing a button does."""

    press_fn: Callable[[HomelabCoordinator], Awaitable[object]]
    """Do it."""


async def _test(coordinator: HomelabCoordinator) -> object:
    """Run the capability test."""
    return await async_test_host(coordinator.hass, coordinator.config_entry)


HOST_BUTTONS: tuple[HomelabButtonDescription[HostState], ...] = (
    HomelabButtonDescription(
        key="test",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        stays_available=True,
        press_fn=_test,
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
