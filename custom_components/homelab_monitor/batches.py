"""Many entities come and go some at once: each costs about a millisecond, and the event loop has a turn in between.

The batches of all platforms and hosts wait for each other, so that it is one of them per turn.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import batched

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.entity_platform import async_get_platforms
from homeassistant.util.hass_dict import HassKey

from .client.limits import ENTITIES_AT_ONCE
from .const import DOMAIN

_TURN: HassKey[asyncio.Lock] = HassKey(f"{DOMAIN}_turn")


@callback
def async_spread[T](
    hass: HomeAssistant, entry: ConfigEntry, items: Sequence[T], work: Callable[[Sequence[T]], None]
) -> None:
    """Do the work for all items, of many only for some at once; unloading the entry waits for it."""
    if len(items) > ENTITIES_AT_ONCE:
        entry.async_create_task(hass, _async_in_batches(hass, items, work), f"{entry.title} entities")
    elif items:
        work(items)


async def async_take_down(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Take the entities of an entry away as unloading its platforms does, which does it in one go."""
    platforms = [each for each in async_get_platforms(hass, DOMAIN) if each.config_entry is entry]
    for batch in batched([one for each in platforms for one in each.entities.values()], ENTITIES_AT_ONCE, strict=False):
        async with _turn(hass):
            for entity in batch:
                await entity.async_remove()
            await asyncio.sleep(0)


async def async_unregister(hass: HomeAssistant, entry_id: str) -> None:
    """Remove all that an entry has in the registries as Home Assistant does next, which does it in one go."""
    entities, devices = er.async_get(hass), dr.async_get(hass)
    ids = [each.entity_id for each in er.async_entries_for_config_entry(entities, entry_id)]
    await _async_in_batches(hass, ids, lambda batch: [entities.async_remove(each) for each in batch])
    children = [each.id for each in dr.async_child_entries_for_config_entry(devices, entry_id)]
    await _async_in_batches(hass, children, lambda batch: [devices.async_remove_device(each) for each in batch])


async def _async_in_batches[T](hass: HomeAssistant, items: Sequence[T], work: Callable[[Sequence[T]], object]) -> None:
    """Do the work for some items at once."""
    for batch in batched(items, ENTITIES_AT_ONCE, strict=False):
        async with _turn(hass):
            work(batch)
            await asyncio.sleep(0)


def _turn(hass: HomeAssistant) -> asyncio.Lock:
    """Return what lets one batch at a time work."""
    return hass.data.setdefault(_TURN, asyncio.Lock())
