"""The ways to a host: by hand, by scan, by discovery, and again for one that is known.

What follows, from trust to test, is the same for all of them: `onboarding`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, override

from homeassistant.config_entries import ConfigEntry, ConfigFlowResult
from homeassistant.const import CONF_ADDRESS, CONF_USERNAME
from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
)
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
import voluptuous as vol

from .client.errors import HomelabError, InvalidTarget, TimedOut, Unreachable, first_line
from .client.scan import Candidate
from .client.target import Target
from .const import DEFAULT_PORT, DOMAIN
from .contact import async_can_log_in, async_read_host_keys
from .discovery import (
    Found,
    async_dismiss_cards,
    async_enqueue,
    async_has_card,
    async_remember_card,
    async_scan,
    async_show_card,
    entry_at,
    found,
    found_target,
    is_ip_address,
    label,
)
from .markdown import escaped
from .onboarding import OnboardingFlow
from .options_flow import HomelabOptionsFlow
from .settings import HostAddress

CONF_ADDRESSES = "addresses"
CONF_HOSTS = "hosts"

_LINE = TextSelector(TextSelectorConfig(autocomplete="off"))
_ADDRESS_SCHEMA = vol.Schema({vol.Required(CONF_ADDRESS): _LINE})
_PASTE_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_ADDRESSES): TextSelector(TextSelectorConfig(multiline=True)),
        vol.Optional(CONF_USERNAME): _LINE,
    }
)


class HomelabConfigFlow(OnboardingFlow, domain=DOMAIN):
    """Add a host, or change how it is reached."""

    VERSION = 1
    MINOR_VERSION = 1

    def __init__(self) -> None:
        """Have found nothing yet."""
        super().__init__()
        self._candidates: list[Candidate] = []
        self._suggested = ""

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> HomelabOptionsFlow:
        """Return the flow that changes how a host is watched."""
        return HomelabOptionsFlow()

    # ------------------------------------------------------------ by hand

    @override
    async def async_step_user(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show our key and ask where to look."""
        return await self._async_menu("user", ["scan", "address", "paste", "commands"])

    async def async_step_address(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take one address."""
        if user_input is not None and await self._async_take_address(user_input[CONF_ADDRESS]):
            return await self.async_step_trust()
        suggested = user_input or {CONF_ADDRESS: self._suggested}
        return await self._async_form("address", self.add_suggested_values_to_schema(_ADDRESS_SCHEMA, suggested))

    async def async_step_paste(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take many addresses, one per line; the first one now, the others after it."""
        if user_input is not None:
            try:
                targets = _targets(user_input[CONF_ADDRESSES], user_input.get(CONF_USERNAME))
            except InvalidTarget as err:
                self._failure = err
            else:
                return await self._async_begin([found_target(target, self.flow_id) for target in targets])
        return await self._async_form("paste", self.add_suggested_values_to_schema(_PASTE_SCHEMA, user_input))

    async def _async_begin(self, machines: list[Found]) -> ConfigFlowResult:
        """Go on with the first machine; the others follow in the same dialog."""
        first, *others = machines
        self._queue = self.flow_id
        await async_enqueue(self.hass, self._queue, others)
        self._platform, self._suggested, self._found = first.platform, first.typed, first.known_as
        return await self.async_step_address({CONF_ADDRESS: first.typed})

    # ------------------------------------------------------------ by scan

    async def async_step_scan(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Look for SSH servers nearby, with progress."""
        if self._task is None:
            self._task = self._start(self._async_scan())
        if not self._task.done():
            return self.async_show_progress(step_id="scan", progress_action="scan", progress_task=self._task)
        self._failure, self._task = self._task.result(), None
        if self._failure:
            return self.async_show_progress_done(next_step_id="address")
        return self.async_show_progress_done(next_step_id="pick" if self._candidates else "nothing_found")

    async def _async_scan(self) -> None:
        """Remember who answers."""
        self._candidates = await async_scan(self.hass, self.async_update_progress)

    async def async_step_nothing_found(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Say that nobody answered, and offer the other ways."""
        return await self._async_menu("nothing_found", ["scan", "address", "paste"])

    async def async_step_pick(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take those that were picked; the others become cards that can be ignored."""
        if user_input is not None:
            machines = [each for each in self._new_candidates() if each.address in user_input[CONF_HOSTS]]
            username = user_input.get(CONF_USERNAME, "")
            if not machines:
                self._show_cards(machines)
                return self.async_abort(reason="cards_only")
            if _is_username(username):
                self._show_cards(machines)
                return await self._async_begin([found(each, username, self.flow_id) for each in machines])
        schema = self.add_suggested_values_to_schema(self._pick_schema(), user_input)
        return await self._async_form("pick", schema, error="invalid_username" if user_input else None)

    def _pick_schema(self) -> vol.Schema:
        """Return the list of the machines that answered."""
        entries = self._async_current_entries(include_ignore=False)
        options = [
            SelectOptionDict(value=each.address, label=label(each, entry_at(entries, _hosts(each))))
            for each in self._candidates
        ]
        hosts = SelectSelector(SelectSelectorConfig(options=options, multiple=True, mode=SelectSelectorMode.LIST))
        return vol.Schema({vol.Required(CONF_HOSTS, default=list): hosts, vol.Optional(CONF_USERNAME): _LINE})

    def _new_candidates(self) -> list[Candidate]:
        """Return the machines that nobody watches yet."""
        entries = self._async_current_entries(include_ignore=False)
        return [each for each in self._candidates if entry_at(entries, _hosts(each)) is None]

    def _show_cards(self, picked: list[Candidate]) -> None:
        """Offer the machines that were not picked under *Discovered*."""
        for each in self._new_candidates():
            if each not in picked:
                async_show_card(self.hass, found(each))

    # ------------------------------------------------------------ by discovery

    @override
    async def async_step_integration_discovery(self, discovery_info: Found) -> ConfigFlowResult:  # type: ignore[override]
        """Wait as a card, or in the queue of those that were picked together."""
        machine = discovery_info
        self._queue = machine.queue or ""
        self._platform = machine.platform
        if machine.queue:
            # A card that is there already, or was ignored, gives way to what a person picked.
            async_dismiss_cards(self.hass, {machine.address}, self.flow_id)
            await self.async_set_unique_id(machine.unique_id, raise_on_progress=False)
            return await self._async_show_card(machine, {machine.address})
        await self.async_set_unique_id(machine.unique_id)
        return await self._async_discovered(machine, {machine.host})

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Wait as a card for a machine that announces its SSH server; nobody is contacted."""
        name = first_line(discovery_info.hostname).rstrip(".") or discovery_info.host
        await self.async_set_unique_id(name)
        machine = Found(
            host=discovery_info.host,
            unique_id=name,
            name=name.removesuffix(".local").strip() or discovery_info.host,
            port=discovery_info.port or DEFAULT_PORT,
        )
        return await self._async_discovered(machine, {name, *discovery_info.addresses})

    async def _async_discovered(self, machine: Found, hosts: set[str]) -> ConfigFlowResult:
        """Show a card, unless the machine is ignored, known, or has one."""
        self._abort_if_unique_id_configured(description_placeholders={"name": escaped(machine.name)})
        if entry := entry_at(self._async_current_entries(include_ignore=False), hosts):
            return self._async_end("already_configured", entry)
        addresses = {replace(machine, host=host).address for host in hosts}
        if async_has_card(self.hass, addresses):
            return self.async_abort(reason="already_in_progress")
        return await self._async_show_card(machine, addresses)

    async def _async_show_card(self, machine: Found, addresses: set[str]) -> ConfigFlowResult:
        """Wait for a person."""
        async_remember_card(self.hass, self.flow_id, frozenset(addresses))
        self.context["title_placeholders"] = {"name": machine.name}
        self._suggested, self._found = machine.typed, machine.known_as
        return await self.async_step_address()

    @override
    async def async_step_dhcp(self, discovery_info: DhcpServiceInfo) -> ConfigFlowResult:
        """Follow a known host to its new address, when it proves who it is."""
        for entry in self._entries_with_mac(discovery_info.macaddress):
            known = HostAddress.from_data(entry.data)
            if await self._async_has_moved(known, discovery_info.ip):
                moved = replace(known, target=replace(known.target, host=discovery_info.ip))
                self.hass.config_entries.async_update_entry(entry, data={**entry.data, **moved.as_data()})
                self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return self.async_abort(reason="not_new")

    def _entries_with_mac(self, mac: str) -> list[ConfigEntry]:
        """Return the entries whose device has this MAC address."""
        connection = (dr.CONNECTION_NETWORK_MAC, dr.format_mac(mac))
        devices = dr.async_get(self.hass)
        return [
            entry
            for entry in self._async_current_entries(include_ignore=False)
            if any(
                connection in device.connections
                for device in dr.async_entries_for_config_entry(devices, entry.entry_id)
            )
        ]

    async def _async_has_moved(self, known: HostAddress, ip: str) -> bool:
        """Tell whether the old address is silent, and the machine with a pinned key lets us in at the new one.

        A name is never replaced: whoever typed it wants it to be looked up.
        """
        if known.target.host == ip or not is_ip_address(known.target.host):
            return False
        try:
            await async_read_host_keys(known.target)
        except Unreachable, TimedOut:
            return await async_can_log_in(self.hass, replace(known.target, host=ip), known.host_keys)
        except HomelabError:
            return False
        return False

    # ------------------------------------------------------------ again

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Begin where a host refuses our key."""
        address = HostAddress.from_data(entry_data)
        self._target, self._host_keys = address.target, address.host_keys
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the key again, and offer the ways in."""
        return await self._async_menu("reauth_confirm", ["added", "install", "commands"])

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take another address, port or user for a known host."""
        known = HostAddress.from_data(self._get_reconfigure_entry().data)
        if user_input is not None and await self._async_take_address(user_input[CONF_ADDRESS]):
            if not set(self._host_keys) & set(known.host_keys):
                return await self.async_step_trust()
            # It is the same machine: what was confirmed once need not be confirmed again.
            self._host_keys = known.host_keys
            return await self.async_step_trust({})
        suggested = user_input or {CONF_ADDRESS: str(known.target)}
        return await self._async_form("reconfigure", self.add_suggested_values_to_schema(_ADDRESS_SCHEMA, suggested))


def _targets(text: str, username: str | None) -> list[Target]:
    """Return the addresses in the lines, each once; raise InvalidTarget for the first line that holds none."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    targets = list(dict.fromkeys(Target.parse(line, username) for line in lines if line))
    if not targets:
        raise InvalidTarget(text)
    return targets


def _is_username(username: str) -> bool:
    """Tell whether one can log in by that name."""
    try:
        Target.parse(f"{username}@host")
    except InvalidTarget:
        return False
    return True


def _hosts(candidate: Candidate) -> set[str]:
    """Return the address and the name of a machine."""
    return {candidate.address, candidate.hostname or candidate.address}
