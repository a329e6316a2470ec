"""Whether a reboot is required and why, a part of the section updates."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json
    from .system import container_kind

MODULES = "/lib/modules"
REBOOT_FLAGS = ("/run/reboot-required", "/var/run/reboot-required", "/run/reboot-needed")  # the last one by zypper's plugins
# Packages with one of these files raise the flag, so that its absence means that no reboot is required.
REBOOT_FLAG_RAISERS = ("/usr/share/update-notifier/notify-reboot-required",)
# A system image staged for the next boot, and the file that locks it: ostree's (ostree-finalize-staged,
# `rpm-ostree finalize-deployment`), that of a bootc without ostree, that of SteamOS.
STAGED = (
    ("/run/ostree/staged-deployment", "/run/ostree/staged-deployment-locked"),
    ("/run/composefs/staged-deployment", ""),
    ("/run/steamos-atomupd/reboot_for_update", ""),
)
# The parts of a kernel's name that name a release, not a flavour: +deb13.1, +bpo, -bpo12, +rpt, el9_4,
# -0.rc4.20251031gitd127176862a9.
RELEASE = re.compile(
    r"[-+.](?:(?:deb|bpo)\d*(?:[.+]\d+)*|rpt|rpi\d+(?=-)|r\d+)(?![a-z\d])"
    r"|(?<=el\d)_\d+|(?<=el\d\d)_\d+|[-.]rc\d+(?:\.\d*g(?:it)?[0-9a-f]+)?(?=[.-]|$)"
)
# The flavour at the end of most names: letters only, or a machine and its page size (-rt-amd64, -arm64-16k, -rpi-2712,
# -lowlatency).
FLAVOUR = re.compile(
    r"(?:-(?:[A-Za-z]+64\w*|x86_64|686(?=-pae|$)|s390x|\d+k[bc]?|v\d+l?|(?<=rpi-)2712|[A-Za-z]+))+\+?$", re.ASCII
)


def kernel_version(name: str) -> "tuple[list[list[int]], str]":
    """Return a kernel's version for comparison, and its flavour: only kernels of the same flavour replace each other.

    6.12.90+deb13.1-cloud-amd64  →  [[6, 12, 90], [0, 13, 1]], "-cloud-amd64"
    6.12.0-rc6-1-mainline        →  [[6, 12, 0, 1], [-1, 6]], "-mainline"
    """
    plain, release = RELEASE.sub("", name), " ".join(RELEASE.findall(name))
    words = FLAVOUR.search(plain)
    version = re.match(r"(?:\d+(?:[.-]\d+)*)?", plain[: words.start()] if words else plain).group()  # type: ignore[union-attr]
    rest = "" if words else plain[len(version) :]
    numbers = [[int(part) for part in re.findall(r"\d+", text)] for text in (version, release + rest)]
    flavour = words.group() if words else re.sub(r"\d", "", rest)
    return [numbers[0], [-1 if "rc" in release else 0, *numbers[1]]], flavour


def kernel_reasons(host: "Host") -> "list[str] | None":
    """Return why the running kernel requires a reboot, None if the system has no kernel packages.

    `modules.builtin` is part of the package, unlike files that depmod and dkms leave behind.
    """
    running = host.uname()[1]
    marks = {name: MODULES + "/" + name + "/modules.builtin" for name in host.names(MODULES)}
    installed = {name: path for name, path in marks.items() if host.exists(path)}
    if container_kind(host) or not installed:
        return None
    if running not in installed:
        # If no installed kernel has its flavour, it was never a package: a board's own, a hypervisor's.
        flavour = kernel_version(running)[1]
        return ["kernel_gone"] if flavour in {kernel_version(name)[1] for name in installed} else None
    version, flavour = kernel_version(running)
    uptime, now = host.text("/proc/uptime").split(), host.epoch()
    booted = now - float(uptime[0]) if uptime else now
    for name, path in installed.items():
        candidate = kernel_version(name)
        # A newer kernel that existed at boot was skipped on purpose; a reboot would not change that.
        if candidate[1] == flavour and candidate[0] >= version and installed_since(host, path, booted, now):
            return ["kernel_updated"]
    return []


def installed_since(host: "Host", path: str, start: float, now: float) -> bool:
    """Return whether a file was certainly installed since `start` (packages keep the mtime of their build).

    Installing changes its folder as well; a hard link from elsewhere, as ostree makes for each deployment, only the
    file. A host without a clock battery boots with an old time, corrected later (fake-hwclock(8), NTP). A ctime before
    the mtime, or in the future, comes from another clock than the time of the boot.
    """
    try:
        made, changed, _ = host.stamp(path)
        came = min(changed, host.stamp(os.path.dirname(path))[1])
    except OSError:
        return False
    return made <= changed and start < came <= now


def reboot(host: "Host", wants: "bool | None") -> "Json":
    """Return whether a reboot is required and why, empty if unknown; `wants` is the package manager's evaluation.

    Only a kernel really needs one: everything else can be restarted. So if the installed kernel is running, and nothing
    else asks for a reboot, none is required.
    """
    flag = next((path for path in REBOOT_FLAGS if host.exists(path)), None)
    kernel = kernel_reasons(host)
    staged = any(host.exists(path) and not (held and host.exists(held)) for path, held in STAGED)
    reasons = (["flagged"] if flag else []) + (["image_staged"] if staged else [])
    reasons += (kernel or []) + (["core_updated"] if wants else [])
    if reasons:
        names = host.text(flag + ".pkgs").split() if flag else []
        result = {"reboot_required": True, "reboot_reasons": reasons}  # type: Json
        if names:
            result["reboot_packages"] = sorted(set(names))[:20]
        return result
    is_known = kernel is not None or wants is False or any(map(host.exists, REBOOT_FLAG_RAISERS))
    return {"reboot_required": False, "reboot_reasons": []} if is_known else {}
