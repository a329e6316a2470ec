"""The living probe behind one connection: what a poll does, and what it survives."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
import gc
import os
from pathlib import Path
import re
import signal
import sys
import time
import tracemalloc

import pytest

from custom_components.homelab_monitor.client.errors import (
    ChannelRefused,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    NoPython,
    ProbeFailed,
    PythonIncomplete,
    ReplyTooLarge,
    SessionRefused,
    TimedOut,
    UnsupportedSystem,
)
from custom_components.homelab_monitor.client.probe import session as session_module
from custom_components.homelab_monitor.client.probe.programs import BOOTSTRAP, INTERPRETERS, Programs, load_programs
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from tests import fake_host as fake
from tests.between import Between
from tests.fake_host import Channel, FakeHost
from tests.needs import needs
from tests.sshd import Sshd, is_running, processes_with, wait_for

type MakeSession = Callable[..., ProbeSession]
type MakeSshd = Callable[..., Sshd]

ALL_SECTIONS = ("cpu", "memory", "load", "uptime", "network", "disk_io", "filesystems", "system", "hardware")


def _probe_pid(session: ProbeSession) -> int:
    assert session._probe is not None
    assert session._probe._marker is not None
    return session._probe._marker.pid


# ---------------------------------------------------------------- an ordinary poll


async def test_a_poll_connects_starts_and_answers(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    reply = await session.poll(["load", "cpu"])
    assert reply.sections["load"].load1 == 0.5
    assert reply.missing == {"cpu": "not_supported"}
    assert (session.host_key,) == sshd.host_keys
    assert session.rtt_seconds
    assert session.noise is None
    assert session.python is not None
    assert re.fullmatch(r"3\.\d+\.\d+", session.python[0])
    assert session.python[1] == "python3"


async def test_who_was_silent_the_last_time_takes_no_place_of_those_who_were_well(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    gates = {"gate": asyncio.Semaphore(1), "side_gate": asyncio.Semaphore(1)}

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        target = replace(fake_host.target, port=server.sockets[0].getsockname()[1])
        arguments = {
            "key": fake_host.key,
            "host_keys": fake_host.host_keys,
            "programs": make_session(fake_host)._programs,
        }
        silent = [ProbeSession(target, **arguments, **gates, timeout=0.2) for _ in range(2)]
        for session in silent:
            with pytest.raises(TimedOut):
                await session.poll(["load"])
            session._timeout = 60
        again = [asyncio.create_task(session.poll(["load"])) for session in silent]
        async with asyncio.timeout(30):
            while not any(gate.locked() for gate in gates.values()):
                await asyncio.sleep(0.01)
        well = make_session(fake_host, each_poll=True, **gates)
        for _ in range(2):
            await asyncio.wait_for(well.poll(["load"]), 30)
        for session in silent:
            await session.close()
        await asyncio.gather(*again, return_exceptions=True)
        server.abort_clients()


async def test_what_was_not_asked_is_not_taken(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def tells_more(host: FakeHost, channel: fake.Channel) -> None:
        await channel.begin()
        while request := await channel.request():
            more = {"uptime": {"uptime_seconds": 1.0}, "load": fake.LOAD}
            await channel.reply(host.answer(request) | {"sections": more, "missing": {"gpu": "not_installed"}})

    fake_host.behaviour = tells_more
    session = make_session(fake_host)
    reply = await session.poll(["load"])
    assert (reply.sections.keys(), reply.missing) == ({"load"}, {})
    (aside,) = await session.ask_aside(["uptime"], timeout=5)
    assert (aside.sections.keys(), aside.missing) == ({"uptime"}, {})


async def test_polls_share_one_process(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    first = await session.poll(["load"])
    pid = _probe_pid(session)
    second = await session.poll(["load"])
    assert first.id != second.id
    assert _probe_pid(session) == pid


async def test_the_real_probe_answers_every_section(sshd: Sshd, make_session: MakeSession) -> None:
    programs = await asyncio.to_thread(load_programs)
    session = make_session(sshd, programs=programs)
    reply = await session.poll(ALL_SECTIONS)
    assert set(reply.sections) == set(ALL_SECTIONS)
    assert reply.errors == {}
    assert reply.sections["system"].hostname == os.uname().nodename


async def test_a_request_names_what_is_monitored_and_what_may_use_sudo(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    session = make_session(fake_host)
    await session.poll(["load"])
    await session.poll(["load"], {"services": ["nginx.service"]}, ["storage_health"])
    first, second = (request["id"] for request in fake_host.requests)
    assert first != second
    assert fake_host.requests == [
        {"id": first, "sections": ["load"], "timeout": session._timeout - 0.5},
        {
            "id": second,
            "sections": ["load"],
            "sudo": ["storage_health"],
            "watch": {"services": ["nginx.service"]},
            "timeout": session._timeout - 0.5,
        },
    ]


async def test_polls_never_overlap(fake_host: FakeHost, make_session: MakeSession) -> None:
    busy = 0
    overlaps = 0

    async def slow(host: FakeHost, channel: Channel) -> None:
        nonlocal busy, overlaps
        await channel.begin()
        while request := await channel.request():
            overlaps += busy
            busy += 1
            await asyncio.sleep(0.02)
            busy -= 1
            await channel.reply(host.answer(request))

    fake_host.behaviour = slow
    session = make_session(fake_host)
    replies = await asyncio.gather(*(session.poll(["load"]) for _ in range(5)))
    assert overlaps == 0
    assert len({reply.id for reply in replies}) == 5
    assert fake_host.logins == 1
    assert len(fake_host.commands) == 1


async def test_a_poll_costs_a_few_hundred_bytes_and_little_time(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    await session.poll(["load"])
    assert session.connection is not None
    before = (session.connection.bytes_sent, session.connection.bytes_received)
    started = time.process_time()
    for _ in range(100):
        await session.poll(["load"])
    # Measured 0.4 ms; the limit only catches a change of kind, such as a new channel for each poll.
    assert (time.process_time() - started) / 100 < 0.005
    sent = session.connection.bytes_sent - before[0]
    received = session.connection.bytes_received - before[1]
    assert sent / 100 < 200
    assert received / 100 < 400


async def test_connecting_for_each_poll_leaves_no_connection(fake_host: FakeHost, make_session: MakeSession) -> None:
    session = make_session(fake_host, each_poll=True)
    for logins in (1, 2):
        assert (await session.poll(["load"])).sections
        assert session.connection is None
        assert fake_host.logins == logins
    await wait_for(lambda: not fake_host.connections)


async def test_actions_use_the_connection_beside_the_probe(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    connection = await session.connect()
    await session.poll(["load"])
    assert session.connection is connection
    running = asyncio.create_task(connection.run("sleep 0.3; echo done", timeout=5))
    await session.poll(["load"])
    assert not running.done()
    assert (await running).stdout == "done\n"


async def test_what_is_asked_aside_does_not_hold_up_the_polls(fake_host: FakeHost, make_session: MakeSession) -> None:
    released = asyncio.Event()

    async def slow_aside(host: FakeHost, channel: Channel) -> None:
        await channel.begin()
        while request := await channel.request():
            if request["sections"] == ["memory"]:
                await released.wait()
            await channel.reply(host.answer(request))

    fake_host.behaviour = slow_aside
    session = make_session(fake_host)
    await session.poll(["load"])
    aside = asyncio.create_task(session.ask_aside(["memory"], timeout=60))
    for _ in range(3):
        await session.poll(["load"])
    assert not aside.done()
    released.set()
    (reply,) = await aside
    assert reply.missing == {"memory": "not_installed"}
    assert fake_host.logins == 1


async def test_what_is_asked_aside_can_be_read_twice_and_leaves_no_process(
    sshd: Sshd, make_session: MakeSession
) -> None:
    session = make_session(sshd)
    await session.poll(["load"])
    own = set(processes_with("zlib.decompress"))
    first, second = await session.ask_aside(["load"], timeout=10, again_after=0.05)
    assert first.sections["load"].load1 == second.sections["load"].load1 == 0.5
    assert first.id != second.id
    await wait_for(lambda: set(processes_with("zlib.decompress")) <= own)


async def test_a_server_with_one_channel_is_asked_aside_over_another_connection(
    make_sshd: MakeSshd, make_session: MakeSession
) -> None:
    server = make_sshd("MaxSessions 1")
    session = make_session(server)
    await session.poll(["load"])
    pid = _probe_pid(session)
    (reply,) = await session.ask_aside(["load"], timeout=10)
    assert reply.sections["load"].load1 == 0.5
    await session.poll(["load"])
    assert _probe_pid(session) == pid


async def test_where_every_poll_connects_what_is_aside_has_a_connection_of_its_own(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    session = make_session(fake_host, each_poll=True)
    async with session.aside() as connection:
        await session.poll(["load"])
        assert not connection.closed
    assert connection.closed
    assert session.connection is None


async def test_an_answer_aside_that_is_late_is_an_error(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def silent(_: FakeHost, channel: Channel) -> None:
        await channel.begin()
        while await channel.request():
            continue

    fake_host.behaviour = silent
    with pytest.raises(TimedOut):
        await make_session(fake_host).ask_aside(["load"], timeout=0.7)


async def test_the_start_of_a_probe_aside_takes_no_longer_than_a_person_waits(
    fake_host: FakeHost, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trickles(_: FakeHost, channel: Channel) -> None:
        channel.write(b"\x1ehomelab_monitor program\n")
        await asyncio.sleep(3600)

    monkeypatch.setattr(session_module, "ASIDE_SECONDS", 1.0, raising=False)
    fake_host.behaviour = trickles
    async with asyncio.timeout(8):
        with pytest.raises(TimedOut, match="start of the probe included"):
            await make_session(fake_host).ask_aside(["load"], timeout=0.5)


# ---------------------------------------------------------------- what it survives


async def test_a_killed_probe_is_replaced_within_the_poll(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    await session.poll(["load"])
    connection, pid = session.connection, _probe_pid(session)
    os.kill(pid, signal.SIGKILL)
    assert (await session.poll(["load"])).sections
    assert session.connection is connection
    assert _probe_pid(session) != pid


async def test_a_probe_that_dies_while_asked_is_replaced_once(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def dies_first(host: FakeHost, channel: Channel) -> None:
        await (fake.close_at_request if len(host.commands) == 1 else fake.honest)(host, channel)

    fake_host.behaviour = dies_first
    assert (await make_session(fake_host).poll(["load"])).sections
    assert len(fake_host.commands) == 2


async def test_a_probe_that_always_dies_is_an_error(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    with pytest.raises(ProbeFailed) as caught:
        await session.poll(["exit"])
    assert caught.value.detail == "exit status 3"
    with pytest.raises(ProbeFailed) as caught:
        await session.poll(["crash"])
    assert caught.value.detail == "RuntimeError: the sensor is on fire (exit status 1)"
    assert (await session.poll(["load"])).sections


async def test_a_dropped_connection_is_replaced_within_the_poll(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    session = make_session(server)
    await session.poll(["load"])
    pid = _probe_pid(session)
    server.kill_sessions()
    assert (await session.poll(["load"])).sections
    await wait_for(lambda: not is_running(pid))


async def test_a_connection_that_a_firewall_forgot_is_replaced_within_the_poll(
    sshd: Sshd, make_session: MakeSession
) -> None:
    needs(sys.platform == "linux", "Linux")
    async with Between(sshd.port) as between:
        session = make_session(replace(sshd, port=between.port))
        await session.poll(["load"])
        pid = _probe_pid(session)
        between.forget()
        session._timeout = 3.0
        assert (await session.poll(["load"])).sections
        assert _probe_pid(session) != pid
        await session.close()


async def test_a_server_that_was_away_is_used_again(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    session = make_session(server)
    await session.poll(["load"])
    server.stop()
    for _ in range(2):
        with pytest.raises(ConnectionRefused):
            await session.poll(["load"])
    server.start()
    assert (await session.poll(["load"])).sections


async def test_a_connection_lost_in_the_middle_of_a_poll_is_replaced(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    async def drops_first(host: FakeHost, channel: Channel) -> None:
        if len(host.commands) > 1:
            await fake.honest(host, channel)
            return
        await channel.begin()
        await channel.request()
        for connection in list(host.connections):
            connection.abort()

    fake_host.behaviour = drops_first
    assert (await make_session(fake_host).poll(["load"])).sections
    assert fake_host.logins == 2


async def test_a_late_reply_is_dropped_and_its_process_kept(sshd: Sshd, make_session: MakeSession) -> None:
    session = make_session(sshd)
    await session.poll(["load"])
    pid = _probe_pid(session)
    session._timeout = 0.3
    with pytest.raises(TimedOut):
        await session.poll(["slow"])  # Answers after a second.
    session._timeout = 10
    reply = await session.poll(["load"])
    assert reply.sections.keys() == {"load"}
    assert _probe_pid(session) == pid


async def test_two_late_replies_in_a_row_start_everything_anew(fake_host: FakeHost, make_session: MakeSession) -> None:
    session = make_session(fake_host)
    fake_host.behaviour = fake.hang
    await session.connect()
    session._timeout = 0.5
    for logins, commands in ((1, 1), (1, 1), (2, 2)):
        with pytest.raises(TimedOut):
            await session.poll(["load"])
        assert (fake_host.logins, len(fake_host.commands)) == (logins, commands)
    fake_host.behaviour = fake.honest
    with pytest.raises(TimedOut):
        await session.poll(["load"])
    session._timeout = 10
    assert (await session.poll(["load"])).sections


async def test_a_frozen_host_is_an_error_and_comes_back(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    session = make_session(server)
    await session.poll(["load"])
    session._timeout = 0.3
    server.suspend()
    for _ in range(3):
        with pytest.raises(TimedOut):
            await session.poll(["load"])
    server.suspend(suspended=False)
    session._timeout = 10
    assert (await session.poll(["load"])).sections


async def test_a_server_with_one_channel_can_restart_the_probe(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd("MaxSessions 1")
    session = make_session(server)
    await session.poll(["load"])
    for _ in range(5):
        os.kill(_probe_pid(session), signal.SIGKILL)
        assert (await session.poll(["load"])).sections
    assert session.connection is not None
    assert (await session.connection.run("echo beside it", timeout=5)).stdout == "beside it\n"


async def test_a_server_that_counts_dead_channels_gets_a_new_connection(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    fake_host.channels_per_connection = 1
    session = make_session(fake_host)
    await session.poll(["load"])
    session._end_probe()
    assert (await session.poll(["load"])).sections
    assert (fake_host.logins, len(fake_host.commands)) == (2, 2)


# ---------------------------------------------------------------- what can come from a host


@pytest.mark.parametrize("name", fake.MISBEHAVIOURS)
async def test_whatever_a_host_sends_ends_in_its_error(
    fake_host: FakeHost, make_session: MakeSession, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake_host.behaviour, key = fake.MISBEHAVIOURS[name]
    session = make_session(fake_host, timeout=1.0 if key in ("timed_out", "starting") else 10.0)
    with pytest.raises(HomelabError) as caught:
        await session.poll(["load"])
    assert caught.value.key == key
    assert str(caught.value).isprintable()
    fake_host.behaviour = fake.honest
    session._timeout = 10
    await session.disconnect()
    assert (await session.poll(["load"])).sections
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("section", "kind"),
    [("flood", HomelabError), ("stderr_flood", ReplyTooLarge)],
)
async def test_a_hundred_megabytes_take_bounded_memory(
    sshd: Sshd, make_session: MakeSession, section: str, kind: type[HomelabError]
) -> None:
    session = make_session(sshd)
    await session.poll(["load"])
    gc.collect()
    tracemalloc.start()
    with pytest.raises(kind):
        await session.poll([section])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert (await session.poll(["load"])).sections


async def test_a_flood_between_polls_is_stopped(fake_host: FakeHost, make_session: MakeSession) -> None:
    sent = 0

    async def floods_unasked(host: FakeHost, channel: Channel) -> None:
        nonlocal sent
        await channel.begin()
        request = await channel.request()
        await channel.reply(host.answer(request))
        while sent < 100 << 20:
            channel.write(b"x" * 65536)
            await channel.process.stdout.drain()
            sent += 65536

    fake_host.behaviour = floods_unasked
    session = make_session(fake_host)
    await session.poll(["load"])
    await asyncio.sleep(0.5)
    assert sent < 32 << 20
    fake_host.behaviour = fake.honest
    assert (await session.poll(["load"])).sections


async def test_a_refused_channel_is_named(fake_host: FakeHost, make_session: MakeSession) -> None:
    fake_host.refuses_channels = True
    with pytest.raises(ChannelRefused):
        await make_session(fake_host).poll(["load"])


async def test_another_protocol_is_refused(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def newer(host: FakeHost, channel: Channel) -> None:
        await channel.begin(b"\x1ehomelab_monitor 2 3.11.2 4711\n")
        await channel.request()

    fake_host.behaviour = newer
    with pytest.raises(HomelabError) as caught:
        await make_session(fake_host).poll(["load"])
    assert "protocol 2" in caught.value.detail


async def test_windows_is_named_as_not_supported(
    fake_host: FakeHost, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module.Connection, "server_version", "SSH-2.0-OpenSSH_for_Windows_9.5")
    with pytest.raises(UnsupportedSystem) as caught:
        await make_session(fake_host).poll(["load"])
    assert caught.value.placeholders["system"] == "Windows"
    assert fake_host.commands == []


# ---------------------------------------------------------------- interpreters

NO_SUCH = {
    "bash": (127, b"bash: line 1: python3: command not found\n"),
    "tcsh": (1, b"python3: Command not found.\n"),
    "fish": (127, b"fish: Unknown command: python3\n"),
    "not executable": (126, b"sh: 1: python3: Permission denied\n"),
}


def _without(interpreters: set[str], status: int, words: bytes) -> fake.Behaviour:
    """Return a host on which those interpreters end with that status and those words."""

    async def behaviour(host: FakeHost, channel: Channel) -> None:
        if (channel.process.command or "").partition(" ")[0] in interpreters:
            channel.process.stderr.write(words)
            channel.process.exit(status)
            return
        await fake.honest(host, channel)

    return behaviour


@pytest.mark.parametrize("shell", NO_SUCH)
async def test_the_next_interpreter_is_tried_and_remembered(
    fake_host: FakeHost, make_session: MakeSession, shell: str
) -> None:
    fake_host.behaviour = _without(set(INTERPRETERS[:2]), *NO_SUCH[shell])
    session = make_session(fake_host)
    await session.poll(["load"])
    assert fake_host.commands == [BOOTSTRAP.format(interpreter=name) for name in INTERPRETERS[:3]]
    assert session.python == ("3.11.2", INTERPRETERS[2])
    await session.disconnect()
    await session.poll(["load"])
    assert fake_host.commands[3:] == [BOOTSTRAP.format(interpreter=INTERPRETERS[2])]


async def test_without_an_interpreter_the_last_word_is_reported(fake_host: FakeHost, make_session: MakeSession) -> None:
    fake_host.behaviour = _without(set(INTERPRETERS), 127, b"sh: 1: python3: not found\n")
    with pytest.raises(NoPython) as caught:
        await make_session(fake_host).poll(["load"])
    assert "not found" in caught.value.detail
    assert len(fake_host.commands) == len(INTERPRETERS)


async def test_an_incomplete_python_is_named_with_its_module(fake_host: FakeHost, make_session: MakeSession) -> None:
    async def minimal(host: FakeHost, channel: Channel) -> None:
        if channel.process.command.startswith("python3"):
            channel.process.stderr.write(
                b'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
            )
            channel.process.stderr.write(b"ModuleNotFoundError: No module named 'json'\n")
            channel.process.exit(1)
            return
        channel.process.exit(127)

    fake_host.behaviour = minimal
    with pytest.raises(PythonIncomplete) as caught:
        await make_session(fake_host).poll(["load"])
    assert caught.value.placeholders["module"] == "json"


async def test_an_account_without_a_shell_is_quoted(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd("ForceCommand echo This account is currently not available.; exit 1")
    session = make_session(server)
    with pytest.raises(SessionRefused) as caught:
        await session.poll(["load"])
    assert not caught.value.hard
    assert "This account is currently not available." in caught.value.detail
    assert session.noise == "This account is currently not available."


async def test_of_a_forced_command_that_never_ends_it_is_said_that_it_may_stay(
    make_sshd: MakeSshd, make_session: MakeSession
) -> None:
    """OpenSSH sends a forced command no signal that a client asks for."""
    session = make_session(make_sshd("ForceCommand sleep 9.87"), timeout=1)
    with pytest.raises(TimedOut) as caught:
        await session.poll(["load"])
    assert caught.value.detail.endswith("such as a forced command, and may keep running")
    assert processes_with("9.87")
    await wait_for(lambda: not processes_with("9.87"), 15)


# ---------------------------------------------------------------- the end


async def test_closing_leaves_no_process_and_no_task(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    before = asyncio.all_tasks()
    session = make_session(server)
    await session.poll(["load"])
    pid = _probe_pid(session)
    await session.close()
    await wait_for(lambda: not is_running(pid))
    await wait_for(lambda: not server.sessions())
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionLost):
        await session.poll(["load"])


async def test_closing_during_a_poll_ends_it(fake_host: FakeHost, make_session: MakeSession) -> None:
    fake_host.behaviour = fake.hang
    session = make_session(fake_host)
    polling = asyncio.create_task(session.poll(["load"]))
    await wait_for(lambda: fake_host.requests)
    started = time.monotonic()
    await session.close()
    with pytest.raises(ConnectionLost):
        await polling
    assert time.monotonic() - started < 1
    assert fake_host.logins == 1


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8, 12, 16])
async def test_closing_while_connecting_or_starting_ends_it(
    fake_host: FakeHost, make_session: MakeSession, milliseconds: int
) -> None:
    fake_host.behaviour = fake.hang_before_marker
    session = make_session(fake_host)
    polling = asyncio.create_task(session.poll(["load"]))
    await asyncio.sleep(milliseconds / 1000)
    started = time.monotonic()
    await session.close()
    with pytest.raises(ConnectionLost):
        await polling
    assert time.monotonic() - started < 1
    await wait_for(lambda: not fake_host.connections)


async def test_closing_in_the_moment_of_the_login_closes_that_connection(
    fake_host: FakeHost, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(fake_host)
    log_in = session._open
    closing: list[asyncio.Task[None]] = []

    async def log_in_as_it_closes() -> session_module.Connection:
        connection = await log_in()
        closing.append(asyncio.create_task(session.close()))  # It has its turn before who waits for this.
        return connection

    monkeypatch.setattr(session, "_open", log_in_as_it_closes)
    with pytest.raises(ConnectionLost):
        await session.poll(["load"])
    assert fake_host.logins == 1
    await wait_for(lambda: not fake_host.connections)


@pytest.mark.parametrize("each_poll", [False, True])
async def test_a_closed_session_lends_nothing(fake_host: FakeHost, make_session: MakeSession, each_poll: bool) -> None:
    session = make_session(fake_host, each_poll=each_poll)
    await session.poll(["load"])
    logins = fake_host.logins
    await session.close()
    with pytest.raises(ConnectionLost):
        async with session.aside() as connection:
            await connection.run("reboot", timeout=5)
    with pytest.raises(ConnectionLost):
        await session.ask_aside(["load"], timeout=5)
    assert fake_host.logins == logins
    assert "reboot" not in fake_host.commands


@pytest.mark.parametrize("each_poll", [False, True])
@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8, 12, 16])
async def test_closing_while_a_connection_is_opened_for_a_control_lets_it_run_nothing(
    fake_host: FakeHost, make_session: MakeSession, milliseconds: int, each_poll: bool
) -> None:
    session = make_session(fake_host, each_poll=each_poll)

    async def control() -> None:
        async with session.aside() as connection:
            await asyncio.sleep(1)
            await connection.run("reboot", timeout=5)

    running = asyncio.create_task(control())
    await asyncio.sleep(milliseconds / 1000)
    started = time.monotonic()
    await session.close()
    with pytest.raises(ConnectionLost):
        await running
    assert time.monotonic() - started < 2
    assert "reboot" not in fake_host.commands
    await wait_for(lambda: not fake_host.connections)


async def test_closing_ends_also_the_connection_that_was_opened_for_a_second_channel(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    session = make_session(fake_host)
    await session.poll(["load"])
    start = session._start

    async def refused_once(*args: object) -> object:
        session._start = start
        raise ChannelRefused("fake", "no second one")

    session._start = refused_once
    asking = asyncio.create_task(session.ask_aside(["load"], timeout=5, again_after=60))
    await wait_for(lambda: fake_host.logins == 2 and len(fake_host.requests) == 2)
    await session.close()
    await wait_for(lambda: not fake_host.connections)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_closing_a_frozen_host_takes_seconds_at_most(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    session = make_session(server)
    await session.poll(["load"])
    server.suspend()
    started = time.monotonic()
    await session.close()
    assert time.monotonic() - started < 5
    server.suspend(suspended=False)


async def test_a_cancelled_poll_is_cancelled_and_the_next_one_works(
    fake_host: FakeHost, make_session: MakeSession
) -> None:
    session = make_session(fake_host)
    for milliseconds in (0, 1, 2, 4, 8, 12, 16, 20):
        polling = asyncio.create_task(session.poll(["load"]))
        await asyncio.sleep(milliseconds / 1000)
        polling.cancel()
        await asyncio.wait([polling])
        assert polling.cancelled() or polling.result().sections
        assert (await session.poll(["load"])).sections
        await session.disconnect()


async def test_nothing_is_written_on_the_host(make_sshd: MakeSshd, make_session: MakeSession) -> None:
    server = make_sshd()
    session = make_session(server)
    await session.poll(["load"])
    pid = _probe_pid(session)
    opened = {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert not {path for path in opened if path.is_absolute() and not path.is_relative_to("/dev")}
    assert processes_with("exec(compile(zlib.decompress")


def test_programs_carry_their_length(stand_in: Programs) -> None:
    length, _, packed = stand_in.linux.payload.partition(b"\n")
    assert int(length) == len(packed)
    assert len(stand_in.linux.digest) == 64
    assert "payload" not in repr(stand_in)
