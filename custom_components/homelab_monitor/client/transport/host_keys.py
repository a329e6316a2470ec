"""Which host keys are trusted: one that a person confirmed, and those that the server proves over it.

A server sends all of its keys after the login (`hostkeys-00@openssh.com`, PROTOCOL of OpenSSH
section 2.5) and proves on request that it has them (`hostkeys-prove-00@openssh.com`: a signature
over this session). Only that adds a key. Only such a list removes one: without a list nothing
changes, as dropbear never sends one.
"""

from collections.abc import Collection, Sequence

from ..errors import HostKeyChanged
from ..limits import HOST_KEYS_LIMIT
from .keys import fingerprint


def changed_key(host: str, pinned: Collection[str], offered: str) -> HostKeyChanged | None:
    """Return the error for a key that is not pinned, None if it is pinned."""
    if offered in pinned:
        return None
    expected = ", ".join(filter(None, map(fingerprint, pinned)))
    return HostKeyChanged(host, expected=expected or "no key", offered=fingerprint(offered))


def renewed(pinned: Sequence[str], in_use: str, listed: Collection[str], proven: Sequence[str]) -> tuple[str, ...]:
    """Return the keys to pin after a server has sent its list, oldest first.

    `listed` are those of the pinned keys that are in the list, `proven` the others that the server
    has proven. The key of this connection stays whatever is in the list, and a list with
    neither it nor any proven key is ignored.
    """
    if in_use not in listed and not proven:
        return tuple(pinned)
    kept = [key for key in pinned if key == in_use or key in listed]
    keys = list(dict.fromkeys((*kept, *proven)))
    # The server will use the keys next that it has proven last, so the oldest are dropped.
    spared = {in_use, *[key for key in keys if key != in_use][1 - HOST_KEYS_LIMIT :]}
    return tuple(key for key in keys if key in spared)
