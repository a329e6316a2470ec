"""Follow a host to another address, and find the way back; docs/adr/0022 says why both are needed.

Anybody in the network can announce an address. A login there, and what the machine then says that it is, prove that
the host is behind it, but not that nobody relays the connection, so the address that a person gave is kept. Home
Assistant tells an announcement once, and it may come at a bad moment, or after a wrong one: the last addresses are
remembered, and tried as long as polls fail. Nothing here looks for a host anywhere else.
"""

import asyncio
from dataclasses import replace
import logging
import time
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from ..client.bucket import Bucket
from ..client.errors import HomelabError, TimedOut, Unreachable
from ..client.limits import (
    LOOKS_BACK,
    MOVES,
    MOVES_AGAIN,
    MOVES_AT_ONCE,
    MOVES_FORGOTTEN_SECONDS,
    MOVES_KEPT,
    MOVES_MADE,
)
from ..client.transport.host_keys import changed_key
from ..client.transport.names import is_address
from ..client.transport.ssh import peer_of
from ..client.transport.target import Target
from ..const import DOMAIN
from ..coordinator import HomelabCoordinator
from ..health.alarms import async_alarm
from ..settings import HostAddress, is_watched
from .connection import async_is_there, async_read_host_key
from .discovery import async_dismiss_waiting_cards

_LOGGER = logging.getLogger(__name__)

_ANNOUNCED: HassKey[dict[str, Announced]] = HassKey(f"{DOMAIN}_announced")
"""Entry id → where its host was announced."""
_GATE: HassKey[asyncio.Semaphore] = HassKey(f"{DOMAIN}_follow_gate")


@callback
def async_follow(hass: HomeAssistant, entry: ConfigEntry[Any], ip: str) -> None:
    """Let an entry follow its host to an announced address, when nobody answers at the one that is known.

    A name is never replaced: whoever typed it wants it to be looked up. Where a person said that the host is
    goes before what anybody announced.
    """
    known = HostAddress.from_data(entry.data)
    if known.target.host != ip and is_address(known.target.host):
        announced = async_announced(hass, entry)
        announced.remember(known, ip)
        announced.async_look()


@callback
def async_announced(hass: HomeAssistant, entry: ConfigEntry[Any]) -> Announced:
    """Return where the host of an entry was announced."""
    everybody = hass.data.setdefault(_ANNOUNCED, {})
    if entry.entry_id not in everybody:
        everybody[entry.entry_id] = Announced(hass, entry)
    return everybody[entry.entry_id]


@callback
def async_forget(hass: HomeAssistant, entry_id: str) -> None:
    """Forget where a host was announced that is removed."""
    hass.data.get(_ANNOUNCED, {}).pop(entry_id, None)


@callback
def async_follow_gate(hass: HomeAssistant) -> asyncio.Semaphore:
    """Return what lets only a few hosts be looked for at once, so that polls never wait for strangers."""
    return hass.data.setdefault(_GATE, asyncio.Semaphore(MOVES_AT_ONCE))


class Announced:
    """The last addresses that somebody announced for one host, and the looks at them: one at a time.

    Each look is at one address. What is new and what was tried before have a budget each, so that announcements
    without end keep nobody from being looked for again, and cost little more than a look a minute.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
        """Know whose addresses they are; none is known yet."""
        self._hass = hass
        self._entry = entry
        self._given: Target | None = None
        """Where a person said that the host is: who changes that makes it the only address."""
        self._tried: dict[str, float | None] = {}
        """Address → when it was tried last, None for never; what was announced last comes last."""
        self._last = 0.0
        self._look: asyncio.Task[None] | None = None
        self._news, self._again = Bucket(*MOVES), Bucket(*MOVES_AGAIN)
        self.looks_back = Bucket(*LOOKS_BACK)
        self.moves = Bucket(*MOVES_MADE)

    @callback
    def remember(self, known: HostAddress, ip: str) -> None:
        """Keep an address as the newest one; the oldest ones make room."""
        self._forget_if_changed(known)
        self._last = time.monotonic()
        self._tried.pop(ip, None)
        self._tried[ip] = None
        while len(self._tried) > MOVES_KEPT:
            del self._tried[next(iter(self._tried))]

    @callback
    def forget(self, ip: str) -> None:
        """Forget an address that is known by now."""
        self._tried.pop(ip, None)

    @callback
    def settle(self, online_since: float) -> None:
        """Forget all when the host has been online for a while, and nothing was announced since."""
        if time.monotonic() - max(online_since, self._last) >= MOVES_FORGOTTEN_SECONDS:
            self._tried.clear()

    def _forget_if_changed(self, known: HostAddress) -> None:
        """Forget all when a person has given another address meanwhile."""
        if self._given != known.given:
            self._tried.clear()
            self._given = known.given

    @callback
    def async_look(self, *, is_missing: bool = False) -> None:
        """Look for the host where it was announced and nobody has tried; while it is missing, elsewhere once more."""
        known = HostAddress.from_data(self._entry.data)
        self._forget_if_changed(known)
        if self._look is not None or not self._tried:
            return
        is_news = self._newest() is not None and self._news.take()
        if not is_news and not (is_missing and self._longest_ago() is not None and self._again.take()):
            return
        look = self._async_look(known, is_news=is_news)
        self._look = self._hass.async_create_background_task(look, f"{self._entry.title} move")
        self._look.add_done_callback(self._async_looked)

    @callback
    def _async_looked(self, look: asyncio.Task[None]) -> None:
        """Go on with what was announced meanwhile, unless the host is no longer watched."""
        self._look = None
        if not look.cancelled() and is_watched(self._hass, self._entry):
            self.async_look()

    @callback
    def async_stop(self) -> None:
        """End a look: nobody waits for who does not answer when the entry is unloaded."""
        if self._look is not None:
            self._look.cancel()

    async def _async_look(self, known: HostAddress, *, is_news: bool) -> None:
        """Wait for our turn, and try one address."""
        async with async_follow_gate(self._hass):
            ip = self._newest() if is_news else self._longest_ago()
            if ip is not None:
                self._tried[ip] = time.monotonic()
                await self._async_try(known, ip)

    def _newest(self) -> str | None:
        """Return what was announced last of what nobody has tried yet."""
        return next((ip for ip, tried in reversed(self._tried.items()) if tried is None), None)

    def _longest_ago(self) -> str | None:
        """Return where nobody has looked for longest, of what was tried."""
        tried = {ip: at for ip, at in self._tried.items() if at is not None}
        return min(tried, key=tried.__getitem__, default=None)

    async def _async_try(self, known: HostAddress, ip: str) -> None:
        """Follow to an announced address, or back to the one that a person gave, if the known one is silent."""
        hass, entry = self._hass, self._entry
        if not _stands(hass, entry, known) or not await _async_is_silent(entry, known):
            return
        announced = known.at(replace(known.target, host=ip))
        # Who has just been looked for at home is not asked there again for each address.
        is_home_due = bool(known.home) and self.looks_back.take()
        for there in dict.fromkeys((known.at(known.given), announced) if is_home_due else (announced,)):
            if _is_free(hass, entry, there) and await _async_is_there(hass, entry, known, there):
                _move(hass, entry, known, there)
                return


def _is_free(hass: HomeAssistant, entry: ConfigEntry[Any], there: HostAddress) -> bool:
    """Tell whether an address is where a person said that the host is, or no other host of ours lives there."""
    others = hass.config_entries.async_entries(DOMAIN, include_ignore=False)
    return not there.home or all(
        HostAddress.from_data(other.data).target.address != there.target.address
        for other in others
        if other.entry_id != entry.entry_id
    )


async def _async_is_silent(entry: ConfigEntry[Any], known: HostAddress) -> bool:
    """Tell whether nobody answers at the known address; somebody else who does is an alarm."""
    try:
        offered = await async_read_host_key(known.target, known.host_keys)
    except Unreachable, TimedOut:
        return True
    except HomelabError:
        return False
    if HostAddress.from_data(entry.data) == known and (
        changed := changed_key(known.target.host, known.host_keys, offered.line)
    ):
        async_alarm(entry, changed)
    return False


async def _async_is_there(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress, there: HostAddress) -> bool:
    """Tell whether the host lets us in at that address; nobody is asked for an entry that is about something else."""
    if not _stands(hass, entry, known):
        return False
    is_there = await async_is_there(hass, there)
    return is_there and _stands(hass, entry, known) and _is_free(hass, entry, there)


def _stands(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress) -> bool:
    """Tell whether the entry still is what it was; much can happen while the network is waited for."""
    return is_watched(hass, entry) and HostAddress.from_data(entry.data) == known


@callback
def _move(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress, there: HostAddress) -> None:
    """Give the entry the new address; the one that a person gave is kept, until the host is there again.

    A host that goes to and fro stays where it is known for a while, and is looked for again.
    """
    announced = async_announced(hass, entry)
    if not announced.moves.take():
        return
    announced.forget(there.target.host)
    _LOGGER.info("%s is reached at %s now, and no longer at %s", entry.title, there.target.host, known.target.host)
    hass.config_entries.async_update_entry(entry, data={**entry.data, **there.as_data()})
    hass.config_entries.async_schedule_reload(entry.entry_id)


class Elsewhere:
    """Looks for a host that does not answer where else it may be: where it was announced, and on the way back."""

    def __init__(self, coordinator: HomelabCoordinator) -> None:
        """Remember whose host it is; nobody is asked yet."""
        self._coordinator = coordinator
        self._announced = async_announced(coordinator.hass, coordinator.config_entry)
        coordinator.config_entry.async_on_unload(self._announced.async_stop)
        self._seen = coordinator.data.snapshot
        self._online_since: float | None = None
        self._is_looking_back = False

    @callback
    def async_polled(self) -> None:
        """Look after a failed poll, now and then; where a person said that it is only once it counts as offline."""
        data = self._coordinator.data
        if not data.is_online:
            self._online_since = None
        if data.error is None:
            if data.is_online and data.snapshot is not self._seen:
                self._note_success()
            return
        if not data.is_online:
            self._look_back()
        # Where a person said that the host is goes first.
        if not self._is_looking_back:
            self._announced.async_look(is_missing=True)

    def _note_success(self) -> None:
        """Note that the host is at its address, by a poll that has just succeeded."""
        self._seen = self._coordinator.data.snapshot
        if self._online_since is None:
            self._online_since = time.monotonic()
            # It may have been found before it was known that its name leads there.
            peer = peer_of(self._coordinator.session.connection)
            async_dismiss_waiting_cards(self._coordinator.hass, self._coordinator.address.target, peer)
        self._announced.settle(self._online_since)

    def _look_back(self) -> None:
        """Look where a person said that the host is, if it was followed to another address."""
        is_due = self._coordinator.address.home and not self._is_looking_back
        if not is_due or not self._announced.looks_back.take():
            return
        self._is_looking_back = True
        hass, entry = self._coordinator.hass, self._coordinator.config_entry
        entry.async_create_background_task(hass, self._async_look_back(), f"{entry.title} way back")

    async def _async_look_back(self) -> None:
        """Let the entry go back when the host lets us in there."""
        hass, entry = self._coordinator.hass, self._coordinator.config_entry
        known = HostAddress.from_data(entry.data)
        home = known.at(known.given)
        try:
            # Not through the gate of those that are followed: anybody can fill that.
            is_there = await _async_is_there(hass, entry, known, home)
        finally:
            self._is_looking_back = False
        if is_there and not self._coordinator.data.is_online:
            _move(hass, entry, known, home)
