"""Two machines of one template, with one host key, both of which let us in: one answers in place of the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.capability import async_connect, async_test_host
from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.remedies import remedy_for, run_remedy
from custom_components.homelab_monitor.client.control.control import PowerAction, RunAction
from custom_components.homelab_monitor.client.control.install_updates import start_installation
from custom_components.homelab_monitor.client.errors import AnotherMachine
from custom_components.homelab_monitor.client.probe.programs import BOOTSTRAP
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.controls import async_control_power, async_control_service
from custom_components.homelab_monitor.coordinator import HomelabCoordinator
from custom_components.homelab_monitor.settings import HostAddress
from custom_components.homelab_monitor.state import HostStatus

from .fake_host import Channel
from .test_config_flow import HOST_ID, OTHER_ID, Dialog, Machine, entry_of, lives, make_machine  # noqa: F401
from .test_first_contact import Between

PROBE = BOOTSTRAP.format(interpreter="python3")
ALLOWED = {"power": True, "control_services": True, "install_updates": True}


@dataclass
class Swap:
    """The host and its clone behind one address."""

    hass: HomeAssistant
    host: Machine
    clone: Machine
    between: Between
    entry: MockConfigEntry

    @property
    def coordinator(self) -> HomelabCoordinator:
        return self.entry.runtime_data

    async def start(self) -> None:
        if self.hass.config_entries.async_get_entry(self.entry.entry_id) is None:
            self.entry.add_to_hass(self.hass)
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.settled()
        assert self.coordinator.data.status is HostStatus.ONLINE

    async def settled(self) -> None:
        await self.hass.async_block_till_done(wait_background_tasks=True)

    async def lead_to(self, machine: Machine) -> None:
        """Let new connections lead to one of the two, and end those that there are."""
        self.between.passes = lambda _: machine is self.host
        for each in (self.host, self.clone):
            await each.drop_connections()
        await asyncio.sleep(0.1)

    async def poll(self) -> None:
        self.coordinator._rest_until = 0  # It waits a minute after the first one.
        await self.coordinator.async_refresh()
        await self.settled()

    @property
    def told(self) -> list[object]:
        """Return all that the clone was asked and told, but for which machine it is."""
        return [command for command in self.clone.commands if command != PROBE] + self.clone.requests


@pytest.fixture
async def swap(
    hass: HomeAssistant,
    make_machine: Callable[..., Awaitable[Machine]],  # noqa: F811
) -> AsyncIterator[Swap]:
    """Return a host that is watched through somebody who may lead connections to its clone."""
    host, clone = await make_machine(), await make_machine(hostname="beta", machine_id_hash=OTHER_ID)
    clone._private = host._private
    await clone.restart()
    for machine, load in ((host, 1.0), (clone, 99.0)):
        machine.behaviour = obeys
        machine.sections["load"] |= {"load1": load}
    it = Between(host, clone)
    async with await asyncio.start_server(it.serve, "127.0.0.1", 0) as server:
        entry = entry_of(host, port=server.sockets[0].getsockname()[1])
        entry.add_to_hass(hass)
        hass.config_entries.async_update_entry(entry, options=ALLOWED)
        yield Swap(hass, host, clone, it, entry)
        await hass.config_entries.async_unload(entry.entry_id)
        server.abort_clients()


async def obeys(host: Machine, channel: Channel) -> None:
    """Do what is asked for."""
    command = channel.process.command or ""
    if command.startswith(PROBE[:8]):
        await lives(host, channel)
    elif channel.is_script:
        await channel.script()
        channel.write(b"uid=0 systemd /usr/bin/systemctl\n")
    elif "show" in command:
        channel.write(b"Id=web.service\nLoadState=loaded\n")


def values(swap: Swap) -> tuple[object, ...]:
    sections = swap.coordinator.data.snapshot.sections
    return sections.system.hostname, sections.system.machine_id_hash, sections.load.load1


async def test_a_clone_that_answers_is_another_machine_and_its_values_are_nobodys(swap: Swap) -> None:
    await swap.start()
    before = values(swap)
    assert before == ("cloudy", HOST_ID, 1.0)
    (device,) = dr.async_entries_for_config_entry(dr.async_get(swap.hass), swap.entry.entry_id)[:1]
    await swap.lead_to(swap.clone)
    for status in (HostStatus.OFFLINE, HostStatus.OFFLINE, HostStatus.OFFLINE, HostStatus.SUSPENDED):
        await swap.poll()
        assert (swap.coordinator.data.status, swap.coordinator.data.error.key) == (status, "another_machine")
        assert values(swap) == before
    assert swap.clone.logins
    assert swap.told == []
    assert dr.async_get(swap.hass).async_get(device.id).sw_version == device.sw_version
    issue = ir.async_get(swap.hass).async_get_issue(DOMAIN, f"{swap.entry.entry_id}_system")
    assert issue.translation_placeholders["problem"] == "another machine answers at its address"
    await swap.lead_to(swap.host)
    await swap.poll()
    assert swap.coordinator.data.status is HostStatus.ONLINE
    assert ir.async_get(swap.hass).async_get_issue(DOMAIN, f"{swap.entry.entry_id}_system") is None


async def test_a_connection_to_a_clone_that_stays_open_is_not_held_on_to(swap: Swap) -> None:
    await swap.start()
    await swap.lead_to(swap.clone)
    await swap.poll()
    assert swap.coordinator.data.error.key == "another_machine"
    # The lease has changed hands back, and nobody ends what is open.
    swap.between.passes = lambda _: True
    await swap.poll()
    assert swap.coordinator.data.status is HostStatus.ONLINE


async def shut_down(swap: Swap) -> None:
    await async_control_power(swap.coordinator, PowerAction.SHUT_DOWN)


async def stop_service(swap: Swap) -> None:
    await async_control_service(swap.coordinator, "web.service", RunAction.STOP)


@pytest.mark.parametrize("each_poll", [False, True])
@pytest.mark.parametrize("control", [shut_down, stop_service])
async def test_a_control_is_never_carried_out_by_a_clone(
    swap: Swap, control: Callable[[Swap], Awaitable[None]], each_poll: bool
) -> None:
    swap.hass.config_entries.async_update_entry(swap.entry, options=ALLOWED | {"connect_each_poll": each_poll})
    await swap.start()
    await control(swap)
    assert any("systemctl" in command for command in swap.host.commands), "it works on the host itself"
    await swap.lead_to(swap.clone)
    with pytest.raises(HomeAssistantError) as refused:
        await control(swap)
    assert refused.value.translation_key == "another_machine"
    assert swap.clone.logins
    assert swap.told == []
    assert "machine-id" in str(refused.value)
    await swap.poll()
    assert swap.coordinator.data.status is HostStatus.OFFLINE
    with pytest.raises(HomeAssistantError) as refused:
        await control(swap)
    assert refused.value.translation_key == "another_machine", "it says why, and not only that the host is offline"


async def test_a_spare_connection_is_compared_as_well(swap: Swap) -> None:
    swap.host.channels_per_connection = 1
    await swap.start()
    swap.between.passes = lambda _: False
    with pytest.raises(HomeAssistantError) as refused:
        await shut_down(swap)
    assert refused.value.translation_key == "another_machine"
    assert swap.clone.logins
    assert swap.told == []


async def test_updates_are_installed_on_no_clone(swap: Swap) -> None:
    await swap.start()
    await swap.lead_to(swap.clone)
    async with swap.coordinator.session.aside() as connection:
        with pytest.raises(AnotherMachine):
            await start_installation(connection, "nas", "apt")
    assert swap.told == []


async def test_a_repair_sends_a_clone_no_command_and_no_password(swap: Swap) -> None:
    await swap.start()
    await swap.lead_to(swap.clone)
    connection = await async_connect(swap.hass, swap.entry, HostAddress.from_data(swap.entry.data))
    remedy = remedy_for("set_clock", Family.DEBIAN, "monitor", {})
    with pytest.raises(AnotherMachine) as refused:
        await run_remedy(connection, remedy, "s3cret")
    await connection.close()
    assert not refused.value.may_have_run
    assert swap.told == []


async def test_a_test_asks_a_clone_nothing_and_says_who_answers(swap: Swap) -> None:
    await swap.start()
    await swap.lead_to(swap.clone)
    report = await async_test_host(swap.hass, swap.entry)
    rows = {row.check: (str(row.status), row.reason) for row in report.rows}
    assert rows["system"] == ("red", "another_machine")
    assert report.hindrance == report.row("system")
    assert {check for check, (status, _) in rows.items() if status != "unknown"} == {
        "reachable",
        "host_key",
        "login",
        "system",
    }
    assert swap.told == []


async def test_an_older_entry_notes_at_its_first_good_poll_which_machine_it_is(swap: Swap) -> None:
    swap.hass.config_entries.async_update_entry(swap.entry, data={**swap.entry.data, "machine": ""})
    await swap.start()
    assert swap.entry.data["machine"] == HOST_ID
    await swap.lead_to(swap.clone)
    await swap.poll()
    assert swap.coordinator.data.error.key == "another_machine"
    assert swap.told == []


@pytest.mark.parametrize("noted", ["", HOST_ID])
async def test_a_machine_without_an_id_is_never_another_one(swap: Swap, noted: str) -> None:
    swap.hass.config_entries.async_update_entry(swap.entry, data={**swap.entry.data, "machine": noted})
    del swap.host.sections["system"]["machine_id_hash"]
    await swap.start()
    await swap.lead_to(swap.host)
    await shut_down(swap)
    await swap.poll()
    assert swap.coordinator.data.status is HostStatus.ONLINE
    assert swap.entry.data["machine"] == noted


async def test_a_machine_that_got_a_new_id_stays_the_host_by_reconfigure(swap: Swap) -> None:
    await swap.start()
    swap.host.sections["system"]["machine_id_hash"] = OTHER_ID
    await swap.lead_to(swap.host)
    await swap.poll()
    assert swap.coordinator.data.error.key == "another_machine"
    dialog = await Dialog(swap.hass).reconfigure(swap.entry)
    target = HostAddress.from_data(swap.entry.data).target
    await dialog.submit(address=f"{target.username}@{target.host}:{target.port}")
    if "checklist" in dialog.result.get("step_id", ""):
        await dialog.submit()
    assert dialog.result["step_id"] == "other_machine"
    await dialog.choose("keep_history")
    await swap.settled()
    assert dialog.ended == "reinstalled"
    assert (swap.entry.data["host_id"], swap.entry.data["machine"]) == (HOST_ID, OTHER_ID)
    await swap.poll()
    assert swap.coordinator.data.status is HostStatus.ONLINE
    assert values(swap) == ("cloudy", OTHER_ID, 1.0)
