"""A hostile SSH server in a process of its own: it answers every poll honestly, and attacks beside it.

    with HostileHost("ignore") as host:
        session = ProbeSession(host.target, host.key, host.host_keys, programs())

`ATTACKS` are after the login, `RAW` before it. In a process of its own, so that what the attack costs the
attacker counts for nobody else. Each attack ends after `seconds`, or with its connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import struct
import subprocess
import sys
import time
from typing import Any, Self

import asyncssh
from asyncssh.packet import Boolean, String, UInt32

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

ROOT = Path(__file__).resolve().parents[1]

type Attack = Callable[[Attacker], Coroutine[Any, Any, None]]


class Attacker:
    """One connection of a victim, seen from the server, with what an attack needs to send packets at will."""

    def __init__(self, conn: asyncssh.SSHServerConnection, seconds: float) -> None:
        self.conn: Any = conn
        self.until = time.monotonic() + seconds
        self.swallow(conn, 3, 81, 82)

    def swallow(self, handler: Any, *kinds: int) -> None:
        """Take packets of the victim without a word: the library behind this server would end the connection."""
        process = handler.process_packet
        handler.process_packet = lambda kind, *rest: True if kind in kinds else process(kind, *rest)

    @property
    def goes_on(self) -> bool:
        """Tell whether there is somebody to attack, and time."""
        return not self.conn.is_closed() and time.monotonic() < self.until

    async def drained(self, limit: int = 2 << 20) -> None:
        """Wait until most of what was sent has left."""
        while self.goes_on and self.conn._transport and self.conn._transport.get_write_buffer_size() > limit:
            await asyncio.sleep(0.001)

    async def flood(self, kind: int, *parts: bytes, pause: float = 0.0) -> None:
        """Send the same packet again and again."""
        while self.goes_on:
            for _ in range(100):
                self.conn.send_packet(kind, *parts)
            await self.drained()
            await asyncio.sleep(pause)

    async def channel(self) -> int:
        """Return the victim's number of its probe's channel."""
        while self.goes_on:
            for channel in self.conn._channels.values():
                if channel._send_chan is not None:
                    self.swallow(channel, 99, 100)
                    return int(channel._send_chan)
            await asyncio.sleep(0.01)
        return 0

    def swallow_close(self) -> None:
        """Keep channels that the victim has closed."""
        for channel in self.conn._channels.values():
            self.swallow(channel, 97)


# ---------------------------------------------------------------- after the login


async def ignore(attacker: Attacker) -> None:
    """SSH_MSG_IGNORE without end."""
    await attacker.flood(2, String(b""))


async def big_ignore(attacker: Attacker) -> None:
    """SSH_MSG_IGNORE as large as a packet can be."""
    await attacker.flood(2, String(b"x" * 200_000))


async def debug(attacker: Attacker) -> None:
    """SSH_MSG_DEBUG with a long text."""
    await attacker.flood(4, Boolean(True), String("x" * 1000), String(""))


async def unimplemented(attacker: Attacker) -> None:
    """SSH_MSG_UNIMPLEMENTED."""
    await attacker.flood(3, UInt32(1))


async def unknown(attacker: Attacker) -> None:
    """A message that nobody knows: each wants an answer."""
    await attacker.flood(192, b"")


async def global_requests(attacker: Attacker) -> None:
    """Requests that each want an answer."""
    await attacker.flood(80, String("x@example.com"), Boolean(True))


async def deaf_requests(attacker: Attacker) -> None:
    """Requests of a server that reads none of the answers."""
    attacker.conn._transport.pause_reading()
    await attacker.flood(80, String("keepalive@openssh.com"), Boolean(True))


async def keepalives(attacker: Attacker) -> None:
    """Keepalives, far more often than anybody sends them."""
    await attacker.flood(80, String("keepalive@openssh.com"), Boolean(True), pause=0.01)


async def host_keys(attacker: Attacker) -> None:
    """A list of host keys whose proof never comes, and then requests that wait behind it."""
    new = asyncssh.generate_private_key("ssh-ed25519")
    attacker.conn._process_hostkeys_prove_00_at_openssh_dot_com_global_request = lambda _packet: None
    attacker.conn._send_global_request(b"hostkeys-00@openssh.com", String(new.public_data))
    await asyncio.sleep(0.2)
    await attacker.flood(80, String("x@example.com"), Boolean(False), os.urandom(30_000))


async def many_host_keys(attacker: Attacker) -> None:
    """Lists of 400 host keys."""
    keys = [String(asyncssh.generate_private_key("ssh-ed25519").public_data) for _ in range(400)]
    while attacker.goes_on:
        attacker.conn._send_global_request(b"hostkeys-00@openssh.com", *keys)
        await attacker.drained()
        await asyncio.sleep(0.01)


async def rekey(attacker: Attacker) -> None:
    """New keys as fast as they can be made."""
    while attacker.goes_on:
        if attacker.conn._kex_complete:
            attacker.conn._send_kexinit()
            attacker.conn._kexinit_sent = True
        await asyncio.sleep(0)


async def stuck_rekey(attacker: Attacker) -> None:
    """A key exchange that never ends, and requests whose answers have to wait for it."""
    attacker.conn._send_kexinit()
    attacker.conn._kexinit_sent = True
    attacker.conn._process_kexinit = lambda *_: None
    attacker.conn._packet_handlers = {**attacker.conn._packet_handlers, 20: lambda *_: None}
    attacker.conn._kex_complete = True
    await attacker.flood(80, String("x@example.com"), Boolean(True))


async def channel_opens(attacker: Attacker) -> None:
    """Channels that no server may open."""
    await attacker.flood(90, String("session"), UInt32(7), UInt32(1 << 20), UInt32(32768))


async def window_adjusts(attacker: Attacker) -> None:
    """Room for our input that nobody needs."""
    await attacker.flood(93, UInt32(await attacker.channel()), UInt32(0))


async def channel_requests(attacker: Attacker) -> None:
    """Requests on the probe's channel."""
    await attacker.flood(98, UInt32(await attacker.channel()), String("x@example.com"), Boolean(True))


async def tiny_data(attacker: Attacker) -> None:
    """Output of one byte per packet."""
    await attacker.flood(94, UInt32(await attacker.channel()), String(b"x"))


async def empty_data(attacker: Attacker) -> None:
    """Output of no byte at all."""
    await attacker.flood(94, UInt32(await attacker.channel()), String(b""))


async def tiny_errors(attacker: Attacker) -> None:
    """Error output of one byte per packet."""
    await attacker.flood(95, UInt32(await attacker.channel()), UInt32(1), String(b"x"))


async def huge_data(attacker: Attacker) -> None:
    """Output that nobody asked for, as fast as the victim takes it."""
    number = await attacker.channel()
    while attacker.goes_on:
        channel = next((each for each in attacker.conn._channels.values() if each._send_chan == number), None)
        if channel is None or channel._send_window < 32_000:
            await asyncio.sleep(0.001)
            continue
        channel._send_window -= 32_000
        attacker.conn.send_packet(94, UInt32(number), String(b"\x1e" * 32_000))
        await attacker.drained()


async def data_after_close(attacker: Attacker) -> None:
    """Output for a channel that the victim has closed, in spite of its window."""
    number = await attacker.channel()
    attacker.swallow_close()
    attacker.conn.send_packet(94, UInt32(number), String(b"x" * 32_000))
    attacker.conn.send_packet(94, UInt32(number), String(b"x" * 40_000))
    await asyncio.sleep(0.3)
    await attacker.flood(94, UInt32(number), String(b"x" * 16_000))


async def tiny_packets(attacker: Attacker) -> None:
    """Channels that take one byte per packet: the probe ends, and the next one's program is to be sent like that."""
    confirm = attacker.conn.send_channel_open_confirmation
    attacker.conn.send_channel_open_confirmation = lambda chan, number, window, _size, *rest: confirm(
        chan, number, window, 1, *rest
    )
    for channel in [*attacker.conn._channels.values()]:
        channel.close()
    while attacker.goes_on:
        await asyncio.sleep(0.1)


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (
        ignore,
        big_ignore,
        debug,
        unimplemented,
        unknown,
        global_requests,
        deaf_requests,
        keepalives,
        host_keys,
        many_host_keys,
        rekey,
        stuck_rekey,
        channel_opens,
        window_adjusts,
        channel_requests,
        tiny_data,
        empty_data,
        tiny_errors,
        huge_data,
        data_after_close,
        tiny_packets,
    )
}


# ---------------------------------------------------------------- during the login


async def banners(attacker: Attacker) -> None:
    """Banners without end."""
    await attacker.flood(53, String("x" * 70), String(""))


async def huge_banner(attacker: Attacker) -> None:
    """A banner of a megabyte, in the largest packets that there are."""
    for _ in range(5):
        attacker.conn.send_packet(53, String("x" * 200_000), String(""))
        await attacker.drained()
    await asyncio.sleep(attacker.until - time.monotonic())


async def failures(attacker: Attacker) -> None:
    """Half successes, each of which asks for the same key again."""
    await attacker.flood(51, String("publickey"), Boolean(True))


async def usable_keys(attacker: Attacker) -> None:
    """Says of the key again and again that it may be used: each answer is a signature."""
    victim = KeyPair.generate().public_openssh.split()[1]
    await attacker.flood(60, String("ssh-ed25519"), String(victim))


async def dripping_banners(attacker: Attacker) -> None:
    """Banners, a few at a time."""
    while attacker.goes_on:
        attacker.conn.send_packet(53, String("please wait"), String(""))
        await asyncio.sleep(0.002)


async def questions(attacker: Attacker) -> None:
    """Questions of keyboard-interactive, each of which wants an empty answer; the server's own part does it."""
    await asyncio.sleep(0)


LOGINS: dict[str, Attack] = {
    each.__name__: each for each in (banners, huge_banner, failures, usable_keys, dripping_banners, questions)
}


# ---------------------------------------------------------------- before the login

type Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_GREETING = b"SSH-2.0-OpenSSH_9.2p1\r\n"
_OFFERS = (
    b"curve25519-sha256,diffie-hellman-group-exchange-sha256",
    b"ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512",
    *(b"aes128-ctr,aes128-gcm@openssh.com",) * 2,
    *(b"hmac-sha2-256",) * 2,
    *(b"none",) * 2,
    *(b"",) * 2,
)


def packet(payload: bytes) -> bytes:
    """Return a packet as it is before keys are known (RFC 4253, 6)."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def kexinit(key_exchanges: bytes = _OFFERS[0]) -> bytes:
    """Return what the server can do."""
    lists = b"".join(map(String, (key_exchanges, *_OFFERS[1:])))
    return packet(b"\x14" + os.urandom(16) + lists + b"\0" + bytes(4))


def mpint(number: int) -> bytes:
    """Return a number as a field (RFC 4251, 5)."""
    return String(number.to_bytes((number.bit_length() + 8) // 8))


async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Notices before the greeting, without end."""
    while True:
        writer.write(b"x" * 70 + b"\r\n")
        await writer.drain()


async def slow_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Notices before the greeting, each in time."""
    while True:
        writer.write(b"please wait\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def one_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A line that never ends."""
    while True:
        writer.write(b"x" * 1000)
        await writer.drain()


async def early_ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """SSH_MSG_IGNORE instead of a key exchange."""
    writer.write(_GREETING)
    while True:
        writer.write(packet(b"\x02" + String(b"")) * 100)
        await writer.drain()


async def early_kexinit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A key exchange whose packets never end."""
    writer.write(_GREETING + kexinit())
    while True:
        writer.write(packet(b"\xc0") * 100)
        await writer.drain()


async def composite_group(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A group for the key exchange whose primality takes a minute to test."""
    writer.write(_GREETING + kexinit(b"diffie-hellman-group-exchange-sha256"))
    await reader.readline()
    await reader.read(4096)
    writer.write(packet(b"\x1f" + mpint(2**9941 - 1) + mpint(2)))
    await writer.drain()
    while await reader.read(4096):
        pass


async def long_packet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A packet of 4 GiB, by its header."""
    writer.write(_GREETING + b"\xff\xff\xff\xf0")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def x509_chain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A host key of a kind that nobody agreed on, and that the library asserts cannot come."""
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    certificate = key.generate_x509_user_certificate(key, "CN=x", "CN=x")
    chain = asyncssh.public_key.SSHX509CertificateChain.construct_from_certs([certificate])
    writer.write(_GREETING + kexinit())
    await reader.readline()
    await asyncio.sleep(0.2)
    await reader.read(65536)
    writer.write(packet(b"\x1f" + String(chain.public_data) + String(os.urandom(32)) + String(os.urandom(64))))
    await writer.drain()
    while await reader.read(4096):
        pass


RAW: dict[str, Raw] = {
    each.__name__: each
    for each in (lines, slow_lines, one_line, early_ignore, early_kexinit, composite_group, long_packet, x509_chain)
}


# ---------------------------------------------------------------- the process


@dataclass
class HostileHost:
    """The process of one attack; `SECONDS` is for how long it attacks each connection."""

    attack: str
    seconds: float = 5.0
    address: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.hostile_host", self.attack, str(self.seconds)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.address = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    @property
    def target(self) -> Target:
        """Return where to log in."""
        return Target("monitor", "127.0.0.1", self.address["port"])

    @property
    def key(self) -> KeyPair:
        """Return the key that is let in."""
        return KeyPair.from_private(self.address["key"])

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the server's public key, as a line."""
        return tuple(self.address["host_keys"])


async def _serve(name: str, seconds: float) -> None:
    """Serve until standard input ends."""
    if name in RAW:
        address = await _listen_raw(RAW[name])
        await _ended(address)
        return
    from tests import fake_host  # noqa: PLC0415

    if name in LOGINS:
        _attack_logins(fake_host._Server, LOGINS[name], seconds)
    async with fake_host.FakeHost() as host:
        host.asks_interactively = name == "questions"
        host.password = "x" if host.asks_interactively else None
        address = {"port": host.port, "key": host.key.private_openssh, "host_keys": host.host_keys}
        watching = asyncio.create_task(_attack_all(host, ATTACKS.get(name), seconds))
        await _ended(address)
        watching.cancel()


async def _listen_raw(speaker: Raw) -> dict[str, Any]:
    """Listen with a speaker that knows no SSH library."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speaker(reader, writer)
        except OSError:
            writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    return {
        "port": server.sockets[0].getsockname()[1],
        "key": KeyPair.generate().private_openssh,
        "host_keys": [KeyPair.generate().public_openssh],
        "server": id(server),
    }


def _attack_logins(server: Any, attack: Attack, seconds: float) -> None:
    """Attack each connection between the key exchange and its login."""

    async def begin_auth(self: Any, username: str) -> bool:
        attacker = Attacker(self._connection, seconds)
        self._connection._packet_handlers = {**self._connection._packet_handlers, 50: lambda *_: True}
        if attack is questions:
            del self._connection._packet_handlers
        await attack(attacker)
        return True

    no_question = ("", "", "", [])
    server.begin_auth = begin_auth
    server.get_kbdint_challenge = server.validate_kbdint_response = lambda *_: no_question


async def _attack_all(host: Any, attack: Attack | None, seconds: float) -> None:
    """Attack each connection that has logged in, once."""
    seen: dict[object, asyncio.Task[None]] = {}
    while True:
        for conn in list(host.connections):
            if attack is not None and conn not in seen and conn._channels:
                await asyncio.sleep(0.3)  # The first poll goes well.
                seen[conn] = asyncio.create_task(attack(Attacker(conn, seconds)))
        await asyncio.sleep(0.01)


async def _ended(address: dict[str, Any]) -> None:
    """Say where the victim has to come, and wait until nobody needs us."""
    sys.stdout.write(json.dumps(address) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
