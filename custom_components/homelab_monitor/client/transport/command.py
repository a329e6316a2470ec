"""The result of a remote command, and the receiver of its output while it runs; independent of SSH.

A command that reads its input first sends a hello, and only then is anything written to it. A login
shell may start another shell instead of the command, be the menu of a router, or echo its input:
it would read a script, or a password, as commands.
"""

import asyncio
from dataclasses import dataclass
import re
from typing import Final, Protocol

from ..errors import first_line, reason_in
from ..limits import COMMAND_OUTPUT_BYTES, NOISE_KEPT

OUTPUT_LIMIT = 64 << 10
"""Bytes kept of each output of a command."""

ANNOUNCED: Final = """sh -c 'printf "\\036%s %s\\n" homelab_monitor input && exec "$@"' sh """
"""Prefix of a command that reads its input. Every login shell reads it alike, and a shell that echoes the command
line, with or without interpreting its backslashes, does not send a hello by that."""
_HELLO: Final = b"\x1ehomelab_monitor input\n"
_OTHER_HELLO: Final = b"\x1ehomelab_monitor program\n"
"""Hello of the probe, which a forced command starts whatever command is requested."""


class Receiver(Protocol):
    """The receiver of a remote process's output; its methods are called in the event loop and must not raise."""

    def output(self, data: bytes) -> None:
        """Take bytes of standard output."""

    def error_output(self, data: bytes) -> None:
        """Take bytes of standard error."""

    def ended(self) -> None:
        """Take the end: nothing more will come."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command; `exit_status` is None if a signal or a lost connection ended it."""

    stdout: str
    stderr: str
    exit_status: int | None
    signal: str | None = None
    truncated: bool = False
    noise: str = ""
    """First line that the login shell printed before the hello of a command."""
    asked: int = 0
    """How often it printed the cue."""
    is_silent: bool = False
    """Whether it was ended because it neither asked nor began its work for too long."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a command may ask, on standard error, before it does its work."""

    cue: bytes
    """The text that it prints before it reads the answer."""
    answer: bytes = b""
    """Written once; if empty, the command is ended when it asks."""
    begun: bytes = b""
    """The first output of the work on standard output; if empty, a question is awaited without a time limit."""


class _Search:
    """Searches a stream for one of a few texts; keeps no more of it than their length."""

    def __init__(self, *wanted: bytes) -> None:
        self._pattern = re.compile(b"|".join(map(re.escape, wanted)))
        self._kept = max(map(len, wanted)) - 1
        self.tail = b""

    def seek(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the bytes before the match, the match (empty if there is none yet), and the bytes after it."""
        text = self.tail + data
        if match := self._pattern.search(text):
            self.tail = b""
            return text[: match.start()], match[0], text[match.end() :]
        passed = max(len(text) - self._kept, 0)
        self.tail = text[passed:]
        return text[:passed], b"", b""


class Output:
    """The receiver that keeps what a command prints, up to a limit each; beyond `endless` bytes it gives up."""

    def __init__(
        self,
        limit: int,
        endless: int = COMMAND_OUTPUT_BYTES,
        *,
        announced: bool = False,
        question: Question | None = None,
    ) -> None:
        self._limit = limit
        self._endless = endless
        self._received = 0
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._noise = bytearray()
        self._truncated = False
        self._hello = _Search(_HELLO, _OTHER_HELLO) if announced else None
        self._cue = _Search(question.cue) if question else None
        self._work = _Search(question.begun) if question and question.begun else None
        self.asked = 0
        """How often the cue was printed."""
        self.works = False
        """Whether the work has begun that a question may precede."""
        self.is_silent = False
        self.has_begun = not announced
        """Whether the requested command runs, as far as can be known."""
        self.begun = asyncio.Event()
        """Set when the command has begun, or never will."""
        self.news = asyncio.Event()
        """Set when the command has asked, works or has ended; cleared by the waiting task."""
        self.complete = asyncio.Event()

    @property
    def words(self) -> str:
        """Return a line that may explain why the command has not begun."""
        text = self._stderr.decode(errors="replace")
        return reason_in(text) or first_line(text) or self.noise

    @property
    def noise(self) -> str:
        """Return the first line that was printed before the hello."""
        unread = self._hello.tail if self._hello else b""
        return first_line((self._noise + unread).decode(errors="replace"))

    def output(self, data: bytes) -> None:
        """Keep the beginning of standard output, after the hello if one is required."""
        self._count(data)
        if self._hello is None:
            self._take(data)
            return
        before, hello, after = self._hello.seek(data)
        self._noise += before[: NOISE_KEPT - len(self._noise)]
        if hello == _HELLO:
            self._hello = None
            self.has_begun = True
            self.begun.set()
            self._take(after)
        elif hello:
            self.ended()  # Another command runs, and would misread the input.

    def error_output(self, data: bytes) -> None:
        """Keep the beginning of standard error; the cue counts only after the hello."""
        self._count(data)
        self._keep(self._stderr, data)
        # A command that asks again is ended: further questions do not matter.
        while self.has_begun and self._cue and (found := self._cue.seek(data))[1]:
            self.asked += 1
            self.news.set()
            if self.asked > 1:
                self._cue = None
            data = found[2]

    def ended(self) -> None:
        """Wake all waiting tasks."""
        for event in (self.begun, self.news, self.complete):
            event.set()

    def _take(self, data: bytes) -> None:
        """Keep the command's own output, and check whether its work has begun."""
        self._keep(self._stdout, data)
        if self._work and self._work.seek(data)[1]:
            self._work = None
            self.works = True
            self.news.set()

    @property
    def may_ask(self) -> bool:
        """Return whether a question may still come."""
        return not self.works and not self.complete.is_set()

    @property
    def is_endless(self) -> bool:
        """Return whether more bytes came than the limit."""
        return self._received > self._endless

    def result(self, exit_status: int | None, signal: str | None) -> CommandResult:
        """Return the result with the kept output as text."""
        stdout, stderr = (kept.decode(errors="replace") for kept in (self._stdout, self._stderr))
        return CommandResult(
            stdout, stderr, exit_status, signal, self._truncated, self.noise, self.asked, self.is_silent
        )

    def _keep(self, kept: bytearray, data: bytes) -> None:
        """Add the data that still fits."""
        room = self._limit - len(kept)
        kept += data[:room]
        self._truncated |= len(data) > room

    def _count(self, data: bytes) -> None:
        """Count received bytes, kept or not; stop waiting for endless output."""
        self._received += len(data)
        if self.is_endless:
            self.ended()
