"""Whom an SSH server lets in how, a part of the section security: what its settings decide together for each visitor.

A visitor is somebody of this machine's accounts, or one whom only the settings name, or anybody else. Where a block of
Match or a list of users holds for one from some addresses only, or hangs on groups that nobody here knows, the worse counts.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from ..host import Host, Json, lines_of
    from .sshd_config import EVERYBODY, MATCHED, SOME, SSHD_DEFAULTS, leaves_nobody_out, sshd_ports
    from .verdicts import verdict

    Line = tuple[list[str], str]

# Who may log in at all, in the order in which sshd asks (sshd_config(5)): their lines add up.
USER_LISTS = ("denyusers", "allowusers", "denygroups", "allowgroups")
ADDING_UP = ("port", "listenaddress", *USER_LISTS)
MOST_BLOCKS, MOST_PAIRS = 30, 2000  # that are looked at in pairs, of one visitor and of all
MOST_VISITORS = 200
# With one of these a system's own account has no login (nologin(8), false(1)); people with one may still use sftp.
NO_SHELLS = ("nologin", "false", "sync", "halt", "shutdown")
FIRST_PERSON, NOBODY = 1000, 65534


def fits(patterns: str, value: str) -> bool:
    """Tell whether a list of patterns fits a value; one with `!` before it that does decides (ssh_config(5), PATTERNS)."""
    words = patterns.split(",")
    return not any(like(word[1:], value) for word in words if word[:1] == "!") and any(like(word, value) for word in words)


def like(pattern: str, value: str) -> bool:
    """Tell whether a pattern fits a value; only `*` and `?` are other than themselves."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == value
    return bool(re.match(re.escape(pattern).replace("\\*", ".*").replace("\\?", ".") + r"\Z", value, re.DOTALL))


class Caller:
    """Somebody who may come; `groups` is None where they are not known."""

    def __init__(self, name: str, uid: int = -1, groups: "set[str] | None" = None) -> None:
        self.name = name
        self.is_root = uid == 0
        self.groups = groups

    def meets(self, name: str, value: str, ports: "list[int]") -> "bool | None":
        """Tell whether this is one whom a criterion of Match means, None where that is not known."""
        if name == "user":
            return fits(value, self.name)
        if name == "group":
            return self.is_in(value.split(","))
        if name == "localport" and ports:
            return (None if len(ports) > 1 else True) if value in map(str, ports) else False
        if name == "invalid-user":
            return None if self.groups is None else False
        return True if name == "all" or leaves_nobody_out(value) else None

    def is_in(self, patterns: "list[str]") -> "bool | None":
        """Tell whether one of the groups fits; one with `!` before it that does decides."""
        if self.groups is None:
            return None
        if any(like(word[1:], group) for word in patterns if word[:1] == "!" for group in self.groups):
            return False
        return any(like(word, group) for word in patterns for group in self.groups)

    def is_listed(self, patterns: "Iterable[str]") -> "bool | None":
        """Tell whether a list of users names this one, None where it does with some addresses only.

        bob root@192.0.2.0/24
        """
        hosts = [host for name, _, host in (word.partition("@") for word in patterns) if like(name, self.name)]
        return None if hosts and not any(leaves_nobody_out(host or "*") for host in hosts) else bool(hosts)

    def may_come(self, settings: "dict[str, list[str]]") -> "tuple[bool, set[str]]":
        """Tell whether the lists let this one log in, and which of them only may do so (sshd_config(5), AllowGroups)."""
        deny_users, allow_users, deny_groups, allow_groups = (settings.get(name, []) for name in USER_LISTS)
        is_let = self.is_listed(allow_users) if allow_users else True
        is_in = self.is_in(allow_groups) if allow_groups else True
        if self.is_listed(deny_users) or is_let is False or self.is_in(deny_groups) or is_in is False:
            return False, set()
        return True, {name for name, told in (("allowusers", is_let), ("allowgroups", is_in)) if told is None}


def accounts(host: "Host") -> "dict[str, Caller | None]":
    """Return this machine's own accounts, None for those of the system that have no login (passwd(5), group(5))."""
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


def note(told: "dict[str, list[str]]", words: "list[str]") -> None:
    """Note a setting: of several lines the first one counts, but for those that add up."""
    if words[0] in ADDING_UP:
        told.setdefault(words[0], []).extend(words[1:2] if words[0] in ADDING_UP[:2] else words[1:])
    else:
        told.setdefault(words[0], words[1:])


def sshd_settings(lines: "Iterable[Line]") -> "tuple[dict[str, list[str]], set[str]]":
    """Return the arguments that hold for everybody, and what is another for some.

    Of several lines the first wins, but for ports and lists of users; what a Match says to all wins over what stands before
    it, as sshd reads the matching blocks anew for each visitor and lets them override the rest (sshd_config(5), Match).
    """
    told = {EVERYBODY: {}, MATCHED: {}, SOME: {}}  # type: dict[str, dict[str, list[str]]]
    for words, scope in lines:
        note(told[scope], words)
    return dict(told[EVERYBODY], **told[MATCHED]), set(told[SOME])


class Way:
    """What holds for a visitor who comes in one way; `is_usual` where no block for some has a part in it."""

    def __init__(self, settings: "dict[str, list[str]]", visitor: Caller, is_usual: bool) -> None:
        self.settings = settings
        self.is_open, self.doubts = visitor.may_come(settings)
        self.is_usual = is_usual and not self.doubts
        self.login = values_of(settings)["permitrootlogin"] if visitor.is_root else "yes"
        self.is_root = visitor.is_root

    def takes_passwords(self) -> bool:
        """Tell whether nothing but a password is needed."""
        return self.login == "yes" and lets_passwords_in(self.settings)


class Rules:
    """What the lines say to everybody, and each block for some visitors that says something of logins, with all that holds in it."""

    def __init__(self, lines: "list[Line]", settings: "dict[str, list[str]]", ports: "list[int]") -> None:
        self.settings = settings
        self.ports = ports
        self.pairs_left = MOST_PAIRS
        said = [(number, words, scope) for number, (words, scope) in enumerate(lines)]
        self.matched = [(number, words) for number, words, scope in said if scope == MATCHED]
        counted = [scope for words, scope in lines if scope == SOME and words[0] in (*SSHD_DEFAULTS, *USER_LISTS)]
        found = {id(scope): scope for scope in counted}  # type: dict[int, Any]
        by_criteria = {}  # type: dict[str, list[tuple[int, list[str]]]]
        for number, words, scope in said:
            if scope == SOME:
                by_criteria.setdefault(str(getattr(scope, "criteria", ())), []).append((number, words))
        self.blocks = []  # type: list[tuple[Any, list[tuple[int, list[str]]]]]
        for scope in found.values():
            around = {str(scope.criteria[:depth]) for depth in range(1, len(scope.criteria) + 1)}
            self.blocks.append((scope, [one for name in around for one in by_criteria.get(name, [])]))

    def lists(self, *keywords: str) -> "list[str]":
        """Return what all lists of users hold, those of blocks, too."""
        said = [words for _, own in self.blocks for _, words in own if words[0] in keywords]
        return [word for name in keywords for word in self.settings.get(name, [])] + [
            word for words in said for word in words[1:]
        ]

    def callers(self, host: "Host") -> "list[Caller]":
        """Return one visitor of each kind that the rules tell apart."""
        known, listed = accounts(host), sorted(set(self.lists(*USER_LISTS)))
        named = [value for block, _ in self.blocks for name, value in block.pairs if name == "user"]
        named += [word.partition("@")[0] for word in self.lists(*USER_LISTS[:2])]
        # A pattern stands for whoever has the shortest name that fits it; the second one is anybody else.
        names = [word.lstrip("!").replace("*", "").replace("?", "x") for one in named for word in one.split(",")]
        kinds = {}  # type: dict[Any, Caller]
        for name in list(dict.fromkeys(["root", "\n", *filter(None, names), *known]))[:MOST_VISITORS]:
            one = known.get(name, Caller(name))
            if one is not None:
                holds = [block.holds(one, self.ports) for block, _ in self.blocks]
                kinds.setdefault(str((one.is_root, holds, [(one.is_listed([word]), one.is_in([word])) for word in listed])), one)
        return list(kinds.values())

    def ways(self, caller: Caller) -> "Iterator[Way]":
        """Yield the ways in which a visitor may come that are open.

        With the blocks that always hold: without any other, with each other that may hold, and with each two that may
        hold together. Of all that match the first value of a keyword counts.
        """
        told = [(block, own, block.holds(caller, self.ports)) for block, own in self.blocks]
        always = [one for _, own, holds in told if holds for one in own]
        found = [(block, own) for block, own, holds in told if holds is None]
        groups = [[], *{str([words for _, words in own]): own for _, own in found}.values()]
        for i, (one, own) in enumerate(found[:MOST_BLOCKS] if self.pairs_left > 0 else []):
            groups += [own + others for other, others in found[i + 1 : MOST_BLOCKS] if may_meet(one, other)]
        self.pairs_left -= len(groups)
        for group in groups:
            first = {}  # type: dict[str, list[str]]
            for _, words in sorted(dict(self.matched + always + group).items()):
                note(first, words)
            way = Way(dict(self.settings, **first), caller, not (always or group))
            if way.is_open:
                yield way


def may_meet(one: "Any", other: "Any") -> bool:
    """Tell whether a visitor may be meant by two blocks: not by two that name other users, addresses or hosts."""
    return all(
        not one.names(word) or not other.names(word) or one.names(word) & other.names(word)
        for word in ("user", "address", "host", "localport")
    )


def values_of(settings: "dict[str, list[str]]") -> "dict[str, str]":
    """Return the first word of each setting that counts, sshd's own where nothing is said."""
    value = {key: (settings.get(key) or [default])[0].lower() for key, default in SSHD_DEFAULTS.items()}
    value["permitrootlogin"] = value["permitrootlogin"].replace("without-password", "prohibit-password")
    return value


def lets_passwords_in(settings: "dict[str, list[str]]") -> bool:
    """Tell whether somebody with nothing but a password is let in.

    PAM asks for passwords, too, where it may ask questions; and of the lists of AuthenticationMethods, all of which
    methods have to succeed, one has to want nothing else.
    """
    value = values_of(settings)
    can = {"password"} if value["passwordauthentication"] == "yes" else set()
    if value["kbdinteractiveauthentication"] == "yes" and value["usepam"] == "yes":
        can.add("keyboard-interactive")
    lists = settings.get("authenticationmethods") or ["any"]
    if lists[0].lower() == "any":
        return bool(can)
    return any(can.issuperset(method.partition(":")[0].lower() for method in one.split(",")) for one in lists)


# How root may log in, the least first.
ROOT_LOGINS = ("no", "forced-commands-only", "prohibit-password", "yes")


def judged_ssh(
    host: "Host",
    lines: "list[Line]",
    settings: "dict[str, list[str]]",
    conditional: "set[str] | None",
    source: str,
    is_started: bool,
) -> "Json":
    """Return what the settings mean together; of a server that is not started for a connection the ports are its own."""
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
    told = verdict("warning" if by_password else "ok", reason, source=source, ports=ports)
    told.update(root_login=root, password_login=bool(by_password))
    if conditional is not None:
        told["conditional"] = sorted(doubts | conditional.intersection({*SSHD_DEFAULTS, *USER_LISTS}))
    return told
