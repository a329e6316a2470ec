"""Testing a host now: the button, the action, and what a report leads to."""

import asyncio
from typing import Any
from unittest.mock import patch

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.homelab_monitor.capability import async_connect, async_test_host
from custom_components.homelab_monitor.client.errors import ConnectionRefused, TimedOut
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.report import CheckResult, Report, Status, Verdict
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host

CHECKS = "custom_components.homelab_monitor.capability.run_checks"
BUTTON = "button.plain_test_now"
GOOD = CheckResult.of("login", Verdict(Status.OK, "logged_in", {"username": "mon"}))
AMBER = CheckResult.of("shell", Verdict(Status.AMBER, "shell_noise", {"line": "<b>hello</b>"}, "quiet_shell"))
RED = CheckResult.of("reachable", Verdict(Status.RED, "timed_out", {"address": "nas", "detail": "connecting"}))


def answering(*rows: CheckResult) -> Any:
    """Let the next tests find these rows."""

    async def run(*_: object) -> tuple[Report, None]:
        return Report(rows=rows, at=1.5, seconds=0.25), None

    return patch(CHECKS, run)


async def test_the_button_tests_and_stores(hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]) -> None:
    await host.start()
    with answering(GOOD, AMBER):
        await hass.services.async_call("button", "press", {"entity_id": BUTTON}, blocking=True)
    stored = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]["last_test"]
    assert (stored["at"], [row["check"] for row in stored["rows"]]) == (1.5, ["login", "shell"])
    assert host.state(BUTTON) != "unavailable"


async def test_the_button_can_be_pressed_while_the_host_is_off(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.error = TimedOut("plain")
    await host.move(120)
    assert host.status == "offline"
    assert host.state(BUTTON) != "unavailable"


async def test_a_passed_test_resumes_polling_at_once(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.error = ConnectionRefused("plain")
    await host.move(300)
    asked = len(host.session.asked)
    host.session.error = None
    with answering(GOOD, AMBER):
        await async_test_host(hass, host.entry)
    assert len(host.session.asked) == asked + 1
    assert host.status == "online"


async def test_a_failed_test_of_a_machine_that_is_off_leaves_its_polling_as_it_is(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    host.session.error = TimedOut("plain")
    await host.move(300)
    asked = len(host.session.asked)
    with answering(RED):
        await async_test_host(hass, host.entry)
    assert len(host.session.asked) == asked
    host.session.error = None
    await host.move(70)
    assert host.status == "online"


async def test_a_test_of_an_online_host_does_not_disturb_its_polling(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    asked = len(host.session.asked)
    with answering(GOOD):
        await async_test_host(hass, host.entry)
    assert len(host.session.asked) == asked
    with answering(GOOD):
        await async_test_host(hass, host.entry, reconnect=True)
    assert len(host.session.asked) == asked + 1


async def test_after_a_new_login_every_section_is_asked_for_at_once(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with answering(GOOD):
        await async_test_host(hass, host.entry, reconnect=True)
    assert host.session.asked[-1][0] == tuple(SECTIONS)


async def test_one_test_at_a_time(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    running, most = 0, 0

    async def run(*_: object) -> tuple[Report, None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Report(rows=(GOOD,)), None

    with patch(CHECKS, run):
        await asyncio.gather(*(async_test_host(hass, host.entry) for _ in range(5)))
    assert most == 1


async def test_the_action_returns_rows_with_their_texts(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with answering(GOOD, AMBER):
        answer = await hass.services.async_call(
            DOMAIN, "test_host", {"config_entry_id": host.entry.entry_id}, blocking=True, return_response=True
        )
    assert (answer["at"], answer["seconds"]) == (1.5, 0.25)
    assert answer["rows"][1] == {
        "check": "shell",
        "status": "amber",
        "reason": "shell_noise",
        "placeholders": {"line": "<b>hello</b>"},
        "remedy": "quiet_shell",
        "text": "Prints text at a login without terminal: <b>hello</b>",
    }


async def test_only_administrators_may_test(hass: HomeAssistant, host: Host, hass_read_only_user: MockUser) -> None:
    await host.start()
    with pytest.raises(Unauthorized):
        await hass.services.async_call(
            DOMAIN,
            "test_host",
            {"config_entry_id": host.entry.entry_id},
            blocking=True,
            return_response=True,
            context=Context(user_id=hass_read_only_user.id),
        )


@pytest.mark.parametrize("entry_id", ["unknown", None])
async def test_a_host_that_is_not_there_cannot_be_tested(hass: HomeAssistant, host: Host, entry_id) -> None:
    await host.start()
    if entry_id is None:
        await hass.config_entries.async_unload(host.entry.entry_id)
    with pytest.raises(ServiceValidationError):
        await hass.services.async_call(
            DOMAIN, "test_host", {"config_entry_id": entry_id or host.entry.entry_id}, blocking=True
        )


async def test_a_host_that_is_not_set_up_says_so(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    with pytest.raises(ServiceValidationError) as raised:
        await async_test_host(hass, host.entry)
    assert str(raised.value) == "plain is not set up, so that it cannot be tested"


async def test_the_action_is_there_before_any_host(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert hass.services.has_service(DOMAIN, "test_host")


async def test_a_connection_for_a_remedy_pins_the_hosts_keys(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with patch("custom_components.homelab_monitor.capability.Connection.open") as opened:
        await async_connect(hass, host.entry)
    target, _, host_keys = opened.await_args.args
    assert (target.username, target.host) == ("mon", "127.0.0.1")
    assert host_keys == tuple(host.entry.data["host_keys"])
