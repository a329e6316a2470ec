"""A reload or a restart: everything is as it was said last, until the first poll has ended."""

import asyncio
from collections.abc import Callable
from functools import partial
import time

from homeassistant.core import CoreState, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.event import async_track_state_change_event
import pytest
from pytest_homeassistant_custom_component.common import mock_restore_cache_with_extra_data

from custom_components.homelab_monitor.audience import _HANDOVERS, AUTOMATIONS_SECONDS
from custom_components.homelab_monitor.client.errors import (
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    NoPython,
    TimedOut,
    Unreachable,
)
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.snapshot import Reply, Snapshot
from custom_components.homelab_monitor.flow.connection import HostContact
from custom_components.homelab_monitor.settings import HostAddress
from custom_components.homelab_monitor.store import HostStore

from .scripted import CONNECTIVITY, HOST_ID, Host

PROBLEM = "binary_sensor.plain_problem"
CPU = "sensor.plain_cpu_usage"
RECEIVED = "sensor.plain_eth0_received"
EVENTS = "event.plain_events"


@pytest.fixture
def said(hass: HomeAssistant) -> dict[str, list[str]]:
    """Return what some entities say, one after the other."""
    found: dict[str, list[str]] = {entity_id: [] for entity_id in (CONNECTIVITY, PROBLEM, CPU, RECEIVED, EVENTS)}

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        if state := event.data["new_state"]:
            told = found[event.data["entity_id"]]
            what = state.attributes["event_type"] if event.data["entity_id"] == EVENTS else state.state
            if told[-1:] != [what]:
                told.append(what)

    async_track_state_change_event(hass, list(found), note)
    return found


async def again(hass: HomeAssistant, host: Host, *, is_restart: bool) -> None:
    """Reload the entry, or let Home Assistant start anew, automations included."""
    if not is_restart:
        await host.reload()
        return
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.data[_HANDOVERS].clear()
    hass.set_state(CoreState.not_running)
    await host.start_again()
    await hass.async_start()
    await host.move(AUTOMATIONS_SECONDS + 1)


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


@pytest.mark.parametrize("is_restart", [False, True], ids=["reload", "restart"])
async def test_a_host_that_went_while_nobody_looked_is_gone_once_it_was_silent_for_as_long_as_ever(
    hass: HomeAssistant, host: Host, said: dict[str, list[str]], *, is_restart: bool
) -> None:
    await host.start()
    await host.move(60)
    host.session.error = Unreachable("plain")
    for told in said.values():
        told.clear()
    await again(hass, host, is_restart=is_restart)
    await host.move(10)
    assert said[CONNECTIVITY] == ["unavailable", "on"]
    await host.move(21)
    assert said[CONNECTIVITY] == ["unavailable", "on", "off"]
    assert said[EVENTS].count("host_offline") == 1
    host.session.error = None
    await host.move(61)
    assert said[CONNECTIVITY][3:] == ["on"]
    assert [each for each in said[EVENTS] if each] == ["host_offline", "host_online"]


@pytest.mark.parametrize("is_restart", [False, True], ids=["reload", "restart"])
async def test_one_poll_without_an_answer_is_no_absence_after_a_reload_either(
    hass: HomeAssistant, host: Host, said: dict[str, list[str]], *, is_restart: bool
) -> None:
    await host.start()
    await host.move(60)
    for told in said.values():
        told.clear()
    host.session.error = TimedOut("plain", "once")
    await again(hass, host, is_restart=is_restart)
    host.session.error = None
    await host.move(60)
    assert host.status == "online"
    assert said[CONNECTIVITY] == ["unavailable", "on"]
    assert not {"host_offline", "host_online"} & set(said[EVENTS])


@pytest.mark.parametrize("is_restart", [False, True], ids=["reload", "restart"])
@pytest.mark.parametrize(
    "error", [KeyRefused("plain"), HostKeyChanged("plain", expected="a", offered="b"), NoPython("plain")], ids=type
)
async def test_a_host_that_refuses_is_gone_at_once_also_after_a_reload(
    hass: HomeAssistant, host: Host, error: HomelabError, *, is_restart: bool
) -> None:
    await host.start()
    host.session.error = error
    await again(hass, host, is_restart=is_restart)
    await host.move(20 if is_restart else 1)
    assert host.state(CONNECTIVITY) == "off"


async def test_reloads_in_a_row_put_no_absence_off(host: Host) -> None:
    await host.start()
    await host.move(60)
    host.session.error = Unreachable("plain")
    for _ in range(4):
        await host.move(10)
        await host.reload()
    await host.move(21)
    assert host.state(CONNECTIVITY) == "off"


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


async def restart_with_kept_rates(
    host: Host, said: dict[str, list[str]], prepare: Callable[[], None] = lambda: None
) -> None:
    """Restart with rates in the file that Home Assistant writes when it ends: they need two polls."""
    await host.start()
    await host.move(30)
    await host.entry.runtime_data.store.async_save()
    states = [host.hass.states.get(entity_id) for entity_id in (CPU, RECEIVED)]
    assert await host.hass.config_entries.async_unload(host.entry.entry_id)
    kept = [{"native_value": 12.5, "native_unit_of_measurement": unit} for unit in ("%", "B/s")]
    mock_restore_cache_with_extra_data(host.hass, list(zip(states, kept, strict=True)))
    for reported in said.values():
        reported.clear()
    prepare()
    await host.start_again()


async def test_a_restart_shows_what_was_said_last(host: Host, said: dict[str, list[str]]) -> None:
    await restart_with_kept_rates(host, said)
    assert said[CPU][0] == "12.5"
    assert said[CONNECTIVITY] == ["on"]


async def test_a_restored_value_ends_with_the_first_poll_also_if_that_fails(
    host: Host, said: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def poll(*_wanted: object) -> Reply:
        host.entry.runtime_data.async_update_listeners()  # something else is reported during the poll
        raise TimedOut("plain")

    await restart_with_kept_rates(host, said, partial(monkeypatch.setattr, host.session, "poll", poll))
    for rate in (CPU, RECEIVED):
        assert said[rate][0] not in ("unknown", "unavailable")
        assert host.state(rate) == "unknown"


# ---------------------------------------------------------------- a host that was just added


async def add(host: Host, seconds: float = 0) -> None:
    """Let a dialog test the host and hand it over, and set it up after it was read for so long."""
    contact = HostContact(HostAddress.from_data(host.entry.data).target, (), host.session, asyncio.Lock())
    contact.snapshot = Snapshot().merged(host.session.answer(list(SECTIONS)), time.time(), 30.0)
    contact._seen = time.monotonic()
    await host.move(seconds, step=10)
    contact.async_hand_over(host.hass, HOST_ID)
    await host.start()
    await host.move(10)


def told_of(host: Host) -> list[str]:
    """Return a list that is filled with what the event entity tells."""
    found: list[str] = []

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        before, now = event.data["old_state"], event.data["new_state"]
        if now and before and before.state != "unavailable" and now.state not in ("unavailable", before.state):
            found.append(now.attributes["event_type"])

    async_track_state_change_event(host.hass, ["event.plain_events"], note)
    return found


@pytest.mark.parametrize("read", [0, 20, 60], ids=lambda seconds: f"read for {seconds} s")
@pytest.mark.parametrize("is_restart", [False, True], ids=["reload", "restart"])
async def test_a_host_that_goes_around_the_first_reload_after_it_was_added_is_reported(
    hass: HomeAssistant, host: Host, read: int, *, is_restart: bool
) -> None:
    await add(host, read)
    assert host.state(CONNECTIVITY) == "on"
    since = hass.states.get(CONNECTIVITY).attributes["since"]
    events = told_of(host)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    if is_restart:
        await host.move(200, step=10)
        hass.set_state(CoreState.not_running)
    host.session.error = Unreachable("plain")
    shown: list[str] = []

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        shown.append(event.data["new_state"].state)

    async_track_state_change_event(hass, [CONNECTIVITY], note)
    await host.start_again()
    if is_restart:
        assert hass.states.get(CONNECTIVITY).attributes["since"] == since
        await hass.async_start()
    await host.move(60)
    assert "unknown" not in shown
    assert (host.state(CONNECTIVITY), events) == ("off", ["host_offline"])
    host.session.error = None
    await host.move(61)
    assert (host.state(CONNECTIVITY), events) == ("on", ["host_offline", "host_online"])


async def test_a_host_that_gave_the_dialog_no_values_is_not_known_to_be_there(hass: HomeAssistant, host: Host) -> None:
    contact = HostContact(HostAddress.from_data(host.entry.data).target, (), host.session, asyncio.Lock())
    contact.async_hand_over(hass, HOST_ID)
    assert (await HostStore(hass, "entry", HOST_ID).async_load()).online is None


async def test_why_a_host_is_offline_is_said_over_a_reload(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    host.session.error = TimedOut("plain")
    await host.move(60)
    assert host.reason == "timed_out"
    said: list[str | None] = []

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        if (now := event.data["new_state"]) and now.state == "off":
            said.append(now.attributes["reason"])

    async_track_state_change_event(hass, [CONNECTIVITY], note)
    await host.reload()
    assert set(said) == {"timed_out"}
    host.session.error = None
    await host.move(61)
    await host.reload()
    assert host.reason is None
