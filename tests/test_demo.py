"""The demo's hosts: the made-up machine that lives, and the SSH server that stands in for sshd."""

import asyncio
import importlib.util
import json
import os
from pathlib import Path
import pwd
import re
import subprocess
import sys
from types import ModuleType
import zlib

import asyncssh
import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source
from tests.sshd import is_running, wait_for

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


demo_config, demo_ssh, demo_work, demo_tree = map(load, ("demo_config", "demo_ssh", "demo_work", "demo_tree"))


def probe(tree: Path, *sections: str) -> dict:
    """Return what the probe tells of a tree, of the named sections where some are."""
    environ = {**os.environ, "HOMELAB_MONITOR_ROOT": str(tree)}
    told = subprocess.check_output([sys.executable, "-", *sections], input=probe_source(PROBES), env=environ)
    return json.loads(told)["sections"]


def log(tree: Path, wish: str) -> dict:
    """Return the log that a wish of the contract names, as the probe tells it when it serves."""
    environ = {**os.environ, "HOMELAB_MONITOR_ROOT": str(tree)}
    request = {"id": "1", "sections": ["logs"], "watch": {"logs": [wish]}}
    script = "import sys; exec(compile(open(sys.argv[1]).read(), 'probe.py', 'exec'), {'__name__': '__main__'})"
    program = tree.with_suffix(".py")
    program.write_bytes(probe_source(PROBES))
    command = [sys.executable, "-c", script, program]
    told = subprocess.check_output(command, input=json.dumps(request).encode() + b"\n", env=environ)
    _, _, record = told.split(b"\x1e", 2)
    head, _, payload = record.partition(b"\n")
    document = json.loads(zlib.decompress(payload) if head.endswith(b"z") else payload)
    return document["sections"]["logs"]


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


def test_the_living_machine_has_processes_that_work_and_belong_to_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(demo_tree.time, "monotonic", lambda: clock[0])
    tree = demo_tree.LivingTree(FIXTURE, tmp_path / "tree", "other-name")
    before = probe(tree.folder, "processes")["processes"]
    clock[0] += 10
    tree.step()
    after = probe(tree.folder, "processes", "cpu")
    processes = {each["pid"]: each for each in after["processes"]["processes"]}
    assert after["processes"]["complete"] == {"processes": True}
    assert after["processes"]["total"] == len(processes) == len(demo_work.PROCESSES)
    used = {each["pid"]: processes[each["pid"]]["cpu_seconds"] - each["cpu_seconds"] for each in before["processes"]}
    assert all(seconds >= 0 for seconds in used.values())
    assert 1 < sum(used.values()) < 10 * len(after["cpu"]["cores"])
    assert all(0 < each["started_seconds"] < after["processes"]["at"] for each in processes.values())
    assert all(each["state"] and not each["user"].isdigit() for each in processes.values())
    ollama = next(each for each in processes.values() if each["name"] == "ollama")
    assert (ollama["unit"], ollama["user"]) == ("ollama.service", "ollama")
    # Which containers they are in, the engine says as well.
    pids = {
        one["id"]: one["pid"] for one in probe(tree.folder, "containers")["containers"]["containers"] if "pid" in one
    }
    assert {each["container"][:12]: pid for pid, each in processes.items() if "container" in each} == pids


@pytest.mark.parametrize(
    "wish",
    [
        *(f"service {name}" for name in demo_work.SERVICES),
        *(f"container docker/root/{n}" for n in demo_work.CONTAINERS),
    ],
)
def test_the_living_machine_reports_the_end_of_every_log(tmp_path: Path, wish: str) -> None:
    tree = demo_tree.LivingTree(FIXTURE, tmp_path / "tree", "other-name")
    whole = log(tree.folder, f"500 {wish}")
    assert len(whole["lines"]) == demo_work.FIRST_LINES
    assert not whole["truncated"]
    assert log(tree.folder, f"3 {wish}")["lines"] == whole["lines"][-3:]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+ .", line) for line in whole["lines"])
    assert whole["lines"] == sorted(whole["lines"], key=lambda line: line.split()[0])


def test_the_logs_of_what_runs_go_on_and_every_unit_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(demo_tree.time, "monotonic", lambda: clock[0])
    tree = demo_tree.LivingTree(FIXTURE, tmp_path / "tree", "other-name")
    clock[0] += demo_work.APART_SECONDS  # Long enough that each surely goes on.
    tree.step()
    assert len(log(tree.folder, "500 container docker/root/jellyfin")["lines"]) == demo_work.FIRST_LINES + 1
    assert len(log(tree.folder, "500 service backup.service")["lines"]) == demo_work.FIRST_LINES
    told = probe(tree.folder, "services", "containers")
    assert {unit["name"] for unit in told["services"]["units"]} <= demo_work.SERVICES.keys()
    assert {one["name"] for one in told["containers"]["containers"]} == demo_work.CONTAINERS.keys()


def test_what_is_made_in_the_browser_stays(tmp_path: Path) -> None:
    demo_config.write(tmp_path, 8123)
    included = re.findall(r"!include (\S+)", (tmp_path / "configuration.yaml").read_text())
    assert sorted(included) == ["automations.yaml", "scenes.yaml", "scripts.yaml"]
    for name in included:
        (tmp_path / name).write_text("- alias: mine\n")
    blueprints = tmp_path / "blueprints/automation/homelab_monitor"
    assert {path.name for path in blueprints.iterdir()} == {path.name for path in demo_config.BLUEPRINTS.iterdir()}
    # A person may delete one in the browser: not the one of this checkout.
    assert not any(path.is_symlink() for path in (blueprints, *blueprints.iterdir()))
    (blueprints / "host_offline.yaml").unlink()
    demo_config.write(tmp_path, 8123)
    assert [(tmp_path / name).read_text() for name in included] == ["- alias: mine\n"] * 3
    assert (blueprints / "host_offline.yaml").exists()


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
    await wait_for(lambda: not is_running(int(pid)))
