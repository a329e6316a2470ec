"""Whatever numbers a host reports: every share and difference of them is within its range, or missing."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
import inspect
import json
from random import Random
from typing import Any, get_type_hints

from hypothesis import given, settings, strategies as st
import pytest

from custom_components.homelab_monitor.client import models
from custom_components.homelab_monitor.client.models import SECTIONS, Memory, difference, percent, within
from custom_components.homelab_monitor.client.models.kinds import Percent
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.rates import Rates, updated
from tests.worst_replies import NASTY_NUMBERS, TYPES, Filling

INTEGERS = [number for number in NASTY_NUMBERS if isinstance(number, int)]
SEEDS = st.integers(0, 1 << 64)


def numbers_of(seed: int) -> Iterator[int]:
    """Yield numbers that a host may tell: nasty ones, small ones that hardly fit each other, and sizes."""
    chance = Random(seed)
    while True:
        kind = chance.random()
        if kind < 0.2:
            yield chance.choice(INTEGERS)
        else:
            yield chance.randint(-5, 200) if kind < 0.7 else chance.randint(0, 1 << 50)


WHOLE = {name: Filling(2).section(kind) for name, kind in TYPES.items()}
MODELS = [kind for _, kind in inspect.getmembers(models, is_dataclass) if isinstance(kind, type)]
CALCULATED = [
    (kind, name)
    for kind in MODELS
    for name, member in inspect.getmembers(kind)
    if isinstance(member, property) and name.endswith(("_percent", "_bytes"))
]


def decoded(sections: Mapping[str, object], at: float = 0.0) -> Snapshot:
    """Return a snapshot of some sections, without those that are refused."""
    reply = {"id": "1", "protocol": 1, "boot_id": "b", "epoch": 1.0, "sections": sections}
    return Snapshot().merged(decode_reply("host", json.dumps(reply).encode()), 1000.0 + at, 30.0)


def with_numbers(value: Any, numbers: Iterator[int]) -> Any:
    """Return the JSON value with other numbers."""
    if isinstance(value, dict):
        return {name: with_numbers(each, numbers) for name, each in value.items()}
    if isinstance(value, list):
        return [with_numbers(each, numbers) for each in value]
    return value if isinstance(value, (str, bool)) else next(numbers)


def rows(value: object) -> Iterator[object]:
    """Yield a typed section and all rows in it."""
    if is_dataclass(value):
        yield value
        for each in fields(value):
            yield from rows(getattr(value, each.name))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from rows(part)
    elif isinstance(value, dict):
        yield from rows(tuple(value.values()))


def require_ranges(row: object, names: Iterator[str], most: float = 100.0) -> None:
    """Require that each share of a row lies within its range."""
    for name in names:
        told = getattr(row, name)
        assert told is None or 0 <= told <= most, (row, name)


def shares(kind: type) -> Iterator[str]:
    """Yield the fields and properties of a row that are shares."""
    names = {each.name for each in fields(kind)} | {name for of, name in CALCULATED if of is kind}
    yield from (name for name in names if "_percent" in name or "_avg" in name)


def test_there_is_something_to_check() -> None:
    assert {(kind.__name__, name) for kind, name in CALCULATED} == {
        ("Filesystem", "used_percent"),
        ("Filesystem", "inodes_used_percent"),
        ("Gpu", "memory_used_percent"),
        ("Memory", "used_bytes"),
        ("Memory", "used_percent"),
        ("Memory", "needed_percent"),
        ("Memory", "swap_used_bytes"),
        ("Memory", "swap_used_percent"),
    }


def test_every_share_that_a_host_reports_itself_is_one_of_a_hundred() -> None:
    for kind in MODELS:
        for name, hint in get_type_hints(kind, include_extras=True).items():
            if name.endswith("_percent") or "_avg" in name:
                assert hint in (Percent, Percent | None), (kind, name)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["memory", "filesystems", "gpu", "pressure"]), SEEDS)
def test_every_share_and_difference_is_within_its_range_or_absent(section: str, seed: int) -> None:
    numbers = numbers_of(seed)
    told = getattr(decoded({section: with_numbers(WHOLE[section], numbers)}).sections, section)
    for row in rows(told):
        require_ranges(row, shares(type(row)))
        if isinstance(row, Memory):
            for used, whole in ((row.used_bytes, row.total_bytes), (row.swap_used_bytes, row.swap_total_bytes)):
                assert used is None or 0 <= used <= whole


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_every_rate_that_is_a_share_is_within_its_range_or_absent(seed: int) -> None:
    numbers, sections = numbers_of(seed), {name: WHOLE[name] for name in ("cpu", "disk_io", "containers")}
    two = [
        decoded({name: with_numbers(each, numbers) | {"at": 100.0 + at} for name, each in sections.items()}, at)
        for at in (0.0, 10.0)
    ]
    found = updated(Rates(), *two)
    cores = len(two[1].sections.cpu.cores) if two[1].sections.cpu else 0
    if found.cpu:
        require_ranges(found.cpu, iter(("usage_percent", "iowait_percent", "steal_percent")))
        assert all(each is None or 0 <= each <= 100 for each in found.cpu.cores)
    for disk in found.disks.values():
        require_ranges(disk, iter(("busy_percent",)))
    for container in found.containers.values():
        require_ranges(container, iter(("cpu_percent",)), 100.0 * cores if cores else float("inf"))


@pytest.mark.parametrize(("part", "whole"), [(-1, 8), (9, 8), (None, 8), (1, None), (1, -8), (0, -1)])
def test_what_is_no_part_of_a_whole_makes_nothing(part: int | None, whole: int | None) -> None:
    assert (percent(part, whole), difference(whole, part), within(part, 0, whole)) == (None, None, None)


def test_what_is_a_part_is_counted_to_its_ends() -> None:
    assert [(percent(part, 8), difference(8, part)) for part in (0, 2, 8)] == [(0.0, 8), (25.0, 6), (100.0, 0)]
    assert (percent(0, 0), difference(0, 0)) == (None, 0)


def test_more_memory_available_than_there_is_makes_no_use_of_it() -> None:
    told = {"total_bytes": 800, "available_bytes": 900, "free_bytes": 1, "buffers_bytes": 0, "cached_bytes": 0}
    memory = decoded({"memory": told}).sections.memory
    assert memory
    assert (memory.used_bytes, memory.used_percent, memory.needed_percent) == (None, None, None)


def test_every_section_is_polled_for_shares() -> None:
    polled = {name for name, kind in SECTIONS.items() for row in rows_of(kind.type) if [*shares(row)]}
    assert polled == {"memory", "filesystems", "gpu", "pressure"}


def rows_of(kind: type) -> Iterator[type]:
    """Yield a model and the models inside it."""
    yield kind
    for hint in get_type_hints(kind).values():
        for part in (hint, *getattr(hint, "__args__", ())):
            for inner in (part, *getattr(part, "__args__", ())):
                if is_dataclass(inner) and isinstance(inner, type) and inner is not kind:
                    yield from rows_of(inner)
