"""What a machine may be called by a word that anybody in the network may have said. Pure.

A name is normalised first and judged last, as it will be shown: whatever is taken off it afterwards could make another
one of it (`192.0.2.1.local`).
"""

from functools import lru_cache
from ipaddress import ip_address
import re

from .errors import first_line

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_NUMBER = r"(?:0x[0-9a-f]+|[0-9]+)"
"""A part of an IPv4 address as inet_aton(3) reads it: decimal, octal, hexadecimal, and all of it may be one number."""
_FOUR_NUMBERS = re.compile(rf"(?<![0-9a-z]){_NUMBER}(?:[._-]+{_NUMBER}){{3}}")
_HARDWARE_ADDRESS = re.compile(r"[0-9a-f]{12}")
_ZONE = re.compile(r"s[0-9]+$")
"""What Windows writes for `%4` in a name (ipv6-literal.net)."""
_AS_DIGITS = str.maketrans("oli", "011")
_AS_LETTERS = str.maketrans("01i", "oll")


def name_of(said: str | None, limit: int = 253) -> str:
    """Return the name in what a machine is said to be called, "" where it is none, or reads like somebody's address.

    nas.local.  →  nas
    192.0.2.1.local  →  nothing, as well as l92.0.2.1, 192-0-2-1.lan, 0xc0000201, fe80--1 and 02-00-00-00-00-01
    """
    name = first_line(said or "").strip().rstrip(".")
    while name.lower().endswith(".local"):
        name = name[: -len(".local")].rstrip(".")
    name = name[:limit]
    return name if _HOST_NAME.fullmatch(name) and not _is_misleading(name.lower()) else ""


def _is_misleading(name: str) -> bool:
    """Tell whether a name reads like an address, like this machine, or like nothing that a person can read."""
    first, *_ = labels = name.split(".")
    if "localhost" in labels or any(label.startswith("xn--") for label in labels):
        return True
    if labels[-1] == "arpa" and labels[-2:-1] != ["home"]:
        return True
    is_number = re.fullmatch(_NUMBER, first) or _FOUR_NUMBERS.search(name) or _FOUR_NUMBERS.search(_as_digits(name))
    return bool(is_number) or _is_ipv6(first) or any(map(_is_hardware_address, (name, first)))


def _as_digits(name: str) -> str:
    """Return a name with the digits that some of its letters look like."""
    return name.translate(_AS_DIGITS)


def _is_ipv6(label: str) -> bool:
    """Tell whether a label is an IPv6 address with other signs for its colons, as no name can have those."""
    try:
        ip_address(_ZONE.sub("", re.sub(r"[-_]", ":", label)))
    except ValueError:
        return False
    return True


def _is_hardware_address(name: str) -> bool:
    """Tell whether a name is a MAC address, in any of the ways to write one."""
    return _HARDWARE_ADDRESS.fullmatch(re.sub(r"[._-]", "", name)) is not None


@lru_cache(maxsize=4096)
def looks(name: str) -> frozenset[str]:
    """Return what a name looks like, as a whole and without its domain: names that share one may be confused.

    Case, signs between the words, and letters that look like digits or like two others are no difference.
    """
    return frozenset(filter(None, map(_look, (name, name.partition(".")[0]))))


def _look(name: str) -> str:
    """Return the letters and digits of a name, one of each that look alike."""
    plain = "".join(sign for sign in name.casefold() if sign.isalnum())
    return plain.translate(_AS_LETTERS).replace("rn", "m").replace("vv", "w")
