"""The section updates: what package managers know without network access, and whether a reboot is required.

Only local data is read: nothing is refreshed, no lock is waited for, nothing is written. A manager is run again only
when its database or its metadata has changed, as that takes seconds on a small host.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..host import Host, Json, Late, Missing, Request
    from .apt import read_apt
    from .installed import has_program, paths_of
    from .mounts import MOUNT_BYTES, MOUNTS_SECONDS
    from .packages import (
        DNF_CONFIGS,
        DNF_LOCKS,
        DNF_METADATA,
        dnf_wants_reboot,
        read_apk,
        read_dnf,
        read_opkg,
        read_pacman,
        read_zypper,
        zypper_wants_reboot,
    )
    from .reboot import reboot


# ---------------------------------------------------------------- the managers


class Manager:
    """One row of the table: a package manager, and the files with its data.

    `marks` identify the system's own manager: of each group of patterns one file exists, in the last group it is not
    empty. They are files that the manager needs, no settings. `watched` are files and folders, at least one of which
    changes whenever the answer changes: the files in a folder as well, which may be written in place. `metadata`
    (patterns) is what a refresh writes: without any, nothing is known.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one row, in the order of its columns
        self,
        name: str,
        marks: "tuple[tuple[str, ...], ...]",
        watched: "tuple[str, ...]",
        metadata: "tuple[str, ...]",
        read: "Callable[[Host], Json]",
        wants_reboot: "Callable[[Host], bool | None]" = lambda host: None,
    ) -> None:
        self.name = name
        self.marks = marks
        self.watched = watched
        self.metadata = metadata
        self.read = read
        self.wants_reboot = wants_reboot


APT_STAMPS = ("/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/periodic/update-stamp")
APK_CACHES = ("/var/cache/apk", "/etc/apk/cache")  # an index itself has the date when its server made it
RPM_DATABASES = (
    "/var/lib/rpm",
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite-wal",
    "/usr/lib/sysimage/rpm",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
)
# Managers with their own database come first: one that is only installed beside another has an empty database.
MANAGERS = (
    Manager(
        "apt",
        (("/etc/apt",), ("/var/lib/dpkg/status",)),
        (
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/updates",
            "/etc/apt/sources.list",
            "/etc/apt/sources.list.d",
            "/etc/apt/sources.list.d/*",
            "/etc/apt/preferences",
            "/etc/apt/preferences.d",
            "/etc/apt/preferences.d/*",
            "/etc/apt/apt.conf",
            "/etc/apt/apt.conf.d",
            "/etc/apt/apt.conf.d/*",
        ),
        ("/var/lib/apt/lists/*_Packages*", "/var/lib/apt/lists", *APT_STAMPS),
        read_apt,
    ),
    Manager(
        "pacman",
        (("/etc/pacman.conf",), ("/var/lib/pacman/local/*-*", "/usr/lib/holo/pacmandb/local/*-*")),  # SteamOS
        ("/var/lib/pacman/local", "/usr/lib/holo/pacmandb/local", "/etc/pacman.conf", "/etc/pacman.d", "/etc/pacman.d/*"),
        ("/var/lib/pacman/sync/*.db", "/var/lib/pacman/sync"),
        read_pacman,
    ),
    Manager(
        "apk",
        (("/lib/apk/db/installed",),),
        ("/lib/apk/db/installed", "/etc/apk/repositories"),
        ("/var/cache/apk/APKINDEX.*", "/etc/apk/cache/APKINDEX.*", *APK_CACHES),
        read_apk,
    ),
    Manager(
        "apk",
        (("/usr/lib/apk/db/installed",),),
        ("/usr/lib/apk/db/installed", "/etc/apk/repositories", "/etc/apk/repositories.d", "/etc/apk/repositories.d/*"),
        ("/var/cache/apk/APKINDEX.*", "/var/cache/apk/*.adb", "/etc/apk/cache/APKINDEX.*", *APK_CACHES),
        read_apk,
    ),
    Manager(
        "opkg",
        (("/etc/opkg.conf", "/etc/opkg/opkg.conf"), ("/usr/lib/opkg/status", "/var/lib/opkg/status")),
        ("/usr/lib/opkg/status", "/var/lib/opkg/status", "/etc/opkg.conf", "/etc/opkg", "/etc/opkg/*"),
        ("/var/opkg-lists/*", "/var/lib/opkg/lists/*"),
        read_opkg,
    ),
    Manager(
        "zypper",
        (("/usr/bin/zypper",), ("/etc/zypp/repos.d/*.repo",)),
        (
            *RPM_DATABASES,
            "/etc/zypp/zypp.conf",  # gone where nobody changed it, since libzypp 17.38
            "/etc/zypp/zypp.conf.d/*",
            "/etc/zypp/repos.d",
            "/etc/zypp/repos.d/*",
            "/etc/zypp/locks",
        ),
        ("/var/cache/zypp/raw/*/repodata/repomd.xml", "/var/cache/zypp/raw/*/cookie"),
        read_zypper,
        zypper_wants_reboot,
    ),
    Manager(
        "dnf",
        (("/usr/bin/dnf", "/etc/dnf/dnf.conf"),),  # the program is not on every image
        (*RPM_DATABASES, "/etc/yum.repos.d", *DNF_CONFIGS, *DNF_LOCKS),
        DNF_METADATA,
        read_dnf,
        dnf_wants_reboot,
    ),
)


def manager_of(host: "Host") -> Manager:
    """Return the system's package manager; tools of another one may be installed beside it, with an empty database."""
    for manager in MANAGERS:
        found = [next((path for one in group for path in paths_of(host, one) if host.exists(path)), "") for group in manager.marks]
        if all(found) and size_of(host, found[-1]) != 0:
            return manager
    raise Missing("not_supported")


def size_of(host: "Host", path: str) -> "int | None":
    """Return a file's size, None if it cannot be read."""
    try:
        return host.stamp(path)[2]
    except OSError:
        return None


def stamps_of(host: "Host", patterns: "tuple[str, ...]") -> "dict[str, tuple[float, int]]":
    """Return (mtime, size) of each file that matches a pattern, by path."""
    stamps = {}
    for pattern in patterns:
        for path in paths_of(host, pattern):
            try:
                changed, _, size = host.stamp(path)
            except OSError:
                continue
            stamps[path] = (changed, size)
    return stamps


# ---------------------------------------------------------------- the section

SERVERS_CLOCK_SECONDS = 300.0


def image_of(host: "Host") -> "str | None":
    """Return the tool that updates this system as a whole, None if packages are updated; the OS id is not used.

    ostree-booted is ostree's own mark. bootc without ostree boots a composefs named on the kernel's command line. SUSE's
    transactional systems have the tool and a read-only root, by which zypper(8) recognizes them as well.
    """
    if host.exists("/run/ostree-booted"):
        return "ostree"
    if has_program(host, "bootc") and re.search(r"(?:^|\s)composefs=", host.text("/proc/cmdline")):
        return "bootc"
    if has_program(host, "transactional-update") and root_is_read_only(host):
        return "transactional"
    return "steamos" if has_program(host, "steamos-readonly") else None


def root_is_read_only(host: "Host") -> bool:
    """Return whether / is mounted read-only; of several mounts the last one counts.

    /dev/vda3 / btrfs ro,relatime,subvol=/@/.snapshots/1/snapshot 0 0
    """
    options = ""
    try:
        for line in host.short_lines("/proc/self/mounts", MOUNT_BYTES, MOUNTS_SECONDS):
            found = re.match(r"\S+ / \S+ (\S+)", line)
            options = found.group(1) if found else options
    except (OSError, Late):
        pass  # the beginning has been read: mounts of users come later
    return "ro" in options.split(",")


def manager_wants_reboot(manager: Manager, host: "Host") -> "bool | None":
    """Return the manager's own evaluation, None if it has none; an image may contain its settings without the program."""
    try:
        return manager.wants_reboot(host)
    except Missing:
        return None


def collect_updates(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Report what could be updated; the manager is run only if its files have changed since the last run."""
    manager = manager_of(host)
    metadata = stamps_of(host, manager.metadata)
    state = (metadata, stamps_of(host, manager.watched))
    # Folders are watched as well, but without files of metadata in them nothing is known.
    known = [path for path in metadata if path not in APT_STAMPS and not host.is_folder(path)]
    if memo.get("state") != state:
        memo.update(state=state, answer=manager.read(host) if known else {}, wants_reboot=manager_wants_reboot(manager, host))
    section = dict({"manager": manager.name}, **memo["answer"])
    if known:
        age = host.epoch() - max(changed for changed, _ in metadata.values())
        # A clock that is behind gives no age; the clock of a list's server may be slightly ahead.
        if age >= -SERVERS_CLOCK_SECONDS:
            section["metadata_age_seconds"] = round(max(0.0, age), 1)
    image = image_of(host)
    if image:
        section["image"] = image
    section.update(reboot(host, memo["wants_reboot"]))
    return section
