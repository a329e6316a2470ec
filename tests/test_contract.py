"""A metric is one key in the probe, one field, one reading, one row, one name: this says which was forgotten."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
import json
from pathlib import Path
import re
import shlex
import subprocess
import sys
from types import ModuleType, UnionType
from typing import Any, get_args, get_type_hints

import pytest

from custom_components.homelab_monitor.binary_sensor import BINARY_SENSORS
from custom_components.homelab_monitor.button import CONTAINER_BUTTONS, HOST_BUTTONS
from custom_components.homelab_monitor.client.checks.update_script import UPDATE_COMMANDS
from custom_components.homelab_monitor.client.errors import REASON
from custom_components.homelab_monitor.client.models import ON_DEMAND, SECTIONS, Sections
from custom_components.homelab_monitor.client.probe.programs import probe_source
from custom_components.homelab_monitor.client.probe.snapshot import PROTOCOL, decode_reply
from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS
from custom_components.homelab_monitor.entity import HomelabDescription
from custom_components.homelab_monitor.event import HOST_EVENTS
from custom_components.homelab_monitor.sensor import SENSORS
from custom_components.homelab_monitor.subjects import HOST
from custom_components.homelab_monitor.switch import CONTAINER_SWITCHES
from custom_components.homelab_monitor.update import HOST_UPDATES

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
CONTRACT = (ROOT / "probes" / "README.md").read_text()
HOSTS = sorted(path.parent for path in (Path(__file__).parent / "fixtures" / "hosts").glob("*/expected.json"))
TEXTS = json.loads((ROOT / "translations" / "en.json").read_text())["entity"]
ICONS = json.loads((ROOT / "icons.json").read_text())["entity"]
TYPES = {name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND)
"""Every section's dataclass, polled or on demand."""
TABLES = {
    "sensor": [row for table in SENSORS for row in table],
    "binary_sensor": [row for table in BINARY_SENSORS for row in table],
    "button": [*HOST_BUTTONS, *CONTAINER_BUTTONS],
    "switch": list(CONTAINER_SWITCHES),
    "event": list(HOST_EVENTS),
    "update": list(HOST_UPDATES),
}


@pytest.fixture(scope="module")
def probe():
    module = ModuleType("probe")
    exec(compile(probe_source(ROOT / "probes"), "probe.py", "exec"), module.__dict__)
    return module


def test_probe_model_and_contract_know_the_same_sections(probe) -> None:
    assert get_type_hints(Sections) == {name: kind.type | None for name, kind in SECTIONS.items()}
    assert all(map(is_dataclass, TYPES.values()))
    assert not SECTIONS.keys() & ON_DEMAND.keys()
    polled, _, on_demand = CONTRACT.partition("## While somebody looks")
    assert list(SECTIONS) == re.findall(r"^\*\*(\w+)\*\* `", polled, re.MULTILINE)
    assert list(ON_DEMAND) == re.findall(r"^\*\*(\w+)\*\* `", on_demand, re.MULTILINE)
    assert sorted(TYPES) == sorted(collector.name for collector in probe.COLLECTORS)
    assert probe.PROTOCOL == PROTOCOL


def test_every_section_has_a_recorded_or_synthetic_host_that_reports_it() -> None:
    told = {name for folder in HOSTS for name in json.loads((folder / "expected.json").read_text())["sections"]}
    assert told == SECTIONS.keys()


ELSEWHERE = {
    "Container.oom_killed": "no container was killed; tests/probe/test_containers.py",
    "Container.swarm_service": "no swarm; tests/probe/test_containers.py",
    "Container.uid": "no user has an engine; tests/probe/test_containers.py",
    "Fail2ban.bans": "only root may ask; tests/probe/test_security.py",
    "Fail2ban.jails": "only root may ask; tests/probe/test_security.py",
    "FailedLogins.lower_bound": "no log is cut; tests/probe/test_security.py",
    "Filesystem.age_seconds": "nothing is mounted by autofs; tests/probe/test_filesystems.py",
    "Filesystem.guest_uid": "no other user has mounted anything; tests/probe/test_filesystems.py",
    "Filesystem.read_only_by_error": "no recorded disk fails; tests/probe/test_filesystems.py",
    "Filesystems.late": "a recorded mount answers at once; tests/probe/test_filesystems.py",
    "Filesystems.late_devices": "a recorded mount answers at once; tests/probe/test_filesystems.py",
    "Firewall.old_rules": "only where sudo has an earlier version's rules; tests/probe/test_firewall.py",
    "Gpu.fan_rpm": "an Intel card's; tests/probe/test_cards_and_chips.py",
    "Log.lines": "nobody asks for a log; tests/probe/test_on_demand.py",
    "Log.truncated": "nobody asks for a log; tests/probe/test_on_demand.py",
    "Process.container": "no recorded process is in one; tests/probe/test_on_demand.py",
    "Service.guest_uid": "no user has a service manager; tests/probe/test_units.py",
    "Socket.container": "no container listens; tests/probe/test_sockets.py",
    "Socket.interface": "nothing is bound to one; tests/probe/test_sockets.py",
    "Updates.image": "no system is an image; tests/probe/test_updates.py",
}
"""The fields that no recorded host tells: why, and the test in which the probe does."""


@pytest.fixture(scope="module")
def told(probe) -> dict[str, list[dict[str, Any]]]:
    """Return the sections of all recorded hosts, by name: what is polled, and what the probe says on demand."""
    names = [name for name in ON_DEMAND if name != "logs"]
    sections: dict[str, list[dict[str, Any]]] = {name: [] for name in TYPES}
    for folder in HOSTS:
        polled = json.loads((folder / "expected.json").read_text())["sections"]
        request = probe.Request({"id": "1", "sections": names})
        asked = json.loads(json.dumps(probe.Probe(probe.RecordedHost(str(folder))).answer(request)))["sections"]
        for name, section in {**polled, **asked}.items():
            sections[name].append(section)
    return sections


def emitted(kind: Any, value: Any) -> Iterator[str]:
    """Yield the fields that a value of a reply has, at every depth, as `Dataclass.field`."""
    if isinstance(kind, UnionType):
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        for name, inner in value.items():
            yield f"{kind.__name__}.{name}"
            yield from emitted(kinds.get(name), inner)
    elif isinstance(value, dict | list) and (rows := shapes(kind)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from emitted(rows[0], inner)


@pytest.mark.parametrize("name", TYPES)
def test_every_field_that_a_recorded_host_reports_is_in_the_model(told, name: str) -> None:
    known = {f"{shape.__name__}.{f.name}" for shape in shapes(TYPES[name]) for f in fields(shape)}
    # When its values were read concerns no section that has no counters.
    known.add(f"{TYPES[name].__name__}.at")
    assert {field for section in told[name] for field in emitted(TYPES[name], section)} <= known


def test_every_field_of_the_model_is_reported_by_a_recorded_host_or_elsewhere(told) -> None:
    seen = {field for name, sections in told.items() for one in sections for field in emitted(TYPES[name], one)}
    every = {f"{shape.__name__}.{f.name}" for kind in TYPES.values() for shape in shapes(kind) for f in fields(shape)}
    assert sorted(every - seen) == sorted(ELSEWHERE)
    for field, reason in ELSEWHERE.items():
        assert field.partition(".")[2] in (ROOT.parents[1] / reason.rpartition(" ")[2]).read_text(), field


def test_a_field_that_the_model_lacks_is_noticed_inside_rows_and_mappings() -> None:
    disks = {"at": 1.0, "disks": {"sda": {"read_bytes": 1, "wear": 2}}}
    assert set(emitted(TYPES["disk_io"], disks)) == {
        "DiskIo.at",
        "DiskIo.disks",
        "DiskCounters.read_bytes",
        "DiskCounters.wear",
    }
    address = {"address": "192.0.2.1", "label": "eth0:1"}
    interfaces = {"interfaces": {"eth0": {"ipv4": [address], "ipv6": None}}}
    assert "Address.label" in set(emitted(TYPES["interfaces"], interfaces))
    firewall = {"firewall": {"state": "ok", "zones": 2}}
    assert "Firewall.zones" in set(emitted(TYPES["security"], firewall))


@pytest.mark.parametrize("folder", HOSTS, ids=lambda folder: folder.name)
def test_nothing_that_a_recorded_host_reports_is_lost(folder: Path) -> None:
    reply = decode_reply(folder.name, (folder / "expected.json").read_bytes())
    assert not reply.losses
    assert not [name for name, text in reply.errors.items() if "wrong shape" in text]


def test_what_is_pending_is_what_the_job_that_installs_it_is_asked_to_install(probe) -> None:
    assert shlex.join(probe.APT_JOB) == UPDATE_COMMANDS["apt"].splitlines()[-1]
    assert probe.APT_TRY[: len(probe.APT_JOB)] == probe.APT_JOB
    assert "-s" in probe.APT_TRY
    mend = shlex.join([word for word in probe.APT_JOB if word not in {"--with-new-pkgs", "upgrade"}])
    assert f"{mend} --no-remove -f install" in UPDATE_COMMANDS["apt"].splitlines()
    assert {"--no-remove", "-f"} <= set(probe.APT_TRY)


def test_probe_and_hub_know_a_reason_by_the_same_marks(probe) -> None:
    assert probe.REASON.pattern == REASON.pattern
    assert probe.REASON.flags == REASON.flags


def test_every_field_of_the_model_is_in_the_contract() -> None:
    forgotten = [
        f"{name}.{f.name}"
        for name, kind in TYPES.items()
        for shape in shapes(kind)
        for f in fields(shape)
        if f.name not in CONTRACT
    ]
    assert not forgotten


def shapes(kind: object) -> list[type]:
    """Return a section's dataclass and those inside it."""
    if not is_dataclass(kind):
        return [shape for part in get_args(kind) for shape in shapes(part)]
    return [kind, *(shape for f in fields(kind) for shape in shapes(f.type))]


@pytest.mark.parametrize("platform", TABLES)
def test_every_row_has_a_name_and_every_name_a_row(platform: str) -> None:
    keys = [f"{row.subject.key}_{row.key}" for row in TABLES[platform]]
    assert len(keys) == len(set(keys))
    assert set(keys) == TEXTS[platform].keys()
    for row in TABLES[platform]:
        text = TEXTS[platform][f"{row.subject.key}_{row.key}"]
        placeholders = set(re.findall(r"{(\w+)}", text["name"]))
        assert placeholders == ({row.subject.placeholder} if row.subject.placeholder else set())
        assert set(text.get("state", ())) == set(states(platform, row))


def states(platform: str, row: HomelabDescription[Any]) -> Iterable[str]:
    """Return the states that need words of our own: a bare yes or no reads *On* and *Off*, whatever it is about."""
    # A machine is online; "connected" is said of what hangs on a cable.
    if platform == "binary_sensor" and row.device_class in (None, "connectivity"):
        return "on", "off"
    return getattr(row, "options", None) or ()


@pytest.mark.parametrize("platform", TABLES)
def test_every_row_without_a_device_class_has_an_icon(platform: str) -> None:
    for row in TABLES[platform]:
        key = f"{row.subject.key}_{row.key}"
        if row.device_class is None:
            assert key in ICONS[platform]
    assert ICONS.get(platform, {}).keys() <= TEXTS[platform].keys()


def test_every_subject_is_a_kind_of_item() -> None:
    subjects = {row.subject.key for rows in TABLES.values() for row in rows}
    assert subjects == {HOST.key} | {kind.key for kind in ITEM_KINDS}


@pytest.mark.parametrize(
    "file",
    [
        *sorted({*TABLES} - {"sensor"}),
        "sensor/__init__",
        "sensor/host",
        "sensor/items",
        "sensor/descriptions",
        "entity",
        "subjects",
        "readings",
    ],
)
def test_no_row_names_a_field_by_a_text(file: str) -> None:
    """A misspelt attribute is an error of mypy; a misspelt text reads as None, for ever."""
    names = {node.id for node in ast.walk(ast.parse((ROOT / f"{file}.py").read_text())) if isinstance(node, ast.Name)}
    assert not names & {"getattr", "attrgetter", "itemgetter"}


def test_a_deadband_is_at_most_half_the_displayed_step() -> None:
    units = {"GiB": 1024**3, "MiB": 1024**2, "kB/s": 1e3, "GHz": 1e9, "MHz": 1e6, "ms": 1e-3}
    for row in TABLES["sensor"]:
        if row.suggested_display_precision is not None:
            # toLocaleString, by which the frontend shows it, throws for less.
            assert row.suggested_display_precision >= 0, row.key
            step = 10.0**-row.suggested_display_precision * units.get(row.suggested_unit_of_measurement, 1)
            assert row.deadband <= step / 2, row.key


def test_the_page_of_entities_is_up_to_date_and_within_its_limits() -> None:
    command = [sys.executable, str(ROOT.parents[1] / "scripts/entities_main.py"), "--check"]
    run = subprocess.run(command, cwd=ROOT.parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
