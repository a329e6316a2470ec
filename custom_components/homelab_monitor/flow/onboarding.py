"""From an address to a monitored host: trust, authorize, test, finish. All ways to add a host share this flow.

Every step that contacts a host does so through `_async_failure`, the flow's edge: any failure is
returned as one error, whose `key` is that of the text in the form. `config_flow` adds the ways
to start: by hand, by scan, by discovery, and again for a known host.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
import logging
from typing import Any, override

from homeassistant.components.network import async_get_source_ip
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    FlowType,
)
from homeassistant.const import CONF_PASSWORD
from homeassistant.data_entry_flow import AbortFlow
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType
from homeassistant.helpers.translation import async_get_translations
import voluptuous as vol

from ..client.checks.report import CheckStatus
from ..client.errors import (
    HomelabError,
    HostKeyChanged,
    InvalidTarget,
    KeyRefused,
    UnsupportedSystem,
    without_frames,
)
from ..client.tracking.identity import clone_id
from ..client.transport.host_keys import changed_key
from ..client.transport.ip_addresses import plain_host
from ..client.transport.keys import (
    authorized_line,
    dropbear_line,
    fingerprint,
    fingerprint_command,
    install_commands,
    log_command,
    parse_sources,
    shown_commands,
    watched,
)
from ..client.transport.names import is_address
from ..client.transport.scan import Platform, platform_of
from ..client.transport.target import Target
from ..const import DOMAIN
from ..health.alarms import async_alarm
from ..health.checklist import SHOWN_ONLY, async_checklist, words
from ..known_hosts import async_peer, is_taken, looks_of
from ..markdown import copyable, escaped
from ..settings import HostAddress, without_privileges
from ..store import async_get_key, async_require_ecdsa
from .connection import HostContact, async_is_there, async_read_host_key, confirmation, unconfirmed
from .discovery import KeyLimit, async_dismiss_cards, async_forget_card, async_next_flow, known_addresses

_LOGGER = logging.getLogger(__name__)

NOTHING_TO_TYPE = vol.Schema({})
# Never a suggested value: a password is used once and forgotten.
_PASSWORD = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
# Not required: if the server takes no passwords, leaving it empty is the way back.
_PASSWORD_SCHEMA = vol.Schema({vol.Optional(CONF_PASSWORD): _PASSWORD})
CONF_SOURCES = "sources"
# Empty means no limit.
_SOURCES_SCHEMA = vol.Schema({vol.Optional(CONF_SOURCES): TextSelector(TextSelectorConfig(autocomplete="off"))})

_COMMANDS: Mapping[str, str] = {"openwrt": "openwrt", "windows": "windows_admin"}
WAYS_IN = ["added", "install", "commands", "limit"]


class OnboardingFlow(ConfigFlow):
    """Set up a host, starting from an address."""

    def __init__(self) -> None:
        """Start without an address."""
        self._target = Target("", "")
        self._host_keys: tuple[str, ...] = ()
        """The keys that a person has confirmed, now or before: we log in nowhere else."""
        self._offered = ""
        """The key that is shown for confirmation."""
        self._platform: Platform | None = None
        """The platform in an unproven greeting: good enough to suggest a command, for nothing else."""
        self._server: Platform | None = None
        """The platform of a machine that has proven the confirmed key: what is written there depends on it."""
        self._limit = KeyLimit()
        self._queue = ""
        self._announced = ""
        """The address that was announced in the network, or that a known host was followed to."""
        self._menu = "user"
        self._task: asyncio.Task[HomelabError | None] | None = None
        self._failure: HomelabError | None = None
        self._refusal: KeyRefused | None = None
        """Why the last login was denied."""
        self._wants_ecdsa = False
        """Whether the machine accepts only an ECDSA key, not the usual one."""
        self._is_ecdsa_news = False
        self._known: HostAddress | None = None
        """The address of the host that this dialog is about, or that it met, as it was shown to a person."""
        self._open_contact: HostContact | None = None
        self._installing = asyncio.Lock()
        self._is_in = False
        """Whether our key works since the last password."""
        self._is_over = False

    @property
    def _found(self) -> str:
        """Return the name of a discovered machine, "" if it must not be shown now."""
        return ""

    # ------------------------------------------------------------ trust

    async def _async_take_address(self, text: str, username: str | None = None) -> bool:
        """Parse the typed address and read the host key there; return False with `_failure` set if that fails."""
        return self._take_address(text, username) and await self._async_try(self._async_read_host_key())

    def _take_address(self, text: str, username: str | None = None) -> bool:
        """Parse the typed address; return False with `_failure` set if it is not valid."""
        try:
            self._target, self._host_keys, self._offered = Target.parse(text, username), (), ""
            self._server, self._refusal, self._wants_ecdsa = None, None, False
        except InvalidTarget as err:
            self._failure = err
            return False
        return True

    async def _async_read_host_key(self) -> None:
        """Read the key to show to the person: the only one that is trusted once confirmed."""
        offered = await async_read_host_key(self._target, self._keys_here())
        self._offered = offered.line
        self._platform = platform_of(offered.server_version) or self._platform

    async def async_step_trust(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the fingerprint; once confirmed, pin the key and try to log in."""
        if user_input is None:
            if entry := self._entry_here():
                return self._async_end("already_configured", entry)
            return await self._async_trust_form()
        if error := unconfirmed(self._offered, user_input):
            return await self._async_trust_form(user_input, error=error)
        self._host_keys = (self._offered,)
        return await self._async_entered() or await self._async_changed_key_form() or await self._async_trust_form()

    async def _async_trust_form(
        self, user_input: dict[str, Any] | None = None, *, error: str | None = None
    ) -> ConfigFlowResult:
        """Show the only key that can be confirmed; a changed key is never shown like a first one."""
        changed = self._changed_key()
        self._failure = self._failure or changed
        return await self._async_form("trust", confirmation(self._offered, user_input), error=error)

    def _changed_key(self) -> HostKeyChanged | None:
        """Return an error if the key is not one of those known at this address; None at a first contact.

        For an entry that is polled at exactly this address, this also raises the alarm.
        """
        known = self._keys_here()
        changed = changed_key(self._target.host, known, self._offered) if known else None
        if changed is not None:
            for entry in self._known_here():
                if HostAddress.from_data(entry.data).target.address == self._target.address:
                    async_alarm(entry, changed)
        return changed

    def _known_here(self) -> list[ConfigEntry]:
        """Return the entry that this dialog is about, otherwise those whose hosts are known at this address."""
        if "entry_id" in self.context:
            return [entry] if (entry := self._known_entry()) else []
        return [entry for entry in self._other_entries() if self._is_address_of(entry)]

    def _keys_here(self) -> tuple[str, ...]:
        """Return the keys of these hosts."""
        return tuple(key for entry in self._known_here() for key in HostAddress.from_data(entry.data).host_keys)

    async def _async_entered(self) -> ConfigFlowResult | None:
        """Log in and go on, or offer the ways in if our key is refused; return None after any other failure."""
        if await self._async_log_in():
            return await self._async_logged_in()
        return await self.async_step_authorize() if isinstance(self._failure, KeyRefused) else None

    async def _async_changed_key_form(self) -> ConfigFlowResult | None:
        """Show the key of a machine that proves another key than the confirmed one, to be confirmed like the first."""
        if not isinstance(changed := self._failure, HostKeyChanged):
            return None
        if await self._async_try(self._async_read_host_key()):
            self._failure = changed
        return await self._async_trust_form() if self._offered else None

    def _entry_here(self) -> ConfigEntry | None:
        """Return the entry of exactly the machine at this address, unless it is the one being changed."""
        return next((entry for entry in self._other_entries() if self._is_here(entry)), None)

    def _is_here(self, entry: ConfigEntry) -> bool:
        """Return whether a known host has this address, or is connected there, and has pinned the offered key."""
        return self._is_address_of(entry) and self._offered in HostAddress.from_data(entry.data).host_keys

    def _is_address_of(self, entry: ConfigEntry) -> bool:
        """Return whether a known host has this address, or is connected there."""
        known, (peer, port) = HostAddress.from_data(entry.data).target, async_peer(entry)
        here = (plain_host(self._target.host), self._target.port)
        return here in {(plain_host(known.host), known.port), (plain_host(peer), port)}

    def _other_entries(self) -> list[ConfigEntry]:
        """Return the entries of all other hosts than that of this flow."""
        entries = self._async_current_entries(include_ignore=False)
        return [entry for entry in entries if entry.entry_id != self.context.get("entry_id")]

    # ------------------------------------------------------------ authorize

    async def async_step_authorize(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show that the key is not accepted yet, and offer the ways in."""
        return await self._async_menu("authorize", WAYS_IN)

    async def async_step_refused(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show that the key is still refused, and possible causes."""
        return await self._async_menu("refused", WAYS_IN)

    async def async_step_added(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Try the login again after a person has added the key; show the form only if that fails."""
        if await self._async_log_in():
            return await self._async_logged_in()
        if isinstance(self._failure, KeyRefused):
            return await self.async_step_refused()
        return await self._async_changed_key_form() or await self._async_form("added")

    async def async_step_install(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add the key with a password, which is used once and not stored."""
        if user_input is not None:
            password = user_input.get(CONF_PASSWORD)
            if not password:
                return await self._async_back()
            # Once more if the machine turned out to accept only the other type of key.
            if await self._async_install(password) or (self._is_ecdsa_news and await self._async_install(password)):
                return await self._async_logged_in()
        return await self._async_changed_key_form() or await self._async_form("install", _PASSWORD_SCHEMA)

    async def _async_install(self, password: str) -> bool:
        """Add the key over a new connection, and log in with it; a form submitted twice waits for the first."""
        is_again = self._installing.locked()
        async with self._installing:
            if self._is_over:
                raise AbortFlow("closed")
            if not (is_again and self._is_in):
                self._is_in = await self._async_install_alone(password)
            return self._is_in

    async def _async_install_alone(self, password: str) -> bool:
        """Add the key, while holding the lock."""
        self._close_contact()
        contact, line = await self._async_contact(), await self._async_key_line()
        is_in = await self._async_try(contact.async_install_key(password, line))
        await self._async_note_refusal(self._failure)
        return is_in

    async def _async_note_refusal(self, failure: HomelabError | None) -> None:
        """Remember why a login was denied; create the ECDSA key when the first machine needs it."""
        self._refusal = failure if isinstance(failure, KeyRefused) else None
        wants_ecdsa = self._refusal is not None and self._refusal.wants_ecdsa
        self._is_ecdsa_news = wants_ecdsa and not self._wants_ecdsa
        if wants_ecdsa:
            self._wants_ecdsa = True
            await async_require_ecdsa(self.hass)

    async def async_step_limit(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the only addresses from which OpenSSH is to accept the key; none means no limit."""
        if user_input is None:
            suggested = {CONF_SOURCES: ", ".join(self._limit.sources) or await self._async_own_address()}
            return await self._async_form("limit", self.add_suggested_values_to_schema(_SOURCES_SCHEMA, suggested))
        try:
            self._limit.sources = parse_sources(user_input.get(CONF_SOURCES, ""))
        except ValueError:
            schema = self.add_suggested_values_to_schema(_SOURCES_SCHEMA, user_input)
            return await self._async_form("limit", schema, error="invalid_sources")
        return await self._async_back()

    async def _async_own_address(self) -> str:
        """Return the address from which Home Assistant most likely connects, "" if unknown."""
        try:
            if is_address(self._target.host):
                return await async_get_source_ip(self.hass, self._target.host)
            return await async_get_source_ip(self.hass)
        except HomeAssistantError:
            return ""

    async def async_step_commands(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the commands for all systems, then return to the menu."""
        return await (self._async_form("commands") if user_input is None else self._async_back())

    async def _async_back(self) -> ConfigFlowResult:
        """Return to the menu that a side step was chosen from."""
        step: Coroutine[Any, Any, ConfigFlowResult] = getattr(self, f"async_step_{self._menu}")()
        return await step

    async def _async_log_in(self) -> bool:
        """Log in with our key over a new connection."""
        self._close_contact()
        is_in = await self._async_try((await self._async_contact()).async_log_in())
        await self._async_note_refusal(self._failure)
        if self._failure is not None and self._failure.server_version:
            self._server = platform_of(self._failure.server_version)
        if isinstance(self._failure, KeyRefused) and self._server and not watched(self._server):
            # No way in would help, and no dialog explains what to do on such a system.
            self._failure = UnsupportedSystem(self._target.host, self._server.capitalize())
        return is_in

    async def _async_logged_in(self) -> ConfigFlowResult:
        """Go on from a login that worked."""
        if self.source == SOURCE_REAUTH:
            return await self._async_authenticated(self._known_entry())
        return await self.async_step_test()

    async def _async_authenticated(self, entry: ConfigEntry | None) -> ConfigFlowResult:
        """Update the entry and end; a machine with another host key gets no privileges this way."""
        address, has_key = (await self._async_contact()).address, await self._async_has_key(entry)
        if entry is None or self._is_changed(entry):
            return self._async_end("changed", entry)
        known = HostAddress.from_data(entry.data)
        # The keys proven just now replace keys that may never have been confirmed.
        kept = replace(known, host_keys=address.host_keys, is_proven=True, key_sources=self._limit.sources)
        if has_key:
            return self.async_update_reload_and_abort(entry, data_updates=kept.as_data())
        # A machine with a new key was most likely reinstalled, and then has a new machine-id, too.
        return self._async_hand_over("reinstalled", entry, replace(kept, machine=""), is_same=False)

    def _is_changed(self, entry: ConfigEntry) -> bool:
        """Return whether the entry is no longer about what was shown; another dialog may have changed it."""
        if self.hass.config_entries.async_get_entry(entry.entry_id) is not entry:
            return True
        return self._known is None or not self._known.is_same(HostAddress.from_data(entry.data))

    # ------------------------------------------------------------ test

    async def async_step_test(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Run the capability test, with progress."""
        if self._task is None:
            contact = await self._async_contact()
            self._task = self._start(contact.async_test(self.async_update_progress))
        if not self._task.done():
            return self.async_show_progress(
                step_id="test",
                progress_action="test",
                progress_task=self._task,
                description_placeholders=await self._async_placeholders(),
            )
        self._failure, self._task = self._task.result(), None
        return self.async_show_progress_done(next_step_id=await self._async_step_after_test())

    async def _async_step_after_test(self) -> str:
        """Return the step after the test: a red row does not let the user go on."""
        report = (await self._async_contact()).report
        login = report.row("login")
        if login is not None and login.status is CheckStatus.RED:
            return "authorize"
        return "checklist_failed" if self._failure or report.hindrance else "checklist"

    async def async_step_checklist(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the result; amber rows do not prevent going on."""
        if user_input is not None:
            return await self._async_finish()
        return await self._async_form("checklist", is_last=True)

    async def async_step_checklist_failed(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what has to be fixed first, and test again over a new connection."""
        if user_input is not None:
            self._close_contact()
            return await self.async_step_test()
        return await self._async_form("checklist_failed", error="red_rows")

    # ------------------------------------------------------------ finish

    async def _async_finish(self) -> ConfigFlowResult:
        """Create the entry, unless this machine has one, or the identity of one that has."""
        if self.source == SOURCE_RECONFIGURE:
            return await self._async_reconfigured()
        host_id = (await self._async_contact()).address.host_id
        if entry := self._entry_of(host_id):
            self._known = HostAddress.from_data(entry.data)
            return await self._async_menu("collision", await self._async_ways_out(host_id))
        return await self._async_create(host_id)

    def _entry_of(self, host_id: str) -> ConfigEntry | None:
        """Return another entry with that identity."""
        return next((entry for entry in self._other_entries() if entry.unique_id == host_id), None)

    async def _async_ways_out(self, host_id: str) -> list[str]:
        """Return the menu options for a machine whose identity is taken."""
        entry = self._entry_of(host_id)
        if entry is None or not await self._async_is_same(entry):
            return ["reinstalled", "clone"]
        # One machine may have many addresses; if it still is at the known one, nothing has to change.
        return [*(["same_host"] if await self._async_is_at_home(entry) else []), "moved", "clone"]

    async def _async_is_at_home(self, entry: ConfigEntry) -> bool:
        """Return whether a known host still accepts our login at its known address."""
        known, found = HostAddress.from_data(entry.data), list[bool]()

        async def check() -> None:
            """Log in there; the dialog's end cancels it."""
            found.append(await async_is_there(self.hass, known))

        return known.target.address != self._target.address and await self._async_try(check()) and found[0]

    async def _async_has_key(self, entry: ConfigEntry | None) -> bool:
        """Return whether the machine has proven one of the entry's keys."""
        contact = await self._async_contact()
        return entry is not None and contact.has_proven(HostAddress.from_data(entry.data).confirmed_keys)

    async def _async_is_same(self, entry: ConfigEntry | None) -> bool:
        """Return whether the machine has proven one of the entry's keys, and reports the known identity.

        A machine-id alone proves nothing, and all machines of one template have the same key.
        """
        contact, has_key = await self._async_contact(), await self._async_has_key(entry)
        return has_key and entry is not None and contact.is_it(HostAddress.from_data(entry.data))

    async def async_step_collision(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask about a machine whose identity is taken."""
        return await self._async_finish()

    async def async_step_same_host(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change nothing."""
        return self._async_end("same_host", self._known_entry())

    async def async_step_moved(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Set the new address of the known host."""
        return await self._async_take_over("moved", is_confirmed=user_input is not None)

    async def async_step_reinstalled(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Set the new address and the new host keys of the known host."""
        return await self._async_take_over("reinstalled", is_confirmed=user_input is not None)

    async def async_step_clone(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Give a cloned machine its own identity."""
        contact = await self._async_contact()
        host_id = clone_id(contact.address.host_id, contact.host_key)
        if entry := self._entry_of(host_id):
            return self._async_end("already_configured", entry)
        return await self._async_create(host_id)

    async def _async_take_over(self, reason: str, *, is_confirmed: bool) -> ConfigFlowResult:
        """Set this address for a known host; ask first before it replaces a name, which a person wants resolved."""
        address = (await self._async_contact()).address
        entry = self._entry_of(address.host_id)
        if entry is None:
            # Deleted while the question was open.
            return await self._async_create(address.host_id)
        is_same = await self._async_is_same(entry)
        if self._is_changed(entry):
            return await self._async_finish()
        given = HostAddress.from_data(entry.data).given.host
        if not is_confirmed and given != address.target.host and not is_address(given):
            return await self._async_form(reason)
        known = HostAddress.from_data(entry.data)
        # Without a limit in this dialog, the known host keeps its own.
        address = replace(address, key_sources=self._limit.sources or known.key_sources)
        if is_same and self._is_announced:
            address = address.with_home_of(known)
        return self._async_hand_over(reason, entry, address, is_same=is_same)

    @property
    def _is_announced(self) -> bool:
        """Return whether this address was announced, not given by a person."""
        return self._announced == self._target.host

    def _async_hand_over(
        self, reason: str, entry: ConfigEntry, address: HostAddress, *, is_same: bool
    ) -> ConfigFlowResult:
        """Set the entry's address; a machine that may be another one loses the privileges."""
        options = entry.options if is_same else without_privileges(entry.options)
        data = {**entry.data, **address.as_data()}
        self.hass.config_entries.async_update_entry(entry, data=data, options=options)
        self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return self._async_end(reason if is_same else "reinstalled", entry)

    async def _async_create(self, host_id: str) -> ConfigFlowResult:
        """Create the entry; the result of the test becomes its first state."""
        contact = await self._async_contact()
        await self.async_set_unique_id(host_id, raise_on_progress=False)
        async_dismiss_cards(self.hass, known_addresses(self._target, contact.peer), self.flow_id)
        contact.async_hand_over(self.hass, host_id)
        return self.async_create_entry(
            title=self._title(),
            data=replace(contact.address, host_id=host_id, key_sources=self._limit.sources).as_data(),
            next_flow=self._next_flow(self._title()),
        )

    async def _async_reconfigured(self) -> ConfigFlowResult:
        """Change the entry; ask first about a machine with another identity."""
        contact, entry = await self._async_contact(), self._known_entry()
        if entry is None or self._is_changed(entry):
            return self._async_end("changed", entry)
        if other := self._entry_of(contact.address.host_id):
            return self._async_end("already_configured", other)
        if contact.is_it(HostAddress.from_data(entry.data)):
            return await self.async_step_keep_history()
        return await self._async_menu("other_machine", ["keep_history", "reconfigure"])

    async def async_step_other_machine(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether a machine with another identity is to be the same host."""
        return await self._async_reconfigured()

    async def async_step_keep_history(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change address and host keys of the entry; its identity stays, and so do all entities."""
        entry = self._known_entry()
        address, is_same = (await self._async_contact()).address, await self._async_is_same(entry)
        if entry is None or self._is_changed(entry):
            return self._async_end("changed", entry)
        known = HostAddress.from_data(entry.data)
        kept = replace(address, host_id=known.host_id, key_sources=self._limit.sources)
        if is_same and self._is_announced:
            kept = kept.with_home_of(known)
        if is_same:
            return self.async_update_reload_and_abort(entry, data_updates=kept.as_data())
        return self._async_hand_over("reinstalled", entry, kept, is_same=False)

    # ------------------------------------------------------------ what the steps show

    async def _async_form(
        self,
        step_id: str,
        schema: vol.Schema = NOTHING_TO_TYPE,
        *,
        error: str | None = None,
        is_last: bool = False,
    ) -> ConfigFlowResult:
        """Show a step's form with the last failure, otherwise with the form's own error."""
        placeholders = await self._async_placeholders()
        if failure := self._failure:
            self._failure, error = None, failure.key
            # Errors are shown as plain text, descriptions as Markdown: each has its own placeholders.
            placeholders |= failure.placeholders
        return self.async_show_form(
            step_id=step_id,
            data_schema=schema,
            errors={"base": error} if error else None,
            description_placeholders=placeholders,
            last_step=is_last,
        )

    async def _async_menu(self, step_id: str, options: list[str]) -> ConfigFlowResult:
        """Show a menu, to which side steps return."""
        self._failure = None
        self._menu = step_id
        if self._server == "openwrt":
            # dropbear refuses a key with a limit.
            options = [option for option in options if option != "limit"]
        return self.async_show_menu(
            step_id=step_id, menu_options=options, description_placeholders=await self._async_placeholders()
        )

    async def _async_placeholders(self) -> dict[str, str]:
        """Return the placeholders of the steps' descriptions, all in Markdown."""
        line = await self._async_key_line()
        commands = {name: copyable(text) for name, text in shown_commands(line).items()}
        is_dropbear = self._server == "openwrt"
        if is_dropbear:
            line = dropbear_line(line)
        entry = self._known_entry()
        return {
            "found": f"**{escaped(self._found)}**\n\n" if self._found else "",
            "address": escaped(str(self._target)),
            "username": escaped(self._target.username),
            "key_line": copyable(line),
            "refusal": await self._async_refusal(),
            "limit_note": await self._async_limit_note() if is_dropbear and self._limit.sources else "",
            "install_command": copyable(self._install_command(line)),
            "fingerprints": _shown(self._offered) if self._offered else "",
            "fingerprint_command": copyable(self._fingerprint_command()),
            "checklist": await self._async_checklist(),
            "later": await self._async_later(),
            "name": escaped(entry.title if entry else self._title()),
            "given_address": escaped(HostAddress.from_data(entry.data).given.address) if entry else "",
            "known_address": escaped(HostAddress.from_data(entry.data).target.address) if entry else "",
            "other_systems": await self._async_other_systems(commands),
            **commands,
        }

    def _install_command(self, line: str) -> str:
        """Return the command that adds the line on this machine; on OpenWrt only root's file is elsewhere."""
        is_users = self._server == "openwrt" and self._target.username != "root"
        return install_commands(line)["linux" if is_users else _COMMANDS.get(watched(self._server), "linux")]

    async def _async_other_systems(self, commands: Mapping[str, str]) -> str:
        """Return the paragraphs for systems without a probe, "" as long as these are not supported."""
        if "windows_user" not in commands:
            return ""
        texts = await self._async_words()
        return words(texts, "key_line", "other_systems").format_map(commands) + "\n\n"

    async def _async_refusal(self) -> str:
        """Return the paragraph that explains why the login was denied, "" if the key is just not known yet."""
        refusal = self._refusal
        if refusal is None or (type(refusal) is KeyRefused and self._menu == "authorize"):
            return ""
        texts = await async_get_translations(self.hass, self.hass.config.language, "config", [DOMAIN])
        text = texts.get(f"component.{DOMAIN}.config.error.{refusal.key}", refusal.key)
        more = await self._async_words()
        about_log = words(more, "key_line", "log")
        command = copyable(log_command(self._server))
        return f"⚠️ {escaped(text.format_map(refusal.placeholders))}\n\n{about_log}\n\n{command}\n\n"

    async def _async_limit_note(self) -> str:
        """Return the paragraph that explains that the typed addresses have no effect here."""
        texts = await self._async_words()
        note = words(texts, "key_line", "no_limit").format(sources=escaped(", ".join(self._limit.sources)))
        return f"⚠️ {note}\n\n"

    def _known_entry(self) -> ConfigEntry | None:
        """Return the entry that this flow is about or that it met."""
        if entry_id := self.context.get("entry_id"):
            return self.hass.config_entries.async_get_entry(entry_id)
        return self._entry_of(self._open_contact.address.host_id) if self._open_contact else None

    def _title(self) -> str:
        """Return the name of the machine, or its address if unknown or similar to another host's name."""
        title = self._open_contact.title if self._open_contact else self._target.host
        return self._target.host if is_taken(title, looks_of(self._other_entries())) else title

    async def _async_checklist(self) -> str:
        """Return the table of the last test."""
        if self._open_contact is None:
            return ""
        return await async_checklist(self.hass, self._open_contact.report, self._target.username)

    async def _async_later(self) -> str:
        """Return the paragraph about what can be fixed later, "" if there is nothing."""
        rows = self._open_contact.report.rows if self._open_contact else ()
        if not any(row.status is CheckStatus.AMBER and row.reason not in SHOWN_ONLY for row in rows):
            return ""
        texts = await self._async_words()
        return "\n\n" + words(texts, "checklist", "later")

    async def _async_words(self) -> Mapping[str, str]:
        """Return the translations that are parts of other texts."""
        return await async_get_translations(self.hass, self.hass.config.language, "selector", [DOMAIN])

    async def _async_key_line(self) -> str:
        """Return the line for `authorized_keys` that allows our login."""
        key = await async_get_key(self.hass)
        shown = (key.beside if self._wants_ecdsa else None) or key
        return authorized_line(shown, self.hass.config.location_name, self._limit.sources)

    def _fingerprint_command(self) -> str:
        """Return the command that prints the fingerprint of the shown key on the machine itself."""
        return fingerprint_command(self._offered, self._platform) if self._offered else ""

    def _async_end(self, reason: str, entry: ConfigEntry | None) -> ConfigFlowResult:
        """End without a new entry, and go on with the machines picked together."""
        words = {"name": escaped(entry.title if entry else self._title())}
        return self.async_abort(reason=reason, description_placeholders=words, next_flow=self._next_flow())

    def _next_flow(self, added: str = "") -> tuple[FlowType, str] | None:
        """Return the flow of the next machine picked together, None if there is none; it shows what was `added`."""
        flow_id = async_next_flow(self.hass, self._queue, added)
        return (FlowType.CONFIG_FLOW, flow_id) if flow_id else None

    # ------------------------------------------------------------ the contact and the flow's edge

    async def _async_contact(self) -> HostContact:
        """Return the contact with the machine; a new one after `_close_contact`."""
        if self._open_contact is None:
            self._open_contact = await HostContact.async_prepare(self.hass, self._target, self._host_keys)
        return self._open_contact

    async def _async_try(self, contact: Coroutine[Any, Any, None]) -> bool:
        """Await a contact that the dialog's end cancels; return False with `_failure` set if it failed."""
        task = self._task = self._start(contact)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._task = None
        if task.cancelled():
            raise AbortFlow("closed")
        self._failure = task.result()
        return self._failure is None

    def _start(self, contact: Coroutine[Any, Any, None]) -> asyncio.Task[HomelabError | None]:
        """Start the task of a contact with a host."""
        # Not eager: if progress ends at once, the data submitted before it is taken for the next step's input.
        return self.hass.async_create_task(self._async_failure(contact), f"{DOMAIN} config flow", eager_start=False)

    async def _async_failure(self, contact: Coroutine[Any, Any, None]) -> HomelabError | None:
        """Await a contact and return its error, None if it succeeded; log unexpected ones."""
        try:
            await contact
        except HomelabError as err:
            return without_frames(err)
        except Exception:
            _LOGGER.exception("Unexpected error while adding a host")
            return HomelabError(self._target.host)
        return None

    @override
    def async_remove(self) -> None:
        """Cancel everything that still runs when the dialog has ended or was closed."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        async_forget_card(self.hass, self.flow_id)
        self._close_contact()

    def _close_contact(self) -> None:
        """Close the connection in the background."""
        if self._open_contact is not None:
            self.hass.async_create_task(self._open_contact.async_close(), f"{DOMAIN} config flow close")
            self._open_contact = None


def _shown(host_key: str) -> str:
    """Return a list item with the type and the fingerprint of a host key; it may wrap on a phone."""
    kind = host_key.split(maxsplit=1)[0].removeprefix("ssh-").upper()
    return f"- {escaped(kind)}: {copyable(fingerprint(host_key))}"
