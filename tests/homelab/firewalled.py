"""A machine behind rules of its own and a stranger beside it, each a network namespace.

    python3 -m tests.homelab.firewalled     records what the tools say of every set of rules in fixtures/firewalls

A set of rules is a script for sh, run as root within the machine's namespaces alone: its network and its /etc are its
own, and end with it. It listens at NAMED, a port that rules name, and at UNNAMED, one that none does: what a stranger
finds there, by IPv4 and by IPv6, is the truth. Needs root.
"""

from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Self

from custom_components.homelab_monitor.client.probe.programs import probe_source

PROBES = Path(__file__).resolve().parents[2] / "custom_components" / "homelab_monitor" / "probes"
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "firewalls"
PROGRAMS = ("ip", "unshare", "nsenter", "nft", "iptables", "iptables-legacy", "ufw")
NAMED, UNNAMED = 22, 4242
RECORDED = (
    *("nft -j list ruleset", "nft list ruleset", "iptables-save", "ip6tables-save", "iptables -S"),
    *("iptables-legacy-save", "ip6tables-legacy-save"),
)
LEGACY_MARKS = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")
MACHINE, STRANGER = {4: "198.51.100.2", 6: "2001:db8:1::2"}, {4: "198.51.100.1", 6: "2001:db8:1::1"}
ANSWER_SECONDS = 30.0
SILENCE_SECONDS = 0.7
"""For how long nothing has to come where rules drop: an answer that is wanted may take ANSWER_SECONDS."""
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH; "
_ETC = (
    "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w && "
    "mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc"
)
_LISTEN = """
import socket, sys
ports = map(int, sys.argv[1:])
doors = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in ports]
print("listening", flush=True)
sys.stdin.read()
"""
_CALL = """
import concurrent.futures, socket, sys

def call(door):
    address, port, seconds = door.split()
    try:
        socket.create_connection((address, int(port)), timeout=float(seconds)).close()
    except TimeoutError:
        return "silent"
    except OSError:
        return "refused"
    return "accepted"

with concurrent.futures.ThreadPoolExecutor() as pool:
    print(*pool.map(call, sys.argv[1:]))
"""
_ASK = b"""
print(json.dumps(firewall(Host(), Request({"id": "1", "sections": ["security"]}))))
"""


def missing() -> list[str]:
    """Return the programs that are not here."""
    return [name for name in PROGRAMS if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]


def forbidden() -> str:
    """Return why this machine allows no namespaces, "" where it does."""
    command = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", _PATH + _ETC]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr.strip()


@dataclass(frozen=True)
class Rules:
    """Some rules, from a file: how they are made, what is to be said of them, and what a stranger is to find.

    `told` is the reason; after a slash what an nft newer than 1.0.6 leads to. `found` says accepted or refused
    (also by silence) of NAMED and UNNAMED by IPv4, then of both by IPv6.
    """

    name: str
    script: str
    told: tuple[str, ...]
    backend: str
    found: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what a file says: three lines of comment, then the script."""
        script = path.read_text()
        told, backend, found = (line.partition(":")[2].strip() for line in script.splitlines()[:3])
        return cls(path.stem, script, tuple(told.split("/")), backend, tuple(found.split()))


RULES = [Rules.read(path) for path in sorted(FIXTURES.glob("*.sh"))]


class Firewalled:
    """The machine and the stranger."""

    def __enter__(self) -> Self:
        """Make both, with a cable between them."""
        self.stranger = self._place("true")
        self.machine = self._place(_ETC)
        far = str(self.stranger.pid)
        cable = f"ip link add eth0 type veth peer name eth0 netns {far}; ip link set lo up; ip link set eth0 up"
        self.run(f"{cable}; {self._addresses(MACHINE)}; {self._routes(STRANGER)}")
        self._enter(self.stranger, f"ip link set eth0 up; {self._addresses(STRANGER)}")
        listen = [sys.executable, "-c", _LISTEN, str(NAMED), str(UNNAMED)]
        self.listener = subprocess.Popen(
            [*self._way(self.machine), *listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.listener.stdout is not None
        self.listener.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        for process in (self.listener, self.machine, self.stranger):
            process.communicate()

    @staticmethod
    def _place(prepare: str) -> subprocess.Popen[bytes]:
        """Return a process that holds namespaces until its input ends."""
        command = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c"]
        process = subprocess.Popen(
            [*command, f"{_PATH}{prepare}; echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    @staticmethod
    def _addresses(mine: dict[int, str]) -> str:
        """Return how addresses are given."""
        return f"ip addr add {mine[4]}/24 dev eth0; ip addr add {mine[6]}/64 dev eth0 nodad"

    @staticmethod
    def _routes(gateways: dict[int, str]) -> str:
        """Return how the way out is given."""
        return "; ".join(f"ip -{version} route add default via {gateway}" for version, gateway in gateways.items())

    @staticmethod
    def _way(place: subprocess.Popen[bytes]) -> list[str]:
        """Return what runs a command in a place."""
        return ["nsenter", f"--target={place.pid}", "--net", "--mount", "--"]

    def _enter(self, place: subprocess.Popen[bytes], script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in a place."""
        command = [*self._way(place), "sh", "-ec", _PATH + script]
        return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def run(self, script: str) -> tuple[str, str]:
        """Run a script on the machine; return its output and what it complains of."""
        done = self._enter(self.machine, script)
        return done.stdout, done.stderr

    def find(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the stranger finds: accepted, refused or silent; an answer that is wanted may take its time."""
        doors = [f"{MACHINE[version]} {port}" for version in (4, 6) for port in (NAMED, UNNAMED)]
        seconds = [ANSWER_SECONDS if word == "accepted" else SILENCE_SECONDS for word in wanted]
        calls = [f"{door} {limit}" for door, limit in zip(doors, seconds, strict=True)]
        command = [*self._way(self.stranger), sys.executable, "-c", _CALL, *calls]
        return tuple(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    def record(self) -> dict[str, dict[str, object]]:
        """Return what each tool says, and which tables of the old iptables there are."""
        said = {}
        for command in RECORDED:
            done = subprocess.run(
                [*self._way(self.machine), *command.split()], check=False, capture_output=True, text=True
            )
            said[command] = {"status": done.returncode, "output": done.stdout, "errors": done.stderr}
        marks = [mark for mark in LEGACY_MARKS if self.run(f"cat {mark} || true")[0]]
        return {"run": said, "files": dict.fromkeys(marks, "")}

    def ask(self) -> dict[str, str]:
        """Return what the probe says, as root on the machine."""
        program, _, _ = probe_source(PROBES).rpartition(b"if __name__ ==")
        command = [*self._way(self.machine), "python3", "-"]
        told = subprocess.run(command, input=program + _ASK, check=True, capture_output=True).stdout
        return dict(json.loads(told))


if __name__ == "__main__":
    for each in RULES:
        with Firewalled() as place:
            place.run(each.script)
            (FIXTURES / f"{each.name}.json").write_text(json.dumps(place.record(), separators=(",", ":")) + "\n")
