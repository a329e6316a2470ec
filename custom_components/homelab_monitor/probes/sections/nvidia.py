"""NVIDIA's cards and their processes: from the management library (nvml.py), else from the command nvidia-smi."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import Broken, Host, Json, Late, lines_of, parse_colons, reason_in
    from .cards import Card, card_name, has_nvidia_devices, is_container, reasons_of, sysfs_gpu
    from .nvml import NVML_GONE, NVML_LOST, NVML_UNKNOWN, Nvml, NvmlError, with_nvml

MEBIBYTE = 1 << 20
SMI_SECONDS = 60.0  # between two calls: each starts a process, and takes the better part of a second


def nvidia_gpus(host: "Host", cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return NVIDIA's cards; raises Broken if there are cards and the driver does not work."""
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
    """Return whether cards have neither a driver nor NVIDIA's programs: they are not in use."""
    return bool(cards) and not any(card.driver(host) for card in cards) and not host.exists("/usr/bin/nvidia-smi")


def proc_gpu(host: "Host", card: "Card", memo: "Json", state: str) -> "Json":
    """Return a card's row from /proc, which does not wake the card."""
    information = parse_colons(host.text("/proc/driver/nvidia/gpus/" + card.address + "/information"))
    uuid = information.get("GPU UUID", "")
    uuid = "" if "?" in uuid else uuid
    gpu = {"id": uuid or card.address, "vendor": "nvidia"}  # type: Json
    gpu.update(name=information.get("Model") or card_name(host, card, memo), pci_address=card.address, state=state)
    if uuid:
        gpu["uuid"] = uuid
    return gpu


# Bits of nvmlClocksEventReasons (nvml.h); a slowdown by heat or power sets the general hardware bit, too.
THERMAL_BITS, POWER_BITS, HARDWARE_BIT = 0x20 | 0x40, 0x4 | 0x80, 0x8


def nvml_gpus(host: "Host", cards: "list[Card]", memo: "Json", section: "Json") -> "list[Json]":
    """Return the cards from NVML; one that fails is lost, but if none works the driver has failed."""

    def read(nvml: "Nvml") -> "list[Json | NvmlError]":
        section.update(driver=nvml.words("nvmlSystemGetDriverVersion"), source="nvml")
        if not cards:
            return [nvml_gpu(nvml, handle) for handle in nvml.handles()]
        found = [nvml_card(nvml, card) for card in cards]
        errors = [result for result in found if isinstance(result, NvmlError) and result.code not in NVML_GONE]
        if errors and all(isinstance(result, NvmlError) for result in found):
            raise errors[0]
        return found

    gpus = []
    for number, gpu in enumerate(with_nvml(host, memo, read)):
        if not isinstance(gpu, NvmlError):
            gpus.append(gpu)
        elif gpu.code == NVML_LOST or not is_container(host):  # a container's host may keep some cards for itself
            gpus.append(proc_gpu(host, cards[number], memo, "lost"))
    return gpus


def nvml_card(nvml: "Nvml", card: "Card") -> "Json | NvmlError":
    """Return one card, or the error if it cannot be read."""
    try:
        return nvml_gpu(nvml, nvml.handle(card.address))
    except NvmlError as err:
        return err


def nvml_gpu(nvml: "Nvml", handle: "Any") -> "Json":
    """Return one card's row; values that it does not report are left out."""
    uuid = nvml.words("nvmlDeviceGetUUID", handle)
    gpu = {"id": uuid, "vendor": "nvidia", "name": nvml.words("nvmlDeviceGetName", handle), "uuid": uuid}  # type: Json
    gpu["state"] = "ok"
    gpu.update(pair for pair in nvml_values(nvml, handle) if pair[1] is not None)
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
    yield "temperature_celsius", single_number(nvml.numbers("nvmlDeviceGetTemperature", "I", handle, 0), 1)
    yield "power_watts", single_number(nvml.numbers("nvmlDeviceGetPowerUsage", "I", handle), 0.001)
    yield "power_limit_watts", single_number(nvml.numbers("nvmlDeviceGetEnforcedPowerLimit", "I", handle), 0.001)
    yield "fan_percent", single_number(nvml.numbers("nvmlDeviceGetFanSpeed", "I", handle), 1)
    yield "clock_hz", single_number(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 1), 1000000)
    yield "memory_clock_hz", single_number(nvml.numbers("nvmlDeviceGetClockInfo", "I", handle, 2), 1000000)
    reasons = nvml.numbers("nvmlDeviceGetCurrentClocksThrottleReasons", "Q", handle)
    yield "throttle_reasons", throttle_reasons(reasons[0]) if reasons else None


def single_number(numbers: "tuple[Any, ...] | None", factor: float) -> "float | None":
    """Return the only number of a struct in the contract's unit, None without a struct."""
    return None if numbers is None else round(numbers[0] * factor, 3)


def pci_address(address: "bytes | str") -> str:
    r"""Return a PCI address as sysfs writes it.

    b"00000000:0A:00.0\x00…"  →  0000:0a:00.0
    """
    text = address.split(b"\0")[0].decode("ascii", "replace") if isinstance(address, bytes) else address
    domain, _, rest = text.strip().lower().partition(":")
    return domain[-4:] + ":" + rest


def throttle_reasons(bits: int) -> "list[str]":
    """Return why the card is throttled; an idle card or a chosen clock is no reason."""
    return reasons_of(bits, THERMAL_BITS, POWER_BITS, 0 if bits & 0xC0 else HARDWARE_BIT)


SMI_FIELDS = (
    "uuid,pci.bus_id,name,driver_version,utilization.gpu,memory.total,memory.used,temperature.gpu,"
    "power.draw,enforced.power.limit,fan.speed,clocks.sm,clocks.mem"
)
# One unknown field fails the whole query; the last field has had two names and did not exist at first.
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
    """Return the cards from nvidia-smi, for when the library cannot be loaded."""
    gpus = list(parse_smi(smi_output(host, memo)))
    section.update(source="nvidia-smi", at=round(memo["smi_at"], 3))
    for gpu in gpus:
        section["driver"] = gpu.pop("driver")
    found = [gpu["pci_address"] for gpu in gpus]
    lost = [card for card in cards if card.address not in found and not is_container(host)]
    return gpus + [proc_gpu(host, card, memo, "lost") for card in lost]


def smi_output(host: "Host", memo: "Json") -> str:
    """Return the last output of nvidia-smi, run once a minute at most; raises Broken with its error message, Late."""
    now = host.boottime()
    if now >= memo.get("smi_until", 0.0):
        memo.update(smi_until=now + SMI_SECONDS, smi_at=now)
        try:
            memo["smi_told"] = ask_smi(host, memo)
        except (Broken, Late) as err:
            memo["smi_told"] = err
    output = memo["smi_told"]
    if isinstance(output, Exception):
        raise output
    return output  # type: ignore[no-any-return]


def ask_smi(host: "Host", memo: "Json") -> str:
    """Return nvidia-smi's output for the newest query that it accepts; raises Broken with its error message, Late."""
    first = memo.get("smi", 0)
    output = errors = ""
    for number, last in enumerate(SMI_LAST[first:], first):
        status, output, errors = run_smi(host, "--query-gpu=" + SMI_FIELDS + last)
        if not status:
            memo["smi"] = number
            return output
        if "not a valid field" not in output + errors:
            break
    raise Broken(reason_in(output) or reason_in(errors))


def run_smi(host: "Host", query: str) -> "tuple[int, str, str]":
    """Run nvidia-smi; raises Broken if it is not installed, Late."""
    try:
        return host.run(["nvidia-smi", query, "--format=csv,noheader,nounits"], 4.0)
    except FileNotFoundError:
        raise Broken("the NVIDIA driver has no libnvidia-ml.so.1 and no nvidia-smi beside it") from None


SMI_LOST = ("[GPU is lost]", "[GPU requires reset]")  # in place of every value; a driver reports it until a reboot


def parse_smi(text: str) -> "Iterator[Json]":
    """Yield one card per line; a missing value is a note in brackets.

    GPU-1c2b, 00000000:01:00.0, NVIDIA GeForce RTX 3090, 570.195.03, 3, 24576, 412, 41, 28.31, 350.00, 0, 210, 405, 0x1
    """
    for line in lines_of(text):
        words = [word.strip() for word in line.split(",")]
        if len(words) < 13 or not words[0].startswith(("GPU-", "MIG-")):
            continue
        gpu = {"id": words[0], "vendor": "nvidia", "name": words[2], "uuid": words[0]}  # type: Json
        gpu.update(pci_address=pci_address(words[1]), driver=words[3])
        gpu["state"] = "lost" if any(word in SMI_LOST for word in words) else "ok"
        for (key, factor), word in zip(SMI_NUMBERS, words[4:]):
            if re.match(r"\d+(\.\d+)?$", word):
                value = float(word) * factor
                gpu[key] = int(value) if value == int(value) else round(value, 3)
        if len(words) > 13 and words[13].startswith("0x"):
            gpu["throttle_reasons"] = throttle_reasons(int(words[13], 16))
        yield gpu


# Processes.


def nvidia_processes(host: "Host", cards: "list[Card]", memo: "Json") -> "list[Json]":
    """Return `{gpu, pid, memory_bytes?}` of the compute and graphics processes on the cards that are awake."""
    awake = [card for card in cards if not card.sleeps(host)]
    if not awake:
        return []
    try:
        return with_nvml(host, memo, lambda nvml: list(nvml_processes(nvml, awake)))  # type: ignore[no-any-return]
    except OSError:
        status, output, errors = run_smi(host, "--query-compute-apps=gpu_uuid,pid,used_memory")
        if status:
            raise Broken(reason_in(output) or reason_in(errors)) from None
        return list(parse_smi_processes(output))


def nvml_processes(nvml: "Nvml", cards: "list[Card]") -> "Iterator[Json]":
    """Yield the processes of each card; a lost card has none."""
    for card in cards:
        try:
            handle = nvml.handle(card.address)
            uuid = nvml.words("nvmlDeviceGetUUID", handle)
            found = dict(entry for kind in ("Compute", "Graphics") for entry in nvml.running(kind, handle))
        except NvmlError as err:
            if err.code in NVML_GONE:
                continue
            raise
        for pid, used in found.items():
            process = {"gpu": uuid, "pid": pid}  # type: Json
            if used != NVML_UNKNOWN:
                process["memory_bytes"] = used
            yield process


def parse_smi_processes(text: str) -> "Iterator[Json]":
    """Yield the processes that nvidia-smi lists, memory in MiB.

    GPU-1c2b3a4d-0000-1111-2222-333344445555, 2211, 7412
    """
    for line in lines_of(text):
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and words[1].isdigit():
            process = {"gpu": words[0], "pid": int(words[1])}  # type: Json
            if words[2].isdigit():
                process["memory_bytes"] = int(words[2]) * MEBIBYTE
            yield process
