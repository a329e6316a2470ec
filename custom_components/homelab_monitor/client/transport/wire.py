"""The hook between the socket and asyncssh: everything a host sends is counted here before it is processed.

asyncssh lets its caller open the connection (`tunnel`), so that this is the protocol of the socket: it
counts bytes and time, and continues to read only when other hosts had their turn. Packets are counted where asyncssh
passes each to its handler (`process_packet` of a connection and of a channel; no private name). Beyond a budget the
connection ends with an `Excess`, which carries the error for people. docs/adr/0016 explains why it is done this way.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, Self, override
from weakref import WeakSet

from aiohappyeyeballs import start_connection
import asyncssh
from asyncssh import SSHClientChannel, SSHClientConnection

from ..bucket import Bucket
from ..errors import HomelabError, TooMuchTraffic
from ..limits import (
    HOST_KEYS_BYTES,
    LOOP_BURST_SECONDS,
    LOOP_SHARE,
    LOOP_SHARE_OF_ALL,
    NOTICES,
    NOTICES_PER_SECOND,
    PACKET_BYTES,
    PREAMBLE_KEPT,
    READ_BYTES,
    UNSENT_BYTES,
    UNTAKEN_BYTES,
)
from .budget import AUTHENTICATED, GREETED, Budget
from .names import is_address

if TYPE_CHECKING:
    from asyncssh.misc import OptExcInfo
    from asyncssh.packet import SSHPacket

# Message numbers of RFC 4250 (4.1.2).
_IGNORE = 2
_KEXINIT = 20
_GLOBAL_REQUEST = 80
_REQUEST_FAILURE = 82
_CHANNEL_OPENED = 91
_DATA = (94, 95)
"""Output and error output of a command."""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""Time after which the next address of a name is tried as well (RFC 8305, 5)."""

_HOST_KEYS = b"\x50" + (23).to_bytes(4) + b"hostkeys-00@openssh.com" + b"\0"
"""Beginning of a request with the list of host keys (PROTOCOL of OpenSSH, 2.5): kind, name, no reply wanted."""


class Excess(asyncssh.DisconnectError):
    """Ends a connection whose host exceeded its budget."""

    def __init__(self, error: HomelabError) -> None:
        super().__init__(asyncssh.DISC_BY_APPLICATION, error.detail)
        self.error = error


_GREEDY: Final[WeakSet[Wire]] = WeakSet()
"""The connections beyond their burst: they divide the share of the event loop for all hosts."""


class Outgoing(asyncio.Transport):
    """The socket as asyncssh sees it: its writes to a connection that is closing are dropped.

    asyncssh notices the end in the next turn of the event loop, and asyncio logs each write until then.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    @override
    def abort(self) -> None:
        self._transport.abort()

    @override
    def close(self) -> None:
        self._transport.close()

    @override
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    @override
    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    @override
    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()


class Wire(asyncio.BufferedProtocol):
    """The path of one connection; asyncssh opens it as a tunnel."""

    def __init__(self, host: str, on_excess: Callable[[HomelabError], None] = lambda _: None) -> None:
        self._host = host
        self._on_excess = on_excess
        self.budget = Budget(host)
        self.excess: HomelabError | None = None
        """Why this connection was ended, None if it was not."""
        self._connection: SSHClientConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._debt = 0.0
        self._measured = 0.0
        self._resting: asyncio.TimerHandle | None = None
        self._knows_host_keys = False
        self.on_packet: Callable[[int, bytes], None] | None = None
        """Called with each packet about the connection itself during the login."""
        self.preamble = b""
        """The first bytes that came."""

    # ------------------------------------------------------------ the interface of a tunnel for asyncssh

    async def create_connection(
        self, factory: Callable[[], SSHClientConnection], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, SSHClientConnection]:
        """Connect, with this object between the socket and the connection that `factory` makes."""
        loop, begin = asyncio.get_running_loop(), partial(self._begin, factory)
        if is_address(host):
            transport, _ = await loop.create_connection(begin, host, port)
        else:
            # Some addresses of a name may never answer; asyncio's own race leaks a socket when it is cancelled.
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            door = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
            transport, _ = await loop.create_connection(begin, sock=door)
        assert self._connection is not None  # noqa: S101
        return transport, self._connection

    def close(self) -> None:
        """Do nothing: the connection closes its transport itself."""

    def _begin(self, factory: Callable[[], SSHClientConnection]) -> Self:
        """Make asyncssh's connection, now that the machine answers."""
        self._connection = factory()
        self._count_packets(self._connection)
        self._connection.internal_error = self._tripped  # type: ignore[method-assign]
        return self

    # ------------------------------------------------------------ called by the socket

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        assert self._connection is not None  # noqa: S101
        self._transport = transport
        self._measured = time.monotonic()
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._connection.connection_made(Outgoing(transport))

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        # Not kept between two reads: most of a thousand connections have nothing to read.
        self._buffer = bytearray(READ_BYTES)
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        data, self._buffer = bytes(memoryview(self._buffer)[:nbytes]), bytearray()
        if self._connection is None or self.excess is not None:
            return
        started = time.thread_time()
        try:
            self._take(data)
            self.preamble += data[: PREAMBLE_KEPT - len(self.preamble)]
            self._connection.data_received(data)
            self._advance()
            spent = time.thread_time() - started
            self.budget.take_time(spent)
        except HomelabError as err:
            self._end(err)
        else:
            self._rest(spent)

    @override
    def eof_received(self) -> bool | None:
        if self._connection is not None:
            self._connection.eof_received()
        return None

    @override
    def pause_writing(self) -> None:
        # The host sends requests and does not read: its replies would pile up here.
        self._end(TooMuchTraffic(self._host, f"it left more than {UNSENT_BYTES} bytes unread"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        _GREEDY.discard(self)
        if self._resting is not None:
            self._resting.cancel()
        if self._connection is not None:
            self._connection.connection_lost(exc)

    # ------------------------------------------------------------ counting

    def command(self) -> AbstractContextManager[None]:
        """Let a command print while it runs."""
        return self.budget.command()

    def watch(self, channel: SSHClientChannel[bytes]) -> None:
        """Count the packets of a channel."""
        process = channel.process_packet
        notices = Bucket(NOTICES, 1 / NOTICES_PER_SECOND)

        def counted(kind: int, number: int, packet: SSHPacket) -> object:
            self._take_packet(notices=None if kind in _DATA else notices)
            return process(kind, number, packet)

        channel.process_packet = counted  # type: ignore[method-assign,assignment]

    def _count_packets(self, connection: SSHClientConnection) -> None:
        """Count the packets about the connection itself, and answer requests that asyncssh would queue."""
        process = connection.process_packet

        def counted(kind: int, number: int, packet: SSHPacket) -> object:
            self._advance()
            self._take_packet(kind, packet)
            # A private value, read with a default: asyncssh drops it when it ends a connection, and then continues with
            # the rest of the data. Plain text, which anybody can send, would then count as the host's.
            if getattr(connection, "_transport", self) is None:
                return True
            if kind == _CHANNEL_OPENED:
                self._require_room_in_packets(packet)
            if self.on_packet is not None and self.budget.phase != AUTHENTICATED:
                self.on_packet(kind, packet.get_full_payload())
            if kind == _GLOBAL_REQUEST and not self._is_first_host_keys(packet):
                return True
            return process(kind, number, packet)

        connection.process_packet = counted  # type: ignore[method-assign,assignment]

    def _take(self, data: bytes) -> None:
        """Count data from the socket."""
        self._advance()
        if not self.budget.phase:
            before = data.partition(b"SSH-")[0]
            self.budget.take_lines(before.count(b"\n"))
            self.budget.take_bytes(len(before))
            if len(before) == len(data):
                return
            data = data[len(before) :]
            self.budget.enter(GREETED)
        self.budget.take_bytes(len(data))

    def _take_packet(
        self, kind: int | None = None, packet: SSHPacket | None = None, notices: Bucket | None = None
    ) -> None:
        """Count a packet; raise Excess, with which asyncssh ends a connection."""
        try:
            self.budget.take_packet()
            if packet is not None and kind != _IGNORE:
                self.budget.take_notice(len(packet.get_full_payload()))
            if notices is not None:
                self.budget.take_channel_notice(notices)
            if kind == _KEXINIT:
                self.budget.take_rekey()
        except HomelabError as err:
            self._exceed(err)
            raise Excess(err) from None

    def require_taken(self, channel: SSHClientChannel[bytes]) -> None:
        """End the connection if the host has given no room for earlier requests, which would pile up here without end.

        It may answer all the same, by guessing.
        """
        if channel.get_write_buffer_size() > UNTAKEN_BYTES:
            self._end(TooMuchTraffic(self._host, f"it left more than {UNTAKEN_BYTES} bytes of requests unread"))

    def _require_room_in_packets(self, packet: SSHPacket) -> None:
        """Refuse a channel with a tiny maximum packet size, which the server sets (RFC 4254, 5.1)."""
        # The kind, both numbers of the channel and its window come first; a shorter packet is refused, too.
        room = int.from_bytes(packet.get_full_payload()[13:17])
        if room < PACKET_BYTES:
            err = TooMuchTraffic(self._host, f"it accepts no packet with more than {room} bytes of data")
            self._exceed(err)
            raise Excess(err)

    def _advance(self) -> None:
        """Follow the progress of the login, by asyncssh's public values."""
        if self.budget.phase == AUTHENTICATED or self._connection is None:
            return
        info = self._connection.get_extra_info
        steps = [info(name) for name in ("server_version", "recv_cipher", "username")]
        self.budget.enter(next((number for number, done in enumerate(steps) if not done), AUTHENTICATED))

    def _is_first_host_keys(self, packet: SSHPacket) -> bool:
        """Return whether a global request is the first list of host keys; refuse any other, as OpenSSH's client does.

        asyncssh queues global requests behind a list that the server has to prove, and waits forever for the proof.
        """
        payload = packet.get_full_payload()
        if payload.startswith(_HOST_KEYS) and not self._knows_host_keys and len(payload) <= HOST_KEYS_BYTES:
            self._knows_host_keys = True
            return True
        packet.get_string()
        if packet.get_boolean() and self._connection is not None:
            self._connection.send_packet(_REQUEST_FAILURE)
        return False

    # ------------------------------------------------------------ ending, and letting others have their turn

    def _tripped(self, exc_info: OptExcInfo | None = None, error_logger: object = None) -> None:  # noqa: ARG002
        """End the connection when asyncssh fails on received data, such as by an assertion: it is the host's error."""
        kind, err, _ = exc_info or sys.exc_info()
        if self._connection is not None and kind is not None:
            words = f"asyncssh could not process what it sent ({kind.__name__} {err})"
            self._connection.connection_lost(
                err if isinstance(err, asyncssh.Error | OSError) else asyncssh.ProtocolError(words)
            )

    def _exceed(self, err: HomelabError) -> None:
        """Record what the host sent too much of; the first such error is why the connection ends."""
        if self.excess is None:
            self.excess = err
            self._on_excess(err)

    def _end(self, err: HomelabError) -> None:
        """End the connection; its channels report why."""
        if self.excess is None and self._connection is not None:
            self._exceed(err)
            self._connection.connection_lost(Excess(err))

    def _rest(self, spent: float) -> None:
        """Continue to read later if this host has used more than its share of the event loop."""
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._measured) * self._share()) + spent
        self._measured = now
        if self._debt <= LOOP_BURST_SECONDS / 2:
            _GREEDY.discard(self)
        if self._debt > LOOP_BURST_SECONDS and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            _GREEDY.add(self)
            seconds = (self._debt - LOOP_BURST_SECONDS / 2) / self._share()
            self._resting = asyncio.get_running_loop().call_later(seconds, self._read_on)

    @staticmethod
    def _share() -> float:
        """Return the share of the event loop's time for one host, smaller if others need much of it as well."""
        return min(LOOP_SHARE, LOOP_SHARE_OF_ALL / max(1, len(_GREEDY)))

    def _read_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
