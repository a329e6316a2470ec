"""Updates, reboots and protection: what entities say of them, and what they leave open."""

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.homelab_monitor.capability import async_test_host
from custom_components.homelab_monitor.client.checks.report import Report
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host

TEXTS = Path(__file__).parents[1] / "custom_components" / "homelab_monitor" / "translations" / "en.json"
PACKAGES = "update.plain_packages"
SECOND_ROUND = 605


@pytest.fixture
def everything_enabled() -> Iterator[None]:
    """Enable every entity when it is first seen."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", new=True):
        yield


async def notes(hass_ws_client: WebSocketGenerator) -> str:
    """Return the release notes as the frontend gets them."""
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "update/release_notes", "entity_id": PACKAGES})
    return (await client.receive_json())["result"]


async def test_pending_packages_are_an_update_that_can_be_read_and_not_installed(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator
) -> None:
    await host.start()
    state = hass.states.get(PACKAGES)
    assert state is not None
    assert state.state == "on"
    assert state.attributes["installed_version"] == "Debian GNU/Linux 12 (bookworm)"
    assert state.attributes["latest_version"] == "Debian GNU/Linux 12 (bookworm) + 3 📦 (1 🔒)"
    assert not state.attributes["supported_features"] & 1
    assert "openssl" not in str(state.attributes)
    first, *others = (await notes(hass_ws_client)).splitlines()
    assert first == r"- 🔒 **openssl** 3\.0\.17\-1\~deb12u2 → 3\.0\.17\-1\~deb12u3"
    assert len(others) == 2
    assert host.state("sensor.plain_pending_updates") == "3"
    assert host.state("sensor.plain_security_updates") == "1"


async def test_how_many_updates_there_are_is_seen_beside_the_longest_name_of_a_system(
    hass: HomeAssistant, host: Host
) -> None:
    host.session.sections["system"]["os_name"] = "x" * 5000
    await host.start()
    attributes = hass.states.get(PACKAGES).attributes
    assert 40 <= len(attributes["installed_version"]) <= 120
    assert attributes["latest_version"].endswith("+ 3 📦 (1 🔒)")


async def test_what_is_withheld_is_reported_beside_the_offer_and_not_pending(hass: HomeAssistant, host: Host) -> None:
    withheld = {"held": {"count": 2, "security": 1}, "phased": {"count": 3}, "kept_back": {"count": 0, "security": 0}}
    host.session.sections["updates"] |= {"pending": 0, "security": 0, "packages": [], **withheld}
    await host.start()
    state = hass.states.get(PACKAGES)
    assert state is not None
    assert state.state == "off"
    told = {key: value for key, value in state.attributes.items() if key.startswith(tuple(withheld))}
    assert told == {"held": 2, "held_security": 1, "phased": 3, "kept_back": 0, "kept_back_security": 0}
    names = json.loads(TEXTS.read_text())["entity"]["update"]["host_packages"]["state_attributes"]
    assert told.keys() <= names.keys()
    host.session.sections["updates"] |= {"held": {"count": 1}}
    await host.move(SECOND_ROUND, step=5)
    attributes = hass.states.get(PACKAGES).attributes
    assert (attributes["held"], "held_security" in attributes) == (1, False)


async def test_what_a_package_manager_does_not_distinguish_has_no_attribute(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert not {"held", "phased", "kept_back"} & hass.states.get(PACKAGES).attributes.keys()


async def test_a_list_that_was_cut_says_how_many_more_there_are(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator
) -> None:
    host.session.sections["updates"] |= {"pending": 250, "security": None, "complete": {"packages": False}}
    await host.start()
    assert hass.states.get(PACKAGES).attributes["latest_version"].endswith("+ 250 📦")
    assert (await notes(hass_ws_client)).splitlines()[-1] == "- … + 247"


async def test_a_package_name_cannot_become_markup(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator
) -> None:
    row = {"name": "a](javascript:x)<img src=x>**", "available": "1\n# b"}
    host.session.sections["updates"] |= {"pending": 1, "packages": [row]}
    await host.start()
    text = await notes(hass_ws_client)
    assert len(text.splitlines()) == 1
    assert r"a\]\(javascript\:x\)\<img" in text


async def skip(hass: HomeAssistant) -> None:
    await hass.services.async_call("update", "skip", {"entity_id": PACKAGES}, blocking=True)


async def test_who_skipped_packages_is_offered_others_of_the_same_number(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    await skip(hass)
    await host.move(20)
    assert host.state(PACKAGES) == "off"
    for number in range(2):
        rows = [{"name": f"linux-image-{number}", "available": "2", "security": True}, {"name": "a"}, {"name": "b"}]
        host.session.sections["updates"] |= {"packages": rows}
        await host.move(SECOND_ROUND, step=5)
        assert host.state(PACKAGES) == "on"
        assert hass.states.get(PACKAGES).attributes["skipped_version"] is None
        await skip(hass)
        await host.move(SECOND_ROUND, step=5)
        assert host.state(PACKAGES) == "off"


@pytest.mark.parametrize(("available", "state"), [("2", "off"), ("3", "on")])
async def test_what_was_skipped_is_known_after_a_restart(
    hass: HomeAssistant, host: Host, available: str, state: str
) -> None:
    rows = [{"name": "openssl", "available": "2", "security": True}]
    host.session.sections["updates"] |= {"pending": 1, "security": 1, "packages": rows}
    await host.start()
    await skip(hass)
    await host.move(20)
    await hass.config_entries.async_unload(host.entry.entry_id)
    host.session.sections["updates"] |= {"packages": [{**rows[0], "available": available}]}
    await host.start_again()
    await host.move(20)
    assert host.state(PACKAGES) == state


def forget(host: Host, *, is_told: bool) -> dict[str, Any]:
    """Let a host no longer say what is pending, or no longer anything of updates; return what it has said."""
    told = host.session.sections.pop("updates")
    if is_told:
        host.session.sections["updates"] = {"manager": "apt"}
    else:
        host.session.document["missing"]["updates"] = "unreadable"
    return told


@pytest.mark.parametrize("is_told", [True, False], ids=["no count", "no word"])
async def test_what_was_skipped_stays_skipped_while_nobody_knows_what_is_pending(
    hass: HomeAssistant, host: Host, is_told: bool
) -> None:
    await host.start()
    await skip(hass)
    await host.move(20)
    told = forget(host, is_told=is_told)
    await host.move(SECOND_ROUND, step=5)
    assert host.state(PACKAGES) == "unknown"
    host.session.document["missing"].pop("updates", None)
    host.session.sections["updates"] = told
    await host.move(SECOND_ROUND, step=5)
    assert host.state(PACKAGES) == "off"
    host.session.sections["updates"] = told | {"packages": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    await host.move(SECOND_ROUND, step=5)
    assert host.state(PACKAGES) == "on"


@pytest.mark.parametrize(("is_told", "notes_then"), [(True, ""), (False, None)], ids=["no count", "no word"])
async def test_a_list_that_is_no_longer_known_is_not_shown(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator, is_told: bool, notes_then: str | None
) -> None:
    await host.start()
    assert "openssl" in await notes(hass_ws_client)
    forget(host, is_told=is_told)
    await host.move(SECOND_ROUND, step=5)
    assert await notes(hass_ws_client) == notes_then


async def test_an_up_to_date_host_has_nothing_to_offer(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["updates"] |= {"pending": 0, "security": 0, "packages": []}
    await host.start()
    assert host.state(PACKAGES) == "off"
    assert host.state("sensor.plain_pending_updates") == "0"


async def test_what_cannot_be_known_has_no_entity(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["updates"] = {"manager": "opkg"}
    await host.start()
    for entity_id in (PACKAGES, "sensor.plain_pending_updates", "binary_sensor.plain_reboot_required"):
        assert hass.states.get(entity_id) is None


async def test_a_count_that_is_no_longer_known_is_unknown_and_not_zero(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.sections["updates"] = {"manager": "apt"}
    await host.move(SECOND_ROUND, step=5)
    assert host.state(PACKAGES) == "unknown"
    assert host.state("sensor.plain_pending_updates") == "unknown"
    assert host.state("binary_sensor.plain_reboot_required") == "unknown"


async def test_a_reboot_is_due_with_its_reasons_and_no_problem(hass: HomeAssistant, host: Host) -> None:
    for unit in host.session.sections["services"]["units"]:
        unit["active_state"] = "active"
    host.session.sections["updates"] |= {
        "reboot_required": True,
        "reboot_reasons": ["flagged", "kernel_updated"],
        "reboot_packages": [f"p{number:02}" for number in range(40)],
    }
    await host.start()
    state = hass.states.get("binary_sensor.plain_reboot_required")
    assert state is not None
    assert state.state == "on"
    assert state.attributes["reasons"] == ["flagged", "kernel_updated"]
    assert state.attributes["packages"] == [f"p{number:02}" for number in range(20)], "no more are taken in"
    assert host.state("binary_sensor.plain_problem") == "off"


@pytest.mark.usefixtures("everything_enabled")
async def test_updates_and_protection_that_stay_the_same_write_nothing(hass: HomeAssistant, host: Host) -> None:
    names = ("sensor.plain_package_lists_refreshed", "binary_sensor.plain_firewall", "sensor.plain_failed_logins_1_h")
    await host.start()
    updates = host.session.sections["updates"]
    changes = async_capture_events(hass, "state_changed")
    for _ in range(250):
        updates["metadata_age_seconds"] += 5
        await host.move(5, step=5)
    watched = {*names, PACKAGES, "binary_sensor.plain_reboot_required", "sensor.plain_security_updates"}
    written = [event.data for event in changes if event.data["entity_id"] in watched]
    assert [data["entity_id"] for data in written if data["new_state"].state != data["old_state"].state] == []


@pytest.mark.usefixtures("everything_enabled")
@pytest.mark.parametrize(
    ("part", "state"),
    [
        ({"state": "ok", "reason": "active", "backend": "ufw"}, "on"),
        ({"state": "warning", "reason": "inactive"}, "off"),
        ({"state": "unknown", "reason": "permission_denied"}, "unknown"),
        ({"state": "unknown", "reason": "some_rules"}, "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["reason"],
)
async def test_a_firewall_is_on_off_or_unknown(hass: HomeAssistant, host: Host, part: dict, state: str) -> None:
    host.session.sections["security"]["firewall"] = part
    await host.start()
    found = hass.states.get("binary_sensor.plain_firewall")
    assert found is not None
    assert found.state == state
    assert found.attributes["reason"] == part["reason"]


@pytest.mark.parametrize(("sudo", "is_missed"), [(["security"], True), (["sockets"], False), ([], False)])
async def test_an_option_for_the_firewall_that_no_rule_backs_is_a_repair_until_one_does(
    hass: HomeAssistant, host: Host, sudo: list[str], is_missed: bool
) -> None:
    security = host.session.sections["security"]
    security["firewall"] = {"state": "unknown", "reason": "permission_denied"}
    await host.start(sudo=sudo)
    await host.move(60, step=5)
    registry = ir.async_get(hass)
    issue = registry.async_get_issue(DOMAIN, f"{host.entry.entry_id}_firewall")
    assert (issue is not None) is is_missed
    security["firewall"] = {"state": "ok", "reason": "active", "backend": "nftables"}
    await host.move(760, step=5)
    assert registry.async_get_issue(DOMAIN, f"{host.entry.entry_id}_firewall") is None


@pytest.mark.parametrize("sudo", [["security"], []])
async def test_a_test_may_ask_with_sudo_what_the_options_allow(
    hass: HomeAssistant, host: Host, sudo: list[str]
) -> None:
    await host.start(sudo=sudo)
    report = Report(rows=(), at=1.0, seconds=0.1)
    with patch("custom_components.homelab_monitor.capability.run_checks", return_value=(report, None)) as run:
        await async_test_host(hass, host.entry)
    assert list(run.call_args.kwargs["sudo"]) == sudo


@pytest.mark.usefixtures("everything_enabled")
async def test_failed_logins_that_a_log_may_have_lost_are_unknown_and_many_at_least_so_many(
    hass: HomeAssistant, host: Host
) -> None:
    security = host.session.sections["security"]
    security["failed_logins"] = {"state": "unknown", "reason": "log_too_short", "source": "journal"}
    await host.start()

    def told() -> tuple[str, Any, Any]:
        found = hass.states.get("sensor.plain_failed_logins_1_h")
        assert found is not None
        return found.state, found.attributes["reason"], found.attributes["lower_bound"]

    assert told() == ("unknown", "log_too_short", False)
    security["failed_logins"] = {
        "state": "warning",
        "reason": "many",
        "source": "journal",
        "count": 12,
        "lower_bound": True,
    }
    await host.move(SECOND_ROUND, step=5)
    assert told() == ("12", "many", True)


@pytest.mark.usefixtures("everything_enabled")
async def test_who_may_log_in_and_whether_updates_install_themselves(hass: HomeAssistant, host: Host) -> None:
    names = ("ssh_password_login", "ssh_root_login", "automatic_updates")
    entity_ids = [f"binary_sensor.plain_{name}" for name in names]
    await host.start()
    assert [host.state(entity_id) for entity_id in entity_ids] == ["off", "off", "off"]
    assert host.state("sensor.plain_failed_logins_1_h") == "2"
    security = host.session.sections["security"]
    security["ssh"] |= {"root_login": "prohibit-password", "password_login": True, "reason": "password_login"}
    security["automatic_updates"] = {"state": "ok", "reason": "active", "tool": "unattended-upgrades"}
    await host.move(SECOND_ROUND, step=5)
    assert [host.state(entity_id) for entity_id in entity_ids] == ["on", "on", "on"]
    security["ssh"] = {"state": "unknown", "reason": "permission_denied"}
    del security["automatic_updates"]
    await host.move(SECOND_ROUND, step=5)
    assert [host.state(entity_id) for entity_id in entity_ids] == ["unknown"] * 3
