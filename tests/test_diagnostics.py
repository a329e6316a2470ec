"""Diagnostics: useful for a bug report, silent about who and where."""

import json

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.homelab_monitor.client.report import CheckResult, Report, Status, Verdict

from .scripted import Host


async def test_diagnostics_tell_the_snapshot_and_hide_the_host(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    noise = Verdict(Status.AMBER, "shell_noise", {"line": "Welcome to secret-lair"}, "quiet_shell")
    login = Verdict(Status.OK, "logged_in", {"username": "secret-user"})
    rows = (CheckResult.of("shell", noise), CheckResult.of("login", login))
    host.entry.runtime_data.store.memory.last_test = Report(rows=rows, at=1.0).as_dict()
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert found["status"] == "online"
    assert found["snapshot"]["sections"]["memory"]["total_bytes"] == 8_000_000_000
    assert found["snapshot"]["seconds"] == {"cpu": 0.0004}
    assert found["inventory"]["filesystem"] == 2
    assert [row["reason"] for row in found["last_test"]["rows"]] == ["shell_noise", "logged_in"]
    text = json.dumps(found)
    assert "secret" not in text
    for secret in ("127.0.0.1", "02:00:00:00:00:01", "S-1", "naa.5000000000000001", "00112233", "ssh-ed25519"):
        assert secret not in text
