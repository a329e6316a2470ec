"""What 50 hosts that hang cost Home Assistant's start: a whole one, as a process, with and without them.

It is the demo's Home Assistant (its environment, its configuration) in a folder of its own. The hosts are one port of
loopback that takes connections and never says a word: whoever waits for one of them waits until its timeout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import signal
import socket
import subprocess
import tempfile
import time
from types import MappingProxyType

from bench_table import Figure, best_half
import demo_config
from environments import environment
from homeassistant.config_entries import SOURCE_USER, STORAGE_VERSION, STORAGE_VERSION_MINOR, ConfigEntry

from custom_components.homelab_monitor.client.transport.keys import KeyPair
from custom_components.homelab_monitor.client.transport.target import Target
from custom_components.homelab_monitor.const import DOMAIN, PLATFORM_LINUX
from custom_components.homelab_monitor.settings import HostAddress
from tests.sshd import free_port

HOSTS = 50
ROUNDS = 3
LIMIT_SECONDS = 120.0
STOP_SECONDS = 30.0
SETTLING_SECONDS = 2.0
"""Home Assistant says that it is initialized before it listens to signals; ended then, it would keep nothing."""
HERE = Path(__file__).resolve().parent
READY = "Home Assistant initialized"
_LEVELS = "  logs:\n    homeassistant.bootstrap: info\n"


def start_cost(rounds: int = ROUNDS) -> Figure:
    """Return how many seconds later Home Assistant is ready, by the better half of the starts of each kind."""
    python = environment("demo")
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name, _silent_port() as port:
        folders = [Path(name, part) for part in ("without", "with")]
        for folder, hosts in zip(folders, (0, HOSTS), strict=True):
            _configure(folder, hosts, port)
            _start(python, folder)  # The first start makes databases and compiled modules.
        taken = [[_start(python, folder) for folder in folders] for _ in range(rounds)]
        if _connectivities(folders[1]) != HOSTS:
            raise SystemExit(f"{_connectivities(folders[1])} of {HOSTS} hosts were set up")
    without, with_hosts = (best_half(column) for column in zip(*taken, strict=True))
    print(f"Home Assistant starts in {without:.2f} s, with {HOSTS} hosts that hang in {with_hosts:.2f} s", flush=True)
    return Figure(with_hosts - without, max(more - less for less, more in taken))


@contextmanager
def _silent_port() -> Iterator[int]:
    """Take connections, and leave it at that."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield listener.getsockname()[1]


def _configure(folder: Path, hosts: int, port: int) -> None:
    """Write Home Assistant's configuration, with so many hosts."""
    demo_config.write(folder, free_port())
    text = (folder / "configuration.yaml").read_text()
    (folder / "configuration.yaml").write_text(text.replace("  logs:\n", _LEVELS))
    entries = [_entry(number, port) for number in range(hosts)]
    # Not demo_config's `store`: this file has a minor version, too.
    stored = {"version": STORAGE_VERSION, "minor_version": STORAGE_VERSION_MINOR, "key": "core.config_entries"}
    (folder / ".storage/core.config_entries").write_text(json.dumps(stored | {"data": {"entries": entries}}))


def _entry(number: int, port: int) -> dict[str, object]:
    """Return the stored config entry of one host."""
    address = HostAddress(
        target=Target("mon", "127.0.0.1", port),
        host_id=f"{number:032x}",
        host_keys=(" ".join(KeyPair.generate().public_openssh.split()[:2]),),
        platform=PLATFORM_LINUX,
    )
    entry = ConfigEntry(
        data=address.as_data(),
        discovery_keys=MappingProxyType({}),
        domain=DOMAIN,
        minor_version=1,
        options={},
        source=SOURCE_USER,
        subentries_data=(),
        title=f"host{number}",
        unique_id=address.host_id,
        version=1,
    )
    return json.loads(json.dumps(entry.as_dict(), default=str))


def _connectivities(folder: Path) -> int:
    """Return for how many hosts Home Assistant has an entity that says that they are off."""
    stored = json.loads((folder / ".storage/core.entity_registry").read_text())
    return sum(entity["unique_id"].endswith("_host_connectivity") for entity in stored["data"]["entities"])


def _start(python: Path, folder: Path) -> float:
    """Start Home Assistant, return after how many seconds it was ready, and stop it."""
    log = folder / "start.log"
    with log.open("wb") as output:
        begun = time.monotonic()
        command = [str(python), str(HERE / "demo_ha.py"), str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        while READY not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() - begun > LIMIT_SECONDS:
                raise SystemExit(f"Home Assistant does not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
        taken = time.monotonic() - begun
        time.sleep(SETTLING_SECONDS)
        return taken
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
