"""What containers mean: died or stopped, restarting or restarted, one event for one change."""

from copy import deepcopy
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.models import Container, Cpu, CpuTimes
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.events import Baseline, advance
from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS, Selection
from custom_components.homelab_monitor.client.tracking.problems import ProblemTracker, Thresholds
from custom_components.homelab_monitor.client.tracking.rates import Rates, updated

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())
PLAIN["sections"] = {"uptime": PLAIN["sections"]["uptime"]}
WEB = {
    "engine": "docker",
    "owner": "root",
    "id": "91ce74022074",
    "name": "web",
    "state": "running",
    "restarts": 0,
    "restart_policy": "no",
    "started_epoch": 1763900000,
}
EXITED = {"state": "exited", "restart_policy": "no"}


class Looks:
    """A host whose containers are looked at every half a minute, and which is polled more often."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = deepcopy(PLAIN)
        self.section: dict[str, Any] = {
            "at": 1000.0,
            "complete": {"docker/root": True},
            "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
            "containers": [deepcopy(WEB)],
        }
        self.baseline = Baseline()
        self.snapshot = Snapshot()
        self.judge = ProblemTracker()
        self.rates = Rates()
        self.now = 1000.0

    @property
    def web(self) -> dict[str, Any]:
        return self.section["containers"][0]

    def look(self, seconds: float = 30.0) -> list[tuple[str, str]]:
        """Let half a minute pass; return what happened."""
        happened = []
        for step in range(round(seconds / 10)):
            self.now += 10
            self.section["at"] += 10
            self.document["epoch"] = 1763940000.0 + self.now
            # A section is told in each third poll only.
            sections = {} if step % 3 else {"containers": deepcopy(self.section)}
            reply = decode_reply("plain", json.dumps(self.document | {"sections": sections}).encode())
            before, self.snapshot = self.snapshot, self.snapshot.merged(reply, self.now, 30.0)
            self.rates = updated(self.rates, before, self.snapshot)
            self.baseline, new = advance(self.baseline, self.snapshot)
            happened += [(each.type, each.about["container"]) for each in new if "container" in each.about]
            self.problems = self.judge.problems(self.snapshot, Thresholds(disk_percent=90, memory_percent=95))
        return happened

    def reasons(self) -> list[str]:
        return [f"{each.kind} {each.item}" for each in self.problems]


@pytest.fixture
def looks() -> Looks:
    looks = Looks()
    assert looks.look() == []
    return looks


@pytest.mark.parametrize(
    ("changes", "died"),
    [
        (EXITED | {"exit_code": 1}, True),
        (EXITED | {"exit_code": 0}, False),
        (EXITED | {"exit_code": 137}, False),
        (EXITED | {"exit_code": 143}, False),
        (EXITED | {"exit_code": 130}, False),
        (EXITED | {"exit_code": 137, "oom_killed": True}, True),
        (EXITED, False),
        # Its engine would have started it again: somebody stopped it.
        (EXITED | {"exit_code": 1, "restart_policy": "unless-stopped"}, False),
        (EXITED | {"exit_code": 1, "restart_policy": "always"}, False),
        (EXITED | {"exit_code": 127, "restart_policy": "always"}, True),
        # It gave up.
        (EXITED | {"exit_code": 1, "restart_policy": "on-failure"}, True),
        ({"state": "restarting", "exit_code": 0}, True),
        ({"state": "dead"}, True),
        ({"state": "paused"}, False),
        ({"state": "created"}, False),
    ],
)
def test_died_or_stopped(looks: Looks, changes: dict[str, Any], *, died: bool) -> None:
    looks.web.update(changes)
    assert Container(**looks.web).has_died is died
    assert looks.look(90) == ([("container_died", "web")] if died else [])


def test_one_that_dies_again_and_again_is_reported_once_until_it_stays_up(looks: Looks) -> None:
    happened = []
    for round_ in range(6):
        looks.web.update(state="restarting" if round_ % 2 else "running", restarts=round_ + 1, exit_code=3)
        happened += looks.look()
    assert happened == [("container_died", "web")]
    looks.web.update(state="running")
    assert looks.look(60) == []
    looks.web["restarts"] += 1
    assert looks.look() == [("container_died", "web")]


def test_one_that_somebody_restarts_or_makes_anew_has_not_died(looks: Looks) -> None:
    looks.web.update(restarts=5)
    looks.look(60)
    looks.web.update(restarts=0)
    assert looks.look() == []
    looks.web.update(id="0123456789ab", restarts=3)
    assert looks.look() == []


def test_one_that_dies_before_it_is_seen_is_reported(looks: Looks) -> None:
    looks.section["containers"].append(WEB | {"id": "1", "name": "job", **EXITED, "exit_code": 2})
    assert looks.look() == [("container_died", "job")]


def test_what_is_found_at_the_first_look_is_no_news(looks: Looks) -> None:
    looks.section["complete"]["podman/mon"] = True
    dead = WEB | {"engine": "podman", "owner": "mon", "name": "job", **EXITED, "exit_code": 2}
    looks.section["containers"].append(dead)
    assert looks.look(60) == []


def test_an_engine_that_does_not_answer_for_a_while_is_no_news(looks: Looks) -> None:
    looks.web.update(EXITED, exit_code=1)
    assert looks.look() == [("container_died", "web")]
    looks.section |= {"complete": {"docker/root": False}, "containers": []}
    assert looks.look(300) == []
    looks.section |= {"complete": {"docker/root": True}, "containers": [WEB | EXITED | {"exit_code": 1}]}
    assert looks.look(60) == []


def test_one_that_is_paused_is_not_unhealthy_and_no_news_when_it_goes_on(looks: Looks) -> None:
    looks.web["health"] = "unhealthy"
    assert looks.look(90) == [("container_unhealthy", "web")]
    looks.web["state"] = "paused"  # `docker ps` says `Up 2 minutes (Paused)`
    assert not Container(**looks.web).is_unhealthy
    assert looks.look(90) == []
    assert looks.reasons() == []
    looks.web["state"] = "running"
    assert looks.look() == []
    assert looks.reasons() == ["container_unhealthy web"]
    looks.web["state"] = "paused"
    looks.look()
    looks.web.update(state="running", health="healthy")
    assert looks.look() == []


def test_one_that_becomes_unhealthy_is_reported_once_each_time(looks: Looks) -> None:
    looks.web["health"] = "unhealthy"
    assert looks.look(90) == [("container_unhealthy", "web")]
    assert looks.reasons() == ["container_unhealthy web"]
    looks.web["health"] = "healthy"
    assert looks.look() == []
    assert looks.reasons() == []
    looks.web["health"] = "unhealthy"
    assert looks.look() == [("container_unhealthy", "web")]


def test_one_restart_is_no_problem_and_many_are(looks: Looks) -> None:
    looks.web.update(restarts=1, started_epoch=looks.document["epoch"])
    for _ in range(4):
        looks.look()
        assert looks.reasons() == []
    for count in range(2, 5):
        looks.web.update(restarts=count, started_epoch=looks.document["epoch"])
        looks.look()
    assert looks.reasons() == ["container_restarting web"]
    looks.look(90)
    assert looks.reasons() == []


@pytest.mark.parametrize("ahead", [61.0, 75.0, 7200.0, 365 * 86400.0])
def test_one_restart_stays_one_when_the_hosts_clock_is_set_back(looks: Looks, ahead: float) -> None:
    looks.web.update(restarts=1, started_epoch=looks.document["epoch"] + ahead)
    for _ in range(10):
        looks.look()
        assert looks.reasons() == []


def test_restarts_while_the_reply_is_written_are_seen_as_ever(looks: Looks) -> None:
    for count in range(1, 5):
        looks.web.update(restarts=count, started_epoch=looks.document["epoch"] + 15)
        looks.look()
    assert looks.reasons() == ["container_restarting web"]


def test_use_of_the_cpu_is_of_one_core_and_begins_anew_with_a_container(looks: Looks) -> None:
    def cpu_percent() -> float | None:
        return looks.rates.containers["docker/root/web"].cpu_percent

    assert cpu_percent() is None
    looks.web["cpu_seconds"] = 10.0
    looks.look()
    assert cpu_percent() is None
    looks.web["cpu_seconds"] += 60.0
    looks.look()
    assert cpu_percent() == pytest.approx(200.0)
    looks.web["cpu_seconds"] = 1.0
    looks.look()
    assert cpu_percent() is None
    looks.web.update(id="0123456789ab", cpu_seconds=500.0)
    looks.look()
    assert cpu_percent() is None


def test_no_container_uses_more_of_the_cpu_than_all_cores_are(looks: Looks) -> None:
    looks.web["cpu_seconds"] = 10.0
    cpu = Cpu(at=1.0, times=CpuTimes(user=1.0, nice=0.0, system=0.0, idle=1.0), cores=((0.5, 1.0), (0.5, 1.0)))
    looks.snapshot = replace(looks.snapshot, sections=replace(looks.snapshot.sections, cpu=cpu))
    looks.look()
    # It is counted some time after `at`: 65 seconds of two cores in 30.
    looks.web["cpu_seconds"] += 65.0
    looks.look()
    assert looks.rates.containers["docker/root/web"].cpu_percent == pytest.approx(200.0)


def test_the_moment_in_which_compose_makes_one_anew_is_no_container(looks: Looks) -> None:
    looks.section["containers"].append(WEB | {"id": "2", "name": "91ce74022074_web"})
    looks.look()
    found_fn = next(kind.found_fn for kind in ITEM_KINDS if kind.key == "container")
    assert [found.label for found in found_fn(looks.snapshot, Selection())] == ["web"]


@pytest.mark.parametrize(
    ("image", "reference", "repository", "tag"),
    [
        ("nginx", "nginx", "nginx", None),
        ("nginx:1.29", "nginx:1.29", "nginx", "1.29"),
        ("docker.io/library/nginx:1.29", "docker.io/library/nginx:1.29", "docker.io/library/nginx", "1.29"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app", None),
        ("localhost:5000/app:2", "localhost:5000/app:2", "localhost:5000/app", "2"),
        (f"nginx@sha256:{'a' * 64}", "nginx", "nginx", None),
        (f"nginx:1.29@sha256:{'a' * 64}", "nginx:1.29", "nginx", "1.29"),
        # What `docker ps` shows once the tag has gone to a newer image, and what the API does.
        (f"sha256:{'0a' * 32}", "sha256:0a0a0a0a0a0a", "sha256:0a0a0a0a0a0a", None),
        ("0a" * 32, "sha256:0a0a0a0a0a0a", "sha256:0a0a0a0a0a0a", None),
        ("sha256:0a0a0a0a0a0a", "sha256:0a0a0a0a0a0a", "sha256:0a0a0a0a0a0a", None),
        ("", "", "", None),
        (":1", ":1", ":1", None),
        ("a b:c", "a b:c", "a b", "c"),
    ],
)
def test_what_an_image_is_called(image: str, reference: str, repository: str, tag: str | None) -> None:
    container = Container(**WEB, image=image)
    assert (container.image_reference, container.image_repository, container.image_tag) == (reference, repository, tag)
