"""A running probe process behind one SSH connection: start it, send requests, replace it when it dies.

One poll is one request line out and one reply back; polls never overlap. A process that died
is replaced once within the poll, and so is a connection that was dropped while idle, with or
without notice. A late reply is dropped by its id when it arrives; after two in a row everything
is restarted.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
import json
import logging
import secrets

from ..errors import (
    AnotherMachine,
    BadReply,
    ChannelRefused,
    CommandNotRun,
    ConnectionLost,
    HomelabError,
    NoPython,
    ProbeFailed,
    ProbeStarting,
    PythonIncomplete,
    SessionRefused,
    TimedOut,
    UnsupportedSystem,
)
from ..time_limit import TimeLimit
from ..transport.keys import KeyPair
from ..transport.ssh import Connection, Introduction
from ..transport.target import Target
from .process import ProbeProcess
from .programs import INTERPRETERS, Programs
from .snapshot import Reply, decode_reply
from .start import Send, ask_who, start_probe
from .upload import Starting, load

_encode = json.JSONEncoder(separators=(",", ":")).encode
_LOGGER = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
ASIDE_SECONDS = 60.0
"""Limit of connecting and starting a probe that a person waits for; over a link of 5 kB/s the upload takes 22 s."""
FAILED_LIMIT = 2
"""Late or bad replies in a row after which process and connection are dropped."""
_ID_BYTES = 3
"""Random bytes in the id of a request, which is written in four characters."""
REPLY_MARGIN_SECONDS = 0.5
"""How much earlier than our time limit a probe gives up late sections, so that the rest still arrives in time."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: its id, its line, and the sections that the reply may have."""

    id: str
    line: bytes
    sections: Sequence[str]


class ProbeSession:
    """One host's probe; it connects and starts itself at the first poll."""

    def __init__(  # noqa: PLR0913
        self,
        target: Target,
        key: KeyPair,
        host_keys: Sequence[str],
        programs: Programs,
        *,
        timeout: float = 10.0,
        gate: asyncio.Semaphore | None = None,
        side_gate: asyncio.Semaphore | None = None,
        each_poll: bool = False,
        afresh: bool = False,
        machine: str = "",
    ) -> None:
        self._target = target
        self._key = key
        self.host_keys = tuple(host_keys)
        self.afresh = afresh
        """The keys were pinned before each had to be proven; the first login keeps only those that it proves."""
        self.machine = machine
        """The expected machine, as from `identity.machine_of`; "" until the first one has reported it."""
        self._programs = programs
        self._timeout = timeout
        self._gate = gate
        self._side_gate = side_gate
        """The gate while the last connection has failed: a silent host takes no place from the others."""
        self._has_failed = False
        self._each_poll = each_poll
        self._poll_lock = asyncio.Lock()
        self._connect_lock = asyncio.Lock()
        self._opening: set[asyncio.Task[Connection]] = set()
        self._lent: Counter[Connection] = Counter()
        self._starting = Starting(target.host, timeout)
        self._probe: ProbeProcess | None = None
        self._interpreter = INTERPRETERS[0]
        self._failed = 0
        self._is_closed = False
        self._keys_seen: tuple[str, ...] = ()
        self.connection: Connection | None = None
        self.host_key = ""
        self._rtt_seconds: float | None = None
        """Of the last poll with a connection of its own."""
        self.noise: str | None = None
        self.python: tuple[str, str] | None = None

    @property
    def rtt_seconds(self) -> float | None:
        """Return the shortest round trip of the last minutes, None without a connection."""
        if self._each_poll or self.connection is None:
            return self._rtt_seconds
        return self.connection.rtt_seconds

    async def poll(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None = None,
        sudo: Sequence[str] = (),
    ) -> Reply:
        """Request sections and return the reply; raise HomelabError. Each step has `timeout` seconds."""
        async with self._poll_lock:
            request = self._request_for(sections, watch, sudo, self._timeout)
            try:
                reply = await self._ask(request)
            except TimedOut, BadReply:
                await self._count_failed()
                raise
            finally:
                if self._each_poll and not self._starting.is_under_way:
                    await self.disconnect()
            self._failed = 0
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
        """Send the request to a second probe, which polls do not wait for and which ends after it; raise HomelabError.

        `again_after`: request twice, so many seconds apart, for values that need two readings. A person waits for it:
        all steps before the first request, even with five interpreters, have ASIDE_SECONDS together.
        """
        seconds = ASIDE_SECONDS + timeout if again_after is None else ASIDE_SECONDS + again_after + 2 * timeout
        try:
            async with TimeLimit(seconds):
                return await self._ask_aside(sections, watch, sudo, timeout, again_after)
        except TimeoutError as err:
            raise TimedOut(self._target.host, f"no reply within {seconds:g} s, start of the probe included") from err

    async def _ask_aside(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None,
        sudo: Sequence[str],
        timeout: float,  # noqa: ASYNC109
        again_after: float | None,
    ) -> tuple[Reply, ...]:
        """Send the request to a second probe once or twice."""
        async with self.aside() as connection, self._probe_on(connection) as probe:
            replies = [await self._reply(probe, self._request_for(sections, watch, sudo, timeout), timeout)]
            if again_after is not None:
                await asyncio.sleep(again_after)
                replies.append(await self._reply(probe, self._request_for(sections, watch, sudo, timeout), timeout))
        return tuple(replies)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Connection]:
        """Lend a connection for use beside the polls: the open one, or a separate one. No poll closes it."""
        connection = await self._connect_anew() if self._each_poll else await self.connect()
        async with self._lend(connection):
            yield connection

    @asynccontextmanager
    async def _lend(self, connection: Connection) -> AsyncIterator[Connection]:
        """Keep a connection open while it is used, but not beyond `close`."""
        self._lent[connection] += 1
        try:
            yield connection
        finally:
            self._lent[connection] -= 1
            if not self._lent[connection]:
                del self._lent[connection]
                if connection is not self.connection:
                    await connection.close()

    async def connect(self) -> Connection:
        """Return the open connection, or open one."""
        async with self._connect_lock:
            self._require_open()
            if self.connection is not None and (self.connection.is_clogged or self.connection.excess is not None):
                await self.disconnect()
            if self.connection is None or self.connection.closed:
                self.connection = connection = await self._connect_anew()
                self.host_key = connection.host_key
                self._keys_seen = connection.host_keys
            return self.connection

    def narrow(self, proven: Sequence[str]) -> None:
        """Trust only the keys that another login to the host has proven, unless our own login has proven some."""
        if self.afresh:
            self.afresh, self.host_keys = False, tuple(proven)

    async def disconnect(self) -> None:
        """End process and connection; the next poll restarts both. A lent connection is closed when it is returned."""
        self._starting.forget()
        await self._drop()

    async def _drop(self) -> None:
        """Drop process and connection."""
        self._end_probe()
        connection, self.connection = self.connection, None
        if connection is not None and (self._is_closed or connection not in self._lent):
            await connection.close()

    async def close(self) -> None:
        """End everything for good, within CLOSE_SECONDS; raise nothing."""
        self._is_closed = True
        for opening in self._opening:
            opening.cancel()
        with suppress(TimeoutError):
            async with TimeLimit(CLOSE_SECONDS):
                await self.disconnect()
                await asyncio.gather(*(connection.close() for connection in self._lent))

    # ------------------------------------------------------------ one request

    def _request_for(
        self,
        sections: Sequence[str],
        watch: Mapping[str, Sequence[str]] | None,
        sudo: Sequence[str],
        seconds: float,
    ) -> _Request:
        """Return a new request; empty values are left out of its line.

        Its id cannot be guessed, so a host that answers has read it: unread requests would pile up here, in the channel
        or behind a key exchange that never ends. It is as long as a counter would be after a day.
        """
        request_id = secrets.token_urlsafe(_ID_BYTES)
        wanted = {"id": request_id, "sections": list(sections)}
        extra = {"sudo": list(sudo), "watch": watch, "timeout": seconds - REPLY_MARGIN_SECONDS}
        line = _encode(wanted | {name: value for name, value in extra.items() if value})
        return _Request(request_id, line.encode() + b"\n", sections)

    async def _reply(self, probe: ProbeProcess, request: _Request, seconds: float) -> Reply:
        """Send one request line and return the typed reply, with the requested sections."""
        try:
            async with TimeLimit(seconds):
                raw = await probe.ask(request.id, request.line)
        except TimeoutError as err:
            raise TimedOut(self._target.host, f"no reply within {seconds:g} s") from err
        return decode_reply(self._target.host, raw, request.sections)

    async def _ask(self, request: _Request) -> Reply:
        """Return the reply; a dead process or connection is replaced once."""
        probe = await self._ready()
        acknowledged = self._acknowledged()
        try:
            return await self._exchange(probe, request)
        except (ConnectionLost, ProbeFailed) as err:
            died: HomelabError = err
        except TimedOut as err:
            if acknowledged is None or self._acknowledged() != acknowledged:
                raise
            # A firewall that has forgotten a connection drops all its packets, and lets a new one through.
            await self._drop()
            died = err
        _LOGGER.debug("Starting the probe again: %s", died)
        try:
            probe = await self._ready()
        except ProbeStarting as err:
            err.died = died
            raise
        return await self._exchange(probe, request)

    def _acknowledged(self) -> int | None:
        """Return how many sent bytes the host's system has acknowledged, None if not known."""
        return self.connection.bytes_sent if self.connection else None

    async def _exchange(self, probe: ProbeProcess, request: _Request) -> Reply:
        """Send one request and decode its reply."""
        try:
            reply = await self._reply(probe, request, self._timeout)
        except BadReply:
            # It is unknown where the next record would begin.
            self._end_probe()
            raise
        finally:
            self.noise = probe.noise or self.noise
        if self.connection is not None:
            if self._each_poll:
                self._rtt_seconds = self.connection.rtt_seconds
            self._learn_host_keys(self.connection)
        return reply

    def _learn_host_keys(self, connection: Connection) -> None:
        """Take over the keys that the server has proven or retired since the last call.

        A connection whose own key was dropped meanwhile, over another connection, is ignored.
        """
        if connection.host_keys is not self._keys_seen and connection.host_key in self.host_keys:
            self.host_keys = connection.host_keys
        self._keys_seen = connection.host_keys

    async def _count_failed(self) -> None:
        """Drop process and connection after too many late or bad replies in a row."""
        self._failed += 1
        if self._failed >= FAILED_LIMIT:
            self._failed = 0
            await self.disconnect()

    async def _ready(self) -> ProbeProcess:
        """Return a running probe on an open connection; raise ProbeStarting while that takes long."""
        if self._probe is not None and self._probe.is_alive:
            return self._probe
        return await self._starting.probe(self._start_for_polls)

    async def _start_for_polls(self) -> ProbeProcess:
        """Return a new probe, on a new connection if necessary."""
        is_fresh = self.connection is None or self.connection.closed
        connection = await self.connect()
        try:
            self._probe = await self._start(connection, self._starting.send)
        except ChannelRefused:
            if is_fresh:
                raise
            # The server may still count the channel of the process that just died (MaxSessions).
            await self._drop()
            self._probe = await self._start(await self.connect(), self._starting.send)
        except AnotherMachine:
            await self._drop()  # The next connection may lead to the right machine.
            raise
        except TimedOut:
            if self._starting.is_sending:
                await self._drop()  # The connection no longer carries anything.
            raise
        return self._probe

    def _end_probe(self) -> None:
        """Stop the process; the next poll starts a new one."""
        if self._probe is not None:
            self._probe.stop()
            self._probe = None

    # ------------------------------------------------------------ connecting and starting

    def _require_open(self) -> None:
        """Raise ConnectionLost if the session was closed for good."""
        if self._is_closed:
            raise ConnectionLost(self._target.host, "the session is closed")

    async def _connect_anew(self) -> Connection:
        """Return a new connection, opened in a task that `close` can cancel; the caller closes it."""
        self._require_open()
        opening = asyncio.ensure_future(self._open())
        self._opening.add(opening)
        try:
            connection = await opening
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._is_closed and current is not None and not current.cancelling():
                raise ConnectionLost(self._target.host, "the session is closed") from None
            raise
        finally:
            self._opening.discard(opening)
        try:
            self._require_open()  # The session may have been closed at the moment in which the login succeeded.
        except ConnectionLost:
            await connection.close()
            raise
        return connection

    async def _open(self) -> Connection:
        """Return a connection to the expected machine, and trust the keys that its login has proven."""
        is_first = self.afresh
        connection = await self._log_in(is_first=is_first)
        self.narrow(connection.host_keys)
        if is_first and connection.host_key not in self.host_keys:
            await connection.close()
            raise ConnectionLost(self._target.host, "another login has proven a different host key in the meantime")
        return connection

    async def _log_in(self, *, is_first: bool) -> Connection:
        """Return a new connection, and remember whether that failed."""
        gate = self._side_gate if self._has_failed else self._gate
        try:
            connection = await Connection.open(
                self._target,
                self._key,
                self.host_keys,
                timeout=self._timeout,
                gate=gate,
                afresh=is_first,
                introduction=Introduction(self.machine, self._ask_who),
            )
        except HomelabError:
            self._has_failed = True
            raise
        self._has_failed = False
        return connection

    async def _ask_who(self, connection: Connection) -> None:
        """Identify the machine of a connection on which no probe was started."""
        await ask_who(connection, self._programs, self._timeout)

    @asynccontextmanager
    async def _probe_on(self, connection: Connection) -> AsyncIterator[ProbeProcess]:
        """Lend a separate probe on a connection, on another one if the server allows no second channel."""
        async with AsyncExitStack() as stack:
            try:
                probe = await self._start(connection)
            except ChannelRefused:
                spare = await stack.enter_async_context(self._lend(await self._connect_anew()))
                probe = await self._start(spare)
            stack.callback(probe.stop)
            yield probe

    async def _start(self, connection: Connection, send: Send = load) -> ProbeProcess:
        """Start the probe with the first interpreter that can run it."""
        if "Windows" in connection.server_version:
            raise UnsupportedSystem(self._target.host, "Windows")
        refused: HomelabError | None = None
        for interpreter in sorted(INTERPRETERS, key=lambda name: name != self._interpreter):
            probe = ProbeProcess(self._target.host, interpreter)
            try:
                marker = await start_probe(
                    connection, probe, interpreter, self._programs.linux.payload, timeout=self._timeout, send=send
                )
            except (NoPython, PythonIncomplete) as err:
                # An incomplete interpreter explains more than a missing one.
                refused = err if refused is None or isinstance(err, PythonIncomplete) else refused
                continue
            except (CommandNotRun, SessionRefused) as err:
                # If the shell has named an interpreter, that error explains more.
                raise refused or err from err
            finally:
                self.noise = probe.noise or None
            self._interpreter = interpreter
            self.python = (marker.python, interpreter)
            # If none was recorded, the first one is expected from now on.
            self.machine = self.machine or marker.machine
            return probe
        raise refused or NoPython(self._target.host)
