"""Which checks have passed with the very same files on this machine: what need not run again.

Kept in ~/.cache/homelab_monitor/passed, an empty file per pass: the check and a digest of all that it reads.
"""

from collections.abc import Iterable
import hashlib
import os
from pathlib import Path
import subprocess
import sys

FOLDER = Path.home() / ".cache/homelab_monitor/passed"
KEPT = 50
"""Passes that are remembered."""
INPUTS = {
    "probe": ("custom_components/homelab_monitor/probes", "tests/probe", "tests/fixtures", "scripts", "docs", "*.md"),
    "pytest": (".",),
    "minimum": (".",),
}
"""Check → what it reads, as git names it; a check that is not here takes seconds, and always runs."""


class Passed:
    """Remembers the passes of one checkout; `machine` is what else decides, such as the programs that are installed."""

    def __init__(self, checkout: Path, machine: Iterable[str], folder: Path = FOLDER) -> None:
        """Look at nothing yet."""
        self._looked: dict[str, Path] = {}
        self._checkout = checkout
        self._machine = [sys.version, *machine]
        self._folder = folder

    def look(self, check: str) -> bool:
        """Return whether a check has passed with the files as they are now; `add` is about these, whatever follows."""
        if check not in INPUTS:
            return False
        self._looked[check] = self._pass(check)
        return self._looked[check].exists()

    def add(self, check: str) -> None:
        """Remember that a check has passed with the files that were there at the last look."""
        if check not in self._looked:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._looked[check].touch()
        for oldest in sorted(self._folder.iterdir(), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            oldest.unlink(missing_ok=True)

    def _pass(self, check: str) -> Path:
        """Return the file that stands for a pass."""
        digest = hashlib.sha256("\n".join(self._machine).encode())
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *INPUTS[check]],
            cwd=self._checkout,
            capture_output=True,
            check=True,
        )
        for name in sorted(set(listed.stdout.split(b"\0")) - {b""}):
            path = self._checkout / os.fsdecode(name)
            content = path.read_bytes() if path.is_file() else b"none"
            digest.update(b"%s\0%s\n" % (name, hashlib.sha256(content).digest()))
        return self._folder / f"{check}-{digest.hexdigest()}"
