"""A container with the name of another host is distinguished from it, because anybody who can start one names it."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host, ScriptedSession, set_up


def with_container(host: Host, *names: str) -> None:
    rows: list[dict[str, Any]] = [
        {"engine": "docker", "owner": "root", "id": f"{number:064x}", "name": name, "state": "running", "image": "x:1"}
        for number, name in enumerate(names)
    ]
    engines = [{"engine": "docker", "owner": "root", "state": "ok"}]
    told = {"at": 1.0, "engines": engines, "containers": rows, "complete": {"docker/root": True}}
    host.session.sections["containers"] = told


def another(host: Host, title: str) -> MockConfigEntry:
    data = {**host.entry.data, "host_id": "f" * 32, "host": "192.0.2.9"}
    return MockConfigEntry(domain=DOMAIN, title=title, unique_id="f" * 32, data=data)


def devices(hass: HomeAssistant) -> set[str | None]:
    return {each.name for each in dr.async_get(hass)._child_devices.values()}


def names(hass: HomeAssistant) -> list[str]:
    return [each.attributes["friendly_name"] for each in hass.states.async_all() if "friendly_name" in each.attributes]


@pytest.mark.parametrize("name", ["nas", "NAS", "na5", "nas.lan", "n\u0430s", "\uff4eas"])
async def test_a_container_that_is_called_like_another_host_says_whose_it_is(
    hass: HomeAssistant, host: Host, name: str
) -> None:
    await set_up(hass, another(host, "nas"), ScriptedSession())
    with_container(host, name, "web")
    await host.start()
    assert devices(hass) == {f"{name} (plain)", "web"}
    assert len(names(hass)) == len(set(names(hass)))


async def test_also_when_the_other_host_comes_goes_or_is_called_so_later(hass: HomeAssistant, host: Host) -> None:
    with_container(host, "nas", "web")
    await host.start()
    assert devices(hass) == {"nas", "web"}
    other = another(host, "box")
    await set_up(hass, other, ScriptedSession())
    assert devices(hass) == {"nas", "web"}
    hass.config_entries.async_update_entry(other, title="nas")
    await hass.async_block_till_done()
    assert devices(hass) == {"nas (plain)", "web"}
    assert len(names(hass)) == len(set(names(hass)))
    hass.config_entries.async_update_entry(host.entry, title="tower")
    await hass.async_block_till_done()
    assert devices(hass) == {"nas (tower)", "web"}
    await hass.config_entries.async_remove(other.entry_id)
    await hass.async_block_till_done()
    assert devices(hass) == {"nas", "web"}


async def test_a_container_may_be_called_like_its_own_host(hass: HomeAssistant, host: Host) -> None:
    with_container(host, "plain")
    await host.start()
    assert devices(hass) == {"plain"}
