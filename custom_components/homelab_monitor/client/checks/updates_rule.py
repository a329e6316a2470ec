"""The check of what allows installing updates: root's script on the host, and the rule that names it.

A host needs them only if the option for updates is on; the check reports either that is left without the option. It
is about what is installed on a host, so it blocks nothing: a host with a bad rule is monitored like any other.
"""

from ..models import System, Updates
from .host_facts import Facts, Family, Privilege, family_of
from .report import CheckStatus, Verdict
from .sudo_listing import ROOT_FOLDER
from .update_script import SCRIPT, UPDATE_COMMANDS, UpdatesRule, update_script

_AS_A_WHOLE = frozenset(
    {
        # By `zypper dup`: packages, but not with the command above.
        "opensuse-tumbleweed",
        "opensuse-slowroll",
        # By an image, if the host has not reported so itself.
        "opensuse-microos",
        "sle-micro",
        "sl-micro",
        "steamos",
    }
)
"""Systems whose packages must not be upgraded with the command of their package manager."""

_UNKNOWN = Verdict(CheckStatus.UNKNOWN, "not_tested")
_INSTALL, _REMOVE = "install_updates_rule", "remove_updates_rule"


def can_install_updates(updates: Updates | None, system: System | None) -> bool:
    """Return whether there is a command that brings this host up to date."""
    if updates is None or updates.manager not in UPDATE_COMMANDS or updates.image or system is None:
        return False
    return family_of(system.os_id, system.os_id_like) is not Family.OPENWRT and system.os_id not in _AS_A_WHOLE


def evaluate_updates_rule(
    facts: Facts | None, updates: Updates | None, system: System | None, *, is_wanted: bool
) -> Verdict:
    """Evaluate script and rule; `is_wanted`: whether the option for updates is on."""
    if facts is None or not facts.is_complete:
        return _UNKNOWN
    rule = facts.updates_rule
    if is_wanted and (updates is None or system is None) and not rule.has_old_rule:
        return _UNKNOWN
    manager = updates.manager if updates and can_install_updates(updates, system) else ""
    is_wanted = is_wanted and bool(manager)
    about = {"manager": manager, "script": SCRIPT}
    remedy = _INSTALL if is_wanted and not rule.is_read_only else _REMOVE
    if rule.has_old_rule:
        return Verdict(CheckStatus.RED, "updates_rule_old", about, remedy)
    if rule.is_there:
        return _evaluate_script(rule, facts.privilege, about, is_wanted=is_wanted)
    return _evaluate_absence(rule, about, is_wanted=is_wanted)


def _evaluate_script(
    rule: UpdatesRule, privilege: Privilege | None, about: dict[str, str], *, is_wanted: bool
) -> Verdict:
    """Evaluate an installed script: who can change it, what it does, who may run it."""
    remedy = _INSTALL if is_wanted else _REMOVE
    if rule.unsafe:
        # A person has to set the permissions of a folder; those of the script come with a new one.
        fix = remedy if rule.unsafe == SCRIPT else None
        return Verdict(CheckStatus.RED, "updates_script_unsafe", about | {"path": rule.unsafe}, fix)
    if not is_wanted:
        return Verdict(CheckStatus.AMBER, "updates_script_unused", about, _REMOVE)
    if rule.is_open:
        return Verdict(CheckStatus.RED, "updates_rule_open", about, _INSTALL)
    if rule.loosened_by:
        # Our rule lets no variables of the caller in; a person has to forbid a root folder of the caller's choice.
        fix = None if rule.loosened_by == ROOT_FOLDER else _INSTALL
        return Verdict(CheckStatus.RED, "updates_rule_loose", about | {"setting": rule.loosened_by}, fix)
    if rule.text != update_script(about["manager"]):
        return Verdict(CheckStatus.RED, "updates_script_outdated", about, None if rule.is_read_only else _INSTALL)
    return _evaluate_rule(rule, privilege, about)


def _evaluate_rule(rule: UpdatesRule, privilege: Privilege | None, about: dict[str, str]) -> Verdict:
    """Evaluate whether this user may run the script; a person has to change what another rule decides."""
    if privilege is Privilege.ROOT:
        return Verdict(CheckStatus.OK, "updates_rule_ready", about)
    if found := _hindrance(rule, about):
        return found
    # A user who may run something may be allowed this too, by a rule that is not shown.
    is_hidden = not rule.is_shown and privilege in (Privilege.SUDO, Privilege.DOAS)
    if rule.has_rule is None or (is_hidden and not rule.has_rule):
        return Verdict(CheckStatus.UNKNOWN, "updates_rule_not_known", about)
    if not rule.has_rule:
        return Verdict(CheckStatus.AMBER, "updates_rule_missing", about, None if rule.is_read_only else _INSTALL)
    # A user who may run everything cannot gain anything.
    is_partly_shown = rule.is_sudo_rs and rule.may_run
    return Verdict(CheckStatus.OK, "updates_rule_ready_sudo_rs" if is_partly_shown else "updates_rule_ready", about)


def _hindrance(rule: UpdatesRule, about: dict[str, str]) -> Verdict | None:
    """Evaluate what keeps sudo from running a script that a rule allows."""
    if rule.overruled_by:
        return Verdict(CheckStatus.AMBER, "updates_rule_overruled", about | {"rule": rule.overruled_by})
    if rule.has_rule is not False and rule.is_refused:
        return Verdict(CheckStatus.AMBER, "updates_rule_refused", about)
    if rule.has_rule and rule.stopped_by == "noexec":
        return Verdict(CheckStatus.AMBER, "updates_rule_noexec", about)
    if rule.has_rule is not False and rule.stopped_by:
        return Verdict(CheckStatus.AMBER, "updates_rule_stopped", about | {"setting": rule.stopped_by})
    return None


def _evaluate_absence(rule: UpdatesRule, about: dict[str, str], *, is_wanted: bool) -> Verdict:
    """Evaluate a missing script."""
    if rule.unsafe and rule.may_run:
        # Others can put one there. A person has to set the permissions of a folder; an unused rule can be removed.
        return Verdict(
            CheckStatus.RED, "updates_script_unsafe", about | {"path": rule.unsafe}, None if is_wanted else _REMOVE
        )
    if is_wanted and rule.is_read_only:
        return Verdict(CheckStatus.AMBER, "updates_script_read_only", about)
    if is_wanted:
        return Verdict(CheckStatus.AMBER, "updates_script_missing", about, _INSTALL)
    if rule.is_named:
        return Verdict(CheckStatus.AMBER, "updates_script_unused", about, _REMOVE)
    return Verdict(CheckStatus.INFO, "updates_rule_none")
