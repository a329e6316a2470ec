"""The client is tested without Home Assistant: against a real sshd, and a fake host in this process."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import custom_components  # noqa: F401  (before the test harness puts its own package of that name first)
from custom_components.homelab_monitor.client.probe.programs import Programs, load_programs, make_program
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from tests.fake_host import FakeHost
from tests.sshd import Sshd, make_sshd, sshd  # noqa: F401


@pytest.fixture(autouse=True)
def _sockets(socket_enabled: None) -> None:
    """Let tests connect to 127.0.0.1."""


@pytest.fixture(scope="session")
def stand_in() -> Programs:
    """Return a small probe that misbehaves on request."""
    source = (Path(__file__).parent / "stand_in.py").read_bytes()
    return Programs(linux=make_program("probe.py", source), who=load_programs().who)


@pytest.fixture
async def fake_host() -> AsyncIterator[FakeHost]:
    """Return a running fake host."""
    async with FakeHost() as host:
        yield host


@pytest.fixture
async def make_session(stand_in: Programs) -> AsyncIterator[Callable[..., ProbeSession]]:
    """Return a function that makes sessions; all are closed at the end."""
    made: list[ProbeSession] = []

    def make(server: Sshd | FakeHost, username: str | None = None, **options: object) -> ProbeSession:
        target = server.target_for(username) if username else server.target
        arguments = {"key": server.key, "host_keys": server.host_keys, "programs": stand_in} | options
        session = ProbeSession(target, **arguments)
        made.append(session)
        return session

    yield make
    for session in made:
        await session.close()
