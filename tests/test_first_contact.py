"""Trust from the first contact on: what a person compared is all that is pinned, whoever stands in between."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from unittest.mock import AsyncMock, patch

import asyncssh
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import InvalidData
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.homelab_monitor.client.errors import HomelabError, TimedOut, Unreachable
from custom_components.homelab_monitor.client.transport.keys import authorized_line, dropbear_line, fingerprint
from custom_components.homelab_monitor.client.transport.scan import Candidate
from custom_components.homelab_monitor.flow.connection import async_require_proof
from custom_components.homelab_monitor.flow.discovery import DiscoveredHost
from custom_components.homelab_monitor.settings import HostAddress

from . import fake_host as fakes
from .fake_host import FakeHost
from .test_config_flow import (  # noqa: F401 - fixtures among them
    CONTACT,
    PASSWORD,
    TEXTS,
    Dialog,
    Machine,
    entry_of,
    host,
    make_machine,
    setup_entry,
    typed,
)

pytestmark = pytest.mark.usefixtures("socket_enabled")


class Between:
    """Somebody between Home Assistant and a host, who passes some connections on and answers the others."""

    def __init__(self, real: FakeHost, own: FakeHost) -> None:
        self.real = real
        self.own = own
        self.passes: Callable[[int], bool] = lambda _: True
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        port = self.real.port if self.passes(self.connections) else self.own.port
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
    sink.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the passwords that any server was told."""
    passwords: list[str] = []

    def validate(_self: object, _username: str, password: str) -> bool:
        passwords.append(password)
        return True

    monkeypatch.setattr(fakes._Server, "validate_password", validate)
    return passwords


@pytest.fixture
async def between(host: Machine, make_machine) -> AsyncIterator[Between]:  # noqa: F811
    """Return a man in the middle who has a key of another type than the host."""
    own = await make_machine()
    own.new_host_key("ssh-rsa")
    await own.restart()
    own.accepts_key, own.password = False, PASSWORD
    host.accepts_key, host.password = False, PASSWORD
    it = Between(host, own)
    async with await asyncio.start_server(it.serve, "127.0.0.1", 0) as server:
        it.port = server.sockets[0].getsockname()[1]
        try:
            yield it
        finally:
            server.abort_clients()


# ---------------------------------------------------------------- the first contact


async def test_one_handshake_shows_one_fingerprint_and_the_command_for_it(
    hass: HomeAssistant, between: Between
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"monitor@127.0.0.1:{between.port}")
    assert dialog.at == ("trust", None)
    assert between.connections == 1
    (key,) = between.real.host_keys
    assert dialog.placeholders["fingerprints"] == f"- ED25519: `{fingerprint(key)}`"
    assert dialog.placeholders["fingerprint_command"] == "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`"


@pytest.mark.parametrize("passed", [1, 2], ids=["the first handshake", "the login, too"])
async def test_who_passes_the_compared_key_on_and_answers_with_another_one_gets_no_password(
    hass: HomeAssistant, between: Between, told: list[str], passed: int
) -> None:
    between.passes = lambda number: number <= passed
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"monitor@127.0.0.1:{between.port}")
    await dialog.submit()
    if passed == 2:
        await dialog.choose("install")
        await dialog.submit(password=PASSWORD)
    assert told == []
    assert dialog.at == ("trust", "host_key_changed")
    assert dialog.placeholders["fingerprints"] == f"- RSA: `{fingerprint(between.own.host_keys[0])}`"
    assert between.own.logins == 0


async def test_a_form_confirms_the_key_that_was_on_it_and_no_other(hass: HomeAssistant, between: Between) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"monitor@127.0.0.1:{between.port}")
    first = dialog.shown
    assert list(first.values()) == [fingerprint(between.real.host_keys[0])]
    between.passes = lambda _: False
    await dialog.submit()
    assert dialog.at == ("trust", "host_key_changed")
    # The same form comes once more: from another window, or sent twice.
    connections = between.connections
    await dialog.submit(**first)
    assert dialog.at == ("trust", "other_key")
    with pytest.raises(InvalidData):
        await hass.config_entries.flow.async_configure(dialog.flow_id, {})
    assert between.connections == connections, "nobody was logged in to"
    assert fingerprint(between.own.host_keys[0]) in dialog.placeholders["fingerprints"]
    await dialog.submit()
    assert dialog.at == ("authorize", None), "the second key is confirmed only by a form that shows it"


def printed_ways(key: str) -> dict[str, str]:
    """Return what a person may paste of what tools print for a key."""
    shown = fingerprint(key)
    bare = shown.removeprefix("SHA256:")
    return {
        "ssh-keygen's line": f"256 {shown} root@desk (ED25519)\n",
        "with blanks": f"  {shown} ",
        "wrapped by a terminal": f"256 {shown[:20]}\n{shown[20:]} desk (ED25519)",
        "padded": f"{shown}=",
        "dropbear's lines": f"Public key portion is:\n{key} root@router\nFingerprint: {shown}",
        "all keys of the machine": f"3072 {fingerprint(OTHER)} desk (RSA)\n256 {shown} desk (ED25519)",
        "bare": bare,
        "nothing": "",
        "blanks": "  \n",
    }


OTHER = "ssh-ed25519 " + b64encode(b"another key").decode()
WAYS = [*printed_ways(OTHER)]


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_tool_prints_of_the_shown_key_confirms_it_however_it_is_pasted(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    way: str,
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(host))
    await dialog.submit(printed=printed_ways(host.host_keys[0])[way])
    assert dialog.at == ("checklist", None)


@pytest.mark.parametrize(
    ("printed", "error"),
    [
        (f"256 {fingerprint(OTHER)} desk (ED25519)", "not_this_key"),
        (fingerprint(OTHER).removeprefix("SHA256:"), "no_fingerprint"),
        ("MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "no_fingerprint"),
        ("desk", "no_fingerprint"),
    ],
)
async def test_what_is_pasted_of_another_key_goes_no_further_and_says_so(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    printed: str,
    error: str,
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=typed(host))
    await dialog.submit(printed=printed)
    assert dialog.at == ("trust", error)
    assert host.logins == 0
    assert dialog.suggested("printed") == printed, "what a person has pasted is still there to be looked at"
    await dialog.submit(printed=fingerprint(host.host_keys[0]))
    assert dialog.at == ("checklist", None)


async def test_the_password_goes_to_the_machine_that_proves_the_compared_key(
    hass: HomeAssistant, between: Between, told: list[str]
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"monitor@127.0.0.1:{between.port}")
    await dialog.submit()
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    await dialog.submit()
    assert told == [PASSWORD]
    assert dialog.result["data"]["host_keys"] == list(between.real.host_keys)


async def test_exactly_the_compared_key_is_pinned_and_what_is_proven_over_it(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    usual = asyncssh.listen

    def with_two_keys(*args: object, server_host_keys: list[asyncssh.SSHKey], **options: object):
        return usual(*args, server_host_keys=[*server_host_keys, second], send_server_host_keys=True, **options)

    monkeypatch.setattr(asyncssh, "listen", with_two_keys)
    await host.restart()
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(host.target))
    assert dialog.placeholders["fingerprints"].count("SHA256:") == 1
    await dialog.submit()
    result = await dialog.submit()
    other = " ".join(second.export_public_key().decode().split()[:2])
    assert result["data"]["host_keys"] == [*host.host_keys, other]
    assert result["data"]["host_keys_proven"] is True


async def test_a_host_that_is_changed_between_looking_and_confirming_is_not_pinned(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(host.target))
    shown = host.host_keys
    host.new_host_key("ecdsa-sha2-nistp256")
    await host.restart()
    await dialog.submit()
    assert dialog.at == ("trust", "host_key_changed")
    assert host.logins == 0
    assert fingerprint(shown[0]) not in dialog.placeholders["fingerprints"]
    assert dialog.placeholders["fingerprint_command"] == "`ssh-keygen -lf /etc/ssh/ssh_host_ecdsa_key.pub`"


# ---------------------------------------------------------------- reauth and reconfigure


async def test_reauth_of_an_older_entry_sends_a_password_only_to_the_key_that_there_was_a_command_for(
    hass: HomeAssistant, between: Between, told: list[str]
) -> None:
    keys = [*between.real.host_keys, *between.own.host_keys]
    entry = entry_of(between.real, port=between.port, host_keys=keys, host_keys_proven=False)
    entry.add_to_hass(hass)
    between.passes = lambda _: False
    dialog = await Dialog(hass).reauth(entry)
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.at == ("trust", "host_key_changed")
    assert told == []
    assert entry.data["host_keys"] == keys


async def test_a_key_that_is_confirmed_in_a_reauth_is_pinned_alone(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    entry = entry_of(host)
    entry.add_to_hass(hass)
    host.new_host_key()
    await host.restart()
    dialog = await Dialog(hass).reauth(entry)
    await dialog.choose("added")
    assert dialog.at == ("trust", "host_key_changed")
    assert host.logins == 0
    await dialog.submit()
    assert dialog.ended == "reinstalled", "the privileges are gone, and that is said"
    assert entry.data["host_keys"] == list(host.host_keys)


async def test_a_machine_that_goes_away_while_its_new_key_is_asked_for_says_so(
    hass: HomeAssistant,
    between: Between,
) -> None:
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"monitor@127.0.0.1:{between.port}")
    shown = dialog.placeholders["fingerprints"]
    between.passes = lambda _: False
    with patch(f"{CONTACT}.read_host_key", side_effect=TimedOut("127.0.0.1")):
        await dialog.submit()
    assert dialog.at == ("trust", "timed_out")
    assert dialog.placeholders["fingerprints"] == shown


async def test_reconfigure_believes_no_machine_that_only_shows_a_pinned_key(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    told: list[str],
) -> None:
    (own,) = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])
    own.public_data = host._private.public_data
    impostor = Machine(host.home)
    impostor._private, impostor.key, impostor.password = own, host.key, PASSWORD
    entry = entry_of(host)
    entry.add_to_hass(hass)
    await host.stop()
    await impostor.start()
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=str(impostor.target))
    await impostor.stop()
    assert dialog.at == ("reconfigure", "not_ssh")
    assert (impostor.logins, told) == (0, [])
    await host.start()


async def test_reconfigure_asks_nothing_of_a_machine_that_proves_a_pinned_key_of_a_lesser_type(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = host._private
    second = asyncssh.generate_private_key("ssh-rsa")
    usual = asyncssh.listen
    monkeypatch.setattr(asyncssh, "listen", lambda *args, **options: usual(*args, **two_keys(options, second)))
    await host.restart()
    pinned = " ".join(second.export_public_key().decode().split()[:2])
    entry = entry_of(host, host_keys=[pinned])
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=str(host.target))
    assert dialog.at == ("checklist", None)
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data["host_keys"] == [pinned]
    assert first.get_algorithm() == "ssh-ed25519"


def two_keys(options: dict[str, object], second: asyncssh.SSHKey) -> dict[str, object]:
    """Return what makes a server have a second host key."""
    return options | {"server_host_keys": [*options["server_host_keys"], second]}


# ---------------------------------------------------------------- the line with addresses


async def test_the_key_can_be_limited_to_addresses_where_the_server_is_openssh(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    dialog = await Dialog(hass).begin("limit")
    await dialog.submit(sources="nas.lan")
    assert dialog.at == ("limit", "invalid_sources")
    await dialog.submit(sources="192.0.2.7, 2001:db8::7/64")
    assert dialog.at == ("user", None)
    line = authorized_line(host.key, hass.config.location_name, ("192.0.2.7", "2001:db8::/64"))
    assert line.startswith('restrict,from="192.0.2.7,2001:db8::/64" ssh-ed25519 ')
    assert dialog.placeholders["key_line"] == f"`{line}`"
    assert line in dialog.placeholders["linux"]
    assert "from=" not in dialog.placeholders["openwrt"]
    host.accepts_key, host.password = False, PASSWORD
    await dialog.choose("address")
    await dialog.submit(address=str(host.target))
    await dialog.submit()
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert host.authorized == f"{line}\n"


async def test_no_addresses_are_no_limit(hass: HomeAssistant) -> None:
    dialog = await Dialog(hass).begin("limit")
    await dialog.submit(sources="192.0.2.7")
    await dialog.choose("limit")
    assert [field.description for field in dialog.result["data_schema"].schema] == [{"suggested_value": "192.0.2.7"}]
    await dialog.submit()
    assert dialog.placeholders["key_line"].startswith("`restrict ssh-ed25519 ")


LIMITED = 'restrict,from="192.0.2.9" '


@pytest.mark.parametrize("way", ["scan", "paste"])
@pytest.mark.parametrize("when", ["first", "at the first machine"])
async def test_the_limit_holds_for_all_that_were_picked_together(
    hass: HomeAssistant,
    make_machine,  # noqa: F811
    way: str,
    when: str,
) -> None:
    machines = [await make_machine() for _ in range(3)]
    for number, machine in enumerate(machines):
        machine.accepts_key, machine.password = False, PASSWORD
        machine.sections |= {"system": machine.sections["system"] | {"machine_id_hash": f"{number + 1:032x}"}}
    dialog = await Dialog(hass).begin()
    if when == "first":
        await dialog.choose("limit")
        await dialog.submit(sources="192.0.2.9")
    lines = [str(each.target) for each in machines]
    if way == "scan":
        # A scan finds port 22 alone; what follows it reads the same address as a line that was typed.
        candidates = [Candidate(address=f"192.0.2.{number}", banner="SSH-2.0-OpenSSH_9.6") for number in (1, 2, 3)]
        ports = {each.address: line for each, line in zip(candidates, lines, strict=True)}
        typed = DiscoveredHost.typed.fget
        with (
            patch("custom_components.homelab_monitor.config_flow.async_scan", return_value=candidates),
            patch.object(DiscoveredHost, "typed", property(lambda it: ports.get(it.host) or typed(it))),
        ):
            await dialog.scan()
            await dialog.submit(hosts=list(ports), username="monitor")
    else:
        await dialog.choose("paste")
        await dialog.submit(addresses="\n".join(lines))
    for number, machine in enumerate(machines):
        if number:
            await dialog.open(dialog.result["next_flow"][1])
            await dialog.submit(address=str(machine.target))
        await dialog.submit()
        assert dialog.at == ("authorize", None)
        if when != "first" and not number:
            assert "from=" not in dialog.placeholders["key_line"]
            await dialog.choose("limit")
            await dialog.submit(sources="192.0.2.9")
        assert dialog.placeholders["key_line"].startswith(f"`{LIMITED}")
        await dialog.choose("install")
        await dialog.submit(password=PASSWORD)
        assert machine.authorized.startswith(LIMITED)
        await dialog.submit()
        assert dialog.result["data"]["key_sources"] == ["192.0.2.9"]


async def test_the_limit_of_a_host_holds_when_its_key_is_let_in_again(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    entry = entry_of(host, key_sources=["192.0.2.9"])
    entry.add_to_hass(hass)
    host.accepts_key, host.password = False, PASSWORD
    dialog = await Dialog(hass).reauth(entry)
    assert dialog.placeholders["key_line"].startswith(f"`{LIMITED}")
    await dialog.choose("limit")
    assert dialog.suggested("sources") == "192.0.2.9"
    await dialog.submit(sources="192.0.2.10")
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert dialog.ended == "reauth_successful"
    assert host.authorized.startswith('restrict,from="192.0.2.10" ')
    assert entry.data["key_sources"] == ["192.0.2.10"]


@pytest.mark.parametrize(("typed", "kept"), [(None, ["192.0.2.9"]), ("", []), ("192.0.2.10", ["192.0.2.10"])])
async def test_the_limit_of_a_host_holds_when_it_is_reconfigured(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    typed: str | None,
    kept: list[str],
) -> None:
    entry = entry_of(host, key_sources=["192.0.2.9"])
    entry.add_to_hass(hass)
    host.accepts_key, host.password = False, PASSWORD
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=str(host.target))
    assert dialog.placeholders["key_line"].startswith(f"`{LIMITED}")
    if typed is not None:
        await dialog.choose("limit")
        await dialog.submit(sources=typed)
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert entry.data["key_sources"] == kept


async def test_a_host_that_moves_or_comes_again_keeps_its_limit(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    entry = entry_of(host, host="192.0.2.20", key_sources=["192.0.2.9"])
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(host.target))
    await dialog.submit()
    await dialog.submit()
    await dialog.choose("moved")
    assert dialog.ended == "moved"
    assert entry.data["key_sources"] == ["192.0.2.9"]


@pytest.mark.parametrize("stored", [None, "192.0.2.9", ["x' ; reboot #"], ['192.0.2.9" ssh-ed25519'], [7]])
def test_nothing_but_addresses_of_a_stored_entry_becomes_part_of_a_line(stored: object) -> None:
    assert HostAddress.from_data({"key_sources": stored}).key_sources == ()


async def test_the_address_that_is_suggested_is_the_one_we_connect_from(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def source_ip(_hass: HomeAssistant, target: str = "") -> str:
        return "192.0.2.99" if target == "127.0.0.1" else "198.51.100.1"

    monkeypatch.setattr("custom_components.homelab_monitor.flow.onboarding.async_get_source_ip", source_ip)
    host.accepts_key = False
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(host.target))
    await dialog.submit()
    await dialog.choose("limit")
    assert [field.description for field in dialog.result["data_schema"].schema] == [{"suggested_value": "192.0.2.99"}]


async def test_a_machine_that_cannot_report_its_address_suggests_none(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_source_ip(*_: object) -> str:
        raise HomeAssistantError("no address")

    monkeypatch.setattr("custom_components.homelab_monitor.flow.onboarding.async_get_source_ip", no_source_ip)
    dialog = await Dialog(hass).begin("limit")
    assert [field.description for field in dialog.result["data_schema"].schema] == [{"suggested_value": ""}]


async def test_a_greeting_that_nobody_has_proven_weakens_no_line(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    (shown,) = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])
    shown.public_data = host._private.public_data
    fake = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[shown], server_version="dropbear_2022.83")
    between = Between(host, host)
    between.own = type("Fake", (), {"port": fake.get_port()})
    between.passes = lambda number: number > 1
    host.accepts_key, host.password = False, PASSWORD
    async with await asyncio.start_server(between.serve, "127.0.0.1", 0) as server:
        dialog = await Dialog(hass).begin("limit")
        await dialog.submit(sources="192.0.2.7")
        strict = dialog.placeholders["key_line"]
        assert 'restrict,from="192.0.2.7" ' in strict
        await dialog.choose("address")
        await dialog.submit(address=f"monitor@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert dialog.placeholders["fingerprint_command"].startswith("`dropbearkey "), "the greeting was altered"
        await dialog.submit()
        assert dialog.at == ("authorize", None)
        assert dialog.placeholders["key_line"] == strict
        assert strict.strip("`") in dialog.placeholders["install_command"]
        assert "limit" in dialog.result["menu_options"]
        assert dialog.placeholders["limit_note"] == ""
        server.abort_clients()
    fake.close()
    await fake.wait_closed()


async def test_who_only_shows_a_key_has_not_proven_it_and_who_refuses_ours_has(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    host.accepts_key = False
    (key,) = host.host_keys
    await async_require_proof(hass, host.target, key)
    (shown,) = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])
    shown.public_data = host._private.public_data
    fake = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[shown])
    with pytest.raises(HomelabError):
        await async_require_proof(hass, replace(host.target, port=fake.get_port()), key)
    fake.close()
    await fake.wait_closed()


async def test_a_dropbear_gets_no_line_with_addresses_and_is_offered_none(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = asyncssh.listen
    monkeypatch.setattr(
        asyncssh, "listen", lambda *args, **options: usual(*args, server_version="dropbear_2022.83", **options)
    )
    await host.restart()
    host.accepts_key, host.password = False, PASSWORD
    dialog = await Dialog(hass).begin("limit")
    await dialog.submit(sources="192.0.2.7")
    await dialog.choose("address")
    await dialog.submit(address=str(host.target))
    assert dialog.placeholders["fingerprint_command"].startswith("`dropbearkey ")
    await dialog.submit()
    assert dialog.at == ("authorize", None)
    assert dialog.result["menu_options"] == ["added", "install", "commands"]
    line = dropbear_line(authorized_line(host.key, hass.config.location_name))
    assert dialog.placeholders["key_line"] == f"`{line}`"
    assert r"192\.0\.2\.7" in dialog.placeholders["limit_note"], "what was typed is not dropped in silence"
    assert "/etc/dropbear" not in dialog.placeholders["install_command"], "not root"
    assert line in dialog.placeholders["install_command"]
    await dialog.choose("install")
    await dialog.submit(password=PASSWORD)
    assert host.authorized == f"{line}\n"


# ---------------------------------------------------------------- a known host beside it


def words(dialog: Dialog) -> str:
    """Return the error of a form as a person reads it."""
    return TEXTS["error"][dialog.result["errors"]["base"]].format_map(dialog.placeholders)


@pytest.mark.parametrize("username", ["monitor", "anna"], ids=["as it was", "another user"])
async def test_another_key_than_the_known_one_is_not_shown_like_a_first_one_by_reconfigure(
    hass: HomeAssistant, between: Between, told: list[str], username: str
) -> None:
    entry = entry_of(between.real, port=between.port)
    entry.add_to_hass(hass)
    known, foreign = entry.data["host_keys"][0], between.own.host_keys[0]
    between.passes = lambda _: False
    dialog = await Dialog(hass).reconfigure(entry)
    await dialog.submit(address=f"{username}@127.0.0.1:{between.port}")
    assert dialog.at == ("trust", "host_key_changed")
    assert fingerprint(foreign) in dialog.placeholders["fingerprints"]
    assert all(part in words(dialog) for part in (fingerprint(known), fingerprint(foreign), "do not continue"))
    assert entry.data["host_keys"] == [known]
    assert told == []


@pytest.mark.parametrize("name", ["address", "paste"])
async def test_another_key_than_the_known_one_is_not_shown_like_a_first_one_by_any_way_to_the_address(
    hass: HomeAssistant, between: Between, name: str
) -> None:
    entry = entry_of(between.real, port=between.port)
    entry.add_to_hass(hass)
    between.passes = lambda _: False
    typed = f"anna@127.0.0.1:{between.port}"
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=f"anna@127.0.0.1:{between.own.port}")
    assert dialog.at == ("trust", None), "nobody is known there"
    dialog = await Dialog(hass).begin(name)
    await dialog.submit(**({"addresses": typed} if name == "paste" else {"address": typed}))
    assert dialog.at == ("trust", "host_key_changed")
    assert fingerprint(entry.data["host_keys"][0]) in words(dialog)


async def test_the_known_key_is_asked_for_where_a_host_has_keys_of_several_types(
    hass: HomeAssistant,
    host: Machine,  # noqa: F811
) -> None:
    asked = AsyncMock(side_effect=Unreachable("nas"))
    entry = entry_of(host)
    entry.add_to_hass(hass)
    dialog = await Dialog(hass).begin("address")
    with patch(f"{CONTACT}.read_host_key", asked):
        await dialog.submit(address=f"anna@127.0.0.1:{host.port}")
        await dialog.submit(address="anna@127.0.0.1:1")
    assert [call.args[3] for call in asked.await_args_list] == [tuple(entry.data["host_keys"]), ()]
