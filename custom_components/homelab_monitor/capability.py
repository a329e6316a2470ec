"""Test a host now, and let the test have its consequences.

Used by the button, the action and the fix flows: a connection of its own, every check, then the
report is stored, issues come and go, and polling goes on at once when nothing is red.
"""

import asyncio
from collections.abc import Callable

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.util.hass_dict import HassKey

from .client.checks import run_checks
from .client.report import Report, Status as CheckStatus
from .client.ssh import Connection
from .const import DOMAIN
from .coordinator import HomelabConfigEntry
from .issues import async_update_issues
from .sessions import async_gate, async_new_session
from .settings import HostAddress, HostOptions
from .state import Status
from .store import async_get_key

_LOCKS: HassKey[dict[str, asyncio.Lock]] = HassKey(f"{DOMAIN}_test_locks")


async def async_test_host(
    hass: HomeAssistant,
    entry: HomelabConfigEntry,
    progress: Callable[[float], None] | None = None,
    *,
    reconnect: bool = False,
) -> Report:
    """Test a host over a new connection; one test at a time per host.

    `reconnect`: polling, too, needs a new connection, as after a change of groups.
    """
    if entry.state is not ConfigEntryState.LOADED:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="not_loaded", translation_placeholders={"name": entry.title}
        )
    locks = hass.data.setdefault(_LOCKS, {})
    async with locks.setdefault(entry.entry_id, asyncio.Lock()):
        report = await _async_run(hass, entry, progress)
        await async_take_report(hass, entry, report, reconnect=reconnect)
    return report


async def _async_run(
    hass: HomeAssistant, entry: HomelabConfigEntry, progress: Callable[[float], None] | None
) -> Report:
    """Run the checks through a session that ends with them."""
    address, options = HostAddress.from_data(entry.data), HostOptions.from_options(entry.options)
    session = await async_new_session(hass, address.target, address.host_keys, timeout=options.timeout)
    try:
        report, _ = await run_checks(session, address.target, address.host_keys, progress)
    finally:
        await session.close()
    return report


async def async_take_report(
    hass: HomeAssistant, entry: HomelabConfigEntry, report: Report, *, reconnect: bool = False
) -> None:
    """Store a report, let issues follow it, and let polling go on where the host turned out well."""
    async_update_issues(hass, entry, report.rows, at_once=True)
    login = report.row("login")
    if login is not None and login.status is CheckStatus.RED:
        entry.async_start_reauth(hass)
    # A host may have been unloaded while it was tested.
    if entry.state is not ConfigEntryState.LOADED:
        return
    coordinator = entry.runtime_data
    coordinator.judgement.async_start_over()
    coordinator.store.memory.last_test = report.as_dict()
    await coordinator.store.async_save()
    if report.worst is CheckStatus.RED:
        return
    if reconnect:
        await coordinator.async_reconnect()
    elif coordinator.data.status is not Status.ONLINE:
        await coordinator.async_resume()


async def async_connect(hass: HomeAssistant, entry: HomelabConfigEntry) -> Connection:
    """Return a new connection to a host, for something that is no polling; who asks closes it."""
    address, options = HostAddress.from_data(entry.data), HostOptions.from_options(entry.options)
    key = await async_get_key(hass)
    return await Connection.open(address.target, key, address.host_keys, timeout=options.timeout, gate=async_gate(hass))
