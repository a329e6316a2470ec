"""A real Home Assistant core in this process, as scripts/soak runs it: it is restarted, and time passes by jumps.

All of it is real that the integration meets: registries, storage and restored states on disk, the start and the stop.
Nothing of Home Assistant is loaded but what the integration depends on.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import logging
from pathlib import Path
import threading
import time
from types import MappingProxyType, SimpleNamespace
from typing import Any, override

# The clocks before everything that reads one.
from soak_clock import CLOCKS, move_probe  # isort: skip
import custom_components.homelab_monitor  # noqa: F401  # isort: skip - before Home Assistant looks for others

from dataclasses import replace

from homeassistant import loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.bootstrap import async_load_base_functionality
from homeassistant.config_entries import SOURCE_USER, ConfigEntries, ConfigEntry
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.storage import Store
from homeassistant.setup import async_setup_component
from soak_places import Place

from custom_components.homelab_monitor import sessions
from custom_components.homelab_monitor.client.probe.programs import Programs, load_programs, make_program
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.probe.snapshot import Reply
from custom_components.homelab_monitor.client.transport.ssh import Connection
from custom_components.homelab_monitor.const import DOMAIN, PLATFORM_LINUX
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.settings import HostAddress
from custom_components.homelab_monitor.store import KEY_STORAGE_KEY, STORAGE_VERSION

POOL_THREADS = 4
OFF_SECONDS = 30.0
"""How long Home Assistant is down when it is restarted."""
LATE_SECONDS = 2.0
"""Real time for a host that is late: what it does takes no less while clocks are moved."""
_LONG_STUCK = 60.0


class Underway:
    """What waits for the host: meanwhile no time may pass but the real one."""

    def __init__(self) -> None:
        self.count = 0
        self.asked: Counter[str] = Counter()
        """How often each section was asked in polls."""
        self.late: Counter[str] = Counter()
        """How often it had not come back in time."""
        ProbeSession.poll = self._counted_poll(ProbeSession.poll)  # type: ignore[method-assign]
        # Each is all that something asks of the host beside the polls, or a part of it.
        for owner, name in ((ProbeSession, "connect"), (ProbeSession, "ask_aside"), (Connection, "run")):
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return the method, counted while it runs."""

        @functools.wraps(method)
        async def counted(*args: object, **kwargs: object) -> object:
            self.count += 1
            try:
                return await method(*args, **kwargs)
            finally:
                self.count -= 1

        return counted

    def _counted_poll(self, poll: Callable[..., Awaitable[Reply]]) -> Callable[..., Awaitable[Reply]]:
        """Return the method that polls, counted while it runs, with a note of what was asked and what was late."""
        poll = self._counted(poll)

        @functools.wraps(poll)
        async def noted(session: ProbeSession, sections: Sequence[str], *args: object, **kwargs: object) -> Reply:
            self.asked.update(sections)
            reply = await poll(session, sections, *args, **kwargs)
            self.late.update(name for name, reason in reply.missing.items() if reason == "timed_out")
            return reply

        return noted


class Hub:
    """Home Assistant with one host."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.underway = Underway()
        self.rows = 0
        self.news: list[str] = []
        """What event entities told: entity and type."""
        self.shown: dict[str, set[str]] = {}
        """What states each entity had."""
        self._told: dict[str, str] = {}
        self._programs: Programs | None = None

    async def start(self) -> None:
        """Start Home Assistant; the host is added at the first start."""
        if self._programs is None:
            await self._fill_pool()
        self.hass = hass = HomeAssistant(str(self.folder))
        loader.async_setup(hass)
        hass.config.skip_pip = True
        hass.config_entries = ConfigEntries(hass, {})
        await async_load_base_functionality(hass)
        hass.auth = await auth_manager_from_config(hass, [], [])
        hass.bus.async_listen(EVENT_STATE_CHANGED, self._note)
        await self._give_programs()
        # Nobody opens a page: what the integration's dependencies need of it is imported, no server listens.
        hass.config.components.update({"http", "websocket_api"})
        hass.http = SimpleNamespace(register_view=lambda _view: None)
        await async_setup_component(hass, "homeassistant", {})
        await async_setup_component(hass, DOMAIN, {})
        if not hass.config_entries.async_entries(DOMAIN):
            keys: Store[dict[str, str]] = Store(hass, STORAGE_VERSION, KEY_STORAGE_KEY, private=True)
            await keys.async_save({"private_key": self.place.key.private_openssh})
            await hass.config_entries.async_add(_make_entry(self.place))
        await hass.async_start()
        await self.settle()

    @staticmethod
    async def _fill_pool() -> None:
        """Have all threads of the pool from the beginning: how many there are says nothing then."""
        pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="pool")
        asyncio.get_running_loop().set_default_executor(pool)
        barrier = threading.Barrier(POOL_THREADS)
        await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(None, barrier.wait) for _ in range(POOL_THREADS))
        )

    async def _give_programs(self) -> None:
        """Let the integration send a probe whose clocks move with ours."""
        if self._programs is None:
            programs = await self.hass.async_add_executor_job(load_programs)
            moved = move_probe(programs.linux.source, self.place.clock)
            self._programs = replace(programs, linux=make_program("probe.py", moved))
        read = self.hass.loop.create_future()
        read.set_result(self._programs)
        self.hass.data[sessions._PROGRAMS] = read  # noqa: SLF001

    def forget(self) -> None:
        """Count from now on."""
        self.rows, self.news, self.shown, LOGGED.lines = 0, [], {}, []
        self.underway.asked.clear()
        self.underway.late.clear()

    @property
    def entry(self) -> ConfigEntry[HomelabCoordinator]:
        """Return the host's config entry."""
        return self.hass.config_entries.async_entries(DOMAIN)[0]

    async def stop(self) -> None:
        """Stop Home Assistant as a person does."""
        await self.hass.async_stop()

    async def restart(self) -> None:
        """Restart Home Assistant."""
        await self.stop()
        CLOCKS.jump(OFF_SECONDS)
        await self.start()

    async def reload(self) -> None:
        """Reload the host's entry."""
        await self.hass.config_entries.async_reload(self.entry.entry_id)
        await self.settle()

    # ------------------------------------------------------------ time

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: from timer to timer, each with all that it leads to."""
        end = CLOCKS.ahead + seconds
        while (left := end - CLOCKS.ahead) > 0:
            due = self._next_timer() - self.hass.loop.time()
            CLOCKS.jump(min(max(due, 0.0) + 0.001, left))
            late = self.underway.late.total()
            await self.settle()
            if self.underway.late.total() > late:
                await asyncio.sleep(LATE_SECONDS)

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are armed."""
        scheduled: list[asyncio.TimerHandle] = self.hass.loop._scheduled  # type: ignore[attr-defined]  # noqa: SLF001
        return [timer for timer in scheduled if not timer.cancelled()]

    def _next_timer(self) -> float:
        """Return when the next timer is due."""
        return min((timer.when() for timer in self.timers()), default=self.hass.loop.time() + 1.0)

    async def settle(self) -> None:
        """Wait until nothing is under way and all that was due has run."""
        calm, stuck = 0, time.monotonic() + _LONG_STUCK
        while calm < 4:  # noqa: PLR2004 - a timer, the task that it starts, what that one awaits, and what that leads to
            await asyncio.sleep(0.0005 if self._is_busy() else 0)
            calm = 0 if self._is_busy() else calm + 1
            if time.monotonic() > stuck:
                raise SystemExit(f"something does not end: {self.underway.count} requests")

    def _is_busy(self) -> bool:
        """Tell whether the host or a thread works for us."""
        pending = self.hass._tasks | self.hass._background_tasks  # noqa: SLF001
        return self.underway.count > 0 or any(not isinstance(each, asyncio.Task) for each in pending)

    # ------------------------------------------------------------ what is written

    @callback
    def _note(self, event: Event[EventStateChangedData]) -> None:
        """Count a written state and note what it tells."""
        new = event.data["new_state"]
        if new is None:
            return
        self.rows += 1
        self.shown.setdefault(new.entity_id, set()).add(new.state)
        if new.domain != "event" or new.state in ("unknown", "unavailable"):
            return
        if self._told.get(new.entity_id) != new.state:
            self._told[new.entity_id] = new.state
            self.news.append(f"{new.entity_id}: {new.attributes.get('event_type')}")


def _make_entry(place: Place) -> ConfigEntry[HomelabCoordinator]:
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


class Logged(logging.Handler):
    """Keeps what is logged as a warning or worse; nothing of it is printed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def begin(self) -> None:
        """Take the place of every other handler."""
        logging.root.handlers = [self]

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, but for the one that every custom integration is loaded with."""
        if record.name != "homeassistant.loader":
            self.lines.append(f"{record.name}: {record.getMessage().partition(chr(10))[0]}")


LOGGED = Logged()
