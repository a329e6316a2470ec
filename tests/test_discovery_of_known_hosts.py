"""A monitored host is not shown under *Discovered*, whatever name or address it is known by."""

from homeassistant.config_entries import SOURCE_INTEGRATION_DISCOVERY, SOURCE_ZEROCONF
from homeassistant.core import HomeAssistant
import pytest

from custom_components.homelab_monitor.flow.discovery import DiscoveredHost

from .scripted import Host
from .test_config_flow import Dialog, announced, cards, discover

PEER = "192.0.2.9"
CARDS = {
    SOURCE_ZEROCONF: announced("other", address=PEER),
    SOURCE_INTEGRATION_DISCOVERY: DiscoveredHost(host=PEER, unique_id="02:00:00:00:00:09", name="other.lan"),
}


class Connection:
    """A connection that lives, as far as cards look at it."""

    closed = False
    peer = (f"::ffff:{PEER}", 22)


@pytest.fixture
def connected(host: Host) -> Host:
    """Return a host whose name leads to an address that nothing but its connection tells."""
    host.session.connection = Connection()
    return host


@pytest.mark.parametrize("source", CARDS)
async def test_the_address_that_a_host_is_connected_to_is_not_discovered(
    hass: HomeAssistant, connected: Host, source: str
) -> None:
    await connected.start()
    card = await discover(hass, source, CARDS[source])
    assert card.ended == "already_configured"
    assert card.placeholders["name"] == connected.entry.title


@pytest.mark.parametrize("source", CARDS)
async def test_a_card_that_was_there_before_the_host_answered_goes(
    hass: HomeAssistant, connected: Host, source: str
) -> None:
    await discover(hass, source, CARDS[source])
    await discover(
        hass, SOURCE_INTEGRATION_DISCOVERY, DiscoveredHost(host="192.0.2.10", unique_id="192.0.2.10", name="desk")
    )
    assert len(cards(hass)) == 2
    await connected.start()
    await connected.move(30)
    assert list(cards(hass).values()) == ["desk"]


async def test_a_card_of_another_port_is_another_machine(hass: HomeAssistant, connected: Host) -> None:
    await discover(hass, SOURCE_ZEROCONF, announced("other", address=PEER, port=2222))
    await connected.start()
    await connected.move(30)
    assert list(cards(hass).values()) == ["other"]


async def test_a_dialog_in_which_somebody_is_further_goes_on(
    hass: HomeAssistant, connected: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog: Dialog = await discover(hass, SOURCE_ZEROCONF, CARDS[SOURCE_ZEROCONF])
    flow = hass.config_entries.flow._progress[dialog.flow_id]
    monkeypatch.setitem(flow.cur_step, "step_id", "trust")
    await connected.start()
    await connected.move(30)
    assert list(cards(hass)) == [dialog.flow_id]


async def test_a_card_that_has_just_begun_and_shows_nothing_yet_goes_as_well(
    hass: HomeAssistant, connected: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await discover(hass, SOURCE_ZEROCONF, CARDS[SOURCE_ZEROCONF])
    monkeypatch.setattr(hass.config_entries.flow._progress[card.flow_id], "cur_step", None)
    await connected.start()
    await connected.move(30)
    assert card.flow_id not in hass.config_entries.flow._progress
