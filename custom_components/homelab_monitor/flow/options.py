"""The options of a host: intervals, selected items, thresholds and privileges.

Items that can be selected by name are offered as the host has them. An empty selection means that
the integration selects; an option that equals its default is not stored.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlowWithReload, UnknownEntry
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
import voluptuous as vol

from ..client.errors import HomelabError
from ..client.models import Services
from ..client.probe.snapshot import Snapshot
from ..client.tracking.values import containers, filesystems, interfaces
from ..const import (
    CONF_CONTAINERS,
    CONF_FILESYSTEMS,
    CONF_INTERFACES,
    CONF_SERVICES,
    CONF_SUDO,
    SUDO_NOT_YET,
    SUDO_SECTIONS,
)
from ..coordinator import HomelabConfigEntry
from ..health.alarms import async_alarm
from ..settings import OPTIONS, HostAddress, HostOptions, Option, Section

_EVERY_SERVICE = {"services": ["*"]}
_WAIT_SECONDS = 1.0


class HomelabOptionsFlow(OptionsFlowWithReload):
    """Change the options of one host, which is then reloaded with them."""

    config_entry: HomelabConfigEntry
    _shown: tuple[dict[str, Any], HostAddress] | None = None
    """What the form shows: the options, and the address of their host."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show all options, or that the host was removed: in another window, or while it was polled."""
        try:
            return await self._async_form(user_input)
        except UnknownEntry:
            return self.async_abort(reason="gone")

    async def _async_form(self, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        """Show all options; a submitted form replaces only the options that were shown."""
        if user_input is not None and self._is_as_shown:
            return self.async_create_entry(data=_flat(user_input))
        offered = await self._async_offered()
        options = dict(self.config_entry.options)
        schema = _schema(offered, HostOptions.from_options(options).sudo)
        self._shown = options, HostAddress.from_data(self.config_entry.data)
        suggested = options | dict.fromkeys(Section, options)
        return self.async_show_form(
            step_id="init",
            data_schema=self.add_suggested_values_to_schema(schema, suggested),
            errors=None if user_input is None else {"base": "changed_meanwhile"},
            description_placeholders={"name": self.config_entry.title},
        )

    @property
    def _is_as_shown(self) -> bool:
        """Return whether options and machine still are those of the form; privileges are granted to one machine."""
        if self._shown is None:
            return False
        options, address = self._shown
        is_same = address.is_same(HostAddress.from_data(self.config_entry.data))
        return is_same and options == self.config_entry.options

    async def _async_offered(self) -> dict[str, list[str]]:
        """Return the items of the host that can be selected, and those that are selected already, by option."""
        snapshot = Snapshot()
        if self.config_entry.state is ConfigEntryState.LOADED:
            snapshot = self.config_entry.runtime_data.data.snapshot
        has = {CONF_SERVICES: await self._async_services(snapshot)} | _has(snapshot)
        return {name: sorted({*items, *self.config_entry.options.get(name, ())}) for name, items in has.items()}

    async def _async_services(self, snapshot: Snapshot) -> set[str]:
        """Return the names of all services of the host; only of the known ones if it does not answer."""
        known = snapshot.sections.services
        if self.config_entry.state is not ConfigEntryState.LOADED or not self.config_entry.runtime_data.data.is_online:
            return _names(known)
        # A host that hangs answers at the end of its time limit, if at all: too long for a blank page.
        request = self.config_entry.async_create_background_task(
            self.hass, self._async_every_service(), f"{self.config_entry.title} services"
        )
        await asyncio.wait({request}, timeout=_WAIT_SECONDS)
        services = request.result() if request.done() and not request.cancelled() else None
        return _names(services or known)

    async def _async_every_service(self) -> Services | None:
        """Return all services of the host, None without a reply."""
        try:
            reply = await self.config_entry.runtime_data.session.poll(["services"], _EVERY_SERVICE)
        except HomelabError as err:
            async_alarm(self.config_entry, err)
            return None
        services = reply.sections.get("services")
        return services if isinstance(services, Services) else None


def _names(services: Services | None) -> set[str]:
    """Return the names of the services."""
    return {unit.name for unit in services.units} if services else set()


def _has(snapshot: Snapshot) -> dict[str, set[str]]:
    """Return mountpoints, interfaces and containers of the host."""
    return {
        CONF_FILESYSTEMS: _mountpoints(snapshot),
        CONF_INTERFACES: set(interfaces(snapshot)),
        CONF_CONTAINERS: {each.lasting_name for each in containers(snapshot)},
    }


def _mountpoints(snapshot: Snapshot) -> set[str]:
    """Return where filesystems are, also those that are only asked once they are chosen."""
    section = snapshot.sections.filesystems
    unwatched = {each.mountpoint for each in section.unwatched} if section else set()
    return unwatched | {each.mountpoint for each in filesystems(snapshot)}


def _schema(offered: dict[str, list[str]], chosen_sudo: Collection[str]) -> vol.Schema:
    """Return the form; what belongs together and is rarely changed is folded."""
    sudo = [name for name in SUDO_SECTIONS if name not in SUDO_NOT_YET or name in chosen_sudo]
    choices = {name: _choice(items) for name, items in offered.items()} | {CONF_SUDO: _list(CONF_SUDO, sudo)}
    parts: dict[Section | None, dict[vol.Marker, object]] = {each: {} for each in (None, *Section)}
    for name, option in OPTIONS.items():
        may_be_empty = option.default in (None, ())
        key = vol.Optional(name) if may_be_empty else vol.Required(name, default=option.default)
        parts[option.section][key] = choices[name] if name in choices else _selector(option)
    folded = {vol.Required(each.value): section(vol.Schema(parts[each]), {"collapsed": True}) for each in Section}
    return vol.Schema(parts[None] | folded)


def _selector(option: Option) -> BooleanSelector | NumberSelector:
    """Return a switch, or a whole number to type."""
    if isinstance(option.default, bool):
        return BooleanSelector()
    return NumberSelector(
        NumberSelectorConfig(
            min=option.least, max=option.most, step=1, mode=NumberSelectorMode.BOX, unit_of_measurement=option.unit
        )
    )


def _list(name: str, items: list[str]) -> SelectSelector:
    """Return a choice of what has a name in our texts."""
    return SelectSelector(
        SelectSelectorConfig(options=items, multiple=True, mode=SelectSelectorMode.LIST, translation_key=name)
    )


def _choice(items: Iterable[str]) -> SelectSelector:
    """Return a selector of names; a pattern can be typed instead."""
    return SelectSelector(
        SelectSelectorConfig(
            options=list(items), multiple=True, custom_value=True, mode=SelectSelectorMode.DROPDOWN, sort=True
        )
    )


def _flat(user_input: dict[str, Any]) -> dict[str, Any]:
    """Return the options without their sections; empty ones are left out, as they mean the default."""
    flat: dict[str, Any] = {}
    for name, value in user_input.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if value != []}
