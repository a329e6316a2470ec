"""Whether the system updates itself, a part of the section security.

A tool that is installed and configured does nothing unless its timer is active. The state in systemd counts, not the
links that enable a timer: a masked timer keeps them, and so does one whose service is masked.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Broken, Host, Json, Late, Missing, Request, TooLong
    from .daemons import Daemons
    from .installed import has_program, paths_of
    from .services import units_named
    from .updates import image_of, manager_of
    from .verdicts import Unknown, seconds_for, verdict

APT_PERIODIC = ["apt-config", "dump", "APT::Periodic"]
TIMERS_WANTED = "/etc/systemd/system/timers.target.wants/"
APT_TIMER = "apt-daily-upgrade.timer"
APT_LISTS_TIMER = "apt-daily.timer"  # unattended-upgrades itself refreshes nothing
DNF_TIMERS = ("dnf-automatic-install.timer", "dnf5-automatic.timer", "dnf-automatic.timer")
SUSE_TIMERS = ("os-update.timer", "transactional-update.timer")
# Units that update a system as a whole; zincati is a service that runs all the time.
IMAGE_UNITS = {
    "rpm-ostreed-automatic.timer": "rpm-ostree",
    "bootc-fetch-apply-updates.timer": "bootc",
    "uupd.timer": "uupd",
    "zincati.service": "zincati",
}
ZINCATI_CONFIGS = ("/usr/lib/zincati/config.d/*.toml", "/run/zincati/config.d/*.toml", "/etc/zincati/config.d/*.toml")
MASKS = ("/etc/systemd/system/", "/run/systemd/system/")  # systemctl(1), mask and its --runtime


def active_timers(host: "Host", request: "Request", timers: "tuple[str, ...]") -> "list[str]":
    """Return the active timers whose services can be started; raises Unknown if systemd runs but does not answer.

    The links count only without systemd: otherwise a user who keeps the bus busy could make the probe rely on them.
    """
    services = {timer: timer.replace(".timer", ".service") for timer in timers}
    try:
        units = units_named(host, [*services, *services.values()], seconds_for(request))
    except Late:
        raise Unknown("timed_out") from None
    except (FileNotFoundError, Broken) as err:
        if isinstance(err, Broken) and host.exists("/run/systemd/system"):
            raise Unknown("unreadable") from None
        return [timer for timer in timers if is_linked(host, timer, services[timer])]
    active = {unit.name for unit in units if unit.active == "active" and unit.sub != "elapsed"}  # elapsed: never fires again
    masked = {unit.name for unit in units if unit.load == "masked"}
    return [timer for timer in timers if timer in active and not masked & {timer, services[timer]}]


def is_linked(host: "Host", timer: str, service: str) -> bool:
    """Return whether a timer is enabled and neither it nor its service is masked, by the files, without systemd."""
    is_wanted = host.is_link(TIMERS_WANTED + timer) or host.exists(TIMERS_WANTED + timer)
    return is_wanted and not any(
        host.link_name(folder + unit) == "null" for folder in MASKS for unit in (timer, service)
    )


def parse_apt_config(text: str) -> "dict[str, str]":
    """Return the settings of `apt-config dump`.

    APT::Periodic::Unattended-Upgrade "1";
    """
    return dict(re.findall(r'^(\S+) "([^"]*)";', text, re.MULTILINE))


def by_apt(host: "Host", request: "Request", daemons: "Daemons") -> "Json":
    """Return whether unattended-upgrades works: it has to be installed, enabled, started, and get fresh lists."""
    if not has_program(host, "unattended-upgrade"):
        return verdict("warning", "not_installed")
    try:
        status, output, _ = host.run(APT_PERIODIC, seconds_for(request))
    except (FileNotFoundError, TooLong):
        status, output = 1, ""
    except (Late, Unknown):
        return verdict("unknown", "timed_out", tool="unattended-upgrades")
    if status:
        return verdict("unknown", "unreadable", tool="unattended-upgrades")
    settings = parse_apt_config(output)
    periods = {name: settings.get("APT::Periodic::" + name, "0") for name in ("Unattended-Upgrade", "Update-Package-Lists")}
    wanted = {name for name, every in periods.items() if not re.match(r"0*[smhd]?$", every)}
    if not host.exists("/run/systemd/system") and not daemons.named("cron"):
        doubt = daemons.doubt("cron") or ("" if daemons.see_all() else "permission_denied")
        if doubt:
            return verdict("unknown", doubt, tool="unattended-upgrades")
    if "Unattended-Upgrade" not in wanted or settings.get("APT::Periodic::Enable", "1") == "0":
        return verdict("warning", "inactive", tool="unattended-upgrades")
    try:
        timers = apt_is_started(host, request, daemons)
    except Unknown as err:
        return verdict("unknown", err.reason, tool="unattended-upgrades")
    reason = "active"
    if APT_TIMER not in timers:
        reason = "inactive"
    elif "Update-Package-Lists" not in wanted or APT_LISTS_TIMER not in timers:
        reason = "lists_not_refreshed"
    return verdict("ok" if reason == "active" else "warning", reason, tool="unattended-upgrades")


def apt_is_started(host: "Host", request: "Request", daemons: "Daemons") -> "list[str]":
    """Return which of apt's two daily jobs are started: by systemd if it runs, else both by a running cron."""
    if host.exists("/run/systemd/system"):
        return active_timers(host, request, (APT_TIMER, APT_LISTS_TIMER))
    return [APT_TIMER, APT_LISTS_TIMER] if daemons.named("cron") and host.may_run("/etc/cron.daily/apt-compat") else []


def by_dnf(host: "Host", request: "Request") -> "Json":
    """Return whether dnf-automatic installs what it finds; by default it only notifies."""
    timer = next(iter(active_timers(host, request, DNF_TIMERS)), None)
    if timer is None:
        is_there = has_program(host, "dnf-automatic") or host.exists("/usr/lib/systemd/system/" + DNF_TIMERS[1])
        return verdict("warning", "inactive" if is_there else "not_installed")
    config = host.text("/etc/dnf/automatic.conf") or host.text("/etc/dnf/dnf5-plugins/automatic.conf")
    does_apply = timer == DNF_TIMERS[0] or re.search(
        r"^\s*apply_updates\s*=\s*(?:yes|true|1)\b", config, re.MULTILINE | re.IGNORECASE
    )
    return verdict("ok" if does_apply else "warning", "active" if does_apply else "only_tells", tool="dnf-automatic")


def by_image(host: "Host", request: "Request") -> "Json":
    """Return whether a tool that replaces the whole system is active, and does more than notify."""
    tools = [IMAGE_UNITS[unit] for unit in active_timers(host, request, tuple(IMAGE_UNITS))]
    policies = {tool: IMAGE_SETTINGS[tool](host) if tool in IMAGE_SETTINGS else "active" for tool in tools}
    for reason in ("active", "only_tells"):
        for tool in tools:
            if policies[tool] == reason:
                return verdict("ok" if reason == "active" else "warning", reason, tool=tool)
    if tools or any(has_program(host, tool) for tool in IMAGE_UNITS.values()):
        return verdict("warning", "inactive")
    return verdict("unknown", "not_supported")


def rpm_ostree_policy(host: "Host") -> str:
    """Return what rpm-ostree's timer does: nothing by default (rpm-ostreed.conf(5)).

    [Daemon]
    AutomaticUpdatePolicy=stage
    """
    policies = re.findall(r"^[ \t]*AutomaticUpdatePolicy[ \t]*=[ \t]*(\S+)", host.text("/etc/rpm-ostreed.conf"), re.MULTILINE)
    return {"check": "only_tells", "stage": "active", "ex-stage": "active", "apply": "active"}.get(
        policies[-1] if policies else "none", "inactive"
    )


def zincati_policy(host: "Host") -> str:
    """Return whether zincati updates: it does unless a setting disables it; it then still runs.

    [updates]
    enabled = false
    """
    files = {path.rpartition("/")[2]: path for pattern in ZINCATI_CONFIGS for path in paths_of(host, pattern)}
    is_on = "true"
    for _, path in sorted(files.items()):
        text = host.text(path)
        part = re.search(r"^[ \t]*\[updates\].*(?:\n(?![ \t]*\[).*)*", text, re.MULTILINE)
        values = re.findall(r"^[ \t]*enabled[ \t]*=[ \t]*(\w+)", part.group() if part else "", re.MULTILINE)
        values += re.findall(r"^[ \t]*updates\.enabled[ \t]*=[ \t]*(\w+)", text, re.MULTILINE)
        is_on = values[-1] if values else is_on
    return "active" if is_on == "true" else "inactive"


IMAGE_SETTINGS = {"rpm-ostree": rpm_ostree_policy, "zincati": zincati_policy}


def automatic_updates(host: "Host", request: "Request", daemons: "Daemons") -> "Json":
    """Return whether this system updates itself; unknown if no supported tool applies."""
    try:
        if image_of(host) in ("ostree", "bootc"):
            return by_image(host, request)
        manager = manager_of(host).name
        if manager == "apt":
            return by_apt(host, request, daemons)
        if manager == "zypper":
            timer = next(iter(active_timers(host, request, SUSE_TIMERS)), None)
            return verdict("ok", "active", tool=timer.partition(".")[0]) if timer else verdict("warning", "inactive")
        if manager == "dnf":
            return by_dnf(host, request)
    except Missing as err:
        return verdict("unknown", err.reason)
    except Unknown as err:
        return verdict("unknown", err.reason)
    return verdict("unknown", "not_supported")
