"""What a host tells, typed: one frozen dataclass per section of the probe's contract.

Units are in the names, as in `probes/README.md`, which is the source of every field. The tables
at the end name all sections, in the contract's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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
    """One field per section of the contract; None until the host has told it."""

    cpu: Cpu | None = None
    memory: Memory | None = None
    load: Load | None = None
    pressure: Pressure | None = None
    uptime: Uptime | None = None
    network: Network | None = None
    disk_io: DiskIo | None = None
    sensors: Sensors | None = None
    gpu: Gpus | None = None
    services: Services | None = None
    containers: Containers | None = None
    filesystems: Filesystems | None = None
    gpu_processes: GpuProcesses | None = None
    system: System | None = None
    hardware: Hardware | None = None
    interfaces: Interfaces | None = None
    updates: Updates | None = None
    security: Security | None = None


@dataclass(frozen=True, slots=True)
class SectionKind:
    """The type of one section, and how often it is asked for (0: at every poll)."""

    type: type
    every_seconds: float


SECTIONS: Mapping[str, SectionKind] = MappingProxyType(
    {
        "cpu": SectionKind(Cpu, 0),
        "memory": SectionKind(Memory, 0),
        "load": SectionKind(Load, 0),
        "pressure": SectionKind(Pressure, 0),
        "uptime": SectionKind(Uptime, 0),
        "network": SectionKind(Network, 0),
        "disk_io": SectionKind(DiskIo, 0),
        "sensors": SectionKind(Sensors, 0),
        "gpu": SectionKind(Gpus, 0),
        "services": SectionKind(Services, 30),
        "containers": SectionKind(Containers, 30),
        "filesystems": SectionKind(Filesystems, 60),
        "gpu_processes": SectionKind(GpuProcesses, 60),
        "system": SectionKind(System, 600),
        "hardware": SectionKind(Hardware, 600),
        "interfaces": SectionKind(Interfaces, 600),
        "updates": SectionKind(Updates, 600),
        "security": SectionKind(Security, 600),
    }
)
"""The sections of polling: what a snapshot is made of."""

ON_DEMAND: Mapping[str, type] = MappingProxyType(
    {
        "processes": Processes,
        "logs": Log,
        "sockets": Sockets,
    }
)
"""The sections that are only told while somebody looks, and never part of a snapshot."""
