"""The rows of all hosts, kept only while somebody watches the fleet; what has changed is sent, once a second at most.

Rows are kept by config entry. A host that is being reloaded keeps its row, with the status `loading`; one whose entry
cannot be set up has `setup_failed`. Disabled and removed entries have no row.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
import time
from typing import Any, Final

from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange, ConfigEntryState
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.json import json_bytes
from homeassistant.util.hass_dict import HassKey

from ..client.tracking.problems import Thresholds
from ..const import DOMAIN
from ..coordinator import HomelabConfigEntry
from ..settings import HostAddress, HostOptions
from ..state import HostState
from .fleet import VERSION, FleetRow, fleet_row

MESSAGE_SECONDS: Final = 1.0
"""Time between two messages to somebody who watches."""
_HUB: HassKey[FleetHub] = HassKey(f"{DOMAIN}_fleet")
_LOADING = frozenset(
    {ConfigEntryState.NOT_LOADED, ConfigEntryState.SETUP_IN_PROGRESS, ConfigEntryState.UNLOAD_IN_PROGRESS}
)


@dataclass(frozen=True, slots=True)
class HostRow:
    """The row of a host, and its address, which only administrators see."""

    row: FleetRow
    address: str

    def as_dict(self, *, is_admin: bool) -> dict[str, Any]:
        """Return the row as plain values."""
        shown = asdict(self.row)
        return shown | {"address": self.address} if is_admin else shown


@dataclass(slots=True)
class FleetUpdate:
    """What has changed in the fleet; the same bytes serve everybody with the same rights."""

    rows: tuple[HostRow, ...]
    removed: tuple[str, ...] = ()
    is_full: bool = False
    at: float = field(default_factory=time.time)
    _encoded: dict[bool, bytes] = field(default_factory=dict)

    def encoded(self, *, is_admin: bool) -> bytes:
        """Return the update as JSON."""
        if is_admin not in self._encoded:
            rows = [each.as_dict(is_admin=is_admin) for each in self.rows]
            message = {"v": VERSION, "now": self.at, "full": self.is_full, "rows": rows, "removed": self.removed}
            self._encoded[is_admin] = json_bytes(message)
        return self._encoded[is_admin]


type Viewer = Callable[[FleetUpdate], None]


@callback
def async_fleet_hub(hass: HomeAssistant) -> FleetHub:
    """Return the hub that all who watch share."""
    return hass.data.setdefault(_HUB, FleetHub(hass))


class FleetHub:
    """Watches the hosts while somebody watches the fleet."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Watch nothing yet."""
        self._hass = hass
        self._rows: dict[str, HostRow] = {}
        self._viewers: set[Viewer] = set()
        self._coordinators: dict[str, tuple[object, CALLBACK_TYPE]] = {}
        """Entry id → the coordinator that is listened to, and how to stop that."""
        self._changed: set[str] = set()
        self._unsubs: list[CALLBACK_TYPE] = []
        self._cancel: CALLBACK_TYPE | None = None
        self._sent = 0.0

    @callback
    def async_subscribe(self, viewer: Viewer) -> CALLBACK_TYPE:
        """Hand all rows to a viewer now, and then what changes; return how to end that."""
        if not self._viewers:
            self._async_begin()
        viewer(FleetUpdate(rows=tuple(self._rows.values()), is_full=True))
        self._viewers.add(viewer)

        @callback
        def async_unsubscribe() -> None:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._async_end()

        return async_unsubscribe

    @callback
    def async_rows(self) -> FleetUpdate:
        """Return all rows as they are now."""
        known = (_host_row(entry, self._rows.get(entry.entry_id)) for entry in self._entries())
        return FleetUpdate(rows=tuple(filter(None, known)), is_full=True)

    def _entries(self) -> Iterable[HomelabConfigEntry]:
        """Return the entries of all hosts."""
        return self._hass.config_entries.async_entries(DOMAIN)

    @callback
    def _async_begin(self) -> None:
        """Make all rows, and listen to what changes them."""
        connect = async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, self._async_entry_changed)
        self._unsubs.append(connect)
        for entry in self._entries():
            self._async_listen(entry)
            if row := _host_row(entry, None):
                self._rows[entry.entry_id] = row

    @callback
    def _async_end(self) -> None:
        """Listen to nothing, and keep nothing."""
        for unsub in (*self._unsubs, *(unsub for _, unsub in self._coordinators.values())):
            unsub()
        if self._cancel:
            self._cancel()
        self._cancel = None
        for kept in (self._unsubs, self._coordinators, self._changed, self._rows):
            kept.clear()

    @callback
    def _async_entry_changed(self, change: ConfigEntryChange, entry: ConfigEntry) -> None:
        """Note an entry that was added, renamed, disabled, loaded, unloaded or removed."""
        if entry.domain != DOMAIN:
            return
        if change is ConfigEntryChange.REMOVED:
            _, unsub = self._coordinators.pop(entry.entry_id, (None, None))
            if unsub:
                unsub()
        else:
            self._async_listen(entry)
        self._async_note(entry.entry_id)

    @callback
    def _async_listen(self, entry: HomelabConfigEntry) -> None:
        """Listen to the polls of a host that is loaded; each reload makes another coordinator."""
        coordinator = entry.runtime_data if entry.state is ConfigEntryState.LOADED else None
        known, unsub = self._coordinators.pop(entry.entry_id, (None, None))
        if unsub and known is coordinator:
            self._coordinators[entry.entry_id] = known, unsub
            return
        if unsub:
            unsub()
        if coordinator is None:
            return

        @callback
        def async_polled() -> None:
            self._async_note(entry.entry_id)

        self._coordinators[entry.entry_id] = coordinator, coordinator.async_add_listener(async_polled)

    @callback
    def _async_note(self, entry_id: str) -> None:
        """Note a host whose row may have changed, and send it soon."""
        self._changed.add(entry_id)
        if self._cancel is None:
            wait = max(0.0, self._sent + MESSAGE_SECONDS - time.monotonic())
            self._cancel = async_call_later(
                self._hass, wait, HassJob(self._async_send, "fleet rows", cancel_on_shutdown=True)
            )

    @callback
    def _async_send(self, _now: object) -> None:
        """Send the rows that have changed."""
        self._cancel, self._sent = None, time.monotonic()
        changed, removed = [], []
        for entry_id in sorted(self._changed):
            entry, before = self._hass.config_entries.async_get_entry(entry_id), self._rows.get(entry_id)
            row = _host_row(entry, before) if entry else None
            if row is None:
                if self._rows.pop(entry_id, None):
                    removed.append(entry_id)
            elif row != before:
                self._rows[entry_id] = row
                changed.append(row)
        self._changed.clear()
        if changed or removed:
            update = FleetUpdate(rows=tuple(changed), removed=tuple(removed))
            for viewer in tuple(self._viewers):
                viewer(update)


def _host_row(entry: HomelabConfigEntry, before: HostRow | None) -> HostRow | None:
    """Return the row of a host, None for a disabled entry; one that is not loaded keeps its values."""
    if entry.disabled_by is not None:
        return None
    address = HostAddress.from_data(entry.data)
    if entry.state is ConfigEntryState.LOADED:
        coordinator = entry.runtime_data
        row = fleet_row(entry.entry_id, entry.title, address.platform, coordinator.data, coordinator.thresholds)
        return HostRow(row, address.target.host)
    status = "loading" if entry.state in _LOADING else "setup_failed"
    if before is None:
        options = HostOptions.from_options(entry.options)
        thresholds = Thresholds(disk_percent=options.disk_threshold, memory_percent=options.memory_threshold)
        row = fleet_row(entry.entry_id, entry.title, address.platform, HostState(), thresholds)
        return HostRow(replace(row, status=status), address.target.host)
    since = before.row.since if before.row.status == status else time.time()
    return HostRow(replace(before.row, title=entry.title, status=status, since=since), address.target.host)
