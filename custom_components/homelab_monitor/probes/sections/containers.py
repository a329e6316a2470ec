"""The section containers: what Docker and Podman run, read from their sockets, never through their programs.

One call lists the containers of an engine. Each is inspected only when something about it has changed, and its
resource usage is read from its control group. All of it shares one time limit, however many containers there are.
"""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host import AGAIN_SECONDS, REFRESH_SECONDS, Broken, Host, HttpConnection, Json, Late, Missing, Request, cpu_clock
    from .container_words import CONTAINER_ID, objects_in, object_of, parse_inspected, parse_listed, parse_stats
    from .control_groups import GROUP_GUESSES, group_files, read_group
    from .owners import belongs_to
    from .patience import ask_each
    from .processes import parse_accounts
    from .services import UNIT_FOLDERS

# Podman first: the package podman-docker makes Docker's socket a link to Podman's.
SOCKETS = (
    ("podman", "/run/podman/podman.sock"),
    ("docker", "/run/docker.sock"),
    ("docker", "/var/run/docker.sock"),
)
USER_SOCKETS = (("podman", "/podman/podman.sock"), ("docker", "/docker.sock"))
ENGINE_PROGRAMS = {
    "docker": ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/snap/bin/docker.dockerd"),
    "podman": ("/usr/bin/podman", "/usr/local/bin/podman"),
}
CONTAINERS_SECONDS = 4.0
# Podman's service ends when idle and starts again for every request; the end of a container shows without it.
LIST_SECONDS = {"docker": 0.0, "podman": 120.0}
LATE_SECONDS = 60.0  # pause after an engine did not answer in time
KEPT_SECONDS = 150.0  # how long its last list is reported meanwhile
INSPECTED = 50  # containers inspected in one round, at most …
REFRESHED = 5  # … and this many of them only because the last inspection is long ago
STATS_SECONDS = 0.5  # an engine that takes longer for the stats of one container is not asked for stats again
# Every user can run their own engine, or a program that only claims to be one: limits for users' engines.
USER_ANSWER_BYTES = 1 << 20
USER_ANSWER_MARKS = 40000
CONTAINERS_SHOWN, USER_CONTAINERS_SHOWN = 1000, 200  # of one engine
ROWS_SHOWN = 1500  # of all
USERS_ASKED = 50
USER_CPU_SECONDS = 0.5  # in one round
USER_SHARE, USER_CPU_SHARE = 0.05, 0.01  # of the time, and of one CPU, in the long run
REST_SECONDS = 120.0  # at most, as its last list is kept for 150
STATS = "/stats?stream=false&one-shot=true"
LIVING = ("running", "paused")
ENDED = ("exited", "dead", "restarting")


class Engine:
    """One engine of one owner: root, or the user of a rootless engine; `paths` are the sockets to try."""

    def __init__(self, kind: str, owner: str, uid: int = 0, held: "Json | None" = None) -> None:
        self.kind = kind
        self.owner = owner
        self.uid = uid
        self.held = {} if held is None else held  # threads that hang in users' folders
        self.paths = []  # type: list[str]

    def source(self) -> str:
        """Return the engine's key in `complete`: kind/owner."""
        return self.kind + "/" + self.owner

    def most(self) -> int:
        """Return the maximum number of its containers in the section."""
        return USER_CONTAINERS_SHOWN if self.uid else CONTAINERS_SHOWN


def find_engines(host: "Host") -> "list[Engine]":
    """Return root's engines that may exist, each with the sockets to try."""
    found = {}  # type: dict[str, Engine]
    taken = set()  # type: set[str]
    for kind, path in SOCKETS:
        real = host.real_path(path)
        if real not in taken:
            taken.add(real)
            found.setdefault(kind, Engine(kind, "root")).paths.append(path)
    return list(found.values())


def find_users_engines(host: "Host", memo: "Json", seconds: float) -> "tuple[list[Engine], set[int]]":
    """Return the engines of logged-in users, and the users whose folders do not answer: they can mount anything there.

    A user whose folder hangs is skipped for a while, during which that user's engines are unknown. Each user may block
    one thread, so that those who hang delay nobody else; users who took longer before come last.
    """
    accounts, now = parse_accounts(host.text("/etc/passwd")), host.boottime()
    held, resting = memo.setdefault("held", {}), memo.setdefault("resting", {})
    uids = [str(uid) for uid in users_here(host)[:USERS_ASKED]]
    costs = memo.get("costs", {})
    memo["costs"] = costs = {uid: costs.get(uid, 0.0) for uid in uids}
    asked = sorted((uid for uid in uids if now >= resting.get(uid, 0.0)), key=lambda uid: costs[uid])

    def look(uid: str) -> "list[tuple[str, str]]":
        begun = time.monotonic()
        sockets = users_sockets(host, int(uid))
        costs[uid] = round(time.monotonic() - begun, 1)
        return sockets

    found = ask_each(asked, look, held, time.monotonic() + seconds, USERS_ASKED)
    for uid in (uid for uid in asked if uid in held):
        resting[uid], costs[uid] = now + LATE_SECONDS, seconds
    engines = []  # type: list[Engine]
    for uid in uids:
        for kind, path in found.get(uid, ()):
            engines.append(Engine(kind, accounts.get(uid, uid), int(uid), held))
            engines[-1].paths.append(path)
    return engines, {int(uid) for uid in uids if uid not in found}


def users_sockets(host: "Host", uid: int) -> "list[tuple[str, str]]":
    """Return kind and path of the sockets in a user's folder; may block.

    Links do not count: they could make the containers of root or another user look like this user's.
    """
    paths = [(kind, f"/run/user/{uid}{path}") for kind, path in USER_SOCKETS]
    return [(kind, path) for kind, path in paths if host.is_socket_of(path, uid)]


def users_here(host: "Host") -> "list[int]":
    """Return the uids that are logged in: systemd makes a folder for each, and only root can (pam_systemd(8))."""
    return sorted(int(name) for name in host.names("/run/user") if re.fullmatch(r"[1-9][0-9]{0,9}", name))


def would_start(host: "Host", engine: Engine) -> bool:
    """Return whether a request would start a stopped Docker: systemd holds its socket, and it does not run.

    systemd keeps a link invocation:UNIT for every active service; a Docker that is no such service has its own PID file.
    """
    if engine.source() != "docker/root" or not host.exists("/run/systemd/units"):
        return False
    if host.is_link("/run/systemd/units/invocation:docker.service"):
        return False
    pid = host.number("/run/docker.pid")
    has_socket = any(host.exists(folder + "/docker.socket") for folder in UNIT_FOLDERS)
    return has_socket and not (pid and host.exists(f"/proc/{pid}"))


# ---------------------------------------------------------------- containers


class Container:
    """One container, kept between rounds: `row` is from the last list, `details` from the last inspection."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self.row = {}  # type: Json
        self.details = {}  # type: Json
        self.key = None  # type: object
        self.looked_at = 0.0
        self.process = ""
        self.cpu_file = ""
        self.memory_file = ""
        self.stats = {}  # type: Json

    def is_due(self, host: "Host", kind: str) -> bool:
        """Return whether an inspection would show something new.

        Podman's list has no health, so running containers with a health check are inspected in every round.
        """
        state = self.row["state"]
        if self.key != (state, self.row.get("exit_code")) or state == "restarting":
            return True
        has_health = self.details.get("health", "none") != "none"
        return self.has_ended(host) or (kind == "podman" and state == "running" and has_health)

    def has_ended(self, host: "Host") -> bool:
        """Return whether its first process is gone: it ended or was restarted since the last inspection."""
        return bool(self.process) and not host.exists(self.process)

    def note(self, host: "Host", engine: Engine, document: "Json", now: float) -> None:
        """Store an inspection, and find the files of its resource usage.

        A user's engine is trusted only for processes of that user: it could name any process.
        """
        self.details = parse_inspected(document)
        self.key = (self.row["state"], self.row.get("exit_code"))
        self.looked_at = now
        pid = self.details.get("pid", 0)
        process = f"/proc/{pid}" if pid else ""
        # Inside a container, the probe does not see the processes of other containers: they then say nothing.
        self.process = process if process and host.exists(process) else ""
        if engine.uid and not (self.process and belongs_to(host, pid, engine.uid)):
            self.details.pop("pid", None)
            self.process = self.cpu_file = self.memory_file = ""
            return
        guesses = () if engine.uid else GROUP_GUESSES
        self.cpu_file, self.memory_file = group_files(host, self.process, self.ident, guesses) if pid else ("", "")

    def has_group(self) -> bool:
        """Return whether there are files of its resource usage."""
        return bool(self.cpu_file or self.memory_file)

    def merged_row(self) -> "Json":
        """Return its row with its details, without values that do not apply to its state."""
        row = dict(self.details, **self.row)
        if row["state"] not in LIVING:
            row.pop("health", None)
            row.pop("pid", None)
        if row["state"] not in ENDED:
            row.pop("exit_code", None)
        return row


# ---------------------------------------------------------------- a round


class EngineMemo:
    """The state of an engine between rounds; an empty `state` means that there is no engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.state = ""
        self.ask_at = 0.0
        self.listed_at = 0.0
        self.rest_until = 0.0
        self.containers = []  # type: list[Container]
        self.has_stats = True
        self.is_whole = True

    def is_late(self) -> bool:
        """Return whether it did not answer in time in its last round."""
        return self.state == "timed_out"

    def is_due(self, host: "Host", now: float) -> bool:
        """Return whether its list has to be read; while it rests, not even when a container has ended."""
        if now < self.rest_until:
            return False
        return now >= self.ask_at or (self.state == "ok" and any(one.has_ended(host) for one in self.containers))


def ask_engine(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Read an engine's containers and what is new about them; an engine that is late is skipped for a while."""
    import socket  # noqa: PLC0415

    memo.ask_at = now + LIST_SECONDS[engine.kind]
    begun, used = time.monotonic(), cpu_clock()
    try:
        update_engine(host, engine, memo, deadline, now)
    except (Late, socket.timeout):
        if memo.listed_at != now:  # else the list is complete, and the rest follows in the next round
            memo.state, memo.ask_at = "timed_out", now + LATE_SECONDS
    except PermissionError:
        memo.state = "permission_denied"
    except (FileNotFoundError, ConnectionRefusedError):
        is_there = engine.owner != "root" or any(map(host.exists, ENGINE_PROGRAMS[engine.kind]))
        memo.state = "stopped" if is_there else ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError, Broken):
        if memo.listed_at != now:
            memo.state = "unreadable"
    finally:
        if engine.uid:
            memo.rest_until = now + rest_after(time.monotonic() - begun, cpu_clock() - used)


def rest_after(seconds: float, cpu_seconds: float) -> float:
    """Return how many seconds a user's engine is skipped after a round, so that its long-term share of time is small."""
    return min(REST_SECONDS, max(seconds / USER_SHARE, cpu_seconds / USER_CPU_SHARE))


def update_engine(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Read the list, then inspect what is new; raises whatever goes wrong."""
    if would_start(host, engine):
        memo.state = "stopped"
        return
    door = open_connection(host, engine, deadline)
    try:
        list_containers(engine, memo, door.ask("/containers/json?all=1"), now)
        look_closer(host, engine, memo, door)
    finally:
        door.close()


def open_connection(host: "Host", engine: Engine, deadline: float) -> "HttpConnection":
    """Return a connection to the first socket that exists; raises OSError."""
    for path in engine.paths[:-1]:
        try:
            return HttpConnection(host, path, deadline)
        except FileNotFoundError:
            continue
    if not engine.uid:
        return HttpConnection(host, engine.paths[-1], deadline)
    stream = connect_user(host, engine, deadline)
    door = HttpConnection(host, engine.paths[-1], deadline, stream)
    door.limit, door.marks, door.cpu_until = USER_ANSWER_BYTES, USER_ANSWER_MARKS, cpu_clock() + USER_CPU_SECONDS
    return door


def connect_user(host: "Host", engine: Engine, deadline: float) -> "Any":
    """Return a socket connected to a user's engine; may hang, as the user can mount anything on the path."""
    path, left = engine.paths[-1], max(0.1, deadline - time.monotonic())
    found = ask_each([str(engine.uid)], lambda _: host.connect(path, left, engine.uid), engine.held, deadline, USERS_ASKED)
    stream = found.get(str(engine.uid))
    if stream is None:
        raise Late
    if isinstance(stream, OSError):
        raise stream
    return stream


def list_containers(engine: Engine, memo: EngineMemo, documents: object, now: float) -> None:
    """Store an engine's list, keeping the details of known containers; raises ValueError if it is no list."""
    if not isinstance(documents, list):
        raise ValueError("no list")  # noqa: TRY004 - as for any other nonsense
    rows = {}  # type: dict[str, Json]
    for document in objects_in(documents):
        ident = document.get("Id")
        if isinstance(ident, str) and CONTAINER_ID.fullmatch(ident) and len(rows) < engine.most():
            rows[ident] = parse_listed(engine.kind, document)
    known = {container.ident: container for container in memo.containers}
    memo.containers = [known.get(ident) or Container(ident) for ident in rows]
    for container in memo.containers:
        container.row, container.stats = rows[container.ident], {}
    memo.containers.sort(key=lambda container: container.row["name"])
    memo.state, memo.listed_at, memo.is_whole = "ok", now, len(rows) == len(documents)


def look_closer(host: "Host", engine: Engine, memo: EngineMemo, door: "HttpConnection") -> None:
    """Inspect new and changed containers, then a few not inspected for long; read stats of those without a group."""
    now = memo.listed_at
    due = [container for container in memo.containers if container.is_due(host, engine.kind)]
    idents = {container.ident for container in due}
    old = [container for container in memo.containers if container.ident not in idents and now - container.looked_at > REFRESH_SECONDS]
    old.sort(key=lambda container: container.looked_at)
    for container in (due + old[:REFRESHED])[:INSPECTED]:
        document = door.ask("/containers/" + container.ident + "/json")
        if isinstance(document, dict):
            container.note(host, engine, document, now)
    for container in memo.containers:
        if memo.has_stats and container.looked_at and container.row["state"] == "running" and not container.has_group():
            begun = time.monotonic()
            container.stats = parse_stats(object_of(door.ask("/containers/" + container.ident + STATS)))
            memo.has_stats = time.monotonic() - begun < STATS_SECONDS


def container_rows(host: "Host", engine: Engine, memo: EngineMemo, now: float) -> "list[Json]":
    """Return the rows of an engine's containers; if it does not answer, the last ones for a while."""
    if memo.state not in ("ok", "timed_out", "unreadable") or now - memo.listed_at > KEPT_SECONDS:
        return []
    rows = []
    for container in memo.containers:
        row = dict(container.merged_row(), engine=engine.kind, owner=engine.owner)
        if engine.uid:
            row["uid"] = engine.uid
        if row["state"] in LIVING:
            row.update(read_group(host, container.cpu_file, container.memory_file) if container.has_group() else container.stats if memo.listed_at == now else {})
        rows.append(row)
    return rows


def has_engine(host: "Host", memo: "Json") -> bool:
    """Return whether there may be an engine, which can block; even the search for a user's engine can."""
    return bool(users_here(host)) or any(host.exists(path) for _, path in SOCKETS)


def ask_engines(host: "Host", engines: "list[Engine]", named: "list[str]", memo: "Json", deadline: float) -> None:
    """Read every engine that is due, each within its share of the time; those of all users have one share together."""
    now = host.boottime()
    for number, engine in enumerate(engines):
        of_engine = memo.setdefault(engine.source(), EngineMemo(engine))
        if not (engine.source() in named or of_engine.is_due(host, now)):
            continue
        begun = time.monotonic()
        later = [one for one in engines[number + 1 :] if engine.uid or not one.uid]
        has_users = not engine.uid and bool(engines[-1].uid)
        share = max(0.1, deadline - begun) / (1 + len(later) + has_users)
        # An engine that was late in its last round must not delay the others again.
        ask_engine(host, engine, of_engine, begun + min(share, AGAIN_SECONDS if of_engine.is_late() else share), now)


def collect_containers(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read every engine, and report its containers: root's first, so that those of users displace none of them."""
    deadline = time.monotonic() + min(CONTAINERS_SECONDS, request.timeout * 0.6)
    known, now = memo.setdefault("engines", {}), host.boottime()
    of_users, silent = find_users_engines(host, memo, min(AGAIN_SECONDS, request.timeout * 0.2))
    # Of a user whose folder does not answer, the previous engines are kept.
    engines = find_engines(host) + of_users + [one.engine for one in known.values() if one.engine.uid in silent]
    section = {"at": round(now, 3), "complete": {}, "engines": [], "containers": []}  # type: Json
    for source in set(known) - {engine.source() for engine in engines}:
        del known[source]
    ask_engines(host, engines, request.watch.get("containers", []), known, deadline)
    section["at"] = round(host.boottime(), 3)
    for engine in engines:
        of_engine = known[engine.source()]
        rows = container_rows(host, engine, of_engine, now)
        left = ROWS_SHOWN - len(section["containers"])
        section["containers"].extend(rows[:left])
        if of_engine.state:
            section["engines"].append({"engine": engine.kind, "owner": engine.owner, "state": of_engine.state})
            is_whole = of_engine.state == "ok" and of_engine.is_whole and len(rows) <= left
            section["complete"][engine.source()] = is_whole
    states = {row["state"] for row in section["engines"]}
    if not states:
        raise Missing("not_installed")
    if not section["containers"] and len(states) == 1 and states <= {"permission_denied", "timed_out", "unreadable"}:
        raise Missing(states.pop())
    return section
