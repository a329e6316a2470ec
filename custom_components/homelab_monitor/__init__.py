"""Monitor hosts over SSH: set up and unload one host.

One config entry is one host. Setting it up contacts nothing: entities start from the stored state, and
the first poll runs in the background, so that a host that is off never delays Home Assistant.
"""

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
    ConfigEntryState,
)
from homeassistant.const import EVENT_HOMEASSISTANT_STOP, Platform
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.device_registry import AnyDeviceEntry
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.typing import ConfigType

from .api.views import async_setup_api
from .audience import async_forget_handover
from .batches import async_take_down, async_unregister
from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import async_let_go, async_note_choices, async_watch_names, device_identifier
from .flow.moves import AddressFinder, async_forget
from .health.issues import async_hide_issues, async_remove_issues, async_rename_issues
from .registration import async_watch_registry
from .services import async_setup_services
from .sessions import async_new_session
from .settings import HostAddress, HostOptions
from .store import HostStore
from .subjects import CONTAINER

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
    """Set up the parts that all hosts share."""
    async_setup_services(hass)
    async_setup_api(hass)
    async_watch_registry(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:
    """Set up one host from its stored state, then start the first poll."""
    address = HostAddress.from_data(entry.data)
    if not address.is_complete:
        raise ConfigEntryError(
            translation_domain=DOMAIN, translation_key="no_address", translation_placeholders={"name": entry.title}
        )
    options = HostOptions.from_options(entry.options)
    store = HostStore(hass, entry.entry_id, address.host_id)
    await store.async_load()
    session = await async_new_session(
        hass,
        address.target,
        address.host_keys,
        timeout=options.timeout,
        each_poll=options.connect_each_poll,
        afresh=not address.is_proven,
        machine=address.machine,
    )
    coordinator = HomelabCoordinator(hass, entry, store, session)
    entry.runtime_data = coordinator

    async def async_stop(_event: Event) -> None:
        """Leave nothing running on the host; anybody can fire such an event, so check it."""
        if hass.is_stopping:
            await coordinator.async_close()

    @callback
    def async_rename(_change: ConfigEntryChange, changed: ConfigEntry) -> None:
        """Use a new name of the host in events, errors, log lines and issues, without a reload."""
        if changed is entry:
            coordinator.name = entry.title
            async_rename_issues(hass, entry)

    entry.async_on_unload(hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, async_stop))
    async_note_choices(hass, entry)
    async_watch_names(coordinator, CONTAINER)
    entry.async_on_unload(async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, async_rename))
    # Entities and parts of the host refer to its device.
    coordinator.device.async_update(store.memory.snapshot)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    entry.async_on_unload(coordinator.async_add_listener(AddressFinder(coordinator).async_polled))
    entry.async_on_unload(async_at_started(hass, coordinator.async_started))
    entry.async_create_background_task(hass, coordinator.async_refresh(), f"{entry.title} first poll")
    return True


async def async_unload_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:
    """Unload one host, save its last state, and end its probe."""
    coordinator = entry.runtime_data
    coordinator.async_leave()
    await async_take_down(hass, entry)
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded:
        await coordinator.async_close()
        await coordinator.store.async_close()
    if entry.disabled_by is not None:
        async_hide_issues(hass, entry.entry_id)
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> None:
    """Forget a host; HA's own key pair stays, as other hosts use it."""
    async_remove_issues(hass, entry.entry_id)
    async_forget(hass, entry.entry_id)
    async_forget_handover(hass, entry.entry_id)
    await async_unregister(hass, entry.entry_id)
    async_let_go(hass, entry.entry_id)
    await HostStore(hass, entry.entry_id, HostAddress.from_data(entry.data).host_id).async_remove()


async def async_remove_config_entry_device(
    hass: HomeAssistant,
    entry: HomelabConfigEntry,
    device: AnyDeviceEntry,
) -> bool:
    """Return whether a person may delete a device: not the host's, nor that of an item that is present.

    While a host is not loaded it is unknown what is present: such an item comes back as a new one.
    """
    host_id = HostAddress.from_data(entry.data).host_id
    if (DOMAIN, host_id) in device.identifiers:
        return False
    is_loaded = entry.state is ConfigEntryState.LOADED
    store = entry.runtime_data.store if is_loaded else HostStore(hass, entry.entry_id, host_id)
    memory = store.memory if is_loaded else await store.async_load()
    for kind, items in memory.inventory.items.items():
        for item_id in items:
            if device_identifier(host_id, kind, item_id) not in device.identifiers:
                continue
            if not is_loaded:
                memory.inventory.forget(kind, item_id)
                await store.async_save()
            elif item_id in entry.runtime_data.data.items.get(kind, {}):
                return False
            else:
                entry.runtime_data.async_forget(kind, item_id)
            return True
    return True


async def async_migrate_entry(hass: HomeAssistant, entry: HomelabConfigEntry) -> bool:  # noqa: ARG001
    """Return whether the entry is usable: not one of a newer major version; there is no older one."""
    return entry.version == 1
