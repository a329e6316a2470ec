"""What is wrong with a host, evaluated over time: sustained, with hysteresis, from raw values. Pure.

A `ProblemTracker` evaluates every poll. A value around a threshold is a problem once it has lasted (`hold_seconds`) and
until it is clearly over (`clear` below the threshold). A value that cannot be read any more is not over: a full disk
that hangs is still full. How long something has lasted is counted in consecutive polls: a gap without polls and another
boot of the host restart it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
import math
from operator import attrgetter

from ..limits import NAME_LIMIT, UNREAD_LIMIT
from ..models import Sensors
from ..models.containers import AHEAD_SECONDS, RESTARTING_SECONDS
from ..probe.snapshot import Snapshot
from .items import Selection
from .rates import Rates
from .values import (
    container_labels,
    containers,
    filesystems,
    gpu_failure,
    gpu_labels,
    gpus,
    lists_services,
    lost_gpus,
    services,
)

_NO_RATES = Rates()
TEMPERATURE_CELSIUS = 90.0
"""For sensors without a critical value of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a value is a problem."""

    disk_percent: float
    memory_percent: float
    cpu_percent: float | None = None
    """None: a busy CPU is no problem."""
    temperature_celsius: float | None = None
    """None: each sensor's own critical value, else TEMPERATURE_CELSIUS."""


class Severity(StrEnum):
    """How soon somebody should look."""

    PROBLEM = "problem"
    WARNING = "warning"


class Level(StrEnum):
    """How near a value is to the threshold of a problem."""

    OK = "ok"
    NEAR = "near"
    PROBLEM = "problem"


NEAR_POINTS = 10.0
"""A value is near from so many percent or °C below the threshold."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One row of KINDS."""

    severity: Severity
    section: str
    """The section that it is read from: while that cannot be read it is not over. "" for none."""
    is_measured: bool = False
    """Whether value and limit are a percentage or a temperature, and not just yes or no."""


_SERIOUS, _MINOR = Severity.PROBLEM, Severity.WARNING
KINDS: Mapping[str, ProblemKind] = {
    "offline": ProblemKind(_SERIOUS, ""),
    "disk_full": ProblemKind(_SERIOUS, "filesystems", is_measured=True),
    "disk_read_only": ProblemKind(_SERIOUS, "filesystems"),
    "memory_full": ProblemKind(_SERIOUS, "memory", is_measured=True),
    "cpu_hot": ProblemKind(_SERIOUS, "sensors", is_measured=True),
    "cpu_busy": ProblemKind(_SERIOUS, "cpu", is_measured=True),
    "gpu_hot": ProblemKind(_SERIOUS, "gpu", is_measured=True),
    "gpu_lost": ProblemKind(_SERIOUS, "gpu"),
    "gpu_driver": ProblemKind(_SERIOUS, ""),
    "service_failed": ProblemKind(_SERIOUS, "services"),
    "container_unhealthy": ProblemKind(_MINOR, "containers"),
    "container_restarting": ProblemKind(_MINOR, "containers"),
}
"""Every kind of problem."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One problem: its kind, and the item that has it ("" for the host)."""

    kind: str
    item: str = ""
    device: str = field(default="", compare=False)
    """What identifies a filesystem until it is unmounted, under any mountpoint; "" if that is not known."""
    since: float | None = field(default=None, compare=False)
    """When it began, as Unix time of the hub; None if an earlier version stored it without."""
    value: float | None = field(default=None, compare=False)
    """What was read last, in percent or °C; None for a kind that is not measured."""
    limit: float | None = field(default=None, compare=False)
    """From which value on it is a problem, in the unit of `value`."""

    @property
    def severity(self) -> Severity:
        """Return how soon somebody should look."""
        return KINDS[self.kind].severity


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One value and its limit; the problem is over once the value is `clear` below the limit."""

    problem: Problem
    value: float
    limit: float
    clear: float = 0.0
    hold_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class ProblemTracker:
    """Remember since when values are over their limits (`since`, steady clock), and the current problems (`told`)."""

    selection: Selection = field(default_factory=Selection)
    since: dict[Problem, float] = field(default_factory=dict)
    told: tuple[Problem, ...] = ()
    patience: float = math.inf
    """How many seconds between two polls are no gap; the caller may change it."""
    polled: float | None = None
    boot_id: str = ""

    def problems(self, snapshot: Snapshot, thresholds: Thresholds, rates: Rates = _NO_RATES) -> tuple[Problem, ...]:
        """Return the problems of now, in a stable order."""
        now, before = snapshot.steady, frozenset(self.told)
        if snapshot.boot_id != self.boot_id or (self.polled is not None and now - self.polled > self.patience):
            self.start_over()
        self.polled, self.boot_id = now, snapshot.boot_id
        readings = (*_readings(snapshot, thresholds, self.selection, before), *_cpu(rates, thresholds.cpu_percent))
        over = {each.problem: self.since.get(each.problem, now) for each in readings if _is_over(each, before)}
        hold = {each.problem: each.hold_seconds for each in readings}
        held = {problem for problem, since in over.items() if problem in before or now - since >= hold[problem]}
        without_value = [each for each in self.told if each not in hold]
        unknown = filter(_unknown(snapshot, thresholds, rates), without_value) if without_value else ()
        unread = set(islice(unknown, UNREAD_LIMIT))
        self.since = over | {problem: self.since.get(problem, now) for problem in unread}
        read, begun = {each.problem: each for each in readings}, self._begun(snapshot)
        present = (_as_read(problem, read.get(problem), begun(problem)) for problem in held | unread)
        self.told = tuple(sorted(present))
        return self.told

    def _begun(self, snapshot: Snapshot) -> Callable[[Problem], float]:
        """Return since when there is a problem, as Unix time; one that has moved with its filesystem is the same."""
        moments = {each: each.since for each in self.told if each.since is not None}
        moved = {(each.kind, each.device): since for each, since in moments.items() if each.device}
        age = {problem: snapshot.steady - since for problem, since in self.since.items()}

        def begun(problem: Problem) -> float:
            known = moments.get(problem, moved.get((problem.kind, problem.device)))
            return snapshot.received - age[problem] if known is None else known

        return begun

    def start_over(self) -> None:
        """Forget how long values have been over their limits; problems stay problems while they are the case."""
        self.since.clear()


def level(value: float, limit: float, *, is_problem: bool) -> Level:
    """Return how near a value is; it is a problem as long as the host has that problem, and not sooner or longer."""
    if is_problem:
        return Level.PROBLEM
    return Level.NEAR if value >= limit - NEAR_POINTS else Level.OK


def _as_read(problem: Problem, reading: _Reading | None, since: float) -> Problem:
    """Return a problem with what was read now; one that could not be read keeps its last value."""
    if reading is None or not KINDS[problem.kind].is_measured:
        return replace(problem, since=since)
    return replace(reading.problem, since=since, value=reading.value, limit=reading.limit)


def _unknown(snapshot: Snapshot, thresholds: Thresholds, rates: Rates) -> Callable[[Problem], bool]:
    """Return a predicate: whether this snapshot cannot show if a problem is over."""
    late = _late(snapshot)
    waits = thresholds.cpu_percent is not None and _usage(rates) is None
    return lambda problem: _is_unread(problem, snapshot, late) or (waits and problem.kind == "cpu_busy")


def _late(snapshot: Snapshot) -> frozenset[str]:
    """Return the filesystems that did not answer, have impossible numbers, or are mounted by a guest.

    By their mountpoints, and by what nobody can change (`Problem.device`), which begins with a space.
    """
    section = snapshot.sections.filesystems
    if section is None:
        return frozenset()
    unread = (
        item.mountpoint for item in filesystems(snapshot) if item.used_percent is None or item.guest_uid is not None
    )
    devices = (_device(snapshot, number) for number in section.late_devices)
    return frozenset((*section.late, *unread, *filter(None, devices)))


def _device(snapshot: Snapshot, number: str | None) -> str:
    """Return what identifies a filesystem until it is unmounted, "" if that is not known."""
    device = f" {number} {snapshot.boot_id}" if number else ""
    return device if len(device) <= NAME_LIMIT else ""


def _is_over(reading: _Reading, before: frozenset[Problem]) -> bool:
    """Return whether a value counts as over its limit: a current problem ends only `clear` below the limit."""
    clear = reading.clear if reading.problem in before else 0.0
    return reading.value >= reading.limit - clear


def _filesystems(snapshot: Snapshot, limit: float, before: frozenset[Problem]) -> Iterator[_Reading]:
    """Yield how full the filesystems are, and those that an error made read-only.

    A read-only filesystem (an image, an installation medium) is full by nature; one that was full before it became
    read-only still is a problem.
    """
    devices = {(each.kind, each.item): each.device for each in before if each.kind in _OF_FILESYSTEMS}
    known = {(kind, device) for (kind, _), device in devices.items() if device}
    for item in filesystems(snapshot):
        if not devices and not item.read_only_by_error and (item.used_percent is None or item.used_percent < limit):
            continue  # Most are like that.
        device = _device(snapshot, item.device_number)
        full, stopped = (Problem(kind=kind, item=item.mountpoint, device=device) for kind in _OF_FILESYSTEMS)
        # What a guest mounts in the place of another filesystem says nothing about that one.
        others = [each for each in (full, stopped) if devices.get((each.kind, each.item), device) != device]
        if item.guest_uid is not None and others:
            continue
        was_full = full in before or (full.kind, device) in known
        if item.used_percent is not None and (not item.read_only or was_full):
            least = limit if full in before or not was_full else limit - _CLEAR_PERCENT
            yield _Reading(problem=full, value=item.used_percent, limit=least, clear=_CLEAR_PERCENT)
        if item.read_only_by_error:
            yield _Reading(problem=stopped, value=1, limit=1)


_OF_FILESYSTEMS = ("disk_full", "disk_read_only")
_CLEAR_PERCENT = 2


def _readings(
    snapshot: Snapshot, thresholds: Thresholds, selection: Selection, before: frozenset[Problem]
) -> Iterator[_Reading]:
    """Yield every value that can be a problem; `before` are the problems so far."""
    sections = snapshot.sections
    yield from _filesystems(snapshot, thresholds.disk_percent, before)
    # A cache that fills the memory (ZFS) is no shortage.
    if sections.memory and (used := sections.memory.needed_percent) is not None:
        problem = Problem(kind="memory_full")
        yield _Reading(problem=problem, value=used, limit=thresholds.memory_percent, clear=2, hold_seconds=300)
    yield from _temperatures(snapshot, thresholds)
    failed_before = {each.item for each in before if each.kind == "service_failed"}
    for unit in filter(attrgetter("speaks_for_host"), services(snapshot)):
        # A unit that is tried again (a job, every hour) is neither a problem that is over nor a new one.
        failed = 1.0 if unit.has_failed else 0.5 if unit.is_unsettled else 0.0
        if failed or unit.name in failed_before:
            yield _Reading(problem=Problem(kind="service_failed", item=unit.name), value=failed, limit=1, clear=0.5)
    yield from _containers(snapshot, selection)
    # A driver that is being replaced fails for a moment.
    for label in lost_gpus(snapshot):
        yield _Reading(problem=Problem(kind="gpu_lost", item=label), value=1, limit=1, hold_seconds=60)
    if gpu_failure(snapshot):
        yield _Reading(problem=Problem(kind="gpu_driver"), value=1, limit=1, hold_seconds=60)


def _cpu(rates: Rates, limit: float | None) -> Iterator[_Reading]:
    """Yield how busy the CPU is, if that has a threshold."""
    if limit is not None and (usage := _usage(rates)) is not None:
        yield _Reading(problem=Problem(kind="cpu_busy"), value=usage, limit=limit, clear=5, hold_seconds=900)


def _usage(rates: Rates) -> float | None:
    """Return how busy the CPU is in percent, None until there are two readings."""
    return rates.cpu.usage_percent if rates.cpu else None


def _containers(snapshot: Snapshot, selection: Selection) -> Iterator[_Reading]:
    """Yield the containers that fail their health check, and those that do not stay up.

    Containers of other users of the host are no problem of the host, unless selected with their owner.
    """
    counted = [each for each in containers(snapshot) if selection.is_vouched_for(each)]
    unhealthy = [each.key for each in counted if each.is_unhealthy]
    restarting = [each.key for each in counted if each.is_restarting(snapshot.epoch)]
    labels = container_labels(snapshot) if unhealthy or restarting else {}
    for key in unhealthy:
        yield _Reading(problem=Problem(kind="container_unhealthy", item=labels[key]), value=1, limit=1)
    for key in restarting:
        # Longer than the time in which one restart looks like a series.
        problem = Problem(kind="container_restarting", item=labels[key])
        yield _Reading(problem=problem, value=1, limit=1, hold_seconds=RESTARTING_SECONDS + AHEAD_SECONDS)


def _is_unread(problem: Problem, snapshot: Snapshot, late: frozenset[str]) -> bool:
    """Return whether what a problem is about could not be read this time, as opposed to no longer existing."""
    section = KINDS[problem.kind].section
    if section in snapshot.errors or snapshot.missing.get(section) == "timed_out" or snapshot.lacks_rows(section):
        return True
    if problem.kind == "memory_full":
        return snapshot.sections.memory is not None and snapshot.sections.memory.needed_percent is None
    if problem.kind == "service_failed":
        return snapshot.sections.services is not None and not lists_services(snapshot)
    if section != "filesystems":
        return False
    filesystems = snapshot.sections.filesystems
    is_cut = filesystems is not None and filesystems.complete.get("names") is False
    return is_cut or problem.item in late or problem.device in late


def cpu_limit(sensors: Sensors, thresholds: Thresholds) -> float:
    """Return from how many °C on the CPU is too hot."""
    return thresholds.temperature_celsius or sensors.cpu_critical_celsius or TEMPERATURE_CELSIUS


def gpu_limit(thresholds: Thresholds) -> float:
    """Return from how many °C on a GPU is too hot."""
    return thresholds.temperature_celsius or TEMPERATURE_CELSIUS


def _temperatures(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[_Reading]:
    """Yield the temperatures of CPU and GPUs; other chips are wrong too often to be evaluated."""
    sensors = snapshot.sections.sensors
    if sensors and sensors.cpu_celsius is not None:
        problem, limit = Problem(kind="cpu_hot"), cpu_limit(sensors, thresholds)
        yield _Reading(problem=problem, value=sensors.cpu_celsius, limit=limit, clear=5, hold_seconds=60)
    labels = gpu_labels(snapshot)
    for gpu in gpus(snapshot):
        if gpu.temperature_celsius is not None:
            problem = Problem(kind="gpu_hot", item=labels[gpu.id])
            value, limit = gpu.temperature_celsius, gpu_limit(thresholds)
            yield _Reading(problem=problem, value=value, limit=limit, clear=5, hold_seconds=60)
