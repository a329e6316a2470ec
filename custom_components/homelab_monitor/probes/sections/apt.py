"""What apt would install, a part of the section updates: what the update job would install, and what it would leave.

apt-get(8) itself simulates that job, with the same options and the current lists. It takes no lock, writes nothing,
and needs no root.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Broken, Host, Json, Missing, lines_of
    from .packages import Row, answer, manager_output, withheld

# The same as the job's (client/update_script.py): a test compares them. Options for locks and configuration files have
# no effect here.
APT_JOB = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "-y"]
APT_JOB += ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "--with-new-pkgs", "upgrade"]
# Without its cache files apt builds its cache in memory; with them, root's apt would rewrite them.
APT_UNCACHED = ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
# The job first repairs unfinished packages (`--no-remove -f install`): both in one simulation.
APT_TRY = [*APT_JOB, "--no-remove", "-f", "-s", *APT_UNCACHED]
APT_TRY_PHASED = [*APT_TRY, "-o", "APT::Get::Always-Include-Phased-Updates=true"]
APT_LIST = ["apt", "-qq", "list", "--upgradable", *APT_UNCACHED]
DPKG_STATES = ["dpkg-query", "-W", "-f"]
DPKG_STATES += ["${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status} ${Package}:${Architecture} ${Version}\\n"]
# dpkg(1), package states: all others are unfinished, as `dpkg --audit` reports.
DPKG_ENDS = frozenset({"installed", "not-installed", "config-files"})


def parse_inst(text: str) -> "Iterator[Row]":
    """Yield the packages that a simulation of apt-get would install, including new ones.

    Inst openssl [3.0.17-1~deb12u2] (3.0.17-1~deb12u3 Debian:12.12/stable, Debian-Security:12/stable-security [amd64])
    Inst libc6:i386 [2.36-9] (2.36-10 Debian:12.12/stable [i386]) [libc6:amd64 on libc6:i386]
    Inst linux-image-6.1.0-40-amd64 (6.1.153-1 Debian:12.12/stable [amd64])
    """
    for line in lines_of(text):
        match = re.match(r"Inst (\S+)(?: \[([^\]]*)\])? \((\S+) (.*?) ?\[([^\]\s]+)\]\)", line)
        if match:
            name, old, new, origins, arch = match.groups()
            yield apt_row(name, arch, old, new, origins.split(", "))


def parse_apt(text: str) -> "Iterator[Row]":
    """Yield the packages of `apt list --upgradable`, including those that something holds back.

    openssl/stable-security 3.0.17-1~deb12u3 amd64 [upgradable from: 3.0.17-1~deb12u2]
    """
    for line in lines_of(text):
        match = re.match(r"([^/\s]+)/(\S+) (\S+) (\S+) \[upgradable from: (\S+)\]", line)
        if match:
            name, suites, new, arch, old = match.groups()
            yield apt_row(name, arch, old, new, suites.split(","))


def apt_row(name: str, arch: str, old: "str | None", new: str, suites: "list[str]") -> "Row":
    """Return a package's key (name:architecture) and row; suites whose name ends in security contain security fixes."""
    row = {"name": name, "available": new, "security": any(suite.endswith("security") for suite in suites)}  # type: Json
    if old:
        row["installed"] = old
    return name.partition(":")[0] + ":" + arch, row


def parse_states(text: str) -> "tuple[set[str], dict[str, Json]]":
    """Return the packages on hold (`apt-mark hold`), and those that dpkg has left unfinished.

    hold ok installed linux-image-amd64:amd64 6.1.153-1
    install ok half-configured plexmediaserver:amd64 1.41.0
    install reinstreq half-installed broken:all 1.0
    """
    holds, unfinished = set(), {}  # type: set[str], dict[str, Json]
    for line in lines_of(text):
        wanted, flag, state, key, version = (line.split(" ") + [""] * 5)[:5]
        if wanted == "hold":
            holds.add(key)
        if key and (state not in DPKG_ENDS or flag != "ok"):
            unfinished[key] = {"name": key.partition(":")[0], "available": version}
    return holds, unfinished


def read_apt(host: "Host") -> "Json":
    """Return what the job would install and what it leaves, with security fixes if there is a security suite.

    Packages that an earlier run has left half installed or not configured are pending as well, as dpkg reports: apt
    counts them as up to date, and ignores triggers. If apt fails, they are all that is known.
    """
    states, simulation = states_of(host), ""
    unfinished = states[1] if states else {}
    try:
        simulation = manager_output(host, APT_TRY)[1]
    except Broken:
        if not unfinished:
            raise
    pending = dict(unfinished, **dict(parse_inst(simulation)))
    has_left = re.search(r"\b0 not upgraded", simulation) is None
    knows_security = bool(simulation) and any("security" in name for name in host.names("/var/lib/apt/lists"))
    holds = states[0] if states else None
    section = answer(pending, knows_security, **withheld(lambda: left_by_apt(host, pending, has_left, holds)))
    if states:
        section["unfinished"] = len(unfinished)
    return section


def states_of(host: "Host") -> "tuple[set[str], dict[str, Json]] | None":
    """Return the packages on hold and the unfinished ones, None if dpkg-query fails."""
    try:
        return parse_states(manager_output(host, DPKG_STATES)[1])
    except (Broken, Missing):
        return None


def left_by_apt(
    host: "Host", pending: "dict[str, Json]", has_left: bool, holds: "set[str] | None"
) -> "dict[str, dict[str, Json]]":
    """Return the packages on hold, those phased (offered to this host later), and those that cannot be upgraded now."""
    listed = parse_apt(manager_output(host, APT_LIST)[1]) if has_left else ()
    rest = {key: one for key, one in listed if key not in pending}
    if rest and holds is None:
        raise Missing("unreadable")
    held = {key: one for key, one in rest.items() if key in (holds or ())}
    later = dict(parse_inst(manager_output(host, APT_TRY_PHASED)[1])) if len(held) < len(rest) else {}
    phased = {key: one for key, one in rest.items() if key in later and key not in held}
    kept = {key: one for key, one in rest.items() if key not in held and key not in phased}
    return {"held": held, "phased": phased, "kept_back": kept}
