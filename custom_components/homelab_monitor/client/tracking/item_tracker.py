"""The items of one host under their stable ids: the items of a snapshot, matched against the inventory.

Most polls find the same items as the one before: a section that was not reported again is not searched again, and the
inventory is used only if something may have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
import math

from ..probe.snapshot import Snapshot, keep_seconds
from .inventory import FoundItem, Inventory, Sources
from .items import ITEM_KINDS, ItemKind, Selection, is_absent, is_complete
from .rates import Rates
from .values import item_values


@dataclass(frozen=True, slots=True)
class _LastSearch:
    """The last search for one kind of item: the sections it was in, what was found, and item id → name."""

    section: object = None
    needed: object = None
    outline: object = None
    found: tuple[FoundItem, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


_NONE = _LastSearch()


class ItemTracker:
    """Remember, beside an inventory, what was found last and under which ids."""

    def __init__(self, inventory: Inventory, selection: Selection) -> None:
        self._inventory = inventory
        self._selection = selection
        self._searches: dict[str, _LastSearch] = {}
        self.revision = 0
        """Increases when the inventory gains or loses an item, which must be saved."""

    def items(
        self, snapshot: Snapshot, rates: Rates, *, is_news: bool, patience: float = math.inf
    ) -> dict[str, dict[str, object]]:
        """Return the values of all items, by kind and stable id; items go missing only with `is_news` (a new reply).

        After more than `patience` seconds without a poll it is unknown what existed meanwhile.
        """
        items: dict[str, dict[str, object]] = {}
        every = item_values(snapshot, rates)
        for kind in ITEM_KINDS:
            values = every[kind.key]
            names = self._identify(kind, snapshot, is_news=is_news, patience=patience)
            items[kind.key] = {item_id: values[name] for item_id, name in names.items() if name in values}
        return items

    def forget(self, kind: str, item_id: str) -> None:
        """Forget an item as if it had been missing for long; if it comes back, it is a new one."""
        self._inventory.forget(kind, item_id)
        self._searches.pop(kind, None)
        self.revision += 1

    def _identify(self, kind: ItemKind, snapshot: Snapshot, *, is_news: bool, patience: float) -> Mapping[str, str]:
        """Return item id → name."""
        last = self._searches.get(kind.key, _NONE)
        is_reported = snapshot.ages.get(kind.section) == snapshot.received or is_absent(kind, snapshot)
        is_fresh = is_news and is_reported
        section = getattr(snapshot.sections, kind.section)
        needed = getattr(snapshot.sections, kind.needs) if kind.needs else None
        # Identical objects mean that nothing was reported again.
        if not is_fresh and section is last.section and needed is last.needed:
            return last.names
        outline = kind.outline_fn(snapshot)
        is_alike = outline is not None and outline == last.outline
        found = last.found if is_alike else tuple(kind.found_fn(snapshot, self._selection))
        is_settled = found == last.found and (not is_fresh or self._is_whole(kind, last))
        # A section is late now and then, and keeps its values meanwhile.
        patience += keep_seconds(kind.section)
        names = last.names if is_settled else self._match(kind, found, snapshot, is_fresh=is_fresh, patience=patience)
        self._searches[kind.key] = _LastSearch(section, needed, outline, found, names)
        return names

    def _is_whole(self, kind: ItemKind, last: _LastSearch) -> bool:
        """Return whether the last search found all that the inventory has, and nothing that it would drop."""
        known = self._inventory.items.get(kind.key, {})
        return len(known) == len(last.found) == len(last.names) and not any(item.shown for item in last.found)

    def _match(
        self, kind: ItemKind, found: tuple[FoundItem, ...], snapshot: Snapshot, *, is_fresh: bool, patience: float
    ) -> Mapping[str, str]:
        """Match items with the inventory, which then forgets those that are gone for good; return item id → name."""
        ids_before = set(self._inventory.items.get(kind.key, ()))
        complete = is_fresh and is_complete(kind, snapshot)
        sources = Sources(
            is_listed=partial(kind.is_listed_fn, snapshot),
            guest_of=partial(kind.guest_fn, self._selection),
            infixes=kind.infixes,
            patience=patience,
        )
        names = self._inventory.match(kind.key, found, complete=complete, now=snapshot.steady, sources=sources)
        gone = self._inventory.pop_gone() if complete else []
        surplus = self._inventory.pop_surplus(kind.key, names, sources) if is_fresh else []
        self.revision += bool(gone or surplus) or ids_before != self._inventory.items[kind.key].keys()
        return {item_id: name for item_id, name in names.items() if item_id in self._inventory.items[kind.key]}
