"""A recorded machine that lives: a copy of a fixture tree whose numbers move on.

The probe reads real clocks and the copied files. Once a second the counters of CPU, network and disks advance by what
a busy workstation does; its temperatures and the graphics card follow the load. The rest stays as it is in the fixture.
"""

import asyncio
from collections.abc import Callable, Mapping
import json
import math
from pathlib import Path
import random
import re
import shutil
import time

from demo_work import Work, is_made_for, journal_commands

STEP_SECONDS = 1.0
TICKS = 100
"""Units of /proc/stat per second."""
LOAD_AVERAGE_SECONDS = (60, 300, 900)
NVIDIA_SMI_FILE = "nvidia-smi.csv"
GPU_NUMBERS: dict[str, Callable[[float, Mapping[str, float]], float]] = {
    "utilization.gpu": lambda load, _: 100 * load,
    "memory.used": lambda load, card: (0.1 + 0.7 * load) * card["memory.total"],
    "temperature.gpu": lambda load, _: 38 + 40 * load,
    "power.draw": lambda load, card: (0.1 + 0.8 * load) * card["enforced.power.limit"],
    "fan.speed": lambda load, _: 20 + 60 * load,
    "clocks.sm": lambda load, _: 800 + 1000 * load,
}
"""Field of `nvidia-smi --query-gpu` → its value under a load of 0 to 1, given the card's other numbers."""
SECOND_GPU_LOAD = 0.2
"""How busy further cards are, as a share of the first one's load."""


class LivingTree:
    """The copy and its movement."""

    def __init__(self, source: Path, folder: Path, hostname: str) -> None:
        """Copy the fixture; the copy goes by real clocks and a name of its own."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, symlinks=True)
        self.folder = folder
        self._stepped = time.monotonic()
        self._gpu_fields: list[str] = []
        self._temperatures = {path: int(path.read_text()) for path in self._cpu_temperatures()}
        groups = (folder / "sys/fs/cgroup/system.slice").glob("docker-*.scope/cpu.stat")
        self._container_times = [str(path.relative_to(folder)) for path in sorted(groups)]
        self._tell_own_things(hostname)
        self._work = Work(folder, hostname) if is_made_for(folder) else None
        uptime = float((folder / "proc/uptime").read_text().split()[0])
        self._change("proc/stat", lambda text: re.sub(r"(?m)^btime .*", f"btime {time.time() - uptime:.0f}", text))

    def _tell_own_things(self, hostname: str) -> None:
        """Rewrite what the recorded machine says of itself: its name, no clocks, a file of the card's numbers."""
        told = json.loads((self.folder / ".host.json").read_text())
        recorded = told.pop("clocks", {}).get("epoch", time.time())
        # What was an hour old is an hour old again.
        since = time.time() - recorded
        told["stamps"] = {
            path: [changed + since, moved + since, size]
            for path, (changed, moved, size) in told.get("stamps", {}).items()
        }
        told["uname"][0] = hostname
        for name in ("etc/hostname", "proc/sys/kernel/hostname"):
            self._change(name, lambda _: f"{hostname}\n")
        for command, answer in told.get("run", {}).items():
            fields = re.search(r"nvidia-smi.* --query-gpu=(\S+)", command)
            # Older drivers refuse some fields: that answer stays as it is.
            if fields and answer["status"] == 0:
                self._gpu_fields = fields[1].split(",")
                (self.folder / NVIDIA_SMI_FILE).write_text(answer["output"])
                told["run"][command] = NVIDIA_SMI_FILE
        told["run"] |= journal_commands()
        (self.folder / ".host.json").write_text(json.dumps(told))

    def _cpu_temperatures(self) -> list[Path]:
        """Return the files that hold temperatures of the processor."""
        chips = (self.folder / "sys/class/hwmon").glob("*/name")
        folders = [name.parent for name in chips if name.read_text().strip() in ("coretemp", "k10temp")]
        return [path for folder in folders for path in folder.glob("temp*_input")]

    async def run(self) -> None:
        """Move on once a second, until cancelled."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            await asyncio.to_thread(self.step)

    def step(self) -> None:
        """Advance everything by the time that has passed."""
        now = time.monotonic()
        seconds, self._stepped = now - self._stepped, now
        # Two waves of different length, and a little noise: busy, but never the same.
        load = 0.5 + 0.25 * math.sin(now / 40) + 0.15 * math.sin(now / 7) + random.uniform(-0.05, 0.05)  # noqa: S311
        self._change("proc/stat", lambda text: advanced_stat(text, seconds, load))
        self._change("proc/net/dev", lambda text: advanced_network(text, seconds, load))
        self._change("proc/diskstats", lambda text: advanced_disks(text, seconds, load))
        self._change("proc/loadavg", lambda text: advanced_load(text, seconds, load))
        self._change("proc/uptime", lambda text: advanced_uptime(text, seconds))
        for number, path in enumerate(self._container_times, 1):
            self._change(path, lambda text, share=load / number: advanced_group(text, seconds, share))
        self._change(NVIDIA_SMI_FILE, lambda text: gpu_numbers(text, self._gpu_fields, load))
        if self._work:
            self._work.step(seconds, load)
        for path, degrees in self._temperatures.items():
            path.write_text(f"{degrees + round(20 * load) * 1000}\n")

    def _change(self, name: str, change: Callable[[str], str]) -> None:
        """Rewrite a file of the tree, if it has it, in one go: the probe may read at any moment."""
        path = self.folder / name
        if path.exists():
            new = path.with_name(f"{path.name}.new")
            new.write_text(change(path.read_text()))
            new.replace(path)


def advanced_stat(text: str, seconds: float, load: float) -> str:
    """Advance /proc/stat: user, system, iowait and idle of every core, and the line of their sum (proc_stat(5))."""
    cores = len(re.findall(r"(?m)^cpu\d", text))
    lines = []
    for line in text.splitlines():
        name, *rest = line.split()
        if name.startswith("cpu"):
            ticks = seconds * TICKS * (cores if name == "cpu" else 1)
            shares = {0: 0.8 * load, 2: 0.15 * load, 4: 0.01, 3: 0.99 - 0.95 * load}
            rest = added(rest, {field: ticks * share for field, share in shares.items()})
        lines.append(" ".join([name, *rest]))
    return "\n".join(lines) + "\n"


def advanced_network(text: str, seconds: float, load: float) -> str:
    """Advance /proc/net/dev: bytes and packets, received and sent, where there was traffic (proc_net(5))."""
    received, sent = seconds * load * 6e6, seconds * load * 9e5
    lines = []
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        counters = rest.split()
        if colon and name.strip() != "lo" and counters[0] != "0":
            counters = added(counters, {0: received, 1: received / 1400, 8: sent, 9: sent / 700})
        lines.append(f"{name}: {' '.join(counters)}" if colon else line)
    return "\n".join(lines) + "\n"


def advanced_disks(text: str, seconds: float, load: float) -> str:
    """Advance /proc/diskstats: reads and writes of disks in use (Documentation/admin-guide/iostats.rst)."""
    reads, writes = seconds * load * 40, seconds * load * 90
    steps = {3: reads, 5: reads * 128, 6: reads / 4, 7: writes, 9: writes * 64, 10: writes / 2, 12: seconds * load * 80}
    rows = [line.split() for line in text.splitlines()]
    return "\n".join(" ".join(added(row, steps) if row[3] != "0" else row) for row in rows) + "\n"


def advanced_load(text: str, seconds: float, load: float) -> str:
    """Advance /proc/loadavg towards the load, as the kernel averages it (proc_loadavg(5))."""
    averages, rest = text.split()[:3], text.split()[3:]
    for place, (average, period) in enumerate(zip(averages, LOAD_AVERAGE_SECONDS, strict=True)):
        averages[place] = f"{float(average) + (8 * load - float(average)) * (1 - math.exp(-seconds / period)):.2f}"
    return " ".join([*averages, *rest]) + "\n"


def advanced_uptime(text: str, seconds: float) -> str:
    """Advance both numbers of /proc/uptime."""
    return " ".join(f"{float(number) + seconds:.2f}" for number in text.split()) + "\n"


def advanced_group(text: str, seconds: float, share: float) -> str:
    """Advance the times of a control group's cpu.stat, in microseconds, by a share of one core."""
    steps = {"usage_usec": 1.0, "user_usec": 0.7, "system_usec": 0.3}
    rows = [line.split() for line in text.splitlines()]
    return "".join(f"{name} {int(value) + round(1e6 * seconds * share * steps.get(name, 0))}\n" for name, value in rows)


def gpu_numbers(text: str, fields: list[str], load: float) -> str:
    """Set what nvidia-smi says of every card (comma-separated, one line each) to a load; [N/A] stays."""
    lines = []
    for number, line in enumerate(text.splitlines()):
        card = dict(zip(fields, line.split(", "), strict=True))
        numbers = {name: float(value) for name, value in card.items() if re.fullmatch(r"\d+(\.\d+)?", value)}
        busy = load * SECOND_GPU_LOAD if number else load
        moved = {name: f"{GPU_NUMBERS[name](busy, numbers):.0f}" for name in GPU_NUMBERS.keys() & numbers.keys()}
        lines.append(", ".join({**card, **moved}.values()))
    return "\n".join(lines) + "\n"


def added(counters: list[str], steps: dict[int, float]) -> list[str]:
    """Return a row of counters, those at the given places increased."""
    return [str(int(value) + round(steps[place])) if place in steps else value for place, value in enumerate(counters)]
