"""Problems last a while before they are reported, and end only when they are clearly over."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.problems import KINDS, ProblemTracker, Severity, Thresholds
from custom_components.homelab_monitor.client.tracking.rates import CpuRates, Rates

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())


class Court:
    """A judge over one host, asked every ten seconds."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = deepcopy(PLAIN)
        self.document["sections"]["services"]["units"] = []
        self.judge = ProblemTracker(patience=30.0)
        self.thresholds = Thresholds(disk_percent=90, memory_percent=95)
        self.rates = Rates()
        self.now = 1000.0

    def judged(self, seconds: float = 10.0) -> list[str]:
        """Return the problems after so many seconds of polls."""
        for _ in range(round(seconds / 10)):
            self.now += 10
            snapshot = Snapshot().merged(decode_reply("p", json.dumps(self.document).encode()), self.now, 30.0)
            found = self.judge.problems(snapshot, self.thresholds, self.rates)
        return [f"{each.kind} {each.item}".strip() for each in found]

    def fill(self, percent: float) -> None:
        disk = self.document["sections"]["filesystems"]["filesystems"][1]
        disk["used_bytes"] = round(percent * 1e7)
        disk["available_bytes"] = 1_000_000_000 - disk["used_bytes"]

    def work(self, percent: float | None) -> None:
        self.rates = Rates(cpu=CpuRates(usage_percent=percent, iowait_percent=None, steal_percent=None, cores=()))

    @property
    def sections(self) -> dict[str, Any]:
        return self.document["sections"]


@pytest.fixture
def court() -> Court:
    return Court()


def test_a_healthy_host_has_no_problem(court: Court) -> None:
    assert court.judged(600) == []


def test_a_full_disk_is_reported_at_once_and_until_two_percent_are_free_again(court: Court) -> None:
    court.fill(90)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(88.5)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(87.9)
    assert court.judged() == []
    court.fill(88.5)
    assert court.judged() == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_full_disk_that_somebody_hides_is_still_full(court: Court, is_whole: bool) -> None:
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    section = court.sections["filesystems"]
    section["filesystems"].pop()
    # As the probe tells what another user mounted something over, and what is closed to its own user.
    section |= {"late": ["/srv/my data"], "complete": {"mounts": is_whole}}
    assert court.judged(6000) == ["disk_full /srv/my data"]


def test_a_full_disk_whose_numbers_cannot_be_is_still_full(court: Court) -> None:
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    disk = court.sections["filesystems"]["filesystems"][1]
    disk["used_bytes"] = disk["total_bytes"] + 1
    assert court.judged(600) == ["disk_full /srv/my data"], "nobody can say that it is over"
    court.fill(50)
    assert court.judged() == []
    disk["used_bytes"] = disk["total_bytes"] + 1
    assert court.judged(600) == [], "nor that it has begun"


def test_a_full_disk_that_hangs_is_still_full(court: Court) -> None:
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    section = court.sections["filesystems"]
    full = section["filesystems"].pop()
    section |= {"late": ["/srv/my data"], "complete": {"mounts": False}}
    assert court.judged(600) == ["disk_full /srv/my data"]
    section |= {"late": [], "complete": {"mounts": True}}
    assert court.judged() == []
    section["filesystems"].append(full)
    assert court.judged() == ["disk_full /srv/my data"]
    court.document["missing"]["filesystems"] = "timed_out"
    del court.sections["filesystems"]
    assert court.judged(600) == ["disk_full /srv/my data"]


def _numbered(court: Court, number: str = "8:17") -> dict[str, object]:
    """Give the disk the number that the kernel has for it, and return its row."""
    disk: dict[str, object] = court.sections["filesystems"]["filesystems"][1]
    disk |= {"device_number": number, "mount_id": 40}
    return disk


def test_a_full_disk_that_was_renamed_and_cannot_be_asked_is_still_full(court: Court) -> None:
    _numbered(court)
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    section = court.sections["filesystems"]
    section["filesystems"].pop()
    section |= {"late": ["/home/eve/dddd…/40"], "late_devices": ["8:17"], "complete": {"mounts": False}}
    assert court.judged(6000) == ["disk_full /srv/my data"]
    section |= {"late_devices": ["8:18"]}
    assert court.judged() == []


def test_the_number_of_another_boot_says_nothing(court: Court) -> None:
    _numbered(court)
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    section = court.sections["filesystems"]
    section["filesystems"].pop()
    section |= {"late": ["/other"], "late_devices": ["8:17"], "complete": {"mounts": False}}
    court.document["boot_id"] = "another"
    assert court.judged() == []


def test_a_full_disk_that_gets_another_name_is_reported_by_that_until_two_percent_are_free(court: Court) -> None:
    disk = _numbered(court)
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(88.5)
    disk["mountpoint"] = "/srv/other"
    assert court.judged() == ["disk_full /srv/other"]
    disk["read_only"] = True
    disk["mountpoint"] = "/srv/third"
    assert court.judged() == ["disk_full /srv/third"]
    disk |= {"device_number": "8:99", "mountpoint": "/srv/fourth"}
    assert court.judged() == []


def test_what_a_guest_mounts_where_a_full_disk_was_does_not_stand_for_it(court: Court) -> None:
    disk = _numbered(court)
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(10)
    disk |= {"device_number": "0:90", "mount_id": 41, "guest_uid": 1501}
    assert court.judged(6000) == ["disk_full /srv/my data"]
    del disk["guest_uid"]
    assert court.judged() == [], "root has mounted another one there"


def test_what_a_guest_mounted_is_checked_where_nothing_else_was(court: Court) -> None:
    _numbered(court)["guest_uid"] = 1501
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(10)
    assert court.judged() == []


def test_of_a_list_of_mounts_that_could_not_be_read_to_its_end_nothing_is_gone(court: Court) -> None:
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    section = court.sections["filesystems"]
    section["filesystems"].pop()
    section["complete"] = {"mounts": False, "names": False}
    assert court.judged(6000) == ["disk_full /srv/my data"]
    section["complete"] = {"mounts": False}
    assert court.judged() == []


def test_what_reports_numbers_that_cannot_be_is_not_over(court: Court) -> None:
    court.fill(95)
    court.sections["memory"]["available_bytes"] = 100_000_000
    assert court.judged(400) == ["disk_full /srv/my data", "memory_full"]
    court.sections["filesystems"]["filesystems"][1]["available_bytes"] = 1 << 60
    court.sections["memory"]["available_bytes"] = 1 << 60
    assert court.judged(400) == ["disk_full /srv/my data", "memory_full"]
    court.fill(50)
    court.sections["memory"]["available_bytes"] = 4_000_000_000
    assert court.judged() == []


def test_a_cache_that_is_larger_than_what_is_used_is_no_part_of_it(court: Court) -> None:
    court.sections["memory"] |= {"available_bytes": 100_000_000, "zfs_cache_bytes": 1 << 50}
    assert court.judged(400) == ["memory_full"]


def test_what_was_no_problem_yet_does_not_become_one_unread(court: Court) -> None:
    court.sections["memory"]["available_bytes"] = 100_000_000
    assert court.judged(200) == []
    court.document["errors"]["memory"] = "it does not work"
    del court.sections["memory"]
    assert court.judged(600) == []


def test_a_full_disk_that_becomes_read_only_is_still_full(court: Court) -> None:
    disk = court.sections["filesystems"]["filesystems"][1]
    court.fill(99)
    assert court.judged() == ["disk_full /srv/my data"]
    disk["read_only"] = True
    assert court.judged(600) == ["disk_full /srv/my data"]
    # Over a restart of ours, too.
    court.judge = ProblemTracker(told=court.judge.told)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(50)
    assert court.judged() == []
    court.fill(99)
    assert court.judged() == []


def test_a_filesystem_that_the_kernel_made_read_only_is_a_problem(court: Court) -> None:
    disk = court.sections["filesystems"]["filesystems"][1]
    court.fill(50)
    disk |= {"read_only": True}
    assert court.judged() == []
    disk |= {"read_only_by_error": True}
    assert court.judged() == ["disk_read_only /srv/my data"]
    court.fill(99)
    assert court.judged() == ["disk_read_only /srv/my data"]
    filesystems = court.sections["filesystems"]["filesystems"]
    court.sections["filesystems"] |= {"filesystems": filesystems[:1], "late": ["/srv/my data"]}
    assert court.judged() == ["disk_read_only /srv/my data"]
    court.sections["filesystems"] |= {"filesystems": filesystems, "late": []}
    disk |= {"read_only": False, "read_only_by_error": False}
    court.fill(50)
    assert court.judged() == []


def test_a_disk_that_is_read_only_is_full_by_nature(court: Court) -> None:
    court.fill(100)
    court.sections["filesystems"]["filesystems"][1]["read_only"] = True
    assert court.judged() == []


def test_full_memory_is_told_after_five_minutes(court: Court) -> None:
    court.sections["memory"]["available_bytes"] = 100_000_000
    assert court.judged(300) == []
    assert court.judged() == ["memory_full"]
    court.sections["memory"]["available_bytes"] = 500_000_000
    assert court.judged() == ["memory_full"]
    court.sections["memory"]["available_bytes"] = 600_000_000
    assert court.judged() == []


def test_a_cache_that_fills_the_memory_is_no_want_of_it(court: Court) -> None:
    court.sections["memory"] |= {"available_bytes": 100_000_000, "zfs_cache_bytes": 5_000_000_000}
    assert court.judged(600) == []
    court.sections["memory"]["zfs_cache_bytes"] = 200_000_000
    assert court.judged(300) == []
    assert court.judged() == ["memory_full"]


def test_a_short_peak_of_memory_is_none(court: Court) -> None:
    court.sections["memory"]["available_bytes"] = 100_000_000
    court.judged(200)
    court.sections["memory"]["available_bytes"] = 4_000_000_000
    court.judged()
    court.sections["memory"]["available_bytes"] = 100_000_000
    assert court.judged(200) == []


def test_the_cpus_own_critical_temperature_counts(court: Court) -> None:
    court.sections["sensors"]["cpu_celsius"] = 95.0
    assert court.judged(120) == []
    court.sections["sensors"]["cpu_critical_celsius"] = None
    assert court.judged(120) == ["cpu_hot"]


def test_a_chosen_temperature_counts_before_the_sensors_own(court: Court) -> None:
    court.thresholds = replace(court.thresholds, temperature_celsius=60)
    court.sections["sensors"]["cpu_celsius"] = 61.0
    court.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090", "temperature_celsius": 62.0}]}
    assert court.judged(120) == ["cpu_hot", "gpu_hot RTX 4090"]


def test_failed_units_and_lost_cards_are_problems(court: Court) -> None:
    court.sections["services"]["units"] = [{"name": "a.service", "active_state": "failed"}]
    court.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090", "state": "lost"}]}
    assert court.judged() == ["service_failed a.service"]
    assert court.judged(60) == ["gpu_lost RTX 4090", "service_failed a.service"]


def test_a_broken_driver_is_a_problem(court: Court) -> None:
    court.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
    assert court.judged() == []  # it may be being replaced
    assert court.judged(60) == ["gpu_driver"]
    del court.document["errors"]["gpu"]
    assert court.judged() == []


def test_a_failed_service_that_had_no_room_in_the_list_is_still_a_problem(court: Court) -> None:
    services = court.sections["services"]
    services["units"] = [{"name": "a.service", "active_state": "failed"}]
    assert court.judged() == ["service_failed a.service"]
    services |= {"units": [], "complete": {"systemd": False}}
    assert court.judged() == ["service_failed a.service"]
    services["complete"] = {"systemd": True}
    assert court.judged() == []


@pytest.mark.parametrize("section", ["filesystems", "memory", "sensors", "gpu", "services", "containers"])
@pytest.mark.parametrize("kind", ["errors", "missing"])
def test_what_is_wrong_stays_wrong_while_nobody_can_read_it(court: Court, section: str, kind: str) -> None:
    court.fill(95)
    court.sections["memory"]["available_bytes"] = 100_000_000
    court.sections["sensors"] |= {"cpu_celsius": 95.0, "cpu_critical_celsius": None}
    hot, lost = {"id": "1", "temperature_celsius": 95.0}, {"id": "2", "state": "lost"}
    court.sections["gpu"] = {
        "gpus": [{**card, "vendor": "nvidia", "name": f"GPU {card['id']}"} for card in (hot, lost)]
    }
    court.sections["services"]["units"] = [{"name": "a.service", "active_state": "failed"}]
    sick, again = {"name": "sick", "state": "running", "health": "unhealthy"}, {"name": "again", "state": "restarting"}
    court.sections["containers"] = {
        "at": 1000.0,
        "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
        "containers": [{**one, "id": one["name"], "engine": "docker", "owner": "root"} for one in (sick, again)],
    }
    told = court.judged(600)
    assert [each.partition(" ")[0] for each in told] == [
        "container_restarting",
        "container_unhealthy",
        "cpu_hot",
        "disk_full",
        "gpu_hot",
        "gpu_lost",
        "memory_full",
        "service_failed",
    ]
    del court.sections[section]
    court.document[kind][section] = "timed_out"
    assert [each for each in court.judged(600) if each != "gpu_driver"] == told


def test_what_can_be_read_is_over_though_a_list_is_not_whole(court: Court) -> None:
    court.fill(95)
    assert court.judged() == ["disk_full /srv/my data"]
    court.fill(50)
    court.sections["filesystems"]["filesystems"].append("no row at all")
    assert court.judged() == []


def test_what_another_user_lets_fail_of_their_own_is_no_problem_of_the_host(court: Court) -> None:
    units = [{"name": f"user@{uid}.service", "active_state": "failed", "guest_uid": uid} for uid in range(1501, 1520)]
    court.sections["services"]["units"] = units[:1]
    assert court.judged() == []
    court.sections["services"]["units"] = units
    assert court.judged() == []
    court.sections["services"]["units"] = [*units, {"name": "user@0.service", "active_state": "failed"}]
    assert court.judged() == ["service_failed user@.service"]


def test_a_service_that_is_tried_again_stays_a_problem_and_becomes_none(court: Court) -> None:
    unit = {"name": "a.service", "active_state": "activating"}
    court.sections["services"]["units"] = [unit]
    assert court.judged(60) == []
    for state in ("failed", "activating", "deactivating", "failed", "activating"):
        unit["active_state"] = state
        assert court.judged() == ["service_failed a.service"]
    unit["active_state"] = "active"
    assert court.judged() == []
    unit["active_state"] = "activating"
    assert court.judged() == []


def test_a_busy_cpu_is_a_problem_only_where_somebody_wants_to_know(court: Court) -> None:
    court.work(100)
    assert court.judged(3600) == []


def test_a_cpu_has_to_be_busy_for_a_quarter_of_an_hour_and_is_not_any_more_when_it_is_clearly_less(
    court: Court,
) -> None:
    court.thresholds = replace(court.thresholds, cpu_percent=95)
    court.work(95)
    assert court.judged(600) == []
    court.work(94)
    assert court.judged() == []
    court.work(95)
    assert court.judged(900) == []
    assert court.judged() == ["cpu_busy"]
    court.work(90)
    assert court.judged() == ["cpu_busy"]
    court.work(None)
    assert court.judged() == ["cpu_busy"], "not known is not over"
    court.work(89.9)
    assert court.judged() == []


def _hot(court: Court) -> None:
    court.sections["sensors"]["cpu_celsius"] = 120.0


def _full_memory(court: Court) -> None:
    court.sections["memory"]["available_bytes"] = 1


def _busy_cpu(court: Court) -> None:
    court.thresholds = replace(court.thresholds, cpu_percent=80)
    court.work(99)


def _lost_card(court: Court) -> None:
    del court.document["missing"]["gpu"]
    court.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "T400", "state": "lost"}]}


def _broken_driver(court: Court) -> None:
    court.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"


HELD = [(_hot, 60), (_full_memory, 300), (_busy_cpu, 900), (_lost_card, 60), (_broken_driver, 60)]


@pytest.mark.parametrize(("begin", "seconds"), HELD)
@pytest.mark.parametrize("gap", [40.0, 8 * 3600.0])
def test_time_in_which_nobody_was_asked_is_none_in_which_something_lasted(
    court: Court, begin: Callable[[Court], None], seconds: float, gap: float
) -> None:
    court.judged(20)
    begin(court)
    assert court.judged(seconds) == []
    court.now += gap
    assert court.judged(seconds) == []
    assert len(court.judged(20)) == 1
    court.now += gap
    assert len(court.judged(10)) == 1, "what was told is not over"


@pytest.mark.parametrize(("begin", "seconds"), HELD)
def test_another_boot_begins_it_anew(court: Court, begin: Callable[[Court], None], seconds: float) -> None:
    begin(court)
    assert court.judged(seconds) == []
    court.document["boot_id"] = "another"
    assert court.judged(seconds) == []
    assert len(court.judged(20)) == 1


# ---------------------------------------------------------------- since when, how much, how serious


def test_a_problem_has_its_value_its_limit_and_when_it_began(court: Court) -> None:
    court.fill(91)
    court.judged()
    (full,) = court.judge.told
    assert (full.since, full.value, full.limit, full.severity) == (1010.0, pytest.approx(91, abs=0.1), 90, "problem")
    court.fill(95)
    court.judged(600)
    (full,) = court.judge.told
    assert (full.since, full.value) == (1010.0, pytest.approx(95, abs=0.1))


def test_a_problem_began_when_the_value_did_and_not_when_it_had_lasted(court: Court) -> None:
    _full_memory(court)
    assert court.judged(400) == ["memory_full"]
    assert court.judge.told[0].since == 1010.0


def test_a_value_that_cannot_be_read_is_the_last_one(court: Court) -> None:
    court.fill(95)
    court.judged()
    court.sections["filesystems"]["filesystems"].pop()
    court.sections["filesystems"] |= {"late": ["/srv/my data"], "complete": {"mounts": False}}
    court.judged(600)
    assert (court.judge.told[0].since, court.judge.told[0].value) == (1010.0, pytest.approx(95, abs=0.1))


@pytest.mark.parametrize("is_stored", [True, False], ids=["since stored", "of an earlier version"])
def test_another_boot_and_another_run_do_not_begin_it_anew(court: Court, is_stored: bool) -> None:
    court.fill(95)
    court.judged()
    told = court.judge.told if is_stored else tuple(replace(each, since=None) for each in court.judge.told)
    court.judge = ProblemTracker(patience=30.0, told=told)
    court.document["boot_id"] = "another"
    court.judged(300)
    assert court.judge.told[0].since == (1010.0 if is_stored else 1020.0)


def test_a_filesystem_that_moves_keeps_when_it_became_full(court: Court) -> None:
    court.fill(95)
    disk = _numbered(court)
    court.judged()
    disk["mountpoint"] = "/mnt/elsewhere"
    assert court.judged() == ["disk_full /mnt/elsewhere"]
    assert court.judge.told[0].since == 1010.0


def test_what_is_over_and_comes_again_begins_anew(court: Court) -> None:
    court.fill(95)
    court.judged()
    court.fill(50)
    court.judged(100)
    court.fill(95)
    court.judged()
    assert court.judge.told[0].since == court.now


def test_what_is_only_true_or_not_has_no_value(court: Court) -> None:
    _lost_card(court)
    court.judged(100)
    assert {(each.value, each.limit) for each in court.judge.told} == {(None, None)}


def test_containers_are_a_warning_and_all_else_is_a_problem() -> None:
    minor = {name for name, kind in KINDS.items() if kind.severity is Severity.WARNING}
    assert minor == {"container_unhealthy", "container_restarting"}
