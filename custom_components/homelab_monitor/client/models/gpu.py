"""Graphics cards."""

from dataclasses import dataclass

from .vitals import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics card; `state` is ok, suspended or lost."""

    id: str
    vendor: str
    name: str
    state: str = "ok"
    uuid: str | None = None
    pci_address: str | None = None
    usage_percent: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    fan_percent: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttle_reasons: tuple[str, ...] = ()

    @property
    def memory_used_percent(self) -> float | None:
        """Return the used share of the card's memory."""
        return percent(self.memory_used_bytes, self.memory_total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All graphics cards of the host."""

    gpus: tuple[Gpu, ...]
    at: float | None = None
    driver: str | None = None
    source: str | None = None
