"""Names for machines from words that anybody in the network may have sent. Pure.

A name is normalised first and checked last, as it will be shown: whatever is removed from it afterwards could turn it
into another name (`192.0.2.1.local`).
"""

from functools import lru_cache
from ipaddress import ip_address
import re

from ..errors import first_line

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_NUMBER = r"(?:0x[0-9a-f]+|[0-9]+)"
"""A part of an IPv4 address as inet_aton(3) reads it: decimal, octal, hexadecimal; one number may be all of it."""
_FOUR_NUMBERS = re.compile(rf"(?<![0-9]){_NUMBER}(?:[._-]+{_NUMBER}){{3}}")
_ONE_NUMBER = re.compile(r"0x[0-9a-f]{6,}|[0-9]{8,}")
"""A whole IPv4 address; shorter ones may be words if letters are read as digits: `so2`, `i7`, `oxide`."""
_HARDWARE_ADDRESS = re.compile(r"[0-9a-f]{12}")
_IN_GROUPS = re.compile(r"[0-9a-f]{2}(?:[._-][0-9a-f]{2}){5}|[0-9a-f]{4}(?:[._-][0-9a-f]{4}){2}")
_ZONE = re.compile(r"s[0-9]+$")
"""How Windows writes `%4` in a name (ipv6-literal.net)."""
_AS_DIGITS = str.maketrans("olisz", "01152")
"""Letters that look like digits and are not hexadecimal."""
_AS_DECIMALS = str.maketrans("oliszb", "011528")
_AS_LETTERS = str.maketrans("0125i8", "olzslb")
_DIGIT = re.compile(r"[0-9]")


def name_of(reported: str | None, limit: int = 253) -> str:
    """Return the name in a reported name of a machine, "" if it is none or looks like an address.

    nas.local.  →  nas
    192.0.2.1.local  →  nothing, as well as l92.0.2.1, 192-0-2-1.lan, 0xc0000201, fe8O--1 and 02-00-00-00-00-01
    """
    name = first_line(reported or "").strip().rstrip(".")
    while name.lower().endswith(".local"):
        name = name[: -len(".local")].rstrip(".")
    name = name[:limit]
    return name if _HOST_NAME.fullmatch(name) and not _is_misleading(name.lower()) else ""


def _is_misleading(name: str) -> bool:
    """Return whether a name looks like an address or like this system, or cannot be read by a person."""
    first, *_ = labels = name.split(".")
    if any(_LOCALHOST in _skeleton(label) or label.startswith("xn--") for label in labels):
        return True
    if labels[-1] == "arpa" and labels[-2:-1] != ["home"]:
        return True
    if re.fullmatch(_NUMBER, first) or _FOUR_NUMBERS.search(name) or _looks_like_ipv4(name):
        return True
    return _is_ipv6(first) or any(map(_is_hardware_address, (name, first)))


def _looks_like_ipv4(name: str) -> bool:
    """Return whether a name is an IPv4 address if letters are read as the digits that they look like.

    Only words with a digit count, or with no other letters than the three that look most like one: `oil` and
    `silo-is-so-lo` do not.
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
    """Return whether a quick reader would take a text that can be read as numbers for numbers."""
    return _DIGIT.search(written) is not None or not re.search(r"[^oli._-]", written)


def _is_ipv6(label: str) -> bool:
    """Return whether a label is, or looks like, an IPv6 address with other signs for its colons, which no name has."""
    written = _ZONE.sub("", re.sub(r"[-_]", ":", label))
    return any(map(is_address, (written, written.translate(_AS_DIGITS))))


def is_address(text: str) -> bool:
    """Return whether a text is an IP address in standard notation."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_hardware_address(name: str) -> bool:
    """Return whether a name is, or looks like, a MAC address in any notation."""
    read = name.translate(_AS_DIGITS)
    if _HARDWARE_ADDRESS.fullmatch(re.sub(r"[._-]", "", name)) or _IN_GROUPS.fullmatch(read):
        return True
    return bool(_HARDWARE_ADDRESS.fullmatch(re.sub(r"[._-]", "", read)) and _DIGIT.search(name))


@lru_cache(maxsize=4096)
def looks(name: str) -> frozenset[str]:
    """Return the skeletons of a name, whole and without its domain: names that share one may be confused.

    Case, signs between words, and letters that look like digits or like two other letters make no difference: `NAS`
    and `na5`, `docker` and `clocker`.
    """
    return frozenset(filter(None, map(_skeleton, (name, name.partition(".")[0]))))


def _skeleton(name: str) -> str:
    """Return the letters and digits of a name, with one sign for all that look alike."""
    plain = "".join(sign for sign in name.casefold() if sign.isalnum())
    return plain.translate(_AS_LETTERS).replace("rn", "m").replace("vv", "w").replace("cl", "d")


_LOCALHOST = _skeleton("localhost")
