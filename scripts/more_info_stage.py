"""What scripts/more_info looks at: recorded machines behind SSH servers of our own, in a real Home Assistant.

Between them the machines have every kind of entity. All of it ends with the context manager, and with this process.
"""

import asyncio
from contextlib import suppress
import json
import os
from pathlib import Path
import shutil
import sys
from typing import Any, Self

import asyncssh
from demo_api import DOMAIN, HomeAssistant
import demo_config
from demo_main import free_port
import demo_ssh
from demo_ssh import DemoHost
from demo_tree import LivingTree

FIXTURES = demo_config.REPOSITORY / "tests/fixtures/hosts"
MACHINES = ("nvidia-workstation", "amd-desktop")
PRIVILEGES = {"power": True, "control_containers": True}
"""The options without which some kinds of entities do not exist."""
BANNED = "fail2ban-client banned"
FAIL2BAN = "proc/812"
GPU_MONITOR = "sys/bus/pci/devices/0000:03:00.0/hwmon/hwmon1"
STOP_SECONDS = 20.0
ENABLED_SECONDS = 60.0


class Stage:
    """Machines and Home Assistant; an asynchronous context manager that ends them."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(0)
        self.api = HomeAssistant.at(self.port)
        self.log = folder / "home-assistant.log"
        self._folder = folder
        self._servers: list[asyncssh.SSHAcceptor] = []
        self._trees: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start Home Assistant; what has been started ends when something fails."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        """Start Home Assistant and wait until its user can log in."""
        demo_config.write(self._folder / "config", self.port)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                Path(__file__).with_name("more_info_ha.py"),
                self._folder / "config",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        await self.api.wait_ready()
        await self.api.log_in()

    async def add_machines(self) -> None:
        """Start the machines, add them, enable all that they have."""
        hosts = [await self._machine(name, number) for number, name in enumerate(MACHINES)]
        key = await self.api.show_key()
        for host in hosts:
            host.authorize(key)
        entries = await asyncio.gather(*(self.api.add_host(host.name, host.address) for host in hosts))
        await asyncio.gather(*(self.api.set_options(entry_id, {"privileges": PRIVILEGES}) for entry_id in entries))
        await self._enable_all()

    async def _machine(self, name: str, number: int) -> DemoHost:
        """Return a machine that lives and can be reached."""
        host = DemoHost(name, free_port(0), "demo", self._folder / name)
        tree = LivingTree(FIXTURES / name, self._folder / name, name)
        if name == "amd-desktop":
            add_what_none_has(tree.folder)
        self._trees.append(asyncio.create_task(tree.run()))
        self._servers.append(await demo_ssh.start(host, self._folder / f"ssh_host_key_{number}"))
        return host

    async def _enable_all(self) -> None:
        """Enable every entity and wait until each has a state."""
        known: set[str] = set()
        async with asyncio.timeout(ENABLED_SECONDS):
            while True:
                known_rows = await self.api.command("config/entity_registry/list")
                rows = [row for row in known_rows if row["platform"] == DOMAIN]
                for row in (row for row in rows if row["disabled_by"]):
                    change = {"entity_id": row["entity_id"], "disabled_by": None}
                    await self.api.command("config/entity_registry/update", **change)
                states = await self.api.states()
                living = {state["entity_id"] for state in states if "restored" not in state["attributes"]}
                found = {row["entity_id"] for row in rows}
                if found and found == known and found <= living:
                    return
                known = found
                await asyncio.sleep(1)

    async def entries(self) -> list[dict[str, Any]]:
        """Return the hosts; the connection of a minute ago has been closed for being silent."""
        await self.api.log_in()
        return await self.api.entries()

    async def _stop(self) -> None:
        """End everything that was started."""
        await self.api.close()
        if self._process and self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for tree in self._trees:
            tree.cancel()
        await asyncio.gather(*self._trees, return_exceptions=True)
        for server in self._servers:
            server.close()
            await server.wait_closed()


def add_what_none_has(folder: Path) -> None:
    """Give a machine what no recorded one has: a card whose fan tells its speed alone, and fail2ban."""
    (folder / GPU_MONITOR / "pwm1").unlink()
    (folder / GPU_MONITOR / "fan1_input").write_text("1240\n")
    for path in ("usr/bin/fail2ban-server", "usr/bin/fail2ban-client", "run/fail2ban/fail2ban.sock"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    # Its socket may outlive it, so it has to run.
    shutil.copytree(FIXTURES / "nvidia-workstation" / FAIL2BAN, folder / FAIL2BAN, symlinks=True, dirs_exist_ok=True)
    told = json.loads((folder / ".host.json").read_text())
    told["is_root"] = True
    told["run"][BANNED] = {"status": 0, "output": "[{'sshd': ['192.0.2.7', '2001:db8::7']}]\n"}
    (folder / ".host.json").write_text(json.dumps(told))
