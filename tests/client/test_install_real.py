"""Adding our key on real servers, each with the line that it understands: judged by a login."""

from collections.abc import Callable

import pytest

from custom_components.homelab_monitor.client.errors import KeyRefused
from custom_components.homelab_monitor.client.transport.install import install_key
from custom_components.homelab_monitor.client.transport.keys import (
    KeyPair,
    authorized_line,
    dropbear_line,
    parse_sources,
)
from custom_components.homelab_monitor.client.transport.ssh import Connection
from custom_components.homelab_monitor.client.transport.target import Target
from tests.dropbear import Dropbear, make_dropbear  # noqa: F401
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd

SECONDS = 10.0
HERE, ELSEWHERE = ("127.0.0.0/8",), ("192.0.2.7", "2001:db8::/32")


async def let_in(server: Sshd | Dropbear, target: Target, key: KeyPair) -> bool:
    """Tell whether a key is accepted."""
    try:
        connection = await Connection.open(target, key, server.host_keys, timeout=SECONDS)
    except KeyRefused:
        return False
    await connection.close()
    return True


@pytest.mark.parametrize(("sources", "is_let_in"), [((), True), (HERE, True), (ELSEWHERE, False)])
async def test_openssh_lets_the_key_in_from_the_named_addresses_alone(
    make_sshd: Callable[..., Sshd], sources: tuple[str, ...], is_let_in: bool
) -> None:
    server = make_sshd()
    key = KeyPair.generate()
    (server.folder / "authorized_keys").write_text(f"{authorized_line(key, 'home', sources)}\n")
    assert await let_in(server, server.target, key) is is_let_in


def test_a_network_is_written_as_sshd_takes_it() -> None:
    assert parse_sources(" 192.0.2.7/24,192.0.2.7\n2001:DB8::7/32 192.0.2.7/32") == (
        "192.0.2.0/24",
        "192.0.2.7",
        "2001:db8::/32",
    )
    assert parse_sources(" , ") == ()


@pytest.mark.parametrize(
    "text", ["nas.lan", "192.0.2.*", '192.0.2.7" ssh-ed25519', "!192.0.2.7", "fe80::1%';id;'", "'"]
)
def test_what_could_be_more_than_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whose text it is belongs to the library)
        parse_sources(text)


async def test_dropbear_refuses_a_key_whose_line_names_addresses(
    make_dropbear: Callable[..., Dropbear],  # noqa: F811
) -> None:
    server = make_dropbear()
    line = authorized_line(server.key, "home", HERE)
    server.authorize(line)
    assert not await let_in(server, server.target, server.key)
    assert "Bad public key options" in server.log
    server.authorize(dropbear_line(line))
    assert await let_in(server, server.target, server.key)


@pytest.mark.parametrize("before", [(), ("of OpenSSH",)])
async def test_installed_on_a_dropbear_the_key_is_let_in_and_a_second_time_changes_nothing(
    make_dropbear: Callable[..., Dropbear],  # noqa: F811
    before: tuple[str, ...],
) -> None:
    server = make_dropbear()
    key = KeyPair.generate()
    line = authorized_line(key, "home", HERE)
    other = f"{server.key.public_openssh} test"
    # Somebody may have pasted the line that OpenSSH understands.
    server.authorize(other, *[line for _ in before])
    connection = await Connection.open(server.target, server.key, server.host_keys, timeout=SECONDS)
    for _ in range(2):
        await install_key(connection, "router", line)
        lines = server.authorized_keys.read_text().splitlines()
        assert lines == [other, *[line for _ in before], dropbear_line(line)]
        assert await let_in(server, server.target, key)
    await connection.close()


@pytest.mark.parametrize("first", [(), HERE])
@pytest.mark.parametrize("second", [(), HERE])
async def test_installed_on_openssh_the_line_is_there_once_whatever_its_options(
    make_sshd: Callable[..., Sshd], first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    needs(IS_ROOT, "root, for an account of its own")
    server = make_sshd(shells={"plain": "/bin/sh"})
    target, key = server.target_for("plain"), KeyPair.generate()
    connection = await Connection.open(target, server.key, server.host_keys, timeout=SECONDS)
    await install_key(connection, "nas", authorized_line(key, "home", first))
    await install_key(connection, "nas", authorized_line(key, "home", second))
    await connection.close()
    written = (server.home("plain") / ".ssh" / "authorized_keys").read_text()
    assert written == f"{authorized_line(key, 'home', first)}\n"
