"""What scripts/bench measures, both ways: with our session, and with one `ssh HOST python3 -` per poll.

CPU time of the hub is that of this process with all its threads (and, the other way, of its ssh children); CPU time of
the host is that of its whole cgroup: sshd, probe, its children, PID 1, journal, bus. What both use while nothing
happens is measured first and taken off for the same time. Bytes are counted by a relay on loopback.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
import json
from pathlib import Path
import resource
from statistics import fmean
import time

from bench_clock import INTERVAL
from bench_hub import Hub
from bench_places import Place
from bench_table import Figure, best_half, mean_of_rounds

from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.programs import load_programs, probe_source
from custom_components.homelab_monitor.client.probe.session import ProbeSession

CYCLE_POLLS = 60
"""Polls until every section has had its turn: ten minutes at 10 s."""
SUBPROCESS_ROUND = 12
"""Polls of a round of the other way: with its half a second each, the whole cycle is five rounds."""
ORDINARY = [name for name, kind in SECTIONS.items() if kind.every_seconds <= INTERVAL]
IDLE_SECONDS = 1.0
PROBES = Path(__file__).resolve().parent.parent / "probes"

type Poll = Callable[[], Awaitable[object]]


def sections_of(number: int) -> list[str]:
    """Return the sections of the n-th poll of a cycle."""
    return [name for name, kind in SECTIONS.items() if not number % max(1, round(kind.every_seconds / INTERVAL))]


def hub_seconds() -> float:
    """Return the CPU time of this process and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass(frozen=True)
class Idle:
    """CPU seconds per second of hub and host while nothing happens."""

    hub: float
    remote: float

    @classmethod
    async def measured(cls, place: Place) -> Idle:
        """Wait and look."""
        hub, remote, begun = hub_seconds(), place.used_seconds(), time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        hub, remote = hub_seconds() - hub, place.used_seconds() - remote
        passed = time.monotonic() - begun
        return cls(hub / passed, remote / passed)


@dataclass
class Cost:
    """Rounds of polls in milliseconds of CPU: per poll on the hub, per round's poll on the host."""

    place: Place
    hub: list[list[float]] = field(default_factory=list)
    remote: list[float] = field(default_factory=list)

    async def measure(self, poll: Poll, polls: int = CYCLE_POLLS) -> None:
        """Run one round."""
        idle = await Idle.measured(self.place)
        remote, begun = self.place.used_seconds(), time.monotonic()
        spent = []
        for _ in range(polls):
            before, started = hub_seconds(), time.monotonic()
            await poll()
            spent.append(1000 * (hub_seconds() - before - idle.hub * (time.monotonic() - started)))
        remote = self.place.used_seconds() - remote - idle.remote * (time.monotonic() - begun)
        self.hub.append(spent)
        self.remote.append(1000 * remote / polls)

    def figures(self) -> dict[str, Figure | None]:
        """Return the two figures; the host's is None where its cgroup cannot be read."""
        remote = Figure.of(self.remote, best_half) if self.place.cgroup else None
        return {"hub": mean_of_rounds(self.hub), "remote": remote}


async def session_cost(place: Place, hub: Hub, rounds: int) -> dict[str, Figure | None]:
    """Return the CPU time of our polls."""
    cost = Cost(place)
    for _ in range(rounds):
        await cost.measure(hub.poll)
    return cost.figures()


async def session_wire(place: Place, polls: int) -> dict[str, Figure | None]:
    """Return wall time and bytes of our ordinary polls."""
    async with relay(place.target.port) as counted:
        session = ProbeSession(replace(place.target, port=counted.port), place.key, place.host_keys, load_programs())
        await session.poll(ORDINARY)
        sizes = await _sizes(counted, lambda: session.poll(ORDINARY), polls)
        await session.close()
    session = ProbeSession(place.target, place.key, place.host_keys, load_programs())
    await session.poll(ORDINARY)
    seconds = await _durations(lambda: session.poll(ORDINARY), polls)
    await session.close()
    return {"wall": Figure.of(seconds, best_half), "wire": Figure.of(sizes)}


async def cadence_wire(place: Place) -> Figure:
    """Return the bytes of our polls, averaged over a cadence."""
    watch = {name: list(chosen) for name, chosen in place.options.items() if isinstance(chosen, list)}
    async with relay(place.target.port) as counted:
        session = ProbeSession(replace(place.target, port=counted.port), place.key, place.host_keys, load_programs())
        await session.poll(list(SECTIONS), watch)
        number = count(1)
        poll = lambda: session.poll(sections_of(next(number)), watch)  # noqa: E731
        sizes = await _sizes(counted, poll, CYCLE_POLLS)
        await session.close()
    return Figure.of(sizes, fmean)


async def subprocess_cost(place: Place, folder: Path, polls: int) -> dict[str, Figure | None]:
    """Return all four figures of one `ssh HOST python3 -` per poll, with the same sections at the same rhythm."""
    async with relay(place.target.port) as counted:
        command = _ssh(place, folder, place.target.port)
        relayed = _ssh(place, folder, counted.port)
        cost, number = Cost(place), count()
        for _ in range(max(1, polls // SUBPROCESS_ROUND)):
            await cost.measure(lambda: _run(command, sections_of(next(number) % CYCLE_POLLS)), SUBPROCESS_ROUND)
        seconds = await _durations(lambda: _run(command, ORDINARY), max(5, polls // 4))
        sizes = await _sizes(counted, lambda: _run(relayed, ORDINARY), 5)
    return cost.figures() | {"wall": Figure.of(seconds, best_half), "wire": Figure.of(sizes)}


def _ssh(place: Place, folder: Path, port: int) -> list[str]:
    """Return the command that logs in with the same key to the same pinned server."""
    identity, known = folder / "id", folder / f"known-{port}"
    identity.write_text(place.key.private_openssh)
    identity.chmod(0o600)
    known.write_text("".join(f"bench {line}\n" for line in place.host_keys))
    options = ("BatchMode=yes", "HostKeyAlias=bench", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes")
    flags = [word for option in options for word in ("-o", option)]
    who = f"{place.target.username}@{place.target.host}"
    return ["ssh", "-F", "none", "-i", str(identity), "-p", str(port), *flags, who]


async def _run(command: list[str], sections: Sequence[str]) -> object:
    """Poll as a subprocess does: send the program, read the JSON."""
    pipe = asyncio.subprocess.PIPE
    argv = [*command, "python3", "-", *sections]
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate(probe_source(PROBES))
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}: {errors.decode(errors='replace')}")
    return json.loads(output)


# ------------------------------------------------------------ wall time and bytes


async def _durations(poll: Poll, polls: int) -> list[float]:
    """Return the milliseconds of each poll."""
    taken = []
    for _ in range(polls):
        started = time.perf_counter()
        await poll()
        taken.append(1000 * (time.perf_counter() - started))
    return taken


async def _sizes(counted: Counted, poll: Poll, polls: int) -> list[float]:
    """Return the kilobytes of each poll."""
    sizes = []
    for _ in range(polls):
        before = counted.bytes
        await poll()
        await asyncio.sleep(0.01)  # What follows the reply: window adjustments, the end of a connection.
        sizes.append((counted.bytes - before) / 1000)
    return sizes


@dataclass
class Counted:
    """A relay's port, and the bytes that it has passed on."""

    port: int = 0
    bytes: int = 0


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Counted]:
    """Pass connections on to a port of loopback, and count what goes through, both ways."""
    counted = Counted()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            counted.bytes += len(chunk)
            writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed_on(reader, back), passed_on(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    try:
        yield counted
    finally:
        server.close()
