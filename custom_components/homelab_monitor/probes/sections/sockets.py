"""The section sockets: who listens, which service or container that is, and who can reach it. Only told on demand."""

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator

    from ..host import Host, Json, Missing, Request
    from .holders import Holders, ask_ss, find_holders
    from .interfaces import list_addresses
    from .owners import FairShare, in_fair_order, owner_of_group
    from .processes import parse_accounts

SOCKETS_TOLD = 1000
OWNERS_SECONDS = 6.5  # of the section's time: what takes longer is told without its owner
LISTENERS_SECONDS = 1.5  # of one protocol
LISTENERS_READ = 3000  # of one protocol; with all that is told of them they stay within 10 MB
# State in the files of /proc/net that stands for listening: TCP_LISTEN; for UDP TCP_CLOSE, as nothing is connected.
LISTENING_STATES = {"tcp": "0A", "udp": "07"}


# ---------------------------------------------------------------- who listens


def list_listeners(host: "Host", protocol: str, accounts: "dict[str, str]") -> "FairShare":
    """Return the sockets that listen, from the kernel's own list, where that is closed from its files.

    Anybody may have hundreds of thousands: of too many those of each user in turn are kept, and no other is looked at.
    """
    share = FairShare(LISTENERS_READ, lambda uid: accounts.get(str(uid)), time.monotonic() + LISTENERS_SECONDS)
    try:
        share.fill(host.listeners(protocol, share.has_room))
    except OSError:
        state, folder = LISTENING_STATES[protocol], "/proc/net/"
        share = FairShare(LISTENERS_READ, share.whose, share.deadline)
        share.fill(parse_proc_net(host.lines(folder + protocol), state, share.has_room))
        if host.exists(folder + protocol + "6"):
            share.fill(parse_proc_net(host.lines(folder + protocol + "6"), state, share.has_room))
    return share


def parse_proc_net(lines: "Iterable[str]", state: str, has_room: "Callable[[int], bool]") -> "Iterator[Json]":
    """Yield the sockets in a state (proc_net(5)); an address is one or four numbers in the machine's own byte order.

      sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
       0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 …
    """
    import socket  # noqa: PLC0415

    for line in lines:
        words = line.split()
        if len(words) < 10 or words[3] != state or not has_room(int(words[7])):
            continue
        digits, _, port = words[1].partition(":")
        numbers = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
        raw = b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        row = {"version": 4 if len(raw) == 4 else 6, "address": socket.inet_ntop(family, raw)}  # type: Json
        yield dict(row, port=int(port, 16), inode=int(words[9]), uid=int(words[7]))


def takes_ipv4(row: "Json", ports: "set[int]", only_ipv6: bool) -> bool:
    """Tell whether an IPv6 socket takes IPv4, too: it says so itself, else by the system's rule and its neighbours.

    Where IPv4 has a socket of its own at that port (`ports`), this one could only be bound without it (ipv6(7), IPV6_V6ONLY).
    """
    if row["address"] != "::":
        return False
    if "only_ipv6" in row:
        return not row["only_ipv6"]
    return not only_ipv6 and row["port"] not in ports


# ---------------------------------------------------------------- who can reach it


def exposure(row: "Json", addresses: "list[Json]") -> str:
    """Return `machine`, `lan` or `all`, by what a socket is bound to."""
    from ipaddress import ip_address  # noqa: PLC0415

    address, interface = ip_address(row["address"]), row.get("interface", "")
    if address.is_loopback or interface == "lo":
        return "machine"
    if not address.is_unspecified:
        return "all" if is_public(row["address"]) else "lan"
    # Bound to every address, but of one interface.
    own = [one["address"] for one in addresses if one["interface"] == interface]
    return "all" if not interface or any(map(is_public, own)) else "lan"


def is_public(text: str) -> bool:
    """Tell whether an address is one of the internet."""
    from ipaddress import ip_address  # noqa: PLC0415

    address = ip_address(text)
    return address.is_global and not address.is_multicast


# ---------------------------------------------------------------- the section


def socket_row(row: "Json", ports: "set[int]", only_ipv6: bool, addresses: "list[Json]") -> "Json":
    """Return what a socket is, without its owner; an IPv4 address in IPv6 clothes is told as what it is."""
    mapped = row["address"].startswith("::ffff:") and "." in row["address"]
    if mapped:
        row = dict(row, address=row["address"][7:])
    both = row["version"] == 6 and takes_ipv4(row, ports, only_ipv6)
    told = {"address": row["address"], "port": row["port"]}  # type: Json
    told["families"] = ["ipv4", "ipv6"] if both else ["ipv4" if mapped or row["version"] == 4 else "ipv6"]
    if "interface" in row:
        told["interface"] = row["interface"]
    told["exposure"] = exposure(row, addresses)
    return told


def owner(host: "Host", row: "Json", holders: "Holders") -> "Json":
    """Return process and unit or container of a socket, as far as they are known.

    Without the process it is the group in which the socket was made; what PID 1 made, it made for somebody else.
    """
    pid = holders.holder(row)
    if pid is not None:
        told = {"process": host.text(f"/proc/{pid}/comm"), "pid": pid}  # type: Json
        told.update(holders.unit(pid))
        return {key: value for key, value in told.items() if value}
    told = owner_of_group(holders.made_in(row))
    return {} if told.get("unit") == "init.scope" else told


def collect_sockets(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Tell who listens and who can reach it; equal sockets (one per thread of a server) once."""
    if not host.exists("/proc/net/tcp"):
        raise Missing("not_supported")
    deadline, accounts = time.monotonic() + OWNERS_SECONDS, parse_accounts(host.text("/etc/passwd"))
    shares = {protocol: list_listeners(host, protocol, accounts) for protocol in LISTENING_STATES}
    listeners = {protocol: share.rows() for protocol, share in shares.items()}
    # What the kernel itself listens at has no inode, and no owner.
    owned = {row["inode"]: row.get("uid", 0) for rows in listeners.values() for row in rows if row["inode"]}
    holders = Holders(host, find_holders(host, owned, accounts), accounts)
    left = owned.keys() - holders.found.keys()
    if left and "sockets" in request.sudo:
        holders.found.update(ask_ss(host, left, memo, deadline))
    addresses, only_ipv6 = list_addresses(host) or [], host.text("/proc/sys/net/ipv6/bindv6only") == "1"
    told, is_whole = {}, True  # type: dict[str, Json], bool
    for protocol, rows in listeners.items():
        ports = {row["port"] for row in rows if row["address"] == "0.0.0.0"}  # noqa: S104
        for row in rows:
            one = dict({"protocol": protocol}, **socket_row(row, ports, only_ipv6, addresses))
            one.update(owner(host, row, holders))
            is_whole = is_whole and ("pid" in one or not row["inode"])
            told.setdefault(repr(one), {"uid": row.get("uid", 0), "told": one})
    ordered = sorted(told.values(), key=lambda one: socket_order(one["told"]))
    is_cut = len(ordered) > SOCKETS_TOLD or any(share.is_cut for share in shares.values())
    sockets = [one["told"] for one in first_of_each(ordered, SOCKETS_TOLD, accounts)]
    return {"complete": {"sockets": not is_cut, "owners": is_whole}, "sockets": sorted(sockets, key=socket_order)}


def socket_order(one: "Json") -> "tuple[int, str, str, int]":
    """Return what orders the sockets."""
    return one["port"], one["protocol"], one["address"], one.get("pid", 0)


def first_of_each(rows: "list[Json]", most: int, accounts: "dict[str, str]") -> "list[Json]":
    """Return so many rows, where there are more of each user in turn: nobody's crowd hides what others listen at."""
    if len(rows) <= most:
        return rows
    return in_fair_order(rows, lambda row: accounts.get(str(row.get("uid", 0))))[:most]
