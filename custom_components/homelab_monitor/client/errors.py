"""Everything that can go wrong with a host, as one small vocabulary.

Each error has a `key`: the config flow, the log, the repair issues and the translations all
speak of it by that word. `placeholders` fill the translated text; what a remote wrote reaches
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
    """Something kept us from watching a host."""

    key: ClassVar[str] = "unknown"
    what: ClassVar[str] = "something went wrong"
    hard: ClassVar[bool] = False
    """Trying again soon cannot help: a person has to act first."""
    was_sent: bool = False
    """Whether a command was on its way by then, and its start was not confirmed: anybody in between can see to that."""
    had_begun: bool = False
    """Whether a command had surely begun by then: the server has said so."""

    server_version: str = ""
    """The greeting of a server that had proven its host key by then, over that greeting among others (RFC 4253, 8)."""

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
    """What was typed is no address; `host` is the text itself."""

    key = "invalid_target"
    what = "not an address"


class UsernameMissing(InvalidTarget):
    """An address was typed, but nobody to log in as."""

    key = "username_missing"
    what = "the user name is missing"


class Unreachable(HomelabError):
    """No way leads to the host."""

    key = "unreachable"
    what = "unreachable"


class ConnectionRefused(Unreachable):
    """The machine is there and nothing listens on that port."""

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
    """What a host answered was not taken in, by a fault of ours."""

    key = "internal_error"
    what = "a fault of the integration"


class ProbeStarting(HomelabError):
    """The probe's program is on its way to the host, and that takes longer than a poll waits."""

    key = "starting"
    what = "the probe is starting"
    died: HomelabError | None = None
    """Why it is the second one: how the first, which was ready, ended with the request."""


class ConnectionLost(HomelabError):
    """The connection ended while it was used."""

    key = "connection_lost"
    what = "connection lost"


class NoGreeting(ConnectionLost):
    """The server closed the connection before it said that it speaks SSH.

    It may limit logins (its words for that are lost when it resets the connection), or still be starting behind a port
    that somebody else forwards.
    """


class LoginCut(ConnectionLost):
    """The connection ended in a login for which the server had accepted our key; `detail` is what it said, if anything.

    OpenSSH hangs up like that when PAM refuses the account. So does whoever stands between: it is no refusal.
    """


class HangsUp(ConnectionLost):
    """Every login has ended like that for a good while: by the server, or by something in between."""

    key = "hangs_up"
    what = "the key is accepted, and then the connection ends each time"


class NotSSH(HomelabError):
    """Something answers on that port, but not with SSH that we understand."""

    key = "not_ssh"
    what = "no usable SSH server"


class LoginsLimited(HomelabError):
    """The server takes no connection from us for now; each further one may prolong that.

    Too many came, or were refused: MaxStartups and PerSourcePenalties of sshd_config(5).
    """

    key = "logins_limited"
    what = "the SSH server limits logins"


class TooMuchTraffic(HomelabError):
    """The host sent more than its connection may carry; `detail` says what, and when."""

    key = "too_much_traffic"
    what = "sent too much"


# ---------------------------------------------------------------- the login


class HostKeyChanged(HomelabError):
    """The host shows a key that nobody confirmed."""

    key = "host_key_changed"
    what = "host key changed"
    hard = True

    def __init__(self, host: str, *, expected: str, offered: str) -> None:
        super().__init__(
            host, f"expected {expected}, offered {offered}", expected=first_line(expected), offered=first_line(offered)
        )


class AnotherMachine(HomelabError):
    """The login worked, and the machine says that it is another one: a clone has the same host key."""

    key = "another_machine"
    what = "another machine answers, with the same host key"
    hard = True


ALARMS = (HostKeyChanged, AnotherMachine)
"""Somebody else answers in the place of the host: it matters whoever sees it, and whatever came after it."""


class KeyRefused(HomelabError):
    """The login with our key was refused, and the server showed nothing of why: its log says it."""

    key = "key_refused"
    what = "key refused"
    wants_ecdsa: bool = False
    """Whether the server showed that it takes a key of the type ECDSA P-256, and not one of the type ed25519."""


class KeyTypeRefused(KeyRefused):
    """The server takes no key of the type that we have, as in FIPS mode."""

    key = "key_type_refused"
    what = "the type of the key is not accepted"


class KeysNotTaken(KeyRefused):
    """The server offers this user no login with a key; `methods` is what it offers."""

    key = "publickey_not_offered"
    what = "no login with a key is offered"

    def __init__(self, host: str, methods: str) -> None:
        super().__init__(host, methods, methods=first_line(methods))


class SecondFactor(KeyRefused):
    """The key was accepted, and the server wants something more; `methods` is what."""

    key = "second_factor"
    what = "the server wants more than the key"

    def __init__(self, host: str, methods: str) -> None:
        super().__init__(host, methods, methods=first_line(methods))


class AccountRefused(KeyRefused):
    """The key was accepted, and then the server refused the user; `detail` is what it said, if anything."""

    key = "account_refused"
    what = "the key is accepted, the user is not"


class LoginDisconnected(KeyRefused):
    """The server ended the connection instead of judging the key; `detail` is its reason."""

    key = "login_disconnected"
    what = "the server ended the login"


class KeyFileWritable(KeyRefused):
    """sshd ignores the key, as others than its user may change what leads to it; `path` is what."""

    key = "key_file_writable"
    what = "others can change the file with the key"

    def __init__(self, host: str, path: str) -> None:
        super().__init__(host, path, path=first_line(path))


class KeyFileElsewhere(KeyRefused):
    """sshd reads the keys of this user in another file; `path` is which."""

    key = "key_file_elsewhere"
    what = "the server reads another file"

    def __init__(self, host: str, path: str) -> None:
        super().__init__(host, path, path=first_line(path))


class KeyLineLimited(KeyRefused):
    """The line of our key was there before, and lets it in from other addresses only; `detail` is its options."""

    key = "key_line_limited"
    what = "the line of the key names other addresses"


class LoginRefused(HomelabError):
    """The login with a password was refused."""

    key = "password_refused"
    what = "password refused"


class KeyNotInstalled(HomelabError):
    """The login with a password worked, adding our key did not; `detail` is what the host said."""

    key = "key_not_installed"
    what = "the key could not be added"


class ChannelRefused(HomelabError):
    """The host accepts the login and refuses to run a command."""

    key = "channel_refused"
    what = "the server runs no command for us"


# ---------------------------------------------------------------- the probe


class UnsupportedSystem(HomelabError):
    """The host runs a system that no probe exists for."""

    key = "not_supported"
    what = "system not supported"
    hard = True

    def __init__(self, host: str, system: str) -> None:
        super().__init__(host, system, system=first_line(system))


class CommandNotRun(HomelabError):
    """The login shell did something else than run the command; `detail` is what it said, if anything."""

    key = "command_not_run"
    what = "the login shell does not run commands"
    hard = True


class OldForcedCommand(HomelabError):
    """The key is bound to the command of an earlier version, which says no hello."""

    key = "old_forced_command"
    what = "the forced command of the key is that of an earlier version"
    hard = True


class NoPython(HomelabError):
    """No interpreter was found on the host."""

    key = "no_python"
    what = "no Python interpreter"
    hard = True


class PythonIncomplete(HomelabError):
    """The interpreter lacks a part of its standard library, as Debian's python3-minimal."""

    key = "python_incomplete"
    what = "Python lacks a part of its standard library"
    hard = True

    def __init__(self, host: str, module: str) -> None:
        super().__init__(host, module, module=first_line(module))


class ProbeFailed(HomelabError):
    """The probe ended; `detail` is its last word."""

    key = "probe_failed"
    what = "the probe failed"


class SessionRefused(ProbeFailed):
    """The login worked, and the session ended before our command ran; `detail` is what the host said."""

    key = "session_refused"
    what = "the session ended before the command ran"


class BadReply(HomelabError):
    """The host answered with something that is no reply."""

    key = "bad_reply"
    what = "unreadable reply"


class ReplyTooLarge(BadReply):
    """The host sent more than a reply may hold."""

    key = "reply_too_large"
    what = "reply too large"


# ---------------------------------------------------------------- controls


class ControlDenied(HomelabError):
    """The user that we log in as may not do that; `command` is what it would have to be allowed."""

    key = "control_denied"
    what = "not allowed"

    def __init__(self, host: str, detail: str, *, command: str) -> None:
        super().__init__(host, detail, command=command)


class TerminalRequired(ControlDenied):
    """sudo runs nothing for this user without a terminal, which a connection of ours never has (`requiretty`)."""

    key = "control_needs_terminal"
    what = "sudo wants a terminal"


class ControlFailed(HomelabError):
    """The host tried and did not succeed; `detail` is what it said."""

    key = "control_failed"
    what = "it did not work"


class UpgradeDenied(HomelabError):
    """The user that we log in as may not install packages; `manager` is what would install them."""

    key = "upgrade_denied"
    what = "updates may not be installed"

    def __init__(self, host: str, detail: str, *, manager: str) -> None:
        super().__init__(host, detail, manager=manager)


class RepairInterrupted(HomelabError):
    """The repair that installs the script for updates runs, or was killed before it had put it in place."""

    key = "repair_interrupted"
    what = "the repair that allows installing updates was interrupted"


class UpgradeFailed(HomelabError):
    """Installing the updates ended with an error; `detail` is what the package manager said."""

    key = "upgrade_failed"
    what = "the updates were not installed"


class UpgradeLost(HomelabError):
    """Installing the updates was ended from outside, by a reboot or by a person."""

    key = "upgrade_lost"
    what = "installing updates was interrupted"


class UpgradeUnknown(HomelabError):
    """The host was booted anew before anybody saw how installing the updates ended."""

    key = "upgrade_unknown"
    what = "nobody has seen how installing updates ended"


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
    """The user that we log in as may not use the engine's socket."""

    key = "engine_denied"
    what = "the engine may not be used"

    def __init__(self, host: str, detail: str, *, engine: str) -> None:
        super().__init__(host, detail, engine=engine)


class WouldLockOut(HomelabError):
    """Stopping the SSH server is something that could not be undone from here."""

    key = "would_lock_out"
    what = "this would lock us out"

    def __init__(self, host: str, unit: str) -> None:
        super().__init__(host, unit, unit=first_line(unit))


@contextmanager
def only_asking() -> Iterator[None]:
    """Let no error of a question be taken for one of a command that may have done something."""
    try:
        yield
    except HomelabError as err:
        err.was_sent = err.had_begun = False
        raise


def without_frames[ErrorT: BaseException](error: ErrorT) -> ErrorT:
    """Return an error to keep for a while: the frames of a traceback hold what was typed, such as a password."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def lines_of(text: str) -> list[str]:
    """Return the lines of remote text by the only end of a line that a host's kernel and programs know.

    `splitlines` takes marks of Unicode and others for one as well, which a name may hold: a line of its owner's own.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def first_line(text: str) -> str:
    """Return the first line of remote text that says something, safe to log and to show."""
    if len(text) <= DETAIL_LIMIT and text.isascii() and text.isprintable():
        return " ".join(text.split())
    # Only a beginning is looked at, so that a huge text costs nothing; a terminal begins anew after a \r.
    for line in lines_of(text[: 16 * DETAIL_LIMIT].replace("\r", "\n")):
        if kept := " ".join(printable(line).split())[:DETAIL_LIMIT]:
            return kept
    return ""


def reason_in(text: str) -> str:
    """Return the line of what a program said that says why it failed, "" where none is marked as that."""
    found = REASON.search(text, 0, 256 * DETAIL_LIMIT)
    return first_line(found[0]) if found else ""


def line_with(pattern: re.Pattern[str], text: str) -> str:
    """Return the first line of remote text in which a pattern is found, "" without one."""
    found = pattern.search(text)
    return first_line(text[text.rfind("\n", 0, found.start()) + 1 :]) if found else ""


def without_userinfo(text: str) -> str:
    """Return text whose URLs hold no user and no password (RFC 3986, 3.2.1), as those of private mirrors do."""
    return _USERINFO.sub("://", text)


def printable(text: str) -> str:
    """Return the text with a space for each character that cannot be seen, such as control and bidi marks."""
    if text.isprintable():
        return text
    return text.translate(_BLANKS) if text.isascii() else "".join([c if c.isprintable() else " " for c in text])


REASON: Final = re.compile(
    r"^[ \t]*(?:E:|(?:[\w./ -]{1,40}(?:\[\d+\])?: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL)\b:?"
    r"|Problem:|\* [\w.-]+:|Failed to|Job for|Unit|Call to)[ \t]+\S.*"
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)
"""How programs begin the line that says why they failed, whatever they warned of before: the same as the probe's."""
_USERINFO = re.compile(r"://[^/?#\s]*@")
_BLANKS = {code: " " for code in range(128) if not chr(code).isprintable()}
