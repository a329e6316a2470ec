"""The contact with one host while a dialog is about it: log in, let our key in, test.

Nothing is kept but what the config entry will hold; whoever opens a contact closes it.
"""

from collections.abc import Callable, Sequence
from typing import Self

from homeassistant.core import HomeAssistant, callback

from .client.checks import run_checks
from .client.errors import HomelabError, first_line
from .client.identity import host_id
from .client.install import install_key
from .client.report import Report
from .client.session import ProbeSession
from .client.snapshot import Snapshot
from .client.ssh import Connection, scan_host_keys
from .client.target import Target
from .const import DEFAULT_TIMEOUT
from .sessions import async_new_session
from .settings import HostAddress
from .store import HostMemory, async_hand_over


async def async_read_host_keys(target: Target) -> tuple[str, ...]:
    """Return the keys by which the machine at that address proves itself; raise HomelabError."""
    return await scan_host_keys(target.host, target.port, DEFAULT_TIMEOUT)


async def async_can_log_in(hass: HomeAssistant, target: Target, host_keys: Sequence[str]) -> bool:
    """Tell whether a machine that holds one of these keys lets us in there; raises nothing.

    That it shows a key would not do: a public key can be shown by everybody who has seen it.
    """
    contact = await HostContact.async_prepare(hass, target, host_keys)
    try:
        await contact.async_log_in()
    except HomelabError:
        return False
    finally:
        await contact.async_close()
    return True


class HostContact:
    """One host that a person is adding or repairing; connects only when asked to."""

    def __init__(self, target: Target, host_keys: Sequence[str], session: ProbeSession) -> None:
        """Remember whom to contact."""
        self.target = target
        self.snapshot = Snapshot()
        self.report = Report(rows=())
        self._host_keys = tuple(host_keys)
        self._session = session

    @classmethod
    async def async_prepare(cls, hass: HomeAssistant, target: Target, host_keys: Sequence[str]) -> Self:
        """Return the contact with a machine that must prove one of these keys."""
        return cls(target, host_keys, await async_new_session(hass, target, host_keys, timeout=DEFAULT_TIMEOUT))

    async def async_log_in(self) -> None:
        """Open the connection, or raise the HomelabError that says why not."""
        await self._session.connect()

    async def async_install_key(self, password: str, line: str) -> None:
        """Add our key with a password, then log in with the key; raise HomelabError."""
        connection = await Connection.open_with_password(
            self.target, password, self._host_keys, timeout=DEFAULT_TIMEOUT
        )
        try:
            await install_key(connection, self.target.host, line)
        finally:
            await connection.close()
        await self._session.connect()

    async def async_test(self, progress: Callable[[float], None]) -> None:
        """Run the capability test; what fails becomes a row of the report."""
        self.report, snapshot = await run_checks(self._session, self.target, self._host_keys, progress)
        self.snapshot = snapshot or Snapshot()
        if connection := self._session.connection:
            # Those that the host has proven since the login are pinned with the others.
            self._host_keys = tuple(dict.fromkeys((*self._host_keys, *connection.host_keys)))

    async def async_close(self) -> None:
        """End the connection; raises nothing."""
        await self._session.close()

    @property
    def address(self) -> HostAddress:
        """Return what the config entry will hold."""
        identity = host_id(self.snapshot.sections.system, self._session.host_key)
        return HostAddress(target=self.target, host_id=identity, host_keys=self._host_keys)

    @property
    def host_key(self) -> str:
        """Return the key that the host has shown at the login."""
        return self._session.host_key

    @property
    def title(self) -> str:
        """Return the name that the machine gives itself, else its address."""
        system = self.snapshot.sections.system
        return first_line(system.hostname if system else "") or self.target.host

    @callback
    def async_hand_over(self, hass: HomeAssistant, identity: str) -> None:
        """Let what was just seen be the first state of the entry that is about to be created."""
        memory = HostMemory(snapshot=self.snapshot, last_test=self.report.as_dict())
        async_hand_over(hass, identity, memory)
