"""What a remote command gives back, and what takes its output while it runs; knows no SSH."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

OUTPUT_LIMIT = 64 << 10
"""Bytes kept of each output of a command."""


class Receiver(Protocol):
    """What a remote process talks to; its methods are called in the event loop and must not raise."""

    def output(self, data: bytes) -> None:
        """Take bytes of standard output."""

    def error_output(self, data: bytes) -> None:
        """Take bytes of standard error."""

    def ended(self) -> None:
        """Learn that nothing more will come."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command left behind; `exit_status` is None when a signal or a lost connection ended it."""

    stdout: str
    stderr: str
    exit_status: int | None
    signal: str | None = None
    truncated: bool = False


class Output:
    """The receiver that keeps what a command prints, up to a limit each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._truncated = False
        self.complete = asyncio.Event()

    def output(self, data: bytes) -> None:
        """Keep the beginning of standard output."""
        self._keep(self._stdout, data)

    def error_output(self, data: bytes) -> None:
        """Keep the beginning of standard error."""
        self._keep(self._stderr, data)

    def ended(self) -> None:
        """Let the waiting go on."""
        self.complete.set()

    def result(self, exit_status: int | None, signal: str | None) -> CommandResult:
        """Return what was kept, as text."""
        stdout, stderr = (kept.decode(errors="replace") for kept in (self._stdout, self._stderr))
        return CommandResult(stdout, stderr, exit_status, signal, self._truncated)

    def _keep(self, kept: bytearray, data: bytes) -> None:
        """Add what still fits."""
        room = self._limit - len(kept)
        kept += data[:room]
        self._truncated |= len(data) > room
