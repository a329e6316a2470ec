"""Issues: made from rows, by tests at once and by polls when several agree, and never from silence."""

from collections.abc import Callable
from dataclasses import replace
import time
from unittest.mock import AsyncMock, patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.homelab_monitor.capability import async_take_report
from custom_components.homelab_monitor.client.checks.evaluation import Evidence
from custom_components.homelab_monitor.client.checks.host_facts import Facts
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import (
    BadReply,
    CommandNotRun,
    ConnectionRefused,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    NoPython,
    OldForcedCommand,
    ProbeFailed,
    ReplyTooLarge,
    TimedOut,
)
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.health.issues import (
    BAD_POLLS,
    GOOD_POLLS,
    async_issue_row,
    async_remove_issues,
    async_update_issues,
)
from custom_components.homelab_monitor.store import HostMemory, async_hand_over

from .scripted import HOST_ID, Host


def row(check: str, status: CheckStatus, reason: str = "docker_denied") -> CheckResult:
    return CheckResult.of(check, Verdict(status, reason, {"username": "mon"}))


BAD = row("docker", CheckStatus.AMBER)
GOOD = row("docker", CheckStatus.OK, "docker_usable")


class Issues:
    """The issues of the scripted host."""

    def __init__(self, hass: HomeAssistant, host: Host) -> None:
        self.hass = hass
        self.entry = host.entry

    def update(self, *rows: CheckResult, at_once: bool = True) -> None:
        async_update_issues(self.hass, self.entry, rows, at_once=at_once)

    @property
    def severities(self) -> dict[str, str]:
        prefix = f"{self.entry.entry_id}_"
        found = ir.async_get(self.hass).issues.items()
        return {
            key.removeprefix(prefix): issue.severity.value
            for (domain, key), issue in found
            if domain == DOMAIN and issue.active
        }

    def issue(self, check: str) -> ir.IssueEntry:
        found = ir.async_get(self.hass).async_get_issue(DOMAIN, f"{self.entry.entry_id}_{check}")
        assert found is not None, check
        return found


@pytest.fixture
async def issues(hass: HomeAssistant, host: Host) -> Issues:
    await host.start()
    return Issues(hass, host)


def test_amber_warns_red_is_an_error_and_the_rest_is_none(issues: Issues) -> None:
    issues.update(
        BAD,
        row("python", CheckStatus.RED, "no_python"),
        row("gpu", CheckStatus.INFO, "gpu_none"),
        row("proc", CheckStatus.OK, "uptime"),
        row("clock", CheckStatus.UNKNOWN, "not_tested"),
        row("login", CheckStatus.RED, "key_refused"),
    )
    assert issues.severities == {"docker": "warning", "python": "error"}


def test_an_issue_is_worded_for_people_and_names_no_command(issues: Issues) -> None:
    issues.update(BAD)
    issue = issues.issue("docker")
    assert issue.translation_key == "check"
    assert issue.translation_placeholders == {"name": "plain", "problem": "no access to Docker"}
    assert issue.data == {"entry_id": issues.entry.entry_id, "check": "docker"}
    assert issue.is_fixable
    assert not issue.is_persistent


def test_what_is_fixed_is_deleted_and_silence_changes_nothing(issues: Issues) -> None:
    issues.update(BAD)
    issues.update(row("docker", CheckStatus.UNKNOWN, "not_tested"))
    assert issues.severities == {"docker": "warning"}
    assert async_issue_row(issues.hass, issues.entry.entry_id, "docker") == BAD
    issues.update(GOOD)
    assert issues.severities == {}
    assert async_issue_row(issues.hass, issues.entry.entry_id, "docker") is None


def test_worse_is_reported(issues: Issues) -> None:
    issues.update(row("probe", CheckStatus.AMBER, "section_failed"))
    issues.update(row("probe", CheckStatus.RED, "probe_failed"))
    assert issues.severities == {"probe": "error"}
    assert issues.issue("probe").translation_placeholders["problem"] == "the probe does not work"


def test_polls_must_agree_before_an_issue_comes_or_goes(issues: Issues) -> None:
    for _ in range(BAD_POLLS - 1):
        issues.update(BAD, at_once=False)
    issues.update(GOOD, at_once=False)
    for _ in range(BAD_POLLS - 1):
        issues.update(BAD, at_once=False)
    assert issues.severities == {}
    issues.update(BAD, at_once=False)
    assert issues.severities == {"docker": "warning"}
    for _ in range(GOOD_POLLS - 1):
        issues.update(GOOD, at_once=False)
    issues.update(BAD, at_once=False)
    for _ in range(GOOD_POLLS - 1):
        issues.update(GOOD, at_once=False)
    assert issues.severities == {"docker": "warning"}
    issues.update(GOOD, at_once=False)
    assert issues.severities == {}


def test_an_ignored_issue_stays_ignored_while_polls_disagree(issues: Issues) -> None:
    issues.update(BAD)
    ir.async_ignore_issue(issues.hass, DOMAIN, f"{issues.entry.entry_id}_docker", ignore=True)
    for answer in (GOOD, BAD, GOOD, BAD, BAD, BAD):
        issues.update(answer, at_once=False)
    assert issues.issue("docker").dismissed_version is not None


def test_being_offline_is_an_issue_only_when_it_counts_and_ends_with_any_answer(issues: Issues) -> None:
    off, back = row("reachable", CheckStatus.RED, "timed_out"), row("reachable", CheckStatus.OK, "answers")
    for _ in range(10):
        issues.update(off, at_once=False)
    assert issues.severities == {}
    issues.update(off)
    assert issues.severities == {"reachable": "error"}
    issues.update(back, at_once=False)
    assert issues.severities == {}


def test_removing_a_host_removes_its_issues_and_no_others(issues: Issues) -> None:
    other = replace_entry_id(issues, "other")
    issues.update(BAD, row("gpu", CheckStatus.AMBER, "gpu_broken"))
    async_update_issues(issues.hass, other, [BAD], at_once=True)
    async_remove_issues(issues.hass, issues.entry.entry_id)
    assert list(issues.severities) == ["other_docker"]
    async_remove_issues(issues.hass, "never seen")


def replace_entry_id(issues: Issues, entry_id: str) -> object:
    class Other:
        title = "other"

    Other.entry_id = entry_id
    return Other


async def test_a_removed_entry_leaves_no_issue(hass: HomeAssistant, issues: Issues) -> None:
    issues.update(BAD)
    await hass.config_entries.async_remove(issues.entry.entry_id)
    assert issues.severities == {}


async def test_a_user_who_may_only_read_learns_nothing_that_a_host_wrote(
    hass: HomeAssistant, issues: Issues, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    secret = CheckResult.of(
        "shell", Verdict(CheckStatus.AMBER, "shell_noise", {"line": "remote <b>words</b>"}, "quiet_shell")
    )
    issues.update(secret)
    client = await hass_ws_client(hass, hass_read_only_access_token)
    await client.send_json_auto_id({"type": "repairs/list_issues"})
    listed = await client.receive_json()
    await client.send_json_auto_id(
        {"type": "repairs/get_issue_data", "domain": DOMAIN, "issue_id": f"{issues.entry.entry_id}_shell"}
    )
    told = await client.receive_json()
    assert [each["issue_id"] for each in listed["result"]["issues"]] == [f"{issues.entry.entry_id}_shell"]
    assert "remote" not in repr(listed) + repr(told)
    assert told["result"]["issue_data"] == {"entry_id": issues.entry.entry_id, "check": "shell"}


# ---------------------------------------------------------------- while polling goes on


async def test_a_section_that_is_late_once_is_no_issue_and_one_that_stays_late_is(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    issues = Issues(hass, host)
    host.session.document["missing"]["load"] = "timed_out"
    load = host.session.sections.pop("load")
    await host.move(30)
    assert issues.severities == {}, "late twice; the third reading comes half a minute later"
    await host.move(50)
    assert issues.severities == {"probe": "warning"}
    host.session.sections["load"] = load
    del host.session.document["missing"]["load"]
    await host.move(40)
    assert issues.severities == {"probe": "warning"}
    # What was late twice is asked again only after half a minute, and then has to answer six times.
    await host.move(60)
    assert issues.severities == {}


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b"), "host_key"),
        (NoPython("plain"), "python"),
        (CommandNotRun("plain"), "shell"),
        (OldForcedCommand("plain"), "shell"),
    ],
)
async def test_what_only_a_person_can_mend_is_an_issue_at_once(hass: HomeAssistant, host: Host, error, check) -> None:
    await host.start()
    host.session.error = error
    await host.move(15)
    assert host.status == ("offline" if check == "host_key" else "suspended")
    assert Issues(hass, host).severities == {check: "error"}
    host.session.error = None
    await host.entry.runtime_data.async_resume()
    assert Issues(hass, host).severities == ({} if check == "host_key" else {check: "error"})


async def test_a_probe_that_keeps_failing_is_an_issue(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.error = ProbeFailed("plain", "boom")
    await host.move(60)
    assert Issues(hass, host).severities == {"probe": "error"}


@pytest.mark.parametrize("error", [TimedOut("plain"), ConnectionRefused("plain"), KeyRefused("plain")])
async def test_a_host_that_is_off_or_refuses_us_is_no_issue(hass: HomeAssistant, host: Host, error) -> None:
    await host.start()
    host.session.error = error
    await host.move(3600, step=10)
    assert Issues(hass, host).severities == {}


@pytest.mark.parametrize(("options", "expected"), [({}, {"reachable": "error"}), ({"may_be_off": True}, {})])
async def test_a_day_offline_is_an_issue_unless_the_host_may_be_off(
    hass: HomeAssistant, host: Host, options: dict[str, object], expected: dict[str, str]
) -> None:
    await host.start(**options)
    host.session.error = TimedOut("plain")
    await host.move(86000, step=300)
    assert Issues(hass, host).severities == {}
    await host.move(1500, step=300)
    assert Issues(hass, host).severities == expected
    host.session.error = None
    await host.move(600, step=300)
    assert Issues(hass, host).severities == {}


@pytest.mark.parametrize("error", [BadReply("plain", "no JSON"), ReplyTooLarge("plain", "9 MB")])
async def test_a_host_that_answers_what_nobody_can_use_is_reachable_also_after_a_day(
    hass: HomeAssistant, host: Host, error: HomelabError
) -> None:
    await host.start()
    host.session.error = error
    await host.move(90_000, step=300)
    assert Issues(hass, host).severities == {"probe": "error"}


async def test_a_restart_does_not_start_the_day_offline_anew(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.error = TimedOut("plain")
    await host.move(50_000, step=300)
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await host.move(34_000, step=300)
    assert Issues(hass, host).severities == {}
    await host.move(3000, step=300)
    assert Issues(hass, host).severities == {"reachable": "error"}


async def test_a_host_that_comes_up_after_home_assistant_is_no_issue_however_long_both_were_off(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    host.freezer.tick(3 * 86400)
    host.session.error = TimedOut("plain")
    await host.start_again()
    await host.move(600, step=10)
    assert Issues(hass, host).severities == {}
    await host.move(600, step=10)
    assert Issues(hass, host).severities == {"reachable": "error"}


async def test_a_host_that_never_answered_is_an_issue_a_day_after_the_start(hass: HomeAssistant, host: Host) -> None:
    host.session.error = TimedOut("plain")
    await host.start()
    await host.move(86_000, step=300)
    assert Issues(hass, host).severities == {}
    await host.move(1500, step=300)
    assert Issues(hass, host).severities == {"reachable": "error"}


async def test_a_talking_login_shell_is_an_issue_after_three_polls(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.noise = "Welcome"
    await host.move(40)
    assert Issues(hass, host).severities == {"shell": "warning"}


async def test_the_host_is_checked_wholly_once_per_connection_and_daily(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = []

    async def check(session: object, evidence: object) -> object:
        whole.append(time.monotonic())
        return Report(rows=(row("systemd", CheckStatus.INFO, "no_systemd"), BAD), at=1.0)

    monkeypatch.setattr("custom_components.homelab_monitor.health.monitor.check_connection", check)
    await host.start()
    assert len(whole) == 1
    await host.move(120)
    assert len(whole) == 1
    host.session.connection = connection = type("Connection", (), {"host_keys": ()})()
    await host.move(30)
    assert len(whole) == 2
    host.session.connection = type("Connection", (), {"host_keys": ()})()
    await host.move(30)
    assert len(whole) == 2, "a connection that does not last is judged once a minute"
    await host.move(60)
    assert len(whole) == 3
    assert connection is not None
    await host.move(86000, step=300)
    assert len(whole) == 3
    await host.move(600, step=300)
    assert len(whole) == 4
    assert host.entry.runtime_data.store.memory.last_test["rows"][0]["check"] == "systemd"
    assert Issues(hass, host).severities == {"docker": "warning"}


async def test_a_host_that_reports_no_facts_keeps_its_last_report(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert host.entry.runtime_data.store.memory.last_test is None


def test_rows_of_a_check_are_kept_apart_by_host(issues: Issues) -> None:
    other: Callable = replace_entry_id(issues, "other")
    async_update_issues(issues.hass, other, [replace(BAD, reason="docker_stopped")], at_once=True)
    issues.update(BAD)
    assert async_issue_row(issues.hass, "other", "docker").reason == "docker_stopped"
    assert async_issue_row(issues.hass, issues.entry.entry_id, "docker").reason == "docker_denied"


async def test_polls_end_an_issue_that_only_a_test_has_seen(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    await host.move(120)
    failed = Report(rows=(row("probe", CheckStatus.AMBER, "section_failed"),), at=1.0)
    await async_take_report(hass, host.entry, failed)
    assert Issues(hass, host).severities == {"probe": "warning"}
    await host.move(80)
    assert Issues(hass, host).severities == {}


async def test_polls_bring_back_an_issue_that_a_lucky_test_has_ended(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.document["missing"]["load"] = "timed_out"
    del host.session.sections["load"]
    await host.move(120)
    lucky = Report(rows=(row("probe", CheckStatus.OK, "probe_ran"),), at=1.0)
    await async_take_report(hass, host.entry, lucky)
    assert Issues(hass, host).severities == {}
    await host.move(50)
    assert Issues(hass, host).severities == {"probe": "warning"}


async def test_an_issue_that_somebody_else_deleted_comes_back_with_the_next_poll_that_shows_it(
    hass: HomeAssistant, host: Host
) -> None:
    """Home Assistant deletes an issue when a fix flow ends; polls that are alike are not judged again."""
    await host.start()
    host.session.error = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
    await host.move(3600 * 8, step=60)
    shown = Issues(hass, host)
    assert shown.severities == {"host_key": "error"}
    ir.async_delete_issue(hass, DOMAIN, f"{host.entry.entry_id}_host_key")
    await host.move(3600, step=60)
    assert shown.severities == {"host_key": "error"}
    host.session.error = None
    await host.move(7200, step=60)
    assert shown.severities == {}


async def test_an_issue_that_polls_agree_upon_comes_back_as_well(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.noise = "Welcome"
    await host.move(300)
    assert Issues(hass, host).severities == {"shell": "warning"}
    ir.async_delete_issue(hass, DOMAIN, f"{host.entry.entry_id}_shell")
    await host.move(10)
    assert Issues(hass, host).severities == {"shell": "warning"}


async def test_a_host_that_has_just_booted_is_checked_wholly_once_it_has_started_all(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes up after the SSH server is not missing, and no repair says so for the rest of the day."""
    minutes_until_docker = 1

    async def check(session: object, evidence: Evidence) -> Report:
        is_up = evidence.snapshot.sections.uptime.uptime_seconds >= 60 * minutes_until_docker
        engine = GOOD if is_up else row("docker", CheckStatus.AMBER, "docker_stopped")
        return Report(rows=(row("systemd", CheckStatus.OK, "systemd_version"), engine), at=time.time())

    monkeypatch.setattr("custom_components.homelab_monitor.health.monitor.check_connection", check)
    await host.start()
    host.session.error = ConnectionRefused("plain")
    await host.move(60)
    host.session.error = None
    host.session.document["boot_id"] = "6f1d1a0e-9a52-4a5b-9c5d-0a4c5b1f7a11"
    host.session.sections["uptime"]["uptime_seconds"] = 12.0
    host.session.connection = type("Connection", (), {"closed": True})()
    await host.move(200)
    assert (Issues(hass, host).severities, host.state("sensor.plain_last_test")) == ({}, "ok")
    before = host.entry.runtime_data.store.memory.last_test["at"]
    await host.move(150)
    assert host.entry.runtime_data.store.memory.last_test["at"] > before
    minutes_until_docker = 10_000
    host.session.connection = type("Connection", (), {"closed": True})()
    await host.move(90)
    assert Issues(hass, host).severities == {"docker": "warning"}


async def test_an_issue_that_only_a_whole_judgement_sees_comes_back_once_that_is_repeated(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[float] = []
    found = [BAD]

    async def check(session: object, evidence: object) -> object:
        whole.append(time.monotonic())
        return Report(rows=(row("systemd", CheckStatus.INFO, "no_systemd"), *found), at=1.0)

    monkeypatch.setattr("custom_components.homelab_monitor.health.monitor.check_connection", check)
    await host.start()
    await host.move(120)
    assert len(whole) == 1
    ir.async_delete_issue(hass, DOMAIN, f"{host.entry.entry_id}_docker")
    await host.move(10)
    assert Issues(hass, host).severities == {"docker": "warning"}
    assert len(whole) == 2
    found.clear()  # It is told no longer, so that it does not come back either.
    ir.async_delete_issue(hass, DOMAIN, f"{host.entry.entry_id}_docker")
    await host.move(600, step=10)
    assert (Issues(hass, host).severities, len(whole)) == ({}, 3)


# ---------------------------------------------------------------- what is late


def late(host: Host, section: str) -> Callable[[], None]:
    """Let a section be late until the returned function is called."""
    told = host.session.sections.pop(section)
    host.session.document["missing"][section] = "timed_out"

    def end() -> None:
        del host.session.document["missing"][section]
        host.session.sections[section] = told

    return end


async def test_one_slow_first_answer_of_a_seldom_section_is_no_issue(hass: HomeAssistant, host: Host) -> None:
    end = late(host, "updates")
    await host.start()
    await host.move(55)
    assert Issues(hass, host).severities == {}
    end()
    await host.move(10)
    assert host.state("sensor.plain_pending_updates") not in ("unknown", "unavailable"), "asked again after a minute"
    await host.move(600)
    assert Issues(hass, host).severities == {}


async def test_a_section_that_stays_late_is_an_issue_after_three_of_its_readings(
    hass: HomeAssistant, host: Host
) -> None:
    end = late(host, "updates")
    await host.start()
    await host.move(110)
    assert Issues(hass, host).severities == {}, "two readings"
    await host.move(60)
    assert Issues(hass, host).severities == {"probe": "warning"}
    end()
    await host.move(130)
    assert Issues(hass, host).severities == {}


async def test_a_test_shows_what_is_late_and_makes_no_issue_of_it(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    report = Report(rows=(row("probe", CheckStatus.AMBER, "section_timed_out"),), at=1.0)
    await async_take_report(hass, host.entry, report)
    assert Issues(hass, host).severities == {}
    assert host.entry.runtime_data.store.memory.last_test["rows"][0]["reason"] == "section_timed_out"


async def test_a_judgement_by_polls_finds_nothing_late_that_is_no_issue(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sensor says and what Repairs lists are the same: with one slow answer, nothing is wrong."""
    facts = Facts(system="Linux", systemd="running", is_complete=True)
    monkeypatch.setattr(
        "custom_components.homelab_monitor.client.checks.testing._ask_facts", AsyncMock(return_value=facts)
    )
    late(host, "updates")
    # The test that a person saw as the host was added came upon the same slow answer.
    seen = Report(rows=(row("probe", CheckStatus.AMBER, "section_timed_out"),), at=1.0)
    async_hand_over(hass, HOST_ID, HostMemory(last_test=seen.as_dict(), seen=time.monotonic()))
    await host.start()
    await host.move(20)
    state = hass.states.get("sensor.plain_last_test")
    assert state is not None
    assert state.attributes["tested"] > "1970-01-02"
    assert (state.attributes["checks"]["probe"], Issues(hass, host).severities.get("probe")) == ("ok", None)


async def test_a_host_that_is_switched_off_has_no_issues_until_it_is_monitored_again(
    hass: HomeAssistant, host: Host, issues: Issues
) -> None:
    other = row("smart", CheckStatus.AMBER, "smart_denied")
    issues.update(BAD, other)
    ir.async_ignore_issue(hass, DOMAIN, f"{host.entry.entry_id}_smart", ignore=True)
    assert issues.severities == {"docker": "warning", "smart": "warning"}
    await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
    assert issues.severities == {"smart": "warning"}, "what was ignored is not forgotten"
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        await hass.config_entries.async_set_disabled_by(host.entry.entry_id, None)
        await hass.async_block_till_done(wait_background_tasks=True)
    issues.update(BAD, other)
    assert issues.severities == {"docker": "warning", "smart": "warning"}
    assert issues.issue("smart").dismissed_version is not None


async def test_a_reload_keeps_the_issues(host: Host, issues: Issues) -> None:
    issues.update(BAD)
    await host.reload()
    assert issues.severities == {"docker": "warning"}
