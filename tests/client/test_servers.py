"""The SSH servers that hosts really run: OpenSSH and dropbear of this machine, and those of Debian 11 to sid.

Other releases are root file systems in ~/.cache/homelab_monitor/roots (or $HOMELAB_ROOTS), one folder each; without
them only this machine's servers are tested. As root:

    debootstrap --variant=minbase --include=openssh-server,dropbear-bin bullseye ~/.cache/homelab_monitor/roots/bullseye

Each server runs in a mount namespace of its own, with an account that only it sees.
"""

from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

import pytest

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.ssh import (
    _CIPHERS,
    _KEY_EXCHANGES,
    _MACS,
    Connection,
    read_host_key,
)
from custom_components.homelab_monitor.client.transport.target import Target
from tests.needs import needs
from tests.sshd import IS_ROOT, Sshd, can_connect, free_port, wait_until

SECONDS = 20.0
USER = "watched"
ROOTS = Path(os.environ.get("HOMELAB_ROOTS", Path.home() / ".cache" / "homelab_monitor" / "roots"))
RELEASES = ("", "bullseye", "bookworm", "trixie", "sid")
"""This machine, and the releases of Debian that are supported."""
KINDS = ("ed25519", "ecdsa", "rsa")
_CONFIG = """\
HostKey /mnt/host
AuthorizedKeysFile /mnt/authorized_keys
PidFile none
StrictModes no
UsePAM no
"""


class Server:
    """A server of some release; its folder is /mnt for it."""

    def __init__(self, program: str, release: str, kind: str) -> None:
        self.root = ROOTS / release if release else Path("/")
        self.folder = Path(tempfile.mkdtemp(prefix="homelab_monitor-server-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.key = KeyPair.generate()
        self._make_account()
        self.host_key = self._make_host_key(program, kind)
        command = f"/usr/sbin/sshd -D -e -f /mnt/config -p {self.port} -o ListenAddress=127.0.0.1"
        if program == "dropbear":
            command = f"/usr/sbin/dropbear -F -E -s -r /mnt/host -P /mnt/pid -p 127.0.0.1:{self.port}"
        setpriv = ["setpriv", "--pdeathsig", "TERM"]
        self._process = subprocess.Popen([*setpriv, *self._inside(f"exec {command}")], stderr=subprocess.DEVNULL)
        wait_until(lambda: can_connect(self.port), f"{program} of {release or 'this machine'} does not listen")

    def stop(self) -> None:
        """End the server, and leave nothing behind."""
        self._process.terminate()
        self._process.wait(5)
        shutil.rmtree(self.folder)

    def _inside(self, command: str) -> list[str]:
        """Return a command line that runs in the release, with our folder and account."""
        mounts = (
            f"mount --bind {self.folder} {self.root}/mnt && mount --bind {self.folder}/passwd {self.root}/etc/passwd"
        )
        ready = f"{mounts} && exec chroot {self.root} sh -c 'mkdir -p /run/sshd; {command}'"
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", ready]

    def _make_account(self) -> None:
        """Write an account that only this server sees, and let our key in."""
        ssh = self.folder / "home" / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        line = f"{self.key.public_openssh} test\n"
        (self.folder / "authorized_keys").write_text(line)
        (ssh / "authorized_keys").write_text(line)
        for path in (ssh.parent, ssh, ssh / "authorized_keys"):
            os.chown(path, 61000, 61000)
        accounts = (self.root / "etc" / "passwd").read_text()
        (self.folder / "passwd").write_text(f"{accounts}{USER}:*:61000:61000::/mnt/home:/bin/sh\n")
        (self.folder / "config").write_text(_CONFIG)

    def _make_host_key(self, program: str, kind: str) -> str:
        """Make a host key with the release's own tools; return it as a line."""
        make, show = f"ssh-keygen -q -t {kind} -N '' -f /mnt/host", "cat /mnt/host.pub"
        if program == "dropbear":
            make, show = f"dropbearkey -t {kind} -f /mnt/host", "dropbearkey -y -f /mnt/host"
        script = f"({make}) >/dev/null 2>&1; {show}".replace("''", '""')
        output = subprocess.run(self._inside(script), check=True, capture_output=True, text=True).stdout
        line = next(line for line in output.splitlines() if line.startswith(("ssh-", "ecdsa-")))
        return " ".join(line.split()[:2])


@pytest.fixture
def server(request: pytest.FixtureRequest, socket_enabled: None) -> Iterator[Server]:
    """Return a running server of a release."""
    program, release, kind = request.param
    needs(IS_ROOT, "root, for a mount namespace")
    if release and not (ROOTS / release).is_dir():
        pytest.skip(f"no root file system of {release} in {ROOTS}")
    needs(release or shutil.which(program, path="/usr/sbin:/usr/bin"), f"{program} of this machine")
    running = Server(program, release, kind)
    yield running
    running.stop()


ALL = [(program, release, kind) for program in ("sshd", "dropbear") for release in RELEASES for kind in KINDS]


@pytest.mark.parametrize("server", ALL, ids=lambda each: "-".join(filter(None, each)), indirect=True)
async def test_the_servers_of_every_supported_release_let_us_in(server: Server) -> None:
    target = Target(USER, "127.0.0.1", server.port)
    shown = await read_host_key(target.host, target.port, SECONDS)
    assert shown.line == server.host_key
    connection = await Connection.open(target, server.key, (server.host_key,), timeout=SECONDS)
    result = await connection.run("echo fine; head -c 3000000 /dev/zero", timeout=SECONDS)
    assert result.stdout.startswith("fine")
    assert connection.host_key == server.host_key
    await connection.close()


def _known_to_openssh(what: str) -> set[str]:
    """Return the algorithms that this machine's OpenSSH has."""
    needs(shutil.which("ssh"), "openssh-client")
    return set(subprocess.run(["ssh", "-Q", what], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("option", "names"), [("KexAlgorithms", _KEY_EXCHANGES), ("Ciphers", _CIPHERS), ("MACs", _MACS)]
)
async def test_each_algorithm_alone_is_enough(make_sshd, option: str, names: tuple[str, ...]) -> None:
    known = _known_to_openssh({"KexAlgorithms": "kex", "Ciphers": "cipher", "MACs": "mac"}[option])
    for name in set(names) & known:
        server: Sshd = make_sshd(f"{option} {name}" + ("\nCiphers aes128-ctr" if option == "MACs" else ""))
        connection = await Connection.open(server.target, server.key, server.host_keys, timeout=SECONDS)
        assert (await connection.run("echo fine", timeout=SECONDS)).stdout == "fine\n"
        await connection.close()
