"""What the kernel knows of a TCP connection: round trip and bytes on the wire (struct tcp_info, linux/tcp.h).

Costs one system call per value and nothing otherwise; None on systems other than Linux.
"""

import socket
import struct

_BYTES_ACKED = ("Q", 120)
_BYTES_RECEIVED = ("Q", 128)
_MIN_RTT = ("I", 148)
_NEVER = 0xFFFFFFFF
"""tcpi_min_rtt before the first measurement."""


def rtt_seconds(connected: socket.socket | None) -> float | None:
    """Return the shortest round trip of the last minutes in seconds."""
    microseconds = _field(connected, *_MIN_RTT)
    return microseconds / 1e6 if microseconds and microseconds != _NEVER else None


def bytes_sent(connected: socket.socket | None) -> int | None:
    """Return the bytes that the other side has acknowledged."""
    return _field(connected, *_BYTES_ACKED)


def bytes_received(connected: socket.socket | None) -> int | None:
    """Return the received bytes."""
    return _field(connected, *_BYTES_RECEIVED)


def _field(connected: socket.socket | None, kind: str, offset: int) -> int | None:
    """Return one field, None without a connection or if the system does not have it."""
    if connected is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        raw = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from(kind, raw, offset)[0])
    except OSError, struct.error:
        return None
