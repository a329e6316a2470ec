"""Two looks at a host → what happened between them. Pure.

A happening is told once, against a baseline: what a section last told. A section that was not
told leaves its part of the baseline as it is, so that nothing is missed and nothing told twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .items import services
from .snapshot import Snapshot

REBOOT_SECONDS = 120.0
"""How far the boot time must move: more than clocks drift between two looks, less than a boot takes apart."""
MOST_AT_ONCE = 50
"""Happenings of one kind that one look can bring; each becomes a row in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened: its type, and what about."""

    type: str
    about: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was the case at the last look; None: not told yet, so that a first look is no news."""

    boot_id: str = ""
    boot_time: float | None = None
    failed_units: frozenset[str] | None = None
    lost_gpus: frozenset[str] | None = None


def advance(baseline: Baseline, snapshot: Snapshot) -> tuple[Baseline, tuple[Happening, ...]]:
    """Return the new baseline and what happened since the old one."""
    now = replace(
        baseline,
        boot_id=snapshot.boot_id,
        boot_time=snapshot.boot_time,
        failed_units=_failed_units(baseline, snapshot),
        lost_gpus=_lost_gpus(baseline, snapshot),
    )
    return now, tuple(_between(baseline, now))


def _between(before: Baseline, now: Baseline) -> Iterator[Happening]:
    """Yield what happened."""
    if _has_rebooted(before, now):
        yield Happening(type="rebooted", about={})
    yield from _new("service_failed", "service", before.failed_units, now.failed_units)
    yield from _new("service_recovered", "service", now.failed_units, before.failed_units)
    yield from _new("gpu_lost", "gpu", before.lost_gpus, now.lost_gpus)


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


def _failed_units(baseline: Baseline, snapshot: Snapshot) -> frozenset[str] | None:
    """Return the units that failed, as far as they are told."""
    if snapshot.sections.services is None or not snapshot.sections.services.complete.get("systemd"):
        return baseline.failed_units
    return frozenset(unit.name for unit in services(snapshot) if unit.active_state == "failed")


def _lost_gpus(baseline: Baseline, snapshot: Snapshot) -> frozenset[str] | None:
    """Return the cards that no longer answer; a broken driver loses all of them."""
    section = snapshot.sections.gpu
    if "gpu" in snapshot.errors:
        names = frozenset(gpu.name for gpu in section.gpus) if section else baseline.lost_gpus
        return names or frozenset({"gpu"})
    if section is None:
        return baseline.lost_gpus
    return frozenset(gpu.name for gpu in section.gpus if gpu.state == "lost")
