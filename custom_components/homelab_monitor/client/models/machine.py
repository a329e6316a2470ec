"""The host itself: operating system and hardware."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Operating system and identity of the host."""

    hostname: str
    kernel: str
    architecture: str
    os_id: str | None = None
    os_id_like: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    init: str | None = None
    virtualization: str | None = None
    boot_epoch: Epoch | None = None
    timezone_offset_seconds: int | None = None
    users: int | None = None
    python: str | None = None
    machine_id_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskHardware:
    """A disk's properties, and its permanent names."""

    size_bytes: int | None = None
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    path: str | None = None
    """Where it is plugged in, as a path that survives a reboot."""
    rotational: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceHardware:
    """A network interface's properties; `permanent_mac` only for physical ones."""

    type: str | None = None
    mac: str | None = None
    permanent_mac: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The hardware of the host."""

    threads: int
    memory_bytes: int
    vendor: str | None = None
    model: str | None = None
    board: str | None = None
    serial: str | None = None
    cpu_model: str | None = None
    sockets: int | None = None
    cores: int | None = None
    disks: Mapping[str, DiskHardware] = field(default_factory=dict)
    interfaces: Mapping[str, InterfaceHardware] = field(default_factory=dict)
