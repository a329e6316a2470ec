"""Parsers of container engines' responses: strict, as any program may claim to be an engine.

Texts and numbers of an unexpected type are left out.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Json
    from .control_groups import memory_of

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
PID_LIMIT = 1 << 22  # the kernel's own, whatever /proc/sys/kernel/pid_max says
NUMBER_LIMIT = 1 << 53
HEALTH = ("starting", "healthy", "unhealthy")
POLICIES = ("no", "on-failure", "always", "unless-stopped")
PROTOCOLS = ("tcp", "udp", "sctp")
PORTS_SHOWN = 32
PODMAN_STATES = {"initialized": "created", "configured": "created", "stopped": "exited", "stopping": "running"}


def plain(value: object, most: int) -> str:
    """Return a text in ASCII, cut at `most`, "" for any other type: names of images and containers are ASCII."""
    return re.sub(r"[^\x20-\x7e]", "?", value[:most]) if isinstance(value, str) else ""


def count_of(value: object, limit: int = NUMBER_LIMIT) -> int:
    """Return an integer from 0 to below a limit, 0 for any other value."""
    return value if type(value) is int and 0 <= value < limit else 0  # noqa: E721 - True is an int as well


def objects_in(value: object) -> "list[Json]":
    """Return the objects in a list, empty for any other type."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def object_of(value: object) -> "Json":
    """Return an object, an empty one for any other type."""
    return value if isinstance(value, dict) else {}


def parse_listed(kind: str, document: "Json") -> "Json":
    """Return one row of GET /containers/json, with the values from the text of its status.

    {"Id": "91ce74…", "Names": ["/web"], "Image": "nginx:1", "State": "running", "Status": "Up 4 seconds (healthy)",
     "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
     "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}}
    """
    documents = document.get("Names")
    names = [plain(name, 255).lstrip("/") for name in (documents if isinstance(documents, list) else ())]
    own = [name for name in names if "/" not in name]  # a name with a path is another container's link
    state = plain(document.get("State"), 20).lower()
    labels = object_of(document.get("Labels"))
    row = {"id": document["Id"][:12], "name": (own or names or [document["Id"][:12]])[0]}  # type: Json
    row.update(image=plain(document.get("Image"), 200), state=PODMAN_STATES.get(state, state))
    row.update(parse_status(kind, row["state"], plain(document.get("Status"), 100)))
    for field in ("project", "service"):
        label = plain(labels.get("com.docker.compose." + field), 100)
        if label:
            row["compose_" + field] = label
    service = plain(labels.get("com.docker.swarm.service.name"), 100)
    if service:
        row["swarm_service"] = service
    ports = [parse_port(port) for port in objects_in(document.get("Ports"))[:PORTS_SHOWN]]
    if ports:
        row["ports"] = ports
    return row


def parse_status(kind: str, state: str, status: str) -> "Json":
    """Return health and exit code, as far as the text of a status contains them.

    Up 4 seconds (healthy)  ·  Up 2 hours (health: starting)  ·  Exited (137) 2 seconds ago  ·  Restarting (3) 1 second ago
    """
    exited = re.match(r"(?:Exited|Restarting) \((\d{1,9})\)", status)
    if exited:
        return {"exit_code": int(exited.group(1))}
    health = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", status)
    if health:
        return {"health": health.group(1)}
    return {"health": "none"} if kind == "docker" and state == "running" else {}


def parse_port(document: "Json") -> "Json":
    """Return a port of a container, with the host's port and address if it is published."""
    protocol = document.get("Type")
    port = {"port": count_of(document.get("PrivatePort"), 1 << 16), "protocol": protocol if protocol in PROTOCOLS else "tcp"}
    host_port = count_of(document.get("PublicPort"), 1 << 16)
    if host_port:
        port["host_port"] = host_port
        port["host_ip"] = plain(document.get("IP"), 45) or "0.0.0.0"  # noqa: S104 - it is what Podman leaves out
    return port


def parse_inspected(document: "Json") -> "Json":
    """Return what only GET /containers/ID/json contains.

    {"State": {"Status": "running", "Pid": 2224, "ExitCode": 0, "OOMKilled": false, "StartedAt": "2026-…Z",
     "Health": {"Status": "healthy"}}, "RestartCount": 3, "HostConfig": {"RestartPolicy": {"Name": "always"}}}
    """
    state = object_of(document.get("State"))
    policy = object_of(object_of(document.get("HostConfig")).get("RestartPolicy")).get("Name")
    health = object_of(state.get("Health") or state.get("Healthcheck")).get("Status")
    details = {"health": health if health in HEALTH else "none", "restarts": count_of(document.get("RestartCount"))}  # type: Json
    pid = count_of(state.get("Pid"), PID_LIMIT)
    if pid:
        details["pid"] = pid
    details.update(restart_policy=policy if policy in POLICIES else "no", exit_code=count_of(state.get("ExitCode")))
    started = parse_moment(plain(state.get("StartedAt"), 40))
    if started is not None:
        details["started_epoch"] = started
    if state.get("OOMKilled") is True:
        details["oom_killed"] = True
    return details


def parse_moment(text: str) -> "int | None":
    """Return Unix seconds, None for malformed times and the year 1, which means never.

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
    """Return CPU seconds and memory from GET /containers/ID/stats, as `read_group` does."""
    usage = {}  # type: Json
    cpu = count_of(object_of(object_of(document.get("cpu_stats")).get("cpu_usage")).get("total_usage"), 1 << 63)
    if cpu:
        usage["cpu_seconds"] = round(cpu / 1e9, 3)
    stats = object_of(object_of(document.get("memory_stats")).get("stats"))
    anon, shmem = stats.get("anon", stats.get("total_rss")), stats.get("shmem", stats.get("total_shmem"))
    usage.update(memory_of((None if anon is None else count_of(anon), count_of(shmem))))
    return usage
