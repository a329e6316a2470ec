"""Labels of items with equal names: with marks that distinguish them and survive a reboot.

An item's mark is printed on it, or is its place. Items that no mark distinguishes get permanent numbers from the
inventory.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
import re

from ..models import DiskHardware, Fan, Temperature

_PCI = re.compile(r"[0-9a-f]{4,8}:([0-9a-f]{2}:[0-9a-f]{2})\.[0-7]")


def with_mark(names: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
    """Return a label per item: its name, with its mark if several have the same name."""
    if not names:
        return {}
    counts = Counter(name for name, _ in names.values())
    return {item: name if counts[name] == 1 else f"{name} {mark}".rstrip() for item, (name, mark) in names.items()}


def with_marks(names: Mapping[str, str], *marks: Mapping[str, str]) -> Mapping[str, str]:
    """Return a label per item: its name, followed by each mark in which items with the same name differ."""
    labels = names
    for mark in marks:
        if len(set(labels.values())) == len(labels):
            break
        kinds: dict[str, set[str]] = {}
        for item, label in labels.items():
            kinds.setdefault(label, set()).add(mark[item])
        labels = with_mark(
            {item: (label, mark[item] if len(kinds[label]) > 1 else "") for item, label in labels.items()}
        )
    return labels


def disk_labels(disks: Mapping[str, DiskHardware]) -> Mapping[str, str]:
    """Return a label for each disk: two of a model with their printed numbers, else with where they are plugged in.

    A kernel name is the last resort: at the next boot another disk may have it. Equal labels get numbers of ours.
    """
    numbers = {name: (disk.serial or disk.wwn or "")[-4:] for name, disk in disks.items()}
    paths = {name: "" if numbers[name] else disk.path or "" for name, disk in disks.items()}
    return with_marks(
        {name: disk.model or name for name, disk in disks.items()},
        numbers,
        {name: path.partition("/")[2] for name, path in paths.items()},
        paths,
        {name: "" if numbers[name] or paths[name] else name for name in disks},
    )


def input_labels(inputs: Iterable[Temperature | Fan]) -> Mapping[str, str]:
    """Return a label for each input of a chip, by its id: equal ones (of two disks) also with their place.

    Equal ones of one chip (three slots for memory) are named by their place on it, as the driver numbers them.
    """
    # The contract of the probe defines the parts of an id; they are not sent separately.
    names = {item.id: f"{item.chip} {item.label}" for item in inputs}
    return with_marks(
        names,
        {item_id: _place(item_id) for item_id in names},
        {item_id: item_id.rpartition("/")[2] for item_id in names},
        {item_id: item_id for item_id in names},
    )


def _place(input_id: str) -> str:
    """Return the part of an input's address that identifies a chip to people: of a PCI address, or the last digits."""
    address = "".join(input_id.split("/")[1:2])
    if pci := _PCI.fullmatch(address):
        return pci[1]
    return re.split(r"[.\-_ ]", address)[-1][-6:]
