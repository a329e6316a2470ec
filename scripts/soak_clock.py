"""The clocks of scripts/soak: those of Home Assistant and those that the probe reads, moved together or apart.

Imported before Home Assistant, so that every part of it, the event loop included, goes by moved clocks: waiting for a
timer is then a jump to it. The probe's clocks are moved in its source, which reads by how much from a file. Real stay
the timers of asyncio while a request is under way, the time limits inside the probe, `st_mtime`, the journal's times
and the boot id. What the host's CPUs counted is real as well; for the time that is jumped over they are said to idle.
"""

from datetime import UTC, datetime, tzinfo
import os
from pathlib import Path
import struct
import time

from homeassistant.util import dt as dt_util

_MONOTONIC, _TIME = time.monotonic, time.time
_START = b'\nif __name__ == "__main__":'
_MOVE = b"""
def move():
    boottime, epoch, read, text = Host.boottime, Host.epoch, Host.read, Host.text

    def moved():
        import struct

        with open(%r, "rb") as file:
            return struct.unpack("dd", file.read(16))

    def shown(host, path, told):
        ahead = moved()[0]
        if path == "/proc/uptime":
            seconds, _, rest = told.partition(" ")
            return "%%.2f %%s" %% (float(seconds) + ahead, rest)
        if path != "/proc/stat":
            return told
        lines = told.splitlines()
        cores = sum(line.startswith("cpu") for line in lines) - 1
        for number, line in enumerate(lines):
            words = line.split()
            if line.startswith("cpu"):
                words[4] = str(int(words[4]) + int(ahead * host.ticks() * (cores if words[0] == "cpu" else 1)))
                lines[number] = " ".join(words)
        return "\\n".join(lines) + "\\n"

    Host.boottime = lambda self: boottime(self) + moved()[0]
    Host.epoch = lambda self: epoch(self) + sum(moved())
    Host.read = lambda self, path, *rest: shown(self, path, read(self, path, *rest))
    Host.text = lambda self, path, *rest: shown(self, path, text(self, path, *rest))


move()
"""


class Clocks:
    """How far all clocks are ahead of the real ones, and by how much each side's wall clock is wrong (seconds)."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.hub_error = self.host_error = 0.0
        self._file = -1

    def share(self, path: Path) -> None:
        """Tell the probe through this file: two doubles, how far ahead and how wrong its wall clock is."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.jump(0.0)

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += seconds
        os.pwrite(self._file, struct.pack("dd", self.ahead, self.host_error), 0)

    def set_wrong(self, *, hub: float = 0.0, host: float = 0.0) -> None:
        """Set both wall clocks, by how much they are wrong."""
        self.hub_error, self.host_error = hub, host
        self.jump(0.0)

    def monotonic(self) -> float:
        """Return the moved time.monotonic of the hub."""
        return _MONOTONIC() + self.ahead

    def wall(self) -> float:
        """Return the moved time.time of the hub."""
        return _TIME() + self.ahead + self.hub_error


def move_probe(source: bytes, path: str) -> bytes:
    """Return the probe's program with clocks that are moved as the file at `path` says."""
    before, start, after = source.rpartition(_START)
    # Python 3.6 has no b"%r" of bytes without a prefix: the path is ASCII and ours.
    return before + _MOVE.replace(b"%r", repr(path).encode()).replace(b"%%", b"%") + start + after


def _move_hub() -> Clocks:
    """Let this process go by moved clocks."""
    clocks = Clocks()
    time.monotonic, time.time = clocks.monotonic, clocks.wall

    def now(zone: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(clocks.wall(), zone or dt_util.get_default_time_zone())

    dt_util.now = now
    dt_util.utcnow = lambda: now(UTC)  # type: ignore[assignment]
    return clocks


CLOCKS = _move_hub()
