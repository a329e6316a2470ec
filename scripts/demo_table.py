"""The demo's small live table of the fleet, from the states that Home Assistant has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
import re
import shutil
from typing import Any

from demo_api import Entity

COLUMNS = (
    # title, width, what the unique id of the entity matches
    ("CPU", 6, re.compile(r"_host_cpu_usage$")),
    ("RAM", 6, re.compile(r"_host_memory_usage$")),
    ("load", 6, re.compile(r"_host_load1$")),
    ("temp", 6, re.compile(r"_host_cpu_temperature$")),
    ("GPU", 6, re.compile(r"_gpu_.*(?<!_memory)_usage$")),
)
CONNECTIVITY = "_host_connectivity"
UNITS = {"temp": "°C"}
NOTHING = "-"


@dataclass
class Row:
    """One host."""

    title: str
    status: str = NOTHING
    values: dict[str, float] = field(default_factory=dict)
    changed: datetime | None = None
    entities: int = 0


def rows(entries: Iterable[Any], entities: Mapping[str, Entity], states: Iterable[Any]) -> list[Row]:
    """Return one row per config entry."""
    found = {entry["entry_id"]: Row(entry["title"]) for entry in entries}
    for state in states:
        entity = entities.get(state["entity_id"])
        if entity and (row := found.get(entity.entry_id)):
            add_state(row, entity, state)
    return list(found.values())


def add_state(row: Row, entity: Entity, state: Any) -> None:  # noqa: ANN401 - JSON
    """Put one state into its host's row."""
    row.entities += 1
    value = state["state"]
    if entity.unique_id.endswith(CONNECTIVITY):
        row.status = {"on": "online", "off": "offline"}.get(value, value)
    reported = datetime.fromisoformat(state.get("last_reported") or state["last_updated"])
    row.changed = max(filter(None, (row.changed, reported)))
    for title, _, pattern in COLUMNS:
        if pattern.search(entity.unique_id) and value not in ("unavailable", "unknown"):
            # Of several graphics cards the busiest one is shown.
            row.values[title] = max(float(value), row.values.get(title, 0.0))


def text(fleet: list[Row]) -> str:
    """Return the table."""
    width = max([len("host"), *(len(row.title) for row in fleet)])
    titles = "".join(f"{title:>{size + 1}}" for title, size, _ in COLUMNS)
    lines = [f"{'host':<{width}}  {'status':<8}{titles}{'entities':>10}{'changed':>10}"]
    for row in fleet:
        cells = "".join(f"{cell(row, title):>{size + 1}}" for title, size, _ in COLUMNS)
        lines.append(f"{row.title:<{width}}  {row.status:<8}{cells}{row.entities:>10}{age(row):>10}")
    columns = shutil.get_terminal_size((120, 24)).columns
    return "\n".join(line[:columns] for line in lines)


def cell(row: Row, title: str) -> str:
    """Return a value as it is shown: a load with one decimal, all others are whole percents or degrees."""
    if title not in row.values:
        return NOTHING
    return f"{row.values[title]:.1f}" if title == "load" else f"{row.values[title]:.0f}{UNITS.get(title, '%')}"


def age(row: Row) -> str:
    """Return how long ago a value of the host was last written."""
    if row.changed is None:
        return NOTHING
    return f"{max(0, (datetime.now(UTC) - row.changed).total_seconds()):.0f} s ago"
