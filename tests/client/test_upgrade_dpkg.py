"""The job that installs updates with a real apt and dpkg: what a failed run left, and how the next one gets over it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.remedies import remedy_for
from custom_components.homelab_monitor.client.control.install_updates import Installation, Phase
from tests.machine import Machine
from tests.real_apt import RealApt

from .test_upgrade import ended, start

FAILS = 'echo "Job for bad.service failed." >&2; [ -e /run/bad-is-fine ]'
CAUSE = "installed bad package post-installation script subprocess"


@pytest.fixture
def machine(make_machine: Callable[[], Machine]) -> Machine:
    return make_machine()


@pytest.fixture
def apt(machine: Machine) -> RealApt:
    """Return a package manager whose package `bad` is up to date, and the script for root."""
    remedy = remedy_for("install_updates_rule", Family.DEBIAN, "root", {"manager": "apt"})
    assert remedy
    machine.run("sh", "-c", remedy.commands[0])
    apt = RealApt(machine)
    apt.install(apt.publish("bad", "1.0"))
    return apt


async def run(machine: Machine) -> Installation:
    await start(machine, "root")
    return await ended(machine, "root")


async def test_a_script_that_fails_is_reported_by_dpkgs_own_cause(machine: Machine, apt: RealApt) -> None:
    apt.publish("bad", "2.0", FAILS)
    found = await run(machine)
    assert found.phase is Phase.FAILED
    assert found.detail.startswith(f"bad: {CAUSE}")
    assert found.detail.endswith("exit status 1")
    assert apt.states() == {"bad": "2.0 half-configured"}


async def test_the_cause_is_found_before_all_that_waits_for_it(machine: Machine, apt: RealApt) -> None:
    apt.install(*(apt.publish(f"dep{number}", "1.0") for number in range(12)))
    apt.publish("bad", "2.0", FAILS)
    for number in range(12):
        apt.publish(f"dep{number}", "2.0", Depends="bad (>= 2.0)")
    found = await run(machine)
    tail = machine.run("tail", "-n", "20", "/run/homelab_monitor-update/output")
    assert "post-installation script" not in tail
    assert "dependency problems - leaving unconfigured" in tail
    assert found.detail.startswith(f"bad: {CAUSE}")


async def test_the_next_run_configures_what_was_left(machine: Machine, apt: RealApt) -> None:
    apt.publish("bad", "2.0", FAILS)
    assert (await run(machine)).phase is Phase.FAILED
    machine.run("touch", "/run/bad-is-fine")
    assert await run(machine) == Installation(phase=Phase.DONE)
    assert apt.states() == {"bad": "2.0 installed"}


async def test_what_goes_on_failing_keeps_nothing_else_from_being_installed(machine: Machine, apt: RealApt) -> None:
    """Nor its own successor, which may be what cures it."""
    apt.install(apt.publish("good", "1.0"))
    apt.publish("bad", "2.0", FAILS)
    assert (await run(machine)).phase is Phase.FAILED
    apt.publish("good", "2.0")
    assert (await run(machine)).detail.startswith(f"bad: {CAUSE}")
    assert apt.states() == {"bad": "2.0 half-configured", "good": "2.0 installed"}
    apt.publish("bad", "3.0")
    assert await run(machine) == Installation(phase=Phase.DONE)
    assert apt.states()["bad"] == "3.0 installed"


async def test_what_an_interrupted_run_did_not_get_is_fetched(machine: Machine, apt: RealApt) -> None:
    apt.publish("needed", "1.0")
    apt.install(apt.publish("half", "1.0", Depends="needed"), how="--unpack")
    assert await run(machine) == Installation(phase=Phase.DONE)
    assert apt.states() == {"bad": "1.0 installed", "half": "1.0 installed", "needed": "1.0 installed"}


async def test_where_something_would_be_removed_it_stops_and_says_so(machine: Machine, apt: RealApt) -> None:
    apt.publish("bad", "2.0")
    apt.publish("needed", "1.0", Conflicts="bad")
    apt.install(apt.publish("half", "1.0", Depends="needed"), how="--unpack")
    found = await run(machine)
    assert found == Installation(phase=Phase.FAILED, detail="E: Packages need to be removed but remove is disabled.")
    assert apt.states() == {"bad": "1.0 installed", "half": "1.0 unpacked"}


async def test_a_changed_configuration_file_is_kept_and_nobody_asked(machine: Machine, apt: RealApt) -> None:
    """dpkg asks when it configures: so does the first step of the job, for what an interrupted run has unpacked."""
    first, second = (conffile(apt, version) for version in ("1.0", "2.0"))
    apt.install(first)
    machine.run("sh", "-c", "echo mine >/etc/conf.test")
    apt.install(second, how="--unpack")
    assert await run(machine) == Installation(phase=Phase.DONE)
    assert machine.run("cat", "/etc/conf.test") == "mine\n"
    assert apt.states()["conf"] == "2.0 installed"


def conffile(apt: RealApt, version: str) -> Path:
    """Return a package with a configuration file that is another one in each version."""
    place = apt.folder / f"conf-{version}"
    (place / "etc").mkdir(parents=True)
    (place / "etc/conf.test").write_text(version)
    (place / "DEBIAN").mkdir()
    (place / "DEBIAN/conffiles").write_text("/etc/conf.test\n")
    return apt.publish("conf", version)
