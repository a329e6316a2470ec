"""Events that occur while nobody listens are reported once, after the last start, however many starts there were."""

import asyncio
from collections.abc import Callable
import json
from typing import Any

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CoreState, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.event import async_track_state_change_event
import pytest

from custom_components.homelab_monitor.audience import _HANDOVERS
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.limits import UNTOLD_STORED
from custom_components.homelab_monitor.client.tracking.events import HostEvent
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import HostStore

from .scripted import CONNECTIVITY, HOST_ID, Host
from .test_blueprints import let_pass, note, notes, use  # noqa: F401 - a fixture
from .test_upgrade import FAILED, a_moment, later, started

EVENTS = "event.plain_events"


@pytest.fixture
def told(hass: HomeAssistant) -> list[str]:
    """Return what the event entity tells those who listen, as docs/automations.md takes it."""
    found: list[str] = []

    @callback
    def see(event: Event[EventStateChangedData]) -> None:
        before, now = event.data["old_state"], event.data["new_state"]
        if before and now and "unavailable" not in (before.state, now.state):
            found.append(now.attributes["event_type"])
            assert hass.is_running

    async_track_state_change_event(hass, [EVENTS], see)
    return found


async def end(hass: HomeAssistant, host: Host) -> None:
    """End Home Assistant: only files are left."""
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.data.get(_HANDOVERS, {}).clear()
    hass.set_state(CoreState.not_running)
    for entity_id in (CONNECTIVITY, EVENTS):
        hass.states.async_remove(entity_id)


async def start_half(hass: HomeAssistant, host: Host) -> None:
    """Start as far as that the host was polled, and no automation has begun."""
    await host.start_again()
    await let_pass(host, 40)
    await end(hass, host)


def fails(host: Host) -> None:
    host.session.sections["services"]["units"][0].update(active_state="failed", result="exit-code")


def recovers(host: Host) -> None:
    host.session.sections["services"]["units"][0].update(active_state="active", result="success")


def reboots(host: Host) -> None:
    host.session.document["boot_id"] = "another"
    host.session.sections["uptime"]["uptime_seconds"] = 1.0


def updates_fail(host: Host) -> None:
    host.entry.runtime_data.async_notify_listeners(HostEvent(type="update_failed", about={"reason": "upgrade_failed"}))


@pytest.mark.parametrize("starts", [0, 1, 3])
@pytest.mark.parametrize(
    "case",
    [
        (fails, "service_failed"),
        (recovers, "service_recovered"),
        (reboots, "rebooted"),
        (updates_fail, "update_failed"),
    ],
    ids=lambda each: each[1],
)
async def test_what_happens_in_a_start_that_is_ended_is_told_after_the_last_one(
    hass: HomeAssistant, host: Host, told: list[str], case: tuple[Callable[[Host], None], str], starts: int
) -> None:
    change, expected = case
    (recovers if change is fails else fails)(host)
    await host.start()
    await host.move(60)
    await end(hass, host)
    await host.start_again()
    await let_pass(host, 40)
    change(host)
    await let_pass(host, 40)
    for _ in range(starts):
        await end(hass, host)
        await start_half(hass, host)
        await host.start_again()
    assert told == []
    await hass.async_start()
    await let_pass(host, 60)
    assert told == [expected]
    # What was told is told no more, also when nothing else was saved since.
    await end(hass, host)
    await host.start_again()
    await hass.async_start()
    await let_pass(host, 60)
    assert told == [expected]


@pytest.mark.parametrize("starts", [0, 1, 3])
async def test_a_host_that_is_back_in_a_start_that_is_ended_is_reported_to_be_back_after_the_last_one(
    hass: HomeAssistant,
    host: Host,
    told: list[str],
    notes: list[dict[str, Any]],  # noqa: F811
    starts: int,
) -> None:
    await host.start()
    actions = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    await use(hass, "host_offline", hosts=[CONNECTIVITY], minutes=1, **actions)
    host.session.error = Unreachable("plain")
    await let_pass(host, 200)
    since = hass.states.get(CONNECTIVITY).attributes["since"]
    told.clear()
    await end(hass, host)
    host.session.error = None
    for _ in range(starts):
        await start_half(hass, host)
    await host.start_again()
    await let_pass(host, 40)
    assert host.status == "online"
    shown = hass.states.get(CONNECTIVITY)
    assert (shown.state, shown.attributes["since"]) == ("off", since)
    await hass.async_start()
    await let_pass(host, 60)
    assert told == ["host_online"]
    assert [each["what"] for each in notes] == ["gone", "back"]
    await host.reload()
    await let_pass(host, 60)
    assert len(notes) == 2


async def test_what_waits_is_reported_once_where_home_assistant_has_started_meanwhile(
    hass: HomeAssistant, host: Host, told: list[str]
) -> None:
    """The entry is disabled in a start, for longer than a reload takes, and enabled after it."""
    recovers(host)
    await host.start()
    await host.move(60)
    await end(hass, host)
    await host.start_again()
    await let_pass(host, 40)
    fails(host)
    await let_pass(host, 40)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await hass.async_start()
    await let_pass(host, 300)
    await host.start_again()
    await let_pass(host, 60)
    assert told == ["service_failed"]


@pytest.mark.parametrize("is_suspected", [False, True])
async def test_a_card_that_is_being_lost_when_home_assistant_ends_is_reported_once(
    hass: HomeAssistant, host: Host, told: list[str], *, is_suspected: bool
) -> None:
    host.session.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    del host.session.document["missing"]["gpu"]
    await host.start()
    host.session.sections["gpu"]["gpus"][0]["state"] = "lost"
    await let_pass(host, 30 if is_suspected else 90)
    for _ in range(2):
        await end(hass, host)
        await host.start_again()
        await let_pass(host, 30)
    await hass.async_start()
    await let_pass(host, 120)
    assert told == ["gpu_lost"]


async def test_a_fault_of_ours_reports_nothing_again(hass: HomeAssistant, host: Host, told: list[str]) -> None:
    recovers(host)
    await host.start()
    fails(host)
    while not told:
        await host.move(1)
    real = host.session.poll

    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    for poll in (broken, real, broken, real):
        host.session.poll = poll
        await host.move(45)
        host.entry.runtime_data.async_update_listeners()
    assert [each for each in told if each.startswith("service")] == ["service_failed"]


@pytest.mark.parametrize("how", ["reload", "restart", "stop"])
async def test_an_installation_whose_end_is_just_being_looked_at_when_everything_ends_is_reported_once(
    hass: HomeAssistant, host: Host, told: list[str], how: str
) -> None:
    job, waiting = await started(hass, host)
    coordinator, asked, goes_on = host.entry.runtime_data, asyncio.Event(), asyncio.Event()

    async def ask_again(_section: str) -> None:
        asked.set()
        await goes_on.wait()

    coordinator.async_poll_section = ask_again
    job.job = FAILED
    await later(host, 20)
    assert asked.is_set()
    if how == "stop":
        # Tasks of the background still run while Home Assistant stops.
        hass.set_state(CoreState.stopping)
        hass.bus.async_fire_internal(EVENT_HOMEASSISTANT_STOP)
        await a_moment()
        goes_on.set()
        await a_moment()
        hass.set_state(CoreState.running)
    if how == "reload":
        assert await hass.config_entries.async_unload(host.entry.entry_id)
    else:
        await end(hass, host)
    await asyncio.gather(waiting, return_exceptions=True)
    assert told == []
    await host.start_again()
    await hass.async_start()
    await later(host, 60)
    assert told == ["update_failed"]
    await host.reload()
    await later(host, 60)
    assert told == ["update_failed"]


# ---------------------------------------------------------------- the file


async def test_what_a_file_says_of_events_is_taken_as_far_as_it_means_anything(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    await host.start()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    key = f"{DOMAIN}.{host.entry.entry_id}"
    hass_storage[key]["data"]["untold"] = [
        7,
        ["service_failed"],
        ["made_up", "", {}],
        ["rebooted", "", []],
        ["rebooted", "x" * 5000, {}],
        ["service_failed", "anna", {"service": "a.service", "host": "x", "reason": 7, "gpu": "x" * 5000}],
        ["container_died", "", {"container": "web", "owner": ""}],
        *[["rebooted", "", {}]] * 1000,
    ]
    hass_storage[key]["data"] |= {"is_held": "yes", "baseline": "x", "unexpected_until": "never"}
    memory = await HostStore(hass, host.entry.entry_id, HOST_ID).async_load()
    untold = memory.audience.untold
    assert untold[0] == HostEvent(type="service_failed", owner="anna", about={"service": "a.service"})
    assert untold[1].about == {"container": "web", "owner": ""}, "that it is the host's own is said as well"
    assert len(untold) <= UNTOLD_STORED
    assert (memory.audience.is_held, memory.baseline, memory.audience.unexpected_until) == (False, None, None)


async def test_so_many_events_of_a_user_keep_none_of_the_hosts_own_from_being_stored(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    await host.start()
    memory = host.entry.runtime_data.store.memory
    died = HostEvent(type="container_died", owner="anna", about={"container": "x", "owner": "anna"})
    memory.audience.untold = (*[died] * 900, HostEvent(type="rebooted", about={}))
    await host.entry.runtime_data.store.async_save()
    stored = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]["untold"]
    assert (len(stored), stored[-1]) == (UNTOLD_STORED, ["rebooted", "", {}])
    assert json.loads(json.dumps(stored[0])) == ["container_died", "anna", {"container": "x", "owner": "anna"}]
