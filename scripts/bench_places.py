"""Where scripts/bench measures: a real sshd on the loopback of a real machine.

As root with namespaces and systemd it is a host of the lab (tests/homelab): a plain server with systemd as PID 1 in a
cgroup of its own, so that all that a poll costs there can be read from cpu.stat. The calling process moves into that
host's network, so that its sshd is on loopback. Anywhere else it is an sshd on this very machine, without that figure.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import tempfile

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target
from tests.homelab.lab import HUB_ADDRESS, Account, Lab, forbidden, missing
from tests.sshd import LOGIN, SSHD, Sshd, make_host_key

USERNAME = "mon"
VENDOR_UNITS = 70
OWN_UNITS = 3
BIG_UNITS, BIG_OWN_UNITS = 436, 20
BIG_CONTAINERS = 100
BIG_VETHS = 60
BIG_DATASETS = tuple(f"/tank/data{number}" for number in range(40))
BIG_DISKS = tuple(f"sd{letter}" for letter in "abcdefghijkl")
_ENGINE = Path(__file__).resolve().parent.parent / "tests/stand_in_engine.py"
_ENGINE_UNIT = f'/usr/bin/python3 /opt/engine.py /run/docker.sock {BIG_CONTAINERS} "" /sys/fs/cgroup/docker'
_BIG = f"""\
cp {_ENGINE} opt/engine.py
unit etc/systemd/system docker 'ExecStart={_ENGINE_UNIT}'
mkdir -p {" ".join(name[1:] for name in BIG_DATASETS)}
for name in {" ".join(name[1:] for name in BIG_DATASETS)}; do mount -t tmpfs -o size=1m tank $name; done
unshare --net sleep infinity &
until [ "$(readlink proc/$!/ns/net)" != "$(readlink proc/$$/ns/net)" ]; do sleep 0.01; done
for n in $(seq {BIG_VETHS}); do ip link add veth$n type veth peer name eth$n netns $!; done
mount -t tmpfs tmpfs sys/block
for name in {" ".join(BIG_DISKS)}; do
  mkdir -p sys/block/$name/queue sys/block/$name/device
  echo 1 >sys/block/$name/queue/rotational; echo 15628053168 >sys/block/$name/size
  echo 8:0 >sys/block/$name/dev; echo ST8000VN004 >sys/block/$name/device/model
  echo naa.5000c500a1b2$name >sys/block/$name/device/wwid; echo 9 0 99 9 9 0 99 9 0 9 18 >sys/block/$name/stat
  echo "   8 0 $name 9 0 99 9 9 0 99 9 0 9 18" >>run/diskstats
done
mount --bind run/diskstats proc/diskstats
"""
"""What makes a host big. Real are its units, its veth pairs, processes and control groups of its containers; their
engine is a stand-in, its datasets are filesystems in memory, its disks files."""
_ROUTE = f"ip route add default via {HUB_ADDRESS}\n"
"""Leads nowhere, but makes eth0 the primary interface, whose rates are shown."""


def _units(vendor: int, own: int) -> str:
    """Return what makes units: some that a server came with, some that its owner wrote and wants to watch."""
    return f"""\
unit() {{
  printf '[Service]\\n%s\\n' "$3" >"$1/$2.service"
  ln -s "/$1/$2.service" etc/systemd/system/multi-user.target.wants/
}}
for n in $(seq {vendor}); do
  unit lib/systemd/system "vendor-$n" "$(printf 'Type=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true')"
done
for n in $(seq {own}); do unit etc/systemd/system "own-$n" 'ExecStart=/bin/sleep infinity'; done
"""


@dataclass(frozen=True)
class Place:
    """A host to poll; `cgroup` holds all of it, None where that cannot be told; `lacks` says why."""

    target: Target
    key: KeyPair
    host_keys: tuple[str, ...]
    cgroup: Path | None
    words: str
    lacks: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    """What the config entry chooses."""

    def used_seconds(self) -> float:
        """Return the CPU time that the whole host has used so far."""
        if self.cgroup is None:
            return 0.0
        words = (self.cgroup / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6


@contextmanager
def open_place() -> Iterator[Place]:
    """Start the best host that can be had here, and end it."""
    lacks = missing(systemd=True) or forbidden(systemd=True)
    with _on_this_machine(lacks) if lacks else _in_the_lab() as place:
        yield place


@contextmanager
def open_big_place() -> Iterator[Place | None]:
    """Start a big host, None where there can be none."""
    if missing(systemd=True) or forbidden(systemd=True):
        yield None
        return
    key = KeyPair.generate()
    account = Account(USERNAME, authorized=(key.public_openssh,))
    with Lab() as lab:
        setup = _units(BIG_UNITS, BIG_OWN_UNITS) + _BIG + _ROUTE
        host = lab.add_host("big", systemd=True, accounts=(account,), setup=setup)
        host.wait()
        host.enter_network()
        words = f"a big one: {BIG_CONTAINERS} containers, {BIG_VETHS} veth pairs, {len(BIG_DATASETS)} datasets"
        options = {"filesystems": list(BIG_DATASETS)}
        yield Place(Target(USERNAME, "127.0.0.1"), key, (host.host_key,), host.cgroup, words, options=options)


@contextmanager
def _in_the_lab() -> Iterator[Place]:
    """Boot a host with systemd and move next to its sshd."""
    key = KeyPair.generate()
    account = Account(USERNAME, authorized=(key.public_openssh,))
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=(account,), setup=_units(VENDOR_UNITS, OWN_UNITS) + _ROUTE)
        host.wait()
        host.enter_network()
        words = f"a systemd host in namespaces, {VENDOR_UNITS + OWN_UNITS} services more than those of its system"
        yield Place(Target(USERNAME, "127.0.0.1"), key, (host.host_key,), host.cgroup, words)


@contextmanager
def _on_this_machine(lacks: str) -> Iterator[Place]:
    """Start an sshd for the user who runs this."""
    if not SSHD:
        raise SystemExit("scripts/bench needs an SSH server: install openssh-server")
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        folder, key = Path(name), KeyPair.generate()
        make_host_key(folder, "ed25519")
        (folder / "authorized_keys").write_text(f"restrict {key.public_openssh} bench\n")
        server = Sshd(folder, key)
        server.start()
        try:
            yield Place(server.target_for(LOGIN), key, server.host_keys, None, "this machine", lacks)
        finally:
            server.stop()
