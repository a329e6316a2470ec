"""Whether the system updates itself, a part of the section security.

A tool that is installed and configured does nothing unless its timer is at work. What systemd has to say of that counts,
not the links that enable a timer: a masked one keeps them, and so does one whose service is masked.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..probe import Broken, Host, Json, Late, Request, TooLong
    from .security import Unknown, has_program, seconds_for, verdict
    from .services import units_named

APT_PERIODIC = ["apt-config", "dump", "APT::Periodic"]
TIMERS_WANTED = "/etc/systemd/system/timers.target.wants/"
APT_TIMER = "apt-daily-upgrade.timer"
DNF_TIMERS = ("dnf-automatic-install.timer", "dnf5-automatic.timer", "dnf-automatic.timer")
SUSE_TIMERS = ("os-update.timer", "transactional-update.timer")
MASKS = ("/etc/systemd/system/", "/run/systemd/system/")  # systemctl(1), mask and its --runtime


def first_at_work(host: "Host", request: "Request", timers: "tuple[str, ...]") -> "str | None":
    """Return the first timer that runs and whose service can be started, None where no one is like that."""
    services = {timer: timer.replace(".timer", ".service") for timer in timers}
    try:
        units = units_named(host, [*services, *services.values()], seconds_for(request))
    except (FileNotFoundError, Broken, Late, Unknown):
        return next((timer for timer in timers if is_linked(host, timer, services[timer])), None)
    active = {one.name for one in units if one.active == "active"}
    masked = {one.name for one in units if one.load == "masked"}
    return next((timer for timer in timers if timer in active and not masked & {timer, services[timer]}), None)


def is_linked(host: "Host", timer: str, service: str) -> bool:
    """Tell whether a timer is enabled and neither it nor its service is masked: what the files say where systemd does not."""
    is_wanted = host.is_link(TIMERS_WANTED + timer) or host.exists(TIMERS_WANTED + timer)
    return is_wanted and not any(
        host.link_name(folder + unit) == "null" for folder in MASKS for unit in (timer, service)
    )


def parse_apt_config(text: str) -> "dict[str, str]":
    """Return the settings of `apt-config dump`.

    APT::Periodic::Unattended-Upgrade "1";
    """
    return dict(re.findall(r'^(\S+) "([^"]*)";', text, re.MULTILINE))


def by_apt(host: "Host", request: "Request") -> "Json":
    """Return whether unattended-upgrades does its work: it has to be there, to be wanted, and to be started."""
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
    told = parse_apt_config(output)
    every = told.get("APT::Periodic::Unattended-Upgrade", "0")
    is_on = every not in ("", "0") and told.get("APT::Periodic::Enable", "1") != "0"
    is_active = is_on and apt_is_started(host, request)
    return verdict("ok" if is_active else "warning", "active" if is_active else "inactive", tool="unattended-upgrades")


def apt_is_started(host: "Host", request: "Request") -> bool:
    """Tell whether apt's daily work is started, by systemd where that runs, else by cron."""
    if host.exists("/run/systemd/system"):
        return first_at_work(host, request, (APT_TIMER,)) is not None
    return host.exists("/etc/cron.daily/apt-compat")


def by_dnf(host: "Host", request: "Request") -> "Json":
    """Return whether dnf-automatic installs what it finds; by default it only tells."""
    timer = first_at_work(host, request, DNF_TIMERS)
    if timer is None:
        is_there = has_program(host, "dnf-automatic") or host.exists("/usr/lib/systemd/system/" + DNF_TIMERS[1])
        return verdict("warning", "inactive" if is_there else "not_installed")
    config = host.text("/etc/dnf/automatic.conf") or host.text("/etc/dnf/dnf5-plugins/automatic.conf")
    does_apply = timer == DNF_TIMERS[0] or re.search(
        r"^\s*apply_updates\s*=\s*(?:yes|true|1)\b", config, re.MULTILINE | re.IGNORECASE
    )
    return verdict("ok" if does_apply else "warning", "active" if does_apply else "only_tells", tool="dnf-automatic")


def automatic_updates(host: "Host", request: "Request") -> "Json":
    """Return whether this system updates itself; unknown where nobody's way of doing that is known."""
    if host.exists("/etc/apt") and host.exists("/var/lib/dpkg/status"):
        return by_apt(host, request)
    if host.exists("/etc/zypp/zypp.conf"):
        timer = first_at_work(host, request, SUSE_TIMERS)
        return verdict("ok", "active", tool=timer.partition(".")[0]) if timer else verdict("warning", "inactive")
    if host.exists("/etc/dnf/dnf.conf"):
        return by_dnf(host, request)
    return verdict("unknown", "not_supported")
