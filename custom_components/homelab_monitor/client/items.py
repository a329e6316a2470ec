"""Which items a snapshot holds: one row per kind, with the keys that tell who is who.

`found_fn` gives what the inventory matches on, `values_fn` what an entity shows; both name an
item by its place in the snapshot, and the coordinator offers it under its lasting id.
Never used as a key: an address, `/dev/sdX`, a container id, a list index.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
import re

from .inventory import Found
from .models import Container, Fan, Filesystem, Gpu, InterfaceHardware, Service, Temperature
from .rates import ContainerRates, Rates
from .snapshot import Snapshot


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the names or shell patterns that a user chose fits."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user chose to watch besides what is watched anyway: names or shell patterns."""

    services: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()

    def is_chosen_interface(self, name: str) -> bool:
        """Return whether the user named an interface, by a pattern or in full."""
        return is_named(name, self.interfaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind:
    """One kind of item: the section that lists it, the source that must be whole."""

    key: str
    section: str
    source: str | None
    """Name in the section's `complete`; None: the list is always whole."""
    needs: str | None = None
    """Another section, without which no item can be told from another."""
    found_fn: Callable[[Snapshot, Selection], Iterator[Found]]
    values_fn: Callable[[Snapshot, Rates], Mapping[str, object]]
    is_listed_fn: Callable[[Snapshot, str], bool] = lambda _snapshot, _item_id: True
    """Whether the list that an item would be on is whole, where a section has several."""


def is_complete(kind: ItemKind, snapshot: Snapshot) -> bool:
    """Return whether the snapshot's list of this kind is whole."""
    if is_absent(kind, snapshot):
        return True
    section = getattr(snapshot.sections, kind.section)
    if section is None or kind.section in {*snapshot.errors, *snapshot.missing}:
        return False
    if kind.needs and getattr(snapshot.sections, kind.needs) is None:
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


_PCI = re.compile(r"[0-9a-f]{4,8}:([0-9a-f]{2}:[0-9a-f]{2})\.[0-7]")
_MAKER = re.compile(r"^(NVIDIA|AMD|Intel) (GeForce )?")
"""What makes a card's name long without telling it from the others."""


def _told_apart(names: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
    """Return a label per item: its name, with its mark where several are named alike."""
    counts = Counter(name for name, _ in names.values())
    return {item: name if counts[name] == 1 else f"{name} {mark}" for item, (name, mark) in names.items()}


def _filesystems(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the mounted filesystems, named by mountpoint."""
    section = snapshot.sections.filesystems
    for item in section.filesystems if section else ():
        yield Found(
            name=item.mountpoint,
            label=item.mountpoint,
            keys=_filesystem_keys(item),
        )


def _filesystem_keys(item: Filesystem) -> Mapping[str, str]:
    """Return UUID (or the ZFS dataset, which is as lasting) and mountpoint."""
    dataset = item.device if item.type == "zfs" else None
    return _keys(uuid=item.uuid, dataset=dataset, mountpoint=item.mountpoint)


def _disks(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the disks, named by kernel name."""
    section, hardware = snapshot.sections.disk_io, snapshot.sections.hardware
    # Before the hardware is known nobody can tell which disk is which.
    if section is None or hardware is None:
        return
    disks = {name: hardware.disks[name] for name in section.disks if name in hardware.disks}
    labels = _told_apart({name: (disk.model or name, (disk.serial or name)[-4:]) for name, disk in disks.items()})
    for name, disk in disks.items():
        # A virtual disk often has neither of the others; its bus gives it the same name at each boot.
        keys = _keys(wwn=disk.wwn, serial=disk.serial, kernel_name=name)
        yield Found(name=name, label=labels[name], keys=keys)


def _interfaces(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the network interfaces, named by kernel name."""
    section, hardware = snapshot.sections.network, snapshot.sections.hardware
    if section is None or hardware is None:
        return
    for name in section.interfaces:
        interface = hardware.interfaces.get(name, InterfaceHardware())
        keys = _keys(mac=interface.permanent_mac, name=name)
        yield Found(name=name, label=name, keys=keys)


def _gpus(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the graphics cards, named by the probe's id."""
    labels = gpu_labels(snapshot)
    for gpu in gpus(snapshot):
        keys = _keys(uuid=gpu.uuid, pci=gpu.pci_address, id=gpu.id)
        yield Found(name=gpu.id, label=labels[gpu.id], keys=keys)


def _services(snapshot: Snapshot, selection: Selection) -> Iterator[Found]:
    """Yield the services of the system, named by unit."""
    for unit in services(snapshot):
        yield Found(
            name=unit.name,
            label=unit.name.removesuffix(".service"),
            keys={"unit": f"system/{unit.name}"},
            # A vendor's unit that failed once is watched until it is well for a day.
            shown=unit.active_state != "failed" and not _is_wanted(unit, selection),
        )


def _is_wanted(unit: Service, selection: Selection) -> bool:
    """Return whether a unit is watched however well it is."""
    return unit.origin == "admin" or is_named(unit.name, selection.services)


CONTAINERS_SHOWN = 15
"""Where there are more containers, only chosen ones get entities, and those that have them already."""
_REPLACED = re.compile(r"^[0-9a-f]{12}_")
"""How Compose calls a container for the moment in which it makes it anew."""


def _containers(snapshot: Snapshot, selection: Selection) -> Iterator[Found]:
    """Yield the containers, known by engine, owner and name: one that is made anew stays the same."""
    labels, patterns = container_labels(snapshot), selection.containers
    is_crowd = not patterns and len(labels) > CONTAINERS_SHOWN
    for item in containers(snapshot):
        if not patterns or is_named(item.name, patterns):
            yield Found(name=item.key, label=labels[item.key], keys={"container": item.key}, kept=is_crowd)


def _is_container_listed(snapshot: Snapshot, item_id: str) -> bool:
    """Return whether the engine that a container belongs to has told all that it has."""
    section = snapshot.sections.containers
    return section is None or section.lists(item_id.rpartition("/")[0])


def _temperatures(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the temperature inputs."""
    sensors = snapshot.sections.sensors
    yield from _inputs(sensors.temperatures if sensors else ())


def _fans(snapshot: Snapshot, _: Selection) -> Iterator[Found]:
    """Yield the fan inputs."""
    sensors = snapshot.sections.sensors
    yield from _inputs(sensors.fans if sensors else ())


def _inputs(inputs: tuple[Temperature, ...] | tuple[Fan, ...]) -> Iterator[Found]:
    """Yield the inputs of chips, alike ones (two disks of a kind) named by where they sit as well."""
    labels = _told_apart({item.id: (f"{item.chip} {item.label}", _place(item.id)) for item in inputs})
    for item in inputs:
        yield Found(name=item.id, label=labels[item.id], keys={"id": item.id})


def _place(input_id: str) -> str:
    """Return the part of an input's address that people tell chips apart by: of a PCI address, or the last digits."""
    address = "".join(input_id.split("/")[1:2])
    if pci := _PCI.fullmatch(address):
        return pci[1]
    return re.split(r"[.\-_ ]", address)[-1][-6:]


def unknown_hardware(snapshot: Snapshot) -> frozenset[str]:
    """Return the disks and interfaces that are there and that the section hardware does not know yet."""
    sections = snapshot.sections
    disks = frozenset(sections.disk_io.disks if sections.disk_io else ())
    interfaces = frozenset(sections.network.interfaces if sections.network else ())
    if sections.hardware is None:
        return disks | interfaces
    return (disks - sections.hardware.disks.keys()) | (interfaces - sections.hardware.interfaces.keys())


def gpus(snapshot: Snapshot) -> tuple[Gpu, ...]:
    """Return the host's graphics cards."""
    section = snapshot.sections.gpu
    return section.gpus if section else ()


def gpu_labels(snapshot: Snapshot) -> Mapping[str, str]:
    """Return what people call each card, by its id; two of a kind by where they sit as well."""
    return _told_apart(
        {gpu.id: (_MAKER.sub("", gpu.name), (gpu.pci_address or gpu.id)[-7:-2]) for gpu in gpus(snapshot)}
    )


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
    """Return the host's services that somebody cares about."""
    section = snapshot.sections.services
    units = section.units if section else ()
    # A watched name that systemd does not know is no service of this host.
    return tuple(unit for unit in units if unit.load_state != "not-found")


def containers(snapshot: Snapshot) -> tuple[Container, ...]:
    """Return the host's containers."""
    section = snapshot.sections.containers
    return tuple(each for each in section.containers if not _REPLACED.match(each.name)) if section else ()


def container_labels(snapshot: Snapshot) -> Mapping[str, str]:
    """Return what each container is called, by its key: engine and owner only where two have one name."""
    return _told_apart({each.key: (each.name, f"({each.source})") for each in containers(snapshot)})


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
    ),
    ItemKind(
        key="disk",
        section="disk_io",
        source=None,
        needs="hardware",
        found_fn=_disks,
        values_fn=lambda _, rates: rates.disks,
    ),
    ItemKind(
        key="interface",
        section="network",
        source=None,
        needs="hardware",
        found_fn=_interfaces,
        values_fn=lambda _, rates: rates.interfaces,
    ),
    ItemKind(
        key="gpu",
        section="gpu",
        source=None,
        found_fn=_gpus,
        values_fn=_gpu_values,
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
        is_listed_fn=_is_container_listed,
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
