"""A new login where a person may have given rights by hand, on the host itself.

sshd gives a login its groups once, and a living probe asks sudo only once an hour for what it has refused: both
would go on with what was allowed at their beginning. Each host gets one such login a minute at most.
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
    """Remember that the user's rights did not suffice: the next try is worth a new login."""
    _denied(coordinator.hass).add(coordinator.config_entry.entry_id)


async def async_renew_after_denial(coordinator: HomelabCoordinator) -> None:
    """Log in anew where rights did not suffice the last time; raises nothing."""
    if coordinator.config_entry.entry_id in _denied(coordinator.hass):
        await async_renew(coordinator)


async def async_renew(coordinator: HomelabCoordinator) -> None:
    """Log in anew and poll, unless that was done less than a minute ago; raises nothing."""
    hass, entry_id = coordinator.hass, coordinator.config_entry.entry_id
    if hass.data.setdefault(_RENEWALS, {}).setdefault(entry_id, Bucket(*RENEWALS)).take():
        _denied(hass).discard(entry_id)
        await coordinator.async_reconnect()


def _denied(hass: HomeAssistant) -> set[str]:
    """Return the ids of the entries on whose hosts rights did not suffice since their last login."""
    return hass.data.setdefault(_DENIED, set())
