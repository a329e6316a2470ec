"""What one connection may still send and cost, from its first byte on; pure, with the clock as a parameter.

Before the login each phase has a row of `limits`, once. After it every request makes room for its answer, a
command for its output, and a little is refilled each second: without a request, a host may send little, for weeks.
The account holds what is left, so that a slow drip ends like a flood.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import time

from ..bucket import Bucket
from ..errors import HomelabError, NotSSH, TooMuchTraffic
from ..limits import (
    COMMAND,
    GREETING,
    GREETING_LINES,
    KEY_EXCHANGE,
    LOGIN,
    NOTICE_BYTES,
    NOTICES,
    NOTICES_PER_SECOND,
    PER_SECOND,
    POLL,
    REKEYS,
    REKEYS_PER_SECOND,
    Traffic,
)

_PHASES: tuple[tuple[str, Traffic], ...] = (
    ("before its SSH greeting", GREETING),
    ("during the key exchange", KEY_EXCHANGE),
    ("during the login", LOGIN),
    ("without a request", POLL),
)
GREETED, AUTHENTICATED = 1, len(_PHASES) - 1
"""The phases after the greeting, and after the login."""


class Budget:
    """The account of one connection; each method that takes from it raises when nothing is left.

    NotSSH before the greeting, as it is some other service; TooMuchTraffic after it.
    """

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._filled = clock()
        self._commands = 0
        self._lines = GREETING_LINES
        self._notices = float(NOTICES)
        self._rekeys = float(REKEYS)
        self._bytes = float(GREETING.bytes)
        self._packets = float(GREETING.packets)
        self._seconds = GREETING.loop_seconds
        self.phase = 0
        self.bytes = 0
        self.packets = 0
        """Counted so far."""

    def enter(self, phase: int) -> None:
        """Enter a later phase, each of which has its own row."""
        if phase > self.phase:
            self.phase = phase
            self._set(_PHASES[phase][1])

    def make_room(self) -> None:
        """Make room for a whole reply, whatever the host sent before."""
        if self.phase == AUTHENTICATED:
            self._raise_to(POLL)

    @contextmanager
    def command(self) -> Iterator[None]:
        """Let a command print while it runs."""
        self._commands += 1
        self._raise_to(COMMAND)
        try:
            yield
        finally:
            self._commands -= 1
            if not self._commands:
                self._set_at_most(POLL)

    # ------------------------------------------------------------ what is taken from it

    def take_lines(self, count: int) -> None:
        """Count lines before the greeting."""
        self._lines -= count
        if self._lines < 0:
            raise self._excess(f"more than {GREETING_LINES} lines")

    def take_bytes(self, count: int) -> None:
        """Count bytes from the socket."""
        self._refill()
        self.bytes += count
        self._bytes -= count
        if self._bytes < 0:
            raise self._excess("too many bytes")

    def take_packet(self) -> None:
        """Count a packet of any kind."""
        self.packets += 1
        self._packets -= 1
        if self._packets < 0:
            raise self._excess("too many packets")

    def take_notice(self, size: int) -> None:
        """Count a packet about the connection itself."""
        self._notices -= 1
        if self._notices < 0:
            raise self._excess("too many packets without data")
        if size > NOTICE_BYTES:
            raise self._excess(f"a packet of {size} bytes without data")

    def take_channel_notice(self, notices: Bucket) -> None:
        """Count a packet of a channel that is no data; each channel has as many as the connection, requests add none.

        A host that is read slowly because these cost time would otherwise never exhaust the budget of a poll.
        """
        if not notices.take():
            raise self._excess("too many packets without data")

    def take_rekey(self) -> None:
        """Count a key exchange."""
        self._rekeys -= 1
        if self._rekeys < 0:
            raise self._excess("too many key exchanges")

    def take_time(self, seconds: float) -> None:
        """Count time in the event loop."""
        self._seconds -= seconds
        if self._seconds < 0:
            raise self._excess("packets that take too long to process")

    # ------------------------------------------------------------ the account

    def _excess(self, what: str) -> HomelabError:
        """Return the error with what was too much, and when."""
        if not self.phase:
            return NotSSH(self._host, f"{what} {_PHASES[0][0]}")
        when = "while a command ran" if self._commands else _PHASES[self.phase][0]
        return TooMuchTraffic(self._host, f"{what} {when}")

    def _refill(self) -> None:
        """Refill the account for the time that has passed, but not before the login has succeeded."""
        now = self._clock()
        passed, self._filled = now - self._filled, now
        if self.phase < AUTHENTICATED:
            return
        self._notices = min(NOTICES, self._notices + passed * NOTICES_PER_SECOND)
        self._rekeys = min(REKEYS, self._rekeys + passed * REKEYS_PER_SECOND)
        if self._bytes < POLL.bytes:
            self._bytes = min(POLL.bytes, self._bytes + passed * PER_SECOND.bytes)
        if self._packets < POLL.packets:
            self._packets = min(POLL.packets, self._packets + passed * PER_SECOND.packets)
        if self._seconds < POLL.loop_seconds:
            self._seconds = min(POLL.loop_seconds, self._seconds + passed * PER_SECOND.loop_seconds)

    def _set(self, row: Traffic) -> None:
        """Set the account to exactly this row."""
        self._bytes = row.bytes
        self._packets = row.packets
        self._seconds = row.loop_seconds

    def _raise_to(self, row: Traffic) -> None:
        """Raise the account to at least this row; it does not accumulate."""
        self._bytes = max(self._bytes, row.bytes)
        self._packets = max(self._packets, row.packets)
        self._seconds = max(self._seconds, row.loop_seconds)

    def _set_at_most(self, row: Traffic) -> None:
        """Lower the account to at most this row."""
        self._bytes = min(self._bytes, row.bytes)
        self._packets = min(self._packets, row.packets)
        self._seconds = min(self._seconds, row.loop_seconds)
