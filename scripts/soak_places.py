"""The hosts of scripts/soak: an ordinary one, one with nothing, and one with two equal things of each kind.

As root with namespaces and systemd they are hosts of the lab (tests/homelab). Anywhere else only this very machine can
be watched, and nothing can be taken away from it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import tempfile

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target
from tests.homelab.lab import Account, Lab, LabHost, forbidden, missing
from tests.sshd import LOGIN, SSHD, Sshd, make_host_key

USERNAME = "mon"
CLOCK_FILE = "/opt/soak/clock"
_ENGINE = Path(__file__).resolve().parent.parent / "tests/stand_in_engine.py"
_COMMON = """\
mkdir -p opt/soak
mount --bind {folder} opt/soak
# A real apt would count for seconds what is pending here.
[ ! -d var/lib/apt/lists ] || mount -t tmpfs -o mode=755 tmpfs var/lib/apt/lists
unit() {{ printf '[Service]\\nExecStart=%s\\n' "$2" >"etc/systemd/system/$1.service"
  ln -s "/etc/systemd/system/$1.service" etc/systemd/system/multi-user.target.wants/; }}
mount -t tmpfs tmpfs sys/block
: >run/diskstats
disk() {{
  mkdir -p sys/block/$1/queue sys/block/$1/device
  echo 1 >sys/block/$1/queue/rotational; echo 15628053168 >sys/block/$1/size; echo 8:0 >sys/block/$1/dev
  echo ST8000VN004 >sys/block/$1/device/model; echo "$2" >sys/block/$1/device/wwid
  echo 9 0 99 9 9 0 99 9 0 9 18 >sys/block/$1/stat; echo "   8 0 $1 9 0 99 9 9 0 99 9 0 9 18" >>run/diskstats
}}
volume() {{ mkdir -p $1; mount -t tmpfs -o size=8m $2 $1; }}
engine() {{
  cp {engine} opt/engine.py
  unit docker "/usr/bin/python3 /opt/engine.py /run/docker.sock $1"
}}
"""
_END = "mount --bind run/diskstats proc/diskstats\n"
_PLAIN = """\
for n in 1 2 3; do unit own-$n '/bin/sleep infinity'; done
disk sda naa.5000c500a1b20001; disk sdb naa.5000c500a1b20002
volume srv/data tank; volume srv/old tank2
engine 3
ip link add lan1 type bridge
ip route add default via 10.77.0.2
"""
_NOTHING = "umount -l sys/block; mount -t tmpfs tmpfs sys/block\n"
_TWINS = """\
for n in 1 2; do unit own@$n '/bin/sleep infinity'; done
disk sda naa.5000c500a1b2ffff; disk sdb naa.5000c500a1b2ffff
volume srv/a tank; volume srv/b tank
engine 2
ip link add lan1 address 02:00:00:00:00:01 type bridge
ip link add lan2 address 02:00:00:00:00:01 type bridge
ip route add default via 10.77.0.2
"""
SETUPS = {"plain": _PLAIN, "nothing": _NOTHING, "twins": _TWINS}
_TAKEN_AWAY = """\
umount -l /srv/old
systemctl stop own-3; rm /etc/systemd/system/own-3.service /etc/systemd/system/multi-user.target.wants/own-3.service
systemctl daemon-reload
ip link del lan1
umount -l /proc/diskstats
sed -i /sdb/d /run/diskstats; mount --bind /run/diskstats /proc/diskstats; rm -r /sys/block/sdb
"""
LEAVERS = ("own-3", "5000c500a1b20002", "lan1", "/srv/old")
"""What is in the unique ids of the things that are taken away from the plain host."""


@dataclass(frozen=True)
class Place:
    """A host to watch; `pid` is the process that all its own descend from, `clock` where its probe reads the time."""

    target: Target
    key: KeyPair
    host_keys: tuple[str, ...]
    pid: int
    clock: str
    words: str
    options: Mapping[str, object] = field(default_factory=dict)
    leavers: tuple[str, ...] = ()
    take_away: Callable[[], object] = lambda: None


def lacking() -> str:
    """Return what a machine lacks for a host of its own, "" when nothing."""
    return missing(systemd=True) or forbidden(systemd=True)


@contextmanager
def open_place(kind: str, folder: Path) -> Iterator[Place]:
    """Start a host that finds the clock of the folder, and end it."""
    lacks = lacking()
    if lacks and kind != "plain":
        raise SystemExit(f"scripts/soak: a host that is {kind} needs {lacks}")
    with _on_this_machine(folder, lacks) if lacks else _in_the_lab(kind, folder) as place:
        yield place


@contextmanager
def _in_the_lab(kind: str, folder: Path) -> Iterator[Place]:
    """Boot a host with systemd, or without where it is to have nothing, and move next to its sshd."""
    key = KeyPair.generate()
    account = Account(USERNAME, authorized=(key.public_openssh,))
    setup = _COMMON.format(folder=folder, engine=_ENGINE) + SETUPS[kind] + _END
    with Lab() as lab:
        host = lab.add_host("server", systemd=kind != "nothing", accounts=(account,), setup=setup)
        host.wait()
        host.enter_network()
        is_plain = kind == "plain"
        yield Place(
            Target(USERNAME, "127.0.0.1"),
            key,
            (host.host_key,),
            host.pid,
            CLOCK_FILE,
            f"a host in namespaces ({kind})",
            options={} if kind == "nothing" else {"filesystems": ["/srv/data", "/srv/old", "/srv/a", "/srv/b"]},
            leavers=LEAVERS if is_plain else (),
            take_away=lambda: _take_away(host) if is_plain else None,
        )


def _take_away(host: LabHost) -> None:
    """Take a service, a disk, a network card and a filesystem from the host."""
    host.run("sh", "-ec", _TAKEN_AWAY)


@contextmanager
def _on_this_machine(folder: Path, lacks: str) -> Iterator[Place]:
    """Start an sshd for the user who runs this."""
    if not SSHD:
        raise SystemExit("scripts/soak needs an SSH server: install openssh-server")
    with tempfile.TemporaryDirectory(prefix="homelab-soak-") as name:
        server, key = Path(name), KeyPair.generate()
        make_host_key(server, "ed25519")
        (server / "authorized_keys").write_text(f"restrict {key.public_openssh} soak\n")
        sshd = Sshd(server, key)
        sshd.start()
        words = f"this machine; a host that things can be taken from needs {lacks}"
        try:
            yield Place(sshd.target_for(LOGIN), key, sshd.host_keys, sshd.pid, str(folder / "clock"), words)
        finally:
            sshd.stop()
