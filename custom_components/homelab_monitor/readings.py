"""The value of each metric: pure functions from a host's state, or from one of its items, by the key of the metric.

What an entity shows and what others show of the same metric come from here. Values have base units: percent (0 to
100, a container's CPU of one core), bytes, bytes and bits per second, seconds, °C, W, Hz, revolutions per minute.
None: not known, or not reported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .client.checks.report import Report
from .client.models import (
    AutomaticUpdates,
    Containers,
    Cpu,
    Fail2ban,
    FailedLogins,
    Fan,
    Filesystem,
    Firewall,
    Gpu,
    Interfaces,
    Load,
    Memory,
    Pressure,
    PressureStall,
    Security,
    SecurityPart,
    Sensors,
    Service,
    Services,
    SshServer,
    Temperature,
    Updates,
    Uptime,
)
from .client.tracking.rates import ContainerRates, CpuRates, DiskRates, InterfaceRates
from .client.tracking.values import gpu_failure, gpus, lost_gpus
from .state import HostState

type Value = bool | int | float | str | datetime | None
type Readings[ItemT] = Mapping[str, Callable[[ItemT], Value]]
"""Key of a metric → the function that reads its value."""


# ---------------------------------------------------------------- parts of a host's state


@dataclass(frozen=True, slots=True)
class PartReader[PartT, ValueT]:
    """The reader of a value from one part of a host's state: the same object has the same value."""

    part_fn: Callable[[HostState], PartT | None]
    """Returns the part, None while it is absent."""
    value_fn: Callable[[PartT], ValueT | None]

    def __call__(self, state: HostState) -> ValueT | None:
        """Return the value."""
        part = self.part_fn(state)
        return None if part is None else self.value_fn(part)


@dataclass(frozen=True, slots=True)
class Part[PartT]:
    """One part of a host's state; a reader names its field by attribute, so that mypy sees one that is misspelt."""

    of: Callable[[HostState], PartT | None]
    """Returns the part, None while it is absent."""

    def read[ValueT](self, value_fn: Callable[[PartT], ValueT | None]) -> PartReader[PartT, ValueT]:
        """Return the reader of one value of the part."""
        return PartReader(self.of, value_fn)

    def exists(self, state: HostState) -> bool:
        """Return whether the host has the part."""
        return self.of(state) is not None


CPU: Final = Part[Cpu](lambda state: state.snapshot.sections.cpu)
CPU_RATES: Final = Part[CpuRates](lambda state: state.rates.cpu)
MEMORY: Final = Part[Memory](lambda state: state.snapshot.sections.memory)
LOAD: Final = Part[Load](lambda state: state.snapshot.sections.load)
PRESSURE: Final = Part[Pressure](lambda state: state.snapshot.sections.pressure)
UPTIME: Final = Part[Uptime](lambda state: state.snapshot.sections.uptime)
SENSORS: Final = Part[Sensors](lambda state: state.snapshot.sections.sensors)
SERVICES: Final = Part[Services](lambda state: state.snapshot.sections.services)
CONTAINERS: Final = Part[Containers](lambda state: state.snapshot.sections.containers)
INTERFACES: Final = Part[Interfaces](lambda state: state.snapshot.sections.interfaces)
UPDATES: Final = Part[Updates](lambda state: state.snapshot.sections.updates)
SECURITY: Final = Part[Security](lambda state: state.snapshot.sections.security)
FIREWALL: Final = Part[Firewall](SECURITY.read(lambda security: security.firewall))
SSH: Final = Part[SshServer](SECURITY.read(lambda security: security.ssh))
AUTOMATIC_UPDATES: Final = Part[AutomaticUpdates](SECURITY.read(lambda security: security.automatic_updates))
FAILED_LOGINS: Final = Part[FailedLogins](SECURITY.read(lambda security: security.failed_logins))
FAIL2BAN: Final = Part[Fail2ban](SECURITY.read(lambda security: security.fail2ban))
LAST_TEST: Final = Part[Report](lambda state: state.last_test)


# ---------------------------------------------------------------- the host


def connectivity(state: HostState) -> bool | None:
    """Return whether the host is online, None until that is known."""
    return state.is_shown_online if state.is_known else None


def reason(state: HostState) -> str | None:
    """Return the key of the error behind the status, also of one from before this run; None where there is none."""
    if state.error:
        return state.error.key
    return (state.last_reason or None) if state.is_known and not state.is_online else None


def problem(state: HostState) -> bool | None:
    """Return whether anything is wrong with the host, None until that is known."""
    return bool(state.present_problems) if state.is_known else None


def gpu_status(state: HostState) -> str | None:
    """Return the state of the graphics cards, the worst first: broken, timed_out, lost, suspended, ok.

    None: there are none, or they cannot be read.
    """
    snapshot = state.snapshot
    if failure := gpu_failure(snapshot):
        return failure
    if not gpus(snapshot):
        return None
    if lost_gpus(snapshot):
        return "lost"
    # A card that sleeps was left asleep on purpose.
    return "suspended" if all(gpu.state == "suspended" for gpu in gpus(snapshot)) else "ok"


def gpu_telemetry(state: HostState) -> bool | None:
    """Return whether a graphics card that should be there does not answer."""
    status = gpu_status(state)
    return None if status is None else status not in ("ok", "suspended")


def boot_time(state: HostState) -> datetime | None:
    """Return when the host booted."""
    return _moment(state.snapshot.boot_time)


def package_lists(state: HostState) -> datetime | None:
    """Return when the host last learnt of new packages, by our own clock."""
    return _moment(state.snapshot.lists_time)


def _moment(epoch: float | None) -> datetime | None:
    """Return the moment of Unix seconds."""
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)


def _is_active(part: SecurityPart) -> bool | None:
    """Return whether something that protects is at work; what could not be read is neither on nor off."""
    return None if part.state == "unknown" else part.reason == "active"


def _stall(
    stall_fn: Callable[[Pressure], PressureStall | None], share_fn: Callable[[PressureStall], float | None]
) -> PartReader[PressureStall, float]:
    """Return the reader of one pressure: the share of the last minute, which is long enough to be calm."""
    return Part(PRESSURE.read(stall_fn)).read(share_fn)


HOST_READINGS: Final[Readings[HostState]] = {
    "connectivity": connectivity,
    "problem": problem,
    "cpu_usage": CPU_RATES.read(lambda rates: rates.usage_percent),
    "cpu_iowait": CPU_RATES.read(lambda rates: rates.iowait_percent),
    "cpu_frequency": CPU.read(lambda cpu: cpu.frequency_hz),
    "cpu_temperature": SENSORS.read(lambda sensors: sensors.cpu_celsius),
    "load1": LOAD.read(lambda load: load.load1),
    "load5": LOAD.read(lambda load: load.load5),
    "load15": LOAD.read(lambda load: load.load15),
    "processes": LOAD.read(lambda load: load.processes),
    "memory_usage": MEMORY.read(lambda memory: memory.used_percent),
    "memory_used": MEMORY.read(lambda memory: memory.used_bytes),
    "memory_available": MEMORY.read(lambda memory: memory.available_bytes),
    "swap_usage": MEMORY.read(lambda memory: memory.swap_used_percent),
    "cpu_pressure_some": _stall(lambda pressure: pressure.cpu, lambda stall: stall.some_avg60),
    "memory_pressure_some": _stall(lambda pressure: pressure.memory, lambda stall: stall.some_avg60),
    "memory_pressure_full": _stall(lambda pressure: pressure.memory, lambda stall: stall.full_avg60),
    "io_pressure_some": _stall(lambda pressure: pressure.io, lambda stall: stall.some_avg60),
    "io_pressure_full": _stall(lambda pressure: pressure.io, lambda stall: stall.full_avg60),
    "boot_time": boot_time,
    "primary_address": INTERFACES.read(lambda interfaces: interfaces.primary_address),
    "gpu_telemetry": gpu_telemetry,
    "failed_services": SERVICES.read(lambda services: services.failed),
    "active_services": SERVICES.read(lambda services: services.active),
    "inactive_services": SERVICES.read(lambda services: services.inactive),
    "containers": CONTAINERS.read(lambda containers: containers.total),
    "running_containers": CONTAINERS.read(lambda containers: containers.running),
    "unhealthy_containers": CONTAINERS.read(lambda containers: containers.unhealthy),
    "pending_updates": UPDATES.read(lambda updates: updates.pending),
    "security_updates": UPDATES.read(lambda updates: updates.security),
    "package_lists": package_lists,
    "reboot_required": UPDATES.read(lambda updates: updates.reboot_required),
    "firewall": FIREWALL.read(_is_active),
    "ssh_password_login": SSH.read(lambda ssh: ssh.password_login),
    "ssh_root_login": SSH.read(lambda ssh: None if ssh.root_login is None else ssh.root_login != "no"),
    "automatic_updates": AUTOMATIC_UPDATES.read(_is_active),
    "failed_logins": FAILED_LOGINS.read(lambda logins: logins.count),
    "fail2ban_bans": FAIL2BAN.read(lambda fail2ban: fail2ban.bans),
    "poll_duration": lambda state: state.poll_seconds,
    "last_test": LAST_TEST.read(lambda test: test.result.value),
}


# ---------------------------------------------------------------- its items

ACTIVE_STATES: Final = (
    "active",
    "reloading",
    "refreshing",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
)
"""Every active state that systemd knows (systemd(1), `systemctl --state=help`)."""
CONTAINER_STATES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
"""Every state of the Docker Engine API; the probe translates Podman's further ones."""
UNHEALTHY: Final = "unhealthy"
"""What `docker ps` shows beside `Up`."""
HEALTH_STATES: Final = ("starting", "healthy", "unhealthy", "none")


def active_state(unit: Service) -> str | None:
    """Return the unit's state; a word that systemd does not document is unknown."""
    return unit.active_state if unit.active_state in ACTIVE_STATES else None


def container_state(item: ContainerRates) -> str | None:
    """Return the container's state, of one that runs also that it is unhealthy; an undocumented word is unknown."""
    if item.container.is_running and item.container.is_unhealthy:
        return UNHEALTHY
    return item.container.state if item.container.state in CONTAINER_STATES else None


def container_health(item: ContainerRates) -> str | None:
    """Return what the container's own health check reports, none where it has no check."""
    return item.container.health if item.container.health in HEALTH_STATES else None


def _tens(value: float | None) -> int | None:
    """Return a number rounded to tens: the last digit of a fan's speed is noise."""
    return None if value is None else round(value / 10) * 10


FILESYSTEM_READINGS: Final[Readings[Filesystem]] = {
    "usage": lambda item: item.used_percent,
    "used": lambda item: item.used_bytes,
    "available": lambda item: item.available_bytes,
    "inodes": lambda item: item.inodes_used_percent,
}
INTERFACE_READINGS: Final[Readings[InterfaceRates]] = {
    "receive": lambda item: item.receive_bytes_per_second,
    "transmit": lambda item: item.transmit_bytes_per_second,
    "speed": lambda item: item.speed_bits_per_second,
}
DISK_READINGS: Final[Readings[DiskRates]] = {
    "read": lambda item: item.read_bytes_per_second,
    "written": lambda item: item.written_bytes_per_second,
    "busy": lambda item: item.busy_percent,
}
GPU_READINGS: Final[Readings[Gpu]] = {
    "usage": lambda item: item.usage_percent,
    "memory_usage": lambda item: item.memory_used_percent,
    "memory_used": lambda item: item.memory_used_bytes,
    "temperature": lambda item: item.temperature_celsius,
    "power": lambda item: item.power_watts,
    "power_limit": lambda item: item.power_limit_watts,
    "fan": lambda item: item.fan_percent,
    "fan_speed": lambda item: _tens(item.fan_rpm),
    "clock": lambda item: item.clock_hz,
    "memory_clock": lambda item: item.memory_clock_hz,
    "throttled": lambda item: item.is_throttled,
}
SERVICE_READINGS: Final[Readings[Service]] = {"state": active_state}
CONTAINER_READINGS: Final[Readings[ContainerRates]] = {
    "state": container_state,
    "health": container_health,
    "cpu_usage": lambda item: item.cpu_percent,
    "memory_used": lambda item: item.container.memory_bytes,
    "image": lambda item: item.container.image_reference or None,
    "restarts": lambda item: item.container.restarts,
}
TEMPERATURE_READINGS: Final[Readings[Temperature]] = {"temperature": lambda item: item.celsius}
FAN_READINGS: Final[Readings[Fan]] = {"speed": lambda item: _tens(item.rpm)}
