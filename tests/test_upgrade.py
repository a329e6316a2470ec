"""Updates installed from Home Assistant: who has permission, how they are followed, and how their end is reported."""

import asyncio
from datetime import timedelta
import time
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (
    async_capture_events,
    async_fire_time_changed,
    async_mock_service,
)

from custom_components.homelab_monitor.client.errors import ConnectionLost, Unreachable
from custom_components.homelab_monitor.client.transport.command import CommandResult
from custom_components.homelab_monitor.installation import WAIT_SECONDS, HostInstallation

from .scripted import Host, ScriptedShell

PACKAGES = "update.plain_packages"
EVENTS = "event.plain_events"
INSTALL = 1
ROOT = "uid=0\nsystemd\n"
ROOT_WITH_SYSTEMCTL = "uid=0\n/usr/bin/systemctl\nsystemd\n"
NONE, RUNNING, LOST, DONE = (f"upgrade {word}\n" for word in ("none", "running", "lost", "ended 0"))
FAILED = "upgrade ended 100\nReading package lists...\nE: No space left <b>there</b>\n"


async def a_moment() -> None:
    """Let the event loop go on for a moment; its own clock stands still."""
    await asyncio.to_thread(time.sleep, 0.03)


async def later(host: Host, seconds: int) -> None:
    """Let time pass, without waiting for who waits for the end of an installation."""
    for _ in range(0, seconds, 5):
        host.freezer.tick(timedelta(seconds=5))
        host.session.advance(5)
        async_fire_time_changed(host.hass)
        await a_moment()


class Shell(ScriptedShell):
    """Tells of the job what it is set to, and everything else in the order that a test wrote."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self.job: str | Exception = job
        self.looks = 0

    async def run(self, command: str, **options: object) -> CommandResult:
        if b"homelab_monitor-update" not in (options.get("stdin") or b""):
            return await super().run(command)
        self.looks += 1
        if isinstance(self.job, Exception):
            raise self.job
        return CommandResult(self.job, "", 0)


def shell(host: Host, job: str = "upgrade none\n") -> Shell:
    """Give the host a shell that knows of the job."""
    host.session.shell = shell = Shell(job)
    return shell


async def install(hass: HomeAssistant) -> None:
    await hass.services.async_call("update", "install", {"entity_id": PACKAGES}, blocking=True)


async def pressed(hass: HomeAssistant, shell: Shell) -> asyncio.Task[None]:
    """Press the button on a host that lets us; return what waits for the end."""
    shell.job = NONE
    shell.say(ROOT)
    shell.say()
    waiting = asyncio.create_task(install(hass))
    await a_moment()
    assert shell.answers == []
    shell.job = RUNNING
    return waiting


async def started(hass: HomeAssistant, host: Host) -> tuple[Shell, asyncio.Task[None]]:
    """Start a host that allows it, where nothing was under way, and press the button."""
    told = shell(host)
    await host.start(install_updates=True)
    return told, await pressed(hass, told)


def in_progress(hass: HomeAssistant) -> bool:
    return hass.states.get(PACKAGES).attributes["in_progress"]


def offers_to_install(hass: HomeAssistant) -> bool:
    return bool(hass.states.get(PACKAGES).attributes["supported_features"] & INSTALL)


async def restart(hass: HomeAssistant) -> None:
    await hass.services.async_call("button", "press", {"entity_id": "button.plain_restart"}, blocking=True)


async def test_a_host_is_not_restarted_while_it_installs_updates(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True, power=True)
    waiting = await pressed(hass, told)
    asked = len(told.asked)
    with pytest.raises(ServiceValidationError, match="is installing updates"):
        await restart(hass)
    await later(host, 20)
    # Nor where that is known from before a start, and the host has not been asked yet.
    told.job = ConnectionLost("plain")
    await host.reload()
    with pytest.raises(HomeAssistantError, match="no longer waits"):
        await waiting
    with pytest.raises(ServiceValidationError, match="is installing updates"):
        await restart(hass)
    assert not any("reboot" in each for each in told.asked[asked:])
    told.job = DONE
    await later(host, 20)
    told.say(ROOT_WITH_SYSTEMCTL)
    told.say()
    await restart(hass)
    assert told.asked[-1] == "/usr/bin/systemctl reboot"


async def test_a_host_whose_installation_hangs_can_be_restarted_with_the_option_off(
    hass: HomeAssistant, host: Host
) -> None:
    told = shell(host)
    await host.start(install_updates=True, power=True)
    waiting = await pressed(hass, told)
    with pytest.raises(ServiceValidationError, match="is installing updates"):
        await restart(hass)
    hass.config_entries.async_update_entry(host.entry, options={"power": True})
    await host.reload()
    with pytest.raises(HomeAssistantError, match="no longer waits"):
        await waiting
    told.say(ROOT_WITH_SYSTEMCTL)
    told.say()
    await restart(hass)
    assert told.asked[-1] == "/usr/bin/systemctl reboot"


async def test_without_its_option_nothing_is_offered_and_nothing_asked(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start()
    await later(host, 30)
    assert not offers_to_install(hass)
    assert told.looks == 0
    with pytest.raises(ServiceValidationError):
        await install(hass)
    with pytest.raises(ServiceValidationError, match='Switch on "Install updates"'):
        await HostInstallation(host.entry.runtime_data).async_install()


async def test_a_host_whose_packages_nobody_knows_to_upgrade_offers_nothing(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["updates"]["manager"] = "opkg"
    shell(host)
    await host.start(install_updates=True)
    assert hass.states.get(PACKAGES).state == "on"
    assert not offers_to_install(hass)


async def test_updates_are_installed_and_followed_to_their_end(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    assert offers_to_install(hass)
    assert told.asked[-1] == "/usr/local/sbin/homelab_monitor-update"
    assert hass.states.get(PACKAGES).attributes["update_percentage"] is None
    looks = told.looks
    await later(host, 60)
    assert in_progress(hass)
    assert told.looks - looks in (5, 6), "every ten seconds"
    host.session.sections["updates"] |= {"pending": 0, "security": 0, "packages": []}
    asked = len(host.session.asked)
    told.job = DONE
    await later(host, 20)
    await waiting
    assert not in_progress(hass)
    assert host.state(PACKAGES) == "off"
    assert {("updates",), ("services",), ("containers",)} <= {sections for sections, _ in host.session.asked[asked:]}
    looks = told.looks
    await later(host, 30)
    assert told.looks == looks, "nothing is asked when nothing is under way"


async def test_a_failure_is_raised_for_who_asked_and_reported_as_an_event(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    events = async_capture_events(hass, "state_changed")
    told.job = FAILED
    await later(host, 20)
    with pytest.raises(HomeAssistantError) as raised:
        await waiting
    assert str(raised.value) == (
        "plain did not install all updates: E: No space left <b>there</b>. Fix the cause there, then install again"
    )
    states = [event.data["new_state"] for event in events if event.data["entity_id"] == EVENTS]
    assert [state.attributes["event_type"] for state in states] == ["update_failed"]
    assert states[0].attributes["reason"] == "upgrade_failed"
    assert "No space" not in str(states[0].attributes), "every user sees it"
    assert host.state(PACKAGES) == "on"
    assert not in_progress(hass)
    waiting = await pressed(hass, told)
    told.job = DONE
    await later(host, 20)
    await waiting


async def test_a_second_press_starts_nothing(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    with pytest.raises(HomeAssistantError, match="in progress"):
        await install(hass)
    assert len([command for command in told.asked if command == "/usr/local/sbin/homelab_monitor-update"]) == 1
    told.job = DONE
    await later(host, 20)
    await waiting


async def test_a_job_of_somebody_elses_is_found_at_set_up(hass: HomeAssistant, host: Host) -> None:
    told = shell(host, RUNNING)
    await host.start(install_updates=True)
    assert in_progress(hass)
    told.job = DONE
    await later(host, 20)
    assert not in_progress(hass)


async def test_a_job_of_somebody_elses_is_followed_by_who_presses(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    told.job = RUNNING
    waiting = asyncio.create_task(install(hass))
    await later(host, 20)
    assert in_progress(hass)
    assert told.asked == []
    told.job = DONE
    await later(host, 20)
    await waiting


async def test_who_may_not_is_told_what_to_do(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    told.say("uid=7\nsudo\nsystemd\n")
    told.say(stderr="sudo: a password is required", status=1)
    with pytest.raises(HomeAssistantError) as raised:
        await install(hass)
    assert str(raised.value) == (
        "plain does not let the user mon install updates: sudo: a password is required. Test the host with its "
        "button Test now: a repair under Settings > Repairs then explains how to allow it"
    )
    assert not in_progress(hass)
    assert host.entry.runtime_data.store.memory.upgrade.manager == ""


async def test_what_keeps_the_job_from_starting_is_reported(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    told.say(ROOT)
    told.say(stderr="Failed to start transient service unit: No space left on device", status=1)
    told.say()
    with pytest.raises(HomeAssistantError, match="No space left on device"):
        await install(hass)
    assert not in_progress(hass)


async def test_a_job_whose_start_was_cut_is_found_all_the_same(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    await later(host, 20)
    told.job = ConnectionLost("plain")
    told.say(ROOT)
    told.say()
    with pytest.raises(HomeAssistantError):
        await install(hass)
    assert not in_progress(hass)
    told.job = RUNNING
    await later(host, 20)
    assert in_progress(hass)
    assert host.entry.runtime_data.store.memory.upgrade.manager


async def test_a_host_that_is_off_is_not_asked(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    host.session.error = Unreachable("plain")
    await later(host, 60)
    assert hass.states.get(PACKAGES).state == "unavailable"
    looks = told.looks
    with pytest.raises(ServiceValidationError, match="is offline"):
        await HostInstallation(host.entry.runtime_data).async_install()
    assert told.looks == looks


async def test_a_connection_that_drops_meanwhile_ends_nothing(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    told.job = ConnectionLost("plain")
    await later(host, 20)
    host.session.error = Unreachable("plain")
    await later(host, 60)
    assert hass.states.get(PACKAGES).state == "unavailable"
    assert not waiting.done()
    host.session.error, told.job = None, RUNNING
    await later(host, 60)
    assert in_progress(hass)
    told.job = DONE
    await later(host, 20)
    await waiting


async def test_a_reboot_meanwhile_is_an_interruption(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    told.job = NONE
    await later(host, 20)
    with pytest.raises(HomeAssistantError, match="was interrupted"):
        await waiting
    assert hass.states.get(EVENTS).attributes["reason"] == "upgrade_lost"


LEFT = {
    "nothing": ({"pending": 0, "security": 0, "packages": []}, False),
    "something new": ({"pending": 1, "packages": [{"name": "vim", "installed": "10", "available": "11"}]}, False),
    "half of one": ({"pending": 1, "unfinished": 1, "packages": []}, True),
    "what was pending": ({}, True),
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "reloaded"])
async def test_of_a_job_before_a_reboot_only_what_it_left_proves_a_failure(
    hass: HomeAssistant, host: Host, left: str, *, is_watched: bool
) -> None:
    """It may have ended well, and the host was rebooted for its new kernel before anybody looked."""
    told, waiting = await started(hass, host)
    await later(host, 20)
    changes, has_failed = LEFT[left]
    if not is_watched:
        assert await hass.config_entries.async_unload(host.entry.entry_id)
        with pytest.raises(HomeAssistantError, match="no longer waits"):
            await waiting
    told.job = NONE
    host.session.sections["updates"] |= changes
    host.session.document["boot_id"] = "22222222-3333-4444-5555-666666666666"
    host.session.sections["uptime"]["uptime_seconds"] = 30.0
    if not is_watched:
        await host.start_again()
    await later(host, 60)
    assert (hass.states.get(EVENTS).attributes.get("reason") == "upgrade_lost") is has_failed
    assert host.entry.runtime_data.store.memory.upgrade.failure == ("upgrade_lost" if has_failed else "")
    assert host.entry.runtime_data.store.memory.upgrade.manager == ""
    if is_watched:
        words = "was interrupted" if has_failed else "before Home Assistant saw how"
        with pytest.raises(HomeAssistantError, match=words):
            await waiting


async def test_a_host_that_reports_nothing_of_its_packages_proves_no_failure(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    told.job = NONE
    host.session.document["missing"]["updates"] = "timed_out"
    host.session.document["sections"].pop("updates")
    await later(host, 120)
    with pytest.raises(HomeAssistantError, match="before Home Assistant saw how"):
        await waiting
    assert hass.states.get(EVENTS).attributes.get("event_type") != "update_failed"


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "reloaded"])
async def test_a_host_that_reports_late_what_was_left_of_a_job_before_a_reboot_is_waited_for(
    hass: HomeAssistant, host: Host, *, is_watched: bool
) -> None:
    """A package manager is slow right after a boot."""
    told, waiting = await started(hass, host)
    await later(host, 20)
    if not is_watched:
        assert await hass.config_entries.async_unload(host.entry.entry_id)
    told.job = NONE
    document = host.session.document
    document["boot_id"] = "22222222-3333-4444-5555-666666666666"
    host.session.sections["uptime"]["uptime_seconds"] = 30.0
    updates, document["missing"]["updates"] = host.session.sections.pop("updates"), "timed_out"
    if not is_watched:
        await host.start_again()
    await later(host, 40)
    assert hass.states.get(EVENTS).attributes.get("event_type") != "update_failed"
    assert host.entry.runtime_data.store.memory.upgrade.manager
    del document["missing"]["updates"]
    host.session.sections["updates"] = updates
    await later(host, 20)
    assert hass.states.get(EVENTS).attributes.get("reason") == "upgrade_lost"
    assert not host.entry.runtime_data.store.memory.upgrade.manager
    with pytest.raises(HomeAssistantError, match="was interrupted" if is_watched else "no longer waits"):
        await waiting


@pytest.mark.parametrize("end", [DONE, FAILED, LOST], ids=["done", "failed", "lost"])
async def test_a_job_is_found_again_after_a_restart_and_its_end_reported_once(
    hass: HomeAssistant, host: Host, end: str
) -> None:
    told, waiting = await started(hass, host)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    with pytest.raises(HomeAssistantError, match="continues on the host, but this action no longer waits"):
        await waiting
    await host.start_again()
    assert in_progress(hass)
    events = async_capture_events(hass, "state_changed")
    told.job = end
    for _ in range(2):
        assert await hass.config_entries.async_unload(host.entry.entry_id)
        await host.start_again()
        assert not in_progress(hass)
        assert host.entry.runtime_data.store.memory.upgrade.manager == ""
    types = [
        new.attributes.get("event_type")
        for event in events
        if event.data["entity_id"] == EVENTS
        if (new := event.data["new_state"]) and (old := event.data["old_state"])
        if "unavailable" not in {new.state, old.state}
    ]
    assert types == ([] if end == DONE else ["update_failed"])


async def of_a_backup(  # noqa: PLR0913
    host: Host, saved: dict[str, Any], end: str, *, days: float = 0.1, boot_id: str = "", may: bool = True
) -> str | None:
    """Return what is told when a store that was saved during an update comes back."""
    told = shell(host, NONE)
    await host.start(install_updates=may)
    boot_id = boot_id or host.session.document["boot_id"]
    assert await host.hass.config_entries.async_unload(host.entry.entry_id)
    saved[f"homelab_monitor.{host.entry.entry_id}"]["data"] |= {
        "upgrade": "apt",
        "upgrade_started": time.time() - 86400 * days,
        "upgrade_boot_id": boot_id,
        "upgrade_wanted": ["vim 2:9.0.1378-2+deb12u2"],
    }
    told.job = end
    await host.start_again()
    await later(host, 30)
    return host.hass.states.get(EVENTS).attributes.get("reason")


@pytest.mark.parametrize("end", [NONE, LOST, FAILED, DONE], ids=["none", "lost", "failed", "done"])
@pytest.mark.parametrize("case", [{"days": 2}, {"days": -2}, {"may": False}], ids=["old", "future", "off"])
async def test_nothing_is_reported_of_a_job_that_only_a_backup_remembers(
    host: Host, hass_storage: dict[str, Any], case: dict[str, Any], end: str
) -> None:
    assert await of_a_backup(host, hass_storage, end, **case) is None


@pytest.mark.parametrize(
    ("end", "reason"),
    [(LOST, None), (FAILED, None), (DONE, None), (NONE, "upgrade_lost")],
    ids=lambda word: str(word)[:12],
)
async def test_what_is_found_after_a_reboot_is_another_job_and_nothing_found_an_interruption(
    host: Host, hass_storage: dict[str, Any], end: str, reason: str | None
) -> None:
    assert await of_a_backup(host, hass_storage, end, boot_id="another") == reason
    assert host.entry.runtime_data.store.memory.upgrade.manager == ""


async def test_a_job_that_another_one_followed_after_a_reboot_was_interrupted(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    host.session.document["boot_id"] = "22222222-3333-4444-5555-666666666666"
    told.job = DONE
    await later(host, 20)
    with pytest.raises(HomeAssistantError, match="was interrupted"):
        await waiting


async def test_nobody_who_waits_holds_up_the_end_of_home_assistant(hass: HomeAssistant, host: Host) -> None:
    _, waiting = await started(hass, host)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await a_moment()
    assert not waiting.done(), "any user can have such an event made"
    hass.set_state(CoreState.stopping)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await a_moment()
    assert waiting.done()
    with pytest.raises(HomeAssistantError, match="continues on the host, but this action no longer waits"):
        await waiting


@pytest.mark.parametrize("meanwhile", ["no longer waits", "disabled", "removed"])
async def test_what_a_script_does_after_the_updates_is_not_done_when_nobody_waits_for_their_end(
    hass: HomeAssistant, host: Host, meanwhile: str
) -> None:
    told = shell(host)
    await host.start(install_updates=True)
    done = async_mock_service(hass, "test", "restart_it")
    sequence = [{"action": "update.install", "target": {"entity_id": PACKAGES}}, {"action": "test.restart_it"}]
    assert await async_setup_component(hass, "script", {"script": {"upgrade": {"sequence": sequence}}})
    told.say(ROOT)
    told.say()
    running = asyncio.create_task(hass.services.async_call("script", "upgrade", blocking=True))
    await a_moment()
    told.job = RUNNING
    await later(host, 20)
    assert in_progress(hass)
    match meanwhile:
        case "no longer waits":
            with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
                assert await hass.config_entries.async_reload(host.entry.entry_id)
        case "disabled":
            await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
        case _:
            await hass.config_entries.async_remove(host.entry.entry_id)
    await a_moment()
    with pytest.raises(HomeAssistantError, match="no longer waits"):
        await asyncio.wait_for(running, 5)
    assert done == []


@pytest.mark.parametrize("meanwhile", ["no longer waits", "disabled"])
async def test_nothing_is_started_on_a_host_that_went_while_it_was_somebodys_turn(
    hass: HomeAssistant, host: Host, meanwhile: str
) -> None:
    """The look at the host has a slow login, and who presses waits for its end."""
    told = shell(host)
    await host.start(install_updates=True)
    upgrade = HostInstallation(host.entry.runtime_data)
    async with upgrade._lock:
        waiting = asyncio.create_task(upgrade.async_install())
        await a_moment()
        if meanwhile == "disabled":
            await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
        else:
            await host.reload()
    told.say(ROOT)
    told.say()
    with pytest.raises(ServiceValidationError, match="Nothing was done"):
        await asyncio.wait_for(waiting, 5)
    assert told.asked == []


async def test_a_job_that_begins_as_its_host_is_removed_leaves_no_file(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    shell(host)
    await host.start(install_updates=True)

    async def start(*_: object) -> None:
        await hass.config_entries.async_remove(host.entry.entry_id)

    with (
        patch("custom_components.homelab_monitor.installation.start_installation", start),
        pytest.raises(HomeAssistantError, match="no longer waits"),
    ):
        await install(hass)
    assert [name for name in hass_storage if host.entry.entry_id in name] == []


async def test_who_waits_is_told_after_an_hour_that_it_goes_on(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WAIT_SECONDS == 3600
    monkeypatch.setattr("custom_components.homelab_monitor.installation.WAIT_SECONDS", 10)
    told, waiting = await started(hass, host)
    await later(host, 10)
    with pytest.raises(HomeAssistantError, match="still installing"):
        await waiting
    assert in_progress(hass)
    told.job = DONE
    await later(host, 20)
    assert not in_progress(hass)


async def test_another_name_of_the_entity_meanwhile_ends_no_waiting(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    told, waiting = await started(hass, host)
    entity_registry.async_update_entity(PACKAGES, new_entity_id="update.the_packages")
    await later(host, 20)
    assert not waiting.done()
    assert hass.states.get("update.the_packages").attributes["in_progress"]
    told.job = DONE
    await later(host, 20)
    assert waiting.done()
    await waiting


async def test_a_job_is_followed_whether_or_not_an_entity_shows_it(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True, power=True)
    waiting = await pressed(hass, told)
    er.async_get(hass).async_update_entity(PACKAGES, disabled_by=er.RegistryEntryDisabler.USER)
    await a_moment()
    assert hass.states.get(PACKAGES) is None
    told.job = FAILED
    await later(host, 20)
    assert waiting.done()
    with pytest.raises(HomeAssistantError, match="No space left"):
        await waiting
    assert hass.states.get(EVENTS).attributes["event_type"] == "update_failed"
    told.say(ROOT_WITH_SYSTEMCTL)
    told.say()
    await restart(hass)
    assert told.asked[-1] == "/usr/bin/systemctl reboot"


async def test_a_job_is_found_again_where_no_entity_shows_it(hass: HomeAssistant, host: Host) -> None:
    told = shell(host)
    await host.start(install_updates=True, power=True)
    waiting = await pressed(hass, told)
    er.async_get(hass).async_update_entity(PACKAGES, disabled_by=er.RegistryEntryDisabler.USER)
    await a_moment()
    await host.reload()
    with pytest.raises(HomeAssistantError, match="no longer waits"):
        await waiting
    told.job = DONE
    await later(host, 20)
    assert hass.states.get(PACKAGES) is None
    told.say(ROOT_WITH_SYSTEMCTL)
    told.say()
    await restart(hass)
    assert told.asked[-1] == "/usr/bin/systemctl reboot"


async def test_nobody_who_waits_holds_up_the_end_where_no_entity_shows_it(hass: HomeAssistant, host: Host) -> None:
    _told, waiting = await started(hass, host)
    er.async_get(hass).async_update_entity(PACKAGES, disabled_by=er.RegistryEntryDisabler.USER)
    await a_moment()
    hass.set_state(CoreState.stopping)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await a_moment()
    assert waiting.done()
    with pytest.raises(HomeAssistantError, match="no longer waits"):
        await waiting


def nothing_pending(host: Host) -> None:
    """Let the host say that all its packages are up to date, as apt does in the middle and after a failure."""
    host.session.sections["updates"] |= {"pending": 0, "security": 0, "packages": []}


async def ask_again(host: Host) -> None:
    """Let the host be asked for its updates, whose turn comes in ten minutes."""
    await host.entry.runtime_data.async_poll_section("updates")


async def failed(host: Host) -> Shell:
    """Let an installation fail on a host that then says that it is up to date."""
    told, waiting = await started(host.hass, host)
    nothing_pending(host)
    told.job = FAILED
    await later(host, 20)
    with pytest.raises(HomeAssistantError):
        await waiting
    return told


@pytest.mark.parametrize("reading", ["up to date", "failed", "missing", "skipped"])
async def test_while_they_are_installed_it_is_on_whatever_the_host_reads(
    hass: HomeAssistant, host: Host, reading: str
) -> None:
    told, waiting = await started(hass, host)
    before = hass.states.get(PACKAGES).attributes["latest_version"]
    match reading:
        case "up to date":
            nothing_pending(host)
        case "failed":
            del host.session.sections["updates"]
            host.session.document["errors"] = {"updates": "apt-get: E: Unmet dependencies."}
        case "missing":
            del host.session.sections["updates"]
            host.session.document["missing"] = {"updates": "unreadable"}
        case _:
            await hass.services.async_call("update", "skip", {"entity_id": PACKAGES}, blocking=True)
            before = None
    for _ in range(2):
        await ask_again(host)
        await later(host, 20)
        assert host.state(PACKAGES) == "on"
        assert in_progress(hass)
        assert before in (None, hass.states.get(PACKAGES).attributes["latest_version"])
    told.job = DONE
    await later(host, 20)
    await waiting
    assert not in_progress(hass)


async def test_a_job_that_is_found_at_set_up_is_on_although_nothing_reads_as_pending(
    hass: HomeAssistant, host: Host
) -> None:
    nothing_pending(host)
    told = shell(host, RUNNING)
    await host.start(install_updates=True)
    assert (host.state(PACKAGES), in_progress(hass)) == ("on", True)
    told.job = DONE
    await later(host, 20)
    assert (host.state(PACKAGES), in_progress(hass)) == ("off", False)


async def test_a_failure_stays_visible_until_a_later_success(hass: HomeAssistant, host: Host) -> None:
    told = await failed(host)
    for _ in range(2):
        state = hass.states.get(PACKAGES)
        assert (state.state, state.attributes["in_progress"]) == ("on", False)
        assert state.attributes["latest_version"].endswith(" ⚠️")
        assert state.attributes["release_summary"].startswith("The last installation of updates failed.")
        assert "No space" not in str(state.attributes), "every user sees it"
        await ask_again(host)
        await later(host, 700)
        assert await hass.config_entries.async_unload(host.entry.entry_id)
        await host.start_again()
    waiting = await pressed(hass, told)
    assert not hass.states.get(PACKAGES).attributes["latest_version"].endswith(" ⚠️")
    told.job = DONE
    await later(host, 20)
    await waiting
    assert host.state(PACKAGES) == "off"
    assert hass.states.get(PACKAGES).attributes["release_summary"] is None


async def test_a_failure_is_over_when_what_it_left_was_installed_by_hand(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    host.session.sections["updates"] |= {"pending": 1, "unfinished": 1}
    told.job = FAILED
    await later(host, 20)
    with pytest.raises(HomeAssistantError):
        await waiting
    assert hass.states.get(PACKAGES).attributes["unfinished"] == 1
    assert host.state(PACKAGES) == "on"
    nothing_pending(host)
    host.session.sections["updates"]["unfinished"] = 0
    await ask_again(host)
    assert host.state(PACKAGES) == "off"
    assert "unfinished" not in hass.states.get(PACKAGES).attributes


async def test_a_failure_is_over_when_somebody_elses_job_went_well(hass: HomeAssistant, host: Host) -> None:
    told = await failed(host)
    told.job = DONE
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await later(host, 20)
    assert host.state(PACKAGES) == "off"


async def test_an_interruption_stays_visible_as_well(hass: HomeAssistant, host: Host) -> None:
    told, waiting = await started(hass, host)
    nothing_pending(host)
    told.job = LOST
    await later(host, 20)
    with pytest.raises(HomeAssistantError, match="was interrupted"):
        await waiting
    assert host.state(PACKAGES) == "on"
    assert "was interrupted" in hass.states.get(PACKAGES).attributes["release_summary"]


async def test_where_nothing_may_be_installed_any_more_no_failure_is_shown(hass: HomeAssistant, host: Host) -> None:
    await failed(host)
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        options = {**host.entry.options, "install_updates": False}
        hass.config_entries.async_update_entry(host.entry, options=options)
        await hass.config_entries.async_reload(host.entry.entry_id)
        await hass.async_block_till_done()
    assert host.state(PACKAGES) == "off"
