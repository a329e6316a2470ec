"""Two looks at a host → what happened between them. Pure.

A happening is told once, against a baseline: what a section last told. A section that was not
told leaves its part of the baseline as it is, so that nothing is missed and nothing told twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from .items import container_labels, containers, gpu_failure, gpu_labels, lost_gpus, services
from .models import Container
from .snapshot import Snapshot

REBOOT_SECONDS = 120.0
"""How far the boot time must move: more than clocks drift between two looks, less than a boot takes apart."""
MOST_AT_ONCE = 50
"""Happenings of one kind that one look can bring; each becomes a row in the database."""

SURE_SECONDS = 60.0
"""How long a card must be lost: a driver that is being replaced loses its cards for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened: its type, and what about."""

    type: str
    about: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersLook:
    """What a look at the containers told, by their keys; a source that is not in it was never told."""

    at: float | None = None
    sources: frozenset[str] = frozenset()
    died: frozenset[str] = frozenset()
    unhealthy: frozenset[str] = frozenset()
    restarts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Id and count: a container that is made anew counts anew."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was the case at the last look; None: not told yet, so that a first look is no news."""

    boot_id: str = ""
    boot_time: float | None = None
    failed_units: frozenset[str] | None = None
    lost_gpus: frozenset[str] | None = None
    gpus: frozenset[str] = frozenset()
    """All cards that were told last."""
    suspects: Mapping[str, float] = field(default_factory=dict)
    """Cards that do not answer, and since when; lost when that lasts."""
    containers: ContainersLook = field(default_factory=ContainersLook)


def advance(baseline: Baseline, snapshot: Snapshot) -> tuple[Baseline, tuple[Happening, ...]]:
    """Return the new baseline and what happened since the old one."""
    suspects = _suspects(baseline, snapshot)
    now = replace(
        baseline,
        boot_id=snapshot.boot_id,
        boot_time=snapshot.boot_time,
        failed_units=_failed_units(baseline, snapshot),
        lost_gpus=_lost_gpus(baseline, suspects, snapshot.received),
        gpus=frozenset(gpu_labels(snapshot).values()) or baseline.gpus,
        suspects=suspects or {},
        containers=_containers(baseline.containers, snapshot),
    )
    return now, tuple(_between(baseline, now))


def _between(before: Baseline, now: Baseline) -> Iterator[Happening]:
    """Yield what happened."""
    if _has_rebooted(before, now):
        yield Happening(type="rebooted", about={})
    yield from _new("service_failed", "service", before.failed_units, now.failed_units)
    yield from _new("service_recovered", "service", now.failed_units, before.failed_units)
    yield from _new("gpu_lost", "gpu", before.lost_gpus, now.lost_gpus)
    yield from _new_containers("container_died", before.containers, now.containers, "died")
    yield from _new_containers("container_unhealthy", before.containers, now.containers, "unhealthy")


def _has_rebooted(before: Baseline, now: Baseline) -> bool:
    """Return whether the host booted; a container shares its machine's boot id, and only its uptime starts anew."""
    if before.boot_id and now.boot_id != before.boot_id:
        return True
    if before.boot_time is None or now.boot_time is None:
        return False
    return now.boot_time - before.boot_time > REBOOT_SECONDS


def _new(happening: str, about: str, before: frozenset[str] | None, now: frozenset[str] | None) -> Iterator[Happening]:
    """Yield a happening for each name that is only in `now`; without one of the two there is nothing to compare."""
    if before is None or now is None:
        return
    for name in sorted(now - before)[:MOST_AT_ONCE]:
        yield Happening(type=happening, about={about: name})


def _new_containers(happening: str, before: ContainersLook, now: ContainersLook, what: str) -> Iterator[Happening]:
    """Yield a happening for each container that something is new about; the first look at an engine is no news."""
    new = sorted(key for key in getattr(now, what) - getattr(before, what) if _source(key) in before.sources)
    for key in new[:MOST_AT_ONCE]:
        yield Happening(type=happening, about={"container": now.labels[key]})


def _failed_units(baseline: Baseline, snapshot: Snapshot) -> frozenset[str] | None:
    """Return the units that failed, as far as they are told; one that is only tried again has not recovered."""
    if snapshot.sections.services is None or not snapshot.sections.services.complete.get("systemd"):
        return baseline.failed_units
    before = baseline.failed_units or frozenset()
    return frozenset(
        unit.name for unit in services(snapshot) if unit.has_failed or (unit.is_unsettled and unit.name in before)
    )


def _suspects(baseline: Baseline, snapshot: Snapshot) -> Mapping[str, float] | None:
    """Return since when each card does not answer; a broken driver loses all of them. None: nothing was told."""
    if gpu_failure(snapshot):
        names = frozenset(gpu_labels(snapshot).values()) or baseline.gpus or frozenset({"gpu"})
    elif snapshot.sections.gpu:
        names = lost_gpus(snapshot)
    else:
        return None
    return {name: baseline.suspects.get(name, snapshot.received) for name in names}


def _lost_gpus(baseline: Baseline, suspects: Mapping[str, float] | None, now: float) -> frozenset[str] | None:
    """Return the cards that surely are lost; those of a first look are no news."""
    before = baseline.lost_gpus
    if suspects is None:
        return before
    return frozenset(
        name for name, since in suspects.items() if before is None or name in before or now - since >= SURE_SECONDS
    )


def _containers(before: ContainersLook, snapshot: Snapshot) -> ContainersLook:
    """Return the new look; of a source that is not told whole, what the old one knew."""
    section = snapshot.sections.containers
    if section is None or section.at == before.at:
        return before
    whole = frozenset(source for source, is_whole in section.complete.items() if is_whole)
    told = {each.key: each for each in containers(snapshot) if each.source in whole}
    died = {key for key, each in told.items() if each.has_died or _was_restarted(before, each)}
    unhealthy = {key for key, each in told.items() if each.is_unhealthy}
    restarts = {key: (each.id, each.restarts) for key, each in told.items() if each.restarts is not None}
    kept = {key: count for key, count in before.restarts.items() if _source(key) not in whole}
    return ContainersLook(
        at=section.at,
        sources=before.sources | whole,
        died=_elsewhere(before.died, whole) | died,
        unhealthy=_elsewhere(before.unhealthy, whole) | unhealthy,
        restarts=kept | restarts,
        labels=container_labels(snapshot),
    )


def _was_restarted(before: ContainersLook, now: Container) -> bool:
    """Return whether its engine restarted a container since the last look: what a person restarts is not counted."""
    ident, count = before.restarts.get(now.key, ("", 0))
    return ident == now.id and now.restarts is not None and now.restarts > count


def _elsewhere(keys: frozenset[str], whole: frozenset[str]) -> frozenset[str]:
    """Return the containers of the other sources."""
    return frozenset(key for key in keys if _source(key) not in whole)


def _source(key: str) -> str:
    """Return the source in a container's key."""
    return key.rpartition("/")[0]
