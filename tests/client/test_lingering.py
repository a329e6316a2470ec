"""What a host may leave open, and say without being asked: it costs neither memory nor time in the event loop."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
import gc
from unittest.mock import patch
import zlib

import asyncssh
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_EOF, MSG_CHANNEL_REQUEST
import pytest

from custom_components.homelab_monitor.client.errors import BadReply, HomelabError, ReplyTooLarge, TimedOut
from custom_components.homelab_monitor.client.limits import (
    LOOP_SHARE,
    LOOP_SHARE_OF_ALL,
    REPLY_LIMIT,
    UNASKED_RECORDS,
    UNCLOSED_CHANNELS,
)
from custom_components.homelab_monitor.client.probe import framing
from custom_components.homelab_monitor.client.probe.framing import ReplyParser
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport import wire as wire_module
from custom_components.homelab_monitor.client.transport.ssh import Connection
from custom_components.homelab_monitor.client.transport.wire import Wire
from tests import fake_host as fake
from tests.fake_host import Channel, FakeHost

type MakeSession = Callable[..., ProbeSession]


async def leaves_open(host: FakeHost, channel: Channel, answers: int = 0) -> None:
    """Announce the largest reply, send all but its end and floods of errors, and never close the channel."""
    ssh = channel.process.channel._orig_chan  # What it shows is only the editor of lines around it.
    handle, send = ssh.process_packet, ssh.send_packet
    ends = {MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST}
    ssh.process_packet = lambda kind, *rest: True if kind in ends else handle(kind, *rest)
    ssh.send_packet = lambda kind, *rest: None if kind in {MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE} else send(kind, *rest)
    await channel.begin()
    for _ in range(answers):
        request = await channel.request()
        assert request is not None
        await channel.reply(host.answer(request))
    request = await channel.request()
    assert request is not None
    channel.write(f"\x1e{request['id']} {REPLY_LIMIT} j\n".encode() + b"x" * (REPLY_LIMIT - 600))
    await channel.process.stdout.drain()
    channel.process.stderr.write(b"y" * (REPLY_LIMIT + 65536))
    await asyncio.sleep(3600)


async def leaves_open_after_an_answer(host: FakeHost, channel: Channel) -> None:
    """Answer once, so that it counts as online."""
    await leaves_open(host, channel, answers=1)


def kept_bytes() -> int:
    """Return what parsers hold that anything still refers to."""
    gc.collect()
    return sum(len(each._buffer) for each in gc.get_objects() if isinstance(each, ReplyParser))


@pytest.mark.parametrize("behaviour", [leaves_open, leaves_open_after_an_answer])
async def test_a_host_that_never_closes_its_channels_makes_nothing_stay(
    fake_host: FakeHost, make_session: MakeSession, behaviour: fake.Behaviour
) -> None:
    fake_host.behaviour = behaviour
    session = make_session(fake_host)
    failures = 0
    for _ in range(14):
        try:
            await session.poll(["load"])
        except ReplyTooLarge:
            failures += 1
    assert failures >= 6
    assert kept_bytes() < REPLY_LIMIT
    assert session.connection is None or len(session.connection._conn._channels) <= UNCLOSED_CHANNELS + 2
    assert fake_host.logins > 1, "the connection is given up"
    fake_host.behaviour = fake.honest
    await session.disconnect()
    assert (await session.poll(["load"])).sections


async def test_commands_that_end_late_replace_the_connection_where_their_channels_stay_open(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    async def plays(host: FakeHost, channel: Channel) -> None:
        if channel.process.command != "sleep":
            await fake.honest(host, channel)
            return
        ssh = channel.process.channel._orig_chan  # What it shows is only the editor of lines around it.
        ssh.process_packet = lambda *_: True  # Neither the signal nor our end of the channel reaches it.
        await asyncio.sleep(3600)

    fake_host.behaviour = plays
    session = make_session(fake_host)
    for _ in range(2 * (UNCLOSED_CHANNELS + 1)):
        async with session.aside() as connection:
            with pytest.raises(TimedOut):
                await connection.run("sleep", timeout=0.1)
        assert len(connection._conn._channels) <= UNCLOSED_CHANNELS + 2
    assert fake_host.logins == 2


async def test_a_channel_that_is_never_answered_counts_too(fake_host: FakeHost) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    with patch.object(asyncssh.SSHServerConnection, "_process_channel_open", lambda *_: None, create=True):
        (server,) = fake_host.connections
        handlers = dict(server._packet_handlers)
        server._packet_handlers = handlers | {90: lambda *_: True}
        for _ in range(UNCLOSED_CHANNELS + 1):
            assert not connection.is_clogged
            with pytest.raises(HomelabError):
                await connection.run("true", timeout=0.05)
    assert connection.is_clogged
    await connection.close()


async def test_who_is_ended_learns_it_at_once(fake_host: FakeHost, make_session: MakeSession) -> None:
    """The end of a process is ours to say; nobody waits until the host agrees."""
    fake_host.behaviour = fake.hang
    session = make_session(fake_host)
    poll = asyncio.create_task(session.poll(["load"]))
    while not fake_host.requests:
        await asyncio.sleep(0.01)
    assert session._probe is not None
    waits = session._probe._waiting
    assert waits is not None
    session._probe.stop()
    assert waits.done()
    await session.close()
    with pytest.raises(HomelabError):
        await poll


# ---------------------------------------------------------------- what nobody asked for


@pytest.fixture
def inflated() -> Iterator[list[int]]:
    """Sizes of what was unpacked."""
    sizes: list[int] = []
    unpack = ReplyParser._unpack

    def noted(self: ReplyParser, payload: bytes) -> bytes:
        sizes.append(len(payload))
        return unpack(self, payload)

    with patch.object(framing.ReplyParser, "_unpack", noted):
        yield sizes


def bombs(reply_id: str, count: int) -> bytes:
    """Return records of 4 kB that inflate to 4 MiB."""
    bomb = zlib.compress(b" " * (REPLY_LIMIT - 1), 9)
    return (f"\x1e{reply_id} {len(bomb)} z\n".encode() + bomb) * count


@pytest.mark.parametrize("reply_id", ["xx", "?", "same"])
async def test_what_nobody_waits_for_is_not_unpacked_and_a_few_of_it_end_the_probe(
    fake_host: FakeHost, make_session: MakeSession, inflated: list[int], reply_id: str
) -> None:
    count = 3 * UNASKED_RECORDS

    async def sends_more(host: FakeHost, channel: Channel) -> None:
        await channel.begin()
        while request := await channel.request():
            if reply_id == "xx":
                channel.write(bombs("xx", count))
                await channel.reply(host.answer(request), packed=True)
            else:
                await channel.reply(host.answer(request), packed=True)
                channel.write(bombs("?" if reply_id == "?" else request["id"], count))

    fake_host.behaviour = sends_more
    session = make_session(fake_host)
    for _ in range(2):
        with suppress(BadReply):
            await session.poll(["load"])
        await asyncio.sleep(0.05)
        assert session._probe is None or not session._probe.is_alive
    assert len(inflated) <= 2
    assert max(inflated, default=0) < 1000


async def test_a_few_late_replies_are_dropped(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def sends_old_ones(host: FakeHost, channel: Channel) -> None:
        await channel.begin()
        while request := await channel.request():
            for _ in range(UNASKED_RECORDS):
                await channel.reply(host.answer(request), header_id="0")
            await channel.reply(host.answer(request))

    fake_host.behaviour = sends_old_ones
    session = make_session(fake_host)
    for _ in range(3):
        assert (await session.poll(["load"])).sections
    assert len(fake_host.commands) == 1


# ---------------------------------------------------------------- the turns of others


class Paused:
    """A transport of which only reading matters."""

    def __init__(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def test_all_hosts_together_leave_most_of_the_event_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(wire_module.time, "monotonic", lambda: now)
    greedy, modest = [Wire(f"h{n}") for n in range(8)], Wire("modest")
    spent = 0.0
    wake: dict[Wire, float] = {}
    for wire in (*greedy, modest):
        wire._transport = Paused()  # type: ignore[assignment]
    with patch.object(asyncio.get_running_loop(), "call_later") as later:
        began = now
        while now < began + 300:
            for wire in greedy:
                if wake.get(wire, 0.0) <= now:
                    wire._read_on()
                    later.reset_mock()
                    wire._rest(0.02)
                    spent += 0.02
                    if later.called:
                        wake[wire] = now + later.call_args[0][0]
            modest._rest(0.0003)
            assert modest._transport.reads  # type: ignore[union-attr]
            now += 0.02
    assert LOOP_SHARE < spent / 300 < LOOP_SHARE_OF_ALL * 1.25
