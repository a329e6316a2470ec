"""The network addresses by which a machine is known in its network: those of its own cards."""

import re

from ..models import Hardware

_SIX_BYTES = re.compile(r"(?:[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4})|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}")
_GROUP_BIT = 0x01
"""Set in the first byte of addresses that mean several machines, that of a broadcast among them (IEEE 802)."""


def unicast_address(text: str) -> str | None:
    """Return a MAC address in lower case with colons; None for what cannot be that of one card.

    Locally administered ones are as good as others: virtual machines have them, and many boards.
    """
    if not _SIX_BYTES.fullmatch(text.lower()):
        return None
    address = bytes.fromhex(re.sub(r"[:.-]", "", text))
    return address.hex(":") if any(address) and not address[0] & _GROUP_BIT else None


def card_addresses(hardware: Hardware) -> tuple[tuple[str, ...], int]:
    """Return the permanent addresses of a machine's cards, sorted, and how many are none."""
    told = {card.permanent_mac for card in hardware.interfaces.values() if card.permanent_mac}
    found = [unicast_address(text) for text in told]
    return tuple(sorted({address for address in found if address})), found.count(None)
