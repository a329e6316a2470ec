"""Add a host, or let Home Assistant in again: address, trust, key, test.

Every step that talks to a host does so through `_async_failure`, the flow's edge: whatever goes
wrong comes back as one error, whose `key` names the text that the form shows.
"""

import asyncio
from collections.abc import Coroutine, Mapping
import logging
from typing import TYPE_CHECKING, Any, override

from homeassistant.config_entries import ConfigFlow, ConfigFlowResult
from homeassistant.const import CONF_ADDRESS
from homeassistant.data_entry_flow import AbortFlow
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig
import voluptuous as vol

from .client.errors import HomelabError, HostKeyChanged, InvalidTarget, KeyRefused
from .client.keys import authorized_line, fingerprint, install_commands
from .client.target import Target
from .const import DOMAIN
from .markdown import escaped, fenced
from .onboarding import HostContact, async_read_host_keys
from .settings import HostAddress
from .store import async_get_key

_LOGGER = logging.getLogger(__name__)

_ADDRESS_SCHEMA = vol.Schema({vol.Required(CONF_ADDRESS): TextSelector(TextSelectorConfig(autocomplete="off"))})
_NOTHING_TO_TYPE = vol.Schema({})
_READ_HOST_KEY = "ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"


class HomelabConfigFlow(ConfigFlow, domain=DOMAIN):
    """Make an entry out of an address."""

    VERSION = 1
    MINOR_VERSION = 1

    def __init__(self) -> None:
        """Know nothing yet."""
        self._target = Target("", "")
        self._host_keys: tuple[str, ...] = ()
        self._contact: HostContact | None = None
        self._task: asyncio.Task[HomelabError | None] | None = None
        self._failure: HomelabError | None = None

    # ------------------------------------------------------------ find

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show our key and ask for an address."""
        self._failure = None
        if user_input is not None:
            self._failure = await self._async_take_address(user_input[CONF_ADDRESS])
            if self._failure is None:
                return await self.async_step_trust()
        schema = self.add_suggested_values_to_schema(_ADDRESS_SCHEMA, user_input)
        return await self._async_form("user", schema)

    async def _async_take_address(self, text: str) -> HomelabError | None:
        """Read what was typed and ask the machine there for its host keys."""
        try:
            self._target = Target.parse(text)
        except InvalidTarget as err:
            return err
        return await self._async_try(self._async_read_host_keys())

    async def _async_read_host_keys(self) -> None:
        """Learn the keys that are shown to the person."""
        self._host_keys = await async_read_host_keys(self._target)

    # ------------------------------------------------------------ trust and authorize

    async def async_step_trust(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the fingerprints; what is confirmed is pinned, and the login tried."""
        if user_input is None:
            self._abort_if_known_address()
            return await self._async_form("trust")
        if await self._async_log_in():
            return await self.async_step_test()
        if isinstance(self._failure, KeyRefused):
            return await self._async_form("authorize")
        if isinstance(self._failure, HostKeyChanged):
            # Other keys than a moment ago: they are shown and confirmed like the first ones.
            await self._async_try(self._async_read_host_keys())
        return await self._async_form("trust")

    async def async_step_authorize(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Try again after a person has added the key."""
        if user_input is not None and await self._async_log_in():
            return await self.async_step_test()
        return await self._async_form("authorize")

    async def _async_log_in(self) -> bool:
        """Log in with our key; `_failure` says why it did not work."""
        self._forget_contact()
        self._contact = await HostContact.async_prepare(self.hass, self._target, self._host_keys)
        self._failure = await self._async_try(self._contact.async_log_in())
        return self._failure is None

    def _abort_if_known_address(self) -> None:
        """Abort when an entry has this address and the machine there is still the same."""
        for entry in self._async_current_entries():
            known = HostAddress.from_data(entry.data)
            is_here = (known.target.host, known.target.port) == (self._target.host, self._target.port)
            if is_here and set(known.host_keys) & set(self._host_keys):
                raise AbortFlow("already_configured", {"name": escaped(entry.title)})

    # ------------------------------------------------------------ test and finish

    async def async_step_test(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Run the probe once with every section, with progress."""
        if self._task is None:
            if TYPE_CHECKING:
                assert self._contact is not None
            self._task = self._start(self._contact.async_dry_run())
        if not self._task.done():
            placeholders = await self._async_placeholders()
            return self.async_show_progress(
                step_id="test", progress_action="test", progress_task=self._task, description_placeholders=placeholders
            )
        self._failure, self._task = self._task.result(), None
        return self.async_show_progress_done(next_step_id="test_failed" if self._failure else "finish")

    async def async_step_test_failed(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say what keeps the probe from working, and try again."""
        if user_input is not None:
            return await self.async_step_test()
        return await self._async_form("test_failed")

    async def async_step_finish(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Create the entry; what was just seen becomes its first state."""
        if TYPE_CHECKING:
            assert self._contact is not None
        address = self._contact.address
        await self.async_set_unique_id(address.host_id, raise_on_progress=False)
        self._abort_if_unique_id_configured(description_placeholders={"name": escaped(self._contact.title)})
        self._contact.async_hand_over(self.hass, address.host_id)
        return self.async_create_entry(title=self._contact.title, data=address.as_data())

    # ------------------------------------------------------------ reauth

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Begin where a host refuses our key."""
        address = HostAddress.from_data(entry_data)
        self._target, self._host_keys = address.target, address.host_keys
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the key again and try the login."""
        if user_input is not None and await self._async_log_in():
            return self.async_update_reload_and_abort(self._get_reauth_entry())
        return await self._async_form("reauth_confirm")

    # ------------------------------------------------------------ forms and the flow's edge

    async def _async_form(self, step_id: str, schema: vol.Schema = _NOTHING_TO_TYPE) -> ConfigFlowResult:
        """Show a step's form with the failure of what was tried last."""
        placeholders = await self._async_placeholders()
        errors = None
        if self._failure is not None:
            errors = {"base": self._failure.key}
            placeholders |= self._failure.placeholders
        return self.async_show_form(
            step_id=step_id, data_schema=schema, errors=errors, description_placeholders=placeholders
        )

    async def _async_placeholders(self) -> dict[str, str]:
        """Return what the steps' descriptions show; all of it is Markdown."""
        line = authorized_line(await async_get_key(self.hass), self.hass.config.location_name)
        kinds = [key.split(maxsplit=1)[0].removeprefix("ssh-").split("-")[0] for key in self._host_keys]
        return {
            "address": escaped(str(self._target)),
            "username": escaped(self._target.username),
            "key_line": fenced(line),
            "install_command": fenced(install_commands(line)["linux"]),
            "fingerprints": fenced("\n".join(map(_shown, self._host_keys))),
            "fingerprint_command": fenced("\n".join(_READ_HOST_KEY.format(kind=kind) for kind in kinds[:1])),
        }

    async def _async_try(self, contact: Coroutine[Any, Any, None]) -> HomelabError | None:
        """Await a contact that ends with the dialog; return what went wrong."""
        task = self._task = self._start(contact)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._task = None
        if task.cancelled():
            raise AbortFlow("closed")
        return task.result()

    def _start(self, contact: Coroutine[Any, Any, None]) -> asyncio.Task[HomelabError | None]:
        """Start a contact with a host."""
        return self.hass.async_create_task(self._async_failure(contact), f"{DOMAIN} config flow")

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
        self._forget_contact()

    def _forget_contact(self) -> None:
        """Close the connection beside what follows."""
        if self._contact is not None:
            self.hass.async_create_task(self._contact.async_close(), f"{DOMAIN} config flow close")
            self._contact = None


def _shown(host_key: str) -> str:
    """Return a host key as `ssh-keygen -lf` prints it, without its length and comment."""
    return f"{fingerprint(host_key)} ({host_key.split(maxsplit=1)[0].removeprefix('ssh-').upper()})"
