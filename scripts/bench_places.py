"""Where scripts/bench measures: a real sshd on the loopback of a real machine.

As root with namespaces and systemd it is a host of the lab (tests/homelab): a plain server with systemd as PID 1 in a
cgroup of its own, so that all that a poll costs there can be read from cpu.stat. The calling process moves into that
host's network, so that its sshd is on loopback. Anywhere else it is an sshd on this very machine, without that figure.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import tempfile

from custom_components.homelab_monitor.client.keys import KeyPair
from custom_components.homelab_monitor.client.target import Target
from tests.homelab.lab import HUB_ADDRESS, Account, Lab, forbidden, missing
from tests.sshd import LOGIN, SSHD, Sshd, make_host_key

USERNAME = "mon"
VENDOR_UNITS = 70
OWN_UNITS = 3
_UNITS = f"""\
unit() {{
  printf '[Service]\\n%s\\n' "$3" >"$1/$2.service"
  ln -s "/$1/$2.service" etc/systemd/system/multi-user.target.wants/
}}
for n in $(seq {VENDOR_UNITS}); do
  unit lib/systemd/system "vendor-$n" "$(printf 'Type=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true')"
done
for n in $(seq {OWN_UNITS}); do unit etc/systemd/system "own-$n" 'ExecStart=/bin/sleep infinity'; done
"""
"""Units as a plain server has them: some that it came with, a few that its owner wrote and wants to watch."""
_ROUTE = f"ip route add default via {HUB_ADDRESS}\n"
"""Leads nowhere, but makes eth0 the primary interface, whose rates are shown."""


@dataclass(frozen=True)
class Place:
    """A host to poll; `cgroup` holds all of it, None where that cannot be told; `lacks` says why."""

    target: Target
    key: KeyPair
    host_keys: tuple[str, ...]
    cgroup: Path | None
    words: str
    lacks: str = ""

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
def _in_the_lab() -> Iterator[Place]:
    """Boot a host with systemd and move next to its sshd."""
    key = KeyPair.generate()
    account = Account(USERNAME, authorized=(key.public_openssh,))
    with Lab() as lab:
        host = lab.add_host("server", systemd=True, accounts=(account,), setup=_UNITS + _ROUTE)
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
