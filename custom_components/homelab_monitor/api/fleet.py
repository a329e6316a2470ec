"""The row of a host in the fleet, version 1: every key is always present, and units are in the names. Pure.

A row has no durations: it changes only when something has changed. Moments are Unix seconds of Home Assistant's clock.
What is not known is null, and `absent` has the reason. The values are those that the entities show
(tests/test_fleet_rows.py compares them).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ..client.tracking.problems import Level, Problem, Severity, Thresholds, cpu_limit, gpu_limit, level
from ..client.tracking.values import filesystems, gpu_labels, gpus, temperatures
from ..readings import boot_time, reason
from ..state import HostState

VERSION: Final = 1
PROBLEMS_SHOWN: Final = 5
DISK_CHIPS: Final = frozenset({"drivetemp", "nvme"})
"""The kernel's drivers for the temperatures of disks (Documentation/hwmon: drivetemp, nvme)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A percentage, and how near it is to the host's threshold; no level where there is no threshold."""

    percent: float
    level: Level | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FullestFilesystem:
    """The filesystem with the largest used share."""

    item: str
    """Its mountpoint."""
    percent: float
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class HighestTemperature:
    """The highest temperature of CPU, GPUs and disks; `source` is cpu, gpu or disk."""

    source: str
    item: str
    celsius: float
    level: Level | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BusiestGpu:
    """The card with most of its memory in use, of `count` cards."""

    item: str
    usage_percent: float | None
    vram_percent: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic of the primary interface."""

    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerCounts:
    """How many containers run, and how many fail their health check."""

    running: int
    unhealthy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCounts:
    """How many packages can be updated; `security` is null where the package manager does not know."""

    pending: int
    security: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """One problem; `item` is "" for the host itself, `since` null if it is older than this version."""

    kind: str
    item: str
    severity: Severity
    since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One host in the fleet."""

    entry_id: str
    title: str
    os_name: str | None
    platform: str
    status: str
    since: float
    at: float | None
    """When the host last answered."""
    error_key: str | None
    cpu: Share | None
    load1: float | None
    load_per_core: float | None
    memory: Share | None
    swap_percent: float | None
    filesystem: FullestFilesystem | None
    temperature: HighestTemperature | None
    gpu: BusiestGpu | None
    network: Traffic | None
    booted_at: float | None
    failed_services: int | None
    containers: ContainerCounts | None
    updates: UpdateCounts | None
    reboot_required: bool | None
    problems: tuple[RowProblem, ...]
    """The worst ones: problems before warnings, the newest first."""
    problem_count: int
    warning_count: int
    absent: Mapping[str, str] = field(default_factory=dict)
    """Key of a value that is null → why."""


_SECTIONS: Final[Mapping[str, str]] = {
    "os_name": "system",
    "at": "",
    "cpu": "cpu",
    "load1": "load",
    "load_per_core": "load",
    "memory": "memory",
    "swap_percent": "memory",
    "filesystem": "filesystems",
    "temperature": "sensors",
    "gpu": "gpu",
    "network": "network",
    "booted_at": "uptime",
    "failed_services": "services",
    "containers": "containers",
    "updates": "updates",
    "reboot_required": "updates",
}
"""Key of a value that may be null → the section that it is read from."""


def fleet_row(entry_id: str, title: str, platform: str, state: HostState, thresholds: Thresholds) -> FleetRow:
    """Return the row of a host that is set up; a host that is offline keeps its last values."""
    sections, problems = state.snapshot.sections, state.present_problems
    row = FleetRow(
        entry_id=entry_id,
        title=title,
        os_name=sections.system.os_name if sections.system else None,
        platform=platform,
        status=state.status.value,
        since=state.since.timestamp(),
        at=state.snapshot.received or None,
        error_key=reason(state),
        cpu=_cpu(state, thresholds),
        load1=sections.load.load1 if sections.load else None,
        load_per_core=_load_per_core(state),
        memory=_memory(state, thresholds),
        swap_percent=sections.memory.swap_used_percent if sections.memory else None,
        filesystem=_fullest_filesystem(state, thresholds),
        temperature=max(_temperatures(state, thresholds), key=lambda each: each.celsius, default=None),
        gpu=_busiest_gpu(state),
        network=_traffic(state),
        booted_at=None if (booted := boot_time(state)) is None else booted.timestamp(),
        failed_services=sections.services.failed if sections.services else None,
        containers=_containers(state),
        updates=_updates(state),
        reboot_required=sections.updates.reboot_required if sections.updates else None,
        problems=tuple(_row_problem(each, state) for each in sorted(problems, key=_urgency)[:PROBLEMS_SHOWN]),
        problem_count=sum(each.severity is Severity.PROBLEM for each in problems),
        warning_count=sum(each.severity is Severity.WARNING for each in problems),
    )
    absent = {key: _why_absent(state, section) for key, section in _SECTIONS.items() if getattr(row, key) is None}
    return replace(row, absent=absent)


def _why_absent(state: HostState, section: str) -> str:
    """Return why a value is null: a reason of the probe, failed, not_read, or not_reported."""
    snapshot = state.snapshot
    if section in snapshot.missing:
        return snapshot.missing[section]
    if section in snapshot.errors:
        return "failed"
    return "not_reported" if section in snapshot.ages else "not_read"


def _urgency(problem: Problem) -> tuple[object, ...]:
    """Return the key for sorting: problems before warnings, the newest first, then by name."""
    return problem.severity is not Severity.PROBLEM, -(problem.since or 0.0), problem


def _row_problem(problem: Problem, state: HostState) -> RowProblem:
    """Return a problem as the row has it; a host is offline since its status is."""
    since = state.since.timestamp() if problem.kind == "offline" else problem.since
    return RowProblem(kind=problem.kind, item=problem.item, severity=problem.severity, since=since)


def _has(state: HostState, kind: str, item: str = "") -> bool:
    """Return whether a host has a problem."""
    return Problem(kind=kind, item=item) in state.problems


def _cpu(state: HostState, thresholds: Thresholds) -> Share | None:
    """Return the usage of the CPU."""
    used = state.rates.cpu.usage_percent if state.rates.cpu else None
    if used is None:
        return None
    limit, is_problem = thresholds.cpu_percent, _has(state, "cpu_busy")
    return Share(percent=used, level=None if limit is None else level(used, limit, is_problem=is_problem))


def _load_per_core(state: HostState) -> float | None:
    """Return the load of the last minute per core: 1 is as much as the host can do at once."""
    load, cpu = state.snapshot.sections.load, state.snapshot.sections.cpu
    return load.load1 / len(cpu.cores) if load and cpu and cpu.cores else None


def _memory(state: HostState, thresholds: Thresholds) -> Share | None:
    """Return the used memory; its level is that of what cannot be freed, as a cache is no shortage."""
    memory = state.snapshot.sections.memory
    if memory is None or memory.used_percent is None:
        return None
    needed = memory.used_percent if memory.needed_percent is None else memory.needed_percent
    is_problem = _has(state, "memory_full")
    return Share(percent=memory.used_percent, level=level(needed, thresholds.memory_percent, is_problem=is_problem))


def _fullest_filesystem(state: HostState, thresholds: Thresholds) -> FullestFilesystem | None:
    """Return the fullest filesystem; one that is read-only is full by nature, and another user's says nothing."""
    found = (
        FullestFilesystem(
            item=each.mountpoint,
            percent=each.used_percent,
            level=level(
                each.used_percent, thresholds.disk_percent, is_problem=_has(state, "disk_full", each.mountpoint)
            ),
        )
        for each in filesystems(state.snapshot)
        if each.used_percent is not None and each.guest_uid is None
        if not each.read_only or _has(state, "disk_full", each.mountpoint)
    )
    return max(found, key=lambda each: each.percent, default=None)


def _temperatures(state: HostState, thresholds: Thresholds) -> Iterator[HighestTemperature]:
    """Yield the temperatures of CPU, GPUs and disks; other chips are wrong too often."""
    sensors = state.snapshot.sections.sensors
    if sensors and (celsius := sensors.cpu_celsius) is not None:
        how = level(celsius, cpu_limit(sensors, thresholds), is_problem=_has(state, "cpu_hot"))
        yield HighestTemperature(source="cpu", item="", celsius=celsius, level=how)
    labels, limit = gpu_labels(state.snapshot), gpu_limit(thresholds)
    for gpu in gpus(state.snapshot):
        if (celsius := gpu.temperature_celsius) is not None:
            how = level(celsius, limit, is_problem=_has(state, "gpu_hot", labels[gpu.id]))
            yield HighestTemperature(source="gpu", item=labels[gpu.id], celsius=celsius, level=how)
    for each in temperatures(state.snapshot):
        if each.chip in DISK_CHIPS:
            yield HighestTemperature(source="disk", item=each.label, celsius=each.celsius, level=None)


def _busiest_gpu(state: HostState) -> BusiestGpu | None:
    """Return the card with most of its memory in use, of equal ones the busiest."""
    cards = gpus(state.snapshot)
    if not cards:
        return None
    card = max(cards, key=lambda gpu: (gpu.memory_used_percent or 0.0, gpu.usage_percent or 0.0))
    return BusiestGpu(
        item=gpu_labels(state.snapshot)[card.id],
        usage_percent=card.usage_percent,
        vram_percent=card.memory_used_percent,
        count=len(cards),
    )


def _traffic(state: HostState) -> Traffic | None:
    """Return the traffic of the primary interface, None until there are two readings of it."""
    for each in state.rates.interfaces.values():
        if each.is_primary and each.receive_bytes_per_second is not None:
            return Traffic(
                receive_bytes_per_second=each.receive_bytes_per_second,
                transmit_bytes_per_second=each.transmit_bytes_per_second,
            )
    return None


def _containers(state: HostState) -> ContainerCounts | None:
    """Return how many containers there are, None if no engine reports them."""
    section = state.snapshot.sections.containers
    running, unhealthy = (section.running, section.unhealthy) if section else (None, None)
    if running is None or unhealthy is None:
        return None
    return ContainerCounts(running=running, unhealthy=unhealthy)


def _updates(state: HostState) -> UpdateCounts | None:
    """Return how many packages can be updated."""
    section = state.snapshot.sections.updates
    if section is None or section.pending is None:
        return None
    return UpdateCounts(pending=section.pending, security=section.security)
