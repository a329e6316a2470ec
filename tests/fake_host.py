r"""A host inside the test process: an SSH server whose probe does what a test tells it.

    async with FakeHost() as host:
        session = ProbeSession(host.target, host.key, host.host_keys, programs)
        host.behaviour = hang            # one of the coroutines below, or one of your own
        host.sections["load"] = {...}    # what an honest probe answers

It speaks the contract of `probes/README.md` and runs nothing. `programs()` returns a program
for sessions that never meet a real interpreter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
import json
from typing import Any, Self
import zlib

import asyncssh

from custom_components.homelab_monitor.client.probe.programs import Programs, make_program
from custom_components.homelab_monitor.client.transport.command import ANNOUNCED
from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

type Behaviour = Callable[[FakeHost, Channel], Awaitable[None]]

BOOT_ID = "11111111-2222-3333-4444-555555555555"
LOAD = {"load1": 0.5, "load5": 0.25, "load15": 0.125, "running": 1, "threads": 200, "processes": 100}


def programs() -> Programs:
    """Return a program that no interpreter ever sees."""
    return Programs(linux=make_program("probe.py", b"# never run"), who=make_program("who.py", b"# never run"))


class Channel:
    """One command on the host, as the probe that it stands for."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], host: FakeHost) -> None:
        self.process = process
        self._host = host

    @property
    def is_script(self) -> bool:
        """Tell whether a shell is asked to read a script."""
        return (self.process.command or "") == f"{ANNOUNCED}sh"

    async def script(self) -> bytes:
        """Say hello as a command that reads its input, and return that."""
        self.write(b"\x1ehomelab_monitor input\n")
        return await self.process.stdin.read()

    async def begin(self, marker: bytes | None = None) -> None:
        """Say hello, read the program and say that it runs, and on which machine."""
        self.write(b"\x1ehomelab_monitor program\n")
        program = await self._piece()
        if b"r.readline()" in program:  # It reads its files by itself.
            await self._piece()
        self.write(self._host.marker if marker is None else marker)

    async def _piece(self) -> bytes:
        """Read one compressed text, as the bootstrap command does."""
        length = int(await self.process.stdin.readline())
        return zlib.decompress(await self.process.stdin.readexactly(length))

    async def request(self) -> dict[str, Any] | None:
        """Return the next request, None at the end of input."""
        line = await self.process.stdin.readline()
        return json.loads(line) if line else None

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        self.process.stdout.write(data)

    async def reply(self, document: dict[str, Any], *, header_id: str | None = None, packed: bool = False) -> None:
        """Send one framed reply."""
        payload = json.dumps(document).encode()
        payload = zlib.compress(payload) if packed else payload
        header = f"\x1e{header_id or document['id']} {len(payload)} {'z' if packed else 'j'}\n"
        self.write(header.encode() + payload)
        await self.process.stdout.drain()


class FakeHost:
    """An SSH server on 127.0.0.1 with one account and one authorized key."""

    def __init__(self) -> None:
        self.key = KeyPair.generate()
        self.behaviour: Behaviour = honest
        self.sections: dict[str, object] = {"load": dict(LOAD)}
        self.missing: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.boot_id = BOOT_ID
        self.epoch = 1_763_940_000.0
        self.accepts_key = True
        self.password: str | None = None
        self.asks_interactively = False
        self.refuses_channels = False
        self.signature_algorithms: tuple[str, ...] = ()
        """The types of keys that it names as taken (`server-sig-algs`), all when empty; used from the next start on."""
        self.channels_per_connection: int | None = None
        self.commands: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.port = 0
        self.logins = 0
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._listener: asyncssh.SSHAcceptor | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.new_host_key()

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the server's public key, as a line."""
        return (" ".join(self._private.export_public_key().decode().split()[:2]),)

    @property
    def target(self) -> Target:
        """Return where to log in."""
        return Target("monitor", "127.0.0.1", self.port)

    @property
    def marker(self) -> bytes:
        """Return the marker of an honest probe."""
        told = self.sections.get("system", {}).get("machine_id_hash") or ""
        return f"\x1ehomelab_monitor 1 3.11.2 4711 {told}".strip(" ").encode() + b"\n"

    def new_host_key(self, kind: str = "ssh-ed25519") -> None:
        """Give the host another identity; it is used from the next start on."""
        self._private = asyncssh.generate_private_key(kind)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._listener = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_host_keys=[self._private],
            server_factory=lambda: _Server(self),
            encoding=None,
            signature_algs=self.signature_algorithms,
        )
        self.port = self._listener.get_port()

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        await self.drop_connections()  # First: a closed listener waits for them.
        if listener is not None:
            await listener.wait_closed()
        # A behaviour may wait for something that never comes once its connection is gone.
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def abort_connections(self) -> list[asyncssh.SSHServerConnection]:
        """Cut every connection off; return them."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        return connections

    async def drop_connections(self) -> None:
        """Drop every connection without a word."""
        connections = self.abort_connections()
        for connection in connections:
            await connection.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Let the present behaviour play one command."""
        self.commands.append(process.command or "")
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self.behaviour(self, Channel(process, self))
            process.exit(0)
        except asyncio.IncompleteReadError, OSError, ValueError, asyncssh.Error, asyncssh.SignalReceived:
            process.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what an honest probe answers."""
        wanted = request["sections"]
        told = {name: self.sections[name] for name in wanted if name in self.sections}
        errors = {name: self.errors[name] for name in wanted if name in self.errors}
        absent = [name for name in wanted if name not in told and name not in errors]
        return {
            "id": request["id"],
            "protocol": 1,
            "boot_id": self.boot_id,
            "epoch": self.epoch,
            "sections": told,
            "missing": {name: self.missing.get(name, "not_installed") for name in absent},
            "errors": errors,
            "seconds": dict.fromkeys(told, 0.0001),
        }


class _Server(asyncssh.SSHServer):
    """Lets the host's key in, and nobody else."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._connection: asyncssh.SSHServerConnection | None = None
        self._channels = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._host.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.connections.discard(self._connection)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        offered = key.export_public_key().decode().split()[:2]
        return self._host.accepts_key and offered == self._host.key.public_openssh.split()[:2]

    def password_auth_supported(self) -> bool:
        return self._host.password is not None and not self._host.asks_interactively

    def validate_password(self, username: str, password: str) -> bool:
        return password == self._host.password

    def kbdint_auth_supported(self) -> bool:
        return self._host.password is not None and self._host.asks_interactively

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: list[str]) -> bool:
        return responses == [self._host.password]

    def auth_completed(self) -> None:
        self._host.logins += 1

    def session_requested(self) -> asyncssh.SSHServerProcess[bytes] | bool:
        self._channels += 1
        limit = self._host.channels_per_connection
        if self._host.refuses_channels or (limit is not None and self._channels > limit):
            return False  # "Administratively prohibited"; with a process factory the server would not even ask.
        return asyncssh.SSHServerProcess(self._host._serve, None, 3, allow_scp=False)


# ---------------------------------------------------------------- behaviours


async def honest(host: FakeHost, channel: Channel) -> None:
    """Answer every request from `host.sections`."""
    await channel.begin()
    while request := await channel.request():
        host.requests.append(request)
        await channel.reply(host.answer(request))


async def hang(host: FakeHost, channel: Channel) -> None:
    """Start well and never answer."""
    await channel.begin()
    while await channel.request():
        host.requests.append({})


async def never(host: FakeHost, channel: Channel) -> None:
    """Run for ever, and say nothing."""
    await asyncio.get_running_loop().create_future()


async def hang_before_marker(host: FakeHost, channel: Channel) -> None:
    """Take the program and say nothing."""
    await channel.begin(marker=b"")
    await channel.request()


async def close_at_request(host: FakeHost, channel: Channel) -> None:
    """End as soon as something is asked."""
    await channel.begin()
    await channel.request()


async def garbage(host: FakeHost, channel: Channel) -> None:
    """Answer with a megabyte of every byte there is."""
    await channel.begin()
    while await channel.request():
        channel.write(bytes(range(256)) * 4096)


async def flood(host: FakeHost, channel: Channel) -> None:
    """Answer with 100 MB without a newline."""
    await channel.begin()
    await channel.request()
    for _ in range(1600):
        channel.write(b"x" * 65536)
        await channel.process.stdout.drain()


async def half_a_reply(host: FakeHost, channel: Channel) -> None:
    """Begin a reply and end."""
    await channel.begin()
    request = await channel.request()
    assert request is not None
    channel.write(b'\x1e%s 5000 j\n{"sections": {' % request["id"].encode())
    await channel.process.stdout.drain()


async def wrong_shape(host: FakeHost, channel: Channel) -> None:
    """Answer with JSON that is no reply."""
    await channel.begin()
    while request := await channel.request():
        payload = b'["this", "is", "no", "reply"]'
        channel.write(b"\x1e%s %d j\n%s" % (request["id"].encode(), len(payload), payload))


async def reply_before_marker(host: FakeHost, channel: Channel) -> None:
    """Answer without a word about who it is."""
    await channel.begin(marker=b"\x1e? 2 j\n{}")
    await channel.request()


async def second_marker(host: FakeHost, channel: Channel) -> None:
    """Begin anew instead of answering."""
    await channel.begin()
    await channel.request()
    channel.write(b"\x1ehomelab_monitor 1 3.11.2 4712\n")
    await channel.request()


async def unreadable_request(host: FakeHost, channel: Channel) -> None:
    """Say that the request could not be read."""
    await channel.begin()
    while await channel.request():
        await channel.reply({"id": "?", "error": "Expecting value: line 1"})


async def wrong_id(host: FakeHost, channel: Channel) -> None:
    """Answer something that nobody asked."""
    await channel.begin()
    while request := await channel.request():
        await channel.reply(host.answer(request) | {"id": "999"})


@cache
def _bomb() -> bytes:
    """Return 100 MB of blanks, packed."""
    return zlib.compress(b" " * (100 << 20), 1)


async def unpack_bomb(host: FakeHost, channel: Channel) -> None:
    """Answer with 100 kB that inflate to 100 MB."""
    await channel.begin()
    while request := await channel.request():
        payload = _bomb()
        channel.write(b"\x1e%s %d z\n%s" % (request["id"].encode(), len(payload), payload))


MISBEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "garbage": (garbage, "bad_reply"),
    "flood": (flood, "bad_reply"),
    "half_a_reply": (half_a_reply, "probe_failed"),
    "wrong_shape": (wrong_shape, "bad_reply"),
    "reply_before_marker": (reply_before_marker, "bad_reply"),
    "second_marker": (second_marker, "bad_reply"),
    "unreadable_request": (unreadable_request, "bad_reply"),
    "wrong_id": (wrong_id, "timed_out"),
    "unpack_bomb": (unpack_bomb, "reply_too_large"),
    "close_at_request": (close_at_request, "probe_failed"),
    "hang": (hang, "timed_out"),
    "hang_before_marker": (hang_before_marker, "starting"),
}
"""What can come from a host, and the key of the error that a poll raises for it."""
