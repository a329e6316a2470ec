"""Events between two polls: each one once, and none at the first poll."""

from copy import deepcopy
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.limits import UNREAD_LIMIT
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply, restore_snapshot
from custom_components.homelab_monitor.client.tracking.events import Baseline, advance, starting_from

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())


class Looks:
    """A host that is looked at again and again."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = deepcopy(PLAIN)
        self.baseline = Baseline()
        self.snapshot = Snapshot()
        self.now = 1000.0
        self.booted = 0.0

    def look(self) -> list[tuple[str, dict[str, str]]]:
        """Let ten seconds pass and return what happened."""
        self.now += 10
        self.document["sections"].get("uptime", {})["uptime_seconds"] = self.now - self.booted
        reply = decode_reply("plain", json.dumps(self.document).encode())
        self.snapshot = self.snapshot.merged(reply, self.now, 30.0)
        self.baseline, happened = advance(self.baseline, self.snapshot, 30.0)
        return [(each.type, dict(each.about)) for each in happened]

    @property
    def unit(self) -> dict[str, Any]:
        return self.document["sections"]["services"]["units"][0]


@pytest.fixture
def looks() -> Looks:
    looks = Looks()
    assert looks.look() == []
    return looks


def test_nothing_happens_on_a_quiet_host(looks: Looks) -> None:
    assert looks.look() == []


def test_a_unit_that_fails_and_recovers_is_reported_once_each(looks: Looks) -> None:
    looks.unit["active_state"] = "active"
    assert looks.look() == [("service_recovered", {"service": "backup.service"})]
    assert looks.look() == []
    looks.unit["active_state"] = "failed"
    assert looks.look() == [("service_failed", {"service": "backup.service"})]
    assert looks.look() == []


def test_a_unit_that_is_tried_again_has_not_recovered(looks: Looks) -> None:
    for state in ("activating", "deactivating", "failed", "activating"):
        looks.unit["active_state"] = state
        assert looks.look() == []
    looks.unit.update(active_state="inactive", result="success")
    assert looks.look() == [("service_recovered", {"service": "backup.service"})]
    looks.unit["active_state"] = "activating"
    assert looks.look() == []


@pytest.mark.parametrize(
    "state",
    [
        {"active_state": "inactive", "result": "success"},
        {"active_state": "inactive", "load_state": "masked"},
        {"active_state": "inactive", "load_state": "not-found", "result": "success"},
        {"active_state": "inactive", "result": "exit-code"},
        None,
    ],
    ids=["not run since", "masked", "removed", "stopped", "gone"],
)
@pytest.mark.parametrize("is_rebooted", [False, True])
def test_a_service_that_nobody_has_seen_well_is_not_reported_to_be(
    looks: Looks, state: dict[str, Any] | None, is_rebooted: bool
) -> None:
    units = looks.document["sections"]["services"]["units"]
    unit = looks.unit
    if is_rebooted:
        looks.document["boot_id"] = "another"
    if state is None:
        units.remove(unit)
    else:
        unit |= state
    told = [each for _ in range(5) for each in looks.look()]
    assert [each for each in told if each[0] != "rebooted"] == []
    if state is None or state.get("load_state") == "not-found":
        return
    unit |= {"active_state": "active", "load_state": "loaded"}
    assert looks.look() == [("service_recovered", {"service": "backup.service"})], "seen at last"
    assert looks.look() == []


@pytest.mark.parametrize("result", ["exit-code", "signal", None])
def test_a_job_that_was_stopped_while_it_was_tried_again_is_not_well(looks: Looks, result: str | None) -> None:
    for state in ("activating", "deactivating", "inactive"):
        looks.unit.update(active_state=state, result=result)
        assert looks.look() == []


def restarted(looks: Looks) -> None:
    """Begin anew with what the store knows."""
    looks.snapshot = restore_snapshot(json.loads(json.dumps(looks.snapshot.as_dict())))
    looks.baseline = starting_from(looks.snapshot, looks.now)


def fail_all(looks: Looks) -> None:
    """Let everything fail that can."""
    looks.document["sections"]["services"]["units"][1] |= {"name": "web.service", "active_state": "failed"}
    looks.document["sections"]["gpu"]["gpus"][0]["state"] = "lost"
    section = looks.document["sections"]["containers"]
    section["at"] = looks.now
    section["containers"][0] |= {"state": "exited", "exit_code": 1}
    section["containers"][1] |= {"health": "unhealthy"}


@pytest.fixture
def busy() -> Looks:
    """A host with something of each kind."""
    looks = Looks()
    looks.document["sections"]["services"]["units"][1:] = [{"name": "web.service", "active_state": "active"}]
    del looks.document["missing"]["gpu"]
    looks.document["missing"].pop("containers", None)
    looks.document["sections"]["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "T400"}]}
    rows = [
        {"name": name, "engine": "docker", "owner": "root", "id": f"{number:064x}", "state": "running", "restarts": 0}
        for number, name in enumerate(("db", "web"))
    ]
    looks.document["sections"]["containers"] = {
        "at": 1.0,
        "complete": {"docker/root": True},
        "containers": rows,
        "engines": [],
    }
    looks.look()
    return looks


ALL = {"service_failed", "gpu_lost", "container_died", "container_unhealthy"}


@pytest.mark.parametrize("boot_id", ["another", None], ids=["machine", "lxc"])
def test_what_fails_in_a_boot_that_we_were_there_for_is_news_also_after_a_restart_of_ours(
    busy: Looks, boot_id: str | None
) -> None:
    restarted(busy)
    busy.now += 8 * 3600
    busy.document["boot_id"] = boot_id or busy.document["boot_id"]
    fail_all(busy)
    busy.booted = busy.now - 40
    told = [kind for _ in range(10) for kind, _ in busy.look()]
    assert sorted(told) == sorted(ALL | {"rebooted"})


def test_of_a_boot_before_we_were_there_nobody_knows_what_is_new(busy: Looks) -> None:
    """The host was started while Home Assistant was down."""
    busy.now += 600
    restarted(busy)
    busy.document["boot_id"] = "another"
    busy.booted = busy.now - 40
    fail_all(busy)
    assert [kind for _ in range(10) for kind, _ in busy.look()] == ["rebooted"]


def test_what_changed_in_the_same_boot_while_we_were_away_is_no_news(busy: Looks) -> None:
    restarted(busy)
    fail_all(busy)
    assert [each for _ in range(10) for each in busy.look()] == []
    busy.document["sections"]["services"]["units"].append({"name": "new.service", "active_state": "failed"})
    assert busy.look() == [("service_failed", {"service": "new.service"})]


def test_the_first_reply_of_a_new_boot_may_be_that_to_a_control(busy: Looks) -> None:
    """It tells of services alone, so that nobody knows yet when the boot was."""
    restarted(busy)
    busy.now += 3600
    busy.document["boot_id"] = "another"
    fail_all(busy)
    whole = busy.document["sections"]
    busy.document["sections"] = {"services": whole["services"]}
    assert busy.look() == [("rebooted", {})]
    busy.document["sections"] = whole
    busy.booted = busy.now - 20
    assert sorted(kind for _ in range(10) for kind, _ in busy.look()) == sorted(ALL)


def test_a_reboot_is_reported_once_when_its_first_reply_reports_no_uptime(looks: Looks) -> None:
    looks.look()
    whole = looks.document["sections"]
    looks.document["boot_id"] = "another"
    looks.document["sections"] = {"services": whole["services"]}
    assert looks.look() == [("rebooted", {})]
    looks.document["sections"] = whole
    looks.booted = looks.now - 5
    assert [each for _ in range(3) for each in looks.look()] == []


@pytest.mark.parametrize("gap", [40, 3600])
@pytest.mark.parametrize("is_rebooted", [False, True])
def test_a_card_is_lost_when_that_lasts_while_somebody_looks(busy: Looks, gap: float, is_rebooted: bool) -> None:
    busy.document["sections"]["gpu"]["gpus"][0]["state"] = "lost"
    assert busy.look() == []
    if is_rebooted:
        busy.document["boot_id"] = "another"
        gap = 20
    else:
        busy.now += gap
    told = [kind for _ in range(6) for kind, _ in busy.look()]
    assert "gpu_lost" not in told
    assert busy.look() == [("gpu_lost", {"gpu": "T400"})]


def test_a_unit_that_fails_while_services_cannot_be_read_is_told_afterwards(looks: Looks) -> None:
    looks.unit["active_state"] = "active"
    looks.look()
    services = looks.document["sections"].pop("services")
    looks.document["missing"]["services"] = "timed_out"
    for _ in range(20):
        assert looks.look() == []
    looks.document["sections"]["services"] = services
    del looks.document["missing"]["services"]
    looks.unit["active_state"] = "failed"
    assert looks.look() == [("service_failed", {"service": "backup.service"})]


def test_a_list_that_is_not_whole_is_no_news(looks: Looks) -> None:
    looks.document["sections"]["services"] |= {"complete": {"systemd": False}, "units": []}
    assert looks.look() == []


def test_of_a_list_that_is_not_whole_what_it_reports_is_news(looks: Looks) -> None:
    services = looks.document["sections"]["services"]
    services["complete"] = {"systemd": False}
    services["units"] = [{"name": "zfs-scrub.service", "active_state": "failed"}]
    assert looks.look() == [("service_failed", {"service": "zfs-scrub.service"})]
    services["units"] = []
    assert looks.look() == []
    services["units"] = [{"name": "zfs-scrub.service", "active_state": "active"}]
    assert looks.look() == [("service_recovered", {"service": "zfs-scrub.service"})]


@pytest.mark.parametrize("uids", [(1501,), tuple(range(1501, 1520))], ids=["one", "crowd"])
def test_what_other_users_let_fail_of_their_own_is_no_news(looks: Looks, uids: tuple[int, ...]) -> None:
    looks.document["sections"]["services"]["units"] += [
        {"name": f"user@{uid}.service", "active_state": "failed", "guest_uid": uid} for uid in uids
    ]
    assert looks.look() == []
    looks.document["sections"]["services"]["units"].append({"name": "user@0.service", "active_state": "failed"})
    assert [each[0] for each in looks.look()] == ["service_failed"]


def test_another_boot_id_is_a_reboot(looks: Looks) -> None:
    looks.document["boot_id"] = "another"
    assert looks.look() == [("rebooted", {})]
    assert looks.look() == []


def test_an_uptime_of_whole_seconds_that_is_reported_twice_in_one_is_no_reboot(looks: Looks) -> None:
    for shorter, happened in ((1.0, []), (2.0, []), (3.0, [("rebooted", {})])):
        looks.look()
        looks.booted += 10.0 + shorter
        assert (shorter, looks.look()) == (shorter, happened)


def test_a_container_that_starts_anew_under_the_same_kernel_has_rebooted(looks: Looks) -> None:
    looks.now += 600
    looks.document["sections"]["uptime"]["uptime_seconds"] = 5.0
    snapshot = looks.snapshot.merged(decode_reply("plain", json.dumps(looks.document).encode()), looks.now, 30.0)
    _, happened = advance(looks.baseline, snapshot)
    assert [each.type for each in happened] == ["rebooted"]


def test_a_driver_that_breaks_loses_its_cards_once(looks: Looks) -> None:
    del looks.document["missing"]["gpu"]
    looks.document["sections"]["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    assert looks.look() == []
    del looks.document["sections"]["gpu"]
    looks.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
    happened = [each for _ in range(20) for each in looks.look()]
    assert happened == [("gpu_lost", {"gpu": "RTX 4090"})]


def test_a_driver_that_is_replaced_loses_no_card(looks: Looks) -> None:
    del looks.document["missing"]["gpu"]
    section = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    for _ in range(5):
        looks.document["errors"].pop("gpu", None)
        looks.document["sections"]["gpu"] = section
        assert looks.look() == []
        del looks.document["sections"]["gpu"]
        looks.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
        assert [looks.look() for _ in range(5)] == [[]] * 5


def test_a_driver_that_hangs_loses_its_cards_when_their_values_are_too_old(looks: Looks) -> None:
    del looks.document["missing"]["gpu"]
    looks.document["sections"]["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    looks.look()
    del looks.document["sections"]["gpu"]
    looks.document["missing"]["gpu"] = "timed_out"
    happened = [looks.look() for _ in range(20)]
    assert [number for number, each in enumerate(happened) if each] == [8]  # 30 s old, and a minute more
    assert happened[8] == [("gpu_lost", {"gpu": "RTX 4090"})]


def test_two_cards_of_a_kind_are_lost_one_after_the_other(looks: Looks) -> None:
    del looks.document["missing"]["gpu"]
    cards = [
        {"id": str(number), "vendor": "nvidia", "name": "NVIDIA T400", "pci_address": f"0000:0{number}:00.0"}
        for number in (1, 2)
    ]
    looks.document["sections"]["gpu"] = {"gpus": cards}
    looks.look()
    for card, label in zip(cards, ("T400 01:00", "T400 02:00"), strict=True):
        card["state"] = "lost"
        happened = [each for _ in range(8) for each in looks.look()]
        assert happened == [("gpu_lost", {"gpu": label})]


def test_a_card_that_is_lost_at_the_first_look_is_no_news() -> None:
    looks = Looks()
    del looks.document["missing"]["gpu"]
    lost = {"id": "1", "vendor": "nvidia", "name": "T400", "state": "lost"}
    looks.document["sections"]["gpu"] = {"gpus": [lost]}
    assert [looks.look() for _ in range(10)] == [[]] * 10


def test_what_is_not_reported_whole_is_remembered_up_to_an_end(looks: Looks) -> None:
    """A host that tells of other failed units, and of another engine's containers, at each look."""
    services = looks.document["sections"]["services"]
    engines = [f"docker/user{number}" for number in range(30)]
    for number, engine in enumerate(engines):
        units = [{"name": f"u{number}-{each}.service", "active_state": "failed"} for each in range(400)]
        looks.document["sections"]["services"] = services | {"complete": {"systemd": False}, "units": units}
        rows = [
            {"name": f"c{each}", "engine": "docker", "owner": engine.partition("/")[2], "id": f"{each:064x}"}
            | {"state": "exited", "exit_code": 1, "restarts": each}
            for each in range(400)
        ]
        complete = {each: each == engine for each in engines}
        looks.document["sections"]["containers"] = {
            "at": 1000.0 + number,
            "complete": complete,
            "containers": rows,
            "engines": [],
        }
        looks.look()
    look = looks.baseline.containers
    assert len(looks.baseline.failed_units) <= UNREAD_LIMIT + 400
    assert 400 <= len(look.died) <= UNREAD_LIMIT + 400
    assert 400 <= len(look.restarts) <= UNREAD_LIMIT + 400


def test_a_crowd_of_one_user_makes_nobody_elses_containers_forgotten(looks: Looks) -> None:
    def look(at: float, complete: dict[str, bool], rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, str]]]:
        section = {"at": at, "complete": complete, "containers": rows, "engines": []}
        looks.document["sections"]["containers"] = section
        return looks.look()

    def row(name: str, owner: str, **more: object) -> dict[str, Any]:
        return {"name": name, "engine": "docker", "owner": owner, "id": "0" * 64, "state": "running"} | more

    crowd = [row(f"c{number}", "eve", restarts=0) for number in range(999)]
    mine = row("web", "root", restarts=3)
    look(1.0, {"docker/root": True, "docker/eve": True}, [mine, *crowd])
    look(2.0, {"docker/root": False, "docker/eve": False}, [])
    look(3.0, {"docker/root": False, "docker/eve": True}, crowd)
    mine["restarts"] = 4
    assert [each[0] for each in look(4.0, {"docker/root": True, "docker/eve": True}, [mine, *crowd])] == [
        "container_died"
    ]
