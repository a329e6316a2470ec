"""The section security: firewall, SSH server, access control, fail2ban, automatic updates, failed logins.

Each part is `{state, reason, …}`: `ok`, `warning`, or `unknown` if it could not be read; unknown never means off. The
reader makes the texts for people. Some parts need root: if the request allows sudo for this section, exactly the
command lines below are run with `sudo -n` before them, and no others.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request, Theirs, lines_of
    from .automatic_updates import automatic_updates
    from .daemons import SSHD_PID_FILE, Daemon, Daemons, check_read
    from .firewall import firewall
    from .installed import has_program, paths_of
    from .logins import failed_logins
    from .ssh_visitors import evaluate_ssh, sshd_settings
    from .sshd_config import EVERYBODY, SOME, SSHD_CONFIGS, sshd_lines, sshd_words
    from .verdicts import Unknown, as_root, is_running, verdict

SSHD_TEST = ["sshd", "-T"]
FAIL2BAN_BANNED = ["fail2ban-client", "banned"]


# ---------------------------------------------------------------- sshd

SSHD_FOLDER = "/etc/ssh/sshd_config.d"
QUIET = frozenset({"quiet", "fatal", "error"})  # of sshd's LogLevel: refused logins are logged at INFO
# Of several servers the most permissive counts, then an unknown one.
WORST_FIRST = ("warning", "unknown", "ok")


def ssh_server(host: "Host", request: "Request", daemons: "Daemons") -> "Json | None":
    """Return who can log in and how, by the running servers: the files of one that does not run mean nothing."""
    config = next(filter(host.exists, SSHD_CONFIGS), None)
    if config is None and not has_program(host, "sshd"):
        is_other = bool(daemons.named("dropbear")) or has_program(host, "dropbear")
        return verdict("unknown", "not_supported") if is_other else None
    asked, parts = ask_sshd(host, request), []  # type: list[list[str]] | str, list[Json]
    try:
        for server in daemons.ssh_servers():
            parts.append(sshd_part_or_unknown(host, server, config or SSHD_CONFIGS[0], asked, daemons))
    except Unknown as err:
        parts.append(verdict("unknown", err.reason))
    if daemons.called("dropbear"):
        parts.append(verdict("unknown", daemons.doubt("dropbear") or "not_supported"))
    if daemons.doubt():
        parts.append(verdict("unknown", daemons.doubt()))
    return min(parts, key=lambda part: WORST_FIRST.index(part["state"]))


def sshd_part_or_unknown(
    host: "Host", server: "Daemon | None", config: str, asked: "list[list[str]] | str", daemons: "Daemons"
) -> "Json":
    """Return who can log in and how at one server, an unknown part if that cannot be read: other servers still count.

    A process that may belong to any user is read as well, as it may log less than expected.
    """
    try:
        part = sshd_part(host, server, config, asked, daemons)
        return part if server is None or server.is_sure else verdict("unknown", "permission_denied")
    except Unknown as err:
        return verdict("unknown", err.reason)


def ask_sshd(host: "Host", request: "Request") -> "list[list[str]] | str":
    """Return the settings that `sshd -T` prints, or the reason why it cannot be run."""
    try:
        return [sshd_words(line) for line in lines_of(as_root(host, request, SSHD_TEST)) if line.strip()]
    except Unknown as err:
        return err.reason


def sshd_part(
    host: "Host", server: "Daemon | None", config: str, asked: "list[list[str]] | str", daemons: "Daemons"
) -> "Json":
    """Return who can log in and how at one server: from sshd itself if allowed, else from its files; raises Unknown.

    A file of /etc/ssh/sshd_config.d that only root may read (such as cloud-init's) could contain anything. Options on
    the server's command line come before all files.
    """
    options = server.options() if server else []
    option_lines = filter(None, (sshd_words(value) for letter, value in options if letter == "o"))
    options_first = [(words, EVERYBODY) for words in option_lines]
    # Addresses without a port use these, and ports in the files do not count.
    ports = {"port": [value for letter, value in options if letter == "p"]} if "p" in dict(options) else {}
    files, settings, conditional = [], None, None  # type: list[str], dict[str, list[str]] | None, set[str] | None
    lines = []  # type: list[tuple[list[str], str]]
    path = dict(options).get("f", config)
    try:
        lines = options_first + list(sshd_lines(host, path, files=files))
        settings, conditional = sshd_settings(iter(lines))
        levels = [word.lower() for words, scope in lines if words[0] == "loglevel" and scope == SOME for word in words[1:]]
        is_quiet = not QUIET.isdisjoint(levels)
        source = "sshd_config"
    except Theirs:
        raise Unknown("permission_denied") from None
    except OSError:
        source, is_quiet = "sshd", False
        files.extend(filter(host.exists, [SSHD_FOLDER, *paths_of(host, SSHD_FOLDER + "/*.conf")]))
    if isinstance(asked, list) and path in SSHD_CONFIGS:
        by_file, (settings, _) = settings, sshd_settings(iter(options_first + [(words, EVERYBODY) for words in asked]))
        source = "sshd"
        if ports or {"port", "listenaddress"}.intersection(words[0] for words, _ in options_first):
            # sshd -T prints each address with the port that it would have without the options.
            known = sshd_settings(iter(options_first))[0] if by_file is None else by_file
            settings.update({name: known[name] if name in known else [] for name in ("port", "listenaddress")})
    if settings is None:
        raise Unknown(asked if isinstance(asked, str) else "permission_denied")
    level = (settings.get("loglevel") or ["info"])[0].lower()
    daemons.is_quiet = daemons.is_quiet or is_quiet or level in QUIET or bool({"q", "E"}.intersection(dict(options)))
    if server:
        check_read(host, server, files, (settings.get("pidfile") or [SSHD_PID_FILE])[0])
    return evaluate_ssh(host, lines, dict(settings, **ports), conditional, source, server is not None)


# ---------------------------------------------------------------- SELinux, AppArmor


def access_control(host: "Host") -> "Json | None":
    """Return whether SELinux or AppArmor is active, None if the kernel has neither."""
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
    """Return the number of banned addresses by jail, from the output of `fail2ban-client banned`.

    [{'sshd': ['192.0.2.7', '2001:db8::7']}, {'nginx': []}]
    """
    import ast  # noqa: PLC0415

    try:
        parsed = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise Unknown("unreadable") from None
    rows = parsed if isinstance(parsed, list) else []
    return {str(jail): len(held) for row in rows if isinstance(row, dict) for jail, held in row.items()}


def fail2ban(host: "Host", request: "Request", daemons: "Daemons") -> "Json | None":
    """Return whether fail2ban runs and how many it bans now, None if it is not installed; its socket may outlive it."""
    if not has_program(host, "fail2ban-server") and not host.exists("/etc/fail2ban"):
        return None
    if not (is_running(host, "fail2ban") or daemons.named("fail2ban-server")):
        if daemons.doubt("fail2ban-server"):
            return verdict("unknown", daemons.doubt("fail2ban-server"))
        if daemons.see_all() or not host.exists("/run/fail2ban/fail2ban.sock"):
            return verdict("warning", "inactive")
    try:
        jails = parse_banned(as_root(host, request, FAIL2BAN_BANNED))
    except Unknown as err:
        return verdict("ok", "active", bans_unknown=err.reason)
    return verdict("ok", "active", bans=sum(jails.values()), jails=jails)


# ---------------------------------------------------------------- the section


def collect_security(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Evaluate each part by itself; one that is not available is left out."""
    daemons = Daemons(host)
    parts = {
        "firewall": firewall(host, request),
        "ssh": ssh_server(host, request, daemons),
        "access_control": access_control(host),
        "fail2ban": fail2ban(host, request, daemons),
        "automatic_updates": automatic_updates(host, request, daemons),
        "failed_logins": failed_logins(host, request, daemons, memo),
    }
    return {name: part for name, part in parts.items() if part is not None}
