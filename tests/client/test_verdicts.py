"""From a host's files to its problems: the probe, the typed sections and the problem tracker together."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.problems import ProblemTracker, Thresholds
from tests.big_host import load_probe

THRESHOLDS = Thresholds(disk_percent=90, memory_percent=95)
FULL = [4096, 1000, 0, 0, 10, 5]


class Machine:
    """A machine made of a few files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: dict[str, Any] = {"clocks": {"boottime": 5000.0, "epoch": 1760000000.0}, "uid": 0}

    def write(self, **files: str) -> None:
        """Write files of /proc, `self__mountinfo` is self/mountinfo."""
        for name, content in files.items():
            path = self.folder / "proc" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def snapshot(self, *sections: str, watch: Mapping[str, list[str]] | None = None) -> Snapshot:
        """Return what the probe tells of it."""
        (self.folder / ".host.json").write_text(json.dumps(self.told))
        probe = load_probe()
        request = probe.Request({"id": "1", "sections": list(sections), "watch": dict(watch or {})})
        reply = probe.Probe(probe.RecordedHost(str(self.folder))).answer(request)
        assert (reply["missing"], reply["errors"]) == ({}, {})
        return Snapshot().merged(decode_reply("1", json.dumps(reply).encode()), 1000.0, 30.0)

    def problems(self, *sections: str) -> list[str]:
        """Return what is wrong with it, and stays so."""
        judge, snapshot = ProblemTracker(), self.snapshot(*sections)
        judge.problems(snapshot, THRESHOLDS)
        judge.since = dict.fromkeys(judge.since, 0.0)
        return [f"{each.kind} {each.item}".strip() for each in judge.problems(snapshot, THRESHOLDS)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("place", "itself", "is_problem"), [("ro", "rw", True), ("rw", "rw", True), ("ro", "ro", False)]
)
def test_a_full_disk_is_a_problem_also_where_its_place_may_not_be_written(
    machine: Machine, place: str, itself: str, is_problem: bool
) -> None:
    machine.told["statvfs"] = {"/": FULL}
    machine.write(self__mountinfo=f"25 1 8:1 / / {place},relatime - ext4 /dev/sda1 {itself}\n")
    assert machine.problems("filesystems") == (["disk_full /"] if is_problem else [])


MEMORY = """MemTotal:       20971520 kB
MemFree:           10240 kB
MemAvailable:      20480 kB
Buffers:               0 kB
Cached:            10240 kB
SwapTotal:             0 kB
SwapFree:              0 kB
Shmem:                 0 kB
"""
ARC = """13 1 0x01 147 39984 5120000000 5120000000
name                            type data
size                            4    20132659200
c_min                           4    1048576000
"""
PROC = "25 1 0:20 / / rw - ext4 /dev/sda1 rw\n26 25 0:21 / /proc rw - proc proc rw\n"
LXCFS = "99 26 0:43 /proc/{0} /proc/{0} rw,relatime shared:10 - fuse.lxcfs lxcfs rw,user_id=0,allow_other\n"


@pytest.mark.parametrize(
    ("mounts", "is_problem"),
    [
        (LXCFS.format("meminfo"), True),
        (LXCFS.format("uptime") + LXCFS.format("meminfo"), True),
        # Without lxcfs both are the machine's, also in a container.
        (LXCFS.format("uptime"), False),
        ("", False),
        # Bound to another place it replaces nothing.
        ("99 25 0:21 /meminfo /srv/proc/meminfo rw - proc proc rw\n", False),
    ],
)
def test_the_cache_of_the_machine_is_no_part_of_a_containers_memory(
    machine: Machine, mounts: str, is_problem: bool
) -> None:
    machine.write(meminfo=MEMORY, spl__kstat__zfs__arcstats=ARC, self__mountinfo=PROC + mounts)
    assert machine.problems("memory") == (["memory_full"] if is_problem else [])
