"""The little that must work on every supported Home Assistant; scripts/test runs it on the oldest one, too."""

import importlib
import pkgutil

from homeassistant.config_entries import SOURCE_USER, ConfigEntryState
from homeassistant.core import HomeAssistant
import pytest

import custom_components.homelab_monitor as integration
from custom_components.homelab_monitor.const import DOMAIN
from tests.scripted import CONNECTIVITY, Host

MODULES = [module.name for module in pkgutil.walk_packages(integration.__path__, f"{integration.__name__}.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_module_can_be_imported(name: str) -> None:
    assert importlib.import_module(name)


async def test_a_host_is_set_up_shows_values_and_is_unloaded(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert hass.states.get(CONNECTIVITY).state == "on"
    assert float(hass.states.get("sensor.plain_memory_usage").state) > 0
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    assert host.entry.state is ConfigEntryState.NOT_LOADED


async def test_adding_a_host_begins_with_our_key(hass: HomeAssistant) -> None:
    step = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert "ssh-ed25519 " in str(step["description_placeholders"])
