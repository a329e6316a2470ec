"""The sections load, pressure and uptime: how busy the host is, and how long it has been up."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Missing, Remembered, Request, lines_of, without_none


def parse_loadavg(text: str) -> "Json":
    """Return load averages and thread counts (proc_loadavg(5)).

    0.13 0.18 0.12 1/86 5288
    """
    words = text.split()
    running, _, threads = words[3].partition("/")
    loads = {"load1": float(words[0]), "load5": float(words[1]), "load15": float(words[2])}  # type: Json
    loads.update(running=int(running), threads=int(threads))
    return loads


def collect_load(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read /proc/loadavg; processes are counted every 30 seconds."""
    section = parse_loadavg(host.read("/proc/loadavg"))
    # With 500 processes, the listing costs as much as everything else here together.
    processes = memo.setdefault("processes", Remembered(30.0))
    section["processes"] = processes.get(host.boottime(), None, lambda: count_processes(host))
    return without_none(section)


def count_processes(host: "Host") -> "int | None":
    """Return how many processes there are, None if this user sees only their own (hidepid of proc(5))."""
    names = host.names("/proc")
    return sum(map(str.isdigit, names)) if "1" in names else None


def parse_pressure(text: str) -> "dict[str, float]":
    """Return averages in percent and totals in seconds (Documentation/accounting/psi.rst).

    some avg10=0.00 avg60=0.31 avg300=1.12 total=19083241
    full avg10=0.00 avg60=0.00 avg300=0.00 total=0
    """
    stalls = {}
    for line in lines_of(text):
        kind, _, rest = line.partition(" ")
        for word in rest.split():
            name, _, value = word.partition("=")
            if name == "total":
                stalls[kind + "_total_seconds"] = round(int(value) / 1e6, 3)
            else:
                stalls[kind + "_" + name] = float(value)
    return stalls


def collect_pressure(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read /proc/pressure; a kernel with psi=0 has the files, but reading them fails."""
    section = {}
    for name in ("cpu", "memory", "io"):
        try:
            section[name] = parse_pressure(host.read("/proc/pressure/" + name))
        except PermissionError:
            raise
        except OSError:
            continue
    if not section:
        raise Missing("not_supported")
    return section


def collect_uptime(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read /proc/uptime, which lxcfs replaces by the container's own in a container."""
    return {"uptime_seconds": float(host.read("/proc/uptime").split()[0])}
