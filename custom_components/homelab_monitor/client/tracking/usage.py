"""Usage of a host by its processes: two readings → what each process used between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from ..models import Process, Processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One process, and how much of one core it used: 100 % is a whole one, as `top` counts."""

    process: Process
    cpu_percent: float


def usages(before: Processes, after: Processes, most_percent: float = inf) -> tuple[Usage, ...]:
    """Return the processes of the second reading; one that started in between has used all of its time since.

    At most all cores (`most_percent`): counters are read some time after `at`.
    """
    # A pid may be another process's by now; with its start time it is unique.
    known = {(process.pid, process.started_seconds): process.cpu_seconds for process in before.processes}
    seconds = max(after.at - before.at, 0.01)
    found = []
    for process in after.processes:
        earlier = known.get(
            (process.pid, process.started_seconds), 0.0 if process.started_seconds >= before.at else None
        )
        used = 0.0 if earlier is None else process.cpu_seconds - earlier
        used_percent = min(most_percent, max(used, 0.0) / seconds * 100)
        found.append(Usage(process=process, cpu_percent=round(used_percent, 1)))
    return tuple(found)


def busiest(found: Sequence[Usage], count: int) -> list[Usage]:
    """Return the `count` processes that use most CPU, busiest first, without those that use none."""
    busy = [usage for usage in found if usage.cpu_percent > 0]
    return sorted(busy, key=lambda usage: (-usage.cpu_percent, usage.process.pid))[:count]


def biggest(found: Sequence[Usage], count: int) -> list[Usage]:
    """Return the `count` processes that use most memory, biggest first."""
    return sorted(found, key=lambda usage: (-usage.process.memory_bytes, usage.process.pid))[:count]
