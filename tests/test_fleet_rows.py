"""Rows of the fleet: the values that the entities show, each key always there, and why a value is absent."""

from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
import json
from pathlib import Path
import re
from typing import Any, get_args, get_origin, get_type_hints

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
import pytest

from custom_components.homelab_monitor.api import fleet
from custom_components.homelab_monitor.api.fleet import FleetRow, fleet_row
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.models import Gpu, Gpus, Sections, Sensors, Temperature
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.tracking.problems import Problem, Thresholds
from custom_components.homelab_monitor.readings import FILESYSTEM_READINGS, GPU_READINGS, HOST_READINGS
from custom_components.homelab_monitor.state import HostState, HostStatus

from .recorded import RecordedHost, recorded_hosts
from .scripted import Host

THRESHOLDS = Thresholds(disk_percent=90, memory_percent=95)
NULLABLE = {name for name, kind in get_type_hints(FleetRow).items() if type(None) in getattr(kind, "__args__", ())}


def row_of(host: Host | RecordedHost, thresholds: Thresholds = THRESHOLDS) -> FleetRow:
    return fleet_row(host.entry.entry_id, host.entry.title, "linux", host.entry.runtime_data.data, thresholds)


def made(
    sensors: dict[str, Any] | None = None, gpus: Sequence[Gpu] = (), status: HostStatus = HostStatus.ONLINE
) -> HostState:
    """Return the state of a host with these chips (name, label, °C) and cards."""
    chips = [
        Temperature(id=label, chip=chip, label=label, celsius=celsius)
        for chip, label, celsius in (sensors or {}).get("temperatures", ())
    ]
    sections = Sections(
        sensors=Sensors(temperatures=tuple(chips), cpu_celsius=sensors["cpu"]) if sensors else None,
        gpu=Gpus(gpus=tuple(gpus)) if gpus else None,
    )
    return HostState(snapshot=Snapshot(received=1000.0, sections=sections), status=status)


def test_every_value_that_may_be_null_names_its_section() -> None:
    assert fleet._SECTIONS.keys() == NULLABLE - {"error_key"}, "no error is no value that is absent"


@pytest.mark.parametrize("name", [folder.name for folder in recorded_hosts()])
async def test_a_row_has_the_values_that_entities_show(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, name: str
) -> None:
    host = RecordedHost(hass, freezer, name)
    await host.start()
    await host.move(40, step=5)
    state, row = host.entry.runtime_data.data, row_of(host)
    read = {key: reading(state) for key, reading in HOST_READINGS.items()}
    assert (row.cpu and row.cpu.percent) == read["cpu_usage"]
    assert (row.memory and row.memory.percent) == read["memory_usage"]
    assert (row.load1, row.swap_percent) == (read["load1"], read["swap_usage"])
    assert row.failed_services == read["failed_services"]
    assert (row.containers and row.containers.running) == read["running_containers"]
    assert (row.containers and row.containers.unhealthy) == read["unhealthy_containers"]
    assert (row.updates and row.updates.pending) == read["pending_updates"]
    assert (row.updates and row.updates.security) == read["security_updates"]
    assert row.reboot_required == read["reboot_required"]
    assert row.booted_at == (read["boot_time"] and read["boot_time"].timestamp())
    assert row.problem_count + row.warning_count == len(state.present_problems)
    if row.filesystem:
        shown = [FILESYSTEM_READINGS["usage"](item) for item in state.items["filesystem"].values()]
        assert row.filesystem.percent in shown
    if row.gpu:
        assert row.gpu.count == len(state.items["gpu"])
        cards = [{key: GPU_READINGS[key](item) for key in GPU_READINGS} for item in state.items["gpu"].values()]
        assert (row.gpu.usage_percent, row.gpu.vram_percent) in {(c["usage"], c["memory_usage"]) for c in cards}
    traffic = [item for item in state.items["interface"].values() if item.is_primary]
    assert (row.network and row.network.receive_bytes_per_second) == (
        traffic[0].receive_bytes_per_second if traffic else None
    )
    assert {key for key in NULLABLE - {"error_key"} if getattr(row, key) is None} == row.absent.keys()
    json.dumps(asdict(row), allow_nan=False)


async def test_a_row_stays_the_same_while_nothing_happens(host: Host) -> None:
    await host.start()
    await host.move(30)
    before = row_of(host)
    host.session.error = Unreachable("plain")
    await host.move(9)
    assert replace(row_of(host), status="", error_key=None, since=0.0) == replace(
        before, status="", error_key=None, since=0.0
    )


async def test_a_host_that_is_offline_keeps_its_values_and_says_since_when(host: Host) -> None:
    await host.start()
    await host.move(30)
    before = row_of(host)
    host.session.error = Unreachable("plain")
    await host.move(60)
    row = row_of(host)
    assert (row.status, row.error_key, row.at) == ("offline", "unreachable", before.at)
    assert [(each.kind, each.severity, each.since) for each in row.problems] == [("offline", "problem", row.since)]
    assert (row.memory, row.filesystem, row.load1) == (before.memory, before.filesystem, before.load1)


def test_a_host_that_was_never_read_has_a_reason_for_each_value() -> None:
    row = fleet_row("id", "plain", "linux", HostState(), THRESHOLDS)
    assert row.absent == dict.fromkeys(NULLABLE - {"error_key"}, "not_read")
    assert {field.name for field in fields(row)} == asdict(row).keys()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"missing": {"containers": "permission_denied"}}, "permission_denied"),
        ({"errors": {"containers": "broken"}}, "failed"),
        ({}, "not_read"),
    ],
)
async def test_what_is_absent_has_the_reason(host: Host, reply: dict[str, Any], why: str) -> None:
    host.session.sections.pop("containers", None)
    host.session.document["missing"].pop("containers", None)
    for part, values in reply.items():
        host.session.document[part] |= values
    await host.start()
    assert (row_of(host).containers, row_of(host).absent["containers"]) == (None, why)


# ---------------------------------------------------------------- levels


async def test_a_value_is_near_from_ten_points_below_its_threshold_and_a_problem_with_the_host(host: Host) -> None:
    disk = host.session.sections["filesystems"]["filesystems"][1]
    for percent, level in ((79, "ok"), (80, "near"), (89, "near"), (91, "problem"), (89, "problem"), (87, "near")):
        disk |= {"used_bytes": percent * 10**7, "available_bytes": (100 - percent) * 10**7}
        if not hasattr(host.entry, "runtime_data"):
            await host.start()
        await host.move(65, step=5)
        row = row_of(host)
        assert row.filesystem is not None
        assert (row.filesystem.percent, row.filesystem.level) == (pytest.approx(percent, abs=0.1), level)


async def test_a_cpu_has_a_level_only_where_it_has_a_threshold(host: Host) -> None:
    await host.start()
    host.session.sections["cpu"]["times"]["user"] += 5
    await host.move(10)
    assert row_of(host).cpu.level is None
    assert row_of(host, replace(THRESHOLDS, cpu_percent=100)).cpu.level == "near"


def test_the_highest_temperature_is_of_a_cpu_a_gpu_or_a_disk() -> None:
    chips = [("nvme", "disk", 70.0), ("acpitz", "board", 120.0), ("coretemp", "core", 60.0)]
    state = made(sensors={"temperatures": chips, "cpu": 60.0}, gpus=[Gpu(id="0", vendor="nvidia", name="A")])
    row = fleet_row("id", "plain", "linux", state, THRESHOLDS)
    assert (row.temperature.source, row.temperature.item, row.temperature.level) == ("disk", "disk", None)
    hot = replace(state.snapshot.sections.gpu.gpus[0], temperature_celsius=84.0)
    state = made(sensors={"temperatures": chips, "cpu": 60.0}, gpus=[hot])
    row = fleet_row("id", "plain", "linux", state, THRESHOLDS)
    assert (row.temperature.source, row.temperature.celsius, row.temperature.level) == ("gpu", 84.0, "near")


def test_of_several_cards_the_one_with_most_memory_in_use_is_shown() -> None:
    cards = [
        Gpu(id=str(n), vendor="nvidia", name=f"NVIDIA {n}", memory_total_bytes=100, memory_used_bytes=used)
        for n, used in enumerate((10, 90, 20))
    ]
    row = fleet_row("id", "plain", "linux", made(gpus=cards), THRESHOLDS)
    assert (row.gpu.item, row.gpu.vram_percent, row.gpu.count) == ("1", 90, 3)


def test_the_worst_problems_are_shown_and_all_are_counted() -> None:
    found = [Problem(kind="service_failed", item=f"{n}.service", since=float(n)) for n in range(7)]
    found += [Problem(kind="container_unhealthy", item="web", since=99.0)]
    state = replace(made(), problems=tuple(found))
    row = fleet_row("id", "plain", "linux", state, THRESHOLDS)
    assert [each.item for each in row.problems] == [f"{n}.service" for n in (6, 5, 4, 3, 2)]
    assert (row.problem_count, row.warning_count) == (7, 1)


# ---------------------------------------------------------------- the page


def test_the_page_has_every_key_and_an_answer_as_it_is() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    answer = json.loads(page.partition("```json\n")[2].partition("```")[0])
    (row,) = answer["rows"]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.+?) \|", page, re.MULTILINE))))
    assert named == {field.name for field in fields(FleetRow)} | {"address"}
    assert row.keys() == {field.name for field in fields(FleetRow)}
    parts = {name: _shape(kind) for name, kind in get_type_hints(FleetRow).items()}
    assert {name for name, shape in parts.items() if shape and row[name] and row[name].keys() != shape} == set()
    assert row["absent"].keys() == {name for name, value in row.items() if value is None} - {"error_key"}


def _shape(kind: Any) -> set[str] | None:
    """Return the keys of a part of a row, None for a single value."""
    (part,) = [each for each in (kind, *get_args(kind)) if is_dataclass(each)] or [None]
    return {field.name for field in fields(part)} if part and get_origin(kind) is not tuple else None
