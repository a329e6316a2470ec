"""Update entities: the operating system's packages that could be updated, with their list as release notes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.update import UpdateEntity, UpdateEntityDescription, UpdateEntityFeature
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .client.models import Package
from .coordinator import HomelabConfigEntry, HostState
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .markdown import escaped
from .subjects import HOST

PARALLEL_UPDATES = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is installed and what could be; both the same where there is nothing to do."""

    installed: str
    latest: str


@dataclass(frozen=True, kw_only=True)
class HomelabUpdateDescription[ItemT](UpdateEntityDescription, HomelabDescription[ItemT]):
    """One row: software of an item that could be updated."""

    offer_fn: Callable[[ItemT], Offer | None]
    """The offer, None while it is not known."""

    notes_fn: Callable[[ItemT], str | None]
    """What is in it, in Markdown; apart from the offer, as it is long and seldom wanted."""


def _packages(state: HostState) -> Offer | None:
    """Return the packages of the operating system, in signs rather than words: versions cannot be translated."""
    updates, system = state.snapshot.sections.updates, state.snapshot.sections.system
    if updates is None or updates.pending is None:
        return None
    installed = (system and (system.os_name or system.hostname)) or updates.manager
    security = f" ({updates.security} \N{LOCK})" if updates.security else ""
    latest = f"{installed} + {updates.pending} \N{PACKAGE}{security}" if updates.pending else installed
    return Offer(installed=installed, latest=latest)


def _notes(state: HostState) -> str | None:
    """Return the packages as a list, security fixes first and marked."""
    if (updates := state.snapshot.sections.updates) is None:
        return None
    lines = [_line(package) for package in updates.packages]
    more = (updates.pending or 0) - len(updates.packages)
    return "\n".join([*lines, *([f"- \N{HORIZONTAL ELLIPSIS} + {more}"] if more > 0 else [])])


def _line(package: Package) -> str:
    """Return one package with the versions before and after."""
    versions = [version for version in (package.installed, package.available) if version]
    mark = "\N{LOCK} " if package.security else ""
    return f"- {mark}**{escaped(package.name)}** " + " \N{RIGHTWARDS ARROW} ".join(map(escaped, versions))


HOST_UPDATES: tuple[HomelabUpdateDescription[HostState], ...] = (
    HomelabUpdateDescription(
        key="packages",
        subject=HOST,
        exists_fn=lambda state: _packages(state) is not None,
        offer_fn=_packages,
        notes_fn=_notes,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the update entities of a host."""
    async_add_items(entry, "update", (HOST_UPDATES,), HomelabUpdate[Any], async_add_entities)


class HomelabUpdate[ItemT](HomelabEntity[ItemT], UpdateEntity):
    """Software of one item; it is told of, and updated on the machine."""

    entity_description: HomelabUpdateDescription[ItemT]
    _attr_supported_features = UpdateEntityFeature.RELEASE_NOTES

    @property
    def _offer(self) -> Offer | None:
        """Return what could be updated now."""
        item = self.item
        return None if item is None else self.entity_description.offer_fn(item)

    @property
    @override
    def shown(self) -> object:
        """Return both versions."""
        return self.available, self.installed_version, self.latest_version

    @property
    @override
    def installed_version(self) -> str | None:
        """Return the operating system."""
        offer = self._offer
        return None if offer is None else offer.installed

    @property
    @override
    def latest_version(self) -> str | None:
        """Return the operating system, and how much could be updated."""
        offer = self._offer
        return None if offer is None else offer.latest

    @override
    def version_is_newer(self, latest_version: str, installed_version: str) -> bool:
        """Return yes: this is asked only where the two differ, and they are no versions to compare."""
        return True

    @override
    async def async_release_notes(self) -> str | None:
        """Return the list of packages."""
        item = self.item
        return None if item is None else self.entity_description.notes_fn(item)
