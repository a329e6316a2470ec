"""Poll one host and decide whether it is online.

This is the only place that turns the client's errors into a state in Home Assistant. A failing
host raises nothing: every poll ends in a `HostState`, so that entities exist from the first second
(the stored state), keep their values while a host is late, and show why it is offline.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
import hashlib
from itertools import pairwise
import logging
import math
import time
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator
from homeassistant.util import dt as dt_util, slugify

from .audience import AUTOMATIONS_SECONDS, Audience
from .client.bucket import Bucket
from .client.checks.report import Report, restore_report
from .client.errors import (
    ALARMS,
    HangsUp,
    HomelabError,
    InternalError,
    KeyRefused,
    LoginCut,
    LoginsLimited,
    NoGreeting,
)
from .client.limits import ALARM_WRITES, HOST_WRITES, LOG_LINES, STORE_SAVES
from .client.probe.session import ProbeSession
from .client.probe.snapshot import Reply, Snapshot
from .client.time_limit import STANDSTILL_SECONDS
from .client.tracking.events import Baseline, HostEvent, advance, starting_from
from .client.tracking.item_tracker import ItemTracker
from .client.tracking.items import SHOWN, Selection, is_crowd, is_guests
from .client.tracking.problems import ProblemTracker, Thresholds
from .client.tracking.rates import Rates, updated
from .client.tracking.schedule import Schedule
from .client.tracking.values import services
from .health.alarms import async_alarm
from .health.monitor import HealthMonitor
from .registration import HostDevice
from .settings import HostAddress, HostOptions
from .state import ONLINE, HostState, HostStatus
from .store import HostStore

_LOGGER = logging.getLogger(__name__)

OFFLINE_RETRY_SECONDS = (10, 20, 40, 60)
MAY_BE_OFF_RETRY_SECONDS = (10, 20, 40, 60, 120, 300)
REFUSAL_RETRY_SECONDS = (60, 300, 900)
"""A home folder that is not mounted yet makes the host refuse our key, and for a moment another machine, or somebody
in between, may answer at the address: that alone must not stop monitoring for an hour."""
LIMITED_RETRY_SECONDS = (30, 120, 300, 600)
"""A server that has refused us limits our logins, and each further login may prolong that."""
UNPROVEN_LIMITED_RETRY_SECONDS = (30, 30, 60, 120)
"""Anybody in between can send that instead of a greeting, and must not keep us away for longer than this."""
LATE_LIMITED_RETRY_SECONDS = 10
"""Shorter than `stale_after`, so that a host that is online stays so."""
CUT_RETRY_SECONDS = (15, 120, 300)
"""The server may count a login that ends without a message as refused: fail2ban bans after five in 10 minutes."""
CUT_LOGINS, CUT_LOGINS_SECONDS = 4, 900.0
"""So many logins in a row that end without a message, over so many seconds, are more than a short disturbance.
They prove nothing about the host either: somebody in between may cut each of them."""
_REFUSALS = (KeyRefused, *ALARMS)
"""One side does not trust the other; the only consequence is another handshake."""
SUSPENDED_RETRY_SECONDS = 3600
_SEE_LOG = "see the log"
HAND_POLLS = 4
"""How many manual polls are needed to know how often they come: an update of several entities makes two at once."""
CLOCK_IS_SET = 1577836800.0
"""2020 as Unix time: a wall clock that shows less starts at 1970 at each boot, and was not set yet."""
AFTER_POWER_CUT_SECONDS = 900
"""Home Assistant may be up before the host; the last reply was then before both went down."""

type HomelabConfigEntry = ConfigEntry[HomelabCoordinator]


class HomelabCoordinator(DataUpdateCoordinator[HostState]):
    """Poll one host and keep its state."""

    config_entry: HomelabConfigEntry

    def __init__(self, hass: HomeAssistant, entry: HomelabConfigEntry, store: HostStore, session: ProbeSession) -> None:
        """Start from the stored state; nothing is contacted yet."""
        self.address = HostAddress.from_data(entry.data)
        self.options = HostOptions.from_options(entry.options)
        super().__init__(
            hass,
            _LOGGER,
            config_entry=entry,
            name=entry.title,
            update_interval=timedelta(seconds=self.options.interval),
        )
        self.store = store
        self.session = session
        self.inventory = store.memory.inventory
        self.inventory.slug = slugify
        self.selection = Selection(
            services=self.options.services,
            containers=self.options.containers,
            interfaces=self.options.interfaces,
            filesystems=self.options.filesystems,
            user=self.address.target.username,
        )
        self._item_tracker = ItemTracker(self.inventory, self.selection)
        self._schedule = Schedule()
        self._tries = 0
        self._refusals = self._limited = self._cuts = 0
        self._first_cut = -math.inf
        self._rest_until = -math.inf
        self._is_processing = self._has_refused = False
        self._last_success: float | None = None
        self._asked: float | None = None
        """When the first poll without a reply since was sent: that is when silence begins."""
        self._polls: deque[float] = deque(maxlen=HAND_POLLS)
        """When the last polls began, whatever started them and however they ended."""
        self._next_due = math.inf
        """When the next poll should begin at the latest."""
        self._is_excused = False
        """Whether a delay of our own since the last success was excused once."""
        self._changed = time.monotonic()
        self._stood = 0.0
        """For how many of the seconds since then Home Assistant stood still."""
        self._unsub_stale: CALLBACK_TYPE | None = None
        self._stale_due = math.inf
        self._is_reported_offline = False
        self._lines, self._alarm_lines = Bucket(*LOG_LINES), Bucket(*ALARM_WRITES)
        self._unlogged = 0
        self._saves = Bucket(*STORE_SAVES)
        self._writes = {is_guest: Bucket(*HOST_WRITES) for is_guest in (False, True)}
        self._is_phased = False
        self.has_polled = False
        """Whether a poll has ended since Home Assistant started with this host."""
        self._audience = Audience(hass, entry.entry_id, store.memory, may_be_off=self.options.may_be_off)
        self._heard = self._audience.heard
        """When the host answered last, by the monotonic clock; None: not since Home Assistant started."""
        self.health_monitor = HealthMonitor(hass, entry, store, session, self.async_tested)
        self._problem_tracker = ProblemTracker(selection=self.selection, told=store.memory.problems)
        self.thresholds = Thresholds(
            disk_percent=self.options.disk_threshold,
            memory_percent=self.options.memory_threshold,
            cpu_percent=self.options.cpu_threshold,
            temperature_celsius=self.options.temperature_threshold,
        )
        self.device = HostDevice(hass, entry, self.address.host_id)
        self.layout = 0
        """Grows when an item or a value may have come or gone, so that entities need not check at every poll."""
        self._layout_seen: tuple[object, ...] = ()
        self.data = self._remembered()
        # The first poll of an unknown host finds the starting point, not events.
        self._is_news = self.data.is_known

    def _remembered(self) -> HostState:
        """Return the initial state: the stored one, which holds until the first poll has ended."""
        memory = self.store.memory
        snapshot, known = memory.snapshot, memory.baseline
        rates = updated(Rates(), Snapshot(), snapshot)
        # What changes during a reload is reported as always.
        memory.baseline = self._audience.baseline or starting_from(snapshot, time.monotonic(), known)
        state = HostState(
            snapshot=snapshot,
            rates=rates,
            items=self._items(snapshot, rates, is_news=False),
            problems=memory.problems,
            may_be_off=self.options.may_be_off,
            since=dt_util.utcnow() if memory.since is None else dt_util.utc_from_timestamp(memory.since),
            last_test=restore_report(memory.last_test),
        )
        state = self._audience.restored(state)
        if memory.age_seconds < self.options.stale_after:
            # The config flow has just polled it.
            self._last_success = memory.seen
        elif not memory.online:
            return state if memory.online is None else replace(state, status=HostStatus.OFFLINE)
        else:
            self._last_success = self._answered_before()
        self._arm_stale_timer()
        state = replace(state, status=HostStatus.ONLINE)
        self._remember(state)
        return state

    def _answered_before(self) -> float | None:
        """Return the monotonic time at which a host that was online counts as heard last, None if never.

        Silence begins with a poll that it does not answer: time without polls does not count. Where the user polls by
        hand, a failed poll is all there is to know.
        """
        answered = self._audience.answered
        if self.config_entry.pref_disable_polling:
            return answered
        due = time.monotonic() - self.options.interval
        return due if answered is None else max(answered, due)

    # ------------------------------------------------------------ polling

    @override
    async def _async_update_data(self) -> HostState:
        """Poll the host; a failure is a state, not an exception.

        A poll may be requested at any time (`homeassistant.update_entity`). That does not shorten how long a host that
        refuses is left alone: the server counts each try as a login, and so do we.
        """
        started = time.monotonic()
        if started < self._rest_until:
            self.update_interval = timedelta(seconds=self._rest_until - started)
            # A poll at the end of a rest is in time, also where the alarm that began the rest came between two polls.
            self._next_due = max(self._next_due, self._rest_until)
            return self.data
        self._note_standstill(started)
        self._report_fault()
        self._problem_tracker.patience = self._patience()
        self._polls.append(started)
        asked_at = time.time()
        # Half an interval of slack: a turn missed by milliseconds would come a whole poll later.
        sections = self._schedule.due(started + self.options.interval / 2)
        try:
            reply = await self.session.poll(sections, self._watch(sections), self._sudo(sections))
        except HomelabError as err:
            if self._audience.has_left:
                return self.data
            state = self._failed(err, started)
        else:
            if self._audience.has_left:
                return self.data
            self._is_processing = True
            state = self._succeeded(sections, reply, (started, asked_at), time.monotonic() - started)
            self._is_processing = False
        self._is_news = self.has_polled = True
        if self.update_interval and not self.config_entry.pref_disable_polling:
            self._next_due = time.monotonic() + self.update_interval.total_seconds()
        self.health_monitor.async_polled(state.snapshot, state.error, state.poll_seconds, self._silent_seconds(state))
        return state

    def _patience(self) -> float:
        """Return how many seconds between two polls still count as continuous observation.

        Where the user polls by hand, that depends on how often they do: twice the longest time between the last polls,
        without this one.
        """
        if not self.config_entry.pref_disable_polling:
            return self.options.stale_after
        return max(self.options.stale_after, 2 * max((b - a for a, b in pairwise(self._polls)), default=0.0))

    def _note_standstill(self, now: float) -> None:
        """Note a standstill of Home Assistant, so that it does not count as silence of a host that was not polled."""
        late = now - self._next_due
        # Home Assistant shifts polls by up to a second.
        if late > self.options.interval + STANDSTILL_SECONDS:
            self._stood += late
        if late > 2 * STANDSTILL_SECONDS and not self._is_excused:
            self._is_excused, self._asked = True, None
        self._next_due = math.inf
        if self._asked is None:
            self._asked = now

    @callback
    @override
    def async_update_listeners(self) -> None:
        """Update all entities, and hand each event to them once: the next update has none of these."""
        super().async_update_listeners()
        if self.data.events:
            self.data = replace(self.data, events=())

    @callback
    def async_started(self, hass: HomeAssistant) -> None:
        """Report what happened while Home Assistant started, as soon as automations have started as well."""

        @callback
        def async_report_all(_now: datetime) -> None:
            if self._audience.is_gone:
                return
            was_held = self.data.is_held
            self.data, untold = self._audience.begin(self.data)
            if self.data.is_known:
                self._remember(self.data)
            self.async_notify_listeners(*untold)
            if untold or was_held:
                # Otherwise the next start would report these events again.
                self._save_at_once(whatever_size=True)

        if not self._audience.is_listening:
            job = HassJob(async_report_all, f"{self.name} started", cancel_on_shutdown=True)
            self.config_entry.async_on_unload(async_call_later(hass, AUTOMATIONS_SECONDS, job))

    def _report_fault(self) -> None:
        """Show the host as offline if the last reply was not processed and no success has armed the stale timer."""
        if not self._is_processing or self.data.is_online or isinstance(self.data.error, InternalError):
            return
        self.data = self._enter(self.data, HostStatus.OFFLINE, InternalError(self.name, _SEE_LOG))
        self.async_update_listeners()

    def _watch(self, sections: list[str]) -> Mapping[str, list[str]] | None:
        """Return the units and mountpoints to report besides the automatic ones, by section; None: no others."""
        wanted: dict[str, list[str]] = {}
        if "services" in sections:
            wanted["services"] = sorted({*self.options.services, *self._recovered_units()})
        if "filesystems" in sections:
            wanted["filesystems"] = list(self.options.filesystems)
        return {name: items for name, items in wanted.items() if items} or None

    def _sudo(self, sections: list[str]) -> list[str]:
        """Return which of the sections may use passwordless sudo."""
        return [name for name in sections if name in self.options.sudo]

    def _recovered_units(self) -> set[str]:
        """Return the units that have entities but that the probe would no longer report by itself."""
        known = self.inventory.items.get("service", {})
        automatic = {unit.name for unit in services(self.data.snapshot) if unit.origin == "admin"}
        units = {item.unit for item in known.values()} - automatic - {""}
        # An item that stands for all instances of a template is not a unit itself.
        return {unit for unit in units if "@." not in unit}

    def _succeeded(
        self, sections: list[str], reply: Reply, started: tuple[float, float], seconds: float | None
    ) -> HostState:
        """Return the state after a reply.

        `started` is when the request was sent at the earliest, as monotonic and as Unix time.
        """
        before, now, received = self.data, time.monotonic(), time.time()
        # A failure below is our own fault: it must neither look like a success nor fill the log at every poll.
        self.update_interval = timedelta(seconds=OFFLINE_RETRY_SECONDS[-1])
        # The monotonic clock stops while a machine sleeps, and the wall clock may be set back: take the earlier time.
        sent = min(received - (now - started[0]), started[1])
        snapshot = before.snapshot.merged(reply, received, self.options.stale_after, now, sent=sent)
        rates = updated(before.rates, before.snapshot, snapshot)
        self._schedule.answered(sections, before.snapshot, reply, now)
        self._schedule.see(snapshot)
        self.device.async_update(snapshot)
        items = self._items(snapshot, rates, is_news=True)
        layout = (*map(tuple, items.values()), frozenset(snapshot.ages), self._item_tracker.revision)
        self.layout += layout != self._layout_seen
        self._layout_seen = layout
        baseline, events = advance(self.store.memory.baseline or Baseline(), snapshot, self._problem_tracker.patience)
        if any(each.type == "rebooted" for each in events):
            self._problem_tracker.start_over()
        state = replace(
            before,
            snapshot=snapshot,
            rates=rates,
            items=items,
            error=None,
            events=events,
            poll_seconds=seconds,
            problems=self._problem_tracker.problems(snapshot, self.thresholds, rates),
        )
        self._tries = self._refusals = self._limited = self._cuts = 0
        self._has_refused = False
        self._last_success = self._heard = now
        self._asked, self._is_excused = None, False
        self.update_interval = timedelta(seconds=self._next_interval())
        self._arm_stale_timer()
        self.store.memory.snapshot, self.store.memory.problems = snapshot, state.problems
        self.store.memory.baseline = baseline
        self.store.async_changed()
        return self._enter(state, HostStatus.ONLINE, None, events)

    def _next_interval(self) -> float:
        """Return the interval in seconds; the first is shortened, to spread the hosts over it."""
        if self._is_phased:
            return self.options.interval
        self._is_phased = True
        digest = hashlib.sha256(self.address.host_id.encode()).digest()
        return max(1.0, self.options.interval * digest[0] / 255)

    def _failed(self, err: HomelabError, started: float) -> HostState:
        """Note a poll that failed, begun at `started`, and when to try again."""
        if self._asked is None:
            # The host answered another request during this poll.
            self._asked = started
        if isinstance(err, NoGreeting) and (self._refusals or self._limited):
            # A server that has refused logins limits them next, and not every server still reports that.
            err = LoginsLimited(err.host, err.detail)
        err = self._after_cuts(err)
        # Another kind of refusal from the same host does not start the count anew.
        is_again = any(isinstance(err, kind) and isinstance(self.data.error, kind) for kind in _REFUSALS)
        self._refusals = (self._refusals if is_again else 0) + 1 if isinstance(err, _REFUSALS) else 0
        self._limited = self._limited + 1 if isinstance(err, LoginsLimited) else 0
        # Until a login succeeds; only replies on a connection that proves the server's identity count.
        self._has_refused |= isinstance(err, KeyRefused) or bool(self._limited and err.server_version)
        status = self._status_after(err)
        self._tries = self._tries + 1 if status is self.data.status else 1
        retry_seconds = self._retry_seconds(status)
        self.update_interval = timedelta(seconds=retry_seconds)
        if self._refusals or self._limited or status is HostStatus.SUSPENDED:
            # A little less, as a timer may be early.
            self._rest_until = time.monotonic() + 0.95 * retry_seconds
        if isinstance(err, KeyRefused) and (self._refusals > 1 or status is HostStatus.SUSPENDED):
            # At the first refusal the home folder may not be mounted yet. Repeated, as anybody can close the dialog.
            self.config_entry.async_start_reauth(self.hass)
        return self._enter(self.data, status, err)

    def _after_cuts(self, err: HomelabError) -> HomelabError:
        """Count logins that ended without a message; return `HangsUp` in their place if that goes on for long."""
        if not isinstance(err, LoginCut):
            self._cuts = 0
            return err
        now = time.monotonic()
        if not self._cuts:
            self._first_cut = now
        self._cuts += 1
        goes_on = self._cuts >= CUT_LOGINS and now - self._first_cut >= CUT_LOGINS_SECONDS
        return HangsUp(err.host, err.detail) if goes_on else err

    def _status_after(self, err: HomelabError) -> HostStatus:
        """Return the status after a failed poll; a host goes offline only when automations listen.

        Another machine that answers in its place may be gone by then and would leave no trace: that counts at once.
        Only a reply brings a host that is off back, however late we poll.
        """
        if self.data.is_online and not self._audience.is_listening and not isinstance(err, ALARMS):
            return HostStatus.LATE
        if self._refusals > len(REFUSAL_RETRY_SECONDS) or (err.hard and not self._refusals):
            return HostStatus.SUSPENDED
        is_gone = self._refusals or not self.data.is_online or self._is_stale()
        return HostStatus.OFFLINE if is_gone else HostStatus.LATE

    def _is_stale(self) -> bool:
        """Return whether the last success is too long ago, and polls went unanswered for that long."""
        return self._last_success is None or time.monotonic() >= self._stale_at(self._last_success)

    def _stale_at(self, heard: float) -> float:
        """Return the monotonic time at which a silent host goes offline that was heard last at `heard`.

        If polls came in time, that is `stale_after` seconds later; after a standstill of Home Assistant, the host is
        polled first.
        """
        if self.config_entry.pref_disable_polling:
            return heard + self.options.stale_after
        asked = time.monotonic() if self._asked is None else self._asked
        patience = self.options.stale_after - self.options.interval - STANDSTILL_SECONDS
        return max(heard + self.options.stale_after, asked + patience)

    def _retry_seconds(self, status: HostStatus) -> float:
        """Return after how many seconds to try again."""
        if status is HostStatus.SUSPENDED:
            return SUSPENDED_RETRY_SECONDS
        if self._limited:
            return max(self._limited_seconds(status), self.options.interval)
        if self._cuts:
            return max(CUT_RETRY_SECONDS[min(self._cuts, len(CUT_RETRY_SECONDS)) - 1], self.options.interval)
        if self._refusals:
            return REFUSAL_RETRY_SECONDS[min(self._refusals, len(REFUSAL_RETRY_SECONDS)) - 1]
        if status is HostStatus.LATE:
            return self.options.interval
        steps = MAY_BE_OFF_RETRY_SECONDS if self.options.may_be_off else OFFLINE_RETRY_SECONDS
        return max(steps[min(self._tries, len(steps)) - 1], self.options.interval)

    def _limited_seconds(self, status: HostStatus) -> float:
        """Return after how many seconds to log in again where the server, or somebody in between, reports a limit."""
        if status is HostStatus.LATE and not self._has_refused:
            self._limited = 1
            return LATE_LIMITED_RETRY_SECONDS
        steps = LIMITED_RETRY_SECONDS if self._has_refused else UNPROVEN_LIMITED_RETRY_SECONDS
        return steps[min(self._limited, len(steps)) - 1]

    async def async_poll_section(self, section: str | None, watch: Sequence[str] = ()) -> None:
        """Poll a section at once, as something has just changed it; the rhythm of polls stays as it is.

        `watch` names what changed, for a section that is not read anew at every request.
        """
        if section is None:
            return
        wanted = self._watch([section])
        if watch:
            wanted = {**(wanted or {}), section: list(watch)}
        started = time.monotonic(), time.time()
        try:
            reply = await self.session.poll([section], wanted, self._sudo([section]))
        except HomelabError as err:
            # If this is not an alarm, the next poll reports it, and there it counts.
            _LOGGER.debug("%s: %s", self.name, err)
            async_alarm(self.config_entry, err)
            return
        if self._audience.has_left:
            return
        self.data = self._succeeded([section], reply, started, self.data.poll_seconds)
        self.async_update_listeners()

    @callback
    def async_alarm(self, err: HomelabError) -> None:
        """Handle the reply of another machine as if a poll had received it; see `alarms.async_alarm`.

        An alarm that is already shown changes nothing: the polls go on in their own rhythm.
        """
        if self._audience.is_gone or isinstance(self.data.error, ALARMS):
            return
        self.data = self._failed(err, time.monotonic())
        self.health_monitor.async_polled(self.data.snapshot, err, self.data.poll_seconds, 0.0)
        self.async_update_listeners()

    @callback
    def async_notify_listeners(self, *events: HostEvent) -> None:
        """Notify listeners of events outside polls."""
        # While entities are removed, so are their listeners, one by one: the next run reports these events.
        self.data = replace(self.data, events=self._audience.deliver(events))
        self.async_update_listeners()

    @property
    def is_gone(self) -> bool:
        """Return whether this run is at its end: anything found out from here on is left for the next run."""
        return self._audience.is_gone

    async def async_tested(self, report: Report) -> None:
        """Show the report of a whole test, and save it: at once unless the file is large."""
        self.store.memory.last_test = report.as_dict()
        self.layout += self.data.last_test is None
        self.data = replace(self.data, last_test=report)
        self.async_notify_listeners()
        await self.store.async_save()

    async def async_resume(self) -> None:
        """Poll at once and forget past failures, as a person did something about them."""
        self._tries = self._refusals = self._limited = self._cuts = 0
        self._has_refused = False
        self._rest_until = -math.inf
        await self.async_refresh()

    async def async_reconnect(self) -> None:
        """Poll over a new connection, as some fixes take effect only with a new login."""
        await self.session.disconnect()
        self._schedule.start_over()
        await self.async_resume()

    @callback
    def async_leave(self) -> None:
        """Hand over to the next run: entities are removed now, and nobody would hear of later replies."""
        if self._audience.has_left:
            return
        self._audience.leave(self._last_success, self._heard)
        self._disarm_stale_timer()

    async def async_close(self) -> None:
        """Stop everything that this host keeps running, for good."""
        self._audience.close()
        self.store.async_changed()
        self._disarm_stale_timer()
        await self.session.close()

    # ------------------------------------------------------------ status

    def _enter(
        self, state: HostState, status: HostStatus, err: HomelabError | None, events: tuple[HostEvent, ...] = ()
    ) -> HostState:
        """Return the state with its new status; log once down and once back."""
        # Whatever the status was before, log that another machine answers in the host's place.
        is_alarm = isinstance(err, ALARMS) and not isinstance(state.error, ALARMS)
        if is_alarm or status is not state.status:
            self._log_change(status, err, is_alarm=is_alarm)
        if (reason := err.key if err else "") != self.store.memory.reason:
            self.store.memory.reason = reason
            self.store.async_changed()
        if status is state.status:
            events = self._audience.deliver(events)
            is_same = state.error is err and state.events is events
            return state if is_same else replace(state, error=err, events=events)
        self._changed, self._stood = time.monotonic(), 0.0
        self._audience.note_change(state)
        since = self._since(status, state)
        if self._is_news:
            events = (*self._gone_or_back(state, status, err), *events)
        if status in ONLINE and not state.is_held:
            state = replace(state, watched_until=None, unexpected_until=None, watched_again=None)
        events = self._audience.deliver(events)
        was_online = state.is_online
        state = replace(state, status=status, error=err, since=since, events=events)
        self._remember(state)
        if state.is_online is not was_online:
            # A power cut would end Home Assistant as well, and leave no time to save anything.
            self._save_at_once()
        return state

    def _remember(self, state: HostState) -> None:
        """Remember whether the host is online, and since when: the next run starts from that."""
        memory = self.store.memory
        memory.online, memory.since = state.is_online, state.since.timestamp()
        self._audience.note_held(state)
        self.store.async_changed()

    @staticmethod
    def _since(status: HostStatus, before: HostState) -> datetime:
        """Return since when the host is online or not; a change to or from late does not change it."""
        # While the return of a host is not reported yet, its absence is still shown.
        is_same = before.is_known and (before.is_held or (status in ONLINE) is before.is_online)
        return before.since if is_same else dt_util.utcnow()

    @staticmethod
    def _gone_or_back(state: HostState, status: HostStatus, err: HomelabError | None) -> tuple[HostEvent, ...]:
        """Return the event of a change of status: the host went offline, or it is back; none for other changes."""
        is_online = status in ONLINE
        if is_online is state.is_online:
            return ()
        if is_online:
            return (HostEvent(type="host_online", about={}),)
        return (HostEvent(type="host_offline", about={"reason": err.key if err else "no_answer"}),)

    def _log_change(self, status: HostStatus, err: HomelabError | None, *, is_alarm: bool) -> None:
        """Log one line when a host goes offline, one when it is back, and one when another machine answers."""
        quiet = self.options.may_be_off and not is_alarm
        if status is HostStatus.ONLINE and self._is_reported_offline:
            self._is_reported_offline = False
            _LOGGER.log(logging.DEBUG if quiet else logging.INFO, "%s is online again", self.name)
        elif status in (HostStatus.OFFLINE, HostStatus.SUSPENDED) and (is_alarm or not self._is_reported_offline):
            if not (self._alarm_lines if is_alarm else self._lines).take():
                self._unlogged += 1
                return
            self._is_reported_offline = True
            more = f" (and {self._unlogged} earlier times that were not logged)" if self._unlogged else ""
            self._unlogged = 0
            level = logging.DEBUG if quiet else logging.WARNING
            _LOGGER.log(level, "%s is %s: %s%s", self.name, status, err or "no answer", more)

    def _silent_seconds(self, state: HostState) -> float:
        """Return for how many seconds a host has been silent, also across restarts; 0 until it is surely offline."""
        here = time.monotonic() - self._changed
        if state.is_online or here - self._stood < AFTER_POWER_CUT_SECONDS:
            return 0.0
        if self._heard is not None:
            return time.monotonic() - self._heard
        # Only the wall clock knows how long Home Assistant was off; where it was set back meanwhile, or not set yet
        # when the host was heard, the time since the change of status counts.
        received = state.snapshot.received
        return max(here, time.time() - received if received >= CLOCK_IS_SET else 0.0)

    def _arm_stale_timer(self, *, anew: bool = False) -> None:
        """Set the timer that turns the host offline when no success follows in time."""
        # Where the user polls by hand, silence between two polls means nothing.
        if self.config_entry.pref_disable_polling or self._audience.is_gone:
            self._disarm_stale_timer()
            return
        now = time.monotonic()
        heard = now if anew or self._last_success is None else self._last_success
        before, self._stale_due = self._stale_due, heard + self.options.stale_after
        # A timer that fires too early sets itself anew: cheaper than a new timer for each poll.
        if self._unsub_stale is None or self._stale_due < before:
            self._set_stale_timer(self._stale_due - now)

    def _set_stale_timer(self, seconds: float) -> None:
        """Set a timer that checks after so many seconds whether the host has become stale."""
        self._disarm_stale_timer()
        job = HassJob(self._async_turn_stale, f"{self.name} stale", cancel_on_shutdown=True)
        self._unsub_stale = async_call_later(self.hass, seconds, job)

    def _disarm_stale_timer(self) -> None:
        """Cancel the timer."""
        if self._unsub_stale:
            self._unsub_stale()
            self._unsub_stale = None

    @callback
    def _async_turn_stale(self, _now: datetime) -> None:
        """Turn the host offline between two polls, when the last success becomes too old."""
        self._unsub_stale = None
        if (early := self._stale_due - time.monotonic()) > 0:
            self._set_stale_timer(early)
        elif self.data.is_online and not self._audience.is_listening:
            self._arm_stale_timer(anew=True)
        elif self.data.is_online and self._waits_on():
            return
        elif self.data.is_online:
            fault = None if self.last_update_success else InternalError(self.name, _SEE_LOG)
            self.data = self._enter(self.data, HostStatus.OFFLINE, self.data.error or fault)
            self.async_update_listeners()

    def _waits_on(self) -> bool:
        """Wait for the current or the next poll if it could not be answered yet; return whether to wait."""
        now = time.monotonic()
        if now - self._stale_due > STANDSTILL_SECONDS:
            # A reply may have arrived that was not read yet.
            self._asked = now
        until = self._stale_at(-math.inf)
        if until <= now:
            return False
        self._stale_due = until
        self._set_stale_timer(until - now)
        return True

    # ------------------------------------------------------------ items and device

    def _items(self, snapshot: Snapshot, rates: Rates, *, is_news: bool) -> Mapping[str, Mapping[str, object]]:
        """Return the values of all items, by kind and lasting id; save an inventory that changed at once.

        An inventory that changes all the time is saved like everything else, so that no host can cause a write to the
        disk at every poll.
        """
        revision = self._item_tracker.revision
        items = self._item_tracker.items(snapshot, rates, is_news=is_news, patience=self._problem_tracker.patience)
        if self._item_tracker.revision != revision:
            self._save_at_once()
        return items

    def _save_at_once(self, *, whatever_size: bool = False) -> None:
        """Save the memory of the host in the background at once; a host that changes at each poll has to wait."""
        if not self._saves.take():
            self.store.async_changed()
            return
        save = self.store.async_save(whatever_size=whatever_size)
        self.config_entry.async_create_background_task(self.hass, save, f"{self.name} save")

    def may_write(self, kind: str, item_id: str) -> bool:
        """Return whether one more change of text of an item may be written; items of guests share a limit."""
        known = self.inventory.items.get(kind, {}).get(item_id)
        return self._writes[known is not None and is_guests(kind, self.selection, known.source)].take()

    def is_crowd(self, kind: str) -> bool:
        """Return whether the host has more items of a kind than get entities each, absent ones included."""
        return is_crowd(kind, len(self.inventory.items.get(kind, ())))

    def has_few(self, kind: str) -> bool:
        """Return whether the host has at most `SHOWN` items of a kind, absent ones included."""
        return len(self.inventory.items.get(kind, ())) <= SHOWN

    @callback
    def async_forget(self, kind: str, item_id: str) -> None:
        """Forget an absent item, as if it had been absent for long; if it returns, it is a new item."""
        self._item_tracker.forget(kind, item_id)
        self.layout += 1
        self._save_at_once()
        self.async_notify_listeners()
