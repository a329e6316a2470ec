"""From an address to a watched host: trust, authorize, test, finish. The flow that every way in shares.

Every step that talks to a host does so through `_async_failure`, the flow's edge: whatever goes
wrong comes back as one error, whose `key` names the text that the form shows. `config_flow` adds
the ways in: by hand, by scan, by discovery, and again for a host that is known.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
import logging
from typing import Any, override

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
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType
import voluptuous as vol

from .checklist import async_checklist
from .client.errors import HomelabError, HostKeyChanged, InvalidTarget, KeyRefused
from .client.identity import clone_id
from .client.keys import authorized_line, fingerprint, install_commands
from .client.report import Status
from .client.scan import Platform
from .client.target import Target
from .const import DOMAIN
from .contact import HostContact, async_read_host_keys
from .discovery import async_dismiss_cards, async_forget_card, async_next_flow
from .markdown import copyable, escaped
from .settings import HostAddress
from .store import async_get_key

_LOGGER = logging.getLogger(__name__)

NOTHING_TO_TYPE = vol.Schema({})
# Never a suggested value: what is typed here is used once and forgotten.
_PASSWORD = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
# Not required: where the server takes no passwords, leaving it empty is the way back.
_PASSWORD_SCHEMA = vol.Schema({vol.Optional(CONF_PASSWORD): _PASSWORD})

_READ_HOST_KEY = "ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"
_READ_HOST_KEY_OPENWRT = "dropbearkey -y -f /etc/dropbear/dropbear_{kind}_host_key"
_READ_HOST_KEY_WINDOWS = r"ssh-keygen -lf $env:ProgramData\ssh\ssh_host_{kind}_key.pub"
_READ_HOST_KEYS: Mapping[Platform | None, str] = {"openwrt": _READ_HOST_KEY_OPENWRT, "windows": _READ_HOST_KEY_WINDOWS}
_COMMANDS: Mapping[Platform | None, str] = {"openwrt": "openwrt", "windows": "windows_admin"}
_WAYS_IN = ["added", "install", "commands"]


class OnboardingFlow(ConfigFlow):
    """Make a host out of an address."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._target = Target("", "")
        self._host_keys: tuple[str, ...] = ()
        self._platform: Platform | None = None
        self._queue = ""
        self._found = ""
        self._menu = "user"
        self._task: asyncio.Task[HomelabError | None] | None = None
        self._failure: HomelabError | None = None
        self._open_contact: HostContact | None = None

    # ------------------------------------------------------------ trust

    async def _async_take_address(self, text: str, username: str | None = None) -> bool:
        """Read what was typed and ask the machine there for its host keys; `_failure` says why not."""
        try:
            self._target = Target.parse(text, username)
        except InvalidTarget as err:
            self._failure = err
            return False
        return await self._async_try(self._async_read_host_keys())

    async def _async_read_host_keys(self) -> None:
        """Learn the keys that are shown to the person."""
        self._host_keys = await async_read_host_keys(self._target)

    async def async_step_trust(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the fingerprints; what is confirmed is pinned, and the login tried."""
        if user_input is None:
            if entry := self._entry_here():
                return self._async_end("already_configured", entry)
            return await self._async_form("trust")
        if await self._async_log_in():
            return await self._async_logged_in()
        if isinstance(self._failure, KeyRefused):
            return await self.async_step_authorize()
        if isinstance(changed := self._failure, HostKeyChanged):
            # Other keys than a moment ago: they are shown and confirmed like the first ones.
            await self._async_try(self._async_read_host_keys())
            self._failure = changed
        return await self._async_form("trust")

    def _entry_here(self) -> ConfigEntry | None:
        """Return the entry of the very machine at this address, unless it is the one being changed."""
        return next(
            (entry for entry in self._other_entries() if self._is_here(HostAddress.from_data(entry.data))), None
        )

    def _is_here(self, known: HostAddress) -> bool:
        """Tell whether a known host has this address and one of the keys that are shown."""
        is_address = (known.target.host, known.target.port) == (self._target.host, self._target.port)
        return is_address and bool(set(known.host_keys) & set(self._host_keys))

    def _other_entries(self) -> list[ConfigEntry]:
        """Return the entries of the hosts that this flow is not about."""
        entries = self._async_current_entries(include_ignore=False)
        return [entry for entry in entries if entry.entry_id != self.context.get("entry_id")]

    # ------------------------------------------------------------ authorize

    async def async_step_authorize(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say that the key is not known yet, and offer the ways in."""
        return await self._async_menu("authorize", _WAYS_IN)

    async def async_step_refused(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say that the key is still refused, and what may be wrong."""
        return await self._async_menu("refused", _WAYS_IN)

    async def async_step_added(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Try the login again after a person has added the key; the form is only seen when that fails."""
        if await self._async_log_in():
            return await self._async_logged_in()
        if isinstance(self._failure, KeyRefused):
            return await self.async_step_refused()
        return await self._async_form("added")

    async def async_step_install(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add the key with a password, which is used once and kept nowhere."""
        if user_input is not None:
            password = user_input.get(CONF_PASSWORD)
            if not password:
                return await self._async_back()
            self._close_contact()
            contact = await self._async_contact()
            line = await self._async_key_line()
            if await self._async_try(contact.async_install_key(password, line)):
                return await self._async_logged_in()
        return await self._async_form("install", _PASSWORD_SCHEMA)

    async def async_step_commands(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the command for every system, then return to the menu."""
        return await (self._async_form("commands") if user_input is None else self._async_back())

    async def _async_back(self) -> ConfigFlowResult:
        """Return to the menu that a side step was chosen from."""
        step: Coroutine[Any, Any, ConfigFlowResult] = getattr(self, f"async_step_{self._menu}")()
        return await step

    async def _async_log_in(self) -> bool:
        """Log in with our key over a new connection."""
        self._close_contact()
        return await self._async_try((await self._async_contact()).async_log_in())

    async def _async_logged_in(self) -> ConfigFlowResult:
        """Go on from a login that worked."""
        if self.source == SOURCE_REAUTH:
            return self.async_update_reload_and_abort(self._get_reauth_entry())
        return await self.async_step_test()

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
        """Return where the test leads: red keeps you here."""
        report = (await self._async_contact()).report
        login = report.row("login")
        if login is not None and login.status is Status.RED:
            return "authorize"
        return "checklist_failed" if self._failure or report.worst is Status.RED else "checklist"

    async def async_step_checklist(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what was found; amber is no hindrance."""
        if user_input is not None:
            return await self._async_finish()
        return await self._async_form("checklist", is_last=True)

    async def async_step_checklist_failed(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what has to be cured first, and test again over a new connection."""
        if user_input is not None:
            self._close_contact()
            return await self.async_step_test()
        return await self._async_form("checklist_failed", error="red_rows")

    # ------------------------------------------------------------ finish

    async def _async_finish(self) -> ConfigFlowResult:
        """Create the entry, unless this machine has one or looks like one that has."""
        if self.source == SOURCE_RECONFIGURE:
            return await self._async_reconfigured()
        host_id = (await self._async_contact()).address.host_id
        if self._entry_of(host_id):
            return await self._async_menu("collision", await self._async_ways_out(host_id))
        return await self._async_create(host_id)

    def _entry_of(self, host_id: str) -> ConfigEntry | None:
        """Return another entry with that identity."""
        return next((entry for entry in self._other_entries() if entry.unique_id == host_id), None)

    async def _async_ways_out(self, host_id: str) -> list[str]:
        """Return what a machine can be whose identity is taken."""
        entry = self._entry_of(host_id)
        shown = set((await self._async_contact()).address.host_keys)
        is_same_key = entry is not None and bool(shown & set(HostAddress.from_data(entry.data).host_keys))
        return ["moved" if is_same_key else "reinstalled", "clone"]

    async def async_step_collision(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what a machine is whose identity is taken."""
        return await self._async_finish()

    async def async_step_moved(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the new address for the known host."""
        return await self._async_take_over("moved")

    async def async_step_reinstalled(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the new address and the new host keys for the known host."""
        return await self._async_take_over("reinstalled")

    async def async_step_clone(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Give a copied machine an identity of its own."""
        contact = await self._async_contact()
        host_id = clone_id(contact.address.host_id, contact.host_key)
        if entry := self._entry_of(host_id):
            return self._async_end("already_configured", entry)
        return await self._async_create(host_id)

    async def _async_take_over(self, reason: str) -> ConfigFlowResult:
        """Let a known host be where this one is."""
        address = (await self._async_contact()).address
        entry = self._entry_of(address.host_id)
        if entry is None:
            # Deleted while the question was open.
            return await self._async_create(address.host_id)
        self.hass.config_entries.async_update_entry(entry, data={**entry.data, **address.as_data()})
        self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return self._async_end(reason, entry)

    async def _async_create(self, host_id: str) -> ConfigFlowResult:
        """Create the entry; what was just seen becomes its first state."""
        contact = await self._async_contact()
        await self.async_set_unique_id(host_id, raise_on_progress=False)
        async_dismiss_cards(self.hass, {self._target.address}, self.flow_id)
        contact.async_hand_over(self.hass, host_id)
        return self.async_create_entry(
            title=contact.title,
            data=replace(contact.address, host_id=host_id).as_data(),
            next_flow=self._next_flow(),
        )

    async def _async_reconfigured(self) -> ConfigFlowResult:
        """Change the entry; a machine with another identity is asked about first."""
        entry = self._get_reconfigure_entry()
        known = HostAddress.from_data(entry.data)
        address = (await self._async_contact()).address
        if other := self._entry_of(address.host_id):
            return self._async_end("already_configured", other)
        if known.host_id in {address.host_id, *(clone_id(address.host_id, key) for key in known.host_keys)}:
            return await self.async_step_keep_history()
        return await self._async_menu("other_machine", ["keep_history", "reconfigure"])

    async def async_step_other_machine(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether a machine with another identity shall be the same host."""
        return await self._async_reconfigured()

    async def async_step_keep_history(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change address and host keys of the entry; its identity stays, and with it every entity."""
        entry = self._get_reconfigure_entry()
        address = (await self._async_contact()).address
        known = HostAddress.from_data(entry.data)
        return self.async_update_reload_and_abort(entry, data_updates=replace(address, host_id=known.host_id).as_data())

    # ------------------------------------------------------------ what the steps show

    async def _async_form(
        self,
        step_id: str,
        schema: vol.Schema = NOTHING_TO_TYPE,
        *,
        error: str | None = None,
        is_last: bool = False,
    ) -> ConfigFlowResult:
        """Show a step's form with the failure of what was tried last, else with an error of the form's own."""
        placeholders = await self._async_placeholders()
        if failure := self._failure:
            self._failure, error = None, failure.key
            # Errors are shown as plain text, descriptions as Markdown: each has its own words.
            placeholders |= failure.placeholders
        return self.async_show_form(
            step_id=step_id,
            data_schema=schema,
            errors={"base": error} if error else None,
            description_placeholders=placeholders,
            last_step=is_last,
        )

    async def _async_menu(self, step_id: str, options: list[str]) -> ConfigFlowResult:
        """Show a menu, to which a side step returns."""
        self._failure = None
        self._menu = step_id
        return self.async_show_menu(
            step_id=step_id, menu_options=options, description_placeholders=await self._async_placeholders()
        )

    async def _async_placeholders(self) -> dict[str, str]:
        """Return what the steps' descriptions show; all of it is Markdown."""
        commands = {name: copyable(text) for name, text in install_commands(await self._async_key_line()).items()}
        entry = self._known_entry()
        return {
            "found": f"**{escaped(self._found)}**\n\n" if self._found else "",
            "address": escaped(str(self._target)),
            "username": escaped(self._target.username),
            "key_line": copyable(await self._async_key_line()),
            "install_command": commands[_COMMANDS.get(self._platform, "linux")],
            "fingerprints": "\n".join(map(_shown, self._host_keys)),
            "fingerprint_command": copyable(self._fingerprint_command()),
            "checklist": await self._async_checklist(),
            "name": escaped(entry.title if entry else self._title()),
            "known_address": escaped(HostAddress.from_data(entry.data).target.address) if entry else "",
            **commands,
        }

    def _known_entry(self) -> ConfigEntry | None:
        """Return the entry that this flow is about or that it met."""
        if entry_id := self.context.get("entry_id"):
            return self.hass.config_entries.async_get_entry(entry_id)
        return self._entry_of(self._open_contact.address.host_id) if self._open_contact else None

    def _title(self) -> str:
        """Return the name of the machine, as far as it is known."""
        return self._open_contact.title if self._open_contact else self._target.host

    async def _async_checklist(self) -> str:
        """Return the table of the last test."""
        if self._open_contact is None:
            return ""
        return await async_checklist(self.hass, self._open_contact.report, self._target.username)

    async def _async_key_line(self) -> str:
        """Return the line that lets us in."""
        return authorized_line(await async_get_key(self.hass), self.hass.config.location_name)

    def _fingerprint_command(self) -> str:
        """Return what prints the first fingerprint on the machine itself."""
        command = _READ_HOST_KEYS.get(self._platform, _READ_HOST_KEY)
        kinds = [key.split(maxsplit=1)[0].removeprefix("ssh-").split("-")[0] for key in self._host_keys]
        return "\n".join(command.format(kind=kind) for kind in kinds[:1])

    def _async_end(self, reason: str, entry: ConfigEntry) -> ConfigFlowResult:
        """End without a new entry; those that were picked together go on."""
        words = {"name": escaped(entry.title)}
        return self.async_abort(reason=reason, description_placeholders=words, next_flow=self._next_flow())

    def _next_flow(self) -> tuple[FlowType, str] | None:
        """Return the next machine of those that were picked together."""
        flow_id = async_next_flow(self.hass, self._queue)
        return (FlowType.CONFIG_FLOW, flow_id) if flow_id else None

    # ------------------------------------------------------------ the contact and the flow's edge

    async def _async_contact(self) -> HostContact:
        """Return the contact with the machine, a new one after `_close_contact`."""
        if self._open_contact is None:
            self._open_contact = await HostContact.async_prepare(self.hass, self._target, self._host_keys)
        return self._open_contact

    async def _async_try(self, contact: Coroutine[Any, Any, None]) -> bool:
        """Await a contact that ends with the dialog; `_failure` says what went wrong."""
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
        """Start a contact with a host."""
        # Not eager: when progress ends at once, what was submitted before it is taken for the next step's input.
        return self.hass.async_create_task(self._async_failure(contact), f"{DOMAIN} config flow", eager_start=False)

    async def _async_failure(self, contact: Coroutine[Any, Any, None]) -> HomelabError | None:
        """Await a contact and return what went wrong; what nobody expected is logged."""
        try:
            await contact
        except HomelabError as err:
            return err
        except Exception:
            _LOGGER.exception("Unexpected error while adding a host")
            return HomelabError(self._target.host)
        return None

    @override
    def async_remove(self) -> None:
        """End whatever still runs when the dialog is over or was closed."""
        if self._task is not None:
            self._task.cancel()
        async_forget_card(self.hass, self.flow_id)
        self._close_contact()

    def _close_contact(self) -> None:
        """Close the connection beside what follows."""
        if self._open_contact is not None:
            self.hass.async_create_task(self._open_contact.async_close(), f"{DOMAIN} config flow close")
            self._open_contact = None


def _shown(host_key: str) -> str:
    """Return a list item with the type and the fingerprint of a host key; it may wrap on a phone."""
    kind = host_key.split(maxsplit=1)[0].removeprefix("ssh-").upper()
    return f"- {escaped(kind)}: {copyable(fingerprint(host_key))}"
