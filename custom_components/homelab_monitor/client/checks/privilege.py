"""The way to root on a host: as root, or through a sudo or doas that requires no password.

Used by remedies, which have a password for sudo as a last resort, and by controls, which have none. Whether a tool
lets this user run a command only shows when it is run: each available tool is tried until one does.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
import re
from types import MappingProxyType
from typing import Final

from ..errors import line_with, only_asking
from ..transport.command import OUTPUT_LIMIT, CommandResult, Question
from ..transport.ssh import Connection
from .host_facts import Privilege

PREFIXES: Final[Mapping[Privilege, str]] = MappingProxyType(
    {
        Privilege.ROOT: "",
        Privilege.SUDO: "env LC_ALL=C sudo -n -k -- ",
        Privilege.DOAS: "doas -n ",
    }
)
"""Prefixes with which a command runs as root without a question."""
_SUDO_RS: Final = "env LC_ALL=C sudo -S -k -- "
_SUDO_RS_ASKS: Final = Question(b"[sudo: ")
_SUDO_RS_SAYS: Final = "sudo: interactive authentication is required\n"
"""sudo-rs' reply to -n, with which it asks PAM all the same: a failed login. So it runs without -n, and is ended when
it asks."""

_FOLDERS: Final = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin")
"""Folders that only root can write: doas, and a sudo without secure_path, look up a bare name in PATH."""
LIFE_SCRIPT: Final = """read -r boot </proc/sys/kernel/random/boot_id
[ -z "$boot" ] || printf 'life=%s.%s\\n' "$boot" "$(cut -d' ' -f22 /proc/1/stat)"
"""
"""Prints what differs after each boot: the boot id and the start of PID 1, as a container keeps the former."""
_WAYS_SCRIPT: Final = (
    """PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
echo "uid=$(id -u)"
for tool in sudo doas; do command -v $tool >/dev/null 2>&1 && echo $tool; done
for tool in systemctl shutdown poweroff reboot; do
  for folder in @FOLDERS@; do [ -x $folder/$tool ] && echo $folder/$tool; done
done
case $(sudo --version 2>&1 </dev/null) in sudo-rs*) echo sudo-rs;; esac
@LIFE@[ -d /run/systemd/system ] && echo systemd
""".replace("@FOLDERS@", " ".join(_FOLDERS))
    .replace("@LIFE@", LIFE_SCRIPT)
    .encode()
)
"""POSIX sh, read from standard input, so that no login shell has to quote anything."""
_WAYS_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Ways:
    """How a command may become root on a host, and which programs it has."""

    order: tuple[Privilege, ...]
    """What to try, in this order: only ROOT, or SUDO, DOAS, both or none."""
    has: frozenset[str] = frozenset()
    """Any of `systemd` (as init), `sudo-rs`, `life=…`, and the paths of programs."""

    def place_of(self, tool: str) -> str:
        """Return the path of a program in a folder that only root can write, "" if there is none."""
        return next((place for folder in _FOLDERS if (place := f"{folder}/{tool}") in self.has), "")

    @property
    def life(self) -> str:
        """Return the word that differs after a reboot, "" if it is not known."""
        return life_in(self.has)

    @property
    def is_sudo_rs(self) -> bool:
        """Return whether sudo is sudo-rs."""
        return "sudo-rs" in self.has


def life_in(words: Iterable[str]) -> str:
    """Return the word that LIFE_SCRIPT printed, "" if it is missing."""
    return next((word for word in words if word.startswith("life=")), "")


@dataclass(frozen=True, slots=True)
class Try:
    """The result of trying one of the ways."""

    privilege: Privilege
    result: CommandResult
    is_refused: bool
    """Whether the command did not begin."""


def time_left(until: float) -> float:
    """Return the seconds until a moment of the loop's clock: all ways together share one limit."""
    return max(0.1, round(until - asyncio.get_running_loop().time(), 1))


async def read_ways(connection: Connection) -> Ways:
    """Return the ways that the host has now; raise HomelabError if it cannot be reached."""
    with only_asking():
        result = await connection.run("sh", stdin=_WAYS_SCRIPT, timeout=_WAYS_SECONDS)
    words = frozenset(result.stdout.split())
    if "uid=0" in words:
        return Ways((Privilege.ROOT,), words)
    return Ways(tuple(each for each in (Privilege.SUDO, Privilege.DOAS) if each.value in words), words)


async def try_ways(  # noqa: PLR0913
    connection: Connection,
    ways: Ways,
    command: str,
    is_refused: Callable[[CommandResult], bool],
    *,
    timeout: float,  # noqa: ASYNC109
    limit: int = OUTPUT_LIMIT,
) -> list[Try]:
    """Run a command by the first way that allows it, without a password; return every try. All share `timeout`."""
    tries: list[Try] = []
    until = asyncio.get_running_loop().time() + timeout
    for privilege in ways.order:
        result = await _run(connection, ways, privilege, command, timeout=time_left(until), limit=limit)
        tries.append(Try(privilege, result, privilege is not Privilege.ROOT and is_refused(result)))
        if not tries[-1].is_refused:
            break
    return tries


async def _run(  # noqa: PLR0913
    connection: Connection,
    ways: Ways,
    privilege: Privilege,
    command: str,
    *,
    timeout: float,  # noqa: ASYNC109
    limit: int,
) -> CommandResult:
    """Run a command in one way; end it if it asks anything."""
    if privilege is not Privilege.SUDO or not ways.is_sudo_rs:
        return await connection.run(PREFIXES[privilege] + command, timeout=timeout, limit=limit)
    result = await connection.run(_SUDO_RS + command, question=_SUDO_RS_ASKS, timeout=timeout, limit=limit)
    return replace(result, stderr=_SUDO_RS_SAYS, exit_status=1) if result.asked else result


_SUDO_REFUSES = (
    r"a password is required|a terminal is required|no tty present|no askpass program",
    r"interact(?:ive authentication|ion) (?:is )?required|authentication required",
    r"(?:sorry|I'm sorry)\b",
    r"account (?:or password is )?expired|account validation failure|password expired",
    r"PAM (?:account management |authentication )?error|(?:PAM )?authentication fail(?:ed|ure)",
    r"(?:maximum )?\d+ incorrect (?:password|authentication) attempt|timed out reading password",
    r"no valid sudoers sources|you do not exist|unknown u(?:id|ser)|user .* not found",
    r".*: command not found$|unable to execute ",
    r".*no new privileges|effective uid is not 0|.*must be owned by uid 0|.*must be setuid",
    r"unable to initialize policy|error initializing|fatal error|policy plugin failed",
)
"""Words of sudo and sudo-rs when they end without running the command; all other words are warnings."""
_DOAS_REFUSES = (
    r"operation not permitted|.*permission denied|auth(?:entic|oriz)ation (?:required|failed)|a tty is required",
    r".*: command not found$|.*is not enabled|not installed setuid|.*is writable|.*is not owned|.*syntax error",
)
_REFUSES: Final = re.compile(
    rf"^(?:(?:sudo|sudo-rs): (?:{'|'.join(_SUDO_REFUSES)})|doas: (?:{'|'.join(_DOAS_REFUSES)})"
    r"|sorry, user .*(?:is not allowed to|may not run)"
    r"|\S+ (?:is not in the sudoers|is not allowed to run sudo|may not run))",
    re.IGNORECASE | re.MULTILINE,
)


def refusal_in(result: CommandResult) -> str:
    """Return the line in which sudo, sudo-rs or doas reports that it did not run the command, "" if it ran it."""
    # The tools' own exit status; that of a command that ran may be the same.
    return line_with(_REFUSES, result.stderr) if result.exit_status == 1 and _REFUSES.search(result.stderr) else ""


_WITH_PASSWORD: Final = "env LC_ALL=C SUDO_PROMPT={word}: sudo -S -k -- "  # noqa: S105
"""The prompt is in the environment: one from -p would also precede questions for something else."""


def password_question(ways: Ways, word: str, password: str, begun: str) -> tuple[str, Question]:
    """Return the prefix with which sudo asks for the password with a word, and that question."""
    # sudo-rs puts the prompt before the question of PAM.
    cue = f"[sudo: {word}:] Password:" if ways.is_sudo_rs else f"{word}:"
    return _WITH_PASSWORD.format(word=word), Question(cue.encode(), password.encode() + b"\n", begun.encode())
