"""When each section is requested."""

from dataclasses import replace

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.homelab_monitor.client.limits import EARLY_TURNS
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.models.machine import DiskHardware, Hardware
from custom_components.homelab_monitor.client.models.vitals import DiskCounters, DiskIo, Uptime
from custom_components.homelab_monitor.client.probe.snapshot import Reply, Sections, Snapshot
from custom_components.homelab_monitor.client.tracking.schedule import LATE_SECONDS, Schedule

EVERY_POLL = [name for name, kind in SECTIONS.items() if kind.every_seconds == 0]


def reply(**missing: str) -> Reply:
    return Reply(id="1", boot_id="", epoch=0.0, sections={}, missing=missing, errors={}, seconds={})


def test_every_section_has_its_turn_at_first_and_after_a_new_start() -> None:
    turns = Schedule()
    assert turns.due(0.0) == list(SECTIONS)
    turns.answered(SECTIONS, Snapshot(), reply(), 0.0)
    assert turns.due(1.0) == EVERY_POLL
    assert set(turns.due(30.0)) == {*EVERY_POLL, "services", "containers"}
    turns.start_over()
    assert turns.due(1.0) == list(SECTIONS)


@pytest.mark.parametrize(("uptime", "again"), [(12.0, 60.0), (299.0, 60.0), (300.0, 600.0), (86400.0, 600.0)])
def test_of_a_host_that_is_booting_nothing_is_old_for_minutes(uptime: float, again: float) -> None:
    turns = Schedule()
    turns.answered(SECTIONS, Snapshot(), reply(), 1000.0)
    turns.see(Snapshot(steady=1000.0, sections=Sections(uptime=Uptime(uptime_seconds=uptime))))
    assert "security" not in turns.due(1000.0 + again - 1)
    assert {"security", "updates"} <= set(turns.due(1000.0 + again))
    assert "services" in turns.due(1030.0)


def test_what_is_late_once_keeps_its_rhythm_and_what_stays_late_is_asked_seldom() -> None:
    turns, late = Schedule(), reply(sensors="timed_out", updates="timed_out")
    turns.answered(["sensors", "updates"], Snapshot(), late, 0.0)
    assert "sensors" in turns.due(1.0)
    assert "updates" not in turns.due(59.0)
    assert "updates" in turns.due(60.0)
    turns.answered(["sensors"], Snapshot(missing=late.missing), late, 0.0)
    assert "sensors" not in turns.due(LATE_SECONDS - 1)
    assert "sensors" in turns.due(LATE_SECONDS)


def test_a_new_disk_brings_the_turn_of_the_hardware_forward_once() -> None:
    turns = Schedule()
    counters = DiskCounters(read_bytes=0, written_bytes=0)
    sections = Sections(hardware=Hardware(threads=1, memory_bytes=1), disk_io=DiskIo(at=1.0, disks={"sdb": counters}))
    turns.answered(SECTIONS, Snapshot(), reply(), 0.0)
    turns.see(Snapshot(sections=sections))
    assert "hardware" in turns.due(1.0)
    turns.answered(["hardware"], Snapshot(), reply(), 1.0)
    turns.see(Snapshot(sections=sections))
    assert "hardware" not in turns.due(2.0)


def told(number: int, *, is_boot: bool) -> Snapshot:
    """Return what a host says that has booted again, or has a disk that it did not have."""
    counters = DiskCounters(read_bytes=0, written_bytes=0)
    disks = {} if is_boot else {f"sd{number}": counters}
    sections = Sections(hardware=Hardware(threads=1, memory_bytes=1), disk_io=DiskIo(at=1.0, disks=disks))
    return Snapshot(boot_id=f"boot {number}" if is_boot else "boot", sections=sections)


@pytest.mark.parametrize("is_boot", [True, False], ids=["boots", "new disks"])
def test_a_host_that_has_booted_at_each_poll_is_asked_for_everything_now_and_then(
    freezer: FrozenDateTimeFactory, *, is_boot: bool
) -> None:
    turns, early, now = Schedule(), 0, 0.0
    turns.answered(SECTIONS, Snapshot(), reply(), now)
    for number in range(60):
        turns.see(told(number, is_boot=is_boot))
        early += "hardware" in turns.due(now)
        turns.answered(turns.due(now), Snapshot(), reply(), now)
        freezer.tick(5.0)
        now += 5.0
    assert EARLY_TURNS[0] <= early <= EARLY_TURNS[0] + 300 / EARLY_TURNS[1] + 1


@pytest.mark.parametrize("is_boot", [True, False], ids=["boots", "new disks"])
def test_what_came_too_often_is_asked_for_once_there_is_time(freezer: FrozenDateTimeFactory, *, is_boot: bool) -> None:
    turns = Schedule()
    turns.answered(SECTIONS, Snapshot(), reply(), 0.0)
    for number in range(20):
        turns.see(told(number, is_boot=is_boot))
        turns.answered(turns.due(0.0), Snapshot(), reply(), 0.0)
    turns.see(told(19, is_boot=is_boot))
    assert "hardware" not in turns.due(1.0)
    freezer.tick(EARLY_TURNS[1] + 1)
    turns.see(told(19, is_boot=is_boot))
    assert "hardware" in turns.due(1.0)
    turns.answered(turns.due(1.0), Snapshot(), reply(), 1.0)
    turns.see(told(19, is_boot=is_boot))
    assert "hardware" not in turns.due(2.0)


def names(*disks: str) -> DiskIo:
    return DiskIo(at=1.0, disks={name: DiskCounters(read_bytes=0, written_bytes=0) for name in disks})


def test_a_name_that_comes_back_brings_the_turn_of_the_hardware_forward_each_time() -> None:
    turns, snapshot = Schedule(), Snapshot()
    hardware = Hardware(threads=1, memory_bytes=1, disks={"sdb": DiskHardware(serial="A")})
    for number, told in enumerate(("sdb", "", "sdb", "sdb", "", "sdb", "sdb")):
        asked = "hardware" in turns.due(float(number))
        assert asked is (number in (0, 3, 6))
        assert ("interfaces" in turns.due(float(number))) is asked
        sections = {"disk_io": names(*told.split())} | ({"hardware": hardware} if asked else {})
        answer = replace(reply(), sections=sections)
        snapshot = snapshot.merged(answer, float(number), 30.0)
        turns.answered(SECTIONS if asked else EVERY_POLL, snapshot, answer, float(number))
        turns.see(snapshot)
