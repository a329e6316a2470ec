"""The section containers: what Docker and Podman run, asked at their sockets, never through their programs.

One call lists the containers of an engine. Each is looked at more closely only when something about it changed,
and what it uses is read from its control group. All of it shares one time budget, however many there are.
"""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host import AGAIN_SECONDS, REFRESH_SECONDS, Broken, Host, HttpConnection, Json, Late, Missing, Request, cpu_clock
    from .container_words import CONTAINER_ID, listed_of, object_of, parse_inspected, parse_listed, parse_stats
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
# Podman's service ends when nobody asks and starts anew for every question; that a container ended is seen without it.
LIST_SECONDS = {"docker": 0.0, "podman": 120.0}
LATE_SECONDS = 60.0  # for how long an engine that did not answer is left alone
KEPT_SECONDS = 150.0  # for how long its last list stands for it
INSPECTED = 50  # containers that are looked at more closely in one round, at most …
REFRESHED = 5  # … and so many of them only because the last look is long ago
STATS_SECONDS = 0.5  # an engine that takes longer for one container's use is not asked for it again
# Everybody may run an engine of his own, and a program that only says that it is one: what a user's may cost.
USER_ANSWER_BYTES = 1 << 20
USER_ANSWER_MARKS = 40000
CONTAINERS_SHOWN, USER_CONTAINERS_SHOWN = 1000, 200  # of one engine
ROWS_SHOWN = 1500  # of all
USERS_ASKED = 50
USER_CPU_SECONDS = 0.5  # in one round
USER_SHARE, USER_CPU_SHARE = 0.05, 0.01  # of the time, and of one processor, in the long run
REST_SECONDS = 120.0  # at most, as what it listed last stands for 150
STATS = "/stats?stream=false&one-shot=true"
LIVING = ("running", "paused")
ENDED = ("exited", "dead", "restarting")


class Engine:
    """One engine of one owner: root, or the user whose rootless one it is; `paths` are the sockets to try."""

    def __init__(self, kind: str, owner: str, uid: int = 0, held: "Json | None" = None) -> None:
        self.kind = kind
        self.owner = owner
        self.uid = uid
        self.held = {} if held is None else held  # the threads that hang in users' folders
        self.paths = []  # type: list[str]

    def source(self) -> str:
        """Return its name among the sources of the list."""
        return self.kind + "/" + self.owner

    def most(self) -> int:
        """Return how many of its containers are told."""
        return USER_CONTAINERS_SHOWN if self.uid else CONTAINERS_SHOWN


def find_engines(host: "Host") -> "list[Engine]":
    """Return root's engines that may be here, each with the sockets to try."""
    found = {}  # type: dict[str, Engine]
    taken = set()  # type: set[str]
    for kind, path in SOCKETS:
        real = host.real_path(path)
        if real not in taken:
            taken.add(real)
            found.setdefault(kind, Engine(kind, "root")).paths.append(path)
    return list(found.values())


def find_users_engines(host: "Host", memo: "Json", seconds: float) -> "tuple[list[Engine], set[int]]":
    """Return the engines of who is logged in, and whose folders do not answer: a user may mount anything there.

    Whoever keeps us waiting is left alone for a while, in which nothing is known of that user's engines. Each user may
    hold a thread, so that those who hang cost nobody else; who took longer is asked later, after those who did not.
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

    A link could make root's containers look like this user's, and what another user listens at as well.
    """
    paths = [(kind, f"/run/user/{uid}{path}") for kind, path in USER_SOCKETS]
    return [(kind, path) for kind, path in paths if host.is_socket_of(path, uid)]


def users_here(host: "Host") -> "list[int]":
    """Return who is logged in: systemd makes a folder for each, and nobody else can (pam_systemd(8))."""
    return sorted(int(name) for name in host.names("/run/user") if re.fullmatch(r"[1-9][0-9]{0,9}", name))


def would_start(host: "Host", engine: Engine) -> bool:
    """Return whether asking would start a Docker that somebody stopped: systemd holds its socket, and it does not run.

    systemd keeps a link invocation:UNIT for every service that is active; a Docker without one has its own pid file.
    """
    if engine.source() != "docker/root" or not host.exists("/run/systemd/units"):
        return False
    if host.is_link("/run/systemd/units/invocation:docker.service"):
        return False
    pid = host.number("/run/docker.pid")
    has_socket = any(host.exists(folder + "/docker.socket") for folder in UNIT_FOLDERS)
    return has_socket and not (pid and host.exists(f"/proc/{pid}"))


# ---------------------------------------------------------------- what an engine tells


class Container:
    """One container, remembered between rounds: `row` is of the last list, `details` of the last closer look."""

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
        """Return whether a closer look would show something new.

        Podman's list tells no health, so containers with a health check are looked at whenever it is asked.
        """
        state = self.row["state"]
        if self.key != (state, self.row.get("exit_code")) or state == "restarting":
            return True
        has_health = self.details.get("health", "none") != "none"
        return self.has_ended(host) or (kind == "podman" and state == "running" and has_health)

    def has_ended(self, host: "Host") -> bool:
        """Return whether its first process is gone: it ended or was restarted since the last look."""
        return bool(self.process) and not host.exists(self.process)

    def note(self, host: "Host", engine: Engine, document: "Json", now: float) -> None:
        """Take in a closer look, and find where its use can be read.

        A user's engine speaks for the processes of that user only: it could name anybody's.
        """
        self.details = parse_inspected(document)
        self.key = (self.row["state"], self.row.get("exit_code"))
        self.looked_at = now
        pid = self.details.get("pid", 0)
        process = f"/proc/{pid}" if pid else ""
        # In a container of its own the probe does not see the others' processes: nothing can be told by them then.
        self.process = process if process and host.exists(process) else ""
        if engine.uid and not (self.process and belongs_to(host, pid, engine.uid)):
            self.details.pop("pid", None)
            self.process = self.cpu_file = self.memory_file = ""
            return
        guesses = () if engine.uid else GROUP_GUESSES
        self.cpu_file, self.memory_file = group_files(host, self.process, self.ident, guesses) if pid else ("", "")

    def has_group(self) -> bool:
        """Return whether files say what it uses."""
        return bool(self.cpu_file or self.memory_file)

    def merged_row(self) -> "Json":
        """Return all that is known of it."""
        row = dict(self.details, **self.row)
        if row["state"] not in LIVING:
            row.pop("health", None)
            row.pop("pid", None)
        if row["state"] not in ENDED:
            row.pop("exit_code", None)
        return row


# ---------------------------------------------------------------- a round


class EngineMemo:
    """What is remembered of an engine between rounds; without a `state` there is none."""

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
        """Return whether it did not answer the last time."""
        return self.state == "timed_out"

    def is_due(self, host: "Host", now: float) -> bool:
        """Return whether its list has to be asked for; while it rests, not for what has ended either."""
        if now < self.rest_until:
            return False
        return now >= self.ask_at or (self.state == "ok" and any(one.has_ended(host) for one in self.containers))


def ask_engine(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Ask an engine for its containers and what is new about them; one that was asked and is late waits a while."""
    import socket  # noqa: PLC0415

    memo.ask_at = now + LIST_SECONDS[engine.kind]
    begun, used = time.monotonic(), cpu_clock()
    try:
        talk(host, engine, memo, deadline, now)
    except (Late, socket.timeout):
        if memo.listed_at != now:  # else the list is whole, and what is left is told in the next round
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
    """Return for how long a user's engine is left alone after what it has cost: whatever it says, it has a small share."""
    return min(REST_SECONDS, max(seconds / USER_SHARE, cpu_seconds / USER_CPU_SHARE))


def talk(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Get the list, then what is new; raises what stands in the way."""
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
    """Return a conversation through the first socket that is there; raises OSError."""
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
    """Return a socket that leads to a user's engine; the way there may hang, as that user may mount something on it."""
    path, left = engine.paths[-1], max(0.1, deadline - time.monotonic())
    found = ask_each([str(engine.uid)], lambda _: host.connect(path, left, engine.uid), engine.held, deadline, USERS_ASKED)
    stream = found.get(str(engine.uid))
    if stream is None:
        raise Late
    if isinstance(stream, OSError):
        raise stream
    return stream


def list_containers(engine: Engine, memo: EngineMemo, documents: object, now: float) -> None:
    """Take in an engine's list, keeping what is known of its containers; raises ValueError for what is none."""
    if not isinstance(documents, list):
        raise ValueError("no list")  # noqa: TRY004 - as for any other nonsense
    rows = {}  # type: dict[str, Json]
    for document in listed_of(documents):
        ident = document.get("Id")
        if isinstance(ident, str) and CONTAINER_ID.fullmatch(ident) and len(rows) < engine.most():
            rows[ident] = parse_listed(engine.kind, document)
    known = {one.ident: one for one in memo.containers}
    memo.containers = [known.get(ident) or Container(ident) for ident in rows]
    for one in memo.containers:
        one.row, one.stats = rows[one.ident], {}
    memo.containers.sort(key=lambda one: one.row["name"])
    memo.state, memo.listed_at, memo.is_whole = "ok", now, len(rows) == len(documents)


def look_closer(host: "Host", engine: Engine, memo: EngineMemo, door: "HttpConnection") -> None:
    """Inspect what is new, then a few whose last look is long ago; ask for the use of what has no control group."""
    now = memo.listed_at
    due = [one for one in memo.containers if one.is_due(host, engine.kind)]
    idents = {one.ident for one in due}
    old = [one for one in memo.containers if one.ident not in idents and now - one.looked_at > REFRESH_SECONDS]
    old.sort(key=lambda one: one.looked_at)
    for one in (due + old[:REFRESHED])[:INSPECTED]:
        document = door.ask("/containers/" + one.ident + "/json")
        if isinstance(document, dict):
            one.note(host, engine, document, now)
    for one in memo.containers:
        if memo.has_stats and one.looked_at and one.row["state"] == "running" and not one.has_group():
            begun = time.monotonic()
            one.stats = parse_stats(object_of(door.ask("/containers/" + one.ident + STATS)))
            memo.has_stats = time.monotonic() - begun < STATS_SECONDS


def container_rows(host: "Host", engine: Engine, memo: EngineMemo, now: float) -> "list[Json]":
    """Return the rows of an engine's containers; those of one that does not answer stand for a while."""
    if memo.state not in ("ok", "timed_out", "unreadable") or now - memo.listed_at > KEPT_SECONDS:
        return []
    rows = []
    for one in memo.containers:
        row = dict(one.merged_row(), engine=engine.kind, owner=engine.owner)
        if engine.uid:
            row["uid"] = engine.uid
        if row["state"] in LIVING:
            row.update(read_group(host, one.cpu_file, one.memory_file) if one.has_group() else one.stats if memo.listed_at == now else {})
        rows.append(row)
    return rows


def has_engine(host: "Host", memo: "Json") -> bool:
    """Return whether there may be an engine that keeps us waiting; even to look for a user's can."""
    return bool(users_here(host)) or any(host.exists(path) for _, path in SOCKETS)


def ask_engines(host: "Host", engines: "list[Engine]", named: "list[str]", memo: "Json", deadline: float) -> None:
    """Ask every engine whose turn it is, each within its share of the time; those of all users have one together."""
    now = host.boottime()
    for number, engine in enumerate(engines):
        of_engine = memo.setdefault(engine.source(), EngineMemo(engine))
        if not (engine.source() in named or of_engine.is_due(host, now)):
            continue
        begun = time.monotonic()
        later = [one for one in engines[number + 1 :] if engine.uid or not one.uid]
        has_users = not engine.uid and bool(engines[-1].uid)
        share = max(0.1, deadline - begun) / (1 + len(later) + has_users)
        # One that did not answer the last time must not keep the others waiting again.
        ask_engine(host, engine, of_engine, begun + min(share, AGAIN_SECONDS if of_engine.is_late() else share), now)


def collect_containers(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Ask every engine, and tell what they said: root's first, so that what others say cuts nothing off of it."""
    deadline = time.monotonic() + min(CONTAINERS_SECONDS, request.timeout * 0.6)
    known, now = memo.setdefault("engines", {}), host.boottime()
    of_users, silent = find_users_engines(host, memo, min(AGAIN_SECONDS, request.timeout * 0.2))
    # Of a user whose folder does not answer there is what was there before.
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
