"""The door to the system that the probe runs on, and how what came through it is read.

Sent first: the files of sections/ and probe.py use what is defined here, and nothing here uses them.

Order of this file: errors · what is remembered · Host, and a recorded one · HTTP · children · a request · text and
numbers · what only the kernel has: netlink, ioctl, open sockets, control groups.
"""

import os
import re
import stat
import sys
import time

try:
    import json
except ImportError as err:  # Debian's python3-minimal; said before the marker, so that the reader can name the cure
    sys.exit(f"homelab_monitor needs the whole standard library of Python: {err}")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

    Json = dict[str, Any]

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

    def load_library(self, name: str) -> "Any":
        """Return a shared library by its name or path; raises OSError where it is not installed, or Python lacks ctypes."""
        try:
            import ctypes  # noqa: PLC0415
        except ImportError as err:
            raise OSError(str(err)) from None
        return ctypes.CDLL(name)


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

    def load_library(self, name: str) -> "Any":
        """Raise OSError: a library cannot be recorded; NVIDIA's cards come from the recorded nvidia-smi."""
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
    """Return a number that can be, None for any other: what is made of numbers that do not fit is told of nothing."""
    return value if value is not None and most is not None and least <= value <= most else None


def difference(whole: "int | None", part: "int | None") -> "int | None":
    """Return what is left of the whole without a part of it, None where that is no part of it."""
    return None if within(part, 0, whole) is None else whole - part  # type: ignore[operator]


def told_of(row: "Json") -> "Json":
    """Return a row without what cannot be told."""
    return {key: value for key, value in row.items() if value is not None}


# ---------------------------------------------------------------- netlink: the addresses, and who listens

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
# Number of a protocol and, as a bit, the state of a socket that listens: TCP_LISTEN; for UDP TCP_CLOSE, not connected.
LISTENING = {"tcp": (6, 1 << 10), "udp": (17, 1 << 7)}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}  # rtnetlink(7), in the words of ip(8)


def netlink_list(protocol: int, kind: int, wanted: bytes) -> "Iterator[bytes]":
    """Yield the body of each message of a list that the kernel is asked for (netlink(7)); raises OSError."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as door:
        door.settimeout(NETLINK_SECONDS)
        door.bind((0, 0))
        door.send(struct.pack("=IHHII", 16 + len(wanted), kind, NETLINK_LIST, 1, 0) + wanted)
        while True:
            for answer, body in netlink_messages(door.recv(65536)):
                # Both begin with an error number, as a negative one; an end without any has 0.
                failure = struct.unpack_from("=i", body)[0] if answer in (NETLINK_ERROR, NETLINK_DONE) else 0
                if failure:
                    raise OSError(-failure, os.strerror(-failure))
                if answer == NETLINK_DONE:
                    return
                yield body


def netlink_messages(raw: bytes) -> "Iterator[tuple[int, bytes]]":
    """Yield type and body of each message in what was received; each starts at a multiple of four bytes."""
    import struct  # noqa: PLC0415

    at = 0
    while at + 16 <= len(raw):
        size, kind = struct.unpack_from("=IH", raw, at)
        if size < 16:
            raise OSError("not netlink")
        yield kind, raw[at + 16 : at + size]
        at += size + -size % 4


def netlink_attributes(raw: bytes) -> "dict[int, bytes]":
    """Return the attributes behind a message's fixed part, by their number (linux/netlink.h, struct nlattr)."""
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
    # struct ifaddrmsg, all of it zero: of every family and interface.
    told = (parse_address(body, names) for body in netlink_list(NETLINK_ROUTE, RTM_GETADDR, bytes(8)))
    return [address for address in told if address]


def parse_address(body: bytes, names: "dict[int, str]") -> "Json | None":
    """Return one address (struct ifaddrmsg: family, prefix, flags, scope, interface), None for what is not IP.

    Of a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is ours wherever it is told.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    family, prefix, flags, scope, index = struct.unpack_from("=BBBBI", body)
    told = netlink_attributes(body[8:])
    ours = told.get(IFA_LOCAL) or told.get(IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or not ours or index not in names:
        return None
    if len(told.get(IFA_FLAGS, b"")) == 4:
        flags = struct.unpack("=I", told[IFA_FLAGS])[0]
    return shaped_address(
        names[index],
        socket.inet_ntop(family, ours),
        {"prefixlen": prefix, "scope": SCOPES.get(scope, str(scope))},
        # The same bit says secondary of an IPv4 address.
        temporary=family == socket.AF_INET6 and bool(flags & IFA_F_TEMPORARY),
        deprecated=bool(flags & IFA_F_DEPRECATED),
    )


def shaped_address(interface: str, address: str, told: "Json", **marks: "Any") -> "Json":
    """Return one address in our words; `told` has the words of `ip -j addr`."""
    version = 6 if ":" in address else 4
    row = {"interface": interface, "version": version, "address": address}  # type: Json
    row.update(prefix_length=told["prefixlen"], scope=told["scope"])
    row.update((name, True) for name, is_so in marks.items() if is_so)
    return row


def read_listeners(protocol: str, has_room: "Callable[[int], bool]") -> "Iterator[Json]":
    """Yield who listens: `{version, address, port, inode, uid, interface?, only_ipv6?, group?}` (sock_diag(7)); raises OSError.

    `interface` is the one that the socket is bound to; `group` the number of the control group that made it
    (since Linux 5.7). Every user may ask. `has_room` tells of a user whether another one of his sockets is wanted.
    """
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    number, states = LISTENING[protocol]
    names = dict(socket.if_nameindex())
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct inet_diag_req_v2: family, protocol, extensions, states, and a socket's id that is left open.
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
    told = netlink_attributes(body[72:])
    row = {"version": 4 if family == socket.AF_INET else 6, "address": socket.inet_ntop(family, address)}  # type: Json
    row.update(port=int.from_bytes(body[4:6], "big"), inode=inode, uid=struct.unpack_from("=I", body, 64)[0])
    if index in names:
        row["interface"] = names[index]
    if told.get(INET_DIAG_SKV6ONLY):
        row["only_ipv6"] = bool(told[INET_DIAG_SKV6ONLY][0])
    if len(told.get(INET_DIAG_CGROUP_ID, b"")) == 8:
        row["group"] = struct.unpack("=Q", told[INET_DIAG_CGROUP_ID])[0]
    return row


# ---------------------------------------------------------------- a network card


def read_permanent_mac(interface: str) -> str:
    """Ask the driver for the address burnt in (ETHTOOL_GPERMADDR 0x20 through SIOCETHTOOL 0x8946, linux/ethtool.h)."""
    import array  # noqa: PLC0415
    import fcntl  # noqa: PLC0415
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    answer = array.array("B", struct.pack("II32x", 0x20, 32))
    asked = struct.pack("16sP16x", interface.encode("ascii", "replace")[:15], answer.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            fcntl.ioctl(door, 0x8946, asked)
    except OSError:
        return ""
    size = struct.unpack_from("I", answer, 4)[0]
    told = bytes(answer[8 : 8 + size])
    return ":".join(f"{byte:02x}" for byte in told) if size == 6 and any(told) else ""


# ---------------------------------------------------------------- open sockets


def read_open_sockets(pid: int, most: int) -> "tuple[list[int], bool]":
    """Return the inodes of the sockets among so many of a process's descriptors, and whether that were all of them.

    The links say it: socket:[12345].
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
        return found, True  # it is another user's, or it ended meanwhile
    return found, True


# ---------------------------------------------------------------- control groups

GROUP_ROOTS = (b"/sys/fs/cgroup/unified", b"/sys/fs/cgroup")
GROUPS_READ = 5000
GROUPS_OF_ONE = 2000  # in one folder
GROUPS_SECONDS = 1.0


def read_group_ids() -> "dict[int, str]":
    """Return the path of every control group of version 2 by its number, which is its folder's inode (cgroups(7)).

    Whoever was given a part of them makes as many as he likes, in each other and beside each other: the shallow ones
    come first, those of users last, and of one folder only so many count.
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
    """Return number and name of the groups in a group, none of one that is gone."""
    try:
        with os.scandir(folder) as entries:
            return [(one.inode(), one.name) for _, one in zip(range(GROUPS_OF_ONE), entries) if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def is_group(path: bytes) -> bool:
    """Tell whether a folder is a control group of version 2."""
    return os.path.exists(path + b"/cgroup.procs") and os.path.exists(path + b"/cgroup.controllers")
