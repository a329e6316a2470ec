"""What scripts/soak looks at: what there is in Home Assistant and on the host, by name, and what it uses."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
import ctypes
import gc
import json
import os
from pathlib import Path
import threading

from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
import psutil
from soak_hub import Hub
from soak_table import Look

from custom_components.homelab_monitor.const import DOMAIN

MEGABYTE = 2**20
LOOKS = 30
"""Times to look, a poll apart: what comes and goes is there in one of them."""
APART_SECONDS = 31.0


async def look(hub: Hub) -> Look:
    """Look at all of it for a quarter of an hour."""
    used: dict[str, Counter[str]] = {}
    for _ in range(LOOKS):
        await hub.pass_time(APART_SECONDS)
        for name, counts in _used(hub).items():
            used[name] = used.get(name, Counter()) | counts
    gc.collect()
    _trim()
    megabytes = {"hub": _private_megabytes(os.getpid()), "probe": _private_megabytes(probe(hub).pid)}
    return Look(_names(hub), used, megabytes)


def probe(hub: Hub) -> psutil.Process:
    """Return the probe's process; there is one."""
    found = [
        process
        for process in psutil.Process(hub.place.pid).children(recursive=True)
        if process.name().startswith("python") and "zlib.decompress" in " ".join(process.cmdline())
    ]
    if len(found) != 1:
        raise SystemExit(f"{len(found)} probes run")
    return found[0]


def _used(hub: Hub) -> dict[str, Counter[str]]:
    """Return what is used now, by its kind."""
    process = probe(hub)
    return {
        "tasks of the hub": Counter(_kind(task.get_coro()) for task in asyncio.all_tasks()),
        "timers of the hub": Counter(_callback(timer) for timer in hub.timers()),
        "descriptors of the hub": Counter(_opened(Path("/proc/self/fd"))),
        "threads of the hub": Counter(
            thread.name.rpartition("_")[0] or thread.name for thread in threading.enumerate()
        ),
        "processes of the host": Counter(
            each.name() for each in psutil.Process(hub.place.pid).children(recursive=True) if each.status() != "zombie"
        ),
        "descriptors of the probe": Counter(_opened(Path(f"/proc/{process.pid}/fd"))),
        "threads of the probe": Counter({"thread": process.num_threads()}),
    }


def _kind(coroutine: object) -> str:
    """Return what a task runs."""
    return getattr(coroutine, "__qualname__", type(coroutine).__name__)


def _callback(timer: asyncio.TimerHandle) -> str:
    """Return what a timer calls."""
    called = timer._callback  # type: ignore[attr-defined]  # noqa: SLF001
    return getattr(called, "__qualname__", None) or type(called).__name__


def _opened(folder: Path) -> Iterator[str]:
    """Yield what is open: of sockets and pipes only that, of files which."""
    for link in list(folder.iterdir()):
        try:
            yield str(link.readlink()).partition(":")[0]
        except OSError:
            continue


def _private_megabytes(pid: int) -> float:
    """Return the memory that is a process's own (smaps_rollup of proc(5))."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(row[1]) for row in rows if row[0].startswith("Private_")) * 1024 / MEGABYTE


def _trim() -> None:
    """Give back to the system what is free already (malloc_trim(3)), where the C library can."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _names(hub: Hub) -> dict[str, frozenset[str]]:
    """Return what there is, by name."""
    entry_id = hub.entry.entry_id
    entities = er.async_entries_for_config_entry(er.async_get(hub.hass), entry_id)
    registry = dr.async_get(hub.hass)
    devices = (
        *dr.async_entries_for_config_entry(registry, entry_id),
        *dr.async_child_entries_for_config_entry(registry, entry_id),
    )
    issues = ir.async_get(hub.hass).issues.values()
    folder = hub.folder / ".storage"
    stored = json.loads((folder / f"homelab_monitor.{entry_id}").read_text())["data"]
    return {
        "entities": frozenset(f"{each.unique_id} {each.entity_id} {each.disabled_by}" for each in entities),
        "unique ids": frozenset(each.unique_id for each in entities),
        "devices": frozenset(str(each.name) for each in devices),
        "repair issues": frozenset(each.issue_id for each in issues if each.active and each.domain == DOMAIN),
        "states": frozenset(each.unique_id for each in entities if hub.hass.states.get(each.entity_id)),
        "store keys": frozenset(_keys(stored)),
        "files of .storage": frozenset(path.name for path in folder.iterdir()),
    }


def _keys(stored: object, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys of a JSON value; rows of lists count as one."""
    if isinstance(stored, dict):
        for name, value in stored.items():
            yield f"{path}/{name}"
            yield from _keys(value, f"{path}/{name}")
