"""A host behind a real OpenSSH server, monitored by Home Assistant with the real probe."""

from contextlib import suppress
from unittest.mock import patch

from homeassistant.core import HomeAssistant
import psutil
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.tracking.identity import host_id
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.state import HostState

from .machine import Machine
from .sshd import LOGIN, Sshd, children


class RealHost:
    """The config entry of a machine behind its own sshd."""

    def __init__(self, hass: HomeAssistant, server: Sshd | Machine, username: str = LOGIN, **options: object) -> None:
        self.hass = hass
        self.sshd = server
        self.entry = MockConfigEntry(
            domain=DOMAIN,
            title="here",
            unique_id="here",
            data={
                "host": "127.0.0.1",
                "port": server.port,
                "username": username,
                "platform": "linux",
                "host_id": host_id(None, server.host_keys[0]),
                "host_keys": list(server.host_keys),
            },
            options={"interval": 5, "timeout": 5} | options,
        )

    async def start(self) -> None:
        self.entry.add_to_hass(self.hass)
        with patch("custom_components.homelab_monitor.sessions.async_get_key", return_value=self.sshd.key):
            assert await self.hass.config_entries.async_setup(self.entry.entry_id)
            await self.hass.async_block_till_done(wait_background_tasks=True)

    async def stop(self) -> None:
        await self.hass.config_entries.async_unload(self.entry.entry_id)

    @property
    def coordinator(self) -> HomelabCoordinator:
        return self.entry.runtime_data

    async def poll(self) -> HostState:
        await self.coordinator.async_refresh()
        return self.coordinator.data

    def probes(self) -> list[int]:
        """Return the probe processes that run for us."""
        return [pid for session in children(self.sshd.pid) for pid in _probes_below(session)]


def _probes_below(session: int) -> list[int]:
    """Return the probes of a session of sshd; what ends while it is looked at is none."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(session).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                # Not the shell around it, which some shells stay.
                if process.name().startswith("python") and "zlib.decompress" in " ".join(process.cmdline()):
                    found.append(process.pid)
    return found
