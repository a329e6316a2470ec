r"""Bytes of a probe's output → hello, marker and replies; pure, and bounded in memory for any input.

    \x1ehomelab_monitor program\n               the hello: the interpreter reads its program
    \x1ehomelab_monitor 1 3.11.2 4711 0123…\n    the marker, once: the program runs, on that machine
    \x1e7 812 z\n<812 bytes>                     a reply: id, length, j (JSON) or z (zlib)

Everything else is noise: what a login shell prints. It is skipped up to the next record
separator, at most 64 kB of it, and its first line is kept for the check `shell`.
"""

from collections.abc import Callable
from dataclasses import dataclass
import re
import zlib

from ..errors import BadReply, ReplyTooLarge, first_line
from ..limits import NOISE_KEPT, NOISE_LIMIT, REPLY_LIMIT

_SEPARATOR = b"\x1e"
_HEADER_LIMIT = 128
_HELLO = b"homelab_monitor program"
_MARKER = re.compile(rb"homelab_monitor ([0-9]{1,6}) ([0-9A-Za-z.+_-]{1,40}) ([0-9]{1,10})(?: (\S{1,4096}))?")
_MACHINE = re.compile(rb"[0-9a-f]{32}")
_REPLY = re.compile(rb"([0-9A-Za-z?._-]{1,40}) ([0-9]{1,10}) ([jz])")


@dataclass(frozen=True, slots=True)
class Hello:
    """The bootstrap command runs, and reads a program from its standard input."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A probe is running and speaks this protocol."""

    protocol: int
    python: str
    pid: int
    machine: str = ""
    """Its hash of the machine-id, "" if there is none."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """One reply as JSON text, unpacked but not parsed."""

    id: str
    json: bytes


@dataclass(frozen=True, slots=True)
class Unasked:
    """One unexpected reply: not unpacked, not kept."""


type Record = Hello | Marker | RawReply | Unasked


@dataclass(frozen=True, slots=True)
class _Header:
    """A reply whose payload is not complete yet."""

    id: str
    length: int
    packed: bool


class ReplyParser:
    """Cut one probe's output into records; after it has raised, the rest of the stream is useless."""

    def __init__(self, host: str, is_wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Call `is_wanted` with each complete reply's id: inflating an unwanted one would be wasted work."""
        self._host = host
        self._is_wanted = is_wanted
        self._buffer = bytearray()
        self._header: _Header | None = None
        self._noise = bytearray()
        self._noise_bytes = 0

    @property
    def noise(self) -> str:
        """Return the first line that is not part of the protocol, "" if there is none."""
        return first_line(self._noise.decode(errors="replace")) if self._noise else ""

    @property
    def is_inside_record(self) -> bool:
        """Return whether a record has begun and is not complete."""
        return self._header is not None or bool(self._buffer)

    def feed(self, data: bytes) -> list[Record]:
        """Return the records that `data` completes; raise BadReply or ReplyTooLarge."""
        self._buffer += data
        records = []
        while record := self._next():
            records.append(record)
            self._noise_bytes = 0
        return records

    def _next(self) -> Record | None:
        """Return the next complete record, None until there is one."""
        if self._header is None:
            begun = self._begin()
            if not isinstance(begun, _Header):
                return begun
            self._header = begun
        if len(self._buffer) < self._header.length:
            return None
        header, self._header = self._header, None
        if not self._is_wanted(header.id):
            del self._buffer[: header.length]
            return Unasked()
        payload = bytes(self._buffer[: header.length])
        del self._buffer[: header.length]
        return RawReply(header.id, self._unpack(payload) if header.packed else payload)

    def _begin(self) -> Hello | Marker | _Header | None:
        """Consume noise and one header line; None until there is a whole line."""
        while True:
            start = self._buffer.find(_SEPARATOR)
            self._skip(len(self._buffer) if start < 0 else start)
            if not self._buffer:
                return None
            end = self._buffer.find(b"\n", 1, _HEADER_LIMIT)
            if end < 0 and len(self._buffer) < _HEADER_LIMIT:
                return None
            if end > 0 and (header := self._read_header(bytes(self._buffer[1:end]))):
                del self._buffer[: end + 1]
                return header
            self._skip(1)

    def _read_header(self, line: bytes) -> Hello | Marker | _Header | None:
        """Return what the line announces, None when it is noise after all."""
        if match := _REPLY.fullmatch(line):
            length = int(match[2])
            if length > REPLY_LIMIT:
                raise ReplyTooLarge(self._host, f"{length} bytes announced")
            return _Header(match[1].decode(), length, packed=match[3] == b"z")
        if line == _HELLO:
            return Hello()
        if match := _MARKER.fullmatch(line):
            # A malformed id is no reason to wait for a better one.
            machine = match[4].decode() if match[4] and _MACHINE.fullmatch(match[4]) else ""
            return Marker(int(match[1]), match[2].decode(), int(match[3]), machine)
        return None

    def _skip(self, count: int) -> None:
        """Drop noise from the front; raise BadReply if there is too much of it."""
        if not count:
            return
        self._noise += self._buffer[: min(count, NOISE_KEPT - len(self._noise))]
        del self._buffer[:count]
        self._noise_bytes += count
        if self._noise_bytes > NOISE_LIMIT:
            raise BadReply(self._host, f"more than {NOISE_LIMIT} bytes that are no reply: {self.noise}")

    def _unpack(self, payload: bytes) -> bytes:
        """Return the inflated payload; raise ReplyTooLarge beyond REPLY_LIMIT, BadReply for malformed data."""
        inflater = zlib.decompressobj()
        try:
            unpacked = inflater.decompress(payload, REPLY_LIMIT + 1)
        except zlib.error as err:
            raise BadReply(self._host, str(err)) from err
        if len(unpacked) > REPLY_LIMIT:
            raise ReplyTooLarge(self._host, f"more than {REPLY_LIMIT} bytes unpacked")
        if not inflater.eof:
            raise BadReply(self._host, "the compressed reply is cut short")
        return unpacked
