"""What a baseline of events knows beyond the snapshot that is stored beside it, as plain JSON. Pure.

A service that is being tried again counts as failed because it had failed; a GPU that does not answer is not lost yet.
No snapshot has this: without it, after a restart in between such events would be reported twice or never.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

from ..limits import BASELINE_BYTES, LINE_LIMIT, UNREAD_LIMIT
from ..probe.snapshot import Snapshot, within
from ..typed import LARGEST, texts
from .events import Baseline, ContainersBaseline
from .values import gpu_labels, services

_NAMES = 2 * UNREAD_LIMIT
"""Limit of names of units: those of a reply, and those that can no longer be read."""


def baseline_as_dict(baseline: Baseline, snapshot: Snapshot) -> dict[str, object]:
    """Return what the snapshot lacks, in BASELINE_BYTES at most; `restore_baseline` is its inverse."""
    failed = {unit.name for unit in services(snapshot) if unit.speaks_for_host and unit.has_failed}
    section, containers = snapshot.sections.containers, baseline.containers
    complete = {source for source, is_whole in section.complete.items() if is_whole} if section else set()
    lost = baseline.lost_gpus
    parts: dict[str, object] = {
        "failed_units": None if baseline.failed_units is None else sorted(baseline.failed_units - failed),
        "retried_units": sorted(baseline.retried_units),
        "doubtful_units": sorted(baseline.doubtful_units),
        "lost_gpus": None if lost is None else sorted(lost),
        "gpus": sorted(baseline.gpus - set(gpu_labels(snapshot).values())),
        "doubted_gpus": sorted((baseline.suspects.keys() | baseline.doubted_gpus) - (lost or frozenset())),
        "containers": {
            "sources": sorted(containers.sources - complete),
            "died": [key for key in sorted(containers.died) if key[0] not in complete],
            "unhealthy": [key for key in sorted(containers.unhealthy) if key[0] not in complete],
            "restarts": [(*key, *count) for key, count in containers.restarts.items() if key[0] not in complete],
        },
    }
    return within(parts, BASELINE_BYTES)


def restore_baseline(stored: object) -> Baseline | None:
    """Return the baseline from what `baseline_as_dict` made, None if it is no object; drop values that do not fit."""
    if not isinstance(stored, Mapping):
        return None
    failed, lost = stored.get("failed_units"), stored.get("lost_gpus")
    containers = stored.get("containers")
    return Baseline(
        failed_units=None if failed is None else _names(failed),
        retried_units=_names(stored.get("retried_units")),
        doubtful_units=_names(stored.get("doubtful_units")),
        lost_gpus=None if lost is None else _names(lost),
        gpus=_names(stored.get("gpus")),
        doubted_gpus=_names(stored.get("doubted_gpus")),
        containers=_containers(containers) if isinstance(containers, Mapping) else ContainersBaseline(),
    )


def _containers(stored: Mapping[str, object]) -> ContainersBaseline:
    """Return the baseline of the containers of engines that were not reported last."""
    sources = _names(stored.get("sources"))
    rows = stored.get("restarts")
    restarts: dict[tuple[str, str], tuple[str, int]] = {}
    for row in islice(rows if isinstance(rows, list | tuple) else (), _NAMES):
        match row:
            case [str(), str(), str(ident), int(count)] if len(ident) <= LINE_LIMIT and abs(count) < LARGEST:
                restarts |= dict.fromkeys(_keys([row[:2]], sources), (ident, count))
    return ContainersBaseline(
        sources=sources,
        died=_keys(stored.get("died"), sources),
        unhealthy=_keys(stored.get("unhealthy"), sources),
        restarts=restarts,
    )


def _keys(stored: object, sources: frozenset[str]) -> frozenset[tuple[str, str]]:
    """Return the keys of the containers of these sources."""
    rows = (texts(row) for row in (stored if isinstance(stored, list | tuple) else ()))
    fitting = ((row[0], row[1]) for row in rows if len(row) == 2 and row[0] in sources)  # noqa: PLR2004
    return frozenset(islice((key for key in fitting if len(key[1]) <= LINE_LIMIT), _NAMES))


def _names(stored: object) -> frozenset[str]:
    """Return the names, within the limits of count and length."""
    fitting: Iterable[str] = (name for name in texts(stored) if len(name) <= LINE_LIMIT)
    return frozenset(islice(fitting, _NAMES))
