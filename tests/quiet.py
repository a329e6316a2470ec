"""How an idle host's numbers vary: they change all the time, without any event.

A model, not a recording: processes wake up every second, a job runs every minute and another every ten, the fan
follows the temperature, logs grow. Its size is that of a small server with nothing to do: 1 to 3 % of CPU, a few
hundred bytes per second on the network.
"""

import math
import random
from typing import Any

STEP_SECONDS = 10.0
CORES = 4


class Quiet:
    """Moves the sections of a scripted reply on, ten seconds at a time."""

    def __init__(self, sections: dict[str, Any], seed: int = 1) -> None:
        self._sections = sections
        self._random = random.Random(seed)
        self._steps = 0
        self._load = 0.05
        self._celsius = 41.0
        self._used = 2.0e9

    def step(self) -> None:
        """Let ten seconds pass."""
        self._steps += 1
        busy = self._busy()
        self._cpu(busy)
        self._memory()
        self._load_averages(busy)
        self._traffic()
        self._temperature(busy)
        self._disks()
        self._containers()

    def _busy(self) -> float:
        """Return the share of CPU time: a base with noise, a job every minute, a larger one every ten."""
        busy = self._random.gauss(0.012, 0.004) + self._random.expovariate(1 / 0.004)
        if self._steps % 6 == 0:
            busy += self._random.uniform(0.005, 0.02)
        if self._steps % 60 == 0:
            busy += self._random.uniform(0.05, 0.2)
        return max(0.002, busy)

    def _cpu(self, busy: float) -> None:
        times, seconds = self._sections["cpu"]["times"], STEP_SECONDS * CORES
        times["user"] += 0.6 * busy * seconds
        times["system"] += 0.4 * busy * seconds
        times["idle"] += (1 - busy) * seconds

    def _memory(self) -> None:
        self._used += self._random.gauss(0, 6e6) - 0.02 * (self._used - 2.0e9)
        memory = self._sections["memory"]
        memory["available_bytes"] = memory["total_bytes"] - round(self._used)

    def _load_averages(self, busy: float) -> None:
        """Let load1 follow what runs, as the kernel does: a running process or none, decayed over a minute."""
        running = 1.0 if self._random.random() < 4 * busy else 0.0
        decay = math.exp(-STEP_SECONDS / 60)
        self._load = self._load * decay + running * (1 - decay)
        self._sections["load"].update(load1=round(self._load, 2), processes=120 + self._random.randint(-2, 2))

    def _traffic(self) -> None:
        """Add broadcasts and polls, and a larger exchange now and then."""
        card = self._sections["network"]["interfaces"]["eth0"]
        burst = self._random.uniform(2e4, 3e5) if self._random.random() < 0.03 else 0.0
        card["receive_bytes"] += round(max(0.0, self._random.gauss(600, 250)) * STEP_SECONDS + burst)
        card["transmit_bytes"] += round(max(0.0, self._random.gauss(400, 150)) * STEP_SECONDS + burst / 5)

    def _temperature(self, busy: float) -> None:
        """Let the sensor, which knows whole degrees, follow the load with noise of its own."""
        self._celsius += 0.3 * (40.0 + 60 * busy - self._celsius) + self._random.gauss(0, 0.5)
        sensors = self._sections["sensors"]
        sensors["cpu_celsius"] = float(round(self._celsius))
        sensors["temperatures"][0]["celsius"] = sensors["cpu_celsius"]

    def _disks(self) -> None:
        """Let logs grow by a gigabyte a day."""
        root = self._sections["filesystems"]["filesystems"][0]
        root["used_bytes"] += round(1e9 / 8640)
        root["available_bytes"] -= round(1e9 / 8640)
        written = self._random.expovariate(1 / 2e5)
        self._sections["disk_io"]["disks"]["sda"]["written_bytes"] += round(written)

    def _containers(self) -> None:
        """Let what idles in containers wake up now and then: a tenth of them do a little in any ten seconds."""
        section = self._sections.get("containers", {"containers": ()})
        for one in section["containers"]:
            if self._random.random() < 0.1:
                one["cpu_seconds"] += self._random.expovariate(1 / 0.05)
                one["memory_bytes"] += round(self._random.gauss(0, 3e5))
