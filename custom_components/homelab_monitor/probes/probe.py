"""The probe for Linux: tells what this machine is doing, and changes nothing on it.

One file, Python 3.6 or newer, standard library only; it is sent over SSH, runs from memory and
answers requests until its input ends. README.md beside it is the contract: every field, its unit
and its source. To see what it tells of a machine: `ssh user@host python3 - < probe.py`.

Order of this file: the door to the system (Host) · children · one block per section, each with
`parse_*` (pure, a sample in its docstring) and `collect_*` · the table COLLECTORS · threads and
time budgets · framing, requests, start. A collector returns its section or raises Missing.
"""

# ruff: noqa: ARG001, ARG005 - every collector takes the same arguments
# ruff: noqa: PLR2004 - the numbers of kernel files' columns and bits, explained beside them
# ruff: noqa: N818 - Missing and Late are answers rather than errors
# ruff: noqa: PERF203 - a file that cannot be read must not cost the next one
# ruff: noqa: ANN401 - ctypes, and JSON at the edge

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

    Json = dict[str, Any]

PROTOCOL = 1
IDLE_SECONDS = 600.0
PLAIN_BYTES = 1000
REPLY_BYTES = 4 << 20
LINE_BYTES = 1 << 20
OUTPUT_BYTES = 2 << 20
ERROR_CHARACTERS = 300
DEFAULT_TIMEOUT = 8.0
REFRESH_SECONDS = 600.0  # how long something that hardly ever changes is remembered
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

    def statvfs(self, path: str) -> "tuple[int, int, int, int, int, int]":
        """Return block size, blocks, free, available, inodes, free inodes; may block for ever, raises OSError."""
        told = os.statvfs(self.path(path))
        return told.f_frsize, told.f_blocks, told.f_bfree, told.f_bavail, told.f_files, told.f_ffree

    def run(self, argv: "list[str]", timeout: float) -> "tuple[int, str, str]":
        """Run a program without a shell; return exit status, output, errors; raises Late, FileNotFoundError."""
        return run_child(argv, timeout, self.unreaped)

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

    def nvml(self) -> "Nvml":
        """Return NVIDIA's management library; raises OSError where it is not installed."""
        return Nvml()


class RecordedHost(Host):
    """A machine recorded as a tree of files; `.host.json` in it answers what is not a file.

    Keys: `clocks` {boottime, epoch, timezone_offset} (left out: the real ones, for a demo), `uname`,
    `python`, `statvfs` {mountpoint: six numbers}, `run` {command: {status, output, errors} or a file's
    name in the tree}, `lists` {folder: names added to those in the tree}, `permanent_macs`.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.told = json.loads(self.read("/.host.json"))  # type: Json

    def names(self, path: str) -> "list[str]":
        """Return the names in a folder, recorded extras included."""
        extra = self.told.get("lists", {}).get(path, [])  # type: list[str]
        return [name for name in super().names(path) if name not in extra] + extra

    def statvfs(self, path: str) -> "tuple[int, int, int, int, int, int]":
        """Return what was recorded."""
        told = self.told.get("statvfs", {}).get(path)
        if told is None:
            raise FileNotFoundError(path)
        return tuple(told)

    def run(self, argv: "list[str]", timeout: float) -> "tuple[int, str, str]":  # noqa: ARG002
        """Return what the program said when the machine was recorded."""
        told = self.told.get("run", {}).get(" ".join(argv))
        if told is None:
            raise FileNotFoundError(argv[0])
        if isinstance(told, str):
            return 0, self.read("/" + told), ""
        return told.get("status", 0), told.get("output", ""), told.get("errors", "")

    def connect(self, path: str, timeout: float) -> "Any":  # noqa: ARG002
        """Refuse: a conversation cannot be recorded; what programs say can."""
        raise FileNotFoundError(path)

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

    def nvml(self) -> "Nvml":
        """Refuse: a library cannot be recorded; the cards come from the recorded nvidia-smi."""
        raise OSError("recorded")


def run_child(argv: "list[str]", timeout: float, unreaped: "list[Any]") -> "tuple[int, str, str]":
    """Run a program in a session of its own; what is late is killed with all its children, and reaped."""
    import subprocess  # noqa: PLC0415 - not every poll needs it, and it is slow to load

    unreaped[:] = [child for child in unreaped if child.poll() is None]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    child = subprocess.Popen(argv, stdin=null, stdout=pipe, stderr=pipe, start_new_session=True)
    deadline = time.monotonic() + timeout
    try:
        output, errors = read_child(child, deadline)
        status = child.wait(max(0.1, deadline - time.monotonic()))
    except (Late, subprocess.TimeoutExpired):
        end_child(child, unreaped)
        raise Late(argv[0]) from None
    finally:
        for stream in (child.stdout, child.stderr):
            stream.close()  # type: ignore[union-attr]
    return status, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def read_child(child: "Any", deadline: float) -> "tuple[bytes, bytes]":
    """Return what a child writes until it closes both streams, bounded; raises Late."""
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
        child.kill()
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
    return {
        "total_bytes": told["MemTotal"],
        "available_bytes": told.get("MemAvailable", estimate),
        "free_bytes": free,
        "buffers_bytes": buffers,
        "cached_bytes": cached,
        "shared_bytes": told.get("Shmem", 0),
        "swap_total_bytes": told.get("SwapTotal", 0),
        "swap_free_bytes": told.get("SwapFree", 0),
    }


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


def parse_route(text: str) -> "Iterator[tuple[int, str]]":
    """Yield metric and interface of each IPv4 default route that is up (/proc/net/route).

    Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
    eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 8 and words[1] == words[7] == "00000000" and usable_route(words[3]):
            yield int(words[6]), words[0]


def parse_route6(text: str) -> "Iterator[tuple[int, str]]":
    """Yield metric and interface of each IPv6 default route that is up (/proc/net/ipv6_route).

    Destination, source, next hop (each 32 digits and a prefix), metric, references, uses, flags, interface:
    000…000 00 000…000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
    """
    for line in text.splitlines():
        if line.startswith("00000000000000000000000000000000 00 "):
            words = line.split()
            if len(words) == 10 and usable_route(words[8]):
                yield int(words[5], 16), words[9]


def usable_route(flags: str) -> bool:
    """Tell whether a route is up (0x1) and does not reject (0x200)."""
    return int(flags, 16) & 0x201 == 0x1


def primary_interface(host: Host) -> str:
    """Return the interface of the default route with the lowest metric, IPv4 before IPv6, "" without one."""
    for path, parse in (("/proc/net/route", parse_route), ("/proc/net/ipv6_route", parse_route6)):
        routes = sorted(parse(host.text(path)))
        if routes:
            return routes[0][1]
    return ""


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
        memo.update(primary=primary_interface(host), primary_until=now + 30.0)
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
GPU_CHIPS = ("amdgpu", "radeon")  # told in the section gpu


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
    """
    parts = [part for part in path.split("/")[:-1] if part != "hwmon"]
    if parts and not COUNTED_NAME.match(parts[-1]):
        return parts[-1]
    return next((part for part in reversed(parts) if PCI_ADDRESS.match(part)), "")


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


# ---------------------------------------------------------------- gpu

GPU_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
GPU_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
UNUSED_DRIVERS = ("", "vfio-pci", "pci-stub")
PCI = "/sys/bus/pci/devices/"
MEBIBYTE = 1 << 20


class Card:
    """One graphics card as PCI tells it."""

    def __init__(self, host: Host, address: str, vendor: str) -> None:
        self.address = address
        self.vendor = vendor
        self.folder = PCI + address + "/"
        self.device = host.text(self.folder + "device")

    def driver(self, host: Host) -> str:
        """Return the kernel driver that has the card now, "" without one."""
        return host.link_name(self.folder + "driver")

    def sleeps(self, host: Host) -> bool:
        """Tell whether the card is powered down; touching it would wake it."""
        return host.text(self.folder + "power/runtime_status") in ("suspended", "suspending")


def graphics_cards(host: Host, memo: "Json") -> "list[Card]":
    """Return the graphics cards of the three vendors; looked for again when PCI devices come or go."""
    addresses = sorted(host.names(PCI))
    if memo.get("addresses") != addresses:
        cards = []
        for address in addresses:
            kind = host.text(PCI + address + "/class")[:4]
            vendor = GPU_VENDORS.get(host.text(PCI + address + "/vendor")) if kind in ("0x03", "0x12") else None
            # Class 0x12 holds AMD's accelerators, but also Intel's NPUs, which are no GPUs.
            cards += [Card(host, address, vendor)] if vendor and (kind == "0x03" or vendor == "amd") else []
        memo.update(addresses=addresses, cards=cards)
    return memo["cards"]  # type: ignore[no-any-return]


def own_cards(host: Host, memo: "Json") -> "list[Card]":
    """Return the cards that this system uses: not those of a VM (vfio), nor in a container those of its host."""
    drivers = [(card, card.driver(host)) for card in graphics_cards(host, memo)]
    # An NVIDIA card without a driver may be a broken installation; the others then are simply not used.
    cards = [card for card, name in drivers if name not in UNUSED_DRIVERS or (not name and card.vendor == "nvidia")]
    if not cards or not is_container(host):
        return cards
    has_dri = any(name.startswith(("card", "render")) for name in host.names("/dev/dri"))
    has_nvidia = host.exists("/dev/nvidiactl")
    return [card for card in cards if (has_nvidia if card.driver(host) == "nvidia" else has_dri)]


def is_container(host: Host) -> bool:
    """Tell whether this is a container, by the marks that container managers leave for everybody to read."""
    return bool(container_kind(host))


def has_cards(host: Host, memo: "Json") -> bool:
    """Tell whether there is a card or its driver, which may never answer."""
    return bool(own_cards(host, memo)) or has_nvidia_devices(host)


def has_nvidia_devices(host: Host) -> bool:
    """Tell whether NVIDIA's driver is loaded, also where no PCI bus shows its card (WSL, Jetson)."""
    return host.exists("/dev/nvidiactl") or host.exists("/dev/dxg")


def collect_gpu(host: Host, request: Request, memo: "Json") -> "Json":
    """Read every card in its vendor's way; a card that sleeps is left asleep."""
    at, cards = host.boottime(), own_cards(host, memo)
    section = {"at": round(at, 3)}  # type: Json
    gpus = nvidia_gpus(host, [card for card in cards if card.vendor == "nvidia"], memo, section)
    gpus += [sysfs_gpu(host, card, memo) for card in cards if card.vendor != "nvidia"]
    if not gpus:
        raise Missing("not_installed")
    section["gpus"] = gpus
    return section


def card_name(host: Host, card: Card, memo: "Json") -> str:
    """Return a card's name: its own, else the one of the system's list of PCI ids, else its id."""
    names = memo.setdefault("names", {})
    if card.address not in names:
        listed = pci_name(host, card.vendor, card.device)
        told = host.text(card.folder + "product_name") or listed or "GPU " + card.device
        maker = GPU_NAMES[card.vendor]
        names[card.address] = told if told.lower().startswith(maker.lower()) else maker + " " + told
    return names[card.address]  # type: ignore[no-any-return]


def pci_name(host: Host, vendor: str, device: str) -> str:
    """Return a device's name in pci.ids, "" where there is no such list; in brackets stands what is on the box."""
    number = next(number for number, name in GPU_VENDORS.items() if name == vendor)
    for path in PCI_IDS:
        if host.exists(path):
            listed = parse_pci_ids(host.read(path), number[2:], device[2:])
            return listed.partition("[")[2].rpartition("]")[0] or listed
    return ""


def parse_pci_ids(text: str, vendor: str, device: str) -> str:
    r"""Return the name of a device in pci.ids, "" if it is not in it.

    1002  Advanced Micro Devices, Inc. [AMD/ATI]
    \t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]
    """
    block = re.search(rf"^{re.escape(vendor)}  .*\n((?:[\t#].*\n|\n)*)", text + "\n", re.MULTILINE)
    name = re.search(rf"^\t{re.escape(device)}  (.*)$", block.group(1), re.MULTILINE) if block else None
    return name.group(1).strip() if name else ""


def sysfs_gpu(host: Host, card: Card, memo: "Json") -> "Json":
    """Return what sysfs tells of an AMD or Intel card (Documentation/gpu/amdgpu/thermal.rst)."""
    gpu = {"id": card.address, "vendor": card.vendor, "name": card_name(host, card, memo)}  # type: Json
    gpu.update(pci_address=card.address, state="suspended" if card.sleeps(host) else "ok")
    if card.vendor == "amd" and gpu["state"] == "ok" and card.driver(host) == "amdgpu":
        gpu.update(told for told in amd_values(host, card, memo) if told[1] is not None)
    return gpu


def amd_values(host: Host, card: Card, memo: "Json") -> "Iterator[tuple[str, object]]":
    """Yield the values of an amdgpu card, None for what it does not tell."""
    unique = host.text(card.folder + "unique_id")
    yield "uuid", unique if unique.strip("0") else None
    usage = host.number(card.folder + "gpu_busy_percent")
    # The firmware is busy at times (EBUSY); the second answer is then a good one.
    yield "usage_percent", host.number(card.folder + "gpu_busy_percent") if usage is None else usage
    for what in ("total", "used"):
        yield f"memory_{what}_bytes", amd_memory(host, card, what, memo)
    monitors = host.names(card.folder + "hwmon")
    if not monitors:
        return
    folder = card.folder + "hwmon/" + monitors[0] + "/"
    yield "temperature_celsius", degrees(host.number(folder + "temp1_input"))
    watts = host.number(folder + "power1_average") or host.number(folder + "power1_input")
    yield "power_watts", None if watts is None else round(watts / 1e6, 2)
    cap = host.number(folder + "power1_cap")
    yield "power_limit_watts", round(cap / 1e6, 2) if cap else None
    pwm, full = host.number(folder + "pwm1"), host.number(folder + "pwm1_max") or 255
    yield "fan_percent", None if pwm is None else round(100.0 * pwm / full)
    yield "clock_hz", host.number(folder + "freq1_input")
    yield "memory_clock_hz", host.number(folder + "freq2_input")


def amd_memory(host: Host, card: Card, what: str, memo: "Json") -> "int | None":
    """Return video memory in bytes; an APU lives in system memory (GTT) as well as in its carve-out."""
    video = host.number(card.folder + f"mem_info_vram_{what}")
    shared = host.number(card.folder + f"mem_info_gtt_{what}")
    return video + shared if video is not None and shared is not None and is_apu(host, card, memo) else video


def is_apu(host: Host, card: Card, memo: "Json") -> bool:
    """Tell whether a card is part of a CPU: its metrics table then is of format 2 or 3 (kgd_pp_interface.h)."""
    known = memo.setdefault("apus", {})
    if card.address not in known:
        try:
            header = host.read_bytes(card.folder + "gpu_metrics")[:3]
        except OSError:
            header = b""
        video = host.number(card.folder + "mem_info_vram_total") or 0
        known[card.address] = header[2] in (2, 3) if len(header) == 3 else video <= 1 << 30
    return known[card.address]  # type: ignore[no-any-return]


# NVIDIA: the management library, else its command. The library is opened for one reading and closed after
# it, so that no /dev/nvidia* stays open: an open one keeps the card awake and the driver from being replaced.


def nvidia_gpus(host: Host, cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return NVIDIA's cards; raises Broken when they are there and the driver does not work."""
    ours = [card for card in cards if card.driver(host) in ("nvidia", "")]
    other = [sysfs_gpu(host, card, memo) for card in cards if card not in ours]
    if not ours and not has_nvidia_devices(host):
        return other
    awake = [card for card in ours if not card.sleeps(host)]
    asleep = [proc_gpu(host, card, memo, "suspended") for card in ours if card not in awake]
    if not awake and ours:
        return asleep + other
    try:
        return nvml_gpus(host, awake, memo, section) + asleep + other
    except OSError:
        if is_bare(host, awake):
            return asleep + other
        return smi_gpus(host, awake, memo, section) + asleep + other


def is_bare(host: Host, cards: "list[Card]") -> bool:
    """Tell whether cards have neither a driver nor NVIDIA's programs: nobody wants to use them."""
    return bool(cards) and not any(card.driver(host) for card in cards) and not host.exists("/usr/bin/nvidia-smi")


def proc_gpu(host: Host, card: Card, memo: "Json", state: str) -> "Json":
    """Return what the driver tells of a card without touching it."""
    told = parse_colons(host.text("/proc/driver/nvidia/gpus/" + card.address + "/information"))
    uuid = told.get("GPU UUID", "")
    uuid = "" if "?" in uuid else uuid
    gpu = {"id": uuid or card.address, "vendor": "nvidia"}  # type: Json
    gpu.update(name=told.get("Model") or card_name(host, card, memo), pci_address=card.address, state=state)
    if uuid:
        gpu["uuid"] = uuid
    return gpu


def parse_colons(text: str) -> "dict[str, str]":
    r"""Return `name: value` lines as a dict.

    Model: \t\t NVIDIA GeForce RTX 3090
    GPU UUID: \t GPU-1c2b3a4d-0000-1111-2222-333344445555
    """
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


NVML_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1")
NVML_NOT_FOUND, NVML_DENIED, NVML_LOST = 6, 4, 15
# Bits of nvmlClocksEventReasons (nvml.h); a slowdown by heat or power sets the general hardware bit, too.
THERMAL_BITS, POWER_BITS, HARDWARE_BIT = 0x20 | 0x40, 0x4 | 0x80, 0x8


class NvmlError(Broken):
    """NVML's own complaint."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("NVML: " + text)
        self.code = code


class Nvml:
    """NVIDIA's management library, through ctypes."""

    def __init__(self) -> None:
        try:
            import ctypes  # noqa: PLC0415
        except ImportError as err:  # a Python built without it
            raise OSError(str(err)) from None

        self.ctypes = ctypes
        self.library = self.load()
        self.library.nvmlErrorString.restype = ctypes.c_char_p

    def load(self) -> "Any":
        """Return the library; raises OSError where there is none."""
        for name in NVML_LIBRARIES[:-1]:
            try:
                return self.ctypes.CDLL(name)
            except OSError:
                continue
        return self.ctypes.CDLL(NVML_LIBRARIES[-1])

    def call(self, name: str, *arguments: "Any") -> None:
        """Call a function; raises NvmlError with the library's text, also where an old library lacks it."""
        function = getattr(self.library, name, None)
        if function is None:
            raise NvmlError(13, name + " is not in this library")
        code = function(*arguments)
        if code:
            raise NvmlError(code, self.library.nvmlErrorString(code).decode("ascii", "replace"))

    def words(self, name: str, *arguments: "Any") -> str:
        """Return the text that a function writes into a buffer."""
        buffer = self.ctypes.create_string_buffer(96)
        self.call(name, *arguments, buffer, 96)
        return buffer.value.decode("utf-8", "replace")

    def numbers(self, name: str, form: str, *arguments: "Any") -> "tuple[Any, ...] | None":
        """Return the struct that a function fills (`form` as in module struct), None where it has none to tell."""
        import struct  # noqa: PLC0415

        size = struct.calcsize(form)
        buffer = self.ctypes.create_string_buffer(size)
        if name.endswith("_v2"):  # a versioned struct says first which one it is
            struct.pack_into("I", buffer, 0, size | 2 << 24)
        try:
            self.call(name, *arguments, buffer)
        except NvmlError as err:
            if err.code == NVML_LOST:
                raise
            return None
        return struct.unpack(form, buffer.raw)

    def handle(self, address: str) -> "Any":
        """Return the card at a PCI address; only this one is initialised, so that the others sleep on."""
        handle = self.ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", address.encode("ascii"), self.ctypes.byref(handle))
        return handle

    def handles(self) -> "list[Any]":
        """Return all cards, where PCI does not name them."""
        count = self.ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", self.ctypes.byref(count))
        handles = [self.ctypes.c_void_p() for _ in range(count.value)]
        for i, handle in enumerate(handles):
            self.call("nvmlDeviceGetHandleByIndex_v2", i, self.ctypes.byref(handle))
        return handles


def nvml_gpus(host: Host, cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return the cards as NVML tells them; after an error the process is stale, unless it only just began."""
    nvml = nvml_library(host, memo)
    try:
        nvml.call("nvmlInit_v2")
        try:
            section["driver"] = nvml.words("nvmlSystemGetDriverVersion")
            section["source"] = "nvml"
            found = [nvml_card(host, nvml, card, memo) for card in cards]
            return [gpu for gpu in found if gpu] if cards else [nvml_gpu(nvml, one) for one in nvml.handles()]
        finally:
            nvml.call("nvmlShutdown")
    except NvmlError:
        # A process that ends at every poll would cost more than it tells.
        memo["stale"] = host.boottime() - memo["nvml_since"] > 60.0
        raise


def nvml_library(host: Host, memo: "Json") -> Nvml:
    """Return the library; raises OSError where it is not installed, looked for again after 10 minutes."""
    now = host.boottime()
    if "nvml" not in memo:
        if now < memo.get("no_nvml_until", 0.0):
            raise OSError("not installed")
        memo["no_nvml_until"] = now + REFRESH_SECONDS
        memo.update(nvml=host.nvml(), nvml_since=now)
    return memo["nvml"]  # type: ignore[no-any-return]


def nvml_card(host: Host, nvml: Nvml, card: Card, memo: "Json") -> "Json | None":
    """Return one card; as `lost` where it fell off the bus, None where it was not given to this container."""
    try:
        return nvml_gpu(nvml, nvml.handle(card.address))
    except NvmlError as err:
        if err.code == NVML_LOST:
            return proc_gpu(host, card, memo, "lost")
        if err.code in (NVML_NOT_FOUND, NVML_DENIED):
            return None if is_container(host) else proc_gpu(host, card, memo, "lost")
        raise


def nvml_gpu(nvml: Nvml, handle: "Any") -> "Json":
    """Return one card's values; what it does not tell is left out."""
    uuid = nvml.words("nvmlDeviceGetUUID", handle)
    gpu = {"id": uuid, "vendor": "nvidia", "name": nvml.words("nvmlDeviceGetName", handle), "uuid": uuid}  # type: Json
    gpu["state"] = "ok"
    gpu.update(told for told in nvml_values(nvml, handle) if told[1] is not None)
    return gpu


def nvml_values(nvml: Nvml, handle: "Any") -> "Iterator[tuple[str, object]]":
    """Yield the values of one card; memory without the driver's reserve, as nvidia-smi counts it."""
    place = nvml.numbers("nvmlDeviceGetPciInfo_v3", "16s5I32s", handle)
    yield "pci_address", pci_address(place[-1]) if place else None
    usage = nvml.numbers("nvmlDeviceGetUtilizationRates", "2I", handle)
    yield "usage_percent", usage and usage[0]
    memory = nvml.numbers("nvmlDeviceGetMemoryInfo_v2", "I4Q", handle)
    sizes = memory[1::3] if memory else nvml.numbers("nvmlDeviceGetMemoryInfo", "3Q", handle)
    yield "memory_total_bytes", sizes and sizes[0]
    yield "memory_used_bytes", sizes and sizes[-1]
    yield "temperature_celsius", one_of(nvml.numbers("nvmlDeviceGetTemperature", "I", handle, 0), 1)
    yield "power_watts", one_of(nvml.numbers("nvmlDeviceGetPowerUsage", "I", handle), 0.001)
    yield "power_limit_watts", one_of(nvml.numbers("nvmlDeviceGetEnforcedPowerLimit", "I", handle), 0.001)
    yield "fan_percent", one_of(nvml.numbers("nvmlDeviceGetFanSpeed", "I", handle), 1)
    yield "clock_hz", one_of(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 1), 1000000)
    yield "memory_clock_hz", one_of(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 2), 1000000)
    reasons = nvml.numbers("nvmlDeviceGetCurrentClocksThrottleReasons", "Q", handle)
    yield "throttle_reasons", throttle_reasons(reasons[0]) if reasons else None


def one_of(told: "tuple[Any, ...] | None", factor: float) -> "float | None":
    """Return the only number of a struct in the contract's unit."""
    return None if told is None else round(told[0] * factor, 3)


def pci_address(told: "bytes | str") -> str:
    r"""Return a PCI address as sysfs writes it.

    b"00000000:0A:00.0\x00…"  →  0000:0a:00.0
    """
    text = told.split(b"\0")[0].decode("ascii", "replace") if isinstance(told, bytes) else told
    domain, _, rest = text.strip().lower().partition(":")
    return domain[-4:] + ":" + rest


def throttle_reasons(bits: int) -> "list[str]":
    """Return why the card is slowed down; an idle card or a chosen clock is no reason."""
    is_thermal, is_power = bool(bits & THERMAL_BITS), bool(bits & POWER_BITS)
    is_hardware = bool(bits & HARDWARE_BIT) and not bits & 0xC0
    told = (("thermal", is_thermal), ("power", is_power), ("hardware", is_hardware))
    return [name for name, applies in told if applies]


SMI_FIELDS = (
    "uuid,pci.bus_id,name,driver_version,utilization.gpu,memory.total,memory.used,temperature.gpu,"
    "power.draw,enforced.power.limit,fan.speed,clocks.sm,clocks.mem"
)
# One unknown field refuses the whole query; the last one has had two names and once did not exist.
SMI_LAST = (",clocks_event_reasons.active", ",clocks_throttle_reasons.active", "")
SMI_NUMBERS = (
    ("usage_percent", 1),
    ("memory_total_bytes", MEBIBYTE),
    ("memory_used_bytes", MEBIBYTE),
    ("temperature_celsius", 1),
    ("power_watts", 1),
    ("power_limit_watts", 1),
    ("fan_percent", 1),
    ("clock_hz", 1000000),
    ("memory_clock_hz", 1000000),
)


def smi_gpus(host: Host, cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return the cards as nvidia-smi tells them, where the library cannot be loaded."""
    gpus = list(parse_smi(smi_output(host, memo)))
    section["source"] = "nvidia-smi"
    for gpu in gpus:
        section["driver"] = gpu.pop("driver")
    told = [gpu["pci_address"] for gpu in gpus]
    lost = [card for card in cards if card.address not in told and not is_container(host)]
    return gpus + [proc_gpu(host, card, memo, "lost") for card in lost]


def smi_output(host: Host, memo: "Json") -> str:
    """Return what nvidia-smi prints for the newest query that it understands; raises Broken with its words."""
    first = memo.get("smi", 0)
    for number, last in enumerate(SMI_LAST[first:], first):
        argv = ["nvidia-smi", "--query-gpu=" + SMI_FIELDS + last, "--format=csv,noheader,nounits"]
        try:
            status, output, errors = host.run(argv, 4.0)
        except FileNotFoundError:
            raise Broken("the NVIDIA driver has no libnvidia-ml.so.1 and no nvidia-smi beside it") from None
        if not status:
            memo["smi"] = number
            return output
        if "not a valid field" not in output + errors:
            break
    raise Broken(output.strip() or errors)


def parse_smi(text: str) -> "Iterator[Json]":
    """Yield one card per line; a field that a card lacks says so in brackets.

    GPU-1c2b, 00000000:01:00.0, NVIDIA GeForce RTX 3090, 570.195.03, 3, 24576, 412, 41, 28.31, 350.00, 0, 210, 405, 0x1
    """
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) < 13 or not words[0].startswith(("GPU-", "MIG-")):
            continue
        gpu = {"id": words[0], "vendor": "nvidia", "name": words[2], "uuid": words[0]}  # type: Json
        gpu.update(pci_address=pci_address(words[1]), driver=words[3])
        gpu["state"] = "lost" if any("GPU is lost" in word for word in words) else "ok"
        for (key, factor), word in zip(SMI_NUMBERS, words[4:]):
            if re.match(r"\d+(\.\d+)?$", word):
                value = float(word) * factor
                gpu[key] = int(value) if value == int(value) else round(value, 3)
        if len(words) > 13 and words[13].startswith("0x"):
            gpu["throttle_reasons"] = throttle_reasons(int(words[13], 16))
        yield gpu


# ---------------------------------------------------------------- services

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
SYSTEMCTL_SHOW = ["systemctl", "show", "--no-pager", "-p"]
UNIT_PROPERTIES = "Id,Result,ExecMainStatus,NRestarts,MainPID,MemoryCurrent,ControlGroup,ActiveEnterTimestampMonotonic"
ADMIN_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system")
UNIT_FOLDERS = (*ADMIN_FOLDERS, "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,250}\.service$")
UNITS_SHOWN = 200
SHOW_SECONDS = 300.0
UNKNOWN_BYTES = (1 << 64) - 1  # what systemd says for a size that it does not know


class Unit:
    """One line of systemd's list."""

    def __init__(self, name: str, states: "tuple[str, ...]", description: str) -> None:
        self.name = name
        self.load, self.active, self.sub = states
        self.description = description

    def is_present(self) -> bool:
        """Tell whether it is one: some are only named by others, or masked. One that failed may have lost its file."""
        return self.load == "loaded" or self.active != "inactive"


def parse_units(text: str) -> "Iterator[Unit]":
    """Yield the units of systemctl's list; old systemd marks failed ones even with --plain.

    ssh.service                loaded    active   running OpenBSD Secure Shell server
    ● bad.service              loaded    failed   failed  Does not work
    """
    for line in text.splitlines():
        words = line.lstrip("\u25cf\u00d7* ").split(None, 4)
        if len(words) >= 4:
            yield Unit(words[0], tuple(words[1:4]), words[4].strip() if len(words) > 4 else "")


# The list of units can be had from PID 1 over D-Bus, which costs the machine an eighth of starting systemctl: that has
# to be loaded and linked first. systemctl remains for where this does not work: no bus, or a systemd older than 230.

BUS_ORDER = b"l" if sys.byteorder == "little" else b"B"
BUS_RETURN, BUS_ERROR = 2, 3
BUS_NAME = "org.freedesktop.DBus"
MANAGER = "org.freedesktop.systemd1"


def bus_text(text: str) -> bytes:
    """Return a string as D-Bus writes it, not aligned."""
    import struct  # noqa: PLC0415

    return struct.pack("=I", len(text)) + text.encode("ascii") + b"\0"


def bus_call(serial: int, name: str, interface: str, member: str, pattern: str = "") -> bytes:
    """Return a method call without arguments, or with no states and one pattern (D-Bus specification, messages)."""
    import struct  # noqa: PLC0415

    told = bus_text(pattern)
    body = struct.pack("=II", 0, len(told)) + told if pattern else b""
    header, path = b"", "/" + name.replace(".", "/")
    for code, kind, text in ((1, b"o", path), (2, b"s", interface), (3, b"s", member), (6, b"s", name)):
        header += bytes(-len(header) % 8) + bytes([code, 1]) + kind + b"\0" + bus_text(text)
    if pattern:
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
    """Return that many bytes from a socket; raises OSError when there are fewer."""
    content = b""
    while len(content) < size:
        chunk = door.recv(size - len(content))
        if not chunk:
            raise OSError("closed")
        content += chunk
    return content


def bus_units(host: Host) -> bytes:
    """Return what PID 1 answers when asked for all services: root has a socket to it, others take the system's bus."""
    is_root = os.geteuid() == 0
    door = host.connect("/run/systemd/private" if is_root else "/run/dbus/system_bus_socket", 4.0)
    try:
        # BEGIN goes with it: systemd's own socket overlooks a call that comes in one piece with BEGIN.
        identity = str(os.geteuid()).encode("ascii").hex().encode("ascii")
        door.sendall(b"\0AUTH EXTERNAL " + identity + b"\r\nBEGIN\r\n")
        if not door.recv(256).startswith(b"OK "):
            raise OSError("refused")
        hello = b"" if is_root else bus_call(1, BUS_NAME, BUS_NAME, "Hello")
        wanted = bus_call(2, MANAGER, MANAGER + ".Manager", "ListUnitsByPatterns", "*.service")
        door.sendall(hello + wanted)
        kind, body = bus_message(door)
        answers = [kind]
        while answers.count(BUS_RETURN) < (1 if is_root else 2) and BUS_ERROR not in answers:
            kind, body = bus_message(door)
            answers.append(kind)
    finally:
        door.close()
    if BUS_ERROR in answers:
        raise OSError(body[4:200].decode("utf-8", "replace"))
    return body


def parse_bus_units(body: bytes) -> "Iterator[Unit]":
    """Yield the units of ListUnitsByPatterns' answer (org.freedesktop.systemd1(5)): an array of structs of strings.

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


def list_units(host: Host, memo: "Json") -> "list[Unit]":
    """Return all services that systemd knows, by name; a bus that fails is tried again after 10 minutes."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    now = host.boottime()
    if now >= memo.get("no_bus_until", 0.0):
        try:
            return sorted(parse_bus_units(bus_units(host)), key=lambda one: one.name)
        except socket.timeout:
            raise Late("systemd") from None
        except (OSError, struct.error):
            memo["no_bus_until"] = now + REFRESH_SECONDS
    return list(parse_units(systemctl(host, SYSTEMCTL_LIST)))


def parse_show(text: str) -> "Iterator[dict[str, str]]":
    """Yield the properties of each unit; an empty line stands between two.

    Id=ssh.service
    MainPID=812

    Id=bad.service
    MainPID=0
    """
    for block in text.split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines() if "=" in line)
        properties = {name: value for name, _, value in pairs}
        if "Id" in properties:
            yield properties


def admin_units(host: Host) -> "set[str]":
    """Return the units that the administrator wrote: files, or links to files that no package brought.

    What package tools generate there (snapd) is not the administrator's, nor are masks and aliases.
    """
    found = set()
    for folder in ADMIN_FOLDERS:
        for name in host.names(folder):
            if name.endswith(".service") and not name.startswith("snap.") and is_admin_file(host, folder + "/" + name):
                found.add(name)
    return found


def is_admin_file(host: Host, path: str) -> bool:
    """Tell whether a unit file is one of its own."""
    if not host.is_link(path):
        return True
    real = host.real_path(path)
    return host.exists(path) and not real.startswith(("/usr/lib/", "/lib/", "/dev/", "/run/", ADMIN_FOLDERS[0]))


def template_of(name: str) -> str:
    """Return the template of an instance, else the name.

    backup@home.service  →  backup@.service
    """
    stem, at, _ = name.partition("@")
    return stem + "@.service" if at else name


def chosen_units(listed: "list[Unit]", admin: "set[str]", watch: "list[str]") -> "dict[str, str]":
    """Return origin by name of the units to be shown in full: the administrator's, failed and watched ones."""
    import fnmatch  # noqa: PLC0415

    names = [one.name for one in listed if one.is_present()]
    chosen = {name: "admin" for name in sorted(admin) if "@." not in name}
    chosen.update((name, "admin") for name in names if template_of(name) in admin)
    for one in listed:
        if one.active == "failed":
            chosen.setdefault(one.name, "package")
    for pattern in watch:
        full = pattern if pattern.endswith(".service") else pattern + ".service"
        fitting = fnmatch.filter(names, full) if re.search(r"[*?[]", full) else [full]
        for name in fitting:
            chosen.setdefault(name, "package")
    return {name: origin for name, origin in chosen.items() if UNIT_NAME.match(name)}


def count_units(listed: "list[Unit]") -> "dict[str, int]":
    """Return how many loaded services there are, and how many in each active state."""
    states = [one.active for one in listed if one.is_present()]
    counts = {"total": len(states), "active": 0, "failed": 0}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return counts


def unit_row(host: Host, one: Unit, properties: "dict[str, str]", origin: str) -> "Json":
    """Return one unit's row; numbers that systemd does not know are left out."""
    told = {"name": one.name, "description": one.description, "load_state": one.load}  # type: Json
    told.update(active_state=one.active, sub_state=one.sub, origin=origin)
    if properties.get("Result"):
        told["result"] = properties["Result"]
    for key, name in (("exit_status", "ExecMainStatus"), ("restarts", "NRestarts"), ("main_pid", "MainPID")):
        value = properties.get(name, "")
        if value.isdigit() and (value != "0" or key == "restarts"):
            told[key] = int(value)
    memory = unit_memory(host, properties)
    if memory is not None:
        told["memory_bytes"] = memory
    since = properties.get("ActiveEnterTimestampMonotonic", "0")
    if since.isdigit() and since != "0":
        told["active_since_seconds"] = round(int(since) / 1e6, 2)
    return told


def unit_memory(host: Host, properties: "dict[str, str]") -> "int | None":
    """Return what a unit's cgroup holds, now; systemd's own answer may be minutes old."""
    group = properties.get("ControlGroup", "")
    now = host.number("/sys/fs/cgroup" + group + "/memory.current") if group else None
    told = properties.get("MemoryCurrent", "")
    return int(told) if now is None and told.isdigit() and int(told) != UNKNOWN_BYTES else now


def has_systemd(host: Host, memo: "Json") -> bool:
    """Tell whether systemd is this system's init (sd_booted(3))."""
    return host.exists("/run/systemd/system")


def collect_services(host: Host, request: Request, memo: "Json") -> "Json":
    """Ask systemd once for all services, and for more about those that matter when something changed."""
    if not has_systemd(host, memo):
        raise Missing("not_supported")
    listed = list_units(host, memo)
    chosen = chosen_units(listed, admin_units(host), request.watch.get("services", []))
    by_name = {one.name: one for one in listed}
    wanted = [by_name.get(name) or unloaded_unit(host, name) for name in list(chosen)[:UNITS_SHOWN]]
    shown = shown_properties(host, [one for one in wanted if one.name in by_name], memo)
    return {
        "complete": {"systemd": len(chosen) <= UNITS_SHOWN},
        "counts": count_units(listed),
        "units": [unit_row(host, one, shown.get(one.name, {}), chosen[one.name]) for one in wanted],
    }


def shown_properties(host: Host, units: "list[Unit]", memo: "Json") -> "dict[str, dict[str, str]]":
    """Return properties by name: asked for when a state changes, a main process goes, or 5 minutes pass.

    Every call costs PID 1 and the loader some 10 ms, as much as ten polls without it.
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


def unloaded_unit(host: Host, name: str) -> Unit:
    """Return a unit that systemd does not have in memory: it is inactive, and asking would make systemd load it."""
    for folder in UNIT_FOLDERS:
        path = folder + "/" + template_of(name)
        if host.link_name(path) == "null":
            return Unit(name, ("masked", "inactive", "dead"), "")
        if host.exists(path):
            told = re.search(r"^Description=(.*)$", host.text(path), re.MULTILINE)
            return Unit(name, ("loaded", "inactive", "dead"), told.group(1).strip() if told else "")
    return Unit(name, ("not-found", "inactive", "dead"), "")


def systemctl(host: Host, argv: "list[str]") -> str:
    """Return what systemctl prints; raises Broken with its words when it fails."""
    status, output, errors = host.run(argv, 4.0)
    if status:
        raise Broken(errors.strip() or f"systemctl ended with status {status}")
    return output


# ---------------------------------------------------------------- filesystems

# Filesystems that keep data of their own on this machine. Network filesystems and memory (tmpfs) only when
# watched; read-only images (squashfs, iso9660) are always full and nobody's business.
LOCAL_FILESYSTEMS = re.compile(
    r"(ext[234]|xfs|btrfs|zfs|f2fs|jfs|reiserfs|nilfs2|bcachefs|ntfs3?|fuseblk|exfat|vfat|msdos|hfs|hfsplus|apfs|ufs|udf"
    r"|ubifs|jffs2|fuse\.(mergerfs|mhddfs|unionfs|apfs))$"
)
NETWORK_FILESYSTEMS = re.compile(
    r"(nfs4?|cifs|smb3|smbfs|ceph|glusterfs|davfs|afs|ncpfs|lustre|ocfs2|gfs2|9p|virtiofs|vboxsf|prl_fs|beegfs"
    r"|fuse\.(glusterfs|sshfs|rclone|s3fs|davfs|vmhgfs-fuse))$"
)
# Single files that container engines mount from a filesystem of the machine below.
CONTAINER_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/localtime", "/etc/timezone")
PATIENCE_SECONDS = 1.0


class Mount:
    """One line of /proc/self/mountinfo, its words before and after the dash."""

    def __init__(self, words: "list[str]", after: "list[str]") -> None:
        self.device = words[2]  # major:minor of the filesystem
        self.root = unescape(words[3])  # which folder of the filesystem is mounted
        self.mountpoint = unescape(words[4])
        self.kind = after[0]
        self.source = unescape(after[1])
        self.options = set(words[5].split(",") + after[2].split(","))

    def rank(self) -> "tuple[bool, bool, int, int, str]":
        """Return what orders the mounts of one filesystem: `/`, then what shows most of it, as df chooses."""
        is_file = self.mountpoint in CONTAINER_FILES
        return self.mountpoint != "/", is_file, len(self.root), len(self.mountpoint), self.mountpoint


def parse_mountinfo(text: str) -> "Iterator[Mount]":
    r"""Yield the mounts (proc_pid_mountinfo(5)); a space in a name is written \040.

    36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    """
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        words, after = head.split(" "), tail.split(" ")
        if len(words) >= 6 and len(after) >= 3:
            yield Mount(words, after)


def unescape(text: str) -> str:
    r"""Return a name without the kernel's octal escapes.

    /mnt/my\040disk  →  /mnt/my disk
    """
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    raw = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code.group(1), 8) & 255]), raw)
    return raw.decode("utf-8", "surrogateescape")


def one_per_filesystem(mounts: "Iterable[Mount]") -> "list[Mount]":
    """Return each filesystem's best mount; what another mount on the same place hides is left out."""
    visible = {}  # type: dict[str, Mount]
    for mount in mounts:  # in the order of mounting
        visible[mount.mountpoint] = mount
    best = {}  # type: dict[str, Mount]
    for mount in sorted(visible.values(), key=Mount.rank):
        best.setdefault(mount.device, mount)
    return sorted(best.values(), key=lambda mount: mount.mountpoint)


def is_wanted(mount: Mount, watched: "list[str]") -> bool:
    """Tell whether a mount is reported: local ones, `/` whatever it is, watched ones; autofs never."""
    if mount.kind == "autofs":
        return False
    return mount.mountpoint == "/" or mount.mountpoint in watched or bool(LOCAL_FILESYSTEMS.match(mount.kind))


class Round:
    """One thread's way through a list of mounts."""

    def __init__(self, host: Host, mounts: "list[Mount]") -> None:
        import threading  # noqa: PLC0415

        self.host = host
        self.mounts = mounts
        self.answers = {}  # type: dict[str, tuple[int, ...] | OSError | None]
        self.is_abandoned = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Ask one mount after the other; stop after the one that made this thread late."""
        for mount in self.mounts:
            if self.is_abandoned:
                return
            try:
                answer = self.ask(mount)  # type: tuple[int, ...] | OSError | None
            except OSError as err:
                answer = err
            if not self.is_abandoned:
                self.answers[mount.mountpoint] = answer
        self.over.set()

    def ask(self, mount: Mount) -> "tuple[int, ...] | None":
        """Return the sizes, None for a single file that is mounted."""
        if mount.root != "/" and not self.host.is_folder(mount.mountpoint):
            return None
        return self.host.statvfs(mount.mountpoint)

    def left(self) -> "list[Mount]":
        """Return the mounts without an answer; while the thread runs, the first of them is being asked."""
        return self.mounts[len(self.answers) :]

    def wait(self, deadline: float) -> None:
        """Wait until all is answered, one mount takes too long, or time is over."""
        answered = -1
        while not self.over.is_set() and len(self.answers) > answered and time.monotonic() < deadline:
            answered = len(self.answers)
            self.over.wait(min(PATIENCE_SECONDS, max(0.0, deadline - time.monotonic())))
        self.is_abandoned = not self.over.is_set()


def ask_mounts(host: Host, mounts: "list[Mount]", stuck: "dict[str, Any]", seconds: float) -> "dict[str, Any]":
    """Return the answer of each mount that gives one; a mount that hangs keeps its thread and is not asked again."""
    for mountpoint in [mountpoint for mountpoint, thread in stuck.items() if not thread.is_alive()]:
        del stuck[mountpoint]
    deadline = time.monotonic() + seconds
    left = [mount for mount in mounts if mount.mountpoint not in stuck]
    left.sort(key=lambda mount: not LOCAL_FILESYSTEMS.match(mount.kind))  # what may hang waits for what cannot
    answers = {}  # type: dict[str, Any]
    while left and time.monotonic() < deadline:
        asking = Round(host, left)
        asking.wait(deadline)
        left = asking.left() if asking.is_abandoned else []
        answers.update(asking.answers)
        if left:
            stuck[left.pop(0).mountpoint] = asking.thread
    return answers


def parse_uevent_name(text: str) -> str:
    r"""Return DEVNAME of a uevent file.

    MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition
    """
    found = re.search(r"^DEVNAME=(.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def uuids_by_device(host: Host) -> "dict[str, str]":
    """Return the filesystem UUID by kernel name; udev's links are readable without root."""
    folder = "/dev/disk/by-uuid"
    return {host.link_name(folder + "/" + name): name for name in host.names(folder)}


def kernel_name(host: Host, mount: Mount) -> str:
    """Return the block device below a mount; the source may be a mapper's name, a UUID or /dev/root."""
    told = host.text("/sys/dev/block/" + mount.device + "/uevent")
    if told:
        return parse_uevent_name(told)
    return os.path.basename(host.real_path(mount.source)) if mount.source.startswith("/dev/") else ""


def filesystem(mount: Mount, sizes: "tuple[int, ...]", uuid: str) -> "Json":
    """Return one filesystem's row, sizes as df prints them: used counts what root reserved as not used."""
    unit_bytes, blocks, free, available, inodes, free_inodes = sizes
    told = {"mountpoint": mount.mountpoint, "device": mount.source, "type": mount.kind}  # type: Json
    if uuid:
        told["uuid"] = uuid
    told["total_bytes"] = blocks * unit_bytes
    told["used_bytes"] = (blocks - free) * unit_bytes
    # The kernel may tell a negative number when the reserve itself is in use.
    told["available_bytes"] = available * unit_bytes if available <= blocks else 0
    if inodes:
        told.update(inodes_total=inodes, inodes_used=inodes - free_inodes)
    told["read_only"] = "ro" in mount.options
    return told


def collect_filesystems(host: Host, request: Request, memo: "Json") -> "Json":
    """Read the list of mounts and ask each filesystem that counts for its sizes."""
    watched = request.watch.get("filesystems", [])
    everything = one_per_filesystem(parse_mountinfo(host.read("/proc/self/mountinfo")))
    mounts = [mount for mount in everything if is_wanted(mount, watched)]
    answers = ask_mounts(host, mounts, memo.setdefault("stuck", {}), min(4.0, request.timeout * 0.9))
    uuids = uuids_by_device(host)
    rows, late = [], []
    for mount in mounts:
        answer = answers.get(mount.mountpoint, OSError("late"))
        if isinstance(answer, OSError):
            # A FUSE mount of another user refuses; that is no failure, and will not change.
            late += [] if isinstance(answer, (PermissionError, FileNotFoundError)) else [mount.mountpoint]
        elif answer and (answer[1] or mount.mountpoint == "/"):
            rows.append(filesystem(mount, answer, uuids.get(kernel_name(host, mount), "")))
    section = {"complete": {"mounts": not late}, "filesystems": rows}  # type: Json
    if late:
        section["late"] = late
    unwatched = [mount for mount in everything if NETWORK_FILESYSTEMS.match(mount.kind) and mount not in mounts]
    if unwatched:
        section["unwatched"] = [{"mountpoint": mount.mountpoint, "type": mount.kind} for mount in unwatched]
    return section


# ---------------------------------------------------------------- system

UTMP_SIZES = (384, 400)  # of one record: with 32-bit and with 64-bit time stamps (utmp(5))
USER_PROCESS = 7


def parse_assignments(text: str) -> "dict[str, str]":
    r"""Return NAME=value lines, quotes taken off (os-release(5)).

    ID=debian
    PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
    """
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
                value = value[1:-1]
            values[name] = re.sub(r"\\(.)", r"\1", value)
    return values


def parse_utmp(raw: bytes) -> "Iterator[int]":
    """Yield the process of each session at a terminal (utmp(5): type, pid, line, id, user …)."""
    fitting = [size for size in UTMP_SIZES if not len(raw) % size]
    for offset in range(0, len(raw), fitting[0] if fitting else len(raw) + 1):
        record = raw[offset : offset + 76]
        if int.from_bytes(record[:2], sys.byteorder) == USER_PROCESS and record[44:76].strip(b"\0"):
            yield int.from_bytes(record[4:8], sys.byteorder)


def count_users(host: Host) -> "int | None":
    """Return how many people are logged in at a terminal or desktop, as `who` counts; None where nobody notes it."""
    for path in ("/run/utmp", "/var/run/utmp"):
        try:
            return sum(1 for pid in parse_utmp(host.read_bytes(path)) if host.exists(f"/proc/{pid}"))
        except OSError:
            continue
    if not host.exists("/run/systemd/sessions"):
        return None
    folder = "/run/systemd/sessions/"
    sessions = [parse_assignments(host.text(folder + name)) for name in host.names(folder) if not name.endswith(".ref")]
    seats = ("tty", "x11", "wayland", "mir")
    return sum(1 for one in sessions if one.get("CLASS") == "user" and one.get("TYPE") in seats)


def init_name(host: Host) -> str:
    """Return which program is PID 1, in the name under which people know it, "" where it is hidden."""
    if has_systemd(host, {}):
        return "systemd"
    if host.exists("/run/openrc"):
        return "openrc"
    name = host.text("/proc/1/comm")
    if name == "init":
        return "busybox" if host.link_name("/sbin/init") == "busybox" else "sysvinit"
    return name


DMI_MACHINES = (
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("innotek", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("OpenStack", "kvm"),
    ("Virtual Machine", "microsoft"),
)


def virtualization(host: Host) -> str:
    """Return what this system runs in, in systemd-detect-virt's words, `none` on bare metal, "" if unknown."""
    try:
        # Its exit status says whether there is virtualization, not whether it worked.
        told = first_line(host.run(["systemd-detect-virt"], 2.0)[1])
    except OSError:
        told = ""
    return told or container_kind(host) or machine_kind(host)


CONTAINER_MARKS = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/dev/.lxc", "lxc"),
    ("/dev/lxd", "lxc"),
)


def container_kind(host: Host) -> str:
    """Return which container manager runs this system, "" if none."""
    told = host.text("/run/systemd/container") or host.text("/run/host/container-manager")
    if told:
        return told
    if "microsoft" in host.uname()[1].lower():
        return "wsl"
    return next((name for path, name in CONTAINER_MARKS if host.exists(path)), "")


def machine_kind(host: Host) -> str:
    """Return which hypervisor runs this machine, by its firmware and its CPU's word for it."""
    firmware = " ".join(host.text(DMI + name) for name in ("sys_vendor", "product_name", "board_vendor", "bios_vendor"))
    for mark, name in DMI_MACHINES:
        if mark in firmware:
            return name
    cpuinfo = host.text("/proc/cpuinfo")
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) or host.exists("/proc/device-tree/hypervisor"):
        return host.text("/sys/hypervisor/type") or "vm-other"
    return "none" if firmware.strip() or host.exists("/proc/device-tree/model") else ""


def machine_id_hash(host: Host) -> str:
    """Return the HMAC-SHA256 of the machine-id as 32 hex digits: the id itself is confidential (machine-id(5))."""
    told = host.text("/etc/machine-id") or host.text("/var/lib/dbus/machine-id")
    if not re.match(r"[0-9a-f]{32}$", told):
        return ""
    from hashlib import sha256  # noqa: PLC0415

    # By hand, RFC 2104: the module hmac would load as much again.
    key = b"homelab_monitor".ljust(64, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)
    return sha256(outer + sha256(inner + told.encode("ascii")).digest()).hexdigest()[:32]


def collect_system(host: Host, request: Request, memo: "Json") -> "Json":
    """Tell which system this is."""
    hostname, kernel, architecture = host.uname()
    release = parse_assignments(host.text("/etc/os-release") or host.text("/usr/lib/os-release"))
    section = {"hostname": hostname}  # type: Json
    for key, name in (
        ("os_id", "ID"),
        ("os_id_like", "ID_LIKE"),
        ("os_name", "PRETTY_NAME"),
        ("os_version", "VERSION_ID"),
    ):
        section[key] = release.get(name)
    section.update(kernel=kernel, architecture=architecture, init=init_name(host), virtualization=virtualization(host))
    uptime = host.text("/proc/uptime").split()
    section["boot_epoch"] = round(host.epoch() - float(uptime[0])) if uptime else None
    section["timezone_offset_seconds"] = host.timezone_offset()
    section["users"] = count_users(host)
    section["python"] = host.python()
    section["machine_id_hash"] = machine_id_hash(host)
    return {key: value for key, value in section.items() if value not in (None, "")}


# ---------------------------------------------------------------- hardware

DMI = "/sys/class/dmi/id/"
# What boards carry whose maker filled nothing in.
EMPTY_DMI = re.compile(
    r"(to be filled|default string|system (product name|manufacturer|serial number|version)"
    r"|not (specified|applicable|available)|o\.?e\.?m|unknown|none|n/?a|null|type1|invalid|all series"
    r"|x+|0+|0?123456789?)\b"
    r"|\W*$",
    re.IGNORECASE,
)
# MIDR implementer and part of ARM cores, for machines whose cpuinfo names none (arch/arm64/include/asm/cputype.h).
ARM_CORES = {
    "0x41/0xd03": "Cortex-A53",
    "0x41/0xd04": "Cortex-A35",
    "0x41/0xd05": "Cortex-A55",
    "0x41/0xd07": "Cortex-A57",
    "0x41/0xd08": "Cortex-A72",
    "0x41/0xd09": "Cortex-A73",
    "0x41/0xd0a": "Cortex-A75",
    "0x41/0xd0b": "Cortex-A76",
    "0x41/0xd0c": "Neoverse N1",
    "0x41/0xd40": "Neoverse V1",
    "0x41/0xd41": "Cortex-A78",
    "0x41/0xd49": "Neoverse N2",
    "0x41/0xc07": "Cortex-A7",
    "0x41/0xb76": "ARM1176",
}


def dmi(host: Host, name: str) -> str:
    """Return what the firmware says, "" for what nobody filled in or only root may read."""
    told = " ".join(host.text(DMI + name).split())
    return "" if EMPTY_DMI.match(told) else told


def device_tree(host: Host, name: str) -> str:
    """Return a text of the device tree, which ends with a zero byte."""
    return host.text("/proc/device-tree/" + name).rstrip("\0").strip()


def parse_cpuinfo(text: str) -> "list[dict[str, str]]":
    r"""Return one dict per processor (proc_cpuinfo(5)).

    processor\t: 0
    model name\t: AMD Ryzen 9 5950X 16-Core Processor
    physical id\t: 0
    core id\t\t: 3
    """
    return [parse_colons(block) for block in text.split("\n\n") if block.strip()]


def cpu_model(processors: "list[dict[str, str]]") -> str:
    """Return the CPU's name; ARM cores tell numbers, one name per kind of core then."""
    named = next((one["model name"] for one in processors if one.get("model name")), "")
    if named and "CPU implementer" not in processors[0]:
        return " ".join(named.split())
    parts = [one.get("CPU implementer", "") + "/" + one.get("CPU part", "") for one in processors]
    cores = dict.fromkeys(ARM_CORES[part] for part in parts if part in ARM_CORES)
    shared = next(
        (one[key] for key in ("cpu model", "uarch", "cpu", "Processor") for one in processors if one.get(key)), ""
    )
    return " + ".join(cores) or named or shared


def cpu_topology(host: Host, processors: "list[dict[str, str]]") -> "Json":
    """Return sockets, cores and threads, from cpuinfo on x86, else from sysfs."""
    threads = sum(1 for one in processors if one.get("processor", "").isdigit())
    places = [(one.get("physical id", ""), one["core id"]) for one in processors if "core id" in one]
    if not places:
        folder = "/sys/devices/system/cpu/"
        names = [name for name in host.names(folder) if re.match(r"cpu\d+$", name)]
        topologies = [folder + name + "/topology/" for name in names]
        # Clusters repeat core ids, so threads of one core are known by the list that they share.
        shared = [host.text(path + "thread_siblings_list") for path in topologies]
        packages = [host.text(path + "physical_package_id") for path in topologies]
        places = [place for place in zip(packages, shared) if place[1]]
    told = {"threads": threads or len(places) or 1}  # type: Json
    if places:
        told.update(sockets=len({place[0] for place in places}), cores=len(set(places)))
    return told


def udev_properties(host: Host, disk: str) -> "dict[str, str]":
    r"""Return what udev noted about a disk, readable without root.

    S:disk/by-id/ata-ST8000VN004-2M2101_WSD0000A
    E:ID_SERIAL_SHORT=WSD0000A
    """
    number = host.text("/sys/block/" + disk + "/dev")
    lines = host.text("/run/udev/data/b" + number).splitlines() if number else []
    return parse_assignments("\n".join(line[2:] for line in lines if line.startswith("E:")))


def disk_hardware(host: Host, disk: str) -> "Json":
    """Return what a disk is; udev knows more than sysfs where there is udev."""
    folder, udev = "/sys/block/" + disk + "/", udev_properties(host, disk)
    sectors = host.number(folder + "size")
    rotational = host.text(folder + "queue/rotational")
    model = host.text(folder + "device/model") or host.text(folder + "device/name") or udev.get("ID_MODEL", "")
    serial = host.text(folder + "device/serial") or host.text(folder + "serial")
    wwid = host.text(folder + "wwid") or host.text(folder + "device/wwid")
    told = {
        "model": " ".join(model.split()),
        "serial": (
            udev.get("ID_SERIAL_SHORT") or udev.get("ID_SCSI_SERIAL") or serial or scsi_serial(host, folder)
        ).strip(),
        "wwn": udev.get("ID_WWN_WITH_EXTENSION") or udev.get("ID_WWN") or wwn(wwid),
        "size_bytes": sectors * 512 if sectors else None,
        "rotational": rotational == "1" if rotational else None,
    }
    return {key: value for key, value in told.items() if value not in (None, "")}


def scsi_serial(host: Host, folder: str) -> str:
    """Return the serial number page of a SCSI or SATA disk: four bytes of header, then text (SPC-4, 7.8.15)."""
    try:
        return host.read_bytes(folder + "device/vpd_pg80")[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def wwn(wwid: str) -> str:
    """Return a world wide name as lsblk writes it, "" for an id that is none.

    naa.5000c500a1b2c3d4  →  0x5000c500a1b2c3d4
    """
    if wwid.startswith("naa."):
        return "0x" + wwid[4:]
    return wwid if wwid.startswith(("eui.", "nvme.", "uuid.")) else ""


def interface_hardware(host: Host, name: str, kind: str) -> "Json":
    """Return what an interface is."""
    folder = "/sys/class/net/" + name + "/"
    mac = host.text(folder + "address")
    told = {"type": kind, "mac": mac if re.match(r"(?!00(:00){5}$)[0-9a-f]{2}(:[0-9a-f]{2}){5}$", mac) else ""}
    if kind in ("physical", "wireless"):
        told.update(permanent_mac=host.permanent_mac(name), driver=host.link_name(folder + "device/driver"))
    return {key: value for key, value in told.items() if value}


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


def collect_hardware(host: Host, request: Request, memo: "Json") -> "Json":
    """Tell what this machine is made of."""
    processors = parse_cpuinfo(host.text("/proc/cpuinfo"))
    section = {
        "vendor": dmi(host, "sys_vendor"),
        "model": dmi(host, "product_name") or device_tree(host, "model"),
        "board": " ".join(filter(None, (dmi(host, "board_vendor"), dmi(host, "board_name")))),
        "serial": dmi(host, "product_serial") or device_tree(host, "serial-number"),
        "cpu_model": cpu_model(processors),
    }  # type: Json
    section = {key: value for key, value in section.items() if value}
    section.update(cpu_topology(host, processors))
    section["memory_bytes"] = parse_meminfo(host.read("/proc/meminfo"))["MemTotal"]
    disks = sorted(name for name in host.names("/sys/block") if is_whole_disk(host, name))
    section["disks"] = {name: disk_hardware(host, name) for name in disks}
    names = tuple(name for name, _ in parse_net_dev(host.read("/proc/net/dev")))
    kinds = known_interfaces(host, names, memo)
    section["interfaces"] = {name: interface_hardware(host, name, kind) for name, kind in kinds.items()}
    return section


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
    Collector("gpu", collect_gpu, 5, has_cards),
    Collector("services", collect_services, 6, has_systemd),
    Collector("filesystems", collect_filesystems, 5),
    Collector("system", collect_system, 5),
    Collector("hardware", collect_hardware, 5),
)


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
        if self.is_busy and not self.done.acquire(blocking=False):
            return False
        self.request = request
        self.is_busy = True
        self.wanted.release()
        return True

    def finish(self, seconds: float) -> "Outcome | None":
        """Return the outcome, None when it is not there in time."""
        if not self.done.acquire(timeout=max(0.0, seconds)):
            return None
        self.is_busy = False
        return self.outcome


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
            left = min(worker.collector.budget, request.timeout) - (time.monotonic() - begun)
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
    paths = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    paths += [path for path in ("/usr/local/sbin", "/usr/sbin", "/sbin") if path not in paths]
    os.environ["PATH"] = ":".join(paths)
    try:
        os.nice(5)
    except OSError:
        return  # a container may forbid even that


def show(host: Host) -> None:
    """Print one readable reply, for a person who wants to see what is told."""
    wanted = sys.argv[1:] or [collector.name for collector in COLLECTORS]
    reply = Probe(host).answer(Request({"id": "by-hand", "sections": wanted, "timeout": 60}))
    print(json.dumps(clean(reply), indent=2))


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
        sys.stdout.flush()
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
