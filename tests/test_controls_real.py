"""A control from end to end: an action of Home Assistant, a real sshd and sudo, and polls that go on meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import async_get_key

from .machine import Machine
from .sshd import wait_for
from .systemctl import Systemctl

SLOW = "sensor.nas_slow_service"

pytestmark = pytest.mark.usefixtures("socket_enabled")


@asynccontextmanager
async def watched(hass: HomeAssistant, machine: Machine, **options: Any) -> AsyncIterator[MockConfigEntry]:
    """Let Home Assistant watch the machine."""
    key = await async_get_key(hass)
    (machine.folder / "authorized_keys").write_text(f"restrict {key.public_openssh} test\n")
    address = {"host": "127.0.0.1", "port": machine.port, "username": "mon", "platform": "linux"}
    entry = MockConfigEntry(
        domain=DOMAIN,
        title="nas",
        unique_id="a" * 32,
        data=address | {"host_id": "a" * 32, "host_keys": list(machine.host_keys)},
        options={"interval": 5, "timeout": 20, "services": ["slow.service", "web.service"]} | options,
    )
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert entry.runtime_data.data.status == "online", entry.runtime_data.data.error
    yield entry
    await hass.config_entries.async_unload(entry.entry_id)


def state(hass: HomeAssistant) -> str:
    found = hass.states.get(SLOW)
    assert found, hass.states.async_entity_ids()
    return found.state


@pytest.mark.parametrize("each_poll", [False, True], ids=["one connection", "a connection for each poll"])
async def test_a_slow_stop_lets_polls_go_on_and_its_sensor_follows(
    hass: HomeAssistant, make_machine: Callable[[], Machine], each_poll: bool
) -> None:
    machine = make_machine()
    systemctl = Systemctl(machine)
    machine.add_user("mon", sudo="NOPASSWD: ")
    async with watched(hass, machine, control_services=True, connect_each_poll=each_poll) as entry:
        assert state(hass) == "active"
        call = {"entity_id": SLOW, "action": "stop"}
        stopping = hass.async_create_task(hass.services.async_call(DOMAIN, "control_service", call, blocking=True))
        await wait_for(lambda: systemctl.calls)
        assert systemctl.calls == ["root stop -- slow.service"]
        received = []
        for _ in range(5):
            await entry.runtime_data.async_refresh()
            assert entry.runtime_data.data.status == "online"
            received.append(entry.runtime_data.data.snapshot.received)
        assert received == sorted(set(received)), "each poll brought something new"
        assert not stopping.done()
        assert state(hass) == "active"
        systemctl.write("/run/release")
        await asyncio.wait_for(stopping, 10)
        assert state(hass) == "inactive", "nobody had to wait for the next turn of the section"


async def test_what_sudo_does_not_allow_is_said_in_words(
    hass: HomeAssistant, make_machine: Callable[[], Machine]
) -> None:
    machine = make_machine()
    systemctl = Systemctl(machine)
    machine.add_user("mon")
    async with watched(hass, machine, control_services=True) as entry:
        call = {"config_entry_id": entry.entry_id, "service": "web", "action": "stop"}
        with pytest.raises(HomeAssistantError) as raised:
            await hass.services.async_call(DOMAIN, "control_service", call, blocking=True)
    assert raised.value.translation_key == "control_denied"
    assert str(raised.value).startswith("nas does not let the user mon do this: sudo: ")
    assert str(raised.value).endswith("systemctl stop -- web.service")
    assert systemctl.state("web.service") == "active"
