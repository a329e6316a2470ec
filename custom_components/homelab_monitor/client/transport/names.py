"""What a machine may be called by a word that anybody in the network may have said. Pure.

A name is normalised first and judged last, as it will be shown: whatever is taken off it afterwards could make another
one of it (`192.0.2.1.local`).
"""

from functools import lru_cache
from ipaddress import ip_address
import re

from ..errors import first_line

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_NUMBER = r"(?:0x[0-9a-f]+|[0-9]+)"
"""A part of an IPv4 address as inet_aton(3) reads it: decimal, octal, hexadecimal, and all of it may be one number."""
_FOUR_NUMBERS = re.compile(rf"(?<![0-9]){_NUMBER}(?:[._-]+{_NUMBER}){{3}}")
_ONE_NUMBER = re.compile(r"0x[0-9a-f]{6,}|[0-9]{8,}")
"""A whole IPv4 address; shorter ones are words as well, where letters are read as digits: `so2`, `i7`, `oxide`."""
_HARDWARE_ADDRESS = re.compile(r"[0-9a-f]{12}")
_IN_GROUPS = re.compile(r"[0-9a-f]{2}(?:[._-][0-9a-f]{2}){5}|[0-9a-f]{4}(?:[._-][0-9a-f]{4}){2}")
_ZONE = re.compile(r"s[0-9]+$")
"""What Windows writes for `%4` in a name (ipv6-literal.net)."""
_AS_DIGITS = str.maketrans("olisz", "01152")
"""Letters that look like digits and are none of the hexadecimal ones."""
_AS_DECIMALS = str.maketrans("oliszb", "011528")
_AS_LETTERS = str.maketrans("0125i8", "olzslb")
_DIGIT = re.compile(r"[0-9]")


def name_of(said: str | None, limit: int = 253) -> str:
    """Return the name in what a machine is said to be called, "" where it is none, or reads like somebody's address.

    nas.local.  →  nas
    192.0.2.1.local  →  nothing, as well as l92.0.2.1, 192-0-2-1.lan, 0xc0000201, fe8O--1 and 02-00-00-00-00-01
    """
    name = first_line(said or "").strip().rstrip(".")
    while name.lower().endswith(".local"):
        name = name[: -len(".local")].rstrip(".")
    name = name[:limit]
    return name if _HOST_NAME.fullmatch(name) and not _is_misleading(name.lower()) else ""


def _is_misleading(name: str) -> bool:
    """Tell whether a name reads like an address, like this machine, or like nothing that a person can read."""
    first, *_ = labels = name.split(".")
    if any(_LOCALHOST in _look(label) or label.startswith("xn--") for label in labels):
        return True
    if labels[-1] == "arpa" and labels[-2:-1] != ["home"]:
        return True
    if re.fullmatch(_NUMBER, first) or _FOUR_NUMBERS.search(name) or _looks_like_ipv4(name):
        return True
    return _is_ipv6(first) or any(map(_is_hardware_address, (name, first)))


def _looks_like_ipv4(name: str) -> bool:
    """Tell whether a name is an IPv4 address once letters are read as the digits that they look like.

    Of words that can be read like that only those are one that have a digit, or no letter but the three that look most
    like one: `oil` and `silo-is-so-lo` are none.
    """
    for table in (_AS_DIGITS, _AS_DECIMALS):
        read = name.translate(table)
        labels = read.split(".")
        written = name.partition(".")[0]
        if _ONE_NUMBER.fullmatch(labels[0]) and _DIGIT.search(written):
            return True
        if len(labels) > 1 and all(re.fullmatch(_NUMBER, label) for label in labels) and _is_digital(name):
            return True
        if any(_is_digital(name[found.start() : found.end()]) for found in _FOUR_NUMBERS.finditer(read)):
            return True
    return False


def _is_digital(written: str) -> bool:
    """Tell whether somebody who reads quickly takes what can be read as numbers for numbers."""
    return _DIGIT.search(written) is not None or not re.search(r"[^oli._-]", written)


def _is_ipv6(label: str) -> bool:
    """Tell whether a label is, or looks like, an IPv6 address with other signs for its colons, as no name has those."""
    written = _ZONE.sub("", re.sub(r"[-_]", ":", label))
    return any(map(is_address, (written, written.translate(_AS_DIGITS))))


def is_address(text: str) -> bool:
    """Tell whether it is an IP address as a program writes it."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_hardware_address(name: str) -> bool:
    """Tell whether a name is, or looks like, a MAC address, in any of the ways to write one."""
    read = name.translate(_AS_DIGITS)
    if _HARDWARE_ADDRESS.fullmatch(re.sub(r"[._-]", "", name)) or _IN_GROUPS.fullmatch(read):
        return True
    return bool(_HARDWARE_ADDRESS.fullmatch(re.sub(r"[._-]", "", read)) and _DIGIT.search(name))


@lru_cache(maxsize=4096)
def looks(name: str) -> frozenset[str]:
    """Return what a name looks like, as a whole and without its domain: names that share one may be confused.

    Case, signs between the words, and letters that look like digits or like two others are no difference: `NAS` and
    `na5`, `docker` and `clocker`.
    """
    return frozenset(filter(None, map(_look, (name, name.partition(".")[0]))))


def _look(name: str) -> str:
    """Return the letters and digits of a name, one of each that look alike."""
    plain = "".join(sign for sign in name.casefold() if sign.isalnum())
    return plain.translate(_AS_LETTERS).replace("rn", "m").replace("vv", "w").replace("cl", "d")


_LOCALHOST = _look("localhost")
