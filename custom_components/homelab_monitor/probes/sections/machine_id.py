"""Which machine this is, without revealing its machine-id: for the section system, the marker, and who.py."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def load_sha256() -> "Callable[[bytes], Any]":
    """Return the hash function: Python's built-in one if available, as hashlib also loads OpenSSL (5 MB)."""
    from importlib import import_module  # noqa: PLC0415

    for module in ("_sha2", "_sha256"):  # since Python 3.12, and before
        try:
            return import_module(module).sha256  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            continue
    return import_module("hashlib").sha256  # type: ignore[no-any-return]


def machine_id_hash(text: "Callable[[str], str]") -> str:
    """Return the HMAC-SHA256 of the machine-id as 32 hex digits: the id itself is confidential (machine-id(5)).

    `text` returns the text of a file by its path, "" if it cannot be read.
    """
    machine_id = text("/etc/machine-id") or text("/var/lib/dbus/machine-id")
    if not re.match(r"[0-9a-f]{32}$", machine_id):
        return ""
    sha256 = load_sha256()
    # HMAC by hand (RFC 2104): the module hmac would load as much again.
    key = b"homelab_monitor".ljust(64, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)
    return str(sha256(outer + sha256(inner + machine_id.encode("ascii")).digest()).hexdigest()[:32])
