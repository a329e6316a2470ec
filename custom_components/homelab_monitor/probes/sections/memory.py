"""The section memory, computed as `free` does."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Missing, Request, difference, without_none, within
    from .mounts import replaced_files

MEMINFO = re.compile(
    r"^(MemTotal|MemFree|MemAvailable|Buffers|Cached|SwapTotal|SwapFree|Shmem|SReclaimable):\s*(\d+) kB", re.MULTILINE
)


def parse_meminfo(text: str) -> "dict[str, int]":
    """Return the relevant sizes of /proc/meminfo in bytes (proc_meminfo(5)).

    MemTotal:       24684096 kB
    MemAvailable:   22995468 kB
    """
    return {name: int(kibibytes) * 1024 for name, kibibytes in MEMINFO.findall(text)}


def collect_memory(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read /proc/meminfo and compute the section as `free` does."""
    sizes = parse_meminfo(host.read("/proc/meminfo"))
    if "MemTotal" not in sizes:
        raise Missing("unreadable")
    cached = sizes.get("Cached", 0) + sizes.get("SReclaimable", 0)
    buffers, free = sizes.get("Buffers", 0), sizes.get("MemFree", 0)
    total = sizes["MemTotal"]
    available = within(sizes.get("MemAvailable"), 0, total)
    if available is None:
        # Kernels before 3.14 (OpenVZ) have none, and lxcfs may show the host's; the caches then count as available.
        available = within(difference(free + buffers + cached, sizes.get("Shmem", 0)) or 0, 0, total)
    section = {
        "total_bytes": total,
        "available_bytes": available,
        "free_bytes": free,
        "buffers_bytes": buffers,
        "cached_bytes": cached,
        "shared_bytes": sizes.get("Shmem", 0),
        "swap_total_bytes": sizes.get("SwapTotal", 0),
        "swap_free_bytes": sizes.get("SwapFree", 0),
    }
    section = without_none(section)
    try:
        cache = parse_arcstats(host.read("/proc/spl/kstat/zfs/arcstats"))
    except OSError:
        return section
    # A container sees the cache of the whole host, which is no part of its own memory.
    if "/proc/meminfo" not in replaced_files(host, memo):
        section["zfs_cache_bytes"] = cache
    return section


def parse_arcstats(text: str) -> int:
    """Return the bytes of ZFS's cache (ARC) that it releases when programs need memory: all above its minimum.

    name                            type data
    size                            4    20132659200
    c_min                           4    1048576000
    """
    sizes = dict(re.findall(r"^(size|c_min)\s+\d+\s+(\d+)$", text, re.MULTILINE))
    return difference(int(sizes.get("size", 0)), int(sizes.get("c_min", 0))) or 0
