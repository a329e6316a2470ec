"""A program that is long under way, and connections that carry more than polls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
import socket
import time

import pytest

from custom_components.homelab_monitor.client.checks import testing
from custom_components.homelab_monitor.client.checks.report import CheckStatus
from custom_components.homelab_monitor.client.checks.testing import run_checks
from custom_components.homelab_monitor.client.errors import ConnectionLost, ProbeStarting, TimedOut
from custom_components.homelab_monitor.client.probe import upload
from custom_components.homelab_monitor.client.probe.programs import Programs, load_programs
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport.target import Target
from tests.fake_host import Channel, FakeHost, honest
from tests.sshd import Sshd, wait_for

type MakeSession = Callable[..., ProbeSession]

PATIENCE = 3.0
SLICES = 50
"""Per second: a slow link is one that lets few bytes through, often."""


class SlowLink:
    """A link to a server on which so many bytes a second go up; down it is fast. 0: nothing moves any more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.bytes_per_second = 1e9
        self.sent = 0
        self.links = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._up(reader, back), self._down(there, writer), return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while not self.bytes_per_second or (data := await reader.read(self._slice())):
                await asyncio.sleep(1 / SLICES)
                if self.bytes_per_second:
                    back.write(data)
                    self.sent += len(data)
        back.close()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await there.read(65536):
                writer.write(data)
        writer.close()

    def _slice(self) -> int:
        return min(65536, max(1, int(self.bytes_per_second / SLICES)))


@asynccontextmanager
async def _slow_link(server: Sshd) -> AsyncIterator[tuple[SlowLink, Target]]:
    """Give a slow link to a server; its buffers are small, so that what is acknowledged is on its way."""
    link = SlowLink(server.port)
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying.add(asyncio.current_task())
        await link.carry(reader, writer)

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    accepting = await asyncio.start_server(carry, sock=listener, limit=2048)
    try:
        yield link, Target(server.target.username, "127.0.0.1", listener.getsockname()[1])
    finally:
        accepting.close()
        accepting.close_clients()
        link.bytes_per_second = 1e9
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


@pytest.fixture
async def real_programs() -> Programs:
    return await asyncio.to_thread(load_programs)


async def _until_started(session: ProbeSession) -> int:
    """Poll until it works; return how often it was still starting."""
    for polls in range(100):
        try:
            await session.poll(["load"])
        except ProbeStarting:
            continue
        return polls
    pytest.fail("it never starts")


async def test_a_program_arrives_over_a_slow_link_however_short_a_poll_waits(
    sshd: Sshd, make_session: MakeSession, real_programs: Programs
) -> None:
    async with _slow_link(sshd) as (link, target):
        session = make_session(sshd, timeout=PATIENCE, programs=real_programs)
        session._target = target
        await session.connect()
        link.bytes_per_second = len(real_programs.linux.payload) / (3 * PATIENCE)
        assert await _until_started(session) >= 1
        link.bytes_per_second = 1e9
        assert (await session.poll(["load", "memory"])).sections.keys() == {"load", "memory"}
        assert link.links == 1, "over one connection, and sent once"
        assert link.sent < 1.5 * len(real_programs.linux.payload)


async def test_where_every_poll_connects_a_slow_link_is_enough_too(
    sshd: Sshd, make_session: MakeSession, real_programs: Programs
) -> None:
    async with _slow_link(sshd) as (link, target):
        session = make_session(sshd, timeout=PATIENCE, programs=real_programs, each_poll=True)
        session._target = target
        link.bytes_per_second = len(real_programs.linux.payload) / (2.5 * PATIENCE)
        assert await _until_started(session) >= 1
        assert session.connection is None


async def test_a_capability_test_waits_for_the_program(
    sshd: Sshd, make_session: MakeSession, real_programs: Programs
) -> None:
    async with _slow_link(sshd) as (link, target):
        session = make_session(sshd, timeout=PATIENCE, programs=real_programs)
        session._target = target
        await session.connect()
        link.bytes_per_second = len(real_programs.linux.payload) / (2.5 * PATIENCE)
        report, snapshot = await run_checks(session, target, sshd.host_keys)
    assert report.row("reachable").status is CheckStatus.OK
    assert report.row("python").status is CheckStatus.OK
    assert snapshot is not None


async def test_a_link_on_which_nothing_moves_is_given_up_and_the_next_one_works(
    sshd: Sshd, make_session: MakeSession, real_programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "STALLED_SECONDS", 3.0)
    monkeypatch.setattr(upload, "_LOOK_SECONDS", 0.1)
    async with _slow_link(sshd) as (link, target):
        session = make_session(sshd, timeout=PATIENCE, programs=real_programs)
        session._target = target
        await session.connect()
        link.bytes_per_second = 5000.0
        with pytest.raises(ProbeStarting):
            await session.poll(["load"])
        link.bytes_per_second = 0.0
        started = time.monotonic()
        with pytest.raises((TimedOut, ConnectionLost)):
            await _until_started(session)
        assert time.monotonic() - started < 30
        link.bytes_per_second = 1e9
        assert (await session.poll(["load"])).sections
        assert link.links == 2


async def test_closing_while_a_program_is_under_way_leaves_nothing(
    sshd: Sshd, make_session: MakeSession, real_programs: Programs
) -> None:
    tasks = asyncio.all_tasks()
    async with _slow_link(sshd) as (link, target):
        session = make_session(sshd, timeout=PATIENCE, programs=real_programs)
        session._target = target
        await session.connect()
        link.bytes_per_second = 5000.0
        with pytest.raises(ProbeStarting):
            await session.poll(["load"])
        await session.close()
    await wait_for(lambda: asyncio.all_tasks() <= tasks)


# ---------------------------------------------------------------- a host on whose good will a test depends


async def _starts_slowly_and_dies(host: FakeHost, channel: Channel) -> None:
    """Be under way for longer than a poll waits, each time, and end with the first request."""
    if channel.is_script:
        channel.process.exit(0)
        return
    channel.write(b"\x1ehomelab_monitor program\n")
    await asyncio.sleep(0.8)
    await channel.begin()
    await channel.request()
    channel.process.exit(1)


async def _never_starts(host: FakeHost, channel: Channel) -> None:
    """Say hello, and read nothing."""
    channel.write(b"\x1ehomelab_monitor program\n")
    await asyncio.sleep(3600)


async def _never_answers_the_facts(host: FakeHost, channel: Channel) -> None:
    """Be an honest probe on a host whose shell says nothing."""
    if channel.is_script:
        await asyncio.sleep(3600)
    await honest(host, channel)


@pytest.mark.parametrize(
    ("behaviour", "reason", "starts"),
    [
        (_starts_slowly_and_dies, "probe_failed", 2),
        (_never_starts, "probe_failed", 1),
        (_never_answers_the_facts, "probe_ran", 1),
    ],
)
async def test_a_test_ends_whatever_the_host_does(  # noqa: PLR0913
    fake_host: FakeHost,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    *,
    behaviour: Callable[..., object],
    reason: str,
    starts: int,
) -> None:
    if behaviour is not _starts_slowly_and_dies:
        monkeypatch.setattr(testing, "TEST_SECONDS", 2.0, raising=False)
    fake_host.behaviour = behaviour
    session = make_session(fake_host, timeout=0.5)
    async with asyncio.timeout(12):
        report, _ = await run_checks(session, fake_host.target, fake_host.host_keys)
    assert report.row("probe").reason == reason
    assert report.row("login").status is CheckStatus.OK, "what was learned before is kept"
    assert len([each for each in fake_host.commands if "python" in each]) == starts
    await session.close()
    await wait_for(lambda: not fake_host.connections)
    assert len([each for each in fake_host.commands if "python" in each]) == starts, "and nothing goes on"


# ---------------------------------------------------------------- what a connection carries beside polls


async def _answers_controls_only(host: FakeHost, channel: Channel) -> None:
    """Be a probe that never answers, and a control that takes its time."""
    if not host.requests and not getattr(host, "is_probed", False):
        host.is_probed = True
        await channel.begin()
        while await channel.request():
            await asyncio.sleep(30)
    else:
        await host.released.wait()
        channel.write(b"done\n")
        channel.process.exit(0)


async def test_late_polls_replace_a_connection_that_carries_a_control_and_do_not_end_it(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    fake_host.behaviour = _answers_controls_only
    fake_host.released = asyncio.Event()
    session = make_session(fake_host, timeout=0.6)

    async def control() -> str:
        async with session.aside() as connection:
            return (await connection.run("true", timeout=100)).stdout

    with pytest.raises(TimedOut):
        await session.poll(["load"])
    running = asyncio.create_task(control())
    await asyncio.sleep(0.2)
    with pytest.raises(TimedOut):
        await session.poll(["load"])
    assert session.connection is None
    await session.connect()
    assert fake_host.logins == 2
    assert not running.done()
    fake_host.released.set()
    assert await running == "done\n"
    await wait_for(lambda: len(fake_host.connections) == 1)


async def test_closing_a_session_ends_what_is_lent_too(fake_host: FakeHost, make_session: MakeSession) -> None:
    fake_host.behaviour = _answers_controls_only
    fake_host.released = asyncio.Event()
    fake_host.is_probed = True
    session = make_session(fake_host, timeout=5)

    async def control() -> None:
        async with session.aside() as connection:
            await connection.run("true", timeout=100)

    running = asyncio.create_task(control())
    await wait_for(lambda: fake_host.commands)
    await session.disconnect()
    assert not running.done()
    await session.close()
    with pytest.raises(ConnectionLost):
        await running
    await wait_for(lambda: not fake_host.connections)
