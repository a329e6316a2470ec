"""Follow a host to another address, and back again; docs/adr/0022 explains why both are needed.

Anybody in the network can announce an address. A login there, and the identity that the machine then reports, prove
that the host is behind it, but not that nobody relays the connection, so the address that a person gave is kept. Home
Assistant passes on an announcement once, and it may come at a bad moment, or after a wrong one: the last addresses are
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
from ..settings import HostAddress, is_monitored
from .connection import async_is_there, async_read_host_key
from .discovery import async_dismiss_waiting_cards

_LOGGER = logging.getLogger(__name__)

_ANNOUNCED: HassKey[dict[str, Announced]] = HassKey(f"{DOMAIN}_announced")
"""Entry id → the addresses where its host was announced."""
_GATE: HassKey[asyncio.Semaphore] = HassKey(f"{DOMAIN}_follow_gate")


@callback
def async_follow(hass: HomeAssistant, entry: ConfigEntry[Any], ip: str) -> None:
    """Let an entry follow its host to an announced address if nobody answers at the known one.

    A name is never replaced: the person who typed it wants it to be resolved. The address that a person gave takes
    precedence over announced ones.
    """
    known = HostAddress.from_data(entry.data)
    if known.target.host != ip and is_address(known.target.host):
        announced = async_announced(hass, entry)
        announced.remember(known, ip)
        announced.async_check()


@callback
def async_announced(hass: HomeAssistant, entry: ConfigEntry[Any]) -> Announced:
    """Return the announced addresses of the host of an entry."""
    hosts = hass.data.setdefault(_ANNOUNCED, {})
    if entry.entry_id not in hosts:
        hosts[entry.entry_id] = Announced(hass, entry)
    return hosts[entry.entry_id]


@callback
def async_forget(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the announced addresses of a host that is removed."""
    hass.data.get(_ANNOUNCED, {}).pop(entry_id, None)


@callback
def async_follow_gate(hass: HomeAssistant) -> asyncio.Semaphore:
    """Return the semaphore that limits how many hosts are looked for at once, so that polls never wait for it."""
    return hass.data.setdefault(_GATE, asyncio.Semaphore(MOVES_AT_ONCE))


class Announced:
    """The last announced addresses of one host, which are checked one at a time.

    Each check is of one address. New addresses and those that were tried before have a budget each, so that endless
    announcements neither stop further checks of known addresses nor cost much more than a check a minute.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
        """Start without addresses."""
        self._hass = hass
        self._entry = entry
        self._given: Target | None = None
        """The address that a person gave: if they change it, all others are forgotten."""
        self._tried: dict[str, float | None] = {}
        """Address → when it was tried last, None for never; the last announced address comes last."""
        self._last = 0.0
        self._check: asyncio.Task[None] | None = None
        self._news, self._again = Bucket(*MOVES), Bucket(*MOVES_AGAIN)
        self.looks_back = Bucket(*LOOKS_BACK)
        self.moves = Bucket(*MOVES_MADE)

    @callback
    def remember(self, known: HostAddress, ip: str) -> None:
        """Keep an address as the newest one; drop the oldest ones if there are too many."""
        self._forget_if_changed(known)
        self._last = time.monotonic()
        self._tried.pop(ip, None)
        self._tried[ip] = None
        while len(self._tried) > MOVES_KEPT:
            del self._tried[next(iter(self._tried))]

    @callback
    def forget(self, ip: str) -> None:
        """Forget an address that has become the known one."""
        self._tried.pop(ip, None)

    @callback
    def settle(self, online_since: float) -> None:
        """Forget all addresses if the host has been online for a while without an announcement since."""
        if time.monotonic() - max(online_since, self._last) >= MOVES_FORGOTTEN_SECONDS:
            self._tried.clear()

    def _forget_if_changed(self, known: HostAddress) -> None:
        """Forget all addresses if a person has given another address meanwhile."""
        if self._given != known.given:
            self._tried.clear()
            self._given = known.given

    @callback
    def async_check(self, *, is_missing: bool = False) -> None:
        """Check the newest untried address; while the host is missing, also one that was tried before."""
        known = HostAddress.from_data(self._entry.data)
        self._forget_if_changed(known)
        if self._check is not None or not self._tried:
            return
        is_news = self._newest() is not None and self._news.take()
        if not is_news and not (is_missing and self._longest_ago() is not None and self._again.take()):
            return
        check = self._async_check_one(known, is_news=is_news)
        self._check = self._hass.async_create_background_task(check, f"{self._entry.title} move")
        self._check.add_done_callback(self._async_checked)

    @callback
    def _async_checked(self, check: asyncio.Task[None]) -> None:
        """Go on with addresses that were announced meanwhile, unless the host is no longer monitored."""
        self._check = None
        if not check.cancelled() and is_monitored(self._hass, self._entry):
            self.async_check()

    @callback
    def async_stop(self) -> None:
        """Cancel a check, so that unloading the entry does not wait for an address that does not answer."""
        if self._check is not None:
            self._check.cancel()

    async def _async_check_one(self, known: HostAddress, *, is_news: bool) -> None:
        """Wait for the gate, and try one address."""
        async with async_follow_gate(self._hass):
            ip = self._newest() if is_news else self._longest_ago()
            if ip is not None:
                self._tried[ip] = time.monotonic()
                await self._async_try(known, ip)

    def _newest(self) -> str | None:
        """Return the last announced of the untried addresses, None if there is none."""
        return next((ip for ip, tried in reversed(self._tried.items()) if tried is None), None)

    def _longest_ago(self) -> str | None:
        """Return the tried address whose last check is longest ago, None if there is none."""
        tried = {ip: at for ip, at in self._tried.items() if at is not None}
        return min(tried, key=tried.__getitem__, default=None)

    async def _async_try(self, known: HostAddress, ip: str) -> None:
        """Move to an announced address, or back to the one that a person gave, if the known one is silent."""
        hass, entry = self._hass, self._entry
        if not _stands(hass, entry, known) or not await _async_is_silent(entry, known):
            return
        announced = known.at(replace(known.target, host=ip))
        # The address that a person gave is not checked again for each announced one.
        is_home_due = bool(known.home) and self.looks_back.take()
        for there in dict.fromkeys((known.at(known.given), announced) if is_home_due else (announced,)):
            if _is_free(hass, entry, there) and await _async_is_there(hass, entry, known, there):
                _move(hass, entry, known, there)
                return


def _is_free(hass: HomeAssistant, entry: ConfigEntry[Any], there: HostAddress) -> bool:
    """Return whether an address is the one that a person gave, or no other host of ours has it."""
    others = hass.config_entries.async_entries(DOMAIN, include_ignore=False)
    return not there.home or all(
        HostAddress.from_data(other.data).target.address != there.target.address
        for other in others
        if other.entry_id != entry.entry_id
    )


async def _async_is_silent(entry: ConfigEntry[Any], known: HostAddress) -> bool:
    """Return whether nobody answers at the known address; raise the alarm if another machine does."""
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
    """Return whether the host accepts our login at that address; False without a login if the entry has changed."""
    if not _stands(hass, entry, known):
        return False
    is_there = await async_is_there(hass, there)
    return is_there and _stands(hass, entry, known) and _is_free(hass, entry, there)


def _stands(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress) -> bool:
    """Return whether the entry is unchanged; it may change while we wait for the network."""
    return is_monitored(hass, entry) and HostAddress.from_data(entry.data) == known


@callback
def _move(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress, there: HostAddress) -> None:
    """Set the new address of the entry; the one that a person gave is kept until the host is back there.

    A host that moves back and forth keeps its known address for a while, and is then looked for again.
    """
    announced = async_announced(hass, entry)
    if not announced.moves.take():
        return
    announced.forget(there.target.host)
    _LOGGER.info("%s is now reached at %s, no longer at %s", entry.title, there.target.host, known.target.host)
    hass.config_entries.async_update_entry(entry, data={**entry.data, **there.as_data()})
    hass.config_entries.async_schedule_reload(entry.entry_id)


class AddressFinder:
    """Looks for a host that does not answer at its other addresses: announced ones, and the one that a person gave."""

    def __init__(self, coordinator: HomelabCoordinator) -> None:
        """Remember the host; nothing is contacted yet."""
        self._coordinator = coordinator
        self._announced = async_announced(coordinator.hass, coordinator.config_entry)
        coordinator.config_entry.async_on_unload(self._announced.async_stop)
        self._seen = coordinator.data.snapshot
        self._online_since: float | None = None
        self._is_checking_home = False

    @callback
    def async_polled(self) -> None:
        """Look after a failed poll, now and then; at the address that a person gave only once the host is offline."""
        data = self._coordinator.data
        if not data.is_online:
            self._online_since = None
        if data.error is None:
            if data.is_online and data.snapshot is not self._seen:
                self._note_success()
            return
        if not data.is_online:
            self._check_home()
        # The address that a person gave goes first.
        if not self._is_checking_home:
            self._announced.async_check(is_missing=True)

    def _note_success(self) -> None:
        """Note that the host is at its address, as a poll has just succeeded."""
        self._seen = self._coordinator.data.snapshot
        if self._online_since is None:
            self._online_since = time.monotonic()
            # A card may be older than the knowledge that the host's name leads to that address.
            peer = peer_of(self._coordinator.session.connection)
            async_dismiss_waiting_cards(self._coordinator.hass, self._coordinator.address.target, peer)
        self._announced.settle(self._online_since)

    def _check_home(self) -> None:
        """Look at the address that a person gave, if the host was followed to another one."""
        is_due = self._coordinator.address.home and not self._is_checking_home
        if not is_due or not self._announced.looks_back.take():
            return
        self._is_checking_home = True
        hass, entry = self._coordinator.hass, self._coordinator.config_entry
        entry.async_create_background_task(hass, self._async_check_home(), f"{entry.title} way back")

    async def _async_check_home(self) -> None:
        """Move the entry back if the host accepts our login there."""
        hass, entry = self._coordinator.hass, self._coordinator.config_entry
        known = HostAddress.from_data(entry.data)
        home = known.at(known.given)
        try:
            # Not through the gate for announced addresses: anybody can fill that.
            is_there = await _async_is_there(hass, entry, known, home)
        finally:
            self._is_checking_home = False
        if is_there and not self._coordinator.data.is_online:
            _move(hass, entry, known, home)
