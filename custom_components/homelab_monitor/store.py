"""Store what outlives a restart: HA's own key pair, and the last known state of each host.

All hosts share one key pair, in a private file (0600) of HA's storage, made on first use.
A host's file holds its inventory, last snapshot, problems and last test, the events that were
not reported yet and the baseline for further events, and the job that installs updates.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from glob import escape
from itertools import zip_longest
import logging
import math
from pathlib import Path
import stat
import time
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError, UnsupportedStorageVersionError
from homeassistant.helpers.json import json_bytes
from homeassistant.helpers.storage import STORAGE_DIR, Store
from homeassistant.util.hass_dict import HassKey

from .client.bucket import Bucket
from .client.errors import first_line
from .client.limits import (
    LARGE_FILE_BYTES,
    LARGE_FILE_SAVES,
    LARGE_FILE_SECONDS,
    LINE_LIMIT,
    NAME_LIMIT,
    PROBLEMS_STORED,
    UNTOLD_STORED,
)
from .client.probe.snapshot import Snapshot, restore_snapshot
from .client.tracking.event_baseline import baseline_as_dict, restore_baseline
from .client.tracking.events import ABOUT, EVENT_TYPES, Baseline, HostEvent
from .client.tracking.inventory import Inventory, restore_inventory
from .client.tracking.items import Selection
from .client.tracking.problems import KINDS, Problem
from .client.transport.keys import ECDSA, KeyPair
from .client.typed import number, text, texts
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)

KEY_STORAGE_KEY = f"{DOMAIN}.ssh_key"
STORAGE_VERSION = 1
SAVE_DELAY_SECONDS = 900.0
HAND_OVER_SECONDS = 3600.0
"""How long the result of a dialog may become the first state of its entry; the first poll comes at once anyway."""
OTHERS = 0o077
"""All permissions of the group and of others."""
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    UnsupportedStorageVersionError,
)
"""What an unreadable file raises: of another version, of another shape, or with other values."""

_NO_TIME = 2.0**33
"""Seconds since 1970 from which on a time is invalid."""
_KEY: HassKey[KeyPair] = HassKey(f"{DOMAIN}_key")
_KEY_LOCK: HassKey[asyncio.Lock] = HassKey(f"{DOMAIN}_key_lock")
_HANDED_OVER: HassKey[dict[str, HostMemory]] = HassKey(f"{DOMAIN}_handed_over")


async def async_get_key(hass: HomeAssistant) -> KeyPair:
    """Return HA's own key pair; the first call creates and saves it."""
    async with hass.data.setdefault(_KEY_LOCK, asyncio.Lock()):
        if _KEY not in hass.data:
            hass.data[_KEY] = await _async_load_key(hass)
        return hass.data[_KEY]


async def async_require_ecdsa(hass: HomeAssistant) -> KeyPair:
    """Return HA's own key pair including the ECDSA key in `beside`, which the first call creates and saves."""
    key = await async_get_key(hass)
    async with hass.data[_KEY_LOCK]:
        key = hass.data[_KEY]
        if key.beside is None:
            beside = await hass.async_add_executor_job(KeyPair.generate, ECDSA)
            hass.data[_KEY] = key = replace(key, beside=beside)
            await _key_store(hass).async_save(_stored(key))
        return key


def _key_store(hass: HomeAssistant) -> Store[dict[str, str]]:
    """Return the file of the keys."""
    return Store(hass, STORAGE_VERSION, KEY_STORAGE_KEY, private=True, atomic_writes=True)


def _stored(key: KeyPair) -> dict[str, str]:
    """Return the keys as the file holds them; a version that knows no second key reads the first."""
    stored = {"private_key": key.private_openssh}
    return stored | {"ecdsa_private_key": key.beside.private_openssh} if key.beside else stored


def _restored(stored: Mapping[str, str]) -> KeyPair:
    """Return the keys of a file; raise one of UNREADABLE if it cannot be read."""
    key = KeyPair.from_private(stored["private_key"])
    if (beside := stored.get("ecdsa_private_key")) is None:
        return key
    try:
        return replace(key, beside=KeyPair.from_private(beside, ECDSA))
    except ValueError as err:
        # The first key works on nearly all hosts: it is not given up for this.
        _LOGGER.warning(
            "The ECDSA key in %s cannot be read. Hosts that use it need a new one: %s", KEY_STORAGE_KEY, err
        )
        return key


async def _async_load_key(hass: HomeAssistant) -> KeyPair:
    """Load the key pair, or create one; a file without a valid key is moved aside and logged."""
    await hass.async_add_executor_job(_make_private, hass.config.path(STORAGE_DIR), KEY_STORAGE_KEY, logging.WARNING)
    store, stored = _key_store(hass), None
    try:
        # The target of a link has permissions that we neither know nor change: we must not use a key from there.
        await hass.async_add_executor_job(_require_file, store.path)
        if stored := await store.async_load():
            return _restored(stored)
    except UNREADABLE as err:
        _LOGGER.warning(
            "The SSH key in %s cannot be read and was moved to %s.unreadable. Add the new key to each host: %s",
            KEY_STORAGE_KEY,
            KEY_STORAGE_KEY,
            _cause(err),
        )
        await _async_set_aside(hass, KEY_STORAGE_KEY, stored)
    key = await hass.async_add_executor_job(KeyPair.generate)
    await store.async_save(_stored(key))
    return key


def _cause(err: Exception) -> str:
    """Return the first line of an error about a file, which may quote its content, or the error's type."""
    return first_line(str(err)) or type(err).__name__


def _require_file(path: str) -> None:
    """Raise ValueError if the path exists but is not a regular file, for example a link to one."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise ValueError("a link, which is not followed" if stat.S_ISLNK(mode) else "not a file")


def _make_private(folder: str, name: str, level: int) -> None:
    """Set the mode of a file, and of its copies set aside, to 600: a backup may restore them readable for all."""
    for path in Path(folder).glob(f"{escape(name)}*"):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) or not mode & OTHERS:
            continue
        try:
            path.chmod(0o600)
        except OSError as err:
            _LOGGER.warning(
                "Other users can read %s (mode %03o), and this could not be changed: %s", path, mode & 0o777, err
            )
        else:
            _LOGGER.log(level, "Other users could read %s. Its mode is now 600", path)


async def _async_set_aside(hass: HomeAssistant, key: str, stored: object) -> None:
    """Save unreadable data under another name: `stored`, or the file itself if not even that was read."""
    store: Store[Any] = Store(hass, STORAGE_VERSION, key, private=True, atomic_writes=True)
    aside: Store[Any] = Store(hass, STORAGE_VERSION, f"{key}.unreadable", private=True, atomic_writes=True)
    if stored is None:
        await hass.async_add_executor_job(_move, store.path, aside.path)
    else:
        await aside.async_save(stored)
        await store.async_remove()


def _move(path: str, to: str) -> None:
    """Rename a file if it exists."""
    if Path(path).exists(follow_symlinks=False):
        Path(path).replace(to)


@dataclass(slots=True, kw_only=True)
class AudienceMemory:
    """What automations know of one host; `audience` alone writes it."""

    watched_until: float | None = None
    """Until when they could see whether the host is online, as Unix time."""
    unexpected_until: float | None = None
    """Until when they could see an unexpected absence, as Unix time."""
    is_held: bool = False
    """Whether the host is online again but they do not know yet; `HostMemory.since` is that of its absence."""
    untold: tuple[HostEvent, ...] = ()
    """The events that were not reported to them yet, oldest first."""


@dataclass(slots=True, kw_only=True)
class UpgradeMemory:
    """The job that installs updates on one host; `installation` alone writes it."""

    manager: str = ""
    """The package manager of the job, as long as its end has not been reported."""
    started: float | None = None
    """When the job was last known to run, as Unix time: the store may come back from a backup."""
    boot_id: str = ""
    """The id of the host's boot in which it ran."""
    wanted: tuple[str, ...] = ()
    """Some of the packages that were pending when it began, each as name and version."""
    failure: str = ""
    """How the last job failed, as the key of an error; "" if it did not."""


@dataclass(slots=True, kw_only=True)
class HostMemory:
    """What is remembered of one host; `coordinator` alone writes it, except for the parts that others own."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    inventory: Inventory = field(default_factory=Inventory)
    """Changed in place, by the item tracker alone."""
    last_test: dict[str, Any] | None = None
    online: bool | None = None
    """Whether the host was online at the last check; None: never checked."""
    since: float | None = None
    """Since when, as Unix time."""
    reason: str = ""
    """Why it was offline, as the key of an error; "" if it was not, or the reason is unknown."""
    baseline: Baseline | None = None
    """The state that new snapshots are compared with to find events; None: not known."""
    problems: tuple[Problem, ...] = ()
    """Its last known problems."""
    seen: float | None = None
    """When the host itself reported this, by `time.monotonic`; None: before Home Assistant started."""
    chosen: Selection = field(default_factory=Selection)
    """The services, filesystems and interfaces selected when that was last applied; `entity` alone writes it."""
    audience: AudienceMemory = field(default_factory=AudienceMemory)
    upgrade: UpgradeMemory = field(default_factory=UpgradeMemory)

    @property
    def age_seconds(self) -> float:
        """Return the seconds since the host last answered, infinite if it has not in this run of Home Assistant."""
        return math.inf if self.seen is None else time.monotonic() - self.seen


@callback
def async_hand_over(hass: HomeAssistant, host_id: str, memory: HostMemory) -> None:
    """Keep the findings of the config flow until the new entry's store loads them, or they are too old."""
    kept = hass.data.setdefault(_HANDED_OVER, {})
    kept[host_id] = memory
    for other in [name for name, known in kept.items() if known.age_seconds > HAND_OVER_SECONDS]:
        del kept[other]


class HostStore:
    """The file of one host.

    A delayed save that is re-armed at every poll would never happen, so the first change
    arms it once; what must not be lost is saved at once. A large file is saved at once only
    for changes that a host cannot cause by itself: otherwise megabytes would be written all the time.
    """

    def __init__(self, hass: HomeAssistant, entry_id: str, host_id: str) -> None:
        """Name the file after the config entry."""
        self._hass = hass
        self._host_id = host_id
        self._key = f"{DOMAIN}.{entry_id}"
        self._store: Store[dict[str, Any]] = Store(hass, STORAGE_VERSION, self._key, private=True, atomic_writes=True)
        self._is_dirty = self._is_closed = self._is_large = False
        self._large_saves = Bucket(*LARGE_FILE_SAVES)
        self.memory = HostMemory()

    async def async_load(self) -> HostMemory:
        """Return the content of the file; an unreadable one is moved aside and logged."""
        handed_over = self._hass.data.get(_HANDED_OVER, {}).pop(self._host_id, None)
        if handed_over and handed_over.age_seconds > HAND_OVER_SECONDS:
            handed_over = None  # A dialog was left open for long, or its entry was never set up.
        folder = self._hass.config.path(STORAGE_DIR)
        await self._hass.async_add_executor_job(_make_private, folder, self._key, logging.INFO)
        stored = None
        try:
            stored = await self._store.async_load()
            self.memory = (handed_over or self.memory) if stored is None else _remembered(stored)
        except UNREADABLE as err:
            _LOGGER.warning(
                "The stored state of %s cannot be read and was moved to %s.unreadable: %s",
                self._key,
                self._key,
                _cause(err),
            )
            self.memory = handed_over or self.memory
            await _async_set_aside(self._hass, self._key, stored)
        return self.memory

    async def async_read(self) -> HostMemory:
        """Return the content of the file as far as it is readable; a file of a later version stays where it is."""
        try:
            stored = await self._store.async_load()
            return HostMemory() if stored is None else _remembered(stored)
        except (*UNREADABLE, HomeAssistantError) as err:
            _LOGGER.debug("%s: %s", self._key, _cause(err))
            return HostMemory()

    @callback
    def async_changed(self) -> None:
        """Note that the memory changed; it is saved within 15 minutes, a large file within hours, and at stop."""
        if not (self._is_dirty or self._is_closed):
            self._is_dirty = True
            self._store.async_delay_save(self._plain, LARGE_FILE_SECONDS if self._is_large else SAVE_DELAY_SECONDS)

    async def async_save(self, *, whatever_size: bool = False) -> None:
        """Save at once; a large file only sometimes, unless `whatever_size`: for changes by a person or a start."""
        if self._is_large and not whatever_size and not self._large_saves.take():
            self.async_changed()
        elif not self._is_closed:
            await self._store.async_save(self._plain())

    async def async_close(self) -> None:
        """Save for the last time: from now on the file belongs to another store, or will be removed."""
        if not self._is_closed:
            await self._store.async_save(self._plain())
        self._is_closed = True

    async def async_remove(self) -> None:
        """Delete the file, and its copy set aside."""
        await self._store.async_remove()
        await Store[Any](self._hass, STORAGE_VERSION, f"{self._key}.unreadable").async_remove()

    @callback
    def _plain(self) -> dict[str, Any]:
        """Return the memory as plain JSON values."""
        self._is_dirty = False
        plain = self._everything()
        # It will be about as large next time: what is known of items stays for at least a day.
        self._is_large = len(json_bytes(plain)) > LARGE_FILE_BYTES
        return plain

    def _everything(self) -> dict[str, Any]:
        """Return all fields of the file."""
        audience, upgrade, chosen = self.memory.audience, self.memory.upgrade, self.memory.chosen
        problems = [each for each in self.memory.problems if len(each.item) <= NAME_LIMIT][:PROBLEMS_STORED]
        return {
            "snapshot": self.memory.snapshot.as_dict(),
            "inventory": self.memory.inventory.as_dict(),
            "pace": {"at": time.time(), **self.memory.inventory.pace()},
            "last_test": self.memory.last_test,
            "chosen_interfaces": list(chosen.interfaces),
            "chosen_filesystems": list(chosen.filesystems),
            "chosen_services": list(chosen.services),
            "online": self.memory.online,
            "since": self.memory.since,
            "reason": self.memory.reason,
            "watched_until": audience.watched_until,
            "unexpected_until": audience.unexpected_until,
            "is_held": audience.is_held,
            "baseline": self.memory.baseline and baseline_as_dict(self.memory.baseline, self.memory.snapshot),
            "untold": [[each.type, each.owner, dict(each.about)] for each in _foremost(audience.untold)],
            "problems": [[each.kind, each.item, each.device] for each in problems],
            # Beside them and not in their rows, which earlier versions would not read.
            "problems_since": [each.since for each in problems],
            "upgrade": upgrade.manager,
            "upgrade_started": upgrade.started,
            "upgrade_boot_id": upgrade.boot_id,
            "upgrade_wanted": list(upgrade.wanted),
            "upgrade_failure": upgrade.failure,
        }


def _remembered(stored: Mapping[str, Any]) -> HostMemory:
    """Return the content of a file; raise one of UNREADABLE if its main parts are invalid."""
    test, inventory = stored.get("last_test"), restore_inventory(stored["inventory"])
    if isinstance(pace := stored.get("pace"), dict):
        inventory.keep_pace(pace, time.time() - number(pace.get("at"), time.time()))
    return HostMemory(
        snapshot=restore_snapshot(stored["snapshot"]),
        inventory=inventory,
        last_test=test if isinstance(test, dict) else None,
        online=online if isinstance(online := stored.get("online"), bool) else None,
        since=_moment(stored.get("since")),
        reason=text(stored.get("reason")),
        baseline=restore_baseline(stored.get("baseline")),
        problems=_problems(stored.get("problems"), stored.get("problems_since")),
        chosen=Selection(
            interfaces=texts(stored.get("chosen_interfaces")),
            filesystems=texts(stored.get("chosen_filesystems")),
            services=texts(stored.get("chosen_services")),
        ),
        audience=AudienceMemory(
            watched_until=_moment(stored.get("watched_until")),
            unexpected_until=_moment(stored.get("unexpected_until", stored.get("watched_until"))),
            is_held=stored.get("is_held") is True,
            untold=_untold(stored.get("untold")),
        ),
        upgrade=UpgradeMemory(
            manager=text(stored.get("upgrade")),
            started=number(stored.get("upgrade_started"), None),
            boot_id=text(stored.get("upgrade_boot_id")),
            wanted=texts(stored.get("upgrade_wanted")),
            failure=text(stored.get("upgrade_failure")),
        ),
    )


def _moment(stored: object) -> float | None:
    """Return a Unix time of a file, None if it is not valid."""
    moment = number(stored, -1.0)
    return moment if 0 <= moment < _NO_TIME else None


def _problems(stored: object, moments: object) -> tuple[Problem, ...]:
    """Return the problems of a file; earlier versions stored no devices, and not since when."""
    rows = [texts(row) for row in (stored if isinstance(stored, list) else [])]
    since = [_moment(each) for each in moments] if isinstance(moments, list) else []
    return tuple(
        Problem(kind=row[0], item=row[1], device="".join(row[2:]), since=moment)
        for row, moment in zip_longest(rows, since[: len(rows)])
        if len(row) in {2, 3} and row[0] in KINDS
    )


def _foremost(untold: tuple[HostEvent, ...]) -> list[HostEvent]:
    """Return the events to store, in order: those of a user never take the place of the host's own."""
    order = sorted(range(len(untold)), key=lambda at: bool(untold[at].owner))
    return [untold[at] for at in sorted(order[:UNTOLD_STORED])]


def _untold(stored: object) -> tuple[HostEvent, ...]:
    """Return the events of a file."""
    found: list[HostEvent] = []
    for row in (stored if isinstance(stored, list) else [])[:UNTOLD_STORED]:
        match row:
            case [str(kind), str(owner), dict(about)] if kind in EVENT_TYPES and len(owner) <= LINE_LIMIT:
                known = {name: about[name] for name in ABOUT & about.keys()}
                # An empty text has a meaning as well: an empty owner is the host itself.
                valid = {k: v for k, v in known.items() if isinstance(v, str) and len(v) <= LINE_LIMIT}
                found.append(HostEvent(type=kind, owner=owner, about=valid))
    return tuple(found)
