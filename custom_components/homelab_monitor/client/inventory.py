"""The items of a host (filesystems, disks, GPUs, units …) and who is who over time.

An item is known by several keys: a filesystem by its UUID and its mountpoint, a disk by
its WWN and serial number. Any of them may become readable later or change, so a found
item is matched against what is stored by any key, the strongest first, and the id that it
got at first sight stays for good: entities hang on it.

A key of PROVISIONAL tells an item only while nothing better is known of it: `sdb` is
another disk's name the next time.

An item that is not found is not gone: only a complete inventory can miss it, and only
after MISSES_BEFORE_GONE of them over at least GONE_SECONDS may it leave.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mashumaro.codecs import BasicDecoder, BasicEncoder

MISSES_BEFORE_GONE = 3
GONE_SECONDS = 24 * 3600.0
ITEMS_LIMIT = 1000
"""Items of one kind that are remembered of a host: several times what large ones have, and an end to made-up ones."""
LABEL_LIMIT = 120
PROVISIONAL = frozenset({"kernel_name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One item that the host has now: `keys` maps kinds of key to values, strongest first.

    `name` is its place in the snapshot, `label` what people call it. An item that is only
    `shown` (a unit that once failed and is well again) is not counted as seen; one that is only
    `kept` (a container among too many to show each) is remembered where it is known, and never new.
    """

    name: str
    label: str
    keys: Mapping[str, str]
    shown: bool = False
    kept: bool = False


@dataclass(slots=True, kw_only=True)
class Known:
    """One item that was ever seen; times are Unix seconds of the hub."""

    keys: dict[str, str]
    label: str
    first_seen: float
    missing_since: float | None = None
    last_missed: float | None = None
    misses: int = 0

    @property
    def is_gone(self) -> bool:
        """Return whether it was missed often and long enough to leave."""
        if self.missing_since is None or self.last_missed is None or self.misses < MISSES_BEFORE_GONE:
            return False
        return self.last_missed - self.missing_since >= GONE_SECONDS

    @property
    def is_provisional(self) -> bool:
        """Return whether nothing better is known of it than where it was."""
        return self.keys.keys() <= PROVISIONAL

    def miss(self, now: float) -> None:
        """Count a complete inventory without it."""
        self.misses += 1
        self.last_missed = now
        if self.missing_since is None:
            self.missing_since = now


@dataclass(slots=True, kw_only=True)
class Inventory:
    """All known items by kind and id."""

    items: dict[str, dict[str, Known]] = field(default_factory=dict)

    def match(
        self,
        kind: str,
        found: Iterable[Found],
        *,
        complete: bool,
        now: float,
        is_listed: Callable[[str], bool] = lambda _: True,
    ) -> dict[str, str]:
        """Return item id → name for everything found, and remember it, up to ITEMS_LIMIT of a kind.

        Items that are not found count a miss when the inventory is complete; where it has several sources,
        `is_listed` tells whether the one that an item comes from is whole.
        """
        known = self.items.setdefault(kind, {})
        found = _admitted(known, found)
        ids = _identify(known, found)
        for item in found:
            _remember(known, ids[item.name], item, now)
        seen = {ids[item.name] for item in found if not item.shown}
        for item_id in filter(is_listed, known.keys() - seen if complete else ()):
            known[item_id].miss(now)
        return {item_id: name for name, item_id in ids.items()}

    def pop_gone(self) -> list[tuple[str, str]]:
        """Forget what is gone for good; return its (kind, id) pairs."""
        gone = [
            (kind, item_id) for kind, known in self.items.items() for item_id, item in known.items() if item.is_gone
        ]
        for kind, item_id in gone:
            del self.items[kind][item_id]
        return gone

    def as_dict(self) -> dict[str, object]:
        """Return the inventory as plain JSON values."""
        return dict(_ENCODER.encode(self.items))


def restore_inventory(stored: Mapping[str, object]) -> Inventory:
    """Return the inventory that `as_dict` made; raises ValueError or LookupError."""
    return Inventory(items=_DECODER.decode(stored))


_ENCODER = BasicEncoder(dict[str, dict[str, Known]])
_DECODER = BasicDecoder(dict[str, dict[str, Known]])


def _identify(known: Mapping[str, Known], found: tuple[Found, ...]) -> dict[str, str]:
    """Return name → id; strong keys of all items go before weak keys of any."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    kinds = dict.fromkeys(kind for item in found for kind in item.keys)
    for kind in kinds:
        fitting = {i: item for i, item in known.items() if kind not in PROVISIONAL or item.is_provisional}
        by_key = {item.keys.get(kind): item_id for item_id, item in fitting.items()}
        for item in found:
            item_id = by_key.get(item.keys.get(kind, ""))
            if item_id and item_id not in taken and item.name not in ids:
                ids[item.name] = item_id
                taken.add(item_id)
    for item in found:
        if item.name not in ids:
            ids[item.name] = _new_id(item, taken | known.keys())
            taken.add(ids[item.name])
    return ids


def _known_keys(known: Mapping[str, Known]) -> set[tuple[str, str]]:
    """Return the keys of all known items, each with its kind."""
    return {key for entry in known.values() for key in entry.keys.items()}


def _admitted(known: Mapping[str, Known], found: Iterable[Found]) -> tuple[Found, ...]:
    """Return what is known already, and of the others those for which there is room; no new one is only shown."""
    keys, room = _known_keys(known), max(0, ITEMS_LIMIT - len(known))
    old, new = [], []
    for item in found:
        if not keys.isdisjoint(item.keys.items()):
            old.append(item)
        elif not (item.shown or item.kept):
            new.append(item)
    return (*old, *new[:room])


def _new_id(item: Found, taken: set[str]) -> str:
    """Return the strongest key as an id, made unique where a clone has it already."""
    wanted = next(iter(item.keys.values()), item.name)
    number, item_id = 1, wanted
    while item_id in taken:
        number += 1
        item_id = f"{wanted}#{number}"
    return item_id


def _remember(known: dict[str, Known], item_id: str, item: Found, now: float) -> None:
    """Note that the item is there, with the keys that it has now."""
    entry = known.get(item_id)
    if entry is None:
        entry = Known(keys={}, label="", first_seen=now)
        known[item_id] = entry
    # A key that cannot be read just now stays: it may be the only one next time.
    entry.keys.update(item.keys)
    for kind in () if entry.is_provisional else PROVISIONAL:
        entry.keys.pop(kind, None)
    entry.label = item.label[:LABEL_LIMIT]
    if not item.shown:
        entry.missing_since = entry.last_missed = None
        entry.misses = 0
