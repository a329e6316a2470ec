"""What all entities share: the row that describes them, their base class, and how they are added.

A row belongs to one subject and becomes one entity per item of it. Entities appear with their item,
stay (unavailable) while it is absent, and leave the registry when the inventory forgets it, together
with a container's own device.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
import math
import time
from typing import TYPE_CHECKING, Any, Final, override

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
    ConfigEntryState,
)
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.device_registry import ChildDeviceInfo, DeviceInfo
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity import EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity
from homeassistant.util.hass_dict import HassKey

from .attributes import fitting, shortened
from .batches import async_spread
from .client.bucket import Bucket
from .client.limits import (
    ATTRIBUTES_LIMIT,
    DELETED_DEVICES,
    DELETED_ENTITIES,
    ENTITY_WRITES,
    OWN_ATTRIBUTES_BYTES,
    STATE_LIMIT,
)
from .client.tracking.items import SHOWN, Selection
from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .known_hosts import is_taken, looks_of
from .settings import HostOptions
from .subjects import Subject

_LOOKS: HassKey[dict[str, tuple[object, frozenset[str]]]] = HassKey(f"{DOMAIN}_looks_of_others")
"""Entry id → the other hosts, and what their names look like."""
NEW_VALUES_SECONDS = 60.0
"""How soon an item's new value is looked for: swap is switched on, a driver is loaded."""
_ATTRIBUTES_BYTES: Final = (ATTRIBUTES_LIMIT - OWN_ATTRIBUTES_BYTES) * 2 // 3
"""The share of `attributes` in an entity's attributes; the rest is for those that its platform adds."""
_PLATFORM_BYTES: Final = ATTRIBUTES_LIMIT - OWN_ATTRIBUTES_BYTES - _ATTRIBUTES_BYTES
type Place = tuple[str, str, str]
"""Where an entity belongs: key of its subject, key of its row, id of its item."""


def always(_item: object) -> bool:
    """Return True."""
    return True


def never_chosen(_selection: Selection, _name: str) -> bool:
    """Return False."""
    return False


@dataclass(frozen=True, kw_only=True)
class HomelabDescription[ItemT](EntityDescription):
    """One row of a platform's table; `key` is also the translation key."""

    subject: Subject[ItemT]
    """What the entity is about."""

    exists_fn: Callable[[ItemT], bool] = always
    """Whether this item has the value that the entity shows; once added, an entity stays."""

    enabled_fn: Callable[[ItemT], bool] = always
    """Whether the entity is enabled at first; by default it is, unless the host has a crowd of such items."""

    of_few: bool = False
    """Whether the entity is enabled at first only if the host has few items of the kind."""

    chosen_fn: Callable[[Selection, str], bool] = never_chosen
    """Whether the user selected the item, by its name: its entity is enabled whatever `enabled_fn` returns."""

    stays_available: bool = False
    """Whether the entity is available while the host is offline."""

    offered_fn: Callable[[HostOptions], bool] = always
    """Whether the options of the host allow the entity."""


class HomelabEntity[ItemT](CoordinatorEntity[HomelabCoordinator]):
    """One entity of one item of one host."""

    _attr_has_entity_name = True
    entity_description: HomelabDescription[ItemT]

    def __init__(self, coordinator: HomelabCoordinator, description: HomelabDescription[ItemT], item_id: str) -> None:
        """Set the entity's ids, device and names from its item."""
        super().__init__(coordinator)
        self.entity_description = description
        self._item_id = item_id
        self._written: object = None
        self._writes = Bucket(*ENTITY_WRITES)
        self._attributes_seen: Mapping[str, Any] | None = None
        self._fitting: Mapping[str, Any] | None = None
        subject = description.subject
        self._attr_translation_key = f"{subject.key}_{description.key}"
        self._attr_unique_id = unique_id(coordinator, description, item_id)
        self._attr_device_info = device_info(coordinator, subject, item_id)
        if subject.placeholder:
            self._attr_translation_placeholders = {subject.placeholder: subject.label(coordinator, item_id)}

    @callback
    def async_leave_disabled(self) -> None:
        """Disable the entity by default; called before it is added."""
        self._attr_entity_registry_enabled_default = False

    @property
    def item(self) -> ItemT | None:
        """Return the item of the entity, None while it is absent."""
        return self.entity_description.subject.item(self.coordinator.data, self._item_id)

    @property
    def shown(self) -> object:
        """Return everything that the state is made of, to detect a change."""
        return self.available

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write the state if it has changed: most polls change nothing, and a write costs 0.1 ms."""
        shown = self.shown
        if shown != self._written and self._may_write():
            self._written = shown
            self.async_write_ha_state()

    def _may_write(self) -> bool:
        """Return whether one more change of text may be written now; if not, the latest is written as soon as it may.

        A host that changes its texts at each poll would fill the database. A host that is offline sends none.
        """
        if not self.coordinator.data.is_online:
            return True
        return self._writes.take() and self.coordinator.may_write(self.entity_description.subject.key, self._item_id)

    @property
    def attributes(self) -> Mapping[str, Any] | None:
        """Return the attributes of the state, of any length."""
        return None

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any] | None:
        """Return the attributes of the state, as far as they fit."""
        if (attributes := self.attributes) != self._attributes_seen:
            self._attributes_seen, self._fitting = attributes, attributes and fitting(attributes, _ATTRIBUTES_BYTES)
        return self._fitting

    if not TYPE_CHECKING:  # Platforms declare it final, against overriding it, which this does not do.

        @property
        def state_attributes(self) -> dict[str, Any] | None:
            """Return the attributes that the platform adds for versions or an event, as far as they fit."""
            attributes = super().state_attributes
            return attributes and fitting(attributes, _PLATFORM_BYTES)

    @override
    def _stringify_state(self, available: bool) -> str:
        """Return the state, shortened to Home Assistant's limit: otherwise it would log an error at each poll."""
        return shortened(super()._stringify_state(available), STATE_LIMIT)

    @property
    @override
    def available(self) -> bool:
        """Return whether the entity has a state to show."""
        return self._is_available(self.item)

    def _is_available(self, item: ItemT | None) -> bool:
        """Return whether the entity has a state to show for its item as it is now."""
        return self.entity_description.stays_available or (item is not None and self.coordinator.data.is_online)


@dataclass(frozen=True, slots=True)
class _Plan[RowT: HomelabDescription[Any]]:
    """An entity to add, with what was decided when its item was seen.

    Many are added one after the other, and the host may have changed by then: a crowd may have become few.
    """

    row: RowT
    item_id: str
    is_chosen: bool
    is_fit: bool
    """Whether its item was present, and the row enables it."""
    has_place: bool
    """Whether the host had few enough items of the kind."""


def _plan[RowT: HomelabDescription[Any]](coordinator: HomelabCoordinator, row: RowT, item_id: str) -> _Plan[RowT]:
    """Return the plan for an entity, decided while its item is known."""
    item = row.subject.item(coordinator.data, item_id)
    return _Plan(
        row,
        item_id,
        is_chosen=row.chosen_fn(coordinator.selection, row.subject.name(coordinator, item_id)),
        is_fit=item is not None and row.enabled_fn(item),
        has_place=_has_place(coordinator, row),
    )


def _has_place(coordinator: HomelabCoordinator, row: HomelabDescription[Any]) -> bool:
    """Return whether a host has few enough items of a kind for a row; the only place that decides this."""
    if row.of_few and not coordinator.has_few(row.subject.key):
        return False
    return row.enabled_fn is not always or not coordinator.is_crowd(row.subject.key)


def _is_on_by_itself(coordinator: HomelabCoordinator, row: HomelabDescription[Any], item_id: str) -> bool:
    """Return whether an existing entity stays enabled although its item is no longer selected."""
    if not _has_place(coordinator, row):
        return False
    if row.enabled_fn is always:
        return True
    item = row.subject.item(coordinator.data, item_id)
    return item is not None and row.enabled_fn(item) and _has_room(coordinator, row, item_id)


def _has_room(coordinator: HomelabCoordinator, row: HomelabDescription[Any], item_id: str) -> bool:
    """Return whether few other entities of a row are enabled: a host may report another special item at each poll."""
    return _enabled_count(coordinator, row, but=item_id) < SHOWN


def _enabled_count(coordinator: HomelabCoordinator, row: HomelabDescription[Any], but: str) -> int:
    """Return how many entities of a row are enabled, without the one of the item `but`."""
    others = {unique_id(coordinator, row, other) for other in row.subject.ids(coordinator) if other != but}
    entries = er.async_entries_for_config_entry(er.async_get(coordinator.hass), coordinator.config_entry.entry_id)
    return sum(each.unique_id in others and each.disabled_by is None for each in entries)


def unique_id(coordinator: HomelabCoordinator, description: HomelabDescription[Any], item_id: str) -> str:
    """Return the entity's lasting id: `{host}_{subject}_{item}_{key}`, without an item for the host itself."""
    parts = (coordinator.address.host_id, description.subject.key, item_id, description.key)
    return "_".join(part for part in parts if part)


def device_info(coordinator: HomelabCoordinator, subject: Subject[Any], item_id: str) -> DeviceInfo | ChildDeviceInfo:
    """Return the device of an item: its own, or the host's."""
    if not subject.is_device:
        return DeviceInfo(identifiers={(DOMAIN, coordinator.address.host_id)})
    return ChildDeviceInfo(
        identifiers={device_identifier(coordinator.address.host_id, subject.key, item_id)},
        name=device_name(coordinator, subject.label(coordinator, item_id), looks_of_others(coordinator)),
        parent_device_id=coordinator.device.id,
    )


def device_name(coordinator: HomelabCoordinator, label: str, taken: frozenset[str]) -> str:
    """Return the name of an item's device; the host's name is added if it could be mistaken for another host.

    Anyone who can start a container can name it, and its entities would look like those of a host of that name. `taken`
    is what the names of the other hosts look like. A name with non-ASCII letters may look like any name; container
    engines allow none.
    """
    is_doubtful = is_taken(label, taken) or not label.isascii()
    return f"{label} ({coordinator.config_entry.title})" if is_doubtful else label


def _forget_looks(coordinator: HomelabCoordinator) -> None:
    """Forget what the names of the others look like, for a host that is unloaded."""
    coordinator.hass.data.get(_LOOKS, {}).pop(coordinator.config_entry.entry_id, None)


def looks_of_others(coordinator: HomelabCoordinator) -> frozenset[str]:
    """Return what the names of the other hosts look like; computed anew only when one of them has changed."""
    entries = coordinator.hass.config_entries.async_entries(DOMAIN, include_ignore=False)
    others = [entry for entry in entries if entry is not coordinator.config_entry]
    current = tuple((entry.entry_id, entry.title, entry.data) for entry in others)
    known = coordinator.hass.data.setdefault(_LOOKS, {})
    own_id = coordinator.config_entry.entry_id
    if own_id not in known or known[own_id][0] != current:
        known[own_id] = (current, looks_of(others))
    return known[own_id][1]


@callback
def async_watch_names(coordinator: HomelabCoordinator, subject: Subject[Any]) -> None:
    """Rename the devices of items whenever another host was added, removed or renamed."""
    before = (looks_of_others(coordinator), coordinator.config_entry.title)
    coordinator.config_entry.async_on_unload(partial(_forget_looks, coordinator))

    @callback
    def async_name(_change: ConfigEntryChange, changed: ConfigEntry) -> None:
        nonlocal before
        # Home Assistant sends this for each change of the state of any entry.
        if changed.domain != DOMAIN:
            return
        now = (looks_of_others(coordinator), coordinator.config_entry.title)
        if now == before:
            return
        before = now
        registry = dr.async_get(coordinator.hass)
        for item_id in subject.ids(coordinator):
            identifier = device_identifier(coordinator.address.host_id, subject.key, item_id)
            device = registry.async_get_child_device_by_identifier(identifier, coordinator.config_entry.entry_id)
            if device is not None:
                name = device_name(coordinator, subject.label(coordinator, item_id), now[0])
                registry.async_update_child_device(device.id, name=name)

    unsub = async_dispatcher_connect(coordinator.hass, SIGNAL_CONFIG_ENTRY_CHANGED, async_name)
    coordinator.config_entry.async_on_unload(unsub)


def device_identifier(host_id: str, kind: str, item_id: str) -> tuple[str, str]:
    """Return the lasting identifier of the device of an item."""
    return DOMAIN, f"{host_id}_{kind}_{item_id}"


@callback
def _async_remove_device(coordinator: HomelabCoordinator, kind: str, item_id: str) -> None:
    """Remove the device of an item that is gone, with its remaining entities; most items have no device."""
    registry = dr.async_get(coordinator.hass)
    identifier = device_identifier(coordinator.address.host_id, kind, item_id)
    if device := registry.async_get_child_device_by_identifier(identifier, coordinator.config_entry.entry_id):
        registry.async_remove_device(device.id)


class _Places[RowT: HomelabDescription[Any]]:
    """Which rows of a platform have an entity, of which items, and which wait for an item to have the value."""

    def __init__(self, coordinator: HomelabCoordinator, platform: str, rows: Sequence[RowT]) -> None:
        """Start with no entity."""
        self._coordinator = coordinator
        self._platform = platform
        self._rows = rows
        self._layout = -1
        self._searched = -math.inf
        self._waiting: dict[Place, RowT] = {}
        self.added: dict[Place, str] = {}
        """The unique id of each entity."""

    def search(self) -> tuple[list[Place], list[tuple[RowT, str]]]:
        """Return the places of entities whose item is gone, and the rows and ids of new ones, which count as added.

        New items are found at once, new values of known ones after NEW_VALUES_SECONDS at the latest.
        """
        is_alike, now = self._layout == self._coordinator.layout, time.monotonic()
        if is_alike and now - self._searched < NEW_VALUES_SECONDS:
            return [], []
        self._searched = now
        if is_alike:
            gone: list[Place] = []
            new = {place: row for place, row in self._waiting.items() if self._has_value(row, place[2])}
        else:
            self._layout = self._coordinator.layout
            every = ((row, item_id) for row in self._rows for item_id in row.subject.ids(self._coordinator))
            known = {(row.subject.key, row.key, item_id): row for row, item_id in every}
            # Item by item, as removing an item's device removes all of its entities.
            gone = sorted(self.added.keys() - known.keys(), key=lambda place: (place[0], place[2]))
            self._waiting = {place: row for place, row in known.items() if place not in self.added}
            new = {place: row for place, row in self._waiting.items() if self._is_wanted(row, place[2])}
        for place, row in new.items():
            del self._waiting[place]
            self.added[place] = unique_id(self._coordinator, row, place[2])
        return gone, [(row, place[2]) for place, row in new.items()]

    def _has_value(self, row: RowT, item_id: str) -> bool:
        """Return whether the item has the value now."""
        item = row.subject.item(self._coordinator.data, item_id)
        return item is not None and row.exists_fn(item)

    def _is_wanted(self, row: RowT, item_id: str) -> bool:
        """Return whether the item has the value now, or the entity is registered from when it had."""
        if self._has_value(row, item_id):
            return True
        known_as, registry = unique_id(self._coordinator, row, item_id), er.async_get(self._coordinator.hass)
        return registry.async_get_entity_id(self._platform, DOMAIN, known_as) is not None


@callback
def async_add_items[RowT: HomelabDescription[Any]](
    entry: HomelabConfigEntry,
    platform: str,
    tables: Sequence[Iterable[RowT]],
    entity_class: Callable[[HomelabCoordinator, RowT, str], HomelabEntity[Any]],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entities of a platform now and whenever an item appears; remove those of items gone for good."""
    coordinator = entry.runtime_data
    every_row = tuple(row for table in tables for row in table)
    rows = tuple(row for row in every_row if row.offered_fn(coordinator.options))
    places = _Places(coordinator, platform, rows)

    @callback
    def async_check() -> None:
        """Compare the entities with the items, when something may have come or gone."""
        gone, new = places.search()
        if gone:
            remove = partial(_async_remove_gone, coordinator, platform, places.added)
            async_spread(coordinator.hass, entry, gone, remove)
        if new:
            plans = [_plan(coordinator, row, item_id) for row, item_id in new]
            async_spread(coordinator.hass, entry, plans, async_add)

    @callback
    def async_add(plans: Sequence[_Plan[RowT]]) -> None:
        """Add entities, unless the platform has gone meanwhile."""
        if entry.state in (ConfigEntryState.SETUP_IN_PROGRESS, ConfigEntryState.LOADED):
            off = _left_disabled(coordinator, platform, plans)
            _async_restore(coordinator, platform, off)
            entities = [entity_class(coordinator, plan.row, plan.item_id) for plan in plans]
            for entity in entities:
                if entity.unique_id in off:
                    entity.async_leave_disabled()
            async_add_entities(entities)

    refused = (row for row in every_row if not row.offered_fn(coordinator.options))
    _async_remove_rows(coordinator, platform, refused)
    _async_enable_rows(coordinator, platform, (row for row in rows if row.offered_fn is not always))
    async_check()
    entry.async_on_unload(coordinator.async_add_listener(async_check))


def _left_disabled(coordinator: HomelabCoordinator, platform: str, plans: Iterable[_Plan[Any]]) -> set[str]:
    """Return the unique ids of the entities that must not be enabled, new or restored.

    Home Assistant restores a deleted entity as it was, so that items of a crowd that come one at a time, each while
    there are few, would all be enabled in the end. Entities that a person has changed stay as they were.
    """
    registry, off, counts = er.async_get(coordinator.hass), set[str](), dict[tuple[str, str], int]()
    for plan in plans:
        row, known_as = plan.row, unique_id(coordinator, plan.row, plan.item_id)
        if registry.async_get_entity_id(platform, DOMAIN, known_as) is not None:
            continue
        deleted = registry.deleted_entities.get((platform, DOMAIN, known_as))
        if deleted is not None and isinstance(deleted.disabled_by, er.RegistryEntryDisabler):
            continue
        place = (row.subject.key, row.key)
        if row.enabled_fn is not always and place not in counts:
            counts[place] = _enabled_count(coordinator, row, but=plan.item_id)
        # Entities of the same batch are not in the registry yet.
        has_room = plan.has_place and counts.get(place, 0) < SHOWN
        restored = deleted if deleted is not None and deleted.disabled_by is None else None
        is_customized = restored is not None and _is_customized(restored)
        if plan.is_chosen or is_customized or (has_room and (plan.is_fit or restored is not None)):
            if place in counts:
                counts[place] += 1
        else:
            off.add(known_as)
    return off


@callback
def _async_restore(coordinator: HomelabCoordinator, platform: str, off: Iterable[str]) -> None:
    """Disable restored entities that must not be enabled, before they are added."""
    registry = er.async_get(coordinator.hass)
    for known_as in off:
        if (platform, DOMAIN, known_as) in registry.deleted_entities:
            restored = registry.async_get_or_create(platform, DOMAIN, known_as, config_entry=coordinator.config_entry)
            registry.async_update_entity(restored.entity_id, disabled_by=er.RegistryEntryDisabler.INTEGRATION)


_BY_A_PERSON: Final = {"enabled_by": "user"}


def _is_customized(deleted: er.DeletedRegistryEntry) -> bool:
    """Return whether a person has enabled or customized an entity: a name, an icon, an area, labels."""
    options = deleted.options if isinstance(deleted.options, Mapping) else {}
    is_changed = deleted.name or deleted.icon or deleted.area_id or deleted.labels
    return bool(is_changed) or options.get(DOMAIN) == _BY_A_PERSON


@callback
def async_note_choices(hass: HomeAssistant, entry: HomelabConfigEntry) -> None:
    """Note in an entity's options that a person has enabled it: Home Assistant keeps these when it is deleted."""

    @callback
    def async_note(event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        """Note it if the change enables an entity that the integration had disabled."""
        data = event.data
        if data["action"] != "update" or data["changes"].get("disabled_by") is not er.RegistryEntryDisabler.INTEGRATION:
            return
        registry = er.async_get(hass)
        entity = registry.async_get(data["entity_id"])
        if entity is not None and entity.config_entry_id == entry.entry_id and entity.disabled_by is None:
            registry.async_update_entity_options(entity.entity_id, DOMAIN, _BY_A_PERSON)

    entry.async_on_unload(hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, async_note))


@callback
def async_let_go(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the oldest deleted entities and devices of a host.

    Home Assistant keeps them for as long as the host is monitored, and for a month after that.
    """
    _async_let_entities_go(hass, entry_id)
    _async_let_devices_go(hass, entry_id)


@callback
def _async_let_entities_go(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the oldest deleted entities of a host; those that a person has customized go last."""
    registry = er.async_get(hass)
    ours = [(key, each) for key, each in registry.deleted_entities.items() if each.config_entry_id == entry_id]
    if len(ours) <= DELETED_ENTITIES:
        return
    ours.sort(key=lambda item: (_is_customized(item[1]), item[1].modified_at))
    for key, _ in ours[:-DELETED_ENTITIES]:
        registry.deleted_entities.pop(key)
    registry.async_schedule_save()


@callback
def _async_let_devices_go(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the oldest deleted devices of a host, as `_async_let_entities_go` does its entities.

    The registry gives no other access to them than this name; a version with another name keeps them.
    """
    registry = dr.async_get(hass)
    try:
        deleted = registry._deleted_devices  # noqa: SLF001
    except AttributeError:
        return
    ours = [each for each in deleted.values() if each.config_entry_id == entry_id]
    if len(ours) <= DELETED_DEVICES:
        return
    ours.sort(key=lambda device: (_is_device_customized(device), device.modified_at))
    for each in ours[:-DELETED_DEVICES]:
        deleted.pop(each.id)
    registry.async_schedule_save()


def _is_device_customized(deleted: dr.DeletedDeviceEntry) -> bool:
    """Return whether a person has customized a device."""
    return bool(deleted.name_by_user or deleted.area_id or deleted.labels or deleted.disabled_by)


@callback
def _async_remove_gone(
    coordinator: HomelabCoordinator, platform: str, added: dict[Place, str], places: Iterable[Place]
) -> None:
    """Remove the entities of items that are gone and have not come back meanwhile."""
    registry, items = er.async_get(coordinator.hass), coordinator.inventory.items
    for place in places:
        if place not in added or place[2] in items.get(place[0], {}):
            continue
        if entity_id := registry.async_get_entity_id(platform, DOMAIN, added.pop(place)):
            registry.async_remove(entity_id)
        _async_remove_device(coordinator, place[0], place[2])
    async_let_go(coordinator.hass, coordinator.config_entry.entry_id)


@callback
def _async_remove_rows(coordinator: HomelabCoordinator, platform: str, rows: Iterable[HomelabDescription[Any]]) -> None:
    """Remove the entities of rows whose option is off."""
    registry = er.async_get(coordinator.hass)

    @callback
    def async_remove(entity_ids: Iterable[str]) -> None:
        for entity_id in entity_ids:
            registry.async_remove(entity_id)

    ids = (unique_id(coordinator, row, item_id) for row in rows for item_id in row.subject.ids(coordinator))
    known = [entity_id for each in ids if (entity_id := registry.async_get_entity_id(platform, DOMAIN, each))]
    async_spread(coordinator.hass, coordinator.config_entry, known, async_remove)


@callback
def _async_enable_rows(coordinator: HomelabCoordinator, platform: str, rows: Iterable[HomelabDescription[Any]]) -> None:
    """Enable the entities that an option requests and that an earlier version had disabled at first."""
    registry = er.async_get(coordinator.hass)
    for row in rows:
        for item_id in row.subject.ids(coordinator):
            if entity_id := registry.async_get_entity_id(platform, DOMAIN, unique_id(coordinator, row, item_id)):
                _async_switch(coordinator.hass, registry, entity_id, is_wanted=True)


@callback
def async_apply_choice(
    entry: HomelabConfigEntry, platform: str, tables: Sequence[Iterable[HomelabDescription[Any]]]
) -> None:
    """Enable the entities of newly selected items, and disable those of items that are no longer selected.

    Only a change of the options counts, so that an entity that a person enabled stays enabled; one
    that a person disabled stays disabled in any case.
    """
    coordinator = entry.runtime_data
    memory = coordinator.store.memory
    before = memory.chosen
    now = replace(coordinator.selection, containers=before.containers, user=before.user)
    if before == now:
        return
    memory.chosen = now
    coordinator.store.async_changed()
    registry = er.async_get(coordinator.hass)
    for row in (row for table in tables for row in table):
        for item_id in row.subject.ids(coordinator):
            name = row.subject.name(coordinator, item_id)
            was_chosen, is_chosen = row.chosen_fn(before, name), row.chosen_fn(now, name)
            entity_id = registry.async_get_entity_id(platform, DOMAIN, unique_id(coordinator, row, item_id))
            if entity_id is None or was_chosen == is_chosen:
                continue
            is_wanted = is_chosen or _is_on_by_itself(coordinator, row, item_id)
            _async_switch(coordinator.hass, registry, entity_id, is_wanted=is_wanted)


@callback
def _async_switch(hass: HomeAssistant, registry: er.EntityRegistry, entity_id: str, *, is_wanted: bool) -> None:
    """Enable an entity that the integration disabled, or disable one that is enabled."""
    disabler = er.RegistryEntryDisabler.INTEGRATION
    switched = (disabler, None) if is_wanted else (None, disabler)
    known = registry.async_get(entity_id)
    if known is not None and known.disabled_by is switched[0]:
        registry.async_update_entity(entity_id, disabled_by=switched[1])
        # An item that the options name is enabled only as long as they do: this is no choice by hand.
        registry.async_update_entity_options(entity_id, DOMAIN, None)
        if not is_wanted:
            # Its last unloading left a state behind, which nothing else removes before the next start.
            hass.states.async_remove(entity_id)
