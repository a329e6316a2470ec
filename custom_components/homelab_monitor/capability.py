"""Test a host now, and apply the result.

Used by the button, the action and the fix flows: a separate connection, every check, then the
report is stored, issues are updated, and polling goes on at once if nothing is red.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.util.hass_dict import HassKey

from .client.bucket import Bucket
from .client.checks.report import CheckStatus, Report
from .client.checks.testing import run_checks
from .client.limits import TESTS
from .client.probe.session import ProbeSession
from .client.probe.start import ask_who
from .client.transport.ssh import Connection, Introduction
from .const import DOMAIN
from .coordinator import HomelabConfigEntry
from .health.alarms import async_alarm
from .health.issues import async_update_issues
from .renewal import async_renew
from .sessions import async_gate, async_new_session, async_programs
from .settings import HostAddress, HostOptions, is_monitored
from .state import HostStatus
from .store import async_get_key

_LOCKS: HassKey[dict[str, asyncio.Lock]] = HassKey(f"{DOMAIN}_test_locks")
_TESTS: HassKey[dict[str, list[_Test]]] = HassKey(f"{DOMAIN}_tests")
_BUCKETS: HassKey[dict[str, Bucket]] = HassKey(f"{DOMAIN}_test_buckets")
_REMEDY_LOCKS: HassKey[dict[str, asyncio.Lock]] = HassKey(f"{DOMAIN}_remedy_locks")


class _Test:
    """A test of a host that runs, or waits for the previous one; several callers may wait for its end."""

    def __init__(self, *, reconnect: bool) -> None:
        """Create a test that nobody waits for yet."""
        self.reconnect = reconnect
        self.has_begun = False
        self.task: asyncio.Task[Report]
        self.waiting: dict[object, Callable[[float], None] | None] = {}
        """Waiting caller → its progress callback."""

    def progressed(self, part: float) -> None:
        """Report the progress to all that wait."""
        for show in filter(None, list(self.waiting.values())):
            show(part)


async def async_test_host(
    hass: HomeAssistant,
    entry: HomelabConfigEntry,
    progress: Callable[[float], None] | None = None,
    *,
    reconnect: bool = False,
) -> Report:
    """Test a host over a new connection and return the report; a call during a test gets the report of that test.

    `reconnect`: something was changed on the host just now, such as groups. A test that started before does not
    count then, and polling needs a new connection, too. So a host never has more than two tests.
    Raises ServiceValidationError if there is no host to test, if the entry is about another machine by the end, if
    the host was tested too often, or if it is unloaded meanwhile, which ends its tests.
    """
    if entry.state is not ConfigEntryState.LOADED:
        raise _refuse(entry, "not_loaded")
    tests = hass.data.setdefault(_TESTS, {}).setdefault(entry.entry_id, [])
    test = tests[-1] if tests else None
    if test is None and not reconnect and not _bucket(hass, entry).take():
        raise _refuse(entry, "tested_often")
    if test is None or (reconnect and (test.has_begun or not test.reconnect)):
        test = _start(hass, entry, tests, reconnect=reconnect)
    try:
        return await _async_end(test, tests, progress)
    except asyncio.CancelledError:
        # If the waiting caller was cancelled itself, that cancellation goes on.
        if (waiting := asyncio.current_task()) is not None and waiting.cancelling():
            raise
        raise _refuse(entry, "not_loaded") from None


async def async_test_now(hass: HomeAssistant, entry: HomelabConfigEntry) -> Report:
    """Test a host because a person or an automation requested it; see `async_test_host` for what it raises.

    Rights that were granted by hand before that must also reach polling, not only the connection of the test.
    """
    report = await async_test_host(hass, entry)
    if entry.state is ConfigEntryState.LOADED and not report.hindrance:
        await async_renew(entry.runtime_data)
    return report


def _bucket(hass: HomeAssistant, entry: HomelabConfigEntry) -> Bucket:
    """Return the limit on how often a host may be tested: a button may be pressed any number of times."""
    return hass.data.setdefault(_BUCKETS, {}).setdefault(entry.entry_id, Bucket(*TESTS))


def _start(hass: HomeAssistant, entry: HomelabConfigEntry, tests: list[_Test], *, reconnect: bool) -> _Test:
    """Start a test that belongs to the entry and ends with it, whichever of its callers stop waiting."""
    test = _Test(reconnect=reconnect)
    tests.append(test)
    test.task = entry.async_create_background_task(
        hass, _async_test(hass, entry, test), f"{entry.title} test", eager_start=False
    )
    test.task.add_done_callback(lambda _: _forget(test, tests))
    return test


def _forget(test: _Test, tests: list[_Test]) -> None:
    """Remove a test from those that callers can join."""
    if test in tests:
        tests.remove(test)


async def _async_end(test: _Test, tests: list[_Test], progress: Callable[[float], None] | None) -> Report:
    """Wait for the end of a test; cancel it if nobody waits for it any more."""
    waiting = object()
    test.waiting[waiting] = progress
    try:
        return await asyncio.shield(test.task)
    finally:
        del test.waiting[waiting]
        if not test.waiting and not test.task.done():
            _forget(test, tests)
            test.task.cancel()


async def _async_test(hass: HomeAssistant, entry: HomelabConfigEntry, test: _Test) -> Report:
    """Test a host after the previous test has ended."""
    locks = hass.data.setdefault(_LOCKS, {})
    async with locks.setdefault(entry.entry_id, asyncio.Lock()):
        if not is_monitored(hass, entry):
            raise _refuse(entry, "not_loaded")
        test.has_begun = True
        address = HostAddress.from_data(entry.data)
        report, session = await _async_run(hass, entry, address, test.progressed)
        if not is_monitored(hass, entry):
            raise _refuse(entry, "not_loaded")
        if not address.is_same(HostAddress.from_data(entry.data)):
            # The report of one machine says nothing about another in its place.
            raise _refuse(entry, "changed_meanwhile")
        _keep_host_keys(entry, session)
        await async_take_report(hass, entry, report, reconnect=test.reconnect)
    return report


def _keep_host_keys(entry: HomelabConfigEntry, session: ProbeSession) -> None:
    """Pin the keys that the login of a test has proven, and drop the rest, as the first login of polling would."""
    if entry.state is ConfigEntryState.LOADED and not session.afresh:
        entry.runtime_data.session.narrow(session.host_keys)
        entry.runtime_data.health_monitor.async_pin_host_keys()


def _refuse(entry: HomelabConfigEntry, translation_key: str) -> ServiceValidationError:
    """Return the error that explains why a host is not tested."""
    placeholders = {"name": entry.title}
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=translation_key, translation_placeholders=placeholders
    )


async def _async_run(
    hass: HomeAssistant, entry: HomelabConfigEntry, address: HostAddress, progress: Callable[[float], None]
) -> tuple[Report, ProbeSession]:
    """Run the checks over a session of their own; return it as well, as it knows the proven host keys."""
    options = HostOptions.from_options(entry.options)
    session = await async_new_session(
        hass,
        address.target,
        address.host_keys,
        timeout=options.timeout,
        afresh=not address.is_proven,
        machine=address.machine,
    )
    try:
        report, _ = await run_checks(
            session,
            address.target,
            address.host_keys,
            progress,
            installs_updates=options.install_updates,
            sudo=options.sudo,
        )
    finally:
        await session.close()
    return report, session


async def async_take_report(
    hass: HomeAssistant, entry: HomelabConfigEntry, report: Report, *, reconnect: bool = False
) -> None:
    """Store a report, update the issues, and resume polling if nothing prevents it."""
    if report.error is not None:
        async_alarm(entry, report.error)
    async_update_issues(hass, entry, report.rows, at_once=True)
    login = report.row("login")
    if login is not None and login.status is CheckStatus.RED:
        entry.async_start_reauth(hass)
    # A host may have been unloaded while it was tested.
    if entry.state is not ConfigEntryState.LOADED:
        return
    coordinator = entry.runtime_data
    coordinator.health_monitor.async_start_over()
    await coordinator.async_tested(report)
    # Or meanwhile: an entry that is unloaded is not polled.
    if report.hindrance or entry.state is not ConfigEntryState.LOADED or entry.runtime_data is not coordinator:
        return
    if reconnect:
        await coordinator.async_reconnect()
    elif coordinator.data.status is not HostStatus.ONLINE:
        await coordinator.async_resume()


class Ended(Exception):  # noqa: N818 - it is an end, not an error
    """A host was unloaded, or Home Assistant is stopping, while something ran on the host."""


async def async_while_loaded[T](hass: HomeAssistant, entry: HomelabConfigEntry, work: Coroutine[Any, Any, T]) -> T:
    """Do something with a host while it is set up; raises Ended if it is unloaded or Home Assistant stops.

    Tasks of a dialog belong to the dialog: nothing else would end them, and a command may take ten minutes.
    """
    if hass.is_stopping:
        work.close()
        raise Ended
    task = entry.async_create_background_task(hass, work, f"{entry.title} repair", eager_start=False)

    @callback
    def async_stop(_event: Event) -> None:
        task.cancel()

    unsub = hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, async_stop)
    try:
        return await task
    except asyncio.CancelledError:
        # If the waiting caller was cancelled itself, that cancellation goes on.
        if (waiting := asyncio.current_task()) is not None and waiting.cancelling():
            raise
        raise Ended from None
    finally:
        unsub()


def remedy_lock(hass: HomeAssistant, entry: HomelabConfigEntry) -> asyncio.Lock:
    """Return the lock that allows one remedy at a time on a host."""
    return hass.data.setdefault(_REMEDY_LOCKS, {}).setdefault(entry.entry_id, asyncio.Lock())


async def async_connect(hass: HomeAssistant, entry: HomelabConfigEntry, address: HostAddress) -> Connection:
    """Return a new connection to a host for something other than polling; the caller closes it.

    `address` is the one that a person was shown: that of the entry may change at any moment.
    """
    options = HostOptions.from_options(entry.options)
    key, programs = await async_get_key(hass), await async_programs(hass)
    return await Connection.open(
        address.target,
        key,
        address.confirmed_keys,
        timeout=options.timeout,
        gate=async_gate(hass),
        introduction=Introduction(address.machine, partial(ask_who, programs=programs, timeout=options.timeout)),
    )
