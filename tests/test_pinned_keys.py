"""The pinned host keys of monitored hosts: what older entries hold, and what polls change."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock, patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
import pytest

from custom_components.homelab_monitor.capability import async_connect, async_test_host
from custom_components.homelab_monitor.client.errors import HostKeyChanged
from custom_components.homelab_monitor.client.tracking.identity import host_id
from custom_components.homelab_monitor.client.transport.keys import KeyPair, fingerprint
from custom_components.homelab_monitor.client.transport.target import Target
from custom_components.homelab_monitor.flow.connection import HostContact
from custom_components.homelab_monitor.settings import HostAddress

from .dropbear import Dropbear, make_dropbear  # noqa: F401
from .real_host import RealHost
from .scripted import Host
from .sshd import Sshd, make_host_key, make_sshd  # noqa: F401

FOREIGN = " ".join(KeyPair.generate().public_openssh.split()[:2])
FOREIGN_RSA = "ssh-rsa AAAA"


def more_keys(server: Sshd, *kinds: str) -> list[str]:
    """Give a server more host keys; return their lines."""
    server.stop()
    lines = []
    for kind in kinds:
        (server.folder / kind).mkdir()
        make_host_key(server.folder / kind, kind)
        lines.append(" ".join((server.folder / kind / "host.pub").read_text().split()[:2]))
    server.extra += "".join(f"\nHostKey {server.folder}/{kind}/host" for kind in kinds)
    server.start()
    return lines


def keys_of(host: RealHost) -> list[str]:
    return host.entry.data["host_keys"]


def pin(host: RealHost, *keys: str, **data: object) -> None:
    """Let the entry hold these keys before it is set up."""
    host.entry = type(host.entry)(
        domain=host.entry.domain,
        title=host.entry.title,
        unique_id=host.entry.unique_id,
        data=host.entry.data | {"host_keys": list(keys)} | data,
        options=dict(host.entry.options),
    )


pytestmark = pytest.mark.usefixtures("socket_enabled")


async def test_the_first_login_of_an_older_entry_drops_what_its_host_does_not_prove(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd()
    others = more_keys(server, "ecdsa", "rsa")
    host = RealHost(hass, server)
    pin(host, FOREIGN, *server.host_keys, others[1], FOREIGN_RSA)
    await host.start()
    assert host.coordinator.data.status == "online"
    assert keys_of(host) == [*server.host_keys, *others]
    assert host.entry.data["host_keys_proven"] is True
    await host.stop()
    server.stop()


async def test_it_does_so_although_the_host_cannot_be_polled(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd("ForceCommand false")
    host = RealHost(hass, server)
    pin(host, FOREIGN, *server.host_keys)
    await host.start()
    assert host.coordinator.data.status != "online"
    assert keys_of(host) == list(server.host_keys)
    assert host.entry.data["host_keys_proven"] is True
    await host.stop()
    server.stop()


async def test_a_test_of_an_older_entry_keeps_what_its_login_proves_and_nothing_else(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server, stranger = make_sshd("ForceCommand false"), make_sshd()
    others = more_keys(server, "ecdsa")
    host = RealHost(hass, server)
    pin(host, FOREIGN, *server.host_keys, *stranger.host_keys)
    server.stop()
    await host.start()
    server.start()
    with patch("custom_components.homelab_monitor.sessions.async_get_key", return_value=server.key):
        report = await async_test_host(hass, host.entry)
    assert report.row("host_key").placeholders["fingerprint"] == fingerprint(server.host_keys[0])
    assert keys_of(host)[0] == server.host_keys[0]
    assert set(keys_of(host)) <= {*server.host_keys, *others}, "what is proven after that is kept, too"
    assert host.entry.data["host_keys_proven"] is True
    server.stop()
    at_that_address(stranger, server)
    state = await host.poll()
    assert state.error.key == "host_key_changed"
    assert "Accepted" not in stranger.log
    await host.stop()
    stranger.stop()


async def test_a_test_of_an_older_entry_that_proves_nothing_makes_no_key_a_proven_one(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd()
    host = RealHost(hass, server)
    pin(host, FOREIGN, *server.host_keys)
    server.stop()
    await host.start()
    with patch("custom_components.homelab_monitor.sessions.async_get_key", return_value=server.key):
        report = await async_test_host(hass, host.entry)
    assert report.row("reachable").status == "red"
    assert keys_of(host) == [FOREIGN, *server.host_keys]
    assert not HostAddress.from_data(host.entry.data).is_proven
    server.start()
    state = await host.poll()
    assert state.status == "online"
    assert keys_of(host) == list(server.host_keys)
    await host.stop()
    server.stop()


def at_that_address(stranger: Sshd, server: Sshd) -> None:
    """Let a stranger answer where the server was, who lets its user in."""
    stranger.stop()
    stranger.port = server.port
    (stranger.folder / "authorized_keys").write_text((server.folder / "authorized_keys").read_text())
    stranger.start()


async def test_a_repair_of_an_older_entry_goes_to_nobody_but_who_has_the_key_that_was_compared(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    # A command and a password for sudo would follow.
    server, stranger = make_sshd(), make_sshd()
    host = RealHost(hass, server)
    pin(host, *server.host_keys, *stranger.host_keys)
    server.stop()
    await host.start()
    at_that_address(stranger, server)
    with (
        patch("custom_components.homelab_monitor.capability.async_get_key", return_value=server.key),
        pytest.raises(HostKeyChanged),
    ):
        await async_connect(hass, host.entry, HostAddress.from_data(host.entry.data))
    assert "Accepted" not in stranger.log
    await host.stop()
    stranger.stop()


async def test_who_holds_a_dropped_key_is_not_let_in_again(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd()
    stranger = make_sshd()
    host = RealHost(hass, server)
    pin(host, *server.host_keys, *stranger.host_keys)
    await host.start()
    assert keys_of(host) == list(server.host_keys)
    # Now somebody else is at that address, whom the host's own user would let in.
    server.stop()
    at_that_address(stranger, server)
    state = await host.poll()
    assert (state.status, state.error.key) == ("offline", "host_key_changed")
    assert "Accepted" not in stranger.log
    await host.stop()
    stranger.stop()


async def test_an_entry_is_cleaned_once_and_later_no_list_changes_nothing(
    hass: HomeAssistant,
    make_dropbear: Callable[..., Dropbear],  # noqa: F811
) -> None:
    server = make_dropbear("ed25519", "rsa")
    host = RealHost(hass, server, "router")
    pin(host, FOREIGN, *server.host_keys)
    await host.start()
    assert host.coordinator.data.status == "online"
    assert keys_of(host) == [server.host_key("ed25519")]
    await host.stop()
    again = RealHost(hass, server, "router")
    pin(again, FOREIGN, *server.host_keys, host_keys_proven=True)
    await again.start()
    assert keys_of(again) == [FOREIGN, *server.host_keys]
    await again.stop()


async def test_a_host_that_may_use_a_connection_for_each_poll_has_its_keys_pinned_too(
    hass: HomeAssistant,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd()
    others = more_keys(server, "ecdsa")
    host = RealHost(hass, server, connect_each_poll=True)
    pin(host, *server.host_keys, host_keys_proven=True)
    await host.start()
    assert keys_of(host) == [*server.host_keys, *others]
    await host.stop()
    server.stop()


# ---------------------------------------------------------------- what the polls write


async def test_keys_that_a_person_confirmed_meanwhile_are_left_alone(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    confirmed = replace(HostAddress.from_data(host.entry.data), host_keys=("ssh-ed25519 AAAA",), is_proven=True)
    hass.config_entries.async_update_entry(host.entry, data={**host.entry.data, **confirmed.as_data()})
    host.session.host_keys, host.session.afresh = (FOREIGN,), False
    await host.move(30)
    assert HostAddress.from_data(host.entry.data) == confirmed


async def test_a_host_that_changes_its_keys_all_the_time_is_written_once_a_minute(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    written = []
    usual = hass.config_entries.async_update_entry

    def update(entry: object, **changes: object) -> bool:
        written.append(dt_util.utcnow())
        return usual(entry, **changes)

    monkeypatch.setattr(hass.config_entries, "async_update_entry", update)
    host.session.afresh = False
    for number in range(30):
        host.session.host_keys = (f"ssh-ed25519 {number:04}",)
        await host.move(10)
    assert 4 <= len(written) <= 6
    await host.move(70)
    assert host.entry.data["host_keys"] == list(host.session.host_keys), "the last word counts"


@pytest.fixture
def host(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> Host:
    return Host(hass, freezer)


@pytest.mark.parametrize("is_proven", [True, False])
def test_a_key_that_nobody_vouches_for_makes_no_machine_the_known_one(is_proven: bool) -> None:
    # The keys of an older entry beyond the first may have come from anybody.
    keys = ("ssh-ed25519 AAAA", "ssh-ed25519 BBBB")
    known = HostAddress(
        target=Target("mon", "192.0.2.1"), host_id=host_id(None, keys[0]), host_keys=keys, is_proven=is_proven
    )
    for key, is_it in ((keys[0], True), (keys[1], is_proven), ("ssh-ed25519 CCCC", False)):
        contact = HostContact(known.target, keys, Mock(host_key=key), asyncio.Lock())
        assert contact.is_it(known) is is_it
