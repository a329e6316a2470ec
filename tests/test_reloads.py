"""A reload or a restart: everything is as it was said last, until the first poll has ended."""

from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.event import async_track_state_change_event
import pytest
from pytest_homeassistant_custom_component.common import mock_restore_cache_with_extra_data

from custom_components.homelab_monitor.client.errors import Unreachable

from .scripted import CONNECTIVITY, Host

PROBLEM = "binary_sensor.plain_problem"
CPU = "sensor.plain_cpu_usage"
EVENTS = "event.plain_events"


@pytest.fixture
def said(hass: HomeAssistant) -> dict[str, list[str]]:
    """Return what some entities say, one after the other."""
    found: dict[str, list[str]] = {entity_id: [] for entity_id in (CONNECTIVITY, PROBLEM, CPU, EVENTS)}

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        if state := event.data["new_state"]:
            told = found[event.data["entity_id"]]
            what = state.attributes["event_type"] if event.data["entity_id"] == EVENTS else state.state
            if told[-1:] != [what]:
                told.append(what)

    async_track_state_change_event(hass, list(found), note)
    return found


async def test_a_reload_of_a_host_that_is_online_shows_nothing_else(host: Host, said: dict[str, list[str]]) -> None:
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disk["used_bytes"], disk["available_bytes"] = 950_000_000, 50_000_000
    await host.start()
    host.session.sections["cpu"]["times"]["user"] += 5
    host.session.sections["cpu"]["times"]["idle"] += 15
    await host.move(10)
    usage = host.state(CPU)
    assert (host.state(CONNECTIVITY), host.state(PROBLEM)) == ("on", "on")
    assert float(usage) >= 0
    for told in said.values():
        told.clear()
    host.session.advance(1)
    host.session.sections["cpu"]["times"]["idle"] += 2
    await host.reload()
    assert said[CONNECTIVITY] == ["unavailable", "on"]
    assert said[PROBLEM] == ["unavailable", "on"]
    assert said[CPU][:2] == ["unavailable", usage]
    assert "unknown" not in said[CPU]
    assert not {"host_offline", "host_online"} & set(said[EVENTS])


async def test_a_reload_of_a_host_that_is_offline_shows_nothing_else(host: Host, said: dict[str, list[str]]) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    since = host.hass.states.get(CONNECTIVITY).attributes["since"]
    for told in said.values():
        told.clear()
    await host.reload()
    await host.move(30)
    assert said[CONNECTIVITY] == ["unavailable", "off"]
    assert said[PROBLEM] == ["unavailable", "on"]
    assert host.hass.states.get(PROBLEM).attributes["reasons"] == ["offline"]
    assert host.hass.states.get(CONNECTIVITY).attributes["since"] == since
    host.session.error = None
    await host.move(120)
    assert said[CONNECTIVITY] == ["unavailable", "off", "on"]
    assert said[EVENTS][-1] == "host_online"


async def test_a_host_that_went_while_nobody_looked_is_gone_after_the_first_poll(
    host: Host, said: dict[str, list[str]]
) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    for told in said.values():
        told.clear()
    await host.reload()
    assert said[CONNECTIVITY] == ["unavailable", "on", "off"]
    assert said[EVENTS].count("host_offline") == 1
    host.session.error = None
    await host.move(61)
    assert said[CONNECTIVITY][3:] == ["on"]
    assert [each for each in said[EVENTS] if each] == ["host_offline", "host_online"]


async def test_of_a_host_that_nobody_has_seen_nothing_is_said(host: Host, said: dict[str, list[str]]) -> None:
    host.session.error = Unreachable("plain")
    await host.start()
    assert said[CONNECTIVITY] == ["unknown", "off"]
    assert said[PROBLEM] == ["unknown", "on"]
    assert "host_offline" not in said[EVENTS]


async def test_a_host_that_may_be_off_is_no_problem_while_it_is(host: Host) -> None:
    await host.start(may_be_off=True)
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert (host.state(CONNECTIVITY), host.state(PROBLEM)) == ("off", "off")
    assert host.hass.states.get(CONNECTIVITY).attributes["expected"] is True
    host.session.error = None
    await host.move(301, step=5)
    assert "expected" not in host.hass.states.get(CONNECTIVITY).attributes


async def test_a_restart_shows_what_was_said_last(hass: HomeAssistant, host: Host, said: dict[str, list[str]]) -> None:
    await host.start()
    await host.move(30)
    await host.entry.runtime_data.store.async_save()
    state = hass.states.get(CPU)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    # As the file says that Home Assistant writes when it ends.
    kept = {"native_value": 12.5, "native_unit_of_measurement": "%"}
    mock_restore_cache_with_extra_data(hass, [(state, kept)])
    for told in said.values():
        told.clear()
    await host.start_again()
    assert said[CPU][0] == "12.5"
    assert said[CONNECTIVITY] == ["on"]
