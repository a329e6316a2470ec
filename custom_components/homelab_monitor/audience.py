"""Whether automations listen to the events of one host, and which events wait for them across reloads and restarts.

Automations start last when Home Assistant starts, and stop first. They never learn of an event that fires while they
do not run: until they listen it waits in the memory of the host, which is stored as a whole, so that no change is
stored as known without the event that reports it.
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
"""Automations start after Home Assistant has started, each in a task of its own."""
RELOAD_SECONDS = 120.0
"""How long the state before a reload counts after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handover:
    """What one coordinator hands over to the next one of its entry, in addition to the file."""

    at: float
    memory: HostMemory
    """Still changes while entities are removed: the next coordinator reports what happens meanwhile."""
    answered: float | None
    heard: float | None
    was_listening: bool


_HANDOVERS: HassKey[dict[str, _Handover]] = HassKey(f"{DOMAIN}_handovers")


@callback
def async_forget_handover(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the handover of a host that is removed."""
    hass.data.get(_HANDOVERS, {}).pop(entry_id, None)


class Audience:
    """The automations, as one coordinator sees them."""

    def __init__(self, hass: HomeAssistant, entry_id: str, memory: HostMemory, *, may_be_off: bool) -> None:
        """Take over from the previous coordinator of the entry if there was one, otherwise from the file."""
        self._hass, self._entry_id, self._memory = hass, entry_id, memory
        self._own = memory.audience
        self._may_be_off = may_be_off
        handover = hass.data.setdefault(_HANDOVERS, {}).pop(entry_id, None)
        if handover:
            left = handover.memory.audience
            self._own.untold, self._own.is_held = left.untold, left.is_held
        is_fresh = handover is not None and time.monotonic() - handover.at <= RELOAD_SECONDS
        self.baseline: Baseline | None = handover.memory.baseline if handover and is_fresh else None
        """The baseline before a reload; None: use the stored one."""
        self.answered = handover.answered if handover else None
        """When the host counts as heard last before a reload, by the monotonic clock."""
        self.heard = handover.heard if handover else None
        """When the host was heard last since Home Assistant started, by the monotonic clock."""
        is_begun = hass.state is CoreState.running and (handover is None or handover.was_listening)
        self.is_listening = is_begun and not self._own.untold and not self._own.is_held
        """Whether an event that is reported now reaches automations."""
        self.is_gone = self.has_left = False
        """Whether the host is no longer polled; whether its entities are being removed, too."""
        self._is_unseen = False
        """Whether the host went offline before automations could see it: they see no change then."""

    def restored(self, state: HostState) -> HostState:
        """Return the first state of this run, with what automations know of an absence."""
        memory, own = self._memory, self._own
        is_held = own.is_held or (not self.is_listening and memory.online is False)
        if memory.online is not False and not is_held:
            return state
        moments = (own.watched_until, own.unexpected_until)
        until, unexpected = (None if at is None else dt_util.utc_from_timestamp(at) for at in moments)
        return replace(
            state,
            is_held=is_held,
            last_reason=memory.reason,
            watched_until=until,
            unexpected_until=unexpected,
            watched_again=dt_util.utcnow() if self.is_listening else None,
        )

    def deliver(self, events: tuple[HostEvent, ...]) -> tuple[HostEvent, ...]:
        """Return the events if automations listen; otherwise store them until they do, and return none."""
        if self.is_listening and not self.is_gone:
            return events
        self._own.untold = (*self._own.untold, *events)[:UNTOLD_LIMIT]
        return ()

    def note_change(self, before: HostState) -> None:
        """Note whether automations can see that the host goes offline."""
        if before.is_online:
            self._is_unseen = self._hass.state is not CoreState.running

    def note_held(self, state: HostState) -> None:
        """Remember whether automations do not know yet that the host is back."""
        self._own.is_held = state.is_held and state.is_online

    def begin(self, state: HostState) -> tuple[HostState, tuple[HostEvent, ...]]:
        """Note that automations listen from now on; return the state to show them and the events that waited."""
        untold, now = self._own.untold, dt_util.utcnow()
        self.is_listening, self._own.untold = True, ()
        if state.is_held and state.is_online:
            state = replace(state, since=now, watched_until=None, unexpected_until=None, watched_again=None)
        elif state.is_held or (self._is_unseen and not state.is_online):
            state = replace(state, watched_again=now)
        return replace(state, is_held=False), untold

    def leave(self, answered: float | None, heard: float | None) -> None:
        """Hand over to the next coordinator when the host counts as heard last, and when it was; entities go now."""
        self.note_watched()
        self.is_gone = self.has_left = True
        handover = _Handover(
            at=time.monotonic(), memory=self._memory, answered=answered, heard=heard, was_listening=self.is_listening
        )
        self._hass.data.setdefault(_HANDOVERS, {})[self._entry_id] = handover

    def close(self) -> None:
        """Stop with Home Assistant: the next run reports what happens from here on."""
        self.note_watched()
        self.is_gone = True

    def note_watched(self) -> None:
        """Remember until when automations could see what this run shows."""
        if self.is_listening and not self.is_gone:
            self._own.watched_until = time.time()
            if not self._may_be_off:
                self._own.unexpected_until = self._own.watched_until
