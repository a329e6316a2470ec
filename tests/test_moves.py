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

from custom_components.homelab_monitor.client.errors import (
    HomelabError,
    HostKeyChanged,
    NoGreeting,
    NotSSH,
    TimedOut,
    Unreachable,
)
from custom_components.homelab_monitor.client.limits import MOVES_AT_ONCE, MOVES_FORGOTTEN_SECONDS, MOVES_KEPT
from custom_components.homelab_monitor.client.transport.ssh import OfferedKey
from custom_components.homelab_monitor.client.transport.target import Target
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.flow.moves import async_follow, async_follow_gate
from custom_components.homelab_monitor.settings import HostAddress

from .scripted import Host, set_up
from .test_config_flow import HOST_ID, OTHER_ID, Machine, entry_of, make_machine  # noqa: F401 - a fixture among them
from .test_first_contact import Between

pytestmark = pytest.mark.usefixtures("loopback_is_near")

MOVES = "custom_components.homelab_monitor.flow.moves"
MAC = "02:00:00:00:00:09"
HOME, ELSEWHERE = "127.0.0.1", "127.0.0.9"
SILENT = patch(f"{MOVES}.async_read_host_key", AsyncMock(side_effect=TimedOut(HOME)))
"""Somebody keeps what is sent to the known address from arriving."""
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


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
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a host be offline with the first poll that nobody answers, which usually takes half a minute."""
    monkeypatch.setattr(HomelabCoordinator, "_is_stale", lambda _: True)


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


def many(hass: HomeAssistant, machine: Machine, number: int) -> list[MockConfigEntry]:
    """Return the entries of hosts that are watched, one address each."""
    entries = [entry_of(machine, host_id=f"{n:032x}", host=f"127.0.1.{n}") for n in range(1, number + 1)]
    for entry in entries:
        entry.add_to_hass(hass)
    return entries


async def start(hass: HomeAssistant, entry: MockConfigEntry) -> HomelabCoordinator:
    """Set the entry up, as after a restart, and let what follows from its first poll happen."""
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    return entry.runtime_data


@pytest.mark.usefixtures("_two_addresses")
@pytest.mark.parametrize("error", [NotSSH(HOME), NoGreeting(HOME)])
async def test_while_somebody_answers_at_its_address_a_host_is_not_followed(
    hass: HomeAssistant, watched: MockConfigEntry, error: HomelabError
) -> None:
    async with relayed(watched.machine, ELSEWHERE):
        with patch(f"{MOVES}.async_read_host_key", AsyncMock(side_effect=error)):
            await lease(hass, ELSEWHERE)
    assert watched.data["host"] == HOME


@pytest.mark.usefixtures("_two_addresses", "_impatient")
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
    assert "is now reached at" not in caplog.text, "nor for a moment"


# ---------------------------------------------------------------- a flood of announcements


@pytest.mark.usefixtures("_two_addresses", "_impatient")
async def test_announcements_for_many_hosts_wait_their_turn_and_hold_no_way_back_up(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    never = asyncio.Event()
    looked: list[str] = []

    async def keep_waiting(target: Target, known: tuple[str, ...]) -> OfferedKey:
        looked.append(target.host)
        await never.wait()
        return OfferedKey(known[0], "")

    await start(hass, watched)
    await hass.config_entries.async_unload(watched.entry_id)
    entries = many(hass, watched.machine, 30)
    before = len(asyncio.all_tasks())
    with patch(f"{MOVES}.async_read_host_key", keep_waiting):
        for again in range(1, 20):
            for entry in entries:
                async_follow(hass, entry, f"127.0.2.{again}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) - before <= len(entries), "one for each host, however often it is announced"
        assert len(looked) == MOVES_AT_ONCE
        hass.config_entries.async_update_entry(watched, data={**watched.data, "host": ELSEWHERE, "home_host": HOME})
        await hass.config_entries.async_setup(watched.entry_id)
        for _ in range(1000):
            if watched.data["host"] == HOME:
                break
            await asyncio.sleep(0.01)
        assert (watched.data["host"], watched.data["home_host"]) == (HOME, "")
        assert len(looked) == MOVES_AT_ONCE
        for entry in entries:
            await hass.config_entries.async_remove(entry.entry_id)
        never.set()
        await hass.async_block_till_done(wait_background_tasks=True)
        assert len(looked) == MOVES_AT_ONCE, "nobody is asked for who is removed"
    assert not async_follow_gate(hass).locked(), "there is room again"
    await hass.config_entries.async_unload(watched.entry_id)


async def test_who_waits_is_looked_for_where_it_was_announced_last(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    looks = AsyncMock(return_value=False)
    gate = async_follow_gate(hass)
    with SILENT, patch(f"{MOVES}.async_is_there", looks):
        async with gate, gate:
            async_follow(hass, watched, "127.0.0.10")
            await asyncio.sleep(0)
            async_follow(hass, watched, "127.0.0.11")
        await hass.async_block_till_done(wait_background_tasks=True)
    assert [call.args[1].target.host for call in looks.await_args_list] == ["127.0.0.11", "127.0.0.10"]


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

    async def look(*_: object) -> None:
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


# ---------------------------------------------------------------- an announcement at a bad moment


class Town:
    """Where hosts are at the moment, for all who look."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        """Addresses at which the host that is looked for lets us in."""
        self.strangers: set[str] = set()
        """Addresses at which somebody else answers."""
        self.knocked: list[str] = []
        """Where a login was tried, but for the way back."""

    async def read_host_key(self, target: Target, known: tuple[str, ...]) -> OfferedKey:
        if target.host not in self.hosts | self.strangers:
            raise TimedOut(target.host)
        return OfferedKey(known[0] if target.host in self.hosts else OTHER_KEY, "")

    async def is_there(self, _: HomeAssistant, known: HostAddress) -> bool:
        self.knocked.append(known.target.host)
        for _ in range(20 if known.target.host == HOME else 1):
            await asyncio.sleep(0)
        return known.target.host in self.hosts


@pytest.fixture
def town() -> Iterator[Town]:
    """Return a network in which nobody is anywhere yet."""
    it = Town()
    with patch(f"{MOVES}.async_read_host_key", it.read_host_key), patch(f"{MOVES}.async_is_there", it.is_there):
        yield it


NEW, BOGUS = "127.0.0.20", [f"127.0.0.{number}" for number in range(60, 90)]


async def gone(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> Host:
    """Return a scripted host that does not answer at its address any more."""
    host = Host(hass, freezer)
    await host.start()
    host.session.error = Unreachable("plain")
    return host


async def announce(host: Host, *ips: str) -> None:
    """Let somebody announce addresses for the host, one after the other."""
    for ip in ips:
        async_follow(host.hass, host.entry, ip)
        await host.hass.async_block_till_done(wait_background_tasks=True)


async def pass_until_moved(host: Host, seconds: float) -> str:
    """Let time pass until the host was followed to another address, or it is over; return where it is then."""
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        for _ in range(round(seconds / 5)):
            if host.entry.data["host"] != HOME:
                break
            await host.move(5, step=5)
    return host.entry.data["host"]


async def test_a_host_whose_server_starts_after_its_network_is_found_a_little_later(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = await gone(hass, freezer)
    await announce(host, NEW)
    assert (town.knocked, host.entry.data["host"]) == ([NEW], HOME)
    town.hosts = {NEW}
    assert await pass_until_moved(host, 180) == NEW
    assert host.entry.data["home_host"] == HOME


async def test_a_host_that_is_asked_seldom_is_found_before_it_counts_as_offline(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = Host(hass, freezer)
    await host.start(interval=3600)
    host.session.error = Unreachable("plain")
    await announce(host, NEW)
    town.hosts = {NEW}
    stale_after = host.entry.runtime_data.options.stale_after
    assert await pass_until_moved(host, stale_after / 2) == NEW


async def test_while_somebody_answers_at_the_known_address_an_announced_one_waits(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    town.hosts, town.strangers = {NEW}, {HOME}
    host = await gone(hass, freezer)
    await announce(host, NEW)
    assert await pass_until_moved(host, 900) == HOME
    assert town.knocked == []
    town.strangers = set()
    assert await pass_until_moved(host, 400) == NEW


@pytest.mark.parametrize("order", ["before", "after"])
async def test_announcements_of_somebody_else_push_the_true_one_out_of_nothing(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town, order: str
) -> None:
    host = await gone(hass, freezer)
    bogus = BOGUS[: MOVES_KEPT - 1]
    await announce(host, *([*bogus, NEW] if order == "before" else [NEW, *bogus]))
    town.hosts = {NEW}
    assert await pass_until_moved(host, 900) == NEW


@pytest.mark.parametrize("place", range(MOVES_KEPT))
async def test_a_host_that_comes_late_is_found_wherever_it_was_announced(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town, place: int
) -> None:
    host = await gone(hass, freezer)
    announced = BOGUS[:MOVES_KEPT]
    for ip in announced:
        await announce(host, ip)
        await host.move(90, step=5)
    assert set(town.knocked) == set(announced), "nobody was there yet"
    town.hosts = {announced[place]}
    assert await pass_until_moved(host, MOVES_KEPT * 300 + 60) == announced[place]


async def test_an_address_that_is_announced_while_another_one_is_tried_is_tried_next(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    looks: list[str] = []

    async def look(_: HomeAssistant, there: HostAddress) -> bool:
        looks.append(there.target.host)
        if there.target.host != NEW:
            async_follow(hass, watched, NEW)
        return there.target.host == NEW

    with SILENT, patch(f"{MOVES}.async_is_there", look), patch.object(hass.config_entries, "async_schedule_reload"):
        await lease(hass, BOGUS[0])
    assert looks == [BOGUS[0], NEW]
    assert watched.data["host"] == NEW


async def test_a_house_that_gets_other_addresses_is_followed_to_the_last_host(
    hass: HomeAssistant, watched: MockConfigEntry
) -> None:
    entries = many(hass, watched.machine, 24)
    most = now = 0

    async def silence(target: Target, _: object) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        raise TimedOut(target.host)

    with (
        patch(f"{MOVES}.async_read_host_key", silence),
        patch(f"{MOVES}.async_is_there", AsyncMock(return_value=True)),
        patch.object(hass.config_entries, "async_schedule_reload"),
    ):
        for number, entry in enumerate(entries, 1):
            async_follow(hass, entry, f"127.0.2.{number}")
        await hass.async_block_till_done(wait_background_tasks=True)
    assert [entry.data["host"] for entry in entries] == [f"127.0.2.{number}" for number in range(1, 25)]
    assert most == MOVES_AT_ONCE


async def test_announcements_without_end_cost_a_few_looks_and_memory_for_a_few_addresses(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = await gone(hass, freezer)
    await host.move(60, step=5)
    for second in range(600):
        await announce(host, f"127.1.{second // 200}.{second % 200}")
        if second % 10 == 0:
            await host.move(10, step=10)
    assert len(town.knocked) <= 2 + 10 + MOVES_KEPT + 2
    before = len(town.knocked)
    await host.move(3600, step=30)
    assert len(town.knocked) - before <= MOVES_KEPT + 12 + MOVES_KEPT, "then each twice, and one every five minutes"
    assert len(set(town.knocked[before:])) <= MOVES_KEPT


async def test_what_was_announced_is_forgotten_when_the_host_has_been_back_for_a_while(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = await gone(hass, freezer)
    await announce(host, NEW)
    host.session.error = None
    await host.move(60, step=5)
    host.session.error = Unreachable("plain")
    knocked = len(town.knocked)
    await host.move(600, step=5)
    assert len(town.knocked) > knocked, "it was there for a moment only"
    host.session.error = None
    await host.move(MOVES_FORGOTTEN_SECONDS + 120, step=10)
    assert host.status == "online"
    host.session.error = Unreachable("plain")
    town.hosts, knocked = {NEW}, len(town.knocked)
    assert await pass_until_moved(host, 900) == HOME
    assert len(town.knocked) == knocked


async def test_what_was_just_announced_is_remembered_however_long_the_host_was_where_it_is(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    # It gets its new address some minutes before it gives the old one up.
    host = Host(hass, freezer)
    await host.start()
    await host.move(MOVES_FORGOTTEN_SECONDS + 120, step=10)
    town.hosts = {HOME, NEW}
    await announce(host, NEW)
    await host.move(120, step=10)
    assert (host.status, host.entry.data["host"]) == ("online", HOME)
    town.hosts = {NEW}
    host.session.error = Unreachable("plain")
    assert await pass_until_moved(host, 900) == NEW


async def test_a_person_who_gives_another_address_makes_that_the_only_one(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = await gone(hass, freezer)
    await announce(host, NEW)
    hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, "host": "127.0.0.30"})
    await host.reload()
    town.hosts, knocked = {NEW}, len(town.knocked)
    await host.move(600, step=5)
    assert len(town.knocked) == knocked
    assert host.entry.data["host"] == "127.0.0.30"


async def test_where_a_host_is_led_away_the_other_announced_addresses_are_still_tried(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    host = await gone(hass, freezer)
    town.hosts = {BOGUS[0]}
    await announce(host, NEW)
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        await announce(host, BOGUS[0])
        assert host.entry.data["host"] == BOGUS[0], "a relay cannot be told from the machine"
        town.hosts = {NEW}
        for _ in range(120):
            await host.move(5, step=5)
    assert (host.entry.data["host"], host.entry.data["home_host"]) == (NEW, HOME)


async def test_a_host_that_goes_to_and_fro_is_followed_now_and_then(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, town: Town
) -> None:
    """Each time its entry is set up anew, with all that is counted there."""
    host = await gone(hass, freezer)
    moved = 0
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        for number in range(30):
            before = host.entry.data["host"]
            there = BOGUS[number % 2]
            town.hosts = {there}
            await announce(host, there)
            for _ in range(12):
                await host.move(5, step=5)
            moved += host.entry.data["host"] != before
    assert 0 < moved <= 5, "half an hour"


async def test_where_a_person_said_that_the_host_is_goes_before_what_was_announced(
    hass: HomeAssistant, led_away: Host, town: Town
) -> None:
    await set_up(hass, led_away.entry, led_away.session)
    await announce(led_away, NEW)
    town.hosts = {HOME, NEW}
    led_away.session.error = Unreachable("plain")
    with patch("custom_components.homelab_monitor.async_new_session", return_value=led_away.session):
        await led_away.move(120, step=5)
    assert (led_away.entry.data["host"], led_away.entry.data["home_host"]) == (HOME, "")
    assert town.knocked == [HOME, NEW, HOME], "twice when it was announced, once when it was missed"


async def test_who_has_the_address_that_a_person_gave_is_not_asked_more_often_for_what_is_announced(
    hass: HomeAssistant, led_away: Host, town: Town
) -> None:
    await set_up(hass, led_away.entry, led_away.session)
    led_away.session.error = Unreachable("plain")
    for minute in range(60):
        await announce(led_away, f"127.0.3.{minute}")
        await led_away.move(60, step=20)
    assert town.knocked.count(HOME) <= 2 + 12
    assert len(town.knocked) > 60, "the announced ones were"


async def test_a_look_ends_with_its_entry(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    host = await gone(hass, freezer)
    ended = asyncio.Event()

    async def hang(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with patch(f"{MOVES}.async_read_host_key", hang):
        async_follow(hass, host.entry, NEW)
        await hass.config_entries.async_unload(host.entry.entry_id)
        await asyncio.wait_for(ended.wait(), 5)
    assert not async_follow_gate(hass).locked()
