"""The remedies: a catalog of commands per remedy and family of systems, and running one on a host.

Commands are fixed texts. Only the user name of the target, names of disks, and the script of a
known package manager are filled in, and only if they match their strict patterns. Nothing else
that a host reports can reach a command line. A password goes to sudo's standard input once sudo has
asked for it, and nowhere else; the command's own standard input is always empty.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
import re
import secrets
import shlex

from ..probe.programs import FORCED_COMMAND
from ..transport.command import CommandResult
from ..transport.ssh import Connection
from .host_facts import SMARTCTL_ARGUMENTS, Family, Privilege, wants_password
from .privilege import Try, Ways, password_question, read_ways, time_left, try_ways
from .rule_remedies import (
    DOAS_RULE_FILE,
    FIREWALL_COMMAND,
    FIREWALL_RULE_FILE,
    FIREWALL_RULES,
    INSTALL_COMMAND,
    REMOVE_COMMAND,
    RULE_FILE,
    RULE_IN_PLACE,
    RULE_PREPARED,
    SMART_COMMAND,
    SMART_RULE_FILE,
    Change,
)
from .sudo_listing import wants_terminal
from .update_script import (
    RULE_TAGS,
    SCRIPT,
    UPDATE_COMMANDS,
    guard_line,
    update_doas_line,
    update_script,
    update_sudoers_line,
)

RUN_SECONDS = 600.0
OUTPUT_LIMIT = 64 << 10

_USERNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""Names that are literal in every shell and in sudoers(5): no quote, space, @, backslash or leading dash."""
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*")
"""What sudoers(5) reads as an alias; ALL is everybody."""
_DISK = re.compile(r"sd[a-z]{1,3}|nvme\d{1,3}(?:n\d{1,3})?")
_SMARTCTL = frozenset({"/usr/sbin/smartctl", "/usr/bin/smartctl", "/sbin/smartctl", "/usr/local/sbin/smartctl"})
"""Only paths that root alone can write: a path of the host's choice would run as root."""


class Where(StrEnum):
    """Where a remedy is applied."""

    HOST = "host"
    HOME_ASSISTANT = "home_assistant"
    HAND = "hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A remedy filled in for one host; `commands` run one after another and stop at the first that fails."""

    key: str
    where: Where
    commands: tuple[str, ...] = ()
    as_root: bool = True
    is_root_login: bool = False
    """Whether the login user is already root."""
    sudo_section: str | None = None
    """The section of the probe that may use passwordless sudo after this has run."""
    changes: tuple[Change, ...] = ()
    """A summary of a long command."""

    @property
    def text(self) -> str:
        """Return the commands as a person would type them."""
        needs_sudo = self.as_root and not self.is_root_login and self.where is Where.HOST
        prefix = "sudo " if needs_sudo else ""
        return "\n".join(prefix + command for command in self.commands)


@dataclass(frozen=True, slots=True)
class _Row:
    """One remedy for some families."""

    remedy: str
    families: tuple[Family, ...]
    where: Where
    commands: tuple[str, ...]
    as_root: bool = True


_DEBIAN, _FEDORA, _SUSE, _ARCH = Family.DEBIAN, Family.FEDORA, Family.SUSE, Family.ARCH
_ALPINE, _OPENWRT = Family.ALPINE, Family.OPENWRT
_MACOS, _WINDOWS, _OTHER = Family.MACOS, Family.WINDOWS, Family.OTHER
_SYSTEMD = (_DEBIAN, _FEDORA, _SUSE, _ARCH)
_HOST, _HAND, _HOME_ASSISTANT = Where.HOST, Where.HAND, Where.HOME_ASSISTANT

_OPENWRT_PYTHON = (
    "if command -v apk >/dev/null; then apk update && apk add python3; else opkg update && opkg install python3; fi"
)
"""OpenWrt changed its package manager from opkg to apk with 25.12."""
_APT = "env DEBIAN_FRONTEND=noninteractive apt-get"

_ROWS: tuple[_Row, ...] = (
    _Row("install_python", (_DEBIAN,), _HOST, (f"{_APT} update", f"{_APT} install -y --no-install-recommends python3")),
    _Row("install_python", (_FEDORA,), _HOST, ("dnf install -y python3",)),
    _Row("install_python", (_SUSE,), _HOST, ("zypper --non-interactive install python3",)),
    _Row("install_python", (_ARCH,), _HOST, ("pacman -S --noconfirm --needed python",)),
    _Row("install_python", (_ALPINE,), _HOST, ("apk add python3",)),
    _Row(
        "install_python",
        (_OPENWRT,),
        _HOST,
        (f"sh -c {shlex.quote(_OPENWRT_PYTHON)}",),
    ),
    _Row("install_python", (_MACOS,), _HAND, ("xcode-select --install",)),
    # ----------------------------------------------------------------
    _Row("set_clock", _SYSTEMD, _HOST, ("timedatectl set-ntp true",)),
    _Row("set_clock", (_ALPINE,), _HOST, ("rc-update add ntpd default", "rc-service ntpd restart")),
    _Row(
        "set_clock",
        (_OPENWRT,),
        _HOST,
        (
            "uci set system.ntp.enabled=1",
            "uci commit system",
            "/etc/init.d/sysntpd enable",
            "/etc/init.d/sysntpd restart",
        ),
    ),
    _Row("set_clock", (_MACOS,), _HAND, ("sudo systemsetup -setusingnetworktime on",)),
    _Row("set_clock", (_WINDOWS,), _HAND, ("Start-Service w32time", "w32tm /resync")),
    _Row("set_clock", (_OTHER,), _HAND, ("sudo timedatectl set-ntp true",)),
    # ----------------------------------------------------------------
    _Row("join_docker", _SYSTEMD, _HOST, ("usermod -aG docker {username}",)),
    _Row("join_docker", (_ALPINE, _OPENWRT), _HOST, ("addgroup {username} docker",)),
    _Row("join_docker", (_WINDOWS,), _HAND, ("net localgroup docker-users {username} /add",)),
    _Row("join_docker", (_OTHER,), _HAND, ("sudo usermod -aG docker {username}",)),
    _Row("start_docker", _SYSTEMD, _HOST, ("systemctl start docker.service",)),
    _Row("start_docker", (_ALPINE,), _HOST, ("rc-service docker start",)),
    _Row("start_docker", (_OPENWRT,), _HOST, ("/etc/init.d/dockerd start",)),
    _Row("start_docker", (_MACOS,), _HAND, ("open -a Docker",)),
    _Row("start_docker", (_WINDOWS,), _HAND, ("Restart-Service com.docker.service -Force",)),
    _Row("start_podman", _SYSTEMD, _HOST, ("systemctl --user enable --now podman.socket",), as_root=False),
    _Row("start_podman", (_ALPINE,), _HOST, ("rc-service podman start",)),
    # ----------------------------------------------------------------
    _Row("restart_host", (*_SYSTEMD, _ALPINE, _OTHER), _HAND, ("sudo reboot",)),
    _Row("restart_host", (_WINDOWS,), _HAND, ("Restart-Computer",)),
    _Row("allow_smart", (*_SYSTEMD, _ALPINE), _HOST, (SMART_COMMAND,)),
    _Row("allow_firewall", (*_SYSTEMD, _ALPINE, _OTHER), _HOST, (FIREWALL_COMMAND,)),
    _Row("install_updates_rule", (*_SYSTEMD, _ALPINE, _OTHER), _HOST, (INSTALL_COMMAND,)),
    _Row("remove_updates_rule", (*_SYSTEMD, _ALPINE, _OTHER), _HOST, (REMOVE_COMMAND,)),
    _Row("quiet_shell", tuple(Family), _HAND, ("case $- in *i*) ;; *) return;; esac",)),
    _Row("plain_shell", tuple(Family), _HAND, ("case $- in *i*) ;; *) return;; esac",)),
    _Row("renew_forced_command", tuple(Family), _HAND, (FORCED_COMMAND,)),
    _Row("start_sshd", (_DEBIAN,), _HAND, ("sudo systemctl enable --now ssh",)),
    _Row("start_sshd", (_FEDORA, _SUSE, _ARCH, _OTHER), _HAND, ("sudo systemctl enable --now sshd",)),
    _Row("start_sshd", (_ALPINE,), _HAND, ("rc-update add sshd default", "rc-service sshd start")),
    _Row("start_sshd", (_OPENWRT,), _HAND, ("/etc/init.d/dropbear enable", "/etc/init.d/dropbear start")),
    _Row("start_sshd", (_MACOS,), _HAND, ("sudo systemsetup -setremotelogin on",)),
    _Row("start_sshd", (_WINDOWS,), _HAND, ("Set-Service sshd -StartupType Automatic", "Start-Service sshd")),
    # ----------------------------------------------------------------
    _Row("accept_host_key", tuple(Family), _HOME_ASSISTANT, ()),
    _Row("authorize", tuple(Family), _HOME_ASSISTANT, ()),
)
REMEDIES: Mapping[tuple[str, Family], _Row] = {(row.remedy, family): row for row in _ROWS for family in row.families}

_SUDO_SECTIONS = {"allow_smart": "storage_health", "allow_firewall": "security"}


def remedy_for(key: str, family: Family, username: str, placeholders: Mapping[str, str]) -> Remedy | None:
    """Return the remedy for one host, None if there is none or a word does not match its pattern."""
    row = REMEDIES.get((key, family))
    words = _words(username, placeholders)
    if row is None or any("{" + name + "}" in command for command in row.commands for name in _WORDS - words.keys()):
        return None
    return Remedy(
        key=key,
        where=row.where,
        commands=tuple(_filled(command, words) for command in row.commands),
        as_root=row.as_root,
        is_root_login=username == "root",
        sudo_section=_SUDO_SECTIONS.get(key),
        changes=_changes(key, username, words, placeholders),
    )


def _changes(key: str, username: str, words: Mapping[str, str], placeholders: Mapping[str, str]) -> tuple[Change, ...]:
    """Return the changes that a command for rules makes, per file."""
    match key:
        case "allow_smart":
            return (Change("rule", SMART_RULE_FILE, words["lines"]),)
        case "allow_firewall":
            return (Change("rule_of_programs", FIREWALL_RULE_FILE, _filled(FIREWALL_RULES, words)),)
        case "install_updates_rule":
            script = Change("script", SCRIPT, UPDATE_COMMANDS[placeholders["manager"]])
            return (script, *(_update_rules(username) if username != "root" else ()))
        case "remove_updates_rule":
            return tuple(Change("removed", path) for path in (SCRIPT, RULE_FILE, DOAS_RULE_FILE))
    return ()


def _update_rules(username: str) -> tuple[Change, ...]:
    """Return the rules that let a user run the script; the command writes one of them."""
    of_sudo = f"{update_sudoers_line(username)}\n{guard_line(SCRIPT)}"
    return (
        Change("rule", RULE_FILE, of_sudo),
        Change("rule_doas", DOAS_RULE_FILE, update_doas_line(username)),
    )


_WORDS = frozenset({"username", "lines", "tool", "account", "script", "rule", "in_place"})
"""The placeholders in braces in the commands of the catalog, which mean nothing to a shell."""


def _words(username: str, placeholders: Mapping[str, str]) -> dict[str, str]:
    """Return the words for commands, without those that could have a meaning to a shell or to sudo."""
    if not _USERNAME.fullmatch(username):
        return {}
    return {"username": username} | _smart_words(username, placeholders) | _update_words(username, placeholders)


def _smart_words(username: str, placeholders: Mapping[str, str]) -> dict[str, str]:
    """Return the words for the rule for smartctl."""
    tool = placeholders.get("tool", "")
    lines = _sudoers_lines(username, tool, placeholders.get("disks", "").split())
    return {"lines": "\n".join(lines), "tool": tool} if lines else {}


def _update_words(username: str, placeholders: Mapping[str, str]) -> dict[str, str]:
    """Return the words for the rule for updates: its user, the script, the rule."""
    if _ALIAS.fullmatch(username):
        return {}
    rule = in_place = ""
    if username != "root":
        lines = {"sudoers_line": update_sudoers_line(username), "doas_line": update_doas_line(username)}
        rule, in_place = _filled(RULE_PREPARED, lines), _filled(RULE_IN_PLACE, {"account": username})
    manager = placeholders.get("manager", "")
    script = {"script": update_script(manager)} if manager in UPDATE_COMMANDS else {}
    return {"account": username, "rule": rule, "in_place": in_place} | script


def _sudoers_lines(username: str, tool: str, disks: Iterable[str]) -> list[str]:
    """Return one literal line per disk, and the guard; [] if the path or all names of disks are unknown."""
    known = [disk for disk in disks if _DISK.fullmatch(disk)]
    if not known or tool not in _SMARTCTL or _ALIAS.fullmatch(username):
        return []
    rules = [f"{username} ALL=(root) {RULE_TAGS}{tool} {SMARTCTL_ARGUMENTS} /dev/{disk}" for disk in known]
    return [*rules, guard_line(tool)]


def _filled(command: str, words: Mapping[str, str]) -> str:
    """Return the command with its words; none contains a quote that could end those around it."""
    return re.sub(r"\{(" + "|".join(words) + r")\}", lambda found: words[found[1]], command) if words else command


# ---------------------------------------------------------------- running one


class Outcome(StrEnum):
    """How running a remedy ended."""

    DONE = "done"
    FAILED = "failed"
    """It ran, and its exit status was not 0."""
    NEEDS_PASSWORD = "needs_password"  # noqa: S105
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    OTHER_QUESTION = "other_question"
    """sudo asks for something other than the password, or does nothing."""
    NEEDS_TERMINAL = "needs_terminal"
    """sudo runs nothing without a terminal: `requiretty`."""
    REFUSED = "refused"
    """sudo or doas does not let this user run it."""
    NO_PRIVILEGE = "no_privilege"
    """There is neither sudo nor a doas that requires no password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyResult:
    """The result of running a remedy; the texts are remote text."""

    outcome: Outcome
    exit_status: int | None = None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False


async def run_remedy(
    connection: Connection,
    remedy: Remedy,
    password: str | None = None,
    *,
    timeout: float = RUN_SECONDS,  # noqa: ASYNC109
) -> RemedyResult:
    """Run a remedy on its host; raise HomelabError if that cannot be reached.

    Every way is first tried without a password; `password` is used only if sudo requires one.
    """
    if remedy.where is not Where.HOST:
        raise ValueError(f"{remedy.key} does not run on the host")
    token = secrets.token_hex(16)
    script = _script(remedy, token)
    ways = await read_ways(connection) if remedy.as_root else Ways((Privilege.ROOT,))
    if not ways.order:
        return RemedyResult(outcome=Outcome.NO_PRIVILEGE)
    until = asyncio.get_running_loop().time() + timeout
    tries = await try_ways(
        connection, ways, script, lambda result: not _has_begun(token, result), timeout=timeout, limit=OUTPUT_LIMIT
    )
    outcome = _evaluate_tries(tries, token)
    if outcome.outcome is not Outcome.NEEDS_PASSWORD or password is None:
        return outcome
    return await _run_with_password(connection, ways, script, token, password, time_left(until))


def _evaluate_tries(tries: list[Try], token: str) -> RemedyResult:
    """Return the result: of the try that began it, else of one that requires a password, else of the first."""
    results = [_evaluate(each.result, token, each.privilege) for each in tries]
    if not tries[-1].is_refused:
        return results[-1]
    return next((each for each in results if each.outcome is Outcome.NEEDS_PASSWORD), results[0])


_PROMPT = r"(?:\[sudo: )?{cue}(?:\][^\n:]*: ?)?"
"""The prompt of sudo, and that of sudo-rs, which puts ours into its own."""


def _script(remedy: Remedy, token: str) -> str:
    """Return the command line that prints the token, then runs the commands without input.

    The token separates sudo's words from the output of the command, which follows it.
    One line, single quotes and no exclamation mark: every login shell reads it alike.
    """
    # As root nothing below /usr/local is run, where on some systems users other than root may put programs.
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH; " if remedy.as_root else ""
    commands = " && ".join(remedy.commands)
    begun = f"echo {token}; echo {token} >&2"
    return "/bin/sh -c " + shlex.quote(f"exec </dev/null; {begun}; {path}{_in_one_line(commands)}")


def _in_one_line(script: str) -> str:
    """Return a script in one line: csh ends a quoted word at the end of a line, and fish reads two backslashes as one.

    All other characters stay as they are, so that it is readable in a log of the host.
    """
    if "\n" not in script:
        return script
    coded = re.sub(r"[\\\"$`'!\n]", lambda found: f"\\0{ord(found[0]):03o}", script)
    return f'eval "$(printf %b "{coded}")"'


async def _run_with_password(  # noqa: PLR0913, PLR0917
    connection: Connection, ways: Ways, script: str, token: str, password: str, seconds: float
) -> RemedyResult:
    """Run with sudo, which reads the password from its standard input once it has asked for it with our token."""
    if not password or "\n" in password or "\r" in password:
        # A second line would be a second try, and sudo cannot read an empty password.
        return RemedyResult(outcome=Outcome.WRONG_PASSWORD)
    prefix, question = password_question(ways, token, password, f"{token}\n")
    result = await connection.run(prefix + script, question=question, timeout=seconds, limit=OUTPUT_LIMIT)
    result = replace(result, stderr=re.sub(_PROMPT.format(cue=f"{token}:"), "", result.stderr))
    evaluated = _evaluate(result, token, Privilege.SUDO_PASSWORD)
    return replace(
        evaluated,
        stdout=evaluated.stdout.replace(password, "•••"),
        stderr=evaluated.stderr.replace(password, "•••"),
    )


def _evaluate(result: CommandResult, token: str, privilege: Privilege) -> RemedyResult:
    """Return how it ended; without the token the command did not begin, and the output is sudo's."""
    has_begun, stdout = _after(token, result.stdout)
    _, stderr = _after(token, result.stderr)
    outcome = Outcome.DONE if result.exit_status == 0 else Outcome.FAILED
    if not has_begun:
        outcome = _refusal(result, privilege)
    return RemedyResult(
        outcome=outcome,
        exit_status=result.exit_status,
        stdout=stdout,
        stderr=stderr,
        truncated=result.truncated,
    )


def _refusal(result: CommandResult, privilege: Privilege) -> Outcome:
    """Return why the command did not begin, from sudo's or doas's own words."""
    if privilege is Privilege.SUDO and wants_password(result.stderr):
        return Outcome.NEEDS_PASSWORD
    if privilege is Privilege.SUDO_PASSWORD and (result.asked > 1 or (result.asked and _WRONG.search(result.stderr))):
        return Outcome.WRONG_PASSWORD
    if result.is_silent:
        return Outcome.OTHER_QUESTION
    return Outcome.NEEDS_TERMINAL if wants_terminal(result.stderr) else Outcome.REFUSED


_WRONG_WORDS = (
    r"^sorry, try again",  # sudo
    # One digit of the number: with all of them, matching would take quadratic time on the output of a host that
    # prints only digits.
    r"\d incorrect password attempt",  # sudo, after the last try that sudoers allows
    r"authentication failed, try again",  # sudo-rs
    # sudo-rs, after the last try following "maximum 3", and for what is too long to be a password
    r"incorrect authentication attempt",
    # sudo-rs gives up at once if a module answers otherwise, such as pam_faillock in Debian's order.
    r"PAM error: (?:permission denied|authentication failure|have exhausted maximum number of retries)",
)
"""sudo's and sudo-rs' words for "that was not the password", if it does not ask a second time."""
_WRONG = re.compile("|".join(_WRONG_WORDS), re.IGNORECASE | re.MULTILINE)


def _has_begun(token: str, result: CommandResult) -> bool:
    """Return whether the command ran; without the token the output is of sudo or doas."""
    return _after(token, result.stdout)[0]


def _after(token: str, text: str) -> tuple[bool, str]:
    """Return whether the token is in the text, and the text after it, else all of it."""
    before, found, after = text.partition(f"{token}\n")
    return (True, after) if found else (False, before)
