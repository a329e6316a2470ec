"""Update entities: the operating system's packages that could be updated, with their list as release notes.

They are installed where the host's options allow it and its package manager is one that we know how to ask.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
import hashlib
import operator
from typing import Any, override

from homeassistant.components.update import UpdateEntity, UpdateEntityDescription, UpdateEntityFeature
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.restore_state import RestoredExtraData
from homeassistant.helpers.translation import async_get_translations

from .attributes import shortened
from .client.checks.updates_rule import can_install_updates
from .client.limits import PACKAGE_TEXT_LIMIT, PACKAGES_SHOWN, VERSION_LIMIT
from .client.models import Package, Updates, Withheld
from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .health.checklist import words
from .installation import HostInstallation
from .markdown import escaped
from .state import HostState
from .subjects import HOST

PARALLEL_UPDATES = 0
SKIPPED = "skipped_version"
"""What Home Assistant calls the version that a person skipped."""


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

    attributes_fn: Callable[[ItemT], Mapping[str, int]]
    """What was left unfinished, and what is not offered and why, in numbers."""


def _packages(state: HostState) -> Offer | None:
    """Return the packages of the operating system, in signs rather than words: versions cannot be translated."""
    updates = state.snapshot.sections.updates
    if updates is None or updates.pending is None:
        return None
    installed = _system(state)
    security = f" ({updates.security} \N{LOCK})" if updates.security else ""
    latest = f"{installed} + {updates.pending} \N{PACKAGE}{security}" if updates.pending else installed
    return Offer(installed=installed, latest=latest)


def _system(state: HostState) -> str:
    """Return what the packages are of, as far as the host has told it."""
    updates, system = state.snapshot.sections.updates, state.snapshot.sections.system
    name = (system and (system.os_name or system.hostname)) or (updates.manager if updates else "")
    return shortened(name or "\N{HORIZONTAL ELLIPSIS}", VERSION_LIMIT)


def _digest(state: HostState) -> str | None:
    """Return what tells one set of packages from another, None while it is not known."""
    if (updates := state.snapshot.sections.updates) is None or updates.pending is None:
        return None
    packages = sorted((each.name, each.available or "", bool(each.security)) for each in updates.packages)
    return hashlib.sha256(repr((updates.pending, updates.security, packages)).encode()).hexdigest()[:16]


def _notes(state: HostState) -> str | None:
    """Return the packages as a list, security fixes first and marked."""
    if (updates := state.snapshot.sections.updates) is None:
        return None
    lines = [_line(package) for package in updates.packages[:PACKAGES_SHOWN]]
    more = max(updates.pending or 0, len(updates.packages)) - len(lines)
    return "\n".join([*lines, *([f"- \N{HORIZONTAL ELLIPSIS} + {more}"] if more > 0 else [])])


_CAUSES: tuple[tuple[str, Callable[[Updates], Withheld | None]], ...] = (
    ("held", lambda updates: updates.held),
    ("phased", lambda updates: updates.phased),
    ("kept_back", lambda updates: updates.kept_back),
)


def _counts(state: HostState) -> Mapping[str, int]:
    """Return how many packages were left unfinished, and how many are not offered, cause by cause."""
    updates, counts = state.snapshot.sections.updates, dict[str, int]()
    if updates and updates.unfinished:
        counts["unfinished"] = updates.unfinished
    for cause, withheld_fn in _CAUSES:
        if updates and (withheld := withheld_fn(updates)):
            counts[cause] = withheld.count
            if withheld.security is not None:
                counts[f"{cause}_security"] = withheld.security
    return counts


def _line(package: Package) -> str:
    """Return one package with the versions before and after."""
    versions = [_word(version) for version in (package.installed, package.available) if version]
    mark = "\N{LOCK} " if package.security else ""
    return f"- {mark}**{_word(package.name)}** " + " \N{RIGHTWARDS ARROW} ".join(versions)


def _word(text: str) -> str:
    """Return a name or a version, which a host may make as long as it likes."""
    return escaped(shortened(text, PACKAGE_TEXT_LIMIT))


HOST_UPDATES: tuple[HomelabUpdateDescription[HostState], ...] = (
    HomelabUpdateDescription(
        key="packages",
        subject=HOST,
        exists_fn=lambda state: _packages(state) is not None,
        offer_fn=_packages,
        notes_fn=_notes,
        attributes_fn=_counts,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the update entities of a host."""
    async_add_items(entry, "update", (HOST_UPDATES,), HostPackages, async_add_entities)


class HomelabUpdate[ItemT](HomelabEntity[ItemT], UpdateEntity):
    """Software of one item; it is told of."""

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
        """Return both versions, and what is not offered."""
        return self.available, self._offer, self.extra_state_attributes

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any] | None:
        """Return what is not offered and why."""
        item = self.item
        return None if item is None else self.entity_description.attributes_fn(item)

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


class HostPackages(HomelabUpdate[HostState]):
    """The packages of a host, which can be installed."""

    def __init__(
        self, coordinator: HomelabCoordinator, description: HomelabUpdateDescription[HostState], item_id: str
    ) -> None:
        """Be ready to follow an installation."""
        super().__init__(coordinator, description, item_id)
        self._upgrade = HostInstallation(coordinator)
        self._known: Offer | None = None
        """What was offered last while nothing was being installed."""
        self._summaries: Mapping[str, str] = {}
        self._skipped: str | None = None
        """The packages that a person skipped: the version says only how many there are."""
        self._looked_at: Sequence[object] = ()
        self._shown: object = None
        # Not only while the entity is there: the job goes on where that is disabled or gets another name.
        self._upgrade.async_follow()

    @property
    @override
    def supported_features(self) -> UpdateEntityFeature:
        """Offer to install only what the options allow and what is known how to."""
        sections = self.coordinator.data.snapshot.sections
        # In the middle of an installation the host may not tell its package manager.
        can = self._upgrade.is_running or can_install_updates(sections.updates, sections.system)
        if not self.coordinator.options.install_updates or not can:
            return self._attr_supported_features
        return self._attr_supported_features | UpdateEntityFeature.INSTALL | UpdateEntityFeature.PROGRESS

    @property
    @override
    def _offer(self) -> Offer | None:
        """Return the offer; while it is installed that of before, and after a failure one in any case, with a sign.

        In the middle of an installation the package manager reads as up to date, or not at all.
        """
        offer = super()._offer
        if self._upgrade.is_running:
            offer = self._known or offer or self._bare_offer()
            # A version that was skipped would read as off.
            mark = " \N{HOURGLASS WITH FLOWING SAND}" if self._skipped else ""
            pending = " + \N{PACKAGE}" if offer.latest == offer.installed else ""
            return replace(offer, latest=offer.latest + pending + mark)
        if self._failure:
            offer = offer or self._bare_offer()
            return replace(offer, latest=f"{offer.latest} \N{WARNING SIGN}\N{VARIATION SELECTOR-16}")
        return offer

    def _bare_offer(self) -> Offer:
        """Return an offer of nothing, as nothing is known."""
        system = _system(self.coordinator.data)
        return Offer(installed=system, latest=system)

    @property
    def _failure(self) -> str:
        """Return how the last installation failed, "" where it did not, or where none may be started any more."""
        return self._upgrade.failure if self.coordinator.options.install_updates else ""

    @callback
    def _look_at_offer(self) -> None:
        """Remember what is offered, to be shown while it is installed."""
        if not self._upgrade.is_running:
            self._known = super()._offer

    @property
    @override
    def release_summary(self) -> str | None:
        """Return that the last installation failed; every user sees it, so that no words of the host are in it."""
        return words(self._summaries, "installation", self._failure) if self._failure else None

    @property
    @override
    def shown(self) -> object:
        """Return both versions, and whether packages are being installed."""
        return self._shown

    @property
    @override
    def in_progress(self) -> bool:
        """Return whether packages are being installed; nobody tells how many are left."""
        return self._upgrade.is_running

    @override
    async def async_install(self, version: str | None, backup: bool, **kwargs: Any) -> None:
        """Install all pending packages and wait for the end."""
        await self._upgrade.async_install()

    @override
    async def async_added_to_hass(self) -> None:
        """Know what was skipped, and the words for a failure."""
        await super().async_added_to_hass()
        stored = await self.async_get_last_extra_data()
        self._skipped = stored.as_dict().get(SKIPPED) if stored else None
        self._look_at_offer()
        self._look_at_skipped(self.state_attributes or {})
        self._summaries = await async_get_translations(self.hass, self.hass.config.language, "selector", [DOMAIN])

    @property
    @override
    def extra_restore_state_data(self) -> RestoredExtraData:
        """Return which packages were skipped."""
        return RestoredExtraData({SKIPPED: self._skipped})

    @property
    def _digest(self) -> str | None:
        """Return which packages are offered now."""
        item = self.item
        return None if item is None else _digest(item)

    @callback
    def _look_at_skipped(self, shown: Mapping[str, Any]) -> None:
        """Note which packages were skipped; offer others, of which there may be just as many."""
        if shown.get(SKIPPED) is None:
            self._skipped = None
            return
        # Only where something was skipped: this is looked at in every poll, and packages may be a thousand.
        if (digest := self._digest) is None:
            return
        if self._skipped is None:
            self._skipped = digest
        elif self._skipped != digest:
            self.coordinator.config_entry.async_create_task(self.hass, self.async_clear_skipped())

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Look after what is offered and what was skipped as well."""
        sections = self.coordinator.data.snapshot.sections
        now = (self.available, sections.updates, sections.system, self._failure, self._skipped, self.in_progress)
        # Most polls tell nothing anew, and all that is shown is made of these.
        if not self._looked_at or not all(map(operator.is_, now, self._looked_at, strict=True)):
            self._looked_at = now
            self._look_at_offer()
            self._shown = (super().shown, self.in_progress, self.supported_features)
        super()._handle_coordinator_update()
        # What is shown says the same as `state_attributes`, which costs as much as all else here.
        state = self.hass.states.get(self.entity_id)
        self._look_at_skipped(state.attributes if state else {})
