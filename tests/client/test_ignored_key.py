"""Why sshd ignores a key that is in place, as the host itself shows it to the user whom a password let in."""

from collections.abc import Callable

import pytest

from custom_components.homelab_monitor.client.errors import HomelabError, KeyRefused
from custom_components.homelab_monitor.client.transport.ignored_key import why_ignored
from custom_components.homelab_monitor.client.transport.install import install_key
from custom_components.homelab_monitor.client.transport.keys import ECDSA, KeyPair, authorized_line
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.machine import Machine, make_machine  # noqa: F401

SECONDS = 20.0
PASSWORD = "right"
FIRST = """\
PasswordAuthentication yes
StrictModes yes
AuthorizedKeysFile .ssh/authorized_keys
"""
KEY = KeyPair.generate()
LINE = authorized_line(KEY, "home")

type MakeMachine = Callable[..., Machine]


@pytest.fixture(autouse=True)
def sockets(socket_enabled: None) -> None:
    """Let the tests speak to their servers."""


async def reason(machine: Machine, line: str = LINE, key: KeyPair = KEY, user: str = "mon") -> KeyRefused | None:
    """Return why the key is ignored after it was added, as the password's connection shows it."""
    target = machine.target_for(user)
    connection = await Connection.open_with_password(target, PASSWORD, machine.host_keys, timeout=SECONDS)
    try:
        await install_key(connection, "nas", line)
        with pytest.raises(HomelabError) as caught:
            await (await Connection.open(target, key, machine.host_keys, timeout=SECONDS)).close()
        assert type(caught.value) is KeyRefused
        return await why_ignored(connection, "nas", line)
    finally:
        await connection.close()


def with_user(make_machine: MakeMachine, first: str) -> Machine:  # noqa: F811
    """Return a machine with a user who has a password."""
    machine = make_machine(first)
    machine.add_user("mon", password=PASSWORD)
    return machine


@pytest.mark.parametrize("mode", ["777", "775", "757"])
async def test_a_home_that_others_can_write_to_is_named(make_machine: MakeMachine, mode: str) -> None:  # noqa: F811
    machine = with_user(make_machine, FIRST)
    machine.run("chgrp", "root", "/home/mon")  # Debian's sshd trusts a group of which the user is the only member.
    machine.run("chmod", mode, "/home/mon")
    found = await reason(machine)
    assert found
    assert (found.key, found.placeholders["path"]) == ("key_file_writable", "/home/mon")
    machine.run("chmod", "go-w", "/home/mon")
    connection = await Connection.open(machine.target_for("mon"), KEY, machine.host_keys, timeout=SECONDS)
    await connection.close()


async def test_a_link_is_followed_to_what_others_can_write_to(make_machine: MakeMachine) -> None:  # noqa: F811
    machine = with_user(make_machine, FIRST)
    machine.run("sh", "-c", "mkdir -m 777 /home/shared && mkdir /home/mon/.ssh && chown mon: /home/mon/.ssh")
    machine.run("sh", "-c", "touch /home/shared/keys && chown mon: /home/shared/keys")
    machine.run("ln", "-s", "/home/shared/keys", "/home/mon/.ssh/authorized_keys")
    found = await reason(machine)
    assert found
    assert (found.key, found.placeholders["path"]) == ("key_file_writable", "/home/shared")


async def test_where_modes_do_not_count_they_are_not_blamed(make_machine: MakeMachine) -> None:  # noqa: F811
    config = FIRST.replace("StrictModes yes", "StrictModes no").replace(" .ssh/", " /etc/ssh/keys/%u/")
    machine = with_user(make_machine, config)
    machine.run("chmod", "777", "/home/mon")
    found = await reason(machine)
    assert found
    assert (found.key, found.placeholders["path"]) == ("key_file_elsewhere", "/etc/ssh/keys/mon/authorized_keys")


@pytest.mark.parametrize(
    ("types", "wants_ecdsa"),
    [
        ("ecdsa-sha2-nistp256,rsa-sha2-512", True),
        ("ecdsa-*,rsa-*", True),
        ("-ssh-ed25519*", True),
        ("rsa-sha2-512,rsa-sha2-256", False),
    ],
)
async def test_a_server_that_takes_no_ed25519_is_named(
    make_machine: MakeMachine,  # noqa: F811
    types: str,
    *,
    wants_ecdsa: bool,
) -> None:
    machine = with_user(make_machine, f"{FIRST}PubkeyAcceptedAlgorithms {types}")
    found = await reason(machine)
    assert found
    assert (found.key, found.wants_ecdsa) == ("key_type_refused", wants_ecdsa)
    if wants_ecdsa:
        key = KeyPair.generate(ECDSA)
        target = machine.target_for("mon")
        connection = await Connection.open_with_password(target, PASSWORD, machine.host_keys, timeout=SECONDS)
        await install_key(connection, "nas", authorized_line(key, "home"))
        await connection.close()
        await (await Connection.open(target, key, machine.host_keys, timeout=SECONDS)).close()


@pytest.mark.parametrize(
    "policy",
    [
        "Ciphers aes256-ctr\nPubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,rsa-sha2-256\n",
        "CRYPTO_POLICY='-oCiphers=aes256-ctr -oPubkeyAcceptedKeyTypes=rsa-sha2-256,ecdsa-sha2-nistp256 -oX=y'\n",
    ],
)
async def test_the_policy_of_red_hats_systems_is_read(make_machine: MakeMachine, policy: str) -> None:  # noqa: F811
    # The file of settings that includes it is root's alone there: what the server takes is set in a file we cannot see.
    machine = with_user(make_machine, FIRST + "Include /etc/ssh/sshd_config.d/*.conf")
    (machine.etc / "ssh" / "sshd_config.d").mkdir(exist_ok=True)
    secret = machine.etc / "ssh" / "sshd_config.d" / "50-redhat.conf"
    secret.write_text("PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,rsa-sha2-256\n")
    secret.chmod(0o600)
    folder = machine.etc / "crypto-policies" / "back-ends"
    folder.mkdir(parents=True)
    (folder / "opensshserver.config").write_text(policy)
    machine.stop()
    machine.start()
    found = await reason(machine)
    assert found
    assert (found.key, found.wants_ecdsa) == ("key_type_refused", True)


async def test_a_line_that_names_other_addresses_is_quoted(make_machine: MakeMachine) -> None:  # noqa: F811
    machine = with_user(make_machine, FIRST)
    found = await reason(machine, authorized_line(KEY, "home", ("192.0.2.7",)))
    assert found
    assert (found.key, found.detail) == ("key_line_limited", 'restrict,from="192.0.2.7"')


async def test_of_root_the_settings_that_count_are_asked_of_the_server(make_machine: MakeMachine) -> None:  # noqa: F811
    config = f"{FIRST}PermitRootLogin yes\nMatch User root\n  AuthorizedKeysFile /etc/ssh/roots\nMatch all"
    machine = make_machine(config)
    machine.run("chpasswd", stdin=f"root:{PASSWORD}\n")
    # Its home is this machine's.
    machine.run("sed", "-i", "s|:/root:|:/home/root:|", "/etc/passwd")
    machine.run("mkdir", "-m", "700", "/home/root")
    found = await reason(machine, user="root")
    assert found
    assert (found.key, found.placeholders["path"]) == ("key_file_elsewhere", "/etc/ssh/roots")


@pytest.mark.parametrize(
    ("for_all", "for_others"),
    [
        ("PubkeyAcceptedAlgorithms +ssh-rsa", "AuthorizedKeysFile /etc/ssh/others"),
        ("", "PubkeyAcceptedAlgorithms rsa-sha2-512"),
    ],
)
async def test_what_is_for_others_is_not_blamed(
    make_machine: MakeMachine,  # noqa: F811
    for_all: str,
    for_others: str,
) -> None:
    others = f"\nMatch User other\n  {for_others}\nMatch all\n  DenyUsers nobody"
    machine = with_user(make_machine, FIRST + for_all + others)
    target = machine.target_for("mon")
    connection = await Connection.open_with_password(target, PASSWORD, machine.host_keys, timeout=SECONDS)
    await install_key(connection, "nas", LINE)
    assert await why_ignored(connection, "nas", LINE) is None
    await connection.close()
    await (await Connection.open(target, KEY, machine.host_keys, timeout=SECONDS)).close()
