"""Register the device of a host: nothing but its own device, at a bounded rate.

Other integrations find their devices in the registry by network address. So an address is a claim, and a host
can claim any: an address that another device has is left to that device, however late it comes. The content of
the registry decides, not the order in which hosts or integrations are set up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
import logging
import operator
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.device_registry import DeviceEntry, EventDeviceRegistryUpdatedData

from .client.bucket import Bucket
from .client.errors import first_line
from .client.limits import CONNECTIONS_LIMIT, DEVICE_TEXT_LIMIT, DEVICE_WRITES
from .client.models import Hardware
from .client.probe.snapshot import Snapshot
from .client.tracking.addresses import card_addresses
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The network addresses that a host reports as its own but that are not registered for it."""

    taken: Mapping[str, str] = field(default_factory=dict)
    """Address → the integration whose device has it."""
    invalid: int = 0
    beyond_limit: int = 0


@callback
def async_watch_registry(hass: HomeAssistant) -> None:
    """Release an address at once when another integration registers it, whether its host is on, off or disabled."""

    @callback
    def async_release(event: Event[EventDeviceRegistryUpdatedData]) -> None:
        registry = dr.async_get(hass)
        other = registry.async_get(event.data["device_id"])
        if not isinstance(other, DeviceEntry) or _domain(hass, other) == DOMAIN:
            return
        for ours in registry.async_get_devices(connections=other.connections):
            if _domain(hass, ours) == DOMAIN:
                registry.async_update_device(ours.id, new_connections=ours.connections - other.connections)

    hass.bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, async_release, event_filter=_has_new_connections)


@callback
def _has_new_connections(data: EventDeviceRegistryUpdatedData) -> bool:
    """Return whether a change of the registry may add an address to a device."""
    return data["action"] == "create" or (data["action"] == "update" and "connections" in data["changes"])


class HostDevice:
    """The device of one host."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any], host_id: str) -> None:
        """Remember the host; nothing is registered yet."""
        self._registry = dr.async_get(hass)
        self._hass = hass
        self._entry = entry
        self._identifier = (DOMAIN, host_id)
        self._seen: tuple[object, ...] = (None, None, None)
        self._has_logged = False
        self._bucket = Bucket(*DEVICE_WRITES)
        self.refused = Refused()
        self.id = ""

    @callback
    def async_update(self, snapshot: Snapshot) -> None:
        """Update the device from what the host reports about itself, network cards included.

        A section that was read again is compared even if it is equal: another device may have been added.
        """
        sections = snapshot.sections
        seen = (self._entry.title, sections.system, sections.hardware)
        if all(map(operator.is_, seen, self._seen, strict=True)):
            return
        device = self._device()
        changes = _changes(device, {"name": self._entry.title, **_facts(snapshot)})
        changes |= _changes(device, {"connections": self._claimed(device, sections.hardware)})
        # Without a token the changes are compared again at the next poll.
        if not changes or self._bucket.take():
            self._seen = seen
            self._write(device, changes)

    def _device(self) -> DeviceEntry:
        """Return the device, which is found only by our own identifier; a new one has just that and its name."""
        device = self._registry.async_get(self.id) if self.id else None
        if not isinstance(device, DeviceEntry):
            device = self._registry.async_get_or_create(
                config_entry_id=self._entry.entry_id, identifiers={self._identifier}, name=self._entry.title
            )
            self.id = device.id
        return device

    def _write(self, device: DeviceEntry, changes: dict[str, Any]) -> None:
        """Write the changes; connections are replaced, as a card may have been removed."""
        if "connections" in changes:
            changes["new_connections"] = changes.pop("connections")
        if changes:
            self._registry.async_update_device(device.id, **changes)

    def _claimed(self, device: DeviceEntry, hardware: Hardware | None) -> set[tuple[str, str]]:
        """Return the connections of this host; note the refused ones, and log them once.

        A host that does not report its cards keeps its connections, except those of another device.
        """
        addresses, invalid = card_addresses(hardware) if hardware else (_held(device), 0)
        taken = {address: holder for address in addresses if (holder := self._holder(device, address))}
        free = [address for address in addresses if address not in taken]
        self.refused = Refused(taken=taken, invalid=invalid, beyond_limit=max(0, len(free) - CONNECTIONS_LIMIT))
        self._log()
        return {(dr.CONNECTION_NETWORK_MAC, address) for address in free[:CONNECTIONS_LIMIT]}

    def _holder(self, device: DeviceEntry, address: str) -> str | None:
        """Return the integration of the other device that has an address, None if it is free."""
        connection = (dr.CONNECTION_NETWORK_MAC, address)
        for other in self._registry.async_get_devices(connections={connection}):
            domain = _domain(self._hass, other)
            # Two hosts may both have it from a version that did not check: then the younger one releases it.
            is_junior = domain == DOMAIN and connection in device.connections and _age(device) < _age(other)
            if other.id != device.id and not is_junior:
                return domain
        return None

    def _log(self) -> None:
        """Log once which addresses are left to others; usually to a router that lists its machines."""
        if self._has_logged or not self.refused.taken:
            return
        self._has_logged = True
        level = logging.WARNING if DOMAIN in self.refused.taken.values() else logging.INFO
        listed = ", ".join(list(self.refused.taken)[:CONNECTIONS_LIMIT])
        _LOGGER.log(
            level,
            "%s reports MAC addresses that belong to other devices and stay with them: %s",
            self._entry.title,
            listed,
        )


def _held(device: DeviceEntry) -> tuple[str, ...]:
    """Return the addresses that a device has in the registry."""
    return tuple(sorted(address for kind, address in device.connections if kind == dr.CONNECTION_NETWORK_MAC))


def _domain(hass: HomeAssistant, device: DeviceEntry) -> str:
    """Return the integration that a device belongs to."""
    entry = hass.config_entries.async_get_entry(device.config_entry_id)
    return entry.domain if entry else ""


def _age(device: DeviceEntry) -> tuple[object, str]:
    """Return a sort key that is smaller for the older of two devices."""
    return device.created_at, device.id


def _facts(snapshot: Snapshot) -> dict[str, str | None]:
    """Return the device fields that the host has reported; None removes a field, missing ones stay."""
    facts: dict[str, str | None] = {}
    if system := snapshot.sections.system:
        facts["sw_version"] = system.os_name or system.kernel
    if hardware := snapshot.sections.hardware:
        facts |= {"manufacturer": hardware.vendor, "model": hardware.model, "serial_number": hardware.serial}
    return {name: text and (first_line(text)[:DEVICE_TEXT_LIMIT] or None) for name, text in facts.items()}


def _changes(device: DeviceEntry, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wanted fields that differ from the device."""
    return {name: value for name, value in wanted.items() if getattr(device, name) != value}
