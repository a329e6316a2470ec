"""What a config entry holds, typed: the connection (data) and the options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeassistant.const import CONF_HOST, CONF_PORT, CONF_USERNAME

from .client.target import Target
from .const import (
    CONF_CONTAINERS,
    CONF_CONTROL_CONTAINERS,
    CONF_CONTROL_SERVICES,
    CONF_DISK_THRESHOLD,
    CONF_EACH_POLL,
    CONF_FILESYSTEMS,
    CONF_HOST_ID,
    CONF_HOST_KEYS,
    CONF_INSTALL_UPDATES,
    CONF_INTERFACES,
    CONF_INTERVAL,
    CONF_MAY_BE_OFF,
    CONF_MEMORY_THRESHOLD,
    CONF_PLATFORM,
    CONF_POWER,
    CONF_SERVICES,
    CONF_SUDO,
    CONF_TEMPERATURE_THRESHOLD,
    CONF_TIMEOUT,
    DEFAULT_DISK_THRESHOLD,
    DEFAULT_INTERVAL,
    DEFAULT_MEMORY_THRESHOLD,
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    PLATFORM_LINUX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """Where a host is and how it proves who it is (`entry.data`)."""

    target: Target
    host_id: str
    host_keys: tuple[str, ...]
    platform: str = PLATFORM_LINUX

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> HostAddress:
        """Read the data of a config entry."""
        return cls(
            target=Target(
                username=data[CONF_USERNAME],
                host=data[CONF_HOST],
                port=data.get(CONF_PORT, DEFAULT_PORT),
            ),
            host_id=data[CONF_HOST_ID],
            host_keys=tuple(data[CONF_HOST_KEYS]),
            platform=data.get(CONF_PLATFORM, PLATFORM_LINUX),
        )

    def as_data(self) -> dict[str, Any]:
        """Return the data of a config entry; the inverse of `from_data`."""
        return {
            CONF_HOST: self.target.host,
            CONF_PORT: self.target.port,
            CONF_USERNAME: self.target.username,
            CONF_PLATFORM: self.platform,
            CONF_HOST_ID: self.host_id,
            CONF_HOST_KEYS: list(self.host_keys),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How a host is watched (`entry.options`); seconds and percent."""

    interval: float = DEFAULT_INTERVAL
    timeout: float = DEFAULT_TIMEOUT
    services: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    disk_threshold: float = DEFAULT_DISK_THRESHOLD
    memory_threshold: float = DEFAULT_MEMORY_THRESHOLD
    temperature_threshold: float | None = None
    """None: each sensor's own critical value."""
    may_be_off: bool = False
    connect_each_poll: bool = False
    sudo: tuple[str, ...] = ()
    """Sections that may use passwordless sudo."""
    power: bool = False
    control_services: bool = False
    control_containers: bool = False
    install_updates: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> HostOptions:
        """Read the options of a config entry; what is not set has its default."""
        return cls(
            interval=options.get(CONF_INTERVAL, DEFAULT_INTERVAL),
            timeout=options.get(CONF_TIMEOUT, DEFAULT_TIMEOUT),
            services=tuple(options.get(CONF_SERVICES, ())),
            filesystems=tuple(options.get(CONF_FILESYSTEMS, ())),
            interfaces=tuple(options.get(CONF_INTERFACES, ())),
            containers=tuple(options.get(CONF_CONTAINERS, ())),
            disk_threshold=options.get(CONF_DISK_THRESHOLD, DEFAULT_DISK_THRESHOLD),
            memory_threshold=options.get(CONF_MEMORY_THRESHOLD, DEFAULT_MEMORY_THRESHOLD),
            temperature_threshold=options.get(CONF_TEMPERATURE_THRESHOLD),
            may_be_off=options.get(CONF_MAY_BE_OFF, False),
            connect_each_poll=options.get(CONF_EACH_POLL, False),
            sudo=tuple(options.get(CONF_SUDO, ())),
            power=options.get(CONF_POWER, False),
            control_services=options.get(CONF_CONTROL_SERVICES, False),
            control_containers=options.get(CONF_CONTROL_CONTAINERS, False),
            install_updates=options.get(CONF_INSTALL_UPDATES, False),
        )

    @property
    def stale_after(self) -> float:
        """Return for how many seconds after a success the host counts as online."""
        return max(3 * self.interval, self.interval + 2 * self.timeout)
