"""The alarm that somebody answers in the place of a host: one for all connections, whoever has opened them.

Whoever is between answers one connection and not the next one. So it does not matter whether that was one of the polls:
a control, an installation, a test, a repair or a look at the known address raise the same alarm, with the same traces.
"""

from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import callback

from ..client.errors import ALARMS, HomelabError, without_frames


@callback
def async_alarm(entry: ConfigEntry[Any], err: HomelabError) -> None:
    """Raise the alarm when an error of a connection beside the polls says that another machine answers.

    `err` is about the address and the keys of the entry; anything else that went wrong is for the polls to find out.
    """
    coordinator = getattr(entry, "runtime_data", None) if entry.state is ConfigEntryState.LOADED else None
    if isinstance(err, ALARMS) and coordinator is not None:
        coordinator.async_alarm(without_frames(err))
