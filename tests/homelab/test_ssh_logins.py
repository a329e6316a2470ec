"""Who gets in with a password at a real sshd is whom the probe says that it lets in."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "probes"
ACCOUNTS = (
    Account("root", password="r"),
    Account("mon", password="m", groups=("users",)),
    Account("bob", password="b"),
)
SETUP = """\
echo 'KbdInteractiveAuthentication no' >etc/ssh/head
grep -E '^(HostKey|UsePAM|Subsystem)' etc/ssh/sshd_config >>etc/ssh/head
sed -i 's/pam_unix.so.*/& nodelay/' etc/pam.d/common-auth
if grep -qi persourcepenalties usr/sbin/sshd; then echo 'PerSourcePenalties no' >>etc/ssh/head; fi
"""
ROOT, OFF, ON = "PermitRootLogin yes\n", "PasswordAuthentication no\n", "PasswordAuthentication yes\n"
CONFIGS = (
    (ROOT, {"root", "mon", "bob"}),
    (ROOT + "AllowUsers mon\nAllowUsers ro*\n", {"root", "mon"}),
    (ROOT + "AllowUsers mon bob\nDenyUsers m?n\n", {"bob"}),
    (ROOT + "AllowUsers nobody\n", set()),
    (ROOT + "DenyUsers *\n", set()),
    (ROOT + "AllowGroups users\n", {"mon"}),
    (ROOT + "DenyGroups root\n", {"mon", "bob"}),
    (ROOT + "Match User root\n" + OFF, {"mon", "bob"}),
    (ROOT + "Match Group *,!root\n" + OFF, {"root"}),
    (ROOT + OFF + "Match User bob\n" + ON + "DenyUsers bob\n", set()),
    (ROOT + OFF + "AllowUsers mon\nMatch User bob\n" + ON + "AllowUsers bob\n", {"bob"}),
    (ROOT + OFF + "Match LocalPort 2222\n" + ON, set()),
    (ROOT + OFF + "Match User root\n" + OFF + "Match Address 127.0.0.0/8\n" + ON, {"mon", "bob"}),
    ("PermitRootLogin no\n" + OFF + "Match User root\n" + ON, set()),
)


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=ACCOUNTS, setup=SETUP)
        host.wait()
        host.run("sh", "-c", "printf '#!/bin/sh\\necho \"$ANSWER\"\\n' >/tmp/ask; chmod 755 /tmp/ask")
        yield host


def let_in(host: LabHost) -> set[str]:
    """Return who gets in with the right password from the host itself; all try at the same time."""
    runs = {}
    for account in ACCOUNTS:
        command = [*host.as_host, "env", "SSH_ASKPASS=/tmp/ask", "SSH_ASKPASS_REQUIRE=force"]
        command += [f"ANSWER={account.password}", "ssh", "-Fnone", "-oStrictHostKeyChecking=no"]
        command += ["-oUserKnownHostsFile=/dev/null", "-oIdentityAgent=none", "-oNumberOfPasswordPrompts=1"]
        command += ["-oPreferredAuthentications=password", "-l", account.name, "127.0.0.1", "true"]
        runs[account.name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    said = {name: run.communicate(timeout=30)[1] for name, run in runs.items()}
    assert all(run.returncode == 0 or "Permission denied" in said[name] for name, run in runs.items()), said
    return {name for name, run in runs.items() if run.returncode == 0}


def told(host: LabHost) -> dict[str, Any]:
    """Return what the probe tells root."""
    run = subprocess.run(
        [*host.as_host, "python3", "-", "security"], input=probe_source(PROBES), capture_output=True, check=True
    )
    part: dict[str, Any] = json.loads(run.stdout)["sections"]["security"]["ssh"]
    return part


@pytest.mark.parametrize(("config", "names"), CONFIGS)
def test_the_verdict_is_what_real_logins_find(server: LabHost, config: str, names: set[str]) -> None:
    write = "cd /; cat /etc/ssh/head - >/etc/ssh/sshd_config && sshd -t "
    write += "&& systemctl reset-failed ssh && systemctl restart ssh"
    subprocess.run([*server.as_host, "sh", "-c", write], input=config, text=True, check=True)
    server.wait()
    assert let_in(server) == names
    part = told(server)
    assert (part["password_login"], part["reason"].startswith("root_")) == (bool(names), "root" in names)
