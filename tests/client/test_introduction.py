"""Who answers, as real servers and the real programs say it: by the probe, and where no probe is wanted."""

import asyncio
from collections.abc import Callable
import json
from pathlib import Path

import pytest

from custom_components.homelab_monitor.client.errors import AnotherMachine, ConnectionLost, TimedOut
from custom_components.homelab_monitor.client.probe import start
from custom_components.homelab_monitor.client.probe.programs import INTERPRETERS, load_programs
from custom_components.homelab_monitor.client.probe.start import ask_who
from custom_components.homelab_monitor.client.tracking.identity import machine_of
from custom_components.homelab_monitor.client.transport.ssh import Connection, Introduction
from tests import fake_host as fake
from tests.fake_host import FakeHost
from tests.sshd import Sshd

MACHINE_ID = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
SECONDS = 10.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the files of a machine that has an id."""
    folder = tmp_path / "machine"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "machine-id").write_text(f"{MACHINE_ID}\n")
    recorded = {"uname": ["cloudy", "6.8.0", "x86_64"], "clocks": {"boottime": 1000.0, "epoch": 1760000000.0}}
    (folder / ".host.json").write_text(json.dumps(recorded))
    return folder


async def meant(server: Sshd | FakeHost, machine: str) -> Connection:
    """Return a connection that is to lead to that machine."""
    programs = load_programs()

    async def ask(connection: Connection) -> None:
        await ask_who(connection, programs, SECONDS)

    introduction = Introduction(machine, ask)
    return await Connection.open(
        server.target, server.key, server.host_keys, timeout=SECONDS, introduction=introduction
    )


async def told(make_sshd: Callable[..., Sshd], make_session: Callable[..., object], place: Path) -> tuple[Sshd, str]:
    """Return a server, and what its probe says of its machine."""
    server = make_sshd(f"MaxSessions 1\nSetEnv HOMELAB_MONITOR_ROOT={place}")
    session = make_session(server, programs=load_programs())
    system = (await session.poll(["system"])).sections["system"]
    assert session.machine == machine_of(system)
    await session.close()
    return server, session.machine


async def test_marker_section_and_the_small_program_say_the_same(
    make_sshd: Callable[..., Sshd], make_session: Callable[..., object], place: Path
) -> None:
    server, machine = await told(make_sshd, make_session, place)
    assert len(machine) == 32
    assert machine != MACHINE_ID, "the id itself stays where it is"
    # One channel is all that it allows: the program must have gone before the command comes.
    for _ in range(5):
        connection = await meant(server, machine)
        assert (await connection.run("echo well", timeout=SECONDS)).stdout == "well\n"
        assert (await connection.run("cat", stdin=b"again", timeout=SECONDS)).stdout == "again"
        await connection.close()
    other = await meant(server, OTHER)
    for _ in range(2):
        with pytest.raises(AnotherMachine):
            await other.run(f"touch {place}/ran", timeout=SECONDS)
    await other.close()
    assert not (place / "ran").exists()
    assert sorted(path.name for path in place.iterdir()) == [".host.json", "etc"], "and nothing is left there"


async def test_a_machine_without_an_id_is_let_in(
    make_sshd: Callable[..., Sshd], make_session: Callable[..., object], place: Path
) -> None:
    (place / "etc" / "machine-id").write_text("uninitialized\n")
    server, machine = await told(make_sshd, make_session, place)
    assert machine == ""
    connection = await meant(server, OTHER)
    assert (await connection.run("echo well", timeout=SECONDS)).stdout == "well\n"
    await connection.close()


async def test_a_machine_without_python_can_be_repaired(
    make_sshd: Callable[..., Sshd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "INTERPRETERS", tuple(f"/nowhere{name}" for name in INTERPRETERS))
    connection, asked, programs = await meant(make_sshd(), OTHER), [], load_programs()

    async def ask(it: Connection) -> None:
        asked.append(it)
        await ask_who(it, programs, SECONDS)

    connection._introduction = Introduction(OTHER, ask)
    for _ in range(2):
        assert (await connection.run("echo well", timeout=SECONDS)).stdout == "well\n"
    assert len(asked) == 1
    await connection.close()


async def test_many_commands_at_once_ask_once(fake_host: FakeHost) -> None:
    async def answers(host: FakeHost, channel: fake.Channel) -> None:
        if channel.process.command != "true":
            await fake.honest(host, channel)

    fake_host.behaviour = answers
    fake_host.sections["system"] = {"machine_id_hash": OTHER}
    connection = await meant(fake_host, OTHER)
    await asyncio.gather(*(connection.run("true", timeout=SECONDS) for _ in range(5)))
    assert sorted(command == "true" for command in fake_host.commands) == [False, *[True] * 5]
    await connection.close()


@pytest.mark.parametrize(("behaviour", "error"), [(fake.never, TimedOut), (None, ConnectionLost)])
async def test_who_does_not_say_it_gets_no_command_and_nothing_may_have_run(
    fake_host: FakeHost, behaviour: fake.Behaviour | None, error: type[Exception]
) -> None:
    async def cut(host: FakeHost, _: fake.Channel) -> None:
        host.abort_connections()

    fake_host.behaviour = behaviour or cut
    connection = await meant(fake_host, OTHER)
    connection._introduction = Introduction(OTHER, lambda it: ask_who(it, load_programs(), 0.5))
    with pytest.raises(error) as raised:
        await connection.run("reboot", timeout=SECONDS)
    assert not raised.value.may_have_run
    assert "reboot" not in fake_host.commands
    await connection.close()


async def trickles(_: FakeHost, channel: fake.Channel) -> None:
    """Let a program get nearer without end, as each interpreter would."""
    channel.write(b"\x1ehomelab_monitor program\n")
    await asyncio.sleep(3600)


async def test_a_commands_time_is_for_all_of_it_the_question_who_answers_included(fake_host: FakeHost) -> None:
    fake_host.behaviour = trickles
    connection = await meant(fake_host, OTHER)
    async with asyncio.timeout(8):
        with pytest.raises(TimedOut) as raised:
            await connection.run("reboot", timeout=1.0)
    assert not raised.value.may_have_run
    assert "reboot" not in fake_host.commands
    await connection.close()


async def test_what_the_question_took_is_no_more_there_for_the_command(fake_host: FakeHost) -> None:
    async def answers(host: FakeHost, channel: fake.Channel) -> None:
        if channel.process.command == "true":
            await asyncio.sleep(3600)
        await asyncio.sleep(1.5)
        await fake.honest(host, channel)

    fake_host.behaviour = answers
    fake_host.sections["system"] = {"machine_id_hash": OTHER}
    connection = await meant(fake_host, OTHER)
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimedOut, match="command ran longer"):
        await connection.run("true", timeout=2.5)
    assert asyncio.get_running_loop().time() - started < 3.5
    await connection.close()
