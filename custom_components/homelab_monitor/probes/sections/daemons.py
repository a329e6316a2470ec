"""What root runs by a few names: who answers SSH, with which options, since when, and whether there is a cron.

Files tell what a server would do that were started now. What the one does that listens is known only where it runs, and
has read them.

Its name and its command line are what whoever started it says, and real root is who runs some programs with the setuid
bit, whoever called them. So a process is believed by the program that it runs, which only root may see of root's, else by the
unit that it is in, because it is one of those that started this one, or because a PID file of root's names it. A unit
tells nothing where users' processes are in it as well: logins where nobody moves them away (OpenRC, Dropbear), and what
crontabs start. Where nothing of that tells, nothing is known.
"""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host
    from .owners import LOGIN_SCOPE, PIDS_LISTED, group_path, owner_of_group, status_of, uid_in
    from .verdicts import Unknown

CRONS = frozenset({"cron", "crond", "fcron", "anacron"})
SSH_SESSIONS = frozenset({"sshd-session", "sshd-auth"})  # since OpenSSH 9.8
DAEMONS = CRONS | SSH_SESSIONS | {"sshd", "dropbear", "fail2ban-server"}
DAEMONS_SECONDS = 0.5  # for those that have one of the names
CROWD_SECONDS = 2.0  # for all, of which most are passed over
# By kind: what the program is called, and what is in the name of its service.
DAEMON_PROGRAMS = {
    "sshd": r"sshd",
    "session": r"sshd(?:-session|-auth)?",
    "dropbear": r"dropbear(?:multi)?",
    "cron": r"f?cron|crond|anacron|busybox",
    "fail2ban-server": r"fail2ban-server|(?:python|pypy)[\d.]*",
}
DAEMON_UNITS = {"sshd": "ssh", "session": "ssh", "dropbear": "dropbear|ssh", "cron": "cron", "fail2ban-server": "fail2ban"}
SETUID = 0o4000
PROGRAM_BYTES = 1 << 24
LINE_READ = 1 << 16  # of a command line: one who calls a setuid program may give it megabytes
MOST_PARENTS = 64
# sshd's own options (sshd(8)), those that take a word and those that do not.
SSHD_WORDS, SSHD_FLAGS = "CEbcfghkopu", "46DGQRTVdeiqrt"
SSHD_PID_FILE = "/run/sshd.pid"
# Where each writes its number at its start, in a folder of root's: also without systemd, whose units say more.
PID_FILES = {
    "sshd": (SSHD_PID_FILE, "/var/run/sshd.pid"),
    "dropbear": ("/run/dropbear.pid", "/var/run/dropbear.pid"),
    "cron": ("/run/crond.pid", "/run/cron.pid", "/run/fcron.pid", "/var/run/crond.pid", "/var/run/cron.pid"),
    "fail2ban-server": ("/run/fail2ban/fail2ban.pid", "/var/run/fail2ban/fail2ban.pid"),
}
TICK_SECONDS = 0.02  # of a start, which the kernel tells in hundredths
BTMP = "/var/log/btmp"
SESSION_FOLDERS = ("/usr/lib/openssh/", "/usr/libexec/openssh/", "/usr/lib/ssh/", "/usr/libexec/", "/usr/local/libexec/")


class Daemon:
    """A process: `name` is one of the names, cron for all of those, session for one connection of sshd's."""

    parent = 0

    def __init__(self, pid: int, name: str, words: "list[str]", started: float, is_whole: bool = True) -> None:
        self.pid = pid
        self.name = name
        self.words = words  # of its command line
        self.started = started  # Unix seconds by today's clock
        self.is_whole = is_whole
        self.is_sure = True  # that it is what it is called

    def options(self) -> "list[tuple[str, str]]":
        """Return sshd's options; raises Unknown.

        In its title words are not told apart. As sshd takes nothing but options, what is none belongs to the one before.
        """
        told, waits = [], False  # type: list[tuple[str, str]], bool
        for word in self.words[1:]:
            if waits or not word.startswith("-"):
                letter, value = told.pop() if told else ("", "")
                told.append((letter, (value + " " + word).strip()))
                waits = False
                continue
            for at, letter in enumerate(word[1:], 2):
                if letter in SSHD_WORDS:
                    told.append((letter, word[at:]))
                    waits = at == len(word)
                    break
                told.append((letter, ""))
        if not self.is_whole or any(letter not in (SSHD_WORDS if value else SSHD_FLAGS) for letter, value in told):
            raise Unknown("unreadable")
        return told

    def read_at(self, host: "Host", pid_file: str) -> float:
        """Return when a server has read its files: at its start, or later at SIGHUP.

        To that signal sshd begins anew in the same process, whose start stays what it was, and writes its PID file again.
        """
        try:
            written = host.stamp(pid_file)[0] if host.read_roots(pid_file).strip() == str(self.pid) else 0.0
        except OSError:
            written = 0.0
        return max(self.started, written if written <= host.epoch() else 0.0)


def name_of(host: "Host", pid: int) -> "tuple[str, list[str]] | None":
    """Return which of the names a living process has and what else is in its `stat`, None for one that is none of root's.

    Whose folder it is in /proc costs least: a crowd of another user's is passed over by that.
    """
    if host.owner(f"/proc/{pid}") != 0:
        return None
    # Who has ended and is not waited for is nobody's daemon, and still root's folder with a setuid program's name.
    name, _, rest = host.text(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
    told = rest.split()
    return None if name not in DAEMONS or told[:1] == ["Z"] else (name, told)


class Own:
    """Where this process comes from: `parents`, and its `unit` where that is in no user's part of the groups."""

    def __init__(self, host: "Host") -> None:
        self.parents = parents(host)
        self.unit = unit_of_root(host, "self")


def daemon_of(host: "Host", pid: int, name: str, told: "list[str]", own: Own) -> "Daemon | None":
    """Return a process of that name if it is root's, None for any other, also for one in a container."""
    folder = f"/proc/{pid}/"
    status = status_of(host, pid)
    # It has a second number where it is in a PID namespace of its own (proc_pid_status(5)).
    inner = next((line.split() for line in status.split(b"\n") if line.startswith(b"NSpid:")), [])
    if uid_in(status) != 0 or len(inner) > 2:
        return None
    try:
        started = int(told[19]) / host.ticks()
        raw = host.head(folder + "cmdline", LINE_READ)
        line = raw.decode("utf-8", "surrogateescape").rstrip("\0")
    except (OSError, IndexError, ValueError):
        return None
    kind = "cron" if name in CRONS else "session" if name in SSH_SESSIONS else name
    if not line:
        return None
    one = parse_daemon(pid, kind, line, host.epoch() - host.boottime() + started)
    one.parent, one.is_whole = int(told[1]), one.is_whole and len(raw) < LINE_READ
    sure = is_what_it_is_called(host, one, own)
    one.is_sure = bool(sure)
    return None if sure is False else one


def is_what_it_is_called(host: "Host", one: Daemon, own: Own) -> "bool | None":
    """Tell whether a process of root's is a daemon of its name, None where that cannot be known."""
    unit = unit_of_root(host, one.pid)
    program = host.program(one.pid)
    if program is None:
        if one.pid in own.parents or is_its_unit(host, one, unit or "", own) or is_written_down(host, one):
            return True
        return False if unit is None else None
    path, mode, uid = program
    if mode & SETUID:
        return False
    is_roots = uid == 0 and not mode & 0o022 and is_roots_folder(host, os.path.dirname(path))
    if is_roots and re.fullmatch(DAEMON_PROGRAMS[one.name], os.path.basename(path)):
        # The process of a login is put into that login's session.
        return True if unit is not None or one.name == "session" else None
    return False if unit is None else None


def is_its_unit(host: "Host", one: Daemon, unit: str, own: Own) -> bool:
    """Tell whether a process is in the unit of such a daemon, and is not what somebody who logged in has started there.

    pam_systemd(8) takes a login out of the server's service. Without it all that a user starts stays there, as this
    process then does, and whatever cron starts for users is in cron's. It also gives up where a user keeps the system's
    bus busy: but who has logged in stays noted, whatever that process becomes (pam_loginuid(8)), and no daemon has.
    """
    if not re.search(DAEMON_UNITS[one.name], unit) or one.name == "cron":
        return False
    if host.text(f"/proc/{one.pid}/loginuid") != host.text("/proc/1/loginuid"):
        return False
    return one.name == "fail2ban-server" or (unit.endswith(".service") and without_instance(unit) != without_instance(own.unit or ""))


def without_instance(unit: str) -> str:
    """Return a unit's name without its instance, of which each connection may have another."""
    return unit.partition("@")[0]


def is_written_down(host: "Host", one: Daemon) -> bool:
    """Tell whether a PID file of root's means this very process.

    A number is given anew once its process has ended, and then to anybody's: one that began after the file was written is
    another one.
    """
    for path in PID_FILES.get(one.name, ()):
        try:
            is_named, written = host.read_roots(path).strip() == str(one.pid), min(host.stamp(path)[:2])
        except OSError:
            continue
        if is_named and one.started - TICK_SECONDS <= written <= host.epoch():
            return True
    return False


def unit_of_root(host: "Host", pid: "int | str") -> "str | None":
    """Return the unit of a process, else its control group, None where that is in a user's part of them."""
    path = group_path(host.text(f"/proc/{pid}/cgroup"))
    unit = owner_of_group(path).get("unit", "")
    is_users = "/user.slice/" in path or path.startswith("/user/") or LOGIN_SCOPE.match(unit) or unit.startswith("user@")
    return None if is_users else unit or path


def is_roots_folder(host: "Host", folder: str) -> bool:
    """Tell whether only root can put a file there."""
    try:
        mode, uid, _ = host.roots_status(folder)
    except OSError:
        return False
    return uid == 0 and not mode & 0o022


def parents(host: "Host") -> "list[int]":
    """Return the processes that this one comes from, up to the server of its own connection."""
    found, place = [], "self"  # type: list[int], str
    while len(found) < MOST_PARENTS:
        try:
            place = host.read(f"/proc/{place}/stat").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            break
        found.append(int(place))
    return found



def parse_daemon(pid: int, name: str, line: str, started: float) -> Daemon:
    r"""Return a process by its command line, in the place of which sshd writes what it is doing.

    sshd: /usr/sbin/sshd -D -o PasswordAuthentication no [listener] 0 of 10-100 startups
    sshd: mon [priv]
    /usr/sbin/sshd\0-D
    """
    words = line.split("\0")
    if name != "sshd":
        return Daemon(pid, name, words, started)
    if line.startswith("sshd: /"):  # since OpenSSH 8.2
        title, mark, _ = line[6:].partition(" [listener] ")
        return Daemon(pid, name, title.split(), started, bool(mark))
    is_session = line.startswith("sshd: ") or "-i" in words or "-R" in words
    return Daemon(pid, "session" if is_session else name, words, started)


class Daemons:
    """What root runs of the names above."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.found = []  # type: list[Daemon]
        self.is_quiet = False  # of the SSH servers: at least one does not write each refused login to a log
        begun, left, names = time.monotonic(), DAEMONS_SECONDS, host.names("/proc", PIDS_LISTED)
        self.is_late = len(names) >= PIDS_LISTED
        own = Own(host)
        for pid in sorted(int(name) for name in names if name.isdigit()):
            at = time.monotonic()
            name = name_of(host, pid)
            one = daemon_of(host, pid, *name, own=own) if name else None
            if one:
                self.found.append(one)
            left -= time.monotonic() - at if name else 0.0
            if left < 0 or at - begun > CROWD_SECONDS:
                self.is_late = True
                break

    def named(self, name: str) -> "list[Daemon]":
        """Return those with a name that are certainly what they are called."""
        return [one for one in self.found if one.name == name and one.is_sure]

    def called(self, name: str) -> "list[Daemon]":
        """Return those with a name, whatever they are."""
        return [one for one in self.found if one.name == name]

    def ssh_servers(self) -> "list[Daemon | None]":
        """Return each sshd that listens, None for one that is started for each connection; raises Unknown.

        A session without the one that let it in is of such a server. Where one listens, it may have outlived another that
        did, and is nobody's child then.
        """
        servers = list(self.called("sshd"))  # type: list[Daemon | None]
        known = {one.pid for one in self.found if one.is_sure}
        alone = [one for one in self.named("session") if one.parent not in known]
        if alone and (not self.named("sshd") or (not self.is_late and any(one.parent > 1 for one in alone))):
            servers.append(None)
        if servers:
            return servers
        raise Unknown(self.doubt("session") or ("not_supported" if self.see_all() else "permission_denied"))

    def doubt(self, name: str = "") -> str:
        """Return why there may be more than was found, "" where all were looked at that can be seen."""
        if self.is_late:
            return "timed_out"
        return "" if len(self.called(name)) == len(self.named(name)) else "permission_denied"

    def see_all(self) -> bool:
        """Tell whether one that was not found is not there.

        Who may not look at PID 1 sees no process but his own (the mount option hidepid of /proc).
        """
        return not self.is_late and bool(self.host.text("/proc/1/comm"))

    def write_btmp(self) -> bool:
        """Tell whether the SSH servers note refused logins in btmp: Dropbear does not, nor does every build of OpenSSH."""
        if self.is_late or self.called("dropbear") or self.doubt("sshd"):
            return False
        programs = [one.words[0] for one in self.named("sshd")] or ["/usr/sbin/sshd"] * len(self.named("session"))
        if not programs:
            return False
        programs = [programs[0], *(folder + "sshd-session" for folder in SESSION_FOLDERS)]
        return any(names_btmp(self.host, path) for path in programs)


def names_btmp(host: "Host", path: str) -> bool:
    """Tell whether a program has the name of the file of bad logins in it."""
    try:
        host.check_roots_file(path, PROGRAM_BYTES)
        return any(BTMP in line for line in host.lines(path))
    except OSError:
        return False


def check_read(host: "Host", server: "Daemon", files: "list[str]", pid_file: str) -> None:
    """Raise Unknown where a server may not have read its files as they are now.

    The time of change counts, not that of the content, which may be brought along with an older file; of folders, too,
    as a file may be gone.
    """
    try:
        changed = max(max(host.stamp(path)[:2]) for path in files)
    except (OSError, ValueError):
        raise Unknown("permission_denied") from None
    if changed > server.read_at(host, pid_file):
        raise Unknown("not_reloaded")

