"""What the demo asks of its Home Assistant, over the same REST and WebSocket API that the browser uses."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, ClientWebSocketResponse

DOMAIN = "homelab_monitor"
USERNAME = "homelab"
PASSWORD = "homelab-demo"  # noqa: S105 - printed, and only good on 127.0.0.1
FLOW_SECONDS = 60.0
READY_SECONDS = 180.0

type Json = dict[str, Any]


class DemoError(Exception):
    """The demo cannot go on; the text is for the person in front of it."""


@dataclass
class Entity:
    """Where an entity belongs; `unique_id` ends in its place in the integration's tables."""

    entry_id: str
    unique_id: str


class HomeAssistant:
    """A logged-in connection."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self.url = url
        self._session = session
        self._token = ""
        self._socket: ClientWebSocketResponse | None = None
        self._id = 0

    @classmethod
    def at(cls, port: int) -> Self:
        """Return the connection to be; the caller closes it."""
        return cls(ClientSession(timeout=ClientTimeout(total=30)), f"http://127.0.0.1:{port}")

    async def close(self) -> None:
        """End the connection."""
        if self._socket:
            await self._socket.close()
        await self._session.close()

    async def wait_ready(self) -> None:
        """Wait until Home Assistant answers."""
        async with asyncio.timeout(READY_SECONDS):
            while not await self._is_up():
                await asyncio.sleep(0.2)

    async def _is_up(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/manifest.json") as answer:
                return answer.status == 200  # noqa: PLR2004 - OK
        except ClientError:
            return False

    async def log_in(self) -> None:
        """Make the demo's user at the first start, log in, open the WebSocket and wait for the end of set-up."""
        client = {"client_id": f"{self.url}/"}
        async with self._session.get(f"{self.url}/api/onboarding") as answer:
            is_new = answer.ok and not all(step["done"] for step in await answer.json())
        code = await (self._first_code(client) if is_new else self._login_code(client))
        grant = {**client, "grant_type": "authorization_code", "code": code}
        async with self._session.post(f"{self.url}/auth/token", data=grant) as answer:
            self._token = (await answer.json())["access_token"]
        self._socket = await self._session.ws_connect(f"{self.url}/api/websocket", max_msg_size=0)
        await self._socket.receive_json()
        await self._socket.send_json({"type": "auth", "access_token": self._token})
        await self._socket.receive_json()
        async with asyncio.timeout(READY_SECONDS):
            while (await self.command("get_config"))["state"] != "RUNNING":
                await asyncio.sleep(0.1)

    async def _first_code(self, client: Json) -> str:
        """Make the user; return the code that becomes a token."""
        user = {**client, "name": "Homelab", "username": USERNAME, "password": PASSWORD, "language": "en"}
        async with self._session.post(f"{self.url}/api/onboarding/users", json=user) as answer:
            return str((await answer.json())["auth_code"])

    async def _login_code(self, client: Json) -> str:
        """Log in as a browser does; return the code that becomes a token."""
        begin = {**client, "handler": ["homeassistant", None], "redirect_uri": client["client_id"]}
        async with self._session.post(f"{self.url}/auth/login_flow", json=begin) as answer:
            flow_id = (await answer.json())["flow_id"]
        login = {**client, "username": USERNAME, "password": PASSWORD}
        async with self._session.post(f"{self.url}/auth/login_flow/{flow_id}", json=login) as answer:
            step = await answer.json()
        if step.get("type") != "create_entry":
            raise DemoError("The demo's user has another password now. `scripts/demo --reset` starts anew.")
        return str(step["result"])

    async def command(self, kind: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """Send a WebSocket command and return its result."""
        if self._socket is None:
            raise DemoError("not logged in")
        self._id += 1
        await self._socket.send_json({"id": self._id, "type": kind, **arguments})
        answer = await self._socket.receive_json(timeout=30)
        if not answer.get("success"):
            raise DemoError(f"{kind}: {answer.get('error')}")
        return answer["result"]

    async def _rest(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self._token}"}
        async with self._session.request(method, f"{self.url}/api/{path}", json=body, headers=headers) as answer:
            if not answer.ok:
                raise DemoError(f"{method} {path}: {answer.status} {await answer.text()}")
            result: Json = await answer.json()
            return result

    async def entries(self) -> list[Json]:
        """Return the integration's config entries."""
        found: list[Json] = await self.command("config_entries/get", domain=DOMAIN)
        return found

    async def remove_entry(self, entry_id: str) -> None:
        """Remove a config entry."""
        await self._rest("DELETE", f"config/config_entries/entry/{entry_id}")

    async def show_key(self) -> str:
        """Return the text in which the config flow shows Home Assistant's own key."""
        step = await self._rest("POST", "config/config_entries/flow", {"handler": DOMAIN})
        await self._rest("DELETE", f"config/config_entries/flow/{step['flow_id']}")
        return " ".join(map(str, step["description_placeholders"].values()))

    async def add_host(self, name: str, address: str) -> str:
        """Go through the config flow as a person does; return the new entry's id."""
        step = await self._rest("POST", "config/config_entries/flow", {"handler": DOMAIN})
        path = f"config/config_entries/flow/{step['flow_id']}"
        answers: dict[str, Json] = {
            "user": {"next_step_id": "address"},
            "address": {"address": address},
        }
        async with asyncio.timeout(FLOW_SECONDS):
            while step["type"] != "create_entry":
                if step["type"] == "abort" or step.get("errors"):
                    reason = step.get("reason") or f"{step['errors']} {step.get('description_placeholders')}"
                    raise DemoError(f"{name} could not be added: {reason}")
                if step["type"] == "progress":
                    await asyncio.sleep(0.1)
                    step = await self._rest("GET", path)
                else:
                    step = await self._rest("POST", path, answers.get(step["step_id"], suggested(step)))
        return str(step["result"]["entry_id"])

    async def set_options(self, entry_id: str, options: Json) -> None:
        """Submit the options of a host, what is not named as the form has it."""
        step = await self._rest("POST", "config/config_entries/options/flow", {"handler": entry_id})
        given = {"thresholds": {}, "connection": {}, "privileges": {}, **options}
        step = await self._rest("POST", f"config/config_entries/options/flow/{step['flow_id']}", given)
        if step["type"] != "create_entry":
            raise DemoError(f"the options of {entry_id} were not taken: {step.get('errors')}")

    async def add_dashboard(self, path: str, title: str, icon: str, strategy: str) -> None:
        """Put a dashboard that makes itself into the side bar, unless it is there."""
        if any(dashboard["url_path"] == path for dashboard in await self.command("lovelace/dashboards/list")):
            return
        await self.command("lovelace/dashboards/create", url_path=path, title=title, icon=icon, show_in_sidebar=True)
        await self.command("lovelace/config/save", url_path=path, config={"strategy": {"type": strategy}})

    async def entities(self) -> Mapping[str, Entity]:
        """Return the integration's entities by entity id."""
        rows = await self.command("config/entity_registry/list")
        ours = [row for row in rows if row["platform"] == DOMAIN]
        return {row["entity_id"]: Entity(row["config_entry_id"], row["unique_id"]) for row in ours}

    async def states(self) -> list[Json]:
        """Return all states."""
        found: list[Json] = await self.command("get_states")
        return found


def suggested(step: Json) -> Json:
    """Return what a form is submitted with by a person who only goes on: what its fields suggest.

    As the frontend does it: what is read-only is not sent.
    """
    fields = step.get("data_schema") or []
    return {
        field["name"]: field["description"]["suggested_value"]
        for field in fields
        if "suggested_value" in field.get("description", {})
        and not any((kind or {}).get("read_only") for kind in field.get("selector", {}).values())
    }
