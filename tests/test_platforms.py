"""Every row of every platform on recorded hosts: its name, unit, classes, category, value and default.

`pytest tests/test_platforms.py --snapshot-update` writes the snapshots anew; their difference is what a change does.
"""

from itertools import combinations
import json
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import snapshot_platform
from pytest_homeassistant_custom_component.syrupy import HomeAssistantSnapshotExtension, HomeAssistantSnapshotSerializer
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.amber import AmberSnapshotExtension

from custom_components.homelab_monitor import PLATFORMS
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import ConnectionLost
from custom_components.homelab_monitor.settings import PRIVILEGES, HostOptions

from .recorded import RecordedHost
from .test_contract import TABLES

HOSTS = ("amd-desktop", "debian-systemd", "nvidia-workstation")
"""One that tells little more than systemd, and two that tell of nearly everything between them."""
WITHOUT = {(name, platform) for name in ("amd-desktop", "debian-systemd") for platform in ("switch", "update")}
"""No containers to switch, no package manager to ask."""
OPTIONS = {"power": True, "control_containers": True, "install_updates": True}
"""All that rows wait for."""
LAST_TEST = Report(
    rows=(
        CheckResult.of("login", Verdict(CheckStatus.OK, "logged_in", {"username": "mon"})),
        CheckResult.of("docker", Verdict(CheckStatus.AMBER, "docker_denied", {"username": "mon"}, "join_docker")),
    ),
    at=1763900000.0,
)
"""No poll tells of a test."""
IN_THE_NAME = {"entity_id", "domain"}
"""What the name of a snapshot tells."""
NOT_OURS = {"aliases", "config_entry_id", "config_subentry_id", "device_id", "id", "object_id_base", "platform"}
"""What Home Assistant makes of an entity, the same for all or another at each run."""
IN_THE_ENTRY = {"options", "state_class"}
"""Attributes that stand in the entry as capabilities."""


class Serializer(HomeAssistantSnapshotSerializer):
    """Writes what our rows decide, and nothing that is not set."""

    @classmethod
    def _serializable_entity_registry_entry(cls, data: er.RegistryEntry) -> dict[str, Any]:
        told = super()._serializable_entity_registry_entry(data)
        return plain({name: value for name, value in told.items() if value and name not in IN_THE_NAME | NOT_OURS})

    @classmethod
    def _serializable_state(cls, data: State) -> dict[str, Any]:
        told = {name: value for name, value in data.attributes.items() if name not in IN_THE_ENTRY}
        return plain({"state": data.state, "attributes": told})


def plain(value: Any) -> Any:
    """Return a value as JSON has it: words instead of the enumerations that they stand in."""
    return json.loads(json.dumps(value))


class Extension(HomeAssistantSnapshotExtension):
    """Home Assistant's, in the folder of all other snapshots."""

    serializer_class = Serializer

    @classmethod
    def dirname(cls, **kwargs: Any) -> str:
        return AmberSnapshotExtension.dirname(**kwargs)


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Extension)


@pytest.fixture
def _all_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True)


@pytest.fixture(params=HOSTS)
def recorded(request: pytest.FixtureRequest, hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> RecordedHost:
    return RecordedHost(hass, freezer, request.param)


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("custom_components.homelab_monitor.PLATFORMS", (request.param,))
    return request.param


async def start(host: RecordedHost) -> None:
    """Start a host and wait until everything was read twice, so that rates are known."""
    host.session.shell.say("upgrade none\n")
    await host.start(**OPTIONS)
    await host.entry.runtime_data.async_tested(LAST_TEST)
    await host.move(40, step=5)


@pytest.mark.usefixtures("_all_enabled")
async def test_entities(
    platform: str, recorded: RecordedHost, entity_registry: er.EntityRegistry, snapshot: SnapshotAssertion
) -> None:
    await start(recorded)
    entry_id = recorded.entry.entry_id
    if (recorded.name, platform) in WITHOUT:
        assert not er.async_entries_for_config_entry(entity_registry, entry_id)
    else:
        await snapshot_platform(recorded.hass, entity_registry, snapshot, entry_id)


async def test_first_entities(
    recorded: RecordedHost, entity_registry: er.EntityRegistry, snapshot: SnapshotAssertion
) -> None:
    await start(recorded)
    entries = er.async_entries_for_config_entry(entity_registry, recorded.entry.entry_id)
    enabled = sorted(each.entity_id for each in entries if each.disabled_by is None)
    assert enabled == snapshot(name="enabled")
    recorded.session.error = ConnectionLost(recorded.name, "off")
    await recorded.move(60, step=5)
    assert [each for each in enabled if recorded.state(each) != "unavailable"] == snapshot(name="available while off")


RARE = {("sensor", "gpu_fan_speed"), ("sensor", "host_fail2ban_bans")}
"""What no recorded host tells: the fan of an Intel card, and what only root may ask fail2ban.

Nor does one of them have a filesystem that is not read each time.
"""


@pytest.mark.usefixtures("_all_enabled")
async def test_what_no_recorded_host_reports(
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    entity_registry: er.EntityRegistry,
    snapshot: SnapshotAssertion,
) -> None:
    host = RecordedHost(hass, freezer, "nvidia-workstation")
    host.session.sections["gpu"]["gpus"][0]["fan_rpm"] = 1487.0
    host.session.sections["security"]["fail2ban"] |= {"bans": 3, "jails": {"sshd": 2, "nginx": 1}}
    host.session.sections["filesystems"]["filesystems"][0]["age_seconds"] = 540.0
    await host.start()
    entries = er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)
    rare = [each for each in entries if (each.domain, each.translation_key) in RARE]
    assert len(rare) == len(RARE)
    for entry in rare:
        assert entry == snapshot(name=f"{entry.entity_id}-entry")
        assert hass.states.get(entry.entity_id) == snapshot(name=f"{entry.entity_id}-state")
    old = [each.entity_id for each in hass.states.async_all() if each.attributes.get("age_seconds") == 540]
    assert sorted(old) == snapshot(name="old")


type Told = dict[tuple[str, str | None], list[str]]
"""What the entities of each row show, by platform and translation key."""


@pytest.fixture
async def told(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, entity_registry: er.EntityRegistry, _all_enabled: None
) -> Told:
    """Return what all recorded hosts show, one after the other."""
    told: Told = {}
    for name in HOSTS:
        host = RecordedHost(hass, freezer, name)
        await start(host)
        entries = er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)
        for each in sorted(entries, key=lambda entry: entry.entity_id):
            told.setdefault((each.domain, each.translation_key), []).append(host.state(each.entity_id))
        await hass.config_entries.async_remove(host.entry.entry_id)
    return told


def test_every_row_stands_in_a_snapshot(told: Told) -> None:
    every = {(platform, f"{row.subject.key}_{row.key}") for platform, table in TABLES.items() for row in table}
    assert sorted(every - RARE - told.keys()) == [], "no host in HOSTS has these"
    assert sorted(told.keys() - (every - RARE)) == []


ALIKE = {("host_pending_updates", "host_running_containers")}
"""Of two sections, so that mypy tells them apart."""


def test_no_two_sensors_of_a_subject_read_alike(told: Told) -> None:
    """Nobody would see two of them mixed up."""
    sensors = sorted((key, shown) for (platform, key), shown in told.items() if platform == "sensor")
    alike = {
        (one, other)
        for (one, shown), (other, also) in combinations(sensors, 2)
        if shown == also and one.partition("_")[0] == other.partition("_")[0]
    }
    assert alike == ALIKE


def test_when_a_sensor_is_written(snapshot: SnapshotAssertion) -> None:
    """The smallest change that is written, and the option whose crossing is: no state shows them."""
    rows = {f"{row.subject.key}_{row.key}": row for row in TABLES["sensor"]}
    assert {key: row.deadband for key, row in rows.items() if row.deadband} == snapshot(name="smallest change")
    options = HostOptions(disk_threshold=1, memory_threshold=2)
    limits = {key: row.threshold_fn(options) for key, row in rows.items() if row.threshold_fn}
    assert limits == {"filesystem_usage": 1, "host_memory_usage": 2}


def test_which_entities_an_option_offers(snapshot: SnapshotAssertion) -> None:
    offered = {
        f"{platform}.{row.subject.key}_{row.key}": [
            option for option in PRIVILEGES if row.offered_fn(HostOptions(**{option: True}))
        ]
        for platform, table in TABLES.items()
        for row in table
        if not row.offered_fn(HostOptions())
    }
    assert offered == snapshot
