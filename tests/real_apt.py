"""A real apt and dpkg on a machine of `tests.machine`, with a database, a repository and packages of their own.

The packages hold no files, only the scripts of their maintainers: what they do is what a test wants to go wrong.
"""

import hashlib
from pathlib import Path
import shutil
import subprocess

from .machine import Machine
from .needs import needs

_PRIVATE = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/var/log/apt")
_FOLDERS = (
    "var/lib/dpkg/info",
    "var/lib/dpkg/updates",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives/partial",
    "var/log/apt",
    "repository",
)


class RealApt:
    """The package manager of one machine."""

    def __init__(self, machine: Machine) -> None:
        needs(all(map(shutil.which, ("apt-get", "dpkg", "dpkg-deb"))), "apt")
        self.machine = machine
        self.folder = machine.folder / "apt"
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True)
        (self.folder / "var/lib/dpkg/status").touch()
        for path in _PRIVATE:
            machine.run("mount", "--bind", str(self.folder) + path, path)
        shutil.rmtree(machine.etc / "apt", ignore_errors=True)
        for name in ("apt.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d"):
            (machine.etc / "apt" / name).mkdir(parents=True)
        repository = self.folder / "repository"
        (machine.etc / "apt/sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
        (machine.etc / "apt/apt.conf").write_text('APT::Sandbox::User ""; Acquire::Languages "none";\n')

    def publish(self, name: str, version: str, postinst: str = "", **fields: str) -> Path:
        """Put a package into the repository; `postinst` is shell, `fields` more of deb-control(5)."""
        place = self.folder / f"{name}-{version}"
        (place / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "x", "Description": "x"}
        text = "".join(f"{key}: {value}\n" for key, value in (control | fields).items())
        (place / "DEBIAN/control").write_text(text)
        script = place / "DEBIAN/postinst"
        script.write_text(f"#!/bin/sh\n{postinst or 'exit 0'}\n")
        script.chmod(0o755)
        package = self.folder / "repository" / f"{name}_{version}.deb"
        subprocess.run(["dpkg-deb", "--build", str(place), str(package)], check=True, capture_output=True)
        content = package.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with (self.folder / "repository/Packages").open("a") as index:
            index.write(f"{text}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n\n")
        return package

    def install(self, *packages: Path, how: str = "--install") -> None:
        """Have dpkg install packages, or only unpack them."""
        self.machine.run("dpkg", "--force-depends", how, *map(str, packages))

    def states(self) -> dict[str, str]:
        """Return what dpkg says of each package: its version and its state."""
        told = self.machine.run("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n")
        return {name: rest for name, _, rest in (line.partition(" ") for line in told.splitlines())}
