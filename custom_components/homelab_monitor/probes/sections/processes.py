"""The section processes: the counters of every process, from which the reader computes which are busy.

Names are the kernel's (15 characters); command lines are not read, as they often contain passwords.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request, lines_of
    from .owners import counts_for, in_fair_order, in_turn, list_pids, parse_cgroup

PROCESS_STATUS = re.compile(r"^(Uid|VmRSS|Threads):\s+(\d+)(?:\s+(\d+))?", re.MULTILINE)
PROCESSES_LOOKED_AT = 5000
MOST_BY_MEMORY, MOST_BY_CPU, MOST_NEW = 1000, 500, 500


def parse_process(stat: str, status: str, ticks: int) -> "Json":
    """Return one process (proc_pid_stat(5), proc_pid_status(5)); raises IndexError and ValueError for malformed text.

    812 (nginx: master) S 1 812 812 0 -1 4194560 1053 0 0 0 12 34 0 0 20 0 1 0 4300 …
    Uid:\t0\t33\t0\t0
    VmRSS:\t    5276 kB
    """
    name, _, rest = stat.partition("(")[2].rpartition(")")
    words = rest.split()
    fields = {field: values for field, *values in PROCESS_STATUS.findall(status)}
    return {
        "name": name,
        "state": words[0],
        "user": fields.get("Uid", ("", ""))[1],  # the effective one, as ps shows
        "cpu_seconds": round((int(words[11]) + int(words[12])) / ticks, 2),
        "memory_bytes": int(fields.get("VmRSS", ("0",))[0]) << 10,  # kernel threads have none
        "threads": int(fields.get("Threads", ("1",))[0]),
        "started_seconds": round(int(words[19]) / ticks, 2),
    }


def parse_accounts(text: str) -> "dict[str, str]":
    """Return account names by uid (passwd(5)); accounts of a directory service have none, as a query may hang.

    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
    """
    rows = (line.split(":") for line in reversed(lines_of(text)))
    return {row[2]: row[0] for row in rows if len(row) > 2}


def read_process(
    host: "Host", pid: int, accounts: "dict[str, str]", ticks: int, turns: "dict[int, str | None]"
) -> "Json | None":
    """Return one process, None if it has ended meanwhile; stores the account that it counts for in `turns`."""
    folder = "/proc/" + str(pid)
    try:
        status = host.read(folder + "/status")
        process = parse_process(host.read(folder + "/stat"), status, ticks)
    except (OSError, IndexError, ValueError):
        return None
    cgroup = host.text(folder + "/cgroup")
    process["user"] = accounts.get(process["user"], process["user"])
    turns[pid] = accounts.get(str(counts_for(status.encode("utf-8", "surrogateescape"), cgroup)))
    return dict(process, pid=pid, **parse_cgroup(cgroup))


def notable(processes: "list[Json]", turns: "dict[int, str | None]") -> "list[Json]":
    """Return a selection if there are too many: those with most memory, those with most CPU time, and the newest.

    Of each user in turn, so that no user's crowd hides the processes of others; `turns` is the account by pid. That is
    the user who started it: setuid programs run as another user.
    """
    if len(processes) <= MOST_BY_MEMORY + MOST_BY_CPU + MOST_NEW:
        return processes
    orders = (("memory_bytes", MOST_BY_MEMORY), ("cpu_seconds", MOST_BY_CPU), ("started_seconds", MOST_NEW))
    chosen = {}  # type: dict[int, Json]
    for field, count in orders:
        ranked = sorted(processes, key=lambda one: one[field], reverse=True)
        best = in_fair_order(ranked, lambda one: turns.get(one["pid"]))[:count]
        chosen.update((one["pid"], one) for one in best)
    return [chosen[pid] for pid in sorted(chosen)]


def collect_processes(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read every process once; the reader computes the differences between two readings."""
    at, ticks, accounts = host.boottime(), host.ticks(), parse_accounts(host.text("/etc/passwd"))
    pids = list_pids(host)
    chosen = pids if len(pids) <= PROCESSES_LOOKED_AT else in_turn(host, pids, accounts)[:PROCESSES_LOOKED_AT]
    turns = {}  # type: dict[int, str | None]
    found = (read_process(host, pid, accounts, ticks, turns) for pid in chosen)
    processes = [one for one in found if one]
    reported, is_cut = notable(processes, turns), len(chosen) < len(pids)
    # A user without access to PID 1 sees only their own processes (mount option hidepid of /proc).
    is_whole = len(reported) == len(processes) and not is_cut and bool(host.text("/proc/1/stat"))
    total = len(pids) if is_cut else len(processes)
    return {"at": at, "complete": {"processes": is_whole}, "total": total, "processes": reported}
