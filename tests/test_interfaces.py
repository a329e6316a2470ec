"""The option `interfaces`: the traffic of chosen ones is enabled, and entities that a person switched do not change."""

from unittest.mock import AsyncMock

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.homelab_monitor.client.errors import Unreachable

from .scripted import Host

RECEIVED, SENT, PRIMARY = "sensor.plain_wlan0_received", "sensor.plain_wlan0_sent", "sensor.plain_eth0_received"
INTEGRATION, USER = er.RegistryEntryDisabler.INTEGRATION, er.RegistryEntryDisabler.USER


@pytest.fixture
def disabled_by(entity_registry: er.EntityRegistry):
    """Return who disabled each entity."""

    def read(*entity_ids: str) -> list[er.RegistryEntryDisabler | None]:
        entries = [entity_registry.async_get(entity_id) for entity_id in entity_ids]
        assert all(entries)
        return [entry.disabled_by for entry in entries if entry]

    return read


async def choose(hass: HomeAssistant, host: Host, *interfaces: str) -> None:
    """Change the option as a person does."""
    flow = await hass.config_entries.options.async_init(host.entry.entry_id)
    sections = {"thresholds": {}, "connection": {}, "privileges": {}}
    result = await hass.config_entries.options.async_configure(
        flow["flow_id"], sections | ({"interfaces": list(interfaces)} if interfaces else {})
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done(wait_background_tasks=True)


@pytest.fixture
def same_session(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every set-up meet the scripted host."""
    monkeypatch.setattr("custom_components.homelab_monitor.async_new_session", AsyncMock(return_value=host.session))


async def test_only_the_primary_ones_traffic_is_enabled(host: Host, disabled_by) -> None:
    await host.start()
    assert disabled_by(PRIMARY, RECEIVED, SENT) == [None, INTEGRATION, INTEGRATION]


@pytest.mark.parametrize("chosen", ["wlan0", "wl*"])
async def test_what_is_chosen_from_the_start_is_enabled(host: Host, disabled_by, chosen: str) -> None:
    await host.start(interfaces=[chosen])
    assert disabled_by(PRIMARY, RECEIVED, SENT) == [None, None, None]
    assert disabled_by("sensor.plain_eth0_link_speed") == [INTEGRATION]


@pytest.mark.usefixtures("same_session")
async def test_a_choice_enables_and_its_end_disables(hass: HomeAssistant, host: Host, disabled_by) -> None:
    await host.start()
    await choose(hass, host, "wlan0", "eth0")
    assert disabled_by(PRIMARY, RECEIVED, SENT) == [None, None, None]
    assert hass.states.get(RECEIVED) is not None
    await choose(hass, host)
    assert disabled_by(PRIMARY, RECEIVED, SENT) == [None, INTEGRATION, INTEGRATION]
    assert hass.states.get(RECEIVED) is None


@pytest.mark.usefixtures("same_session")
async def test_what_a_person_disabled_stays_disabled(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, disabled_by
) -> None:
    await host.start()
    entity_registry.async_update_entity(RECEIVED, disabled_by=USER)
    await choose(hass, host, "wlan0")
    assert disabled_by(RECEIVED, SENT) == [USER, None]
    await choose(hass, host)
    assert disabled_by(RECEIVED, SENT) == [USER, INTEGRATION]


@pytest.mark.usefixtures("same_session")
async def test_what_a_person_enabled_stays_enabled_while_the_choice_is_about_others(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, disabled_by
) -> None:
    await host.start()
    entity_registry.async_update_entity(RECEIVED, disabled_by=None)
    await choose(hass, host, "eth0")
    await choose(hass, host)
    assert disabled_by(PRIMARY, RECEIVED, SENT) == [None, None, INTEGRATION]


@pytest.mark.usefixtures("same_session")
async def test_a_choice_that_did_not_change_undoes_nothing(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, disabled_by
) -> None:
    await host.start(interfaces=["wlan0"])
    entity_registry.async_update_entity(RECEIVED, disabled_by=INTEGRATION)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    assert disabled_by(RECEIVED, SENT) == [INTEGRATION, None]


async def test_the_address_and_the_speed_of_the_link_are_reported(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    await host.start()
    assert host.state("sensor.plain_ip_address") == "192.0.2.20"
    assert entity_registry.async_get("sensor.plain_wlan0_link_speed") is None
    rates = host.entry.runtime_data.data.rates.interfaces
    assert (rates["eth0"].speed_bits_per_second, rates["wlan0"].speed_bits_per_second) == (10**9, None)


async def test_another_address_is_shown_at_the_next_reading(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.sections["interfaces"]["primary_address"] = "192.0.2.99"
    await host.move(610, step=10)
    assert host.state("sensor.plain_ip_address") == "192.0.2.99"


async def test_a_vpn_that_comes_up_after_the_boot_stays_over_days_in_which_the_host_is_off(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    sections = host.session.sections
    sections["network"]["interfaces"]["wg0"] = {"receive_bytes": 5, "transmit_bytes": 5}
    sections["hardware"]["interfaces"]["wg0"] = {"type": "vpn"}
    await host.start(interfaces=["wg0"])
    await host.move(60)
    known = set(entity_registry.entities)
    assert "sensor.plain_wg0_received" in known
    for weekend in range(3):
        # It goes first, and comes last.
        away = {name: sections[name]["interfaces"].pop("wg0") for name in ("network", "hardware")}
        await host.move(20)
        host.session.error = Unreachable("plain")
        await host.move(2.5 * 86400, step=1800)
        host.session.error = None
        host.session.document["boot_id"] = f"boot-{weekend}"
        sections["uptime"]["uptime_seconds"] = 10.0
        await host.move(120)
        assert set(entity_registry.entities) == known
        for name, told in away.items():
            sections[name]["interfaces"]["wg0"] = told
        await host.move(60)
        assert float(host.state("sensor.plain_wg0_received")) >= 0
