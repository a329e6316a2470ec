"""What a life brings: items appear, vanish, come back, and are known by other keys than before.

Each kind of item lives through the same weeks. Its entities keep their registry entries, and so their history and
whatever a user made of them, until the item is gone for good: missed by complete inventories over a day.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest

from custom_components.homelab_monitor.client.errors import Unreachable

from .scripted import HOST_ID, Host

DAY = 24 * 3600.0
INTERVAL = 300.0

type Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Life:
    """One item of a kind: how it comes and goes on the host, and how its list ceases to be whole."""

    kind: str
    first_id: str
    """The id that it gets at first sight."""
    come: Callable[[Document], None]
    go: Callable[[Document], None]
    rekey: Callable[[Document], None] = lambda _: None
    """What it is known by changes, once a stronger key than before has been seen or stays."""
    break_list: Callable[[Document], None]
    mend_list: Callable[[Document], None]

    devices: frozenset[str] = frozenset()
    """What devices it has of its own, by name."""

    def __str__(self) -> str:
        return self.kind

    def come_back(self, document: Document) -> None:
        """Let it be there again as it was last, whatever that is called now."""
        for change in (self.come, self.rekey, self.rekey):
            change(document)


def _set(*path: str, value: object) -> Callable[[Document], None]:
    """Return what sets a value in the sections of a reply."""

    def change(document: Document) -> None:
        place = document["sections"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def _all(*changes: Callable[[Document], None]) -> Callable[[Document], None]:
    """Return what makes several changes."""

    def change(document: Document) -> None:
        for each in changes:
            each(document)

    return change


def _listed(section: str, name: str, item: Document) -> Callable[[Document], None]:
    """Return what adds an item to a list."""
    return lambda document: document["sections"][section][name].append(dict(item))


def _unlisted(section: str, name: str, key: str, *values: str) -> Callable[[Document], None]:
    """Return what takes an item out of a list."""

    def change(document: Document) -> None:
        place = document["sections"][section]
        place[name] = [item for item in place[name] if item[key] not in values]

    return change


def _dropped(section: str, name: str, *keys: str) -> Callable[[Document], None]:
    """Return what takes items out of a mapping."""

    def change(document: Document) -> None:
        for key in keys:
            document["sections"][section][name].pop(key, None)

    return change


def _fails(section: str) -> Callable[[Document], None]:
    """Return what makes a section fail, whatever it could tell."""

    def change(document: Document) -> None:
        document["errors"][section] = "it does not work"

    return change


def _works(section: str) -> Callable[[Document], None]:
    """Return what makes a section work again."""
    return lambda document: document["errors"].pop(section)


def _without(section: str) -> Callable[[Document], None]:
    """Return what makes a section say that there is none of its kind."""

    def change(document: Document) -> None:
        document["sections"].pop(section, None)
        document["missing"][section] = "not_installed"

    return change


def _with_gpu(**keys: str) -> Callable[[Document], None]:
    """Return what puts a card in."""

    def change(document: Document) -> None:
        document["missing"].pop("gpu", None)
        card = {"vendor": "nvidia", "name": "RTX 4090", "usage_percent": 12.0, "temperature_celsius": 40.0} | keys
        document["sections"]["gpu"] = {"at": 1.0, "gpus": [card]}

    return change


BACKUP = {
    "mountpoint": "/backup",
    "device": "/dev/sdc1",
    "type": "ext4",
    "total_bytes": 1000,
    "used_bytes": 500,
    "available_bytes": 500,
    "read_only": False,
}
DISK = {"read_bytes": 1000, "written_bytes": 1000, "busy_seconds": 1.0}
CARD = {"receive_bytes": 0, "transmit_bytes": 0}
CONTAINER = {
    "engine": "docker",
    "owner": "root",
    "id": "0123456789ab",
    "name": "web",
    "state": "running",
    "health": "healthy",
    "restarts": 0,
    "cpu_seconds": 12.0,
    "memory_bytes": 5_000_000,
}
LIVES = (
    Life(
        kind="filesystem",
        first_id="/backup",
        come=_listed("filesystems", "filesystems", BACKUP),
        go=_unlisted("filesystems", "filesystems", "mountpoint", "/backup", "/mnt/backup"),
        # Its UUID becomes readable; later it is mounted somewhere else.
        rekey=lambda document: document["sections"]["filesystems"]["filesystems"][-1].update(
            {"uuid": "cccc-3333"}
            if "uuid" not in document["sections"]["filesystems"]["filesystems"][-1]
            else {"mountpoint": "/mnt/backup", "device": "/dev/sdd1"}
        ),
        break_list=_set("filesystems", "complete", "mounts", value=False),
        mend_list=_set("filesystems", "complete", "mounts", value=True),
    ),
    Life(
        kind="disk",
        first_id="sdb",
        come=_all(
            _set("disk_io", "disks", "sdb", value=dict(DISK)),
            _set("hardware", "disks", "sdb", value={"size_bytes": 1000}),
        ),
        go=_all(_dropped("disk_io", "disks", "sdb", "sdc"), _dropped("hardware", "disks", "sdb", "sdc")),
        # Its serial number becomes readable; later it is plugged in somewhere else.
        rekey=lambda document: (
            _set("hardware", "disks", "sdb", value={"size_bytes": 1000, "serial": "WSD0001"})(document)
            if "serial" not in document["sections"]["hardware"]["disks"].get("sdb", {"serial": ""})
            else _all(
                _dropped("disk_io", "disks", "sdb"),
                _dropped("hardware", "disks", "sdb"),
                _set("disk_io", "disks", "sdc", value=dict(DISK)),
                _set("hardware", "disks", "sdc", value={"size_bytes": 1000, "serial": "WSD0001"}),
            )(document)
        ),
        break_list=_fails("hardware"),
        mend_list=_works("hardware"),
    ),
    Life(
        kind="interface",
        first_id="eth1",
        come=_all(
            _set("network", "interfaces", "eth1", value=dict(CARD)),
            _set("hardware", "interfaces", "eth1", value={"type": "physical"}),
        ),
        go=_all(
            _dropped("network", "interfaces", "eth1", "lan1"),
            _dropped("hardware", "interfaces", "eth1", "lan1"),
        ),
        # Its burnt-in address becomes readable; later it has another name.
        rekey=lambda document: (
            _set(
                "hardware",
                "interfaces",
                "eth1",
                value={"type": "physical", "permanent_mac": "02:00:00:00:00:09"},
            )(document)
            if "permanent_mac" not in document["sections"]["hardware"]["interfaces"].get("eth1", {"permanent_mac": ""})
            else _all(
                _dropped("network", "interfaces", "eth1"),
                _dropped("hardware", "interfaces", "eth1"),
                _set("network", "interfaces", "lan1", value=dict(CARD)),
                _set(
                    "hardware",
                    "interfaces",
                    "lan1",
                    value={"type": "physical", "permanent_mac": "02:00:00:00:00:09"},
                ),
            )(document)
        ),
        break_list=_fails("hardware"),
        mend_list=_works("hardware"),
    ),
    Life(
        kind="gpu",
        first_id="0000:01:00.0",
        come=_with_gpu(id="0000:01:00.0", pci_address="0000:01:00.0"),
        go=_without("gpu"),
        # Its UUID becomes readable; later it sits in another slot.
        rekey=lambda document: (
            _with_gpu(id="GPU-1c2b", uuid="GPU-1c2b", pci_address="0000:01:00.0")(document)
            if "uuid" not in document["sections"]["gpu"]["gpus"][0]
            else _with_gpu(id="GPU-1c2b", uuid="GPU-1c2b", pci_address="0000:0a:00.0")(document)
        ),
        break_list=_fails("gpu"),
        mend_list=_works("gpu"),
    ),
    Life(
        kind="service",
        first_id="system/web.service",
        come=_listed(
            "services",
            "units",
            {"name": "web.service", "load_state": "loaded", "active_state": "active", "origin": "admin"},
        ),
        go=_unlisted("services", "units", "name", "web.service"),
        break_list=_set("services", "complete", "systemd", value=False),
        mend_list=_set("services", "complete", "systemd", value=True),
    ),
    Life(
        kind="container",
        first_id="docker/root/web",
        devices=frozenset({"web"}),
        come=_listed("containers", "containers", CONTAINER),
        go=_unlisted("containers", "containers", "name", "web"),
        # It is made anew, with another id and counters that begin at nothing.
        rekey=lambda document: document["sections"]["containers"]["containers"][-1].update(
            id=f"{int(document['sections']['containers']['containers'][-1]['id'], 16) + 1:012x}", cpu_seconds=0.0
        ),
        break_list=_set("containers", "complete", "docker/root", value=False),
        mend_list=_set("containers", "complete", "docker/root", value=True),
    ),
)


def devices_of(hass: HomeAssistant, entry_id: str) -> set[str]:
    """Return the names of the children of the host's device."""
    return {device.name for device in dr.async_get(hass).child_devices if device.config_entry_id == entry_id}


@pytest.fixture
def all_enabled() -> Iterator[None]:
    """Enable every entity."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", new=True):
        yield


class Witness:
    """What the registry and the states say of one item's entities."""

    def __init__(self, hass: HomeAssistant, life: Life, entry_id: str) -> None:
        self.hass = hass
        self.registry = er.async_get(hass)
        self.entry_id = entry_id
        self.prefix = f"{HOST_ID}_{life.kind}_{life.first_id}_"
        self.first = self.entries()
        assert self.first, f"{life.kind} has no entities"
        # What a user made of it.
        for entity_id, _ in list(self.first.values())[:1]:
            renamed = self.registry.async_update_entity(entity_id, new_entity_id="sensor.mine", name="Mine")
            self.first[renamed.unique_id] = ("sensor.mine", renamed.id)

    def entries(self) -> dict[str, tuple[str, str]]:
        """Return entity id and registry id by unique id."""
        entries = er.async_entries_for_config_entry(self.registry, self.entry_id)
        return {e.unique_id: (e.entity_id, e.id) for e in entries if e.unique_id.startswith(self.prefix)}

    def states(self) -> set[bool]:
        """Return whether the entities are available: one answer for all of them."""
        found = [self.hass.states.get(entity_id) for entity_id, _ in self.first.values()]
        return {state is not None and state.state != "unavailable" for state in found}

    def expect(self, *, available: bool) -> None:
        """All entities are the same as ever, and all of them are available, or none."""
        assert self.entries() == self.first
        assert self.states() == {available}


def entities_of(hass: HomeAssistant, entry_id: str) -> set[str]:
    """Return the unique ids of all items' entities."""
    entries = er.async_entries_for_config_entry(er.async_get(hass), entry_id)
    return {entry.unique_id for entry in entries if not entry.unique_id.startswith(f"{HOST_ID}_host_")}


@pytest.mark.parametrize("life", LIVES, ids=str)
async def test_an_item_lives_through_weeks(  # noqa: PLR0915 - a life is long
    hass: HomeAssistant, host: Host, life: Life, all_enabled: None
) -> None:
    document = host.session.document

    async def pass_by(seconds: float) -> None:
        await host.move(seconds, step=INTERVAL)

    document["sections"]["containers"] = {
        "at": 5000.0,
        "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
        "complete": {"docker/root": True},
        "containers": [CONTAINER | {"name": "db", "id": "ba9876543210"}],
    }
    await host.start(interval=INTERVAL)
    await pass_by(2 * INTERVAL)
    others, devices = entities_of(hass, host.entry.entry_id), devices_of(hass, host.entry.entry_id)

    # It appears, within two polls: what a new disk is has to be asked for.
    life.come(document)
    await pass_by(3 * INTERVAL)
    witness = Witness(hass, life, host.entry.entry_id)
    everything = entities_of(hass, host.entry.entry_id)
    assert devices_of(hass, host.entry.entry_id) - devices == life.devices
    await pass_by(INTERVAL)
    witness.expect(available=True)

    # It is known by more than before, then by something else.
    for _ in range(2):
        life.rekey(document)
        await pass_by(1200)
        witness.expect(available=True)
        assert entities_of(hass, host.entry.entry_id) == everything

    # It is away for some hours, in which Home Assistant is started anew.
    life.go(document)
    await pass_by(1200)
    witness.expect(available=False)
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await pass_by(3600)
    witness.expect(available=False)

    # Then the host itself is off for a day: nobody looked.
    host.session.error = Unreachable("plain")
    await pass_by(1.2 * DAY)
    witness.expect(available=False)
    host.session.error = None
    life.come_back(document)
    await pass_by(1200)
    witness.expect(available=True)

    # Lists that are not whole miss nothing, however long.
    life.go(document)
    await pass_by(1200)
    witness.expect(available=False)
    life.break_list(document)
    await pass_by(1.2 * DAY)
    witness.expect(available=False)
    life.mend_list(document)
    life.come_back(document)
    await pass_by(2400)
    witness.expect(available=True)

    # It is gone for good: after a day, not before, and with nothing but its own.
    life.go(document)
    await pass_by(0.98 * DAY)
    witness.expect(available=False)
    await pass_by(0.1 * DAY)
    assert witness.entries() == {}
    assert hass.states.get("sensor.mine") is None
    assert entities_of(hass, host.entry.entry_id) == others
    assert devices_of(hass, host.entry.entry_id) == devices

    # Should it ever come after that, Home Assistant itself remembers what it was called.
    life.come(document)
    await pass_by(1200)
    witness.expect(available=True)


async def test_an_hour_of_failing_connections_makes_one_service_of_them(hass: HomeAssistant, host: Host) -> None:
    units = host.session.sections["services"]["units"]
    units.clear()
    await host.start()
    registry = er.async_get(hass)
    before = len(er.async_entries_for_config_entry(registry, host.entry.entry_id))
    for number in range(180):
        name = f"sshd@{number}-192.0.2.1:22-192.0.2.9:{40000 + number}.service"
        units.append({"name": name, "load_state": "loaded", "active_state": "failed", "sub_state": "failed"})
        if number % 3 == 2:
            await host.move(60, step=30)
    found = [each.entity_id for each in er.async_entries_for_config_entry(registry, host.entry.entry_id)]
    assert len(found) - before <= 7, "the first five, and one for all"
    assert any("sshd" in each for each in found)
    problem = hass.states.get("binary_sensor.plain_problem")
    assert "sshd@.service" in str(problem.attributes)
