"""Time limits that do not count a standstill of our own.

A process that was paused (a container, the snapshot of a virtual machine, a blocked loop) wakes up with every
timer overdue, and with answers that were not read yet. A limit that expires that late proves nothing about the other
side: it starts again.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

STANDSTILL_SECONDS = 1.0
"""A timer that is so late was delayed by this process."""


class TimeLimit:
    """A time limit: `async with TimeLimit(seconds)` raises TimeoutError as `asyncio.timeout` does; None: no limit."""

    __slots__ = ("_handle", "_seconds", "_timeout")

    def __init__(self, seconds: float | None) -> None:
        """Keep the limit; it starts when the context is entered."""
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._handle: asyncio.TimerHandle | None = None

    # Both return what the timeout's own return, to be awaited in their place: this is in every poll.

    def __aenter__(self) -> Coroutine[Any, Any, asyncio.Timeout]:
        """Start the time."""
        if self._seconds is not None:
            self._arm(self._seconds)
        return self._timeout.__aenter__()

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        """Stop the time."""
        if self._handle:
            self._handle.cancel()
        return self._timeout.__aexit__(kind, error, traceback)

    def _arm(self, seconds: float) -> None:
        """Start the whole time again."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        self._handle = loop.call_at(due, self._come, due, seconds)

    def _come(self, due: float, seconds: float) -> None:
        """End what takes too long, unless this timer is so late that no answer could have been read."""
        now = asyncio.get_running_loop().time()
        if now - due > STANDSTILL_SECONDS:
            self._arm(seconds)
        else:
            self._timeout.reschedule(now)
