"""Sections on demand: processes and logs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Age, Line, Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process; times since its start and since the boot of the host."""

    pid: int
    name: str
    state: str
    user: str
    cpu_seconds: float
    memory_bytes: int
    threads: int
    started_seconds: Age
    unit: Line | None = None
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of the host at one moment; `total` includes those that are left out."""

    at: Age
    total: int
    processes: tuple[Process, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The last lines of one log, oldest first."""

    lines: tuple[Path, ...]
    truncated: bool
