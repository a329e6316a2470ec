"""A host that is disabled, or whose entry is being unloaded: what people may still ask, and what must be over."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import async_fire_time_changed
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.homelab_monitor.client.tracking.inventory import Known

from .scripted import CONNECTIVITY, HOST_ID, Host


async def remove_device(
    hass: HomeAssistant, hass_ws_client: WebSocketGenerator, host: Host, device_id: str
) -> Mapping[str, Any]:
    await async_setup_component(hass, "config", {})
    client = await hass_ws_client(hass)
    await client.send_json_auto_id(
        {
            "type": "config/device_registry/remove_config_entry",
            "config_entry_id": host.entry.entry_id,
            "device_id": device_id,
        }
    )
    return await client.receive_json()


async def test_the_device_of_a_host_that_is_not_loaded_stays(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator, device_registry: dr.DeviceRegistry
) -> None:
    await host.start()
    device = device_registry.async_get_device_by_identifier(("homelab_monitor", HOST_ID), host.entry.entry_id)
    await hass.config_entries.async_unload(host.entry.entry_id)
    answer = await remove_device(hass, hass_ws_client, host, device.id)
    assert answer["error"]["code"] == "home_assistant_error"
    assert "rejected" in answer["error"]["message"]


async def test_the_device_of_an_item_can_be_deleted_while_its_host_is_not_loaded(
    hass: HomeAssistant, host: Host, hass_ws_client: WebSocketGenerator, device_registry: dr.DeviceRegistry
) -> None:
    await host.start()
    host.entry.runtime_data.inventory.items["container"] = {"docker/root/old": Known(keys={}, label="old")}
    await hass.config_entries.async_unload(host.entry.entry_id)
    device = device_registry.async_get_or_create(
        config_entry_id=host.entry.entry_id,
        identifiers={("homelab_monitor", f"{HOST_ID}_container_docker/root/old")},
    )
    assert (await remove_device(hass, hass_ws_client, host, device.id))["success"]
    await host.start_again()
    assert host.entry.runtime_data.inventory.items["container"] == {}


async def test_diagnostics_of_a_host_that_is_not_loaded_report_what_is_remembered(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    loaded = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    await hass.config_entries.async_unload(host.entry.entry_id)
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert found["status"] == "not_loaded"
    for part in ("entry", "inventory", "dropped"):
        assert found[part] == loaded[part]
    assert found["snapshot"]["sections"].keys() == loaded["snapshot"]["sections"].keys()


async def test_a_reply_in_the_moment_of_the_end_leaves_no_timer(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    coordinator, poll = host.entry.runtime_data, host.session.poll
    answered = asyncio.Event()

    async def answer_late(*args: Any) -> object:
        await answered.wait()
        return await poll(*args)

    async def close_slowly() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    host.session.poll, host.session.close = answer_late, close_slowly
    polling = hass.async_create_task(coordinator.async_refresh())
    await asyncio.sleep(0)
    answered.set()
    await hass.config_entries.async_unload(host.entry.entry_id)
    await polling
    host.freezer.tick(timedelta(minutes=5))
    async_fire_time_changed(hass)
    await hass.async_block_till_done()
    assert "is offline" not in caplog.text


# ---------------------------------------------------------------- a fault of ours


async def test_what_cannot_be_taken_in_is_no_success(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    coordinator = host.entry.runtime_data

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(coordinator, "_problem_tracker", type("Broken", (), {"problems": fail})())
    await host.move(60)
    assert (host.status, host.state(CONNECTIVITY)) == ("offline", "off")
    assert host.reason == "internal_error"
    caplog.clear()
    await host.move(600)
    assert 0 < caplog.text.count("Traceback") <= 11, "said, but not at every poll"
    monkeypatch.undo()
    await host.move(61)
    assert host.status == "online"


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_fault_from_the_first_poll_on_has_its_reason(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    if is_stored:
        await host.start()
        await hass.config_entries.async_unload(host.entry.entry_id)
    monkeypatch.setattr("custom_components.homelab_monitor.coordinator.ProblemTracker.problems", fail)
    await (host.start_again() if is_stored else host.start())
    await host.move(130)
    assert (host.status, host.reason) == ("offline", "internal_error")


async def test_a_stored_service_without_its_name_stops_nothing(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.entry.runtime_data.inventory.items["service"]["odd"] = Known(keys={}, label="x")
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await host.move(60)
    assert host.status == "online"
