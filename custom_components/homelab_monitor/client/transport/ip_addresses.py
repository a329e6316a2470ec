"""IP addresses as people and networks write them: normalised, and whether one may be a machine nearby."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from .names import is_address
from .scan import may_be_scanned


def plain_host(host: str) -> str:
    """Return an address in its standard form, IPv4-mapped addresses as IPv4; a name as it is.

    ::ffff:192.0.2.7  →  192.0.2.7
    """
    return str(_unmapped(ip_address(host))) if is_address(host) else host


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), else the address as it is."""
    return getattr(address, "ipv4_mapped", None) or address


def leads_here(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is always this system's own."""
    return address.is_loopback


def is_neighbour(ip: str) -> bool:
    """Return whether an announced address can be that of one machine in this network."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    address = _unmapped(address)
    return may_be_scanned(address) and not leads_here(address)
