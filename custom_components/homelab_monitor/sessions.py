"""What all sessions with hosts share: one copy of the probe programs, and few handshakes at once."""

import asyncio

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .client.programs import Programs, load_programs
from .const import DOMAIN, MAX_HANDSHAKES

_PROGRAMS: HassKey[asyncio.Future[Programs]] = HassKey(f"{DOMAIN}_programs")
_GATE: HassKey[asyncio.Semaphore] = HassKey(f"{DOMAIN}_gate")


async def async_programs(hass: HomeAssistant) -> Programs:
    """Return the probe programs, read once from disk."""
    if (future := hass.data.get(_PROGRAMS)) is None:
        future = hass.loop.run_in_executor(None, load_programs)
        hass.data[_PROGRAMS] = future
    return await asyncio.shield(future)


@callback
def async_gate(hass: HomeAssistant) -> asyncio.Semaphore:
    """Return what lets only so many SSH handshakes happen at once."""
    return hass.data.setdefault(_GATE, asyncio.Semaphore(MAX_HANDSHAKES))
