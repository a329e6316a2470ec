"""What all entities share: the row that describes one, its base class, and how it is added.

A row belongs to one subject and is made once per item of it. Entities appear with their item,
stay (unavailable) while it is away, and leave the registry when the inventory forgets it, with
the device that a container has of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.device_registry import ChildDeviceInfo, DeviceInfo
from homeassistant.helpers.entity import EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .client.items import Selection
from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .subjects import Subject


def always(_item: object) -> bool:
    """Say yes."""
    return True


def never_chosen(_selection: Selection, _label: str) -> bool:
    """Say no."""
    return False


@dataclass(frozen=True, kw_only=True)
class HomelabDescription[ItemT](EntityDescription):
    """One row of a platform's table; `key` is also the translation key."""

    subject: Subject[ItemT]
    """What the entity is about."""

    exists_fn: Callable[[ItemT], bool] = always
    """Whether this item has what the entity shows; once added, an entity stays."""

    enabled_fn: Callable[[ItemT], bool] = always
    """Whether the entity is enabled when it is first seen."""

    chosen_fn: Callable[[Selection, str], bool] = never_chosen
    """Whether the user chose the item, by its label: its entity is enabled whatever `enabled_fn` says."""

    stays_available: bool = False
    """Whether the entity has something to say while the host is offline."""

    option: str | None = None
    """The option of the host that has to be on for the entity to exist."""


class HomelabEntity[ItemT](CoordinatorEntity[HomelabCoordinator]):
    """One entity of one item of one host."""

    _attr_has_entity_name = True
    entity_description: HomelabDescription[ItemT]

    def __init__(self, coordinator: HomelabCoordinator, description: HomelabDescription[ItemT], item_id: str) -> None:
        """Name the entity after its item."""
        super().__init__(coordinator)
        self.entity_description = description
        self._item_id = item_id
        self._written: object = None
        subject = description.subject
        self._attr_translation_key = f"{subject.key}_{description.key}"
        self._attr_unique_id = unique_id(coordinator, description, item_id)
        self._attr_device_info = device_info(coordinator, subject, item_id)
        if subject.placeholder:
            self._attr_translation_placeholders = {subject.placeholder: subject.label(coordinator, item_id)}
        is_chosen = description.chosen_fn(coordinator.selection, subject.label(coordinator, item_id))
        if (item := self.item) is not None and not is_chosen and not description.enabled_fn(item):
            self._attr_entity_registry_enabled_default = False

    @property
    def item(self) -> ItemT | None:
        """Return what the entity is about, None while it is away."""
        return self.entity_description.subject.item(self.coordinator.data, self._item_id)

    @property
    def shown(self) -> object:
        """Return all that the state is made of, to see whether it changed."""
        return self.available

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write the state when it says something new: most polls change nothing, and a write costs 0.1 ms."""
        shown = self.shown
        if shown != self._written:
            self._written = shown
            self.async_write_ha_state()

    @property
    @override
    def available(self) -> bool:
        """Return whether the entity has something to say."""
        if self.entity_description.stays_available:
            return True
        return self.coordinator.data.is_online and self.item is not None


def unique_id(coordinator: HomelabCoordinator, description: HomelabDescription[Any], item_id: str) -> str:
    """Return the entity's lasting id: `{host}_{subject}_{item}_{key}`, without an item for the host itself."""
    parts = (coordinator.address.host_id, description.subject.key, item_id, description.key)
    return "_".join(part for part in parts if part)


def device_info(coordinator: HomelabCoordinator, subject: Subject[Any], item_id: str) -> DeviceInfo | ChildDeviceInfo:
    """Return the device of an item: one of its own, or the host's."""
    if not subject.is_device:
        return DeviceInfo(identifiers={(DOMAIN, coordinator.address.host_id)})
    return ChildDeviceInfo(
        identifiers={device_identifier(coordinator, subject.key, item_id)},
        name=subject.label(coordinator, item_id),
        parent_device_id=coordinator.device_id,
    )


def device_identifier(coordinator: HomelabCoordinator, kind: str, item_id: str) -> tuple[str, str]:
    """Return by what the device of an item is known for good."""
    return DOMAIN, f"{coordinator.address.host_id}_{kind}_{item_id}"


@callback
def _async_remove_device(coordinator: HomelabCoordinator, kind: str, item_id: str) -> None:
    """Remove the device of an item that is gone, with what is left of its entities; most items have none."""
    registry = dr.async_get(coordinator.hass)
    identifier = device_identifier(coordinator, kind, item_id)
    if device := registry.async_get_child_device_by_identifier(identifier, coordinator.config_entry.entry_id):
        registry.async_remove_device(device.id)


@callback
def async_add_items[RowT: HomelabDescription[Any]](
    entry: HomelabConfigEntry,
    platform: str,
    tables: Sequence[Iterable[RowT]],
    entity_class: Callable[[HomelabCoordinator, RowT, str], HomelabEntity[Any]],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entities of a platform now and whenever an item appears; remove what is gone for good."""
    coordinator = entry.runtime_data
    registry = er.async_get(coordinator.hass)
    every_row = tuple(row for table in tables for row in table)
    rows = tuple(row for row in every_row if _is_offered(coordinator, row))
    added: dict[tuple[str, str, str], str] = {}
    layout = -1

    def is_wanted(row: RowT, item_id: str) -> bool:
        """Say yes for what is there, and for what was there when it was last seen."""
        item = row.subject.item(coordinator.data, item_id)
        if item is not None and row.exists_fn(item):
            return True
        return registry.async_get_entity_id(platform, DOMAIN, unique_id(coordinator, row, item_id)) is not None

    @callback
    def async_check() -> None:
        """Compare the entities with the items, when something may have come or gone."""
        nonlocal layout
        if layout == coordinator.layout:
            return
        layout = coordinator.layout
        known = {(row.subject.key, row.key, item_id): row for row in rows for item_id in row.subject.ids(coordinator)}
        for place in added.keys() - known.keys():
            if entity_id := registry.async_get_entity_id(platform, DOMAIN, added.pop(place)):
                registry.async_remove(entity_id)
            _async_remove_device(coordinator, place[0], place[2])
        new = {p: row for p, row in known.items() if p not in added and is_wanted(row, p[2])}
        added.update({place: unique_id(coordinator, row, place[2]) for place, row in new.items()})
        if new:
            async_add_entities([entity_class(coordinator, row, place[2]) for place, row in new.items()])

    _async_remove_rows(coordinator, platform, (row for row in every_row if not _is_offered(coordinator, row)))
    async_check()
    entry.async_on_unload(coordinator.async_add_listener(async_check))


def _is_offered(coordinator: HomelabCoordinator, row: HomelabDescription[Any]) -> bool:
    """Tell whether the options of the host let a row exist."""
    return row.option is None or getattr(coordinator.options, row.option) is True


@callback
def _async_remove_rows(coordinator: HomelabCoordinator, platform: str, rows: Iterable[HomelabDescription[Any]]) -> None:
    """Remove the entities of rows whose option is off."""
    registry = er.async_get(coordinator.hass)
    for row in rows:
        for item_id in row.subject.ids(coordinator):
            if entity_id := registry.async_get_entity_id(platform, DOMAIN, unique_id(coordinator, row, item_id)):
                registry.async_remove(entity_id)


@callback
def async_apply_choice(
    entry: HomelabConfigEntry, platform: str, tables: Sequence[Iterable[HomelabDescription[Any]]]
) -> None:
    """Enable the entities of items that were chosen since the last time, disable those of items that no longer are.

    Only a change of the options counts, so that an entity that somebody enabled by hand stays; one
    that somebody disabled stays in any case.
    """
    coordinator = entry.runtime_data
    memory, now = coordinator.store.memory, coordinator.selection
    before = Selection(interfaces=memory.chosen_interfaces)
    if before.interfaces == now.interfaces:
        return
    memory.chosen_interfaces = now.interfaces
    coordinator.store.async_changed()
    registry = er.async_get(coordinator.hass)
    for row in (row for table in tables for row in table):
        for item_id in row.subject.ids(coordinator):
            label = row.subject.label(coordinator, item_id)
            was_chosen, is_chosen = row.chosen_fn(before, label), row.chosen_fn(now, label)
            entity_id = registry.async_get_entity_id(platform, DOMAIN, unique_id(coordinator, row, item_id))
            if entity_id is None or was_chosen == is_chosen:
                continue
            item = row.subject.item(coordinator.data, item_id)
            is_wanted = is_chosen or (item is not None and row.enabled_fn(item))
            _async_switch(coordinator.hass, registry, entity_id, is_wanted=is_wanted)


@callback
def _async_switch(hass: HomeAssistant, registry: er.EntityRegistry, entity_id: str, *, is_wanted: bool) -> None:
    """Enable an entity that the integration disabled, or disable one that is enabled."""
    disabler = er.RegistryEntryDisabler.INTEGRATION
    switched = (disabler, None) if is_wanted else (None, disabler)
    known = registry.async_get(entity_id)
    if known is not None and known.disabled_by is switched[0]:
        registry.async_update_entity(entity_id, disabled_by=switched[1])
        if not is_wanted:
            # Its last unloading left a state behind, which nobody takes away before the next start.
            hass.states.async_remove(entity_id)
