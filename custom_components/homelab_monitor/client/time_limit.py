"""Time limits that blame nobody for our own standstill.

A process that is paused (a container, the snapshot of a virtual machine, a loop that is blocked) wakes up with every
timer overdue, and with answers that nobody has read yet. A limit that comes that late says nothing about who was
asked: the time is given anew.
"""

import asyncio
from types import TracebackType

STANDSTILL_SECONDS = 1.0
"""A timer that comes so late was kept waiting by ourselves."""


class TimeLimit:
    """A time limit: `async with TimeLimit(seconds)` raises TimeoutError as `asyncio.timeout` does; None: no limit."""

    __slots__ = ("_handle", "_seconds", "_timeout")

    def __init__(self, seconds: float | None) -> None:
        """Begin when it is entered."""
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        """Let the time begin."""
        await self._timeout.__aenter__()
        if self._seconds is not None:
            self._arm(self._seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let it end."""
        if self._handle:
            self._handle.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _arm(self, seconds: float) -> None:
        """Give the whole time."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        self._handle = loop.call_at(due, self._come, due, seconds)

    def _come(self, due: float, seconds: float) -> None:
        """End what takes too long, unless this comes so late that nobody could have answered."""
        now = asyncio.get_running_loop().time()
        if now - due > STANDSTILL_SECONDS:
            self._arm(seconds)
        else:
            self._timeout.reschedule(now)
