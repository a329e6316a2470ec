"""Names that become another's: a bay with another disk, interfaces that swap theirs, a boot that counts anew."""

from collections.abc import Callable
from typing import Any

import pytest

from custom_components.homelab_monitor.client.models import (
    DiskCounters,
    DiskHardware,
    DiskIo,
    Hardware,
    InterfaceCounters,
    InterfaceHardware,
    Network,
)
from custom_components.homelab_monitor.client.probe.snapshot import Reply, Snapshot
from custom_components.homelab_monitor.client.tracking.inventory import Inventory
from custom_components.homelab_monitor.client.tracking.item_tracker import ItemTracker
from custom_components.homelab_monitor.client.tracking.items import Selection, unknown_hardware
from custom_components.homelab_monitor.client.tracking.rates import Rates, updated


class Host:
    """A host that is asked every ten seconds, and what is shown of it."""

    def __init__(self) -> None:
        self.snapshot, self.rates, self.at = Snapshot(), Rates(), 100.0
        self.roster = ItemTracker(Inventory(), Selection())
        self.boot_id = "one"

    def poll(self, **sections: Any) -> dict[str, dict[str, Any]]:
        self.at += 10.0
        reply = Reply(id="1", boot_id=self.boot_id, epoch=0.0, sections=sections, missing={}, errors={}, seconds={})
        before, self.snapshot = self.snapshot, self.snapshot.merged(reply, self.at, 30.0)
        self.rates = updated(self.rates, before, self.snapshot)
        return self.roster.items(self.snapshot, self.rates, is_news=True)

    def disks(self, asked: Any = None, **read: int) -> dict[str, float | None]:
        """Return bytes per second by id of what is shown, of what has been read by name."""
        told = {name: DiskCounters(read_bytes=count, written_bytes=0) for name, count in read.items()}
        more = {} if asked is None else {"hardware": asked}
        shown = self.poll(disk_io=DiskIo(at=self.at, disks=told), **more)["disk"]
        return {item_id: each.read_bytes_per_second for item_id, each in shown.items()}

    def interfaces(self, asked: Any = None, **told: tuple[int, int]) -> dict[str, float | None]:
        """Return bytes per second by id of what is shown, of number and bytes by name."""
        counters = {
            name: InterfaceCounters(receive_bytes=count, transmit_bytes=0, number=number)
            for name, (number, count) in told.items()
        }
        more = {} if asked is None else {"hardware": asked}
        shown = self.poll(network=Network(at=self.at, interfaces=counters), **more)["interface"]
        return {item_id: each.receive_bytes_per_second for item_id, each in shown.items()}


def disks(**serials: str) -> Hardware:
    told = {name: DiskHardware(model="Backup", serial=serial) for name, serial in serials.items()}
    return Hardware(threads=1, memory_bytes=1, disks=told)


def cards(**macs: str) -> Hardware:
    told = {name: InterfaceHardware(permanent_mac=mac) for name, mac in macs.items()}
    return Hardware(threads=1, memory_bytes=1, interfaces=told)


def test_another_disk_in_the_same_bay_is_not_shown_as_the_one_that_was_there() -> None:
    host = Host()
    host.disks(disks(sda="S", sdb="A"), sda=0, sdb=1000)
    shown = host.disks(sda=0, sdb=2000)
    assert set(shown.values()) == {0.0, 100.0}
    old = next(item for item, rate in shown.items() if rate == 100.0)
    assert old not in host.disks(sda=0)
    assert old not in host.disks(sda=0, sdb=10)
    assert unknown_hardware(host.snapshot) == {"sdb"}
    assert old not in host.disks(sda=0, sdb=2_000_000)
    told = host.disks(disks(sda="S", sdb="B"), sda=0, sdb=3_000_000)
    assert not unknown_hardware(host.snapshot)
    assert old not in told
    assert len(told) == 2
    again = host.disks(sda=0, sdb=3_000_000)
    assert again.keys() == told.keys()


def test_the_disk_that_comes_back_is_the_one_that_was_there() -> None:
    host = Host()
    host.disks(disks(sdb="A"), sdb=1000)
    before = host.disks(sdb=1000)
    assert host.disks() == {}
    assert host.disks(sdb=10) == {}
    assert host.disks(disks(sdb="A"), sdb=10).keys() == before.keys()


def test_a_disk_that_was_exchanged_between_two_polls_shows_by_its_counters() -> None:
    host = Host()
    host.disks(disks(sdb="A"), sdb=10**9)
    old = host.disks(sdb=10**9).keys()
    assert host.disks(sdb=4096) == {}
    assert unknown_hardware(host.snapshot) == {"sdb"}
    assert not host.disks(disks(sdb="B"), sdb=8192).keys() & old


def test_interfaces_that_swap_names_make_no_traffic_and_keep_their_ids() -> None:
    host = Host()
    names = cards(eth0="02:00:00:00:00:01", eth1="02:00:00:00:00:02")
    host.interfaces(names, eth0=(2, 10**12), eth1=(3, 500))
    before = host.interfaces(eth0=(2, 10**12), eth1=(3, 500))
    assert set(before.values()) == {0.0}
    # By udev's rules, or with ip link set name.
    assert host.interfaces(eth0=(3, 600), eth1=(2, 10**12)) == {}
    assert unknown_hardware(host.snapshot) == {"eth0", "eth1"}
    swapped = cards(eth0="02:00:00:00:00:02", eth1="02:00:00:00:00:01")
    told = host.interfaces(swapped, eth0=(3, 700), eth1=(2, 10**12))
    assert told.keys() == before.keys()
    assert sorted(told.values(), key=str) == [0.0, 10.0]


def test_interfaces_that_swap_names_when_the_hardware_is_reported_make_no_traffic() -> None:
    host = Host()
    host.interfaces(cards(eth0="02:00:00:00:00:01", eth1="02:00:00:00:00:02"), eth0=(2, 10**12), eth1=(3, 500))
    swapped = cards(eth0="02:00:00:00:00:02", eth1="02:00:00:00:00:01")
    assert set(host.interfaces(swapped, eth0=(3, 600), eth1=(2, 10**12)).values()) == {None}


def test_without_numbers_interfaces_are_reported_by_names_as_ever() -> None:
    host = Host()
    host.interfaces(cards(eth0="02:00:00:00:00:01"), eth0=(None, 0))
    assert list(host.interfaces(eth0=(None, 100)).values()) == [10.0]
    assert list(host.interfaces(eth0=(2, 200)).values()) == [10.0]


@pytest.mark.parametrize("ask", [lambda host: host.disks(sda=7), lambda host: host.interfaces(eth0=(2, 7))])
def test_after_a_boot_no_name_is_known_until_the_hardware_is_reported(
    ask: Callable[[Host], dict[str, float | None]],
) -> None:
    host = Host()
    both = Hardware(
        threads=1,
        memory_bytes=1,
        disks={"sda": DiskHardware(serial="A")},
        interfaces={"eth0": InterfaceHardware(permanent_mac="02:00:00:00:00:01")},
    )
    host.poll(hardware=both)
    assert ask(host)
    host.boot_id = "two"
    assert not ask(host)
    host.poll(hardware=both)
    assert ask(host)


def test_what_is_not_reported_or_not_asked_makes_nothing_unsure() -> None:
    host = Host()
    host.disks(disks(sda="A"), sda=1)
    host.poll()
    host.interfaces(eth9=(7, 1))
    assert host.snapshot.unsure == frozenset()
    assert host.disks(sda=1).keys()


def test_a_disk_whose_hardware_is_not_known_does_not_go_for_good() -> None:
    host = Host()
    host.disks(disks(sdb="A"), sdb=1000)
    old = host.disks(sdb=1000).keys()
    host.disks()
    for _ in range(9000):  # 25 hours, in which the section hardware never answers
        host.disks(sdb=1000)
    assert host.disks(disks(sdb="A"), sdb=1000).keys() == old
