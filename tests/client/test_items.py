"""What items are called and known by."""

from copy import deepcopy
import json
from pathlib import Path
import time
from typing import Any

import pytest

from custom_components.homelab_monitor.client.models import Container, Containers, Sections, Service, Services
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.items import (
    ITEM_KINDS,
    Selection,
    is_named,
)
from custom_components.homelab_monitor.client.tracking.pairing import IDENTITIES, PLACES, PROVISIONAL
from custom_components.homelab_monitor.client.tracking.rates import Rates, updated
from custom_components.homelab_monitor.client.tracking.values import (
    container_name,
    container_names,
    item_values,
    services,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLAIN = json.loads((FIXTURES / "replies" / "plain.json").read_text())


def labels(kind: str, **sections: Any) -> list[str]:
    document = deepcopy(PLAIN)
    document["sections"] |= sections
    snapshot = Snapshot().merged(decode_reply("plain", json.dumps(document).encode()), 1.0, 30.0)
    found_fn = next(each.found_fn for each in ITEM_KINDS if each.key == kind)
    return [found.label for found in found_fn(snapshot, Selection())]


def gpu(number: int, name: str) -> dict[str, str]:
    return {"id": f"GPU-{number}", "vendor": "nvidia", "name": name, "pci_address": f"0000:0{number}:00.0"}


def test_a_card_is_called_by_what_distinguishes_it_from_others() -> None:
    cards = {"gpus": [gpu(1, "NVIDIA GeForce RTX 3090"), gpu(2, "NVIDIA T400 4GB")]}
    assert labels("gpu", gpu=cards) == ["RTX 3090", "T400 4GB"]


def test_two_cards_of_one_name_are_distinguished_by_their_slot() -> None:
    cards = {"gpus": [gpu(1, "NVIDIA GeForce RTX 3090"), gpu(2, "NVIDIA GeForce RTX 3090")]}
    assert labels("gpu", gpu=cards) == ["RTX 3090 01:00", "RTX 3090 02:00"]


def test_two_cards_in_the_same_slot_of_two_domains_are_distinguished_by_their_whole_address() -> None:
    cards = {"gpus": [gpu(1, "NVIDIA T400"), gpu(2, "NVIDIA T400") | {"pci_address": "0001:01:00.0"}]}
    assert labels("gpu", gpu=cards) == ["T400 01:00 (0000:01:00.0)", "T400 01:00 (0001:01:00.0)"]


def test_two_disks_of_one_model_are_distinguished_by_their_serial_numbers() -> None:
    disks = {name: {"model": "ST8000", "serial": f"WSD000{name}"} for name in ("sda", "sdb")}
    counters = {"at": 1.0, "disks": {name: {"read_bytes": 0, "written_bytes": 0} for name in disks}}
    hardware = PLAIN["sections"]["hardware"] | {"disks": disks}
    assert labels("disk", disk_io=counters, hardware=hardware) == ["ST8000 0sda", "ST8000 0sdb"]


def test_two_chips_of_a_kind_are_distinguished_by_where_they_sit() -> None:
    places = ("nvme/0000:02:00.0/temp1", "nvme/0000:0a:00.0/temp1", "drivetemp/naa.5000c50053000008/temp1", "odd")
    inputs = [{"id": place, "chip": place[:4], "label": "Composite", "celsius": 40.0} for place in places]
    inputs.append({"id": "drivetemp/naa.5000c50053000009/temp1", "chip": "driv", "label": "Composite", "celsius": 41.0})
    told = labels("temperature", sensors={"temperatures": inputs, "fans": []})
    nvme, disks = ["nvme Composite 02:00", "nvme Composite 0a:00"], ["driv Composite 000008", "driv Composite 000009"]
    assert told == [*nvme, disks[0], "odd Composite", disks[1]]


def chip(*ids: str, label: str = "SODIMM") -> list[dict[str, Any]]:
    return [{"id": each, "chip": each.split("/")[0], "label": label, "celsius": 40.0, "rpm": 900} for each in ids]


def test_three_inputs_of_one_chip_that_are_labelled_alike_are_distinguished() -> None:
    for kind, place in (("temperature", "temperatures"), ("fan", "fans")):
        for address in ("", "dell_smm_hwmon"):
            inputs = chip(*(f"dell_smm/{address}/temp{n}" for n in (2, 3, 4)))
            told = labels(kind, sensors={"temperatures": [], "fans": []} | {place: inputs})
            assert told == [f"dell_smm SODIMM temp{n}" for n in (2, 3, 4)]


def test_inputs_of_several_chips_that_are_labelled_alike_have_both_marks() -> None:
    ids = [f"dell/0000:0{n}:00.0/temp{m}" for n in (1, 2) for m in (1, 2)]
    told = labels("temperature", sensors={"temperatures": chip(*ids), "fans": []})
    assert told == [f"dell SODIMM 0{n}:00 temp{m}" for n in (1, 2) for m in (1, 2)]


def test_no_label_is_that_of_another_input() -> None:
    ids = ["a/1-0051/temp1", "a/2-0051/temp1", "a//temp1", "a//temp1#2", "a/0000:01:00.0/temp1", "a/0001:01:00.0/temp1"]
    told = labels("temperature", sensors={"temperatures": chip(*ids), "fans": []})
    assert len(set(told)) == len(ids), told
    # In another order, as at the next boot, each has the same label.
    again = labels("temperature", sensors={"temperatures": chip(*reversed(ids)), "fans": []})
    assert again == told[::-1]


def test_disks_that_report_the_same_are_distinguished_by_where_they_are_plugged_in() -> None:
    def told(**disks: dict[str, str]) -> list[str]:
        counters = {"at": 1.0, "disks": {name: {"read_bytes": 0, "written_bytes": 0} for name in disks}}
        hardware = PLAIN["sections"]["hardware"] | {"disks": {n: {"model": "QEMU"} | disk for n, disk in disks.items()}}
        return labels("disk", disk_io=counters, hardware=hardware)

    # At each boot another one may be sda.
    ports = [{"path": f"0000:00:17.0/ata{n}"} for n in (1, 2)]
    assert told(sda=ports[0], sdb=ports[1]) == ["QEMU ata1", "QEMU ata2"]
    assert told(sda=ports[1], sdb=ports[0]) == ["QEMU ata2", "QEMU ata1"]
    cards = [{"path": f"0000:0{n}:00.0/virtio1"} for n in (3, 4)]
    assert told(vda=cards[0], vdb=cards[1]) == ["QEMU 0000:03:00.0/virtio1", "QEMU 0000:04:00.0/virtio1"]
    assert told(sda={}, sdb={}) == ["QEMU sda", "QEMU sdb"]


def test_what_would_be_an_address_is_never_a_key() -> None:
    snapshot = Snapshot().merged(decode_reply("plain", json.dumps(PLAIN).encode()), 1.0, 30.0)
    for kind in ITEM_KINDS:
        for found in kind.found_fn(snapshot, Selection()):
            assert found.keys, found
            assert not any(str(value).startswith("/dev/") for value in found.keys.values())


def test_every_key_is_of_one_known_sort() -> None:
    sorts = (*IDENTITIES, *PLACES, *PROVISIONAL)
    assert len(sorts) == len(set(sorts))
    told: dict[str, set[str]] = {kind.key: set() for kind in ITEM_KINDS}
    for path in FIXTURES.glob("hosts/*/expected.json"):
        snapshot = Snapshot().merged(decode_reply("recorded", path.read_bytes()), 1.0, 30.0)
        for kind in ITEM_KINDS:
            for found in kind.found_fn(snapshot, Selection()):
                told[kind.key] |= found.keys.keys()
                # The strongest first, of which the id is made.
                assert [sorts.index(key) for key in found.keys] == sorted(map(sorts.index, found.keys))
    assert all(told.values()), told
    assert {"path", "wwn"} <= told["disk"]


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("hosts/*/expected.json")), ids=lambda path: path.parent.name)
def test_every_item_has_a_value_by_its_name(path: Path) -> None:
    snapshot = Snapshot().merged(decode_reply("recorded", path.read_bytes()), 1.0, 30.0)
    values = item_values(snapshot, updated(Rates(), Snapshot(), snapshot))
    assert list(values) == [kind.key for kind in ITEM_KINDS]
    for kind in ITEM_KINDS:
        assert {found.name for found in kind.found_fn(snapshot, Selection())} <= values[kind.key].keys()


# ---------------------------------------------------------------- templates of services


def told_units(*units: tuple[str, str]) -> Snapshot:
    """Return a snapshot with these units, by name and state."""
    told = tuple(Service(name=name, active_state=state) for name, state in units)
    return Snapshot(sections=Sections(services=Services(counts={}, units=told)))


def test_a_control_group_is_a_container_of_its_own_users_engine_only() -> None:
    ours, theirs, roots, twin = "b0" * 32, "e0" * 32, "a0" * 32, "c0" * 32
    told = [
        Container(engine="podman", owner="bob", uid=1500, id=ours[:12], name="postgres", state="running"),
        Container(engine="podman", owner="eve", uid=1501, id=theirs[:12], name="game", state="running"),
        Container(engine="docker", owner="root", id=roots[:12], name="vault", state="running"),
        Container(engine="podman", owner="bob", uid=1500, id=twin[:12], name="twin", state="running"),
        Container(engine="podman", owner="eve", uid=1501, id=twin[:12], name="fake", state="running"),
        Container(engine="podman", owner="eve", uid=1501, id=roots[:12], name="fake", state="running"),
    ]
    section = Containers(at=1.0, engines=(), containers=tuple(told))
    names = container_names(Snapshot(sections=Sections(containers=section)))
    bobs, eves = "user@1500.service", "user@1501.service/libpod.service"
    for ident, unit, name in (
        (ours, bobs, "postgres"),
        (ours, eves, ours),
        (theirs, eves, "game"),
        (theirs, bobs, theirs),
        (roots, bobs, roots),
        (roots, eves, "fake"),
        (roots, "user@0.service", "vault"),
        (roots, "web.service", "vault"),
        (roots, None, "vault"),
        (twin, bobs, "twin"),
        (twin, eves, "fake"),
        (ours, None, ours),
        ("d0" * 32, None, "d0" * 32),
        (None, bobs, None),
    ):
        assert container_name(names, ident, unit) == name, (ident, unit)


def connection(number: int) -> str:
    """Return the unit of a connection, as systemd calls it for a socket with Accept=yes."""
    return f"sshd@{number}-192.0.2.1:22-192.0.2.9:{40000 + number}.service"


@pytest.mark.parametrize(("count", "names"), [(5, 5), (6, 1), (2000, 1)])
def test_of_many_instances_one_service_stands_for_all(count: int, names: int) -> None:
    units = [(connection(number), "active") for number in range(count)]
    found = services(told_units(("nginx.service", "failed"), *units))
    assert len(found) == 1 + names
    assert found[0].name == "nginx.service"
    if names == 1:
        assert (found[1].name, found[1].active_state) == ("sshd@.service", "active")


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (["active", "failed", "inactive"], "failed"),
        (["active", "activating"], "activating"),
        (["inactive", "active"], "active"),
        (["inactive"], "inactive"),
    ],
)
def test_the_worst_state_is_that_of_all(states: list[str], together: str) -> None:
    units = [(connection(number), states[number % len(states)]) for number in range(12)]
    assert [unit.active_state for unit in services(told_units(*units))] == [together]


def test_many_templates_cost_no_more_than_as_many_units() -> None:
    names = [f"t{number // 6}@{number}.service" for number in range(12_000)]
    told = told_units(*((name, "failed") for name in names))
    started = time.process_time()
    assert [unit.name for unit in services(told)] == sorted(f"t{number}@.service" for number in range(2000))
    assert time.process_time() - started < 0.3, "it took half a minute with a look at all units for each template"


def test_instances_of_different_templates_are_counted_apart() -> None:
    units = [(f"wg-quick@wg{number}.service", "active") for number in range(4)]
    units += [(f"getty@tty{number}.service", "active") for number in range(4)]
    assert len(services(told_units(*units))) == 8


def test_a_name_with_brackets_that_was_chosen_is_meant() -> None:
    assert is_named("/mnt/Movies [4K]", ["/mnt/Movies [4K]"])
    assert is_named("/mnt/Movies 4", ["/mnt/Movies [4K]"])
    assert not is_named("/mnt/Movies [4]", ["/mnt/Movies [4K]"])
