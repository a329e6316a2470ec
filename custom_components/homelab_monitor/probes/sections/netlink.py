"""What the kernel tells through netlink, where no file has it: the IP addresses, and who listens.

Here it is asked and its structs are taken apart; the sections interfaces and sockets shape what it said.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from ..probe import Json

NETLINK_SECONDS = 2.0
NETLINK_ROUTE = 0
# linux/netlink.h: NLM_F_REQUEST | NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE.
NETLINK_LIST = 0x301
NETLINK_ERROR = 2
NETLINK_DONE = 3
RTM_GETADDR = 22  # linux/rtnetlink.h
# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_TEMPORARY, IFA_F_DEPRECATED = 0x01, 0x20
# linux/inet_diag.h, linux/sock_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_SKV6ONLY, INET_DIAG_CGROUP_ID = 11, 21
# Number of a protocol and, as a bit, the state of a socket that listens: TCP_LISTEN; for UDP TCP_CLOSE, not connected.
LISTENING = {"tcp": (6, 1 << 10), "udp": (17, 1 << 7)}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}  # rtnetlink(7), in the words of ip(8)


def netlink_list(protocol: int, kind: int, wanted: bytes) -> "Iterator[bytes]":
    """Yield the body of each message of a list that the kernel is asked for (netlink(7)); raises OSError."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as door:
        door.settimeout(NETLINK_SECONDS)
        door.bind((0, 0))
        door.send(struct.pack("=IHHII", 16 + len(wanted), kind, NETLINK_LIST, 1, 0) + wanted)
        while True:
            for answer, body in netlink_messages(door.recv(65536)):
                # Both begin with an error number, as a negative one; an end without any has 0.
                failure = struct.unpack_from("=i", body)[0] if answer in (NETLINK_ERROR, NETLINK_DONE) else 0
                if failure:
                    raise OSError(-failure, os.strerror(-failure))
                if answer == NETLINK_DONE:
                    return
                yield body


def netlink_messages(raw: bytes) -> "Iterator[tuple[int, bytes]]":
    """Yield type and body of each message in what was received; each starts at a multiple of four bytes."""
    import struct  # noqa: PLC0415

    at = 0
    while at + 16 <= len(raw):
        size, kind = struct.unpack_from("=IH", raw, at)
        if size < 16:
            raise OSError("not netlink")
        yield kind, raw[at + 16 : at + size]
        at += size + -size % 4


def netlink_attributes(raw: bytes) -> "dict[int, bytes]":
    """Return the attributes behind a message's fixed part, by their number (linux/netlink.h, struct nlattr)."""
    import struct  # noqa: PLC0415

    attributes, at = {}, 0
    while at + 4 <= len(raw):
        size, kind = struct.unpack_from("=HH", raw, at)
        if size < 4:
            break
        attributes[kind] = raw[at + 4 : at + size]
        at += size + -size % 4
    return attributes


def read_addresses() -> "list[Json]":
    """Return every address: `{interface, version, address, prefix_length, scope, temporary?, deprecated?}`."""
    import socket  # noqa: PLC0415

    names = dict(socket.if_nameindex())
    # struct ifaddrmsg, all of it zero: of every family and interface.
    told = (parse_address(body, names) for body in netlink_list(NETLINK_ROUTE, RTM_GETADDR, bytes(8)))
    return [address for address in told if address]


def parse_address(body: bytes, names: "dict[int, str]") -> "Json | None":
    """Return one address (struct ifaddrmsg: family, prefix, flags, scope, interface), None for what is not IP.

    Of a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is ours wherever it is told.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    family, prefix, flags, scope, index = struct.unpack_from("=BBBBI", body)
    told = netlink_attributes(body[8:])
    ours = told.get(IFA_LOCAL) or told.get(IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or not ours or index not in names:
        return None
    if len(told.get(IFA_FLAGS, b"")) == 4:
        flags = struct.unpack("=I", told[IFA_FLAGS])[0]
    return shaped_address(
        names[index],
        socket.inet_ntop(family, ours),
        {"prefixlen": prefix, "scope": SCOPES.get(scope, str(scope))},
        # The same bit says secondary of an IPv4 address.
        temporary=family == socket.AF_INET6 and bool(flags & IFA_F_TEMPORARY),
        deprecated=bool(flags & IFA_F_DEPRECATED),
    )


def shaped_address(interface: str, address: str, told: "Json", **marks: "Any") -> "Json":
    """Return one address in our words; `told` has the words of `ip -j addr`."""
    version = 6 if ":" in address else 4
    row = {"interface": interface, "version": version, "address": address}  # type: Json
    row.update(prefix_length=told["prefixlen"], scope=told["scope"])
    row.update((name, True) for name, is_so in marks.items() if is_so)
    return row


def read_listeners(protocol: str, has_room: "Callable[[int], bool]") -> "Iterator[Json]":
    """Yield who listens: `{version, address, port, inode, uid, interface?, only_ipv6?, group?}` (sock_diag(7)); raises OSError.

    `interface` is the one that the socket is bound to; `group` the number of the control group that made it
    (since Linux 5.7). Every user may ask. `has_room` tells of a user whether another one of his sockets is wanted.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    number, states = LISTENING[protocol]
    names = dict(socket.if_nameindex())
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct inet_diag_req_v2: family, protocol, extensions, states, and a socket's id that is left open.
        wanted = struct.pack("=BBBxI48x", family, number, 0, states)
        for body in netlink_list(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, wanted):
            if has_room(int.from_bytes(body[64:68], sys.byteorder)):
                yield parse_listener(body, names)


def parse_listener(body: bytes, names: "dict[int, str]") -> "Json":
    """Return one socket (struct inet_diag_msg: family … port and address, both in network order … interface … inode)."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    family = body[0]
    address = body[8:12] if family == socket.AF_INET else body[8:24]
    index, inode = struct.unpack_from("=I", body, 40)[0], struct.unpack_from("=I", body, 68)[0]
    told = netlink_attributes(body[72:])
    row = {"version": 4 if family == socket.AF_INET else 6, "address": socket.inet_ntop(family, address)}  # type: Json
    row.update(port=int.from_bytes(body[4:6], "big"), inode=inode, uid=struct.unpack_from("=I", body, 64)[0])
    if index in names:
        row["interface"] = names[index]
    if told.get(INET_DIAG_SKV6ONLY):
        row["only_ipv6"] = bool(told[INET_DIAG_SKV6ONLY][0])
    if len(told.get(INET_DIAG_CGROUP_ID, b"")) == 8:
        row["group"] = struct.unpack("=Q", told[INET_DIAG_CGROUP_ID])[0]
    return row
