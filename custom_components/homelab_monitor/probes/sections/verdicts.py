"""What the parts of the section security share: a verdict, and what a program reports to root."""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host import Host, Json, Late, Request, TooLong
    from .installed import has_program

SECURITY_SECONDS = 5.5  # for all programs together: less than what the section has
LEAST_SECONDS = 0.1
# Other lines of sudo's are warnings, after which the command runs all the same.
REFUSED = re.compile(
    r"^sudo(?:-rs)?: (?:.*(?: required|command not found|expired|validation failure|no new privileges|must be owned)"
    r"|(?:I'm )?sorry|PAM|authentication fail|no valid sudoers|no tty|unable to (?:execute|initialize)|policy plugin)"
    r"|^sorry, user |not in the sudoers|not allowed to run sudo|may not run sudo",
    re.MULTILINE | re.IGNORECASE,
)
WARNED = re.compile(r"^(?:sudo(?:-rs)?: |/etc/sudoers).*$", re.MULTILINE)


def verdict(state: str, reason: str, **more: object) -> "Json":
    """Return one part of the section, without what is not known."""
    told = dict({"state": state, "reason": reason}, **more)
    return {key: value for key, value in told.items() if value is not None}


class Unknown(Exception):
    """A part cannot be judged; `reason` is one of the contract's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CutOff(Unknown):
    """A program says more than is read, or for longer; `output` is what was read of it."""

    def __init__(self, output: str, reason: str) -> None:
        super().__init__(reason)
        self.output = output


def seconds_for(request: "Request", is_last: bool = False) -> float:
    """Return how long a program may take: half of what is left, the last one all of it; raises Unknown.

    So one that hangs makes its own part late, and not the whole section.
    """
    whole = min(SECURITY_SECONDS, 0.9 * request.timeout)
    left = request.begun + whole - time.monotonic()
    if left < LEAST_SECONDS:
        raise Unknown("timed_out")
    return left if is_last else left / 2


def as_root(host: "Host", request: "Request", argv: "list[str]", wanted: "Any" = None, is_last: bool = False) -> str:
    """Return what a program tells root; raises Unknown. `wanted` is a pattern of the lines to keep."""
    return run_as_root(host, request, argv, wanted, is_last)[0]


def run_as_root(
    host: "Host", request: "Request", argv: "list[str]", wanted: "Any" = None, is_last: bool = False
) -> "tuple[str, str]":
    """Return a program's output and what it complains of; raises Unknown where we may not be root, or it does not work."""
    if not has_program(host, argv[0]):
        raise Unknown("not_installed")
    is_root = host.is_root()
    if not is_root and "security" not in request.sudo:
        raise Unknown("permission_denied")
    if not is_root and not host.may_ask_sudo(argv):
        raise Unknown("permission_denied")
    seconds = seconds_for(request, is_last)
    try:
        run = host.run if is_root else host.run_sudo
        status, output, errors = run(argv, seconds, wanted=wanted)
    except FileNotFoundError:
        raise Unknown("permission_denied") from None
    except Late as err:
        raise CutOff(err.result[1], "timed_out") from None
    except TooLong as err:
        raise CutOff(err.result[1], "unreadable") from None
    if status:
        is_refused = re.search(r"denied|not permitted|must be root", WARNED.sub("", errors)) or REFUSED.search(errors)
        if is_refused and not is_root:
            host.note_refusal(argv)
        raise Unknown("permission_denied" if is_refused else "unreadable")
    return output, errors


def is_running(host: "Host", unit: str) -> bool:
    """Tell whether a service has processes, by its cgroup (systemd) or its mark (OpenRC)."""
    places = ("/sys/fs/cgroup/system.slice/", "/sys/fs/cgroup/systemd/system.slice/")
    is_grouped = any(host.exists(place + unit + ".service") for place in places)
    return is_grouped or host.exists("/run/openrc/started/" + unit)
