"""The section containers: what Docker and Podman run, asked at their sockets, never through their programs.

One call lists the containers of an engine. Each is looked at more closely only when something about it changed,
and what it uses is read from its control group. All of it shares one time budget, however many there are.
"""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import AGAIN_SECONDS, REFRESH_SECONDS, Broken, Host, HttpDoor, Json, Late, Missing, Request
    from .control_groups import group_files, memory_of, read_group
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
PORTS_SHOWN = 32
STATS = "/stats?stream=false&one-shot=true"
PODMAN_STATES = {"initialized": "created", "configured": "created", "stopped": "exited", "stopping": "running"}
LIVING = ("running", "paused")
ENDED = ("exited", "dead", "restarting")


class Engine:
    """One engine of one owner: root, or the user whose rootless one it is; `paths` are the sockets to try."""

    def __init__(self, kind: str, owner: str) -> None:
        self.kind = kind
        self.owner = owner
        self.paths = []  # type: list[str]

    def source(self) -> str:
        """Return its name among the sources of the list."""
        return self.kind + "/" + self.owner


def find_engines(host: "Host") -> "list[Engine]":
    """Return the engines that may be here, each with the sockets to try."""
    found = {}  # type: dict[str, Engine]
    taken = set()  # type: set[str]

    def add(kind: str, owner: str, path: str) -> None:
        real = host.real_path(path)
        if real not in taken:
            taken.add(real)
            found.setdefault(kind + "/" + owner, Engine(kind, owner)).paths.append(path)

    for kind, path in SOCKETS:
        add(kind, "root", path)
    for uid in sorted(host.names("/run/user")):
        for kind, path in USER_SOCKETS if uid.isdigit() and uid != "0" else ():
            if host.exists("/run/user/" + uid + path):
                add(kind, user_name(host, uid), "/run/user/" + uid + path)
    return list(found.values())


def would_start(host: "Host", engine: Engine) -> bool:
    """Tell whether asking would start a Docker that somebody stopped: systemd holds its socket, and it does not run.

    systemd keeps a link invocation:UNIT for every service that is active; a Docker without one has its own pid file.
    """
    if engine.source() != "docker/root" or not host.exists("/run/systemd/units"):
        return False
    if host.is_link("/run/systemd/units/invocation:docker.service"):
        return False
    pid = host.number("/run/docker.pid")
    has_socket = any(host.exists(folder + "/docker.socket") for folder in UNIT_FOLDERS)
    return has_socket and not (pid and host.exists(f"/proc/{pid}"))


def user_name(host: "Host", uid: str) -> str:
    """Return a user's name, the number where it is not one of this machine's own list (passwd(5))."""
    found = re.search("^([^:\n]+):[^:\n]*:" + uid + ":", host.text("/etc/passwd"), re.MULTILINE)
    return found.group(1) if found else uid


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
        """Tell whether a closer look would show something new.

        Podman's list tells no health, so containers with a health check are looked at whenever it is asked.
        """
        state = self.row["state"]
        if self.key != (state, self.row.get("exit_code")) or state == "restarting":
            return True
        has_health = self.details.get("health", "none") != "none"
        return self.has_ended(host) or (kind == "podman" and state == "running" and has_health)

    def has_ended(self, host: "Host") -> bool:
        """Tell whether its first process is gone: it ended or was restarted since the last look."""
        return bool(self.process) and not host.exists(self.process)

    def note(self, host: "Host", document: "Json", now: float) -> None:
        """Take in a closer look, and find where its use can be read."""
        self.details = parse_inspected(document)
        self.key = (self.row["state"], self.row.get("exit_code"))
        self.looked_at = now
        pid = self.details.get("pid", 0)
        process = f"/proc/{pid}" if pid else ""
        # In a container of its own the probe does not see the others' processes: nothing can be told by them then.
        self.process = process if process and host.exists(process) else ""
        self.cpu_file, self.memory_file = group_files(host, self.process, self.ident) if pid else ("", "")

    def has_group(self) -> bool:
        """Tell whether files say what it uses."""
        return bool(self.cpu_file or self.memory_file)

    def told(self) -> "Json":
        """Return all that is known of it."""
        row = dict(self.details, **self.row)
        if row["state"] not in LIVING:
            row.pop("health", None)
            row.pop("pid", None)
        if row["state"] not in ENDED:
            row.pop("exit_code", None)
        return row


def parse_listed(kind: str, document: "Json") -> "Json":
    """Return one row of GET /containers/json, with what the words of its status add.

    {"Id": "91ce74…", "Names": ["/web"], "Image": "nginx:1", "State": "running", "Status": "Up 4 seconds (healthy)",
     "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
     "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}}
    """
    names = [name.lstrip("/") for name in document.get("Names") or ()]
    own = [name for name in names if "/" not in name]  # a name with a path is a link of another container
    state = str(document.get("State") or "").lower()
    labels = document.get("Labels") or {}
    row = {"id": document["Id"][:12], "name": (own or names or [document["Id"][:12]])[0]}  # type: Json
    row.update(image=str(document.get("Image") or "")[:200], state=PODMAN_STATES.get(state, state))
    row.update(parse_status(kind, row["state"], str(document.get("Status") or "")))
    for field in ("project", "service"):
        if labels.get("com.docker.compose." + field):
            row["compose_" + field] = labels["com.docker.compose." + field]
    ports = [parse_port(port) for port in document.get("Ports") or ()]
    if ports:
        row["ports"] = ports[:PORTS_SHOWN]
    return row


def parse_status(kind: str, state: str, status: str) -> "Json":
    """Return health and exit code, as far as the words of a status tell them.

    Up 4 seconds (healthy)  ·  Up 2 hours (health: starting)  ·  Exited (137) 2 seconds ago  ·  Restarting (3) 1 second ago
    """
    exited = re.match(r"(?:Exited|Restarting) \((\d+)\)", status)
    if exited:
        return {"exit_code": int(exited.group(1))}
    health = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", status)
    if health:
        return {"health": health.group(1)}
    return {"health": "none"} if kind == "docker" and state == "running" else {}


def parse_port(document: "Json") -> "Json":
    """Return a port of a container, and where it can be reached if it is published."""
    port = {"port": document.get("PrivatePort", 0), "protocol": document.get("Type") or "tcp"}
    if document.get("PublicPort"):
        port["host_port"] = document["PublicPort"]
        port["host_ip"] = document.get("IP") or "0.0.0.0"  # noqa: S104 - it is what Podman leaves out
    return port


def parse_inspected(document: "Json") -> "Json":
    """Return what only GET /containers/ID/json tells.

    {"State": {"Status": "running", "Pid": 2224, "ExitCode": 0, "OOMKilled": false, "StartedAt": "2026-…Z",
     "Health": {"Status": "healthy"}}, "RestartCount": 3, "HostConfig": {"RestartPolicy": {"Name": "always"}}}
    """
    state = document.get("State") or {}
    policy = (document.get("HostConfig") or {}).get("RestartPolicy") or {}
    health = (state.get("Health") or state.get("Healthcheck") or {}).get("Status") or "none"
    told = {"health": health, "restarts": document.get("RestartCount") or 0}  # type: Json
    if state.get("Pid"):
        told["pid"] = state["Pid"]
    told.update(restart_policy=policy.get("Name") or "no", exit_code=state.get("ExitCode") or 0)
    started = parse_moment(state.get("StartedAt") or "")
    if started is not None:
        told["started_epoch"] = started
    if state.get("OOMKilled"):
        told["oom_killed"] = True
    return told


def parse_moment(text: str) -> "int | None":
    """Return Unix seconds, None for the year 1, which stands for never.

    2026-11-25T00:00:16.679432364Z  ·  2026-11-25T01:00:16.6794+01:00
    """
    import calendar  # noqa: PLC0415

    found = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$", text)
    if not found or found.group(1) == "0001":
        return None
    ahead = int(found.group(8) or 0) * 3600 + int(found.group(9) or 0) * 60
    parts = tuple(map(int, found.groups()[:6]))
    return calendar.timegm(parts) - (-ahead if found.group(7) == "-" else ahead)


def parse_stats(document: "Json") -> "Json":
    """Return what GET /containers/ID/stats tells of the same numbers."""
    told = {}  # type: Json
    cpu = ((document.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    if cpu:
        told["cpu_seconds"] = round(cpu / 1e9, 3)
    stats = (document.get("memory_stats") or {}).get("stats") or {}
    told.update(memory_of((stats.get("anon", stats.get("total_rss")), stats.get("shmem", stats.get("total_shmem")))))
    return told


# ---------------------------------------------------------------- a round


class EngineMemo:
    """What is remembered of an engine between rounds; without a `state` there is none."""

    def __init__(self) -> None:
        self.state = ""
        self.ask_at = 0.0
        self.listed_at = 0.0
        self.containers = []  # type: list[Container]
        self.has_stats = True

    def is_late(self) -> bool:
        """Tell whether it did not answer the last time."""
        return self.state == "timed_out"

    def is_due(self, host: "Host", now: float) -> bool:
        """Tell whether its list has to be asked for."""
        return now >= self.ask_at or (self.state == "ok" and any(one.has_ended(host) for one in self.containers))


def ask_engine(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Ask an engine for its containers and what is new about them; one that was asked and is late waits a while."""
    import socket  # noqa: PLC0415

    memo.ask_at = now + LIST_SECONDS[engine.kind]
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


def talk(host: "Host", engine: Engine, memo: EngineMemo, deadline: float, now: float) -> None:
    """Get the list, then what is new; raises what stands in the way."""
    if would_start(host, engine):
        memo.state = "stopped"
        return
    door = open_door(host, engine, deadline)
    try:
        list_containers(engine, memo, door.ask("/containers/json?all=1"), now)
        look_closer(host, engine, memo, door)
    finally:
        door.close()


def open_door(host: "Host", engine: Engine, deadline: float) -> "HttpDoor":
    """Return a conversation through the first socket that is there; raises OSError."""
    for path in engine.paths[:-1]:
        try:
            return HttpDoor(host, path, deadline)
        except FileNotFoundError:
            continue
    return HttpDoor(host, engine.paths[-1], deadline)


def list_containers(engine: Engine, memo: EngineMemo, documents: "list[Json]", now: float) -> None:
    """Take in an engine's list, keeping what is known of its containers."""
    rows = [(document["Id"], parse_listed(engine.kind, document)) for document in documents]
    known = {one.ident: one for one in memo.containers}
    memo.containers = [known.get(ident) or Container(ident) for ident, _ in rows]
    for one, (_, row) in zip(memo.containers, rows):
        one.row, one.stats = row, {}
    memo.containers.sort(key=lambda one: one.row["name"])
    memo.state, memo.listed_at = "ok", now


def look_closer(host: "Host", engine: Engine, memo: EngineMemo, door: "HttpDoor") -> None:
    """Inspect what is new, then a few whose last look is long ago; ask for the use of what has no control group."""
    now = memo.listed_at
    due = [one for one in memo.containers if one.is_due(host, engine.kind)]
    old = [one for one in memo.containers if one not in due and now - one.looked_at > REFRESH_SECONDS]
    old.sort(key=lambda one: one.looked_at)
    for one in (due + old[:REFRESHED])[:INSPECTED]:
        document = door.ask("/containers/" + one.ident + "/json")
        if document:
            one.note(host, document, now)
    for one in memo.containers:
        if memo.has_stats and one.looked_at and one.row["state"] == "running" and not one.has_group():
            begun = time.monotonic()
            one.stats = parse_stats(door.ask("/containers/" + one.ident + STATS) or {})
            memo.has_stats = time.monotonic() - begun < STATS_SECONDS


def tell_containers(host: "Host", engine: Engine, memo: EngineMemo, now: float) -> "list[Json]":
    """Return the rows of an engine's containers; those of one that does not answer stand for a while."""
    if memo.state not in ("ok", "timed_out", "unreadable") or now - memo.listed_at > KEPT_SECONDS:
        return []
    rows = []
    for one in memo.containers:
        row = dict(one.told(), engine=engine.kind, owner=engine.owner)
        if row["state"] in LIVING:
            row.update(read_group(host, one.cpu_file, one.memory_file) if one.has_group() else one.stats if memo.listed_at == now else {})
        rows.append(row)
    return rows


def has_engine(host: "Host", memo: "Json") -> bool:
    """Tell whether there is an engine that may keep us waiting."""
    return any(host.exists(path) for engine in find_engines(host) for path in engine.paths)


def collect_containers(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Ask every engine, each within its share of the time."""
    deadline = time.monotonic() + min(CONTAINERS_SECONDS, request.timeout * 0.6)
    engines, now = find_engines(host), host.boottime()
    section = {"at": round(now, 3), "complete": {}, "engines": [], "containers": []}  # type: Json
    for number, engine in enumerate(engines):
        of_engine = memo.setdefault(engine.source(), EngineMemo())
        is_named = engine.source() in request.watch.get("containers", [])
        if is_named or of_engine.is_due(host, now):
            begun = time.monotonic()
            share = max(0.1, deadline - begun) / (len(engines) - number)
            # One that did not answer the last time must not keep the others waiting again.
            ask_engine(host, engine, of_engine, begun + min(share, AGAIN_SECONDS if of_engine.is_late() else share), now)
        if of_engine.state:
            section["engines"].append({"engine": engine.kind, "owner": engine.owner, "state": of_engine.state})
            section["complete"][engine.source()] = of_engine.state == "ok"
    section["at"] = round(host.boottime(), 3)
    for engine in engines:
        section["containers"].extend(tell_containers(host, engine, memo[engine.source()], now))
    states = {row["state"] for row in section["engines"]}
    if not states:
        raise Missing("not_installed")
    if not section["containers"] and len(states) == 1 and states <= {"permission_denied", "timed_out", "unreadable"}:
        raise Missing(states.pop())
    return section


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("containers", collect_containers, 6, has_engine))
