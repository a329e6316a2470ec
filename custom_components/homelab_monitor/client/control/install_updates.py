"""Install a host's pending packages: a job on the host that does not depend on our connection.

The only program that is run for it is the script that a remedy has installed (`update_script`): as root, or through a
sudo or doas that requires no password. It starts the job in a transient unit of systemd, else in a session of its own.
Its result and output stay in /run until the next job or the next boot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
import re
from types import MappingProxyType
from typing import Final

from ..checks.privilege import read_ways
from ..checks.update_script import SCRIPT, TRIAL_SAYS, UNIT, UPDATE_FOLDER
from ..errors import (
    ControlDenied,
    ControlFailed,
    RepairInterrupted,
    UpgradeDenied,
    first_line,
    lines_of,
    only_asking,
    reason_in,
    without_userinfo,
)
from ..transport.ssh import Connection
from .control import run_as_root

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 20.0


class Phase(StrEnum):
    """The phase of the job on a host."""

    NONE = "none"
    """No job was started since the host booted."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    """It was ended from outside, without a result."""
    UNKNOWN = "unknown"
    """A reboot has removed its result, before or after its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What a host reports about the job; `detail` is remote text."""

    phase: Phase
    detail: str = ""


# zypper(8), exit codes: success, and something has to be restarted.
_GOOD: Final[Mapping[str, frozenset[int]]] = MappingProxyType({"zypper": frozenset({0, 100, 101, 102, 103})})
"""Exit statuses of package managers for success, if not only 0."""


async def start_installation(connection: Connection, host: str, manager: str) -> None:
    """Start the job unless it already runs; raise UpgradeDenied, RepairInterrupted or ControlFailed."""
    if await _is_running(connection, host, manager):
        return
    ways = await read_ways(connection)
    try:
        await run_as_root(connection, host, ways, (SCRIPT,), _START_SECONDS)
    except ControlDenied as err:
        raise UpgradeDenied(host, err.detail, manager=manager) from err
    except ControlFailed as err:
        if TRIAL_SAYS in err.detail:
            raise RepairInterrupted(host, err.detail) from err
        if await _is_running(connection, host, manager):
            return
        with only_asking():
            is_there = (await connection.run(f"test -x {SCRIPT}", timeout=_LOOK_SECONDS)).exit_status == 0
        if not is_there:
            raise UpgradeDenied(host, err.detail, manager=manager) from err
        raise


async def read_installation(connection: Connection, host: str, manager: str) -> Installation:
    """Return the state of the job, which every user of the host may read; raise HomelabError if it is not reported."""
    with only_asking():
        result = await connection.run("sh", stdin=_LOOK.encode(), timeout=_LOOK_SECONDS)
    if found := parse_upgrade(result.stdout, manager):
        return found
    raise ControlFailed(
        host, reason_in(result.stderr) or first_line(result.stderr) or "it did not report the state of the installation"
    )


async def _is_running(connection: Connection, host: str, manager: str) -> bool:
    """Return whether the job is running."""
    return (await read_installation(connection, host, manager)).phase is Phase.RUNNING


def parse_upgrade(text: str, manager: str) -> Installation | None:
    """Parse the host's report, which follows any output of its login scripts; None if it is missing.

    upgrade ended 100
    E: Unable to locate package …
    """
    report = re.search(r"^upgrade (none|running|lost|ended) ?([0-9]*)$", text, re.MULTILINE)
    if report is None:
        return None
    word, status = report.groups()
    if word != "ended":
        return Installation(phase=Phase(word))
    if status in map(str, _GOOD.get(manager, {0})):
        return Installation(phase=Phase.DONE)
    return Installation(phase=Phase.FAILED, detail=_reason(text[report.end() :]) or f"exit status {first_line(status)}")


def _reason(words: str) -> str:
    """Return the line of the output that shows what failed, else the last one, without a mirror's password."""
    # Before it is cut: with the end of a long password missing, it would not be recognised.
    # apt gives dpkg a terminal, which ends each line with a carriage return.
    words = without_userinfo(words).replace("\r\n", "\n")
    last = words.rpartition("\nReading package lists")[2]
    # The match at the very beginning is from a search in all output of the last attempt.
    if found := _DPKG.match(words.lstrip("\n")) or _DPKG.search(last):
        return first_line(": ".join(filter(None, found.groups())))
    return reason_in(last) or reason_in(words) or next(filter(None, map(first_line, reversed(lines_of(words)))), "")


_DPKG: Final = re.compile(
    r"^dpkg: (?:error processing (?:package|archive) (\S+)[^\n]*|unrecoverable fatal error, aborting):\n"
    r"[ \t]+(?!dependency problems)(\S[^\n]*)",
    re.MULTILINE,
)
"""dpkg's report of an error (its src/main/errors.c): a header, and the cause in the next line, indented.

dpkg: error processing package plexmediaserver (--configure):
 installed plexmediaserver package post-installation script subprocess returned error exit status 1

Packages that only wait for another one follow it, with the cause `dependency problems - leaving unconfigured`.
"""
_LOOK: Final = rf"""LC_ALL=C; export LC_ALL; unit={UNIT}; folder={UPDATE_FOLDER}
if [ -d /run/systemd/system ]; then
  state=$(systemctl is-active "$unit" 2>/dev/null)
elif [ -e $folder/pid ] && [ ! -e $folder/status ]; then
  read -r pid start <$folder/pid
  if [ -e "/proc/$pid" ]; then
    # The fields of proc_pid_stat(5) behind the name, which anybody chooses; of all, the 22nd is the start.
    set -- $(sed 's/^.*) //' "/proc/$pid/stat")
    # One that has ended stays as a zombie (Z) until somebody asks how.
    [ "$start" = "${{20}}" ] && [ "$1" != Z ] && state=active || state=inactive
  else
    case $(kill -0 "$pid" 2>&1) in *ermitted*) state=active;; *) state=inactive;; esac
  fi
else
  state=inactive
fi
case $state in active|activating|deactivating|reloading) echo upgrade running; exit;; esac
if [ -e $folder/status ]; then
  printf 'upgrade ended %s\n' "$(cat $folder/status)"
  # What dpkg says first may be far from the end; the last attempt counts.
  awk '{{ sub(/\r$/, "") }}
    /^Reading package lists/ {{ said = "" }}
    /^dpkg: (error processing|unrecoverable fatal error).*:$/ && said == "" {{ header = $0; next }}
    header != "" {{ if (index($0, " dependency problems") != 1) said = header "\n" $0; header = "" }}
    END {{ if (said != "") print said }}' $folder/output
  tail -n 20 $folder/output
  exit
fi
if [ ! -d $folder ]; then echo upgrade none; exit; fi
if [ -z "$state" ]; then echo upgrade running; else echo upgrade lost; fi
"""
"""POSIX sh. A systemd that reports nothing is being replaced by the job itself. Where /proc hides processes of other
users, kill(1) still shows whether one exists. The number of a job that is over may be reused by any process.
"""
