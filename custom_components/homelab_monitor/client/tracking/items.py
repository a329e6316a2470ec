"""The items of a snapshot: one row per kind, with the keys that identify them.

`found_fn` gives what the inventory matches on, and names an item as its value is named in `values`; the
coordinator offers that under its lasting id.
Never used as a key: an address, `/dev/sdX`, a container id, a list index.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..models import Container, Fan, Filesystem, Service, Temperature
from ..probe.snapshot import Snapshot
from .inventory import FoundItem
from .labels import disk_labels, input_labels
from .values import (
    container_labels,
    containers,
    disks,
    fans,
    filesystems,
    gpu_labels,
    gpus,
    interfaces,
    services,
    temperatures,
)


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name equals or matches one of the names or shell patterns; a name may contain brackets."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user selected to monitor in addition to the defaults: names or shell patterns."""

    services: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    """By name, or by owner and name (`carl/*`)."""
    interfaces: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    """By mountpoint."""
    user: str = "root"
    """The user who logs in to the host."""

    def guest(self, owner: str) -> str:
        """Return whose share of the limits an owner's items count against: "" for root and the user who logs in.

        Any other user of the host can create any number of items.
        """
        return "" if owner in ("", "root", self.user) else owner

    def is_chosen_container(self, container: Container) -> bool:
        """Return whether a container is selected, by name or by owner and name."""
        return is_named(container.lasting_name, self.containers) or self._is_chosen_of_owner(container)

    def is_vouched_for(self, container: Container) -> bool:
        """Return whether a container counts for the host: a guest's does only if it is selected by owner and name."""
        return not self.guest(container.owner) or self._is_chosen_of_owner(container)

    def _is_chosen_of_owner(self, container: Container) -> bool:
        """Return whether a container is selected by owner and name."""
        return is_named(f"{container.owner}/{container.lasting_name}", self.containers)

    def is_chosen_interface(self, name: str) -> bool:
        """Return whether an interface is selected, by a pattern or in full."""
        return is_named(name, self.interfaces)

    def is_chosen_filesystem(self, mountpoint: str) -> bool:
        """Return whether a filesystem is selected, by a pattern or in full; a trailing slash is ignored."""
        return is_named(mountpoint, (each.rstrip("/") or "/" for each in self.filesystems))

    def is_chosen_service(self, name: str) -> bool:
        """Return whether a service is selected, with or without the suffix of its unit."""
        return is_named(name, self.services) or is_named(f"{name}.service", self.services)


SHOWN = 15
"""Of a kind with more items, only selected ones get enabled entities, and those that have them already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind:
    """One kind of item: the section that lists it, the source that must be complete."""

    key: str
    section: str
    source: str | None
    """Name in the section's `complete`; None: the list is always complete."""
    needs: str | None = None
    """Another section, without which the items cannot be identified."""
    found_fn: Callable[[Snapshot, Selection], Iterator[FoundItem]]
    outline_fn: Callable[[Snapshot], object] = lambda _snapshot: None
    """All that `found_fn` depends on, if that is quick to compare: equal outlines, equal items; None: always search."""
    is_listed_fn: Callable[[Snapshot, str], bool] = lambda _snapshot, _source: True
    """Whether the list of a source is complete, if a section has several."""
    shown: int | None = SHOWN
    """With more items, new entities are disabled, except those of selected ones; None: `found_fn` handles it."""
    infixes: frozenset[str] = frozenset()
    """Prefixes that the key of one row has before that of another: for `memory_clock` and `clock`, `memory`."""
    guest_fn: Callable[[Selection, str], str] = lambda _selection, _source: ""
    """Whose share of the limits an item of a source counts against, "" for the host's own."""


def left_out(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return how many items had no room, by section, from an inventory's counts by kind."""
    by_section: dict[str, int] = {}
    for kind in ITEM_KINDS:
        if count := counts.get(kind.key):
            by_section[kind.section] = by_section.get(kind.section, 0) + count
    return by_section


def is_complete(kind: ItemKind, snapshot: Snapshot) -> bool:
    """Return whether the snapshot's list of this kind is complete."""
    if is_absent(kind, snapshot):
        return True
    section = getattr(snapshot.sections, kind.section)
    if section is None or kind.section in {*snapshot.errors, *snapshot.missing} or snapshot.lacks_rows(kind.section):
        return False
    if kind.needs and (getattr(snapshot.sections, kind.needs) is None or snapshot.unsure & unknown_hardware(snapshot)):
        return False
    if getattr(section, "asleep", ()):
        return False
    return kind.source is None or bool(section.complete.get(kind.source))


def is_absent(kind: ItemKind, snapshot: Snapshot) -> bool:
    """Return whether the host reports that it has none at all, as after its last GPU was removed."""
    return kind.source is None and snapshot.missing.get(kind.section) == "not_installed"


def _keys(**keys: str | None) -> Mapping[str, str]:
    """Return the keys that can be read, strongest first."""
    return {kind: value for kind, value in keys.items() if value}


def _filesystems(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the mounted filesystems, named by mountpoint."""
    for item in filesystems(snapshot):
        yield FoundItem(
            name=item.mountpoint,
            label=item.mountpoint,
            keys=_filesystem_keys(item),
            source=_filesystem_guest(item),
            token=_filesystem_token(item, snapshot.boot_id),
        )


def _filesystem_guest(item: Filesystem) -> str:
    """Return the source of a filesystem that a guest mounted, "" for root and the user who logs in."""
    return "" if item.guest_uid is None else f"user {item.guest_uid}"


def _filesystem_token(item: Filesystem, boot_id: str) -> str:
    """Return what identifies a filesystem under any name while it is mounted; "" if that is not known.

    The kernel reuses its numbers, but hardly all of this at once.
    """
    if item.device_number is None or item.mount_id is None:
        return ""
    return "\n".join((boot_id, item.device_number, str(item.mount_id), item.type, item.device))


def _filesystem_keys(item: Filesystem) -> Mapping[str, str]:
    """Return UUID (or the ZFS dataset, which is as stable) and mountpoint; a guest's mountpoint is a key of its own."""
    if item.guest_uid is not None:
        return _keys(mountpoint=f"{item.guest_uid}:{item.mountpoint}")
    dataset = item.device if item.type == "zfs" else None
    return _keys(uuid=item.uuid, dataset=dataset, mountpoint=item.mountpoint)


def _disks(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the disks, named by kernel name."""
    hardware = snapshot.sections.hardware
    # Before the hardware is known nobody can tell which disk is which.
    if hardware is None:
        return
    known = hardware.disks.keys() - snapshot.unsure
    found = {name: hardware.disks[name] for name in disks(snapshot) if name in known}
    labels = disk_labels(found)
    for name, disk in found.items():
        # A virtual disk often has none of the others; its bus gives it the same name at each boot.
        keys = _keys(wwn=disk.wwn, serial=disk.serial, path=disk.path, kernel_name=name)
        yield FoundItem(name=name, label=labels[name], keys=keys)


def _disks_outline(snapshot: Snapshot) -> object:
    """Return all that tells which disks there are; what they have read and written does not."""
    return (snapshot.sections.hardware, snapshot.unsure, tuple(disks(snapshot)))


def _interfaces(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the network interfaces, named by kernel name."""
    hardware = snapshot.sections.hardware
    if hardware is None:
        return
    # An interface that was renamed is known by its address: by its name alone it would be a new one.
    known = hardware.interfaces.keys() - snapshot.unsure
    for name in (each for each in interfaces(snapshot) if each in known):
        interface = hardware.interfaces[name]
        keys = _keys(mac=interface.permanent_mac, name=name)
        yield FoundItem(name=name, label=name, keys=keys)


def _interfaces_outline(snapshot: Snapshot) -> object:
    """Return all that tells which interfaces there are; what went through them does not."""
    return (snapshot.sections.hardware, snapshot.unsure, tuple(interfaces(snapshot)))


def _gpus(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the GPUs, named by the probe's id."""
    labels = gpu_labels(snapshot)
    for gpu in gpus(snapshot):
        keys = _keys(uuid=gpu.uuid, pci=gpu.pci_address, id=gpu.id)
        yield FoundItem(name=gpu.id, label=labels[gpu.id], keys=keys)


def _services(snapshot: Snapshot, selection: Selection) -> Iterator[FoundItem]:
    """Yield the services of the system, named by unit."""
    for unit in services(snapshot):
        yield FoundItem(
            name=unit.name,
            label=unit.name.removesuffix(".service"),
            keys={"unit": f"system/{unit.name}"},
            # A vendor's unit that failed once is monitored until it has been well for a day.
            shown=unit.active_state != "failed" and not _is_wanted(unit, selection),
        )


def _is_wanted(unit: Service, selection: Selection) -> bool:
    """Return whether a unit is monitored even if it is well."""
    return unit.origin == "admin" or is_named(unit.name, selection.services)


def _containers(snapshot: Snapshot, selection: Selection) -> Iterator[FoundItem]:
    """Yield the containers, identified by engine, owner and name: a recreated one stays the same.

    If an owner has more than SHOWN, only selected ones get entities, and those that have them already.
    """
    labels, patterns = container_labels(snapshot), selection.containers
    counts = Counter(selection.guest(item.owner) for item in containers(snapshot))
    for item in containers(snapshot):
        if not patterns or selection.is_chosen_container(item):
            is_crowd = not patterns and counts[selection.guest(item.owner)] > SHOWN
            keys = {"container": item.key}
            yield FoundItem(name=item.key, label=labels[item.key], keys=keys, source=item.source, kept=is_crowd)


def _is_container_listed(snapshot: Snapshot, source: str) -> bool:
    """Return whether an engine has reported all its containers."""
    section = snapshot.sections.containers
    return section is None or section.lists(source)


def _container_guest(selection: Selection, source: str) -> str:
    """Return whose share of the limits the containers of an engine count against."""
    return selection.guest(source.partition("/")[2])


def _temperatures(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the temperature inputs."""
    yield from _inputs(temperatures(snapshot))


def _fans(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the fan inputs."""
    yield from _inputs(fans(snapshot))


def _inputs(inputs: tuple[Temperature, ...] | tuple[Fan, ...]) -> Iterator[FoundItem]:
    """Yield the inputs of chips."""
    labels = input_labels(inputs)
    for item in inputs:
        yield FoundItem(name=item.id, label=labels[item.id], keys={"id": item.id})


def unknown_hardware(snapshot: Snapshot) -> frozenset[str]:
    """Return the disks and interfaces that are there and that the section hardware does not know yet, or no more."""
    there, hardware = frozenset((*disks(snapshot), *interfaces(snapshot))), snapshot.sections.hardware
    return there if hardware is None else there - ({*hardware.disks, *hardware.interfaces} - snapshot.unsure)


ITEM_KINDS: tuple[ItemKind, ...] = (
    ItemKind(
        key="filesystem",
        section="filesystems",
        source="mounts",
        found_fn=_filesystems,
        guest_fn=lambda _selection, source: source,
    ),
    ItemKind(
        key="disk",
        section="disk_io",
        source=None,
        needs="hardware",
        found_fn=_disks,
        outline_fn=_disks_outline,
    ),
    ItemKind(
        key="interface",
        section="network",
        source=None,
        needs="hardware",
        found_fn=_interfaces,
        outline_fn=_interfaces_outline,
    ),
    ItemKind(
        key="gpu",
        section="gpu",
        source=None,
        found_fn=_gpus,
        infixes=frozenset({"memory"}),
    ),
    ItemKind(
        key="service",
        section="services",
        source="systemd",
        found_fn=_services,
    ),
    ItemKind(
        key="container",
        section="containers",
        source=None,
        found_fn=_containers,
        shown=None,
        is_listed_fn=_is_container_listed,
        guest_fn=_container_guest,
    ),
    ItemKind(
        key="temperature",
        section="sensors",
        source=None,
        found_fn=_temperatures,
    ),
    ItemKind(
        key="fan",
        section="sensors",
        source=None,
        found_fn=_fans,
    ),
)
_SHOWN = {kind.key: kind.shown for kind in ITEM_KINDS}
_GUESTS = {kind.key: kind.guest_fn for kind in ITEM_KINDS}


def is_crowd(kind: str, count: int) -> bool:
    """Return whether a kind has too many items to show each."""
    shown = _SHOWN.get(kind)
    return shown is not None and count > shown


def is_guests(kind: str, selection: Selection, source: str) -> bool:
    """Return whether an item of a source belongs to another user of the host, who can create any number."""
    return _GUESTS[kind](selection, source) != ""
