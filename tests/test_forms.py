"""The forms of actions: which entities they offer, that a host is named once, and what is said of anything else."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers import device_registry as dr, entity_registry as er, service
from homeassistant.helpers.selector import validate_selector
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser, async_capture_events
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.services import ACTIONS

from .scripted import Host
from .test_containers import WEB, section

SERVICES = ["sensor.plain_backup_service", "sensor.plain_cups_service"]
CONTAINERS = ["sensor.plain_web_state"]
EXAMPLES: dict[str, dict[str, Any]] = {
    "test_host": {},
    "control_service": {"service": "nginx", "action": "stop"},
    "control_container": {"container": "web", "action": "stop"},
    "get_processes": {},
    "get_sockets": {},
    "get_log": {"service": "nginx"},
}
LONG = 15.0
"""Longer than a change of the lists waits."""


@pytest.fixture(autouse=True)
def no_base_components() -> Iterator[None]:
    """Do without the services.yaml of others: some need packages that are not here."""
    with patch("homeassistant.helpers.service._base_components", dict):
        yield


@pytest.fixture
async def watched(host: Host) -> Host:
    host.session.sections["containers"] = section(WEB)
    await host.start(control_services=True, control_containers=True)
    return host


def fields(described: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a form, those of its sections among them."""
    found: dict[str, Any] = {}
    for name, field in described["fields"].items():
        found |= fields(field) if "fields" in field else {name: field}
    return found


async def described(hass: HomeAssistant) -> dict[str, dict[str, Any]]:
    return (await service.async_get_all_descriptions(hass))[DOMAIN]


async def offered(hass: HomeAssistant, action: str) -> list[str] | None:
    return fields((await described(hass))[action])["entity_id"]["selector"]["entity"].get("include_entities")


async def call(hass: HomeAssistant, name: str, context: Context | None = None, **data: Any) -> Any:
    told = name.startswith("get_")
    return await hass.services.async_call(DOMAIN, name, data, blocking=True, return_response=told, context=context)


async def refused(hass: HomeAssistant, name: str, **data: Any) -> ServiceValidationError:
    with pytest.raises(ServiceValidationError) as raised:
        await call(hass, name, **data)
    return raised.value


# ---------------------------------------------------------------- what is offered


async def test_every_field_has_a_selector_that_home_assistant_knows(hass: HomeAssistant, watched: Host) -> None:
    for _ in range(2):  # as services.yaml says, and with the lists
        forms = await described(hass)
        assert forms.keys() == ACTIONS.keys()
        for form in forms.values():
            for field in fields(form).values():
                validate_selector(field["selector"])
        await watched.move(LONG)


async def test_only_sensors_of_services_are_offered_and_of_containers_where_they_have_a_log(
    hass: HomeAssistant, watched: Host
) -> None:
    await watched.move(LONG)
    assert await offered(hass, "control_service") == SERVICES
    assert await offered(hass, "get_log") == sorted(SERVICES + CONTAINERS)


async def test_an_entity_that_comes_goes_or_is_called_otherwise_changes_the_list(
    hass: HomeAssistant, watched: Host, entity_registry: er.EntityRegistry
) -> None:
    await watched.move(LONG)
    entity_registry.async_update_entity(SERVICES[0], new_entity_id="sensor.printing")
    await watched.move(LONG)
    assert await offered(hass, "control_service") == ["sensor.plain_cups_service", "sensor.printing"]
    entity_registry.async_update_entity("sensor.printing", disabled_by=er.RegistryEntryDisabler.USER)
    await watched.move(LONG)
    assert await offered(hass, "control_service") == SERVICES[1:]
    await hass.config_entries.async_remove(watched.entry.entry_id)
    await watched.move(LONG)
    assert await offered(hass, "control_service") == []


async def test_browsers_are_told_of_a_new_list_and_only_then(
    hass: HomeAssistant, watched: Host, hass_ws_client: WebSocketGenerator
) -> None:
    told = async_capture_events(hass, "service_registered")
    await watched.move(LONG)
    assert {event.data["service"] for event in told} == {"control_service", "get_log"}
    told.clear()
    await watched.move(60, step=5)
    await watched.reload()
    await watched.move(LONG)
    assert told == []
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "get_services"})
    forms = (await client.receive_json())["result"][DOMAIN]
    assert fields(forms["get_log"])["entity_id"]["selector"]["entity"]["include_entities"] == SERVICES + CONTAINERS
    assert forms["get_log"]["response"] == {"optional": False}


async def test_an_action_stays_for_administrators_when_its_list_changes(
    hass: HomeAssistant, watched: Host, hass_read_only_user: MockUser
) -> None:
    await watched.move(LONG)
    assert await offered(hass, "control_service") == SERVICES
    with pytest.raises(Unauthorized):
        await call(hass, "control_service", Context(hass_read_only_user.id), entity_id=SERVICES[1], action="stop")
    assert watched.session.shell.asked == []


async def test_without_a_host_nothing_is_offered(hass: HomeAssistant, host: Host) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    await host.move(LONG)
    assert await offered(hass, "get_log") == []


# ---------------------------------------------------------------- a host is named once


@pytest.mark.parametrize("action", EXAMPLES)
async def test_a_host_is_named_in_one_way(
    hass: HomeAssistant, watched: Host, device_registry: dr.DeviceRegistry, action: str
) -> None:
    assert EXAMPLES.keys() == ACTIONS.keys()
    (device,) = dr.async_entries_for_config_entry(device_registry, watched.entry.entry_id)
    both = {"config_entry_id": watched.entry.entry_id, "device_id": device.id}
    error = await refused(hass, action, **EXAMPLES[action], **both)
    fix = "Fill in only one of Host (config_entry_id), Device (device_id) and Sensor (entity_id)"
    assert str(error) == f"The host is named more than once. {fix}"
    assert (await refused(hass, action, **EXAMPLES[action])).translation_key == "no_host_named"
    assert (await refused(hass, action, **EXAMPLES[action], device_id="")).translation_key == "no_host_named"
    assert watched.session.shell.asked == []
    assert watched.session.asked_aside == []


@pytest.mark.parametrize("action", ["control_service", "get_log"])
async def test_a_sensor_names_host_and_service_and_is_named_alone(
    hass: HomeAssistant, watched: Host, action: str
) -> None:
    more = {"action": "stop"} if action == "control_service" else {}
    data = {"entity_id": SERVICES[1], **more}
    error = await refused(hass, action, **data, config_entry_id=watched.entry.entry_id)
    assert error.translation_key == "host_named_twice"
    assert (await refused(hass, action, **data, service="ssh")).translation_key == "named_twice"


# ---------------------------------------------------------------- another entity


NOT_A_SERVICE = (
    "{entity} of plain is not the sensor of a service. "
    "Select a sensor whose name ends in service, or fill in the host and the name of the service"
)
NO_LOG = (
    "{entity} of plain has no log, because it does not belong to a service or a container. "
    "Select the sensor of one, or fill in the host and a name"
)
NOT_OURS = (
    "{entity} does not belong to a host of Homelab Monitor. Select one of its sensors, or fill in a host and a name"
)


@pytest.mark.parametrize(
    ("action", "entity_id", "message"),
    [
        ("control_service", "sensor.plain_cpu_usage", NOT_A_SERVICE),
        ("control_service", CONTAINERS[0], NOT_A_SERVICE),
        ("get_log", "binary_sensor.plain_problem", NO_LOG),
        ("get_log", "sun.sun", NOT_OURS),
    ],
)
async def test_another_entity_is_refused_with_host_cause_and_fix(
    hass: HomeAssistant, watched: Host, action: str, entity_id: str, message: str
) -> None:
    more = {"action": "stop"} if action == "control_service" else {}
    assert str(await refused(hass, action, entity_id=entity_id, **more)) == message.format(entity=entity_id)
    assert watched.session.shell.asked == []
    assert watched.session.asked_aside == []


@pytest.mark.parametrize("entity_id", ["sensor.plain_web_state", "sensor.plain_web_memory_used"])
async def test_the_log_of_a_container_is_reported_by_any_sensor_of_it(
    hass: HomeAssistant, watched: Host, entity_id: str
) -> None:
    watched.session.sections["logs"] = {"lines": ["hello"], "truncated": False}
    assert (await call(hass, "get_log", entity_id=entity_id))["lines"] == ["hello"]
    assert watched.session.asked_aside == [(("logs",), {"logs": ["100 container docker/root/web"]}, [])]


async def test_the_log_of_a_service_is_reported_by_its_sensor(hass: HomeAssistant, watched: Host) -> None:
    watched.session.sections["logs"] = {"lines": ["hello"], "truncated": False}
    await call(hass, "get_log", entity_id=SERVICES[1])
    assert watched.session.asked_aside == [(("logs",), {"logs": ["100 service cups.service"]}, [])]


async def test_a_container_that_has_gone_is_named(hass: HomeAssistant, watched: Host) -> None:
    watched.session.sections["containers"] = section()
    await watched.move(35)
    error = await refused(hass, "get_log", entity_id="sensor.plain_web_state")
    assert str(error) == "plain has no container called web"
