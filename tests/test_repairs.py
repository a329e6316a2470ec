"""Fix flows through Home Assistant's own API: every step of both, against scripted answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from http import HTTPStatus
import json
from pathlib import Path
import re
from typing import Any, Self
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.homelab_monitor.capability import remedy_lock
from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.remedies import Outcome, RemedyResult, remedy_for
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import (
    ConnectionLost,
    HomelabError,
    HostKeyChanged,
    NameNotFound,
    NotSSH,
    TimedOut,
)
from custom_components.homelab_monitor.client.models import System
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.transport.keys import KeyPair, fingerprint
from custom_components.homelab_monitor.client.transport.ssh import OfferedKey
from custom_components.homelab_monitor.const import CONF_SUDO, DOMAIN
from custom_components.homelab_monitor.health.issues import async_update_issues
from custom_components.homelab_monitor.repairs import HostKeyFlow

from .scripted import HOST_ID, Host, make_entry

MODULE = "custom_components.homelab_monitor.repairs"
TEXTS = json.loads(
    (Path(__file__).parents[1] / "custom_components/homelab_monitor/translations/en.json").read_text(encoding="utf-8")
)
FIX = "/api/repairs/issues/fix"
HOSTILE = "<img src=x onerror=alert(1)>\n# big\n[click](http://evil)\n```\n| a | b |\n<svg onload=alert(1)>`\u202e"
OLD_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"
NEW_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBZ8lkR6tGkyLOn2m3c6yTVN1kq6XyzK2kOCy9yBJmAN"
SETTLE_ROUNDS = 400


class FixDialog:
    """One fix flow, as the frontend drives it."""

    def __init__(self, hass: HomeAssistant, client: Any) -> None:
        self.hass = hass
        self.client = client
        self.result: dict[str, Any] = {}
        self.seen: list[str] = []

    async def open(self, issue_id: str) -> Self:
        """Press the issue."""
        await self._take(await self.client.post(FIX, json={"handler": DOMAIN, "issue_id": issue_id}))
        return self

    async def choose(self, option: str) -> None:
        """Choose from a menu; only what the menu offers."""
        assert option in self.options, self.result
        await self._submit({"next_step_id": option})

    async def submit(self, **values: object) -> None:
        """Submit a form."""
        assert self.result["type"] == "form", self.result
        await self._submit(self.shown_values | values)

    @property
    def shown_values(self) -> dict[str, object]:
        """Return the fields of the form that suggest a value; the frontend sends none that is read-only."""
        fields = [each for each in self.result["data_schema"] if "suggested_value" in (each.get("description") or {})]
        sent = [each for each in fields if not any(kind.get("read_only") for kind in each["selector"].values())]
        return {each["name"]: each["description"]["suggested_value"] for each in sent}

    async def accept(self) -> None:
        """Accept the key that is shown, in both steps."""
        await self.choose("accept")
        if self.at == "accept":
            await self.submit()

    async def _submit(self, values: dict[str, object]) -> None:
        await self._take(await self.client.post(f"{FIX}/{self.result['flow_id']}", json=values))

    async def _take(self, response: Any) -> None:
        """Take an answer; while there is progress, look again as the frontend does."""
        for _ in range(SETTLE_ROUNDS):
            text = await response.text()
            assert response.status == HTTPStatus.OK, text
            self.seen.append(text)
            self.result = json.loads(text)
            self._check_texts()
            if self.result["type"] != "progress":
                return
            await self.hass.async_block_till_done(wait_background_tasks=False)
            response = await self.client.get(f"{FIX}/{self.result['flow_id']}")
        pytest.fail(f"no end of progress: {self.result}")

    def _check_texts(self) -> None:
        """Every step, option, error and placeholder has its text."""
        if reason := self.result.get("reason"):
            assert TEXTS["issues"][self.key]["fix_flow"]["abort"][reason]
        if reason or self.result["type"] == "create_entry":
            return
        issue = ir.async_get(self.hass).issues.get((DOMAIN, self.issue_id)) if self.issue_id else None
        self.key = issue.translation_key if issue and issue.translation_key else self.key
        flow = TEXTS["issues"][self.key]["fix_flow"]
        if self.result["type"] == "progress":
            flow["progress"][self.result["progress_action"]].format_map(self.result["description_placeholders"])
            return
        step = flow["step"][self.result["step_id"]]
        self.shown = step["description"].format_map(self.result["description_placeholders"])
        step["title"].format_map(self.result["description_placeholders"])
        if self.result["type"] == "menu":
            assert set(self.result["menu_options"]) <= step["menu_options"].keys()
        for error in (self.result.get("errors") or {}).values():
            assert flow["error"][error]

    key = "check"
    shown = ""
    issue_id = ""

    @property
    def options(self) -> list[str]:
        return self.result.get("menu_options") or []

    @property
    def at(self) -> str:
        """Return the step, or how the flow ended."""
        return self.result.get("step_id") or self.result.get("reason") or self.result["type"]


def row(check: str, status: CheckStatus, reason: str, remedy: str | None = None, **placeholders: str) -> CheckResult:
    return CheckResult.of(check, Verdict(status, reason, placeholders, remedy))


DOCKER = row("docker", CheckStatus.AMBER, "docker_denied", "join_docker", username="mon")
DOCKER_GOOD = row("docker", CheckStatus.OK, "docker_version", version="27.3.1")
SHELL = row("shell", CheckStatus.AMBER, "shell_noise", "quiet_shell", line=HOSTILE)
SMART = row(
    "smart", CheckStatus.AMBER, "smart_denied", "allow_smart", disks="sda", tool="/usr/sbin/smartctl", username="mon"
)
KEY = row("host_key", CheckStatus.RED, "host_key_changed", "accept_host_key", expected="SHA256:a", offered="SHA256:b")
DONE = RemedyResult(outcome=Outcome.DONE, exit_status=0, stdout="added\n", stderr="")


class Script:
    """What the host answers to commands, tests and questions for its keys, in order."""

    def __init__(self) -> None:
        self.results: list[RemedyResult | HomelabError] = []
        self.reports: list[Report] = []
        self.key: str | HomelabError = NEW_KEY
        self.proof: HomelabError | None = None
        self.system: System | None = None
        self.proven: list[str] = []
        self.ran: list[tuple[str, str | None]] = []
        self.tests: list[tuple[str, ...]] = []

    async def run(self, _: object, remedy: Any, password: str | None) -> RemedyResult:
        self.ran.append((remedy.text, password))
        result = self.results.pop(0)
        if isinstance(result, HomelabError):
            raise result
        return result

    async def connect(self, *_: object) -> object:
        class Connection:
            async def close(self) -> None:
                """End it."""

        return Connection()

    async def test(
        self, _session: object, _target: object, host_keys: tuple[str, ...], *_: object, **__: object
    ) -> tuple:
        self.tests.append(host_keys)
        return self.reports.pop(0), None

    async def require_proof(self, _hass: object, _target: object, host_key: str) -> System | None:
        self.proven.append(host_key)
        if self.proof is not None:
            raise self.proof
        return self.system

    async def read_host_key(self, *_: object, known: tuple[str, ...]) -> OfferedKey:
        assert known, "the types of the pinned keys are asked for first"
        if isinstance(self.key, HomelabError):
            raise self.key
        return OfferedKey(self.key, "SSH-2.0-OpenSSH_9.2p1")


@pytest.fixture
async def script(hass: HomeAssistant, host: Host) -> AsyncIterator[Script]:
    """Return the script of a host that is set up and watched."""
    assert await async_setup_component(hass, "repairs", {})
    await host.start()
    written = Script()
    with ExitStack() as stack:
        stack.enter_context(patch(f"{MODULE}.run_remedy", written.run))
        stack.enter_context(patch(f"{MODULE}.async_connect", written.connect))
        stack.enter_context(patch(f"{MODULE}.async_require_proof", written.require_proof))
        stack.enter_context(patch(f"{MODULE}.read_host_key", written.read_host_key))
        stack.enter_context(patch("custom_components.homelab_monitor.capability.run_checks", written.test))
        stack.enter_context(patch("custom_components.homelab_monitor.async_new_session", return_value=host.session))
        yield written


@pytest.fixture
def begin(
    hass: HomeAssistant, host: Host, script: Script, hass_client: ClientSessionGenerator
) -> Callable[[CheckResult], Any]:
    """Return a function that makes an issue of a row and opens its flow."""

    async def open_flow(wrong: CheckResult) -> FixDialog:
        async_update_issues(hass, host.entry, [wrong], at_once=True)
        dialog = FixDialog(hass, await hass_client())
        dialog.issue_id = f"{host.entry.entry_id}_{wrong.check}"
        return await dialog.open(dialog.issue_id)

    return open_flow


def report(*rows: CheckResult, family: Family = Family.DEBIAN) -> Report:
    return Report(rows=rows, at=1.0, seconds=0.5, family=family)


def issues(hass: HomeAssistant) -> set[str]:
    return {
        key.rpartition("_")[2]
        for (domain, key), each in ir.async_get(hass).issues.items()
        if domain == DOMAIN and each.active
    }


# ---------------------------------------------------------------- a remedy that runs on the host


async def test_a_fix_that_works_closes_the_issue(hass: HomeAssistant, host: Host, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    assert (dialog.at, dialog.options) == ("cure", ["run", "show", "ignore"])
    assert "sudo usermod -aG docker mon" in dialog.shown
    assert "can become root" in dialog.shown
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.choose("run")
    assert dialog.at == "fixed"
    assert "exit status 0" in dialog.shown
    assert "added" in dialog.shown
    assert script.ran == [("sudo usermod -aG docker mon", None)]
    assert issues(hass) == set()
    await dialog.submit()
    assert dialog.at == "create_entry"
    assert host.entry.runtime_data.store.memory.last_test["rows"][0]["status"] == "ok"


@pytest.mark.parametrize("way", ["run", "test"])
async def test_what_is_run_again_is_on_the_screen_also_when_it_is_another_command(
    script: Script, begin, way: str
) -> None:
    """Starting Docker shows that its socket is closed to the user; a test may find that as well."""
    stopped = row("docker", CheckStatus.AMBER, "docker_stopped", "start_docker" if way == "run" else None, detail="d")
    denied = row("docker", CheckStatus.AMBER, "docker_denied", "join_docker", username="mon")
    dialog = await begin(stopped)
    assert "usermod" not in dialog.shown
    script.results, script.reports = [DONE, DONE], [report(denied), report(DOCKER_GOOD)]
    await dialog.choose(way)
    assert (dialog.at, dialog.options[0]) == ("still_wrong", "run")
    assert "sudo usermod -aG docker mon" in dialog.shown
    assert "root" in dialog.shown, "what that allows"
    await dialog.choose("run")
    assert script.ran[-1] == ("sudo usermod -aG docker mon", None)


def test_every_step_that_offers_to_run_a_command_shows_it() -> None:
    steps = TEXTS["issues"]["check"]["fix_flow"]["step"]
    offering = {name: step["description"] for name, step in steps.items() if "run" in step.get("menu_options", ())}
    assert offering.keys() == {"cure", "still_wrong"}
    assert all("{command}" in text or "{cure}" in text for text in offering.values())


async def test_a_fix_that_does_not_help_keeps_the_issue(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    failed = RemedyResult(
        outcome=Outcome.FAILED, exit_status=6, stdout="", stderr=f"group missing {HOSTILE}", truncated=True
    )
    script.results, script.reports = [failed], [report(DOCKER)]
    await dialog.choose("run")
    assert (dialog.at, dialog.options) == ("still_wrong", ["run", "show", "test", "ignore"])
    assert "exit status 6" in dialog.shown
    assert "Only the beginning" in dialog.shown
    assert issues(hass) == {"docker"}
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.choose("run")
    assert dialog.at == "fixed"


async def test_a_password_is_asked_for_only_when_sudo_asks(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    script.results = [RemedyResult(outcome=Outcome.NEEDS_PASSWORD, stderr="sudo: a password is required")]
    await dialog.choose("run")
    assert (dialog.at, dialog.result["errors"]) == ("password", None)
    assert [(field["name"], field["selector"]["text"]["type"]) for field in dialog.result["data_schema"]] == [
        ("password", "password")
    ]
    assert "used once" in dialog.shown
    script.results = [RemedyResult(outcome=Outcome.WRONG_PASSWORD)]
    await dialog.submit(password="wrong")
    assert (dialog.at, dialog.result["errors"]) == ("password", {"base": "wrong_password"})
    script.results, script.reports = [DONE], [report(DOCKER_GOOD)]
    await dialog.submit(password="s3cret")
    assert dialog.at == "fixed"
    assert [password for _, password in script.ran] == [None, "wrong", "s3cret"]
    assert "s3cret" not in "".join(dialog.seen)


async def test_a_password_that_was_typed_while_another_command_began_answers_no_other_step(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    # Home Assistant hands what was submitted to the next step, too, where progress ends at once.
    dialog = await begin(DOCKER)
    script.results = [RemedyResult(outcome=Outcome.NEEDS_PASSWORD, stderr="sudo: a password is required")]
    await dialog.choose("run")
    assert dialog.at == "password"
    async with remedy_lock(hass, host.entry):
        await dialog.submit(password="s3cret")
    assert dialog.at == "busy"
    assert [password for _, password in script.ran] == [None]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RemedyResult(outcome=Outcome.REFUSED, stderr="mon is not in the sudoers file."), "not in the sudoers file"),
        (RemedyResult(outcome=Outcome.NO_PRIVILEGE), "There is no sudo, and no doas"),
        (RemedyResult(outcome=Outcome.NEEDS_TERMINAL, stderr="sudo: sorry"), "Defaults:mon !requiretty"),
        (RemedyResult(outcome=Outcome.OTHER_QUESTION, stderr="Verification code: "), "a second factor"),
        (RemedyResult(outcome=Outcome.OTHER_QUESTION, stderr="Verification code: "), "Verification code:"),
        (ConnectionLost("plain", "while a command ran"), "while a command ran"),
    ],
)
async def test_a_command_that_could_not_be_run_is_shown_to_be_run_by_hand(
    hass: HomeAssistant, script: Script, begin, result, words
) -> None:
    dialog = await begin(DOCKER)
    script.results = [result]
    await dialog.choose("run")
    assert dialog.at == "not_run"
    assert words in dialog.shown
    assert "usermod -aG docker mon" in dialog.shown
    assert script.tests == []
    script.reports = [report(DOCKER_GOOD)]
    await dialog.submit()
    assert dialog.at == "fixed"
    assert words not in dialog.shown


@pytest.mark.parametrize("error", [ConnectionLost("plain", "while a command ran"), TimedOut("plain", "ten minutes")])
@pytest.mark.parametrize("is_cured", [True, False])
async def test_a_command_whose_end_was_not_seen_may_have_run_and_is_tested(
    hass: HomeAssistant,
    script: Script,
    begin,
    error: HomelabError,
    is_cured: bool,
) -> None:
    dialog = await begin(DOCKER)
    error.had_begun = True
    script.results, script.reports = [error], [report(DOCKER_GOOD if is_cured else DOCKER)]
    await dialog.choose("run")
    assert dialog.at == ("fixed" if is_cured else "still_wrong")
    assert "It may have run" in dialog.shown
    assert error.detail in dialog.shown
    assert len(script.tests) == 1


async def test_the_command_can_be_shown_and_run_elsewhere(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    await dialog.choose("show")
    assert dialog.at == "show"
    assert "usermod -aG docker mon" in dialog.shown
    script.reports = [report(DOCKER), report(DOCKER_GOOD)]
    await dialog.submit()
    assert dialog.at == "still_wrong"
    await dialog.choose("test")
    assert dialog.at == "fixed"
    assert script.ran == []


async def test_an_issue_can_be_ignored(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    await dialog.choose("ignore")
    assert dialog.at == "ignored"
    assert ir.async_get(hass).async_get_issue(DOMAIN, dialog.issue_id).dismissed_version


async def test_an_issue_that_was_fixed_meanwhile_cannot_be_ignored_any_more(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)
    async_update_issues(hass, host.entry, [DOCKER_GOOD], at_once=True)
    await dialog.choose("ignore")
    assert dialog.at == "cured"
    assert issues(hass) == set()


async def test_a_test_that_does_not_reach_the_check_says_what_stood_in_the_way(
    hass: HomeAssistant, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)
    unreached = report(
        row("reachable", CheckStatus.RED, "timed_out", address="nas", detail="connecting"),
        row("docker", CheckStatus.UNKNOWN, "not_tested"),
    )
    script.results, script.reports = [DONE], [unreached]
    await dialog.choose("run")
    assert dialog.at == "still_wrong"
    assert "did not answer in time" in dialog.shown
    assert dialog.options == ["run", "show", "test", "ignore"]
    assert issues(hass) == {"docker", "reachable"}


async def test_a_check_that_is_gone_from_the_report_is_not_fixed(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    script.results, script.reports = [DONE], [report()]
    await dialog.choose("run")
    assert dialog.at == "still_wrong"


async def test_a_check_that_was_fixed_meanwhile_is_only_tested(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)
    async_update_issues(hass, host.entry, [DOCKER_GOOD], at_once=True)
    script.reports = [report(DOCKER_GOOD)]
    await dialog.choose("run")
    assert dialog.at == "fixed"
    assert script.ran == []


async def test_the_sudoers_fix_lets_its_section_use_sudo(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(SMART)
    assert "NOPASSWD: NOSETENV: /usr/sbin/smartctl" in dialog.shown
    script.results, script.reports = (
        [DONE, DONE],
        [report(SMART), report(row("smart", CheckStatus.OK, "smart_readable", disks="sda"))],
    )
    await dialog.choose("run")
    assert host.entry.options == {}
    await dialog.choose("run")
    assert dialog.at == "fixed"
    assert host.entry.options == {"sudo": ["storage_health"]}
    await hass.async_block_till_done()
    assert host.entry.runtime_data.options.sudo == ("storage_health",)


@pytest.mark.parametrize(
    ("family", "command"), [(Family.ALPINE, "addgroup mon docker"), (Family.SUSE, "usermod -aG docker mon")]
)
async def test_the_family_of_the_last_test_chooses_the_command(
    hass: HomeAssistant, host: Host, begin, family: Family, command: str
) -> None:
    host.entry.runtime_data.store.memory.last_test = report(DOCKER, family=family).as_dict()
    assert command in (await begin(DOCKER)).shown


async def test_before_the_first_test_the_system_chooses_the_command(hass: HomeAssistant, host: Host, begin) -> None:
    host.session.sections["system"]["os_id"] = "alpine"
    await host.move(700, step=50)
    assert "addgroup mon docker" in (await begin(DOCKER)).shown


async def test_of_an_unknown_system_the_command_is_only_shown(hass: HomeAssistant, host: Host, begin) -> None:
    host.entry.runtime_data.store.memory.snapshot = Snapshot()
    assert (await begin(DOCKER)).at == "by_hand"


async def test_a_user_name_that_is_more_than_a_name_gets_no_command(
    hass: HomeAssistant, host: Host, script, begin
) -> None:
    hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, "username": "mon;reboot"})
    dialog = await begin(DOCKER)
    assert (dialog.at, dialog.options) == ("no_cure", ["test", "ignore"])
    assert "usermod" not in dialog.shown


# ---------------------------------------------------------------- remedies by hand, and none


async def test_what_is_done_by_hand_is_shown_and_then_tested(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(SHELL)
    assert (dialog.at, dialog.options) == ("by_hand", ["show", "test", "ignore"])
    await dialog.choose("show")
    assert "case $- in" in dialog.shown
    script.reports = [report(SHELL), report(row("shell", CheckStatus.OK, "shell_quiet"))]
    await dialog.submit()
    assert (dialog.at, dialog.options) == ("still_wrong", ["show", "test", "ignore"])
    await dialog.choose("test")
    assert dialog.at == "fixed"


async def test_without_a_remedy_a_check_can_be_tested_again(hass: HomeAssistant, script: Script, begin) -> None:
    lost = row("podman", CheckStatus.AMBER, "podman_denied", username="mon")
    dialog = await begin(lost)
    assert (dialog.at, dialog.options) == ("no_cure", ["test", "ignore"])
    script.reports = [report(lost), report(row("podman", CheckStatus.INFO, "podman_not_installed"))]
    await dialog.choose("test")
    assert (dialog.at, dialog.options) == ("still_wrong", ["test", "ignore"])
    await dialog.choose("test")
    assert dialog.at == "fixed"


async def test_a_login_that_is_refused_at_a_test_asks_for_reauthentication(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)
    refused = row("login", CheckStatus.RED, "key_refused", username="mon", address="nas")
    script.results, script.reports = [DONE], [report(refused, row("docker", CheckStatus.UNKNOWN, "not_tested"))]
    await dialog.choose("run")
    assert dialog.at == "still_wrong"
    assert [flow["context"]["source"] for flow in hass.config_entries.flow.async_progress()] == ["reauth"]
    assert issues(hass) == {"docker"}


# ---------------------------------------------------------------- the host key


async def test_a_new_host_key_is_shown_beside_the_old_one_and_pinned_only_by_accepting(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(KEY)
    assert (dialog.at, dialog.options) == ("review", ["accept", "test", "ignore"])
    assert fingerprint(OLD_KEY) in dialog.shown
    assert fingerprint(NEW_KEY) in dialog.shown
    script.reports = [report(KEY)]
    await dialog.choose("test")
    assert dialog.at == "still_wrong"
    assert host.entry.data["host_keys"] == [OLD_KEY]
    assert script.tests == [(OLD_KEY,)]
    await dialog.choose("review")
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint=fingerprint(NEW_KEY)))]
    await dialog.accept()
    assert dialog.at == "fixed"
    assert host.entry.data["host_keys"] == [NEW_KEY]
    assert script.tests[1:] == [(NEW_KEY,)]
    assert host.entry.runtime_data.address.host_keys == (NEW_KEY,)
    assert issues(hass) == set()
    await dialog.submit()
    assert dialog.at == "create_entry"


async def test_a_machine_whose_new_key_was_accepted_may_have_a_new_machine_id_as_well(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    # It was reinstalled, most likely: polls would take it for another machine for good.
    dialog = await begin(KEY)
    hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, "machine": "0" * 32})
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint=fingerprint(NEW_KEY)))]
    await dialog.accept()
    assert dialog.at == "fixed"
    assert host.entry.data["machine"] != "0" * 32


async def test_keys_that_another_dialog_pins_while_the_machine_proves_its_own_are_left_alone(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(KEY)
    newest = [OLD_KEY, KeyPair.generate().public_openssh]

    async def prove(*_: object) -> None:
        hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, "host_keys": newest})

    with patch("custom_components.homelab_monitor.repairs.async_require_proof", prove):
        await dialog.accept()
    assert dialog.at == "review"
    assert host.entry.data["host_keys"] == newest


async def test_what_the_machine_prints_is_compared_before_a_new_key_is_accepted(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(KEY)
    await dialog.choose("accept")
    await dialog.submit(printed=f"256 {fingerprint(OLD_KEY)} desk (ED25519)")
    assert (dialog.at, dialog.result["errors"]) == ("accept", {"base": "not_this_key"})
    await dialog.submit(printed="desk")
    assert (dialog.at, dialog.result["errors"]) == ("accept", {"base": "no_fingerprint"})
    assert host.entry.data["host_keys"] == [OLD_KEY]
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint="SHA256:a"))]
    await dialog.submit(printed=f"256 {fingerprint(NEW_KEY)} desk (ED25519)")
    assert (dialog.at, host.entry.data["host_keys"]) == ("fixed", [NEW_KEY])


async def test_what_a_form_confirms_cannot_be_changed_by_who_fills_it_in(host: Host, script: Script, begin) -> None:
    dialog = await begin(KEY)
    await dialog.choose("accept")
    fields = {field["name"]: field["selector"] for field in dialog.result["data_schema"]}
    assert {name: [*kind] for name, kind in fields.items()} == {"printed": ["text"], "fingerprint": ["constant"]}
    # A label that is empty is all that is seen of it: the description shows the fingerprint.
    assert fields["fingerprint"]["constant"] == {"value": fingerprint(NEW_KEY), "label": ""}


async def test_nothing_is_accepted_that_was_not_shown(hass: HomeAssistant, host: Host, script: Script) -> None:
    flow = HostKeyFlow(host.entry, "host_key")
    flow.hass = hass
    assert await flow._async_pin("") == "review"
    assert host.entry.data["host_keys"] == [OLD_KEY]


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        (NotSSH("nas"), "unreachable"),
        (ConnectionLost("nas"), "unreachable"),
        (HostKeyChanged("nas", expected="SHA256:b", offered="SHA256:c"), "review"),
    ],
)
async def test_a_key_that_is_only_shown_is_not_pinned(
    host: Host, script: Script, begin, failure: HomelabError, step: str
) -> None:
    host.hass.config_entries.async_update_entry(host.entry, options={CONF_SUDO: ["sockets"]})
    dialog = await begin(KEY)
    script.proof = failure
    await dialog.accept()
    assert dialog.at == step
    assert script.proven == [NEW_KEY]
    assert (host.entry.data["host_keys"], dict(host.entry.options)) == ([OLD_KEY], {CONF_SUDO: ["sockets"]})
    script.proof, script.reports = None, [report(KEY)]
    if step == "unreachable":
        assert failure.what in dialog.shown
        await dialog.choose("review")
    await dialog.accept()
    assert host.entry.data["host_keys"] == [NEW_KEY]


@pytest.fixture
def pi(hass: HomeAssistant) -> MockConfigEntry:
    """Return the entry of another host that is watched; its address may be this one's by now."""
    entry = make_entry()
    data = {**entry.data, "host": "127.0.0.2", "host_id": "f" * 32, "host_keys": [NEW_KEY], "machine": "e" * 32}
    other = MockConfigEntry(domain=DOMAIN, title="pi", unique_id="f" * 32, data=data)
    other.add_to_hass(hass)
    return other


async def test_the_key_of_another_host_of_ours_is_not_accepted(
    host: Host, script: Script, begin, pi: MockConfigEntry
) -> None:
    """Two hosts have swapped their addresses: that one becomes the other is in nobody's mind."""
    dialog = await begin(KEY)
    assert (dialog.at, dialog.options) == ("other_host", ["review", "ignore"])
    assert "pi answers at" in dialog.shown
    script.key = OLD_KEY
    await dialog.choose("review")
    assert dialog.at == "same_again"
    assert host.entry.data["host_keys"] == [OLD_KEY]


async def test_a_key_that_another_host_has_got_meanwhile_is_not_accepted(
    hass: HomeAssistant, host: Host, script: Script, begin, pi: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(pi, data={**pi.data, "host_keys": ["ssh-ed25519 AAAA"]})
    dialog = await begin(KEY)
    assert dialog.at == "review"
    hass.config_entries.async_update_entry(pi, data={**pi.data, "host_keys": [NEW_KEY]})
    await dialog.accept()
    assert dialog.at == "other_host"
    assert (host.entry.data["host_keys"], script.proven) == ([OLD_KEY], [])


@pytest.mark.parametrize("told", ["e" * 32, "f" * 32], ids=["noted", "id"])
async def test_the_machine_of_another_host_is_not_accepted_with_a_new_key_either(
    host: Host, script: Script, begin, pi: MockConfigEntry, told: str
) -> None:
    """The other host was given new keys, and then this one's address."""
    keys = {"host_keys": ["ssh-ed25519 AAAA"], "machine": "" if told == "f" * 32 else told}
    host.hass.config_entries.async_update_entry(pi, data={**pi.data, **keys})
    script.system = System(hostname="pi", kernel="6", architecture="x86_64", machine_id_hash=told)
    dialog = await begin(KEY)
    await dialog.accept()
    assert dialog.at == "other_host"
    assert "pi answers at" in dialog.shown
    assert host.entry.data["host_keys"] == [OLD_KEY]


async def test_of_clones_the_one_that_it_was_is_accepted(
    hass: HomeAssistant, host: Host, script: Script, begin, pi: MockConfigEntry
) -> None:
    """Both say one machine-id; this one was given a key of its own."""
    hass.config_entries.async_update_entry(pi, data={**pi.data, "host_keys": ["ssh-ed25519 AAAA"], "machine": HOST_ID})
    script.system = System(hostname="nas", kernel="6", architecture="x86_64", machine_id_hash=HOST_ID)
    script.reports = [report(KEY)]
    dialog = await begin(KEY)
    await dialog.accept()
    assert host.entry.data["host_keys"] == [NEW_KEY]


async def test_what_is_accepted_is_what_was_shown(hass: HomeAssistant, host: Host, script: Script, begin) -> None:
    dialog = await begin(KEY)
    script.key = "ssh-ed25519 AAAA"
    script.reports = [report(KEY)]
    await dialog.accept()
    assert dialog.at == "still_wrong"
    assert host.entry.data["host_keys"] == [NEW_KEY]


async def test_a_host_whose_keys_cannot_be_seen_changes_nothing(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    script.key = NameNotFound("nas", HOSTILE)
    dialog = await begin(KEY)
    assert (dialog.at, dialog.options) == ("unreachable", ["review", "ignore"])
    assert "name not found" in dialog.shown
    script.key = NEW_KEY
    await dialog.choose("review")
    assert dialog.at == "review"
    assert "name not found" not in dialog.shown
    await dialog.choose("ignore")
    assert dialog.at == "ignored"
    assert host.entry.data["host_keys"] == [OLD_KEY]


async def test_a_host_that_goes_away_after_its_keys_were_seen_says_so_and_offers_none_of_them(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(KEY)
    script.reports = [report(KEY)]
    await dialog.choose("test")
    script.key = NameNotFound("nas", "")
    await dialog.choose("review")
    assert (dialog.at, dialog.options) == ("unreachable", ["review", "ignore"])
    assert "name not found" in dialog.shown
    assert fingerprint(NEW_KEY) not in json.dumps(dialog.result)


async def test_a_host_that_shows_its_old_key_again_needs_no_accepting(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    script.key = OLD_KEY
    dialog = await begin(KEY)
    assert dialog.at == "same_again"
    script.reports = [report(row("host_key", CheckStatus.OK, "host_key_pinned", fingerprint="SHA256:a"))]
    await dialog.submit()
    assert dialog.at == "fixed"
    assert host.entry.data["host_keys"] == [OLD_KEY]


# ---------------------------------------------------------------- who may, and hosts that go away


async def test_a_user_who_may_only_read_can_neither_fix_nor_see_a_flow(
    hass: HomeAssistant,
    script: Script,
    begin,
    hass_client: ClientSessionGenerator,
    hass_read_only_access_token: str,
) -> None:
    dialog = await begin(DOCKER)
    flow = f"{FIX}/{dialog.result['flow_id']}"
    reader = await hass_client(hass_read_only_access_token)
    answers = [
        await reader.post(FIX, json={"handler": DOMAIN, "issue_id": dialog.issue_id}),
        await reader.post(flow, json={"next_step_id": "run"}),
        await reader.get(flow),
    ]
    assert [answer.status for answer in answers] == [HTTPStatus.UNAUTHORIZED] * 3
    assert script.ran == []


async def test_an_issue_of_a_host_that_is_gone_says_so(hass: HomeAssistant, host: Host, script, begin) -> None:
    await begin(DOCKER)
    await hass.config_entries.async_unload(host.entry.entry_id)
    assert (await begin(DOCKER)).at == "gone"


@pytest.mark.parametrize("choice", ["run", "test"])
async def test_a_host_that_goes_while_its_flow_is_open_ends_the_flow(
    hass: HomeAssistant, host: Host, script: Script, begin, choice: str
) -> None:
    dialog = await begin(
        DOCKER if choice == "run" else row("podman", CheckStatus.AMBER, "podman_denied", username="mon")
    )
    await hass.config_entries.async_unload(host.entry.entry_id)
    await dialog.choose(choice)
    assert dialog.at == "gone"
    assert script.ran == []


async def test_a_password_for_a_host_that_went_meanwhile_is_not_sent(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)
    script.results = [RemedyResult(outcome=Outcome.NEEDS_PASSWORD)]
    await dialog.choose("run")
    await hass.config_entries.async_unload(host.entry.entry_id)
    await dialog.submit(password="s3cret")
    assert dialog.at == "gone"
    assert [password for _, password in script.ran] == [None]


async def test_a_report_of_a_host_that_was_unloaded_meanwhile_is_not_stored(
    hass: HomeAssistant, host: Host, script: Script, begin
) -> None:
    dialog = await begin(DOCKER)

    async def unload(*_: object, **__: object) -> tuple[Report, None]:
        hass.async_create_task(hass.config_entries.async_unload(host.entry.entry_id))
        await asyncio.sleep(60)
        return report(DOCKER_GOOD), None

    script.results, store = [DONE], host.entry.runtime_data.store
    with patch("custom_components.homelab_monitor.capability.run_checks", unload):
        await dialog.choose("run")
    assert dialog.at == "ended"
    assert store.memory.last_test is None


async def test_closing_the_dialog_stops_what_runs(hass: HomeAssistant, host: Host, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    started, stopped = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> RemedyResult:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return DONE

    with patch(f"{MODULE}.run_remedy", slow):
        answer = await dialog.client.post(f"{FIX}/{dialog.result['flow_id']}", json={"next_step_id": "run"})
        assert (await answer.json())["type"] == "progress"
        await started.wait()
        await dialog.client.delete(f"{FIX}/{dialog.result['flow_id']}")
        async with asyncio.timeout(5):
            await stopped.wait()


# ---------------------------------------------------------------- remote text


@pytest.mark.parametrize(
    "wrong",
    [
        SHELL,
        row("gpu", CheckStatus.AMBER, "gpu_broken", "restart_host", detail=HOSTILE),
        row("probe", CheckStatus.AMBER, "section_failed", sections=HOSTILE, detail=HOSTILE),
        row("docker", CheckStatus.AMBER, "docker_stopped", "start_docker", detail=HOSTILE),
    ],
)
async def test_what_a_host_wrote_stays_text(hass: HomeAssistant, host: Host, script: Script, begin, wrong) -> None:
    hass.config_entries.async_update_entry(host.entry, title=HOSTILE)
    dialog = await begin(wrong)
    script.reports = [report(wrong)]
    if "show" in dialog.options:
        await dialog.choose("show")
        await dialog.submit()
    else:
        await dialog.choose("test")
    for text in [json.loads(each).get("description_placeholders") or {} for each in dialog.seen]:
        for name, value in text.items():
            # What is shown as plain text has no Markdown, and needs no backslashes; it stays on its line.
            assert value.isprintable() if name.startswith("plain_") else is_harmless(value), (name, value)


@pytest.mark.parametrize("key", ["check", "host_key_changed"])
async def test_a_name_looks_as_it_is_in_plain_text_and_in_markdown(
    hass: HomeAssistant, host: Host, script: Script, begin, key: str
) -> None:
    data = {**host.entry.data, "username": "backup.user"}
    hass.config_entries.async_update_entry(host.entry, title="media-server.lan", data=data)
    dialog = await begin(DOCKER if key == "check" else KEY)
    shown = dialog.result["description_placeholders"]
    flow = TEXTS["issues"][key]["fix_flow"]
    plain = list(flow.get("error", {}).values())
    markdown = [*flow["progress"].values(), *flow["abort"].values()]
    for step in flow["step"].values():
        plain += [step["title"], *step.get("menu_options", {}).values(), *step.get("data", {}).values()]
        markdown.append(step["description"])
    shown |= dict.fromkeys(
        ("command", "brief_command", "cure", "result", "reason", "offered", "expected", "fingerprint_command"), ""
    )
    for text in plain:
        assert "\\" not in text.format_map(shown), text
    for text in markdown:
        assert not re.search("media-server|server.lan|backup[.]user", text.format_map(shown)), text
    assert key != "check" or "Fix Docker on media-server.lan" in [text.format_map(shown) for text in plain]
    assert key != "check" or "Password of backup.user" in [text.format_map(shown) for text in plain]


UPDATES = row(
    "updates_rule", CheckStatus.AMBER, "updates_script_missing", "install_updates_rule", manager="apt", script="x"
)


@pytest.mark.parametrize("wrong", [UPDATES, SMART], ids=["updates", "disks"])
async def test_a_long_command_is_summed_up_and_can_be_unfolded_before_it_is_run(
    script: Script, begin, wrong: CheckResult
) -> None:
    dialog = await begin(wrong)
    seen, _, folded = dialog.shown.partition("<details><summary>")
    text, _, after = folded.partition("\n```\n\n</details>")
    whole = remedy_for(wrong.remedy, Family.OTHER, "mon", wrong.placeholders) or remedy_for(
        wrong.remedy, Family.DEBIAN, "mon", wrong.placeholders
    )
    title, _, shown = text.partition("</summary>\n\n```\n")
    assert title == f"Show the whole command ({len(whole.text.splitlines())} lines)"
    assert shown == whole.text.replace("\n\n\n", "\n\n\n")
    assert len((seen + after).splitlines()) < 40
    assert all(each.path in seen for each in whole.changes)
    script.results = [RemedyResult(outcome=Outcome.NEEDS_PASSWORD)]
    await dialog.choose("run")
    assert dialog.at == "password"
    assert len(dialog.shown.splitlines()) < 12
    assert len(dialog.shown) < 700, "the field and its error have to be seen on a phone"
    assert all(each.path in dialog.shown for each in whole.changes if each.kind != "rule_doas")


async def test_what_a_command_printed_stays_in_its_block(hass: HomeAssistant, script: Script, begin) -> None:
    dialog = await begin(DOCKER)
    result = RemedyResult(outcome=Outcome.FAILED, exit_status=1, stdout=HOSTILE, stderr=HOSTILE + "````")
    script.results, script.reports = [result], [report(DOCKER)]
    await dialog.choose("run")
    shown = dialog.result["description_placeholders"]["result"]
    assert is_harmless(shown)
    assert "<svg onload=alert(1)>" in shown, "inside a fence it is shown as it is"


def is_harmless(markdown: str) -> bool:
    """Tell whether, outside code, every character with a meaning is escaped."""
    outside, fence = [], ""
    for line in markdown.splitlines():
        if fence:
            fence = "" if line.strip() == fence else fence
        elif line.startswith("```"):
            fence = line.strip()
        else:
            outside.append(line.replace("**", "").replace("<wbr>", ""))
    text = "\n".join(re.sub(r"(?<![`\\])(`+)(?!`).+?(?<!`)\1(?!`)", "", line) for line in outside)
    meant = [i for i, char in enumerate(text) if char in "<>[]`|#!" and (i == 0 or text[i - 1] != "\\")]
    return not fence and not meant
