"""The ways to add a host: by hand, by scan, by discovery; and to change a known one.

The steps that follow, from trust to test, are the same for all of them: see `onboarding`.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any, override

from homeassistant.config_entries import ConfigEntry, ConfigEntryState, ConfigFlowResult
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

from .client.errors import HostKeyChanged, InvalidTarget, first_line
from .client.limits import ANNOUNCED_ADDRESSES, ROWS_LIMIT
from .client.transport.ip_addresses import is_neighbour, plain_host
from .client.transport.names import name_of
from .client.transport.scan import Candidate, NetworksError, count_addresses, parse_networks
from .client.transport.target import Target
from .const import DEFAULT_PORT, DOMAIN
from .controls import physical_macs
from .flow.discovery import (
    Card,
    DiscoveredHost,
    async_dismiss_cards,
    async_enqueue,
    async_has_card,
    async_has_room,
    async_is_shown,
    async_left,
    async_networks,
    async_remember_card,
    async_scan,
    async_show_cards,
    found,
    found_target,
    label,
)
from .flow.moves import async_follow
from .flow.onboarding import WAYS_IN, OnboardingFlow
from .flow.options import HomelabOptionsFlow
from .health.checklist import words
from .known_hosts import async_monitored, entry_at, entry_connected_to, is_taken, looks_of
from .markdown import copyable, escaped
from .settings import HostAddress

CONF_ADDRESSES = "addresses"
CONF_HOSTS = "hosts"
CONF_NETWORKS = "networks"

_LINE = TextSelector(TextSelectorConfig(autocomplete="off"))
_ADDRESS_SCHEMA = vol.Schema({vol.Required(CONF_ADDRESS): _LINE})
_NETWORKS_SCHEMA = vol.Schema({vol.Required(CONF_NETWORKS): _LINE})
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
        """Start without networks and machines."""
        super().__init__()
        self._networks: list[IPv4Network] = []
        """The networks that were shown to a person before a scan."""
        self._candidates: list[Candidate] = []
        self._suggested = ""
        self._machine: DiscoveredHost | None = None
        """The discovered machine with its unproven name, which is checked each time before it is shown."""
        self._card: Card | None = None

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> HomelabOptionsFlow:
        """Return the flow that changes the options of a host."""
        return HomelabOptionsFlow()

    # ------------------------------------------------------------ by hand

    @override
    async def async_step_user(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show our key and the ways to add a host."""
        return await self._async_menu("user", ["scan", "address", "paste", "commands", "limit"])

    async def async_step_address(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take one address."""
        if user_input is not None and await self._async_take_address(user_input[CONF_ADDRESS]):
            return await self.async_step_trust()
        suggested = user_input or {CONF_ADDRESS: self._suggested}
        return await self._async_form("address", self.add_suggested_values_to_schema(_ADDRESS_SCHEMA, suggested))

    async def async_step_paste(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take many addresses, one per line; go on with the first, the others follow."""
        if user_input is not None:
            try:
                targets = _targets(user_input[CONF_ADDRESSES], user_input.get(CONF_USERNAME))
            except InvalidTarget as err:
                self._failure = err
            else:
                return await self._async_begin([found_target(target, self.flow_id) for target in targets])
        return await self._async_form("paste", self.add_suggested_values_to_schema(_PASTE_SCHEMA, user_input))

    async def _async_begin(self, machines: list[DiscoveredHost]) -> ConfigFlowResult:
        """Continue with the first machine; the others follow in the same dialog."""
        first, *others = machines
        self._queue = self.flow_id
        await async_enqueue(self.hass, self._queue, [replace(each, limit=self._limit) for each in others])
        self._platform, self._suggested, self._machine = first.platform, first.typed, first
        self._announced = "" if first.is_typed else first.host
        return await self.async_step_address({CONF_ADDRESS: first.typed})

    # ------------------------------------------------------------ by scan

    async def async_step_scan(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what would be scanned, and let a person change it; only networks shown with their size are scanned."""
        if user_input is None:
            self._networks = await async_networks(self.hass)
            return await self._async_scan_form(", ".join(map(str, self._networks)))
        typed = user_input[CONF_NETWORKS]
        try:
            networks = parse_networks(typed)
        except NetworksError as err:
            return await self._async_scan_form(typed, err)
        if networks != self._networks:
            self._networks = networks
            return await self._async_scan_form(", ".join(map(str, networks)))
        return await self.async_step_scanning()

    async def _async_scan_form(self, typed: str, refused: NetworksError | None = None) -> ConfigFlowResult:
        """Show what would be scanned: each network, and its number of addresses."""
        lines = [f"- {copyable(str(each))}: {count_addresses([each]):,}" for each in self._networks]
        return self.async_show_form(
            step_id="scan",
            data_schema=self.add_suggested_values_to_schema(_NETWORKS_SCHEMA, {CONF_NETWORKS: typed}),
            errors={CONF_NETWORKS: refused.key} if refused else None,
            description_placeholders={
                "networks": "\n".join(lines),
                "addresses": f"{count_addresses(self._networks):,}",
                **(refused.placeholders if refused else {}),
            },
        )

    async def async_step_scanning(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Scan for SSH servers, with progress."""
        if self._task is None:
            self._task = self._start(self._async_scan())
        if not self._task.done():
            return self.async_show_progress(step_id="scanning", progress_action="scan", progress_task=self._task)
        self._failure, self._task = self._task.result(), None
        if self._failure:
            return self.async_show_progress_done(next_step_id="address")
        return self.async_show_progress_done(next_step_id="pick" if self._candidates else "nothing_found")

    async def _async_scan(self) -> None:
        """Scan and remember the machines that answer."""
        self._candidates = await async_scan(self.hass, self._networks, self.async_update_progress)

    async def async_step_nothing_found(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show that no machine answered, and offer the other ways."""
        return await self._async_menu("nothing_found", ["scan", "address", "paste"])

    async def async_step_pick(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the picked machines; the others become cards that can be ignored."""
        if user_input is not None:
            # Also one that seems to be monitored already: its key shows whether it is that machine.
            picked = set(user_input[CONF_HOSTS])
            machines = [each for each in self._candidates if each.address in picked]
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
        """Return the form with the machines that answered, as many as fit on a page."""
        taken, watched = self._taken_looks(), self._watched()
        options = [
            SelectOptionDict(value=each.address, label=_label(each, watched.get(each.address), taken))
            for each in self._candidates[:ROWS_LIMIT]
        ]
        hosts = SelectSelector(SelectSelectorConfig(options=options, multiple=True, mode=SelectSelectorMode.LIST))
        return vol.Schema({vol.Required(CONF_HOSTS, default=list): hosts, vol.Optional(CONF_USERNAME): _LINE})

    async def _async_more(self) -> str:
        """Return the paragraph about how many more machines answered than are listed, "" if all are listed."""
        if (more := len(self._candidates) - ROWS_LIMIT) <= 0:
            return ""
        texts = await self._async_words()
        text = words(texts, "found", "more").format(count=f"{more:,}", limit=f"{ROWS_LIMIT:,}")
        return f"⚠️ {text}\n\n"

    async def _async_watched_note(self) -> str:
        """Return the sentence on machines that are monitored already, "" if none of those that answered is."""
        watched = self._watched() if self._candidates else {}
        if not any(each.address in watched for each in self._candidates):
            return ""
        texts = await self._async_words()
        return words(texts, "scan_result", "watched") + " "

    async def _async_queue_note(self) -> str:
        """Return the paragraph on the progress with the machines picked together, "" for a single machine."""
        if not self._queue or self._queue == self.flow_id:
            return ""
        added, left = async_left(self.hass, self._queue, self.flow_id)
        texts = await self._async_words()
        parts = [words(texts, "queue", "added").format(name=escaped(added))] if added else []
        parts.append(words(texts, "queue", "left" if left else "last").format(count=left))
        return " ".join(parts) + "\n\n"

    @override
    async def _async_placeholders(self) -> dict[str, str]:
        """Add the notes on a scan, and on the machines picked together."""
        more, note = await self._async_more(), await self._async_watched_note()
        queue = await self._async_queue_note()
        return await super()._async_placeholders() | {"more": more, "watched_note": note, "queue_note": queue}

    def _taken_looks(self) -> frozenset[str]:
        """Return what the names of all hosts look like."""
        return looks_of(self._async_current_entries(include_ignore=False))

    def _watched(self) -> dict[str, ConfigEntry]:
        """Return address → entry that is polled there, including entries added meanwhile."""
        return async_monitored(self._async_current_entries(include_ignore=False))

    def _show_cards(self, picked: list[Candidate]) -> None:
        """Offer the machines that are neither monitored nor picked under *Discovered*."""
        others = self._watched().keys() | {each.address for each in picked}
        async_show_cards(self.hass, (found(each) for each in self._candidates if each.address not in others))

    # ------------------------------------------------------------ by discovery

    @override
    async def async_step_integration_discovery(self, discovery_info: DiscoveredHost) -> ConfigFlowResult:  # type: ignore[override]
        """Wait as a card, or in the queue of the machines picked together."""
        machine = discovery_info
        self._queue, self._limit = machine.queue or "", machine.limit or self._limit
        self._platform = machine.platform
        # An announcement that claims the same id does not prevent it from being shown.
        await self.async_set_unique_id(machine.unique_id, raise_on_progress=False)
        known_as = Card({machine.address, machine.unique_id})
        if machine.queue:
            # A machine that a person picked replaces an existing or ignored card.
            async_dismiss_cards(self.hass, {machine.address}, self.flow_id)
            return await self._async_show_card(machine, known_as)
        return await self._async_discovered(machine, known_as, {machine.host})

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Wait as a card for a machine that announces its SSH server; nobody is contacted."""
        said, name = first_line(discovery_info.hostname).rstrip("."), name_of(discovery_info.hostname)
        host = plain_host(discovery_info.host)
        if not is_neighbour(host):
            return self.async_abort(reason="not_new")
        # A scan uses MAC or IP addresses as ids: a card with such an id would hide the scanned machine once ignored.
        unique_id = said if name else f"announced {host}"
        await self.async_set_unique_id(unique_id)
        machine = DiscoveredHost(
            host=host,
            unique_id=unique_id,
            name=name or host,
            port=discovery_info.port or DEFAULT_PORT,
        )
        # The address that the card leads to counts, at whatever position it is among the others.
        others = map(plain_host, discovery_info.addresses[:ANNOUNCED_ADDRESSES])
        hosts = {said if name else host, host, *others}
        card = Card({replace(machine, host=host).address for host in hosts}, is_announced=True)
        return await self._async_discovered(machine, card, hosts)

    async def _async_discovered(self, machine: DiscoveredHost, card: Card, hosts: set[str]) -> ConfigFlowResult:
        """Show a card, unless the machine is ignored, known, or has one already."""
        self._abort_if_unique_id_configured(description_placeholders={"name": escaped(machine.name)})
        entries = self._async_current_entries(include_ignore=False)
        if entry := entry_at(entries, hosts) or entry_connected_to(entries, hosts, machine.port):
            return self._async_end("already_configured", entry)
        if async_has_card(self.hass, card):
            return self.async_abort(reason="already_in_progress")
        if not async_has_room(self.hass, card):
            return self.async_abort(reason="too_many_cards")
        if not card.is_announced:
            async_dismiss_cards(self.hass, {machine.address}, self.flow_id)
        return await self._async_show_card(machine, card)

    async def _async_show_card(self, machine: DiscoveredHost, card: Card) -> ConfigFlowResult:
        """Show the card, and wait for a person."""
        self._machine, self._card, self._suggested = machine, replace(card, check_name=self._check_name), machine.typed
        self._check_name(self._taken_looks())
        self._announced = "" if machine.is_typed else machine.host
        return await self.async_step_address()

    @callback
    def _check_name(self, taken: frozenset[str]) -> None:
        """Update the title of the card to the name that may be shown now."""
        if self._machine and self._card:
            name = self._shown_name(taken)
            async_remember_card(self.hass, self.flow_id, replace(self._card, name=name))
            title = {"name": name or self._machine.address}
            if "title_placeholders" not in self.context:
                self.context["title_placeholders"] = title
            elif self.context["title_placeholders"] != title:
                # This reloads the dialog: at a later step it would lose the typed data, and one that ends is gone.
                if self.cur_step is not None and self.cur_step.get("step_id") == "address":
                    self.async_update_title_placeholders(title)
                else:
                    self.context["title_placeholders"] = title

    def _shown_name(self, taken: frozenset[str]) -> str:
        """Return the name of the machine, "" if it looks like the name of a host or of another card."""
        if (machine := self._machine) is None:
            return ""
        name = _name_of(machine, taken)
        is_card_of_others = self._card is not None and not machine.is_typed
        return "" if is_card_of_others and async_is_shown(self.hass, name, self.flow_id) else name

    @property
    @override
    def _found(self) -> str:
        return self._shown_name(self._taken_looks())

    @override
    async def async_step_dhcp(self, discovery_info: DhcpServiceInfo) -> ConfigFlowResult:
        """Follow a known host to its new address, if it proves its identity."""
        for entry in self._entries_with_mac(discovery_info.macaddress):
            if is_neighbour(discovery_info.ip):
                async_follow(self.hass, entry, plain_host(discovery_info.ip))
        return self.async_abort(reason="not_new")

    def _entries_with_mac(self, mac: str) -> list[ConfigEntry]:
        """Return the entries whose device has this MAC address, and those whose host reports it as its own.

        Another host may have claimed it before, and hold it in the registry: the login proves whose address it is.
        """
        address = dr.format_mac(mac)
        devices = dr.async_get(self.hass).async_get_devices(connections={(dr.CONNECTION_NETWORK_MAC, address)})
        holders = {device.config_entry_id for device in devices}
        return [
            entry
            for entry in self._async_current_entries(include_ignore=False)
            if entry.disabled_by is None and (entry.entry_id in holders or _claims(entry, address))
        ]

    # ------------------------------------------------------------ again

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Start after a host has refused our key."""
        self._known = address = HostAddress.from_data(entry_data)
        self._target, self._host_keys = address.target, address.confirmed_keys
        self._limit.sources = address.key_sources
        entry = self._known_entry()
        if entry is not None and entry.state is ConfigEntryState.LOADED:
            await self._async_note_refusal(entry.runtime_data.data.error)
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the key again, and offer the ways in."""
        return await self._async_menu("reauth_confirm", WAYS_IN)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take another address, port or user for a known host."""
        entry = self._known_entry()
        if entry is not None and user_input is None:
            self._known = HostAddress.from_data(entry.data)
            self._limit.sources = self._known.key_sources
        if entry is None or self._is_changed(entry):
            return self._async_end("changed", entry)
        known, self._announced = HostAddress.from_data(entry.data), ""
        if user_input is not None and self._take_address(user_input[CONF_ADDRESS]):
            # Only a login proves that it is the same machine, not a key that it shows.
            self._host_keys = known.confirmed_keys
            if step := await self._async_entered() or await self._async_entered_elsewhere(known):
                return step
            if isinstance(self._failure, HostKeyChanged) and await self._async_try(self._async_read_host_key()):
                return await self.async_step_trust()
        suggested = user_input or {CONF_ADDRESS: str(known.given)}
        return await self._async_form("reconfigure", self.add_suggested_values_to_schema(_ADDRESS_SCHEMA, suggested))

    async def _async_entered_elsewhere(self, known: HostAddress) -> ConfigFlowResult | None:
        """Log in where the host was followed to, if a person left the given address as it is and it fails there."""
        given, failure = self._target, self._failure
        if known.given.address != given.address or known.target.address == given.address:
            return None
        self._target = replace(given, host=known.target.host, port=known.target.port)
        self._announced = self._target.host
        if step := await self._async_entered():
            return step
        self._target, self._failure = given, failure
        return None


def _claims(entry: ConfigEntry, address: str) -> bool:
    """Return whether the host of an entry reports that one of its network cards has this address."""
    return entry.state is ConfigEntryState.LOADED and address in physical_macs(entry.runtime_data)


def _label(candidate: Candidate, entry: ConfigEntry | None, taken: frozenset[str]) -> str:
    """Return the line of a machine that answered, with the name of its entry if it has one."""
    return label(candidate, entry.title if entry else _name_of(found(candidate), taken), is_monitored=bool(entry))


def _name_of(machine: DiscoveredHost, taken: frozenset[str]) -> str:
    """Return the name of a machine besides its address, "" if it looks like the name of another host."""
    return machine.known_as if machine.is_typed or not is_taken(machine.name, taken) else ""


def _targets(text: str, username: str | None) -> list[Target]:
    """Return the distinct addresses in the lines; raise InvalidTarget for the first line without one."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    targets = list(dict.fromkeys(Target.parse(line, username) for line in lines if line))
    if not targets:
        raise InvalidTarget(text)
    return targets


def _is_username(username: str) -> bool:
    """Return whether this is a valid user name for a login."""
    try:
        Target.parse(f"{username}@host")
    except InvalidTarget:
        return False
    return True
