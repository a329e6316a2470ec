"""List the entities that the forms of actions offer.

Home Assistant's selectors filter entities by integration, domain and device class, which does not distinguish the
sensor of a service from other sensors with fixed states. So the entities are listed here, from the entity registry,
each time they change, and the list becomes part of the description of the action.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from homeassistant.core import Event, HassJob, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er, service
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.selector import validate_selector
from homeassistant.helpers.start import async_at_started
from homeassistant.util.yaml import load_yaml_dict

from .const import DOMAIN

_DESCRIPTIONS: Final = Path(__file__).parent / "services.yaml"
FIELD: Final = "entity_id"
OFFERED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "control_service": frozenset({"service_state"}),
        "get_log": frozenset({"service_state", "container_state"}),
    }
)
"""Action → translation keys of the sensors that its field `entity_id` offers."""
SOON_SECONDS: Final = 10.0
"""Delay: many entities change at once, and each new list makes every browser load the descriptions of all actions."""


@callback
def async_offer_entities(hass: HomeAssistant, async_register: Callable[[str], None]) -> None:
    """Keep the lists up to date from now on; `async_register` registers an action, so that browsers reload it."""
    offers = _Offers(hass, async_register)
    hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, offers.async_updated)
    async_at_started(hass, offers.async_start)


class _Offers:
    """The current lists in the descriptions."""

    def __init__(self, hass: HomeAssistant, async_register: Callable[[str], None]) -> None:
        """Start with services.yaml, which offers every sensor with fixed states."""
        self._hass = hass
        self._registry = er.async_get(hass)
        self._async_register = async_register
        self._described: Mapping[str, Any] = {}
        self._shown: dict[str, list[str]] = {}
        self._is_shown: frozenset[str] = frozenset()
        """The entities of all lists: looked up at each change of any entity of Home Assistant."""
        self._has_started = self._is_due = False

    @callback
    def async_start(self, _hass: HomeAssistant) -> None:
        """Create the first lists once entities have been set up."""
        self._has_started = True
        self._async_plan()

    @callback
    def async_updated(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        """Update the lists when an entity that belongs there, or is listed, has changed."""
        entry = self._registry.async_get(event.data["entity_id"])
        is_offered = entry is not None and any(_is_offered(entry, keys) for keys in OFFERED.values())
        old = event.data.get("old_entity_id", event.data["entity_id"])
        if is_offered or old in self._is_shown:
            self._async_plan()

    @callback
    def _async_plan(self) -> None:
        """Schedule an update of the lists, unless one is scheduled."""
        if self._has_started and not self._is_due:
            self._is_due = True
            job = HassJob(self._async_offer, f"{DOMAIN} entities of actions", cancel_on_shutdown=True)
            async_call_later(self._hass, SOON_SECONDS, job)

    async def _async_offer(self, _now: datetime) -> None:
        """Write the lists that have changed into the descriptions."""
        if not self._described:
            # Not through Home Assistant, which would read the files of all integrations.
            self._described = await self._hass.async_add_executor_job(load_yaml_dict, str(_DESCRIPTIONS))
        self._is_due = False
        for action, keys in OFFERED.items():
            ids = self._ids(keys)
            if ids != self._shown.get(action):
                self._shown[action] = ids
                self._is_shown = frozenset(each for shown in self._shown.values() for each in shown)
                fields = _with_list(self._described[action]["fields"], ids)
                service.async_set_service_schema(self._hass, DOMAIN, action, {"fields": fields})
                self._async_register(action)

    def _ids(self, keys: frozenset[str]) -> list[str]:
        """Return the enabled entities with these keys, of all hosts."""
        entries = self._hass.config_entries.async_entries(DOMAIN)
        found = (each for host in entries for each in er.async_entries_for_config_entry(self._registry, host.entry_id))
        return sorted(each.entity_id for each in found if _is_offered(each, keys) and each.disabled_by is None)


def _is_offered(entry: er.RegistryEntry, keys: frozenset[str]) -> bool:
    """Return whether an entity is one of ours with one of these keys."""
    return entry.platform == DOMAIN and entry.domain == "sensor" and entry.translation_key in keys


def _with_list(fields: Mapping[str, Any], ids: list[str]) -> dict[str, Any]:
    """Return the fields of a form, including those of its sections, with the list of entities to offer."""
    return {name: _offering(name, field, ids) for name, field in fields.items()}


def _offering(name: str, field: Mapping[str, Any], ids: list[str]) -> Mapping[str, Any]:
    """Return a field or a section of a form with the list of entities."""
    if "fields" in field:
        return {**field, "fields": _with_list(field["fields"], ids)}
    (kind, config), *_ = validate_selector(field["selector"]).items()
    return {**field, "selector": {kind: {**config, "include_entities": ids} if name == FIELD else config}}
