"""How a host is watched: intervals, what is shown, thresholds and privileges.

What can be chosen by name is offered as the host really has it. An empty choice means that the
integration chooses; an option that equals its default is not stored.
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
    """Change the options of one host, which is set up anew with them."""

    config_entry: HomelabConfigEntry
    _shown: tuple[dict[str, Any], HostAddress] | None = None
    """What the form shows: the options, and whose they are."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show all options, or say that the host was removed: in another window, or while it was asked."""
        try:
            return await self._async_form(user_input)
        except UnknownEntry:
            return self.async_abort(reason="gone")

    async def _async_form(self, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        """Show all options; what is submitted replaces those that were shown, and no others."""
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
        """Tell whether options and machine still are those of the form; privileges are given to one machine."""
        if self._shown is None:
            return False
        options, address = self._shown
        is_same = address.is_same(HostAddress.from_data(self.config_entry.data))
        return is_same and options == self.config_entry.options

    async def _async_offered(self) -> dict[str, list[str]]:
        """Return what the host has to choose from, and what is chosen already."""
        snapshot = Snapshot()
        if self.config_entry.state is ConfigEntryState.LOADED:
            snapshot = self.config_entry.runtime_data.data.snapshot
        has = {CONF_SERVICES: await self._async_services(snapshot)} | _has(snapshot)
        return {name: sorted({*items, *self.config_entry.options.get(name, ())}) for name, items in has.items()}

    async def _async_services(self, snapshot: Snapshot) -> set[str]:
        """Return every service of the host; only the known ones while it cannot be asked."""
        known = snapshot.sections.services
        if self.config_entry.state is not ConfigEntryState.LOADED or not self.config_entry.runtime_data.data.is_online:
            return _names(known)
        # A host that hangs answers at the end of its time limit, if at all: nobody looks at a blank page for that long.
        asking = self.config_entry.async_create_background_task(
            self.hass, self._async_every_service(), f"{self.config_entry.title} services"
        )
        await asyncio.wait({asking}, timeout=_WAIT_SECONDS)
        told = asking.result() if asking.done() and not asking.cancelled() else None
        return _names(told or known)

    async def _async_every_service(self) -> Services | None:
        """Ask for every service, None when there is no answer."""
        try:
            reply = await self.config_entry.runtime_data.session.poll(["services"], _EVERY_SERVICE)
        except HomelabError as err:
            async_alarm(self.config_entry, err)
            return None
        told = reply.sections.get("services")
        return told if isinstance(told, Services) else None


def _names(told: Services | None) -> set[str]:
    """Return the names of the services."""
    return {unit.name for unit in told.units} if told else set()


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
    """Return a choice by name; a pattern can be typed instead."""
    return SelectSelector(
        SelectSelectorConfig(
            options=list(items), multiple=True, custom_value=True, mode=SelectSelectorMode.DROPDOWN, sort=True
        )
    )


def _flat(user_input: dict[str, Any]) -> dict[str, Any]:
    """Return the options without their sections; what is empty means the default."""
    flat: dict[str, Any] = {}
    for name, value in user_input.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if value != []}
