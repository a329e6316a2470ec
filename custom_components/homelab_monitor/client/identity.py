"""Who a host is, for good: an id that outlives its address, its name and its network cards.

Computed once, when a host is added, and then kept; the machine-id itself never leaves the host.
"""

from hashlib import sha256
import hmac

from .models import System

_KEY = b"homelab_monitor"
_HEX_DIGITS = 32


def host_id(system: System | None, host_key: str) -> str:
    """Return the id of a host: what its probe made of the machine-id, else made of its host key."""
    return (system.machine_id_hash if system else None) or _hashed(host_key)


def clone_id(taken_id: str, host_key: str) -> str:
    """Return the id of a host whose machine-id another one already has."""
    return _hashed(f"{taken_id} {host_key}")


def _hashed(text: str) -> str:
    """Return a keyed hash, so that ids of ours cannot be matched with anybody else's."""
    return hmac.digest(_KEY, text.encode(), sha256).hex()[:_HEX_DIGITS]
