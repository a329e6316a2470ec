"""A repair from end to end: real sshd, real sudo, real groups, and a password that leaves no trace."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
import json
import logging
from typing import Any

from homeassistant.components.trace.const import DATA_TRACE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.homelab_monitor.capability import async_test_host
from custom_components.homelab_monitor.client.checks.update_script import update_script
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import async_get_key

from .machine import CommandLines, Machine
from .stand_in_apt import StandInApt
from .test_repairs import FixDialog

CANARY = "canary-Pa55 'word\"$(id)`id`"

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture(autouse=True)
def _has_booted_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine judged at once, also where the one that runs the tests has just booted."""
    monkeypatch.setattr("custom_components.homelab_monitor.client.probe.snapshot.BOOTING_SECONDS", 0.0)


def make_entry(machine: Machine) -> MockConfigEntry:
    return MockConfigEntry(
        domain=DOMAIN,
        title="nas",
        unique_id="a" * 32,
        data={
            "host": "127.0.0.1",
            "port": machine.port,
            "username": "mon",
            "platform": "linux",
            "host_id": "a" * 32,
            "host_keys": list(machine.host_keys),
        },
        options={"interval": 5, "timeout": 20},
    )


class Watched:
    """A machine that Home Assistant watches."""

    def __init__(self, hass: HomeAssistant, machine: Machine, client: ClientSessionGenerator) -> None:
        self.hass = hass
        self.machine = machine
        self.client = client
        self.entry = make_entry(machine)

    async def start(self) -> None:
        key = await async_get_key(self.hass)
        (self.machine.folder / "authorized_keys").write_text(f"restrict {key.public_openssh} test\n")
        # Both have web addresses, which have to be known before the server starts.
        assert await async_setup_component(self.hass, "repairs", {})
        assert await async_setup_component(self.hass, "diagnostics", {})
        self.entry.add_to_hass(self.hass)
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.hass.async_block_till_done(wait_background_tasks=True)
        state = self.entry.runtime_data.data
        assert state.status == "online", state.error
        assert self.entry.runtime_data.store.memory.last_test, "it is judged on its first connection"

    @property
    def issues(self) -> dict[str, str]:
        found = ir.async_get(self.hass).issues.items()
        return {
            key.partition("_")[2]: each.severity.value
            for (domain, key), each in found
            if domain == DOMAIN and each.active
        }

    async def fix(self, check: str, key: str = "check") -> FixDialog:
        dialog = FixDialog(self.hass, await self.client())
        dialog.key = key
        dialog.issue_id = f"{self.entry.entry_id}_{check}"
        return await dialog.open(dialog.issue_id)


@pytest.fixture
def watched(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    hass_client: ClientSessionGenerator,
    make_machine: Callable[[], Machine],
) -> Watched:
    return Watched(hass, make_machine(), hass_client)


async def trace_everything(hass: HomeAssistant) -> None:
    """Let an automation run, and be traced, at each step of a dialog and each change of an issue."""
    events = ("data_entry_flow_progressed", "repairs_issue_registry_updated")
    automation = {
        "id": "witness",
        "triggers": [{"trigger": "event", "event_type": event} for event in events],
        "actions": [{"variables": {"seen": "{{ trigger.event.data }}"}}],
        "mode": "parallel",
        "trace": {"stored_traces": 1000},
    }
    assert await async_setup_component(hass, "automation", {"automation": automation})


def traces(hass: HomeAssistant) -> str:
    """Return every trace in full."""
    kept = [trace for buckets in hass.data[DATA_TRACE].values() for trace in buckets.all_traces()]
    return json.dumps([trace.as_extended_dict() for trace in kept], default=str)


@asynccontextmanager
async def listening(hass: HomeAssistant, hass_ws_client: WebSocketGenerator) -> AsyncIterator[list[str]]:
    """Collect everything that a websocket that listens to every event is sent."""
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "subscribe_events"})
    await client.send_json_auto_id({"type": "repairs/list_issues"})
    heard: list[str] = []
    yield heard
    await client.send_json_auto_id({"type": "get_states"})
    while True:
        message = await client.receive_json()
        heard.append(json.dumps(message))
        if isinstance(message, dict) and message.get("id") == 3:
            return


async def test_a_password_that_fixes_leaves_no_trace(  # noqa: PLR0913, PLR0917
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    watched: Watched,
    hass_client: ClientSessionGenerator,
    hass_ws_client: WebSocketGenerator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncssh").setLevel(logging.DEBUG)
    watched.machine.add_user("mon", password=CANARY, sudo="", shell="/bin/bash")
    watched.machine.install_docker()
    # The real one is done before anybody could look at the arguments of its parents.
    slow = watched.machine.folder / "sbin" / "usermod"
    slow.write_text('#!/bin/sh\nsleep 0.7\nexec /usr/sbin/usermod "$@"\n')
    slow.chmod(0o755)
    await watched.start()
    assert watched.issues == {"docker": "warning"}
    await trace_everything(hass)
    async with listening(hass, hass_ws_client) as heard:
        dialog = await watched.fix("docker")
        assert dialog.at == "cure"
        await dialog.choose("run")
        assert dialog.at == "password", dialog.result
        await dialog.submit(password=CANARY + "x")
        assert dialog.at == "password", dialog.shown
        assert dialog.result["errors"] == {"base": "wrong_password"}
        assert "mon" not in watched.machine.run("getent", "group", "docker")
        with CommandLines() as lines:
            await dialog.submit(password=CANARY)
        assert dialog.at == "fixed", dialog.result
        assert "27\\.3\\.1" in dialog.shown
        await dialog.submit()
        await hass.async_block_till_done(wait_background_tasks=True)
    assert dialog.at == "create_entry"
    assert watched.issues == {}
    assert "mon" in watched.machine.run("getent", "group", "docker")
    assert lines.samples > 20
    assert lines.holds("sudo\x00-S\x00-k"), "the sampling must have seen sudo at work"
    diagnostics = await get_diagnostics_for_config_entry(hass, hass_client, watched.entry)
    assert diagnostics["last_test"]["rows"]
    places = {
        "process arguments": b"".join(lines.seen).decode(errors="replace"),
        "log": caplog.text,
        "storage": json.dumps(hass_storage, default=repr),
        "states": repr([state.as_dict() for state in hass.states.async_all()]),
        "issues": repr(ir.async_get(hass).issues),
        "traces": traces(hass),
        "diagnostics": json.dumps(diagnostics),
        "websocket": "".join(heard),
        "dialog": "".join(dialog.seen),
        "server log": (watched.machine.folder / "log").read_text(),
        "entry": repr(watched.entry.as_dict()),
    }
    assert [place for place, text in places.items() if not text] == []
    assert "sudo -S -k" in places["log"], "the log was meant to be as talkative as it can be"
    assert "data_entry_flow_progressed" in places["websocket"]
    assert "data_entry_flow_progressed" in places["traces"]
    assert [place for place, text in places.items() if "canary-Pa55" in text] == []


async def test_the_right_to_install_updates_is_given_used_and_taken_back(
    hass: HomeAssistant, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.installation.CHECK_SECONDS", 0.5)
    watched.machine.add_user("mon", password=CANARY, sudo="")
    apt = StandInApt(watched.machine)
    apt.offer_one()
    await watched.start()
    assert watched.issues == {}

    async def want(*, installs: bool) -> None:
        """Change the option; the entry starts again with it."""
        options = {**watched.entry.options, "install_updates": installs}
        hass.config_entries.async_update_entry(watched.entry, options=options)
        await hass.config_entries.async_reload(watched.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)

    async def fix() -> str:
        """Run the remedy; return what was shown before."""
        assert watched.issues == {"updates_rule": "warning"}
        dialog = await watched.fix("updates_rule")
        shown = dialog.shown
        await dialog.choose("run")
        assert dialog.at == "password", dialog.result
        await dialog.submit(password=CANARY)
        assert dialog.at == "fixed", dialog.result
        assert watched.issues == {}
        return shown

    await want(installs=True)
    with pytest.raises(HomeAssistantError, match="does not let the user mon install updates"):
        await hass.services.async_call("update", "install", {"entity_id": "update.nas_packages"}, blocking=True)
    assert update_script("apt") in await fix(), "what is about to be installed is shown in full"
    apt.let_go()
    async with asyncio.timeout(60):
        await hass.services.async_call("update", "install", {"entity_id": "update.nas_packages"}, blocking=True)
    # What an earlier run has left, the lists, what is unmet, and the upgrade.
    assert len(apt.calls) == 4
    await want(installs=False)
    await fix()
    left = watched.machine.run(
        "sh", "-c", "ls -A /usr/local/sbin; ls /etc/sudoers.d; grep -rl homelab_monitor /etc/sudoers*; :"
    )
    assert "homelab_monitor" not in left


async def test_where_sudo_asks_nothing_no_password_is_asked(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", sudo="NOPASSWD: ")
    watched.machine.install_docker()
    await watched.start()
    dialog = await watched.fix("docker")
    await dialog.choose("run")
    assert dialog.at == "fixed", dialog.result
    assert watched.issues == {}


async def test_polling_too_gets_the_new_connection_that_the_fix_needs(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", sudo="NOPASSWD: ")
    watched.machine.install_docker()
    await watched.start()
    before = watched.entry.runtime_data.session.connection
    dialog = await watched.fix("docker")
    await dialog.choose("run")
    after = watched.entry.runtime_data.session.connection
    assert after is not None
    assert after is not before
    assert "docker" in (await after.run("id -Gn", timeout=10)).stdout


async def test_a_user_without_rights_is_told_so_and_a_person_can_do_it(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", password=CANARY)
    watched.machine.install_docker()
    await watched.start()
    dialog = await watched.fix("docker")
    await dialog.choose("run")
    assert dialog.at == "password", dialog.result
    await dialog.submit(password=CANARY)
    assert dialog.at == "not_run"
    assert "not in the sudoers file" in dialog.shown
    watched.machine.run("usermod", "-aG", "docker", "mon")
    await dialog.submit()
    assert dialog.at == "fixed"
    assert watched.issues == {}


async def test_a_talking_shell_is_fixed_by_hand(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", shell="/bin/bash")
    bashrc = watched.machine.folder / "home" / "mon" / ".bashrc"
    bashrc.write_text("echo '<img src=x> `Welcome`'\n")
    await watched.start()
    assert watched.issues == {"shell": "warning"}
    dialog = await watched.fix("shell")
    assert "\\<img src\\=x\\> \\`Welcome\\`" in dialog.shown
    await dialog.choose("show")
    bashrc.write_text("case $- in *i*) ;; *) return;; esac\n" + bashrc.read_text())
    await dialog.submit()
    assert dialog.at == "fixed", dialog.result
    assert watched.issues == {}


async def test_a_changed_host_key_is_never_accepted_silently_and_can_be_accepted(
    hass: HomeAssistant, watched: Watched
) -> None:
    watched.machine.add_user("mon")
    await watched.start()
    old = watched.machine.host_keys
    watched.machine.stop()
    watched.machine.new_host_key()
    watched.machine.start()
    coordinator = watched.entry.runtime_data
    await coordinator.async_reconnect()
    assert coordinator.data.status == "offline"
    assert watched.issues["host_key"] == "error"  # On a machine under load there may be a late section, too.
    report = await async_test_host(hass, watched.entry)
    assert report.row("host_key").reason == "host_key_changed"
    assert watched.entry.data["host_keys"] == list(old)
    dialog = await watched.fix("host_key", "host_key_changed")
    assert dialog.at == "review"
    await dialog.accept()
    assert dialog.at == "fixed", dialog.result
    await dialog.submit()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert watched.entry.data["host_keys"] == list(watched.machine.host_keys)
    assert watched.entry.runtime_data.data.status == "online"
    assert "host_key" not in watched.issues


async def test_a_test_of_a_host_that_is_off_warns_and_its_return_ends_that(
    hass: HomeAssistant, watched: Watched
) -> None:
    watched.machine.add_user("mon")
    await watched.start()
    watched.machine.stop()
    await hass.services.async_call("button", "press", {"entity_id": "button.nas_test_now"}, blocking=True)
    assert watched.issues == {"reachable": "error"}
    await watched.entry.runtime_data.async_refresh()
    watched.machine.start()
    await hass.services.async_call("button", "press", {"entity_id": "button.nas_test_now"}, blocking=True)
    assert watched.issues == {}
    assert watched.entry.runtime_data.data.status == "online"


async def test_the_action_returns_the_rows(hass: HomeAssistant, watched: Watched) -> None:
    watched.machine.add_user("mon", sudo="NOPASSWD: ")
    await watched.start()
    answer = await hass.services.async_call(
        DOMAIN, "test_host", {"config_entry_id": watched.entry.entry_id}, blocking=True, return_response=True
    )
    rows = {each["check"]: each for each in answer["rows"]}
    assert rows["login"]["status"] == "ok"
    assert rows["login"]["text"] == "mon, key accepted"
    assert rows["sudo"]["text"] == "sudo without a password"
    assert answer["seconds"] > 0
    assert json.dumps(answer)
