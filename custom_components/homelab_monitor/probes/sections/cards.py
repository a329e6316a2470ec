"""Graphics cards: which there are, and what sysfs reports of AMD's and Intel's; a sleeping one is left asleep."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host, Json, Remembered
    from .sensors import degrees
    from .system import container_kind

GPU_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
GPU_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
UNUSED_DRIVERS = ("", "vfio-pci", "pci-stub")
PCI = "/sys/bus/pci/devices/"


class Card:
    """One graphics card as PCI tells it."""

    def __init__(self, host: "Host", address: str, vendor: str) -> None:
        self.address = address
        self.vendor = vendor
        self.folder = PCI + address + "/"
        self.device = host.text(self.folder + "device")

    def driver(self, host: "Host") -> str:
        """Return the kernel driver that has the card now, "" without one."""
        return host.link_name(self.folder + "driver")

    def sleeps(self, host: "Host") -> bool:
        """Tell whether the card is powered down; touching it would wake it."""
        return host.text(self.folder + "power/runtime_status") in ("suspended", "suspending")


def graphics_cards(host: "Host", memo: "Json") -> "list[Card]":
    """Return the graphics cards of the three vendors; looked for again when PCI devices come or go."""
    addresses = sorted(host.names(PCI))
    cards = memo.setdefault("cards", Remembered())
    return cards.get(host.boottime(), addresses, lambda: list(find_cards(host, addresses)))  # type: ignore[no-any-return]


def find_cards(host: "Host", addresses: "list[str]") -> "Iterator[Card]":
    """Yield the graphics cards among PCI devices."""
    for address in addresses:
        kind = host.text(PCI + address + "/class")[:4]
        vendor = GPU_VENDORS.get(host.text(PCI + address + "/vendor")) if kind in ("0x03", "0x12") else None
        # Class 0x12 holds AMD's accelerators, but also Intel's NPUs, which are no GPUs.
        if vendor and (kind == "0x03" or vendor == "amd"):
            yield Card(host, address, vendor)


def own_cards(host: "Host", memo: "Json") -> "list[Card]":
    """Return the cards that this system uses: not those of a VM (vfio), nor in a container those of its host."""
    drivers = [(card, card.driver(host)) for card in graphics_cards(host, memo)]
    # An NVIDIA card without a driver may be a broken installation; the others then are simply not used.
    cards = [card for card, name in drivers if name not in UNUSED_DRIVERS or (not name and card.vendor == "nvidia")]
    if not cards or not is_container(host):
        return cards
    has_dri = any(name.startswith(("card", "render")) for name in host.names("/dev/dri"))
    has_nvidia = host.exists("/dev/nvidiactl")
    return [card for card in cards if (has_nvidia if card.driver(host) == "nvidia" else has_dri)]


def is_container(host: "Host") -> bool:
    """Tell whether this is a container, by the marks that container managers leave for everybody to read."""
    return bool(container_kind(host))


def has_cards(host: "Host", memo: "Json") -> bool:
    """Tell whether there is a card or its driver, which may never answer."""
    return bool(own_cards(host, memo)) or has_nvidia_devices(host)


def has_nvidia_devices(host: "Host") -> bool:
    """Tell whether NVIDIA's driver is loaded, also where no PCI bus shows its card (WSL, Jetson)."""
    return host.exists("/dev/nvidiactl") or host.exists("/dev/dxg")


def card_name(host: "Host", card: "Card", memo: "Json") -> str:
    """Return a card's name: its own, else the one of the system's list of PCI ids, else its id."""
    names = memo.setdefault("names", {})
    if card.address not in names:
        listed = pci_name(host, card.vendor, card.device)
        told = host.text(card.folder + "product_name") or listed or "GPU " + card.device
        maker = GPU_NAMES[card.vendor]
        names[card.address] = told if told.lower().startswith(maker.lower()) else maker + " " + told
    return names[card.address]  # type: ignore[no-any-return]


def pci_name(host: "Host", vendor: str, device: str) -> str:
    """Return a device's name in pci.ids, "" where there is no such list; in brackets stands what is on the box."""
    number = next(number for number, name in GPU_VENDORS.items() if name == vendor)
    for path in PCI_IDS:
        if host.exists(path):
            listed = parse_pci_ids(host.read(path), number[2:], device[2:])
            return listed.partition("[")[2].rpartition("]")[0] or listed
    return ""


def parse_pci_ids(text: str, vendor: str, device: str) -> str:
    r"""Return the name of a device in pci.ids, "" if it is not in it.

    1002  Advanced Micro Devices, Inc. [AMD/ATI]
    \t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]
    """
    block = re.search(rf"^{re.escape(vendor)}  .*\n((?:[\t#].*\n|\n)*)", text + "\n", re.MULTILINE)
    name = re.search(rf"^\t{re.escape(device)}  (.*)$", block.group(1), re.MULTILINE) if block else None
    return name.group(1).strip() if name else ""


def sysfs_gpu(host: "Host", card: "Card", memo: "Json") -> "Json":
    """Return what sysfs tells of a card."""
    gpu = {"id": card.address, "vendor": card.vendor, "name": card_name(host, card, memo)}  # type: Json
    gpu.update(pci_address=card.address, state="suspended" if card.sleeps(host) else "ok")
    if gpu["state"] == "ok":
        gpu.update(rested_values(host, card, memo))
    return gpu


def rested_values(host: "Host", card: "Card", memo: "Json") -> "Json":
    """Return a card's values; of one that may fall asleep not so often that asking keeps it awake.

    Every reading starts the delay anew after which the kernel lets an idle card sleep
    (Documentation/power/runtime_pm.rst); between readings the last values stand.
    """
    read = memo.setdefault("read", {})
    now, delay = host.boottime(), host.number(card.folder + "power/autosuspend_delay_ms")
    may_sleep = delay is not None and delay >= 0 and host.text(card.folder + "power/control") == "auto"
    at, values = read.get(card.address, (0.0, None))
    if values is None or not may_sleep or now - at > (delay or 0) / 1000 + 2.0:
        values = {key: value for key, value in sysfs_values(host, card, memo) if value is not None}
        read[card.address] = now, values
    return values  # type: ignore[no-any-return]


def sysfs_values(host: "Host", card: "Card", memo: "Json") -> "Iterator[tuple[str, object]]":
    """Yield what the card's driver tells, None for what it does not."""
    for monitor in sorted(host.names(card.folder + "hwmon"))[:1]:
        yield from monitor_values(host, card.folder + "hwmon/" + monitor + "/", memo)
    driver = card.driver(host)
    if driver == "amdgpu":
        yield from amd_values(host, card)
    elif driver in ("i915", "xe"):
        yield from intel_values(host, card)


def monitor_values(host: "Host", folder: str, memo: "Json") -> "Iterator[tuple[str, object]]":
    """Yield what the card's hardware monitor tells (Documentation/hwmon/sysfs-interface.rst, gpu/amdgpu/thermal.rst)."""
    temperature = memo.setdefault("temperature of " + folder, Remembered())
    name = temperature.get(host.boottime(), host.identity(folder), lambda: main_temperature(host, folder))
    yield "temperature_celsius", degrees(host.number(folder + name))
    yield "power_watts", microwatts(host, folder, "power1_average", "power1_input")
    yield "power_limit_watts", microwatts(host, folder, "power1_cap", "power1_max") or None
    pwm, full = host.number(folder + "pwm1"), host.number(folder + "pwm1_max") or 255
    yield "fan_percent", None if pwm is None else round(100.0 * pwm / full)
    yield "fan_rpm", host.number(folder + "fan1_input") if pwm is None else None
    yield "clock_hz", host.number(folder + "freq1_input")
    yield "memory_clock_hz", host.number(folder + "freq2_input")


def main_temperature(host: "Host", folder: str) -> str:
    """Return the input that stands for the card: its edge, its package, else the first that there is."""
    inputs = sorted(name for name in host.names(folder) if re.match(r"temp\d+_input$", name))
    labels = {host.text(folder + name[: -len("input")] + "label"): name for name in reversed(inputs)}
    return labels.get("edge") or labels.get("pkg") or (inputs[0] if inputs else "temp1_input")


def microwatts(host: "Host", folder: str, *names: str) -> "float | None":
    """Return the first of some files that has a number, in watts."""
    for name in names:
        told = host.number(folder + name)
        if told is not None:
            return round(told / 1e6, 2)
    return None


def amd_values(host: "Host", card: "Card") -> "Iterator[tuple[str, object]]":
    """Yield what only amdgpu tells."""
    unique = host.text(card.folder + "unique_id")
    yield "uuid", unique if unique.strip("0") else None
    usage = host.number(card.folder + "gpu_busy_percent")
    # The firmware is busy at times (EBUSY); the second answer is then a good one.
    yield "usage_percent", host.number(card.folder + "gpu_busy_percent") if usage is None else usage
    metrics = amd_metrics(host, card)
    for what in ("total", "used"):
        yield f"memory_{what}_bytes", amd_memory(host, card, what, is_apu(host, card, metrics))
    yield "throttle_reasons", amd_throttle_reasons(metrics)


def amd_metrics(host: "Host", card: "Card") -> bytes:
    """Return the firmware's metrics table, b"" where there is none."""
    try:
        return host.read_bytes(card.folder + "gpu_metrics")
    except OSError:
        return b""


def amd_memory(host: "Host", card: "Card", what: str, is_shared: bool) -> "int | None":
    """Return video memory in bytes; an APU lives in system memory (GTT) as well as in its carve-out."""
    video = host.number(card.folder + f"mem_info_vram_{what}")
    shared = host.number(card.folder + f"mem_info_gtt_{what}")
    return video + shared if video is not None and shared is not None and is_shared else video


def is_apu(host: "Host", card: "Card", metrics: bytes) -> bool:
    """Tell whether a card is part of a CPU: its metrics table then is of format 2 or 3 (kgd_pp_interface.h)."""
    if len(metrics) >= 3:
        return metrics[2] in (2, 3)
    return (host.number(card.folder + "mem_info_vram_total") or 0) <= 1 << 30


# Where the metrics tables of these formats (kgd_pp_interface.h) keep their throttle status, and its bits
# (amdgpu_smu.h): currents and package power · temperatures of die, memory and voltage regulators · PROCHOT.
AMD_THROTTLE_OFFSETS = {(1, 3): 112, (2, 2): 120, (2, 3): 120, (2, 4): 120}
AMD_POWER_BITS, AMD_THERMAL_BITS, AMD_HARDWARE_BITS = 0xFF00FF, 0x3FFF << 32, 3 << 46
AMD_UNKNOWN = (1 << 64) - 1


def amd_throttle_reasons(metrics: bytes) -> "list[str] | None":
    """Return why the firmware slows a card down, None where its table does not tell."""
    offset = AMD_THROTTLE_OFFSETS.get((metrics[2], metrics[3])) if len(metrics) > 3 else None
    if offset is None or len(metrics) < offset + 8:
        return None
    bits = int.from_bytes(metrics[offset : offset + 8], "little")
    return None if bits == AMD_UNKNOWN else reasons_of(bits, AMD_THERMAL_BITS, AMD_POWER_BITS, AMD_HARDWARE_BITS)


def reasons_of(bits: int, thermal: int, power: int, hardware: int) -> "list[str]":
    """Return the contract's words for the bits that are set."""
    words = (("thermal", thermal), ("power", power), ("hardware", hardware))
    return [word for word, mask in words if bits & mask]


INTEL_CLOCKS = ("drm/{}/gt/gt0/rps_act_freq_mhz", "drm/{}/gt_act_freq_mhz", "tile0/gt0/freq0/act_freq")  # i915, old, xe
INTEL_REASONS = ("drm/{}/gt/gt0/throttle_reason_", "tile0/gt0/freq0/throttle/reason_")
INTEL_STATUSES = ("drm/{}/gt/gt0/throttle_reason_status", "tile0/gt0/freq0/throttle/status")
INTEL_WORDS = (
    ("thermal", ("thermal", "ratl", "vr_thermalert")),
    ("power", ("pl1", "pl2", "pl4", "vr_tdc")),
    ("hardware", ("prochot",)),
)


def intel_values(host: "Host", card: "Card") -> "Iterator[tuple[str, object]]":
    """Yield what only i915 and xe tell (Documentation/ABI/testing/sysfs-driver-intel-xe, i915's intel_gt_sysfs_pm.c)."""
    device = next((name for name in sorted(host.names(card.folder + "drm")) if name.startswith("card")), "")
    clocks = [host.number(card.folder + path.format(device)) for path in INTEL_CLOCKS]
    yield "clock_hz", next((megahertz * 1000000 for megahertz in clocks if megahertz is not None), None)
    for status, reason in zip(INTEL_STATUSES, INTEL_REASONS):
        told = host.number(card.folder + status.format(device))
        if told is not None:
            folder = card.folder + reason.format(device)
            yield "throttle_reasons", intel_throttle_reasons(host, folder) if told else []


def intel_throttle_reasons(host: "Host", folder: str) -> "list[str]":
    """Return the contract's words for the reasons that the driver names."""
    return [word for word, names in INTEL_WORDS if any(host.number(folder + name) for name in names)]
