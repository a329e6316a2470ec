"""The probe for Linux: reports what this host is doing, and changes nothing on it.

Python 3.6 or newer, standard library only; it is sent over SSH, runs from memory and answers
requests until its input ends. README.md beside it is the contract: every field, its unit and its
source. host.py and the files in sections/ are sent before this one. To see all that is reported of
a host: `cat host.py sections/*.py probe.py | ssh user@host python3 -`.

Order of this file: the table COLLECTORS · threads and time budgets · framing, requests, start.
A collector returns its section or raises Missing.
"""

import json
import os
import re
import sys
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Callable

    from .host import (
        AGAIN_SECONDS,
        LINE_BYTES,
        Broken,
        Host,
        Json,
        Late,
        Missing,
        RecordedHost,
        Request,
        first_line,
        zone_stamp,
    )
    from .sections.cards import has_cards
    from .sections.containers import collect_containers, has_engine
    from .sections.cpu import collect_cpu
    from .sections.disk_io import collect_disk_io
    from .sections.filesystems import collect_filesystems
    from .sections.gpu import collect_gpu
    from .sections.gpu_processes import collect_gpu_processes
    from .sections.hardware import collect_hardware
    from .sections.interfaces import collect_interfaces
    from .sections.load import collect_load, collect_pressure, collect_uptime
    from .sections.logs import collect_logs
    from .sections.machine_id import machine_id_hash
    from .sections.memory import collect_memory
    from .sections.network import collect_network
    from .sections.processes import collect_processes
    from .sections.security import collect_security
    from .sections.sensors import collect_sensors, has_chips
    from .sections.services import collect_services, has_systemd
    from .sections.sockets import collect_sockets
    from .sections.system import collect_system
    from .sections.updates import collect_updates

PROTOCOL = 1
IDLE_SECONDS = 600.0
PLAIN_BYTES = 1000
REPLY_BYTES = 4 << 20
SEARCHED_FOLDERS = ("/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


# ---------------------------------------------------------------- the table


class Collector:
    """One row of the table: a section, its reader, its time limit, and whether it needs a thread.

    `budget` is in seconds; 0 means that the reader never blocks. `may_block` returns whether it can block on this
    host: switching to a thread costs 0.1 ms, more than most sections.
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
    Collector("containers", collect_containers, 6, has_engine),
    Collector("filesystems", collect_filesystems, 5),
    Collector("gpu", collect_gpu, 5, has_cards),
    Collector("gpu_processes", collect_gpu_processes, 5, has_cards),
    Collector("hardware", collect_hardware, 5),
    Collector("interfaces", collect_interfaces, 5),
    Collector("logs", collect_logs, 12),
    Collector("processes", collect_processes, 10),
    Collector("security", collect_security, 6),
    Collector("services", collect_services, 6, has_systemd),
    Collector("sockets", collect_sockets, 8),
    Collector("system", collect_system, 5),
    Collector("updates", collect_updates, 3),
)


ON_DEMAND = ("processes", "sockets", "logs")  # only when requested by name: while somebody looks at them


def polled_sections() -> "list[str]":
    """Return the names of all sections except those on demand."""
    return [collector.name for collector in COLLECTORS if collector.name not in ON_DEMAND]


# ---------------------------------------------------------------- threads and budgets

TURN_SECONDS = 0.02  # a collector runs alone for so long: side by side, threads of Python cost up to double


class Outcome:
    """The result of one collector: `kind` is the part of the reply that its content belongs to."""

    def __init__(self, kind: str, content: "Json | str", seconds: float) -> None:
        self.kind = kind
        self.content = content
        self.seconds = seconds


def collect(collector: Collector, host: Host, request: Request, memo: "Json") -> Outcome:
    """Run one collector and return its outcome, whatever it raises."""
    begun = time.monotonic()
    try:
        return Outcome("sections", collector.read(host, request, memo), time.monotonic() - begun)
    except Exception as err:  # noqa: BLE001 - one section must never break the others
        return failure(err, begun)


def failure(err: Exception, begun: float) -> Outcome:
    """Return the outcome of a section that could not be collected."""
    if isinstance(err, (Missing, Late, PermissionError)):
        kind = "missing"
        content = err.reason if isinstance(err, Missing) else "timed_out" if isinstance(err, Late) else "permission_denied"
    else:
        kind, content = "errors", first_line(str(err) if isinstance(err, Broken) else f"{type(err).__name__}: {err}")
    return Outcome(kind, content, time.monotonic() - begun)


class Worker:
    """A thread for one collector that may block; it stays alive between polls, as starting one costs more."""

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
        """Collect each time `begin` asks for it."""
        while self.wanted.acquire():
            self.outcome = collect(self.collector, self.host, self.request, self.memo)
            self.done.release()

    def begin(self, request: Request) -> bool:
        """Start collecting; return False while the last run has not ended. Its result is then too old to use."""
        if self.is_busy and not self.take(0.0):
            return False
        self.request = request
        self.is_busy = True
        self.wanted.release()
        return True

    def finish(self, seconds: float) -> "Outcome | None":
        """Return the outcome, None if it is not ready within `seconds`."""
        return self.outcome if self.take(seconds) else None

    def take(self, seconds: float) -> bool:
        """Wait for the collector to return; return False if it does not within `seconds`."""
        if not self.done.acquire(timeout=max(0.0, seconds)):
            return False
        self.is_busy = False
        self.was_late = self.outcome is not None and self.outcome.content == "timed_out"
        return True

    def turn(self) -> float:
        """Return how many seconds the collector runs alone."""
        return 0.0 if self.was_late else TURN_SECONDS

    def patience(self) -> float:
        """Return how many seconds a reply may wait: a program that hangs again must not delay the others again."""
        return min(self.collector.budget, AGAIN_SECONDS) if self.was_late else self.collector.budget


class Probe:
    """Answers requests; keeps only its threads and what hardly ever changes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.workers = {}  # type: dict[str, Worker]
        self.collectors = {collector.name: collector for collector in COLLECTORS}
        self.memos = {name: {} for name in self.collectors}  # type: dict[str, Json]
        self.boot_id = boot_id(host)

    def answer(self, request: Request) -> "Json":
        """Return the reply to one request, in time whatever a collector does."""
        reply = {"id": request.id, "protocol": PROTOCOL, "boot_id": self.boot_id}  # type: Json
        reply.update(epoch=round(self.host.epoch(), 3), sections={}, missing={}, errors={}, seconds={})
        for name, outcome in self.outcomes(request).items():
            reply[outcome.kind][name] = outcome.content
            reply["seconds"][name] = round(outcome.seconds, 4)
        return reply

    def outcomes(self, request: Request) -> "dict[str, Outcome]":
        """Collect every requested section: those that may block in threads, which nothing else waits for long."""
        begun = time.monotonic()
        outcomes = {name: Outcome("missing", "not_supported", 0.0) for name in request.sections}
        known = [self.collectors[name] for name in request.sections if name in self.collectors]
        late, others = [], []
        for collector in known:
            try:
                if collector.budget and collector.may_block(self.host, self.memos[collector.name]):
                    worker, has_begun = self.begin(collector, request)
                    outcome = worker.finish(worker.turn()) if has_begun else None
                    if outcome:
                        outcomes[collector.name] = outcome
                    else:
                        late.append((worker, has_begun))
                else:
                    others.append(collector)
            except Exception as err:  # noqa: BLE001 - if other users have used up all processes, no thread can be started
                outcomes[collector.name] = failure(err, begun)
        for collector in others:
            outcomes[collector.name] = collect(collector, self.host, request, self.memos[collector.name])
        for worker, has_begun in late:
            left = min(worker.patience(), request.timeout) - (time.monotonic() - begun)
            outcome = worker.finish(left) if has_begun else None
            outcomes[worker.collector.name] = outcome or Outcome("missing", "timed_out", time.monotonic() - begun)
        return outcomes

    def begin(self, collector: Collector, request: Request) -> "tuple[Worker, bool]":
        """Start a collector's thread on a request; return it and False if it is still busy with an earlier one."""
        if collector.name not in self.workers:
            self.workers[collector.name] = Worker(collector, self.host, self.memos[collector.name])
        worker = self.workers[collector.name]
        return worker, worker.begin(request)


def boot_id(host: Host) -> str:
    """Return an id that changes with every boot: the kernel's, and when PID 1 started.

    A container's restart keeps the kernel's id and resets the container's counters.
    """
    kernel = host.text("/proc/sys/kernel/random/boot_id")
    started = host.text("/proc/1/stat").rpartition(")")[2].split()
    return kernel + ":" + started[19] if len(started) > 19 else kernel


# ---------------------------------------------------------------- framing, requests, start


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


def encode_reply(reply: "Json") -> bytes:
    r"""Return header line and payload.

    \x1e7 812 z\n…
    """
    text = json.dumps(reply, separators=(",", ":"))
    if "\\ud" in text:  # bytes of a name that are not UTF-8; strict readers reject lone surrogates in JSON
        text = json.dumps(clean(reply), separators=(",", ":"))
    payload, form = text.encode("ascii"), "j"
    if len(payload) > REPLY_BYTES:
        return encode_reply(without_longest(reply))
    if len(payload) > PLAIN_BYTES:
        payload, form = zlib.compress(payload, 6), "z"
    return b"\x1e%s %d %s\n" % (reply["id"].encode("ascii"), len(payload), form.encode("ascii")) + payload


def without_longest(reply: "Json") -> "Json":
    """Return a reply that is too long without its longest section, so that the others arrive."""
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
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value


def write(fd: int, content: bytes) -> None:
    """Write all of the content."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def read_line(requests: "BinaryIO") -> bytes:
    """Return the next line, b"" at the end; only the end of one that is too long, which is no request."""
    line = requests.readline(LINE_BYTES)
    while len(line) == LINE_BYTES and not line.endswith(b"\n"):
        line = requests.readline(LINE_BYTES)
        line = line if len(line) == LINE_BYTES else b"too long\n"
    return line


def marker(host: Host) -> bytes:
    r"""Return the first line sent: protocol, Python version, pid, and the host's machine-id hash if it has one.

    \x1ehomelab_monitor 1 3.11.2 4711 0123456789abcdef0123456789abcdef
    """
    words = ["homelab_monitor", str(PROTOCOL), host.python(), str(os.getpid()), machine_id_hash(host.text)]
    return b"\x1e%s\n" % " ".join(word for word in words if word).encode()


def serve(host: Host, requests: "BinaryIO", replies: int, idle_seconds: float = IDLE_SECONDS) -> None:
    """Send the marker, then answer requests until they end, or `idle_seconds` pass without an answered one."""
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
    """Return whether the process should end, so that the next one loads a new driver's library."""
    return any(memo.get("stale") for memo in probe.memos.values())


def prepare() -> None:
    """Lower our priority, set LC_ALL=C, and extend PATH."""
    os.environ["LC_ALL"] = "C"
    if zone_stamp():
        os.environ.pop("TZ", None)  # a login's own zone (PAM, SetEnv) is not that of the host and its logs
    # An empty part would mean the current folder.
    paths = [path for path in os.environ.get("PATH", "").split(":") if path]
    paths += [path for path in SEARCHED_FOLDERS if path not in paths]
    os.environ["PATH"] = ":".join(paths)
    try:
        os.nice(5)
    except OSError:
        return  # a container may forbid even that


def show(host: Host) -> None:
    """Print one readable reply, for a person who wants to see what is reported."""
    wanted = sys.argv[1:] or polled_sections()
    reply = Probe(host).answer(Request({"id": "by-hand", "sections": wanted, "timeout": 60}))
    write(1, json.dumps(clean(reply), indent=2).encode("ascii") + b"\n")


def main() -> None:
    """Serve when started by the bootstrap command, print one reply when run by hand.

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
            os.dup2(2, 1)  # accidental prints do not get between the replies
            serve(host, sys.stdin.buffer, replies)
        status = 0
    except BrokenPipeError:
        status = 0  # the reader has closed the pipe
    except BaseException:  # noqa: BLE001 - printed, and then the process ends
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        # At once, even if a thread is stuck in the kernel: the interpreter would wait for threads that wait for requests.
        os._exit(status)


if __name__ == "__main__":
    main()
