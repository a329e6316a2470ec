"""scripts/bench evaluates correctly: medians, ratios, and an exit status that shows a missed budget."""

from contextlib import nullcontext
import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.bench_table import BUDGETS, Figure, Result, best_half, exit_status, mean_of_rounds, table

HUB, REMOTE, WALL, WIRE = BUDGETS[:4]


def result(budget, value: float | None, other: float | None = None) -> Result:
    return Result(budget, *(None if each is None else Figure(each, each) for each in (value, other)))


def test_a_figure_is_the_median_and_the_90th_percentile() -> None:
    figure = Figure.of([*map(float, range(1, 11)), 1000.0])
    assert figure == Figure(6.0, 10.0)
    assert Figure.of([3.0]) == Figure(3.0, 3.0)


def test_a_cadence_is_averaged_and_a_disturbed_round_does_not_count() -> None:
    # One poll in three is dear; the second round ran beside something else.
    assert mean_of_rounds([[1.0, 1.0, 4.0], [9.0, 9.0, 9.0], [1.0, 1.0, 4.0]]).value == pytest.approx(2.0)


def test_times_are_read_in_the_better_half() -> None:
    assert best_half([50.0, 4.0, 6.0, 5.0, 40.0]) == 5.0
    assert best_half([7.0]) == 7.0


def test_a_missed_budget_ends_with_1() -> None:
    passing = [result(HUB, 1.3), result(WALL, 1.9), result(WIRE, 0.5)]
    assert exit_status(passing) == 0
    assert exit_status([*passing, result(REMOTE, 2.51)]) == 1


def test_what_is_not_measured_is_neither_a_pass_nor_a_failure() -> None:
    skipped = result(REMOTE, None, 250.0)
    assert exit_status([skipped]) == 0
    row = table([skipped]).splitlines()[-1]
    assert "not measured" in row
    assert "| ok" not in row


def test_the_table_reports_ratios() -> None:
    row = table([result(WALL, 1.0, 30.0)]).splitlines()[-1]
    assert "30 x" in row
    assert "1510 x" in row
    assert " ok " in row


def test_the_budgets_of_a_poll_are_fractions_of_the_original() -> None:
    assert {budget.key: round(budget.original / budget.most) for budget in BUDGETS if budget.original} == {
        "hub": 53,
        "remote": 360,
        "wall": 755,
        "wire": 69,
    }


@pytest.mark.parametrize(("hub", "status"), [(1.2, 0), (1.4, 1)])
def test_the_script_ends_as_its_table_says(
    hub: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    script = importlib.import_module("bench_main")
    ours = dict.fromkeys(budget.key for budget in BUDGETS) | {"hub": script.Figure(hub, hub)}

    async def measure(*_: object, **__: object) -> tuple[object, object]:
        return ours, dict.fromkeys(ours)

    monkeypatch.setattr(script, "open_place", lambda: nullcontext(SimpleNamespace(words="nothing", lacks="a host")))
    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(script, "start_cost", lambda: None)
    monkeypatch.setattr(script, "open_big_place", lambda: nullcontext(None))
    monkeypatch.setattr("sys.argv", ["bench"])
    assert script.main() == status
    told = capsys.readouterr().out
    assert "remote CPU is not measured: that needs a host" in told
    assert ("MISSED" in told) is bool(status)
