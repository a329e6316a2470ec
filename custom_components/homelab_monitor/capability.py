"""Test a host now, and let the test have its consequences.

Used by the button, the action and the fix flows: a connection of its own, every check, then the
report is stored, issues come and go, and polling goes on at once when nothing is red.
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
from .client.checks.checks import run_checks
from .client.checks.report import CheckStatus, Report
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
from .settings import HostAddress, HostOptions, is_watched
from .state import HostStatus
from .store import async_get_key

_LOCKS: HassKey[dict[str, asyncio.Lock]] = HassKey(f"{DOMAIN}_test_locks")
_TESTS: HassKey[dict[str, list[_Test]]] = HassKey(f"{DOMAIN}_tests")
_BUCKETS: HassKey[dict[str, Bucket]] = HassKey(f"{DOMAIN}_test_buckets")
_REMEDY_LOCKS: HassKey[dict[str, asyncio.Lock]] = HassKey(f"{DOMAIN}_remedy_locks")


class _Test:
    """A test of a host that runs, or waits for the one before it; many may wait for its end."""

    def __init__(self, *, reconnect: bool) -> None:
        """Be a test that nobody waits for yet."""
        self.reconnect = reconnect
        self.has_begun = False
        self.task: asyncio.Task[Report]
        self.waiting: dict[object, Callable[[float], None] | None] = {}
        """Who waits, and what shows them how far it is."""

    def progressed(self, part: float) -> None:
        """Let everybody see how far it is."""
        for show in filter(None, list(self.waiting.values())):
            show(part)


async def async_test_host(
    hass: HomeAssistant,
    entry: HomelabConfigEntry,
    progress: Callable[[float], None] | None = None,
    *,
    reconnect: bool = False,
) -> Report:
    """Test a host over a new connection; who asks while one is tested gets the result of that test.

    `reconnect`: something was changed on the host just now, such as groups. What has begun before that does not
    count then, and polling, too, needs a new connection. So of a host there are never more than two tests.
    Raises ServiceValidationError where there is no host to test, another one than at the beginning, or where it was
    tested very often, or where the host is unloaded meanwhile: its tests end with it.
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
        # Who waits may have been given up as well: then that goes on.
        if (waiting := asyncio.current_task()) is not None and waiting.cancelling():
            raise
        raise _refuse(entry, "not_loaded") from None


async def async_test_now(hass: HomeAssistant, entry: HomelabConfigEntry) -> Report:
    """Test a host because a person or an automation asked for it; see `async_test_host` for what it raises.

    What was allowed by hand before that, the polling shall see as well, and not only the connection of the test.
    """
    report = await async_test_host(hass, entry)
    if entry.state is ConfigEntryState.LOADED and not report.hindrance:
        await async_renew(entry.runtime_data)
    return report


def _bucket(hass: HomeAssistant, entry: HomelabConfigEntry) -> Bucket:
    """Return what says how often a host may be tested: whoever may press a button may press it without end."""
    return hass.data.setdefault(_BUCKETS, {}).setdefault(entry.entry_id, Bucket(*TESTS))


def _start(hass: HomeAssistant, entry: HomelabConfigEntry, tests: list[_Test], *, reconnect: bool) -> _Test:
    """Start a test that belongs to the entry, and ends with it; of those who ask for it each may go away."""
    test = _Test(reconnect=reconnect)
    tests.append(test)
    test.task = entry.async_create_background_task(
        hass, _async_test(hass, entry, test), f"{entry.title} test", eager_start=False
    )
    test.task.add_done_callback(lambda _: _forget(test, tests))
    return test


def _forget(test: _Test, tests: list[_Test]) -> None:
    """Let nobody join a test any more."""
    if test in tests:
        tests.remove(test)


async def _async_end(test: _Test, tests: list[_Test], progress: Callable[[float], None] | None) -> Report:
    """Wait for the end of a test; one that nobody waits for any more is given up."""
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
    """Test a host when it is its turn."""
    locks = hass.data.setdefault(_LOCKS, {})
    async with locks.setdefault(entry.entry_id, asyncio.Lock()):
        if not is_watched(hass, entry):
            raise _refuse(entry, "not_loaded")
        test.has_begun = True
        address = HostAddress.from_data(entry.data)
        report, session = await _async_run(hass, entry, address, test.progressed)
        if not is_watched(hass, entry):
            raise _refuse(entry, "not_loaded")
        if not address.is_same(HostAddress.from_data(entry.data)):
            # What one machine answered says nothing about the one that has taken its place.
            raise _refuse(entry, "changed_meanwhile")
        _keep_host_keys(entry, session)
        await async_take_report(hass, entry, report, reconnect=test.reconnect)
    return report


def _keep_host_keys(entry: HomelabConfigEntry, session: ProbeSession) -> None:
    """Pin what the login of a test has proven, and drop the rest, as the first login of the polling would."""
    if entry.state is ConfigEntryState.LOADED and not session.afresh:
        entry.runtime_data.session.narrow(session.host_keys)
        entry.runtime_data.judgement.async_pin_host_keys()


def _refuse(entry: HomelabConfigEntry, translation_key: str) -> ServiceValidationError:
    """Return the error that says why a host is not tested."""
    placeholders = {"name": entry.title}
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=translation_key, translation_placeholders=placeholders
    )


async def _async_run(
    hass: HomeAssistant, entry: HomelabConfigEntry, address: HostAddress, progress: Callable[[float], None]
) -> tuple[Report, ProbeSession]:
    """Run the checks through a session that ends with them; it knows which host keys it has met."""
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
    """Store a report, let issues follow it, and let polling go on where the host turned out well."""
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
    coordinator.judgement.async_start_over()
    await coordinator.async_tested(report)
    # So may it be now: nobody polls for an entry that is over.
    if report.hindrance or entry.state is not ConfigEntryState.LOADED or entry.runtime_data is not coordinator:
        return
    if reconnect:
        await coordinator.async_reconnect()
    elif coordinator.data.status is not HostStatus.ONLINE:
        await coordinator.async_resume()


class Ended(Exception):  # noqa: N818 - it is an end, not an error
    """A host went, or Home Assistant is stopping, while something was done with the host."""


async def async_while_loaded[T](hass: HomeAssistant, entry: HomelabConfigEntry, work: Coroutine[Any, Any, T]) -> T:
    """Do something with a host for as long as it is set up; raises Ended when it is unloaded or Home Assistant stops.

    Tasks of a dialog belong to the dialog: nobody else would end them, and a command may take ten minutes.
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
        # Who waits may have been given up as well: then that goes on.
        if (waiting := asyncio.current_task()) is not None and waiting.cancelling():
            raise
        raise Ended from None
    finally:
        unsub()


def remedy_lock(hass: HomeAssistant, entry: HomelabConfigEntry) -> asyncio.Lock:
    """Return what one remedy at a time holds on a host."""
    return hass.data.setdefault(_REMEDY_LOCKS, {}).setdefault(entry.entry_id, asyncio.Lock())


async def async_connect(hass: HomeAssistant, entry: HomelabConfigEntry, address: HostAddress) -> Connection:
    """Return a new connection to a host, for something that is no polling; who asks closes it.

    `address` is what a person was shown: that of the entry may be another one in a moment.
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
