"""When a host is judged again: by every poll, fully on each new connection and once a day.

The coordinator tells each poll's end; what follows from it for the issues is decided here. A
host that is off makes no issue for a day, and none at all when it may be off.
"""

from dataclasses import replace
import time
from typing import Any
import weakref

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from .client.checks import CLOCK_LIMIT_SECONDS, Evidence, check_connection, judge, judge_poll
from .client.errors import HomelabError
from .client.report import Status
from .client.session import ProbeSession
from .client.snapshot import Snapshot
from .client.ssh import Connection
from .const import CONF_HOST_KEYS
from .issues import GOOD_POLLS, async_update_issues
from .settings import HostAddress, HostOptions
from .store import HostStore

WHOLE_SECONDS = 86400.0
"""How often everything is judged on a connection that lasts."""
SPACING_SECONDS = 60.0
"""Least time between two whole judgements, for a host whose connections do not last."""
OFFLINE_SECONDS = 86400.0
"""After so long without a word, a host that should be on becomes an issue."""


class HostJudgement:
    """Judges one host as its polling goes on."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any], store: HostStore, session: ProbeSession) -> None:
        """Remember whom to judge; nothing is asked yet."""
        self._hass = hass
        self._entry = entry
        self._store = store
        self._session = session
        self._address = HostAddress.from_data(entry.data)
        self._may_be_off = HostOptions.from_options(entry.options).may_be_off
        self._connection: weakref.ref[Connection] | None = None
        self._judged_at: float | None = None
        self._told: tuple[object, ...] = ()
        self._alike = 0

    @callback
    def async_polled(
        self, snapshot: Snapshot, error: HomelabError | None, poll_seconds: float | None, silent_seconds: float
    ) -> None:
        """Judge one poll; `silent_seconds` is for how long an offline host has told nothing, 0 when it is online."""
        evidence = Evidence(
            target=self._address.target,
            host_keys=self._address.host_keys,
            error=error,
            rtt_seconds=self._session.rtt_seconds,
            python=self._session.python,
            noise=self._session.noise,
            snapshot=None if error else snapshot,
            poll_seconds=poll_seconds,
        )
        if self._is_news(evidence):
            async_update_issues(self._hass, self._entry, judge_poll(evidence), at_once=False)
        if error is None:
            self._judge_whole_when_due(evidence)
        elif silent_seconds >= OFFLINE_SECONDS and not self._may_be_off:
            reachable = [row for row in judge(evidence) if row.check == "reachable"]
            async_update_issues(self._hass, self._entry, reachable, at_once=True)

    @callback
    def async_start_over(self) -> None:
        """Judge the next polls whatever they tell: a test has made issues or ended some, and polls may disagree."""
        self._alike = 0

    @callback
    def _is_news(self, evidence: Evidence) -> bool:
        """Tell whether judging this poll can change anything; most polls of most hosts are alike."""
        told = _told(evidence)
        self._alike = self._alike + 1 if told == self._told else 1
        self._told = told
        return self._alike <= GOOD_POLLS

    @callback
    def _judge_whole_when_due(self, evidence: Evidence) -> None:
        """Start a whole judgement on a new connection, and once a day."""
        connection = self._session.connection
        is_new = connection is not None and (self._connection is None or self._connection() is not connection)
        age = WHOLE_SECONDS if self._judged_at is None else time.monotonic() - self._judged_at
        if age < (SPACING_SECONDS if is_new else WHOLE_SECONDS):
            return
        self._connection = weakref.ref(connection) if connection else None
        self._judged_at = time.monotonic()
        self._entry.async_create_background_task(
            self._hass, self._async_judge_whole(evidence), f"{self._entry.title} capability test"
        )

    async def _async_judge_whole(self, evidence: Evidence) -> None:
        """Ask for the facts and judge every check; a host that tells none keeps its last report."""
        report = await check_connection(self._session, evidence)
        self._pin_proven_keys()
        async_update_issues(self._hass, self._entry, report.rows, at_once=True)
        self.async_start_over()
        systemd = report.row("systemd")
        if systemd is None or systemd.status is Status.UNKNOWN:
            return  # Only the facts tell of it.
        self._store.memory.last_test = report.as_dict()
        await self._store.async_save()

    @callback
    def _pin_proven_keys(self) -> None:
        """Pin what the host has proven since its login beside the confirmed keys, so that it may drop these."""
        connection = self._session.connection
        pinned = HostAddress.from_data(self._entry.data).host_keys
        if connection is None or set(connection.host_keys) <= set(pinned):
            return
        keys = tuple(dict.fromkeys((*pinned, *connection.host_keys)))
        self._session.host_keys = keys
        self._address = replace(self._address, host_keys=keys)
        data = {**self._entry.data, CONF_HOST_KEYS: list(keys)}
        self._hass.config_entries.async_update_entry(self._entry, data=data)


def _told(evidence: Evidence) -> tuple[object, ...]:
    """Return all of a poll that a check looks at, but for the exact figures."""
    if evidence.error is not None or evidence.snapshot is None:
        return (type(evidence.error), evidence.noise)
    snapshot = evidence.snapshot
    gpus = snapshot.sections.gpu.gpus if snapshot.sections.gpu else ()
    return (
        evidence.noise,
        abs(snapshot.clock_offset_seconds) > CLOCK_LIMIT_SECONDS,
        *sorted(snapshot.missing.items()),
        *sorted(snapshot.errors.items()),
        *(gpu.state for gpu in gpus),
    )
