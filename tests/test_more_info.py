"""Every kind of entity in Home Assistant's own frontend: scripts/more_info, which drives a real browser."""

import contextlib
import ctypes
from pathlib import Path
import shutil
import subprocess
import sys

import psutil
import pytest

from .needs import needs

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts/more_info"
SECONDS = 600
"""Far more than it takes on a machine that does nothing else."""
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): what a child leaves behind becomes ours, so that it is seen."""


@contextlib.contextmanager
def nothing_left_behind():
    """Fail when what was started here has left a process; end it."""
    libc, ours = ctypes.CDLL(None), psutil.Process()
    before = {child.pid for child in ours.children(recursive=True)}
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        left = [child for child in ours.children(recursive=True) if child.pid not in before]
        alive = [" ".join(child.cmdline()) for child in left if child.status() != psutil.STATUS_ZOMBIE]
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, timeout=10)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
    assert alive == []


@pytest.mark.timeout(SECONDS + 60)
def test_every_kind_of_entity_can_be_opened_in_a_browser() -> None:
    needs(sys.platform == "linux" and shutil.which("chromium"), "chromium")
    with nothing_left_behind():
        run = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
