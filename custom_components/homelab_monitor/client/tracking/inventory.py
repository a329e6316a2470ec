"""The items of a host (filesystems, disks, GPUs, units …) and their identity over time.

An item is known by several keys: a filesystem by its UUID and its mountpoint, a disk by its
WWN, its serial number and where it is plugged in. Any of them may become readable later, be
unreadable for a while, or change; the id that an item got at first sight is permanent, as
entities depend on it. `client/tracking/pairing.py` matches found items with known ones.

An item that is not found is not gone: only a complete inventory can miss it, and it is removed
only after MISSES_BEFORE_GONE of them over at least GONE_SECONDS.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
import hashlib
import math
from typing import Any

from mashumaro.codecs import BasicDecoder, BasicEncoder

from ..bucket import Bucket
from ..limits import (
    CALLED_BYTES,
    GUEST_ITEMS_LIMIT,
    GUESTS_ITEMS_LIMIT,
    ITEMS_LIMIT,
    KEY_LIMIT,
    LABEL_BYTES,
    LABEL_LIMIT,
    LONG_LABEL,
    NAME_LIMIT,
    NEW_ITEMS,
)
from ..typed import number, texts
from .crowds import Crowds, Slug, fitting, numbered, plain_slug
from .pairing import IDENTITIES, PROVISIONAL, pairs, place

MISSES_BEFORE_GONE = 3
GONE_SECONDS = 24 * 3600.0
_OWNERS = {False: "host", True: "guests"}
"""Stored names of the two groups whose new ids are counted together."""
_UNCALLED = 0
"""The number of an item before it has its first label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundItem:
    """One item that the host has now: `keys` maps kinds of key to values, strongest first.

    `name` is its place in the snapshot, `label` its name for people. An item that is only
    `shown` (a unit that once failed and is well again) is not counted as seen; one that is only
    `kept` (a container among too many to show each) stays if it is known, and is never new.
    """

    name: str
    label: str
    keys: Mapping[str, str]
    source: str = ""
    """Which of several lists it is on, such as engine and owner of a container."""
    token: str = ""
    """What identifies it until it disappears or the host boots, under any name; "" if there is no such thing."""
    shown: bool = False
    kept: bool = False


@dataclass(slots=True, kw_only=True)
class Known:
    """One item that was ever seen."""

    keys: dict[str, str]
    label: str
    number: int = 1
    """Its number among several with the same label."""
    called: str = ""
    """The whole label, if it is long: key and label have only the beginning of it."""
    source: str = ""
    misses: int = 0
    missing_seconds: float = 0.0
    """How long complete inventories have lacked it, across restarts."""
    token: str = field(default="", compare=False, metadata={"serialize": "omit"})
    """Its token when it was last seen."""
    missed_at: float | None = field(default=None, compare=False, metadata={"serialize": "omit"})
    """When it was last missed, by the monotonic clock."""

    @property
    def title(self) -> str:
        """Return its label, with a number if another item has that label."""
        return self.label if self.number == 1 else numbered(self.label, self.number)

    @property
    def name(self) -> str:
        """Return the label as the host reports it, by which people select it: without a number, and whole."""
        return self.called or self.label

    @property
    def unit(self) -> str:
        """Return the name of a service's unit for systemd."""
        # The file has the whole name of a missing one only in its key; a label of an earlier version is cut.
        return f"{self.called}.service" if self.called else self.keys.get("unit", "").partition("/")[2]

    @property
    def is_gone(self) -> bool:
        """Return whether it was missed often and long enough to be removed."""
        return self.misses >= MISSES_BEFORE_GONE and self.missing_seconds >= GONE_SECONDS

    @property
    def is_provisional(self) -> bool:
        """Return whether it has only provisional keys."""
        return self.keys.keys() <= PROVISIONAL

    def miss(self, now: float, patience: float) -> None:
        """Count a complete inventory without it, and the time since the one before, if it was monitored.

        At most `patience` seconds: in a longer gap the host was off, or was not polled.
        """
        self.misses += 1
        self.missing_seconds += 0.0 if self.missed_at is None else min(max(0.0, now - self.missed_at), patience)
        self.missed_at = now

    def see(self) -> None:
        """Reset the misses: it exists."""
        self.misses, self.missing_seconds, self.missed_at = 0, 0.0, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is known about the items of a kind, and the lists that they are on."""

    is_listed: Callable[[str], bool] = lambda _source: True
    """Whether a list is complete, so that items that are not on it are missed."""
    guest_of: Callable[[str], str] = lambda _source: ""
    """Whose share of the limits the items on a list count against, "" for the host's own."""
    infixes: Collection[str] = ()
    """Suffixes by which no new id may differ from another one."""
    patience: float = math.inf
    """How many seconds between two polls count as time in which an item was missing."""


_ONE_SOURCE = Sources()


@dataclass(slots=True, kw_only=True)
class Inventory:
    """All known items by kind and id."""

    items: dict[str, dict[str, Known]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict, compare=False)
    """How many of a kind had no room at the last match."""
    newcomers: dict[bool, Bucket] = field(
        default_factory=lambda: {is_guest: Bucket(*NEW_ITEMS) for is_guest in (False, True)}, compare=False, repr=False
    )
    """Buckets that new ids are taken from, separate for guests."""
    seen: set[str] = field(default_factory=set, compare=False)
    """Kinds of which something was seen: a first match may find many at once."""
    slug: Slug = field(default=plain_slug, compare=False, repr=False)
    """Makes the part of an entity id from a name."""

    def match(
        self,
        kind: str,
        found: Iterable[FoundItem],
        *,
        complete: bool,
        now: float,
        sources: Sources = _ONE_SOURCE,
    ) -> dict[str, str]:
        """Return item id → name for everything found, and remember it, if there is room.

        Items that are not found count a miss if the inventory and their source are complete. `now` are seconds of a
        monotonic clock.
        """
        known = self.items.setdefault(kind, {})
        # Sorted: what a host lists first today may be the last one tomorrow.
        by_name = {item.name: _handy(item) for item in sorted(found, key=lambda item: item.name)}
        is_first = kind not in self.seen and not known
        ids, new = _known_ids(known, by_name)
        admitted = self._admitted(known.values(), new, sources.guest_of, is_first=is_first)
        self.left_out[kind] = len(new) - len(admitted)
        ids |= _new_ids(admitted, set(known), sources.infixes)
        self.seen.update({kind} if ids else ())
        _remember(known, {ids[name]: item for name, item in by_name.items() if name in ids}, self.slug)
        seen = {ids[name] for name, item in by_name.items() if name in ids and not item.shown}
        for item_id in known.keys() - seen if complete else ():
            if sources.is_listed(known[item_id].source):
                known[item_id].miss(now, sources.patience)
        return {item_id: name for name, item_id in ids.items()}

    def _admitted(
        self, known: Iterable[Known], new: Iterable[FoundItem], guest_of: Callable[[str], str], *, is_first: bool
    ) -> list[FoundItem]:
        """Return the new items within the limits of count and rate: a first match may find many at once."""
        roomy = _admitted(known, new, guest_of)
        return [each for each in roomy if is_first or self.newcomers[guest_of(each.source) != ""].take()]

    def forget(self, kind: str, item_id: str) -> None:
        """Forget an item, if it is known."""
        self.items[kind].pop(item_id, None)

    def pop_gone(self) -> list[tuple[str, str]]:
        """Forget items that are gone; return their (kind, id) pairs."""
        gone = [
            (kind, item_id) for kind, known in self.items.items() for item_id, item in known.items() if item.is_gone
        ]
        for kind, item_id in gone:
            del self.items[kind][item_id]
        return gone

    def pop_surplus(self, kind: str, there: Collection[str], sources: Sources = _ONE_SOURCE) -> list[str]:
        """Forget items beyond ITEMS_LIMIT, which earlier versions did not enforce; return their ids.

        Guests' items go first, then missing ones, and of those the newest.
        """
        known = self.items.get(kind, {})
        if len(known) <= ITEMS_LIMIT:
            return []
        order = sorted(known, key=lambda item_id: (sources.guest_of(known[item_id].source) != "", item_id not in there))
        surplus = order[ITEMS_LIMIT:]
        for item_id in surplus:
            del known[item_id]
        return surplus

    def as_dict(self) -> dict[str, object]:
        """Return the inventory as plain JSON values."""
        return dict(_ENCODER.encode(self.items))

    def pace(self) -> dict[str, object]:
        """Return, as plain JSON values, how many new ids are left: a restart does not reset the limit."""
        left = {_OWNERS[is_guest]: round(bucket.left, 2) for is_guest, bucket in self.newcomers.items()}
        return {"seen": sorted(self.seen), **left}

    def keep_pace(self, stored: Mapping[str, Any], seconds: float) -> None:
        """Continue with what `pace` returned so many seconds ago; values that do not fit are ignored."""
        self.seen.update(texts(stored.get("seen")))
        for is_guest, bucket in self.newcomers.items():
            left = number(stored.get(_OWNERS[is_guest]), None)
            if left is not None:
                bucket.set_left(left, seconds)


def restore_inventory(stored: Mapping[str, Any]) -> Inventory:
    """Return the inventory that `as_dict` made; raise ValueError, LookupError, TypeError or AttributeError."""
    items = _DECODER.decode({kind: _with_seconds(known) for kind, known in stored.items()})
    for item in (item for known in items.values() for item in known.values()):
        item.keys = {kind: _handy_key(value) for kind, value in item.keys.items()}
    for known in items.get("container", {}).values():
        # An earlier version did not store it: the key has engine, owner and a name that may contain anything.
        known.source = known.source or "/".join(known.keys.get("container", "").split("/", 2)[:2])
    return Inventory(items=items, seen={kind for kind, known in items.items() if known})


def _with_seconds(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the stored items of a kind; an earlier version stored two times of the wall clock."""
    items: dict[str, Any] = {}
    for item_id, item in stored.items():
        since, last = item.get("missing_since"), item.get("last_missed")
        missing = {} if since is None or last is None else {"missing_seconds": max(0.0, last - since)}
        items[item_id] = {**missing, **item}
    return items


_ENCODER = BasicEncoder(dict[str, dict[str, Known]])
_DECODER = BasicDecoder(dict[str, dict[str, Known]])


def _known_ids(known: Mapping[str, Known], found: Mapping[str, FoundItem]) -> tuple[dict[str, str], list[FoundItem]]:
    """Return name → id of known items, and the new ones; an item that is only shown or kept is never new."""
    ids = _moved(known, found)
    paired = set(ids.values())
    # Of items that nothing distinguishes, those that were present go before missing ones, and then the oldest.
    order = sorted((each for each in known if each not in paired), key=lambda item_id: known[item_id].misses > 0)
    rest = {name: item.keys for name, item in found.items() if name not in ids}
    ids |= pairs({item_id: known[item_id].keys for item_id in order}, rest)
    return ids, [item for name, item in found.items() if name not in ids and not (item.shown or item.kept)]


def _moved(known: Mapping[str, Known], found: Mapping[str, FoundItem]) -> dict[str, str]:
    """Return name → id of items that have another place than before and the same token.

    An item that kept its place needs none of this, and a token that several have identifies nothing.
    """
    before = _sole((item_id, item.token) for item_id, item in known.items())
    now = _sole((name, item.token) for name, item in found.items())
    return {
        name: before[token]
        for token, name in now.items()
        if token in before and _has_moved(known[before[token]], found[name])
    }


def _has_moved(entry: Known, item: FoundItem) -> bool:
    """Return whether a known item may be one that was found at another place: no identity differs."""
    spot = place(item.keys)
    if spot is None or entry.keys.get(spot[0], spot[1]) == spot[1] or entry.source != item.source:
        return False
    return all(entry.keys.get(kind, value) == value for kind, value in item.keys.items() if kind in IDENTITIES)


def _sole(tokens: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return token → item for tokens that only one item has."""
    holders: dict[str, str | None] = {}
    for name, token in tokens:
        if token:
            holders[token] = None if token in holders else name
    return {token: name for token, name in holders.items() if name is not None}


def _admitted(known: Iterable[Known], new: Iterable[FoundItem], guest_of: Callable[[str], str]) -> list[FoundItem]:
    """Return the new items within the limits: the host's own first, whatever guests have; each guest has a share."""
    counts = Counter(guest_of(item.source) for item in known)
    admitted = []
    for guest, item in sorted(((guest_of(item.source), item) for item in new), key=lambda pair: pair[0] != ""):
        guests = counts.total() - counts[""]
        is_full = counts[guest] >= GUEST_ITEMS_LIMIT or guests >= GUESTS_ITEMS_LIMIT or counts.total() >= ITEMS_LIMIT
        if not (is_full if guest else counts[""] >= ITEMS_LIMIT):
            counts[guest] += 1
            admitted.append(item)
    return admitted


def _handy(item: FoundItem) -> FoundItem:
    """Return the item with keys and source within KEY_LIMIT."""
    if all(_is_short(value) for value in (*item.keys.values(), item.source)):
        return item
    keys = {kind: _handy_key(value) for kind, value in item.keys.items()}
    return replace(item, keys=keys, source=_handy_key(item.source))


def _is_short(value: str) -> bool:
    """Return whether a key has at most KEY_LIMIT bytes."""
    return len(value) <= KEY_LIMIT and (value.isascii() or len(_bytes(value)) <= KEY_LIMIT)


def _bytes(value: str) -> bytes:
    """Return a text as it is stored."""
    return value.encode(errors="surrogatepass")


def _handy_key(value: str) -> str:
    """Return a key; a long one becomes its beginning and a unique digest.

    An earlier version counted only characters: what it has stored gives the same key as the whole value.
    """
    if len(value) > KEY_LIMIT:
        digest = _digest(value)
        value = f"{value[: KEY_LIMIT - len(digest)]}{digest}"
    if _is_short(value):
        return value
    digest = _digest(value)
    return f"{_bytes(value)[: KEY_LIMIT - len(digest)].decode(errors='ignore')}{digest}"


def _digest(value: str) -> str:
    """Return the digest of a whole key, with which its beginning ends."""
    return f"~{hashlib.sha256(_bytes(value)).hexdigest()[:32]}"


def _handy_label(label: str) -> str:
    """Return the beginning of a label, within LABEL_LIMIT and LABEL_BYTES."""
    label = label[:LABEL_LIMIT]
    return label if label.isascii() else _bytes(label)[:LABEL_BYTES].decode(errors="ignore")


def _new_ids(found: Iterable[FoundItem], taken: set[str], infixes: Collection[str]) -> dict[str, str]:
    """Return name → id: the strongest key, with a number if a twin has it already or if it would be ambiguous.

    Unique ids of entities join an item's id and the key of a row: `card` with `memory_clock`, `card_memory` with
    `clock`.
    """
    ids: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for item in found:
        wanted = next(iter(item.keys.values()), _handy_key(item.name))
        item_id, number = wanted, numbers.get(wanted, 1)
        while item_id in taken or _is_ambiguous(item_id, taken, infixes):
            number += 1
            item_id = f"{wanted}#{number}"
        numbers[wanted] = number
        taken.add(item_id)
        ids[item.name] = item_id
    return ids


def _is_ambiguous(item_id: str, taken: set[str], infixes: Collection[str]) -> bool:
    """Return whether an id differs from a taken one only by one of these suffixes, on either side."""
    ends = [f"_{infix}" for infix in infixes]
    return any(item_id + end in taken or (item_id.endswith(end) and item_id[: -len(end)] in taken) for end in ends)


def _remember(known: dict[str, Known], found: Mapping[str, FoundItem], slug: Slug) -> None:
    """Store the found items by id, with their current keys and labels."""
    for item_id, item in found.items():
        if item_id not in known:
            known[item_id] = Known(keys={}, label="", number=_UNCALLED)
        _see(known[item_id], item)
    vacated = _vacate(known, found)
    labels = {item_id: _handy_label(item.label) for item_id, item in found.items()}
    _call(known, labels | {item_id: known[item_id].label for item_id in vacated}, vacated, slug)


def _see(entry: Known, item: FoundItem) -> None:
    """Store the current keys of a found item."""
    # A key that cannot be read at the moment stays: it may be the only one next time.
    entry.keys.update(item.keys)
    entry.source, entry.token = item.source, item.token
    is_kept = len(item.label) <= NAME_LIMIT and LONG_LABEL < len(_bytes(item.label)) <= CALLED_BYTES
    entry.called = item.label if is_kept else ""
    for kind in () if entry.is_provisional else PROVISIONAL:
        entry.keys.pop(kind, None)
    if not item.shown:
        entry.see()


def _vacate(known: Mapping[str, Known], found: Mapping[str, FoundItem]) -> set[str]:
    """Forget the places of missing items that another one has now; return the ids of those labelled by their place."""
    away = [item_id for item_id in known if item_id not in found]
    taken = {place(item.keys) for item in found.values()} if away else set()
    vacated: set[str] = set()
    for item_id in away:
        entry = known[item_id]
        spot = place(entry.keys)
        if spot and spot in taken and not entry.keys.keys().isdisjoint(IDENTITIES):
            del entry.keys[spot[0]]
            vacated.update({item_id} if entry.label == spot[1] else ())
    return vacated


def _call(known: Mapping[str, Known], labels: Mapping[str, str], vacated: Collection[str], slug: Slug) -> None:
    """Set these labels, each with the first number that makes its title unique; numbers are permanent.

    Of many that would become the same entity id, some have no number.
    """
    titles: dict[str, str] = {}
    crowds = Crowds([labels.get(item_id, entry.label) for item_id, entry in known.items()], slug)
    for item_id in (*labels, *(item_id for item_id in known if item_id not in labels)):
        entry = known[item_id]
        is_called_so = item_id not in vacated and entry.label == labels.get(item_id, entry.label)
        if is_called_so and titles.setdefault(entry.title, item_id) == item_id:
            crowds.add(entry.label, entry.number)
    numbers: dict[str, int] = {}
    for item_id, label in labels.items():
        entry = known[item_id]
        if entry.label == label and titles.get(entry.title) == item_id:
            continue
        entry.label, entry.number = label, 1
        if label in titles or not crowds.has_room(label, 1):
            beginning = fitting(label)
            entry.number = max(numbers.get(beginning, 2), crowds.first_number(label))
            while entry.title in titles or not crowds.has_room(label, entry.number):
                entry.number += 1
            numbers[beginning] = entry.number
        titles[entry.title] = item_id
        crowds.add(label, entry.number)
