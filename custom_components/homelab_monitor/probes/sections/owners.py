"""Who owns a process: its user, and the unit and the container of its control group, for every section that names processes."""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from ..host import Host, Json, Late, lines_of

# A container's own group: of Docker, Podman and the Kubernetes engines under systemd, or without it the bare id
# (/docker/<id>). Not libpod-conmon-<id>, which watches the container from outside.
CONTAINER_GROUP = re.compile(
    r"(?:(?:docker|libpod|libpod-payload|podman|cri-containerd|crio|nerdctl|containerd)-)?([0-9a-f]{64})(?:\.scope)?$"
)
LOGIN_SCOPE = re.compile(r"session-\w+\.scope")
USER_GROUP = re.compile(r"/user-([0-9]+)\.slice/")
REAL_UID = re.compile(rb"^Uid:\t(\d+)\t", re.MULTILINE)
PIDS_LISTED = 50000
USERS_SECONDS = 1.0
LXC_GROUP = re.compile(r"lxc\.payload[./]|lxc/")


def owner_of(host: "Host", pid: int) -> "dict[str, str]":
    """Return `{unit?, container?}` of a process, {} for one that is gone, the kernel's, or nobody's."""
    return parse_cgroup(host.text(f"/proc/{pid}/cgroup"))


def belongs_to(host: "Host", pid: int, uid: int) -> bool:
    """Return whether a process is a user's: his own, or one in the part of the control groups that systemd gave him.

    In a rootless container everybody but root has a number of his own (subuid(5)), so the number alone does not tell.
    """
    return real_uid(host, pid) == uid or slice_of(host, pid) == uid


def real_uid(host: "Host", pid: int) -> int:
    """Return who started a process, -1 of one that is gone (proc_pid_status(5)).

    Not whose folder it is in /proc: that is root's for whoever runs a program with the setuid bit.
    """
    return uid_in(status_of(host, pid))


def status_of(host: "Host", pid: int) -> bytes:
    """Return what the kernel tells of a process, b"" of one that is gone."""
    try:
        return host.read_bytes(f"/proc/{pid}/status")
    except OSError:
        return b""


def uid_in(status: bytes) -> int:
    r"""Return the real user in a process' status, -1 where there is none.

    Name:\tnginx\nUmask:\t0022\n…\nUid:\t33\t33\t33\t33\n
    """
    told = REAL_UID.search(status)
    return int(told.group(1)) if told else -1


def slice_of(host: "Host", pid: int) -> int:
    """Return the user to whom systemd gave the part of the control groups that a process is in, -1 where it is none's."""
    return slice_in(host.text(f"/proc/{pid}/cgroup"))


def slice_in(cgroup: str) -> int:
    r"""Return whose part of the control groups a process is in, -1 where it is none's.

    0::/user.slice/user-1000.slice/session-3.scope\n
    """
    # The first counts: below it the user names what he likes.
    part = USER_GROUP.search(group_path(cgroup) + "/")
    return int(part.group(1)) if part else -1


def counts_for(status: bytes, cgroup: str) -> int:
    """Return the user that a process counts for, by its status: who started it, whoever it runs as since, -1 for nobody.

    sudo(8) and su(1) keep who called them until they have let them; other setuid programs make themselves root's in
    earnest, and so does what sudo runs: what is root's in a user's session is that user's.
    """
    uid = uid_in(status)
    # The kernel's own have no memory.
    return max(0, slice_in(cgroup)) if uid == 0 and b"\nVmSize:" in status else uid


def list_pids(host: "Host") -> "list[int]":
    """Return the processes, at most so many: who may start programs may have tens of thousands of them."""
    return sorted(int(name) for name in host.names("/proc", PIDS_LISTED) if name.isdigit())


def users_of(host: "Host", pids: "list[int]", accounts: "dict[str, str]") -> "dict[int, str | None]":
    """Return the account that each process counts for, None for who has none, and for those that time is too short for."""
    deadline, users = time.monotonic() + USERS_SECONDS, {}  # type: float, dict[int, str | None]
    for pid in pids:
        status = status_of(host, pid)
        cgroup = host.text(f"/proc/{pid}/cgroup") if uid_in(status) == 0 else ""
        users[pid] = accounts.get(str(counts_for(status, cgroup)))
        if time.monotonic() > deadline:
            break
    return users


def in_turn(host: "Host", pids: "list[int]", accounts: "dict[str, str]", wanted: "Iterable[int]" = ()) -> "list[int]":
    """Return processes, one of each user in turn, so that nobody's crowd hides those of others; first those of wanted users."""
    users, first = users_of(host, pids, accounts), {accounts.get(str(uid)) for uid in wanted}
    fair = in_fair_order(pids, users.get)
    return sorted(fair, key=lambda pid: users.get(pid) not in first)


def in_fair_order(rows: "list[Any]", whose: "Callable[[Any], object]") -> "list[Any]":
    """Return one row of each owner in turn, each owner's in their order: what is cut off is of who has most.

    Who has no account counts as one: a user may give his processes any of thousands of numbers (subuid(5)).
    """
    counts = {}  # type: dict[object, int]
    turns = []
    for row in rows:
        owner = whose(row)
        counts[owner] = counts.get(owner, 0) + 1
        turns.append((counts[owner], row))
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]


class FairShare:
    """So many rows of those that come, as `in_fair_order` would choose them, never more at a time, until time is up."""

    def __init__(self, most: int, whose: "Callable[[int], object]", deadline: float) -> None:
        self.whose = whose
        self.deadline = deadline
        self.left = most
        self.is_cut = False
        self.kept = {}  # type: dict[object, list[Json]]
        self.longest = 0  # at least as much as anybody has

    def has_room(self, uid: int) -> bool:
        """Return whether a row of a user would be kept: before it is taken apart, as most of a crowd's are not; raises Late."""
        if self.left:
            return True
        self.is_cut = True
        if time.monotonic() > self.deadline:
            raise Late
        count = len(self.kept.get(self.whose(uid), ())) + 1
        if count < self.longest:
            self.longest = max(map(len, self.kept.values()))
        return count < self.longest

    def fill(self, rows: "Iterable[Json]") -> None:
        """Take rows as long as they come in time."""
        try:
            for row in rows:
                self.add(row)
        except Late:
            return  # is_cut says so

    def add(self, row: "Json") -> None:
        """Take a row; where there are too many already, one of who has most goes for it."""
        uid = row.get("uid", 0)
        if not self.has_room(uid):
            return
        if self.left:
            self.left -= 1
        else:
            max(self.kept.values(), key=len).pop()
        mine = self.kept.setdefault(self.whose(uid), [])
        mine.append(row)
        self.longest = max(self.longest, len(mine))

    def rows(self) -> "list[Json]":
        """Return what is kept."""
        return [row for rows in self.kept.values() for row in rows]


def parse_cgroup(text: str) -> "dict[str, str]":
    r"""Return what owns the group of a process (cgroups(7), systemd.slice(5)).

    0::/system.slice/nginx.service  →  unit nginx.service
    0::/system.slice/docker-9f86d081….scope  →  container 9f86d081…
    0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service  →  unit user@1000.service/sync.service
    0::/user.slice/user-1000.slice/session-3.scope/docker-9f86d081….scope  →  unit session-3.scope
    0::/lxc.payload.media/system.slice/nginx.service  →  container media

    `container` is the id of 64 digits, of LXC the name. What is inside of a container is the container's business:
    the outermost one counts, which is the one that this system's engine knows. With cgroup v1 systemd's own
    hierarchy is asked.
    """
    return owner_of_group(group_path(text))


def owner_of_group(path: str) -> "dict[str, str]":
    """Return what owns a control group, by its path; a name in it may hold anything but the end of a line."""
    lxc = LXC_GROUP.match(path.lstrip("/"))
    if lxc:
        return {"container": path.lstrip("/")[lxc.end() :].partition("/")[0]}
    units = []  # type: list[str]
    if path.startswith("/user/"):  # pam_cgfs's, without systemd: all below is a user's to name
        return {}
    for part in path.split("/"):
        container = CONTAINER_GROUP.match(part)
        # In a login's own scope no engine makes any (but pam_cgfs lets the user): it is a name that somebody chose.
        if container and not (units and LOGIN_SCOPE.fullmatch(units[0])):
            return dict(unit_of(units), container=container.group(1))
        if part.endswith((".service", ".scope")):
            units.append(part)
    return unit_of(units)


def group_path(text: str) -> str:
    r"""Return the path of a process in the hierarchy that says most: v2, else systemd's, else the first.

    12:memory:/docker/9f86…\n1:name=systemd:/docker/9f86…\n0::/
    """
    paths = {}
    for line in lines_of(text):
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
