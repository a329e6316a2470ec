"""Follow a host to another address, and find the way back; docs/adr/0022 says why both are needed.

Anybody in the network can announce an address. A login there, and what the machine then says that it is, prove that
the host is behind it, but not that nobody relays the connection, so the address that a person gave is kept. Nothing
here looks for a host at any other address than these two.
"""

from dataclasses import replace
import logging
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from .client.bucket import Bucket
from .client.errors import HomelabError, TimedOut, Unreachable
from .client.limits import LOOKS_BACK, MOVES_WAITING
from .client.target import Target
from .const import DOMAIN
from .contact import async_is_there, async_read_host_key
from .coordinator import HomelabCoordinator
from .discovery import async_follow_gate, async_follows, async_may_follow, is_ip_address
from .settings import HostAddress, is_watched

_LOGGER = logging.getLogger(__name__)


async def async_follow(hass: HomeAssistant, entry: ConfigEntry[Any], ip: str) -> None:
    """Let an entry follow its host to an announced address, when nobody answers at the one that is known.

    A name is never replaced: whoever typed it wants it to be looked up. Where a person said that the host is
    goes before what anybody announced. One look per host waits at most: announcements cost their sender nothing.
    """
    known = HostAddress.from_data(entry.data)
    if known.target.host == ip or not is_ip_address(known.target.host):
        return
    looked_for = async_follows(hass)
    if entry.entry_id in looked_for:
        looked_for[entry.entry_id] = ip  # Who waits goes to where it was announced last.
        return
    if len(looked_for) >= MOVES_WAITING or not async_may_follow(hass, entry.entry_id):
        return
    looked_for[entry.entry_id] = ip
    try:
        async with async_follow_gate(hass):
            await _async_look(hass, entry, known, looked_for[entry.entry_id])
    finally:
        del looked_for[entry.entry_id]


async def _async_look(hass: HomeAssistant, entry: ConfigEntry[Any], known: HostAddress, ip: str) -> None:
    """Follow to an announced address, or back to the one that a person gave, if the known one is silent."""
    if not _stands(hass, entry, known) or not await _async_is_silent(known.target):
        return
    announced = known.at(replace(known.target, host=ip))
    for there in (known.at(known.given), announced) if known.home else (announced,):
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


async def _async_is_silent(target: Target) -> bool:
    """Tell whether nobody answers there."""
    try:
        await async_read_host_key(target)
    except Unreachable, TimedOut:
        return True
    except HomelabError:
        return False
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
    """Give the entry the new address; the one that a person gave is kept, until the host is there again."""
    _LOGGER.info("%s is reached at %s now, and no longer at %s", entry.title, there.target.host, known.target.host)
    hass.config_entries.async_update_entry(entry, data={**entry.data, **there.as_data()})
    hass.config_entries.async_schedule_reload(entry.entry_id)


class WayBack:
    """Looks for a host that was followed where a person said that it is, while it does not answer elsewhere."""

    def __init__(self, coordinator: HomelabCoordinator) -> None:
        """Remember whose way it is; nobody is asked yet."""
        self._coordinator = coordinator
        self._looks = Bucket(*LOOKS_BACK)
        self._is_looking = False

    @callback
    def async_polled(self) -> None:
        """Look after a failed poll, now and then, as long as the host is not online."""
        data, entry = self._coordinator.data, self._coordinator.config_entry
        if data.is_online or data.error is None or self._is_looking or not self._looks.take():
            return
        self._is_looking = True
        entry.async_create_background_task(self._coordinator.hass, self._async_look(), f"{entry.title} way back")

    async def _async_look(self) -> None:
        """Let the entry go back when the host lets us in there."""
        hass, entry = self._coordinator.hass, self._coordinator.config_entry
        known = HostAddress.from_data(entry.data)
        home = known.at(known.given)
        try:
            # Not through the gate of those that are followed: anybody can fill that.
            is_there = await _async_is_there(hass, entry, known, home)
        finally:
            self._is_looking = False
        if is_there and not self._coordinator.data.is_online:
            _move(hass, entry, known, home)
