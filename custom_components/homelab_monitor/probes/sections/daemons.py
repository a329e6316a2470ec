"""What root runs by a few names: who answers SSH, with which options, since when, and whether there is a cron.

Files tell what a server would do that were started now. What the one does that listens is known only where it runs, and
has read them.
"""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Host
    from .owners import PIDS_LISTED, status_of, uid_in
    from .security import Unknown

CRONS = frozenset({"cron", "crond", "fcron", "anacron"})
SSH_SESSIONS = frozenset({"sshd-session", "sshd-auth"})  # since OpenSSH 9.8
DAEMONS = CRONS | SSH_SESSIONS | {"sshd", "dropbear", "fail2ban-server"}
DAEMONS_SECONDS = 0.5
# sshd's own options (sshd(8)), those that take a word and those that do not.
SSHD_WORDS, SSHD_FLAGS = "CEbcfghkopu", "46DGQRTVdeiqrt"
SSHD_PID_FILE = "/run/sshd.pid"
BTMP = "/var/log/btmp"
SESSION_FOLDERS = ("/usr/lib/openssh/", "/usr/libexec/openssh/", "/usr/lib/ssh/", "/usr/libexec/", "/usr/local/libexec/")


class Daemon:
    """A process: `name` is one of the names, cron for all of those, session for one connection of sshd's."""

    def __init__(self, pid: int, name: str, words: "list[str]", started: float, is_whole: bool = True) -> None:
        self.pid = pid
        self.name = name
        self.words = words  # of its command line
        self.started = started  # Unix seconds by today's clock
        self.is_whole = is_whole

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
            written = host.stamp(pid_file)[0] if host.text(pid_file) == str(self.pid) else 0.0
        except OSError:
            written = 0.0
        return max(self.started, written if written <= host.epoch() else 0.0)


def daemon_of(host: "Host", pid: int) -> "Daemon | None":
    """Return a process of root's that has one of the names, None for any other, also for one in a container.

    Whose folder it is in /proc costs least: a crowd of another user's is passed over by that.
    """
    folder = f"/proc/{pid}/"
    if host.owner(folder) != 0:
        return None
    name = host.text(folder + "comm")
    if name not in DAEMONS:
        return None
    status = status_of(host, pid)
    # It has a second number where it is in a PID namespace of its own (proc_pid_status(5)).
    inner = next((line.split() for line in status.split(b"\n") if line.startswith(b"NSpid:")), [])
    if uid_in(status) != 0 or len(inner) > 2:
        return None
    try:
        started = int(host.read(folder + "stat").rpartition(")")[2].split()[19]) / host.ticks()
        line = host.read(folder + "cmdline").rstrip("\0")
    except (OSError, IndexError, ValueError):
        return None
    kind = "cron" if name in CRONS else "session" if name in SSH_SESSIONS else name
    return parse_daemon(pid, kind, line, host.epoch() - host.boottime() + started) if line else None


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
        deadline, names = time.monotonic() + DAEMONS_SECONDS, host.names("/proc", PIDS_LISTED)
        self.is_late = len(names) >= PIDS_LISTED
        for pid in sorted(int(name) for name in names if name.isdigit()):
            one = daemon_of(host, pid)
            if one:
                self.found.append(one)
            if time.monotonic() > deadline:
                self.is_late = True
                break

    def named(self, name: str) -> "list[Daemon]":
        """Return those with a name."""
        return [one for one in self.found if one.name == name]

    def ssh_servers(self) -> "list[Daemon | None]":
        """Return each sshd that listens, None for one that is started for each connection; raises Unknown."""
        if self.named("sshd"):
            return list(self.named("sshd"))
        if self.named("session"):
            return [None]
        if self.is_late:
            raise Unknown("timed_out")
        raise Unknown("not_supported" if self.see_all() else "permission_denied")

    def doubt(self) -> str:
        """Return why there may be more than was found, "" where all were looked at that can be seen."""
        return "timed_out" if self.is_late else ""

    def see_all(self) -> bool:
        """Tell whether one that was not found is not there.

        Who may not look at PID 1 sees no process but his own (the mount option hidepid of /proc).
        """
        return not self.is_late and bool(self.host.text("/proc/1/comm"))

    def write_btmp(self) -> bool:
        """Tell whether the SSH servers note refused logins in btmp: Dropbear does not, nor does every build of OpenSSH."""
        programs = [one.words[0] for one in self.named("sshd")] or ["/usr/sbin/sshd"] * len(self.named("session"))
        if not programs or self.named("dropbear") or self.is_late:
            return False
        programs = [programs[0], *(folder + "sshd-session" for folder in SESSION_FOLDERS)]
        return any(names_btmp(self.host, path) for path in programs)


def names_btmp(host: "Host", path: str) -> bool:
    """Tell whether a program has the name of the file of bad logins in it."""
    try:
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

