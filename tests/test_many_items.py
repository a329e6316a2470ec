"""Of more items of a kind than people read, only chosen ones have entities that are enabled by themselves."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS, SHOWN

from .scripted import HOST_ID, Host
from .test_containers import crowd as containers

type Sections = dict[str, Any]
DAY = 86400


@dataclass(frozen=True)
class Many:
    """How a host comes to many items of a kind, and how one of them is chosen."""

    fill: Callable[[Sections, int], None]
    option: dict[str, list[str]] | None = None
    chosen: int = 0
    """How many entities of the items that the option names are enabled."""
    on: int = 0
    """How many entities of one item are enabled by themselves."""
    always_on: int = 0
    """Those that are enabled in any crowd: of the primary interface."""


def filesystems(sections: Sections, count: int) -> None:
    row = sections["filesystems"]["filesystems"][0]
    sections["filesystems"]["filesystems"] = [
        row | {"mountpoint": f"/mnt/d{n:02}", "uuid": f"u{n:02}", "device": f"/dev/d{n}"} for n in range(count)
    ]


def disks(sections: Sections, count: int) -> None:
    names = [f"sd{n:02}" for n in range(count)]
    sections["disk_io"]["disks"] = dict.fromkeys(names, next(iter(sections["disk_io"]["disks"].values())))
    sections["hardware"]["disks"] = {
        name: {"size_bytes": 10**9, "model": "Disk", "wwn": f"naa.{name}"} for name in names
    }


def interfaces(sections: Sections, count: int) -> None:
    names = ["eth0", *(f"eth{n}" for n in range(1, count))]
    sections["network"]["interfaces"] = dict.fromkeys(names, sections["network"]["interfaces"]["eth0"])
    sections["hardware"]["interfaces"] = {name: {"type": "ethernet"} for name in names}


def gpus(sections: Sections, count: int) -> None:
    sections["gpu"] = {
        "gpus": [
            {
                "id": f"GPU-{n:02}",
                "uuid": f"GPU-{n:02}",
                "vendor": "nvidia",
                "name": "NVIDIA A100",
                "pci_address": f"0000:{n:02x}:00.0",
                "usage_percent": 4.0,
                "temperature_celsius": 40.0,
            }
            for n in range(count)
        ]
    }


def services(sections: Sections, count: int) -> None:
    row = sections["services"]["units"][0]
    sections["services"]["units"] = [row | {"name": f"unit{n:02}.service", "origin": "admin"} for n in range(count)]


def temperatures(sections: Sections, count: int) -> None:
    row = sections["sensors"]["temperatures"][0]
    sections["sensors"]["temperatures"] = [row | {"id": f"chip/{n}/temp1", "label": f"t{n}"} for n in range(count)]


def fans(sections: Sections, count: int) -> None:
    row = sections["sensors"]["fans"][0]
    sections["sensors"]["fans"] = [row | {"id": f"chip/{n}/fan1", "label": f"f{n}"} for n in range(count)]


def put_containers(sections: Sections, count: int) -> None:
    sections["containers"] = containers(count)


MANY = {
    "filesystem": Many(filesystems, {"filesystems": ["/mnt/d01/", "/mnt/d1*"]}, chosen=11, on=1),
    "disk": Many(disks),
    "interface": Many(interfaces, {"interfaces": ["eth3"]}, chosen=2, always_on=2),
    "gpu": Many(gpus, on=2),
    "service": Many(services, {"services": ["unit01.service", "unit1*"]}, chosen=11, on=1),
    "container": Many(put_containers, {"containers": ["c01", "c1*"]}, chosen=11 * 5, on=5),
    "temperature": Many(temperatures),
    "fan": Many(fans),
}


def entities(hass: HomeAssistant, host: Host, kind: str) -> dict[str, bool]:
    """Return the unique ids of a kind's entities, and whether each is enabled."""
    known = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    start = f"{HOST_ID}_{kind}_"
    return {each.unique_id: each.disabled_by is None for each in known if each.unique_id.startswith(start)}


def enabled(hass: HomeAssistant, host: Host, kind: str) -> set[str]:
    return {unique_id for unique_id, is_on in entities(hass, host, kind).items() if is_on}


def fill(host: Host, kind: str, count: int) -> None:
    host.session.document["missing"].pop("gpu", None)
    MANY[kind].fill(host.session.sections, count)


def test_every_kind_of_item_has_a_limit() -> None:
    assert MANY.keys() == {kind.key for kind in ITEM_KINDS}
    # Containers are limited by owner, before they become items.
    assert {kind.key for kind in ITEM_KINDS if kind.shown is None} == {"container"}


@pytest.mark.parametrize("kind", MANY)
async def test_as_many_as_people_read_are_enabled(hass: HomeAssistant, host: Host, kind: str) -> None:
    fill(host, kind, SHOWN)
    await host.start()
    many = MANY[kind]
    assert len(enabled(hass, host, kind)) == SHOWN * many.on + many.always_on


@pytest.mark.parametrize("kind", MANY)
async def test_of_more_none_is_enabled_by_itself(hass: HomeAssistant, host: Host, kind: str) -> None:
    fill(host, kind, 40)
    await host.start()
    assert len(enabled(hass, host, kind)) == MANY[kind].always_on
    assert kind == "container" or len(entities(hass, host, kind)) >= 40


@pytest.mark.parametrize("kind", [kind for kind, many in MANY.items() if many.option])
async def test_of_more_the_chosen_ones_are_enabled(hass: HomeAssistant, host: Host, kind: str) -> None:
    many = MANY[kind]
    fill(host, kind, 40)
    await host.start(**(many.option or {}))
    assert len(enabled(hass, host, kind)) == many.chosen + many.always_on


@pytest.mark.parametrize("kind", MANY)
async def test_those_that_are_enabled_stay_so_when_more_come(
    hass: HomeAssistant, host: Host, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(host, kind, SHOWN)
    await host.start()
    before, known = enabled(hass, host, kind), entities(hass, host, kind)
    fill(host, kind, 40)
    await host.move(1300, step=20)
    assert enabled(hass, host, kind) == before
    monkeypatch.setattr("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session))
    await hass.config_entries.async_reload(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert enabled(hass, host, kind) == before
    assert entities(hass, host, kind).keys() >= known.keys()


@pytest.mark.parametrize("kind", ["filesystem", "service"])
async def test_choosing_one_of_many_enables_it_and_the_end_of_that_disables_it(
    hass: HomeAssistant, host: Host, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(host, kind, 40)
    await host.start()
    monkeypatch.setattr("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session))
    for option, count in ((MANY[kind].option, 11), ({}, 0)):
        hass.config_entries.async_update_entry(host.entry, options=deepcopy(option) or {})
        await hass.config_entries.async_reload(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert len(enabled(hass, host, kind)) == count


@pytest.mark.parametrize("kind", ["filesystem", "service"])
async def test_the_end_of_a_choice_takes_nothing_away_where_there_are_few(
    hass: HomeAssistant, host: Host, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(host, kind, 12)
    await host.start(**(MANY[kind].option or {}))
    before = enabled(hass, host, kind)
    assert len(before) == 12
    monkeypatch.setattr("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session))
    hass.config_entries.async_update_entry(host.entry, options={})
    await hass.config_entries.async_reload(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert enabled(hass, host, kind) == before


async def test_items_that_come_one_at_a_time_are_a_crowd_as_well(hass: HomeAssistant, host: Host) -> None:
    sections = host.session.sections
    filesystem = sections["filesystems"]["filesystems"][0]
    await host.start()
    for number in range(2 * SHOWN):
        name = f"x{number}"
        sections["filesystems"]["filesystems"] = [filesystem | {"mountpoint": f"/mnt/{name}", "uuid": name}]
        sections["network"]["interfaces"][name] = {"receive_bytes": 0, "transmit_bytes": 0}
        sections["hardware"]["interfaces"][name] = {"type": "ethernet"}
        sections["network"]["primary"] = name
        await host.move(70, step=35)
    entries = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    for kind, each_has in (("filesystem", 1), ("interface", 2)):
        mine = [each for each in entries if f"_{kind}_" in each.unique_id]
        assert len(mine) > 2 * SHOWN
        assert 1 < sum(each.disabled_by is None for each in mine) <= SHOWN * each_has
