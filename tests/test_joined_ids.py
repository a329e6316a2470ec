"""No two entities of a host have one id, whatever its items are called: item and key are joined in it."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, strategies as st
import pytest

from custom_components.homelab_monitor import binary_sensor, button, event, sensor, switch, update
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, Known, Sources
from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS, ItemKind
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.entity import HomelabDescription, unique_id

from .scripted import HOST_ID

PLATFORMS = (binary_sensor, button, event, sensor, switch, update)
COORDINATOR = cast("HomelabCoordinator", SimpleNamespace(address=SimpleNamespace(host_id=HOST_ID)))


def rows_in(value: object) -> list[HomelabDescription[Any]]:
    """Return the rows in a table, or a table of tables."""
    if isinstance(value, HomelabDescription):
        return [value]
    return [row for each in value for row in rows_in(each)] if isinstance(value, tuple) else []


def tables() -> dict[str, dict[str, HomelabDescription[Any]]]:
    """Return the rows of all platforms by subject and key."""
    found: dict[str, dict[str, HomelabDescription[Any]]] = defaultdict(dict)
    for platform in PLATFORMS:
        for value in vars(platform).values():
            for row in rows_in(value):
                found[row.subject.key][row.key] = row
    return dict(found)


TABLES = tables()
KINDS = [kind for kind in ITEM_KINDS if kind.key in TABLES]


def infixes(keys: set[str]) -> set[str]:
    """Return what stands before one key in another one."""
    return {long.removesuffix(f"_{short}") for long in keys for short in keys if long.endswith(f"_{short}")}


def test_every_subject_has_rows_and_a_name_that_no_other_ones_begins_with() -> None:
    assert TABLES.keys() == {kind.key for kind in ITEM_KINDS} | {"host"}
    assert not [(one, other) for one in TABLES for other in TABLES if other.startswith(f"{one}_")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_each_kind_says_which_keys_may_be_taken_for_others(kind: ItemKind) -> None:
    """An id that is stored stays: a key that makes another infix needs another name, or an id of another shape."""
    assert kind.infixes == infixes(set(TABLES[kind.key]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
@given(data=st.data())
def test_no_two_entities_of_a_host_share_an_id(kind: ItemKind, data: st.DataObject) -> None:
    rows = TABLES[kind.key]
    words = {word for key in rows for word in key.split("_")}
    parts = ["x", *sorted({*rows, *words, "#2"})] if not infixes(set(rows)) else ["x", "#2", *infixes(set(rows))]
    names = st.lists(st.sampled_from(parts), min_size=1, max_size=4).map("_".join)
    inventory = Inventory()
    for _ in range(data.draw(st.integers(1, 3))):
        told = data.draw(st.lists(names, unique=True, max_size=8))
        found = [FoundItem(name=name, label=name, keys={"id": name}) for name in told]
        there = inventory.match(kind.key, found, complete=True, now=0.0, sources=Sources(infixes=kind.infixes))
        assert sorted(there.values()) == sorted(told)
    ids = [unique_id(COORDINATOR, row, item) for item in inventory.items[kind.key] for row in rows.values()]
    assert len(ids) == len(set(ids))


def test_an_id_that_is_stored_stays_also_where_it_is_ambiguous() -> None:
    keys = {each: {"id": each} for each in ("card", "card_memory")}
    inventory = Inventory(items={"gpu": {each: Known(keys=keys[each], label=each) for each in keys}})
    found = [FoundItem(name=each, label=each, keys=keys[each]) for each in keys]
    there = inventory.match("gpu", found, complete=True, now=0.0, sources=Sources(infixes={"memory"}))
    assert there == {"card": "card", "card_memory": "card_memory"}
