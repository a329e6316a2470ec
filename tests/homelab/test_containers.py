"""What a real Docker under a real systemd tells the probe is what `docker ps` and `docker inspect` print."""

import asyncio
from collections.abc import Iterator
import json
from pathlib import Path
import shutil
import subprocess
import tarfile
import time
from typing import Any, cast

import pytest

from custom_components.homelab_monitor.client.control.control import RunAction, control_container
from custom_components.homelab_monitor.client.errors import ControlFailed, EngineDenied
from custom_components.homelab_monitor.client.models import Container
from custom_components.homelab_monitor.client.probe.programs import probe_source
from custom_components.homelab_monitor.client.transport.command import CommandResult
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.needs import needs

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "probes"
SHARED_BYTES = 20 << 20
# No network, as that would need a firewall; plain folders, as the host's root is an overlay already.
SETUP = """\
mkdir -p etc/docker
cat >etc/docker/daemon.json <<END
{"bridge": "none", "iptables": false, "storage-driver": "vfs", "data-root": "/run/docker-data"}
END
"""
RUN = "docker run -d --network none"
CONTAINERS = f"""
set -e
docker import -c 'CMD ["sh"]' /tmp/image.tar box:1
{RUN} --name web --restart unless-stopped --health-cmd true --health-interval 1s \
  -l com.docker.compose.project=shop -l com.docker.compose.service=front box:1 sleep 1000
{RUN} --name sick --health-cmd false --health-interval 1s --health-retries 1 box:1 sleep 1000
{RUN} --name crash --restart on-failure:2 box:1 sh -c 'exit 3'
{RUN} --name fine box:1 true
{RUN} --name stopped box:1 sleep 1000
{RUN} --name halted box:1 sleep 1000
{RUN} --name fat box:1 sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count={SHARED_BYTES >> 20} && sleep 1000'
docker create --network none --name fresh box:1
docker stop -t 0 stopped
docker pause halted
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    needs(shutil.which("dockerd", path="/usr/bin:/usr/sbin") and shutil.which("docker"), "docker.io")
    needs(shutil.which("busybox"), "busybox")
    accounts = (Account("mon", groups=("docker",)), Account("eve"))
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=accounts, setup=SETUP)
        host.wait()
        host.run("systemctl", "start", "docker.socket", "docker.service")
        make_image(host)
        host.run("sh", "-c", CONTAINERS)
        wait_until_settled(host)
        yield host


def make_image(host: LabHost) -> None:
    """Put an image of BusyBox, with the libraries that it is linked with, on the host."""
    path = host.folder / "image.tar"
    busybox = shutil.which("busybox")
    assert busybox
    linked = subprocess.run(["ldd", busybox], check=False, capture_output=True, text=True).stdout.split()
    with tarfile.open(path, "w", dereference=True) as image:
        image.add(busybox, "bin/busybox")
        for library in (word for word in linked if word.startswith("/")):
            image.add(library, library)
    with tarfile.open(path, "a") as image:
        for name in ("sh", "sleep", "true", "false", "dd"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            image.addfile(link)
    subprocess.run([*host.as_host, "sh", "-c", "cat >/tmp/image.tar"], input=path.read_bytes(), check=True)


def inspected(host: LabHost) -> dict[str, dict[str, Any]]:
    """Return what `docker inspect` prints of every container, by name."""
    idents = host.run("docker", "ps", "-aq").split()
    return {each["Name"].lstrip("/"): each for each in json.loads(host.run("docker", "inspect", *idents))}


def wait_until_settled(host: LabHost) -> None:
    """Wait until the checks of health have answered and the restarts are over."""
    deadline = time.monotonic() + 15
    while True:
        states = {name: each["State"] for name, each in inspected(host).items()}
        health = [states[name]["Health"]["Status"] for name in ("web", "sick")]
        if (*health, states["crash"]["Status"]) == ("healthy", "unhealthy", "exited"):
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.2)


def told(host: LabHost, user: str) -> dict[str, Any]:
    """Return the reply of the probe, run by a user of the host."""
    command = [*host.as_host, "su", user, "-s", "/bin/sh", "-c", "python3 - containers"]
    run = subprocess.run(command, input=probe_source(PROBES), capture_output=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("user", ["root", "mon"])
def test_the_probe_reports_what_docker_prints(server: LabHost, user: str) -> None:
    section = told(server, user)["sections"]["containers"]
    assert section["engines"] == [{"engine": "docker", "owner": "root", "state": "ok"}]
    assert section["complete"] == {"docker/root": True}
    truth = inspected(server)
    rows = {row["name"]: row for row in section["containers"]}
    assert rows.keys() == truth.keys() == {"web", "sick", "crash", "fine", "stopped", "halted", "fat", "fresh"}
    for name, row in rows.items():
        state = truth[name]["State"]
        assert truth[name]["Id"].startswith(row["id"])
        assert (row["state"], row["image"]) == (state["Status"], "box:1")
        assert (row["restarts"], row["restart_policy"]) == (
            truth[name]["RestartCount"],
            truth[name]["HostConfig"]["RestartPolicy"]["Name"],
        )
        if state["Running"]:
            assert row["pid"] == state["Pid"]
            assert row["health"] == state.get("Health", {"Status": "none"})["Status"]
        elif state["Status"] == "exited":
            assert row["exit_code"] == state["ExitCode"]
    assert (rows["web"]["compose_project"], rows["web"]["compose_service"]) == ("shop", "front")
    assert rows["crash"]["restarts"] == 2
    printed = server.run("docker", "ps", "-a", "--format", "{{.Names}} {{.State}}").split("\n")
    assert sorted(printed[:-1]) == sorted(f"{name} {row['state']}" for name, row in rows.items())


def test_what_a_container_uses_is_what_its_control_group_counts(server: LabHost) -> None:
    rows = {row["name"]: row for row in told(server, "mon")["sections"]["containers"]["containers"]}
    ident = inspected(server)["fat"]["Id"]
    (group,) = server.run("find", "/sys/fs/cgroup", "-name", f"*{ident}*", "-type", "d").split()
    usage = int(server.run("cat", f"{group}/cpu.stat").split()[1]) / 1e6
    assert rows["fat"]["cpu_seconds"] == pytest.approx(usage, abs=0.5)
    assert "cpu_seconds" not in rows["fine"]
    if "memory" not in server.run("cat", f"{group}/cgroup.controllers").split():
        assert "memory_bytes" not in rows["fat"]
        return
    # What it has in /dev/shm, and little more: BusyBox itself is small.
    assert SHARED_BYTES <= rows["fat"]["memory_bytes"] < SHARED_BYTES + (8 << 20)


def control(host: LabHost, name: str, action: RunAction, user: str = "mon") -> None:
    """Run what a control sends to a login shell, as a user of the host."""

    class Local:
        async def run(self, command: str, *, stdin: bytes, **_: object) -> CommandResult:
            argv = [*host.as_host, "su", "-", user, "-s", "/bin/sh", "-c", command]
            done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
            return CommandResult(done.stdout.decode(), done.stderr.decode(), done.returncode)

    container = Container(engine="docker", owner="root", id="", name=name, state="running")
    asyncio.run(control_container(cast("Connection", Local()), "server", container, action))


def test_a_container_is_stopped_started_and_restarted(server: LabHost) -> None:
    server.run("sh", "-c", f"{RUN} --stop-timeout 1 --name mine box:1 sleep 1000")
    seen = [inspected(server)["mine"]["State"]]
    for action, state in ((RunAction.RESTART, "running"), (RunAction.STOP, "exited"), (RunAction.START, "running")):
        control(server, "mine", action)
        seen.append(inspected(server)["mine"]["State"])
        assert seen[-1]["Status"] == state
    first, restarted, stopped, started = (each["StartedAt"] for each in seen)
    assert first < restarted == stopped < started
    with pytest.raises(EngineDenied):
        control(server, "mine", RunAction.STOP, "eve")
    with pytest.raises(ControlFailed, match="No such container: nobody"):
        control(server, "nobody", RunAction.STOP)
    server.run("docker", "rm", "-f", "mine")


@pytest.mark.parametrize(("name", "terminal"), [("plain", ""), ("terminal", "-t")])
def test_the_end_of_a_log_is_what_docker_prints(server: LabHost, name: str, terminal: str) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.05; done; echo ächz"
    server.run("sh", "-c", f"{RUN} {terminal} --name {name} box:1 sh -c '{script}'; docker wait {name}")
    printed = server.run("sh", "-c", f"docker logs -t --tail 4 {name} 2>&1 | sort").splitlines()
    request = {"id": "1", "sections": ["logs"], "watch": {"logs": [f"4 container docker/root/{name}"]}}
    program = probe_source(PROBES).decode().rpartition('\nif __name__ == "__main__":')[0]
    program += f"\nprint(json.dumps(Probe(Host()).answer(Request({request!r})), ensure_ascii=True))"
    argv = [*server.as_host, "su", "mon", "-s", "/bin/sh", "-c", "python3 -"]
    reply = json.loads(subprocess.run(argv, input=program, text=True, capture_output=True, check=True).stdout)
    assert reply["sections"]["logs"] == {"lines": printed, "truncated": False}, reply
    assert printed[-1].endswith(" ächz")
    server.run("docker", "rm", name)


def test_somebody_without_rights_is_told_so(server: LabHost) -> None:
    assert told(server, "eve")["missing"] == {"containers": "permission_denied"}


def test_a_docker_that_is_stopped_stays_stopped(server: LabHost) -> None:
    server.run("sh", "-c", "docker rm -f $(docker ps -aq) && systemctl stop docker.service")
    assert server.run("systemctl", "is-active", "docker.socket").strip() == "active"
    for _ in range(2):
        section = told(server, "root")["sections"]["containers"]
        assert section["engines"] == [{"engine": "docker", "owner": "root", "state": "stopped"}]
        assert section["complete"] == {"docker/root": False}
    assert server.run("systemctl", "is-active", "docker.service", check=False).strip() == "inactive"
