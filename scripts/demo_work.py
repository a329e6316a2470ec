"""What the demo's made-up workstation runs and what its services and containers print: files beside the recorded ones.

The probe finds processes under /proc, asks a recorded journalctl for the logs of services and a recorded engine for
those of containers. All of it goes on: processes use CPU time as the load has it, now and then something is printed.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
import json
from pathlib import Path
import random
import shutil
import time

TICKS = 100
"""Units of CPU time in /proc/PID/stat per second."""
JOURNAL = "journal"
"""Folder of the tree with what journalctl answers."""
ENGINE = "run/docker.sock/containers"
"""Folder of the tree with what its engine answers."""
LOG_LINES = 500
"""The most that can be asked for, and that is kept."""
FIRST_LINES = 40
APART_SECONDS = 30.0
"""How far the first lines are apart, and how long it takes on average until a log goes on."""
ACCOUNTS = """\
root:x:0:0:root:/root:/bin/bash
postgres:x:999:999::/var/lib/postgresql:/bin/sh
ollama:x:997:997::/usr/share/ollama:/bin/false
demo:x:1000:1000:Demo:/home/demo:/bin/bash
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `cores` is how many it keeps busy under full load, `hours` how long ago it was started."""

    pid: int
    name: str
    uid: int
    group: str
    """Its control group; "" for what the recorded machine tells already."""
    cores: float
    megabytes: int
    threads: int
    hours: float


PROCESSES = (
    Process(1, "systemd", 0, "/init.scope", 0.002, 14, 1, 66.7),
    Process(2, "kthreadd", 0, "/", 0.0, 0, 1, 66.7),
    Process(611, "systemd-journal", 0, "/system.slice/systemd-journald.service", 0.004, 42, 1, 66.7),
    Process(811, "sshd", 0, "", 0.001, 9, 1, 66.6),
    Process(812, "fail2ban-server", 0, "", 0.003, 31, 5, 66.6),
    Process(905, "dockerd", 0, "/system.slice/docker.service", 0.02, 96, 24, 66.6),
    Process(2211, "ollama", 997, "", 1.6, 2150, 38, 30.0),
    Process(3120, "python3", 1000, "", 0.9, 580, 17, 52.0),
    Process(4102, "postgres", 999, "", 0.12, 174, 1, 52.0),
    Process(4410, "immich", 1000, "", 0.35, 384, 12, 25.2),
    Process(5230, "gnome-shell", 1000, "/user.slice/user-1000.slice/session-2.scope", 0.25, 412, 21, 9.0),
    Process(6014, "blender", 1000, "/user.slice/user-1000.slice/session-2.scope", 3.4, 3270, 33, 2.5),
)
"""Ids as in the recorded machine, where that has them."""
SERVICES: Mapping[str, tuple[str, ...]] = {
    "ollama.service": (
        'ollama[2211]: [GIN] 200 | {n} ms | 192.0.2.21 | POST "/api/chat"',
        'ollama[2211]: [GIN] 200 | {n} ms | 192.0.2.21 | POST "/api/embed"',
        'ollama[2211]: source=sched.go msg="loaded runners" count=1',
    ),
    "backup.service": (
        "restic[71{n}]: processed 48213 files, 412.{n} GiB",
        "systemd[1]: backup.service: Deactivated successfully.",
        "systemd[1]: Finished backup.service - Nightly backup.",
    ),
    "fwupd-refresh.service": (
        "fwupdmgr[65{n}]: Updating lvfs",
        "fwupdmgr[65{n}]: Could not resolve host: cdn.fwupd.org",
        "systemd[1]: fwupd-refresh.service: Main process exited, code=exited, status=1/FAILURE",
    ),
    "ssh.service": ("sshd[61{n}]: Accepted publickey for demo from 192.0.2.21 port 5{n} ssh2: ED25519",),
    "fail2ban.service": ("fail2ban-server[812]: [sshd] Found 198.51.100.{n}",),
}
CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "jellyfin": (
        '[INF] Playback of "Big Buck Bunny" at {n}00 s: direct play',
        "[INF] StartTask: Scan Media Library completed after 0 minute(s) and {n} seconds",
    ),
    "immich_server": (
        "[Microservices:MetadataService] LOG extracted metadata of IMG_0{n}.jpg",
        "[Api:ErrorInterceptor] ERROR connect ECONNREFUSED 192.0.2.40:3003",
    ),
    "immich_postgres": ("LOG:  checkpoint complete: wrote {n} buffers",),
    "backup": ("Fatal: unable to open repository at rest:http://192.0.2.9:8000/: connection refused",),
}
SELDOM_SECONDS = 8 * 3600.0
QUIET = frozenset({"backup.service", "backup", "fwupd-refresh.service"})
"""What does not run now prints nothing new."""


def is_made_for(folder: Path) -> bool:
    """Tell whether a tree is the workstation's, whose services and containers these are."""
    listed = folder / ENGINE / "json"
    return listed.exists() and all(f'"/{name}"' in listed.read_text() for name in CONTAINERS)


class Work:
    """The processes and logs of a tree."""

    def __init__(self, folder: Path, hostname: str) -> None:
        self._folder = folder
        self._hostname = hostname
        self._random = random.Random()  # noqa: S311 - made up
        self._ticks = {each.pid: each.hours * 3600 * each.cores / 2 * TICKS for each in PROCESSES}
        # A real machine may have been up for less than the made-up one: both go by its clock.
        self._up = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._engine = folder / ENGINE
        self._lines: dict[str, deque[str]] = {}
        (folder / "etc/passwd").write_text(ACCOUNTS)
        (folder / JOURNAL).mkdir()
        for process in PROCESSES:
            self._start(process)
        for name in CONTAINERS:
            self._name(name)
        now = time.time()
        for name in (*SERVICES, *CONTAINERS):
            self._lines[name] = deque(maxlen=LOG_LINES)
            apart = APART_SECONDS if name not in QUIET else SELDOM_SECONDS
            for number in range(FIRST_LINES, 0, -1):
                self._print(name, now - number * apart)
            self._write(name)

    def step(self, seconds: float, load: float) -> None:
        """Let time pass."""
        for process in PROCESSES:
            self._ticks[process.pid] += seconds * process.cores * load * TICKS
            self._write_stat(process)
        for name in self._lines.keys() - QUIET:
            if self._random.random() < seconds / APART_SECONDS:
                self._print(name, time.time())
                self._write(name)

    def _start(self, process: Process) -> None:
        """Write what /proc tells of a process (proc(5)), as far as the recorded machine does not."""
        folder = self._folder / f"proc/{process.pid}"
        folder.mkdir(exist_ok=True)
        uids = "\t".join([str(process.uid)] * 4)
        memory = f"VmSize:\t{process.megabytes * 3072} kB\nVmRSS:\t{process.megabytes * 1024} kB\n"
        status = f"Name:\t{process.name}\nState:\tS (sleeping)\nUid:\t{uids}\n"
        status += f"{memory if process.megabytes else ''}Threads:\t{process.threads}\n"
        (folder / "status").write_text(status)
        (folder / "comm").write_text(f"{process.name}\n")
        if process.group:
            (folder / "cgroup").write_text(f"0::{process.group}\n")
        self._write_stat(process)

    def _write_stat(self, process: Process) -> None:
        """Write /proc/PID/stat (proc_pid_stat(5)): its 14th and 15th fields are CPU time, the 22nd is when it began."""
        path = self._folder / f"proc/{process.pid}/stat"
        if process.pid == 1 and path.exists():
            return  # When PID 1 was started is part of the boot id.
        used, began = round(self._ticks[process.pid]), round(max(1.0, self._up - process.hours * 3600) * TICKS)
        parent = 0 if process.pid <= 2 else 1  # noqa: PLR2004 - PID 1 and the kernel's own first thread
        fields = f"S {parent} {process.pid} {process.pid} 0 -1 4194560 0 0 0 0 {used * 4 // 5} {used // 5} 0 0 20 0"
        write(path, f"{process.pid} ({process.name}) {fields} {process.threads} 0 {began} 0 0\n".encode())

    def _name(self, name: str) -> None:
        """Let the engine know a container by its name as well: the recorded answers go by its id."""
        known = json.loads((self._engine / "json").read_text())
        ident = next(each["Id"] for each in known if f"/{name}" in each["Names"])
        (self._engine / name).mkdir()
        shutil.copy(self._engine / ident / "json", self._engine / name / "json")

    def _print(self, name: str, at: float) -> None:
        """Add a line to a log."""
        lines = SERVICES.get(name) or CONTAINERS[name]
        said = lines[self._random.randrange(len(lines))].format(n=self._random.randrange(10, 99))
        if name in SERVICES:
            said = f"{datetime.fromtimestamp(at).astimezone().isoformat(timespec='seconds')} {self._hostname} {said}"
        else:
            said = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}000Z {said}"
        self._lines[name].append(said)

    def _write(self, name: str) -> None:
        """Write a log as who is asked for it tells it."""
        lines = self._lines[name]
        if name in SERVICES:
            write(self._folder / JOURNAL / name, "".join(f"{line}\n" for line in lines).encode())
        else:
            write(self._engine / name / "logs", b"".join(frames(lines)))


def frames(lines: Iterable[str]) -> Iterable[bytes]:
    """Yield lines as an engine sends them: 1 for standard output, three zeros, the length, the line."""
    for line in lines:
        said = f"{line}\n".encode()
        yield b"\1\0\0\0" + len(said).to_bytes(4) + said


def journal_commands() -> Mapping[str, str]:
    """Return command of the probe → the file of the tree that answers it, for every number of lines."""
    return {
        f"journalctl --output=short-iso --no-pager --lines={count} --unit={unit}": f"{JOURNAL}/{unit}"
        for unit in SERVICES
        for count in range(1, LOG_LINES + 1)
    }


def write(path: Path, content: bytes) -> None:
    """Write a file in one go: the probe may read at any moment."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
