"""Testing a host now: the button, the action, and what a report leads to."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.homelab_monitor.capability import (
    _async_test,
    _Test,
    async_connect,
    async_take_report,
    async_test_host,
)
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import ConnectionRefused, TimedOut
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.settings import HostAddress

from .between import Between
from .real_host import RealHost
from .scripted import Host
from .sshd import Sshd, make_sshd  # noqa: F401

CHECKS = "custom_components.homelab_monitor.capability.run_checks"
BUTTON = "button.plain_test_now"
GOOD = CheckResult.of("login", Verdict(CheckStatus.OK, "logged_in", {"username": "mon"}))
AMBER = CheckResult.of("shell", Verdict(CheckStatus.AMBER, "shell_noise", {"line": "<b>hello</b>"}, "quiet_shell"))
BAD_RULE = CheckResult.of("updates_rule", Verdict(CheckStatus.RED, "updates_rule_old", {}, "remove_updates_rule"))
RED = CheckResult.of("reachable", Verdict(CheckStatus.RED, "timed_out", {"address": "nas", "detail": "connecting"}))


def answering(*rows: CheckResult) -> Any:
    """Let the next tests find these rows."""

    async def run(*_: object, **__: object) -> tuple[Report, None]:
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


@pytest.mark.parametrize("found", [AMBER, BAD_RULE], ids=["amber", "beside monitoring"])
async def test_a_passed_test_resumes_polling_at_once(hass: HomeAssistant, host: Host, found: CheckResult) -> None:
    await host.start()
    host.session.error = ConnectionRefused("plain")
    await host.move(300)
    asked = len(host.session.asked)
    host.session.error = None
    with answering(GOOD, found):
        await async_test_host(hass, host.entry)
    assert len(host.session.asked) == asked + 1
    assert host.status == "online"


async def test_a_test_that_shall_reconnect_is_not_that_of_a_button_pressed_in_the_same_moment(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    with answering(GOOD), patch.object(host.entry.runtime_data, "async_reconnect") as reconnect:
        await asyncio.gather(async_test_host(hass, host.entry), async_test_host(hass, host.entry, reconnect=True))
    reconnect.assert_awaited_once_with()


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


async def test_a_test_whose_login_is_cut_asks_nobody_to_log_in_again(
    hass: HomeAssistant,
    socket_enabled: None,
    make_sshd: Callable[..., Sshd],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_sshd()
    async with Between(server.port) as between:
        here = RealHost(hass, SimpleNamespace(port=between.port, key=server.key, host_keys=server.host_keys))
        await here.start()
        between.begin_when_accepted(monkeypatch, "fin")
        with patch("custom_components.homelab_monitor.sessions.async_get_key", return_value=server.key):
            report = await async_test_host(hass, here.entry)
        assert not hass.config_entries.flow.async_progress()
        await here.stop()
    (red,) = [row for row in report.rows if row.status is CheckStatus.RED]
    assert (red.check, red.reason) == ("reachable", "connection_lost")
    assert red.placeholders["detail"] == "after it accepted the key"


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


class Slow:
    """Tests that end when a test of ours lets them."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.running = 0
        self.most = 0
        self.may_end = asyncio.Event()

    async def run(self, _session: object, _target: object, _keys: object, progress: Any, **_: object) -> Any:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        if progress:
            progress(0.5)
        try:
            await self.may_end.wait()
        finally:
            self.running -= 1
        self.ended += 1
        return Report(rows=(GOOD,), at=float(self.begun)), None


@pytest.fixture
def slow() -> Iterator[Slow]:
    scripted = Slow()
    with patch(CHECKS, scripted.run):
        yield scripted


async def begun(slow: Slow, count: int = 1) -> None:
    """Wait until so many tests have begun."""
    async with asyncio.timeout(30):
        while slow.begun < count:
            await asyncio.sleep(0)


async def test_who_asks_while_a_host_is_tested_gets_the_result_of_that_test(
    hass: HomeAssistant, host: Host, slow: Slow
) -> None:
    await host.start()
    presses = [
        asyncio.create_task(hass.services.async_call("button", "press", {"entity_id": BUTTON}, blocking=True))
        for _ in range(60)
    ]
    await begun(slow)
    seen: list[float] = []
    asked = asyncio.create_task(async_test_host(hass, host.entry, seen.append))
    await asyncio.sleep(0)
    slow.may_end.set()
    assert (await asked).at == 1.0
    await asyncio.gather(*presses)
    assert slow.begun == 1
    await async_test_host(hass, host.entry, seen.append)
    assert (slow.begun, seen) == (2, [0.5])


async def test_who_tests_a_host_without_end_is_told_to_wait(hass: HomeAssistant, host: Host, slow: Slow) -> None:
    """Each test is a login, and a refused one brings servers to shut Home Assistant out."""
    await host.start()
    slow.may_end.set()
    for _ in range(5):
        await async_test_host(hass, host.entry)
    for _ in range(3):
        with pytest.raises(ServiceValidationError, match="Wait a minute"):
            await async_test_host(hass, host.entry)
    assert slow.begun == 5
    await async_test_host(hass, host.entry, reconnect=True)
    assert slow.begun == 6, "after a repair a host is tested all the same"
    await host.move(61, step=10)
    await host.move(10)
    await async_test_host(hass, host.entry)
    assert slow.begun == 7


async def test_what_was_changed_on_a_host_is_tested_by_what_begins_after_it(
    hass: HomeAssistant, host: Host, slow: Slow
) -> None:
    await host.start()
    first = asyncio.create_task(async_test_host(hass, host.entry))
    await begun(slow)
    after = [asyncio.create_task(async_test_host(hass, host.entry, reconnect=True)) for _ in range(10)]
    await asyncio.sleep(0)
    late = asyncio.create_task(async_test_host(hass, host.entry))
    await asyncio.sleep(0)
    slow.may_end.set()
    assert (await first).at == 1.0
    assert {report.at for report in await asyncio.gather(*after, late)} == {2.0}
    assert (slow.begun, slow.most) == (2, 1)


async def test_who_goes_away_ends_no_test_that_others_wait_for(hass: HomeAssistant, host: Host, slow: Slow) -> None:
    await host.start()
    first, second = (asyncio.create_task(async_test_host(hass, host.entry)) for _ in range(2))
    await begun(slow)
    first.cancel()
    await asyncio.wait({first})
    slow.may_end.set()
    assert (await second).at == 1.0
    assert slow.begun == 1


async def test_a_test_that_nobody_waits_for_is_given_up(hass: HomeAssistant, host: Host, slow: Slow) -> None:
    await host.start()
    first = asyncio.create_task(async_test_host(hass, host.entry))
    await begun(slow)
    first.cancel()
    await asyncio.wait({first})
    second = asyncio.create_task(async_test_host(hass, host.entry))
    await begun(slow, 2)
    assert (slow.running, slow.most) == (1, 1)
    slow.may_end.set()
    await second
    assert slow.ended == 1


async def test_a_test_that_waits_for_its_turn_is_not_begun_on_a_host_that_went_meanwhile(
    hass: HomeAssistant, host: Host, slow: Slow
) -> None:
    await host.start()
    first = asyncio.create_task(async_test_host(hass, host.entry))
    await begun(slow)
    second = asyncio.create_task(async_test_host(hass, host.entry, reconnect=True))
    await asyncio.sleep(0)
    await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
    slow.may_end.set()
    for test in (first, second):
        with pytest.raises(ServiceValidationError, match="not set up"):
            await test
    assert slow.begun == 1


async def test_what_outlives_its_entry_says_so_and_keeps_nothing(hass: HomeAssistant, host: Host) -> None:
    """The end of an entry ends its tests; should one be awake in that very moment, it comes to nothing."""
    await host.start()
    coordinator = host.entry.runtime_data

    async def disabled_meanwhile(*_: object) -> tuple[Report, object]:
        await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
        return Report(rows=(GOOD,), at=1.5, seconds=0.25), host.session

    with patch("custom_components.homelab_monitor.capability._async_run", disabled_meanwhile):
        for _ in range(2):
            with pytest.raises(ServiceValidationError, match="not set up"):
                await _async_test(hass, host.entry, _Test(reconnect=False))
    await async_take_report(hass, host.entry, Report(rows=(GOOD,), at=1.5, seconds=0.25))
    assert coordinator.store.memory.last_test is None


@pytest.mark.parametrize("ending", ["async_unload", "async_reload", "async_remove"])
async def test_a_test_ends_with_its_entry_and_takes_no_later_one_along(
    hass: HomeAssistant, host: Host, slow: Slow, ending: str
) -> None:
    await host.start()
    coordinator, asked = host.entry.runtime_data, len(host.session.asked)
    tests = [asyncio.create_task(async_test_host(hass, host.entry, reconnect=each)) for each in (False, False, True)]
    await begun(slow)
    with patch("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session)):
        await getattr(hass.config_entries, ending)(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        for test in tests:
            with pytest.raises(ServiceValidationError, match="not set up"):
                await asyncio.wait_for(test, 10)
        assert (slow.begun, slow.running, slow.ended) == (1, 0, 0)
        assert coordinator.store.memory.last_test is None
        if ending == "async_reload":
            slow.may_end.set()
            assert (await async_test_host(hass, host.entry)).at == 2.0
        else:
            assert len(host.session.asked) == asked, "nobody polls for an entry that is over"


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
        "text": "Prints text at a login without a terminal: <b>hello</b>",
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
    assert str(raised.value) == "plain is not set up, so it cannot be tested"


async def test_the_action_is_there_before_any_host(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert hass.services.has_service(DOMAIN, "test_host")


async def test_a_connection_for_a_remedy_pins_the_hosts_keys(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with patch("custom_components.homelab_monitor.capability.Connection.open") as opened:
        await async_connect(hass, host.entry, HostAddress.from_data(host.entry.data))
    target, _, host_keys = opened.await_args.args
    assert (target.username, target.host) == ("mon", "127.0.0.1")
    assert host_keys == tuple(host.entry.data["host_keys"])


async def test_a_connection_for_a_remedy_trusts_no_key_that_nobody_compared(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    compared, *_ = keys = [*host.entry.data["host_keys"], "ssh-ed25519 AAAA"]
    address = HostAddress.from_data({**host.entry.data, "host_keys": keys, "host_keys_proven": False})
    with patch("custom_components.homelab_monitor.capability.Connection.open") as opened:
        await async_connect(hass, host.entry, address)
    assert opened.await_args.args[2] == (compared,)
