"""Actions of the integration; each is for administrators, and none runs a free command."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from homeassistant.const import ATTR_DEVICE_ID
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv, service
from homeassistant.helpers.typing import VolSchemaType
import voluptuous as vol

from .capability import async_test_host
from .checklist import async_rows
from .client.control import ServiceAction
from .const import DOMAIN
from .controls import async_control_service
from .coordinator import HomelabConfigEntry

CONF_CONFIG_ENTRY_ID = "config_entry_id"
ATTR_ACTION = "action"
ATTR_SERVICE = "service"
SERVICE_TEST_HOST = "test_host"

_WHICH_HOST = {
    vol.Exclusive(CONF_CONFIG_ENTRY_ID, "host"): cv.string,
    vol.Exclusive(ATTR_DEVICE_ID, "host"): cv.string,
}
"""A host is named by its entry or by its device."""


def _schema(**fields: object) -> VolSchemaType:
    """Return the schema of an action about one host."""
    return vol.All(
        vol.Schema(_WHICH_HOST | {vol.Required(name): kind for name, kind in fields.items()}),
        cv.has_at_least_one_key(CONF_CONFIG_ENTRY_ID, ATTR_DEVICE_ID),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action: what it is called with, what it gives back, and what does it."""

    schema: VolSchemaType
    response: SupportsResponse = SupportsResponse.NONE
    handler: Callable[[ServiceCall], Coroutine[Any, Any, ServiceResponse]]


async def _async_test_host(call: ServiceCall) -> ServiceResponse:
    """Test a host and return its rows."""
    report = await async_test_host(call.hass, _entry(call))
    rows: list[dict[str, Any]] = await async_rows(call.hass, report)
    return cast("ServiceResponse", {"at": report.at, "seconds": report.seconds, "rows": rows})


async def _async_control_service(call: ServiceCall) -> None:
    """Start, stop or restart a service."""
    unit = unit_name(call.data[ATTR_SERVICE])
    await async_control_service(_entry(call).runtime_data, unit, call.data[ATTR_ACTION])


def unit_name(service_name: str) -> str:
    """Return the unit of a service: `nginx` → `nginx.service`."""
    return service_name if service_name.endswith(".service") else f"{service_name}.service"


ACTIONS = {
    SERVICE_TEST_HOST: Action(schema=_schema(), response=SupportsResponse.OPTIONAL, handler=_async_test_host),
    "control_service": Action(
        schema=_schema(**{ATTR_SERVICE: cv.string, ATTR_ACTION: vol.Coerce(ServiceAction)}),
        handler=_async_control_service,
    ),
}


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions, once for all hosts."""
    for name, action in ACTIONS.items():
        service.async_register_admin_service(
            hass, DOMAIN, name, action.handler, schema=action.schema, supports_response=action.response
        )


def _entry(call: ServiceCall) -> HomelabConfigEntry:
    """Return the host that an action is about; raise a translated error when there is none."""
    if device_id := call.data.get(ATTR_DEVICE_ID):
        return service.async_get_device_and_config_entry(call.hass, DOMAIN, device_id)[1]
    return service.async_get_config_entry(call.hass, DOMAIN, call.data[CONF_CONFIG_ENTRY_ID])
