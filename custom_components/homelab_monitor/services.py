"""Actions of the integration; each is for administrators, and none runs a free command."""

from typing import Any, cast

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv, service
import voluptuous as vol

from .capability import async_test_host
from .checklist import async_rows
from .const import DOMAIN
from .coordinator import HomelabConfigEntry

CONF_CONFIG_ENTRY_ID = "config_entry_id"
SERVICE_TEST_HOST = "test_host"

_HOST_SCHEMA = vol.Schema({vol.Required(CONF_CONFIG_ENTRY_ID): cv.string})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions, once for all hosts."""
    service.async_register_admin_service(
        hass,
        DOMAIN,
        SERVICE_TEST_HOST,
        _async_test_host,
        schema=_HOST_SCHEMA,
        supports_response=SupportsResponse.OPTIONAL,
    )


async def _async_test_host(call: ServiceCall) -> ServiceResponse:
    """Test a host and return its rows."""
    entry = _entry(call)
    report = await async_test_host(call.hass, entry)
    rows: list[dict[str, Any]] = await async_rows(call.hass, report)
    return cast("ServiceResponse", {"at": report.at, "seconds": report.seconds, "rows": rows})


def _entry(call: ServiceCall) -> HomelabConfigEntry:
    """Return the host that an action is about; raise a translated error when there is none."""
    return service.async_get_config_entry(call.hass, DOMAIN, call.data[CONF_CONFIG_ENTRY_ID])
