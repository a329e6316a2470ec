"""Actions that return data: processes and logs, requested beside the polls."""

from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockUser
import voluptuous as vol

from custom_components.homelab_monitor.client.errors import TimedOut, Unreachable
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import Host

TELLING = ("get_processes", "get_sockets", "get_log")
NAMES = {"get_log": {"service": "nginx.service"}}
PROCESSES = {
    "at": 1000.0,
    "total": 3,
    "complete": {"processes": True},
    "processes": [
        {"pid": 7, "name": "idle", "user": "mon", "memory_bytes": 9 << 20, "cpu_seconds": 1.0},
        {"pid": 8, "name": "busy", "user": "root", "memory_bytes": 5 << 20, "cpu_seconds": 1.0, "unit": "web.service"},
        {"pid": 9, "name": "small", "user": "root", "memory_bytes": 0, "cpu_seconds": 1.0},
    ],
}


async def ask(hass: HomeAssistant, host: Host, action: str, context: Context | None = None, **fields: Any) -> Any:
    fields = {"config_entry_id": host.entry.entry_id} | NAMES.get(action, {}) | fields
    fields = {name: value for name, value in fields.items() if value is not None}
    return await hass.services.async_call(DOMAIN, action, fields, blocking=True, return_response=True, context=context)


@pytest.fixture
async def busy(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host on which one process uses half a core."""
    rows = [row | {"state": "S", "threads": 1, "started_seconds": 60.0} for row in PROCESSES["processes"]]
    host.session.sections["processes"] = PROCESSES | {"processes": rows}
    answer = host.session.answer

    def answer_and_go_on(sections: Any) -> Any:
        reply = answer(sections)
        host.session.sections["processes"]["at"] += 2
        rows[1]["cpu_seconds"] += 1
        return reply

    monkeypatch.setattr(host.session, "answer", answer_and_go_on)
    await host.start()
    return host


async def test_processes_come_by_what_they_use(hass: HomeAssistant, busy: Host) -> None:
    asked = len(busy.session.asked)
    told = await ask(hass, busy, "get_processes", count=2)
    assert (told["total"], told["complete"]) == (3, {"processes": True})
    assert [row["name"] for row in told["by_cpu"]] == ["busy"]
    assert [row["name"] for row in told["by_memory"]] == ["idle", "busy"]
    row = told["by_cpu"][0]
    assert row.pop("started").startswith("20")
    assert row == {
        "pid": 8,
        "name": "busy",
        "user": "root",
        "state": "S",
        "cpu_percent": 50.0,
        "memory_bytes": 5 << 20,
        "threads": 1,
        "service": "web.service",
    }
    assert busy.session.asked_aside == [(("processes",), None, [])]
    assert len(busy.session.asked) == asked, "no poll waited for it, none was made for it"


SOCKETS = {
    "complete": {"sockets": True, "owners": False},
    "sockets": [
        {"protocol": "tcp", "address": "::", "port": 80, "families": ["ipv4", "ipv6"], "exposure": "all"}
        | {"process": "nginx", "pid": 7, "unit": "nginx.service"},
        {"protocol": "udp", "address": "0.0.0.0", "port": 67, "families": ["ipv4"], "exposure": "lan"}
        | {"interface": "virbr0"},
    ],
}


@pytest.mark.parametrize("sudo", [[], ["sockets"]])
async def test_sockets_are_reported_as_far_as_they_are_known(hass: HomeAssistant, host: Host, sudo: list[str]) -> None:
    host.session.sections["sockets"] = SOCKETS
    await host.start(sudo=sudo)
    told = await ask(hass, host, "get_sockets")
    assert told["complete"] == {"sockets": True, "owners": False}
    assert told["sockets"] == [
        {
            "protocol": "tcp",
            "address": "::",
            "port": 80,
            "families": ["ipv4", "ipv6"],
            "exposure": "all",
            "process": "nginx",
            "pid": 7,
            "service": "nginx.service",
        },
        SOCKETS["sockets"][1],
    ]
    assert host.session.asked_aside == [(("sockets",), None, sudo)]


async def test_a_log_is_asked_by_lines_and_name(hass: HomeAssistant, host: Host) -> None:
    host.session.sections["logs"] = {"lines": ["a", "b"], "truncated": True}
    await host.start()
    assert await ask(hass, host, "get_log", service="nginx", lines=7) == {"lines": ["a", "b"], "truncated": True}
    assert host.session.asked_aside == [(("logs",), {"logs": ["7 service nginx.service"]}, [])]


async def test_a_process_started_when_the_kernel_says_so_whatever_the_uptime_of_a_container(
    hass: HomeAssistant, busy: Host
) -> None:
    # lxcfs tells when the container began; processes are counted from the machine's boot.
    busy.session.sections["uptime"]["uptime_seconds"] = 30.0
    busy.session.sections["processes"]["at"] = 1_000_000.0
    for row in busy.session.sections["processes"]["processes"]:
        row["started_seconds"] = 1_000_004.0 - 20.0
    await busy.entry.runtime_data.async_refresh()
    row = (await ask(hass, busy, "get_processes", count=2))["by_memory"][0]
    age = (dt_util.utcnow() - dt_util.parse_datetime(row["started"], raise_on_error=True)).total_seconds()
    assert 15 <= age <= 25


async def test_a_containers_log_is_asked_by_its_key_and_processes_know_its_name(
    hass: HomeAssistant, busy: Host
) -> None:
    row = {"engine": "docker", "owner": "root", "id": "91ce74022074", "name": "web", "state": "running"}
    busy.session.document["missing"].pop("containers", None)
    busy.session.document["sections"] |= {
        "containers": {"at": 1.0, "engines": [], "containers": [row]},
        "logs": {"lines": ["hello"], "truncated": False},
    }
    busy.session.sections["processes"]["processes"][1]["container"] = "91ce74022074" + "0" * 52
    await busy.move(40)
    assert await ask(hass, busy, "get_log", service=None, container="web") == {"lines": ["hello"], "truncated": False}
    assert busy.session.asked_aside[-1] == (("logs",), {"logs": ["100 container docker/root/web"]}, [])
    assert (await ask(hass, busy, "get_processes"))["by_cpu"][0]["container"] == "web"
    # A user's control group that bears the id of root's container is none of it.
    busy.session.sections["processes"]["processes"][1]["unit"] = "user@1000.service"
    assert (await ask(hass, busy, "get_processes"))["by_cpu"][0]["container"] == "91ce74022074" + "0" * 52


async def test_one_log_is_asked_for(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with pytest.raises(ServiceValidationError) as raised:
        await ask(hass, host, "get_log", container="web")
    assert raised.value.translation_key == "named_twice"
    with pytest.raises(ServiceValidationError) as raised:
        await ask(hass, host, "get_log", service=None)
    assert raised.value.translation_key == "no_log_named"


@pytest.mark.parametrize(
    ("part", "said", "key", "words"),
    [
        ("missing", "permission_denied", "log_denied", "To read logs of services, a user has to be a member"),
        ("missing", "not_supported", "no_journal", "plain runs without systemd"),
        ("missing", "timed_out", "not_told", "plain did not return this data: timed_out"),
        ("errors", "it burns", "not_told", "plain did not return this data: it burns"),
    ],
)
async def test_what_is_not_reported_has_a_reason(  # noqa: PLR0913, PLR0917
    hass: HomeAssistant, host: Host, part: str, said: str, key: str, words: str
) -> None:
    host.session.document[part]["logs"] = said
    await host.start()
    with pytest.raises(HomeAssistantError) as raised:
        await ask(hass, host, "get_log")
    assert raised.value.translation_key == key
    assert words in str(raised.value)


async def test_the_next_try_after_a_refusal_logs_in_anew_once_a_minute_at_most(
    hass: HomeAssistant, host: Host, freezer: FrozenDateTimeFactory
) -> None:
    """The error says which group may read the log; who joins it is a member from the next login on."""
    host.session.document["missing"]["logs"] = "permission_denied"
    await host.start()
    logins = []
    for seconds in (0, 1, 1, 1, 60, 1):
        freezer.tick(seconds)
        with pytest.raises(HomeAssistantError):
            await ask(hass, host, "get_log")
        logins.append(host.session.disconnected)
    assert logins == [0, 1, 1, 1, 2, 2]
    del host.session.document["missing"]["logs"]
    host.session.sections["logs"] = {"lines": ["a"], "truncated": False}
    freezer.tick(61)
    for _ in range(2):
        assert (await ask(hass, host, "get_log"))["lines"] == ["a"]
        freezer.tick(61)
    assert host.session.disconnected == 3, "nothing was refused since"


@pytest.mark.parametrize(
    ("named", "words"), [("nope", "plain has no service called nope.service"), ("web", "no container called web")]
)
async def test_what_the_host_does_not_have_is_refused(hass: HomeAssistant, busy: Host, named: str, words: str) -> None:
    row = {"engine": "docker", "owner": "root", "id": "91ce74022074", "name": "web", "state": "running"}
    busy.session.document["missing"].pop("containers", None)
    busy.session.document["sections"] |= {"containers": {"at": 1.0, "engines": [], "containers": [row]}}
    busy.session.document["missing"]["logs"] = "not_installed"
    await busy.move(40)
    about = {"service": named} if named == "nope" else {"service": None, "container": named}
    with pytest.raises(ServiceValidationError) as raised:
        await ask(hass, busy, "get_log", **about)
    assert words in str(raised.value)


@pytest.mark.parametrize("unit", ["--file=/etc/shadow", "*", "a b", "a\nb", "$(id)", "../x"])
async def test_a_hostile_name_reaches_no_host(hass: HomeAssistant, host: Host, unit: str) -> None:
    await host.start()
    with pytest.raises(HomeAssistantError) as raised:
        await ask(hass, host, "get_log", service=unit)
    assert raised.value.translation_key == "no_such_unit"
    assert host.session.asked_aside == []


@pytest.mark.parametrize("lines", [0, 501, "many"])
async def test_lines_are_bounded(hass: HomeAssistant, host: Host, lines: Any) -> None:
    await host.start()
    with pytest.raises(vol.Invalid):
        await ask(hass, host, "get_log", lines=lines)


@pytest.mark.parametrize("action", TELLING)
async def test_only_administrators_are_told(
    hass: HomeAssistant, host: Host, hass_read_only_user: MockUser, action: str
) -> None:
    await host.start()
    with pytest.raises(Unauthorized):
        await ask(hass, host, action, Context(user_id=hass_read_only_user.id))
    assert host.session.asked_aside == []


@pytest.mark.parametrize("action", TELLING)
async def test_a_host_that_is_off_is_not_asked(hass: HomeAssistant, host: Host, action: str) -> None:
    host.session.error = Unreachable("plain")
    await host.start()
    with pytest.raises(ServiceValidationError) as raised:
        await ask(hass, host, action)
    assert raised.value.translation_key == "host_offline"


@pytest.mark.parametrize("action", TELLING)
async def test_a_host_that_fails_meanwhile_is_named(hass: HomeAssistant, host: Host, action: str) -> None:
    await host.start()
    host.session.error = TimedOut("plain", "no reply within 20 s")
    host.session.error.had_begun = True  # A question changes nothing, however far it came.
    with pytest.raises(HomeAssistantError) as raised:
        await ask(hass, host, action)
    assert str(raised.value) == "plain did not answer in time (no reply within 20 s)"
