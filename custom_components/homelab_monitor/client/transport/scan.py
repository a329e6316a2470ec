"""Find machines with an SSH server nearby: ARP cache and TCP sweep of the local subnets → candidates.

Without a login: each address gets one TCP connection, from which the server's greeting is
read. Only private addresses are scanned, and no scan starts by itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
import errno
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from pathlib import Path
import re
import socket
from typing import Literal, TypedDict

from ..errors import first_line, lines_of
from ..time_limit import TimeLimit
from .names import name_of

SSH_PORT = 22
CONNECT_LIMIT = 128
"""Connections at once. Linux keeps 1,024 neighbours (gc_thresh3), and other traffic needs some of them."""
CONNECT_SECONDS = 0.5
BANNER_SECONDS = 2.0
"""A router's dropbear is slow to send its greeting; what takes longer is no SSH server."""
LOOKUP_SECONDS = 2.0
WHOLE_SUBNET_LIMIT = 512
"""Of subnets with more addresses, only the /24 around our own address is swept."""
SCAN_LIMIT = 4096
"""Most addresses of one scan: at 128 at once, most of a minute if none answers."""
_NEIGHBOURS_SUGGESTED = 64

ARP_PATH = Path("/proc/net/arp")
ARP_STATISTICS_PATH = Path("/proc/net/stat/arp_cache")

_BANNER_BYTES = 1024
_LEAST_CONNECTS = 8
_TRIES = 3
_PAUSE_SECONDS = 1.0
_LOOKUPS_AT_ONCE = 8
_POINT_TO_POINT = 31
"""From this prefix length on, a network has neither a network address nor a broadcast address (RFC 3021)."""
_COMPLETE = 0x2
"""ATF_COM of if_arp.h: the neighbour has answered."""
_CONTAINER_BRIDGE = re.compile(
    r"docker\d|docker_gwbridge|hassio$|br-[0-9a-f]{12}$|veth|virbr|vnet\d|cni|podman\d|lxcbr|lxdbr|incusbr|flannel|cali|tap\d|fwbr|fwpr|fwln"
)
"""Networks of containers and virtual machines on this system; `br-lan` and `br0` are real ones."""
_FULL = {errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.EAGAIN}
"""This system has no room for another connection; nothing was sent to the other side."""

type Platform = Literal["linux", "windows", "openwrt"]

_PLATFORMS: tuple[tuple[str, Platform | None], ...] = (
    (r"OpenSSH_for_Windows|Windows", "windows"),
    (r"dropbear", "openwrt"),
    (r"FreeBSD|NetBSD|OpenBSD|NetScreen|Cisco|ROSSSH", None),
    (r"OpenSSH", "linux"),
)
"""Patterns in the greeting, the first match wins; routers with OpenWrt run dropbear."""


class AdapterAddress(TypedDict):
    """One address of a network adapter, as Home Assistant has it."""

    address: str
    network_prefix: int


class Adapter(TypedDict):
    """The fields of Home Assistant's network adapters that a scan uses."""

    name: str
    enabled: bool
    ipv4: list[AdapterAddress]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A machine that answers on the SSH port; `source` is arp if it was known before the sweep."""

    address: str
    hostname: str | None = None
    banner: str = ""
    platform_hint: Platform | None = None
    mac: str | None = None
    source: Literal["arp", "scan"] = "scan"


# ---------------------------------------------------------------- what to scan


def networks_to_scan(adapters: Iterable[Adapter]) -> list[IPv4Network]:
    """Return the networks to sweep in the private subnets of the enabled adapters, without duplicates."""
    return list(dict.fromkeys(map(_swept, _own_addresses(adapters))))


def _own_subnets(adapters: Iterable[Adapter]) -> list[IPv4Network]:
    """Return the whole private subnets of the enabled adapters, without duplicates."""
    return list(dict.fromkeys(each.network for each in _own_addresses(adapters)))


def _own_addresses(adapters: Iterable[Adapter]) -> list[IPv4Interface]:
    """Return our own private addresses in networks that can have other machines."""
    return [
        address
        for adapter in adapters
        if adapter["enabled"] and not is_container_bridge(adapter["name"])
        for each in adapter["ipv4"]
        if (address := _own_address(each))
    ]


class NetworksError(ValueError):
    """Networks that were typed are not scanned; `key` says why, `placeholders` are plain text."""

    def __init__(self, key: str, **placeholders: str) -> None:
        """Keep the translation key and its placeholders."""
        super().__init__(key)
        self.key = key
        self.placeholders = placeholders


def suggested_networks(adapters: Sequence[Adapter]) -> list[IPv4Network]:
    """Return the default networks to scan: subnets, and known neighbours in the unswept rest of them; blocking.

    Of a large subnet only a part is swept, but machines in the neighbour table are known to exist. At most what one
    scan allows, and no other neighbours: a single packet puts any address into that table (ARP proves nothing).
    """
    networks, asked = list[IPv4Network](), 0
    for network in networks_to_scan(adapters):
        asked += count_addresses([network])
        if asked <= SCAN_LIMIT - _NEIGHBOURS_SUGGESTED:
            networks.append(network)
    whole = _own_subnets(adapters)
    neighbours = map(IPv4Address, _read_neighbours(interfaces_to_scan(adapters)))
    others = sorted(
        each
        for each in neighbours
        if any(each in subnet for subnet in whole) and not any(each in network for network in networks)
    )
    return [*networks, *map(IPv4Network, others[:_NEIGHBOURS_SUGGESTED])]


def parse_networks(text: str) -> list[IPv4Network]:
    """Return the networks that were typed, none within another one; raise NetworksError.

    Only private networks are scanned, and at most SCAN_LIMIT addresses.
    """
    networks = [_typed_network(word) for word in re.split(r"[\s,;]+", text) if word]
    if not networks:
        raise NetworksError("no_networks")
    known = set(networks)
    networks = [
        each
        for each in dict.fromkeys(networks)
        if not any(each.supernet(new_prefix=prefix) in known for prefix in range(each.prefixlen))
    ]
    if (count := count_addresses(networks)) > SCAN_LIMIT:
        raise NetworksError("too_many_addresses", count=f"{count:,}", limit=f"{SCAN_LIMIT:,}")
    return networks


def _typed_network(word: str) -> IPv4Network:
    """Parse one network that was typed; raise NetworksError."""
    try:
        network = IPv4Network(word, strict=False)
    except ValueError as err:
        raise NetworksError("invalid_network", network=first_line(word)) from err
    # Both ends: a network that is larger than a private one contains public addresses.
    ends = (network.network_address, network.broadcast_address)
    if not all(map(may_be_scanned, ends)):
        raise NetworksError("public_network", network=str(network))
    return network


def may_be_scanned(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address can be that of one machine in a network that is not on the internet."""
    return not (address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified)


def count_addresses(networks: Iterable[IPv4Network]) -> int:
    """Return how many addresses a scan of these networks has, without network and broadcast addresses."""
    return sum(each.num_addresses - (2 if each.prefixlen < _POINT_TO_POINT else 0) for each in networks)


def interfaces_to_scan(adapters: Iterable[Adapter]) -> set[str]:
    """Return the names of the adapters whose neighbours may be scanned."""
    return {adapter["name"] for adapter in adapters if adapter["enabled"] and not is_container_bridge(adapter["name"])}


def is_container_bridge(name: str) -> bool:
    """Return whether an interface only leads to containers or virtual machines on this system."""
    return _CONTAINER_BRIDGE.match(name) is not None


def _own_address(address: AdapterAddress) -> IPv4Interface | None:
    """Return one of our addresses with its subnet, None if sweeping that makes no sense."""
    try:
        interface = IPv4Interface(f"{address['address']}/{address['network_prefix']}")
    except ValueError:
        return None
    is_alone = interface.is_loopback or interface.is_link_local or interface.network.num_addresses == 1
    return interface if may_be_scanned(interface.ip) and not is_alone else None


def _swept(interface: IPv4Interface) -> IPv4Network:
    """Return the subnet to sweep around one of our addresses."""
    network = interface.network
    if network.num_addresses <= WHOLE_SUBNET_LIMIT:
        return network
    return IPv4Network((interface.ip, 24), strict=False)


# ---------------------------------------------------------------- the neighbour table


def read_arp(text: str, interfaces: Collection[str] | None = None) -> dict[str, str]:
    """Return address → MAC of the neighbours that answered, from /proc/net/arp (proc_net(5)).

    IP address       HW type     Flags       HW address            Mask     Device
    192.168.1.1      0x1         0x2         52:54:00:12:35:02     *        eth0
    """
    neighbours = {}
    for line in lines_of(text)[1:]:
        match line.split():
            case [address, "0x1", flags, mac, _, device] if _is_neighbour(address, flags, mac):
                if not is_container_bridge(device) and (interfaces is None or device in interfaces):
                    neighbours[address] = mac.lower()
    return neighbours


def _is_neighbour(address: str, flags: str, mac: str) -> bool:
    """Return whether a row is a machine in a private network that has answered."""
    try:
        has_answered = int(flags, 16) & _COMPLETE and mac != "00:00:00:00:00:00"
        return bool(has_answered) and may_be_scanned(IPv4Address(address))
    except ValueError, AddressValueError:
        return False


def read_table_fulls(text: str) -> int:
    """Return how often the neighbour table was full, summed over the CPUs, from /proc/net/stat/arp_cache.

    entries  allocs … table_fulls
    00000003 00000002 … 00000000
    """
    header, *rows = [line.split() for line in lines_of(text) if line.strip()] or [[]]
    if "table_fulls" not in header:
        return 0
    column = header.index("table_fulls")
    with suppress(ValueError, IndexError):
        return sum(int(row[column], 16) for row in rows)
    return 0


# ---------------------------------------------------------------- the greeting


def platform_of(banner: str) -> Platform | None:
    """Return the platform that a greeting shows, None if it shows none."""
    return next((platform for pattern, platform in _PLATFORMS if re.search(pattern, banner)), None)


async def read_banner(reader: asyncio.StreamReader) -> str | None:
    """Return the SSH greeting, "" if the server stays silent, None if it speaks another protocol.

    A server may send other lines before the one that begins with SSH- (RFC 4253 section 4.2).
    """
    received = b""
    with suppress(TimeoutError, OSError):
        async with TimeLimit(BANNER_SECONDS):
            while len(received) < _BANNER_BYTES and not re.search(rb"^SSH-[^\n]*\n", received, re.MULTILINE):
                if not (chunk := await reader.read(_BANNER_BYTES)):
                    break
                received += chunk
    if match := re.search(rb"^SSH-[^\r\n]*", received, re.MULTILINE):
        return first_line(match[0].decode("ascii", errors="replace"))
    return None if received else ""


# ---------------------------------------------------------------- the sweep


async def scan(  # noqa: PLR0913
    networks: Sequence[IPv4Network],
    *,
    names: Mapping[str, str] | None = None,
    interfaces: Collection[str] | None = None,
    progress: Callable[[float], None] | None = None,
    connect_limit: int = CONNECT_LIMIT,
    timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109
    port: int = SSH_PORT,
) -> list[Candidate]:
    """Return the machines that answer with SSH, in order of their addresses.

    No address outside of `networks` is contacted. `names` are known names by address, `interfaces` those whose
    neighbours are scanned first (None: all), `progress` is called with the share that is done (0 to 1). This system
    is found as well: it can be monitored like any other.
    """
    before = await asyncio.to_thread(_read_neighbours, interfaces)
    sweep = _Sweep(port, timeout, connect_limit, progress or _ignore)
    found = await sweep.run(_addresses(networks, before))
    after = before | await asyncio.to_thread(_read_neighbours, interfaces)
    # A machine with a MAC that did not answer in time may only be slow: a sleeping Wi-Fi, a busy router.
    slow = _Sweep(port, 3 * timeout, connect_limit, _ignore)
    found |= await slow.run(sorted(sweep.silent & after.keys()))
    all_names = await _reverse_names(found.keys() - (names or {}).keys()) | dict(names or {})
    (progress or _ignore)(1.0)
    return [
        replace(
            found[address],
            hostname=name_of(all_names.get(address)) or None,
            mac=after.get(address),
            source="arp" if address in before else "scan",
        )
        for address in sorted(found, key=IPv4Address)
    ]


@dataclass(slots=True)
class _Sweep:
    """One round of connections, slower while this system or its neighbour table is full."""

    port: int
    seconds: float
    limit: int
    progress: Callable[[float], None]
    silent: set[str] = field(default_factory=set)
    found: dict[str, Candidate] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)
    _total: int = 0
    _done: int = 0
    _fulls: int = 0

    async def run(self, addresses: Sequence[str]) -> dict[str, Candidate]:
        """Contact every address; return those that answer with SSH."""
        self._waiting.extend(addresses)
        self._total = len(addresses)
        self._fulls = _table_fulls()
        async with asyncio.TaskGroup() as group:
            for number in range(min(self.limit, len(addresses))):
                group.create_task(self._work(number))
        return self.found

    async def _work(self, number: int) -> None:
        """Contact one address after another; the workers with the highest numbers stop first when it must be slower."""
        while self._waiting and number < self.limit:
            address = self._waiting.popleft()
            for _ in range(_TRIES):
                if await self._ask(address):
                    break
                self.limit = max(_LEAST_CONNECTS, self.limit // 2)
                await asyncio.sleep(_PAUSE_SECONDS)
            self._done += 1
            self.progress(self._done / self._total)

    async def _ask(self, address: str) -> bool:
        """Connect and read the greeting; return False if this system could not even try."""
        try:
            async with TimeLimit(self.seconds):
                reader, writer = await asyncio.open_connection(address, self.port)
        except TimeoutError:
            self.silent.add(address)
            return not self._is_table_full()
        except OSError as err:
            return err.errno not in _FULL
        try:
            banner = await read_banner(reader)
        finally:
            writer.transport.abort()
        if banner is not None:
            self.found[address] = Candidate(address=address, banner=banner, platform_hint=platform_of(banner))
        return True

    def _is_table_full(self) -> bool:
        """Return whether neighbours were refused since the last call.

        TCP hides that: connect(2) keeps trying, so an address that was never contacted looks silent.
        """
        fulls, self._fulls = self._fulls, _table_fulls()
        return self._fulls > fulls


def _ignore(_share: float) -> None:
    """Ignore the progress."""


def _addresses(networks: Iterable[IPv4Network], neighbours: Iterable[str]) -> list[str]:
    """Return the addresses of the networks without duplicates; known neighbours first, as they are most likely."""
    swept = [str(address) for network in networks for address in network.hosts()]
    inside = set(swept)
    return list(dict.fromkeys([*(each for each in neighbours if each in inside), *swept]))


def _read_neighbours(interfaces: Collection[str] | None) -> dict[str, str]:
    """Read the neighbour table; {} on systems without that file. Blocking."""
    try:
        return read_arp(ARP_PATH.read_text(), interfaces)
    except OSError:
        return {}


def _table_fulls() -> int:
    """Return the kernel's counter, 0 if it is not available (containers). A read of procfs does not block."""
    try:
        return read_table_fulls(ARP_STATISTICS_PATH.read_text())
    except OSError:
        return 0


# ---------------------------------------------------------------- names


async def _reverse_names(addresses: Collection[str]) -> dict[str, str]:
    """Return address → name by reverse DNS, for the answers that arrive within LOOKUP_SECONDS."""
    if not addresses:
        return {}
    # Separate threads: a dead resolver blocks each of them for seconds after we stopped waiting.
    pool = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="reverse_name")
    loop = asyncio.get_running_loop()
    lookups: list[Awaitable[tuple[str, str]]] = [loop.run_in_executor(pool, _reverse_name, each) for each in addresses]
    names: dict[str, str] = {}
    try:
        async with TimeLimit(LOOKUP_SECONDS):
            for lookup in asyncio.as_completed(lookups):
                address, name = await lookup
                names[address] = name
    except TimeoutError:
        return names
    finally:
        # Idle threads end at once; those that still wait are left to the resolver's own time limit.
        pool.shutdown(wait=len(names) == len(addresses), cancel_futures=True)
    return names


def _reverse_name(address: str) -> tuple[str, str]:
    """Return the address and its name, "" without one; blocking."""
    try:
        return address, socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError, UnicodeError:
        return address, ""
