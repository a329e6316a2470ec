"""The section disk_io: the counters of whole disks."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator

    from ..host import Host, Json, Missing, RememberedEach, Request, lines_of

NO_WHOLE_DISK = re.compile(
    r"loop|ram|zram|dm-|md|sr\d|fd\d|zd\d|nbd|bcache|drbd|rbd|mmcblk\d+(boot|rpmb|gp)|nvme\d+c\d+n"
)


def parse_diskstats(text: str) -> "Iterator[tuple[str, list[str]]]":
    """Yield each block device's name and its counters as text (Documentation/admin-guide/iostats.rst).

    The name is that of sysfs, where a slash is written `!`: cciss/c0d0 is /sys/block/cciss!c0d0.

    254       0 vda 47083 22848 2508882 18408 25532 252290 6699032 44706 0 19480 65680 13522 53 929272 2381 1237 184
    """
    for line in lines_of(text):
        words = line.split()
        if len(words) >= 13:
            yield words[2].replace("/", "!"), words[3:]


def disk_counters(words: "list[str]") -> "Json":
    """Return one disk's counters; a sector here is always 512 bytes, whatever the disk's sector size."""
    return {
        "read_bytes": int(words[2]) * 512,
        "written_bytes": int(words[6]) * 512,
        "reads": int(words[0]),
        "writes": int(words[4]),
        "read_seconds": int(words[3]) / 1000,
        "write_seconds": int(words[7]) / 1000,
        "busy_seconds": int(words[9]) / 1000,
    }


def is_whole_disk(host: "Host", name: str) -> bool:
    """Return whether a block device is a whole disk: no partition, nothing stacked on others, no empty slot."""
    folder = "/sys/block/" + name
    return not NO_WHOLE_DISK.match(name) and host.exists(folder + "/device") and host.number(folder + "/size") != 0


def whole_disks(host: "Host", names: "Iterable[str]", memo: "Json") -> "list[str]":
    """Return which names are whole disks; each name is checked once, and again every 10 minutes."""
    whole = memo.setdefault("whole", RememberedEach()).each(host.boottime(), names, lambda name: is_whole_disk(host, name))
    return [name for name, is_whole in whole.items() if is_whole]


def collect_disk_io(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the counters of whole disks in /proc/diskstats."""
    at = host.boottime()
    try:
        lines = dict(parse_diskstats(host.read("/proc/diskstats")))
    except FileNotFoundError:
        raise Missing("not_supported") from None
    disks = whole_disks(host, lines, memo)
    return {"at": round(at, 3), "disks": {name: disk_counters(lines[name]) for name in disks}}
