"""What outlives a restart, and what happens to a file that cannot be read."""

import asyncio
from copy import deepcopy
import json
from pathlib import Path
import time
from typing import Any
from unittest.mock import patch

from homeassistant.core import CoreState, HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events

from custom_components.homelab_monitor.audience import async_forget_handover
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.limits import PROBLEMS_STORED
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.time_limit import STANDSTILL_SECONDS
from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.store import (
    _HANDED_OVER,
    _KEY,
    HAND_OVER_SECONDS,
    KEY_STORAGE_KEY,
    HostMemory,
    HostStore,
    async_get_key,
    async_hand_over,
    async_require_ecdsa,
)

from .scripted import CONNECTIVITY, HOST_ID, Host, set_up


async def test_the_key_is_made_once_and_kept(hass: HomeAssistant, hass_storage) -> None:
    key = await async_get_key(hass)
    assert await async_get_key(hass) is key
    assert KeyPair.from_private(hass_storage[KEY_STORAGE_KEY]["data"]["private_key"]) == key


async def test_a_stored_key_is_used_again(hass: HomeAssistant, hass_storage) -> None:
    key = KeyPair.generate()
    hass_storage[KEY_STORAGE_KEY] = {"version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": key.private_openssh}}
    assert await async_get_key(hass) == key


async def test_a_key_that_cannot_be_read_is_set_aside_and_said(
    hass: HomeAssistant, hass_storage, caplog: pytest.LogCaptureFixture
) -> None:
    hass_storage[KEY_STORAGE_KEY] = {"version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": "garbage"}}
    key = await async_get_key(hass)
    assert hass_storage[f"{KEY_STORAGE_KEY}.unreadable"]["data"]["private_key"] == "garbage"
    assert hass_storage[KEY_STORAGE_KEY]["data"]["private_key"] == key.private_openssh
    assert "cannot be read" in caplog.text
    assert "garbage" not in " ".join(r.getMessage() for r in caplog.records if "homelab_monitor.store" in r.name)


async def test_the_snapshot_is_saved_within_a_quarter_of_an_hour_however_often_it_changes(
    hass: HomeAssistant,
    hass_storage,
    host: Host,
) -> None:
    await set_up(hass, host.entry, host.session)
    key = f"homelab_monitor.{host.entry.entry_id}"
    await host.move(30)
    hass_storage.pop(key, None)
    await host.move(905, step=5)
    stored = hass_storage[key]["data"]["snapshot"]
    assert host.freezer().timestamp() - stored["received"] < 910
    # And so again: each save makes the next one possible.
    hass_storage.pop(key)
    await host.move(905, step=5)
    stored = hass_storage[key]["data"]["snapshot"]
    assert host.freezer().timestamp() - stored["received"] < 910


async def test_a_key_that_others_could_read_is_taken_from_them_and_said_once(
    hass: HomeAssistant, hass_storage, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hass.config.config_dir = str(tmp_path)
    folder = tmp_path / ".storage"
    folder.mkdir()
    key = KeyPair.generate()
    stored = {"version": 1, "minor_version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": key.private_openssh}}
    hass_storage[KEY_STORAGE_KEY] = stored
    names = (KEY_STORAGE_KEY, f"{KEY_STORAGE_KEY}.unreadable", f"{KEY_STORAGE_KEY}.corrupt.2026-01-01T00:00:00+00:00")
    for name in (*names, "homelab_monitor.else"):
        (folder / name).write_text(json.dumps(stored))
        (folder / name).chmod(0o644)
    (folder / f"{KEY_STORAGE_KEY}.link").symlink_to(folder / "homelab_monitor.else")
    assert await async_get_key(hass) == key
    await async_get_key(hass)
    assert {(folder / name).stat().st_mode & 0o777 for name in names} == {0o600}
    assert (folder / "homelab_monitor.else").stat().st_mode & 0o777 == 0o644
    assert [caplog.text.count(f"{name}. Its mode") for name in names] == [1, 1, 1]
    del hass.data[_KEY]
    caplog.clear()
    await async_get_key(hass)
    assert "could read" not in caplog.text


async def test_a_key_that_cannot_be_taken_from_others_is_used_and_said(
    hass: HomeAssistant,
    hass_storage,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hass.config.config_dir = str(tmp_path)
    folder = tmp_path / ".storage"
    folder.mkdir()
    key = KeyPair.generate()
    stored = {"version": 1, "minor_version": 1, "key": KEY_STORAGE_KEY, "data": {"private_key": key.private_openssh}}
    hass_storage[KEY_STORAGE_KEY] = stored
    names = (KEY_STORAGE_KEY, f"{KEY_STORAGE_KEY}.unreadable")
    for name in names:
        (folder / name).write_text(json.dumps(stored))
        (folder / name).chmod(0o644)

    def refuse(path: Path, mode: int) -> None:
        """Be a file system that knows no rights, or a file of another user."""
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    assert await async_get_key(hass) == key
    told = [each.getMessage() for each in caplog.records if "can read" in each.getMessage()]
    assert len(told) == len(names)
    for name in names:
        start = f"Other users can read {folder / name} (mode 644), and this could not be changed: "
        assert any(each.startswith(start) and "Operation not permitted" in each for each in told)
    assert "is now 600" not in caplog.text


async def test_nothing_of_a_host_stays_when_it_is_removed(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    key = f"{DOMAIN}.{host.entry.entry_id}"
    hass_storage[key] = {"version": 1, "key": key, "data": {"snapshot": "garbage"}}
    await host.start()
    assert f"{key}.unreadable" in hass_storage
    await hass.config_entries.async_remove(host.entry.entry_id)
    await hass.async_block_till_done()
    assert [each for each in hass_storage if host.entry.entry_id in each] == []


@pytest.mark.parametrize("answers", [True, False])
async def test_a_poll_that_ends_after_its_host_was_removed_brings_no_file_back(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any], *, answers: bool
) -> None:
    """As one that `homeassistant.update_entity` asked for, which is no task of the entry."""
    await host.start()
    coordinator, ask, held = host.entry.runtime_data, host.session.poll, asyncio.Event()

    async def poll(*about: object) -> object:
        await held.wait()
        if not answers:
            raise Unreachable("plain")
        return await ask(*about)

    with patch.object(host.session, "poll", poll):
        asking = hass.async_create_task(coordinator.async_refresh())
        await asyncio.sleep(0)
        await hass.config_entries.async_remove(host.entry.entry_id)
        held.set()
        await asking
    await coordinator.store.async_save()
    await host.move(1000, step=50)
    assert [each for each in hass_storage if host.entry.entry_id in each] == []


async def test_very_many_problems_with_very_long_names_make_no_large_file(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    row = host.session.sections["filesystems"]["filesystems"][0] | {"used_bytes": 99, "available_bytes": 1}
    host.session.sections["filesystems"]["filesystems"] = [
        row | {"mountpoint": f"/{number}/" + "x" * (10 if number < 300 else 4000), "uuid": None}
        for number in range(900)
    ]
    await host.start()
    assert len(host.entry.runtime_data.data.problems) > 900
    await host.entry.runtime_data.store.async_save()
    stored = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]["problems"]
    assert len(stored) == PROBLEMS_STORED
    assert len(json.dumps(stored)) < 100_000


async def test_a_full_disk_that_is_renamed_out_of_reach_is_still_full_after_a_restart(
    hass: HomeAssistant, host: Host
) -> None:
    section = host.session.sections["filesystems"]
    section["filesystems"][1] |= {"used_bytes": 99, "available_bytes": 1, "device_number": "8:17", "mount_id": 40}
    name = section["filesystems"][1]["mountpoint"]
    await host.start()
    assert name in {each.item for each in host.entry.runtime_data.data.problems}
    await host.entry.runtime_data.store.async_save()
    section["filesystems"].pop()
    section |= {"late": ["/home/eve/dddd…/40"], "late_devices": ["8:17"], "complete": {"mounts": False}}
    with patch("custom_components.homelab_monitor.async_new_session", return_value=host.session):
        assert await hass.config_entries.async_reload(host.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
    await host.move(130, step=10)
    assert name in {each.item for each in host.entry.runtime_data.data.problems}


@pytest.mark.parametrize("version", ["this", "earlier", "later"])
async def test_when_a_problem_began_is_known_after_a_restart(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any], version: str
) -> None:
    host.session.sections["filesystems"]["filesystems"][1] |= {"used_bytes": 99, "available_bytes": 1}
    await host.start()
    problems = host.entry.runtime_data.data.problems
    assert len(problems) == 3
    await host.move(300, step=10)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    stored = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]["data"]
    if version == "earlier":
        del stored["problems_since"]
    if version == "later":
        stored["problems"].insert(0, ["of_a_later_version", "", ""])
        stored["problems_since"].insert(0, 1.0)
    host.session.error = Unreachable("plain")
    await host.start_again()
    restored = host.entry.runtime_data.data.problems
    assert restored == problems
    is_kept = version != "earlier"
    assert [each.since for each in restored] == [each.since if is_kept else None for each in problems]
    host.session.error = None
    await host.move(60, step=10)
    for now, before in zip(host.entry.runtime_data.data.problems, problems, strict=True):
        assert now.since == before.since if is_kept else now.since > before.since + 300


# ---------------------------------------------------------------- what a dialog hands over


@pytest.mark.parametrize(("seconds", "state"), [(0, "on"), (20, "on"), (31, "off"), (3000, "off")])
async def test_a_host_counts_as_online_only_as_long_as_what_a_dialog_saw_of_it_is_fresh(
    hass: HomeAssistant, host: Host, seconds: int, state: str
) -> None:
    memory = HostMemory(snapshot=seen(host), seen=time.monotonic())
    await host.move(seconds, step=10)
    async_hand_over(hass, HOST_ID, memory)
    host.session.error = Unreachable("plain")
    await set_up(hass, host.entry, host.session)
    assert host.state(CONNECTIVITY) == state
    if state == "on":
        # It is silent no sooner than it was asked and did not answer.
        await host.move(max(31 - seconds, 30 - 10 - STANDSTILL_SECONDS + 1))
    assert host.state(CONNECTIVITY) == "off"
    assert host.state("sensor.plain_memory_usage") == "unavailable"


async def test_what_a_dialog_saw_of_a_host_is_forgotten_after_a_while(hass: HomeAssistant, host: Host) -> None:
    old = HostMemory(snapshot=seen(host), seen=time.monotonic())
    async_hand_over(hass, HOST_ID, old)
    await host.move(HAND_OVER_SECONDS + 60, step=60)
    assert await HostStore(hass, "entry", HOST_ID).async_load() is not old
    async_hand_over(hass, HOST_ID, old)
    async_hand_over(hass, "another", HostMemory(seen=time.monotonic()))
    assert list(hass.data[_HANDED_OVER]) == ["another"]


def seen(host: Host) -> Snapshot:
    """Return what a test of the host has seen."""
    return Snapshot().merged(host.session.answer(list(SECTIONS)), time.time(), 30.0)


# ---------------------------------------------------------------- the key beside it


async def test_the_ecdsa_key_is_made_once_and_kept_beside_the_other(
    hass: HomeAssistant, hass_storage: dict[str, Any]
) -> None:
    key = await async_get_key(hass)
    assert key.beside is None
    first, second = await asyncio.gather(async_require_ecdsa(hass), async_require_ecdsa(hass))
    assert first == second == await async_get_key(hass)
    assert first.beside is not None
    assert first.beside.public_openssh.startswith("ecdsa-sha2-nistp256 ")
    assert (first.private_openssh, "PRIVATE" in repr(first)) == (key.private_openssh, False)
    hass.data.pop(_KEY)
    assert await async_get_key(hass) == first


@pytest.mark.parametrize(
    "broken",
    ["", "-----BEGIN OPENSSH PRIVATE KEY-----", 7, KeyPair.generate().private_openssh],
    ids=["nothing", "half", "number", "ed25519"],
)
async def test_an_ecdsa_key_that_cannot_be_read_does_not_cost_the_other_one(
    hass: HomeAssistant, hass_storage: dict[str, Any], caplog: pytest.LogCaptureFixture, broken: object
) -> None:
    key = KeyPair.generate()
    data = {"private_key": key.private_openssh, "ecdsa_private_key": broken}
    hass_storage[KEY_STORAGE_KEY] = {"version": 1, "minor_version": 1, "key": KEY_STORAGE_KEY, "data": data}
    assert await async_get_key(hass) == key
    assert "ECDSA" in caplog.text
    assert (await async_require_ecdsa(hass)).beside is not None


@pytest.mark.parametrize("version", [(2, 1), (7, 3), (1, 9)])
async def test_a_file_of_a_later_version_does_not_stop_its_host(
    hass: HomeAssistant, host: Host, hass_storage, caplog: pytest.LogCaptureFixture, version: tuple[int, int]
) -> None:
    """As after a downgrade: of a later major version it is set aside, of a minor one what is known counts."""
    await host.start()
    await host.entry.runtime_data.store.async_save()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    key = f"{DOMAIN}.{host.entry.entry_id}"
    hass_storage[key] |= {"version": version[0], "minor_version": version[1]}
    await host.start_again()
    assert host.status == "online"
    assert ("cannot be read" in caplog.text) is (version[0] > 1)


async def test_that_a_host_went_or_came_back_is_known_also_after_a_power_cut_of_home_assistant(
    hass: HomeAssistant, host: Host, hass_storage: dict[str, Any]
) -> None:
    async def lose_power() -> None:
        left = deepcopy(hass_storage[key])
        assert await hass.config_entries.async_unload(host.entry.entry_id)
        hass_storage[key] = left
        async_forget_handover(hass, host.entry.entry_id)
        hass.set_state(CoreState.not_running)
        await host.start_again()
        await hass.async_start()
        await host.move(60)

    changes = async_capture_events(hass, "state_changed")

    def told() -> list[str]:
        states = [each.data["new_state"] for each in changes if each.data["entity_id"] == "event.plain_events"]
        shown = {state.state: state.attributes.get("event_type") for state in states if state}
        return [kind for kind in shown.values() if kind in {"host_offline", "host_online"}]

    key = f"{DOMAIN}.{host.entry.entry_id}"
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(60)
    since = hass.states.get(CONNECTIVITY).attributes["since"]
    assert told() == ["host_offline"]
    await lose_power()
    assert hass.states.get(CONNECTIVITY).attributes["since"] == since
    assert told() == ["host_offline"]
    host.session.error = None
    await host.move(60)
    assert told() == ["host_offline", "host_online"]
    since = hass.states.get(CONNECTIVITY).attributes["since"]
    await lose_power()
    assert hass.states.get(CONNECTIVITY).attributes["since"] == since
    assert told() == ["host_offline", "host_online"]
