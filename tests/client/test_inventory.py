"""Who is who over time: ids stay, and only complete inventories can miss an item."""

import json

from custom_components.homelab_monitor.client.inventory import Found, Inventory, restore_inventory

DAY = 24 * 3600.0


def filesystem(mountpoint: str, uuid: str | None = None) -> Found:
    keys = {"uuid": uuid, "mountpoint": mountpoint}
    return Found(name=mountpoint, label=mountpoint, keys={k: v for k, v in keys.items() if v})


def match(inventory: Inventory, *found: Found, complete: bool = True, now: float = 0.0) -> dict[str, str]:
    return inventory.match("filesystem", found, complete=complete, now=now)


def test_the_id_of_first_sight_stays_when_a_stronger_key_becomes_readable() -> None:
    inventory = Inventory()
    assert match(inventory, filesystem("/data")) == {"/data": "/data"}
    assert match(inventory, filesystem("/data", "u-1")) == {"/data": "/data"}
    assert match(inventory, filesystem("/moved", "u-1")) == {"/data": "/moved"}


def test_a_strong_key_goes_before_a_weak_one_of_another_item() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/a", "u-1"), filesystem("/b", "u-2"))
    swapped = match(inventory, filesystem("/a", "u-2"), filesystem("/b", "u-1"))
    assert swapped == {"u-1": "/b", "u-2": "/a"}


def test_a_key_that_cannot_be_read_for_a_while_is_not_forgotten() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/data", "u-1"))
    match(inventory, filesystem("/data"))
    assert match(inventory, filesystem("/elsewhere", "u-1")) == {"u-1": "/elsewhere"}


def test_clones_with_the_same_key_are_two_items() -> None:
    inventory = Inventory()
    ids = match(inventory, filesystem("/a", "u-1"), filesystem("/b", "u-1"))
    assert ids == {"u-1": "/a", "u-1#2": "/b"}
    assert match(inventory, filesystem("/b", "u-1"), filesystem("/a", "u-1")).keys() == ids.keys()


def test_an_item_leaves_after_three_complete_inventories_over_a_day() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/"), filesystem("/data"))
    for now in (60.0, 120.0, 180.0, 60.0 + DAY - 1):
        match(inventory, filesystem("/"), now=now)
    assert inventory.pop_gone() == []
    match(inventory, filesystem("/"), now=60.0 + DAY)
    assert inventory.pop_gone() == [("filesystem", "/data")]
    assert list(inventory.items["filesystem"]) == ["/"]


def test_a_day_with_the_host_offline_is_no_inventory() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/"), filesystem("/data"))
    match(inventory, filesystem("/"), now=60.0)
    match(inventory, filesystem("/"), now=60.0 + 2 * DAY)
    assert inventory.pop_gone() == []
    match(inventory, filesystem("/"), now=120.0 + 2 * DAY)
    assert inventory.pop_gone() == [("filesystem", "/data")]


def test_an_incomplete_inventory_misses_nothing() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/"), filesystem("/data"))
    for day in range(10):
        match(inventory, filesystem("/"), complete=False, now=day * DAY)
    assert inventory.pop_gone() == []


def test_a_day_of_incomplete_inventories_after_three_complete_ones_takes_nothing_away() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/"), filesystem("/data"))
    for now in (60.0, 120.0, 180.0):
        match(inventory, filesystem("/"), now=now)
    match(inventory, filesystem("/"), complete=False, now=2 * DAY)
    assert inventory.pop_gone() == []


def disk(name: str, **keys: str) -> Found:
    return Found(name=name, label=name, keys=keys | {"kernel_name": name})


def test_a_disk_keeps_its_id_when_its_serial_number_appears() -> None:
    inventory = Inventory()
    assert match(inventory, disk("sdb")) == {"sdb": "sdb"}
    assert match(inventory, disk("sdb", serial="S-1")) == {"sdb": "sdb"}
    assert match(inventory, disk("sda", serial="S-1")) == {"sdb": "sda"}


def test_a_kernel_name_tells_no_disk_of_which_more_is_known() -> None:
    inventory = Inventory()
    match(inventory, disk("sdb", serial="S-1"))
    assert match(inventory, disk("sdb", serial="S-2")) == {"S-2": "sdb"}
    assert match(inventory, disk("sdb", serial="S-1"), disk("sdc", serial="S-2")) == {"S-1": "sdb", "S-2": "sdc"}


def test_an_item_that_comes_back_starts_anew() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/data", "u-1"))
    match(inventory, now=0.0)
    match(inventory, now=DAY)
    assert match(inventory, filesystem("/data", "u-1"), now=2 * DAY) == {"u-1": "/data"}
    match(inventory, now=3 * DAY)
    assert inventory.pop_gone() == []


def test_what_is_only_shown_is_known_and_still_leaves() -> None:
    inventory = Inventory()
    unit = {"unit": "system/cups.service"}
    inventory.match("service", [Found(name="cups", label="cups", keys=unit)], complete=True, now=0.0)
    for now in (1.0, 2.0, DAY + 1.0):
        shown = Found(name="cups", label="cups", keys=unit, shown=True)
        ids = inventory.match("service", [shown], complete=True, now=now)
        assert ids == {"system/cups.service": "cups"}
    assert inventory.pop_gone() == [("service", "system/cups.service")]


def test_it_is_stored_and_restored() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/", "u-1"), filesystem("/data"), now=5.0)
    match(inventory, filesystem("/", "u-1"), now=6.0)
    assert restore_inventory(json.loads(json.dumps(inventory.as_dict()))) == inventory
