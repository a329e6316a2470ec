"""What outlives a restart: HA's own key pair, and per host its last known state.

The key pair is one for all hosts, in a private file (0600) of HA's storage, made on first
use. A host's file holds its inventory, last snapshot and last test.
"""

import asyncio
from dataclasses import dataclass, field
import logging
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store
from homeassistant.util.hass_dict import HassKey

from .client.inventory import Inventory, restore_inventory
from .client.keys import KeyPair
from .client.snapshot import Snapshot, restore_snapshot
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)

KEY_STORAGE_KEY = f"{DOMAIN}.ssh_key"
STORAGE_VERSION = 1
SAVE_DELAY_SECONDS = 900.0

_KEY: HassKey[KeyPair] = HassKey(f"{DOMAIN}_key")
_KEY_LOCK: HassKey[asyncio.Lock] = HassKey(f"{DOMAIN}_key_lock")
_HANDED_OVER: HassKey[dict[str, HostMemory]] = HassKey(f"{DOMAIN}_handed_over")


async def async_get_key(hass: HomeAssistant) -> KeyPair:
    """Return HA's own key pair; it is made and saved on the first call."""
    async with hass.data.setdefault(_KEY_LOCK, asyncio.Lock()):
        if _KEY not in hass.data:
            hass.data[_KEY] = await _async_load_key(hass)
        return hass.data[_KEY]


async def _async_load_key(hass: HomeAssistant) -> KeyPair:
    """Load the key pair, or make one."""
    store: Store[dict[str, str]] = Store(hass, STORAGE_VERSION, KEY_STORAGE_KEY, private=True, atomic_writes=True)
    if stored := await store.async_load():
        try:
            return KeyPair.from_private(stored["private_key"])
        except (ValueError, LookupError, TypeError) as err:
            _LOGGER.warning(
                "The SSH key in %s cannot be read (%s); hosts have to be told a new one", KEY_STORAGE_KEY, err
            )
            await _async_set_aside(hass, KEY_STORAGE_KEY, stored)
    key = await hass.async_add_executor_job(KeyPair.generate)
    await store.async_save({"private_key": key.private_openssh})
    return key


async def _async_set_aside(hass: HomeAssistant, key: str, stored: dict[str, Any]) -> None:
    """Keep what cannot be understood under another name."""
    aside: Store[dict[str, Any]] = Store(hass, STORAGE_VERSION, f"{key}.unreadable", private=True, atomic_writes=True)
    await aside.async_save(stored)


@dataclass(slots=True, kw_only=True)
class HostMemory:
    """What is remembered of one host; `is_current`: it was seen this very moment."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    inventory: Inventory = field(default_factory=Inventory)
    last_test: dict[str, Any] | None = None
    chosen_interfaces: tuple[str, ...] = ()
    """The option of that name as it was last applied to the entities."""
    upgrade: str = ""
    """The package manager that installs updates there, as long as nobody has been told how that ended."""
    is_current: bool = False


@callback
def async_hand_over(hass: HomeAssistant, host_id: str, memory: HostMemory) -> None:
    """Keep what the config flow just learned until the new entry's store asks for it."""
    memory.is_current = True
    hass.data.setdefault(_HANDED_OVER, {})[host_id] = memory


class HostStore:
    """The file of one host.

    A delayed save that is re-armed at every poll would never happen, so the first change
    arms it once; what must not be lost is saved at once.
    """

    def __init__(self, hass: HomeAssistant, entry_id: str, host_id: str) -> None:
        """Name the file after the config entry."""
        self._hass = hass
        self._host_id = host_id
        self._key = f"{DOMAIN}.{entry_id}"
        self._store: Store[dict[str, Any]] = Store(hass, STORAGE_VERSION, self._key, atomic_writes=True)
        self._is_dirty = False
        self.memory = HostMemory()

    async def async_load(self) -> HostMemory:
        """Read the file; one that cannot be understood is moved aside and logged."""
        handed_over = self._hass.data.get(_HANDED_OVER, {}).pop(self._host_id, None)
        stored = await self._store.async_load()
        if stored is None:
            self.memory = handed_over or self.memory
            return self.memory
        try:
            self.memory = HostMemory(
                snapshot=restore_snapshot(stored["snapshot"]),
                inventory=restore_inventory(stored["inventory"]),
                last_test=stored.get("last_test"),
                chosen_interfaces=tuple(stored.get("chosen_interfaces", ())),
                upgrade=str(stored.get("upgrade", "")),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as err:
            _LOGGER.warning(
                "The stored state of %s cannot be read and was moved to %s.unreadable: %s",
                self._key,
                self._key,
                err,
            )
            await self._async_set_aside(stored)
        return self.memory

    async def _async_set_aside(self, stored: dict[str, Any]) -> None:
        """Keep what cannot be understood under another name."""
        aside: Store[dict[str, Any]] = Store(self._hass, STORAGE_VERSION, f"{self._key}.unreadable", atomic_writes=True)
        await aside.async_save(stored)
        await self._store.async_remove()

    @callback
    def async_changed(self) -> None:
        """Note that the snapshot changed; it is saved within 15 minutes and at stop."""
        if not self._is_dirty:
            self._is_dirty = True
            self._store.async_delay_save(self._plain, SAVE_DELAY_SECONDS)

    async def async_save(self) -> None:
        """Save at once."""
        await self._store.async_save(self._plain())

    async def async_remove(self) -> None:
        """Delete the file."""
        await self._store.async_remove()

    @callback
    def _plain(self) -> dict[str, Any]:
        """Return the memory as plain JSON values."""
        self._is_dirty = False
        return {
            "snapshot": self.memory.snapshot.as_dict(),
            "inventory": self.memory.inventory.as_dict(),
            "last_test": self.memory.last_test,
            "chosen_interfaces": list(self.memory.chosen_interfaces),
            "upgrade": self.memory.upgrade,
        }
