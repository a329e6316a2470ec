"""Cards and rows: their names are checked whenever they are shown, and many of them cost little."""

from collections import Counter
from collections.abc import Iterator
from unittest.mock import patch

from homeassistant.config_entries import SOURCE_INTEGRATION_DISCOVERY, SOURCE_ZEROCONF
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import EVENT_DATA_ENTRY_FLOW_PROGRESSED
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.homelab_monitor.client.limits import CARDS_LIMIT, ROWS_LIMIT
from custom_components.homelab_monitor.client.transport.scan import Candidate
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.settings import HostAddress

from .test_config_flow import (  # noqa: F401 - fixtures among them
    DISCOVERY,
    Dialog,
    announced,
    cards,
    discover,
    entry_of,
    host,
    make_machine,
    offered,
    setup_entry,
    typed,
)
from .test_who_is_who import watched

pytestmark = pytest.mark.usefixtures("socket_enabled")


def scanned(count: int) -> list[Candidate]:
    """Return what a scan finds where somebody answers at every address."""
    addresses = (f"10.66.{number >> 8}.{number & 255}" for number in range(count))
    return [Candidate(address=each, banner="SSH-2.0-OpenSSH_9.6") for each in addresses]


# ---------------------------------------------------------------- names


async def test_a_card_that_was_there_first_gives_its_name_up_to_a_host_that_is_added(
    hass: HomeAssistant,
    host,  # noqa: F811
) -> None:
    card = await discover(hass, SOURCE_ZEROCONF, announced("cl0udy", "192.0.2.66"))
    assert "cl0udy" in cards(hass).values()
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    assert dialog.created
    assert dialog.result["title"] == "cloudy"
    assert list(cards(hass).values()) == ["192.0.2.66"]
    opened = await Dialog(hass).open(card.flow_id)
    assert opened.placeholders["found"] == ""


async def test_a_card_gives_its_name_up_to_a_host_that_is_renamed_and_gets_it_back(hass: HomeAssistant) -> None:
    entry = watched(hass, "tower")
    card = await discover(hass, SOURCE_ZEROCONF, announced("backup", "192.0.2.66"))
    for title, name, shown in (("Backup", "192.0.2.66", ""), ("tower", "backup", "**backup**\n\n")):
        hass.config_entries.async_update_entry(entry, title=title)
        assert list(cards(hass).values()) == [name]
        opened = await Dialog(hass).open(card.flow_id)
        assert opened.placeholders["found"] == shown


async def test_a_dialog_is_loaded_again_for_its_name_only_while_it_waits_as_a_card(
    hass: HomeAssistant,
    host,  # noqa: F811
) -> None:
    """What is loaded again loses what was typed, and ends with an error where the flow is over."""
    loaded = async_capture_events(hass, EVENT_DATA_ENTRY_FLOW_PROGRESSED)

    def again(flow_id: str) -> int:
        found = [each for each in loaded if each.data["flow_id"] == flow_id]
        loaded.clear()
        return len(found)

    other = watched(hass, "tower")
    dialog = await discover(hass, SOURCE_ZEROCONF, announced("cloudy", "192.0.2.66"))
    again(dialog.flow_id)
    hass.config_entries.async_update_entry(other, title="cl0udy")
    hass.config_entries.async_update_entry(other, title="tower")
    assert again(dialog.flow_id) == 2
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)
    again(dialog.flow_id)
    hass.config_entries.async_update_entry(other, title="cl0udy")
    hass.config_entries.async_update_entry(other, title="tower")
    assert again(dialog.flow_id) == 0
    await dialog.submit()
    again(dialog.flow_id)
    await dialog.submit()
    assert dialog.created
    assert again(dialog.flow_id) == 0


async def test_a_machine_in_the_queue_and_in_its_own_dialog_gives_its_name_up_as_well(hass: HomeAssistant) -> None:
    machines = [
        Candidate(address=f"192.0.2.{number}", hostname=name, banner="SSH-2.0-OpenSSH_9.6")
        for number, name in ((66, "one"), (67, "two"))
    ]
    entry = watched(hass, "tower")
    with patch(f"{DISCOVERY}.scan", return_value=machines):
        dialog = await Dialog(hass).begin("scan")
    with patch("custom_components.homelab_monitor.flow.connection.read_host_key", side_effect=OSError):
        await dialog.submit(hosts=["192.0.2.66", "192.0.2.67"], username="pi")
        assert dialog.placeholders["found"] == "**one**\n\n"
        assert "two" in cards(hass).values()
        hass.config_entries.async_update_entry(entry, title="two")
        assert "two" not in cards(hass).values()
        hass.config_entries.async_update_entry(entry, title="0ne")
        await dialog.submit(address="pi@192.0.2.66")
    assert dialog.at[0] == "address"
    assert dialog.placeholders["found"] == ""
    assert "two" in cards(hass).values()


async def test_a_row_is_checked_each_time_the_list_is_shown(hass: HomeAssistant) -> None:
    found = [Candidate(address="192.0.2.66", hostname="backup")]
    entry = watched(hass, "tower")
    with patch(f"{DISCOVERY}.scan", return_value=found):
        dialog = await Dialog(hass).begin("scan")
    assert offered(dialog) == ["backup · 192.0.2.66"]
    hass.config_entries.async_update_entry(entry, title="Backup")
    await dialog.submit(hosts=["192.0.2.66"], username="$(reboot)")
    assert offered(dialog) == ["192.0.2.66"]


# ---------------------------------------------------------------- many


@pytest.fixture
def reads() -> Iterator[Counter[str]]:
    """Count how often the data of an entry is read."""
    counted: Counter[str] = Counter()
    read = HostAddress.from_data

    def count(data):
        counted["entries"] += 1
        return read(data)

    with patch.object(HostAddress, "from_data", count):
        yield counted


async def test_who_answers_at_every_address_costs_a_few_looks_at_the_entries_and_a_page_of_rows(
    hass: HomeAssistant, reads: Counter[str]
) -> None:
    entries = 30
    for number in range(entries):
        data = {"host": f"10.66.0.{number}", "username": "pi", "host_id": f"{number:032x}", "host_keys": []}
        MockConfigEntry(domain=DOMAIN, title=f"host{number}", unique_id=f"{number:032x}", data=data).add_to_hass(hass)
    with patch(f"{DISCOVERY}.scan", return_value=scanned(4000)):
        dialog = await Dialog(hass).begin("scan")
    rows = offered(dialog)
    assert len(rows) == ROWS_LIMIT
    assert rows[0].startswith("✅ host0")
    assert f"{4000 - ROWS_LIMIT:,} more hosts" in dialog.placeholders["more"]
    assert reads["entries"] <= 10 * entries
    reads.clear()
    init = hass.config_entries.flow.async_init
    with patch.object(hass.config_entries.flow, "async_init", side_effect=init) as started:
        await dialog.submit(hosts=[])
        await hass.async_block_till_done()
    assert started.await_count == CARDS_LIMIT, "no flow for whom there is no room"
    assert len(cards(hass)) == CARDS_LIMIT
    assert reads["entries"] <= 10 * entries + 4 * entries * CARDS_LIMIT


async def test_a_page_that_holds_all_says_nothing_of_more(hass: HomeAssistant) -> None:
    with patch(f"{DISCOVERY}.scan", return_value=scanned(ROWS_LIMIT)):
        dialog = await Dialog(hass).begin("scan")
    assert (len(offered(dialog)), dialog.placeholders["more"]) == (ROWS_LIMIT, "")


async def test_those_that_are_ignored_or_wait_already_take_no_room_of_the_others(hass: HomeAssistant) -> None:
    machines = scanned(3 * CARDS_LIMIT)
    for each in machines[:CARDS_LIMIT]:
        MockConfigEntry(domain=DOMAIN, unique_id=each.address, source="ignore").add_to_hass(hass)
    for _ in range(2):
        with patch(f"{DISCOVERY}.scan", return_value=machines):
            dialog = await Dialog(hass).begin("scan")
            await dialog.submit(hosts=[])
            await hass.async_block_till_done()
        waiting = [flow for flow in hass.config_entries.flow.async_progress() if "unique_id" in flow["context"]]
        assert all(flow["context"]["source"] == SOURCE_INTEGRATION_DISCOVERY for flow in waiting)
        shown = {flow["context"]["unique_id"] for flow in waiting}
        assert shown == {each.address for each in machines[CARDS_LIMIT : 2 * CARDS_LIMIT]}
