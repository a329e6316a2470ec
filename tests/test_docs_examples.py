"""The examples of the documentation: made into automations, and run over what happens to an automation."""

import asyncio
import logging
from pathlib import Path
import re
from typing import Any

from homeassistant.core import CoreState, HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import HOST_ID, Host, make_entry

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> dict[str, Any]:
    """Return all examples by the file and the number of their first line."""
    found: dict[str, Any] = {}
    for path in [README, *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            found[f"{path.stem}:{line}"] = parse_yaml(block[1])
    return found


EXAMPLES = examples()
AUTOMATIONS = {name: each for name, each in EXAMPLES.items() if "triggers" in each}
ACTIONS = {name: each for name, each in EXAMPLES.items() if "action" in each}


def watching(entity_id: str) -> list[str]:
    """Return the automations that an entity triggers."""
    return [name for name, each in AUTOMATIONS.items() if each["triggers"][0].get("entity_id") == entity_id]


OF_EVENTS = watching("event.nas_events")
OF_CONNECTIVITY = watching("binary_sensor.nas_connectivity")
AT_A_TIME = [name for name, each in AUTOMATIONS.items() if each["triggers"][0]["trigger"] == "time"]


def entry(**options: object) -> MockConfigEntry:
    return MockConfigEntry(domain=DOMAIN, title="nas", unique_id=HOST_ID, data=make_entry().data, options=options)


@pytest.fixture
def nas(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return the host of the examples, with services that are well and logs that may be read, not at once."""
    ask_aside = host.session.ask_aside

    async def ask_slowly(*sections, **options):
        for _ in range(20):
            await asyncio.sleep(0)
        return await ask_aside(*sections, **options)

    monkeypatch.setattr(host.session, "ask_aside", ask_slowly)
    host.entry = entry()
    units = host.session.sections["services"]["units"]
    units[0]["active_state"] = "active"
    units.append(units[0] | {"name": "web.service"})
    host.session.sections["logs"] = {"lines": ["it burns", "still"], "truncated": False}
    return host


@pytest.fixture
def sent(hass: HomeAssistant) -> list[str]:
    """Return the messages that are sent."""
    found: list[str] = []

    async def note(call) -> None:
        # As many a notifier does, which then tells nothing at all.
        assert call.data["message"]
        found.append(f"{call.data.get('title', '')} {call.data['message']}")

    hass.services.async_register("notify", "notify", note)
    return found


async def use(hass: HomeAssistant, name: str) -> None:
    assert await async_setup_component(hass, "automation", {"automation": [{"alias": "it", **AUTOMATIONS[name]}]})
    await hass.async_block_till_done()
    assert [state.state for state in hass.states.async_all("automation")] == ["on"]


def fail(host: Host, *which: int) -> None:
    for number in which:
        host.session.sections["services"]["units"][number]["active_state"] = "failed"


async def test_every_example_is_one_that_is_tried_here(hass: HomeAssistant) -> None:
    assert sorted(AUTOMATIONS) == sorted([*OF_EVENTS, *OF_CONNECTIVITY, *AT_A_TIME])
    assert len(OF_EVENTS) >= 2
    assert OF_CONNECTIVITY
    assert AT_A_TIME
    # What is neither shows what an action returns.
    rest = [each for name, each in EXAMPLES.items() if name not in AUTOMATIONS and name not in ACTIONS]
    answers = ({"rows"}, {"by_cpu"}, {"lines"})
    assert [each for each in rest if not any(answer <= each.keys() for answer in answers)] == []


@pytest.mark.parametrize("name", ACTIONS)
async def test_an_action_of_an_example_takes_what_it_is_given(hass: HomeAssistant, nas: Host, name: str) -> None:
    await nas.start()
    step = ACTIONS[name]
    cv.script_action(step)
    domain, _, action = step["action"].partition(".")
    hass.services.async_services()[domain][action].schema(step["data"])


@pytest.mark.parametrize("name", OF_EVENTS)
async def test_of_two_services_that_fail_at_once_each_is_reported_once(
    hass: HomeAssistant, nas: Host, sent: list[str], name: str
) -> None:
    await nas.start()
    await use(hass, name)
    fail(nas, 0, -1)
    await nas.move(35)
    assert len(sent) == 2
    assert "backup.service" in sent[0]
    assert "web.service" in sent[1]
    for _ in range(2):
        await nas.reload()
        await nas.move(35)
    assert len(sent) == 2


@pytest.mark.parametrize("name", OF_EVENTS)
async def test_what_failed_before_a_start_is_not_reported_again(
    hass: HomeAssistant, nas: Host, sent: list[str], name: str
) -> None:
    await nas.start()
    fail(nas, 0)
    await nas.move(35)
    assert await hass.config_entries.async_unload(nas.entry.entry_id)
    hass.set_state(CoreState.not_running)
    await use(hass, name)
    await nas.start_again()
    await nas.move(20)
    await hass.async_start()
    await nas.move(60)
    assert sent == []
    fail(nas, -1)
    await nas.move(35)
    assert len(sent) == 1


@pytest.mark.parametrize("name", [*OF_EVENTS, *OF_CONNECTIVITY])
async def test_a_host_that_is_deleted_and_added_again_reports_nothing_old_and_is_no_error(
    hass: HomeAssistant, nas: Host, sent: list[str], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    await nas.start()
    await use(hass, name)
    fail(nas, 0)
    await nas.move(35)
    count = len(sent)
    caplog.clear()
    assert await hass.config_entries.async_remove(nas.entry.entry_id)
    await hass.async_block_till_done()
    nas.entry = entry()
    await nas.start()
    await nas.move(60)
    assert hass.states.get("event.nas_events").attributes["event_type"] == "service_failed"
    assert len(sent) == count
    assert [each.message for each in caplog.records if each.name != "asyncio" and each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("log", [None, {"lines": [], "truncated": False}], ids=["refused", "empty"])
@pytest.mark.parametrize("name", OF_EVENTS)
async def test_a_service_whose_log_says_nothing_is_reported_as_well(
    hass: HomeAssistant, nas: Host, sent: list[str], name: str, log: dict[str, Any] | None
) -> None:
    del nas.session.sections["logs"]
    if log is None:
        nas.session.document["missing"]["logs"] = "permission_denied"
    else:
        nas.session.sections["logs"] = log
    await nas.start()
    await use(hass, name)
    fail(nas, 0)
    await nas.move(35)
    assert len(sent) == 1
    assert "backup.service" in sent[0]


async def test_the_log_is_sent_where_it_is_told(hass: HomeAssistant, nas: Host, sent: list[str]) -> None:
    (name,) = [each for each in OF_EVENTS if "get_log" in str(AUTOMATIONS[each])]
    await nas.start()
    await use(hass, name)
    fail(nas, 0)
    await nas.move(35)
    assert sent == ["backup.service failed it burns\nstill"]


@pytest.mark.parametrize("name", OF_CONNECTIVITY)
async def test_an_absence_is_reported_once_over_reloads_and_starts(
    hass: HomeAssistant, nas: Host, sent: list[str], name: str
) -> None:
    await nas.start()
    await use(hass, name)
    nas.session.error = Unreachable("plain")
    await nas.move(300, step=2)
    assert sent == []
    await nas.move(60, step=2)
    assert len(sent) == 1
    assert sent[0].endswith("offline: Cannot be reached")
    await nas.reload()
    await nas.move(400, step=5)
    assert len(sent) == 1
    assert await hass.config_entries.async_unload(nas.entry.entry_id)
    hass.set_state(CoreState.not_running)
    await nas.start_again()
    await hass.async_start()
    await nas.move(400, step=5)
    assert len(sent) == 1


@pytest.mark.parametrize("name", AT_A_TIME)
async def test_updates_are_reported_each_day(hass: HomeAssistant, nas: Host, sent: list[str], name: str) -> None:
    await nas.start()
    await use(hass, name)
    hass.states.async_set("sensor.nas_security_updates", "3")
    await hass.services.async_call("automation", "trigger", {"entity_id": "automation.it", "skip_condition": False})
    await hass.async_block_till_done()
    hass.states.async_set("sensor.nas_security_updates", "unavailable")
    await hass.services.async_call("automation", "trigger", {"entity_id": "automation.it", "skip_condition": False})
    await hass.async_block_till_done()
    assert sent == [" 3 security updates are pending on the NAS"]
    await hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=True)
