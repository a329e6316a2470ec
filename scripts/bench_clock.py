"""Ten minutes of polls in seconds: clocks that jump by one interval at each poll, on the hub and in the probe.

Polls run back to back, yet every section comes at the rhythm that it has at a 10 s interval, and whatever hub and probe
remember for a while is renewed when it would be: what is due is decided by clocks, and these are moved. Neither wall
clock is, so that boot time and clock offset stay what they are.
"""

from dataclasses import replace
from functools import cache
import sys
import time
from types import ModuleType

from custom_components.homelab_monitor.client.probe.programs import Programs, make_program

INTERVAL = 10.0
PACKAGE = "custom_components.homelab_monitor"
_START = b'\nif __name__ == "__main__":'
_QUICK = b"""
def quicken():
    answered, boottime, answer = [0], Host.boottime, Probe.answer

    def counted(self, request):
        answered[0] += 1
        return answer(self, request)

    Host.boottime = lambda self: boottime(self) + %d * answered[0]
    Probe.answer = counted


quicken()
"""


class QuickClock(ModuleType):
    """The module time, with a monotonic clock that `jump` moves on."""

    def __init__(self) -> None:
        super().__init__("time")
        self.ahead = 0.0
        vars(self).update({name: value for name, value in vars(time).items() if not name.startswith("_")})
        self.monotonic = lambda: time.monotonic() + self.ahead

    def jump(self) -> None:
        """Let one interval pass."""
        self.ahead += INTERVAL


@cache
def quicken_hub() -> QuickClock:
    """Give every module of the integration the same quick clock; return it."""
    clock = QuickClock()
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE) and getattr(module, "time", None) is time:
            module.time = clock  # type: ignore[attr-defined]
    return clock


def quicken_probe(programs: Programs) -> Programs:
    """Return the programs with a probe whose clock jumps at each request."""
    before, start, after = programs.linux.source.rpartition(_START)
    return replace(programs, linux=make_program("probe.py", before + _QUICK % int(INTERVAL) + start + after))
