"""What happened between two looks: each thing once, and nothing for a first look."""

from copy import deepcopy
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.happenings import Baseline, advance
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
    assert looks.look() == [("gpu_lost", {"gpu": "RTX 4090"})]
    assert looks.look() == []
