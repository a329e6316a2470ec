"""Controls of services, containers and power: what may enter a command, who may run it, and what is said when not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
import re
import shlex
import shutil
import subprocess
from typing import cast

import asyncssh
import pytest

from custom_components.homelab_monitor.client.checks import remedies
from custom_components.homelab_monitor.client.checks.host_facts import Privilege
from custom_components.homelab_monitor.client.checks.privilege import Ways, read_ways, refusal_in
from custom_components.homelab_monitor.client.checks.remedies import Remedy, Where, run_remedy
from custom_components.homelab_monitor.client.control import control
from custom_components.homelab_monitor.client.control.control import (
    UNIT,
    PowerAction,
    RunAction,
    control_container,
    control_power,
    control_service,
    run_as_root,
)
from custom_components.homelab_monitor.client.errors import (
    AnotherMachine,
    ConnectionLost,
    ConnectionRefused,
    ControlDenied,
    ControlFailed,
    EngineDenied,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginCut,
    NoSuchContainer,
    NoSuchUnit,
    TimedOut,
    Unreachable,
    WouldLockOut,
)
from custom_components.homelab_monitor.client.models import Container
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport.command import CommandResult
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.between import Between
from tests.fake_host import Channel, FakeHost
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

    async def again(self) -> ScriptedConnection:
        if self.answers and isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)
        return self

    async def close(self) -> None:
        """Stay as it is."""


def said(stdout: str = "", stderr: str = "", status: int | None = 0) -> CommandResult:
    return CommandResult(stdout, stderr, status)


LOADED = said("Id=web.service\nLoadState=loaded\n")
ROOT, SUDO, DOAS, NOBODY = (
    said(f"{words}\n/usr/bin/systemctl\nsystemd\n") for words in ("uid=0", "uid=7\nsudo", "uid=7\ndoas", "uid=7")
)
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
    assert shlex.split(connection.asked[2]) == ["/usr/bin/systemctl", "restart", "--", unit]
    assert shlex.split(connection.asked[0])[-2:] == ["--", unit]


@pytest.mark.parametrize(
    ("way", "prefix"),
    [
        (ROOT, "/usr/bin/systemctl "),
        (SUDO, "env LC_ALL=C sudo -n -k -- /usr/bin/systemctl "),
        (DOAS, "doas -n /usr/bin/systemctl "),
        (NOBODY, "env LC_ALL=C /usr/bin/systemctl --no-ask-password "),
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
    noise = "-bash: warning: setlocale: LC_ALL: cannot change locale\n"
    connection = ScriptedConnection(LOADED, SUDO, said(stderr=noise + words, status=1), NOT_POLKIT)
    with pytest.raises(ControlDenied) as raised:
        await control_service(connection, "nas", "web.service", STOP)
    assert raised.value.placeholders == {
        "host": "nas",
        "detail": words,
        "command": "/usr/bin/systemctl stop -- web.service",
    }


async def test_polkit_may_let_a_user_do_what_sudo_does_not() -> None:
    connection = ScriptedConnection(LOADED, SUDO, said(stderr="sudo: a password is required", status=1), said())
    await control_service(connection, "nas", "web.service", STOP)
    assert not connection.answers


def test_words_like_those_of_sudo_are_a_refusal_only_with_its_exit_status() -> None:
    words = "sudo: a password is required"
    # Who ran would otherwise be run again in the next way.
    found = {status: refusal_in(said(stderr=words + "\n", status=status)) for status in (0, 1, 2, 5, None)}
    assert found == {0: "", 1: words, 2: "", 5: "", None: ""}


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


async def test_what_an_engine_says_is_reported() -> None:
    for words, error in (
        ("permission denied while trying to connect to the Docker daemon socket", EngineDenied),
        ("Error: unable to connect to Podman socket: dial unix /run/p.sock: connect: permission denied", EngineDenied),
        ('Error response from daemon: failed to create task: exec: "/bin": permission denied: unknown', ControlFailed),
        ("Error response from daemon: No such container: web", ControlFailed),
        ("sh: docker: not found", ControlFailed),
    ):
        # A shell that cannot find docker says nothing that is marked.
        noisy = said(stderr=words if words.startswith("sh: ") else f"WARNING: no swap\n{words}", status=1)
        with pytest.raises(error) as raised:
            await control_container(ScriptedConnection(noisy), "nas", container(), STOP)
        assert raised.value.detail == words


# ---------------------------------------------------------------- power


@pytest.mark.parametrize(
    ("tools", "shut_down", "restart"),
    [
        ("systemd /usr/bin/systemctl /sbin/shutdown", "/usr/bin/systemctl poweroff", "/usr/bin/systemctl reboot"),
        ("/sbin/shutdown /sbin/poweroff", "/sbin/shutdown -h now", "/sbin/shutdown -r now"),
        ("/sbin/poweroff /sbin/reboot /home/mon/reboot", "/sbin/poweroff", "/sbin/reboot"),
    ],
)
async def test_power_uses_what_the_host_has(tools: str, shut_down: str, restart: str) -> None:
    for action, command in ((PowerAction.SHUT_DOWN, shut_down), (PowerAction.RESTART, restart)):
        connection = ScriptedConnection(said(f"uid=7 sudo {tools}"), said())
        await control_power(connection, "nas", action)
        assert connection.asked[1] == "env LC_ALL=C sudo -n -k -- " + command


def cut_off() -> ConnectionLost:
    """Return the error of a connection that ended when a command surely ran."""
    cut = ConnectionLost("nas", "while a command ran")
    cut.had_begun = True
    return cut


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine that was told to go down be looked at for moments only."""
    monkeypatch.setattr(control, "_LOOKING_SECONDS", 1.0)
    monkeypatch.setattr(control, "_REST_SECONDS", 0.3)


BEFORE = said("uid=0 systemd /usr/bin/systemctl life=boot.17")
RUNNING, STOPPING = said("life=boot.17\nrunning"), said("life=boot.17\nstopping")
SILENT: list[HomelabError] = [ConnectionRefused("nas"), Unreachable("nas"), TimedOut("nas"), LoginCut("nas")]


@pytest.mark.parametrize(
    "seen",
    [
        [STOPPING],
        [RUNNING, STOPPING],
        [said("life=other.17\nstarting")],
        [said("life=boot.18\nrunning")],
        *([error] * 4 for error in SILENT),
        [RUNNING, *SILENT, *SILENT],
        [Unreachable("nas"), RUNNING, *SILENT, *SILENT],
    ],
)
async def test_a_machine_whose_connection_ended_is_down_when_it_says_so_or_stays_away(
    quick: None, seen: list[CommandResult | Exception]
) -> None:
    await control_power(ScriptedConnection(BEFORE, cut_off(), *seen), "nas", PowerAction.RESTART)


MOMENTS: list[list[CommandResult | Exception]] = [
    [*[RUNNING] * before, *[LoginCut("nas")] * silent] for before in range(1, 5) for silent in range(1, 4)
]
"""A machine that runs on, and somebody in between who cuts a few of its connections, the last ones too."""


@pytest.mark.parametrize(
    "seen",
    [
        [RUNNING] * 4,
        [said("life=boot.17\ndegraded")] * 4,
        [said("", status=127)] * 4,
        [ConnectionRefused("nas"), RUNNING, RUNNING, RUNNING],
        [KeyRefused("nas")] * 4,
        *([*answers, RUNNING, RUNNING] for answers in MOMENTS),
    ],
)
async def test_a_machine_that_still_answers_has_perhaps_not_got_the_command(
    quick: None, seen: list[CommandResult | Exception]
) -> None:
    with pytest.raises(ConnectionLost) as raised:
        await control_power(ScriptedConnection(BEFORE, cut_off(), *seen), "nas", PowerAction.SHUT_DOWN)
    assert raised.value.may_have_run


@pytest.mark.parametrize("before", [[], [RUNNING], [Unreachable("nas")]], ids=["first", "second", "after silence"])
@pytest.mark.parametrize("alarm", [AnotherMachine("nas"), HostKeyChanged("nas", expected="a", offered="b")], ids=str)
async def test_another_machine_that_answers_a_look_is_the_alarm_and_the_command_may_have_run(
    quick: None, alarm: HomelabError, before: list[CommandResult | Exception]
) -> None:
    connection = ScriptedConnection(BEFORE, cut_off(), *before, alarm, STOPPING)
    with pytest.raises(type(alarm)) as raised:
        await control_power(connection, "nas", PowerAction.SHUT_DOWN)
    assert raised.value.may_have_run
    assert connection.answers == [STOPPING], "it is not looked at any more"


async def test_a_refusal_that_was_cut_off_is_no_success(fake_host: FakeHost, quick: None) -> None:
    asked = asyncio.Event()

    async def refuse(_: FakeHost, channel: Channel) -> None:
        if channel.is_script:
            await channel.script()
            channel.write(b"uid=7 sudo systemd /usr/bin/systemctl")
            return
        asked.set()
        await asyncio.sleep(0.3)  # sudo takes its time.
        channel.process.stderr.write(b"sudo: a password is required\n")
        channel.process.exit(1)

    fake_host.behaviour = refuse
    async with Between(fake_host.port) as between:
        connection = await Connection.open(
            between.target(fake_host.target), fake_host.key, fake_host.host_keys, timeout=10
        )
        telling = asyncio.create_task(control_power(connection, "nas", PowerAction.SHUT_DOWN))
        await asked.wait()
        await asyncio.sleep(0.1)  # By now it is confirmed that something has begun.
        between.cut()
        with pytest.raises(ConnectionLost) as raised:
            await telling
        await connection.close()
    assert raised.value.may_have_run


async def test_a_question_that_is_cut_off_shuts_nothing_down() -> None:
    with pytest.raises(ConnectionLost) as raised:
        await control_power(ScriptedConnection(cut_off()), "nas", PowerAction.SHUT_DOWN)
    assert not raised.value.may_have_run


async def test_a_command_that_is_kept_from_the_host_is_no_success(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(_: FakeHost, channel: Channel) -> None:
        assert channel.is_script, "nothing else reaches the host"
        await channel.script()
        channel.write(b"uid=0 systemd /usr/bin/systemctl")

    def cut(process: asyncssh.SSHServerProcess[bytes], command: str) -> bool:
        """Be somebody in between, who sees a channel open and lets nothing more through."""
        return answer(process, command) if command.endswith(" sh") else not fake_host.abort_connections()

    fake_host.behaviour, answer = tell, asyncssh.SSHServerProcess.exec_requested
    monkeypatch.setattr(asyncssh.SSHServerProcess, "exec_requested", cut)
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=10)
    with pytest.raises(ConnectionLost) as raised:
        await control_power(connection, "nas", PowerAction.SHUT_DOWN)
    assert raised.value.may_have_run, "only its answer may have been lost"
    assert len(fake_host.commands) == 1
    await connection.close()


@pytest.mark.parametrize("asked", [(), (ROOT,)])
async def test_a_connection_that_ends_before_the_command_runs_means_nothing_of_the_kind(asked: tuple) -> None:
    with pytest.raises(ConnectionLost):
        await control_power(ScriptedConnection(*asked, ConnectionLost("nas")), "nas", PowerAction.SHUT_DOWN)


async def test_power_is_refused_clearly() -> None:
    denied = said(stderr="sudo: a password is required", status=1)
    with pytest.raises(ControlDenied) as raised:
        await control_power(
            ScriptedConnection(said("uid=7 sudo /sbin/poweroff /sbin/reboot"), denied), "nas", PowerAction.RESTART
        )
    assert raised.value.placeholders["command"] == '/sbin/reboot ""', "a rule without these would allow any argument"
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
    rule.write_text("mon ALL=(root) NOPASSWD: /usr/bin/systemctl stop -- web.service\n")
    rule.chmod(0o440)
    async with logged_in(machine, "mon") as connection:
        await control_service(connection, "nas", "web.service", STOP)
        with pytest.raises(ControlDenied) as denied:
            await control_service(connection, "nas", "web.service", START)
    assert denied.value.placeholders["command"] == "/usr/bin/systemctl start -- web.service"
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
async def test_roots_engine_is_reached_at_its_socket(machine: Machine, shell: str) -> None:
    program = shutil.which(shell)
    needs(program, shell)
    machine.add_user("mon", shell=program)
    for name in ("docker", "podman"):
        place(machine, name, f'#!/bin/sh\necho "$(id -un) {name} $*" >>/run/calls; cat\n', "bin")
    machine.run("sh", "-c", "touch /run/calls; chmod 666 /run/calls")
    async with logged_in(machine, "mon") as connection:
        await control_container(connection, "nas", container(), RESTART)
        await control_container(connection, "nas", container("a.b-c_d", "podman"), STOP)
    assert machine.run("cat", "/run/calls").splitlines() == [
        "mon docker --host unix:///var/run/docker.sock restart -- web",
        "mon podman --url unix:///run/podman/podman.sock stop -- a.b-c_d",
    ]


ENGINE = """
import os, socketserver, sys

path, uid = sys.argv[1], int(sys.argv[2])
log = open("/run/calls", "a", buffering=1)
os.makedirs(os.path.dirname(path), exist_ok=True)
os.chown(os.path.dirname(path), uid, uid)
os.setgid(uid)
os.setuid(uid)
os.umask(0)


class Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode()
        while self.rfile.readline().strip():
            pass
        log.write(f"{os.getuid()} {line}")
        answer = next((words for name, words in ANSWERS.items() if f"/{name}/" in line), "204 No Content\\r\\n\\r\\n")
        self.wfile.write(f"HTTP/1.1 {answer}".encode())


gone = '{"message": "No such container: gone"}'
ANSWERS = {
    "gone": f"404 Not Found\\r\\nContent-Length: {len(gone)}\\r\\n\\r\\n{gone}",
    "off": "304 Not Modified\\r\\n\\r\\n",
    "mad": "500 \\x1b[31mno\\r\\nContent-Length: 99999999\\r\\n\\r\\n" + "x" * 99999,
}
with socketserver.ThreadingUnixStreamServer(path, Conversation) as server:
    print("listening", flush=True)
    server.serve_forever()
"""
"""Stands in for an engine: `python3 -c ENGINE SOCKET UID` notes in /run/calls whom it was asked as for what."""
VAULT = """
import os, socket, sys

end = socket.socket(socket.AF_UNIX)
end.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o600)
end.listen(8)
print("listening", flush=True)
while True:
    end.accept()
    open("/run/calls", "a").write("connected\\n")
"""
"""Stands in for a socket by which systemd starts a service of root's, as soon as somebody connects."""
EVE = 4242
SWAP = """
import ctypes, os, sys

one, other, uid = sys.argv[1].encode(), sys.argv[2].encode(), int(sys.argv[3])
os.setgid(uid)
os.setuid(uid)
print("swapping", flush=True)
while True:
    ctypes.CDLL(None).renameat2(-100, one, -100, other, 2)
"""
"""Swaps two names for each other without an end, as their owner: renameat2(2) with RENAME_EXCHANGE."""


@pytest.fixture
def engines(machine: Machine) -> Iterator[Callable[..., None]]:
    """Return a function that starts an engine of somebody's."""
    started: list[subprocess.Popen[str]] = []

    def start(*argv: str) -> None:
        started.append(machine.spawn("python3", "-c", *argv))
        pipe = started[-1].stdout
        assert pipe is not None
        assert pipe.readline()

    machine.run("sh", "-c", "touch /run/calls; chmod 666 /run/calls")
    yield start
    for process in started:
        process.kill()
        process.communicate()


def calls(machine: Machine) -> list[str]:
    """Return what the engines were asked for."""
    return machine.run("cat", "/run/calls").splitlines()


@pytest.mark.parametrize("shell", ["sh", "fish", "tcsh"])
async def test_a_users_engine_is_asked_where_it_listens(
    machine: Machine, engines: Callable[..., None], shell: str
) -> None:
    program = shutil.which(shell)
    needs(program, shell)
    machine.add_user("mon", shell=program)
    uid = machine.run("id", "-u", "mon").strip()
    engines(ENGINE, f"/run/user/{uid}/podman/podman.sock", uid)
    engines(ENGINE, f"/run/user/{EVE}/docker.sock", str(EVE))
    async with logged_in(machine, "mon") as connection:
        await control_container(connection, "nas", container("db", "podman", "mon"), START)
        await control_container(connection, "nas", container("a.b-c_d", "docker", str(EVE)), RESTART)
        await control_container(connection, "nas", container("off", "docker", str(EVE)), STOP)
    assert calls(machine) == [
        f"{uid} POST /containers/db/start HTTP/1.1",
        f"{EVE} POST /containers/a.b-c_d/restart HTTP/1.1",
        f"{EVE} POST /containers/off/stop HTTP/1.1",
    ]


async def test_what_a_users_engine_says_is_reported(machine: Machine, engines: Callable[..., None]) -> None:
    engines(ENGINE, f"/run/user/{EVE}/docker.sock", str(EVE))
    async with logged_in(machine, "root") as connection:
        for name, words in (("gone", "No such container: gone"), ("mad", "no")):
            with pytest.raises(ControlFailed, match=words) as raised:
                await control_container(connection, "nas", container(name, "docker", str(EVE)), STOP)
            assert "\x1b" not in raised.value.detail
            assert len(raised.value.detail) < 300
        with pytest.raises(ControlFailed, match="No such file"):
            await control_container(connection, "nas", container("db", "podman", str(EVE)), STOP)
    machine.add_user("mon")
    machine.run("chmod", "600", f"/run/user/{EVE}/docker.sock")
    async with logged_in(machine, "mon") as connection:
        with pytest.raises(EngineDenied):
            await control_container(connection, "nas", container("db", "docker", str(EVE)), STOP)


LEADS = (
    "ln -s /run/docker.sock $folder/docker.sock",
    "ln /run/docker.sock $folder/docker.sock",
    "touch $folder/docker.sock; mount --bind /run/docker.sock $folder/docker.sock",
    "rmdir $folder; ln -s /run $folder",
)


@pytest.mark.parametrize("lead", LEADS)
async def test_what_a_user_puts_in_place_of_a_socket_leads_to_nobody_elses_engine(
    machine: Machine, engines: Callable[..., None], lead: str
) -> None:
    place(machine, "docker", '#!/bin/sh\necho "$*" >>/run/calls\n', "bin")
    engines(ENGINE, "/run/docker.sock", "0")
    machine.run("sh", "-c", f"folder=/run/user/{EVE}; mkdir -p $folder; chown {EVE} $folder; {lead}")
    async with logged_in(machine, "root") as connection:
        with pytest.raises(ControlFailed, match=r"of user 0|Not a directory"):
            await control_container(connection, "nas", container(owner=str(EVE)), STOP)
    assert calls(machine) == []


@pytest.mark.parametrize("owner", ["0", str(EVE)])
@pytest.mark.parametrize("lead", LEADS)
async def test_what_a_user_puts_in_place_of_a_socket_starts_nothing_of_roots(
    machine: Machine, engines: Callable[..., None], lead: str, owner: str
) -> None:
    engines(VAULT, "/run/docker.sock")
    own = f"chown -h {owner} $folder" + ("/docker.sock" if "ln -s /run/docker.sock" in lead else "")
    machine.run("sh", "-c", f"folder=/run/user/{EVE}; mkdir -p $folder; chown {EVE} $folder; {lead}; {own}")
    async with logged_in(machine, "root") as connection:
        with pytest.raises(ControlFailed):
            await control_container(connection, "nas", container(owner=str(EVE)), STOP)
    assert calls(machine) == []


async def test_a_user_who_swaps_the_socket_all_the_time_starts_nothing_of_roots(
    machine: Machine, engines: Callable[..., None]
) -> None:
    folder = f"/run/user/{EVE}"
    engines(VAULT, "/run/docker.sock")
    engines(ENGINE, f"{folder}/docker.sock", str(EVE))
    machine.run("ln", "-s", "/run/docker.sock", f"{folder}/evil")
    machine.run("chown", "-h", f"{EVE}:{EVE}", f"{folder}/evil", f"{folder}/docker.sock")
    engines(SWAP, f"{folder}/docker.sock", f"{folder}/evil", str(EVE))
    async with logged_in(machine, "root") as connection:
        for _ in range(20):
            with suppress(ControlFailed):
                await control_container(connection, "nas", container(owner=str(EVE)), STOP)
    assert "connected" not in calls(machine)


async def test_a_user_who_swaps_the_socket_all_the_time_stops_nothing_of_roots(
    machine: Machine, engines: Callable[..., None]
) -> None:
    folder = f"/run/user/{EVE}"
    place(machine, "docker", '#!/bin/sh\necho "$(readlink -f ${2#unix://}) POST" >>/run/calls\n', "bin")
    engines(ENGINE, "/run/docker.sock", "0")
    engines(ENGINE, f"{folder}/docker.sock", str(EVE))
    machine.run("ln", "-s", "/run/docker.sock", f"{folder}/evil")
    machine.run("chown", "-h", f"{EVE}:{EVE}", f"{folder}/evil", f"{folder}/docker.sock")
    engines(SWAP, f"{folder}/docker.sock", f"{folder}/evil", str(EVE))
    refused = 0
    async with logged_in(machine, "root") as connection:
        for _ in range(40):
            try:
                await control_container(connection, "nas", container(owner=str(EVE)), STOP)
            except ControlFailed:
                refused += 1
    assert {call.split(" POST")[0] for call in calls(machine)} == {str(EVE)}
    assert len(calls(machine)) + refused == 40
    assert refused, "the link was never met"


async def test_power_on_a_machine_with_sudo(machine: Machine) -> None:
    machine.add_user("mon", sudo="NOPASSWD: ")
    needs(Path("/sbin/shutdown").exists(), "a shutdown that can be covered")
    place(machine, "stand-in", '#!/bin/sh\necho "$(id -un) ${0##*/} $*" >>/run/power\n')
    # Where it is a link to systemctl, that is covered: the real one must not be reached, whatever goes wrong.
    machine.run("mount", "--bind", "/usr/local/sbin/stand-in", "/sbin/shutdown")
    async with logged_in(machine, "mon") as connection:
        await control_power(connection, "nas", PowerAction.SHUT_DOWN)
    assert machine.run("cat", "/run/power") == "root shutdown -h now\n"


@pytest.mark.parametrize("is_down", [True, False])
async def test_a_real_server_that_is_cut_off_is_looked_at_again(
    machine: Machine, quick: None, *, is_down: bool
) -> None:
    needs(Path("/sbin/shutdown").exists(), "a shutdown that can be covered")
    place(machine, "stand-in", "#!/bin/sh\necho told >>/run/power\nexec sleep 5\n")
    machine.run("mount", "--bind", "/usr/local/sbin/stand-in", "/sbin/shutdown")
    machine.run("touch", "/run/power")
    async with Between(machine.port) as between:
        connection = await Connection.open(
            between.target(machine.target_for("root")), machine.key, machine.host_keys, timeout=10
        )
        telling = asyncio.create_task(control_power(connection, "nas", PowerAction.SHUT_DOWN))
        await wait_for(lambda: machine.run("cat", "/run/power"))
        _ = between.stop() if is_down else between.cut()
        if is_down:
            await telling
        else:
            with pytest.raises(ConnectionLost) as raised:
                await telling
            assert raised.value.may_have_run
        await connection.close()


async def test_what_distinguishes_two_lives_of_a_machine_is_read_as_any_user(machine: Machine) -> None:
    machine.add_user("mon")
    async with logged_in(machine, "mon") as connection:
        first, second = await read_ways(connection), await read_ways(connection)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first.life == second.life
    assert re.fullmatch(rf"life={boot_id}\.\d+", first.life)


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


class Refusing:
    """A connection on which every way to become root takes its time, and is refused."""

    def __init__(self, seconds: float) -> None:
        """Begin without any question."""
        self.seconds = seconds
        self.limits: list[float] = []

    async def run(self, command: str, *, timeout: float, **_: object) -> CommandResult:  # noqa: ASYNC109
        """Refuse in the words of who was asked."""
        self.limits.append(timeout)
        await asyncio.sleep(self.seconds)
        words = {"env": "sudo: a password is required", "doas": "doas: Authorization required"}
        said = words[command.partition(" ")[0]] if "--no-ask" not in command else "Access denied"
        return CommandResult(stdout="", stderr=said, exit_status=1)


async def test_all_ways_to_become_root_have_one_limit_together() -> None:
    for words in ((), ("sudo-rs",)):
        ways, connection = Ways((Privilege.SUDO, Privilege.DOAS), frozenset(words)), Refusing(0.3)
        with pytest.raises(ControlDenied):
            await run_as_root(cast("Connection", connection), "nas", ways, ("/usr/bin/systemctl", "stop"), 2.0)
        assert connection.limits == [2.0, pytest.approx(1.7, abs=0.15), pytest.approx(1.4, abs=0.25)]


async def test_a_repair_with_a_password_takes_no_longer_than_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ways(_connection: object) -> Ways:
        await asyncio.sleep(0)
        return Ways((Privilege.SUDO, Privilege.DOAS))

    monkeypatch.setattr(remedies, "read_ways", ways)
    connection, remedy = Refusing(0.3), Remedy(key="x", where=Where.HOST, commands=("true",))
    await run_remedy(cast("Connection", connection), remedy, "secret", timeout=2.0)
    assert connection.limits == [2.0, pytest.approx(1.7, abs=0.15), pytest.approx(1.4, abs=0.25)]
