"""The lab itself: its hosts are machines of their own, reachable over SSH, and nothing is left of them afterwards."""

from collections.abc import Iterator
from pathlib import Path
import subprocess

import pytest

from .lab import HUB_ADDRESS, Account, Lab, LabHost, cgroup2
from .needed import needs_lab


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs_lab()
    with Lab() as lab:
        yield lab


def ssh(lab: Lab, host: LabHost, key: Path, command: str) -> str:
    """Run a command as a client would; the host key has to be the one that the lab tells."""
    known = key.parent / "known_hosts"
    known.write_text(f"{host.address} {host.host_key}\n")
    options = ["-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes"]
    argv = [*lab.as_hub, "ssh", "-F", "none", *options, f"mon@{host.address}", command]
    return subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def account(key: Path) -> Account:
    return Account(authorized=(key.with_suffix(".pub").read_text().strip(),), groups=("adm",), password="canary")


def test_hosts_are_machines_of_their_own(lab: Lab, key: Path) -> None:
    hosts = [lab.add_host(name, accounts=(account(key),)) for name in ("one", "two")]
    for host in hosts:
        host.wait()
    told = [ssh(lab, host, key, "hostname; cat /etc/machine-id; id -nG; ls ~; echo $SSH_CONNECTION") for host in hosts]
    first, second = (text.splitlines() for text in told)
    assert (first[0], second[0]) == ("one", "two")
    assert first[1] != second[1]
    assert first[2] == "mon adm"
    assert first[3].split()[::2] == [HUB_ADDRESS, hosts[0].address]
    assert hosts[0].host_key != hosts[1].host_key


def test_a_host_that_was_switched_off_comes_back_with_its_disk(lab: Lab, key: Path) -> None:
    host = lab.add_host("nas", accounts=(account(key),))
    host.wait()
    host.run("sh", "-c", "echo kept >/var/lib/file; echo gone >/run/file")
    host.stop()
    with pytest.raises(subprocess.CalledProcessError):
        ssh(lab, host, key, "true")
    host.start()
    host.wait()
    assert ssh(lab, host, key, "cat /var/lib/file /run/file 2>/dev/null; :") == "kept\n"


def test_systemd_runs_as_the_first_process_and_leaves_the_machine_alone(key: Path) -> None:
    needs_lab(systemd=True)
    null = Path("/dev/null").stat()
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=(account(key),))
        host.wait()
        assert ssh(lab, host, key, "cat /proc/1/comm; systemctl is-system-running") == "systemd\nrunning\n"
        assert host.cgroup is not None
        assert "usage_usec" in (host.cgroup / "cpu.stat").read_text()
        folder, cgroup = host.folder, host.cgroup
    assert not folder.exists()
    assert not cgroup.exists()
    assert cgroup2() is not None
    now = Path("/dev/null").stat()
    assert (null.st_mode, null.st_uid, null.st_gid) == (now.st_mode, now.st_uid, now.st_gid)
