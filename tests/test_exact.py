"""What is meant to be copied is exactly copyable: what the dialogs show, a machine prints and takes."""

from collections.abc import Callable
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowHandler
import pytest

from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report
from custom_components.homelab_monitor.health.checklist import async_checklist
from custom_components.homelab_monitor.store import async_get_key

from .exact import code, require_exact, unseen
from .machine import Machine
from .test_config_flow import Dialog

FINGERPRINT = "SHA256:uNiVztksCsDhcc0u9e8BgrJXVGpANLdL2m/ZqwMxQnM"
OTHER = "SHA256:MnQxMwqZ/m2LdLNApGVXJrgB8e9u0cchDsCksztViNu"


@pytest.mark.usefixtures("socket_enabled")
async def test_what_a_person_copies_is_what_the_machine_prints_and_takes(
    hass: HomeAssistant, hass_storage: dict[str, Any], make_machine: Callable[[], Machine]
) -> None:
    machine = make_machine()
    machine.add_user("mon")
    (machine.etc / "ssh" / "ssh_host_ed25519_key.pub").write_text((machine.folder / "host.pub").read_text())
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(machine.target_for("mon")))
    [command] = code(dialog.placeholders["fingerprint_command"])
    printed = machine.run("sh", "-c", command).split()[1]
    assert printed.startswith("SHA256:")
    assert code(dialog.placeholders["fingerprints"]) == [printed]
    await dialog.submit()
    assert dialog.at == ("authorize", None)
    [command] = code(dialog.placeholders["install_command"])
    machine.run("su", "mon", "-c", command)
    key = await async_get_key(hass)
    [line] = code(dialog.placeholders["key_line"])
    assert f" {key.public_openssh} " in line
    assert machine.run("cat", "/home/mon/.ssh/authorized_keys").splitlines() == ["", line]
    await dialog.choose("added")
    assert dialog.at == ("checklist", None)
    assert printed in code(dialog.placeholders["checklist"])


async def test_what_checks_show_is_exact_and_no_long_word_is_in_the_table(hass: HomeAssistant) -> None:
    path = "/usr/local/sbin/homelab_monitor-update"
    rows = [
        CheckResult(CheckStatus.INFO, "updates_rule_none", check="docker"),
        CheckResult(CheckStatus.RED, "host_key_changed", {"offered": FINGERPRINT, "expected": OTHER}, check="host_key"),
        CheckResult(CheckStatus.OK, "updates_rule_ready", {"script": path}, check="updates_rule"),
    ]
    shown = await async_checklist(hass, Report(rows=tuple(rows), family=Family.DEBIAN), "mon")
    require_exact(shown)
    assert {FINGERPRINT, OTHER, path} <= set(code(shown))
    table, below = shown.split("\n\n")[:2]
    assert "Docker" in table.replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, table.replace("\N{NO-BREAK SPACE}", " ").split())) <= 16
    assert [line.partition(":")[0] for line in below.splitlines()] == ["- ❌ Host key", "- ✅ Right to install updates"]


async def test_a_flow_that_shows_what_nobody_sees_is_noticed(hass: HomeAssistant) -> None:
    flow = FlowHandler()
    with pytest.raises(AssertionError, match="ZERO WIDTH SPACE"):
        flow.async_show_form(step_id="trust", description_placeholders={"fingerprints": f"{FINGERPRINT}\u200b"})
    assert unseen("⚠️ a\u00a0b\n✅") == []
    assert code("- ED25519: `a b`\n`` `date` ``\n\n```\nx  y\nz\n```") == ["x  y\nz", "a b", "`date`"]
