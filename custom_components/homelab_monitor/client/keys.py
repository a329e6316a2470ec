"""The key pair with which we log in, and the lines that let it in.

One ed25519 key serves all hosts. Hosts know it by one line of their authorized_keys file,
whose `restrict` forbids forwarding, agents and terminals (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
"""

from base64 import b64decode, b64encode
import binascii
from dataclasses import dataclass, field
from hashlib import sha256
import re
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

_COMMENT_LIMIT = 64
_DROPBEAR_OPTIONS = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty"
"""What `restrict` means, in words that every dropbear knows; an unknown word makes it refuse the key."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An SSH key pair in OpenSSH's formats."""

    private_openssh: str = field(repr=False)
    public_openssh: str

    @classmethod
    def generate(cls) -> Self:
        """Make a new ed25519 key pair."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return cls.from_private(private.decode())

    @classmethod
    def from_private(cls, private_openssh: str) -> Self:
        """Return the pair of a stored private key; raise ValueError when it is none of ours."""
        key = load_ssh_private_key(private_openssh.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an ed25519 key")  # noqa: TRY004
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return cls(private_openssh, public.decode())


def authorized_line(key: KeyPair, name: str) -> str:
    """Return the line for authorized_keys; `name` becomes a harmless comment."""
    harmless = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:_COMMENT_LIMIT] or "home"
    return f"restrict {key.public_openssh} homelab_monitor@{harmless}"


def dropbear_line(line: str) -> str:
    """Return an `authorized_line` in the words that dropbear knows."""
    return line.replace("restrict", _DROPBEAR_OPTIONS, 1)


def install_commands(line: str) -> dict[str, str]:
    """Return, per platform, the command that lets the key of an `authorized_line` in."""
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


def fingerprint(host_key: str) -> str:
    """Return `SHA256:…` of a public key line, as `ssh-keygen -lf` prints it; "" for no key."""
    try:
        blob = b64decode(host_key.split()[1], validate=True)
    except IndexError, binascii.Error:
        return ""
    return "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")
