"""scripts/soak: two hours of moved clocks leave everything as it was; whatever is more is a deviation."""

from collections import Counter
import importlib
from pathlib import Path
import struct
import subprocess
import sys
from types import ModuleType

import pytest

from .homelab.lab import forbidden, missing
from .needs import needs

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("entities", "unique ids", "devices", "states", "repair issues", "store keys", "files of .storage")
USED = ("tasks of the hub", "timers of the hub", "descriptors of the probe")


@pytest.mark.timeout(180)
def test_two_hours_leave_everything_as_it_was() -> None:
    lacks = missing(systemd=True) or forbidden(systemd=True)
    needs(not lacks, lacks)
    done = subprocess.run(
        [sys.executable, SCRIPTS / "soak_main.py", "--hours", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("ok  ")]
    for what in (
        "states",
        "events",
        "memory of the probe",
        "database rows a day",
        "cpu was asked",
        "of what was taken",
    ):
        assert any(what in row for row in rows), done.stdout


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module that compares; the clocks of this process stay as they are."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("soak_table")


def look(looks: ModuleType, megabytes: float = 10.0, **changed: object):
    """Return a look with one thing of each kind, and with what was changed."""
    names = {name: frozenset({"one", "service_old"}) for name in NAMES}
    used = {name: Counter({"kind": 2}) for name in USED}
    return looks.Look(names | changed.get("names", {}), used | changed.get("used", {}), {"hub": megabytes})


def failures(looks: ModuleType, last: object, *, forgotten: bool = False) -> list[str]:
    rows = looks.compare(look(looks), last, {"hub": 1.0}, ("old",), forgotten=forgotten)
    return [row.what for row in rows if not row.ok]


def test_what_is_as_it_was_is_no_deviation(looks: ModuleType) -> None:
    assert failures(looks, look(looks)) == []


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("names", [{"one"}, {"one", "two", "service_old"}, {"service_old", "another"}])
def test_each_name_more_or_less_is_a_deviation(looks: ModuleType, what: str, names: set[str]) -> None:
    assert what in failures(looks, look(looks, names={what: frozenset(names)}))


@pytest.mark.parametrize("what", USED)
@pytest.mark.parametrize("counts", [{"kind": 3}, {"kind": 1, "other": 1}])
def test_one_more_of_a_kind_is_a_deviation_even_where_the_sum_is_less(
    looks: ModuleType, what: str, counts: dict[str, int]
) -> None:
    assert failures(looks, look(looks, used={what: Counter(counts)})) == [what]


def test_less_is_no_deviation(looks: ModuleType) -> None:
    assert failures(looks, look(looks, used={USED[0]: Counter({"kind": 1})})) == []


def test_memory_has_a_slack(looks: ModuleType) -> None:
    assert failures(looks, look(looks, megabytes=10.9)) == []
    assert failures(looks, look(looks, megabytes=11.1)) == ["memory of the hub"]


def test_what_was_taken_away_has_to_be_forgotten_in_time_and_not_before(looks: ModuleType) -> None:
    without = look(looks, names={name: frozenset({"one"}) for name in NAMES})
    assert failures(looks, without, forgotten=True) == []
    assert failures(looks, look(looks), forgotten=True) == [*NAMES, "of what was taken away"]
    assert failures(looks, without) == [*NAMES, "of what was taken away"]


def test_the_probe_goes_by_moved_clocks(tmp_path: Path) -> None:
    # In processes of their own, as the module moves the clocks of whoever imports it.
    clock, program, folders = tmp_path / "clock", tmp_path / "probe.py", [str(SCRIPTS), str(SCRIPTS.parent)]
    run_python(f"""
import sys
sys.path[:0] = {folders!r}
from pathlib import Path
from custom_components.homelab_monitor.client.probe.programs import probe_source
from soak_clock import move_probe
source = probe_source(Path({folders[1]!r}, "custom_components/homelab_monitor/probes"))
Path({str(program)!r}).write_bytes(move_probe(source, {str(clock)!r}))
""")
    clock.write_bytes(struct.pack("dd", 0.0, 0.0))
    told = run_python(f"""
from pathlib import Path
import runpy
import struct
host = runpy.run_path({str(program)!r}, run_name="moved")["Host"]()
def look():
    stat = [line.split() for line in host.read("/proc/stat").splitlines() if line.startswith("cpu")]
    idle, *cores = (int(words[4]) / host.ticks() for words in stat)
    return host.boottime(), host.epoch(), float(host.read("/proc/uptime").split()[0]), idle / len(cores), cores[0]
before = look()
Path({str(clock)!r}).write_bytes(struct.pack("dd", 3600.0, -600.0))
print(*(round(now - then, -1) for now, then in zip(look(), before)))
""")
    assert [float(word) for word in told.split()] == [3600.0, 3000.0, 3600.0, 3600.0, 3600.0]


def run_python(script: str) -> str:
    """Return what a script prints."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
