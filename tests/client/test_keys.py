"""The key pair, judged by OpenSSH's own tools."""

from pathlib import Path
import shutil
import subprocess

import pytest

from custom_components.homelab_monitor.client.transport.keys import (
    KeyPair,
    authorized_line,
    fingerprint,
    install_commands,
    is_printed_in,
    log_command,
)
from tests.needs import needs

NAMES = {
    "Home": "Home",
    "Mein Häusle": "Mein-H-usle",
    "$(reboot) `id` 'x'\n ssh-ed25519 AAAA": "reboot-id-x-ssh-ed25519-AAAA",
    "🏠": "home",
    "": "home",
    "x" * 500: "x" * 64,
}


def test_ssh_keygen_reads_our_key(tmp_path: Path) -> None:
    needs(shutil.which("ssh-keygen"), "ssh-keygen")
    key = KeyPair.generate()
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(key.private_openssh)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, check=True, text=True).stdout
    assert shown.split()[:2] == key.public_openssh.split()
    printed = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, check=True, text=True).stdout
    assert printed.split()[1] == fingerprint(key.public_openssh)


def test_two_generated_keys_differ() -> None:
    assert KeyPair.generate().public_openssh != KeyPair.generate().public_openssh


def test_a_stored_private_key_gives_the_same_pair() -> None:
    key = KeyPair.generate()
    assert KeyPair.from_private(key.private_openssh) == key


def test_the_private_half_is_not_shown() -> None:
    assert "PRIVATE" not in repr(KeyPair.generate())


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whose text it is belongs to the library)
        KeyPair.from_private(text)


def test_a_key_of_another_type_is_refused(tmp_path: Path) -> None:
    needs(shutil.which("ssh-keygen"), "ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "key"], check=True)
    with pytest.raises(ValueError, match="not a key of the type ssh-ed25519"):
        KeyPair.from_private((tmp_path / "key").read_text())


@pytest.mark.parametrize(("name", "comment"), NAMES.items())
def test_the_name_becomes_a_harmless_comment(name: str, comment: str) -> None:
    key = KeyPair.generate()
    assert authorized_line(key, name) == f"restrict {key.public_openssh} homelab_monitor@{comment}"


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 ???"])
def test_what_is_no_public_key_has_no_fingerprint(line: str) -> None:
    assert fingerprint(line) == ""
    assert not is_printed_in(line, "256 SHA256:" + "A" * 43)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh", "mksh", "busybox sh"])
def test_the_linux_command_adds_the_line_under_every_shell(tmp_path: Path, shell: str) -> None:
    needs(shutil.which(shell.partition(" ")[0]), shell)
    line = authorized_line(KeyPair.generate(), "test")
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "authorized_keys").write_text("an older key without an end of line")
    command = [*shell.split(), "-c", install_commands(line)["linux"]]
    subprocess.run(command, check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    lines = (folder / "authorized_keys").read_text().split("\n")
    assert lines == ["an older key without an end of line", line, ""]
    assert (folder / "authorized_keys").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_every_platform_has_its_command() -> None:
    line = authorized_line(KeyPair.generate(), "test")
    commands = install_commands(line)
    assert set(commands) == {"linux", "windows_user", "windows_admin", "openwrt"}
    # dropbear before 2022.83 knows no `restrict`, and refuses a key with a word that it does not know.
    assert "restrict" not in commands.pop("openwrt")
    assert all(line in command for command in commands.values())


def test_the_command_that_shows_the_servers_log_shows_no_line_that_any_user_may_write() -> None:
    # journald notes who wrote a line, and logger(1) lets everybody call it the server's.
    assert "_UID=0" in log_command(None).split()
