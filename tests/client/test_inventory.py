"""Who is who over time: ids stay, and only complete inventories can miss an item."""

from dataclasses import replace
from itertools import permutations
import json
import time

import pytest

from custom_components.homelab_monitor.client.limits import ITEMS_LIMIT, KEY_LIMIT, NEW_ITEMS
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, Sources, restore_inventory

DAY = 24 * 3600.0


def filesystem(mountpoint: str, uuid: str | None = None) -> FoundItem:
    keys = {"uuid": uuid, "mountpoint": mountpoint}
    return FoundItem(name=mountpoint, label=mountpoint, keys={k: v for k, v in keys.items() if v})


def match(inventory: Inventory, *found: FoundItem, complete: bool = True, now: float = 0.0) -> dict[str, str]:
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
    for _ in range(30):
        assert match(inventory, filesystem("/b", "u-1"), filesystem("/a", "u-1")) == ids


def test_an_item_that_was_there_in_between_has_not_been_away_since_it_was_first_missed() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/"), filesystem("/data"))
    match(inventory, filesystem("/"), now=60.0)
    match(inventory, filesystem("/"), filesystem("/data"), now=120.0)
    for now in (2 * DAY, 2 * DAY + 60, 2 * DAY + 120):
        match(inventory, filesystem("/"), now=now)
    assert inventory.pop_gone() == []


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


def test_time_in_which_nobody_looked_is_not_missed() -> None:
    inventory = Inventory()
    gone, stays = disk("sda", serial="a"), disk("sdb", serial="b")
    sources = Sources(patience=90.0)
    inventory.match("disk", [gone, stays], now=0.0, complete=True, sources=sources)
    inventory.match("disk", [stays], now=10.0, complete=True, sources=sources)
    # The host is off for a weekend, thrice, and each time it is late after the boot.
    for weekend in range(1, 4):
        for second in (10.0, 70.0):
            inventory.match("disk", [stays], now=weekend * 2.5 * 86400 + second, complete=True, sources=sources)
            assert inventory.pop_gone() == []
    # A day of looks is one.
    inventory.match("disk", [gone, stays], now=8 * 86400.0, complete=True, sources=sources)
    for minute in range(1442):
        assert inventory.pop_gone() == []
        inventory.match("disk", [stays], now=8 * 86400.0 + 60 * minute, complete=True, sources=sources)
        if inventory.items["disk"]["a"].is_gone:
            break
    assert minute == 1440
    assert inventory.pop_gone() == [("disk", "a")]


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


def disk(name: str, **keys: str) -> FoundItem:
    return FoundItem(name=name, label=name, keys=keys | {"kernel_name": name})


def test_a_disk_keeps_its_id_when_its_serial_number_appears() -> None:
    inventory = Inventory()
    assert match(inventory, disk("sdb")) == {"sdb": "sdb"}
    assert match(inventory, disk("sdb", serial="S-1")) == {"sdb": "sdb"}
    assert match(inventory, disk("sda", serial="S-1")) == {"sdb": "sda"}


def test_a_kernel_name_identifies_no_disk_of_which_more_is_known() -> None:
    inventory = Inventory()
    match(inventory, disk("sdb", serial="S-1"))
    assert match(inventory, disk("sdb", serial="S-2")) == {"S-2": "sdb"}
    assert match(inventory, disk("sdb", serial="S-1"), disk("sdc", serial="S-2")) == {"S-1": "sdb", "S-2": "sdc"}


def test_a_disk_of_which_only_its_kernel_name_is_known_is_no_disk_of_another_name() -> None:
    inventory = Inventory()
    match(inventory, disk("sdb"))
    assert match(inventory, disk("sdc")) == {"sdc": "sdc"}


def test_of_two_that_nothing_distinguishes_the_one_that_was_there_goes_on() -> None:
    inventory = Inventory()
    first, second = (FoundItem(name=name, label=name, keys={"serial": "S-1"}) for name in ("a", "b"))
    assert match(inventory, first, second) == {"S-1": "a", "S-1#2": "b"}
    for now in (1.0, 2.0, DAY + 2.0):
        assert match(inventory, first, now=now) == {"S-1": "a"}
    assert inventory.pop_gone() == [("filesystem", "S-1#2")]


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
    inventory.match("service", [FoundItem(name="cups", label="cups", keys=unit)], complete=True, now=0.0)
    for now in (1.0, 2.0, DAY + 1.0):
        shown = FoundItem(name="cups", label="cups", keys=unit, shown=True)
        ids = inventory.match("service", [shown], complete=True, now=now)
        assert ids == {"system/cups.service": "cups"}
    assert inventory.pop_gone() == [("service", "system/cups.service")]


def test_it_is_stored_and_restored() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/", "u-1"), filesystem("/data"), now=5.0)
    match(inventory, filesystem("/", "u-1"), now=6.0)
    assert restore_inventory(json.loads(json.dumps(inventory.as_dict()))) == inventory


# ---------------------------------------------------------------- twins, as they are found in the field


def port(name: str, mac: str = "02:00:00:00:00:0a") -> FoundItem:
    return FoundItem(name=name, label=name, keys={"mac": mac, "name": name})


TWINS = {
    "a dock that answers with its own serial number for all bays": (
        disk("sda", serial="152D00539000", path="0000:00:14.0/usb1/2:1.0/host1/0:0:0"),
        disk("sdb", serial="152D00539000", path="0000:00:14.0/usb1/2:1.0/host1/0:0:1"),
    ),
    "a card reader with four slots": tuple(
        disk(f"sd{letter}", serial="058F63666485", path=f"0000:00:14.0/usb1/3:1.0/host1/0:0:{lun}")
        for lun, letter in enumerate("cdef")
    ),
    "cheap disks with one WWN": (
        disk("sda", wwn="0x5000000000000000", serial="A1", path="0000:00:17.0/ata1/host1/0:0:0"),
        disk("sdb", wwn="0x5000000000000000", serial="A2", path="0000:00:17.0/ata2/host1/0:0:0"),
    ),
    "the ports of a switch": tuple(port(name) for name in ("eth0", "lan1", "lan2", "lan3", "wan")),
    "the slaves of a bond": (port("bond0"), port("eno1"), port("eno2")),
    "a snapshot that is mounted beside its origin": (filesystem("/srv", "u-9"), filesystem("/mnt/snapshot", "u-9")),
    "a filesystem of which a copy is mounted twice": tuple(filesystem(f"/mnt/{n}", "u-8") for n in range(3)),
    "two cards that tell one UUID": tuple(
        FoundItem(name=pci, label="T400", keys={"uuid": "GPU-0", "pci": pci})
        for pci in ("0000:01:00.0", "0000:02:00.0")
    ),
}


@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_twins_keep_their_ids_whatever_the_order_and_however_often_they_are_polled(
    twins: tuple[FoundItem, ...],
) -> None:
    inventory = Inventory()
    first = match(inventory, *twins)
    assert len(first) == len(twins)
    orders = list(permutations(twins))
    for poll in range(60):
        inventory = restore_inventory(json.loads(json.dumps(inventory.as_dict())))
        assert match(inventory, *orders[poll % len(orders)], now=60.0 * poll) == first
        for away in twins:
            rest = [each for each in twins if each is not away]
            told = match(inventory, *rest, complete=False, now=60.0 * poll)
            assert told == {item_id: name for item_id, name in first.items() if name != away.name}
    assert len(inventory.items["filesystem"]) == len(twins)


def test_the_first_look_at_twins_does_not_depend_on_their_order() -> None:
    for twins in TWINS.values():
        looks = [match(Inventory(), *order) for order in permutations(twins)]
        assert all(look == looks[0] for look in looks)


def test_a_twin_that_is_plugged_in_somewhere_else_stays_itself() -> None:
    inventory = Inventory()
    first = match(inventory, disk("sda", serial="S", path="bay1"), disk("sdb", serial="S", path="bay2"))
    moved = match(inventory, disk("sda", serial="S", path="bay2"), disk("sdb", serial="S", path="bay3"))
    assert moved.keys() == first.keys()
    assert moved["S#2"] == "sda"


def test_two_disks_that_swap_their_ports_keep_their_ids() -> None:
    inventory = Inventory()
    match(inventory, disk("sda", serial="S-1", path="bay1"), disk("sdb", serial="S-2", path="bay2"))
    swapped = match(inventory, disk("sda", serial="S-2", path="bay1"), disk("sdb", serial="S-1", path="bay2"))
    assert swapped == {"S-1": "sdb", "S-2": "sda"}


def test_another_disk_in_the_same_bay_is_another_disk() -> None:
    inventory = Inventory()
    match(inventory, disk("sda", serial="S-1", path="bay1"))
    assert match(inventory, disk("sda", serial="S-2", path="bay1")) == {"S-2": "sda"}
    assert match(inventory, disk("sda", serial="S-1", path="bay1")) == {"S-1": "sda"}
    assert match(inventory, disk("sda", path="bay1")) == {"S-1": "sda"}, "who was there last"


def test_a_place_belongs_to_who_was_there_last() -> None:
    inventory = Inventory()
    match(inventory, disk("sda", serial="S-1", path="bay1"), complete=False)
    match(inventory, disk("sda", serial="S-2", path="bay1"), complete=False)
    assert match(inventory, disk("sda", path="bay1"), complete=False) == {"S-2": "sda"}


def test_another_filesystem_at_the_same_mountpoint_goes_on_as_the_one_before() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/backup", "u-1"))
    assert match(inventory, filesystem("/backup", "u-2")) == {"u-1": "/backup"}
    assert match(inventory, filesystem("/backup", "u-1")) == {"u-1": "/backup"}
    both = match(inventory, filesystem("/backup", "u-1"), filesystem("/restore", "u-2"))
    assert both == {"u-1": "/backup", "u-2": "/restore"}


def test_who_lends_the_uuid_of_a_filesystem_that_is_still_there_gets_nothing_of_it() -> None:
    # udev links a UUID to the device that came last: an image of a user's, a clone, a snapshot of LVM.
    inventory = Inventory()
    match(inventory, filesystem("/srv", "u-1"), filesystem("/", "u-0"))
    lent = [filesystem("/srv"), filesystem("/media/eve/disk", "u-1"), filesystem("/", "u-0")]
    for poll, order in enumerate(permutations(lent)):
        told = match(inventory, *order, now=60.0 * poll)
        assert told == {"u-1": "/srv", "u-1#2": "/media/eve/disk", "u-0": "/"}
        inventory = restore_inventory(json.loads(json.dumps(inventory.as_dict())))
    assert match(inventory, filesystem("/srv", "u-1"), filesystem("/", "u-0")) == {"u-1": "/srv", "u-0": "/"}
    assert match(inventory, filesystem("/data", "u-1"), filesystem("/", "u-0")) == {"u-1": "/data", "u-0": "/"}


def test_a_filesystem_that_gets_its_uuid_back_stays_itself() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/srv"), filesystem("/media/eve/disk", "u-1"))
    assert match(inventory, filesystem("/srv", "u-1")) == {"/srv": "/srv"}
    both = match(inventory, filesystem("/srv"), filesystem("/media/eve/disk", "u-1"))
    assert both == {"/srv": "/srv", "u-1": "/media/eve/disk"}


def test_a_filesystem_moves_with_its_uuid_from_a_place_that_it_has_left() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/srv", "u-1"), filesystem("/data", "u-2"))
    assert match(inventory, filesystem("/new", "u-1"), filesystem("/srv", "u-2")) == {"u-1": "/new", "u-2": "/srv"}


def mounted(mountpoint: str, token: str, uuid: str | None = None, source: str = "") -> FoundItem:
    return replace(filesystem(mountpoint, uuid), token=token, source=source)


def test_a_filesystem_that_is_renamed_all_the_time_stays_one_and_takes_no_room() -> None:
    inventory = Inventory()
    for n in range(2 * NEW_ITEMS[0]):
        found = (mounted("/", "8:1"), mounted(f"/home/eve/{n}/disk", "8:17"))
        assert match(inventory, *found, now=10.0 * n) == {"/": "/", "/home/eve/0/disk": f"/home/eve/{n}/disk"}
    found = (mounted("/", "8:1"), mounted("/home/eve/x", "8:17"), mounted("/srv/new", "8:33"))
    assert match(inventory, *found, now=9e9)["/srv/new"] == "/srv/new"


def test_filesystems_that_change_names_stay_themselves() -> None:
    inventory = Inventory()
    match(inventory, mounted("/home/eve/a", "1"), mounted("/home/eve/b", "2"))
    swapped = match(inventory, mounted("/home/eve/b", "1"), mounted("/home/eve/a", "2"))
    assert swapped == {"/home/eve/a": "/home/eve/b", "/home/eve/b": "/home/eve/a"}


def test_a_number_that_the_kernel_gave_away_again_joins_nothing_that_an_identity_keeps_apart() -> None:
    inventory = Inventory()
    match(inventory, mounted("/media/a", "8:17", "u-1"))
    assert match(inventory, mounted("/media/b", "8:17", "u-2")) == {"u-2": "/media/b"}


def test_a_number_that_several_have_identifies_nothing() -> None:
    inventory = Inventory()
    match(inventory, mounted("/a", "8:17"))
    told = match(inventory, mounted("/b", "8:17"), mounted("/c", "8:17"))
    assert told == {"/b": "/b", "/c": "/c"}


def test_what_a_guest_mounts_is_never_what_was_roots() -> None:
    inventory = Inventory()
    match(inventory, mounted("/home/eve/a", "0:60"))
    told = match(inventory, mounted("/home/eve/x", "0:60", source="user 1501"))
    assert told == {"/home/eve/x": "/home/eve/x"}


def test_what_is_another_kind_of_filesystem_lends_nothing() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/srv", "u-1"))
    pool = FoundItem(name="/srv", label="/srv", keys={"dataset": "tank/srv", "mountpoint": "/srv"})
    assert match(inventory, pool, filesystem("/old", "u-1")) == {"u-1": "/old", "tank/srv": "/srv"}


def test_the_strongest_of_two_identities_decides() -> None:
    inventory = Inventory()
    one, other = {"wwn": "W1", "serial": "dock"}, {"serial": "dock"}
    match(inventory, disk("sda", **one, path="bay1"), disk("sdb", **other, path="bay2"))
    swapped = match(inventory, disk("sda", **one, path="bay2"), disk("sdb", **other, path="bay1"))
    assert swapped == {"W1": "sda", "dock": "sdb"}


def test_an_identity_that_several_have_decides_nothing_alone() -> None:
    inventory = Inventory()
    cheap = {"wwn": "0x5000000000000000"}
    match(inventory, disk("sda", **cheap, serial="A1", path="bay1"), disk("sdb", **cheap, serial="A2", path="bay2"))
    new = match(
        inventory, disk("sdb", **cheap, serial="A2", path="bay2"), disk("sdc", **cheap, serial="A3", path="bay3")
    )
    assert len(inventory.items["filesystem"]) == 3
    assert "sdc" in new.values()
    back = match(
        inventory, disk("sda", **cheap, serial="A1", path="bay1"), disk("sdb", **cheap, serial="A3", path="bay2")
    )
    assert sorted(back.values()) == ["sda", "sdb"]
    assert len(inventory.items["filesystem"]) == 3


def test_twins_are_separated_by_their_places_when_another_key_cannot_be_read() -> None:
    inventory = Inventory()
    dock = {"serial": "dock"}
    match(inventory, disk("sda", wwn="W1", **dock, path="bay1"), disk("sdb", wwn="W2", **dock, path="bay2"))
    assert match(inventory, disk("sdb", **dock, path="bay2")) == {"W2": "sdb"}
    assert match(inventory, disk("sda", **dock, path="bay2"), disk("sdb", **dock, path="bay1")) == {
        "W2": "sda",
        "W1": "sdb",
    }


def test_what_more_is_known_of_is_not_spent_on_what_less_is_reported_of() -> None:
    inventory = Inventory()
    match(
        inventory,
        disk("a", wwn="W", serial="S", path="1"),
        disk("b", wwn="W", path="2"),
        disk("c", serial="S", path="3"),
    )
    told = match(inventory, disk("c", serial="S", path="3"), disk("b", wwn="W", path="4"), disk("x", serial="S"))
    assert told == {"W": "x", "W#2": "b", "S": "c"}


def test_a_weaker_identity_does_not_make_two_disks_one() -> None:
    inventory = Inventory()
    match(inventory, disk("sda", wwn="W1", serial="dock", path="bay1"))
    assert match(inventory, disk("sda", wwn="W2", serial="dock", path="bay1")) == {"W2": "sda"}
    assert match(inventory, disk("sda", wwn="W1", serial="dock", path="bay1")) == {"W1": "sda"}
    assert match(inventory, disk("sda", wwn="W2", serial="renamed", path="bay1")) == {"W2": "sda"}


# ---------------------------------------------------------------- what people call them


def test_items_that_are_called_alike_get_a_mark_that_stays() -> None:
    inventory = Inventory()
    bays = [FoundItem(name=name, label="ST4000", keys={"serial": "S", "path": name}) for name in ("a", "b", "c")]
    match(inventory, *bays)

    def titles() -> dict[str, str]:
        return {item_id: item.title for item_id, item in inventory.items["filesystem"].items()}

    first = {"S": "ST4000", "S#2": "ST4000 (2)", "S#3": "ST4000 (3)"}
    assert titles() == first
    for there in permutations(bays):
        match(inventory, *there[:2])
        inventory = restore_inventory(json.loads(json.dumps(inventory.as_dict())))
        assert titles() == first


def test_a_mark_never_makes_a_title_that_another_one_has() -> None:
    inventory = Inventory()
    labels = ("X (2)", "X", "X", "X (2)", "X")
    match(inventory, *(FoundItem(name=str(n), label=label, keys={"name": str(n)}) for n, label in enumerate(labels)))
    titles = [item.title for item in inventory.items["filesystem"].values()]
    assert titles == ["X (2)", "X", "X (3)", "X (2) (2)", "X (4)"]


def test_what_is_called_by_its_place_is_called_so_without_a_mark() -> None:
    inventory = Inventory()
    match(inventory, port("eth0", "m-1"), port("eth1", "m-2"))
    match(inventory, port("eth0", "m-2"), port("eth1", "m-1"))
    assert [item.title for item in inventory.items["filesystem"].values()] == ["eth1", "eth0"]
    match(inventory, port("eth1", "m-2"))
    assert [item.title for item in inventory.items["filesystem"].values()] == ["eth1 (2)", "eth1"]


# ---------------------------------------------------------------- a host that makes things up


def test_thousands_of_items_that_share_a_key_cost_little_and_stay_within_the_limit() -> None:
    inventory = Inventory()
    match(inventory, filesystem("/", "U"))
    took = []
    for count in (2000, 8000):
        everything = [filesystem(f"/{number}", "U") for number in range(count)]
        started = time.process_time()
        for _ in range(3):
            match(inventory, *everything, complete=False)
        took.append(time.process_time() - started)
        remembered = len(inventory.items["filesystem"])
        assert remembered <= ITEMS_LIMIT
        assert inventory.left_out["filesystem"] == count - remembered
    assert took[1] < 3.0, "0.2 s on most machines"
    assert took[1] < 10 * took[0] + 0.05


@pytest.mark.parametrize(
    "keys",
    [
        lambda n: {"serial": f"S-{n}", "path": f"p{n}"},
        lambda n: {"wwn": f"W{n}", "serial": "S", "path": "p"},
        lambda n: {"wwn": "W", "serial": f"S{n}", "path": "p"},
        lambda n: {"wwn": f"W{n % 7}", "serial": f"S{n % 3}"},
        lambda n: {"kernel_name": f"sd{n}"},
    ],
)
def test_a_host_that_changes_its_keys_at_every_poll_stays_within_the_limit_and_pushes_nobody_out(keys) -> None:
    inventory = Inventory()
    real = [disk("sda", serial="real-1", path="r1"), disk("sdb", serial="real-2", path="r2")]
    first = match(inventory, *real)
    for poll in range(100):
        made_up = [
            FoundItem(name=f"x{number}", label="x", keys=keys(100 * poll + number)) for number in range(10 * (poll % 9))
        ]
        ids = match(inventory, *made_up, *real, now=60.0 * poll)
        assert first.items() <= ids.items()
        assert len(inventory.items["filesystem"]) <= ITEMS_LIMIT


# ---------------------------------------------------------------- what an earlier version stored


def stored(*ids: str, missing: int = 0, **keys: str) -> dict[str, dict[str, object]]:
    """Return items as the first version stored them, the first ones missing."""
    entry = {"keys": keys, "label": "USB Dock 9000", "first_seen": 1.0}
    away = {"missing_since": 2.0, "last_missed": 50.0, "misses": 3}
    rest = {"missing_since": None, "last_missed": None, "misses": 0}
    return {item_id: entry | (away if n < missing else rest) for n, item_id in enumerate(ids)}


def test_twins_that_multiplied_once_are_two_again_and_the_others_leave() -> None:
    ids = ["S", *(f"S#{number}" for number in range(2, 41))]
    inventory = restore_inventory({"filesystem": stored(*ids, missing=38, serial="S")})
    bays = [disk("sda", serial="S", path="bay1"), disk("sdb", serial="S", path="bay2")]
    for poll in range(5):
        assert match(inventory, *bays, now=60.0 + poll * 60.0) == {"S#39": "sda", "S#40": "sdb"}
        assert inventory.pop_gone() == []
    assert len(inventory.items["filesystem"]) == 40
    match(inventory, *bays, now=60.0 + 1.1 * DAY)
    assert len(inventory.pop_gone()) == 38
    assert match(inventory, *bays, now=1.2 * DAY) == {"S#39": "sda", "S#40": "sdb"}
    assert len({item.title for item in inventory.items["filesystem"].values()}) == 2


def test_how_long_something_is_missing_adds_up_over_restarts_and_counts_only_what_we_saw() -> None:
    inventory = Inventory()
    gone, stays = disk("sda", serial="a"), disk("sdb", serial="b")
    match(inventory, gone, stays, now=0.0)
    for restart in range(4):
        # The clock starts anew with the machine, and what happened while we were away nobody knows.
        start = 1e6 * (restart % 2)
        for hour in range(0, 7, 2):
            match(inventory, stays, now=start + hour * 3600.0)
            assert inventory.pop_gone() == ([("filesystem", "a")] if (restart, hour) == (3, 6) else [])
        inventory = restore_inventory(inventory.as_dict())


def test_ids_that_an_earlier_version_stored_stay() -> None:
    inventory = restore_inventory(
        {
            "filesystem": stored("S-1", serial="S-1")
            | stored("vda", kernel_name="vda")
            | stored("W", wwn="W", serial="x")
        }
    )
    now = [
        disk("sda", serial="S-1", path="bay1"),
        disk("vda", path="pci"),
        disk("sdb", wwn="W", serial="x", path="bay2"),
    ]
    assert match(inventory, *now) == {"S-1": "sda", "vda": "vda", "W": "sdb"}
    assert "kernel_name" not in inventory.items["filesystem"]["vda"].keys


def test_more_than_the_limit_that_an_earlier_version_stored_leaves_at_once() -> None:
    ids = [f"S#{number}" for number in range(3 * ITEMS_LIMIT)]
    inventory = restore_inventory({"filesystem": stored(*ids, missing=len(ids) - 1, serial="S")})
    told = match(inventory, disk("sda", serial="S", path="bay1"))
    assert told == {ids[-1]: "sda"}
    gone = inventory.pop_surplus("filesystem", told)
    assert gone == ids[ITEMS_LIMIT - 1 : -1], "what is there stays, and of the others the oldest"
    assert len(inventory.items["filesystem"]) == ITEMS_LIMIT
    assert inventory.pop_surplus("filesystem", told) == []
    assert match(inventory, disk("sda", serial="S", path="bay1")) == told


def test_a_host_that_renames_all_that_it_has_each_day_makes_few_new_ids_a_day(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("custom_components.homelab_monitor.client.bucket.time.monotonic", lambda: clock[0])
    inventory, ever = Inventory(), set()

    def look(day: int, hours: float) -> None:
        found = [
            FoundItem(name=f"/{day}/{n}", label="x", keys={"mountpoint": f"/{day}/{n}"}) for n in range(ITEMS_LIMIT)
        ]
        clock[0] = now = day * 86_400 + hours * 3600
        ever.update(inventory.match("filesystem", found, complete=True, now=now))
        inventory.pop_gone()

    for day in range(10):
        for hours in (0, 1, 2, 23):
            look(day, hours)
    burst, seconds = NEW_ITEMS
    assert ITEMS_LIMIT <= len(ever) <= ITEMS_LIMIT + burst + 10 * 86_400 / seconds
    assert inventory.left_out["filesystem"] > 0


def test_what_users_make_up_leaves_the_hosts_own_new_things_their_turn():
    inventory = Inventory()
    sources = Sources(guest_of=lambda source: "" if source == "docker/root" else source)

    def look(*sets: tuple[str, int, int]) -> dict[str, str]:
        found = [
            FoundItem(name=f"{s}/{n}", label="x", keys={"container": f"{s}/{n}"}, source=s)
            for s, first, count in sets
            for n in range(first, first + count)
        ]
        return inventory.match("container", found, complete=True, now=0.0, sources=sources)

    look(("docker/root", 0, 1))
    for first in range(0, 20 * NEW_ITEMS[0], 50):
        look(("docker/root", 0, 1), ("docker/eve", first, 50))
    assert "docker/root/1" in look(("docker/root", 0, 2), ("docker/eve", 9999, 50))


def test_where_there_is_no_room_for_all_users_things_are_left_out_and_not_counted_beyond() -> None:
    inventory = Inventory()
    sources = Sources(guest_of=lambda source: "" if source == "docker/root" else source)
    names = [f"docker/eve/{n}" for n in range(50)] + [f"docker/root/{n}" for n in range(ITEMS_LIMIT)]
    found = [
        FoundItem(name=name, label="x", keys={"container": name}, source=name.rpartition("/")[0]) for name in names
    ]
    told = inventory.match("container", found, complete=True, now=0.0, sources=sources)
    assert {name.rpartition("/")[0] for name in told.values()} == {"docker/root"}
    assert len(inventory.items["container"]) == ITEMS_LIMIT
    assert inventory.left_out["container"] == 50
    assert inventory.pop_surplus("container", told, sources) == [], "what was just remembered does not go again"


def test_a_long_key_makes_a_short_id_that_is_its_own() -> None:
    long = ["/" + "\N{GRINNING FACE}" * 4000 + end for end in ("a", "b")]
    found = [FoundItem(name=name, label=name, keys={"mountpoint": name}) for name in long]
    inventory = Inventory()
    ids = inventory.match("filesystem", found, complete=True, now=0.0)
    assert sorted(ids.values()) == long
    assert all(len(item_id) <= KEY_LIMIT for item_id in ids)
    assert inventory.match("filesystem", reversed(found), complete=True, now=1.0) == ids
    assert len(json.dumps(inventory.as_dict(), ensure_ascii=False)) < 2000
    again = restore_inventory(inventory.as_dict())
    assert again.match("filesystem", found, complete=True, now=2.0) == ids


def test_an_item_with_a_long_key_of_an_earlier_version_stays_itself() -> None:
    long = "/var/lib/" + "x" * 300
    stored = {"filesystem": {long: {"keys": {"mountpoint": long}, "label": long[:100]}}}
    inventory = restore_inventory(stored)
    found = [FoundItem(name=long, label=long, keys={"mountpoint": long})]
    assert inventory.match("filesystem", found, complete=True, now=0.0) == {long: long}
