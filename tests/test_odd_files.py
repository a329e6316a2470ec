"""Files of ours that somebody has edited, restored from elsewhere or written with another version."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path
import struct
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.settings import HostAddress, HostOptions
from custom_components.homelab_monitor.store import _KEY, KEY_STORAGE_KEY, async_get_key

from .scripted import HOST_ID, Host, make_entry

REAL = {name: getattr(Store, name) for name in ("_async_load", "_async_write_data", "async_remove")}
"""What the test harness replaces, so that nothing is written."""


@pytest.fixture
def storage(hass: HomeAssistant, tmp_path: Path) -> Iterator[Path]:
    """Return the folder of Home Assistant's storage, on a real disk."""
    hass.config.config_dir = str(tmp_path)
    folder = tmp_path / ".storage"
    folder.mkdir()
    with patch.multiple(Store, **REAL):
        yield folder


def modes(folder: Path) -> dict[str, int]:
    """Return the rights on each of our files."""
    return {path.name: path.lstat().st_mode & 0o777 for path in folder.glob(f"{DOMAIN}.*")}


# ---------------------------------------------------------------- the key


def _packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _openssh(cipher: bytes, public: bytes, private: bytes) -> str:
    """Return a private key file of OpenSSH (PROTOCOL.key)."""
    blob = b"openssh-key-v1\0" + _packed(cipher, b"none" if cipher == b"none" else b"bcrypt", b"")
    blob += struct.pack(">I", 1) + _packed(public, private)
    armour = "-----{} OPENSSH PRIVATE KEY-----"
    return f"{armour.format('BEGIN')}\n{b64encode(blob).decode()}\n{armour.format('END')}\n"


def _token_key() -> str:
    """Return a key whose other half is in a token."""
    public = _packed(b"sk-ssh-ed25519@openssh.com", b"A" * 32, b"ssh:")
    private = struct.pack(">II", 1, 1) + public + b"\1" + _packed(b"kh", b"", b"c")
    return _openssh(b"none", public, private + bytes(range(1, 1 + -len(private) % 8)))


def _encrypted_key() -> str:
    protection = BestAvailableEncryption(b"a password")
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection).decode()


KEYS: dict[str, Any] = {
    "number": 7,
    "null": None,
    "yes": True,
    "list": ["a key"],
    "dict": {"a": "key"},
    "text": "a key\x1b[31m",
    "token": _token_key(),
    "cipher": _openssh(b"chacha20-poly1305@openssh.com", _packed(b"ssh-ed25519", b"A" * 32), b"B" * 64),
    "encrypted": _encrypted_key(),
    "cut": KeyPair.generate().private_openssh[:200],
}
KEY_FILES: dict[str, Any] = {
    "version 2": {"version": 2, "data": {"private_key": "x"}},
    "version 0": {"version": 0, "data": {"private_key": "x"}},
    "no version": {"data": {"private_key": "x"}},
    "version as text": {"version": "1", "data": {"private_key": "x"}},
    "no data": {"version": 1},
    "list": ["x"],
    "text": "x",
    "number": 7,
    "data is a list": {"version": 1, "data": ["x"]},
    "data is a text": {"version": 1, "data": "x"},
} | {name: {"version": 1, "data": {"private_key": key}} for name, key in KEYS.items()}


@pytest.mark.parametrize("content", KEY_FILES.values(), ids=list(KEY_FILES))
async def test_whatever_is_in_the_keys_file_it_is_moved_aside_and_a_key_is_made(
    hass: HomeAssistant, storage: Path, content: object, caplog: pytest.LogCaptureFixture
) -> None:
    (storage / KEY_STORAGE_KEY).write_text(json.dumps(content))
    (storage / KEY_STORAGE_KEY).chmod(0o644)
    key = await async_get_key(hass)
    assert modes(storage) == {KEY_STORAGE_KEY: 0o600, f"{KEY_STORAGE_KEY}.unreadable": 0o600}
    aside = json.loads((storage / f"{KEY_STORAGE_KEY}.unreadable").read_text())
    assert aside == content or aside["data"] == content["data"]
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(told) == 1
    assert told[0].isprintable()
    del hass.data[_KEY]
    assert await async_get_key(hass) == key


@pytest.mark.parametrize("mode", [0o644, 0o600])
async def test_a_link_to_a_key_is_not_followed_and_that_is_said(
    hass: HomeAssistant, storage: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    other, elsewhere = KeyPair.generate(), tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"version": 1, "data": {"private_key": other.private_openssh}}))
    elsewhere.chmod(mode)
    (storage / KEY_STORAGE_KEY).symlink_to(elsewhere)
    key = await async_get_key(hass)
    assert key != other
    assert caplog.text.count("a link, which is not followed") == 1
    assert elsewhere.stat().st_mode & 0o777 == mode
    assert other.private_openssh in json.loads(elsewhere.read_text())["data"]["private_key"]
    assert not (storage / KEY_STORAGE_KEY).is_symlink()
    assert (storage / f"{KEY_STORAGE_KEY}.unreadable").readlink() == elsewhere
    del hass.data[_KEY]
    assert await async_get_key(hass) == key


# ---------------------------------------------------------------- a host's store


async def stored(hass: HomeAssistant, host: Host, storage: Path) -> Path:
    """Return the file of a host that was set up and unloaded."""
    await host.start()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    return storage / f"{DOMAIN}.{host.entry.entry_id}"


HOST_FILES: dict[str, dict[str, Any]] = {
    "version 2": {"version": 2},
    "version 0": {"version": 0},
    "version as text": {"version": "1"},
    "data is a list": {"data": [1]},
    "data is a text": {"data": "x"},
    "no snapshot": {"data": {}},
}


@pytest.mark.parametrize("change", HOST_FILES.values(), ids=list(HOST_FILES))
async def test_a_store_that_means_nothing_is_set_aside_and_the_host_is_there(
    hass: HomeAssistant, host: Host, storage: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    file = await stored(hass, host, storage)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    file.chmod(0o644)
    await host.start_again()
    assert host.entry.state is ConfigEntryState.LOADED
    assert host.status == "online"
    assert modes(storage)[f"{file.name}.unreadable"] == 0o600
    aside = json.loads((storage / f"{file.name}.unreadable").read_text())
    assert aside["data"] == change.get("data", aside["data"])
    assert caplog.text.count("cannot be read") == 1
    assert await hass.config_entries.async_remove(host.entry.entry_id)
    assert [name for name in modes(storage) if host.entry.entry_id in name] == []


@pytest.mark.parametrize("chosen", [[["a"]], [{"a": 1}], [1, None], {"a": 1}, 7, None, "eth0"])
async def test_interfaces_that_are_no_texts_are_left_out(
    hass: HomeAssistant, host: Host, storage: Path, chosen: object
) -> None:
    file = await stored(hass, host, storage)
    content = json.loads(file.read_text())
    content["data"] |= {"chosen_interfaces": chosen, "upgrade": chosen, "upgrade_started": chosen, "last_test": chosen}
    file.write_text(json.dumps(content))
    await host.start_again()
    assert host.state("sensor.plain_memory_usage") != "unavailable"


async def test_a_hosts_store_is_for_nobody_else(hass: HomeAssistant, host: Host, storage: Path) -> None:
    file = await stored(hass, host, storage)
    assert modes(storage)[file.name] == 0o600
    names = [file.name, f"{file.name}.unreadable", f"{file.name}.corrupt.2026-01-01T00:00:00+00:00"]
    for name in names:
        (storage / name).write_text(file.read_text())
        (storage / name).chmod(0o644)
    await host.start_again()
    assert {modes(storage)[name] for name in names} == {0o600}
    await host.entry.runtime_data.store.async_save()
    assert modes(storage)[file.name] == 0o600


# ---------------------------------------------------------------- an entry

ODD: tuple[object, ...] = (None, 7, "x", ["x"], [1, None], {"a": 1}, True, 1e300)


def odd_entry(part: str, name: str, value: object) -> MockConfigEntry:
    """Return the host's entry with one odd value."""
    entry = make_entry()
    content = {"data": dict(entry.data), "options": dict(entry.options)}
    content[part][name] = value
    return MockConfigEntry(domain=DOMAIN, title="plain", unique_id=HOST_ID, **content)


@pytest.mark.parametrize("value", ODD, ids=str)
def test_no_value_of_an_entry_keeps_it_from_being_read(value: object) -> None:
    data, options = HostAddress.from_data(make_entry().data), HostOptions()
    for name in data.as_data():
        HostAddress.from_data(data.as_data() | {name: value})
    for name in HostOptions.__dataclass_fields__:
        read = HostOptions.from_options({name: value})
        assert type(getattr(read, name)) in {type(getattr(options, name)), int, float}
        assert read.stale_after > 0
    no_key = HostAddress.from_data(data.as_data() | {"host_keys": None})
    assert (no_key.host_keys, no_key.confirmed_keys) == ((), ())
    assert no_key.is_same(no_key)
    assert not no_key.is_same(data)
    assert not no_key.is_same(replace(no_key, host_id="another"))


@pytest.mark.parametrize(("part", "name"), [("data", "host_keys"), ("data", "port"), ("options", "services")])
async def test_a_host_whose_entry_holds_an_odd_value_is_there(
    hass: HomeAssistant, host: Host, part: str, name: str
) -> None:
    host.entry = odd_entry(part, name, None)
    await host.start()
    assert host.status == "online"


@pytest.mark.parametrize("name", ["host", "username", "host_id"])
async def test_an_entry_that_names_no_machine_says_so_and_contacts_nobody(
    hass: HomeAssistant, host: Host, hass_client: ClientSessionGenerator, name: str
) -> None:
    host.entry = odd_entry("data", name, None)
    host.entry.add_to_hass(hass)
    assert not await hass.config_entries.async_setup(host.entry.entry_id)
    assert host.entry.state is ConfigEntryState.SETUP_ERROR
    assert host.entry.error_reason_translation_key == "no_address"
    assert host.session.asked == []
    assert (await get_diagnostics_for_config_entry(hass, hass_client, host.entry))["status"] == "setup_error"
    assert await hass.config_entries.async_remove(host.entry.entry_id)


@pytest.mark.parametrize("content", [{"version": 2}, {"version": 0}, {"data": [1]}, {"data": {}}], ids=str)
async def test_diagnostics_of_an_entry_of_a_later_version_change_nothing(
    hass: HomeAssistant, host: Host, hass_client: ClientSessionGenerator, storage: Path, content: dict[str, Any]
) -> None:
    file = await stored(hass, host, storage)
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    before = file.read_text()
    hass.config_entries.async_update_entry(
        host.entry, version=2, data={"hosts": [1]}, options={"services": 7, "sudo": None, "interval": "often"}
    )
    assert not await hass.config_entries.async_setup(host.entry.entry_id)
    assert host.entry.state is ConfigEntryState.MIGRATION_ERROR
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert (found["status"], found["entry"]["version"]) == ("migration_error", "2.1")
    assert file.read_text() == before
    assert f"{file.name}.unreadable" not in modes(storage)
