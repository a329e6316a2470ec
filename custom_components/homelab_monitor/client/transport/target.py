r"""Where to log in: `user@host:port`, `[v6]:port`, `DOMAIN\user@host` → Target, and back.

A target is typed by people and pasted from lists and terminals, where it may stand as `ssh -p 2222 pi@nas` or
`ssh://pi@nas:2222` (ssh(1)). Parsing is strict: what could be another option, a path or a shell word is refused
here and never reaches a command.
"""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
import re
from typing import Self, override

from ..errors import InvalidTarget, UsernameMissing, first_line

DEFAULT_PORT = 22
_PORTS = range(1, 65536)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
"""A DNS name or an IPv4 address; underscores occur in real homelabs."""
_USERNAME = re.compile(r"[^\x00-\x20\x7f:/@\[\]\"'`$;&|<>()*?!\\-][^\x00-\x1f\x7f:/\"'`$;&|<>()*?!]{0,254}")
r"""Unix and Windows names; `@` (user@domain), `\` and inner spaces are allowed after the first character."""


@dataclass(frozen=True, slots=True)
class Target:
    """One login on one machine; `host` has no brackets."""

    username: str
    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str, default_username: str | None = None) -> Self:
        """Return the target that was typed; raise InvalidTarget."""
        options, words = _of_command_line(text)
        username, at, address = words.rpartition("@")
        if not at:
            username = options.get("l") or default_username or ""
        host, port = _split_address(text, address)
        if not username and not at:
            raise UsernameMissing(first_line(text))
        if not _USERNAME.fullmatch(username) or username != username.strip():
            raise InvalidTarget(first_line(text), "not a user name")
        return cls(username, host, _port(text, options["p"]) if "p" in options else port)

    @property
    def address(self) -> str:
        """Return host and port; without the port if it is 22."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT else f"{host}:{self.port}"

    @override
    def __str__(self) -> str:
        """Return the target in the form that `parse` reads."""
        return f"{self.username}@{self.address}"


_COMMAND = re.compile(r"ssh(?=\s)\s*")
_OPTION = re.compile(r"-([pl])\s*(\S+)(?:\s+|$)")
_URL = re.compile(r"ssh://([^/]*)/?")


def _of_command_line(text: str) -> tuple[dict[str, str], str]:
    """Return port (`p`) and user (`l`) of the options of `ssh`, and what is left: the address."""
    words = text.strip()
    if url := _URL.fullmatch(words):
        return {}, url[1]
    command = _COMMAND.match(words)
    if command is None:
        return {}, words
    options: dict[str, str] = {}
    words = words[command.end() :]
    # ssh takes its options before and after the address.
    while option := _OPTION.match(words):
        options[option[1]] = option[2]
        words = words[option.end() :]
    address, _, rest = words.partition(" ")
    while option := _OPTION.match(rest.lstrip()):
        options[option[1]] = option[2]
        rest = rest.lstrip()[option.end() :]
    if rest.strip() or address.startswith("-"):
        raise InvalidTarget(first_line(text), "of ssh's options only -p and -l are understood")
    return options, address


def _split_address(text: str, address: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, `v6`, `[v6]` or `[v6]:port`."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", address)
    if bracketed:
        return _ipv6(text, bracketed[1]), _port(text, bracketed[2])
    if address.count(":") > 1:
        return _ipv6(text, address), DEFAULT_PORT
    host, colon, port = address.partition(":")
    if not _HOST.fullmatch(host) or ".." in host:
        raise InvalidTarget(first_line(text), "not a host name or address")
    return host.lower(), _port(text, port if colon else None)


def _ipv6(text: str, host: str) -> str:
    """Return the address in its shortest form; a zone (`%eth0`) is kept."""
    address, percent, zone = host.partition("%")
    if percent and not re.fullmatch(r"[A-Za-z0-9._-]{1,15}", zone):
        raise InvalidTarget(first_line(text), "not an IPv6 zone")
    try:
        return f"{IPv6Address(address)}{percent}{zone}"
    except AddressValueError as err:
        raise InvalidTarget(first_line(text), "not an IPv6 address") from err


def _port(text: str, port: str | None) -> int:
    """Return the port number, 22 where none was given."""
    if port is None:
        return DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) not in _PORTS:
        raise InvalidTarget(first_line(text), "not a port")
    return int(port)
