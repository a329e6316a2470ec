"""How sshd_config is read, a part of the section security: its lines, and whom each of them is for."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..host import Host, lines_of
    from .installed import paths_of

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
# Whom a line of sshd_config is for: what is said before any Match, what a Match says to all, or only to some.
EVERYBODY, MATCHED, SOME = "everybody", "matched", "some"
ALL_ADDRESSES = {"0.0.0.0/0", "::/0"}
ALONE = ("all", "canonical", "final", "invalid-user")  # criteria of Match without a value


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


def criteria_of(words: "list[str]") -> "list[tuple[str, str]]":
    """Return the criteria of a Match with their values.

    User bob Address=192.0.2.0/24
    """
    told, left = [], iter(words)
    for word in left:
        name, sign, value = word.partition("=")
        name = name.lower()
        told.append((name, value if sign or name in ALONE else next(left, "")))
    return told


def matches_every_value(patterns: str) -> bool:
    """Tell whether patterns fit every value: `*`, or the addresses of both versions, and none with `!`."""
    words = set(patterns.split(","))
    return ("*" in words or words >= ALL_ADDRESSES) and not any(word[:1] == "!" for word in words)


def matches_all(words: "list[str]") -> bool:
    """Tell whether a Match holds for every visitor: `all`, or patterns that leave nobody out.

    User * Address 0.0.0.0/0,::/0
    """
    told = criteria_of(words)
    return told == [("all", "")] or bool(told) and all(matches_every_value(value) for _, value in told)


class Block(str):
    """The scope SOME of one Match: which visitors, by its own criteria and those of the blocks that include its file."""

    criteria = ()  # type: tuple[list[str], ...]
    pairs = []  # type: list[tuple[str, str]]

    def within(self, outer: str, words: "list[str]") -> "Block":
        """Return this with its criteria, below those of an outer block."""
        self.criteria = (*getattr(outer, "criteria", ()), words)
        self.pairs = [pair for one in self.criteria for pair in criteria_of(one)]
        return self

    def holds(self, visitor: "Any", ports: "list[int]") -> "bool | None":
        """Tell whether it is for a visitor, None for one who comes in a way that is not told, or may be in a group."""
        told = [visitor.meets(name, value, ports) for name, value in self.pairs]
        return False if False in told else (None if None in told else True)

    def names(self, word: str) -> "set[str]":
        """Return the only values of a criterion that are meant, none where there may be others."""
        told = [value for name, value in self.pairs if name == word]
        return set(told[0].split(",")) if len(told) == 1 and not re.search(r"[*?!]", told[0]) else set()
