"""Connections to a real OpenSSH server, and every way in which they fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path
import re
import shutil
import socket
import string
import struct
import subprocess
import sys
import time

import asyncssh
import pytest
import pytest_socket

from custom_components.homelab_monitor.client.errors import (
    ChannelRefused,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginRefused,
    LoginsLimited,
    NameNotFound,
    NoGreeting,
    NotSSH,
    TimedOut,
    Unreachable,
)
from custom_components.homelab_monitor.client.transport import (
    prompt as question_module,
    ssh as ssh_module,
    tcp_info,
)
from custom_components.homelab_monitor.client.transport.command import OUTPUT_LIMIT, Question
from custom_components.homelab_monitor.client.transport.keys import KeyPair, fingerprint
from custom_components.homelab_monitor.client.transport.ssh import Connection, RemoteCommand, map_error, read_host_key
from custom_components.homelab_monitor.client.transport.target import Target
from tests import fake_host as fakes
from tests.between import Between
from tests.fake_host import FakeHost
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd, free_port, is_running, make_host_key, processes_with, wait_for

SECONDS = 10.0
type Speaker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _open(server: Sshd | FakeHost, **changes: object) -> Connection:
    options = {"target": server.target, "key": server.key, "host_keys": server.host_keys, "timeout": SECONDS} | changes
    return await Connection.open(**options)


@asynccontextmanager
async def _listening(speaker: Speaker) -> AsyncIterator[int]:
    """Give the port of a server that is no SSH server."""
    speaking: set[asyncio.Task[None]] = set()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaking.add(asyncio.current_task())
        await speaker(reader, writer)

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.close_clients()
        if speaking:
            _, late = await asyncio.wait(speaking, timeout=SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


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
    result = await connection.run("sh -c 'cat; echo wrong >&2; exit 3'", stdin=b"given", timeout=SECONDS)
    assert (result.stdout, result.stderr, result.exit_status, result.truncated) == ("given", "wrong\n", 3, False)
    result = await connection.run("kill -9 $$", timeout=SECONDS)
    assert (result.exit_status, result.signal) == (None, "KILL")
    await connection.close()


async def test_input_waits_for_its_cue_and_is_never_written_without(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = RemoteCommand.write
    monkeypatch.setattr(RemoteCommand, "write", lambda self, data: written.append(data) or write(self, data))
    connection = await _open(sshd)
    ask = 'sh -c \'echo no cue: yet; printf "what i" >&2; sleep 0.1; printf "s it? " >&2; cat\''
    result = await connection.run(ask, question=Question(b"what is it?", b"secret", b"secret"), timeout=SECONDS)
    assert (result.stdout, result.stderr) == ("no cue: yet\nsecret", "what is it? ")
    assert written == [b"secret"]
    # It counts on standard error only; a command that ends without it gets nothing.
    result = await connection.run("sh -c 'echo cue'", question=Question(b"cue", b"secret"), timeout=SECONDS)
    assert (result.stdout, result.exit_status, result.asked) == ("cue\n", 0, 0)
    assert written == [b"secret"]
    await connection.close()


ASKS = "sh -c 'trap : TERM; while :; do printf cue: >&2; read -r line || break; done; echo counted >&2'"
"""What sudo does: the end of its input and a signal that it can handle are failures, too."""


@pytest.mark.parametrize(("answer", "asked"), [(b"", 1), (b"wrong\n", 2)])
async def test_a_command_that_asks_once_more_is_killed_where_it_waits(
    make_sshd: Callable[..., Sshd], answer: bytes, asked: int
) -> None:
    # sshd passes no signal on to processes of root (session.c: "requires privilege separation").
    needs(IS_ROOT, "root, for an account that is not root")
    server = make_sshd(shells={"plain": "/bin/sh"})
    connection = await Connection.open(server.target_for("plain"), server.key, server.host_keys, timeout=SECONDS)
    result = await connection.run(ASKS, question=Question(b"cue:", answer, b"begun"), timeout=SECONDS)
    assert (result.asked, result.stderr, result.is_silent) == (asked, "cue:" * asked, False)
    assert result.signal == "KILL"
    await connection.close()


async def test_where_no_signal_is_passed_on_the_end_of_its_input_ends_it(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteCommand, "strike", lambda _: None)
    monkeypatch.setattr(question_module, "ENDING_SECONDS", 0.1)
    connection = await _open(sshd)
    result = await connection.run(ASKS, question=Question(b"cue:", b"wrong\n", b"begun"), timeout=SECONDS)
    assert (result.asked, result.exit_status) == (2, 0)
    assert result.stderr.endswith("counted\n")
    await connection.close()


async def test_a_command_that_asks_something_else_is_not_waited_for(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_module, "QUESTION_SECONDS", 0.3)
    monkeypatch.setattr(question_module, "ENDING_SECONDS", 0.1)
    connection = await _open(sshd)
    other = 'sh -c \'printf "Verification code: " >&2; read -r line && echo "got $line"\''
    result = await connection.run(other, question=Question(b"cue:", b"secret\n", b"begun"), timeout=SECONDS)
    assert (result.stdout, result.stderr, result.asked, result.is_silent) == ("", "Verification code: ", 0, True)
    # What has begun may take its time.
    long = "sh -c 'echo begun; sleep 0.8; echo done'"
    result = await connection.run(long, question=Question(b"cue:", b"secret\n", b"begun"), timeout=SECONDS)
    assert (result.stdout, result.is_silent) == ("begun\ndone\n", False)
    await connection.close()


async def test_a_question_that_is_left_alone_is_not_answered_by_the_end(make_sshd: Callable[..., Sshd]) -> None:
    needs(IS_ROOT, "root, for an account that is not root")
    server = make_sshd(shells={"plain": "/bin/sh"})
    connection = await Connection.open(server.target_for("plain"), server.key, server.host_keys, timeout=SECONDS)
    told, mark = server.home("plain") / "pid", server.home("plain") / "counted"
    asks = f"sh -c 'echo $$ >pid; trap : TERM; printf other: >&2; read -r line || :; echo >{mark}'"
    running = asyncio.create_task(connection.run(asks, question=Question(b"cue:"), timeout=SECONDS))
    await wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_for(lambda: not is_running(int(told.read_text())))
    assert not mark.exists()
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
        await read_host_key("127.0.0.1", free_port(), SECONDS)
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
    assert ((await read_host_key("127.0.0.1", server.port, SECONDS)).line,) == server.host_keys


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
        shown = await read_host_key(target.host, target.port, SECONDS)
        assert (shown.line,) == pinned, "all that a shown key says"
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
        assert "encryption algorithm" in caught.value.detail or "no algorithm that" in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", b"\x00" * 20_000, b"SSH-1.5-old\r\n", b"SSH-2.0-\xff\xfe\r\n"],
    ids=["http", "no newline", "protocol 1", "not ascii"],
)
async def test_another_service_is_no_ssh_server(text: bytes) -> None:
    async with _listening(lambda reader, writer: _says(reader, writer, text)) as port:
        with pytest.raises(NotSSH):
            await read_host_key("127.0.0.1", port, SECONDS)
        with pytest.raises(NotSSH):
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=SECONDS)


async def test_a_server_that_hangs_up_at_once_lost_the_connection() -> None:
    async with _listening(lambda reader, writer: _says(reader, writer, b"")) as port:
        with pytest.raises(NoGreeting) as caught:
            await read_host_key("127.0.0.1", port, SECONDS)
    assert "without an SSH greeting" in caught.value.detail


async def test_random_bytes_after_the_greeting_are_no_ssh() -> None:
    for seed in range(20):
        noise = b"SSH-2.0-x\r\n" + os.urandom(50 + 50 * seed)
        async with _listening(lambda reader, writer, noise=noise: _says(reader, writer, noise)) as port:
            with pytest.raises((NotSSH, ConnectionLost)):
                await read_host_key("127.0.0.1", port, SECONDS)


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


async def test_of_a_name_with_two_addresses_the_one_that_answers_is_taken(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv6 that a firewall drops, or an address of a card that is no longer plugged in."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "127.0.0.7"])

    async def both(_host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        """Name the silent one first."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.7", "127.0.0.1")]

    # A listener with a full queue drops what comes next.
    silent = ("127.0.0.7", sshd.port)
    with socket.create_server(silent, backlog=0), socket.create_connection(silent):
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        offered = await read_host_key("nas.example", sshd.port, SECONDS)
    assert offered.line in sshd.host_keys


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
    assert attempts == 2


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


async def test_a_command_that_somebody_holds_may_run_and_that_is_said(fake_host: FakeHost) -> None:
    """It even runs when everything here is over: nothing on the way tells the host how old it is."""
    async with Between(fake_host.port) as between:
        connection = await _open(fake_host, target=between.target(fake_host.target))
        between.hold(1)  # The channel is opened.
        with pytest.raises(TimedOut) as raised:
            await connection.run("systemctl poweroff", timeout=0.5)
        await connection.close()
        assert fake_host.commands == []
        assert raised.value.may_have_run
        between.pass_on()
        await wait_for(lambda: fake_host.commands == ["systemctl poweroff"])


@pytest.mark.parametrize("interval", [0, 1])
async def test_a_server_that_asks_for_signs_of_life_runs_nothing_that_was_held(
    make_sshd: Callable[..., Sshd], tmp_path: Path, interval: int
) -> None:
    """Its question can be answered by nobody who holds what was sent before the answer (ClientAliveInterval)."""
    server = make_sshd(f"ClientAliveInterval {interval}\nClientAliveCountMax 1")
    ran = tmp_path / "ran"
    async with Between(server.port) as between:
        connection = await _open(server, target=between.target(server.target))
        between.hold(1)
        with pytest.raises(TimedOut):
            await connection.run(f"touch {ran}", timeout=0.5)
        await connection.close()
        await wait_for(lambda: not interval or "client not responding" in server.log, 30)
        between.pass_on()
        with suppress(TimeoutError):
            await wait_for(ran.exists, 1.0 if interval else 10.0)
    assert ran.exists() is not bool(interval)


@pytest.mark.parametrize("then", ["nothing", "eof", "close"])
async def test_output_is_whole_when_its_end_has_come_and_not_with_the_exit_status(
    fake_host: FakeHost, then: str
) -> None:
    """OpenSSH may say how a command ended before it has sent the last of its output (session.c)."""

    async def tell(host: FakeHost, channel: fakes.Channel) -> None:
        channel.write(b"LoadState=")
        told = channel.process.channel
        told._send_request(b"exit-status", (0).to_bytes(4))
        if then == "eof":
            told.write_eof()
        if then == "close":
            told.send_packet(97)  # SSH_MSG_CHANNEL_CLOSE, without an end of the output before it
        await asyncio.sleep(0.1)
        host.abort_connections()
        await asyncio.Event().wait()

    fake_host.behaviour = tell
    connection = await _open(fake_host)
    if then == "nothing":
        with pytest.raises(ConnectionLost) as raised:
            await connection.run("systemctl show", timeout=SECONDS)
        assert raised.value.may_have_run
    else:
        result = await connection.run("systemctl show", timeout=SECONDS)
        assert (result.stdout, result.exit_status) == ("LoadState=", 0)
    await connection.close()


async def test_an_error_says_whether_the_command_may_have_run(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drop(host: FakeHost, _: object) -> None:
        host.abort_connections()

    async def outcome(**options: object) -> tuple[type[HomelabError], bool, bool]:
        connection = await _open(fake_host)
        with pytest.raises(HomelabError) as raised:
            await connection.run("make something", **{"timeout": SECONDS} | options)
        await connection.close()
        return type(raised.value), raised.value.may_have_run, raised.value.had_begun

    fake_host.behaviour = drop
    assert await outcome() == (ConnectionLost, True, True), "it ran, and its end was not seen"
    assert await outcome(stdin=b"input") == (ConnectionLost, False, False), "it has not said that it reads"
    asks = Question(b"cue", b"answer")
    assert await outcome(question=asks) == (ConnectionLost, True, False), "it may have had nothing to ask"
    monkeypatch.setattr(ssh_module, "HELLO_SECONDS", 0.3)
    fake_host.behaviour = fakes.never
    assert await outcome(question=asks) == (TimedOut, True, False)
    fake_host.behaviour = drop
    fake_host.behaviour = fakes.never
    assert await outcome(timeout=2.0) == (TimedOut, True, True)
    fake_host.refuses_channels = True
    assert await outcome() == (ChannelRefused, False, False)
    fake_host.refuses_channels = False
    monkeypatch.setattr(asyncssh.SSHServerProcess, "exec_requested", lambda *_: fake_host.abort_connections() or True)
    assert await outcome() == (ConnectionLost, True, False), "nobody knows whether it ran"


async def test_a_connection_that_ends_in_the_moment_in_which_a_command_is_confirmed_is_lost(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncssh answers then: it has forgotten whose channel that was."""
    connection = await _open(fake_host)
    confirm = asyncssh.SSHClientChannel._make_request

    async def cut(channel: asyncssh.SSHClientChannel, *about: object) -> object:
        result = await confirm(channel, *about)
        connection._conn.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        return result

    monkeypatch.setattr(asyncssh.SSHClientChannel, "_make_request", cut)
    with pytest.raises(ConnectionLost) as raised:
        await connection.run("make something", timeout=SECONDS)
    assert raised.value.may_have_run


async def test_a_server_that_runs_nothing_is_distinguished(fake_host: FakeHost) -> None:
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


def test_a_system_without_tcp_info_reports_nothing() -> None:
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
from client.transport.ssh import read_host_key
from client.errors import NameNotFound
for name in ("no-such-host.invalid", "a" * 70):
    try:
        asyncio.run(read_host_key(name, 22, 20))
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
        (asyncssh.MACError("x"), ConnectionLost),
        (ValueError("x"), NotSSH),
        (KeyRefused("nas"), KeyRefused),
    ],
)  # fmt: skip
def test_what_cannot_be_staged_is_mapped(err: Exception, kind: type[HomelabError]) -> None:
    assert type(map_error("nas", err)) is kind


def test_a_host_that_cannot_be_reached_says_so_in_the_words_of_the_system() -> None:
    one = OSError(113, "Connect call failed ('10.0.0.7', 22)")
    assert str(one) == "[Errno 113] Connect call failed ('10.0.0.7', 22)"
    assert map_error("nas", one).detail == "No route to host"
    both = OSError(f"Multiple exceptions: {one}, [Errno 101] Connect call failed ('2001:db8::7', 22, 0, 0)")
    assert map_error("nas", both).detail == "Network is unreachable, No route to host"


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
    assert ((await read_host_key("127.0.0.1", sshd.port, SECONDS)).line,) == sshd.host_keys
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
from client.transport.ssh import read_host_key
print(asyncio.run(read_host_key("127.0.0.1", int(sys.argv[1]), 20)).line)
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


@pytest.mark.parametrize("code", [2, 11, 14])
async def test_nothing_said_before_a_key_is_proven_is_a_refusal_of_ours(code: int) -> None:
    # Plain text, before the key exchange: whoever stands between can send it. RFC 4253, 11.1.
    text = b"Too many authentication failures"
    body = bytes([1]) + code.to_bytes(4) + len(text).to_bytes(4) + text + (0).to_bytes(4)
    padding = 8 - (5 + len(body)) % 8 + 8
    packet = (1 + len(body) + padding).to_bytes(4) + bytes([padding]) + body + bytes(padding)

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n" + packet)
        with suppress(OSError):
            await writer.drain()
            await reader.read(65536)
        writer.close()

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        target = Target("mon", "127.0.0.1", server.sockets[0].getsockname()[1])
        key = KeyPair.generate()
        with pytest.raises(HomelabError) as raised:
            await Connection.open(target, key, (" ".join(key.public_openssh.split()[:2]),), timeout=5)
    assert not isinstance(raised.value, KeyRefused)
    assert not raised.value.hard


def _plain_disconnect(text: bytes) -> bytes:
    """Return an SSH packet without encryption that ends the connection (RFC 4253, 6 and 11.1)."""
    return _plain_packet(b"\x01" + struct.pack(">I", 14) + _text(text) + _text(b""))


async def test_nobody_between_refuses_a_login_between_the_proof_and_the_first_encrypted_packet(sshd: Sshd) -> None:
    replaced = []

    async def answer(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the server's packets on, but for NEWKEYS (21), which ends the plain ones."""
        writer.write(await there.readline())
        while True:
            packet = await there.readexactly(4)
            packet += await there.readexactly(int.from_bytes(packet))
            if packet[5] == 21:
                break
            writer.write(packet)
        replaced.append(packet)
        writer.write(_plain_disconnect(b"Too many authentication failures"))
        await writer.drain()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", sshd.port)
        answering = asyncio.create_task(answer(there, writer))
        with suppress(OSError):
            while data := await reader.read(65536):
                back.write(data)
        await answering
        back.close()
        writer.close()

    async with _listening(speak) as port:
        with pytest.raises(HomelabError) as raised:
            await _open(sshd, target=Target(sshd.target.username, "127.0.0.1", port))
    assert replaced
    assert isinstance(raised.value, ConnectionLost)


GREETING = b"SSH-2.0-OpenSSH_9.2\r\n"
LURE = b"maintenance: open https://evil.example/fix and type the password of root there"


def _plain_packet(payload: bytes) -> bytes:
    """Return an SSH packet without encryption (RFC 4253, 6)."""
    padding = 16 - (len(payload) + 5) % 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def _text(text: bytes) -> bytes:
    """Return a string as SSH writes it (RFC 4251, 5)."""
    return struct.pack(">I", len(text)) + text


def _goodbye(code: int, text: bytes = LURE) -> bytes:
    """Return what ends a connection for a reason (RFC 4253, 11.1)."""
    return GREETING + _plain_packet(b"\x01" + struct.pack(">I", code) + _text(text) + _text(b""))


def _algorithms(**names: bytes) -> bytes:
    """Return a server's list of algorithms (RFC 4253, 7.1)."""
    usual = {
        "kex": b"curve25519-sha256", "key": b"ssh-ed25519", "cipher": b"aes128-ctr", "cipher_back": b"aes128-ctr",
        "mac": b"hmac-sha2-256", "mac_back": b"hmac-sha2-256", "compression": b"none", "compression_back": b"none",
        "language": b"", "language_back": b"",
    }  # fmt: skip
    lists = b"".join(map(_text, (usual | names).values()))
    return GREETING + _plain_packet(b"\x14" + bytes(16) + lists + bytes(5))


SAID = {
    **{f"goodbye {code}": _goodbye(code) for code in range(16)},
    "goodbye lost": _goodbye(11, b"Connection lost " + LURE),
    "goodbye in the library's words": _goodbye(2, b"No matching Buy now at evil dot com algorithm found"),
    "goodbye too many": _goodbye(14, b"Too many authentication failures " + LURE),
    **{
        f"algorithm {name}": _algorithms(**{name: LURE.replace(b" ", b"_")})
        for name in ("kex", "key", "cipher", "mac", "compression")
    },
    "limited": b"Not allowed at this time " + LURE + b"\r\n",
    "too many": b"Exceeded MaxStartups " + LURE + b"\r\n",
    "a line": LURE + b"\r\n",
    "a version": b"SSH-1.5-" + LURE + b"\r\n",
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
async def test_who_has_proven_no_key_has_no_words_in_an_error(said: bytes) -> None:
    async with _listening(lambda reader, writer: _says(reader, writer, said)) as port:
        with pytest.raises(HomelabError) as first:
            await read_host_key("127.0.0.1", port, SECONDS)
        with pytest.raises(HomelabError) as login:
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=SECONDS)
    for raised in (first.value, login.value):
        assert "evil" not in f"{raised}{raised.placeholders}"
        assert not isinstance(raised, KeyRefused)


def test_what_is_quoted_before_a_proof_is_a_list_of_fixed_words() -> None:
    """What the library says of a server without a common algorithm is among them."""
    for kind in ("key exchange", "encryption", "MAC", "compression"):
        said = asyncssh.KeyExchangeFailed(f"No matching {kind} algorithm found, sent a and received b")
        assert ssh_module._quotable(said) == f"No matching {kind} algorithm found"
    letters = re.sub(r"\(\?:|[()|]", "", ssh_module._UNPROVEN.pattern)
    assert set(letters) <= {*string.ascii_letters, " "}, "nothing that stands for anything else"


@asynccontextmanager
async def _showing(pair: asyncssh.SSHKeyPair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Give the port of a server that agrees on ed25519, and then shows what it likes."""

    def choose(server: asyncssh.SSHServerConnection, _: object) -> bool:
        server._server_host_key = pair
        return True

    monkeypatch.setattr(asyncssh.SSHServerConnection, "choose_server_host_key", choose)
    decoy = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[decoy])
    try:
        yield server.get_port()
    finally:
        server.close()
        await server.wait_closed()


def _certificate() -> asyncssh.SSHKeyPair:
    """Return the key of a host with a certificate of a CA that nobody knows."""
    own, ca = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    certificate = ca.generate_host_certificate(own, "nas", principals=["127.0.0.1"])
    return next(pair for pair in asyncssh.load_keypairs([(own, certificate)]) if b"cert" in pair.algorithm)


def _no_key() -> asyncssh.SSHKeyPair:
    """Return a key that shows bytes which are none."""
    (pair,) = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])
    pair.public_data = _text(b"ssh-" + LURE) + bytes(32)
    return pair


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ssh-dss", "of the type ssh-dss"),
        ("ssh-ed448", "of the type ssh-ed448"),
        ("ecdsa-sha2-1.3.132.0.10", "of the type ecdsa-sha2-1.3.132.0.10"),
        ("certificate", "shows a certificate"),
        ("no key", "something else that is not a host key"),
    ],
)
async def test_what_can_never_be_pinned_is_not_offered_and_in_the_place_of_a_pinned_key_an_alarm(
    monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    made = {"certificate": _certificate, "no key": _no_key}.get(kind)
    pair = made() if made else asyncssh.load_keypairs([asyncssh.generate_private_key(kind)])[0]
    pinned = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    async with _showing(pair, monkeypatch) as port:
        with pytest.raises(NotSSH) as shown:
            await read_host_key("127.0.0.1", port, SECONDS)
        assert words in shown.value.detail
        assert "evil.example" not in str(shown.value)
        with pytest.raises(HostKeyChanged) as changed:
            await Connection.open(Target("u", "127.0.0.1", port), KeyPair.generate(), (pinned,), timeout=SECONDS)
    assert changed.value.placeholders["expected"] == fingerprint(pinned)
    assert changed.value.placeholders["offered"] not in {"", fingerprint(pinned)}


@pytest.mark.parametrize("words", [b"Not allowed at this time\r\n", b"Exceeded MaxStartups\r\n"])
async def test_a_server_that_limits_logins_says_so_and_is_asked_once(words: bytes) -> None:
    connections = 0

    async def limit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _says(reader, writer, words)

    async with _listening(limit) as port:
        with pytest.raises(LoginsLimited) as caught:
            await Connection.open(Target("root", "127.0.0.1", port), KeyPair.generate(), ("x",), timeout=SECONDS)
        assert connections == 1, "each further one counts against us"
        assert caught.value.detail == words.decode().strip()
        with pytest.raises(LoginsLimited):
            await read_host_key("127.0.0.1", port, SECONDS)
