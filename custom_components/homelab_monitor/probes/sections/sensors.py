"""The section sensors: temperatures and fans."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import Host, Json, Missing, Remembered, Request

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
# Names under which the kernel counts devices in the order it found them; they may swap at the next boot.
COUNTED_NAME = re.compile(r"(nvme|phy|thermal_zone|eth|wlan|card|virtual)\d*$|\d+:\d+:\d+:\d+$")
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "k8temp", "cpu_thermal", "soc_thermal")
CPU_ZONE = re.compile(r"(x86_pkg_temp|soc[-_]thermal|.*cpu.*|(big|little)?core\d*[-_]thermal)$", re.IGNORECASE)
I2C_DEVICE = re.compile(r"\d+-([0-9a-f]{4})$")  # on a bus that is counted, too
GPU_CHIPS = ("amdgpu", "radeon", "nouveau", "i915", "xe")  # told in the section gpu


class Input:
    """One input of a hardware monitor chip, with all that does not change between polls."""

    def __init__(self, path: str, place: str, chip: str, label: str) -> None:
        self.path = path
        self.told = {"id": place, "chip": chip, "label": label}  # type: Json
        self.status_path = ""  # says whether the device sleeps
        self.disk = ""  # a disk that reading would wake
        self.device = ""  # where the kernel has it, in words of which some are counted


def chip_address(path: str) -> str:
    """Return where a chip sits, in words that survive a reboot, "" where there are none.

    /sys/devices/pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0/hwmon1  →  0000:3d:00.0
    /sys/devices/platform/coretemp.0/hwmon/hwmon3  →  coretemp.0
    /sys/devices/pci0000:00/0000:00:14.0/i2c-1/1-0051/hwmon/hwmon6  →  0000:00:14.0-0051
    """
    parts = [part for part in path.split("/")[:-1] if part != "hwmon"]
    i2c = I2C_DEVICE.match(parts[-1]) if parts else None
    if parts and not i2c and not COUNTED_NAME.match(parts[-1]):
        return parts[-1]
    pci = next((part for part in reversed(parts) if PCI_ADDRESS.match(part)), "")
    return pci + "-" + i2c.group(1) if i2c else pci


def degrees(value: "int | None") -> "float | None":
    """Return millidegrees as degrees, None for what an unconnected input tells."""
    return None if value is None or not -40000 < value < 127000 else round(value / 1000, 1)


def limit(value: "int | None") -> "float | None":
    """Return a threshold in degrees, None for the nonsense that some firmware stores."""
    return None if value is None or not 30000 <= value <= 150000 else round(value / 1000, 1)


def chip_inputs(host: "Host", hwmon: str) -> "Iterator[Input]":
    """Yield the temperature and fan inputs of one chip (Documentation/hwmon/sysfs-interface.rst)."""
    folder = "/sys/class/hwmon/" + hwmon + "/"
    chip, real = host.text(folder + "name"), host.real_path(folder)
    address, disk = chip_address(real), ""
    if chip == "drivetemp":
        address = "_".join(host.text(folder + "device/wwid").split()) or address
        disk = next(iter(host.names(folder + "device/block")), "")
        disk = disk if host.text("/sys/block/" + disk + "/queue/rotational") == "1" else ""
    names = [name for name in host.names(folder) if re.match(r"(temp|fan)\d+_input$", name)]
    for name in sorted(names, key=lambda name: (name[0] != "t", int(re.sub(r"\D", "", name)))):
        stem = name[: -len("_input")]
        label = host.text(folder + stem + "_label") or host.text(folder + "device/model") or stem
        found = Input(folder + name, f"{chip}/{address}/{stem}", chip, label)
        found.status_path, found.disk, found.device = runtime_status_path(host, folder), disk, real
        for key, suffix in (("max_celsius", "_max"), ("critical_celsius", "_crit")):
            threshold = limit(host.number(folder + stem + suffix)) if name[0] == "t" else None
            if threshold:
                found.told[key] = threshold
        yield found


def runtime_status_path(host: "Host", folder: str) -> str:
    """Return the file that says whether a chip's device sleeps, "" where it never does."""
    parts = host.real_path(folder).split("/")
    pci = [i for i, part in enumerate(parts) if PCI_ADDRESS.match(part)]
    device = "/".join(parts[: pci[-1] + 1]) if pci else folder + "device"
    path = device + "/power/runtime_status"
    return path if host.text(path) in ("active", "suspended", "suspending", "resuming") else ""


def zone_inputs(host: "Host") -> "Iterator[Input]":
    """Yield the thermal zones of a CPU (Documentation/driver-api/thermal/sysfs-api.rst)."""
    for zone in sorted(host.names("/sys/class/thermal")):
        folder = "/sys/class/thermal/" + zone + "/"
        kind = host.text(folder + "type") if zone.startswith("thermal_zone") else ""
        if CPU_ZONE.match(kind):
            found = Input(folder + "temp", f"{kind}//temp1", kind, kind)
            found.device = host.real_path(folder)
            critical = [name for name in host.names(folder) if name.endswith("_type")]
            for name in critical:
                threshold = limit(host.number(folder + name[: -len("type")] + "temp"))
                if threshold and host.text(folder + name) == "critical":
                    found.told["critical_celsius"] = threshold
            yield found


def numbered(path: str) -> "list[Any]":
    """Return a path so that its numbers count in an order: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path))]


def plan_inputs(host: "Host") -> "list[Input]":
    """Return the inputs worth reading: cores are left out where their package tells the hottest of them."""
    inputs = []  # type: list[Input]
    for hwmon in sorted(host.names("/sys/class/hwmon"), key=lambda name: (len(name), name)):
        found = list(chip_inputs(host, hwmon))
        if any(one.told["label"].startswith("Package id") for one in found):
            found = [one for one in found if not one.told["label"].startswith("Core ")]
        inputs.extend(one for one in found if one.told["chip"] not in GPU_CHIPS)
    if not any(one.told["chip"] in CPU_CHIPS for one in inputs):
        inputs.extend(zone_inputs(host))
    seen = {}  # type: dict[str, int]
    # Two chips of one kind without an address are told apart by the order of their devices, not by that of hwmon0, hwmon1.
    for one in sorted(inputs, key=lambda one: numbered(one.device)):
        count = seen[one.told["id"]] = seen.get(one.told["id"], 0) + 1
        one.told["id"] += f"#{count}" if count > 1 else ""
    return inputs


def disk_moved(host: "Host", disk: str, memo: "Json") -> bool:
    """Tell whether a disk has read or written since the last time, so that it surely spins."""
    before = memo.get(disk)
    return before is not None and before != disk_position(host, disk)


def disk_position(host: "Host", disk: str) -> "list[str]":
    """Return the sectors that a disk has read and written (Documentation/block/stat.rst)."""
    words = host.text("/sys/block/" + disk + "/stat").split()
    return [words[2], words[6]] if len(words) > 6 else []


def is_asleep(host: "Host", one: "Input", positions: "Json") -> bool:
    """Tell whether reading an input would wake something."""
    if one.status_path and host.text(one.status_path) != "active":
        return True
    return bool(one.disk) and not disk_moved(host, one.disk, positions)


def has_chips(host: "Host", memo: "Json") -> bool:
    """Tell whether there is a chip: its bus, or the disk behind it, may never answer."""
    return bool(host.names("/sys/class/hwmon") or host.names("/sys/class/thermal"))


def collect_sensors(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the chips' inputs; the list of them is made anew when chips come or go, and every 10 minutes."""
    # hwmon0 may be another chip than it was: a driver that is loaded anew gets the lowest number that is free.
    folders = {"/sys/class/hwmon/" + name for name in host.names("/sys/class/hwmon")}.union(memo.get("zones", ()))
    chips = [(folder, host.identity(folder)) for folder in sorted(folders)]
    inputs = memo.setdefault("inputs", Remembered()).get(host.boottime(), chips, lambda: plan_inputs(host))
    memo["zones"] = {os.path.dirname(one.path) for one in inputs if one.path.startswith("/sys/class/thermal/")}
    if not inputs:
        raise Missing("not_supported")
    positions = memo.setdefault("positions", {})
    section = {"temperatures": [], "fans": []}  # type: Json
    asleep = []
    for one in inputs:
        if is_asleep(host, one, positions):
            asleep.append(one.told["id"])
        else:
            read_input(host, one, section)
    for one in inputs:  # after reading: what reading itself costs the disk is no movement
        if one.disk:
            positions[one.disk] = disk_position(host, one.disk)
    if asleep:
        section["asleep"] = asleep
    section.update(cpu_temperature(section["temperatures"]))
    return section


def read_input(host: "Host", one: "Input", section: "Json") -> None:
    """Add an input's value to the section; an input without one (a loose wire) is left out."""
    value = host.number(one.path)
    if "/fan" in one.path:
        if value is not None and value >= 0:
            section["fans"].append(dict(one.told, rpm=value))
        return
    celsius = degrees(value)
    if celsius is not None:
        section["temperatures"].append(dict(one.told, celsius=celsius))


CPU_LABELS = (r"Package id", r"Tdie$", r"Tctl$", r"Core \d", r"")


def cpu_temperature(temperatures: "list[Json]") -> "Json":
    """Return what stands for the CPU: the package, else Tdie, Tctl, the hottest core, a CPU zone."""
    of_cpu = [one for one in temperatures if one["chip"] in CPU_CHIPS or CPU_ZONE.match(one["chip"])]
    for label in CPU_LABELS:
        fitting = [one for one in of_cpu if re.match(label, one["label"])]
        if fitting:
            hottest = max(fitting, key=lambda one: one["celsius"])
            told = {"cpu_celsius": hottest["celsius"]}
            if "critical_celsius" in hottest:
                told["cpu_critical_celsius"] = hottest["critical_celsius"]
            return told
    return {}
