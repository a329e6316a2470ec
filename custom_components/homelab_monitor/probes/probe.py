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
    from .sections.netlink import read_addresses, read_listeners
    from .sections.sockets import read_group_ids, read_open_sockets

    Json = dict[str, Any]

PROTOCOL = 1
IDLE_SECONDS = 600.0
PLAIN_BYTES = 1000
REPLY_BYTES = 4 << 20
LINE_BYTES = 1 << 20
OUTPUT_BYTES = 2 << 20
ANSWER_BYTES = 4 << 20
ERROR_CHARACTERS = 300
DEFAULT_TIMEOUT = 8.0
AGAIN_SECONDS = 1.0  # how long a reply waits for what was late the last time
REFRESH_SECONDS = 600.0  # how long something that hardly ever changes is remembered
SEARCHED_FOLDERS = ("/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
CLOCK_BOOTTIME = 7  # time.CLOCK_BOOTTIME needs Python 3.7


class Missing(Exception):
    """A section cannot be told; `reason` is one of the contract's six."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Late(Exception):
    """Something did not answer within its time."""


class Broken(Exception):
    """Something is there and does not work; the text is its own."""


class NvmlError(Broken):
    """A complaint of NVIDIA's management library; here, as sections come before their base classes."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("NVML: " + text)
        self.code = code


# ---------------------------------------------------------------- the door to the system


class Host:
    """Everything that the probe asks the system for; `root` lets tests and demos use a recorded tree."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.fsencode(root.rstrip("/"))
        self.unreaped = []  # type: list[Any]

    def path(self, path: str) -> bytes:
        """Return the real path, as bytes: under LC_ALL=C Python 3.6 cannot encode every name."""
        return self.root + path.encode("utf-8", "surrogateescape")

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises OSError. Not open(): this is half its price, and polls are reads."""
        fd = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(fd, 65536)
            chunk = content
            while chunk:
                chunk = os.read(fd, 65536)
                content += chunk
        finally:
            os.close(fd)
        return content

    def read(self, path: str) -> str:
        """Return a file's text; raises OSError."""
        return self.read_bytes(path).decode("utf-8", "surrogateescape")

    def text(self, path: str) -> str:
        """Return a file's text without the space around it, "" where it cannot be read."""
        try:
            return self.read(path).strip()
        except OSError:
            return ""

    def number(self, path: str) -> "int | None":
        """Return the integer in a file, None where there is none."""
        try:
            return int(self.read_bytes(path))
        except (OSError, ValueError):
            return None

    def names(self, path: str) -> "list[str]":
        """Return the names in a folder in no order, none where it cannot be listed."""
        try:
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

    def link_name(self, path: str) -> str:
        """Return the last part of where a link leads, "" where it is none."""
        try:
            target = os.readlink(self.path(path))
        except OSError:
            return ""
        return os.path.basename(target).decode("utf-8", "surrogateescape")

    def real_path(self, path: str) -> str:
        """Return a path with all links followed."""
        real = os.path.realpath(self.path(path))
        return real[len(os.path.realpath(self.root)) if self.root else 0 :].decode("utf-8", "surrogateescape")

    def tail(self, path: str, size: int) -> bytes:
        """Return a file's last bytes, the first line of which may lack its beginning; raises OSError."""
        with open(self.path(path), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return when a file's content and when anything of it changed (Unix seconds), and its size; raises OSError."""
        told = os.stat(self.path(path))
        return told.st_mtime, told.st_ctime, told.st_size

    def statvfs(self, path: str) -> "tuple[int, int, int, int, int, int]":
        """Return block size, blocks, free, available, inodes, free inodes; may block for ever, raises OSError."""
        told = os.statvfs(self.path(path))
        return told.f_frsize, told.f_blocks, told.f_bfree, told.f_bavail, told.f_files, told.f_ffree

    def run(self, argv: "list[str]", timeout: float, tail: bool = False) -> "tuple[int, str, str]":
        """Run a program without a shell; return exit status, output, errors; raises Late, FileNotFoundError.

        Of what is too long the beginning is kept, or the end where that is wanted (`tail`).
        """
        return run_child(argv, timeout, self.unreaped, tail)

    def connect(self, path: str, timeout: float) -> "Any":
        """Return a stream socket that leads to a path, each step of it bounded by `timeout`; raises OSError."""
        import socket  # noqa: PLC0415

        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.settimeout(timeout)
        try:
            door.connect(self.path(path))
        except OSError:
            door.close()
            raise
        return door

    def is_root(self) -> bool:
        """Tell whether this user may do everything."""
        return os.geteuid() == 0

    def boottime(self) -> float:
        """Return seconds since boot, sleep included."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def epoch(self) -> float:
        """Return the wall clock."""
        return time.time()

    def timezone_offset(self) -> int:
        """Return how far local time is ahead of UTC, in seconds."""
        return time.localtime().tm_gmtoff

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

    def permanent_mac(self, interface: str) -> str:
        """Return the address burnt into a network card, "" where it has none (ethtool_ioctl, needs no root)."""
        return read_permanent_mac(interface)

    def addresses(self) -> "list[Json]":
        """Return the IP addresses of all interfaces as `read_addresses` shapes them; raises OSError."""
        return read_addresses()

    def listeners(self, protocol: str) -> "list[Json]":
        """Return the sockets of `tcp` or `udp` that listen as `read_listeners` shapes them; raises OSError."""
        return read_listeners(protocol)

    def open_sockets(self, pid: int) -> "list[int]":
        """Return the inodes of a process's sockets, none of one that this user may not look at."""
        return read_open_sockets(pid)

    def group_ids(self) -> "dict[int, str]":
        """Return the path of every control group of version 2 by its number."""
        return read_group_ids()

    def nvml(self) -> "Nvml":
        """Return NVIDIA's management library; raises OSError where it is not installed."""
        return Nvml()


class RecordedHost(Host):
    """A machine recorded as a tree of files; `.host.json` in it answers what is not a file.

    Keys: `clocks` {boottime, epoch, timezone_offset} (left out: the real ones, for a demo), `uname`,
    `python`, `is_root`, `statvfs` {mountpoint: six numbers}, `stamps` {path: three numbers}, `run` {command: {status,
    output, errors} or a file's name in the tree}, `lists` {folder: names added to those in the tree}, `permanent_macs`,
    `addresses`, `listeners` {protocol: rows}, `open_sockets` {pid: inodes}, `group_ids` {number: path}, `denied` [sockets
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

    def names(self, path: str) -> "list[str]":
        """Return the names in a folder, recorded extras included."""
        extra = self.told.get("lists", {}).get(path, [])  # type: list[str]
        return [name for name in super().names(path) if name not in extra] + extra

    def stamp(self, path: str) -> "tuple[float, float, int]":
        """Return what was recorded: a copy of a file has other times."""
        told = self.told.get("stamps", {}).get(path)
        if told is None:
            raise FileNotFoundError(path)
        return tuple(told)

    def is_root(self) -> bool:
        """Tell whether the machine was recorded by root, not who replays it."""
        return bool(self.told.get("is_root", False))

    def statvfs(self, path: str) -> "tuple[int, int, int, int, int, int]":
        """Return what was recorded."""
        told = self.told.get("statvfs", {}).get(path)
        if told is None:
            raise FileNotFoundError(path)
        return tuple(told)

    def run(self, argv: "list[str]", timeout: float, tail: bool = False) -> "tuple[int, str, str]":  # noqa: ARG002
        """Return what the program said when the machine was recorded."""
        told = self.told.get("run", {}).get(" ".join(argv))
        if told is None:
            raise FileNotFoundError(argv[0])
        if isinstance(told, str):
            return 0, self.read("/" + told), ""
        return told.get("status", 0), told.get("output", ""), told.get("errors", "")

    def connect(self, path: str, timeout: float) -> "Any":  # noqa: ARG002
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

    def timezone_offset(self) -> int:
        """Return what was recorded."""
        return int(self.told.get("clocks", {}).get("timezone_offset", 0))

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

    def listeners(self, protocol: str) -> "list[Json]":
        """Return what was recorded."""
        return self.recorded("listeners")[protocol]  # type: ignore[no-any-return]

    def open_sockets(self, pid: int) -> "list[int]":
        """Return what was recorded."""
        return self.told.get("open_sockets", {}).get(str(pid), [])  # type: ignore[no-any-return]

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
    """HTTP/1.1 through a socket of this machine, for JSON; no step of it lasts beyond the deadline."""

    def __init__(self, host: "Host", path: str, deadline: float) -> None:
        self.deadline = deadline
        self.limit = ANSWER_BYTES
        self.stream = host.connect(path, self.left())
        self.buffer = b""

    def left(self) -> float:
        """Return the seconds that are left; raises Late when none are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Late
        return left

    def ask(self, target: str) -> "Any":
        """Return the JSON behind a target, None where there is none; raises OSError, ValueError, Late, Broken."""
        body = self.fetch(target)
        return None if body is None else json.loads(body.decode("utf-8", "replace"))

    def fetch(self, target: str) -> "bytes | None":
        """Return the bytes behind a target, None where there are none; raises as `ask`."""
        self.stream.settimeout(self.left())
        self.stream.sendall(b"GET " + target.encode("ascii") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = self.answer()
        if status not in (200, 404):
            raise Broken(str(json.loads(body.decode("utf-8", "replace")).get("message") or f"status {status}"))
        return body if status == 200 else None

    def answer(self) -> "tuple[int, bytes]":
        """Return status and body of the next answer (RFC 9112)."""
        head = self.until(b"\r\n\r\n").decode("latin-1").lower()
        status = int(head.split(None, 2)[1])
        if re.search(r"\ntransfer-encoding: *chunked", head):
            return status, b"".join(self.chunks())
        length = re.search(r"\ncontent-length: *(\d+)", head)
        if length is None:
            raise ValueError("an answer of unknown length")
        return status, self.exactly(int(length.group(1)))

    def chunks(self) -> "Iterator[bytes]":
        """Yield the parts of a chunked body."""
        size, total = -1, 0
        while size:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            total += size
            if total > self.limit:
                raise ValueError("an answer without end")
            yield self.exactly(size)
            self.until(b"\r\n")

    def until(self, mark: bytes) -> bytes:
        """Return what comes before a mark, and drop the mark."""
        while mark not in self.buffer:
            self.more()
        before, _, self.buffer = self.buffer.partition(mark)
        return before

    def exactly(self, size: int) -> bytes:
        """Return that many bytes."""
        if size > self.limit:
            raise ValueError("an answer without end")
        while len(self.buffer) < size:
            self.more()
        content, self.buffer = self.buffer[:size], self.buffer[size:]
        return content

    def more(self) -> None:
        """Read on."""
        self.stream.settimeout(self.left())
        chunk = self.stream.recv(65536)
        if not chunk or len(self.buffer) > ANSWER_BYTES + 65536:
            raise ValueError("an answer that breaks off")
        self.buffer += chunk

    def close(self) -> None:
        """End it."""
        self.stream.close()


def run_child(argv: "list[str]", timeout: float, unreaped: "list[Any]", tail: bool = False) -> "tuple[int, str, str]":
    """Run a program in a session of its own; what is late is killed with all its children, and reaped."""
    import subprocess  # noqa: PLC0415 - not every poll needs it, and it is slow to load

    unreaped[:] = [child for child in unreaped if child.poll() is None]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    child = subprocess.Popen(argv, stdin=null, stdout=pipe, stderr=pipe, start_new_session=True)
    deadline = time.monotonic() + timeout
    try:
        output, errors = read_child(child, deadline, tail)
        status = child.wait(max(0.1, deadline - time.monotonic()))
    except (Late, subprocess.TimeoutExpired):
        end_child(child, unreaped)
        raise Late(argv[0]) from None
    finally:
        for stream in (child.stdout, child.stderr):
            stream.close()  # type: ignore[union-attr]
    return status, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def read_child(child: "Any", deadline: float, tail: bool) -> "tuple[bytes, bytes]":
    """Return the beginning or the end of what a child writes until it closes both streams; raises Late."""
    import select  # noqa: PLC0415

    streams = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    order, waiting = list(streams), select.poll()
    for fd in order:
        waiting.register(fd)
    left = set(order)
    while left:
        ready = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            raise Late
        for fd, _ in ready:
            chunk = os.read(fd, 65536)
            if not chunk:
                waiting.unregister(fd)
                left.discard(fd)
            elif tail:
                streams[fd] = (streams[fd] + chunk)[-OUTPUT_BYTES:]
            elif len(streams[fd]) < OUTPUT_BYTES:
                streams[fd] += chunk
    return streams[order[0]], streams[order[1]]


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


def first_line(text: str) -> str:
    """Return the first line that says something, in printable characters and bounded."""
    lines = (" ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", line).split()) for line in text.splitlines())
    return next((line for line in lines if line), "")[:ERROR_CHARACTERS]


# ---------------------------------------------------------------- cpu


def parse_stat(text: str, ticks: int) -> "tuple[dict[str, float], list[list[float]]]":
    """Return the times of all CPUs together and (busy, total) of each, in seconds (proc_stat(5)).

    cpu  12160 0 7062 175670 920 0 544 2674 0 0
    cpu0 3573 0 2399 92005 151 0 76 1402 0 0
    intr 1290122 0 26 …
    """
    times = {}  # type: dict[str, float]
    cores = []
    for line in text.splitlines():
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
    """Return seconds by state; the kernel counts guests in user and nice as well, so they go out there."""
    states = (counted + [0] * 10)[:10]
    states[0] -= states[8]
    states[1] -= states[9]
    return {name: round(value / ticks, 2) for name, value in zip(CPU_STATES, states)}


def core_times(counted: "list[int]", ticks: int) -> "list[float]":
    """Return (busy, total) seconds of one core; guests are in user already."""
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


def mean_frequency(host: Host, memo: "Json") -> "int | None":
    """Return the mean of cpufreq's policies; of at most 16 evenly spread ones, as each read costs."""
    if "policies" not in memo:
        folder = "/sys/devices/system/cpu/cpufreq/"
        policies = sorted(name for name in host.names(folder) if name.startswith("policy"))
        chosen = policies[:: max(1, -(-len(policies) // 16))]
        memo["policies"] = [folder + name + "/scaling_cur_freq" for name in chosen]
    kilohertz = [value for value in map(host.number, memo["policies"]) if value]
    return round(sum(kilohertz) / len(kilohertz)) * 1000 if kilohertz else None


# ---------------------------------------------------------------- memory, load, pressure, uptime


MEMINFO = re.compile(
    r"^(MemTotal|MemFree|MemAvailable|Buffers|Cached|SwapTotal|SwapFree|Shmem|SReclaimable):\s*(\d+) kB", re.MULTILINE
)


def parse_meminfo(text: str) -> "dict[str, int]":
    """Return the sizes of /proc/meminfo that are wanted, in bytes (proc_meminfo(5)).

    MemTotal:       24684096 kB
    MemAvailable:   22995468 kB
    """
    return {name: int(kibibytes) * 1024 for name, kibibytes in MEMINFO.findall(text)}


def collect_memory(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/meminfo and count as `free` does."""
    told = parse_meminfo(host.read("/proc/meminfo"))
    if "MemTotal" not in told:
        raise Missing("unreadable")
    cached = told.get("Cached", 0) + told.get("SReclaimable", 0)
    buffers, free = told.get("Buffers", 0), told.get("MemFree", 0)
    # Kernels before 3.14 (OpenVZ) have no MemAvailable; the caches then count as available.
    estimate = max(0, free + buffers + cached - told.get("Shmem", 0))
    section = {
        "total_bytes": told["MemTotal"],
        "available_bytes": told.get("MemAvailable", estimate),
        "free_bytes": free,
        "buffers_bytes": buffers,
        "cached_bytes": cached,
        "shared_bytes": told.get("Shmem", 0),
        "swap_total_bytes": told.get("SwapTotal", 0),
        "swap_free_bytes": told.get("SwapFree", 0),
    }
    try:
        section["zfs_cache_bytes"] = parse_arcstats(host.read("/proc/spl/kstat/zfs/arcstats"))
    except OSError:
        return section
    return section


def parse_arcstats(text: str) -> int:
    """Return the bytes of ZFS's cache (ARC) that it gives back when programs need them: all above its minimum.

    name                            type data
    size                            4    20132659200
    c_min                           4    1048576000
    """
    told = dict(re.findall(r"^(size|c_min)\s+\d+\s+(\d+)$", text, re.MULTILINE))
    return max(0, int(told.get("size", 0)) - int(told.get("c_min", 0)))


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
    """Read /proc/loadavg; the processes that this user sees are counted every 30 seconds."""
    section = parse_loadavg(host.read("/proc/loadavg"))
    now = host.boottime()
    if now >= memo.get("until", 0.0):  # with 500 processes the listing costs as much as all else here together
        memo.update(processes=sum(1 for name in host.names("/proc") if name.isdigit()), until=now + 30.0)
    section["processes"] = memo["processes"]
    return section


def parse_pressure(text: str) -> "dict[str, float]":
    """Return averages in percent and totals in seconds (Documentation/accounting/psi.rst).

    some avg10=0.00 avg60=0.31 avg300=1.12 total=19083241
    full avg10=0.00 avg60=0.00 avg300=0.00 total=0
    """
    stalls = {}
    for line in text.splitlines():
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
    for line in text.splitlines()[2:]:
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
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 8 and words[1] == words[7] == "00000000" and usable_route(words[3]):
            yield int(words[6]), words[0], words[2]


def parse_route6(text: str) -> "Iterator[tuple[int, str, str]]":
    """Yield metric, interface and gateway of each IPv6 default route that is up (/proc/net/ipv6_route).

    Destination, source, next hop (each 32 digits and a prefix), metric, references, uses, flags, interface:
    000…000 00 000…000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
    """
    for line in text.splitlines():
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
    if host.exists(folder + "master"):
        return ""
    if host.exists(folder + "tun_flags"):
        return "vpn"
    is_pair = host.text(folder + "iflink") != host.text(folder + "ifindex")
    return "veth" if is_pair else "virtual"


def known_interfaces(host: Host, names: "tuple[str, ...]", memo: "Json") -> "dict[str, str]":
    """Return type by name of the interfaces that count; asked again when names change and every 10 minutes."""
    now = host.boottime()
    if now >= memo.get("until", 0.0):
        memo.update(types={}, until=now + REFRESH_SECONDS)
    if memo.get("names") != names:
        types = memo["types"]
        memo.update(names=names, primary_until=0.0)
        memo["types"] = {name: types[name] if name in types else interface_type(host, name) for name in names}
    if now >= memo.get("primary_until", 0.0):
        memo.update(primary=primary_interface(default_routes(host)), primary_until=now + 30.0)
    # Where there is a real card, a veth is somebody's other end; where there is none, it is a container's own.
    is_host = any(kind in ("physical", "wireless") for kind in memo["types"].values())
    types = {name: kind for name, kind in memo["types"].items() if kind and not (is_host and kind == "veth")}
    if memo["primary"] in names:
        types.setdefault(memo["primary"], "virtual")
    return types


def collect_network(host: Host, request: Request, memo: "Json") -> "Json":
    """Read /proc/net/dev, of the interfaces that count."""
    at = host.boottime()
    lines = dict(parse_net_dev(host.read("/proc/net/dev")))
    types = known_interfaces(host, tuple(lines), memo)
    section = {"at": round(at, 3)}  # type: Json
    if memo["primary"]:
        section["primary"] = memo["primary"]
    section["interfaces"] = {name: interface_counters(lines[name]) for name in types}
    return section


# ---------------------------------------------------------------- disk_io

NO_WHOLE_DISK = re.compile(
    r"loop|ram|zram|dm-|md|sr\d|fd\d|zd\d|nbd|bcache|drbd|rbd|mmcblk\d+(boot|rpmb|gp)|nvme\d+c\d+n"
)


def parse_diskstats(text: str) -> "Iterator[tuple[str, list[str]]]":
    """Yield each block device's name and its counters as text (Documentation/admin-guide/iostats.rst).

    254       0 vda 47083 22848 2508882 18408 25532 252290 6699032 44706 0 19480 65680 13522 53 929272 2381 1237 184
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 13:
            yield words[2], words[3:]


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
    """Tell whether a block device is a disk of its own: no partition, nothing stacked on others."""
    return not NO_WHOLE_DISK.match(name) and host.exists("/sys/block/" + name + "/device")


def whole_disks(host: Host, names: "Iterable[str]", memo: "Json") -> "list[str]":
    """Return which are whole disks; each name is asked for once, and again every 10 minutes."""
    now = host.boottime()
    if now >= memo.get("until", 0.0):
        memo.update(whole={}, until=now + REFRESH_SECONDS)
    whole = memo["whole"]
    for name in names:
        if name not in whole:
            whole[name] = is_whole_disk(host, name)
    return [name for name in names if whole[name]]


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
        found.status_path, found.disk = runtime_status_path(host, folder), disk
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
            critical = [name for name in host.names(folder) if name.endswith("_type")]
            for name in critical:
                threshold = limit(host.number(folder + name[: -len("type")] + "temp"))
                if threshold and host.text(folder + name) == "critical":
                    found.told["critical_celsius"] = threshold
            yield found


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
    for one in inputs:  # two chips of one kind without an address
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
    now, chips = host.boottime(), sorted(host.names("/sys/class/hwmon"))
    if memo.get("chips") != chips or now >= memo["until"]:
        memo.update(chips=chips, until=now + REFRESH_SECONDS, inputs=plan_inputs(host))
    if not memo["inputs"]:
        raise Missing("not_supported")
    positions = memo.setdefault("positions", {})
    section = {"temperatures": [], "fans": []}  # type: Json
    asleep = []
    for one in memo["inputs"]:
        if is_asleep(host, one, positions):
            asleep.append(one.told["id"])
        else:
            read_input(host, one, section)
    for one in memo["inputs"]:  # after reading: what reading itself costs the disk is no movement
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
        kind, content = "sections", collector.read(host, request, memo)  # type: tuple[str, Json | str]
    except Missing as reason:
        kind, content = "missing", reason.reason
    except Late:
        kind, content = "missing", "timed_out"
    except PermissionError:
        kind, content = "missing", "permission_denied"
    except Broken as err:
        kind, content = "errors", first_line(str(err))
    except Exception as err:  # noqa: BLE001 - one section must never take the others with it
        kind, content = "errors", first_line(f"{type(err).__name__}: {err}")
    return Outcome(kind, content, time.monotonic() - begun)


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
        if self.take(seconds):
            return self.outcome
        self.was_late = True
        return None

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
        blocking = [one for one in known if one.budget and one.may_block(self.host, self.memos[one.name])]
        started = [self.begin(one, request) for one in blocking]
        for one in known:
            if one not in blocking:
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
        return encode_reply({"id": reply["id"], "error": f"a reply of {len(payload)} bytes is too long"})
    if len(payload) > PLAIN_BYTES:
        payload, form = zlib.compress(payload, 6), "z"
    return b"\x1e%s %d %s\n" % (reply["id"].encode("ascii"), len(payload), form.encode("ascii")) + payload


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


def serve(host: Host, requests: "BinaryIO", replies: int, idle_seconds: float = IDLE_SECONDS) -> None:
    """Say the marker, then answer requests until their end, or until none comes or is taken for too long."""
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    write(replies, b"\x1ehomelab_monitor %d %s %d\n" % (PROTOCOL, host.python().encode(), os.getpid()))
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
    try:
        write(1, json.dumps(clean(reply), indent=2).encode("ascii") + b"\n")
    except BrokenPipeError:
        return  # who reads it has seen enough


def main() -> None:
    """Serve when started by the bootstrap command, show when run by hand.

    The bootstrap compiles this file under the name probe.py without a file behind it; run by hand it is
    either a file or standard input, which is at its end by now.
    """
    prepare()
    root = os.environ.get("HOMELAB_MONITOR_ROOT", "/")
    host = Host() if root == "/" else RecordedHost(root)
    if "__file__" in globals() or main.__code__.co_filename != "probe.py":
        show(host)
        # Not by returning: the interpreter would wait for the threads, and they wait for requests.
        os._exit(0)
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever prints by mistake does not get between the replies
    try:
        serve(host, sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(0)
    os._exit(0)  # at once, even if a thread is stuck in the kernel


if __name__ == "__main__":
    main()
