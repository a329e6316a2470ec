"""Controls of services, containers and power: what may enter a command, who may run it, and what is said when not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
import shlex
import shutil

import pytest

from custom_components.homelab_monitor.client import control
from custom_components.homelab_monitor.client.command import CommandResult
from custom_components.homelab_monitor.client.control import (
    UNIT,
    PowerAction,
    RunAction,
    control_container,
    control_power,
    control_service,
)
from custom_components.homelab_monitor.client.errors import (
    ConnectionLost,
    ControlDenied,
    ControlFailed,
    EngineDenied,
    NoSuchContainer,
    NoSuchUnit,
    TimedOut,
    WouldLockOut,
)
from custom_components.homelab_monitor.client.models import Container
from custom_components.homelab_monitor.client.session import ProbeSession
from custom_components.homelab_monitor.client.ssh import Connection
from tests.machine import Machine
from tests.needs import needs
from tests.sshd import wait_for
from tests.systemctl import Systemctl, place

HOSTILE = (
    "$(reboot).service",
    "`reboot`.service",
    "web.service; reboot",
    "web.service\nreboot.service",
    "a'b.service",
    'a"b.service',
    "--force.service",
    "-H evil.service",
    ".service",
    "../web.service",
    "/etc/web.service",
    "*.service",
    "web?.service",
    "[a-z].service",
    "web",
    "web.socket",
    "web .service",
    "web\\.service",
    "web\\x2.service",
    "wéb.service",
    "web\x00.service",
    "a" * 250 + ".service",
    "",
)
GOOD = ("web.service", "backup@home.service", r"dev-disk\x2dby@2.service", "a:b_c.service", "1.service")
START, STOP, RESTART = RunAction


class ScriptedConnection:
    """Answers commands with what a test wrote; remembers what was asked."""

    def __init__(self, *answers: CommandResult | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def run(self, command: str, **_: object) -> CommandResult:
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(stdout: str = "", stderr: str = "", status: int | None = 0) -> CommandResult:
    return CommandResult(stdout, stderr, status)


LOADED = said("Id=web.service\nLoadState=loaded\n")
ROOT, SUDO, DOAS, NOBODY = (said(f"{words}\nsystemd\n") for words in ("uid=0", "uid=7\nsudo", "uid=7\ndoas", "uid=7"))
NOT_POLKIT = said(stderr="Failed to stop web.service: Interactive authentication required.", status=1)


@pytest.mark.parametrize("unit", HOSTILE)
async def test_a_name_that_is_no_unit_reaches_no_command(unit: str) -> None:
    connection = ScriptedConnection()
    with pytest.raises(NoSuchUnit):
        await control_service(connection, "nas", unit, STOP)
    assert connection.asked == []


@pytest.mark.parametrize("unit", GOOD)
async def test_a_unit_is_one_word_after_two_dashes(unit: str) -> None:
    connection = ScriptedConnection(said(f"Id={unit}\nLoadState=loaded\n"), ROOT, said())
    assert UNIT.fullmatch(unit)
    await control_service(connection, "nas", unit, RESTART)
    assert shlex.split(connection.asked[2]) == ["systemctl", "restart", "--", unit]
    assert shlex.split(connection.asked[0])[-2:] == ["--", unit]


@pytest.mark.parametrize(
    ("way", "prefix"),
    [
        (ROOT, "systemctl "),
        (SUDO, "env LC_ALL=C sudo -n -k -- systemctl "),
        (DOAS, "doas -n systemctl "),
        (NOBODY, "env LC_ALL=C systemctl --no-ask-password "),
    ],
)
async def test_the_way_to_root_is_the_one_that_the_host_has(way: CommandResult, prefix: str) -> None:
    connection = ScriptedConnection(LOADED, way, said())
    await control_service(connection, "nas", "web.service", STOP)
    assert connection.asked[2] == prefix + "stop -- web.service"


@pytest.mark.parametrize(
    "words",
    [
        "sudo: a password is required",
        "sudo-rs: interactive authentication is required",
        "Sorry, user mon is not allowed to execute '/usr/bin/systemctl stop -- web.service' as root on nas.",
        "mon is not in the sudoers file.",
        "doas: Operation not permitted",
    ],
)
async def test_who_may_not_is_told_so_with_what_would_have_to_be_allowed(words: str) -> None:
    connection = ScriptedConnection(LOADED, SUDO, said(stderr=words, status=1), NOT_POLKIT)
    with pytest.raises(ControlDenied) as raised:
        await control_service(connection, "nas", "web.service", STOP)
    assert raised.value.placeholders == {"host": "nas", "detail": words, "command": "systemctl stop -- web.service"}


async def test_polkit_may_let_a_user_do_what_sudo_does_not() -> None:
    connection = ScriptedConnection(LOADED, SUDO, said(stderr="sudo: a password is required", status=1), said())
    await control_service(connection, "nas", "web.service", STOP)
    assert not connection.answers


async def test_a_failure_keeps_the_words_of_systemd() -> None:
    words = "sudo: unable to resolve host nas\nJob for web.service failed.\nSee systemctl status"
    connection = ScriptedConnection(LOADED, SUDO, said(stderr=words, status=1))
    with pytest.raises(ControlFailed) as raised:
        await control_service(connection, "nas", "web.service", START)
    assert raised.value.detail == "Job for web.service failed."


async def test_what_the_host_does_not_have_is_not_tried() -> None:
    connection = ScriptedConnection(said("Id=web.service\nLoadState=not-found\n"))
    with pytest.raises(NoSuchUnit):
        await control_service(connection, "nas", "web.service", START)
    assert len(connection.asked) == 1


async def test_without_systemd_there_is_nothing_to_control() -> None:
    with pytest.raises(ControlFailed, match="systemctl: not found"):
        await control_service(ScriptedConnection(said(stderr="systemctl: not found", status=127)), "nas", GOOD[0], STOP)


@pytest.mark.parametrize("name", ["ssh.service", "sshd.service", "dropbear.service"])
async def test_the_ssh_server_is_not_stopped_but_may_be_restarted(name: str) -> None:
    told = said(f"Id={name}\nLoadState=loaded\n")
    with pytest.raises(WouldLockOut):
        await control_service(ScriptedConnection(told), "nas", "alias.service", STOP)
    await control_service(ScriptedConnection(told, ROOT, said()), "nas", name, RESTART)


# ---------------------------------------------------------------- containers


def container(name: str = "web", engine: str = "docker", owner: str = "root") -> Container:
    return Container(engine=engine, owner=owner, id="91ce74022074", name=name, state="running")


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            container(name)
            for name in ("", "-f", "--all", "a b", "$(id)", "a;id", "a\nid", "`id`", "a'b", "../x", "é", "*")
        ),
        container(owner="$(id)"),
        container(owner="-u"),
        container(owner=""),
        container(engine="sh"),
    ],
    ids=lambda each: f"{each.engine}/{each.owner}/{each.name}",
)
async def test_a_name_that_is_no_container_reaches_no_command(wrong: Container) -> None:
    connection = ScriptedConnection()
    with pytest.raises(NoSuchContainer):
        await control_container(connection, "nas", wrong, STOP)
    assert connection.asked == []


async def test_what_an_engine_says_is_told() -> None:
    for words, error in (
        ("permission denied while trying to connect to the Docker daemon socket", EngineDenied),
        ("Error: unable to connect to Podman socket: dial unix /run/p.sock: connect: permission denied", EngineDenied),
        ('Error response from daemon: failed to create task: exec: "/bin": permission denied: unknown', ControlFailed),
        ("Error response from daemon: No such container: web", ControlFailed),
        ("sh: docker: not found", ControlFailed),
    ):
        with pytest.raises(error) as raised:
            await control_container(ScriptedConnection(said(stderr=words, status=1)), "nas", container(), STOP)
        assert raised.value.detail == words


# ---------------------------------------------------------------- power


@pytest.mark.parametrize(
    ("tools", "shut_down", "restart"),
    [
        ("systemd shutdown poweroff", "systemctl poweroff", "systemctl reboot"),
        ("shutdown poweroff", "shutdown -h now", "shutdown -r now"),
        ("poweroff", "poweroff", "reboot"),
    ],
)
async def test_power_uses_what_the_host_has(tools: str, shut_down: str, restart: str) -> None:
    for action, command in ((PowerAction.SHUT_DOWN, shut_down), (PowerAction.RESTART, restart)):
        connection = ScriptedConnection(said(f"uid=7 sudo {tools}"), said())
        await control_power(connection, "nas", action)
        assert connection.asked[1] == "env LC_ALL=C sudo -n -k -- " + command


async def test_a_connection_that_ends_meanwhile_means_that_the_machine_goes_down() -> None:
    await control_power(ScriptedConnection(ROOT, ConnectionLost("nas")), "nas", PowerAction.SHUT_DOWN)
    with pytest.raises(ConnectionLost):
        await control_power(ScriptedConnection(ConnectionLost("nas")), "nas", PowerAction.SHUT_DOWN)


async def test_power_is_refused_clearly() -> None:
    denied = said(stderr="sudo: a password is required", status=1)
    with pytest.raises(ControlDenied):
        await control_power(ScriptedConnection(said("uid=7 sudo poweroff"), denied), "nas", PowerAction.RESTART)
    with pytest.raises(ControlFailed, match="neither"):
        await control_power(ScriptedConnection(said("uid=0")), "nas", PowerAction.RESTART)


# ---------------------------------------------------------------- a real sshd and a real sudo


@pytest.fixture
def machine(make_machine: Callable[[], Machine]) -> Machine:
    return make_machine()


@asynccontextmanager
async def logged_in(machine: Machine, username: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(machine.target_for(username), machine.key, machine.host_keys, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_rule_for_exactly_one_command_is_enough(machine: Machine) -> None:
    systemctl = Systemctl(machine)
    machine.add_user("mon")
    rule = machine.etc / "sudoers.d" / "mon"
    rule.write_text("mon ALL=(root) NOPASSWD: /usr/local/bin/systemctl stop -- web.service\n")
    rule.chmod(0o440)
    async with logged_in(machine, "mon") as connection:
        await control_service(connection, "nas", "web.service", STOP)
        with pytest.raises(ControlDenied) as denied:
            await control_service(connection, "nas", "web.service", START)
    assert denied.value.placeholders["command"] == "systemctl start -- web.service"
    assert systemctl.calls[0] == "root stop -- web.service"
    assert systemctl.state("web.service") == "inactive"


async def test_root_needs_no_sudo_and_others_may_have_polkit(machine: Machine) -> None:
    systemctl = Systemctl(machine)
    machine.add_user("mon")
    async with logged_in(machine, "root") as connection:
        await control_service(connection, "nas", "web.service", RESTART)
        with pytest.raises(ControlFailed, match="exited with error code"):
            await control_service(connection, "nas", "broken.service", START)
    systemctl.write("/run/polkit-allows")
    async with logged_in(machine, "mon") as connection:
        await control_service(connection, "nas", "web.service", STOP)
    assert systemctl.calls == [
        "root restart -- web.service",
        "root start -- broken.service",
        "mon --no-ask-password stop -- web.service",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh", "ksh"])
async def test_every_login_shell_hands_the_name_on_as_it_is(machine: Machine, shell: str) -> None:
    program = shutil.which(shell)
    needs(program, shell)
    systemctl = Systemctl(machine)
    machine.add_user("mon", sudo="NOPASSWD: ", shell=program)
    async with logged_in(machine, "mon") as connection:
        await control_service(connection, "nas", r"dev-disk\x2dby@2.service", STOP)
    assert systemctl.calls == [r"root stop -- dev-disk\x2dby@2.service"]


@pytest.mark.parametrize("shell", ["sh", "fish", "tcsh"])
async def test_an_engine_is_reached_at_the_socket_of_its_owner(machine: Machine, shell: str) -> None:
    program = shutil.which(shell)
    needs(program, shell)
    machine.add_user("mon", shell=program)
    uid = machine.run("id", "-u", "mon").strip()
    for name in ("docker", "podman"):
        place(machine, name, f'#!/bin/sh\necho "$(id -un) {name} $*" >>/run/calls; cat\n', "bin")
    machine.run("sh", "-c", "touch /run/calls; chmod 666 /run/calls")
    async with logged_in(machine, "mon") as connection:
        await control_container(connection, "nas", container(), RESTART)
        await control_container(connection, "nas", container("a.b-c_d", "podman"), STOP)
        await control_container(connection, "nas", container("db", "podman", "mon"), START)
        await control_container(connection, "nas", container("db", "docker", "4242"), START)
    assert machine.run("cat", "/run/calls").splitlines() == [
        "mon docker --host unix:///var/run/docker.sock restart -- web",
        "mon podman --url unix:///run/podman/podman.sock stop -- a.b-c_d",
        f"mon podman --url unix:///run/user/{uid}/podman/podman.sock start -- db",
        "mon docker --host unix:///run/user/4242/docker.sock start -- db",
    ]


async def test_power_on_a_machine_with_sudo(machine: Machine) -> None:
    machine.add_user("mon", sudo="NOPASSWD: ")
    for name in ("shutdown", "poweroff"):
        place(machine, name, f'#!/bin/sh\necho "$(id -un) {name} $*" >>/run/power\n')
    async with logged_in(machine, "mon") as connection:
        await control_power(connection, "nas", PowerAction.SHUT_DOWN)
    assert machine.run("cat", "/run/power") == "root shutdown -h now\n"


async def test_a_slow_stop_holds_up_no_poll(machine: Machine, make_session: Callable[..., ProbeSession]) -> None:
    systemctl = Systemctl(machine)
    session = make_session(machine, "root", timeout=5)
    await session.poll(["load"])
    async with session.aside() as connection:
        stopping = asyncio.create_task(control_service(connection, "nas", "slow.service", STOP))
        await wait_for(lambda: systemctl.calls)
        for _ in range(20):
            assert "load" in (await session.poll(["load"])).sections
        assert not stopping.done()
        assert systemctl.state("slow.service") == "active"
        systemctl.write("/run/release")
        await asyncio.wait_for(stopping, 10)
    assert systemctl.state("slow.service") == "inactive"


async def test_a_stop_that_takes_too_long_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    Systemctl(machine)
    monkeypatch.setattr(control, "RUN_SECONDS", dict.fromkeys(RunAction, 0.5))
    async with logged_in(machine, "root") as connection:
        with pytest.raises(TimedOut):
            await control_service(connection, "nas", "slow.service", STOP)
        assert (await connection.run("echo on", timeout=5)).stdout == "on\n"
