"""The section logs: the last lines of the log of one service or container, requested by name, with a limit."""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import AGAIN_SECONDS, Broken, Host, Json, Late, Missing, Request, TooLong, lines_of, reason_in
    from .containers import Engine, find_engines, find_users_engines, open_connection, would_start
    from .services import SYSTEMCTL_SHOW, has_systemd, systemctl
    from .units_shown import UNIT_NAME

JOURNALCTL = ["journalctl", "--output=short-iso", "--no-pager"]
LOG_WISH = re.compile(r"(\d{1,4}) (service|container) (.+)")
CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,250}")
LOG_LINES = 500
LOG_BYTES = 64 << 10
LINE_CHARACTERS = 4096  # longer lines are cut, so that others fit
CONTAINER_LOG_BYTES = 1 << 20  # limit of an engine's response; beyond it, fewer lines are requested
PIECE_BYTES = 16 << 10  # Docker keeps a long line in pieces of this size, and counts pieces
LOG_SECONDS = 8.0
JOURNAL_REMARK = re.compile(r"-- (?:No entries|Logs begin|Journal begins).*--$")
JOURNAL_DENIED = re.compile(r"insufficient permissions|not seeing messages from other users", re.IGNORECASE)


def parse_wish(watched: "list[str]") -> "tuple[int, str, str]":
    """Return lines, kind and name of the requested log; ["100 service nginx.service"]."""
    wish = LOG_WISH.fullmatch(watched[0]) if watched else None
    if not wish:
        raise Broken("no log is named")
    return min(max(int(wish.group(1)), 1), LOG_LINES), wish.group(2), wish.group(3)


def last_lines(text: str, count: int) -> "tuple[list[str], bool]":
    """Return the last lines that fit, and whether others were left out or cut."""
    lines = [line.rstrip("\r") for line in lines_of(text)]  # a terminal ends them with both
    kept = []  # type: list[str]
    left = LOG_BYTES
    is_cut = any(len(line) > LINE_CHARACTERS for line in lines[-count:])
    for line in (line[:LINE_CHARACTERS] for line in reversed(lines[-count:])):
        left -= len(line.encode("utf-8", "replace")) + 1
        if left < 0:
            break
        kept.append(line)
    return kept[::-1], is_cut or len(kept) < len(lines)


def read_journal(host: "Host", unit: str, count: int) -> str:
    """Return the newest entries of a unit; several lines of one entry count as one (journalctl(1))."""
    if not UNIT_NAME.fullmatch(unit):
        raise Broken("not the name of a service")
    if not has_systemd(host, {}):
        raise Missing("not_supported")
    argv = [*JOURNALCTL, "--lines=" + str(count), "--unit=" + unit]
    status, output, errors = host.run(argv, LOG_SECONDS, tail=True)
    lines = [line for line in lines_of(output) if not JOURNAL_REMARK.match(line)]
    if not lines and is_unknown(host, unit):
        raise Missing("not_installed")
    if not lines and JOURNAL_DENIED.search(errors):
        raise Missing("permission_denied")
    if status:
        raise Broken(reason_in(errors) or f"journalctl ended with status {status}")
    return "\n".join(lines)


def is_unknown(host: "Host", unit: str) -> bool:
    """Return whether systemd says that there is no such unit; False if it does not answer.

    LoadState=not-found
    """
    try:
        return "LoadState=not-found" in lines_of(systemctl(host, [*SYSTEMCTL_SHOW, "LoadState", "--", unit]))
    except (Broken, FileNotFoundError, Late, TooLong):
        return False


def read_container_log(host: "Host", key: str, count: int, memo: "Json") -> "tuple[str, bool]":
    """Return a container's last output, both streams in order, and whether long lines forced a smaller number of lines.

    `key` is engine/owner/name.
    """
    import socket  # noqa: PLC0415

    source, _, name = key.rpartition("/")
    if not CONTAINER_NAME.fullmatch(name):
        raise Broken("not the name of a container")
    engines = find_engines(host)
    if source not in (one.source() for one in engines):
        engines = find_users_engines(host, memo, AGAIN_SECONDS)[0]
    engine = next((one for one in engines if one.source() == source), None)
    if engine is None or would_start(host, engine):
        raise Broken("the engine does not run")
    deadline = time.monotonic() + LOG_SECONDS
    try:
        try:
            return ask_for_log(host, engine, name, count, deadline), False
        except ValueError:  # too long; this many of the longest pieces always fit
            fewer = min(count, CONTAINER_LOG_BYTES // PIECE_BYTES // 2)
            return ask_for_log(host, engine, name, fewer, deadline), True
    except (FileNotFoundError, ConnectionRefusedError):
        raise Broken("the engine does not run") from None
    except socket.timeout:
        raise Late(source) from None


def ask_for_log(host: "Host", engine: "Engine", name: str, count: int, deadline: float) -> str:
    """Return the end of a container's log from its engine; raises OSError, Late, Broken, ValueError if it is too long."""
    door = open_connection(host, engine, deadline)
    door.limit = CONTAINER_LOG_BYTES
    try:
        details = door.ask("/containers/" + name + "/json")
        if details is None:
            raise Missing("not_installed")
        content = door.fetch(f"/containers/{name}/logs?stdout=1&stderr=1&timestamps=1&tail={count}") or b""
    finally:
        door.close()
    has_terminal = bool((details.get("Config") or {}).get("Tty"))
    return (content if has_terminal else b"".join(log_frames(content))).decode("utf-8", "replace")


def log_frames(content: bytes) -> "Iterator[bytes]":
    """Yield the output of a container without a terminal (Docker Engine API, ContainerAttach: stream format).

    1 0 0 0 | 0 0 0 6 | hello\n: the stream, three zeros, the length, that many bytes
    """
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "big")
        yield content[at + 8 : at + 8 + size]
        at += 8 + size


def collect_logs(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Return the end of the log named in `watch`."""
    count, kind, name = parse_wish(request.watch.get("logs", []))
    text, is_short = (read_journal(host, name, count), False) if kind == "service" else read_container_log(host, name, count, memo)
    lines, is_cut = last_lines(text, count)
    return {"lines": lines, "truncated": is_cut or is_short}
