"""What outlives a restart, and what happens to a file that cannot be read."""

from homeassistant.core import HomeAssistant
import pytest

from custom_components.homelab_monitor.client.keys import KeyPair
from custom_components.homelab_monitor.store import KEY_STORAGE_KEY, async_get_key

from .scripted import Host, set_up


async def test_the_key_is_made_once_and_kept(hass: HomeAssistant, hass_storage) -> None:
    key = await async_get_key(hass)
    assert await async_get_key(hass) is key
    assert KeyPair.from_private(hass_storage[KEY_STORAGE_KEY]["data"]["private_key"]) == key


async def test_a_stored_key_is_used_again(hass: HomeAssistant, hass_storage) -> None:
    key = KeyPair.generate()
    hass_storage[KEY_STORAGE_KEY] = {"version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": key.private_openssh}}
    assert await async_get_key(hass) == key


async def test_a_key_that_cannot_be_read_is_set_aside_and_said(
    hass: HomeAssistant, hass_storage, caplog: pytest.LogCaptureFixture
) -> None:
    hass_storage[KEY_STORAGE_KEY] = {"version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": "garbage"}}
    key = await async_get_key(hass)
    assert hass_storage[f"{KEY_STORAGE_KEY}.unreadable"]["data"]["private_key"] == "garbage"
    assert hass_storage[KEY_STORAGE_KEY]["data"]["private_key"] == key.private_openssh
    assert "cannot be read" in caplog.text
    assert "garbage" not in " ".join(r.getMessage() for r in caplog.records if "homelab_monitor.store" in r.name)


async def test_the_snapshot_is_saved_within_a_quarter_of_an_hour_however_often_it_changes(
    hass: HomeAssistant,
    hass_storage,
    host: Host,
) -> None:
    await set_up(hass, host.entry, host.session)
    key = f"homelab_monitor.{host.entry.entry_id}"
    await host.move(30)
    hass_storage.pop(key, None)
    await host.move(905, step=5)
    stored = hass_storage[key]["data"]["snapshot"]
    assert host.freezer().timestamp() - stored["received"] < 910
