"""The contact with one host while a dialog is about it: log in, let our key in, test.

Nothing is kept but what the config entry will hold; whoever opens a contact closes it.
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

from ..client.checks.checks import run_checks
from ..client.checks.report import Report
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
_TURNS: HassKey[WeakValueDictionary[Target, asyncio.Lock]] = HassKey(f"{DOMAIN}_install_turns")
_PRINTED = TextSelector(TextSelectorConfig(autocomplete="off"))


class _Shown(ConstantSelector):
    """A fingerprint that a form brings back, which nobody can change; the description shows it, so it is not seen.

    A read-only field would not come back (step-flow-form.ts).
    """

    @override
    def __call__(self, data: Any) -> str:
        """Take that of an earlier form as well: the step says what is wrong with it."""
        return str(data)


def confirmation(host_key: str, user_input: Mapping[str, Any] | None = None) -> vol.Schema:
    """Return the form that confirms one host key: what comes back says which one was on the screen.

    A dialog may be open in two windows, or be sent twice, while the next key comes to be shown. What the machine
    itself prints can be pasted, and is compared then.
    """
    printed, shown = (user_input or {}).get(CONF_PRINTED), fingerprint(host_key)
    pasted = vol.Optional(CONF_PRINTED, description={"suggested_value": printed} if printed else None)
    confirmed = vol.Required(CONF_FINGERPRINT, description={"suggested_value": shown})
    return vol.Schema({pasted: _PRINTED, confirmed: _Shown(ConstantSelectorConfig(value=shown, label=""))})


def unconfirmed(host_key: str, user_input: Mapping[str, Any]) -> str | None:
    """Return the error of a form that does not confirm this very key, None where it does."""
    if not host_key or user_input.get(CONF_FINGERPRINT) != fingerprint(host_key):
        return "other_key"
    printed = user_input.get(CONF_PRINTED, "").strip()
    if not printed or is_printed_in(host_key, printed):
        return None
    return "not_this_key" if has_fingerprint(printed) else "no_fingerprint"


async def async_read_host_key(target: Target, known: Sequence[str] = ()) -> OfferedKey:
    """Return the key that the machine at that address shows, one of a known type first; raise HomelabError."""
    return await read_host_key(target.host, target.port, DEFAULT_TIMEOUT, known)


async def async_is_there(hass: HomeAssistant, known: HostAddress) -> bool:
    """Tell whether a known host lets us in at that address; raises nothing.

    That it shows a key would not do: a public key can be shown by everybody who has seen it. Nor would a login
    alone: machines made from one template share their host keys.
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
    """Raise HomelabError unless the machine at that address proves the key; then it may refuse ours or hang up.

    Return what the machine says of itself, None where it says nothing.
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
    """One host that a person is adding or repairing; connects only when asked to."""

    def __init__(self, target: Target, host_keys: Sequence[str], session: ProbeSession, turn: asyncio.Lock) -> None:
        """Remember whom to contact; `turn` is what one who writes there holds at a time."""
        self.target = target
        self.snapshot = Snapshot()
        self.report = Report(rows=())
        self.peer: tuple[str, int] = ("", 0)
        """Address and port where the test found it, whatever the name is that leads there; ("", 0) before."""
        self._seen: float | None = None
        self._host_keys = tuple(host_keys)
        self._session = session
        self._turn = turn

    @classmethod
    async def async_prepare(
        cls, hass: HomeAssistant, target: Target, host_keys: Sequence[str], *, is_doubtful: bool = False
    ) -> Self:
        """Return the contact with a machine that must prove one of these keys; see `async_new_session`."""
        session = await async_new_session(hass, target, host_keys, timeout=DEFAULT_TIMEOUT, is_doubtful=is_doubtful)
        turns = hass.data.setdefault(_TURNS, WeakValueDictionary())
        return cls(target, host_keys, session, turns.setdefault(target, asyncio.Lock()))

    async def async_log_in(self) -> None:
        """Open the connection, or raise the HomelabError that says why not."""
        await self._session.connect()

    async def async_system(self) -> System | None:
        """Log in and return what the host says of itself; raise HomelabError."""
        told = (await self._session.poll(["system"])).sections.get("system")
        return told if isinstance(told, System) else None

    async def async_install_key(self, password: str, line: str) -> None:
        """Add our key with a password, then log in with the key; raise HomelabError.

        Two dialogs at once would both find it missing, and both add it.
        """
        async with self._turn:
            await self._async_install_key(password, line)

    async def _async_install_key(self, password: str, line: str) -> None:
        """Add our key and log in.

        Where the key is refused without a reason, the host is asked for one while the password's connection is open.
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
        """Log in with a key that is in place, or raise the HomelabError that says why that does not help."""
        try:
            await self._session.connect()
        except KeyRefused as err:
            reason = await why_ignored(connection, self.target.host, line) if type(err) is KeyRefused else None
            if reason is None:
                raise
            raise reason from err

    async def async_test(self, progress: Callable[[float], None]) -> None:
        """Run the capability test; what fails becomes a row of the report.

        What comes after it needs no connection, and a dialog may be left open for ever.
        """
        try:
            self.report, snapshot = await run_checks(self._session, self.target, self._host_keys, progress)
        finally:
            self.peer = peer_of(self._session.connection)
            await self._session.close()
        self.snapshot, self._seen = snapshot or Snapshot(), time.monotonic()

    async def async_close(self) -> None:
        """End the connection; raises nothing."""
        await self._session.close()

    @property
    def address(self) -> HostAddress:
        """Return what the config entry will hold: the confirmed key, and what the host has proven over it since."""
        system = self.snapshot.sections.system
        return HostAddress(
            target=self.target,
            host_id=host_id(system, self._session.host_key),
            host_keys=self._session.host_keys,
            machine=machine_of(system),
        )

    def has_proven(self, host_keys: Collection[str]) -> bool:
        """Tell whether the machine has proven one of these keys at the login; it can show any, also others' keys."""
        return self._session.host_key in host_keys

    def is_it(self, known: HostAddress) -> bool:
        """Tell whether the machine says, after its test, that it is a known one; see `has_proven` for whether it is."""
        keys = known.host_keys if self.has_proven(known.confirmed_keys) else ()
        return is_it(known.host_id, known.machine, keys, self.snapshot.sections.system)

    @property
    def host_key(self) -> str:
        """Return the key that the host has proven at the login."""
        return self._session.host_key

    @property
    def title(self) -> str:
        """Return the name that the machine gives itself, else its address."""
        system = self.snapshot.sections.system
        return name_of(system.hostname if system else "", TITLE_LIMIT) or self.target.host

    @callback
    def async_hand_over(self, hass: HomeAssistant, identity: str) -> None:
        """Let what was seen at the test be the first state of the entry that is about to be created."""
        # Of a host that told nothing nobody knows whether it is there.
        online, since = (True, self.snapshot.received) if self.snapshot.received else (None, None)
        memory = HostMemory(
            snapshot=self.snapshot, last_test=self.report.as_dict(), online=online, since=since, seen=self._seen
        )
        async_hand_over(hass, identity, memory)
