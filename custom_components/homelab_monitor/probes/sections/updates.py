"""The section updates: what package managers know without asking anybody, and whether a reboot is due.

Only what is already on the machine is read: nothing is refreshed, no lock is waited for, nothing is written. A manager
is asked again only when its database or its metadata changed, as the answer costs seconds on a small machine.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from ..probe import Broken, Host, Json, Missing, Request
    from .reboot import reboot

PACKAGES_SHOWN = 200
PACKAGE_WORDS = ("name", "installed", "available")
# Far more than the section's own budget: an answer that comes late is there for the next request.
MANAGER_SECONDS = 120.0

APT_LIST = ["apt", "-qq", "list", "--upgradable"]
# Without its cache files apt counts in memory; with them root's apt would write them anew.
APT_LIST += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
DNF_CHECK = ["dnf", "-q", "-C", "check-update"]
DNF_REBOOT = ["dnf", "-q", "-C", "needs-restarting", "-r"]
RPM_VERSIONS = ["rpm", "-q", "--qf", "%{NAME}.%{ARCH} %{EVR}\\n", "--"]
ZYPPER = ["zypper", "--non-interactive", "--no-refresh", "--xmlout"]
ZYPPER_LIST = [*ZYPPER, "list-updates"]
ZYPPER_SECURITY = [*ZYPPER, "list-patches", "--category", "security"]
ZYPPER_REBOOT = ["zypper", "--non-interactive", "--no-refresh", "needs-rebooting"]
PACMAN_LIST = ["pacman", "-Qu"]
APK_LIST = ["apk", "--no-network", "version", "-l", "<"]
OPKG_LIST = ["opkg", "list-upgradable"]
ZYPPER_NEEDS_REBOOT = 102  # zypper(8), exit codes


def told_by(host: "Host", argv: "list[str]", good: "tuple[int, ...]" = (0,)) -> "tuple[int, str]":
    """Return status and output of a package manager; raises Broken with its words when it fails."""
    try:
        status, output, errors = host.run(argv, MANAGER_SECONDS)
    except FileNotFoundError:
        raise Missing("not_installed") from None
    if status not in good:
        words = errors.strip() or output.strip() or f"ended with status {status}"
        raise Broken(f"{argv[0]}: {words}")
    return status, output


# ---------------------------------------------------------------- apt


def parse_apt(text: str) -> "Iterator[Json]":
    """Yield the packages of `apt list --upgradable`; a suite that ends in security brings security fixes.

    openssl/stable-security 3.0.17-1~deb12u3 amd64 [upgradable from: 3.0.17-1~deb12u2]
    """
    for line in text.splitlines():
        told = re.match(r"([^/\s]+)/(\S+) (\S+) \S+ \[upgradable from: (\S+)\]", line)
        if told:
            name, suites, new, old = told.groups()
            is_security = any(suite.endswith("security") for suite in suites.split(","))
            yield {"name": name, "installed": old, "available": new, "security": is_security}


def read_apt(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what apt would upgrade; security fixes are told apart only where a suite for them is used."""
    packages = list(parse_apt(told_by(host, APT_LIST)[1]))
    if any("security" in name for name in host.names("/var/lib/apt/lists")):
        return packages, sum(1 for one in packages if one["security"])
    return [{key: one[key] for key in PACKAGE_WORDS} for one in packages], None


# ---------------------------------------------------------------- dnf


def parse_dnf(text: str) -> "Iterator[tuple[str, str]]":
    """Yield name.arch and new version of `dnf check-update`; what is obsoleted comes below, and is no update.

    openssl-libs.x86_64    1:3.2.2-6.fc41    updates
    Obsoleting Packages
    """
    for line in text.splitlines():
        if line.startswith("Obsoleting"):
            return
        words = line.split()
        if len(words) == 3 and re.match(r"\S+\.(noarch|[a-z][a-z0-9_]+)$", words[0]) and not line[0].isspace():
            yield words[0], words[1]


def read_dnf(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what dnf would upgrade, and what of it advisories call a security fix."""
    new = dict(parse_dnf(told_by(host, DNF_CHECK, (0, 100))[1]))
    if not new:
        return [], 0
    security = dict(parse_dnf(told_by(host, [*DNF_CHECK, "--security"], (0, 100))[1]))
    lines = told_by(host, [*RPM_VERSIONS, *sorted(new)], tuple(range(256)))[1].splitlines()
    old = dict(line.split() for line in lines if len(line.split()) == 2)
    packages = []
    for name, version in sorted(new.items()):
        told = {"name": name.rpartition(".")[0], "available": version, "security": name in security}  # type: Json
        if name in old:
            told["installed"] = old[name]
        packages.append(told)
    return packages, len(security)


def dnf_wants_reboot(host: "Host") -> "bool | None":
    """Return dnf's own judgement (plugin needs-restarting), None where it has none."""
    output = told_by(host, DNF_REBOOT, tuple(range(256)))[1]
    if "Reboot is required" in output:
        return True
    return False if "Reboot should not be necessary" in output else None


# ---------------------------------------------------------------- zypper


def parse_zypper(text: str) -> "Iterator[Json]":
    """Yield the packages of zypper's XML.

    <update name="openssl-3" edition="3.1.4-150600.5.39" edition-old="3.1.4-150600.5.36" kind="package" …>
    """
    for attributes in re.findall(r"<update\s([^>]*)>", text):
        told = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if told.get("kind", "package") == "package" and "name" in told:
            row = {"name": told["name"], "available": told.get("edition", "")}
            if "edition-old" in told:
                row["installed"] = told["edition-old"]
            yield row


def read_zypper(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what zypper would update, and how many security patches are needed: it has no word on packages."""
    packages = list(parse_zypper(told_by(host, ZYPPER_LIST)[1]))
    patches = told_by(host, ZYPPER_SECURITY)[1]
    needed = re.findall(r'<update\s[^>]*kind="patch"', patches)
    return packages, len(needed)


def zypper_wants_reboot(host: "Host") -> "bool | None":
    """Return zypper's own judgement, None where it has none."""
    status, _ = told_by(host, ZYPPER_REBOOT, tuple(range(256)))
    return {0: False, ZYPPER_NEEDS_REBOOT: True}.get(status)


# ---------------------------------------------------------------- pacman, apk, opkg


def parse_pacman(text: str) -> "Iterator[Json]":
    """Yield the packages of `pacman -Qu`, without those that its configuration ignores.

    linux 6.11.5.arch1-1 -> 6.11.6.arch1-1
    linux-lts 6.6.58-1 -> 6.6.59-1 [ignored]
    """
    for line in text.splitlines():
        told = re.match(r"(\S+) (\S+) -> (\S+)$", line)
        if told:
            yield dict(zip(PACKAGE_WORDS, told.groups()))


def read_pacman(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what pacman would upgrade; its status is 1 where that is nothing."""
    return list(parse_pacman(told_by(host, PACMAN_LIST, (0, 1))[1])), None


def parse_apk(text: str) -> "Iterator[Json]":
    """Yield the packages of `apk version -l '<'`.

    Installed:                                Available:
    busybox-1.36.1-r5                       < 1.36.1-r7
    """
    for line in text.splitlines():
        told = re.match(r"(\S+?)-(\d\S*-r\d+)\s+<\s+(\S+)", line)
        if told:
            yield dict(zip(PACKAGE_WORDS, told.groups()))


def read_apk(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what apk would upgrade."""
    return list(parse_apk(told_by(host, APK_LIST)[1])), None


def parse_opkg(text: str) -> "Iterator[Json]":
    """Yield the packages of `opkg list-upgradable`.

    dnsmasq - 2.86-16 - 2.90-2
    """
    for line in text.splitlines():
        words = line.split(" - ")
        if len(words) == 3:
            yield dict(zip(PACKAGE_WORDS, (word.strip() for word in words)))


def read_opkg(host: "Host") -> "tuple[list[Json], int | None]":
    """Return what opkg would upgrade."""
    return list(parse_opkg(told_by(host, OPKG_LIST)[1])), None


# ---------------------------------------------------------------- the managers


class Manager:
    """One row of the table: a package manager, and where it keeps what it knows.

    `marks` are there where it is this system's own. `watched` are files and folders of which none can stay the same
    when the answer changes; `metadata` (patterns) is what a refresh writes: without any, nothing is known.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one row, in the order of its columns
        self,
        name: str,
        marks: "tuple[str, ...]",
        watched: "tuple[str, ...]",
        metadata: "tuple[str, ...]",
        read: "Callable[[Host], tuple[list[Json], int | None]]",
        wants_reboot: "Callable[[Host], bool | None]" = lambda host: None,
    ) -> None:
        self.name = name
        self.marks = marks
        self.watched = watched
        self.metadata = metadata
        self.read = read
        self.wants_reboot = wants_reboot


APT_STAMPS = ("/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/periodic/update-stamp")
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
MANAGERS = (
    Manager(
        "apt",
        ("/etc/apt", "/var/lib/dpkg/status"),
        (
            "/var/lib/dpkg/status",
            "/etc/apt/sources.list",
            "/etc/apt/sources.list.d",
            "/etc/apt/preferences",
            "/etc/apt/preferences.d",
        ),
        ("/var/lib/apt/lists/*_Packages*", "/var/lib/apt/lists", *APT_STAMPS),
        read_apt,
    ),
    Manager(
        "zypper",
        ("/etc/zypp/zypp.conf",),
        (*RPM_DATABASES, "/etc/zypp/repos.d", "/etc/zypp/locks"),
        ("/var/cache/zypp/raw/*/repodata/repomd.xml", "/var/cache/zypp/raw/*/cookie"),
        read_zypper,
        zypper_wants_reboot,
    ),
    Manager(
        "dnf",
        ("/etc/dnf/dnf.conf",),
        (*RPM_DATABASES, "/etc/yum.repos.d", "/etc/dnf/dnf.conf"),
        ("/var/cache/dnf/*/repodata/repomd.xml", "/var/cache/libdnf5/*/repodata/repomd.xml"),
        read_dnf,
        dnf_wants_reboot,
    ),
    Manager(
        "pacman",
        ("/etc/pacman.conf", "/var/lib/pacman/local"),
        ("/var/lib/pacman/local", "/etc/pacman.conf"),
        ("/var/lib/pacman/sync/*.db", "/var/lib/pacman/sync"),
        read_pacman,
    ),
    Manager(
        "apk",
        ("/lib/apk/db/installed",),
        ("/lib/apk/db/installed", "/etc/apk/repositories"),
        ("/var/cache/apk/APKINDEX.*", "/etc/apk/cache/APKINDEX.*"),
        read_apk,
    ),
    Manager(
        "apk",
        ("/usr/lib/apk/db/installed",),
        ("/usr/lib/apk/db/installed", "/etc/apk/repositories", "/etc/apk/repositories.d"),
        ("/var/cache/apk/APKINDEX.*", "/var/cache/apk/*.adb", "/etc/apk/cache/APKINDEX.*"),
        read_apk,
    ),
    Manager(
        "opkg",
        ("/etc/opkg.conf",),
        ("/usr/lib/opkg/status", "/var/lib/opkg/status", "/etc/opkg"),
        ("/var/opkg-lists/*", "/var/lib/opkg/lists/*"),
        read_opkg,
    ),
)


def manager_of(host: "Host") -> Manager:
    """Return the system's package manager; another one's tools may be installed beside it, with an empty database."""
    for manager in MANAGERS:
        if all(map(host.exists, manager.marks)) and size_of(host, manager.marks[-1]) != 0:
            return manager
    raise Missing("not_supported")


def size_of(host: "Host", path: str) -> "int | None":
    """Return a file's size, None where it cannot be told."""
    try:
        return host.stamp(path)[2]
    except OSError:
        return None


def paths_of(host: "Host", pattern: str) -> "Iterator[str]":
    """Yield the paths that fit a pattern, in order; only the names of single steps are patterns."""
    import fnmatch  # noqa: PLC0415

    paths = [""]
    for step in pattern.strip("/").split("/"):
        if "*" in step:
            paths = [one + "/" + name for one in paths for name in fnmatch.filter(sorted(host.names(one)), step)]
        else:
            paths = [one + "/" + step for one in paths]
    return iter(paths)


def stamps_of(host: "Host", patterns: "tuple[str, ...]") -> "dict[str, tuple[float, int]]":
    """Return when each file that fits was last changed, and its size."""
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


def ask_manager(host: "Host", manager: Manager) -> "Json":
    """Return what a manager would do now, the security fixes first."""
    packages, security = manager.read(host)
    told = {"pending": len(packages)}  # type: Json
    if security is not None:
        told["security"] = security
    ordered = sorted(packages, key=lambda one: (not one.get("security"), one["name"]))
    told.update(packages=ordered[:PACKAGES_SHOWN], complete={"packages": len(packages) <= PACKAGES_SHOWN})
    return told


def collect_updates(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Tell what could be updated; the manager is asked when something of it changed since it was asked."""
    manager = manager_of(host)
    metadata = stamps_of(host, manager.metadata)
    state = (metadata, stamps_of(host, manager.watched))
    if memo.get("state") != state:
        # Folders are watched as well, but what they held is gone with the files: then nothing is known.
        known = [path for path in metadata if path not in APT_STAMPS and not host.is_folder(path)]
        answer = ask_manager(host, manager) if known else {}
        memo.update(state=state, answer=answer, wants_reboot=manager.wants_reboot(host))
    section = dict({"manager": manager.name}, **memo["answer"])
    if metadata:
        newest = max(changed for changed, _ in metadata.values())
        section["metadata_age_seconds"] = round(max(0.0, host.epoch() - newest), 1)
    section.update(reboot(host, memo["wants_reboot"]))
    return section


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("updates", collect_updates, 3))
