"""A login that real servers refuse: the error contains the reason as far as the protocol shows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
import time

import asyncssh
import pytest

from custom_components.homelab_monitor.client.errors import (
    ConnectionLost,
    HomelabError,
    KeyRefused,
    LoginCut,
    LoginRefused,
    LoginsLimited,
)
from custom_components.homelab_monitor.client.transport.keys import ECDSA, KeyPair
from custom_components.homelab_monitor.client.transport.login_refusal import Shown
from custom_components.homelab_monitor.client.transport.ssh import Connection
from custom_components.homelab_monitor.client.transport.target import Target
from tests.between import Between
from tests.dropbear import Dropbear, make_dropbear  # noqa: F401
from tests.fake_host import FakeHost
from tests.machine import Machine, make_machine  # noqa: F401
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd

SECONDS = 20.0
TWO_FACTORS = """\
KbdInteractiveAuthentication yes
AuthenticationMethods publickey,keyboard-interactive"""

type MakeSshd = Callable[..., Sshd]


async def denied(
    server: Sshd | Machine | Dropbear | FakeHost, target: Target, key: KeyPair | None = None
) -> HomelabError:
    """Return why a login is denied."""
    with pytest.raises(HomelabError) as caught:
        await Connection.open(target, key or server.key, server.host_keys, timeout=SECONDS)
    return caught.value


@pytest.fixture(autouse=True)
def sockets(socket_enabled: None) -> None:
    """Let the tests speak to their servers."""


@pytest.fixture
def with_ecdsa() -> KeyPair:
    """Return a key pair that has one of the type ECDSA beside it."""
    return replace(KeyPair.generate(), beside=KeyPair.generate(ECDSA))


# ---------------------------------------------------------------- what OpenSSH shows


async def test_a_second_factor_is_named_when_the_key_is_accepted(make_sshd: MakeSshd) -> None:
    server = make_sshd(first=TWO_FACTORS)
    err = await denied(server, server.target)
    assert (err.key, err.placeholders["methods"]) == ("second_factor", "keyboard-interactive")
    assert "Accepted key" in server.log
    assert (await denied(server, server.target, KeyPair.generate())).key == "key_refused"


async def test_two_keys_are_a_second_factor_as_well(make_sshd: MakeSshd) -> None:
    server = make_sshd("AuthenticationMethods publickey,publickey")
    err = await denied(server, server.target)
    assert (err.key, err.placeholders["methods"]) == ("second_factor", "publickey")


@pytest.mark.parametrize(
    ("config", "methods"),
    [
        ("PubkeyAuthentication no\nPasswordAuthentication yes", "password"),
        ("PasswordAuthentication yes\nAuthenticationMethods password", "password"),
        (
            "KbdInteractiveAuthentication yes\nAuthenticationMethods keyboard-interactive,publickey",
            "keyboard-interactive",
        ),
    ],
)
async def test_a_server_that_offers_no_login_with_a_key_is_named(
    make_sshd: MakeSshd, config: str, methods: str
) -> None:
    server = make_sshd(first=config)
    err = await denied(server, server.target)
    assert (err.key, err.placeholders["methods"]) == ("publickey_not_offered", methods)


async def test_a_user_who_is_refused_after_the_key_was_accepted_is_named(make_sshd: MakeSshd) -> None:
    needs(IS_ROOT, "root, as whom it logs in")
    server = make_sshd("PermitRootLogin no")
    assert (await denied(server, server.target)).key == "account_refused"
    assert "ROOT LOGIN REFUSED" in server.log


@pytest.mark.parametrize("config", ["AllowUsers somebody", "DenyUsers plain", "AllowGroups nobody"])
async def test_a_user_who_is_refused_before_looks_like_a_key_that_nobody_knows(
    make_sshd: MakeSshd, config: str
) -> None:
    needs(IS_ROOT, "root, for an account of its own")
    server = make_sshd(config, shells={"plain": "/bin/sh"})
    err = await denied(server, server.target_for("plain"))
    assert type(err) is KeyRefused
    assert "not allowed because" in server.log


async def test_a_home_that_others_can_write_to_looks_the_same(make_sshd: MakeSshd) -> None:
    needs(IS_ROOT, "root, for an account of its own")
    server = make_sshd(first="StrictModes yes\nAuthorizedKeysFile .ssh/authorized_keys", shells={"plain": "/bin/sh"})
    home = server.home("plain")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_text(server.key.public_openssh)
    home.chmod(0o777)
    assert type(await denied(server, server.target_for("plain"))) is KeyRefused
    assert "bad ownership or modes" in server.log


async def test_an_account_that_is_locked_looks_the_same(make_machine: Callable[..., Machine]) -> None:  # noqa: F811
    machine = make_machine()
    machine.add_user("mon")
    machine.run("usermod", "-L", "mon")
    assert type(await denied(machine, machine.target_for("mon"))) is KeyRefused


async def test_what_is_said_to_an_account_that_has_expired_is_quoted(
    make_machine: Callable[..., Machine],  # noqa: F811
) -> None:
    machine = make_machine("UsePAM yes")
    machine.add_user("mon")
    connection = await Connection.open(machine.target_for("mon"), machine.key, machine.host_keys, timeout=SECONDS)
    await connection.close()
    machine.run("chage", "-E", "0", "mon")
    err = await denied(machine, machine.target_for("mon"))
    # PAM refuses the account, and OpenSSH hangs up: anybody in between could.
    assert (type(err), err.key) == (LoginCut, "connection_lost")
    assert "Your account has expired" in err.detail


async def test_a_machine_that_lets_nobody_in_for_now_is_quoted(
    make_machine: Callable[..., Machine],  # noqa: F811
) -> None:
    machine = make_machine("UsePAM yes\nBanner /etc/banner")
    machine.add_user("mon")
    (machine.etc / "banner").write_text("Authorized use only.\n")
    (machine.etc / "nologin").write_text("Closed for maintenance.\n")
    err = await denied(machine, machine.target_for("mon"))
    assert (type(err), err.key) == (LoginCut, "connection_lost")
    assert err.detail == "after it accepted the key, with the message: Closed for maintenance."


@pytest.mark.parametrize("how", ["fin", "rst", "flip"])
async def test_a_login_that_is_cut_at_any_moment_is_no_verdict(sshd: Sshd, how: str) -> None:
    found: list[HomelabError] = []
    for at in [*range(2, 13), *range(2, 13)]:
        async with Between(sshd.port, how, at) as between:
            try:
                connection = await Connection.open(between.target(sshd.target), sshd.key, sshd.host_keys, timeout=3)
                await connection.close()
            except HomelabError as err:
                found.append(err)
    assert found
    assert not [err for err in found if isinstance(err, KeyRefused) or err.hard]


@pytest.mark.parametrize("how", ["fin", "rst", "flip"])
async def test_a_login_that_is_cut_once_the_key_is_accepted_says_when_that_was(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async with Between(sshd.port) as between:
        between.begin_when_accepted(monkeypatch, how)
        with pytest.raises(LoginCut) as caught:
            await Connection.open(between.target(sshd.target), sshd.key, sshd.host_keys, timeout=SECONDS)
    assert (caught.value.key, caught.value.detail) == ("connection_lost", "after it accepted the key")


def packet(payload: bytes) -> bytes:
    """Return a packet in plain text (RFC 4253, 6)."""
    padding = 4 + -(len(payload) + 9) % 8
    return (len(payload) + padding + 1).to_bytes(4) + bytes((padding,)) + payload + bytes(padding)


def string(text: bytes) -> bytes:
    """Return a string as packets hold it."""
    return len(text).to_bytes(4) + text


@pytest.mark.parametrize(
    "payload",
    [
        *(b"\1" + code.to_bytes(4) + string(b"call evil") + string(b"") for code in (2, 11, 12, 14)),
        b"\1" + (2).to_bytes(4) + string(b"Too many authentication failures") + string(b""),
        b"\x14" + bytes(16) + 10 * string(b"evil") + bytes(5),
    ],
    ids=["error", "application", "too many", "denied", "OpenSSH", "key exchange"],
)
async def test_what_ends_a_login_in_plain_text_is_nobodys_word_whatever_stands_behind_it(
    sshd: Sshd, payload: bytes
) -> None:
    """Behind it come, at once, the bytes by which the server proves its host key."""
    async with Between(sshd.port, packet=packet(payload)) as between:
        target = between.target(sshd.target)
        with pytest.raises(HomelabError) as by_key:
            await Connection.open(target, sshd.key, sshd.host_keys, timeout=SECONDS)
        with pytest.raises(HomelabError) as by_password:
            await Connection.open_with_password(target, "secret", sshd.host_keys, timeout=SECONDS)
    for err in (by_key.value, by_password.value):
        assert not isinstance(err, KeyRefused | LoginRefused | LoginsLimited)
        assert "evil" not in f"{err}{err.placeholders}"
        assert not err.server_version


def test_a_server_that_found_bytes_of_ours_changed_has_not_checked_who_logs_in() -> None:
    for code, words in ((2, b"Packet corrupt"), (5, b"MAC verification failed"), (10, b"")):
        shown = Shown()
        shown.take(6, b"\6")
        shown.accept()
        shown.take(1, b"\1" + code.to_bytes(4) + len(words).to_bytes(4) + words + bytes(4))
        assert shown.error("nas", "", is_denied=False) is None


async def test_too_many_connections_are_a_limit(make_sshd: MakeSshd) -> None:
    server = make_sshd("MaxStartups 1:100:1")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    err = await denied(server, server.target)
    writer.close()
    assert isinstance(err, LoginsLimited)
    assert err.detail == "Exceeded MaxStartups"


async def test_dropbear_shows_as_much(make_dropbear: Callable[..., Dropbear]) -> None:  # noqa: F811
    server = make_dropbear()
    assert (await denied(server, server.target, KeyPair.generate())).key == "key_refused"


# ---------------------------------------------------------------- the types of keys


async def test_a_server_that_names_other_types_of_keys_does_not_take_ours(fake_host: FakeHost) -> None:
    await fake_host.stop()
    fake_host.signature_algorithms = ("ecdsa-sha2-nistp256", "rsa-sha2-512")
    await fake_host.start()
    err = await denied(fake_host, fake_host.target, KeyPair.generate())
    assert err.key == "key_type_refused"
    assert isinstance(err, KeyRefused)
    assert err.wants_ecdsa


async def test_where_not_even_ecdsa_is_named_no_other_key_would_help(fake_host: FakeHost) -> None:
    await fake_host.stop()
    fake_host.signature_algorithms = ("rsa-sha2-512", "ecdsa-sha2-nistp384")
    await fake_host.start()
    err = await denied(fake_host, fake_host.target, KeyPair.generate())
    assert (err.key, err.detail) == ("key_type_refused", "ecdsa-sha2-nistp384, rsa-sha2-512")
    assert isinstance(err, KeyRefused)
    assert not err.wants_ecdsa


async def test_a_server_that_names_only_signatures_of_rsa_has_not_named_all(
    fake_host: FakeHost, with_ecdsa: KeyPair
) -> None:
    # OpenSSH 7.4 of CentOS 7 and Debian 9: server-sig-algs is rsa-sha2-256,rsa-sha2-512, and ed25519 is taken.
    await fake_host.stop()
    fake_host.signature_algorithms, fake_host.key = ("rsa-sha2-256", "rsa-sha2-512"), with_ecdsa
    await fake_host.start()
    err = await denied(fake_host, fake_host.target, KeyPair.generate())
    assert (type(err), getattr(err, "wants_ecdsa", None)) == (KeyRefused, False)
    connection = await Connection.open(fake_host.target, with_ecdsa, fake_host.host_keys, timeout=SECONDS)
    await connection.close()


async def test_where_the_key_of_the_other_type_is_known_it_is_shown_first(
    fake_host: FakeHost, with_ecdsa: KeyPair
) -> None:
    assert with_ecdsa.beside
    await fake_host.stop()
    fake_host.signature_algorithms, fake_host.key = ("ecdsa-sha2-nistp256",), with_ecdsa.beside
    await fake_host.start()
    connection = await Connection.open(fake_host.target, with_ecdsa, fake_host.host_keys, timeout=SECONDS)
    await connection.close()
    fake_host.key = KeyPair.generate(ECDSA)
    err = await denied(fake_host, fake_host.target, with_ecdsa)
    assert isinstance(err, KeyRefused)
    assert err.wants_ecdsa, "the dialog shows the line of that key"


async def test_a_server_that_does_not_say_so_is_shown_the_other_key_when_it_refused_ours(
    make_sshd: MakeSshd, with_ecdsa: KeyPair
) -> None:
    # OpenSSH 9.2 names all types that it knows in server-sig-algs.
    server = make_sshd("PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256")
    assert with_ecdsa.beside
    (server.folder / "authorized_keys").write_text(f"{with_ecdsa.beside.public_openssh}\n{with_ecdsa.public_openssh}\n")
    connection = await Connection.open(server.target, with_ecdsa, server.host_keys, timeout=SECONDS)
    await connection.close()
    assert (await denied(server, server.target, replace(with_ecdsa, beside=None))).key in {
        "key_refused",
        "key_type_refused",
    }


async def test_a_server_in_fips_mode_is_known_by_what_it_lacks(make_sshd: MakeSshd) -> None:
    config = """\
KexAlgorithms ecdh-sha2-nistp256,ecdh-sha2-nistp384,diffie-hellman-group14-sha256
PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,rsa-sha2-256"""
    server = make_sshd(config, kind="ecdsa")
    err = await denied(server, server.target)
    assert isinstance(err, KeyRefused)
    assert err.wants_ecdsa


async def test_an_ordinary_server_is_never_shown_a_second_key_that_it_does_not_need(
    make_sshd: MakeSshd, with_ecdsa: KeyPair
) -> None:
    server = make_sshd()
    (server.folder / "authorized_keys").write_text(f"{with_ecdsa.public_openssh}\n")
    connection = await Connection.open(server.target, with_ecdsa, server.host_keys, timeout=SECONDS)
    await connection.close()
    assert "ECDSA" not in server.log
    err = await denied(server, server.target, KeyPair.generate())
    assert isinstance(err, KeyRefused)
    assert not err.wants_ecdsa


def test_what_is_said_to_all_before_the_key_was_accepted_is_no_reason() -> None:
    shown = Shown()
    shown.say("Authorized use only.")  # SSH_MSG_USERAUTH_BANNER, as `Banner` of sshd_config(5) sends it to everybody
    shown.accept()
    err = shown.error("nas", "Permission denied", is_denied=True)
    assert err is not None
    assert (err.key, err.detail) == ("account_refused", "")


def test_a_server_that_takes_no_second_key_is_one_that_takes_keys() -> None:
    shown = Shown()
    for methods in (b"publickey,password", b"password"):
        shown.take(51, b"\x33" + len(methods).to_bytes(4) + methods + b"\0")
    assert type(shown.error("nas", "Permission denied", is_denied=True)) is KeyRefused


# ---------------------------------------------------------------- a server that disconnects


class Disconnecting(asyncssh.SSHServer):
    """Ends the connection in the middle of a login."""

    def __init__(self, code: int, words: str) -> None:
        self._code, self._words = code, words
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        assert self._connection
        self._connection.disconnect(self._code, self._words)
        return True


@asynccontextmanager
async def disconnecting(tmp_path: Path, code: int, words: str) -> AsyncIterator[tuple[Target, tuple[str, ...]]]:
    """Lend a server that disconnects with these words."""
    private = asyncssh.generate_private_key("ssh-ed25519")
    listener = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[private], server_factory=lambda: Disconnecting(code, words)
    )
    try:
        yield Target("mon", "127.0.0.1", listener.get_port()), (private.export_public_key().decode().strip(),)
    finally:
        listener.close()


@pytest.mark.parametrize("code", [asyncssh.DISC_PROTOCOL_ERROR, asyncssh.DISC_BY_APPLICATION, 14, 15])
async def test_the_words_of_a_server_that_disconnects_are_reported(tmp_path: Path, code: int) -> None:
    async with disconnecting(tmp_path, code, "Your address is not\nwelcome") as (target, known):
        with pytest.raises(KeyRefused) as caught:
            await Connection.open(target, KeyPair.generate(), known, timeout=SECONDS)
    assert (caught.value.key, caught.value.detail) == ("login_disconnected", "Your address is not")


async def test_a_server_that_has_too_many_connections_is_a_limit(tmp_path: Path) -> None:
    async with disconnecting(tmp_path, asyncssh.DISC_TOO_MANY_CONNECTIONS, "Later") as (target, known):
        with pytest.raises(LoginsLimited) as caught:
            await Connection.open(target, KeyPair.generate(), known, timeout=SECONDS)
    assert caught.value.detail == "Later"


class Cut(Disconnecting):
    """Is gone in the middle of a login, without a word: it restarts, or somebody in between cuts the connection."""

    def __init__(self) -> None:
        super().__init__(0, "")

    def begin_auth(self, username: str) -> bool:
        assert self._connection
        self._connection.abort()
        return True


async def test_a_connection_that_is_cut_before_any_key_was_accepted_is_no_denial() -> None:
    # Whoever is denied four times is left alone for an hour, and a person is asked to log in again.
    private = asyncssh.generate_private_key("ssh-ed25519")
    listener = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[private], server_factory=Cut)
    known = (private.export_public_key().decode().strip(),)
    try:
        with pytest.raises(HomelabError) as caught:
            await Connection.open(
                Target("mon", "127.0.0.1", listener.get_port()), KeyPair.generate(), known, timeout=SECONDS
            )
    finally:
        listener.close()
    assert isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize("kind", [1, 6, 7, 20, 51, 53])
@pytest.mark.parametrize("content", [b"", b"\0" * 262144, b"\xff" * 262144, b"\0\0\0\1," * 52428])
def test_what_is_malformed_or_huge_is_taken_and_costs_little(kind: int, content: bytes) -> None:
    shown, started = Shown(), time.process_time()
    shown.take(kind, bytes([kind]) + content)
    assert time.process_time() - started < 0.3
