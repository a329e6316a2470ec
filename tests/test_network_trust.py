"""What answers from the network may do to an entry and to us: real machines, and somebody between or beside them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

import asyncssh
from homeassistant.config_entries import SOURCE_DHCP, SOURCE_ZEROCONF, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
import pytest_socket

from custom_components.homelab_monitor.capability import async_test_host
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.repairs import HostKeyFlow

from .sshd import wait_for
from .test_config_flow import (
    HOST_ID,
    OTHER_ID,
    Dialog,
    Machine,
    announced,
    cards,
    entry_of,
    make_machine,  # noqa: F401
    offered,
    scanned,
)
from .test_first_contact import Between

pytestmark = pytest.mark.usefixtures("loopback_is_near")

MAC = "02:00:00:00:00:09"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.9"
STRANGE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"
ALLOWED = {"sudo": ["security"], "power": True}


@pytest.fixture(autouse=True)
def _two_addresses(socket_enabled: None) -> None:
    """Allow a second address beside the usual one; the next test's setup takes it back."""
    pytest_socket.socket_allow_hosts([HERE, ELSEWHERE])


@pytest.fixture
async def machine(make_machine: Any) -> Machine:  # noqa: F811
    return await make_machine()


@pytest.fixture
def _no_polls() -> Any:
    """Keep an entry from polling."""
    with (
        patch("custom_components.homelab_monitor.async_setup_entry", return_value=True),
        patch("custom_components.homelab_monitor.async_unload_entry", return_value=True),
    ):
        yield


def known(hass: HomeAssistant, machine: Machine, /, **changes: object) -> MockConfigEntry:
    """Return the entry of a machine that has a network card and privileges."""
    entry = entry_of(machine, **changes)
    entry.add_to_hass(hass)
    hass.config_entries.async_update_entry(entry, options=ALLOWED)
    dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, HOST_ID)},
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
    )
    return entry


# ---------------------------------------------------------------- a host that hangs in the handshake


@dataclass
class Tarpit:
    """Takes every connection at two addresses, and never says a word."""

    port: int = 0
    open: int = 0
    most: int = 0
    seen: int = 0
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open, self.seen = self.open + 1, self.seen + 1
        self.most = max(self.most, self.open)
        with suppress(OSError):
            while await reader.read(65536):
                pass
        self.open -= 1
        writer.close()


@pytest.fixture
async def tarpit() -> AsyncIterator[Tarpit]:
    it = Tarpit()
    async with await asyncio.start_server(it.serve, HERE, 0) as server:
        it.port = server.sockets[0].getsockname()[1]
        async with await asyncio.start_server(it.serve, ELSEWHERE, it.port) as other:
            yield it
            other.abort_clients()
        server.abort_clients()


async def lease(hass: HomeAssistant, number: int) -> None:
    """Let somebody announce an address for the host."""
    info = DhcpServiceInfo(ip=f"127.0.0.{number}", hostname="cloudy", macaddress=MAC.replace(":", ""))
    await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_DHCP}, data=info)


async def test_a_host_that_hangs_has_one_connection_of_each_way_to_it_at_most(
    hass: HomeAssistant, machine: Machine, tarpit: Tarpit
) -> None:
    """Polls, tests, announcements, the way back and a dialog ask at once, and again and again."""
    entry = known(hass, machine, host=HERE, port=tarpit.port, home_host=ELSEWHERE)
    assert await hass.config_entries.async_setup(entry.entry_id)
    coordinator = entry.runtime_data
    dialog = await Dialog(hass).reconfigure(entry)

    async def begin() -> list[asyncio.Task[Any]]:
        ways: list[Callable[[], Awaitable[Any]]] = [
            coordinator.async_refresh,
            coordinator.async_resume,
            lambda: async_test_host(hass, entry),
        ]
        asked = [asyncio.ensure_future(way()) for _ in range(10) for way in ways]
        return asked + [asyncio.create_task(lease(hass, 10 + number)) for number in range(10)]

    asked = await begin()
    asked.append(asyncio.create_task(dialog.submit(address=f"monitor@{HERE}:{tarpit.port}")))
    await wait_for(lambda: tarpit.open >= 4)
    for _ in range(5):
        asked += await begin()
        await asyncio.sleep(0.2)
    assert tarpit.most == tarpit.seen == 4, "a poll, a test, an announcement, a dialog"
    for task in asked:
        task.cancel()
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError | ServiceValidationError) or result is None, result
    hass.config_entries.flow.async_abort(dialog.flow_id)
    await hass.config_entries.async_unload(entry.entry_id)
    await wait_for(lambda: not tarpit.open)


# ---------------------------------------------------------------- the address that a person gave


@pytest.mark.parametrize("who", ["another id", "no id", "another key", "the host"])
async def test_the_way_back_leads_to_nobody_but_the_host(hass: HomeAssistant, machine: Machine, who: str) -> None:
    """Nobody is where the host was followed to, and somebody has the address that a person gave."""
    changes = {"host_keys": [STRANGE_KEY]} if who == "another key" else {}
    entry = known(hass, machine, host=ELSEWHERE, home_host=HERE, **changes)
    before = dict(entry.data), dict(entry.options)
    if who.endswith(" id"):
        machine.sections["system"]["machine_id_hash"] = OTHER_ID if who == "another id" else None
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert bool(machine.logins) is (who != "another key"), "who proves the key is asked who it is"
    after = dict(entry.data), dict(entry.options)
    assert after == (before if who != "the host" else ({**before[0], "host": HERE, "home_host": ""}, before[1]))
    await hass.config_entries.async_unload(entry.entry_id)


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("step", ["opened", "other address", "given address"])
async def test_a_reconfiguration_that_is_left_changes_nothing_and_the_next_one_does_what_it_says(
    hass: HomeAssistant, machine: Machine, step: str
) -> None:
    entry = known(hass, machine, host=HERE, home_host=ELSEWHERE, username="anna")
    before = dict(entry.data), dict(entry.options)
    left = await Dialog(hass).reconfigure(entry)
    if step == "other address":
        await left.submit(address=f"monitor@localhost:{machine.port}")
    elif step == "given address":
        await left.submit(address=f"monitor@{ELSEWHERE}:{machine.port}")
    assert left.at == ("reconfigure" if step == "opened" else "checklist", None)
    hass.config_entries.flow.async_abort(left.flow_id)
    await hass.async_block_till_done()
    assert (dict(entry.data), dict(entry.options)) == before
    assert not machine.connections, "nor does it stay logged in"
    again = await Dialog(hass).reconfigure(entry)
    (shown,) = again.result["data_schema"].schema
    assert shown.description == {"suggested_value": f"anna@{ELSEWHERE}:{machine.port}"}
    await again.submit(address=f"monitor@{ELSEWHERE}:{machine.port}")
    await again.submit()
    assert again.ended == "reconfigure_successful"
    assert dict(entry.data) == {**before[0], "username": "monitor"}, "it only answers at the other address"


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("first", ["given", "other"])
async def test_of_two_addresses_in_one_dialog_the_last_one_counts(
    hass: HomeAssistant, machine: Machine, first: str
) -> None:
    entry = known(hass, machine, host=HERE, home_host=ELSEWHERE)
    before = dict(entry.data)
    given, other = f"monitor@{ELSEWHERE}:{machine.port}", f"monitor@{HERE}:{machine.port}"
    machine.sections["system"]["machine_id_hash"] = OTHER_ID
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=given if first == "given" else other)
    await dialog.submit()
    assert dialog.at == ("other_machine", None)
    await dialog.choose("reconfigure")
    assert dict(entry.data) == before
    machine.sections["system"]["machine_id_hash"] = HOST_ID
    await dialog.submit(address=other if first == "given" else given)
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert dict(entry.data) == {**before, "home_host": "" if first == "given" else ELSEWHERE}


# ---------------------------------------------------------------- what is announced


@asynccontextmanager
async def counted(machine: Machine, address: str, port: int = 0) -> AsyncIterator[Between]:
    """Count who comes to another address of a machine."""
    it = Between(machine, machine)
    async with await asyncio.start_server(it.serve, address, port) as server:
        it.port = server.sockets[0].getsockname()[1]
        try:
            yield it
        finally:
            server.abort_clients()


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("claimed", ["id", "name", "address", "home", "title", "other port", "card"])
async def test_an_announcement_contacts_nobody_and_changes_no_entry(
    hass: HomeAssistant, machine: Machine, claimed: str
) -> None:
    async with counted(machine, HERE) as here, counted(machine, ELSEWHERE, here.port) as elsewhere:
        host = "cloudy.local" if claimed == "name" else HERE
        home = ELSEWHERE if claimed == "home" else ""
        port = machine.port if claimed == "other port" else here.port
        entry = known(hass, machine, host=host, port=port, home_host=home)
        before = dict(entry.data), dict(entry.options), entry.title, entry.unique_id, entry.state
        name = {"id": HOST_ID, "title": entry.title, "card": MAC}.get(claimed, "cloudy")
        info = announced(name, HERE if claimed in {"address", "other port"} else ELSEWHERE, here.port)
        if claimed in {"id", "card"}:
            info.hostname = f"{name}."
        info.ip_addresses = [info.ip_address, ip_address(HERE)]
        for _ in range(3):
            await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_ZEROCONF}, data=info)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert (here.connections, elsewhere.connections, machine.logins) == (0, 0, 0)
    assert (dict(entry.data), dict(entry.options), entry.title, entry.unique_id, entry.state) == before
    assert len(cards(hass)) <= 1


@pytest.mark.usefixtures("_no_polls")
async def test_a_lease_contacts_nobody_for_a_card_that_is_not_known_whatever_it_is_called(
    hass: HomeAssistant, machine: Machine
) -> None:
    async with counted(machine, HERE) as here, counted(machine, ELSEWHERE, here.port) as elsewhere:
        entry = known(hass, machine, port=here.port)
        before = dict(entry.data)
        info = DhcpServiceInfo(ip=ELSEWHERE, hostname=entry.title, macaddress="020000000077")
        await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_DHCP}, data=info)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert (here.connections, elsewhere.connections) == (0, 0)
    assert dict(entry.data) == before


# ---------------------------------------------------------------- a greeting


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("greeting", ["dropbear_2022.83", "OpenSSH_for_Windows_9.5", "x<b>`|*_y"])
async def test_what_a_greeting_says_before_anything_is_proven_changes_nothing_of_the_entry(
    hass: HomeAssistant, machine: Machine, greeting: str
) -> None:
    fake = await asyncssh.listen(HERE, 0, server_host_keys=[machine._private], server_version=greeting)
    between = Between(machine, machine)
    between.own = type("Fake", (), {"port": fake.get_port()})
    between.passes = lambda number: number > 1
    async with await asyncio.start_server(between.serve, HERE, 0) as server:
        port = server.sockets[0].getsockname()[1]
        dialog = await Dialog(hass).begin("address")
        await dialog.submit(address=f"monitor@{HERE}:{port}")
        assert dialog.at == ("trust", None)
        assert greeting not in str(dialog.result)
        await dialog.submit()
        await dialog.submit()
        assert dialog.created
        assert dialog.result["data"] == entry_of(machine, port=port).data
        assert dialog.result["options"] == {}
        server.abort_clients()
    fake.close()
    await fake.wait_closed()


# ---------------------------------------------------------------- a repair that pins a new key


@asynccontextmanager
async def impostor(machine: Machine, kind: str) -> AsyncIterator[Between]:
    """Stand before a machine and show its key first; then only show it, or prove one of our own."""
    own = asyncssh.generate_private_key("ssh-ed25519")
    (shown,) = asyncssh.load_keypairs([own])
    if kind == "only shows it":
        shown.public_data = machine._private.public_data
    fake = await asyncssh.listen(HERE, 0, server_host_keys=[shown])
    between = Between(machine, machine)
    between.own = type("Fake", (), {"port": fake.get_port()})
    between.passes = lambda number: number == 1
    async with await asyncio.start_server(between.serve, HERE, 0) as server:
        between.port = server.sockets[0].getsockname()[1]
        try:
            yield between
        finally:
            server.abort_clients()
    fake.close()
    await fake.wait_closed()


@pytest.mark.usefixtures("_no_polls")
@pytest.mark.parametrize("kind", ["only shows it", "proves another one", "proves it"])
async def test_a_repair_pins_the_key_that_a_login_has_proven_and_that_was_shown_and_no_other(
    hass: HomeAssistant, machine: Machine, kind: str
) -> None:
    old = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    async with impostor(machine, kind) as between:
        entry = known(hass, machine, port=between.port, host_keys=[old])
        entry.mock_state(hass, ConfigEntryState.LOADED)
        before = dict(entry.data)
        flow = HostKeyFlow(entry, "host_key")
        flow.hass = hass
        await flow.async_step_review()
        assert flow._offered.line == machine.host_keys[0]
        if kind == "proves it":
            between.passes = lambda _: True
            with patch.object(HostKeyFlow, "_async_test", return_value="fixed"):
                assert await flow._async_pin(flow._offered.line) == "fixed"
            assert dict(entry.data) == {**before, "host_keys": list(machine.host_keys), "machine": ""}
            assert dict(entry.options) == {}
            assert between.connections == 2
            return
        step = await flow._async_pin(flow._offered.line)
        assert step == ("review" if kind == "proves another one" else "unreachable")
        assert between.connections > 1, "it was asked to prove it"
        assert (dict(entry.data), dict(entry.options)) == (before, ALLOWED)


# ---------------------------------------------------------------- what a scan marks


async def test_a_scan_marks_who_an_entry_is_connected_to_and_not_where_its_name_may_lead(
    hass: HomeAssistant, machine: Machine
) -> None:
    entry = known(hass, machine, host="localhost")
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert entry.runtime_data.data.status == "online"
    async with scanned(hass, HERE, ELSEWHERE) as dialog:
        assert offered(dialog) == ["✅ cloudy · 127.0.0.1 · OpenSSH 9.6", "127.0.0.9 · OpenSSH 9.6"]
        # A scan asks at the usual port, which is not the one of this machine.
        with patch("custom_components.homelab_monitor.flow.onboarding.Target.parse", return_value=machine.target):
            await dialog.submit(hosts=[HERE], username="monitor")
    assert dialog.ended == "already_configured", "it shows the key of the entry"
    await hass.config_entries.async_unload(entry.entry_id)
    async with scanned(hass, HERE) as dialog:
        assert offered(dialog) == ["x · 127.0.0.1 · OpenSSH 9.6"]
