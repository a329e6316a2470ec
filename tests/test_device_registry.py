"""What a host may write into the device registry, which all integrations share: its own device and nothing else's."""

from collections.abc import Iterable
import time
from unittest.mock import patch

from homeassistant.config_entries import SOURCE_DHCP
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import HostMemory, async_hand_over

from .scripted import HOST_ID, Host, make_entry

ROUTER = "00:1b:21:aa:bb:cc"
OWN = "02:00:00:00:00:01"
OTHER_ID = "ffeeddccbbaa99887766554433221100"
TEN_MINUTES = 620


def cards(host: Host, *addresses: str) -> None:
    """Let the host report network cards with these permanent addresses."""
    host.session.sections["hardware"]["interfaces"] = {
        f"eth{number}": {"mac": address, "permanent_mac": address} for number, address in enumerate(addresses)
    }


def device_of(host: Host) -> dr.DeviceEntry:
    identifier = (DOMAIN, host.entry.unique_id)
    device = dr.async_get(host.hass).async_get_device_by_identifier(identifier, host.entry.entry_id)
    assert device is not None
    return device


def addresses(host: Host) -> set[str]:
    return {address for _, address in device_of(host).connections}


def holders(hass: HomeAssistant, address: str) -> set[str]:
    """Return which integrations have a device that is looked up by this address."""
    found = dr.async_get(hass).async_get_devices(connections={(dr.CONNECTION_NETWORK_MAC, address)})
    return {hass.config_entries.async_get_entry(device.config_entry_id).domain for device in found}


def add_router(hass: HomeAssistant) -> dr.DeviceEntry:
    """Let another integration register a router."""
    entry = MockConfigEntry(domain="router")
    entry.add_to_hass(hass)
    return dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, connections={(dr.CONNECTION_NETWORK_MAC, ROUTER)}, name="Router"
    )


def writes(hass: HomeAssistant) -> list[dict[str, object]]:
    """Return the list to which every change of the registry is going to be added."""
    changes: list[dict[str, object]] = []
    hass.bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, lambda event: changes.append(event.data))
    return changes


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """Return the levels of our own lines with that text."""
    ours = [record for record in caplog.records if record.name.startswith("custom_components.homelab_monitor")]
    return [record.levelname for record in ours if text in record.getMessage()]


@pytest.fixture
def second(host: Host) -> Host:
    """Return another host of the same Home Assistant."""
    other = Host(host.hass, host.freezer)
    other.entry = make_entry()
    data = {**other.entry.data, "host_id": OTHER_ID, "host": "127.0.0.2"}
    other.entry = MockConfigEntry(domain=DOMAIN, title="second", unique_id=OTHER_ID, data=data)
    cards(other)
    return other


async def test_an_address_of_another_integrations_device_is_never_claimed(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    router = add_router(hass)
    cards(host, ROUTER, OWN)
    await host.start()
    assert addresses(host) == {OWN}
    assert holders(hass, ROUTER) == {"router"}
    assert dr.async_get(hass).async_get(router.id) == router
    await host.move(2 * TEN_MINUTES, step=10)
    assert said(caplog, ROUTER) == ["INFO"]


@pytest.mark.parametrize("state", ["online", "silent about its cards", "offline", "unloaded"])
async def test_an_address_is_given_back_at_once_when_another_integration_registers_it_later(
    hass: HomeAssistant, host: Host, state: str
) -> None:
    cards(host, ROUTER, OWN)
    await host.start()
    assert addresses(host) == {OWN, ROUTER}
    if state == "silent about its cards":
        host.session.document["missing"]["hardware"] = "unreadable"
        await host.move(TEN_MINUTES, step=10)
    if state == "offline":
        host.session.error = Unreachable("plain")
        await host.move(60, step=5)
    if state == "unloaded":
        await hass.config_entries.async_unload(host.entry.entry_id)
    add_router(hass)
    await hass.async_block_till_done()
    assert addresses(host) == {OWN}
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await host.move(TEN_MINUTES, step=10)
    assert holders(hass, ROUTER) == {"router"}


async def test_an_address_that_another_device_is_given_later_is_given_back(hass: HomeAssistant, host: Host) -> None:
    cards(host, ROUTER, OWN)
    router = MockConfigEntry(domain="router")
    router.add_to_hass(hass)
    registry = dr.async_get(hass)
    device = registry.async_get_or_create(config_entry_id=router.entry_id, identifiers={("router", "1")})
    await host.start()
    registry.async_update_device(device.id, new_connections={(dr.CONNECTION_NETWORK_MAC, ROUTER)})
    await hass.async_block_till_done()
    assert addresses(host) == {OWN}
    assert registry.async_get(device.id).connections == {(dr.CONNECTION_NETWORK_MAC, ROUTER)}


async def test_a_host_that_is_silent_about_its_cards_keeps_no_address_of_another_device(
    hass: HomeAssistant, host: Host
) -> None:
    host.session.document["missing"]["hardware"] = "unreadable"
    host.session.sections.pop("hardware")
    await host.start()
    add_router(hass)
    await hass.config_entries.async_unload(host.entry.entry_id)
    # As an earlier version has left it.
    both = {(dr.CONNECTION_NETWORK_MAC, address) for address in (OWN, ROUTER)}
    dr.async_get(hass).async_update_device(device_of(host).id, new_connections=both)
    await host.start_again()
    assert addresses(host) == {OWN}


@pytest.mark.parametrize("first_after_restart", [0, 1])
async def test_of_two_hosts_with_one_address_the_first_keeps_it_in_whatever_order_they_start_again(
    hass: HomeAssistant, host: Host, second: Host, caplog: pytest.LogCaptureFixture, first_after_restart: int
) -> None:
    cards(host, ROUTER)
    cards(second, ROUTER, OWN)
    await host.start()
    await second.start()
    for each in (host, second):
        await hass.config_entries.async_unload(each.entry.entry_id)
    order = [host, second][:: -1 if first_after_restart else 1]
    for each in order:
        await each.start_again()
    await host.move(TEN_MINUTES, step=10)
    assert (addresses(host), addresses(second)) == ({ROUTER}, {OWN})
    assert said(caplog, ROUTER) == ["WARNING"] * 2


@pytest.mark.parametrize("claim", [True, False])
async def test_a_host_is_followed_to_a_new_address_also_where_another_one_has_claimed_its_card(
    hass: HomeAssistant, host: Host, second: Host, *, claim: bool
) -> None:
    cards(host, ROUTER, OWN) if claim else cards(host, ROUTER)
    await host.start()
    cards(second, OWN)
    await second.start()
    lease = DhcpServiceInfo(ip="192.168.1.77", hostname="second", macaddress=OWN.replace(":", ""))
    with patch("custom_components.homelab_monitor.config_flow.async_follow") as follow:
        await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_DHCP}, data=lease)
    followed = {call.args[1].title for call in follow.call_args_list}
    assert followed == ({"plain", "second"} if claim else {"second"}), "whose it is, a login proves"


async def test_an_address_that_its_host_no_longer_has_is_free_for_another(host: Host, second: Host) -> None:
    cards(host, ROUTER)
    cards(second, ROUTER)
    await host.start()
    await second.start()
    assert addresses(second) == set()
    cards(host, OWN)
    await host.move(2 * TEN_MINUTES, step=10)
    assert (addresses(host), addresses(second)) == ({OWN}, {ROUTER})


@pytest.mark.parametrize("first", [0, 1])
async def test_an_address_that_two_hosts_have_from_before_is_left_to_the_older_device(
    hass: HomeAssistant, host: Host, second: Host, first: int
) -> None:
    registry = dr.async_get(hass)
    for each in (host, second):
        cards(each, ROUTER)
        await each.start()
        await hass.config_entries.async_unload(each.entry.entry_id)
        registry.async_update_device(device_of(each).id, new_connections={(dr.CONNECTION_NETWORK_MAC, ROUTER)})
        host.freezer.tick(1)
    for each in [host, second][:: -1 if first else 1]:
        await each.start_again()
    assert (addresses(host), addresses(second)) == ({ROUTER}, set())


async def test_a_card_that_is_changed_takes_its_address_with_it(host: Host) -> None:
    cards(host, OWN, ROUTER)
    await host.start()
    cards(host, "52:54:00:12:34:56")
    await host.move(TEN_MINUTES, step=10)
    assert addresses(host) == {"52:54:00:12:34:56"}


async def test_what_is_remembered_of_a_host_that_is_off_stays(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.document["missing"]["hardware"] = "timed_out"
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    await host.move(60, step=5)
    assert addresses(host) == {OWN}


@pytest.mark.parametrize(
    "address",
    [
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "01:00:5e:00:00:01",
        "33:33:00:00:00:01",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02:03",
        "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01",
        "02:00:00:00:00:0g",
        "0x:00:00:00:00:01",
        "\u06602:00:00:00:00:01",
        "2:0:0:0:0:1",
        "mac",
        "",
        OWN + "\n",
    ],
)
async def test_what_is_no_unicast_address_of_six_bytes_is_no_connection(host: Host, address: str) -> None:
    cards(host, address)
    await host.start()
    assert addresses(host) == set()


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("02-00-00-00-00-0A", "02:00:00:00:00:0a"),
        ("0200.0000.000a", "02:00:00:00:00:0a"),
        ("02000000000A", "02:00:00:00:00:0a"),
        ("00:1B:21:AA:BB:CC", ROUTER),
    ],
)
async def test_a_unicast_address_however_written_and_also_a_local_one_is_a_connection(
    host: Host, told: str, kept: str
) -> None:
    cards(host, told)
    await host.start()
    assert addresses(host) == {kept}


def many(numbers: Iterable[int]) -> list[str]:
    return [f"02:00:00:00:01:{number:02x}" for number in numbers]


async def test_a_host_has_at_most_sixteen_addresses_and_the_same_ones_in_any_order(host: Host) -> None:
    cards(host, *many(range(200)))
    await host.start()
    first = addresses(host)
    assert len(first) == 16
    cards(host, *many(reversed(range(200))))
    await host.move(TEN_MINUTES, step=10)
    assert addresses(host) == first


async def test_the_device_of_a_host_that_was_removed_is_not_revived_by_an_address(
    hass: HomeAssistant, host: Host, second: Host
) -> None:
    cards(host, ROUTER)
    await host.start()
    registry = dr.async_get(hass)
    removed = registry.async_update_device(device_of(host).id, name_by_user="The bank's server", area_id=None)
    await hass.config_entries.async_remove(host.entry.entry_id)
    cards(second, ROUTER)
    # The flow that adds a host has seen its cards already.
    told = Snapshot().merged(second.session.answer(list(SECTIONS)), 1.0, 30.0)
    async_hand_over(hass, OTHER_ID, HostMemory(snapshot=told, seen=time.monotonic()))
    await second.start()
    assert addresses(second) == {ROUTER}
    assert device_of(second).id != removed.id
    assert device_of(second).name_by_user is None


async def test_a_host_that_changes_each_poll_is_written_a_few_times_and_its_last_word_arrives(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    coordinator = host.entry.runtime_data
    changes = writes(hass)
    for number in range(50):
        host.session.sections["system"]["os_name"] = f"System {number}"
        cards(host, f"02:00:00:00:00:{number:02x}")
        await coordinator.async_poll_section("system")
        await coordinator.async_poll_section("hardware")
    assert 1 <= len(changes) <= 10
    await host.move(2 * 3600, step=30)
    assert device_of(host).sw_version == "System 49"
    assert addresses(host) == {"02:00:00:00:00:31"}


async def test_a_host_that_goes_on_changing_is_written_about_once_an_hour(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    changes = writes(hass)
    for number in range(120):
        host.session.sections["system"]["os_name"] = f"System {number}"
        host.freezer.tick(60)
        await host.entry.runtime_data.async_poll_section("system")
    assert 6 <= len(changes) <= 12


async def test_a_host_that_says_the_same_is_not_written_again(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    changes = writes(hass)
    await host.move(2 * TEN_MINUTES, step=10)
    assert changes == []


async def test_what_a_host_says_of_its_make_is_cut(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["system"]["os_name"] = "o" * 4096
    for name in ("vendor", "model", "serial"):
        host.session.sections["hardware"][name] = f"{name}\n" * 1000
    units = host.session.sections["services"]["units"]
    units[0]["name"] = "u" * 4096 + ".service"
    await host.start()
    device = device_of(host)
    texts = (device.sw_version, device.manufacturer, device.model, device.serial_number)
    assert max(map(len, texts)) <= 120
    assert device.identifiers == {(DOMAIN, HOST_ID)}
    assert device.via_device_id is None


async def test_the_device_of_a_container_is_a_child_with_a_short_name(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = {
        "at": 1.0,
        "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
        "containers": [
            {"engine": "docker", "owner": "root", "id": "0" * 64, "name": "c" * 4096, "state": "running"},
            {"engine": "docker", "owner": "root", "id": "1" * 64, "name": HOST_ID, "state": "running"},
        ],
        "complete": {"docker/root": True},
    }
    await host.start()
    registry = dr.async_get(hass)
    children = dr.async_child_entries_for_config_entry(registry, host.entry.entry_id)
    assert len(children) == 2
    for child in children:
        assert child.parent_device_id == device_of(host).id
        assert len(child.name) <= 120
        assert all(identifier.startswith(f"{HOST_ID}_container_") for _, identifier in child.identifiers)
