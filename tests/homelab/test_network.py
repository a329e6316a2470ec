"""Interfaces, addresses and ways out are those that ip(8) prints, where there are many of them."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.programs import probe_source

from .lab import Lab, LabHost
from .needed import needs_lab

PROBES = Path(__file__).resolve().parents[2] / "custom_components" / "homelab_monitor" / "probes"
ROUTER = """
link add uplink type veth peer name far
link add vmbr0 type bridge
link add port0 type veth peer name port1
link set port0 master vmbr0
link add docker0 type bridge
link add link uplink name media type macvlan
link set uplink mtu 1400
link set uplink up
link set far up
link set vmbr0 up
link set port0 up
addr add 198.51.100.2/24 dev uplink
addr add 198.51.100.3/24 dev uplink
addr add 10.9.0.2/8 dev uplink
addr add 10.8.0.2 peer 10.8.0.1/32 dev vmbr0
addr add 203.0.113.9/32 dev vmbr0 scope link
addr add 172.17.0.1/16 dev docker0
addr add 2001:db8:1::3/64 dev uplink nodad preferred_lft 0
addr add 2001:db8:1::2/64 dev uplink nodad
addr add fd00:1::2/48 dev vmbr0 nodad
route add default via 10.255.0.1 dev uplink metric 50
route add default via 198.51.100.1 dev uplink metric 20
route add default via 2001:db8:1::1 dev uplink
"""


@pytest.fixture(scope="module")
def router() -> Iterator[LabHost]:
    needs_lab()
    with Lab() as lab:
        host = lab.add_host("router")
        host.wait()
        subprocess.run([*host.as_host, "ip", "-batch", "-"], input=ROUTER, text=True, check=True)
        yield host


def ip(host: LabHost, *words: str) -> list[dict[str, Any]]:
    command = [*host.as_host, "ip", "-j", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tell(host: LabHost, *sections: str) -> dict[str, Any]:
    """Return what the probe tells on the host."""
    command = [*host.as_host, "python3", "-", *sections]
    run = subprocess.run(command, input=probe_source(PROBES), check=True, capture_output=True)
    return json.loads(run.stdout)["sections"]


def address(told: dict[str, Any]) -> dict[str, Any]:
    """Return an address that ip prints in the contract's words."""
    row = {"address": told["local"], "prefix_length": told["prefixlen"], "scope": told["scope"]}
    return row | {name: True for name in ("temporary", "deprecated") if told.get(name)}


def test_every_interface_is_as_ip_prints_it(router: LabHost) -> None:
    sections = tell(router, "interfaces", "network")
    told = sections["interfaces"]["interfaces"]
    assert told.keys() == sections["network"]["interfaces"].keys()
    assert {"uplink", "vmbr0", "media"} <= told.keys()
    assert not told.keys() & {"lo", "docker0", "port0"}
    links = {link["ifname"]: link for link in ip(router, "addr")}
    for name, row in told.items():
        assert (row["state"].upper(), row["mtu"]) == (links[name]["operstate"], links[name]["mtu"])
        assert row["mac"] == links[name]["address"]
        for ours, family in (("ipv4", "inet"), ("ipv6", "inet6")):
            assert row[ours] == [address(one) for one in links[name]["addr_info"] if one["family"] == family]
    assert [one["address"] for one in told["uplink"]["ipv4"]] == ["198.51.100.2", "10.9.0.2", "198.51.100.3"]
    assert "10.8.0.2" in {one["address"] for one in told["vmbr0"]["ipv4"]}  # not the other end's
    assert [one["address"] for one in told["uplink"]["ipv6"] if one.get("deprecated")] == ["2001:db8:1::3"]


def test_the_way_out_is_as_ip_prints_it(router: LabHost) -> None:
    told = tell(router, "interfaces")["interfaces"]
    cheapest = min((one for one in ip(router, "route", "show", "default")), key=lambda one: one.get("metric", 0))
    assert (told["primary"], told["gateway_ipv4"]) == (cheapest["dev"], cheapest["gateway"])
    assert told["gateway_ipv6"] == ip(router, "-6", "route", "show", "default")[0]["gateway"]
    # What the kernel itself would send from.
    assert told["primary_address"] == ip(router, "route", "get", "192.0.2.1")[0]["prefsrc"]


def test_without_netlink_ip_reports_the_same(router: LabHost) -> None:
    refused = b"""
def read_addresses():
    raise PermissionError("no netlink here")

"""
    program, start, end = probe_source(PROBES).rpartition(b"if __name__ ==")
    command = [*router.as_host, "python3", "-", "interfaces"]
    run = subprocess.run(command, input=program + refused + start + end, check=True, capture_output=True)
    assert json.loads(run.stdout)["sections"]["interfaces"] == tell(router, "interfaces")["interfaces"]
