"""A host that sent too much is left alone, whichever of its connections did it and whoever wants the next one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from asyncssh.connection import _DEFAULT_RECV_PKTLEN
from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.homelab_monitor.client.checks.testing import run_checks
from custom_components.homelab_monitor.client.errors import HomelabError, NotSSH, TooMuchTraffic
from custom_components.homelab_monitor.client.limits import (
    EXCESS_FORGOTTEN_SECONDS,
    EXCESS_REST_SECONDS,
    NOTICES,
)
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport import cooldown
from custom_components.homelab_monitor.client.transport.ssh import Connection, read_host_key
from tests.between import Between
from tests.fake_host import Channel, FakeHost, honest, programs
from tests.sshd import Sshd

PLACE = ("nas", 22)


@pytest.fixture
async def fake_host(socket_enabled: None) -> AsyncIterator[FakeHost]:
    async with FakeHost() as host:
        yield host


def new_session(host: FakeHost, **more: Any) -> ProbeSession:
    return ProbeSession(host.target, host.key, host.host_keys, programs(), timeout=3, **more)


def send_too_much(host: FakeHost) -> None:
    """Send more refusals of nothing than anybody may, on every connection."""
    for conn in list(host.connections):
        for _ in range(2 * NOTICES):
            conn.send_packet(3, b"\0\0\0\0")


async def flood(host: FakeHost, channel: Channel) -> None:
    """Send too much in the place of an answer."""
    await channel.begin()
    await channel.request()
    send_too_much(host)
    await asyncio.sleep(30)


async def flood_with_every_second_bad_reply(host: FakeHost, channel: Channel) -> None:
    """Let the flood come together with the reply for which the connection is given up."""
    await channel.begin()
    request = await channel.request()
    assert request
    host.bad_replies = getattr(host, "bad_replies", 0) + 1  # type: ignore[attr-defined]
    payload = b"\x1e" + request["id"].encode() + b" 2 j\n[]"
    for conn in list(host.connections):
        for each in conn._channels.values():
            conn.send_packet(94, each._send_chan.to_bytes(4), len(payload).to_bytes(4) + payload)
    if host.bad_replies % 2 == 0:  # type: ignore[attr-defined]
        send_too_much(host)
    await asyncio.sleep(30)


async def polls(session: ProbeSession, host: FakeHost) -> None:
    await session.poll(["load"])


async def asks_aside(session: ProbeSession, host: FakeHost) -> None:
    await session.ask_aside(["load"], timeout=3)


async def lends_aside(session: ProbeSession, host: FakeHost) -> None:
    async with session.aside() as connection:
        send_too_much(host)
        await connection.run("true", timeout=3)


async def connects_again(session: ProbeSession, host: FakeHost) -> None:
    spare = await (await session.connect()).again()
    send_too_much(host)
    await asyncio.sleep(0.2)
    await spare.close()


async def is_tested(session: ProbeSession, host: FakeHost) -> None:
    """Test the host with a session that ends with that, as an action does."""
    own = new_session(host)
    try:
        await run_checks(own, host.target, host.host_keys, lambda _: None)
    finally:
        await own.close()


WAYS: dict[str, tuple[Callable[[ProbeSession, FakeHost], Awaitable[None]], dict[str, bool]]] = {
    "polls": (polls, {}),
    "polls with a connection each": (polls, {"each_poll": True}),
    "what is asked beside them": (asks_aside, {}),
    "what is asked beside them, with a connection each": (asks_aside, {"each_poll": True}),
    "what is lent": (lends_aside, {"each_poll": True}),
    "a spare": (connects_again, {}),
    "a test": (is_tested, {}),
}


@pytest.mark.parametrize(("work", "options"), WAYS.values(), ids=WAYS)
async def test_whatever_the_connection_was_for_the_host_is_left_alone(
    fake_host: FakeHost, work: Callable[[ProbeSession, FakeHost], Awaitable[None]], options: dict[str, bool]
) -> None:
    fake_host.behaviour = flood
    session = new_session(fake_host, **options)
    with suppress(HomelabError):
        await work(session, fake_host)
    await session.disconnect()
    logins = fake_host.logins
    assert logins
    fake_host.behaviour = honest
    with pytest.raises(TooMuchTraffic):
        await session.poll(["load"])
    with pytest.raises(TooMuchTraffic):
        await session.ask_aside(["load"], timeout=3)
    other = new_session(fake_host)
    with pytest.raises(TooMuchTraffic):
        await other.connect()
    with pytest.raises(TooMuchTraffic):
        await Connection.open_with_password(fake_host.target, "x", fake_host.host_keys, timeout=3)
    with pytest.raises(TooMuchTraffic):
        await read_host_key(fake_host.target.host, fake_host.target.port, timeout=3)
    assert fake_host.logins == logins
    cooldown.forget_all()
    await session.poll(["load"])
    await session.close()
    await other.close()


async def test_a_flood_with_the_reply_that_ends_the_connection_is_not_forgotten(fake_host: FakeHost) -> None:
    fake_host.behaviour = flood_with_every_second_bad_reply
    session = new_session(fake_host)
    keys = []
    for _ in range(6):
        try:
            await session.poll(["load"])
        except HomelabError as err:
            keys.append(err.key)
        await asyncio.sleep(0.2)
    await session.close()
    assert fake_host.logins == 1
    assert keys[2:] == ["too_much_traffic"] * 4


async def test_a_host_at_another_port_is_another_one(fake_host: FakeHost) -> None:
    cooldown.begin((fake_host.target.host, fake_host.target.port + 1), proven, TooMuchTraffic("nas", "x"))
    session = new_session(fake_host)
    await session.poll(["load"])
    await session.close()


def proven() -> bool:
    """Say that the host's key was proven."""
    return True


async def test_who_has_proven_nothing_keeps_nobody_away_from_the_host(socket_enabled: None) -> None:
    """Anybody in between can send too much before the key exchange has ended; the host itself did nothing."""
    ignored = b"\0\0\0\x0c\x06\x02" + bytes(10)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n" + 1000 * ignored)
        with suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TooMuchTraffic):
        await read_host_key("127.0.0.1", port, timeout=3)
    cooldown.require_end(("127.0.0.1", port))
    server.close()


def rest_seconds(freezer: FrozenDateTimeFactory) -> int:
    """Return after how many seconds the host may be connected to."""
    for seconds in range(1000):
        try:
            cooldown.require_end(PLACE)
        except TooMuchTraffic:
            freezer.tick(1)
        else:
            return seconds
    raise AssertionError


def test_several_connections_at_once_count_once(freezer: FrozenDateTimeFactory) -> None:
    for _ in range(5):
        cooldown.begin(PLACE, proven, TooMuchTraffic("nas", "too many packets"))
        freezer.tick(1)
    assert rest_seconds(freezer) == EXCESS_REST_SECONDS - 5


def test_what_is_no_ssh_server_may_be_tried_again_at_once() -> None:
    cooldown.begin(PLACE, proven, NotSSH("nas", "64 lines before the greeting"))
    cooldown.require_end(PLACE)


def test_nobody_is_remembered_for_ever(freezer: FrozenDateTimeFactory) -> None:
    for number in range(100):
        cooldown.begin((f"host{number}", 22), proven, TooMuchTraffic("nas", "x"))
    freezer.tick(2 * EXCESS_FORGOTTEN_SECONDS)
    cooldown.begin(PLACE, proven, TooMuchTraffic("nas", "x"))
    assert set(cooldown._RESTS) == {PLACE}


async def test_whoever_floods_a_login_in_the_place_of_a_host_keeps_nobody_away_from_it(sshd: Sshd) -> None:
    """The host has proven its key by then: what comes is a packet as large as any may be, of which nobody knows yet."""
    for size in (_DEFAULT_RECV_PKTLEN, 0xFFFFFFF0):
        rest = (size & ~15).to_bytes(4) + bytes(2 * _DEFAULT_RECV_PKTLEN)
        async with Between(sshd.port, rest=rest) as between:
            with pytest.raises(HomelabError) as caught:
                await Connection.open(between.target(sshd.target), sshd.key, sshd.host_keys, timeout=3)
            assert not isinstance(caught.value, TooMuchTraffic)
            between.rest = b""
            connection = await Connection.open(between.target(sshd.target), sshd.key, sshd.host_keys, timeout=10)
            await connection.close()
