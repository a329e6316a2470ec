"""A token bucket: allows a burst, and then one at a time.

What a host can repeat without end, such as an event, a change of its device or a line in the log,
takes a token each time. Without a token the caller does nothing, and later reports what was left out.
"""

import time


class Bucket:
    """Holds up to `burst` tokens, and gets one back every `seconds`."""

    __slots__ = ("_at", "_burst", "_seconds", "_tokens")

    def __init__(self, burst: int, seconds: float) -> None:
        """Start full."""
        self._burst = self._tokens = float(burst)
        self._seconds = seconds
        self._at = time.monotonic()

    @property
    def is_full(self) -> bool:
        """Return whether it is full."""
        return self._tokens + (time.monotonic() - self._at) / self._seconds >= self._burst

    @property
    def left(self) -> float:
        """Return the number of tokens."""
        return min(self._burst, self._tokens + (time.monotonic() - self._at) / self._seconds)

    def set_left(self, tokens: float, seconds: float) -> None:
        """Set the tokens to a number from so many seconds ago, and those that came back since."""
        self._tokens = min(self._burst, max(0.0, tokens) + max(0.0, seconds) / self._seconds)
        self._at = time.monotonic()

    def take(self) -> bool:
        """Take a token; return whether there was one."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._seconds)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
