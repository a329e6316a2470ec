"""A monitored machine that belongs to somebody else: what it can make Home Assistant do, show, store or hang."""

from collections.abc import Iterator
import json
import logging
import time
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from homeassistant.helpers.json import json_bytes
import pytest

from custom_components.homelab_monitor.client.limits import ITEMS_LIMIT, LISTS, PATH_LIMIT
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.transport.ip_addresses import is_neighbour
from custom_components.homelab_monitor.client.transport.ssh import OfferedKey
from custom_components.homelab_monitor.client.transport.target import Target
from custom_components.homelab_monitor.flow.connection import HostContact
from custom_components.homelab_monitor.flow.moves import async_follow, async_follow_gate

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
    assert max(map(len, texts(memory.snapshot.as_dict()))) == PATH_LIMIT
    assert max(len(state.name) for state in hass.states.async_all()) < 200
    assert max(len(json.dumps(state.as_dict()["attributes"])) for state in hass.states.async_all()) < 2000
    assert complaints(caplog) == []


async def test_a_machine_has_a_short_name_however_long_it_calls_itself(hass: HomeAssistant, host: Host) -> None:
    target = Target("mon", "192.0.2.7", 22)
    contact = await HostContact.async_prepare(hass, target, ())
    assert contact.title == "192.0.2.7"
    host.session.sections["system"]["hostname"] = "x" * 5000 + "\nmore"
    contact.snapshot = Snapshot().merged(host.session.answer(["system"]), time.time(), 30.0)
    assert contact.title == "x" * 64, "HOST_NAME_MAX"
    await contact.async_close()


async def test_a_few_hosts_at_once_are_looked_for_at_addresses_that_somebody_announced(hass: HomeAssistant) -> None:
    let_in = 0
    while not async_follow_gate(hass).locked() and let_in < 100:
        await async_follow_gate(hass).acquire()
        let_in += 1
    assert 1 <= let_in <= 8


async def test_a_host_is_looked_for_a_few_times_a_minute_however_often_it_is_announced(
    hass: HomeAssistant, host: Host
) -> None:
    host.entry.add_to_hass(hass)
    shown = OfferedKey(host.entry.data["host_keys"][0], "")
    with patch("custom_components.homelab_monitor.flow.moves.async_read_host_key", return_value=shown) as looks:
        for number in range(60):
            host.freezer.tick(1)
            async_follow(hass, host.entry, f"192.168.1.{number}")
            await hass.async_block_till_done(wait_background_tasks=True)
    assert 1 <= looks.await_count <= 4


@pytest.mark.parametrize(
    "address", ["224.0.0.251", "239.1.2.3", "ff02::1", "0.0.0.0", "::", "240.0.0.1", "8.8.8.8", "x"]
)
def test_no_address_of_many_or_of_nobody_is_a_neighbours(address: str) -> None:
    assert not is_neighbour(address)
    assert is_neighbour("192.168.1.5")


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


async def test_the_largest_list_of_services_costs_a_bounded_time(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    units(host, 15_000)
    await host.move(31, step=31)
    snapshot = host.entry.runtime_data.data.snapshot
    assert len(snapshot.sections.services.units) == LISTS["Services.units"]
    assert snapshot.dropped == {"services": 15_000 - LISTS["Services.units"]}
    started = time.process_time()
    await host.move(31, step=31)
    assert time.process_time() - started < 3, "a tenth of it on most machines"
    assert complaints(caplog) == []


async def test_a_reply_of_too_many_values_is_a_failed_poll(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    units(host, 20_000)
    await host.move(31, step=31)
    assert host.entry.runtime_data.data.error.key == "reply_too_large"


async def test_too_much_is_said_once_and_is_over_when_it_is(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    units(host, 1100)
    await host.move(61, step=10)
    issue = ir.async_get(hass).async_get_issue("homelab_monitor", f"{host.entry.entry_id}_too_much")
    assert issue.severity is ir.IssueSeverity.WARNING
    assert issue.translation_placeholders["problem"] == "reports too much data"
    units(host, 3)
    await host.move(130, step=10)
    assert not ir.async_get(hass).async_get_issue("homelab_monitor", f"{host.entry.entry_id}_too_much")


async def test_things_for_which_there_is_no_room_are_said_too(hass: HomeAssistant, host: Host) -> None:
    units(host, ITEMS_LIMIT)
    await host.start()
    issues = ir.async_get(hass)
    assert not issues.async_get_issue("homelab_monitor", f"{host.entry.entry_id}_too_much")
    units(host, 20, prefix="other")  # as many as a reply may hold, but the others may come back
    await host.move(121, step=10)
    assert issues.async_get_issue("homelab_monitor", f"{host.entry.entry_id}_too_much")


async def test_what_is_left_out_is_not_gone(hass: HomeAssistant, host: Host) -> None:
    units(host, 3)
    await host.start()
    known = host.entry.runtime_data.inventory.items["service"]
    host.session.sections["services"]["units"][1]["active_state"] = 5
    for _ in range(5):
        await host.move(31, step=31)
        host.freezer.tick(86_400)
    assert known["system/u1.service"].misses == 0
    host.session.sections["services"]["units"].pop(1)
    await host.move(31, step=31)
    assert known["system/u1.service"].misses == 1


async def test_a_thousand_failures_at_once_are_reported_in_a_few_events_and_reasons(
    hass: HomeAssistant, host: Host
) -> None:
    units(host, 900)
    await host.start()
    told = []
    hass.bus.async_listen("state_changed", lambda event: told.append(event.data["entity_id"]))
    units(host, 900, active_state="failed")
    await host.move(40)
    assert told.count("event.plain_events") == 20
    reasons = hass.states.get("binary_sensor.plain_problem").attributes["reasons"]
    assert len(reasons) == 21
    assert reasons[-1] == "+880"
