"""Who listens is what ss(8) prints, on a host with systemd: for root, for anybody else, and with sudo."""

from collections.abc import Iterator
import json
from pathlib import Path
import re
import subprocess
import time
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source

from .lab import Account, Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "custom_components" / "homelab_monitor" / "probes"
SS = ["ss", "-H", "-l", "-t", "-u", "-n", "-p", "-e"]
SERVER = """\
import os, socket, time
def listen(family, kind, address, only_ipv6=0, interface=""):
    door = socket.socket(family, kind)
    if family == socket.AF_INET6:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
    if interface:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    door.bind(address)
    if kind == socket.SOCK_STREAM:
        door.listen(5)
    return door
four, six, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
held = [
    listen(six, tcp, ("::", 8001)),
    listen(six, tcp, ("::", 8002), only_ipv6=1),
    listen(four, tcp, ("0.0.0.0", 8002)),
    listen(four, tcp, ("127.0.0.1", 8003)),
    listen(six, tcp, ("::1", 8003)),
    listen(six, tcp, ("::ffff:127.0.0.1", 8004)),
    listen(four, udp, ("0.0.0.0", 8005), interface="eth0"),
    listen(six, udp, ("::", 8006)),
    listen(four, udp, ("224.0.0.251", 8007)),
    listen(four, tcp, ("%s", 8008)),
]
os.fork()  # a worker, which inherits all
time.sleep(1000)
"""
UNIT = (
    "[Service]\\nExecStart=/usr/bin/python3 /usr/local/lib/listen.py\\nUser=nobody\\nAmbientCapabilities=CAP_NET_RAW\\n"
)
SETUP = """\
mkdir -p usr/local/lib
cat >usr/local/lib/listen.py <<'END'
{server}END
printf '{unit}' >etc/systemd/system/listen.service
printf '[Socket]\\nListenStream=8009\\n' >etc/systemd/system/later.socket
printf '[Service]\\nExecStart=/bin/true\\n' >etc/systemd/system/later.service
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LabHost]:
    needs_lab(systemd=True)
    with Lab() as lab:
        address = "10.77.0.61"
        setup = SETUP.format(server=SERVER.replace("%s", address), unit=UNIT)
        accounts = (Account("mon"), Account("admin", sudo="ALL=(ALL) NOPASSWD: ALL"))
        host = lab.add_host("server", systemd=True, accounts=accounts, setup=setup, address=address)
        host.wait()
        subprocess.run([*host.as_host, "systemctl", "start", "listen.service", "later.socket"], check=True)
        until = time.monotonic() + 20
        while ":8008 " not in printed(host) and time.monotonic() < until:
            time.sleep(0.05)
        yield host


def printed(host: LabHost) -> str:
    """Return what ss prints to root."""
    return subprocess.run([*host.as_host, *SS], check=True, capture_output=True, text=True).stdout


def tell(host: LabHost, user: str, *sudo: str) -> dict[str, Any]:
    """Return what the probe tells to a user."""
    request = f"Request({{'sections': ['sockets'], 'sudo': {list(sudo)}}})"
    return json.loads(run(host, user, f"print(json.dumps(Probe(Host()).answer({request})))\n"))["sections"]["sockets"]


def run(host: LabHost, user: str, lines: str) -> str:
    """Return what lines print that a user runs behind the probe's own."""
    program = probe_source(PROBES).decode().rpartition('\nif __name__ == "__main__":')[0]
    # At once: an interpreter that ends by itself waits for its threads.
    program += f"\nprepare()\n{lines}sys.stdout.flush()\nos._exit(0)\n"
    command = [*host.as_host, "su", user, "-s", "/bin/sh", "-c", "python3 -"]
    return subprocess.run(command, input=program, text=True, capture_output=True, check=True).stdout


def as_ss(one: dict[str, Any]) -> tuple[str, str]:
    """Return protocol and local address as ss prints them."""
    address = one["address"]
    if one["families"] == ["ipv4", "ipv6"]:
        address = "*"
    elif ":" in address:
        address = f"[{address}]"
    zone = f"%{one['interface']}" if "interface" in one else ""
    return one["protocol"], f"{address}{zone}:{one['port']}"


def sockets_of(text: str) -> set[tuple[str, str]]:
    """Return protocol and local address of each line of ss, a mapped address as the IPv4 one that it is."""
    rows = (line.split() for line in text.splitlines())
    return {(words[0], re.sub(r"\[::ffff:([\d.]+)\]", r"\1", words[4])) for words in rows}


@pytest.mark.parametrize("user", ["root", "mon"])
def test_what_listens_is_what_ss_prints(server: LabHost, user: str) -> None:
    told = tell(server, user)
    assert told["complete"]["sockets"]
    assert {as_ss(one) for one in told["sockets"]} == sockets_of(printed(server))


@pytest.mark.parametrize(("user", "sudo"), [("root", ()), ("admin", ("sockets",))])
def test_processes_are_those_that_ss_prints(server: LabHost, user: str, sudo: tuple[str, ...]) -> None:
    told = tell(server, user, *sudo)
    assert told["complete"]["owners"]
    holders = {line.split()[4]: set(map(int, re.findall(r"pid=(\d+)", line))) for line in printed(server).splitlines()}
    for one in told["sockets"]:
        if one["address"] == "127.0.0.1" and one["port"] == 8004:
            continue  # printed as [::ffff:127.0.0.1]
        assert one["pid"] in holders[as_ss(one)[1]], one
    by_port = {one["port"]: one for one in told["sockets"]}
    main = subprocess.run(
        [*server.as_host, "systemctl", "show", "-P", "MainPID", "listen.service"], capture_output=True, check=True
    )
    # Its worker holds them, too.
    assert (by_port[8001]["pid"], by_port[8001]["unit"]) == (int(main.stdout), "listen.service")
    assert (by_port[8009]["process"], by_port[8009]["unit"]) == ("systemd", "init.scope")


def test_anybody_gets_the_unit_and_no_process_of_others(server: LabHost) -> None:
    told = tell(server, "mon")
    assert not told["complete"]["owners"]
    by_port = {one["port"]: one for one in told["sockets"]}
    for port in range(8001, 8009):
        assert by_port[port]["unit"] == "listen.service"
    assert by_port[22]["unit"] == "ssh.service"
    assert "unit" not in by_port[8009]  # systemd holds it for a service that does not run
    assert not [one for one in told["sockets"] if "pid" in one]


def test_sudo_is_not_used_unless_it_is_allowed(server: LabHost) -> None:
    assert not [one for one in tell(server, "admin")["sockets"] if "pid" in one]


def test_what_can_be_reached_from_where(server: LabHost) -> None:
    reach = {as_ss(one): one["exposure"] for one in tell(server, "mon")["sockets"]}
    expected = {
        ("tcp", "*:8001"): "all",
        ("tcp", "[::]:8002"): "all",
        ("tcp", "0.0.0.0:8002"): "all",
        ("tcp", "127.0.0.1:8003"): "machine",
        ("tcp", "[::1]:8003"): "machine",
        ("tcp", "127.0.0.1:8004"): "machine",
        ("udp", "0.0.0.0%eth0:8005"): "lan",
        ("udp", "*:8006"): "all",
        ("udp", "224.0.0.251:8007"): "lan",
        ("tcp", "10.77.0.61:8008"): "lan",
    }
    assert expected.items() <= reach.items()


def test_what_is_late_under_sudo_is_late_although_nobody_may_kill_it(server: LabHost) -> None:
    lines = "try:\n    Host().run(['sudo', '-n', '--', 'sleep', '4'], 0.3)\nexcept Late as err:\n    print(repr(err))\n"
    assert run(server, "admin", lines) == "Late('sudo')\n"
