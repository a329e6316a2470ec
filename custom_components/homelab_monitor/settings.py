"""The typed content of a config entry: the connection (data) and the options."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import (
    CONF_HOST,
    CONF_PORT,
    CONF_USERNAME,
    PERCENTAGE,
    UnitOfTemperature,
    UnitOfTime,
)
from homeassistant.core import HomeAssistant

from .client.transport.keys import parse_sources
from .client.transport.target import Target
from .client.typed import Seconds, Texts, number, restored, text, texts, yes
from .const import (
    CONF_HOME,
    CONF_HOME_PORT,
    CONF_HOST_ID,
    CONF_HOST_KEYS,
    CONF_HOST_KEYS_PROVEN,
    CONF_KEY_SOURCES,
    CONF_MACHINE,
    CONF_PLATFORM,
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    PLATFORM_LINUX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """Where a host is and how it proves its identity (`entry.data`)."""

    target: Target
    host_id: str
    host_keys: tuple[str, ...]
    platform: str = PLATFORM_LINUX
    is_proven: bool = True
    """Each of the keys was confirmed by a person, or proven over one that was; older versions did not ensure that."""
    home: str = ""
    """The address that a person gave, if the entry has followed its host to another one."""
    home_port: int = 0
    """The port at that address, if it is another one."""
    machine: str = ""
    """What the host derives from its machine-id, as of when a person last identified the machine; "" if unknown.

    It differs from the `host_id` for a reinstalled machine, which keeps that, and for a clone.
    """
    key_sources: tuple[str, ...] = ()
    """The addresses and networks to which a person limited our key, in every line that is offered for this host."""

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> HostAddress:
        """Parse the data of a config entry; invalid values are left out, as anybody may have edited the file.

        Without a host key no machine is trusted, and without the rest of `is_complete` none is contacted.
        """
        return cls(
            target=Target(
                username=text(data.get(CONF_USERNAME)),
                host=text(data.get(CONF_HOST)),
                port=_port(data.get(CONF_PORT)),
            ),
            host_id=text(data.get(CONF_HOST_ID)),
            host_keys=texts(data.get(CONF_HOST_KEYS)),
            platform=text(data.get(CONF_PLATFORM), PLATFORM_LINUX),
            is_proven=yes(data.get(CONF_HOST_KEYS_PROVEN)),
            home=text(data.get(CONF_HOME)),
            home_port=_port(data.get(CONF_HOME_PORT), 0),
            machine=text(data.get(CONF_MACHINE)),
            key_sources=_sources(data.get(CONF_KEY_SOURCES)),
        )

    @property
    def is_complete(self) -> bool:
        """Return whether it describes a login on a machine."""
        return bool(self.target.username and self.target.host and self.host_id)

    @property
    def confirmed_keys(self) -> tuple[str, ...]:
        """Return the keys that a person has confirmed; for an older entry only the one that could be compared."""
        return self.host_keys if self.is_proven else self.host_keys[:1]

    def is_same(self, other: HostAddress) -> bool:
        """Return whether both are one login on one machine, regardless of keys that it proved or retired since."""
        is_here = (self.target, self.host_id) == (other.target, other.host_id)
        has_same_key = self.host_keys == other.host_keys or not set(self.host_keys).isdisjoint(other.host_keys)
        return is_here and has_same_key

    @property
    def given(self) -> Target:
        """Return the target that a person gave."""
        return replace(self.target, host=self.home or self.target.host, port=self.home_port or self.target.port)

    def at(self, there: Target) -> HostAddress:
        """Return this host at another address, with the given one as its home, or back at the given one."""
        given = self.given
        if there.address == given.address:
            return replace(self, target=there, home="", home_port=0)
        return replace(self, target=there, home=given.host, home_port=0 if given.port == there.port else given.port)

    def with_home_of(self, known: HostAddress) -> HostAddress:
        """Return this address with the home of a known host, which is followed to here."""
        there = known.at(self.target)
        return replace(self, home=there.home, home_port=there.home_port)

    def as_data(self) -> dict[str, Any]:
        """Return the data of a config entry; the inverse of `from_data`."""
        return {
            CONF_HOST: self.target.host,
            CONF_PORT: self.target.port,
            CONF_USERNAME: self.target.username,
            CONF_PLATFORM: self.platform,
            CONF_HOST_ID: self.host_id,
            CONF_HOST_KEYS: list(self.host_keys),
            CONF_HOST_KEYS_PROVEN: self.is_proven,
            CONF_HOME: self.home,
            CONF_HOME_PORT: self.home_port,
            CONF_MACHINE: self.machine,
            CONF_KEY_SOURCES: list(self.key_sources),
        }


class Section(StrEnum):
    """The parts of the form of options that are folded."""

    THRESHOLDS = "thresholds"
    CONNECTION = "connection"
    PRIVILEGES = "privileges"


@dataclass(frozen=True, slots=True)
class Option:
    """How the form asks for an option; its default says whether it is yes or no, a number, or names."""

    section: Section | None = None
    """None: above the folded parts."""
    least: float = 0
    most: float = 0
    unit: str = ""
    default: bool | float | tuple[str, ...] | None = None
    """That of its field. A number whose default is None may be left empty."""


_OPTION = "option"


def _form(section: Section, least: float = 0, most: float = 0, unit: str = "") -> dict[str, Option]:
    """Return the metadata of an option in a folded part of the form."""
    return {_OPTION: Option(section, least, most, unit)}


_CONNECTION, _PRIVILEGE = _form(Section.CONNECTION), _form(Section.PRIVILEGES)
_PERCENT = _form(Section.THRESHOLDS, 1, 100, PERCENTAGE)
_CELSIUS = _form(Section.THRESHOLDS, 30, 120, UnitOfTemperature.CELSIUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How a host is watched (`entry.options`), in the order of the form; seconds and percent."""

    services: Texts = ()
    filesystems: Texts = ()
    interfaces: Texts = ()
    containers: Texts = ()
    disk_threshold: float = field(default=90, metadata=_PERCENT)
    memory_threshold: float = field(default=95, metadata=_PERCENT)
    cpu_threshold: float | None = field(default=None, metadata=_PERCENT)
    """None: a busy CPU is no problem."""
    temperature_threshold: float | None = field(default=None, metadata=_CELSIUS)
    """None: each sensor's own critical value."""
    interval: Seconds = field(default=10, metadata=_form(Section.CONNECTION, 5, 300, UnitOfTime.SECONDS))
    timeout: Seconds = field(default=DEFAULT_TIMEOUT, metadata=_form(Section.CONNECTION, 3, 90, UnitOfTime.SECONDS))
    may_be_off: bool = field(default=False, metadata=_CONNECTION)
    connect_each_poll: bool = field(default=False, metadata=_CONNECTION)
    sudo: Texts = field(default=(), metadata=_PRIVILEGE)
    """Sections that may use passwordless sudo."""
    power: bool = field(default=False, metadata=_PRIVILEGE)
    control_services: bool = field(default=False, metadata=_PRIVILEGE)
    control_containers: bool = field(default=False, metadata=_PRIVILEGE)
    install_updates: bool = field(default=False, metadata=_PRIVILEGE)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> HostOptions:
        """Parse the options of a config entry; missing or invalid ones have their default."""
        return restored(cls, options)

    @property
    def stale_after(self) -> float:
        """Return for how many seconds after a success the host counts as online."""
        return max(3 * self.interval, self.interval + 2 * self.timeout)


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {each.name: replace(each.metadata.get(_OPTION, Option()), default=each.default) for each in fields(HostOptions)}
)
"""What `entry.options` may hold, in the order of the form."""
PRIVILEGES = tuple(name for name, option in OPTIONS.items() if option.section is Section.PRIVILEGES)
"""The options that let more than watch; each is given to one machine, and not to another that takes its place."""


def _port(value: object, default: int = DEFAULT_PORT) -> int:
    """Return a valid port number, otherwise the default."""
    given = number(value, default)
    return int(given) if 0 < given < 2**16 else default


def _sources(value: object) -> tuple[str, ...]:
    """Return valid addresses and networks, otherwise none: they become part of a command line."""
    try:
        return parse_sources(" ".join(texts(value)))
    except ValueError:
        return ()


def is_monitored(hass: HomeAssistant, entry: ConfigEntry[Any]) -> bool:
    """Return whether an entry still exists and is not disabled: both may change while we wait for the network."""
    return hass.config_entries.async_get_entry(entry.entry_id) is entry and entry.disabled_by is None


def without_privileges(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without privileges, for a machine not proven to be the one that they were granted to."""
    return {name: value for name, value in options.items() if name not in PRIVILEGES}
