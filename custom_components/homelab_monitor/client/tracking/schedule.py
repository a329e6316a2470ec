"""When each section is requested: at its interval, sooner for new hardware and after a boot, later while it hangs.

A host that reports a boot or new hardware at each poll is believed only a few times: everything at each poll would be
too much work for both sides.
"""

from collections.abc import Iterable

from ..bucket import Bucket
from ..limits import EARLY_TURNS
from ..models import SECTIONS
from ..probe.snapshot import Reply, Snapshot
from .items import unknown_hardware

LATE_SECONDS = 30.0
"""Seconds until a section that was late twice is requested again: a hanging reader must not delay every poll."""
SELDOM_SECONDS = 600.0
SELDOM_LATE_SECONDS = 60.0
"""The same for a section with a long interval: a slow package manager has answered by then."""

BOOTING_TURN_SECONDS = 60.0
"""The same for any section of a booting host: what starts late, such as a firewall, is not shown off for minutes."""

OF_HARDWARE = ("hardware", "interfaces")
"""Sections that identify new names."""


class Schedule:
    """Remembers when each section is due; moments are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._unknown_hardware: frozenset[str] = frozenset()
        self._boot_id = ""
        self._boots, self._plugs = Bucket(*EARLY_TURNS), Bucket(*EARLY_TURNS)
        self._is_boot_owed = self._is_plug_owed = False

    def due(self, until: float) -> list[str]:
        """Return the sections that are due until then, in the order of the contract."""
        return [name for name in SECTIONS if self._due.get(name, 0.0) <= until]

    def start_over(self) -> None:
        """Make every section due: what was denied before may be readable now."""
        self._due.clear()

    def answered(self, sections: Iterable[str], before: Snapshot, reply: Reply, now: float) -> None:
        """Record that sections were requested; `before` is the snapshot until this reply."""
        self._due |= {name: now + _pause(name, before, reply) for name in sections}

    def see(self, snapshot: Snapshot) -> None:
        """Make sections due that are surely outdated: after a boot of the host, or for new hardware."""
        self._is_boot_owed |= bool(self._boot_id) and snapshot.boot_id != self._boot_id
        self._boot_id = snapshot.boot_id
        if self._is_boot_owed and self._boots.take():
            # Just then people check whether a reboot is due and whether the firewall is up.
            self._is_boot_owed = False
            self.start_over()
        if snapshot.is_booting:
            self._due = {name: min(due, snapshot.steady + BOOTING_TURN_SECONDS) for name, due in self._due.items()}
        unknown = unknown_hardware(snapshot)
        self._is_plug_owed = bool(unknown) and (self._is_plug_owed or bool(unknown - self._unknown_hardware))
        self._unknown_hardware = unknown
        if self._is_plug_owed and self._plugs.take():
            self._is_plug_owed = False
            for section in OF_HARDWARE:
                self._due.pop(section, None)


def _pause(section: str, before: Snapshot, reply: Reply) -> float:
    """Return after how many seconds a section is due again."""
    usual = SECTIONS[section].every_seconds
    if reply.missing.get(section) != "timed_out":
        return usual
    was_late = before.missing.get(section) == "timed_out"
    if usual < LATE_SECONDS and not was_late:
        return usual
    return LATE_SECONDS if usual < SELDOM_SECONDS else SELDOM_LATE_SECONDS
