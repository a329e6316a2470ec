"""Fix flows: from an issue to its cure, and to a test that says whether it is one.

A command is looked up here, from the entry and the check that the issue is about; nothing in
the issue itself can choose one. What the host printed is shown to the administrator who runs
the flow, and kept nowhere. A password lives as long as the call that pipes it to sudo.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, override

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import CONF_PASSWORD
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType
from homeassistant.helpers.translation import async_get_translations
import voluptuous as vol

from .capability import async_connect, async_test_host
from .checklist import check_name, finding, symbol, words
from .client.errors import HomelabError
from .client.facts import Family, family_of
from .client.keys import fingerprint
from .client.remedies import Outcome, Remedy, RemedyResult, Where, remedy_for, run_remedy
from .client.report import CheckResult, Report, Status, restore_report
from .client.ssh import scan_host_keys
from .const import CONF_HOST_KEYS, CONF_SUDO, DOMAIN
from .coordinator import HomelabConfigEntry
from .issues import async_issue_row
from .markdown import copyable, escaped, fenced
from .settings import HostAddress, HostOptions

type Work = Callable[[], Coroutine[Any, Any, str]]
"""Something that runs beside the dialog; it returns the step that comes next."""

_NOTHING_TO_TYPE = vol.Schema({})
# Never a suggested value: what is typed here is used once and forgotten.
_PASSWORD = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
_PASSWORD_SCHEMA = vol.Schema({vol.Required(CONF_PASSWORD): _PASSWORD})
_CURED = frozenset({Status.OK, Status.INFO})
_FINGERPRINT_COMMAND = "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done"


async def async_create_fix_flow(
    hass: HomeAssistant,
    issue_id: str,  # noqa: ARG001
    data: dict[str, str | int | float | None] | None,
) -> RepairsFlow:
    """Return the flow of one issue."""
    about = data or {}
    entry = hass.config_entries.async_get_entry(str(about.get("entry_id")))
    if entry is None or entry.state is not ConfigEntryState.LOADED:
        return GoneFlow()
    check = str(about.get("check"))
    return HostKeyFlow(entry, check) if check == "host_key" else RemedyFlow(entry, check)


class GoneFlow(RepairsFlow):
    """An issue of a host that is no longer watched."""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say so."""
        return self.async_abort(reason="gone")


class CheckFlow(RepairsFlow):
    """What the flows share: one host, one check, and testing it again."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Know what the issue is about."""
        self._entry = entry
        self._check = check
        self._address = HostAddress.from_data(entry.data)
        self._report: Report | None = None
        self._task: asyncio.Task[str] | None = None
        self._texts: Mapping[str, str] = {}

    async def async_step_ignore(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ignore the issue as long as it exists; polling may have ended it meanwhile."""
        if ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id) is None:
            return self.async_abort(reason="cured")
        ir.async_ignore_issue(self.hass, DOMAIN, self.issue_id, ignore=True)
        return self.async_abort(reason="ignored")

    async def async_step_gone(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say that the host was removed or disabled meanwhile."""
        return self.async_abort(reason="gone")

    async def async_step_test(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Test again over a new connection, with progress."""
        return await self._async_progress("test", self._async_test)

    async def async_step_fixed(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say that the check is passed, and close the issue."""
        if user_input is not None:
            return self.async_create_entry(data={})
        return self.async_show_form(
            step_id="fixed",
            data_schema=_NOTHING_TO_TYPE,
            description_placeholders=await self._async_placeholders(),
            last_step=True,
        )

    async def _async_test(self) -> str:
        """Run the whole test and return the step that it leads to; it is stored, and issues follow it."""
        try:
            report = await async_test_host(self.hass, self._entry, self.async_update_progress, reconnect=True)
        except ServiceValidationError:
            return "gone"
        self._report = report
        row = report.row(self._check)
        return "fixed" if row is not None and row.status in _CURED else "still_wrong"

    async def _async_progress(self, step: str, work: Work) -> RepairsFlowResult:
        """Let something run beside the dialog, then go to the step that it returns."""
        if self._task is None:
            # Not eager: progress that ends at once would hand what was submitted, a password, to the next step.
            self._task = self.hass.async_create_task(work(), f"{DOMAIN} fix flow {step}", eager_start=False)
        if not self._task.done():
            return self.async_show_progress(
                step_id=step,
                progress_action=step,
                progress_task=self._task,
                description_placeholders=await self._async_placeholders(),
            )
        task, self._task = self._task, None
        return self.async_show_progress_done(next_step_id=task.result())

    async def _async_form(self, step: str) -> RepairsFlowResult:
        """Show a form without fields."""
        placeholders = await self._async_placeholders()
        return self.async_show_form(step_id=step, data_schema=_NOTHING_TO_TYPE, description_placeholders=placeholders)

    async def _async_menu(self, step: str, options: list[str]) -> RepairsFlowResult:
        """Show a menu."""
        placeholders = await self._async_placeholders()
        return self.async_show_menu(step_id=step, menu_options=options, description_placeholders=placeholders)

    async def _async_placeholders(self) -> dict[str, str]:
        """Return what the steps' descriptions show; all of it is Markdown."""
        self._texts = await async_get_translations(self.hass, self.hass.config.language, "selector", [DOMAIN])
        row = self._shown_row()
        return {
            "host_name": escaped(self._entry.title),
            "address": escaped(self._address.target.address),
            "username": escaped(self._address.target.username),
            "check": words(self._texts, "check", self._check),
            "reason": f"{symbol(row)} **{check_name(self._texts, row)}**: {finding(self._texts, row)}" if row else "",
        }

    def _row(self) -> CheckResult | None:
        """Return the last word on the check; a test that could not judge it says nothing new."""
        row = self._report.row(self._check) if self._report else None
        if row is None or row.status is Status.UNKNOWN:
            return async_issue_row(self.hass, self._entry.entry_id, self._check)
        return row

    def _shown_row(self) -> CheckResult | None:
        """Return what is wrong: the check, or what kept the test from reaching it."""
        row = self._report.row(self._check) if self._report else None
        if self._report and row and row.status is Status.UNKNOWN:
            return next((each for each in self._report.rows if each.status is Status.RED), row)
        return self._row()


class RemedyFlow(CheckFlow):
    """Cure a check by a command of the catalog, or show how it is done by hand."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Begin without a result."""
        super().__init__(entry, check)
        self._memory = entry.runtime_data.store.memory
        self._result: RemedyResult | None = None
        self._lost: HomelabError | None = None

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show what is wrong and offer what can be done about it."""
        remedy = self._remedy()
        if remedy is None:
            return await self.async_step_no_cure()
        return await (self.async_step_cure() if remedy.where is Where.HOST else self.async_step_by_hand())

    async def async_step_cure(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Offer to run the command."""
        return await self._async_menu("cure", ["run", "show", "ignore"])

    async def async_step_by_hand(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Offer to show what has to be done by hand."""
        return await self._async_menu("by_hand", ["show", "test", "ignore"])

    async def async_step_no_cure(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Offer to test again."""
        return await self._async_menu("no_cure", ["test", "ignore"])

    async def async_step_show(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the command, then test."""
        if user_input is None:
            return await self._async_form("show")
        self._result = None
        return await self.async_step_test()

    async def async_step_run(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Run the command and test again, with progress."""
        return await self._async_progress("run", partial(self._async_run, None))

    async def async_step_password(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for the password of sudo, only after sudo has asked for it."""
        if user_input is not None:
            return await self._async_progress("run", partial(self._async_run, user_input[CONF_PASSWORD]))
        is_wrong = self._result is not None and self._result.outcome is Outcome.WRONG_PASSWORD
        return self.async_show_form(
            step_id="password",
            data_schema=_PASSWORD_SCHEMA,
            errors={"base": "wrong_password"} if is_wrong else None,
            description_placeholders=await self._async_placeholders(),
        )

    async def async_step_not_run(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say why the command could not be run; a person can run it, then it is tested."""
        if user_input is None:
            return await self._async_form("not_run")
        self._result = self._lost = None
        return await self.async_step_test()

    async def async_step_still_wrong(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show what is still wrong."""
        remedy = self._remedy()
        options = ["show", "test"] if remedy else ["test"]
        if remedy and remedy.where is Where.HOST:
            options = ["run", *options]
        return await self._async_menu("still_wrong", [*options, "ignore"])

    # ------------------------------------------------------------ running

    async def _async_run(self, password: str | None) -> str:
        """Run the command and return the next step; when it began it is tested, whatever it said."""
        remedy = self._remedy()
        if remedy is None:
            return await self._async_test()
        # Of a host that was removed or disabled meanwhile nothing is asked any more.
        if self._entry.state is not ConfigEntryState.LOADED:
            return "gone"
        self._lost = None
        try:
            connection = await async_connect(self.hass, self._entry)
            try:
                self._result = await run_remedy(connection, remedy, password)
            finally:
                await connection.close()
        except HomelabError as err:
            self._lost = err
            return "not_run"
        if self._result.outcome in (Outcome.NEEDS_PASSWORD, Outcome.WRONG_PASSWORD):
            return "password"
        if self._result.outcome in (Outcome.REFUSED, Outcome.NO_PRIVILEGE):
            return "not_run"
        step = await self._async_test()
        if step == "fixed":
            self._allow_sudo(remedy)
        return step

    def _allow_sudo(self, remedy: Remedy) -> None:
        """Let the probe use what the cure has allowed it."""
        if remedy.sudo_section is None:
            return
        allowed = HostOptions.from_options(self._entry.options).sudo
        sections = list(dict.fromkeys([*allowed, remedy.sudo_section]))
        self.hass.config_entries.async_update_entry(self._entry, options={**self._entry.options, CONF_SUDO: sections})
        self.hass.config_entries.async_schedule_reload(self._entry.entry_id)

    def _remedy(self) -> Remedy | None:
        """Look the cure up in the catalog."""
        row = self._row()
        if row is None or row.remedy is None:
            return None
        return remedy_for(row.remedy, self._family(), self._address.target.username, row.placeholders)

    def _family(self) -> Family:
        """Return the family of the host: by the last test, else by what it told at the last poll."""
        if report := self._report or restore_report(self._memory.last_test):
            return report.family
        system = self._memory.snapshot.sections.system
        return family_of(system.os_id, system.os_id_like) if system else Family.OTHER

    @override
    async def _async_placeholders(self) -> dict[str, str]:
        """Add the command, what it is good for, and what it said."""
        placeholders = await super()._async_placeholders()
        remedy = self._remedy()
        return placeholders | {
            "remedy": words(self._texts, "remedy", remedy.key) if remedy else "",
            "command": copyable(remedy.text) if remedy and remedy.text else "",
            "result": "\n\n".join(self._shown_result()),
        }

    def _shown_result(self) -> list[str]:
        """Return the paragraphs that tell how the command went."""
        if self._lost is not None:
            return [self._word("not_reached"), fenced(str(self._lost))]
        if self._result is None:
            return []
        result, parts = self._result, [self._word(self._result.outcome.value)]
        if result.outcome in (Outcome.DONE, Outcome.FAILED):
            parts = [self._word("ran").format(exit_status=result.exit_status)]
        for text, word in ((result.stdout, "printed"), (result.stderr, "complained")):
            parts += [self._word(word), fenced(text)] if text.strip() else []
        return parts + ([self._word("truncated")] if result.truncated else [])

    def _word(self, key: str) -> str:
        """Return a text about a result."""
        return words(self._texts, "remedy_result", key)


class HostKeyFlow(CheckFlow):
    """Compare the keys that a host shows with those that were confirmed; accepting is an explicit act."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Have seen no key yet."""
        super().__init__(entry, check)
        self._offered: tuple[str, ...] = ()
        self._failure: HomelabError | None = None

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begin with the keys."""
        return await self.async_step_review()

    async def async_step_review(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask the host for its keys and show them beside the confirmed ones."""
        target, timeout = self._address.target, HostOptions.from_options(self._entry.options).timeout
        try:
            offered = await scan_host_keys(target.host, target.port, timeout)
        except HomelabError as err:
            self._offered, self._failure = (), err
            return await self.async_step_unreachable()
        self._offered, self._failure = offered, None
        if set(map(fingerprint, self._offered)) & set(map(fingerprint, self._address.host_keys)):
            return await self.async_step_same_again()
        return await self._async_menu("review", ["accept", "test", "ignore"])

    async def async_step_unreachable(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say why no key can be seen."""
        return await self._async_menu("unreachable", ["review", "ignore"])

    async def async_step_same_again(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say that the confirmed key is back, then test."""
        return await (self._async_form("same_again") if user_input is None else self.async_step_test())

    async def async_step_accept(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Pin the keys that were shown, and only those, then test."""
        return await self._async_progress("accept", self._async_accept)

    async def async_step_still_wrong(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show what is still wrong."""
        return await self._async_menu("still_wrong", ["review", "ignore"])

    async def _async_accept(self) -> str:
        """Let the entry start again with the accepted keys, and test it."""
        self._address = replace(self._address, host_keys=self._offered)
        self.hass.config_entries.async_update_entry(
            self._entry, data={**self._entry.data, CONF_HOST_KEYS: list(self._offered)}
        )
        await self.hass.config_entries.async_reload(self._entry.entry_id)
        return await self._async_test()

    @override
    async def _async_placeholders(self) -> dict[str, str]:
        """Add the keys of both sides."""
        placeholders = await super()._async_placeholders()
        failure = {"reason": escaped(str(self._failure))} if self._failure else {}
        return (
            placeholders
            | failure
            | {
                "expected": copyable("\n".join(map(fingerprint, HostAddress.from_data(self._entry.data).host_keys))),
                "offered": copyable("\n".join(map(fingerprint, self._offered))),
                "fingerprint_command": copyable(_FINGERPRINT_COMMAND),
            }
        )
