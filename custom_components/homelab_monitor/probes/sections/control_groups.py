"""Control groups of containers, for several sections: their files, and the CPU time and memory in them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, lines_of

# Paths of control groups if /proc does not show them (hidepid): drivers systemd and cgroupfs of both engines.
GROUP_GUESSES = (
    "/system.slice/docker-{}.scope",
    "/docker/{}",
    "/machine.slice/libpod-{}.scope",
    "/libpod_parent/libpod-{}",
)


def group_files(host: "Host", process: str, ident: str, guesses: "tuple[str, ...]") -> "tuple[str, str]":
    """Return the files with a container's CPU time and memory, "" for missing ones."""
    groups = parse_groups(host.text(process + "/cgroup"), ident) if process else []
    groups = groups or [("", guess.format(ident)) for guess in guesses]
    cpu = memory = ""
    for controllers, path in groups:
        # Controllers that share a folder have one link each, as /proc may list them in another order.
        mounts = ["/" + name for name in controllers.split(",")] if controllers else ["", "/unified"]
        for mount in mounts:
            folder = "/sys/fs/cgroup" + mount + path
            cpu = cpu or existing(host, folder + ("/cpuacct.usage" if controllers else "/cpu.stat"))
            memory = memory or existing(host, folder + "/memory.stat")
    return cpu, memory


def existing(host: "Host", path: str) -> str:
    """Return a path that exists, else ""."""
    return path if host.exists(path) else ""


def parse_groups(text: str, ident: str) -> "list[tuple[str, str]]":
    """Return (controllers, path) of the groups of one container; controllers are "" in version 2 (cgroups(7)).

    A process inside may be in a subgroup, and one that was started without a group is in its engine's.

    4:memory:/docker/91ce74…
    0::/system.slice/docker-91ce74….scope/init
    """
    found = []
    for line in lines_of(text):
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        place = path.rfind("/", 0, path.rfind(ident)) if ident in path else -1
        # A group outside of this process's namespace begins with /.., and is no folder below /sys/fs/cgroup.
        if place < 0 or "/../" in path or controllers.startswith("name="):
            continue
        end = path.find("/", place + 1)
        found.append((controllers, path if end < 0 else path[:end]))
    return sorted(found)  # version 2 first


def named_number(content: bytes, name: bytes) -> "int | None":
    """Return the number after a name at the beginning of a line, None if there is none."""
    place = 0 if content.startswith(name + b" ") else content.find(b"\n" + name + b" ") + 1
    if not place and not content.startswith(name + b" "):
        return None
    end = content.find(b"\n", place)
    return int(content[place + len(name) + 1 : end if end >= 0 else None])


def parse_memory(content: bytes) -> "tuple[int | None, int | None]":
    """Return anonymous and shared memory of a memory.stat, version 2 (anon, shmem) or 1 (total_rss, total_shmem)."""
    anon = named_number(content, b"anon")
    if anon is not None:
        return anon, named_number(content, b"shmem")
    return named_number(content, b"total_rss"), named_number(content, b"total_shmem")


def memory_of(parts: "tuple[int | None, int | None]") -> "Json":
    """Return `{memory_bytes}`, empty if memory is not counted."""
    return {} if parts[0] is None else {"memory_bytes": parts[0] + (parts[1] or 0)}


def read_group(host: "Host", cpu_file: str, memory_file: str) -> "Json":
    """Return a group's CPU seconds and its memory: anonymous and shared (tmpfs).

    Page cache is left out: the kernel reclaims it when others need memory.
    """
    usage = {}  # type: Json
    try:
        if cpu_file.endswith("cpu.stat"):
            usage["cpu_seconds"] = round((named_number(host.read_bytes(cpu_file), b"usage_usec") or 0) / 1e6, 3)
        elif cpu_file:
            usage["cpu_seconds"] = round(int(host.read_bytes(cpu_file)) / 1e9, 3)
        if memory_file:
            usage.update(memory_of(parse_memory(host.read_bytes(memory_file))))
    except (OSError, ValueError):
        return {}  # it has just ended
    return usage
