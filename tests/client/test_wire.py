"""Hosts that flood, drip and stall: each costs little, and its connection ends with one error that says so.

`HOMELAB_ATTACK_SECONDS=30` lets each attack last longer; by default they are short. `-s` shows what each one costs.
"""

import asyncio
from collections.abc import Callable
import gc
import os
from pathlib import Path
import time
from typing import Any, Self

from asyncssh.packet import Boolean, SSHPacket, String, UInt32
import pytest

from custom_components.homelab_monitor.client.errors import HomelabError, KeyRefused, NotSSH, TimedOut, TooMuchTraffic
from custom_components.homelab_monitor.client.limits import COMMAND_OUTPUT_BYTES, GREETING, HOST_KEYS_BYTES, NOTICES
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport import cooldown, wire as wire_module
from custom_components.homelab_monitor.client.transport.budget import AUTHENTICATED
from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.ssh import (
    _CIPHERS,
    _KEY_EXCHANGES,
    _MACS,
    Connection,
    _known_key_exchanges,
    read_host_key,
)
from custom_components.homelab_monitor.client.transport.target import Target
from tests.fake_host import FakeHost, programs
from tests.hostile_host import ATTACKS, LOGINS, RAW, HostileHost
from tests.sshd import Sshd, wait_for

SECONDS = float(os.environ.get("HOMELAB_ATTACK_SECONDS", "2"))
PATIENCE_SECONDS = 60.0
"""For a flood that has to be seen to its end: how long it takes depends on the machine, and it ends by its amount."""
LAG_SECONDS = 0.3
"""For how long the event loop may stand still."""
NOISE = {"huge_data", "data_after_close"}
"""What these send ends their probe, beside a poll or between two; the next one starts another, and need not fail."""
SPENT_SECONDS = 4.0
"""Of the processor, for somebody who has not logged us in: more than the sum of what `limits` allows there."""
MEMORY_MIB = 24


class Loop:
    """What an attack costs the victim: how long its event loop stood still, its memory, its time."""

    worst = memory = spent = share = 0.0

    async def __aenter__(self) -> Self:
        gc.collect()
        self._memory, self._time, self._began = _memory(), time.process_time(), time.monotonic()
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.memory = _memory() - self._memory
        self.spent = time.process_time() - self._time
        self.share = self.spent / (time.monotonic() - self._began)
        self._task.cancel()

    async def _beat(self) -> None:
        """Measure in processor time, so that a busy machine makes no difference."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.thread_time() - began)

    def __str__(self) -> str:
        return f"stood still for {self.worst:.3f} s, {self.memory:+.1f} MiB, {self.share:.1%} of a core"


def _memory() -> float:
    """Return this process's memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def _polls(session: ProbeSession, seconds: float) -> set[str]:
    """Poll for a while, and at least once; return the errors."""
    errors = set()
    ends = time.monotonic() + seconds
    while True:
        try:
            await session.poll(["load"])
        except HomelabError as err:
            errors.add(f"{err.key}: {err.detail}"[:100])
        if time.monotonic() >= ends:
            return errors
        await asyncio.sleep(0.3)


async def _outlast(session: ProbeSession, attack: str, seconds: float) -> set[str]:
    """Poll beside an attack for a while, and once more when it has ended the connection; return the errors.

    Each poll makes room for a reply, and a host that floods is read slowly. So on a busy machine polls that come fast
    may let a flood go on; between two polls that are as far apart as in real life it goes beyond what it may.
    """
    connection = session.connection
    assert connection is not None
    errors = await _polls(session, seconds)
    if attack != "huge_data":  # It is over when the window of its channel is full, as nobody reads that any more.
        await wait_for(lambda: connection.closed, PATIENCE_SECONDS)
    return errors | await _polls(session, 0)


# ---------------------------------------------------------------- attacks


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_flood_beside_the_polls_ends_the_connection(
    socket_enabled: None, report: Callable[[str], None], attack: str
) -> None:
    tasks = asyncio.all_tasks()
    with HostileHost(attack, SECONDS + PATIENCE_SECONDS) as host:
        session = ProbeSession(host.target, host.key, host.host_keys, programs(), timeout=5)
        await session.poll(["load"])
        async with Loop() as loop:
            errors = await _outlast(session, attack, SECONDS)
        await session.close()
    report(f"{attack:18} {loop}: {errors}")
    assert loop.worst < LAG_SECONDS
    assert loop.memory < MEMORY_MIB
    assert errors or attack in NOISE
    # The probe's parser and asyncssh itself may be first: noise, and a channel that is no more.
    assert {error.partition(":")[0] for error in errors} <= {"too_much_traffic", "bad_reply", "connection_lost"}
    await wait_for(lambda: asyncio.all_tasks() <= tasks)


@pytest.mark.parametrize("attack", RAW)
async def test_before_the_login_nobody_may_cost_much(
    socket_enabled: None, report: Callable[[str], None], attack: str
) -> None:
    with HostileHost(attack, SECONDS) as host:
        async with Loop() as loop:
            # Not TimedOut: it ends by its amount, however slow the machine is.
            with pytest.raises((NotSSH, TooMuchTraffic)) as caught:
                await Connection.open(host.target, host.key, host.host_keys, timeout=PATIENCE_SECONDS)
        report(f"{attack:18} {loop}: {str(caught.value)[:100]}")
    assert loop.worst < LAG_SECONDS
    assert loop.memory < MEMORY_MIB
    assert loop.spent < SPENT_SECONDS


async def test_a_few_long_lines_before_the_greeting_are_no_notice(socket_enabled: None) -> None:
    closing = asyncio.Event()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((b"x" * (GREETING.bytes // 3) + b"\r\n") * 4)
        await closing.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1")
    try:
        with pytest.raises(NotSSH):
            await read_host_key("127.0.0.1", server.sockets[0].getsockname()[1], 5)
    finally:
        closing.set()
        server.close()


@pytest.mark.parametrize("attack", LOGINS)
async def test_a_login_may_not_cost_much_either(
    socket_enabled: None, report: Callable[[str], None], attack: str
) -> None:
    with HostileHost(attack, SECONDS + PATIENCE_SECONDS) as host:
        options: dict[str, Any] = {"host_keys": host.host_keys, "timeout": PATIENCE_SECONDS}
        opening = Connection.open(host.target, host.key, **options)
        if attack == "questions":
            opening.close()
            opening = Connection.open_with_password(host.target, "x", **options)
        async with Loop() as loop:
            with pytest.raises((NotSSH, TooMuchTraffic, KeyRefused)) as caught:
                await opening
        report(f"{attack:18} {loop}: {str(caught.value)[:100]}")
    assert loop.worst < LAG_SECONDS
    assert loop.memory < MEMORY_MIB
    assert loop.spent < SPENT_SECONDS


async def test_requests_do_not_wait_behind_host_keys_that_are_never_proven(fake_host: FakeHost) -> None:
    """What is kept is bounded, not only its rate: a drip of requests would be kept for ever."""
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    (server,) = fake_host.connections
    server._process_hostkeys_prove_00_at_openssh_dot_com_global_request = lambda _packet: None
    other = FakeHost()._private
    for _ in range(3):
        server._send_global_request(b"hostkeys-00@openssh.com", String(other.public_data))
    for _ in range(NOTICES // 2):
        server._send_global_request(b"x@example.com", b"x" * 1000)
    answers = [asyncio.create_task(server._make_global_request(b"keepalive@openssh.com")) for _ in range(5)]
    assert {kind for kind, _ in await asyncio.gather(*answers)} == {82}, "as OpenSSH's client answers"
    assert len(connection._conn._global_request_queue) == 1
    assert connection.excess is None
    await connection.close()


async def test_a_huge_list_of_host_keys_is_not_looked_at(fake_host: FakeHost) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    (server,) = fake_host.connections
    key = String(FakeHost()._private.public_data)
    server._send_global_request(b"hostkeys-00@openssh.com", key * (1 + HOST_KEYS_BYTES // len(key)))
    await asyncio.wait_for(server._make_global_request(b"keepalive@openssh.com"), 5)
    assert connection.host_keys == fake_host.host_keys
    assert not connection._conn._global_request_queue
    await connection.close()


@pytest.mark.parametrize("kind", [93, 98], ids=["window", "request"])
async def test_polls_make_no_room_for_packets_of_a_channel_that_are_no_data(fake_host: FakeHost, kind: int) -> None:
    """A hub so slow that it reads no more than a few hundred of them from one poll to the next."""
    session = ProbeSession(fake_host.target, fake_host.key, fake_host.host_keys, programs(), timeout=5)
    await session.poll(["load"])
    (server,) = fake_host.connections
    (channel,) = server._channels.values()
    rest = (UInt32(0),) if kind == 93 else (String("x@example.com"), Boolean(False))
    told: set[str] = set()
    for _ in range(4):
        for _ in range(NOTICES // 2 if not told else 0):
            server.send_packet(kind, UInt32(channel._send_chan), *rest)
        told |= await _polls(session, 0)
    assert told == {"too_much_traffic: too many packets without data without a request"}
    assert fake_host.logins == 1
    await session.close()


async def test_nothing_is_written_to_a_connection_that_is_ending(
    fake_host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    # As when the host resets it: asyncssh learns that in the next turn, and answers until then what it still has.
    connection._conn._transport.abort()
    for _ in range(40):
        connection._conn.send_packet(2, String(b""))
    await connection.close()
    assert "socket.send()" not in caplog.text


# ---------------------------------------------------------------- afterwards


async def _flood(fake_host: FakeHost) -> None:
    """Send more debug texts than anybody may, and wait until the connection is gone."""
    (server,) = fake_host.connections
    for _ in range(NOTICES + 1):
        server.send_packet(4, Boolean(False), String("x"), String(""))
    await wait_for(lambda: not fake_host.connections)


async def test_a_host_that_sent_too_much_is_left_alone_for_a_while(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooldown, "EXCESS_REST_SECONDS", 0.4)
    session = ProbeSession(fake_host.target, fake_host.key, fake_host.host_keys, programs(), timeout=5)
    for logins, rest in ((1, 0.4), (2, 0.8)):
        await session.poll(["load"])
        await _flood(fake_host)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(TooMuchTraffic, match="too many packets without data"):
                await session.poll(["load"])
            with pytest.raises(TooMuchTraffic):
                await session.connect()
        assert fake_host.logins == logins
        await asyncio.sleep(rest * 0.7)
        with pytest.raises(TooMuchTraffic):
            await session.poll(["load"])
        await asyncio.sleep(max(0.0, began + rest + 0.1 - time.monotonic()))
    await session.poll(["load"])
    assert fake_host.logins == 3
    await session.close()


async def test_who_waits_learns_at_once_why_the_connection_ended(fake_host: FakeHost) -> None:
    async def flood(host: FakeHost, channel: Any) -> None:
        await channel.begin()
        await channel.request()
        await _flood(host)

    fake_host.behaviour = flood
    session = ProbeSession(fake_host.target, fake_host.key, fake_host.host_keys, programs(), timeout=5)
    began = time.monotonic()
    with pytest.raises(TooMuchTraffic):
        await session.poll(["load"])
    assert time.monotonic() - began < 3
    assert fake_host.logins == 1, "it is not tried a second time within the poll"
    await session.close()
    session = ProbeSession(fake_host.target, fake_host.key, fake_host.host_keys, programs(), timeout=5)
    with pytest.raises(TooMuchTraffic):
        await session.ask_aside(["load"], timeout=5)
    await session.close()


# ---------------------------------------------------------------- use that is as it should be


async def test_a_command_may_print_a_hundred_megabytes_and_others_have_their_turn(
    sshd: Sshd, report: Callable[[str], None]
) -> None:
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    async with Loop() as loop:
        result = await connection.run("head -c 100000000 /dev/zero; seq 300000; echo done >&2", timeout=60)
    report(f"100 MB {loop}")
    assert (result.stderr, result.exit_status, result.truncated) == ("done\n", 0, True)
    assert loop.worst < LAG_SECONDS / 2
    assert not connection.closed
    await connection.close()


async def test_a_command_that_prints_without_end_is_ended_and_the_connection_lives(
    sshd: Sshd, report: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    async with Loop() as loop:
        with pytest.raises(TooMuchTraffic, match="a command printed more than 256 MiB"):
            await connection.run("yes", timeout=120)
    report(f"{COMMAND_OUTPUT_BYTES >> 20} MiB {loop}")
    assert loop.worst < LAG_SECONDS
    assert loop.memory < MEMORY_MIB
    assert (await connection.run("echo still here", timeout=10)).stdout == "still here\n"
    await connection.close()


# ---------------------------------------------------------------- turns, and what is left unread


async def test_a_host_that_takes_more_than_its_share_is_read_later(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    share = 0.01
    monkeypatch.setattr(wire_module, "LOOP_SHARE", share)
    monkeypatch.setattr(wire_module, "LOOP_BURST_SECONDS", 0.001)
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    taken: list[float] = []
    budget = connection._client.wire.budget
    monkeypatch.setattr(budget, "take_time", taken.append)
    began = time.monotonic()
    result = await connection.run("head -c 5000000 /dev/zero; echo done >&2", timeout=60)
    assert result.stderr == "done\n"
    assert sum(taken) < share * (time.monotonic() - began) * 1.5
    await connection.close()


async def test_what_is_read_later_leaves_no_timer_behind(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    monkeypatch.setattr(wire_module, "LOOP_SHARE", 0.001)
    monkeypatch.setattr(wire_module, "LOOP_BURST_SECONDS", 0.001)
    with pytest.raises(TimedOut):
        await connection.run("yes", timeout=0.5)
    await connection.close()  # The harness looks for timers that are left.


async def test_a_host_that_does_not_listen_does_not_fill_our_memory(fake_host: FakeHost) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    (server,) = fake_host.connections
    server._transport.pause_reading()
    sent = 0
    while connection.excess is None and sent < 64 << 20:
        connection._conn.send_packet(2, String(b"x" * 30_000))
        sent += 30_000
        await asyncio.sleep(0)
    assert connection.excess is not None
    assert "unread" in connection.excess.detail
    await wait_for(lambda: connection.closed)


# ---------------------------------------------------------------- algorithms


async def test_what_we_offer_is_what_is_written_down(socket_enabled: None) -> None:
    offers: list[list[str]] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        await reader.readline()
        length = int.from_bytes(await reader.readexactly(4))
        offer = SSHPacket((await reader.readexactly(length))[18:])
        offers.append([name.decode() for _ in range(10) for name in [offer.get_string()]])
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    target = Target("mon", "127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(HomelabError):
        await Connection.open(target, KeyPair.generate(), (KeyPair.generate().public_openssh,), timeout=5)
    server.close()
    key_exchanges, *others = [offer.split(",") for offer in offers[0]]
    assert {*key_exchanges} - {"ext-info-c", "kex-strict-c-v00@openssh.com"} == {*_known_key_exchanges()}
    lists = ["ssh-ed25519"], [*_CIPHERS], [*_CIPHERS], [*_MACS], [*_MACS], ["none"], ["none"], [""], [""]
    assert others == [*lists]


# ---------------------------------------------------------------- the hook


async def test_the_hook_sees_every_byte_and_every_packet(sshd: Sshd) -> None:
    """A new asyncssh that passes the hook by has to fail here."""
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    wire = connection._client.wire
    assert wire.budget.phase == AUTHENTICATED
    assert wire.budget.packets >= 4, "of the key exchange and the login"
    for command in ("true", "head -c 3000000 /dev/zero", "echo error >&2; exit 3"):
        await connection.run("true", timeout=10)  # What came late is in.
        counted, received = wire.budget.packets, connection._conn._recv_seq
        await connection.run(command, timeout=10)
        assert wire.budget.packets - counted == connection._conn._recv_seq - received > 3
    assert wire.budget.bytes == connection.bytes_received
    await connection.close()


async def test_the_socket_is_read_in_small_pieces(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncssh copies what is left after each packet: at 256 KiB empty packets cost a third of a second."""
    connection = await Connection.open(sshd.target, sshd.key, sshd.host_keys, timeout=10)
    sizes = []
    received = connection._conn.data_received
    monkeypatch.setattr(connection._conn, "data_received", lambda data: (sizes.append(len(data)), received(data)))
    await connection.run("head -c 3000000 /dev/zero", timeout=10)
    assert max(sizes) <= 32 << 10
    await connection.close()


def test_no_group_of_the_peer_is_ever_agreed_on() -> None:
    assert not [name for name in _KEY_EXCHANGES if "group-exchange" in name or name.endswith("sha1") or "rsa" in name]
    assert {"curve25519-sha256", "ecdh-sha2-nistp256"} <= set(_known_key_exchanges()) <= set(_KEY_EXCHANGES)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that shows a measured figure, with -s."""

    def show(line: str) -> None:
        request.config.get_terminal_writer().line(f"\n{line}") if request.config.option.capture == "no" else None

    return show
