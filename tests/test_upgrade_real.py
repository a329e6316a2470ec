"""Updates installed from end to end: Home Assistant, a real sshd and sudo, and an apt that takes its time."""

import asyncio
from collections.abc import Callable
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.homelab_monitor.store import async_get_key

from .machine import Machine
from .sshd import processes_with
from .stand_in_apt import StandInApt
from .test_repairs_real import make_entry

PACKAGES = "update.nas_packages"

pytestmark = pytest.mark.usefixtures("socket_enabled")


class Watched:
    """A machine with a pending update that Home Assistant watches as the user mon."""

    def __init__(self, hass: HomeAssistant, machine: Machine) -> None:
        self.hass = hass
        self.apt = StandInApt(machine)
        self.apt.offer_one()
        self.machine = machine
        self.entry = make_entry(machine)

    async def start(self) -> None:
        key = await async_get_key(self.hass)
        (self.machine.folder / "authorized_keys").write_text(f"restrict {key.public_openssh} test\n")
        self.entry.add_to_hass(self.hass)
        self.hass.config_entries.async_update_entry(self.entry, options={**self.entry.options, "install_updates": True})
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.until(lambda: self.hass.states.get(PACKAGES) is not None)

    async def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.05)

    def install(self) -> asyncio.Task[Any]:
        call = self.hass.services.async_call("update", "install", {"entity_id": PACKAGES}, blocking=True)
        return asyncio.create_task(call)

    @property
    def in_progress(self) -> bool:
        state = self.hass.states.get(PACKAGES)
        return state is not None and state.attributes.get("in_progress") is True


@pytest.fixture
def watched(hass: HomeAssistant, hass_storage: dict[str, Any], make_machine: Callable[[], Machine]) -> Watched:
    return Watched(hass, make_machine())


async def test_an_installation_survives_its_connection_and_home_assistant(
    hass: HomeAssistant, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.installation.CHECK_SECONDS", 0.5)
    watched.machine.add_user("mon")
    watched.apt.allow("mon")
    await watched.start()
    waiting = watched.install()
    await asyncio.to_thread(watched.apt.wait_until_started)
    assert watched.in_progress
    assert hass.states.get(PACKAGES).attributes["latest_version"].endswith(" + 1 📦")
    with pytest.raises(HomeAssistantError, match="in progress"):
        await watched.install()
    await hass.config_entries.async_unload(watched.entry.entry_id)
    with pytest.raises(HomeAssistantError, match="no longer waits for it to end"):
        await waiting
    await hass.config_entries.async_setup(watched.entry.entry_id)
    await watched.until(lambda: watched.in_progress)
    watched.apt.let_go("E: dpkg was interrupted")
    await watched.until(lambda: not watched.in_progress)
    event = hass.states.get("event.nas_events")
    assert event.attributes["event_type"] == "update_failed"
    assert event.attributes["reason"] == "upgrade_failed"
    assert "dpkg" not in str(event.attributes), "every user sees it"
    assert [call.split(" input=")[1] for call in watched.apt.calls] == ["0"] * 4, "started once, with nothing to read"
    await watched.until(lambda: not processes_with("homelab_monitor-update"))


async def test_who_may_not_is_refused_at_once(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", password="secret", sudo="")
    watched.apt.allow("root")
    await watched.start()
    with pytest.raises(HomeAssistantError, match=r"does not let the user mon install updates: .*password is required"):
        await watched.install()
    assert not watched.in_progress
    assert watched.apt.calls == []
