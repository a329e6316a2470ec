"""The fleet as others read it: a subscription that sends what has changed, and REST; who sees what."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp.test_utils import TestClient
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockUser
from pytest_homeassistant_custom_component.typing import (
    ClientSessionGenerator,
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.homelab_monitor.api.hub import async_fleet_hub
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host, make_entry

type Watch = Callable[[], Awaitable[MockHAClientWebSocket]]


@pytest.fixture
async def watch(hass: HomeAssistant, hass_ws_client: WebSocketGenerator) -> Watch:
    """Return how to subscribe to the fleet."""
    assert await async_setup_component(hass, DOMAIN, {})

    async def subscribe() -> MockHAClientWebSocket:
        client = await hass_ws_client(hass)
        await client.send_json_auto_id({"type": "homelab_monitor/fleet"})
        assert (await client.receive_json())["success"]
        return client

    return subscribe


@pytest.fixture
def tokens(hass_access_token: str, hass_read_only_access_token: str) -> dict[bool, str]:
    """Return a token of an administrator, and of somebody who is none."""
    return {True: hass_access_token, False: hass_read_only_access_token}


async def event(client: MockHAClientWebSocket) -> dict[str, Any]:
    """Return the next message of the subscription."""
    received = await asyncio.wait_for(client.receive_json(), 5)
    assert received["type"] == "event"
    return received["event"]


async def test_all_rows_come_first_and_then_those_that_changed(host: Host, watch: Watch) -> None:
    await host.start()
    await host.move(20)
    client = await watch()
    first = await event(client)
    assert (first["v"], first["full"], first["removed"]) == (1, True, [])
    (row,) = first["rows"]
    assert (row["entry_id"], row["title"], row["status"]) == (host.entry.entry_id, "plain", "online")
    host.session.sections["load"]["load1"] = 7.5
    await host.move(11)
    update = await event(client)
    assert (update["full"], [each["load1"] for each in update["rows"]]) == (False, [7.5])
    assert update["now"] >= first["now"]


async def test_a_reload_is_no_removal_and_a_new_name_is_shown(host: Host, watch: Watch) -> None:
    await host.start()
    await host.move(20)
    client = await watch()
    load = (await event(client))["rows"][0]["load1"]
    assert await host.hass.config_entries.async_unload(host.entry.entry_id)
    await host.move(2)
    (row,) = (await event(client))["rows"]
    assert (row["status"], row["load1"]) == ("loading", load)
    await host.start_again()
    await host.move(2)
    assert (await event(client))["rows"][0]["status"] == "online"
    host.hass.config_entries.async_update_entry(host.entry, title="renamed")
    await host.move(2)
    assert (await event(client))["rows"][0]["title"] == "renamed"
    # The polls of the new coordinator arrive as well.
    host.session.error = Unreachable("plain")
    await host.move(60)
    while (row := (await event(client))["rows"][0])["status"] != "offline":
        assert row["status"] in ("online", "late")
    assert row["error_key"] == "unreachable"


async def test_a_disabled_and_a_removed_host_leave_and_an_added_one_comes(
    hass: HomeAssistant, host: Host, watch: Watch
) -> None:
    await host.start()
    client = await watch()
    await event(client)
    await hass.config_entries.async_set_disabled_by(host.entry.entry_id, ConfigEntryDisabler.USER)
    await host.move(2)
    assert (await event(client))["removed"] == [host.entry.entry_id]
    other = make_entry()
    other.add_to_hass(hass)
    hass.config_entries.async_update_entry(other, title="other")
    await host.move(2)
    assert [(each["title"], each["status"]) for each in (await event(client))["rows"]] == [("other", "loading")]
    await hass.config_entries.async_remove(other.entry_id)
    await host.move(2)
    assert (await event(client))["removed"] == [other.entry_id]


async def test_a_host_that_cannot_be_set_up_stays_in_the_fleet(hass: HomeAssistant, host: Host, watch: Watch) -> None:
    broken = make_entry()
    broken.add_to_hass(hass)
    hass.config_entries.async_update_entry(broken, data={**broken.data, "host": ""})
    await hass.config_entries.async_setup(broken.entry_id)
    client = await watch()
    (row,) = (await event(client))["rows"]
    assert (row["status"], row["at"], row["absent"]["at"]) == ("setup_failed", None, "not_read")


async def test_nothing_is_kept_or_listened_to_when_nobody_watches(host: Host, watch: Watch) -> None:
    await host.start()
    hub = async_fleet_hub(host.hass)
    listeners = len(host.entry.runtime_data._listeners)
    clients = [await watch(), await watch()]
    assert len(host.entry.runtime_data._listeners) == listeners + 1, "one for all"
    for client in clients:
        await event(client)
        await client.close()
    await host.move(15)
    assert not hub._rows
    assert not hub._viewers
    assert len(host.entry.runtime_data._listeners) == listeners


async def test_a_second_passes_between_two_messages(host: Host, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.start()
    sent = []
    async_fleet_hub(host.hass).async_subscribe(sent.append)
    for number in range(30):
        host.session.sections["load"]["load1"] = float(number)
        await host.entry.runtime_data.async_refresh()
        await host.move(0.1, step=0.1)
    assert 2 <= len(sent) <= 10  # the harness lets timers come up to half a second early
    assert sent[-1].rows[0].row.load1 >= 20


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize("is_admin", [True, False])
async def test_only_administrators_see_addresses(
    host: Host, watch: Watch, tokens: dict[bool, str], hass_client: ClientSessionGenerator, *, is_admin: bool
) -> None:
    await host.start()
    client: TestClient = await hass_client(tokens[is_admin])
    answer = await client.get("/api/homelab_monitor/fleet")
    assert answer.status == 200
    body = await answer.json()
    assert (body["v"], body["full"], body["removed"]) == (1, True, [])
    assert body["rows"][0].get("address") == ("127.0.0.1" if is_admin else None)


async def test_who_loses_the_rights_of_an_administrator_sees_no_more_addresses(
    host: Host, watch: Watch, hass_admin_user: MockUser, hass_read_only_user: MockUser
) -> None:
    await host.start()
    client = await watch()
    assert "address" in (await event(client))["rows"][0]
    await host.hass.auth.async_update_user(hass_admin_user, group_ids=["system-read-only"])
    host.session.sections["load"]["load1"] = 7.5
    await host.move(11)
    assert "address" not in (await event(client))["rows"][0]


async def test_somebody_who_is_not_logged_in_sees_nothing(
    host: Host, watch: Watch, hass_client_no_auth: ClientSessionGenerator
) -> None:
    await host.start()
    client: TestClient = await hass_client_no_auth()
    assert (await client.get("/api/homelab_monitor/fleet")).status == 401


async def test_a_row_of_the_api_is_the_same_as_of_the_subscription(
    host: Host, watch: Watch, hass_client: ClientSessionGenerator
) -> None:
    await host.start()
    await host.move(20)
    rows = (await event(await watch()))["rows"]
    client: TestClient = await hass_client()
    assert (await (await client.get("/api/homelab_monitor/fleet")).json())["rows"] == rows
