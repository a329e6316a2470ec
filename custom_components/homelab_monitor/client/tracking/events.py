"""Two snapshots of a host → the events between them. Pure.

An event is reported once, against a baseline: what a section last reported. A section that was not
reported leaves its part of the baseline as it is, so that no event is missed or reported twice.

After a restart of ours the baseline is what was stored, with all that it had to remember (`event_baseline`).
What a host then reports of a boot that began before ours may have happened while nobody polled, and is no event; all
that it reports of a later boot is.
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
"""Every type of event."""
ABOUT: Final = frozenset({"container", "gpu", "owner", "reason", "service"})
"""Keys of the details that an event may have."""
REBOOT_SECONDS = 2.0
"""How much shorter the uptime must be for a reboot: lxcfs computes a container's uptime from whole seconds."""
_STORED = frozenset({"services", "gpu", "containers"})
"""Sections that events are made of."""
SURE_SECONDS = 60.0
"""How long a GPU must be lost: a driver that is being replaced loses its GPUs for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """One event: its type, and its details."""

    type: str
    about: Mapping[str, str]
    owner: str = ""
    """The owner who can cause it repeatedly: a user, or a template of services; "" for the host itself."""


type _Key = tuple[str, str]
"""Source and key of a container; its name may contain anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersBaseline:
    """What was last reported of containers, by source and key; a source that is missing was not reported last."""

    at: float | None = None
    sources: frozenset[str] = frozenset()
    died: frozenset[_Key] = frozenset()
    unhealthy: frozenset[_Key] = frozenset()
    restarts: Mapping[_Key, tuple[str, int]] = field(default_factory=dict)
    """Id and count: a container that is recreated counts from zero."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was the case at the last poll; None: not reported yet, so that a first poll makes no events."""

    boot_id: str = ""
    uptime_seconds: float | None = None
    """As reported last in that boot."""
    failed_units: frozenset[str] | None = None
    """Units that failed and have not settled since."""
    retried_units: frozenset[str] = frozenset()
    """Those of the failed units that were started again."""
    doubtful_units: frozenset[str] = frozenset()
    """Units that failed, no longer count as failed, and have not been seen well since."""
    well_units: frozenset[str] = frozenset()
    """Units that had failed and that were well when the units were last reported."""
    lost_gpus: frozenset[str] | None = None
    gpus: frozenset[str] = frozenset()
    """All GPUs that were reported last."""
    suspects: Mapping[str, float] = field(default_factory=dict)
    """GPUs that do not answer, and since when (steady clock); lost when that lasts."""
    doubted_gpus: frozenset[str] = frozenset()
    """GPUs that did not answer when the baseline was last stored, and were not lost yet."""
    containers: ContainersBaseline = field(default_factory=ContainersBaseline)
    polled: float | None = None
    """Time of the last snapshot, by the steady clock."""
    started: float = math.inf
    """When monitoring started, by the steady clock, where part of the baseline is from the store."""
    stored: frozenset[str] = frozenset()
    """Sections that are known from the store only."""


def advance(
    baseline: Baseline, snapshot: Snapshot, patience: float = math.inf
) -> tuple[Baseline, tuple[HostEvent, ...]]:
    """Return the new baseline and the events since the old one.

    After more than `patience` seconds without a poll it is unknown what lasted.
    """
    reported = _reported(baseline, snapshot)
    silent = _silent(baseline, snapshot, reported)
    before = _with_silent_gpus(baseline, snapshot) if "gpu" in silent else baseline
    now = replace(
        before,
        boot_id=snapshot.boot_id,
        uptime_seconds=_uptime(before, snapshot),
        polled=snapshot.steady,
        stored=before.stored - reported,
    )
    if _has_rebooted(before, now) or (before.polled is not None and snapshot.steady - before.polled > patience):
        before = replace(before, suspects={})
    if "services" in reported:
        now = _with_services(now, before, snapshot)
    if "gpu" in reported:
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
    if "containers" in reported:
        now = replace(now, containers=_containers(before.containers, snapshot))
    return now, tuple(_between(_without(before, now, silent), now))


def _reported(baseline: Baseline, snapshot: Snapshot) -> frozenset[str]:
    """Return the sections that were reported; those from the store wait until it is clear in which boot they were."""
    containers_section = snapshot.sections.containers
    candidates = {
        "services": is_reported(snapshot, "services"),
        # No section reports a driver that fails, or GPUs that are missing.
        "gpu": is_reported(snapshot, "gpu") or bool(gpu_failure(snapshot)) or _are_gpus_gone(baseline, snapshot),
        "containers": containers_section is not None and containers_section.at != baseline.containers.at,
    }
    waiting = frozenset[str]() if is_reported(snapshot, "uptime") else baseline.stored
    return frozenset(name for name, has_news in candidates.items() if has_news) - waiting


def _are_gpus_gone(baseline: Baseline, snapshot: Snapshot) -> bool:
    """Return whether GPUs that are still remembered are no longer reported by any section."""
    is_remembered = baseline.suspects or baseline.doubted_gpus or "gpu" in baseline.stored
    return snapshot.sections.gpu is None and bool(is_remembered)


def is_reported(snapshot: Snapshot, section: str) -> bool:
    """Return whether a section is from the last reply itself, not kept from an earlier one."""
    return snapshot.heard.get(section) == snapshot.steady


def _silent(baseline: Baseline, snapshot: Snapshot, reported: frozenset[str]) -> frozenset[str]:
    """Return the sections known from the store only, if what they now report is of a boot that began before ours.

    What is new in them makes no events; what was known of them before still counts for later events.
    """
    uptime = snapshot.sections.uptime
    if uptime is None or snapshot.steady - baseline.started > uptime.uptime_seconds:
        return frozenset()
    return baseline.stored & reported


def _with_silent_gpus(baseline: Baseline, snapshot: Snapshot) -> Baseline:
    """Return the baseline with the GPUs that were lost while nobody polled, without those that were seen to go."""
    names = frozenset(_suspects(baseline, snapshot) or ())
    return replace(baseline, lost_gpus=(baseline.lost_gpus or frozenset()) | (names - baseline.doubted_gpus))


def _without(before: Baseline, now: Baseline, silent: frozenset[str]) -> Baseline:
    """Return the baseline to compare `now` with, changed so that these sections make no events."""
    if "services" in silent:
        before = replace(before, failed_units=None, well_units=now.well_units)
    if "gpu" in silent:
        before = replace(before, lost_gpus=None)
    return replace(before, containers=ContainersBaseline()) if "containers" in silent else before


def _between(before: Baseline, now: Baseline) -> Iterator[HostEvent]:
    """Yield the events between two baselines."""
    if _has_rebooted(before, now):
        yield HostEvent(type="rebooted", about={})
    yield from _new("service_failed", "service", before.failed_units, now.failed_units)
    yield from _new("service_recovered", "service", before.well_units, now.well_units)
    yield from _new("gpu_lost", "gpu", before.lost_gpus, now.lost_gpus)
    yield from _new_containers("container_died", before.containers, now.containers, lambda each: each.died)
    yield from _new_containers("container_unhealthy", before.containers, now.containers, lambda each: each.unhealthy)


def _has_rebooted(before: Baseline, now: Baseline) -> bool:
    """Return whether the host rebooted; a container has the boot id of its host, and only its uptime starts anew.

    Wall clocks are not used: either side's may be set at any time.
    """
    if before.boot_id and now.boot_id != before.boot_id:
        return True
    if before.uptime_seconds is None or now.uptime_seconds is None:
        return False
    return now.uptime_seconds < before.uptime_seconds - REBOOT_SECONDS


def _uptime(before: Baseline, snapshot: Snapshot) -> float | None:
    """Return the uptime as reported last in this boot; that of an earlier boot means nothing in it."""
    uptime = snapshot.sections.uptime
    if uptime is not None and is_reported(snapshot, "uptime"):
        return uptime.uptime_seconds
    return before.uptime_seconds if before.boot_id == snapshot.boot_id else None


def starting_from(snapshot: Snapshot, started: float, known: Baseline | None = None) -> Baseline:
    """Return the baseline to start from after a restart of ours; `started` is a time of the steady clock.

    `known` is what was stored of the baseline beside the snapshot; None: the file's version stored nothing of it.
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


def _new(event_type: str, about: str, before: frozenset[str] | None, now: frozenset[str] | None) -> Iterator[HostEvent]:
    """Yield an event for each name that is only in `now`; None means that there is nothing to compare."""
    if before is None or now is None or before is now:
        return
    for name in sorted(now - before):
        yield HostEvent(type=event_type, about={about: name}, owner=_template(name) if about == "service" else "")


def _new_containers(
    event_type: str,
    before: ContainersBaseline,
    now: ContainersBaseline,
    keys_fn: Callable[[ContainersBaseline], frozenset[_Key]],
) -> Iterator[HostEvent]:
    """Yield an event for each key that is only in `now`; the first report of an engine makes no events."""
    if before is now:
        return
    new = sorted(each for each in keys_fn(now) - keys_fn(before) if each[0] in before.sources)
    for source, key in new:
        owner = source.partition("/")[2]
        yield HostEvent(type=event_type, about={"container": now.labels[key], "owner": owner}, owner=owner)


def _template(unit: str) -> str:
    """Return the template of a service, "" if it has none: each login or connection makes a new instance."""
    name, at, _ = unit.partition("@")
    return name + at if at else ""


def _with_services(now: Baseline, before: Baseline, snapshot: Snapshot) -> Baseline:
    """Return the baseline with what is reported of the units.

    A unit that is only tried again, or that had no room in the reply, has not recovered. A unit that no longer counts
    as failed is not proven well: a reboot, a mask or `systemctl reset-failed` have the same effect.
    """
    if snapshot.sections.services is None:
        return now
    failed_before = before.failed_units or frozenset()
    reported = {unit.name: unit for unit in services(snapshot) if unit.speaks_for_host}
    failed = frozenset(
        name for name, unit in reported.items() if unit.has_failed or (unit.is_unsettled and name in failed_before)
    )
    # A host may report other units each time, and never all of them.
    is_whole = lists_services(snapshot)
    unread = frozenset[str]() if is_whole else frozenset(islice(sorted(failed_before - reported.keys()), UNREAD_LIMIT))
    retried = frozenset(
        name
        for name in failed
        if reported[name].is_unsettled and (reported[name].active_state == "activating" or name in before.retried_units)
    )
    was_wrong = failed_before | before.doubtful_units
    well = frozenset(name for name in was_wrong & reported.keys() if _is_well(reported[name], before.retried_units))
    known = was_wrong & reported.keys() if is_whole else was_wrong
    return replace(
        now,
        failed_units=failed | unread,
        retried_units=retried | (before.retried_units & unread),
        doubtful_units=frozenset(islice(sorted(known - failed - unread - well), UNREAD_LIMIT)),
        well_units=well,
    )


def _is_well(unit: Service, retried: frozenset[str]) -> bool:
    """Return whether a unit that had failed is well: it runs, or it ran again and ended well."""
    return unit.is_running or (unit.has_ended_well and unit.name in retried)


def _suspects(baseline: Baseline, snapshot: Snapshot) -> Mapping[str, float] | None:
    """Return since when each GPU does not answer; a broken driver loses all of them. None: nothing was reported."""
    if gpu_failure(snapshot):
        names = frozenset(gpu_labels(snapshot).values()) or baseline.gpus or frozenset({"gpu"})
    elif snapshot.sections.gpu:
        names = lost_gpus(snapshot)
    else:
        return None
    return {name: baseline.suspects.get(name, snapshot.steady) for name in names}


def _lost_gpus(baseline: Baseline, suspects: Mapping[str, float] | None, now: float) -> frozenset[str] | None:
    """Return the GPUs that are surely lost, without waiting for those of a first report, which make no events."""
    before = baseline.lost_gpus
    if suspects is None:
        return before
    return frozenset(
        name for name, since in suspects.items() if before is None or name in before or now - since >= SURE_SECONDS
    )


def _containers(before: ContainersBaseline, snapshot: Snapshot) -> ContainersBaseline:
    """Return the new baseline of containers; a source that is not reported completely keeps what the old one knew."""
    section = snapshot.sections.containers
    if section is None or section.at == before.at:
        return before
    whole = frozenset(source for source, is_whole in section.complete.items() if is_whole)
    reported = {(each.source, each.key): each for each in containers(snapshot) if each.source in whole}
    died = {key for key, each in reported.items() if each.has_died or _was_restarted(before, each)}
    # A paused container resumes as it was: that makes no event.
    unhealthy = {
        key
        for key, each in reported.items()
        if each.is_unhealthy or (each.state == "paused" and key in before.unhealthy)
    }
    restarts = {key: (each.id, each.restarts) for key, each in reported.items() if each.restarts is not None}
    # An engine that is missing now has nothing to be compared with when it comes back.
    elsewhere = _remembered(before, (before.sources & section.complete.keys()) - whole)
    kept = {key: count for key, count in before.restarts.items() if key[0] in elsewhere}
    return ContainersBaseline(
        at=section.at,
        sources=elsewhere | whole,
        died=frozenset(key for key in before.died if key[0] in elsewhere) | died,
        unhealthy=frozenset(key for key in before.unhealthy if key[0] in elsewhere) | unhealthy,
        restarts=kept | restarts,
        labels=container_labels(snapshot),
    )


def _remembered(before: ContainersBaseline, sources: frozenset[str]) -> frozenset[str]:
    """Return the sources to remember while they are not reported completely: the largest are dropped first."""
    sizes = Counter(key[0] for key in before.restarts.keys() | before.died | before.unhealthy)
    order = sorted(sources, key=lambda source: (sizes[source], source))
    totals = accumulate(sizes[source] for source in order)
    return frozenset(source for source, total in zip(order, totals, strict=True) if total <= UNREAD_LIMIT)


def _was_restarted(before: ContainersBaseline, now: Container) -> bool:
    """Return whether the engine has restarted a container since the last report; it does not count manual restarts."""
    ident, count = before.restarts.get((now.source, now.key), ("", 0))
    return ident == now.id and now.restarts is not None and now.restarts > count
