"""Actions of the integration, all for administrators; none runs an arbitrary command."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from homeassistant.components import persistent_notification
from homeassistant.const import ATTR_DEVICE_ID, ATTR_ENTITY_ID
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv, device_registry as dr, entity_registry as er, service
from homeassistant.helpers.typing import VolSchemaType
from homeassistant.util import dt as dt_util
from homeassistant.util.json import JsonObjectType
import voluptuous as vol

from .capability import async_test_now
from .client.control.control import RunAction
from .client.models import Container, Processes, Socket, Sockets
from .client.tracking.rates import most_percent
from .client.tracking.usage import Usage, biggest, busiest, usages
from .client.tracking.values import ContainerNames, container_name, container_names
from .const import DOMAIN
from .controls import (
    async_control_container,
    async_control_service,
    async_read_container_log,
    async_read_service_log,
    async_request,
    find_container,
)
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import device_identifier, unique_id
from .health.checklist import async_notice, async_rows
from .offers import async_offer_entities
from .sensor.items import SERVICE_SENSORS
from .subjects import CONTAINER, SERVICE

CONF_CONFIG_ENTRY_ID = "config_entry_id"
ATTR_ACTION = "action"
ATTR_CONTAINER = "container"
ATTR_COUNT = "count"
ATTR_LINES = "lines"
ATTR_NOTIFY = "notify"
ATTR_SERVICE = "service"
SERVICE_TEST_HOST = "test_host"

READINGS_APART_SECONDS = 2.0
"""The kernel counts CPU time in hundredths of a second: this resolves half a percent."""

_WHICH_HOST: Mapping[vol.Marker, object] = {
    vol.Optional(CONF_CONFIG_ENTRY_ID): cv.string,
    vol.Optional(ATTR_DEVICE_ID): cv.string,
}
"""A host is given by its entry or by its device."""
_WHICH_SENSOR: Mapping[vol.Marker, object] = {vol.Optional(ATTR_ENTITY_ID): cv.entity_id}
"""A sensor gives both the host and the item on it."""
_NAMES_OF_HOST = (CONF_CONFIG_ENTRY_ID, ATTR_DEVICE_ID, ATTR_ENTITY_ID)
_NAMES_ON_HOST = (ATTR_SERVICE, ATTR_CONTAINER, ATTR_ENTITY_ID)
_NAME = vol.All(cv.string, vol.Length(1, 255))


def _schema(fields: Mapping[vol.Marker, object] | None = None) -> VolSchemaType:
    """Return the schema of an action on one host; `_entry` checks how often it is given, with translated errors."""
    return vol.Schema({**_WHICH_HOST, **(fields or {})})


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action: the schema of its data, whether it returns a response, and its handler."""

    schema: VolSchemaType
    response: SupportsResponse = SupportsResponse.NONE
    handler: Callable[[ServiceCall], Coroutine[Any, Any, ServiceResponse]]


async def _async_test_host(call: ServiceCall) -> ServiceResponse:
    """Test a host and return its rows."""
    entry = _entry(call)
    report = await async_test_now(call.hass, entry)
    if call.data[ATTR_NOTIFY]:
        title, message = await async_notice(call.hass, report, entry.title)
        # The next notification of the same host replaces it.
        persistent_notification.async_create(call.hass, message, title, f"{DOMAIN}_test_{entry.entry_id}")
    rows: list[dict[str, Any]] = await async_rows(call.hass, report)
    about = {"at": report.at, "seconds": report.seconds, "result": report.result.value}
    return cast("ServiceResponse", {**about, "rows": rows})


async def _async_control_service(call: ServiceCall) -> None:
    """Start, stop or restart a service."""
    coordinator = _entry(call).runtime_data
    about = _about(call, coordinator)
    if (unit := _unit(call, coordinator)) is None:
        raise _refuse(about, "not_a_service") if ATTR_ENTITY_ID in call.data else _refuse(about, "no_service_named")
    await async_control_service(coordinator, unit, call.data[ATTR_ACTION])


async def _async_control_container(call: ServiceCall) -> None:
    """Start, stop or restart a container."""
    coordinator = _entry(call).runtime_data
    if (container := _container(call, coordinator)) is None:
        about = _about(call, coordinator)
        raise _refuse(about, "no_container_named")
    await async_control_container(coordinator, container, call.data[ATTR_ACTION])


def _container(call: ServiceCall, coordinator: HomelabCoordinator) -> Container | None:
    """Return the container that an action gives by name, device or entity; None if it gives none."""
    if name := call.data.get(ATTR_CONTAINER):
        return find_container(coordinator, name)
    sensor = er.async_get(call.hass).async_get(call.data.get(ATTR_ENTITY_ID, ""))
    device_id = sensor.device_id if sensor else call.data.get(ATTR_DEVICE_ID)
    device = dr.async_get(call.hass).async_get(device_id or "")
    identifiers = device.identifiers if device else set()
    for item_id in CONTAINER.ids(coordinator):
        if device_identifier(coordinator.address.host_id, CONTAINER.key, item_id) in identifiers:
            if item := CONTAINER.item(coordinator.data, item_id):
                return item.container
            raise _refuse(
                {"name": coordinator.name, "container": CONTAINER.label(coordinator, item_id)}, "no_such_container"
            )
    return None


def _unit(call: ServiceCall, coordinator: HomelabCoordinator) -> str | None:
    """Return the unit that an action gives by name (`nginx` is `nginx.service`) or sensor; None if it gives none."""
    if name := call.data.get(ATTR_SERVICE):
        return name if name.endswith(".service") else f"{name}.service"
    if sensor := er.async_get(call.hass).async_get(call.data.get(ATTR_ENTITY_ID, "")):
        for item_id, known in coordinator.inventory.items.get(SERVICE.key, {}).items():
            if any(unique_id(coordinator, row, item_id) == sensor.unique_id for row in SERVICE_SENSORS):
                return known.unit
    return None


async def _async_get_processes(call: ServiceCall) -> ServiceResponse:
    """Return the processes that use most CPU and most memory."""
    coordinator = _entry(call).runtime_data
    before, after = await async_request(coordinator, "processes", Processes, again_after=READINGS_APART_SECONDS)
    snapshot = coordinator.data.snapshot
    found, count = usages(before, after, most_percent(snapshot)), call.data[ATTR_COUNT]
    names = container_names(snapshot)
    return {
        "total": after.total,
        "complete": dict(after.complete),
        "by_cpu": [_process_row(after.at, names, each) for each in busiest(found, count)],
        "by_memory": [_process_row(after.at, names, each) for each in biggest(found, count)],
    }


def _process_row(at: float, names: ContainerNames, usage: Usage) -> JsonObjectType:
    """Return one process of a new reading for a response, without unknown values; `at`: seconds since boot."""
    process = usage.process
    # Both count from the kernel's boot; the uptime may be that of a container, which started later.
    started = dt_util.utcnow() - timedelta(seconds=max(0.0, at - process.started_seconds))
    row: JsonObjectType = {
        "pid": process.pid,
        "name": process.name,
        "user": process.user,
        "state": process.state,
        "cpu_percent": usage.cpu_percent,
        "memory_bytes": process.memory_bytes,
        "threads": process.threads,
        "started": started.isoformat(timespec="seconds"),
        "service": process.unit,
        "container": container_name(names, process.container, process.unit),
    }
    return {name: value for name, value in row.items() if value is not None}


async def _async_get_sockets(call: ServiceCall) -> ServiceResponse:
    """Return the listening sockets, and from where they can be reached; unknown values are left out."""
    coordinator = _entry(call).runtime_data
    (reply,) = await async_request(coordinator, "sockets", Sockets)
    names = container_names(coordinator.data.snapshot)
    return {
        "complete": dict(reply.complete),
        "sockets": [_socket_row(names, socket) for socket in reply.sockets],
    }


def _socket_row(names: ContainerNames, socket: Socket) -> JsonObjectType:
    """Return one socket for a response, with the keys of the other actions."""
    row: JsonObjectType = {
        "protocol": socket.protocol,
        "address": socket.address,
        "port": socket.port,
        "families": list(socket.families),
        "interface": socket.interface,
        "exposure": socket.exposure,
        "process": socket.process,
        "pid": socket.pid,
        "service": socket.unit,
        "container": container_name(names, socket.container, socket.unit),
    }
    return {name: value for name, value in row.items() if value is not None}


async def _async_get_log(call: ServiceCall) -> ServiceResponse:
    """Return the last lines of a log."""
    coordinator, lines = _entry(call).runtime_data, call.data[ATTR_LINES]
    if unit := _unit(call, coordinator):
        log = await async_read_service_log(coordinator, unit, lines)
    elif container := _container(call, coordinator):
        log = await async_read_container_log(coordinator, container, lines)
    else:
        about = _about(call, coordinator)
        raise _refuse(about, "no_log_of_it") if ATTR_ENTITY_ID in call.data else _refuse(about, "no_log_named")
    return {"lines": list(log.lines), "truncated": log.truncated}


ACTIONS = {
    SERVICE_TEST_HOST: Action(
        schema=_schema({vol.Optional(ATTR_NOTIFY, default=False): cv.boolean}),
        response=SupportsResponse.OPTIONAL,
        handler=_async_test_host,
    ),
    "control_service": Action(
        schema=_schema(
            {
                **_WHICH_SENSOR,
                vol.Optional(ATTR_SERVICE): _NAME,
                vol.Required(ATTR_ACTION): vol.Coerce(RunAction),
            },
        ),
        handler=_async_control_service,
    ),
    "control_container": Action(
        schema=_schema({vol.Optional(ATTR_CONTAINER): _NAME, vol.Required(ATTR_ACTION): vol.Coerce(RunAction)}),
        handler=_async_control_container,
    ),
    "get_processes": Action(
        schema=_schema({vol.Optional(ATTR_COUNT, default=10): vol.All(vol.Coerce(int), vol.Range(1, 100))}),
        response=SupportsResponse.ONLY,
        handler=_async_get_processes,
    ),
    "get_sockets": Action(schema=_schema(), response=SupportsResponse.ONLY, handler=_async_get_sockets),
    "get_log": Action(
        schema=_schema(
            {
                **_WHICH_SENSOR,
                vol.Optional(ATTR_SERVICE): _NAME,
                vol.Optional(ATTR_CONTAINER): _NAME,
                vol.Optional(ATTR_LINES, default=100): vol.All(vol.Coerce(int), vol.Range(1, 500)),
            }
        ),
        response=SupportsResponse.ONLY,
        handler=_async_get_log,
    ),
}


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions, once for all hosts."""

    @callback
    def async_register(name: str) -> None:
        action = ACTIONS[name]
        service.async_register_admin_service(
            hass, DOMAIN, name, action.handler, schema=action.schema, supports_response=action.response
        )

    for name in ACTIONS:
        async_register(name)
    async_offer_entities(hass, async_register)


def _entry(call: ServiceCall) -> HomelabConfigEntry:
    """Return the entry of the host of an action; raise a translated error if there is none, or it is given twice."""
    about = {"entity": call.data.get(ATTR_ENTITY_ID, "")}
    named = [name for name in _NAMES_OF_HOST if call.data.get(name)]
    if len(named) != 1:
        raise _refuse(about, "host_named_twice") if named else _refuse(about, "no_host_named")
    if sum(name in call.data for name in _NAMES_ON_HOST) > 1:
        raise _refuse(about, "named_twice")
    entry_id = call.data.get(CONF_CONFIG_ENTRY_ID)
    if device_id := call.data.get(ATTR_DEVICE_ID):
        # The core's own helper does not know child devices before 2026.10.
        child = dr.async_get(call.hass).async_get(
            device_id, include_main_devices=False, include_composite_devices=False
        )
        if child is None:
            return service.async_get_device_and_config_entry(call.hass, DOMAIN, device_id)[1]
        entry_id = child.config_entry_id
    if ATTR_ENTITY_ID in call.data:
        sensor = er.async_get(call.hass).async_get(call.data[ATTR_ENTITY_ID])
        if sensor is None or sensor.platform != DOMAIN:
            raise _refuse(about, "not_our_entity")
        entry_id = sensor.config_entry_id
    return service.async_get_config_entry(call.hass, DOMAIN, entry_id or "")


def _about(call: ServiceCall, coordinator: HomelabCoordinator) -> dict[str, str]:
    """Return the placeholders for the errors of an action."""
    return {"name": coordinator.name, "entity": call.data.get(ATTR_ENTITY_ID, "")}


def _refuse(about: Mapping[str, str], key: str) -> ServiceValidationError:
    """Return the error that explains why the data of an action is not valid."""
    return ServiceValidationError(translation_domain=DOMAIN, translation_key=key, translation_placeholders=dict(about))
