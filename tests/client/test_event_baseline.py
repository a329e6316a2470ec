"""Histories of a host, followed with many restarts and with none: the events are the same."""

from collections import Counter
from copy import deepcopy
import json
import random
from typing import Any

import pytest

from custom_components.homelab_monitor.client.limits import BASELINE_BYTES, UNREAD_LIMIT
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply, restore_snapshot
from custom_components.homelab_monitor.client.tracking.event_baseline import baseline_as_dict, restore_baseline
from custom_components.homelab_monitor.client.tracking.events import Baseline, advance, starting_from

from .test_events import PLAIN

PATIENCE = 30.0
FAILED = {"active_state": "failed", "result": "exit-code"}
STATES = {
    "well": {"active_state": "active", "result": "success"},
    "failed": FAILED,
    "tried again": {"active_state": "activating", "result": "exit-code"},
    "ended well": {"active_state": "inactive", "result": "success"},
    "stopped": {"active_state": "inactive", "result": "exit-code"},
}


class Watcher:
    """One who looks at a host, and may begin anew with what was stored."""

    def __init__(self) -> None:
        self.snapshot, self.baseline = Snapshot(), Baseline()
        self.told: list[tuple[str, str]] = []

    def look(self, document: dict[str, Any], now: float) -> None:
        reply = decode_reply("plain", json.dumps(document).encode())
        self.snapshot = self.snapshot.merged(reply, now, PATIENCE, now)
        self.baseline, happened = advance(self.baseline, self.snapshot, PATIENCE)
        self.told += [(each.type, next(iter(each.about.values()), "")) for each in happened]

    def restart(self, now: float) -> None:
        stored = json.loads(
            json.dumps([self.snapshot.as_dict(), baseline_as_dict(self.baseline, self.snapshot)], default=list)
        )
        self.snapshot = restore_snapshot(stored[0])
        self.baseline = starting_from(self.snapshot, now, restore_baseline(stored[1]))


class Life:
    """A host with three services, a card and two containers, and those who watch it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.watchers = [Watcher(), Watcher()]
        self.now, self.booted, self.log = 100_000.0, 0.0, list[str]()
        self.document: dict[str, Any] = deepcopy(PLAIN)
        self.sections = self.document["sections"]
        self.units = [{"name": f"{name}.service", "load_state": "loaded"} | STATES["well"] for name in "abc"]
        self.sections["services"] = self.sections["services"] | {"units": self.units, "complete": {"systemd": True}}
        for name in ("gpu", "containers"):
            self.document["missing"].pop(name, None)
        self.card = {"id": "1", "vendor": "nvidia", "name": "T400", "state": "ok"}
        self.sections["gpu"] = {"gpus": [self.card]}
        self.rows = [
            {"name": name, "engine": "docker", "owner": owner, "id": name * 64, "state": "running", "restarts": 0}
            for name, owner in (("d", "root"), ("e", "anna"))
        ]
        self.complete = {"docker/root": True, "docker/anna": True}
        self.look()

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 10
            self.sections["uptime"]["uptime_seconds"] = self.now - self.booted
            rows = [row for row in self.rows if self.complete[f"docker/{row['owner']}"]]
            whole = {"complete": self.complete, "containers": rows, "engines": [], "at": self.now}
            self.sections["containers"] = whole
            for watcher in self.watchers:
                watcher.look(self.document, self.now)

    def restart(self) -> None:
        self.log.append("restart")
        self.watchers[1].restart(self.now + 5)
        self.look()

    def act(self) -> None:
        what = self.random.choice(("unit", "unit", "unit", "card", "driver", "container", "engine", "list", "boot"))
        self.log.append(what)
        if what == "unit":
            state = self.random.choice(list(STATES))
            self.log.append(state)
            self.random.choice(self.units).update(STATES[state])
        elif what == "card":
            self.lose(lambda state: self.card.update(state=state), "lost", "ok")
        elif what == "driver":
            self.lose(self.break_driver, True, False)
        elif what == "container":
            row = self.random.choice(self.rows)
            row.update(self.random.choice(({"health": "unhealthy"}, {"health": "healthy"})))
            row["restarts"] += self.random.choice((0, 1))
        elif what == "engine":
            source = self.random.choice(list(self.complete))
            self.complete[source] = not self.complete[source]
        elif what == "list":
            services = self.sections["services"]
            is_whole = not services["complete"]["systemd"]
            units = self.units if is_whole else self.random.sample(self.units, 2)
            self.sections["services"] = services | {"units": units, "complete": {"systemd": is_whole}}
        elif what == "boot":
            self.document["boot_id"], self.booted = f"boot{self.now}", self.now + 5
        self.look(self.random.choice((1, 3)))

    def break_driver(self, is_broken: bool) -> None:
        if is_broken:
            del self.sections["gpu"]
            self.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
        else:
            self.sections["gpu"] = {"gpus": [self.card]}
            del self.document["errors"]["gpu"]

    def lose(self, set_fn: Any, lost: object, found: object) -> None:
        """Lose the card, for a moment or for as long as counts; time in which nobody asked does not."""
        is_long = self.random.random() < 0.5
        self.log.append("long" if is_long else "short")
        set_fn(lost)
        self.look(2)
        if self.random.random() < 0.7:
            self.restart()
        self.look(8 if is_long else 1)
        if self.random.random() < 0.5:
            self.restart()
        set_fn(found)
        self.look()


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_who_restarts_reports_the_same_as_one_who_never_does(first: int) -> None:
    for seed in range(first, first + 10):
        life = Life(seed)
        for _ in range(30):
            life.act()
            if life.random.random() < 0.4:
                life.restart()
        never, often = (Counter(watcher.told) for watcher in life.watchers)
        assert often == never, (seed, life.log)


def test_such_lives_report_everything() -> None:
    told: set[str] = set()
    for seed in range(20):
        life = Life(seed)
        for _ in range(30):
            life.act()
        told |= {kind for kind, _ in life.watchers[0].told}
    assert told == {
        "rebooted",
        "service_failed",
        "service_recovered",
        "gpu_lost",
        "container_died",
        "container_unhealthy",
    }


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"failed_units": 7, "lost_gpus": "x", "containers": []},
        {"failed_units": [1, None, "x" * 5000], "retried_units": {"a": 1}, "lost_gpus": [[]], "gpus": True},
        {
            "containers": {
                "sources": ["docker/root", 7],
                "died": [["docker/root"], ["other", "x"], 7, ["docker/root", "y" * 5000]],
                "unhealthy": "docker/root",
                "restarts": [
                    ["docker/root", "x", "id", "1"],
                    ["docker/root", "x", "id", 1e300],
                    ["other", "x", "i", 1],
                ],
            }
        },
    ],
)
def test_what_means_nothing_is_left_out(stored: dict[str, Any]) -> None:
    baseline = restore_baseline(stored)
    assert not any((baseline.failed_units, baseline.retried_units, baseline.lost_gpus, baseline.gpus))
    assert not any((baseline.containers.died, baseline.containers.unhealthy, baseline.containers.restarts))
    life = Life(1)
    watcher = life.watchers[1]
    watcher.baseline = starting_from(watcher.snapshot, life.now, baseline)
    life.units[0].update(FAILED)
    life.look()
    life.units[1].update(FAILED)
    life.look()
    assert watcher.told == [("service_failed", "b.service")], "the first look is no news"


@pytest.mark.parametrize("stored", [None, [], "x", 7])
def test_what_is_no_baseline_is_none(stored: object) -> None:
    assert restore_baseline(stored) is None


def test_what_is_stored_has_an_end() -> None:
    names = frozenset(f"{number}-{'x' * 200}.service" for number in range(2 * UNREAD_LIMIT))
    baseline = Baseline(failed_units=names, retried_units=frozenset({"a.service"}), lost_gpus=frozenset({"T400"}))
    plain = baseline_as_dict(baseline, Snapshot())
    assert len(json.dumps(plain)) < 2 * BASELINE_BYTES
    assert (plain["lost_gpus"], plain["retried_units"]) == (["T400"], ["a.service"])
    assert (
        len(restore_baseline({"failed_units": [str(each) for each in range(90_000)]}).failed_units) == 2 * UNREAD_LIMIT
    )


def test_a_card_that_did_not_answer_is_doubted_over_two_restarts_before_any_look() -> None:
    baseline = Baseline(lost_gpus=frozenset({"gone"}), suspects={"T400": 90.0, "gone": 10.0})
    for _ in range(2):
        restored = restore_baseline(json.loads(json.dumps(baseline_as_dict(baseline, Snapshot()))))
        assert restored is not None
        baseline = restored
        assert (baseline.doubted_gpus, baseline.lost_gpus) == ({"T400"}, {"gone"})
