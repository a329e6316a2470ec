"""Watch every machine that SSH reaches: set up and unload one host.

One config entry is one host. Setting up contacts nobody: entities start from what is stored, and
the first poll happens beside it, so that a host that is off never delays Home Assistant.
"""

from homeassistant.const import EVENT_HOMEASSISTANT_STOP, Platform
from homeassistant.core import Event, HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.device_registry import AnyDeviceEntry
from homeassistant.helpers.typing import ConfigType

from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import device_identifier
from .issues import async_remove_issues
from .services import async_setup_services
from .sessions import async_new_session
from .settings import HostAddress, HostOptions
from .store import HostStore

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)
PLATFORMS = (
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.SENSOR,
    Platform.SWITCH,
    Platform.UPDATE,
)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:  # noqa: ARG001
    """Set up what all hosts share."""
    async_setup_services(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:
    """Set up one host from what is remembered of it, then poll it for the first time."""
    address = HostAddress.from_data(entry.data)
    options = HostOptions.from_options(entry.options)
    store = HostStore(hass, entry.entry_id, address.host_id)
    await store.async_load()
    session = await async_new_session(
        hass, address.target, address.host_keys, timeout=options.timeout, each_poll=options.connect_each_poll
    )
    coordinator = HomelabCoordinator(hass, entry, store, session)
    entry.runtime_data = coordinator

    async def async_stop(_event: Event) -> None:
        """Leave nothing running on the host."""
        await coordinator.async_close()

    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, async_stop))
    # Entities and parts of the host refer to its device.
    coordinator.async_register_device(store.memory.snapshot)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    entry.async_create_background_task(hass, coordinator.async_refresh(), f"{entry.title} first poll")
    return True


async def async_unload_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:
    """Unload one host, save what it told last, and end its probe."""
    coordinator = entry.runtime_data
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded:
        await coordinator.async_close()
        await coordinator.store.async_save()
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> None:
    """Forget a host; HA's own key pair stays, as other hosts use it."""
    async_remove_issues(hass, entry.entry_id)
    await HostStore(hass, entry.entry_id, HostAddress.from_data(entry.data).host_id).async_remove()


async def async_remove_config_entry_device(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    device: AnyDeviceEntry,
) -> bool:
    """Let a person delete the device of what is gone; never the host's, nor that of what is there."""
    coordinator = entry.runtime_data
    for kind, items in coordinator.inventory.items.items():
        for item_id in items:
            if device_identifier(coordinator, kind, item_id) in device.identifiers:
                if item_id in coordinator.data.items.get(kind, {}):
                    return False
                coordinator.async_forget(kind, item_id)
                return True
    return (DOMAIN, coordinator.address.host_id) not in device.identifiers


async def async_migrate_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:  # noqa: ARG001
    """Refuse an entry that a newer version made; there is nothing older."""
    return entry.version == 1
