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

from .errors import (
    BadReply,
    ChannelRefused,
    ConnectionLost,
    HomelabError,
    NoPython,
    ProbeFailed,
    PythonIncomplete,
    TimedOut,
    UnsupportedSystem,
)
from .framing import Marker
from .keys import KeyPair
from .probe import Probe
from .programs import BOOTSTRAP, INTERPRETERS, Programs
from .snapshot import PROTOCOL, Reply, decode_reply
from .ssh import Connection
from .target import Target

_LOGGER = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
LATE_LIMIT = 2
"""Late replies in a row after which process and connection are given up."""
REPLY_MARGIN_SECONDS = 0.5
"""How much earlier than we give up a probe gives up what is late, so that the rest still arrives in time."""


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
        self._probe: Probe | None = None
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

    async def _reply(self, probe: Probe, wanted: str, line: bytes, seconds: float) -> Reply:
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

    async def _exchange(self, probe: Probe, wanted: str, line: bytes) -> Reply:
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

    async def _ready(self) -> Probe:
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
    async def _probe_on(self, connection: Connection) -> AsyncIterator[Probe]:
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

    async def _start(self, connection: Connection) -> Probe:
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

    async def _start_with(self, connection: Connection, interpreter: str) -> tuple[Probe, Marker]:
        """Send the program to one interpreter and wait for its marker."""
        host = self._target.host
        probe = Probe(host)
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
