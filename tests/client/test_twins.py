"""Made-up machines whose things share keys: whatever comes, goes, moves or is unreadable, ids never multiply.

Each thing of a made-up machine is known to the test, which tells the inventory only what a host could: some keys, some
of them shared with others, in any order, now and then not all of them. The inventory is stored and restored in between.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
import json
import os
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings, strategies as st

from custom_components.homelab_monitor.client.tracking import inventory as inventory_module
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, restore_inventory

EXAMPLES = int(os.environ.get("TWINS_EXAMPLES", "150"))
HOUR = 3600.0


@dataclass(frozen=True)
class Shape:
    """By what things of a kind are known: what they carry with them, and where they are."""

    identities: tuple[str, ...]
    place: str
    is_counted: bool = False
    """Whether the kernel counts them as well, in any order."""


SHAPES = {
    "disk": Shape(("wwn", "serial"), "path", is_counted=True),
    "interface": Shape(("mac",), "name"),
    "filesystem": Shape(("uuid",), "mountpoint"),
    "gpu": Shape(("uuid",), "pci"),
}


@dataclass(eq=False)
class Thing:
    """One thing that was made once, with the keys that it was made with."""

    shape: Shape
    number: int
    identities: dict[str, str]
    place: str
    is_there: bool = True
    places: set[str] = field(default_factory=set)
    """Where it ever was."""
    told: set[str] = field(default_factory=set)
    """Which of its identities were ever read."""
    told_place: str = ""
    """Where it was when that was last read."""
    always_tells: bool = False
    ids: list[str] = field(default_factory=list)
    """Under which ids it was found."""

    def move(self, place: str) -> None:
        self.place = place
        self.places.add(place)

    def may_move(self) -> bool:
        """What nothing else is known of than where it is, is another thing somewhere else."""
        return bool(self.told)

    def tells(self, data: st.DataObject, shared: set[tuple[str, str]]) -> dict[str, str]:
        """Return the keys that can be read this time: at least one by which it can be known again."""
        kinds = set(self.identities)
        late = {kind for kind in kinds - self.told if (kind, self.identities[kind]) not in shared}
        unread: set[str] = set()
        if not self.always_tells and data.draw(st.booleans(), "something is unreadable"):
            losable = sorted((kinds & self.told) | late | {"place"})
            unread = set(data.draw(st.lists(st.sampled_from(losable), unique=True), "unreadable"))
        told = kinds - unread
        if self.told and not told & self.told and (self.told_place != self.place or "place" in unread):
            told |= self.told
        if not told & self.told:
            unread.discard("place")
        self.told |= told
        keys = {kind: self.identities[kind] for kind in self.shape.identities if kind in told}
        if "place" not in unread:
            self.told_place = keys[self.shape.place] = self.place
        return keys


class Machine:
    """A made-up machine with things of one kind, and the inventory of what it told."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.kind = data.draw(st.sampled_from(sorted(SHAPES)), "kind")
        self.shape = SHAPES[self.kind]
        self.things: list[Thing] = []
        self.inventory = Inventory()
        self.now = 0.0

    def free_places(self) -> list[str]:
        taken = {thing.place for thing in self.things if thing.is_there}
        return [place for place in (f"p{number}" for number in range(3)) if place not in taken]

    def make(self) -> None:
        """Make a thing: its identities are its own or somebody else's, or it has none."""
        number = len(self.things)
        identities = {}
        for kind in self.shape.identities:
            match self.data.draw(st.sampled_from(("own", "shared", "none")), kind):
                case "own":
                    identities[kind] = f"{kind}-{number}"
                case "shared":
                    identities[kind] = f"{kind}-all"
        place = f"own-{number}" if self.data.draw(st.booleans(), "a place of its own") else self.place()
        thing = Thing(self.shape, number, identities, "", always_tells=self.data.draw(st.booleans(), "always tells"))
        thing.move(place)
        self.things.append(thing)

    def place(self) -> str:
        return self.data.draw(st.sampled_from([*self.free_places(), f"new-{self.now}-{len(self.things)}"]), "place")

    def plug(self) -> None:
        """Take a thing away, or put one back where it was or, where it can be known, somewhere else."""
        thing = self.data.draw(st.sampled_from(self.things), "thing")
        if thing.is_there:
            thing.is_there = False
        elif thing.place in {other.place for other in self.things if other.is_there}:
            if thing.may_move():
                thing.move(self.place())
                thing.is_there = True
        else:
            thing.is_there = True

    def shift(self) -> None:
        """Move things around, among themselves as well; those at a place that is only theirs stay."""
        there = [thing for thing in self.things if thing.is_there and thing.may_move()]
        there = [thing for thing in there if not thing.place.startswith("own-")]
        if there:
            moving = self.data.draw(st.lists(st.sampled_from(there), unique=True, min_size=1), "moving")
            free = [*(thing.place for thing in moving), *self.free_places()]
            for thing, place in zip(moving, self.data.draw(st.permutations(free), "places"), strict=False):
                thing.move(place)

    def restart(self) -> None:
        self.inventory = restore_inventory(json.loads(json.dumps(self.inventory.as_dict())))

    def wait(self) -> None:
        self.now += self.data.draw(st.sampled_from((HOUR, 9 * HOUR)), "hours")

    def shared(self) -> set[tuple[str, str]]:
        counts = Counter(key for thing in self.things for key in thing.identities.items())
        return {key for key, count in counts.items() if count > 1 or key[1].endswith("-all")}

    def poll(self) -> None:
        """Tell what is there, perhaps not all of it, in any order."""
        self.now += 60.0
        there = [thing for thing in self.things if thing.is_there]
        complete = self.data.draw(st.booleans(), "complete")
        if not complete and there:
            there = self.data.draw(st.lists(st.sampled_from(there), unique=True), "listed")
        shared = self.shared()
        told = {f"t{thing.number}": thing.tells(self.data, shared) for thing in there}
        names = dict(zip(told, self.data.draw(st.permutations(range(len(told))), "counted"), strict=True))
        found = [
            FoundItem(
                name=name,
                label="ST4000",
                keys=keys | ({"kernel_name": f"sd{names[name]}"} if self.shape.is_counted else {}),
            )
            for name, keys in told.items()
        ]
        known = self.inventory.items.get(self.kind, {})
        before = set(known)
        ids = self.inventory.match(
            self.kind, self.data.draw(st.permutations(found), "order"), complete=complete, now=self.now
        )
        self.judge(ids, found, before)
        for item_id, name in ids.items():
            self.things[int(name[1:])].ids.append(item_id)
        again = self.inventory.match(self.kind, found, complete=False, now=self.now)
        assert again.keys() == ids.keys(), "to look again changes nothing"
        self.inventory.pop_gone()

    def judge(self, ids: dict[str, str], found: list[FoundItem], before: set[str]) -> None:
        known = self.inventory.items[self.kind]
        limit = inventory_module.ITEMS_LIMIT
        assert len(known) <= limit
        assert len(known) <= len(self.things), "more ids than things"
        assert len(set(ids.values())) == len(ids), "one id for two things"
        assert ids.keys() <= known.keys()
        if len(before) + len(found) <= limit:
            assert len(ids) == len(found)
        titles = [item.title for item in known.values()]
        assert len(set(titles)) == len(titles), "one title for two things"

    def steadfast(self) -> Iterator[Thing]:
        """Yield the things that share nothing with any other one, not even a place at another time."""
        identities = self.shared()
        places = Counter(place for thing in self.things for place in thing.places)
        for thing in self.things:
            if not identities.isdisjoint(thing.identities.items()):
                continue
            has_own_places = max(places[place] for place in thing.places) == 1
            # A disk says itself which one it is, wherever it is plugged in.
            if has_own_places or (self.kind == "disk" and thing.always_tells and thing.identities):
                yield thing


SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="TWINS_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
STEPS = ("poll", "poll", "poll", "poll", "make", "make", "plug", "plug", "shift", "restart", "wait")


@SETTINGS
@given(st.data())
def test_there_are_never_more_ids_than_things(data: st.DataObject) -> None:
    limit = data.draw(st.sampled_from((1000, 1000, 4)), "limit")
    with patch.object(inventory_module, "ITEMS_LIMIT", limit):
        machine = Machine(data)
        for _ in range(data.draw(st.integers(1, 4), "things at first")):
            machine.make()
        for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=25), "steps"):
            if step == "make" and len(machine.things) >= 7:
                continue
            getattr(machine, step)()
        gone_for_long = machine.now > 24 * HOUR
        for thing in machine.steadfast():
            if not gone_for_long:
                assert len(set(thing.ids)) <= 1, "a thing that is like no other has changed its id"


@SETTINGS
@given(st.data())
def test_twins_that_stay_where_they_are_keep_their_ids(data: st.DataObject) -> None:
    """Only a twin that is new or moves can be taken for another one."""
    kind = data.draw(st.sampled_from(sorted(SHAPES)), "kind")
    shape = SHAPES[kind]
    shared = {name: f"{name}-all" for name in shape.identities if data.draw(st.booleans(), name)}
    own = data.draw(st.integers(0, 3), "others")
    keys = [shared | {shape.place: f"p{number}"} for number in range(data.draw(st.integers(2, 5), "twins"))]
    keys += [{name: f"{name}-{n}" for name in shape.identities} | {shape.place: f"o{n}"} for n in range(own)]
    things = [FoundItem(name=f"t{number}", label="ST4000", keys=each) for number, each in enumerate(keys)]
    inventory = Inventory()
    first = {name: item_id for item_id, name in inventory.match(kind, things, complete=True, now=0.0).items()}
    assert len(first) == len(things)
    for poll in range(data.draw(st.integers(1, 6), "polls")):
        there = data.draw(st.lists(st.sampled_from(things), unique_by=lambda each: each.name), "there")
        complete = data.draw(st.booleans(), "complete")
        ids = inventory.match(kind, there, complete=complete, now=60.0 * poll)
        assert ids == {first[each.name]: each.name for each in there}
        inventory = restore_inventory(json.loads(json.dumps(inventory.as_dict())))
