"""One probe process on a host, seen from here: bytes in, records out, and why it ended.

It is given what its channel receives, cuts that into records, and hands on the one that is waited for.
"""

import asyncio
from contextlib import suppress
import re

from .errors import (
    BadReply,
    ConnectionLost,
    HomelabError,
    NoPython,
    ProbeFailed,
    PythonIncomplete,
    ReplyTooLarge,
    first_line,
)
from .framing import REPLY_LIMIT, Marker, RawReply, ReplyParser
from .ssh import Process

EXCHANGE_LIMIT = 2 * REPLY_LIMIT
"""Bytes that a probe may send per request, dropped replies and noise included."""
UNREADABLE_ID = "?"
"""The id with which a probe answers a request line that it could not read."""
_STDERR_KEPT = 4096
_NOT_THERE = re.compile(r"not found|no such file|not recognized|cannot (find|execute)|permission denied", re.IGNORECASE)
_SHELL_STATUS = (126, 127)
"""POSIX shells: found but not executable, and not found; csh says 1 and explains itself."""
_NO_MODULE = re.compile(r"(?:Error|standard library of Python): No module named '?([\w.]+)")
"""Python's own words, bare or quoted by the probe."""


class Probe:
    """One probe process: bytes in, records out, at most one of them waited for."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._parser = ReplyParser(host)
        self._process: Process | None = None
        self._marker: Marker | None = None
        self._waiting: asyncio.Future[Marker | RawReply | HomelabError] | None = None
        self._wanted = ""
        self._received = 0
        self._stderr = b""
        self._failure: HomelabError | None = None

    @property
    def noise(self) -> str:
        """Return the first line that something else printed."""
        return self._parser.noise

    @property
    def is_alive(self) -> bool:
        """Tell whether the process has started and can be asked."""
        running = self._process is not None and self._process.is_running
        return running and self._marker is not None and self._failure is None

    async def begin(self, process: Process, payload: bytes) -> Marker:
        """Send the program and return the marker of the process that it became."""
        self._process = process
        self._send(payload)
        if self._marker is None:
            await self._record()
        if self._marker is None:
            raise BadReply(self._host, "a reply before the marker")
        return self._marker

    async def ask(self, wanted: str, line: bytes) -> bytes:
        """Send a request line and return the JSON of the reply with that id."""
        self._wanted = wanted
        self._received = 0
        self._send(line)
        record = await self._record()
        if not isinstance(record, RawReply):
            raise BadReply(self._host, "a second marker instead of a reply")
        return record.json

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()

    def _send(self, data: bytes) -> None:
        """Write to the process; one that no longer listens is about to end, and says why."""
        if self._process is not None:
            with suppress(OSError):
                self._process.write(data)

    async def _record(self) -> Marker | RawReply:
        """Wait for the next record that somebody wants."""
        if self._failure is not None:
            raise self._failure
        if self._process is None or not self._process.is_running:
            raise self._ending()
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            outcome = await self._waiting
        finally:
            self._waiting = None
        if isinstance(outcome, HomelabError):
            raise outcome
        return outcome

    # ------------------------------------------------------------ called by the channel

    def output(self, data: bytes) -> None:
        """Cut the bytes into records and hand the wanted one on; an old id is dropped."""
        if not self._is_within_limit(data):
            return
        try:
            records = self._parser.feed(data)
        except BadReply as err:
            self._fail(err)
            return
        for record in records:
            if isinstance(record, Marker):
                self._marker = record
            if isinstance(record, Marker) or record.id in {self._wanted, UNREADABLE_ID}:
                self._settle(record)

    def error_output(self, data: bytes) -> None:
        """Keep the end of what the process complains about."""
        if self._is_within_limit(data):
            self._stderr = (self._stderr + data)[-_STDERR_KEPT:]

    def ended(self) -> None:
        """Tell who waits that nothing will come."""
        self._settle(self._failure or self._ending())

    def _is_within_limit(self, data: bytes) -> bool:
        """Count what arrives per request; give the process up when it is too much."""
        self._received += len(data)
        if self._received > EXCHANGE_LIMIT and self._failure is None:
            self._fail(ReplyTooLarge(self._host, f"more than {EXCHANGE_LIMIT} bytes for one request"))
        return self._failure is None

    def _fail(self, err: HomelabError) -> None:
        """Give the process up."""
        self._failure = err
        self._settle(err)
        self.stop()

    def _settle(self, outcome: Marker | RawReply | HomelabError) -> None:
        """End the waiting; an error travels as a result, so that one nobody waits for is not logged."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(outcome)

    # ------------------------------------------------------------ why it ended

    def _ending(self) -> HomelabError:
        """Return the error that tells why the process is gone."""
        process = self._process
        if process is None or (process.exit_status is None and process.signal is None):
            return ConnectionLost(self._host, "the probe's channel closed")
        words = self._last_words()
        if self._marker is None and (error := self._interpreter_error(process.exit_status, words)):
            return error
        status = f"signal {process.signal}" if process.signal else f"exit status {process.exit_status}"
        return ProbeFailed(self._host, f"{words} ({status})" if words else status)

    def _interpreter_error(self, status: int | None, words: str) -> HomelabError | None:
        """Return the error of an interpreter that is missing or lacks a module, None when it is something else."""
        if match := _NO_MODULE.search(words):
            return PythonIncomplete(self._host, match[1])
        if status in _SHELL_STATUS or (_NOT_THERE.search(words) and b"Traceback" not in self._stderr):
            return NoPython(self._host, words)
        return None

    def _last_words(self) -> str:
        """Return the last line of standard error (a traceback ends with its message), else the noise."""
        lines = self._stderr.decode(errors="replace").splitlines()
        return next(filter(None, map(first_line, reversed(lines))), self._parser.noise)
