"""The section sockets: who listens, which service or container that is, and who can reach it. Only told on demand."""

import os
import re
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from .interfaces import list_addresses
    from .owners import owner_of, parse_cgroup
    from ..probe import Host, Json, Late, Missing, Request

SOCKETS_TOLD = 1000
HOLDERS_SECONDS = 3.0
GROUPS_READ = 5000
SS_SECONDS = 3.0
SS = ["sudo", "-n", "--", "ss", "-H", "-l", "-t", "-u", "-n", "-p", "-e"]
# State in the files of /proc/net that stands for listening: TCP_LISTEN; for UDP TCP_CLOSE, as nothing is connected.
LISTENING_STATES = {"tcp": "0A", "udp": "07"}


# ---------------------------------------------------------------- who listens


def list_listeners(host: "Host", protocol: str) -> "list[Json]":
    """Return the sockets that listen, from the kernel's own list, where that is closed from its files."""
    try:
        return host.listeners(protocol)
    except OSError:
        state, folder = LISTENING_STATES[protocol], "/proc/net/"
        rows = list(parse_proc_net(host.read(folder + protocol), state))
        rows += parse_proc_net(host.text(folder + protocol + "6"), state)
        return rows


def parse_proc_net(text: str, state: str) -> "Iterator[Json]":
    """Yield the sockets in a state (proc_net(5)); an address is one or four numbers in the machine's own byte order.

      sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
       0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 …
    """
    import socket  # noqa: PLC0415

    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or words[3] != state:
            continue
        digits, _, port = words[1].partition(":")
        numbers = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
        raw = b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        row = {"version": 4 if len(raw) == 4 else 6, "address": socket.inet_ntop(family, raw)}  # type: Json
        yield dict(row, port=int(port, 16), inode=int(words[9]))


def takes_ipv4(row: "Json", rows: "list[Json]", only_ipv6: bool) -> bool:
    """Tell whether an IPv6 socket takes IPv4, too: it says so itself, else by the system's rule and its neighbours.

    Where IPv4 has a socket of its own at that port, this one could only be bound without it (ipv6(7), IPV6_V6ONLY).
    """
    if row["address"] != "::":
        return False
    if "only_ipv6" in row:
        return not row["only_ipv6"]
    return not only_ipv6 and not any(one["address"] == "0.0.0.0" and one["port"] == row["port"] for one in rows)  # noqa: S104


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


# ---------------------------------------------------------------- whose it is


def read_open_sockets(pid: int) -> "list[int]":
    """Return the inodes of a process's sockets, by its links: socket:[12345]."""
    folder, found = f"/proc/{pid}/fd/", []
    try:
        for fd in os.listdir(folder):
            link = os.readlink(folder + fd)
            if link.startswith("socket:["):
                found.append(int(link[8:-1]))
    except OSError:
        return found  # it is another user's, or it ended meanwhile
    return found


def read_group_ids() -> "dict[int, str]":
    """Return the path of every control group of version 2 by its number, which is its folder's inode (cgroups(7))."""
    root = next((path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if is_group(path)), "")
    found = {}  # type: dict[int, str]
    for folder, _, _ in os.walk(root) if root else ():
        try:
            found[os.stat(folder).st_ino] = folder[len(root) :]
        except OSError:
            continue
        if len(found) >= GROUPS_READ:
            break
    return found


def is_group(path: str) -> bool:
    """Tell whether a folder is a control group of version 2."""
    return os.path.exists(path + "/cgroup.procs") and os.path.exists(path + "/cgroup.controllers")


def find_holders(host: "Host", inodes: "set[int]") -> "dict[int, set[int]]":
    """Return the processes that hold each socket, of those that this user may look at, until time is up."""
    deadline = time.monotonic() + HOLDERS_SECONDS
    holders = {}  # type: dict[int, set[int]]
    for pid in sorted(int(name) for name in host.names("/proc") if name.isdigit()):
        for inode in inodes.intersection(host.open_sockets(pid)):
            holders.setdefault(inode, set()).add(pid)
        if time.monotonic() > deadline:
            break
    return holders


def ask_ss(host: "Host") -> "dict[int, set[int]]":
    """Return what ss(8) tells as root, nothing where sudo wants a password or there is none."""
    try:
        status, output, _ = host.run(SS, SS_SECONDS)
    except (OSError, Late):
        return {}
    return parse_ss(output) if status == 0 else {}


def parse_ss(text: str) -> "dict[int, set[int]]":
    """Return the processes that hold each socket; only their numbers, as a name may hold anything.

    tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=812,fd=3),("systemd",pid=1,fd=50)) ino:12345 sk:1 cgroup:/x <->
    """
    holders = {}
    for line in text.splitlines():
        inode = re.search(r" ino:(\d+) ", line)
        if inode:
            holders[int(inode.group(1))] = {int(pid) for pid in re.findall(r'",pid=(\d+),fd=\d+\)', line)}
    return holders


def chosen_holder(host: "Host", pids: "set[int]") -> int:
    """Return which of several processes a socket belongs to: the one that started first, others inherited it.

    systemd keeps what it opened for a service (systemd.socket(5)): it counts where nobody else does.
    """
    return min(pids - {1} or pids, key=lambda pid: (started(host, pid), pid))


def started(host: "Host", pid: int) -> int:
    """Return when a process started, in ticks since boot (proc_pid_stat(5)); late where it is gone."""
    words = host.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[19]) if len(words) > 19 else sys.maxsize


def owner(host: "Host", row: "Json", holders: "dict[int, set[int]]", groups: "dict[int, str]") -> "Json":
    """Return process and unit or container of a socket, as far as they are known.

    Without the process it is the group in which the socket was made; what PID 1 made, it made for somebody else.
    """
    pids = holders.get(row["inode"])
    if pids:
        pid = chosen_holder(host, pids)
        told = {"process": host.text(f"/proc/{pid}/comm"), "pid": pid}  # type: Json
        told.update(owner_of(host, pid))
        return {key: value for key, value in told.items() if value}
    told = dict(parse_cgroup("0::" + groups.get(row.get("group", 0), "")))
    return {} if told.get("unit") == "init.scope" else told


# ---------------------------------------------------------------- the section


def socket_row(row: "Json", rows: "list[Json]", only_ipv6: bool, addresses: "list[Json]") -> "Json":
    """Return what a socket is, without its owner; an IPv4 address in IPv6 clothes is told as what it is."""
    mapped = row["address"].startswith("::ffff:") and "." in row["address"]
    if mapped:
        row = dict(row, address=row["address"][7:])
    both = row["version"] == 6 and takes_ipv4(row, rows, only_ipv6)
    told = {"address": row["address"], "port": row["port"]}  # type: Json
    told["families"] = ["ipv4", "ipv6"] if both else ["ipv4" if mapped or row["version"] == 4 else "ipv6"]
    if "interface" in row:
        told["interface"] = row["interface"]
    told["exposure"] = exposure(row, addresses)
    return told


def known_holders(host: "Host", request: "Request", inodes: "set[int]") -> "dict[int, set[int]]":
    """Return the processes that hold each socket; those of other users only where sudo may be used."""
    holders = find_holders(host, inodes)
    if "sockets" in request.sudo and inodes - holders.keys():
        holders.update(ask_ss(host))
    return holders


def collect_sockets(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Tell who listens and who can reach it; equal sockets (one per thread of a server) once."""
    if not host.exists("/proc/net/tcp"):
        raise Missing("not_supported")
    listeners = {protocol: list_listeners(host, protocol) for protocol in LISTENING_STATES}
    # What the kernel itself listens at has no inode, and no owner.
    inodes = {row["inode"] for rows in listeners.values() for row in rows} - {0}
    holders = known_holders(host, request, inodes)
    is_whole = inodes <= holders.keys()
    groups = {} if is_whole else host.group_ids()
    addresses, only_ipv6 = list_addresses(host) or [], host.text("/proc/sys/net/ipv6/bindv6only") == "1"
    told = {}  # type: dict[str, Json]
    for protocol, rows in listeners.items():
        for row in rows:
            one = dict({"protocol": protocol}, **socket_row(row, rows, only_ipv6, addresses))
            one.update(owner(host, row, holders, groups))
            told[repr(one)] = one
    sockets = sorted(told.values(), key=lambda one: (one["port"], one["protocol"], one["address"], one.get("pid", 0)))
    complete = {"sockets": len(sockets) <= SOCKETS_TOLD, "owners": is_whole}
    return {"complete": complete, "sockets": sockets[:SOCKETS_TOLD]}


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("sockets", collect_sockets, 8))
