"""What a real systemd tells the probe over D-Bus is what systemctl prints, for root and for anybody else."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "probes"
COMPARE = """
host, memo = Host(), {}
told = list_units(host, memo, LinesKept(set(), set()))
listed = sorted(parse_units(systemctl(host, SYSTEMCTL_LIST)), key=lambda one: one.name)
print(json.dumps({"memo": memo, "told": [vars(one) for one in told], "listed": [vars(one) for one in listed]}))
"""
BAD_UNIT = """\
printf '[Unit]\\nDescription=F\\303\\244llt um\\n[Service]\\nExecStart=/bin/false\\n' >etc/systemd/system/bad.service
ln -s /etc/systemd/system/bad.service etc/systemd/system/multi-user.target.wants/
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=(Account("mon"),), setup=BAD_UNIT)
        host.wait()
        yield host


@pytest.mark.parametrize("user", ["root", "mon"])
def test_the_bus_reports_what_systemctl_prints(server: LabHost, user: str) -> None:
    program = probe_source(PROBES).decode().rpartition('\nif __name__ == "__main__":')[0] + COMPARE
    command = [*server.as_host, "su", user, "-s", "/bin/sh", "-c", "python3 -"]
    run = subprocess.run(command, input=program, text=True, capture_output=True, check=True)
    said = json.loads(run.stdout)
    assert said["memo"] == {}  # The bus did answer.
    assert said["told"] == said["listed"]
    bad = next(unit for unit in said["told"] if unit["name"] == "bad.service")
    assert (bad["active"], bad["description"]) == ("failed", "Fällt um")
