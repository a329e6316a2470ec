"""Make the virtual environment of a dependency group of pyproject.toml and print the path of its Python.

`environments.py GROUP` (scripts/venv calls it). Environments live in ~/.cache/homelab_monitor/venvs, one per group,
content of the group and Python, so that a changed pin makes a new one and a second run finds it. A lock keeps two
runs from making the same one; one that was left half-made has no `ready` file and is made again.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time
import tomllib

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parent / "pyproject.toml"
VENVS = Path.home() / ".cache/homelab_monitor/venvs"
UNUSED_SECONDS = 30 * 86400


def requirements(group: str) -> list[str]:
    """Return the requirements of a dependency group, with those of the groups that it includes (PEP 735)."""
    groups: dict[str, list[str | dict[str, str]]] = tomllib.loads(PYPROJECT.read_text())["dependency-groups"]
    if group not in groups:
        sys.exit(f"scripts/venv: no group {group!r} in pyproject.toml; there are: {', '.join(groups)}")
    found = [requirements(row["include-group"]) if isinstance(row, dict) else [row] for row in groups[group]]
    return [requirement for each in found for requirement in each]


def folder_of(group: str) -> Path:
    """Return the folder of the group's environment; its name changes with the pins and with the Python."""
    content = json.dumps([requirements(group), sys.executable, sys.version])
    return VENVS / f"{group}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def install(group: str, folder: Path) -> None:
    """Make the environment anew and install the group's packages, with uv."""
    print(f"scripts/venv: installing the packages of group {group!r} (once)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    uv = subprocess.run([HERE / "uv", sys.executable], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    subprocess.run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python_of(folder), *requirements(group)], check=True)


def python_of(folder: Path) -> Path:
    """Return the path of an environment's Python."""
    return folder / "bin/python"


def remove_unused(group: str, keep: Path) -> None:
    """Remove the group's environments that no run has used for a month."""
    for folder in VENVS.glob(f"{group}-*/"):
        ready = folder / "ready"
        if folder != keep and ready.exists() and time.time() - ready.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def environment(group: str) -> Path:
    """Return the Python of the group's environment, which is made if it isn't there."""
    folder = folder_of(group)
    ready = folder / "ready"
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ready.exists() and os.access(python_of(folder), os.X_OK)):
            install(group, folder)
            remove_unused(group, keep=folder)
        ready.touch()
    return python_of(folder)


def main() -> None:
    """Print the path of the Python of the group that is named on the command line."""
    arguments = sys.argv[1:]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        sys.exit(0 if arguments in (["-h"], ["--help"]) else 2)
    try:
        print(environment(arguments[0]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"scripts/venv: {error.cmd[0]} failed ({error.returncode}); its own words are above")


if __name__ == "__main__":
    main()
