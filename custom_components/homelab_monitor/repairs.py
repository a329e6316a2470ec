"""Fix flows: from an issue to its fix, and to a test that shows whether it worked.

A command is looked up here, from the entry and the check of the issue; nothing in the issue
itself can select a command. The output of the host is shown to the administrator who runs
the flow, and stored nowhere. A password lives as long as the call that pipes it to sudo.
A flow acts only on what it has shown: it is about one login on one host, and ends when
another dialog changes the entry to another login or host.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, override

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.const import CONF_PASSWORD
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType
from homeassistant.helpers.translation import async_get_translations
import voluptuous as vol

from .capability import Ended, async_connect, async_test_host, async_while_loaded, remedy_lock
from .client.checks.host_facts import Family, family_of
from .client.checks.remedies import Outcome, Remedy, RemedyResult, Where, remedy_for, run_remedy
from .client.checks.report import CheckResult, CheckStatus, Report, restore_report
from .client.errors import HomelabError, HostKeyChanged, first_line
from .client.models import System
from .client.tracking.identity import is_it
from .client.transport.host_keys import changed_key
from .client.transport.keys import fingerprint, fingerprint_command
from .client.transport.scan import platform_of
from .client.transport.ssh import OfferedKey, read_host_key
from .const import CONF_SUDO, DOMAIN
from .coordinator import HomelabConfigEntry
from .flow.connection import async_require_proof, confirmation, unconfirmed
from .health.alarms import async_alarm
from .health.checklist import brief, check_name, command, finding, symbol, words
from .health.issues import async_is_fixed, async_issue_row
from .markdown import copyable, escaped, fenced
from .settings import HostAddress, HostOptions, is_monitored, without_privileges

type Work = Callable[[], Coroutine[Any, Any, str]]
"""Something that runs beside the dialog; it returns the next step."""

_NOTHING_TO_TYPE = vol.Schema({})
# Never a suggested value: what is typed here is used once and forgotten.
_PASSWORD = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
_PASSWORD_SCHEMA = vol.Schema({vol.Required(CONF_PASSWORD): _PASSWORD})
_NOT_RUN = frozenset({Outcome.NEEDS_TERMINAL, Outcome.OTHER_QUESTION, Outcome.REFUSED, Outcome.NO_PRIVILEGE})
_FIXED = frozenset({CheckStatus.OK, CheckStatus.INFO})


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
    """The flow of an issue whose host is no longer monitored."""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the host is gone."""
        return self.async_abort(reason="gone")


class CheckFlow(RepairsFlow):
    """What the flows share: one host, one check, and testing it again."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Remember what the issue is about."""
        self._entry = entry
        self._check = check
        self._address = HostAddress.from_data(entry.data)
        """The address that is shown; nothing is done for another one."""
        self._report: Report | None = None
        self._task: asyncio.Task[str] | None = None
        self._texts: Mapping[str, str] = {}
        self._reason = ""
        """The reason of the problem that was shown."""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the current problem."""
        raise NotImplementedError

    async def async_step_ignore(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ignore the issue as long as it exists; polling may have ended it, or found another problem, meanwhile."""
        if self._is_changed:
            return await self.async_step_changed()
        row = async_issue_row(self.hass, self._entry.entry_id, self._check)
        if row is not None and row.reason != self._reason:
            return await self._async_begin_again()
        if ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id) is None:
            return self.async_abort(reason="cured")
        ir.async_ignore_issue(self.hass, DOMAIN, self.issue_id, ignore=True)
        return self.async_abort(reason="ignored")

    async def async_step_gone(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the host was removed or disabled meanwhile."""
        return self.async_abort(reason="gone")

    async def async_step_ended(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the host was unloaded while something ran on it, so that the outcome is unknown."""
        return self.async_abort(reason="ended")

    async def async_step_changed(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the issue is about another machine, user or host key now."""
        return self.async_abort(reason="changed")

    async def async_step_test(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Test again over a new connection, with progress."""
        return await self._async_progress("test", self._async_test)

    async def async_step_fixed(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the check has passed, and close the issue.

        Home Assistant then deletes it. By the time the form is submitted it may be about something new.
        """
        if self._is_changed:
            return await self.async_step_changed()
        if user_input is not None:
            if not async_is_fixed(self.hass, self._entry.entry_id, self._check):
                return await self._async_begin_again()
            return self.async_create_entry(data={})
        return self.async_show_form(
            step_id="fixed",
            data_schema=_NOTHING_TO_TYPE,
            description_placeholders=await self._async_placeholders(),
            last_step=True,
        )

    async def _async_begin_again(self) -> RepairsFlowResult:
        """Show the current problem, whatever the last test has found."""
        self._report = None
        return await self.async_step_init()

    async def _async_test(self) -> str:
        """Run the whole test and return the next step; the report is stored, and issues are updated from it."""
        if self._is_changed:
            return "changed"
        try:
            report = await async_while_loaded(
                self.hass,
                self._entry,
                async_test_host(self.hass, self._entry, self.async_update_progress, reconnect=True),
            )
        except Ended:
            return "ended"
        except ServiceValidationError:
            return "changed" if self._is_changed else "gone"
        return self._step_after(report)

    def _step_after(self, report: Report) -> str:
        """Return the step that follows a report; a test is about the entry as it was when the test began."""
        if self._is_changed:
            return "changed"
        self._report = report
        row = report.row(self._check)
        return "fixed" if row is not None and row.status in _FIXED else "still_wrong"

    async def _async_progress(self, step: str, work: Work) -> RepairsFlowResult:
        """Run something beside the dialog, then go to the step that it returns."""
        if self._task is None and self._is_changed:
            return await self.async_step_changed()
        if self._task is None:
            # Not eager: progress that ends at once would pass the submitted data, a password, to the next step.
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

    async def _async_form(
        self, step: str, schema: vol.Schema = _NOTHING_TO_TYPE, *, error: str | None = None
    ) -> RepairsFlowResult:
        """Show a form."""
        if self._is_changed:
            return await self.async_step_changed()
        placeholders = await self._async_placeholders()
        errors = {"base": error} if error else None
        return self.async_show_form(
            step_id=step, data_schema=schema, errors=errors, description_placeholders=placeholders
        )

    async def _async_menu(self, step: str, options: list[str]) -> RepairsFlowResult:
        """Show a menu."""
        if self._is_changed:
            return await self.async_step_changed()
        placeholders = await self._async_placeholders()
        return self.async_show_menu(step_id=step, menu_options=options, description_placeholders=placeholders)

    @property
    def _is_changed(self) -> bool:
        """Return whether the entry is no longer about the machine, the user and the host key that were shown."""
        return not self._address.is_same(HostAddress.from_data(self._entry.data))

    async def _async_placeholders(self) -> dict[str, str]:
        """Return the placeholders of the steps: Markdown, except `plain_…` for titles and labels, which are plain."""
        self._texts = await async_get_translations(self.hass, self.hass.config.language, "selector", [DOMAIN])
        row, wrong = self._shown_row(), self._row()
        self._reason = wrong.reason if wrong else ""
        return {
            "host_name": escaped(self._entry.title),
            "address": escaped(self._address.target.address),
            "login": escaped(str(self._address.target)),
            "plain_name": first_line(self._entry.title),
            "plain_username": first_line(self._address.target.username),
            "check": words(self._texts, "check", self._check),
            "reason": f"{symbol(row)} **{check_name(self._texts, row)}**: {finding(self._texts, row)}" if row else "",
        }

    def _row(self) -> CheckResult | None:
        """Return the last result of the check; a test that could not evaluate it adds nothing."""
        row = self._report.row(self._check) if self._report else None
        if row is None or row.status is CheckStatus.UNKNOWN:
            return async_issue_row(self.hass, self._entry.entry_id, self._check)
        return row

    def _shown_row(self) -> CheckResult | None:
        """Return the row to show: the check, or what kept the test from evaluating it."""
        row = self._report.row(self._check) if self._report else None
        if self._report and row and row.status is CheckStatus.UNKNOWN:
            return self._report.hindrance or row
        return self._row()


class RemedyFlow(CheckFlow):
    """Fix a check by a command of the catalog, or show how to do it by hand."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Start without a result."""
        super().__init__(entry, check)
        self._memory = entry.runtime_data.store.memory
        self._result: RemedyResult | None = None
        self._lost = ""
        self._may_have_run = False
        self._shown: Remedy | None = None
        """The command on the screen: no other command is run."""
        self._is_other = False

    @override
    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the problem and offer what can be done about it."""
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
        self._forget()
        return await self.async_step_test()

    async def async_step_run(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Run the command and test again, with progress."""
        return await self._async_progress("run", partial(self._async_run, self._shown, None))

    async def async_step_password(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for the password of sudo; only after sudo has asked for it."""
        if user_input is not None:
            return await self._async_progress("run", partial(self._async_run, self._shown, user_input[CONF_PASSWORD]))
        is_wrong = self._result is not None and self._result.outcome is Outcome.WRONG_PASSWORD
        return await self._async_form("password", _PASSWORD_SCHEMA, error="wrong_password" if is_wrong else None)

    async def async_step_not_run(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Explain why the command could not be run; a person can run it by hand, then the check is tested."""
        if user_input is None:
            return await self._async_form("not_run")
        self._forget()
        return await self.async_step_test()

    async def async_step_busy(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that another command runs on the host; a test shows whether it has fixed this as well."""
        return await (self._async_form("busy") if user_input is None else self.async_step_test())

    async def async_step_still_wrong(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the problem that remains."""
        remedy = self._remedy()
        options = ["show", "test"] if remedy else ["test"]
        if remedy and remedy.where is Where.HOST:
            options = ["run", *options]
        return await self._async_menu("still_wrong", [*options, "ignore"])

    # ------------------------------------------------------------ running

    async def _async_run(self, shown: Remedy | None, password: str | None) -> str:
        """Run the command that was shown and return the next step; no two run on one host at once."""
        self._forget()
        lock = remedy_lock(self.hass, self._entry)
        if lock.locked():
            # Waiting would keep the password in memory for that long.
            return "busy"
        async with lock:
            # Check and connect to the same address, even if the entry is changed in between.
            address = HostAddress.from_data(self._entry.data)
            return self._hindrance(shown) or await self._async_run_alone(shown, password, address)

    def _hindrance(self, shown: Remedy | None) -> str | None:
        """Return the step that explains why the command is not run, None if it can be."""
        # A host that was removed or disabled meanwhile is not contacted any more.
        if self._entry.state is not ConfigEntryState.LOADED:
            return "gone"
        if self._is_changed:
            return "changed"
        remedy = self._remedy()
        self._is_other = remedy is not None and remedy != shown
        return "init" if self._is_other else None

    async def _async_run_alone(self, remedy: Remedy | None, password: str | None, address: HostAddress) -> str:
        """Run the command and return the next step; once it has started, the check is tested, whatever the result."""
        if remedy is None or self._remedy() is None:
            return await self._async_test()
        try:
            running = self._async_command(remedy, password, address)
            self._result = await async_while_loaded(self.hass, self._entry, running)
        except Ended:
            return "ended"
        except HomelabError as err:
            # Not the error itself: the frames of its traceback hold the password.
            self._lost, self._may_have_run = str(err), err.may_have_run
            async_alarm(self._entry, err)
            return await self._async_test() if err.may_have_run else "not_run"
        if self._result.outcome in (Outcome.NEEDS_PASSWORD, Outcome.WRONG_PASSWORD):
            return "password"
        if self._result.outcome in _NOT_RUN:
            return "not_run"
        step = await self._async_test()
        if step == "fixed":
            self._allow_sudo(remedy)
        return step

    async def _async_command(self, remedy: Remedy, password: str | None, address: HostAddress) -> RemedyResult:
        """Run the command over a connection of its own."""
        connection = await async_connect(self.hass, self._entry, address)
        try:
            return await run_remedy(connection, remedy, password)
        finally:
            await connection.close()

    def _forget(self) -> None:
        """Forget how the last command went."""
        self._result, self._lost, self._may_have_run, self._is_other = None, "", False, False

    @override
    async def _async_begin_again(self) -> RepairsFlowResult:
        """Forget the last command as well."""
        self._forget()
        return await super()._async_begin_again()

    def _allow_sudo(self, remedy: Remedy) -> None:
        """Allow the probe to use sudo for the section that the fix has permitted."""
        # The test takes a while: by now the entry may be about another machine, or be removed.
        if remedy.sudo_section is None or self._is_changed or not is_monitored(self.hass, self._entry):
            return
        allowed = HostOptions.from_options(self._entry.options).sudo
        sections = list(dict.fromkeys([*allowed, remedy.sudo_section]))
        self.hass.config_entries.async_update_entry(self._entry, options={**self._entry.options, CONF_SUDO: sections})
        self.hass.config_entries.async_schedule_reload(self._entry.entry_id)

    def _remedy(self) -> Remedy | None:
        """Return the remedy from the catalog, None if there is none."""
        row = self._row()
        if row is None or row.remedy is None:
            return None
        return remedy_for(row.remedy, self._family(), self._address.target.username, row.placeholders)

    def _family(self) -> Family:
        """Return the family of the host: from the last test, otherwise from the last poll."""
        if report := self._report or restore_report(self._memory.last_test):
            return report.family
        system = self._memory.snapshot.sections.system
        return family_of(system.os_id, system.os_id_like) if system else Family.OTHER

    @override
    async def _async_placeholders(self) -> dict[str, str]:
        """Add the command, its purpose, and its result."""
        placeholders = await super()._async_placeholders()
        self._shown = remedy = self._remedy()
        note = self._word("other_command") if self._is_other else ""
        return placeholders | {
            "note": f"**{note}**\n\n" if note else "",
            "remedy": words(self._texts, "remedy", remedy.key) if remedy else "",
            "command": command(self._texts, remedy) if remedy else "",
            "brief_command": brief(self._texts, remedy) if remedy else "",
            "cure": self._rerun(remedy),
            "result": "\n\n".join(self._shown_result()),
        }

    def _rerun(self, remedy: Remedy | None) -> str:
        """Return the text about what *Run on the host again* would run, which may be another command by now."""
        if remedy is None or remedy.where is not Where.HOST:
            return ""
        parts = (words(self._texts, "remedy", remedy.key), self._word("would_run"), command(self._texts, remedy))
        return "\n\n".join(parts)

    def _shown_result(self) -> list[str]:
        """Return the paragraphs about the result of the command."""
        if self._lost:
            return [self._word("cut" if self._may_have_run else "not_reached"), fenced(self._lost)]
        if self._result is None:
            return []
        username = escaped(self._address.target.username)
        result, parts = self._result, [self._word(self._result.outcome.value).format(username=username)]
        if result.outcome in (Outcome.DONE, Outcome.FAILED):
            parts = [self._word("ran").format(exit_status=result.exit_status)]
        for text, word in ((result.stdout, "printed"), (result.stderr, "complained")):
            parts += [self._word(word), fenced(text)] if text.strip() else []
        return parts + ([self._word("truncated")] if result.truncated else [])

    def _word(self, key: str) -> str:
        """Return one of our texts about a result."""
        return words(self._texts, "remedy_result", key)


class HostKeyFlow(CheckFlow):
    """Compare the key that a host shows with the pinned ones; accepting it takes an explicit action."""

    def __init__(self, entry: HomelabConfigEntry, check: str) -> None:
        """Start without a key."""
        super().__init__(entry, check)
        self._offered: OfferedKey | None = None
        self._accepted = ""
        self._pinned: tuple[str, ...] = self._address.host_keys
        """The keys that are shown beside it: only these are replaced."""
        self._failure = ""
        self._other: ConfigEntry[Any] | None = None
        """Another host of ours, if that is the one that answers."""

    @override
    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Start with the key."""
        return await self.async_step_review()

    async def async_step_review(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Read the key of the host and show it beside the pinned ones."""
        await self._async_read_key()
        return await self._async_show_key()

    @override
    async def async_step_ignore(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ignore the issue about the key that was shown; if the host offers another key by now, show that first."""
        if self._is_changed:
            return await self.async_step_changed()
        seen = self._offered.line if self._offered else ""
        await self._async_read_key()
        if self._offered and self._offered.line != seen:
            return await self._async_show_key()
        return await super().async_step_ignore()

    async def _async_read_key(self) -> None:
        """Read the key of the host, to show it beside those that are pinned now."""
        target, timeout = self._address.target, HostOptions.from_options(self._entry.options).timeout
        self._pinned = HostAddress.from_data(self._entry.data).host_keys
        try:
            self._offered = await read_host_key(target.host, target.port, timeout, known=self._pinned)
        except HomelabError as err:
            self._offered, self._failure = None, str(err)
        else:
            self._failure = ""
            if changed := changed_key(target.host, self._pinned, self._offered.line):
                async_alarm(self._entry, changed)

    async def _async_show_key(self) -> RepairsFlowResult:
        """Show the key that was read last, or why none could be read."""
        if self._offered is None:
            return await self.async_step_unreachable()
        if fingerprint(self._offered.line) in map(fingerprint, self._pinned):
            return await self.async_step_same_again()
        if self._is_key_of_another(self._offered.line):
            return await self.async_step_other_host()
        return await self._async_menu("review", ["accept", "test", "ignore"])

    async def async_step_unreachable(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show why no key could be read."""
        return await self._async_menu("unreachable", ["review", "ignore"])

    async def async_step_same_again(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show that the confirmed key is back, then test."""
        return await (self._async_form("same_again") if user_input is None else self.async_step_test())

    async def async_step_accept(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for a confirmation of exactly the key that is shown."""
        offered = self._offered.line if self._offered else ""
        if user_input is None or not offered:
            return await self._async_form("accept", confirmation(offered))
        if error := unconfirmed(offered, user_input):
            return await self._async_form("accept", confirmation(offered, user_input), error=error)
        self._accepted = offered
        return await self.async_step_pin()

    async def async_step_pin(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Pin exactly the key that was confirmed, then test."""
        return await self._async_progress("pin", partial(self._async_pin, self._accepted))

    async def async_step_still_wrong(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the problem that remains."""
        return await self._async_menu("still_wrong", ["review", "ignore"])

    async def async_step_other_host(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show which other host of ours answers: it has its own device, and this host has another address."""
        return await self._async_menu("other_host", ["review", "ignore"])

    def _is_key_of_another(self, host_key: str) -> bool:
        """Return whether another entry has pinned a key, and note which one."""
        shown = fingerprint(host_key)
        self._other = next(
            (each for each, address in self._others() if shown in map(fingerprint, address.host_keys)), None
        )
        return self._other is not None

    def _is_another(self, system: System | None) -> bool:
        """Return whether a machine reports to be the one of another entry and not of this one; note that entry."""
        if not is_it(self._address.host_id, self._address.machine, (), system):
            self._other = next(
                (each for each, address in self._others() if is_it(address.host_id, address.machine, (), system)), None
            )
        return self._other is not None

    def _others(self) -> list[tuple[ConfigEntry[Any], HostAddress]]:
        """Return the other entries with their addresses, disabled ones included."""
        entries = self.hass.config_entries.async_entries(DOMAIN, include_ignore=False)
        return [(each, HostAddress.from_data(each.data)) for each in entries if each is not self._entry]

    async def _async_pin(self, host_key: str) -> str:
        """Reload the entry with the accepted key, once the machine has proven that it has it; return the next step."""
        if step := self._obstacle(host_key) or await self._async_unproven(host_key) or self._obstacle(host_key):
            return step
        # A machine with a new key was most likely reinstalled, and then has a new machine-id, too.
        known = HostAddress.from_data(self._entry.data)
        accepted = replace(known, host_keys=(host_key,), is_proven=True, machine="")
        self._address = accepted
        self.hass.config_entries.async_update_entry(
            self._entry,
            data={**self._entry.data, **accepted.as_data()},
            # A machine with another key may be another machine, which nobody has granted any privileges.
            options=without_privileges(self._entry.options),
        )
        await self.hass.config_entries.async_reload(self._entry.entry_id)
        return await self._async_test()

    def _obstacle(self, host_key: str) -> str | None:
        """Return the step that explains why this key is not pinned, None if it can be."""
        if not is_monitored(self.hass, self._entry):
            return "gone"
        if self._is_changed:
            return "changed"
        is_as_shown = HostAddress.from_data(self._entry.data).host_keys == self._pinned
        if not (host_key and is_as_shown):
            return "review"
        return "other_host" if self._is_key_of_another(host_key) else None

    async def _async_unproven(self, host_key: str) -> str | None:
        """Return the step for a machine that does not prove its key, None if it does.

        Proof is needed, as anybody who has seen a key can show it.
        """
        try:
            proof = async_require_proof(self.hass, self._address.target, host_key)
            system = await async_while_loaded(self.hass, self._entry, proof)
        except Ended:
            return "ended"
        except HostKeyChanged:
            return "review"
        except HomelabError as err:
            self._failure = str(err)
            return "unreachable"
        return "other_host" if self._is_another(system) else None

    @override
    async def _async_placeholders(self) -> dict[str, str]:
        """Add the offered and the pinned keys."""
        placeholders = await super()._async_placeholders()
        failure = {"reason": escaped(self._failure)} if self._failure else {}
        offered = self._offered
        return (
            placeholders
            | failure
            | {
                "expected": copyable("\n".join(map(fingerprint, self._pinned))),
                "offered": copyable(fingerprint(offered.line) if offered else ""),
                "other_name": escaped(self._other.title) if self._other else "",
                "fingerprint_command": copyable(
                    fingerprint_command(offered.line, platform_of(offered.server_version)) if offered else ""
                ),
            }
        )
