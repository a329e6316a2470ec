"""A scan of a whole subnet in which real machines are on, off, and behind a firewall."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

import pytest

from .lab import HUB_ADDRESS, Lab, LabHost
from .needed import needs_lab

HOSTS = ("nas", "pi", "router", "server", "desk", "media")
SCAN = """
import asyncio, dataclasses, json, sys, time
from custom_components.homelab_monitor.client.transport.scan import interfaces_to_scan, networks_to_scan, scan
adapters = json.loads(sys.argv[1])
shares = []
started = time.monotonic()
found = asyncio.run(scan(networks_to_scan(adapters), names=json.loads(sys.argv[2]),
    interfaces=interfaces_to_scan(adapters), progress=shares.append))
print(json.dumps({"found": [dataclasses.asdict(each) for each in found], "shares": shares,
    "seconds": time.monotonic() - started}))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs_lab()
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> dict[str, LabHost]:
    made = {name: lab.add_host(name) for name in HOSTS}
    for host in made.values():
        host.wait()
    return made


def scan_from_the_hub(lab: Lab, names: dict[str, str] | None = None, *, enabled: bool = True) -> dict[str, Any]:
    """Scan where Home Assistant would live; the adapter is told as Home Assistant tells it."""
    address = {"address": HUB_ADDRESS, "network_prefix": 24}
    adapters = [{"name": "eth0", "enabled": enabled, "ipv4": [address]}]
    command = [*lab.as_hub, sys.executable, "-c", SCAN, json.dumps(adapters), json.dumps(names or {})]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_scan_finds_every_machine_that_answers_and_the_next_one_knows_them(
    lab: Lab, hosts: dict[str, LabHost]
) -> None:
    hosts["media"].run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
    hosts["desk"].stop()
    names = {hosts["nas"].address: "nas.lan"}
    first = scan_from_the_hub(lab, names)
    on = {name: host for name, host in hosts.items() if name not in ("media", "desk")}
    assert {each["address"] for each in first["found"]} == {host.address for host in on.values()}
    assert {each["platform_hint"] for each in first["found"]} == {"linux"}
    assert all(each["banner"].startswith("SSH-2.0-OpenSSH") for each in first["found"])
    assert {each["address"]: each["hostname"] for each in first["found"]}[hosts["nas"].address] == "nas.lan"
    macs = {host.address: host.run("cat", "/sys/class/net/eth0/address").strip() for host in on.values()}
    assert {each["address"]: each["mac"] for each in first["found"]} == macs
    assert first["seconds"] < 15
    assert first["shares"][-1] == 1.0
    assert first["shares"] == sorted(first["shares"])
    hosts["desk"].start()
    hosts["desk"].wait()
    hosts["media"].run("iptables", "-F", "INPUT")
    second = scan_from_the_hub(lab)
    assert {each["address"] for each in second["found"]} == {host.address for host in hosts.values()}
    assert {each["source"] for each in second["found"] if each["address"] in macs} == {"arp"}


def test_a_machine_that_is_slow_to_answer_is_found_all_the_same(lab: Lab, hosts: dict[str, LabHost]) -> None:
    hosts["pi"].run(
        "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8kbit", "burst", "1600", "latency", "2s"
    )
    started = time.monotonic()
    found = scan_from_the_hub(lab)["found"]
    assert hosts["pi"].address in {each["address"] for each in found}
    assert time.monotonic() - started < 60


def test_an_adapter_that_is_not_enabled_is_not_scanned(lab: Lab, hosts: dict[str, LabHost]) -> None:
    assert hosts
    assert scan_from_the_hub(lab, enabled=False)["found"] == []
