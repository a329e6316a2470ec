"""What all sessions with hosts share: one copy of the probe programs, and a limit of handshakes at once."""

import asyncio
from collections.abc import Sequence

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .client.probe.programs import Programs, load_programs
from .client.probe.session import ProbeSession
from .client.transport.target import Target
from .const import DOMAIN, MAX_DOUBTFUL_HANDSHAKES, MAX_HANDSHAKES
from .store import async_get_key

_PROGRAMS: HassKey[asyncio.Future[Programs]] = HassKey(f"{DOMAIN}_programs")
_GATE: HassKey[asyncio.Semaphore] = HassKey(f"{DOMAIN}_gate")
_SIDE_GATE: HassKey[asyncio.Semaphore] = HassKey(f"{DOMAIN}_side_gate")


async def async_programs(hass: HomeAssistant) -> Programs:
    """Return the probe programs, read once from disk."""
    if (future := hass.data.get(_PROGRAMS)) is None:
        future = hass.loop.run_in_executor(None, load_programs)
        hass.data[_PROGRAMS] = future
    return await asyncio.shield(future)


@callback
def async_gate(hass: HomeAssistant) -> asyncio.Semaphore:
    """Return the semaphore that limits the number of SSH handshakes at once."""
    return hass.data.setdefault(_GATE, asyncio.Semaphore(MAX_HANDSHAKES))


@callback
def async_side_gate(hass: HomeAssistant) -> asyncio.Semaphore:
    """Return the gate for machines that failed last time, so that they take no place of those that work."""
    return hass.data.setdefault(_SIDE_GATE, asyncio.Semaphore(MAX_DOUBTFUL_HANDSHAKES))


async def async_new_session(  # noqa: PLR0913
    hass: HomeAssistant,
    target: Target,
    host_keys: Sequence[str],
    *,
    timeout: float,  # noqa: ASYNC109
    each_poll: bool = False,
    afresh: bool = False,
    is_doubtful: bool = False,
    machine: str = "",
) -> ProbeSession:
    """Return a session with a machine that must prove one of these keys; the caller closes it.

    `afresh`: not all keys are confirmed, so the first login keeps its own and drops the others.
    `is_doubtful`: it is unknown whether a machine answers at that address.
    `machine`: the id of the machine among all that may have such a key, "" if not known.
    """
    return ProbeSession(
        target,
        await async_get_key(hass),
        host_keys,
        await async_programs(hass),
        timeout=timeout,
        gate=async_side_gate(hass) if is_doubtful else async_gate(hass),
        side_gate=async_side_gate(hass),
        each_poll=each_poll,
        afresh=afresh,
        machine=machine,
    )
