"""This machine, monitored by Home Assistant through a real OpenSSH server with the real probe.

The values are compared with what the system's own tools say at the same moment, and the host is
lost and found in every way in which that happens: its session, its probe or its server dies.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
import json
import logging
import os
from pathlib import Path
import signal
import subprocess

from homeassistant.core import HomeAssistant
import psutil
import pytest

from .real_host import RealHost
from .sshd import Sshd, make_host_key, make_sshd  # noqa: F401

MIB = 1024**2


@pytest.fixture
async def here(hass: HomeAssistant, socket_enabled: None, make_sshd: Callable[..., Sshd]) -> AsyncIterator[RealHost]:  # noqa: F811
    server = make_sshd()
    host = RealHost(hass, server)
    await host.start()
    assert host.coordinator.data.status == "online", (host.coordinator.data.error, server.log)
    yield host
    await host.stop()
    server.stop()


def free() -> dict[str, dict[str, int]]:
    """Return what `free -b` says."""
    lines = subprocess.check_output(["free", "-b", "-w"], text=True, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    head, *rows = (line.split() for line in lines.splitlines())
    return {row[0]: dict(zip(head, map(int, row[1:]), strict=False)) for row in rows}


async def test_memory_equals_free(here: RealHost) -> None:
    before = free()
    memory = (await here.poll()).snapshot.sections.memory
    after = free()
    assert memory is not None
    assert memory.total_bytes == after["Mem:"]["total"]
    for name, value in (
        ("available", memory.available_bytes),
        ("free", memory.free_bytes),
        ("buffers", memory.buffers_bytes),
        ("cache", memory.cached_bytes),
    ):
        low, high = sorted((before["Mem:"][name], after["Mem:"][name]))
        assert low - 32 * MIB <= value <= high + 32 * MIB, name
    assert memory.swap_total_bytes == after["Swap:"]["total"]
    assert memory.swap_free_bytes == pytest.approx(after["Swap:"]["free"], abs=8 * MIB)
    assert memory.used_percent == pytest.approx(psutil.virtual_memory().percent, abs=1.0)


async def test_filesystems_equal_df(here: RealHost) -> None:
    section = here.coordinator.data.snapshot.sections.filesystems
    assert section is not None
    assert section.filesystems
    for item in section.filesystems:
        columns = "--output=size,used,avail,pcent,itotal,iused"
        out = subprocess.check_output(["df", "-B1", columns, item.mountpoint], text=True).splitlines()[1].split()
        size, used, available, percent, inodes, inodes_used = (int(word.rstrip("%").replace("-", "0")) for word in out)
        assert item.total_bytes == size
        assert item.used_bytes == pytest.approx(used, abs=64 * MIB)
        assert item.available_bytes == pytest.approx(available, abs=64 * MIB)
        assert item.used_percent == pytest.approx(percent, abs=1.0)  # df rounds up
        assert item.inodes_total in (inodes, None)
        assert item.inodes_used is None or abs(item.inodes_used - inodes_used) <= 2000


async def test_no_filesystem_is_counted_twice_and_the_root_is_there(here: RealHost) -> None:
    section = here.coordinator.data.snapshot.sections.filesystems
    assert section is not None
    devices = [item.device for item in section.filesystems]
    assert len(devices) == len(set(devices))
    assert "/" in [item.mountpoint for item in section.filesystems]


def proc_uptime() -> float:
    """Return the first number of /proc/uptime."""
    return float(Path("/proc/uptime").read_text().split()[0])


async def test_load_uptime_and_processes_equal_proc(here: RealHost) -> None:
    load_before, uptime_before = os.getloadavg(), proc_uptime()
    state = await here.poll()
    load_after, uptime_after = os.getloadavg(), proc_uptime()
    load, uptime = state.snapshot.sections.load, state.snapshot.sections.uptime
    assert load is not None
    assert uptime is not None
    for told, *bounds in zip((load.load1, load.load5, load.load15), load_before, load_after, strict=True):
        # The kernel makes it anew every 5 s; a machine that other tests load may have done so twice meanwhile.
        assert min(bounds) - 0.3 <= told <= max(bounds) + 0.3
    assert uptime_before - 0.01 <= uptime.uptime_seconds <= uptime_after + 0.01
    assert load.processes == pytest.approx(len(psutil.pids()), abs=15)
    assert state.snapshot.boot_time == pytest.approx(psutil.boot_time(), abs=2.0)
    assert state.snapshot.clock_offset_seconds == pytest.approx(0, abs=1.0)


async def test_cpu_and_traffic_rates_equal_psutil(here: RealHost) -> None:
    await here.poll()
    cpu, traffic = psutil.cpu_times(), psutil.net_io_counters(pernic=True)
    await asyncio.sleep(2)
    state = await here.poll()
    assert state.rates.cpu is not None
    spent = {name: a - b for name, a, b in zip(cpu._fields, psutil.cpu_times(), cpu, strict=True)}
    counted = {name: value for name, value in spent.items() if not name.startswith("guest")}
    busy = 100 * (1 - (counted["idle"] + counted["iowait"]) / sum(counted.values()))
    assert state.rates.cpu.usage_percent == pytest.approx(busy, abs=8)
    assert len(state.rates.cpu.cores) == psutil.cpu_count()
    now = psutil.net_io_counters(pernic=True)
    for name, rate in state.rates.interfaces.items():
        assert rate.receive_bytes_per_second is not None
        true_rate = (now[name].bytes_recv - traffic[name].bytes_recv) / 2
        assert rate.receive_bytes_per_second == pytest.approx(true_rate, rel=0.5, abs=20_000)


async def test_disk_counters_equal_psutil(here: RealHost) -> None:
    disks = (await here.poll()).snapshot.sections.disk_io
    truth = psutil.disk_io_counters(perdisk=True)
    assert disks is not None
    for name, counters in disks.disks.items():
        assert counters.read_bytes == pytest.approx(truth[name].read_bytes, abs=16 * MIB)
        assert counters.written_bytes == pytest.approx(truth[name].write_bytes, abs=64 * MIB)


async def test_the_system_is_reported_as_uname_and_os_release_report_it(here: RealHost) -> None:
    system = here.coordinator.data.snapshot.sections.system
    hardware = here.coordinator.data.snapshot.sections.hardware
    assert system is not None
    assert hardware is not None
    name = os.uname()
    assert (system.hostname, system.kernel, system.architecture) == (name.nodename, name.release, name.machine)
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    assert system.os_name == release["PRETTY_NAME"].strip('"')
    assert hardware.threads == psutil.cpu_count()
    assert hardware.memory_bytes == psutil.virtual_memory().total


async def test_every_section_is_reported_or_its_absence_has_a_reason(here: RealHost) -> None:
    # The package manager of a busy machine may need longer than a poll waits for it.
    async with asyncio.timeout(60):
        while "timed_out" in here.coordinator.data.snapshot.missing.values():
            await asyncio.sleep(1)
            here.coordinator._schedule.start_over()
            await here.poll()
    snapshot = here.coordinator.data.snapshot
    assert snapshot.errors == {}
    assert set(snapshot.missing.values()) <= {"not_installed", "not_supported", "permission_denied"}
    json.dumps(snapshot.as_dict())


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what users would see with a traceback; asyncio in debug mode shows some of its own."""
    return [r.getMessage() for r in caplog.records if r.exc_info and r.levelno >= logging.INFO]


def kill_probe(here: RealHost) -> None:
    for pid in here.probes():
        os.kill(pid, signal.SIGKILL)


def kill_session(here: RealHost) -> None:
    here.sshd.kill_sessions()


def restart_server(here: RealHost) -> None:
    here.sshd.stop()
    here.sshd.start()


@pytest.mark.parametrize("fault", [kill_probe, kill_session, restart_server])
async def test_what_dies_is_started_again_at_the_next_poll(
    here: RealHost, caplog: pytest.LogCaptureFixture, fault: Callable[[RealHost], None]
) -> None:
    await here.poll()
    assert len(here.probes()) == 1
    old = here.probes()
    fault(here)
    await asyncio.sleep(0.2)
    state = await here.poll()
    assert (state.status, state.error) == ("online", None)
    assert len(here.probes()) == 1
    assert here.probes() != old
    assert tracebacks(caplog) == []


async def test_a_server_that_is_away_makes_the_host_late_and_its_return_online(
    here: RealHost, caplog: pytest.LogCaptureFixture
) -> None:
    here.sshd.stop()
    state = await here.poll()
    assert state.status == "late"
    assert state.error is not None
    assert state.error.key == "connection_refused"
    memory = shown(here, "sensor.here_memory_usage")
    assert float(memory) > 0
    here.sshd.start()
    assert (await here.poll()).status == "online"
    assert tracebacks(caplog) == []


def shown(here: RealHost, entity_id: str) -> str:
    state = here.hass.states.get(entity_id)
    assert state is not None
    return state.state


async def test_another_host_key_is_never_accepted(here: RealHost) -> None:
    here.sshd.stop()
    here.sshd.new_host_key()
    here.sshd.start()
    state = await here.poll()
    assert state.status == "offline"
    assert state.error is not None
    assert state.error.key == "host_key_changed"


async def test_a_key_that_a_host_has_proven_lets_it_drop_the_confirmed_one(
    hass: HomeAssistant,
    socket_enabled: None,
    make_sshd: Callable[..., Sshd],  # noqa: F811
) -> None:
    server = make_sshd()
    confirmed = server.host_keys
    (server.folder / "second").mkdir()
    make_host_key(server.folder / "second", "ecdsa")
    server.stop()
    server.extra = f"HostKey {server.folder}/second/host"
    server.start()
    host = RealHost(hass, server)
    await host.start()
    second = (server.folder / "second" / "host.pub").read_text().split()[:2]
    assert host.entry.data["host_keys"] == [*confirmed, " ".join(second)]
    server.stop()
    for name in ("host", "host.pub"):
        (server.folder / "second" / name).replace(server.folder / name)
    server.extra = ""
    server.start()
    assert (await host.poll()).status == "online"
    await host.stop()
    server.stop()


async def test_unloading_leaves_nothing_on_the_host(here: RealHost) -> None:
    assert len(here.probes()) == 1
    await here.hass.config_entries.async_unload(here.entry.entry_id)
    for _ in range(50):
        if not here.sshd.sessions():
            break
        await asyncio.sleep(0.1)
    assert here.probes() == []
    assert here.sshd.sessions() == []
