"""The section security: firewall, SSH server, access control, fail2ban, automatic updates, failed logins.

Each part is `{state, reason, …}`: `ok`, `warning`, or `unknown` where it could not be read; what is unknown is never
called off. Words for people are not made here. Only root may read some of it: where the request allows sudo for this
section, exactly the command lines below are run with `sudo -n` before them, and no others.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..probe import Host, Json, Late, Request
    from .firewall import firewall
    from .logins import failed_logins
    from .updates import paths_of

SSHD_TEST = ["sshd", "-T"]
FAIL2BAN_BANNED = ["fail2ban-client", "banned"]
APT_PERIODIC = ["apt-config", "dump", "APT::Periodic"]
SECURITY_SECONDS = 8.0
TIMERS_WANTED = "/etc/systemd/system/timers.target.wants/"


def verdict(state: str, reason: str, **more: object) -> "Json":
    """Return one part of the section, without what is not known."""
    told = dict({"state": state, "reason": reason}, **more)
    return {key: value for key, value in told.items() if value is not None}


class Unknown(Exception):
    """A part cannot be judged; `reason` is one of the contract's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def as_root(host: "Host", request: "Request", argv: "list[str]") -> str:
    """Return what a program tells root; raises Unknown where we may not be it, or it does not work."""
    if not has_program(host, argv[0]):
        raise Unknown("not_installed")
    is_root = host.is_root()
    if not is_root and "security" not in request.sudo:
        raise Unknown("permission_denied")
    try:
        status, output, errors = host.run(argv if is_root else ["sudo", "-n", *argv], SECURITY_SECONDS)
    except FileNotFoundError:
        raise Unknown("permission_denied") from None
    except Late:
        raise Unknown("timed_out") from None
    if status:
        is_refused = re.search(r"^sudo|denied|not permitted|must be root", errors, re.MULTILINE)
        raise Unknown("permission_denied" if is_refused else "unreadable")
    return output


def is_running(host: "Host", unit: str) -> bool:
    """Tell whether a service has processes, by its cgroup (systemd) or its mark (OpenRC)."""
    places = ("/sys/fs/cgroup/system.slice/", "/sys/fs/cgroup/systemd/system.slice/")
    is_grouped = any(host.exists(place + unit + ".service") for place in places)
    return is_grouped or host.exists("/run/openrc/started/" + unit)


PROGRAM_FOLDERS = ("/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/", "/usr/local/sbin/", "/run/current-system/sw/bin/")


def has_program(host: "Host", name: str) -> bool:
    """Tell whether a program is installed where administration's are."""
    return any(host.exists(folder + name) for folder in PROGRAM_FOLDERS)


# ---------------------------------------------------------------- sshd

SSHD_CONFIGS = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")
# What sshd does where nothing is said (sshd_config(5)).
SSHD_DEFAULTS = {
    "permitrootlogin": "prohibit-password",
    "passwordauthentication": "yes",
    "kbdinteractiveauthentication": "yes",
    "usepam": "no",
}
SSHD_OLD_NAMES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
}
INCLUDE_DEPTH = 16


def sshd_words(line: str) -> "list[str]":
    """Return keyword (in small letters) and arguments of a line of sshd_config; keyword=argument is the same.

    Port 22
    Include /etc/ssh/sshd_config.d/*.conf   # by hand
    """
    words = re.findall(r'"([^"]*)"|(#.*)|([^\s"#]+)', re.sub(r"^\s*(\w+)\s*=\s*", r"\1 ", line))
    plain = []
    for quoted, comment, bare in words:
        if comment:
            break
        plain.append(quoted or bare)
    return [SSHD_OLD_NAMES.get(plain[0].lower(), plain[0].lower()), *plain[1:]] if plain else []


def sshd_lines(host: "Host", path: str, depth: int = 0) -> "Iterator[tuple[list[str], bool]]":
    """Yield each setting with whether it holds only for some visitors; raises OSError.

    A Match ends with its file, and an included file is inside the Match in which it is included.
    """
    is_conditional = False
    for line in host.read(path).splitlines():
        words = sshd_words(line)
        if not words:
            continue
        if words[0] == "match":
            is_conditional = [word.lower() for word in words[1:]] != ["all"]
        elif words[0] == "include" and depth < INCLUDE_DEPTH:
            for pattern in words[1:]:
                whole = pattern if pattern.startswith("/") else "/etc/ssh/" + pattern
                for name in paths_of(host, whole):
                    if host.exists(name):
                        yield from ((one, is_conditional or inner) for one, inner in sshd_lines(host, name, depth + 1))
        else:
            yield words, is_conditional


def sshd_settings(lines: "Iterator[tuple[list[str], bool]]") -> "tuple[dict[str, list[str]], set[str]]":
    """Return the arguments that hold for everybody, of which the first wins but for ports, and what a Match sets."""
    settings = {}  # type: dict[str, list[str]]
    conditional = set()
    for words, is_conditional in lines:
        keyword, arguments = words[0], words[1:]
        if is_conditional:
            conditional.add(keyword)
        elif keyword in ("port", "listenaddress"):
            settings.setdefault(keyword, []).extend(arguments[:1])
        else:
            settings.setdefault(keyword, arguments[:1])
    return settings, conditional


def sshd_ports(settings: "dict[str, list[str]]") -> "list[int]":
    """Return where sshd listens: the ports of addresses that name one, else the ports.

    ListenAddress 192.0.2.1:2222, [2001:db8::1]:2222, 2001:db8::1
    """
    addresses = settings.get("listenaddress", [])
    told = [re.match(r"(?:\[[^\]]*\]|[^:]*):(\d+)$", address) for address in addresses]
    ports = {one.group(1) for one in told if one}
    if not addresses or not all(told):
        ports.update(settings.get("port", ["22"]))
    return sorted(int(port) for port in ports if port.isdigit())


def ssh_server(host: "Host", request: "Request") -> "Json | None":
    """Return who may log in how; asked of sshd itself where we may, else read as it reads.

    A file of /etc/ssh/sshd_config.d that only root may read (cloud-init's is one) could say anything.
    """
    config = next(filter(host.exists, SSHD_CONFIGS), None)
    if config is None and not has_program(host, "sshd"):
        return verdict("unknown", "not_supported") if has_program(host, "dropbear") else None
    settings, conditional = None, None  # type: tuple[dict[str, list[str]] | None, set[str] | None]
    try:
        settings, conditional = sshd_settings(sshd_lines(host, config or SSHD_CONFIGS[0]))
        source = "sshd_config"
    except OSError:
        source = "sshd"
    try:
        told = as_root(host, request, SSHD_TEST).splitlines()
        settings, _ = sshd_settings((sshd_words(line), False) for line in told if line.strip())
        source = "sshd"
    except Unknown as err:
        if settings is None:
            return verdict("unknown", err.reason)
    return judged_ssh(settings, conditional, source)


def judged_ssh(settings: "dict[str, list[str]]", conditional: "set[str] | None", source: str) -> "Json":
    """Return what the settings mean: PAM asks for passwords, too, where it may ask questions."""
    value = {key: (settings.get(key) or [default])[0].lower() for key, default in SSHD_DEFAULTS.items()}
    root = value["permitrootlogin"].replace("without-password", "prohibit-password")
    is_asked = value["kbdinteractiveauthentication"] == "yes" and value["usepam"] == "yes"
    by_password = value["passwordauthentication"] == "yes" or is_asked
    reason = "keys_only"
    if by_password:
        reason = "root_password_login" if root == "yes" else "password_login"
    told = verdict("warning" if by_password else "ok", reason, source=source, ports=sshd_ports(settings))
    told.update(root_login=root, password_login=by_password)
    if conditional is not None:
        told["conditional"] = sorted(conditional.intersection(SSHD_DEFAULTS))
    return told


# ---------------------------------------------------------------- SELinux, AppArmor


def access_control(host: "Host") -> "Json | None":
    """Return whether SELinux or AppArmor is at work, None where the kernel has neither."""
    enforce = host.text("/sys/fs/selinux/enforce")
    if enforce in ("0", "1"):
        is_enforcing = enforce == "1"
        state, reason = ("ok", "enforcing") if is_enforcing else ("warning", "permissive")
        return verdict(state, reason, kind="selinux")
    wanted = re.search(r"^SELINUX=(\w+)", host.text("/etc/selinux/config"), re.MULTILINE)
    if wanted and wanted.group(1) == "disabled" and has_program(host, "getenforce"):
        return verdict("warning", "disabled", kind="selinux")
    enabled = host.text("/sys/module/apparmor/parameters/enabled")
    if enabled in ("Y", "N"):
        state, reason = ("ok", "enabled") if enabled == "Y" else ("warning", "disabled")
        return verdict(state, reason, kind="apparmor")
    return None


# ---------------------------------------------------------------- fail2ban


def parse_banned(text: str) -> "dict[str, int]":
    """Return how many addresses each jail of `fail2ban-client banned` holds.

    [{'sshd': ['192.0.2.7', '2001:db8::7']}, {'nginx': []}]
    """
    import ast  # noqa: PLC0415

    try:
        told = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise Unknown("unreadable") from None
    rows = told if isinstance(told, list) else []
    return {str(jail): len(held) for row in rows if isinstance(row, dict) for jail, held in row.items()}


def fail2ban(host: "Host", request: "Request") -> "Json | None":
    """Return whether fail2ban runs and whom it holds off now, None where it is not installed."""
    if not has_program(host, "fail2ban-server") and not host.exists("/etc/fail2ban"):
        return None
    if not is_running(host, "fail2ban") and not host.exists("/run/fail2ban/fail2ban.sock"):
        return verdict("warning", "inactive")
    try:
        jails = parse_banned(as_root(host, request, FAIL2BAN_BANNED))
    except Unknown as err:
        return verdict("ok", "active", bans_unknown=err.reason)
    return verdict("ok", "active", bans=sum(jails.values()), jails=jails)


# ---------------------------------------------------------------- automatic updates


def parse_apt_config(text: str) -> "dict[str, str]":
    """Return the settings of `apt-config dump`.

    APT::Periodic::Unattended-Upgrade "1";
    """
    return dict(re.findall(r'^(\S+) "([^"]*)";', text, re.MULTILINE))


def is_scheduled(host: "Host", timer: str) -> bool:
    """Tell whether systemd starts a timer."""
    return host.is_link(TIMERS_WANTED + timer) or host.exists(TIMERS_WANTED + timer)


def by_apt(host: "Host") -> "Json":
    """Return whether unattended-upgrades does its work: it has to be there, to be wanted, and to be started."""
    if not has_program(host, "unattended-upgrade"):
        return verdict("warning", "not_installed")
    try:
        status, output, _ = host.run(APT_PERIODIC, SECURITY_SECONDS)
    except FileNotFoundError:
        status, output = 1, ""
    except Late:
        return verdict("unknown", "timed_out", tool="unattended-upgrades")
    if status:
        return verdict("unknown", "unreadable", tool="unattended-upgrades")
    told = parse_apt_config(output)
    every = told.get("APT::Periodic::Unattended-Upgrade", "0")
    is_on = every not in ("", "0") and told.get("APT::Periodic::Enable", "1") != "0"
    has_timers = host.exists("/run/systemd/system")
    is_started = is_scheduled(host, "apt-daily-upgrade.timer") if has_timers else host.exists("/etc/cron.daily/apt-compat")
    is_active = is_on and is_started
    return verdict("ok" if is_active else "warning", "active" if is_active else "inactive", tool="unattended-upgrades")


DNF_TIMERS = ("dnf-automatic-install.timer", "dnf5-automatic.timer", "dnf-automatic.timer")


def by_dnf(host: "Host") -> "Json":
    """Return whether dnf-automatic installs what it finds; by default it only tells."""
    timer = next((one for one in DNF_TIMERS if is_scheduled(host, one)), None)
    if timer is None:
        is_there = has_program(host, "dnf-automatic") or host.exists("/usr/lib/systemd/system/" + DNF_TIMERS[1])
        return verdict("warning", "inactive" if is_there else "not_installed")
    config = host.text("/etc/dnf/automatic.conf") or host.text("/etc/dnf/dnf5-plugins/automatic.conf")
    does_apply = timer == DNF_TIMERS[0] or re.search(
        r"^\s*apply_updates\s*=\s*(?:yes|true|1)\b", config, re.MULTILINE | re.IGNORECASE
    )
    return verdict("ok" if does_apply else "warning", "active" if does_apply else "only_tells", tool="dnf-automatic")


SUSE_TIMERS = ("os-update.timer", "transactional-update.timer")


def automatic_updates(host: "Host") -> "Json":
    """Return whether this system updates itself; unknown where nobody's way of doing that is known."""
    if host.exists("/etc/apt") and host.exists("/var/lib/dpkg/status"):
        return by_apt(host)
    if host.exists("/etc/zypp/zypp.conf"):
        timer = next((one for one in SUSE_TIMERS if is_scheduled(host, one)), None)
        return verdict("ok", "active", tool=timer.partition(".")[0]) if timer else verdict("warning", "inactive")
    if host.exists("/etc/dnf/dnf.conf"):
        return by_dnf(host)
    return verdict("unknown", "not_supported")


# ---------------------------------------------------------------- the section


def collect_security(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Judge each part by itself; one that is not there is left out."""
    told = {
        "firewall": firewall(host, request),
        "ssh": ssh_server(host, request),
        "access_control": access_control(host),
        "fail2ban": fail2ban(host, request),
        "automatic_updates": automatic_updates(host),
        "failed_logins": failed_logins(host, request),
    }
    return {name: part for name, part in told.items() if part is not None}


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("security", collect_security, 6))
