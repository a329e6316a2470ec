"""Containers in Home Assistant: devices of their own, entities that outlive them, and how few there are."""

from copy import deepcopy
from typing import Any
from unittest.mock import PropertyMock, patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.homelab_monitor.const import DOMAIN

from .scripted import HOST_ID, Host

WEB = {
    "engine": "docker",
    "owner": "root",
    "id": "91ce74022074",
    "name": "web",
    "image": "nginx:1.29",
    "state": "running",
    "health": "healthy",
    "restarts": 0,
    "restart_policy": "unless-stopped",
    "started_epoch": 1763900000,
    "cpu_seconds": 100.0,
    "memory_bytes": 64 << 20,
}
DAY = 24 * 3600.0
STATE = "sensor.web_state"


def section(*containers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "at": 5000.0,
        "complete": {"docker/root": True},
        "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
        "containers": [deepcopy(each) for each in containers],
    } | changes


@pytest.fixture
def with_web(host: Host) -> Host:
    host.session.sections["containers"] = section(WEB)
    return host


def container(host: Host) -> dict[str, Any]:
    return host.session.sections["containers"]["containers"][0]


def children(hass: HomeAssistant, host: Host) -> dict[str | None, dr.ChildDeviceEntry]:
    entries = dr.async_child_entries_for_config_entry(dr.async_get(hass), host.entry.entry_id)
    return {each.name: each for each in entries}


def entity(hass: HomeAssistant, key: str, item: str = "docker/root/web") -> str:
    """Return the entity id of a container's sensor."""
    found = er.async_get(hass).async_get_entity_id("sensor", DOMAIN, f"{HOST_ID}_container_{item}_{key}")
    assert found, key
    return found


async def test_a_container_is_a_device_of_the_hosts_with_what_one_wants_to_see_enabled(
    hass: HomeAssistant, with_web: Host
) -> None:
    await with_web.start()
    device = children(hass, with_web)["web"]
    parent = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, HOST_ID), with_web.entry.entry_id)
    assert parent is not None
    assert device.parent_device_id == parent.id
    entries = er.async_entries_for_device(er.async_get(hass), device.id, include_disabled_entities=True)
    assert {each.unique_id.rpartition("web_")[2]: each.disabled_by is None for each in entries} == {
        "state": True,
        "health": True,
        "cpu_usage": True,
        "memory_used": True,
        "image": True,
        "restarts": False,
    }
    state = hass.states.get(entity(hass, "state"))
    assert state is not None
    assert (state.state, state.name) == ("running", "web State")


async def test_what_a_container_uses(hass: HomeAssistant, with_web: Host) -> None:
    enabled = PropertyMock(return_value=True)
    with patch("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", enabled):
        await with_web.start()
    await with_web.move(5)
    container(with_web)["cpu_seconds"] += 45.0
    await with_web.move(30)
    values = {key: with_web.state(entity(hass, key)) for key in ("health", "memory_used", "restarts")}
    assert values == {"health": "healthy", "memory_used": "64.0", "restarts": "0"}
    # 45 s of one core in the 30 s between two rounds: one and a half cores.
    assert float(with_web.state(entity(hass, "cpu_usage"))) == pytest.approx(150, abs=40)


async def test_what_a_container_hardly_uses_is_not_written(hass: HomeAssistant, with_web: Host) -> None:
    container(with_web)["cpu_seconds"] = 0.0
    await with_web.start()
    await with_web.move(65, step=5)
    cpu, memory = entity(hass, "cpu_usage"), entity(hass, "memory_used")
    assert (float(with_web.state(cpu)), float(with_web.state(memory))) == (0, 64)
    changes = async_capture_events(hass, "state_changed")
    for _ in range(15):  # ten minutes, in which other rows would have written what is small as well
        container(with_web)["cpu_seconds"] += 0.1
        container(with_web)["memory_bytes"] += 20_000
        await with_web.move(40, step=10)
    assert {event.data["entity_id"] for event in changes} & {cpu, memory} == set()
    container(with_web)["memory_bytes"] += 300_000  # together more than half of a MiB
    container(with_web)["cpu_seconds"] += 1.0
    await with_web.move(40, step=10)
    assert float(with_web.state(memory)) > 64
    assert float(with_web.state(cpu)) > 1


async def test_the_image_is_shown_with_its_tag_and_follows_it(hass: HomeAssistant, with_web: Host) -> None:
    container(with_web)["image"] = "registry.lan:5000/team/web:1.29@sha256:" + "0" * 64
    await with_web.start()
    state = hass.states.get(entity(hass, "image"))
    assert state is not None
    assert (state.state, state.name) == ("registry.lan:5000/team/web:1.29", "web Image")
    assert (state.attributes["repository"], state.attributes["tag"]) == ("registry.lan:5000/team/web", "1.29")
    container(with_web).update(image="registry.lan:5000/team/web:1.30", id="0123456789ab")
    await with_web.move(35)
    assert with_web.state(entity(hass, "image")) == "registry.lan:5000/team/web:1.30"


async def test_an_image_of_any_length_is_harmless(hass: HomeAssistant, with_web: Host) -> None:
    container(with_web)["image"] = "http://" + "x" * 900 + "\n:<b>\x1b[31m"
    await with_web.start()
    state = hass.states.get(entity(hass, "image"))
    assert state is not None
    assert len(state.state) <= 255
    assert not state.attributes["repository"].startswith("http")
    assert "\n" not in state.state + str(state.attributes["tag"])
    assert "\x1b" not in state.state + str(state.attributes["tag"])


async def test_one_that_is_made_anew_keeps_its_entities(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    before = entity(hass, "state"), children(hass, with_web)["web"].id
    with_web.session.sections["containers"] = section()
    await with_web.move(35)
    assert with_web.state(before[0]) == "unavailable"
    with_web.session.sections["containers"] = section(WEB | {"id": "0123456789ab", "state": "created"})
    await with_web.move(35)
    assert (entity(hass, "state"), children(hass, with_web)["web"].id) == before
    assert with_web.state(before[0]) == "created"


def task(number: int, slot: str = "1", **changes: Any) -> dict[str, Any]:
    """Return a task of a Swarm service, as the probe tells of it."""
    name = f"shop_web.{slot}.{number:025x}"
    started = {"id": f"{number:012x}", "started_epoch": 1763900000 + number}
    return WEB | {"name": name, "swarm_service": "shop_web", "restart_policy": "no"} | started | changes


async def test_a_swarm_service_stays_the_same_through_all_its_deployments(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = section(task(1), task(2, "2"))
    await host.start()
    device = children(hass, host)["shop_web.1"]
    assert set(children(hass, host)) == {"shop_web.1", "shop_web.2"}
    events = len(er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id))
    before = hass.states.get("event.plain_events").state
    ended = {"state": "exited", "exit_code": 143, "health": None}
    for number in range(3, 9):
        # What was before stays for a while, ended, and is listed first or last.
        tasks = [task(number), task(number - 1, **ended), task(2, "2")]
        host.session.sections["containers"]["containers"] = tasks if number % 2 else tasks[::-1]
        await host.move(60, step=10)
        assert children(hass, host)["shop_web.1"].id == device.id
        assert host.state(entity(hass, "state", "docker/root/shop_web.1")) == "running"
    assert set(children(hass, host)) == {"shop_web.1", "shop_web.2"}
    assert len(er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)) == events
    assert hass.states.get("event.plain_events").state == before, "a deployment is no death"
    host.session.sections["containers"]["containers"] = [task(9, state="exited", exit_code=1), task(2, "2")]
    await host.move(60, step=10)
    assert hass.states.get("event.plain_events").attributes["container"] == "shop_web.1"


async def test_two_of_one_name_are_distinguished(hass: HomeAssistant, with_web: Host) -> None:
    both = section(WEB, WEB | {"engine": "podman", "owner": "mon"})
    with_web.session.sections["containers"] = both | {"complete": {"docker/root": True, "podman/mon": True}}
    await with_web.start()
    assert set(children(hass, with_web)) == {"web", "web (podman/mon)"}


async def test_a_word_that_no_engine_documents_is_unknown(hass: HomeAssistant, with_web: Host) -> None:
    container(with_web)["state"] = "bewildered"
    await with_web.start()
    assert with_web.state(entity(hass, "state")) == "unknown"


async def test_one_that_is_gone_for_a_day_leaves_with_its_device(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    state = entity(hass, "state")
    with_web.session.sections["containers"] = section()
    await with_web.move(1.1 * DAY, step=100)
    assert hass.states.get(state) is None
    assert children(hass, with_web) == {}
    assert "docker/root/web" not in with_web.entry.runtime_data.inventory.items["container"]


async def test_a_list_that_is_not_whole_takes_nothing_away(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    stopped = [
        {"engine": "docker", "owner": "root", "state": "stopped"},
        {"engine": "podman", "owner": "mon", "state": "ok"},
    ]
    complete = {"docker/root": False, "podman/mon": True}
    with_web.session.sections["containers"] = section(engines=stopped, complete=complete)
    await with_web.move(DAY + 7200, step=600)
    assert with_web.state(entity(hass, "state")) == "unavailable"
    assert set(children(hass, with_web)) == {"web"}


async def test_the_device_of_one_that_is_gone_can_be_deleted_at_once_and_no_other(
    hass: HomeAssistant, with_web: Host, hass_ws_client: WebSocketGenerator
) -> None:
    assert await async_setup_component(hass, "config", {})
    await with_web.start()
    client = await hass_ws_client(hass)
    parent = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, HOST_ID), with_web.entry.entry_id)
    assert parent is not None
    child = children(hass, with_web)["web"]

    async def removed(device_id: str) -> bool:
        await client.send_json_auto_id({"type": "config/device_registry/remove", "device_id": device_id})
        return (await client.receive_json())["success"]

    assert not await removed(parent.id)
    assert not await removed(child.id)
    with_web.session.sections["containers"] = section()
    await with_web.move(35)
    assert not await removed(parent.id)
    assert await removed(child.id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert children(hass, with_web) == {}
    assert with_web.entry.runtime_data.inventory.items["container"] == {}
    with_web.session.sections["containers"] = section(WEB)
    await with_web.move(95)
    assert with_web.state(entity(hass, "state")) == "running"


def crowd(count: int) -> dict[str, Any]:
    return section(*(WEB | {"id": f"{number:012x}", "name": f"c{number:02}"} for number in range(count)))


async def test_fifteen_have_entities_and_stay_when_more_come(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = crowd(15)
    await host.start()
    assert len(children(hass, host)) == 15
    host.session.sections["containers"] = crowd(40)
    await host.move(DAY + 7200, step=600)
    assert len(children(hass, host)) == 15
    assert host.state(entity(hass, "state", "docker/root/c00")) == "running"
    assert host.state("sensor.plain_running_containers") == "40"


def enabled(hass: HomeAssistant, host: Host, name: str) -> set[str]:
    """Return which sensors of a container are enabled."""
    prefix = f"{HOST_ID}_container_docker/root/{name}_"
    entries = er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    return {
        each.unique_id.removeprefix(prefix)
        for each in entries
        if each.unique_id.startswith(prefix) and each.disabled_by is None
    }


ALL = {"state", "health", "cpu_usage", "memory_used", "image"}


async def test_of_more_than_fifteen_new_ones_show_their_state_alone(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = crowd(15)
    await host.start(containers=["c*"])
    assert [enabled(hass, host, f"c{number:02}") for number in range(15)] == [ALL] * 15
    host.session.sections["containers"] = crowd(16)
    await host.move(65, step=5)
    assert enabled(hass, host, "c15") == {"state"}
    assert enabled(hass, host, "c14") == ALL, "what is enabled stays so"


async def test_of_many_chosen_ones_each_shows_its_state_alone(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = crowd(16)
    await host.start(containers=["c*"])
    assert {name: enabled(hass, host, name) for name in ("c00", "c15")} == {"c00": {"state"}, "c15": {"state"}}


async def test_what_an_earlier_version_had_disabled_stays_disabled(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    registry = er.async_get(hass)
    for key in ("health", "cpu_usage", "memory_used"):
        registry.async_update_entity(entity(hass, key), disabled_by=er.RegistryEntryDisabler.INTEGRATION)
    await with_web.reload()
    assert enabled(hass, with_web, "web") == {"state", "image"}


async def test_of_many_only_chosen_ones_have_entities(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = crowd(40)
    await host.start(containers=["c01", "c3*"])
    assert len(children(hass, host)) == 11
    assert host.state("sensor.plain_running_containers") == "40"


async def test_of_many_without_a_choice_only_totals_are_shown(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["containers"] = crowd(16)
    host.session.sections["containers"]["containers"][0]["health"] = "unhealthy"
    await host.start()
    assert children(hass, host) == {}
    assert host.state("sensor.plain_running_containers") == "16"
    assert host.state("sensor.plain_unhealthy_containers") == "1"


async def test_nobody_counts_the_containers_of_an_engine_that_is_stopped(hass: HomeAssistant, host: Host) -> None:
    stopped = [{"engine": "docker", "owner": "root", "state": "stopped"}]
    host.session.sections["containers"] = section(engines=stopped, complete={"docker/root": False})
    await host.start()
    assert hass.states.get("sensor.plain_running_containers") is None


async def test_the_options_offer_the_containers(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    result = await hass.config_entries.options.async_init(with_web.entry.entry_id)
    fields = {str(key): value for key, value in result["data_schema"].schema.items()}
    assert fields["containers"].config["options"] == ["web"]


async def test_what_happens_to_a_container_is_an_event(hass: HomeAssistant, with_web: Host) -> None:
    await with_web.start()
    container(with_web).update(state="exited", exit_code=3, restart_policy="no")
    await with_web.move(35)
    event = hass.states.get("event.plain_events")
    assert event is not None
    said = {name: event.attributes[name] for name in ("event_type", "container", "host")}
    assert said == {"event_type": "container_died", "container": "web", "host": "plain"}
    assert with_web.state(entity(hass, "state")) == "exited"
