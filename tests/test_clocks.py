"""Wall clocks that jump, on either side: no event, no forgotten item, no value lost, no alarm."""

from dataclasses import replace
import time

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.helpers.event import async_track_state_change_event
import pytest

from custom_components.homelab_monitor import audience, coordinator
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.probe.snapshot import Reply
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.state import HostState

from .scripted import Host

YEAR = 365 * 86400.0
LAST_BOOT = "sensor.plain_last_boot"
EVENTS = "event.plain_events"
DISK = "sensor.plain_disk_usage_srv_my_data"


class WallClock:
    """The time of Home Assistant's machine, which somebody sets; durations go on as ever."""

    def __init__(self) -> None:
        self.step = 0.0
        self.monotonic = time.monotonic

    def time(self) -> float:
        return time.time() + self.step


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(coordinator, "time", clock)
    return clock


def issues(hass: HomeAssistant) -> set[str]:
    return {issue_id for domain, issue_id in ir.async_get(hass).issues if domain == DOMAIN}


@pytest.mark.parametrize("step", [-YEAR, -3600.0, 3600.0, 2 * 86400.0, YEAR])
async def test_a_step_of_our_own_clock_is_no_event(
    hass: HomeAssistant, host: Host, wall: WallClock, step: float
) -> None:
    await host.start()
    await host.move(120)
    before = hass.states.get(EVENTS).state
    wall.step = step
    host.session.advance(60)
    await host.move(60)
    assert hass.states.get(EVENTS).state == before
    wall.step = 0.0
    host.session.advance(60)
    await host.move(60)
    assert hass.states.get(EVENTS).state == before


@pytest.mark.parametrize("step", [-YEAR, 2 * 86400.0, YEAR])
async def test_what_is_away_for_minutes_stays_whatever_the_clock_says(
    hass: HomeAssistant, host: Host, wall: WallClock, step: float
) -> None:
    await host.start()
    await host.move(61)
    entries = len(er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id))
    filesystems = host.session.sections["filesystems"]["filesystems"]
    host.session.sections["filesystems"]["filesystems"] = filesystems[:1]
    await host.move(121)
    wall.step = step
    await host.move(301)
    assert er.async_get(hass).async_get(DISK)
    assert len(er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)) == entries
    host.session.sections["filesystems"]["filesystems"] = filesystems
    await host.move(61)
    assert float(host.state(DISK)) > 0


async def test_a_late_section_keeps_its_value_over_a_step(host: Host, wall: WallClock) -> None:
    await host.start()
    await host.move(61)
    before = host.state(DISK)
    filesystems = host.session.sections.pop("filesystems")
    host.session.document["missing"]["filesystems"] = "timed_out"
    wall.step = YEAR
    await host.move(61)
    assert host.state(DISK) == before
    await host.move(600)
    assert host.state(DISK) in ("unavailable", "unknown"), "what is late for long is unknown, whatever the clock"
    host.session.sections["filesystems"] = filesystems


async def test_a_host_that_is_off_for_minutes_has_not_been_unreachable_for_a_day(
    hass: HomeAssistant, host: Host, wall: WallClock
) -> None:
    await host.start()
    await host.move(61)
    before = issues(hass)
    host.session.error = Unreachable("plain")
    await host.move(61)
    wall.step = YEAR
    await host.move(120)
    assert issues(hass) == before


@pytest.mark.parametrize("reloads", [0, 2])
@pytest.mark.parametrize("step", [2 * 86400.0, 56 * YEAR])
async def test_a_host_that_is_off_for_long_enough_to_be_checked_was_heard_when_it_was(
    hass: HomeAssistant, host: Host, wall: WallClock, step: float, reloads: int
) -> None:
    # Home Assistant began with an old clock: no battery.
    await host.start()
    await host.move(61)
    before = issues(hass)
    host.session.error = Unreachable("plain")
    await host.move(120)
    wall.step = step
    for _ in range(reloads):
        await host.reload()
    await host.move(1200, step=5)
    assert issues(hass) == before
    # Once it is a day by any clock, that is said.
    await host.move(86400, step=300)
    assert issues(hass) > before


@pytest.mark.parametrize(("heard", "is_told"), [(300.0, False), (-2 * 86400.0, True)])
async def test_a_host_that_was_heard_before_a_start_was_so_by_a_clock_that_was_set(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch, heard: float, is_told: bool
) -> None:
    await host.start()
    await host.move(61)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    audience.async_forget_handover(hass, host.entry.entry_id)
    host.session.error = Unreachable("plain")
    remembered = coordinator.HomelabCoordinator._remembered

    def heard_then(one: coordinator.HomelabCoordinator) -> HostState:
        state = remembered(one)
        moment = heard if heard > 0 else time.time() + heard
        return replace(state, snapshot=replace(state.snapshot, received=moment))

    monkeypatch.setattr(coordinator.HomelabCoordinator, "_remembered", heard_then)
    await host.start_again()
    await host.move(1200, step=5)
    assert any(each.endswith("_reachable") for each in issues(hass)) is is_told


async def test_a_card_that_is_lost_for_seconds_is_no_alarm_over_a_step(
    hass: HomeAssistant, host: Host, wall: WallClock
) -> None:
    host.session.document["missing"].pop("gpu", None)
    host.session.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    await host.start()
    await host.move(30)
    before = hass.states.get(EVENTS).state
    del host.session.sections["gpu"]
    host.session.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
    await host.move(11)
    wall.step = YEAR
    await host.move(11)
    assert hass.states.get(EVENTS).state == before
    assert "gpu_driver" not in str(hass.states.get("binary_sensor.plain_problem").attributes)


@pytest.mark.parametrize("offset", [-YEAR, YEAR])
async def test_a_step_of_the_hosts_clock_is_no_event(hass: HomeAssistant, host: Host, offset: float) -> None:
    await host.start()
    await host.move(61)
    before = hass.states.get(EVENTS).state
    answer = host.session.answer
    host.session.answer = lambda sections: _at_another_time(answer(sections), offset)
    await host.move(61)
    assert hass.states.get(EVENTS).state == before


def _at_another_time(reply: Reply, offset: float) -> Reply:
    """Return the reply of a host whose clock is wrong."""
    return replace(reply, epoch=reply.epoch + offset)


async def test_replies_that_somebody_holds_up_set_no_clock_and_move_nothing(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    await host.move(61)
    before = host.state(LAST_BOOT)
    poll = host.session.poll

    async def held_up(*asked: object) -> Reply:
        reply = await poll(*asked)
        host.freezer.tick(65)
        host.session.advance(65)
        return reply

    monkeypatch.setattr(host.session, "poll", held_up)
    for _ in range(20):
        await host.move(61, step=61)
    assert host.state(LAST_BOOT) == before
    assert host.entry.runtime_data.data.snapshot.clock_offset_seconds == 0
    assert not [issue for issue in issues(hass) if issue.endswith("_clock")]


async def test_a_clock_that_is_surely_wrong_is_reported(hass: HomeAssistant, host: Host) -> None:
    answer = host.session.answer
    host.session.answer = lambda sections: _at_another_time(answer(sections), -90.0)
    await host.start()
    await host.move(61)
    assert [issue for issue in issues(hass) if issue.endswith("_clock")]
    # As soon as polls agree that it is right, without the test that comes once a day.
    host.session.answer = answer
    await host.move(90)
    assert not [issue for issue in issues(hass) if issue.endswith("_clock")]


@pytest.mark.parametrize("nap", [90.0, 8 * 3600.0])
async def test_the_boot_time_stays_while_our_machine_sleeps_in_the_middle_of_a_poll(
    hass: HomeAssistant, host: Host, wall: WallClock, monkeypatch: pytest.MonkeyPatch, nap: float
) -> None:
    await host.start()
    await host.move(61)
    changes = []
    async_track_state_change_event(hass, LAST_BOOT, lambda event: changes.append(event.data["new_state"].state))
    poll, naps = host.session.poll, [nap]

    async def read_after_a_nap(*asked: object) -> Reply:
        reply = await poll(*asked)
        # Of Linux's clocks only the wall clock and the host's own go on (clock_gettime(2), CLOCK_MONOTONIC).
        seconds = naps.pop() if naps else 0.0
        wall.step += seconds
        host.session.sections["uptime"]["uptime_seconds"] += seconds
        return reply

    monkeypatch.setattr(host.session, "poll", read_after_a_nap)
    await host.move(90)
    assert changes == []


async def test_the_boot_time_stays_over_a_restart(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    await host.move(30)
    before = host.state(LAST_BOOT)
    changes = []
    async_track_state_change_event(hass, LAST_BOOT, lambda event: changes.append(event.data["new_state"].state))
    host.freezer.tick(0.7)
    host.session.advance(0.2)
    await host.reload()
    await host.move(90)
    assert {each for each in changes if each != "unavailable"} == {before}
