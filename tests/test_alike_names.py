"""Names of which many become one entity id: Home Assistant counts up from 2 for each of those, which costs minutes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.util import slugify
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.batches import async_spread
from custom_components.homelab_monitor.client.limits import (
    ALIKE,
    ENTITIES_AT_ONCE,
    ENTITIES_SECONDS,
    ODD_LABELS,
    TITLE_LIMIT,
)
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import HOST_ID, Host
from .test_many_items import MANY
from .worst_replies import TYPES, Filling

MANY_ITEMS = 300
SIXTEEN = "\u337f"
"""One character that is sixteen in an entity id."""


def some_in_cyrillic(number: int) -> str:
    """Return a name of its own, in an id as all others: which of its letters are Cyrillic says the number."""
    return "".join("\u0430" if number >> bit & 1 else "a" for bit in range(20))


NAMES: dict[str, Callable[[int], str]] = {
    "the number is behind the end": lambda n: f"{SIXTEEN * 17}{n}",
    "all are alike": lambda _: SIXTEEN * 17,
    "as long as names may be": lambda n: f"{SIXTEEN * 100}{n}",
    "an HTML entity": lambda n: f"{'&#13183;' * 14}{n}",
    "nothing that ids have": lambda n: "".join("📦🎉"[n >> bit & 1] for bit in range(12)),
    "other signs between": lambda n: "a".join("-./:+@~#"[n >> 3 * bit & 7] for bit in range(8)),
    "letters of other scripts": some_in_cyrillic,
    "nothing to see": lambda n: "x" + "-" * (n % 119),
    "numbers as Home Assistant gives them": lambda n: f"x {n % 250}",
}


class Looks:
    """How often Home Assistant looks whether an id is free."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def looks() -> Iterator[Looks]:
    seen, plain = Looks(), er.EntityRegistry._entity_id_available

    def counted(self: er.EntityRegistry, entity_id: str) -> bool:
        seen.count += 1
        return plain(self, entity_id)

    with patch.object(er.EntityRegistry, "_entity_id_available", counted):
        yield seen


def call_items(sections: dict[str, Any], kind: str, name: Callable[[int], str], count: int) -> None:
    """Let the host have many items of a kind, called like that."""
    MANY[kind].fill(sections, count)
    match kind:
        case "filesystem":
            for n, row in enumerate(sections["filesystems"]["filesystems"]):
                row["mountpoint"] = f"/{name(n)}"
        case "disk":
            for n, row in enumerate(sections["hardware"]["disks"].values()):
                row["model"] = name(n)
        case "service":
            for n, row in enumerate(sections["services"]["units"]):
                row["name"] = f"{name(n)}.service"
        case "temperature" | "fan":
            for n, row in enumerate(sections["sensors"][f"{kind}s"]):
                row["chip"], row["label"] = name(n), ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(NAMES[label], kind, id=f"{kind}: {label}")
        for kind in ("disk", "filesystem")
        for label in NAMES
        # Filesystems are known by what they are called: those that are all alike are one.
        if (kind, label) != ("filesystem", "all are alike")
    ],
)
async def test_no_names_let_home_assistant_count_through_thousands_of_ids(
    hass: HomeAssistant, host: Host, looks: Looks, name: Callable[[int], str], kind: str
) -> None:
    call_items(host.session.sections, kind, name, MANY_ITEMS)
    await host.start()
    items = host.entry.runtime_data.inventory.items[kind]
    entities = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    assert len(items) > 100
    assert len(entities) >= len(items)
    assert looks.count < 4 * ALIKE * len(entities)
    ids = Counter(slugify(f"plain {known.title}")[:240] for known in items.values())
    # Names in plain letters, and odd ones of which there are too many to look at each.
    assert max(ids.values()) <= 2 * ALIKE
    assert len({known.title for known in items.values()}) == len(items)


async def test_items_of_all_kinds_that_are_called_alike_cost_no_more(
    hass: HomeAssistant, host: Host, looks: Looks
) -> None:
    for kind in ("disk", "temperature", "fan", "service", "filesystem"):
        call_items(host.session.sections, kind, NAMES["the number is behind the end"], 200)
    await host.start()
    entities = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    assert len(entities) > 1200
    assert looks.count < 10 * ALIKE * len(entities)


async def test_a_host_with_a_long_name_of_its_own_does_not_push_numbers_out(
    hass: HomeAssistant, host: Host, looks: Looks
) -> None:
    call_items(host.session.sections, "disk", NAMES["the number is behind the end"], MANY_ITEMS)
    host.entry = MockConfigEntry(
        domain=DOMAIN, title="n" * TITLE_LIMIT, unique_id=HOST_ID, data=dict(host.entry.data), options={}
    )
    await host.start()
    entities = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    assert len(entities) > 3 * MANY_ITEMS
    assert looks.count < 4 * ALIKE * len(entities)


@pytest.mark.parametrize("section", ["filesystems", "containers", "sensors", "gpu", "services"])
async def test_the_worst_reply_of_names_that_differ_late_costs_few_looks(
    hass: HomeAssistant, host: Host, looks: Looks, section: str
) -> None:
    host.session.document["missing"].pop(section, None)
    filling = Filling(200, text=SIXTEEN, is_late=True)
    host.session.sections[section] = filling.section(TYPES[section])
    await host.start(containers=["*"])
    entities = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    assert len(entities) > 100
    assert looks.count < 15 * ALIKE * len(entities)


HONEST = [
    *(f"/srv/media-{n}" for n in range(30)),
    *("/srv/media/1", "/srv/media_1", "/srv/media 1", "/mnt/a&b", "/mnt/it's", "/mnt/1,000", "/mnt/Ärger", "/mnt/é"),
    *(f"/mnt/{word}" for word in ("数据", "照片", "电影", "音乐", "备份", "Фильмы", "Музыка", "Книги", "写真", "음악")),
    *(f"/volume1/{'长' * n}" for n in range(1, 40)),
    *(f"/var/lib/kubelet/pods/{n:036x}/volumes/kubernetes.io~projected/kube-api-access-{n:05}" for n in range(40)),
]


async def test_names_of_honest_hosts_are_in_their_ids_as_ever(hass: HomeAssistant, host: Host) -> None:
    call_items(host.session.sections, "filesystem", lambda n: HONEST[n].removeprefix("/"), len(HONEST))
    await host.start()
    titles = {known.title for known in host.entry.runtime_data.inventory.items["filesystem"].values()}
    assert titles == set(HONEST)
    registry = er.async_get(hass)
    for name in HONEST:
        wanted = f"sensor.plain_{slugify(f'Disk usage {name}')}"[:255]
        assert registry.async_get(wanted) is not None, name


async def test_only_few_odd_names_are_looked_at_one_by_one(host: Host) -> None:
    call_items(host.session.sections, "disk", lambda n: f"Größe {n}", 4 * ODD_LABELS)
    with patch("custom_components.homelab_monitor.coordinator.slugify", side_effect=slugify) as looked:
        await host.start()
    assert len(host.entry.runtime_data.inventory.items["disk"]) > 3 * ODD_LABELS
    assert looked.call_count <= 4 * ODD_LABELS


# ---------------------------------------------------------------- what takes long all the same


class Clock:
    """What work takes of the event loop's time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("count", [ENTITIES_AT_ONCE, 1000])
@pytest.mark.parametrize("each", [0.0001, 0.001, 0.005, 0.02, 0.5])
async def test_things_that_take_long_are_done_fewer_at_once(
    hass: HomeAssistant, host: Host, each: float, count: int
) -> None:
    await host.start()
    clock, done, turns = Clock(), list[int](), list[float]()

    def work(batch: Any) -> None:
        clock.seconds += each * len(batch)
        done.extend(batch)

    async def look() -> None:
        while len(done) < count:
            turns.append(clock.seconds)
            await asyncio.sleep(0)

    with patch("custom_components.homelab_monitor.batches.time.thread_time", clock):
        watcher = hass.async_create_task(look())
        async_spread(hass, host.entry, range(count), work)
        turns.append(clock.seconds)
        await watcher
        await hass.async_block_till_done()
    assert done == list(range(count))
    longest = max(b - a for a, b in pairwise(turns))
    # The first ones are taken before anybody knows how long that takes.
    assert longest <= max(10 * each, 2.5 * ENTITIES_SECONDS)
