"""The shell script that collects the facts about a host for its capability test, and the parser of its output.

The probe cannot report everything that hinders it: it may not even start. So the test
sends this script to `sh` on a channel of its own. It changes nothing, wakes no disk, and every
step that could hang has a time limit. Nothing in it may read standard input: that is the script
itself. All that it prints is remote text: `remedies` takes from it only what it recognises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
import re

from ..errors import first_line, lines_of
from ..limits import DISKS_ASKED
from .update_script import UPDATES_RULE_FACTS, UpdatesRule, parse_updates_rule

SMARTCTL_ARGUMENTS = "-n standby -j -a"
"""Arguments of smartctl: a disk that sleeps stays asleep. The sudoers lines name exactly this."""

FACTS_COMMAND = "sh"
FACTS_SCRIPT = rf"""
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin; LC_ALL=C; export PATH LC_ALL
say() {{ printf '\036%s\n' "$1"; }}
have() {{ command -v "$1" >/dev/null 2>&1; }}
timed() {{ if have timeout; then timeout 5 "$@"; else "$@"; fi; }}
limited() {{ timed "$@" </dev/null; }}
late() {{ [ "$1" = 124 ] || [ "$1" = 143 ]; }}
folded() {{ printf '%s %s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }}
run=${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}

say uname; uname -s; uname -r; uname -m
say os_release; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
say id; id -u; id -un
say shell; limited getent passwd "$(id -un)" 2>/dev/null | cut -d: -f7; printf '%s\n' "$SHELL"
say systemd
if [ -d /run/systemd/system ]; then
  text=$(limited systemctl --version 2>/dev/null); late $? && text=systemd
  printf '%s\n' "$text" | head -n 1
fi

# Run sudo so that it asks nothing, and print what it says: both outputs, or with apart=yes only the second, while what is
# run writes to 3. To sudo-rs a question is a failed login also with -n, three of which may lock the account: it gets an
# input that does not end, and is ended as soon as it asks, which it may do after any number of warnings.
apart=
eol='
'
unasked() {{
  case $apart$kind in
    *sudo-rs*)
      : | {{
        exec 4>/proc/self/fd/0
        {{
          timed sh -c 'echo $$; [ -z "$0" ] || exec >&3; exec sudo -S "$@" 4>&-' "$apart" "$@" 2>&1
          printf '\n%s' "$?"
        }} | (
          read -r pid; said=
          while piece=$(dd bs=4096 count=1 2>/dev/null; echo .); [ "$piece" != . ] && [ ${{#said}} -lt 65536 ]; do
            said=$said${{piece%.}}
            case $eol$said in
              *"$eol[sudo"[]:]*) kill -9 "$pid"; echo "sudo: interactive authentication is required"; cat >/dev/null; exit 1;;
            esac
          done
          printf '%s\n' "${{said%"$eol"*}}"
          exit "${{said##*"$eol"}}"
        )
      }};;
    yes*) limited sudo -n "$@" 2>&1 >&3;;
    *) limited sudo -n "$@" 2>&1;;
  esac
}}
# What happens counts: whether a program runs, and as whom. It is named by its place, as a sudo may look through a PATH.
id=$(PATH=/usr/bin:/bin:$PATH; command -v id)
say sudo
if have sudo; then
  kind=$(limited sudo --version 2>&1 | head -n 1)
  {{ answer=$(apart=yes; unasked -k -- "$id" -u 3>&1 >&4); status=$?; }} 4>&1
  printf '\n%s\n' "$status"; folded uid "$answer"
fi
say doas
if have doas; then answer=$(limited doas -n "$id" -u 2>/dev/null); late $? && echo late; folded uid "$answer"; fi

say docker
have dockerd && echo installed
for socket in "$run/docker.sock" /var/run/docker.sock; do
  [ -S "$socket" ] || continue
  if [ -r "$socket" ] && [ -w "$socket" ]; then echo "socket usable"; else echo "socket denied"; continue; fi
  have docker || continue
  # The polls ask these sockets: a context of the user's, which may lead anywhere, has no say.
  text=$(limited docker --host "unix://$socket" version --format '{{{{.Server.Version}}}}' 2>/dev/null); status=$?
  if [ $status = 0 ]; then folded version "$text"; continue; fi
  if late $status; then echo late; continue; fi
  text=$(limited docker --host "unix://$socket" version --format '{{{{.Server.Version}}}}' 2>&1)
  if late $?; then echo late; else folded error "$text"; fi
done

say podman
if have podman; then
  echo installed
  text=$(limited podman --version 2>&1) && folded version "${{text##* }}"
  for socket in "$run/podman/podman.sock" /run/podman/podman.sock; do
    [ -S "$socket" ] || continue
    if [ -r "$socket" ] && [ -w "$socket" ]; then echo "socket usable"; else echo "socket denied"; fi
  done
  text=$(limited podman ps -aq 2>/dev/null); late $? && echo late
  [ -n "$text" ] && echo containers
fi

say smart
if have smartctl; then
  tool=$(command -v smartctl); folded tool "$tool"
  for disk in /sys/block/sd* /sys/block/nvme*; do
    name=${{disk##*/}}
    [ -b "/dev/$name" ] && [ "$(cat "$disk/removable" 2>/dev/null)" = 0 ] || continue
    case $(cat "$disk/device/vendor" "$disk/device/model" 2>/dev/null) in *QEMU*|*VMware*|*VBOX*|*Msft*|*Virtual*) continue;; esac
    answer=$(limited smartctl -n standby -i "/dev/$name" 2>&1)
    if late $?; then folded late "$name"; continue; fi
    case $answer in
      *"ermission denied"*)
        # That there is a rule does not tell whether it wants a password. What is printed is JSON, whatever the status.
        answer=; status=1
        if have sudo; then answer=$(unasked -k -- "$tool" {SMARTCTL_ARGUMENTS} "/dev/$name"); status=$?; fi
        if printf '%s\n' "$answer" | grep -q '^{{'; then folded readable "$name"
        elif late $status; then folded late "$name"
        else folded denied "$name"; fi;;
      *) folded readable "$name";;
    esac
  done
fi
{UPDATES_RULE_FACTS}say end
"""  # noqa: E501
"""POSIX sh, also busybox; each part of the output begins with a record separator and its name."""


class Family(StrEnum):
    """Systems that are fixed with the same commands."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    SUSE = "suse"
    ARCH = "arch"
    ALPINE = "alpine"
    OPENWRT = "openwrt"
    MACOS = "macos"
    WINDOWS = "windows"
    OTHER = "other"


SYSTEMD_FAMILIES = frozenset({Family.DEBIAN, Family.FEDORA, Family.SUSE, Family.ARCH})
"""Families that usually run systemd."""

_FAMILIES: tuple[tuple[Family, frozenset[str]], ...] = (
    (Family.DEBIAN, frozenset({"debian", "ubuntu", "raspbian"})),
    (Family.FEDORA, frozenset({"fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn"})),
    (Family.SUSE, frozenset({"suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed"})),
    (Family.ARCH, frozenset({"arch", "archlinux", "manjaro"})),
    (Family.ALPINE, frozenset({"alpine"})),
    (Family.OPENWRT, frozenset({"openwrt", "lede"})),
)
"""Words of ID and ID_LIKE in os-release(5); most derivatives name their parent there."""


class Privilege(StrEnum):
    """How a command becomes root on a host."""

    ROOT = "root"
    SUDO = "sudo"
    """sudo, without a password."""
    SUDO_PASSWORD = "sudo_password"  # noqa: S105
    DOAS = "doas"
    """doas with nopass."""
    NONE = "none"


class Access(StrEnum):
    """What access there is to a container engine."""

    USABLE = "usable"
    DENIED = "denied"
    STOPPED = "stopped"
    LATE = "late"
    """It runs and does not answer: starting it would not help."""
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Docker or Podman, as this user sees it."""

    access: Access = Access.ABSENT
    version: str = ""
    error: str = ""
    has_containers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Smart:
    """The path of smartctl, and the disks that it can read, is denied, or that do not answer, by kernel name."""

    tool: str = ""
    readable: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the script reported; what it did not report has its default."""

    system: str = ""
    """`uname -s`: Linux, Darwin, FreeBSD …"""
    kernel: str = ""
    architecture: str = ""
    os_release: Mapping[str, str] = field(default_factory=dict)
    privilege: Privilege | None = Privilege.NONE
    """None: sudo or doas did not answer in time."""
    systemd: str = ""
    docker: Engine = field(default_factory=Engine)
    podman: Engine = field(default_factory=Engine)
    smart: Smart = field(default_factory=Smart)
    shell: str = ""
    """Path of the login shell."""
    updates_rule: UpdatesRule = field(default_factory=UpdatesRule)
    noise: str = ""
    """First line that something else printed before the script did."""
    is_complete: bool = False

    @property
    def os_name(self) -> str:
        """Return the name of the system: the one of os-release(5), else that of uname(1)."""
        return self.os_release.get("PRETTY_NAME") or self.os_release.get("NAME") or self.system

    @property
    def family(self) -> Family:
        """Return the family of the system."""
        if self.system == "Darwin":
            return Family.MACOS
        return family_of(self.os_release.get("ID", ""), self.os_release.get("ID_LIKE", ""))


def family_of(os_id: str | None, os_id_like: str | None) -> Family:
    """Return the family by the words of os-release(5); the first known word wins."""
    words = f"{os_id or ''} {os_id_like or ''}".lower().split()
    return next((family for word in words for family, ids in _FAMILIES if word in ids), Family.OTHER)


def parse_facts(text: str) -> Facts:
    """Parse the output of the script; parts that are missing or malformed keep their defaults."""
    noise, *parts = text.split("\x1e")
    reported = {name: lines_of(rest) for name, _, rest in (part.partition("\n") for part in parts)}
    system, kernel, architecture = _padded(reported.get("uname", []), 3)
    return Facts(
        system=system,
        kernel=kernel,
        architecture=architecture,
        os_release=parse_os_release(reported.get("os_release", [])),
        privilege=_privilege(reported),
        systemd=first_line("\n".join(reported.get("systemd", []))),
        docker=_engine(reported.get("docker", [])),
        podman=_engine(reported.get("podman", [])),
        smart=_smart(reported.get("smart", [])),
        shell=first_line("\n".join(reported.get("shell", []))),
        updates_rule=parse_updates_rule(reported.get("updates_rule", [])),
        noise=first_line(noise),
        is_complete="end" in reported,
    )


def parse_os_release(lines: list[str]) -> dict[str, str]:
    """Parse the assignments of os-release(5), which quotes as a shell does: `NAME="Debian"` → Debian."""
    pairs = (line.strip().partition("=") for line in lines if re.match(r"\s*[A-Z0-9_]+=", line))
    return {name: first_line(re.sub(r"\\(.)", r"\1", value.strip().strip("\"'"))) for name, _, value in pairs}


def _padded(lines: list[str], count: int) -> list[str]:
    """Return exactly `count` lines, made harmless, padded with empty ones."""
    return [first_line(line) for line in [*lines, *[""] * count][:count]]


_LATE = frozenset({"124", "143"})
"""Exit statuses of timeout(1), of GNU and of busybox: a sudo that looks up its own host name can take very long."""


def _privilege(reported: Mapping[str, list[str]]) -> Privilege | None:
    """Return the shortest way to root, None if sudo or doas was too slow to answer.

    Only a program that ran and found itself to be root proves one; sudo's words show only what it would require.
    """
    if reported.get("id", [])[:1] == ["0"]:
        return Privilege.ROOT
    *words, status, answer = ["", "", *reported.get("sudo", [])]
    if (status, answer.split()) == ("0", _IS_ROOT):
        return Privilege.SUDO
    doas = " ".join(reported.get("doas", [])).split()
    if doas == _IS_ROOT:
        return Privilege.DOAS
    if wants_password("\n".join(words)):
        return Privilege.SUDO_PASSWORD
    return None if status in _LATE or _IS_LATE in doas[:1] else Privilege.NONE


_IS_ROOT = ["uid", "0"]
_IS_LATE = "late"
"""Word of the script for a command that timeout(1) has ended."""
_PASSWORD_WORDS = (
    r"a password is required",  # sudo -n
    r"a terminal is required to (?:read the password|authenticate)",  # sudo, sudo-rs
    r"no tty present and no askpass program",  # sudo up to 1.8
    r"interactive authentication is required",  # sudo-rs -n
    r"interaction (?:is )?required",  # sudo-rs -n, the oldest and the newest
    r"authentication required but not attempted",  # sudo-rs, at the end of its input
)
"""sudo's and sudo-rs' words for "only with a password"."""
_WANTS_PASSWORD = re.compile("|".join(_PASSWORD_WORDS), re.IGNORECASE)
_IS_LOCKED = re.compile(r"^sudo: account (?:expired|validation failure)", re.IGNORECASE | re.MULTILINE)
"""sudo's words for an account that no password helps; the words for a password may follow them."""


def wants_password(text: str) -> bool:
    """Return whether these are sudo's or sudo-rs' words for "only with a password"."""
    return _WANTS_PASSWORD.search(text) is not None and _IS_LOCKED.search(text) is None


def _engine(lines: list[str]) -> Engine:
    """Parse the part about a container engine."""
    words = [line.partition(" ")[::2] for line in lines]
    value = {name: first_line(rest) for name, rest in reversed(words)}
    sockets = {rest for name, rest in words if name == "socket"}
    return Engine(
        access=_access(value, sockets),
        version=value.get("version", ""),
        error=value.get("error", ""),
        has_containers="containers" in value,
    )


def _access(value: Mapping[str, str], sockets: set[str]) -> Access:
    """Return the access that there is to the engine's socket."""
    if "usable" in sockets and "version" in value:
        return Access.USABLE
    if "denied" in sockets and "usable" not in sockets:
        return Access.DENIED
    if _IS_LATE in value:
        return Access.LATE
    if "usable" in sockets:
        # Docker's socket may outlive its daemon, or belong to systemd, which then failed to start the daemon.
        return Access.STOPPED if "error" in value else Access.USABLE
    return Access.STOPPED if "installed" in value else Access.ABSENT


_OF_DISKS = ("readable", "denied", "late")


def _smart(lines: list[str]) -> Smart:
    """Parse the part about smartctl and the disks."""
    words = [line.partition(" ")[::2] for line in lines]
    # Without repetitions, and at most DISKS_ASKED: they become words of a command.
    disks = {name: dict.fromkeys(first_line(rest) for word, rest in words if word == name) for name in _OF_DISKS}
    readable, denied, late = (tuple(disks[name])[:DISKS_ASKED] for name in _OF_DISKS)
    return Smart(
        tool=next((first_line(rest) for name, rest in words if name == "tool"), ""),
        readable=readable,
        denied=denied,
        late=late,
    )
