"""What a bug report needs, without what must stay at home."""

from typing import Any

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .coordinator import HomelabConfigEntry

TO_REDACT = {
    "address",
    "dns_servers",
    "expected",
    "fingerprint",
    "gateway_ipv4",
    "gateway_ipv6",
    "host",
    "host_id",
    "host_keys",
    "hostname",
    "line",
    "mac",
    "machine_id_hash",
    "offered",
    "permanent_mac",
    "primary_address",
    "search_domains",
    "serial",
    "title",
    "unique_id",
    "username",
    "wwn",
}
"""Names of fields; lists that are keyed by such values are redacted by `_inventory`."""


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: HomelabConfigEntry) -> dict[str, Any]:  # noqa: ARG001
    """Return the entry, its state, and the last snapshot with its cost per section."""
    coordinator = entry.runtime_data
    state = coordinator.data
    return {
        "entry": async_redact_data(entry.as_dict(), TO_REDACT),
        "status": state.status,
        "since": state.since.isoformat(),
        "error": state.error.key if state.error else None,
        "poll_seconds": state.poll_seconds,
        "clock_offset_seconds": state.snapshot.clock_offset_seconds,
        "snapshot": async_redact_data(state.snapshot.as_dict(), TO_REDACT),
        "inventory": {kind: len(known) for kind, known in coordinator.inventory.items.items()},
        "last_test": async_redact_data(coordinator.store.memory.last_test or {}, TO_REDACT),
    }
