"""The section gpu: every card, AMD and Intel by cards.py, NVIDIA by nvidia.py; a sleeping one is left asleep."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Missing, Request, difference, without_none, within
    from .cards import own_cards, sysfs_gpu
    from .nvidia import nvidia_gpus


def collect_gpu(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read every card in its vendor's way; a suspended card stays suspended."""
    at, cards = host.boottime(), own_cards(host, memo)
    section = {"at": round(at, 3)}  # type: Json
    gpus = nvidia_gpus(host, [card for card in cards if card.vendor == "nvidia"], memo, section)
    gpus += [sysfs_gpu(host, card, memo) for card in cards if card.vendor != "nvidia"]
    if not gpus:
        raise Missing("not_installed")
    section["gpus"] = [believable(gpu) for gpu in gpus]
    return section


def believable(gpu: "Json") -> "Json":
    """Return a card without impossible values: drivers and firmware report nonsense while they wake or fail."""
    plausible = dict(gpu, usage_percent=within(gpu.get("usage_percent"), 0, 100))
    # A fan above its nominal speed reports more than 100 % (NVML, nvmlDeviceGetFanSpeed).
    plausible["fan_percent"] = within(min(gpu.get("fan_percent", -1), 100), 0, 100)
    total = gpu.get("memory_total_bytes")
    if total is not None and difference(total, gpu.get("memory_used_bytes")) is None:
        plausible["memory_used_bytes"] = None
    return without_none(plausible)
