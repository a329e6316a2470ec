"""A big host, simulated: a recorded machine's tree to which a homelab's worth of everything is added.

500 services, 100 containers with 60 veth pairs, 40 ZFS datasets, 12 disks: written as files and answered as programs
would, and told by the real probe. What is counted on it are entities and bytes; what it costs a real machine is
measured by scripts/bench on another one.
"""

from collections.abc import Sequence
import hashlib
import json
from pathlib import Path
import shutil
from types import ModuleType
from typing import Any

from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.programs import probe_source

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "tests/fixtures/hosts/debian-systemd"
SERVICES, OWN_SERVICES, FAILED_SERVICES = 500, 20, 2
CONTAINERS, VETHS = 100, 60
DATASETS = 40
DISKS = 12
_BLOCK_BYTES = 131072


def load_probe() -> Any:
    """Return the probe as a module, without running it."""
    module = ModuleType("probe")
    exec(compile(probe_source(ROOT / "probes"), "probe.py", "exec"), module.__dict__)
    return module


def tell(folder: Path, sections: Sequence[str] = tuple(SECTIONS)) -> dict[str, Any]:
    """Return what the probe replies on the big host, which is made in an empty folder."""
    probe = load_probe()
    make_tree(folder)

    class BigHost(probe.RecordedHost):
        """Answers for systemd, whose questions name units."""

        def run(self, argv: list[str], timeout: float, **more: Any) -> tuple[int, str, str]:
            if argv[:2] == ["systemctl", "list-units"]:
                return 0, "".join(map(_unit_line, range(SERVICES))), ""
            if argv[:2] == ["systemctl", "show"]:
                return 0, "\n".join(map(_unit_properties, argv[argv.index("--") + 1 :])), ""
            return super().run(argv, timeout, **more)

    request = probe.Request({"id": "1", "sections": list(sections), "timeout": 8})
    return json.loads(json.dumps(probe.clean(probe.Probe(BigHost(str(folder))).answer(request))))


def make_tree(folder: Path) -> None:
    """Write the machine's files."""
    shutil.copytree(BASE, folder, symlinks=True, dirs_exist_ok=True)
    told = json.loads((folder / ".host.json").read_text())
    _add_units(folder)
    _add_containers(folder)
    _add_interfaces(folder)
    _add_disks(folder)
    _add_datasets(folder, told)
    (folder / ".host.json").write_text(json.dumps(told))


def _append(path: Path, lines: Sequence[str]) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def _write(folder: Path, **contents: object) -> None:
    """Write files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(f"{content}\n")


def _unit_name(number: int) -> str:
    return f"own-{number}.service" if number < OWN_SERVICES else f"vendor-{number}.service"


def _unit_line(number: int) -> str:
    """Return a line of systemctl's list; the last of the vendor's have failed, a third is not running."""
    if number >= SERVICES - FAILED_SERVICES:
        state = "failed failed"
    else:
        state = "inactive dead" if number % 3 == 2 else "active running"
    return f"{_unit_name(number)} loaded {state} Service number {number}\n"


def _unit_properties(name: str) -> str:
    return (
        f"Id={name}\nResult=success\nExecMainStatus=0\nNRestarts=0\nMainPID=0\nMemoryCurrent=12345678\n"
        "ControlGroup=\nActiveEnterTimestampMonotonic=20000000\n"
    )


def _add_units(folder: Path) -> None:
    for number in range(OWN_SERVICES):
        path = folder / "etc/systemd/system" / _unit_name(number)
        path.write_text(f"[Unit]\nDescription=Service number {number}\n")


def _add_containers(folder: Path) -> None:
    """Give Docker's answers, and the control groups that they lead to."""
    answers, listed = folder / "run/docker.sock/containers", []
    for number in range(CONTAINERS):
        ident, name = hashlib.sha256(str(number).encode()).hexdigest(), f"app-{number}"
        is_up = number % 10 > 0
        status = "Up 2 days (healthy)" if is_up else "Exited (0) 2 days ago"
        one = {"Id": ident, "Names": [f"/{name}"], "Image": f"registry/{name}:1", "Status": status}
        one |= {"State": "running" if is_up else "exited", "Labels": {"com.docker.compose.project": name}}
        listed.append(one | {"Ports": [{"PrivatePort": 80, "PublicPort": 8000 + number, "Type": "tcp"}]})
        state = {"Pid": 5000 + number if is_up else 0, "ExitCode": 0, "StartedAt": "2025-11-20T10:00:00.5Z"}
        document = {"State": state, "RestartCount": 0, "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}}
        _write(answers / ident, json=json.dumps(document))
        if is_up:
            group = f"system.slice/docker-{ident}.scope"
            _write(folder / "proc" / str(5000 + number), cgroup=f"0::/{group}")
            _write(folder / "sys/fs/cgroup" / group, **{"cpu.stat": f"usage_usec {number}123456"})
            _write(folder / "sys/fs/cgroup" / group, **{"memory.stat": f"anon {number}0000000\nshmem 4096"})
    _write(answers, json=json.dumps(listed))


def _add_interfaces(folder: Path) -> None:
    """Add a default route, a bridge of containers, and the host's end of each one's pair."""
    _append(folder / "proc/net/route", ["eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"])
    counters = " 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0"
    names = ["docker0", *(f"veth{number:07x}" for number in range(VETHS))]
    _append(folder / "proc/net/dev", [f"{name}:{counters}" for name in names])
    for number, name in enumerate(names, 10):
        device = folder / "sys/devices/virtual/net" / name
        address = f"02:42:00:00:00:{number:02x}"
        _write(device, address=address, ifindex=number, iflink=number + 1000, uevent=f"INTERFACE={name}")
        if name == "docker0":
            _write(device / "bridge", bridge_id="8000.024200000001")
        (folder / "sys/class/net" / name).symlink_to(f"../../devices/virtual/net/{name}")


def _add_disks(folder: Path) -> None:
    names = [f"sd{letter}" for letter in "abcdefghijkl"]
    assert len(names) == DISKS
    counters = "9 0 99 9 9 0 99 9 0 9 18"
    _append(folder / "proc/diskstats", [f"   8 {16 * number} {name} {counters}" for number, name in enumerate(names)])
    for number, name in enumerate(names):
        device = folder / "sys/block" / name
        _write(device, dev=f"8:{16 * number}", size=15628053168, stat=counters)
        _write(device / "queue", rotational=1)
        _write(device / "device", model="ST8000VN004-2M21", wwid=f"naa.5000c500a1b2c3{number:02x}")


def _add_datasets(folder: Path, told: dict[str, Any]) -> None:
    names = [f"tank/data{number}" for number in range(DATASETS)]
    lines = [f"{900 + n} 106 0:{900 + n} / /{name} rw - zfs {name} rw,xattr" for n, name in enumerate(names)]
    _append(folder / "proc/self/mountinfo", lines)
    told["statvfs"].update({f"/{name}": [_BLOCK_BYTES, 80_000_000, 40_000_000, 40_000_000, 9, 8] for name in names})
