"""The section sensors: temperatures and fans."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import Host, Json, Missing, Remembered, Request

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
# Names that the kernel numbers in the order of detection; they may swap at the next boot.
COUNTED_NAME = re.compile(r"(nvme|phy|thermal_zone|eth|wlan|card|virtual)\d*$|\d+:\d+:\d+:\d+$")
CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "k8temp", "cpu_thermal", "soc_thermal")
CPU_ZONE = re.compile(r"(x86_pkg_temp|soc[-_]thermal|.*cpu.*|(big|little)?core\d*[-_]thermal)$", re.IGNORECASE)
I2C_DEVICE = re.compile(r"\d+-([0-9a-f]{4})$")  # on a bus that is numbered, too
GPU_CHIPS = ("amdgpu", "radeon", "nouveau", "i915", "xe")  # in the section gpu


class Input:
    """One input of a hardware monitor chip, with everything that does not change between polls."""

    def __init__(self, path: str, ident: str, chip: str, label: str) -> None:
        self.path = path
        self.row = {"id": ident, "chip": chip, "label": label}  # type: Json
        self.status_path = ""  # the runtime status of the device
        self.disk = ""  # a disk that a reading would spin up
        self.device = ""  # path of the device in sysfs, with the kernel's numbers


def chip_address(path: str) -> str:
    """Return a chip's device address that is stable across reboots, "" if it has none.

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
    """Return millidegrees as degrees, None for the values of an unconnected input."""
    return None if value is None or not -40000 < value < 127000 else round(value / 1000, 1)


def limit(value: "int | None") -> "float | None":
    """Return a threshold in degrees, None for the implausible values that some firmware stores."""
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
                found.row[key] = threshold
        yield found


def runtime_status_path(host: "Host", folder: str) -> str:
    """Return the runtime_status file of a chip's device, "" if it never suspends."""
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
                    found.row["critical_celsius"] = threshold
            yield found


def numbered(path: str) -> "list[Any]":
    """Return the sort key of a path in numeric order: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path))]


def plan_inputs(host: "Host") -> "list[Input]":
    """Return the inputs to read: cores are left out if their package reports the hottest of them."""
    inputs = []  # type: list[Input]
    for hwmon in sorted(host.names("/sys/class/hwmon"), key=lambda name: (len(name), name)):
        found = list(chip_inputs(host, hwmon))
        if any(entry.row["label"].startswith("Package id") for entry in found):
            found = [entry for entry in found if not entry.row["label"].startswith("Core ")]
        inputs.extend(entry for entry in found if entry.row["chip"] not in GPU_CHIPS)
    if not any(entry.row["chip"] in CPU_CHIPS for entry in inputs):
        inputs.extend(zone_inputs(host))
    seen = {}  # type: dict[str, int]
    # Chips of one kind without an address are numbered in the order of their devices, not of hwmon0, hwmon1.
    for entry in sorted(inputs, key=lambda entry: numbered(entry.device)):
        count = seen[entry.row["id"]] = seen.get(entry.row["id"], 0) + 1
        entry.row["id"] += f"#{count}" if count > 1 else ""
    return inputs


def disk_moved(host: "Host", disk: str, memo: "Json") -> bool:
    """Return whether a disk has read or written since the last poll, so that it is certainly spinning."""
    before = memo.get(disk)
    return before is not None and before != disk_position(host, disk)


def disk_position(host: "Host", disk: str) -> "list[str]":
    """Return the sectors that a disk has read and written (Documentation/block/stat.rst)."""
    words = host.text("/sys/block/" + disk + "/stat").split()
    return [words[2], words[6]] if len(words) > 6 else []


def is_asleep(host: "Host", entry: "Input", positions: "Json") -> bool:
    """Return whether reading an input would wake its device."""
    if entry.status_path and host.text(entry.status_path) != "active":
        return True
    return bool(entry.disk) and not disk_moved(host, entry.disk, positions)


def has_chips(host: "Host", memo: "Json") -> bool:
    """Return whether there is a chip: its bus, or the disk behind it, may hang."""
    return bool(host.names("/sys/class/hwmon") or host.names("/sys/class/thermal"))


def collect_sensors(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the chips' inputs; their list is renewed when chips come or go, and every 10 minutes."""
    # hwmon0 may have become another chip: a driver that is loaded again gets the lowest free number.
    folders = {"/sys/class/hwmon/" + name for name in host.names("/sys/class/hwmon")}.union(memo.get("zones", ()))
    chips = [(folder, host.identity(folder)) for folder in sorted(folders)]
    inputs = memo.setdefault("inputs", Remembered()).get(host.boottime(), chips, lambda: plan_inputs(host))
    memo["zones"] = {os.path.dirname(entry.path) for entry in inputs if entry.path.startswith("/sys/class/thermal/")}
    if not inputs:
        raise Missing("not_supported")
    positions = memo.setdefault("positions", {})
    section = {"temperatures": [], "fans": []}  # type: Json
    asleep = []
    for entry in inputs:
        if is_asleep(host, entry, positions):
            asleep.append(entry.row["id"])
        else:
            read_input(host, entry, section)
    for entry in inputs:  # after reading: the disk access of the reading itself does not count
        if entry.disk:
            positions[entry.disk] = disk_position(host, entry.disk)
    if asleep:
        section["asleep"] = asleep
    section.update(cpu_temperature(section["temperatures"]))
    return section


def read_input(host: "Host", entry: "Input", section: "Json") -> None:
    """Add an input's value to the section; an input without a value (not connected) is left out."""
    value = host.number(entry.path)
    if "/fan" in entry.path:
        if value is not None and value >= 0:
            section["fans"].append(dict(entry.row, rpm=value))
        return
    celsius = degrees(value)
    if celsius is not None:
        section["temperatures"].append(dict(entry.row, celsius=celsius))


CPU_LABELS = (r"Package id", r"Tdie$", r"Tctl$", r"Core \d", r"")


def cpu_temperature(temperatures: "list[Json]") -> "Json":
    """Return the temperature of the CPU: the package, else Tdie, Tctl, the hottest core, a CPU zone."""
    of_cpu = [row for row in temperatures if row["chip"] in CPU_CHIPS or CPU_ZONE.match(row["chip"])]
    for label in CPU_LABELS:
        fitting = [row for row in of_cpu if re.match(label, row["label"])]
        if fitting:
            hottest = max(fitting, key=lambda row: row["celsius"])
            found = {"cpu_celsius": hottest["celsius"]}
            if "critical_celsius" in hottest:
                found["cpu_critical_celsius"] = hottest["critical_celsius"]
            return found
    return {}
