"""Do something on a host because a person or an automation requested it, or explain why not.

Buttons, switches and actions use this module. It checks whether the options allow it and whether the host is
online, translates the client's errors, and polls what was just changed.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final, NoReturn

from homeassistant.components import network
from homeassistant.config_entries import ConfigEntryState
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.util.hass_dict import HassKey

from .client.bucket import Bucket
from .client.control.control import (
    PowerAction,
    RunAction,
    control_container,
    control_power,
    control_service,
    require_unit,
)
from .client.control.wake import send_magic_packets
from .client.errors import AnotherMachine, ControlDenied, ControlFailed, EngineDenied, HomelabError, only_asking
from .client.limits import CONNECTIONS_LIMIT, WAKES
from .client.models import Container, Log
from .client.probe.snapshot import Reply
from .client.tracking.addresses import card_addresses
from .client.tracking.values import containers
from .client.transport.ssh import Connection
from .const import CONF_CONTROL_CONTAINERS, CONF_CONTROL_SERVICES, CONF_POWER, DOMAIN
from .coordinator import HomelabCoordinator
from .health.alarms import async_alarm
from .renewal import async_note_denied, async_renew_after_denial

_WAKES: HassKey[dict[str, Bucket]] = HassKey(f"{DOMAIN}_wakes")
KEYS_LISTED: Final = 10
"""How many containers of one name an error lists."""
ASK_SECONDS: Final = 20.0
"""How long a section that is read only on demand may take; polls go on meanwhile."""


async def async_control_service(coordinator: HomelabCoordinator, unit: str, action: RunAction) -> None:
    """Start, stop or restart a service, and update its sensor."""
    require(coordinator, CONF_CONTROL_SERVICES)
    async with _aside(coordinator, "services") as (connection, host):
        await control_service(connection, host, unit, action)


async def async_control_container(coordinator: HomelabCoordinator, container: Container, action: RunAction) -> None:
    """Start, stop or restart a container, and update its entities."""
    require(coordinator, CONF_CONTROL_CONTAINERS)
    # Podman is not listed in every poll of the section; in this one it has to be.
    async with _aside(coordinator, "containers", watch=[container.source]) as (connection, host):
        await control_container(connection, host, container, action)


def find_container(coordinator: HomelabCoordinator, name: str) -> Container:
    """Return the container of that name, or of that engine, owner and name; raise ServiceValidationError if not one.

    A guest's container of the same name does not count, unless it is given in full or is the only one.
    """
    found = [each for each in containers(coordinator.data.snapshot) if name in (each.name, each.lasting_name, each.key)]
    own = [each for each in found if name == each.key or not coordinator.selection.guest(each.owner)]
    found = own or found
    if len(found) == 1:
        return found[0]
    raise ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key="several_containers" if found else "no_such_container",
        translation_placeholders={
            "name": coordinator.name,
            "container": name,
            "keys": ", ".join(each.key for each in found[:KEYS_LISTED]),
        },
    )


async def async_control_power(coordinator: HomelabCoordinator, action: PowerAction) -> None:
    """Shut the host down or restart it, but not during an installation that we follow."""
    require(coordinator, CONF_POWER)
    if coordinator.options.install_updates and coordinator.store.memory.upgrade.manager:
        _refuse(coordinator, "upgrading")
    async with _aside(coordinator) as (connection, host):
        await control_power(connection, host, action)


async def async_wake(coordinator: HomelabCoordinator) -> None:
    """Send a magic packet for every network card that the host has reported, even if another device claims it."""
    macs = physical_macs(coordinator)
    if not macs:
        _refuse(coordinator, "no_mac")
    # A button may be pressed any number of times.
    buckets = coordinator.hass.data.setdefault(_WAKES, {})
    if not buckets.setdefault(coordinator.config_entry.entry_id, Bucket(*WAKES)).take():
        _refuse(coordinator, "woken_often")
    addresses = await network.async_get_ipv4_broadcast_addresses(coordinator.hass)
    try:
        await coordinator.hass.async_add_executor_job(send_magic_packets, macs, sorted(map(str, addresses)))
    except OSError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="not_sent",
            translation_placeholders={"name": coordinator.name, "detail": str(err)},
        ) from err


def physical_macs(coordinator: HomelabCoordinator) -> list[str]:
    """Return the burnt-in addresses of the host's network cards, as far as it ever reported any.

    Never more than a machine has, and no group addresses: a packet wakes each of them, on whatever machine it is.
    """
    hardware = coordinator.data.snapshot.sections.hardware
    return list(card_addresses(hardware)[0][:CONNECTIONS_LIMIT]) if hardware else []


async def async_request[SectionT](  # noqa: PLR0913
    coordinator: HomelabCoordinator,
    section: str,
    kind: type[SectionT],
    watch: Mapping[str, Sequence[str]] | None = None,
    *,
    again_after: float | None = None,
    gone: tuple[str, Mapping[str, str]] | None = None,
) -> tuple[SectionT, ...]:
    """Return a section read on demand, beside the polls; two readings if `again_after` (seconds) is given.

    `gone`: key and placeholders of the error to raise if the host does not have the named thing.
    """
    require_online(coordinator)
    await async_renew_after_denial(coordinator)
    sudo = [section] if section in coordinator.options.sudo else []
    async with translated(coordinator):
        with only_asking():
            replies = await coordinator.session.ask_aside(
                [section], watch, sudo, timeout=ASK_SECONDS, again_after=again_after
            )
    if any(reply.missing.get(section) == "permission_denied" for reply in replies):
        async_note_denied(coordinator)
    if gone and any(reply.missing.get(section) == "not_installed" for reply in replies):
        raise _refusal(coordinator, *gone)
    return tuple(_section(coordinator, section, kind, reply) for reply in replies)


async def async_read_service_log(coordinator: HomelabCoordinator, unit: str, lines: int) -> Log:
    """Return the last lines of the log of a service."""
    async with translated(coordinator):
        require_unit(coordinator.address.target.host, unit)
    return await _async_read_log(coordinator, f"{lines} service {unit}", ("no_such_unit", {"unit": unit}))


async def async_read_container_log(coordinator: HomelabCoordinator, container: Container, lines: int) -> Log:
    """Return the last lines of the log of a container."""
    about = ("no_such_container", {"container": container.name})
    return await _async_read_log(coordinator, f"{lines} container {container.place}", about)


async def _async_read_log(coordinator: HomelabCoordinator, wish: str, gone: tuple[str, Mapping[str, str]]) -> Log:
    """Return the log for a wish as in the probe's contract; `gone` is the error for a log that does not exist."""
    (log,) = await async_request(coordinator, "logs", Log, {"logs": [wish]}, gone=gone)
    return log


REASONS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {("logs", "permission_denied"): "log_denied", ("logs", "not_supported"): "no_journal"}
)
"""(Section, reason why it is missing) → translation key of a more helpful error."""


def _section[SectionT](coordinator: HomelabCoordinator, section: str, kind: type[SectionT], reply: Reply) -> SectionT:
    """Return the section of a reply; raise HomeAssistantError with the reason if it is missing."""
    value = reply.sections.get(section)
    if isinstance(value, kind):
        return value
    reason = reply.missing.get(section, "")
    raise HomeAssistantError(
        translation_domain=DOMAIN,
        translation_key=REASONS.get((section, reason), "not_told"),
        translation_placeholders={
            "name": coordinator.name,
            "username": coordinator.address.target.username,
            "detail": reply.errors.get(section) or reason,
        },
    )


# ---------------------------------------------------------------- refusing


def is_set_up(coordinator: HomelabCoordinator) -> bool:
    """Return whether this is still the host's coordinator: it may be set up anew, disabled or removed at any time."""
    entry = coordinator.config_entry
    is_current = getattr(entry, "runtime_data", None) is coordinator
    return is_current and entry.state in (ConfigEntryState.SETUP_IN_PROGRESS, ConfigEntryState.LOADED)


def require_online(coordinator: HomelabCoordinator) -> None:
    """Raise if the host is no longer set up, or does not answer: waiting for it would take minutes."""
    if not is_set_up(coordinator):
        _refuse(coordinator, "host_gone")
    if coordinator.data.is_online:
        return
    if isinstance(error := coordinator.data.error, AnotherMachine):
        raise _in_words(coordinator, error)
    _refuse(coordinator, "host_offline")


def require(coordinator: HomelabCoordinator, option: str) -> None:
    """Raise if the options do not allow it, or the host does not answer."""
    if not getattr(coordinator.options, option):
        _refuse(coordinator, f"{option}_off")
    require_online(coordinator)


def _refuse(coordinator: HomelabCoordinator, reason: str) -> NoReturn:
    """Raise the error that explains why nothing was tried."""
    raise _refusal(coordinator, reason, {})


def _refusal(coordinator: HomelabCoordinator, reason: str, about: Mapping[str, str]) -> ServiceValidationError:
    """Return the error that explains why a request cannot be carried out."""
    return ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key=reason,
        translation_placeholders={"name": coordinator.name, **about},
    )


# ---------------------------------------------------------------- requests and replies


@asynccontextmanager
async def _aside(
    coordinator: HomelabCoordinator, changed: str | None = None, watch: Sequence[str] = ()
) -> AsyncIterator[tuple[Connection, str]]:
    """Provide a connection for a control, then poll the section that it may have changed."""
    await async_renew_after_denial(coordinator)
    async with translated(coordinator):
        try:
            async with coordinator.session.aside() as connection:
                yield connection, coordinator.address.target.host
        except HomelabError as err:
            if isinstance(err, (ControlDenied, EngineDenied)):
                async_note_denied(coordinator)
            # A service that does not start has failed, and a command may have run although its end was not seen:
            # both change the section.
            if err.may_have_run or isinstance(err, ControlFailed):
                await coordinator.async_poll_section(changed, watch)
            raise
        await coordinator.async_poll_section(changed, watch)


@asynccontextmanager
async def translated(coordinator: HomelabCoordinator) -> AsyncIterator[None]:
    """Turn the client's errors into HomeAssistantError."""
    try:
        yield
    except HomelabError as err:
        async_alarm(coordinator.config_entry, err)
        raise _in_words(coordinator, err) from err


def _in_words(coordinator: HomelabCoordinator, err: HomelabError) -> HomeAssistantError:
    """Return a translated HomeAssistantError for an error of the client."""
    placeholders = err.placeholders | {"name": coordinator.name, "username": coordinator.address.target.username}
    if err.may_have_run:
        placeholders["detail"] = err.detail or err.what
    key = "may_have_run" if err.may_have_run else err.key
    return HomeAssistantError(translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders)
