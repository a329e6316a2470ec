"""GPUs, and the processes that use them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Line, Percent
from .ranges import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; `state` is ok, suspended or lost."""

    id: str
    vendor: str
    name: str
    state: str = "ok"
    uuid: str | None = None
    pci_address: str | None = None
    usage_percent: Percent | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    fan_percent: Percent | None = None
    fan_rpm: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    """Any of thermal, power and hardware; None if the GPU does not report it."""

    @property
    def memory_used_percent(self) -> float | None:
        """Return the used share of the GPU's memory in percent."""
        return percent(self.memory_used_bytes, self.memory_total_bytes)

    @property
    def is_throttled(self) -> bool | None:
        """Return whether heat or a fault slows the GPU down; reaching its power limit is harmless."""
        return None if self.throttle_reasons is None else bool({"thermal", "hardware"} & {*self.throttle_reasons})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All GPUs of the host."""

    gpus: tuple[Gpu, ...]
    at: float | None = None
    driver: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """One process that uses a GPU; `gpu` is the GPU's id, `container` an engine's id or LXC's name."""

    gpu: str
    pid: int
    name: str
    memory_bytes: int | None = None
    unit: Line | None = None
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcesses:
    """Processes on the GPUs that are awake, those with most memory first; `complete` by source: nvidia, drm."""

    processes: tuple[GpuProcess, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)
