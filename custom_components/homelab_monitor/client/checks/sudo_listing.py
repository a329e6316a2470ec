"""Parse `sudo -l` for one program: whether its user may run it as root, without a password and without hindrance.

sudo shows rules and settings as they were written, so not all can be understood here: patterns, aliases, lists of
users. Each result is therefore True, False, or None for "not known"; what is not understood is never True.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field, replace
import re
from types import MappingProxyType
from typing import Final

from ..errors import first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the listing says about the program."""

    has_rule: bool | None = False
    """Whether the rule that counts lets the user run it as root without a password."""
    is_named: bool = False
    """Whether a rule that does so names it; another one may allow everything."""
    has_all: bool = False
    """Whether some rule allows every command, if only with a password: `sudo -l PROGRAM` then proves nothing."""
    is_free: bool = False
    """Whether the user may run every command as root without a password; nothing else matters then."""
    may_run: bool = False
    """Whether a rule that does not allow everything may run it without a password, in any way."""
    is_open: bool = False
    """Whether a rule allows arguments."""
    has_root_folder: bool = False
    """Whether some rule has a root folder: `sudo -l PROGRAM` then says no, and sudo runs it."""
    overruled_by: str = ""
    """The rule that overrules the one that would allow it."""
    stopped_by: str = ""
    """The setting that keeps it from running although a rule allows it."""
    loosened_by: str = ""
    """What lets the caller choose its variables or its root folder, and so what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One command of a rule that names, or may name, the program for root; the last that matches a call counts."""

    path: str
    names: bool | None
    """Whether path and users are those of the program as root, whatever the arguments are."""
    matches: bool | None
    """Whether it matches a call without arguments."""
    is_passwordless: bool | None
    """Whether no password is required."""
    is_enough: bool | None
    """Whether a call that it matches runs the program."""
    allows: bool
    takes: bool | None
    """Whether arguments are allowed."""
    takes_any: bool
    tags: frozenset[str]
    chroot: str
    """Its root folder, "" if the rule names none."""
    is_known: bool
    """Whether everything before the command is understood."""
    rule: str = ""
    groups: str = ""
    """For which groups, besides those of the users."""
    is_conditional: bool = False
    """Whether only sudo knows if it applies now: it has a date, or a digest of the file."""

    @property
    def is_all(self) -> bool:
        """Return whether it matches every command."""
        return self.path == "ALL"

    @property
    def may_allow(self) -> bool:
        """Return whether it may let a user run the program as root without a password, in any way."""
        return self.allows and self.is_passwordless is not False

    def overrules(self, earlier: _Entry) -> bool:
        """Return whether it overrules an earlier entry for every call that that one matches."""
        return (
            self.names is True
            and not self.is_conditional
            and not self.chroot
            # sudo finds the named program under every path that ends in the same name, and under no other.
            and (self.is_all or earlier.path.rpartition("/")[2] == self.path.rpartition("/")[2] != "")
            and (self.takes_any or (self.matches is True and earlier.takes is False))
            and (self.groups == "ALL" or not earlier.groups)
        )


_RULE: Final = re.compile(r"\s+\(([^)]*)\) (.*)")
_COMMA: Final = re.compile(r"(\\?),\s+")
"""Separator of two commands. A backslash before it may be part of the argument or its end: both look alike."""
_QUOTED_NOTHING: Final = r"\"\""
"""How sudo up to at least 1.9.5 (Debian 11, RHEL 8 and 9) shows the `""` of "without arguments"."""
_TAG: Final = re.compile(r"(?<!\S)(?:([A-Z_]+): |([A-Z_]+=\S+) |sha\d+:\S+ )")
"""Tags (NOPASSWD, NOEXEC …), options (CWD=…) and digests of sudoers(5), which precede a command."""
_TAGS: Final = frozenset(
    f"{no}{name}"
    for no in ("", "NO")
    for name in ("PASSWD", "EXEC", "SETENV", "LOG_INPUT", "LOG_OUTPUT", "INTERCEPT", "MAIL", "FOLLOW")
)
"""All tags of sudoers(5)."""
_DATES: Final = frozenset({"NOTBEFORE", "NOTAFTER"})
_OPTIONS: Final = _DATES | {
    *("APPARMOR_PROFILE", "CHROOT", "CWD", "LIMITPRIVS", "PRIVS", "ROLE", "TIMEOUT", "TYPE"),
}
"""All options of sudoers(5)."""
_HARMLESS_OPTION: Final = re.compile(r"(?:NOTBEFORE|NOTAFTER|TIMEOUT)=.*|(?:CWD|CHROOT)=\*")
"""Options that sudo itself evaluates when it lists the command, or that only allow something."""
_ROOT_FOLDER_OPTION: Final = re.compile(r"(?<!\S)CHROOT=")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+:@%=~-]+")
"""Paths without patterns or escapes."""
_ODD: Final = re.compile(r"//|/\.\.?(?:/|$)")
"""In paths that may be another path, written differently."""
_USER: Final = re.compile(r"(?!(?i:root)\$?$)[a-z0-9_][a-zA-Z0-9_.-]*\$?|#[0-9]+")
"""Plain users: no alias, no group."""
_ROOT: Final = re.compile(r"root|ALL|#0+")


def read_listing(
    lines: Sequence[str],
    paths: Sequence[str],
    *,
    is_sudo_rs: bool,
    is_allowed: bool,
    links: Collection[str] = (),
) -> Listed:
    """Parse the lines of `sudo -l` for a program with these paths.

    `is_allowed`: whether `sudo -l PROGRAM` says that it may be run, if only with a password. `links` are paths, folders
    and patterns of the listing that lead to the program's file on the host.
    """
    start = next((number for number, line in enumerate(lines) if _RULE.match(line)), len(lines))
    settings = _settings(lines[:start], paths)
    reader = _Reader(paths, links, settings, is_sudo_rs=is_sudo_rs)
    named = [entry for line in lines[start:] for entry in reader.entries(line)]
    entries = [entry for entry in named if entry.matches is not False]
    if is_allowed:
        # The last entry that matches does not forbid.
        entries = [entry for entry in entries if entry.allows or entry.matches]
    if len(entries) > 1:
        # What sudo says about the program may come from another one of them.
        entries = [replace(entry, matches=None) if entry.is_conditional else entry for entry in entries]
    has_rule = _last_word(entries)
    if is_allowed and not any(entry.matches for entry in entries) and has_rule is False:
        has_rule = None
    last = next((entry for entry in reversed(entries) if entry.matches), None)
    stopped_by = _stop_of_all(settings, entries)
    if stopped_by == "intercept" and _names_others(lines[start:], paths):
        # sudo then checks what the script starts as well, and may allow it.
        stopped_by = None
    # An earlier entry still counts for what no later one matches: another argument, another group or path.
    effective = [
        each
        for at, each in enumerate(named)
        if each.may_allow and not any(one.overrules(each) for one in named[at + 1 :])
    ]
    is_free = any(each.is_all and each.names and each.is_passwordless and not each.is_conditional for each in effective)
    # A user who may run everything needs no detour.
    bound = [] if is_free else [each for each in effective if not each.is_all]
    # sudo-rs shows no settings, and tags only in newer versions.
    sets = any("SETENV" in each.tags and each.is_known for each in bound)
    loosened_by = ("setenv" if sets else "") if is_sudo_rs else _loose_of_all(settings, bound)
    # A rule that may match the script may allow arguments.
    is_unsure = not is_sudo_rs and any(each.takes is not False and not _is_open(each) for each in bound)
    certain = [entry for entry in entries if entry.matches and entry.is_enough]
    return Listed(
        has_rule=None if has_rule and (stopped_by is None or loosened_by is None or is_unsure) else has_rule,
        is_named=any(entry.path in paths for entry in certain),
        has_all=any(entry.is_all for entry in entries),
        is_free=is_free,
        may_run=bool(bound),
        is_open=any(map(_is_open, bound)),
        has_root_folder=any(map(_ROOT_FOLDER_OPTION.search, lines[start:])),
        overruled_by=last.rule if last and has_rule is False and certain else "",
        stopped_by=stopped_by or "",
        loosened_by=loosened_by or "",
    )


def wants_terminal(words: str) -> bool:
    """Return whether sudo refuses for lack of a terminal (`requiretty` of sudoers(5)); sudo-rs has no such option."""
    return "you must have a tty to run sudo" in words


def _last_word(entries: Sequence[_Entry]) -> bool | None:
    """Return the verdict of the entries: the last that matches counts, unless one after it that may match differs."""
    answers: set[bool | None] = set()
    for entry in reversed(entries):
        answers.add(entry.is_enough)
        if entry.matches:
            break
    else:
        answers |= {False}
    return answers.pop() if len(answers) == 1 else None


def _stop_of_all(settings: _Settings, entries: Sequence[_Entry]) -> str | None:
    """Return what stops the program: the tags of the last that matches count, if those that may match do not differ."""
    stops: list[str | None] = []
    for entry in reversed(entries):
        if entry.matches or entry.allows:
            stops.append(_stop(settings, entry.tags))
        if entry.matches:
            break
    else:
        stops.append(_stop(settings, frozenset()))
    return stops[-1] if stops[-1] or not any(stop != "" for stop in stops) else None


def _loose_of_all(settings: _Settings, entries: Sequence[_Entry]) -> str | None:
    """Return what lets the caller choose variables or root folder by any entry, also by one that only may match."""
    found = [_loose(settings, entry) for entry in entries]
    return next(filter(None, found), None if None in found else "")


def _is_open(entry: _Entry) -> bool:
    """Return whether an entry certainly allows arguments."""
    return bool(entry.names and entry.is_passwordless and entry.takes)


# ---------------------------------------------------------------- rules


@dataclass(slots=True)
class _Prefix:
    """Tags and options before the commands of one rule; they also apply to the commands that follow.

    Each part is computed when it changes, as a line may have thousands of either.
    """

    tags: frozenset[str] = frozenset()
    ever: frozenset[str] = frozenset()
    """All tags so far, also those undone since."""
    chroot: str = ""
    harmful: frozenset[str] = frozenset()
    """Options that may change what runs; "" for unknown tags and options."""
    is_dated: bool = False
    is_known: bool = True
    """Whether this is certainly not part of an argument."""

    def read(self, command: str) -> tuple[str, bool]:
        """Return a command without its tags and options, and whether they include a digest."""
        start, has_digest = 0, False
        while tag := _TAG.match(command, start):
            start = tag.end()
            if tag[1]:
                self._tag(tag[1])
            elif tag[2]:
                self._option(tag[2])
            else:
                has_digest = True
        return command[start:], has_digest

    def _tag(self, name: str) -> None:
        """Add a tag, which undoes its opposite."""
        if name not in _TAGS:
            self.harmful |= {""}
        elif name not in self.tags:
            self.tags = self.tags - {name.removeprefix("NO"), f"NO{name}"} | {name}
            self.ever |= {name}

    def _option(self, option: str) -> None:
        """Add an option, which replaces an earlier one of that name."""
        name, _, value = option.partition("=")
        known = name if name in _OPTIONS else ""
        self.harmful -= {known} - {""}
        if not _HARMLESS_OPTION.fullmatch(option):
            self.harmful |= {known}
        self.is_dated = self.is_dated or name in _DATES
        self.chroot = value if name == "CHROOT" else self.chroot

    @property
    def effective(self) -> frozenset[str]:
        """Return the tags that apply; if that is not certain, those that allow more."""
        if self.is_known:
            return self.tags
        return (self.tags | (self.ever & {"NOPASSWD", "SETENV"})) - {"PASSWD", "NOSETENV"}

    @property
    def is_plain(self) -> bool:
        """Return whether everything so far is understood and nothing changes what runs."""
        return self.is_known and not self.harmful


@dataclass(frozen=True, slots=True)
class _Reader:
    """Parser of the rules of a listing."""

    paths: Sequence[str]
    links: Collection[str]
    settings: _Settings
    is_sudo_rs: bool = field(kw_only=True)

    def entries(self, line: str) -> Iterator[_Entry]:
        """Yield the commands of one rule that name, or may name, the program for root."""
        if not (found := _RULE.match(line)):
            return
        rule, groups = first_line(line), found[1].partition(":")[2].strip()
        is_root, prefix = _is_root(found[1]), _Prefix()
        pieces = _COMMA.split(found[2])
        word = ""
        for command, backslash in zip(pieces[::2], ["", *pieces[1::2]], strict=True):
            # From here on it may also be the rest of an argument: sudo-rs shows no backslash there.
            prefix.is_known = prefix.is_known and not backslash and not (self.is_sudo_rs and " " in word)
            word, has_digest = prefix.read(command)
            # A rule for other users says nothing about what runs as root.
            if is_root is not False and (entry := self._entry(word, prefix, is_root)):
                yield replace(entry, rule=rule, groups=groups, is_conditional=has_digest or prefix.is_dated)

    def _entry(self, word: str, prefix: _Prefix, is_root: bool | None) -> _Entry | None:  # noqa: FBT001
        """Return the entry of a command with its tags and options, None if it does not name the program."""
        path, _, arguments = word.removeprefix("!").partition(" ")
        if arguments == _QUOTED_NOTHING:
            arguments = '""'
        if not prefix.is_known and not path.startswith(("/", "^", "ALL", "sudoedit")):
            return None
        matches = _matches(path, self.paths)
        chroot = prefix.chroot
        is_edit = path == "sudoedit"
        about = _edits(arguments, self.paths) if is_edit else True if path in self.links else matches
        if path in self.links and (path.endswith("/") or set("*?[") & set(path)):
            # One of the files that it leads to may have the program's name.
            matches = matches or None
        if chroot and matches:
            # In another root folder, sudo finds some programs but not others.
            matches = None
        names = _both(about, is_root if prefix.is_known else _both(is_root, second=None))
        if names is False:
            return None
        is_passwordless = _is_passwordless(prefix.effective, self.settings)
        allows = not word.startswith("!")
        # sudo-rs omits the quotes that mean "without arguments".
        takes = not (is_edit or path == "ALL" or arguments == '""' or (self.is_sudo_rs and not arguments))
        return _Entry(
            path=path,
            names=names,
            matches=_both(_both(names, matches), _takes_none(arguments)),
            is_passwordless=is_passwordless,
            is_enough=_both(allows, _both(is_passwordless, True if prefix.is_plain else None)),
            allows=allows,
            takes=None if takes and arguments.startswith("^") else takes,
            takes_any=path == "ALL" or (not is_edit and not self.is_sudo_rs and not arguments.strip("*")),
            tags=prefix.effective,
            chroot=chroot,
            is_known=prefix.is_plain,
        )


def _names_others(lines: Sequence[str], paths: Sequence[str]) -> bool:
    """Return whether rules allow anything other than the program."""
    rules = [found[2] for line in lines if (found := _RULE.match(line))]
    commands = [_TAG.sub("", command) for rule in rules for command in _COMMA.split(rule)[::2]]
    return any(command.split(" ")[0] not in paths for command in commands if not command.startswith("!"))


def _both(first: bool | None, second: bool | None) -> bool | None:  # noqa: FBT001
    """Return whether both hold: False if either is False, else None if either is not known."""
    if first is False or second is False:
        return False
    return True if first and second else None


def _takes_none(arguments: str) -> bool | None:
    """Return whether the arguments of a rule allow a call without arguments."""
    if arguments in ("", '""', "*"):
        return True
    return None if arguments.startswith("^") or not arguments.strip("*") else False


def _edits(files: str, paths: Sequence[str]) -> bool | None:
    """Return whether sudoedit may change the program, which is as dangerous as any variable."""
    found = {_matches(each, paths) for each in files.split()} if files else {True}
    return True if True in found else None if None in found else False


def _matches(path: str, paths: Sequence[str]) -> bool | None:
    """Return whether a path of sudoers(5) is the program's; folders and simple patterns are read, others give None."""
    if path in ("ALL", *paths):
        return True
    # sudo compares the files, and a link may lead to the same file.
    if path.startswith("/") and (_ODD.search(path) or path.rpartition("/")[2] == paths[0].rpartition("/")[2]):
        return None
    if path.endswith("/") and _PLAIN.fullmatch(path):
        return any(each.startswith(path) and "/" not in each[len(path) :] for each in paths)
    if path.startswith("/"):
        found = {_matches_pattern(path, each) for each in paths} if len(path) <= _PATTERN_LIMIT else {None}
        return True if True in found else None if None in found else False
    # Words that are no path stand for something else, such as sudo-rs's aliases; sudoedit and list for themselves.
    return False if path in ("sudoedit", "list") else None


_PATTERN_LIMIT: Final = 1024
_PART: Final = re.compile(r"[*?]|\[(!?)((?:[a-z]-[a-z]|[0-9]-[0-9]|[A-Za-z0-9_.])+)\]|([A-Za-z0-9_./+:@%=~-])")
_RANGE: Final = re.compile(r"(.)-(.)|(.)")


def _matches_pattern(pattern: str, path: str) -> bool | None:
    """Return whether a pattern of glob(7) matches a path; None if it has a part that is not understood.

    Only a slash matches a slash, neither an asterisk nor anything else.
    """
    ends, at = {0}, 0
    while ends and at < len(pattern):
        if not (part := _PART.match(pattern, at)):
            return None
        at = part.end()
        if part[0] == "*":
            ends = _stretched(ends, path)
        else:
            ends = {end + 1 for end in ends if end < len(path) and _is_in(part, path[end])}
    return len(path) in ends


def _stretched(ends: AbstractSet[int], path: str) -> set[int]:
    """Return the offsets where an asterisk that begins at one of `ends` may end."""
    found, is_on = set(), False
    for at, letter in enumerate(f"{path}/"):
        if is_on := is_on or at in ends:
            found.add(at)
        is_on = is_on and letter != "/"
    return found


def _is_in(part: re.Match[str], letter: str) -> bool:
    """Return whether a part of a pattern matches a letter."""
    if part[3] or letter == "/":
        return part[3] == letter
    if part[0] == "?":
        return True
    among = any(low <= letter <= high if low else letter == single for low, high, single in _RANGE.findall(part[2]))
    return among != bool(part[1])


def _is_root(users: str) -> bool | None:
    """Return whether the users of a rule, before the colon of the groups, include root."""
    found = [word.strip() for word in users.partition(":")[0].split(",")]
    named = [word for word in found if _ROOT.fullmatch(word.lstrip("!"))]
    if any(word and word not in named and not _USER.fullmatch(word.lstrip("!")) for word in found):
        return None
    return bool(named) and (len(named[-1]) - len(named[-1].lstrip("!"))) % 2 == 0


# ---------------------------------------------------------------- settings


@dataclass(frozen=True, slots=True)
class _Settings:
    """Values of `Defaults`, by name: for this user and host, for the target user, and for this command."""

    general: dict[str, str | bool]
    as_root: dict[str, str | bool]
    of_command: dict[str, str | bool]
    maybe: frozenset[str]
    """Names of settings that may concern the program or root."""

    def value(self, name: str, default: str | bool) -> str | bool | None:  # noqa: FBT001
        """Return the effective value, None if not known: the listing hides which of the first two came later."""
        if name in self.of_command and name not in self.maybe:
            return self.of_command[name]
        found = {part[name] for part in (self.general, self.as_root) if name in part} or {default}
        return None if len(found) > 1 or (name in self.maybe) else found.pop()

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all settings that concern, or may concern, the program or root."""
        return self.maybe.union(self.general, self.as_root, self.of_command)

    def is_harmless(self, name: str) -> bool:
        """Return whether no value of a setting changes what runs; those in _READ are evaluated elsewhere."""
        if name not in _BY_VALUE:
            return name in SETTINGS
        values = [part[name] for part in (self.general, self.as_root, self.of_command) if name in part]
        if name in self.maybe:
            return False
        return all(value is False or (value is not True and _BY_VALUE[name].fullmatch(value)) for value in values)

    def keeps_only(self, name: str, harmless: frozenset[str]) -> bool | None:
        """Return whether a list of variables holds only harmless ones; `!env_keep` for a program empties it."""
        values = [part[name] for part in (self.general, self.as_root, self.of_command) if name in part]
        if name in self.of_command and str(values[-1]).startswith(_EMPTIED):
            values = values[-1:]
        words = {word for value in values for word in str(value).split()} - {_EMPTIED, "True"}
        if not all(word in harmless or _LOCALE.fullmatch(word) for word in words):
            return False
        return None if name in self.maybe else True


def _words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_HEADING: Final = re.compile(r"Matching Defaults entries|Runas and Command-specific defaults")
ROOT_FOLDER: Final = "runchroot=*"
"""The setting that lets a caller replace any program with their own."""
_EMPTIED: Final = "False"
_SCOPE: Final = re.compile(r"(?:^|\s)Defaults([!>])")
_SETTING: Final = re.compile(
    r'(?<![^,\s])(!?)([a-z_]++)(?:([+-]?)=("(?:\\.|[^"\\])*+"|(?:\\.|[^\\,\s])*+))?(?=[,\s]|$)'
)
_STOPS: Final[tuple[tuple[str, str, tuple[str | bool, ...]], ...]] = (
    # setting, tag of a rule with the same meaning, harmless values (the first is the default)
    ("noexec", "EXEC", (False,)),
    ("requiretty", "", (False,)),
    ("intercept", "INTERCEPT", (False,)),
    ("runas_default", "", ("root",)),
    ("runchroot", "", ("", False, "*")),
    ("runcwd", "", ("", False, "*", "~", "/")),
    ("role", "", ("", False)),
    ("type", "", ("", False)),
    ("apparmor_profile", "", ("", False)),
    # A shell drops the privileges of an effective user who is not the real one.
    ("stay_setuid", "", (False,)),
)
"""Settings of sudoers(5) that keep a script that starts programs from running, or from running as root."""
_ROOTS_PLACE: Final = re.compile(r"\A/(?:etc|run|usr|var/(?:adm|cache|db|lib|log|run|spool))/(?!.*\.\.).*", re.DOTALL)
"""Folders that only root can write on every system, so that nobody else chooses what is read, run or written there."""
_BY_VALUE: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        # What sudo writes to, reads variables from, or runs as root.
        **dict.fromkeys(("env_file", "restricted_env_file", "iolog_dir", "logfile", "mailerpath"), _ROOTS_PLACE),
        **dict.fromkeys(("lecture_status_dir", "timestampdir"), _ROOTS_PLACE),
        "iolog_file": re.compile(r"(?!.*\.\.)[^/].*", re.DOTALL),
        "group_plugin": re.compile(rf"(?:[\w.+-]+|{_ROOTS_PLACE.pattern})(?:\s.*)?", re.DOTALL),
        # Without its server sudo may refuse everything, and the server learns what is run.
        "log_servers": re.compile(r"(?!)"),
        # Another PAM service checks the account and sets up the session in its own way.
        **dict.fromkeys(("pam_service", "pam_login_service"), re.compile(r"sudo|sudo-i|")),
        # The caller's open files, which the script would inherit.
        "closefrom": re.compile(r"3"),
        "closefrom_override": re.compile(r"(?!)"),
        "runas_check_shell": re.compile(r"(?!)"),
        **dict.fromkeys(("privs", "limitprivs"), re.compile("")),
        "rlimit_core": re.compile(r".*"),
        **{
            f"rlimit_{name}": re.compile(r"default|user|(?:infinity,?)+")
            for name in ("as", "cpu", "data", "fsize", "locks", "memlock", "nofile", "nproc", "rss", "stack")
        },
    }
)
"""Settings whose effect depends on the value, with the values that change neither what runs nor with what."""
_HARMLESS: Final = _words(
    # how a rule is found, which sudo evaluates itself
    "always_query_group_plugin case_insensitive_group case_insensitive_user fast_glob fqdn ignore_dot "
    "ignore_local_sudoers ignore_unknown_defaults match_group_by_gid netgroup_tuple runas_allow_unknown_id "
    "sudoers_locale use_netgroups "
    # whether and how it asks for a password, which a rule without one never does
    "admin_flag authfail_message badpass_message cmddenial_message insults lecture lecture_file listpw "
    "noninteractive_auth pam_askpass_service passprompt passprompt_override passwd_timeout passwd_tries path_info "
    "pwfeedback rootpw runaspw targetpw timestamp_timeout timestamp_type timestampowner tty_tickets verifypw visiblepw "
    "long_otp_prompt "
    # what it logs and mails; the destinations are in _BY_VALUE
    "compress_io ignore_audit_errors ignore_iolog_errors ignore_logfile_errors iolog_flush iolog_group iolog_mode "
    "iolog_user log_allowed log_denied log_exit_status log_format log_host log_input log_output log_passwords "
    "log_server_cabundle log_server_keepalive log_server_peer_cert log_server_peer_key log_server_timeout "
    "log_server_verify log_stderr log_stdin log_stdout log_ttyin log_ttyout log_year loglinelen mail_all_cmnds "
    "mail_always mail_badpass mail_no_host mail_no_perms mail_no_user mailerflags mailfrom mailsub mailto maxseq "
    "passprompt_regex set_utmp syslog syslog_badpri syslog_goodpri syslog_maxlen syslog_pid utmp_runas "
    # for commands other than a script: shells, sudoedit, what is intercepted
    "editor env_editor intercept_allow_setid intercept_authenticate intercept_type intercept_verify noexec_file "
    "root_sudo shell_noargs sudoedit_checkdir sudoedit_follow "
    # what the script sets itself, or what does not affect root
    "always_set_home command_timeout exec_background fdexec pam_acct_mgmt pam_rhost pam_ruser pam_session pam_setcred "
    "pam_silent preserve_groups secure_path selinux set_home set_logname umask umask_override use_loginclass use_pty "
    "user_command_timeouts"
)
"""Settings that neither keep a script from running nor let anybody choose what it does, with any value."""
_READ: Final = frozenset(
    # Which variables are kept, whether a password is required, whether started processes outlive sudo.
    {"authenticate", "env_check", "env_delete", "env_keep", "env_reset", "exempt_group", "log_subcmds", "setenv"}
)
"""Settings that are evaluated one by one."""
SETTINGS: Final = _HARMLESS | _READ | _BY_VALUE.keys() | {name for name, _, _ in _STOPS}
"""All known settings of sudoers(5); the effect of a rule with any other one is not known."""
KEPT: Final = _words(
    "COLORS COLORTERM DISPLAY HISTSIZE HOSTNAME KDEDIR KRB5CCNAME LANG LANGUAGE LINGUAS LS_COLORS MAIL PATH PS1 PS2 "
    "QTDIR TERM USERNAME XAUTHORITY XAUTHORIZATION XDG_CURRENT_DESKTOP _XKB_CHARSET"
)
"""Variables that sudo or a distribution keeps by default: no program runs what they contain."""
_LOCALE: Final = re.compile(r"LC_[A-Z]+|LC_\*")


def _settings(lines: Sequence[str], paths: Sequence[str]) -> _Settings:
    """Parse the settings that precede the rules."""
    # Before its headings, sudo-rs complains about settings that it does not know and ignores.
    first = next((number for number, line in enumerate(lines) if _HEADING.match(line)), len(lines))
    text = "\n".join(line for line in lines[first:] if line.startswith(" "))
    general, *scoped = _SCOPE.split(text)
    found = _Settings({}, {}, {}, frozenset())
    maybe = set() if _add_settings(general, found.general) else {""}
    for kind, each in zip(scoped[::2], scoped[1::2], strict=False):
        whom, words = _scoped(each.strip()) if kind == "!" else each.strip().split(" ", 1)
        concerns = _concerns(kind, whom, paths)
        named: dict[str, str | bool] = {}
        if (
            not _add_settings(words, (found.of_command if kind == "!" else found.as_root) if concerns else named)
            and concerns
        ):
            maybe.add("")
        if concerns is None:
            maybe |= named.keys()
    return _Settings(found.general, found.as_root, found.of_command, frozenset(maybe))


_LISTED: Final = re.compile(r"(?:[^,]*,\s+(?=!*(?:[/^]|ALL\b|sha\d)))*\S+")


def _scoped(text: str) -> tuple[str, str]:
    """Split settings for commands into the commands and the settings: `/bin/a x, /bin/b noexec`."""
    whom = _LISTED.match(text)
    return (whom[0], text[whom.end() :]) if whom else ("", text)


def _concerns(kind: str, whom: str, paths: Sequence[str]) -> bool | None:
    """Return whether settings for commands, or for a target user, apply to the program run as root."""
    if kind == "!":
        found = [_concerns_command(each, paths) for each in _COMMA.split(whom)[::2]]
        # A later command of the list may negate an earlier one.
        return found[0] if len(found) == 1 else None if any(each is not False for each in found) else False
    if _ROOT.fullmatch(whom):
        return True
    return False if _USER.fullmatch(whom) else None


def _concerns_command(command: str, paths: Sequence[str]) -> bool | None:
    """Return whether a command that settings are for is the program."""
    path, _, arguments = command.lstrip("!").partition(" ")
    matches = _matches(path, paths)
    is_plain = path in ("ALL", *paths) or not set("*?[") & set(path)
    return matches if matches is False or (is_plain and not arguments and path == command) else None


def _add_settings(text: str, found: dict[str, str | bool]) -> bool:
    """Add settings by name: `noexec, !requiretty, runcwd=/` → True, False, "/"; return whether all could be read.

    `+=` appends to the words of a list; `-=` is ignored, so removed words stay in it.
    """
    for sign, name, change, value in _SETTING.findall(text):
        if change == "-":
            continue
        unquoted = re.sub(r"\\(.)", r"\1", value.strip('"'))
        joined = f"{found[name]} {unquoted}" if change and name in found else unquoted
        found[name] = joined if value else not sign
    return not _SETTING.sub("", text).strip(", \n")


def _stop(settings: _Settings, tags: frozenset[str]) -> str | None:
    """Return the setting that stops the program, "" if none does, None if that is not known."""
    is_known = True
    for name, tag, harmless in _STOPS:
        value = settings.value(name, harmless[0])
        if tag and (tag in tags or f"NO{tag}" in tags):
            # A rule's own tag overrules the setting. NOEXEC forbids, as INTERCEPT does.
            value = (f"NO{tag}" if name == "noexec" else tag) in tags
        if value is None:
            is_known = False
        elif value not in harmless:
            return name
    is_known = is_known and all(settings.is_harmless(name) for name in settings.names)
    # With log_subcmds, processes left behind are ended, unless they are a unit of systemd, which the listing omits.
    return "" if is_known and settings.value("log_subcmds", default=False) is False else None


def _loose(settings: _Settings, entry: _Entry) -> str | None:
    """Return what lets the caller choose variables or root folder, "" if nothing does, None if that is not known."""
    chroot = entry.chroot or settings.value("runchroot", default="")
    sets = "SETENV" in entry.tags or ("NOSETENV" not in entry.tags and settings.value("setenv", default=False))
    resets = settings.value("env_reset", default=True)
    if entry.path == "sudoedit":
        return "sudoedit"
    if chroot == "*":
        return ROOT_FOLDER
    if sets:
        return "setenv"
    if resets is False:
        return "!env_reset"
    kept = {name: settings.keeps_only(name, KEPT) for name in ("env_keep", "env_check")}
    found = next((name for name, is_harmless in kept.items() if is_harmless is False), "")
    if found:
        return found
    # What runs in another root folder, or in an unknown way, is another program.
    return None if chroot or not entry.is_known or None in (chroot, sets, resets, *kept.values()) else ""


def _is_passwordless(tags: AbstractSet[str], settings: _Settings) -> bool | None:
    """Return whether no password is required; a rule's own tag overrules a setting."""
    # Members of that group need none, whatever a tag says.
    groups = [part.get("exempt_group") for part in (settings.general, settings.as_root, settings.of_command)]
    is_exempt = None if any(groups) or "exempt_group" in settings.maybe else False
    if tags & {"PASSWD", "NOPASSWD"}:
        return True if "NOPASSWD" in tags else is_exempt
    asks = settings.value("authenticate", default=True)
    return None if asks is None else is_exempt if asks else True
