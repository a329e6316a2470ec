"""*Test now* and the action `test_host`: who may, what comes back, and what a test leads to."""

from collections.abc import Iterator
from unittest.mock import patch

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.homelab_monitor.client.errors import NoPython, Unreachable
from custom_components.homelab_monitor.client.report import CheckResult, Report, Status, Verdict
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import HOST_ID, Host

BUTTON = "button.plain_test_now"
DOCKER = CheckResult.of("docker", Verdict(Status.AMBER, "docker_denied", {"username": "mon"}, "join_docker"))
PYTHON = CheckResult.of("python", Verdict(Status.RED, "no_python", {}, "install_python"))
LOGIN = CheckResult.of("login", Verdict(Status.RED, "key_refused", {"username": "mon"}, "authorize"))
GOOD = CheckResult.of("python", Verdict(Status.OK, "python_found", {"version": "3.11.2", "path": "python3"}))


class Script:
    """What the next tests of the host find, the last one again and again."""

    def __init__(self) -> None:
        self.rows: tuple[CheckResult, ...] = (GOOD,)
        self.asked = 0

    async def run(self, *_: object, **__: object) -> tuple[Report, None]:
        self.asked += 1
        return Report(rows=self.rows, at=5.0, seconds=0.25), None


@pytest.fixture
def tests() -> Iterator[Script]:
    scripted = Script()
    with patch("custom_components.homelab_monitor.capability.run_checks", scripted.run):
        yield scripted


async def press(hass: HomeAssistant) -> None:
    await hass.services.async_call("button", "press", {"entity_id": BUTTON}, blocking=True)
    await hass.async_block_till_done()


async def ask(hass: HomeAssistant, entry_id: str, context: Context | None = None) -> dict:
    return await hass.services.async_call(
        DOMAIN, "test_host", {"config_entry_id": entry_id}, blocking=True, return_response=True, context=context
    )


def issues(hass: HomeAssistant) -> set[str]:
    return {key.rpartition("_")[2] for domain, key in ir.async_get(hass).issues if domain == DOMAIN}


# ---------------------------------------------------------------- the button


async def test_the_button_is_for_diagnosis_and_can_be_pressed_while_the_host_is_off(
    hass: HomeAssistant, host: Host, tests: Script, entity_registry: er.EntityRegistry
) -> None:
    host.session.error = Unreachable("plain")
    await host.start()
    assert host.state(BUTTON) == "unknown"
    button = entity_registry.async_get(BUTTON)
    assert (button.unique_id, button.entity_category) == (f"{HOST_ID}_host_test", "diagnostic")
    await press(hass)
    assert tests.asked == 1
    assert host.state(BUTTON) not in ("unknown", "unavailable")


async def test_a_test_is_stored_at_once_and_its_rows_become_issues(
    hass: HomeAssistant, hass_storage: dict, host: Host, tests: Script
) -> None:
    await host.start()
    tests.rows = (GOOD, DOCKER)
    await press(hass)
    assert issues(hass) == {"docker"}
    stored = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]["last_test"]
    assert (stored["at"], [row["check"] for row in stored["rows"]]) == (5.0, ["python", "docker"])


async def test_a_passed_test_resumes_polling_and_a_red_one_does_not(
    hass: HomeAssistant, host: Host, tests: Script
) -> None:
    host.session.error = NoPython("plain")
    await host.start()
    assert host.status == "suspended"
    assert issues(hass) == {"python"}
    host.session.error = None
    asked = len(host.session.asked)
    tests.rows = (PYTHON,)
    await press(hass)
    assert (host.status, len(host.session.asked)) == ("suspended", asked)
    tests.rows = (GOOD, DOCKER)
    await press(hass)
    assert host.status == "online"
    assert issues(hass) == {"docker"}


async def test_a_test_of_a_host_that_is_online_asks_for_no_poll(hass: HomeAssistant, host: Host, tests: Script) -> None:
    await host.start()
    asked = len(host.session.asked)
    await press(hass)
    assert tests.asked == 1
    assert len(host.session.asked) == asked


async def test_a_refused_login_asks_to_authenticate_again_and_is_no_issue(
    hass: HomeAssistant, host: Host, tests: Script
) -> None:
    await host.start()
    tests.rows = (LOGIN,)
    await press(hass)
    assert [flow["context"]["source"] for flow in hass.config_entries.flow.async_progress()] == ["reauth"]
    assert issues(hass) == set()


# ---------------------------------------------------------------- the action


async def test_the_action_returns_the_rows_with_their_texts(hass: HomeAssistant, host: Host, tests: Script) -> None:
    await host.start()
    tests.rows = (GOOD, DOCKER)
    response = await ask(hass, host.entry.entry_id)
    assert (response["at"], response["seconds"]) == (5.0, 0.25)
    assert [(row["check"], row["status"], row["text"]) for row in response["rows"]] == [
        ("python", "ok", "3.11.2 (python3)"),
        ("docker", "amber", "mon may not ask it. Membership in the group docker allows that; it equals root rights"),
    ]
    assert issues(hass) == {"docker"}


async def test_the_action_is_for_administrators(
    hass: HomeAssistant, host: Host, tests: Script, hass_read_only_user: MockUser, hass_admin_user: MockUser
) -> None:
    await host.start()
    with pytest.raises(Unauthorized):
        await ask(hass, host.entry.entry_id, Context(user_id=hass_read_only_user.id))
    assert tests.asked == 0
    assert (await ask(hass, host.entry.entry_id, Context(user_id=hass_admin_user.id)))["rows"]


async def test_the_action_exists_before_the_first_host(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert hass.services.has_service(DOMAIN, "test_host")
    with pytest.raises(ServiceValidationError):
        await ask(hass, "unknown")


async def test_a_host_that_is_not_set_up_cannot_be_tested(hass: HomeAssistant, host: Host, tests: Script) -> None:
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    with pytest.raises(HomeAssistantError):
        await ask(hass, host.entry.entry_id)
    assert tests.asked == 0
