"""The section system: the operating system, its virtualization, and the number of logged-in users."""

import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host, Json, Request, TooLong, first_line, parse_assignments
    from .hardware import DMI
    from .machine_id import machine_id_hash
    from .services import has_systemd

UTMP_SIZES = (384, 400)  # of one record: with 32-bit and with 64-bit time stamps (utmp(5))
USER_PROCESS = 7
SESSIONS = "/run/systemd/sessions"
SESSIONS_READ, PROCESSES_READ = 500, 50  # any user can have many; each costs 0.2 ms
DESKTOPS = ("x11", "wayland", "mir")
GROUPS = ("/sys/fs/cgroup/", "/sys/fs/cgroup/systemd/")  # version 2, and beside version 1


def parse_utmp(raw: bytes) -> "Iterator[int]":
    """Yield the pid of each session at a terminal (utmp(5): type, pid, line, id, user …)."""
    fitting = [size for size in UTMP_SIZES if not len(raw) % size]
    for offset in range(0, len(raw), fitting[0] if fitting else len(raw) + 1):
        record = raw[offset : offset + 76]
        if int.from_bytes(record[:2], sys.byteorder) == USER_PROCESS and record[44:76].strip(b"\0"):
            yield int.from_bytes(record[4:8], sys.byteorder)


def count_users(host: "Host") -> "int | None":
    """Return how many people are logged in at a terminal or desktop, as `who` counts; None if not recorded, or too many."""
    for path in ("/run/utmp", "/var/run/utmp"):
        try:
            return sum(1 for pid in parse_utmp(host.read_bytes(path)) if host.exists(f"/proc/{pid}"))
        except OSError:
            continue
    if not host.exists(SESSIONS):
        return None
    names = [name for name in host.names(SESSIONS) if not name.endswith(".ref")]
    if len(names) > SESSIONS_READ:  # one user's sessions could hide those of the others
        return None
    return sum(1 for name in names if is_used_by_person(host, parse_assignments(host.text(f"{SESSIONS}/{name}"))))


def is_used_by_person(host: "Host", session: "dict[str, str]") -> bool:
    """Return whether a person uses a session of logind: at a desktop, or at a terminal.

    A session over SSH has no terminal yet when logind records it (pam_systemd(8)): its processes show
    whether it got one, or only runs a command, as ours does.
    """
    if session.get("CLASS") != "user" or session.get("STATE") == "closing":
        return False
    if session.get("TYPE") in DESKTOPS or session.get("TTY"):
        return True
    scope = f"user.slice/user-{session.get('UID')}.slice/{session.get('SCOPE')}/cgroup.procs"
    pids = [pid for place in GROUPS for pid in host.text(place + scope).split()[:PROCESSES_READ]]
    return session.get("TYPE") == "tty" and any(has_terminal(host.text(f"/proc/{pid}/stat")) for pid in pids)


def has_terminal(stat: str) -> bool:
    """Return whether a process has a controlling terminal (proc_pid_stat(5): tty_nr, field 7).

    1234 (bash) S 1200 1234 1234 34816 5678 4194304 ...
    """
    return stat.rpartition(")")[2].split()[4:5] not in ([], ["0"])


def init_name(host: "Host") -> str:
    """Return the common name of PID 1's program, "" if it is hidden."""
    if has_systemd(host, {}):
        return "systemd"
    if host.exists("/run/openrc"):
        return "openrc"
    name = host.text("/proc/1/comm")
    if name == "init":
        return "busybox" if host.link_name("/sbin/init") == "busybox" else "sysvinit"
    return name


DMI_MACHINES = (
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("innotek", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("OpenStack", "kvm"),
    ("Virtual Machine", "microsoft"),
)


def virtualization(host: "Host") -> str:
    """Return the virtualization in systemd-detect-virt's words, `none` on bare metal, "" if unknown."""
    try:
        # Its exit status says whether there is virtualization, not whether the command worked.
        detected = first_line(host.run(["systemd-detect-virt"], 2.0)[1])
    except (OSError, TooLong):
        detected = ""
    return detected or container_kind(host) or machine_kind(host)


CONTAINER_MARKS = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/dev/.lxc", "lxc"),
    ("/dev/lxd", "lxc"),
)


def container_kind(host: "Host") -> str:
    """Return the container manager that runs this system, "" if none."""
    manager = host.text("/run/systemd/container") or host.text("/run/host/container-manager")
    if manager:
        return manager
    if "microsoft" in host.uname()[1].lower():
        return "wsl"
    return next((name for path, name in CONTAINER_MARKS if host.exists(path)), "")


def machine_kind(host: "Host") -> str:
    """Return the hypervisor that runs this host, from its firmware and the CPU's flag."""
    firmware = " ".join(host.text(DMI + name) for name in ("sys_vendor", "product_name", "board_vendor", "bios_vendor"))
    for mark, name in DMI_MACHINES:
        if mark in firmware:
            return name
    cpuinfo = host.text("/proc/cpuinfo")
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) or host.exists("/proc/device-tree/hypervisor"):
        return host.text("/sys/hypervisor/type") or "vm-other"
    return "none" if firmware.strip() or host.exists("/proc/device-tree/model") else ""


def collect_system(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Report the operating system and what it runs in."""
    hostname, kernel, architecture = host.uname()
    release = parse_assignments(host.text("/etc/os-release") or host.text("/usr/lib/os-release"))
    section = {"hostname": hostname}  # type: Json
    for key, name in (
        ("os_id", "ID"),
        ("os_id_like", "ID_LIKE"),
        ("os_name", "PRETTY_NAME"),
        ("os_version", "VERSION_ID"),
    ):
        section[key] = release.get(name)
    section.update(kernel=kernel, architecture=architecture, init=init_name(host), virtualization=virtualization(host))
    uptime = host.text("/proc/uptime").split()
    section["boot_epoch"] = round(host.epoch() - float(uptime[0])) if uptime else None
    section["timezone_offset_seconds"] = host.timezone_offset()
    section["users"] = count_users(host)
    section["python"] = host.python()
    section["machine_id_hash"] = machine_id_hash(host.text)
    return {key: value for key, value in section.items() if value not in (None, "")}
