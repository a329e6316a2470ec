"""Machines that were found and not added yet: by a scan, in pasted lines, by mDNS.

Each becomes a flow of its own: one that follows in the same dialog when a person picked it,
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
_IS_JUDGING: HassKey[bool] = HassKey(f"{DOMAIN}_cards_judged")
_ADDED = "✅ "
CARD_SECONDS = 0.5
"""How far apart cards come. A browser may first ask for the texts of a new card, and puts it beside those that were
there when it asked: of two that come meanwhile it shows the last one only (ha-config-integrations.ts)."""
PICKED_SECONDS, PICKED_APART = 0.05, 40
"""The same for those that follow in a dialog, which has the texts: they must only not come in one message. Of more than
that many the rest comes at once, as a person waits for them; they follow in the dialog all the same."""


@dataclass(slots=True)
class KeyLimit:
    """From where alone our key is to be let in; those that were picked together share one, whoever changes it."""

    sources: tuple[str, ...] = ()
    """What `parse_sources` returned; none is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredHost:
    """A machine that may be added; `queue` names those that were picked together."""

    host: str
    unique_id: str
    name: str
    port: int = DEFAULT_PORT
    username: str = ""
    platform: Platform | None = None
    queue: str | None = None
    is_typed: bool = False
    """Whether a person gave the address, and nothing in the network did."""
    limit: KeyLimit | None = field(default=None, compare=False)
    """That of those that were picked together."""

    @property
    def address(self) -> str:
        """Return host and port as they are shown and compared."""
        return Target(self.username, self.host, self.port).address

    @property
    def typed(self) -> str:
        """Return what a person would type, as far as it is known."""
        return f"{self.username}@{self.address}" if self.username else self.address

    @property
    def known_as(self) -> str:
        """Return the name, "" when it says no more than the address."""
        return "" if self.name == self.address else self.name


@dataclass(frozen=True, slots=True)
class Card:
    """What a discovered flow is about: addresses, with their port where it is not 22, and what else means a machine."""

    known_as: Collection[str]
    is_announced: bool = False
    """Anybody in the network can have put it there; it hinders nothing that a person started."""
    name: str = ""
    """What it is called where people see it."""
    judge: Callable[[frozenset[str]], None] | None = None
    """Judges the name anew, beside what the names of the hosts look like by now."""


# ---------------------------------------------------------------- scanning


async def async_networks(hass: HomeAssistant) -> list[IPv4Network]:
    """Return the networks that Home Assistant may use, to be suggested for a scan; nobody is contacted."""
    return await hass.async_add_executor_job(suggested_networks, await async_get_adapters(hass))


async def async_scan(
    hass: HomeAssistant, networks: Sequence[IPv4Network], progress: Callable[[float], None]
) -> list[Candidate]:
    """Look for SSH servers in these networks, and nowhere else."""
    adapters = await async_get_adapters(hass)
    answered = await scan(
        networks,
        names=_names_from_dhcp(hass),
        interfaces=interfaces_to_scan(adapters),
        progress=_in_steps(progress),
    )
    return without_shared_names(without_shared_macs(answered))


def _in_steps(progress: Callable[[float], None]) -> Callable[[float], None]:
    """Return a progress that tells only whole percents: each becomes an event for every browser."""
    told = -1

    def tell(share: float) -> None:
        nonlocal told
        if int(share * 100) > told:
            told = int(share * 100)
            progress(share)

    return tell


def _names_from_dhcp(hass: HomeAssistant) -> dict[str, str]:
    """Return the names that machines gave when they asked for their address."""
    if "dhcp" not in hass.config.components:
        return {}
    # Its dependencies are installed only where it runs.
    from homeassistant.components.dhcp.helpers import async_discovered_service_info  # noqa: PLC0415

    return {info.ip: info.hostname for info in async_discovered_service_info(hass) if info.hostname}


def label(candidate: Candidate, name: str, *, is_watched: bool) -> str:
    """Return a line for one machine, what people know it by first; a mark when it is already watched."""
    parts = (name, candidate.address, _server(candidate.banner))
    return (_ADDED if is_watched else "") + " · ".join(dict.fromkeys(part for part in parts if part))


_SERVER = re.compile(
    r"SSH-2\.0-(OpenSSH_for_Windows|OpenSSH|dropbear)(?:_([0-9]{1,4}\.[0-9]{1,3}(?:p[0-9]{1,2})?))?"
    r"(?: (Debian|Ubuntu|Raspbian|FreeBSD)(?![A-Za-z0-9]).*)?"
)


def _server(banner: str) -> str:
    """Return which server greets, as far as it is one that is known: `OpenSSH 9.2p1 Debian`.

    All else would be words of a stranger beside addresses and names.
    """
    known = _SERVER.fullmatch(banner)
    return " ".join(filter(None, known.groups())).replace("_", " ") if known else ""


def without_shared_macs(candidates: list[Candidate]) -> list[Candidate]:
    """Take a MAC address from machines that share it: who stands between answers with their own for many."""
    times = Counter(each.mac for each in candidates)
    return [each if times[each.mac] == 1 else replace(each, mac=None) for each in candidates]


def without_shared_names(candidates: list[Candidate]) -> list[Candidate]:
    """Take the name from machines that look alike by it: all but one of them may have taken it from another one."""
    times = Counter(look for each in candidates for look in looks(each.hostname or ""))
    is_shared = [any(times[look] > 1 for look in looks(each.hostname or "")) for each in candidates]
    return [replace(each, hostname=None) if is_so else each for each, is_so in zip(candidates, is_shared, strict=True)]


def found(candidate: Candidate, username: str = "", queue: str | None = None) -> DiscoveredHost:
    """Return a scanned machine as the beginning of a flow."""
    return DiscoveredHost(
        host=candidate.address,
        unique_id=candidate.mac or candidate.address,
        name=name_of(candidate.hostname) or candidate.address,
        username=username,
        platform=candidate.platform_hint,
        queue=queue,
    )


def found_target(target: Target, queue: str) -> DiscoveredHost:
    """Return a pasted address as the beginning of a flow."""
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
    """Note which machine a discovered flow is about; its name is judged again when hosts are added or renamed."""
    hass.data.setdefault(_CARDS, {})[flow_id] = card
    if not hass.data.get(_IS_JUDGING):
        hass.data[_IS_JUDGING] = True
        async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, partial(_async_judge_names, hass))


@callback
def _async_judge_names(hass: HomeAssistant, _change: ConfigEntryChange, entry: ConfigEntry) -> None:
    """Judge the names of all cards beside those of all hosts."""
    if entry.domain != DOMAIN or not (cards := hass.data.get(_CARDS)):
        return
    taken = looks_of(hass.config_entries.async_entries(DOMAIN, include_ignore=False))
    for card in list(cards.values()):
        if card.judge is not None:
            card.judge(taken)


@callback
def async_forget_card(hass: HomeAssistant, flow_id: str) -> None:
    """Note that a flow is over."""
    hass.data.get(_CARDS, {}).pop(flow_id, None)


@callback
def async_has_card(hass: HomeAssistant, card: Card) -> bool:
    """Tell whether a discovered flow is about this machine, and may stand in the way of another one."""
    return any(
        _means(known, card.known_as) and (card.is_announced or not known.is_announced)
        for known in hass.data.get(_CARDS, {}).values()
    )


@callback
def async_is_shown(hass: HomeAssistant, name: str, flow_id: str) -> bool:
    """Tell whether another card is called by a name that looks like this one."""
    cards = hass.data.get(_CARDS, {}).items()
    return any(looks(name) & looks(card.name) for other, card in cards if other != flow_id)


@callback
def async_has_room(hass: HomeAssistant, card: Card) -> bool:
    """Tell whether one more machine may be offered: anybody in the network can announce as many as they like."""
    others = hass.data.get(_CARDS, {}).values()
    if sum(other.is_announced is card.is_announced for other in others) < CARDS_LIMIT:
        return True
    _async_say_full(hass)
    return False


@callback
def _async_say_full(hass: HomeAssistant) -> None:
    """Say once that there is no room."""
    if not hass.data.get(_IS_FULL):
        hass.data[_IS_FULL] = True
        _LOGGER.info("%d discovered machines wait to be added; others are left out until there is room", CARDS_LIMIT)


@callback
def async_dismiss_cards(hass: HomeAssistant, addresses: Collection[str], flow_id: str) -> None:
    """End the other flows that are about this machine."""
    for other, known in list(hass.data.get(_CARDS, {}).items()):
        if other != flow_id and _means(known, addresses):
            hass.config_entries.flow.async_abort(other)


@callback
def async_dismiss_waiting_cards(hass: HomeAssistant, target: Target, peer: tuple[str, int]) -> None:
    """End the cards of a machine that is watched; a dialog in which somebody is further goes on."""
    known, addresses = hass.data.get(_CARDS, {}), known_addresses(target, peer)
    # Of one that has just begun nothing is shown yet, and it has no step.
    flows = hass.config_entries.flow.async_progress_by_handler(DOMAIN, include_uninitialized=True)
    waiting = {each["flow_id"] for each in flows if each.get("step_id") in (None, "address")}
    for flow_id in [flow_id for flow_id, card in known.items() if flow_id in waiting and _means(card, addresses)]:
        hass.config_entries.flow.async_abort(flow_id)


def known_addresses(target: Target, peer: tuple[str, int]) -> set[str]:
    """Return the addresses of a machine as cards have them: the one that was given, and where it proved its key."""
    host, port = peer
    return {target.address, Target("", plain_host(host), port).address} if host else {target.address}


def _means(card: Card, addresses: Collection[str]) -> bool:
    """Tell whether a card is about the machine that is known by one of these."""
    return not set(card.known_as).isdisjoint(addresses)


# ---------------------------------------------------------------- flows for the others


@callback
def async_show_cards(hass: HomeAssistant, machines: Iterable[DiscoveredHost]) -> None:
    """Offer machines under *Discovered*, as far as there is room."""
    hass.async_create_background_task(
        _async_create_flows(hass, _offered(hass, machines)), f"{DOMAIN} discovered", eager_start=True
    )


def _offered(hass: HomeAssistant, machines: Iterable[DiscoveredHost]) -> list[DiscoveredHost]:
    """Return the machines for which there is room; those that wait there or are ignored need none."""
    offered = list[DiscoveredHost]()
    shown = [card for card in hass.data.get(_CARDS, {}).values() if not card.is_announced]
    known = {name for card in shown for name in card.known_as}
    known.update(entry.unique_id for entry in hass.config_entries.async_entries(DOMAIN) if entry.unique_id)
    left = CARDS_LIMIT - len(shown)
    for machine in machines:
        if not known.isdisjoint((machine.address, machine.unique_id)):
            continue
        if left <= 0:
            _async_say_full(hass)
            break
        left -= 1
        known.update((machine.address, machine.unique_id))
        offered.append(machine)
    return offered


async def _async_create_flows(hass: HomeAssistant, machines: Sequence[DiscoveredHost]) -> None:
    """Begin a flow for each, one after the other: each looks by itself whether its machine is new by then."""
    for number, machine in enumerate(machines):
        if number:
            await async_pause(CARD_SECONDS)
        discovery_flow.async_create_flow(hass, DOMAIN, {"source": SOURCE_INTEGRATION_DISCOVERY}, machine)


async def async_pause(seconds: float) -> None:
    """Let a browser take in what has begun."""
    await asyncio.sleep(seconds)


async def async_enqueue(hass: HomeAssistant, queue: str, machines: Iterable[DiscoveredHost]) -> None:
    """Start a flow for each picked machine, to be continued one after the other."""
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
    """Return which host of a queue was added last, "" for none, and how many follow after this flow."""
    is_left = {flow["flow_id"] for flow in hass.config_entries.flow.async_progress_by_handler(DOMAIN)} - {flow_id}
    left = sum(each in is_left for each in hass.data.get(_QUEUES, {}).get(queue, []))
    return hass.data.get(_ADDED_LAST, {}).get(queue, ""), left


@callback
def async_next_flow(hass: HomeAssistant, queue: str, added: str = "") -> str | None:
    """Return the next flow of a queue; those that were dismissed meanwhile are skipped.

    `added`: the host that came out of the one before, "" where none did.
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
