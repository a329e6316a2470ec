"""The section sockets: listening sockets, the service or container of each, and who can reach it. On demand only."""

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

SOCKETS_SHOWN = 1000
OWNERS_SECONDS = 6.5  # of the section's time: sockets that take longer are reported without an owner
LISTENERS_SECONDS = 1.5  # per protocol
LISTENERS_READ = 3000  # per protocol; with all their data they stay within 10 MB
# The state of listening sockets in the files of /proc/net: TCP_LISTEN; for UDP TCP_CLOSE, as nothing is connected.
LISTENING_STATES = {"tcp": "0A", "udp": "07"}


# ---------------------------------------------------------------- listening sockets


def list_listeners(host: "Host", protocol: str, accounts: "dict[str, str]") -> "FairShare":
    """Return the listening sockets, from netlink, or from /proc/net if that is not allowed.

    Any user can open hundreds of thousands: of too many, those of each user in turn are kept, and the rest is skipped.
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
    """Yield the sockets in a state (proc_net(5)); an address is one or four numbers in native byte order.

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
    """Return whether an IPv6 socket accepts IPv4, too: by its own flag, else by the system's default and other sockets.

    If an IPv4 socket is bound to that port (`ports`), this one can only be bound with IPV6_V6ONLY (ipv6(7)).
    """
    if row["address"] != "::":
        return False
    if "only_ipv6" in row:
        return not row["only_ipv6"]
    return not only_ipv6 and row["port"] not in ports


# ---------------------------------------------------------------- who can reach it


def exposure(row: "Json", addresses: "list[Json]") -> str:
    """Return `machine`, `lan` or `all`, by the address and interface that a socket is bound to."""
    from ipaddress import ip_address  # noqa: PLC0415

    address, interface = ip_address(row["address"]), row.get("interface", "")
    if address.is_loopback or interface == "lo":
        return "machine"
    if not address.is_unspecified:
        return "all" if is_public(row["address"]) else "lan"
    # Bound to every address, of one interface or of all.
    own = [one["address"] for one in addresses if one["interface"] == interface]
    return "all" if not interface or any(map(is_public, own)) else "lan"


def is_public(text: str) -> bool:
    """Return whether an address is a public unicast address."""
    from ipaddress import ip_address  # noqa: PLC0415

    address = ip_address(text)
    return address.is_global and not address.is_multicast


# ---------------------------------------------------------------- the section


def socket_row(row: "Json", ports: "set[int]", only_ipv6: bool, addresses: "list[Json]") -> "Json":
    """Return a socket's row, without its owner; an IPv4-mapped address is reported as IPv4."""
    mapped = row["address"].startswith("::ffff:") and "." in row["address"]
    if mapped:
        row = dict(row, address=row["address"][7:])
    both = row["version"] == 6 and takes_ipv4(row, ports, only_ipv6)
    result = {"address": row["address"], "port": row["port"]}  # type: Json
    result["families"] = ["ipv4", "ipv6"] if both else ["ipv4" if mapped or row["version"] == 4 else "ipv6"]
    if "interface" in row:
        result["interface"] = row["interface"]
    result["exposure"] = exposure(row, addresses)
    return result


def owner(host: "Host", row: "Json", holders: "Holders") -> "Json":
    """Return process and unit or container of a socket, as far as known.

    Without a process: the owner of the control group in which the socket was made, except PID 1's, which makes sockets
    for other units.
    """
    pid = holders.holder(row)
    if pid is not None:
        result = {"process": host.text(f"/proc/{pid}/comm"), "pid": pid}  # type: Json
        result.update(holders.unit(pid))
        return {key: value for key, value in result.items() if value}
    result = owner_of_group(holders.made_in(row))
    return {} if result.get("unit") == "init.scope" else result


def collect_sockets(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Report listening sockets and who can reach them; equal sockets (one per thread of a server) appear once."""
    if not host.exists("/proc/net/tcp"):
        raise Missing("not_supported")
    deadline, accounts = time.monotonic() + OWNERS_SECONDS, parse_accounts(host.text("/etc/passwd"))
    shares = {protocol: list_listeners(host, protocol, accounts) for protocol in LISTENING_STATES}
    listeners = {protocol: share.rows() for protocol, share in shares.items()}
    # The kernel's own sockets have no inode, and no owner.
    owned = {row["inode"]: row.get("uid", 0) for rows in listeners.values() for row in rows if row["inode"]}
    holders = Holders(host, find_holders(host, owned, accounts), accounts)
    left = owned.keys() - holders.found.keys()
    if left and "sockets" in request.sudo:
        holders.found.update(ask_ss(host, left, memo, deadline))
    addresses, only_ipv6 = list_addresses(host) or [], host.text("/proc/sys/net/ipv6/bindv6only") == "1"
    found, is_whole = {}, True  # type: dict[str, Json], bool
    for protocol, rows in listeners.items():
        ports = {row["port"] for row in rows if row["address"] == "0.0.0.0"}  # noqa: S104
        for row in rows:
            one = dict({"protocol": protocol}, **socket_row(row, ports, only_ipv6, addresses))
            one.update(owner(host, row, holders))
            is_whole = is_whole and ("pid" in one or not row["inode"])
            found.setdefault(repr(one), {"uid": row.get("uid", 0), "row": one})
    ordered = sorted(found.values(), key=lambda one: socket_order(one["row"]))
    is_cut = len(ordered) > SOCKETS_SHOWN or any(share.is_cut for share in shares.values())
    sockets = [one["row"] for one in first_of_each(ordered, SOCKETS_SHOWN, accounts)]
    return {"complete": {"sockets": not is_cut, "owners": is_whole}, "sockets": sorted(sockets, key=socket_order)}


def socket_order(row: "Json") -> "tuple[int, str, str, int]":
    """Return the sort key of a socket."""
    return row["port"], row["protocol"], row["address"], row.get("pid", 0)


def first_of_each(rows: "list[Json]", most: int, accounts: "dict[str, str]") -> "list[Json]":
    """Return at most `most` rows, of each user in turn if there are more: no user's crowd hides the sockets of others."""
    if len(rows) <= most:
        return rows
    return in_fair_order(rows, lambda row: accounts.get(str(row.get("uid", 0))))[:most]
