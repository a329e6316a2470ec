"""No machine is shown as another one: cards, rows and titles say nothing that a stranger chose to mislead."""

from ipaddress import ip_address
from unittest.mock import patch

from homeassistant.config_entries import SOURCE_DHCP, SOURCE_INTEGRATION_DISCOVERY, SOURCE_ZEROCONF
from homeassistant.core import HomeAssistant
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.transport.ip_addresses import is_neighbour
from custom_components.homelab_monitor.client.transport.scan import Candidate
from custom_components.homelab_monitor.client.transport.ssh import OfferedKey
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.flow.discovery import DiscoveredHost
from custom_components.homelab_monitor.settings import HostAddress

from .client.test_names import OF_ANOTHER
from .test_config_flow import (
    CONTACT,
    DISCOVERY,
    OTHER_ID,
    Dialog,
    Machine,
    announced,
    cards,
    dialog,  # noqa: F401
    discover,
    entry_of,
    host,  # noqa: F401
    make_machine,  # noqa: F401
    offered,
    setup_entry,  # noqa: F401
    typed,
)

WATCHED = {"host": "192.0.2.7", "username": "pi", "host_id": OTHER_ID, "host_keys": []}
ALIKE = ["nas", "NAS.local", "nas.evil", "N-A-S"]


def watched(hass: HomeAssistant, title: str = "NAS", **data: object) -> MockConfigEntry:
    entry = MockConfigEntry(domain=DOMAIN, title=title, unique_id=OTHER_ID, data=WATCHED | data)
    entry.add_to_hass(hass)
    return entry


@pytest.mark.parametrize("said", OF_ANOTHER)
async def test_no_card_is_titled_with_the_address_of_another_machine(hass: HomeAssistant, said: str) -> None:
    for name in (said, f"{said}.local", f"{said}.local."):
        info = announced(address="192.0.2.50")
        info.hostname = name
        await discover(hass, SOURCE_ZEROCONF, info)
    assert set(cards(hass).values()) == {"192.0.2.50"}


@pytest.mark.parametrize("said", ALIKE)
async def test_no_card_is_titled_like_a_host_that_is_monitored(hass: HomeAssistant, said: str) -> None:
    watched(hass)
    info = announced(said, "192.0.2.50")
    card = await discover(hass, SOURCE_ZEROCONF, info)
    assert list(cards(hass).values()) == ["192.0.2.50"]
    assert not card.placeholders["found"]
    found = DiscoveredHost(host="192.0.2.51", unique_id="192.0.2.51", name=said)
    card = await discover(hass, SOURCE_INTEGRATION_DISCOVERY, found)
    assert set(cards(hass).values()) == {"192.0.2.50", "192.0.2.51"}
    assert not card.placeholders["found"]


async def test_two_cards_have_two_titles(hass: HomeAssistant) -> None:
    await discover(hass, SOURCE_ZEROCONF, announced("nas0", "192.0.2.50"))
    other = announced("NASO", "192.0.2.51")
    other.ip_addresses = [other.ip_address]
    await discover(hass, SOURCE_ZEROCONF, other)
    assert sorted(cards(hass).values()) == ["192.0.2.51", "nas0"]


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate(address="192.0.2.50", hostname="n-a-s", banner="SSH-2.0-OpenSSH_9.6"),
        Candidate(address="192.0.2.50", banner="SSH-2.0-nas · 192.0.2.7 · OpenSSH"),
        Candidate(address="192.0.2.50", banner="SSH-2.0-OpenSSH_192.0.2.7"),
        Candidate(address="192.0.2.50", banner="SSH-2.0-OpenSSH_9.6 192.0.2.7"),
        Candidate(address="192.0.2.50", banner="SSH-2.0-OpenSSH_9.6 Debian 192.0.2.7"),
    ],
)
async def test_no_row_of_a_scan_says_what_another_machine_is_known_by(
    hass: HomeAssistant, hass_storage: dict[str, object], candidate: Candidate
) -> None:
    watched(hass)
    with (
        patch(f"{DISCOVERY}.scan", return_value=[candidate]),
        patch(f"{CONTACT}.read_host_key", return_value=OfferedKey("ssh-ed25519 AAAA", "")),
    ):
        dialog = await Dialog(hass).begin("scan")
        (row,) = offered(dialog)
        assert row.startswith("192.0.2.50")
        assert "192.0.2.7" not in row
        assert "nas" not in row.lower()
        await dialog.submit(hosts=["192.0.2.50"], username="pi")
    assert not dialog.placeholders["found"]


@pytest.mark.parametrize("said", [*OF_ANOTHER, *ALIKE])
async def test_no_entry_is_titled_like_another_machine(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    dialog: Dialog,  # noqa: F811
    said: str,
) -> None:
    watched(hass)
    host.sections["system"]["hostname"] = said
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.placeholders["name"] == r"127\.0\.0\.1"
    result = await dialog.submit()
    assert result["title"] == "127.0.0.1"


LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("address", LOOPBACK)
async def test_nobody_is_led_to_this_machine_by_an_announcement(hass: HomeAssistant, address: str) -> None:
    assert not is_neighbour(address)
    card = await discover(hass, SOURCE_ZEROCONF, announced("nas", address))
    assert card.ended == "not_new"
    watched(hass)
    lease = DhcpServiceInfo(ip=address, hostname="nas", macaddress="020000000007")
    with patch("custom_components.homelab_monitor.config_flow.async_follow") as follow:
        assert (await discover(hass, SOURCE_DHCP, lease)).ended == "not_new"
    assert not follow.called


@pytest.mark.parametrize("is_first", [True, False], ids=["the first", "after another"])
@pytest.mark.usefixtures("loopback_is_near")
async def test_a_relay_that_was_picked_in_a_scan_leaves_the_address_that_a_person_gave(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    *,
    is_first: bool,
) -> None:
    """Whoever forwards a port to a machine is found by a scan, shows its key and is let in."""
    entry = entry_of(host, host="192.0.2.7", port=22)
    entry.add_to_hass(hass)
    found = [Candidate(address=each, banner="SSH-2.0-OpenSSH_9.6") for each in ("127.0.0.1", "192.0.2.50")]
    with (
        patch(f"{DISCOVERY}.scan", return_value=found if is_first else found[::-1]),
        patch(f"{CONTACT}.read_host_key", return_value=OfferedKey(host.host_keys[0], "")),
        # A scan asks at the usual port, which is not the one of this machine.
        patch("custom_components.homelab_monitor.flow.onboarding.Target.parse", return_value=host.target),
    ):
        dialog = await Dialog(hass).begin("scan")
        await dialog.submit(hosts=["127.0.0.1", "192.0.2.50"], username="monitor")
        await hass.async_block_till_done()
        if not is_first:
            await dialog.open(next(flow for flow, name in cards(hass).items() if name == "127.0.0.1"))
            await dialog.submit(address="monitor@127.0.0.1")
    await dialog.submit()
    await dialog.submit()
    await dialog.choose("moved")
    assert entry.data["host"] == "127.0.0.1"
    assert HostAddress.from_data(entry.data).given.host == "192.0.2.7"


async def test_an_address_that_was_pasted_is_one_that_a_person_gave(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    entry = entry_of(host, host="192.0.2.7", port=22)
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).begin("paste")  # noqa: F811
    await dialog.submit(addresses=typed(host))
    await dialog.submit()
    await dialog.submit()
    await dialog.choose("moved")
    assert (entry.data["host"], entry.data["home_host"]) == ("127.0.0.1", "")


@pytest.mark.parametrize("others", [0, 3, 8, 40])
async def test_the_address_that_a_card_leads_to_is_compared_wherever_it_stands(
    hass: HomeAssistant, others: int
) -> None:
    info = announced("newbox", "192.0.2.7")
    info.ip_addresses = [*(ip_address(f"169.254.1.{number}") for number in range(1, others + 1)), info.ip_address]
    entry = watched(hass)
    assert (await discover(hass, SOURCE_ZEROCONF, info)).ended == "already_configured"
    hass.config_entries.async_update_entry(entry, data=WATCHED | {"host": "192.0.2.8"})
    assert (await discover(hass, SOURCE_ZEROCONF, announced("first", "192.0.2.7"))).at == ("address", None)
    assert (await discover(hass, SOURCE_ZEROCONF, info)).ended == "already_in_progress"


@pytest.mark.parametrize("known", ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"])
async def test_an_ipv4_address_in_ipv6_is_that_address(hass: HomeAssistant, known: str) -> None:
    watched(hass, host=known)
    for said in ("192.0.2.7", "::ffff:192.0.2.7"):
        assert (await discover(hass, SOURCE_ZEROCONF, announced("newbox", said))).ended == "already_configured"
    card = await discover(hass, SOURCE_ZEROCONF, announced("another", "::ffff:192.0.2.9"))
    assert card.suggested("address") == "192.0.2.9"
    assert (await discover(hass, SOURCE_ZEROCONF, announced("third", "192.0.2.9"))).ended == "already_in_progress"


async def test_a_key_is_compared_at_an_address_however_it_is_written(hass: HomeAssistant) -> None:
    known, foreign = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}" for letter in "BC")
    watched(hass, host_keys=[known])
    for shown, at in ((foreign, ("trust", "host_key_changed")), (known, None)):
        with patch(f"{CONTACT}.read_host_key", return_value=OfferedKey(shown, "")):
            adding = await Dialog(hass).begin("address")
            await adding.submit(address="pi@[::ffff:192.0.2.7]")
        assert (adding.at == at) if at else (adding.ended == "already_configured")
