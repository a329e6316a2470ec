"""A metric is one key in the probe, one field, one row, one name: this says which was forgotten."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
import json
from pathlib import Path
import re
import subprocess
import sys
from types import ModuleType
from typing import Any, get_args

import pytest

from custom_components.homelab_monitor.binary_sensor import BINARY_SENSORS
from custom_components.homelab_monitor.button import CONTAINER_BUTTONS, HOST_BUTTONS
from custom_components.homelab_monitor.client.items import ITEM_KINDS
from custom_components.homelab_monitor.client.models import ON_DEMAND, SECTIONS, Sections
from custom_components.homelab_monitor.client.programs import probe_source
from custom_components.homelab_monitor.client.snapshot import PROTOCOL, decode_reply
from custom_components.homelab_monitor.entity import HomelabDescription
from custom_components.homelab_monitor.event import HOST_EVENTS
from custom_components.homelab_monitor.sensor import SENSORS
from custom_components.homelab_monitor.subjects import HOST
from custom_components.homelab_monitor.switch import CONTAINER_SWITCHES
from custom_components.homelab_monitor.update import HOST_UPDATES

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
CONTRACT = (ROOT / "probes" / "README.md").read_text()
HOSTS = sorted(path.parent for path in (Path(__file__).parent / "fixtures" / "hosts").glob("*/expected.json"))
TEXTS = json.loads((ROOT / "translations" / "en.json").read_text())["entity"]
ICONS = json.loads((ROOT / "icons.json").read_text())["entity"]
TYPES = {name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND)
"""Every section's dataclass, polled or on demand."""
TABLES = {
    "sensor": [row for table in SENSORS for row in table],
    "binary_sensor": [row for table in BINARY_SENSORS for row in table],
    "button": [*HOST_BUTTONS, *CONTAINER_BUTTONS],
    "switch": list(CONTAINER_SWITCHES),
    "event": list(HOST_EVENTS),
    "update": list(HOST_UPDATES),
}


@pytest.fixture(scope="module")
def probe():
    module = ModuleType("probe")
    exec(compile(probe_source(ROOT / "probes"), "probe.py", "exec"), module.__dict__)
    return module


def test_probe_model_and_contract_know_the_same_sections(probe) -> None:
    assert [f.name for f in fields(Sections)] == list(SECTIONS)
    assert not SECTIONS.keys() & ON_DEMAND.keys()
    polled, _, on_demand = CONTRACT.partition("## While somebody looks")
    assert list(SECTIONS) == re.findall(r"^\*\*(\w+)\*\* `", polled, re.MULTILINE)
    assert list(ON_DEMAND) == re.findall(r"^\*\*(\w+)\*\* `", on_demand, re.MULTILINE)
    assert sorted(TYPES) == sorted(collector.name for collector in probe.COLLECTORS)
    assert probe.PROTOCOL == PROTOCOL


def test_every_section_has_a_recorded_or_synthetic_host_that_tells_it() -> None:
    told = {name for folder in HOSTS for name in json.loads((folder / "expected.json").read_text())["sections"]}
    assert told == SECTIONS.keys()


@pytest.mark.parametrize("folder", HOSTS, ids=lambda folder: folder.name)
def test_every_field_of_a_recorded_host_is_in_the_model_and_the_contract(folder: Path) -> None:
    document = json.loads((folder / "expected.json").read_text())
    reply = decode_reply(folder.name, json.dumps(document).encode())
    assert not [name for name, text in reply.errors.items() if "wrong shape" in text]
    for name, section in document["sections"].items():
        known = {f.name for f in fields(TYPES[name])} | {"at"}
        assert section.keys() <= known, name


def test_every_field_of_the_model_is_in_the_contract() -> None:
    forgotten = [
        f"{name}.{f.name}"
        for name, kind in TYPES.items()
        for shape in shapes(kind)
        for f in fields(shape)
        if f.name not in CONTRACT
    ]
    assert not forgotten


def shapes(kind: object) -> list[type]:
    """Return a section's dataclass and those inside it."""
    if not is_dataclass(kind):
        return [shape for part in get_args(kind) for shape in shapes(part)]
    return [kind, *(shape for f in fields(kind) for shape in shapes(f.type))]


@pytest.mark.parametrize("platform", TABLES)
def test_every_row_has_a_name_and_every_name_a_row(platform: str) -> None:
    keys = [f"{row.subject.key}_{row.key}" for row in TABLES[platform]]
    assert len(keys) == len(set(keys))
    assert set(keys) == TEXTS[platform].keys()
    for row in TABLES[platform]:
        text = TEXTS[platform][f"{row.subject.key}_{row.key}"]
        placeholders = set(re.findall(r"{(\w+)}", text["name"]))
        assert placeholders == ({row.subject.placeholder} if row.subject.placeholder else set())
        assert set(text.get("state", ())) == set(states(platform, row))


def states(platform: str, row: HomelabDescription[Any]) -> Iterable[str]:
    """Return the states that need words of our own: a bare yes or no reads *On* and *Off*, whatever it is about."""
    if platform == "binary_sensor" and row.device_class is None:
        return "on", "off"
    return getattr(row, "options", None) or ()


@pytest.mark.parametrize("platform", TABLES)
def test_every_row_without_a_device_class_has_an_icon(platform: str) -> None:
    for row in TABLES[platform]:
        key = f"{row.subject.key}_{row.key}"
        if row.device_class is None:
            assert key in ICONS[platform]
    assert ICONS.get(platform, {}).keys() <= TEXTS[platform].keys()


def test_every_subject_is_a_kind_of_item() -> None:
    subjects = {row.subject.key for rows in TABLES.values() for row in rows}
    assert subjects == {HOST.key} | {kind.key for kind in ITEM_KINDS}


def test_a_deadband_is_at_most_half_the_displayed_step() -> None:
    units = {"GiB": 1024**3, "MiB": 1024**2, "kB/s": 1e3, "GHz": 1e9, "MHz": 1e6, "ms": 1e-3}
    for row in TABLES["sensor"]:
        if row.suggested_display_precision is not None:
            step = 10.0**-row.suggested_display_precision * units.get(row.suggested_unit_of_measurement, 1)
            assert row.deadband <= step / 2, row.key


def test_the_page_of_entities_is_up_to_date_and_within_its_limits() -> None:
    command = [sys.executable, str(ROOT.parents[1] / "scripts/entities_main.py"), "--check"]
    run = subprocess.run(command, cwd=ROOT.parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
