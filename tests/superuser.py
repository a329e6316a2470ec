"""A root of its own over this machine's, in which sudo, sudo-rs or doas lets somebody do what a rule says.

`place` has an account `mon` without any right, and the one way to root that the test asks for; accounts, rules and
programs are real there, and nothing of it reaches this machine. Debian 12 has no sudo-rs: its programs are those of
the next release, fetched once from the mirror that this machine uses anyway, together with the libc they need.
"""

import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
import fcntl
import os
from pathlib import Path
import re
import shutil
import subprocess
import tempfile

import pytest

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.ssh import Connection
from custom_components.homelab_monitor.client.transport.target import Target

from .needs import needs
from .sshd import IS_ROOT, SSHD, can_connect, children, free_port, make_host_key, wait_until

_SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey /etc/ssh/place
AuthorizedKeysFile /etc/ssh/place_keys
PidFile none
StrictModes no
UsePAM no
"""
WAYS = ("sudo", "sudo-rs", "doas")
SUDOS = WAYS[:2]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "homelab_monitor" / "sudo-rs"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MOUNTS = """
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root" && cd "$1/root" &&
mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs -o mode=755 tmpfs run &&
mount -t tmpfs -o mode=1777 tmpfs tmp && exec chroot . sleep infinity
"""
_FURNISH = """
set -e
rm -f /etc/sudoers.d/* /etc/doas.conf
printf '%s\\n' root:x:0:0::/root:/bin/sh nobody:x:65534:65534::/:/bin/false >/etc/passwd
echo mon:x:61900:61900::/home/mon:/bin/sh >>/etc/passwd
printf '%s\\n' root:x:0: nogroup:x:65534: mon:x:61900: >/etc/group
printf '%s\\n' 'root:*:1:0:99999:7:::' 'mon:*:1:0:99999:7:::' >/etc/shadow
printf '%s\\n' 'root ALL=(ALL:ALL) ALL' '@includedir /etc/sudoers.d' >/etc/sudoers
chmod 440 /etc/sudoers
mkdir -p /home/mon && chown 61900:61900 /home/mon
rm -rf /usr/local/sbin && mkdir -m 755 /usr/local/sbin
"""


@dataclass
class Place:
    """One root with one way to become its root."""

    way: str
    folder: Path
    _holder: subprocess.Popen[bytes] = field(repr=False)

    def run(self, *argv: str, stdin: str = "", user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command there as a user."""
        become = ["setpriv", "--reuid=61900", "--regid=61900", "--clear-groups"] if user == "mon" else []
        environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": f"/home/{user}"}
        command = [*self._enter(), *become, *argv]
        return subprocess.run(
            command, input=stdin, text=True, capture_output=True, check=False, env=environ, timeout=60
        )

    def _enter(self) -> list[str]:
        """Return what stands before a command so that it runs there."""
        (pid,) = children(self._holder.pid)
        return ["nsenter", f"--target={pid}", "--mount", "--pid", "--root", f"--wd=/proc/{pid}/root/", "--"]

    @asynccontextmanager
    async def logged_in(self) -> AsyncIterator[Connection]:
        """Log in as mon, to a server that runs there."""
        needs(SSHD, "openssh-server")
        key, port = KeyPair.generate(), free_port()
        make_host_key(self.folder, "ed25519")
        self.sh("grep -q ^sshd: /etc/passwd || echo sshd:x:61901:65534::/:/bin/false >>/etc/passwd; mkdir -p /run/sshd")
        self.write("/etc/ssh/place", (self.folder / "host").read_text(), 0o600)
        self.write("/etc/ssh/place_keys", f"restrict {key.public_openssh}\n")
        self.write("/etc/ssh/place.conf", _SSHD.format(port=port))
        serve = ["setpriv", "--pdeathsig", "TERM", *self._enter(), str(SSHD), "-D", "-e", "-f", "/etc/ssh/place.conf"]
        server = _spawned(serve, self.folder / "log")
        try:
            wait_until(lambda: can_connect(port), f"the place does not listen: {self.folder}/log")
            known = (" ".join((self.folder / "host.pub").read_text().split()[:2]),)
            connection = await Connection.open(Target("mon", "127.0.0.1", port), key, known, timeout=20)
            try:
                yield connection
            finally:
                await connection.close()
        finally:
            server.terminate()
            server.wait(10)

    def sh(self, script: str, user: str = "root", **options: str) -> subprocess.CompletedProcess[str]:
        """Run lines of shell."""
        return self.run("sh", "-c", script, user=user, **options)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there as root."""
        done = self.run("sh", "-c", f'rm -f "$1"; cat >"$1" && chmod {mode:o} "$1"', "sh", path, stdin=text)
        assert done.returncode == 0, done.stderr

    def allow(self, *lines: str) -> None:
        """Let these be the only rules of sudoers or doas.conf."""
        text = "".join(f"{line}\n" for line in lines)
        if self.way == "doas":
            self.write("/etc/doas.conf", text, 0o644)
        else:
            self.sh("rm -f /etc/sudoers.d/*")
            self.write("/etc/sudoers.d/rules", text, 0o440)

    def read_folder(self, *, alone: bool = False) -> None:
        """Let doas be one that reads /etc/doas.d as Alpine's do: behind doas.conf, or before 3.19 alone.

        Debian's is the same program without that patch: it is told to read a file of the same length of name, which
        `settle` makes of all others in the order that the patch gives them.
        """
        patched = Path("/usr/bin/doas").read_bytes().replace(b"/etc/doas.conf", b"/run/doas.conf")
        words = b"\0/etc/doas.d\0" + (b"no matching configuration files found\0" if alone else b"")
        (self.folder / "upper/usr/bin").mkdir(parents=True, exist_ok=True)
        self.sh("rm -f /usr/bin/doas")
        fresh = base64.b64encode(patched + words).decode()
        self.run("sh", "-c", "base64 -d >/usr/bin/doas && chmod 4755 /usr/bin/doas", stdin=fresh)
        self.sh("mkdir -p -m 755 /etc/doas.d")

    def settle(self, *, alone: bool = False) -> None:
        """Let doas read what is in its files now."""
        listed = self.sh("cd /etc/doas.d && ls -a").stdout.splitlines()
        names = sorted((name for name in listed if name.endswith(".conf")), key=os.fsencode)
        paths = [*([] if alone else ["/etc/doas.conf"]), *(f"/etc/doas.d/{name}" for name in names)]
        texts = [self.run("cat", path).stdout for path in paths]
        self.write("/run/doas.conf", "".join(texts))

    def ask(self, *argv: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run something as root, as the user mon and without a password."""
        return self.run(*self.prefix, *argv, user="mon", **options)

    @property
    def prefix(self) -> Sequence[str]:
        """Return what mon writes before a command."""
        return ("doas", "-n") if self.way == "doas" else ("sudo", "-n", "-k", "--")


def _spawned(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that writes a log."""
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Return a place; which way to root it has is the fixture's parameter, sudo without one."""
    way = getattr(request, "param", "sudo")
    needs(IS_ROOT, "root")
    needs(shutil.which("sudo"), "sudo")
    if way == "doas":
        needs(shutil.which("doas"), "opendoas")
    # Its users have to get there, and pytest makes its own folders private again at every start.
    folder = Path(tempfile.mkdtemp(prefix="homelab_monitor-place-"))
    folder.chmod(0o755)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    if way == "sudo-rs":
        _bring_sudo_rs(folder / "upper")
    hold = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
    # All that runs there ends with its first process.
    hold += ["--pid", "--fork", "--kill-child"]
    holder = subprocess.Popen([*hold, "sh", "-c", _MOUNTS, "sh", str(folder)], stdin=subprocess.DEVNULL)
    made = Place(way, folder, holder)
    try:
        _wait_until_chrooted(holder)
        done = made.sh(_FURNISH + ("rm -f /usr/bin/sudo /usr/sbin/visudo\n" if way == "doas" else ""))
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        holder.kill()
        holder.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_chrooted(holder: subprocess.Popen[bytes]) -> None:
    """Wait until the first process of the place is what it becomes last."""

    def is_there() -> bool:
        assert holder.poll() is None, "the place could not be made"
        return [Path(f"/proc/{pid}/comm").read_text() for pid in children(holder.pid)] == ["sleep\n"]

    wait_until(is_there, "the place could not be made")


def _bring_sudo_rs(upper: Path) -> None:
    """Put sudo-rs where sudo is, with what it needs."""
    programs = Path("/usr/lib/cargo/bin")
    if not (programs / "sudo").exists():
        fetched = _fetch_sudo_rs()
        shutil.copytree(fetched, upper, symlinks=True, dirs_exist_ok=True)
        programs = fetched / "usr/lib/cargo/bin"
    for name, place, mode in (("sudo", "usr/bin", 0o4755), ("visudo", "usr/sbin", 0o755)):
        (upper / place).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(programs / name, upper / place / name)
        (upper / place / name).chmod(mode)


def _fetch_sudo_rs() -> Path:
    """Return a folder with sudo-rs of Debian 13 and its libraries; skip the test where there is none to be had."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_CACHE / "ready").exists():
            _download(_mirror())
            (_CACHE / "ready").touch()
    return _CACHE / "files"


def _mirror() -> str:
    """Return the Debian mirror of this machine."""
    if not (shutil.which("apt-get") and shutil.which("dpkg") and _KEYRING.exists()):
        pytest.skip("needs sudo-rs, or a Debian to get it from")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"^(\S+) Debian Debian$", told, re.MULTILINE)
    if not found:
        pytest.skip("needs sudo-rs, or a Debian whose mirror is known")
    return found[1]


def _download(mirror: str) -> None:
    """Fetch the packages with apt, in a configuration of its own, and unpack what runs."""
    for name in ("lists/partial", "cache/archives/partial"):
        (_CACHE / name).mkdir(parents=True, exist_ok=True)
    (_CACHE / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror} trixie main\n")
    (_CACHE / "status").touch()
    (_CACHE / "apt.conf").write_text(
        f'Dir::Etc::sourceparts "/dev/null"; Dir::Etc::sourcelist "{_CACHE}/sources.list"; '
        f'Dir::State::Lists "{_CACHE}/lists"; Dir::State::status "{_CACHE}/status"; Dir::Cache "{_CACHE}/cache"; '
        'APT::Sandbox::User "root";\n'
    )
    environ = {**os.environ, "APT_CONFIG": str(_CACHE / "apt.conf")}
    install = ["apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", "install", "sudo-rs"]
    for command in (["apt-get", "-qq", "update"], install):
        if subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL).returncode:
            pytest.skip("sudo-rs cannot be fetched")
    whole, files = _CACHE / "whole", _CACHE / "files"
    for package in (_CACHE / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(whole)], check=True)
    for kept in ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib/cargo", "usr/lib64"):
        if (whole / kept).exists():
            without = shutil.ignore_patterns("gconv")
            shutil.copytree(whole / kept, files / kept, symlinks=True, ignore=without, dirs_exist_ok=True)
    for done in (whole, _CACHE / "lists", _CACHE / "cache"):
        shutil.rmtree(done)
