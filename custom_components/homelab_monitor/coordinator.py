"""One host: polling it, and deciding whether it is online.

The only place where the client's errors become something of Home Assistant. A failing host
raises nothing: every poll ends in a `HostState`, so that entities exist from the first second
(the stored state), keep their values while a host is late, and say why it is offline.
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
"""A home folder that is not mounted yet refuses a key like a stranger does, and for a moment another machine, or
somebody in between, may answer at the address: that alone must not silence monitoring for an hour."""
LIMITED_RETRY_SECONDS = (30, 120, 300, 600)
"""A server that has refused us limits our logins, and each further one may prolong that."""
SAID_LIMITED_RETRY_SECONDS = (30, 30, 60, 120)
"""Anybody in between can say that in the place of a greeting, and is to keep nobody away for longer than that."""
LATE_LIMITED_RETRY_SECONDS = 10
"""Within the patience for a host that is online."""
CUT_RETRY_SECONDS = (15, 120, 300)
"""A login that ends without a word may be one that the server counts as refused: fail2ban bans after five in 10 min."""
CUT_LOGINS, CUT_LOGINS_SECONDS = 4, 900.0
"""So many in a row, over so long, are more than a bad moment. They are no verdict either: somebody may cut each."""
_REFUSALS = (KeyRefused, *ALARMS)
"""One side does not believe the other; nothing but the next handshake follows from it."""
SUSPENDED_RETRY_SECONDS = 3600
_SEE_LOG = "the log says what"
HAND_POLLS = 4
"""Of polls by hand so many tell how often they come: an update of several entities is two of them at once."""
CLOCK_IS_SET = 1577836800.0
"""2020: a wall clock that shows less begins at 1970 at each boot, and nobody had set it."""
AFTER_POWER_CUT_SECONDS = 900
"""Home Assistant may be up before the host is; what it heard last was before both went down."""

type HomelabConfigEntry = ConfigEntry[HomelabCoordinator]


class HomelabCoordinator(DataUpdateCoordinator[HostState]):
    """Poll one host and keep its state."""

    config_entry: HomelabConfigEntry

    def __init__(self, hass: HomeAssistant, entry: HomelabConfigEntry, store: HostStore, session: ProbeSession) -> None:
        """Start from what is remembered; nothing is contacted yet."""
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
        self._roster = ItemTracker(self.inventory, self.selection)
        self._turns = Schedule()
        self._tries = 0
        self._refusals = self._limited = self._cuts = 0
        self._first_cut = -math.inf
        self._rest_until = -math.inf
        self._is_taking_in = self._has_refused = False
        self._last_success: float | None = None
        self._asked: float | None = None
        """When the first poll was sent that nobody has answered since: that is when silence begins."""
        self._polls: deque[float] = deque(maxlen=HAND_POLLS)
        """When the last polls began, whoever asked for them and however they ended."""
        self._next_due = math.inf
        """When the next poll should begin at the latest."""
        self._is_excused = False
        """Whether the polls since the last success were late by our own fault once."""
        self._changed = time.monotonic()
        self._stood = 0.0
        """For how many of the seconds since then we stood still."""
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
        """When the host answered last, by the steady clock, where that was since Home Assistant began."""
        self.judgement = HealthMonitor(hass, entry, store, session, self.async_tested)
        self._judge = ProblemTracker(selection=self.selection, told=store.memory.problems)
        self._thresholds = Thresholds(
            disk_percent=self.options.disk_threshold,
            memory_percent=self.options.memory_threshold,
            cpu_percent=self.options.cpu_threshold,
            temperature_celsius=self.options.temperature_threshold,
        )
        self.device = HostDevice(hass, entry, self.address.host_id)
        self.layout = 0
        """Grows when an item or a value may have come or gone, so that entities need not look at every poll."""
        self._layout_seen: tuple[object, ...] = ()
        self.data = self._remembered()
        # Of a host that nobody knew the first poll finds where we start from, not something that happened.
        self._is_news = self.data.is_known

    def _remembered(self) -> HostState:
        """Return the state to start with: the host is as it was, until the first poll has ended."""
        memory = self.store.memory
        snapshot, known = memory.snapshot, memory.baseline
        rates = updated(Rates(), Snapshot(), snapshot)
        # What changes in a reload is told as ever.
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
            # The config flow has just seen it.
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
        """Return when a host that was online counts as heard last: silence begins with a poll that it does not answer.

        Time in which nobody asked is none. Where the user polls by hand, a poll that fails is all that is ever known.
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

        Anybody may ask for a poll at any time (`homeassistant.update_entity`). A host that refuses is left alone for as
        long as it would be without that: each try is a login that somebody counts, and so do we.
        """
        started = time.monotonic()
        if started < self._rest_until:
            self.update_interval = timedelta(seconds=self._rest_until - started)
            # What comes at the end of a rest is in time, also where the alarm that began it came between two polls.
            self._next_due = max(self._next_due, self._rest_until)
            return self.data
        self._note_standstill(started)
        self._say_fault()
        self._judge.patience = self._patience()
        self._polls.append(started)
        asked_at = time.time()
        # Half an interval of slack: a turn missed by milliseconds would come a whole poll later.
        sections = self._turns.due(started + self.options.interval / 2)
        try:
            reply = await self.session.poll(sections, self._watch(sections), self._sudo(sections))
        except HomelabError as err:
            if self._audience.has_left:
                return self.data
            state = self._failed(err, started)
        else:
            if self._audience.has_left:
                return self.data
            self._is_taking_in = True
            state = self._succeeded(sections, reply, (started, asked_at), time.monotonic() - started)
            self._is_taking_in = False
        self._is_news = self.has_polled = True
        if self.update_interval and not self.config_entry.pref_disable_polling:
            self._next_due = time.monotonic() + self.update_interval.total_seconds()
        self.judgement.async_polled(state.snapshot, state.error, state.poll_seconds, self._silent_seconds(state))
        return state

    def _patience(self) -> float:
        """Return how many seconds between two looks are no gap in which nobody knows what lasted.

        Where the user polls by hand, that is as long as it usually takes: twice the longest of the times between the
        last polls, this one left out.
        """
        if not self.config_entry.pref_disable_polling:
            return self.options.stale_after
        return max(self.options.stale_after, 2 * max((b - a for a, b in pairwise(self._polls)), default=0.0))

    def _note_standstill(self, now: float) -> None:
        """Take no standstill of ours for the silence of a host that nobody has asked meanwhile."""
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
        """Let all entities look; what happened is told with that, once, whoever lets them look next."""
        super().async_update_listeners()
        if self.data.happenings:
            self.data = replace(self.data, happenings=())

    @callback
    def async_started(self, hass: HomeAssistant) -> None:
        """Tell what happened while Home Assistant started, once automations have begun as well."""

        @callback
        def async_tell_all(_now: datetime) -> None:
            if self._audience.is_gone:
                return
            was_held = self.data.is_held
            self.data, untold = self._audience.begin(self.data)
            if self.data.is_known:
                self._remember(self.data)
            self.async_tell(*untold)
            if untold or was_held:
                # Nothing that was told waits in the file for another start.
                self._save_at_once(whatever_size=True)

        if not self._audience.is_listening:
            job = HassJob(async_tell_all, f"{self.name} started", cancel_on_shutdown=True)
            self.config_entry.async_on_unload(async_call_later(hass, AUTOMATIONS_SECONDS, job))

    def _say_fault(self) -> None:
        """Say that the last reply was not taken in, where no success has armed the timer that would."""
        if not self._is_taking_in or self.data.is_online or isinstance(self.data.error, InternalError):
            return
        self.data = self._enter(self.data, HostStatus.OFFLINE, InternalError(self.name, _SEE_LOG))
        self.async_update_listeners()

    def _watch(self, sections: list[str]) -> Mapping[str, list[str]] | None:
        """Return the units and mountpoints to tell of besides the automatic ones."""
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
        """Return the units that have entities and that the probe would no longer tell of itself."""
        known = self.inventory.items.get("service", {})
        automatic = {unit.name for unit in services(self.data.snapshot) if unit.origin == "admin"}
        units = {item.unit for item in known.values()} - automatic - {""}
        # What stands for all instances of a template is no unit of its own.
        return {unit for unit in units if "@." not in unit}

    def _succeeded(
        self, sections: list[str], reply: Reply, started: tuple[float, float], seconds: float | None
    ) -> HostState:
        """Take a reply in, to what was asked at `started` at the earliest, by the steady and by the wall clock."""
        before, now, received = self.data, time.monotonic(), time.time()
        # Whatever fails below is a fault of ours: it must not look like a success, nor fill the log at every poll.
        self.update_interval = timedelta(seconds=OFFLINE_RETRY_SECONDS[-1])
        # A machine that sleeps stops its steady clock, and who sets a clock back the other: neither was sent later.
        sent = min(received - (now - started[0]), started[1])
        snapshot = before.snapshot.merged(reply, received, self.options.stale_after, now, sent=sent)
        rates = updated(before.rates, before.snapshot, snapshot)
        self._turns.answered(sections, before.snapshot, reply, now)
        self._turns.see(snapshot)
        self.device.async_update(snapshot)
        items = self._items(snapshot, rates, is_news=True)
        # A value may appear without a new item (swap is switched on); a minute late is soon enough.
        layout = (*map(tuple, items.values()), frozenset(snapshot.ages), now // 60)
        self.layout += layout != self._layout_seen
        self._layout_seen = layout
        baseline, happenings = advance(self.store.memory.baseline or Baseline(), snapshot, self._judge.patience)
        if any(each.type == "rebooted" for each in happenings):
            self._judge.start_over()
        state = replace(
            before,
            snapshot=snapshot,
            rates=rates,
            items=items,
            error=None,
            happenings=happenings,
            poll_seconds=seconds,
            problems=self._judge.problems(snapshot, self._thresholds, rates),
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
        return self._enter(state, HostStatus.ONLINE, None, happenings)

    def _next_interval(self) -> float:
        """Return the interval; the first one is cut short, to spread the hosts over it."""
        if self._is_phased:
            return self.options.interval
        self._is_phased = True
        digest = hashlib.sha256(self.address.host_id.encode()).digest()
        return max(1.0, self.options.interval * digest[0] / 255)

    def _failed(self, err: HomelabError, started: float) -> HostState:
        """Note a poll that failed, begun at `started`, and when to try again."""
        if self._asked is None:
            # Something else was answered while it was under way.
            self._asked = started
        if isinstance(err, NoGreeting) and (self._refusals or self._limited):
            # A server that has refused logins limits them next, and not every one can still say so.
            err = LoginsLimited(err.host, err.detail)
        err = self._after_cuts(err)
        # That a host refuses our key in other words is no new beginning.
        is_again = any(isinstance(err, kind) and isinstance(self.data.error, kind) for kind in _REFUSALS)
        self._refusals = (self._refusals if is_again else 0) + 1 if isinstance(err, _REFUSALS) else 0
        self._limited = self._limited + 1 if isinstance(err, LoginsLimited) else 0
        # Until it lets us in: what is said on a connection that proves who says it.
        self._has_refused |= isinstance(err, KeyRefused) or bool(self._limited and err.server_version)
        status = self._status_after(err)
        self._tries = self._tries + 1 if status is self.data.status else 1
        retry_seconds = self._retry_seconds(status)
        self.update_interval = timedelta(seconds=retry_seconds)
        if self._refusals or self._limited or status is HostStatus.SUSPENDED:
            # A little less, as a timer may be early.
            self._rest_until = time.monotonic() + 0.95 * retry_seconds
        if isinstance(err, KeyRefused) and (self._refusals > 1 or status is HostStatus.SUSPENDED):
            # The first one may be a home that is not mounted yet. Each time: anybody can end the dialog that waits.
            self.config_entry.async_start_reauth(self.hass)
        return self._enter(self.data, status, err)

    def _after_cuts(self, err: HomelabError) -> HomelabError:
        """Count logins that ended without a word; return the error that says so when that goes on and on."""
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
        """Return the status that a failed poll leads to; a host goes only when somebody listens.

        Who answers in its place may be gone by then, and would leave nothing behind: that counts at once. A host that
        is off comes back by an answer and by nothing else, however late we are to ask.
        """
        if self.data.is_online and not self._audience.is_listening and not isinstance(err, ALARMS):
            return HostStatus.LATE
        if self._refusals > len(REFUSAL_RETRY_SECONDS) or (err.hard and not self._refusals):
            return HostStatus.SUSPENDED
        is_gone = self._refusals or not self.data.is_online or self._is_stale()
        return HostStatus.OFFLINE if is_gone else HostStatus.LATE

    def _is_stale(self) -> bool:
        """Return whether the last success is too long ago, and for as long as that takes nobody has answered us."""
        return self._last_success is None or time.monotonic() >= self._stale_at(self._last_success)

    def _stale_at(self, heard: float) -> float:
        """Return when a host that was heard last at a moment is offline, if it stays silent.

        Where polls came in time the two are the same; after a standstill of ours it is asked first.
        """
        if self.config_entry.pref_disable_polling:
            return heard + self.options.stale_after
        asked = time.monotonic() if self._asked is None else self._asked
        patience = self.options.stale_after - self.options.interval - STANDSTILL_SECONDS
        return max(heard + self.options.stale_after, asked + patience)

    def _retry_seconds(self, status: HostStatus) -> float:
        """Return when to try again."""
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
        """Return for how long to spare a server that limits logins, or somebody who says so in its place."""
        if status is HostStatus.LATE and not self._has_refused:
            self._limited = 1
            return LATE_LIMITED_RETRY_SECONDS
        steps = LIMITED_RETRY_SECONDS if self._has_refused else SAID_LIMITED_RETRY_SECONDS
        return steps[min(self._limited, len(steps)) - 1]

    async def async_ask_again(self, section: str | None, watch: Sequence[str] = ()) -> None:
        """Ask for a section at once, as something has just changed it; the rhythm of polls stays as it is.

        `watch` names what changed, to a section that is not told anew at every request.
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
            # What is no alarm the next poll says, where it counts.
            _LOGGER.debug("%s: %s", self.name, err)
            async_alarm(self.config_entry, err)
            return
        if self._audience.has_left:
            return
        self.data = self._succeeded([section], reply, started, self.data.poll_seconds)
        self.async_update_listeners()

    @callback
    def async_alarm(self, err: HomelabError) -> None:
        """Take the answer of another machine for one that a poll got; `alarms.async_alarm` says whose that is.

        What has been said already is not begun anew: the polls go on in their own rhythm.
        """
        if self._audience.is_gone or isinstance(self.data.error, ALARMS):
            return
        self.data = self._failed(err, time.monotonic())
        self.judgement.async_polled(self.data.snapshot, err, self.data.poll_seconds, 0.0)
        self.async_update_listeners()

    @callback
    def async_tell(self, *happenings: HostEvent) -> None:
        """Let all entities look again, and tell what happened beside the polls."""
        # While entities go their listeners do, one after the other: the next ones tell it.
        self.data = replace(self.data, happenings=self._audience.told(happenings))
        self.async_update_listeners()

    @property
    def is_gone(self) -> bool:
        """Return whether this run is at its end: what is found out from here on is left for the next one."""
        return self._audience.is_gone

    async def async_tested(self, report: Report) -> None:
        """Show the report of a whole test, and save it, at once but for a large file."""
        self.store.memory.last_test = report.as_dict()
        self.layout += self.data.last_test is None
        self.data = replace(self.data, last_test=report)
        self.async_tell()
        await self.store.async_save()

    async def async_resume(self) -> None:
        """Poll at once and forget past failures: a person did something about them."""
        self._tries = self._refusals = self._limited = self._cuts = 0
        self._has_refused = False
        self._rest_until = -math.inf
        await self.async_refresh()

    async def async_reconnect(self) -> None:
        """Poll over a new connection, as some cures only work for a new login."""
        await self.session.disconnect()
        self._turns.start_over()
        await self.async_resume()

    @callback
    def async_leave(self) -> None:
        """Leave to the next one what was told: entities go now, and what is answered from here on nobody would hear."""
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
        self, state: HostState, status: HostStatus, err: HomelabError | None, happenings: tuple[HostEvent, ...] = ()
    ) -> HostState:
        """Return the state with its new status; log once down and once back."""
        # Whatever the host was before: that somebody answers in its place is said.
        is_alarm = isinstance(err, ALARMS) and not isinstance(state.error, ALARMS)
        if is_alarm or status is not state.status:
            self._log_change(status, err, is_alarm=is_alarm)
        if (reason := err.key if err else "") != self.store.memory.reason:
            self.store.memory.reason = reason
            self.store.async_changed()
        if status is state.status:
            happenings = self._audience.told(happenings)
            is_said = state.error is err and state.happenings is happenings
            return state if is_said else replace(state, error=err, happenings=happenings)
        self._changed, self._stood = time.monotonic(), 0.0
        self._audience.note_change(state)
        since = self._since(status, state)
        if self._is_news:
            happenings = (*self._gone_or_back(state, status, err), *happenings)
        if status in ONLINE and not state.is_held:
            state = replace(state, watched_until=None, unexpected_until=None, watched_again=None)
        happenings = self._audience.told(happenings)
        was_online = state.is_online
        state = replace(state, status=status, error=err, since=since, happenings=happenings)
        self._remember(state)
        if state.is_online is not was_online:
            # A power cut, which ends us as well, is no time at which anything could be saved.
            self._save_at_once()
        return state

    def _remember(self, state: HostState) -> None:
        """Remember whether the host is there, and since when: whatever status is shown, the next run starts from it."""
        memory = self.store.memory
        memory.online, memory.since = state.is_online, state.since.timestamp()
        self._audience.note_held(state)
        self.store.async_changed()

    @staticmethod
    def _since(status: HostStatus, before: HostState) -> datetime:
        """Return since when the host is there or not; how sure that is does not begin it anew."""
        # Of a host whose return nobody was told of yet, the absence is what is said.
        is_same = before.is_known and (before.is_held or (status in ONLINE) is before.is_online)
        return before.since if is_same else dt_util.utcnow()

    @staticmethod
    def _gone_or_back(state: HostState, status: HostStatus, err: HomelabError | None) -> tuple[HostEvent, ...]:
        """Return what a change of status means to people: that a host went, or that it is back."""
        is_online = status in ONLINE
        if is_online is state.is_online:
            return ()
        if is_online:
            return (HostEvent(type="host_online", about={}),)
        return (HostEvent(type="host_offline", about={"reason": err.key if err else "no_answer"}),)

    def _log_change(self, status: HostStatus, err: HomelabError | None, *, is_alarm: bool) -> None:
        """Log one line when a host goes and one when it is back, and one when another machine answers."""
        quiet = self.options.may_be_off and not is_alarm
        if status is HostStatus.ONLINE and self._is_reported_offline:
            self._is_reported_offline = False
            _LOGGER.log(logging.DEBUG if quiet else logging.INFO, "%s is online again", self.name)
        elif status in (HostStatus.OFFLINE, HostStatus.SUSPENDED) and (is_alarm or not self._is_reported_offline):
            if not (self._alarm_lines if is_alarm else self._lines).take():
                self._unlogged += 1
                return
            self._is_reported_offline = True
            more = f" (and {self._unlogged} times before, which were not logged)" if self._unlogged else ""
            self._unlogged = 0
            level = logging.DEBUG if quiet else logging.WARNING
            _LOGGER.log(level, "%s is %s: %s%s", self.name, status, err or "no answer", more)

    def _silent_seconds(self, state: HostState) -> float:
        """Return for how long nothing was heard of a host, restarts of ours included; 0 until it is surely offline."""
        here = time.monotonic() - self._changed
        if state.is_online or here - self._stood < AFTER_POWER_CUT_SECONDS:
            return 0.0
        if self._heard is not None:
            return time.monotonic() - self._heard
        # How long we were away only the wall clock knows; where it was set back meanwhile, or not set yet when the host
        # was heard, what we saw counts.
        received = state.snapshot.received
        return max(here, time.time() - received if received >= CLOCK_IS_SET else 0.0)

    def _arm_stale_timer(self, *, anew: bool = False) -> None:
        """Turn the host offline when no success follows in time."""
        # Where the user polls by hand, silence between two polls means nothing.
        if self.config_entry.pref_disable_polling or self._audience.is_gone:
            self._disarm_stale_timer()
            return
        now = time.monotonic()
        heard = now if anew or self._last_success is None else self._last_success
        before, self._stale_due = self._stale_due, heard + self.options.stale_after
        # A timer that comes too early sets itself anew: cheaper than one for each poll.
        if self._unsub_stale is None or self._stale_due < before:
            self._set_stale_timer(self._stale_due - now)

    def _set_stale_timer(self, seconds: float) -> None:
        """Look in so many seconds whether the host has become stale."""
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
        """Say offline between two polls, when the last success becomes too old."""
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
        """Wait for the poll that is under way, or the next one, where nobody had the time to answer it."""
        now = time.monotonic()
        if now - self._stale_due > STANDSTILL_SECONDS:
            # An answer may have come that nobody here has read yet.
            self._asked = now
        until = self._stale_at(-math.inf)
        if until <= now:
            return False
        self._stale_due = until
        self._set_stale_timer(until - now)
        return True

    # ------------------------------------------------------------ items and device

    def _items(self, snapshot: Snapshot, rates: Rates, *, is_news: bool) -> Mapping[str, Mapping[str, object]]:
        """Return the values of all items, by kind and lasting id; an inventory that changed is saved at once.

        Where it changes all the time it is saved like everything else, so that no host can have the disk written at
        every poll.
        """
        revision = self._roster.revision
        items = self._roster.items(snapshot, rates, is_news=is_news, patience=self._judge.patience)
        if self._roster.revision != revision:
            self._save_at_once()
        return items

    def _save_at_once(self, *, whatever_size: bool = False) -> None:
        """Save what is remembered of the host, beside everything else; a host that changes at each poll has to wait."""
        if not self._saves.take():
            self.store.async_changed()
            return
        save = self.store.async_save(whatever_size=whatever_size)
        self.config_entry.async_create_background_task(self.hass, save, f"{self.name} save")

    def may_write(self, kind: str, item_id: str) -> bool:
        """Tell whether one more change of words about an item may be written, as far as those of others leave room."""
        known = self.inventory.items.get(kind, {}).get(item_id)
        return self._writes[known is not None and is_guests(kind, self.selection, known.source)].take()

    def is_crowd(self, kind: str) -> bool:
        """Return whether the host has more items of a kind than are shown each, those that are away included."""
        return is_crowd(kind, len(self.inventory.items.get(kind, ())))

    def has_few(self, kind: str) -> bool:
        """Return whether the host has no more items of a kind than are shown by themselves, those away included."""
        return len(self.inventory.items.get(kind, ())) <= SHOWN

    @callback
    def async_forget(self, kind: str, item_id: str) -> None:
        """Forget an item that is away, as if it had been away for long; it comes back as a new one."""
        self._roster.forget(kind, item_id)
        self.layout += 1
        self._save_at_once()
        self.async_tell()
