"""A host whose replies a test writes: what `ProbeSession.poll` would return or raise.

Replies start from a file of `tests/fixtures/replies`, and counters move only when told to.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
import json
from pathlib import Path
import time
from typing import Any
from unittest.mock import patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.homelab_monitor.client.errors import ConnectionLost, ConnectionRefused, HomelabError
from custom_components.homelab_monitor.client.probe.snapshot import Reply, decode_reply
from custom_components.homelab_monitor.client.transport.command import CommandResult
from custom_components.homelab_monitor.const import DOMAIN

REPLIES = Path(__file__).parent / "fixtures" / "replies"
CONNECTIVITY = "binary_sensor.plain_connectivity"
HOST_ID = "00112233445566778899aabbccddeeff"


def read_reply(name: str) -> dict[str, Any]:
    """Return a reply as plain JSON values."""
    return json.loads((REPLIES / f"{name}.json").read_text())


class ScriptedShell:
    """Answers commands in the order that a test wrote; raises what is an error."""

    def __init__(self) -> None:
        self.answers: list[CommandResult | Exception] = []
        self.asked: list[str] = []
        self.again_error: HomelabError = ConnectionRefused("plain")

    def say(self, stdout: str = "", stderr: str = "", status: int | None = 0) -> None:
        """Write the next answer."""
        self.answers.append(CommandResult(stdout, stderr, status))

    async def run(self, command: str, **_: object) -> CommandResult:
        """Answer."""
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def again(self) -> None:
        """Answer no more."""
        raise self.again_error


class ScriptedSession:
    """Answers polls from `document`; raises `error` while it is set."""

    def __init__(self, name: str = "plain") -> None:
        self.document = read_reply(name)
        self.error: HomelabError | None = None
        self.asked: list[tuple[tuple[str, ...], Mapping[str, Sequence[str]] | None]] = []
        self.with_sudo: tuple[str, ...] = ()
        self.asked_aside: list[tuple[Any, ...]] = []
        self.shell = ScriptedShell()
        self.closed = 0
        self.disconnected = 0
        self.connection = None
        self.host_keys: tuple[str, ...] = ()
        self.afresh = True
        self.machine = ""
        self.rtt_seconds: float | None = None
        self.noise: str | None = None
        self.python: tuple[str, str] | None = None

    @property
    def sections(self) -> dict[str, Any]:
        """The sections, to be changed by a test."""
        return self.document["sections"]

    async def poll(
        self, sections: Sequence[str], watch: Mapping[str, Sequence[str]] | None = None, sudo: Sequence[str] = ()
    ) -> Reply:
        """Answer what was asked for."""
        self.asked.append((tuple(sections), watch))
        self.with_sudo = tuple(sudo)
        return self.answer(sections)

    async def ask_aside(self, sections: Sequence[str], *more: object, again_after: float | None = None, **_: object):
        """Answer beside the polls, twice where that is wanted."""
        self.asked_aside.append((tuple(sections), *more))
        return tuple(self.answer(sections) for _ in range(1 if again_after is None else 2))

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[ScriptedShell]:
        """Lend a connection that runs commands."""
        if self.error:
            raise self.error
        yield self.shell

    def answer(self, sections: Sequence[str]) -> Reply:
        """Return the reply to a request for these sections."""
        if self.error:
            raise self.error
        # Its clock is right: by the time that the test has made it.
        document = self.document | {"epoch": time.time()}
        wanted = set(sections)
        for part in ("errors", "missing", "sections"):  # each section is in one of them
            document[part] = {name: value for name, value in self.document[part].items() if name in wanted}
            wanted -= document[part].keys()
        return decode_reply("plain", json.dumps(document).encode())

    def advance(self, seconds: float) -> None:
        """Let the host's own clock run; the counters stand still."""
        for section in self.sections.values():
            if "at" in section:
                section["at"] += seconds
        self.sections["uptime"]["uptime_seconds"] += seconds

    def narrow(self, proven: Sequence[str]) -> None:
        """Take over what another login has proven."""

    async def connect(self) -> None:
        """Offer nothing but polls."""
        raise ConnectionLost("plain", "scripted")

    async def disconnect(self) -> None:
        """End the connection."""
        self.disconnected += 1

    async def close(self) -> None:
        """End everything."""
        self.closed += 1


def make_entry(**options: object) -> MockConfigEntry:
    """Return the config entry of the scripted host."""
    return MockConfigEntry(
        domain=DOMAIN,
        title="plain",
        unique_id=HOST_ID,
        data={
            "host": "127.0.0.1",
            "port": 22,
            "username": "mon",
            "platform": "linux",
            "host_id": HOST_ID,
            "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"],
        },
        options=options,
    )


async def set_up(hass: HomeAssistant, entry: MockConfigEntry, session: ScriptedSession) -> None:
    """Set the entry up on the scripted host and wait for its first poll."""
    entry.add_to_hass(hass)
    with patch("custom_components.homelab_monitor.async_new_session", return_value=session):
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)


class Host:
    """A scripted host in a Home Assistant whose clock a test moves."""

    def __init__(self, hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
        self.hass = hass
        self.freezer = freezer
        self.session = ScriptedSession()
        self.entry = make_entry()

    async def start(self, **options: object) -> None:
        if options:
            self.entry = make_entry(**options)
        await set_up(self.hass, self.entry, self.session)

    async def move(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass second by second, as it does."""
        for _ in range(round(seconds / step)):
            self.freezer.tick(timedelta(seconds=step))
            self.session.advance(step)
            async_fire_time_changed(self.hass)
            await self.hass.async_block_till_done(wait_background_tasks=True)

    async def polls(self, seconds: float, step: float = 1.0) -> int:
        """Return how often the host is asked in that time."""
        before = len(self.session.asked)
        await self.move(seconds, step)
        return len(self.session.asked) - before

    def state(self, entity_id: str) -> str:
        state = self.hass.states.get(entity_id)
        assert state is not None, entity_id
        return state.state

    @property
    def status(self) -> str:
        return self.entry.runtime_data.data.status

    @property
    def reason(self) -> str | None:
        return self.hass.states.get(CONNECTIVITY).attributes["reason"]

    async def start_again(self) -> None:
        """Set the entry up again with what was stored."""
        with patch("custom_components.homelab_monitor.async_new_session", return_value=self.session):
            assert await self.hass.config_entries.async_setup(self.entry.entry_id)
            await self.hass.async_block_till_done(wait_background_tasks=True)

    async def reload(self) -> None:
        """Reload the entry, as a change of its options does."""
        assert await self.hass.config_entries.async_unload(self.entry.entry_id)
        await self.hass.async_block_till_done(wait_background_tasks=True)
        await self.start_again()
