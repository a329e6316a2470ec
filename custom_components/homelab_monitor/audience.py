"""Who listens to what is told of one host, and what waits for them: over reloads, and over restarts.

Automations begin last when Home Assistant starts, and end first. What they are not told they never learn: until they
listen it waits in the memory of the host, which is stored as a whole, so that nothing is known that nobody was told.
"""

from dataclasses import dataclass, replace
import time

from homeassistant.core import CoreState, HomeAssistant, callback
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey

from .client.limits import UNTOLD_LIMIT
from .client.tracking.events import Baseline, HostEvent
from .const import DOMAIN
from .state import HostState
from .store import HostMemory

AUTOMATIONS_SECONDS = 5.0
"""Automations begin when Home Assistant has started, each with a task of its own."""
RELOAD_SECONDS = 120.0
"""How long what was the case before a reload counts after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastLook:
    """What one coordinator leaves to the next one of its entry, beside the file."""

    at: float
    memory: HostMemory
    """Goes on while entities go: what happens meanwhile is told by the next one."""
    answered: float | None
    heard: float | None
    was_heard: bool


_LAST_LOOKS: HassKey[dict[str, _LastLook]] = HassKey(f"{DOMAIN}_last_looks")


@callback
def async_forget_look(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what was the case on a host that is removed."""
    hass.data.get(_LAST_LOOKS, {}).pop(entry_id, None)


class Audience:
    """The automations, as one coordinator sees them."""

    def __init__(self, hass: HomeAssistant, entry_id: str, memory: HostMemory, *, may_be_off: bool) -> None:
        """Take over what the last coordinator of the entry left, if there was one, else what the file says."""
        self._hass, self._entry_id, self._memory = hass, entry_id, memory
        self._own = memory.audience
        self._may_be_off = may_be_off
        look = hass.data.setdefault(_LAST_LOOKS, {}).pop(entry_id, None)
        if look:
            left = look.memory.audience
            self._own.untold, self._own.is_held = left.untold, left.is_held
        is_fresh = look is not None and time.monotonic() - look.at <= RELOAD_SECONDS
        self.baseline: Baseline | None = look.memory.baseline if look and is_fresh else None
        """What was the case before a reload; None: ask the store."""
        self.answered = look.answered if look else None
        """When the host counts as heard last before that, by the steady clock."""
        self.heard = look.heard if look else None
        """When it was, since Home Assistant began."""
        is_begun = hass.state is CoreState.running and (look is None or look.was_heard)
        self.is_listening = is_begun and not self._own.untold and not self._own.is_held
        """Whether what is told now reaches them."""
        self.is_gone = self.has_left = False
        """Whether the host is polled no more; whether its entities go, too."""
        self._is_unseen = False
        """Whether the host went before automations could see it: they hear of no change then."""

    def restored(self, state: HostState) -> HostState:
        """Return the first state of this run with what automations know of an absence."""
        memory, own = self._memory, self._own
        is_held = own.is_held or (not self.is_listening and memory.online is False)
        if memory.online is not False and not is_held:
            return state
        moments = (own.watched_until, own.unexpected_until)
        until, unexpected = (None if each is None else dt_util.utc_from_timestamp(each) for each in moments)
        return replace(
            state,
            is_held=is_held,
            last_reason=memory.reason,
            watched_until=until,
            unexpected_until=unexpected,
            watched_again=dt_util.utcnow() if self.is_listening else None,
        )

    def told(self, happenings: tuple[HostEvent, ...]) -> tuple[HostEvent, ...]:
        """Return what is told at once; while nobody listens it waits."""
        if self.is_listening and not self.is_gone:
            return happenings
        self._own.untold = (*self._own.untold, *happenings)[:UNTOLD_LIMIT]
        return ()

    def note_change(self, before: HostState) -> None:
        """Note whether anybody can see that the host goes."""
        if before.is_online:
            self._is_unseen = self._hass.state is not CoreState.running

    def note_held(self, state: HostState) -> None:
        """Remember whether automations are still to hear that the host is back."""
        self._own.is_held = state.is_held and state.is_online

    def begin(self, state: HostState) -> tuple[HostState, tuple[HostEvent, ...]]:
        """Let automations listen; return the state that they see, and what they are told."""
        untold, now = self._own.untold, dt_util.utcnow()
        self.is_listening, self._own.untold = True, ()
        if state.is_held and state.is_online:
            state = replace(state, since=now, watched_until=None, unexpected_until=None, watched_again=None)
        elif state.is_held or (self._is_unseen and not state.is_online):
            state = replace(state, watched_again=now)
        return replace(state, is_held=False), untold

    def leave(self, answered: float | None, heard: float | None) -> None:
        """Leave to the next one what was told, and when the host counts as heard last, and was: entities go now."""
        self.note_watched()
        self.is_gone = self.has_left = True
        look = _LastLook(
            at=time.monotonic(), memory=self._memory, answered=answered, heard=heard, was_heard=self.is_listening
        )
        self._hass.data.setdefault(_LAST_LOOKS, {})[self._entry_id] = look

    def close(self) -> None:
        """End with Home Assistant: what happens from here on the next run tells."""
        self.note_watched()
        self.is_gone = True

    def note_watched(self) -> None:
        """Remember until when automations could see what this run shows."""
        if self.is_listening and not self.is_gone:
            self._own.watched_until = time.time()
            if not self._may_be_off:
                self._own.unexpected_until = self._own.watched_until
