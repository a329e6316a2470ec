"""The demo's hosts: the made-up machine that lives, and the SSH server that stands in for sshd."""

import asyncio
import importlib.util
import json
import os
from pathlib import Path
import pwd
import subprocess
import sys
from types import ModuleType

import asyncssh
import pytest

from custom_components.homelab_monitor.client.programs import probe_source

ROOT = Path(__file__).parent.parent
PROBES = ROOT / "custom_components/homelab_monitor/probes"
FIXTURE = ROOT / "tests/fixtures/hosts/nvidia-workstation"
BOOTSTRAP = 'python3 -I -u -c "print(4711)"'


def load(name: str) -> ModuleType:
    """Import one of the scripts, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo_ssh, demo_tree = load("demo_ssh"), load("demo_tree")


def probe(tree: Path) -> dict:
    """Return what the probe tells of a tree."""
    environ = {**os.environ, "HOMELAB_MONITOR_ROOT": str(tree)}
    told = subprocess.check_output([sys.executable, "-"], input=probe_source(PROBES), env=environ)
    return json.loads(told)["sections"]


def test_the_living_machine_moves_and_stays_believable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(demo_tree.time, "monotonic", lambda: clock[0])
    tree = demo_tree.LivingTree(FIXTURE, tmp_path / "tree", "other-name")
    before = probe(tree.folder)
    for _ in range(10):
        clock[0] += 1
        tree.step()
    after = probe(tree.folder)
    assert after["system"]["hostname"] == "other-name"
    cores = list(zip(before["cpu"]["cores"], after["cpu"]["cores"], strict=True))
    busy, total = (sum(new[place] - old[place] for old, new in cores) for place in (0, 1))
    assert total == pytest.approx(10 * len(after["cpu"]["cores"]), rel=0.05)
    assert 0 < busy < total
    assert after["uptime"]["uptime_seconds"] == pytest.approx(before["uptime"]["uptime_seconds"] + 10, abs=0.5)
    name = after["network"]["primary"]
    received = [told["network"]["interfaces"][name]["receive_bytes"] for told in (before, after)]
    assert received[1] > received[0]
    for card in after["gpu"]["gpus"]:
        assert card["memory_used_bytes"] < card["memory_total_bytes"]
        assert 0 <= card["usage_percent"] <= 100
        assert (card.get("power_watts") or 0) <= (card.get("power_limit_watts") or 0)
    times = [
        {one["name"]: one.get("cpu_seconds") for one in told["containers"]["containers"]} for told in (before, after)
    ]
    assert times[0].keys() == times[1].keys()
    assert times[0]["jellyfin"] < times[1]["jellyfin"] < times[0]["jellyfin"] + 10
    assert times[1]["backup"] is None


@pytest.fixture
async def server(socket_enabled: None, tmp_path: Path):
    """Return the settings to log in on a host that plays another machine, and the host."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    host = demo_ssh.DemoHost("made up", 0, "demo", tree=tmp_path)
    host.authorize(f"restrict {key.export_public_key().decode().strip()}")
    acceptor = await demo_ssh.start(host, tmp_path / "host_key")
    options = {"username": "demo", "client_keys": [key], "known_hosts": None, "config": None, "agent_path": None}
    yield {"host": "127.0.0.1", "port": acceptor.get_port(), **options}, host
    acceptor.close()
    await acceptor.wait_closed()


async def test_a_stranger_is_refused(server) -> None:
    options, _ = server
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    for change in ({"client_keys": [stranger]}, {"username": "root"}):
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(**{**options, **change})


async def test_a_host_that_plays_another_machine_runs_only_the_probe(server, tmp_path: Path) -> None:
    options, _ = server
    async with asyncssh.connect(**options) as connection:
        touched = await connection.run(f"touch {tmp_path}/touched")
        answered = await connection.run(BOOTSTRAP)
    assert touched.exit_status == demo_ssh.REFUSED_STATUS
    assert not (tmp_path / "touched").exists()
    assert (answered.stdout.strip(), answered.exit_status) == ("4711", 0)


async def test_this_machine_runs_what_it_is_asked_and_ends_it_with_the_connection(server, tmp_path: Path) -> None:
    options, host = server
    host.tree = None
    async with asyncssh.connect(**options) as connection:
        told = await connection.run("cat; id -un >&2; exit 3", input="typed")
        await connection.create_process(f"echo $$ > {tmp_path}/pid; sleep 60")
        while not (tmp_path / "pid").exists() or not (pid := (tmp_path / "pid").read_text().strip()):
            await asyncio.sleep(0.02)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert (told.stdout, told.stderr.strip(), told.exit_status) == ("typed", user, 3)
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.05)
