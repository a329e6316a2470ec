"""What a host has at one time and not at another: what is enabled when it comes back, and how much is remembered."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import AsyncMock, patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.binary_sensor import BINARY_SENSORS
from custom_components.homelab_monitor.button import CONTAINER_BUTTONS
from custom_components.homelab_monitor.client.bucket import Bucket
from custom_components.homelab_monitor.client.limits import ITEMS_LIMIT, NEW_ITEMS
from custom_components.homelab_monitor.client.tracking import inventory
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, restore_inventory
from custom_components.homelab_monitor.client.tracking.items import SHOWN
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.entity import HomelabDescription
from custom_components.homelab_monitor.sensor import SENSORS
from custom_components.homelab_monitor.subjects import HOST
from custom_components.homelab_monitor.switch import CONTAINER_SWITCHES

from .scripted import HOST_ID, Host, read_reply
from .worst_replies import TYPES, Filling

DAY = 86_400
AWAY = 800
"""After so many seconds what is away is gone for good here: a day in which somebody looks each minute takes long."""
USAGE = f"{HOST_ID}_filesystem_"


@pytest.fixture(autouse=True)
def short_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "GONE_SECONDS", AWAY / 2)


def mount(host: Host, *names: str) -> None:
    """Let the host have these filesystems, and no others."""
    section = host.session.sections["filesystems"]
    row = read_reply("plain")["sections"]["filesystems"]["filesystems"][0]
    rows = [row | {"mountpoint": f"/mnt/{name}", "uuid": name, "device": f"/dev/{name}"} for name in names]
    host.session.sections["filesystems"] = section | {"filesystems": rows, "complete": {"mounts": True}}


async def only(host: Host, *names: str) -> None:
    """Let only these be there, once all others are gone for good."""
    mount(host)
    await host.move(AWAY, step=20)
    mount(host, *names)
    await host.move(130, step=10)


def entries(hass: HomeAssistant, key: str = "usage") -> dict[str, er.RegistryEntry]:
    """Return the entities of the filesystems by UUID."""
    known = er.async_get(hass).entities.values()
    mine = (each for each in known if each.unique_id.startswith(USAGE) and each.unique_id.endswith(f"_{key}"))
    return {each.unique_id.removeprefix(USAGE).removesuffix(f"_{key}"): each for each in mine}


def enabled(hass: HomeAssistant, key: str = "usage") -> set[str]:
    return {name for name, each in entries(hass, key).items() if each.disabled_by is None}


def names(letter: str, count: int = 10) -> list[str]:
    return [f"{letter}{number}" for number in range(count)]


@pytest.fixture
async def some(hass: HomeAssistant, host: Host) -> list[str]:
    """Ten filesystems that were there for a while, and then ten others; return both."""
    mount(host, *names("a"))
    await host.start()
    assert enabled(hass) == set(names("a"))
    return [*names("a"), *names("b"), *names("c")]


async def test_a_crowd_that_came_one_after_the_other_is_not_enabled_when_it_is_all_there(
    hass: HomeAssistant, host: Host, some: list[str]
) -> None:
    await only(host, *names("b"))
    await only(host, *names("c"))
    assert enabled(hass) == entries(hass).keys() == set(names("c"))
    mount(host, *some)
    await host.move(130, step=10)
    assert entries(hass).keys() == set(some)
    assert enabled(hass) == set(names("c"))
    assert len(enabled(hass)) <= SHOWN
    assert hass.states.get(entries(hass)["a1"].entity_id) is None


async def test_few_that_come_back_are_as_they_were(hass: HomeAssistant, host: Host, some: list[str]) -> None:
    before = entries(hass)
    er.async_get(hass).async_update_entity(before["a2"].entity_id, disabled_by=er.RegistryEntryDisabler.USER)
    await only(host)
    assert not entries(hass)
    mount(host, *names("a"))
    await host.move(130, step=10)
    assert enabled(hass) == set(names("a")) - {"a2"}
    assert {name: each.entity_id for name, each in entries(hass).items()} == {
        name: each.entity_id for name, each in before.items()
    }
    assert some


async def test_what_a_person_enabled_or_made_their_own_comes_back_as_it_was(
    hass: HomeAssistant, host: Host, some: list[str]
) -> None:
    registry = er.async_get(hass)
    changes: dict[str, dict[str, Any]] = {
        "a1": {"name": "Backups"},
        "a2": {"icon": "mdi:disc"},
        "a3": {"labels": {"x"}},
    }
    for name, change in changes.items():
        registry.async_update_entity(entries(hass)[name].entity_id, **change)
    more = entries(hass, "used")["a4"]
    assert more.disabled_by is er.RegistryEntryDisabler.INTEGRATION
    with patch("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session)):
        registry.async_update_entity(more.entity_id, disabled_by=None)
        await host.move(60, step=10)
    await only(host, *names("b"))
    await only(host, *names("c"))
    mount(host, *some)
    await host.move(130, step=10)
    assert enabled(hass) == {*names("c"), *changes}
    assert enabled(hass, "used") == {"a4"}


async def test_what_an_option_enabled_is_not_a_persons_once_it_is_chosen_no_more(
    hass: HomeAssistant, host: Host
) -> None:
    mount(host, *names("a", 2 * SHOWN))
    await host.start()
    assert not enabled(hass)
    for chosen, count in ((["/mnt/a*"], 2 * SHOWN), ([], 0)):
        with patch("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session)):
            hass.config_entries.async_update_entry(host.entry, options={"filesystems": chosen})
            await hass.config_entries.async_reload(host.entry.entry_id)
            await hass.async_block_till_done(wait_background_tasks=True)
        assert len(enabled(hass)) == count
    assert not [each for each in entries(hass).values() if DOMAIN in each.options]


async def test_deleted_entities_are_not_remembered_without_end(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch, some: list[str]
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.entity.DELETED_ENTITIES", 25)
    registry = er.async_get(hass)
    registry.async_update_entity(entries(hass)["a1"].entity_id, name="Backups")
    await only(host, *names("b"))
    await only(host, *names("c"))
    deleted = registry.deleted_entities
    assert len(deleted) <= 25
    known_as = f"{USAGE}a1_usage"
    assert ("sensor", DOMAIN, known_as) in deleted, "what a person has named goes last"
    assert {key[2].removeprefix(USAGE)[0] for key in deleted if key[2] != known_as} == {"b"}, "and the newest before"
    assert some


def _tables() -> Iterator[HomelabDescription[Any]]:
    """Yield every row of every platform that is about an item."""
    tables = (*SENSORS, *BINARY_SENSORS, CONTAINER_BUTTONS, CONTAINER_SWITCHES)
    return (row for table in tables for row in table if row.subject.key != HOST.key)


ROWS = {(row.subject.key, row.key) for row in _tables()}
SECTION = {
    "container": "containers",
    "disk": "disk_io",
    "fan": "sensors",
    "filesystem": "filesystems",
    "gpu": "gpu",
    "interface": "network",
    "service": "services",
    "temperature": "sensors",
}
NEVER_ON = SECTION.keys() - {row.subject.key for row in _tables() if row.entity_registry_enabled_default}
OF_EACH_OWNER = {("container", key) for key in ("state", "running", "restart")}
"""What is shown of each container of an owner who has few (ADR 24)."""


def group_of(name: str, group: int) -> dict[str, Any]:
    """Return a section with ten items that no other group has, each such as is enabled where there are few."""
    section = Filling(10, turn=group).section(TYPES[name])
    owner = {"owner": f"u{group}", "uid": 1000 + group}
    for row in section.get("containers", ()):
        row.update(owner, state="running", health="healthy", id=f"u{group}{row['name']}")
    for row in section.get("engines", ()):
        row.update(owner, state="ok")
    for row in section.get("units", ()):
        row.update(origin="admin", active_state="active", name=f"{row['name']}.service")
    return section


def show(host: Host, kind: str, *groups: int) -> None:
    """Let the host have these groups of items of a kind, and no others."""
    name, told = SECTION[kind], host.session.sections
    merged: dict[str, Any] = Filling(0).section(TYPES[name])
    for key, value in ((key, value) for group in groups for key, value in group_of(name, group).items()):
        if isinstance(value, dict):
            merged[key] = merged[key] | value
        else:
            merged[key] = merged[key] + value if isinstance(value, list) else value
    whole = {
        "complete": {"mounts": True, "systemd": True} | {f"docker/u{group}": True for group in groups},
        "asleep": [],
        "at": told.get(name, {}).get("at", 5000.0) + 30,
    }
    told[name] = merged | {key: value for key, value in whole.items() if key in merged}
    host.session.document["missing"].pop(name, None)
    if kind == "disk":
        told["hardware"] = told["hardware"] | {"disks": {each: {"wwn": f"w{each}"} for each in merged["disks"]}}
    if kind == "interface":
        cards = {each: {"type": "physical"} for each in merged["interfaces"]}
        told["hardware"] = told["hardware"] | {"interfaces": cards}


def switched_on(hass: HomeAssistant) -> Counter[tuple[str, str]]:
    """Count the enabled entities of each row."""
    count: Counter[tuple[str, str]] = Counter()
    for each in er.async_get(hass).entities.values():
        told = each.unique_id.removeprefix(f"{HOST_ID}_")
        rows = [row for row in ROWS if told.startswith(f"{row[0]}_") and told.endswith(f"_{row[1]}")]
        if rows:
            count[max(rows, key=lambda row: len(row[1]))] += each.disabled_by is None
    return count


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in ROWS}))
async def test_groups_of_no_kind_that_came_one_after_the_other_are_an_enabled_crowd(
    hass: HomeAssistant, host: Host, kind: str
) -> None:
    await host.start()
    for group in (1, 2, 3):
        show(host, kind, group)
        await host.move(130, step=10)
        few = sum(each for row, each in switched_on(hass).items() if row[0] == kind)
        assert few or kind in NEVER_ON, "each group was shown as few are"
        show(host, kind)
        await host.move(AWAY, step=20)
    show(host, kind, 1, 2, 3)
    await host.move(130, step=10)
    assert len(host.entry.runtime_data.inventory.items[kind]) >= 30
    assert {row: each for row, each in switched_on(hass).items() if row not in OF_EACH_OWNER and each > SHOWN} == {}


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in ROWS}))
async def test_a_crowd_that_goes_before_its_entities_are_added_is_still_one(
    hass: HomeAssistant, host: Host, kind: str
) -> None:
    await host.start()
    waiting: list[tuple[Sequence[Any], Callable[[Sequence[Any]], None]]] = []
    with patch(
        "custom_components.homelab_monitor.entity.async_spread",
        lambda _hass, _entry, items, work: waiting.append((items, work)),
    ):
        # Of one owner that many containers get no entities at all.
        for groups in ((1, 2, 3, 4), ()):
            show(host, kind, *groups)
            await host.move(130, step=10)
        for items, work in waiting:
            work(items)
        await hass.async_block_till_done()
    known = [each for each in er.async_get(hass).entities.values() if f"{HOST_ID}_{kind}_" in each.unique_id]
    assert len(known) >= 40
    assert {row: each for row, each in switched_on(hass).items() if row not in OF_EACH_OWNER and each > SHOWN} == {}


async def test_deleted_devices_are_not_remembered_without_end(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.entity.DELETED_DEVICES", 12, raising=False)
    registry = dr.async_get(hass)
    other = MockConfigEntry()
    other.add_to_hass(hass)
    device = registry.async_get_or_create(config_entry_id=other.entry_id, identifiers={("other", "1")})
    registry.async_remove_device(device.id)
    await host.start()
    for group in (1, 2, 3):
        show(host, "container", group)
        await host.move(130, step=10)
        if group == 1:
            named = next(each for each in registry._child_devices.values() if "u1" in str(each.identifiers))
            registry.async_update_child_device(named.id, name_by_user="Mine")
        show(host, "container")
        await host.move(AWAY, step=20)
    ours = [each for each in registry._deleted_devices.values() if each.config_entry_id == host.entry.entry_id]
    assert len(ours) == 12
    assert named.id in {each.id for each in ours}, "what a person has named goes last"
    assert sum("u3" in str(each.identifiers) for each in ours) == 10, "and the newest before"
    assert device.id in registry._deleted_devices, "others' are theirs"


async def test_a_host_that_is_removed_leaves_no_more_deleted_ones_behind_than_while_it_is_monitored(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.entity.DELETED_ENTITIES", 12)
    monkeypatch.setattr("custom_components.homelab_monitor.entity.DELETED_DEVICES", 4)
    show(host, "container", 1)
    await host.start()
    entities, devices = er.async_get(hass), dr.async_get(hass)
    named = next(each for each in entities.entities.values() if each.unique_id.endswith("_state"))
    entities.async_update_entity(named.entity_id, name="Mine")
    await hass.config_entries.async_remove(host.entry.entry_id)
    await hass.async_block_till_done()
    assert len(entities.deleted_entities) == 12
    assert named.unique_id in {each.unique_id for each in entities.deleted_entities.values()}
    # The host's own device goes after all that is in it.
    assert len(devices._deleted_devices) == 4 + 1


def found(day: int, count: int) -> list[FoundItem]:
    return [FoundItem(name=f"/{day}/{n}", label="x", keys={"mountpoint": f"/{day}/{n}"}) for n in range(count)]


def test_a_restart_is_no_new_beginning_for_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing was there just then, as at a first look."""
    clock = [0.0]
    monkeypatch.setattr("custom_components.homelab_monitor.client.bucket.time.monotonic", lambda: clock[0])
    inventory, ever, days = Inventory(), set[str](), 10
    for day in range(days):
        for _ in range(4):
            ever.update(inventory.match("filesystem", found(day, ITEMS_LIMIT), complete=True, now=clock[0]))
            inventory.items["filesystem"].clear()
            stored, plain = inventory.pace(), inventory.as_dict()
            inventory = restore_inventory(plain)
            inventory.keep_pace(stored, DAY / 4)
            clock[0] += DAY / 4
    burst, seconds = NEW_ITEMS
    # The monotonic clock stands still while nothing runs; here it counts as well.
    assert ITEMS_LIMIT <= len(ever) <= ITEMS_LIMIT + burst + 2 * days * DAY / seconds


@pytest.mark.parametrize("stored", [{}, {"seen": 1, "host": "x"}, {"seen": [1, None], "host": True, "guests": []}])
def test_a_pace_that_means_nothing_is_left_out(stored: dict[str, Any]) -> None:
    inventory = Inventory()
    inventory.keep_pace(stored, 0.0)
    assert (inventory.seen, inventory.pace()["host"]) == (set(), NEW_ITEMS[0])


@pytest.mark.parametrize(("left", "seconds", "after"), [(3, 0, 3), (3, 20, 5), (3, -20, 3), (-5, 10, 1), (3, 1e9, 10)])
def test_a_bucket_goes_on_where_it_was(left: float, seconds: float, after: int) -> None:
    bucket = Bucket(10, 10.0)
    bucket.set_left(left, seconds)
    assert int(bucket.left + 0.01) == after
    assert [bucket.take() for _ in range(after + 1)] == [True] * after + [False]


async def test_the_pace_is_stored(hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]) -> None:
    mount(host, *names("a"))
    await host.start()
    mount(host, *names("b", 50))
    await host.move(130, step=10)
    left = host.entry.runtime_data.inventory.newcomers[False].left
    assert left < NEW_ITEMS[0] - 40
    with patch("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session)):
        await hass.config_entries.async_reload(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
    inventory = host.entry.runtime_data.inventory
    assert inventory.newcomers[False].left == pytest.approx(left, abs=1)
    assert "filesystem" in inventory.seen
    assert hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]["pace"]["seen"]
