"""Machines that were found but not added yet: by a scan, in pasted lines, by mDNS.

Each becomes a separate flow: one that continues in the same dialog if a person picked it,
a card under *Discovered* otherwise. Nothing here contacts a machine, except a scan that a
person started.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network
import logging
import re

from homeassistant.components.network import async_get_adapters
from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    SOURCE_INTEGRATION_DISCOVERY,
    ConfigEntry,
    ConfigEntryChange,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.helpers import discovery_flow
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.util.hass_dict import HassKey

from ..client.limits import CARDS_LIMIT
from ..client.transport.ip_addresses import plain_host
from ..client.transport.names import looks, name_of
from ..client.transport.scan import (
    Candidate,
    Platform,
    interfaces_to_scan,
    scan,
    suggested_networks,
)
from ..client.transport.target import Target
from ..const import DEFAULT_PORT, DOMAIN
from ..known_hosts import looks_of

_LOGGER = logging.getLogger(__name__)

_QUEUES: HassKey[dict[str, list[str]]] = HassKey(f"{DOMAIN}_queues")
_ADDED_LAST: HassKey[dict[str, str]] = HassKey(f"{DOMAIN}_added_last")
"""Queue → the host that was added from it last."""
_CARDS: HassKey[dict[str, Card]] = HassKey(f"{DOMAIN}_cards")
"""Flow id → the machine that it is about."""
_IS_FULL: HassKey[bool] = HassKey(f"{DOMAIN}_cards_full")
_IS_WATCHING: HassKey[bool] = HassKey(f"{DOMAIN}_cards_watched")
_ADDED = "✅ "
CARD_SECONDS = 0.5
"""Seconds between two new cards. A browser may first request the texts of a new card, and adds it to the cards that it
had at that time: of two that come meanwhile it shows only the last (ha-config-integrations.ts)."""
PICKED_SECONDS, PICKED_APART = 0.05, 40
"""The same for flows that continue a dialog, which has the texts: they just must not come in one message. After that
many the rest comes at once, as a person waits for them; they continue in the dialog all the same."""


@dataclass(slots=True)
class KeyLimit:
    """The only addresses from which our key may log in; machines picked together share one, changes included."""

    sources: tuple[str, ...] = ()
    """The result of `parse_sources`; empty: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredHost:
    """A machine that may be added; `queue` identifies the machines picked together."""

    host: str
    unique_id: str
    name: str
    port: int = DEFAULT_PORT
    username: str = ""
    platform: Platform | None = None
    queue: str | None = None
    is_typed: bool = False
    """Whether a person typed the address, rather than finding it in the network."""
    limit: KeyLimit | None = field(default=None, compare=False)
    """The limit shared by the machines picked together."""

    @property
    def address(self) -> str:
        """Return host and port as they are shown and compared."""
        return Target(self.username, self.host, self.port).address

    @property
    def typed(self) -> str:
        """Return the address as a person would type it, with the user name if known."""
        return f"{self.username}@{self.address}" if self.username else self.address

    @property
    def known_as(self) -> str:
        """Return the name, "" if it is just the address."""
        return "" if self.name == self.address else self.name


@dataclass(frozen=True, slots=True)
class Card:
    """What a discovered flow is about: addresses, with their port if it is not 22, and other ids of a machine."""

    known_as: Collection[str]
    is_announced: bool = False
    """Whether it comes from the network, where anybody can create it; it blocks nothing that a person started."""
    name: str = ""
    """The name that people see."""
    check_name: Callable[[frozenset[str]], None] | None = None
    """Checks the name again, given what the names of all hosts look like now."""


# ---------------------------------------------------------------- scanning


async def async_networks(hass: HomeAssistant) -> list[IPv4Network]:
    """Return the networks that Home Assistant may use, to suggest them for a scan; contacts nobody."""
    return await hass.async_add_executor_job(suggested_networks, await async_get_adapters(hass))


async def async_scan(
    hass: HomeAssistant, networks: Sequence[IPv4Network], progress: Callable[[float], None]
) -> list[Candidate]:
    """Return the SSH servers found in these networks; looks nowhere else."""
    adapters = await async_get_adapters(hass)
    answered = await scan(
        networks,
        names=_names_from_dhcp(hass),
        interfaces=interfaces_to_scan(adapters),
        progress=_in_steps(progress),
    )
    return without_shared_names(without_shared_macs(answered))


def _in_steps(progress: Callable[[float], None]) -> Callable[[float], None]:
    """Return a progress callback that passes on whole percents only: each becomes an event for every browser."""
    last_percent = -1

    def report(share: float) -> None:
        nonlocal last_percent
        if int(share * 100) > last_percent:
            last_percent = int(share * 100)
            progress(share)

    return report


def _names_from_dhcp(hass: HomeAssistant) -> dict[str, str]:
    """Return the names that machines sent when they requested their address, by address."""
    if "dhcp" not in hass.config.components:
        return {}
    # Its dependencies are installed only where it runs.
    from homeassistant.components.dhcp.helpers import async_discovered_service_info  # noqa: PLC0415

    return {info.ip: info.hostname for info in async_discovered_service_info(hass) if info.hostname}


def label(candidate: Candidate, name: str, *, is_monitored: bool) -> str:
    """Return the line for one machine, starting with what people know it by; marked if it is already monitored."""
    parts = (name, candidate.address, _server(candidate.banner))
    return (_ADDED if is_monitored else "") + " · ".join(dict.fromkeys(part for part in parts if part))


_SERVER = re.compile(
    r"SSH-2\.0-(OpenSSH_for_Windows|OpenSSH|dropbear)(?:_([0-9]{1,4}\.[0-9]{1,3}(?:p[0-9]{1,2})?))?"
    r"(?: (Debian|Ubuntu|Raspbian|FreeBSD)(?![A-Za-z0-9]).*)?"
)


def _server(banner: str) -> str:
    """Return the server in a greeting if it is a known one, for example `OpenSSH 9.2p1 Debian`; otherwise "".

    Anything else would be text of an untrusted machine beside addresses and names.
    """
    known = _SERVER.fullmatch(banner)
    return " ".join(filter(None, known.groups())).replace("_", " ") if known else ""


def without_shared_macs(candidates: list[Candidate]) -> list[Candidate]:
    """Remove MAC addresses that several machines share: a router in between answers with its own for many."""
    times = Counter(each.mac for each in candidates)
    return [each if times[each.mac] == 1 else replace(each, mac=None) for each in candidates]


def without_shared_names(candidates: list[Candidate]) -> list[Candidate]:
    """Remove names that look alike: all but one of the machines may have copied the name of another."""
    times = Counter(look for each in candidates for look in looks(each.hostname or ""))
    is_shared = [any(times[look] > 1 for look in looks(each.hostname or "")) for each in candidates]
    return [replace(each, hostname=None) if is_so else each for each, is_so in zip(candidates, is_shared, strict=True)]


def found(candidate: Candidate, username: str = "", queue: str | None = None) -> DiscoveredHost:
    """Return a scanned machine as the start of a flow."""
    return DiscoveredHost(
        host=candidate.address,
        unique_id=candidate.mac or candidate.address,
        name=name_of(candidate.hostname) or candidate.address,
        username=username,
        platform=candidate.platform_hint,
        queue=queue,
    )


def found_target(target: Target, queue: str) -> DiscoveredHost:
    """Return a pasted address as the start of a flow."""
    return DiscoveredHost(
        host=target.host,
        unique_id=target.address,
        name=target.address,
        port=target.port,
        username=target.username,
        queue=queue,
        is_typed=True,
    )


# ---------------------------------------------------------------- what is already known


# ---------------------------------------------------------------- cards


@callback
def async_remember_card(hass: HomeAssistant, flow_id: str, card: Card) -> None:
    """Note which machine a discovered flow is about; its name is checked again when hosts are added or renamed."""
    hass.data.setdefault(_CARDS, {})[flow_id] = card
    if not hass.data.get(_IS_WATCHING):
        hass.data[_IS_WATCHING] = True
        async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, partial(_async_check_names, hass))


@callback
def _async_check_names(hass: HomeAssistant, _change: ConfigEntryChange, entry: ConfigEntry) -> None:
    """Check the names of all cards against those of all hosts."""
    if entry.domain != DOMAIN or not (cards := hass.data.get(_CARDS)):
        return
    taken = looks_of(hass.config_entries.async_entries(DOMAIN, include_ignore=False))
    for card in list(cards.values()):
        if card.check_name is not None:
            card.check_name(taken)


@callback
def async_forget_card(hass: HomeAssistant, flow_id: str) -> None:
    """Forget the card of a flow that has ended."""
    hass.data.get(_CARDS, {}).pop(flow_id, None)


@callback
def async_has_card(hass: HomeAssistant, card: Card) -> bool:
    """Return whether a discovered flow is about this machine and blocks another flow about it."""
    return any(
        _means(known, card.known_as) and (card.is_announced or not known.is_announced)
        for known in hass.data.get(_CARDS, {}).values()
    )


@callback
def async_is_shown(hass: HomeAssistant, name: str, flow_id: str) -> bool:
    """Return whether another card has a name that looks like this one."""
    cards = hass.data.get(_CARDS, {}).items()
    return any(looks(name) & looks(card.name) for other, card in cards if other != flow_id)


@callback
def async_has_room(hass: HomeAssistant, card: Card) -> bool:
    """Return whether one more machine may be offered: anybody in the network can announce any number."""
    others = hass.data.get(_CARDS, {}).values()
    if sum(other.is_announced is card.is_announced for other in others) < CARDS_LIMIT:
        return True
    _async_log_full(hass)
    return False


@callback
def _async_log_full(hass: HomeAssistant) -> None:
    """Log once that there is no room."""
    if not hass.data.get(_IS_FULL):
        hass.data[_IS_FULL] = True
        _LOGGER.info(
            "%d discovered hosts are waiting to be added. More are shown only after you add or ignore some", CARDS_LIMIT
        )


@callback
def async_dismiss_cards(hass: HomeAssistant, addresses: Collection[str], flow_id: str) -> None:
    """End the other flows that are about this machine."""
    for other, known in list(hass.data.get(_CARDS, {}).items()):
        if other != flow_id and _means(known, addresses):
            hass.config_entries.flow.async_abort(other)


@callback
def async_dismiss_waiting_cards(hass: HomeAssistant, target: Target, peer: tuple[str, int]) -> None:
    """End the cards of a machine that is monitored; a dialog in which somebody is past the first step goes on."""
    known, addresses = hass.data.get(_CARDS, {}), known_addresses(target, peer)
    # A flow that has just started shows nothing yet, and has no step.
    flows = hass.config_entries.flow.async_progress_by_handler(DOMAIN, include_uninitialized=True)
    waiting = {each["flow_id"] for each in flows if each.get("step_id") in (None, "address")}
    for flow_id in [flow_id for flow_id, card in known.items() if flow_id in waiting and _means(card, addresses)]:
        hass.config_entries.flow.async_abort(flow_id)


def known_addresses(target: Target, peer: tuple[str, int]) -> set[str]:
    """Return the addresses of a machine as in cards: the given one, and the one where it proved its key."""
    host, port = peer
    return {target.address, Target("", plain_host(host), port).address} if host else {target.address}


def _means(card: Card, addresses: Collection[str]) -> bool:
    """Return whether a card is about the machine with one of these addresses."""
    return not set(card.known_as).isdisjoint(addresses)


# ---------------------------------------------------------------- flows for the other machines


@callback
def async_show_cards(hass: HomeAssistant, machines: Iterable[DiscoveredHost]) -> None:
    """Offer machines under *Discovered*, as far as there is room."""
    hass.async_create_background_task(
        _async_create_flows(hass, _offered(hass, machines)), f"{DOMAIN} discovered", eager_start=True
    )


def _offered(hass: HomeAssistant, machines: Iterable[DiscoveredHost]) -> list[DiscoveredHost]:
    """Return the machines for which there is room, without those that have a card or an ignored entry."""
    offered = list[DiscoveredHost]()
    shown = [card for card in hass.data.get(_CARDS, {}).values() if not card.is_announced]
    known = {name for card in shown for name in card.known_as}
    known.update(entry.unique_id for entry in hass.config_entries.async_entries(DOMAIN) if entry.unique_id)
    left = CARDS_LIMIT - len(shown)
    for machine in machines:
        if not known.isdisjoint((machine.address, machine.unique_id)):
            continue
        if left <= 0:
            _async_log_full(hass)
            break
        left -= 1
        known.update((machine.address, machine.unique_id))
        offered.append(machine)
    return offered


async def _async_create_flows(hass: HomeAssistant, machines: Sequence[DiscoveredHost]) -> None:
    """Start a flow for each machine, one after the other: each checks itself whether its machine is still new."""
    for number, machine in enumerate(machines):
        if number:
            await async_pause(CARD_SECONDS)
        discovery_flow.async_create_flow(hass, DOMAIN, {"source": SOURCE_INTEGRATION_DISCOVERY}, machine)


async def async_pause(seconds: float) -> None:
    """Wait, so that a browser can process the flow that has started."""
    await asyncio.sleep(seconds)


async def async_enqueue(hass: HomeAssistant, queue: str, machines: Iterable[DiscoveredHost]) -> None:
    """Start a flow for each picked machine; the dialog continues with one after the other."""
    flow_ids = hass.data.setdefault(_QUEUES, {}).setdefault(queue, [])
    for number, machine in enumerate(machines):
        if 0 < number <= PICKED_APART:
            await async_pause(PICKED_SECONDS)
        result = await hass.config_entries.flow.async_init(
            DOMAIN, context={"source": SOURCE_INTEGRATION_DISCOVERY}, data=machine
        )
        flow_ids.append(result["flow_id"])


@callback
def async_left(hass: HomeAssistant, queue: str, flow_id: str) -> tuple[str, int]:
    """Return which host of a queue was added last, "" for none, and how many flows follow this one."""
    is_left = {flow["flow_id"] for flow in hass.config_entries.flow.async_progress_by_handler(DOMAIN)} - {flow_id}
    left = sum(each in is_left for each in hass.data.get(_QUEUES, {}).get(queue, []))
    return hass.data.get(_ADDED_LAST, {}).get(queue, ""), left


@callback
def async_next_flow(hass: HomeAssistant, queue: str, added: str = "") -> str | None:
    """Return the next flow of a queue; those that were dismissed meanwhile are skipped.

    `added`: the host that the previous flow has added, "" for none.
    """
    hass.data.setdefault(_ADDED_LAST, {})[queue] = added
    flow_ids = hass.data.get(_QUEUES, {}).get(queue, [])
    while flow_ids:
        flow_id = flow_ids.pop(0)
        try:
            hass.config_entries.flow.async_get(flow_id)
        except UnknownFlow:
            continue
        return flow_id
    hass.data.get(_QUEUES, {}).pop(queue, None)
    hass.data[_ADDED_LAST].pop(queue)
    return None
