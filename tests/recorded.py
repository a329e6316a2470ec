"""A recorded machine in a Home Assistant whose clock a test moves: what its probe reported, and what follows.

Between two polls every counter grows as it has done on average since the machine booted, so that each rate has a value
of its own and two that are mixed up differ.
"""

from collections.abc import Iterator
import copy
from datetime import UTC, datetime
import json
from pathlib import Path
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant

from .scripted import Host, ScriptedSession

HOSTS = Path(__file__).parent / "fixtures" / "hosts"


def recorded_hosts() -> list[Path]:
    """Return the folders of all recorded machines."""
    return sorted(path.parent for path in HOSTS.glob("*/expected.json"))


def recorded_reply(name: str) -> dict[str, Any]:
    """Return what the probe tells of a recorded machine."""
    return json.loads((HOSTS / name / "expected.json").read_text())


class RecordedSession(ScriptedSession):
    """Answers polls as the probe on a recorded machine would."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.recorded = recorded_reply(name)
        self.document = copy.deepcopy(self.recorded)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        uptime = self.recorded["sections"]["uptime"]["uptime_seconds"]
        factor = self.sections["uptime"]["uptime_seconds"] / uptime
        for (before, place), (now, _) in zip(counters(self.recorded), counters(self.document), strict=True):
            now[place] = type(before[place])(before[place] * factor)


def counters(reply: dict[str, Any]) -> Iterator[tuple[Any, str | int]]:
    """Yield where the counters of a reply are: a row, and the name or number in it."""
    sections = reply["sections"]
    rows = (
        sections["cpu"]["times"],
        *sections["network"]["interfaces"].values(),
        *sections["disk_io"]["disks"].values(),
    )
    yield from ((row, name) for row in rows for name in row)
    yield from ((core, number) for core in sections["cpu"]["cores"] for number in range(2))
    rows = sections.get("containers", {}).get("containers", ())
    yield from ((row, "cpu_seconds") for row in rows if "cpu_seconds" in row)


class RecordedHost(Host):
    """One recorded machine, as of the moment in which it was recorded."""

    def __init__(self, hass: HomeAssistant, freezer: FrozenDateTimeFactory, name: str) -> None:
        super().__init__(hass, freezer)
        self.name = name
        self.session = RecordedSession(name)
        freezer.move_to(datetime.fromtimestamp(self.session.document["epoch"], UTC))
