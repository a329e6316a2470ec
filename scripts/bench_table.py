"""What scripts/bench compares: the budgets of a poll, the figures beside them, the table, the verdict.

Nothing is measured here. A figure is the median of what was measured, for times of the better half, and the 90th
percentile of all; a row without one was not measured, which is neither a pass nor a failure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Self

OK, MISSED, NOT_MEASURED = "ok", "MISSED", "not measured"


@dataclass(frozen=True)
class Budget:
    """One row: what it is about, its unit, the most it may be, and what the original hub costs where that is known."""

    key: str
    what: str
    unit: str
    most: float
    original: float | None = None


BUDGETS = (
    Budget("hub", "hub CPU per poll, entity writes included", "ms", 1.3, 69.0),
    Budget("remote", "remote CPU per poll, PID 1 included", "ms", 2.5, 899.0),
    Budget("wall", "wall time of an ordinary poll, loopback", "ms", 2.0, 1510.0),
    Budget("wire", "bytes of an ordinary poll, both ways", "kB", 1.3, 90.0),
    Budget("big_hub", "a big host: hub CPU per poll, entity writes included", "ms", 3.0),
    Budget("big_remote", "a big host: remote CPU per poll, PID 1 and engine included", "ms", 8.0),
    Budget("big_wire", "a big host: bytes per poll, averaged", "kB", 3.0),
    Budget("rows", "database rows of an idle host per day, at 10 s", "rows", 15_000.0),
    Budget("start", "Home Assistant's start with 50 hosts that hang, more than without", "s", 1.0),
)


@dataclass(frozen=True)
class Figure:
    """One measured quantity in the unit of its budget."""

    value: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float], middle: Callable[[Sequence[float]], float] = median) -> Self:
        """Return the figure of a series."""
        tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
        return cls(middle(values), tenths[-1])


def mean_of_rounds(rounds: Sequence[Sequence[float]]) -> Figure:
    """Return the rounds' mean, of the better half of them, and the 90th percentile of all their values."""
    values = [value for each in rounds for value in each]
    return Figure(best_half(list(map(fmean, rounds))), Figure.of(values).p90)


def best_half(values: Sequence[float]) -> float:
    """Return the median of the better half: other work on the machine makes everything slower, nothing faster.

    That goes for CPU time, too: a core that is shared works with cold caches, and a virtual one counts stolen time.
    """
    return median(sorted(values)[: (len(values) + 1) // 2])


@dataclass(frozen=True)
class Result:
    """A budget, our figure, and that of a subprocess per poll; None: not measured."""

    budget: Budget
    ours: Figure | None
    subprocess: Figure | None

    @property
    def verdict(self) -> str:
        """Return how our figure compares with its budget."""
        if self.ours is None:
            return NOT_MEASURED
        return OK if self.ours.value <= self.budget.most else MISSED


def exit_status(results: Sequence[Result]) -> int:
    """Return 1 when any budget is missed."""
    return int(any(result.verdict == MISSED for result in results))


HEADS = ("", "measured [p90]", "budget", "", "subprocess per poll", "less by", "the original", "less by")


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table that is also readable as it is."""
    rows = [HEADS, *map(_cells, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(result: Result) -> tuple[str, ...]:
    """Return one row of the table."""
    budget, ours, other = result.budget, result.ours, result.subprocess
    digits = 0 if budget.most >= 1000 else 2  # noqa: PLR2004
    measured = f"{ours.value:,.{digits}f} {budget.unit} [{ours.p90:,.{digits}f}]" if ours else ""
    compared = f"{other.value:.1f} {budget.unit}" if other else ""
    return (
        budget.what,
        measured,
        f"{budget.most:,g} {budget.unit}",
        result.verdict,
        compared,
        _ratio(other.value, ours) if other else "",
        f"{budget.original:g} {budget.unit}" if budget.original else "",
        _ratio(budget.original, ours) if budget.original else "",
    )


def _ratio(more: float, ours: Figure | None) -> str:
    """Return how many times more something costs."""
    return f"{more / ours.value:.0f} x" if ours and ours.value > 0 else ""
