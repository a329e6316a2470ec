"""What `sudo -l` says of one program: whether its user may run it as root, without a password and without hindrance.

sudo shows rules and settings as they were written, so not all can be understood here: patterns, aliases, what stands
for several users. Each answer is therefore yes, no, or None for "not known", and what is not understood is never a yes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
import re
from typing import Final

from .errors import first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the listing says of the program."""

    has_rule: bool | None = False
    """Whether the rule that counts lets the user run it as root, without a password."""
    is_named: bool = False
    """Whether a rule that would do so names it, where another may allow everything."""
    has_all: bool = False
    """Whether some rule allows every command, if only with a password: then sudo's word on one tells nothing."""
    is_open: bool = False
    """Whether a rule allows arguments."""
    overruled_by: str = ""
    """The rule that counts more than the one that would allow it."""
    stopped_by: str = ""
    """The setting that keeps it from running all the same."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One command of a rule that fits the program, or may fit it; the last one that fits counts."""

    rule: str
    fits: bool | None
    is_enough: bool | None
    allows: bool
    is_all: bool
    is_named: bool
    """Whether it names the program, and not a folder or a pattern."""
    is_open: bool
    tags: frozenset[str]
    is_weighed: bool
    """Whether only sudo knows if it holds now: by a date, or by a digest of the file."""


_RULE: Final = re.compile(r"\s+\(([^)]*)\) (.*)")
_COMMA: Final = re.compile(r"(?<!\\),\s*")
_TAG: Final = re.compile(r"([A-Z_]+): |([A-Z_]+=\S+) |sha\d+:\S+ ")
"""Tags (NOPASSWD, NOEXEC …), options (CWD=…) and digests of sudoers(5), which stand before a command."""
_WEIGHED: Final = re.compile(r"(?:NOTBEFORE|NOTAFTER)=|sha\d+:")
_HARMLESS_OPTION: Final = re.compile(r"(?:NOTBEFORE|NOTAFTER|TIMEOUT)=.*|(?:CWD|CHROOT)=\*")
"""Those that sudo itself has weighed when it is asked about the command, or that only allow something."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+:@%=~-]+")
"""Paths that mean themselves."""
_ODD: Final = re.compile(r"//|/\.\.?(?:/|$)")
"""In paths that may be another one, written in another way."""
_USER: Final = re.compile(r"#?[a-z0-9_][a-zA-Z0-9_.-]*\$?")
"""Users that mean themselves: no alias, no group."""


def read_listing(lines: Sequence[str], paths: Sequence[str], *, is_sudo_rs: bool, is_allowed: bool) -> Listed:
    """Return what the lines of `sudo -l` say of a program, by all of its paths.

    `is_allowed` tells whether sudo, asked about the program, says that it may be run, be it with a password.
    """
    start = next((number for number, line in enumerate(lines) if _RULE.match(line)), len(lines))
    settings = _settings(lines[:start], paths)
    entries = [entry for line in lines[start:] for entry in _entries(line, paths, settings, is_sudo_rs=is_sudo_rs)]
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
    stop = _stop(settings, last.tags if last else frozenset())
    certain = [entry for entry in entries if entry.fits and entry.is_enough]
    return Listed(
        has_rule=None if has_rule and stop is None else has_rule,
        is_named=any(entry.is_named for entry in certain),
        has_all=any(entry.is_all for entry in entries),
        # An earlier rule still allows what the last one does not fit.
        is_open=not (last and last.is_all) and any(entry.is_open for entry in certain),
        overruled_by=last.rule if last and has_rule is False and certain else "",
        stopped_by=stop or "",
    )


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


# ---------------------------------------------------------------- rules


def _entries(line: str, paths: Sequence[str], settings: _Settings, *, is_sudo_rs: bool) -> Iterator[_Entry]:
    """Yield the commands of one rule that fit the program, or may; tags stay on for those that follow."""
    if not (found := _RULE.match(line)):
        return
    rule, is_root = first_line(line), _is_root(found[1])
    tags: set[str] = set()
    for command in _COMMA.split(found[2]):
        start, is_plain, is_weighed = 0, True, False
        while tag := _TAG.match(command, start):
            start = tag.end()
            is_weighed = is_weighed or _WEIGHED.match(tag[0]) is not None
            if tag[1]:
                tags -= {tag[1].removeprefix("NO"), f"NO{tag[1]}"}
                tags.add(tag[1])
            elif tag[2]:
                is_plain = is_plain and _HARMLESS_OPTION.fullmatch(tag[2]) is not None
        word = command[start:]
        path, _, arguments = word.removeprefix("!").partition(" ")
        # A rule for others than root says nothing of what becomes root's.
        fits = _both(_both(_fits(path, paths), _takes_none(arguments)), is_root)
        if fits is False:
            continue
        allows, is_all = not word.startswith("!"), path == "ALL"
        is_enough = _both(allows, _both(_needs_none(tags, settings), True if is_plain else None))
        # sudo-rs leaves out the quotes that say "without arguments".
        is_open = bool(is_enough) and not is_all and arguments != '""' and not is_sudo_rs
        yield _Entry(rule, fits, is_enough, allows, is_all, path in paths, is_open, frozenset(tags), is_weighed)


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


def _fits(path: str, paths: Sequence[str]) -> bool | None:
    """Tell whether a path of sudoers(5) is the program's; folders and asterisks are read, other patterns are not."""
    if path in ("ALL", *paths):
        return True
    # sudo looks for the file that is meant, which a link may also lead to.
    if path.startswith("/") and (_ODD.search(path) or path.rpartition("/")[2] == paths[0].rpartition("/")[2]):
        return None
    if path.endswith("/") and _PLAIN.fullmatch(path):
        return any(each.startswith(path) and "/" not in each[len(path) :] for each in paths)
    if path.startswith("/") and _PLAIN.fullmatch(path.replace("*", "")):
        return "*" in path and any(_fits_pattern(path, each) for each in paths)
    # Words that are no path stand for something else, as sudo-rs's aliases; sudoedit and list for themselves.
    return False if path in ("sudoedit", "list") else None


def _fits_pattern(pattern: str, path: str) -> bool:
    """Tell whether a pattern with asterisks, which stand for no slash, is a path's."""
    first, *others = pattern.split("*")
    if pattern.count("/") != path.count("/") or not path.startswith(first):
        return False
    at = len(first)
    for part in others[:-1]:
        if (found := path.find(part, at)) < 0:
            return False
        at = found + len(part)
    return path.endswith(others[-1]) and len(path) - len(others[-1]) >= at


def _is_root(users: str) -> bool | None:
    """Tell whether the users that a rule names, before the colon of the groups, are root among others."""
    found = [word.strip() for word in users.partition(":")[0].split(",")]
    named = [word for word in found if word.lstrip("!") in ("root", "ALL", "#0")]
    if any(word and word not in named and not _USER.fullmatch(word.lstrip("!")) for word in found):
        return None
    return bool(named) and not named[-1].startswith("!")


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
        if name in self.of_command:
            return self.of_command[name]
        found = {part[name] for part in (self.general, self.as_root) if name in part} or {default}
        return None if len(found) > 1 or (name in self.maybe) else found.pop()


_HEADING: Final = re.compile(r"Matching Defaults entries|Runas and Command-specific defaults")
_SCOPE: Final = re.compile(r"(?:^|\s)Defaults([!>])")
_STOPS: Final[tuple[tuple[str, str, tuple[str | bool, ...]], ...]] = (
    # setting, tag of a rule that says the same, what is harmless (the first is the default)
    ("noexec", "EXEC", (False,)),
    ("requiretty", "", (False,)),
    ("intercept", "INTERCEPT", (False,)),
    ("runas_default", "", ("root",)),
    ("runchroot", "", ("", False, "*")),
    ("runcwd", "", ("", False, "*", "~", "/")),
    ("role", "", ("", False)),
    ("apparmor_profile", "", ("", False)),
)
"""Settings of sudoers(5) with which a script that starts programs does not run, or not as root."""


def _settings(lines: Sequence[str], paths: Sequence[str]) -> _Settings:
    """Return the settings that stand before the rules."""
    # Before its headings sudo-rs complains about settings that it does not know, and does not follow.
    first = next((number for number, line in enumerate(lines) if _HEADING.match(line)), len(lines))
    general, *scoped = _SCOPE.split("\n".join(lines[first:]))
    found = _Settings(_named(re.split(r",\s*|\n\s*", general)), {}, {}, frozenset())
    maybe: set[str] = set()
    for kind, text in zip(scoped[::2], scoped[1::2], strict=False):
        whom, _, words = text.strip().partition(" ")
        named = _named(re.split(r"[,\s]+", words))
        concerns = _concerns(kind, whom, paths)
        if concerns:
            (found.of_command if kind == "!" else found.as_root).update(named)
        elif concerns is None:
            maybe |= named.keys()
    return _Settings(found.general, found.as_root, found.of_command, frozenset(maybe))


def _concerns(kind: str, whom: str, paths: Sequence[str]) -> bool | None:
    """Tell whether settings for a command, or for whom a user becomes, are those of the program run as root."""
    if kind == "!":
        return _fits(whom, paths) if whom in ("ALL", *paths) or "*" not in whom else None
    if whom in ("root", "ALL", "#0"):
        return True
    return False if _USER.fullmatch(whom) else None


def _named(words: Sequence[str]) -> dict[str, str | bool]:
    """Return settings by their names: `noexec, !requiretty, runcwd=/` → True, False, "/"."""
    found: dict[str, str | bool] = {}
    for word in words:
        name, sign, value = word.strip().partition("=")
        found[name.lstrip("!").rstrip("+- ")] = value.strip('"') if sign else not name.startswith("!")
    return found


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
    # What a program leaves behind does not run on then, unless it is a unit of systemd: that the listing does not tell.
    return "" if is_known and settings.value("log_subcmds", default=False) is False else None


def _needs_none(tags: set[str], settings: _Settings) -> bool | None:
    """Tell whether no password is needed; a rule's own tag counts more than a setting."""
    if tags & {"PASSWD", "NOPASSWD"}:
        return "NOPASSWD" in tags
    asks = settings.value("authenticate", default=True)
    if asks and "exempt_group" in settings.general:
        return None
    return None if asks is None else not asks
