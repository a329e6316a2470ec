"""What sections share: asking one after the other who may never answer, in a few threads and no more."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..host import Json

PATIENCE_SECONDS = 1.0
MOST_STUCK = 4  # threads that wait for what hangs, of one kind


class Round:
    """One thread's way through a list of questions, each of which has a name."""

    def __init__(self, names: "list[str]", ask: "Callable[[str], Any]") -> None:
        import threading  # noqa: PLC0415

        self.names = names
        self.ask = ask
        self.answers = {}  # type: dict[str, Any]
        self.is_abandoned = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Ask one after the other; stop after the one that made this thread late."""
        for name in self.names:
            if self.is_abandoned:
                return
            try:
                answer = self.ask(name)
            except OSError as err:
                answer = err
            if not self.is_abandoned:
                self.answers[name] = answer
        self.over.set()

    def left(self) -> "list[str]":
        """Return what is without an answer; while the thread runs, the first of it is being asked."""
        return self.names[len(self.answers) :]

    def wait(self, deadline: float) -> None:
        """Wait until all is answered, one takes too long, or time is over."""
        answered = -1
        while not self.over.is_set() and len(self.answers) > answered and time.monotonic() < deadline:
            answered = len(self.answers)
            self.over.wait(min(PATIENCE_SECONDS, max(0.0, deadline - time.monotonic())))
        self.is_abandoned = not self.over.is_set()


def ask_each(names: "list[str]", ask: "Callable[[str], Any]", held: "Json", deadline: float, most: int = MOST_STUCK) -> "dict[str, Any]":
    """Return the answers by name, an OSError where one was raised; who hangs keeps a thread and is not asked again.

    `held` remembers the threads that hang, by name. With `most` of them, who is left is late without one.
    """
    for name in [name for name, thread in held.items() if not thread.is_alive()]:
        del held[name]
    answers = {}  # type: dict[str, Any]
    left = [name for name in names if name not in held]
    while left and len(held) < most and time.monotonic() < deadline:
        asking = Round(left, ask)
        asking.wait(deadline)
        left = asking.left() if asking.is_abandoned else []
        answers.update(asking.answers)
        if left:
            held[left.pop(0)] = asking.thread
    return answers
