"""Who can log in to an SSH server and how, a part of the section security: what its settings mean for each visitor.

A visitor is an account of this host, a user whom only the settings name, or anybody else. If a Match block or a list of
users applies to a visitor from some addresses only, or depends on groups unknown here, the worse case counts.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from ..host import Host, Json, lines_of
    from .sshd_config import EVERYBODY, MATCHED, SOME, SSHD_DEFAULTS, matches_every_value, sshd_ports
    from .verdicts import verdict

    Line = tuple[list[str], str]

# Who may log in at all, in the order in which sshd checks them (sshd_config(5)): their lines add up.
USER_LISTS = ("denyusers", "allowusers", "denygroups", "allowgroups")
ADDING_UP = ("port", "listenaddress", *USER_LISTS)
MOST_BLOCKS, MOST_PAIRS = 30, 2000  # limits of blocks compared in pairs for one visitor, and of pairs for all
MOST_VISITORS = 200
# With one of these a system's own account has no login (nologin(8), false(1)); people with one may still use sftp.
NO_SHELLS = ("nologin", "false", "sync", "halt", "shutdown")
FIRST_PERSON, NOBODY = 1000, 65534


def matches_patterns(patterns: str, value: str) -> bool:
    """Return whether a list of patterns matches a value; a matching `!` pattern excludes it (ssh_config(5), PATTERNS)."""
    words = patterns.split(",")
    return not any(matches_pattern(word[1:], value) for word in words if word[:1] == "!") and any(matches_pattern(word, value) for word in words)


def matches_pattern(pattern: str, value: str) -> bool:
    """Return whether a pattern matches a value; only `*` and `?` are special."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == value
    return bool(re.match(re.escape(pattern).replace("\\*", ".*").replace("\\?", ".") + r"\Z", value, re.DOTALL))


class Caller:
    """A user who may connect; `groups` is None if unknown."""

    def __init__(self, name: str, uid: int = -1, groups: "set[str] | None" = None) -> None:
        self.name = name
        self.is_root = uid == 0
        self.groups = groups

    def meets(self, name: str, value: str, ports: "list[int]") -> "bool | None":
        """Return whether this user meets a criterion of Match, None if unknown."""
        if name == "user":
            return matches_patterns(value, self.name)
        if name == "group":
            return self.is_in(value.split(","))
        if name == "localport" and ports:
            return (None if len(ports) > 1 else True) if value in map(str, ports) else False
        if name == "invalid-user":
            return None if self.groups is None else False
        return True if name == "all" or matches_every_value(value) else None

    def is_in(self, patterns: "list[str]") -> "bool | None":
        """Return whether a pattern matches one of the groups, None if unknown; a matching `!` pattern excludes the user."""
        if self.groups is None:
            return None
        if any(matches_pattern(word[1:], group) for word in patterns if word[:1] == "!" for group in self.groups):
            return False
        return any(matches_pattern(word, group) for word in patterns for group in self.groups)

    def is_listed(self, patterns: "Iterable[str]") -> "bool | None":
        """Return whether a list of users names this one, None if only from some addresses.

        bob root@192.0.2.0/24
        """
        hosts = [host for name, _, host in (word.partition("@") for word in patterns) if matches_pattern(name, self.name)]
        return None if hosts and not any(matches_every_value(host or "*") for host in hosts) else bool(hosts)

    def may_come(self, settings: "dict[str, list[str]]") -> "tuple[bool, set[str]]":
        """Return whether the lists let this user log in, and which of them are uncertain (sshd_config(5), AllowGroups)."""
        deny_users, allow_users, deny_groups, allow_groups = (settings.get(name, []) for name in USER_LISTS)
        is_let = self.is_listed(allow_users) if allow_users else True
        is_in = self.is_in(allow_groups) if allow_groups else True
        if self.is_listed(deny_users) or is_let is False or self.is_in(deny_groups) or is_in is False:
            return False, set()
        return True, {name for name, result in (("allowusers", is_let), ("allowgroups", is_in)) if result is None}


def accounts(host: "Host") -> "dict[str, Caller | None]":
    """Return this host's accounts by name, None for system accounts that cannot log in (passwd(5), group(5))."""
    names, members = {}, {}  # type: dict[str, str], dict[str, set[str]]
    for line in lines_of(host.text("/etc/group")):
        words = line.split(":")
        if len(words) >= 4:
            names[words[2]] = words[0]
            for member in words[3].split(","):
                members.setdefault(member, set()).add(words[0])
    found = {}  # type: dict[str, Caller | None]
    for line in lines_of(host.text("/etc/passwd")):
        words = line.split(":")
        if len(words) >= 7 and words[2].isdigit():
            uid, shell = int(words[2]), words[6].rpartition("/")[2]
            is_systems = 0 < uid < FIRST_PERSON or uid == NOBODY
            groups = members.get(words[0], set()) | {names.get(words[3], "")}
            found[words[0]] = None if is_systems and shell in NO_SHELLS else Caller(words[0], uid, groups)
    found.setdefault("root", Caller("root", 0, members.get("root", set()) | {names.get("0", "root")}))
    return found


def note(settings: "dict[str, list[str]]", words: "list[str]") -> None:
    """Add a line to the settings: the first line of a keyword counts, except for those that add up."""
    if words[0] in ADDING_UP:
        settings.setdefault(words[0], []).extend(words[1:2] if words[0] in ADDING_UP[:2] else words[1:])
    else:
        settings.setdefault(words[0], words[1:])


def sshd_settings(lines: "Iterable[Line]") -> "tuple[dict[str, list[str]], set[str]]":
    """Return the arguments that apply to everybody, and the keywords that differ for some.

    The first line of a keyword wins, except for ports and lists of users; a Match that applies to all overrides what
    comes before it, as sshd reads the matching blocks again for each visitor (sshd_config(5), Match).
    """
    by_scope = {EVERYBODY: {}, MATCHED: {}, SOME: {}}  # type: dict[str, dict[str, list[str]]]
    for words, scope in lines:
        note(by_scope[scope], words)
    return dict(by_scope[EVERYBODY], **by_scope[MATCHED]), set(by_scope[SOME])


class Way:
    """The settings for a visitor under one combination of blocks; `is_usual` if no block for some is part of it."""

    def __init__(self, settings: "dict[str, list[str]]", visitor: Caller, is_usual: bool) -> None:
        self.settings = settings
        self.is_open, self.doubts = visitor.may_come(settings)
        self.is_usual = is_usual and not self.doubts
        self.login = values_of(settings)["permitrootlogin"] if visitor.is_root else "yes"
        self.is_root = visitor.is_root

    def takes_passwords(self) -> bool:
        """Return whether a password alone is enough."""
        return self.login == "yes" and allows_passwords(self.settings)


class Rules:
    """The settings for everybody, and each block for some visitors that concerns logins, with all lines that apply in it."""

    def __init__(self, lines: "list[Line]", settings: "dict[str, list[str]]", ports: "list[int]") -> None:
        self.settings = settings
        self.ports = ports
        self.pairs_left = MOST_PAIRS
        numbered = [(number, words, scope) for number, (words, scope) in enumerate(lines)]
        self.matched = [(number, words) for number, words, scope in numbered if scope == MATCHED]
        counted = [scope for words, scope in lines if scope == SOME and words[0] in (*SSHD_DEFAULTS, *USER_LISTS)]
        found = {id(scope): scope for scope in counted}  # type: dict[int, Any]
        by_criteria = {}  # type: dict[str, list[tuple[int, list[str]]]]
        for number, words, scope in numbered:
            if scope == SOME:
                by_criteria.setdefault(str(getattr(scope, "criteria", ())), []).append((number, words))
        self.blocks = []  # type: list[tuple[Any, list[tuple[int, list[str]]]]]
        for scope in found.values():
            around = {str(scope.criteria[:depth]) for depth in range(1, len(scope.criteria) + 1)}
            self.blocks.append((scope, [line for name in around for line in by_criteria.get(name, [])]))

    def lists(self, *keywords: str) -> "list[str]":
        """Return the words of all lists of users, including those in blocks."""
        lines = [words for _, own in self.blocks for _, words in own if words[0] in keywords]
        return [word for name in keywords for word in self.settings.get(name, [])] + [
            word for words in lines for word in words[1:]
        ]

    def callers(self, host: "Host") -> "list[Caller]":
        """Return one visitor of each kind that the rules distinguish."""
        known, listed = accounts(host), sorted(set(self.lists(*USER_LISTS)))
        named = [value for block, _ in self.blocks for name, value in block.pairs if name == "user"]
        named += [word.partition("@")[0] for word in self.lists(*USER_LISTS[:2])]
        # A pattern is represented by the shortest name that matches it; the second name ("\n") is anybody else.
        names = [word.lstrip("!").replace("*", "").replace("?", "x") for one in named for word in one.split(",")]
        kinds = {}  # type: dict[Any, Caller]
        for name in list(dict.fromkeys(["root", "\n", *filter(None, names), *known]))[:MOST_VISITORS]:
            one = known.get(name, Caller(name))
            if one is not None:
                holds = [block.holds(one, self.ports) for block, _ in self.blocks]
                kinds.setdefault(str((one.is_root, holds, [(one.is_listed([word]), one.is_in([word])) for word in listed])), one)
        return list(kinds.values())

    def ways(self, caller: Caller) -> "Iterator[Way]":
        """Yield the combinations of settings under which a visitor can log in.

        The blocks that always apply: without any other, with each other that may apply, and with each two that may
        apply together. Of all matching blocks, the first value of a keyword counts.
        """
        candidates = [(block, own, block.holds(caller, self.ports)) for block, own in self.blocks]
        always = [one for _, own, holds in candidates if holds for one in own]
        found = [(block, own) for block, own, holds in candidates if holds is None]
        groups = [[], *{str([words for _, words in own]): own for _, own in found}.values()]
        for i, (one, own) in enumerate(found[:MOST_BLOCKS] if self.pairs_left > 0 else []):
            groups += [own + others for other, others in found[i + 1 : MOST_BLOCKS] if may_overlap(one, other)]
        self.pairs_left -= len(groups)
        for group in groups:
            first = {}  # type: dict[str, list[str]]
            for _, words in sorted(dict(self.matched + always + group).items()):
                note(first, words)
            way = Way(dict(self.settings, **first), caller, not (always or group))
            if way.is_open:
                yield way


def may_overlap(one: "Any", other: "Any") -> bool:
    """Return whether two blocks may apply to one visitor: not if they name different users, addresses, hosts or ports."""
    return all(
        not one.names(word) or not other.names(word) or one.names(word) & other.names(word)
        for word in ("user", "address", "host", "localport")
    )


def values_of(settings: "dict[str, list[str]]") -> "dict[str, str]":
    """Return the first word of each relevant setting, by default sshd's."""
    value = {key: (settings.get(key) or [default])[0].lower() for key, default in SSHD_DEFAULTS.items()}
    value["permitrootlogin"] = value["permitrootlogin"].replace("without-password", "prohibit-password")
    return value


def allows_passwords(settings: "dict[str, list[str]]") -> bool:
    """Return whether a password alone is enough to log in.

    PAM asks for passwords, too, if keyboard-interactive authentication is on. All methods in a list of
    AuthenticationMethods have to succeed, so one list has to need nothing but a password.
    """
    value = values_of(settings)
    can = {"password"} if value["passwordauthentication"] == "yes" else set()
    if value["kbdinteractiveauthentication"] == "yes" and value["usepam"] == "yes":
        can.add("keyboard-interactive")
    lists = settings.get("authenticationmethods") or ["any"]
    if lists[0].lower() == "any":
        return bool(can)
    return any(can.issuperset(method.partition(":")[0].lower() for method in one.split(",")) for one in lists)


# How root may log in, the most restrictive first.
ROOT_LOGINS = ("no", "forced-commands-only", "prohibit-password", "yes")


def evaluate_ssh(
    host: "Host",
    lines: "list[Line]",
    settings: "dict[str, list[str]]",
    conditional: "set[str] | None",
    source: str,
    is_started: bool,
) -> "Json":
    """Return the verdict on all settings; a server that is not started per connection listens on the configured ports."""
    ports = sshd_ports(settings)
    rules = Rules(lines, settings, ports if is_started else [])
    ways = [way for caller in rules.callers(host) for way in rules.ways(caller)]
    logins = [way.login for way in ways if way.is_root]
    root = max(logins, key=lambda login: ROOT_LOGINS.index(login) if login in ROOT_LOGINS else 0, default="no")
    by_password = [way for way in ways if way.takes_passwords()]
    as_root = [way for way in by_password if way.is_root]
    reason, doubts = "keys_only", set()  # type: str, set[str]
    for found, word in ((by_password, "password_login"), (as_root, "root_password_login")):
        if found:
            is_usual = any(way.is_usual for way in found)
            reason = word if is_usual else word + "_for_some"
            doubts = set() if is_usual else {one for way in found for one in way.doubts}
    part = verdict("warning" if by_password else "ok", reason, source=source, ports=ports)
    part.update(root_login=root, password_login=bool(by_password))
    if conditional is not None:
        part["conditional"] = sorted(doubts | conditional.intersection({*SSHD_DEFAULTS, *USER_LISTS}))
    return part
