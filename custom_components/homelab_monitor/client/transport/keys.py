"""The key pair with which we log in, and the lines that authorize it.

One ed25519 key serves all hosts, except those that accept none of that type (FIPS 140): these get an ECDSA key,
which is made for the first of them. Hosts know a key by one line of their authorized_keys file, whose
`restrict` forbids forwarding, agents and terminals (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
"""

from base64 import b64decode
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
import re
from typing import Final, Self, override

from asyncssh import SSHKey
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

ED25519: Final = "ssh-ed25519"
ECDSA: Final = "ecdsa-sha2-nistp256"
_COMMENT_LIMIT = 64
_DROPBEAR_OPTIONS = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty"
"""The meaning of `restrict`, in options that every dropbear knows.

It knows neither `restrict` before 2022.83 nor `from=` in any version, and refuses the key for an unknown option
(svr-authpubkeyoptions.c; tried with 2022.83).
"""
WATCHED_SYSTEMS: frozenset[str] = frozenset({"linux", "openwrt"})
"""Systems with a probe; add "windows" and "macos" with theirs. Commands for others are kept, but not shown."""
_FINGERPRINT_COMMANDS = {
    "openwrt": "dropbearkey -y -f /etc/dropbear/dropbear_{kind}_host_key",
    "windows": r"ssh-keygen -lf $env:ProgramData\ssh\ssh_host_{kind}_key.pub",
}
_FINGERPRINT_COMMAND = "ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"

_LOG_COMMANDS = {
    "openwrt": "logread -e dropbear | tail -n 20",
    "windows": "Get-WinEvent -LogName OpenSSH/Operational -MaxEvents 20 | Format-List TimeCreated, Message",
}
_LOG_COMMAND = "sudo journalctl _UID=0 -t sshd -t sshd-session -t sshd-auth -n 20 --no-pager"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An SSH key pair in OpenSSH's formats."""

    private_openssh: str = field(repr=False)
    public_openssh: str
    beside: KeyPair | None = None
    """The pair of type ECDSA for servers that do not accept this one; None until there was such a server."""

    @classmethod
    def generate(cls, kind: str = ED25519) -> Self:
        """Make a new key pair."""
        key = Ed25519PrivateKey.generate() if kind == ED25519 else ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return cls.from_private(private.decode(), kind)

    @classmethod
    def from_private(cls, private_openssh: object, kind: str = ED25519) -> Self:
        """Return the pair of a stored private key; raise ValueError if it is none or of another type."""
        if not isinstance(private_openssh, str):
            raise ValueError("no text")  # noqa: TRY004
        try:
            key = load_ssh_private_key(private_openssh.encode(), password=None)
        except (UnsupportedAlgorithm, TypeError, LookupError, OverflowError) as err:
            raise ValueError(str(err)) from err
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        if public.partition(" ")[0] != kind:
            raise ValueError(f"not a key of the type {kind}")
        return cls(private_openssh, public)


def authorized_line(key: KeyPair, name: str, sources: Sequence[str] = ()) -> str:
    """Return the line for authorized_keys; `name` becomes a harmless comment.

    `sources`: as from `parse_sources`; OpenSSH accepts the key only from these.
    """
    harmless = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:_COMMENT_LIMIT] or "home"
    options = f'restrict,from="{",".join(sources)}"' if sources else "restrict"
    return f"{options} {key.public_openssh} homelab_monitor@{harmless}"


def parse_sources(text: str) -> tuple[str, ...]:
    """Parse the addresses and networks that were typed, into the form of `from=`; raise ValueError.

    Names and patterns are not allowed: sshd would have to look a name up, and may be configured not to.
    """
    if "%" in text:  # A zone may be any text, and has a meaning only on this system.
        raise ValueError("an IPv6 zone")
    networks = [ip_network(word, strict=False) for word in re.split(r"[\s,]+", text) if word]
    # sshd ignores the whole list if a network has bits beyond its mask (addr_match_cidr_list).
    return tuple(
        dict.fromkeys(str(each.network_address if each.prefixlen == each.max_prefixlen else each) for each in networks)
    )


def dropbear_line(line: str) -> str:
    """Return an `authorized_line` with the options that dropbear knows, without the others."""
    return f"{_DROPBEAR_OPTIONS} {line.split(maxsplit=1)[1]}"


def install_commands(line: str) -> dict[str, str]:
    """Return, per platform, the command that authorizes the key of an `authorized_line`."""
    # The file may lack its last newline: a blank line first keeps the two keys apart.
    windows_user = r"$env:USERPROFILE\.ssh"
    windows_admin = r"$env:ProgramData\ssh\administrators_authorized_keys"
    dropbear = dropbear_line(line)
    return {
        "linux": f"mkdir -p ~/.ssh && chmod 700 ~/.ssh && printf '\\n%s\\n' '{line}' >> ~/.ssh/authorized_keys"
        " && chmod 600 ~/.ssh/authorized_keys",
        "windows_user": f'New-Item -ItemType Directory -Force "{windows_user}" | Out-Null;'
        f" Add-Content -Encoding ascii \"{windows_user}\\authorized_keys\" '', '{line}'",
        # sshd ignores this file unless only administrators can write it; SIDs because the names are translated.
        "windows_admin": f"Add-Content -Encoding ascii \"{windows_admin}\" '', '{line}';"
        f' icacls.exe "{windows_admin}" /inheritance:r /grant "*S-1-5-32-544:F" /grant "*S-1-5-18:F"',
        "openwrt": f"printf '\\n%s\\n' '{dropbear}' >> /etc/dropbear/authorized_keys"
        " && chmod 600 /etc/dropbear/authorized_keys",
    }


def shown_commands(line: str) -> dict[str, str]:
    """Return those of `install_commands` for platforms with a probe."""
    return {
        name: command for name, command in install_commands(line).items() if name.partition("_")[0] in WATCHED_SYSTEMS
    }


def watched(platform: str | None) -> str:
    """Return the platform if it has a probe, "" for any other."""
    return platform if platform and platform in WATCHED_SYSTEMS else ""


def log_command(platform: str | None) -> str:
    """Return the command that shows on a host why its sshd refused a login; newer OpenSSH logs under three names."""
    return _LOG_COMMANDS.get(watched(platform), _LOG_COMMAND)


def fingerprint_command(host_key: str, platform: str | None) -> str:
    """Return the command that prints the fingerprint of this host key on its host."""
    kind = host_key.split(maxsplit=1)[0].removeprefix("ssh-").split("-")[0]
    return _FINGERPRINT_COMMANDS.get(watched(platform), _FINGERPRINT_COMMAND).format(kind=kind)


_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


def is_printed_in(host_key: str, text: str) -> bool:
    """Return whether the output of a tool contains the fingerprint of a public key line.

    `256 SHA256:… root@nas (ED25519)` of ssh-keygen, with or without the prefix, wrapped by a terminal or padded.
    """
    shown = fingerprint(host_key).removeprefix("SHA256:")
    return bool(shown) and shown in "".join(text.split())


def has_fingerprint(text: str) -> bool:
    """Return whether the output of a tool contains the whole fingerprint of any key."""
    return _FINGERPRINT.search("".join(text.split())) is not None


def fingerprint(host_key: str) -> str:
    """Return `SHA256:…` of a public key line, as `ssh-keygen -lf` prints it; "" for no key."""
    try:
        blob = b64decode(host_key.split()[1], validate=True)
    except IndexError, binascii.Error:
        return ""
    return _Shown(blob).get_fingerprint()


class _Shown(SSHKey):
    """What a server shows as its key; an alarm also names bytes that are no key, which asyncssh would not import."""

    def __init__(self, blob: bytes) -> None:
        super().__init__()
        self._blob = blob

    @property
    @override
    def public_data(self) -> bytes:
        return self._blob
