"""A host with hundreds of entities comes, goes and is removed without holding the event loop up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.entity_platform import async_get_platforms
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events

from custom_components.homelab_monitor.client.limits import ENTITIES_AT_ONCE
from custom_components.homelab_monitor.client.tracking import inventory
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host
from .worst_replies import TYPES, Filling

FILESYSTEMS, CONTAINERS = 150, 30


@pytest.fixture(autouse=True)
def every_entity() -> Iterator[None]:
    """Enable also what is disabled by default, and what comes back to a crowd."""
    with (
        patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", new=True),
        patch("custom_components.homelab_monitor.entity._async_restore"),
    ):
        yield


class Turns:
    """What is there at each turn of the event loop: living entities, and entries of both registries."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self.seen: list[tuple[int, int, int]] = []

    def look(self) -> None:
        living = sum(len(platform.entities) for platform in async_get_platforms(self._hass, DOMAIN))
        devices = len(dr.async_get(self._hass)._child_devices)
        self.seen.append((living, len(er.async_get(self._hass).entities), devices))

    async def take(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0)

    @property
    def widest(self) -> int:
        """Return what came or went at most between two turns."""
        steps = (abs(b - a) for one, other in pairwise(self.seen) for a, b in zip(one, other, strict=True))
        return max(steps)


@asynccontextmanager
async def turns(hass: HomeAssistant) -> AsyncIterator[Turns]:
    """Look at each turn of the event loop, in a task that Home Assistant does not wait for."""
    seen = Turns(hass)
    seen.look()
    watcher = asyncio.create_task(seen.take())
    try:
        yield seen
    finally:
        watcher.cancel()
        seen.look()


def fill(host: Host, **counts: int) -> None:
    for kind, count in counts.items():
        host.session.sections[kind] = Filling(count).section(TYPES[kind])


async def test_hundreds_of_entities_are_added_in_batches(hass: HomeAssistant, host: Host) -> None:
    fill(host, filesystems=FILESYSTEMS)
    async with turns(hass) as seen:
        await host.start()
    assert len(hass.states.async_all("sensor")) > 4 * FILESYSTEMS
    assert seen.widest <= 2 * ENTITIES_AT_ONCE


@pytest.fixture
def short_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what three looks miss be gone."""
    monkeypatch.setattr(inventory, "GONE_SECONDS", 200.0)


@pytest.mark.usefixtures("short_day")
async def test_hundreds_of_entities_that_are_gone_for_good_leave_in_batches(hass: HomeAssistant, host: Host) -> None:
    fill(host, filesystems=FILESYSTEMS, containers=CONTAINERS)
    await host.start(containers=["*"])
    before = len(hass.states.async_all())
    host.session.sections["filesystems"] |= {"filesystems": [], "complete": {"mounts": True}}
    host.session.sections["containers"] |= {"containers": [], "engines": [], "complete": {}}
    async with turns(hass) as seen:
        await host.move(4 * 43200, step=43200)
    assert before - len(hass.states.async_all()) > 4 * FILESYSTEMS
    assert not dr.async_get(hass)._child_devices
    assert seen.widest <= 2 * ENTITIES_AT_ONCE


@pytest.mark.usefixtures("short_day")
async def test_what_comes_back_while_hundreds_of_entities_leave_stays(hass: HomeAssistant, host: Host) -> None:
    fill(host, filesystems=FILESYSTEMS)
    await host.start()
    coordinator, told = host.entry.runtime_data, host.session.sections["filesystems"]
    before = set(hass.states.async_entity_ids("sensor"))
    host.session.sections["filesystems"] = told | {"filesystems": [], "complete": {"mounts": True}}
    changes = async_capture_events(hass, er.EVENT_ENTITY_REGISTRY_UPDATED)

    @callback
    def come_back() -> None:
        """Ask for everything over a new connection as soon as the first ones leave."""
        if host.session.sections["filesystems"] is not told and not coordinator.inventory.items["filesystem"]:
            host.session.sections["filesystems"] = told
            hass.async_create_task(coordinator.async_reconnect())

    coordinator.async_add_listener(come_back)
    await host.move(4 * 43200, step=43200)
    left = [event.data["entity_id"] for event in changes if event.data["action"] == "remove"]
    assert 0 < len(left) == len(set(left)) < 2 * FILESYSTEMS < len(before)
    assert set(hass.states.async_entity_ids("sensor")) == before
    assert "unavailable" not in {hass.states.get(entity_id).state for entity_id in before}


@pytest.mark.parametrize(("filesystems", "containers"), [(FILESYSTEMS, CONTAINERS), (1, 2 * ENTITIES_AT_ONCE + 1)])
async def test_a_host_with_hundreds_of_entities_is_unloaded_and_removed_in_batches(
    hass: HomeAssistant, host: Host, filesystems: int, containers: int
) -> None:
    fill(host, filesystems=filesystems, containers=containers)
    await host.start(containers=["*"])
    assert len(dr.async_get(hass)._child_devices) == containers
    async with turns(hass) as seen:
        await hass.config_entries.async_remove(host.entry.entry_id)
        await hass.async_block_till_done()
    assert (hass.states.async_all(), dict(er.async_get(hass).entities)) == ([], {})
    assert not dr.async_get(hass)._child_devices
    assert seen.widest <= 2 * ENTITIES_AT_ONCE


async def test_what_comes_back_before_it_is_removed_keeps_its_entities(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    registry = er.async_get(hass)
    (known,) = [each for each in registry.entities.values() if each.unique_id.endswith("/srv/my data_usage")]
    filesystems = host.session.sections["filesystems"]
    waiting: list[tuple[Sequence[Any], Callable[[Sequence[Any]], None]]] = []
    # As long as the batches of other hosts have their turn.
    with patch(
        "custom_components.homelab_monitor.entity.async_spread",
        lambda _hass, _entry, items, work: waiting.append((items, work)),
    ):
        host.session.sections["filesystems"] = {**filesystems, "filesystems": filesystems["filesystems"][:1]}
        await host.move(4 * 43200, step=43200)
        assert known.unique_id not in str(host.entry.runtime_data.inventory.items["filesystem"])
        host.session.sections["filesystems"] = filesystems
        await host.move(130, step=10)
    for items, work in waiting:
        work(items)
    await host.move(60, step=10)
    assert registry.async_get(known.entity_id) is known
    assert host.state(known.entity_id) != "unavailable"
