"""What a dialog showed and what it acts on are one: a host that was changed meanwhile, in another dialog, ends it.

Two administrators, or one with two tabs: the first opens a dialog about a host, the second makes the entry be about
another machine, user or host key, and then the first goes on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
import gc
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.translation import async_get_translations
import pytest

from custom_components.homelab_monitor.capability import async_test_host
from custom_components.homelab_monitor.client.checks.remedies import Outcome, RemedyResult
from custom_components.homelab_monitor.client.checks.report import CheckStatus, Report
from custom_components.homelab_monitor.client.errors import ConnectionLost, TimedOut
from custom_components.homelab_monitor.client.transport.keys import KeyPair, fingerprint
from custom_components.homelab_monitor.flow.onboarding import OnboardingFlow
from custom_components.homelab_monitor.health.issues import async_update_issues
from custom_components.homelab_monitor.repairs import RemedyFlow
from custom_components.homelab_monitor.settings import PRIVILEGES, HostAddress, without_privileges

from .scripted import Host
from .test_config_flow import Dialog, Machine, entry_of, make_machine, typed  # noqa: F401 - a fixture among them
from .test_options_flow import DEFAULTS
from .test_repairs import (  # noqa: F401 - fixtures among them
    DOCKER,
    DOCKER_GOOD,
    DONE,
    KEY,
    NEW_KEY,
    OLD_KEY,
    SMART,
    FixDialog,
    Script,
    begin,
    issues,
    report,
    row,
    script,
)

ASKS = RemedyResult(outcome=Outcome.NEEDS_PASSWORD, stderr="sudo: a password is required")
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGfCkXGkVJTHTR9v4mSEA1HL7nIGA9rQBWdCk4tRrVsL"
PODMAN = row("podman", CheckStatus.AMBER, "podman_denied", username="mon")
GIVEN = {"sudo": ["security"], "power": True, "control_services": True}
CHANGES: dict[str, dict[str, object]] = {
    "host": {"host": "127.0.0.2"},
    "port": {"port": 2222},
    "user": {"username": "anna"},
    "key": {"host_keys": [OTHER_KEY]},
    "identity": {"host_id": "f" * 32},
}


async def change(hass: HomeAssistant, entry: Any, **changes: object) -> None:
    """Let the entry be about something else, as the end of another dialog does."""
    hass.config_entries.async_update_entry(entry, data={**entry.data, **changes})
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)


# ---------------------------------------------------------------- repairs


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_password_goes_to_no_other_machine_than_the_one_that_was_shown(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    kind: str,
) -> None:
    dialog = await begin(DOCKER)
    script.results = [ASKS]
    await dialog.choose("run")
    assert dialog.at == "password"
    await change(hass, host.entry, **CHANGES[kind])
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.submit(password="s3cret")
    assert dialog.at == "changed"
    assert [password for _, password in script.ran] == [None]


@pytest.mark.parametrize(
    ("wrong", "choice"),
    [(DOCKER, "run"), (DOCKER, "show"), (PODMAN, "test"), (DOCKER, "ignore"), (KEY, "test"), (KEY, "ignore")],
)
async def test_nothing_is_done_for_a_host_that_is_another_one_now(  # noqa: PLR0913, PLR0917
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    wrong: Any,
    choice: str,
) -> None:
    dialog = await begin(wrong)
    await change(hass, host.entry, **CHANGES["port"])
    script.results, script.reports = [DONE], [report(wrong)]
    await dialog.choose(choice)
    assert dialog.at == "changed"
    assert (script.ran, script.tests) == ([], [])
    ignored = [each.issue_id for each in ir.async_get(hass).issues.values() if each.dismissed_version]
    assert ignored == []


async def test_a_host_that_is_changed_in_the_last_moment_is_not_connected(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    connected: list[HostAddress] = []

    async def connect(_hass: object, _entry: object, address: HostAddress) -> object:
        """Connect to what was asked for, whatever the entry says by now."""
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["port"]})
        connected.append(address)
        return await script.connect()

    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    with patch("custom_components.homelab_monitor.repairs.async_connect", connect):
        await dialog.choose("run")
    assert [address.target.port for address in connected] == [22]
    assert dialog.at == "changed", "the other machine is not tested in its place"
    assert script.tests == []


async def test_a_host_that_is_changed_before_the_command_begins_is_not_even_connected(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    connected: list[HostAddress] = []

    async def translate(*args: Any) -> Any:
        """Let the entry change while the texts of the progress are read, before what it shows has begun."""
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["port"]})
        return await async_get_translations(*args)

    async def connect(_hass: object, _entry: object, address: HostAddress) -> object:
        connected.append(address)
        return await script.connect()

    with (
        patch("custom_components.homelab_monitor.repairs.async_get_translations", translate),
        patch("custom_components.homelab_monitor.repairs.async_connect", connect),
    ):
        await dialog.choose("run")
    assert dialog.at == "changed"
    assert (connected, script.ran, script.tests) == ([], [], [])


async def test_a_privilege_is_given_to_no_machine_that_came_meanwhile(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(SMART)
    good = row("smart", CheckStatus.OK, "smart_works")

    async def test(*_: object, **__: object) -> tuple[Report, None]:
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["key"]})
        return report(good), None

    script.results = [DONE]
    with patch("custom_components.homelab_monitor.capability.run_checks", test):
        await dialog.choose("run")
    assert dialog.at == "changed"
    assert "sudo" not in host.entry.options
    assert issues(hass) == {"smart"}


@pytest.mark.parametrize("meanwhile", ["another key", "disabled"])
async def test_a_privilege_is_given_to_nobody_who_came_between_the_test_and_its_end(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    meanwhile: str,
) -> None:
    dialog = await begin(SMART)

    async def disconnect() -> None:
        """Let the entry change while the host is polled over a new connection."""
        if meanwhile == "disabled":
            host.entry.disabled_by = ConfigEntryDisabler.USER
        else:
            hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["key"]})

    script.results, script.reports = [DONE], [report(row("smart", CheckStatus.OK, "smart_works"))]
    with patch.object(host.session, "disconnect", disconnect):
        await dialog.choose("run")
    assert len(script.tests) == 1
    assert dict(host.entry.options) == {}


async def test_keys_that_the_same_machine_proves_meanwhile_end_no_dialog(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    await change(hass, host.entry, host_keys=[OLD_KEY, NEW_KEY])
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.choose("run")
    assert dialog.at == "fixed"
    assert script.tests == [(OLD_KEY, NEW_KEY)]


async def test_another_command_than_the_one_that_was_shown_is_not_run(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(SMART)
    assert "/dev/sda" in dialog.shown
    assert "Nothing was run" not in dialog.shown
    more = row(
        "smart", CheckStatus.AMBER, "smart_denied", "allow_smart", **(dict(SMART.placeholders) | {"disks": "sdb"})
    )
    async_update_issues(hass, host.entry, [more], at_once=True)
    await dialog.choose("run")
    assert dialog.at == "cure"
    assert "/dev/sdb" in dialog.shown
    assert "Nothing was run" in dialog.shown
    assert script.ran == []
    script.results, script.reports = [DONE], [report(row("smart", CheckStatus.OK, "smart_works"))]
    await dialog.choose("run")
    assert dialog.at == "fixed"
    assert "/dev/sdb" in script.ran[0][0]


async def test_a_password_is_not_given_to_another_command_than_the_one_that_asked_for_it(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(SMART)
    script.results = [ASKS]
    await dialog.choose("run")
    assert dialog.at == "password"
    more = replace(SMART, placeholders=dict(SMART.placeholders) | {"disks": "sdb"})
    async_update_issues(hass, host.entry, [more], at_once=True)
    script.results, script.reports = [DONE], [report(row("smart", CheckStatus.OK, "smart_works"))]
    await dialog.submit(password="s3cret")
    assert dialog.at == "cure"
    assert "/dev/sdb" in dialog.shown
    assert "Nothing was run" in dialog.shown
    assert [password for _, password in script.ran] == [None]


async def test_two_dialogs_run_one_command_and_the_other_says_so(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    first, second = await begin(DOCKER), await begin(SMART)
    at_once: list[asyncio.Task[None]] = []

    async def run(_: object, remedy: Any, password: str | None) -> RemedyResult:
        script.ran.append((remedy.text, password))
        # It waits for all tasks of Home Assistant before it looks again, and so for the first dialog's.
        answered = len(second.seen)
        at_once.append(asyncio.create_task(second.choose("run")))
        while len(second.seen) == answered:
            await asyncio.sleep(0)
        return DONE

    script.reports = [report(DOCKER_GOOD), report(SMART)]
    with patch("custom_components.homelab_monitor.repairs.run_remedy", run):
        await first.choose("run")
        await asyncio.gather(*at_once)
    assert (first.at, second.at, len(script.ran)) == ("fixed", "busy", 1)
    await second.submit()
    assert (second.at, second.options[0]) == ("still_wrong", "run")
    assert len(script.ran) == 1


async def test_the_same_repair_in_two_dialogs_is_run_once(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    first, second = await begin(DOCKER), await begin(DOCKER)
    script.results, script.reports = [DONE], [report(DOCKER_GOOD), report(DOCKER_GOOD)]
    await first.choose("run")
    await second.choose("run")
    assert (first.at, second.at, len(script.ran)) == ("fixed", "fixed", 1)
    assert "exit status" not in second.shown


async def test_a_repair_that_became_needless_shows_no_word_of_the_program(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    script.results = [ASKS]
    await dialog.choose("run")
    async_update_issues(hass, host.entry, [DOCKER_GOOD], at_once=True)
    script.reports = [report(DOCKER_GOOD)]
    await dialog.submit(password="s3cret")
    assert dialog.at == "fixed"
    assert "password" not in dialog.shown
    assert len(script.ran) == 1


async def test_where_a_password_goes_is_said_where_it_is_asked_for(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, "port": 2222})
    dialog = await begin(DOCKER)
    script.results = [ASKS]
    await dialog.choose("run")
    assert dialog.at == "password"
    assert r"mon\@127\.0\.0\.1\:2222" in dialog.shown


# ---------------------------------------------------------------- a host key that has changed


@pytest.mark.parametrize("kind", ["host", "port", "user", "key", "identity"])
async def test_a_key_is_pinned_for_no_other_machine_than_the_one_that_showed_it(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    kind: str,
) -> None:
    dialog = await begin(KEY)
    await change(hass, host.entry, **CHANGES[kind])
    hass.config_entries.async_update_entry(host.entry, options=GIVEN)
    before = dict(host.entry.data)
    script.reports = [report(KEY)]
    await dialog.accept()
    assert dialog.at == "changed"
    assert dict(host.entry.data) == before
    assert dict(host.entry.options) == GIVEN


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_key_is_offered_for_no_other_machine_than_the_one_that_was_asked_for_it(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    kind: str,
) -> None:
    async def read(*args: object, **more: Any) -> Any:
        """Let the entry change while the machine is asked for its key."""
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES[kind]})
        return await script.read_host_key(*args, **more)

    with patch("custom_components.homelab_monitor.repairs.read_host_key", read):
        dialog = await begin(KEY)
    assert dialog.at == "changed"
    assert script.proven == []


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_key_is_pinned_for_no_machine_that_came_while_the_other_one_proved_it(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    kind: str,
) -> None:
    dialog = await begin(KEY)
    hass.config_entries.async_update_entry(host.entry, options=GIVEN)
    there = {**host.entry.data, **CHANGES[kind]}

    async def prove(*args: Any) -> None:
        """Let the entry change while the machine proves its key."""
        hass.config_entries.async_update_entry(host.entry, data=there)
        await script.require_proof(*args)

    with patch("custom_components.homelab_monitor.repairs.async_require_proof", prove):
        await dialog.accept()
    assert dialog.at == "changed"
    assert (script.proven, script.tests) == ([NEW_KEY], [])
    assert (dict(host.entry.data), dict(host.entry.options)) == (there, GIVEN)


async def test_other_pinned_keys_than_those_that_were_shown_are_shown_first(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(KEY)
    await change(hass, host.entry, host_keys=[OLD_KEY, OTHER_KEY])
    await dialog.accept()
    assert dialog.at == "review"
    assert host.entry.data["host_keys"] == [OLD_KEY, OTHER_KEY]
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint="SHA256:a"))]
    await dialog.accept()
    assert dialog.at == "fixed"
    assert host.entry.data["host_keys"] == [NEW_KEY]


async def test_a_form_accepts_the_key_that_was_on_it_and_no_other(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    third = " ".join(KeyPair.generate().public_openssh.split()[:2])
    dialog = await begin(KEY)
    await dialog.choose("accept")
    stale = dialog.shown_values
    assert list(stale.values()) == [fingerprint(NEW_KEY)]
    await change(hass, host.entry, host_keys=[OLD_KEY, OTHER_KEY])
    script.key = third
    await dialog.submit()
    assert dialog.at == "review"
    await dialog.choose("accept")
    await dialog.submit(**stale)
    assert (dialog.at, dialog.result["errors"]) == ("accept", {"base": "other_key"})
    assert host.entry.data["host_keys"] == [OLD_KEY, OTHER_KEY]
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint="SHA256:a"))]
    await dialog.submit()
    assert (dialog.at, host.entry.data["host_keys"]) == ("fixed", [third])


async def test_a_key_is_pinned_for_no_host_that_was_switched_off_or_removed(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    first, second = await begin(KEY), await begin(KEY)
    before = dict(host.entry.data)
    await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
    await first.accept()
    assert (first.at, dict(host.entry.data)) == ("gone", before)
    await hass.config_entries.async_remove(host.entry.entry_id)
    await second.accept()
    assert (second.at, dict(host.entry.data)) == ("gone", before)


async def test_a_password_goes_to_the_machine_that_was_checked_also_where_the_entry_changes_right_after_it(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    """The connection is made in a task of its own, which begins a turn of the event loop later."""
    dialog = await begin(DOCKER)
    script.results = [ASKS]
    await dialog.choose("run")
    connected: list[str] = []
    judge = RemedyFlow._hindrance

    def judge_then_change(self: RemedyFlow, shown: Any) -> str | None:
        there = {**host.entry.data, **CHANGES["host"], **CHANGES["key"]}
        hass.loop.call_soon(lambda: hass.config_entries.async_update_entry(host.entry, data=there))
        return judge(self, shown)

    async def connect(_hass: object, _entry: object, address: HostAddress) -> object:
        connected.append(address.target.host)
        return await script.connect()

    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    with (
        patch("custom_components.homelab_monitor.repairs.async_connect", connect),
        patch.object(RemedyFlow, "_hindrance", judge_then_change),
    ):
        await dialog.submit(password="s3cret")
    assert host.entry.data["host"] == "127.0.0.2"
    assert connected == ["127.0.0.1"]
    assert dialog.at == "changed"
    assert script.tests == []


async def test_what_another_machine_answers_fixes_nothing_of_the_one_that_was_shown(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)

    async def test_another(*_: object, **__: object) -> Report:
        """Let the entry change before the test begins, which is about what the entry says then."""
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["port"]})
        return report(DOCKER_GOOD)

    script.results = [DONE]
    with patch("custom_components.homelab_monitor.repairs.async_test_host", test_another):
        await dialog.choose("run")
    assert dialog.at == "changed"


@pytest.mark.parametrize("wrong", [DOCKER, KEY], ids=["docker", "host key"])
async def test_the_last_form_of_a_repair_closes_no_issue_that_is_back(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    wrong: Any,
) -> None:
    dialog = await begin(wrong)
    script.results, script.reports = [DONE], [report(row(wrong.check, CheckStatus.OK, "all_right"))]
    await (dialog.accept() if wrong is KEY else dialog.choose("run"))
    assert dialog.at == "fixed"
    async_update_issues(hass, host.entry, [wrong], at_once=True)
    script.key = OTHER_KEY
    await dialog.submit()
    assert dialog.at == ("review" if wrong is KEY else "cure")
    assert "exit status" not in dialog.shown
    assert issues(hass) == {wrong.check.removeprefix("host_")}
    script.results, script.reports = [DONE], [report(row(wrong.check, CheckStatus.OK, "all_right"))]
    await (dialog.accept() if wrong is KEY else dialog.choose("run"))
    await dialog.submit()
    assert dialog.at == "create_entry"
    assert issues(hass) == set()


async def test_the_last_form_of_a_repair_closes_no_issue_of_another_machine(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.choose("run")
    await change(hass, host.entry, **CHANGES["host"])
    async_update_issues(hass, host.entry, [DOCKER], at_once=True)
    await dialog.submit()
    assert dialog.at == "changed"
    assert issues(hass) == {"docker"}


async def test_another_problem_than_the_one_that_was_shown_is_not_ignored(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    dialog = await begin(DOCKER)
    async_update_issues(
        hass, host.entry, [row("docker", CheckStatus.AMBER, "docker_stopped", detail="d")], at_once=True
    )
    await dialog.choose("ignore")
    assert dialog.at == "no_cure"
    assert ir.async_get(hass).async_get_issue("homelab_monitor", dialog.issue_id).dismissed_version is None
    await dialog.choose("ignore")
    assert dialog.at == "ignored"


@pytest.mark.parametrize("now", ["another", "confirmed", "none", "same"])
async def test_a_key_is_not_ignored_unseen(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
    now: str,
) -> None:
    dialog = await begin(KEY)
    keys = {"another": OTHER_KEY, "confirmed": OLD_KEY, "none": TimedOut("plain"), "same": NEW_KEY}
    script.key = keys[now]
    await dialog.choose("ignore")
    issue = ir.async_get(hass).async_get_issue("homelab_monitor", dialog.issue_id)
    assert issue is not None
    if now in ("none", "same"):
        assert (dialog.at, bool(issue.dismissed_version)) == ("ignored", True)
        return
    assert (dialog.at, issue.dismissed_version) == ("review" if now == "another" else "same_again", None)
    assert fingerprint(keys[now]).removeprefix("SHA256:")[:10] in dialog.shown
    if now == "another":
        await dialog.choose("ignore")
        assert dialog.at == "ignored"


# ---------------------------------------------------------------- a test


@pytest.mark.parametrize("how", ["disabled", "removed"])
async def test_a_host_that_is_over_before_its_test_leaves_no_repair_behind(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    how: str,
) -> None:
    async def test(*_: object, **__: object) -> tuple[Report, None]:
        if how == "removed":
            await hass.config_entries.async_remove(host.entry.entry_id)
        else:
            await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
        return report(DOCKER), None

    with (
        patch("custom_components.homelab_monitor.capability.run_checks", test),
        pytest.raises(ServiceValidationError) as raised,
    ):
        await async_test_host(hass, host.entry)
    assert raised.value.translation_key == "not_loaded"
    assert issues(hass) == set()


async def test_the_report_of_one_machine_is_not_stored_for_another(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
) -> None:
    async def test(*_: object, **__: object) -> tuple[Report, None]:
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **CHANGES["port"]})
        return report(DOCKER), None

    with (
        patch("custom_components.homelab_monitor.capability.run_checks", test),
        pytest.raises(ServiceValidationError) as raised,
    ):
        await async_test_host(hass, host.entry)
    assert raised.value.translation_key == "changed_meanwhile"
    assert issues(hass) == set()
    assert host.entry.runtime_data.store.memory.last_test is None


# ---------------------------------------------------------------- options


async def open_options(hass: HomeAssistant, host: Host) -> Any:
    result = await hass.config_entries.options.async_init(host.entry.entry_id)
    assert result["type"] is FlowResultType.FORM
    return result


async def send(hass: HomeAssistant, flow: Any, **privileges: object) -> Any:
    """Submit the form with these privileges, and nothing else."""
    given = DEFAULTS | {"privileges": DEFAULTS["privileges"] | privileges}
    result = await hass.config_entries.options.async_configure(flow["flow_id"], given)
    await hass.async_block_till_done(wait_background_tasks=True)
    return result


def suggested(result: Any) -> dict[str, object]:
    """Return the privileges that a form suggests."""
    schema = result["data_schema"].schema["privileges"].schema.schema
    return {str(key): (key.description or {}).get("suggested_value") for key in schema}


async def test_a_form_of_options_gives_no_privilege_back_that_a_new_machine_has_lost(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
) -> None:
    hass.config_entries.async_update_entry(host.entry, options=GIVEN)
    flow = await open_options(hass, host)
    hass.config_entries.async_update_entry(host.entry, options=without_privileges(host.entry.options))
    await change(hass, host.entry, **CHANGES["key"])
    result = await send(hass, flow, power=True)
    assert (result["type"], result["errors"]) == (FlowResultType.FORM, {"base": "changed_meanwhile"})
    assert not any(host.entry.options.get(name) for name in PRIVILEGES)
    assert not any(suggested(result).values())
    result = await send(hass, flow, power=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY, "it was shown as it is now"
    assert host.entry.options["power"] is True


async def test_a_form_of_options_is_for_one_machine(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
) -> None:
    flow = await open_options(hass, host)
    await change(hass, host.entry, **CHANGES["key"])
    assert (await send(hass, flow, power=True))["errors"] == {"base": "changed_meanwhile"}
    assert "power" not in host.entry.options


async def test_a_form_of_options_takes_nothing_back_that_was_given_meanwhile(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
) -> None:
    flow = await open_options(hass, host)
    hass.config_entries.async_update_entry(host.entry, options={**host.entry.options, "sudo": ["storage_health"]})
    result = await send(hass, flow)
    assert result["errors"] == {"base": "changed_meanwhile"}
    assert host.entry.options["sudo"] == ["storage_health"]
    assert suggested(result)["sudo"] == ["storage_health"]


async def test_keys_that_a_machine_proves_do_not_disturb_its_options(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
) -> None:
    flow = await open_options(hass, host)
    await change(hass, host.entry, host_keys=[OLD_KEY, NEW_KEY])
    assert (await send(hass, flow, power=True))["type"] is FlowResultType.CREATE_ENTRY


# ---------------------------------------------------------------- dialogs of the entry


@pytest.fixture
def _no_polls() -> Any:
    """Keep the entries of the flow from polling."""
    with (
        patch("custom_components.homelab_monitor.async_setup_entry", return_value=True),
        patch("custom_components.homelab_monitor.async_unload_entry", return_value=True),
    ):
        yield


def known(hass: HomeAssistant, machine: Machine, **changes: object) -> Any:
    """Return the entry of a host to which something is allowed."""
    entry = entry_of(machine, **changes)
    entry.add_to_hass(hass)
    hass.config_entries.async_update_entry(entry, options=GIVEN)
    return entry


ELSEWHERE = {"host": "192.0.2.9", "host_keys": [OTHER_KEY]}


@pytest.mark.usefixtures("_no_polls")
async def test_authenticating_again_pins_no_key_for_a_machine_that_came_meanwhile(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
) -> None:
    entry = known(hass, machine := await make_machine())
    dialog = await Dialog(hass).reauth(entry)
    assert machine.host_keys[0] in entry.data["host_keys"]
    hass.config_entries.async_update_entry(entry, data={**entry.data, **ELSEWHERE})
    await dialog.choose("added")
    assert dialog.ended == "changed"
    assert entry.data["host_keys"] == [OTHER_KEY]


@pytest.mark.usefixtures("_no_polls")
async def test_authenticating_again_gives_a_new_host_key_no_privilege(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
) -> None:
    entry = known(hass, machine := await make_machine(), host_keys=[OTHER_KEY])
    dialog = await Dialog(hass).reauth(entry)
    await dialog.choose("added")
    assert dialog.at == ("trust", "host_key_changed")
    await dialog.submit()
    assert dialog.ended == "reinstalled"
    assert entry.data["host_keys"] == list(machine.host_keys)
    assert dict(entry.options) == {}


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("when", ["address", "checklist", "question"])
async def test_a_reconfiguration_overwrites_no_other_one(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
    when: str,
) -> None:
    machine = await make_machine()
    identity = {"host_id": "e" * 32} if when == "question" else {}
    entry = known(hass, machine, username="old", **identity)
    dialog = await Dialog(hass).reconfigure(entry)
    if when != "address":
        await dialog.submit(address=typed(machine))
    if when == "question":
        await dialog.submit()
        assert dialog.at[0] == "other_machine"
    hass.config_entries.async_update_entry(entry, data={**entry.data, **ELSEWHERE})
    before = dict(entry.data)
    match when:
        case "address":
            await dialog.submit(address=typed(machine))
        case "checklist":
            await dialog.submit()
        case "question":
            await dialog.choose("keep_history")
    assert dialog.ended == "changed"
    assert (dict(entry.data), dict(entry.options)) == (before, GIVEN)


@pytest.mark.usefixtures("_no_polls")
async def test_a_known_host_that_is_changed_while_one_asks_about_it_is_asked_about_again(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
) -> None:
    machine = await make_machine()
    entry = known(hass, machine, host="192.0.2.7")
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert (dialog.at[0], dialog.result["menu_options"]) == ("collision", ["moved", "clone"])
    hass.config_entries.async_update_entry(entry, data={**entry.data, **ELSEWHERE})
    await dialog.choose("moved")
    assert (dialog.at[0], dialog.result["menu_options"]) == ("collision", ["reinstalled", "clone"])
    assert r"192\.0\.2\.9" in dialog.placeholders["known_address"]
    assert dict(entry.options) == GIVEN
    await dialog.choose("reinstalled")
    assert dialog.ended == "reinstalled"
    assert dict(entry.options) == {}


@pytest.mark.usefixtures("_no_polls")
async def test_a_known_host_that_is_removed_in_the_last_moment_is_added_anew(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = await make_machine()
    entry = known(hass, machine, host="192.0.2.7")
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert dialog.at[0] == "collision"
    usual = OnboardingFlow._async_is_same

    async def remove_first(flow: OnboardingFlow, about: Any) -> bool:
        """Remove the host while its machine is looked at once more."""
        await hass.config_entries.async_remove(entry.entry_id)
        return await usual(flow, about)

    monkeypatch.setattr(OnboardingFlow, "_async_is_same", remove_first)
    await dialog.choose("moved")
    assert dialog.created
    assert dialog.result["result"].entry_id != entry.entry_id


# ---------------------------------------------------------------- what stays of a dialog that is left open


def _secrets_in_exceptions(secret: str) -> list[str]:
    """Return where a living exception keeps a frame that knows the secret."""
    gc.collect()
    found = []
    for each in gc.get_objects():
        if not isinstance(each, BaseException):
            continue
        trace = each.__traceback__
        while trace is not None:
            if secret in [value for value in trace.tb_frame.f_locals.values() if isinstance(value, str)]:
                found.append(f"{type(each).__name__}: {trace.tb_frame.f_code.co_qualname}")
            trace = trace.tb_next
    return found


async def test_no_password_stays_in_memory_when_a_repair_is_left_open(
    hass: HomeAssistant,
    host: Host,
    script: Script,  # noqa: F811
    begin: Callable[..., Any],  # noqa: F811
) -> None:
    async def lost(_: object, _remedy: object, password: str | None) -> RemedyResult:
        if password is None:
            return ASKS
        raise ConnectionLost("nas", "reset") from OSError("reset")

    secret = "s3cret of root"
    with patch("custom_components.homelab_monitor.repairs.run_remedy", lost):
        dialog: FixDialog = await begin(DOCKER)
        await dialog.choose("run")
        await dialog.submit(password=secret)
    assert dialog.at == "not_run"
    assert "reset" in dialog.shown
    assert _secrets_in_exceptions(secret) == []


@pytest.mark.usefixtures("_no_polls")
async def test_no_password_stays_in_memory_when_a_key_could_not_be_installed(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
) -> None:
    machine = await make_machine()
    machine.accepts_key, machine.password = False, "right"
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.choose("install")
    secret = "a wrong one"
    await dialog.submit(password=secret)
    assert dialog.at == ("install", "password_refused")
    assert _secrets_in_exceptions(secret) == []


@pytest.mark.usefixtures("_no_polls")
async def test_a_dialog_that_is_left_open_keeps_no_login_on_the_machine(
    hass: HomeAssistant,
    make_machine: Any,  # noqa: F811
) -> None:
    machine = await make_machine()
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    assert dialog.at[0] == "checklist"
    await hass.async_block_till_done()
    assert not machine.connections
    await dialog.submit()
    assert dialog.created
    assert dialog.result["data"]["host_keys"] == list(machine.host_keys)


def test_an_address_is_the_same_only_with_every_part_of_it(host: Host) -> None:
    address = HostAddress.from_data(host.entry.data)
    assert address.is_same(replace(address, host_keys=(*address.host_keys, NEW_KEY)))
    for kind, changes in CHANGES.items():
        other = HostAddress.from_data({**host.entry.data, **changes})
        assert not address.is_same(other), kind
        assert not other.is_same(address), kind
