"""Who a host is, for good: an id that outlives its address, its name and its network cards.

Computed once, when a host is added, and then kept; the machine-id itself never leaves the host.
"""

from collections.abc import Iterable
from hashlib import sha256
import hmac
import re

from ..models import System

_KEY = b"homelab_monitor"
_HEX_DIGITS = 32
_HASH = re.compile(f"[0-9a-fA-F]{{{_HEX_DIGITS}}}")
"""What a probe makes of a machine-id. It is the host's own word, and becomes a part of every id of the host."""


def host_id(system: System | None, host_key: str) -> str:
    """Return the id of a host: what its probe made of the machine-id, else made of its host key."""
    return machine_of(system) or _hashed(host_key)


def machine_of(system: System | None) -> str:
    """Return what a probe made of the machine-id, "" when it did not tell."""
    told = (system.machine_id_hash if system else None) or ""
    return told.lower() if _HASH.fullmatch(told) else ""


def clone_id(taken_id: str, host_key: str) -> str:
    """Return the id of a host whose machine-id another one already has."""
    return _hashed(f"{taken_id} {host_key}")


def is_it(known_id: str, machine: str, host_keys: Iterable[str], system: System | None) -> bool:
    """Tell whether a machine that has proven one of the keys is the very one of that id.

    Clones have the same host keys, so only an id that was made of a key is proven by it. `machine` is what
    `machine_of` returned when a person last said which machine it is, "" where nobody has noted it.
    """
    keys, told = tuple(host_keys), machine_of(system)
    if machine:
        return told == machine
    if known_id in map(_hashed, keys):
        return True
    return bool(told) and known_id in {told, *(clone_id(told, key) for key in keys)}


def _hashed(text: str) -> str:
    """Return a keyed hash, so that ids of ours cannot be matched with anybody else's."""
    return hmac.digest(_KEY, text.encode(), sha256).hex()[:_HEX_DIGITS]
