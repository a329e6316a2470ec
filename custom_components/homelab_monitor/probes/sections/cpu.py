"""The section cpu: times and current frequency."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Missing, Remembered, Request, lines_of


def parse_stat(text: str, ticks: int) -> "tuple[dict[str, float], list[list[float]]]":
    """Return the times of all CPUs together and (busy, total) of each, in seconds (proc_stat(5)).

    cpu  12160 0 7062 175670 920 0 544 2674 0 0
    cpu0 3573 0 2399 92005 151 0 76 1402 0 0
    intr 1290122 0 26 …
    """
    times = {}  # type: dict[str, float]
    cores = []
    for line in lines_of(text):
        if not line.startswith("cpu"):
            break
        name, _, rest = line.partition(" ")
        counted = [int(word) for word in rest.split()]
        if name == "cpu":
            times = cpu_times(counted, ticks)
        else:
            cores.append(core_times(counted, ticks))
    if not times:
        raise Missing("unreadable")
    return times, cores


CPU_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def cpu_times(counted: "list[int]", ticks: int) -> "dict[str, float]":
    """Return seconds by state, whose sum is the total time: guest time is already part of user and nice."""
    return {name: round(value / ticks, 2) for name, value in zip(CPU_STATES, counted + [0] * 8)}


def core_times(counted: "list[int]", ticks: int) -> "list[float]":
    """Return (busy, total) seconds of one core, from the same states."""
    total = sum(counted[:8])
    idle = sum(counted[3:5])
    return [round((total - idle) / ticks, 2), round(total / ticks, 2)]


def collect_cpu(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read /proc/stat and the current frequencies."""
    at = host.boottime()
    times, cores = parse_stat(host.read("/proc/stat"), host.ticks())
    section = {"at": round(at, 3), "times": times, "cores": cores}  # type: Json
    frequency = mean_frequency(host, memo)
    if frequency:
        section["frequency_hz"] = frequency
    return section


def frequency_files(host: "Host") -> "list[str]":
    """Return the files with the frequencies; policies come and go with CPUs that are switched on and off."""
    folder = "/sys/devices/system/cpu/cpufreq/"
    policies = sorted(name for name in host.names(folder) if name.startswith("policy"))
    return [folder + name + "/scaling_cur_freq" for name in policies[:: max(1, -(-len(policies) // 16))]]


def mean_frequency(host: "Host", memo: "Json") -> "int | None":
    """Return the mean frequency of cpufreq's policies in Hz; of at most 16 evenly spread ones, as each read costs."""
    policies = memo.setdefault("policies", Remembered()).get(host.boottime(), None, lambda: frequency_files(host))
    kilohertz = [value for value in map(host.number, policies) if value]
    return round(sum(kilohertz) / len(kilohertz)) * 1000 if kilohertz else None
