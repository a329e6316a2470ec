"""The section interfaces: the network interfaces, their addresses, the gateways and the name servers."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request, TooLong, lines_of, shaped_address
    from .hardware import interface_hardware
    from .network import default_routes, known_interfaces, parse_net_dev, primary_interface

IP_ADDR = ["ip", "-j", "addr"]
# The speed of a virtual link is only a constant in the kernel's source.
WITHOUT_SPEED = ("veth", "virtual", "vpn")
# systemd-resolved(8): the addresses it listens on, and the file with its upstream servers.
STUB_SERVERS = ("127.0.0.53", "127.0.0.54")
STUB_UPSTREAMS = "/run/systemd/resolve/resolv.conf"


def list_addresses(host: "Host") -> "list[Json] | None":
    """Return the IP addresses of all interfaces, None if neither netlink nor ip(8) returns them."""
    try:
        return host.addresses()
    except OSError:
        try:
            status, output, _ = host.run(IP_ADDR, 3.0)
        except (OSError, TooLong):
            return None
    return parse_ip_addr(output) if status == 0 else None


def parse_ip_addr(text: str) -> "list[Json]":
    """Return the addresses in what `ip -j addr` prints.

    [{"ifname": "eth0", "mtu": 1500, "addr_info": [{"family": "inet", "local": "192.0.2.2", "prefixlen": 24,
      "scope": "global"}, {"family": "inet6", "local": "2001:db8::2", "prefixlen": 64, "scope": "global",
      "temporary": true}]}]
    """
    import json  # noqa: PLC0415 - host.py reports that it is missing

    found = []
    for link in json.loads(text):
        for address in link.get("addr_info", ()):
            if address.get("local"):
                marks = {name: address.get(name) for name in ("temporary", "deprecated")}
                found.append(shaped_address(link["ifname"], address["local"], address, **marks))
    return found


def parse_resolv_conf(text: str) -> "tuple[list[str], list[str]]":
    """Return name servers and search domains (resolv.conf(5)); the last `domain` or `search` counts.

    nameserver 192.0.2.1
    nameserver fe80::1%eth0
    search home.arpa example.net
    """
    servers, domains = [], []  # type: tuple[list[str], list[str]]
    for line in lines_of(text):
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            servers.append(words[1])
        elif len(words) > 1 and words[0] in ("domain", "search"):
            domains = [word for word in words[1:] if word != "."]
    return servers, domains


def name_servers(host: "Host") -> "Json":
    """Return name servers and search domains; with systemd-resolved in between, its upstream servers."""
    try:
        servers, domains = parse_resolv_conf(host.read("/etc/resolv.conf"))
    except OSError:
        return {}
    if servers and all(server in STUB_SERVERS for server in servers) and host.exists(STUB_UPSTREAMS):
        servers, domains = parse_resolv_conf(host.text(STUB_UPSTREAMS))
    return {"dns_servers": servers, "search_domains": domains}


def gateway(version: int, word: str) -> str:
    """Return the gateway of a default route, "" for a route to the link itself.

    010200C0  →  192.0.2.1 (a number in native byte order); for IPv6 the digits of the address in order
    """
    if not int(word, 16):
        return ""
    import socket  # noqa: PLC0415

    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word))
    return socket.inet_ntop(socket.AF_INET, int(word, 16).to_bytes(4, sys.byteorder))


def primary_address(addresses: "list[Json]", routes: "dict[int, tuple[str, str]]", source: str) -> str:
    """Return the host's main address: of the primary interface, preferably permanent and in the gateway's network.

    For IPv4, the `source` address of the route comes first.
    """
    for version, (interface, word) in routes.items():
        usable = [
            one
            for one in addresses
            if one["interface"] == interface and one["version"] == version and one["scope"] == "global"
        ]
        if any(one["address"] == source for one in usable):
            return source
        lasting = [one for one in usable if "temporary" not in one and "deprecated" not in one] or usable
        near = [one for one in lasting if is_in_network(gateway(version, word), one)]
        if lasting:
            return str((near or lasting)[0]["address"])
    return ""


def is_in_network(other: str, own: "Json") -> bool:
    """Return whether an address is in the network of one of our addresses."""
    import socket  # noqa: PLC0415

    if not other:
        return False
    family = socket.AF_INET6 if own["version"] == 6 else socket.AF_INET
    other_number, own_number = (int.from_bytes(socket.inet_pton(family, text), "big") for text in (other, own["address"]))
    shift = (128 if own["version"] == 6 else 32) - own["prefix_length"]
    return bool(other_number >> shift == own_number >> shift)


def interface_row(host: "Host", name: str, kind: str, addresses: "list[Json] | None") -> "Json":
    """Return an interface's row, without addresses if these are unknown."""
    folder = "/sys/class/net/" + name + "/"
    row = interface_hardware(host, name, kind)
    row.pop("driver", None)
    state, megabits = host.text(folder + "operstate"), host.number(folder + "speed")
    row.update(state=state or None, mtu=host.number(folder + "mtu"))
    # A driver that does not know the speed returns -1, older ones as an unsigned number.
    if megabits is not None and 0 < megabits < 1 << 31 and megabits != 65535 and kind not in WITHOUT_SPEED:
        row["speed_bits_per_second"] = megabits * 1000000
    for version in (4, 6) if addresses is not None else ():
        row[f"ipv{version}"] = [
            {key: value for key, value in one.items() if key not in ("interface", "version")}
            for one in addresses or ()
            if one["interface"] == name and one["version"] == version
        ]
    return {key: value for key, value in row.items() if value is not None}


def collect_interfaces(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Report the relevant interfaces, their addresses, gateways and name servers."""
    names = tuple(name for name, _ in parse_net_dev(host.read("/proc/net/dev")))
    addresses, routes = list_addresses(host), default_routes(host)
    section = {"primary": primary_interface(routes), "primary_address": primary_address(addresses or [], routes, host.source_address())}  # type: Json
    for version, (_, word) in routes.items():
        section[f"gateway_ipv{version}"] = gateway(version, word)
    section = {key: value for key, value in section.items() if value}
    section.update(name_servers(host))
    kinds = known_interfaces(host, names, memo)
    section["interfaces"] = {name: interface_row(host, name, kind, addresses) for name, kind in kinds.items()}
    return section
