"""The owner of a process: its user, and the unit and the container of its control group, for all sections with processes."""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from ..host import Host, Json, Late, lines_of

# A container's own group: of Docker, Podman and the Kubernetes engines under systemd, or without systemd the bare id
# (/docker/<id>). Not libpod-conmon-<id>, which monitors the container from outside.
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
    """Return `{unit?, container?}` of a process, {} if it is gone, the kernel's, or in neither."""
    return parse_cgroup(host.text(f"/proc/{pid}/cgroup"))


def belongs_to(host: "Host", pid: int, uid: int) -> bool:
    """Return whether a process is a user's: by its real uid, or in the user's slice of the control groups.

    In a rootless container, all users but root have uids of their own (subuid(5)), so the uid alone is not enough.
    """
    return real_uid(host, pid) == uid or slice_of(host, pid) == uid


def real_uid(host: "Host", pid: int) -> int:
    """Return the real uid of a process, the user that started it, -1 if it is gone (proc_pid_status(5)).

    Not the owner of its folder in /proc: for setuid programs that is root, whoever runs them.
    """
    return uid_in(status_of(host, pid))


def status_of(host: "Host", pid: int) -> bytes:
    """Return a process's status file, b"" if it is gone."""
    try:
        return host.read_bytes(f"/proc/{pid}/status")
    except OSError:
        return b""


def uid_in(status: bytes) -> int:
    r"""Return the real uid in a process's status, -1 if there is none.

    Name:\tnginx\nUmask:\t0022\n…\nUid:\t33\t33\t33\t33\n
    """
    match = REAL_UID.search(status)
    return int(match.group(1)) if match else -1


def slice_of(host: "Host", pid: int) -> int:
    """Return the uid of the user slice that a process is in, -1 if it is in none."""
    return slice_in(host.text(f"/proc/{pid}/cgroup"))


def slice_in(cgroup: str) -> int:
    r"""Return the uid of the user slice in a cgroup file, -1 if there is none.

    0::/user.slice/user-1000.slice/session-3.scope\n
    """
    # The first one counts: below it, the user chooses the names.
    part = USER_GROUP.search(group_path(cgroup) + "/")
    return int(part.group(1)) if part else -1


def counts_for(status: bytes, cgroup: str) -> int:
    """Return the uid that a process counts for: the one that started it, -1 without status.

    sudo(8) and su(1) keep the caller's real uid until they have authorized it; other setuid programs set their real
    uid to root's, and so does what sudo runs: a process of root's in a user's session counts for that user.
    """
    uid = uid_in(status)
    # Kernel threads have no VmSize.
    return max(0, slice_in(cgroup)) if uid == 0 and b"\nVmSize:" in status else uid


def list_pids(host: "Host") -> "list[int]":
    """Return the pids, at most PIDS_LISTED: any user can have tens of thousands of processes."""
    return sorted(int(name) for name in host.names("/proc", PIDS_LISTED) if name.isdigit())


def users_of(host: "Host", pids: "list[int]", accounts: "dict[str, str]") -> "dict[int, str | None]":
    """Return the account that each process counts for: None without an account, missing if time is too short."""
    deadline, users = time.monotonic() + USERS_SECONDS, {}  # type: float, dict[int, str | None]
    for pid in pids:
        status = status_of(host, pid)
        cgroup = host.text(f"/proc/{pid}/cgroup") if uid_in(status) == 0 else ""
        users[pid] = accounts.get(str(counts_for(status, cgroup)))
        if time.monotonic() > deadline:
            break
    return users


def in_turn(host: "Host", pids: "list[int]", accounts: "dict[str, str]", wanted: "Iterable[int]" = ()) -> "list[int]":
    """Return pids of each user in turn, so that no user's crowd hides those of others; wanted users come first."""
    users, first = users_of(host, pids, accounts), {accounts.get(str(uid)) for uid in wanted}
    fair = in_fair_order(pids, users.get)
    return sorted(fair, key=lambda pid: users.get(pid) not in first)


def in_fair_order(rows: "list[Any]", whose: "Callable[[Any], object]") -> "list[Any]":
    """Return one row of each owner in turn, keeping each owner's order: a cut then affects the owner with most rows.

    All uids without an account count as one owner: users can run processes under thousands of uids (subuid(5)).
    """
    counts = {}  # type: dict[object, int]
    turns = []
    for row in rows:
        owner = whose(row)
        counts[owner] = counts.get(owner, 0) + 1
        turns.append((counts[owner], row))
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]


class FairShare:
    """At most `most` of the incoming rows, as `in_fair_order` would choose them, never more in memory, until time is up."""

    def __init__(self, most: int, whose: "Callable[[int], object]", deadline: float) -> None:
        self.whose = whose
        self.deadline = deadline
        self.left = most
        self.is_cut = False
        self.kept = {}  # type: dict[object, list[Json]]
        self.longest = 0  # upper bound of the rows of one owner

    def has_room(self, uid: int) -> bool:
        """Return whether a user's row would be kept, before it is parsed: most rows of a crowd are not. Raises Late."""
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
        """Add rows until time is up."""
        try:
            for row in rows:
                self.add(row)
        except Late:
            return  # is_cut says so

    def add(self, row: "Json") -> None:
        """Add a row; if there are too many already, the owner with most rows loses one."""
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
        """Return the kept rows."""
        return [row for rows in self.kept.values() for row in rows]


def parse_cgroup(text: str) -> "dict[str, str]":
    r"""Return what owns the group of a process (cgroups(7), systemd.slice(5)).

    0::/system.slice/nginx.service  →  unit nginx.service
    0::/system.slice/docker-9f86d081….scope  →  container 9f86d081…
    0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service  →  unit user@1000.service/sync.service
    0::/user.slice/user-1000.slice/session-3.scope/docker-9f86d081….scope  →  unit session-3.scope
    0::/lxc.payload.media/system.slice/nginx.service  →  container media

    `container` is the id of 64 digits, for LXC the name. Of nested containers the outermost one counts, which this
    system's engine knows. With cgroup v1, systemd's own hierarchy is used.
    """
    return owner_of_group(group_path(text))


def owner_of_group(path: str) -> "dict[str, str]":
    """Return what owns a control group, by its path; names in it may contain anything but a line feed."""
    lxc = LXC_GROUP.match(path.lstrip("/"))
    if lxc:
        return {"container": path.lstrip("/")[lxc.end() :].partition("/")[0]}
    units = []  # type: list[str]
    if path.startswith("/user/"):  # pam_cgfs's, without systemd: users choose all names below
        return {}
    for part in path.split("/"):
        container = CONTAINER_GROUP.match(part)
        # No engine makes groups in a login's own scope (but with pam_cgfs the user can): the name is chosen by the user.
        if container and not (units and LOGIN_SCOPE.fullmatch(units[0])):
            return dict(unit_of(units), container=container.group(1))
        if part.endswith((".service", ".scope")):
            units.append(part)
    return unit_of(units)


def group_path(text: str) -> str:
    r"""Return the path of a process in the most useful hierarchy: v2, else systemd's, else the first.

    12:memory:/docker/9f86…\n1:name=systemd:/docker/9f86…\n0::/
    """
    paths = {}
    for line in lines_of(text):
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        paths[controllers] = path
    candidates = [paths.get("", ""), paths.get("name=systemd", ""), *paths.values()]
    return next((path for path in candidates if path not in ("", "/")), "")


def unit_of(units: "list[str]") -> "dict[str, str]":
    """Return the outermost unit; for a user's own unit, manager/unit."""
    if not units:
        return {}
    is_user = units[0].startswith("user@") and len(units) > 1
    return {"unit": "/".join(units[:2]) if is_user else units[0]}
