"""The section gpu: NVIDIA through NVML or nvidia-smi, AMD and Intel through sysfs; a sleeping card is left asleep."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..probe import Broken, Host, NvmlError, Json, Missing, REFRESH_SECONDS, Request, degrees
    from .system import container_kind

GPU_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
GPU_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
UNUSED_DRIVERS = ("", "vfio-pci", "pci-stub")
PCI = "/sys/bus/pci/devices/"
MEBIBYTE = 1 << 20


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
    if memo.get("addresses") != addresses:
        cards = []
        for address in addresses:
            kind = host.text(PCI + address + "/class")[:4]
            vendor = GPU_VENDORS.get(host.text(PCI + address + "/vendor")) if kind in ("0x03", "0x12") else None
            # Class 0x12 holds AMD's accelerators, but also Intel's NPUs, which are no GPUs.
            cards += [Card(host, address, vendor)] if vendor and (kind == "0x03" or vendor == "amd") else []
        memo.update(addresses=addresses, cards=cards)
    return memo["cards"]  # type: ignore[no-any-return]


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


def collect_gpu(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read every card in its vendor's way; a card that sleeps is left asleep."""
    at, cards = host.boottime(), own_cards(host, memo)
    section = {"at": round(at, 3)}  # type: Json
    gpus = nvidia_gpus(host, [card for card in cards if card.vendor == "nvidia"], memo, section)
    gpus += [sysfs_gpu(host, card, memo) for card in cards if card.vendor != "nvidia"]
    if not gpus:
        raise Missing("not_installed")
    section["gpus"] = gpus
    return section


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
    """Return what sysfs tells of an AMD or Intel card (Documentation/gpu/amdgpu/thermal.rst)."""
    gpu = {"id": card.address, "vendor": card.vendor, "name": card_name(host, card, memo)}  # type: Json
    gpu.update(pci_address=card.address, state="suspended" if card.sleeps(host) else "ok")
    if card.vendor == "amd" and gpu["state"] == "ok" and card.driver(host) == "amdgpu":
        gpu.update(told for told in amd_values(host, card, memo) if told[1] is not None)
    return gpu


def amd_values(host: "Host", card: "Card", memo: "Json") -> "Iterator[tuple[str, object]]":
    """Yield the values of an amdgpu card, None for what it does not tell."""
    unique = host.text(card.folder + "unique_id")
    yield "uuid", unique if unique.strip("0") else None
    usage = host.number(card.folder + "gpu_busy_percent")
    # The firmware is busy at times (EBUSY); the second answer is then a good one.
    yield "usage_percent", host.number(card.folder + "gpu_busy_percent") if usage is None else usage
    for what in ("total", "used"):
        yield f"memory_{what}_bytes", amd_memory(host, card, what, memo)
    monitors = host.names(card.folder + "hwmon")
    if not monitors:
        return
    folder = card.folder + "hwmon/" + monitors[0] + "/"
    yield "temperature_celsius", degrees(host.number(folder + "temp1_input"))
    watts = host.number(folder + "power1_average") or host.number(folder + "power1_input")
    yield "power_watts", None if watts is None else round(watts / 1e6, 2)
    cap = host.number(folder + "power1_cap")
    yield "power_limit_watts", round(cap / 1e6, 2) if cap else None
    pwm, full = host.number(folder + "pwm1"), host.number(folder + "pwm1_max") or 255
    yield "fan_percent", None if pwm is None else round(100.0 * pwm / full)
    yield "clock_hz", host.number(folder + "freq1_input")
    yield "memory_clock_hz", host.number(folder + "freq2_input")


def amd_memory(host: "Host", card: "Card", what: str, memo: "Json") -> "int | None":
    """Return video memory in bytes; an APU lives in system memory (GTT) as well as in its carve-out."""
    video = host.number(card.folder + f"mem_info_vram_{what}")
    shared = host.number(card.folder + f"mem_info_gtt_{what}")
    return video + shared if video is not None and shared is not None and is_apu(host, card, memo) else video


def is_apu(host: "Host", card: "Card", memo: "Json") -> bool:
    """Tell whether a card is part of a CPU: its metrics table then is of format 2 or 3 (kgd_pp_interface.h)."""
    known = memo.setdefault("apus", {})
    if card.address not in known:
        try:
            header = host.read_bytes(card.folder + "gpu_metrics")[:3]
        except OSError:
            header = b""
        video = host.number(card.folder + "mem_info_vram_total") or 0
        known[card.address] = header[2] in (2, 3) if len(header) == 3 else video <= 1 << 30
    return known[card.address]  # type: ignore[no-any-return]


# NVIDIA: the management library, else its command. The library is opened for one reading and closed after
# it, so that no /dev/nvidia* stays open: an open one keeps the card awake and the driver from being replaced.


def nvidia_gpus(host: "Host", cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return NVIDIA's cards; raises Broken when they are there and the driver does not work."""
    ours = [card for card in cards if card.driver(host) in ("nvidia", "")]
    other = [sysfs_gpu(host, card, memo) for card in cards if card not in ours]
    if not ours and not has_nvidia_devices(host):
        return other
    awake = [card for card in ours if not card.sleeps(host)]
    asleep = [proc_gpu(host, card, memo, "suspended") for card in ours if card not in awake]
    if not awake and ours:
        return asleep + other
    try:
        return nvml_gpus(host, awake, memo, section) + asleep + other
    except OSError:
        if is_bare(host, awake):
            return asleep + other
        return smi_gpus(host, awake, memo, section) + asleep + other


def is_bare(host: "Host", cards: "list[Card]") -> bool:
    """Tell whether cards have neither a driver nor NVIDIA's programs: nobody wants to use them."""
    return bool(cards) and not any(card.driver(host) for card in cards) and not host.exists("/usr/bin/nvidia-smi")


def proc_gpu(host: "Host", card: "Card", memo: "Json", state: str) -> "Json":
    """Return what the driver tells of a card without touching it."""
    told = parse_colons(host.text("/proc/driver/nvidia/gpus/" + card.address + "/information"))
    uuid = told.get("GPU UUID", "")
    uuid = "" if "?" in uuid else uuid
    gpu = {"id": uuid or card.address, "vendor": "nvidia"}  # type: Json
    gpu.update(name=told.get("Model") or card_name(host, card, memo), pci_address=card.address, state=state)
    if uuid:
        gpu["uuid"] = uuid
    return gpu


def parse_colons(text: str) -> "dict[str, str]":
    r"""Return `name: value` lines as a dict.

    Model: \t\t NVIDIA GeForce RTX 3090
    GPU UUID: \t GPU-1c2b3a4d-0000-1111-2222-333344445555
    """
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


NVML_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1")
NVML_NOT_FOUND, NVML_DENIED, NVML_LOST = 6, 4, 15
# Bits of nvmlClocksEventReasons (nvml.h); a slowdown by heat or power sets the general hardware bit, too.
THERMAL_BITS, POWER_BITS, HARDWARE_BIT = 0x20 | 0x40, 0x4 | 0x80, 0x8


class Nvml:
    """NVIDIA's management library, through ctypes."""

    def __init__(self) -> None:
        try:
            import ctypes  # noqa: PLC0415
        except ImportError as err:  # a Python built without it
            raise OSError(str(err)) from None

        self.ctypes = ctypes
        self.library = self.load()
        self.library.nvmlErrorString.restype = ctypes.c_char_p

    def load(self) -> "Any":
        """Return the library; raises OSError where there is none."""
        for name in NVML_LIBRARIES[:-1]:
            try:
                return self.ctypes.CDLL(name)
            except OSError:
                continue
        return self.ctypes.CDLL(NVML_LIBRARIES[-1])

    def call(self, name: str, *arguments: "Any") -> None:
        """Call a function; raises NvmlError with the library's text, also where an old library lacks it."""
        function = getattr(self.library, name, None)
        if function is None:
            raise NvmlError(13, name + " is not in this library")
        code = function(*arguments)
        if code:
            raise NvmlError(code, self.library.nvmlErrorString(code).decode("ascii", "replace"))

    def words(self, name: str, *arguments: "Any") -> str:
        """Return the text that a function writes into a buffer."""
        buffer = self.ctypes.create_string_buffer(96)
        self.call(name, *arguments, buffer, 96)
        return buffer.value.decode("utf-8", "replace")

    def numbers(self, name: str, form: str, *arguments: "Any") -> "tuple[Any, ...] | None":
        """Return the struct that a function fills (`form` as in module struct), None where it has none to tell."""
        import struct  # noqa: PLC0415

        size = struct.calcsize(form)
        buffer = self.ctypes.create_string_buffer(size)
        if name.endswith("_v2"):  # a versioned struct says first which one it is
            struct.pack_into("I", buffer, 0, size | 2 << 24)
        try:
            self.call(name, *arguments, buffer)
        except NvmlError as err:
            if err.code == NVML_LOST:
                raise
            return None
        return struct.unpack(form, buffer.raw)

    def handle(self, address: str) -> "Any":
        """Return the card at a PCI address; only this one is initialised, so that the others sleep on."""
        handle = self.ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", address.encode("ascii"), self.ctypes.byref(handle))
        return handle

    def handles(self) -> "list[Any]":
        """Return all cards, where PCI does not name them."""
        count = self.ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", self.ctypes.byref(count))
        handles = [self.ctypes.c_void_p() for _ in range(count.value)]
        for i, handle in enumerate(handles):
            self.call("nvmlDeviceGetHandleByIndex_v2", i, self.ctypes.byref(handle))
        return handles


def nvml_gpus(host: "Host", cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return the cards as NVML tells them; after an error the process is stale, unless it only just began."""
    nvml = nvml_library(host, memo)
    try:
        nvml.call("nvmlInit_v2")
        try:
            section["driver"] = nvml.words("nvmlSystemGetDriverVersion")
            section["source"] = "nvml"
            found = [nvml_card(host, nvml, card, memo) for card in cards]
            return [gpu for gpu in found if gpu] if cards else [nvml_gpu(nvml, one) for one in nvml.handles()]
        finally:
            nvml.call("nvmlShutdown")
    except NvmlError:
        # A process that ends at every poll would cost more than it tells.
        memo["stale"] = host.boottime() - memo["nvml_since"] > 60.0
        raise


def nvml_library(host: "Host", memo: "Json") -> "Nvml":
    """Return the library; raises OSError where it is not installed, looked for again after 10 minutes."""
    now = host.boottime()
    if "nvml" not in memo:
        if now < memo.get("no_nvml_until", 0.0):
            raise OSError("not installed")
        memo["no_nvml_until"] = now + REFRESH_SECONDS
        memo.update(nvml=host.nvml(), nvml_since=now)
    return memo["nvml"]  # type: ignore[no-any-return]


def nvml_card(host: "Host", nvml: "Nvml", card: "Card", memo: "Json") -> "Json | None":
    """Return one card; as `lost` where it fell off the bus, None where it was not given to this container."""
    try:
        return nvml_gpu(nvml, nvml.handle(card.address))
    except NvmlError as err:
        if err.code == NVML_LOST:
            return proc_gpu(host, card, memo, "lost")
        if err.code in (NVML_NOT_FOUND, NVML_DENIED):
            return None if is_container(host) else proc_gpu(host, card, memo, "lost")
        raise


def nvml_gpu(nvml: "Nvml", handle: "Any") -> "Json":
    """Return one card's values; what it does not tell is left out."""
    uuid = nvml.words("nvmlDeviceGetUUID", handle)
    gpu = {"id": uuid, "vendor": "nvidia", "name": nvml.words("nvmlDeviceGetName", handle), "uuid": uuid}  # type: Json
    gpu["state"] = "ok"
    gpu.update(told for told in nvml_values(nvml, handle) if told[1] is not None)
    return gpu


def nvml_values(nvml: "Nvml", handle: "Any") -> "Iterator[tuple[str, object]]":
    """Yield the values of one card; memory without the driver's reserve, as nvidia-smi counts it."""
    place = nvml.numbers("nvmlDeviceGetPciInfo_v3", "16s5I32s", handle)
    yield "pci_address", pci_address(place[-1]) if place else None
    usage = nvml.numbers("nvmlDeviceGetUtilizationRates", "2I", handle)
    yield "usage_percent", usage and usage[0]
    memory = nvml.numbers("nvmlDeviceGetMemoryInfo_v2", "I4Q", handle)
    sizes = memory[1::3] if memory else nvml.numbers("nvmlDeviceGetMemoryInfo", "3Q", handle)
    yield "memory_total_bytes", sizes and sizes[0]
    yield "memory_used_bytes", sizes and sizes[-1]
    yield "temperature_celsius", one_of(nvml.numbers("nvmlDeviceGetTemperature", "I", handle, 0), 1)
    yield "power_watts", one_of(nvml.numbers("nvmlDeviceGetPowerUsage", "I", handle), 0.001)
    yield "power_limit_watts", one_of(nvml.numbers("nvmlDeviceGetEnforcedPowerLimit", "I", handle), 0.001)
    yield "fan_percent", one_of(nvml.numbers("nvmlDeviceGetFanSpeed", "I", handle), 1)
    yield "clock_hz", one_of(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 1), 1000000)
    yield "memory_clock_hz", one_of(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 2), 1000000)
    reasons = nvml.numbers("nvmlDeviceGetCurrentClocksThrottleReasons", "Q", handle)
    yield "throttle_reasons", throttle_reasons(reasons[0]) if reasons else None


def one_of(told: "tuple[Any, ...] | None", factor: float) -> "float | None":
    """Return the only number of a struct in the contract's unit."""
    return None if told is None else round(told[0] * factor, 3)


def pci_address(told: "bytes | str") -> str:
    r"""Return a PCI address as sysfs writes it.

    b"00000000:0A:00.0\x00…"  →  0000:0a:00.0
    """
    text = told.split(b"\0")[0].decode("ascii", "replace") if isinstance(told, bytes) else told
    domain, _, rest = text.strip().lower().partition(":")
    return domain[-4:] + ":" + rest


def throttle_reasons(bits: int) -> "list[str]":
    """Return why the card is slowed down; an idle card or a chosen clock is no reason."""
    is_thermal, is_power = bool(bits & THERMAL_BITS), bool(bits & POWER_BITS)
    is_hardware = bool(bits & HARDWARE_BIT) and not bits & 0xC0
    told = (("thermal", is_thermal), ("power", is_power), ("hardware", is_hardware))
    return [name for name, applies in told if applies]


SMI_FIELDS = (
    "uuid,pci.bus_id,name,driver_version,utilization.gpu,memory.total,memory.used,temperature.gpu,"
    "power.draw,enforced.power.limit,fan.speed,clocks.sm,clocks.mem"
)
# One unknown field refuses the whole query; the last one has had two names and once did not exist.
SMI_LAST = (",clocks_event_reasons.active", ",clocks_throttle_reasons.active", "")
SMI_NUMBERS = (
    ("usage_percent", 1),
    ("memory_total_bytes", MEBIBYTE),
    ("memory_used_bytes", MEBIBYTE),
    ("temperature_celsius", 1),
    ("power_watts", 1),
    ("power_limit_watts", 1),
    ("fan_percent", 1),
    ("clock_hz", 1000000),
    ("memory_clock_hz", 1000000),
)


def smi_gpus(host: "Host", cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return the cards as nvidia-smi tells them, where the library cannot be loaded."""
    gpus = list(parse_smi(smi_output(host, memo)))
    section["source"] = "nvidia-smi"
    for gpu in gpus:
        section["driver"] = gpu.pop("driver")
    told = [gpu["pci_address"] for gpu in gpus]
    lost = [card for card in cards if card.address not in told and not is_container(host)]
    return gpus + [proc_gpu(host, card, memo, "lost") for card in lost]


def smi_output(host: "Host", memo: "Json") -> str:
    """Return what nvidia-smi prints for the newest query that it understands; raises Broken with its words."""
    first = memo.get("smi", 0)
    for number, last in enumerate(SMI_LAST[first:], first):
        argv = ["nvidia-smi", "--query-gpu=" + SMI_FIELDS + last, "--format=csv,noheader,nounits"]
        try:
            status, output, errors = host.run(argv, 4.0)
        except FileNotFoundError:
            raise Broken("the NVIDIA driver has no libnvidia-ml.so.1 and no nvidia-smi beside it") from None
        if not status:
            memo["smi"] = number
            return output
        if "not a valid field" not in output + errors:
            break
    raise Broken(output.strip() or errors)


def parse_smi(text: str) -> "Iterator[Json]":
    """Yield one card per line; a field that a card lacks says so in brackets.

    GPU-1c2b, 00000000:01:00.0, NVIDIA GeForce RTX 3090, 570.195.03, 3, 24576, 412, 41, 28.31, 350.00, 0, 210, 405, 0x1
    """
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) < 13 or not words[0].startswith(("GPU-", "MIG-")):
            continue
        gpu = {"id": words[0], "vendor": "nvidia", "name": words[2], "uuid": words[0]}  # type: Json
        gpu.update(pci_address=pci_address(words[1]), driver=words[3])
        gpu["state"] = "lost" if any("GPU is lost" in word for word in words) else "ok"
        for (key, factor), word in zip(SMI_NUMBERS, words[4:]):
            if re.match(r"\d+(\.\d+)?$", word):
                value = float(word) * factor
                gpu[key] = int(value) if value == int(value) else round(value, 3)
        if len(words) > 13 and words[13].startswith("0x"):
            gpu["throttle_reasons"] = throttle_reasons(int(words[13], 16))
        yield gpu


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("gpu", collect_gpu, 5, has_cards))
