"""What changes at every poll: CPU, memory, load, traffic, I/O, temperatures."""

from collections.abc import Mapping
from dataclasses import dataclass

from .kinds import Age, Percent
from .ranges import difference, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since boot that the CPUs spent, summed; user and nice include those of guests (proc_stat(5))."""

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
    """Memory and swap in bytes, as `free` reports them."""

    total_bytes: int
    free_bytes: int
    buffers_bytes: int
    cached_bytes: int
    available_bytes: int | None = None
    shared_bytes: int = 0
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0
    zfs_cache_bytes: int = 0
    """The part of ZFS's cache that is freed when programs need it; `free` and MemAvailable count it as used."""

    @property
    def used_bytes(self) -> int | None:
        """Return the bytes that are not available to a new process, as `free` counts them."""
        return difference(self.total_bytes, self.available_bytes)

    @property
    def needed_percent(self) -> float | None:
        """Return the share of the memory in percent that is used and cannot be freed."""
        needed = difference(self.used_bytes, self.zfs_cache_bytes)
        # A cache that is larger than the used memory is no part of it.
        return percent(self.used_bytes if needed is None else needed, self.total_bytes)

    @property
    def used_percent(self) -> float | None:
        """Return the used share of the memory."""
        return percent(self.used_bytes, self.total_bytes)

    @property
    def swap_used_bytes(self) -> int | None:
        """Return the swap in use."""
        return difference(self.swap_total_bytes, self.swap_free_bytes)

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

    some_avg10: Percent
    some_avg60: Percent
    some_avg300: Percent
    some_total_seconds: float
    full_avg10: Percent | None = None
    full_avg60: Percent | None = None
    full_avg300: Percent | None = None
    full_total_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Pressure stall information (PSI) per resource."""

    cpu: PressureStall | None = None
    memory: PressureStall | None = None
    io: PressureStall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptime:
    """Seconds since boot, including time asleep."""

    uptime_seconds: Age


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceCounters:
    """Traffic counters of one network interface since it came up.

    `number` is the kernel's, which no other interface gets until the next boot.
    """

    receive_bytes: int
    transmit_bytes: int
    number: int | None = None
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
    """Temperatures and fans; `cpu_celsius` is that of the CPU, `asleep` has inputs that were left asleep."""

    temperatures: tuple[Temperature, ...] = ()
    fans: tuple[Fan, ...] = ()
    cpu_celsius: float | None = None
    cpu_critical_celsius: float | None = None
    asleep: tuple[str, ...] = ()
