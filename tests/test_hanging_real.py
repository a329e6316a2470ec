"""What never answers on a real machine: programs, sockets and a filesystem. Everything else stays live, and it heals.

A real sshd, the real probe, the real coordinator; systemctl, nvidia-smi, the system's bus and Docker are stand-ins that
hang while a file is there, the filesystem is a real one in user space (silent_filesystem.py). Needs root.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from homeassistant.core import HomeAssistant, callback
import psutil
import pytest

from custom_components.homelab_monitor import sessions
from custom_components.homelab_monitor.client.probe.programs import load_programs, make_program

from .machine import Machine
from .needs import needs
from .real_host import RealHost
from .sshd import processes_with, wait_for, wait_until

CHILD_SECONDS = 4.0
"""After how long the probe ends a program that hangs."""
MARK = f"{os.getpid()}4711"
"""How long a stand-in sleeps when it hangs: to find what is left of it."""
_PROGRAM = f"""#!/bin/sh
[ -e /run/silent ] && exec sleep {MARK}
"""
_SYSTEMCTL = """
case $* in *list-units*) echo 'web.service loaded active running A web server';; esac
"""
_NVIDIA_SMI = """
echo 'GPU-1c2b, 00000000:01:00.0, NVIDIA GeForce RTX 3090, 570.1, 3, 24576, 412, 41, 28.31, 350.00, 0, 210, 405, 0x1'
"""
_SILENT_SOCKET = """
import socket, sys, time
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen(100)
import os
os.chmod(sys.argv[1], 0o777)
print("listening", flush=True)
time.sleep(600)
"""
"""Takes connections and never says a word."""
PACES = ((b"\nLATE_SECONDS = 60.0", b"\nLATE_SECONDS = 2.0"), (b"\nSMI_SECONDS = 60.0", b"\nSMI_SECONDS = 0.0"))
"""The probe asks nvidia-smi once a minute, and leaves a late engine alone for as long: too long for a test."""
_ENGINE = "/run/docker.sock"
_PREPARE = """
mkdir -p /run/systemd/system /home/pool "$1/dev" "$1/work"
mount -t overlay -o "lowerdir=/dev,upperdir=$1/dev,workdir=$1/work" overlay /dev
touch /dev/nvidiactl
"""


def _script(name: str) -> str:
    """Return the path of a program that a machine runs."""
    return str(Path(__file__).with_name(name))


class SilentMachine(RealHost):
    """A machine with services, a GPU and a pool of disks, all of which can be made to hang."""

    def __init__(self, hass: HomeAssistant, machine: Machine, **options: object) -> None:
        machine.add_user("mon")
        machine.run("sh", "-c", _PREPARE, "sh", str(machine.folder))
        machine.install("systemctl", _PROGRAM + _SYSTEMCTL)
        machine.install("nvidia-smi", _PROGRAM + _NVIDIA_SMI)
        machine.install("apt", "#!/bin/sh\n")  # the real one may take seconds here, and is no part of this
        super().__init__(hass, machine, "mon", **options)
        self.machine = machine
        self.helpers: list[subprocess.Popen[str]] = []
        self.filesystem = self.mount()
        self._start("listening", sys.executable, _script("stand_in_engine.py"), _ENGINE, "3", "/run/mute")

    def mount(self, place: str = "/home/pool", user: int = 0) -> subprocess.Popen[str]:
        """Start the filesystem, as mounted by a user."""
        return self._start("mounted", sys.executable, _script("silent_filesystem.py"), place, str(user))

    def _start(self, word: str, *argv: str) -> subprocess.Popen[str]:
        helper = self.machine.spawn(*argv)
        self.helpers.append(helper)
        assert helper.stdout is not None
        assert helper.stdout.readline() == f"{word}\n"
        return helper

    def listen_silently(self, path: str) -> subprocess.Popen[str]:
        """Let a socket take connections and never answer."""
        self.machine.run("rm", "-f", path)
        self.machine.run("mkdir", "-p", os.path.dirname(path))  # noqa: PTH120 - a path of the machine
        return self._start("listening", sys.executable, "-c", _SILENT_SOCKET, path)

    async def start(self) -> None:
        """Start with a probe that asks again soon."""
        programs = await self.hass.async_add_executor_job(load_programs)
        source = programs.linux.source
        for slow, fast in PACES:
            assert source.count(slow) == 1
            source = source.replace(slow, fast)
        quick = replace(programs, linux=make_program("probe.py", source))
        self.hass.data[sessions._PROGRAMS] = self.hass.loop.create_future()
        self.hass.data[sessions._PROGRAMS].set_result(quick)
        await super().start()

    def silence_programs(self, silent: bool) -> None:
        for name in ("silent", "mute"):
            self.machine.run(*(("touch",) if silent else ("rm", "-f")), f"/run/{name}")

    async def poll_all(self) -> float:
        """Poll with every section, whether it is its turn or not; return how long that took."""
        self.coordinator._schedule.start_over()
        begun = time.monotonic()
        state = await self.poll()
        assert (state.status, state.error) == ("online", None)
        return time.monotonic() - begun

    def late(self) -> set[str]:
        """Return what is late: sections, and mountpoints."""
        snapshot = self.coordinator.data.snapshot
        sections = {name for name, reason in snapshot.missing.items() if reason == "timed_out"}
        filesystems = snapshot.sections.filesystems
        return sections | set(filesystems.late if filesystems else ())

    def live(self) -> set[str]:
        """Return the sections that the last reply told."""
        snapshot = self.coordinator.data.snapshot
        return {name for name, age in snapshot.ages.items() if age == snapshot.received}

    def mountpoints(self) -> list[str]:
        filesystems = self.coordinator.data.snapshot.sections.filesystems
        return [item.mountpoint for item in filesystems.filesystems] if filesystems else []

    def containers(self) -> tuple[int, dict[str, bool]]:
        """Return how many containers are told, and whether their list is whole."""
        section = self.coordinator.data.snapshot.sections.containers
        return (len(section.containers), dict(section.complete)) if section else (0, {})

    def end(self) -> None:
        for helper in self.helpers:
            helper.send_signal(signal.SIGCONT)
            helper.kill()
            helper.wait()
            assert helper.stdout is not None
            helper.stdout.close()


@pytest.fixture
def make_silent(
    hass: HomeAssistant, socket_enabled: None, make_machine: Callable[[], Machine]
) -> Iterator[Callable[..., SilentMachine]]:
    needs(Path("/dev/fuse").exists(), "/dev/fuse")
    made: list[SilentMachine] = []

    def make(**options: object) -> SilentMachine:
        made.append(SilentMachine(hass, make_machine(), **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
async def here(make_silent: Callable[..., SilentMachine]) -> AsyncIterator[SilentMachine]:
    host = make_silent(timeout=10)
    await host.start()
    await host.poll_all()
    assert host.late() == set()
    assert {"services", "gpu", "filesystems", "containers"} <= host.live()
    assert "/home/pool" in host.mountpoints()
    assert host.containers() == (3, {"docker/root": True})
    yield host
    await host.stop()


async def healed(host: SilentMachine) -> None:
    """Wait until nothing is late any more."""
    async with asyncio.timeout(15):
        while host.late():
            await host.poll_all()


async def expect_only_late(host: SilentMachine, late: set[str]) -> None:
    """Poll while something hangs: once that costs its time, from then on a moment; nothing else is missing."""
    (probe,) = host.probes()
    whole = host.live()
    threads = None
    for patience in (CHILD_SECONDS, 1.0, 1.0):
        assert await host.poll_all() < patience + 0.7
        assert host.late() == late
        assert host.live() == whole - late
        assert "/" in host.mountpoints()
        assert "/home/pool" not in host.mountpoints() or "/home/pool" not in late
        threads = threads or psutil.Process(probe).num_threads()
    assert host.probes() == [probe]
    assert psutil.Process(probe).num_threads() <= threads
    assert len(processes_with(MARK)) <= 2
    memory = host.hass.states.get("sensor.here_memory_usage")
    assert memory is not None
    assert float(memory.state) > 0


async def test_programs_and_a_stopped_filesystem_leave_all_else_live_and_heal(here: SilentMachine) -> None:
    here.silence_programs(True)
    here.filesystem.send_signal(signal.SIGSTOP)
    await expect_only_late(here, {"services", "gpu", "/home/pool"})
    # The last list of an engine stands for it for a while, and takes no container away.
    assert here.containers() == (3, {"docker/root": False})
    here.silence_programs(False)
    here.filesystem.send_signal(signal.SIGCONT)
    await healed(here)
    assert "/home/pool" in here.mountpoints()
    assert {"services", "gpu", "filesystems"} <= here.live()
    async with asyncio.timeout(15):
        while here.containers() != (3, {"docker/root": True}):
            await here.poll_all()
    wait_until(lambda: not processes_with(MARK), "a child was left behind")


async def test_a_silent_bus_and_a_hanging_filesystem_leave_all_else_live_and_heal(here: SilentMachine) -> None:
    # The next look at the services goes to the bus again.
    for pid in here.probes():
        os.kill(pid, signal.SIGKILL)
    bus = here.listen_silently("/run/dbus/system_bus_socket")
    here.filesystem.send_signal(signal.SIGUSR1)
    await asyncio.sleep(0.2)
    await here.poll_all()
    await expect_only_late(here, {"services", "/home/pool"})
    here.filesystem.send_signal(signal.SIGUSR2)
    bus.kill()
    await healed(here)
    assert "/home/pool" in here.mountpoints()


async def test_a_mount_that_hangs_is_reported_again_once_it_is_mounted_anew(here: SilentMachine) -> None:
    here.filesystem.send_signal(signal.SIGUSR1)
    await here.poll_all()
    assert here.late() == {"/home/pool"}
    # The thread that asked the old one still waits for it.
    here.machine.run("umount", "-l", "/home/pool")
    here.mount()
    await here.poll_all()
    assert here.late() == set()
    assert "/home/pool" in here.mountpoints()


async def test_what_another_user_mounted_is_neither_reported_nor_asked(here: SilentMachine) -> None:
    here.machine.run("mkdir", "-p", "/home/eve")
    theirs = here.mount("/home/eve", 61001)
    await here.poll_all()
    (probe,) = here.probes()
    threads = psutil.Process(probe).num_threads()
    assert "/home/pool" in here.mountpoints()
    assert "/home/eve" not in here.mountpoints()
    theirs.send_signal(signal.SIGUSR1)
    for _ in range(3):
        assert await here.poll_all() < CHILD_SECONDS
        assert here.late() == set()
    assert psutil.Process(probe).num_threads() <= threads


async def test_an_engine_that_never_answered_is_late_alone(make_silent: Callable[..., SilentMachine]) -> None:
    host = make_silent(timeout=10)
    host.machine.run("touch", "/run/mute")
    await host.start()
    assert host.coordinator.data.snapshot.missing["containers"] == "timed_out"
    assert "cpu" in host.live()
    host.silence_programs(False)
    await healed(host)
    assert host.containers() == (3, {"docker/root": True})
    await host.stop()


async def test_all_else_is_reported_at_the_usual_rhythm(make_silent: Callable[..., SilentMachine]) -> None:
    host = make_silent(timeout=10, interval=1)
    await host.start()
    told: list[float] = []

    @callback
    def note() -> None:
        cpu = host.coordinator.data.snapshot.sections.cpu
        assert cpu is not None
        if host.coordinator.data.is_online:
            told.append(cpu.at)

    host.silence_programs(True)
    host.filesystem.send_signal(signal.SIGSTOP)
    host.coordinator._schedule.start_over()
    host.coordinator.async_add_listener(note)
    await wait_for(lambda: len(told) > 6, seconds=30)
    gaps = sorted(after - before for before, after in pairwise(told))
    assert host.late() == {"services", "gpu", "/home/pool"}
    # One poll waited for what hangs, the next for a moment; it is left alone for half a minute then.
    assert gaps[-1] < CHILD_SECONDS + 1.7
    assert gaps[-2] < 2.7
    assert gaps[-3] < 1.7
    host.silence_programs(False)
    host.filesystem.send_signal(signal.SIGCONT)
    await host.stop()
    wait_until(lambda: not host.probes(), "the probe does not end")
