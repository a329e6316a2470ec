"""Diagnostics: useful for a bug report, silent about who and where."""

import json

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from .scripted import Host


async def test_diagnostics_tell_the_snapshot_and_hide_the_host(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert found["status"] == "online"
    assert found["snapshot"]["sections"]["memory"]["total_bytes"] == 8_000_000_000
    assert found["snapshot"]["seconds"] == {"cpu": 0.0004}
    assert found["inventory"]["filesystem"] == 2
    text = json.dumps(found)
    for secret in ("127.0.0.1", "02:00:00:00:00:01", "S-1", "naa.5000000000000001", "00112233", "ssh-ed25519"):
        assert secret not in text
