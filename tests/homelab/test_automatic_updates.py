"""What a real systemd says of the timer that starts updates is what the probe says of automatic updates."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source
from tests.needs import needs

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "probes"
ASK = "\nprint(json.dumps(automatic_updates(Host(), Request({}), Daemons(Host()))))\n"
TIMER, SERVICE = "apt-daily-upgrade.timer", "apt-daily-upgrade.service"
LISTS_TIMER = "apt-daily.timer"
UNATTENDED = """\
printf '#!/bin/sh\\n' >usr/bin/unattended-upgrade
mkdir -p etc/apt/apt.conf.d
printf 'APT::Periodic::%s "1";\\n' Unattended-Upgrade Update-Package-Lists >etc/apt/apt.conf.d/20auto-upgrades
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    needs(Path("/usr/lib/systemd/system", TIMER).exists() and Path("/usr/bin/apt-config").exists(), "apt's timers")
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=(Account("mon"),), setup=UNATTENDED)
        host.wait()
        yield host


@pytest.fixture(autouse=True)
def at_work(server: LabHost) -> None:
    """Let the timer be at work at first."""
    server.run("systemctl", "unmask", TIMER, SERVICE, LISTS_TIMER)
    server.run("systemctl", "enable", "--now", TIMER, LISTS_TIMER)


def said(server: LabHost, user: str) -> str:
    """Return the reason that the probe gives to a user."""
    program = probe_source(PROBES).decode().rpartition('\nif __name__ == "__main__":')[0] + ASK
    command = [*server.as_host, "su", user, "-s", "/bin/sh", "-c", "python3 -"]
    return json.loads(subprocess.run(command, input=program, text=True, capture_output=True, check=True).stdout)[
        "reason"
    ]


@pytest.mark.parametrize("user", ["root", "mon"])
def test_a_timer_that_is_masked_or_stopped_or_starts_what_is_masked_is_not_at_work(server: LabHost, user: str) -> None:
    assert said(server, user) == "active"
    server.run("systemctl", "mask", SERVICE)
    assert server.run("systemctl", "is-enabled", TIMER).strip() == "enabled", "its link is still there"
    assert said(server, user) == "inactive"
    server.run("systemctl", "unmask", SERVICE)
    assert said(server, user) == "active"
    server.run("systemctl", "stop", TIMER)
    assert said(server, user) == "inactive"
    server.run("systemctl", "mask", "--now", TIMER)
    assert said(server, user) == "inactive"


def test_where_nothing_refreshes_the_lists_nothing_new_is_installed(server: LabHost) -> None:
    server.run("systemctl", "mask", "--now", LISTS_TIMER)
    assert said(server, "mon") == "lists_not_refreshed"
