"""A host that is followed to another address, and the way back where somebody only relayed it there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock, patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import SOURCE_DHCP, ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
import pytest_socket

from custom_components.homelab_monitor.client.errors import HostKeyChanged, TimedOut, Unreachable
from custom_components.homelab_monitor.client.limits import MOVES_AT_ONCE, MOVES_WAITING
from custom_components.homelab_monitor.client.target import Target
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.discovery import async_follow_gate, async_follows
from custom_components.homelab_monitor.moves import async_follow

from .scripted import Host, set_up
from .test_config_flow import HOST_ID, OTHER_ID, Machine, entry_of, make_machine  # noqa: F401 - a fixture among them
from .test_first_contact import Between

MOVES = "custom_components.homelab_monitor.moves"
MAC = "02:00:00:00:00:09"
HOME, ELSEWHERE = "127.0.0.1", "127.0.0.9"
SILENT = patch(f"{MOVES}.async_read_host_key", AsyncMock(side_effect=TimedOut(HOME)))
"""Somebody keeps what is sent to the known address from arriving."""


async def lease(hass: HomeAssistant, ip: str) -> None:
    """Let somebody announce an address for the host."""
    info = DhcpServiceInfo(ip=ip, hostname="cloudy", macaddress=MAC.replace(":", ""))
    await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_DHCP}, data=info)
    await hass.async_block_till_done(wait_background_tasks=True)


@asynccontextmanager
async def relayed(machine: Machine, address: str) -> AsyncIterator[Between]:
    """Pass every connection to another address on to a machine."""
    it = Between(machine, machine)
    async with await asyncio.start_server(it.serve, address, machine.port) as server:
        try:
            yield it
        finally:
            server.abort_clients()


@pytest.fixture
def _two_addresses(socket_enabled: None) -> None:
    """Allow the relay's address beside the usual one; the next test's setup takes it back."""
    pytest_socket.socket_allow_hosts([HOME, ELSEWHERE])


@pytest.fixture
async def watched(hass: HomeAssistant, make_machine: Callable[..., object]) -> MockConfigEntry:  # noqa: F811
    """Return the entry of a machine that is watched at its own address."""
    machine = await make_machine()
    entry = entry_of(machine)
    entry.machine = machine
    entry.add_to_hass(hass)
    dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, HOST_ID)},
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
    )
    return entry


async def start(hass: HomeAssistant, entry: MockConfigEntry) -> HomelabCoordinator:
    """Set the entry up, as after a restart, and let what follows from its first poll happen."""
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    return entry.runtime_data


@pytest.mark.usefixtures("_two_addresses")
async def test_who_only_relays_a_host_holds_its_entry_no_longer_than_that(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    async with relayed(watched.machine, ELSEWHERE) as thief:
        with SILENT:
            await lease(hass, ELSEWHERE)
        assert watched.data["host"] == ELSEWHERE, "a relay cannot be told from the machine"
        assert watched.data["home_host"] == HOME
        assert (await start(hass, watched)).data.status == "online"
        assert thief.connections
    await start(hass, watched)
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
    assert watched.runtime_data.data.status == "online"
    await hass.config_entries.async_unload(watched.entry_id)


async def test_the_address_that_a_person_gave_goes_before_what_is_announced_later(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(watched, data={**watched.data, "host": ELSEWHERE, "home_host": HOME})
    async with relayed(watched.machine, "127.0.0.10") as thief:
        with SILENT:
            await lease(hass, "127.0.0.10")
        assert thief.connections == 0
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
    await hass.config_entries.async_unload(watched.entry_id)


async def test_however_often_a_host_is_led_away_the_address_that_a_person_gave_is_kept(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    looks = AsyncMock(side_effect=lambda _hass, there: there.target.host != HOME)
    with SILENT, patch(f"{MOVES}.async_is_there", looks), patch.object(hass.config_entries, "async_schedule_reload"):
        for number in (9, 10):
            await lease(hass, f"127.0.0.{number}")
            assert (watched.data["host"], watched.data["home_host"]) == (f"127.0.0.{number}", HOME)


# ---------------------------------------------------------------- clones: machines that share their host keys


@pytest.mark.usefixtures("_two_addresses")
async def test_a_clone_is_not_followed_whatever_key_it_has(hass: HomeAssistant, watched: MockConfigEntry) -> None:
    watched.machine.sections["system"]["machine_id_hash"] = OTHER_ID
    async with relayed(watched.machine, ELSEWHERE) as clone:
        with SILENT:
            await lease(hass, ELSEWHERE)
        assert clone.connections, "it was asked who it is"
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")


@pytest.mark.usefixtures("_two_addresses")
async def test_a_reinstalled_host_is_followed_by_the_id_that_it_has_now(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(watched, data={**watched.data, "machine": OTHER_ID})
    watched.machine.sections["system"]["machine_id_hash"] = OTHER_ID
    async with relayed(watched.machine, ELSEWHERE):
        with SILENT:
            await lease(hass, ELSEWHERE)
        assert watched.data["host"] == ELSEWHERE
        await hass.config_entries.async_unload(watched.entry_id)


@pytest.mark.usefixtures("_two_addresses")
async def test_a_host_is_never_followed_to_where_another_one_lives(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    entry_of(watched.machine, host_id=OTHER_ID, host=ELSEWHERE).add_to_hass(hass)
    async with relayed(watched.machine, ELSEWHERE) as other:
        with SILENT:
            await lease(hass, ELSEWHERE)
        assert other.connections == 0
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")


@pytest.mark.usefixtures("_two_addresses")
async def test_a_host_that_was_added_there_while_the_login_went_on_keeps_its_address(
    hass: HomeAssistant, watched: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    async def log_in(*_: object) -> bool:
        entry_of(watched.machine, host_id=OTHER_ID, host=ELSEWHERE).add_to_hass(hass)
        return True

    with SILENT, patch(f"{MOVES}.async_is_there", log_in):
        await lease(hass, ELSEWHERE)
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
    assert "is reached at" not in caplog.text, "nor for a moment"


# ---------------------------------------------------------------- a flood of announcements


@pytest.mark.usefixtures("_two_addresses")
async def test_announcements_wait_in_small_numbers_and_hold_no_way_back_up(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    never = asyncio.Event()
    looked: list[str] = []

    async def keep_waiting(target: Target) -> None:
        looked.append(target.host)
        await never.wait()

    await start(hass, watched)
    await hass.config_entries.async_unload(watched.entry_id)
    entries = []
    for number in range(1, 2 * MOVES_WAITING):
        entry = entry_of(watched.machine, host_id=f"{number:032x}", host=f"127.0.1.{number}")
        entry.add_to_hass(hass)
        entries.append(entry)
    with patch(f"{MOVES}.async_read_host_key", keep_waiting):
        follows = [
            asyncio.create_task(async_follow(hass, entry, f"127.0.2.{again}")) for again in (1, 2) for entry in entries
        ]
        await asyncio.sleep(0)
        await asyncio.wait(follows, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        assert len([task for task in follows if not task.done()]) == MOVES_WAITING
        assert len(looked) == MOVES_AT_ONCE
        hass.config_entries.async_update_entry(watched, data={**watched.data, "host": ELSEWHERE, "home_host": HOME})
        await hass.config_entries.async_setup(watched.entry_id)
        for _ in range(1000):
            if watched.data["host"] == HOME:
                break
            await asyncio.sleep(0.01)
        assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
        for task in follows:
            task.cancel()
        await asyncio.wait(follows)
    assert not async_follows(hass), "there is room again"
    await hass.async_block_till_done(wait_background_tasks=True)
    await hass.config_entries.async_unload(watched.entry_id)


async def test_who_waits_is_looked_for_where_it_was_announced_last(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    looks = AsyncMock(return_value=False)
    gate = async_follow_gate(hass)
    async with gate, gate:
        waits = asyncio.create_task(async_follow(hass, watched, "127.0.0.10"))
        await asyncio.sleep(0)
        await async_follow(hass, watched, "127.0.0.11")
        assert not waits.done()
    with SILENT, patch(f"{MOVES}.async_is_there", looks):
        await waits
    assert [call.args[1].target.host for call in looks.await_args_list] == ["127.0.0.11"]


@pytest.mark.parametrize("change", ["disabled", "removed", "user"])
@pytest.mark.parametrize("moment", ["gate", "look", "login"])
async def test_an_entry_that_is_over_or_changed_meanwhile_is_not_followed(
    hass: HomeAssistant, watched: MockConfigEntry, change: str, moment: str
) -> None:
    happened: list[str] = []

    async def at(now: str) -> None:
        happened.append(now)
        if now != moment:
            return
        if change == "disabled":
            await hass.config_entries.async_set_disabled_by(watched.entry_id, ConfigEntryDisabler.USER)
        elif change == "removed":
            await hass.config_entries.async_remove(watched.entry_id)
        else:
            hass.config_entries.async_update_entry(watched, data={**watched.data, "username": "anna"})

    async def look(_: object) -> None:
        await at("look")
        raise TimedOut(HOME)

    async def log_in(*_: object) -> bool:
        await at("login")
        return True

    class Gate:
        async def __aenter__(self) -> None:
            await at("gate")

        async def __aexit__(self, *_: object) -> None:
            """Let the next one in."""

    with (
        patch(f"{MOVES}.async_read_host_key", look),
        patch(f"{MOVES}.async_is_there", log_in),
        patch(f"{MOVES}.async_follow_gate", return_value=Gate()),
    ):
        await lease(hass, ELSEWHERE)
    order = ["gate", "look", "login"]
    assert happened == order[: order.index(moment) + 1], "nobody is contacted for it any more"
    assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
    assert watched.data["username"] == ("anna" if change == "user" else "monitor")


# ---------------------------------------------------------------- how often one looks


@pytest.fixture
def led_away(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> Host:
    """A scripted host that was followed to where it is now."""
    host = Host(hass, freezer)
    data = {**host.entry.data, "host": ELSEWHERE, "home_host": HOME}
    host.entry = MockConfigEntry(domain=DOMAIN, title="plain", unique_id=host.entry.unique_id, data=data)
    return host


@pytest.fixture
def looks() -> Iterator[AsyncMock]:
    """Return who is asked at the address that a person gave; nobody answers there."""
    with patch(f"{MOVES}.async_is_there", AsyncMock(return_value=False)) as mock:
        yield mock


async def test_one_looks_at_one_address_and_only_while_the_host_does_not_answer(
    led_away: Host, looks: AsyncMock
) -> None:
    await set_up(led_away.hass, led_away.entry, led_away.session)
    led_away.session.error = Unreachable("plain")
    await led_away.move(20)
    assert (led_away.status, looks.await_count) == ("late", 0)
    await led_away.move(620, step=5)
    assert looks.await_count in range(3, 6)
    assert {call.args[1].target.host for call in looks.await_args_list} == {HOME}
    led_away.session.error = None
    await led_away.move(70)
    asked = looks.await_count
    await led_away.move(120, step=5)
    assert (led_away.status, looks.await_count) == ("online", asked)


async def test_one_looks_also_when_another_machine_answers(led_away: Host, looks: AsyncMock) -> None:
    await set_up(led_away.hass, led_away.entry, led_away.session)
    led_away.session.error = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
    looks.return_value = True
    with patch("custom_components.homelab_monitor.async_new_session", return_value=led_away.session):
        await led_away.move(15)
    assert (led_away.entry.data["host"], led_away.entry.data["home_host"]) == (HOME, "")


@pytest.mark.parametrize("meanwhile", ["answers", "disabled", "changed"])
async def test_what_happens_while_one_looks_stands(
    hass: HomeAssistant, led_away: Host, looks: AsyncMock, meanwhile: str
) -> None:
    await set_up(hass, led_away.entry, led_away.session)
    changed = {"username": "anna"} if meanwhile == "changed" else {}

    async def look(*_: object) -> bool:
        if meanwhile == "answers":
            led_away.session.error = None
            await led_away.entry.runtime_data.async_refresh()
        elif meanwhile == "disabled":
            led_away.entry.disabled_by = ConfigEntryDisabler.USER
        hass.config_entries.async_update_entry(led_away.entry, data={**led_away.entry.data, **changed})
        return looks.await_count == 1

    looks.side_effect = look
    led_away.session.error = Unreachable("plain")
    await led_away.move(50)
    assert looks.await_count
    assert (led_away.entry.data["host"], led_away.entry.data["home_host"]) == (ELSEWHERE, HOME)
    assert led_away.entry.state is ConfigEntryState.LOADED


async def test_nobody_looks_elsewhere_for_a_host_that_was_never_followed(
    hass: HomeAssistant, led_away: Host, looks: AsyncMock
) -> None:
    host = Host(hass, led_away.freezer)
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(300, step=5)
    assert (host.status, looks.await_count) == ("offline", 0)
