"""Which of the watched hosts an address or a name means, and which names look like theirs."""

from collections.abc import Collection, Iterable

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import callback

from .client.transport.ip_addresses import plain_host
from .client.transport.names import is_address, looks
from .client.transport.ssh import peer_of
from .settings import HostAddress


@callback
def async_peer(entry: ConfigEntry) -> tuple[str, int]:
    """Return address and port where the host of an entry has proven its key on a living connection; ("", 0) for none.

    A name is looked up for nobody: an answer of the network says where a name leads, anybody can give one, and it may
    hold as many addresses as they like. What a machine calls itself, in a request for an address or in reverse DNS, is
    no sign either: anybody can take the name of another one, and two new machines often share theirs.
    """
    coordinator = getattr(entry, "runtime_data", None) if entry.state is ConfigEntryState.LOADED else None
    if coordinator is None or not coordinator.data.is_online:
        return "", 0
    return peer_of(coordinator.session.connection)


@callback
def async_watched(entries: Iterable[ConfigEntry]) -> dict[str, ConfigEntry]:
    """Return address → entry of the machine there, as far as that is certain: one look at each entry for all machines.

    Where one is connected to now goes before where another one is said to be.
    """
    known = list(entries)
    at_home = {
        name: entry for entry in reversed(known) for name in _names(HostAddress.from_data(entry.data).target.host)
    }
    return at_home | {peer: entry for entry in reversed(known) if (peer := plain_host(async_peer(entry)[0]))}


def entry_at(entries: Iterable[ConfigEntry], hosts: Collection[str]) -> ConfigEntry | None:
    """Return the entry of the machine at one of these addresses or names."""
    wanted = {name for host in hosts for name in _names(host)}
    return next((entry for entry in entries if wanted & _names(HostAddress.from_data(entry.data).target.host)), None)


def entry_connected_to(entries: Iterable[ConfigEntry], hosts: Collection[str], port: int) -> ConfigEntry | None:
    """Return the entry of the machine that we are connected to at one of these addresses, whatever its name is."""
    wanted = {(plain_host(host), port) for host in hosts}
    peers = ((entry, async_peer(entry)) for entry in entries)
    return next((entry for entry, (host, there) in peers if (plain_host(host), there) in wanted), None)


def looks_of(entries: Iterable[ConfigEntry]) -> frozenset[str]:
    """Return what the names of the hosts that are watched look like: their titles, and those that lead to them."""
    addresses = ((entry.title, HostAddress.from_data(entry.data)) for entry in entries)
    names = {name for title, each in addresses for name in (title, each.target.host, each.home)}
    return frozenset(look for name in names if not is_address(name) for look in looks(name))


def is_taken(name: str, taken: frozenset[str]) -> bool:
    """Tell whether a name that a machine is said to have looks like one of those."""
    return not (is_address(name) or taken.isdisjoint(looks(name)))


def _names(host: str) -> set[str]:
    """Return an address, or a name with and without its domain (`nas.local` and `nas.lan` are one machine)."""
    if is_address(host):
        return {plain_host(host)}
    return {host.lower(), host.lower().partition(".")[0]}
