"""A check is not run again on the very files that it has passed with, and on no others."""

from pathlib import Path
import subprocess

import pytest

from scripts.passed import INPUTS, KEPT, Passed

PROBE = "custom_components/homelab_monitor/probes/probe.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (PROBE, "tests/test_one.py", "README.md"):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    subprocess.run(["git", "init", "-q", tmp_path / "checkout"], check=True)
    (tmp_path / "checkout/.gitignore").write_text("*.log\n")
    return tmp_path / "checkout"


@pytest.fixture
def passed(checkout: Path, tmp_path: Path) -> Passed:
    passed = Passed(checkout, ["sshd"], tmp_path / "passed")
    for check in INPUTS:
        assert not passed.look(check)
        passed.add(check)
        assert passed.look(check)
    return passed


@pytest.mark.parametrize(
    ("name", "again"),
    [
        (PROBE, {"probe", "pytest", "minimum"}),
        ("tests/test_one.py", {"pytest", "minimum"}),
        ("tests/test_new.py", {"pytest", "minimum"}),
        ("README.md", {"probe", "pytest", "minimum"}),
        ("some.log", set()),
    ],
)
def test_what_a_check_reads_makes_it_run_again(passed: Passed, checkout: Path, name: str, again: set[str]) -> None:
    (checkout / name).write_text("2\n")
    assert {check for check in INPUTS if not passed.look(check)} == again


def test_a_file_that_is_gone_makes_it_run_again(passed: Passed, checkout: Path) -> None:
    (checkout / PROBE).unlink()
    assert not passed.look("probe")


def test_another_machine_is_another_matter(passed: Passed, checkout: Path, tmp_path: Path) -> None:
    assert not Passed(checkout, ["sshd", "docker"], tmp_path / "passed").look("pytest")


def test_a_quick_check_always_runs(passed: Passed) -> None:
    passed.add("ruff")
    assert not passed.look("ruff")


def test_what_was_changed_during_the_run_has_not_passed(passed: Passed, checkout: Path) -> None:
    (checkout / "README.md").write_text("before")
    assert not passed.look("pytest")
    (checkout / "README.md").write_text("during")
    passed.add("pytest")
    assert not passed.look("pytest")
    (checkout / "README.md").write_text("before")
    assert passed.look("pytest")


def test_few_passes_are_remembered(passed: Passed, checkout: Path, tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        (checkout / "README.md").write_text(str(number))
        passed.look("pytest")
        passed.add("pytest")
    assert len(list((tmp_path / "passed").iterdir())) == KEPT
    assert passed.look("pytest")
