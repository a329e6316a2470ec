"""What items are called and known by."""

from copy import deepcopy
import json
from pathlib import Path
from typing import Any

from custom_components.homelab_monitor.client.items import ITEM_KINDS, Selection
from custom_components.homelab_monitor.client.snapshot import Snapshot, decode_reply

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())


def labels(kind: str, **sections: Any) -> list[str]:
    document = deepcopy(PLAIN)
    document["sections"] |= sections
    snapshot = Snapshot().merged(decode_reply("plain", json.dumps(document).encode()), 1.0, 30.0)
    found_fn = next(each.found_fn for each in ITEM_KINDS if each.key == kind)
    return [found.label for found in found_fn(snapshot, Selection())]


def gpu(number: int, name: str) -> dict[str, str]:
    return {"id": f"GPU-{number}", "vendor": "nvidia", "name": name, "pci_address": f"0000:0{number}:00.0"}


def test_a_card_is_called_by_what_tells_it_from_others() -> None:
    cards = {"gpus": [gpu(1, "NVIDIA GeForce RTX 3090"), gpu(2, "NVIDIA T400 4GB")]}
    assert labels("gpu", gpu=cards) == ["RTX 3090", "T400 4GB"]


def test_two_cards_of_one_name_are_told_apart_by_their_slot() -> None:
    cards = {"gpus": [gpu(1, "NVIDIA GeForce RTX 3090"), gpu(2, "NVIDIA GeForce RTX 3090")]}
    assert labels("gpu", gpu=cards) == ["RTX 3090 01:00", "RTX 3090 02:00"]


def test_two_disks_of_one_model_are_told_apart_by_their_serial_numbers() -> None:
    disks = {name: {"model": "ST8000", "serial": f"WSD000{name}"} for name in ("sda", "sdb")}
    counters = {"at": 1.0, "disks": {name: {"read_bytes": 0, "written_bytes": 0} for name in disks}}
    hardware = PLAIN["sections"]["hardware"] | {"disks": disks}
    assert labels("disk", disk_io=counters, hardware=hardware) == ["ST8000 0sda", "ST8000 0sdb"]


def test_two_chips_of_a_kind_are_told_apart_by_where_they_sit() -> None:
    places = ("nvme/0000:02:00.0/temp1", "nvme/0000:0a:00.0/temp1", "drivetemp/naa.5000c50053000008/temp1", "odd")
    inputs = [{"id": place, "chip": place[:4], "label": "Composite", "celsius": 40.0} for place in places]
    inputs.append({"id": "drivetemp/naa.5000c50053000009/temp1", "chip": "driv", "label": "Composite", "celsius": 41.0})
    told = labels("temperature", sensors={"temperatures": inputs, "fans": []})
    nvme, disks = ["nvme Composite 02:00", "nvme Composite 0a:00"], ["driv Composite 000008", "driv Composite 000009"]
    assert told == [*nvme, disks[0], "odd Composite", disks[1]]


def test_what_would_be_an_address_is_never_a_key() -> None:
    snapshot = Snapshot().merged(decode_reply("plain", json.dumps(PLAIN).encode()), 1.0, 30.0)
    for kind in ITEM_KINDS:
        for found in kind.found_fn(snapshot, Selection()):
            assert found.keys, found
            assert not any(str(value).startswith("/dev/") for value in found.keys.values())
