"""Entities: what a host gets, how few states are written, and items that come and go."""

from datetime import timedelta
import json
from pathlib import Path
import re

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events
from syrupy.assertion import SnapshotAssertion

from custom_components.homelab_monitor.client.tracking import inventory, problems

from .scripted import Host

_TEXTS = Path(__file__).parents[1] / "custom_components/homelab_monitor/translations/en.json"
SENTENCES = json.loads(_TEXTS.read_text())["selector"]["host_problem"]["options"]


async def test_a_plain_host_has_these_entities(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, snapshot: SnapshotAssertion
) -> None:
    await host.start()
    entries = er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)
    table = {e.entity_id: (e.unique_id, "on" if e.disabled_by is None else "off") for e in entries}
    assert dict(sorted(table.items())) == snapshot
    assert sum(e.disabled_by is None for e in entries) <= 25


async def test_a_change_below_the_deadband_is_not_written(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    memory = host.session.sections["memory"]
    memory["available_bytes"] -= 24_000_000  # 0.3 %
    await host.move(11)
    assert float(host.state("sensor.plain_memory_usage")) == 25
    memory["available_bytes"] -= 24_000_000  # 0.6 % against what was written, 0.3 % against the last reading
    await host.move(11)
    assert float(host.state("sensor.plain_memory_usage")) == pytest.approx(25.6)


async def test_a_value_that_is_not_read_each_time_says_how_old_it_is(hass: HomeAssistant, host: Host) -> None:
    rows = host.session.sections["filesystems"]["filesystems"]
    rows[1]["age_seconds"] = 540
    await host.start()
    states = {state.entity_id: state for state in hass.states.async_all("sensor") if "disk_usage" in state.entity_id}
    assert [state.attributes.get("age_seconds") for state in states.values()] == [None, 540]


async def test_a_small_change_is_written_after_five_minutes(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.sections["memory"]["available_bytes"] -= 24_000_000
    await host.move(280, step=5)
    assert float(host.state("sensor.plain_memory_usage")) == 25
    await host.move(40, step=5)
    assert float(host.state("sensor.plain_memory_usage")) == pytest.approx(25.3)


async def test_crossing_zero_or_a_threshold_is_always_written(hass: HomeAssistant, host: Host) -> None:
    memory = host.session.sections["memory"]
    memory["available_bytes"] = 408_000_000  # 94.9 %
    memory["swap_free_bytes"] = memory["swap_total_bytes"]
    await host.start()
    memory["available_bytes"] = 396_000_000  # 95.05 %
    memory["swap_free_bytes"] -= 2_000_000  # 0.1 %
    await host.move(11)
    assert float(host.state("sensor.plain_memory_usage")) == pytest.approx(95.05)
    assert float(host.state("sensor.plain_swap_usage")) == pytest.approx(0.1)


async def test_what_keeps_crossing_zero_is_written_every_five_minutes(hass: HomeAssistant, host: Host) -> None:
    memory = host.session.sections["memory"]
    await host.start()
    changes = async_capture_events(hass, "state_changed")
    for step in range(60):
        # Swap of a tenth of a percent, in use every other time.
        memory["swap_free_bytes"] = memory["swap_total_bytes"] - 2_000_000 * (step % 2)
        await host.move(20, step=10)
    assert len([event for event in changes if event.data["entity_id"] == "sensor.plain_swap_usage"]) <= 6


async def test_an_idle_host_writes_next_to_nothing(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    await host.move(30)
    changes = async_capture_events(hass, "state_changed")
    host.session.sections["load"]["load1"] += 0.01
    host.session.sections["sensors"]["cpu_celsius"] += 0.3
    await host.move(31)
    assert [event.data["entity_id"] for event in changes] == []


async def test_a_filesystem_that_appears_gets_its_entities(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert hass.states.get("sensor.plain_disk_usage_backup") is None
    disks = host.session.sections["filesystems"]["filesystems"]
    disks.append(disks[1] | {"mountpoint": "/backup", "device": "/dev/sdc1", "uuid": "cccc"})
    await host.move(65)
    assert float(host.state("sensor.plain_disk_usage_backup")) == 50


async def test_a_filesystem_that_vanishes_is_unavailable_and_leaves_after_a_day(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    monkeypatch.setattr(inventory, "GONE_SECONDS", 600.0)
    entity_id = "sensor.plain_disk_usage_srv_my_data"
    disks = host.session.sections["filesystems"]["filesystems"]
    data = disks.pop()
    await host.move(200, step=5)
    assert host.state(entity_id) == "unavailable"
    assert entity_registry.async_get(entity_id)
    disks.append(data)
    await host.move(65, step=5)
    assert float(host.state(entity_id)) == 50
    disks.pop()
    await host.move(600, step=5)
    assert entity_registry.async_get(entity_id)
    await host.move(120, step=5)
    assert entity_registry.async_get(entity_id) is None
    assert hass.states.get(entity_id) is None
    disks.append(data)
    await host.move(65, step=5)
    assert float(host.state(entity_id)) == 50


async def test_a_list_that_is_not_whole_takes_no_entity_away(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    await host.start()
    section = host.session.sections["filesystems"]
    section["filesystems"].pop()
    section["complete"]["mounts"] = False
    for _ in range(4):
        host.freezer.tick(timedelta(hours=24))
        await host.move(65, step=5)
    assert entity_registry.async_get("sensor.plain_disk_usage_srv_my_data")


async def test_a_vendor_unit_that_failed_is_monitored_until_it_is_well_for_a_day(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    monkeypatch.setattr(inventory, "GONE_SECONDS", 600.0)
    assert host.state("sensor.plain_cups_service") == "failed"
    units = host.session.sections["services"]["units"]
    units[1]["active_state"] = "active"
    await host.move(35)
    assert host.state("sensor.plain_cups_service") == "active"
    watched = [watch["services"] for _, watch in host.session.asked if watch]
    assert watched[-1] == ["cups.service"]
    await host.move(700, step=5)
    assert hass.states.get("sensor.plain_cups_service") is None
    host.session.asked.clear()
    units.pop()
    await host.move(65, step=5)
    assert not [watch for _, watch in host.session.asked if watch]


async def test_a_state_that_systemd_does_not_document_is_unknown(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["services"]["units"][0]["active_state"] = "hibernating"
    await host.start()
    assert host.state("sensor.plain_backup_service") == "unknown"


async def test_a_broken_gpu_driver_is_a_problem_and_no_gpu_is_none(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    assert hass.states.get("binary_sensor.plain_gpu_telemetry") is None
    del host.session.document["missing"]["gpu"]
    host.session.document["errors"]["gpu"] = "NVML: Driver/library version mismatch"
    await host.move(70)
    state = hass.states.get("binary_sensor.plain_gpu_telemetry")
    assert state is not None
    assert (state.state, state.attributes["reason"]) == ("on", "NVML: Driver/library version mismatch")
    del host.session.document["errors"]["gpu"]
    host.session.sections["gpu"] = {
        "at": 1.0,
        "gpus": [{"id": "GPU-1", "uuid": "GPU-1", "vendor": "nvidia", "name": "RTX 4090", "usage_percent": 12.0}],
    }
    await host.move(70)
    assert host.state("binary_sensor.plain_gpu_telemetry") == "off"
    assert host.state("sensor.plain_rtx_4090_usage") == "12.0"


def told_gpu(hass: HomeAssistant) -> tuple[str, str, list[str]]:
    state = hass.states.get("binary_sensor.plain_gpu_telemetry")
    assert state is not None
    return state.state, state.attributes["status"], state.attributes["lost"]


async def test_gpu_telemetry_distinguishes_lost_asleep_and_late(hass: HomeAssistant, host: Host) -> None:
    del host.session.document["missing"]["gpu"]
    cards = [{"id": f"0000:0{n}:00.0", "vendor": "amd", "name": "AMD Radeon", "state": "ok"} for n in (3, 4)]
    for card in cards:
        card["pci_address"] = card["id"]
    host.session.sections["gpu"] = {"at": 1.0, "gpus": cards}
    await host.start()
    assert told_gpu(hass) == ("off", "ok", [])
    for card in cards:
        card["state"] = "suspended"
    await host.move(20)
    assert told_gpu(hass) == ("off", "suspended", [])
    cards[1]["state"] = "lost"
    await host.move(20)
    assert told_gpu(hass) == ("on", "lost", ["Radeon 04:00"])
    # A driver that hangs: its last words stand for a while, then it is what is wrong.
    del host.session.sections["gpu"]
    host.session.document["missing"]["gpu"] = "timed_out"
    cards[1]["state"] = "ok"
    await host.move(20)
    assert told_gpu(hass)[1] == "lost"
    await host.move(200)
    assert told_gpu(hass) == ("on", "timed_out", [])
    host.session.document["missing"]["gpu"] = "permission_denied"
    await host.move(70)
    assert host.state("binary_sensor.plain_gpu_telemetry") == "unknown"


async def test_a_card_that_sleeps_beside_one_that_works_is_no_news(hass: HomeAssistant, host: Host) -> None:
    # A laptop has two, of which one sleeps most of the time.
    del host.session.document["missing"]["gpu"]
    cards = [{"id": f"0000:0{n}:00.0", "vendor": "amd", "name": "AMD Radeon", "state": "ok"} for n in (3, 4)]
    host.session.sections["gpu"] = {"at": 1.0, "gpus": cards}
    cards[1]["state"] = "suspended"
    await host.start()
    assert told_gpu(hass) == ("off", "ok", [])


async def test_a_card_that_is_slowed_by_heat_is_a_problem_and_one_at_its_power_limit_is_none(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True)
    del host.session.document["missing"]["gpu"]
    card = {"id": "1", "vendor": "nvidia", "name": "RTX 4090", "throttle_reasons": ["power"]}
    silent = {"id": "2", "vendor": "intel", "name": "Intel Arc"}
    host.session.sections["gpu"] = {"at": 1.0, "gpus": [card, silent]}
    await host.start()
    assert host.state("binary_sensor.plain_rtx_4090_throttled") == "off"
    assert hass.states.get("binary_sensor.plain_arc_throttled") is None
    card["throttle_reasons"] = ["thermal", "power"]
    await host.move(20)
    state = hass.states.get("binary_sensor.plain_rtx_4090_throttled")
    assert state is not None
    assert (state.state, state.attributes["reasons"]) == ("on", ["thermal", "power"])


async def test_a_problem_is_reported_in_words_and_in_sentences(host: Host) -> None:
    disk = host.session.sections["filesystems"]["filesystems"][1]
    disk["used_bytes"], disk["available_bytes"] = 950_000_000, 50_000_000
    await host.start()
    about = host.hass.states.get("binary_sensor.plain_problem").attributes
    assert list(zip(about["reasons"], about["details"], strict=True)) == [
        ("disk_full /srv/my data", "The filesystem /srv/my data is nearly full"),
        ("service_failed backup.service", "The service backup.service has failed"),
        ("service_failed cups.service", "The service cups.service has failed"),
    ]


def test_every_kind_of_problem_has_its_sentence() -> None:
    source = Path(problems.__file__).read_text()
    of_filesystems = set(problems._OF_FILESYSTEMS)
    kinds = set(re.findall(r'kind="(\w+)"', source)) | {"offline"} | of_filesystems
    assert kinds == SENTENCES.keys() == problems.KINDS.keys()
    assert {kind for kind, text in SENTENCES.items() if "{item}" in text} == of_filesystems | {
        kind for kind in kinds if re.search(rf'kind="{kind}", item=', source)
    }
