"""Readings are what entities show: the same value by the same key, for the host and for each of its items."""

import ast
from datetime import datetime
from pathlib import Path
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity_component import DATA_INSTANCES
import pytest

from custom_components.homelab_monitor import readings, subjects
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.sensor import SAME_MOMENT
from custom_components.homelab_monitor.subjects import HOST, HOST_ITEM, Subject

from .recorded import RecordedHost, recorded_hosts
from .test_contract import TABLES

PLATFORMS = ("sensor", "binary_sensor")
SUBJECTS = [each for each in vars(subjects).values() if isinstance(each, Subject)]
TEST = Report(
    rows=(CheckResult.of("login", Verdict(CheckStatus.OK, "logged_in", {"username": "mon"})),), at=1763900000.0
)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.key)
def test_every_reading_is_shown_by_one_row(subject: Subject[Any]) -> None:
    keys = [row.key for platform in PLATFORMS for row in TABLES[platform] if row.subject is subject]
    assert sorted(keys) == sorted(subject.readings)


def test_readings_know_no_home_assistant_and_no_entity() -> None:
    tree = ast.parse(Path(readings.__file__).read_text())
    modules = {f"{'.' * node.level}{node.module}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in modules if name.startswith(("homeassistant", ".entity", ".subjects", ".sensor"))]


@pytest.mark.parametrize("name", [folder.name for folder in recorded_hosts()])
async def test_entities_show_what_the_readings_return(
    name: str,
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    entity_registry: er.EntityRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True)
    host = RecordedHost(hass, freezer, name)
    await host.start()
    await host.entry.runtime_data.async_tested(TEST)
    await host.move(40, step=5)
    state, seen = host.entry.runtime_data.data, set()
    for subject in SUBJECTS:
        items = {HOST_ITEM: state} if subject is HOST else state.items[subject.key]
        for item_id, item in items.items():
            for key, reading in subject.readings.items():
                parts = (host.entry.runtime_data.address.host_id, subject.key, item_id, key)
                if entity_id := find(entity_registry, "_".join(filter(None, parts))):
                    assert_shows(hass, entity_id, reading(item))
                    seen.add(entity_id)
    shown = {each.entity_id for each in hass.states.async_all(PLATFORMS) if each.state != "unavailable"}
    assert seen == shown


def find(registry: er.EntityRegistry, unique_id: str) -> str | None:
    """Return the sensor or binary sensor of an id, None where the host has none."""
    found = (registry.async_get_entity_id(platform, DOMAIN, unique_id) for platform in PLATFORMS)
    return next(filter(None, found), None)


def assert_shows(hass: HomeAssistant, entity_id: str, value: readings.Value) -> None:
    """Compare a value with that of an entity, which writes no change below its deadband."""
    entity = hass.data[DATA_INSTANCES][entity_id.partition(".")[0]].get_entity(entity_id)
    told = hass.states.get(entity_id).state
    if isinstance(entity, BinarySensorEntity):
        assert told == {None: "unknown", True: "on", False: "off"}[value], entity_id
    elif isinstance(value, datetime):
        assert abs(datetime.fromisoformat(told) - value) <= SAME_MOMENT, entity_id
    elif isinstance(value, int | float):
        assert entity.native_value == pytest.approx(value, abs=entity.entity_description.deadband), entity_id
    else:
        assert told == (value or "unknown"), entity_id
