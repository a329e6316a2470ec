"""Starting a probe on a host that is far away: waited for as long as its program gets nearer.

On a link of 5 kB/s the program is under way for longer than any poll waits. So it is sent in a task
that outlives polls, which meanwhile say that the probe is starting.
"""

import asyncio
from collections.abc import Callable, Coroutine
import time

from ..errors import ProbeStarting
from ..time_limit import TimeLimit
from ..transport.ssh import Connection
from .framing import Marker
from .process import ProbeProcess

STALLED_SECONDS = 30.0
"""How long a program may be under way without another byte of it being acknowledged."""
START_SECONDS = 600.0
"""How long a program may be under way at all."""
_LOOK_SECONDS = 1.0


class Starting:
    """The probe that is being started for the polls of one host."""

    def __init__(self, host: str, patience: float) -> None:
        self._host = host
        self._patience = patience
        self._task: asyncio.Task[ProbeProcess] | None = None
        self._sending = asyncio.Event()
        """Set while there is nothing to wait for but the program's way."""

    @property
    def is_under_way(self) -> bool:
        """Tell whether a probe is being started that nobody waits for."""
        return self._task is not None and not self._task.done()

    @property
    def is_sending(self) -> bool:
        """Tell whether the last start got as far as sending its program."""
        return self._sending.is_set()

    def forget(self) -> None:
        """Have nobody learn how the start ended; the connection that it used is gone."""
        self._task = None

    async def probe(self, start: Callable[[], Coroutine[None, None, ProbeProcess]]) -> ProbeProcess:
        """Return the probe that `start` makes, or already makes; raise ProbeStarting while its program is under way."""
        if self._task is None:
            self._sending.clear()
            self._task = asyncio.create_task(start())
            self._task.add_done_callback(_heard)
        task, sending = self._task, asyncio.create_task(self._sending.wait())
        try:
            await asyncio.wait({task, sending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({task}, timeout=self._patience)
        finally:
            sending.cancel()
        if not task.done():
            raise ProbeStarting(self._host, "the program is under way on a slow link")
        if self._task is task:
            self._task = None
        return task.result()

    async def send(self, connection: Connection, probe: ProbeProcess, payload: bytes) -> Marker:
        """Send the program as `load` does, and let polls go on meanwhile."""
        self._sending.set()
        return await load(connection, probe, payload)


def _heard(task: asyncio.Task[ProbeProcess]) -> None:
    """Take note of how a start ended, so that one that nobody waits for is not logged."""
    if not task.cancelled():
        task.exception()


async def load(connection: Connection, probe: ProbeProcess, payload: bytes) -> Marker:
    """Send the program and return the marker of what it became; raise TimeoutError when it no longer gets nearer."""
    loading = asyncio.create_task(probe.load(payload))
    acknowledged, moved = connection.bytes_sent, time.monotonic()
    try:
        async with TimeLimit(START_SECONDS):
            while time.monotonic() - moved < STALLED_SECONDS:
                done, _ = await asyncio.wait({loading}, timeout=min(_LOOK_SECONDS, STALLED_SECONDS))
                if done:
                    return loading.result()
                if connection.bytes_sent != acknowledged:
                    acknowledged, moved = connection.bytes_sent, time.monotonic()
            raise TimeoutError
    finally:
        loading.cancel()
