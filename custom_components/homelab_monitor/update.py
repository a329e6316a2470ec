"""Update entities: the pending updates of the operating system's packages, with their list as release notes.

They can be installed if the host's options allow it and its package manager is a supported one.
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
"""Home Assistant's name for the version that a person skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The installed and the latest version; both the same if there is nothing to update."""

    installed: str
    latest: str


@dataclass(frozen=True, kw_only=True)
class HomelabUpdateDescription[ItemT](UpdateEntityDescription, HomelabDescription[ItemT]):
    """One row: software of an item that can be updated."""

    offer_fn: Callable[[ItemT], Offer | None]
    """Return the offer, None while it is not known."""

    notes_fn: Callable[[ItemT], str | None]
    """Return its content, in Markdown; apart from the offer, as it is long and seldom needed."""

    attributes_fn: Callable[[ItemT], Mapping[str, int]]
    """Return how many packages were left unfinished, and how many are not offered, by cause."""


def _packages(state: HostState) -> Offer | None:
    """Return the offer of packages, in symbols rather than words: versions cannot be translated."""
    updates = state.snapshot.sections.updates
    if updates is None or updates.pending is None:
        return None
    installed = _system(state)
    security = f" ({updates.security} \N{LOCK})" if updates.security else ""
    latest = f"{installed} + {updates.pending} \N{PACKAGE}{security}" if updates.pending else installed
    return Offer(installed=installed, latest=latest)


def _system(state: HostState) -> str:
    """Return the name of the operating system, or the best replacement that the host has reported."""
    updates, system = state.snapshot.sections.updates, state.snapshot.sections.system
    name = (system and (system.os_name or system.hostname)) or (updates.manager if updates else "")
    return shortened(name or "\N{HORIZONTAL ELLIPSIS}", VERSION_LIMIT)


def _digest(state: HostState) -> str | None:
    """Return a hash of the offered set of packages, None while it is not known."""
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
    """Return how many packages were left unfinished, and how many are not offered, by cause."""
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
    """Return the line of one package, with the versions before and after."""
    versions = [_text(version) for version in (package.installed, package.available) if version]
    mark = "\N{LOCK} " if package.security else ""
    return f"- {mark}**{_text(package.name)}** " + " \N{RIGHTWARDS ARROW} ".join(versions)


def _text(text: str) -> str:
    """Return a name or a version, escaped and shortened: a host may make it as long as it likes."""
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
    """Software of one item, shown only."""

    entity_description: HomelabUpdateDescription[ItemT]
    _attr_supported_features = UpdateEntityFeature.RELEASE_NOTES

    @property
    def _offer(self) -> Offer | None:
        """Return the current offer."""
        item = self.item
        return None if item is None else self.entity_description.offer_fn(item)

    @property
    @override
    def shown(self) -> object:
        """Return both versions, and the attributes."""
        return self.available, self._offer, self.extra_state_attributes

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any] | None:
        """Return how many packages are not offered, by cause."""
        item = self.item
        return None if item is None else self.entity_description.attributes_fn(item)

    @property
    @override
    def installed_version(self) -> str | None:
        """Return the name of the operating system."""
        offer = self._offer
        return None if offer is None else offer.installed

    @property
    @override
    def latest_version(self) -> str | None:
        """Return the name of the operating system, and how many packages can be updated."""
        offer = self._offer
        return None if offer is None else offer.latest

    @override
    def version_is_newer(self, latest_version: str, installed_version: str) -> bool:
        """Return True: this is called only if the two differ, and they cannot be compared as versions."""
        return True

    @override
    async def async_release_notes(self) -> str | None:
        """Return the list of packages."""
        item = self.item
        return None if item is None else self.entity_description.notes_fn(item)


class HostPackages(HomelabUpdate[HostState]):
    """The packages of a host, which can be updated."""

    def __init__(
        self, coordinator: HomelabCoordinator, description: HomelabUpdateDescription[HostState], item_id: str
    ) -> None:
        """Start to follow an installation."""
        super().__init__(coordinator, description, item_id)
        self._upgrade = HostInstallation(coordinator)
        self._known: Offer | None = None
        """The last offer while nothing was being installed."""
        self._summaries: Mapping[str, str] = {}
        self._skipped: str | None = None
        """The digest of the packages that a person skipped: the version contains only their number."""
        self._seen: Sequence[object] = ()
        self._shown: object = None
        # Not only while the entity is added: the job goes on when the entity is disabled or renamed.
        self._upgrade.async_follow()

    @property
    @override
    def supported_features(self) -> UpdateEntityFeature:
        """Offer to install only if the options allow it and the package manager is supported."""
        sections = self.coordinator.data.snapshot.sections
        # During an installation the host may not report its package manager.
        can = self._upgrade.is_running or can_install_updates(sections.updates, sections.system)
        if not self.coordinator.options.install_updates or not can:
            return self._attr_supported_features
        return self._attr_supported_features | UpdateEntityFeature.INSTALL | UpdateEntityFeature.PROGRESS

    @property
    @override
    def _offer(self) -> Offer | None:
        """Return the offer; during an installation the one before it, and after a failure always one, with a symbol.

        During an installation the package manager looks up to date, or cannot be read at all.
        """
        offer = super()._offer
        if self._upgrade.is_running:
            offer = self._known or offer or self._bare_offer()
            # With the version that was skipped, the entity would be off.
            mark = " \N{HOURGLASS WITH FLOWING SAND}" if self._skipped else ""
            pending = " + \N{PACKAGE}" if offer.latest == offer.installed else ""
            return replace(offer, latest=offer.latest + pending + mark)
        if self._failure:
            offer = offer or self._bare_offer()
            return replace(offer, latest=f"{offer.latest} \N{WARNING SIGN}\N{VARIATION SELECTOR-16}")
        return offer

    def _bare_offer(self) -> Offer:
        """Return an offer without updates, as nothing is known."""
        system = _system(self.coordinator.data)
        return Offer(installed=system, latest=system)

    @property
    def _failure(self) -> str:
        """Return how the last installation failed; "" if it did not, or if the option is off now."""
        return self._upgrade.failure if self.coordinator.options.install_updates else ""

    @callback
    def _note_offer(self) -> None:
        """Remember the offer, to show it while it is installed."""
        if not self._upgrade.is_running:
            self._known = super()._offer

    @property
    @override
    def release_summary(self) -> str | None:
        """Return that the last installation failed; without text of the host, as every user sees it."""
        return words(self._summaries, "installation", self._failure) if self._failure else None

    @property
    @override
    def shown(self) -> object:
        """Return both versions, and whether packages are being installed."""
        return self._shown

    @property
    @override
    def in_progress(self) -> bool:
        """Return whether packages are being installed; how many are left is unknown."""
        return self._upgrade.is_running

    @override
    async def async_install(self, version: str | None, backup: bool, **kwargs: Any) -> None:
        """Install all pending packages and wait for the end."""
        await self._upgrade.async_install()

    @override
    async def async_added_to_hass(self) -> None:
        """Restore what was skipped, and load the texts for a failure."""
        await super().async_added_to_hass()
        stored = await self.async_get_last_extra_data()
        self._skipped = stored.as_dict().get(SKIPPED) if stored else None
        self._note_offer()
        self._check_skipped(self.state_attributes or {})
        self._summaries = await async_get_translations(self.hass, self.hass.config.language, "selector", [DOMAIN])

    @property
    @override
    def extra_restore_state_data(self) -> RestoredExtraData:
        """Return the digest of the packages that were skipped."""
        return RestoredExtraData({SKIPPED: self._skipped})

    @property
    def _digest(self) -> str | None:
        """Return the digest of the packages that are offered now."""
        item = self.item
        return None if item is None else _digest(item)

    @callback
    def _check_skipped(self, shown: Mapping[str, Any]) -> None:
        """Note which packages were skipped; offer other ones again, even if their number is the same."""
        if shown.get(SKIPPED) is None:
            self._skipped = None
            return
        # Only if something was skipped: this runs at every poll, and there may be a thousand packages.
        if (digest := self._digest) is None:
            return
        if self._skipped is None:
            self._skipped = digest
        elif self._skipped != digest:
            self.coordinator.config_entry.async_create_task(self.hass, self.async_clear_skipped())

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Update the offer and the skipped packages as well."""
        sections = self.coordinator.data.snapshot.sections
        now = (self.available, sections.updates, sections.system, self._failure, self._skipped, self.in_progress)
        # Most polls change nothing, and all that is shown is made of these.
        if not self._seen or not all(map(operator.is_, now, self._seen, strict=True)):
            self._seen = now
            self._note_offer()
            self._shown = (super().shown, self.in_progress, self.supported_features)
        super()._handle_coordinator_update()
        # The written state equals `state_attributes`, which costs as much as everything else here.
        state = self.hass.states.get(self.entity_id)
        self._check_skipped(state.attributes if state else {})
