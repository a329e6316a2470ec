"""Match found items with known ones: pairs by their keys, each item in one pair at most. Pure.

There are three sorts of keys. An identity (a UUID, a serial number) moves with its item, but none is surely unique:
a dock has one serial number for all its bays, the ports of a switch have one MAC, a clone of a filesystem has the UUID
of the original. A place (a port, a mountpoint) separates such twins, and identifies an item whose identity cannot be
read at the moment. A provisional key identifies an item only while nothing else is known of it: `sdb` may be another
disk's name the next time.

So an identity that only one known and one found item have is decisive, unless it can be lent and its item is still
in its place. Twins are paired by what they share if they have kept their places; the rest of them are paired in any
order, as they cannot be distinguished: they may swap, but there are never more of them than existed at once. Different
values of an identity that both have keep two items apart. Every step is a few lookups in hash maps, as a host may
report thousands of items that share one key.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

IDENTITIES = ("uuid", "wwn", "mac", "serial", "dataset", "unit", "container")
"""Strongest first."""
PLACES = ("path", "pci", "mountpoint", "name", "id")
"""The place of an item is the first of these that it has."""
SUCCESSION = frozenset({"pci", "mountpoint", "name"})
"""Places that mean the item to people: an item that appears in one that was left continues as the one before, such as
another backup disk at `/backup`. A port of a disk is not such a place: another disk there is another disk."""
LENDING = frozenset({"mountpoint"})
"""Places whose items' identities are reported for only one of several that share them: udev links a UUID to the device
that came last, even a snapshot, a clone or a user's image. An item still in its place without it has only lent it."""
PROVISIONAL = frozenset({"kernel_name"})

type Keys = Mapping[str, str]


def place(keys: Keys) -> tuple[str, str] | None:
    """Return the place of an item as (kind of key, value), None if it has none."""
    for kind in PLACES:
        if kind in keys:
            return kind, keys[kind]
    return None


def pairs(known: Mapping[str, Keys], found: Mapping[str, Keys]) -> dict[str, str]:
    """Return name → id of items that are found and known; items that nothing distinguishes are paired in order."""
    same = _same(known, found)
    if len(same) in {len(known), len(found)}:
        return same
    pairing = _Pairing(known, found, same)
    for step in pairing.steps():
        if not (pairing.known and pairing.found):
            break
        step()
    return pairing.ids


def _same(known: Mapping[str, Keys], found: Mapping[str, Keys]) -> dict[str, str]:
    """Return name → id of items with exactly the keys of a single known item: most items, most of the time."""
    before, now = _alone(known), _alone(found)
    return {name: before[keys] for keys, name in now.items() if keys in before}


def _alone(items: Mapping[str, Keys]) -> dict[Hashable, str]:
    """Return keys → item for keys that only one item has, without provisional ones."""
    holders: dict[Hashable, str | None] = {}
    for name, keys in items.items():
        lasting_keys = keys if PROVISIONAL.isdisjoint(keys) else {k: v for k, v in keys.items() if k not in PROVISIONAL}
        lasting = frozenset(lasting_keys.items())
        holders[lasting] = None if lasting in holders else name
    return {keys: name for keys, name in holders.items() if name is not None and keys}


@dataclass(frozen=True, slots=True)
class _Marks:
    """The keys of one item by their sort."""

    identities: Keys
    place: tuple[str, str] | None
    provisional: str | None

    def identity(self, kinds: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return its identities of these kinds, None unless it has all of them."""
        values = tuple(self.identities[kind] for kind in kinds if kind in self.identities)
        return values if len(values) == len(kinds) else None

    def identity_there(self, kinds: tuple[str, ...]) -> Hashable | None:
        """Return its identities of these kinds and its place, None unless it has all of that."""
        values = self.identity(kinds)
        return None if values is None or self.place is None else (values, self.place)

    def succession(self) -> Hashable | None:
        """Return its place if an item that appears there continues as the one before."""
        return self.place if self.place and self.place[0] in SUCCESSION else None

    def others(self, kinds: tuple[str, ...]) -> frozenset[str]:
        """Return the kinds of identity that it has besides these."""
        return frozenset(self.identities.keys() - set(kinds))


def _marks(keys: Keys) -> _Marks:
    """Sort the keys of an item."""
    identities = {kind: keys[kind] for kind in IDENTITIES if kind in keys}
    return _Marks(identities, place(keys), next((keys[kind] for kind in PROVISIONAL if kind in keys), None))


class _Pairing:
    """The items that are not paired yet, and the pairs so far."""

    def __init__(self, known: Mapping[str, Keys], found: Mapping[str, Keys], ids: dict[str, str]) -> None:
        self._all_known = {item_id: _marks(keys) for item_id, keys in known.items()}
        self._all_found = {name: _marks(keys) for name, keys in found.items()}
        self.ids = ids
        paired = set(ids.values())
        self.known = {item_id: mark for item_id, mark in self._all_known.items() if item_id not in paired}
        self.found = {name: mark for name, mark in self._all_found.items() if name not in ids}

    def steps(self) -> Iterator[Callable[[], None]]:
        """Yield the steps that pair items, from the most to the least certain."""
        found_kinds = {kind for mark in self._all_found.values() for kind in mark.identities}
        kinds = [kind for kind in IDENTITIES if kind in found_kinds]
        subsets = [subset for size in range(len(kinds), 0, -1) for subset in combinations(kinds, size)]
        yield self._pair_lenders
        yield from (lambda subset=subset: self._pair_only(subset) for subset in subsets)
        yield from (
            lambda subset=subset: self._pair(lambda mark: mark.identity_there(subset), subset) for subset in subsets
        )
        yield lambda: self._pair(lambda mark: mark.place, ())
        yield from (lambda subset=subset: self._pair(lambda mark: mark.identity(subset), subset) for subset in subsets)
        yield lambda: self._pair(_Marks.succession, None)
        yield lambda: self._pair(lambda mark: mark.provisional, None)

    def _add(self, name: str, item_id: str) -> None:
        """Add a pair."""
        self.ids[name] = item_id
        del self.known[item_id], self.found[name]

    def _pair_lenders(self) -> None:
        """Pair items that kept their place and have, or had, no identity; others with that identity do not matter."""
        known = {mark.place: item_id for item_id, mark in self.known.items() if mark.place and mark.place[0] in LENDING}
        for name, mark in list(self.found.items()):
            item_id = known.get(mark.place) if mark.place else None
            if item_id in self.known and not (mark.identities and self.known[item_id].identities):
                self._add(name, item_id)

    def _pair_only(self, kinds: tuple[str, ...]) -> None:
        """Pair items with unshared identities of these kinds, unless a stronger identity differs."""
        known, found = _sole(self._all_known, kinds), _sole(self._all_found, kinds)
        stronger = IDENTITIES[: IDENTITIES.index(kinds[0])]
        for values, name in found.items():
            item_id = known.get(values)
            if item_id not in self.known or name not in self.found:
                continue
            before, now = self.known[item_id].identities, self.found[name].identities
            if all(kind not in before or before[kind] == now.get(kind, before[kind]) for kind in stronger):
                self._add(name, item_id)

    def _pair(self, sign: Callable[[_Marks], Hashable | None], kinds: tuple[str, ...] | None) -> None:
        """Pair items with the same sign that share no other kinds of identity than these; None: whatever they share.

        Items with the fewest other identities go first on both sides: the others can still be identified by those.
        """
        waiting: dict[Hashable, dict[frozenset[str], deque[str]]] = {}
        for item_id, mark, others in _plain_first(self.known, kinds):
            if (value := sign(mark)) is not None:
                waiting.setdefault(value, {}).setdefault(others, deque()).append(item_id)
        for name, mark, others in _plain_first(self.found, kinds):
            queues = waiting.get(sign(mark), {}).items()
            if queue := next((queue for theirs, queue in queues if queue and theirs.isdisjoint(others)), None):
                self._add(name, queue.popleft())


def _plain_first(
    marks: Mapping[str, _Marks], kinds: tuple[str, ...] | None
) -> list[tuple[str, _Marks, frozenset[str]]]:
    """Return each item with its kinds of identity besides these (None: with none), those with the fewest first."""
    listed = [(name, mark, frozenset() if kinds is None else mark.others(kinds)) for name, mark in marks.items()]
    return sorted(listed, key=lambda row: len(row[2]))


def _sole(marks: Mapping[str, _Marks], kinds: tuple[str, ...]) -> dict[tuple[str, ...], str]:
    """Return identities of these kinds → item, for those that only one item has."""
    holders: dict[tuple[str, ...], str | None] = {}
    for name, mark in marks.items():
        values = mark.identity(kinds)
        if values is not None:
            holders[values] = None if values in holders else name
    return {values: name for values, name in holders.items() if name is not None}
