"""A machine to be changed: a real sshd, sudo and account tools over a private copy of /etc.

Everything runs in a mount namespace of its own: /etc, /home, /run and /usr/local/{bin,sbin} are
folders that only its processes see, so that `useradd`, `usermod`, passwords and sudoers files
are real there and this machine stays as it is. Container engines of this machine are hidden, as a
test decides what it has, and so are its package lists: what is pending here, a real apt would count
for seconds. It listens on 127.0.0.1; needs root.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import tempfile
import threading
import time
from typing import Self

import pytest

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

from .needs import needs
from .sshd import IS_ROOT, SSHD, can_connect, children, free_port, make_host_key, wait_until

_CONFIG = """\
{first}
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys .ssh/authorized_keys
PidFile none
StrictModes no
UsePAM no
PrintMotd no
MaxStartups 100:30:200
"""
_NAMESPACE = """
mount --bind "$1/etc" /etc && mount --bind "$1/home" /home && mount --bind "$1/bin" /usr/local/bin &&
mount --bind "$1/sbin" /usr/local/sbin &&
mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && ln -sfn /run /var/run 2>/dev/null
for program in dockerd docker podman; do
  for place in /usr/sbin /usr/bin; do [ ! -e "$place/$program" ] || mount --bind /dev/null "$place/$program"; done
done
[ ! -d /var/lib/apt/lists ] || mount -t tmpfs -o mode=755 tmpfs /var/lib/apt/lists
shift; exec "$@"
"""
_DOCKER = """#!/bin/sh
# Docker's command line, as far as the capability test uses it: it may speak to the socket or not.
[ -S /run/docker.sock ] || { echo "Cannot connect to the Docker daemon. Is the docker daemon running?" >&2; exit 1; }
[ -w /run/docker.sock ] || { echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1; }
echo 27.3.1
"""
_SOCKET = "import socket; socket.socket(socket.AF_UNIX).bind('/run/docker.sock')"


@dataclass
class Machine:
    """One running machine."""

    folder: Path
    key: KeyPair
    first: str = ""
    """What stands before the rest of its sshd's configuration: sshd takes the first value of each setting."""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the public key of the server, as a line."""
        return (" ".join((self.folder / "host.pub").read_text().split()[:2]),)

    @property
    def etc(self) -> Path:
        """Return the machine's /etc."""
        return self.folder / "etc"

    @property
    def pid(self) -> int:
        """Return the process id of the listener."""
        assert self._process is not None
        return self._process.pid

    def target_for(self, username: str) -> Target:
        """Return where a user logs in."""
        return Target(username, "127.0.0.1", self.port)

    def start(self) -> None:
        """Start listening, on the same port as before."""
        self.port = self.port or free_port()
        config = self.etc / "ssh" / "sshd_config"
        config.parent.mkdir(exist_ok=True)
        config.write_text(_CONFIG.format(port=self.port, folder=self.folder, first=self.first))
        server = [SSHD, "-D", "-e"]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _NAMESPACE, "sh", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *server], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: can_connect(self.port), f"the machine does not listen: {self.folder}/log")

    def stop(self) -> None:
        """Stop listening and end every session."""
        sessions = children(self.pid)
        assert self._process is not None
        self._process.terminate()
        self._process.wait(5)
        for pid in sessions:
            subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a command as root on the machine."""
        command = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--wd=/", *argv]
        return subprocess.run(command, input=stdin, check=True, text=True, capture_output=True).stdout

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program as root on the machine; it dies with this process at the latest."""
        command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--wd=/", *argv]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(command, stdin=null, stdout=pipe, text=True)

    def install(self, name: str, script: str) -> None:
        """Put a program into /usr/local/bin."""
        program = self.folder / "bin" / name
        program.write_text(script)
        program.chmod(0o755)

    def add_user(
        self, name: str, *, password: str | None = None, sudo: str | None = None, shell: str = "/bin/sh"
    ) -> None:
        """Make an account; `sudo` is what stands behind ALL=(ALL) in its sudoers file."""
        self.run("useradd", "-m", "-s", shell, name)
        # A key login needs an account that is not locked: "*" is a password that none fits.
        self.run("usermod", "-p", "*", name)
        if password is not None:
            self.run("chpasswd", stdin=f"{name}:{password}\n")
        if sudo is not None:
            path = self.etc / "sudoers.d" / name
            path.write_text(f"{name} ALL=(ALL) {sudo}ALL\n")
            path.chmod(0o440)

    def install_docker(self) -> None:
        """Put a command line and a socket of Docker's there, which the group docker may use."""
        self.install("docker", _DOCKER)
        (self.etc / "group").write_text(
            "".join(
                f"{line}\n" for line in (self.etc / "group").read_text().splitlines() if not line.startswith("docker:")
            )
        )
        self.run("groupadd", "--system", "docker")
        self.run("python3", "-c", _SOCKET)
        self.run("chown", "root:docker", "/run/docker.sock")
        self.run("chmod", "660", "/run/docker.sock")

    def new_host_key(self) -> None:
        """Give the machine another identity; it is used from the next start on."""
        make_host_key(self.folder, "ed25519")


@pytest.fixture
def make_machine() -> Iterator[Callable[..., Machine]]:
    """Return a function that starts a machine; all are stopped at the end."""
    needs(IS_ROOT, "root")
    needs(SSHD, "openssh-server")
    needs(shutil.which("sudo"), "sudo")
    needs(shutil.which("useradd") and shutil.which("unshare"), "useradd and unshare")
    started: list[Machine] = []

    def make(first: str = "", kind: str = "ed25519") -> Machine:
        # Users of the machine have to get there, and pytest makes its own folders private again at every start.
        folder = Path(tempfile.mkdtemp(prefix="homelab_monitor-machine-"))
        folder.chmod(0o755)
        for name in ("home", "bin", "sbin"):
            (folder / name).mkdir()
        subprocess.run(["cp", "-a", "/etc", str(folder / "etc")], check=True)
        make_host_key(folder, kind)
        key = KeyPair.generate()
        (folder / "authorized_keys").write_text(f"restrict {key.public_openssh} test\n")
        machine = Machine(folder, key, first)
        machine.start()
        started.append(machine)
        return machine

    yield make
    for machine in started:
        machine.stop()
        shutil.rmtree(machine.folder, ignore_errors=True)


class CommandLines:
    """What appears in arguments and environments of new processes while it watches, by sampling /proc."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        # What ran before cannot have been told; leaving it out is what makes the sampling fast.
        before = set(os.listdir("/proc"))  # noqa: PTH208
        while not self._stop.is_set():
            self.samples += 1
            for process in set(os.listdir("/proc")) - before:  # noqa: PTH208
                self._read(Path("/proc", process))
            time.sleep(0.002)

    def _read(self, process: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                self.seen.add((process / name).read_bytes())
            except OSError:
                continue

    def holds(self, word: str) -> bool:
        """Tell whether a word was seen."""
        return any(word.encode() in line for line in self.seen)
