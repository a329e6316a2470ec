"""What a host tells, typed: one frozen dataclass per section of the probe's contract.

Units are in the names, as in `probes/README.md`, which is the source of every field. The table
SECTIONS at the end names them all, in the contract's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def percent(part: float | None, whole: float | None) -> float | None:
    """Return `part` of `whole` in percent, None where there is nothing to share."""
    if part is None or not whole:
        return None
    return 100.0 * part / whole


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since boot that the CPUs spent, summed; guest time counted once."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float = 0.0
    irq: float = 0.0
    softirq: float = 0.0
    steal: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU time counters; `cores` holds (busy, total) seconds per online core."""

    at: float
    times: CpuTimes
    cores: tuple[tuple[float, float], ...] = ()
    frequency_hz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory and swap in bytes, as `free` tells them."""

    total_bytes: int
    available_bytes: int
    free_bytes: int
    buffers_bytes: int
    cached_bytes: int
    shared_bytes: int = 0
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Return what is not available to a new process."""
        return self.total_bytes - self.available_bytes

    @property
    def used_percent(self) -> float | None:
        """Return the used share of the memory."""
        return percent(self.used_bytes, self.total_bytes)

    @property
    def swap_used_bytes(self) -> int:
        """Return the swap in use."""
        return self.swap_total_bytes - self.swap_free_bytes

    @property
    def swap_used_percent(self) -> float | None:
        """Return the used share of the swap, None without swap."""
        return percent(self.swap_used_bytes, self.swap_total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load averages and the number of processes."""

    load1: float
    load5: float
    load15: float
    running: int | None = None
    threads: int | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureStall:
    """Share of time in percent in which some or all tasks waited for a resource."""

    some_avg10: float
    some_avg60: float
    some_avg300: float
    some_total_seconds: float
    full_avg10: float | None = None
    full_avg60: float | None = None
    full_avg300: float | None = None
    full_total_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Pressure stall information (PSI) per resource."""

    cpu: PressureStall | None = None
    memory: PressureStall | None = None
    io: PressureStall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptime:
    """Seconds since boot, time asleep included."""

    uptime_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceCounters:
    """Traffic counters of one network interface since it came up."""

    receive_bytes: int
    transmit_bytes: int
    receive_packets: int = 0
    transmit_packets: int = 0
    receive_errors: int = 0
    transmit_errors: int = 0
    receive_drops: int = 0
    transmit_drops: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Traffic counters per interface; `primary` carries the default route."""

    at: float
    interfaces: Mapping[str, InterfaceCounters]
    primary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCounters:
    """I/O counters of one whole disk since boot."""

    read_bytes: int
    written_bytes: int
    reads: int = 0
    writes: int = 0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    busy_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskIo:
    """I/O counters per whole disk, by kernel name."""

    at: float
    disks: Mapping[str, DiskCounters]


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """One temperature input of the hardware monitor."""

    id: str
    chip: str
    label: str
    celsius: float
    max_celsius: float | None = None
    critical_celsius: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fan:
    """One fan input of the hardware monitor."""

    id: str
    chip: str
    label: str
    rpm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """Temperatures and fans; `cpu_celsius` stands for the CPU, `asleep` names inputs that were left asleep."""

    temperatures: tuple[Temperature, ...] = ()
    fans: tuple[Fan, ...] = ()
    cpu_celsius: float | None = None
    cpu_critical_celsius: float | None = None
    asleep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics card; `state` is ok, suspended or lost."""

    id: str
    vendor: str
    name: str
    state: str = "ok"
    uuid: str | None = None
    pci_address: str | None = None
    usage_percent: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    fan_percent: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttle_reasons: tuple[str, ...] = ()

    @property
    def memory_used_percent(self) -> float | None:
        """Return the used share of the card's memory."""
        return percent(self.memory_used_bytes, self.memory_total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All graphics cards of the host."""

    gpus: tuple[Gpu, ...]
    at: float | None = None
    driver: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service unit that the user cares about (systemd words)."""

    name: str
    active_state: str
    description: str = ""
    load_state: str = "loaded"
    sub_state: str | None = None
    origin: str | None = None
    result: str | None = None
    exit_status: int | None = None
    restarts: int | None = None
    main_pid: int | None = None
    memory_bytes: int | None = None
    active_since_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services by state, and the chosen ones in full."""

    counts: Mapping[str, int]
    units: tuple[Service, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """One mounted filesystem, sizes as `df` tells them."""

    mountpoint: str
    device: str
    type: str
    total_bytes: int
    used_bytes: int
    available_bytes: int
    uuid: str | None = None
    inodes_total: int | None = None
    inodes_used: int | None = None
    read_only: bool = False

    @property
    def used_percent(self) -> float | None:
        """Return the used share of what users may use, as `df` (which rounds it up)."""
        return percent(self.used_bytes, self.used_bytes + self.available_bytes)

    @property
    def inodes_used_percent(self) -> float | None:
        """Return the used share of the inodes, None where they are not limited."""
        return percent(self.inodes_used, self.inodes_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One filesystem that was left alone."""

    mountpoint: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystems:
    """All filesystems that hold data.

    `late` names mountpoints that did not answer, `unwatched` network filesystems, which are only
    asked when they are watched.
    """

    filesystems: tuple[Filesystem, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    unwatched: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Operating system and identity of the host."""

    hostname: str
    kernel: str
    architecture: str
    os_id: str | None = None
    os_id_like: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    init: str | None = None
    virtualization: str | None = None
    boot_epoch: float | None = None
    timezone_offset_seconds: int | None = None
    users: int | None = None
    python: str | None = None
    machine_id_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskHardware:
    """What a disk is, and the names by which it is known for good."""

    size_bytes: int | None = None
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    rotational: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceHardware:
    """What a network interface is; `permanent_mac` only for physical ones."""

    type: str | None = None
    mac: str | None = None
    permanent_mac: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The machine itself."""

    threads: int
    memory_bytes: int
    vendor: str | None = None
    model: str | None = None
    board: str | None = None
    serial: str | None = None
    cpu_model: str | None = None
    sockets: int | None = None
    cores: int | None = None
    disks: Mapping[str, DiskHardware] = field(default_factory=dict)
    interfaces: Mapping[str, InterfaceHardware] = field(default_factory=dict)


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
    filesystems: Filesystems | None = None
    system: System | None = None
    hardware: Hardware | None = None


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
        "filesystems": SectionKind(Filesystems, 60),
        "system": SectionKind(System, 600),
        "hardware": SectionKind(Hardware, 600),
    }
)
