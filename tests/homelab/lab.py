"""A homelab in network namespaces: hosts with a real sshd, some with a real systemd, behind a switch of their own.

    with Lab() as lab:
        nas = lab.add_host("nas", systemd=True, accounts=(Account("mon", authorized=public_line),))
        subprocess.run([*lab.as_hub, "ssh", f"mon@{nas.address}"])

Needs root. A host's root is an overlay over this machine's own, so nothing is installed; it has its own name, address,
host key, machine-id and process ids. The switch and the place of the client (the hub, without a route to anywhere else)
are network namespaces without a name, held by a process each: nothing of the machine's own network is touched, and all
of it ends with this process. `missing()` and `forbidden()` say why a machine cannot have one.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Self

HERE = Path(__file__).resolve().parent
SUBNET = "10.77.0"
HUB_ADDRESS = f"{SUBNET}.2"
SYSTEMD = Path("/lib/systemd/systemd")
START_SECONDS = 20.0
_PROGRAMS = ("ip", "nsenter", "unshare", "setpriv", "sshd", "ssh-keygen", "bash")
_SEARCH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_HIDDEN = (
    "etc/ssh",
    "etc/systemd/system",
    "etc/init.d",
    *(f"etc/rc{level}.d" for level in "S0123456"),
    "var/log/journal",
)
"""Folders of this machine that a host does not inherit: whose keys, and which services it starts."""
_MASKED = ("console-getty", "getty@tty1", "systemd-modules-load", "systemd-udevd", "systemd-udev-trigger")
"""What cannot work in a container: no console, no modules, a /sys that is read-only."""
_SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM {pam}
PrintMotd no
PermitRootLogin yes
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
{extra}
"""


@dataclass(frozen=True)
class Account:
    """Somebody who can log in to a host; `authorized` are lines of authorized_keys, `sudo` is a sudoers rule."""

    name: str = "mon"
    authorized: Sequence[str] = ()
    password: str | None = None
    shell: str = "/bin/bash"
    groups: Sequence[str] = ()
    sudo: str = ""


@dataclass
class LabHost:
    """One host; it can be stopped and started again, and keeps its disk meanwhile."""

    lab: Lab
    name: str
    address: str
    folder: Path
    systemd: bool
    _net: _Namespace
    _outer: subprocess.Popen[bytes] | None = None

    @property
    def host_key(self) -> str:
        """Return the public host key, type and key."""
        return " ".join((self.folder / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])

    @property
    def cgroup(self) -> Path | None:
        """Return the cgroup that holds all of a systemd host."""
        mount = cgroup2()
        return mount / f"homelab-{os.getpid()}-{self.name}" if self.systemd and mount else None

    @property
    def pid(self) -> int:
        """Return the host's PID 1 as this machine counts."""
        assert self._outer is not None
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    @property
    def console(self) -> str:
        """Return what the host printed while it started, and sshd's own words on a host without systemd."""
        return (self.folder / "console.log").read_text(errors="replace")

    @property
    def as_host(self) -> list[str]:
        """Return what to put before a command so that it runs on the host as root, not over SSH."""
        return ["nsenter", f"--target={self.pid}", "--all", "--wd=/", "--"]

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command on the host as root; return its output."""
        command = [*self.as_host, *argv]
        return subprocess.run(command, check=check, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

    def enter_network(self) -> None:
        """Move the calling thread, and all that it starts from now on, into the host's network."""
        self._net.enter()

    def start(self) -> None:
        """Boot, without waiting until it is up."""
        script = HERE / "boot.sh"
        cgroup = self.cgroup
        flags = ["--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--propagation=private"]
        enter = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
        command = ["nsenter", self._net.flag, "unshare", *flags, "bash", str(script)]
        if cgroup:
            cgroup.mkdir(exist_ok=True)
            command.insert(3, "--cgroup")
            command = ["sh", "-c", enter, str(cgroup), *command]
        environ = {"NAME": self.name, "FOLDER": str(self.folder), "SYSTEMD": "yes" if self.systemd else "no"}
        with (self.folder / "console.log").open("ab") as log:
            self._outer = _spawn(command, {**environ, "PATH": _SEARCH}, log.fileno())

    def wait(self) -> None:
        """Wait until sshd listens, on a systemd host until it has started all else as well."""
        _wait_until(self._listens, lambda: f"{self.name} does not start: {self.console}")
        if self.systemd:
            self.run("systemctl", "is-system-running", "--wait", check=False)

    def stop(self) -> None:
        """Switch the host off at once."""
        if self._outer is not None:
            _end(self._outer)
            self._outer = None
        if self.cgroup and self.cgroup.exists():
            _remove_cgroup(self.cgroup)

    def new_host_key(self) -> None:
        """Give the host another identity; sshd uses it from its next start on."""
        _make_host_key(self.folder / "upper/etc/ssh", self.name)

    def _listens(self) -> bool:
        """Tell whether sshd listens, as the host's kernel says it."""
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.console}")
        rows = [row.split() for row in self._net.read("net/tcp").splitlines()[1:]]
        return any(row[1].endswith(":0016") and row[3] == "0A" for row in rows)


@dataclass
class _Namespace:
    """A network namespace that lives as long as its only process."""

    holder: subprocess.Popen[bytes]

    @classmethod
    def make(cls) -> Self:
        """Start the holder."""
        holder = _spawn(["unshare", "--net", "sleep", "infinity"], {"PATH": _SEARCH}, subprocess.DEVNULL)
        own = Path("/proc/self/ns/net").readlink()
        _wait_until(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != own, lambda: "no network namespace")
        made = cls(holder)
        made.ip("link set lo up")
        return made

    @property
    def path(self) -> str:
        """Return the file that stands for the namespace."""
        return f"/proc/{self.holder.pid}/ns/net"

    @property
    def flag(self) -> str:
        """Return nsenter's option to enter it."""
        return f"--net={self.path}"

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` in it."""
        script = "".join(f"{line}\n" for line in lines)
        subprocess.run(["nsenter", self.flag, "ip", "-batch", "-"], input=script, text=True, check=True)

    def read(self, name: str) -> str:
        """Return a file of /proc/PID in it."""
        return Path(f"/proc/{self.holder.pid}/{name}").read_text()

    def enter(self) -> None:
        """Move the calling thread into it."""
        with Path(self.path).open() as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)

    def close(self) -> None:
        """End the holder."""
        _end(self.holder)


@dataclass
class Lab:
    """The switch, the hub and the hosts; a context manager that ends them all."""

    hosts: dict[str, LabHost] = field(default_factory=dict)
    _folder: Path = field(default_factory=Path)
    _switch: _Namespace | None = None
    _hub: _Namespace | None = None
    _networks: list[_Namespace] = field(default_factory=list)

    def __enter__(self) -> Self:
        if lacks := missing() or forbidden():
            raise RuntimeError(f"a lab needs {lacks}")
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix="homelab-"))
        self._folder.chmod(0o755)
        self._switch = self._network()
        self._switch.ip("link add br0 type bridge", "link set br0 up")
        self._hub = self._network()
        self._plug_in(self._hub, "hub", HUB_ADDRESS)
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.stop()
        for network in reversed(self._networks):
            network.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def as_hub(self) -> list[str]:
        """Return what to put before a command so that it runs where the client lives."""
        assert self._hub is not None
        return ["nsenter", self._hub.flag, "--"]

    def enter_hub(self) -> None:
        """Move the calling thread, and all that it starts from now on, to where the client lives."""
        assert self._hub is not None
        self._hub.enter()

    def add_host(  # noqa: PLR0913
        self,
        name: str,
        *,
        systemd: bool = False,
        accounts: Sequence[Account] = (),
        sshd: str = "",
        setup: str = "",
        address: str = "",
    ) -> LabHost:
        """Add a host and boot it; `setup` are shell lines that run in its root before its first process.

        `sshd` are more lines for sshd_config. Use `wait` to know when it is up.
        """
        network = self._network()
        address = address or f"{SUBNET}.{11 + len(self.hosts)}"
        self._plug_in(network, f"v{len(self._networks)}", address)
        host = LabHost(self, name, address, self._folder / name, systemd, network)
        _furnish(host, accounts, sshd, setup)
        self.hosts[name] = host
        host.start()
        return host

    def _network(self) -> _Namespace:
        """Make a network namespace that ends with the lab."""
        made = _Namespace.make()
        self._networks.append(made)
        return made

    def _plug_in(self, network: _Namespace, port: str, address: str) -> None:
        """Connect a namespace with the switch: its eth0 is a port of the bridge."""
        assert self._switch is not None
        network.ip(
            f"link add eth0 type veth peer name {port} netns {self._switch.holder.pid}",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
        )
        self._switch.ip(f"link set {port} master br0", f"link set {port} up")


def missing(*, systemd: bool = False) -> str:
    """Return which programs this machine lacks for a lab, "" when none."""
    lacking = [name for name in _PROGRAMS if not shutil.which(name, path=_SEARCH)]
    if systemd and not SYSTEMD.exists():
        lacking.append("systemd")
    return ", ".join(lacking)


def forbidden(*, systemd: bool = False) -> str:
    """Return why a lab cannot be made here whatever is installed, "" when it can."""
    if os.geteuid() != 0:
        return "not root"
    if systemd and (cgroup2() is None or not os.access(str(cgroup2()), os.W_OK)):
        return "no cgroup2 filesystem that can be written"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True, text=True)
    return tried.stderr.strip()


def cgroup2() -> Path | None:
    """Return where this machine mounts cgroup2, None when it does not."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


# ------------------------------------------------------------ what is on a host's disk


def _furnish(host: LabHost, accounts: Sequence[Account], sshd: str, setup: str) -> None:
    """Write what makes the host another machine than this one."""
    for part in ("upper", "work", "root", "homes/root", "homes/home"):
        (host.folder / part).mkdir(parents=True)
    upper = host.folder / "upper"
    for hidden in _HIDDEN:
        (upper / hidden).mkdir(parents=True)
        os.setxattr(upper / hidden, "trusted.overlay.opaque", b"y")
    etc = upper / "etc"
    _make_host_key(etc / "ssh", host.name)
    (etc / "ssh/sshd_config").write_text(_SSHD_CONFIG.format(pam="yes" if host.systemd else "no", extra=sshd))
    (etc / "machine-id").write_text(os.urandom(16).hex() + "\n")
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host.name}\n")
    if setup:
        (host.folder / "setup.sh").write_text(setup)
    if host.systemd:
        _choose_units(etc / "systemd/system")
    _write_accounts(host.folder, accounts)


def _choose_units(folder: Path) -> None:
    """Start sshd and what every system starts, nothing else that this machine happens to have."""
    (folder / "multi-user.target.wants").mkdir()
    (folder / "multi-user.target.wants/ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    for name in _MASKED:
        (folder / f"{name}.service").symlink_to("/dev/null")


def _write_accounts(folder: Path, accounts: Sequence[Account]) -> None:
    """Add accounts to the machine's own lists, and write their keys; root is an account like any other."""
    etc, uid = folder / "upper/etc", 1500
    passwd, shadow, group = (Path("/etc", name).read_text() for name in ("passwd", "shadow", "group"))
    for number, account in enumerate(accounts, uid):
        is_root = account.name == "root"
        if is_root:
            shadow = _with_root_password(shadow, _hashed(account.password))
        else:
            passwd += f"{account.name}:x:{number}:{number}::/home/{account.name}:{account.shell}\n"
            shadow += f"{account.name}:{_hashed(account.password)}:19000:0:99999:7:::\n"
            group = _with_member(group, account) + f"{account.name}:x:{number}:\n"
        home = folder / "homes" / ("root" if is_root else f"home/{account.name}")
        _write_home(home, account, 0 if is_root else number)
        if account.sudo:
            _write_private(etc / "sudoers.d" / account.name, f"{account.name} {account.sudo}\n", 0o440)
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(group)
    _write_private(etc / "shadow", shadow, 0o600)


def _write_home(home: Path, account: Account, uid: int) -> None:
    """Make a home with the account's authorized_keys."""
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{line}\n" for line in account.authorized)
    _write_private(home / ".ssh/authorized_keys", lines, 0o600)
    (home / ".ssh").chmod(0o700)
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, uid, uid)


def _with_member(group: str, account: Account) -> str:
    """Return the list of groups with the account in its groups."""
    lines = [line.split(":") for line in group.splitlines()]
    for words in lines:
        if words[0] in account.groups:
            words[3] = ",".join(filter(None, (words[3], account.name)))
    return "".join(":".join(words) + "\n" for words in lines)


def _with_root_password(shadow: str, hashed: str) -> str:
    """Return the shadow file with another field for root."""
    return re.sub(r"^root:[^:]*", lambda _: f"root:{hashed}", shadow, flags=re.MULTILINE)


def _hashed(password: str | None) -> str:
    """Return the field of /etc/shadow; without a password only keys log in ("!" would refuse those, too)."""
    if password is None:
        return "*"
    command = ["openssl", "passwd", "-6", "-stdin"]
    return subprocess.run(command, input=password, text=True, check=True, capture_output=True).stdout.strip()


def _write_private(path: Path, text: str, mode: int) -> None:
    """Write a file with these rights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _make_host_key(folder: Path, name: str) -> None:
    """Write a new ed25519 host key."""
    path = folder / "ssh_host_ed25519_key"
    for old in (path, path.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)


# ------------------------------------------------------------ processes and cgroups


def _spawn(command: Sequence[str], environ: dict[str, str], output: int) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one."""
    tied = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    return subprocess.Popen(
        tied, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, start_new_session=True
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that this lab started, with all that its namespace holds, and wait until it is gone."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    inner = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    pidfds = [os.pidfd_open(pid) for pid in inner if Path(f"/proc/{pid}").exists()]
    for pidfd in pidfds:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    process.kill()
    process.wait()
    _wait_until(lambda: not any(map(_is_running, inner)), lambda: f"{inner} do not end")


def _is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _sweep() -> None:
    """Remove the cgroups of labs that were killed; one with processes in it cannot be removed."""
    for folder in (cgroup2() or Path("/nowhere")).glob("homelab-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with suppress(OSError):
                _remove_cgroup(folder)


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup and all below it, once their processes are gone."""
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts)):
        inner.rmdir()
    folder.rmdir()


def _wait_until(condition: Callable[[], object], why: Callable[[], str]) -> None:
    """Wait for a condition; raise RuntimeError with `why`."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(why())
        time.sleep(0.01)
