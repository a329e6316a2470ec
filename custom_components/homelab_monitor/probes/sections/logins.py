"""Failed logins, a part of the section security: how many there were in the last hour."""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Host, Json, Late, Request
    from .security import SECURITY_SECONDS, Unknown, as_root, verdict

# Not -o cat: with it journalctl does not say that this user may read his own messages only.
JOURNAL = ["journalctl", "--no-pager", "-o", "short", "-n", "20000", "--since", "-1h"]
JOURNAL += ["-t", "sshd", "-t", "sshd-session", "-t", "sshd-auth"]  # the two since OpenSSH 9.8
HOUR = 3600
DAY = 24 * HOUR
MANY_FAILED_LOGINS = 10
LOG_FILES = ("/var/log/auth.log", "/var/log/secure")
BUSYBOX_LOG = "/var/log/messages"  # elsewhere it may be everything but the logins
LOG_TAIL_BYTES = 1 << 20
BTMP_RECORD_BYTES = 384
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
FAILED = re.compile(r"Failed (?:password|keyboard-interactive/pam|none) for .* from (\S+) port (\d+)")
INVALID = re.compile(r"Invalid user .* from (\S+) port (\d+)")
REPEATED = re.compile(r"message repeated (\d+) times: \[")


def count_failed(lines: "list[str]") -> int:
    """Return how many logins sshd refused: passwords that were wrong, and strangers who did not get as far.

    Failed password for root from 192.0.2.7 port 40022 ssh2
    Invalid user admin from 192.0.2.7 port 40024
    message repeated 2 times: [ Failed password for root from 192.0.2.7 port 40022 ssh2]
    """
    count, tried, strangers = 0, set(), set()
    for line in lines:
        failed, invalid = FAILED.search(line), INVALID.search(line)
        if failed:
            repeated = REPEATED.search(line)
            count += int(repeated.group(1)) if repeated else 1
            tried.add(failed.groups())
        elif invalid:
            strangers.add(invalid.groups())
    return count + len(strangers - tried)


def by_journal(host: "Host", request: "Request") -> "int | None":
    """Return the count by systemd's journal, None where there is none; raises Unknown where we may not read it."""
    if not host.exists("/run/systemd/journal"):
        return None
    try:
        status, output, errors = host.run(JOURNAL, SECURITY_SECONDS)
    except FileNotFoundError:
        return None
    except Late:
        raise Unknown("timed_out") from None
    # Who may not read the system's journal is told so, and gets his own, which is none of sshd.
    if "not seeing messages" in errors or "insufficient permissions" in errors:
        output = as_root(host, request, JOURNAL)
    elif status and errors.strip():
        raise Unknown("unreadable")
    return count_failed(output.splitlines())


def log_time(line: str, now: float, offset: float) -> "float | None":
    """Return when a line of syslog was written (Unix seconds); without a year it is the last one that fits.

    `offset` is how far the local time of such lines is ahead of UTC.

    Nov 24 23:33:01 nas sshd[812]: …
    2026-11-24T23:33:01.123456+01:00 nas sshd[812]: …
    """
    import calendar  # noqa: PLC0415

    new = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):?(\d\d))", line)
    if new:
        ahead = int(new.group(8) or 0) * HOUR + int(new.group(9) or 0) * 60
        utc = float(calendar.timegm(tuple(map(int, new.groups()[:6]))))
        return utc + ahead if new.group(7) == "-" else utc - ahead
    old = re.match(r"([A-Z][a-z]{2}) +(\d+) (\d\d):(\d\d):(\d\d) ", line)
    if not old or old.group(1) not in MONTHS:
        return None
    month, clock = MONTHS.index(old.group(1)) + 1, [int(part) for part in old.groups()[1:]]
    year = time.gmtime(now).tm_year
    local = [float(calendar.timegm((one, month, *clock))) - offset for one in (year + 1, year, year - 1)]
    return next((one for one in local if one <= now + HOUR), None)


def by_log(host: "Host", path: str) -> int:
    """Return the count by a file of syslog; raises OSError. One that nobody writes any more tells nothing."""
    now, offset = host.epoch(), host.timezone_offset()
    if host.stamp(path)[0] < now - DAY:
        raise FileNotFoundError(path)
    lines = host.tail(path, LOG_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    return count_failed(
        [line for line in lines if "sshd" in line and (log_time(line, now, offset) or 0) > now - HOUR],
    )


def by_btmp(host: "Host") -> int:
    """Return the count by the file of bad logins (btmp(5)); raises OSError."""
    size = BTMP_RECORD_BYTES
    raw = host.tail("/var/log/btmp", 4096 * size)
    since = host.epoch() - HOUR
    times = (int.from_bytes(raw[at + 340 : at + 344], "little") for at in range(0, len(raw) - size + 1, size))
    return sum(1 for one in times if one > since)


def failed_logins(host: "Host", request: "Request") -> "Json":
    """Return how many logins failed in the last hour, by the first source that can be read."""
    reason = "no_log"
    try:
        count = by_journal(host, request)
        if count is not None:
            return judged_logins(count, "journal")
    except Unknown as err:
        reason = err.reason
    more = () if host.exists("/run/systemd/journal") else (BUSYBOX_LOG,)
    for path in (*LOG_FILES, *more, "/var/log/btmp"):
        try:
            count = by_btmp(host) if path.endswith("btmp") else by_log(host, path)
        except FileNotFoundError:
            continue
        except OSError:
            reason = "permission_denied"
        else:
            return judged_logins(count, os.path.basename(path))
    return verdict("unknown", reason)


def judged_logins(count: int, source: str) -> "Json":
    """Return what a number of failed logins means."""
    reason = "many" if count >= MANY_FAILED_LOGINS else "some" if count else "none"
    return verdict("warning" if reason == "many" else "ok", reason, source=source, count=count)
