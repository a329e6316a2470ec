"""Network of the host: its interfaces and their addresses, and listening sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One IP address of an interface; `scope` is global, site, link or host (ip-address(8))."""

    address: str
    prefix_length: int
    scope: str
    temporary: bool = False
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One network interface; addresses are None if the host cannot report them."""

    type: str | None = None
    mac: str | None = None
    permanent_mac: str | None = None
    state: str | None = None
    mtu: int | None = None
    speed_bits_per_second: int | None = None
    ipv4: tuple[Address, ...] | None = None
    ipv6: tuple[Address, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interfaces:
    """The relevant interfaces, by name, and the gateways and name servers."""

    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    primary: str | None = None
    primary_address: str | None = None
    gateway_ipv4: str | None = None
    gateway_ipv6: str | None = None
    dns_servers: tuple[str, ...] | None = None
    search_domains: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One listening socket; its owner if the host's user may see it."""

    protocol: str
    address: str
    port: int
    exposure: str
    families: tuple[str, ...] = ()
    interface: str | None = None
    process: str | None = None
    pid: int | None = None
    unit: Line | None = None
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Listening sockets; `complete`: whether all are reported, and whether all their processes are known."""

    sockets: tuple[Socket, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)
