"""The section interfaces: what the network interfaces are, their addresses, the gateway and the name servers."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request, TooLong, lines_of, shaped_address
    from .hardware import interface_hardware
    from .network import default_routes, known_interfaces, parse_net_dev, primary_interface

IP_ADDR = ["ip", "-j", "addr"]
# Where a link is made of software its speed is a number that somebody once wrote into the kernel's source.
WITHOUT_SPEED = ("veth", "virtual", "vpn")
# systemd-resolved(8): the addresses it listens at, and where it writes the servers that it asks.
STUB_SERVERS = ("127.0.0.53", "127.0.0.54")
STUB_UPSTREAMS = "/run/systemd/resolve/resolv.conf"


def list_addresses(host: "Host") -> "list[Json] | None":
    """Return the IP addresses of all interfaces, None where neither kernel nor ip(8) tells them."""
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
    import json  # noqa: PLC0415 - the probe says itself what it means that there is none

    found = []
    for link in json.loads(text):
        for told in link.get("addr_info", ()):
            if told.get("local"):
                marks = {name: told.get(name) for name in ("temporary", "deprecated")}
                found.append(shaped_address(link["ifname"], told["local"], told, **marks))
    return found


def parse_resolv_conf(text: str) -> "tuple[list[str], list[str]]":
    """Return name servers and search domains (resolv.conf(5)); of `domain` and `search` the last one counts.

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
    """Return name servers and search domains; where systemd-resolved is in between, the servers that it asks."""
    try:
        servers, domains = parse_resolv_conf(host.read("/etc/resolv.conf"))
    except OSError:
        return {}
    if servers and all(server in STUB_SERVERS for server in servers) and host.exists(STUB_UPSTREAMS):
        servers, domains = parse_resolv_conf(host.text(STUB_UPSTREAMS))
    return {"dns_servers": servers, "search_domains": domains}


def gateway(version: int, word: str) -> str:
    """Return the gateway of a default route, "" for one that leads to the link itself.

    010200C0  →  192.0.2.1 (a number in the machine's own byte order); for IPv6 the digits of the address in their order
    """
    if not int(word, 16):
        return ""
    import socket  # noqa: PLC0415

    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word))
    return socket.inet_ntop(socket.AF_INET, int(word, 16).to_bytes(4, sys.byteorder))


def primary_address(addresses: "list[Json]", routes: "dict[int, tuple[str, str]]", source: str) -> str:
    """Return the address that the machine is reached at: of the primary interface, in the gateway's network, lasting.

    Of those for IPv4 the one that the route names as its `source` comes first.
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


def is_in_network(other: str, one: "Json") -> bool:
    """Return whether an address is in the network of one of ours."""
    import socket  # noqa: PLC0415

    if not other:
        return False
    family = socket.AF_INET6 if one["version"] == 6 else socket.AF_INET
    theirs, ours = (int.from_bytes(socket.inet_pton(family, text), "big") for text in (other, one["address"]))
    shift = (128 if one["version"] == 6 else 32) - one["prefix_length"]
    return bool(theirs >> shift == ours >> shift)


def interface_row(host: "Host", name: str, kind: str, addresses: "list[Json] | None") -> "Json":
    """Return what an interface is and how it is; without addresses where nobody tells them."""
    folder = "/sys/class/net/" + name + "/"
    row = interface_hardware(host, name, kind)
    row.pop("driver", None)
    state, megabits = host.text(folder + "operstate"), host.number(folder + "speed")
    row.update(state=state or None, mtu=host.number(folder + "mtu"))
    # A driver that does not know says -1, older ones the same as an unsigned number.
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
    """Tell the interfaces that count, their addresses, and the way out."""
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
