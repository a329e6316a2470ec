"""A name that is too long for a key or a label is still what the host is asked by, and what a person chooses."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest

from custom_components.homelab_monitor.client.limits import KEY_LIMIT, LABEL_LIMIT, NAME_LIMIT
from custom_components.homelab_monitor.client.tracking.inventory import restore_inventory
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host
from .test_controls import knows


def unit(length: int) -> str:
    return "u" * (length - len(".service")) + ".service"


# A unit's name is in its key behind `system/`; its label is the name without the ending.
LENGTHS = [90, 98, 99, 112, 113, 114, 120, 128, 129, NAME_LIMIT]
assert LENGTHS[0] < KEY_LIMIT - len("system/") < LABEL_LIMIT < LENGTHS[-1]


def with_unit(host: Host, name: str, **more: Any) -> None:
    """Let the host have one service that failed."""
    row = host.session.sections["services"]["units"][0]
    failed = {"name": name, "origin": "package", "active_state": "failed"}
    host.session.sections["services"]["units"] = [row | failed | more]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_service_that_failed_once_is_asked_for_by_its_whole_name(
    hass: HomeAssistant, host: Host, length: int
) -> None:
    with_unit(host, unit(length))
    await host.start()
    host.session.sections["services"]["units"] = []
    await host.move(62)
    asked = [watch["services"] for sections, watch in host.session.asked if "services" in sections and watch]
    assert asked[-1] == [unit(length)]
    again = restore_inventory(host.entry.runtime_data.inventory.as_dict())
    assert [known.unit for known in again.items["service"].values()] == [unit(length)]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_service_is_controlled_by_its_whole_name(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, length: int
) -> None:
    with_unit(host, unit(length))
    await host.start(control_services=True)
    (sensor,) = [each for each in entity_registry.entities.values() if each.translation_key == "service_state"]
    knows(host, unit(length))
    host.session.shell.say()
    call = {"entity_id": sensor.entity_id, "action": "stop"}
    await hass.services.async_call(DOMAIN, "control_service", call, blocking=True)
    assert host.session.shell.asked[-1] == f"/usr/bin/systemctl stop -- {unit(length)}"


@pytest.mark.parametrize("length", LENGTHS)
async def test_what_is_chosen_by_a_long_name_is_enabled_in_a_crowd(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, length: int
) -> None:
    mounted = host.session.sections["filesystems"]["filesystems"]
    chosen = "/" + "m" * (length - 1)
    names = [chosen, *(f"/mnt/{number}" for number in range(30))]
    rows = [mounted[0] | {"mountpoint": name, "uuid": None} for name in names]
    host.session.sections["filesystems"]["filesystems"] = rows
    await host.start(filesystems=[chosen])
    usages = [each for each in entity_registry.entities.values() if each.translation_key == "filesystem_usage"]
    assert len(usages) == len(names)
    assert len([each for each in usages if each.disabled_by is None]) == 1
