"""The probe for Linux: tells what this machine is doing, and changes nothing on it.

Python 3.6 or newer, standard library only; it is sent over SSH, runs from memory and answers
requests until its input ends. README.md beside it is the contract: every field, its unit and its
source. This file tells what moves at every poll; the files in sections/ tell the rest, and are sent
before it. To see all that is told of a machine: `cat sections/*.py probe.py | ssh user@host python3 -`.

Order of this file: the door to the system (Host) · children · one block per section, each with
`parse_*` (pure, a sample in its docstring) and `collect_*` · the table COLLECTORS · threads and
time budgets · framing, requests, start. A collector returns its section or raises Missing.
"""

import os
import re
import stat
import sys
import time
import zlib

try:
    import json
except ImportError as err:  # Debian's python3-minimal; said before the marker, so that the reader can name the cure
    sys.exit(f"homelab_monitor needs the whole standard library of Python: {err}")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Callable, Iterable, Iterator

    from .sections.nvml import Nvml
    from .sections.hardware import read_permanent_mac
    from .sections.machine_id import machine_id_hash
    from .sections.netlink import read_addresses, read_listeners
    from .sections.holders import read_open_sockets
    from .sections.sockets import read_group_ids

    Json = dict[str, Any]

PROTOCOL = 1
IDLE_SECONDS = 600.0
PLAIN_BYTES = 1000
REPLY_BYTES = 4 << 20
LINE_BYTES = 1 << 20
ROOTS_FILE_BYTES = 1 << 18
FILE_BYTES = 8 << 20  # of any file that is read at once: the longest that a kernel tells of a machine has a tenth
MOST_LINKS = 40
OUTPUT_BYTES = 2 << 20
MOST_UNREAPED = 8  # children that cannot be ended, before no other is started
ANSWER_BYTES = 4 << 20
HEAD_BYTES = 64 << 10
ANSWER_MARKS = 200000  # of [ { , : in an answer of JSON: each may cost 100 bytes of memory once it is read
ERROR_CHARACTERS = 300
DEFAULT_TIMEOUT = 8.0
AGAIN_SECONDS = 1.0  # how long a reply waits for what was late the last time
SUDO_KIND_SECONDS = 3.0
REFUSED_SECONDS = 3600.0  # how long sudo is not asked again what it has refused
REFRESH_SECONDS = 600.0  # how long something that hardly ever changes is remembered
SUDO = ["sudo", "-n"]
SUDO_RS = ["sudo", "-S", "-k"]  # with -n it asks PAM all the same: a failed login
SUDO_RS_ASKS = re.compile(rb"^\[sudo[:\]]", re.MULTILINE)
SUDO_RS_SAYS = "sudo: interactive authentication is required\n"
SEARCHED_FOLDERS = ("/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
DESCRIPTORS_READ = 10000  # of one process, which may have half a million only to be tiresome
HELD = "/proc/self/fd/"
ZONE_FILE = "/etc/localtime"
CLOCK_BOOTTIME = 7  # time.CLOCK_BOOTTIME needs Python 3.7


class Missing(Exception):
    """A section cannot be told; `reason` is one of the contract's six."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Late(Exception):
    """Something did not answer within its time; of a program `told` is status, output and errors until then."""

    def __init__(self, name: str = "", told: "tuple[int, str, str]" = (-1, "", "")) -> None:
        super().__init__(name)
        self.told = told


class SingleFile(OSError):
    """What is mounted at a path is a file, and no folder."""


class Theirs(PermissionError):
    """Another user than root can change what is at a path, or lead it elsewhere."""


class Asked(Exception):
    """A program asked for something that it will not get."""


class Broken(Exception):
    """Something is there and does not work; the text is its own."""


class TooLong(Broken):
    """A program said more than is read; who can do with a part of it finds status, output and errors in `told`."""

    def __init__(self, name: str, told: "tuple[int, str, str]") -> None:
        super().__init__(name + " says more than is read")
        self.told = told


class NvmlError(Broken):
    """A complaint of NVIDIA's management library; here, as sections come before their base classes."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("NVML: " + text)
        self.code = code


# ---------------------------------------------------------------- what is remembered between requests


class Remembered:
    """What hardly ever changes: read anew when it is old, or when what it hangs on is another.

    A new reading takes the place of the old one as a whole: nothing is emptied first and filled again later. One
    that fails leaves nothing behind, so that the next request reads again.
    """

    def __init__(self, seconds: float = REFRESH_SECONDS) -> None:
        self.seconds = seconds
        self.until = 0.0
        self.hangs_on = None  # type: Any
        self.value = None  # type: Any

    def get(self, now: float, hangs_on: "Any", read: "Callable[[], Any]") -> "Any":
        """Return the value; `now` is the host's clock since it booted, `hangs_on` whatever can be compared."""
        if now >= self.until or hangs_on != self.hangs_on:
            self.until = 0.0
            self.value = read()
            self.hangs_on, self.until = hangs_on, now + self.seconds
        return self.value


class RememberedEach(Remembered):
    """The same for things by name: new names are read at once, names that are gone are forgotten, all become old together."""

    def each(self, now: float, names: "Iterable[str]", read: "Callable[[str], Any]") -> "dict[str, Any]":
        """Return the value of each name."""
        known = self.value if now < self.until else {}
        wanted = tuple(names)
        if now >= self.until or wanted != self.hangs_on:
            self.value = {name: known[name] if name in known else read(name) for name in wanted}
            self.hangs_on, self.until = wanted, self.until if now < self.until else now + self.seconds
        return self.value  # type: ignore[no-any-return]


class Zone:
    """This machine's time zone, which the C library reads once in a process; several threads ask for it.

    glibc looks again at a file only in tzset(3), and only where the name in TZ is another (or there is none), musl only
    where the name is another: so it gets the same file by two names.
    """

    def __init__(self) -> None:
        from _thread import allocate_lock  # noqa: PLC0415

        self.known = None  # type: Any
        self.lock = allocate_lock()

    def offset(self, at: "float | None" = None) -> int:
        """Return how far local time is ahead of UTC, at a moment (Unix seconds) or now, in seconds."""
        with self.lock:
            now = zone_stamp()
            if now != self.known:
                self.known = now
                read_zone()
            return time.localtime(at).tm_gmtoff


def zone_stamp() -> "Any":
    """Return what tells a zone's file from another and says when it was put there, None where there is none."""
    try:
        link, file = os.lstat(ZONE_FILE), os.stat(ZONE_FILE)
    except OSError:
        return None
    return link.st_ctime, file.st_dev, file.st_ino, file.st_mtime, file.st_size


def read_zone() -> None:
    """Let the C library read the zone's file; what this session calls its own zone is not the machine's."""
    folder, name = os.path.split(ZONE_FILE)
    for path in (folder + "/./" + name, ZONE_FILE):
        os.environ["TZ"] = ":" + path
        time.tzset()
    del os.environ["TZ"]  # children read the file by themselves


# ---------------------------------------------------------------- the door to the system


class Host:
    """Everything that the probe asks the system for; `root` lets tests and demos use a recorded tree."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.fsencode(root.rstrip("/"))
        self.unreaped = []  # type: list[Any]
        self.refused_until = {}  # type: dict[str, float]
        self.sudo_kind = Remembered()
        self.zone = Zone()

    def path(self, path: str) -> bytes:
        """Return the real path, as bytes: under LC_ALL=C Python 3.6 cannot encode every name."""
        return self.root + path.encode("utf-8", "surrogateescape")

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises OSError, also where they are too many: users decide how long files of /proc are.

        Not open(): this is half its price, and polls are reads.
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
        """Yield a file's lines, of which there may be very many, as it is read; raises OSError."""
        with open(self.path(path), "rb") as file:
            for line in file:
                yield line.decode("utf-8", "surrogateescape")

    def short_lines(self, path: str, most: int, seconds: float) -> "Iterator[str]":
        r"""Yield a file's lines as it is read; raises OSError, and Late after so many seconds.

        Of one that is much longer its first and its last `most` bytes are read, with a \n between them.
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
        """Return a file's text without the space around it, "" where it cannot be read."""
        try:
            return self.read(path).strip(" \t\r\n")  # not what else Unicode calls a space: names may end with that
        except OSError:
            return ""

    def number(self, path: str) -> "int | None":
        """Return the integer in a file, None where there is none."""
        try:
            return int(self.read_bytes(path))
        except (OSError, ValueError):
            return None

    def names(self, path: str, most: int = 0) -> "list[str]":
        """Return the names in a folder in no order, `most` of them where there is a limit, none where it cannot be listed."""
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
        """Tell whether a path leads somewhere."""
        return os.path.exists(self.path(path))

    def is_link(self, path: str) -> bool:
        """Tell whether a path is a symbolic link."""
        return os.path.islink(self.path(path))

    def is_folder(self, path: str) -> bool:
        """Tell whether a path is a folder; may block on a dead filesystem."""
        return os.path.isdir(self.path(path))

    def may_run(self, path: str) -> bool:
        """Tell whether a path is a program that root could start."""
        try:
            return bool(os.stat(self.path(path)).st_mode & 0o111)
        except OSError:
            return False

    def identity(self, path: str) -> "Any":
        """Return what tells a thing of sysfs from another of the same name, None where there is none.

        The kernel gives each a number of its own; the link of a class says in words which device it is.
        """
        real = self.path(path)
        try:
            return os.stat(real).st_ino, os.readlink(real) if os.path.islink(real) else b""
        except OSError:
            return None

    def link_target(self, path: str) -> str:
        """Return where a link leads, "" where it is none."""
        try:
            return os.readlink(self.path(path)).decode("utf-8", "surrogateescape")
        except OSError:
            return ""

    def link_name(self, path: str) -> str:
        """Return the last part of where a link leads, "" where it is none."""
        return os.path.basename(self.link_target(path))

    def real_path(self, path: str) -> str:
        """Return a path with all links followed."""
        real = os.path.realpath(self.path(path))
        return real[len(os.path.realpath(self.root)) if self.root else 0 :].decode("utf-8", "surrogateescape")

    def tail(self, path: str, size: int) -> bytes:
        """Return a file's last bytes, the first line of which may lack its beginning; raises OSError."""
        return self.tail_of(path, size)[2]

    def tail_of(self, path: str, size: int) -> "tuple[int, int, bytes]":
        """Return the number of a file, where its last bytes begin, and those; raises OSError."""
        with open(self.path(path), "rb") as file:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return os.fstat(file.fileno()).st_ino, start, file.read(size)

    def head(self, path: str, size: int) -> bytes:
        """Return a file's first bytes; raises OSError."""
        with open(self.path(path), "rb") as file:
            return file.read(size)

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return when a file's content and when anything of it changed (Unix seconds), and its size; raises OSError."""
        told = os.stat(self.path(path))
        return told.st_mtime, told.st_ctime, told.st_size

    def status(self, path: str, follow: bool = False) -> "tuple[int, int, int]":
        """Return mode, owner and size of what a path names, of a link itself unless it is followed; raises OSError."""
        told = os.stat(self.path(path)) if follow else os.lstat(self.path(path))
        return told.st_mode, told.st_uid, told.st_size

    def owner(self, path: str) -> int:
        """Return whose something is, -1 where there is nothing."""
        try:
            return self.status(path)[1]
        except OSError:
            return -1

    def roots_status(self, path: str) -> "tuple[int, int, int]":
        """Return the status of where a path leads; raises Theirs where anybody but root can lead it elsewhere, OSError.

        Each step is looked at before it is taken, so that nothing is entered that another user may have mounted.
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
            # In a folder with the sticky bit nobody replaces what is another's.
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
        """Return the size of a regular file that only root can change or replace; raises Theirs, OSError where it is none.

        Whoever opens anything else may wait for ever, read without end, or start a device.
        """
        mode, _, size = self.roots_status(path)
        if not stat.S_ISREG(mode) or size > most:
            raise OSError("no file that is read")
        return size

    def read_roots(self, path: str) -> str:
        """Return the text of such a file; raises Theirs, OSError. What the kernel makes up (in /proc) has no size."""
        return self.read(path) if self.check_roots_file(path, ROOTS_FILE_BYTES) else ""

    def program(self, pid: int) -> "tuple[str, int, int] | None":
        """Return path, mode and owner of the program that a process runs, None where that may not be seen."""
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

        `mount` is the id of the mount that is meant: whoever owns a folder above may have mounted something over it, or
        put something else in its place.
        """
        fd = os.open(self.path(path), os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{fd}") as file:
                found = re.search(r"^mnt_id:\s*(\d+)$", file.read(), re.MULTILINE)
            if found and found.group(1) != mount:
                raise OSError("another filesystem has been mounted over it")
            if not may_be_file and not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise SingleFile(path)
            told = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return told.f_frsize, told.f_blocks, told.f_bfree, told.f_bavail, told.f_files, told.f_ffree

    def run(
        self, argv: "list[str]", timeout: float, tail: bool = False, wanted: "Any" = None
    ) -> "tuple[int, str, str]":
        """Run a program without a shell; return exit status, output, errors; raises Late, FileNotFoundError, TooLong.

        Nobody takes the beginning for the whole: of what is too long the end is told where that is wanted (`tail`), else
        it is an error. `wanted` is a pattern (of bytes): only the lines that it is found in are kept.
        """
        return run_child(argv, timeout, self.unreaped, tail, wanted)

    def run_sudo(self, argv: "list[str]", timeout: float, wanted: "Any" = None) -> "tuple[int, str, str]":
        """Run a program as root's by a sudo that is given no password; the same as `run` else.

        To sudo-rs the end of its input is a wrong password, three of which may lock the account (pam_faillock): it is let
        ask, and killed while it waits.
        """
        if not self.sudo_kind.get(self.boottime(), None, self.has_sudo_rs):
            return self.run(SUDO + argv, timeout, wanted=wanted)
        try:
            return run_child(SUDO_RS + argv, timeout, self.unreaped, wanted=wanted, question=SUDO_RS_ASKS)
        except Asked:
            return 1, "", SUDO_RS_SAYS

    def has_sudo_rs(self) -> bool:
        """Tell whether sudo is the one that is written in Rust."""
        try:
            return any(said.startswith("sudo-rs") for said in self.run(["sudo", "--version"], SUDO_KIND_SECONDS)[1:])
        except (FileNotFoundError, TooLong):
            return False

    def connect(self, path: str, timeout: float, uid: "int | None" = None) -> "Any":
        """Return a stream socket that leads to a path, each step of it bounded by `timeout`; raises OSError.

        Where a `uid` is named, the file and who listens there have to be that user's. Its path may lead elsewhere after
        each look, and only to connect starts a service of root's (systemd.socket(5)): so what was looked at is held, and
        connected to by the kernel's own name of it. Without /proc nobody is asked.
        """
        import socket  # noqa: PLC0415

        door, held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), -1
        door.settimeout(timeout)
        try:
            if uid is None:
                door.connect(self.path(path))
                return door
            held = self.hold_socket(path, uid)
            door.connect(f"{HELD}{held}")
            peer = door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # struct ucred: pid, uid, gid (unix(7))
            if int.from_bytes(peer[4:8], sys.byteorder) != uid:
                raise OSError("somebody else listens there")
        except OSError:
            door.close()
            raise
        finally:
            if held >= 0:
                os.close(held)
        return door

    def hold_socket(self, path: str, uid: int) -> int:
        """Return a descriptor of a socket in a folder, neither of them a link, and both a user's; may block, raises OSError."""
        folder, name = os.path.split(self.path(path))
        place = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            around, told = os.fstat(place), os.fstat(held)
        finally:
            os.close(place)
        if stat.S_ISSOCK(told.st_mode) and stat.S_ISDIR(around.st_mode) and told.st_uid == around.st_uid == uid:
            return held
        os.close(held)
        raise OSError("no socket of that user")

    def is_socket_of(self, path: str, uid: int) -> bool:
        """Tell whether there is a socket of a user's that `connect` would take; may block."""
        try:
            os.close(self.hold_socket(path, uid))
        except OSError:
            return False
        return True

    def is_root(self) -> bool:
        """Tell whether this user may do everything."""
        return self.uid() == 0

    def uid(self) -> int:
        """Return who this user is."""
        return os.geteuid()

    def boottime(self) -> float:
        """Return seconds since boot, sleep included."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def epoch(self) -> float:
        """Return the wall clock."""
        return time.time()

    def timezone_offset(self, at: "float | None" = None) -> int:
        """Return how far local time is ahead of UTC, at a moment or now, in seconds."""
        return self.zone.offset(at)

    def timezone_since(self) -> float:
        """Return when the time zone became what it is (Unix seconds), 0 where that is not known."""
        told = zone_stamp()
        return float(told[0]) if told else 0.0

    def uname(self) -> "tuple[str, str, str]":
        """Return host name, kernel release, architecture."""
        told = os.uname()
        return told.nodename, told.release, told.machine

    def python(self) -> str:
        """Return the version of this Python."""
        return ".".join(map(str, sys.version_info[:3]))

    def ticks(self) -> int:
        """Return how many of /proc/stat's units make a second."""
        return os.sysconf("SC_CLK_TCK")

    def may_ask_sudo(self, argv: "list[str]") -> bool:
        """Tell whether sudo may be asked: it logs each refusal, so a command is tried again after an hour at the soonest."""
        return self.boottime() >= self.refused_until.get(" ".join(argv), 0.0)

    def note_refusal(self, argv: "list[str]", seconds: float = REFUSED_SECONDS) -> None:
        """Remember that sudo does not let us run a command, or that it is no use for a while."""
        self.refused_until[" ".join(argv)] = self.boottime() + seconds

    def permanent_mac(self, interface: str) -> str:
        """Return the address burnt into a network card, "" where it has none (ethtool_ioctl, needs no root)."""
        return read_permanent_mac(interface)

    def addresses(self) -> "list[Json]":
        """Return the IP addresses of all interfaces as `read_addresses` shapes them; raises OSError."""
        return read_addresses()

    def source_address(self) -> str:
        """Return the IPv4 address that the kernel would send from to the internet, "" where it would not.

        To connect a UDP socket looks the route up, with its `src`, and sends nothing (udp(7)); nobody has this address
        (TEST-NET-2, RFC 5737).
        """
        import socket  # noqa: PLC0415

        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
                door.connect(("198.51.100.1", 9))
                return str(door.getsockname()[0])
        except OSError:
            return ""

    def listeners(self, protocol: str, has_room: "Callable[[int], bool]") -> "Iterable[Json]":
        """Yield the sockets of `tcp` or `udp` that listen as `read_listeners` shapes them; raises OSError."""
        return read_listeners(protocol, has_room)

    def open_sockets(self, pid: int, most: int) -> "tuple[list[int], bool]":
        """Return the inodes of a process's sockets, none of one that this user may not look at, and whether that is all."""
        return read_open_sockets(pid, most)

    def group_ids(self) -> "dict[int, str]":
        """Return the path of every control group of version 2 by its number."""
        return read_group_ids()

    def nvml(self) -> "Nvml":
        """Return NVIDIA's management library; raises OSError where it is not installed."""
        return Nvml()


class RecordedHost(Host):
    """A machine recorded as a tree of files; `.host.json` in it answers what is not a file.

    Keys: `clocks` {boottime, epoch, timezone_offset} (left out: the real ones, for a demo), `uname`,
    `python`, `is_root`, `uid`, `statvfs` {mountpoint: six numbers}, `stamps` {path: three numbers}, `owners` {path: user}, `modes` {path: rights}, `run` {command: {status,
    output, errors} or a file's name in the tree}, `lists` {folder: names added to those in the tree}, `permanent_macs`,
    `addresses`, `source_address`, `listeners` {protocol: rows}, `open_sockets` {pid: inodes}, `group_ids` {number: path}, `denied` [sockets
    that the user may not use]. A socket that speaks HTTP is a folder of answers.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.told = json.loads(self.read("/.host.json"))  # type: Json

    def recorded(self, name: str) -> "Any":
        """Return what one door told; one that did not open when the machine was recorded stays shut."""
        if name not in self.told:
            raise FileNotFoundError(name)
        return self.told[name]

    def names(self, path: str, most: int = 0) -> "list[str]":
        """Return the names in a folder, recorded extras included."""
        extra = self.told.get("lists", {}).get(path, [])  # type: list[str]
        return [name for name in super().names(path, most) if name not in extra] + extra

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return what was recorded: a copy of a file has other times."""
        told = self.told.get("stamps", {}).get(path)
        if told is None:
            raise FileNotFoundError(path)
        return tuple(told)

    def status(self, path: str, follow: bool = False) -> "tuple[int, int, int]":
        """Return what was recorded, else a file of root's: a copy has another owner and other rights."""
        told = os.lstat(self.path(path))
        kind = stat.S_IFREG if follow else stat.S_IFMT(told.st_mode)
        mode = int(self.told.get("modes", {}).get(path, 0o644))
        return kind | mode, int(self.told.get("owners", {}).get(path, 0)), told.st_size

    def uid(self) -> int:
        """Return who recorded the machine, not who replays it."""
        return int(self.told.get("uid", 0 if self.told.get("is_root") else 1000))

    def is_socket_of(self, path: str, uid: int) -> bool:  # noqa: ARG002
        """Tell whether there are answers: a copy of a socket has another owner."""
        return self.is_folder(path) and not self.is_link(path)

    def statvfs(  # noqa: D102 - what was recorded
        self,
        path: str,
        mount: str,  # noqa: ARG002
        may_be_file: bool = True,
    ) -> "tuple[int, int, int, int, int, int]":
        if not may_be_file and self.exists(path) and not self.is_folder(path):
            raise SingleFile(path)
        told = self.told.get("statvfs", {}).get(path)
        if told is None:
            raise FileNotFoundError(path)
        return tuple(told)

    def run(  # noqa: PLR0913
        self,
        argv: "list[str]",
        timeout: float,  # noqa: ARG002
        tail: bool = False,  # noqa: ARG002
        wanted: "Any" = None,  # noqa: ARG002
    ) -> "tuple[int, str, str]":
        """Return what the program said when the machine was recorded."""
        told = self.told.get("run", {}).get(" ".join(argv))
        if told is None:
            raise FileNotFoundError(argv[0])
        if isinstance(told, str):
            return 0, self.read("/" + told), ""
        return told.get("status", 0), told.get("output", ""), told.get("errors", "")

    def has_sudo_rs(self) -> bool:
        """Tell that sudo is the older one: the questions of the other cannot be recorded."""
        return False

    def connect(self, path: str, timeout: float, uid: "int | None" = None) -> "Any":  # noqa: ARG002
        """Return who gives the recorded answers; a conversation of another kind cannot be recorded."""
        if path in self.told.get("denied", ()):
            raise PermissionError(path)
        if not self.is_folder(path):
            raise FileNotFoundError(path)
        return RecordedDoor(self, path)

    def boottime(self) -> float:
        """Return the recorded clock, else the real one."""
        return self.told.get("clocks", {}).get("boottime") or super().boottime()

    def epoch(self) -> float:
        """Return the recorded clock, else the real one."""
        return self.told.get("clocks", {}).get("epoch") or super().epoch()

    def timezone_offset(self, at: "float | None" = None) -> int:  # noqa: ARG002
        """Return what was recorded."""
        return int(self.told.get("clocks", {}).get("timezone_offset", 0))

    def timezone_since(self) -> float:
        """Tell that this is not known: a copy of the file has another time."""
        return 0.0

    def uname(self) -> "tuple[str, str, str]":
        """Return what was recorded."""
        return tuple(self.told.get("uname", ("recorded", "", "")))

    def python(self) -> str:
        """Return what was recorded."""
        return self.told.get("python") or super().python()

    def ticks(self) -> int:
        """Return Linux' usual answer."""
        return 100

    def permanent_mac(self, interface: str) -> str:
        """Return what was recorded."""
        return str(self.told.get("permanent_macs", {}).get(interface, ""))

    def addresses(self) -> "list[Json]":
        """Return what was recorded."""
        return self.recorded("addresses")  # type: ignore[no-any-return]

    def source_address(self) -> str:
        """Return what was recorded."""
        return str(self.told.get("source_address", ""))

    def listeners(self, protocol: str, has_room: "Callable[[int], bool]") -> "Iterable[Json]":  # noqa: ARG002
        """Return what was recorded."""
        return self.recorded("listeners")[protocol]  # type: ignore[no-any-return]

    def open_sockets(self, pid: int, most: int) -> "tuple[list[int], bool]":
        """Return what was recorded."""
        told = self.told.get("open_sockets", {}).get(str(pid), [])
        return told[:most], len(told) <= most

    def group_ids(self) -> "dict[int, str]":
        """Return what was recorded."""
        return {int(number): path for number, path in self.told.get("group_ids", {}).items()}

    def nvml(self) -> "Nvml":
        """Refuse: a library cannot be recorded; the cards come from the recorded nvidia-smi."""
        raise OSError("recorded")


class RecordedDoor:
    """A socket whose other end gives recorded answers: the body of GET /a/b?c is the file a/b in the socket's folder."""

    def __init__(self, host: RecordedHost, folder: str) -> None:
        self.host = host
        self.folder = folder
        self.answers = b""

    def settimeout(self, seconds: float) -> None:
        """Need no time."""

    def sendall(self, request: bytes) -> None:
        """Look the answer up."""
        target = request.split(b" ", 2)[1].partition(b"?")[0].decode("ascii")
        try:
            status, body = b"200 OK", self.host.read_bytes(self.folder + target)
        except OSError:
            status, body = b"404 Not Found", b'{"message": "not recorded"}'
        self.answers += b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    def recv(self, size: int) -> bytes:
        """Hand the answers out."""
        chunk, self.answers = self.answers[:size], self.answers[size:]
        return chunk

    def close(self) -> None:
        """Hang up."""


class HttpDoor:
    """HTTP/1.1 through a socket of this machine, for JSON; no step of it lasts beyond the deadline.

    The other end may be anybody's: nothing that it says costs more time or memory than the limits here.
    """

    def __init__(self, host: "Host", path: str, deadline: float, stream: "Any" = None) -> None:
        self.deadline = deadline
        self.cpu_until = float("inf")  # by this thread's clock
        self.limit = ANSWER_BYTES
        self.marks = ANSWER_MARKS
        self.stream = stream or host.connect(path, self.left())
        self.buffer = bytearray()

    def left(self) -> float:
        """Return the seconds that are left; raises Late when none are, of time or of this thread's own."""
        left = self.deadline - time.monotonic()
        if left <= 0 or cpu_clock() > self.cpu_until:
            raise Late
        return left

    def ask(self, target: str) -> "Any":
        """Return the JSON behind a target, None where there is none; raises OSError, ValueError, Late, Broken."""
        body = self.fetch(target)
        return None if body is None else parse_json(body, self.marks)

    def fetch(self, target: str) -> "bytes | None":
        """Return the bytes behind a target, None where there are none; raises as `ask`."""
        self.stream.settimeout(self.left())
        self.stream.sendall(b"GET " + target.encode("ascii") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = self.answer()
        if status not in (200, 404):
            told = parse_json(body, self.marks)
            raise Broken(first_line(str(told.get("message") if isinstance(told, dict) else "") or f"status {status}"))
        return body if status == 200 else None

    def answer(self) -> "tuple[int, bytes]":
        """Return status and body of the next answer (RFC 9112)."""
        head = self.until(b"\r\n\r\n").decode("latin-1").lower()
        status = re.match(r"http/1\.[01] (\d{3})\b", head)
        if status is None:
            raise ValueError("no HTTP")
        if re.search(r"\ntransfer-encoding: *chunked", head):
            return int(status.group(1)), self.chunks()
        length = re.search(r"\ncontent-length: *(\d{1,10})\s*$", head, re.MULTILINE)
        if length is None:
            raise ValueError("an answer of unknown length")
        return int(status.group(1)), self.exactly(int(length.group(1)))

    def chunks(self) -> bytes:
        """Return a chunked body."""
        body, size = bytearray(), -1
        while size:
            told = re.match(rb"[0-9a-fA-F]{1,8}(?=\s*(?:;|$))", self.until(b"\r\n"))
            if told is None:
                raise ValueError("no chunk")
            size = int(told.group(), 16)
            self.left()  # small pieces take long, and need not be waited for
            if len(body) + size > self.limit:
                raise ValueError("an answer without end")
            body += self.exactly(size)
            self.until(b"\r\n")
        return bytes(body)

    def until(self, mark: bytes) -> bytes:
        """Return what comes before a mark, and drop the mark."""
        begin = 0
        while True:
            place = self.buffer.find(mark, begin)
            if place >= 0:
                return self.cut(place, len(mark))
            if len(self.buffer) > HEAD_BYTES:
                raise ValueError("a line without end")
            begin = max(0, len(self.buffer) - len(mark) + 1)
            self.more()

    def cut(self, size: int, dropped: int = 0) -> bytes:
        """Take that many bytes off the beginning of what came, and drop some behind them; costs what is taken, not what is left."""
        content = bytes(self.buffer[:size])
        del self.buffer[: size + dropped]
        return content

    def exactly(self, size: int) -> bytes:
        """Return that many bytes."""
        if size > self.limit:
            raise ValueError("an answer without end")
        content = bytearray()
        while True:
            content += self.cut(size - len(content))
            if len(content) == size:
                return bytes(content)
            self.more()

    def more(self) -> None:
        """Read on."""
        self.stream.settimeout(self.left())
        chunk = self.stream.recv(65536)
        if not chunk:
            raise ValueError("an answer that breaks off")
        self.buffer += chunk

    def close(self) -> None:
        """End it."""
        self.stream.close()


def cpu_clock() -> float:
    """Return the seconds that this thread has computed."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


def parse_json(body: bytes, marks: int) -> "Any":
    """Return a document; raises ValueError also for what is made to cost much: many values, depth, endless numbers."""
    if sum(map(body.count, (b"[", b"{", b",", b":"))) > marks:
        raise ValueError("a document of too many values")
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_int=parse_number, parse_float=parse_number, parse_constant=parse_number)
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None


def parse_number(text: str) -> "int | float":
    """Return a number of JSON; raises ValueError for NaN, infinity, and numbers that take long to read."""
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
    """Run a program in a session of its own; what is late, or asks, is killed with all its children, and reaped.

    Raises TooLong with what was read where it says more than that, Late with what it had said by then.

    `question` is a pattern of what it says to stderr when it asks: its input stays open then.
    """
    import subprocess  # noqa: PLC0415 - not every poll needs it, and it is slow to load

    unreaped[:] = [child for child in unreaped if child.poll() is None]
    if len(unreaped) >= MOST_UNREAPED:
        raise Late(argv[0])
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    source = pipe if question else null
    child = subprocess.Popen(argv, stdin=source, stdout=pipe, stderr=pipe, start_new_session=True)
    deadline, said = time.monotonic() + timeout, [b"", b""]
    try:
        is_cut = read_child(child, deadline, said, tail, wanted, question)
        status = child.wait(max(0.1, deadline - time.monotonic()))
    except (Late, subprocess.TimeoutExpired):
        end_child(child, unreaped)
        raise Late(argv[0], (-1, said[0].decode("utf-8", "replace"), said[1].decode("utf-8", "replace"))) from None
    except Asked:
        end_child(child, unreaped)
        raise
    finally:
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream:
                stream.close()
    told = (status, said[0].decode("utf-8", "replace"), said[1].decode("utf-8", "replace"))
    if is_cut:
        raise TooLong(argv[0], told)
    return told


def read_child(
    child: "Any", deadline: float, said: "list[bytes]", tail: bool, wanted: "Any" = None, question: "Any" = None
) -> bool:
    """Read the beginning or the end of what a child writes until it closes both streams; raises Late, Asked.

    Return whether the end of its output is missing; of its errors nobody needs it. `said` is what was read of both.
    """
    import select  # noqa: PLC0415

    order, waiting, rest, is_cut = [child.stdout.fileno(), child.stderr.fileno()], select.poll(), b"", False
    for fd in order:
        waiting.register(fd)
    left = set(order)
    while left:
        ready = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready or time.monotonic() > deadline:  # who never stops is late as well
            raise Late
        for fd, _ in ready:
            chunk, at = os.read(fd, 65536), order.index(fd)
            if not chunk:
                waiting.unregister(fd)
                left.discard(fd)
            if wanted and at == 0:
                chunk, rest = sift(rest, chunk or b"\n", wanted)
            if tail:
                said[at] = (said[at] + chunk)[-OUTPUT_BYTES:]
            elif len(said[at]) < OUTPUT_BYTES:
                said[at] += chunk
            elif chunk and at == 0:
                is_cut = True
            if question and at == 1 and question.search(said[at]):
                raise Asked
    return is_cut


def sift(rest: bytes, chunk: bytes, wanted: "Any") -> "tuple[bytes, bytes]":
    """Return the whole lines in which a pattern is found, and the beginning of one that is still to come."""
    lines = (rest + chunk).split(b"\n")
    return b"".join(line + b"\n" for line in lines[:-1] if wanted.search(line)), lines[-1][:LINE_BYTES]


def end_child(child: "Any", unreaped: "list[Any]") -> None:
    """Kill a child with its whole session; one that the kernel holds back is reaped later."""
    import signal  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        unreaped.append(child)  # root's, by sudo: it ends by itself, as nobody reads any more what it says
        return
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        unreaped.append(child)


# ---------------------------------------------------------------- a request


class Request:
    """What one request line asks for."""

    def __init__(self, wanted: "Json") -> None:
        self.begun = time.monotonic()
        self.id = str(wanted.get("id", "?"))
        self.sections = names_in(wanted.get("sections"))
        self.sudo = names_in(wanted.get("sudo"))
        watch = wanted.get("watch")
        self.watch = {key: names_in(value) for key, value in watch.items()} if isinstance(watch, dict) else {}
        told = wanted.get("timeout", DEFAULT_TIMEOUT)
        self.timeout = min(max(float(told), 0.5), 300.0) if isinstance(told, (int, float)) else DEFAULT_TIMEOUT


def names_in(value: object) -> "list[str]":
    """Return the strings of a JSON list, without repetitions."""
    if not isinstance(value, list):
        return []
    return list(dict.fromkeys(name for name in value if isinstance(name, str)))


def parse_request(line: bytes) -> Request:
    r"""Return the request in a line; raises ValueError.

    {"id": "7", "sections": ["cpu"], "sudo": [], "watch": {"services": ["nginx.service"]}, "timeout": 8}
    """
    wanted = json.loads(line.decode("utf-8"))
    if not isinstance(wanted, dict) or not isinstance(wanted.get("sections"), list):
        raise ValueError("a request is an object with a list of sections")  # noqa: TRY004 - as for any other nonsense
    if not re.match(r"[0-9A-Za-z_.-]{1,40}$", str(wanted.get("id", ""))):
        raise ValueError("a request has an id of letters and digits")
    return Request(wanted)


def lines_of(text: str) -> "list[str]":
    r"""Return the lines of what the kernel or a program says, by the only end of a line that they know.

    Not splitlines(): that takes \v, \f, \x1c to \x1e, \x85 and two marks of Unicode for an end as well, and whoever may
    name a control group, a filesystem or a process could write a line of his own with them.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def first_line(text: str) -> str:
    """Return the first line that says something, in printable characters and bounded."""
    lines = (" ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", line).split()) for line in lines_of(text.replace("\r", "\n")))
    return next((line for line in lines if line), "")[:ERROR_CHARACTERS]


# How programs begin the line that says why they failed; before it stand warnings, progress and what they set out to do.
# apt-get(8) "E: ", dnf(8) and podman "Error: ", pacman(8) "error: ", apk(8) "ERROR: ", docker "Error response …", dpkg(1)
# "dpkg: error …", git's kin "fatal: ", zypper(8) with --xmlout <message type="error">, opkg " * opkg_lock: …", dnf's
# resolver " Problem: ", systemctl's kin. One with nothing behind it is a heading.
REASON = re.compile(
    r"^[ \t]*(?:E:|(?:[\w./ -]{1,40}(?:\[\d+\])?: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL)\b:?"
    r"|Problem:|\* [\w.-]+:|Failed to|Job for|Unit|Call to)[ \t]+\S.*"
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)


def reason_in(text: str) -> str:
    """Return the line that says why a program failed, else the first one that says something.

    WARNING: apt does not have a stable CLI interface. Use with caution in scripts.
    E: The package lists or status file could not be parsed or opened.
    """
    told = REASON.search(text)
    return first_line(told.group() if told else text)


# ---------------------------------------------------------------- numbers


def within(value: "Any", least: float, most: "Any") -> "Any":
    """Return a number that can be, None for any other: what is made of numbers that do not fit is told of nothing."""
    return value if value is not None and most is not None and least <= value <= most else None


def difference(whole: "int | None", part: "int | None") -> "int | None":
    """Return what is left of the whole without a part of it, None where that is no part of it."""
    return None if within(part, 0, whole) is None else whole - part  # type: ignore[operator]


def told_of(row: "Json") -> "Json":
    """Return a row without what cannot be told."""
    return {key: value for key, value in row.items() if value is not None}


# ---------------------------------------------------------------- cpu


def parse_stat(text: str, ticks: int) -> "tuple[dict[str, float], list[list[float]]]":
    """Return the times of all CPUs together and (busy, total) of each, in seconds (proc_stat(5)).

    cpu  12160 0 7062 175670 920 0 544 2674 0 0
    cpu0 3573 0 2399 92005 151 0 76 1402 0 0
    intr 1290122 0 26 …
    """
    times = {}  # type: dict[str, float]
    cores = []
    for line in lines_of(text):
        if not line.startswith("cpu"):
            break
        name, _, rest = line.partition(" ")
        counted = [int(word) for word in rest.split()]
        if name == "cpu":
            times = cpu_times(counted, ticks)
        else:
            cores.append(core_times(counted, ticks))
    if not times:
        raise Missing("unreadable")
    return times, cores


CPU_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def cpu_times(counted: "list[int]", ticks: int) -> "dict[str, float]":
    """Return seconds by state, which together are all the time there is: that of guests is in user and nice already."""
    return {name: round(value / ticks, 2) for name, value in zip(CPU_STATES, counted + [0] * 8)}


def core_times(counted: "list[int]", ticks: int) -> "list[float]":
    """Return (busy, total) seconds of one core, of the same states."""
    total = sum(counted[:8])
    idle = sum(counted[3:5])
    return [round((total - idle) / ticks, 2), round(total / ticks, 2)]


def collect_cpu(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/stat and the current frequencies."""
    at = host.boottime()
    times, cores = parse_stat(host.read("/proc/stat"), host.ticks())
    section = {"at": round(at, 3), "times": times, "cores": cores}  # type: Json
    frequency = mean_frequency(host, memo)
    if frequency:
        section["frequency_hz"] = frequency
    return section


def frequency_files(host: Host) -> "list[str]":
    """Return where the frequencies stand; policies come and go with CPUs that are switched on and off."""
    folder = "/sys/devices/system/cpu/cpufreq/"
    policies = sorted(name for name in host.names(folder) if name.startswith("policy"))
    return [folder + name + "/scaling_cur_freq" for name in policies[:: max(1, -(-len(policies) // 16))]]


def mean_frequency(host: Host, memo: "Json") -> "int | None":
    """Return the mean of cpufreq's policies; of at most 16 evenly spread ones, as each read costs."""
    policies = memo.setdefault("policies", Remembered()).get(host.boottime(), None, lambda: frequency_files(host))
    kilohertz = [value for value in map(host.number, policies) if value]
    return round(sum(kilohertz) / len(kilohertz)) * 1000 if kilohertz else None


# ---------------------------------------------------------------- memory, load, pressure, uptime


MEMINFO = re.compile(
    r"^(MemTotal|MemFree|MemAvailable|Buffers|Cached|SwapTotal|SwapFree|Shmem|SReclaimable):\s*(\d+) kB", re.MULTILINE
)

REPLACED_FILE = re.compile(r"\d+ \d+ \S+ \S+ (/proc/\S+) ")


def parse_meminfo(text: str) -> "dict[str, int]":
    """Return the sizes of /proc/meminfo that are wanted, in bytes (proc_meminfo(5)).

    MemTotal:       24684096 kB
    MemAvailable:   22995468 kB
    """
    return {name: int(kibibytes) * 1024 for name, kibibytes in MEMINFO.findall(text)}


def replaced_files(host: Host, memo: "Json") -> "frozenset[str]":
    """Return the files of /proc that are mounts of their own: lxcfs tells a container's numbers there (lxcfs(1)).

    All others, and /sys, are about the whole machine: a number of one kind and one of the other make none together.
    """
    found = memo.setdefault("replaced", Remembered())
    return found.get(host.boottime(), None, lambda: frozenset(mounted_files(host)))  # type: ignore[no-any-return]


MOUNT_BYTES = 1 << 15  # of each end of a line; a path has 4095 bytes, and a space in it is written with four
MOUNTS_SECONDS = 1.5


def mount_lines(host: Host) -> "Iterator[str]":
    """Yield the lines of the list of mounts (proc_pid_mountinfo(5)); raises OSError, Late.

    Whoever nests folders in each other makes a line of what is mounted in them as long as they like.
    """
    return host.short_lines("/proc/self/mountinfo", MOUNT_BYTES, MOUNTS_SECONDS)


def mounted_files(host: Host) -> "Iterator[str]":
    """Yield the files of /proc that something is mounted over, as far as the list of mounts can be read."""
    try:
        for line in mount_lines(host):
            found = REPLACED_FILE.match(line)
            if found:
                yield found.group(1)
    except (OSError, Late):
        return


def collect_memory(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/meminfo and count as `free` does."""
    told = parse_meminfo(host.read("/proc/meminfo"))
    if "MemTotal" not in told:
        raise Missing("unreadable")
    cached = told.get("Cached", 0) + told.get("SReclaimable", 0)
    buffers, free = told.get("Buffers", 0), told.get("MemFree", 0)
    total = told["MemTotal"]
    available = within(told.get("MemAvailable"), 0, total)
    if available is None:
        # Kernels before 3.14 (OpenVZ) have none, and lxcfs may tell the machine's; the caches then count as available.
        available = within(difference(free + buffers + cached, told.get("Shmem", 0)) or 0, 0, total)
    section = {
        "total_bytes": total,
        "available_bytes": available,
        "free_bytes": free,
        "buffers_bytes": buffers,
        "cached_bytes": cached,
        "shared_bytes": told.get("Shmem", 0),
        "swap_total_bytes": told.get("SwapTotal", 0),
        "swap_free_bytes": told.get("SwapFree", 0),
    }
    section = told_of(section)
    try:
        cache = parse_arcstats(host.read("/proc/spl/kstat/zfs/arcstats"))
    except OSError:
        return section
    # A container sees the cache of the whole machine, which is no part of its own memory.
    if "/proc/meminfo" not in replaced_files(host, memo):
        section["zfs_cache_bytes"] = cache
    return section


def parse_arcstats(text: str) -> int:
    """Return the bytes of ZFS's cache (ARC) that it gives back when programs need them: all above its minimum.

    name                            type data
    size                            4    20132659200
    c_min                           4    1048576000
    """
    told = dict(re.findall(r"^(size|c_min)\s+\d+\s+(\d+)$", text, re.MULTILINE))
    return difference(int(told.get("size", 0)), int(told.get("c_min", 0))) or 0


def parse_loadavg(text: str) -> "Json":
    """Return load averages and thread counts (proc_loadavg(5)).

    0.13 0.18 0.12 1/86 5288
    """
    words = text.split()
    running, _, threads = words[3].partition("/")
    loads = {"load1": float(words[0]), "load5": float(words[1]), "load15": float(words[2])}  # type: Json
    loads.update(running=int(running), threads=int(threads))
    return loads


def collect_load(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/loadavg; processes are counted every 30 seconds."""
    section = parse_loadavg(host.read("/proc/loadavg"))
    # With 500 processes the listing costs as much as all else here together.
    processes = memo.setdefault("processes", Remembered(30.0))
    section["processes"] = processes.get(host.boottime(), None, lambda: count_processes(host))
    return told_of(section)


def count_processes(host: Host) -> "int | None":
    """Return how many processes there are, None where this user sees no others than his own (hidepid of proc(5))."""
    names = host.names("/proc")
    return sum(map(str.isdigit, names)) if "1" in names else None


def parse_pressure(text: str) -> "dict[str, float]":
    """Return averages in percent and totals in seconds (Documentation/accounting/psi.rst).

    some avg10=0.00 avg60=0.31 avg300=1.12 total=19083241
    full avg10=0.00 avg60=0.00 avg300=0.00 total=0
    """
    stalls = {}
    for line in lines_of(text):
        kind, _, rest = line.partition(" ")
        for word in rest.split():
            name, _, value = word.partition("=")
            if name == "total":
                stalls[kind + "_total_seconds"] = round(int(value) / 1e6, 3)
            else:
                stalls[kind + "_" + name] = float(value)
    return stalls


def collect_pressure(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/pressure; a kernel with psi=0 has the files and refuses to read them."""
    section = {}
    for name in ("cpu", "memory", "io"):
        try:
            section[name] = parse_pressure(host.read("/proc/pressure/" + name))
        except PermissionError:
            raise
        except OSError:
            continue
    if not section:
        raise Missing("not_supported")
    return section


def collect_uptime(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/uptime, which a container's lxcfs replaces by the container's own."""
    return {"uptime_seconds": float(host.read("/proc/uptime").split()[0])}


# ---------------------------------------------------------------- network

INTERFACE_FIELDS = ("bytes", "packets", "errors", "drops")
# What container engines, hypervisors and the kernel itself make; a name is all that tells them from a user's own.
FOREIGN_INTERFACE = re.compile(
    r"veth|tap\d|tap$|vnet\d|docker|br-[0-9a-f]{12}$|virbr|cni|podman|cali|flannel|cilium|lxc|lxd|incusbr|kube|nodelocaldns"
    r"|weave|vxlan\.calico|fwbr|fwpr|fwln|ovs-system|hassio|dummy|ifb|sit0$|tunl0$|gre0$|gretap0$|erspan0$|ip_vti0$|ip6_vti0$"
    r"|ip6tnl0$|ip6gre0$|teql0$|lo$"
)
DEVTYPES = {"bridge": "bridge", "bond": "bond", "vlan": "vlan", "wlan": "wireless", "wwan": "wwan", "wireguard": "vpn"}


def parse_net_dev(text: str) -> "Iterator[tuple[str, str]]":
    """Yield each interface's name and its counters, not yet cut into numbers: most are never looked at.

    Inter-|   Receive                            |  Transmit
     face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
      eth0: 1923226034  106594    0    0    0     0     0     0  6321903   47788    0    0    0     0     0     0
    """
    for line in lines_of(text)[2:]:
        name, _, counters = line.rpartition(":")
        yield name.strip(), counters


def interface_counters(counters: str) -> "dict[str, int]":
    """Return one interface's counters by name."""
    numbers = [int(word) for word in counters.split()]
    section = {"receive_" + name: numbers[i] for i, name in enumerate(INTERFACE_FIELDS)}
    section.update(("transmit_" + name, numbers[8 + i]) for i, name in enumerate(INTERFACE_FIELDS))
    return section


def parse_route(text: str) -> "Iterator[tuple[int, str, str]]":
    """Yield metric, interface and gateway of each IPv4 default route that is up (/proc/net/route); the gateway as written.

    Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
    eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
    """
    for line in lines_of(text):
        words = line.split()
        if len(words) >= 8 and words[1] == words[7] == "00000000" and usable_route(words[3]):
            yield int(words[6]), words[0], words[2]


def parse_route6(text: str) -> "Iterator[tuple[int, str, str]]":
    """Yield metric, interface and gateway of each IPv6 default route that is up (/proc/net/ipv6_route).

    Destination, source, next hop (each 32 digits and a prefix), metric, references, uses, flags, interface:
    000…000 00 000…000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
    """
    for line in lines_of(text):
        if line.startswith("00000000000000000000000000000000 00 "):
            words = line.split()
            if len(words) == 10 and usable_route(words[8]):
                yield int(words[5], 16), words[9], words[4]


def usable_route(flags: str) -> bool:
    """Tell whether a route is up (0x1) and does not reject (0x200)."""
    return int(flags, 16) & 0x201 == 0x1


def default_routes(host: Host) -> "dict[int, tuple[str, str]]":
    """Return interface and gateway of the default route with the lowest metric, by IP version, 4 before 6."""
    found = {}
    for version, path, parse in ((4, "/proc/net/route", parse_route), (6, "/proc/net/ipv6_route", parse_route6)):
        routes = sorted(parse(host.text(path)))
        if routes:
            found[version] = routes[0][1:]
    return found


def primary_interface(routes: "dict[int, tuple[str, str]]") -> str:
    """Return the interface of the default route, of the one for IPv4 before that for IPv6, "" without one."""
    return next((interface for interface, _ in routes.values()), "")


def interface_type(host: Host, name: str) -> str:
    """Return what an interface is, "" for one that is none of the user's (a container's, a VM's, the kernel's).

    A container's own eth0 is one end of a veth pair like the ends that a host has of its containers' pairs;
    the reader of all types tells them apart.
    """
    folder = "/sys/class/net/" + name + "/"
    if host.exists(folder + "device"):
        is_wireless = host.exists(folder + "phy80211") or host.exists(folder + "wireless")
        return "wireless" if is_wireless else "physical"
    if FOREIGN_INTERFACE.match(name):
        return ""
    devtype = re.search(r"^DEVTYPE=(\S+)", host.text(folder + "uevent"), re.MULTILINE)
    if devtype:
        return "" if devtype.group(1) == "macvtap" else DEVTYPES.get(devtype.group(1), devtype.group(1))
    if host.exists(folder + "master") or host.exists(folder + "macvtap"):
        return ""
    if host.exists(folder + "tun_flags"):
        return "vpn"
    if host.text(folder + "iflink") == host.text(folder + "ifindex"):
        return "virtual"
    # A macvlan or ipvlan has a card of this system below it (ABI/testing/sysfs-class-net), a veth its other end.
    return "macvlan" if any(name.startswith("lower_") for name in host.names(folder)) else "veth"


def known_interfaces(host: Host, names: "tuple[str, ...]", memo: "Json") -> "dict[str, str]":
    """Return type by name of the interfaces that count; asked for when names come, and again every 10 minutes.

    At once where the number of one is another (netdevice(7), SIOCGIFINDEX): two may have changed names, or one that went
    has left its name to another.
    """
    types = types_of(host, names, memo)
    numbers = {name: host.number("/sys/class/net/" + name + "/ifindex") for name in types}
    before = memo.get("numbers", numbers)
    if any(before.get(name, number) != number for name, number in numbers.items()):
        memo["types"].until = 0.0
        types = types_of(host, names, memo)
    memo["numbers"] = {name: numbers.get(name) for name in types}
    return types


def types_of(host: Host, names: "tuple[str, ...]", memo: "Json") -> "dict[str, str]":
    """Return type by name of the interfaces that count, as far as that is remembered."""
    each = memo.setdefault("types", RememberedEach()).each(host.boottime(), names, lambda name: interface_type(host, name))
    # Where there is a real card, a veth is somebody's other end; where there is none, it is a container's own.
    is_host = any(kind in ("physical", "wireless") for kind in each.values())
    types = {name: kind for name, kind in each.items() if kind and not (is_host and kind == "veth")}
    primary = known_primary(host, names, memo)
    if primary in names:
        types.setdefault(primary, "virtual")
    return types


def known_primary(host: Host, names: "tuple[str, ...]", memo: "Json") -> str:
    """Return the interface of the default route, looked up when interfaces come or go, and every 30 seconds."""
    primary = memo.setdefault("primary", Remembered(30.0))
    return primary.get(host.boottime(), names, lambda: primary_interface(default_routes(host)))  # type: ignore[no-any-return]


def collect_network(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/net/dev, of the interfaces that count."""
    at = host.boottime()
    lines = dict(parse_net_dev(host.read("/proc/net/dev")))
    names = tuple(lines)
    types, primary = known_interfaces(host, names, memo), known_primary(host, names, memo)
    section = {"at": round(at, 3)}  # type: Json
    if primary:
        section["primary"] = primary
    section["interfaces"] = {name: interface_counters(lines[name]) for name in types}
    for name, number in memo["numbers"].items():
        if number:
            section["interfaces"][name]["number"] = number
    return section


# ---------------------------------------------------------------- disk_io

NO_WHOLE_DISK = re.compile(
    r"loop|ram|zram|dm-|md|sr\d|fd\d|zd\d|nbd|bcache|drbd|rbd|mmcblk\d+(boot|rpmb|gp)|nvme\d+c\d+n"
)


def parse_diskstats(text: str) -> "Iterator[tuple[str, list[str]]]":
    """Yield each block device's name and its counters as text (Documentation/admin-guide/iostats.rst).

    The name is that of sysfs, where a slash is written `!`: cciss/c0d0 is /sys/block/cciss!c0d0.

    254       0 vda 47083 22848 2508882 18408 25532 252290 6699032 44706 0 19480 65680 13522 53 929272 2381 1237 184
    """
    for line in lines_of(text):
        words = line.split()
        if len(words) >= 13:
            yield words[2].replace("/", "!"), words[3:]


def disk_counters(words: "list[str]") -> "Json":
    """Return one disk's counters; a sector is 512 bytes here whatever the disk says."""
    return {
        "read_bytes": int(words[2]) * 512,
        "written_bytes": int(words[6]) * 512,
        "reads": int(words[0]),
        "writes": int(words[4]),
        "read_seconds": int(words[3]) / 1000,
        "write_seconds": int(words[7]) / 1000,
        "busy_seconds": int(words[9]) / 1000,
    }


def is_whole_disk(host: Host, name: str) -> bool:
    """Tell whether a block device is a disk of its own: no partition, nothing stacked on others, no empty slot."""
    folder = "/sys/block/" + name
    return not NO_WHOLE_DISK.match(name) and host.exists(folder + "/device") and host.number(folder + "/size") != 0


def whole_disks(host: Host, names: "Iterable[str]", memo: "Json") -> "list[str]":
    """Return which are whole disks; each name is asked for once, and again every 10 minutes."""
    whole = memo.setdefault("whole", RememberedEach()).each(host.boottime(), names, lambda name: is_whole_disk(host, name))
    return [name for name, is_whole in whole.items() if is_whole]


def collect_disk_io(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/diskstats, of whole disks."""
    at = host.boottime()
    try:
        lines = dict(parse_diskstats(host.read("/proc/diskstats")))
    except FileNotFoundError:
        raise Missing("not_supported") from None
    disks = whole_disks(host, lines, memo)
    return {"at": round(at, 3), "disks": {name: disk_counters(lines[name]) for name in disks}}


# ---------------------------------------------------------------- sensors

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
# Names under which the kernel counts devices in the order it found them; they may swap at the next boot.
COUNTED_NAME = re.compile(r"(nvme|phy|thermal_zone|eth|wlan|card|virtual)\d*$|\d+:\d+:\d+:\d+$")
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "k8temp", "cpu_thermal", "soc_thermal")
CPU_ZONE = re.compile(r"(x86_pkg_temp|soc[-_]thermal|.*cpu.*|(big|little)?core\d*[-_]thermal)$", re.IGNORECASE)
I2C_DEVICE = re.compile(r"\d+-([0-9a-f]{4})$")  # on a bus that is counted, too
GPU_CHIPS = ("amdgpu", "radeon", "nouveau", "i915", "xe")  # told in the section gpu


class Input:
    """One input of a hardware monitor chip, with all that does not change between polls."""

    def __init__(self, path: str, place: str, chip: str, label: str) -> None:
        self.path = path
        self.told = {"id": place, "chip": chip, "label": label}  # type: Json
        self.status_path = ""  # says whether the device sleeps
        self.disk = ""  # a disk that reading would wake
        self.device = ""  # where the kernel has it, in words of which some are counted


def chip_address(path: str) -> str:
    """Return where a chip sits, in words that survive a reboot, "" where there are none.

    /sys/devices/pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0/hwmon1  →  0000:3d:00.0
    /sys/devices/platform/coretemp.0/hwmon/hwmon3  →  coretemp.0
    /sys/devices/pci0000:00/0000:00:14.0/i2c-1/1-0051/hwmon/hwmon6  →  0000:00:14.0-0051
    """
    parts = [part for part in path.split("/")[:-1] if part != "hwmon"]
    i2c = I2C_DEVICE.match(parts[-1]) if parts else None
    if parts and not i2c and not COUNTED_NAME.match(parts[-1]):
        return parts[-1]
    pci = next((part for part in reversed(parts) if PCI_ADDRESS.match(part)), "")
    return pci + "-" + i2c.group(1) if i2c else pci


def degrees(value: "int | None") -> "float | None":
    """Return millidegrees as degrees, None for what an unconnected input tells."""
    return None if value is None or not -40000 < value < 127000 else round(value / 1000, 1)


def limit(value: "int | None") -> "float | None":
    """Return a threshold in degrees, None for the nonsense that some firmware stores."""
    return None if value is None or not 30000 <= value <= 150000 else round(value / 1000, 1)


def chip_inputs(host: Host, hwmon: str) -> "Iterator[Input]":
    """Yield the temperature and fan inputs of one chip (Documentation/hwmon/sysfs-interface.rst)."""
    folder = "/sys/class/hwmon/" + hwmon + "/"
    chip, real = host.text(folder + "name"), host.real_path(folder)
    address, disk = chip_address(real), ""
    if chip == "drivetemp":
        address = "_".join(host.text(folder + "device/wwid").split()) or address
        disk = next(iter(host.names(folder + "device/block")), "")
        disk = disk if host.text("/sys/block/" + disk + "/queue/rotational") == "1" else ""
    names = [name for name in host.names(folder) if re.match(r"(temp|fan)\d+_input$", name)]
    for name in sorted(names, key=lambda name: (name[0] != "t", int(re.sub(r"\D", "", name)))):
        stem = name[: -len("_input")]
        label = host.text(folder + stem + "_label") or host.text(folder + "device/model") or stem
        found = Input(folder + name, f"{chip}/{address}/{stem}", chip, label)
        found.status_path, found.disk, found.device = runtime_status_path(host, folder), disk, real
        for key, suffix in (("max_celsius", "_max"), ("critical_celsius", "_crit")):
            threshold = limit(host.number(folder + stem + suffix)) if name[0] == "t" else None
            if threshold:
                found.told[key] = threshold
        yield found


def runtime_status_path(host: Host, folder: str) -> str:
    """Return the file that says whether a chip's device sleeps, "" where it never does."""
    parts = host.real_path(folder).split("/")
    pci = [i for i, part in enumerate(parts) if PCI_ADDRESS.match(part)]
    device = "/".join(parts[: pci[-1] + 1]) if pci else folder + "device"
    path = device + "/power/runtime_status"
    return path if host.text(path) in ("active", "suspended", "suspending", "resuming") else ""


def zone_inputs(host: Host) -> "Iterator[Input]":
    """Yield the thermal zones of a CPU (Documentation/driver-api/thermal/sysfs-api.rst)."""
    for zone in sorted(host.names("/sys/class/thermal")):
        folder = "/sys/class/thermal/" + zone + "/"
        kind = host.text(folder + "type") if zone.startswith("thermal_zone") else ""
        if CPU_ZONE.match(kind):
            found = Input(folder + "temp", f"{kind}//temp1", kind, kind)
            found.device = host.real_path(folder)
            critical = [name for name in host.names(folder) if name.endswith("_type")]
            for name in critical:
                threshold = limit(host.number(folder + name[: -len("type")] + "temp"))
                if threshold and host.text(folder + name) == "critical":
                    found.told["critical_celsius"] = threshold
            yield found


def numbered(path: str) -> "list[Any]":
    """Return a path so that its numbers count in an order: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path))]


def plan_inputs(host: Host) -> "list[Input]":
    """Return the inputs worth reading: cores are left out where their package tells the hottest of them."""
    inputs = []  # type: list[Input]
    for hwmon in sorted(host.names("/sys/class/hwmon"), key=lambda name: (len(name), name)):
        found = list(chip_inputs(host, hwmon))
        if any(one.told["label"].startswith("Package id") for one in found):
            found = [one for one in found if not one.told["label"].startswith("Core ")]
        inputs.extend(one for one in found if one.told["chip"] not in GPU_CHIPS)
    if not any(one.told["chip"] in CPU_CHIPS for one in inputs):
        inputs.extend(zone_inputs(host))
    seen = {}  # type: dict[str, int]
    # Two chips of one kind without an address are told apart by the order of their devices, not by that of hwmon0, hwmon1.
    for one in sorted(inputs, key=lambda one: numbered(one.device)):
        count = seen[one.told["id"]] = seen.get(one.told["id"], 0) + 1
        one.told["id"] += f"#{count}" if count > 1 else ""
    return inputs


def disk_moved(host: Host, disk: str, memo: "Json") -> bool:
    """Tell whether a disk has read or written since the last time, so that it surely spins."""
    before = memo.get(disk)
    return before is not None and before != disk_position(host, disk)


def disk_position(host: Host, disk: str) -> "list[str]":
    """Return the sectors that a disk has read and written (Documentation/block/stat.rst)."""
    words = host.text("/sys/block/" + disk + "/stat").split()
    return [words[2], words[6]] if len(words) > 6 else []


def is_asleep(host: Host, one: Input, positions: "Json") -> bool:
    """Tell whether reading an input would wake something."""
    if one.status_path and host.text(one.status_path) != "active":
        return True
    return bool(one.disk) and not disk_moved(host, one.disk, positions)


def has_chips(host: Host, memo: "Json") -> bool:
    """Tell whether there is a chip: its bus, or the disk behind it, may never answer."""
    return bool(host.names("/sys/class/hwmon") or host.names("/sys/class/thermal"))


def collect_sensors(host: Host, request: Request, memo: "Json") -> "Json":
    """Read the chips' inputs; the list of them is made anew when chips come or go, and every 10 minutes."""
    # hwmon0 may be another chip than it was: a driver that is loaded anew gets the lowest number that is free.
    folders = {"/sys/class/hwmon/" + name for name in host.names("/sys/class/hwmon")}.union(memo.get("zones", ()))
    chips = [(folder, host.identity(folder)) for folder in sorted(folders)]
    inputs = memo.setdefault("inputs", Remembered()).get(host.boottime(), chips, lambda: plan_inputs(host))
    memo["zones"] = {os.path.dirname(one.path) for one in inputs if one.path.startswith("/sys/class/thermal/")}
    if not inputs:
        raise Missing("not_supported")
    positions = memo.setdefault("positions", {})
    section = {"temperatures": [], "fans": []}  # type: Json
    asleep = []
    for one in inputs:
        if is_asleep(host, one, positions):
            asleep.append(one.told["id"])
        else:
            read_input(host, one, section)
    for one in inputs:  # after reading: what reading itself costs the disk is no movement
        if one.disk:
            positions[one.disk] = disk_position(host, one.disk)
    if asleep:
        section["asleep"] = asleep
    section.update(cpu_temperature(section["temperatures"]))
    return section


def read_input(host: Host, one: Input, section: "Json") -> None:
    """Add an input's value to the section; an input without one (a loose wire) is left out."""
    value = host.number(one.path)
    if "/fan" in one.path:
        if value is not None and value >= 0:
            section["fans"].append(dict(one.told, rpm=value))
        return
    celsius = degrees(value)
    if celsius is not None:
        section["temperatures"].append(dict(one.told, celsius=celsius))


CPU_LABELS = (r"Package id", r"Tdie$", r"Tctl$", r"Core \d", r"")


def cpu_temperature(temperatures: "list[Json]") -> "Json":
    """Return what stands for the CPU: the package, else Tdie, Tctl, the hottest core, a CPU zone."""
    of_cpu = [one for one in temperatures if one["chip"] in CPU_CHIPS or CPU_ZONE.match(one["chip"])]
    for label in CPU_LABELS:
        fitting = [one for one in of_cpu if re.match(label, one["label"])]
        if fitting:
            hottest = max(fitting, key=lambda one: one["celsius"])
            told = {"cpu_celsius": hottest["celsius"]}
            if "critical_celsius" in hottest:
                told["cpu_critical_celsius"] = hottest["critical_celsius"]
            return told
    return {}


# ---------------------------------------------------------------- the table


class Collector:
    """One row of the table: a section, who reads it, its budget, and when it needs a thread.

    `budget` is in seconds; 0 says that nothing in it can block. `may_block` tells whether it can on this
    host: a thread's turn costs 0.1 ms, more than most sections.
    """

    def __init__(
        self,
        name: str,
        read: "Callable[[Host, Request, Json], Json]",
        budget: float = 0,
        may_block: "Callable[[Host, Json], bool]" = lambda host, memo: True,
    ) -> None:
        self.name = name
        self.read = read
        self.budget = budget
        self.may_block = may_block


COLLECTORS = (
    Collector("cpu", collect_cpu),
    Collector("memory", collect_memory),
    Collector("load", collect_load),
    Collector("pressure", collect_pressure),
    Collector("uptime", collect_uptime),
    Collector("network", collect_network),
    Collector("disk_io", collect_disk_io),
    Collector("sensors", collect_sensors, 3, has_chips),
    # The files in sections/ come before this one; each adds its rows.
    *(Collector(*row) for row in globals().get("SECTIONS", ())),
)


ON_DEMAND = ("processes", "sockets", "logs")  # told only while somebody looks, and only when named


def polled_sections() -> "list[str]":
    """Return the names of all sections but those on demand."""
    return [collector.name for collector in COLLECTORS if collector.name not in ON_DEMAND]


# ---------------------------------------------------------------- threads and budgets


class Outcome:
    """What one collector came to: `kind` is the part of the reply that its content belongs in."""

    def __init__(self, kind: str, content: "Json | str", seconds: float) -> None:
        self.kind = kind
        self.content = content
        self.seconds = seconds


def collect(collector: Collector, host: Host, request: Request, memo: "Json") -> Outcome:
    """Run one collector; whatever goes wrong in it stays in it."""
    begun = time.monotonic()
    try:
        return Outcome("sections", collector.read(host, request, memo), time.monotonic() - begun)
    except Exception as err:  # noqa: BLE001 - one section must never take the others with it
        return failure(err, begun)


def failure(err: Exception, begun: float) -> Outcome:
    """Return what a section comes to that could not be collected."""
    if isinstance(err, (Missing, Late, PermissionError)):
        kind = "missing"
        said = err.reason if isinstance(err, Missing) else "timed_out" if isinstance(err, Late) else "permission_denied"
    else:
        kind, said = "errors", first_line(str(err) if isinstance(err, Broken) else f"{type(err).__name__}: {err}")
    return Outcome(kind, said, time.monotonic() - begun)


class Worker:
    """A thread for one collector that may block; it lives on between polls, as starting one costs more."""

    def __init__(self, collector: Collector, host: Host, memo: "Json") -> None:
        from _thread import allocate_lock, start_new_thread  # noqa: PLC0415

        self.collector = collector
        self.host = host
        self.memo = memo
        self.request = Request({})
        self.outcome = None  # type: Outcome | None
        self.is_busy = False
        self.was_late = False
        self.wanted = allocate_lock()
        self.wanted.acquire()
        self.done = allocate_lock()
        self.done.acquire()
        start_new_thread(self.work, ())

    def work(self) -> None:
        """Collect whenever that is wanted."""
        while self.wanted.acquire():
            self.outcome = collect(self.collector, self.host, self.request, self.memo)
            self.done.release()

    def begin(self, request: Request) -> bool:
        """Start collecting; False while the last time has not ended. What it then brings is too old to use."""
        if self.is_busy and not self.take(0.0):
            return False
        self.request = request
        self.is_busy = True
        self.wanted.release()
        return True

    def finish(self, seconds: float) -> "Outcome | None":
        """Return the outcome, None when it is not there in time."""
        return self.outcome if self.take(seconds) else None

    def take(self, seconds: float) -> bool:
        """Wait until the collector has come back; False when it does not in time."""
        if not self.done.acquire(timeout=max(0.0, seconds)):
            return False
        self.is_busy = False
        self.was_late = self.outcome is not None and self.outcome.content == "timed_out"
        return True

    def patience(self) -> float:
        """Return how long a reply may wait for it: a program that hangs again must not delay the others again."""
        return min(self.collector.budget, AGAIN_SECONDS) if self.was_late else self.collector.budget


class Probe:
    """Answers requests; keeps only what hardly ever changes, and its threads."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.workers = {}  # type: dict[str, Worker]
        self.collectors = {collector.name: collector for collector in COLLECTORS}
        self.memos = {name: {} for name in self.collectors}  # type: dict[str, Json]
        self.boot_id = boot_id(host)

    def answer(self, request: Request) -> "Json":
        """Return the reply to one request, on time whatever a collector does."""
        reply = {"id": request.id, "protocol": PROTOCOL, "boot_id": self.boot_id}  # type: Json
        reply.update(epoch=round(self.host.epoch(), 3), sections={}, missing={}, errors={}, seconds={})
        for name, outcome in self.outcomes(request).items():
            reply[outcome.kind][name] = outcome.content
            reply["seconds"][name] = round(outcome.seconds, 4)
        return reply

    def outcomes(self, request: Request) -> "dict[str, Outcome]":
        """Collect every section that is asked for: what may block in threads, meanwhile the others here."""
        begun = time.monotonic()
        outcomes = {name: Outcome("missing", "not_supported", 0.0) for name in request.sections}
        known = [self.collectors[name] for name in request.sections if name in self.collectors]
        started, others = [], []
        for one in known:
            try:
                if one.budget and one.may_block(self.host, self.memos[one.name]):
                    started.append(self.begin(one, request))
                else:
                    others.append(one)
            except Exception as err:  # noqa: BLE001 - where others use up all processes, no thread can be started
                outcomes[one.name] = failure(err, begun)
        for one in others:
            outcomes[one.name] = collect(one, self.host, request, self.memos[one.name])
        for worker, has_begun in started:
            left = min(worker.patience(), request.timeout) - (time.monotonic() - begun)
            outcome = worker.finish(left) if has_begun else None
            outcomes[worker.collector.name] = outcome or Outcome("missing", "timed_out", time.monotonic() - begun)
        return outcomes

    def begin(self, collector: Collector, request: Request) -> "tuple[Worker, bool]":
        """Start a collector's thread on a request; False where it has not come back from an earlier one."""
        if collector.name not in self.workers:
            self.workers[collector.name] = Worker(collector, self.host, self.memos[collector.name])
        worker = self.workers[collector.name]
        return worker, worker.begin(request)


def boot_id(host: Host) -> str:
    """Return what changes with every boot: the kernel's id and when PID 1 started.

    A container's restart leaves the kernel's id alone and starts its counters anew.
    """
    kernel = host.text("/proc/sys/kernel/random/boot_id")
    started = host.text("/proc/1/stat").rpartition(")")[2].split()
    return kernel + ":" + started[19] if len(started) > 19 else kernel


# ---------------------------------------------------------------- framing, requests, start


def encode_reply(reply: "Json") -> bytes:
    r"""Return header line and payload.

    \x1e7 812 z\n…
    """
    text = json.dumps(reply, separators=(",", ":"))
    if "\\ud" in text:  # bytes of a name that are no UTF-8; a lone surrogate is no JSON for a strict reader
        text = json.dumps(clean(reply), separators=(",", ":"))
    payload, form = text.encode("ascii"), "j"
    if len(payload) > REPLY_BYTES:
        return encode_reply(without_longest(reply))
    if len(payload) > PLAIN_BYTES:
        payload, form = zlib.compress(payload, 6), "z"
    return b"\x1e%s %d %s\n" % (reply["id"].encode("ascii"), len(payload), form.encode("ascii")) + payload


def without_longest(reply: "Json") -> "Json":
    """Return a reply that is too long without its longest section: the others are not its victims."""
    lengths = {name: len(json.dumps(section)) for name, section in reply.get("sections", {}).items()}
    if not lengths:
        return {"id": reply["id"], "error": "a reply that is too long"}
    longest = max(lengths, key=lambda name: lengths[name])
    sections = {name: section for name, section in reply["sections"].items() if name != longest}
    errors = dict(reply["errors"], **{longest: f"a section of {lengths[longest]} bytes is too long"})
    return dict(reply, sections=sections, errors=errors)


def clean(value: "Any") -> "Any":
    """Return JSON with every undecodable byte replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {clean(key): clean(one) for key, one in value.items()}
    return [clean(one) for one in value] if isinstance(value, (list, tuple)) else value


def write(fd: int, content: bytes) -> None:
    """Write all of it."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def read_line(requests: "BinaryIO") -> bytes:
    """Return the next line, b"" at the end; of one that is too long only its end, which is no request."""
    line = requests.readline(LINE_BYTES)
    while len(line) == LINE_BYTES and not line.endswith(b"\n"):
        line = requests.readline(LINE_BYTES)
        line = line if len(line) == LINE_BYTES else b"too long\n"
    return line


def marker(host: Host) -> bytes:
    r"""Return what is said first: that this is alive, and on which machine, if that has an id.

    \x1ehomelab_monitor 1 3.11.2 4711 0123456789abcdef0123456789abcdef
    """
    words = ["homelab_monitor", str(PROTOCOL), host.python(), str(os.getpid()), machine_id_hash(host)]
    return b"\x1e%s\n" % " ".join(word for word in words if word).encode()


def serve(host: Host, requests: "BinaryIO", replies: int, idle_seconds: float = IDLE_SECONDS) -> None:
    """Say the marker, then answer requests until their end, or until none comes or is taken for too long."""
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    write(replies, marker(host))
    probe, stale = Probe(host), False
    while not stale:
        signal.setitimer(signal.ITIMER_REAL, idle_seconds)
        line = read_line(requests)
        if not line:
            return
        try:
            reply = probe.answer(parse_request(line))
        except ValueError as err:
            reply = {"id": "?", "error": first_line(str(err))}
        write(replies, encode_reply(reply))
        stale = is_stale(probe)


def is_stale(probe: Probe) -> bool:
    """Tell whether the process should end, so that the next one loads a new driver's library."""
    return any(memo.get("stale") for memo in probe.memos.values())


def prepare() -> None:
    """Be the least of the machine's worries, and speak the programs' own language."""
    os.environ["LC_ALL"] = "C"
    if zone_stamp():
        os.environ.pop("TZ", None)  # a login's own zone (PAM, SetEnv) is not that of the machine and its logs
    # An empty part would be the folder that we happen to be in.
    paths = [path for path in os.environ.get("PATH", "").split(":") if path]
    paths += [path for path in SEARCHED_FOLDERS if path not in paths]
    os.environ["PATH"] = ":".join(paths)
    try:
        os.nice(5)
    except OSError:
        return  # a container may forbid even that


def show(host: Host) -> None:
    """Print one readable reply, for a person who wants to see what is told."""
    wanted = sys.argv[1:] or polled_sections()
    reply = Probe(host).answer(Request({"id": "by-hand", "sections": wanted, "timeout": 60}))
    write(1, json.dumps(clean(reply), indent=2).encode("ascii") + b"\n")


def main() -> None:
    """Serve when started by the bootstrap command, show when run by hand.

    The bootstrap compiles this file under the name probe.py without a file behind it; run by hand it is
    either a file or standard input, which is at its end by now.
    """
    status = 1
    try:
        prepare()
        root = os.environ.get("HOMELAB_MONITOR_ROOT", "/")
        host = Host() if root == "/" else RecordedHost(root)
        if "__file__" in globals() or main.__code__.co_filename != "probe.py":
            show(host)
        else:
            replies = os.dup(1)
            os.dup2(2, 1)  # whatever prints by mistake does not get between the replies
            serve(host, sys.stdin.buffer, replies)
        status = 0
    except BrokenPipeError:
        status = 0  # who reads it has seen enough
    except BaseException:  # noqa: BLE001 - said, and then it is the end
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        # At once, even if a thread is stuck in the kernel: the interpreter would wait for all, and they wait for requests.
        os._exit(status)


if __name__ == "__main__":
    main()
