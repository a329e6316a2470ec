"""Failed logins, a part of the section security: how many there were in the last hour.

Strangers influence the log, too: anyone who connects chooses the user name and the reason of disconnection, and every
user of the host can write lines with any tag. So a message counts only if the whole text, from its first to its last
character, is one of OpenSSH (auth.c, auth-pam.c) or Dropbear (svr-auth.c, svr-authpasswd.c), and in systemd's journal
only if the kernel says that a process of root wrote it. Files of syslog do not show who wrote a line; they count if
there is no journal.

Every user can also write so much that the oldest entries are dropped, including the refusals. So a count is complete
only if the log reaches back for an hour, or to the boot, or has never dropped anything. And journald accepts a limited
number of messages per unit in half a minute (RateLimitBurst=, journald.conf(5)): a user with a process in the SSH
server's unit can use that up, so that refusals are not even written. Journald notes that with the next message it accepts.
"""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from ..host import Host, Json, Late, Request, TooLong, parse_json
    from .daemons import Daemons
    from .owners import LOGIN_SCOPE
    from .verdicts import CutOff, Unknown, seconds_for, run_as_root, verdict

# sshd-session and sshd-auth since OpenSSH 9.8. Journald takes _UID, _PID and _EXE of the writer from the kernel.
# The command of earlier versions, which their sudo rules still allow: it does not show what journald dropped.
OLD_JOURNAL = ["journalctl", "--no-pager", "-o", "json", "--since", "-1h", "_UID=0"]
OLD_JOURNAL += ["SYSLOG_IDENTIFIER=" + name for name in ("sshd", "sshd-session", "sshd-auth", "dropbear")]
# SD_MESSAGE_JOURNAL_DROPPED (systemd, sd-messages.h), and only from journald itself, which alone uses that transport.
JOURNAL = [*OLD_JOURNAL, "+", "_TRANSPORT=driver", "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"]
# Last: sudo compares arguments joined by spaces, and a wildcard must not be able to swallow the matches.
OLD_JOURNAL += ["--output-fields=MESSAGE,_PID,_EXE"]
JOURNAL += ["--output-fields=MESSAGE,_PID,_EXE,_SYSTEMD_UNIT"]
JOURNAL_FOLDERS = ("/var/log/journal/", "/run/log/journal/")
# A full file is archived under the number and time (microseconds) of its first entry (systemd, JOURNAL_FILE_FORMAT).
JOURNAL_FILE = re.compile(r"system@[0-9a-f]{32}-([0-9a-f]{16})-([0-9a-f]{16})\.journal")
# "… is truncated, ignoring file.", "… corrupted, ignoring file." …; the exit status is still 0 (systemd, journalctl).
JOURNAL_IGNORED = re.compile(r"^.*?(/\S+)?[^/\n]*ignoring file.*$", re.MULTILINE)
JOURNAL_HEADER_BYTES = 192
JOURNAL_MARKS = 20000
# Messages that may count, to discard the rest while reading; a message that is no text is written as a list of bytes.
MAYBE_FAILED = re.compile(
    rb'"MESSAGE" ?: ?(?:\[|"(?:Failed |Invalid user |error: PAM: |Suppressed |[Bb]ad (?:PAM )?password |[Ll]ogin attempt ))'
)
UNIT_FIELD = re.compile(rb'"_SYSTEMD_UNIT" ?: ?"([^"]{1,300})"')
UNITS_NOTED = 200
# Old versions of systemd name a control group.
SUPPRESSED = re.compile(r"Suppressed \d{1,20} messages from (?:[^/\s]*/)*([^/\s]+)")
SSH_UNIT = re.compile(r"ssh|dropbear")
SSH_SERVER = re.compile(r"/(?:[^/]*/)*(?:sshd|dropbear)[a-z-]*(?: \(deleted\))?")
HOUR = 3600
BOOT_SECONDS = 300.0  # after a boot, in which a log begins
BIRTH_SECONDS = 0.4
DAY = 24 * HOUR
MANY_FAILED_LOGINS = 10
LOG_FILES = ("/var/log/auth.log", "/var/log/secure")
BUSYBOX_LOG = "/var/log/messages"  # elsewhere it may be everything but the logins
LOG_TAIL_BYTES = 1 << 20
MARK_BYTES = 4096  # of the end of a file, to know it again
NOTED_SECONDS = 240.0  # between two notes of where a log ends
CLOCK_SECONDS = 300.0  # tolerated difference between the time in a line and the time when it was written
BTMP_RECORD_BYTES = 384
BTMP_BYTES = 4096 * BTMP_RECORD_BYTES
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# A name is cut at 100 characters, each of which may take four (vis(3)); it may contain spaces and imitate what follows.
PASSWORD = re.compile(r"Failed password for .{0,410} from \S{1,200} port \d{1,5} ssh2")
PASSWORD_DROPBEAR = re.compile(r"[Bb]ad (?:PAM )?password attempt for '.{0,410}' from \S{1,200}")
KEYBOARD = re.compile(r"Failed keyboard-interactive(?:/\w{1,20})? for .{0,410} from \S{1,200} port \d{1,5} ssh2")
PAM = re.compile(r"error: PAM: .{1,200} for .{0,430} from \S{1,300}")
STRANGER = re.compile(r"Invalid user .{0,410} from \S{1,200}(?: port \d{1,5})?")
STRANGER_DROPBEAR = re.compile(r"[Ll]ogin attempt for nonexistent user(?: '.{0,410}')?(?: from \S{1,200})?")
KINDS = (
    ("password", PASSWORD),
    ("password", PASSWORD_DROPBEAR),
    ("keyboard", KEYBOARD),
    ("pam", PAM),
    ("stranger", STRANGER),
    ("stranger", STRANGER_DROPBEAR),
)
NEW_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):?(\d\d))")
OLD_TIME = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\S*)")
QUARTER = 900  # of an hour: zones are multiples of it
FURTHEST_ZONE = 14 * HOUR
WRITTEN_WITHIN = 30.0
# Month and clock, or ISO time; host; in BusyBox facility and level; program and process.
LOG_LINE = re.compile(
    r"(?:[A-Z][a-z]{2} +\d{1,2} [\d:]{8}|\d{4}-\d\d-\d\dT\S{8,30}) \S+ (?:[a-z0-9]+\.[a-z]+ )?"
    r"(?:sshd|sshd-session|sshd-auth|dropbear)\[(\d{1,10})\]: (?:message repeated (\d{1,4}) times: \[ (.*)\]|(.*))"
)


def count_failed(messages: "Iterable[tuple[str, int, str]]") -> int:
    """Return how many logins were refused: wrong passwords, or one per connection of an unknown user without any.

    `messages` are (pid, times, text); there is one process per connection.

    Failed password for root from 192.0.2.7 port 40022 ssh2
    Invalid user admin from 192.0.2.7 port 40024
    error: PAM: Authentication failure for root from 192.0.2.7
    Bad password attempt for 'root' from 192.0.2.7:40026
    """
    connections = {}  # type: dict[str, dict[str, int]]
    for pid, times, message in messages:
        kind = next((kind for kind, pattern in KINDS if pattern.fullmatch(message)), "")
        if kind:
            connection = connections.setdefault(pid, {})
            connection[kind] = connection.get(kind, 0) + times
    count = 0
    for connection in connections.values():
        # PAM reports a wrong answer to its question, and sshd again, which may leave out the first ones.
        answers = max(connection.get("keyboard", 0), connection.get("pam", 0))
        count += (connection.get("password", 0) + answers) or 1
    return count


class LinesCounted:
    """A filter of the journal: keeps entries that may count or that report dropped messages, and one line of each unit."""

    def __init__(self) -> None:
        self.units = set()  # type: set[bytes]

    def search(self, line: bytes) -> bool:
        """Return whether a line is kept."""
        if MAYBE_FAILED.search(line):
            return True
        unit = UNIT_FIELD.search(line)
        if not unit or unit.group(1) in self.units or len(self.units) >= UNITS_NOTED:
            return False
        self.units.add(unit.group(1))
        return True


class Journal:
    """The entries of journalctl for the last hour; malformed ones are skipped.

    {"_PID":"812","_EXE":"/usr/sbin/sshd","_SYSTEMD_UNIT":"ssh.service","MESSAGE":"Invalid user admin from 192.0.2.7 port 40024"}
    {"_PID":"59","_EXE":"/usr/lib/systemd/systemd-journald",…,"MESSAGE":"Suppressed 812 messages from ssh.service"}

    Entries that a fast clock dated later than `now` (Unix seconds) do not belong to the last hour, whatever --since
    shows: journalctl adds the time of each entry (microseconds, `__REALTIME_TIMESTAMP`) to the fields asked for.
    """

    def __init__(self, output: str, now: float) -> None:
        self.messages = []  # type: list[tuple[str, int, str]]
        self.units = set()  # type: set[str]
        self.suppressed = set()  # type: set[str]
        for line in output.split("\n"):
            try:
                entry = parse_json(line.encode("utf-8"), JOURNAL_MARKS)
                if int(entry.get("__REALTIME_TIMESTAMP", 0)) > (now + CLOCK_SECONDS) * 1e6:
                    continue
                message = entry["MESSAGE"]
                text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message)
                self.add(str(entry["_PID"]), entry.get("_EXE"), str(entry.get("_SYSTEMD_UNIT")), text)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue

    def add(self, pid: str, program: object, unit: str, text: str) -> None:
        """Add an entry; any user can run a setuid program under another name, so the path of the program counts."""
        dropped = SUPPRESSED.fullmatch(text)
        if dropped:
            self.suppressed.add(dropped.group(1))
        elif program is None or (isinstance(program, str) and SSH_SERVER.fullmatch(program)):
            self.messages.append((pid, 1, text))
            # The scope of a session contains only messages of that login, none from before it.
            if not LOGIN_SCOPE.fullmatch(unit) or any(pattern.fullmatch(text) for _, pattern in KINDS):
                self.units.add(unit)

    def doubt(self) -> str:
        """Return why refusals may not have been written, "" if all were."""
        is_dropped = any(unit in self.units or SSH_UNIT.search(unit) for unit in self.suppressed)
        return "log_dropped" if is_dropped else ""


def may_read_journal(host: "Host") -> "bool | None":
    """Return whether this user may read the system's journal, None if there is none: with JSON, journalctl does not say."""
    machine = host.text("/etc/machine-id")
    for folder in JOURNAL_FOLDERS:
        try:
            host.head(folder + machine + "/system.journal", JOURNAL_HEADER_BYTES)
        except PermissionError:
            return False
        except OSError:
            continue
        return True
    return None


def journal_heads(host: "Host") -> "list[tuple[int, float]]":
    """Return number and time (Unix seconds) of the first entry of each file of the system's current journal.

    There may be one in memory and one on disk, only one of which is still written. Journald drops the oldest files
    first; users have separate files.
    """
    machine, written = host.text("/etc/machine-id"), []
    for folder in JOURNAL_FOLDERS:
        try:
            written.append((host.stamp(folder + machine + "/system.journal")[0], folder + machine + "/"))
        except OSError:
            continue
    if not written:
        raise Unknown("permission_denied")
    place = max(written)[1]
    archived = filter(None, map(JOURNAL_FILE.fullmatch, host.names(place)))
    heads = [(int(name.group(1), 16), int(name.group(2), 16) / 1e6) for name in archived]
    try:
        return heads + parse_journal_header(host.head(place + "system.journal", JOURNAL_HEADER_BYTES))
    except OSError:
        return heads or [(0, birth(host, place + "system.journal"))]


def parse_journal_header(raw: bytes) -> "list[tuple[int, float]]":
    """Return number and time of the first entry from the header of a file, empty if it has no entry.

    LPKSHHRH …, at 168 head_entry_seqnum, at 184 head_entry_realtime, both of 8 bytes (systemd, JOURNAL_FILE_FORMAT)
    """
    if len(raw) < JOURNAL_HEADER_BYTES or not raw.startswith(b"LPKSHHRH"):
        raise Unknown("unreadable")
    number, at = (int.from_bytes(raw[place : place + 8], "little") for place in (168, 184))
    return [(number, at / 1e6)] if at else []


def birth(host: "Host", path: str) -> float:
    """Return when a file that we may not read was created (Unix seconds); raises Unknown if the filesystem does not know."""
    try:
        _, output, _ = host.run(["stat", "-c", "%W", path], BIRTH_SECONDS)
    except (OSError, Late):
        output = ""
    if not output.strip().isdigit() or int(output) == 0:
        raise Unknown("permission_denied")
    return float(output)


def reaches_back(host: "Host", start: float) -> bool:
    """Return whether a log that begins at `start` covers the last hour: before the boot there is nothing to be dropped."""
    now = host.epoch()
    return start <= max(now - HOUR, now - host.boottime() + BOOT_SECONDS)


def doubt_of_journal(host: "Host") -> str:
    """Return why the journal may not cover the last hour, "" if it does."""
    try:
        heads = journal_heads(host)
    except Unknown as err:
        return err.reason
    is_whole = any(number == 1 or reaches_back(host, at) for number, at in heads)
    return "" if is_whole else "log_too_short"


def ask_journal(host: "Host", request: "Request", may_read: bool) -> "tuple[str, str] | None":
    """Return the journal's output and why it may be incomplete, None without journalctl; raises Unknown."""
    if not may_read:
        return ask_journal_as_root(host, request)
    try:
        status, output, errors = host.run(JOURNAL, seconds_for(request, is_last=True), wanted=LinesCounted())
    except FileNotFoundError:
        return None
    except Late as err:
        return err.result[1], "timed_out"
    except TooLong as err:
        return err.result[1], "unreadable"
    if status and errors.strip():
        raise Unknown("unreadable")
    return output, doubt_of_files(host, errors)


def doubt_of_files(host: "Host", errors: str) -> str:
    """Return why the journal may lack entries of the last hour, from journalctl's warnings, "" if it has all.

    Journal file /var/log/journal/0123456789abcdef0123456789abcdef/system.journal is truncated, ignoring file.
    """
    for warning in JOURNAL_IGNORED.finditer(errors):
        path = warning.group(1) or ""
        if os.path.basename(path).startswith("user-"):
            continue
        try:
            is_old = host.stamp(path)[0] < host.epoch() - HOUR
        except OSError:
            is_old = False
        if not is_old:
            return "unreadable"
    return ""


def ask_journal_as_root(host: "Host", request: "Request") -> "tuple[str, str]":
    """Return the same through sudo; with the sudo rule of an earlier version, dropped messages are unknown."""
    argv, doubt = JOURNAL, ""
    while True:
        try:
            output, errors = run_as_root(host, request, argv, LinesCounted(), is_last=True)
            return output, doubt or doubt_of_files(host, errors)
        except CutOff as err:
            return err.output, doubt or err.reason
        except Unknown as err:
            if err.reason != "permission_denied" or doubt or host.is_root():
                raise
            argv, doubt = OLD_JOURNAL, err.reason


def by_journal(host: "Host", request: "Request") -> "tuple[int, str] | None":
    """Return the count from the journal and why it may be incomplete, None without a journal; raises Unknown."""
    may_read = may_read_journal(host) if host.exists("/run/systemd/journal") else None
    answer = None if may_read is None else ask_journal(host, request, may_read)
    if answer is None:
        return None
    journal = Journal(answer[0], host.epoch())
    return count_failed(journal.messages), journal.doubt() or answer[1]


class LocalClock:
    """The time zones in which a file of syslog may be written: the host's, and the one that its writer has kept.

    A daemon may keep the zone that it was started with. The file's mtime is the time of its last line: if they differ
    by a zone, the lines of that host name may be in that zone as well. This only adds a possible reading: any user may
    have written the last line.
    """

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.now = host.epoch()
        self.kept = {}  # type: dict[str, set[int]]

    def offsets(self, local: float) -> "set[int]":
        """Return how many seconds a local time (as if it were UTC) may be ahead of UTC: two values in the repeated hour.

        In the skipped hour: the offsets before and after it.
        """
        around = {self.host.timezone_offset(local + away) for away in (-DAY, DAY)}
        return {offset for offset in around if self.host.timezone_offset(local - offset) == offset} or around

    def moments(self, local: float, machine: str) -> "list[float]":
        """Return the possible times (Unix seconds) of a local time in lines of a host name, except future ones."""
        offsets = self.offsets(local) | self.kept.get(machine, set())
        return [local - offset for offset in offsets if local - offset <= self.now + HOUR]

    def look(self, path: str, lines: "list[str]") -> None:
        """Find the zone that the file's writer keeps, from the last line and the file's mtime."""
        stamp = next(filter(None, map(OLD_TIME.match, reversed(lines))), None)
        try:
            written = self.host.stamp(path)[0]
        except OSError:
            return
        for local in local_times(stamp, written) if stamp else ():
            ahead = local - written
            zone = QUARTER * round(ahead / QUARTER)
            if abs(zone) <= FURTHEST_ZONE and abs(ahead - zone) <= WRITTEN_WITHIN and stamp:
                self.kept.setdefault(stamp.group(6), set()).add(zone)


def local_times(stamp: "Any", now: float) -> "list[float]":
    """Return the possible values of a time without a year, as if it were UTC, the latest first."""
    import calendar  # noqa: PLC0415

    if stamp.group(1) not in MONTHS:
        return []
    month, clock = MONTHS.index(stamp.group(1)) + 1, [int(part) for part in stamp.groups()[1:5]]
    year = time.gmtime(now).tm_year
    return [float(calendar.timegm((candidate, month, *clock))) for candidate in (year + 1, year, year - 1)]


def log_times(line: str, clock: LocalClock) -> "list[float]":
    """Return when a line of syslog may have been written (Unix seconds); without a year, in the latest possible year.

    Nov 24 23:33:01 nas sshd[812]: …
    2026-11-24T23:33:01.123456+01:00 nas sshd[812]: …
    """
    import calendar  # noqa: PLC0415

    new = NEW_TIME.match(line)
    if new:
        ahead = int(new.group(8) or 0) * HOUR + int(new.group(9) or 0) * 60
        utc = float(calendar.timegm(tuple(map(int, new.groups()[:6]))))
        return [utc + ahead if new.group(7) == "-" else utc - ahead]
    old = OLD_TIME.match(line)
    if not old:
        return []
    moments = (clock.moments(local, old.group(6)) for local in local_times(old, clock.now))
    return next(filter(None, moments), [])


def log_messages(lines: "list[str]", begun: float, since: float, clock: LocalClock) -> "Iterator[tuple[str, int, str]]":
    """Yield (pid, times, text) of the messages of SSH servers in lines of syslog that may be newer than `since`.

    `begun` is when the lines begin (Unix seconds): one dated before that was written at another time than it says.

    Nov 24 23:33:01 nas sshd[812]: Invalid user admin from 192.0.2.7 port 40024
    Nov 24 23:33:01 nas sshd[812]: message repeated 2 times: [ Failed password for root from 192.0.2.7 port 40022 ssh2]
    """
    for line in lines:
        match = LOG_LINE.fullmatch(line)
        if match:
            moments = log_times(line, clock)
            is_new = moments and max(moments) > since and min(moments) <= clock.now + HOUR
            if not moments or is_new or max(moments) < begun - CLOCK_SECONDS:
                pid, times, repeated, text = match.groups()
                yield pid, int(times or 1), text if times is None else repeated


class Log:
    """The end of a log in files of syslog, and since when it is certainly complete.

    Dates of lines do not show that, as some daemons keep the date that a sender wrote; file times and what this process
    has seen do. Rotated files contain nothing newer than their mtime. A file read from its beginning contains what came
    after them. And the last hour begins where a file ended an hour ago.
    """

    def __init__(self, host: "Host", path: str, seen: "list[Any]") -> None:
        self.host = host
        self.parts = [host.tail_of(path, LOG_TAIL_BYTES)]
        self.begun = 0.0  # Unix seconds, 0 if unknown
        self.look_back(path, seen)
        self.remember(seen)

    def look_back(self, path: str, seen: "list[Any]") -> None:
        """Read as many files as the last hour needs, two at most."""
        now, boottime = self.host.epoch(), self.host.boottime()
        bound = max(now - HOUR, now - boottime)
        older = before(self.host, path)
        while not self.is_seen(seen, boottime) and self.parts[0][1] == 0:
            if not older:
                self.look_at_birth(path if len(self.parts) == 1 else "")
                return
            written, place = older.pop()
            if written <= bound:
                self.begun = written
                return
            if len(self.parts) > 1 or not place:
                return
            try:
                part = self.host.tail_of(place, LOG_TAIL_BYTES)
            except OSError:
                return
            if part[0] == self.parts[0][0]:  # rotated just now
                return
            self.parts.insert(0, part)

    def is_seen(self, seen: "list[Any]", boottime: float) -> bool:
        """Return whether the first file was seen an hour ago; if so, drop what it contained then."""
        number, start, raw = self.parts[0]
        for at, known, size, mark in reversed(seen):
            end = size - start
            is_same = known == number and 0 <= end <= len(raw) and (start == 0 or end >= MARK_BYTES)
            if at <= boottime - HOUR and is_same and mark == tail_hash(raw[:end]):
                self.begun = self.host.epoch() - boottime + at
                self.parts[0] = (number, size, raw[raw.rfind(b"\n", 0, end) + 1 :])
                return True
        return False

    def look_at_birth(self, path: str) -> None:
        """Use the creation time of the only file as the beginning."""
        try:
            born = birth(self.host, path) if path else 0.0
        except Unknown:
            return
        if born and reaches_back(self.host, born):
            self.begun = born

    def remember(self, seen: "list[Any]") -> None:
        """Note where the log ends now; of the notes older than an hour, keep the last one."""
        at, (number, start, raw) = self.host.boottime(), self.parts[-1]
        if not seen or seen[-1][0] <= at - NOTED_SECONDS:
            seen.append((at, number, start + len(raw), tail_hash(raw)))
        while len(seen) > 1 and seen[1][0] <= at - HOUR:
            del seen[0]

    def lines(self) -> "list[str]":
        """Return the lines that were read."""
        return [line for part in self.parts for line in part[2].decode("utf-8", "replace").split("\n")]


def tail_hash(raw: bytes) -> int:
    """Return a hash of the end of a file, to recognize it."""
    return hash(raw[-MARK_BYTES:])


def before(host: "Host", path: str) -> "list[tuple[float, str]]":
    """Return (mtime, path) of the rotated predecessors of a file (logrotate(8), syslogd of BusyBox), the newest last.

    The path is "" if the file is compressed.
    """
    folder, name = os.path.split(path)
    found = []
    for other in host.names(folder):
        rotated = re.fullmatch(re.escape(name) + r"[.-]\d[\d-]*(\.\w{1,4})?", other)
        try:
            found += [(host.stamp(folder + "/" + other)[0], "" if rotated.group(1) else folder + "/" + other)] if rotated else []
        except OSError:
            continue
    return sorted(found)


def by_log(host: "Host", path: str, memo: "Json") -> "tuple[int, str]":
    """Return the count from a file of syslog and why it may be incomplete; raises OSError.

    A file that has not been written for a day does not count.
    """
    clock, hour_ago = LocalClock(host), host.epoch() - HOUR
    if host.stamp(path)[0] < clock.now - DAY:
        raise FileNotFoundError(path)
    log = Log(host, path, memo.setdefault("ends", []))
    lines = log.lines()
    clock.look(path, lines)
    # Lines written before the time zone was set may be in another zone.
    zoned = host.timezone_since()
    count = count_failed(log_messages(lines, log.begun if zoned < log.begun else 0.0, hour_ago, clock))
    is_moved = zoned > hour_ago and any(map(OLD_TIME.match, lines))
    return count, "" if log.begun and not is_moved else "log_too_short"


def by_btmp(host: "Host") -> "tuple[int, str]":
    """Return the count from btmp(5) and its rotated predecessor, and why it may be incomplete; raises OSError.

    Every login program writes there, such as su(1) with its terminal; sshd writes "ssh:notty" (OpenSSH, loginrec.c).
    Records that a fast clock dated later than now do not belong to the last hour.
    """
    since, count, doubt = host.epoch() - HOUR, 0, ""
    for written, path in [(since + 1, "/var/log/btmp"), *before(host, "/var/log/btmp")[-1:]]:
        raw = host.tail(path, BTMP_BYTES) if path else b""
        records = [raw[at : at + BTMP_RECORD_BYTES] for at in range(0, len(raw), BTMP_RECORD_BYTES)]
        times = [int.from_bytes(record[340:344], "little") for record in records]
        is_new = [since < at <= since + HOUR + CLOCK_SECONDS for at in times]
        count += sum(new and record[8:40].rstrip(b"\0") == b"ssh:notty" for record, new in zip(records, is_new))
        if written > since and (times[0] > since if len(raw) == BTMP_BYTES else not path):
            doubt = "log_too_short"
    return count, doubt


def failed_logins(host: "Host", request: "Request", daemons: "Daemons", memo: "Json") -> "Json":
    """Return how many logins failed in the last hour, from the first source that can be read.

    A server that logs only errors does not log them, and one that could not be checked may be such a server; btmp only has
    what some programs write there.
    """
    reason, has_journal = "no_log", False
    unsaid = "not_logged" if daemons.is_quiet else daemons.doubt()
    try:
        counted = by_journal(host, request)
        if counted is not None:
            # Checked afterwards: this includes what is dropped while counting.
            return evaluate_logins(counted[0], "journal", unsaid or counted[1] or doubt_of_journal(host))
    except Unknown as err:
        reason, has_journal = err.reason, True
    # btmp, which only root writes, is read in any case.
    logs = () if has_journal else LOG_FILES
    more = () if host.exists("/run/systemd/journal") else (BUSYBOX_LOG,)
    for path in (*logs, *more, "/var/log/btmp"):
        try:
            if path.endswith("btmp"):
                count, doubt = by_btmp(host)
                doubt = doubt if daemons.write_btmp() else "no_log"
            else:
                count, doubt = by_log(host, path, memo)
                doubt = unsaid or doubt
        except FileNotFoundError:
            continue
        except OSError:
            reason = reason if has_journal else "permission_denied"
        else:
            return evaluate_logins(count, os.path.basename(path), doubt)
    return verdict("unknown", reason)


def evaluate_logins(count: int, source: str, doubt: str = "") -> "Json":
    """Return the verdict on a number of failed logins; if it may be incomplete (`doubt` says why), only many are certain."""
    if count >= MANY_FAILED_LOGINS:
        return verdict("warning", "many", source=source, count=count, lower_bound=True if doubt else None)
    if doubt:
        return verdict("unknown", doubt, source=source)
    return verdict("ok", "some" if count else "none", source=source, count=count)
