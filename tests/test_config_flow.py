"""The config flow against a real SSH server inside the test: every way in, every way it fails."""

import asyncio
from collections.abc import AsyncIterator, Iterator
import json
from pathlib import Path
from unittest.mock import AsyncMock, patch

from homeassistant.config_entries import SOURCE_USER, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client import errors
from custom_components.homelab_monitor.client.identity import clone_id, host_id
from custom_components.homelab_monitor.client.keys import fingerprint
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import HostStore, async_get_key

from .fake_host import Behaviour, Channel, FakeHost, garbage, half_a_reply, hang, unpack_bomb

HOST_ID = "0123456789abcdef0123456789abcdef"
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
FLOW = "custom_components.homelab_monitor.config_flow"
ONBOARDING = "custom_components.homelab_monitor.onboarding"
TEXTS = json.loads(
    (Path(__file__).parents[1] / "custom_components/homelab_monitor/translations/en.json").read_text(encoding="utf-8")
)["config"]


@pytest.fixture
async def host(hass: HomeAssistant, hass_storage: dict[str, object], socket_enabled: None) -> AsyncIterator[FakeHost]:
    """A machine that lets this Home Assistant in."""
    async with FakeHost() as fake:
        fake.key = await async_get_key(hass)
        fake.sections["system"] = SYSTEM
        yield fake


@pytest.fixture(autouse=True)
def setup_entry() -> Iterator[AsyncMock]:
    """Keep a new entry from polling: these tests end where it begins."""
    with patch("custom_components.homelab_monitor.async_setup_entry", return_value=True) as mock:
        yield mock


class Dialog:
    """A person in front of the flow."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.hass = hass
        self.result: ConfigFlowResult = {}

    async def start(self) -> Dialog:
        self.result = await self.hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        return self

    async def reauth(self, entry: MockConfigEntry) -> Dialog:
        self.result = await entry.start_reauth_flow(self.hass)
        return self

    async def submit(self, **user_input: object) -> ConfigFlowResult:
        """Fill the form in, and wait while there is progress to watch."""
        assert self.result["type"] is FlowResultType.FORM
        self.result = await self.hass.config_entries.flow.async_configure(self.flow_id, user_input)
        return await self.wait()

    async def wait(self) -> ConfigFlowResult:
        """Look on while there is progress."""
        while self.result["type"] is FlowResultType.SHOW_PROGRESS:
            await asyncio.sleep(0.01)
            self.result = await self.hass.config_entries.flow.async_configure(self.flow_id)
        self.check_texts()
        return self.result

    @property
    def flow_id(self) -> str:
        return self.result["flow_id"]

    @property
    def at(self) -> tuple[str, str | None]:
        """Return the step that is shown and its error."""
        return self.result["step_id"], (self.result["errors"] or {}).get("base")

    def check_texts(self) -> None:
        """Fail unless everything on the screen has a text whose placeholders are all filled."""
        placeholders = dict.fromkeys(self.result.get("description_placeholders") or {}, "…")
        if self.result["type"] is FlowResultType.ABORT:
            if not self.result.get("translation_domain"):
                TEXTS["abort"][self.result["reason"]].format(**placeholders)
            return
        if self.result["type"] is not FlowResultType.FORM:
            return
        step, error = self.at
        TEXTS["step"][step]["description"].format(**placeholders)
        if error:
            TEXTS["error"][error].format(**placeholders)
        for field in self.result["data_schema"].schema:
            assert TEXTS["step"][step]["data"][str(field)]
            assert TEXTS["step"][step]["data_description"][str(field)]


@pytest.fixture
async def dialog(hass: HomeAssistant) -> Dialog:
    return await Dialog(hass).start()


def typed(host: FakeHost) -> str:
    """Return what a person types to reach the host."""
    return str(host.target)


def entry_of(machine: FakeHost, **changes: object) -> MockConfigEntry:
    """Return an entry for the host."""
    data = {
        "host": "127.0.0.1",
        "port": machine.port,
        "username": "monitor",
        "platform": "linux",
        "host_id": HOST_ID,
        "host_keys": list(machine.host_keys),
    }
    return MockConfigEntry(domain=DOMAIN, title="cloudy", unique_id=HOST_ID, data=data | changes)


# ---------------------------------------------------------------- the straight way


async def test_a_host_is_added(hass: HomeAssistant, host: FakeHost, dialog: Dialog, setup_entry: AsyncMock) -> None:
    assert dialog.at == ("user", None)
    key = await async_get_key(hass)
    assert f"restrict {key.public_openssh} homelab_monitor@" in dialog.result["description_placeholders"]["key_line"]

    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)
    assert fingerprint(host.host_keys[0]) in dialog.result["description_placeholders"]["fingerprints"]
    assert "ssh_host_ed25519_key.pub" in dialog.result["description_placeholders"]["fingerprint_command"]
    assert host.logins == 0

    result = await dialog.submit()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "cloudy"
    assert result["result"].unique_id == HOST_ID
    assert result["data"] == {
        "host": "127.0.0.1",
        "port": host.port,
        "username": "monitor",
        "platform": "linux",
        "host_id": HOST_ID,
        "host_keys": list(host.host_keys),
    }
    await hass.async_block_till_done()
    assert setup_entry.call_count == 1
    assert host.logins == 1
    assert not host._connections


async def test_the_dry_run_asks_for_every_section_and_is_handed_over(
    hass: HomeAssistant, host: FakeHost, dialog: Dialog
) -> None:
    await dialog.submit(address=typed(host))
    result = await dialog.submit()
    assert [request["sections"] for request in host.requests] == [list(SECTIONS)]
    memory = await HostStore(hass, result["result"].entry_id, HOST_ID).async_load()
    assert memory.is_current
    assert memory.snapshot.sections.load.load1 == 0.5
    assert memory.snapshot.sections.system.hostname == "cloudy"


async def test_a_host_that_does_not_say_who_it_is_is_known_by_its_key(host: FakeHost, dialog: Dialog) -> None:
    del host.sections["system"]
    await dialog.submit(address=typed(host))
    result = await dialog.submit()
    assert result["title"] == "127.0.0.1"
    assert result["result"].unique_id == host_id(None, host.host_keys[0])


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
    host: FakeHost, dialog: Dialog, failure: Exception, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with patch(f"{ONBOARDING}.scan_host_keys", side_effect=failure):
        result = await dialog.submit(address="pi@nas")
    assert dialog.at == ("user", key)
    assert [field.description for field in result["data_schema"].schema] == [{"suggested_value": "pi@nas"}]
    assert ("Unexpected error" in caplog.text) is (key == "unknown")
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)


async def test_a_closed_port_is_named(host: FakeHost, dialog: Dialog) -> None:
    await host.stop()
    await dialog.submit(address=typed(host))
    assert dialog.at == ("user", "connection_refused")
    await host.start()
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)


async def test_something_else_on_the_port_is_named(socket_enabled: None, dialog: Dialog) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        await dialog.submit(address=f"pi@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert dialog.at == ("user", "not_ssh")


@pytest.mark.parametrize("text", ["nas", "pi@", "pi@nas:0", "$(reboot)@nas", "-oProxyCommand=x@nas", "pi@na s", ""])
async def test_what_is_no_address_contacts_nobody(dialog: Dialog, text: str) -> None:
    with patch(f"{ONBOARDING}.scan_host_keys") as scan:
        await dialog.submit(address=text)
    assert dialog.at == ("user", "invalid_target")
    assert not scan.called


# ---------------------------------------------------------------- trust and authorize


async def test_a_refused_key_is_shown_again_until_it_is_added(host: FakeHost, dialog: Dialog) -> None:
    host.accepts_key = False
    await dialog.submit(address=typed(host))
    await dialog.submit()
    assert dialog.at == ("authorize", "key_refused")
    assert "authorized_keys" in dialog.result["description_placeholders"]["install_command"]
    await dialog.submit()
    assert dialog.at == ("authorize", "key_refused")
    host.accepts_key = True
    result = await dialog.submit()
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_host_key_that_changes_before_the_login_is_confirmed_anew(host: FakeHost, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    old = fingerprint(host.host_keys[0])
    host.new_host_key()
    await host.stop()
    await host.start()
    result = await dialog.submit()
    assert dialog.at == ("trust", "host_key_changed")
    assert host.logins == 0
    assert fingerprint(host.host_keys[0]) in result["description_placeholders"]["fingerprints"]
    assert old not in result["description_placeholders"]["fingerprints"]
    assert result["description_placeholders"]["expected"] == old
    result = await dialog.submit()
    assert result["data"]["host_keys"] == list(host.host_keys)


async def test_a_host_that_went_away_before_the_login_can_come_back(host: FakeHost, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    await host.stop()
    await dialog.submit()
    assert dialog.at == ("trust", "connection_refused")
    await host.start()
    assert (await dialog.submit())["type"] is FlowResultType.CREATE_ENTRY


# ---------------------------------------------------------------- the dry run


def exiting(status: int, stderr: bytes) -> Behaviour:
    """Return the behaviour of a command that fails."""

    async def fail(_host: FakeHost, channel: Channel) -> None:
        await channel.begin(marker=b"")
        channel.process.stderr.write(stderr)
        channel.process.exit(status)

    return fail


@pytest.mark.parametrize(
    ("behaviour", "key"),
    [
        (exiting(127, b"sh: 1: python3: not found\n"), "no_python"),
        (exiting(1, b"ModuleNotFoundError: No module named 'json'\n"), "python_incomplete"),
        (half_a_reply, "probe_failed"),
        (garbage, "bad_reply"),
        (unpack_bomb, "reply_too_large"),
        (hang, "timed_out"),
    ],
)
async def test_what_the_dry_run_fails_of_is_named_and_can_be_tried_again(
    host: FakeHost, dialog: Dialog, behaviour: Behaviour, key: str
) -> None:
    honest, host.behaviour = host.behaviour, behaviour
    await dialog.submit(address=typed(host))
    with patch(f"{ONBOARDING}.DEFAULT_TIMEOUT", 0.5 if behaviour is hang else 10):
        await dialog.submit()
        assert dialog.at == ("test_failed", key)
        await dialog.submit()
        assert dialog.at == ("test_failed", key)
    host.behaviour = honest
    assert (await dialog.submit())["type"] is FlowResultType.CREATE_ENTRY


async def test_a_system_without_a_probe_is_named(host: FakeHost, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    with patch(f"{ONBOARDING}.ProbeSession.poll", side_effect=errors.UnsupportedSystem("nas", "Plan 9")):
        await dialog.submit()
    assert dialog.at == ("test_failed", "not_supported")
    assert dialog.result["description_placeholders"]["system"] == "Plan 9"


async def test_a_server_that_runs_no_command_is_named(host: FakeHost, dialog: Dialog) -> None:
    await dialog.submit(address=typed(host))
    with patch(f"{ONBOARDING}.ProbeSession.poll", side_effect=errors.ChannelRefused("nas", "prohibited")):
        await dialog.submit()
    assert dialog.at == ("test_failed", "channel_refused")


async def test_an_unexpected_error_is_logged_and_the_dialog_goes_on(
    host: FakeHost, dialog: Dialog, caplog: pytest.LogCaptureFixture
) -> None:
    await dialog.submit(address=typed(host))
    with patch(f"{ONBOARDING}.ProbeSession.poll", side_effect=RuntimeError("boom")):
        await dialog.submit()
    assert dialog.at == ("test_failed", "unknown")
    assert "Unexpected error" in caplog.text
    assert "boom" in caplog.text
    assert (await dialog.submit())["type"] is FlowResultType.CREATE_ENTRY


# ---------------------------------------------------------------- known hosts


async def test_the_same_address_and_machine_is_not_added_twice(
    hass: HomeAssistant, host: FakeHost, dialog: Dialog
) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    result = await dialog.submit(address=f"other@127.0.0.1:{host.port}")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert result["description_placeholders"] == {"name": "cloudy"}
    assert entry.data == before


async def test_another_machine_at_a_known_address_is_not_taken_for_the_old_one(
    hass: HomeAssistant, host: FakeHost, dialog: Dialog
) -> None:
    entry_of(host, host_keys=["ssh-ed25519 AAAA"]).add_to_hass(hass)
    await dialog.submit(address=typed(host))
    assert dialog.at == ("trust", None)


async def test_a_machine_known_under_another_address_changes_nothing(
    hass: HomeAssistant, host: FakeHost, dialog: Dialog
) -> None:
    entry = entry_of(host, host="192.0.2.7")
    entry.add_to_hass(hass)
    before = dict(entry.data)
    await dialog.submit(address=typed(host))
    result = await dialog.submit()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert entry.data == before


# ---------------------------------------------------------------- reauth


async def test_reauth_lets_the_entry_go_on_once_the_key_is_back(hass: HomeAssistant, host: FakeHost) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    before = dict(entry.data)
    dialog = await Dialog(hass).reauth(entry)
    assert dialog.at == ("reauth_confirm", None)
    assert dialog.result["description_placeholders"]["name"] == "cloudy"
    host.accepts_key = False
    await dialog.submit()
    assert dialog.at == ("reauth_confirm", "key_refused")
    host.accepts_key = True
    result = await dialog.submit()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reauth_successful")
    assert entry.data == before
    await hass.async_block_till_done()
    assert not host._connections


async def test_reauth_accepts_no_other_host_key(hass: HomeAssistant, host: FakeHost) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    host.new_host_key()
    await host.stop()
    await host.start()
    dialog = await Dialog(hass).reauth(entry)
    for _ in range(2):
        await dialog.submit()
        assert dialog.at == ("reauth_confirm", "host_key_changed")
    assert host.logins == 0


# ---------------------------------------------------------------- closing the dialog


async def test_closing_the_dialog_during_the_dry_run_ends_the_connection(
    hass: HomeAssistant, host: FakeHost, dialog: Dialog
) -> None:
    host.behaviour = hang
    await dialog.submit(address=typed(host))
    result = await hass.config_entries.flow.async_configure(dialog.flow_id, {})
    assert (result["type"], result["progress_action"]) == (FlowResultType.SHOW_PROGRESS, "test")
    assert TEXTS["progress"]["test"].format(**result["description_placeholders"])
    while not host.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    hass.config_entries.flow.async_abort(dialog.flow_id)
    await hass.async_block_till_done()
    await asyncio.sleep(0.1)
    assert not host._connections


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

    with patch(f"{ONBOARDING}.scan_host_keys", never):
        step = asyncio.create_task(hass.config_entries.flow.async_configure(dialog.flow_id, {"address": "pi@nas"}))
        await waiting.wait()
        hass.config_entries.flow.async_abort(dialog.flow_id)
        result = await step
    assert cancelled
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "closed")
    with pytest.raises(UnknownFlow):
        hass.config_entries.flow.async_get(dialog.flow_id)


# ---------------------------------------------------------------- texts


def keys_of_errors(kind: type[errors.HomelabError] = errors.HomelabError) -> set[str]:
    """Return the key of every error that there is."""
    return {kind.key}.union(*(keys_of_errors(child) for child in kind.__subclasses__()))


def test_every_error_has_a_text() -> None:
    assert keys_of_errors() - {"password_refused"} == set(TEXTS["error"])
