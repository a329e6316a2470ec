"""Log in anew when a person may have granted rights by hand, on the host itself.

sshd sets the groups of a login once, and a running probe retries sudo only once an hour after a refusal: both
would go on with the rights that they started with. Each host gets one such login a minute at most.
"""

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .client.bucket import Bucket
from .client.limits import RENEWALS
from .const import DOMAIN
from .coordinator import HomelabCoordinator

_RENEWALS: HassKey[dict[str, Bucket]] = HassKey(f"{DOMAIN}_renewals")
_DENIED: HassKey[set[str]] = HassKey(f"{DOMAIN}_denied")


@callback
def async_note_denied(coordinator: HomelabCoordinator) -> None:
    """Remember that the user's rights were not sufficient: the next try is worth a new login."""
    _denied(coordinator.hass).add(coordinator.config_entry.entry_id)


async def async_renew_after_denial(coordinator: HomelabCoordinator) -> None:
    """Log in anew if rights were not sufficient the last time; raises nothing."""
    if coordinator.config_entry.entry_id in _denied(coordinator.hass):
        await async_renew(coordinator)


async def async_renew(coordinator: HomelabCoordinator) -> None:
    """Log in anew and poll, unless that was done less than a minute ago; raises nothing."""
    hass, entry_id = coordinator.hass, coordinator.config_entry.entry_id
    if hass.data.setdefault(_RENEWALS, {}).setdefault(entry_id, Bucket(*RENEWALS)).take():
        _denied(hass).discard(entry_id)
        await coordinator.async_reconnect()


def _denied(hass: HomeAssistant) -> set[str]:
    """Return the ids of the entries on whose hosts rights were not sufficient since their last login."""
    return hass.data.setdefault(_DENIED, set())
