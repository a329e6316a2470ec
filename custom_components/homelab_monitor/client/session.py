"""A living probe process behind one SSH connection: start it, ask it, replace it when it dies.

One poll is one request line out and one reply back; polls never overlap. A process that died
is replaced once within the poll, so is a connection that was dropped while idle. A late reply
is left to come and then dropped by its id; after two in a row everything is started anew.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
import json
import logging
import re

from .errors import (
    BadReply,
    ChannelRefused,
    ConnectionLost,
    HomelabError,
    NoPython,
    ProbeFailed,
    PythonIncomplete,
    ReplyTooLarge,
    TimedOut,
    UnsupportedSystem,
    first_line,
)
from .framing import REPLY_LIMIT, Marker, RawReply, ReplyParser
from .keys import KeyPair
from .programs import BOOTSTRAP, INTERPRETERS, Programs
from .snapshot import PROTOCOL, Reply, decode_reply
from .ssh import Connection, Process
from .target import Target

_LOGGER = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
LATE_LIMIT = 2
"""Late replies in a row after which process and connection are given up."""
EXCHANGE_LIMIT = 2 * REPLY_LIMIT
"""Bytes that a probe may send per request, dropped replies and noise included."""
UNREADABLE_ID = "?"
"""The id with which a probe answers a request line that it could not read."""
REPLY_MARGIN_SECONDS = 0.5
"""How much earlier than we give up a probe gives up what is late, so that the rest still arrives in time."""
_STDERR_KEPT = 4096
_NOT_THERE = re.compile(r"not found|no such file|not recognized|cannot (find|execute)|permission denied", re.IGNORECASE)
_SHELL_STATUS = (126, 127)
"""POSIX shells: found but not executable, and not found; csh says 1 and explains itself."""
_NO_MODULE = re.compile(r"(?:Error|standard library of Python): No module named '?([\w.]+)")
"""Python's own words, bare or quoted by the probe."""


class ProbeSession:
    """One host's probe; it connects and starts by itself at the first poll."""

    def __init__(  # noqa: PLR0913
        self,
        target: Target,
        key: KeyPair,
        host_keys: Sequence[str],
        programs: Programs,
        *,
        timeout: float = 10.0,
        gate: asyncio.Semaphore | None = None,
        each_poll: bool = False,
    ) -> None:
        self._target = target
        self._key = key
        self.host_keys = host_keys
        self._programs = programs
        self._timeout = timeout
        self._gate = gate
        self._each_poll = each_poll
        self._poll_lock = asyncio.Lock()
        self._connect_lock = asyncio.Lock()
        self._opening: asyncio.Task[Connection] | None = None
        self._probe: _Probe | None = None
        self._interpreter = INTERPRETERS[0]
        self._request = 0
        self._late = 0
        self._is_closed = False
        self.connection: Connection | None = None
        self.host_key = ""
        self.rtt_seconds: float | None = None
        self.noise: str | None = None
        self.python: tuple[str, str] | None = None

    async def poll(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None = None,
        sudo: Sequence[str] = (),
    ) -> Reply:
        """Ask for sections and return the reply; raise HomelabError. Each step has `timeout` seconds."""
        async with self._poll_lock:
            request_id, line = self._request_line(sections, watch, sudo, self._timeout)
            try:
                reply = await self._ask(request_id, line)
            except TimedOut:
                await self._count_late()
                raise
            finally:
                if self._each_poll:
                    await self.disconnect()
            self._late = 0
            return reply

    async def ask_aside(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None = None,
        sudo: Sequence[str] = (),
        *,
        timeout: float,  # noqa: ASYNC109
        again_after: float | None = None,
    ) -> tuple[Reply, ...]:
        """Ask a second probe, which polls do not wait for and which ends with its answer; raise HomelabError.

        `again_after`: ask twice, so many seconds apart, for what needs two readings.
        """
        async with self.aside() as connection, self._probe_on(connection) as probe:
            replies = [await self._reply(probe, *self._request_line(sections, watch, sudo, timeout), timeout)]
            if again_after is not None:
                await asyncio.sleep(again_after)
                replies.append(await self._reply(probe, *self._request_line(sections, watch, sudo, timeout), timeout))
        return tuple(replies)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Connection]:
        """Lend a connection for something beside the polls: the living one, or one that no poll ends."""
        if not self._each_poll:
            yield await self.connect()
            return
        connection = await self._connect_anew()
        try:
            yield connection
        finally:
            await connection.close()

    async def connect(self) -> Connection:
        """Return the living connection, opened when there is none."""
        async with self._connect_lock:
            self._require_open()
            if self.connection is None or self.connection.closed:
                connection = await self._open()
                try:
                    self._require_open()  # It may have ended in the very moment in which the login succeeded.
                except ConnectionLost:
                    await connection.close()
                    raise
                self.connection = connection
                self.host_key = connection.host_key
            return self.connection

    async def disconnect(self) -> None:
        """End process and connection; the next poll starts both anew."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.stop()
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """End everything for good; takes seconds at most, raises nothing."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.disconnect()

    # ------------------------------------------------------------ one request

    def _request_line(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None,
        sudo: Sequence[str],
        seconds: float,
    ) -> tuple[str, bytes]:
        """Return the id and the line of a new request; what is empty is left out."""
        self._request += 1
        request_id = str(self._request)
        wanted = {"id": request_id, "sections": list(sections)}
        extra = {"sudo": list(sudo), "watch": watch, "timeout": seconds - REPLY_MARGIN_SECONDS}
        line = json.dumps(wanted | {name: value for name, value in extra.items() if value}, separators=(",", ":"))
        return request_id, line.encode() + b"\n"

    async def _reply(self, probe: _Probe, wanted: str, line: bytes, seconds: float) -> Reply:
        """Send one request line and return the typed reply."""
        try:
            async with asyncio.timeout(seconds):
                raw = await probe.ask(wanted, line)
        except TimeoutError as err:
            raise TimedOut(self._target.host, f"no reply within {seconds:g} s") from err
        return decode_reply(self._target.host, raw)

    async def _ask(self, wanted: str, line: bytes) -> Reply:
        """Return the reply; a process or connection that turns out to be dead is replaced once."""
        probe = await self._ready()
        try:
            return await self._exchange(probe, wanted, line)
        except (ConnectionLost, ProbeFailed) as err:
            _LOGGER.debug("Starting the probe again: %s", err)
        return await self._exchange(await self._ready(), wanted, line)

    async def _exchange(self, probe: _Probe, wanted: str, line: bytes) -> Reply:
        """Send one request and decode its reply."""
        try:
            reply = await self._reply(probe, wanted, line, self._timeout)
        except BadReply:
            # Nobody knows where the next record would begin.
            self._end_probe()
            raise
        finally:
            self.noise = probe.noise or self.noise
        if self.connection is not None:
            self.rtt_seconds = self.connection.rtt_seconds
        return reply

    async def _count_late(self) -> None:
        """Give process and connection up after too many late replies in a row."""
        self._late += 1
        if self._late >= LATE_LIMIT:
            self._late = 0
            await self.disconnect()

    async def _ready(self) -> _Probe:
        """Return a living probe on a living connection."""
        if self._probe is not None and self._probe.is_alive:
            return self._probe
        is_fresh = self.connection is None or self.connection.closed
        connection = await self.connect()
        try:
            self._probe = await self._start(connection)
        except ChannelRefused:
            if is_fresh:
                raise
            # The server may still count the channel of the process that just died (MaxSessions).
            await self.disconnect()
            self._probe = await self._start(await self.connect())
        return self._probe

    def _end_probe(self) -> None:
        """Stop the process; the next poll starts a new one."""
        if self._probe is not None:
            self._probe.stop()
            self._probe = None

    # ------------------------------------------------------------ connecting and starting

    def _require_open(self) -> None:
        """Raise when the session was closed for good."""
        if self._is_closed:
            raise ConnectionLost(self._target.host, "the session is closed")

    async def _connect_anew(self) -> Connection:
        """Return a new connection; who asks closes it."""
        return await Connection.open(self._target, self._key, self.host_keys, timeout=self._timeout, gate=self._gate)

    @asynccontextmanager
    async def _probe_on(self, connection: Connection) -> AsyncIterator[_Probe]:
        """Lend a probe of its own on a connection, on another one where the server allows no second channel."""
        spare: Connection | None = None
        try:
            try:
                probe = await self._start(connection)
            except ChannelRefused:
                spare = await self._connect_anew()
                probe = await self._start(spare)
            try:
                yield probe
            finally:
                probe.stop()
        finally:
            if spare is not None:
                await spare.close()

    async def _open(self) -> Connection:
        """Open a connection in a task that `close` can cancel."""
        self._opening = asyncio.ensure_future(self._connect_anew())
        try:
            return await self._opening
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._is_closed and current is not None and not current.cancelling():
                raise ConnectionLost(self._target.host, "the session is closed") from None
            raise
        finally:
            self._opening = None

    async def _start(self, connection: Connection) -> _Probe:
        """Start the probe with the first interpreter that can run it."""
        if "Windows" in connection.server_version:
            raise UnsupportedSystem(self._target.host, "Windows")
        refused: HomelabError | None = None
        for interpreter in sorted(INTERPRETERS, key=lambda name: name != self._interpreter):
            try:
                probe, marker = await self._start_with(connection, interpreter)
            except (NoPython, PythonIncomplete) as err:
                # An incomplete one says more than one that is not there.
                refused = err if refused is None or isinstance(err, PythonIncomplete) else refused
                continue
            self._interpreter = interpreter
            self.python = (marker.python, interpreter)
            return probe
        raise refused or NoPython(self._target.host)

    async def _start_with(self, connection: Connection, interpreter: str) -> tuple[_Probe, Marker]:
        """Send the program to one interpreter and wait for its marker."""
        host = self._target.host
        probe = _Probe(host)
        command = BOOTSTRAP.format(interpreter=interpreter)
        try:
            process = await connection.start(command, probe, timeout=self._timeout)
            async with asyncio.timeout(self._timeout):
                marker = await probe.begin(process, self._programs.linux.payload)
        except TimeoutError as err:
            raise TimedOut(host, f"the probe did not start within {self._timeout:g} s") from err
        finally:
            self.noise = probe.noise or None
            if not probe.is_alive:
                probe.stop()
        if marker.protocol != PROTOCOL:
            probe.stop()
            raise BadReply(host, f"protocol {marker.protocol}, expected {PROTOCOL}")
        return probe, marker


class _Probe:
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
