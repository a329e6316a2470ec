"""The section security: firewall, SSH server, access control, fail2ban, automatic updates, failed logins.

Each part is `{state, reason, …}`: `ok`, `warning`, or `unknown` where it could not be read; what is unknown is never
called off. Words for people are not made here. Only root may read some of it: where the request allows sudo for this
section, exactly the command lines below are run with `sudo -n` before them, and no others.
"""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import Host, Json, Late, Request, Theirs, TooLong, lines_of
    from .automatic_updates import automatic_updates
    from .daemons import SSHD_PID_FILE, Daemon, Daemons, check_read
    from .firewall import firewall
    from .logins import failed_logins
    from .ssh_visitors import Block, judged_ssh, matches_all, sshd_settings
    from .updates import paths_of

SSHD_TEST = ["sshd", "-T"]
FAIL2BAN_BANNED = ["fail2ban-client", "banned"]
SECURITY_SECONDS = 5.5  # for all programs together: less than what the section has
LEAST_SECONDS = 0.1
# Other lines of sudo's are warnings, after which the command runs all the same.
REFUSED = re.compile(
    r"^sudo(?:-rs)?: (?:.*(?: required|command not found|expired|validation failure|no new privileges|must be owned)"
    r"|(?:I'm )?sorry|PAM|authentication fail|no valid sudoers|no tty|unable to (?:execute|initialize)|policy plugin)"
    r"|^sorry, user |not in the sudoers|not allowed to run sudo|may not run sudo",
    re.MULTILINE | re.IGNORECASE,
)
WARNED = re.compile(r"^(?:sudo(?:-rs)?: |/etc/sudoers).*$", re.MULTILINE)


def verdict(state: str, reason: str, **more: object) -> "Json":
    """Return one part of the section, without what is not known."""
    told = dict({"state": state, "reason": reason}, **more)
    return {key: value for key, value in told.items() if value is not None}


class Unknown(Exception):
    """A part cannot be judged; `reason` is one of the contract's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CutOff(Unknown):
    """A program says more than is read, or for longer; `output` is what was read of it."""

    def __init__(self, output: str, reason: str) -> None:
        super().__init__(reason)
        self.output = output


def seconds_for(request: "Request", is_last: bool = False) -> float:
    """Return how long a program may take: half of what is left, the last one all of it; raises Unknown.

    So one that hangs makes its own part late, and not the whole section.
    """
    whole = min(SECURITY_SECONDS, 0.9 * request.timeout)
    left = request.begun + whole - time.monotonic()
    if left < LEAST_SECONDS:
        raise Unknown("timed_out")
    return left if is_last else left / 2


def as_root(host: "Host", request: "Request", argv: "list[str]", wanted: "Any" = None, is_last: bool = False) -> str:
    """Return what a program tells root; raises Unknown. `wanted` is a pattern of the lines to keep."""
    return told_root(host, request, argv, wanted, is_last)[0]


def told_root(
    host: "Host", request: "Request", argv: "list[str]", wanted: "Any" = None, is_last: bool = False
) -> "tuple[str, str]":
    """Return a program's output and what it complains of; raises Unknown where we may not be root, or it does not work."""
    if not has_program(host, argv[0]):
        raise Unknown("not_installed")
    is_root = host.is_root()
    if not is_root and "security" not in request.sudo:
        raise Unknown("permission_denied")
    if not is_root and not host.may_ask_sudo(argv):
        raise Unknown("permission_denied")
    seconds = seconds_for(request, is_last)
    try:
        run = host.run if is_root else host.run_sudo
        status, output, errors = run(argv, seconds, wanted=wanted)
    except FileNotFoundError:
        raise Unknown("permission_denied") from None
    except Late as err:
        raise CutOff(err.told[1], "timed_out") from None
    except TooLong as err:
        raise CutOff(err.told[1], "unreadable") from None
    if status:
        is_refused = re.search(r"denied|not permitted|must be root", WARNED.sub("", errors)) or REFUSED.search(errors)
        if is_refused and not is_root:
            host.note_refusal(argv)
        raise Unknown("permission_denied" if is_refused else "unreadable")
    return output, errors


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
    "authenticationmethods": "any",
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
    told = re.match(r'\s*(?:"([^"]*)"|([^\s"=]+))\s*=?\s*(.*)', line)
    if told is None or line.lstrip().startswith("#"):
        return []
    keyword = (told.group(1) or told.group(2) or "").lower()
    return [SSHD_OLD_NAMES.get(keyword, keyword), *sshd_arguments(told.group(3))]


def sshd_arguments(text: str) -> "list[str]":
    r"""Return the words of the rest of a line: in either kind of quotes, with `\` before a quote, up to a comment.

    "one word" 'another' third  # said by hand
    """
    words = []
    for word in re.findall(r"""(?:\\['"\\ ]|"(?:\\["'\\]|[^"])*"|'(?:\\["'\\]|[^'])*'|[^\s"'])+""", text):
        if word.startswith("#"):
            break
        parts = re.findall(r"""\\(['"\\ ])|"((?:\\["'\\]|[^"])*)"|'((?:\\["'\\]|[^'])*)'|(.)""", word)
        words.append(
            "".join(
                escaped or re.sub(r"""\\(["'\\])""", r"\1", two or one) or bare for escaped, two, one, bare in parts
            )
        )
    return words

# Whom a line of sshd_config is for: what is said before any Match, what a Match says to all, or only to some.
EVERYBODY, MATCHED, SOME = "everybody", "matched", "some"


def sshd_lines(
    host: "Host", path: str, depth: int = 0, scope: str = EVERYBODY, files: "list[str] | None" = None
) -> "Iterator[tuple[list[str], str]]":
    """Yield each setting with whom it is for; raises OSError, Theirs. What may not have changed since is added to `files`.

    A Match ends with its file; an included file is for whom the line is that includes it, and a Match in it is for
    its own visitors alone where that line is for some.
    """
    outer, files = scope, [] if files is None else files
    files.append(path)
    for line in lines_of(host.read_roots(path)):
        words = sshd_words(line)
        if not words:
            continue
        if words[0] == "match":
            scope = MATCHED if matches_all(words[1:]) and outer != SOME else Block(SOME).within(outer, words[1:])
        elif words[0] == "include" and depth < INCLUDE_DEPTH:
            for pattern in words[1:]:
                whole = pattern if pattern.startswith("/") else "/etc/ssh/" + pattern
                if not is_there(host, whole.partition("*")[0].rpartition("/")[0]):
                    continue
                names = [name for name in paths_of(host, whole) if is_there(host, name)]
                # All at once: of one that may not be read, it is known all the same when it was changed.
                files.extend(filter(host.exists, [os.path.dirname(whole), *names] if "*" in whole else names))
                for name in names:
                    yield from sshd_lines(host, name, depth + 1, scope, files)
        else:
            yield words, scope


def is_there(host: "Host", path: str) -> bool:
    """Tell whether a path of root's leads somewhere; raises Theirs, OSError."""
    try:
        host.roots_status(path)
    except FileNotFoundError:
        return False
    return True


def sshd_ports(settings: "dict[str, list[str]]") -> "list[int]":
    """Return where sshd listens: the ports of addresses that name one, else the ports.

    ListenAddress 192.0.2.1:2222, [2001:db8::1]:2222, 2001:db8::1
    """
    addresses = settings.get("listenaddress", [])
    told = [re.match(r"(?:\[[^\]]*\]|[^:]*):(\d+)$", address) for address in addresses]
    ports = {one.group(1) for one in told if one}
    if not addresses or not all(told):
        ports.update(settings.get("port") or ["22"])
    return sorted(int(port) for port in ports if port.isdigit())


SSHD_FOLDER = "/etc/ssh/sshd_config.d"
QUIET = frozenset({"quiet", "fatal", "error"})  # of sshd's LogLevel: a refused login is told at INFO
# Of several servers the one that lets most in counts, before that one of which that is not known.
WORST_FIRST = ("warning", "unknown", "ok")


def ssh_server(host: "Host", request: "Request", daemons: "Daemons") -> "Json | None":
    """Return who may log in how, by the server that answers: files of one that does not run say nothing."""
    config = next(filter(host.exists, SSHD_CONFIGS), None)
    if config is None and not has_program(host, "sshd"):
        is_other = bool(daemons.named("dropbear")) or has_program(host, "dropbear")
        return verdict("unknown", "not_supported") if is_other else None
    asked, parts = ask_sshd(host, request), []  # type: list[list[str]] | str, list[Json]
    try:
        for server in daemons.ssh_servers():
            parts.append(told_sshd(host, server, config or SSHD_CONFIGS[0], asked, daemons))
    except Unknown as err:
        parts.append(verdict("unknown", err.reason))
    if daemons.called("dropbear"):
        parts.append(verdict("unknown", daemons.doubt("dropbear") or "not_supported"))
    if daemons.doubt():
        parts.append(verdict("unknown", daemons.doubt()))
    return min(parts, key=lambda part: WORST_FIRST.index(part["state"]))


def told_sshd(
    host: "Host", server: "Daemon | None", config: str, asked: "list[list[str]] | str", daemons: "Daemons"
) -> "Json":
    """Return who may log in how at one server; one of which that is not known hides nothing of another.

    One that may be anybody's is looked at all the same, as it may log less than is counted on.
    """
    try:
        part = sshd_part(host, server, config, asked, daemons)
        return part if server is None or server.is_sure else verdict("unknown", "permission_denied")
    except Unknown as err:
        return verdict("unknown", err.reason)


def ask_sshd(host: "Host", request: "Request") -> "list[list[str]] | str":
    """Return the settings by sshd itself, why not where that cannot be had."""
    try:
        return [sshd_words(line) for line in lines_of(as_root(host, request, SSHD_TEST)) if line.strip()]
    except Unknown as err:
        return err.reason


def sshd_part(
    host: "Host", server: "Daemon | None", config: str, asked: "list[list[str]] | str", daemons: "Daemons"
) -> "Json":
    """Return who may log in how at one server: asked of sshd itself where we may, else read as it reads; raises Unknown.

    A file of /etc/ssh/sshd_config.d that only root may read (cloud-init's is one) could say anything. What stands on
    the server's command line comes before all files.
    """
    options = server.options() if server else []
    words_said = filter(None, (sshd_words(value) for letter, value in options if letter == "o"))
    said = [(words, EVERYBODY) for words in words_said]
    # Without a port of its own an address has these, and those of the files count for nothing.
    ports = {"port": [value for letter, value in options if letter == "p"]} if "p" in dict(options) else {}
    files, settings, conditional = [], None, None  # type: list[str], dict[str, list[str]] | None, set[str] | None
    lines = []  # type: list[tuple[list[str], str]]
    path = dict(options).get("f", config)
    try:
        lines = said + list(sshd_lines(host, path, files=files))
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
        by_file, (settings, _) = settings, sshd_settings(iter(said + [(words, EVERYBODY) for words in asked]))
        source = "sshd"
        if ports or {"port", "listenaddress"}.intersection(words[0] for words, _ in said):
            # sshd -T tells each address with the port that it would have without the options.
            known = sshd_settings(iter(said))[0] if by_file is None else by_file
            settings.update({name: known[name] if name in known else [] for name in ("port", "listenaddress")})
    if settings is None:
        raise Unknown(asked if isinstance(asked, str) else "permission_denied")
    level = (settings.get("loglevel") or ["info"])[0].lower()
    daemons.is_quiet = daemons.is_quiet or is_quiet or level in QUIET or bool({"q", "E"}.intersection(dict(options)))
    if server:
        check_read(host, server, files, (settings.get("pidfile") or [SSHD_PID_FILE])[0])
    return judged_ssh(host, lines, dict(settings, **ports), conditional, source, server is not None)


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


def fail2ban(host: "Host", request: "Request", daemons: "Daemons") -> "Json | None":
    """Return whether fail2ban runs and whom it holds off now, None where it is not installed; its socket may outlive it."""
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
    """Judge each part by itself; one that is not there is left out."""
    daemons = Daemons(host)
    told = {
        "firewall": firewall(host, request),
        "ssh": ssh_server(host, request, daemons),
        "access_control": access_control(host),
        "fail2ban": fail2ban(host, request, daemons),
        "automatic_updates": automatic_updates(host, request, daemons),
        "failed_logins": failed_logins(host, request, daemons, memo),
    }
    return {name: part for name, part in told.items() if part is not None}
