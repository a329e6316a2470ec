"""A real Home Assistant core in this process that polls one host: config entry, coordinator, platforms, entities."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import logging
from statistics import fmean
import tempfile
from types import MappingProxyType

# Before the harness's own `custom_components` package is found, ours has to be.
import custom_components.homelab_monitor  # noqa: F401  # isort: skip

from bench_clock import QuickClock, quicken_hub, quicken_probe
from bench_places import Place
from bench_table import Figure
from homeassistant import loader
from homeassistant.config_entries import SOURCE_USER, ConfigEntry
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.storage import Store
from pytest_homeassistant_custom_component.common import async_test_home_assistant

from custom_components.homelab_monitor import coordinator as polling, sessions
from custom_components.homelab_monitor.client.probe.programs import Programs, load_programs
from custom_components.homelab_monitor.const import DOMAIN, PLATFORM_LINUX
from custom_components.homelab_monitor.settings import HostAddress
from custom_components.homelab_monitor.store import KEY_STORAGE_KEY, STORAGE_VERSION

SETTLING_POLLS = 60
"""Polls before measuring: rates exist after two, every entity after one of each section."""
SETTLING_SECONDS = 45.0
"""The same by real clocks."""
MINUTES_A_DAY = 1440.0


class Hub:
    """Home Assistant with one host, polled when told to."""

    def __init__(self, hass: HomeAssistant, coordinator: polling.HomelabCoordinator, clock: QuickClock) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._hass = hass
        self.written = 0
        hass.bus.async_listen(EVENT_STATE_CHANGED, self._count)

    @property
    def entities(self) -> int:
        """Return how many entities the host has."""
        return len(self._hass.states.async_all())

    async def poll(self) -> None:
        """Let an interval pass and poll, all entities included."""
        self._clock.jump()
        await self._coordinator.async_refresh()
        if self._coordinator.data.status is not polling.HostStatus.ONLINE:
            raise SystemExit(f"the host cannot be polled: {self._coordinator.data.error}")

    @callback
    def _count(self, _event: Event[EventStateChangedData]) -> None:
        """Count a written state."""
        self.written += 1


@asynccontextmanager
async def open_hub(place: Place) -> AsyncIterator[Hub]:
    """Start Home Assistant, add the host, poll until everything is there; stop it in the end."""
    async with _home_assistant() as hass:
        quick = quicken_probe(await hass.async_add_executor_job(load_programs))
        entry = await _add_host(hass, place, quick)
        hub = Hub(hass, entry.runtime_data, quicken_hub())
        for _ in range(SETTLING_POLLS):
            await hub.poll()
        await hass.async_block_till_done(wait_background_tasks=True)
        yield hub
        await hass.config_entries.async_unload(entry.entry_id)


async def rows_a_day(place: Place, minutes: int) -> Figure:
    """Let Home Assistant poll by itself, by real clocks; return what a recorder would write, per day."""
    async with _home_assistant() as hass:
        entry = await _add_host(hass, place, await hass.async_add_executor_job(load_programs))
        await asyncio.sleep(SETTLING_SECONDS)
        hub = Hub(hass, entry.runtime_data, QuickClock())
        per_minute = []
        for _ in range(minutes):
            written = hub.written
            await asyncio.sleep(60)
            per_minute.append(MINUTES_A_DAY * (hub.written - written))
        await hass.config_entries.async_unload(entry.entry_id)
    return Figure.of(per_minute, fmean)


@asynccontextmanager
async def _home_assistant() -> AsyncIterator[HomeAssistant]:
    """Start a core that finds the integration; stop it in the end."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as folder:
        async with async_test_home_assistant(config_dir=folder) as hass:
            hass.data.pop(loader.DATA_CUSTOM_COMPONENTS)
            yield hass
            await hass.async_stop(force=True)


async def _add_host(hass: HomeAssistant, place: Place, programs: Programs) -> polling.HomelabConfigEntry:
    """Return the config entry of the host, set up and polled once."""
    keys: Store[dict[str, str]] = Store(hass, STORAGE_VERSION, KEY_STORAGE_KEY, private=True)
    await keys.async_save({"private_key": place.key.private_openssh})
    read = hass.loop.create_future()
    read.set_result(programs)
    hass.data[sessions._PROGRAMS] = read  # noqa: SLF001
    entry = _make_entry(place)
    await hass.config_entries.async_add(entry)
    await hass.async_block_till_done(wait_background_tasks=True)
    return entry


def _make_entry(place: Place) -> polling.HomelabConfigEntry:
    """Return a config entry as the config flow makes it."""
    address = HostAddress(target=place.target, host_id="0" * 32, host_keys=place.host_keys, platform=PLATFORM_LINUX)
    return ConfigEntry(
        data=address.as_data(),
        discovery_keys=MappingProxyType({}),
        domain=DOMAIN,
        minor_version=1,
        options=dict(place.options),
        source=SOURCE_USER,
        subentries_data=(),
        title="server",
        unique_id=address.host_id,
        version=1,
    )
