"""Everything that can go wrong with a host, as one small vocabulary.

Each error has a `key`: the config flow, the log, the repair issues and the translations all
speak of it by that word. `placeholders` fill the translated text; what a remote wrote reaches
them only through `first_line`.
"""

# Errors are named for what happened, without a suffix: `KeyRefused` reads better than `KeyRefusedError`.
# ruff: noqa: N818

from typing import ClassVar

DETAIL_LIMIT = 300
"""Characters of remote text that an error keeps."""


class HomelabError(Exception):
    """Something kept us from watching a host."""

    key: ClassVar[str] = "unknown"
    what: ClassVar[str] = "something went wrong"
    hard: ClassVar[bool] = False
    """Trying again soon cannot help: a person has to act first."""

    def __init__(self, host: str, detail: str = "", **placeholders: str) -> None:
        self.host = host
        self.detail = first_line(detail)
        self.placeholders = placeholders | {"host": host, "detail": self.detail}
        super().__init__(": ".join(part for part in (host, self.what, self.detail) if part))


# ---------------------------------------------------------------- the way to the host


class InvalidTarget(HomelabError):
    """What was typed is no address; `host` is the text itself."""

    key = "invalid_target"
    what = "not an address"


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


class ConnectionLost(HomelabError):
    """The connection ended while it was used."""

    key = "connection_lost"
    what = "connection lost"


class NotSSH(HomelabError):
    """Something answers on that port, but not with SSH that we understand."""

    key = "not_ssh"
    what = "no usable SSH server"


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


class KeyRefused(HomelabError):
    """The login with our key was refused."""

    key = "key_refused"
    what = "key refused"


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


class UpgradeFailed(HomelabError):
    """Installing the updates ended with an error; `detail` is what the package manager said."""

    key = "upgrade_failed"
    what = "the updates were not installed"


class UpgradeLost(HomelabError):
    """Installing the updates was ended from outside, by a reboot or by a person."""

    key = "upgrade_lost"
    what = "installing updates was interrupted"


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


def first_line(text: str) -> str:
    """Return the first line of remote text that says something, safe to log and to show."""
    # Only a beginning is looked at, so that a huge text costs nothing.
    for line in text[: 16 * DETAIL_LIMIT].splitlines():
        if kept := " ".join(printable(line).split())[:DETAIL_LIMIT]:
            return kept
    return ""


def printable(text: str) -> str:
    """Return the text with a space for each character that cannot be seen, such as control and bidi marks."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
