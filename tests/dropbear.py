"""A real dropbear on 127.0.0.1, the SSH server of routers: it sends no list of its host keys.

Its one account lives in a private copy of /etc/passwd, as dropbear knows no other place for
authorized_keys than a home folder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

import pytest

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

from .needs import needs
from .sshd import IS_ROOT, can_connect, free_port, wait_until

DROPBEAR = shutil.which("dropbear", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_UID = 61500


@dataclass
class Dropbear:
    """One server; `kinds` are the types of its host keys."""

    folder: Path
    key: KeyPair
    kinds: tuple[str, ...]
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> Target:
        """Return where its only account logs in."""
        return Target("router", "127.0.0.1", self.port)

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the public keys of the server, as lines."""
        return tuple(self.host_key(kind) for kind in self.kinds)

    @property
    def log(self) -> str:
        """Return what the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def authorized_keys(self) -> Path:
        """Return the file that lets keys in."""
        return self.folder / "home" / ".ssh" / "authorized_keys"

    def host_key_file(self, kind: str) -> Path:
        """Return the private key of a type, in dropbear's own format."""
        return self.folder / f"dropbear_{kind}_host_key"

    def host_key(self, kind: str) -> str:
        """Return the public key of a type as a line, in the words of dropbear's own tool."""
        shown = subprocess.run(
            ["dropbearkey", "-y", "-f", self.host_key_file(kind)], check=True, capture_output=True, text=True
        ).stdout
        return next(" ".join(line.split()[:2]) for line in shown.splitlines() if "AAAA" in line)

    def authorize(self, *lines: str) -> None:
        """Write the file that lets keys in."""
        self.authorized_keys.write_text("".join(f"{line}\n" for line in lines))
        os.chown(self.authorized_keys, _UID, os.getgid())

    def start(self) -> None:
        """Make the keys and listen."""
        home = self.authorized_keys.parent.parent
        self.authorized_keys.parent.mkdir(parents=True)
        for path in (home, self.authorized_keys.parent):
            path.chmod(0o700)
            os.chown(path, _UID, os.getgid())
        passwd = f"{Path('/etc/passwd').read_text()}router:*:{_UID}:{os.getgid()}::{home}:/bin/sh\n"
        (self.folder / "passwd").write_text(passwd)
        for kind in self.kinds:
            command = ["dropbearkey", "-t", kind, "-f", self.host_key_file(kind)]
            subprocess.run(command, check=True, capture_output=True)
        self.port = free_port()
        keys = [word for kind in self.kinds for word in ("-r", str(self.host_key_file(kind)))]
        script = f'mount --bind {self.folder}/passwd /etc/passwd && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        command += [DROPBEAR, "-F", "-E", "-p", f"127.0.0.1:{self.port}", "-P", f"{self.folder}/pid", *keys]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
        wait_until(lambda: can_connect(self.port), f"dropbear does not listen: {self.log}")

    def stop(self) -> None:
        """Stop listening."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(5)


@pytest.fixture
def make_dropbear() -> Iterator[Callable[..., Dropbear]]:
    """Return a function that starts a server; all are stopped at the end."""
    needs(IS_ROOT, "root")
    needs(DROPBEAR and shutil.which("dropbearkey"), "dropbear")
    started: list[Dropbear] = []

    def make(*kinds: str) -> Dropbear:
        # Its account has to get there, and pytest makes its own folders private again at every start.
        folder = Path(tempfile.mkdtemp(prefix="homelab_monitor-dropbear-"))
        folder.chmod(0o755)
        server = Dropbear(folder, KeyPair.generate(), kinds or ("ed25519",))
        server.start()
        server.authorize(f"{server.key.public_openssh} test")
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
