"""A server that limits logins: it is spared, and whoever only says its words keeps no host away for long.

OpenSSH says them in plain text, before it has proven anything, so that anybody in between can say them as well.
"""

from itertools import pairwise

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest

from custom_components.homelab_monitor.client.errors import HomelabError, KeyRefused, LoginsLimited, NoGreeting

from .scripted import CONNECTIVITY, Host
from .test_coordinator import ask_for_updates
from .test_standstill import EVENTS, listen

LINE = LoginsLimited("plain", "Exceeded MaxStartups")
CLOSED = NoGreeting("plain", "it ended the connection without an SSH greeting")


def proven() -> LoginsLimited:
    """Return the error of a server that has said it over a connection on which it had proven its key."""
    error = LoginsLimited("plain", "Later")
    error.server_version = "SSH-2.0-made_up"
    return error


async def answer(host: Host, *answers: HomelabError) -> None:
    """Let the next polls meet somebody else; wait until they have."""
    for error in answers:
        host.session.error = error
        before = len(host.session.asked)
        seconds = 0
        while len(host.session.asked) == before:
            await host.move(1)
            seconds += 1
            assert seconds < 700
    host.session.error = None


async def rests(host: Host, seconds: int) -> list[int]:
    """Return after how many seconds the host is asked again and again, from its last poll on."""
    asked = [0, *[second for second in range(1, seconds + 1) if await host.polls(1)]]
    return [later - sooner for sooner, later in pairwise(asked)]


@pytest.mark.parametrize("options", [{}, {"interval": 5}, {"interval": 60}, {"interval": 300}], ids=str)
@pytest.mark.parametrize("error", [LINE, CLOSED], ids=lambda each: each.key)
async def test_a_line_that_nobody_has_proven_makes_no_host_offline(
    hass: HomeAssistant, host: Host, error: HomelabError, options: dict[str, int]
) -> None:
    await host.start(**options)
    await host.move(40)
    said = listen(hass, CONNECTIVITY, EVENTS)
    await answer(host, error)
    assert host.status == "late"
    await host.move(options.get("interval", 10) + 12)
    assert host.status == "online"
    assert set(said) <= {(CONNECTIVITY, "on")}


@pytest.mark.parametrize("may_be_off", [False, True])
@pytest.mark.parametrize("seconds", [60, 600, 3600])
async def test_who_has_said_it_for_long_is_forgotten_two_minutes_after_they_have_gone(
    host: Host, seconds: int, *, may_be_off: bool
) -> None:
    await host.start(may_be_off=may_be_off)
    await host.move(20)
    host.session.error = LINE
    await host.move(seconds, step=5)
    assert (host.status, host.reason) == ("offline", "logins_limited")
    host.session.error = None
    await host.move(121)
    assert host.status == "online"


async def test_a_server_that_says_it_is_asked_every_two_minutes_in_the_end(host: Host) -> None:
    """MaxStartups is about others, and what sshd drops before it has forked it counts for nobody."""
    await host.start()
    await answer(host, LINE)
    host.session.error = LINE
    spaced = await rests(host, 1200)
    assert spaced[:2] == [10, 10], "while the host is only late"
    assert sum(spaced[:6]) >= 235, "each may come a second sooner: polls are spread over the second"
    assert all(rest in range(119, 123) for rest in spaced[6:])
    host.session.error = CLOSED
    await answer(host, CLOSED)
    host.session.error = CLOSED
    assert all(rest in range(119, 123) for rest in await rests(host, 600)), "not every one can still say so"


@pytest.mark.parametrize("first", [KeyRefused("plain"), proven()], ids=["refused", "limited"])
@pytest.mark.parametrize("then", [LINE, CLOSED], ids=lambda each: each.key)
async def test_a_server_that_has_proven_its_refusal_is_asked_after_30_seconds_2_5_and_10_minutes(
    hass: HomeAssistant, host: Host, first: HomelabError, then: HomelabError
) -> None:
    """It penalizes us for it (PerSourcePenalties of sshd_config(5)), and so may others that watch its log."""
    await async_setup_component(hass, "homeassistant", {})
    await host.start()
    is_refusal = isinstance(first, KeyRefused)
    await answer(host, first)
    await answer(host, then)
    host.session.error = then
    spaced = await rests(host, 2000)
    expected = [30, 120, 300, 600, 600] if is_refusal else [120, 300, 600, 600]
    assert all(abs(rest - wanted) <= 2 for rest, wanted in zip(spaced, expected, strict=False)), spaced
    assert len(spaced) in (len(expected) - 1, len(expected))
    assert await ask_for_updates(host, 1200) in (1, 2), "as many as without asking"
    host.session.error = None
    await host.move(601)
    assert host.status == "online"
    # One that has let us in since begins anew.
    await answer(host, LINE)
    await host.move(12)
    assert host.status == "online"
