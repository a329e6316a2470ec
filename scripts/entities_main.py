"""scripts/entities: write docs/entities.md from the tables of the platforms; --check only reports whether it is stale.

How many entities a host gets is counted in a real Home Assistant core, on hosts that the tests simulate.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
import importlib
import json
import logging
from pathlib import Path
import sys
import tempfile
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Before the harness's own `custom_components` package is found, ours has to be.
from custom_components.homelab_monitor import PLATFORMS  # isort: skip

from homeassistant import loader
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import async_test_home_assistant

from custom_components.homelab_monitor.client.tracking.items import SHOWN
from custom_components.homelab_monitor.entity import HomelabDescription, always
from custom_components.homelab_monitor.settings import PRIVILEGES, HostOptions
from tests import big_host
from tests.scripted import HOST_ID, ScriptedSession, make_entry, read_reply

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/entities.md"
ALL_TEXTS = json.loads((ROOT / "custom_components/homelab_monitor/translations/en.json").read_text())
TEXTS = ALL_TEXTS["entity"]
OPTIONS = ALL_TEXTS["options"]["step"]["init"]["sections"]["privileges"]["data"]
ENABLED_FOR = {"interface": "primary and chosen"}
"""Subject → the only items of it whose entities are enabled, where a row's `enabled_fn` says so."""
HEADINGS = {"gpu": "GPU"}
FEW = SHOWN
PLAIN_LIMIT = 25
"""Enabled entities that a plain host may have: few enough to like."""
CONTAINER_LIMIT = 5
"""The same of a container, where there are few."""
INTRODUCTION = f"""\
# Entities

<!-- Written by scripts/entities from the tables of the platforms; a test holds it. -->

There is one entity of each row per item: per disk, per filesystem. *On* means enabled when it is first seen, *off* that
you can enable it in its settings, *option* that it is there once that option of the host is on. An entity exists where
the machine tells its value: no swap, no swap usage.

{SHOWN} items of a kind at most are shown by themselves. Of more, entities of new ones are *off*, except those of the
primary interface and of what the options choose: services, filesystems, interfaces. What is enabled already stays so
while it is known; what comes back to so many after a day is enabled only where you enabled, named or placed it.
Of more containers only chosen ones have entities at all. What says *on (of few)* is *on* while no more than
{SHOWN} of the host have entities, and *off* for new ones after that.
"""
COUNTS = f"""\
## How many that makes

Counted on simulated hosts: a plain one (two filesystems, two interfaces, two failed services), the same with {FEW}
containers, and a big one: a recorded machine to which were added {big_host.SERVICES} services ({big_host.OWN_SERVICES}
of them its owner's own, two failed), {big_host.CONTAINERS} containers, {big_host.VETHS} veth pairs,
{big_host.DATASETS} ZFS datasets and {big_host.DISKS} disks.
"""


@dataclass(frozen=True)
class Count:
    """What one host has: items and entities per subject, and how many of these are enabled."""

    items: Mapping[str, int]
    entities: Mapping[str, int]
    enabled: Mapping[str, int]


def rows(platform: str) -> Iterator[HomelabDescription[Any]]:
    """Yield all rows of a platform, from whatever tables its module has."""
    module = importlib.import_module(f"custom_components.homelab_monitor.{platform}")
    seen: set[int] = set()
    for value in list(vars(module).values()):
        for row in _descriptions(value):
            if id(row) not in seen:
                seen.add(id(row))
                yield row


def _descriptions(value: object) -> Iterator[HomelabDescription[Any]]:
    """Yield the rows in a table, or in a table of tables."""
    if isinstance(value, HomelabDescription):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _descriptions(part)


def subjects(tables: Mapping[str, list[HomelabDescription[Any]]]) -> list[str]:
    """Return the keys of all subjects, the host first."""
    keys = {row.subject.key for table in tables.values() for row in table}
    return sorted(keys, key=lambda key: (key != "host", key))


def default(row: HomelabDescription[Any]) -> str:
    """Return what an entity is when it is first seen."""
    if not row.offered_fn(HostOptions()):
        option = next(name for name in PRIVILEGES if row.offered_fn(HostOptions(**{name: True})))
        return f"option *{OPTIONS[option]}*"
    if not row.entity_registry_enabled_default:
        return "off"
    if row.of_few:
        return "on (of few)"
    return "on" if row.enabled_fn is always else f"on ({ENABLED_FOR[row.subject.key]})"


def table(heads: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    all_lines = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in all_lines)


def entity_tables() -> str:
    """Return the list of entities, one table per subject."""
    tables = {str(platform): list(rows(platform)) for platform in PLATFORMS}
    parts = []
    for subject in subjects(tables):
        lines = [
            (_name(platform, row), platform, _unit(row), default(row))
            for platform, table_rows in sorted(tables.items(), key=lambda each: each[0] != "sensor")
            for row in table_rows
            if row.subject.key == subject
        ]
        heading = HEADINGS.get(subject, subject.capitalize())
        parts.append(f"## {heading}\n\n{table(('entity', 'platform', 'unit', 'default'), lines)}")
    return "\n".join(parts)


def _unit(row: HomelabDescription[Any]) -> str:
    """Return the unit in which an entity is shown."""
    units = (getattr(row, f"{kind}_unit_of_measurement", None) for kind in ("suggested", "native"))
    return next(filter(None, units), "")


def _name(platform: str, row: HomelabDescription[Any]) -> str:
    """Return what the entity is called, with its placeholder."""
    name = TEXTS[platform][f"{row.subject.key}_{row.key}"]["name"]
    return str(name).replace("{", "*").replace("}", "*")


async def count(document: dict[str, Any]) -> Count:
    """Return what a host that replies so gets in Home Assistant."""
    session, entry = ScriptedSession(), make_entry()
    session.document = document
    with tempfile.TemporaryDirectory(prefix="homelab-entities-") as folder:
        async with async_test_home_assistant(config_dir=folder) as hass:
            hass.data.pop(loader.DATA_CUSTOM_COMPONENTS)
            entry.add_to_hass(hass)
            with patch("custom_components.homelab_monitor.async_new_session", return_value=session):
                await hass.config_entries.async_setup(entry.entry_id)
                await hass.async_block_till_done(wait_background_tasks=True)
            registered = er.async_entries_for_config_entry(er.async_get(hass), entry.entry_id)
            items = {key: len(known) for key, known in entry.runtime_data.inventory.items.items()}
            await hass.config_entries.async_unload(entry.entry_id)
            await hass.async_stop(force=True)
    kinds = [(_subject(entity.unique_id), entity.disabled_by is None) for entity in registered]
    return Count(
        items={"host": 1} | items,
        entities=Counter(subject for subject, _ in kinds),
        enabled=Counter(subject for subject, is_enabled in kinds if is_enabled),
    )


def _subject(unique_id: str) -> str:
    """Return the subject of an entity, by its unique id."""
    return unique_id.removeprefix(f"{HOST_ID}_").split("_")[0]


async def hosts() -> dict[str, Count]:
    """Return the counts of the simulated hosts, by what they are called in the page."""
    with tempfile.TemporaryDirectory(prefix="homelab-entities-") as folder:
        big = big_host.tell(Path(folder))
    few = read_reply("plain")
    few["sections"]["containers"] = big["sections"]["containers"] | {
        "containers": big["sections"]["containers"]["containers"][:FEW]
    }
    few["missing"].pop("containers", None)
    replies = {"plain": read_reply("plain"), f"with {FEW} containers": few, "big": big}
    return {name: await count(reply) for name, reply in replies.items()}


def count_table(counts: Mapping[str, Count]) -> str:
    """Return items, entities and enabled ones per subject and host."""
    keys = sorted({key for each in counts.values() for key in each.entities}, key=lambda key: (key != "host", key))
    heads = ["", *(f"{name}: {what}" for name in counts for what in ("items", "entities", "on"))]
    lines = [
        [
            key,
            *(part.get(key, 0) or "" for each in counts.values() for part in (each.items, each.entities, each.enabled)),
        ]
        for key in keys
    ]
    total = ["**all**", *(cell for each in counts.values() for cell in ("", *map(_sum, (each.entities, each.enabled))))]
    return table(heads, [*lines, total])


def _sum(numbers: Mapping[str, int]) -> str:
    return f"**{sum(numbers.values())}**"


def page(counts: Mapping[str, Count]) -> str:
    """Return the whole page."""
    return "\n".join((INTRODUCTION, entity_tables(), COUNTS, count_table(counts)))


def main() -> int:
    """Write or compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    counts = asyncio.run(hosts())
    if (enabled := sum(counts["plain"].enabled.values())) > PLAIN_LIMIT:
        print(f"a plain host has {enabled} enabled entities, more than {PLAIN_LIMIT}")
        return 1
    if counts[f"with {FEW} containers"].enabled["container"] > CONTAINER_LIMIT * FEW:
        print(f"a container has more than {CONTAINER_LIMIT} enabled entities")
        return 1
    text = page(counts)
    if not arguments.check:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print("docs/entities.md is stale: run scripts/entities")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
