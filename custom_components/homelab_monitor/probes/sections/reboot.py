"""Whether a reboot is required and why, a part of the section updates."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Host, Json
    from .system import container_kind

MODULES = "/lib/modules"
REBOOT_FLAGS = ("/run/reboot-required", "/var/run/reboot-required")
# Whoever brings one of these raises the flag, so that its absence means something.
REBOOT_FLAG_RAISERS = ("/usr/share/update-notifier/notify-reboot-required",)


def kernel_version(name: str) -> "tuple[list[int], str]":
    """Return a kernel's version for comparison, and its flavour: only kernels of one flavour replace each other.

    6.1.0-28-cloud-amd64  →  [6, 1, 0, 28], "-cloud-amd"
    """
    told = re.match(r"\d+(?:[.-]\d+)*", name)
    version = told.group() if told else ""
    return [int(part) for part in re.findall(r"\d+", version)], re.sub(r"\d", "", name[len(version) :])


def kernel_reasons(host: "Host") -> "list[str] | None":
    """Return why the running kernel wants a reboot, None where the system does not bring its own kernel.

    `modules.builtin` comes with the package, unlike what depmod and dkms leave behind.
    """
    running = host.uname()[1]
    marks = {name: MODULES + "/" + name + "/modules.builtin" for name in host.names(MODULES)}
    installed = {name: path for name, path in marks.items() if host.exists(path)}
    if container_kind(host) or not installed:
        return None
    if running not in installed:
        # Where no kernel is like it, it was never a package: a board's own, a hypervisor's.
        flavour = kernel_version(running)[1]
        return ["kernel_gone"] if flavour in {kernel_version(name)[1] for name in installed} else None
    version, flavour = kernel_version(running)
    uptime = host.text("/proc/uptime").split()
    booted = host.epoch() - float(uptime[0]) if uptime else host.epoch()
    for name, path in installed.items():
        told = kernel_version(name)
        # A newer one that was there at boot was passed over on purpose; a reboot would not change that.
        if told[1] == flavour and told[0] >= version and changed_at(host, path) > booted:
            return ["kernel_updated"]
    return []


def changed_at(host: "Host", path: str) -> float:
    """Return when a file was put where it is (packages keep the times of their making), 0 where unknown."""
    try:
        return host.stamp(path)[1]
    except OSError:
        return 0.0


def reboot(host: "Host", wants: "bool | None") -> "Json":
    """Return whether a reboot is required and why, nothing where that cannot be known; `wants` is the manager's word.

    Only a kernel really needs one: everything else can be started anew. So where the running kernel is the one that is
    installed, and nobody asks for more, the answer is no.
    """
    flag = next((path for path in REBOOT_FLAGS if host.exists(path)), None)
    kernel = kernel_reasons(host)
    reasons = (["flagged"] if flag else []) + (kernel or []) + (["core_updated"] if wants else [])
    if reasons:
        names = host.text(flag + ".pkgs").split() if flag else []
        told = {"reboot_required": True, "reboot_reasons": reasons}  # type: Json
        if names:
            told["reboot_packages"] = sorted(set(names))[:20]
        return told
    is_known = kernel is not None or wants is False or any(map(host.exists, REBOOT_FLAG_RAISERS))
    return {"reboot_required": False, "reboot_reasons": []} if is_known else {}
