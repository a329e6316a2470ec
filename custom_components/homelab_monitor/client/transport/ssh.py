"""One SSH connection to one host: connect, pin the host key, run commands, map errors.

With `wire` the only importer of asyncssh, which reads no file for us: no ~/.ssh, no agent, no
system configuration. Failures leave as an error of `errors`, chosen in one function, `map_error`.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
import errno
from functools import cache, partial
import getpass
import os
import re
import socket
from typing import Self, TypedDict, Unpack, override

import asyncssh
from asyncssh import SSHClientChannel, SSHClientConnection, SSHKey, SSHKeyPair
from asyncssh.kex import get_kex_algs

from ..errors import (
    AnotherMachine,
    ChannelRefused,
    CommandNotRun,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    KeyRefused,
    LoginRefused,
    LoginsLimited,
    NameNotFound,
    NoGreeting,
    NotSSH,
    TimedOut,
    TooMuchTraffic,
    Unreachable,
    first_line,
    only_asking,
)
from ..limits import COMMAND_OUTPUT_BYTES, HELLO_SECONDS, SILENCE_SECONDS, UNCLOSED_CHANNELS
from ..time_limit import TimeLimit
from . import cooldown, tcp_info
from .command import ANNOUNCED, OUTPUT_LIMIT, CommandResult, Output, Question, Receiver
from .host_keys import changed_key, renewed
from .keys import KeyPair
from .login_refusal import Shown
from .prompt import answer_once
from .safe_logs import escape_logs
from .target import Target
from .wire import Excess, Wire

# Here, so that no connection is made before: not every flow begins with a set-up.
escape_logs("asyncssh")

CLOSE_SECONDS = 3.0
UNCOUNTED_SECONDS = (0.02, 0.1, 0.5)
"""Waits, each longer, for a server to stop counting a channel that was closed."""
KEEPALIVE_SECONDS = 30.0
"""After that much silence a keepalive is sent; after 3 without an answer the connection is dead."""

_KEY_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Host key type → the algorithms that prove it, preferred types first; without SHA-1."""
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""asyncssh's own, GCM first: one native call per packet; its ChaCha20 makes five (measured: half the CPU)."""
_KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
"""Only constant groups: for a group that the peer chooses, the library tests the prime in the event loop (ADR 15)."""
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
"""For ciphers without integrated authentication."""
_FAILURES = (OSError, ValueError, asyncssh.Error)
"""Everything that a connection attempt or a channel raises; asyncssh's import errors are ValueErrors."""
_LOST = (ConnectionError, asyncssh.ConnectionLost, asyncssh.ServiceNotAvailable, asyncssh.MACError)
"""The end of a connection, also by a byte that was changed in transit."""


class _Login(TypedDict, total=False):
    """Options of asyncssh for authentication."""

    client_keys: list[SSHKey] | None
    password: str
    preferred_auth: str


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """What a server showed in a handshake without a login."""

    line: str
    server_version: str


class RemoteCommand(asyncssh.SSHClientSession[bytes]):
    """A running remote command; its output goes straight from the packet to the receiver.

    asyncssh keeps a channel until the peer closes it, too. So a channel that we ended must not refer to large objects.
    """

    exit_status: int | None = None
    signal: str | None = None
    is_running: bool = False
    is_whole: bool = False
    """Whether the server has sent EOF: the exit status may come before the last of the output."""
    excess: HomelabError | None = None
    """The error of a host that sent too much, if the connection ended for that."""

    def __init__(self, receiver: Receiver, wire: Wire, unclosed: set[RemoteCommand]) -> None:
        self._receiver: Receiver | None = receiver
        self._wire = wire
        self._unclosed = unclosed
        self._channel: SSHClientChannel[bytes] | None = None

    @override
    def connection_made(self, chan: SSHClientChannel[bytes]) -> None:
        self._wire.watch(chan)
        self._channel = chan
        self.is_running = True

    @override
    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._receiver is None:
            return
        if datatype is None:
            self._receiver.output(data)
        else:
            self._receiver.error_output(data)

    @override
    def eof_received(self) -> bool:
        self.is_whole = True
        return True  # Only the output is closed; the input stays open until we close it.

    @override
    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    @override
    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.signal = signal

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.excess = exc.error if isinstance(exc, Excess) else None
        # A private value, read with a default: the server has closed the channel, and all output was delivered.
        self.is_whole |= exc is None and getattr(self._channel, "_recv_state", "") == "closed"
        self._unclosed.discard(self)
        self._finish()

    def _finish(self) -> None:
        """Signal the end to the receiver and release it."""
        self.is_running = False
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.ended()

    @property
    def has_ended(self) -> bool:
        """Return whether the command has ended and all output has come, so that a cut connection loses none of it."""
        return self.exit_status is not None and self.is_whole

    @property
    def is_opened(self) -> bool:
        """Return whether the server has opened the channel, on which the command is sent at once."""
        return self._channel is not None

    def write(self, data: bytes) -> None:
        """Send to standard input; raise OSError if the process no longer reads."""
        if self._channel is None:
            raise BrokenPipeError("not started")
        self._wire.require_taken(self._channel)
        self._wire.budget.make_room()
        self._channel.write(data)

    def write_eof(self) -> None:
        """Close standard input, unless it is already closed."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.write_eof()

    def strike(self) -> None:
        """Send SIGKILL through the server; output that was on its way still arrives."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.kill()

    def kill(self) -> None:
        """End the process if the server can signal it, and drop all further output."""
        if self._channel is None or not self.is_running:
            return
        self._unclosed.add(self)
        with suppress(OSError):
            self._channel.terminate()
        self._channel.abort()
        self._finish()

    def give_up(self) -> None:
        """End a process that may not have begun: a server that does not answer a channel request leaves it open."""
        if self._channel is None:
            self._unclosed.add(self)
            self._finish()
        self.kill()


@dataclass(frozen=True, slots=True)
class Introduction:
    """The machine that a connection must lead to ("" for any), and the request that identifies the one that answers."""

    machine: str = ""
    ask: Callable[[Connection], Awaitable[None]] | None = None


class Connection:
    """One authenticated connection, shared by every command on that host."""

    def __init__(self, host: str, conn: SSHClientConnection, client: _Client) -> None:
        self.host = host
        self._conn = conn
        self._client = client
        self._introduction = Introduction()
        self._is_met = False
        self._meeting = asyncio.Lock()
        self._spare: Callable[[], Awaitable[Connection]] | None = None
        self._unclosed: set[RemoteCommand] = set()
        self.host_key = _public_line(conn.get_server_host_key())

    @classmethod
    async def open(  # noqa: PLR0913
        cls,
        target: Target,
        key: KeyPair,
        host_keys: Sequence[str],
        *,
        timeout: float,  # noqa: ASYNC109
        gate: asyncio.Semaphore | None = None,
        afresh: bool = False,
        introduction: Introduction = Introduction(),
    ) -> Self:
        """Log in with our key to a server that proves one of `host_keys`; waiting at the gate is not timed.

        `afresh`: keep only those of `host_keys` that the server proves in this login.
        """
        client = _Client(host_keys, key, afresh=afresh)
        async with gate or nullcontext():
            connection = await cls._log_in(
                target, client, timeout, KeyRefused, client_keys=None, preferred_auth="publickey"
            )
        connection._introduction = introduction  # noqa: SLF001
        connection._spare = lambda: cls.open(  # noqa: SLF001
            target,
            key,
            connection.host_keys,
            timeout=timeout,
            gate=gate,
            introduction=connection._introduction,  # noqa: SLF001
        )
        return connection

    @classmethod
    async def open_with_password(
        cls,
        target: Target,
        password: str,
        host_keys: Sequence[str],
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> Self:
        """Log in with a password; it is sent once and not kept."""
        methods = "password,keyboard-interactive"
        client = _Client(host_keys)
        return await cls._log_in(
            target, client, timeout, LoginRefused, client_keys=None, password=password, preferred_auth=methods
        )

    @classmethod
    async def _log_in(
        cls,
        target: Target,
        client: _Client,
        seconds: float,
        refused: type[HomelabError],
        **login: Unpack[_Login],
    ) -> Self:
        """Return an authenticated connection; raise the error that explains why there is none."""
        try:
            async with TimeLimit(seconds):
                conn = await _connect(target, client, login)
        except _FAILURES as err:
            error = client.explain(target.host, err, refused)
            if client.offered or client.may_lack_key_type(err):
                error = await _check_host_key(target, client, seconds, error)
            error.server_version = client.proven_version
            raise error from err
        return cls(target.host, conn, client)

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the keys to pin: updated by each list of keys from the authenticated server."""
        return self._client.host_keys

    @property
    def server_version(self) -> str:
        """Return the server's greeting, such as `SSH-2.0-OpenSSH_9.2p1`."""
        return str(self._conn.get_extra_info("server_version", ""))

    @property
    def closed(self) -> bool:
        """Return whether the connection has ended."""
        return self._conn.is_closed()

    @property
    def is_clogged(self) -> bool:
        """Return whether the host leaves too many ended channels open: a new connection must replace this one."""
        return len(self._unclosed) > UNCLOSED_CHANNELS

    @property
    def excess(self) -> HomelabError | None:
        """Return the error of a host that sent too much, if the connection was ended for that."""
        return self._client.wire.excess

    @property
    def peer(self) -> tuple[str, int]:
        """Return address and port of the peer that has proven the key, from the socket; ("", 0) for none."""
        address, port, *_ = self._conn.get_extra_info("peername") or ("", 0)
        return str(address), int(port)

    @property
    def rtt_seconds(self) -> float | None:
        """Return the shortest round trip of the last minutes (seconds), as measured by the kernel."""
        return tcp_info.rtt_seconds(self._conn.get_extra_info("socket"))

    @property
    def bytes_sent(self) -> int | None:
        """Return the bytes on the wire to the host, encryption included."""
        return tcp_info.bytes_sent(self._conn.get_extra_info("socket"))

    @property
    def bytes_received(self) -> int | None:
        """Return the bytes on the wire from the host, encryption included."""
        return tcp_info.bytes_received(self._conn.get_extra_info("socket"))

    def meet(self, machine: str) -> None:
        """Take the id that the machine reports; raise AnotherMachine if another one is expected."""
        if _is_another(self._introduction.machine, machine):
            raise AnotherMachine(self.host)
        self._introduction = replace(self._introduction, machine=self._introduction.machine or machine)
        self._is_met = True

    async def _meet_first(self) -> bool:
        """Identify the machine once, unless any is allowed or it is already known; return whether it was asked now.

        Raise AnotherMachine.
        """
        async with self._meeting:
            if self._is_met or not self._introduction.machine or self._introduction.ask is None:
                return False
            with only_asking():
                await self._introduction.ask(self)
            return True

    async def start(self, command: str, receiver: Receiver, *, timeout: float) -> RemoteCommand:  # noqa: ASYNC109
        """Start a command on a channel of its own."""
        process = RemoteCommand(receiver, self._client.wire, self._unclosed)
        try:
            async with TimeLimit(timeout):
                await self._conn.create_session(
                    lambda: process, command, encoding=None, env=None, send_env=None, request_pty=False
                )
        except _FAILURES as err:
            has_ended = self.excess is not None or self.closed
            error = self._ended(str(err)) if has_ended else map_error(self.host, err)
            if has_ended or not isinstance(err, asyncssh.ChannelOpenError):
                # On an open channel the command was on its way, and only its answer is missing.
                error.was_sent = process.is_opened
                process.give_up()
            raise error from err
        except AttributeError as err:
            # asyncssh drops the session of a channel that ends between the server's answer and our turn.
            process.give_up()
            if not self.closed:
                raise
            error = self._ended("while a command started")
            error.was_sent = process.is_opened
            raise error from err
        except asyncio.CancelledError:
            process.give_up()
            raise
        return process

    async def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        question: Question | None = None,
        timeout: float,  # noqa: ASYNC109
        limit: int = OUTPUT_LIMIT,
    ) -> CommandResult:
        """Run a command to its end; `limit` bytes of each output are kept, the rest is discarded.

        `stdin`, or the answer to its question, is written only to the command, which must then be one program with its
        arguments: after it has begun, and after it has asked. Raise CommandNotRun if the login shell does not run it.
        `timeout` (seconds) covers everything, also identifying the machine and a second connection.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + timeout
        try:
            return await self._run_met(command, stdin, question, timeout, limit)
        except ChannelRefused:
            # A server may allow a single channel (MaxSessions 1), and that one is the probe's.
            if self._spare is None:
                raise
            spare = await self.again()
        try:
            return await spare._run_met(command, stdin, question, _left(until - clock()), limit)  # noqa: SLF001
        finally:
            await spare.close()

    async def again(self) -> Connection:
        """Return another connection to the same machine; the caller closes it."""
        if self._spare is None:
            raise LoginRefused(self.host, "nothing is kept to log in with once more")
        return await self._spare()

    async def _run_met(
        self, command: str, stdin: bytes, question: Question | None, seconds: float, limit: int
    ) -> CommandResult:
        """Run a command on this connection once its machine is identified."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        try:
            async with TimeLimit(seconds):
                was_asked = await self._meet_first()
        except TimeoutError as err:
            raise TimedOut(self.host, f"it did not report within {seconds:g} s which machine it is") from err
        if was_asked:
            seconds = _left(until - clock())
            # A server that allows one channel (MaxSessions 1) may still count one that has just been closed.
            for rest in UNCOUNTED_SECONDS:
                try:
                    return await self._run(command, stdin, question, seconds, limit)
                except ChannelRefused:
                    await asyncio.sleep(rest)
        return await self._run(command, stdin, question, seconds, limit)

    async def _run(
        self, command: str, stdin: bytes, question: Question | None, seconds: float, limit: int
    ) -> CommandResult:
        """Run a command on this connection."""
        reads = bool(stdin) or question is not None
        output = Output(limit, announced=reads, question=question)
        process = await self.start(ANNOUNCED + command if reads else command, output, timeout=seconds)
        try:
            with self._client.wire.command():
                async with TimeLimit(seconds):
                    if reads:
                        await self._hear_hello(process, output, may_run=question is not None)
                    if question is not None:
                        await answer_once(process, output, question)
                    elif stdin and not output.complete.is_set():
                        with suppress(OSError):  # A command may end without reading its input.
                            process.write(stdin)
                    process.write_eof()
                    await output.complete.wait()
        except TimeoutError as err:
            raise _of(output, TimedOut(self.host, f"the command ran longer than {seconds:g} s")) from err
        finally:
            if question is not None and output.may_ask:
                process.strike()
            process.kill()
        if output.is_endless:
            raise _of(output, self._endless())
        if self.closed and not process.has_ended:
            raise _of(output, self._ended("while a command ran"))
        return output.result(process.exit_status, process.signal)

    async def _hear_hello(self, process: RemoteCommand, output: Output, *, may_run: bool) -> None:
        """Wait until the command itself runs, so that its input goes to nothing else.

        `may_run`: it works without reading if it has nothing to ask, whether or not its hello has arrived.
        """
        try:
            async with TimeLimit(HELLO_SECONDS):
                await output.begun.wait()
        except TimeoutError:
            # A shell that waits for commands ends with its input, a slow host does not. EOF is safe to send to either.
            process.write_eof()
            with suppress(TimeoutError):
                async with TimeLimit(SILENCE_SECONDS):
                    await output.complete.wait()
            raise _maybe(self._not_run(process, output), may_run=may_run) from None
        if not output.has_begun:
            raise _maybe(self._not_run(process, output), may_run=may_run)

    def _ended(self, when: str) -> HomelabError:
        """Return a new error of a connection that has ended, as each error is marked for its command."""
        return TooMuchTraffic(self.host, self.excess.detail) if self.excess else ConnectionLost(self.host, when)

    def _endless(self) -> HomelabError:
        """Return the error of a command with endless output."""
        return TooMuchTraffic(self.host, f"a command printed more than {COMMAND_OUTPUT_BYTES >> 20} MiB")

    def _not_run(self, process: RemoteCommand, output: Output) -> HomelabError:
        """Return the error of a command that did not begin in time."""
        if output.is_endless:
            return _of(output, self._endless())
        if output.has_begun or not output.complete.is_set():
            return _of(output, TimedOut(self.host, f"its login shell ran no command within {HELLO_SECONDS:g} s"))
        if process.is_running or process.has_ended or (process.exit_status is not None and not self.closed):
            return CommandNotRun(self.host, output.words)
        return ConnectionLost(self.host, "before a command ran")

    async def close(self) -> None:
        """End the connection and everything on it, within CLOSE_SECONDS; raise nothing."""
        self._conn.close()
        try:
            with suppress(TimeoutError):
                async with TimeLimit(CLOSE_SECONDS):
                    await self._conn.wait_closed()
        finally:
            self._conn.abort()


def peer_of(connection: Connection | None) -> tuple[str, int]:
    """Return address and port of the peer that has proven the key on a connection; ("", 0) if it is not open."""
    return ("", 0) if connection is None or connection.closed else connection.peer


async def read_host_key(
    host: str,
    port: int,
    timeout: float,  # noqa: ASYNC109
    known: Sequence[str] = (),
) -> OfferedKey:
    """Return the one host key that the server shows in one handshake, without logging in.

    It is neither proven nor trusted: a person compares it first. The types of `known` are
    preferred, to see whether one of these keys is back, then ed25519. Raise NotSSH for a key that
    could never be pinned: a server may show another type than the negotiated one.
    """
    client = await _shake_hands(host, port, timeout, known)
    if client.offered_type == _NO_KEY:
        raise NotSSH(host, "it shows a certificate, or something else that is not a host key")
    if client.offered_type not in _KEY_ALGORITHMS:
        raise NotSSH(host, f"its host key is of the type {client.offered_type}, which is not supported")
    return OfferedKey(client.offered, client.server_version)


async def _shake_hands(host: str, port: int, seconds: float, known: Sequence[str]) -> _Client:
    """Return a client that has the key that the server showed; raise HomelabError if it shows none."""
    target, client = Target("nobody", host, port), _Client(())
    first = _algorithms(_import_keys(known)) if known else []
    algorithms = tuple(dict.fromkeys((*first, *_algorithms(()))))
    try:
        async with TimeLimit(seconds):
            conn = await _connect(target, client, {"client_keys": None, "preferred_auth": "none"}, algorithms)
    except _FAILURES as err:
        if client.offered:
            return client
        if client.may_lack_key_type(err):
            raise NotSSH(host, "it has no host key or no algorithm that Home Assistant supports") from err
        raise client.explain(host, err, KeyRefused) from err
    conn.abort()  # Not reached: no key is accepted here.
    raise NotSSH(host, "it let Home Assistant log in without showing a host key")


def _quotable(err: Exception) -> str:
    """Return the part that may be quoted of an error whose text anybody may have written."""
    found = _UNPROVEN.match(err.reason if isinstance(err, asyncssh.DisconnectError) else str(err))
    return found[0] if found else ""


def map_error(host: str, err: Exception, refused: type[HomelabError] = KeyRefused) -> HomelabError:
    """Return our error for an exception of asyncssh or the system."""
    if isinstance(err, HomelabError):
        return err
    if isinstance(err, Excess):
        return err.error
    text = err.reason if isinstance(err, asyncssh.DisconnectError) else str(err)
    # OpenSSH ends a login after too many tries as a protocol error with this text (auth.c).
    if isinstance(err, asyncssh.PermissionDenied) or "Too many authentication failures" in text:
        return refused(host, text)
    # With several addresses asyncio raises one OSError that holds the texts of all of them.
    numbers = set(re.findall(r"\[Errno (\d+)\]", text)) if isinstance(err, OSError) else ()
    if numbers == {str(errno.ECONNREFUSED)}:
        return ConnectionRefused(host, text)
    if numbers:
        # asyncio replaces the system's text with its own and Python's notation of the address.
        text = ", ".join(os.strerror(int(number)) for number in sorted(numbers))
    return next(error for kinds, error in _ERRORS if isinstance(err, kinds))(host, text)


_ERRORS: tuple[tuple[tuple[type[Exception], ...], type[HomelabError]], ...] = (
    ((TimeoutError,), TimedOut),
    # A name that no DNS label can hold fails in the IDNA encoder.
    ((socket.gaierror, UnicodeEncodeError), NameNotFound),
    ((ConnectionRefusedError,), ConnectionRefused),
    (_LOST, ConnectionLost),
    ((OSError,), Unreachable),
    ((asyncssh.ChannelOpenError,), ChannelRefused),
    ((Exception,), NotSSH),
)
"""The first row that matches wins."""
_LIMITED = re.compile(r"Not allowed at this time|Exceeded MaxStartups")
"""What OpenSSH writes instead of a greeting (sshd.c, since 8.8 and 9.8)."""
_UNPROVEN = re.compile(
    r"No matching (?:key exchange|encryption|MAC|compression) algorithm found|No host key algorithms selected"
    r"|Unable to find compatible server host key|Key exchange hash mismatch|Unsupported SSH version"
    r"|Too many banner lines|Banner line too long|Version too long|Connection lost"
)
"""Texts that may be quoted before a host key is proven: asyncssh's own, each as a whole, without what surrounds or
fills them."""
_BEFORE_PROOF = "the connection ended before the server proved its host key"
_NO_KEY = "unknown"
"""Type of a certificate, or of bytes that are no key. No pinned key has it."""


def _maybe(err: HomelabError, *, may_run: bool) -> HomelabError:
    """Mark the error of a command without a hello as sent if it may have run; CommandNotRun proves that it did not."""
    err.was_sent = err.was_sent or (may_run and not isinstance(err, CommandNotRun))
    return err


def _left(seconds: float) -> float:
    """Return the seconds that a command may still take, rounded for messages, and at least 0.1."""
    return max(0.1, round(seconds, 1))


def _of(output: Output, error: HomelabError) -> HomelabError:
    """Mark an error with whether the command of this output had begun."""
    error.had_begun = output.has_begun
    return error


class _Client(asyncssh.SSHClient):
    """Client of one login that records its progress, so that an error can say how far it came."""

    wire: Wire

    def __init__(self, pinned: Sequence[str], key: KeyPair | None = None, *, afresh: bool = False) -> None:
        self.pinned = tuple(dict.fromkeys(" ".join(line.split()[:2]) for line in pinned))
        self.host_keys = self.pinned
        self.offered = ""
        """The key that the server showed if it is not trusted, with the type `_NO_KEY` if it is no plain key."""
        self.shown = Shown()
        self._key = key
        self._untried: Iterator[KeyPair] | None = None
        self._afresh = afresh
        self._conn: SSHClientConnection | None = None

    @property
    def trusted(self) -> list[SSHKey]:
        """Return the keys that asyncssh may trust; it does not ask the server to prove these in its list."""
        return [] if self._afresh else _import_keys(self.pinned)

    @property
    def server_version(self) -> str:
        """Return the server's greeting, "" until it has arrived."""
        return str(self._conn.get_extra_info("server_version", "")) if self._conn else ""

    @property
    def proven_version(self) -> str:
        """Return the greeting of a server that has proven its host key, "" until then."""
        return self.server_version if self.has_proven_key() else ""

    @override
    def connection_made(self, conn: SSHClientConnection) -> None:
        self._conn = conn
        validate = conn.validate_server_host_key

        def noted(key_data: bytes) -> SSHKey:
            """Remember also keys that asyncssh rejects without a callback, such as a certificate."""
            try:
                return validate(key_data)
            except asyncssh.HostKeyNotVerifiable:
                self.offered = self.offered or f"{_NO_KEY} {b64encode(key_data).decode()}"
                raise

        conn.validate_server_host_key = noted  # type: ignore[method-assign]

    @property
    def offered_type(self) -> str:
        """Return the type of the key that the server showed."""
        return self.offered.partition(" ")[0]

    @override
    def validate_host_public_key(self, host: str, addr: str, port: int, key: SSHKey) -> bool:
        # Called only for a key that asyncssh does not trust: remembered for the error, never accepted.
        line = _public_line(key)
        if self._afresh and line in self.pinned:
            return True
        self.offered = line
        return False

    @override
    def auth_completed(self) -> None:
        if self._afresh:
            self.host_keys = (self._in_use(),)

    @override
    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.shown.say(msg)

    @override
    def public_key_auth_requested(self) -> SSHKeyPair | None:
        # Called when the server has sent the types that it accepts (RFC 8308), and again after each refused key.
        if self._untried is None:
            self._untried = iter(self._fitting_keys())
        key = None if self.shown.is_accepted else next(self._untried, None)
        return self._signing(key) if key else None

    def _fitting_keys(self) -> list[KeyPair]:
        """Return the keys to try, the most likely first: the server counts each try."""
        keys = [key for key in (self._key, self._key and self._key.beside) if key]
        return keys if self.shown.takes_ed25519 else keys[::-1]

    def _signing(self, key: KeyPair) -> SSHKeyPair:
        """Return the key for asyncssh, which signs with it once the server has accepted it."""
        (pair,) = asyncssh.load_keypairs([asyncssh.import_private_key(key.private_openssh)])
        sign = pair.sign

        def noted(data: bytes) -> bytes:
            self.shown.accept()
            return sign(data)

        pair.sign = noted  # type: ignore[method-assign]
        return pair

    def _in_use(self) -> str:
        """Return the key that the server has proven in the key exchange."""
        return _public_line(self._conn.get_server_host_key()) if self._conn else ""

    def take_list(
        self, added: list[SSHKey], _removed: list[SSHKey], retained: list[SSHKey], _revoked: list[SSHKey]
    ) -> None:
        """Take the server's list of its keys, which asyncssh accepts only after the login.

        asyncssh (`_finish_hostkeys`) has compared it with `trusted`: `retained` are in both and
        were not proven now, `removed` are not in the list, `revoked` we never name. `added` are
        new and proven; those without proof, or of an unknown type, are in none of the four.
        """
        proven = [_public_line(key) for key in added if key.get_algorithm() in _KEY_ALGORITHMS]
        self.host_keys = renewed(self.host_keys, self._in_use(), [_public_line(key) for key in retained], proven)

    def may_lack_key_type(self, err: Exception) -> bool:
        """Return whether the handshake may have failed because the server has no key of a pinned type.

        A server that finds no common algorithm closes the connection with our bytes unread, so that a
        reset may overtake its own list of algorithms; its greeting came before.
        """
        if isinstance(err, asyncssh.KeyExchangeFailed):
            return True
        negotiating = self._has_greeted() and self._conn and not self._conn.get_extra_info("recv_cipher")
        return bool(negotiating) and isinstance(err, _LOST)

    def explain(self, host: str, err: Exception, refused: type[HomelabError]) -> HomelabError:
        """Return the mapped error; for timeouts and lost connections it says in which phase."""
        mapped = self._denial(host, err, refused) or map_error(host, err, refused)
        if isinstance(mapped, TimedOut):
            return TimedOut(host, f"no answer while {self._phase()}")
        if self._is_worded_by_anybody(err):
            mapped = self._without_words(host, err, mapped, refused)
        if isinstance(mapped, ConnectionLost) and self._conn and not self._has_greeted():
            words = first_line(self.wire.preamble.decode(errors="replace"))
            if limited := _LIMITED.match(words):
                return LoginsLimited(host, limited[0])
            # A private counter, read with a default: lines that were no greeting, from some other service.
            said_other = getattr(self._conn, "_banner_lines", 0) > 0
            return (NotSSH if said_other else NoGreeting)(host, "it ended the connection without an SSH greeting")
        if isinstance(mapped, ConnectionLost):
            return self.shown.cut(host) or mapped
        return mapped

    def _is_worded_by_anybody(self, err: Exception) -> bool:
        """Return whether an error may have text of a peer that has proven nothing; errors of the system have none."""
        has_answered = self._conn is not None and not self.has_proven_key()
        return has_answered and isinstance(err, asyncssh.Error | ValueError) and not isinstance(err, Excess)

    def _without_words(
        self, host: str, err: Exception, mapped: HomelabError, refused: type[HomelabError]
    ) -> HomelabError:
        """Return an error without the text of a peer that has proven nothing: it could give people instructions."""
        if isinstance(mapped, refused):
            # A man in the middle can send that before the connection is encrypted.
            return ConnectionLost(host, _BEFORE_PROOF)
        return type(mapped)(host, _quotable(err) or _BEFORE_PROOF)

    def _denial(self, host: str, err: Exception, refused: type[HomelabError]) -> HomelabError | None:
        """Return the error of a denied login with a key, as precise as the server's packets allow; None for others."""
        if refused is not KeyRefused or self._key is None or not self.has_proven_key():
            return None
        return self.shown.error(host, str(err), is_denied=isinstance(err, asyncssh.PermissionDenied))

    def has_proven_key(self) -> bool:
        """Return whether the server's packets are encrypted, which they are only after it has proven its host key.

        A private value, read with a default: `recv_cipher` is set while the next packet still comes in plain text.
        """
        return getattr(self._conn, "_recv_encryption", None) is not None

    def _phase(self) -> str:
        """Return the phase of the login, for messages."""
        if self._conn is None:
            return "connecting"
        return "logging in" if self._has_greeted() else "waiting for an SSH greeting"

    def _has_greeted(self) -> bool:
        """Return whether the server's SSH greeting has arrived."""
        return bool(self.server_version)


async def _connect(
    target: Target, client: _Client, login: _Login, algorithms: Sequence[str] | None = None
) -> SSHClientConnection:
    """Connect with our own settings only, whatever files and environment this system has.

    Every connection begins here, and raises here while the host is in its cooldown.
    """
    place = (target.host, target.port)
    cooldown.require_end(place)
    _name_local_user()
    client.wire = Wire(target.host, partial(cooldown.begin, place, client.has_proven_key))
    client.wire.on_packet = client.shown.take
    return await asyncssh.connect(
        target.host,
        target.port,
        tunnel=client.wire,
        username=target.username,
        client_factory=lambda: client,
        # A tuple is never falsy: an empty list of keys matches nothing instead of falling back to ~/.ssh/known_hosts.
        known_hosts=(client.trusted, [], []),
        server_host_key_algs=algorithms or _algorithms(_import_keys(client.pinned)),
        server_host_keys_handler=client.take_list,
        config=None,
        agent_path=None,
        agent_forwarding=False,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=[],
        gss_kex=False,
        gss_auth=False,
        host_based_auth=False,
        kex_algs=_known_key_exchanges(),
        encryption_algs=_CIPHERS,
        mac_algs=_MACS,
        compression_algs=["none"],  # The probe compresses, once and better.
        keepalive_interval=KEEPALIVE_SECONDS,
        **login,
    )


async def _check_host_key(target: Target, client: _Client, seconds: float, error: HomelabError) -> HomelabError:
    """Return HostKeyChanged if the server shows none of the pinned keys, else the error as it is."""
    offered = client.offered
    if not offered:
        try:
            offered = (await _shake_hands(target.host, target.port, seconds, client.pinned)).offered
        except NotSSH as asked:
            # It closes the connection in every handshake: this says more than one lost connection.
            return asked if isinstance(error, ConnectionLost) else error
        except HomelabError:
            return error
    return changed_key(target.host, client.pinned, offered) or error


def _import_keys(lines: Sequence[str]) -> list[SSHKey]:
    """Return the keys of the lines that contain one; without any, nothing is trusted."""
    keys = []
    for line in lines:
        with suppress(asyncssh.KeyImportError):
            keys.append(asyncssh.import_public_key(line))
    return keys


def _algorithms(keys: Sequence[SSHKey]) -> list[str]:
    """Return the algorithms that can prove one of the keys, preferred ones first; all if there are no keys."""
    types = {key.get_algorithm() for key in keys} or set(_KEY_ALGORITHMS)
    return [algorithm for kind, algorithms in _KEY_ALGORITHMS.items() if kind in types for algorithm in algorithms]


@cache
def _known_key_exchanges() -> tuple[str, ...]:
    """Return those that the installed libraries have; ML-KEM is new."""
    known = {name.decode() for name in get_kex_algs()}
    return tuple(name for name in _KEY_EXCHANGES if name in known)


def _public_line(key: SSHKey | None) -> str:
    """Return type and key as in a .pub file, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2]) if key else ""


@cache
def _name_local_user() -> None:
    """Set a user name for this process if the system has none: asyncssh requires one and never sends it."""
    try:
        getpass.getuser()
    except KeyError, OSError:
        os.environ["LOGNAME"] = "homelab_monitor"


def _is_another(machine: str, reported: str) -> bool:
    """Return whether the reported machine is another than the known one; one that reports nothing may be the same."""
    return bool(machine) and reported not in {"", machine}
