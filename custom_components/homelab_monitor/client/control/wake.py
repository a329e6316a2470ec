"""Wake a host over the network: the magic packet of Wake-on-LAN."""

from collections.abc import Iterable
import re
import socket
from typing import Final

PORT: Final = 9
"""discard: a port without a listener; network cards search any frame for the pattern."""
_MAC: Final = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)


def is_mac(text: str) -> bool:
    """Return whether this is an address of Ethernet or Wi-Fi; others, such as InfiniBand, have no magic packet."""
    return _MAC.fullmatch(text) is not None


def magic_packet(mac: str) -> bytes:
    """Return six bytes FF and sixteen times the address; raise ValueError for what is none.

    aa:bb:cc:dd:ee:ff  →  ff ff ff ff ff ff aa bb cc dd ee ff aa bb …
    """
    if not is_mac(mac):
        raise ValueError(f"not a MAC address: {mac}")
    return b"\xff" * 6 + bytes.fromhex(re.sub("[:-]", "", mac)) * 16


def send_magic_packets(macs: Iterable[str], broadcasts: Iterable[str], port: int = PORT) -> None:
    """Send each address to each network; raise OSError if no network takes any of them.

    A broadcast has no answer: it has worked when the host answers.
    """
    packets = [magic_packet(mac) for mac in macs]
    failure: OSError | None = None
    has_sent = False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for address in broadcasts:
            for packet in packets:
                try:
                    door.sendto(packet, (address, port))
                except OSError as err:  # One network that is down must not spare the others.
                    failure = err
                else:
                    has_sent = True
    if failure is not None and not has_sent:
        raise failure
