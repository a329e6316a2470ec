"""How the fleet is read from outside: a WebSocket subscription for cards, and REST for scripts and other dashboards."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from homeassistant.components.http.const import KEY_HASS_USER
from homeassistant.components.websocket_api import async_register_command
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import websocket_command
from homeassistant.const import CONTENT_TYPE_JSON
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView

from ..const import DOMAIN
from .hub import FleetUpdate, async_fleet_hub

FLEET_COMMAND: Final = f"{DOMAIN}/fleet"
FLEET_URL: Final = f"/api/{DOMAIN}/fleet"


@callback
def async_setup_api(hass: HomeAssistant) -> None:
    """Offer the fleet to those who are logged in."""
    async_register_command(hass, websocket_fleet)
    hass.http.register_view(FleetView)


@websocket_command({"type": FLEET_COMMAND})
@callback
def websocket_fleet(hass: HomeAssistant, connection: ActiveConnection, message: dict[str, Any]) -> None:
    """Send all rows of the fleet, then those that change."""
    head = b'{"id":%d,"type":"event","event":' % message["id"]

    @callback
    def async_send(update: FleetUpdate) -> None:
        # Rights may change while somebody watches.
        connection.send_message(head + update.encoded(is_admin=connection.user.is_admin) + b"}")

    connection.send_result(message["id"])
    connection.subscriptions[message["id"]] = async_fleet_hub(hass).async_subscribe(async_send)


class FleetView(HomeAssistantView):
    """The rows of all hosts."""

    url = FLEET_URL
    name = f"api:{DOMAIN}:fleet"

    async def get(self, request: web.Request) -> web.Response:
        """Return all rows."""
        update = async_fleet_hub(request.app[KEY_HASS]).async_rows()
        body = update.encoded(is_admin=request[KEY_HASS_USER].is_admin)
        return web.Response(body=body, content_type=CONTENT_TYPE_JSON, status=HTTPStatus.OK)
