"""When each section is asked: at its rhythm, sooner for new hardware, later while it hangs. Pure: no clock."""

from collections.abc import Iterable

from .items import unknown_hardware
from .models import SECTIONS
from .snapshot import Reply, Snapshot

LATE_SECONDS = 30.0
"""When a section that was late twice is asked again: what hangs must not delay every poll."""
SELDOM_SECONDS = 600.0
SELDOM_LATE_SECONDS = 60.0
"""When one whose turn is so seldom is asked again: a slow package manager has answered by then."""

OF_HARDWARE = ("hardware", "interfaces")
"""What says what a new name is."""


class Turns:
    """Remembers when it is each section's turn; moments are seconds of one clock that never jumps."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._unknown_hardware: frozenset[str] = frozenset()
        self._boot_id = ""

    def due(self, until: float) -> list[str]:
        """Return the sections whose turn comes until then, in the order of the contract."""
        return [name for name in SECTIONS if self._due.get(name, 0.0) <= until]

    def start_over(self) -> None:
        """Let it be every section's turn: what one was not allowed to see it may see now."""
        self._due.clear()

    def answered(self, sections: Iterable[str], before: Snapshot, reply: Reply, now: float) -> None:
        """Note that sections were asked; `before` is what was known until this reply."""
        self._due |= {name: now + _pause(name, before, reply) for name in sections}

    def see(self, snapshot: Snapshot) -> None:
        """Let nothing wait that is surely old: of a host that has booted, or of what was just plugged in."""
        if self._boot_id and snapshot.boot_id != self._boot_id:
            # Whether a reboot is due and the firewall is up is what people look at just then.
            self.start_over()
        self._boot_id = snapshot.boot_id
        unknown = unknown_hardware(snapshot)
        if unknown - self._unknown_hardware:
            for section in OF_HARDWARE:
                self._due.pop(section, None)
        self._unknown_hardware = unknown


def _pause(section: str, before: Snapshot, reply: Reply) -> float:
    """Return after how many seconds it is a section's turn again."""
    usual = SECTIONS[section].every_seconds
    was_late, is_late = (told.missing.get(section) == "timed_out" for told in (before, reply))
    if not is_late or (usual < LATE_SECONDS and not was_late):
        return usual
    return LATE_SECONDS if usual < SELDOM_SECONDS else SELDOM_LATE_SECONDS
