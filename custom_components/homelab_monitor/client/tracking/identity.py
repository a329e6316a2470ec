"""The stable id of a host, which survives a new address, a new name and new network interfaces.

Computed once, when a host is added, and then stored; the machine-id itself never leaves the host.
"""

from collections.abc import Iterable
from hashlib import sha256
import hmac
import re

from ..models import System

_KEY = b"homelab_monitor"
_HEX_DIGITS = 32
_HASH = re.compile(f"[0-9a-fA-F]{{{_HEX_DIGITS}}}")
"""A probe's hash of a machine-id. It comes from the host, and becomes a part of every unique id of the host."""


def host_id(system: System | None, host_key: str) -> str:
    """Return the id of a host: its probe's hash of the machine-id, else a hash of its host key."""
    return machine_of(system) or _hashed(host_key)


def machine_of(system: System | None) -> str:
    """Return a probe's hash of the machine-id, "" if it reported none or not a hash."""
    reported = (system.machine_id_hash if system else None) or ""
    return reported.lower() if _HASH.fullmatch(reported) else ""


def clone_id(taken_id: str, host_key: str) -> str:
    """Return the id of a host whose machine-id another host already has."""
    return _hashed(f"{taken_id} {host_key}")


def is_it(known_id: str, machine: str, host_keys: Iterable[str], system: System | None) -> bool:
    """Return whether a machine that has proven one of the keys is the host of that id.

    Clones have the same host keys, so only an id that was made of a key is proven by it. `machine` is what
    `machine_of` returned when a person last confirmed the machine, "" if that was never recorded.
    """
    keys, reported = tuple(host_keys), machine_of(system)
    if machine:
        return reported == machine
    if known_id in map(_hashed, keys):
        return True
    return bool(reported) and known_id in {reported, *(clone_id(reported, key) for key in keys)}


def _hashed(text: str) -> str:
    """Return a keyed hash, so that our ids cannot be matched with those of other software."""
    return hmac.digest(_KEY, text.encode(), sha256).hex()[:_HEX_DIGITS]
