"""The section hardware: the components of this host, from firmware, /proc and /sys."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request, lines_of, parse_assignments, parse_colons
    from .disk_io import is_whole_disk
    from .memory import parse_meminfo
    from .mounts import replaced_files
    from .network import known_interfaces, parse_net_dev
    from .sensors import PCI_ADDRESS

DMI = "/sys/class/dmi/id/"
# Placeholders on boards whose maker filled nothing in.
EMPTY_DMI = re.compile(
    r"(to be filled|default string|system (product name|manufacturer|serial number|version)"
    r"|not (specified|applicable|available)|o\.?e\.?m|unknown|none|n/?a|null|type1|invalid|all series"
    r"|x+|0+|0?123456789?)\b"
    r"|\W*$",
    re.IGNORECASE,
)
# MIDR implementer and part of ARM cores, for hosts whose cpuinfo has no name (arch/arm64/include/asm/cputype.h).
ARM_CORES = {
    "0x41/0xd03": "Cortex-A53",
    "0x41/0xd04": "Cortex-A35",
    "0x41/0xd05": "Cortex-A55",
    "0x41/0xd07": "Cortex-A57",
    "0x41/0xd08": "Cortex-A72",
    "0x41/0xd09": "Cortex-A73",
    "0x41/0xd0a": "Cortex-A75",
    "0x41/0xd0b": "Cortex-A76",
    "0x41/0xd0c": "Neoverse N1",
    "0x41/0xd40": "Neoverse V1",
    "0x41/0xd41": "Cortex-A78",
    "0x41/0xd49": "Neoverse N2",
    "0x41/0xc07": "Cortex-A7",
    "0x41/0xb76": "ARM1176",
}


def dmi(host: "Host", name: str) -> str:
    """Return a DMI field, "" for placeholders and fields that only root may read."""
    value = " ".join(host.text(DMI + name).split())
    return "" if EMPTY_DMI.match(value) else value


def device_tree(host: "Host", name: str) -> str:
    """Return a text property of the device tree, without its final zero byte."""
    return host.text("/proc/device-tree/" + name).rstrip("\0").strip()


def parse_cpuinfo(text: str) -> "list[dict[str, str]]":
    r"""Return one dict per processor (proc_cpuinfo(5)).

    processor\t: 0
    model name\t: AMD Ryzen 9 5950X 16-Core Processor
    physical id\t: 0
    core id\t\t: 3
    """
    return [parse_colons(block) for block in text.split("\n\n") if block.strip()]


def cpu_model(processors: "list[dict[str, str]]") -> str:
    """Return the CPU's name; ARM cores report numbers, which give one name per kind of core."""
    named = next((one["model name"] for one in processors if one.get("model name")), "")
    if named and "CPU implementer" not in processors[0]:
        return " ".join(named.split())
    parts = [one.get("CPU implementer", "") + "/" + one.get("CPU part", "") for one in processors]
    cores = dict.fromkeys(ARM_CORES[part] for part in parts if part in ARM_CORES)
    shared = next(
        (one[key] for key in ("cpu model", "uarch", "cpu", "Processor") for one in processors if one.get(key)), ""
    )
    return " + ".join(cores) or named or shared


def cpu_topology(host: "Host", processors: "list[dict[str, str]]", is_replaced: bool) -> "Json":
    """Return the numbers of sockets, cores and threads, from cpuinfo on x86, else from sysfs.

    In a container, cpuinfo may be replaced by one with the container's CPUs only: sysfs has those of the host.
    """
    threads = sum(1 for one in processors if one.get("processor", "").isdigit())
    places = [(one.get("physical id", ""), one["core id"]) for one in processors if "core id" in one]
    if not places and not (threads and is_replaced):
        folder = "/sys/devices/system/cpu/"
        names = [name for name in host.names(folder) if re.match(r"cpu\d+$", name)]
        topologies = [folder + name + "/topology/" for name in names]
        # Clusters repeat core ids, so the shared sibling list identifies the threads of one core.
        shared = [host.text(path + "thread_siblings_list") for path in topologies]
        packages = [host.text(path + "physical_package_id") for path in topologies]
        places = [place for place in zip(packages, shared) if place[1]]
    counts = {"threads": threads or len(places) or 1}  # type: Json
    if places:
        counts.update(sockets=len({place[0] for place in places}), cores=len(set(places)))
    return counts


def udev_properties(host: "Host", disk: str) -> "dict[str, str]":
    r"""Return udev's properties of a disk, readable without root.

    S:disk/by-id/ata-ST8000VN004-2M2101_WSD0000A
    E:ID_SERIAL_SHORT=WSD0000A
    """
    number = host.text("/sys/block/" + disk + "/dev")
    lines = lines_of(host.text("/run/udev/data/b" + number)) if number else []
    return parse_assignments("\n".join(line[2:] for line in lines if line.startswith("E:")))


def disk_hardware(host: "Host", disk: str) -> "Json":
    """Return a disk's model, serial and so on; udev, if available, knows more than sysfs."""
    folder, udev = "/sys/block/" + disk + "/", udev_properties(host, disk)
    sectors = host.number(folder + "size")
    rotational = host.text(folder + "queue/rotational")
    model = host.text(folder + "device/model") or host.text(folder + "device/name") or udev.get("ID_MODEL", "")
    serial = host.text(folder + "device/serial") or host.text(folder + "serial")
    wwid = host.text(folder + "wwid") or host.text(folder + "device/wwid")
    row = {
        "model": " ".join(model.split()),
        "serial": (
            udev.get("ID_SERIAL_SHORT") or udev.get("ID_SCSI_SERIAL") or serial or scsi_serial(host, folder)
        ).strip(),
        "wwn": udev.get("ID_WWN_WITH_EXTENSION") or udev.get("ID_WWN") or wwn(wwid),
        "path": disk_path(host, disk),
        "size_bytes": sectors * 512 if sectors else None,
        "rotational": rotational == "1" if rotational else None,
    }
    return {key: value for key, value in row.items() if value not in (None, "")}


def scsi_serial(host: "Host", folder: str) -> str:
    """Return the serial number in the VPD page of a SCSI or SATA disk: four bytes of header, then text (SPC-4, 7.8.15)."""
    try:
        return host.read_bytes(folder + "device/vpd_pg80")[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def wwn(wwid: str) -> str:
    """Return a world wide name as lsblk writes it, "" for any other id.

    naa.5000c500a1b2c3d4  →  0x5000c500a1b2c3d4
    """
    if wwid.startswith("naa."):
        return "0x" + wwid[4:]
    return wwid if wwid.startswith(("eui.", "nvme.", "uuid.")) else ""


# Names that the kernel numbers in the order of detection: host0, ata3, usb1, nvme0, virtio2, mmc0, session4.
COUNTED_PART = re.compile(r"([a-z_]+)(\d+)$")
# The part after the number of a SCSI host or bus at the beginning of a name, which the hardware determines.
NUMBERED_PART = re.compile(r"(?:[a-z_]+-)?\d+[:-](.+)$")


def disk_path(host: "Host", disk: str) -> str:
    """Return where a disk is plugged in, from its last PCI address on, stable across reboots; "" for virtual disks.

    udev's /dev/disk/by-path has the same information if there is udev, but its format changes between versions.

    /sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sdc  →  0000:00:17.0/ata3/host1/0:0:0
    /sys/devices/pci0000:00/0000:00:14.0/usb4/4-2/4-2.1/4-2.1:1.0/host6/target6:0:0/6:0:0:1/block/sdd
      →  0000:00:14.0/usb2/2/2.1/2.1:1.0/host1/0:0:1
    /sys/devices/pci0000:00/0000:00:1b.0/0000:03:00.0/nvme/nvme1/nvme1n2  →  0000:03:00.0/nvme1/n2
    """
    parts = host.real_path("/sys/block/" + disk).strip("/").split("/")
    if parts[:2] != ["sys", "devices"] or parts[2] == "virtual":
        return ""
    last = max([i for i, part in enumerate(parts) if PCI_ADDRESS.match(part)] or [2])
    steps = []
    for i in range(last, len(parts) - 1):
        numbered = NUMBERED_PART.match(parts[i])
        if numbered and i > last:
            steps.append(numbered.group(1))
        elif COUNTED_PART.match(parts[i]):
            steps.append(position(host, "/" + "/".join(parts[:i]), parts[i]))
        elif not re.match(r"(target\d|block$|nvme$|mmc_host$|mmc\d+:)", parts[i]):
            steps.append(parts[i])
    namespace = re.match(r"nvme\d+(n\d+)$", disk)
    return "/".join(steps + ([namespace.group(1)] if namespace else []))


def position(host: "Host", folder: str, name: str) -> str:
    """Return a numbered name with its position among its siblings in a folder: all ports of a controller always exist.

    ata9 beside ata7 and ata8  →  ata3
    """
    stem = COUNTED_PART.match(name).group(1)  # type: ignore[union-attr]
    found = [COUNTED_PART.match(other) for other in host.names(folder)]
    numbers = sorted(int(one.group(2)) for one in found if one and one.group(1) == stem)
    number = int(name[len(stem) :])
    return stem + (str(numbers.index(number) + 1) if number in numbers else "")


def interface_hardware(host: "Host", name: str, kind: str) -> "Json":
    """Return an interface's type, MAC addresses and driver."""
    folder = "/sys/class/net/" + name + "/"
    mac = host.text(folder + "address")
    row = {"type": kind, "mac": mac if re.match(r"(?!00(:00){5}$)[0-9a-f]{2}(:[0-9a-f]{2}){5}$", mac) else ""}
    if kind in ("physical", "wireless"):
        row.update(permanent_mac=host.permanent_mac(name), driver=host.link_name(folder + "device/driver"))
    return {key: value for key, value in row.items() if value}


def collect_hardware(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Report the components of this host."""
    processors = parse_cpuinfo(host.text("/proc/cpuinfo"))
    section = {
        "vendor": dmi(host, "sys_vendor"),
        "model": dmi(host, "product_name") or device_tree(host, "model"),
        "board": " ".join(filter(None, (dmi(host, "board_vendor"), dmi(host, "board_name")))),
        "serial": dmi(host, "product_serial") or device_tree(host, "serial-number"),
        "cpu_model": cpu_model(processors),
    }  # type: Json
    section = {key: value for key, value in section.items() if value}
    section.update(cpu_topology(host, processors, "/proc/cpuinfo" in replaced_files(host, memo)))
    section["memory_bytes"] = parse_meminfo(host.read("/proc/meminfo"))["MemTotal"]
    disks = sorted(name for name in host.names("/sys/block") if is_whole_disk(host, name))
    section["disks"] = {name: disk_hardware(host, name) for name in disks}
    names = tuple(name for name, _ in parse_net_dev(host.read("/proc/net/dev")))
    kinds = known_interfaces(host, names, memo)
    section["interfaces"] = {name: interface_hardware(host, name, kind) for name, kind in kinds.items()}
    return section
