"""Raise the alarm that another machine answers in the place of a host, for all connections alike.

Somebody in between may answer one connection and not the next. So it does not matter whether that was a poll: a
control, an installation, a test, a repair or a check of the known address raises the same alarm, with the same traces.
"""

from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import callback

from ..client.errors import ALARMS, HomelabError, without_frames


@callback
def async_alarm(entry: ConfigEntry[Any], err: HomelabError) -> None:
    """Raise the alarm if an error of a connection other than a poll shows that another machine answers.

    `err` concerns the address and the keys of the entry; polls find out any other failure themselves.
    """
    coordinator = getattr(entry, "runtime_data", None) if entry.state is ConfigEntryState.LOADED else None
    if isinstance(err, ALARMS) and coordinator is not None:
        coordinator.async_alarm(without_frames(err))
