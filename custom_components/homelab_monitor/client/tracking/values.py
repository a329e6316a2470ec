"""The items of a host and their values: the one place that looks for them in a snapshot and in the rates.

Each is named by what the host calls it; the coordinator offers it under its lasting id.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Final

from ..models import Container, DiskCounters, Fan, Filesystem, Gpu, InterfaceCounters, Service, Temperature
from ..probe.snapshot import Snapshot
from .labels import with_mark
from .rates import Rates


def item_values(snapshot: Snapshot, rates: Rates) -> Mapping[str, Mapping[str, object]]:
    """Return the value of each item, by the key of its kind and by name; what needs two readings is in the rates."""
    return {
        "filesystem": {item.mountpoint: item for item in filesystems(snapshot)},
        "disk": rates.disks,
        "interface": rates.interfaces,
        "gpu": {gpu.id: gpu for gpu in gpus(snapshot)},
        "service": {unit.name: unit for unit in services(snapshot)},
        "container": rates.containers,
        "temperature": {item.id: item for item in temperatures(snapshot)},
        "fan": {item.id: item for item in fans(snapshot)},
    }


def filesystems(snapshot: Snapshot) -> tuple[Filesystem, ...]:
    """Return the host's mounted filesystems."""
    section = snapshot.sections.filesystems
    return section.filesystems if section else ()


def disks(snapshot: Snapshot) -> Mapping[str, DiskCounters]:
    """Return the counters of the host's disks by kernel name."""
    section = snapshot.sections.disk_io
    return section.disks if section else {}


def interfaces(snapshot: Snapshot) -> Mapping[str, InterfaceCounters]:
    """Return the counters of the host's network interfaces by kernel name."""
    section = snapshot.sections.network
    return section.interfaces if section else {}


def temperatures(snapshot: Snapshot) -> tuple[Temperature, ...]:
    """Return the temperature inputs of the host's chips."""
    section = snapshot.sections.sensors
    return section.temperatures if section else ()


def fans(snapshot: Snapshot) -> tuple[Fan, ...]:
    """Return the fan inputs of the host's chips."""
    section = snapshot.sections.sensors
    return section.fans if section else ()


_MAKER = re.compile(r"^(NVIDIA|AMD|Intel) (GeForce )?")
"""What makes a card's name long without telling it from the others."""


def gpus(snapshot: Snapshot) -> tuple[Gpu, ...]:
    """Return the host's graphics cards."""
    section = snapshot.sections.gpu
    return section.gpus if section else ()


def gpu_labels(snapshot: Snapshot) -> Mapping[str, str]:
    """Return what people call each card, by its id; two of a kind by where they sit, in full if need be."""
    if not gpus(snapshot):
        return {}
    places = {gpu.id: gpu.pci_address or gpu.id for gpu in gpus(snapshot)}
    labels = with_mark({gpu.id: (_MAKER.sub("", gpu.name), places[gpu.id][-7:-2]) for gpu in gpus(snapshot)})
    return with_mark({gpu_id: (label, f"({places[gpu_id]})") for gpu_id, label in labels.items()})


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
    if sum("@" in unit.name for unit in units) <= INSTANCES_SHOWN:
        return units
    instances: dict[str, list[Service]] = {}
    for unit in units:
        if template := unit.template:
            instances.setdefault(template, []).append(unit)
    crowds = {template: group for template, group in instances.items() if len(group) > INSTANCES_SHOWN}
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


_REPLACED = re.compile(r"^[0-9a-f]{12}_")
"""How Compose calls a container for the moment in which it makes it anew."""


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
    return {**with_mark(names), **with_mark(roots)}
