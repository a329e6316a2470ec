"""Cooldown of a host that sent too much: each new connection would otherwise be a new budget.

It begins when a connection exceeds its budget, and is checked whenever one is opened, for any purpose:
polls, tests, actions and dialogs are the same to the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
import time

from ..errors import HomelabError, TooMuchTraffic
from ..limits import EXCESS_FORGOTTEN_SECONDS, EXCESS_REST_LIMIT, EXCESS_REST_SECONDS

type Place = tuple[str, int]
"""Host and port that are connected to."""


@dataclass(slots=True)
class _Rest:
    """What a host did, and until when it is not contacted, by a monotonic clock."""

    excess: HomelabError
    seconds: float
    until: float


_RESTS: dict[Place, _Rest] = {}


def begin(place: Place, has_proven: Callable[[], bool], excess: HomelabError) -> None:
    """Begin a cooldown, twice as long as the last one; only for TooMuchTraffic, not for what is no SSH server.

    A peer that has not proven the host's key may be a man in the middle, and must not block the real host.
    """
    if not isinstance(excess, TooMuchTraffic) or not has_proven():
        return
    now = time.monotonic()
    for expired in [name for name, rest in _RESTS.items() if now - rest.until > EXCESS_FORGOTTEN_SECONDS]:
        del _RESTS[expired]
    last = _RESTS.get(place)
    # The excess of several connections at once counts as one.
    if last is None or now >= last.until:
        seconds = EXCESS_REST_SECONDS if last is None else min(2 * last.seconds, EXCESS_REST_LIMIT)
        _RESTS[place] = _Rest(excess, seconds, now + seconds)


def require_end(place: Place) -> None:
    """Raise TooMuchTraffic with what a host did, until its cooldown has ended."""
    rest = _RESTS.get(place)
    if rest is not None and time.monotonic() < rest.until:
        raise TooMuchTraffic(place[0], rest.excess.detail)


def forget_all() -> None:
    """End the cooldowns of all hosts, as each test does."""
    _RESTS.clear()
