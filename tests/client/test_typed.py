"""Values of files that anybody may have written: what fits is taken as it is, whatever does not costs only itself."""

import json
from typing import Any

import pytest

from custom_components.homelab_monitor.client.checks.report import (
    CheckResult,
    CheckStatus,
    Report,
    Verdict,
    restore_report,
)
from custom_components.homelab_monitor.settings import HostOptions

LONG = "\u202e\n" * 10_000
ROW = CheckResult.of("shell", Verdict(CheckStatus.AMBER, "shell_noise", {"line": LONG}))
NUMBERS = ("interval", "timeout", "disk_threshold", "memory_threshold", "cpu_threshold", "temperature_threshold")
LISTS = ("services", "filesystems", "interfaces", "containers", "sudo")
FLAGS = ("may_be_off", "connect_each_poll", "power", "control_services", "control_containers", "install_updates")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [None, True, "20", [20], {}, float("nan"), float("inf"), 10**400, -(2**53)])
def test_what_is_no_number_has_the_default(name: str, value: object) -> None:
    assert HostOptions.from_options({name: value, "power": True}) == HostOptions(power=True)


@pytest.mark.parametrize("name", ["interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, 86401])
def test_what_is_no_time_to_wait_has_the_default(name: str, value: object) -> None:
    assert HostOptions.from_options({name: value}) == HostOptions()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_stays_what_it_is(name: str) -> None:
    told = [getattr(HostOptions.from_options({name: value}), name) for value in (20, 20.5)]
    assert [repr(value) for value in told] == ["20", "20.5"]


@pytest.mark.parametrize("name", LISTS)
def test_what_is_no_text_is_left_out_of_a_list(name: str) -> None:
    assert getattr(HostOptions.from_options({name: ["a", 7, None, ["b"], LONG]}), name) == ("a", LONG)
    assert all(HostOptions.from_options({name: value}) == HostOptions() for value in (None, "abc", {"a": "b"}, 7))


@pytest.mark.parametrize("name", FLAGS)
def test_only_yes_is_yes(name: str) -> None:
    assert all(HostOptions.from_options({name: value}) == HostOptions() for value in (None, 1, "true", [True], False))
    assert getattr(HostOptions.from_options({name: True}), name) is True


def test_an_option_that_nobody_knows_is_passed_over() -> None:
    assert HostOptions.from_options({"unheard of": 1}) == HostOptions()


def test_a_report_is_stored_as_it_always_was() -> None:
    stored = Report(rows=(ROW,), at=5.5, seconds=0.25, error=None).as_dict()
    row = {"check": "shell", "status": "amber", "reason": "shell_noise", "placeholders": {"line": LONG}, "remedy": None}
    assert json.dumps(stored) == json.dumps({"at": 5.5, "seconds": 0.25, "family": "other", "rows": [row]})
    assert json.dumps(ROW.as_dict()) == json.dumps(row)
    assert restore_report(stored) == Report(rows=(ROW,), at=5.5, seconds=0.25)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": {}},
        {"rows": [[]]},
        {"rows": [ROW.as_dict() | {"status": []}]},
        {"rows": [ROW.as_dict() | {"placeholders": None}]},
        {"seconds": "soon"},
        {"family": None},
    ],
)
def test_a_report_of_another_shape_is_none(change: dict[str, Any]) -> None:
    assert restore_report(Report(rows=(ROW,), at=5.5).as_dict() | change) is None
