"""Events found while an entry is reloaded or Home Assistant starts are reported once."""

import asyncio
from typing import Any
from unittest.mock import patch

from homeassistant.core import CoreState, HomeAssistant
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.homelab_monitor.batches import async_take_down
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.limits import ANSWER_WRITES
from custom_components.homelab_monitor.client.tracking.events import HostEvent

from .scripted import CONNECTIVITY, Host
from .test_blueprints import note, notes, use  # noqa: F401 - a fixture
from .test_standstill import EVENTS, listen


def told(said: list[tuple[str, str]]) -> list[str]:
    """Return the types of the events, without what is shown again after a reload."""
    kinds = [what for entity_id, what in said if entity_id == EVENTS]
    return [kind for before, kind in zip([None, *kinds], kinds, strict=False) if kind != "unavailable" != before]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", ["service_failed", "host_offline"])
async def test_a_poll_that_ends_while_entities_go_loses_no_news(
    hass: HomeAssistant, host: Host, when: str, change: str
) -> None:
    """Those of a host with a crowd of items go in batches, and the one that tells may be the first or the last."""
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    await host.start()
    await host.move(70)
    said = listen(hass, EVENTS)
    real, gate = host.session.poll, asyncio.Event()

    async def held(*args: Any, **more: Any) -> Any:
        await gate.wait()
        return await real(*args, **more)

    host.session.poll = held  # type: ignore[method-assign]
    host.entry.runtime_data._schedule.start_over()
    task = hass.async_create_background_task(host.entry.runtime_data.async_refresh(), "poll")
    await asyncio.sleep(0)
    if change == "service_failed":
        units[0]["active_state"] = "failed"
    else:
        host.session.error = Unreachable("plain")
        host.freezer.tick(31)

    async def take_down(*args: Any) -> None:
        if when == "after":
            await async_take_down(*args)
        gate.set()
        await asyncio.wait({task})
        if when == "before":
            await async_take_down(*args)

    with patch("custom_components.homelab_monitor.async_take_down", take_down):
        assert await hass.config_entries.async_unload(host.entry.entry_id)
    host.session.poll = real  # type: ignore[method-assign]
    await host.start_again()
    await host.move(40)
    assert told(said) == [change]


async def test_what_ends_beside_the_polls_while_entities_go_is_reported_by_the_next_ones(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    await host.move(20)
    said = listen(hass, EVENTS)
    coordinator = host.entry.runtime_data
    coordinator.async_leave()
    coordinator.async_notify_listeners(HostEvent(type="update_failed", about={"reason": "upgrade_failed"}))
    assert told(said) == []
    await host.reload()
    await host.move(10)
    assert told(said) == ["update_failed"]


@pytest.mark.parametrize("is_reloaded", [False, True])
async def test_a_host_that_was_reported_to_be_gone_is_back_also_when_it_is_reloaded_before_anybody_listens(
    hass: HomeAssistant, host: Host, *, is_reloaded: bool
) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(100)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    hass.set_state(CoreState.not_running)
    host.session.error = None
    await host.start_again()
    await host.move(10)
    assert host.state(CONNECTIVITY) == "off"
    await hass.async_start()
    said = listen(hass, CONNECTIVITY, EVENTS)
    if is_reloaded:
        await host.reload()
        assert host.state(CONNECTIVITY) == "off"
    await host.move(20)
    assert [what for entity_id, what in said if entity_id == CONNECTIVITY][-2:] in (["off", "on"], ["on"])
    assert told(said)[-1] == "host_online"


async def test_polls_that_are_late_take_nothing_from_the_news_that_a_host_is_back(host: Host) -> None:
    """Bad Wi-Fi: the reason changes at each poll, and then the host is away for a moment."""
    await host.start()
    longest = 0
    for extra in range(0, 32, 2):
        for _ in range(20 if extra == 0 else 6):
            host.session.error = None
            await host.move(10)
            host.session.error = Unreachable("plain")
            await host.move(10)
        host.session.error = None
        await host.move(10 + extra)
        host.session.error = Unreachable("plain")
        while host.status != "offline":
            await host.move(1)
        assert host.state(CONNECTIVITY) == "off"
        host.session.error = None
        while host.status == "offline":
            await host.move(1)
        seconds = 0
        while host.state(CONNECTIVITY) == "off":
            await host.move(1)
            seconds += 1
        longest = max(longest, seconds)
    assert longest == 0


@pytest.mark.parametrize(("on", "off"), [(15, 45), (40, 40)])
async def test_the_last_state_of_a_host_that_flaps_is_right_within_seconds(host: Host, on: int, off: int) -> None:
    for unit in host.session.sections["services"]["units"]:
        unit["active_state"] = "active"
    await host.start()
    wrong = longest = 0
    for _ in range(60):
        for error, seconds in ((None, on), (Unreachable("plain"), off)):
            host.session.error = error
            for _ in range(seconds):
                await host.move(1)
                is_online = host.status in ("online", "late")
                is_right = (host.state(CONNECTIVITY) == "on") is is_online
                is_right &= (host.state("binary_sensor.plain_problem") == "off") is is_online
                wrong = 0 if is_right else wrong + 1
                longest = max(longest, wrong)
    assert longest <= ANSWER_WRITES[1]


async def test_open_repairs_say_the_new_name_of_a_host(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    host.session.document["missing"]["gpu"] = "permission_denied"
    await host.move(120)
    hass.config_entries.async_update_entry(host.entry, title="Storage")
    await hass.async_block_till_done()
    names = [each.translation_placeholders["name"] for each in ir.async_get(hass).issues.values() if each.active]
    assert set(names) == {"Storage"}


@pytest.mark.parametrize("name", ["service_failed", "gpu_telemetry_lost"])
async def test_blueprints_have_nothing_to_complain_of_in_other_events(
    hass: HomeAssistant,
    host: Host,
    notes: list[dict[str, Any]],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    await host.start()
    await use(hass, name, events=[EVENTS], actions=note(what="{{ host }}"))
    host.session.error = Unreachable("plain")
    await host.move(60)
    assert host.state(CONNECTIVITY) == "off"
    assert notes == []
    assert "Template variable" not in caplog.text
