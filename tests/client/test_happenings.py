"""What happened between two looks: each thing once, and nothing for a first look."""

from copy import deepcopy
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.happenings import Baseline, advance
from custom_components.homelab_monitor.client.limits import UNREAD_LIMIT
from custom_components.homelab_monitor.client.snapshot import Snapshot, decode_reply

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())


class Looks:
    """A host that is looked at again and again."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = deepcopy(PLAIN)
        self.baseline = Baseline()
        self.snapshot = Snapshot()
        self.now = 1000.0

    def look(self) -> list[tuple[str, dict[str, str]]]:
        """Let ten seconds pass and return what happened."""
        self.now += 10
        self.document["sections"].get("uptime", {})["uptime_seconds"] = self.now
        reply = decode_reply("plain", json.dumps(self.document).encode())
        self.snapshot = self.snapshot.merged(reply, self.now, 30.0)
        self.baseline, happened = advance(self.baseline, self.snapshot)
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


def test_a_unit_that_fails_and_recovers_is_told_once_each(looks: Looks) -> None:
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
    looks.unit["active_state"] = "inactive"
    assert looks.look() == [("service_recovered", {"service": "backup.service"})]
    looks.unit["active_state"] = "activating"
    assert looks.look() == []


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


def test_of_a_list_that_is_not_whole_what_it_tells_is_news(looks: Looks) -> None:
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


def test_what_is_not_told_whole_is_remembered_up_to_an_end(looks: Looks) -> None:
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
