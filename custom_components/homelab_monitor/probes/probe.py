"""The probe for Linux: tells what this machine is doing, and changes nothing on it.

Python 3.6 or newer, standard library only; it is sent over SSH, runs from memory and answers
requests until its input ends. README.md beside it is the contract: every field, its unit and its
source. host.py and the files in sections/ are sent before this one. To see all that is told of a
machine: `cat host.py sections/*.py probe.py | ssh user@host python3 -`.

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
    words = ["homelab_monitor", str(PROTOCOL), host.python(), str(os.getpid()), machine_id_hash(host.text)]
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
