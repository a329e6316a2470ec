"""The section gpu_processes: the processes on the graphics cards, their memory there, and their owners.

NVIDIA's driver lists its processes. The others are found by their open descriptors of a card's device: the kernel
shows the memory in /proc/PID/fdinfo (Documentation/gpu/drm-usage-stats.rst), for ROCm in /sys/class/kfd.
"""

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import DESCRIPTORS_READ, REFRESH_SECONDS, Host, Json, Missing, Request, lines_of, parse_colons
    from .cards import Card, amd_metrics, has_nvidia_devices, is_apu, is_container, own_cards
    from .nvidia import is_bare, nvidia_processes
    from .owners import in_turn, list_pids, owner_of
    from .processes import parse_accounts

KFD = "/sys/class/kfd/kfd/"
DRM_DEVICE = re.compile(r"/dev/dri/(card|renderD)\d+$")
DRM_DRIVER = re.compile(r"^drm-driver:", re.MULTILINE)
FDINFO_BYTES = 16384  # fdinfo also has a line for each lock on the file, which a user can make 200,000 of
DRM_MEMORY = re.compile(r"^drm-(resident|memory|total)-([\w-]+):\s*(\d+) ?(KiB|MiB|GiB)?", re.MULTILINE)
DRM_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
VIDEO_MEMORY = re.compile(r"(vram|local)\d*$")  # the names of amdgpu and xe, and of i915
SHARED_MEMORY = re.compile(r"(gtt|system\d*|stolen.*)$")
MOST_PROCESSES = 50
LOOK_SECONDS = 2.0
EARLY_LOOKS = 2  # a process opens its card soon after its start, or is found at the next scan of all


def collect_gpu_processes(host: "Host", request: "Request", memo: "Json") -> "Json":
    """List the processes of all cards that are awake, those with most memory first."""
    cards = own_cards(host, memo)
    nvidia = [card for card in cards if card.vendor == "nvidia" and card.driver(host) in ("nvidia", "")]
    others = [card for card in cards if card not in nvidia]
    if is_bare(host, nvidia):
        nvidia = []
    if not cards and not has_nvidia_devices(host):
        raise Missing("not_installed")
    found, complete = [], {}  # type: list[Json], dict[str, bool]
    if nvidia:
        # Inside a container, the driver reports the pids that processes have outside of it.
        complete["nvidia"] = not is_container(host)
        found += nvidia_processes(host, nvidia, memo) if complete["nvidia"] else []
    if others:
        # Without access to PID 1, there is none to processes of other users.
        memo["is_late"], is_open = False, bool(host.names("/proc/1/fd"))
        found += drm_processes(host, [card for card in others if not card.sleeps(host)], memo)
        complete["drm"] = is_open and not memo["is_late"]
    found.sort(key=lambda one: (-one.get("memory_bytes", 0), one["pid"]))
    return {"complete": complete, "processes": [named(host, one) for one in found[:MOST_PROCESSES]]}


def named(host: "Host", process: "Json") -> "Json":
    """Return a process with its name, unit and container."""
    name = host.text("/proc/{}/comm".format(process["pid"]))
    return dict(process, name=name, **owner_of(host, process["pid"]))


def drm_processes(host: "Host", cards: "list[Card]", memo: "Json") -> "list[Json]":
    """Return `{gpu, pid, memory_bytes}` of what has memory on the cards."""
    if not cards:
        return []
    used = kfd_memory(host)
    for pid, address, size in drm_memory(host, cards, memo):
        used[pid, address] = max(size, used.get((pid, address), 0))
    addresses = {card.address for card in cards}
    rows = [{"gpu": address, "pid": pid, "memory_bytes": size} for (pid, address), size in used.items() if size]
    return [row for row in rows if row["gpu"] in addresses]


def drm_memory(host: "Host", cards: "list[Card]", memo: "Json") -> "Iterator[tuple[int, str, int]]":
    """Yield process, card and bytes; a client that several descriptors or processes share counts once."""
    shared = {card.address: is_shared(host, card) for card in cards}
    seen = set()
    users, deadline = sorted(drm_users(host, memo)), time.monotonic() + LOOK_SECONDS
    for pid in in_turn(host, users, parse_accounts(host.text("/etc/passwd"))):
        if time.monotonic() > deadline:
            memo["is_late"] = True
            return
        sizes = {}  # type: dict[str, int]
        for text in drm_descriptors(host, pid):
            fields = parse_colons(text)
            address, client = fields.get("drm-pdev", ""), (fields.get("drm-pdev"), fields.get("drm-client-id"))
            if address in shared and (client not in seen or client[1] is None):
                seen.add(client)
                sizes[address] = sizes.get(address, 0) + parse_drm_memory(text, shared[address])
        for address, size in sizes.items():
            yield pid, address, size


def is_shared(host: "Host", card: "Card") -> bool:
    """Return whether a card uses the system's memory."""
    return card.vendor == "amd" and is_apu(host, card, amd_metrics(host, card))


def parse_drm_memory(text: str, is_shared: bool) -> int:
    r"""Return the memory in bytes behind one descriptor: video memory, and system memory for cards without their own.

    drm-memory-vram:\t1048576 KiB
    drm-memory-gtt: \t2048 KiB
    drm-resident-local0:\t12 MiB
    """
    regions = {}  # type: dict[str, dict[str, int]]
    for kind, region, number, unit in DRM_MEMORY.findall(text):
        regions.setdefault(region, {})[kind] = int(number) * DRM_UNITS[unit]
    # Newer kernels report the same amount under several keys; `total` also counts memory that was never touched.
    sizes = {name: amounts.get("resident", amounts.get("memory", amounts.get("total", 0))) for name, amounts in regions.items()}
    video = [size for name, size in sizes.items() if VIDEO_MEMORY.match(name)]
    system = [size for name, size in sizes.items() if SHARED_MEMORY.match(name)]
    return sum(video) + (sum(system) if is_shared or not video else 0)


def drm_descriptors(host: "Host", pid: int) -> "Iterator[str]":
    """Yield the fdinfo of each descriptor of a card in a process.

    Any file may have a card's path in another mount namespace. Only the fdinfo of a real card contains the line of its
    driver.
    """
    for number in host.names(f"/proc/{pid}/fd", DESCRIPTORS_READ):
        if DRM_DEVICE.match(host.link_target(f"/proc/{pid}/fd/{number}")):
            try:
                text = host.head(f"/proc/{pid}/fdinfo/{number}", FDINFO_BYTES).decode("utf-8", "replace")
            except OSError:
                continue
            if DRM_DRIVER.search(text):
                yield text


def drm_users(host: "Host", memo: "Json") -> "list[int]":
    """Return the processes with a card open: searched among new processes, and among all every 10 minutes.

    Reading the descriptors of 500 processes takes 30 ms, as long as six polls.
    """
    now, deadline = host.boottime(), time.monotonic() + LOOK_SECONDS
    pids = list_pids(host)
    if now >= memo.get("users_until", 0.0):
        memo.update(looks=dict.fromkeys(pids, EARLY_LOOKS - 1), users_until=now + REFRESH_SECONDS)
    looks = memo["looks"]  # type: dict[int, int]
    # Found processes come first. One with very many descriptors does not delay the others for ever.
    due = [pid for pid in pids if looks.get(pid, 0) < EARLY_LOOKS]
    due = sorted(in_turn(host, due, parse_accounts(host.text("/etc/passwd"))), key=lambda pid: looks.get(pid, 0))
    users, asked = set(), set()  # type: set[int], set[int]
    for pid in due:
        if time.monotonic() > deadline:
            memo["is_late"] = True
            break
        asked.add(pid)
        if any(True for _ in drm_descriptors(host, pid)):
            users.add(pid)
    # Below zero: it was found, and is checked again whatever its age.
    left = set(due) - asked
    memo["looks"] = {pid: -1 if pid in users else looks.get(pid, 0) + (pid not in left) for pid in pids}
    return sorted(users)


def kfd_memory(host: "Host") -> "dict[tuple[int, str], int]":
    """Return the bytes of each ROCm process on each card, by (pid, PCI address); readable for every user."""
    cards = {}
    for node in host.names(KFD + "topology/nodes"):
        folder = KFD + "topology/nodes/" + node + "/"
        number = host.text(folder + "gpu_id")
        if number not in ("", "0"):  # a CPU
            cards[number] = kfd_address(host.text(folder + "properties"))
    used = {}
    for pid in host.names(KFD + "proc"):
        for number, address in cards.items():
            used[int(pid), address] = host.number(KFD + "proc/" + pid + "/vram_" + number) or 0
    return used


def kfd_address(text: str) -> str:
    r"""Return the PCI address in a node's properties.

    location_id 768\ndomain 0  →  0000:03:00.0
    """
    properties = dict(line.partition(" ")[::2] for line in lines_of(text))
    place, domain = int(properties.get("location_id") or 0), int(properties.get("domain") or 0)
    return f"{domain:04x}:{place >> 8 & 255:02x}:{place >> 3 & 31:02x}.{place & 7}"
