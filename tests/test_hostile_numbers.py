"""No value of a host keeps a state from being written, the store from being saved, or Home Assistant from starting."""

from collections.abc import Iterator
import logging
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers.json import json_bytes, prepare_save_json
import pytest

from custom_components.homelab_monitor.client.models import SECTIONS

from .scripted import Host
from .test_hostile_host import complaints, counting
from .worst_replies import NASTY_NUMBERS, NASTY_VALUES, TYPES, Filling

WHOLE = {name: Filling(2).section(TYPES[name]) for name in SECTIONS}


@pytest.fixture
def every_entity() -> Iterator[None]:
    """Enable also what is disabled by default."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", new=True):
        yield


def changed(value: Any, number: int, wrong: object, counted: list[int]) -> Any:
    """Return the JSON value with another one in the place of its single value of that number."""
    if isinstance(value, dict):
        return {name: changed(each, number, wrong, counted) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, number, wrong, counted) for each in value]
    counted[0] += 1
    return wrong if counted[0] == number + 1 else value


def singles(value: Any) -> int:
    """Return how many single values are in a JSON value."""
    if isinstance(value, (dict, list)):
        return sum(map(singles, value.values() if isinstance(value, dict) else value))
    return 1


MOST = max(map(singles, WHOLE.values()))


def everything_changed(number: int, wrong: object) -> dict[str, Any]:
    """Return all sections, each with another value in one place."""
    return {name: changed(section, number, wrong, [0]) for name, section in WHOLE.items()}


async def poll(host: Host, sections: dict[str, Any]) -> None:
    """Poll all sections."""
    host.session.document |= {"sections": sections, "missing": {}}
    coordinator = host.entry.runtime_data
    coordinator._schedule.start_over()
    host.freezer.tick(60)
    await coordinator.async_refresh()
    await host.hass.async_block_till_done(wait_background_tasks=True)


def require_all_is_well(host: Host) -> None:
    """Require that states and store can be written."""
    for state in host.hass.states.async_all():
        json_bytes(state.as_dict())
    prepare_save_json(host.entry.runtime_data.store._plain(), encoder=None)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("every_entity")
@pytest.mark.parametrize("wrong", [*NASTY_NUMBERS, *NASTY_VALUES], ids=lambda wrong: repr(wrong)[:24])
async def test_a_value_in_the_place_of_any_other_harms_nothing(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture, wrong: object
) -> None:
    caplog.set_level(logging.WARNING)
    host.session.document |= {"sections": WHOLE, "missing": {}}
    await host.start()
    entities = len(hass.states.async_all())
    assert entities > 80
    for number in range(MOST):
        await poll(host, everything_changed(number, wrong))
        assert host.status == "online"
    require_all_is_well(host)
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    require_all_is_well(host)
    assert len(hass.states.async_all()) >= entities
    assert complaints(caplog) == []


@pytest.mark.usefixtures("every_entity")
@pytest.mark.parametrize("number", [n for n in NASTY_NUMBERS if abs(n) >= 1 << 53], ids=repr)
async def test_home_assistant_starts_with_every_sensor_whatever_was_stored(
    hass: HomeAssistant, hass_storage, host: Host, caplog: pytest.LogCaptureFixture, number: float
) -> None:
    host.session.document |= {"sections": WHOLE, "missing": {}}
    await host.start()
    await hass.config_entries.async_unload(host.entry.entry_id)
    entities = len(hass.states.async_all())
    key = f"homelab_monitor.{host.entry.entry_id}"
    stored = hass_storage[key]["data"]["snapshot"]
    stored["sections"] = counting(stored["sections"], number)
    stored |= {"epoch": number, "received": number, "ages": dict.fromkeys(stored["ages"], number)}
    await host.start_again()
    assert len(hass.states.async_all()) >= entities
    require_all_is_well(host)
    assert complaints(caplog) == []
