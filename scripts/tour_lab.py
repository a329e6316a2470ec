"""The homelab of the tour: machines in namespaces as a newcomer has them, and a Home Assistant beside them.

Nothing else can be reached from there. The hub knows its machines by name from a hosts file of its own, as a home's
router would tell them.
"""

from contextlib import suppress
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
from typing import Self

import demo_config

from tests.homelab.lab import Account, Lab, LabHost

PORT = 8123
PASSWORD = "correct horse"  # noqa: S105 - of a machine that exists for two minutes
STOP_SECONDS = 30.0

_PLAIN = "rm -f usr/bin/docker* usr/sbin/docker* usr/local/bin/docker* usr/bin/podman* usr/sbin/smartctl\n"
"""What this machine may have installed, the tour's machines do not have."""
_DOCKERD = """\
#!/usr/bin/python3 -I
import grp, http.server, json, os, socketserver
PATH, NAMES = "/run/docker.sock", ("jellyfin", "paperless")
STATE = {"Status": "running", "Running": True, "Pid": 0, "ExitCode": 0, "StartedAt": "2026-11-01T08:00:00Z"}
ANSWERS = {
    "/version": {"Version": "27.3.1", "ApiVersion": "1.47", "MinAPIVersion": "1.24"},
    "/containers/json": [
        {"Id": name.encode().hex().ljust(64, "0"), "Names": ["/" + name], "Image": name, "ImageID": "sha256:0",
         "State": "running", "Status": "Up 3 weeks", "Created": 1790000000, "Labels": {}}
        for name in NAMES
    ],
}
for each in ANSWERS["/containers/json"]:
    ANSWERS["/containers/" + each["Id"] + "/json"] = {
        "Id": each["Id"], "Name": each["Names"][0], "State": STATE, "RestartCount": 0,
    }
class Engine(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "-"
    def do_GET(self):
        path = self.path.partition("?")[0]
        path = path[path.index("/", 1):] if path.startswith("/v1.") else path
        body = json.dumps(ANSWERS.get(path, {"message": "page not found"})).encode()
        self.send_response(200 if path in ANSWERS else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
if os.path.exists(PATH):
    os.unlink(PATH)
with Server(PATH, Engine) as server:
    os.chown(PATH, 0, grp.getgrnam("docker").gr_gid)
    os.chmod(PATH, 0o660)
    server.serve_forever()
"""
_DOCKER_CLI = """\
#!/bin/sh
[ -w /run/docker.sock ] || { echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1; }
echo 27.3.1
"""
_DOCKER_UNIT = """\
[Unit]
Description=Docker Application Container Engine
[Service]
ExecStart=/usr/local/bin/dockerd
"""
_DOCKER = f"""\
{_PLAIN}
grep -q ^docker: etc/group || echo docker:x:990: >>etc/group
cat >usr/local/bin/dockerd <<'END'
{_DOCKERD}END
cat >usr/local/bin/docker <<'END'
{_DOCKER_CLI}END
chmod 755 usr/local/bin/dockerd usr/local/bin/docker
cat >etc/systemd/system/docker.service <<'END'
{_DOCKER_UNIT}END
ln -s /etc/systemd/system/docker.service etc/systemd/system/multi-user.target.wants/
"""
"""An engine that answers as Docker's does, of two containers that are not there: what matters is who may ask it."""
_ROUTER = f"""\
{_PLAIN}
rm -rf etc/os-release etc/dropbear usr/sbin/sshd
printf 'NAME="OpenWrt"\\nVERSION="23.05.5"\\nID="openwrt"\\nPRETTY_NAME="OpenWrt 23.05.5"\\n' >etc/os-release
printf '#!/bin/sh\\nexec /usr/sbin/dropbear -F -E -r /run/host_key\\n' >usr/sbin/sshd
dropbearkey -t ed25519 -f run/host_key >/dev/null
chmod 755 usr/sbin/sshd
"""
_NO_PYTHON = f"{_PLAIN}mkdir opt/python; mv usr/bin/python3* opt/python/; rm -f usr/local/bin/python3*\n"

NAMES = ("nas", "pi", "desk", "router", "media", "cellar")


def add_machines(lab: Lab) -> dict[str, LabHost]:
    """Boot the machines and wait until they are up.

    `nas` runs systemd and a Docker that its user may not ask; `pi` is watched already; `desk` has no password login;
    `router` is OpenWrt with dropbear; `cellar` has no Python; `media` is left alone.
    """
    person = Account("mon", password=PASSWORD, sudo="ALL=(ALL) ALL")
    lab.add_host("nas", systemd=True, accounts=(person,), setup=_DOCKER)
    lab.add_host("pi", accounts=(person,), setup=_PLAIN)
    lab.add_host("desk", accounts=(person,), sshd="PasswordAuthentication no", setup=_PLAIN)
    lab.add_host("router", accounts=(Account("root", password=PASSWORD),), setup=_ROUTER)
    lab.add_host("media", accounts=(person,), setup=_PLAIN)
    lab.add_host("cellar", accounts=(person,), setup=_NO_PYTHON)
    for host in lab.hosts.values():
        host.wait()
    return lab.hosts


def install_python(host: LabHost) -> None:
    """Do what the package manager would do where there is a network."""
    host.run("sh", "-c", "mv /opt/python/* /usr/bin/")


def authorize(host: LabHost, text: str, user: str = "mon") -> None:
    """Add the key that a dialog shows to a machine, as a person does."""
    match = re.search(r"restrict ssh-ed25519 [A-Za-z0-9+/=]+", text)
    if match is None:
        raise AssertionError(f"no key in {text!r}")
    file = f"/home/{user}/.ssh/authorized_keys"
    host.run("sh", "-c", f"printf '%s\\n' '{match.group()} tour' >>{file}")


class Home:
    """A Home Assistant in the hub's network; a context manager that stops it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.config, self.log = folder / "config", folder / "home-assistant.log"
        self._hosts, self._resolv = folder / "hosts", folder / "resolv.conf"
        self._lab = lab
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        demo_config.write(self.config, PORT)
        names = "".join(f"{host.address} {host.name}.lan\n" for host in self._lab.hosts.values())
        self._hosts.write_text(f"127.0.0.1 localhost\n{names}")
        self._resolv.write_text("options timeout:1 attempts:1\n")
        bind = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'
        enter = [*self._lab.as_hub, "unshare", "--mount", "--propagation=private", "sh", "-c", bind, "sh"]
        launcher = Path(__file__).with_name("demo_ha.py")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, self._hosts, self._resolv, sys.executable, launcher, self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.wait()

    def complaints(self) -> list[str]:
        """Return what the integration logged as warning or error, but for the key that the tour itself changes."""
        lines = self.log.read_text(errors="replace").splitlines()
        wrong = re.compile(r" (WARNING|ERROR|CRITICAL) \(\w+\) \[(?!homeassistant\.loader).*homelab_monitor")
        changed = re.compile(r"pi is offline: \S+ host key changed:")
        return [line for line in lines if wrong.search(line) and not changed.search(line)]
