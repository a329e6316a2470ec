"""Upload a probe over a slow link: wait as long as the upload makes progress.

On a link of 5 kB/s the upload takes longer than any poll waits. So the program is sent in a task
that outlives polls, which meanwhile report that the probe is starting.
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
"""How long an upload may go without another byte being acknowledged."""
START_SECONDS = 600.0
"""How long a whole upload may take."""
_LOOK_SECONDS = 1.0


class Starting:
    """The start of a probe for the polls of one host."""

    def __init__(self, host: str, patience: float) -> None:
        self._host = host
        self._patience = patience
        self._task: asyncio.Task[ProbeProcess] | None = None
        self._sending = asyncio.Event()
        """Set once only the upload of the program has to be waited for."""

    @property
    def is_under_way(self) -> bool:
        """Return whether a probe is being started in the background."""
        return self._task is not None and not self._task.done()

    @property
    def is_sending(self) -> bool:
        """Return whether the last start has reached the upload of its program."""
        return self._sending.is_set()

    def forget(self) -> None:
        """Drop the result of the start; the connection that it used is closed."""
        self._task = None

    async def probe(self, start: Callable[[], Coroutine[None, None, ProbeProcess]]) -> ProbeProcess:
        """Return the probe from `start`, or from the start in progress; raise ProbeStarting while that is uploading."""
        if self._task is None:
            self._sending.clear()
            self._task = asyncio.create_task(start())
            self._task.add_done_callback(_retrieve_exception)
        task, sending = self._task, asyncio.create_task(self._sending.wait())
        try:
            await asyncio.wait({task, sending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({task}, timeout=self._patience)
        finally:
            sending.cancel()
        if not task.done():
            raise ProbeStarting(self._host, "the connection is slow")
        if self._task is task:
            self._task = None
        return task.result()

    async def send(self, connection: Connection, probe: ProbeProcess, payload: bytes) -> Marker:
        """Send the program as `load` does, while polls continue."""
        self._sending.set()
        return await load(connection, probe, payload)


def _retrieve_exception(task: asyncio.Task[ProbeProcess]) -> None:
    """Retrieve the exception of a start, so that one that is not awaited is not logged."""
    if not task.cancelled():
        task.exception()


async def load(connection: Connection, probe: ProbeProcess, payload: bytes) -> Marker:
    """Send the program and return its marker; raise TimeoutError if the upload makes no more progress."""
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
