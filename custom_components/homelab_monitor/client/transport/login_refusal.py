"""Why a server denied a login with a key: what the protocol showed, and the error for it.

A server reveals little on purpose, so that attackers learn nothing: a user who may not log in, a key that it does not
know and a file that it does not trust look the same. What does differ is recorded here during a login. Numbers and
fields are those of RFC 4250 (4.1.2), 4252 (5.1), 4253 (7.1, 11.1) and 8308 (3.1).
"""

from collections.abc import Iterator
import re
from typing import Final

from ..errors import (
    AccountRefused,
    HomelabError,
    KeyRefused,
    KeysNotTaken,
    KeyTypeRefused,
    LoginCut,
    LoginDisconnected,
    LoginsLimited,
    SecondFactor,
    first_line,
)
from .keys import ECDSA, ED25519

_DISCONNECT, _SERVICE_ACCEPT, _EXT_INFO, _KEXINIT, _FAILURE = 1, 6, 7, 20, 51
_LENGTH = 4
"""Bytes of the length of a string (RFC 4251, 5)."""
_KEXINIT_LISTS = 1 + 16
"""Offset of its lists: after its number and a cookie."""
_SHOWING: Final = frozenset({_DISCONNECT, _SERVICE_ACCEPT, _EXT_INFO, _KEXINIT, _FAILURE})
_TOO_MANY_CONNECTIONS = 12
"""The code of a disconnect (RFC 4253, 11.1)."""
_OF_THE_TRANSPORT: Final = frozenset({3, 4, 5, 6, 8, 10})
"""Codes of a disconnect about received bytes, which a man in the middle may have changed."""
_CORRUPT = re.compile(r"corrupt|integrity|\bMAC\b|padding|packet", re.IGNORECASE)
"""Words for the same: OpenSSH gives every reason as a protocol error (packet.c)."""
_TOO_MANY_TRIES = "Too many authentication failures"
"""How OpenSSH ends a login whose keys it did not accept, after MaxAuthTries (auth.c)."""


class Shown:
    """What a server has shown during one login."""

    def __init__(self) -> None:
        self.is_accepted = False
        """Whether it has asked for a signature with a key: it knows that key, and would accept it."""
        self._words = ""
        """The first line of its messages since it has accepted a key; before that, everybody gets them."""
        self._has_begun = False
        self._is_partial = False
        self._methods: list[str] | None = None
        self._first_methods: list[str] = []
        self._signatures: frozenset[str] = frozenset()
        self._lacks_25519 = False
        self._disconnect: str | None = None
        self._code = 0

    def accept(self) -> None:
        """Record that the server has accepted a key and waits for a signature with it."""
        self.is_accepted, self._words = True, ""

    def say(self, words: str) -> None:
        """Record a message of the server to the user."""
        self._words = first_line(words) or self._words

    def take(self, kind: int, payload: bytes) -> None:
        """Record what a packet shows; a malformed one ends the connection elsewhere."""
        if kind not in _SHOWING:
            return
        if kind == _SERVICE_ACCEPT:
            self._has_begun = True
        elif kind == _KEXINIT:
            key_exchanges, host_keys, *_ = *_strings(payload[_KEXINIT_LISTS:]), b"", b""
            self._lacks_25519 = b"25519" not in key_exchanges + host_keys
        elif kind == _EXT_INFO:
            words = list(_strings(payload[5:]))
            found = dict(zip(words[::2], words[1::2], strict=False)).get(b"server-sig-algs", b"")
            self._signatures = frozenset(_names(found))
            if all("rsa" in name for name in self._signatures):
                # OpenSSH 7.4 (CentOS 7, Debian 9) names only the signatures of RSA keys, and accepts other types too.
                self._signatures = frozenset()
        elif kind == _DISCONNECT:
            self._code = int.from_bytes(payload[1:5])
            self._disconnect = first_line(next(_strings(payload[5:]), b"").decode(errors="replace"))
        else:
            self._take_failure(payload)

    def _take_failure(self, payload: bytes) -> None:
        """Record the methods that can continue the login, and whether the last one was a partial success."""
        methods = next(_strings(payload[1:]), b"")
        self._methods = _names(methods)
        self._first_methods = self._first_methods or self._methods
        self._is_partial = payload[1 + _LENGTH + len(methods) :][:1] == b"\x01"

    @property
    def takes_ed25519(self) -> bool:
        """Return whether a key of that type may be tried; a server that names no types may accept any."""
        return not self._signatures or ED25519 in self._signatures

    @property
    def wants_ecdsa(self) -> bool:
        """Return whether a key of that type is accepted, and one of ed25519 is not, or most likely is not.

        OpenSSH 9.2 (Debian 12) names all types that it knows instead of those that it accepts. In FIPS mode it offers
        neither a key exchange nor a host key with Curve25519; otherwise it offers the former by default.
        """
        may_take = not self._signatures or ECDSA in self._signatures
        return may_take and (self._lacks_25519 or not self.takes_ed25519)

    def error(self, host: str, words: str, *, is_denied: bool) -> HomelabError | None:
        """Return the error of a login that failed, None if it was not denied.

        `is_denied`: the server answered that. A connection that ends without a message is never an answer: a man in
        the middle can end it, or make the server end it by changing a byte.
        """
        if not (is_denied or self._is_dismissed):
            return None
        if self._code == _TOO_MANY_CONNECTIONS:
            return LoginsLimited(host, self._disconnect or "")
        error = self._verdict(host, words)
        error.wants_ecdsa = self.wants_ecdsa
        return error

    @property
    def _is_dismissed(self) -> bool:
        """Return whether the server has ended the login with a reason that is about the user."""
        if not self._has_begun or self._disconnect is None:
            return False
        return self._code not in _OF_THE_TRANSPORT and not _CORRUPT.search(self._disconnect)

    def cut(self, host: str) -> LoginCut | None:
        """Return the error of a connection that ended without a verdict, None if no key had been accepted."""
        if not self.is_accepted:
            return None
        said = f", with the message: {self._words}" if self._words else ""
        return LoginCut(host, f"after it accepted the key{said}")

    def _verdict(self, host: str, words: str) -> KeyRefused:
        """Return the most specific error of a denied login."""
        if self._is_partial:
            return SecondFactor(host, ", ".join(self._methods or ()))
        if self.is_accepted:
            return AccountRefused(host, self._words or self._disconnect or "")
        if self._disconnect is not None and _TOO_MANY_TRIES not in self._disconnect:
            return LoginDisconnected(host, self._disconnect)
        if self._methods is not None and "publickey" not in self._first_methods:
            return KeysNotTaken(host, ", ".join(self._first_methods))
        if not self.takes_ed25519:
            return KeyTypeRefused(host, ", ".join(sorted(self._signatures)))
        return KeyRefused(host, words)


def _names(text: bytes) -> list[str]:
    """Return the names of a list, each as one line that can be shown."""
    return [name for name in map(first_line, text.decode(errors="replace").split(",")) if name]


def _strings(data: bytes) -> Iterator[bytes]:
    """Yield consecutive strings, up to the first incomplete one."""
    start = _LENGTH
    while start <= len(data):
        end = start + int.from_bytes(data[start - _LENGTH : start])
        if end > len(data):
            return
        yield data[start:end]
        start = end + _LENGTH
