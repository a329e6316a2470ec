"""Access to the system that the probe runs on, and helpers that parse what it returns.

Sent first: the files of sections/ and probe.py use these definitions; this file uses none of theirs.

Order of this file: errors · cached values · Host and RecordedHost · HTTP · child processes · requests · text and
numbers · direct kernel interfaces: netlink, ioctl, open sockets, control groups.
"""

import os
import re
import stat
import sys
import time

try:
    import json
except ImportError as err:  # Debian's python3-minimal; exits before the marker, so that the reader can name the fix
    sys.exit(f"homelab_monitor needs the whole standard library of Python: {err}")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

    Json = dict[str, Any]

LINE_BYTES = 1 << 20
ROOTS_FILE_BYTES = 1 << 18
FILE_BYTES = 8 << 20  # of any file that is read at once: the longest that a kernel writes about a host has a tenth
MOST_LINKS = 40
OUTPUT_BYTES = 2 << 20
MOST_UNREAPED = 8  # children that cannot be ended, before the probe starts no more
ANSWER_BYTES = 4 << 20
HEAD_BYTES = 64 << 10
ANSWER_MARKS = 200000  # of [ { , : in a JSON document: each may cost 100 bytes of memory once parsed
ERROR_CHARACTERS = 300
DEFAULT_TIMEOUT = 8.0
AGAIN_SECONDS = 1.0  # how long a reply waits for a section that was late the last time
SUDO_KIND_SECONDS = 3.0
REFUSED_SECONDS = 3600.0  # how long sudo is not asked again for a command that it refused
REFRESH_SECONDS = 600.0  # how long values that hardly ever change stay cached
SUDO = ["sudo", "-n"]
SUDO_RS = ["sudo", "-S", "-k"]  # with -n it asks PAM all the same: a failed login
SUDO_RS_ASKS = re.compile(rb"^\[sudo[:\]]", re.MULTILINE)
SUDO_RS_SAYS = "sudo: interactive authentication is required\n"
DESCRIPTORS_READ = 10000  # of one process, which may open half a million to slow others down
HELD = "/proc/self/fd/"
ZONE_FILE = "/etc/localtime"
CLOCK_BOOTTIME = 7  # time.CLOCK_BOOTTIME needs Python 3.7


class Missing(Exception):
    """A section has no data; `reason` is one of the contract's six."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Late(Exception):
    """Something did not answer in time; for a program, `result` is status, output and errors until then."""

    def __init__(self, name: str = "", result: "tuple[int, str, str]" = (-1, "", "")) -> None:
        super().__init__(name)
        self.result = result


class SingleFile(OSError):
    """The mount at a path is a single file, not a folder."""


class Theirs(PermissionError):
    """A user other than root can change what is at a path, or redirect the path."""


class Asked(Exception):
    """A program prompted for input that it will not get."""


class Broken(Exception):
    """Something is installed and does not work; the text is its own error message."""


class TooLong(Broken):
    """A program's output exceeds the limit; `result` holds status, output and errors as far as they were read."""

    def __init__(self, name: str, result: "tuple[int, str, str]") -> None:
        super().__init__(name + " says more than is read")
        self.result = result


# ---------------------------------------------------------------- cached between requests


class Remembered:
    """A value that hardly ever changes: read again when it expires or when what it depends on changes.

    A new reading replaces the old one as a whole: nothing is emptied first and refilled later. A failed reading
    leaves nothing behind, so that the next request reads again.
    """

    def __init__(self, seconds: float = REFRESH_SECONDS) -> None:
        self.seconds = seconds
        self.until = 0.0
        self.depends_on = None  # type: Any
        self.value = None  # type: Any

    def get(self, now: float, depends_on: "Any", read: "Callable[[], Any]") -> "Any":
        """Return the value; `now` is in seconds since boot, `depends_on` is anything comparable."""
        if now >= self.until or depends_on != self.depends_on:
            self.until = 0.0
            self.value = read()
            self.depends_on, self.until = depends_on, now + self.seconds
        return self.value


class RememberedEach(Remembered):
    """The same for values by name: new names are read at once, names that are gone are dropped, all expire together."""

    def each(self, now: float, names: "Iterable[str]", read: "Callable[[str], Any]") -> "dict[str, Any]":
        """Return the value of each name."""
        known = self.value if now < self.until else {}
        wanted = tuple(names)
        if now >= self.until or wanted != self.depends_on:
            self.value = {name: known[name] if name in known else read(name) for name in wanted}
            self.depends_on, self.until = wanted, self.until if now < self.until else now + self.seconds
        return self.value  # type: ignore[no-any-return]


class Zone:
    """This host's time zone, which the C library reads once per process; several threads use it.

    glibc checks the file again only in tzset(3), and only if the name in TZ has changed (or there is none), musl only
    if the name has changed: so both get the same file by two names.
    """

    def __init__(self) -> None:
        from _thread import allocate_lock  # noqa: PLC0415

        self.known = None  # type: Any
        self.lock = allocate_lock()

    def offset(self, at: "float | None" = None) -> int:
        """Return how far local time is ahead of UTC in seconds, at a time (Unix seconds) or now."""
        with self.lock:
            now = zone_stamp()
            if now != self.known:
                self.known = now
                read_zone()
            return time.localtime(at).tm_gmtoff


def zone_stamp() -> "Any":
    """Return what identifies the zone's file and when it was put there (ctime first), None if there is none."""
    try:
        link, file = os.lstat(ZONE_FILE), os.stat(ZONE_FILE)
    except OSError:
        return None
    return link.st_ctime, file.st_dev, file.st_ino, file.st_mtime, file.st_size


def read_zone() -> None:
    """Make the C library read the zone's file; the TZ of this session is not the host's zone."""
    folder, name = os.path.split(ZONE_FILE)
    for path in (folder + "/./" + name, ZONE_FILE):
        os.environ["TZ"] = ":" + path
        time.tzset()
    del os.environ["TZ"]  # children read the file by themselves


# ---------------------------------------------------------------- access to the system


class Host:
    """All access to the system; `root` lets tests and demos use a recorded tree."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.fsencode(root.rstrip("/"))
        self.unreaped = []  # type: list[Any]
        self.refused_until = {}  # type: dict[str, float]
        self.sudo_kind = Remembered()
        self.zone = Zone()

    def path(self, path: str) -> bytes:
        """Return the real path as bytes: under LC_ALL=C, Python 3.6 cannot encode every name."""
        return self.root + path.encode("utf-8", "surrogateescape")

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises OSError, also if there are too many: users control the length of files in /proc.

        Not open(): this takes half the time, and polls consist of reads.
        """
        fd = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = bytearray()
            chunk = os.read(fd, 65536)
            while chunk:
                content += chunk
                if len(content) > FILE_BYTES:
                    raise OSError("more than is read")
                chunk = os.read(fd, 65536)
        finally:
            os.close(fd)
        return bytes(content)

    def read(self, path: str) -> str:
        """Return a file's text; raises OSError."""
        return self.read_bytes(path).decode("utf-8", "surrogateescape")

    def lines(self, path: str) -> "Iterator[str]":
        """Yield the lines of a file of any length while reading it; raises OSError."""
        with open(self.path(path), "rb") as file:
            for line in file:
                yield line.decode("utf-8", "surrogateescape")

    def short_lines(self, path: str, most: int, seconds: float) -> "Iterator[str]":
        r"""Yield a file's lines while reading it; raises OSError, and Late after `seconds`.

        A line longer than 2 × `most` bytes is reduced to its first and last `most` bytes, with a \n between them.
        """
        deadline, begin, rest = time.monotonic() + seconds, b"", b""
        fd = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunk = os.read(fd, 65536)
            while chunk:
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if begin or len(line) > 2 * most:
                        line = (begin or line[:most]) + b"\n" + line[-most:]  # noqa: PLW2901
                        begin = b""
                    yield line.decode("utf-8", "surrogateescape")
                if len(rest) > 2 * most:
                    begin, rest = begin or rest[:most], rest[-most:]
                if time.monotonic() > deadline:
                    raise Late(path)
                chunk = os.read(fd, 65536)
        finally:
            os.close(fd)

    def text(self, path: str) -> str:
        """Return a file's text without surrounding whitespace, "" if it cannot be read."""
        try:
            return self.read(path).strip(" \t\r\n")  # not Unicode's other spaces: names may end with those
        except OSError:
            return ""

    def number(self, path: str) -> "int | None":
        """Return the integer in a file, None if there is none."""
        try:
            return int(self.read_bytes(path))
        except (OSError, ValueError):
            return None

    def names(self, path: str, most: int = 0) -> "list[str]":
        """Return the names in a folder, unordered, at most `most` if not 0; empty if it cannot be listed."""
        try:
            if most:
                with os.scandir(self.path(path)) as entries:
                    names = [entry.name for _, entry in zip(range(most), entries)]
            else:
                names = os.listdir(self.path(path))
        except OSError:
            return []
        return [name.decode("utf-8", "surrogateescape") for name in names]

    def exists(self, path: str) -> bool:
        """Return whether a path exists, links followed."""
        return os.path.exists(self.path(path))

    def is_link(self, path: str) -> bool:
        """Return whether a path is a symbolic link."""
        return os.path.islink(self.path(path))

    def is_folder(self, path: str) -> bool:
        """Return whether a path is a folder; may block on a dead filesystem."""
        return os.path.isdir(self.path(path))

    def may_run(self, path: str) -> bool:
        """Return whether a path is a file that root could execute."""
        try:
            return bool(os.stat(self.path(path)).st_mode & 0o111)
        except OSError:
            return False

    def identity(self, path: str) -> "Any":
        """Return what identifies an object of sysfs among others of the same name, None if there is none.

        The kernel gives each object its own inode number; the link in a class folder names the device.
        """
        real = self.path(path)
        try:
            return os.stat(real).st_ino, os.readlink(real) if os.path.islink(real) else b""
        except OSError:
            return None

    def link_target(self, path: str) -> str:
        """Return the target of a link, "" if it is none."""
        try:
            return os.readlink(self.path(path)).decode("utf-8", "surrogateescape")
        except OSError:
            return ""

    def link_name(self, path: str) -> str:
        """Return the last part of a link's target, "" if it is none."""
        return os.path.basename(self.link_target(path))

    def real_path(self, path: str) -> str:
        """Return a path with all links followed."""
        real = os.path.realpath(self.path(path))
        return real[len(os.path.realpath(self.root)) if self.root else 0 :].decode("utf-8", "surrogateescape")

    def tail(self, path: str, size: int) -> bytes:
        """Return a file's last `size` bytes; the first line may lack its beginning. Raises OSError."""
        return self.tail_of(path, size)[2]

    def tail_of(self, path: str, size: int) -> "tuple[int, int, bytes]":
        """Return a file's inode number, the offset of its last `size` bytes, and these; raises OSError."""
        with open(self.path(path), "rb") as file:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return os.fstat(file.fileno()).st_ino, start, file.read(size)

    def head(self, path: str, size: int) -> bytes:
        """Return a file's first `size` bytes; raises OSError."""
        with open(self.path(path), "rb") as file:
            return file.read(size)

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return a file's mtime and ctime (Unix seconds) and its size; raises OSError."""
        info = os.stat(self.path(path))
        return info.st_mtime, info.st_ctime, info.st_size

    def status(self, path: str, follow: bool = False) -> "tuple[int, int, int]":
        """Return mode, owner and size at a path, of a link itself unless it is followed; raises OSError."""
        info = os.stat(self.path(path)) if follow else os.lstat(self.path(path))
        return info.st_mode, info.st_uid, info.st_size

    def owner(self, path: str) -> int:
        """Return the owner's uid, -1 if nothing is there."""
        try:
            return self.status(path)[1]
        except OSError:
            return -1

    def roots_status(self, path: str) -> "tuple[int, int, int]":
        """Return the status of a path's target; raises OSError, and Theirs if anybody but root can redirect the path.

        Each step is checked before it is taken, so that the probe enters nothing that another user may have mounted.
        """
        steps, place, links = path.split("/")[::-1], "", 0
        while steps:
            step = steps.pop()
            if step in ("", ".", ".."):
                place = place.rpartition("/")[0] if step == ".." else place
                continue
            here = place + "/" + step
            mode, uid, _ = self.status(here)
            is_link = stat.S_ISLNK(mode)
            # In a folder with the sticky bit, users cannot replace the files of others.
            is_kept = is_link or not mode & 0o022 or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)
            if uid != 0 or not is_kept:
                raise Theirs(here)
            if not is_link:
                place = here
                continue
            links += 1
            if links > MOST_LINKS:
                raise OSError("a link that leads to itself")
            target = os.readlink(self.path(here)).decode("utf-8", "surrogateescape")
            place = "" if target.startswith("/") else place
            steps += target.split("/")[::-1]
        return self.status(place or "/")

    def check_roots_file(self, path: str, most: int) -> int:
        """Return the size of a regular file that only root can change or replace; raises Theirs, OSError for others.

        Opening anything else may block for ever, never end, or start a device.
        """
        mode, _, size = self.roots_status(path)
        if not stat.S_ISREG(mode) or size > most:
            raise OSError("no file that is read")
        return size

    def read_roots(self, path: str) -> str:
        """Return the text of such a file; raises Theirs, OSError. Files that the kernel generates (/proc) have size 0."""
        return self.read(path) if self.check_roots_file(path, ROOTS_FILE_BYTES) else ""

    def program(self, pid: int) -> "tuple[str, int, int] | None":
        """Return path, mode and owner of the program that a process runs, None without permission."""
        link = f"/proc/{pid}/exe"
        try:
            path = os.readlink(self.path(link)).decode("utf-8", "surrogateescape")
            mode, uid, _ = self.status(link, follow=True)
        except OSError:
            return None
        gone = " (deleted)"  # replaced by an update
        return path[: -len(gone)] if path.endswith(gone) else path, mode, uid

    def statvfs(self, path: str, mount: str, may_be_file: bool = True) -> "tuple[int, int, int, int, int, int]":
        """Return block size, blocks, free, available, inodes, free inodes; may block for ever, raises OSError, SingleFile.

        `mount` is the expected mount id: the owner of a folder above may have mounted something over it, or replaced it.
        """
        fd = os.open(self.path(path), os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{fd}") as file:
                found = re.search(r"^mnt_id:\s*(\d+)$", file.read(), re.MULTILINE)
            if found and found.group(1) != mount:
                raise OSError("another filesystem has been mounted over it")
            if not may_be_file and not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise SingleFile(path)
            info = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return info.f_frsize, info.f_blocks, info.f_bfree, info.f_bavail, info.f_files, info.f_ffree

    def run(
        self, argv: "list[str]", timeout: float, tail: bool = False, wanted: "Any" = None
    ) -> "tuple[int, str, str]":
        """Run a program without a shell; return exit status, output, errors; raises Late, FileNotFoundError, TooLong.

        The beginning never stands for the whole: if the output is too long, the end is returned with `tail`, else
        TooLong is raised. `wanted` is a pattern (of bytes): only lines in which it is found are kept.
        """
        return run_child(argv, timeout, self.unreaped, tail, wanted)

    def run_sudo(self, argv: "list[str]", timeout: float, wanted: "Any" = None) -> "tuple[int, str, str]":
        """Run a program as root through sudo without a password; otherwise the same as `run`.

        sudo-rs takes the end of its input as a wrong password, three of which may lock the account (pam_faillock): it
        may prompt, and is killed while it waits.
        """
        if not self.sudo_kind.get(self.boottime(), None, self.has_sudo_rs):
            return self.run(SUDO + argv, timeout, wanted=wanted)
        try:
            return run_child(SUDO_RS + argv, timeout, self.unreaped, wanted=wanted, question=SUDO_RS_ASKS)
        except Asked:
            return 1, "", SUDO_RS_SAYS

    def has_sudo_rs(self) -> bool:
        """Return whether sudo is sudo-rs, written in Rust."""
        try:
            return any(output.startswith("sudo-rs") for output in self.run(["sudo", "--version"], SUDO_KIND_SECONDS)[1:])
        except (FileNotFoundError, TooLong):
            return False

    def connect(self, path: str, timeout: float, uid: "int | None" = None) -> "Any":
        """Return a stream socket connected to a path, each operation bounded by `timeout`; raises OSError.

        With a `uid`, the file and the listening process have to be that user's. The path may be redirected after
        each check, and connecting alone starts a service of root's (systemd.socket(5)): so the checked socket is held by
        a descriptor, and connected to by the kernel's name for it. Without /proc this fails.
        """
        import socket  # noqa: PLC0415

        connection, held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), -1
        connection.settimeout(timeout)
        try:
            if uid is None:
                connection.connect(self.path(path))
                return connection
            held = self.hold_socket(path, uid)
            connection.connect(f"{HELD}{held}")
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # struct ucred: pid, uid, gid (unix(7))
            if int.from_bytes(peer[4:8], sys.byteorder) != uid:
                raise OSError("somebody else listens there")
        except OSError:
            connection.close()
            raise
        finally:
            if held >= 0:
                os.close(held)
        return connection

    def hold_socket(self, path: str, uid: int) -> int:
        """Return a descriptor of a socket; it and its folder are no links and belong to `uid`; may block, raises OSError."""
        folder, name = os.path.split(self.path(path))
        folder_fd = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
            folder_info, info = os.fstat(folder_fd), os.fstat(held)
        finally:
            os.close(folder_fd)
        if stat.S_ISSOCK(info.st_mode) and stat.S_ISDIR(folder_info.st_mode) and info.st_uid == folder_info.st_uid == uid:
            return held
        os.close(held)
        raise OSError("no socket of that user")

    def is_socket_of(self, path: str, uid: int) -> bool:
        """Return whether `connect` would accept the socket of this user; may block."""
        try:
            os.close(self.hold_socket(path, uid))
        except OSError:
            return False
        return True

    def is_root(self) -> bool:
        """Return whether this user is root."""
        return self.uid() == 0

    def uid(self) -> int:
        """Return the effective uid."""
        return os.geteuid()

    def boottime(self) -> float:
        """Return seconds since boot, sleep included."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def epoch(self) -> float:
        """Return the wall clock in Unix seconds."""
        return time.time()

    def timezone_offset(self, at: "float | None" = None) -> int:
        """Return how far local time is ahead of UTC in seconds, at a time (Unix seconds) or now."""
        return self.zone.offset(at)

    def timezone_since(self) -> float:
        """Return when the time zone was last set (Unix seconds), 0 if unknown."""
        zone = zone_stamp()
        return float(zone[0]) if zone else 0.0

    def uname(self) -> "tuple[str, str, str]":
        """Return host name, kernel release, architecture."""
        info = os.uname()
        return info.nodename, info.release, info.machine

    def python(self) -> str:
        """Return the version of this Python."""
        return ".".join(map(str, sys.version_info[:3]))

    def ticks(self) -> int:
        """Return the clock ticks per second, the unit of /proc/stat."""
        return os.sysconf("SC_CLK_TCK")

    def may_ask_sudo(self, argv: "list[str]") -> bool:
        """Return whether to try sudo: it logs each refusal, so a refused command is not tried again for an hour."""
        return self.boottime() >= self.refused_until.get(" ".join(argv), 0.0)

    def note_refusal(self, argv: "list[str]", seconds: float = REFUSED_SECONDS) -> None:
        """Remember that sudo refuses a command, or that it is not to be tried for a while."""
        self.refused_until[" ".join(argv)] = self.boottime() + seconds

    def permanent_mac(self, interface: str) -> str:
        """Return a network card's permanent MAC address, "" if it has none (ethtool_ioctl, needs no root)."""
        return read_permanent_mac(interface)

    def addresses(self) -> "list[Json]":
        """Return the IP addresses of all interfaces as `read_addresses` shapes them; raises OSError."""
        return read_addresses()

    def source_address(self) -> str:
        """Return the source IPv4 address that the kernel would use for the internet, "" without a route.

        Connecting a UDP socket looks up the route, with its `src`, and sends nothing (udp(7)); the address belongs to
        TEST-NET-2 (RFC 5737), which is never assigned.
        """
        import socket  # noqa: PLC0415

        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
                connection.connect(("198.51.100.1", 9))
                return str(connection.getsockname()[0])
        except OSError:
            return ""

    def listeners(self, protocol: str, has_room: "Callable[[int], bool]") -> "Iterable[Json]":
        """Yield the listening sockets of `tcp` or `udp` as `read_listeners` shapes them; raises OSError."""
        return read_listeners(protocol, has_room)

    def open_sockets(self, pid: int, most: int) -> "tuple[list[int], bool]":
        """Return the inodes of a process's sockets (none without permission), and whether the list is complete."""
        return read_open_sockets(pid, most)

    def group_ids(self) -> "dict[int, str]":
        """Return the path of every control group (v2) by its inode number."""
        return read_group_ids()

    def load_library(self, name: str) -> "Any":
        """Return a shared library by name or path; raises OSError if it is not installed or Python lacks ctypes."""
        try:
            import ctypes  # noqa: PLC0415
        except ImportError as err:
            raise OSError(str(err)) from None
        return ctypes.CDLL(name)


class RecordedHost(Host):
    """A host recorded as a tree of files; its `.host.json` holds what is not a file.

    Keys: `clocks` {boottime, epoch, timezone_offset} (left out: the real ones, for a demo), `uname`,
    `python`, `is_root`, `uid`, `statvfs` {mountpoint: six numbers}, `stamps` {path: three numbers}, `owners` {path: user}, `modes` {path: rights}, `run` {command: {status,
    output, errors} or a file's name in the tree}, `lists` {folder: names added to those in the tree}, `permanent_macs`,
    `addresses`, `source_address`, `listeners` {protocol: rows}, `open_sockets` {pid: inodes}, `group_ids` {number: path}, `denied` [sockets
    that the user may not use]. A socket that speaks HTTP is a folder of answers.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.record = json.loads(self.read("/.host.json"))  # type: Json

    def recorded(self, name: str) -> "Any":
        """Return a recorded value; raises FileNotFoundError if it was not readable when the host was recorded."""
        if name not in self.record:
            raise FileNotFoundError(name)
        return self.record[name]

    def names(self, path: str, most: int = 0) -> "list[str]":
        """Return the names in a folder, including the recorded extras."""
        extra = self.record.get("lists", {}).get(path, [])  # type: list[str]
        return [name for name in super().names(path, most) if name not in extra] + extra

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return the recorded times and size: a copy of a file has other times."""
        stamp = self.record.get("stamps", {}).get(path)
        if stamp is None:
            raise FileNotFoundError(path)
        return tuple(stamp)

    def status(self, path: str, follow: bool = False) -> "tuple[int, int, int]":
        """Return the recorded status, by default a file of root's: a copy has another owner and mode."""
        info = os.lstat(self.path(path))
        kind = stat.S_IFREG if follow else stat.S_IFMT(info.st_mode)
        mode = int(self.record.get("modes", {}).get(path, 0o644))
        return kind | mode, int(self.record.get("owners", {}).get(path, 0)), info.st_size

    def uid(self) -> int:
        """Return the uid that recorded the host, not the one that replays it."""
        return int(self.record.get("uid", 0 if self.record.get("is_root") else 1000))

    def is_socket_of(self, path: str, uid: int) -> bool:  # noqa: ARG002
        """Return whether responses are recorded: a copy of a socket has another owner."""
        return self.is_folder(path) and not self.is_link(path)

    def statvfs(  # noqa: D102 - the recorded values
        self,
        path: str,
        mount: str,  # noqa: ARG002
        may_be_file: bool = True,
    ) -> "tuple[int, int, int, int, int, int]":
        if not may_be_file and self.exists(path) and not self.is_folder(path):
            raise SingleFile(path)
        sizes = self.record.get("statvfs", {}).get(path)
        if sizes is None:
            raise FileNotFoundError(path)
        return tuple(sizes)

    def run(  # noqa: PLR0913
        self,
        argv: "list[str]",
        timeout: float,  # noqa: ARG002
        tail: bool = False,  # noqa: ARG002
        wanted: "Any" = None,  # noqa: ARG002
    ) -> "tuple[int, str, str]":
        """Return the recorded result of a program."""
        result = self.record.get("run", {}).get(" ".join(argv))
        if result is None:
            raise FileNotFoundError(argv[0])
        if isinstance(result, str):
            return 0, self.read("/" + result), ""
        return result.get("status", 0), result.get("output", ""), result.get("errors", "")

    def has_sudo_rs(self) -> bool:
        """Return False, as for the older sudo: prompts of sudo-rs cannot be recorded."""
        return False

    def connect(self, path: str, timeout: float, uid: "int | None" = None) -> "Any":  # noqa: ARG002
        """Return a connection that replays recorded responses; only HTTP can be recorded."""
        if path in self.record.get("denied", ()):
            raise PermissionError(path)
        if not self.is_folder(path):
            raise FileNotFoundError(path)
        return RecordedConnection(self, path)

    def boottime(self) -> float:
        """Return the recorded clock, else the real one."""
        return self.record.get("clocks", {}).get("boottime") or super().boottime()

    def epoch(self) -> float:
        """Return the recorded clock, else the real one."""
        return self.record.get("clocks", {}).get("epoch") or super().epoch()

    def timezone_offset(self, at: "float | None" = None) -> int:  # noqa: ARG002
        """Return the recorded offset, by default 0."""
        return int(self.record.get("clocks", {}).get("timezone_offset", 0))

    def timezone_since(self) -> float:
        """Return 0, unknown: a copy of the file has another time."""
        return 0.0

    def uname(self) -> "tuple[str, str, str]":
        """Return the recorded host name, kernel release and architecture."""
        return tuple(self.record.get("uname", ("recorded", "", "")))

    def python(self) -> str:
        """Return the recorded version, else the real one."""
        return self.record.get("python") or super().python()

    def ticks(self) -> int:
        """Return Linux' usual value."""
        return 100

    def permanent_mac(self, interface: str) -> str:
        """Return the recorded address."""
        return str(self.record.get("permanent_macs", {}).get(interface, ""))

    def addresses(self) -> "list[Json]":
        """Return the recorded addresses."""
        return self.recorded("addresses")  # type: ignore[no-any-return]

    def source_address(self) -> str:
        """Return the recorded address."""
        return str(self.record.get("source_address", ""))

    def listeners(self, protocol: str, has_room: "Callable[[int], bool]") -> "Iterable[Json]":  # noqa: ARG002
        """Return the recorded sockets."""
        return self.recorded("listeners")[protocol]  # type: ignore[no-any-return]

    def open_sockets(self, pid: int, most: int) -> "tuple[list[int], bool]":
        """Return the recorded inodes, and whether the list is complete."""
        inodes = self.record.get("open_sockets", {}).get(str(pid), [])
        return inodes[:most], len(inodes) <= most

    def group_ids(self) -> "dict[int, str]":
        """Return the recorded paths by inode number."""
        return {int(number): path for number, path in self.record.get("group_ids", {}).items()}

    def load_library(self, name: str) -> "Any":
        """Raise OSError: a library cannot be recorded; NVIDIA's cards come from the recorded nvidia-smi."""
        raise OSError("recorded")


class RecordedConnection:
    """A socket that replays recorded responses: the body of GET /a/b?c is the file a/b in the socket's folder."""

    def __init__(self, host: RecordedHost, folder: str) -> None:
        self.host = host
        self.folder = folder
        self.answers = b""

    def settimeout(self, seconds: float) -> None:
        """Do nothing: replaying takes no time."""

    def sendall(self, request: bytes) -> None:
        """Queue the response to a request."""
        target = request.split(b" ", 2)[1].partition(b"?")[0].decode("ascii")
        try:
            status, body = b"200 OK", self.host.read_bytes(self.folder + target)
        except OSError:
            status, body = b"404 Not Found", b'{"message": "not recorded"}'
        self.answers += b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes of the queued responses."""
        chunk, self.answers = self.answers[:size], self.answers[size:]
        return chunk

    def close(self) -> None:
        """Do nothing: there is no real connection."""


class HttpConnection:
    """An HTTP/1.1 connection over a local socket, for JSON; no operation lasts beyond the deadline.

    The other end may be any user's program: its responses cost no more time or memory than the limits here.
    """

    def __init__(self, host: "Host", path: str, deadline: float, stream: "Any" = None) -> None:
        self.deadline = deadline
        self.cpu_until = float("inf")  # by this thread's CPU clock
        self.limit = ANSWER_BYTES
        self.marks = ANSWER_MARKS
        self.stream = stream or host.connect(path, self.left())
        self.buffer = bytearray()

    def left(self) -> float:
        """Return the remaining seconds; raises Late when the deadline or the limit of CPU time is reached."""
        left = self.deadline - time.monotonic()
        if left <= 0 or cpu_clock() > self.cpu_until:
            raise Late
        return left

    def ask(self, target: str) -> "Any":
        """Return the JSON of GET `target`, None for status 404; raises OSError, ValueError, Late, Broken."""
        body = self.fetch(target)
        return None if body is None else parse_json(body, self.marks)

    def fetch(self, target: str) -> "bytes | None":
        """Return the body of GET `target`, None for status 404; raises as `ask`."""
        self.stream.settimeout(self.left())
        self.stream.sendall(b"GET " + target.encode("ascii") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = self.read_response()
        if status not in (200, 404):
            error = parse_json(body, self.marks)
            raise Broken(first_line(str(error.get("message") if isinstance(error, dict) else "") or f"status {status}"))
        return body if status == 200 else None

    def read_response(self) -> "tuple[int, bytes]":
        """Return status and body of the next response (RFC 9112)."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1").lower()
        status = re.match(r"http/1\.[01] (\d{3})\b", head)
        if status is None:
            raise ValueError("no HTTP")
        if re.search(r"\ntransfer-encoding: *chunked", head):
            return int(status.group(1)), self.read_chunks()
        length = re.search(r"\ncontent-length: *(\d{1,10})\s*$", head, re.MULTILINE)
        if length is None:
            raise ValueError("an answer of unknown length")
        return int(status.group(1)), self.read_exactly(int(length.group(1)))

    def read_chunks(self) -> bytes:
        """Return a chunked body."""
        body, size = bytearray(), -1
        while size:
            digits = re.match(rb"[0-9a-fA-F]{1,8}(?=\s*(?:;|$))", self.read_until(b"\r\n"))
            if digits is None:
                raise ValueError("no chunk")
            size = int(digits.group(), 16)
            self.left()  # many small chunks take long even without waiting for them
            if len(body) + size > self.limit:
                raise ValueError("an answer without end")
            body += self.read_exactly(size)
            self.read_until(b"\r\n")
        return bytes(body)

    def read_until(self, mark: bytes) -> bytes:
        """Return the bytes before a delimiter, and drop the delimiter."""
        begin = 0
        while True:
            place = self.buffer.find(mark, begin)
            if place >= 0:
                return self.cut(place, len(mark))
            if len(self.buffer) > HEAD_BYTES:
                raise ValueError("a line without end")
            begin = max(0, len(self.buffer) - len(mark) + 1)
            self.receive()

    def cut(self, size: int, dropped: int = 0) -> bytes:
        """Remove and return the first `size` bytes of the buffer, and drop `dropped` more; does not copy the rest."""
        content = bytes(self.buffer[:size])
        del self.buffer[: size + dropped]
        return content

    def read_exactly(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        if size > self.limit:
            raise ValueError("an answer without end")
        content = bytearray()
        while True:
            content += self.cut(size - len(content))
            if len(content) == size:
                return bytes(content)
            self.receive()

    def receive(self) -> None:
        """Receive more into the buffer."""
        self.stream.settimeout(self.left())
        chunk = self.stream.recv(65536)
        if not chunk:
            raise ValueError("an answer that breaks off")
        self.buffer += chunk

    def close(self) -> None:
        """Close the socket."""
        self.stream.close()


def cpu_clock() -> float:
    """Return the CPU seconds that this thread has used."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


def parse_json(body: bytes, marks: int) -> "Any":
    """Return a JSON document; raises ValueError, also for costly documents: many values, depth, long numbers."""
    if sum(map(body.count, (b"[", b"{", b",", b":"))) > marks:
        raise ValueError("a document of too many values")
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_int=parse_number, parse_float=parse_number, parse_constant=parse_number)
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None


def parse_number(text: str) -> "int | float":
    """Return a JSON number; raises ValueError for NaN, infinity, and numbers that take long to parse."""
    if len(text) > 40 or not re.match(r"-?\d", text):
        raise ValueError("no number")
    number = int(text) if re.match(r"-?\d+$", text) else float(text)
    if number in (float("inf"), -float("inf")):
        raise ValueError("no number")
    return number


def run_child(
    argv: "list[str]",
    timeout: float,
    unreaped: "list[Any]",
    tail: bool = False,
    wanted: "Any" = None,
    question: "Any" = None,
) -> "tuple[int, str, str]":
    """Run a program in its own session; if it is late or prompts, it is killed with all its children, and reaped.

    Raises TooLong with the output up to the limit, Late with the output until then.

    `question` is a pattern of the prompt on stderr: with it, the program's input stays open.
    """
    import subprocess  # noqa: PLC0415 - not every poll needs it, and it loads slowly

    unreaped[:] = [child for child in unreaped if child.poll() is None]
    if len(unreaped) >= MOST_UNREAPED:
        raise Late(argv[0])
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    source = pipe if question else null
    child = subprocess.Popen(argv, stdin=source, stdout=pipe, stderr=pipe, start_new_session=True)
    deadline, outputs = time.monotonic() + timeout, [b"", b""]
    try:
        is_cut = read_child(child, deadline, outputs, tail, wanted, question)
        status = child.wait(max(0.1, deadline - time.monotonic()))
    except (Late, subprocess.TimeoutExpired):
        end_child(child, unreaped)
        raise Late(argv[0], (-1, outputs[0].decode("utf-8", "replace"), outputs[1].decode("utf-8", "replace"))) from None
    except Asked:
        end_child(child, unreaped)
        raise
    finally:
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream:
                stream.close()
    result = (status, outputs[0].decode("utf-8", "replace"), outputs[1].decode("utf-8", "replace"))
    if is_cut:
        raise TooLong(argv[0], result)
    return result


def read_child(
    child: "Any", deadline: float, outputs: "list[bytes]", tail: bool, wanted: "Any" = None, question: "Any" = None
) -> bool:
    """Read the beginning or the end of a child's output until it closes both streams; raises Late, Asked.

    Return whether the end of stdout is missing; the end of stderr is not needed. `outputs` receives both.
    """
    import select  # noqa: PLC0415

    order, waiting, rest, is_cut = [child.stdout.fileno(), child.stderr.fileno()], select.poll(), b"", False
    for fd in order:
        waiting.register(fd)
    left = set(order)
    while left:
        ready = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready or time.monotonic() > deadline:  # a child that never stops writing is late as well
            raise Late
        for fd, _ in ready:
            chunk, at = os.read(fd, 65536), order.index(fd)
            if not chunk:
                waiting.unregister(fd)
                left.discard(fd)
            if wanted and at == 0:
                chunk, rest = filter_lines(rest, chunk or b"\n", wanted)
            if tail:
                outputs[at] = (outputs[at] + chunk)[-OUTPUT_BYTES:]
            elif len(outputs[at]) < OUTPUT_BYTES:
                outputs[at] += chunk
            elif chunk and at == 0:
                is_cut = True
            if question and at == 1 and question.search(outputs[at]):
                raise Asked
    return is_cut


def filter_lines(rest: bytes, chunk: bytes, wanted: "Any") -> "tuple[bytes, bytes]":
    """Return the complete lines in which a pattern is found, and the beginning of the incomplete one."""
    lines = (rest + chunk).split(b"\n")
    return b"".join(line + b"\n" for line in lines[:-1] if wanted.search(line)), lines[-1][:LINE_BYTES]


def end_child(child: "Any", unreaped: "list[Any]") -> None:
    """Kill a child with its whole session; one blocked in the kernel is reaped later."""
    import signal  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        unreaped.append(child)  # root's, by sudo: it ends by itself, as its output is no longer read
        return
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        unreaped.append(child)


# ---------------------------------------------------------------- requests


class Request:
    """The content of one request line."""

    def __init__(self, wanted: "Json") -> None:
        self.begun = time.monotonic()
        self.id = str(wanted.get("id", "?"))
        self.sections = names_in(wanted.get("sections"))
        self.sudo = names_in(wanted.get("sudo"))
        watch = wanted.get("watch")
        self.watch = {key: names_in(value) for key, value in watch.items()} if isinstance(watch, dict) else {}
        timeout = wanted.get("timeout", DEFAULT_TIMEOUT)
        self.timeout = min(max(float(timeout), 0.5), 300.0) if isinstance(timeout, (int, float)) else DEFAULT_TIMEOUT


def names_in(value: object) -> "list[str]":
    """Return the strings of a JSON list, without duplicates."""
    if not isinstance(value, list):
        return []
    return list(dict.fromkeys(name for name in value if isinstance(name, str)))


def lines_of(text: str) -> "list[str]":
    r"""Return the lines of a text from the kernel or a program, which end with \n only.

    Not splitlines(): that also splits at \v, \f, \x1c to \x1e, \x85 and two Unicode separators, and users who may
    name a control group, a filesystem or a process could forge a line with them.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def first_line(text: str) -> str:
    """Return the first line that is not empty, in printable characters and bounded."""
    lines = (" ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", line).split()) for line in lines_of(text.replace("\r", "\n")))
    return next((line for line in lines if line), "")[:ERROR_CHARACTERS]


# How programs begin the line with the reason for a failure; warnings and progress come before it.
# apt-get(8) "E: ", dnf(8) and podman "Error: ", pacman(8) "error: ", apk(8) "ERROR: ", docker "Error response …", dpkg(1)
# "dpkg: error …", git's kin "fatal: ", zypper(8) with --xmlout <message type="error">, opkg " * opkg_lock: …", dnf's
# resolver " Problem: ", systemctl's kin. A match with nothing after it is a heading.
REASON = re.compile(
    r"^[ \t]*(?:E:|(?:[\w./ -]{1,40}(?:\[\d+\])?: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL)\b:?"
    r"|Problem:|\* [\w.-]+:|Failed to|Job for|Unit|Call to)[ \t]+\S.*"
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)


def reason_in(text: str) -> str:
    """Return the line with the reason for a program's failure, else the first line that is not empty.

    WARNING: apt does not have a stable CLI interface. Use with caution in scripts.
    E: The package lists or status file could not be parsed or opened.
    """
    found = REASON.search(text)
    return first_line(found.group() if found else text)


def parse_colons(text: str) -> "dict[str, str]":
    r"""Return `name: value` lines as a dict.

    Model: \t\t NVIDIA GeForce RTX 3090
    GPU UUID: \t GPU-1c2b3a4d-0000-1111-2222-333344445555
    """
    pairs = (line.partition(":") for line in lines_of(text))
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_assignments(text: str) -> "dict[str, str]":
    r"""Return NAME=value lines, quotes taken off (os-release(5)).

    ID=debian
    PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
    """
    values = {}
    for line in lines_of(text):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
                value = value[1:-1]
            values[name] = re.sub(r"\\(.)", r"\1", value)
    return values


# ---------------------------------------------------------------- numbers


def within(value: "Any", least: float, most: "Any") -> "Any":
    """Return a number that is in range, else None: inconsistent numbers give no value."""
    return value if value is not None and most is not None and least <= value <= most else None


def difference(whole: "int | None", part: "int | None") -> "int | None":
    """Return whole minus part, None unless 0 ≤ part ≤ whole."""
    return None if within(part, 0, whole) is None else whole - part  # type: ignore[operator]


def without_none(row: "Json") -> "Json":
    """Return a row without the keys whose value is None."""
    return {key: value for key, value in row.items() if value is not None}


# ---------------------------------------------------------------- netlink: addresses and listening sockets

NETLINK_SECONDS = 2.0
NETLINK_ROUTE = 0
# linux/netlink.h: NLM_F_REQUEST | NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE.
NETLINK_LIST = 0x301
NETLINK_ERROR = 2
NETLINK_DONE = 3
RTM_GETADDR = 22  # linux/rtnetlink.h
# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_TEMPORARY, IFA_F_DEPRECATED = 0x01, 0x20
# linux/inet_diag.h, linux/sock_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_SKV6ONLY, INET_DIAG_CGROUP_ID = 11, 21
# Protocol number and, as a bit, the state of a listening socket: TCP_LISTEN; for UDP TCP_CLOSE, not connected.
LISTENING = {"tcp": (6, 1 << 10), "udp": (17, 1 << 7)}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}  # rtnetlink(7), in the words of ip(8)


def netlink_list(protocol: int, kind: int, wanted: bytes) -> "Iterator[bytes]":
    """Yield the body of each message of a netlink dump (netlink(7)); raises OSError."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as connection:
        connection.settimeout(NETLINK_SECONDS)
        connection.bind((0, 0))
        connection.send(struct.pack("=IHHII", 16 + len(wanted), kind, NETLINK_LIST, 1, 0) + wanted)
        while True:
            for answer, body in netlink_messages(connection.recv(65536)):
                # Both begin with a negative error number; it is 0 for an end without an error.
                failure = struct.unpack_from("=i", body)[0] if answer in (NETLINK_ERROR, NETLINK_DONE) else 0
                if failure:
                    raise OSError(-failure, os.strerror(-failure))
                if answer == NETLINK_DONE:
                    return
                yield body


def netlink_messages(raw: bytes) -> "Iterator[tuple[int, bytes]]":
    """Yield type and body of each received message; each starts at a multiple of four bytes."""
    import struct  # noqa: PLC0415

    at = 0
    while at + 16 <= len(raw):
        size, kind = struct.unpack_from("=IH", raw, at)
        if size < 16:
            raise OSError("not netlink")
        yield kind, raw[at + 16 : at + size]
        at += size + -size % 4


def netlink_attributes(raw: bytes) -> "dict[int, bytes]":
    """Return the attributes after a message's fixed part, by type (linux/netlink.h, struct nlattr)."""
    import struct  # noqa: PLC0415

    attributes, at = {}, 0
    while at + 4 <= len(raw):
        size, kind = struct.unpack_from("=HH", raw, at)
        if size < 4:
            break
        attributes[kind] = raw[at + 4 : at + size]
        at += size + -size % 4
    return attributes


def read_addresses() -> "list[Json]":
    """Return every address: `{interface, version, address, prefix_length, scope, temporary?, deprecated?}`."""
    import socket  # noqa: PLC0415

    names = dict(socket.if_nameindex())
    # struct ifaddrmsg, all zeros: every family and interface.
    parsed = (parse_address(body, names) for body in netlink_list(NETLINK_ROUTE, RTM_GETADDR, bytes(8)))
    return [address for address in parsed if address]


def parse_address(body: bytes, names: "dict[int, str]") -> "Json | None":
    """Return one address (struct ifaddrmsg: family, prefix, flags, scope, interface), None if it is not IP.

    On a point-to-point link, IFA_ADDRESS is the other end; IFA_LOCAL is ours where it is given.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    family, prefix, flags, scope, index = struct.unpack_from("=BBBBI", body)
    attributes = netlink_attributes(body[8:])
    address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or not address or index not in names:
        return None
    if len(attributes.get(IFA_FLAGS, b"")) == 4:
        flags = struct.unpack("=I", attributes[IFA_FLAGS])[0]
    return shaped_address(
        names[index],
        socket.inet_ntop(family, address),
        {"prefixlen": prefix, "scope": SCOPES.get(scope, str(scope))},
        # For IPv4 the same bit means secondary.
        temporary=family == socket.AF_INET6 and bool(flags & IFA_F_TEMPORARY),
        deprecated=bool(flags & IFA_F_DEPRECATED),
    )


def shaped_address(interface: str, address: str, fields: "Json", **marks: "Any") -> "Json":
    """Return one address as a row of the contract; `fields` has the keys of `ip -j addr`."""
    version = 6 if ":" in address else 4
    row = {"interface": interface, "version": version, "address": address}  # type: Json
    row.update(prefix_length=fields["prefixlen"], scope=fields["scope"])
    row.update((name, True) for name, is_so in marks.items() if is_so)
    return row


def read_listeners(protocol: str, has_room: "Callable[[int], bool]") -> "Iterator[Json]":
    """Yield `{version, address, port, inode, uid, interface?, only_ipv6?, group?}` of listeners; raises OSError.

    From the kernel's socket monitoring (sock_diag(7)).
    `interface` is the one that the socket is bound to, `group` the inode number of the control group that made it
    (since Linux 5.7). No rights are needed. `has_room(uid)` says whether another socket of this user is wanted.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    number, states = LISTENING[protocol]
    names = dict(socket.if_nameindex())
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct inet_diag_req_v2: family, protocol, extensions, states, and an empty socket id.
        wanted = struct.pack("=BBBxI48x", family, number, 0, states)
        for body in netlink_list(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, wanted):
            if has_room(int.from_bytes(body[64:68], sys.byteorder)):
                yield parse_listener(body, names)


def parse_listener(body: bytes, names: "dict[int, str]") -> "Json":
    """Return one socket (struct inet_diag_msg: family … port and address, both in network order … interface … inode)."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    family = body[0]
    address = body[8:12] if family == socket.AF_INET else body[8:24]
    index, inode = struct.unpack_from("=I", body, 40)[0], struct.unpack_from("=I", body, 68)[0]
    attributes = netlink_attributes(body[72:])
    row = {"version": 4 if family == socket.AF_INET else 6, "address": socket.inet_ntop(family, address)}  # type: Json
    row.update(port=int.from_bytes(body[4:6], "big"), inode=inode, uid=struct.unpack_from("=I", body, 64)[0])
    if index in names:
        row["interface"] = names[index]
    if attributes.get(INET_DIAG_SKV6ONLY):
        row["only_ipv6"] = bool(attributes[INET_DIAG_SKV6ONLY][0])
    if len(attributes.get(INET_DIAG_CGROUP_ID, b"")) == 8:
        row["group"] = struct.unpack("=Q", attributes[INET_DIAG_CGROUP_ID])[0]
    return row


# ---------------------------------------------------------------- a network card


def read_permanent_mac(interface: str) -> str:
    """Return the permanent MAC address, "" if none (ETHTOOL_GPERMADDR 0x20 with SIOCETHTOOL 0x8946, linux/ethtool.h)."""
    import array  # noqa: PLC0415
    import fcntl  # noqa: PLC0415
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    answer = array.array("B", struct.pack("II32x", 0x20, 32))
    request = struct.pack("16sP16x", interface.encode("ascii", "replace")[:15], answer.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            fcntl.ioctl(connection, 0x8946, request)
    except OSError:
        return ""
    size = struct.unpack_from("I", answer, 4)[0]
    mac = bytes(answer[8 : 8 + size])
    return ":".join(f"{byte:02x}" for byte in mac) if size == 6 and any(mac) else ""


# ---------------------------------------------------------------- open sockets


def read_open_sockets(pid: int, most: int) -> "tuple[list[int], bool]":
    """Return the inodes of the sockets among the first `most` descriptors of a process, and whether these were all.

    The links of descriptors name them: socket:[12345].
    """
    found = []  # type: list[int]
    try:
        with os.scandir(f"/proc/{pid}/fd") as descriptors:
            for number, descriptor in enumerate(descriptors):
                if number >= most:
                    return found, False
                link = os.readlink(descriptor.path)
                if link.startswith("socket:["):
                    found.append(int(link[8:-1]))
    except OSError:
        return found, True  # another user's process, or it ended meanwhile
    return found, True


# ---------------------------------------------------------------- control groups

GROUP_ROOTS = (b"/sys/fs/cgroup/unified", b"/sys/fs/cgroup")
GROUPS_READ = 5000
GROUPS_OF_ONE = 2000  # in one folder
GROUPS_SECONDS = 1.0


def read_group_ids() -> "dict[int, str]":
    """Return the path of every control group (v2) by its number, the inode of its folder (cgroups(7)).

    Users can create any number of groups in the subtree delegated to them, nested and side by side: shallow groups
    come first, those of users last, and only GROUPS_OF_ONE of each folder count.
    """
    from collections import deque  # noqa: PLC0415

    root = next((path for path in GROUP_ROOTS if is_group(path)), b"")
    found = {os.stat(root).st_ino: b""} if root else {}
    waiting, of_users = deque([b""] if root else []), deque()  # type: deque[bytes], deque[bytes]
    deadline = time.monotonic() + GROUPS_SECONDS
    while (waiting or of_users) and len(found) < GROUPS_READ and time.monotonic() < deadline:
        folder = (waiting or of_users).popleft()
        for number, name in inner_groups(root + folder)[: GROUPS_READ - len(found)]:
            found[number] = folder + b"/" + name
            (of_users if found[number].startswith(b"/user.slice") else waiting).append(found[number])
    return {number: path.decode("utf-8", "surrogateescape") for number, path in found.items()}


def inner_groups(folder: bytes) -> "list[tuple[int, bytes]]":
    """Return inode number and name of the groups in a group, empty if it is gone."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.inode(), entry.name) for _, entry in zip(range(GROUPS_OF_ONE), entries) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def is_group(path: bytes) -> bool:
    """Return whether a folder is a control group (v2)."""
    return os.path.exists(path + b"/cgroup.procs") and os.path.exists(path + b"/cgroup.controllers")
