"""The states of a host, with a moved clock: nothing flaps, nothing is lost."""

import logging

from freezegun.api import FrozenDateTimeFactory
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.errors import (
    AccountRefused,
    AnotherMachine,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    KeyTypeRefused,
    LoginCut,
    LoginsLimited,
    NoGreeting,
    NoPython,
    OldForcedCommand,
    SecondFactor,
    TimedOut,
    TooMuchTraffic,
    Unreachable,
)
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import CONNECTIVITY, HOST_ID, Host

PROBLEM = "binary_sensor.plain_problem"

CPU = "sensor.plain_cpu_usage"
MEMORY = "sensor.plain_memory_usage"


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return what users find in their log."""
    records = [r for r in caplog.records if r.name.startswith("custom_components") and r.levelno > logging.DEBUG]
    return [(r.levelno, r.getMessage()) for r in records]


async def test_a_host_that_answers_is_online_with_its_values(host: Host) -> None:
    await host.start()
    assert (host.status, host.state(CONNECTIVITY)) == ("online", "on")
    assert float(host.state(MEMORY)) == 25
    assert host.state(CPU) == "unknown"  # one reading makes no rate
    host.session.sections["cpu"]["times"]["user"] += 5
    host.session.sections["cpu"]["times"]["idle"] += 15
    await host.move(11)
    assert float(host.state(CPU)) == pytest.approx(25)


async def test_a_failed_poll_keeps_the_values_until_stale_after(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    await host.start()
    await host.move(12)
    caplog.clear()
    host.session.error = TimedOut("plain")
    await host.move(20)
    assert (host.status, host.state(CONNECTIVITY)) == ("late", "on")
    assert float(host.state(MEMORY)) == 25
    assert host.reason == "timed_out"
    assert not logged(caplog)
    await host.move(15)
    assert (host.status, host.state(CONNECTIVITY)) == ("offline", "off")
    assert host.state(MEMORY) == "unavailable"
    assert logged(caplog) == [(logging.WARNING, "plain is offline: plain: timed out")]


async def test_offline_comes_at_stale_after_and_not_at_the_next_poll(host: Host) -> None:
    """A poll that hangs for its whole time limit must not lengthen the online state."""
    await host.start(interval=300, timeout=3)
    while not await host.polls(10, step=10):
        pass
    host.session.error = TimedOut("plain")
    assert host.status == "online"
    await host.move(880, step=10)
    assert host.status == "late"
    await host.move(30, step=10)
    assert host.status == "offline"


async def test_a_host_that_is_back_is_online_at_its_first_answer(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.state(MEMORY) == "unavailable"
    host.session.error = None
    await host.move(61)
    assert (host.status, host.state(CONNECTIVITY), host.reason) == ("online", "on", None)
    assert float(host.state(MEMORY)) == 25
    assert logged(caplog) == [
        (logging.WARNING, "plain is offline: plain: unreachable"),
        (logging.INFO, "plain is online again"),
    ]


async def test_a_host_that_sends_too_much_goes_offline_with_that_reason(host: Host) -> None:
    await host.start()
    host.session.error = TooMuchTraffic("plain", "too many packets without a request")
    await host.move(12)
    assert (host.status, host.reason) == ("late", "too_much_traffic")
    await host.move(30)
    assert (host.status, host.state(CONNECTIVITY), host.reason) == ("offline", "off", "too_much_traffic")
    host.session.error = None
    await host.move(61)
    assert (host.status, host.reason) == ("online", None)


async def test_an_offline_host_is_asked_ever_more_seldom(host: Host) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(45)
    assert host.status == "offline"
    assert await host.polls(120) in range(2, 6)
    assert await host.polls(600) in range(9, 12)


async def test_a_host_that_may_be_off_is_asked_every_five_minutes_and_not_logged(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start(may_be_off=True)
    host.session.error = Unreachable("plain")
    await host.move(900, step=5)
    assert await host.polls(1200, step=5) in range(3, 6)
    assert not logged(caplog)


async def test_a_refused_key_is_tried_after_1_5_and_15_minutes_and_the_user_is_asked_after_the_second(
    host: Host,
) -> None:
    await host.start()
    await host.move(12)
    host.session.error = KeyRefused("plain")
    while not await host.polls(1):
        pass
    assert (host.status, host.state(CONNECTIVITY)) == ("offline", "off")
    assert await host.polls(57) == 0
    assert not host.hass.config_entries.flow.async_progress(), "a home may not be mounted yet"
    assert await host.polls(4) == 1
    await host.hass.async_block_till_done()
    assert len(host.hass.config_entries.flow.async_progress()) == 1
    assert [await host.polls(293), await host.polls(10)] == [0, 1]
    assert host.status == "offline"
    assert len(host.hass.config_entries.flow.async_progress()) == 1
    await host.move(905, step=5)
    assert host.status == "suspended"
    flows = host.hass.config_entries.flow.async_progress()
    assert [flow["context"]["source"] for flow in flows] == ["reauth"]
    assert await host.polls(3500, step=10) == 0
    assert await host.polls(200, step=10) == 1
    assert host.entry.state.name == "LOADED"


async def test_who_ends_the_dialog_that_asks_to_log_in_again_ends_it_for_an_hour(host: Host) -> None:
    """Home Assistant lets every user end a dialog of which they know the number."""
    await host.start()
    host.session.error = KeyRefused("plain")
    while host.status != "suspended":
        await host.move(300, step=5)
    (flow,) = host.hass.config_entries.flow.async_progress()
    host.hass.config_entries.flow.async_abort(flow["flow_id"])
    await host.move(3700, step=10)
    assert len(host.hass.config_entries.flow.async_progress()) == 1


async def test_only_the_end_of_home_assistant_ends_polling(host: Host) -> None:
    """Any user can have an event of that name made, by the webhook of a phone."""
    await host.start()
    host.hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await host.move(60)
    assert host.status == "online"


async def test_nobody_is_asked_any_longer_once_the_key_is_taken_again(host: Host) -> None:
    """It was a home folder that was not mounted, or somebody between the two."""
    await host.start()
    host.session.error = KeyRefused("plain")
    while host.status != "suspended":
        await host.move(300, step=5)
    assert len(host.hass.config_entries.flow.async_progress()) == 1
    host.session.error = None
    await host.move(3700, step=10)
    assert host.status == "online"
    assert not host.hass.config_entries.flow.async_progress()


async def test_a_dialog_in_which_somebody_logs_in_again_is_not_taken_away(host: Host) -> None:
    await host.start()
    flow = await host.entry.start_reauth_flow(host.hass)
    await host.hass.config_entries.flow.async_configure(flow["flow_id"], {"next_step_id": "install"})
    await host.move(30)
    assert [each["step_id"] for each in host.hass.config_entries.flow.async_progress()] != ["reauth_confirm"]
    assert len(host.hass.config_entries.flow.async_progress()) == 1


async def test_a_key_that_is_refused_in_other_words_is_still_refused(host: Host) -> None:
    await host.start()
    host.session.error = SecondFactor("plain", "keyboard-interactive")
    while not await host.polls(1):
        pass
    assert (host.status, host.reason) == ("offline", "second_factor")
    host.session.error = KeyRefused("plain")
    counts = [await host.polls(57), await host.polls(4), await host.polls(293), await host.polls(10)]
    assert counts == [0, 1, 0, 1]
    host.session.error = AccountRefused("plain", "Closed for maintenance.")
    await host.move(905, step=5)
    assert (host.status, host.reason) == ("suspended", "account_refused")


async def test_logins_that_end_without_a_word_suspend_nothing_and_start_no_dialog(host: Host) -> None:
    """Who can cut connections can do that as well, and as often as they want."""
    await host.start()
    cut = LoginCut("plain", "after it accepted the key")
    host.session.error = cut
    before = len(host.session.asked)
    await host.move(600, step=5)
    assert (host.status, host.reason) == ("offline", "connection_lost")
    # fail2ban counts five in ten minutes, and it may be the server that hangs up.
    assert len(host.session.asked) - before == 4
    await host.move(900, step=5)
    assert (host.status, host.reason) == ("offline", "hangs_up")
    await host.move(3 * 3600, step=20)
    assert (host.status, host.reason) == ("offline", "hangs_up")
    assert not host.hass.config_entries.flow.async_progress()
    host.session.error = None
    await host.move(305, step=5)
    assert (host.status, host.reason) == ("online", None)
    host.session.error = cut
    await host.move(120, step=5)
    assert host.reason == "connection_lost", "it counts from the beginning"


async def test_many_logins_that_end_within_minutes_say_nothing_of_the_server(host: Host) -> None:
    await host.start()
    host.session.error = LoginCut("plain", "after it accepted the key")
    for _ in range(20):
        await host.entry.runtime_data.async_refresh()
        await host.move(10, step=5)
    assert host.reason == "connection_lost"


async def test_who_is_asked_to_authenticate_again_sees_why_and_the_key_that_the_host_takes(host: Host) -> None:
    await host.start()
    host.session.error = KeyTypeRefused("plain", "ecdsa-sha2-nistp256")
    host.session.error.wants_ecdsa = True
    await host.move(1300, step=5)
    (flow,) = host.hass.config_entries.flow.async_progress()
    shown = await host.hass.config_entries.flow.async_configure(flow["flow_id"])
    words = shown["description_placeholders"]
    assert "does not accept keys of the type ed25519" in words["refusal"]
    assert "ecdsa-sha2-nistp256 AAAA" in words["key_line"]


CHANGED = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
ANSWERS = pytest.mark.parametrize(
    ("answer", "issue"), [(CHANGED, "host_key"), (AnotherMachine("plain"), "system")], ids=["key", "machine"]
)
"""How another machine is found out, and the check whose issue says so."""


def repairs(host: Host) -> set[str]:
    """Return the checks that are listed as repairs now."""
    listed = ir.async_get(host.hass).issues.values()
    return {each.issue_id.partition("_")[2] for each in listed if each.domain == DOMAIN and each.active}


@ANSWERS
async def test_one_answer_of_another_machine_is_said_at_once_and_silences_nothing(
    host: Host, caplog: pytest.LogCaptureFixture, answer: HomelabError, issue: str
) -> None:
    await host.start()
    await host.move(12)
    caplog.clear()
    host.session.error = answer
    while not await host.polls(1):
        pass
    assert (host.status, host.state(CONNECTIVITY), host.reason) == ("offline", "off", answer.key)
    assert repairs(host) == {issue}
    assert logged(caplog) == [(logging.WARNING, f"plain is offline: {answer}")]
    host.session.error = None
    assert await host.polls(57) == 0
    await host.move(5)
    assert (host.status, host.reason, repairs(host)) == ("online", None, set())


@ANSWERS
async def test_another_machine_is_asked_about_after_1_5_and_15_minutes_then_once_an_hour(
    host: Host, answer: HomelabError, issue: str
) -> None:
    await host.start()
    host.session.error = answer
    while not await host.polls(1):
        pass
    counts = [await host.polls(57), await host.polls(4), await host.polls(293), await host.polls(10)]
    assert counts == [0, 1, 0, 1]
    assert host.status == "offline"
    await host.move(905, step=5)
    assert (host.status, host.reason, repairs(host)) == ("suspended", answer.key, {issue})
    assert await host.polls(3500, step=10) == 0
    assert await host.polls(200, step=10) == 1
    assert not host.hass.config_entries.flow.async_progress(), "this is no question of authenticating"


async def test_a_key_that_is_refused_after_another_one_was_shown_is_tried_from_the_beginning(host: Host) -> None:
    await host.start()
    host.session.error = CHANGED
    await host.move(400)
    host.session.error = KeyRefused("plain")
    await host.move(905, step=5)
    assert (host.status, host.reason) == ("offline", "key_refused")
    assert not host.hass.config_entries.flow.async_progress()


@ANSWERS
async def test_another_machine_is_an_alarm_also_where_the_host_may_be_off_or_is(
    host: Host, caplog: pytest.LogCaptureFixture, answer: HomelabError, issue: str
) -> None:
    await host.start(may_be_off=True)
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.status == "offline"
    assert not logged(caplog)
    host.session.error = answer
    await host.move(61)
    assert logged(caplog) == [(logging.WARNING, f"plain is offline: {answer}")]
    assert repairs(host) == {issue}


@pytest.mark.parametrize("error", [NoPython("plain"), OldForcedCommand("plain")], ids=lambda e: e.key)
async def test_what_only_a_person_can_mend_suspends_at_once_and_resumes_on_demand(host: Host, error) -> None:
    await host.start()
    host.session.error = error
    await host.move(15)
    assert (host.status, host.reason) == ("suspended", error.key)
    assert host.state(MEMORY) == "unavailable"
    assert await host.polls(600, step=10) == 0
    host.session.error = None
    await host.entry.runtime_data.async_resume()
    assert host.status == "online"
    assert await host.polls(60) in range(5, 8)


async def test_a_restart_with_the_host_off_keeps_every_entity(
    host: Host, hass: HomeAssistant, freezer: FrozenDateTimeFactory, entity_registry: er.EntityRegistry
) -> None:
    await host.start()
    await host.move(65)
    before = {e.unique_id for e in er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)}
    states = set(hass.states.async_entity_ids())
    host.session.error = Unreachable("plain")
    await hass.config_entries.async_unload(host.entry.entry_id)
    host.session.asked.clear()
    await host.start_again()
    after = {e.unique_id for e in er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)}
    assert before == after
    assert states == set(hass.states.async_entity_ids())
    await host.move(31)
    assert host.state(CONNECTIVITY) == "off"
    assert host.state(MEMORY) == "unavailable"
    assert not [s for s in hass.states.async_all() if s.attributes.get("restored")]
    host.session.error = None
    await host.move(61)
    assert float(host.state(MEMORY)) == 25


async def test_a_host_that_never_answered_has_its_connectivity(host: Host) -> None:
    host.session.error = Unreachable("plain")
    await host.start()
    assert host.state(CONNECTIVITY) == "off"
    host.session.error = None
    await host.move(61)
    assert float(host.state(MEMORY)) == 25


async def test_sections_are_asked_for_in_their_rhythm(host: Host) -> None:
    await host.start()
    await host.move(620)
    asked = [name for sections, _ in host.session.asked for name in sections]
    polls = len(host.session.asked)
    # The clock that is moved fires timers up to half a second early, so that the period is 9 to 10 s.
    assert polls in range(60, 72)
    assert asked.count("cpu") == polls
    assert asked.count("services") in range(20, 24)
    assert asked.count("filesystems") in range(10, 13)
    assert asked.count("hardware") == 2


async def test_a_section_that_stays_late_is_asked_for_every_half_minute_until_it_answers(host: Host) -> None:
    await host.start()
    cards = host.session.document["missing"]
    cards["gpu"] = "timed_out"
    await host.move(21)
    host.session.asked.clear()
    await host.move(61)
    assert sum("gpu" in sections for sections, _ in host.session.asked) == 2
    cards["gpu"] = "not_installed"
    await host.move(31)
    host.session.asked.clear()
    await host.move(30)
    assert sum("gpu" in sections for sections, _ in host.session.asked) == 3


async def test_a_slow_section_that_was_late_is_asked_again_after_a_minute(host: Host) -> None:
    updates = host.session.sections.pop("updates")
    host.session.document["missing"]["updates"] = "timed_out"
    await host.start()
    host.session.sections["updates"] = updates
    del host.session.document["missing"]["updates"]
    assert host.hass.states.get("sensor.plain_pending_updates") is None
    await host.move(65)
    host.session.asked.clear()
    await host.move(60)
    assert host.state("sensor.plain_pending_updates") == "3"
    assert not any("updates" in sections for sections, _ in host.session.asked)


async def test_only_sections_that_the_user_allowed_may_use_sudo(host: Host) -> None:
    await host.start(sudo=["load", "security", "storage_health"])
    assert host.session.with_sudo == ("load", "security")
    await host.entry.runtime_data.async_poll_section("security")
    assert host.session.with_sudo == ("security",), "also beside the polls"
    await host.entry.runtime_data.async_poll_section("services")
    assert host.session.with_sudo == ()


async def test_polling_that_the_user_switched_off_stays_off_and_means_nothing(hass: HomeAssistant, host: Host) -> None:
    host.entry = MockConfigEntry(
        domain=DOMAIN, title="plain", unique_id=HOST_ID, data=dict(host.entry.data), pref_disable_polling=True
    )
    await host.start()
    assert await host.polls(300, step=10) == 0
    assert host.state(CONNECTIVITY) == "on"


@pytest.mark.parametrize("every", [20, 40, 60, 300])
async def test_polls_by_hand_find_what_lasts_as_long_as_it_does_from_one_to_the_next(
    hass: HomeAssistant, host: Host, every: int
) -> None:
    host.entry = MockConfigEntry(
        domain=DOMAIN, title="plain", unique_id=HOST_ID, data=dict(host.entry.data), pref_disable_polling=True
    )
    sections = host.session.sections
    host.session.document["missing"].pop("gpu", None)
    card = {"id": "1", "vendor": "nvidia", "name": "RTX 4090"}
    sections["gpu"] = {"at": 1.0, "gpus": [card]}
    await host.start()
    await async_setup_component(hass, "homeassistant", {})

    async def look(times: int) -> set[str]:
        for _ in range(times):
            await host.move(every, step=every)
            await hass.services.async_call("homeassistant", "update_entity", {"entity_id": PROBLEM}, blocking=True)
            await hass.async_block_till_done(wait_background_tasks=True)
        return {each for each in hass.states.get(PROBLEM).attributes["reasons"] if not each.startswith("service_")}

    assert await look(4) == set()
    card["state"] = "lost"
    sections["sensors"]["cpu_celsius"] = 105.0
    sections["memory"].update(available_bytes=100, free_bytes=50, cached_bytes=10, buffers_bytes=10, shared_bytes=0)
    sections["memory"]["swap_free_bytes"] = 0
    assert await look(1) == set(), "nobody knows yet whether it lasts"
    # Nobody looked for a day, in which it may have been over: it begins anew.
    await host.move(86400, step=3600)
    assert await look(1) == set()
    found = await look(-(-360 // every))
    assert found == {"memory_full", "cpu_hot", "gpu_lost RTX 4090"}
    assert hass.states.get("event.plain_events").attributes["event_type"] == "gpu_lost"


@pytest.mark.parametrize("boot_id", ["another", None], ids=["machine", "container"])
async def test_what_lasted_before_a_reboot_does_not_count_after_it(
    hass: HomeAssistant, host: Host, boot_id: str | None
) -> None:
    # A container that starts again (LXC) has the boot id of its machine: only its uptime begins anew.
    document, sections = host.session.document, host.session.sections

    async def is_full(seconds: float) -> bool:
        await host.move(seconds, step=5)
        return "memory_full" in hass.states.get(PROBLEM).attributes["reasons"]

    await host.start()
    sections["memory"].update(available_bytes=100, free_bytes=50, cached_bytes=10, buffers_bytes=10, shared_bytes=0)
    sections["memory"]["swap_free_bytes"] = 0
    assert not await is_full(240)
    sections["uptime"]["uptime_seconds"] = 5.0
    document["boot_id"] = boot_id or document["boot_id"]
    assert not await is_full(240)
    assert await is_full(90)


async def test_the_device_says_what_the_machine_is(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, HOST_ID), host.entry.entry_id)
    assert device is not None
    assert (device.manufacturer, device.model, device.serial_number) == ("Acme", "Box 1", "S-1")
    assert device.sw_version == "Debian GNU/Linux 12 (bookworm)"
    assert device.connections == {("mac", "02:00:00:00:00:01")}
    host.session.sections["system"]["os_name"] = "Debian GNU/Linux 13 (trixie)"
    await host.move(620, step=5)
    device = dr.async_get(hass).async_get(device.id)
    assert device is not None
    assert device.sw_version == "Debian GNU/Linux 13 (trixie)"


async def test_a_late_section_keeps_its_value_and_a_missing_one_does_not(host: Host) -> None:
    await host.start()
    sensors = host.session.sections.pop("sensors")
    host.session.document["missing"]["sensors"] = "timed_out"
    await host.move(22)
    assert float(host.state("sensor.plain_cpu_temperature")) == 48
    await host.move(30)
    assert host.state("sensor.plain_cpu_temperature") == "unknown"
    host.session.sections["sensors"] = sensors
    del host.session.document["missing"]["sensors"]
    await host.move(31)
    assert float(host.state("sensor.plain_cpu_temperature")) == 48


async def test_unloading_closes_the_session(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    assert host.session.closed == 1
    assert await host.polls(60) == 0


async def test_removing_a_host_deletes_what_was_stored(hass: HomeAssistant, hass_storage, host: Host) -> None:
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    key = f"{DOMAIN}.{host.entry.entry_id}"
    assert key in hass_storage
    await hass.config_entries.async_remove(host.entry.entry_id)
    assert key not in hass_storage


async def test_a_stored_state_that_cannot_be_read_is_moved_aside(
    hass: HomeAssistant, hass_storage, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{DOMAIN}.{host.entry.entry_id}"
    hass_storage[key] = {"version": 1, "minor_version": 1, "key": key, "data": {"snapshot": 5, "inventory": {}}}
    await host.start()
    assert float(host.state(MEMORY)) == 25
    assert hass_storage[f"{key}.unreadable"]["data"]["snapshot"] == 5
    assert "cannot be read" in caplog.text


# ---------------------------------------------------------------- polls that somebody asks for


async def ask_for_updates(host: Host, seconds: int) -> int:
    """Ask every ten seconds, as any user and any automation may; return how many polls came of it."""
    before = len(host.session.asked)
    for _ in range(0, seconds, 10):
        await host.hass.services.async_call(
            "homeassistant", "update_entity", {"entity_id": [CPU, CONNECTIVITY]}, blocking=True
        )
        await host.move(10)
    return len(host.session.asked) - before


@pytest.mark.parametrize("error", [KeyRefused("plain"), CHANGED])
async def test_who_asks_for_polls_neither_suspends_a_host_nor_makes_logins(
    hass: HomeAssistant, host: Host, error: HomelabError
) -> None:
    await async_setup_component(hass, "homeassistant", {})
    await host.start()
    host.session.error = error
    assert await ask_for_updates(host, 50) <= 2
    assert host.status == "offline"
    assert not hass.config_entries.flow.async_progress()
    host.session.error = None
    await host.move(70)
    assert host.status == "online"
    host.session.error = error
    assert await ask_for_updates(host, 600) <= 4, "as many as without asking"


async def test_who_asks_for_polls_uses_up_no_logins_of_a_server_that_limits_them(
    hass: HomeAssistant, host: Host
) -> None:
    await async_setup_component(hass, "homeassistant", {})
    await host.start()
    host.session.error = LoginsLimited("plain", "Not allowed at this time")
    assert await ask_for_updates(host, 2400) <= 28, "as many as without asking"
    host.session.error = None
    await host.move(121, step=10)
    assert host.status == "online"


async def test_a_person_who_did_something_is_not_kept_waiting(host: Host) -> None:
    await host.start()
    host.session.error = KeyRefused("plain")
    await host.move(30)
    host.session.error = None
    await host.entry.runtime_data.async_resume()
    assert host.status == "online"


# ---------------------------------------------------------------- an alarm that somebody wants unseen


async def test_no_flood_before_it_keeps_another_machine_from_being_reported(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture, issue_registry: ir.IssueRegistry
) -> None:
    await host.start()
    for error in [Unreachable("plain"), CHANGED] * 12:
        host.session.error = error
        await host.move(61)
        host.session.error = None
        await host.move(61)
    caplog.clear()
    host.session.error = CHANGED
    await host.move(125)
    assert [level for level, line in logged(caplog) if "key" in line] == [logging.WARNING]
    assert issue_registry.async_get_issue(DOMAIN, f"{host.entry.entry_id}_host_key")


@pytest.mark.parametrize("refused", [True, False])
async def test_a_server_that_closes_at_once_limits_logins_only_if_it_has_refused_some(
    host: Host, *, refused: bool
) -> None:
    """A host that starts behind a forwarded port closes at once as well, and comes back within a minute."""
    await host.start()
    if refused:
        host.session.error = KeyRefused("plain")
        await host.move(10)
    host.session.error = NoGreeting("plain", "it ended the connection without an SSH greeting")
    await host.move(61 if refused else 120, step=10)
    host.session.asked.clear()
    await host.move(600, step=10)
    assert host.reason == ("logins_limited" if refused else "connection_lost")
    assert len(host.session.asked) in (range(1, 4) if refused else range(9, 12))
    host.session.error = None
    await host.move(601 if refused else 70, step=10)
    assert host.status == "online"
