"""IP addresses as people and networks write them: which is one, in one spelling, and which may be a machine nearby."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from .names import is_address
from .scan import may_be_scanned


def plain_host(host: str) -> str:
    """Return an address in the one way to write it, of an IPv4 address in IPv6 that itself; a name as it is.

    ::ffff:192.0.2.7  →  192.0.2.7
    """
    return str(_unmapped(ip_address(host))) if is_address(host) else host


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for (RFC 4291, 2.5.5.2), else the address as it is."""
    return getattr(address, "ipv4_mapped", None) or address


def leads_here(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is this machine's own, whoever says it."""
    return address.is_loopback


def is_neighbour(ip: str) -> bool:
    """Tell whether an address that somebody in this network announced can be that of one machine in it."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    address = _unmapped(address)
    return may_be_scanned(address) and not leads_here(address)
