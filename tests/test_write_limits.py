"""What a monitored host can make Home Assistant write at each poll: rows, files, issues and lines of its log."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
import json
import logging
from pathlib import Path
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant, State, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.json import json_bytes
import pytest

from custom_components.homelab_monitor.attributes import fitting
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.limits import EVENT_OWNERS, EVENTS as EVENTS_LIMIT, STORED_BYTES
from custom_components.homelab_monitor.client.models import Package, Updates
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply, restore_snapshot
from custom_components.homelab_monitor.client.tracking.events import HostEvent
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.health.issues import async_update_issues
from custom_components.homelab_monitor.store import HostStore
from custom_components.homelab_monitor.update import HOST_UPDATES

from .scripted import CONNECTIVITY, Host, read_reply

EVENTS = "event.plain_events"
PROBLEM = "binary_sensor.plain_problem"
UNIT = {"description": "", "load_state": "loaded", "sub_state": "x", "origin": "admin"}


def units(host: Host, count: int, active_state: str, name: Callable[[int], str] = "u{}.service".format) -> None:
    """Let the host report so many services."""
    host.session.sections["services"]["units"] = [
        UNIT | {"name": name(number), "active_state": active_state} for number in range(count)
    ]


def states_of(hass: HomeAssistant, entity_id: str) -> list[State]:
    """Return the list to which every written state of the entity is going to be added: each is a row."""
    written: list[State] = []

    # In the event loop, and so in their order.
    @callback
    def note(event) -> None:
        if event.data["entity_id"] == entity_id and event.data["new_state"]:
            written.append(event.data["new_state"])

    hass.bus.async_listen("state_changed", note)
    return written


def types(states: list[State]) -> list[str]:
    return [state.attributes["event_type"] for state in states]


# ---------------------------------------------------------------- events


async def test_a_type_of_event_comes_twenty_times_and_then_once_a_minute(hass: HomeAssistant, host: Host) -> None:
    units(host, 300, "active")
    await host.start()
    rows = states_of(hass, EVENTS)
    await host.move(62)
    units(host, 300, "failed")
    await host.move(62)
    assert types(rows) == ["service_failed"] * 20
    assert "left_out" not in rows[-1].attributes
    for _ in range(5):
        units(host, 300, "active")
        await host.move(62)
        units(host, 300, "failed")
        await host.move(62)
    for kind in ("service_failed", "service_recovered"):
        assert 20 + 4 <= types(rows).count(kind) <= 20 + 11, kind


async def test_the_next_event_says_how_many_were_left_out(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    rows = states_of(hass, EVENTS)
    coordinator = host.entry.runtime_data
    failed = HostEvent(type="service_failed", about={"service": "x.service"})
    coordinator.async_notify_listeners(*[failed] * 27)
    await host.hass.async_block_till_done()
    assert len(rows) == 20
    host.freezer.tick(60)
    coordinator.async_notify_listeners(failed)
    host.freezer.tick(60)
    coordinator.async_notify_listeners(failed)
    await host.hass.async_block_till_done()
    assert [state.attributes.get("left_out") for state in rows[19:]] == [None, 7, None]
    assert rows[20].attributes["service"] == "x.service"


@pytest.mark.parametrize("kind", ["host_offline", "host_online", "rebooted", "gpu_lost", "update_failed"])
async def test_no_flood_of_one_type_uses_up_another(hass: HomeAssistant, host: Host, kind: str) -> None:
    await host.start()
    rows = states_of(hass, EVENTS)
    others = [name for name in hass.states.get(EVENTS).attributes["event_types"] if name != kind]
    flood = [HostEvent(type=name, about={}) for name in others] * 100
    host.entry.runtime_data.async_notify_listeners(*flood, HostEvent(type=kind, about={}))
    await hass.async_block_till_done()
    assert types(rows).count(kind) == 1
    assert len(rows) == 20 * len(others) + 1


def died(owner: str, name: str = "web") -> HostEvent:
    return HostEvent(type="container_died", about={"container": name, "owner": owner}, owner=owner)


async def test_no_flood_of_one_user_uses_up_what_is_reported_of_root_and_of_others(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    rows = states_of(hass, EVENTS)
    username = host.entry.data["username"]
    others = [died(owner) for owner in ("root", "carl", username)]
    host.entry.runtime_data.async_notify_listeners(*[died("eve", "made up")] * 500, *others)
    await hass.async_block_till_done()
    assert [state.attributes["owner"] for state in rows] == ["eve"] * 20 + ["root", "carl", username]
    assert "left_out" not in rows[-1].attributes
    host.freezer.tick(61)
    host.entry.runtime_data.async_notify_listeners(died("root"), died("eve"))
    await hass.async_block_till_done()
    assert [state.attributes.get("left_out") for state in rows[-2:]] == [None, 480]


async def test_owners_that_a_host_makes_up_share_one_bucket(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    rows = states_of(hass, EVENTS)
    flood = [died(f"user{number}") for number in range(300)] * 30
    host.entry.runtime_data.async_notify_listeners(*flood, died("root"))
    await hass.async_block_till_done()
    assert len(rows) == (EVENT_OWNERS + 1) * EVENTS_LIMIT[0] + 1
    # Who was quiet for long needs no bucket any more.
    host.freezer.tick(EVENTS_LIMIT[0] * 60 + 1)
    host.entry.runtime_data.async_notify_listeners(*[died(f"user{number}") for number in range(EVENT_OWNERS)] * 2)
    await hass.async_block_till_done()
    host.freezer.tick(EVENTS_LIMIT[0] * 60 + 1)
    host.entry.runtime_data.async_notify_listeners(*[died("late")] * 25, died("later"))
    await hass.async_block_till_done()
    owners = [row.attributes["owner"] for row in rows if row.attributes["event_type"] == "container_died"]
    assert (owners.count("late"), owners.count("later")) == (EVENTS_LIMIT[0], 1)


async def test_owners_that_come_later_keep_nobody_from_learning_how_many_were_left_out(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    rows = states_of(hass, EVENTS)
    first = [f"user{number}" for number in range(EVENT_OWNERS - 1)]
    host.entry.runtime_data.async_notify_listeners(*[died("eve")] * (EVENTS_LIMIT[0] + 5), *map(died, first))
    await hass.async_block_till_done()
    host.freezer.tick(EVENTS_LIMIT[0] * 60 + 1)
    later = [f"later{number}" for number in range(EVENT_OWNERS)]
    host.entry.runtime_data.async_notify_listeners(*map(died, later), died("eve"))
    await hass.async_block_till_done()
    assert (rows[-1].attributes["owner"], rows[-1].attributes.get("left_out")) == ("eve", 5)


async def test_services_that_a_login_makes_keep_no_other_from_being_reported(hass: HomeAssistant, host: Host) -> None:
    def report(state: str) -> None:
        units(host, 100, state, "user@{}.service".format)
        host.session.sections["services"]["units"].append(UNIT | {"name": "web.service", "active_state": state})

    report("active")
    await host.start()
    rows = states_of(hass, EVENTS)
    for state in ("failed", "active", "failed"):
        await host.move(62)
        report(state)
    await host.move(62)
    told = [row.attributes["event_type"] for row in rows if row.attributes["service"] == "web.service"]
    assert told == ["service_failed", "service_recovered", "service_failed"]
    assert len(rows) < 3 * 25 + 3


# ---------------------------------------------------------------- attributes and states


LONG = [
    "x" * 4096,
    '"\\' * 2048,
    "ü€😀" * 1365,
]


def forged(value: Any, text: str) -> Any:
    """Return the JSON value with a long tail to every text, and to the names of things."""
    if isinstance(value, dict):
        return {name: forged(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [forged(each, text) for each in value]
    return value + text if isinstance(value, str) else value


@pytest.fixture
def every_entity() -> Iterator[None]:
    """Enable every entity."""
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True):
        yield


def every_section() -> dict[str, Any]:
    """Return each section of a recorded host that reports it."""
    found = {}
    for path in sorted((Path(__file__).parent / "fixtures" / "hosts").glob("*/expected.json")):
        found |= json.loads(path.read_text())["sections"]
    return found


def largest(hass: HomeAssistant) -> dict[str, int]:
    """Return what is going to hold each entity with the most bytes that its attributes have had, as they are stored."""
    sizes: dict[str, int] = {}

    def measure(event) -> None:
        if state := event.data["new_state"]:
            size = len(json_bytes(dict(state.attributes)))
            sizes[state.entity_id] = max(size, sizes.get(state.entity_id, 0))

    hass.bus.async_listen("state_changed", measure)
    return sizes


@pytest.mark.usefixtures("every_entity")
@pytest.mark.parametrize("tail", LONG, ids=["ascii", "escapes", "unicode"])
async def test_no_text_of_a_host_makes_a_state_or_its_attributes_too_large(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture, tail: str
) -> None:
    sections = every_section()
    host.session.document["sections"] |= {name: forged(section, tail) for name, section in sections.items()}
    host.session.sections["uptime"] = {"uptime_seconds": 1000.0}
    host.session.document["errors"] = {"gpu": tail}
    units(host, 200, "failed", lambda number: f"{number}{tail}")
    updates = host.session.sections.setdefault("updates", {"manager": "apt", "complete": {}})
    updates |= {
        "pending": 5000,
        "reboot_required": True,
        "reboot_reasons": [f"{n}{tail}" for n in range(500)],
        "reboot_packages": [f"{n}{tail}" for n in range(500)],
    }
    interfaces = host.session.sections.setdefault("interfaces", {"interfaces": {}})
    interfaces["primary_address"] = tail
    sizes = largest(hass)
    await host.start()
    await host.move(70, step=5)
    host.session.document["boot_id"] = "another"
    host.entry.runtime_data.async_notify_listeners(
        HostEvent(type="update_failed", about={"reason": tail, "detail": tail})
    )
    await host.move(70, step=5)
    assert {state.domain for state in hass.states.async_all()} >= {"sensor", "binary_sensor", "event", "update"}
    assert {entity_id: size for entity_id, size in sizes.items() if size > 4096} == {}
    assert len(sizes) >= len(hass.states.async_all("sensor"))
    assert max(len(state.state) for state in hass.states.async_all()) <= 255
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert hass.states.get(PROBLEM).attributes["reasons"]


async def test_what_does_not_fit_into_attributes_is_counted(hass: HomeAssistant, host: Host) -> None:
    units(host, 300, "failed", lambda number: f"{number:0200}.service")
    await host.start()
    reasons = hass.states.get(PROBLEM).attributes["reasons"]
    assert reasons[-1] == f"+{300 - (len(reasons) - 1)}"
    assert 5 <= len(reasons) <= 21


async def test_release_notes_are_short_enough_to_be_read(host: Host) -> None:
    await host.start()
    package = Package(name="*" * 4096, available="_" * 4096, installed="[" * 4096, security=True)
    updates = Updates(manager="apt", pending=50_000, packages=(package,) * 20_000)
    state = host.entry.runtime_data.data
    sections = type(state.snapshot.sections)(updates=updates)
    state = type(state)(snapshot=type(state.snapshot)(sections=sections))
    notes = HOST_UPDATES[0].notes_fn(state)
    assert len(notes.encode()) <= 120_000
    assert notes.splitlines()[-1] == f"- \N{HORIZONTAL ELLIPSIS} + {50_000 - (len(notes.splitlines()) - 1)}"


# ---------------------------------------------------------------- what changes at each poll


async def test_words_that_change_at_each_poll_are_written_a_few_times_and_the_last_ones_arrive(
    hass: HomeAssistant, host: Host
) -> None:
    host.session.sections.pop("gpu", None)
    host.session.document["errors"] = {"gpu": "first"}
    await host.start()
    telemetry = "binary_sensor.plain_gpu_telemetry"
    rows = states_of(hass, telemetry)
    for number in range(120):
        host.session.document["errors"] = {"gpu": f"driver {number}"}
        await host.move(10, step=5)
    assert 10 <= len(rows) <= 20 + 20 + 1
    await host.move(70, step=5)
    assert hass.states.get(telemetry).attributes["reason"] == "driver 119"


async def test_an_item_that_comes_and_goes_at_each_poll_is_written_a_few_times(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    temperatures = host.session.sections["sensors"]["temperatures"]
    entity_id = "sensor.plain_backup_service"
    rows = states_of(hass, entity_id)
    unit = dict(host.session.sections["services"]["units"][0])
    coordinator = host.entry.runtime_data
    for number in range(200):
        host.session.sections["services"]["units"] = [unit] if number % 2 else []
        await coordinator.async_poll_section("services")
    assert len(rows) <= 21
    assert temperatures
    await host.move(120, step=5)
    assert host.state(entity_id) == unit["active_state"]


def containers(host: Host, state: str, *owners: str) -> None:
    """Let each of these users have fifteen containers in this state."""
    rows = [
        {"engine": "docker", "owner": owner, "id": f"{owner}{number}", "name": f"{owner}{number}", "state": state}
        for owner in owners
        for number in range(15)
    ]
    told = {
        "at": host.session.sections.get("containers", {}).get("at", 0.0) + 30,
        "engines": [{"engine": "docker", "owner": owner, "state": "ok"} for owner in owners],
        "complete": {f"docker/{owner}": True for owner in owners},
        "containers": rows,
    }
    host.session.sections["containers"] = told


async def test_many_entities_together_are_written_as_seldom_as_a_few(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users, and containers, can be made up; what root has is not held up by what they have."""
    monkeypatch.setattr("custom_components.homelab_monitor.coordinator.HOST_WRITES", (30, 10.0))
    made_up = [f"anna{number}" for number in range(6)]  # told before root
    states = ("running", "paused")
    containers(host, states[1], *made_up, "root")
    await host.start()
    of_root = states_of(hass, "sensor.plain_root0_state")
    written = Counter[str]()

    @callback
    def note(event) -> None:
        written[event.data["entity_id"].removeprefix("sensor.plain_")[:4]] += 1

    hass.bus.async_listen("state_changed", note)
    for number in range(20):
        containers(host, states[number % 2], *made_up)
        host.session.sections["containers"]["containers"] += [
            {"engine": "docker", "owner": "root", "id": "r", "name": "root0", "state": states[number % 2]}
        ]
        await host.entry.runtime_data.async_poll_section("containers")
        host.freezer.tick(30)
    assert 30 <= written["anna"] <= 30 + 20 * 3 + 1
    assert [state.state for state in of_root] == list(states) * 10, "that of root is written at once"


async def test_that_a_host_is_offline_is_written_at_once_whatever_it_did_before(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    unit = dict(host.session.sections["services"]["units"][0])
    for number in range(100):
        host.session.sections["services"]["units"] = [unit | {"active_state": ("failed", "active")[number % 2]}]
        await host.entry.runtime_data.async_poll_section("services")
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.state("sensor.plain_backup_service") == "unavailable"
    assert host.state(CONNECTIVITY) == "off"


async def test_numbers_are_written_as_before(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    rows = states_of(hass, "sensor.plain_load_1_min")
    for number in range(60):
        host.session.sections["load"]["load1"] = float(number)
        await host.move(10, step=10)
    assert len(rows) >= 55


async def test_an_inventory_that_grows_at_each_poll_is_saved_a_few_times(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    saves = []

    async def save(_store: HostStore, **_: object) -> None:
        saves.append(1)

    with patch.object(HostStore, "async_save", save):
        for number in range(200):
            units(host, number, "failed")
            await host.entry.runtime_data.async_poll_section("services")
    assert 1 <= len(saves) <= 12
    assert host.entry.runtime_data.store._is_dirty


async def test_an_inventory_that_goes_on_growing_is_saved_about_as_often_as_the_rest(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    saves = []

    async def save(_store: HostStore, **_: object) -> None:
        saves.append(1)

    with patch.object(HostStore, "async_save", save):
        for number in range(120):
            units(host, number, "failed")
            host.freezer.tick(60)
            await host.entry.runtime_data.async_poll_section("services")
    assert 5 <= len(saves) <= 30


async def test_a_host_that_connects_anew_each_minute_is_checked_wholly_a_few_times(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    saves, changes = [], []

    async def save(_store: HostStore, **_: object) -> None:
        saves.append(1)

    async def check(_session: object, _evidence: object) -> Report:
        status = (CheckStatus.AMBER, CheckStatus.OK)[len(saves) % 2]
        rows = (
            CheckResult.of("shell", Verdict(status, "shell_noise")),
            CheckResult.of("systemd", Verdict(status, "x")),
        )
        return Report(rows=rows, at=1.0)

    monkeypatch.setattr("custom_components.homelab_monitor.health.monitor.check_connection", check)
    async_track_issues(hass, changes)
    with patch.object(HostStore, "async_save", save):
        for number in range(120):
            # It shows other keys each time, and proves them.
            host.session.host_keys = (f"ssh-ed25519 {number}",)
            host.session.connection = type("Connection", (), {"host_keys": ()})()
            await host.move(60, step=30)
    assert len(saves) <= 15, "two hours: five at once, and one each quarter of an hour"
    assert len(changes) <= 30, "of two issues"
    assert len(host.entry.data["host_keys"]) == 1


def async_track_issues(hass: HomeAssistant, changes: list[object]) -> None:
    """Note every change of an issue."""
    hass.bus.async_listen(ir.EVENT_REPAIRS_ISSUE_REGISTRY_UPDATED, changes.append)


def test_of_large_last_words_the_largest_sections_are_not_stored() -> None:
    reply = decode_reply("plain", json.dumps(read_reply("plain")).encode())
    seen = Snapshot().merged(reply, 1.0, 0.0)
    many = tuple(Package(name="x" * 200, available=str(number)) for number in range(6000))
    large = replace(seen, sections=replace(seen.sections, updates=replace(seen.sections.updates, packages=many)))
    assert len(json.dumps(large.as_dict())) < 2 * STORED_BYTES
    stored = large.as_dict()["sections"]
    assert seen.as_dict()["sections"].keys() - stored.keys() == {"updates"}
    assert restore_snapshot(json.loads(json.dumps(large.as_dict()))).sections.memory == seen.sections.memory


async def test_a_host_that_comes_and_goes_is_logged_a_few_times_and_how_often_is_said(
    hass: HomeAssistant, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.start()
    for _ in range(40):
        host.session.error = Unreachable("plain")
        await host.move(40, step=5)
        host.session.error = None
        await host.move(65, step=5)

    def lines(text: str) -> list[str]:
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("custom_components.home")]
        return [line for line in ours if text in line]

    assert 10 <= len(lines("plain is offline")) <= 12
    assert len(lines("plain is online again")) == len(lines("plain is offline"))
    host.freezer.tick(7200)
    host.session.error = Unreachable("plain")
    await host.move(60, step=5)
    assert "earlier times" in lines("plain is offline")[-1]


async def test_an_issue_whose_reason_changes_at_each_poll_is_written_a_few_times(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    changes = []
    hass.bus.async_listen(ir.EVENT_REPAIRS_ISSUE_REGISTRY_UPDATED, lambda event: changes.append(event.data["action"]))

    def poll(reason: str) -> None:
        row = CheckResult.of("docker", Verdict(CheckStatus.AMBER, reason))
        async_update_issues(hass, host.entry, [row], at_once=False)

    for number in range(400):
        # Each reason twice in a row, so that one that was held back is offered again.
        poll(("docker_denied", "docker_down")[number // 2 % 2])
    await hass.async_block_till_done()
    assert 5 <= len(changes) <= 12
    for _ in range(2):
        host.freezer.tick(600)
        poll("gone")
    issue = ir.async_get(hass).async_get_issue(DOMAIN, f"{host.entry.entry_id}_docker")
    assert "gone" in issue.translation_placeholders["problem"]


async def test_what_was_remembered_is_not_poured_into_the_log(
    hass: HomeAssistant, hass_storage: dict[str, Any], host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{DOMAIN}.{host.entry.entry_id}"
    disk = {"keys": {}, "label": "x\x1b[31m\n" * 100_000, "first_seen": "x\x1b[31m\n" * 100_000}
    data = {"snapshot": {"boot_id": "", "epoch": 0.0, "received": 0.0}, "inventory": {"disk": {"sda": disk}}}
    hass_storage[key] = {"version": 1, "minor_version": 1, "key": key, "data": data}
    await host.start()
    (line,) = [text for record in caplog.records if "cannot be read" in (text := record.getMessage())]
    assert len(line) < 600
    assert line.isprintable()


def test_of_last_words_bytes_are_counted() -> None:
    reply = decode_reply("plain", json.dumps(read_reply("plain")).encode())
    seen = Snapshot().merged(reply, 1.0, 0.0)
    wide = "\N{GRINNING FACE}" * 100
    many = tuple(Package(name=wide, available=str(number)) for number in range(STORED_BYTES // 320))
    large = replace(seen, sections=replace(seen.sections, updates=replace(seen.sections.updates, packages=many)))
    assert "updates" not in large.as_dict()["sections"]


def test_no_attribute_is_a_link_of_the_hosts() -> None:
    for value in ("https://evil.example", "http://evil.example/login.service"):
        kept = fitting({"reason": value, "lost": [value], "about": {"service": value}}, 1000)
        assert not any(text.startswith("http") for text in (kept["reason"], kept["lost"][0], kept["about"]["service"]))
        assert kept["reason"].strip() == value
