"""The cures: a catalog of commands per remedy and family of systems, and running one on a host.

Commands are fixed texts. What is put into them is the user name of the target and names of
disks, and only when they look exactly as such names do; nothing else that a host says can
reach a command line. A password goes to sudo's standard input and nowhere else, the command's
own standard input is always empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
import re
import secrets
import shlex

from .command import CommandResult
from .facts import SMARTCTL_ARGUMENTS, Family, Privilege, wants_password
from .root import PREFIXES, read_ways
from .ssh import Connection

RUN_SECONDS = 600.0
OUTPUT_LIMIT = 64 << 10

_USERNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""Names that mean themselves in every shell and in sudoers(5): no quote, space, @, backslash or leading dash."""
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*")
"""What sudoers(5) takes for an alias, and ALL for everybody."""
_DISK = re.compile(r"sd[a-z]{1,3}|nvme\d{1,3}(?:n\d{1,3})?")
_SMARTCTL = frozenset({"/usr/sbin/smartctl", "/usr/bin/smartctl", "/sbin/smartctl", "/usr/local/sbin/smartctl"})
"""Only where root alone can write: a path of the host's own choice would become root's."""


class Where(StrEnum):
    """Where a remedy is applied."""

    HOST = "host"
    HOME_ASSISTANT = "home_assistant"
    HAND = "hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A cure, ready for one host; `commands` run one after the other and stop at the first that fails."""

    key: str
    where: Where
    commands: tuple[str, ...] = ()
    as_root: bool = True
    is_root_login: bool = False
    """Whether the login is root's already."""
    sudo_section: str | None = None
    """The section of the probe that may use passwordless sudo once this has run."""

    @property
    def text(self) -> str:
        """Return what a person would type."""
        needs_sudo = self.as_root and not self.is_root_login and self.where is Where.HOST
        prefix = "sudo " if needs_sudo else ""
        return "\n".join(prefix + command for command in self.commands)


@dataclass(frozen=True, slots=True)
class _Row:
    """One cure for some families."""

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

SUDOERS_FILE = "zz_homelab_monitor"
"""In /etc/sudoers.d the last rule that fits wins, so ours has to come after other files' "with a password"."""
_SUDOERS = (
    'd=/etc/sudoers.d; f=$(mktemp $d/.homelab_monitor.XXXXXX) || exit 1; trap "rm -f $f" EXIT; '
    f"{{{{ grep -v /smartctl $d/{SUDOERS_FILE} 2>/dev/null; "
    'printf "%s\\n" {lines}; }} >$f'
    f" && visudo -cf $f && chmod 0440 $f && mv -f $f $d/{SUDOERS_FILE}"
)
"""A drop-in is checked before it counts: sudo passes over file names with a dot, and a broken file locks sudo."""

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
    _Row("install_python", (_OTHER,), _HAND, ()),
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
    _Row("start_docker", (_OTHER,), _HAND, ()),
    _Row("start_podman", _SYSTEMD, _HOST, ("systemctl --user enable --now podman.socket",), as_root=False),
    _Row("start_podman", (_ALPINE,), _HOST, ("rc-service podman start",)),
    _Row("start_podman", (_OTHER,), _HAND, ()),
    # ----------------------------------------------------------------
    _Row("restart_host", (*_SYSTEMD, _ALPINE, _OTHER), _HAND, ("sudo reboot",)),
    _Row("restart_host", (_WINDOWS,), _HAND, ("Restart-Computer",)),
    _Row("allow_smart", (*_SYSTEMD, _ALPINE), _HOST, (f"sh -c {shlex.quote(_SUDOERS)}",)),
    _Row("quiet_shell", tuple(Family), _HAND, ("case $- in *i*) ;; *) return;; esac",)),
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

_SUDO_SECTIONS = {"allow_smart": "storage_health"}


def remedy_for(key: str, family: Family, username: str, placeholders: Mapping[str, str]) -> Remedy | None:
    """Return the remedy for one host, None when there is none or its words do not look as they must."""
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
    )


_WORDS = frozenset({"username", "lines"})


def _words(username: str, placeholders: Mapping[str, str]) -> dict[str, str]:
    """Return what may be put into commands; what could mean anything to a shell or to sudo is left out."""
    if not _USERNAME.fullmatch(username):
        return {}
    lines = _sudoers_lines(username, placeholders.get("tool", ""), placeholders.get("disks", "").split())
    return {"username": username} | ({"lines": " ".join(f'"{line}"' for line in lines)} if lines else {})


def _sudoers_lines(username: str, tool: str, disks: Iterable[str]) -> list[str]:
    """Return one literal line per disk; none when the path or a name is not one that we know."""
    known = [disk for disk in disks if _DISK.fullmatch(disk)]
    if tool not in _SMARTCTL or _ALIAS.fullmatch(username):
        return []
    return [f"{username} ALL=(root) NOPASSWD: {tool} {SMARTCTL_ARGUMENTS} /dev/{disk}" for disk in known]


def _filled(command: str, words: Mapping[str, str]) -> str:
    """Return the command with its words; one that is quoted as a whole is filled inside its quotes."""
    match shlex.split(command):
        case ["sh", "-c", script] if "{lines}" in script:
            return "sh -c " + shlex.quote(script.format_map(words))
    return command.format_map(words) if "{username}" in command else command


# ---------------------------------------------------------------- running one


class Outcome(StrEnum):
    """How running a remedy ended."""

    DONE = "done"
    FAILED = "failed"
    """It ran, and its exit status is not 0."""
    NEEDS_PASSWORD = "needs_password"  # noqa: S105
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    REFUSED = "refused"
    """sudo or doas does not let this user run it."""
    NO_PRIVILEGE = "no_privilege"
    """There is neither sudo nor a doas that asks nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyResult:
    """What running a remedy left behind; the texts are remote text."""

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
    """Run a remedy on its host; raise HomelabError when the host cannot be asked.

    sudo is first asked without a password; only when it says that it wants one is `password` used.
    """
    if remedy.where is not Where.HOST:
        raise ValueError(f"{remedy.key} does not run on the host")
    token = secrets.token_hex(16)
    script = _script(remedy, token)
    privilege = (await read_ways(connection)).privilege if remedy.as_root else Privilege.ROOT
    if privilege is Privilege.NONE:
        return RemedyResult(outcome=Outcome.NO_PRIVILEGE)
    result = await connection.run(f"{PREFIXES[privilege]}{script}", timeout=timeout, limit=OUTPUT_LIMIT)
    outcome = _judge(result, token, privilege)
    if outcome.outcome is not Outcome.NEEDS_PASSWORD or password is None:
        return outcome
    return await _run_with_password(connection, script, token, password, timeout)


_WITH_PASSWORD = "env LC_ALL=C sudo -S -k -p '' -- "  # noqa: S105


def _script(remedy: Remedy, token: str) -> str:
    """Return the command line that says the token, then runs the commands without any input.

    The token tells sudo's words from the command's own: what comes after it is the command's.
    One line, single quotes and no exclamation mark: every login shell reads it alike.
    """
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; " if remedy.as_root else ""
    commands = " && ".join(remedy.commands)
    return "sh -c " + shlex.quote(f"exec </dev/null; echo {token}; echo {token} >&2; {path}{commands}")


async def _run_with_password(
    connection: Connection, script: str, token: str, password: str, seconds: float
) -> RemedyResult:
    """Run through sudo, which reads the password from its standard input."""
    if not password or "\n" in password or "\r" in password:
        # A second line would be a second try; none of that is a password that sudo could read.
        return RemedyResult(outcome=Outcome.WRONG_PASSWORD)
    result = await connection.run(
        _WITH_PASSWORD + script, stdin=password.encode() + b"\n", timeout=seconds, limit=OUTPUT_LIMIT
    )
    judged = _judge(result, token, Privilege.SUDO_PASSWORD)
    return replace(
        judged,
        stdout=judged.stdout.replace(password, "•••"),
        stderr=judged.stderr.replace(password, "•••"),
    )


def _judge(result: CommandResult, token: str, privilege: Privilege) -> RemedyResult:
    """Return how it ended; without the token the command never began, and the words are sudo's."""
    has_begun, stdout = _after(token, result.stdout)
    _, stderr = _after(token, result.stderr)
    outcome = Outcome.DONE if result.exit_status == 0 else Outcome.FAILED
    if not has_begun:
        outcome = _judge_refusal(result.stderr, privilege)
    return RemedyResult(
        outcome=outcome,
        exit_status=result.exit_status,
        stdout=stdout,
        stderr=stderr,
        truncated=result.truncated,
    )


def _judge_refusal(words: str, privilege: Privilege) -> Outcome:
    """Return why the command did not begin, from sudo's or doas's own words."""
    if privilege is Privilege.SUDO and wants_password(words):
        return Outcome.NEEDS_PASSWORD
    if privilege is Privilege.SUDO_PASSWORD and _WRONG.search(words):
        return Outcome.WRONG_PASSWORD
    return Outcome.REFUSED


_WRONG = re.compile(r"try again|incorrect password|incorrect authentication|authentication failed", re.IGNORECASE)
"""sudo and sudo-rs."""


def _after(token: str, text: str) -> tuple[bool, str]:
    """Tell whether the token is there, and return what comes after it, else everything."""
    before, found, after = text.partition(f"{token}\n")
    return (True, after) if found else (False, before)
