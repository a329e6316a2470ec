"""Add and remove many entities in batches: each costs about a millisecond, and the event loop runs in between.

The size of a batch follows from how long the last one took: on a slow machine, or with names that Home Assistant has to
number, each entity costs more. The batches of all platforms and hosts wait for each other: only one runs at a time.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import time

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.entity_platform import async_get_platforms
from homeassistant.util.hass_dict import HassKey

from .client.limits import ENTITIES_AT_FIRST, ENTITIES_AT_ONCE, ENTITIES_SECONDS
from .const import DOMAIN

_LOCK: HassKey[asyncio.Lock] = HassKey(f"{DOMAIN}_batch_lock")


class _Batches[T]:
    """Splits many items into batches of as many as take ENTITIES_SECONDS."""

    def __init__(self, items: Sequence[T]) -> None:
        self._items = items
        self._at = 0
        self._size = ENTITIES_AT_FIRST
        self.seconds = 0.0
        """The time that all of them took."""

    @property
    def are_left(self) -> bool:
        """Return whether there are more items."""
        return self._at < len(self._items)

    @property
    def rest(self) -> Sequence[T]:
        """Return the items that are left."""
        return self._items[self._at :]

    @contextmanager
    def next(self) -> Iterator[Sequence[T]]:
        """Provide the next batch, and measure how long it takes."""
        batch = self._items[self._at : self._at + self._size]
        self._at += len(batch)
        started = time.thread_time()
        try:
            yield batch
        finally:
            spent = time.thread_time() - started
            self.seconds += spent
            fitting = self._size * ENTITIES_SECONDS / max(spent, ENTITIES_SECONDS / ENTITIES_AT_ONCE)
            self._size = max(1, min(int(fitting), 2 * self._size, ENTITIES_AT_ONCE))


@callback
def async_spread[T](
    hass: HomeAssistant, entry: ConfigEntry, items: Sequence[T], work: Callable[[Sequence[T]], None]
) -> None:
    """Do the work for all items, in batches if it takes long; unloading the entry waits for it."""
    batches = _Batches(items)
    while len(items) <= ENTITIES_AT_ONCE and batches.are_left and batches.seconds < ENTITIES_SECONDS:
        with batches.next() as batch:
            work(batch)
    if batches.are_left:
        rest = _async_in_batches(hass, batches.rest, work)
        entry.async_create_task(hass, rest, f"{entry.title} entities", eager_start=False)


async def async_take_down(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Remove the entities of an entry in batches; unloading its platforms would do it in one go."""
    platforms = [platform for platform in async_get_platforms(hass, DOMAIN) if platform.config_entry is entry]
    batches = _Batches([entity for platform in platforms for entity in platform.entities.values()])
    while batches.are_left:
        async with _lock(hass):
            with batches.next() as batch:
                for entity in batch:
                    await entity.async_remove()
            await asyncio.sleep(0)


async def async_unregister(hass: HomeAssistant, entry_id: str) -> None:
    """Remove an entry's entities and child devices in batches; Home Assistant would do it next, in one go."""
    entities, devices = er.async_get(hass), dr.async_get(hass)
    ids = [each.entity_id for each in er.async_entries_for_config_entry(entities, entry_id)]
    await _async_in_batches(hass, ids, lambda batch: [entities.async_remove(each) for each in batch])
    children = [each.id for each in dr.async_child_entries_for_config_entry(devices, entry_id)]
    await _async_in_batches(hass, children, lambda batch: [devices.async_remove_device(each) for each in batch])


async def _async_in_batches[T](hass: HomeAssistant, items: Sequence[T], work: Callable[[Sequence[T]], object]) -> None:
    """Do the work for all items, batch by batch."""
    batches = _Batches(items)
    while batches.are_left:
        async with _lock(hass):
            with batches.next() as batch:
                work(batch)
            await asyncio.sleep(0)


def _lock(hass: HomeAssistant) -> asyncio.Lock:
    """Return the lock that allows one batch at a time."""
    return hass.data.setdefault(_LOCK, asyncio.Lock())
