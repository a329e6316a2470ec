"""What dnf, zypper, pacman, apk and opkg would upgrade, a part of the section updates, and how each answer looks.

Of what is locked, excluded or ignored only the number is told: it is not pending.
"""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Tuple

    from ..host import Broken, Host, Json, Missing, first_line, lines_of, reason_in
    from .installed import paths_of

    Row = Tuple[str, Json]  # by what the manager tells packages apart

PACKAGES_SHOWN = 200
PACKAGE_WORDS = ("name", "installed", "available")
# Far more than the section's own budget: an answer that comes late is there for the next request.
MANAGER_SECONDS = 120.0

DNF_CHECK = ["dnf", "-q", "-C", "check-update"]
# The name of all excludes is `all` to dnf 4 and `*` to dnf 5; repoquery knows no versionlock (dnf-versionlock(8)).
DNF_ALL = ["dnf", "-q", "-C", "--setopt=disable_excludes=all,*", "repoquery", "--upgrades"]
DNF_ALL += ["--qf", "%{name}.%{arch} %{evr}\\n"]
DNF_REBOOT = ["dnf", "-q", "-C", "needs-restarting", "-r"]
# What root's own calls of dnf 5 have; another user's keep a clone of root's metadata, which is read for days, and a log.
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
# What a manager says when it has not read all that it should have, and ends as if there were no updates, or fewer: pacman
# -Qu with 1 also where there are none, and with 0 where another repository has some; apk version always with 0.
NOT_ALL_READ = re.compile(
    r"^(?:E:|(?:[\w./-]{1,40}: )?(?:[Ee]rror|ERROR|[Ff]atal|FATAL):)[ \t]+\S.*"
    r"|^[ \t]*\* [\w.-]+:[ \t].*"  # opkg
    r"|^warning: database file for .* does not exist.*"  # pacman
    r"|^WARNING: (?:Ignoring|(?:updating and )?opening)(?: from cache)? (?!/).*"  # apk; a path is a medium that may be away
    r'|(?<=<message type="error">)[^<]+',
    re.MULTILINE,
)


def told_by(host: "Host", argv: "list[str]", good: "tuple[int, ...] | None" = (0,)) -> "tuple[int, str]":
    """Return status and output of a package manager; raises Broken with its reason when it fails, or has not read all.

    A status says too little where one stands for several ends. None is good whatever it is where the words are judged.
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
    """Tell whether a user who is not root calls dnf 5, to which the name dnf leads where it is the system's."""
    return argv[0] == "dnf" and not host.is_root() and os.path.basename(host.real_path("/usr/bin/dnf")) == "dnf5"


def run_dnf5(host: "Host", argv: "list[str]") -> "tuple[int, str, str]":
    """Run dnf 5 on root's own metadata; it writes nothing then. Before 5.4 it does not go on without its log.

    Cannot open log file: (13) - Permission denied [/var/log/dnf5.log]. Dropping all logs. To redirect …
    """
    told = host.run([argv[0], DNF5_CACHE, DNF5_LOG, *argv[1:]], MANAGER_SECONDS)
    if told[0] and "Cannot open log file" in told[2] and "Dropping all logs" not in told[2]:
        told = host.run([argv[0], DNF5_CACHE, *argv[1:]], MANAGER_SECONDS)
    return told[0], told[1], NO_DNF5_LOG.sub("", told[2])


def answer(pending: "dict[str, Json]", knows_security: bool, **left: "dict[str, Json]") -> "Json":
    """Return how many would be installed and which, the security fixes first, and how many are left for each cause.

    Where security fixes are not told apart, nothing is said of them.
    """
    words = (*PACKAGE_WORDS, "security") if knows_security else PACKAGE_WORDS
    rows = [{word: one[word] for word in words if word in one} for one in pending.values()]
    rows.sort(key=lambda one: (not one.get("security"), one["name"]))
    told = counted(pending, knows_security)
    told = dict({"pending": told.pop("count")}, **told)
    told.update((cause, counted(found, knows_security)) for cause, found in left.items())
    told.update(packages=rows[:PACKAGES_SHOWN], complete={"packages": len(rows) <= PACKAGES_SHOWN})
    return told


def withheld(read: "Callable[[], dict[str, dict[str, Json]]]") -> "dict[str, dict[str, Json]]":
    """Return what is withheld, by its causes; nothing where that cannot be told, as what is pending is known all the same."""
    try:
        return read()
    except (Broken, Missing):
        return {}


def counted(found: "dict[str, Json]", knows_security: bool) -> "Json":
    """Return how many there are, and how many of them bring security fixes."""
    told = {"count": len(found)}
    if knows_security:
        told["security"] = sum(1 for one in found.values() if one.get("security"))
    return told


# ---------------------------------------------------------------- dnf


def parse_dnf(text: str) -> "Iterator[tuple[str, str]]":
    """Yield name.arch and new version of `dnf check-update`; what is obsoleted comes below, and is no update.

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
# The values may stand in the lines below, which begin with a space; comments may be between them.
DNF_EXCLUDES = re.compile(r"^(?:exclude|excludepkgs)[ \t]*[=:][ \t]*(?:(?:\n[#;].*)*\n[ \t]+)?[^\s#;]", re.MULTILINE)


def dnf_withholds(host: "Host") -> bool:
    """Tell whether a configuration excludes packages, or versions are locked (dnf.conf(5), dnf-versionlock(8))."""
    texts = (host.text(path) for pattern in DNF_CONFIGS for path in paths_of(host, pattern))
    if any(DNF_EXCLUDES.search(text) for text in texts):
        return True
    return any(re.search(r"^(?!version\b)[ \t]*[^\s#]", host.text(path), re.MULTILINE) for path in DNF_LOCKS)


def dnf_held(host: "Host", new: "dict[str, str]") -> "dict[str, Json]":
    """Return what could be upgraded, were it not excluded or locked."""
    if not dnf_withholds(host):
        return {}
    rest = {line.split()[0] for line in lines_of(told_by(host, DNF_ALL)[1]) if len(line.split()) == 2} - set(new)
    fixes = lines_of(told_by(host, [*DNF_ALL, "--security"])[1]) if rest else []
    security = {line.split()[0] for line in fixes if line.strip()}
    return {name: {"security": name in security} for name in rest}


def read_dnf(host: "Host") -> "Json":
    """Return what dnf would upgrade, what of it advisories call a security fix, and what is excluded or locked."""
    new, knows_security = dict(parse_dnf(told_by(host, DNF_CHECK, (0, 100))[1])), has_advisories(host)
    security, old = {}, {}  # type: dict[str, str], dict[str, str]
    if new:
        security = dict(parse_dnf(told_by(host, [*DNF_CHECK, "--security"], (0, 100))[1]))
        lines = lines_of(told_by(host, [*RPM_VERSIONS, *sorted(new)], None)[1])
        old = dict(line.split() for line in lines if len(line.split()) == 2)
    pending = {}  # type: dict[str, Json]
    for name, version in new.items():
        pending[name] = {"name": name.rpartition(".")[0], "available": version, "security": name in security}
        if name in old:
            pending[name]["installed"] = old[name]
    return answer(pending, knows_security, **withheld(lambda: {"held": dnf_held(host, new)}))


def has_advisories(host: "Host") -> bool:
    """Tell whether a repository says what its updates are for: CentOS Stream and most of third parties do not.

    <data type="updateinfo">
    """
    paths = (path for pattern in DNF_METADATA for path in paths_of(host, pattern))
    return any('type="updateinfo"' in host.text(path) for path in paths)


def dnf_wants_reboot(host: "Host") -> "bool | None":
    """Return dnf's own judgement (plugin needs-restarting), None where it has none."""
    output = told_by(host, DNF_REBOOT, None)[1]
    if "Reboot is required" in output:
        return True
    return False if "Reboot should not be necessary" in output else None


# ---------------------------------------------------------------- zypper


def parse_zypper(text: str) -> "Iterator[Row]":
    """Yield the packages of zypper's XML.

    <update name="openssl-3" edition="3.1.4-150600.5.39" edition-old="3.1.4-150600.5.36" kind="package" …>
    """
    for attributes in re.findall(r"<update\s([^>]*)>", text):
        told = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if told.get("kind", "package") == "package" and "name" in told:
            row = {"name": told["name"], "available": told.get("edition", "")}
            if "edition-old" in told:
                row["installed"] = told["edition-old"]
            yield told["name"] + "." + told.get("arch", ""), row


def zypper_held(host: "Host", pending: "dict[str, Json]") -> "dict[str, Json]":
    """Return what could be updated and is locked (zypper(8), locks).

    solvable_name: kernel-*
    """
    import fnmatch  # noqa: PLC0415

    patterns = re.findall(r"^solvable_name:[ \t]*(\S+)", host.text("/etc/zypp/locks"), re.MULTILINE)
    if not patterns:
        return {}
    rest = dict(parse_zypper(told_by(host, ZYPPER_ALL)[1]))
    return {
        name: one
        for name, one in rest.items()
        if name not in pending and any(fnmatch.fnmatchcase(one["name"], pattern) for pattern in patterns)
    }


def read_zypper(host: "Host") -> "Json":
    """Return what zypper would update, what is locked, and how many security patches are needed.

    It has no word on which package brings a fix. A patch that is locked is `unwanted` and not counted. Where no repository
    has patches, needed or not, zypper says `<appletinfo status="no-update-repositories"/>`.
    """
    pending = dict(parse_zypper(told_by(host, ZYPPER_LIST)[1]))
    told = answer(pending, False, **withheld(lambda: {"held": zypper_held(host, pending)}))
    listed = told_by(host, ZYPPER_SECURITY)[1]
    if 'status="no-update-repositories"' not in listed:
        patches = re.findall(r"<update\s[^>]*>", listed)
        told["security"] = sum(1 for one in patches if 'kind="patch"' in one and 'status="unwanted"' not in one)
    return told


def zypper_wants_reboot(host: "Host") -> "bool | None":
    """Return zypper's own judgement, None where it has none."""
    status, _ = told_by(host, ZYPPER_REBOOT, None)
    return {0: False, ZYPPER_NEEDS_REBOOT: True}.get(status)


# ---------------------------------------------------------------- pacman, apk, opkg


def parse_pacman(text: str) -> "tuple[dict[str, Json], dict[str, Json]]":
    """Return what `pacman -Qu` would upgrade, and what its configuration ignores (pacman.conf(5), IgnorePkg).

    linux 6.11.5.arch1-1 -> 6.11.6.arch1-1
    linux-lts 6.6.58-1 -> 6.6.59-1 [ignored]
    """
    pending, held = {}, {}  # type: dict[str, Json], dict[str, Json]
    for line in lines_of(text):
        told = re.match(r"(\S+) (\S+) -> (\S+)( \[ignored\])?$", line)
        if told:
            (held if told.group(4) else pending)[told.group(1)] = dict(zip(PACKAGE_WORDS, told.groups()))
    return pending, held


def read_pacman(host: "Host") -> "Json":
    """Return what pacman would upgrade; its status is 1 where that is nothing."""
    pending, held = parse_pacman(told_by(host, PACMAN_LIST, (0, 1))[1])
    return answer(pending, False, held=held)


def parse_apk(text: str) -> "Iterator[Row]":
    """Yield the packages of `apk version -l '<'`.

    A version begins with the last digit after a dash; of the dashes behind it there is only that of its release
    (apk-package(5): name-version-rN).

    Installed:                                Available:
    busybox-1.36.1-r5                       < 1.36.1-r7
    font-misc-7x14-1.1.2-r3                 < 1.1.3-r0 @edge
    """
    for line in lines_of(text):
        told = re.match(r"(\S+)-(\d[^-\s]*(?:-r\d+)?)\s+<\s+(\S+)", line)
        if told:
            yield told.group(1), dict(zip(PACKAGE_WORDS, told.groups()))


def read_apk(host: "Host") -> "Json":
    """Return what apk would upgrade; its own simulation writes a log, and only root may run it."""
    return answer(dict(parse_apk(told_by(host, APK_LIST)[1])), False)


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
    return answer(dict(parse_opkg(told_by(host, OPKG_LIST)[1])), False)
