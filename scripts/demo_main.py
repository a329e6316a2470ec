"""scripts/demo: a real Home Assistant with this integration and two hosts, until Ctrl-C.

  scripts/demo [--port 8123] [--reset]

It starts Home Assistant on 127.0.0.1 with a user whose name and password are printed, an SSH server of its own (on
127.0.0.1, too), and adds two hosts through the real config flow: this very machine with its real values, and a
made-up NVIDIA workstation whose numbers move. Add your own machines in the browser: Settings, Devices & services, Add
integration, Homelab Monitor. Automations, scenes and scripts can be made there, and the actions for processes and logs
answer. Nothing needs root, Docker or an SSH server on this machine.

Everything that it writes is in .demo/ of this checkout; --reset forgets it first. --port chooses another port.
"""

import argparse
import asyncio
from contextlib import suppress
import fcntl
import getpass
import json
import os
from pathlib import Path
import shutil
import signal
import socket
import sys
import time
from typing import Any

from aiohttp import ClientError
import asyncssh
from demo_api import PASSWORD, USERNAME, DemoError, HomeAssistant
import demo_config
import demo_ssh
from demo_ssh import DemoHost
import demo_table
from demo_tree import LivingTree

WORK = demo_config.REPOSITORY / ".demo"
CONFIG = WORK / "config"
LOG = WORK / "home-assistant.log"
MEMORY = WORK / "hosts.json"
"""Name of a demo host → its port and the config entry that stands for it."""
AUTHORIZED_KEY = WORK / "authorized_key"
FIXTURE = demo_config.REPOSITORY / "tests/fixtures/hosts/nvidia-workstation"
FIXTURE_HOSTNAME = "nvidia-workstation-demo"
DASHBOARD = "demo-hosts"
FIRST_SSH_PORT = 22022
RESTART_EXIT_CODE = 100
"""Home Assistant ends with this when somebody asked for a restart in the browser."""
STOP_SECONDS = 30.0
FIRST_POLL_SECONDS = 10.0
REDRAWN_SECONDS = 1.0
PRINTED_SECONDS = 10.0
"""How often the table is renewed on a terminal, and where it cannot be redrawn."""


class Demo:
    """All that runs, and what stops it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.started = time.monotonic()
        self.memory: dict[str, dict[str, Any]] = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}
        self.hosts = [
            DemoHost("this machine", self._ssh_port("this machine", 0), getpass.getuser()),
            DemoHost("made-up workstation", self._ssh_port("made-up workstation", 1), "demo", WORK / "workstation"),
        ]
        self._servers: list[asyncssh.SSHAcceptor] = []
        self._trees: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None

    def _ssh_port(self, name: str, place: int) -> int:
        """Return the port of the last start, or another one where that is taken now."""
        return free_port(self.memory.get(name, {}).get("port", FIRST_SSH_PORT + place))

    async def run(self) -> None:
        """Run until Home Assistant ends by itself, which is an error unless it wants a restart."""
        await self._start_hosts()
        while True:
            demo_config.write(CONFIG, self.port)
            self._process = await self._start_home_assistant()
            shown = asyncio.create_task(self._show())
            ended = asyncio.create_task(self._process.wait())
            try:
                await asyncio.wait((shown, ended, *self._trees), return_when=asyncio.FIRST_COMPLETED)
                for failed in (shown, *self._trees):
                    if failed.done():
                        failed.result()
            finally:
                shown.cancel()
                await asyncio.gather(shown, return_exceptions=True)
                ended.cancel()
            if ended.result() != RESTART_EXIT_CODE:
                raise DemoError(f"Home Assistant ended ({ended.result()}). The end of {LOG}:\n{log_end()}")
            print("\nHome Assistant restarts.")
            self.started = time.monotonic()

    async def stop(self) -> None:
        """Stop everything that was started."""
        if self._process and self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for tree in self._trees:
            tree.cancel()
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _start_hosts(self) -> None:
        """Start the SSH servers, and let the recorded machine live."""
        for number, host in enumerate(self.hosts):
            if AUTHORIZED_KEY.exists():
                host.authorize(AUTHORIZED_KEY.read_text())
            if host.tree:
                tree = LivingTree(FIXTURE, host.tree, FIXTURE_HOSTNAME)
                self._trees.append(asyncio.create_task(tree.run()))
            self._servers.append(await demo_ssh.start(host, WORK / f"ssh_host_key_{number}"))

    async def _start_home_assistant(self) -> asyncio.subprocess.Process:
        """Start Home Assistant, in a session of its own: Ctrl-C is for us, who then stop it in order."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        launcher = Path(__file__).with_name("demo_ha.py")
        with LOG.open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                launcher,
                CONFIG,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def _show(self) -> None:
        """Log in, add the hosts that are missing, then show the fleet for ever."""
        api = HomeAssistant.at(self.port)
        try:
            await api.wait_ready()
            await api.log_in()
            await self._add_hosts(api)
            await api.add_dashboard(DASHBOARD, "Hosts", "mdi:server", "original-states")
            print(f"\nHome Assistant is ready after {time.monotonic() - self.started:.0f} s:  {api.url}/{DASHBOARD}")
            print(f"Log in as {USERNAME} with the password {PASSWORD}. Its log: {LOG}. Ctrl-C stops everything.\n")
            await show_fleet(api)
        except (ClientError, TypeError, TimeoutError) as error:
            # The connection is gone: either Home Assistant ended, which the caller sees, or it hangs.
            await asyncio.sleep(STOP_SECONDS)
            raise DemoError(f"Home Assistant does not answer ({error!r}). The end of {LOG}:\n{log_end()}") from error
        finally:
            await api.close()

    async def _add_hosts(self, api: HomeAssistant) -> None:
        """Let Home Assistant's key in and add what is not there yet, through the config flow."""
        if not AUTHORIZED_KEY.exists():
            key = await api.show_key()
            for host in self.hosts:
                host.authorize(key)
            AUTHORIZED_KEY.write_text(key)
        existing = {entry["entry_id"] for entry in await api.entries()}
        for host in self.hosts:
            known = self.memory.get(host.name, {})
            if known.get("entry_id") in existing:
                if known["port"] == host.port:
                    continue
                await api.remove_entry(known["entry_id"])  # its port was taken meanwhile
            print(f"Adding {host.name}")
            self.memory[host.name] = {"port": host.port, "entry_id": await api.add_host(host.name, host.address)}
            MEMORY.write_text(json.dumps(self.memory))


async def show_fleet(api: HomeAssistant) -> None:
    """Show the table until cancelled: redrawn on a terminal, printed now and then elsewhere."""
    is_terminal = sys.stdout.isatty()
    drawn = 0
    await wait_online(api)
    while True:
        table = demo_table.text(await fleet(api))
        if drawn and is_terminal:
            print(f"\033[{drawn}F\033[J", end="")
        print(table, end="\n" if is_terminal else "\n\n", flush=True)
        drawn = table.count("\n") + 1
        await asyncio.sleep(REDRAWN_SECONDS if is_terminal else PRINTED_SECONDS)


async def wait_online(api: HomeAssistant) -> None:
    """Wait for the first poll of every host, but not long: it is no error when one is away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_POLL_SECONDS):
            while not all(row.status == "online" for row in await fleet(api)):
                await asyncio.sleep(0.2)


async def fleet(api: HomeAssistant) -> list[demo_table.Row]:
    """Return what Home Assistant knows of every host."""
    return demo_table.rows(await api.entries(), await api.entities(), await api.states())


def free_port(wanted: int) -> int:
    """Return the wanted port of 127.0.0.1 if nothing has it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            return int(trial.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def log_end() -> str:
    """Return the last lines of Home Assistant's log."""
    return "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])


async def run_until_stopped(port: int) -> None:
    """Run the demo until it fails or a signal asks for its end; always clean up."""
    demo = Demo(port)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    running, asked = asyncio.create_task(demo.run()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        print("\nStopping.")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        asked.cancel()
        await demo.stop()


def main() -> None:
    """Read the command line, take the work folder, run."""
    parser = argparse.ArgumentParser(prog="scripts/demo", add_help=False)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--reset", action="store_true")
    arguments = parser.parse_args()
    os.chdir(demo_config.REPOSITORY)
    WORK.mkdir(exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("scripts/demo runs already from this folder.")
        if arguments.reset:
            forget()
        if free_port(arguments.port) != arguments.port:
            sys.exit(f"Port {arguments.port} of 127.0.0.1 is taken. Choose another one: scripts/demo --port 8124")
        try:
            asyncio.run(run_until_stopped(arguments.port))
        except DemoError as error:
            sys.exit(f"\n{error}")


def forget() -> None:
    """Remove what earlier runs left, except the lock that this one holds."""
    for path in WORK.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


if __name__ == "__main__":
    main()
