"""A time limit ends what takes too long, and nothing else."""

import asyncio
import time

import pytest

from custom_components.homelab_monitor.client.time_limit import TimeLimit


async def test_what_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with TimeLimit(0.05):
            await asyncio.sleep(30)
    assert time.monotonic() - started < 10


async def test_what_ends_in_time_is_left_alone_afterwards() -> None:
    async with TimeLimit(0.01):
        pass
    await asyncio.sleep(0.05)


async def test_an_answer_that_came_while_we_stood_still_is_read() -> None:
    """The answer and the end of the time limit are both there when the loop goes on."""
    reader, writer = await asyncio.open_connection(sock=None, host="127.0.0.1", port=await _echo_port())
    writer.write(b"question\n")
    await writer.drain()
    async with TimeLimit(0.3):
        time.sleep(1.5)  # noqa: ASYNC251 - a loop that is blocked
        assert await reader.readline() == b"question\n"
    writer.close()


async def test_who_is_silent_afterwards_as_well_is_given_up() -> None:
    async def stand_still() -> None:
        async with TimeLimit(0.1):
            time.sleep(1.3)  # noqa: ASYNC251
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await stand_still()


async def _echo_port() -> int:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        await asyncio.sleep(0.05)
        writer.write(line)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]
