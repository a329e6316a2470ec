"""Which items a snapshot holds: one row per kind, with the keys that tell who is who.

`found_fn` gives what the inventory matches on, `values_fn` what an entity shows; both name an
item by its place in the snapshot, and the coordinator offers it under its lasting id.
Never used as a key: an address, `/dev/sdX`, a container id, a list index.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
import re
from typing import Final

from ..models import Container, Fan, Filesystem, Gpu, Service, Temperature
from ..probe.snapshot import Snapshot
from .inventory import FoundItem
from .labels import disk_labels, input_labels, told_apart
from .rates import ContainerRates, Rates


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the names or shell patterns that a user chose fits; a name may have brackets in it."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user chose to watch besides what is watched anyway: names or shell patterns."""

    services: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    """By name, or by owner and name (`carl/*`)."""
    interfaces: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    """By mountpoint."""
    user: str = "root"
    """Who logs in to the host."""

    def guest(self, owner: str) -> str:
        """Return whose share something counts against: "" for what is root's or of the user who logs in.

        Any other user of the host can make as much as they like of what is theirs.
        """
        return "" if owner in ("", "root", self.user) else owner

    def is_chosen_container(self, container: Container) -> bool:
        """Return whether the user named a container, or its owner with it."""
        return is_named(container.lasting_name, self.containers) or self._is_chosen_of_owner(container)

    def is_vouched_for(self, container: Container) -> bool:
        """Return whether a container speaks for the host: a guest's does only where its owner was named with it."""
        return not self.guest(container.owner) or self._is_chosen_of_owner(container)

    def _is_chosen_of_owner(self, container: Container) -> bool:
        """Return whether the user named a container by its owner and name."""
        return is_named(f"{container.owner}/{container.lasting_name}", self.containers)

    def is_chosen_interface(self, name: str) -> bool:
        """Return whether the user named an interface, by a pattern or in full."""
        return is_named(name, self.interfaces)

    def is_chosen_filesystem(self, mountpoint: str) -> bool:
        """Return whether the user named a filesystem, by a pattern or in full; a slash at the end says nothing."""
        return is_named(mountpoint, (each.rstrip("/") or "/" for each in self.filesystems))

    def is_chosen_service(self, name: str) -> bool:
        """Return whether the user named a service, with or without what its unit ends in."""
        return is_named(name, self.services) or is_named(f"{name}.service", self.services)


SHOWN = 15
"""Of more items of a kind only chosen ones are shown without being asked for, and those that are shown already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind:
    """One kind of item: the section that lists it, the source that must be whole."""

    key: str
    section: str
    source: str | None
    """Name in the section's `complete`; None: the list is always whole."""
    needs: str | None = None
    """Another section, without which no item can be told from another."""
    found_fn: Callable[[Snapshot, Selection], Iterator[FoundItem]]
    values_fn: Callable[[Snapshot, Rates], Mapping[str, object]]
    outline_fn: Callable[[Snapshot], object] = lambda _snapshot: None
    """All that `found_fn` looks at, where that is quick to compare: alike, it finds the same; None: look."""
    is_listed_fn: Callable[[Snapshot, str], bool] = lambda _snapshot, _source: True
    """Whether the list of a source is whole, where a section has several."""
    shown: int | None = SHOWN
    """Of more items than these new entities are disabled, but those of chosen ones; None: `found_fn` sees to it."""
    infixes: frozenset[str] = frozenset()
    """What stands before the key of one row in that of another: of `memory_clock` and `clock`, `memory`."""
    guest_fn: Callable[[Selection, str], str] = lambda _selection, _source: ""
    """Whose share of the room an item of a source takes, "" for the host's own."""


def left_out(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return how many items had no room, by section, of what an inventory counts by kind."""
    by_section: dict[str, int] = {}
    for kind in ITEM_KINDS:
        if count := counts.get(kind.key):
            by_section[kind.section] = by_section.get(kind.section, 0) + count
    return by_section


def is_complete(kind: ItemKind, snapshot: Snapshot) -> bool:
    """Return whether the snapshot's list of this kind is whole."""
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
    """Return whether the host says that it has none at all: its last graphics card was taken out."""
    return kind.source is None and snapshot.missing.get(kind.section) == "not_installed"


def _keys(**keys: str | None) -> Mapping[str, str]:
    """Return the keys that can be read, strongest first."""
    return {kind: value for kind, value in keys.items() if value}


_MAKER = re.compile(r"^(NVIDIA|AMD|Intel) (GeForce )?")
"""What makes a card's name long without telling it from the others."""


def _filesystems(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the mounted filesystems, named by mountpoint."""
    section = snapshot.sections.filesystems
    for item in section.filesystems if section else ():
        yield FoundItem(
            name=item.mountpoint,
            label=item.mountpoint,
            keys=_filesystem_keys(item),
            source=_filesystem_guest(item),
            token=_filesystem_token(item, snapshot.boot_id),
        )


def _filesystem_guest(item: Filesystem) -> str:
    """Return what stands for the user who mounted it, "" for root and who logs in."""
    return "" if item.guest_uid is None else f"user {item.guest_uid}"


def _filesystem_token(item: Filesystem, boot_id: str) -> str:
    """Return by what it is the same, under any name, for as long as it is mounted; "" where that is not known.

    The kernel gives its numbers away again, but hardly all of this at once.
    """
    if item.device_number is None or item.mount_id is None:
        return ""
    return "\n".join((boot_id, item.device_number, str(item.mount_id), item.type, item.device))


def _filesystem_keys(item: Filesystem) -> Mapping[str, str]:
    """Return UUID (or the ZFS dataset, which is as lasting) and mountpoint; a guest at that place is another thing."""
    if item.guest_uid is not None:
        return _keys(mountpoint=f"{item.guest_uid}:{item.mountpoint}")
    dataset = item.device if item.type == "zfs" else None
    return _keys(uuid=item.uuid, dataset=dataset, mountpoint=item.mountpoint)


def _disks(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the disks, named by kernel name."""
    section, hardware = snapshot.sections.disk_io, snapshot.sections.hardware
    # Before the hardware is known nobody can tell which disk is which.
    if section is None or hardware is None:
        return
    known = hardware.disks.keys() - snapshot.unsure
    disks = {name: hardware.disks[name] for name in section.disks if name in known}
    labels = disk_labels(disks)
    for name, disk in disks.items():
        # A virtual disk often has none of the others; its bus gives it the same name at each boot.
        keys = _keys(wwn=disk.wwn, serial=disk.serial, path=disk.path, kernel_name=name)
        yield FoundItem(name=name, label=labels[name], keys=keys)


def _disks_outline(snapshot: Snapshot) -> object:
    """Return all that tells which disks there are; what they have read and written does not."""
    section = snapshot.sections.disk_io
    return (snapshot.sections.hardware, snapshot.unsure, tuple(section.disks) if section else None)


def _interfaces(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the network interfaces, named by kernel name."""
    section, hardware = snapshot.sections.network, snapshot.sections.hardware
    if section is None or hardware is None:
        return
    # A card that got another name is known by its address: by its name alone it would be a new one.
    known = hardware.interfaces.keys() - snapshot.unsure
    for name in (each for each in section.interfaces if each in known):
        interface = hardware.interfaces[name]
        keys = _keys(mac=interface.permanent_mac, name=name)
        yield FoundItem(name=name, label=name, keys=keys)


def _interfaces_outline(snapshot: Snapshot) -> object:
    """Return all that tells which interfaces there are; what went through them does not."""
    section = snapshot.sections.network
    return (snapshot.sections.hardware, snapshot.unsure, tuple(section.interfaces) if section else None)


def _gpus(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the graphics cards, named by the probe's id."""
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
            # A vendor's unit that failed once is watched until it is well for a day.
            shown=unit.active_state != "failed" and not _is_wanted(unit, selection),
        )


def _is_wanted(unit: Service, selection: Selection) -> bool:
    """Return whether a unit is watched however well it is."""
    return unit.origin == "admin" or is_named(unit.name, selection.services)


_REPLACED = re.compile(r"^[0-9a-f]{12}_")
"""How Compose calls a container for the moment in which it makes it anew."""


def _containers(snapshot: Snapshot, selection: Selection) -> Iterator[FoundItem]:
    """Yield the containers, known by engine, owner and name: one that is made anew stays the same.

    Where an owner has more than SHOWN, only chosen ones get entities, and those that have them already.
    """
    labels, patterns = container_labels(snapshot), selection.containers
    counts = Counter(selection.guest(item.owner) for item in containers(snapshot))
    for item in containers(snapshot):
        if not patterns or selection.is_chosen_container(item):
            is_crowd = not patterns and counts[selection.guest(item.owner)] > SHOWN
            keys = {"container": item.key}
            yield FoundItem(name=item.key, label=labels[item.key], keys=keys, source=item.source, kept=is_crowd)


def _is_container_listed(snapshot: Snapshot, source: str) -> bool:
    """Return whether an engine has told all that it has."""
    section = snapshot.sections.containers
    return section is None or section.lists(source)


def _container_guest(selection: Selection, source: str) -> str:
    """Return whose share the containers of an engine count against."""
    return selection.guest(source.partition("/")[2])


def _temperatures(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the temperature inputs."""
    sensors = snapshot.sections.sensors
    yield from _inputs(sensors.temperatures if sensors else ())


def _fans(snapshot: Snapshot, _: Selection) -> Iterator[FoundItem]:
    """Yield the fan inputs."""
    sensors = snapshot.sections.sensors
    yield from _inputs(sensors.fans if sensors else ())


def _inputs(inputs: tuple[Temperature, ...] | tuple[Fan, ...]) -> Iterator[FoundItem]:
    """Yield the inputs of chips."""
    labels = input_labels(inputs)
    for item in inputs:
        yield FoundItem(name=item.id, label=labels[item.id], keys={"id": item.id})


def unknown_hardware(snapshot: Snapshot) -> frozenset[str]:
    """Return the disks and interfaces that are there and that the section hardware does not know yet, or no more."""
    sections = snapshot.sections
    disks = frozenset(sections.disk_io.disks if sections.disk_io else ())
    interfaces = frozenset(sections.network.interfaces if sections.network else ())
    if sections.hardware is None:
        return disks | interfaces
    known = {*sections.hardware.disks, *sections.hardware.interfaces} - snapshot.unsure
    return (disks | interfaces) - known


def gpus(snapshot: Snapshot) -> tuple[Gpu, ...]:
    """Return the host's graphics cards."""
    section = snapshot.sections.gpu
    return section.gpus if section else ()


def gpu_labels(snapshot: Snapshot) -> Mapping[str, str]:
    """Return what people call each card, by its id; two of a kind by where they sit, in full if need be."""
    if not gpus(snapshot):
        return {}
    places = {gpu.id: gpu.pci_address or gpu.id for gpu in gpus(snapshot)}
    labels = told_apart({gpu.id: (_MAKER.sub("", gpu.name), places[gpu.id][-7:-2]) for gpu in gpus(snapshot)})
    return told_apart({gpu_id: (label, f"({places[gpu_id]})") for gpu_id, label in labels.items()})


def lost_gpus(snapshot: Snapshot) -> frozenset[str]:
    """Return the labels of the cards that their driver cannot reach."""
    labels = gpu_labels(snapshot)
    return frozenset(labels[gpu.id] for gpu in gpus(snapshot) if gpu.state == "lost")


def gpu_failure(snapshot: Snapshot) -> str | None:
    """Return what keeps the host from telling of any card: broken, timed_out; None when nothing does.

    A reader that is late once is no failure: the last values stand for a while, and are gone when it stays late.
    """
    if "gpu" in snapshot.errors:
        return "broken"
    is_late = snapshot.missing.get("gpu") == "timed_out"
    return "timed_out" if is_late and snapshot.sections.gpu is None else None


def services(snapshot: Snapshot) -> tuple[Service, ...]:
    """Return the host's services that somebody cares about; of a template with many instances one for all of them.

    Instances of connections and logins (`sshd@7-192.0.2.1:22-….service`) have names that never come again.
    """
    section = snapshot.sections.services
    # A watched name that systemd does not know is no service of this host.
    units = tuple(unit for unit in (section.units if section else ()) if unit.load_state != "not-found")
    instances: dict[str, list[Service]] = {}
    for unit in units:
        if template := unit.template:
            instances.setdefault(template, []).append(unit)
    crowds = {template: group for template, group in instances.items() if len(group) > INSTANCES_SHOWN}
    if not crowds:
        return units
    single = tuple(unit for unit in units if unit.template not in crowds)
    return single + tuple(_all_of(template, group) for template, group in sorted(crowds.items()))


def lists_services(snapshot: Snapshot) -> bool:
    """Return whether the host told all services that somebody cares about, as against some of too many."""
    section = snapshot.sections.services
    return section is not None and bool(section.complete.get("systemd"))


INSTANCES_SHOWN = 5
"""Of a template with more instances there is one service for all of them."""
_WORST_FIRST = ("failed", "activating", "deactivating", "reloading", "active")
"""The state that many instances have together is the first of these that one of them has."""


def _all_of(template: str, instances: Sequence[Service]) -> Service:
    """Return what stands for all instances of a template; a guest's do not speak for it where others do."""
    own = [unit for unit in instances if unit.speaks_for_host] or instances
    states = {unit.active_state for unit in own}
    return Service(
        name=template,
        description=instances[0].description,
        active_state=next((state for state in _WORST_FIRST if state in states), own[0].active_state),
        origin="admin" if any(unit.origin == "admin" for unit in instances) else instances[0].origin,
        guest_uid=own[0].guest_uid,
    )


def containers(snapshot: Snapshot) -> tuple[Container, ...]:
    """Return the host's containers."""
    section = snapshot.sections.containers
    return tuple(each for each in section.current if not _REPLACED.match(each.name)) if section else ()


_ID_DIGITS = 12
"""How long the ids are that engines are told by; a control group has all 64 digits."""


type ContainerNames = Mapping[tuple[str, int], Container]


def container_names(snapshot: Snapshot) -> ContainerNames:
    """Return the containers by the beginning of their ids and whose engine tells of them, to look many up."""
    return {(each.id[:_ID_DIGITS], each.uid or 0): each for each in containers(snapshot) if each.id}


def _is_roots(container: Container) -> bool:
    """Tell whether root's engine tells of a container."""
    return container.owner == "root"


_MANAGER: Final = re.compile(r"user@(\d{1,10})\.service")


def container_name(names: ContainerNames, ident: str | None, unit: str | None) -> str | None:
    """Return what a container is called, its id where nobody knows a name; engines are told by shorter ids.

    Users name the control groups below their own manager as they like, also like a container of somebody else: there
    only their own engine knows a name, and elsewhere only root's.
    """
    if ident is None:
        return None
    manager = _MANAGER.match(unit or "")
    found = names.get((ident[:_ID_DIGITS], int(manager[1]) if manager else 0))
    return ident if found is None else found.name


def container_labels(snapshot: Snapshot) -> Mapping[str, str]:
    """Return what each container is called, by its key: engine and owner only where two have one name.

    How root's are called is not changed by how users call theirs.
    """
    names = {each.key: (each.lasting_name, f"({each.source})") for each in containers(snapshot)}
    roots = {each.key: names[each.key] for each in containers(snapshot) if _is_roots(each)}
    return {**told_apart(names), **told_apart(roots)}


def _filesystem_values(snapshot: Snapshot, _: Rates) -> Mapping[str, Filesystem]:
    """Return the filesystems by mountpoint."""
    section = snapshot.sections.filesystems
    return {item.mountpoint: item for item in section.filesystems} if section else {}


def _gpu_values(snapshot: Snapshot, _: Rates) -> Mapping[str, Gpu]:
    """Return the cards by id."""
    return {gpu.id: gpu for gpu in gpus(snapshot)}


def _service_values(snapshot: Snapshot, _: Rates) -> Mapping[str, Service]:
    """Return the services by unit name."""
    return {unit.name: unit for unit in services(snapshot)}


def _container_values(_: Snapshot, rates: Rates) -> Mapping[str, ContainerRates]:
    """Return the containers by key, with what they use."""
    return rates.containers


def _temperature_values(snapshot: Snapshot, _: Rates) -> Mapping[str, Temperature]:
    """Return the temperature inputs by id."""
    sensors = snapshot.sections.sensors
    return {item.id: item for item in sensors.temperatures} if sensors else {}


def _fan_values(snapshot: Snapshot, _: Rates) -> Mapping[str, Fan]:
    """Return the fan inputs by id."""
    sensors = snapshot.sections.sensors
    return {item.id: item for item in sensors.fans} if sensors else {}


ITEM_KINDS: tuple[ItemKind, ...] = (
    ItemKind(
        key="filesystem",
        section="filesystems",
        source="mounts",
        found_fn=_filesystems,
        values_fn=_filesystem_values,
        guest_fn=lambda _selection, source: source,
    ),
    ItemKind(
        key="disk",
        section="disk_io",
        source=None,
        needs="hardware",
        found_fn=_disks,
        outline_fn=_disks_outline,
        values_fn=lambda _, rates: rates.disks,
    ),
    ItemKind(
        key="interface",
        section="network",
        source=None,
        needs="hardware",
        found_fn=_interfaces,
        outline_fn=_interfaces_outline,
        values_fn=lambda _, rates: rates.interfaces,
    ),
    ItemKind(
        key="gpu",
        section="gpu",
        source=None,
        found_fn=_gpus,
        values_fn=_gpu_values,
        infixes=frozenset({"memory"}),
    ),
    ItemKind(
        key="service",
        section="services",
        source="systemd",
        found_fn=_services,
        values_fn=_service_values,
    ),
    ItemKind(
        key="container",
        section="containers",
        source=None,
        found_fn=_containers,
        values_fn=_container_values,
        shown=None,
        is_listed_fn=_is_container_listed,
        guest_fn=_container_guest,
    ),
    ItemKind(
        key="temperature",
        section="sensors",
        source=None,
        found_fn=_temperatures,
        values_fn=_temperature_values,
    ),
    ItemKind(
        key="fan",
        section="sensors",
        source=None,
        found_fn=_fans,
        values_fn=_fan_values,
    ),
)
_SHOWN = {kind.key: kind.shown for kind in ITEM_KINDS}
_GUESTS = {kind.key: kind.guest_fn for kind in ITEM_KINDS}


def is_crowd(kind: str, count: int) -> bool:
    """Return whether so many items of a kind are too many to show each."""
    shown = _SHOWN.get(kind)
    return shown is not None and count > shown


def is_guests(kind: str, selection: Selection, source: str) -> bool:
    """Return whether an item of a source is something that another user of the host has, who can make any number."""
    return _GUESTS[kind](selection, source) != ""
