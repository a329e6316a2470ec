"""What a host takes of ours: how large the packets are that it lets us send, and what it leaves with us for good."""

import asyncio
from collections.abc import Awaitable, Callable
import functools
import random
import time

import asyncssh
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
import pytest

from custom_components.homelab_monitor.client.errors import HomelabError, TimedOut, TooMuchTraffic
from custom_components.homelab_monitor.client.limits import PACKET_BYTES, UNTAKEN_BYTES
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.programs import Programs, make_program
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from tests.fake_host import Channel, FakeHost, programs

PROGRAM_BYTES = 116_000
"""As large as the real one is, packed."""


def _large() -> Programs:
    """Return a program of that size, as noise cannot be packed."""
    program = make_program("probe.py", random.Random(1).randbytes(PROGRAM_BYTES))
    return Programs(linux=program, who=program)


def _session(host: FakeHost, own: Programs | None = None) -> ProbeSession:
    return ProbeSession(host.target, host.key, host.host_keys, own or programs(), timeout=5)


def _takes(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let servers say that a packet of theirs has room for so many bytes (RFC 4254, 5.1)."""
    confirm = asyncssh.SSHServerConnection.send_channel_open_confirmation

    def smaller(self, send_chan: int, recv_chan: int, window: int, _size: int, *rest: bytes) -> None:
        confirm(self, send_chan, recv_chan, window, size, *rest)

    monkeypatch.setattr(asyncssh.SSHServerConnection, "send_channel_open_confirmation", smaller)


async def _poll(session: ProbeSession) -> None:
    await session.poll(["load"])


async def _ask_aside(session: ProbeSession) -> None:
    await session.ask_aside(["load"], timeout=5)


async def _run(session: ProbeSession) -> None:
    async with session.aside() as connection:
        await connection.run("true", timeout=5)


async def _run_with_input(session: ProbeSession) -> None:
    async with session.aside() as connection:
        await connection.run("sh", stdin=b"# a script\n" * 10_000, timeout=5)


WAYS: tuple[Callable[[ProbeSession], Awaitable[None]], ...] = (_poll, _ask_aside, _run, _run_with_input)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, PACKET_BYTES - 1])
async def test_a_channel_with_tiny_packets_is_refused_before_anything_is_sent_on_it(
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[ProbeSession], Awaitable[None]],
    size: int,
) -> None:
    _takes(monkeypatch, size)
    session = _session(fake_host, _large())
    spent = time.thread_time()
    with pytest.raises(TooMuchTraffic, match=rf"no packet with more than {size} bytes"):
        await way(session)
    assert time.thread_time() - spent < 1
    assert fake_host.commands == [], "not even the command"
    with pytest.raises(TooMuchTraffic):
        await way(session)
    assert fake_host.logins == 1, "it is left alone for a while"
    await session.close()


@pytest.mark.parametrize("size", [PACKET_BYTES, 32768])
async def test_a_channel_with_room_for_little_works(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    _takes(monkeypatch, size)
    session = _session(fake_host)
    assert (await session.poll(["load"])).sections
    await session.close()


# ---------------------------------------------------------------- what is left with us


class Shut:
    """A host that gives room for the program and a little more, never again, and answers without having read."""

    def __init__(self, guess: Callable[[int], str]) -> None:
        self._guess = guess
        self.asked = asyncio.Event()

    async def __call__(self, host: FakeHost, channel: Channel) -> None:
        await channel.begin()
        ssh = channel.process.channel._orig_chan
        send = ssh.send_packet
        ssh.send_packet = lambda kind, *rest: None if kind == MSG_CHANNEL_WINDOW_ADJUST else send(kind, *rest)
        number = 0
        while True:
            await self.asked.wait()
            self.asked.clear()
            number += 1
            await channel.reply(host.answer({"id": self._guess(number), "sections": ["load"]}))


async def _polls(host: FakeHost, behaviour: Shut, polls: int) -> tuple[list[HomelabError], int]:
    """Poll a shut host; return the errors, and the most that was left with us."""
    host.behaviour = behaviour
    session = ProbeSession(host.target, host.key, host.host_keys, programs(), timeout=0.5)
    errors: list[HomelabError] = []
    most = 0
    for number in range(polls):
        asking = asyncio.get_running_loop().call_later(0.01 if number else 0.3, behaviour.asked.set)
        try:
            await session.poll(list(SECTIONS))
        except HomelabError as err:
            errors.append(err)
        finally:
            asking.cancel()
        probe = session._probe
        if probe is not None and probe._process is not None and probe._process._channel is not None:
            most = max(most, probe._process._channel.get_write_buffer_size())
        if errors and isinstance(errors[-1], TooMuchTraffic):
            break
    await session.close()
    return errors, most


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers give little room at first."""
    monkeypatch.setattr(asyncssh, "listen", functools.partial(asyncssh.listen, window=600))


async def test_what_a_host_leaves_unread_of_its_requests_has_an_end(
    socket_enabled: None, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it knows each id, as whoever reads memory would."""
    ids: list[str] = []
    request_for = ProbeSession._request_for

    def noted(self: ProbeSession, *rest: object) -> object:
        request = request_for(self, *rest)
        ids.append(request.id)
        return request

    monkeypatch.setattr(ProbeSession, "_request_for", noted)
    async with FakeHost() as host:
        errors, most = await _polls(host, Shut(lambda _number: ids[-1]), 100)
    assert [error.key for error in errors] == ["too_much_traffic"]
    assert "of requests unread" in errors[0].detail
    assert 0 < most < UNTAKEN_BYTES + 2048


async def test_who_has_not_read_a_request_cannot_answer_it(socket_enabled: None, small_windows: None) -> None:
    """Also where nothing of it waits in the channel, such as behind a key exchange that never ends."""
    async with FakeHost() as host:
        errors, _ = await _polls(host, Shut(str), 2)
    assert [type(error) for error in errors] == [TimedOut, TimedOut]


async def test_ids_are_no_longer_than_numbers_soon_would_be(fake_host: FakeHost) -> None:
    session = _session(fake_host)
    for _ in range(20):
        await session.poll(["load"])
    ids = [request["id"] for request in fake_host.requests]
    assert len(set(ids)) == 20
    assert {*map(len, ids)} == {4}
    await session.close()
