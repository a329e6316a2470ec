"""A host that goes while a fix flow does something with it: that ends, with its connection, and the dialog says so."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
import logging
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CoreState, HomeAssistant
import pytest

from custom_components.homelab_monitor.capability import Ended, async_while_loaded

from .scripted import Host
from .test_repairs import DOCKER, DONE, FIX, KEY, MODULE, FixDialog, Script, begin, script

__all__ = ["begin", "script"]
PARTS = ("command", "connecting", "test", "proof")
ENDS = ("unloaded", "removed", "disabled", "reloaded", "stopped")


class Work:
    """Something that a host takes long for."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.is_running = False
        self.closed = 0

    async def last(self, *_: object, **__: object) -> Any:
        """Go on for longer than anybody waits."""
        self.is_running = True
        self.begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            self.is_running = False

    async def connect(self, *_: object) -> Any:
        return self

    async def close(self) -> None:
        self.closed += 1


@contextmanager
def slow(part: str, work: Work, host: Host, script: Script) -> Iterator[None]:
    """Let one part of a flow take long, after the others have done their work."""
    host.session.close, script.results = work.close, [DONE]
    whats = {
        "command": (f"{MODULE}.run_remedy", work.last),
        "connecting": (f"{MODULE}.async_connect", work.last),
        "test": ("custom_components.homelab_monitor.capability.run_checks", work.last),
        "proof": (f"{MODULE}.async_require_proof", work.last),
    }
    with (
        patch(f"{MODULE}.async_connect", work.connect),
        patch("custom_components.homelab_monitor.capability.async_new_session", return_value=host.session),
        patch(*whats[part]),
    ):
        yield


async def end(hass: HomeAssistant, host: Host, how: str) -> None:
    """Let the host go, or all of Home Assistant."""
    entry_id, entries = host.entry.entry_id, hass.config_entries
    if how == "unloaded":
        await entries.async_unload(entry_id)
    elif how == "removed":
        await entries.async_remove(entry_id)
    elif how == "disabled":
        await entries.async_set_disabled_by(entry_id, ConfigEntryDisabler.USER)
    elif how == "reloaded":
        await entries.async_reload(entry_id)
    else:
        hass.set_state(CoreState.stopping)
        hass.bus.async_fire_internal(EVENT_HOMEASSISTANT_STOP)


async def look(dialog: FixDialog) -> dict[str, Any]:
    """Return what the dialog shows now, as the frontend asks for it."""
    return await (await dialog.client.get(f"{FIX}/{dialog.result['flow_id']}")).json()


async def begin_part(dialog: FixDialog, part: str) -> None:
    """Go on in the dialog to what takes long."""
    if part == "proof":
        await dialog.choose("accept")
    values = dialog.shown_values if part == "proof" else {"next_step_id": "run"}
    answer = await dialog.client.post(f"{FIX}/{dialog.result['flow_id']}", json=values)
    assert (await answer.json())["type"] == "progress"


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("part", PARTS)
async def test_what_a_fix_flow_does_ends_with_the_host(  # noqa: PLR0913, PLR0917 - fixtures, and two parameters
    hass: HomeAssistant, host: Host, script: Script, begin, caplog: pytest.LogCaptureFixture, part: str, how: str
) -> None:
    dialog, work = await begin(KEY if part == "proof" else DOCKER), Work()
    with slow(part, work, host, script):
        await begin_part(dialog, part)
        async with asyncio.timeout(10):
            await work.begun.wait()
        closed = work.closed
        async with asyncio.timeout(5):
            await end(hass, host, how)
            for _ in range(10):
                await asyncio.sleep(0)
        assert not work.is_running
        if part in ("command", "test"):
            assert work.closed > closed
        await hass.async_block_till_done()
        # Nobody is answered any more while Home Assistant stops; the step is there all the same.
        shown = next(iter(flows(hass))) if how == "stopped" else await look(dialog)
    hass.set_state(CoreState.running)
    assert (shown.get("reason") or shown["step_id"]) == "ended"
    assert [record.getMessage() for record in caplog.records if is_complaint(record)] == []


async def test_nothing_is_begun_while_home_assistant_stops(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    work = Work()
    hass.set_state(CoreState.stopping)
    with pytest.raises(Ended):
        await async_while_loaded(hass, host.entry, work.last())
    hass.set_state(CoreState.running)
    assert not work.begun.is_set()


def flows(hass: HomeAssistant) -> list[Any]:
    return list(hass.data["repairs"]["flow_manager"].async_progress())


def is_complaint(record: logging.LogRecord) -> bool:
    # aiohttp cannot write the time of a clock that a test has stopped.
    return record.levelno >= logging.ERROR and record.name != "aiohttp.access"
