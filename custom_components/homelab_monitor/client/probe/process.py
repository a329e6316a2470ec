"""Our side of one probe process on a host: bytes in, records out, and why it ended.

It gets the bytes that its channel receives, cuts them into records, and passes on the awaited one.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
import re

from ..errors import (
    BadReply,
    CommandNotRun,
    ConnectionLost,
    HomelabError,
    NoPython,
    OldForcedCommand,
    ProbeFailed,
    PythonIncomplete,
    ReplyTooLarge,
    SessionRefused,
    TimedOut,
    first_line,
    line_with,
    lines_of,
)
from ..limits import EXCHANGE_LIMIT, SILENCE_SECONDS, UNASKED_RECORDS
from ..time_limit import TimeLimit
from ..transport.ssh import RemoteCommand
from .framing import Hello, Marker, RawReply, Record, ReplyParser, Unasked
from .programs import INTERPRETERS

UNREADABLE_ID = "?"
"""The id of a probe's reply to a request line that it could not read."""
_STDERR_KEPT = 4096
_NOT_THERE = re.compile(r"not found|no such file|not recognized|cannot (find|execute)|permission denied", re.IGNORECASE)
_SHELL_STATUS = (126, 127)
"""POSIX shells: found but not executable, and not found; csh has 1 and prints an explanation."""
_SIGNAL_STATUS = range(128, 254)
"""Exit statuses of a shell whose command was ended by a signal; sshd itself ends a session with 254 or 255."""
_NO_MODULE = re.compile(r"(?:Error|standard library of Python): No module named '?([\w.]+)")
"""Python's own words, bare or quoted by the probe."""
_NO_LENGTH = "invalid literal for int() with base 10: b''"
"""Last words of a bootstrap command whose input ends before the program: one without a hello is an old one."""


def _finds(interpreters: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern that finds an interpreter in the words of a shell, with any path."""
    names = "|".join(sorted({re.escape(name.rpartition("/")[2]) for name in interpreters}))
    return re.compile(rf"(?<![\w.+/-])(?:[\w.+-]*/)*(?:{names})(?![\w+/-]|\.\w)")


class ProbeProcess:
    """One probe process: bytes in, records out, at most one of them waited for."""

    def __init__(self, host: str, interpreter: str) -> None:
        self._host = host
        # platform-python may be a script that runs another interpreter.
        self._interpreter = _finds((interpreter, *INTERPRETERS))
        self._parser = ReplyParser(host, self._is_awaited)
        self._process: RemoteCommand | None = None
        self._hello: Hello | None = None
        self._marker: Marker | None = None
        self._waiting: asyncio.Future[Record | HomelabError] | None = None
        self._wanted = UNREADABLE_ID
        self._received = self._unasked = 0
        self._stderr = b""
        self._failure: HomelabError | None = None

    @property
    def noise(self) -> str:
        """Return the first line that something else printed."""
        return self._parser.noise

    @property
    def is_alive(self) -> bool:
        """Return whether the process has started and accepts requests."""
        running = self._process is not None and self._process.is_running
        return running and self._marker is not None and self._failure is None

    async def greet(self, process: RemoteCommand) -> None:
        """Wait for the hello; nothing is sent before it, as something else may run there and act on it."""
        self._process = process
        if self._hello is None:
            await self._record()
        if self._hello is None:
            raise BadReply(self._host, "a marker or a reply before the hello")

    async def load(self, payload: bytes) -> Marker:
        """Send the program to a process that has sent its hello; return the marker of the program."""
        self._send(payload)
        if self._marker is None:
            await self._record()
        if self._marker is None:
            raise BadReply(self._host, "something other than the marker after the hello")
        return self._marker

    async def explain_silence(self, seconds: float) -> HomelabError:
        """Return the error for no hello or no marker within `seconds`.

        An old bootstrap command, a shell that waits for commands and a slow host are all silent.
        They react differently to the end of their input, which is safe to send to all of them.
        """
        late = TimedOut(self._host, f"the probe did not start within {seconds:g} s")
        if self._hello is not None or self._process is None or not self._process.is_running:
            return late
        self._process.write_eof()
        try:
            async with TimeLimit(SILENCE_SECONDS):
                await self._record()
        except TimeoutError:
            # OpenSSH does not end a forced command at our request: each try may leave one running.
            words = (
                "the host is very slow, or another program runs instead, such as a forced command, and may keep running"
            )
            return TimedOut(self._host, f"{late.detail}: {words}")
        except HomelabError as err:
            return err
        words = (
            "it started when its input ended: the host is very slow, or a start-up file of its login shell reads input"
        )
        return TimedOut(self._host, f"{late.detail}; {words}")

    async def ask(self, wanted: str, line: bytes) -> bytes:
        """Send a request line and return the JSON of the reply with that id."""
        self._wanted = wanted
        self._received = self._unasked = 0
        self._send(line)
        record = await self._record()
        if not isinstance(record, RawReply):
            raise BadReply(self._host, "a second marker instead of a reply")
        return record.json

    async def see_end(self, seconds: float) -> None:
        """End the input and wait until the process has ended, so that its channel is free; raise nothing."""
        if self._process is not None:
            self._process.write_eof()
        try:
            with suppress(HomelabError, TimeoutError):
                async with TimeLimit(seconds):
                    await self._record()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()

    def _send(self, data: bytes) -> None:
        """Write to the process; one that no longer reads is about to end and will report why."""
        if self._process is not None:
            with suppress(OSError):
                self._process.write(data)

    async def _record(self) -> Record:
        """Wait for the next awaited record."""
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
        """Cut the bytes into records and pass the wanted one on; a reply with an old id is dropped."""
        if not self._is_within_limit(data):
            return
        try:
            records = self._parser.feed(data)
        except BadReply as err:
            self._fail(err)
            return
        for record in records:
            self._take(record)

    def _is_awaited(self, reply_id: str) -> bool:
        """Return whether a reply is awaited, and count it as the answer: a second one is no longer awaited."""
        # Several may arrive in one piece, before the waiting task has the first.
        if self._waiting is None or self._waiting.done() or not self._wanted:
            return False
        if reply_id not in {self._wanted, UNREADABLE_ID}:
            return False
        self._wanted = ""
        return True

    def _take(self, record: Record) -> None:
        """Update the state of the process and pass on an awaited record; fail after too many others."""
        if isinstance(record, Unasked) or self._waiting is None or self._waiting.done():
            self._unasked += 1
            if self._unasked > UNASKED_RECORDS:
                self._fail(BadReply(self._host, f"more than {UNASKED_RECORDS} unrequested replies"))
        if isinstance(record, Unasked):
            return
        if isinstance(record, RawReply):
            self._settle(record)
            return
        if isinstance(record, Hello):
            self._hello = record
        elif self._hello is not None:
            self._marker = record
        self._settle(record)

    def error_output(self, data: bytes) -> None:
        """Keep the end of standard error."""
        if self._is_within_limit(data):
            self._stderr = (self._stderr + data)[-_STDERR_KEPT:]

    def ended(self) -> None:
        """End the waiting: no more records will come."""
        self._settle(self._failure or self._ending())

    def _is_within_limit(self, data: bytes) -> bool:
        """Count the bytes per request; give the process up if they are too many."""
        self._received += len(data)
        if self._received > EXCHANGE_LIMIT and self._failure is None:
            self._fail(ReplyTooLarge(self._host, f"more than {EXCHANGE_LIMIT} bytes for one request"))
        return self._failure is None

    def _fail(self, err: HomelabError) -> None:
        """Fail with an error and stop the process."""
        self._failure = err
        self._settle(err)
        self.stop()

    def _settle(self, outcome: Record | HomelabError) -> None:
        """End the waiting; an error is passed as a result, so that one that is not awaited is not logged."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(outcome)

    # ------------------------------------------------------------ why it ended

    def _ending(self) -> HomelabError:
        """Return the error that explains why the process ended."""
        process = self._process
        if process is not None and process.excess is not None:
            return process.excess
        if process is None or (process.exit_status is None and process.signal is None):
            return ConnectionLost(self._host, "the probe's channel closed")
        words = self._last_words()
        if self._marker is None and (error := self._interpreter_error(process.exit_status, words)):
            return error
        if self._hello is None and (error := self._shell_error(process, words)):
            return error
        status = f"signal {process.signal}" if process.signal else f"exit status {process.exit_status}"
        return ProbeFailed(self._host, f"{words} ({status})" if words else status)

    def _shell_error(self, process: RemoteCommand, words: str) -> HomelabError | None:
        """Return the error of something that ended without a hello and was not our command, None if it may have been.

        Python would have sent a hello before it ended well, and a shell that cannot start it names it in its complaint.
        """
        if words.endswith(_NO_LENGTH):
            return OldForcedCommand(self._host)
        if process.exit_status in (0, *_SHELL_STATUS):
            return CommandNotRun(self._host, words)
        if process.exit_status in _SIGNAL_STATUS or b"Traceback" in self._stderr or b"python" in self._stderr.lower():
            return None
        return SessionRefused(self._host, words) if process.exit_status is not None else None

    def _interpreter_error(self, status: int | None, words: str) -> HomelabError | None:
        """Return the error of an interpreter that is missing or lacks a module, None for any other cause.

        Other programs that a shell may not run or does not find are named in the same words: in a start-up file, or by
        a custom login shell.
        """
        if match := _NO_MODULE.search(words):
            return PythonIncomplete(self._host, match[1])
        if self._hello is not None or b"Traceback" in self._stderr:
            return None
        line = line_with(self._interpreter, self._stderr.decode(errors="replace")) or self._interpreter_in_noise()
        return NoPython(self._host, line) if line and (status in _SHELL_STATUS or _NOT_THERE.search(line)) else None

    def _interpreter_in_noise(self) -> str:
        """Return the first line of noise if it names the interpreter: not every shell complains on standard error."""
        return self._parser.noise if self._interpreter.search(self._parser.noise) else ""

    def _last_words(self) -> str:
        """Return the last line of standard error (a traceback ends with its message), else the noise."""
        lines = lines_of(self._stderr.decode(errors="replace"))
        return next(filter(None, map(first_line, reversed(lines))), self._parser.noise)
