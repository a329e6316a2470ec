"""The blueprints: loaded by Home Assistant's own code, made into automations, and run."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
import math
from pathlib import Path
import re
import shutil
import time
from unittest.mock import patch

from homeassistant.core import CoreState, Event, EventStateChangedData, HomeAssistant, State, callback
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
    mock_restore_cache,
)

from custom_components.homelab_monitor import audience, coordinator
from custom_components.homelab_monitor.client.errors import (
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    NoPython,
    TimedOut,
    Unreachable,
)
from custom_components.homelab_monitor.client.limits import EVENT_OWNERS, EVENTS
from custom_components.homelab_monitor.client.tracking.events import HostEvent
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.state import HostState

from .scripted import Host, make_entry

FOLDER = Path(__file__).parents[1] / "blueprints" / "automation" / "homelab_monitor"


@pytest.fixture
async def notes(
    hass: HomeAssistant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncGenerator[list[dict[str, object]]]:
    """Make the blueprints available, and an action that notes what it is given; no template may be complained of."""
    hass.config.config_dir = str(tmp_path)
    shutil.copytree(FOLDER, tmp_path / "blueprints" / "automation" / "homelab_monitor")
    found: list[dict[str, object]] = []

    async def note(call) -> None:
        found.append(dict(call.data))

    hass.services.async_register("test", "note", note)
    yield found
    told = [record.getMessage() for record in caplog.get_records("call")]
    assert [each for each in told if each.startswith("Template variable")] == []


async def use(hass: HomeAssistant, name: str, **inputs: object) -> None:
    """Make an automation from a blueprint."""
    automation = {"alias": name, "use_blueprint": {"path": f"homelab_monitor/{name}.yaml", "input": inputs}}
    assert await async_setup_component(hass, "automation", {"automation": [automation]})
    await hass.async_block_till_done()
    states = hass.states.async_all("automation")
    assert [state.state for state in states] == ["on"]


def note(**data: str) -> list[dict[str, object]]:
    return [{"action": "test.note", "data": data}]


async def test_every_blueprint_is_tried_here() -> None:
    tried = Path(__file__).read_text()
    assert [path.stem for path in FOLDER.glob("*.yaml") if f'"{path.stem}",' not in tried] == []


async def test_host_offline(hass: HomeAssistant, host: Host, notes: list[dict[str, object]]) -> None:
    await host.start()
    await use(
        hass,
        "host_offline",
        hosts=["binary_sensor.plain_connectivity"],
        minutes=1,
        offline_actions=note(what="{{ host }} is gone: {{ reason }} ({{ details }})"),
        online_actions=note(what="{{ host }} is back"),
    )
    host.session.error = Unreachable("plain")
    await host.move(80)
    assert notes == []
    await host.move(40)
    assert notes == [{"what": "plain is gone: unreachable (Cannot be reached)"}]
    host.session.error = None
    await host.move(61)
    assert notes[1:] == [{"what": "plain is back"}]
    await host.reload()
    await host.move(120)
    assert len(notes) == 2


async def test_an_absence_is_reported_with_the_reason_of_that_moment(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    told = note(what="{{ reason }}: {{ details }}")
    hosts = ["binary_sensor.plain_connectivity"]
    await use(hass, "host_offline", hosts=hosts, minutes=5, offline_actions=told)
    # As with a cable that is pulled: after a while the neighbour is given up.
    host.session.error = TimedOut("plain")
    await host.move(40)
    host.session.error = Unreachable("plain")
    await host.move(320)
    assert notes == [{"what": "unreachable: Cannot be reached"}]


async def watch_host(hass: HomeAssistant, **inputs: object) -> None:
    """Make an automation that tells after two minutes."""
    await use(
        hass,
        "host_offline",
        hosts=["binary_sensor.plain_connectivity"],
        minutes=2,
        offline_actions=note(what="gone"),
        online_actions=note(what="back"),
        **inputs,
    )


@pytest.mark.parametrize("hours", [0.2, 1.0, 24.0])
async def test_a_host_that_was_reported_is_back_when_the_clock_was_set_back_meanwhile(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], hours: float
) -> None:
    await host.start()
    await watch_host(hass)
    host.session.error = Unreachable("plain")
    await host.move(40)
    since = dt_util.utcnow() + timedelta(hours=hours)
    set_clock_back(host, "binary_sensor.plain_connectivity", hours, since=since.isoformat(timespec="milliseconds"))
    await host.move(120)
    assert [each["what"] for each in notes] == ["gone"]
    host.session.error = None
    await host.move(61)
    assert [each["what"] for each in notes] == ["gone", "back"]


@pytest.mark.parametrize("behind", [0.0, 3600.0, 86400.0, 56 * 365 * 86400.0])
async def test_a_start_with_a_clock_that_is_behind_reports_an_absence_in_time(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, behind: float
) -> None:
    # No battery: what was stored is dated by a clock that was set.
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.status == "offline"
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    audience.async_forget_handover(hass, host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    await watch_host(hass)
    remembered = coordinator.HomelabCoordinator._remembered

    def of_the_future(one: coordinator.HomelabCoordinator) -> HostState:
        memory = one.store.memory
        memory.since += behind
        for name in ("watched_until", "unexpected_until"):
            if (moment := getattr(memory.audience, name)) is not None:
                setattr(memory.audience, name, moment + behind)
        return remembered(one)

    monkeypatch.setattr(coordinator.HomelabCoordinator, "_remembered", of_the_future)
    await host.start_again()
    await host.move(30)
    await started(hass)
    await let_pass(host, 180)
    assert [each["what"] for each in notes] == ["gone"]
    host.session.error = None
    await let_pass(host, 400)
    assert [each["what"] for each in notes] == ["gone", "back"]


async def test_a_host_that_flaps_is_neither_gone_nor_back(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    await watch_host(hass)
    for _ in range(3):
        host.session.error = Unreachable("plain")
        await host.move(60)
        assert host.status == "offline"
        host.session.error = None
        await host.move(70)
        assert host.status == "online"
    assert notes == []


@pytest.mark.parametrize("after", [70, 300], ids=["before it is told", "after it was told"])
async def test_a_reload_while_a_host_is_offline_repeats_and_loses_nothing(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], after: int
) -> None:
    await host.start()
    await watch_host(hass)
    host.session.error = Unreachable("plain")
    await host.move(after)
    await host.reload()
    await host.move(300)
    assert [each["what"] for each in notes] == ["gone"]
    await host.reload()
    host.session.error = None
    await host.move(61)
    assert [each["what"] for each in notes] == ["gone", "back"]


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_host_that_may_be_off_is_reported_only_where_that_is_wanted(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], *, wanted: bool
) -> None:
    await host.start(may_be_off=True)
    await (watch_host(hass, expected=True) if wanted else watch_host(hass))
    host.session.error = Unreachable("plain")
    await host.move(300)
    host.session.error = None
    await host.move(301)
    assert [each["what"] for each in notes] == (["gone", "back"] if wanted else [])


async def test_service_failed(hass: HomeAssistant, host: Host, notes: list[dict[str, object]]) -> None:
    unit = host.session.sections["services"]["units"][0]
    unit["active_state"] = "active"
    await host.start()
    await use(
        hass, "service_failed", events=["event.plain_events"], actions=note(what="{{ service }} failed on {{ host }}")
    )
    unit["active_state"] = "failed"
    await host.move(35)
    unit["active_state"] = "active"
    await host.move(35)
    assert notes == [{"what": "backup.service failed on plain"}]
    await host.reload()
    await host.move(61)
    assert len(notes) == 1


async def test_services_that_fail_in_one_poll_are_reported_one_by_one(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    first = host.session.sections["services"]["units"][0]
    first["active_state"] = "active"
    units = [first | {"name": f"{name}.service"} for name in ("a", "b", "c")]
    host.session.sections["services"]["units"] += units
    await host.start()
    await use(hass, "service_failed", events=["event.plain_events"], actions=note(what="{{ service }}"))
    for unit in units:
        unit["active_state"] = "failed"
    await host.move(35)
    assert [each["what"] for each in notes] == ["a.service", "b.service", "c.service"]


async def test_gpu_telemetry_lost(hass: HomeAssistant, host: Host, notes: list[dict[str, object]]) -> None:
    host.session.sections["gpu"] = {"gpus": [{"id": "1", "vendor": "nvidia", "name": "RTX 4090"}]}
    del host.session.document["missing"]["gpu"]
    await host.start()
    await use(hass, "gpu_telemetry_lost", events=["event.plain_events"], actions=note(what="{{ gpu }} on {{ host }}"))
    host.session.sections["gpu"]["gpus"][0]["state"] = "lost"
    await host.move(35)
    assert notes == []  # not sure yet
    await host.move(40)
    assert notes == [{"what": "RTX 4090 on plain"}]
    await host.reload()
    await host.move(120)
    assert len(notes) == 1


async def test_disk_nearly_full(hass: HomeAssistant, host: Host, notes: list[dict[str, object]]) -> None:
    await host.start()
    disk = host.session.sections["filesystems"]["filesystems"][1]
    await use(
        hass,
        "disk_nearly_full",
        disks=["sensor.plain_disk_usage_srv_my_data"],
        limit=80,
        minutes=1,
        actions=note(what="{{ disk }}: {{ used }} %"),
    )
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 65)
    assert notes == []
    await let_pass(host, 65)
    assert notes == [{"what": "plain Disk usage /srv/my data: 85 %"}]
    await host.reload()
    await host.move(120)
    assert len(notes) == 1


async def test_a_disk_that_fills_while_its_host_is_offline_is_reported(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disks = ["sensor.plain_disk_usage_srv_my_data"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=1, actions=note(what="{{ disk }}"))
    host.session.error = Unreachable("plain")
    await host.move(120)
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    host.session.error = None
    await let_pass(host, 240)
    assert len(notes) == 1


async def test_reboot_required(hass: HomeAssistant, host: Host, notes: list[dict[str, object]]) -> None:
    await host.start()
    updates = host.session.sections["updates"]
    await use(
        hass,
        "reboot_required",
        hosts=["binary_sensor.plain_reboot_required"],
        minutes=5,
        actions=note(what="{{ host }}: {{ reasons | join(', ') }} ({{ packages | join(', ') }})"),
    )
    updates |= {"reboot_required": True, "reboot_reasons": ["flagged"], "reboot_packages": ["linux-image-amd64"]}
    await let_pass(host, 605)
    assert host.state("binary_sensor.plain_reboot_required") == "on"
    assert notes == []
    await let_pass(host, 300)
    assert notes == [{"what": "plain: flagged (linux-image-amd64)"}]
    await host.reload()
    await host.move(600, step=5)
    assert len(notes) == 1


# ---------------------------------------------------------------- one host beside others

MINUTES = 10
"""For how long actions may take: some wait for an answer to a notification."""
FROM_ONE_HOST = (EVENT_OWNERS + 2) * (EVENTS[0] + math.ceil(60 * MINUTES / EVENTS[1]))
"""Events of one type that a host can have told meanwhile: for each owner, for itself, and for all others together."""


async def test_every_blueprint_has_room_for_all_that_one_host_can_report() -> None:
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text()
        assert "\nmode: parallel\n" in text, path.name
        assert int(re.search(r"^max: (\d+)$", text, re.MULTILINE)[1]) > FROM_ONE_HOST, path.name


async def test_a_flood_of_one_host_keeps_no_other_from_being_reported(
    hass: HomeAssistant, notes: list[dict[str, object]]
) -> None:
    def fails(host: str, service: str) -> None:
        about = {"event_type": "service_failed", "host": host, "service": f"{service}.service"}
        hass.states.async_set(f"event.{host}_events", service, about)

    def of(host: str) -> int:
        return sum(str(each["what"]).endswith(f"on {host}") for each in notes)

    for host in ("noisy", "nas"):
        hass.states.async_set(f"event.{host}_events", "unknown")
    slow = [*note(what="{{ service }} failed on {{ host }}"), {"delay": {"minutes": MINUTES}}]
    await use(hass, "service_failed", events=["event.noisy_events", "event.nas_events"], actions=slow)
    for number in range(FROM_ONE_HOST):
        fails("noisy", f"s{number}")
    fails("nas", "backup")
    # The actions go on, so nobody may wait for all tasks.
    for _ in range(100):
        await asyncio.sleep(0)
    assert (of("noisy"), of("nas")) == (FROM_ONE_HOST, 1)
    await hass.services.async_call("automation", "turn_off", {"entity_id": "all", "stop_actions": True}, blocking=True)


# ---------------------------------------------------------------- Home Assistant starts


async def start_with(hass: HomeAssistant, host: Host, name: str, **inputs: object) -> None:
    """Let Home Assistant start with a host that is known and an automation: hosts first, then automations begin."""
    await host.start()
    await host.reload()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    await use(hass, name, **inputs)


async def started(hass: HomeAssistant) -> None:
    """Let Home Assistant have started."""
    await hass.async_start()
    await hass.async_block_till_done(wait_background_tasks=True)


async def let_pass(host: Host, seconds: int) -> None:
    """Let time pass while actions wait, for which nobody may wait."""
    for _ in range(seconds // 5):
        host.freezer.tick(5)
        host.session.advance(5)
        async_fire_time_changed(host.hass)
        for _ in range(50):
            await asyncio.sleep(0)


async def test_a_host_that_went_while_home_assistant_was_down_is_reported(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    hosts = ["binary_sensor.plain_connectivity"]
    told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    await start_with(hass, host, "host_offline", hosts=hosts, minutes=1, **told)
    host.session.error = Unreachable("plain")
    await host.start_again()
    await host.move(90)
    assert host.state("binary_sensor.plain_connectivity") == "on", "as it was: nobody listens yet"
    await started(hass)
    await host.move(120)
    assert [each["what"] for each in notes] == ["gone"]
    host.session.error = None
    await host.move(61)
    assert [each["what"] for each in notes] == ["gone", "back"]


async def test_what_happens_before_automations_begin_is_reported_when_they_have(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    unit = host.session.sections["services"]["units"][0]
    unit["active_state"] = "active"
    await start_with(hass, host, "service_failed", events=["event.plain_events"], actions=note(what="{{ service }}"))
    await host.start_again()
    unit["active_state"] = "failed"
    await host.move(60)
    # As a control does when it has ended.
    host.session.sections["services"]["units"].append(unit | {"name": "asked.service"})
    await host.entry.runtime_data.async_poll_section("services")
    # As an installation of updates does when it ends.
    host.entry.runtime_data.async_notify_listeners(HostEvent(type="service_failed", about={"service": "more.service"}))
    assert notes == []
    await started(hass)
    await host.move(10)
    assert [each["what"] for each in notes] == ["backup.service", "asked.service", "more.service"]


@pytest.mark.parametrize("away", [40, 250])
async def test_a_restart_while_a_host_is_offline_loses_nothing(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], away: int
) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(30 + away)
    assert host.status == "offline"
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    hosts = ["binary_sensor.plain_connectivity"]
    told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    await use(hass, "host_offline", hosts=hosts, minutes=5, **told)
    await host.start_again()
    await host.move(60)
    await hass.async_start()
    await let_pass(host, 600)
    assert [each["what"] for each in notes] == ["gone"]
    host.session.error = None
    await let_pass(host, 120)
    assert [each["what"] for each in notes] == ["gone", "back"]


async def test_a_host_that_is_back_before_automations_begin_is_reported_to_be_back(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(400)
    hosts = ["binary_sensor.plain_connectivity"]
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    # As Home Assistant restores an automation that has told of it.
    ran = {"last_triggered": (dt_util.utcnow() - timedelta(seconds=300)).isoformat()}
    mock_restore_cache(hass, [State("automation.host_offline", "on", ran)])
    await use(hass, "host_offline", hosts=hosts, minutes=1, **told)
    host.session.error = None
    await host.start_again()
    await host.move(30)
    assert host.status == "online"
    await hass.async_start()
    await let_pass(host, 100)
    assert [each["what"] for each in notes] == ["back"]
    since = hass.states.get("binary_sensor.plain_connectivity").attributes["since"]
    await host.reload()
    assert hass.states.get("binary_sensor.plain_connectivity").attributes["since"] == since


@pytest.mark.parametrize(
    "error", [KeyRefused("plain"), HostKeyChanged("plain", expected="a", offered="b"), NoPython("plain")], ids=type
)
async def test_a_host_that_refuses_when_home_assistant_starts_is_reported_as_gone(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], error: HomelabError
) -> None:
    hosts = ["binary_sensor.plain_connectivity"]
    told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    await start_with(hass, host, "host_offline", hosts=hosts, minutes=1, **told)
    host.session.error = error
    await host.start_again()
    await host.move(20)
    is_alarm = isinstance(error, HostKeyChanged)
    assert host.state("binary_sensor.plain_connectivity") == ("off" if is_alarm else "on")
    await hass.async_start()
    await let_pass(host, 200)
    assert [each["what"] for each in notes] == ["gone"]


async def test_two_reloads_while_it_is_waited_lose_nothing(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    hosts = ["binary_sensor.plain_connectivity"]
    told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
    await use(hass, "host_offline", hosts=hosts, minutes=5, **told)
    host.session.error = Unreachable("plain")
    await host.move(240, step=2)
    await host.reload()
    await host.move(180, step=2)
    await host.reload()
    await host.move(600, step=2)
    assert [each["what"] for each in notes] == ["gone"]
    await host.reload()
    await host.move(600, step=2)
    assert len(notes) == 1


async def test_a_service_that_fails_around_a_reload_is_reported(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    unit = host.session.sections["services"]["units"][0]
    unit["active_state"] = "active"
    await host.start()
    await use(hass, "service_failed", events=["event.plain_events"], actions=note(what="{{ service }}"))
    await host.move(10)
    unit["active_state"] = "failed"
    await host.reload()
    await host.move(40)
    assert notes == [{"what": "backup.service"}]


@pytest.mark.parametrize("away", [45, 60, 90, 300])
async def test_a_disk_that_is_full_after_an_absence_is_reported_however_long_that_was(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], away: int
) -> None:
    await host.start()
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disks = ["sensor.plain_disk_usage_srv_my_data"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=5, actions=note(what="{{ disk }}"))
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 180)
    host.session.error = Unreachable("plain")
    await let_pass(host, away)
    host.session.error = None
    await let_pass(host, 600)
    assert len(notes) == 1


def set_clock_back(host: Host, entity_id: str, hours: float = 1.0, **attributes: str) -> None:
    """Let an entity be as it is since then by a clock that is set back now."""
    state = host.hass.states.get(entity_id)
    assert state is not None
    moment = time.time() + 3600 * hours
    about = dict(state.attributes) | attributes
    host.hass.states.async_set(entity_id, state.state, about, force_update=True, timestamp=moment)


@pytest.mark.parametrize("away", [45, 300])
async def test_a_disk_that_is_full_after_an_absence_is_reported_when_the_clock_was_set_back(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], away: int
) -> None:
    await host.start()
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disks = ["sensor.plain_disk_usage_srv_my_data"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=5, actions=note(what="{{ disk }}"))
    host.session.error = Unreachable("plain")
    await let_pass(host, away)
    set_clock_back(host, disks[0])
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    host.session.error = None
    await let_pass(host, 600)
    assert len(notes) == 1


@pytest.mark.parametrize("hours", [1.0, 0.005])
async def test_a_reboot_that_is_due_after_an_absence_is_reported_when_the_clock_was_set_back(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], hours: float
) -> None:
    await host.start()
    hosts = ["binary_sensor.plain_reboot_required"]
    await use(hass, "reboot_required", hosts=hosts, minutes=0, actions=note(what="due"))
    # As the first reply tells it where the turn of its section has come.
    hass.states.async_set(hosts[0], "unavailable")
    set_clock_back(host, hosts[0], hours)
    hass.states.async_set(hosts[0], "on")
    await hass.async_block_till_done()
    assert [each["what"] for each in notes] == ["due"]


async def test_a_reboot_that_was_done_is_not_due_any_more(host: Host) -> None:
    sections, document = host.session.sections, host.session.document
    sections["updates"] |= {"reboot_required": True, "reboot_reasons": ["flagged"]}
    await host.start()
    await host.move(60)
    assert host.state("binary_sensor.plain_reboot_required") == "on"
    sections["updates"] |= {"reboot_required": False, "reboot_reasons": []}
    document["boot_id"] = "another"
    sections["uptime"]["uptime_seconds"] = 10.0
    await host.move(25)
    assert host.state("binary_sensor.plain_reboot_required") == "off"


@pytest.mark.parametrize("name", ["disk_nearly_full", "reboot_required"])
async def test_what_began_while_home_assistant_was_down_is_told_after_its_start(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], name: str
) -> None:
    disk, updates = host.session.sections["filesystems"]["filesystems"][1], host.session.sections["updates"]
    inputs = {
        "disk_nearly_full": {"disks": ["sensor.plain_disk_usage_srv_my_data", "sensor.plain_disk_usage"], "limit": 80},
        "reboot_required": {"hosts": ["binary_sensor.plain_reboot_required"]},
    }
    await start_with(hass, host, name, minutes=1, actions=note(what="{{ disk | default(host) }}"), **inputs[name])
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    updates |= {"reboot_required": True, "reboot_reasons": ["flagged"]}
    await host.start_again()
    await host.move(30)
    await hass.async_start()
    await let_pass(host, 50)
    assert notes == []
    await let_pass(host, 30)
    assert len(notes) == 1
    await let_pass(host, 300)
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["disk_nearly_full", "reboot_required"])
async def test_what_a_host_that_was_away_reports_right_after_a_start_is_reported(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], name: str
) -> None:
    """Too late for what the start tells, and before anybody is told that the host is back."""
    inputs = {
        "disk_nearly_full": {"disks": ["sensor.plain_disk_usage_srv_my_data"], "limit": 80},
        "reboot_required": {"hosts": ["binary_sensor.plain_reboot_required"]},
    }
    await host.start()
    disk, updates = host.session.sections["filesystems"]["filesystems"][1], host.session.sections["updates"]
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    updates |= {"reboot_required": True, "reboot_reasons": ["flagged"]}
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    # Of what was before, Home Assistant knows nothing when it starts.
    for entity_id in hass.states.async_entity_ids():
        hass.states.async_remove(entity_id)
    await use(hass, name, minutes=1, actions=note(what="{{ disk | default(host) }}"), **inputs[name])
    await host.move(30)
    await host.start_again()
    await started(hass)
    host.session.error = None
    await host.entry.runtime_data.async_resume()
    assert host.state("binary_sensor.plain_connectivity") == "off"
    await let_pass(host, 50)
    assert notes == []
    await let_pass(host, 30)
    assert len(notes) == 1
    await let_pass(host, 300)
    assert len(notes) == 1


async def test_a_reboot_that_is_due_while_its_host_is_away_is_reported(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    await use(
        hass, "reboot_required", hosts=["binary_sensor.plain_reboot_required"], minutes=30, actions=note(what="due")
    )
    host.session.sections["updates"] |= {"reboot_required": True, "reboot_reasons": ["flagged"]}
    await let_pass(host, 1200)
    host.session.error = Unreachable("plain")
    await let_pass(host, 90)
    host.session.error = None
    await let_pass(host, 1800)
    assert [each["what"] for each in notes] == ["due"]


# ---------------------------------------------------------------- several hosts, over reloads and starts

OTHER_ID = "ffeeddccbbaa99887766554433221100"
BOTH = ["binary_sensor.plain_connectivity", "binary_sensor.second_connectivity"]
MINUTE = 60


class TwoHosts:
    """Two hosts and an automation made from the blueprint, in a Home Assistant that is started anew."""

    def __init__(self, hass: HomeAssistant, host: Host, notes: list[dict[str, object]], options: dict[str, object]):
        self.hass, self.notes = hass, notes
        other = Host(hass, host.freezer)
        data = {**host.entry.data, "host_id": OTHER_ID, "host": "127.0.0.2"}
        if options:
            host.entry = make_entry(**options)
        other.entry = MockConfigEntry(domain=DOMAIN, title="second", unique_id=OTHER_ID, data=data, options=options)
        self.hosts = [host, other]
        self.runs = 0

    async def start(self, **inputs: object) -> None:
        for host in self.hosts:
            await host.start()
        await self.use(**inputs)

    async def use(self, **inputs: object) -> None:
        await use(
            self.hass,
            "host_offline",
            hosts=BOTH,
            minutes=5,
            offline_actions=note(what="{{ host }} gone"),
            online_actions=note(what="{{ host }} back"),
            **inputs,
        )

        @callback
        def count(event: Event[EventStateChangedData]) -> None:
            before, now = event.data["old_state"], event.data["new_state"]
            if before and now:
                self.runs += before.attributes.get("last_triggered") != now.attributes.get("last_triggered")

        async_track_state_change_event(self.hass, ["automation.host_offline"], count)

    async def let_pass(self, minutes: float) -> None:
        """Let time pass for both: nobody waits for actions that wait."""
        for _ in range(round(minutes * MINUTE / 5)):
            for host in self.hosts:
                host.session.advance(5)
            self.hosts[0].freezer.tick(5)
            async_fire_time_changed(self.hass)
            for _ in range(40):
                await asyncio.sleep(0)

    def cut(self, which: int) -> None:
        self.hosts[which].session.error = Unreachable("plain")

    def heal(self, which: int) -> None:
        self.hosts[which].session.error = None

    async def reload(self) -> None:
        for host in self.hosts:
            await host.reload()

    async def restart(self, down: float = 0.5) -> None:
        """End Home Assistant and start it: what its automations waited for is lost, and they begin last."""
        for host in self.hosts:
            assert await self.hass.config_entries.async_unload(host.entry.entry_id)
        await self.hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=True)
        self.hass.set_state(CoreState.not_running)
        await self.let_pass(down)
        for host in self.hosts:
            self.hass.states.async_remove(f"binary_sensor.{host.entry.title}_connectivity")
        for host in self.hosts:
            await host.start_again()
        await self.let_pass(0.25)
        await self.hass.async_start()
        await self.hass.services.async_call("automation", "turn_on", {"entity_id": "all"}, blocking=True)
        await self.let_pass(0.25)

    @property
    def told(self) -> list[object]:
        return [each["what"] for each in self.notes]


@pytest.fixture
def options() -> dict[str, object]:
    return {}


@pytest.fixture
def two(hass: HomeAssistant, host: Host, notes: list[dict[str, object]], options: dict[str, object]) -> TwoHosts:
    return TwoHosts(hass, host, notes, options)


async def test_two_restarts_within_the_minutes_lose_nothing_and_show_no_idle_run(two: TwoHosts) -> None:
    await two.start()
    two.cut(0)
    await two.let_pass(2)
    await two.restart()
    await two.let_pass(0.5)
    await two.restart()
    assert (two.told, two.runs) == ([], 0)
    await two.let_pass(4)
    assert (two.told, two.runs) == (["plain gone"], 1)
    await two.restart()
    await two.let_pass(10)
    assert (two.told, two.runs) == (["plain gone"], 1)
    two.heal(0)
    await two.let_pass(2)
    assert (two.told, two.runs) == (["plain gone", "plain back"], 2)
    await two.restart()
    await two.let_pass(10)
    assert two.runs == 2


async def test_a_reload_in_the_middle_of_the_wait_does_not_begin_it_anew(two: TwoHosts) -> None:
    await two.start()
    two.cut(0)
    await two.let_pass(3.5)
    await two.reload()
    await two.let_pass(1.5)
    assert two.told == []
    await two.let_pass(1)
    assert two.told == ["plain gone"]


@pytest.mark.parametrize("again", [TwoHosts.reload, TwoHosts.restart])
async def test_each_of_several_hosts_is_reported_whatever_was_reported_of_another(two: TwoHosts, again) -> None:
    await two.start()
    two.cut(0)
    await two.let_pass(4)
    two.cut(1)
    await two.let_pass(2)
    assert two.told == ["plain gone"]
    # The automation has run for the first since the second went.
    await again(two)
    await two.let_pass(8)
    assert two.told == ["plain gone", "second gone"]
    two.heal(1)
    await two.let_pass(2)
    await again(two)
    await two.let_pass(8)
    assert two.told == ["plain gone", "second gone", "second back"]
    two.heal(0)
    await two.let_pass(2)
    assert two.told[3:] == ["plain back"]


@pytest.mark.parametrize("again", [TwoHosts.reload, TwoHosts.restart])
async def test_an_absence_shorter_than_the_minutes_is_not_reported_over_a_restart(two: TwoHosts, again) -> None:
    await two.start()
    two.cut(0)
    await two.let_pass(2)
    await again(two)
    two.heal(0)
    await two.let_pass(10)
    assert (two.told, two.runs) == ([], 0)


@pytest.mark.parametrize(("before", "told"), [(2, []), (7, ["plain gone", "plain back"])])
async def test_a_host_that_came_back_while_home_assistant_was_down_is_back_where_its_absence_was_reported(
    two: TwoHosts, before: float, told: list[str]
) -> None:
    await two.start()
    two.cut(0)
    await two.let_pass(before)
    two.heal(0)
    # Longer than the minutes in any case, but nobody was there to tell of it.
    await two.restart(down=20)
    await two.let_pass(10)
    assert (two.told, two.runs) == (told, len(told))
    await two.restart()
    await two.let_pass(10)
    assert (two.told, two.runs) == (told, len(told))


@pytest.mark.parametrize(("options", "wanted"), [({"may_be_off": True}, False), ({"may_be_off": True}, True)])
async def test_an_expected_absence_is_reported_where_that_is_wanted_over_restarts(
    two: TwoHosts, *, wanted: bool
) -> None:
    await two.start(expected=wanted)
    two.cut(0)
    await two.let_pass(2)
    await two.restart()
    await two.let_pass(6)
    await two.restart()
    two.heal(0)
    await two.restart(down=6)
    await two.let_pass(6)
    assert two.told == (["plain gone", "plain back"] if wanted else [])
    assert two.runs == len(two.told)


async def test_a_host_with_another_key_is_reported_once_and_back_when_that_was_accepted(two: TwoHosts) -> None:
    await two.start()
    two.hosts[0].session.error = HostKeyChanged("plain", expected="a", offered="b")
    await two.let_pass(8)
    assert two.told == ["plain gone"]
    await two.reload()
    # Accepting sets the host up anew.
    two.heal(0)
    await two.hosts[0].reload()
    await two.let_pass(1)
    assert two.told == ["plain gone", "plain back"]
    two.hosts[0].session.error = HostKeyChanged("plain", expected="b", offered="c")
    await two.let_pass(2)
    two.heal(0)
    await two.hosts[0].reload()
    await two.let_pass(8)
    assert len(two.told) == 2


async def test_a_host_that_was_not_known_is_reported_as_gone_before_it_is_reported_as_back(two: TwoHosts) -> None:
    two.cut(0)
    await two.use()
    await two.hosts[0].start()
    await two.let_pass(6)
    two.heal(0)
    await two.let_pass(2)
    assert two.told == ["plain gone", "plain back"]


@pytest.mark.parametrize("name", ["service_failed", "gpu_telemetry_lost", "host_offline", "reboot_required"])
async def test_deleting_a_host_is_no_error(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    await host.start()
    inputs = {
        "host_offline": {"hosts": BOTH, "offline_actions": note(what="gone")},
        "reboot_required": {"hosts": ["binary_sensor.plain_reboot_required"], "actions": note(what="due")},
    }
    await use(hass, name, **inputs.get(name, {"events": ["event.plain_events"], "actions": note(what="it")}))
    unit = host.session.sections["services"]["units"][0]
    unit["active_state"] = "active"
    await host.move(70)
    host.session.error = Unreachable("plain")
    await host.move(60)
    caplog.clear()
    assert await hass.config_entries.async_remove(host.entry.entry_id)
    await hass.async_block_till_done()
    assert [each.message for each in caplog.records if each.levelname in ("ERROR", "WARNING")] == []
    assert notes == []


# ---------------------------------------------------------------- told once, whatever the telling does


async def reload_at_once(host: Host) -> None:
    """Reload the entry from within an action."""
    assert await host.hass.config_entries.async_unload(host.entry.entry_id)
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        assert await host.hass.config_entries.async_setup(host.entry.entry_id)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999], ids=lambda part: f"{part} s into a second")
@pytest.mark.parametrize("minutes", [0, 1])
async def test_actions_that_reload_the_host_are_run_once(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], minutes: int, part: float
) -> None:
    async def reload(_call: object) -> None:
        await reload_at_once(host)
        host.freezer.tick(0.15)

    hass.services.async_register("test", "reload", reload)
    host.freezer.move_to(dt_util.utcnow().replace(microsecond=int(part * 1_000_000)))
    await host.start()
    actions = [*note(what="gone"), {"action": "test.reload"}]
    hosts = ["binary_sensor.plain_connectivity"]
    await use(
        hass,
        "host_offline",
        hosts=hosts,
        minutes=minutes,
        offline_actions=actions,
        online_actions=note(what="back"),
    )
    host.session.error = Unreachable("plain")
    await let_pass(host, 200)
    assert [each["what"] for each in notes] == ["gone"]
    host.session.error = None
    await let_pass(host, 100)
    assert [each["what"] for each in notes] == ["gone", "back"]


async def test_a_reload_in_the_moment_before_it_would_be_reported_loses_nothing(two: TwoHosts) -> None:
    """The minutes are over, and the run that waits for that has not begun yet."""
    await two.start()
    # It has run since the other one went.
    two.cut(0)
    await two.let_pass(0.25)
    two.cut(1)
    while two.hosts[1].status != "offline" or two.told != ["plain gone"]:
        await two.let_pass(1 / 12)
    for host in two.hosts:
        host.session.advance(15)
    two.hosts[0].freezer.tick(15)
    await reload_at_once(two.hosts[1])
    await two.let_pass(1)
    assert two.told == ["plain gone", "second gone"]
    await two.let_pass(1)
    two.heal(1)
    await two.let_pass(2)
    assert two.told == ["plain gone", "second gone", "second back"]


async def with_options(host: Host, **options: object) -> None:
    """Change the options as a person does: that reloads the entry."""
    assert await host.hass.config_entries.async_unload(host.entry.entry_id)
    host.hass.config_entries.async_update_entry(host.entry, options=options)
    await host.start_again()


@pytest.mark.parametrize("wanted", [False, True], ids=["unless it may be off", "also when it may be off"])
@pytest.mark.parametrize("first", [False, True], ids=["minded first", "expected first"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
async def test_an_absence_that_is_minded_for_a_part_of_it_is_reported_once(
    two: TwoHosts, *, wanted: bool, first: bool, beside: bool
) -> None:
    if first:
        two.hosts[0].entry = make_entry(may_be_off=True)
    await two.start(expected=wanted)
    two.cut(0)
    await two.let_pass(2)
    if beside:
        two.cut(1)
    await two.let_pass(8)
    told = [each for each in two.told if str(each).startswith("plain")]
    assert told == ([] if first and not wanted else ["plain gone"])
    for expected in (not first, first, not first):
        await with_options(two.hosts[0], **({"may_be_off": True} if expected else {}))
        await two.let_pass(8)
    told = [each for each in two.told if str(each).startswith("plain")]
    assert told == ["plain gone"]
    two.heal(0)
    await two.let_pass(6)
    told = [each for each in two.told if str(each).startswith("plain")]
    assert told == ["plain gone", "plain back"]


@pytest.mark.parametrize("minutes", [None, 60], ids=["made", "changed"])
async def test_an_automation_that_cannot_have_reported_an_absence_says_nothing_of_its_end(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], minutes: int | None
) -> None:
    def automations(minutes: int | None) -> dict[str, object]:
        told = {"offline_actions": note(what="gone"), "online_actions": note(what="back")}
        inputs = {"hosts": ["binary_sensor.plain_connectivity"], "minutes": minutes, **told}
        use = {"path": "homelab_monitor/host_offline.yaml", "input": inputs}
        return {"automation": [{"alias": "it", "id": "it", "use_blueprint": use}] if minutes else []}

    async def change() -> None:
        with patch("homeassistant.config.load_yaml_config_file", autospec=True, return_value=automations(5)):
            await hass.services.async_call("automation", "reload", blocking=True)

    await host.start()
    assert await async_setup_component(hass, "automation", automations(minutes))
    host.session.error = Unreachable("plain")
    await let_pass(host, 900)
    await change()
    await let_pass(host, 900)
    host.session.error = None
    await let_pass(host, 120)
    assert notes == []
    # After a reload of the host it knows of the absence, and tells of it.
    host.session.error = Unreachable("plain")
    await let_pass(host, 120)
    await change()
    await let_pass(host, 900)
    await host.reload()
    await let_pass(host, 60)
    host.session.error = None
    await let_pass(host, 120)
    assert [each["what"] for each in notes] == ["gone", "back"]


# ---------------------------------------------------------------- what lasts, over reloads


async def test_a_disk_whose_wait_a_reload_falls_into_is_reported_once_also_beside_another(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    disks = ["sensor.plain_disk_usage_srv_my_data", "sensor.plain_disk_usage"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=5, actions=note(what="{{ disk }}"))
    rows = host.session.sections["filesystems"]["filesystems"]
    rows[0]["used_bytes"], rows[0]["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 400)
    assert [each["what"] for each in notes] == ["plain Disk usage /"]
    # The automation has run, for another one.
    rows[1]["used_bytes"], rows[1]["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 120)
    await reload_while_it_waits(host)
    await let_pass(host, 400)
    assert [each["what"] for each in notes[1:]] == ["plain Disk usage /srv/my data"]
    await reload_while_it_waits(host)
    await let_pass(host, 400)
    assert len(notes) == 2
    # Room for a moment within the wait begins it anew.
    for used in (100_000_000, 850_000_000, 100_000_000, 850_000_000):
        rows[1]["used_bytes"], rows[1]["available_bytes"] = used, 1_000_000_000 - used
        await let_pass(host, 120)
    assert len(notes) == 2
    await let_pass(host, 300)
    assert len(notes) == 3


async def test_a_reboot_whose_wait_a_reload_falls_into_is_reported_once_whatever_was_reported_before(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    hosts = ["binary_sensor.plain_reboot_required"]
    await use(hass, "reboot_required", hosts=hosts, minutes=5, actions=note(what="due"))
    updates = host.session.sections["updates"]
    for count in (1, 2):
        updates |= {"reboot_required": True, "reboot_reasons": ["flagged"]}
        await host.entry.runtime_data.async_poll_section("updates")
        await let_pass(host, 120)
        await reload_while_it_waits(host)
        await let_pass(host, 400)
        assert len(notes) == count
        await reload_while_it_waits(host)
        await let_pass(host, 400)
        assert len(notes) == count
        updates |= {"reboot_required": False, "reboot_reasons": []}
        await host.entry.runtime_data.async_poll_section("updates")
        await let_pass(host, 60)


@pytest.mark.parametrize("name", ["disk_nearly_full", "reboot_required", "host_offline"])
async def test_a_start_at_which_nothing_is_wrong_is_no_run(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]], name: str
) -> None:
    inputs = {
        "disk_nearly_full": {"disks": ["sensor.plain_disk_usage"], "actions": note(what="full")},
        "reboot_required": {"hosts": ["binary_sensor.plain_reboot_required"], "actions": note(what="due")},
        "host_offline": {"hosts": ["binary_sensor.plain_connectivity"], "offline_actions": note(what="gone")},
    }
    await start_with(hass, host, name, **inputs[name])
    await host.start_again()
    await hass.async_start()
    await let_pass(host, 60)
    assert hass.states.get(f"automation.{name}").attributes["last_triggered"] is None


async def test_what_has_no_wait_is_reported_at_once(
    hass: HomeAssistant, host: Host, notes: list[dict[str, object]]
) -> None:
    await host.start()
    disks = ["sensor.plain_disk_usage_srv_my_data"]
    await use(hass, "disk_nearly_full", disks=disks, limit=80, minutes=0, actions=note(what="{{ disk }}"))
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disk["used_bytes"], disk["available_bytes"] = 850_000_000, 150_000_000
    await let_pass(host, 65)
    assert len(notes) == 1


async def reload_while_it_waits(host: Host) -> None:
    """Reload the entry while actions wait, for which nobody may wait."""
    reload = asyncio.ensure_future(host.hass.config_entries.async_reload(host.entry.entry_id))
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        while not reload.done():
            await asyncio.sleep(0)
    assert await reload
