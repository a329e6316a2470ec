"""The contact with one host during a dialog: log in, install our key, test.

Only data for the config entry is kept; the caller that opens a contact closes it.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
import time
from typing import Any, Self, override
from weakref import WeakValueDictionary

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.selector import (
    ConstantSelector,
    ConstantSelectorConfig,
    TextSelector,
    TextSelectorConfig,
)
from homeassistant.util.hass_dict import HassKey
import voluptuous as vol

from ..client.checks.report import Report
from ..client.checks.testing import run_checks
from ..client.errors import HomelabError, KeyRefused, LoginCut
from ..client.limits import TITLE_LIMIT
from ..client.models import System
from ..client.probe.session import ProbeSession
from ..client.probe.snapshot import Snapshot
from ..client.tracking.identity import host_id, is_it, machine_of
from ..client.transport.ignored_key import why_ignored
from ..client.transport.install import install_key
from ..client.transport.keys import fingerprint, has_fingerprint, is_printed_in
from ..client.transport.names import name_of
from ..client.transport.ssh import Connection, OfferedKey, peer_of, read_host_key
from ..client.transport.target import Target
from ..const import DEFAULT_TIMEOUT, DOMAIN
from ..sessions import async_new_session
from ..settings import HostAddress
from ..store import HostMemory, async_hand_over

CONF_FINGERPRINT = "fingerprint"
CONF_PRINTED = "printed"
_INSTALL_LOCKS: HassKey[WeakValueDictionary[Target, asyncio.Lock]] = HassKey(f"{DOMAIN}_install_locks")
_PRINTED = TextSelector(TextSelectorConfig(autocomplete="off"))


class _Shown(ConstantSelector):
    """A fingerprint that a form sends back unchanged; it is invisible, as the description shows it.

    A read-only field would not be sent back (step-flow-form.ts).
    """

    @override
    def __call__(self, data: Any) -> str:
        """Accept the fingerprint of an earlier form as well: the step shows the error."""
        return str(data)


def confirmation(host_key: str, user_input: Mapping[str, Any] | None = None) -> vol.Schema:
    """Return the schema to confirm one host key; the submitted data contains which key was on the screen.

    A dialog may be open in two windows, or be submitted twice, while another key is already shown. The output of the
    command on the machine itself can be pasted, and is then compared.
    """
    printed, shown = (user_input or {}).get(CONF_PRINTED), fingerprint(host_key)
    pasted = vol.Optional(CONF_PRINTED, description={"suggested_value": printed} if printed else None)
    confirmed = vol.Required(CONF_FINGERPRINT, description={"suggested_value": shown})
    return vol.Schema({pasted: _PRINTED, confirmed: _Shown(ConstantSelectorConfig(value=shown, label=""))})


def unconfirmed(host_key: str, user_input: Mapping[str, Any]) -> str | None:
    """Return the error of a form that does not confirm exactly this key, None if it does."""
    if not host_key or user_input.get(CONF_FINGERPRINT) != fingerprint(host_key):
        return "other_key"
    printed = user_input.get(CONF_PRINTED, "").strip()
    if not printed or is_printed_in(host_key, printed):
        return None
    return "not_this_key" if has_fingerprint(printed) else "no_fingerprint"


async def async_read_host_key(target: Target, known: Sequence[str] = ()) -> OfferedKey:
    """Return the key that the machine at that address shows, preferring a known type; raise HomelabError."""
    return await read_host_key(target.host, target.port, DEFAULT_TIMEOUT, known)


async def async_is_there(hass: HomeAssistant, known: HostAddress) -> bool:
    """Return whether a known host accepts our login at that address; raises nothing.

    A shown key is not enough: anybody who has seen a public key can show it. Nor is a login alone: machines made
    from one template share their host keys.
    """
    keys = known.confirmed_keys
    contact = await HostContact.async_prepare(hass, known.target, keys, is_doubtful=True)
    try:
        return is_it(known.host_id, known.machine, keys, await contact.async_system())
    except HomelabError:
        return False
    finally:
        await contact.async_close()


async def async_require_proof(hass: HomeAssistant, target: Target, host_key: str) -> System | None:
    """Raise HomelabError unless the machine at that address proves the key; it may then refuse our key or hang up.

    Return the section `system` of the machine, None if it reports none.
    """
    contact = await HostContact.async_prepare(hass, target, (host_key,))
    try:
        with suppress(KeyRefused, LoginCut):
            await contact.async_log_in()
            with suppress(HomelabError):
                return await contact.async_system()
        return None
    finally:
        await contact.async_close()


class HostContact:
    """One host that a person is adding or repairing; connects only on request."""

    def __init__(
        self, target: Target, host_keys: Sequence[str], session: ProbeSession, install_lock: asyncio.Lock
    ) -> None:
        """Remember the machine to contact; `install_lock` allows one writer there at a time."""
        self.target = target
        self.snapshot = Snapshot()
        self.report = Report(rows=())
        self.peer: tuple[str, int] = ("", 0)
        """Address and port where the test reached it, whatever name was used; ("", 0) before."""
        self._seen: float | None = None
        self._host_keys = tuple(host_keys)
        self._session = session
        self._install_lock = install_lock

    @classmethod
    async def async_prepare(
        cls, hass: HomeAssistant, target: Target, host_keys: Sequence[str], *, is_doubtful: bool = False
    ) -> Self:
        """Return the contact with a machine that must prove one of these keys; see `async_new_session`."""
        session = await async_new_session(hass, target, host_keys, timeout=DEFAULT_TIMEOUT, is_doubtful=is_doubtful)
        locks = hass.data.setdefault(_INSTALL_LOCKS, WeakValueDictionary())
        return cls(target, host_keys, session, locks.setdefault(target, asyncio.Lock()))

    async def async_log_in(self) -> None:
        """Open the connection; raise HomelabError with the reason if that fails."""
        await self._session.connect()

    async def async_system(self) -> System | None:
        """Log in and return the host's section `system`, None if it reports none; raise HomelabError."""
        system = (await self._session.poll(["system"])).sections.get("system")
        return system if isinstance(system, System) else None

    async def async_install_key(self, password: str, line: str) -> None:
        """Add our key with a password, then log in with the key; raise HomelabError.

        Two dialogs at once would both find the key missing, and both add it.
        """
        async with self._install_lock:
            await self._async_install_key(password, line)

    async def _async_install_key(self, password: str, line: str) -> None:
        """Add our key and log in.

        If the key is refused without a reason, the reason is looked up over the connection opened with the password.
        """
        connection = await Connection.open_with_password(
            self.target, password, self._host_keys, timeout=DEFAULT_TIMEOUT
        )
        try:
            await install_key(connection, self.target.host, line)
            await self._async_log_in_or_explain(connection, line)
        finally:
            await connection.close()

    async def _async_log_in_or_explain(self, connection: Connection, line: str) -> None:
        """Log in with a key that is installed; raise HomelabError with the reason if it is refused."""
        try:
            await self._session.connect()
        except KeyRefused as err:
            reason = await why_ignored(connection, self.target.host, line) if type(err) is KeyRefused else None
            if reason is None:
                raise
            raise reason from err

    async def async_test(self, progress: Callable[[float], None]) -> None:
        """Run the capability test; a failure becomes a row of the report.

        The connection is then closed: later steps need none, and a dialog may be left open for ever.
        """
        try:
            self.report, snapshot = await run_checks(self._session, self.target, self._host_keys, progress)
        finally:
            self.peer = peer_of(self._session.connection)
            await self._session.close()
        self.snapshot, self._seen = snapshot or Snapshot(), time.monotonic()

    async def async_close(self) -> None:
        """Close the connection; raises nothing."""
        await self._session.close()

    @property
    def address(self) -> HostAddress:
        """Return the address for the config entry: the confirmed key, and the keys that the host has proven since."""
        system = self.snapshot.sections.system
        return HostAddress(
            target=self.target,
            host_id=host_id(system, self._session.host_key),
            host_keys=self._session.host_keys,
            machine=machine_of(system),
        )

    def has_proven(self, host_keys: Collection[str]) -> bool:
        """Return whether the machine has proven one of these keys at the login; it can show any key unproven."""
        return self._session.host_key in host_keys

    def is_it(self, known: HostAddress) -> bool:
        """Return whether the machine reports, in its test, to be a known one; see `has_proven` for a proof."""
        keys = known.host_keys if self.has_proven(known.confirmed_keys) else ()
        return is_it(known.host_id, known.machine, keys, self.snapshot.sections.system)

    @property
    def host_key(self) -> str:
        """Return the key that the host has proven at the login."""
        return self._session.host_key

    @property
    def title(self) -> str:
        """Return the hostname that the machine reports, otherwise its address."""
        system = self.snapshot.sections.system
        return name_of(system.hostname if system else "", TITLE_LIMIT) or self.target.host

    @callback
    def async_hand_over(self, hass: HomeAssistant, identity: str) -> None:
        """Store the result of the test as the first state of the entry that is about to be created."""
        # Without a reply it is unknown whether the host is online.
        online, since = (True, self.snapshot.received) if self.snapshot.received else (None, None)
        memory = HostMemory(
            snapshot=self.snapshot, last_test=self.report.as_dict(), online=online, since=since, seen=self._seen
        )
        async_hand_over(hass, identity, memory)
