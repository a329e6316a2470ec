"""How long a host that sent too much is left alone: a new connection each time would be a new budget.

It is noted where a connection goes beyond its budget and asked where one is opened, whoever does so and for whatever:
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
    """What a host did, and until when it is left alone, by a monotonic clock."""

    excess: HomelabError
    seconds: float
    until: float


_RESTS: dict[Place, _Rest] = {}


def begin(place: Place, has_proven: Callable[[], bool], excess: HomelabError) -> None:
    """Leave a host alone from now on, twice as long as the last time; what is no SSH server takes no budget.

    Whoever has not proven the host's key may be anybody in between: that keeps nobody away from the host.
    """
    if not isinstance(excess, TooMuchTraffic) or not has_proven():
        return
    now = time.monotonic()
    for each in [name for name, rest in _RESTS.items() if now - rest.until > EXCESS_FORGOTTEN_SECONDS]:
        del _RESTS[each]
    last = _RESTS.get(place)
    # What several connections did at once is one thing that happened.
    if last is None or now >= last.until:
        seconds = EXCESS_REST_SECONDS if last is None else min(2 * last.seconds, EXCESS_REST_LIMIT)
        _RESTS[place] = _Rest(excess, seconds, now + seconds)


def require_end(place: Place) -> None:
    """Raise TooMuchTraffic with what a host did, until it has been left alone for long enough."""
    rest = _RESTS.get(place)
    if rest is not None and time.monotonic() < rest.until:
        raise TooMuchTraffic(place[0], rest.excess.detail)


def forget_all() -> None:
    """Start anew with every host, as each test does."""
    _RESTS.clear()
