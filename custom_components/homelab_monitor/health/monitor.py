"""Evaluate a host: a few checks after every poll, all of them on each new connection and once a day.

The coordinator reports the end of each poll; this module decides what follows from it for the
issues. A host that is off makes no issue for a day, and none at all when it may be off.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
import time
from typing import Any
import weakref

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from ..client.bucket import Bucket
from ..client.checks.evaluation import CLOCK_LIMIT_SECONDS, LATE_READINGS, Evidence, evaluate, evaluate_poll
from ..client.checks.report import CheckStatus, Report
from ..client.checks.testing import check_connection
from ..client.errors import ALARMS, HomelabError
from ..client.limits import JUDGEMENTS
from ..client.probe.session import ProbeSession
from ..client.probe.snapshot import Snapshot
from ..client.tracking.items import left_out
from ..client.tracking.values import gpus
from ..client.transport.ssh import Connection
from ..settings import HostAddress, HostOptions
from ..store import HostStore
from .alarms import async_alarm
from .issues import GOOD_POLLS, async_end_reauth, async_lost_issues, async_update_issues

WHOLE_SECONDS = 86400.0
"""How often all checks are evaluated on a connection that lasts."""
SPACING_SECONDS = 60.0
"""Minimum time between two evaluations of all checks, and between two changes of the pinned keys, for connections
that do not last."""
OFFLINE_SECONDS = 86400.0
"""After so long without a reply, a host that should be on becomes an issue."""


class HealthMonitor:
    """Evaluates the checks of one host as polling goes on."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry[Any],
        store: HostStore,
        session: ProbeSession,
        take_report: Callable[[Report], Awaitable[None]],
    ) -> None:
        """Remember the host, and what receives the report of all checks; nothing is requested yet."""
        self._hass = hass
        self._entry = entry
        self._store = store
        self._session = session
        self._take_report = take_report
        self._address = HostAddress.from_data(entry.data)
        options = HostOptions.from_options(entry.options)
        self._may_be_off = options.may_be_off
        self._installs_updates, self._sudo = options.install_updates, options.sudo
        self._connection: weakref.ref[Connection] | None = None
        self._evaluated_at: float | None = None
        self._evaluations, self._pins = Bucket(*JUDGEMENTS), Bucket(*JUDGEMENTS)
        self._pinned_at = -SPACING_SECONDS
        self._keys_seen = (session.host_keys, session.afresh)
        self._outline_seen: tuple[object, ...] = ()
        self._alike = 0
        self._lost: frozenset[str] = frozenset()
        self._is_login_asked = True
        """Whether a person may be asked to log in again."""

    @callback
    def async_polled(
        self, snapshot: Snapshot, error: HomelabError | None, poll_seconds: float | None, silent_seconds: float
    ) -> None:
        """Evaluate one poll; `silent_seconds` is for how long an offline host has been silent, 0 when it is online."""
        self.async_pin_host_keys()
        if error is None:
            self._note_machine()
        self._is_login_asked |= error is not None
        evidence = partial(self._evidence, None if error else snapshot, error, poll_seconds)
        is_news, is_lost = self._is_news(snapshot, error), self._is_issue_lost()
        if is_news or is_lost:
            async_update_issues(self._hass, self._entry, evaluate_poll(evidence()), at_once=False)
        if error is None:
            if self._is_login_asked:
                self._is_login_asked = async_end_reauth(self._hass, self._entry)
            if self._is_whole_due(snapshot):
                # Not before the poll has its state, which the report is added to.
                evaluation, name = self._async_evaluate_all(evidence()), f"{self._entry.title} capability test"
                self._entry.async_create_background_task(self._hass, evaluation, name, eager_start=False)
        elif silent_seconds >= OFFLINE_SECONDS and not self._may_be_off and not evaluate_poll(evidence()):
            # Only for silence: a host that sends unusable replies is reachable, and another row reports these.
            reachable = [row for row in evaluate(evidence()) if row.check == "reachable"]
            async_update_issues(self._hass, self._entry, reachable, at_once=True)

    @callback
    def async_start_over(self) -> None:
        """Evaluate the next polls even if they repeat: a test has created or ended issues, and polls may disagree."""
        self._alike = 0
        self._is_login_asked = True

    def _evidence(self, snapshot: Snapshot | None, error: HomelabError | None, poll_seconds: float | None) -> Evidence:
        """Return what a poll is evaluated by."""
        return Evidence(
            target=self._address.target,
            host_keys=self._address.host_keys,
            error=error,
            rtt_seconds=self._session.rtt_seconds,
            python=self._session.python,
            noise=self._session.noise,
            snapshot=snapshot,
            left_out=left_out(self._store.memory.inventory.left_out),
            poll_seconds=poll_seconds,
            installs_updates=self._installs_updates,
            sudo=self._sudo,
        )

    @callback
    def _is_news(self, snapshot: Snapshot, error: HomelabError | None) -> bool:
        """Return whether evaluating this poll can change anything; most polls of most hosts are alike."""
        outline: tuple[object, ...] = (self._session.noise, type(error))
        if error is None:
            outline += (left_out(self._store.memory.inventory.left_out).keys(), *_outline(snapshot))
        self._alike = self._alike + 1 if outline == self._outline_seen else 1
        self._outline_seen = outline
        return self._alike <= GOOD_POLLS

    @callback
    def _is_issue_lost(self) -> bool:
        """Return whether an issue is missing although nothing has fixed it; some are found only by the whole test."""
        lost = async_lost_issues(self._hass, self._entry.entry_id)
        if lost - self._lost:
            self._evaluated_at = None
        self._lost = lost
        return bool(lost)

    @callback
    def _is_whole_due(self, snapshot: Snapshot) -> bool:
        """Return whether to evaluate all checks now: on a new connection, after a boot, and once a day."""
        if snapshot.is_booting:
            return False
        connection = self._session.connection
        is_new = connection is not None and (self._connection is None or self._connection() is not connection)
        age = WHOLE_SECONDS if self._evaluated_at is None else time.monotonic() - self._evaluated_at
        if age < (SPACING_SECONDS if is_new else WHOLE_SECONDS) or not self._evaluations.take():
            return False
        self._connection = weakref.ref(connection) if connection else None
        self._evaluated_at = time.monotonic()
        return True

    async def _async_evaluate_all(self, evidence: Evidence) -> None:
        """Request the facts and evaluate every check; a host that returns no facts keeps its last report."""
        try:
            report = await check_connection(self._session, evidence)
        except ALARMS as err:
            async_alarm(self._entry, err)
            return
        async_update_issues(self._hass, self._entry, report.rows, at_once=True)
        self._lost = async_lost_issues(self._hass, self._entry.entry_id)
        self.async_start_over()
        systemd = report.row("systemd")
        if systemd is None or systemd.status is CheckStatus.UNKNOWN:
            return  # Only the facts contain it.
        await self._take_report(report)

    @callback
    def async_pin_host_keys(self) -> None:
        """Pin the keys that the host has proven since the last check, and drop those that it has retired.

        A person may have confirmed other keys meanwhile, in a dialog: these are left alone.
        """
        keys_now = (self._session.host_keys, self._session.afresh)
        # A host that changes its keys all the time must not cause a write each time.
        is_due = not self._address.is_proven or time.monotonic() - self._pinned_at >= SPACING_SECONDS
        if keys_now == self._keys_seen or not is_due or (self._address.is_proven and not self._pins.take()):
            return
        self._keys_seen, self._pinned_at = keys_now, time.monotonic()
        self._write(replace(self._address, host_keys=keys_now[0], is_proven=not keys_now[1]))

    @callback
    def _note_machine(self) -> None:
        """Note the machine's id if none is known: from now on another machine with the same key is rejected."""
        if self._session.machine and not self._address.machine:
            self._write(replace(self._address, machine=self._session.machine))

    @callback
    def _write(self, address: HostAddress) -> None:
        """Write what a login has proven into the entry, unless a person has changed the entry meanwhile."""
        if HostAddress.from_data(self._entry.data) != self._address:
            return
        self._address = address
        data = {**self._entry.data, **self._address.as_data()}
        self._hass.config_entries.async_update_entry(self._entry, data=data)


def _outline(snapshot: Snapshot) -> tuple[object, ...]:
    """Return all of a snapshot that a check looks at, but for the exact figures; tests/test_outline.py compares it.

    What is not in here is evaluated once a day and on a new connection only.
    """
    security = snapshot.sections.security
    firewall = security.firewall if security else None
    return (
        abs(snapshot.clock_offset_seconds) > CLOCK_LIMIT_SECONDS,
        snapshot.missing,
        {name for name, count in snapshot.late.items() if count >= LATE_READINGS},
        snapshot.errors,
        set(snapshot.beyond),
        [gpu.state for gpu in gpus(snapshot)],
        snapshot.sections.uptime is None,
        snapshot.sections.system,
        snapshot.sections.updates is None,
        (firewall.reason, firewall.old_rules) if firewall else None,
    )
