"""Home Assistant's start does not wait for hosts that are off."""

from collections.abc import Iterator
import socket
import time

from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.const import DOMAIN

HOSTS = 50
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"


@pytest.fixture
def silent_port(socket_enabled: None) -> Iterator[int]:
    """Return a port that takes connections and never says a word, as a machine that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(HOSTS)
        yield listener.getsockname()[1]


async def test_the_start_waits_for_none_of_fifty_hosts_that_hang(hass: HomeAssistant, silent_port: int) -> None:
    entries = [
        MockConfigEntry(
            domain=DOMAIN,
            title=f"host{number}",
            unique_id=f"{number:032x}",
            data={
                "host": "127.0.0.1",
                "port": silent_port,
                "username": "mon",
                "platform": "linux",
                "host_id": f"{number:032x}",
                "host_keys": [HOST_KEY],
            },
        )
        for number in range(HOSTS)
    ]
    # The first entry imports the integration, which happens beside the start of others.
    entries[0].add_to_hass(hass)
    assert await hass.config_entries.async_setup(entries[0].entry_id)
    for entry in entries[1:]:
        entry.add_to_hass(hass)
    started = time.monotonic()
    for entry in entries[1:]:
        assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    # Waiting for a single host would take 10 s. The harness runs the loop in debug mode, on a machine that may be busy.
    assert time.monotonic() - started < 5.0
    connectivity = [
        state.state for state in hass.states.async_all("binary_sensor") if "connectivity" in state.entity_id
    ]
    assert connectivity == ["unknown"] * HOSTS, "nothing was heard of them yet"
    for entry in entries:
        assert await hass.config_entries.async_unload(entry.entry_id)
