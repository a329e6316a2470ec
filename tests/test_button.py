"""*Test now* and the action `test_host`: who has permission, what is returned, and what a test leads to."""

from collections.abc import Iterator
import time
from unittest.mock import patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components import persistent_notification
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.homelab_monitor.client.checks.evaluation import CHECKS
from custom_components.homelab_monitor.client.checks.report import (
    CheckResult,
    CheckStatus,
    Report,
    Verdict,
    restore_report,
)
from custom_components.homelab_monitor.client.errors import NoPython, Unreachable
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import HostMemory, async_hand_over

from .scripted import HOST_ID, Host

BUTTON = "button.plain_test_now"
DOCKER = CheckResult.of("docker", Verdict(CheckStatus.AMBER, "docker_denied", {"username": "mon"}, "join_docker"))
PYTHON = CheckResult.of("python", Verdict(CheckStatus.RED, "no_python", {}, "install_python"))
LOGIN = CheckResult.of("login", Verdict(CheckStatus.RED, "key_refused", {"username": "mon"}, "authorize"))
GOOD = CheckResult.of("python", Verdict(CheckStatus.OK, "python_found", {"version": "3.11.2", "path": "python3"}))


class Script:
    """What the next tests of the host find, the last one again and again."""

    def __init__(self) -> None:
        self.rows: tuple[CheckResult, ...] = (GOOD,)
        self.asked = 0
        self.at = 5.0

    async def run(self, *_: object, **__: object) -> tuple[Report, None]:
        self.asked += 1
        return Report(rows=self.rows, at=self.at, seconds=0.25), None


@pytest.fixture
def tests() -> Iterator[Script]:
    scripted = Script()
    with patch("custom_components.homelab_monitor.capability.run_checks", scripted.run):
        yield scripted


async def press(hass: HomeAssistant) -> None:
    await hass.services.async_call("button", "press", {"entity_id": BUTTON}, blocking=True)
    await hass.async_block_till_done()


async def ask(hass: HomeAssistant, entry_id: str, context: Context | None = None, **fields: object) -> dict:
    fields = {"config_entry_id": entry_id} | fields
    return await hass.services.async_call(
        DOMAIN, "test_host", fields, blocking=True, return_response=True, context=context
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


async def test_a_test_lets_the_polls_of_a_host_log_in_anew_once_a_minute_at_most(
    hass: HomeAssistant, host: Host, tests: Script, freezer: FrozenDateTimeFactory
) -> None:
    """What was allowed by hand counts for a new login: groups, and a rule for what sudo has refused to the probe."""
    await host.start()
    asked = len(host.session.asked)
    await press(hass)
    await press(hass)
    assert tests.asked == 2
    assert (host.session.disconnected, len(host.session.asked)) == (1, asked + 1)
    freezer.tick(61)
    await press(hass)
    assert host.session.disconnected == 2


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
    assert (response["at"], response["seconds"], response["result"]) == (5.0, 0.25, "amber")
    assert [(row["check"], row["status"], row["text"]) for row in response["rows"]] == [
        ("python", "ok", "3.11.2 (python3)"),
        (
            "docker",
            "amber",
            (
                "mon has no access to the Docker socket. Members of the group docker have access, which is "
                "equivalent to root"
            ),
        ),
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


# ---------------------------------------------------------------- what remains to be seen

LAST_TEST = "sensor.plain_last_test"
LATE = CheckResult.of("probe", Verdict(CheckStatus.AMBER, "section_timed_out", {"sections": "updates"}))
HOSTILE = CheckResult.of("shell", Verdict(CheckStatus.AMBER, "shell_noise", {"line": "[evil](x)"}, "quiet_shell"))


def notifications(hass: HomeAssistant) -> list[tuple[str, str]]:
    found = persistent_notification._async_get_or_create_notifications(hass).values()
    return [(each["title"], each["message"]) for each in found]


@pytest.mark.parametrize(
    ("rows", "result"),
    [
        ((GOOD,), "ok"),
        ((GOOD, DOCKER), "amber"),
        ((DOCKER, PYTHON, GOOD), "red"),
        ((CheckResult.of("gpu", Verdict(CheckStatus.INFO, "no_gpu")), GOOD), "ok"),
        ((CheckResult.of("gpu", Verdict(CheckStatus.UNKNOWN, "not_asked")), GOOD), "ok"),
    ],
    ids=["good", "amber", "red", "info", "unknown"],
)
async def test_a_test_can_be_seen_afterwards(
    hass: HomeAssistant, host: Host, tests: Script, rows: tuple[CheckResult, ...], result: str
) -> None:
    await host.start()
    assert hass.states.get(LAST_TEST) is None, "nobody has tested it yet"
    tests.rows = rows
    await press(hass)
    state = hass.states.get(LAST_TEST)
    assert state is not None
    assert (state.state, state.attributes["tested"]) == (result, "1970-01-01T00:00:05+00:00")
    assert state.attributes["checks"] == {row.check: row.status.value for row in rows}
    assert state.attributes["options"] == ["ok", "amber", "red"]


async def test_the_last_test_holds_every_check_and_no_word_of_the_host(
    hass: HomeAssistant, host: Host, tests: Script, entity_registry: er.EntityRegistry
) -> None:
    await host.start()
    word = {"line": "hostile", "detail": "hostile", "address": "hostile"}
    tests.rows = tuple(CheckResult.of(check.key, Verdict(CheckStatus.AMBER, "shell_noise", word)) for check in CHECKS)
    await press(hass)
    state = hass.states.get(LAST_TEST)
    assert state is not None
    assert state.attributes["checks"] == {check.key: "amber" for check in CHECKS}
    assert "hostile" not in str(state.as_dict())
    assert "checks" in state.state_info["unrecorded_attributes"]
    assert entity_registry.async_get(LAST_TEST).entity_category == "diagnostic"


async def test_the_same_result_again_is_written_with_its_time(hass: HomeAssistant, host: Host, tests: Script) -> None:
    await host.start()
    await press(hass)
    host.freezer.tick(30)
    with patch.object(tests, "at", 35.0):
        await press(hass)
    assert hass.states.get(LAST_TEST).attributes["tested"] == "1970-01-01T00:00:35+00:00"


async def test_the_last_test_survives_a_restart_and_is_shown_while_the_host_is_off(
    hass: HomeAssistant, host: Host, tests: Script
) -> None:
    await host.start()
    tests.rows = (GOOD, DOCKER)
    await press(hass)
    before = hass.states.get(LAST_TEST)
    host.session.error = Unreachable("plain")
    await host.reload()
    await host.move(90, step=5)
    assert host.status == "offline"
    after = hass.states.get(LAST_TEST)
    assert (after.state, after.attributes) == (before.state, before.attributes)


async def test_the_test_of_the_dialog_is_the_first_one(hass: HomeAssistant, host: Host) -> None:
    report = Report(rows=(GOOD, DOCKER), at=5.0, seconds=0.25)
    async_hand_over(hass, HOST_ID, HostMemory(last_test=report.as_dict(), seen=time.monotonic()))
    await host.start()
    assert host.state(LAST_TEST) == "amber"


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1, 10**400, "5", None])
async def test_a_time_that_is_none_is_no_test(at: object) -> None:
    assert restore_report(Report(rows=(GOOD,), at=5.0).as_dict() | {"at": at}) is None


async def test_a_notification_comes_only_where_it_is_asked_for(hass: HomeAssistant, host: Host, tests: Script) -> None:
    await host.start()
    tests.rows = (GOOD, HOSTILE, LOGIN)
    await press(hass)
    await ask(hass, host.entry.entry_id)
    assert notifications(hass) == []
    await ask(hass, host.entry.entry_id, notify=True)
    lines = ["\u26a0\ufe0f Login shell: the login shell prints text", "\u274c Login"]
    fix = "Settings > Repairs explains how to fix this."
    assert notifications(hass) == [("Test of plain: failed", "\n\n".join([*lines, fix]))]
    tests.rows = (GOOD, LATE)
    await ask(hass, host.entry.entry_id, notify=True)
    late = "\u26a0\ufe0f Probe: some values are not read in time"
    assert notifications(hass) == [("Test of plain: passed with warnings", late)], "there is no repair of it"
    tests.rows = (GOOD,)
    await ask(hass, host.entry.entry_id, notify=True)
    well = "This host can be monitored without problems."
    assert notifications(hass) == [("Test of plain: passed", well)], "the new one takes the place of the old one"
