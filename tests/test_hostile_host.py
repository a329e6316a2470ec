"""A monitored machine that belongs to somebody else: what it can make Home Assistant do, show, store or hang."""

from collections.abc import Iterator
import json
import logging
import time
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.json import json_bytes
import pytest

from custom_components.homelab_monitor.client.happenings import MOST_AT_ONCE
from custom_components.homelab_monitor.client.inventory import ITEMS_LIMIT
from custom_components.homelab_monitor.client.snapshot import TEXT_LIMIT

from .scripted import Host

EVIL = "\u202etxt.\x1b[31m\ud800\r\n# <b>`x`\u200b"
UNIT = {"description": "", "load_state": "loaded", "active_state": "active", "sub_state": "running", "origin": "admin"}


def forged(value: Any, text: str) -> Any:
    """Return the JSON value with the text in all its texts and in the names of things."""
    if isinstance(value, dict):
        return {name: forged(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [forged(each, text) for each in value]
    return value + text if isinstance(value, str) else value


def counting(value: Any, number: float) -> Any:
    """Return the JSON value with that number in the place of every number."""
    if isinstance(value, dict):
        return {name: counting(each, number) for name, each in value.items()}
    if isinstance(value, list):
        return [counting(each, number) for each in value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value)(number) if is_number else value


def texts(value: object) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from (*texts(name), *texts(each))
    elif isinstance(value, (list, tuple, set)):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def units(host: Host, count: int, prefix: str = "u", **changes: str) -> None:
    """Let the host tell of so many services."""
    host.session.sections["services"]["units"] = [
        UNIT | changes | {"name": f"{prefix}{number}.service"} for number in range(count)
    ]


async def test_no_text_of_a_host_can_forge_what_is_shown_or_keep_anything_from_being_saved(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    document = host.session.document
    document["sections"] = forged(document["sections"], EVIL)
    document["sections"]["network"]["interfaces"][f"eth{EVIL}"] = {"receive_bytes": 1, "transmit_bytes": 1}
    document["errors"] = {"gpu": f"driver{EVIL}", f"new{EVIL}": EVIL}
    document["missing"] = {"pressure": EVIL}
    document["boot_id"] = EVIL
    await host.start()
    await host.move(40)
    assert host.status == "online"
    store = host.entry.runtime_data.store
    entities = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), host.entry.entry_id)
    seen = {
        "states": [state.as_dict() for state in hass.states.async_all()],
        "devices": [device.dict_repr for device in devices],
        "entities": [entity.as_partial_dict for entity in entities],
        "store": store._plain(),
    }
    assert "b" in str(seen["devices"])
    for place, value in seen.items():
        json_bytes(value)
        assert [text for text in texts(value) if not text.isprintable()] == [], place
    assert complaints(caplog) == []


async def test_a_long_text_is_cut(hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.session.sections["filesystems"]["filesystems"][0]["mountpoint"] = "/" + "x" * 100_000
    host.session.sections["filesystems"]["filesystems"][1]["mountpoint"] = "/" + 'y"' * 50_000
    host.session.document["errors"] = {"gpu": "z" * 100_000}
    await host.start()
    memory = host.entry.runtime_data.store.memory
    assert max(map(len, texts(memory.snapshot.as_dict()))) == TEXT_LIMIT
    assert max(len(state.name) for state in hass.states.async_all()) < 200
    assert max(len(json.dumps(state.as_dict()["attributes"])) for state in hass.states.async_all()) < 2000
    assert complaints(caplog) == []


@pytest.mark.parametrize("number", [0, -1, 1 << 63, -(1 << 63), 1e-300, 1e18, -1e18])
async def test_no_number_of_a_host_is_an_error(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture, number: float
) -> None:
    await host.start()
    honest = host.session.document["sections"]
    for _ in range(2):
        host.session.document["sections"] = counting(honest, number)
        await host.move(70, step=5)
        host.session.document["sections"] = honest
        await host.move(70, step=5)
    assert complaints(caplog) == []
    assert host.status == "online"


async def test_names_that_a_host_makes_up_do_not_add_up(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    for number in range(5):
        host.session.document["errors"] = {f"error{number}": "x"}
        host.session.document["missing"] = {f"missing{number}": "x"}
        host.session.document["seconds"] = {f"seconds{number}": 1.0}
        await host.move(10)
    snapshot = host.entry.runtime_data.data.snapshot
    assert not {*snapshot.errors, *snapshot.missing, *snapshot.seconds} - {"gpu", "cpu"}


async def test_a_host_cannot_make_entities_without_end(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    units(host, 3 * ITEMS_LIMIT)
    await host.start()
    inventory = host.entry.runtime_data.inventory
    assert len(inventory.items["service"]) == ITEMS_LIMIT
    first = set(inventory.items["service"])
    units(host, ITEMS_LIMIT, prefix="other")
    await host.move(70)
    assert set(inventory.items["service"]) == first
    assert complaints(caplog) == []


async def test_the_largest_list_of_services_costs_a_bounded_time(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    units(host, 20_000)
    await host.move(31, step=31)
    assert len(host.entry.runtime_data.data.snapshot.sections.services.units) == 20_000
    started = time.process_time()
    await host.move(31, step=31)
    assert time.process_time() - started < 5, "a second or less on most machines"


async def test_a_thousand_failures_at_once_are_told_in_a_few_events_and_reasons(
    hass: HomeAssistant, host: Host
) -> None:
    units(host, 900)
    await host.start()
    told = []
    hass.bus.async_listen("state_changed", lambda event: told.append(event.data["entity_id"]))
    units(host, 900, active_state="failed")
    await host.move(40)
    assert told.count("event.plain_events") == MOST_AT_ONCE
    reasons = hass.states.get("binary_sensor.plain_problem").attributes["reasons"]
    assert len(reasons) == 21
    assert reasons[-1] == "+880"
