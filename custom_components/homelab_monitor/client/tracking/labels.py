"""What alike items are called: by marks that tell them apart, and that a reboot does not change.

An item's mark is written on it, or says where it sits. What no mark tells apart is numbered by the inventory, for good.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
import re

from ..models import DiskHardware, Fan, Temperature

_PCI = re.compile(r"[0-9a-f]{4,8}:([0-9a-f]{2}:[0-9a-f]{2})\.[0-7]")


def told_apart(names: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
    """Return a label per item: its name, with its mark where several are named alike."""
    if not names:
        return {}
    counts = Counter(name for name, _ in names.values())
    return {item: name if counts[name] == 1 else f"{name} {mark}".rstrip() for item, (name, mark) in names.items()}


def told_apart_by(names: Mapping[str, str], *marks: Mapping[str, str]) -> Mapping[str, str]:
    """Return a label per item: its name, with one mark after the other where some that are named alike differ in it."""
    labels = names
    for mark in marks:
        if len(set(labels.values())) == len(labels):
            break
        kinds: dict[str, set[str]] = {}
        for item, label in labels.items():
            kinds.setdefault(label, set()).add(mark[item])
        labels = told_apart(
            {item: (label, mark[item] if len(kinds[label]) > 1 else "") for item, label in labels.items()}
        )
    return labels


def disk_labels(disks: Mapping[str, DiskHardware]) -> Mapping[str, str]:
    """Return what each disk is called: two of a model by what is written on them, else by where they are plugged in.

    A kernel name is another disk's at the next boot: it is the last resort. Two of one number have numbers of ours.
    """
    numbers = {name: (disk.serial or disk.wwn or "")[-4:] for name, disk in disks.items()}
    paths = {name: "" if numbers[name] else disk.path or "" for name, disk in disks.items()}
    return told_apart_by(
        {name: disk.model or name for name, disk in disks.items()},
        numbers,
        {name: path.partition("/")[2] for name, path in paths.items()},
        paths,
        {name: "" if numbers[name] or paths[name] else name for name in disks},
    )


def input_labels(inputs: Iterable[Temperature | Fan]) -> Mapping[str, str]:
    """Return what each input of a chip is called, by its id: alike ones (of two disks) by where they sit as well.

    Alike ones of one chip (three slots for memory) are named by their place on it, as the driver numbers them.
    """
    # The contract of the probe says what an id is made of; the parts by themselves are not sent.
    names = {item.id: f"{item.chip} {item.label}" for item in inputs}
    return told_apart_by(
        names,
        {item_id: _place(item_id) for item_id in names},
        {item_id: item_id.rpartition("/")[2] for item_id in names},
        {item_id: item_id for item_id in names},
    )


def _place(input_id: str) -> str:
    """Return the part of an input's address that people tell chips apart by: of a PCI address, or the last digits."""
    address = "".join(input_id.split("/")[1:2])
    if pci := _PCI.fullmatch(address):
        return pci[1]
    return re.split(r"[.\-_ ]", address)[-1][-6:]
