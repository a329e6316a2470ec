"""Which host keys are trusted: one that a person confirmed, and what the server proves over it.

A server tells all of its keys after the login (`hostkeys-00@openssh.com`, PROTOCOL of OpenSSH
section 2.5) and proves on request that it has them (`hostkeys-prove-00@openssh.com`: a signature
over this very session). Only that adds a key. Only such a list removes one: silence changes
nothing, as dropbear never sends one.
"""

from collections.abc import Collection, Sequence

from ..errors import HostKeyChanged
from ..limits import HOST_KEYS_LIMIT
from .keys import fingerprint


def changed_key(host: str, pinned: Collection[str], offered: str) -> HostKeyChanged | None:
    """Return the error that says that a key is none of those that are pinned, None where it is one of them."""
    if offered in pinned:
        return None
    expected = ", ".join(filter(None, map(fingerprint, pinned)))
    return HostKeyChanged(host, expected=expected or "no key", offered=fingerprint(offered))


def renewed(pinned: Sequence[str], in_use: str, listed: Collection[str], proven: Sequence[str]) -> tuple[str, ...]:
    """Return the keys to pin after a server has sent its list, oldest first.

    `listed` are those of the pinned keys that are in the list, `proven` the others that the server
    has proven. The key of this connection stays whatever the list says, and a list that names
    neither it nor any key that was proven is not believed at all.
    """
    if in_use not in listed and not proven:
        return tuple(pinned)
    kept = [key for key in pinned if key == in_use or key in listed]
    keys = list(dict.fromkeys((*kept, *proven)))
    # What was proven last is what the server will use next, so the oldest make room.
    spared = {in_use, *[key for key in keys if key != in_use][1 - HOST_KEYS_LIMIT :]}
    return tuple(key for key in keys if key in spared)
