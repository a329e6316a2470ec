"""The section logs: the last lines of the log of one service, asked for by name and bounded."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Broken, Host, Json, Missing, Request
    from .services import UNIT_NAME, has_systemd

JOURNALCTL = ["journalctl", "--output=short-iso", "--no-pager"]
LOG_WISH = re.compile(r"(\d{1,4}) (service|container) (.+)")
LOG_LINES = 500
LOG_BYTES = 64 << 10
JOURNAL_SECONDS = 8.0
JOURNAL_REMARK = re.compile(r"-- (?:No entries|Logs begin|Journal begins).*--$")
JOURNAL_DENIED = re.compile(r"insufficient permissions|not seeing messages from other users", re.IGNORECASE)


def parse_wish(watched: "list[str]") -> "tuple[int, str, str]":
    """Return lines, kind and name of the one log that is asked for; ["100 service nginx.service"]."""
    wish = LOG_WISH.fullmatch(watched[0]) if watched else None
    if not wish:
        raise Broken("no log is named")
    return min(max(int(wish.group(1)), 1), LOG_LINES), wish.group(2), wish.group(3)


def last_lines(text: str, count: int) -> "tuple[list[str], bool]":
    """Return the last lines that fit, and whether some that were there are left out."""
    lines = text.splitlines()
    kept = []  # type: list[str]
    left = LOG_BYTES
    for line in reversed(lines[-count:]):
        left -= len(line.encode("utf-8", "replace")) + 1
        if left < 0:
            break
        kept.append(line)
    return kept[::-1], len(kept) < len(lines)


def read_journal(host: "Host", unit: str, count: int) -> str:
    """Return the newest entries of a unit; several lines of one entry count as one (journalctl(1))."""
    if not UNIT_NAME.fullmatch(unit):
        raise Broken("not the name of a service")
    if not has_systemd(host, {}):
        raise Missing("not_supported")
    status, output, errors = host.run([*JOURNALCTL, "--lines=" + str(count), "--unit=" + unit], JOURNAL_SECONDS)
    lines = [line for line in output.splitlines() if not JOURNAL_REMARK.match(line)]
    if not lines and JOURNAL_DENIED.search(errors):
        raise Missing("permission_denied")
    if status:
        raise Broken(errors.strip() or f"journalctl ended with status {status}")
    return "\n".join(lines)


def collect_logs(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Return the end of the log that `watch` names."""
    count, kind, name = parse_wish(request.watch.get("logs", []))
    if kind != "service":
        raise Missing("not_supported")
    lines, is_cut = last_lines(read_journal(host, name, count), count)
    return {"lines": lines, "truncated": is_cut}


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("logs", collect_logs, 12))
