"""The demo's SSH server: one small asyncssh server per demo host, on 127.0.0.1.

It lets in one user with one key, Home Assistant's, and really runs what it is asked to, with the shell of whoever
started the demo. No terminal, no forwarding, no file transfer. A host with a tree runs the probe over that recorded
machine, and runs nothing else: a command that was meant for another machine must not reach this one.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import os
from pathlib import Path
import pwd
import re
import signal
from typing import override

import asyncssh

PROBE_COMMAND = re.compile(r"^\S*python\S* -I -u -c ")
REFUSED_STATUS = 126
"""What a shell answers when it may not run a command."""


@dataclass
class DemoHost:
    """One host of the demo; `tree` is the recorded machine that it plays, None for this very machine."""

    name: str
    port: int
    username: str
    tree: Path | None = None
    keys: list[bytes] = field(default_factory=list)
    """Public keys that may log in; filled when Home Assistant has shown its own."""

    @property
    def address(self) -> str:
        """Return what a person would type to add it."""
        return f"{self.username}@127.0.0.1:{self.port}"

    def authorize(self, line: str) -> None:
        """Let the key of an authorized_keys line in."""
        match = re.search(r"ssh-ed25519 [A-Za-z0-9+/=]+", line)
        if match is None:
            raise ValueError("no public key in what the config flow shows")
        self.keys = [asyncssh.import_public_key(match.group()).public_data]

    def environment(self) -> Mapping[str, str]:
        """Return the environment of the commands: a login's, not the demo's own."""
        user = pwd.getpwuid(os.getuid())
        environment = {
            "HOME": user.pw_dir if Path(user.pw_dir).is_dir() else "/",
            "USER": user.pw_name,
            "LOGNAME": user.pw_name,
            "SHELL": user.pw_shell or "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        if self.tree:
            environment["HOMELAB_MONITOR_ROOT"] = str(self.tree)
        return environment


class Server(asyncssh.SSHServer):
    """Who may log in on one connection."""

    def __init__(self, host: DemoHost) -> None:
        self._host = host

    @override
    def begin_auth(self, username: str) -> bool:
        return True

    @override
    def public_key_auth_supported(self) -> bool:
        return True

    @override
    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._host.username and key.public_data in self._host.keys


async def start(host: DemoHost, host_key: Path) -> asyncssh.SSHAcceptor:
    """Listen for one host; its key is made on first use, so that it stays the same over starts."""
    await asyncio.to_thread(make_host_key, host_key)
    return await asyncssh.listen(
        "127.0.0.1",
        host.port,
        server_host_keys=[host_key],
        server_factory=lambda: Server(host),
        process_factory=lambda process: serve(host, process),
        encoding=None,
        allow_pty=False,
        agent_forwarding=False,
        gss_host=None,
        login_timeout=20,
    )


def make_host_key(path: Path) -> None:
    """Make a private key that only this user can read, unless it is there already."""
    if not path.exists() or not path.stat().st_size:
        path.touch(mode=0o600)
        path.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())


async def serve(host: DemoHost, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run the command of one channel until it ends or the channel is closed."""
    command = process.command
    if not command or (host.tree and not PROBE_COMMAND.match(command)):
        process.stderr.write(
            b"This demo host runs only the probe.\n" if host.tree else b"Only commands, no terminal.\n"
        )
        process.exit(REFUSED_STATUS)
        return
    environment = host.environment()
    child = await asyncio.create_subprocess_exec(
        environment["SHELL"],
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=environment["HOME"],
        env=environment,
        start_new_session=True,
    )
    try:
        await exchange(process, child)
    finally:
        await end(child)


async def exchange(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Pass bytes both ways until the child has ended, or the channel was closed."""
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise TypeError("all three must be pipes")
    typed = asyncio.create_task(copy_input(process.stdin, child.stdin))
    told = asyncio.gather(copy_output(child.stdout, process.stdout), copy_output(child.stderr, process.stderr))
    closed = asyncio.create_task(process.channel.wait_closed())
    try:
        await asyncio.wait((told, closed), return_when=asyncio.FIRST_COMPLETED)
        if told.done() and not closed.done():
            process.exit(await child.wait())
    finally:
        for task in (typed, told, closed):
            task.cancel()
        await asyncio.gather(typed, told, closed, return_exceptions=True)


async def copy_input(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    """Hand what the client sends to the child, and the end of it."""
    with suppress(OSError, asyncssh.Error):  # the child has ended; its exit status says why
        while chunk := await source.read(1 << 16):
            sink.write(chunk)
            await sink.drain()
        sink.close()


async def copy_output(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Hand what the child prints to the client."""
    with suppress(OSError, asyncssh.Error):  # the channel is gone, and with it the reader
        while chunk := await source.read(1 << 16):
            sink.write(chunk)
            await sink.drain()


async def end(child: asyncio.subprocess.Process) -> None:
    """End a command with everything that it started."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), 2)
