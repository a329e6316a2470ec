"""One SSH connection to one host: connect, pin the host key, run commands, map errors.

The only importer of asyncssh, which reads no file for us: no ~/.ssh, no agent, no system
configuration. What goes wrong leaves as an error of `errors`, chosen in one function, `map_error`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
import errno
from functools import cache, partial
import getpass
import os
import re
import socket
from typing import Self, TypedDict, Unpack, override

import asyncssh
from asyncssh import SSHClientChannel, SSHClientConnection, SSHKey

from . import tcp_info
from .command import OUTPUT_LIMIT, CommandResult, Output, Receiver
from .errors import (
    ChannelRefused,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginRefused,
    NameNotFound,
    NotSSH,
    TimedOut,
    Unreachable,
)
from .keys import KeyPair, fingerprint
from .target import Target

CLOSE_SECONDS = 3.0
KEEPALIVE_SECONDS = 30.0
"""After that much silence the server is asked; after 3 silent answers the connection is dead."""

PROVEN_LIMIT = 8
"""Keys that a server may add to the pinned ones; it has one of each type, and two while it changes them."""

_KEY_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Host key type → the algorithms that prove it; SHA-1 left out."""
_SCANNED_ALGORITHMS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""One handshake each when a server is asked for its keys, preferred ones first."""
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""asyncssh's own, GCM first: one native call per packet, where its ChaCha20 makes five (measured: half the CPU)."""
_FAILURES = (OSError, ValueError, asyncssh.Error)
"""Everything that a connection attempt or a channel raises; asyncssh's import errors are ValueErrors."""
_LOST = (ConnectionError, asyncssh.ConnectionLost, asyncssh.ServiceNotAvailable)


class _Login(TypedDict, total=False):
    """How asyncssh proves who we are."""

    client_keys: list[SSHKey] | None
    password: str
    preferred_auth: str


class Process(asyncssh.SSHClientSession[bytes]):
    """A running remote command; its output goes straight from the packet to the receiver."""

    exit_status: int | None = None
    signal: str | None = None
    is_running: bool = False

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._channel: SSHClientChannel[bytes] | None = None

    @override
    def connection_made(self, chan: SSHClientChannel[bytes]) -> None:
        self._channel = chan
        self.is_running = True

    @override
    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:
            self._receiver.output(data)
        else:
            self._receiver.error_output(data)

    @override
    def eof_received(self) -> bool:
        return True  # Its output is closed; our input to it stays open until we close it.

    @override
    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    @override
    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.signal = signal

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_running = False
        self._receiver.ended()

    def write(self, data: bytes) -> None:
        """Send to standard input; raise OSError when the process no longer listens."""
        if self._channel is None:
            raise BrokenPipeError("not started")
        self._channel.write(data)

    def write_eof(self) -> None:
        """Close standard input."""
        if self._channel is not None:
            self._channel.write_eof()

    def kill(self) -> None:
        """End the process if the server can signal it, and drop whatever it still sends."""
        if self._channel is None or not self.is_running:
            return
        with suppress(OSError):
            self._channel.terminate()
        self._channel.abort()


class Connection:
    """One authenticated connection, shared by every command on that host."""

    def __init__(self, host: str, conn: SSHClientConnection, client: _Client) -> None:
        self._host = host
        self._conn = conn
        self._client = client
        self._spare: Callable[[], Awaitable[Connection]] | None = None
        self.host_key = _public_line(conn.get_server_host_key())

    @classmethod
    async def open(
        cls,
        target: Target,
        key: KeyPair,
        host_keys: Sequence[str],
        *,
        timeout: float,  # noqa: ASYNC109
        gate: asyncio.Semaphore | None = None,
    ) -> Self:
        """Log in with our key to a server that proves one of `host_keys`; waiting at the gate is not timed."""
        private = asyncssh.import_private_key(key.private_openssh)
        async with gate or nullcontext():
            connection = await cls._log_in(
                target, host_keys, timeout, KeyRefused, client_keys=[private], preferred_auth="publickey"
            )
        again = partial(cls.open, target, key, host_keys, timeout=timeout, gate=gate)
        connection._spare = again  # noqa: SLF001
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
        """Log in with a password; it is sent once and kept nowhere."""
        methods = "password,keyboard-interactive"
        return await cls._log_in(
            target, host_keys, timeout, LoginRefused, client_keys=None, password=password, preferred_auth=methods
        )

    @classmethod
    async def _log_in(
        cls,
        target: Target,
        host_keys: Sequence[str],
        seconds: float,
        refused: type[HomelabError],
        **login: Unpack[_Login],
    ) -> Self:
        """Return an authenticated connection; raise the error that says why there is none."""
        client = _Client(host_keys)
        try:
            async with asyncio.timeout(seconds):
                conn = await _connect(target, client, login)
        except _FAILURES as err:
            error = client.explain(target.host, err, refused)
            if client.offered or client.may_lack_key_type(err):
                error = await _judge_host_key(target, client, seconds, error)
            raise error from err
        return cls(target.host, conn, client)

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the pinned keys, and those that the authenticated server has proven since."""
        return (*self._client.pinned, *self._client.proven)

    @property
    def server_version(self) -> str:
        """Return the server's greeting, such as `SSH-2.0-OpenSSH_9.2p1`."""
        return str(self._conn.get_extra_info("server_version", ""))

    @property
    def closed(self) -> bool:
        """Tell whether the connection has ended."""
        return self._conn.is_closed()

    @property
    def rtt_seconds(self) -> float | None:
        """Return the shortest round trip of the last minutes, as the kernel measured it on this connection."""
        return tcp_info.rtt_seconds(self._conn.get_extra_info("socket"))

    @property
    def bytes_sent(self) -> int | None:
        """Return the bytes on the wire to the host, encryption included."""
        return tcp_info.bytes_sent(self._conn.get_extra_info("socket"))

    @property
    def bytes_received(self) -> int | None:
        """Return the bytes on the wire from the host, encryption included."""
        return tcp_info.bytes_received(self._conn.get_extra_info("socket"))

    async def start(self, command: str, receiver: Receiver, *, timeout: float) -> Process:  # noqa: ASYNC109
        """Start a command on a channel of its own."""
        process = Process(receiver)
        try:
            async with asyncio.timeout(timeout):
                await self._conn.create_session(
                    lambda: process, command, encoding=None, env=None, send_env=None, request_pty=False
                )
        except _FAILURES as err:
            process.kill()
            if self.closed:
                raise ConnectionLost(self._host, str(err)) from err
            raise map_error(self._host, err) from err
        except asyncio.CancelledError:
            process.kill()
            raise
        return process

    async def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout: float,  # noqa: ASYNC109
        limit: int = OUTPUT_LIMIT,
    ) -> CommandResult:
        """Run a command to its end; `limit` bytes of each output are kept, the rest is thrown away."""
        try:
            return await self._run(command, stdin, timeout, limit)
        except ChannelRefused:
            # A server may allow a single channel (MaxSessions 1), and that one is the probe's.
            if self._spare is None:
                raise
            spare = await self._spare()
        try:
            return await spare._run(command, stdin, timeout, limit)  # noqa: SLF001
        finally:
            await spare.close()

    async def _run(self, command: str, stdin: bytes, seconds: float, limit: int) -> CommandResult:
        """Run a command on this very connection."""
        output = Output(limit)
        process = await self.start(command, output, timeout=seconds)
        try:
            with suppress(OSError):  # A command may end without reading its input.
                process.write(stdin)
                process.write_eof()
            async with asyncio.timeout(seconds):
                await output.complete.wait()
        except TimeoutError as err:
            raise TimedOut(self._host, f"the command ran longer than {seconds:g} s") from err
        finally:
            process.kill()
        if self.closed and process.exit_status is None:
            raise ConnectionLost(self._host, "while a command ran")
        return output.result(process.exit_status, process.signal)

    async def close(self) -> None:
        """End the connection and everything on it; takes seconds at most, raises nothing."""
        self._conn.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._conn.wait_closed()
        finally:
            self._conn.abort()


async def scan_host_keys(host: str, port: int, timeout: float) -> tuple[str, ...]:  # noqa: ASYNC109
    """Return the public keys that the server offers, ed25519 first, without logging in.

    One handshake per key type, stopped as soon as the server has shown its key.
    """
    offered: list[str] = []
    try:
        async with asyncio.timeout(timeout):
            for algorithms in _SCANNED_ALGORITHMS:
                offered += await _offered_keys(Target("nobody", host, port), algorithms)
    except (HomelabError, TimeoutError) as err:
        if not offered:
            raise map_error(host, err) from err
    if not offered:
        raise NotSSH(host, "it has no host key or no algorithm in common with us")
    return tuple(offered)


def map_error(host: str, err: Exception, refused: type[HomelabError] = KeyRefused) -> HomelabError:
    """Return the error of our vocabulary for what asyncssh or the system raised."""
    if isinstance(err, HomelabError):
        return err
    text = err.reason if isinstance(err, asyncssh.DisconnectError) else str(err)
    # OpenSSH ends a login after too many tries as a protocol error with this text (auth.c).
    if isinstance(err, asyncssh.PermissionDenied) or "Too many authentication failures" in text:
        return refused(host, text)
    # With several addresses asyncio raises one OSError that holds the texts of all of them.
    numbers = set(re.findall(r"\[Errno (\d+)\]", text)) if isinstance(err, OSError) else ()
    if numbers == {str(errno.ECONNREFUSED)}:
        return ConnectionRefused(host, text)
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
"""The first row that fits wins."""


class _Client(asyncssh.SSHClient):
    """Follows one login, so that an error can say how far it came."""

    def __init__(self, pinned: Sequence[str]) -> None:
        self.pinned = tuple(pinned)
        self.proven: tuple[str, ...] = ()
        self.offered = ""
        self._conn: SSHClientConnection | None = None

    @override
    def connection_made(self, conn: SSHClientConnection) -> None:
        self._conn = conn

    @override
    def validate_host_public_key(self, host: str, addr: str, port: int, key: SSHKey) -> bool:
        # Asked only for a key that is not pinned: remembered for the error, never accepted.
        self.offered = _public_line(key)
        return False

    def keep_proven(self, added: list[SSHKey], *_: list[SSHKey]) -> None:
        """Keep what the server proved after the login (hostkeys-prove-00@openssh.com)."""
        self.proven = tuple(_public_line(key) for key in added[:PROVEN_LIMIT])

    def may_lack_key_type(self, err: Exception) -> bool:
        """Tell whether the handshake may have failed because the server has no key of a pinned type.

        A server that finds no common algorithm hangs up with our bytes unread, so that a reset
        may overtake its own list of algorithms; its greeting came before.
        """
        if isinstance(err, asyncssh.KeyExchangeFailed):
            return True
        negotiating = self._has_greeted() and self._conn and not self._conn.get_extra_info("recv_cipher")
        return bool(negotiating) and isinstance(err, _LOST)

    def explain(self, host: str, err: Exception, refused: type[HomelabError]) -> HomelabError:
        """Return the mapped error; with silence and lost connections it says when that was."""
        mapped = map_error(host, err, refused)
        if isinstance(mapped, TimedOut):
            return TimedOut(host, f"no answer while {self._phase()}")
        if isinstance(mapped, ConnectionLost) and self._conn and not self._has_greeted():
            # A private counter, read with a default: lines that were no greeting, from some other service.
            said_other = getattr(self._conn, "_banner_lines", 0) > 0
            return (NotSSH if said_other else ConnectionLost)(host, "it ended the connection without an SSH greeting")
        return mapped

    def _phase(self) -> str:
        """Return what was going on."""
        if self._conn is None:
            return "connecting"
        return "logging in" if self._has_greeted() else "waiting for an SSH greeting"

    def _has_greeted(self) -> bool:
        """Tell whether the server has said that it speaks SSH."""
        return self._conn is not None and bool(self._conn.get_extra_info("server_version"))


async def _connect(
    target: Target, client: _Client, login: _Login, algorithms: Sequence[str] | None = None
) -> SSHClientConnection:
    """Connect by our own rules alone, whatever files and environment the machine has."""
    _name_local_user()
    pinned = _import_keys(client.pinned)
    return await asyncssh.connect(
        target.host,
        target.port,
        username=target.username,
        client_factory=lambda: client,
        # A tuple is never falsy: an empty list of keys matches nothing instead of falling back to ~/.ssh/known_hosts.
        known_hosts=(pinned, [], []),
        server_host_key_algs=algorithms or _algorithms(pinned),
        server_host_keys_handler=client.keep_proven,
        config=None,
        agent_path=None,
        agent_forwarding=False,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=[],
        gss_kex=False,
        gss_auth=False,
        host_based_auth=False,
        encryption_algs=_CIPHERS,
        compression_algs=["none"],  # The probe compresses, once and better.
        keepalive_interval=KEEPALIVE_SECONDS,
        **login,
    )


async def _judge_host_key(target: Target, client: _Client, seconds: float, error: HomelabError) -> HomelabError:
    """Return HostKeyChanged when the server shows none of the pinned keys, else the error as it is."""
    offered: tuple[str, ...] = (client.offered,)
    if not client.offered:
        try:
            offered = await scan_host_keys(target.host, target.port, seconds)
        except NotSSH as scanned:
            # It hangs up on every handshake: more than the one connection that was lost.
            return scanned if isinstance(error, ConnectionLost) else error
        except HomelabError:
            return error
    if set(map(fingerprint, offered)) & set(map(fingerprint, client.pinned)):
        return error
    expected, shown = (", ".join(map(fingerprint, keys)) for keys in (client.pinned, offered))
    return HostKeyChanged(target.host, expected=expected or "no key", offered=shown)


async def _offered_keys(target: Target, algorithms: Sequence[str]) -> list[str]:
    """Return the key that the server shows for these algorithms, nothing when it has none."""
    client = _Client(())
    try:
        conn = await _connect(target, client, {"client_keys": None, "preferred_auth": "none"}, algorithms)
    except _FAILURES as err:
        if client.offered:
            return [client.offered]
        if client.may_lack_key_type(err):
            return []
        raise client.explain(target.host, err, KeyRefused) from err
    conn.abort()  # Not reached: no key is accepted here.
    return []


def _import_keys(lines: Sequence[str]) -> list[SSHKey]:
    """Return the keys of the lines that hold one; without any, nothing is trusted."""
    keys = []
    for line in lines:
        with suppress(asyncssh.KeyImportError):
            keys.append(asyncssh.import_public_key(line))
    return keys


def _algorithms(keys: Sequence[SSHKey]) -> list[str]:
    """Return the algorithms that can prove one of the keys, preferred ones first; without keys, all."""
    types = {key.get_algorithm() for key in keys} or set(_KEY_ALGORITHMS)
    return [algorithm for kind, algorithms in _KEY_ALGORITHMS.items() if kind in types for algorithm in algorithms]


def _public_line(key: SSHKey | None) -> str:
    """Return type and key as in a .pub file, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2]) if key else ""


@cache
def _name_local_user() -> None:
    """Give this process a user name where the system has none: asyncssh insists on one and never sends it."""
    try:
        getpass.getuser()
    except KeyError, OSError:
        os.environ["LOGNAME"] = "homelab_monitor"
