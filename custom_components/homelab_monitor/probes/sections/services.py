"""The section services: the units of systemd, over D-Bus, or through systemctl if that fails."""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import OUTPUT_BYTES, REFRESH_SECONDS, Broken, Host, Json, Late, Missing, Request, TooLong, lines_of, reason_in
    from .units_shown import LIST_MARKS, UNIT_NAME, LinesKept, Unit, chosen_units, full_name, guest_of, shown_units, template_of

SYSTEMCTL_LIST = [
    "systemctl",
    "list-units",
    "--all",
    "--full",
    "--type=service",
    "--no-legend",
    "--plain",
    "--no-pager",
]
SYSTEMCTL_UNITS = [word for word in SYSTEMCTL_LIST if not word.startswith("--type")]
SYSTEMCTL_SHOW = ["systemctl", "show", "--no-pager", "-p"]
UNIT_PROPERTIES = "Id,Result,ExecMainStatus,NRestarts,MainPID,MemoryCurrent,ControlGroup,ActiveEnterTimestampMonotonic"
PACKAGED = ("/usr/lib/", "/lib/", "/dev/", "/run/", "/nix/store/", "/gnu/store/")  # no administrator puts files there
ADMIN_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system")
UNIT_FOLDERS = (*ADMIN_FOLDERS, "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
SHOW_SECONDS = 300.0
SYSTEMD_SECONDS = 4.0
UNKNOWN_BYTES = (1 << 64) - 1  # systemd's value for an unknown size


def parse_units(text: str) -> "Iterator[Unit]":
    """Yield the units of systemctl's list; an old systemd marks failed ones even with --plain.

    ssh.service                loaded    active   running OpenBSD Secure Shell server
    ● bad.service              loaded    failed   failed  Does not work
    """
    for line in lines_of(text):
        words = line.lstrip(LIST_MARKS).split(None, 4)
        if len(words) >= 4:
            yield Unit(words[0], tuple(words[1:4]), words[4].strip() if len(words) > 4 else "")


# PID 1 returns the list of units over D-Bus, at an eighth of the cost of starting systemctl, which has to be loaded and
# linked first. systemctl remains for hosts where this does not work: no bus, or a systemd older than 230.

BUS_ORDER = b"l" if sys.byteorder == "little" else b"B"
BUS_RETURN, BUS_ERROR = 2, 3
BUS_NAME = "org.freedesktop.DBus"
MANAGER = "org.freedesktop.systemd1"


def bus_text(text: str) -> bytes:
    """Return a string in D-Bus encoding, without alignment."""
    import struct  # noqa: PLC0415

    return struct.pack("=I", len(text)) + text.encode("ascii") + b"\0"


def bus_call(serial: int, name: str, interface: str, member: str, patterns: "tuple[str, ...]" = ()) -> bytes:
    """Return a method call without arguments, or with no states and some patterns (D-Bus specification, messages)."""
    import struct  # noqa: PLC0415

    array = b""
    for pattern in patterns:
        array += bytes(-len(array) % 4) + bus_text(pattern)
    body = struct.pack("=II", 0, len(array)) + array if patterns else b""
    header, path = b"", "/" + name.replace(".", "/")
    for code, kind, text in ((1, b"o", path), (2, b"s", interface), (3, b"s", member), (6, b"s", name)):
        header += bytes(-len(header) % 8) + bytes([code, 1]) + kind + b"\0" + bus_text(text)
    if patterns:
        header += bytes(-len(header) % 8) + b"\x08\x01g\0\x04asas\0"
    start = BUS_ORDER + bytes([1, 0, 1]) + struct.pack("=III", len(body), serial, len(header))
    return start + header + bytes(-len(header) % 8) + body


def bus_message(door: "Any") -> "tuple[int, bytes]":
    """Return type and body of the next message; raises OSError."""
    import struct  # noqa: PLC0415

    head = read_exactly(door, 16)
    body_bytes, _, header_bytes = struct.unpack_from("=III", head, 4)
    if head[:1] != BUS_ORDER or body_bytes + header_bytes > OUTPUT_BYTES:
        raise OSError("not the D-Bus that was expected")
    rest = read_exactly(door, header_bytes + -header_bytes % 8 + body_bytes)
    return head[1], rest[len(rest) - body_bytes :]


def read_exactly(door: "Any", size: int) -> bytes:
    """Return exactly `size` bytes from a socket; raises OSError if there are fewer."""
    content = b""
    while len(content) < size:
        chunk = door.recv(size - len(content))
        if not chunk:
            raise OSError("closed")
        content += chunk
    return content


def bus_units(host: "Host", *patterns: str, seconds: float = SYSTEMD_SECONDS) -> bytes:
    """Return PID 1's reply to ListUnitsByPatterns: root has a socket to it, other users take the system bus."""
    is_root, deadline = os.geteuid() == 0, time.monotonic() + seconds
    door = host.connect("/run/systemd/private" if is_root else "/run/dbus/system_bus_socket", seconds)
    try:
        # BEGIN is sent along: systemd's own socket overlooks a call that arrives together with BEGIN.
        identity = str(os.geteuid()).encode("ascii").hex().encode("ascii")
        door.sendall(b"\0AUTH EXTERNAL " + identity + b"\r\nBEGIN\r\n")
        if not door.recv(256).startswith(b"OK "):
            raise OSError("refused")
        hello = b"" if is_root else bus_call(1, BUS_NAME, BUS_NAME, "Hello")
        wanted = bus_call(2, MANAGER, MANAGER + ".Manager", "ListUnitsByPatterns", patterns)
        door.sendall(hello + wanted)
        kind, body = bus_message(door)
        answers = [kind]
        while answers.count(BUS_RETURN) < (1 if is_root else 2) and BUS_ERROR not in answers:
            if time.monotonic() > deadline:  # any user can send signals to any connection
                raise Late("systemd")
            kind, body = bus_message(door)
            answers.append(kind)
    finally:
        door.close()
    if BUS_ERROR in answers:
        raise OSError(body[4:200].decode("utf-8", "replace"))
    return body


def parse_bus_units(body: bytes) -> "Iterator[Unit]":
    """Yield the units of a reply to ListUnitsByPatterns (org.freedesktop.systemd1(5)): an array of structs of strings.

    name, description, load state, active state, sub state, followed unit, path, job id (a number), job type, job path
    """
    import struct  # noqa: PLC0415

    number = struct.Struct("=I").unpack_from
    at, end = 8, 8 + number(body)[0]
    while at < end:
        at += -at % 8
        words = []
        for field in range(10):
            at += -at % 4
            size = number(body, at)[0]
            at += 4
            if field != 7:
                words.append(body[at : at + size])
                at += size + 1
        name, description, *states = (word.decode("utf-8", "surrogateescape") for word in words[:5])
        yield Unit(name, tuple(states), description)


def list_units(host: "Host", memo: "Json", kept: "LinesKept") -> "list[Unit]":
    """Return all services that systemd knows, sorted by name; a bus that fails is tried again after 10 minutes.

    If there are too many, `kept` counts those that are left out.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    now = host.boottime()
    if now >= memo.get("no_bus_until", 0.0):
        try:
            return sorted(parse_bus_units(bus_units(host, "*.service")), key=lambda one: one.name)
        except socket.timeout:
            raise Late("systemd") from None
        except (OSError, struct.error):
            memo["no_bus_until"] = now + REFRESH_SECONDS
    try:
        output = systemctl(host, SYSTEMCTL_LIST, wanted=kept)
    except TooLong as err:
        kept.is_cut, output = True, err.result[1].rpartition("\n")[0]
    listed = list(parse_units(output))
    if kept.is_cut:  # the most important units are requested by name
        known = {one.name for one in listed}
        listed += units_named(host, sorted(kept.named - known)) if kept.named - known else []
    return listed


def units_named(host: "Host", names: "list[str]", seconds: float = SYSTEMD_SECONDS) -> "list[Unit]":
    """Return the units of any kind that systemd has in memory; raises Broken, Late, FileNotFoundError without systemd."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    try:
        return list(parse_bus_units(bus_units(host, *names, seconds=seconds)))
    except socket.timeout:
        raise Late("systemd") from None
    except (OSError, struct.error):
        return list(parse_units(systemctl(host, [*SYSTEMCTL_UNITS, "--", *names], seconds)))


def parse_show(text: str) -> "Iterator[dict[str, str]]":
    """Yield the properties of each unit; an empty line separates units.

    Id=ssh.service
    MainPID=812

    Id=bad.service
    MainPID=0
    """
    for block in text.split("\n\n"):
        pairs = (line.partition("=") for line in lines_of(block) if "=" in line)
        properties = {name: value for name, _, value in pairs}
        if "Id" in properties:
            yield properties


def admin_units(host: "Host") -> "set[str]":
    """Return the units that the administrator wrote: files, or links to files that belong to no package.

    Units that package tools generate there (snapd) are not the administrator's, nor are masks and aliases.
    """
    found = set()
    for folder in ADMIN_FOLDERS:
        for name in host.names(folder):
            if name.endswith(".service") and not name.startswith("snap.") and is_admin_file(host, folder + "/" + name):
                found.add(name)
    return found


def is_admin_file(host: "Host", path: str) -> bool:
    """Return whether a unit file is the administrator's, not a package's, a mask or an alias."""
    real = host.real_path(path)
    if real.startswith(PACKAGED):  # on NixOS and Guix the whole folder is a link into the store
        return False
    return not host.is_link(path) or (host.exists(path) and not real.startswith(ADMIN_FOLDERS[0]))


def count_units(listed: "list[Unit]") -> "dict[str, int]":
    """Return how many loaded services there are, and how many in each active state."""
    states = [one.active for one in listed if one.is_present()]
    counts = {"total": len(states), "active": 0, "failed": 0}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return counts


def unit_row(host: "Host", unit: "Unit", properties: "dict[str, str]", origin: str) -> "Json":
    """Return one unit's row; numbers that systemd does not know are left out."""
    row = {"name": unit.name, "description": unit.description, "load_state": unit.load}  # type: Json
    row.update(active_state=unit.active, sub_state=unit.sub, origin=origin)
    if properties.get("Result"):
        row["result"] = properties["Result"]
    for key, name in (("exit_status", "ExecMainStatus"), ("restarts", "NRestarts"), ("main_pid", "MainPID")):
        value = properties.get(name, "")
        if value.isdigit() and (value != "0" or key == "restarts"):
            row[key] = int(value)
    guest = guest_of(host, unit.name)
    if guest is not None:
        row["guest_uid"] = guest
    memory = unit_memory(host, properties)
    if memory is not None:
        row["memory_bytes"] = memory
    since = properties.get("ActiveEnterTimestampMonotonic", "0")
    if since.isdigit() and since != "0":
        row["active_since_seconds"] = round(int(since) / 1e6, 2)
    return row


def unit_memory(host: "Host", properties: "dict[str, str]") -> "int | None":
    """Return a unit's current memory in bytes from its cgroup; systemd's own value may be minutes old."""
    group = properties.get("ControlGroup", "")
    now = host.number("/sys/fs/cgroup" + group + "/memory.current") if group else None
    reported = properties.get("MemoryCurrent", "")
    return int(reported) if now is None and reported.isdigit() and int(reported) != UNKNOWN_BYTES else now


def has_systemd(host: "Host", memo: "Json") -> bool:
    """Return whether systemd is this system's init (sd_booted(3))."""
    return host.exists("/run/systemd/system")


def collect_services(host: "Host", request: "Request", memo: "Json") -> "Json":
    """List all services once, and read more about the reported ones when something has changed."""
    if not has_systemd(host, memo):
        raise Missing("not_supported")
    watch, admin = request.watch.get("services", []), admin_units(host)
    kept = LinesKept({name for name in (*map(full_name, watch), *admin) if UNIT_NAME.fullmatch(name)}, admin)
    listed = list_units(host, memo, kept)
    chosen = chosen_units(listed, admin, watch)
    by_name, counts = {one.name: one for one in listed}, count_units(listed)
    for state, count in kept.left_out.items():
        counts["total"] += count
        counts[state] = counts.get(state, 0) + count
    names = shown_units(chosen, by_name, watch)
    not_shown = len(chosen) - len(names) + kept.without_room
    if not_shown:
        counts["not_shown"] = not_shown
    wanted = [by_name.get(name) or unloaded_unit(host, name) for name in names]
    shown = shown_properties(host, [one for one in wanted if one.name in by_name], memo)
    return {
        "complete": {"systemd": not (not_shown or kept.left_out or kept.is_cut)},
        "counts": counts,
        "units": [unit_row(host, one, shown.get(one.name, {}), chosen[one.name]) for one in wanted],
    }


def shown_properties(host: "Host", units: "list[Unit]", memo: "Json") -> "dict[str, dict[str, str]]":
    """Return properties by unit name: read when a state changes, a main process ends, or 5 minutes pass.

    Every call costs PID 1 and the loader about 10 ms, as much as ten polls without it.
    """
    states = [(one.name, one.load, one.active, one.sub) for one in units]
    now = host.boottime()
    is_same = states == memo.get("states") and now < memo["until"]
    if not is_same or not all(map(host.exists, memo["processes"])):
        names = [one.name for one in units]
        output = systemctl(host, [*SYSTEMCTL_SHOW, UNIT_PROPERTIES, "--", *names]) if names else ""
        shown = {properties["Id"]: properties for properties in parse_show(output)}
        processes = ["/proc/" + properties.get("MainPID", "0") for properties in shown.values()]
        memo.update(states=states, until=now + SHOW_SECONDS, shown=shown)
        memo["processes"] = [path for path in processes if host.exists(path)]
    return memo["shown"]  # type: ignore[no-any-return]


def unloaded_unit(host: "Host", name: str) -> "Unit":
    """Return a unit that systemd does not have in memory: it is inactive, and asking would make systemd load it.

    Its file is not opened: a link may point to a user's folder, where it can become a pipe or a device at any time.
    """
    for folder in UNIT_FOLDERS:
        path = folder + "/" + template_of(name)
        if host.link_name(path) == "null":
            return Unit(name, ("masked", "inactive", "dead"), "")
        if host.exists(path):
            return Unit(name, ("loaded", "inactive", "dead"), "")
    return Unit(name, ("not-found", "inactive", "dead"), "")


def systemctl(host: "Host", argv: "list[str]", seconds: float = SYSTEMD_SECONDS, wanted: "Any" = None) -> str:
    """Return systemctl's output; raises Broken with its error message if it fails."""
    status, output, errors = host.run(argv, seconds, wanted=wanted)
    if status:
        raise Broken(reason_in(errors) or f"systemctl ended with status {status}")
    return output
