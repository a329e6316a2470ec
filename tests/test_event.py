"""Events reach automations: through a real `event.received` trigger, once each."""

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
import pytest

from custom_components.homelab_monitor.audience import RELOAD_SECONDS
from custom_components.homelab_monitor.client.control.control import RunAction
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.controls import async_control_service

from .scripted import Host

EVENTS = "event.plain_events"


@pytest.fixture
async def told(hass: HomeAssistant) -> list[tuple[str, dict[str, object]]]:
    """Return what an automation that waits for every event is told."""
    found: list[tuple[str, dict[str, object]]] = []

    async def note(call) -> None:
        found.append((call.data["type"], dict(call.data["attributes"])))

    hass.services.async_register("test", "note", note)
    types = ["host_offline", "host_online", "rebooted", "service_failed", "service_recovered", "gpu_lost"]
    automation = {
        "alias": "Everything",
        "mode": "queued",
        "triggers": [
            {"trigger": "event.received", "target": {"entity_id": EVENTS}, "options": {"event_type": types}},
        ],
        "actions": [
            {
                "action": "test.note",
                "data": {
                    "type": "{{ trigger.to_state.attributes.event_type }}",
                    "attributes": "{{ dict(trigger.to_state.attributes) }}",
                },
            }
        ],
    }
    assert await async_setup_component(hass, "automation", {"automation": [automation]})
    return found


def types(told: list[tuple[str, dict[str, object]]]) -> list[str]:
    return [kind for kind, _ in told]


async def test_a_host_that_goes_and_comes_back_is_reported_once_each(host: Host, told) -> None:
    await host.start()
    await host.move(20)
    assert told == []
    host.session.error = Unreachable("plain")
    await host.move(300, step=5)
    assert types(told) == ["host_offline"]
    assert told[0][1]["reason"] == "unreachable"
    assert told[0][1]["host"] == "plain"
    assert "expected" not in told[0][1]
    host.session.error = None
    await host.move(70)
    assert types(told) == ["host_offline", "host_online"]


async def test_a_host_is_reported_by_the_name_that_people_give_it(hass: HomeAssistant, host: Host, told) -> None:
    await host.start()
    hass.config_entries.async_update_entry(host.entry, title="Attic")
    unit = host.session.sections["services"]["units"][0]
    unit["active_state"] = "active"
    await host.move(35)
    unit["active_state"] = "failed"
    await host.move(35)
    assert told[-1][1]["host"] == "Attic"
    (device,) = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, host.entry.unique_id)})
    dr.async_get(hass).async_update_device(device.id, name_by_user="NAS")
    unit["active_state"] = "active"
    await host.move(35)
    assert told[-1][1]["host"] == "NAS"
    with pytest.raises(HomeAssistantError, match="of Attic cannot be controlled"):
        await async_control_service(host.entry.runtime_data, "nginx", RunAction.STOP)


async def test_a_host_that_may_be_off_says_so(host: Host, told) -> None:
    await host.start(may_be_off=True)
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert told[0][1]["expected"] is True


async def test_what_a_poll_reported_is_not_reported_again_by_another_look(host: Host, told) -> None:
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    await host.start()
    coordinator = host.entry.runtime_data
    units[0]["active_state"] = "failed"
    while not told:
        await host.move(1)
    (filesystem, *_) = coordinator.inventory.items["filesystem"]
    coordinator.async_forget("filesystem", filesystem)
    coordinator.async_notify_listeners()
    await host.hass.async_block_till_done(wait_background_tasks=True)
    assert types(told) == ["service_failed"]


async def test_a_service_that_fails_and_recovers_is_reported_once_each(host: Host, told) -> None:
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    await host.start()
    await host.move(35)
    units[0]["active_state"] = "failed"
    await host.move(120)
    # A host that cannot be reached, and then a list that cannot be read, end no failure and begin no new one.
    host.session.error = Unreachable("plain")
    await host.move(60)
    host.session.error = None
    host.session.document["missing"]["services"] = "timed_out"
    await host.move(200)
    del host.session.document["missing"]["services"]
    await host.move(60)
    units[0]["active_state"] = "active"
    await host.move(61)
    about_unit = [(kind, about["service"], about["host"]) for kind, about in told if "service" in about]
    assert about_unit == [
        ("service_failed", "backup.service", "plain"),
        ("service_recovered", "backup.service", "plain"),
    ]
    assert types(told) == ["service_failed", "host_offline", "host_online", "service_recovered"]


async def test_two_changes_in_one_poll_are_two_events(host: Host, told) -> None:
    await host.start()
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    units[1]["active_state"] = "active"
    await host.move(35)
    assert sorted(str(attributes["service"]) for _, attributes in told) == ["backup.service", "cups.service"]
    assert types(told) == ["service_recovered", "service_recovered"]


async def test_what_changed_while_home_assistant_was_down_is_silent_but_a_reboot(
    hass: HomeAssistant,
    host: Host,
    told,
) -> None:
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    host.session.document["boot_id"] = "another"
    # Longer than a reload takes, after which the last look still counts.
    await host.move(RELOAD_SECONDS + 10, step=10)
    await host.start_again()
    await host.move(60)
    assert types(told) == ["rebooted"]


async def test_a_host_that_is_off_when_home_assistant_starts_is_no_news_until_it_comes(
    hass: HomeAssistant,
    host: Host,
    told,
) -> None:
    host.session.error = Unreachable("plain")
    await host.start()
    await host.move(100)
    assert told == []
    host.session.error = None
    await host.move(61)
    assert types(told) == ["host_online"]


async def test_problems_have_their_reasons(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    problem = hass.states.get("binary_sensor.plain_problem")
    assert problem is not None
    assert problem.state == "on"
    assert problem.attributes["reasons"] == ["service_failed backup.service", "service_failed cups.service"]
    host.session.sections["services"]["units"] = []
    await host.move(61)
    problem = hass.states.get("binary_sensor.plain_problem")
    assert problem is not None
    assert (problem.state, problem.attributes["reasons"]) == ("off", [])


async def test_a_chosen_threshold_is_a_problem_once_it_lasts_and_until_it_is_clearly_over(host: Host) -> None:
    host.session.sections["services"]["units"] = []
    memory = host.session.sections["memory"]

    def fill(percent: float) -> None:
        memory["available_bytes"] = round(memory["total_bytes"] * (1 - percent / 100))

    await host.start(memory_threshold=80)
    assert host.state("binary_sensor.plain_problem") == "off"
    for percent, seconds, expected in (
        (81, 290, "off"),  # not for long enough
        (79, 20, "off"),  # and then it starts anew
        (81, 290, "off"),
        (81, 30, "on"),
        (79, 60, "on"),  # not clearly over
        (77, 20, "off"),
        (79, 400, "off"),  # not over it again
    ):
        fill(percent)
        await host.move(seconds, step=5)
        assert host.state("binary_sensor.plain_problem") == expected, (percent, seconds)


async def test_what_fails_in_the_boot_after_a_restart_of_home_assistant_is_reported(
    hass: HomeAssistant, host: Host, told
) -> None:
    """A PC is switched off in the evening, Home Assistant is restarted, and in the morning a service fails there."""
    units = host.session.sections["services"]["units"]
    for unit in units:
        unit["active_state"] = "active"
    await host.start(may_be_off=True)
    await host.move(60)
    host.session.error = Unreachable("plain")
    await host.move(RELOAD_SECONDS, step=5)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await host.move(RELOAD_SECONDS + 10, step=10)
    await host.start_again()
    told.clear()
    await host.move(3600, step=60)
    host.session.error = None
    units[0]["active_state"] = "failed"
    host.session.document["boot_id"] = "another"
    host.session.sections["uptime"]["uptime_seconds"] = 40.0
    await host.move(310, step=5)
    assert types(told)[-3:] == ["host_online", "rebooted", "service_failed"]
