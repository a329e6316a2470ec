"""What `sudo -l` says of one program: whether its user may run it as root, without a password and without hindrance.

sudo shows rules and settings as they were written, so not all can be understood here: patterns, aliases, what stands
for several users. Each answer is therefore yes, no, or None for "not known", and what is not understood is never a yes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field, replace
import re
from types import MappingProxyType
from typing import Final

from ..errors import first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the listing says of the program."""

    has_rule: bool | None = False
    """Whether the rule that counts lets the user run it as root, without a password."""
    is_named: bool = False
    """Whether a rule that would do so names it, where another may allow everything."""
    has_all: bool = False
    """Whether some rule allows every command, if only with a password: then sudo's word on one tells nothing."""
    is_free: bool = False
    """Whether the user may run every command as root without a password: then nothing else matters."""
    may_run: bool = False
    """Whether a rule that does not allow everything may run it without a password, in whatever way."""
    is_open: bool = False
    """Whether a rule allows arguments."""
    has_root_folder: bool = False
    """Whether some rule has a root folder: sudo, asked about the program, then says no, and runs it."""
    overruled_by: str = ""
    """The rule that counts more than the one that would allow it."""
    stopped_by: str = ""
    """The setting that keeps it from running all the same."""
    loosened_by: str = ""
    """What lets who runs it choose its variables or its root folder, and so what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One command of a rule that names the program for root, or may; the last one that fits a call counts for it."""

    path: str
    names: bool | None
    """Whether path and users are those of the program as root, whatever stands behind the path."""
    fits: bool | None
    """Whether it is about a call without arguments."""
    needs_none: bool | None
    """Whether no password is asked for."""
    is_enough: bool | None
    """Whether it lets a call that it fits run the program."""
    allows: bool
    takes: bool | None
    """Whether arguments are let through."""
    takes_any: bool
    tags: frozenset[str]
    chroot: str
    """Its root folder, where the rule names one."""
    is_known: bool
    """Whether all that stands before the command is understood."""
    rule: str = ""
    groups: str = ""
    """For which groups, beside those of the users."""
    is_weighed: bool = False
    """Whether only sudo knows if it holds now: by a date, or by a digest of the file."""

    @property
    def is_all(self) -> bool:
        """Tell whether it is about every command."""
        return self.path == "ALL"

    @property
    def may_let(self) -> bool:
        """Tell whether it may let somebody without a password run the program as root, in whatever way."""
        return self.allows and self.needs_none is not False

    def hides(self, earlier: _Entry) -> bool:
        """Tell whether it counts for every call that an earlier one fits."""
        return (
            self.names is True
            and not self.is_weighed
            and not self.chroot
            # By the path that names it the program is found under every path that ends alike, and under no other.
            and (self.is_all or earlier.path.rpartition("/")[2] == self.path.rpartition("/")[2] != "")
            and (self.takes_any or (self.fits is True and earlier.takes is False))
            and (self.groups == "ALL" or not earlier.groups)
        )


_RULE: Final = re.compile(r"\s+\(([^)]*)\) (.*)")
_COMMA: Final = re.compile(r"(\\?),\s+")
"""Between two commands. A backslash before it may be part of the argument, or the end of it: both look alike."""
_QUOTED_NOTHING: Final = r"\"\""
"""How sudo up to 1.9.5 at least (Debian 11, RHEL 8 and 9) shows the `""` of "without arguments"."""
_TAG: Final = re.compile(r"(?<!\S)(?:([A-Z_]+): |([A-Z_]+=\S+) |sha\d+:\S+ )")
"""Tags (NOPASSWD, NOEXEC …), options (CWD=…) and digests of sudoers(5), which stand before a command."""
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
"""Those that sudo itself has weighed when it is asked about the command, or that only allow something."""
_ROOT_FOLDER_OPTION: Final = re.compile(r"(?<!\S)CHROOT=")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+:@%=~-]+")
"""Paths that mean themselves."""
_ODD: Final = re.compile(r"//|/\.\.?(?:/|$)")
"""In paths that may be another one, written in another way."""
_USER: Final = re.compile(r"(?!(?i:root)\$?$)[a-z0-9_][a-zA-Z0-9_.-]*\$?|#[0-9]+")
"""Users that mean themselves: no alias, no group."""
_ROOT: Final = re.compile(r"root|ALL|#0+")


def read_listing(
    lines: Sequence[str],
    paths: Sequence[str],
    *,
    is_sudo_rs: bool,
    is_allowed: bool,
    links: Collection[str] = (),
) -> Listed:
    """Return what the lines of `sudo -l` say of a program, by all of its paths.

    `is_allowed` tells whether sudo, asked about the program, says that it may be run, be it with a password. `links`
    are paths, folders and patterns of the listing that lead to the program's file on the host.
    """
    start = next((number for number, line in enumerate(lines) if _RULE.match(line)), len(lines))
    settings = _settings(lines[:start], paths)
    read = _Reader(paths, links, settings, is_sudo_rs=is_sudo_rs)
    named = [entry for line in lines[start:] for entry in read.entries(line)]
    entries = [entry for entry in named if entry.fits is not False]
    if is_allowed:
        # The last one that fits is none that forbids.
        entries = [entry for entry in entries if entry.allows or entry.fits]
    if len(entries) > 1:
        # What sudo says of the program may be about another one of them.
        entries = [replace(entry, fits=None) if entry.is_weighed else entry for entry in entries]
    has_rule = _last_word(entries)
    if is_allowed and not any(entry.fits for entry in entries) and has_rule is False:
        has_rule = None
    last = next((entry for entry in reversed(entries) if entry.fits), None)
    stop = _stop_of_all(settings, entries)
    if stop == "intercept" and _names_others(lines[start:], paths):
        # What the script starts is then looked at as well, and may be allowed.
        stop = None
    # An earlier one is still there for what none of the later ones fits: another argument, another group or path.
    alive = [
        each for at, each in enumerate(named) if each.may_let and not any(one.hides(each) for one in named[at + 1 :])
    ]
    is_free = any(each.is_all and each.names and each.needs_none and not each.is_weighed for each in alive)
    # Who may run everything needs no way around.
    bound = [] if is_free else [each for each in alive if not each.is_all]
    # sudo-rs shows no settings, and tags only since it is a newer one.
    sets = any("SETENV" in each.tags and each.is_known for each in bound)
    loose = ("setenv" if sets else "") if is_sudo_rs else _loose_of_all(settings, bound)
    # A rule that may be about the script may let it have arguments.
    is_unsure = not is_sudo_rs and any(each.takes is not False and not _is_open(each) for each in bound)
    certain = [entry for entry in entries if entry.fits and entry.is_enough]
    return Listed(
        has_rule=None if has_rule and (stop is None or loose is None or is_unsure) else has_rule,
        is_named=any(entry.path in paths for entry in certain),
        has_all=any(entry.is_all for entry in entries),
        is_free=is_free,
        may_run=bool(bound),
        is_open=any(map(_is_open, bound)),
        has_root_folder=any(map(_ROOT_FOLDER_OPTION.search, lines[start:])),
        overruled_by=last.rule if last and has_rule is False and certain else "",
        stopped_by=stop or "",
        loosened_by=loose or "",
    )


def wants_terminal(words: str) -> bool:
    """Tell whether sudo refuses for want of a terminal (`requiretty` of sudoers(5)); sudo-rs has no such option."""
    return "you must have a tty to run sudo" in words


def _last_word(entries: Sequence[_Entry]) -> bool | None:
    """Return what the entries come to: the last that fits counts, if none that may fit says otherwise after it."""
    answers: set[bool | None] = set()
    for entry in reversed(entries):
        answers.add(entry.is_enough)
        if entry.fits:
            break
    else:
        answers |= {False}
    return answers.pop() if len(answers) == 1 else None


def _stop_of_all(settings: _Settings, entries: Sequence[_Entry]) -> str | None:
    """Return what stops the program: the tags of the last that fits count, if those that may fit do not differ."""
    stops: list[str | None] = []
    for entry in reversed(entries):
        if entry.fits or entry.allows:
            stops.append(_stop(settings, entry.tags))
        if entry.fits:
            break
    else:
        stops.append(_stop(settings, frozenset()))
    return stops[-1] if stops[-1] or not any(stop != "" for stop in stops) else None


def _loose_of_all(settings: _Settings, entries: Sequence[_Entry]) -> str | None:
    """Return what lets the caller choose variables or root folder by any entry, be it one that only may fit."""
    found = [_loose(settings, entry) for entry in entries]
    return next(filter(None, found), None if None in found else "")


def _is_open(entry: _Entry) -> bool:
    """Tell whether an entry certainly lets arguments through."""
    return bool(entry.names and entry.needs_none and entry.takes)


# ---------------------------------------------------------------- rules


@dataclass(slots=True)
class _Said:
    """What stands before the commands of one rule; it stays on for those that follow.

    Each part is worked out when it changes, as a line may have thousands of either.
    """

    tags: frozenset[str] = frozenset()
    ever: frozenset[str] = frozenset()
    """The tags that were said anywhere before."""
    chroot: str = ""
    harmful: frozenset[str] = frozenset()
    """Options that may change what runs; "" for tags and options that nobody here knows."""
    is_dated: bool = False
    is_known: bool = True
    """Whether it is certain that this is no part of an argument."""

    def read(self, command: str) -> tuple[str, bool]:
        """Return a command without what stands before it, and tell whether that was a digest."""
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
        """Take in a tag, which undoes its opposite."""
        if name not in _TAGS:
            self.harmful |= {""}
        elif name not in self.tags:
            self.tags = self.tags - {name.removeprefix("NO"), f"NO{name}"} | {name}
            self.ever |= {name}

    def _option(self, said: str) -> None:
        """Take in an option; another one of that name takes its place."""
        name, _, value = said.partition("=")
        known = name if name in _OPTIONS else ""
        self.harmful -= {known} - {""}
        if not _HARMLESS_OPTION.fullmatch(said):
            self.harmful |= {known}
        self.is_dated = self.is_dated or name in _DATES
        self.chroot = value if name == "CHROOT" else self.chroot

    @property
    def holding(self) -> frozenset[str]:
        """Return the tags that hold; where that is not certain, those that allow more."""
        if self.is_known:
            return self.tags
        return (self.tags | (self.ever & {"NOPASSWD", "SETENV"})) - {"PASSWD", "NOSETENV"}

    @property
    def is_plain(self) -> bool:
        """Tell whether nothing is said that is not understood, or that changes what runs."""
        return self.is_known and not self.harmful


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes the rules of a listing apart."""

    paths: Sequence[str]
    links: Collection[str]
    settings: _Settings
    is_sudo_rs: bool = field(kw_only=True)

    def entries(self, line: str) -> Iterator[_Entry]:
        """Yield the commands of one rule that name the program for root, or may."""
        if not (found := _RULE.match(line)):
            return
        rule, groups = first_line(line), found[1].partition(":")[2].strip()
        is_root, said = _is_root(found[1]), _Said()
        pieces = _COMMA.split(found[2])
        word = ""
        for command, backslash in zip(pieces[::2], ["", *pieces[1::2]], strict=True):
            # From here on it may be the rest of an argument as well: sudo-rs shows no backslash there.
            said.is_known = said.is_known and not backslash and not (self.is_sudo_rs and " " in word)
            word, has_digest = said.read(command)
            # A rule for others than root says nothing of what becomes root's.
            if is_root is not False and (entry := self._entry(word, said, is_root)):
                yield replace(entry, rule=rule, groups=groups, is_weighed=has_digest or said.is_dated)

    def _entry(self, word: str, said: _Said, is_root: bool | None) -> _Entry | None:  # noqa: FBT001
        """Return a command with what was said before it, None where it does not name the program."""
        path, _, arguments = word.removeprefix("!").partition(" ")
        if arguments == _QUOTED_NOTHING:
            arguments = '""'
        if not said.is_known and not path.startswith(("/", "^", "ALL", "sudoedit")):
            return None
        fits = _fits(path, self.paths)
        chroot = said.chroot
        is_edit = path == "sudoedit"
        about = _edits(arguments, self.paths) if is_edit else True if path in self.links else fits
        if path in self.links and (path.endswith("/") or set("*?[") & set(path)):
            # Of what it leads to, some may have the program's name.
            fits = fits or None
        if chroot and fits:
            # With a root folder of its own sudo finds some programs, and others not.
            fits = None
        names = _both(about, is_root if said.is_known else _both(is_root, other=None))
        if names is False:
            return None
        needs_none = _needs_none(said.holding, self.settings)
        allows = not word.startswith("!")
        # sudo-rs leaves out the quotes that say "without arguments".
        takes = not (is_edit or path == "ALL" or arguments == '""' or (self.is_sudo_rs and not arguments))
        return _Entry(
            path=path,
            names=names,
            fits=_both(_both(names, fits), _takes_none(arguments)),
            needs_none=needs_none,
            is_enough=_both(allows, _both(needs_none, True if said.is_plain else None)),
            allows=allows,
            takes=None if takes and arguments.startswith("^") else takes,
            takes_any=path == "ALL" or (not is_edit and not self.is_sudo_rs and not arguments.strip("*")),
            tags=said.holding,
            chroot=chroot,
            is_known=said.is_plain,
        )


def _names_others(lines: Sequence[str], paths: Sequence[str]) -> bool:
    """Tell whether rules allow anything else than the program."""
    rules = [found[2] for line in lines if (found := _RULE.match(line))]
    commands = [_TAG.sub("", command) for rule in rules for command in _COMMA.split(rule)[::2]]
    return any(command.split(" ")[0] not in paths for command in commands if not command.startswith("!"))


def _both(one: bool | None, other: bool | None) -> bool | None:  # noqa: FBT001
    """Return whether both hold: no, where one does not."""
    if one is False or other is False:
        return False
    return True if one and other else None


def _takes_none(arguments: str) -> bool | None:
    """Tell whether what stands behind a path allows a call without arguments."""
    if arguments in ("", '""', "*"):
        return True
    return None if arguments.startswith("^") or not arguments.strip("*") else False


def _edits(files: str, paths: Sequence[str]) -> bool | None:
    """Tell whether what sudoedit may change is the program: that is as good as any variable."""
    found = {_fits(each, paths) for each in files.split()} if files else {True}
    return True if True in found else None if None in found else False


def _fits(path: str, paths: Sequence[str]) -> bool | None:
    """Tell whether a path of sudoers(5) is the program's; folders and simple patterns are read, others are not."""
    if path in ("ALL", *paths):
        return True
    # sudo looks for the file that is meant, which a link may also lead to.
    if path.startswith("/") and (_ODD.search(path) or path.rpartition("/")[2] == paths[0].rpartition("/")[2]):
        return None
    if path.endswith("/") and _PLAIN.fullmatch(path):
        return any(each.startswith(path) and "/" not in each[len(path) :] for each in paths)
    if path.startswith("/"):
        found = {_fits_pattern(path, each) for each in paths} if len(path) <= _PATTERN_LIMIT else {None}
        return True if True in found else None if None in found else False
    # Words that are no path stand for something else, as sudo-rs's aliases; sudoedit and list for themselves.
    return False if path in ("sudoedit", "list") else None


_PATTERN_LIMIT: Final = 1024
_PART: Final = re.compile(r"[*?]|\[(!?)((?:[a-z]-[a-z]|[0-9]-[0-9]|[A-Za-z0-9_.])+)\]|([A-Za-z0-9_./+:@%=~-])")
_RANGE: Final = re.compile(r"(.)-(.)|(.)")


def _fits_pattern(pattern: str, path: str) -> bool | None:
    """Tell whether a pattern of glob(7) is a path's; None where it may be, and is not read to its end.

    An asterisk stands for no slash, and neither does anything else but a slash.
    """
    ends, at = {0}, 0
    while ends and at < len(pattern):
        if not (part := _PART.match(pattern, at)):
            return None
        at = part.end()
        if part[0] == "*":
            ends = _stretched(ends, path)
        else:
            ends = {one + 1 for one in ends if one < len(path) and _is_in(part, path[one])}
    return len(path) in ends


def _stretched(ends: AbstractSet[int], path: str) -> set[int]:
    """Return where an asterisk may end that begins at one of these places."""
    found, is_on = set(), False
    for at, letter in enumerate(f"{path}/"):
        if is_on := is_on or at in ends:
            found.add(at)
        is_on = is_on and letter != "/"
    return found


def _is_in(part: re.Match[str], letter: str) -> bool:
    """Tell whether a part of a pattern stands for a letter."""
    if part[3] or letter == "/":
        return part[3] == letter
    if part[0] == "?":
        return True
    among = any(low <= letter <= high if low else letter == one for low, high, one in _RANGE.findall(part[2]))
    return among != bool(part[1])


def _is_root(users: str) -> bool | None:
    """Tell whether the users that a rule names, before the colon of the groups, are root among others."""
    found = [word.strip() for word in users.partition(":")[0].split(",")]
    named = [word for word in found if _ROOT.fullmatch(word.lstrip("!"))]
    if any(word and word not in named and not _USER.fullmatch(word.lstrip("!")) for word in found):
        return None
    return bool(named) and (len(named[-1]) - len(named[-1].lstrip("!"))) % 2 == 0


# ---------------------------------------------------------------- settings


@dataclass(frozen=True, slots=True)
class _Settings:
    """What `Defaults` set, by name: for this user and machine, for those it becomes, and for this command."""

    general: dict[str, str | bool]
    as_root: dict[str, str | bool]
    of_command: dict[str, str | bool]
    maybe: frozenset[str]
    """Names of those that may concern the program or root."""

    def value(self, name: str, default: str | bool) -> str | bool | None:  # noqa: FBT001
        """Return what holds, None when that is not known: the listing hides which of the first two came later."""
        if name in self.of_command and name not in self.maybe:
            return self.of_command[name]
        found = {part[name] for part in (self.general, self.as_root) if name in part} or {default}
        return None if len(found) > 1 or (name in self.maybe) else found.pop()

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all that concern the program or root, or may."""
        return self.maybe.union(self.general, self.as_root, self.of_command)

    def is_harmless(self, name: str) -> bool:
        """Tell whether nothing that is said of a setting changes what runs; those that are read are for who reads."""
        if name not in _WEIGHED:
            return name in SETTINGS
        told = [part[name] for part in (self.general, self.as_root, self.of_command) if name in part]
        if name in self.maybe:
            return False
        return all(value is False or (value is not True and _WEIGHED[name].fullmatch(value)) for value in told)

    def keeps_only(self, name: str, harmless: frozenset[str]) -> bool | None:
        """Tell whether a list of variables holds harmless ones only; `!env_keep` for a program empties it."""
        told = [part[name] for part in (self.general, self.as_root, self.of_command) if name in part]
        if name in self.of_command and str(told[-1]).startswith(_EMPTIED):
            told = told[-1:]
        words = {word for value in told for word in str(value).split()} - {_EMPTIED, "True"}
        if not all(word in harmless or _LOCALE.fullmatch(word) for word in words):
            return False
        return None if name in self.maybe else True


def _words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_HEADING: Final = re.compile(r"Matching Defaults entries|Runas and Command-specific defaults")
ROOT_FOLDER: Final = "runchroot=*"
"""What lets a caller put a program of their own in the place of any other."""
_EMPTIED: Final = "False"
_SCOPE: Final = re.compile(r"(?:^|\s)Defaults([!>])")
_SETTING: Final = re.compile(
    r'(?<![^,\s])(!?)([a-z_]++)(?:([+-]?)=("(?:\\.|[^"\\])*+"|(?:\\.|[^\\,\s])*+))?(?=[,\s]|$)'
)
_STOPS: Final[tuple[tuple[str, str, tuple[str | bool, ...]], ...]] = (
    # setting, tag of a rule that says the same, what is harmless (the first is the default)
    ("noexec", "EXEC", (False,)),
    ("requiretty", "", (False,)),
    ("intercept", "INTERCEPT", (False,)),
    ("runas_default", "", ("root",)),
    ("runchroot", "", ("", False, "*")),
    ("runcwd", "", ("", False, "*", "~", "/")),
    ("role", "", ("", False)),
    ("type", "", ("", False)),
    ("apparmor_profile", "", ("", False)),
    # A shell gives up what only its effective user may do.
    ("stay_setuid", "", (False,)),
)
"""Settings of sudoers(5) with which a script that starts programs does not run, or not as root."""
_ROOTS_PLACE: Final = re.compile(r"\A/(?:etc|run|usr|var/(?:adm|cache|db|lib|log|run|spool))/(?!.*\.\.).*", re.DOTALL)
"""Where on every system only root writes, so that nobody else chooses what is read, run or written there."""
_WEIGHED: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        # What sudo writes to, reads variables from, or runs as root.
        **dict.fromkeys(("env_file", "restricted_env_file", "iolog_dir", "logfile", "mailerpath"), _ROOTS_PLACE),
        **dict.fromkeys(("lecture_status_dir", "timestampdir"), _ROOTS_PLACE),
        "iolog_file": re.compile(r"(?!.*\.\.)[^/].*", re.DOTALL),
        "group_plugin": re.compile(rf"(?:[\w.+-]+|{_ROOTS_PLACE.pattern})(?:\s.*)?", re.DOTALL),
        # Without its server sudo may refuse everything, and who answers there learns what is run.
        "log_servers": re.compile(r"(?!)"),
        # Another way of PAM to see whether the account is good, and what it starts with.
        **dict.fromkeys(("pam_service", "pam_login_service"), re.compile(r"sudo|sudo-i|")),
        # The caller's open files, which the script would take along.
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
"""Settings whose effect depends on the value: those values that change nothing of what runs, and with what."""
_HARMLESS: Final = _words(
    # how a rule is found, which sudo answers itself
    "always_query_group_plugin case_insensitive_group case_insensitive_user fast_glob fqdn ignore_dot "
    "ignore_local_sudoers ignore_unknown_defaults match_group_by_gid netgroup_tuple runas_allow_unknown_id "
    "sudoers_locale use_netgroups "
    # whether and how it asks for a password, which a rule without one never does
    "admin_flag authfail_message badpass_message cmddenial_message insults lecture lecture_file listpw "
    "noninteractive_auth pam_askpass_service passprompt passprompt_override passwd_timeout passwd_tries path_info "
    "pwfeedback rootpw runaspw targetpw timestamp_timeout timestamp_type timestampowner tty_tickets verifypw visiblepw "
    "long_otp_prompt "
    # what it logs and mails; where to is weighed
    "compress_io ignore_audit_errors ignore_iolog_errors ignore_logfile_errors iolog_flush iolog_group iolog_mode "
    "iolog_user log_allowed log_denied log_exit_status log_format log_host log_input log_output log_passwords "
    "log_server_cabundle log_server_keepalive log_server_peer_cert log_server_peer_key log_server_timeout "
    "log_server_verify log_stderr log_stdin log_stdout log_ttyin log_ttyout log_year loglinelen mail_all_cmnds "
    "mail_always mail_badpass mail_no_host mail_no_perms mail_no_user mailerflags mailfrom mailsub mailto maxseq "
    "passprompt_regex set_utmp syslog syslog_badpri syslog_goodpri syslog_maxlen syslog_pid utmp_runas "
    # for other commands than a script: shells, sudoedit, what is intercepted
    "editor env_editor intercept_allow_setid intercept_authenticate intercept_type intercept_verify noexec_file "
    "root_sudo shell_noargs sudoedit_checkdir sudoedit_follow "
    # what the script sets itself, or nothing that root minds
    "always_set_home command_timeout exec_background fdexec pam_acct_mgmt pam_rhost pam_ruser pam_session pam_setcred "
    "pam_silent preserve_groups secure_path selinux set_home set_logname umask umask_override use_loginclass use_pty "
    "user_command_timeouts"
)
"""Settings that neither keep a script from running nor let anybody choose what it does, whatever they say."""
_READ: Final = frozenset(
    # What variables come along, whether a password is asked for, whether what is started runs on.
    {"authenticate", "env_check", "env_delete", "env_keep", "env_reset", "exempt_group", "log_subcmds", "setenv"}
)
"""Settings that are read one by one."""
SETTINGS: Final = _HARMLESS | _READ | _WEIGHED.keys() | {name for name, _, _ in _STOPS}
"""All that is known of sudoers(5); what it does not hold makes a rule one whose effect is not known."""
KEPT: Final = _words(
    "COLORS COLORTERM DISPLAY HISTSIZE HOSTNAME KDEDIR KRB5CCNAME LANG LANGUAGE LINGUAS LS_COLORS MAIL PATH PS1 PS2 "
    "QTDIR TERM USERNAME XAUTHORITY XAUTHORIZATION XDG_CURRENT_DESKTOP _XKB_CHARSET"
)
"""Variables that sudo keeps by itself, or distributions let it keep: no program runs what they say."""
_LOCALE: Final = re.compile(r"LC_[A-Z]+|LC_\*")


def _settings(lines: Sequence[str], paths: Sequence[str]) -> _Settings:
    """Return the settings that stand before the rules."""
    # Before its headings sudo-rs complains about settings that it does not know, and does not follow.
    first = next((number for number, line in enumerate(lines) if _HEADING.match(line)), len(lines))
    text = "\n".join(line for line in lines[first:] if line.startswith(" "))
    general, *scoped = _SCOPE.split(text)
    found = _Settings({}, {}, {}, frozenset())
    maybe = set() if _name(general, found.general) else {""}
    for kind, each in zip(scoped[::2], scoped[1::2], strict=False):
        whom, words = _scoped(each.strip()) if kind == "!" else each.strip().split(" ", 1)
        concerns = _concerns(kind, whom, paths)
        named: dict[str, str | bool] = {}
        if not _name(words, (found.of_command if kind == "!" else found.as_root) if concerns else named) and concerns:
            maybe.add("")
        if concerns is None:
            maybe |= named.keys()
    return _Settings(found.general, found.as_root, found.of_command, frozenset(maybe))


_LISTED: Final = re.compile(r"(?:[^,]*,\s+(?=!*(?:[/^]|ALL\b|sha\d)))*\S+")


def _scoped(text: str) -> tuple[str, str]:
    """Return the commands that settings are for, and the settings: `/bin/a x, /bin/b noexec`."""
    whom = _LISTED.match(text)
    return (whom[0], text[whom.end() :]) if whom else ("", text)


def _concerns(kind: str, whom: str, paths: Sequence[str]) -> bool | None:
    """Tell whether settings for a command, or for whom a user becomes, are those of the program run as root."""
    if kind == "!":
        found = [_concerns_command(each, paths) for each in _COMMA.split(whom)[::2]]
        # A later one of the list may take back what an earlier one says.
        return found[0] if len(found) == 1 else None if any(each is not False for each in found) else False
    if _ROOT.fullmatch(whom):
        return True
    return False if _USER.fullmatch(whom) else None


def _concerns_command(command: str, paths: Sequence[str]) -> bool | None:
    """Tell whether a command that settings are for is the program."""
    path, _, arguments = command.lstrip("!").partition(" ")
    fits = _fits(path, paths)
    is_plain = path in ("ALL", *paths) or not set("*?[") & set(path)
    return fits if fits is False or (is_plain and not arguments and path == command) else None


def _name(text: str, found: dict[str, str | bool]) -> bool:
    """Add settings by their names: `noexec, !requiretty, runcwd=/` → True, False, "/"; tell whether all could be read.

    What is added to a list joins what it holds: what is taken from it again is left in.
    """
    for sign, name, change, value in _SETTING.findall(text):
        if change == "-":
            continue
        told = re.sub(r"\\(.)", r"\1", value.strip('"'))
        joined = f"{found[name]} {told}" if change and name in found else told
        found[name] = joined if value else not sign
    return not _SETTING.sub("", text).strip(", \n")


def _stop(settings: _Settings, tags: frozenset[str]) -> str | None:
    """Return the setting that stops the program, "" when none does, None when that is not known."""
    is_known = True
    for name, tag, harmless in _STOPS:
        value = settings.value(name, harmless[0])
        if tag and (tag in tags or f"NO{tag}" in tags):
            # A rule's own tag counts more. NOEXEC forbids, as INTERCEPT does.
            value = (f"NO{tag}" if name == "noexec" else tag) in tags
        if value is None:
            is_known = False
        elif value not in harmless:
            return name
    is_known = is_known and all(settings.is_harmless(name) for name in settings.names)
    # What a program leaves behind does not run on then, unless it is a unit of systemd: that the listing does not tell.
    return "" if is_known and settings.value("log_subcmds", default=False) is False else None


def _loose(settings: _Settings, entry: _Entry) -> str | None:
    """Return what lets the caller choose variables or root folder, "" when nothing does, None when it is not known."""
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
    # What runs in another root folder, or in a way that is not known here, is another program.
    return None if chroot or not entry.is_known or None in (chroot, sets, resets, *kept.values()) else ""


def _needs_none(tags: AbstractSet[str], settings: _Settings) -> bool | None:
    """Tell whether no password is needed; a rule's own tag counts more than a setting."""
    # Whoever is of that group is asked for none, whatever a tag says.
    groups = [part.get("exempt_group") for part in (settings.general, settings.as_root, settings.of_command)]
    is_exempt = None if any(groups) or "exempt_group" in settings.maybe else False
    if tags & {"PASSWD", "NOPASSWD"}:
        return True if "NOPASSWD" in tags else is_exempt
    asks = settings.value("authenticate", default=True)
    return None if asks is None else is_exempt if asks else True
