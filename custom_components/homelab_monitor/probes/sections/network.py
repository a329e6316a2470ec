"""The section network: the counters of the relevant interfaces, and the choice of these."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host, Json, Remembered, RememberedEach, Request, lines_of

INTERFACE_FIELDS = ("bytes", "packets", "errors", "drops")
# Interfaces of container engines, hypervisors and the kernel itself; only the name distinguishes them from a user's.
FOREIGN_INTERFACE = re.compile(
    r"veth|tap\d|tap$|vnet\d|docker|br-[0-9a-f]{12}$|virbr|cni|podman|cali|flannel|cilium|lxc|lxd|incusbr|kube|nodelocaldns"
    r"|weave|vxlan\.calico|fwbr|fwpr|fwln|ovs-system|hassio|dummy|ifb|sit0$|tunl0$|gre0$|gretap0$|erspan0$|ip_vti0$|ip6_vti0$"
    r"|ip6tnl0$|ip6gre0$|teql0$|lo$"
)
DEVTYPES = {"bridge": "bridge", "bond": "bond", "vlan": "vlan", "wlan": "wireless", "wwan": "wwan", "wireguard": "vpn"}


def parse_net_dev(text: str) -> "Iterator[tuple[str, str]]":
    """Yield each interface's name and its counters as text: most are never parsed.

    Inter-|   Receive                            |  Transmit
     face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
      eth0: 1923226034  106594    0    0    0     0     0     0  6321903   47788    0    0    0     0     0     0
    """
    for line in lines_of(text)[2:]:
        name, _, counters = line.rpartition(":")
        yield name.strip(), counters


def interface_counters(counters: str) -> "dict[str, int]":
    """Return one interface's counters by name."""
    numbers = [int(word) for word in counters.split()]
    section = {"receive_" + name: numbers[i] for i, name in enumerate(INTERFACE_FIELDS)}
    section.update(("transmit_" + name, numbers[8 + i]) for i, name in enumerate(INTERFACE_FIELDS))
    return section


def parse_route(text: str) -> "Iterator[tuple[int, str, str]]":
    """Yield metric, interface and gateway of each IPv4 default route that is up (/proc/net/route); the gateway as written.

    Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
    eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
    """
    for line in lines_of(text):
        words = line.split()
        if len(words) >= 8 and words[1] == words[7] == "00000000" and usable_route(words[3]):
            yield int(words[6]), words[0], words[2]


def parse_route6(text: str) -> "Iterator[tuple[int, str, str]]":
    """Yield metric, interface and gateway of each IPv6 default route that is up (/proc/net/ipv6_route).

    Destination, source, next hop (each 32 digits and a prefix), metric, references, uses, flags, interface:
    000…000 00 000…000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
    """
    for line in lines_of(text):
        if line.startswith("00000000000000000000000000000000 00 "):
            words = line.split()
            if len(words) == 10 and usable_route(words[8]):
                yield int(words[5], 16), words[9], words[4]


def usable_route(flags: str) -> bool:
    """Return whether a route is up (0x1) and does not reject (0x200)."""
    return int(flags, 16) & 0x201 == 0x1


def default_routes(host: "Host") -> "dict[int, tuple[str, str]]":
    """Return interface and gateway of the default route with the lowest metric, by IP version, 4 before 6."""
    found = {}
    for version, path, parse in ((4, "/proc/net/route", parse_route), (6, "/proc/net/ipv6_route", parse_route6)):
        routes = sorted(parse(host.text(path)))
        if routes:
            found[version] = routes[0][1:]
    return found


def primary_interface(routes: "dict[int, tuple[str, str]]") -> str:
    """Return the interface of the default route, IPv4 before IPv6, "" without one."""
    return next((interface for interface, _ in routes.values()), "")


def interface_type(host: "Host", name: str) -> str:
    """Return an interface's type, "" if it is not the user's own (a container's, a VM's, the kernel's).

    A container's own eth0 is one end of a veth pair, like the ends on a host of its containers' pairs;
    `types_of` distinguishes them.
    """
    folder = "/sys/class/net/" + name + "/"
    if host.exists(folder + "device"):
        is_wireless = host.exists(folder + "phy80211") or host.exists(folder + "wireless")
        return "wireless" if is_wireless else "physical"
    if FOREIGN_INTERFACE.match(name):
        return ""
    devtype = re.search(r"^DEVTYPE=(\S+)", host.text(folder + "uevent"), re.MULTILINE)
    if devtype:
        return "" if devtype.group(1) == "macvtap" else DEVTYPES.get(devtype.group(1), devtype.group(1))
    if host.exists(folder + "master") or host.exists(folder + "macvtap"):
        return ""
    if host.exists(folder + "tun_flags"):
        return "vpn"
    if host.text(folder + "iflink") == host.text(folder + "ifindex"):
        return "virtual"
    # Below a macvlan or ipvlan is an interface of this system (ABI/testing/sysfs-class-net), below a veth its other end.
    return "macvlan" if any(name.startswith("lower_") for name in host.names(folder)) else "veth"


def known_interfaces(host: "Host", names: "tuple[str, ...]", memo: "Json") -> "dict[str, str]":
    """Return the type by name of the relevant interfaces; updated when names change, and every 10 minutes.

    Also at once if the number of one has changed (netdevice(7), SIOCGIFINDEX): two may have swapped names, or a new
    interface may have the name of a removed one.
    """
    types = types_of(host, names, memo)
    numbers = {name: host.number("/sys/class/net/" + name + "/ifindex") for name in types}
    before = memo.get("numbers", numbers)
    if any(before.get(name, number) != number for name, number in numbers.items()):
        memo["types"].until = 0.0
        types = types_of(host, names, memo)
    memo["numbers"] = {name: numbers.get(name) for name in types}
    return types


def types_of(host: "Host", names: "tuple[str, ...]", memo: "Json") -> "dict[str, str]":
    """Return the type by name of the relevant interfaces, from the cache where valid."""
    each = memo.setdefault("types", RememberedEach()).each(host.boottime(), names, lambda name: interface_type(host, name))
    # With a real card, a veth is the other end of a container's; without one, it is this container's own.
    is_host = any(kind in ("physical", "wireless") for kind in each.values())
    types = {name: kind for name, kind in each.items() if kind and not (is_host and kind == "veth")}
    primary = known_primary(host, names, memo)
    if primary in names:
        types.setdefault(primary, "virtual")
    return types


def known_primary(host: "Host", names: "tuple[str, ...]", memo: "Json") -> str:
    """Return the interface of the default route, read when interfaces come or go, and every 30 seconds."""
    primary = memo.setdefault("primary", Remembered(30.0))
    return primary.get(host.boottime(), names, lambda: primary_interface(default_routes(host)))  # type: ignore[no-any-return]


def collect_network(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the counters of the relevant interfaces in /proc/net/dev."""
    at = host.boottime()
    lines = dict(parse_net_dev(host.read("/proc/net/dev")))
    names = tuple(lines)
    types, primary = known_interfaces(host, names, memo), known_primary(host, names, memo)
    section = {"at": round(at, 3)}  # type: Json
    if primary:
        section["primary"] = primary
    section["interfaces"] = {name: interface_counters(lines[name]) for name in types}
    for name, number in memo["numbers"].items():
        if number:
            section["interfaces"][name]["number"] = number
    return section
