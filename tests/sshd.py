"""A real OpenSSH server on 127.0.0.1 with keys, configuration and accounts of its own.

`sshd` (a fixture, one per test session) lets the user who runs the tests log in. Other tests
make their own with `make_sshd`, to stop it, to change its keys, or to configure it.
As root, accounts with other login shells come from a private copy of /etc/passwd that only
that server sees (a mount namespace): the machine's own accounts stay untouched.
"""

import _socket
import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
import os
from pathlib import Path
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target

from .needs import needs

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
LOGIN = pwd.getpwuid(os.getuid()).pw_name
IS_ROOT = os.geteuid() == 0
_FIRST_UID = 61000
_CONFIG = """\
{first}
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 100:30:200
LogLevel VERBOSE
{extra}
"""


@dataclass
class Sshd:
    """One server; `shells` maps names of accounts that it alone knows to their login shells."""

    folder: Path
    key: KeyPair
    extra: str = ""
    shells: dict[str, str] = field(default_factory=dict)
    first: str = ""
    """What stands before the rest of the configuration: sshd takes the first value of each setting."""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Return the public key of the server, as a line."""
        return (" ".join((self.folder / "host.pub").read_text().split()[:2]),)

    @property
    def log(self) -> str:
        """Return what the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Return the process id of the listener."""
        assert self._process is not None
        return self._process.pid

    @property
    def target(self) -> Target:
        """Return where the user who runs the tests logs in."""
        return self.target_for(LOGIN)

    def target_for(self, username: str) -> Target:
        """Return where one of `shells` logs in."""
        return Target(username, "127.0.0.1", self.port)

    def home(self, username: str) -> Path:
        """Return the home folder of one of `shells`."""
        return self.folder / "home" / username

    def start(self) -> None:
        """Start listening, on the same port as before."""
        self.port = self.port or free_port()
        (self.folder / "config").write_text(self._config())
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "config")]
        if self.shells:
            self._make_accounts()
            # The namespace lives as long as its only process, which becomes the server.
            script = f'mount --bind {self.folder}/passwd /etc/passwd && exec "$@"'
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]
        if setpriv := shutil.which("setpriv"):
            # A test run that is killed must not leave its servers behind.
            command = [setpriv, "--pdeathsig", "TERM", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
        wait_until(lambda: can_connect(self.port), f"sshd does not listen: {self.log}")

    def _config(self) -> str:
        """Return the configuration."""
        return _CONFIG.format(port=self.port, folder=self.folder, extra=self.extra, first=self.first)

    def stop(self) -> None:
        """Stop listening and end every session."""
        self.suspend(suspended=False)
        serving = self._serving()
        assert self._process is not None
        self._process.terminate()
        self._process.wait(5)
        for pid in serving:
            _signal(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Return the processes that serve connections, the outermost of each."""
        return children(self.pid)

    def kill_sessions(self) -> None:
        """End every connection the hard way, as a crash or a reboot does; what runs on them is left to notice."""
        for pid in self._serving():
            _signal(pid, signal.SIGKILL)

    def suspend(self, *, suspended: bool = True) -> None:
        """Freeze the server and its sessions, or let them go on."""
        for pid in (self.pid, *self._serving()):
            _signal(pid, signal.SIGSTOP if suspended else signal.SIGCONT)

    def _serving(self) -> list[int]:
        """Return sshd's processes behind the listener: per connection a monitor and, but for root, one of the user."""
        found = [pid for pid in self.sessions() if _name(pid).startswith("sshd")]
        for pid in found:
            found += [child for child in children(pid) if _name(child).startswith("sshd")]
        return found

    def new_host_key(self, kind: str = "ed25519") -> None:
        """Give the server another identity; it is used from the next start on."""
        make_host_key(self.folder, kind)

    def _make_accounts(self) -> None:
        """Write the private passwd: the machine's own, and one account per shell."""
        lines = [Path("/etc/passwd").read_text()]
        for number, (name, shell) in enumerate(self.shells.items()):
            home = self.home(name)
            home.mkdir(parents=True, exist_ok=True)
            # Any password but "!…", which would lock the account for keys, too.
            lines.append(f"{name}:*:{_FIRST_UID + number}:{os.getgid()}::{home}:{shell}\n")
            os.chown(home, _FIRST_UID + number, os.getgid())
        (self.folder / "passwd").write_text("".join(lines))


@pytest.fixture(scope="session")
def make_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sshd]]:
    """Return a function that starts a server; all are stopped at the end."""
    needs(SSHD, "openssh-server")
    started: list[Sshd] = []

    def make(extra: str = "", shells: dict[str, str] | None = None, kind: str = "ed25519", first: str = "") -> Sshd:
        if shells:
            # Their homes are in it, and pytest makes its own folder private again at every start.
            folder = Path(tempfile.mkdtemp(prefix="homelab_monitor-sshd-"))
            folder.chmod(0o755)
        else:
            folder = tmp_path_factory.mktemp("sshd")
        if IS_ROOT:
            Path("/run/sshd").mkdir(exist_ok=True)
        make_host_key(folder, kind)
        key = KeyPair.generate()
        (folder / "authorized_keys").write_text(f"restrict {key.public_openssh} test\n")
        server = Sshd(folder, key, extra, shells or {}, first)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()
        if server.shells:
            shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd(make_sshd: Callable[..., Sshd]) -> Sshd:
    """Return the server that tests share; they leave it as it is."""
    return make_sshd()


def make_host_key(folder: Path, kind: str) -> None:
    """Write a new host key of that type."""
    for name in ("host", "host.pub"):
        (folder / name).unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(folder / "host")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    """Return a port that nothing listens on."""
    # The class below socket.socket: the test harness forbids the latter where no test has asked for it.
    probe = _socket.socket()
    probe.bind(("127.0.0.1", 0))
    port = int(probe.getsockname()[1])
    probe.close()
    return port


def can_connect(port: int) -> bool:
    """Tell whether something listens, by asking the kernel: tests may not be allowed to connect."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1:4:2] == [f"0100007F:{port:04X}", "0A"] for row in rows)


def children(pid: int) -> list[int]:
    """Return the child processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _name(pid: int) -> str:
    """Return the name of a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], why: str, seconds: float = 10.0) -> None:
    """Wait for a condition, blocking; fail with `why`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(why)
        time.sleep(0.01)


async def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition while the event loop goes on; fail when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def processes_with(word: str) -> Sequence[int]:
    """Return the processes whose command line holds the word."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in cmdline.read_bytes():
                found.append(int(cmdline.parent.name))
        except OSError:
            continue
    return found
