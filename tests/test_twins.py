"""Items of a host that report the same serial number, MAC or UUID, in a Home Assistant with real registries."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest

from custom_components.homelab_monitor.client.limits import ITEMS_LIMIT, STORE_SAVES
from custom_components.homelab_monitor.client.tracking import inventory
from custom_components.homelab_monitor.store import SAVE_DELAY_SECONDS

from .scripted import Host

DISK = {"read_bytes": 1000, "written_bytes": 0, "busy_seconds": 1.0}
CARD = {"receive_bytes": 1000, "transmit_bytes": 1000}
MAC = "02:00:00:00:00:0a"
DAY = 24 * 3600


def dock(sections: dict[str, Any], *, with_path: bool = True) -> None:
    """Plug in a dock whose bays have one serial number."""
    for lun, name in enumerate(("sdx", "sdy")):
        sections["disk_io"]["disks"][name] = dict(DISK)
        hardware = {"size_bytes": 10**12, "model": "USB Dock", "serial": "152D00539000"}
        place = {"path": f"0000:00:14.0/usb1/2:1.0/host1/0:0:{lun}"} if with_path else {}
        sections["hardware"]["disks"][name] = hardware | place


def blind_dock(sections: dict[str, Any]) -> None:
    """Plug in the same on a machine whose sysfs does not tell where."""
    dock(sections, with_path=False)


def switch(sections: dict[str, Any]) -> None:
    """Give it the ports of a switch, which have one MAC."""
    for name in ("lan0", "lan1", "lan2", "wan"):
        sections["network"]["interfaces"][name] = dict(CARD)
        sections["hardware"]["interfaces"][name] = {"type": "physical", "mac": MAC, "permanent_mac": MAC}


def snapshots(sections: dict[str, Any]) -> None:
    """Mount three snapshots of the root filesystem, which have its UUID."""
    mounted = sections["filesystems"]["filesystems"]
    mounted += [mounted[0] | {"mountpoint": f"/mnt/snapshot{number}"} for number in range(3)]


def cards(sections: dict[str, Any]) -> None:
    """Put in two cards that tell one UUID, and chips that tell one name."""
    card = {"uuid": "GPU-0", "vendor": "nvidia", "name": "T400", "usage_percent": 1.0, "temperature_celsius": 40.0}
    twins = [card | {"id": pci, "pci_address": pci} for pci in ("0000:01:00.0", "0000:02:00.0")]
    sections["gpu"] = {"at": 1.0, "gpus": twins}
    sections["sensors"]["temperatures"] = [
        {"id": f"acpitz//temp1{mark}", "chip": "acpitz", "label": "temp1", "celsius": 30.0} for mark in ("", "#2")
    ]


def entity_ids(hass: HomeAssistant, host: Host) -> dict[str, str]:
    """Return entity id by unique id."""
    entries = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    return {entry.unique_id: entry.entity_id for entry in entries}


@pytest.mark.parametrize("plug", [dock, blind_dock, switch, snapshots, cards])
async def test_twins_have_the_same_entities_after_thirty_polls_and_restarts(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any], plug: Any
) -> None:
    plug(host.session.sections)
    for reasons in (host.session.document["missing"], host.session.document["errors"]):
        reasons.pop("gpu", None)
    await host.start()
    await host.move(30, step=10)
    first = entity_ids(hass, host)
    devices = len(dr.async_entries_for_config_entry(dr.async_get(hass), host.entry.entry_id))
    for _ in range(2):
        assert await hass.config_entries.async_unload(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        await host.start_again()
        assert await host.polls(300, step=10) >= 29
        assert entity_ids(hass, host) == first
    assert len(dr.async_entries_for_config_entry(dr.async_get(hass), host.entry.entry_id)) == devices


async def test_a_disk_that_is_plugged_in_beside_twins_is_one_more(hass: HomeAssistant, host: Host) -> None:
    dock(host.session.sections)
    await host.start()
    await host.move(60, step=10)
    before = len(host.entry.runtime_data.inventory.items["disk"])
    host.session.sections["disk_io"]["disks"]["sdz"] = dict(DISK)
    host.session.sections["hardware"]["disks"]["sdz"] = {"size_bytes": 10**9, "model": "Stick", "serial": "ABC"}
    await host.move(700, step=10)
    assert len(host.entry.runtime_data.inventory.items["disk"]) == before + 1


async def test_twins_are_called_apart(hass: HomeAssistant, host: Host) -> None:
    dock(host.session.sections)
    await host.start()
    await host.move(30, step=10)
    entries = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    names = [entry.original_name for entry in entries if "USB Dock" in (entry.original_name or "")]
    assert len(names) == len(set(names)) > 2
    assert {"(2)" in name for name in names} == {True, False}


async def test_what_had_multiplied_leaves_with_its_entities(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version gave twins new ids at each poll; its store and its registry entries are still there."""
    dock(host.session.sections)
    await host.start()
    await host.move(30, step=10)
    first = entity_ids(hass, host)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    stored = hass_storage[f"homelab_monitor.{host.entry.entry_id}"]["data"]
    disks = stored["inventory"]["disk"]
    for known in disks.values():
        known["keys"].pop("path", None)
        known.pop("number")
    (twin,) = (known for item_id, known in disks.items() if item_id == "152D00539000")
    for number in range(3, ITEMS_LIMIT + 40):
        disks[f"152D00539000#{number}"] = twin | {"keys": dict(twin["keys"])}
    for disk in stored["snapshot"]["sections"]["hardware"]["disks"].values():
        disk.pop("path", None)
    registry = er.async_get(hass)
    for unique_id in [each for each in first if "152D00539000#2" in each]:
        for number in (3, 4, ITEMS_LIMIT + 39):
            registry.async_get_or_create(
                "sensor",
                "homelab_monitor",
                unique_id.replace("#2", f"#{number}"),
                config_entry=host.entry,
            )
    assert len(entity_ids(hass, host)) > len(first)

    await host.start_again()
    await host.move(60, step=10)
    assert len(host.entry.runtime_data.inventory.items["disk"]) <= ITEMS_LIMIT
    assert not [each for each in entity_ids(hass, host) if f"#{ITEMS_LIMIT + 39}" in each]
    monkeypatch.setattr(inventory, "GONE_SECONDS", 3600.0)
    await host.move(4000, step=10)
    assert entity_ids(hass, host) == first


async def test_a_host_that_makes_things_up_has_no_file_written_at_every_poll(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    store = host.entry.runtime_data.store
    await host.move(60, step=10)
    written = []
    plain = store._plain
    monkeypatch.setattr(store, "_plain", lambda: written.append(1) or plain())
    mounted = host.session.sections["filesystems"]["filesystems"]
    known = host.entry.runtime_data.inventory.items["filesystem"]
    before, hours = len(known), 2
    for number in range(hours * 60):
        mounted.append(mounted[0] | {"mountpoint": f"/made-up/{number}", "uuid": f"made-up-{number}"})
        await host.move(60, step=30)
    assert len(known) == before + hours * 60
    burst, every_seconds = STORE_SAVES
    at_once = burst + hours * 3600 / every_seconds
    assert burst <= len(written) <= at_once + hours * 3600 / SAVE_DELAY_SECONDS + 1
