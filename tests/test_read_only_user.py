"""What a user without rights sees of a host: its entities and devices, and nothing of how it is reached."""

from collections.abc import Iterator
from dataclasses import asdict
import json
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import HostKeyChanged, Unreachable
from custom_components.homelab_monitor.client.models import Sections
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.health.issues import async_update_issues

from .scripted import CONNECTIVITY, Host
from .test_diagnostics import Aviary

SEEN = {
    # names of what entities are about, and the ids made of them
    "Container.engine",
    "Container.image",
    "Container.name",
    "Container.owner",
    "Fan.chip",
    "Fan.id",
    "Fan.label",
    "Filesystem.mountpoint",
    "Filesystem.uuid",
    "Gpu.name",
    "Gpu.uuid",
    "DiskHardware.model",
    "DiskHardware.wwn",
    "Interfaces.primary_address",
    "Network.interfaces",
    "InterfaceHardware.permanent_mac",
    "Service.name",
    "Temperature.chip",
    "Temperature.id",
    "Temperature.label",
    # the device
    "Hardware.model",
    "Hardware.serial",
    "Hardware.vendor",
    "System.os_name",
    # why an entity is as it is
    "AutomaticUpdates.tool",
    "Firewall.backend",
    "Gpu.throttle_reasons",
    "SecurityPart.reason",
    "SshServer.conditional",
    "SshServer.root_login",
    "Updates.reboot_packages",
    "Updates.reboot_reasons",
    "errors.gpu",
}
"""All that a host reports and that everybody with a login to Home Assistant can read."""

COMMANDS = (
    "get_states",
    "config/device_registry/list",
    "config/entity_registry/list",
    "config_entries/get",
    "repairs/list_issues",
)
DENIED = (
    "config_entries/flow/progress",
    "system_log/list",
    "diagnostics/list",
)


@pytest.fixture
def _every_entity() -> Iterator[None]:
    """Enable every entity."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True):
        yield


def reported(made: Aviary) -> dict[str, Any]:
    """Return sections whose texts are canaries, but for words that decide which entities there are."""
    sections = json.loads(json.dumps(asdict(made.fill(Sections))))
    sections["services"]["units"][0] |= {"active_state": "failed", "load_state": "loaded", "origin": "admin"}
    for container in sections["containers"]["containers"]:
        container |= {"state": "running", "health": "healthy"}
    interfaces = sections["hardware"]["interfaces"]
    sections["hardware"]["disks"] = dict(
        zip(sections["disk_io"]["disks"], sections["hardware"]["disks"].values(), strict=True)
    )
    sections["hardware"]["interfaces"] = dict(zip(sections["network"]["interfaces"], interfaces.values(), strict=True))
    sections["updates"] |= {"pending": 2, "reboot_required": True}
    for row in sections["filesystems"]["filesystems"]:
        del row["guest_uid"]  # what another user mounted has no lasting id of its own
    return sections


@pytest.mark.usefixtures("_every_entity")
async def test_a_user_without_rights_sees_what_entities_and_devices_show_and_nothing_else(
    hass: HomeAssistant,
    host: Host,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
) -> None:
    for component in ("config", "repairs", "system_log", "diagnostics"):
        assert await async_setup_component(hass, component, {})
    made = Aviary()
    host.session.document |= {"sections": reported(made), "missing": {}, "errors": {}}
    data = dict(host.entry.data) | {name: made.canary(f"data.{name}") for name in ("host", "username")}
    host.entry.add_to_hass(hass)
    hass.config_entries.async_update_entry(host.entry, data=data | {"host_keys": [made.canary("data.host_keys")]})
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        assert await hass.config_entries.async_setup(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        host.session.document["errors"] = {"gpu": made.canary("errors.gpu"), "cpu": made.canary("errors.cpu")}
    host.session.noise = made.canary("noise")
    rows = [
        CheckResult.of(check, Verdict(CheckStatus.RED, reason, {"line": made.canary("placeholders")}, "quiet_shell"))
        for check, reason in (("shell", "shell_noise"), ("host_key", "host_key_changed"))
    ]
    async_update_issues(hass, host.entry, rows, at_once=True)
    await host.entry.runtime_data.async_tested(Report(rows=tuple(rows), at=1.0))

    client = await hass_ws_client(hass, hass_read_only_access_token)

    async def ask(command: str, **fields: str) -> Any:
        await client.send_json_auto_id({"type": command, **fields})
        return await client.receive_json()

    async def everything() -> list[Any]:
        answers = [await ask(command) for command in COMMANDS]
        assert all(answer["success"] for answer in answers)
        issues = answers[-1]["result"]["issues"]
        assert issues
        answers += [await ask("repairs/get_issue_data", domain=i["domain"], issue_id=i["issue_id"]) for i in issues]
        return answers

    told = await everything()
    await host.move(70, step=10)
    told += await everything()
    host.session.error = Unreachable(made.canary("error.host"), made.canary("error.detail"))
    await host.move(60, step=10)
    told += await everything()
    assert made.seen(told) == SEEN
    for command in DENIED:
        assert not (await ask(command))["success"], command
    assert not (await ask("update/release_notes", entity_id="update.plain_packages"))["success"]


async def test_a_user_without_rights_can_ignore_an_issue_and_silences_no_alarm(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    await host.start()
    host.session.error = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
    await host.move(120, step=10)
    issue_id = f"{host.entry.entry_id}_host_key"
    client = await hass_ws_client(hass, hass_read_only_access_token)
    await client.send_json_auto_id(
        {"type": "repairs/ignore_issue", "domain": DOMAIN, "issue_id": issue_id, "ignore": True}
    )
    assert (await client.receive_json())["success"]
    assert ir.async_get(hass).async_get_issue(DOMAIN, issue_id).dismissed_version
    await host.move(600, step=30)
    assert host.state(CONNECTIVITY) == "off"
    assert host.reason == "host_key_changed"
