"""Install a host's pending packages: a job of the host's own, which no connection has to outlive.

It runs as root in a transient unit of systemd, else in a session of its own, asks nothing, keeps configuration files
and never reboots. What is left of it lies in /run until the next job or the next boot: how it ended and what
it printed. That is the one thing that we ever write on a host unasked, as who started it may be restarted meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
import re
from types import MappingProxyType
from typing import Final

from .control import run_as_root
from .errors import ControlDenied, ControlFailed, UpgradeDenied, first_line
from .facts import Family, family_of
from .models import System, Updates
from .root import read_ways
from .ssh import Connection

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 20.0

_UNIT: Final = "homelab_monitor-update"
_FOLDER: Final = f"/run/{_UNIT}"


class Phase(StrEnum):
    """How far the job on a host is."""

    NONE = "none"
    """None was started since the host was booted."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    """It was ended from outside, and says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What a host tells of the job; `detail` is remote text."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a package manager installs what the section `updates` counts; `good` are its words for success."""

    command: str
    good: frozenset[int] = frozenset({0})


_APT: Final = "apt-get -o DPkg::Lock::Timeout=600"
_KEEP: Final = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
_RECIPES: Final[Mapping[str, _Recipe]] = MappingProxyType(
    {
        # New packages, as a kernel's, are counted as well; nothing is removed.
        "apt": _Recipe(f"{_APT} update && {_APT} -y {_KEEP} --with-new-pkgs upgrade"),
        "dnf": _Recipe("dnf -y --refresh upgrade"),
        # zypper(8), exit codes: it worked, and something has to be restarted.
        "zypper": _Recipe(
            "zypper --non-interactive refresh && zypper --non-interactive update", frozenset({0, 100, 101, 102, 103})
        ),
        # The lists and all packages at once: Arch knows no partial upgrade.
        "pacman": _Recipe("pacman -Syu --noconfirm"),
        "apk": _Recipe("apk --update-cache upgrade"),
    }
)
"""Without opkg: OpenWrt's packages are not to be upgraded one by one, nor by its apk."""
_BY_IMAGE: Final = frozenset({"opensuse-tumbleweed", "opensuse-slowroll", "opensuse-microos", "sle-micro", "sl-micro"})
"""What is brought up to date as a whole, by `zypper dup` or `transactional-update`."""


def can_upgrade(updates: Updates | None, system: System | None) -> bool:
    """Tell whether there is a command that brings this host up to date."""
    if updates is None or updates.manager not in _RECIPES or system is None:
        return False
    return family_of(system.os_id, system.os_id_like) is not Family.OPENWRT and system.os_id not in _BY_IMAGE


async def start_upgrade(connection: Connection, host: str, manager: str) -> None:
    """Start the job, or find that it runs already; raise UpgradeDenied or ControlFailed."""
    if await _is_running(connection, host, manager):
        return
    ways = await read_ways(connection)
    argv = start_argv(manager, systemd="systemd" in ways.has)
    try:
        await run_as_root(connection, host, ways, argv, _START_SECONDS)
    except ControlDenied as err:
        raise UpgradeDenied(host, err.detail, manager=manager) from err
    except ControlFailed:
        if not await _is_running(connection, host, manager):
            raise


async def read_upgrade(connection: Connection, host: str, manager: str) -> Upgrade:
    """Return how far the job is, which everybody on the host may read; raise HomelabError when nobody tells."""
    result = await connection.run("sh", stdin=_LOOK.encode(), timeout=_LOOK_SECONDS)
    if found := parse_upgrade(result.stdout, manager):
        return found
    raise ControlFailed(host, first_line(result.stderr) or "nothing was told of the updates")


async def _is_running(connection: Connection, host: str, manager: str) -> bool:
    """Tell whether the job is under way."""
    return (await read_upgrade(connection, host, manager)).phase is Phase.RUNNING


def parse_upgrade(text: str, manager: str) -> Upgrade | None:
    """Return what the host told, which comes behind whatever its login scripts print.

    upgrade ended 100
    E: Unable to locate package …
    """
    told = re.search(r"^upgrade (none|running|lost|ended) ?(\d*)$", text, re.MULTILINE)
    if told is None:
        return None
    word, status = told.groups()
    if word != "ended":
        return Upgrade(phase=Phase(word))
    if status and int(status) in _RECIPES[manager].good:
        return Upgrade(phase=Phase.DONE)
    return Upgrade(phase=Phase.FAILED, detail=_reason(text[told.end() :]) or f"exit status {status}")


def _reason(words: str) -> str:
    """Return the line of the last words that says what went wrong, else the last one."""
    lines = [line for line in words.splitlines() if line.strip()]
    return first_line(next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else ""))


_ERROR: Final = re.compile(r"E: |error: |Error: |ERROR: |dpkg: error |Problem: ")
"""How apt, dnf, zypper, pacman and apk begin to say what went wrong."""


# ---------------------------------------------------------------- the job


def start_argv(manager: str, *, systemd: bool) -> tuple[str, ...]:
    """Return the command that starts the job; it is the same at every time, so that a sudoers file can name it."""
    job = _JOB.format(steps=_RECIPES[manager].command)
    return (*_IN_A_UNIT, job) if systemd else ("/bin/sh", "-c", _IN_A_SESSION, job)


def sudoers_line(username: str, manager: str) -> str:
    """Return the line of sudoers(5) that allows exactly this, where systemd runs."""
    program, *arguments = start_argv(manager, systemd=True)
    quoted = re.sub(r"([\\,:=#*?!\[\]])", r"\\\1", " ".join(arguments))
    return f"{username} ALL=(root) NOPASSWD: /usr/bin/{program} {quoted}"


_JOB: Final = (
    f"umask 022; mkdir -p {_FOLDER} && cd {_FOLDER} && rm -f status || exit; "
    "export LC_ALL=C DEBIAN_FRONTEND=noninteractive; "
    "{{ {steps}; }} >output 2>&1 </dev/null; echo $? >ended; mv ended status"
)
"""POSIX sh in one line, without `${` and `$$`: systemd would put its own words for them (systemd.service(5))."""

_IN_A_UNIT: Final = ("systemd-run", "--quiet", "--collect", "--no-ask-password", f"--unit={_UNIT}", "/bin/sh", "-c")
"""The unit has always the same name, so that systemd starts no second one."""

_IN_A_SESSION: Final = (
    "command -v setsid >/dev/null || { echo setsid is not installed >&2; exit 1; }; "
    f"umask 022; mkdir -p {_FOLDER} || exit; "
    f'setsid /bin/sh -c "$0" </dev/null >/dev/null 2>&1 & echo $! >{_FOLDER}/pid'
)
"""POSIX sh; the job is its $0."""

_LOOK: Final = rf"""LC_ALL=C; export LC_ALL; unit={_UNIT}; folder={_FOLDER}
if [ -d /run/systemd/system ]; then
  state=$(systemctl is-active "$unit" 2>/dev/null)
elif [ -e $folder/pid ]; then
  pid=$(cat $folder/pid)
  if [ -e "/proc/$pid" ]; then told=$(tr '\0' ' ' <"/proc/$pid/cmdline"); else told=$(kill -0 "$pid" 2>&1); fi
  case $told in *"$unit"*|*ermitted*) state=active;; *) state=inactive;; esac
else
  state=inactive
fi
case $state in active|activating|deactivating|reloading) echo upgrade running; exit;; esac
if [ -e $folder/status ]; then echo "upgrade ended $(cat $folder/status)"; tail -n 20 $folder/output; exit; fi
if [ ! -d $folder ]; then echo upgrade none; exit; fi
if [ -z "$state" ]; then echo upgrade running; else echo upgrade lost; fi
"""
"""POSIX sh. A systemd that says nothing is being replaced by the job itself. Where /proc hides the processes of others,
kill(1) still tells one that is there from one that is not.
"""
