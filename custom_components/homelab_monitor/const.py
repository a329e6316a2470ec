"""Names and numbers that several rooms share; nothing is computed here."""

from typing import Final

DOMAIN: Final = "homelab_monitor"

CONF_PLATFORM: Final = "platform"
CONF_HOST_ID: Final = "host_id"
CONF_HOST_KEYS: Final = "host_keys"
CONF_HOST_KEYS_PROVEN: Final = "host_keys_proven"
CONF_HOME: Final = "home_host"
CONF_HOME_PORT: Final = "home_port"
CONF_MACHINE: Final = "machine"
CONF_KEY_SOURCES: Final = "key_sources"
CONF_SERVICES: Final = "services"
CONF_FILESYSTEMS: Final = "filesystems"
CONF_INTERFACES: Final = "interfaces"
CONF_CONTAINERS: Final = "containers"
CONF_SUDO: Final = "sudo"
CONF_POWER: Final = "power"
CONF_CONTROL_SERVICES: Final = "control_services"
CONF_CONTROL_CONTAINERS: Final = "control_containers"
CONF_INSTALL_UPDATES: Final = "install_updates"

SUDO_SECTIONS: Final = ("storage_health", "security", "sockets")
"""Sections that tell more with passwordless sudo; each is allowed by itself."""
SUDO_NOT_YET: Final = frozenset({"storage_health"})
"""Those of them that nothing is read for yet: a repair may prepare it, the form does not offer it."""

PLATFORM_LINUX: Final = "linux"

DEFAULT_PORT: Final = 22
DEFAULT_TIMEOUT: Final = 10

MAX_HANDSHAKES: Final = 16
"""Most SSH handshakes at once in all of HA; each costs both sides milliseconds of CPU."""
MAX_DOUBTFUL_HANDSHAKES: Final = 8
"""Most of them beside these with machines that failed last time: who is silent keeps its place until we give up."""
