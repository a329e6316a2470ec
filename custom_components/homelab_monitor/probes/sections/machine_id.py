"""Which machine this is, without telling its machine-id: for the section system, for the marker, and for who.py."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def load_sha256() -> "Callable[[bytes], Any]":
    """Return the hash function: Python's own where it has one, as hashlib loads OpenSSL with it (5 MB)."""
    from importlib import import_module  # noqa: PLC0415

    for module in ("_sha2", "_sha256"):  # since Python 3.12, and before
        try:
            return import_module(module).sha256  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            continue
    return import_module("hashlib").sha256  # type: ignore[no-any-return]


def machine_id_hash(text: "Callable[[str], str]") -> str:
    """Return the HMAC-SHA256 of the machine-id as 32 hex digits: the id itself is confidential (machine-id(5)).

    `text` returns the text of a file by its path, "" where it cannot be read.
    """
    told = text("/etc/machine-id") or text("/var/lib/dbus/machine-id")
    if not re.match(r"[0-9a-f]{32}$", told):
        return ""
    sha256 = load_sha256()
    # By hand, RFC 2104: the module hmac would load as much again.
    key = b"homelab_monitor".ljust(64, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)
    return str(sha256(outer + sha256(inner + told.encode("ascii")).digest()).hexdigest()[:32])
