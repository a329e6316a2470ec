"""What all sessions with hosts share: one copy of the probe programs, and few handshakes at once."""

import asyncio
from collections.abc import Sequence

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .client.programs import Programs, load_programs
from .client.session import ProbeSession
from .client.target import Target
from .const import DOMAIN, MAX_HANDSHAKES
from .store import async_get_key

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


async def async_new_session(
    hass: HomeAssistant,
    target: Target,
    host_keys: Sequence[str],
    *,
    timeout: float,  # noqa: ASYNC109
    each_poll: bool = False,
) -> ProbeSession:
    """Return a session with a machine that must prove one of these keys; whoever asks for it closes it."""
    return ProbeSession(
        target,
        await async_get_key(hass),
        host_keys,
        await async_programs(hass),
        timeout=timeout,
        gate=async_gate(hass),
        each_poll=each_poll,
    )
