"""What a server says is in the log as one line, and nothing in it is unseen."""

import asyncio
import logging

import asyncssh
import pytest

from custom_components.homelab_monitor.client.transport.safe_logs import escape_logs
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.fake_host import FakeHost

FORGED = "\x1b[31mFORGED\r\n2026-01-01 00:00:00 ERROR of the house \u202e\u2028\x07\x9b"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="asyncssh")
    return caplog


def formatted(lines: pytest.LogCaptureFixture) -> list[str]:
    """Return the records as a file would hold them."""
    return [logging.Formatter("%(levelname)s %(message)s").format(record) for record in lines.records]


async def test_what_a_server_says_at_its_end_is_one_line(fake_host: FakeHost, lines: pytest.LogCaptureFixture) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=30)
    for each in list(fake_host.connections):
        each.disconnect(11, FORGED * 2)
    async with asyncio.timeout(30):
        while "Received disconnect" not in lines.text:
            await asyncio.sleep(0.01)
    await connection.close()
    told = [line for line in formatted(lines) if "FORGED" in line]
    assert any("Received disconnect" in line for line in told)
    assert all(line.isprintable() for line in told)
    assert all(r"\x1b[31mFORGED\r\n2026" in line for line in told)


def fail() -> None:
    """Raise an error because of another one, both with words of a server."""
    try:
        int(FORGED)
    except ValueError as err:
        raise asyncssh.ProtocolError(FORGED) from err


def test_arguments_and_the_words_of_errors_are_escaped_and_the_rest_is_as_it_was(
    lines: pytest.LogCaptureFixture,
) -> None:
    escape_logs("asyncssh")
    logger = logging.getLogger("asyncssh")
    logger.info("Open failed: %s %d", FORGED, 3)
    logger.info("a name: %s", "Küche 100 %")
    logger.info("too few: %s %s", FORGED)  # noqa: PLE1206
    try:
        fail()
    except asyncssh.ProtocolError:
        logger.debug("Uncaught", exc_info=True)
    first, second, third, fourth = formatted(lines)
    assert first.isprintable()
    assert first.endswith(r"\u202e\u2028\x07\x9b 3")
    assert second == "INFO a name: Küche 100 %"
    assert third == "INFO too few: %s %s"
    assert all(line.isprintable() for line in fourth.splitlines())
    told = [line.partition(":")[0] for line in fourth.splitlines() if "FORGED" in line and "(FORGED)" not in line]
    assert told == ["ValueError", "asyncssh.misc.ProtocolError"]
