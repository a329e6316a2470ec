"""A container engine for tests: `python3 stand_in_engine.py SOCKET COUNT [SILENT [GROUPS]]` answers as Docker does.

It has so many running containers, with labels, ports and health as real ones have, so that its answers have their
size (1.5 kB each in the list, 4 kB in a closer look). While the file SILENT exists it takes questions, never answers.
With GROUPS, a folder of cgroup2, each container is a process that sleeps in a control group of its own.
"""

from http import HTTPStatus
import json
import os
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
import subprocess
import sys
import time
from typing import Any

LABELS = {f"org.opencontainers.image.label{number}": "x" * 60 for number in range(8)}
MOUNTS = [{"Type": "bind", "Source": f"/srv/data{n}", "Destination": f"/data{n}", "Mode": "rw"} for n in range(4)]


def ident(number: int) -> str:
    """Return a container's id."""
    return f"{number:064x}"


def labels(number: int) -> dict[str, str]:
    """Return the labels that Compose and an image give a container."""
    return LABELS | {"com.docker.compose.project": f"stack{number // 10}", "com.docker.compose.service": f"app{number}"}


def listed(number: int) -> dict[str, Any]:
    """Return a container as the list tells it."""
    port = {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8000 + number, "Type": "tcp"}
    return {
        "Id": ident(number),
        "Names": [f"/app{number}"],
        "Image": f"registry.example/app{number}:1",
        "ImageID": f"sha256:{number:064x}",
        "Command": "/entrypoint.sh run",
        "Created": 1760000000,
        "Ports": [port],
        "Labels": labels(number),
        "State": "running",
        "Status": "Up 2 hours (healthy)",
        "HostConfig": {"NetworkMode": f"stack{number // 10}_default"},
        "Mounts": MOUNTS,
    }


def inspected(number: int, pid: int = 0) -> dict[str, Any]:
    """Return a container as a closer look tells it."""
    state = {
        "Status": "running",
        "Running": True,
        "Pid": pid,
        "ExitCode": 0,
        "OOMKilled": False,
        "StartedAt": "2026-11-24T20:00:00.5Z",
        "Health": {"Status": "healthy", "Log": [{"Output": "ok" * 100}] * 5},
    }
    return {
        "Id": ident(number),
        "State": state,
        "RestartCount": 0,
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "Binds": ["/srv/data:/data:rw"] * 4},
        "Config": {"Env": [f"NAME{n}={'v' * 40}" for n in range(30)], "Labels": labels(number)},
        "Mounts": MOUNTS,
    }


def run(number: int, groups: str) -> int:
    """Return the process of a container, started in its control group."""
    if not groups:
        return 0
    folder = f"{groups}/{ident(number)}"
    os.makedirs(folder)  # noqa: PTH103
    process = subprocess.Popen(["sleep", "infinity"])
    with open(f"{folder}/cgroup.procs", "w") as group:  # noqa: PTH123
        group.write(str(process.pid))
    return process.pid


class Engine(ThreadingUnixStreamServer):
    """The engine."""

    daemon_threads = True

    def __init__(self, path: str, count: int, silent: str = "", groups: str = "") -> None:
        super().__init__(path, Conversation)
        self.silent = silent
        self.answers: dict[str, Any] = {"/containers/json": [listed(number) for number in range(count)]}
        self.answers |= {
            f"/containers/{ident(number)}/json": inspected(number, run(number, groups)) for number in range(count)
        }
        os.chmod(path, 0o666)  # noqa: PTH101


class Conversation(StreamRequestHandler):
    """One connection."""

    server: Engine

    def handle(self) -> None:
        """Answer until it ends."""
        while request := self.rfile.readline():
            while self.rfile.readline().strip():
                continue
            if self.server.silent and os.path.exists(self.server.silent):  # noqa: PTH110
                time.sleep(3600)
            answer = self.server.answers.get(request.split()[1].decode().partition("?")[0])
            status = HTTPStatus.NOT_FOUND if answer is None else HTTPStatus.OK
            # Made anew each time, as a real engine has to.
            body = json.dumps(answer).encode() + b"\n"
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


if __name__ == "__main__":
    engine = Engine(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    engine.serve_forever()
