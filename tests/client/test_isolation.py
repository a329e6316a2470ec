"""The client stands alone: without Home Assistant, without blocking its event loop, without the user's files."""

import ast
from collections.abc import Callable
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from tests.needs import needs
from tests.sshd import LOGIN, Sshd

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "custom_components" / "homelab_monitor" / "client"
SNAPSHOT = ROOT / "scripts" / "snapshot_main.py"

# Runs a script in an interpreter in which nothing of Home Assistant can be imported.
WITHOUT_HOME_ASSISTANT = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("homeassistant", "voluptuous", "probatio", "custom_components"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Uses the client as Home Assistant does, while Home Assistant's own detector of blocking calls is on.
NOTHING_BLOCKS = """
import asyncio, json, logging, sys
from homeassistant import block_async_io
sys.path.append(sys.argv.pop(1))
from client.errors import HomelabError
from client.transport.keys import KeyPair
from client.probe.programs import load_programs
from client.probe.session import ProbeSession
from client.transport.ssh import Connection, read_host_key
from client.transport.target import Target

async def fails(awaitable):
    try:
        await awaitable
    except HomelabError as err:
        return err.key

async def main(port, username, private, host_key):
    programs = await asyncio.to_thread(load_programs)
    target, key, found = Target(username, "127.0.0.1", port), KeyPair.from_private(private), []
    block_async_io.enable()
    found.append((await read_host_key(target.host, port, 10)).line)
    session = ProbeSession(target, key, [host_key], programs)
    await session.poll(["cpu", "memory", "load", "system"])
    found.append((await (await session.connect()).run("echo hello", timeout=5)).stdout)
    await session.close()
    other = KeyPair.generate()
    found.append(await fails(Connection.open(target, other, [host_key], timeout=5)))
    found.append(await fails(Connection.open(target, key, [other.public_openssh], timeout=5)))
    found.append(await fails(Connection.open_with_password(target, "wrong", [host_key], timeout=5)))
    found.append(await fails(Connection.open(Target("x", "127.0.0.1", 1), key, [host_key], timeout=5)))
    print(json.dumps(found), flush=True)
    open("/dev/null").close()  # Proves that the detector is awake.

logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
"""


@pytest.fixture
def home(sshd: Sshd, tmp_path: Path) -> Path:
    """Return a home folder whose .ssh has the key and knows the server."""
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "id_ed25519").touch(0o600)
    (folder / "id_ed25519").write_text(sshd.key.private_openssh)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_keys[0]}\n")
    return tmp_path


def _snapshot(home: Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_HOME_ASSISTANT, str(SNAPSHOT), *words]
    environment = os.environ | {"HOME": str(home), "LOGNAME": LOGIN}
    given = {"stdin": subprocess.DEVNULL, "timeout": 60} | options
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **given)


def test_the_client_imports_only_itself_and_what_it_needs() -> None:
    allowed = set(sys.stdlib_module_names) | {"asyncssh", "mashumaro", "orjson", "cryptography", "aiohappyeyeballs"}
    asyncssh_users = set()
    for path in CLIENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level <= len(path.relative_to(CLIENT).parts), f"{path.name} imports from outside the client"
                continue
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, path.name
            if any(name.startswith("asyncssh") for name in names):
                asyncssh_users.add(path.name)
    assert asyncssh_users == {"ssh.py", "wire.py", "keys.py"}


def test_snapshot_prints_every_section_without_home_assistant(sshd: Sshd, home: Path) -> None:
    needs(shutil.which("ssh-keygen"), "ssh-keygen")
    shown = _snapshot(home, f"{LOGIN}@127.0.0.1:{sshd.port}")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    told = json.loads(shown.stdout)
    assert {"cpu", "memory", "load", "uptime", "filesystems", "system"} <= told["sections"].keys()
    assert told["sections"]["system"]["hostname"] == os.uname().nodename


def test_snapshot_can_ask_for_some_sections_and_for_the_checks(sshd: Sshd, home: Path) -> None:
    needs(shutil.which("ssh-keygen"), "ssh-keygen")
    shown = _snapshot(home, f"127.0.0.1:{sshd.port}", "--sections", "load,memory", "--checks")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert set(told["sections"]) == {"load", "memory"}
    assert {row["check"]: row["status"] for row in told["checks"]["rows"]}["login"] == "ok"


def test_snapshot_trusts_an_unknown_host_only_when_told_to(sshd: Sshd, home: Path) -> None:
    (home / ".ssh" / "known_hosts").unlink()
    words = (f"{LOGIN}@127.0.0.1:{sshd.port}", "--sections", "load")
    refused = _snapshot(home, *words)
    assert refused.returncode == 1
    assert "SHA256:" in refused.stderr
    assert "--accept-new" in refused.stderr
    accepted = _snapshot(home, *words, "--accept-new")
    assert json.loads(accepted.stdout)["sections"].keys() == {"load"}
    assert not (home / ".ssh" / "known_hosts").exists()


def test_snapshot_does_not_trust_a_host_that_known_hosts_knows_otherwise(
    sshd: Sshd, home: Path, make_sshd: Callable[..., Sshd]
) -> None:
    needs(shutil.which("ssh-keygen"), "ssh-keygen")
    other = make_sshd().host_keys[0]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    shown = _snapshot(home, f"{LOGIN}@127.0.0.1:{sshd.port}", "--accept-new")
    assert shown.returncode == 1
    assert "host key changed" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("$(reboot)@nas",), "not a user name"),
        (("nobody@127.0.0.1:1", "--accept-new"), "connection refused"),
        (("127.0.0.1", "--key", "/no/such/key"), "No such file"),
    ],
)
def test_snapshot_says_in_one_line_what_went_wrong(home: Path, words: tuple[str, ...], reason: str) -> None:
    shown = _snapshot(home, *words)
    assert shown.returncode == 1
    assert reason in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_nothing_blocks_the_event_loop(sshd: Sshd, home: Path) -> None:
    words = [str(CLIENT.parent), str(sshd.port), LOGIN, sshd.key.private_openssh, sshd.host_keys[0]]
    environment = os.environ | {"HOME": str(home)}
    command = [sys.executable, "-c", NOTHING_BLOCKS, *words]
    shown = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert shown.stdout, shown.stderr
    assert json.loads(shown.stdout) == [
        sshd.host_keys[0],
        "hello\n",
        "key_refused",
        "host_key_changed",
        "password_refused",
        "connection_refused",
    ]
    reports = [line for line in shown.stderr.splitlines() if "blocking call" in line]
    assert reports == [line for line in reports if "/dev/null" in line]
    assert len(reports) == 1
