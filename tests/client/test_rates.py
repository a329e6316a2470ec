"""Rates of two readings: a reset, a reboot or a gap never becomes a peak."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.rates import Rates, updated
from tests.big_host import load_probe
from tests.recorded import counters, recorded_hosts, recorded_reply

PLAIN = json.loads((Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json").read_text())


def snapshot(document: dict[str, Any]) -> Snapshot:
    return Snapshot().merged(decode_reply("plain", json.dumps(document).encode()), 1000.0, 30.0)


@pytest.fixture
def later() -> dict[str, Any]:
    """The same host ten seconds later."""
    document = deepcopy(PLAIN)
    for section in ("cpu", "network", "disk_io"):
        document["sections"][section]["at"] += 10.0
    return document


def rates(later: dict[str, Any]) -> Rates:
    return updated(Rates(), snapshot(PLAIN), snapshot(later))


def test_cpu_shares_are_of_the_time_between_the_readings(later) -> None:
    later["sections"]["cpu"]["times"]["user"] += 4.0
    later["sections"]["cpu"]["times"]["system"] += 1.0
    later["sections"]["cpu"]["times"]["iowait"] += 5.0
    later["sections"]["cpu"]["times"]["idle"] += 10.0
    later["sections"]["cpu"]["cores"] = [[255.0, 5010.0], [260.0, 5010.0]]
    cpu = rates(later).cpu
    assert cpu is not None
    assert (cpu.usage_percent, cpu.iowait_percent, cpu.cores) == (25.0, 25.0, (50.0, 0.0))


def cpu_after(later: dict[str, Any], **moved: float) -> Any:
    """Return the shares after so many seconds of each kind."""
    for kind, seconds in moved.items():
        later["sections"]["cpu"]["times"][kind] += seconds
    return rates(later).cpu


# The columns of proc_stat(5) in a second sample, in ticks, of which the first has none (guest is in user, guest_nice in
# nice) → busy, iowait and steal in percent of the time that the first eight are, as `top` and `mpstat` count it.
SAMPLES = [
    ("1000 0 0 1000 0 0 0 0 1000 0", 50.0, 0.0, 0.0),
    ("1960 0 0 40 0 0 0 0 1960 0", 98.0, 0.0, 0.0),
    ("600 400 100 500 200 50 50 100 500 300", 65.0, 10.0, 5.0),
    ("0 500 0 500 0 0 0 0 0 500", 50.0, 0.0, 0.0),
    ("250 0 250 500 0 0 0 0 0 0", 50.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("columns", "busy", "iowait", "steal"), SAMPLES)
def test_who_is_busy_in_virtual_machines_is_busy_once(
    later, columns: str, busy: float, iowait: float, steal: float
) -> None:
    probe = load_probe()
    for document, told in ((before := deepcopy(later), "0 " * 10), (later, columns)):
        document["sections"]["cpu"]["times"], cores = probe.parse_stat(f"cpu  {told}\ncpu0 {told}\ncpu1 {told}\n", 100)
        document["sections"]["cpu"]["cores"] = cores
    before["sections"]["cpu"]["at"] -= 10.0
    cpu = updated(Rates(), snapshot(before), snapshot(later)).cpu
    assert cpu is not None
    assert (cpu.usage_percent, cpu.iowait_percent, cpu.steal_percent) == pytest.approx((busy, iowait, steal))
    assert cpu.cores == pytest.approx((busy, busy))


def test_what_the_kernel_moves_from_iowait_to_idle_is_neither_new_nor_gone(later) -> None:
    # proc_stat(5): iowait decreases when the task that was waited for wakes up elsewhere; idle has it then.
    cpu = cpu_after(later, user=5.0, iowait=-3.0, idle=8.0)
    assert (cpu.usage_percent, cpu.iowait_percent) == (50.0, 0.0)
    cpu = cpu_after(later, iowait=8.0, idle=-8.0)
    assert (cpu.usage_percent, cpu.iowait_percent) == (50.0, 50.0)


@pytest.mark.parametrize("kind", ["user", "nice", "system", "irq", "softirq", "steal"])
def test_a_few_ticks_backwards_are_no_time(later, kind: str) -> None:
    cpu = cpu_after(later, **{kind: -0.03, "idle": 15.0, "user": 5.0 - (0.03 if kind == "user" else 0.0)})
    assert cpu.usage_percent == pytest.approx(25.0, abs=0.2)


@pytest.mark.parametrize("kind", ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"])
def test_time_that_runs_far_backwards_makes_no_shares(later, kind: str) -> None:
    # A CPU that was taken off and put back, a container whose CPUs lxcfs counts anew: nobody knows what was used.
    later["sections"]["cpu"]["times"][kind] += 100.0
    before = deepcopy(later)
    before["sections"]["cpu"]["at"] -= 10.0
    cpu = later["sections"]["cpu"]
    cpu["times"][kind] -= 100.0
    cpu["times"]["idle" if kind != "idle" else "user"] += 2.0
    cpu["times"]["system"] += 0.01
    found = updated(Rates(), snapshot(before), snapshot(later)).cpu
    assert found is not None
    assert (found.usage_percent, found.iowait_percent, found.steal_percent) == (None, None, None)


def test_a_core_whose_idle_time_runs_backwards_has_no_share(later) -> None:
    before = deepcopy(PLAIN)
    before["sections"]["cpu"]["cores"] = [[10.0, 100.0], [10.0, 100.0], [10.0, 100.0], [10.0, 100.0]]
    # All of it new; idle a little back; idle far back; busy far back.
    later["sections"]["cpu"]["cores"] = [[10.0, 5.0], [20.0, 109.98], [12.0, 101.0], [5.0, 105.0]]
    later["sections"]["cpu"]["times"]["idle"] += 10.0
    found = updated(Rates(), snapshot(before), snapshot(later)).cpu
    assert found is not None
    assert found.cores == (None, 100.0, None, None)


def test_two_readings_at_nearly_the_same_moment_make_no_rate(later) -> None:
    # 1 byte in the smallest time that a number can hold is more than any number.
    first = deepcopy(PLAIN)
    for document, at in ((first, 0.0), (later, 5e-324)):
        for section in ("network", "disk_io"):
            document["sections"][section]["at"] = at
    later["sections"]["network"]["interfaces"]["eth0"]["receive_bytes"] += 1
    found = updated(Rates(), snapshot(first), snapshot(later))
    assert found.interfaces["eth0"].receive_bytes_per_second is None
    assert {each.read_bytes_per_second for each in found.disks.values()} == {None}


def test_a_core_that_came_or_went_makes_no_shares_of_cores(later) -> None:
    later["sections"]["cpu"]["times"]["idle"] += 5.0
    later["sections"]["cpu"]["cores"].append([0.0, 1.0])
    cpu = rates(later).cpu
    assert cpu is not None
    assert cpu.cores == ()


def test_traffic_and_disk_rates_use_the_hosts_own_clock(later) -> None:
    later["sections"]["network"]["interfaces"]["eth0"]["receive_bytes"] += 20_000
    later["sections"]["disk_io"]["disks"]["sda"]["written_bytes"] += 50_000
    later["sections"]["disk_io"]["disks"]["sda"]["busy_seconds"] += 2.5
    found = rates(later)
    assert found.interfaces["eth0"].receive_bytes_per_second == 2000
    assert found.interfaces["eth0"].transmit_bytes_per_second == 0
    assert found.interfaces["eth0"].is_primary
    assert not found.interfaces["wlan0"].is_primary
    assert found.disks["sda"].written_bytes_per_second == 5000
    assert found.disks["sda"].busy_percent == 25


def test_a_disk_is_never_busier_than_always(later) -> None:
    later["sections"]["disk_io"]["disks"]["sda"]["busy_seconds"] += 10.01
    assert rates(later).disks["sda"].busy_percent == 100


def test_a_counter_that_was_reset_has_no_rate_and_the_others_have(later) -> None:
    later["sections"]["network"]["interfaces"]["eth0"] = {"receive_bytes": 5, "transmit_bytes": 500_100}
    eth0 = rates(later).interfaces["eth0"]
    assert (eth0.receive_bytes_per_second, eth0.transmit_bytes_per_second) == (None, 10)


def test_a_reboot_makes_no_rates(later) -> None:
    later["boot_id"] = "another"
    found = rates(later)
    assert found.cpu is None
    assert found.interfaces["eth0"].receive_bytes_per_second is None
    assert found.disks["sda"].busy_percent is None


@pytest.mark.parametrize("gap", [-5.0, 901.0])
def test_a_clock_that_jumps_or_a_long_gap_makes_no_rates(later, gap: float) -> None:
    for section in ("cpu", "network", "disk_io"):
        later["sections"][section]["at"] = 5000.0 + gap
    found = rates(later)
    assert found.cpu is None
    assert found.interfaces["eth0"].receive_bytes_per_second is None


def test_a_new_interface_has_no_rate_yet(later) -> None:
    later["sections"]["network"]["interfaces"]["tun0"] = {"receive_bytes": 10**9, "transmit_bytes": 0}
    assert rates(later).interfaces["tun0"].receive_bytes_per_second is None


def test_a_section_that_was_not_read_again_keeps_its_rates(later) -> None:
    later["sections"]["cpu"]["times"]["user"] += 10.0
    first = rates(later)
    again = updated(first, snapshot(later), snapshot(later))
    assert again.cpu == first.cpu
    assert again.interfaces == first.interfaces
    assert again.disks == first.disks


def test_what_is_gone_has_no_rates(later) -> None:
    first = rates(later)
    for section in ("cpu", "network", "disk_io"):
        del later["sections"][section]
    assert updated(first, snapshot(PLAIN), snapshot(later)) == Rates()


# ---------------------------------------------------------------- every rate, present and future ones


def grown(document: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return a recorded reply after so many seconds, in which each counter has grown by a million."""
    document = deepcopy(document)
    for section in document["sections"].values():
        if "at" in section:
            section["at"] += seconds
    for row, name in counters(document):
        row[name] += 1_000_000
    return document


def rates_per_second(found: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the path and value of everything whose name ends with per_second, but for the capacity of a link."""
    if is_dataclass(found):
        found = {each.name: getattr(found, each.name) for each in fields(found)}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        if name.endswith("per_second") and name != "speed_bits_per_second" and value is not None:
            yield f"{path}.{name}", value
        yield from rates_per_second(value, f"{path}.{name}")


@pytest.mark.parametrize("name", [path.name for path in recorded_hosts()])
def test_every_rate_is_what_a_counter_has_grown_by_divided_by_the_seconds(name: str) -> None:
    reply = recorded_reply(name)
    for seconds in (10.0, 40.0):
        found = dict(rates_per_second(updated(Rates(), snapshot(reply), snapshot(grown(reply, seconds)))))
        assert found
        assert found == dict.fromkeys(found, pytest.approx(1_000_000 / seconds))
