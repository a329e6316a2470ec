"""How large the file of a host can become with a thousand items of each kind and the longest names, and how often it is
written."""

import hashlib
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers.json import json_bytes
import pytest

from custom_components.homelab_monitor.client.limits import (
    CALLED_BYTES,
    ITEMS_LIMIT,
    KEY_LIMIT,
    LABEL_BYTES,
    LARGE_FILE_BYTES,
    LARGE_FILE_SAVES,
    LARGE_FILE_SECONDS,
    NAME_LIMIT,
)
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, restore_inventory
from custom_components.homelab_monitor.store import SAVE_DELAY_SECONDS

from .scripted import Host

FOUR_BYTES = "\U0001f4e6"
MOST_BYTES_OF_AN_ITEM = 5 * (KEY_LIMIT + 20) + LABEL_BYTES + CALLED_BYTES + KEY_LIMIT + 200


def long(kind: str, number: int, length: int = NAME_LIMIT) -> str:
    return f"{kind}{number}-".ljust(length, FOUR_BYTES)


def items(count: int, start: int = 0) -> list[FoundItem]:
    """Return items that have as much of everything as there may be."""
    return [
        FoundItem(
            name=f"{number:04}",
            label=long("label", number, 1 + 255 // 2),
            keys={kind: long(kind, number) for kind in ("wwn", "serial", "path", "kernel_name")},
            source=f"{long('engine', 1)}/{long('owner', 1)}",
        )
        for number in range(start, start + count)
    ]


def test_what_is_stored_of_an_item_has_an_end_in_bytes() -> None:
    inventory = Inventory()
    inventory.match("disk", items(ITEMS_LIMIT), complete=True, now=0.0)
    stored = inventory.as_dict()
    assert len(inventory.items["disk"]) == ITEMS_LIMIT
    assert len(json_bytes(stored)) < ITEMS_LIMIT * MOST_BYTES_OF_AN_ITEM < 2 << 20
    for item_id, known in inventory.items["disk"].items():
        assert all(len(value.encode()) <= KEY_LIMIT for value in (item_id, *known.keys.values(), known.source))


def test_what_is_cut_is_still_who_it_was_over_a_restart() -> None:
    inventory = Inventory()
    ids = inventory.match("disk", items(50), complete=True, now=0.0)
    again = restore_inventory(inventory.as_dict())
    assert again.match("disk", reversed(items(50)), complete=True, now=1.0) == ids
    assert again == inventory


@pytest.mark.parametrize("length", [40, 100, 119, 120, 121, 200, 255])
@pytest.mark.parametrize("sign", ["x", "\u00e9", "\u6570", FOUR_BYTES])
def test_an_item_that_an_earlier_version_knew_is_the_same_one(sign: str, length: int) -> None:
    """It counted characters, and kept so many bytes as these had."""
    whole = f"/{sign * (length - 1)}"
    kept = whole
    if len(whole) > KEY_LIMIT:
        kept = f"{whole[: KEY_LIMIT - 33]}~{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
    known = {"keys": {"mountpoint": kept}, "label": whole[:120], "number": 1, "called": "", "source": "", "misses": 0}
    inventory = restore_inventory({"filesystem": {kept: known}})
    found = FoundItem(name=whole, label=whole, keys={"mountpoint": whole})
    assert inventory.match("filesystem", [found], complete=True, now=0.0) == {kept: whole}


def test_names_that_differ_only_behind_what_is_kept_are_two() -> None:
    names = [f"/{FOUR_BYTES * 100}{end}" for end in "ab"]
    found = [FoundItem(name=name, label=name, keys={"mountpoint": name}) for name in names]
    ids = Inventory().match("filesystem", found, complete=True, now=0.0)
    assert sorted(ids.values()) == names
    assert len(ids) == 2


# ---------------------------------------------------------------- how often it is written


class Writes:
    """Counts what Home Assistant writes of a host's file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
        self.count = 0
        store = host.entry.runtime_data.store
        everything = store._everything

        def counted() -> dict[str, Any]:
            self.count += 1
            return everything()

        monkeypatch.setattr(store, "_everything", counted)


async def grow(host: Host, count: int) -> None:
    """Let the host be one with so many large items, of a kind that no poll looks for, and save that."""
    host.entry.runtime_data.inventory.match("any", items(count), complete=True, now=0.0)
    await host.entry.runtime_data.store.async_save()


async def test_a_large_file_is_written_seldom(hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.start()
    await grow(host, ITEMS_LIMIT)
    await host.move(SAVE_DELAY_SECONDS + 10, step=30)  # What was waiting then.
    writes = Writes(monkeypatch, host)
    await host.move(3 * SAVE_DELAY_SECONDS, step=30)
    assert writes.count == 0
    await host.move(LARGE_FILE_SECONDS, step=60)
    assert writes.count == 1


async def test_a_file_as_most_are_is_written_each_quarter_of_an_hour(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    await grow(host, 100)
    assert len(json_bytes(host.entry.runtime_data.store._plain())) < LARGE_FILE_BYTES
    writes = Writes(monkeypatch, host)
    await host.move(3 * SAVE_DELAY_SECONDS + 60, step=30)
    assert 2 <= writes.count <= 4


async def test_a_large_file_is_not_written_at_once_each_time_but_in_the_end(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    await grow(host, ITEMS_LIMIT)
    writes = Writes(monkeypatch, host)
    for _ in range(20):
        await host.entry.runtime_data.store.async_save()
    assert writes.count == LARGE_FILE_SAVES[0]
    await host.entry.runtime_data.store.async_save(whatever_size=True)
    assert writes.count == LARGE_FILE_SAVES[0] + 1, "what no host can bring about by itself"
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    assert writes.count == LARGE_FILE_SAVES[0] + 2
