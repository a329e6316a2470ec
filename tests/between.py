"""Somebody on the way to a server: has no key, sees encrypted bytes, and cuts or changes what passes."""

import asyncio
from contextlib import suppress
import ctypes
import socket
import struct
from types import TracebackType
from typing import Self

import pytest

from custom_components.homelab_monitor.client.transport.login_refusal import Shown
from custom_components.homelab_monitor.client.transport.target import Target

_SO_ATTACH_FILTER = 26
"""Linux's asm-generic/socket.h; Python has no name for it."""
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A program of one instruction: of each packet nothing is kept (linux/filter.h, BPF_RET)."""
_NEWKEYS = b"\0\0\0\x0c\x0a\x15"
"""How the last packet begins that a server sends in plain text: its length, that of its padding, its number."""
_NEWKEYS_BYTES = 16


class Between:
    """Passes on what comes to its own port; while `on` is set, what it does to a connection is one of three things.

    `fin` and `rst` end it instead of the server's part `at`, `flip` changes a byte of the client's parts from `at` on.
    `packet` stands before the last one that the server sends in plain text, which has proven its host key by then, and
    `rest` in the place of all that it says after that.
    """

    def __init__(
        self, port: int, on: str | None = None, at: int = 0, *, packet: bytes = b"", rest: bytes = b""
    ) -> None:
        self._real = port
        self.on = on
        self.at = at
        self.packet = packet
        self.rest = rest
        self._ends: set[asyncio.StreamWriter] = set()
        self._clients: list[asyncio.StreamWriter] = []
        self._passed: int | None = None
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let nobody through any more."""
        self._server.close()
        self.cut()

    def target(self, target: Target) -> Target:
        """Return the way to that server that leads through here."""
        return Target(target.username, "127.0.0.1", self.port)

    def begin_when_accepted(self, monkeypatch: pytest.MonkeyPatch, on: str) -> None:
        """Do that from the moment on at which a server has accepted our key, which nobody can see from here."""
        accept = Shown.accept

        def accepted(shown: Shown) -> None:
            accept(shown)
            self.on, self.at = on, 0

        monkeypatch.setattr(Shown, "accept", accepted)

    def cut(self) -> None:
        """End every connection, now and for good."""
        for end in self._ends:
            end.transport.abort()

    def forget(self) -> None:
        """Drop all that comes on the connections so far without a word, as a firewall without their state does."""
        program = ctypes.create_string_buffer(_DROP)
        for writer in self._clients:
            door = writer.get_extra_info("socket")
            door.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))

    def hold(self, passed: int) -> None:
        """Keep from the server what a client says after so many parts more, for as long as one likes."""
        self._passed = passed

    def pass_on(self) -> None:
        """Let the server have the first part that was kept from it, whatever has become of the client."""
        self._passed = None
        back, data = self._held[0]
        back.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._real)
        self._ends |= {writer, back}
        self._clients.append(writer)
        with suppress(OSError):
            await asyncio.gather(self._up(reader, back), self._down(there, writer))
        self._ends -= {writer, back}

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Pass on what the client says."""
        part = 0
        while data := await reader.read(65536):
            part += 1
            if self.on == "flip" and part >= self.at:
                data = data[:-1] + bytes([data[-1] ^ 1])
            if self._passed is not None:
                self._passed -= 1
            if self._passed is not None and self._passed < 0:
                self._held.append((back, data))
            else:
                back.write(data)
        if not self._held:
            back.close()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the server says."""
        part = 0
        while data := await there.read(65536):
            part += 1
            if self.on in ("fin", "rst") and part >= self.at:
                self._end(writer)
                return
            data = data.replace(_NEWKEYS, self.packet + _NEWKEYS, 1)
            if self.rest and (found := data.find(_NEWKEYS)) >= 0:
                writer.write(data[: found + _NEWKEYS_BYTES] + self.rest)
                return  # An end of ours would overtake it.
            writer.write(data)
        writer.close()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        """End a connection as a server would that has nothing to say, or as one that has crashed."""
        if self.on == "rst":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.close()
