"""All errors of a host, as one small vocabulary.

Each error has a `key`: the config flow, the log, the repair issues and the translations all
refer to it by that word. `placeholders` fill the translated text; remote text reaches
them only through `first_line`.
"""

# Errors are named for what happened, without a suffix: `KeyRefused` reads better than `KeyRefusedError`.
# ruff: noqa: N818

from collections.abc import Iterator
from contextlib import contextmanager
import re
from typing import ClassVar, Final

DETAIL_LIMIT = 300
"""Characters of remote text that an error keeps."""


class HomelabError(Exception):
    """A host could not be monitored."""

    key: ClassVar[str] = "unknown"
    what: ClassVar[str] = "unexpected error"
    hard: ClassVar[bool] = False
    """Whether trying again soon cannot help: a person has to act first."""
    was_sent: bool = False
    """Whether a command was on its way, and its start was not confirmed: a man in the middle can cause that."""
    had_begun: bool = False
    """Whether a command had surely begun: the server has confirmed it."""

    server_version: str = ""
    """The greeting of a server that had proven its host key, whose signature covers the greeting (RFC 4253, 8)."""

    def __init__(self, host: str, detail: str = "", **placeholders: str) -> None:
        self.host = host
        self.detail = first_line(detail)
        self.placeholders = placeholders | {"host": host, "detail": self.detail}
        super().__init__(": ".join(part for part in (host, self.what, self.detail) if part))

    @property
    def may_have_run(self) -> bool:
        """Return whether a command may have done its work."""
        return self.was_sent or self.had_begun


# ---------------------------------------------------------------- the way to the host


class InvalidTarget(HomelabError):
    """The typed text is no address; `host` is the text itself."""

    key = "invalid_target"
    what = "not an address"


class UsernameMissing(InvalidTarget):
    """An address was typed without a user to log in as."""

    key = "username_missing"
    what = "the user name is missing"


class Unreachable(HomelabError):
    """The host cannot be reached."""

    key = "unreachable"
    what = "unreachable"


class ConnectionRefused(Unreachable):
    """The machine answers, and nothing listens on that port."""

    key = "connection_refused"
    what = "connection refused"


class NameNotFound(Unreachable):
    """No address is known for that name."""

    key = "name_not_found"
    what = "name not found"


class TimedOut(HomelabError):
    """The host did not answer in time."""

    key = "timed_out"
    what = "timed out"


class InternalError(HomelabError):
    """A reply of the host was not processed, by a fault of ours."""

    key = "internal_error"
    what = "error in the integration"


class ProbeStarting(HomelabError):
    """The probe's program is being uploaded, which takes longer than a poll waits."""

    key = "starting"
    what = "the probe is starting"
    died: HomelabError | None = None
    """Why it is the second one: the error with which the first, which was ready, ended at the request."""


class ConnectionLost(HomelabError):
    """The connection ended while it was used."""

    key = "connection_lost"
    what = "connection lost"


class NoGreeting(ConnectionLost):
    """The server closed the connection before its SSH greeting.

    It may limit logins (its message for that is lost when it resets the connection), or still be starting behind a
    forwarded port.
    """


class LoginCut(ConnectionLost):
    """The connection ended in a login for which the server had accepted our key; `detail` is its message, if any.

    OpenSSH closes it like that when PAM refuses the account. A man in the middle can do so, too: it is no refusal.
    """


class HangsUp(ConnectionLost):
    """Every login has ended like that for a while: by the server, or by something in between."""

    key = "hangs_up"
    what = "the connection ends each time after the key is accepted"


class NotSSH(HomelabError):
    """Something answers on that port, but not with a supported SSH."""

    key = "not_ssh"
    what = "no usable SSH server"


class LoginsLimited(HomelabError):
    """The server accepts no connection from us for now; each further one may prolong that.

    Too many came, or were refused: MaxStartups and PerSourcePenalties of sshd_config(5).
    """

    key = "logins_limited"
    what = "the SSH server limits logins"


class TooMuchTraffic(HomelabError):
    """The host sent more than the budget of its connection; `detail` has what, and when."""

    key = "too_much_traffic"
    what = "sent too much data"


# ---------------------------------------------------------------- the login


class HostKeyChanged(HomelabError):
    """The host shows a key that was not confirmed."""

    key = "host_key_changed"
    what = "host key changed"
    hard = True

    def __init__(self, host: str, *, expected: str, offered: str) -> None:
        super().__init__(
            host, f"expected {expected}, offered {offered}", expected=first_line(expected), offered=first_line(offered)
        )


class AnotherMachine(HomelabError):
    """The login worked, and the machine reports the id of another one: a clone has the same host key."""

    key = "another_machine"
    what = "another machine answers, with the same host key"
    hard = True


ALARMS = (HostKeyChanged, AnotherMachine)
"""Another machine answers in place of the host: relevant on any connection, whatever came after it."""


class KeyRefused(HomelabError):
    """The login with our key was refused, and the server did not show why: its log does."""

    key = "key_refused"
    what = "key refused"
    wants_ecdsa: bool = False
    """Whether the server showed that it accepts a key of the type ECDSA P-256, and not one of the type ed25519."""


class KeyTypeRefused(KeyRefused):
    """The server does not accept the type of our key, as in FIPS mode."""

    key = "key_type_refused"
    what = "the type of the key is not accepted"


class KeysNotTaken(KeyRefused):
    """The server offers this user no login with a key; `methods` is what it offers."""

    key = "publickey_not_offered"
    what = "the server allows no login with a key"

    def __init__(self, host: str, methods: str) -> None:
        super().__init__(host, methods, methods=first_line(methods))


class SecondFactor(KeyRefused):
    """The key was accepted, and the server requires another factor; `methods` is what."""

    key = "second_factor"
    what = "the server asks for more than the key"

    def __init__(self, host: str, methods: str) -> None:
        super().__init__(host, methods, methods=first_line(methods))


class AccountRefused(KeyRefused):
    """The key was accepted, and then the server refused the user; `detail` is its message, if any."""

    key = "account_refused"
    what = "the server accepts the key, but refuses the user"


class LoginDisconnected(KeyRefused):
    """The server ended the connection instead of checking the key; `detail` is its reason."""

    key = "login_disconnected"
    what = "the server ended the login"


class KeyFileWritable(KeyRefused):
    """sshd ignores the key, as users other than its own may change `path`, which leads to it."""

    key = "key_file_writable"
    what = "other users can change the file with the key"

    def __init__(self, host: str, path: str) -> None:
        super().__init__(host, path, path=first_line(path))


class KeyFileElsewhere(KeyRefused):
    """sshd reads the keys of this user from another file, `path`."""

    key = "key_file_elsewhere"
    what = "the server reads the keys from another file"

    def __init__(self, host: str, path: str) -> None:
        super().__init__(host, path, path=first_line(path))


class KeyLineLimited(KeyRefused):
    """An existing line of our key accepts it only from other addresses; `detail` is its options."""

    key = "key_line_limited"
    what = "the line with the key is limited to other addresses"


class LoginRefused(HomelabError):
    """The login with a password was refused."""

    key = "password_refused"
    what = "password refused"


class KeyNotInstalled(HomelabError):
    """The login with a password worked, but adding our key failed; `detail` is the host's message."""

    key = "key_not_installed"
    what = "the key could not be added"


class ChannelRefused(HomelabError):
    """The host accepts the login, but refuses to run a command."""

    key = "channel_refused"
    what = "the server refuses to run a command"


# ---------------------------------------------------------------- the probe


class UnsupportedSystem(HomelabError):
    """The host runs a system without a probe."""

    key = "not_supported"
    what = "system not supported"
    hard = True

    def __init__(self, host: str, system: str) -> None:
        super().__init__(host, system, system=first_line(system))


class CommandNotRun(HomelabError):
    """The login shell did not run the command; `detail` is its message, if any."""

    key = "command_not_run"
    what = "the login shell does not run commands"
    hard = True


class OldForcedCommand(HomelabError):
    """The key is bound to the command of an earlier version, which sends no hello."""

    key = "old_forced_command"
    what = "the forced command of the key is that of an earlier version"
    hard = True


class NoPython(HomelabError):
    """No interpreter was found on the host."""

    key = "no_python"
    what = "no Python interpreter"
    hard = True


class PythonIncomplete(HomelabError):
    """The interpreter lacks a part of its standard library, such as Debian's python3-minimal."""

    key = "python_incomplete"
    what = "Python lacks a part of its standard library"
    hard = True

    def __init__(self, host: str, module: str) -> None:
        super().__init__(host, module, module=first_line(module))


class ProbeFailed(HomelabError):
    """The probe ended; `detail` is its last output."""

    key = "probe_failed"
    what = "the probe failed"


class SessionRefused(ProbeFailed):
    """The login worked, but the session ended before our command ran; `detail` is the host's message."""

    key = "session_refused"
    what = "the session ended before the command ran"


class BadReply(HomelabError):
    """The host answered with something that is no reply."""

    key = "bad_reply"
    what = "unreadable reply"


class ReplyTooLarge(BadReply):
    """The host sent more than the limit of a reply."""

    key = "reply_too_large"
    what = "reply too large"


# ---------------------------------------------------------------- controls


class ControlDenied(HomelabError):
    """The login user may not do that; `command` is what would have to be allowed."""

    key = "control_denied"
    what = "not allowed"

    def __init__(self, host: str, detail: str, *, command: str) -> None:
        super().__init__(host, detail, command=command)


class TerminalRequired(ControlDenied):
    """sudo runs nothing for this user without a terminal, which our connections never have (`requiretty`)."""

    key = "control_needs_terminal"
    what = "sudo requires a terminal"


class ControlFailed(HomelabError):
    """The host tried, but failed; `detail` is its message."""

    key = "control_failed"
    what = "the command failed"


class UpgradeDenied(HomelabError):
    """The login user may not install packages; `manager` is the package manager."""

    key = "upgrade_denied"
    what = "no permission to install updates"

    def __init__(self, host: str, detail: str, *, manager: str) -> None:
        super().__init__(host, detail, manager=manager)


class RepairInterrupted(HomelabError):
    """The repair that installs the script for updates runs, or was killed before it had put it in place."""

    key = "repair_interrupted"
    what = "the repair that allows installing updates was interrupted"


class UpgradeFailed(HomelabError):
    """Installing the updates ended with an error; `detail` is the package manager's message."""

    key = "upgrade_failed"
    what = "not all updates were installed"


class UpgradeLost(HomelabError):
    """Installing the updates was ended from outside, by a reboot or by a person."""

    key = "upgrade_lost"
    what = "the installation of updates was interrupted"


class UpgradeUnknown(HomelabError):
    """The host rebooted before the result of installing the updates was read."""

    key = "upgrade_unknown"
    what = "how the installation of updates ended is unknown"


class NoSuchUnit(HomelabError):
    """The host has no service of that name."""

    key = "no_such_unit"
    what = "no such service"

    def __init__(self, host: str, unit: str) -> None:
        super().__init__(host, unit, unit=first_line(unit))


class NoSuchContainer(HomelabError):
    """The host has no container of that name."""

    key = "no_such_container"
    what = "no such container"

    def __init__(self, host: str, container: str) -> None:
        super().__init__(host, container, container=first_line(container))


class EngineDenied(HomelabError):
    """The login user has no access to the engine's socket."""

    key = "engine_denied"
    what = "no access to the container engine"

    def __init__(self, host: str, detail: str, *, engine: str) -> None:
        super().__init__(host, detail, engine=engine)


class WouldLockOut(HomelabError):
    """Stopping the SSH server could not be undone from here."""

    key = "would_lock_out"
    what = "this would lock Home Assistant out"

    def __init__(self, host: str, unit: str) -> None:
        super().__init__(host, unit, unit=first_line(unit))


@contextmanager
def only_asking() -> Iterator[None]:
    """Mark the errors of a read-only command as those of a command that has not run."""
    try:
        yield
    except HomelabError as err:
        err.was_sent = err.had_begun = False
        raise


def without_frames[ErrorT: BaseException](error: ErrorT) -> ErrorT:
    """Return an error that can be kept: the frames of a traceback hold what was typed, such as a password."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def lines_of(text: str) -> list[str]:
    """Return the lines of remote text, split only at the line end that a host's kernel and programs use.

    `splitlines` also splits at Unicode marks and others, which a name may contain to forge a line.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def first_line(text: str) -> str:
    """Return the first line of remote text that is not blank, safe to log and to show."""
    if len(text) <= DETAIL_LIMIT and text.isascii() and text.isprintable():
        return " ".join(text.split())
    # Only the beginning is read, so that a huge text costs nothing; a terminal restarts the line at a \r.
    for line in lines_of(text[: 16 * DETAIL_LIMIT].replace("\r", "\n")):
        if kept := " ".join(printable(line).split())[:DETAIL_LIMIT]:
            return kept
    return ""


def reason_in(text: str) -> str:
    """Return the line of a program's output that is marked as an error, "" if there is none."""
    found = REASON.search(text, 0, 256 * DETAIL_LIMIT)
    return first_line(found[0]) if found else ""


def line_with(pattern: re.Pattern[str], text: str) -> str:
    """Return the first line of remote text that contains a pattern, "" if there is none."""
    found = pattern.search(text)
    return first_line(text[text.rfind("\n", 0, found.start()) + 1 :]) if found else ""


def without_userinfo(text: str) -> str:
    """Return text without users and passwords in its URLs (RFC 3986, 3.2.1), which those of private mirrors have."""
    return _USERINFO.sub("://", text)


def printable(text: str) -> str:
    """Return the text with a space for each invisible character, such as control and bidi marks."""
    if text.isprintable():
        return text
    return text.translate(_BLANKS) if text.isascii() else "".join([c if c.isprintable() else " " for c in text])


REASON: Final = re.compile(
    r"^[ \t]*(?:E:|(?:[\w./ -]{1,40}(?:\[\d+\])?: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL)\b:?"
    r"|Problem:|\* [\w.-]+:|Failed to|Job for|Unit|Call to)[ \t]+\S.*"
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)
"""Beginnings of the line with which programs report an error, also after warnings: the same as the probe's."""
_USERINFO = re.compile(r"://[^/?#\s]*@")
_BLANKS = {code: " " for code in range(128) if not chr(code).isprintable()}
