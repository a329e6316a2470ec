"""What a run of the tests leaves behind is found and ended."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
RUN = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
import leftovers
leftovers._GRACE_SECONDS = float(sys.argv[3])
leftovers._FOLDERS = (__import__("pathlib").Path(sys.argv[5]),)
run = lambda: subprocess.run(["sh", "-c", sys.argv[4]]).returncode == 0
passed, lines = leftovers.watch(run, __import__("pathlib").Path(sys.argv[2]))
for line in lines:
    print(line)
print(passed)
print(len(leftovers.descendants()), "left")
"""


def found_after(command: str, checkout: Path, seconds: float = 1.0, *, ends_well: bool = True) -> list[str]:
    words = [
        sys.executable,
        "-c",
        RUN,
        str(ROOT / "scripts"),
        str(checkout),
        str(seconds),
        command,
        str(checkout / "run"),
    ]
    ran = subprocess.run(
        words,
        env=os.environ | {"TMPDIR": str(checkout / "run")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *lines, passed, left = ran.stdout.splitlines()
    assert (passed, left) == (str(ends_well), "0 left")
    return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "run").mkdir()
    return tmp_path


def test_a_clean_run_leaves_nothing(checkout: Path) -> None:
    assert found_after("sleep 0.1 & true", checkout, seconds=20) == []


def test_how_the_run_ended_is_reported(checkout: Path) -> None:
    assert found_after("exit 3", checkout, ends_well=False) == []


def test_an_orphan_that_ends_during_the_run_is_no_zombie(checkout: Path) -> None:
    """A test that waits for the end of a process that it does not own would wait for ever."""
    orphan = f"(sleep 0.2 & echo $! >{checkout}/.git/pid); sleep 1; test ! -e /proc/$(cat {checkout}/.git/pid)"
    assert found_after(orphan, checkout) == []


@pytest.mark.parametrize("command", ["sleep 77 >/dev/null 2>&1 &", "setsid -f sleep 77 >/dev/null 2>&1"])
def test_a_process_that_outlives_the_run_is_found_and_ended(command: str, checkout: Path) -> None:
    [line] = found_after(command, checkout)
    assert line.startswith("process ")
    assert line.endswith(": sleep 77")


def test_a_file_in_the_checkout_is_found(checkout: Path) -> None:
    assert found_after(f"touch {checkout}/core", checkout) == ["file ?? core"]


def test_a_file_of_ours_elsewhere_is_found(checkout: Path) -> None:
    (checkout / ".git" / "info" / "exclude").write_text("run\n")
    name = checkout / "run" / "homelab_left"
    assert found_after(f"touch {name}", checkout) == [f"file {name}"]
