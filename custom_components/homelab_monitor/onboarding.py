"""The contact with one host while a dialog is about it: log in, try the probe, learn who it is.

Used by every step of the config flow that talks to a host. Nothing is kept but what the
config entry will hold; whoever opens a contact closes it.
"""

from collections.abc import Sequence
import time
from typing import Self

from homeassistant.core import HomeAssistant, callback

from .client.errors import first_line
from .client.identity import host_id
from .client.models import SECTIONS, Snapshot
from .client.session import ProbeSession
from .client.ssh import scan_host_keys
from .client.target import Target
from .const import DEFAULT_TIMEOUT
from .coordinator import async_gate, async_programs
from .settings import HostAddress, HostOptions
from .store import HostMemory, async_get_key, async_hand_over


async def async_read_host_keys(target: Target) -> tuple[str, ...]:
    """Return the keys by which the machine at that address proves itself; raise HomelabError."""
    return await scan_host_keys(target.host, target.port, DEFAULT_TIMEOUT)


class HostContact:
    """One host that a person is adding or repairing; connects only when asked to."""

    def __init__(self, target: Target, host_keys: Sequence[str], session: ProbeSession) -> None:
        """Remember whom to contact."""
        self.target = target
        self.snapshot = Snapshot()
        self._host_keys = tuple(host_keys)
        self._session = session

    @classmethod
    async def async_prepare(cls, hass: HomeAssistant, target: Target, host_keys: Sequence[str]) -> Self:
        """Return the contact with a machine that must prove one of these keys."""
        session = ProbeSession(
            target,
            await async_get_key(hass),
            host_keys,
            await async_programs(hass),
            timeout=DEFAULT_TIMEOUT,
            gate=async_gate(hass),
        )
        return cls(target, host_keys, session)

    async def async_log_in(self) -> None:
        """Open the connection, or raise the HomelabError that says why not."""
        await self._session.connect()

    async def async_dry_run(self) -> None:
        """Ask the probe for every section, as polling will; a failure ends the connection."""
        try:
            reply = await self._session.poll(list(SECTIONS))
        except BaseException:
            await self._session.disconnect()
            raise
        self._keep_proven_keys()
        self.snapshot = Snapshot().merged(reply, time.time(), HostOptions().stale_after)

    async def async_close(self) -> None:
        """End the connection; raises nothing."""
        await self._session.close()

    def _keep_proven_keys(self) -> None:
        """Pin also the keys that the host has proven since the login."""
        if self._session.connection is not None:
            self._host_keys = tuple(dict.fromkeys((*self._host_keys, *self._session.connection.host_keys)))

    @property
    def address(self) -> HostAddress:
        """Return what the config entry will hold."""
        identity = host_id(self.snapshot.sections.system, self._session.host_key)
        return HostAddress(target=self.target, host_id=identity, host_keys=self._host_keys)

    @property
    def title(self) -> str:
        """Return the name that the machine gives itself, else its address."""
        system = self.snapshot.sections.system
        return first_line(system.hostname if system else "") or self.target.host

    @callback
    def async_hand_over(self, hass: HomeAssistant, identity: str) -> None:
        """Let what was just seen be the first state of the entry that is about to be created."""
        async_hand_over(hass, identity, HostMemory(snapshot=self.snapshot))
