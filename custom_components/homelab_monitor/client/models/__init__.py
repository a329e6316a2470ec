"""What a host reports, typed: one frozen dataclass per section of the probe's contract.

Units are in the names, as in `probes/README.md`, which is the source of every field. `Sections` and
`ON_DEMAND` at the end name all sections, in the contract's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, get_args, get_type_hints

from .containers import Container, ContainerEngine, Containers, Port
from .details import Log, Process, Processes
from .filesystems import Filesystem, Filesystems, Mount
from .gpu import Gpu, GpuProcess, GpuProcesses, Gpus
from .machine import DiskHardware, Hardware, InterfaceHardware, System
from .network import Address, Interface, Interfaces, Socket, Sockets
from .ranges import difference, percent, within
from .security import (
    AccessControl,
    AutomaticUpdates,
    Fail2ban,
    FailedLogins,
    Firewall,
    Security,
    SecurityPart,
    SshServer,
)
from .services import Service, Services
from .updates import Package, Updates, Withheld
from .vitals import (
    Cpu,
    CpuTimes,
    DiskCounters,
    DiskIo,
    Fan,
    InterfaceCounters,
    Load,
    Memory,
    Network,
    Pressure,
    PressureStall,
    Sensors,
    Temperature,
    Uptime,
)

__all__ = [
    "ON_DEMAND",
    "SECTIONS",
    "AccessControl",
    "Address",
    "AutomaticUpdates",
    "Container",
    "ContainerEngine",
    "Containers",
    "Cpu",
    "CpuTimes",
    "DiskCounters",
    "DiskHardware",
    "DiskIo",
    "Fail2ban",
    "FailedLogins",
    "Fan",
    "Filesystem",
    "Filesystems",
    "Firewall",
    "Gpu",
    "GpuProcess",
    "GpuProcesses",
    "Gpus",
    "Hardware",
    "Interface",
    "InterfaceCounters",
    "InterfaceHardware",
    "Interfaces",
    "Load",
    "Log",
    "Memory",
    "Mount",
    "Network",
    "Package",
    "Port",
    "Pressure",
    "PressureStall",
    "Process",
    "Processes",
    "SectionKind",
    "Sections",
    "Security",
    "SecurityPart",
    "Sensors",
    "Service",
    "Services",
    "Socket",
    "Sockets",
    "SshServer",
    "System",
    "Temperature",
    "Updates",
    "Uptime",
    "Withheld",
    "difference",
    "percent",
    "within",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """The sections of polling, one field per section of the contract; None until the host has reported it.

    Annotated with how many seconds apart it is polled, where it is not in every poll.
    """

    cpu: Cpu | None = None
    memory: Memory | None = None
    load: Load | None = None
    pressure: Pressure | None = None
    uptime: Uptime | None = None
    network: Network | None = None
    disk_io: DiskIo | None = None
    sensors: Sensors | None = None
    gpu: Gpus | None = None
    services: Annotated[Services | None, 30] = None
    containers: Annotated[Containers | None, 30] = None
    filesystems: Annotated[Filesystems | None, 60] = None
    gpu_processes: Annotated[GpuProcesses | None, 60] = None
    system: Annotated[System | None, 600] = None
    hardware: Annotated[Hardware | None, 600] = None
    interfaces: Annotated[Interfaces | None, 600] = None
    updates: Annotated[Updates | None, 600] = None
    security: Annotated[Security | None, 600] = None


@dataclass(frozen=True, slots=True)
class SectionKind:
    """The type of one section, and how often it is polled (0: at every poll)."""

    type: type
    every_seconds: float


def _kinds() -> dict[str, SectionKind]:
    """Return the kind of each section, by name, as the fields of `Sections` declare it."""
    types, annotated = get_type_hints(Sections), get_type_hints(Sections, include_extras=True)
    return {
        name: SectionKind(get_args(kind)[0], getattr(annotated[name], "__metadata__", (0,))[0])
        for name, kind in types.items()
    }


SECTIONS: Mapping[str, SectionKind] = MappingProxyType(_kinds())
"""The sections of polling: what a snapshot is made of."""

ON_DEMAND: Mapping[str, type] = MappingProxyType(
    {
        "processes": Processes,
        "logs": Log,
        "sockets": Sockets,
    }
)
"""The sections that are only requested on demand, and never part of a snapshot."""
