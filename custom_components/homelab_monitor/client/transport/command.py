"""What a remote command gives back, and what takes its output while it runs; knows no SSH.

A command that reads its input first says hello, and only then is anything written to it. A login
shell may start another one instead of the command, be the menu of a router, or print back what it
gets: a script, or a password, would be commands to it.
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
"""What stands before a command that reads its input. Every login shell reads it alike, and whoever prints the
command line back, with or without making sense of its backslashes, does not say hello by that."""
_HELLO: Final = b"\x1ehomelab_monitor input\n"
_OTHER_HELLO: Final = b"\x1ehomelab_monitor program\n"
"""A forced command starts the probe, whatever it is asked for."""


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
    noise: str = ""
    """First line that the login shell printed before a command that was announced."""
    asked: int = 0
    """How often it printed the cue."""
    is_silent: bool = False
    """Whether it was ended because it neither asked nor began its work for too long."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a command may ask, on standard error, before it does its work."""

    cue: bytes
    """What it prints when it is about to read the answer."""
    answer: bytes = b""
    """Written once; without an answer the command is ended when it asks."""
    begun: bytes = b""
    """What the work prints first on standard output; without it nobody knows how long a question may be awaited."""


class _Search:
    """Looks for one of a few texts in a stream; keeps no more of it than their length."""

    def __init__(self, *wanted: bytes) -> None:
        self._pattern = re.compile(b"|".join(map(re.escape, wanted)))
        self._kept = max(map(len, wanted)) - 1
        self.tail = b""

    def seek(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Return what can be passed over, what was found (nothing so far: empty), and what comes behind it."""
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
        """How often the cue came."""
        self.works = False
        """Whether the work has begun that a question may stand before."""
        self.is_silent = False
        self.has_begun = not announced
        """Whether what was asked for runs, as far as anybody can tell."""
        self.begun = asyncio.Event()
        """Set when it has begun, or never will."""
        self.news = asyncio.Event()
        """Set when it has asked, works or has ended; cleared by who waits for it."""
        self.complete = asyncio.Event()

    @property
    def words(self) -> str:
        """Return a line that may say why nothing has begun."""
        text = self._stderr.decode(errors="replace")
        return reason_in(text) or first_line(text) or self.noise

    @property
    def noise(self) -> str:
        """Return the first line that was printed before the hello."""
        unread = self._hello.tail if self._hello else b""
        return first_line((self._noise + unread).decode(errors="replace"))

    def output(self, data: bytes) -> None:
        """Keep the beginning of standard output, behind the hello where there has to be one."""
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
            self.ended()  # Nobody will read what was meant for another command.

    def error_output(self, data: bytes) -> None:
        """Keep the beginning of standard error; the cue counts behind the hello only."""
        self._count(data)
        self._keep(self._stderr, data)
        # What asks again is ended: how often more it does so matters to nobody.
        while self.has_begun and self._cue and (found := self._cue.seek(data))[1]:
            self.asked += 1
            self.news.set()
            if self.asked > 1:
                self._cue = None
            data = found[2]

    def ended(self) -> None:
        """Let the waiting go on."""
        for event in (self.begun, self.news, self.complete):
            event.set()

    def _take(self, data: bytes) -> None:
        """Keep what the command itself prints, and see whether it has done with questions."""
        self._keep(self._stdout, data)
        if self._work and self._work.seek(data)[1]:
            self._work = None
            self.works = True
            self.news.set()

    @property
    def may_ask(self) -> bool:
        """Tell whether a question may still come."""
        return not self.works and not self.complete.is_set()

    @property
    def is_endless(self) -> bool:
        """Tell whether more came than anybody waits for."""
        return self._received > self._endless

    def result(self, exit_status: int | None, signal: str | None) -> CommandResult:
        """Return what was kept, as text."""
        stdout, stderr = (kept.decode(errors="replace") for kept in (self._stdout, self._stderr))
        return CommandResult(
            stdout, stderr, exit_status, signal, self._truncated, self.noise, self.asked, self.is_silent
        )

    def _keep(self, kept: bytearray, data: bytes) -> None:
        """Add what still fits."""
        room = self._limit - len(kept)
        kept += data[:room]
        self._truncated |= len(data) > room

    def _count(self, data: bytes) -> None:
        """Count what came, kept or not; what has no end is waited for no longer."""
        self._received += len(data)
        if self.is_endless:
            self.ended()
