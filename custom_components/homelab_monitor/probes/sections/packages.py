"""What dnf, zypper, pacman, apk and opkg would upgrade, a part of the section updates, and the shape of each answer.

Only the number of locked, excluded or ignored packages is reported: they are not pending.
"""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Tuple

    from ..host import Broken, Host, Json, Missing, first_line, lines_of, reason_in
    from .installed import paths_of

    Row = Tuple[str, Json]  # the manager's key of a package, and its row

PACKAGES_SHOWN = 200
PACKAGE_WORDS = ("name", "installed", "available")
# Far more than the section's own budget: the next request uses an answer that comes late.
MANAGER_SECONDS = 120.0

DNF_CHECK = ["dnf", "-q", "-C", "check-update"]
# The name of all excludes is `all` to dnf 4 and `*` to dnf 5; repoquery knows no versionlock (dnf-versionlock(8)).
DNF_ALL = ["dnf", "-q", "-C", "--setopt=disable_excludes=all,*", "repoquery", "--upgrades"]
DNF_ALL += ["--qf", "%{name}.%{arch} %{evr}\\n"]
DNF_REBOOT = ["dnf", "-q", "-C", "needs-restarting", "-r"]
# The folders of root's calls of dnf 5; other users' calls keep a copy of root's metadata, used for days, and a log.
DNF5_CACHE, DNF5_LOG = "--setopt=cachedir=/var/cache/libdnf5", "--setopt=logdir=/var/log"
NO_DNF5_LOG = re.compile(r"^Cannot open log file.*\n?", re.MULTILINE)
RPM_VERSIONS = ["rpm", "-q", "--qf", "%{NAME}.%{ARCH} %{EVR}\\n", "--"]
ZYPPER = ["zypper", "--non-interactive", "--no-refresh", "--xmlout"]
ZYPPER_LIST = [*ZYPPER, "list-updates"]
ZYPPER_ALL = [*ZYPPER_LIST, "--all"]
ZYPPER_SECURITY = [*ZYPPER, "list-patches", "--category", "security"]
ZYPPER_REBOOT = ["zypper", "--non-interactive", "--no-refresh", "needs-rebooting"]
PACMAN_LIST = ["pacman", "-Qu"]
APK_LIST = ["apk", "--no-network", "version", "-l", "<"]
OPKG_LIST = ["opkg", "list-upgradable"]
ZYPPER_NEEDS_REBOOT = 102  # zypper(8), exit codes
# Messages of a manager that could not read everything, yet exits as if there were no updates, or fewer: pacman -Qu
# with 1 also if there are none, and with 0 if another repository has some; apk version always with 0.
NOT_ALL_READ = re.compile(
    r"^(?:E:|(?:[\w./-]{1,40}: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL):)[ \t]+\S.*"
    r"|^[ \t]*\* [\w.-]+:[ \t].*"  # opkg
    r"|^warning: database file for .* does not exist.*"  # pacman
    r"|^WARNING: (?:Ignoring|(?:updating and )?opening)(?: from cache)? (?!/).*"  # apk; a path is a medium that may be away
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)


def manager_output(host: "Host", argv: "list[str]", good: "tuple[int, ...] | None" = (0,)) -> "tuple[int, str]":
    """Return status and output of a package manager; raises Broken with its reason if it fails or has not read everything.

    `good` lists the statuses of success; None accepts any, for commands whose output is more precise than their status.
    """
    try:
        status, output, errors = run_dnf5(host, argv) if is_dnf5(host, argv) else host.run(argv, MANAGER_SECONDS)
    except FileNotFoundError:
        raise Missing("not_installed") from None
    if good is None:
        return status, output
    if status not in good:
        words = reason_in(errors) or reason_in(output) or f"ended with status {status}"
        raise Broken(f"{argv[0]}: {words}")
    unread = NOT_ALL_READ.search(errors) or (NOT_ALL_READ.search(output) if argv[: len(ZYPPER)] == ZYPPER else None)
    if unread:
        raise Broken(f"{argv[0]}: {first_line(unread.group())}")
    return status, output


def is_dnf5(host: "Host", argv: "list[str]") -> bool:
    """Return whether argv calls dnf 5 as a user other than root; `dnf` is a link to it where it is the default."""
    return argv[0] == "dnf" and not host.is_root() and os.path.basename(host.real_path("/usr/bin/dnf")) == "dnf5"


def run_dnf5(host: "Host", argv: "list[str]") -> "tuple[int, str, str]":
    """Run dnf 5 on root's own metadata; it then writes nothing. Before 5.4 it does not continue without its log.

    Cannot open log file: (13) - Permission denied [/var/log/dnf5.log]. Dropping all logs. To redirect …
    """
    result = host.run([argv[0], DNF5_CACHE, DNF5_LOG, *argv[1:]], MANAGER_SECONDS)
    if result[0] and "Cannot open log file" in result[2] and "Dropping all logs" not in result[2]:
        result = host.run([argv[0], DNF5_CACHE, *argv[1:]], MANAGER_SECONDS)
    return result[0], result[1], NO_DNF5_LOG.sub("", result[2])


def answer(pending: "dict[str, Json]", knows_security: bool, **left: "dict[str, Json]") -> "Json":
    """Return how many packages would be installed and which, security fixes first, and how many are left for each cause.

    If the manager does not distinguish security fixes, they are left out.
    """
    words = (*PACKAGE_WORDS, "security") if knows_security else PACKAGE_WORDS
    rows = [{word: package[word] for word in words if word in package} for package in pending.values()]
    rows.sort(key=lambda package: (not package.get("security"), package["name"]))
    section = count_packages(pending, knows_security)
    section = dict({"pending": section.pop("count")}, **section)
    section.update((cause, count_packages(found, knows_security)) for cause, found in left.items())
    section.update(packages=rows[:PACKAGES_SHOWN], complete={"packages": len(rows) <= PACKAGES_SHOWN})
    return section


def withheld(read: "Callable[[], dict[str, dict[str, Json]]]") -> "dict[str, dict[str, Json]]":
    """Return the withheld packages by cause, empty if the manager fails: the pending ones are known even then."""
    try:
        return read()
    except (Broken, Missing):
        return {}


def count_packages(found: "dict[str, Json]", knows_security: bool) -> "Json":
    """Return the number of packages, and how many of them are security fixes."""
    counts = {"count": len(found)}
    if knows_security:
        counts["security"] = sum(1 for one in found.values() if one.get("security"))
    return counts


# ---------------------------------------------------------------- dnf


def parse_dnf(text: str) -> "Iterator[tuple[str, str]]":
    """Yield name.arch and new version of `dnf check-update`; obsoleted packages come last, and are no updates.

    openssl-libs.x86_64    1:3.2.2-6.fc41    updates
    Obsoleting Packages
    """
    for line in lines_of(text):
        if line.startswith("Obsoleting"):
            return
        words = line.split()
        if len(words) == 3 and re.match(r"\S+\.(noarch|[a-z][a-z0-9_]+)$", words[0]) and not line[0].isspace():
            yield words[0], words[1]


DNF_CONFIGS = (
    "/etc/dnf/dnf.conf",
    "/etc/dnf/libdnf5.conf.d/*.conf",
    "/etc/yum.repos.d/*.repo",
    "/etc/distro.repos.d/*.repo",
    "/etc/dnf/repos.override.d/*.repo",
)  # type: tuple[str, ...]
DNF_LOCKS = ("/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml")  # type: tuple[str, ...]
DNF_METADATA = (
    "/var/cache/dnf/*/repodata/repomd.xml",
    "/var/cache/libdnf5/*/repodata/repomd.xml",
)  # type: tuple[str, ...]
# The values may be on the following lines, which begin with a space; comments may be between them.
DNF_EXCLUDES = re.compile(r"^(?:exclude|excludepkgs)[ \t]*[=:][ \t]*(?:(?:\n[#;].*)*\n[ \t]+)?[^\s#;]", re.MULTILINE)


def dnf_withholds(host: "Host") -> bool:
    """Return whether a configuration excludes packages, or versions are locked (dnf.conf(5), dnf-versionlock(8))."""
    texts = (host.text(path) for pattern in DNF_CONFIGS for path in paths_of(host, pattern))
    if any(DNF_EXCLUDES.search(text) for text in texts):
        return True
    return any(re.search(r"^(?!version\b)[ \t]*[^\s#]", host.text(path), re.MULTILINE) for path in DNF_LOCKS)


def dnf_held(host: "Host", new: "dict[str, str]") -> "dict[str, Json]":
    """Return the packages that could be upgraded if they were not excluded or locked."""
    if not dnf_withholds(host):
        return {}
    rest = {line.split()[0] for line in lines_of(manager_output(host, DNF_ALL)[1]) if len(line.split()) == 2} - set(new)
    fixes = lines_of(manager_output(host, [*DNF_ALL, "--security"])[1]) if rest else []
    security = {line.split()[0] for line in fixes if line.strip()}
    return {name: {"security": name in security} for name in rest}


def read_dnf(host: "Host") -> "Json":
    """Return what dnf would upgrade, which of it advisories list as security fixes, and what is excluded or locked."""
    new, knows_security = dict(parse_dnf(manager_output(host, DNF_CHECK, (0, 100))[1])), has_advisories(host)
    security, old = {}, {}  # type: dict[str, str], dict[str, str]
    if new:
        security = dict(parse_dnf(manager_output(host, [*DNF_CHECK, "--security"], (0, 100))[1]))
        lines = lines_of(manager_output(host, [*RPM_VERSIONS, *sorted(new)], None)[1])
        old = dict(line.split() for line in lines if len(line.split()) == 2)
    pending = {}  # type: dict[str, Json]
    for name, version in new.items():
        pending[name] = {"name": name.rpartition(".")[0], "available": version, "security": name in security}
        if name in old:
            pending[name]["installed"] = old[name]
    return answer(pending, knows_security, **withheld(lambda: {"held": dnf_held(host, new)}))


def has_advisories(host: "Host") -> bool:
    """Return whether a repository has advisories: CentOS Stream and most third parties have none.

    <data type="updateinfo">
    """
    paths = (path for pattern in DNF_METADATA for path in paths_of(host, pattern))
    return any('type="updateinfo"' in host.text(path) for path in paths)


def dnf_wants_reboot(host: "Host") -> "bool | None":
    """Return dnf's own evaluation (plugin needs-restarting), None if it has none."""
    output = manager_output(host, DNF_REBOOT, None)[1]
    if "Reboot is required" in output:
        return True
    return False if "Reboot should not be necessary" in output else None


# ---------------------------------------------------------------- zypper


def parse_zypper(text: str) -> "Iterator[Row]":
    """Yield the packages of zypper's XML.

    <update name="openssl-3" edition="3.1.4-150600.5.39" edition-old="3.1.4-150600.5.36" kind="package" …>
    """
    for attributes in re.findall(r"<update\s([^>]*)>", text):
        fields = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if fields.get("kind", "package") == "package" and "name" in fields:
            row = {"name": fields["name"], "available": fields.get("edition", "")}
            if "edition-old" in fields:
                row["installed"] = fields["edition-old"]
            yield fields["name"] + "." + fields.get("arch", ""), row


def zypper_held(host: "Host", pending: "dict[str, Json]") -> "dict[str, Json]":
    """Return the packages that could be updated and are locked (zypper(8), locks).

    solvable_name: kernel-*
    """
    import fnmatch  # noqa: PLC0415

    patterns = re.findall(r"^solvable_name:[ \t]*(\S+)", host.text("/etc/zypp/locks"), re.MULTILINE)
    if not patterns:
        return {}
    rest = dict(parse_zypper(manager_output(host, ZYPPER_ALL)[1]))
    return {
        name: row
        for name, row in rest.items()
        if name not in pending and any(fnmatch.fnmatchcase(row["name"], pattern) for pattern in patterns)
    }


def read_zypper(host: "Host") -> "Json":
    """Return what zypper would update, what is locked, and how many security patches are needed.

    It does not say which package contains a fix. A locked patch is `unwanted` and not counted. If no repository has
    patches, needed or not, zypper prints `<appletinfo status="no-update-repositories"/>`.
    """
    pending = dict(parse_zypper(manager_output(host, ZYPPER_LIST)[1]))
    section = answer(pending, False, **withheld(lambda: {"held": zypper_held(host, pending)}))
    listed = manager_output(host, ZYPPER_SECURITY)[1]
    if 'status="no-update-repositories"' not in listed:
        patches = re.findall(r"<update\s[^>]*>", listed)
        section["security"] = sum(1 for patch in patches if 'kind="patch"' in patch and 'status="unwanted"' not in patch)
    return section


def zypper_wants_reboot(host: "Host") -> "bool | None":
    """Return zypper's own evaluation, None if it has none."""
    status, _ = manager_output(host, ZYPPER_REBOOT, None)
    return {0: False, ZYPPER_NEEDS_REBOOT: True}.get(status)


# ---------------------------------------------------------------- pacman, apk, opkg


def parse_pacman(text: str) -> "tuple[dict[str, Json], dict[str, Json]]":
    """Return what `pacman -Qu` would upgrade, and what its configuration ignores (pacman.conf(5), IgnorePkg).

    linux 6.11.5.arch1-1 -> 6.11.6.arch1-1
    linux-lts 6.6.58-1 -> 6.6.59-1 [ignored]
    """
    pending, held = {}, {}  # type: dict[str, Json], dict[str, Json]
    for line in lines_of(text):
        match = re.match(r"(\S+) (\S+) -> (\S+)( \[ignored\])?$", line)
        if match:
            (held if match.group(4) else pending)[match.group(1)] = dict(zip(PACKAGE_WORDS, match.groups()))
    return pending, held


def read_pacman(host: "Host") -> "Json":
    """Return what pacman would upgrade; its status is 1 if that is nothing."""
    pending, held = parse_pacman(manager_output(host, PACMAN_LIST, (0, 1))[1])
    return answer(pending, False, held=held)


def parse_apk(text: str) -> "Iterator[Row]":
    """Yield the packages of `apk version -l '<'`.

    A version begins at the last dash followed by a digit; only the dash of its release can come after it
    (apk-package(5): name-version-rN).

    Installed:                                Available:
    busybox-1.36.1-r5                       < 1.36.1-r7
    font-misc-7x14-1.1.2-r3                 < 1.1.3-r0 @edge
    """
    for line in lines_of(text):
        match = re.match(r"(\S+)-(\d[^-\s]*(?:-r\d+)?)\s+<\s+(\S+)", line)
        if match:
            yield match.group(1), dict(zip(PACKAGE_WORDS, match.groups()))


def read_apk(host: "Host") -> "Json":
    """Return what apk would upgrade; its own simulation writes a log, and only root may run it."""
    return answer(dict(parse_apk(manager_output(host, APK_LIST)[1])), False)


def parse_opkg(text: str) -> "Iterator[Row]":
    """Yield the packages of `opkg list-upgradable`.

    dnsmasq - 2.86-16 - 2.90-2
    """
    for line in lines_of(text):
        words = line.split(" - ")
        if len(words) == 3:
            yield words[0], dict(zip(PACKAGE_WORDS, (word.strip() for word in words)))


def read_opkg(host: "Host") -> "Json":
    """Return what opkg would upgrade."""
    return answer(dict(parse_opkg(manager_output(host, OPKG_LIST)[1])), False)
