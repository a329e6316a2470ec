"""Calls that may hang for ever, one after the other in a limited number of threads, for several sections."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..host import Json

PATIENCE_SECONDS = 1.0
MOST_STUCK = 4  # hanging threads, per kind of call


class Round:
    """One thread that makes a list of calls, each of which has a name."""

    def __init__(self, names: "list[str]", ask: "Callable[[str], Any]") -> None:
        from _thread import allocate_lock, start_new_thread  # noqa: PLC0415 - starting one of `threading` costs double

        self.names = names
        self.ask = ask
        self.answers = {}  # type: dict[str, Any]
        self.is_abandoned = False
        self.is_running = True
        self.over = allocate_lock()
        self.over.acquire()
        start_new_thread(self.work, ())

    def work(self) -> None:
        """Make one call after the other; stop after the one that made this thread late."""
        try:
            for name in self.names:
                if self.is_abandoned:
                    break
                try:
                    answer = self.ask(name)
                except OSError as err:
                    answer = err
                if not self.is_abandoned:
                    self.answers[name] = answer
        finally:
            self.is_running = False
            self.over.release()

    def left(self) -> "list[str]":
        """Return the names without an answer; while the thread runs, the first one is in progress."""
        return self.names[len(self.answers) :]

    def wait(self, deadline: float) -> None:
        """Wait until all calls have returned, one takes too long, or the deadline has passed."""
        answered, is_over = -1, False
        while not is_over and len(self.answers) > answered and time.monotonic() < deadline:
            answered = len(self.answers)
            is_over = self.over.acquire(timeout=min(PATIENCE_SECONDS, max(0.0, deadline - time.monotonic())))
        self.is_abandoned = not is_over


def ask_each(names: "list[str]", ask: "Callable[[str], Any]", held: "Json", deadline: float, most: int = MOST_STUCK) -> "dict[str, Any]":
    """Return the answers by name, an OSError if one was raised; a call that hangs keeps its thread and is not repeated.

    `held` keeps the rounds of hanging threads by name. With `most` of them, the remaining names get no answer.
    """
    for name in [name for name, hanging in held.items() if not hanging.is_running]:
        del held[name]
    answers = {}  # type: dict[str, Any]
    left = [name for name in names if name not in held]
    while left and len(held) < most and time.monotonic() < deadline:
        asking = Round(left, ask)
        asking.wait(deadline)
        left = asking.left() if asking.is_abandoned else []
        answers.update(asking.answers)
        if left:
            held[left.pop(0)] = asking
    return answers
