"""Names and numbers that several modules share; nothing is computed here."""

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
"""Sections that report more with passwordless sudo; each is allowed separately."""
SUDO_NOT_YET: Final = frozenset({"storage_health"})
"""Those of them that are not read yet: a repair may prepare them, but the form does not offer them."""

PLATFORM_LINUX: Final = "linux"

DEFAULT_PORT: Final = 22
DEFAULT_TIMEOUT: Final = 10

MAX_HANDSHAKES: Final = 16
"""Maximum number of SSH handshakes at once in all of HA; each costs both sides milliseconds of CPU."""
MAX_DOUBTFUL_HANDSHAKES: Final = 8
"""Maximum number of additional handshakes with machines that failed last time: a silent one blocks its place."""
