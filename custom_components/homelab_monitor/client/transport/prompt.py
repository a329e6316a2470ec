"""Answer the one question of a command, and end a command that asks anything more.

To sudo the end of its input is one more wrong password, and so is SIGTERM: with both it goes back to PAM, where
pam_faillock counts. So its input stays open while a question may come, and a sudo that asks a further question is
killed while it waits. That is possible: until it has authenticated the user, it runs with the caller's real id.
"""

from contextlib import suppress
from typing import Protocol

from ..limits import ENDING_SECONDS, QUESTION_SECONDS
from ..time_limit import TimeLimit
from .command import Output, Question


class Asking(Protocol):
    """A process that may ask."""

    def write(self, data: bytes) -> None:
        """Send to its input."""

    def strike(self) -> None:
        """End it with SIGKILL."""


async def answer_once(process: Asking, output: Output, question: Question) -> None:
    """Answer the first question, if there is an answer, and wait for the work; end what asks more or never begins."""
    answers = [question.answer] if question.answer else []
    given = 0
    while output.may_ask:
        if output.asked > given:
            if given == len(answers):
                return await _end(process, output)
            with suppress(OSError):  # A command may end without reading its input.
                process.write(answers[given])
            given += 1
        elif not await _has_news(output, QUESTION_SECONDS if question.begun else None):
            output.is_silent = True
            return await _end(process, output)
    return None


async def _has_news(output: Output, seconds: float | None) -> bool:
    """Wait until it asks, works or ends; return whether it did in time."""
    output.news.clear()
    try:
        async with TimeLimit(seconds):
            await output.news.wait()
    except TimeoutError:
        return False
    return True


async def _end(process: Asking, output: Output) -> None:
    """End the waiting command; if the server does not forward signals, the caller closes its input afterwards."""
    process.strike()
    with suppress(TimeoutError):
        async with TimeLimit(ENDING_SECONDS):
            await output.complete.wait()
