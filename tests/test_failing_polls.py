"""A host that answers nothing: no failing poll, and nothing that happens meanwhile, makes it look better."""

import random

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest

from custom_components.homelab_monitor.client.errors import (
    AnotherMachine,
    ConnectionLost,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginCut,
    LoginsLimited,
    NoGreeting,
    NoPython,
    TimedOut,
    Unreachable,
)

from .scripted import CONNECTIVITY, Host
from .test_standstill import EVENTS, answer_slowly, listen, stand_still

CHANGED = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")
ERRORS: tuple[HomelabError, ...] = (
    *(Unreachable("plain"), TimedOut("plain"), ConnectionLost("plain"), NoGreeting("plain"), LoginCut("plain")),
    *(LoginsLimited("plain"), KeyRefused("plain"), NoPython("plain"), CHANGED, AnotherMachine("plain")),
)
BACK = (CONNECTIVITY, "on"), (EVENTS, "host_online")


async def ask(hass: HomeAssistant) -> None:
    """Ask for a poll, as any automation may."""
    await hass.services.async_call("homeassistant", "update_entity", {"entity_id": CONNECTIVITY}, blocking=True)


@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "slow"])
@pytest.mark.parametrize("options", [{}, {"interval": 5}, {"interval": 300}, {"may_be_off": True}], ids=str)
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_but_an_answer_makes_a_host_that_is_off_look_online(
    hass: HomeAssistant, host: Host, seed: int, options: dict[str, object], *, is_slow: bool
) -> None:
    """Whatever kind of failure comes, however late our own timers are, whoever asks or raises an alarm."""
    dice = random.Random(f"{seed}{options}{is_slow}")
    await async_setup_component(hass, "homeassistant", {})
    await host.start(**options)
    await host.move(60, step=5)
    if is_slow:
        answer_slowly(host)
    coordinator = host.entry.runtime_data
    said = listen(hass, CONNECTIVITY, EVENTS)
    done = []
    is_off = False
    for _ in range(60):
        host.session.error = dice.choice(ERRORS)
        what = dice.choice(("pass", "pass", "stand still", "alarm", "beside", "ask"))
        done.append((what, host.session.error.key))
        match what:
            case "pass":
                await host.move(dice.choice((5, 30, 90, 600)), step=5)
            case "stand still":
                await stand_still(host, dice.choice((3, 12, 70, 700, 4000)))
            case "alarm":
                coordinator.async_alarm(dice.choice((CHANGED, AnotherMachine("plain"))))
                await hass.async_block_till_done()
            case "beside":
                await coordinator.async_poll_section("services")
            case "ask":
                await ask(hass)
        is_off = is_off or host.state(CONNECTIVITY) == "off"
        if is_off:
            assert host.state(CONNECTIVITY) == "off", done
    assert is_off
    assert not set(BACK) & set(said[said.index((CONNECTIVITY, "off")) :]), done
    host.session.error = None
    await coordinator.async_resume()
    assert host.state(CONNECTIVITY) == "on"


@pytest.mark.parametrize(("seconds", "interval"), [(70, 10), (600, 10), (130, 60), (700, 300)])
async def test_a_standstill_of_ours_makes_no_host_that_is_off_look_online(
    hass: HomeAssistant, host: Host, seconds: float, interval: int
) -> None:
    await host.start(interval=interval)
    await host.move(3 * interval, step=5)
    host.session.error = Unreachable("plain")
    await host.move(max(600, 6 * interval), step=5)
    assert host.state(CONNECTIVITY) == "off"
    said = listen(hass, CONNECTIVITY, EVENTS)
    await stand_still(host, seconds)
    await host.move(3 * interval, step=5)
    assert not set(BACK) & set(said)


async def test_who_answers_once_in_the_place_of_a_host_that_is_off_makes_it_look_no_better(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(600, step=5)
    said = listen(hass, CONNECTIVITY, EVENTS)
    host.entry.runtime_data.async_alarm(CHANGED)
    await host.move(300)
    assert (host.state(CONNECTIVITY), host.status) == ("off", "offline")
    assert not set(BACK) & set(said)


async def test_the_rest_after_an_alarm_is_no_standstill_of_ours(hass: HomeAssistant, host: Host) -> None:
    """A host that nobody has heard for days is an issue 15 minutes after it was found to be off."""
    await host.start()
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await stand_still(host, 3 * 86400)
    host.session.error = Unreachable("plain")
    await host.start_again()
    while host.state(CONNECTIVITY) == "on":
        await host.move(1)
    seconds = 0
    while not any("reachable" in issue for _, issue in ir.async_get(hass).issues):
        if seconds % 90 == 0 and seconds < 600:
            host.entry.runtime_data.async_alarm(CHANGED)
        await host.move(1)
        seconds += 1
        assert seconds < 1300
    # Polls are a minute apart by then.
    assert 890 <= seconds <= 965
