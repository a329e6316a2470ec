"""Who owns a process: the unit and the container of its control group, for every section that names processes."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Host

# A container's own group: of Docker, Podman and the Kubernetes engines under systemd, or without it the bare id
# (/docker/<id>). Not libpod-conmon-<id>, which watches the container from outside.
CONTAINER_GROUP = re.compile(
    r"(?:(?:docker|libpod|libpod-payload|podman|cri-containerd|crio|nerdctl|containerd)-)?([0-9a-f]{64})(?:\.scope)?$"
)
LXC_GROUP = re.compile(r"lxc\.payload[./]|lxc/")


def owner_of(host: "Host", pid: int) -> "dict[str, str]":
    """Return `{unit?, container?}` of a process, {} for one that is gone, the kernel's, or nobody's."""
    return parse_cgroup(host.text(f"/proc/{pid}/cgroup"))


def parse_cgroup(text: str) -> "dict[str, str]":
    r"""Return what owns the group of a process (cgroups(7), systemd.slice(5)).

    0::/system.slice/nginx.service  →  unit nginx.service
    0::/system.slice/docker-9f86d081….scope  →  container 9f86d081…
    0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service  →  unit user@1000.service/sync.service
    0::/lxc.payload.media/system.slice/nginx.service  →  container media

    `container` is the id of 64 digits, of LXC the name. What is inside of a container is the container's business:
    the outermost one counts, which is the one that this system's engine knows. With cgroup v1 systemd's own
    hierarchy is asked.
    """
    path = group_path(text)
    lxc = LXC_GROUP.match(path.lstrip("/"))
    if lxc:
        return {"container": path.lstrip("/")[lxc.end() :].partition("/")[0]}
    units = []  # type: list[str]
    for part in path.split("/"):
        container = CONTAINER_GROUP.match(part)
        if container:
            return dict(unit_of(units), container=container.group(1))
        if part.endswith((".service", ".scope")):
            units.append(part)
    return unit_of(units)


def group_path(text: str) -> str:
    r"""Return the path of a process in the hierarchy that says most: v2, else systemd's, else the first.

    12:memory:/docker/9f86…\n1:name=systemd:/docker/9f86…\n0::/
    """
    paths = {}
    for line in text.splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        paths[controllers] = path
    told = [paths.get("", ""), paths.get("name=systemd", ""), *paths.values()]
    return next((path for path in told if path not in ("", "/")), "")


def unit_of(units: "list[str]") -> "dict[str, str]":
    """Return the outermost unit; a user's own units are told with the manager that they belong to."""
    if not units:
        return {}
    is_user = units[0].startswith("user@") and len(units) > 1
    return {"unit": "/".join(units[:2]) if is_user else units[0]}
