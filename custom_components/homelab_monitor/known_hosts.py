"""Find the monitored host for an address or a name, and the names that look like those of monitored hosts."""

from collections.abc import Collection, Iterable

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import callback

from .client.transport.ip_addresses import plain_host
from .client.transport.names import is_address, looks
from .client.transport.ssh import peer_of
from .settings import HostAddress


@callback
def async_peer(entry: ConfigEntry) -> tuple[str, int]:
    """Return address and port where the host of an entry has proven its key on an open connection; ("", 0) for none.

    Names are never resolved for this: anybody in the network can answer such a query, with any number of addresses.
    The name that a machine sends in a DHCP request or has in reverse DNS proves nothing either: any machine can use
    the name of another one, and two new machines often share theirs.
    """
    coordinator = getattr(entry, "runtime_data", None) if entry.state is ConfigEntryState.LOADED else None
    if coordinator is None or not coordinator.data.is_online:
        return "", 0
    return peer_of(coordinator.session.connection)


@callback
def async_monitored(entries: Iterable[ConfigEntry]) -> dict[str, ConfigEntry]:
    """Return address → entry of the machine there, as far as that is certain; computed once for all machines.

    The address of an open connection takes precedence over an address in an entry.
    """
    known = list(entries)
    at_home = {
        name: entry for entry in reversed(known) for name in _names(HostAddress.from_data(entry.data).target.host)
    }
    return at_home | {peer: entry for entry in reversed(known) if (peer := plain_host(async_peer(entry)[0]))}


def entry_at(entries: Iterable[ConfigEntry], hosts: Collection[str]) -> ConfigEntry | None:
    """Return the entry with one of these addresses or names, None if there is none."""
    wanted = {name for host in hosts for name in _names(host)}
    return next((entry for entry in entries if wanted & _names(HostAddress.from_data(entry.data).target.host)), None)


def entry_connected_to(entries: Iterable[ConfigEntry], hosts: Collection[str], port: int) -> ConfigEntry | None:
    """Return the entry whose host is connected at one of these addresses, None if there is none."""
    wanted = {(plain_host(host), port) for host in hosts}
    peers = ((entry, async_peer(entry)) for entry in entries)
    return next((entry for entry, (host, there) in peers if (plain_host(host), there) in wanted), None)


def looks_of(entries: Iterable[ConfigEntry]) -> frozenset[str]:
    """Return what the names of the monitored hosts look like: of their titles and their addresses."""
    addresses = ((entry.title, HostAddress.from_data(entry.data)) for entry in entries)
    names = {name for title, each in addresses for name in (title, each.target.host, each.home)}
    return frozenset(look for name in names if not is_address(name) for look in looks(name))


def is_taken(name: str, taken: frozenset[str]) -> bool:
    """Return whether an unproven name looks like one of the taken ones."""
    return not (is_address(name) or taken.isdisjoint(looks(name)))


def _names(host: str) -> set[str]:
    """Return an address, or a name with and without its domain (`nas.local` and `nas.lan` are one machine)."""
    if is_address(host):
        return {plain_host(host)}
    return {host.lower(), host.lower().partition(".")[0]}
