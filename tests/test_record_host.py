"""scripts/record_host --again: what tests expect of recorded hosts is what the probe says of them."""

import json
from pathlib import Path
import shutil
import subprocess
import sys

from .recorded import HOSTS, recorded_hosts

SCRIPT = Path(__file__).parents[1] / "scripts" / "record_host"


def record_host(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def copies(folder: Path, *names: str) -> list[Path]:
    return [shutil.copytree(HOSTS / name, folder / name, symlinks=True) for name in names]


def test_what_is_expected_of_each_recorded_host_is_what_it_would_be_again(tmp_path: Path) -> None:
    names = [host.name for host in recorded_hosts()]
    run = record_host("--again", *copies(tmp_path, *names))
    assert (run.returncode, run.stderr, run.stdout.split()) == (0, "", names)
    for name in names:
        # To the letter: else the next one who refreshes them would commit more than what they changed.
        assert (tmp_path / name / "expected.json").read_text() == (HOSTS / name / "expected.json").read_text()


def test_what_a_changed_host_reports_is_refreshed_and_said(tmp_path: Path) -> None:
    (folder,) = copies(tmp_path, "debian-vm")
    load = folder / "proc" / "loadavg"
    load.write_text("7.50 " + load.read_text().partition(" ")[2])
    run = record_host("--again", folder)
    assert run.stdout.splitlines()[:2] == ["debian-vm", "differs: sections.load"]
    assert len(run.stdout.splitlines()) == 4
    assert json.loads((folder / "expected.json").read_text())["sections"]["load"]["load1"] == 7.5


def test_a_tree_without_an_expectation_gets_one(tmp_path: Path) -> None:
    (folder,) = copies(tmp_path, "debian-vm")
    (folder / "expected.json").unlink()
    assert record_host("--again", folder).returncode == 0
    assert (folder / "expected.json").read_text() == (HOSTS / "debian-vm" / "expected.json").read_text()


def test_a_machine_is_recorded_into_one_folder() -> None:
    for arguments in (["--local"], ["somebody@example.invalid"], ["--local", "one", "two"]):
        run = record_host(*arguments)
        assert run.returncode == 2
        assert "wanted: " in run.stderr
