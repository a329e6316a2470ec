"""Connections to a real OpenSSH server, and every way in which they fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import time

import asyncssh
import pytest

from custom_components.homelab_monitor.client import tcp_info
from custom_components.homelab_monitor.client.command import OUTPUT_LIMIT
from custom_components.homelab_monitor.client.errors import (
    ChannelRefused,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginRefused,
    NameNotFound,
    NotSSH,
    TimedOut,
    Unreachable,
)
from custom_components.homelab_monitor.client.keys import KeyPair, fingerprint
from custom_components.homelab_monitor.client.ssh import Connection, map_error, scan_host_keys
from custom_components.homelab_monitor.client.target import Target
from tests.fake_host import FakeHost
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd, free_port, make_host_key, processes_with, wait_for

SECONDS = 10.0
type Speaker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _open(server: Sshd | FakeHost, **changes: object) -> Connection:
    options = {"target": server.target, "key": server.key, "host_keys": server.host_keys, "timeout": SECONDS} | changes
    return await Connection.open(**options)


@asynccontextmanager
async def _listening(speaker: Speaker) -> AsyncIterator[int]:
    """Give the port of a server that is no SSH server."""
    server = await asyncio.start_server(speaker, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.close_clients()


async def _says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    await reader.readline()  # Our greeting; closing with it unread would reset the connection.
    writer.write(text)
    await writer.drain()
    writer.close()


# ---------------------------------------------------------------- it works


async def test_a_login_proves_the_pinned_key(sshd: Sshd) -> None:
    connection = await _open(sshd)
    assert (connection.host_key,) == sshd.host_keys
    assert connection.server_version.startswith("SSH-2.0-OpenSSH")
    assert not connection.closed
    await connection.close()
    assert connection.closed


async def test_round_trip_and_bytes_come_from_the_kernel(sshd: Sshd) -> None:
    needs(sys.platform == "linux", "Linux")
    connection = await _open(sshd)
    assert connection.rtt_seconds is not None
    assert 0 < connection.rtt_seconds < 0.1
    before = connection.bytes_received
    assert before is not None
    assert connection.bytes_sent is not None
    await connection.run("head -c 50000 /dev/zero", timeout=SECONDS)
    after = connection.bytes_received
    assert after is not None
    assert 50_000 < after - before < 60_000
    await connection.close()
    assert connection.rtt_seconds is None


async def test_a_command_gives_output_errors_and_status(sshd: Sshd) -> None:
    connection = await _open(sshd)
    result = await connection.run("cat; echo wrong >&2; exit 3", stdin=b"given", timeout=SECONDS)
    assert (result.stdout, result.stderr, result.exit_status, result.truncated) == ("given", "wrong\n", 3, False)
    result = await connection.run("kill -9 $$", timeout=SECONDS)
    assert (result.exit_status, result.signal) == (None, "KILL")
    await connection.close()


async def test_a_long_output_is_cut_and_the_command_still_ends(sshd: Sshd) -> None:
    connection = await _open(sshd)
    result = await connection.run("head -c 5000000 /dev/zero | tr '\\0' x; echo done >&2", timeout=SECONDS)
    assert len(result.stdout) == OUTPUT_LIMIT
    assert result.truncated
    assert (result.stderr, result.exit_status) == ("done\n", 0)
    await connection.close()


async def test_a_command_that_takes_too_long_is_given_up(sshd: Sshd) -> None:
    connection = await _open(sshd)
    with pytest.raises(TimedOut):
        await connection.run("sleep 2", timeout=0.3)
    assert (await connection.run("echo still here", timeout=SECONDS)).stdout == "still here\n"
    await connection.close()


async def test_a_command_that_is_given_up_is_ended(make_sshd: Callable[..., Sshd]) -> None:
    # sshd passes no signal on to processes of root (session.c: "requires privilege separation").
    needs(IS_ROOT, "root, for an account that is not root")
    server = make_sshd(shells={"plain": "/bin/sh"})
    connection = await _open(server, target=server.target_for("plain"))
    with pytest.raises(TimedOut):
        await connection.run("exec sleep 31.4159", timeout=0.3)
    await wait_for(lambda: not processes_with("31.4159"))
    await connection.close()


async def test_commands_share_the_connection(sshd: Sshd) -> None:
    connection = await _open(sshd)
    started = time.monotonic()
    results = await asyncio.gather(*(connection.run(f"sleep 0.5; echo {n}", timeout=SECONDS) for n in range(8)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(8)]
    assert time.monotonic() - started < 3
    await connection.close()


async def test_a_refused_channel_gets_one_more_connection(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd("MaxSessions 1")
    connection = await _open(server)
    first = asyncio.create_task(connection.run("sleep 1; echo first", timeout=SECONDS))
    await asyncio.sleep(0.3)
    assert (await connection.run("echo second", timeout=SECONDS)).stdout == "second\n"
    assert (await first).stdout == "first\n"
    await connection.close()


@pytest.mark.parametrize("asks_interactively", [False, True])
async def test_a_password_logs_in_once(fake_host: FakeHost, asks_interactively: bool) -> None:
    fake_host.password = "canary-right"
    fake_host.asks_interactively = asks_interactively
    options = {"timeout": SECONDS, "host_keys": fake_host.host_keys}
    connection = await Connection.open_with_password(fake_host.target, "canary-right", **options)
    assert "canary" not in repr(vars(connection))
    await connection.close()
    with pytest.raises(LoginRefused) as caught:
        await Connection.open_with_password(fake_host.target, "canary-wrong", **options)
    assert "canary" not in str(caught.value)


async def test_the_keys_that_the_server_proves_are_added(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    (server.folder / "second").mkdir()
    make_host_key(server.folder / "second", "ecdsa")
    other = server.folder / "second" / "host"
    server.stop()
    server.extra = f"HostKey {other}"
    server.start()
    connection = await _open(server)
    await connection.run("true", timeout=SECONDS)
    second = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    assert connection.host_keys == (*server.host_keys, second)
    await connection.close()


async def test_the_gate_limits_handshakes_and_its_queue_is_not_timed(fake_host: FakeHost) -> None:
    gate = asyncio.Semaphore(1)
    async with gate:
        waiting = asyncio.create_task(_open(fake_host, gate=gate, timeout=1.0))
        await asyncio.sleep(1.2)
        assert fake_host.logins == 0
    connection = await waiting
    await connection.close()


# ---------------------------------------------------------------- it fails, and says why


async def test_a_closed_port_is_refused() -> None:
    with pytest.raises(ConnectionRefused) as caught:
        await scan_host_keys("127.0.0.1", free_port(), SECONDS)
    assert caught.value.key == "connection_refused"


async def test_a_foreign_key_is_refused(sshd: Sshd) -> None:
    with pytest.raises(KeyRefused):
        await _open(sshd, key=KeyPair.generate())


async def test_a_foreign_user_is_refused(sshd: Sshd) -> None:
    with pytest.raises(KeyRefused):
        await _open(sshd, target=Target("no-such-user", "127.0.0.1", sshd.port))


async def test_too_many_tries_count_as_refused(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd("MaxAuthTries 1")
    with pytest.raises(KeyRefused):
        await _open(server, key=KeyPair.generate())


async def test_a_changed_host_key_is_never_accepted(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    pinned = server.host_keys
    server.stop()
    server.new_host_key()
    server.start()
    with pytest.raises(HostKeyChanged) as caught:
        await _open(server, host_keys=pinned)
    assert caught.value.placeholders["expected"] == fingerprint(pinned[0])
    assert caught.value.placeholders["offered"] == fingerprint(server.host_keys[0])
    assert "Accepted publickey" not in server.log


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
async def test_a_host_key_of_another_type_is_a_changed_one(make_sshd: Callable[..., Sshd], kind: str) -> None:
    server = make_sshd(kind=kind)
    pinned = KeyPair.generate().public_openssh
    with pytest.raises(HostKeyChanged) as caught:
        await _open(server, host_keys=(pinned,))
    assert caught.value.placeholders["expected"] == fingerprint(pinned)
    assert caught.value.placeholders["offered"] == fingerprint(server.host_keys[0])
    assert await scan_host_keys("127.0.0.1", server.port, SECONDS) == server.host_keys


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
async def test_other_key_types_can_be_pinned(make_sshd: Callable[..., Sshd], kind: str) -> None:
    server = make_sshd(kind=kind)
    connection = await _open(server, host_keys=(KeyPair.generate().public_openssh, *server.host_keys))
    assert (connection.host_key,) == server.host_keys
    await connection.close()


@pytest.mark.parametrize("host_keys", [(), ("",), ("ssh-ed25519 AAAA",), ("# a comment",)])
async def test_without_a_pinned_key_nothing_is_trusted(sshd: Sshd, host_keys: tuple[str, ...]) -> None:
    with pytest.raises(HostKeyChanged) as caught:
        await _open(sshd, host_keys=host_keys)
    assert caught.value.placeholders["offered"] == fingerprint(sshd.host_keys[0])


async def test_a_server_that_shows_the_pinned_key_without_having_it_gets_no_login() -> None:
    logins: list[str] = []

    class Impostor(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            logins.append(username)
            return False

    theirs, (own,) = (
        asyncssh.generate_private_key("ssh-ed25519"),
        asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")]),
    )
    own.public_data = theirs.public_data
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Impostor, server_host_keys=[own])
    pinned = (theirs.export_public_key().decode().strip(),)
    target = Target("mon", "127.0.0.1", server.get_port())
    try:
        assert await scan_host_keys(target.host, target.port, SECONDS) == pinned, "all that a shown key says"
        with pytest.raises(NotSSH):
            await Connection.open(target, KeyPair.generate(), pinned, timeout=SECONDS)
    finally:
        server.close()
    assert logins == []


async def test_a_server_without_a_common_algorithm_is_not_a_changed_one(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd("Ciphers 3des-cbc")
    for _ in range(10):
        with pytest.raises(NotSSH) as caught:
            await _open(server)
        # Its own list names the ciphers, unless the reset overtakes it.
        assert "encryption algorithm" in caught.value.detail or "no algorithm in common" in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", b"\x00" * 20_000, b"SSH-1.5-old\r\n", b"SSH-2.0-\xff\xfe\r\n"],
    ids=["http", "no newline", "protocol 1", "not ascii"],
)
async def test_another_service_is_no_ssh_server(text: bytes) -> None:
    async with _listening(lambda reader, writer: _says(reader, writer, text)) as port:
        with pytest.raises(NotSSH):
            await scan_host_keys("127.0.0.1", port, SECONDS)
        with pytest.raises(NotSSH):
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=SECONDS)


async def test_a_server_that_hangs_up_at_once_lost_the_connection() -> None:
    async with _listening(lambda reader, writer: _says(reader, writer, b"")) as port:
        with pytest.raises(ConnectionLost) as caught:
            await scan_host_keys("127.0.0.1", port, SECONDS)
    assert "without an SSH greeting" in caught.value.detail


async def test_random_bytes_after_the_greeting_are_no_ssh() -> None:
    for seed in range(20):
        noise = b"SSH-2.0-x\r\n" + os.urandom(50 + 50 * seed)
        async with _listening(lambda reader, writer, noise=noise: _says(reader, writer, noise)) as port:
            with pytest.raises((NotSSH, ConnectionLost)):
                await scan_host_keys("127.0.0.1", port, SECONDS)


async def test_a_silent_server_times_out_and_says_when() -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with _listening(silence) as port:
        with pytest.raises(TimedOut) as caught:
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=0.3)
    assert "SSH greeting" in caught.value.detail


async def test_a_host_that_drops_packets_times_out_and_says_when() -> None:
    # A listener with a full queue drops them: whoever comes next hears nothing.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(TimedOut) as caught:
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=0.3)
        assert "while connecting" in caught.value.detail
        for task in waiting:
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, BaseException):
                result[1].close()


async def test_a_handshake_that_breaks_once_is_a_lost_connection_and_no_changed_key(sshd: Sshd) -> None:
    attempts = 0

    async def breaks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await _says(reader, writer, b"SSH-2.0-x\r\n")
            return
        there, back = await asyncio.open_connection("127.0.0.1", sshd.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with _listening(breaks_first) as port:
        with pytest.raises(ConnectionLost):
            await _open(sshd, target=Target(sshd.target.username, "127.0.0.1", port))
    assert attempts == 4


async def test_a_frozen_server_times_out(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    connection = await _open(server)
    server.suspend()
    try:
        with pytest.raises(TimedOut):
            await _open(server, timeout=0.5)
        with pytest.raises(TimedOut):
            await connection.run("true", timeout=0.5)
        started = time.monotonic()
        await connection.close()
        assert time.monotonic() - started < 5
    finally:
        server.suspend(suspended=False)


async def test_a_dropped_connection_ends_the_command(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    connection = await _open(server)
    running = asyncio.create_task(connection.run("sleep 60", timeout=SECONDS))
    await asyncio.sleep(0.3)
    server.kill_sessions()
    with pytest.raises(ConnectionLost):
        await running
    assert connection.closed
    with pytest.raises(ConnectionLost):
        await connection.run("true", timeout=SECONDS)


async def test_a_server_that_runs_nothing_is_told_apart(fake_host: FakeHost) -> None:
    connection = await _open(fake_host)
    fake_host.refuses_channels = True
    with pytest.raises(ChannelRefused):
        await connection.run("true", timeout=SECONDS)
    await connection.close()


async def test_a_password_login_has_no_second_connection(fake_host: FakeHost) -> None:
    fake_host.password = "canary"
    options = {"timeout": SECONDS, "host_keys": fake_host.host_keys}
    connection = await Connection.open_with_password(fake_host.target, "canary", **options)
    fake_host.refuses_channels = True
    with pytest.raises(ChannelRefused):
        await connection.run("true", timeout=SECONDS)
    assert fake_host.logins == 1
    await connection.close()


async def test_a_command_that_is_cancelled_while_it_starts_leaves_the_connection(sshd: Sshd) -> None:
    connection = await _open(sshd)
    for milliseconds in (0, 0.2, 0.5, 1, 2, 5):
        running = asyncio.create_task(connection.run("true", timeout=SECONDS))
        await asyncio.sleep(milliseconds / 1000)
        running.cancel()
        await asyncio.wait([running])
    assert (await connection.run("echo fine", timeout=SECONDS)).stdout == "fine\n"
    await connection.close()


def test_a_system_without_tcp_info_tells_nothing() -> None:
    closed = socket.socket()
    closed.close()
    for connected in (None, closed):
        assert tcp_info.rtt_seconds(connected) is None
        assert tcp_info.bytes_sent(connected) is None
        assert tcp_info.bytes_received(connected) is None


def test_a_name_without_an_address_is_not_found() -> None:
    # In a process of its own: the test harness forbids to ask for names.
    program = """
import asyncio, sys
from client.ssh import scan_host_keys
from client.errors import NameNotFound
for name in ("no-such-host.invalid", "a" * 70):
    try:
        asyncio.run(scan_host_keys(name, 22, 20))
    except NameNotFound as err:
        print(err.key)
"""
    folder = Path(__file__).parents[2] / "custom_components" / "homelab_monitor"
    shown = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True, text=True)
    assert shown.stdout.split() == ["name_not_found", "name_not_found"]


@pytest.mark.parametrize(
    ("err", "kind"),
    [
        (OSError(113, "No route to host"), Unreachable),
        (OSError(101, "Network is unreachable"), Unreachable),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed (1), [Errno 111] Connect call failed (2)"),
         ConnectionRefused),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed (1), [Errno 113] no route (2)"), Unreachable),
        (UnicodeEncodeError("idna", "x", 0, 1, "label too long"), NameNotFound),
        (ConnectionResetError(104, "reset"), ConnectionLost),
        (TimeoutError(), TimedOut),
        (asyncssh.ServiceNotAvailable("x"), ConnectionLost),
        (asyncssh.MACError("x"), NotSSH),
        (ValueError("x"), NotSSH),
        (KeyRefused("nas"), KeyRefused),
    ],
)  # fmt: skip
def test_what_cannot_be_staged_is_mapped(err: Exception, kind: type[HomelabError]) -> None:
    assert type(map_error("nas", err)) is kind


# ---------------------------------------------------------------- and leaves nothing behind


async def test_a_cancelled_login_leaves_nothing(fake_host: FakeHost) -> None:
    cancelled = 0
    for milliseconds in (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 20):
        opening = asyncio.create_task(_open(fake_host))
        await asyncio.sleep(milliseconds / 1000)
        opening.cancel()
        try:
            await (await opening).close()
        except asyncio.CancelledError:
            cancelled += 1
    assert cancelled >= 3
    await wait_for(lambda: not fake_host.connections)


async def test_nothing_of_the_users_ssh_folder_is_read(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").write_text("Host *\n  ProxyCommand touch %d/was-here\n  Port 1\n  User nobody\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {KeyPair.generate().public_openssh}\n")
    key = KeyPair.generate()
    (folder / "id_ed25519").write_text(key.private_openssh)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    connection = await _open(sshd)
    await connection.close()
    assert await scan_host_keys("127.0.0.1", sshd.port, SECONDS) == sshd.host_keys
    assert not (tmp_path / ".ssh" / "was-here").exists()
    # The key in that folder is one that the server would accept: it must not have been offered.
    with (sshd.folder / "authorized_keys").open("a") as authorized:
        authorized.write(f"{key.public_openssh} poison\n")
    with pytest.raises(KeyRefused):
        await _open(sshd, key=KeyPair.generate())
    # A known_hosts file that knows the server must not help either.
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_keys[0]}\n")
    with pytest.raises(HostKeyChanged):
        await _open(sshd, host_keys=())


def test_a_user_without_a_name_can_connect(sshd: Sshd) -> None:
    needs(IS_ROOT and shutil.which("setpriv"), "root and setpriv, to become a user without a name")
    program = """
import asyncio, sys
from client.ssh import scan_host_keys
print(*asyncio.run(scan_host_keys("127.0.0.1", int(sys.argv[1]), 20)))
"""
    folder = Path(__file__).parents[2] / "custom_components" / "homelab_monitor"
    unnamed = ["env", "-u", "LOGNAME", "-u", "USER", "-u", "LNAME", "-u", "USERNAME", "HOME=/nonexistent"]
    # Capabilities are kept, so that an interpreter in root's home can be read.
    unnamed += [
        "setpriv",
        "--reuid",
        "54321",
        "--clear-groups",
        "--inh-caps",
        "+dac_override",
        "--ambient-caps",
        "+dac_override",
    ]
    command = [*unnamed, sys.executable, "-c", program, str(sshd.port)]
    shown = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True)
    assert shown.stdout.strip() == sshd.host_keys[0], shown.stderr
