"""Two looks at a host → what happened between them. Pure.

A happening is told once, against a baseline: what a section last told. A section that was not
told leaves its part of the baseline as it is, so that nothing is missed and nothing told twice.

After a restart of ours the baseline is what was stored, with all that it had to remember (`event_baseline`).
What a host then tells of a boot that began before we did may have happened while nobody looked, and is no news; of a
boot that we were there for all of it is.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
import math
from typing import Final

from ..limits import UNREAD_LIMIT
from ..models import Container, Service
from ..probe.snapshot import Snapshot
from .values import container_labels, containers, gpu_failure, gpu_labels, lists_services, lost_gpus, services

EVENT_TYPES: Final = (
    "host_offline",
    "host_online",
    "rebooted",
    "service_failed",
    "service_recovered",
    "container_died",
    "container_unhealthy",
    "gpu_lost",
    "update_failed",
)
"""Every type of a happening."""
ABOUT: Final = frozenset({"container", "gpu", "owner", "reason", "service"})
"""What may be said about one."""
REBOOT_SECONDS = 2.0
"""How much shorter the uptime must have become: lxcfs makes a container's from whole seconds."""
_STORED = frozenset({"services", "gpu", "containers"})
"""Sections that happenings are made of."""
SURE_SECONDS = 60.0
"""How long a card must be lost: a driver that is being replaced loses its cards for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """One thing that happened: its type, and what about."""

    type: str
    about: Mapping[str, str]
    owner: str = ""
    """Who can make it happen again and again: a user, or a template of services; "" for the host itself."""


type _Key = tuple[str, str]
"""Source and key of a container, in whose name anything may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersLook:
    """What a look at the containers told, by source and key; a source that is not in it was not told last."""

    at: float | None = None
    sources: frozenset[str] = frozenset()
    died: frozenset[_Key] = frozenset()
    unhealthy: frozenset[_Key] = frozenset()
    restarts: Mapping[_Key, tuple[str, int]] = field(default_factory=dict)
    """Id and count: a container that is made anew counts anew."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was the case at the last look; None: not told yet, so that a first look is no news."""

    boot_id: str = ""
    uptime_seconds: float | None = None
    """As it was told last in that boot."""
    failed_units: frozenset[str] | None = None
    """Units that failed and have not been settled since."""
    retried_units: frozenset[str] = frozenset()
    """Those of them that were started again."""
    doubtful_units: frozenset[str] = frozenset()
    """Units that failed, and that nobody has seen well since they no longer count as failed."""
    well_units: frozenset[str] = frozenset()
    """Those of them that the last look at the units found to be well."""
    lost_gpus: frozenset[str] | None = None
    gpus: frozenset[str] = frozenset()
    """All cards that were told last."""
    suspects: Mapping[str, float] = field(default_factory=dict)
    """Cards that do not answer, and since when; lost when that lasts."""
    doubted_gpus: frozenset[str] = frozenset()
    """Cards that did not answer when the store was last told of them, and were not lost yet."""
    containers: ContainersLook = field(default_factory=ContainersLook)
    looked: float | None = None
    """When anything was told last, by the steady clock."""
    started: float = math.inf
    """When we began to watch, by the steady clock, where something is from the store."""
    stored: frozenset[str] = frozenset()
    """Sections of which only the store has told yet."""


def advance(
    baseline: Baseline, snapshot: Snapshot, patience: float = math.inf
) -> tuple[Baseline, tuple[HostEvent, ...]]:
    """Return the new baseline and what happened since the old one.

    After more than `patience` seconds without a look nobody knows what lasted.
    """
    told = _told(baseline, snapshot)
    silent = _silent(baseline, snapshot, told)
    before = _with_silent_gpus(baseline, snapshot) if "gpu" in silent else baseline
    now = replace(
        before,
        boot_id=snapshot.boot_id,
        uptime_seconds=_uptime(before, snapshot),
        looked=snapshot.steady,
        stored=before.stored - told,
    )
    if _has_rebooted(before, now) or (before.looked is not None and snapshot.steady - before.looked > patience):
        before = replace(before, suspects={})
    if "services" in told:
        now = _with_services(now, before, snapshot)
    if "gpu" in told:
        suspects = _suspects(before, snapshot)
        now = replace(
            now,
            lost_gpus=_lost_gpus(before, suspects, snapshot.steady),
            gpus=frozenset(gpu_labels(snapshot).values()) or before.gpus,
            suspects=suspects or {},
            doubted_gpus=frozenset(),
        )
    elif now.suspects is not before.suspects:
        now = replace(now, suspects=before.suspects)
    if "containers" in told:
        now = replace(now, containers=_containers(before.containers, snapshot))
    return now, tuple(_between(_without(before, now, silent), now))


def _told(baseline: Baseline, snapshot: Snapshot) -> frozenset[str]:
    """Return the sections that something is told of; what the store knows waits until it is clear in which boot."""
    containers_section = snapshot.sections.containers
    told = {
        "services": is_told(snapshot, "services"),
        # Of a driver that fails, and of what is no longer there, no section tells.
        "gpu": is_told(snapshot, "gpu") or bool(gpu_failure(snapshot)) or _are_gpus_gone(baseline, snapshot),
        "containers": containers_section is not None and containers_section.at != baseline.containers.at,
    }
    waiting = frozenset[str]() if is_told(snapshot, "uptime") else baseline.stored
    return frozenset(name for name, is_one in told.items() if is_one) - waiting


def _are_gpus_gone(baseline: Baseline, snapshot: Snapshot) -> bool:
    """Return whether no section tells any more of cards that something is still remembered of."""
    is_remembered = baseline.suspects or baseline.doubted_gpus or "gpu" in baseline.stored
    return snapshot.sections.gpu is None and bool(is_remembered)


def is_told(snapshot: Snapshot, section: str) -> bool:
    """Return whether a section is of the last reply itself, as against kept from one before."""
    return snapshot.heard.get(section) == snapshot.steady


def _silent(baseline: Baseline, snapshot: Snapshot, told: frozenset[str]) -> frozenset[str]:
    """Return the sections of which only the store has told yet, and that now tell of a boot which began before we did.

    What is new in them is no news; what was known of them before still counts for what comes next.
    """
    uptime = snapshot.sections.uptime
    if uptime is None or snapshot.steady - baseline.started > uptime.uptime_seconds:
        return frozenset()
    return baseline.stored & told


def _with_silent_gpus(baseline: Baseline, snapshot: Snapshot) -> Baseline:
    """Return the baseline with the cards that were lost while nobody looked; one that was seen to go was not."""
    names = frozenset(_suspects(baseline, snapshot) or ())
    return replace(baseline, lost_gpus=(baseline.lost_gpus or frozenset()) | (names - baseline.doubted_gpus))


def _without(before: Baseline, now: Baseline, silent: frozenset[str]) -> Baseline:
    """Return what `now` is compared with to say what happened, so that nothing did in these sections."""
    if "services" in silent:
        before = replace(before, failed_units=None, well_units=now.well_units)
    if "gpu" in silent:
        before = replace(before, lost_gpus=None)
    return replace(before, containers=ContainersLook()) if "containers" in silent else before


def _between(before: Baseline, now: Baseline) -> Iterator[HostEvent]:
    """Yield what happened."""
    if _has_rebooted(before, now):
        yield HostEvent(type="rebooted", about={})
    yield from _new("service_failed", "service", before.failed_units, now.failed_units)
    yield from _new("service_recovered", "service", before.well_units, now.well_units)
    yield from _new("gpu_lost", "gpu", before.lost_gpus, now.lost_gpus)
    yield from _new_containers("container_died", before.containers, now.containers, lambda look: look.died)
    yield from _new_containers("container_unhealthy", before.containers, now.containers, lambda look: look.unhealthy)


def _has_rebooted(before: Baseline, now: Baseline) -> bool:
    """Return whether the host booted; a container shares its machine's boot id, and only its uptime starts anew.

    No wall clock has a say in it: either side's may be set at any time.
    """
    if before.boot_id and now.boot_id != before.boot_id:
        return True
    if before.uptime_seconds is None or now.uptime_seconds is None:
        return False
    return now.uptime_seconds < before.uptime_seconds - REBOOT_SECONDS


def _uptime(before: Baseline, snapshot: Snapshot) -> float | None:
    """Return the uptime as it was told last in this boot; that of a boot before means nothing in it."""
    uptime = snapshot.sections.uptime
    if uptime is not None and is_told(snapshot, "uptime"):
        return uptime.uptime_seconds
    return before.uptime_seconds if before.boot_id == snapshot.boot_id else None


def starting_from(snapshot: Snapshot, started: float, known: Baseline | None = None) -> Baseline:
    """Return where to start from after a restart of ours, at a moment of the steady clock.

    `known` is what was stored of the baseline beside the snapshot; None: a file of a version that stored nothing of it.
    """
    uptime = snapshot.sections.uptime
    before = known or Baseline()
    failed = _with_services(Baseline(), Baseline(), snapshot).failed_units
    if failed is None or before.failed_units is None:
        failed = before.failed_units if failed is None else failed
    else:
        failed |= before.failed_units
    lost = before.lost_gpus
    if known is None and snapshot.sections.gpu:
        lost = lost_gpus(snapshot)
    return replace(
        before,
        boot_id=snapshot.boot_id,
        uptime_seconds=None if uptime is None else uptime.uptime_seconds,
        failed_units=failed,
        lost_gpus=lost,
        gpus=frozenset(gpu_labels(snapshot).values()) or before.gpus,
        containers=_containers(before.containers, snapshot),
        started=started,
        stored=_STORED,
    )


def _new(happening: str, about: str, before: frozenset[str] | None, now: frozenset[str] | None) -> Iterator[HostEvent]:
    """Yield a happening for each name that is only in `now`; without one of the two there is nothing to compare."""
    if before is None or now is None or before is now:
        return
    for name in sorted(now - before):
        yield HostEvent(type=happening, about={about: name}, owner=_template(name) if about == "service" else "")


def _new_containers(
    happening: str, before: ContainersLook, now: ContainersLook, keys_fn: Callable[[ContainersLook], frozenset[_Key]]
) -> Iterator[HostEvent]:
    """Yield a happening for each container that something is new about; the first look at an engine is no news."""
    if before is now:
        return
    new = sorted(each for each in keys_fn(now) - keys_fn(before) if each[0] in before.sources)
    for source, key in new:
        owner = source.partition("/")[2]
        yield HostEvent(type=happening, about={"container": now.labels[key], "owner": owner}, owner=owner)


def _template(unit: str) -> str:
    """Return the template of a service, "" for one without: a login or a connection makes new instances."""
    name, at, _ = unit.partition("@")
    return name + at if at else ""


def _with_services(now: Baseline, before: Baseline, snapshot: Snapshot) -> Baseline:
    """Return the baseline with what is told of the units.

    One that is only tried again has not recovered, nor one that had no room. That one has not failed any more is no
    proof that it is well: a reboot, a mask or `systemctl reset-failed` make it so as well.
    """
    if snapshot.sections.services is None:
        return now
    failed_before = before.failed_units or frozenset()
    told = {unit.name: unit for unit in services(snapshot) if unit.speaks_for_host}
    failed = frozenset(
        name for name, unit in told.items() if unit.has_failed or (unit.is_unsettled and name in failed_before)
    )
    # A host may tell of others each time, and never of all.
    is_whole = lists_services(snapshot)
    unread = frozenset[str]() if is_whole else frozenset(islice(sorted(failed_before - told.keys()), UNREAD_LIMIT))
    retried = frozenset(
        name
        for name in failed
        if told[name].is_unsettled and (told[name].active_state == "activating" or name in before.retried_units)
    )
    was_wrong = failed_before | before.doubtful_units
    well = frozenset(name for name in was_wrong & told.keys() if _is_well(told[name], before.retried_units))
    known = was_wrong & told.keys() if is_whole else was_wrong
    return replace(
        now,
        failed_units=failed | unread,
        retried_units=retried | (before.retried_units & unread),
        doubtful_units=frozenset(islice(sorted(known - failed - unread - well), UNREAD_LIMIT)),
        well_units=well,
    )


def _is_well(unit: Service, retried: frozenset[str]) -> bool:
    """Return whether a unit that had failed is seen to be well: it runs, or it ran again and ended well."""
    return unit.is_running or (unit.has_ended_well and unit.name in retried)


def _suspects(baseline: Baseline, snapshot: Snapshot) -> Mapping[str, float] | None:
    """Return since when each card does not answer; a broken driver loses all of them. None: nothing was told."""
    if gpu_failure(snapshot):
        names = frozenset(gpu_labels(snapshot).values()) or baseline.gpus or frozenset({"gpu"})
    elif snapshot.sections.gpu:
        names = lost_gpus(snapshot)
    else:
        return None
    return {name: baseline.suspects.get(name, snapshot.steady) for name in names}


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
    told = {(each.source, each.key): each for each in containers(snapshot) if each.source in whole}
    died = {key for key, each in told.items() if each.has_died or _was_restarted(before, each)}
    # What was paused goes on as it was: that is no news.
    unhealthy = {
        key for key, each in told.items() if each.is_unhealthy or (each.state == "paused" and key in before.unhealthy)
    }
    restarts = {key: (each.id, each.restarts) for key, each in told.items() if each.restarts is not None}
    # An engine that is no longer there has nothing to be compared with when it comes back.
    elsewhere = _remembered(before, (before.sources & section.complete.keys()) - whole)
    kept = {key: count for key, count in before.restarts.items() if key[0] in elsewhere}
    return ContainersLook(
        at=section.at,
        sources=elsewhere | whole,
        died=frozenset(key for key in before.died if key[0] in elsewhere) | died,
        unhealthy=frozenset(key for key in before.unhealthy if key[0] in elsewhere) | unhealthy,
        restarts=kept | restarts,
        labels=container_labels(snapshot),
    )


def _remembered(before: ContainersLook, sources: frozenset[str]) -> frozenset[str]:
    """Return the sources that are remembered while they are not told whole: the largest have no room first."""
    sizes = Counter(key[0] for key in before.restarts.keys() | before.died | before.unhealthy)
    order = sorted(sources, key=lambda source: (sizes[source], source))
    totals = accumulate(sizes[source] for source in order)
    return frozenset(source for source, total in zip(order, totals, strict=True) if total <= UNREAD_LIMIT)


def _was_restarted(before: ContainersLook, now: Container) -> bool:
    """Return whether its engine restarted a container since the last look: what a person restarts is not counted."""
    ident, count = before.restarts.get((now.source, now.key), ("", 0))
    return ident == now.id and now.restarts is not None and now.restarts > count
