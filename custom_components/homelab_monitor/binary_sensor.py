"""Binary sensors: connectivity, problems, pending reboot, protection, and the graphics cards of a host."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, cast, override

# 2026.9 has no module `const` in this package, where mypy would look for the device classes.
from homeassistant.components.binary_sensor import (  # type: ignore[attr-defined]
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.translation import async_get_translations

from .client.bucket import Bucket
from .client.limits import ANSWER_WRITES
from .client.models import Gpu, SecurityPart
from .client.tracking.problems import Problem
from .client.tracking.values import lost_gpus
from .const import DOMAIN
from .coordinator import HomelabConfigEntry, HomelabCoordinator
from .entity import HomelabDescription, HomelabEntity, async_add_items
from .health.checklist import words
from .readings import AUTOMATIC_UPDATES, FIREWALL, SSH, Part, gpu_status, reason
from .state import HostState
from .subjects import GPU, HOST

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class HomelabBinarySensorDescription[ItemT](BinarySensorEntityDescription, HomelabDescription[ItemT]):
    """One row: when a binary sensor is on."""

    attributes_fn: Callable[[ItemT], Mapping[str, Any] | None] = lambda _: None
    """Return the reason for the state, as a few words that seldom change."""

    details_fn: Callable[[ItemT], Iterable[Problem]] | None = None
    """Return the problems that are also shown as sentences."""


def _reason(state: HostState) -> Mapping[str, Any]:
    """Return the status, its reason, and what automations know of an absence."""
    since = _moment(state.since) if state.is_known else None
    about: dict[str, Any] = {"status": state.status.value, "reason": reason(state), "since": since}
    if not state.is_known or state.is_shown_online:
        return about
    if state.may_be_off:
        about["expected"] = True
    # For an absence that began before a reload or a start: until when automations saw it, and since when again.
    watched = {"watched_until": state.watched_until, "watched_again": state.watched_again}
    about |= {name: _moment(moment) for name, moment in watched.items() if moment}
    if state.watched_until and state.unexpected_until != state.watched_until:
        about["unexpected_until"] = state.unexpected_until and _moment(state.unexpected_until)
    return about


@lru_cache(maxsize=256)
def _moment(moment: datetime) -> str:
    """Return a time as automations compare it: with less precision, reports would seem to come too early."""
    return moment.isoformat(timespec="milliseconds")


def _reasons(state: HostState) -> Mapping[str, Any]:
    """Return the problems, as words that stay the same while they last."""
    return {"reasons": [f"{problem.kind} {problem.item}".rstrip() for problem in state.present_problems]}


def _gpu_reasons(state: HostState) -> Mapping[str, Any]:
    """Return the status, the driver's own message, and the cards that are lost."""
    lost = sorted(lost_gpus(state.snapshot))
    return {"status": gpu_status(state), "reason": state.snapshot.errors.get("gpu"), "lost": lost}


def _reboot_reasons(state: HostState) -> Mapping[str, Any]:
    """Return why a reboot is required, and by which packages."""
    updates = state.snapshot.sections.updates
    if updates is None:
        return {"reasons": [], "packages": []}
    return {"reasons": list(updates.reboot_reasons), "packages": list(updates.reboot_packages)}


def _protection[PartT: SecurityPart](
    key: str, part: Part[PartT], attributes_fn: Callable[[PartT], Mapping[str, Any]]
) -> HomelabBinarySensorDescription[HostState]:
    """Return the row of one part of a host's protection."""
    return HomelabBinarySensorDescription(
        key=key,
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=part.exists,
        attributes_fn=part.read(lambda found: {"reason": found.reason, **attributes_fn(found)}),
    )


HOST_BINARY_SENSORS: tuple[HomelabBinarySensorDescription[HostState], ...] = (
    HomelabBinarySensorDescription(
        key="connectivity",
        subject=HOST,
        device_class=BinarySensorDeviceClass.CONNECTIVITY,
        stays_available=True,
        attributes_fn=_reason,
    ),
    HomelabBinarySensorDescription(
        key="problem",
        subject=HOST,
        device_class=BinarySensorDeviceClass.PROBLEM,
        stays_available=True,
        attributes_fn=_reasons,
        details_fn=lambda state: state.present_problems,
    ),
    HomelabBinarySensorDescription(
        key="gpu_telemetry",
        subject=HOST,
        device_class=BinarySensorDeviceClass.PROBLEM,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=HOST.has("gpu_telemetry"),
        stays_available=True,
        attributes_fn=_gpu_reasons,
    ),
    HomelabBinarySensorDescription(
        key="reboot_required",
        subject=HOST,
        exists_fn=HOST.has("reboot_required"),
        # It stays true while the host is offline.
        stays_available=True,
        attributes_fn=_reboot_reasons,
    ),
    _protection("firewall", FIREWALL, attributes_fn=lambda part: {"backend": part.backend}),
    _protection(
        "ssh_password_login",
        SSH,
        attributes_fn=lambda part: {"conditional": None if part.conditional is None else list(part.conditional)},
    ),
    _protection("ssh_root_login", SSH, attributes_fn=lambda part: {"root_login": part.root_login}),
    _protection("automatic_updates", AUTOMATIC_UPDATES, attributes_fn=lambda part: {"tool": part.tool}),
)

GPU_BINARY_SENSORS: tuple[HomelabBinarySensorDescription[Gpu], ...] = (
    HomelabBinarySensorDescription(
        key="throttled",
        subject=GPU,
        device_class=BinarySensorDeviceClass.PROBLEM,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=GPU.has("throttled"),
        attributes_fn=lambda item: {"reasons": list(item.throttle_reasons or ())},
    ),
)

BINARY_SENSORS: tuple[tuple[HomelabBinarySensorDescription[Any], ...], ...] = (HOST_BINARY_SENSORS, GPU_BINARY_SENSORS)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HomelabConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the binary sensors of a host."""
    texts = await async_get_translations(hass, hass.config.language, "selector", [DOMAIN])
    entity_class = partial(HomelabBinarySensor[Any], texts)
    async_add_items(entry, "binary_sensor", BINARY_SENSORS, entity_class, async_add_entities)


class HomelabBinarySensor[ItemT](HomelabEntity[ItemT], BinarySensorEntity):
    """One binary sensor of one item."""

    entity_description: HomelabBinarySensorDescription[ItemT]
    _unrecorded_attributes = frozenset({"details"})

    def __init__(
        self,
        texts: Mapping[str, str],
        coordinator: HomelabCoordinator,
        description: HomelabBinarySensorDescription[ItemT],
        item_id: str,
    ) -> None:
        """Take the texts of the language, and the reading of the row."""
        super().__init__(coordinator, description, item_id)
        # The reading of a binary sensor's row is boolean.
        self._reading = cast("Callable[[ItemT], bool | None]", description.subject.readings[description.key])
        self._texts = texts
        self._answers = Bucket(*ANSWER_WRITES)
        self._answer: tuple[bool, bool | None] | None = None
        """The last written availability and state."""

    @override
    def _may_write(self) -> bool:
        """Return whether a change may be written now; a change of on or off has its own limit, so it is soon shown."""
        answer = (self.available, self.is_on)
        is_waited_for = self.entity_description.stays_available and answer != self._answer
        may_write = (is_waited_for and self._answers.take()) or super()._may_write()
        if may_write:
            self._answer = answer
        return may_write

    @property
    @override
    def shown(self) -> object:
        """Return availability, state and attributes."""
        return self.available, self.is_on, self.extra_state_attributes

    @property
    @override
    def is_on(self) -> bool | None:
        """Return whether the sensor is on."""
        item = self.item
        return None if item is None else self._reading(item)

    @property
    @override
    def attributes(self) -> Mapping[str, Any] | None:
        """Return the reason for the state, with its sentences."""
        item = self.item
        if item is None:
            return None
        about = self.entity_description.attributes_fn(item)
        if about is None or self.entity_description.details_fn is None:
            return about
        # In the same order as the words for automations.
        problems = self.entity_description.details_fn(item)
        return {
            **about,
            "details": [words(self._texts, "host_problem", each.kind).format(item=each.item) for each in problems],
        }
