"""Adding our key with the scripts that a host would run, in a home folder of the test's own."""

from base64 import b64decode
import os
from pathlib import Path
import subprocess

import pytest

from custom_components.homelab_monitor.client.errors import KeyNotInstalled
from custom_components.homelab_monitor.client.transport.install import _program, install_key
from custom_components.homelab_monitor.client.transport.keys import KeyPair, authorized_line, dropbear_line
from custom_components.homelab_monitor.client.transport.ssh import CommandResult
from tests.needs import needs

LINE = authorized_line(KeyPair.generate(), "home")
OTHER = authorized_line(KeyPair.generate(), "other")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def run(home: Path, line: str = LINE, server: str = "SSH-2.0-OpenSSH_9.2p1", shell: str = "sh") -> str:
    """Run the script as the host would; return the file that it leaves."""
    command, script = _program(server, line)
    assert command == "sh"
    result = subprocess.run(
        [shell],
        input=script.encode(),
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert result.stdout == b"homelab_monitor: the key is in\n"
    assert result.stderr == b""
    return (home / ".ssh" / "authorized_keys").read_text()


def write(home: Path, text: str) -> Path:
    """Write an authorized_keys file."""
    path = home / ".ssh" / "authorized_keys"
    path.parent.mkdir()
    path.write_text(text)
    return path


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_folder_and_file_are_made_with_the_rights_that_sshd_wants(home: Path, shell: str) -> None:
    assert run(home, shell=shell) == f"{LINE}\n"
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600


def test_a_second_time_changes_nothing(home: Path) -> None:
    first = run(home)
    assert run(home) == first


def test_other_keys_stay_and_a_missing_newline_does_not_join_two(home: Path) -> None:
    write(home, OTHER)
    assert run(home) == f"{OTHER}\n{LINE}\n"


def test_a_key_that_is_there_with_other_options_is_not_added_again(home: Path) -> None:
    text = f'from="192.0.2.0/24" {LINE}\n'
    write(home, text)
    assert run(home) == text


def test_a_key_in_a_comment_is_no_key(home: Path) -> None:
    write(home, f"  # {LINE}\n")
    assert run(home) == f"  # {LINE}\n{LINE}\n"


def test_loose_rights_are_tightened(home: Path) -> None:
    path = write(home, "")
    path.chmod(0o666)
    path.parent.chmod(0o777)
    run(home)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_dropbear_gets_words_that_it_knows(home: Path) -> None:
    if Path("/etc/dropbear").exists():
        pytest.skip("this machine has a dropbear of its own")
    assert run(home, server="SSH-2.0-dropbear_2019.78") == f"{dropbear_line(LINE)}\n"
    assert "restrict" not in dropbear_line(LINE)


def test_windows_gets_one_encoded_command() -> None:
    command, script = _program("SSH-2.0-OpenSSH_for_Windows_9.5", LINE)
    assert script == ""
    assert len(command) < 8191  # cmd.exe reads no more
    program, _, encoded = command.rpartition(" ")
    assert program == "powershell.exe -NoProfile -NonInteractive -EncodedCommand"
    source = b64decode(encoded).decode("utf-16-le")
    assert f"$line = '{LINE}'" in source
    assert "{{" not in source
    assert "/grant '*S-1-5-32-544:F'" in source


class Server:
    """A connection whose command ends as the test says."""

    server_version = "SSH-2.0-OpenSSH_9.2p1"

    def __init__(self, stdout: str, stderr: str) -> None:
        self.result = CommandResult(stdout, stderr, 1)

    async def run(self, command: str, *, stdin: bytes, timeout: float) -> CommandResult:  # noqa: ASYNC109
        return self.result


@pytest.mark.parametrize(
    ("stdout", "stderr", "words"),
    [
        ("", "mkdir: cannot create directory '.ssh': Read-only file system\nmore", "Read-only file system"),
        ("This account is currently not available.", "", "not available"),
        ("", "", ""),
    ],
)
async def test_what_keeps_the_key_out_is_said_in_the_hosts_own_words(stdout: str, stderr: str, words: str) -> None:
    with pytest.raises(KeyNotInstalled) as caught:
        await install_key(Server(stdout, stderr), "nas", LINE)
    assert words in caught.value.detail
    assert caught.value.host == "nas"


async def test_a_noisy_login_does_not_matter() -> None:
    await install_key(Server("Welcome!\nhomelab_monitor: the key is in\n", "warning"), "nas", LINE)


@pytest.mark.parametrize("is_openwrt", [True, False])
def test_the_file_of_roots_dropbear_is_openwrts_own_or_the_one_at_home(tmp_path: Path, is_openwrt: bool) -> None:
    needs(os.geteuid() == 0, "root, for an /etc of its own")
    etc, home = tmp_path / "etc", tmp_path / "home"
    (etc / "dropbear").mkdir(parents=True)
    home.mkdir()
    if is_openwrt:
        (etc / "openwrt_release").write_text("DISTRIB_ID='OpenWrt'\n")
    line = LINE.replace("restrict", 'restrict,from="192.0.2.7"')
    _, script = _program("SSH-2.0-dropbear", line)
    for _ in range(2):
        subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"mount --bind {etc} /etc && exec sh"],
            input=script.encode(),
            env={"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=True,
        )
    own, usual = etc / "dropbear" / "authorized_keys", home / ".ssh" / "authorized_keys"
    written, other = (own, usual) if is_openwrt else (usual, own)
    assert written.read_text() == f"{dropbear_line(LINE)}\n"
    assert written.stat().st_mode & 0o777 == 0o600
    assert not other.exists()
