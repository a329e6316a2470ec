"""Two snapshots → per-second values and shares. Pure: no clock, no state.

The probe only reads counters. A rate is the difference of two readings over the time
between them on the host's own clock (`at`, CLOCK_BOOTTIME), so that a slow network never
distorts it. A reboot, a counter that runs backwards and a gap of over MAX_GAP_SECONDS give
None instead of a false peak.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
import operator
from typing import TypedDict

from ..models import Container, Cpu, CpuTimes, DiskCounters, InterfaceCounters, percent
from ..probe.snapshot import Snapshot, is_another

MAX_GAP_SECONDS = 900.0
MIN_GAP_SECONDS = 0.001
"""Two readings less apart count as one: no counter moves so fast, and a rate could exceed all numbers."""

LITTLE_SECONDS = 0.05
"""How far the time of a CPU may run backwards: a few ticks, as its kinds are not read at the same moment."""


class _Shares(TypedDict):
    """The shares of all CPUs' time."""

    usage_percent: float | None
    iowait_percent: float | None
    steal_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuRates:
    """Shares of all CPUs' time in percent; `cores` in the order of their numbers."""

    usage_percent: float | None
    iowait_percent: float | None
    steal_percent: float | None
    cores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceRates:
    """Traffic of one interface, None until there are two readings, and the capacity of its link."""

    is_primary: bool = False
    speed_bits_per_second: int | None = None
    receive_bytes_per_second: float | None = None
    transmit_bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRates:
    """I/O of one disk; `busy_percent` is the share of time with I/O under way."""

    read_bytes_per_second: float | None = None
    written_bytes_per_second: float | None = None
    busy_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRates:
    """One container; `cpu_percent` is of one core, so that two busy cores are 200 %."""

    container: Container
    cpu_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Everything that needs two readings."""

    cpu: CpuRates | None = None
    interfaces: Mapping[str, InterfaceRates] = field(default_factory=dict)
    disks: Mapping[str, DiskRates] = field(default_factory=dict)
    containers: Mapping[str, ContainerRates] = field(default_factory=dict)


def updated(rates: Rates, before: Snapshot, now: Snapshot) -> Rates:
    """Return the rates between two snapshots.

    A section that was not read again since `before` keeps the value it has in `rates`.
    """
    if before.boot_id != now.boot_id:
        before = Snapshot()
    return Rates(
        cpu=_cpu(rates, before.sections.cpu, now.sections.cpu),
        interfaces=_interfaces(rates, before, now),
        disks=_disks(rates, before, now),
        containers=_containers(rates, before, now),
    )


def _cpu(rates: Rates, before: Cpu | None, now: Cpu | None) -> CpuRates | None:
    """Return the shares of CPU time between two readings."""
    if before is None or now is None:
        return None
    if now.at == before.at:
        return rates.cpu
    if _gap(before.at, now.at) is None:
        return None
    same_cores = len(before.cores) == len(now.cores)
    return CpuRates(
        **_shares(before.times, now.times, LITTLE_SECONDS * max(1, len(now.cores))),
        cores=tuple(map(_core, before.cores, now.cores, strict=True)) if same_cores else (),
    )


_times = operator.attrgetter(*CpuTimes.__slots__)


def _shares(before: CpuTimes, now: CpuTimes, little: float) -> _Shares:
    """Return the shares of the time between two readings, None where some of it ran backwards by more than a little.

    Of idle and iowait only the sum counts: the kernel moves time from one to the other (proc_stat(5)).
    """
    differences = map(operator.sub, _times(now), _times(before), strict=True)
    spent = dict(zip(CpuTimes.__slots__, differences, strict=True))
    iowait = spent.pop("iowait")
    spent["idle"] += iowait
    if any(seconds < -little for seconds in spent.values()):
        return {"usage_percent": None, "iowait_percent": None, "steal_percent": None}
    spent = {name: max(0.0, seconds) for name, seconds in spent.items()}
    total = sum(spent.values())
    return {
        "usage_percent": percent(total - spent["idle"], total),
        "iowait_percent": percent(min(max(0.0, iowait), spent["idle"]), total),
        "steal_percent": percent(spent["steal"], total),
    }


def _core(before: tuple[float, float], now: tuple[float, float]) -> float | None:
    """Return the busy share of one core, None where its time ran backwards by more than a little."""
    busy, total = now[0] - before[0], now[1] - before[1]
    if total <= 0 or min(busy, total - busy) < -LITTLE_SECONDS:
        return None
    return percent(min(max(0.0, busy), total), total)


def _interfaces(rates: Rates, before: Snapshot, now: Snapshot) -> Mapping[str, InterfaceRates]:
    """Return the traffic per interface."""
    old, new = before.sections.network, now.sections.network
    if new is None:
        return {}
    if old is None:
        old = new
    elif old.at == new.at:
        return rates.interfaces
    seconds = _gap(old.at, new.at)
    links = now.sections.interfaces.interfaces if now.sections.interfaces else {}
    return {
        name: InterfaceRates(
            **_traffic(old.interfaces.get(name), counters, seconds),
            is_primary=name == new.primary,
            speed_bits_per_second=links[name].speed_bits_per_second if name in links else None,
        )
        for name, counters in new.interfaces.items()
    }


class _Traffic(TypedDict, total=False):
    """Traffic of an interface in bytes per second; None where that is not known."""

    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None


def _traffic(before: InterfaceCounters | None, now: InterfaceCounters, seconds: float | None) -> _Traffic:
    """Return the traffic of one interface."""
    if before is None or is_another(before, now):
        return {}
    return {
        "receive_bytes_per_second": _rate(before.receive_bytes, now.receive_bytes, seconds),
        "transmit_bytes_per_second": _rate(before.transmit_bytes, now.transmit_bytes, seconds),
    }


def _disks(rates: Rates, before: Snapshot, now: Snapshot) -> Mapping[str, DiskRates]:
    """Return the I/O per disk."""
    old, new = before.sections.disk_io, now.sections.disk_io
    if new is None:
        return {}
    if old is None:
        return dict.fromkeys(new.disks, DiskRates())
    if old.at == new.at:
        return rates.disks
    seconds = _gap(old.at, new.at)
    return {name: _disk(old.disks.get(name), counters, seconds) for name, counters in new.disks.items()}


def _disk(before: DiskCounters | None, now: DiskCounters, seconds: float | None) -> DiskRates:
    """Return the I/O of one disk."""
    if before is None:
        return DiskRates()
    busy = _rate(before.busy_seconds, now.busy_seconds, seconds)
    return DiskRates(
        read_bytes_per_second=_rate(before.read_bytes, now.read_bytes, seconds),
        written_bytes_per_second=_rate(before.written_bytes, now.written_bytes, seconds),
        # The kernel adds up to one tick too much at the edge of a reading.
        busy_percent=None if busy is None else min(100.0, 100.0 * busy),
    )


def _containers(rates: Rates, before: Snapshot, now: Snapshot) -> Mapping[str, ContainerRates]:
    """Return the containers by key, with their use of the CPU."""
    old, new = before.sections.containers, now.sections.containers
    if new is None:
        return {}
    if old is not None and old.at == new.at and rates.containers:
        return rates.containers
    seconds = _gap(old.at, new.at) if old else None
    earlier = {each.id: each for each in old.containers} if old else {}
    most = most_percent(now)
    return {each.key: _container(earlier.get(each.id), each, seconds, most) for each in new.current}


def most_percent(snapshot: Snapshot) -> float:
    """Return the percent of one core that all cores are together, infinity while their number is not known."""
    cpu = snapshot.sections.cpu
    return 100.0 * len(cpu.cores) if cpu and cpu.cores else inf


def _container(before: Container | None, now: Container, seconds: float | None, most: float) -> ContainerRates:
    """Return one container with its use of the CPU; None after a start, which resets its counter."""
    if before is None or before.cpu_seconds is None or now.cpu_seconds is None:
        return ContainerRates(container=now)
    used = _rate(before.cpu_seconds, now.cpu_seconds, seconds)
    # Counters are read some time after `at`, later on a busy host.
    return ContainerRates(container=now, cpu_percent=None if used is None else min(most, 100.0 * used))


def _gap(before: float, now: float) -> float | None:
    """Return the seconds between two readings, None if they give no rate."""
    seconds = now - before
    return seconds if MIN_GAP_SECONDS <= seconds <= MAX_GAP_SECONDS else None


def _rate(before: float, now: float, seconds: float | None) -> float | None:
    """Return the change per second, None after a counter reset."""
    if seconds is None or now < before:
        return None
    return (now - before) / seconds
