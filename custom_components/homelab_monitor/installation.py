"""Follow the job that installs a host's packages: from a click, or from a check after a restart, to its end.

The job runs on the host and outlives a connection, and Home Assistant itself. So its state is read beside the polls,
after each poll that finds the host online, and the job is remembered until its end has been reported.
"""

import asyncio
from contextlib import suppress
import logging
import time
from typing import Final

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, callback
from homeassistant.exceptions import HomeAssistantError

from .client.control.install_updates import Installation, Phase, read_installation, start_installation
from .client.errors import HomelabError, UpgradeDenied, UpgradeFailed, UpgradeLost, UpgradeUnknown
from .client.models import Updates
from .client.time_limit import TimeLimit
from .client.tracking.events import HostEvent
from .client.transport.ssh import Connection
from .const import CONF_INSTALL_UPDATES, DOMAIN
from .controls import require, translated
from .coordinator import HomelabCoordinator
from .health.alarms import async_alarm
from .renewal import async_note_denied, async_renew_after_denial

_LOGGER = logging.getLogger(__name__)

CHECK_SECONDS: Final = 8.0
"""Less than the usual poll interval, so that a check follows each poll."""
WAIT_SECONDS: Final = 3600.0
"""How long the call that started the updates waits for their end."""
STORED_JOB_SECONDS: Final = 86400.0
"""The maximum age of a job that only the store knows: that may come from a backup, with an end reported long ago."""
WANTED_KEPT: Final = 50
"""How many of the pending packages are remembered; one would be enough."""
LATE_READINGS: Final = 9
"""How many late readings in a row to wait for the pending packages: package managers are slow right after a boot."""
CHANGED: Final = ("updates", "services", "containers")
"""The sections that change when packages are installed."""


class HostInstallation:
    """The job of one host, if there is one."""

    def __init__(self, coordinator: HomelabCoordinator) -> None:
        """Note whether a job may be running; nothing is requested yet."""
        self._coordinator = coordinator
        self._memory = coordinator.store.memory.upgrade
        self._is_unsure = coordinator.options.install_updates
        self._end: asyncio.Future[Installation] | None = None
        self._lock = asyncio.Lock()
        self._checked_at: float | None = None
        self._seen = self._updates
        """The packages that the host reported when the last installation ended, or was found to have ended."""
        self._was_pending = False
        """Whether something was pending since then."""

    @property
    def failure(self) -> str:
        """Return how the last installation failed, as the key of an error; "" if it did not."""
        return self._memory.failure

    @property
    def is_running(self) -> bool:
        """Return whether packages are being installed now."""
        return self._end is not None

    @property
    def _manager(self) -> str:
        """Return the package manager of the running job, otherwise the host's."""
        return self._memory.manager or (self._updates.manager if self._updates else "")

    @property
    def _updates(self) -> Updates | None:
        """Return the packages that the host reported last."""
        return self._coordinator.data.snapshot.sections.updates

    @property
    def _boot_id(self) -> str:
        """Return the id of the host's current boot, "" if not known."""
        return self._coordinator.data.snapshot.boot_id or ""

    @callback
    def async_follow(self) -> None:
        """Check for a job now, and after each poll, until the host is unloaded or Home Assistant stops."""
        entry, hass = self._coordinator.config_entry, self._coordinator.hass
        entry.async_on_unload(self._coordinator.async_add_listener(self.async_polled))
        entry.async_on_unload(hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self._async_stop))
        entry.async_on_unload(self._async_close)
        self.async_polled()

    async def async_install(self) -> None:
        """Install the pending packages and wait for the end; raise HomeAssistantError unless it ended well."""
        require(self._coordinator, CONF_INSTALL_UPDATES)
        async with self._lock:
            # A check may have taken minutes: by now the host may be off, set up anew or no longer monitored.
            require(self._coordinator, CONF_INSTALL_UPDATES)
            end = self._end or await self._async_start()
        with suppress(TimeoutError):
            async with TimeLimit(WAIT_SECONDS):
                await asyncio.wait({end})
        if not end.done():
            raise self._unseen("still_upgrading")
        if end.cancelled():
            # An automation that restarts the host next must not take this for the end of the job.
            raise self._unseen("upgrade_unwatched")
        if error := self._error(end.result()):
            async with translated(self._coordinator):
                raise error

    def _unseen(self, reason: str) -> HomeAssistantError:
        """Return the error that explains why the end of the job was not seen."""
        return HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key=reason,
            translation_placeholders={"name": self._coordinator.name},
        )

    @callback
    def _async_close(self) -> None:
        """Cancel the calls that wait for the end; the job itself goes on."""
        if self._end:
            self._end.cancel()

    @callback
    def _async_stop(self, _event: Event) -> None:
        """Cancel waiting calls so that they do not delay the stop; anybody can fire such an event, so check it."""
        if self._coordinator.hass.is_stopping:
            self._async_close()

    @callback
    def async_polled(self) -> None:
        """Check the job if it is time and the host answers."""
        self._check_packages()
        is_wanted = (self.is_running or self._is_unsure) and self._manager and self._coordinator.data.is_online
        is_early = self._checked_at is not None and time.monotonic() - self._checked_at < CHECK_SECONDS
        if is_wanted and not is_early and not self._lock.locked():
            entry, hass = self._coordinator.config_entry, self._coordinator.hass
            entry.async_create_background_task(hass, self._async_check(), f"{entry.title} upgrade")

    @callback
    def _check_packages(self) -> None:
        """Forget a failure when the packages that were pending after it have been installed by hand."""
        updates = self._updates
        if not self.failure or self.is_running or updates is self._seen or updates is None:
            return
        if updates.pending:
            self._was_pending = True
        elif updates.pending == 0 and self._was_pending:
            self._note_failure("", updates)

    @callback
    def _note_failure(self, failure: str, seen: Updates | None) -> None:
        """Remember, also across restarts, how the last installation failed; "" if it did not.

        `seen` is what the host had reported about its packages by then.
        """
        self._was_pending, self._seen = False, seen
        if failure != self._memory.failure:
            self._memory.failure = failure
            self._coordinator.store.async_changed()

    async def _async_start(self) -> asyncio.Future[Installation]:
        """Start the job and return a future for its end; raise HomeAssistantError if the host denies it."""
        manager = self._manager
        self._end = end = self._coordinator.hass.loop.create_future()
        self._coordinator.async_notify_listeners()
        has_started = False
        try:
            await async_renew_after_denial(self._coordinator)
            async with translated(self._coordinator), self._coordinator.session.aside() as connection:
                await self._async_start_on(connection, manager)
            has_started = True
        finally:
            if not has_started:
                # If the connection was cut, the job may run all the same: the next polls check.
                self._end, self._is_unsure = None, True
                self._coordinator.async_notify_listeners()
        self._checked_at = time.monotonic()
        await self._async_remember(manager)
        return end

    async def _async_start_on(self, connection: Connection, manager: str) -> None:
        """Start the job; raise HomelabError if the host denies it."""
        try:
            await start_installation(connection, self._coordinator.address.target.host, manager)
        except UpgradeDenied:
            async_note_denied(self._coordinator)
            raise

    @callback
    def _remember(self, manager: str) -> None:
        """Remember the job whose end has to be reported; with `manager` "", forget it."""
        self._memory.manager = manager
        self._memory.started = time.time() if manager else None
        self._memory.boot_id = self._boot_id if manager else ""
        self._memory.wanted = _pending(self._updates)[:WANTED_KEPT] if manager else ()

    async def _async_remember(self, manager: str) -> None:
        """Remember, also across a restart, the job whose end has to be reported."""
        self._remember(manager)
        await self._async_save()

    async def _async_save(self) -> None:
        """Save at once, unless the host was removed meanwhile: its file must not come back."""
        entry = self._coordinator.config_entry
        if self._coordinator.hass.config_entries.async_get_entry(entry.entry_id) is entry:
            await self._coordinator.store.async_save(whatever_size=True)

    async def _async_check(self) -> None:
        """Read the state of the job from the host; without a reply, read it again after the next poll."""
        async with self._lock:
            self._checked_at = time.monotonic()
            host = self._coordinator.address.target.host
            try:
                async with self._coordinator.session.aside() as connection:
                    found = await read_installation(connection, host, self._manager)
            except HomelabError as err:
                _LOGGER.debug("%s: %s", self._coordinator.name, err)
                async_alarm(self._coordinator.config_entry, err)
                return
            self._is_unsure = False
            if found.phase is Phase.RUNNING:
                await self._async_found_running()
            elif self._memory.manager:
                await self._async_ended(self._ours(found))
            elif found.phase is Phase.DONE and self.failure:
                # A job started by somebody else ended well meanwhile.
                self._note_failure("", self._updates)
                self._coordinator.async_notify_listeners()

    async def _async_found_running(self) -> None:
        """Follow a job that was started before Home Assistant, or by another instance."""
        if self._end is None:
            self._end = self._coordinator.hass.loop.create_future()
            await self._async_remember(self._manager)
            self._coordinator.async_notify_listeners()

    async def _async_ended(self, found: Installation | None) -> None:
        """Report how the job ended, if that is known, and update the entities."""
        if found and found.phase is Phase.UNKNOWN:
            has_left = await self._async_has_left_something()
            if has_left is None:
                self._is_unsure = True
                return
            found = Installation(phase=Phase.LOST) if has_left else found
        error = self._error(found) if found else None
        has_failed = error is not None and not isinstance(error, UpgradeUnknown)
        seen = self._updates
        for section in CHANGED:
            await self._coordinator.async_poll_section(section)
        if self._coordinator.is_gone:
            # The job is still remembered: the next run reads and reports its end.
            return
        if found:
            self._note_failure(error.key if error and has_failed else "", seen)
        self._remember("")
        end, self._end = self._end, None
        if error:
            _LOGGER.warning("%s", error)
        if error and has_failed:
            # Every user sees the event: output of the package manager may hold a mirror's password, so it is left out.
            self._coordinator.async_notify_listeners(HostEvent(type="update_failed", about={"reason": error.key}))
        else:
            self._coordinator.async_notify_listeners()
        if found and end and not end.done():
            end.set_result(found)
        await self._async_save()

    def _ours(self, found: Installation) -> Installation | None:
        """Return how the remembered job ended, None if that cannot be known or no longer matters."""
        is_other_boot = self._memory.boot_id != self._boot_id
        if self._end is None:
            started = self._memory.started
            is_old = started is None or abs(time.time() - started) > STORED_JOB_SECONDS
            # A reboot deletes the result; a result found after it belongs to another job.
            if is_old or (is_other_boot and found.phase is not Phase.NONE):
                return None
        return Installation(phase=Phase.UNKNOWN) if is_other_boot or found.phase is Phase.NONE else found

    async def _async_has_left_something(self) -> bool | None:
        """Return whether packages still pending prove that the job did not end well; None if the host is only late.

        Nobody saw whether it ended before the reboot. A host that reports nothing now proves nothing; if it is only
        late, the next check may know.
        """
        wanted, before = frozenset(self._memory.wanted), self._updates
        await self._coordinator.async_poll_section("updates")
        now = self._updates
        if now is None or now is before:
            late = self._coordinator.data.snapshot.late.get("updates", 0)
            return None if 0 < late < LATE_READINGS else False
        return bool(now.unfinished) or not wanted.isdisjoint(_pending(now))

    def _error(self, found: Installation) -> HomelabError | None:
        """Return the error to show for a finished job, None if it ended well."""
        host = self._coordinator.address.target.host
        match found.phase:
            case Phase.FAILED:
                return UpgradeFailed(host, found.detail)
            case Phase.LOST:
                return UpgradeLost(host)
            case Phase.UNKNOWN:
                return UpgradeUnknown(host)
        return None


def _pending(updates: Updates | None) -> tuple[str, ...]:
    """Return name and version of the pending packages, as far as the host lists them."""
    return tuple(f"{each.name} {each.available}" for each in updates.packages) if updates else ()
