"""The config flow against an SSH server inside the test: every way in, every way it fails."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
import inspect
from ipaddress import ip_address
import json
from pathlib import Path
import re
from socket import AF_INET, SOCK_STREAM
import string
import sys
import time
from types import ModuleType
from unittest.mock import AsyncMock, patch

from homeassistant.config_entries import (
    SOURCE_DHCP,
    SOURCE_IGNORE,
    SOURCE_INTEGRATION_DISCOVERY,
    SOURCE_USER,
    SOURCE_ZEROCONF,
    ConfigEntryDisabler,
    ConfigEntryState,
    ConfigFlowResult,
    FlowType,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
import pytest_socket
import voluptuous as vol

from custom_components.homelab_monitor.client import errors
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.limits import CARDS_LIMIT
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.tracking.identity import clone_id, host_id
from custom_components.homelab_monitor.client.transport import keys
from custom_components.homelab_monitor.client.transport.install import install_key
from custom_components.homelab_monitor.client.transport.keys import KeyPair, authorized_line, fingerprint
from custom_components.homelab_monitor.client.transport.scan import Candidate
from custom_components.homelab_monitor.client.transport.ssh import Connection, OfferedKey
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.flow import connection
from custom_components.homelab_monitor.flow.discovery import DiscoveredHost
from custom_components.homelab_monitor.flow.onboarding import OnboardingFlow
from custom_components.homelab_monitor.settings import HostAddress
from custom_components.homelab_monitor.store import HostStore, async_get_key

from .fake_host import Behaviour, Channel, FakeHost, garbage, half_a_reply, hang, honest, unpack_bomb

pytestmark = pytest.mark.usefixtures("loopback_is_near")

HOST_ID = "0123456789abcdef0123456789abcdef"
OTHER_ID = "fedcba9876543210fedcba9876543210"
PASSWORD = "correct horse"
SYSTEM = {
    "hostname": "cloudy",
    "kernel": "6.8.0-60-generic",
    "architecture": "x86_64",
    "os_id": "ubuntu",
    "os_name": "Ubuntu 24.04.3 LTS",
    "init": "systemd",
    "timezone_offset_seconds": 0,
    "python": "3.12.3",
    "machine_id_hash": HOST_ID,
}
FACTS = (
    "\x1euname\nLinux\n6.8.0\nx86_64\n\x1eos_release\nID=ubuntu\nID_LIKE=debian\nPRETTY_NAME=Ubuntu\n"
    "\x1eid\n1000\nmonitor\n\x1esystemd\nsystemd 255\n\x1esudo\nsudo: a password is required\n\n1\nuid \n"
    "\x1edoas\n\x1edocker\n"
    "\x1epodman\n\x1esmart\n\x1eend\n"
)
DOCKER_DENIED = FACTS.replace("\x1edocker\n", "\x1edocker\ninstalled\nsocket denied\nerror permission denied\n")
CONTACT = "custom_components.homelab_monitor.flow.connection"
FLOW = "custom_components.homelab_monitor.config_flow"
DISCOVERY = "custom_components.homelab_monitor.flow.discovery"
TEXTS = json.loads(
    (Path(__file__).parents[1] / "custom_components/homelab_monitor/translations/en.json").read_text(encoding="utf-8")
)["config"]


class Machine(FakeHost):
    """A host with a shell: it tells facts, and runs what installs a key in a home of its own."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home
        self.behaviour = lives
        self.facts = FACTS
        self.epoch = time.time()
        self.sections |= {"system": dict(SYSTEM), "uptime": {"uptime_seconds": 86400.0}}
        self.sections["security"] = {"firewall": {"state": "ok", "reason": "active", "backend": "ufw"}}

    @property
    def authorized(self) -> str:
        path = self.home / ".ssh" / "authorized_keys"
        return path.read_text() if path.exists() else ""

    async def restart(self) -> None:
        await self.stop()
        await self.start()


async def lives(host: Machine, channel: Channel) -> None:
    """Be an honest probe, and a shell."""
    if not channel.is_script:
        await honest(host, channel)
        return
    script = await channel.script()
    if b"authorized_keys" not in script:
        channel.write(host.facts.encode())
        return
    shell = await asyncio.create_subprocess_exec(
        "sh", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={"HOME": str(host.home)}
    )
    channel.write((await shell.communicate(script))[0])
    host.accepts_key = host.key.public_openssh in host.authorized


@pytest.fixture
async def make_machine(
    hass: HomeAssistant, hass_storage: dict[str, object], socket_enabled: None, tmp_path: Path
) -> AsyncIterator[object]:
    """Return a function that starts machines which let this Home Assistant in."""
    started: list[Machine] = []

    async def make(**system: object) -> Machine:
        machine = Machine(tmp_path / str(len(started)))
        machine.home.mkdir()
        machine.key = await async_get_key(hass)
        machine.sections["system"] |= system
        await machine.start()
        started.append(machine)
        return machine

    yield make
    for machine in started:
        await machine.stop()


@pytest.fixture
async def host(make_machine) -> Machine:
    return await make_machine()


@pytest.fixture(autouse=True)
def setup_entry() -> Iterator[AsyncMock]:
    """Keep an entry from polling: these tests end where it begins."""
    with (
        patch("custom_components.homelab_monitor.async_setup_entry", return_value=True) as mock,
        patch("custom_components.homelab_monitor.async_unload_entry", return_value=True),
    ):
        yield mock


class Dialog:
    """A person in front of the flow."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.hass = hass
        self.result: ConfigFlowResult = {}

    async def begin(self, step: str | None = None) -> Dialog:
        await self.show(self.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER}))
        if step == "scan":
            await self.scan()
        elif step:
            await self.choose(step)
        return self

    async def reauth(self, entry: MockConfigEntry) -> Dialog:
        await self.show(entry.start_reauth_flow(self.hass))
        return self

    async def reconfigure(self, entry: MockConfigEntry) -> Dialog:
        await self.show(entry.start_reconfigure_flow(self.hass))
        return self

    async def open(self, flow_id: str) -> Dialog:
        """Open a card, or what follows."""
        await self.show(self.hass.config_entries.flow.async_configure(flow_id))
        return self

    async def choose(self, option: str) -> ConfigFlowResult:
        assert self.result["type"] is FlowResultType.MENU
        assert option in self.result["menu_options"]
        return await self.show(self.hass.config_entries.flow.async_configure(self.flow_id, {"next_step_id": option}))

    async def scan(self) -> ConfigFlowResult:
        """Scan what is suggested."""
        await self.choose("scan")
        return await self.submit(networks=self.suggested("networks"))

    def suggested(self, field: str) -> object:
        """Return what a field of the form holds at first."""
        return next(key.description["suggested_value"] for key in self.result["data_schema"].schema if key == field)

    async def submit(self, **user_input: object) -> ConfigFlowResult:
        """Fill the form in; what it has to have and suggests goes back with it, as the frontend sends it."""
        assert self.result["type"] is FlowResultType.FORM
        given = self.shown | user_input
        return await self.show(self.hass.config_entries.flow.async_configure(self.flow_id, given))

    @property
    def shown(self) -> dict[str, object]:
        """Return the required fields of the form that suggest a value; the frontend sends none that is read-only."""
        fields = self.result["data_schema"].schema.items()
        return {
            str(name): name.description["suggested_value"]
            for name, selector in fields
            if isinstance(name, vol.Required)
            and "suggested_value" in (name.description or {})
            and not getattr(selector, "config", {}).get("read_only")
        }

    async def show(self, step) -> ConfigFlowResult:
        """Take a step, and look on while there is progress."""
        self.result = await step
        while self.result["type"] is FlowResultType.SHOW_PROGRESS:
            TEXTS["progress"][self.result["progress_action"]].format(**self.placeholders)
            await asyncio.sleep(0.01)
            self.result = await self.hass.config_entries.flow.async_configure(self.flow_id)
        self.check_texts()
        return self.result

    @property
    def flow_id(self) -> str:
        return self.result["flow_id"]

    @property
    def placeholders(self) -> dict[str, str]:
        return dict(self.result.get("description_placeholders") or {})

    @property
    def at(self) -> tuple[str, str | None]:
        """Return the step that is shown and its error."""
        return self.result["step_id"], (self.result.get("errors") or {}).get("base")

    @property
    def ended(self) -> str:
        """Return why the dialog ended without an entry."""
        assert self.result["type"] is FlowResultType.ABORT
        return self.result["reason"]

    @property
    def created(self) -> bool:
        return self.result["type"] is FlowResultType.CREATE_ENTRY

    @property
    def checklist(self) -> str:
        """Return the table of the test as it is seen."""
        return self.placeholders["checklist"].replace("\N{NO-BREAK SPACE}", " ")

    def check_texts(self) -> None:
        """Fail unless everything on the screen has a text whose placeholders are all filled."""
        words = dict.fromkeys(self.placeholders, "…")
        if self.result["type"] is FlowResultType.ABORT and not self.result.get("translation_domain"):
            TEXTS["abort"][self.result["reason"]].format(**words)
        if self.result["type"] not in (FlowResultType.FORM, FlowResultType.MENU):
            return
        step, error = self.at
        TEXTS["step"][step]["description"].format(**words)
        for option in self.result.get("menu_options") or ():
            assert TEXTS["step"][step]["menu_options"][option]
        for name in {"name", "address", "username", "known_address"} & self.placeholders.keys():
            # Descriptions are Markdown, in which every sign that could mean something has its backslash.
            assert not re.search(r"[!-/:-@\[-`{-~]", re.sub(r"\\[!-/:-@\[-`{-~]", "", self.placeholders[name])), name
        if error:
            # Errors are plain text, in which a backslash would be seen.
            assert "\\" not in TEXTS["error"][error].format(**self.placeholders)
        for field in self.result["data_schema"].schema if self.result["type"] is FlowResultType.FORM else ():
            assert TEXTS["step"][step]["data"][str(field)]
            assert TEXTS["step"][step]["data_description"][str(field)]


@pytest.fixture
async def dialog(hass: HomeAssistant) -> Dialog:
    return await Dialog(hass).begin("address")


def typed(host: FakeHost) -> str:
    """Return what a person types to reach the host."""
    return str(host.target)


def entry_of(machine: FakeHost, /, *, host_id: str = HOST_ID, **changes: object) -> MockConfigEntry:
    """Return an entry for the host."""
    data = {
        "host": "127.0.0.1",
        "port": machine.port,
        "username": "monitor",
        "platform": "linux",
        "host_id": host_id,
        "host_keys": list(machine.host_keys),
        "host_keys_proven": True,
        "home_host": "",
        "home_port": 0,
        "machine": host_id,
        "key_sources": [],
    }
    return MockConfigEntry(domain=DOMAIN, title="cloudy", unique_id=host_id, data=data | changes)


def cards(hass: HomeAssistant) -> dict[str, str]:
    """Return flow id → name of what is shown under Discovered."""
    return {
        flow["flow_id"]: flow["context"]["title_placeholders"]["name"]
        for flow in hass.config_entries.flow.async_progress_by_handler(DOMAIN)
        if flow["context"]["source"] != SOURCE_USER
    }


# ---------------------------------------------------------------- the straight way


async def test_a_host_is_added(hass: HomeAssistant, host: Machine, setup_entry: AsyncMock) -> None:
    dialog = await Dialog(hass).begin()
    key = await async_get_key(hass)
    assert f"restrict {key.public_openssh} homelab_monitor@" in dialog.placeholders["key_line"]

    await dialog.choose("address")
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)
    assert f"`{fingerprint(host.host_keys[0])}`" in dialog.placeholders["fingerprints"]
    assert "ssh_host_ed25519_key.pub" in dialog.placeholders["fingerprint_command"]
    assert host.logins == 0

    await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert dialog.result["last_step"]
    assert "| ✅ Login | monitor, key accepted |" in dialog.checklist
    assert not re.search("⚠️|❌|⏸️", dialog.checklist), dialog.checklist

    result = await dialog.submit()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "cloudy"
    assert result["result"].unique_id == HOST_ID
    assert result["data"] == entry_of(host).data
    await hass.async_block_till_done()
    assert setup_entry.call_count == 1
    assert host.logins == 1
    assert not host.connections


async def test_the_test_is_handed_over_to_the_entry(hass: HomeAssistant, host: Machine, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    await dialog.submit()
    result = await dialog.submit()
    assert [request["sections"] for request in host.requests] == [list(SECTIONS)]
    memory = await HostStore(hass, result["result"].entry_id, HOST_ID).async_load()
    assert memory.age_seconds < 60
    assert memory.snapshot.sections.load.load1 == 0.5
    assert memory.snapshot.sections.system.hostname == "cloudy"
    assert {row["check"]: row["status"] for row in memory.last_test["rows"]}["login"] == "ok"


async def test_amber_is_no_hindrance_and_shows_its_fix(host: Machine, dialog: Dialog) -> None:
    host.facts = DOCKER_DENIED
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert "| ⚠️ Docker | monitor has no access to the Docker socket" in dialog.checklist
    assert dialog.checklist.endswith("**Docker**\n`sudo usermod -aG docker monitor`")
    await dialog.submit()
    assert dialog.created


async def test_a_host_that_does_not_say_who_it_is_is_known_by_its_key(host: Machine, dialog: Dialog) -> None:
    del host.sections["system"]
    await dialog.submit(address=typed(host))
    await dialog.submit()
    result = await dialog.submit()
    assert result["title"] == "127.0.0.1"
    assert result["result"].unique_id == host_id(None, host.host_keys[0])


async def test_the_commands_for_every_system_lead_back_to_the_menu(hass: HomeAssistant) -> None:
    dialog = await Dialog(hass).begin("commands")
    assert dialog.at == ("commands", None)
    assert ".ssh/authorized_keys" in dialog.placeholders["linux"]
    assert "/etc/dropbear/authorized_keys" in dialog.placeholders["openwrt"]
    await dialog.submit()
    assert dialog.at == ("user", None)


WINDOWS = OfferedKey("ssh-ed25519 AAAA", "SSH-2.0-OpenSSH_for_Windows_9.5")
FOREIGN_WORDS = re.compile(r"windows|macos|powershell|icacls|\$env:|ProgramData", re.IGNORECASE)


@pytest.fixture
def all_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a probe for every system."""
    monkeypatch.setattr(keys, "WATCHED_SYSTEMS", keys.WATCHED_SYSTEMS | {"windows", "macos"})


async def test_nothing_is_shown_for_systems_that_cannot_be_monitored_yet(hass: HomeAssistant) -> None:
    dialog = await Dialog(hass).begin("commands")
    assert FOREIGN_WORDS.findall(json.dumps([TEXTS, dialog.placeholders])) == []
    await dialog.submit()
    assert FOREIGN_WORDS.findall(json.dumps(dialog.placeholders)) == []


async def test_a_machine_that_cannot_be_monitored_yet_is_named_before_a_way_in_is_offered(
    hass: HomeAssistant, hass_storage
) -> None:
    dialog = await Dialog(hass).begin("address")
    refused = errors.KeyRefused("192.0.2.6")
    refused.server_version = WINDOWS.server_version
    with (
        patch(f"{CONTACT}.read_host_key", return_value=WINDOWS),
        patch(f"{CONTACT}.HostContact.async_log_in", side_effect=refused),
    ):
        await dialog.submit(address="me@192.0.2.6")
        # Before the key is confirmed and proven anybody may say what he likes.
        assert dialog.at == ("trust", None)
        assert FOREIGN_WORDS.findall(json.dumps(dialog.placeholders)) == []
        await dialog.submit()
    assert dialog.at == ("trust", "not_supported")
    assert (dialog.placeholders["host"], dialog.placeholders["system"]) == ("192.0.2.6", "Windows")


async def test_the_commands_for_other_systems_are_only_hidden(
    hass: HomeAssistant, hass_storage, all_watched: None
) -> None:
    dialog = await Dialog(hass).begin("commands")
    others = dialog.placeholders["other_systems"]
    assert "macOS" in others
    assert "New-Item" in others
    assert "icacls" in others
    await dialog.submit()
    await dialog.choose("address")
    with patch(f"{CONTACT}.read_host_key", return_value=WINDOWS):
        await dialog.submit(address="me@192.0.2.6")
        assert dialog.at == ("trust", None)
        assert "$env:ProgramData" in dialog.placeholders["fingerprint_command"]
        refused = errors.KeyRefused("nas")
        refused.server_version = WINDOWS.server_version
        with patch(f"{CONTACT}.HostContact.async_log_in", side_effect=refused):
            await dialog.submit()
            assert dialog.at == ("authorize", None)
            assert dialog.placeholders["refusal"] == "", "nobody has added a key yet"
            await dialog.choose("added")
    assert dialog.at == ("refused", None)
    assert "icacls" in dialog.placeholders["install_command"]
    assert "Get-WinEvent" in dialog.placeholders["refusal"]


@pytest.mark.parametrize("noise", ["", "Welcome!\n"])
async def test_what_can_be_fixed_later_is_reported_where_there_is_such_a_thing(
    host: Machine, dialog: Dialog, noise: str
) -> None:
    host.facts = noise + host.facts
    await dialog.submit(address=str(host.target))
    await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert ("⚠️" in dialog.checklist) == ("⚠️" in dialog.placeholders["later"]) == bool(noise)


async def test_what_is_never_a_repair_is_not_said_to_be_fixed_later(host: Machine, dialog: Dialog) -> None:
    late = CheckResult.of("probe", Verdict(CheckStatus.AMBER, "section_timed_out", {"sections": "updates"}))
    test = connection.run_checks

    async def finds_it(*arguments: object, **options: object) -> tuple[Report, Snapshot | None]:
        report, snapshot = await test(*arguments, **options)
        return replace(report, rows=(*(row for row in report.rows if row.check != "probe"), late)), snapshot

    await dialog.submit(address=typed(host))
    with patch(f"{CONTACT}.run_checks", finds_it):
        await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert "⚠️ Probe" in dialog.checklist
    assert dialog.placeholders["later"] == ""


async def test_what_a_machine_says_of_itself_is_only_text(host: Machine, dialog: Dialog) -> None:
    host.sections["system"] |= {"hostname": "<img src=x>[a](b)`", "os_name": "`| **bold** <svg onload=x>\nnext"}
    host.facts = FACTS.replace("\x1edocker\n", "\x1edocker\ninstalled\nerror ```<b>\n")
    await dialog.submit(address=typed(host))
    await dialog.submit()
    table = dialog.checklist
    assert dialog.placeholders["name"] == r"127\.0\.0\.1", "what is no name is no title"
    assert r"✅ System | \`\| \*\*bold\*\* \<svg onload\=x\> next · systemd · x86\_64 |" in table
    assert all(line.startswith("| ") for line in table.partition("\n\n")[0].splitlines())


def test_a_clone_has_an_id_of_its_own() -> None:
    assert len({HOST_ID, clone_id(HOST_ID, "ssh-ed25519 AAAA"), clone_id(HOST_ID, "ssh-ed25519 BBBB")}) == 3


# ---------------------------------------------------------------- the address


@pytest.mark.parametrize(
    ("failure", "key"),
    [
        (errors.Unreachable("nas", "no route to host"), "unreachable"),
        (errors.NameNotFound("nas"), "name_not_found"),
        (errors.TimedOut("nas", "no answer while connecting"), "timed_out"),
        (errors.ConnectionLost("nas"), "connection_lost"),
        (errors.NotSSH("nas"), "not_ssh"),
        (RuntimeError("boom"), "unknown"),
    ],
)
async def test_what_keeps_us_from_the_address_is_named_and_the_form_keeps_what_was_typed(
    host: Machine, dialog: Dialog, failure: Exception, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with patch(f"{CONTACT}.read_host_key", side_effect=failure):
        result = await dialog.submit(address="pi@nas")
    assert dialog.at == ("address", key)
    assert [field.description for field in result["data_schema"].schema] == [{"suggested_value": "pi@nas"}]
    assert ("Unexpected error" in caplog.text) is (key == "unknown")
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)


async def test_a_closed_port_is_named(host: Machine, dialog: Dialog) -> None:
    await host.stop()
    await dialog.submit(address=typed(host))
    assert dialog.at == ("address", "connection_refused")
    await host.start()
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)


async def test_something_else_on_the_port_is_named(socket_enabled: None, dialog: Dialog) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        await dialog.submit(address=f"pi@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert dialog.at == ("address", "not_ssh")


@pytest.mark.parametrize("text", ["nas:x", "pi@", "pi@nas:0", "$(reboot)@nas", "-oProxyCommand=x@nas", "pi@na s", ""])
async def test_what_is_no_address_contacts_nobody(dialog: Dialog, text: str) -> None:
    with patch(f"{CONTACT}.read_host_key") as scan:
        await dialog.submit(address=text)
    assert dialog.at == ("address", "invalid_target")
    assert not scan.called


async def test_an_address_as_it_stands_in_a_terminal_is_read_and_one_without_a_user_says_so(
    dialog: Dialog, host: Machine
) -> None:
    await dialog.submit(address="127.0.0.1")
    assert dialog.at == ("address", "username_missing")
    await dialog.submit(address=f"ssh -p {host.port} pi@127.0.0.1")
    assert dialog.at == ("trust", None)


# ---------------------------------------------------------------- trust


async def test_a_host_key_that_changes_before_the_login_is_confirmed_anew(host: Machine, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    old = fingerprint(host.host_keys[0])
    host.new_host_key()
    await host.restart()
    await dialog.submit()
    assert dialog.at == ("trust", "host_key_changed")
    assert host.logins == 0
    assert f"`{fingerprint(host.host_keys[0])}`" in dialog.placeholders["fingerprints"]
    assert old not in dialog.placeholders["fingerprints"]
    assert dialog.placeholders["expected"] == old
    await dialog.submit()
    result = await dialog.submit()
    assert result["data"]["host_keys"] == list(host.host_keys)


async def test_a_host_that_went_away_before_the_login_can_come_back(host: Machine, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    await host.stop()
    await dialog.submit()
    assert dialog.at == ("trust", "connection_refused")
    await host.start()
    await dialog.submit()
    assert dialog.at == ("checklist", None)


# ---------------------------------------------------------------- authorize


@pytest.fixture
async def stranger(host: Machine, dialog: Dialog) -> Machine:
    """A machine that does not know our key yet, up to the question how to change that."""
    host.accepts_key = False
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.at == ("authorize", None)
    assert "authorized_keys" in dialog.placeholders["install_command"]
    return host


async def test_a_refused_key_is_shown_again_until_it_is_added(stranger: Machine, dialog: Dialog) -> None:
    await dialog.choose("added")
    assert dialog.at == ("refused", None)
    await dialog.choose("commands")
    await dialog.submit()
    assert dialog.at == ("refused", None)
    stranger.accepts_key = True
    await dialog.choose("added")
    assert dialog.at == ("checklist", None)


async def test_a_host_that_is_away_when_the_key_was_added_is_asked_again(stranger: Machine, dialog: Dialog) -> None:
    await stranger.stop()
    await dialog.choose("added")
    assert dialog.at == ("added", "connection_refused")
    stranger.accepts_key = True
    await stranger.start()
    await dialog.submit()
    assert dialog.at == ("checklist", None)


@pytest.mark.parametrize("asks_interactively", [False, True])
async def test_the_key_is_installed_with_a_password(
    stranger: Machine, dialog: Dialog, asks_interactively: bool
) -> None:
    stranger.password, stranger.asks_interactively = PASSWORD, asks_interactively
    await dialog.choose("install")
    assert dialog.at == ("install", None)
    await dialog.submit(password="wrong")
    assert dialog.at == ("install", "password_refused")
    assert not any(field.description for field in dialog.result["data_schema"].schema)
    await dialog.submit()
    assert dialog.at == ("authorize", None), "no password leads back: the server may take none"
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.at == ("checklist", None)
    assert stranger.authorized.count(stranger.key.public_openssh) == 1
    assert stranger.authorized.startswith("restrict ssh-ed25519 ")
    assert (stranger.home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (stranger.home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("where", ["one dialog", "two dialogs"])
async def test_a_password_that_is_sent_from_two_windows_adds_the_key_once(
    hass: HomeAssistant, stranger: Machine, dialog: Dialog, where: str
) -> None:
    stranger.password = PASSWORD
    other = dialog
    if where == "two dialogs":
        other = await Dialog(hass).begin("address")
        await other.submit(address=typed(stranger))
        await other.submit()
        await other.choose("install")
    await dialog.choose("install")
    running, most = 0, 0

    async def take_a_while(connection: Connection, host: str, line: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.2)
        await install_key(connection, host, line)
        running -= 1

    send = hass.config_entries.flow.async_configure
    with patch(f"{CONTACT}.install_key", take_a_while):
        results = await asyncio.gather(*(send(each.flow_id, {"password": PASSWORD}) for each in (dialog, other)))
    assert most == 1
    assert stranger.authorized.count(stranger.key.public_openssh) == 1
    assert {result["type"] for result in results} == {FlowResultType.SHOW_PROGRESS}
    for each in {dialog, other}:
        await each.show(send(each.flow_id))
        assert each.at == ("checklist", None)


async def test_a_password_that_waits_for_its_turn_is_not_sent_when_its_dialog_is_closed(
    hass: HomeAssistant, stranger: Machine, dialog: Dialog
) -> None:
    stranger.password = PASSWORD
    await dialog.choose("install")
    begun, tried = asyncio.Event(), list[str]()

    async def never_ends(_contact: object, password: str, _line: str) -> None:
        tried.append(password)
        begun.set()
        await asyncio.Event().wait()

    with patch(f"{CONTACT}.HostContact.async_install_key", never_ends):
        send = hass.config_entries.flow.async_configure
        sent = [asyncio.create_task(send(dialog.flow_id, {"password": word})) for word in ("first", "second")]
        await begun.wait()
        hass.config_entries.flow.async_abort(dialog.flow_id)
        await asyncio.gather(*sent, return_exceptions=True)
    assert tried == ["first"]


async def test_a_key_that_cannot_be_installed_is_said_in_the_hosts_own_words(stranger: Machine, dialog: Dialog) -> None:
    stranger.password = PASSWORD

    async def read_only(host: FakeHost, channel: Channel) -> None:
        await channel.script()
        channel.process.stderr.write(b"mkdir: cannot create directory '.ssh': Read-only file system\n")

    stranger.behaviour = read_only
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.at == ("install", "key_not_installed")
    assert "Read-only file system" in dialog.placeholders["detail"]


async def test_a_key_that_is_installed_and_still_refused_is_named(stranger: Machine, dialog: Dialog) -> None:
    stranger.password = PASSWORD

    async def elsewhere(host: FakeHost, channel: Channel) -> None:
        await lives(host, channel)
        host.accepts_key = False

    stranger.behaviour = elsewhere
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.at == ("install", "key_refused")


async def test_the_password_is_in_nothing_that_is_shown_or_logged(
    hass: HomeAssistant, stranger: Machine, dialog: Dialog, caplog: pytest.LogCaptureFixture, hass_storage
) -> None:
    caplog.set_level("DEBUG")
    stranger.password = canary = "c4n4ry-7f3a"
    await dialog.choose("install")
    await dialog.submit(password=canary)
    shown = repr(dialog.result)
    await dialog.submit()
    await hass.async_block_till_done()
    assert canary not in shown + repr(dialog.result) + caplog.text + json.dumps(hass_storage, default=repr)
    assert canary not in stranger.authorized + repr(stranger.commands)


# ---------------------------------------------------------------- the test


def exiting(status: int, stderr: bytes) -> Behaviour:
    """Return the behaviour of a command that fails."""

    async def fail(host: Machine, channel: Channel) -> None:
        if channel.is_script:
            await lives(host, channel)
            return
        channel.process.stderr.write(stderr)
        channel.process.exit(status)

    return fail


@pytest.mark.parametrize(
    ("behaviour", "row"),
    [
        (exiting(127, b"sh: 1: python3: not found\n"), "❌ Python | No python3 was found"),
        (exiting(1, b"ModuleNotFoundError: No module named 'json'\n"), "❌ Python | The module json is missing"),
        (half_a_reply, "❌ Probe | The probe ended"),
        (garbage, "❌ Probe: The probe ended"),
        (unpack_bomb, "❌ Probe | The probe ended"),
        (hang, "❌ Probe | The probe ended"),
    ],
)
async def test_red_keeps_you_here_until_it_is_fixed(
    host: Machine, dialog: Dialog, behaviour: Behaviour, row: str
) -> None:
    host.behaviour = behaviour
    await dialog.submit(address=typed(host))
    with patch(f"{CONTACT}.DEFAULT_TIMEOUT", 0.5 if behaviour is hang else 10):
        for _ in range(2):
            await dialog.submit()
            assert dialog.at == ("checklist_failed", "red_rows")
            assert row in dialog.checklist
    assert ("apt-get install" in dialog.checklist) is ("Python" in row)
    host.behaviour = lives
    logins = host.logins
    await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert host.logins == logins + 1
    await dialog.submit()
    assert dialog.created


async def test_a_system_without_a_probe_is_named(host: Machine, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    host.facts = FACTS.replace("Linux", "Plan9").replace("PRETTY_NAME=Ubuntu\n", "")
    with patch(f"{CONTACT}.ProbeSession.poll", side_effect=errors.UnsupportedSystem("nas", "Plan 9")):
        await dialog.submit()
    assert dialog.at == ("checklist_failed", "red_rows")
    assert "❌ System | Plan 9 cannot be monitored yet" in dialog.checklist


async def test_a_key_that_is_taken_away_before_the_next_test_leads_back_to_it(host: Machine, dialog: Dialog) -> None:
    host.behaviour = half_a_reply
    await dialog.submit(address=typed(host))
    await dialog.submit()
    host.accepts_key = False
    await dialog.submit()
    assert dialog.at == ("authorize", None)


async def test_an_unexpected_error_is_logged_and_the_dialog_goes_on(
    host: Machine, dialog: Dialog, caplog: pytest.LogCaptureFixture
) -> None:
    await dialog.submit(address=typed(host))
    with patch(f"{CONTACT}.run_checks", side_effect=RuntimeError("boom")):
        await dialog.submit()
    assert dialog.at == ("checklist_failed", "unknown")
    assert "Unexpected error" in caplog.text
    assert "boom" in caplog.text
    await dialog.submit()
    assert dialog.at == ("checklist", None)


async def test_a_bad_rule_for_updates_is_shown_and_hinders_nothing(host: Machine, dialog: Dialog) -> None:
    bad = Verdict(CheckStatus.RED, "updates_rule_old", {}, "remove_updates_rule")
    test = connection.run_checks

    async def finds_it(*arguments: object, **options: object) -> tuple[Report, Snapshot | None]:
        report, snapshot = await test(*arguments, **options)
        rows = [row for row in report.rows if row.check != "updates_rule"]
        return replace(report, rows=(*rows, CheckResult.of("updates_rule", bad))), snapshot

    await dialog.submit(address=typed(host))
    with patch(f"{CONTACT}.run_checks", finds_it):
        await dialog.submit()
    assert dialog.at == ("checklist", None)
    assert "❌ Right to install updates" in dialog.checklist
    assert "rm -f /usr/local/sbin/homelab_monitor-update" in dialog.checklist
    await dialog.submit()
    assert dialog.created


# ---------------------------------------------------------------- known machines


async def test_the_same_address_and_machine_is_not_added_twice(
    hass: HomeAssistant, host: Machine, dialog: Dialog
) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    await dialog.submit(address=f"other@127.0.0.1:{host.port}")
    assert dialog.ended == "already_configured"
    assert dialog.placeholders == {"name": "cloudy"}
    assert entry.data == before


async def test_another_machine_at_a_known_address_is_not_taken_for_the_old_one(
    hass: HomeAssistant, host: Machine, dialog: Dialog
) -> None:
    entry_of(host, host_id=OTHER_ID, host_keys=["ssh-ed25519 AAAA"]).add_to_hass(hass)
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", "host_key_changed")


@pytest.fixture
async def twin(hass: HomeAssistant, host: Machine, dialog: Dialog) -> MockConfigEntry:
    """An entry with the machine-id of the host, up to the question what that means."""
    entry = entry_of(host, host="192.0.2.7")
    entry.add_to_hass(hass)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    assert dialog.at == ("collision", None)
    assert dialog.placeholders["known_address"].startswith("192\\.0\\.2\\.7")
    return entry


async def test_a_question_can_be_asked_again(twin: MockConfigEntry, dialog: Dialog) -> None:
    await dialog.open(dialog.flow_id)
    assert dialog.at == ("collision", None)


async def test_a_machine_that_moved_keeps_its_entry(
    hass: HomeAssistant, host: Machine, twin: MockConfigEntry, dialog: Dialog
) -> None:
    assert dialog.result["menu_options"] == ["moved", "clone"]
    await dialog.choose("moved")
    assert dialog.ended == "moved"
    assert twin.data == entry_of(host).data
    await hass.async_block_till_done()
    assert twin.state is ConfigEntryState.LOADED
    assert not host.connections


async def test_a_clone_becomes_a_machine_of_its_own(
    hass: HomeAssistant, host: Machine, twin: MockConfigEntry, dialog: Dialog
) -> None:
    before = dict(twin.data)
    result = await dialog.choose("clone")
    identity = clone_id(HOST_ID, host.host_keys[0])
    assert dialog.created
    assert (result["result"].unique_id, result["data"]["host_id"]) == (identity, identity)
    assert result["data"]["machine"] == HOST_ID, "what it says of itself"
    assert twin.data == before


async def test_a_clone_of_a_clone_with_the_same_host_key_is_known(
    hass: HomeAssistant, host: Machine, twin: MockConfigEntry, dialog: Dialog
) -> None:
    entry_of(host, host_id=clone_id(HOST_ID, host.host_keys[0]), host="192.0.2.8").add_to_hass(hass)
    await dialog.choose("clone")
    assert dialog.ended == "already_configured"


async def test_a_reinstalled_machine_keeps_its_entry_with_its_new_keys(
    hass: HomeAssistant, host: Machine, dialog: Dialog
) -> None:
    entry = entry_of(host, host_keys=["ssh-ed25519 AAAA"])
    entry.add_to_hass(hass)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    assert dialog.result["menu_options"] == ["reinstalled", "clone"]
    await dialog.choose("reinstalled")
    assert dialog.ended == "reinstalled"
    assert entry.data == entry_of(host).data


async def test_an_entry_that_is_deleted_meanwhile_is_not_missed(
    hass: HomeAssistant, host: Machine, twin: MockConfigEntry, dialog: Dialog
) -> None:
    await hass.config_entries.async_remove(twin.entry_id)
    await dialog.choose("moved")
    assert dialog.created


# ---------------------------------------------------------------- scan


NEIGHBOURS = [
    Candidate(address="192.0.2.1", banner="SSH-2.0-dropbear", platform_hint="openwrt", mac="02:00:00:00:00:01"),
    Candidate(address="192.0.2.5", hostname="nas.lan", banner="SSH-2.0-OpenSSH_9.2p1 Debian-2", platform_hint="linux"),
    Candidate(address="192.0.2.6", hostname="desk", banner="SSH-2.0-OpenSSH_for_Windows_9.5", platform_hint="windows"),
    Candidate(address="192.0.2.7", banner="SSH-2.0-OpenSSH_9.6"),
]


@pytest.fixture
async def picking(hass: HomeAssistant, hass_storage) -> AsyncIterator[Dialog]:
    """A person in front of the machines that a scan has found; one is watched already."""
    data = {"host": "192.0.2.7", "username": "pi", "host_id": OTHER_ID, "host_keys": []}
    MockConfigEntry(domain=DOMAIN, title="tower", unique_id=OTHER_ID, data=data).add_to_hass(hass)
    with (
        patch(f"{DISCOVERY}.scan", return_value=NEIGHBOURS),
        patch(f"{CONTACT}.read_host_key", return_value=OfferedKey("ssh-ed25519 AAAA", "")),
    ):
        dialog = await Dialog(hass).begin("scan")
        assert dialog.at == ("pick", None)
        yield dialog
        await hass.async_block_till_done()


def offered(dialog: Dialog) -> list[str]:
    """Return the lines to pick from."""
    schema = {str(key): value for key, value in dialog.result["data_schema"].schema.items()}
    return [option["label"] for option in schema["hosts"].config["options"]]


async def test_a_scan_lists_who_answers_and_marks_who_is_known(picking: Dialog) -> None:
    assert offered(picking) == [
        "192.0.2.1 · dropbear",
        "nas.lan · 192.0.2.5 · OpenSSH 9.2p1 Debian",
        "desk · 192.0.2.6 · OpenSSH for Windows 9.5",
        "✅ tower · 192.0.2.7 · OpenSSH 9.6",
    ]


@pytest.mark.parametrize("watched", ["192.0.2.7", "192.0.2.99"])
async def test_the_sign_of_the_monitored_is_explained_where_there_is_one(
    hass: HomeAssistant, hass_storage, watched: str
) -> None:
    data = {"host": watched, "username": "pi", "host_id": OTHER_ID, "host_keys": []}
    MockConfigEntry(domain=DOMAIN, title="tower", unique_id=OTHER_ID, data=data).add_to_hass(hass)
    with patch(f"{DISCOVERY}.scan", return_value=NEIGHBOURS):
        dialog = await Dialog(hass).begin("scan")
    is_marked = any("✅" in line for line in offered(dialog))
    assert ("✅" in dialog.placeholders["watched_note"]) == is_marked == (watched == "192.0.2.7")


@pytest.mark.parametrize(("watched", "called"), [("192.0.2.7", "192.0.2.7"), ("nas.lan", "nas"), ("nas", "nas.lan")])
async def test_no_machine_is_kept_out_by_the_name_it_is_called(hass: HomeAssistant, watched: str, called: str) -> None:
    """Names come from requests for an address and from reverse DNS: anybody in the network can send them."""
    data = {"host": watched, "username": "pi", "host_id": OTHER_ID, "host_keys": []}
    MockConfigEntry(domain=DOMAIN, title="tower", unique_id=OTHER_ID, data=data).add_to_hass(hass)
    new = Candidate(address="192.0.2.5", hostname=called, banner="SSH-2.0-OpenSSH_9.6")
    with (
        patch(f"{DISCOVERY}.scan", return_value=[new]),
        patch(f"{CONTACT}.read_host_key", return_value=OfferedKey("ssh-ed25519 AAAA", "")),
    ):
        dialog = await Dialog(hass).begin("scan")
        assert offered(dialog) == ["192.0.2.5 · OpenSSH 9.6"], "nor may it be taken for the one that has the name"
        await dialog.submit(hosts=["192.0.2.5"], username="pi")
    assert dialog.at == ("trust", None)


@asynccontextmanager
async def scanned(hass: HomeAssistant, *addresses: str) -> AsyncIterator[Dialog]:
    """Give a person in front of the machines that a scan has found."""
    found = [Candidate(address=each, hostname="x", banner="SSH-2.0-OpenSSH_9.6") for each in addresses]
    with patch(f"{DISCOVERY}.scan", return_value=found):
        yield await Dialog(hass).begin("scan")


async def test_an_answer_for_the_name_of_a_monitored_machine_hides_no_other(hass: HomeAssistant, hass_storage) -> None:
    data = {"host": "nas.local", "username": "pi", "host_id": OTHER_ID, "host_keys": []}
    MockConfigEntry(domain=DOMAIN, title="nas", unique_id=OTHER_ID, data=data).add_to_hass(hass)
    lie = [(AF_INET, SOCK_STREAM, 6, "", (f"192.0.2.{number}", 0)) for number in range(1, 255)]
    with (
        patch.object(hass.loop, "getaddrinfo", AsyncMock(return_value=lie)),
        patch(f"{CONTACT}.read_host_key", return_value=OfferedKey("ssh-ed25519 AAAA", "")),
    ):
        async with scanned(hass, "192.0.2.3", "192.0.2.4") as dialog:
            assert offered(dialog) == ["192.0.2.3 · OpenSSH 9.6", "192.0.2.4 · OpenSSH 9.6"], (
                "one has the name of the other"
            )
            await dialog.submit(hosts=["192.0.2.3"], username="pi")
    assert dialog.at == ("trust", None)


async def test_a_marked_machine_can_be_picked_and_its_key_shows_that_it_is_another_one(
    hass: HomeAssistant, picking: Dialog
) -> None:
    await picking.submit(hosts=["192.0.2.7"], username="root")
    assert picking.at == ("trust", None)
    await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == ["192.0.2.1", "desk", "nas.lan"]


async def test_machines_for_which_one_answers_with_its_own_mac_are_all_offered(hass: HomeAssistant) -> None:
    """So does a repeater, proxy ARP, or somebody who would rather not have them found."""
    found = [
        Candidate(address=f"192.0.2.{number}", banner="SSH-2.0-OpenSSH_9.6", mac="02:00:00:00:00:66")
        for number in range(1, 6)
    ]
    with patch(f"{DISCOVERY}.scan", return_value=found):
        dialog = await Dialog(hass).begin("scan")
        await dialog.submit(hosts=[])
        await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == [each.address for each in found]


@pytest.mark.parametrize("name", ["02:00:00:00:00:09", "02-00-00-00-00-09", "020000000009", "192.0.2.9", "2001:db8::9"])
async def test_what_is_announced_as_the_address_of_a_machine_is_no_name_of_a_card(
    hass: HomeAssistant, name: str
) -> None:
    """Whoever ignored it would never be shown the machine that has the address."""
    info = announced(address="192.0.2.50")
    info.hostname = f"{name}."
    card = await discover(hass, SOURCE_ZEROCONF, info)
    assert list(cards(hass).values()) == ["192.0.2.50"]
    assert not card.placeholders["found"]
    flow = hass.config_entries.flow.async_get(card.flow_id)
    assert flow["context"]["unique_id"] == "announced 192.0.2.50"


async def test_the_picked_follow_one_after_the_other_and_the_others_become_cards(
    hass: HomeAssistant, picking: Dialog
) -> None:
    await picking.submit(hosts=["192.0.2.1", "192.0.2.5", "192.0.2.7"], username="root")
    assert picking.at == ("trust", None)
    assert picking.placeholders["address"] == r"root\@192\.0\.2\.1"
    await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == ["192.0.2.7", "desk", "nas.lan"]
    following = await Dialog(hass).open(next(flow for flow, name in cards(hass).items() if name == "nas.lan"))
    assert following.at == ("address", None)
    assert following.placeholders["found"] == "**nas\\.lan**\n\n"
    assert [str(field.description["suggested_value"]) for field in following.result["data_schema"].schema] == [
        "root@192.0.2.5"
    ]


async def test_the_command_shown_fits_what_the_scan_has_seen(hass: HomeAssistant, picking: Dialog) -> None:
    await picking.submit(hosts=["192.0.2.1"], username="root")
    assert picking.placeholders["fingerprint_command"].startswith("`dropbearkey ")
    assert not picking.placeholders["found"], "an address is no name"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("SSH-2.0-dropbear_2022.83", "/etc/dropbear"),
        ("SSH-2.0-OpenSSH_9.9", "~/.ssh"),
    ],
)
async def test_the_command_that_lets_us_in_fits_the_server_that_has_proven_its_key(
    host: Machine, dialog: Dialog, version: str, words: str
) -> None:
    refused = errors.KeyRefused("nas")
    refused.server_version = version
    await dialog.submit(address=typed(host).replace("monitor@", "root@"))
    with patch(f"{CONTACT}.HostContact.async_log_in", side_effect=refused):
        await dialog.submit()
    assert dialog.at == ("authorize", None)
    assert words in dialog.placeholders["install_command"]


async def test_picking_nobody_leaves_cards(hass: HomeAssistant, picking: Dialog) -> None:
    await picking.submit(hosts=[])
    assert picking.ended == "cards_only"
    await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == ["192.0.2.1", "desk", "nas.lan"]


class Dashboard:
    """What a browser shows under Discovered while it follows the flows, as Home Assistant's own one does.

    Before a card is shown its texts are asked for, and it is put beside those that were shown before that.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self.shown: list[str] = []
        hass.config_entries.flow.async_subscribe_flow(self.changed)

    def changed(self, kind: str, flow_id: str) -> None:
        if kind == "removed":
            self.shown = [each for each in self.shown if each != flow_id]
        else:
            self._hass.async_create_background_task(self.add(flow_id, list(self.shown)), "browser", eager_start=True)

    async def add(self, flow_id: str, before: list[str]) -> None:
        await asyncio.sleep(0.01)
        self.shown = [*before, flow_id]


@pytest.mark.usefixtures("slow_browser")
@pytest.mark.parametrize("picked", [[], ["192.0.2.1", "192.0.2.5", "192.0.2.6"]], ids=["none picked", "all picked"])
async def test_a_browser_that_is_open_shows_all_cards(hass: HomeAssistant, picking: Dialog, picked: list[str]) -> None:
    dashboard = Dashboard(hass)
    with patch(f"{DISCOVERY}.CARD_SECONDS", 0.05):
        await picking.submit(hosts=picked, username="pi")
        await asyncio.sleep(0.3)
    assert len(cards(hass)) >= 2
    assert sorted(dashboard.shown) == sorted(cards(hass))


@pytest.mark.parametrize("username", [{}, {"username": "$(reboot)"}])
async def test_a_user_name_is_needed(picking: Dialog, username: dict[str, str]) -> None:
    await picking.submit(hosts=["192.0.2.5"], **username)
    assert picking.at == ("pick", "invalid_username")
    assert next(key.description for key in picking.result["data_schema"].schema) == {"suggested_value": ["192.0.2.5"]}
    await picking.submit(hosts=["192.0.2.5"], username="pi")
    assert picking.at == ("trust", None)


async def test_a_second_scan_makes_no_second_cards_and_ignored_ones_stay_away(
    hass: HomeAssistant, picking: Dialog
) -> None:
    await picking.submit(hosts=[])
    await hass.async_block_till_done()
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_IGNORE}, data={"unique_id": "192.0.2.6", "title": "desk"}
    )
    again = await Dialog(hass).begin("scan")
    await again.submit(hosts=[])
    await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == ["192.0.2.1", "nas.lan"]


async def test_a_card_gives_way_to_what_is_picked_even_when_it_was_ignored(
    hass: HomeAssistant, picking: Dialog
) -> None:
    await picking.submit(hosts=[])
    await hass.async_block_till_done()
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_IGNORE}, data={"unique_id": "192.0.2.6", "title": "desk"}
    )
    old = set(cards(hass))
    again = await Dialog(hass).begin("scan")
    await again.submit(hosts=["192.0.2.1", "192.0.2.5", "192.0.2.6"], username="root")
    await hass.async_block_till_done()
    assert sorted(cards(hass).values()) == ["192.0.2.1", "desk", "nas.lan"]
    assert len(old & set(cards(hass))) == 1  # the first one is being added right here


async def test_a_scan_that_finds_nobody_offers_the_other_ways(hass: HomeAssistant) -> None:
    with patch(f"{DISCOVERY}.scan", return_value=[]):
        dialog = await Dialog(hass).begin("scan")
        assert dialog.at == ("nothing_found", None)
        await dialog.scan()
        assert dialog.at == ("nothing_found", None)
        await dialog.choose("address")
        assert dialog.at == ("address", None)


async def test_a_scan_that_fails_is_logged(hass: HomeAssistant, caplog: pytest.LogCaptureFixture) -> None:
    with patch(f"{DISCOVERY}.scan", side_effect=RuntimeError("boom")):
        dialog = await Dialog(hass).begin("scan")
    assert dialog.at == ("address", "unknown")
    assert "boom" in caplog.text


async def test_a_scan_asks_only_enabled_networks_and_knows_names_from_dhcp(hass: HomeAssistant) -> None:
    asked = {}

    async def scan(networks, **how):
        asked.update(how, networks=networks)
        for share in (0.001, 0.002, 0.5, 0.501, 1.0):
            how["progress"](share)
        return []

    told = []
    helpers = ModuleType("homeassistant.components.dhcp.helpers")
    helpers.async_discovered_service_info = lambda _hass: [
        DhcpServiceInfo(ip="10.10.10.7", hostname="printer", macaddress="020000000007"),
        DhcpServiceInfo(ip="10.10.10.8", hostname="", macaddress="020000000008"),
    ]
    hass.config.components.add("dhcp")
    hass.bus.async_listen(
        "data_entry_flow_progress_update", callback(lambda event: told.append(event.data["progress"]))
    )
    with (
        patch(f"{DISCOVERY}.scan", scan),
        patch.dict(sys.modules, {"homeassistant.components.dhcp.helpers": helpers}),
    ):
        await Dialog(hass).begin("scan")
    assert [str(network) for network in asked["networks"]] == ["10.10.10.0/24"]
    assert asked["interfaces"] == {"eth0"}
    assert asked["names"] == {"10.10.10.7": "printer"}
    assert told == [0.001, 0.5, 1.0]


@asynccontextmanager
async def in_front_of_networks(hass: HomeAssistant) -> AsyncIterator[tuple[Dialog, list[list[str]]]]:
    """Give a person who is about to scan, and what is scanned then; nobody is."""
    asked: list[list[str]] = []

    async def scan(networks, **_how):
        asked.append(list(map(str, networks)))
        return []

    with patch(f"{DISCOVERY}.scan", scan):
        dialog = await Dialog(hass).begin()
        await dialog.choose("scan")
        yield dialog, asked


async def test_before_a_scan_starts_it_is_said_which_networks_and_how_many_addresses(hass: HomeAssistant) -> None:
    async with in_front_of_networks(hass) as (dialog, asked):
        assert dialog.at == ("scan", None)
        assert dialog.placeholders["networks"] == "- `10.10.10.0/24`: 254"
        assert dialog.placeholders["addresses"] == "254"
        assert dialog.suggested("networks") == "10.10.10.0/24"
        assert asked == [], "only a click starts it"
        await dialog.submit(networks="10.10.10.0/24")
    assert asked == [["10.10.10.0/24"]]
    assert dialog.at == ("nothing_found", None)


async def test_other_networks_are_shown_with_their_number_before_they_are_scanned(hass: HomeAssistant) -> None:
    async with in_front_of_networks(hass) as (dialog, asked):
        await dialog.submit(networks="192.168.7.9/22 10.0.0.1, 192.168.4.0/25")
        assert (dialog.at, asked) == (("scan", None), [])
        assert dialog.placeholders["networks"] == "- `192.168.4.0/22`: 1,022\n- `10.0.0.1/32`: 1"
        assert dialog.placeholders["addresses"] == "1,023"
        await dialog.submit(networks=dialog.suggested("networks"))
    assert asked == [["192.168.4.0/22", "10.0.0.1/32"]]


@pytest.mark.parametrize(
    ("typed", "error", "words"),
    [
        ("", "no_networks", {}),
        ("nas.lan", "invalid_network", {"network": "nas.lan"}),
        ("10.0.0.0/33", "invalid_network", {"network": "10.0.0.0/33"}),
        ("fd00::/64", "invalid_network", {"network": "fd00::/64"}),
        ("10.0.0.0/24, 8.8.8.0/24", "public_network", {"network": "8.8.8.0/24"}),
        ("0.0.0.0/0", "public_network", {"network": "0.0.0.0/0"}),
        ("224.0.0.0/28", "public_network", {"network": "224.0.0.0/28"}),
        ("10.0.0.0/8", "too_many_addresses", {"count": "16,777,214", "limit": "4,096"}),
        ("10.0.0.0/21 10.1.0.0/21 10.2.0.0/28", "too_many_addresses", {"count": "4,106", "limit": "4,096"}),
    ],
)
async def test_what_cannot_be_scanned_is_refused_with_the_reason_and_can_be_corrected(
    hass: HomeAssistant, typed: str, error: str, words: dict[str, str]
) -> None:
    async with in_front_of_networks(hass) as (dialog, asked):
        await dialog.submit(networks=typed)
        assert dialog.result["step_id"] == "scan"
        assert dialog.result["errors"] == {"networks": error}
        assert words.items() <= dialog.placeholders.items()
        assert TEXTS["error"][error].format(**dialog.placeholders)
        assert dialog.suggested("networks") == typed
        await dialog.submit(networks="10.10.10.0/24")
    assert asked == [["10.10.10.0/24"]]


# ---------------------------------------------------------------- paste, and one after the other


async def test_pasted_machines_are_added_one_after_the_other(hass: HomeAssistant, make_machine) -> None:
    machines = [await make_machine(hostname=f"host{n}", machine_id_hash=f"{n:032x}") for n in range(4)]
    lines = [typed(machine) for machine in machines]
    dialog = await Dialog(hass).begin("paste")
    await dialog.submit(
        addresses=f"{lines[0]} # the first\n\n{lines[1]}\n{lines[1]}\n# {lines[3]}\n{lines[2]}\n{lines[3]}"
    )
    dismissed = next(flow for flow, name in cards(hass).items() if name.endswith(f":{machines[1].port}"))
    hass.config_entries.flow.async_abort(dismissed)

    added, said = [], list[str]()
    for machine in (machines[0], machines[2], machines[3]):
        if dialog.at[0] == "address":
            said.append(dialog.placeholders["queue_note"].strip())
            await dialog.submit(address=typed(machine))
        assert dialog.at == ("trust", None)
        await dialog.submit()
        result = await dialog.submit()
        assert dialog.created
        added.append(result["title"])
        if "next_flow" in result:
            kind, flow_id = result["next_flow"]
            assert kind is FlowType.CONFIG_FLOW
            await dialog.open(flow_id)
    assert added == ["host0", "host2", "host3"]
    assert said == [
        "✅ host0 was added. This is the next one. Remaining after it: 1.",
        "✅ host2 was added. This is the last one.",
    ]
    assert not cards(hass)


async def test_a_queue_goes_on_when_one_of_it_is_known(hass: HomeAssistant, make_machine) -> None:
    machines = [await make_machine(hostname=f"host{n}", machine_id_hash=f"{n:032x}") for n in range(2)]
    entry_of(machines[0]).add_to_hass(hass)
    dialog = await Dialog(hass).begin("paste")
    await dialog.submit(addresses="\n".join(map(typed, machines)))
    assert dialog.ended == "already_configured"
    await dialog.open(dialog.result["next_flow"][1])
    assert dialog.at == ("address", None)
    assert dialog.placeholders["queue_note"] == "This is the last one.\n\n", "nothing was added"


async def test_pasted_lines_without_a_user_get_the_given_one(hass: HomeAssistant, host: Machine) -> None:
    dialog = await Dialog(hass).begin("paste")
    await dialog.submit(addresses=f"127.0.0.1:{host.port}", username="monitor")
    assert dialog.at == ("trust", None)


@pytest.mark.parametrize(
    ("text", "named"), [("pi@nas\n$(reboot)@x\n", "$(reboot)@x"), ("nas:x", "nas:x"), (" \n# x", "")]
)
async def test_a_pasted_line_that_is_no_address_is_named_and_nobody_contacted(
    hass: HomeAssistant, text: str, named: str
) -> None:
    dialog = await Dialog(hass).begin("paste")
    with patch(f"{CONTACT}.read_host_key") as scan:
        await dialog.submit(addresses=text)
    assert dialog.at == ("paste", "invalid_target")
    assert dialog.placeholders["host"].startswith(named)
    assert not scan.called
    assert not cards(hass)


# ---------------------------------------------------------------- discovery


def announced(name: str = "cloudy", address: str = "192.0.2.9", port: int | None = 22) -> ZeroconfServiceInfo:
    """Return what a machine announces by mDNS."""
    return ZeroconfServiceInfo(
        ip_address=ip_address(address),
        ip_addresses=[ip_address(address), ip_address("fe80::1")],
        port=port,
        hostname=f"{name}.local.",
        type="_ssh._tcp.local.",
        name=f"{name}._ssh._tcp.local.",
        properties={},
    )


async def discover(hass: HomeAssistant, source: str, data: object) -> Dialog:
    """Let a machine be discovered."""
    dialog = Dialog(hass)
    await dialog.show(hass.config_entries.flow.async_init(DOMAIN, context={"source": source}, data=data))
    return dialog


async def test_an_announced_machine_becomes_a_card_without_being_contacted(hass: HomeAssistant) -> None:
    with patch(f"{CONTACT}.read_host_key") as scan:
        dialog = await discover(hass, SOURCE_ZEROCONF, announced(port=2222))
    assert not scan.called
    assert dialog.at == ("address", None)
    assert list(cards(hass).values()) == ["cloudy"]
    assert [field.description for field in dialog.result["data_schema"].schema] == [
        {"suggested_value": "192.0.2.9:2222"}
    ]


@pytest.mark.parametrize(
    ("name", "shown"), [("\u202egnp.<b>\x1b[1m\n# x", "192.0.2.9"), ("", "192.0.2.9"), ("\u200b", "192.0.2.9")]
)
async def test_what_a_machine_announces_that_is_no_name_is_not_shown(
    hass: HomeAssistant, name: str, shown: str
) -> None:
    info = announced(name)
    info.hostname = info.hostname if name else "."
    await discover(hass, SOURCE_ZEROCONF, info)
    assert list(cards(hass).values()) == [shown]


async def test_a_card_leads_to_an_entry_and_the_others_of_that_machine_go(hass: HomeAssistant, host: Machine) -> None:
    card = await discover(hass, SOURCE_ZEROCONF, announced(address="127.0.0.1", port=host.port))
    await card.submit(address=typed(host))
    await card.submit()
    await card.submit()
    assert card.created
    assert card.result["result"].unique_id == HOST_ID


async def test_adding_a_machine_by_hand_takes_its_card_away(hass: HomeAssistant, host: Machine, dialog: Dialog) -> None:
    await discover(hass, SOURCE_ZEROCONF, announced(address="127.0.0.1", port=host.port))
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    assert dialog.created
    assert not cards(hass)


@pytest.mark.parametrize("source", [SOURCE_ZEROCONF, SOURCE_INTEGRATION_DISCOVERY])
async def test_adding_a_machine_by_its_name_takes_the_card_of_its_address_away(
    hass: HomeAssistant, host: Machine, dialog: Dialog, source: str
) -> None:
    port = host.port
    found = DiscoveredHost(host="127.0.0.1", unique_id="02:00:00:00:00:09", name="cloudy.lan", port=port)
    info = announced("other", address="127.0.0.1", port=port)
    await discover(hass, source, info if source == SOURCE_ZEROCONF else found)
    await dialog.submit(address=f"monitor@localhost:{port}")
    await dialog.submit()
    assert len(cards(hass)) == 1
    await dialog.submit()
    assert dialog.created
    assert not cards(hass)


@pytest.mark.parametrize("host_name", ["192.0.2.9", "cloudy.local", "cloudy", "cloudy.lan", "CLOUDY.local"])
async def test_a_known_machine_is_not_discovered(hass: HomeAssistant, host: Machine, host_name: str) -> None:
    entry_of(host, host=host_name).add_to_hass(hass)
    card = await discover(hass, SOURCE_ZEROCONF, announced())
    assert card.ended == "already_configured"


async def test_a_machine_gets_one_card_whoever_finds_it(hass: HomeAssistant) -> None:
    await discover(hass, SOURCE_ZEROCONF, announced())
    found = DiscoveredHost(host="192.0.2.9", unique_id="02:00:00:00:00:09", name="cloudy.lan")
    assert (await discover(hass, SOURCE_INTEGRATION_DISCOVERY, found)).at == ("address", None)
    assert list(cards(hass).values()) == ["cloudy.lan"], (
        "what a person looked for takes the place of what came by itself"
    )
    for again in (found, replace(found, host="192.0.2.10")):
        assert (await discover(hass, SOURCE_INTEGRATION_DISCOVERY, again)).ended == "already_in_progress"
    assert (await discover(hass, SOURCE_ZEROCONF, announced())).ended == "already_in_progress"
    assert len(cards(hass)) == 1


@pytest.mark.parametrize("claimed", [{"name": "02:00:00:00:00:09"}, {"address": "192.0.2.9"}], ids=["id", "address"])
async def test_no_announcement_hinders_what_a_person_scans_for(hass: HomeAssistant, claimed: dict[str, str]) -> None:
    info = announced(**claimed)
    info.hostname = info.hostname.removesuffix(".local.")
    await discover(hass, SOURCE_ZEROCONF, info)
    found = DiscoveredHost(host="192.0.2.9", unique_id="02:00:00:00:00:09", name="cloudy.lan")
    assert (await discover(hass, SOURCE_INTEGRATION_DISCOVERY, found)).at == ("address", None)


async def test_an_announcement_counts_for_a_few_addresses(hass: HomeAssistant) -> None:
    info = announced("many")
    info.ip_addresses = [ip_address(f"192.0.2.{number}") for number in range(1, 251)]
    await discover(hass, SOURCE_ZEROCONF, info)
    # The ninth is the one that its card leads to.
    for number in range(10, 20):
        other = announced(f"m{number}", f"192.0.2.{number}")
        other.ip_addresses = [other.ip_address]
        assert (await discover(hass, SOURCE_ZEROCONF, other)).at == ("address", None)


async def test_cards_have_an_end(hass: HomeAssistant, caplog: pytest.LogCaptureFixture) -> None:
    def machine(number: int) -> ZeroconfServiceInfo:
        info = announced(f"m{number}", f"192.0.2.{number}")
        info.ip_addresses = [info.ip_address]
        return info

    for number in range(CARDS_LIMIT):
        card = await discover(hass, SOURCE_ZEROCONF, machine(number))
        assert card.at == ("address", None)
    assert "waiting to be added" not in caplog.text
    for number in range(CARDS_LIMIT, 3 * CARDS_LIMIT):
        card = await discover(hass, SOURCE_ZEROCONF, machine(number))
        assert card.ended == "too_many_cards"
    found = DiscoveredHost(host="198.51.100.1", unique_id="198.51.100.1", name="scanned")
    assert (await discover(hass, SOURCE_INTEGRATION_DISCOVERY, found)).at == ("address", None), "a person has scanned"
    assert len(cards(hass)) == CARDS_LIMIT + 1
    said = [record for record in caplog.records if "waiting to be added" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO"]
    picked = replace(found, queue="a dialog")
    assert (await discover(hass, SOURCE_INTEGRATION_DISCOVERY, picked)).at == ("address", None), "a person wants it"
    for flow_id in list(cards(hass))[:2]:
        hass.config_entries.flow.async_abort(flow_id)
    card = await discover(hass, SOURCE_ZEROCONF, machine(200))
    assert card.at == ("address", None), "there is room again"


async def test_an_ignored_machine_stays_ignored(hass: HomeAssistant) -> None:
    MockConfigEntry(domain=DOMAIN, unique_id="cloudy.local", source=SOURCE_IGNORE).add_to_hass(hass)
    card = await discover(hass, SOURCE_ZEROCONF, announced())
    assert card.ended == "already_configured"


# ---------------------------------------------------------------- an address that nobody typed


HERE, NOBODY = "127.0.0.1", "127.0.0.9"


async def test_a_card_that_moves_a_host_leaves_the_address_that_a_person_gave(
    hass: HomeAssistant, host: Machine
) -> None:
    entry = entry_of(host, host="192.0.2.7", port=22)
    entry.add_to_hass(hass)
    card = await discover(hass, SOURCE_ZEROCONF, announced("other", HERE, host.port))
    await card.submit(address=typed(host))
    await card.submit()
    await card.submit()
    await card.choose("moved")
    assert card.ended == "moved"
    assert entry.data == entry_of(host, home_host="192.0.2.7", home_port=22).data
    address = HostAddress.from_data(entry.data)
    assert address.at(address.given).as_data() == entry_of(host, host="192.0.2.7", port=22).data


@pytest.mark.parametrize("is_home", [True, False], ids=["there again", "silent"])
async def test_reconfigure_keeps_the_address_that_a_person_gave_as_long_as_nobody_changes_it(
    hass: HomeAssistant, host: Machine, is_home: bool
) -> None:
    pytest_socket.socket_allow_hosts([HERE, NOBODY])
    given, announced = (HERE, NOBODY) if is_home else (NOBODY, HERE)
    entry = entry_of(host, host=announced, home_host=given)
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    (field,) = dialog.result["data_schema"].schema
    assert field.description == {"suggested_value": f"monitor@{given}:{host.port}"}, "not what somebody announced"
    await dialog.submit(address=f"anna@{given}:{host.port}")
    assert dialog.at == ("checklist", None)
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    changed = {"host": HERE} if is_home else {"host": HERE, "home_host": NOBODY}
    assert entry.data == entry_of(host, username="anna", **changed).data


@pytest.mark.parametrize("is_stranger", [False, True], ids=["silent", "another key"])
async def test_reconfigure_goes_on_about_the_address_that_a_person_gave_where_the_host_is_nowhere(
    hass: HomeAssistant, host: Machine, is_stranger: bool
) -> None:
    pytest_socket.socket_allow_hosts([HERE, NOBODY])
    given, announced = (HERE, NOBODY) if is_stranger else (NOBODY, HERE)
    entry = entry_of(host, host=announced, home_host=given)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    if is_stranger:
        host.new_host_key()
        await host.restart()
    else:
        await host.stop()
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=f"monitor@{given}:{host.port}")
    assert dialog.at == (("trust", "host_key_changed") if is_stranger else ("reconfigure", "connection_refused"))
    assert given in dialog.placeholders["address"].replace("\\", "")
    assert dict(entry.data) == before


async def test_reconfigure_with_another_address_makes_it_the_only_one(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host, home_host="192.0.2.7")
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data == entry_of(host).data


# ---------------------------------------------------------------- a known machine with a new address


MAC = "02:00:00:00:00:09"


@pytest.fixture
def moved(hass: HomeAssistant, host: Machine) -> MockConfigEntry:
    """An entry whose machine is at 127.0.0.1 now; nobody answers at the old address."""
    entry = entry_of(host, host="192.0.2.7")
    entry.add_to_hass(hass)
    dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, HOST_ID)},
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
    )
    return entry


async def lease(hass: HomeAssistant, ip: str = "127.0.0.1", mac: str = MAC) -> str:
    """Let a machine get an address; return how the flow ended."""
    info = DhcpServiceInfo(ip=ip, hostname="cloudy", macaddress=mac.replace(":", ""))
    ended = (await discover(hass, SOURCE_DHCP, info)).ended
    await hass.async_block_till_done(wait_background_tasks=True)
    return ended


def at_the_old_address(answer: object):
    """Return who answers at the address that is known."""
    return patch(f"{CONTACT}.read_host_key", AsyncMock(side_effect=[answer]))


SILENT = errors.TimedOut("192.0.2.7")


async def test_a_new_address_is_taken_when_the_machine_with_the_pinned_key_lets_us_in_there(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry
) -> None:
    with at_the_old_address(SILENT):
        assert await lease(hass) == "not_new"
    assert moved.data == entry_of(host, home_host="192.0.2.7").data
    assert moved.state is ConfigEntryState.LOADED
    await hass.config_entries.async_unload(moved.entry_id)
    assert not host.connections


@pytest.mark.parametrize("answer", [OfferedKey("ssh-ed25519 AAAA", ""), errors.NotSSH("192.0.2.7")])
async def test_a_new_address_is_not_taken_while_the_old_one_answers(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry, answer: object
) -> None:
    with at_the_old_address(answer):
        await lease(hass)
    assert moved.data["host"] == "192.0.2.7"
    assert host.logins == 0


@pytest.mark.parametrize("other", ["another key", "nobody", "a stranger to us"])
async def test_a_new_address_is_not_taken_without_a_login_there(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry, other: str
) -> None:
    before = dict(moved.data)
    host.accepts_key = other != "a stranger to us"
    if other == "another key":
        host.new_host_key()
    await host.stop()
    if other != "nobody":
        await host.start()
    with at_the_old_address(SILENT):
        await lease(hass)
    assert moved.data == before


@pytest.mark.parametrize("change", ["keys", "user", "removed", "disabled"])
async def test_what_somebody_changes_while_a_new_address_is_looked_at_stands(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry, change: str
) -> None:
    changed = {"keys": {"host_keys": ["ssh-ed25519 AAAA"]}, "user": {"username": "anna"}}.get(change, {})

    async def change_it(*_: object) -> None:
        if change == "removed":
            await hass.config_entries.async_remove(moved.entry_id)
        elif change == "disabled":
            await hass.config_entries.async_set_disabled_by(moved.entry_id, ConfigEntryDisabler.USER)
        else:
            hass.config_entries.async_update_entry(moved, data=moved.data | changed)
        raise SILENT

    with patch(f"{CONTACT}.read_host_key", change_it):
        assert await lease(hass) == "not_new"
    assert moved.data["host"] == "192.0.2.7"
    assert changed.items() <= moved.data.items()


async def test_announcements_of_what_is_known_do_not_use_up_the_looks(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry
) -> None:
    for _ in range(10):
        await lease(hass, "192.0.2.7")
    with at_the_old_address(SILENT):
        await lease(hass)
    assert moved.data["host"] == "127.0.0.1"


async def test_announcements_without_end_are_looked_at_a_few_times(
    hass: HomeAssistant, host: Machine, moved: MockConfigEntry
) -> None:
    asked = AsyncMock(side_effect=errors.NotSSH("192.0.2.7"))
    with patch(f"{CONTACT}.read_host_key", asked):
        for number in range(1, 60):
            await lease(hass, f"192.168.1.{number}")
    assert asked.await_count == 2


@pytest.mark.parametrize("ip", ["8.8.8.8", "224.0.0.1", "255.255.255.255", "0.0.0.0", "2001:4860:4860::8888", "x"])
async def test_no_machine_outside_is_contacted_because_somebody_announced_it(
    hass: HomeAssistant, moved: MockConfigEntry, ip: str
) -> None:
    with patch(f"{CONTACT}.read_host_key") as asked:
        await lease(hass, ip)
    assert not asked.called


async def test_a_host_that_is_switched_off_in_home_assistant_is_left_alone(
    hass: HomeAssistant, moved: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(moved.entry_id, ConfigEntryDisabler.USER)
    with patch(f"{CONTACT}.read_host_key") as asked:
        await lease(hass)
    assert not asked.called


@pytest.mark.parametrize(
    ("ip", "mac", "old_host"),
    [
        ("127.0.0.1", "02:00:00:00:00:77", "192.0.2.7"),
        ("192.0.2.7", MAC, "192.0.2.7"),
        ("127.0.0.1", MAC, "cloudy.lan"),
    ],
    ids=["another machine", "the same address", "a name"],
)
async def test_nobody_is_asked_for_what_is_no_news(
    hass: HomeAssistant, moved: MockConfigEntry, ip: str, mac: str, old_host: str
) -> None:
    hass.config_entries.async_update_entry(moved, data=moved.data | {"host": old_host})
    with patch(f"{CONTACT}.read_host_key") as scan:
        await lease(hass, ip, mac)
    assert not scan.called
    assert moved.data["host"] == old_host


# ---------------------------------------------------------------- reauth


async def test_reauth_lets_the_entry_go_on_once_the_key_is_back(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    dialog = await Dialog(hass).reauth(entry)
    assert dialog.at == ("reauth_confirm", None)
    assert dialog.placeholders["name"] == "cloudy"
    host.accepts_key = False
    await dialog.choose("added")
    assert dialog.at == ("refused", None)
    host.accepts_key = True
    await dialog.choose("added")
    assert dialog.ended == "reauth_successful"
    assert entry.data == before
    await hass.async_block_till_done()
    assert not host.connections


async def test_reauth_can_install_the_key(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    host.accepts_key, host.password = False, PASSWORD
    dialog = await Dialog(hass).reauth(entry)
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.ended == "reauth_successful"


async def test_reauth_accepts_no_other_host_key(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    host.new_host_key()
    host.password = PASSWORD
    await host.restart()
    dialog = await Dialog(hass).reauth(entry)
    await dialog.choose("added")
    assert dialog.at == ("trust", "host_key_changed")
    again = await Dialog(hass).reauth(entry)
    await again.choose("install")
    await again.submit(password=PASSWORD)
    assert again.at == ("trust", "host_key_changed")
    assert entry.data == before
    assert host.logins == 0


# ---------------------------------------------------------------- reconfigure


async def test_reconfigure_takes_another_address_of_the_same_machine(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host, host="192.0.2.7", username="old")
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    assert dialog.at == ("reconfigure", None)
    assert [field.description for field in dialog.result["data_schema"].schema] == [
        {"suggested_value": f"old@192.0.2.7:{host.port}"}
    ]
    await dialog.submit(address="nonsense")
    assert dialog.at == ("reconfigure", "username_missing")
    await dialog.submit(address=typed(host))
    assert dialog.at == ("checklist", None)
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data == entry_of(host).data


async def test_reconfigure_asks_for_the_key_of_another_user(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    host.accepts_key = False
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=f"other@127.0.0.1:{host.port}")
    assert dialog.at == ("authorize", None)
    host.accepts_key = True
    await dialog.choose("added")
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data["username"] == "other"


async def test_a_reinstalled_machine_keeps_its_history(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host, host_id=OTHER_ID, host_keys=["ssh-ed25519 AAAA"])
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", "host_key_changed")
    await dialog.submit()
    await dialog.submit()
    assert dialog.at == ("other_machine", None)
    assert dialog.result["menu_options"] == ["keep_history", "reconfigure"]
    await dialog.open(dialog.flow_id)
    assert dialog.at == ("other_machine", None)
    await dialog.choose("reconfigure")
    assert dialog.at == ("reconfigure", None)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    await dialog.choose("keep_history")
    assert dialog.ended == "reinstalled"
    assert entry.unique_id == OTHER_ID
    assert entry.data == entry_of(host, host_id=OTHER_ID, machine=HOST_ID).data


async def test_a_clone_is_known_again_by_its_own_id(hass: HomeAssistant, host: Machine) -> None:
    entry = entry_of(host, host_id=clone_id(HOST_ID, host.host_keys[0]), machine=HOST_ID, username="old")
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data["host_id"] == entry.unique_id == clone_id(HOST_ID, host.host_keys[0])


@pytest.mark.parametrize("kind", ["reconfigure", "other_machine", "reauth"])
async def test_a_host_that_is_removed_while_its_dialog_is_open_is_missed_by_nobody(
    hass: HomeAssistant, host: Machine, kind: str
) -> None:
    entry = entry_of(host, host_id=OTHER_ID if kind == "other_machine" else HOST_ID)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    if kind == "reauth":
        dialog = await Dialog(hass).reauth(entry)
        # Home Assistant ends the dialog itself, unless it waits for the network just then.
        with (
            patch(f"{CONTACT}.HostContact.async_log_in", lambda _: hass.config_entries.async_remove(entry.entry_id)),
            patch("homeassistant.config_entries._abort_reauth_flows"),
        ):
            await dialog.choose("added")
    else:
        dialog = await Dialog(hass).reconfigure(entry)
        await dialog.submit(address=str(host.target))
        if kind == "other_machine":
            await dialog.submit()
            assert dialog.at == ("other_machine", None)
        await hass.config_entries.async_remove(entry.entry_id)
        await (dialog.choose("keep_history") if kind == "other_machine" else dialog.submit())
    assert dialog.ended == "changed"
    assert dict(entry.data) == before


async def test_reconfigure_does_not_take_the_machine_of_another_entry(hass: HomeAssistant, host: Machine) -> None:
    entry_of(host, host="192.0.2.8").add_to_hass(hass)
    entry = entry_of(host, host_id=OTHER_ID, host="192.0.2.7", host_keys=["ssh-ed25519 AAAA"])
    entry.add_to_hass(hass)
    before = dict(entry.data)
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=typed(host))
    await dialog.submit()
    await dialog.submit()
    assert dialog.ended == "already_configured"
    assert entry.data == before


# ---------------------------------------------------------------- closing the dialog


async def test_closing_the_dialog_during_the_test_ends_the_connection(
    hass: HomeAssistant, host: Machine, dialog: Dialog
) -> None:
    host.behaviour = hang
    await dialog.submit(address=typed(host))
    result = await hass.config_entries.flow.async_configure(dialog.flow_id, dialog.shown)
    assert (result["type"], result["progress_action"]) == (FlowResultType.SHOW_PROGRESS, "test")
    while not host.requests:
        await asyncio.sleep(0.01)
    hass.config_entries.flow.async_abort(dialog.flow_id)
    await hass.async_block_till_done()
    await asyncio.sleep(0.1)
    assert not host.connections


async def test_closing_the_dialog_while_it_connects_stops_that(hass: HomeAssistant, dialog: Dialog) -> None:
    waiting = asyncio.Event()
    cancelled = False

    async def never(*_: object) -> None:
        nonlocal cancelled
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with patch(f"{CONTACT}.read_host_key", never):
        step = asyncio.create_task(hass.config_entries.flow.async_configure(dialog.flow_id, {"address": "pi@nas"}))
        await waiting.wait()
        hass.config_entries.flow.async_abort(dialog.flow_id)
        result = await step
    assert cancelled
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "closed")
    with pytest.raises(UnknownFlow):
        hass.config_entries.flow.async_get(dialog.flow_id)


# ---------------------------------------------------------------- texts

OF_NETWORKS = {"network", "count", "limit"}
OF_ERRORS = {"host", "detail", "expected", "offered", "module", "system", "methods", "path"} | OF_NETWORKS
"""Words of errors: remote text that is safe as plain text, which errors are, and not as Markdown."""


def words_of(text: str) -> set[str]:
    """Return the placeholders of a text."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def keys_of_errors(kind: type[errors.HomelabError] = errors.HomelabError) -> set[str]:
    """Return the key of every error that there is."""
    return {kind.key}.union(*(keys_of_errors(child) for child in kind.__subclasses__()))


def keys_of_controls() -> set[str]:
    """Return the keys of the errors that controls and updates alone raise, which the flow never meets."""
    folder = Path(errors.__file__).parent
    controls = {*(folder / "control").glob("*.py"), folder.parent / "installation.py"}
    others = "".join(path.read_text() for path in {*folder.rglob("*.py")} - controls - {folder / "errors.py"})
    theirs = "".join(path.read_text() for path in controls)
    kinds = [
        kind for name, kind in inspect.getmembers(errors, inspect.isclass) if not re.search(rf"\b{name}\b", others)
    ]
    return {kind.key for kind in kinds if re.search(rf"\b{kind.__name__}\b", theirs)}


NETWORK_ERRORS = {"no_networks", "invalid_network", "public_network", "too_many_addresses"}
OF_KEYS = {"other_key", "not_this_key", "no_fingerprint"}
OF_FORMS = {"red_rows", "invalid_username", "invalid_sources"} | OF_KEYS | NETWORK_ERRORS
OF_POLLS = {"hangs_up"}
"""Told of logins that go on for a while."""


def test_a_dialog_that_found_no_machine_has_no_name_for_it() -> None:
    assert OnboardingFlow()._found == ""


def test_every_error_has_a_text_and_every_text_an_error() -> None:
    assert (keys_of_errors() - keys_of_controls() - OF_POLLS) | OF_FORMS == TEXTS["error"].keys()


def test_errors_are_plain_text_and_descriptions_are_markdown_and_share_no_words() -> None:
    assert all(words_of(text) <= OF_ERRORS for text in TEXTS["error"].values())
    for step in TEXTS["step"].values():
        assert not words_of(step.get("title", ""))
        assert not words_of(step.get("description", "")) & OF_ERRORS
    assert not OF_ERRORS & {word for text in TEXTS["abort"].values() for word in words_of(text)}


def test_the_texts_of_the_flow_are_all_used() -> None:
    folder = Path(__file__).parents[1] / "custom_components/homelab_monitor"
    source = "".join((folder / f"{name}.py").read_text() for name in ("config_flow", "flow/onboarding"))
    of_core = {"already_in_progress", "reauth_successful", "reconfigure_successful"}  # not yet there in 2026.9
    for step, texts in TEXTS["step"].items():
        assert f"async_step_{step}(" in source
        assert f'"{step}"' in source
        assert all(f"async_step_{option}(" in source for option in texts.get("menu_options", ()))
        assert texts.get("menu_option_descriptions", {}).keys() <= texts.get("menu_options", {}).keys()
    assert all(f'"{reason}"' in source for reason in TEXTS["abort"].keys() - of_core)
    assert all(f'progress_action="{action}"' in source for action in TEXTS["progress"])


def test_a_key_line_of_an_odd_home_is_harmless() -> None:
    line = authorized_line(KeyPair.generate(), "`rm -rf` 'Müller' \n ssh-rsa evil")
    assert line.isascii()
    assert line.count(" ") == 3
