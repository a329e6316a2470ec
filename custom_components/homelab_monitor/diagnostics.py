"""Return what a bug report needs, and nothing else: people attach it to public issues.

Data of a host is left out unless it is allowed here. Numbers and booleans are allowed; texts only if they describe
a kind of thing rather than this particular one. A new field of a model is left out until it is added here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
import re
from typing import Any, Final

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

from .client.checks.report import Report, restore_report
from .client.errors import first_line
from .client.limits import CONNECTIONS_LIMIT, DEVICE_TEXT_LIMIT
from .client.models import SECTIONS
from .client.probe.snapshot import Snapshot
from .const import CONF_HOST_KEYS, CONF_PLATFORM, CONF_SUDO, PLATFORM_LINUX, SUDO_SECTIONS
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .registration import Refused
from .settings import OPTIONS, HostAddress, HostOptions
from .store import HostMemory, HostStore

REDACTED: Final = "**REDACTED**"

WORDS: Final = frozenset(
    {
        "AccessControl.kind",
        "Address.scope",
        "AutomaticUpdates.tool",
        "Container.engine",
        "Container.health",
        "Container.restart_policy",
        "Container.state",
        "ContainerEngine.engine",
        "ContainerEngine.state",
        "FailedLogins.source",
        "Fail2ban.bans_unknown",
        "Filesystem.type",
        "Filesystems.complete",
        "Firewall.backend",
        "Gpu.state",
        "Gpu.throttle_reasons",
        "Gpu.vendor",
        "GpuProcesses.complete",
        "Gpus.driver",
        "Gpus.source",
        "Interface.state",
        "Interface.type",
        "InterfaceHardware.driver",
        "InterfaceHardware.type",
        "Mount.type",
        "Port.protocol",
        "SecurityPart.reason",
        "SecurityPart.state",
        "Service.active_state",
        "Service.load_state",
        "Service.origin",
        "Service.result",
        "Service.sub_state",
        "Services.complete",
        "Services.counts",
        "SshServer.conditional",
        "SshServer.root_login",
        "SshServer.source",
        "System.architecture",
        "System.init",
        "System.kernel",
        "System.os_id",
        "System.os_version",
        "System.python",
        "System.virtualization",
        "Updates.complete",
        "Updates.manager",
        "Updates.reboot_reasons",
    }
)
"""Fields whose texts, or whose keys if they are mappings, are words of a contract or versions."""
TEXTS: Final = frozenset(
    {
        "DiskHardware.model",
        "Fan.chip",
        "Fan.label",
        "Gpu.name",
        "Hardware.board",
        "Hardware.cpu_model",
        "Hardware.model",
        "Hardware.vendor",
        "System.os_id_like",
        "System.os_name",
        "Temperature.chip",
        "Temperature.label",
    }
)
"""Fields whose texts name a product."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~-]{0,63}")
_MISSING: Final = frozenset(
    {"not_installed", "not_supported", "permission_denied", "timed_out", "unreadable", "suspended"}
)
_COUNTED: Final = 100
"""Entries of what was dropped that are listed."""


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: HomelabConfigEntry) -> dict[str, Any]:
    """Return the entry, its state, and the last snapshot with its cost per section."""
    if entry.state is ConfigEntryState.LOADED:
        return {"entry": _entry(entry)} | _of_loaded(entry.runtime_data)
    store = HostStore(hass, entry.entry_id, HostAddress.from_data(entry.data).host_id)
    return {"entry": _entry(entry), "status": entry.state.value} | _memory(await store.async_read())


def _of_loaded(coordinator: HomelabCoordinator) -> dict[str, Any]:
    """Return the data of a host that is loaded."""
    state = coordinator.data
    return {
        "status": state.status,
        "since": state.since.isoformat(),
        "error": state.error.key if state.error else None,
        "poll_seconds": state.poll_seconds,
        "refused_addresses": _refused(coordinator.device.refused),
    } | _memory(replace(coordinator.store.memory, snapshot=state.snapshot))


def _memory(memory: HostMemory) -> dict[str, Any]:
    """Return the stored data of a host."""
    return {
        "clock_offset_seconds": memory.snapshot.clock_offset_seconds,
        "snapshot": _snapshot(memory.snapshot),
        "dropped": _counts(memory.snapshot.dropped),
        "inventory": {kind: len(known) for kind, known in memory.inventory.items.items()},
        "last_test": _report(restore_report(memory.last_test)),
    }


def _entry(entry: HomelabConfigEntry) -> dict[str, Any]:
    """Return the settings of a host, without text that a person typed."""
    address, options = HostAddress.from_data(entry.data), HostOptions.from_options(entry.options)
    # Numbers, and yes or no, are shown; of names it is told how many were chosen.
    shown = {name: getattr(options, name) for name in OPTIONS}
    counted = {name: len(value) if isinstance(value, tuple) else value for name, value in sorted(shown.items())}
    return {
        "version": f"{entry.version}.{entry.minor_version}",
        "is_polling_disabled": entry.pref_disable_polling,
        "port": address.target.port,
        CONF_PLATFORM: _one_of(address.platform, {PLATFORM_LINUX}),
        CONF_HOST_KEYS: len(address.host_keys),
        "options": counted | {CONF_SUDO: [_one_of(name, SUDO_SECTIONS) for name in options.sudo]},
    }


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """Return the data of the host by section; of an error only its kind."""
    missing, errors = _of_sections(snapshot.missing), _of_sections(snapshot.errors)
    return {
        "epoch": snapshot.epoch,
        "received": snapshot.received,
        "ages": _of_sections(snapshot.ages),
        "seconds": _of_sections(snapshot.seconds),
        "missing": {name: _one_of(reason, _MISSING) for name, reason in missing.items()},
        "errors": {name: "wrong_shape" if text.startswith("wrong shape") else "error" for name, text in errors.items()},
        "sections": allowed(snapshot.sections),
    }


def _of_sections[V](values: Mapping[str, V]) -> dict[str, V]:
    """Return the entries whose key is the name of a section of ours."""
    return {name: value for name, value in values.items() if name in SECTIONS}


def _one_of(word: str, words: Iterable[str]) -> str:
    """Return a word if it is one of ours, otherwise REDACTED."""
    return word if word in words else REDACTED


def _counts(dropped: Mapping[str, int]) -> dict[str, int]:
    """Return how much was dropped of what, for keys that are single words."""
    named = {name: count for name, count in dropped.items() if _WORD.fullmatch(name)}
    return dict(sorted(named.items())[:_COUNTED])


def _refused(refused: Refused) -> dict[str, Any]:
    """Return the addresses left to other devices: the manufacturer's half of each, and the device that has it."""
    taken = [{"address": f"{address[:8]}:xx:xx:xx", "device_of": name} for address, name in refused.taken.items()]
    return {
        "taken": taken[:CONNECTIONS_LIMIT],
        "taken_count": len(taken),
        "invalid": refused.invalid,
        "beyond_limit": refused.beyond_limit,
    }


def _report(report: Report | None) -> dict[str, Any] | None:
    """Return the last test by its keys, without the placeholders of their texts."""
    if report is None:
        return None
    rows = [
        {"check": row.check, "status": row.status, "reason": row.reason, "remedy": row.remedy} for row in report.rows
    ]
    return {"at": report.at, "seconds": report.seconds, "family": report.family, "rows": rows}


# ---------------------------------------------------------------- by type


def allowed(value: object, places: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - JSON
    """Return the allowed part of a value of the models; `places` holds the names of the field that it is in."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _allowed_text(value, places)
        case Mapping():
            return _allowed_mapping(value, places)
        case tuple() | list():
            return [allowed(each, places) for each in value]
    if is_dataclass(value):
        return {each.name: allowed(getattr(value, each.name), _places(value, each.name)) for each in fields(value)}
    return REDACTED


def _places(value: object, name: str) -> tuple[str, ...]:
    """Return the names of a field: by its class, and by the base classes."""
    return tuple(f"{each.__name__}.{name}" for each in type(value).__mro__)


def _allowed_text(text: str, places: Iterable[str]) -> str:
    """Return a text if its field is allowed; where a word is expected it has to look like one."""
    if not TEXTS.isdisjoint(places):
        return first_line(text)[:DEVICE_TEXT_LIMIT]
    return text if not WORDS.isdisjoint(places) and _WORD.fullmatch(text) else REDACTED


def _allowed_mapping(values: Mapping[Any, object], places: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    """Return the allowed values, with their keys only if these are words."""
    if WORDS.isdisjoint(places):
        return [allowed(value) for value in values.values()]
    return {name: allowed(value) for name, value in values.items() if _WORD.fullmatch(name)}
