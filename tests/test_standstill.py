"""Home Assistant's own process stands still: no host is blamed for that."""

import asyncio
from typing import Any

from homeassistant.components import automation
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import async_fire_time_changed

from custom_components.homelab_monitor.client.errors import TimedOut, Unreachable

from .scripted import CONNECTIVITY, Host
from .test_blueprints import let_pass, note, notes, use  # noqa: F401 - a fixture

EVENTS = "event.plain_events"


def listen(hass: HomeAssistant, *entity_ids: str) -> list[tuple[str, str]]:
    """Return a list that fills with what entities say from now on; of events their type."""
    said: list[tuple[str, str]] = []

    @callback
    def heard(event: Event) -> None:
        new = event.data["new_state"]
        if new is not None and event.data["entity_id"] in entity_ids:
            said.append((new.entity_id, new.attributes.get("event_type") or new.state))

    hass.bus.async_listen("state_changed", heard)
    return said


def answer_slowly(host: Host, turns: int = 20) -> None:
    """Let each answer take turns of the loop, as one from the network does."""
    real = host.session.poll

    async def slow(*args: Any, **more: Any) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await real(*args, **more)

    host.session.poll = slow  # type: ignore[method-assign]


async def stand_still(host: Host, seconds: float) -> None:
    """Let every timer come late, all at once."""
    await host.move(seconds, step=seconds)


@pytest.mark.parametrize("interval", [5, 10, 60])
@pytest.mark.parametrize("seconds", [12, 25, 45, 600, 90000])
async def test_a_host_that_answers_is_there_after_a_standstill(
    hass: HomeAssistant, host: Host, seconds: float, interval: int
) -> None:
    await host.start(interval=interval)
    await host.move(130)
    answer_slowly(host)
    said = listen(hass, CONNECTIVITY, EVENTS)
    for _ in range(3):
        await stand_still(host, seconds)
        await host.move(20)
    assert said == []


@pytest.mark.parametrize("turns", [0, 20])
async def test_the_first_poll_afterwards_may_find_a_dead_connection(
    hass: HomeAssistant, host: Host, turns: int
) -> None:
    await host.start()
    await host.move(30)
    answer_slowly(host, turns)
    said = listen(hass, CONNECTIVITY, EVENTS)
    host.session.error = Unreachable("plain")
    await stand_still(host, 600)
    host.session.error = None
    await host.move(15)
    assert [each for each in said if each[0] == EVENTS] == []
    assert host.status == "online"


async def test_an_answer_that_nobody_has_read_yet_counts(hass: HomeAssistant, host: Host) -> None:
    """The question was sent before, and the answer waits in the socket."""
    await host.start()
    await host.move(30)
    real, gate = host.session.poll, asyncio.Event()

    async def held(*args: Any, **more: Any) -> Any:
        await gate.wait()
        return await real(*args, **more)

    host.session.poll = held  # type: ignore[method-assign]
    said = listen(hass, CONNECTIVITY, EVENTS)
    while len(host.session.asked) and not _is_asking(host):
        host.freezer.tick(1)
        await host.move(0)
        await _tick(host)
    await _tick(host, 600)
    gate.set()
    await hass.async_block_till_done(wait_background_tasks=True)
    await host.move(5)
    assert said == []


def _is_asking(host: Host) -> bool:
    return host.entry.runtime_data._asked is not None


async def _tick(host: Host, seconds: float = 0) -> None:
    """Let time pass without waiting for a poll that is under way."""
    host.freezer.tick(seconds)
    async_fire_time_changed(host.hass)
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [Unreachable, TimedOut])
async def test_a_host_that_is_gone_by_then_is_found_out(hass: HomeAssistant, host: Host, error: Any) -> None:
    await host.start()
    await host.move(30)
    answer_slowly(host)
    said = listen(hass, EVENTS)
    host.session.error = error("plain")
    await stand_still(host, 600)
    assert said == []
    await host.move(32)
    assert said == [(EVENTS, "host_offline")]


async def test_a_host_that_is_silent_at_each_of_many_standstills_is_offline(host: Host) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    for _ in range(3):
        await stand_still(host, 60)
    assert host.status == "offline"


async def test_a_host_that_hangs_is_offline_in_time(hass: HomeAssistant, host: Host) -> None:
    """Nothing of this makes anybody wait longer where there was no standstill."""
    await host.start()
    await host.move(40)
    gate = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        await gate.wait()
        raise TimedOut("plain")

    heard = host.entry.runtime_data._last_success
    host.session.poll = hang  # type: ignore[method-assign]
    seconds = 0
    while host.status != "offline":
        await _tick(host, 1)
        seconds += 1
        assert seconds < 60
    silence = host.entry.runtime_data._changed - heard
    gate.set()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert 30 <= silence <= 31


async def test_a_day_that_we_stood_still_is_no_day_without_a_word(hass: HomeAssistant, host: Host) -> None:
    """The host may be starting, as we are: it is given the time that it has after a power cut."""
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.status == "offline"
    await stand_still(host, 90000)
    await host.move(120)
    assert not any("reachable" in issue for _, issue in ir.async_get(hass).issues)
    await host.move(1200, step=5)
    assert any("reachable" in issue for _, issue in ir.async_get(hass).issues)


@pytest.mark.parametrize("seconds", [15, 60, 3600])
async def test_a_host_that_is_offline_stays_so_when_nobody_asked_for_a_while(host: Host, seconds: int) -> None:
    await host.start()
    await host.move(60)
    host.session.error = Unreachable("plain")
    await host.move(120)
    for _ in range(3):
        assert host.status == "offline"
        await stand_still(host, seconds)
        for _ in range(20):
            assert host.state(CONNECTIVITY) == "off"
            await host.move(1)


async def test_a_full_disk_is_not_reported_again_after_a_standstill(
    hass: HomeAssistant,
    host: Host,
    notes: list[dict[str, Any]],  # noqa: F811
) -> None:
    disk = host.session.sections["filesystems"]["filesystems"][1]
    await host.start()
    await host.move(70)
    disks = ["sensor.plain_disk_usage_srv_my_data"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=1, actions=note(what="{{ disk }} is full"))
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 200)
    assert len(notes) == 1
    answer_slowly(host)
    for _ in range(3):
        await stand_still(host, 60)
        await host.move(300, step=2)
    assert len(notes) == 1
    await hass.services.async_call(automation.DOMAIN, "turn_off", {"entity_id": "all"}, blocking=True)
