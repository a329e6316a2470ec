"""What another user of a host can make up: it takes nothing from what is root's, or of the user who logs in."""

from collections.abc import Iterator
from itertools import count
import json

import pytest

from custom_components.homelab_monitor.client.bucket import Bucket
from custom_components.homelab_monitor.client.limits import (
    GUEST_ITEMS_LIMIT,
    GUESTS_ITEMS_LIMIT,
    ITEMS_LIMIT,
)
from custom_components.homelab_monitor.client.models import Container, ContainerEngine, Containers, Sections
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.tracking.events import Baseline, advance
from custom_components.homelab_monitor.client.tracking.inventory import Inventory, restore_inventory
from custom_components.homelab_monitor.client.tracking.item_tracker import ItemTracker
from custom_components.homelab_monitor.client.tracking.items import SHOWN, Selection
from custom_components.homelab_monitor.client.tracking.problems import ProblemTracker, Thresholds
from custom_components.homelab_monitor.client.tracking.rates import Rates
from custom_components.homelab_monitor.client.tracking.values import container_labels

HOUR = 3600.0
THRESHOLDS = Thresholds(disk_percent=90, memory_percent=95)
ROOT, EVE, CARL = "docker/root", "podman/eve", "podman/carl"
_IDS = count()


def made(source: str, *names: str, state: str = "running", health: str | None = None) -> list[Container]:
    engine, _, owner = source.partition("/")
    return [
        Container(
            engine=engine, owner=owner, id=f"{next(_IDS):012x}", name=each, state=state, health=health, exit_code=1
        )
        for each in names
    ]


def told(at: float, *containers: Container, sources: tuple[str, ...] = (ROOT, EVE, CARL)) -> Snapshot:
    """Return what a host tells whose engines all answer."""
    engines = tuple(ContainerEngine(engine=e, owner=o, state="ok") for e, _, o in (s.partition("/") for s in sources))
    section = Containers(at=at, engines=engines, containers=containers, complete=dict.fromkeys(sources, True))
    return Snapshot(received=at, steady=at, ages={"containers": at}, sections=Sections(containers=section))


class Hub:
    """Watches a host, and says whose containers have ids."""

    def __init__(self, **selection: object) -> None:
        self.inventory = Inventory()
        self.roster = ItemTracker(self.inventory, Selection(**selection))
        self.now = 1000.0

    def look(self, *containers: Container, seconds: float = 30.0, sources: tuple[str, ...] = (ROOT, EVE, CARL)) -> None:
        self.now += seconds
        self.roster.items(told(self.now, *containers, sources=sources), Rates(), is_news=True)

    def ids(self, source: str = "") -> list[str]:
        return [item_id for item_id in self.inventory.items["container"] if item_id.startswith(source)]


def names(amount: int, text: str = "f") -> Iterator[str]:
    return (f"{text}{number}" for number in range(amount))


@pytest.mark.parametrize("made_up", [14, 400])
def test_what_guests_run_keeps_no_container_of_the_hosts_from_being_shown(made_up: int) -> None:
    hub = Hub(user="mon")
    hub.look(*made(ROOT, "web", "db"), *made("podman/mon", "own"), *made(EVE, *names(made_up)), *made(CARL, "cloud"))
    assert hub.ids(ROOT) == ["docker/root/db", "docker/root/web"]
    assert hub.ids("podman/mon") == ["podman/mon/own"]
    assert hub.ids(CARL) == ["podman/carl/cloud"]
    assert len(hub.ids(EVE)) == (made_up if made_up <= SHOWN else 0)


def test_a_crowd_of_the_hosts_own_is_still_a_crowd() -> None:
    hub = Hub(user="mon")
    hub.look(*made(ROOT, *names(10)), *made("podman/mon", *names(10)))
    assert hub.ids() == []


def test_who_makes_new_names_all_the_time_has_a_share_of_the_room() -> None:
    hub = Hub()
    for number in range(GUEST_ITEMS_LIMIT):
        hub.look(*made(ROOT, "web"), *made(EVE, *names(12, f"f{number}-")))
    assert len(hub.ids(EVE)) == GUEST_ITEMS_LIMIT
    assert hub.inventory.left_out["container"] > 0
    hub.look(*made(ROOT, "web", "new"), *made(EVE, *names(12, "again")), *made(CARL, "cloud"))
    assert hub.ids(ROOT) == ["docker/root/web", "docker/root/new"]
    assert hub.ids(CARL) == ["podman/carl/cloud"]


def test_all_guests_together_leave_room_for_the_host() -> None:
    hub = Hub(containers=("*",))
    guests = tuple(f"podman/user{number}" for number in range(20))
    own = made(ROOT, *names(ITEMS_LIMIT))
    hub.inventory.newcomers[False] = Bucket(2 * ITEMS_LIMIT, 1.0)  # as if they had come over weeks
    hub.look(*(each for guest in guests for each in made(guest, *names(200))))
    assert len(hub.ids()) == GUESTS_ITEMS_LIMIT
    hub.look(*own[:-1], sources=(ROOT, *guests))
    assert len(hub.ids(ROOT)) == ITEMS_LIMIT - 1, "guests go where there is no room for both"
    assert len(hub.ids()) == ITEMS_LIMIT
    hub.look(*own, *made(EVE, "late"), sources=(ROOT, *guests))
    assert hub.ids() == hub.ids(ROOT)


@pytest.mark.parametrize("name", ["plain", "with/slash", "/", "a/b/c"])
@pytest.mark.parametrize("end", ["logs out", "has none"])
def test_what_a_guest_made_up_leaves_after_a_day(name: str, end: str) -> None:
    hub = Hub()
    hub.look(*made(ROOT, "web"), *made(EVE, name))
    assert len(hub.ids()) == 2
    sources = (ROOT, EVE) if end == "has none" else (ROOT,)
    for _ in range(23):
        hub.look(*made(ROOT, "web"), seconds=HOUR, sources=sources)
    assert len(hub.ids()) == 2
    for _ in range(2):
        hub.look(*made(ROOT, "web"), seconds=HOUR, sources=sources)
    assert hub.ids() == ["docker/root/web"]


def test_what_is_away_ages_while_as_many_have_no_room() -> None:
    hub = Hub(containers=("*",))
    hub.look(*made(EVE, *names(GUEST_ITEMS_LIMIT)))
    others = made(EVE, *names(GUEST_ITEMS_LIMIT, "g"))
    for _ in range(27):
        hub.look(*others, seconds=HOUR)
    assert {each.rpartition("/")[2][0] for each in hub.ids()} == {"g"}


def test_an_engine_that_does_not_answer_is_not_gone() -> None:
    hub = Hub()
    hub.look(*made(EVE, "a/b"))
    for _ in range(50):
        hub.now += HOUR
        snapshot = told(hub.now, *made(ROOT, "web"))
        assert snapshot.sections.containers is not None
        snapshot.sections.containers.complete[EVE] = False  # type: ignore[index]
        hub.roster.items(snapshot, Rates(), is_news=True)
    assert hub.ids(EVE) == ["podman/eve/a/b"]


def test_what_an_earlier_version_remembered_keeps_its_id_and_belongs_to_its_owner() -> None:
    hub = Hub()
    hub.look(*made(ROOT, "web"), *made(EVE, "a/b", "c"))
    stored = json.loads(json.dumps(hub.inventory.as_dict()))
    for each in stored["container"].values():
        del each["source"]
    inventory = restore_inventory(stored)
    known = inventory.items["container"]
    assert {item_id: each.source for item_id, each in known.items()} == {
        "docker/root/web": ROOT,
        "podman/eve/a/b": EVE,
        "podman/eve/c": EVE,
    }
    assert restore_inventory(hub.inventory.as_dict()) == hub.inventory


def test_no_guest_changes_what_a_container_of_roots_is_called() -> None:
    labels = container_labels(told(1.0, *made(ROOT, "web"), *made(EVE, "web"), *made(CARL, "own")))
    assert labels == {"docker/root/web": "web", "podman/eve/web": "web (podman/eve)", "podman/carl/own": "own"}
    two = container_labels(told(1.0, *made(ROOT, "web"), *made("podman/root", "web")))
    assert set(two.values()) == {"web (docker/root)", "web (podman/root)"}


# ---------------------------------------------------------------- problems and happenings


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), ["db", "web"]),
        (("*",), ["*"]),
        (("web", "other"), ["db", "web"]),
        (("carl/*",), ["cloud", "db", "web"]),
        (("eve/x",), ["db", "web"]),
    ],
)
def test_a_guests_containers_are_a_problem_of_the_hosts_only_by_choice(
    chosen: tuple[str, ...], expected: list[str]
) -> None:
    sick = [
        *made(ROOT, "web", health="unhealthy"),
        *made("podman/mon", "db", health="unhealthy"),
        *made(EVE, "carl/x", "other", health="unhealthy"),
        *made(CARL, "cloud", health="unhealthy"),
    ]
    judge = ProblemTracker(selection=Selection(containers=chosen, user="mon"))
    found = [each.item for each in judge.problems(told(1.0, *sick), THRESHOLDS)]
    assert found == (["carl/x", "cloud", "db", "other", "web"] if expected == ["*"] else expected)
    restarting = [*made(EVE, "again", state="restarting"), *made(ROOT, "tired", state="restarting")]
    judge.problems(told(100.0, *restarting), THRESHOLDS)
    later = [each.item for each in judge.problems(told(200.0, *restarting), THRESHOLDS)]
    assert later == (["again", "tired"] if expected == ["*"] else ["tired"])


def test_a_event_says_whose_container_it_is() -> None:
    baseline, _ = advance(Baseline(), told(10.0, *made(ROOT, "web"), *made(EVE, "a/b")))
    ended = [*made(ROOT, "web", state="exited"), *made(EVE, "a/b", state="exited")]
    _, happened = advance(baseline, told(20.0, *ended))
    assert [(each.type, each.about["container"], each.about["owner"], each.owner) for each in happened] == [
        ("container_died", "web", "root", "root"),
        ("container_died", "a/b", "eve", "eve"),
    ]


def test_what_no_longer_is_there_is_forgotten_whatever_its_name() -> None:
    baseline = Baseline()
    for number in range(50):
        dead = made(EVE, f"{number}/x", f"{number}", state="exited", health="unhealthy")
        gone = f"docker/user{number}"
        snapshot = told(float(number), *dead, *made(gone, "x", state="exited"), sources=(ROOT, EVE, gone))
        baseline, _ = advance(baseline, snapshot)
    look = baseline.containers
    assert [len(each) for each in (look.sources, look.died, look.unhealthy)] == [3, 3, 2]


def test_the_first_look_at_an_engine_that_comes_back_is_no_news() -> None:
    baseline, _ = advance(Baseline(), told(10.0, *made(EVE, "job")))
    baseline, _ = advance(baseline, told(20.0, sources=(ROOT,)))
    _, happened = advance(baseline, told(30.0, *made(EVE, "job", state="exited")))
    assert happened == ()
