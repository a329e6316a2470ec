"""The daemons of root with certain names: the SSH servers, their options and start times, and whether a cron runs.

Files show what a server started now would do. What the listening server does is known only if it runs and has read
them.

The caller chooses a process's name and command line, and setuid programs run as real root for any caller. So a process
is identified by the program that it runs (of root's processes only root may see it), else by its unit, by being an
ancestor of this process, or by a PID file of root's. A unit proves nothing if processes of users are in it as well:
logins that nothing moves away (OpenRC, Dropbear), and what crontabs start. Without any of these proofs, the process is
uncertain.
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
DAEMONS_SECONDS = 0.5  # for processes with one of the names
CROWD_SECONDS = 2.0  # for all processes, most of which are skipped
# By kind: the name of the program, and a part of the name of its service.
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
LINE_READ = 1 << 16  # of a command line: the caller of a setuid program may pass megabytes
MOST_PARENTS = 64
# sshd's options (sshd(8)), with and without an argument.
SSHD_WORDS, SSHD_FLAGS = "CEbcfghkopu", "46DGQRTVdeiqrt"
SSHD_PID_FILE = "/run/sshd.pid"
# Where each writes its pid at its start, in a folder of root's: also without systemd, whose units say more.
PID_FILES = {
    "sshd": (SSHD_PID_FILE, "/var/run/sshd.pid"),
    "dropbear": ("/run/dropbear.pid", "/var/run/dropbear.pid"),
    "cron": ("/run/crond.pid", "/run/cron.pid", "/run/fcron.pid", "/var/run/crond.pid", "/var/run/cron.pid"),
    "fail2ban-server": ("/run/fail2ban/fail2ban.pid", "/var/run/fail2ban/fail2ban.pid"),
}
TICK_SECONDS = 0.02  # tolerance of a start time, which the kernel reports in hundredths
BTMP = "/var/log/btmp"
SESSION_FOLDERS = ("/usr/lib/openssh/", "/usr/libexec/openssh/", "/usr/lib/ssh/", "/usr/libexec/", "/usr/local/libexec/")


class Daemon:
    """A process: `name` is one of the names, "cron" for all kinds of cron, "session" for one connection of sshd."""

    parent = 0

    def __init__(self, pid: int, name: str, words: "list[str]", started: float, is_whole: bool = True) -> None:
        self.pid = pid
        self.name = name
        self.words = words  # of its command line
        self.started = started  # Unix seconds by the current clock
        self.is_whole = is_whole
        self.is_sure = True  # whether it certainly is the daemon of that name

    def options(self) -> "list[tuple[str, str]]":
        """Return sshd's options as (letter, value); raises Unknown.

        The process title does not show where words end. As sshd accepts only options, any other word belongs to the
        option before it.
        """
        options, needs_value = [], False  # type: list[tuple[str, str]], bool
        for word in self.words[1:]:
            if needs_value or not word.startswith("-"):
                letter, value = options.pop() if options else ("", "")
                options.append((letter, (value + " " + word).strip()))
                needs_value = False
                continue
            for at, letter in enumerate(word[1:], 2):
                if letter in SSHD_WORDS:
                    options.append((letter, word[at:]))
                    needs_value = at == len(word)
                    break
                options.append((letter, ""))
        if not self.is_whole or any(letter not in (SSHD_WORDS if value else SSHD_FLAGS) for letter, value in options):
            raise Unknown("unreadable")
        return options

    def read_at(self, host: "Host", pid_file: str) -> float:
        """Return when a server has read its files (Unix seconds): at its start, or later at SIGHUP.

        On SIGHUP sshd restarts in the same process, which keeps its start time, and writes its PID file again.
        """
        try:
            written = host.stamp(pid_file)[0] if host.read_roots(pid_file).strip() == str(self.pid) else 0.0
        except OSError:
            written = 0.0
        return max(self.started, written if written <= host.epoch() else 0.0)


def name_of(host: "Host", pid: int) -> "tuple[str, list[str]] | None":
    """Return a process's name and the other fields of its `stat`; None if ended, not root's, or of another name.

    The owner of its folder in /proc is the cheapest check: it skips crowds of other users' processes.
    """
    if host.owner(f"/proc/{pid}") != 0:
        return None
    # A zombie is no daemon, but its folder may still be root's, with the name of a setuid program.
    name, _, rest = host.text(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
    fields = rest.split()
    return None if name not in DAEMONS or fields[:1] == ["Z"] else (name, fields)


class Own:
    """The origin of this process: its `parents`, and its `unit`, None in a user's part of the control groups."""

    def __init__(self, host: "Host") -> None:
        self.parents = parents(host)
        self.unit = unit_of_root(host, "self")


def daemon_of(host: "Host", pid: int, name: str, fields: "list[str]", own: Own) -> "Daemon | None":
    """Return a process of that name if it is root's, None for any other, including those in containers."""
    folder = f"/proc/{pid}/"
    status = status_of(host, pid)
    # NSpid has a second number if the process is in another PID namespace (proc_pid_status(5)).
    inner = next((line.split() for line in status.split(b"\n") if line.startswith(b"NSpid:")), [])
    if uid_in(status) != 0 or len(inner) > 2:
        return None
    try:
        started = int(fields[19]) / host.ticks()
        raw = host.head(folder + "cmdline", LINE_READ)
        line = raw.decode("utf-8", "surrogateescape").rstrip("\0")
    except (OSError, IndexError, ValueError):
        return None
    kind = "cron" if name in CRONS else "session" if name in SSH_SESSIONS else name
    if not line:
        return None
    daemon = parse_daemon(pid, kind, line, host.epoch() - host.boottime() + started)
    daemon.parent, daemon.is_whole = int(fields[1]), daemon.is_whole and len(raw) < LINE_READ
    sure = is_genuine_daemon(host, daemon, own)
    daemon.is_sure = bool(sure)
    return None if sure is False else daemon


def is_genuine_daemon(host: "Host", daemon: Daemon, own: Own) -> "bool | None":
    """Return whether a process of root's is the daemon that its name says, None if uncertain."""
    unit = unit_of_root(host, daemon.pid)
    program = host.program(daemon.pid)
    if program is None:
        if daemon.pid in own.parents or is_in_its_unit(host, daemon, unit or "", own) or is_in_pid_file(host, daemon):
            return True
        return False if unit is None else None
    path, mode, uid = program
    if mode & SETUID:
        return False
    is_roots = uid == 0 and not mode & 0o022 and is_roots_folder(host, os.path.dirname(path))
    if is_roots and re.fullmatch(DAEMON_PROGRAMS[daemon.name], os.path.basename(path)):
        # The process of a login is moved into that login's session.
        return True if unit is not None or daemon.name == "session" else None
    return False if unit is None else None


def is_in_its_unit(host: "Host", daemon: Daemon, unit: str, own: Own) -> bool:
    """Return whether a process is in its daemon's unit, and was not started there by a logged-in user.

    pam_systemd(8) moves a login out of the server's service. Without it, everything that a user starts stays there, as
    this process then does, and what cron starts for users is in cron's unit. It also gives up if a user keeps the system
    bus busy: but the kernel keeps the login uid, whatever that process becomes (pam_loginuid(8)), and daemons have none.
    """
    if not re.search(DAEMON_UNITS[daemon.name], unit) or daemon.name == "cron":
        return False
    if host.text(f"/proc/{daemon.pid}/loginuid") != host.text("/proc/1/loginuid"):
        return False
    return daemon.name == "fail2ban-server" or (unit.endswith(".service") and without_instance(unit) != without_instance(own.unit or ""))


def without_instance(unit: str) -> str:
    """Return a unit's name without its instance, which may differ for each connection."""
    return unit.partition("@")[0]


def is_in_pid_file(host: "Host", daemon: Daemon) -> bool:
    """Return whether a PID file of root's names this very process.

    The kernel reuses the pid of an ended process, for any user: a process that started after the file was written is
    another one.
    """
    for path in PID_FILES.get(daemon.name, ()):
        try:
            is_named, written = host.read_roots(path).strip() == str(daemon.pid), min(host.stamp(path)[:2])
        except OSError:
            continue
        if is_named and daemon.started - TICK_SECONDS <= written <= host.epoch():
            return True
    return False


def unit_of_root(host: "Host", pid: "int | str") -> "str | None":
    """Return the unit of a process, else its control group, None in a user's part of the control groups."""
    path = group_path(host.text(f"/proc/{pid}/cgroup"))
    unit = owner_of_group(path).get("unit", "")
    is_users = "/user.slice/" in path or path.startswith("/user/") or LOGIN_SCOPE.match(unit) or unit.startswith("user@")
    return None if is_users else unit or path


def is_roots_folder(host: "Host", folder: str) -> bool:
    """Return whether only root can create files in a folder."""
    try:
        mode, uid, _ = host.roots_status(folder)
    except OSError:
        return False
    return uid == 0 and not mode & 0o022


def parents(host: "Host") -> "list[int]":
    """Return the ancestors of this process, including the server of its own connection."""
    found, place = [], "self"  # type: list[int], str
    while len(found) < MOST_PARENTS:
        try:
            place = host.read(f"/proc/{place}/stat").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            break
        found.append(int(place))
    return found



def parse_daemon(pid: int, name: str, line: str, started: float) -> Daemon:
    r"""Return a process from its command line, which sshd replaces by its status.

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
    """The processes of root with the names above."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.found = []  # type: list[Daemon]
        self.is_quiet = False  # at least one SSH server does not log every refused login
        begun, left, names = time.monotonic(), DAEMONS_SECONDS, host.names("/proc", PIDS_LISTED)
        self.is_late = len(names) >= PIDS_LISTED
        own = Own(host)
        for pid in sorted(int(name) for name in names if name.isdigit()):
            at = time.monotonic()
            name = name_of(host, pid)
            daemon = daemon_of(host, pid, *name, own=own) if name else None
            if daemon:
                self.found.append(daemon)
            left -= time.monotonic() - at if name else 0.0
            if left < 0 or at - begun > CROWD_SECONDS:
                self.is_late = True
                break

    def named(self, name: str) -> "list[Daemon]":
        """Return the processes of a name that certainly are that daemon."""
        return [one for one in self.found if one.name == name and one.is_sure]

    def called(self, name: str) -> "list[Daemon]":
        """Return the processes of a name, including uncertain ones."""
        return [one for one in self.found if one.name == name]

    def ssh_servers(self) -> "list[Daemon | None]":
        """Return each listening sshd, and None for one that is started per connection; raises Unknown.

        A session without a listening parent belongs to such a server. If a server listens, the session may have outlived
        an earlier one, and is then a child of PID 1.
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
        """Return why there may be more processes than found, "" if all visible ones were checked."""
        if self.is_late:
            return "timed_out"
        return "" if len(self.called(name)) == len(self.named(name)) else "permission_denied"

    def see_all(self) -> bool:
        """Return whether a process that was not found does not exist.

        A user without access to PID 1 sees only their own processes (mount option hidepid of /proc).
        """
        return not self.is_late and bool(self.host.text("/proc/1/comm"))

    def write_btmp(self) -> bool:
        """Return whether the SSH servers write refused logins to btmp: Dropbear and some builds of OpenSSH do not."""
        if self.is_late or self.called("dropbear") or self.doubt("sshd"):
            return False
        programs = [one.words[0] for one in self.named("sshd")] or ["/usr/sbin/sshd"] * len(self.named("session"))
        if not programs:
            return False
        programs = [programs[0], *(folder + "sshd-session" for folder in SESSION_FOLDERS)]
        return any(names_btmp(self.host, path) for path in programs)


def names_btmp(host: "Host", path: str) -> bool:
    """Return whether a program file contains the path of btmp."""
    try:
        host.check_roots_file(path, PROGRAM_BYTES)
        return any(BTMP in line for line in host.lines(path))
    except OSError:
        return False


def check_read(host: "Host", server: "Daemon", files: "list[str]", pid_file: str) -> None:
    """Raise Unknown if a server may not have read its files as they are now.

    ctime counts as well as mtime, which a copied older file may keep; folders count, too, as a file may be gone.
    """
    try:
        changed = max(max(host.stamp(path)[:2]) for path in files)
    except (OSError, ValueError):
        raise Unknown("permission_denied") from None
    if changed > server.read_at(host, pid_file):
        raise Unknown("not_reloaded")

