"""The network addresses that identify a host in its network: those of its own interfaces."""

import re

from ..models import Hardware

_SIX_BYTES = re.compile(r"(?:[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4})|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}")
_GROUP_BIT = 0x01
"""Set in the first byte of addresses of several machines, such as broadcast (IEEE 802)."""


def unicast_address(text: str) -> str | None:
    """Return a MAC address in lower case with colons, None if it cannot be that of one interface.

    Locally administered addresses are accepted: virtual machines have them, and many boards.
    """
    if not _SIX_BYTES.fullmatch(text.lower()):
        return None
    address = bytes.fromhex(re.sub(r"[:.-]", "", text))
    return address.hex(":") if any(address) and not address[0] & _GROUP_BIT else None


def card_addresses(hardware: Hardware) -> tuple[tuple[str, ...], int]:
    """Return the valid permanent addresses of a host's interfaces, sorted, and the number of invalid ones."""
    reported = {card.permanent_mac for card in hardware.interfaces.values() if card.permanent_mac}
    found = [unicast_address(text) for text in reported]
    return tuple(sorted({address for address in found if address})), found.count(None)
