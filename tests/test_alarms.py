"""Somebody answers in the place of a host once: whoever sees it says so, and it leaves traces."""

import ast
from collections.abc import Awaitable, Callable, Iterator
import logging
from pathlib import Path
from unittest.mock import AsyncMock, patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import CoreState, Event, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events

from custom_components.homelab_monitor.capability import async_test_host
from custom_components.homelab_monitor.client.control import control
from custom_components.homelab_monitor.client.control.control import PowerAction
from custom_components.homelab_monitor.client.errors import (
    ALARMS,
    AnotherMachine,
    ConnectionLost,
    HomelabError,
    HostKeyChanged,
    Unreachable,
)
from custom_components.homelab_monitor.client.transport.ssh import OfferedKey
from custom_components.homelab_monitor.controls import async_control_power, async_read_service_log
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.flow import moves
from custom_components.homelab_monitor.installation import HostInstallation

from .scripted import CONNECTIVITY, Host, ScriptedShell
from .test_coordinator import ANSWERS, logged, repairs
from .test_moves import OTHER_KEY
from .test_upgrade import shell

SOURCES = Path(moves.__file__).parents[1]


@pytest.fixture
def told(hass: HomeAssistant) -> Callable[[], list[tuple[str, str | None]]]:
    """Return what the host's event entity has told: types and reasons, each once."""
    changes: list[Event] = async_capture_events(hass, "state_changed")

    def tell() -> list[tuple[str, str | None]]:
        states = [each.data["new_state"] for each in changes if each.data["entity_id"] == "event.plain_events"]
        events = dict.fromkeys(
            (state.state, state.attributes["event_type"], state.attributes.get("reason"))
            for state in states
            if state and state.attributes.get("event_type")
        )
        return [(kind, reason) for _, kind, reason in events]

    return tell


@ANSWERS
@pytest.mark.parametrize("may_be_off", [False, True])
@pytest.mark.parametrize("is_short", [False, True], ids=["lasting", "one answer"])
async def test_an_alarm_while_home_assistant_starts_leaves_its_traces(  # noqa: PLR0913, PLR0917
    hass: HomeAssistant,
    host: Host,
    caplog: pytest.LogCaptureFixture,
    told: Callable[[], list[tuple[str, str | None]]],
    answer: HomelabError,
    issue: str,
    may_be_off: bool,
    is_short: bool,
) -> None:
    await host.start(may_be_off=may_be_off)
    await host.move(15)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    caplog.clear()
    host.session.error = answer
    await host.start_again()
    assert (host.state(CONNECTIVITY), host.status, repairs(host)) == ("off", "offline", {issue})
    assert logged(caplog) == [(logging.WARNING, f"plain is offline: {answer}")]
    assert told() == [], "nobody listens yet"
    if is_short:
        host.session.error = None
        await host.move(65)
        assert host.state(CONNECTIVITY) == "on"
    await hass.async_start()
    await hass.async_block_till_done(wait_background_tasks=True)
    await host.move(10)
    assert told() == [("host_offline", answer.key), *([("host_online", None)] if is_short else [])]
    await host.move(200, step=5)
    assert [line for level, line in logged(caplog) if level == logging.WARNING] == [f"plain is offline: {answer}"]


async def ask_again(coordinator: HomelabCoordinator) -> None:
    """Ask for what a control has changed."""
    await coordinator.async_poll_section("services")


async def read_log(coordinator: HomelabCoordinator) -> None:
    """Ask for something on demand, over a probe of its own."""
    with pytest.raises(HomeAssistantError):
        await async_read_service_log(coordinator, "ssh.service", 5)


async def look_at_upgrade(coordinator: HomelabCoordinator) -> None:
    """Look after a job of the host."""
    HostInstallation(coordinator).async_polled()
    await coordinator.hass.async_block_till_done(wait_background_tasks=True)


async def run_test(coordinator: HomelabCoordinator) -> None:
    """Test the host through a session of its own."""
    with patch("custom_components.homelab_monitor.capability.async_new_session", return_value=coordinator.session):
        is_login = isinstance(coordinator.session.error, HostKeyChanged)
        coordinator.session.connect = AsyncMock(side_effect=coordinator.session.error if is_login else None)
        await async_test_host(coordinator.hass, coordinator.config_entry)


async def list_services(coordinator: HomelabCoordinator) -> None:
    """Open the options, whose list of services is asked for."""
    flow = coordinator.hass.config_entries.options
    opened = await flow.async_init(coordinator.config_entry.entry_id)
    flow.async_abort(opened["flow_id"])


async def judge_anew(coordinator: HomelabCoordinator) -> None:
    """Ask for the facts, as once a day."""
    coordinator.session.connect = AsyncMock(side_effect=coordinator.session.error)
    error, coordinator.session.error = coordinator.session.error, None
    coordinator.health_monitor._evaluated_at = None
    await coordinator.async_refresh()
    await coordinator.hass.async_block_till_done(wait_background_tasks=True)
    coordinator.session.error = error


async def look_after_a_shutdown(coordinator: HomelabCoordinator) -> None:
    """Have the connection of a shutdown cut: the machine is looked at again, over a new one."""
    told = coordinator.session.shell = ScriptedShell()
    told.say("uid=0 systemd /usr/bin/systemctl life=boot.17")
    cut = ConnectionLost("plain", "while a command ran")
    cut.had_begun = True
    told.answers.append(cut)
    told.again_error, coordinator.session.error = coordinator.session.error, None
    with patch.object(control, "_REST_SECONDS", 0.0), pytest.raises(HomeAssistantError, match="may have run") as raised:
        await async_control_power(coordinator, PowerAction.SHUT_DOWN)
    assert "()" not in str(raised.value)
    coordinator.session.error = told.again_error


@ANSWERS
@pytest.mark.parametrize("may_be_off", [False, True])
@pytest.mark.parametrize(
    "meet",
    [look_after_a_shutdown, ask_again, read_log, look_at_upgrade, run_test, list_services, judge_anew],
    ids=lambda each: each.__name__,
)
async def test_whoever_meets_another_machine_beside_the_polls_raises_the_alarm(  # noqa: PLR0913, PLR0917
    host: Host,
    caplog: pytest.LogCaptureFixture,
    told: Callable[[], list[tuple[str, str | None]]],
    answer: HomelabError,
    issue: str,
    may_be_off: bool,
    meet: Callable[[HomelabCoordinator], Awaitable[None]],
) -> None:
    shell(host)
    await host.start(may_be_off=may_be_off, install_updates=True, power=True)
    await host.move(15)
    caplog.clear()
    host.session.error = answer
    await meet(host.entry.runtime_data)
    host.session.error = None
    await host.hass.async_block_till_done()
    assert (host.state(CONNECTIVITY), host.reason, repairs(host)) == ("off", answer.key, {issue})
    assert told() == [("host_offline", answer.key)]
    assert logged(caplog) == [(logging.WARNING, f"plain is offline: {answer}")]
    await host.move(130, step=5)
    assert (host.status, repairs(host)) == ("online", set())
    assert told()[-1] == ("host_online", None)


async def test_a_look_at_the_known_address_that_finds_another_key_raises_the_alarm(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    caplog.clear()
    with patch.object(moves, "async_read_host_key", AsyncMock(return_value=OfferedKey(OTHER_KEY, ""))):
        moves.async_follow(hass, host.entry, "127.0.0.9")
        await hass.async_block_till_done(wait_background_tasks=True)
    assert (host.state(CONNECTIVITY), host.reason) == ("off", "host_key_changed")
    ((level, line),) = logged(caplog)
    assert level == logging.WARNING
    assert "host key changed" in line


async def test_who_asks_again_and_again_neither_repeats_the_alarm_nor_suspends_the_host(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    caplog.clear()
    host.session.error = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
    for _ in range(10):
        await host.entry.runtime_data.async_poll_section("services")
    assert len(logged(caplog)) == 1
    assert host.status == "offline"
    host.session.error = None
    await host.move(65)
    assert host.status == "online"


async def test_another_error_beside_the_polls_is_left_to_them_and_none_is_taken_for_an_entry_that_is_over(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    coordinator = host.entry.runtime_data
    caplog.clear()
    host.session.error = Unreachable("plain")
    await coordinator.async_poll_section("services")
    assert host.status == "online"
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    assert host.entry.state is ConfigEntryState.NOT_LOADED
    host.session.error = AnotherMachine("plain")
    await coordinator.async_poll_section("services")
    coordinator.async_alarm(host.session.error)
    assert logged(caplog) == []


KEPT = {
    ("flow/connection.py", "async_is_there"),  # Whether it is there is the question: another one is no surprise.
    ("flow/connection.py", "async_require_proof"),
    ("coordinator.py", "_async_update_data"),  # The polls: what the alarm is taken for.
    ("flow/moves.py", "_async_is_silent"),  # It compares the key itself, and says it.
    ("flow/onboarding.py", "_async_failure"),
    ("repairs.py", "_async_read_key"),  # It compares the key itself, and says it.
    ("repairs.py", "_async_unproven"),  # About the key that a person has just accepted.
    ("client/checks/testing.py", "gather"),  # It is in the evidence, whose report raises it.
    ("client/checks/testing.py", "_dry_run"),
    # Over a login with a password: nobody is compared, none is opened.
    ("client/transport/ignored_key.py", "why_ignored"),
    ("client/probe/process.py", "explain_silence"),  # It is returned, and raised.
    ("client/probe/process.py", "see_end"),  # The end of a probe that has been compared.
    ("client/transport/ssh.py", "_check_host_key"),  # A handshake only shows a key; this is who compares it.
    ("client/transport/wire.py", "buffer_updated"),  # What costs too much; nobody was compared there.
    ("client/transport/wire.py", "_take_packet"),
}
"""Who is not about a host that is known, or hands it on in another way."""


def test_nobody_who_takes_an_error_of_a_host_keeps_an_alarm_to_themselves() -> None:
    quiet = set()
    for path in SOURCES.rglob("*.py"):
        if "probes" in path.relative_to(SOURCES).parts:
            continue  # They run on the host.
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and _keeps_alarms(function):
                quiet.add((path.relative_to(SOURCES).as_posix(), function.name))
    assert quiet == KEPT


def _keeps_alarms(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function may take an alarm and hand it on to nobody."""
    for each in ast.walk(function):
        if isinstance(each, ast.Try) and any(map(_is_kept, _who_take_alarms(each))):
            return True
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "suppress" and _takes_alarms(each):
            return True
    return False


def _who_take_alarms(tried: ast.Try) -> Iterator[ast.ExceptHandler]:
    """Yield the handlers that an alarm may come to: none behind the first that takes all of them."""
    for handler in tried.handlers:
        if handler.type is None or _takes_alarms(handler.type):
            yield handler
            if handler.type is None or {"ALARMS", *ALL} & _names(handler.type):
                return


ALL = {"HomelabError", "Exception", "BaseException"}


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _takes_alarms(node: ast.AST) -> bool:
    """Tell whether an alarm is among the errors that are named."""
    return bool({"ALARMS", *(alarm.__name__ for alarm in ALARMS), *ALL} & _names(node))


def _is_kept(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler neither raises the alarm nor the error."""
    said = ast.unparse(ast.Module(handler.body, []))
    return "async_alarm(" not in said and not said.rstrip().endswith("raise")
