"""What a run of the tests leaves behind: processes that outlive it, and files outside of its own folders.

Linux lets a process take in the orphans among its descendants (prctl(2), PR_SET_CHILD_SUBREAPER): whatever a test has
started, also a daemon that has cut itself loose, becomes a child of the watching process when its own parents have
ended. That process does nothing but reap, as init does: a zombie would look like a process that goes on.
"""

from collections.abc import Callable
import ctypes
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 10.0
_FOLDERS = tuple(Path(name) for name in ("/tmp", "/run", "/etc/sudoers.d", "/usr/local/sbin"))  # noqa: S108
_OURS = "homelab"
"""Other programs make files there, too; ours have this in their names."""


def watch(run: Callable[[], bool], checkout: Path) -> tuple[bool, list[str]]:
    """Run something in a process below this one; return whether it told True, and a line for each thing it has left.

    Processes that are left are ended; those that are about to end have ten seconds for it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = _files(checkout)
    sys.stdout.flush()
    sys.stderr.flush()
    if (runner := os.fork()) == 0:
        sys.exit(0 if run() else 1)
    passed = _wait_for(runner)
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := descendants()) and time.monotonic() < deadline:
        time.sleep(0.2)
    lines = [f"process {pid}: {words}" for pid, words in left.items()]
    for pid in left:
        _end(pid)
    return passed, lines + [f"file {name}" for name in sorted(_files(checkout) - before)]


def _wait_for(runner: int) -> bool:
    """Reap whatever ends until a child has ended; return whether that ended well, also when the user interrupts."""
    while True:
        try:
            pid, status = os.wait()
        except KeyboardInterrupt:  # the child has got it, too
            continue
        if pid == runner:
            return os.waitstatus_to_exitcode(status) == 0


def _files(checkout: Path) -> set[str]:
    """Return our files outside of the folders of a run, and those in the checkout that git does not know."""
    folders = {*_FOLDERS, Path(tempfile.gettempdir())}
    found = {str(path) for folder in folders if folder.is_dir() for path in folder.glob(f"*{_OURS}*")}
    status = ["git", "-C", checkout, "status", "--porcelain"]
    listed = subprocess.run(status, capture_output=True, text=True, check=False).stdout
    return found | set(listed.splitlines())


def descendants() -> dict[int, str]:
    """Return the command line of every living process below this one; what has ended is reaped."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                break
        except ChildProcessError:
            break
    parents = dict(filter(None, map(_parent, Path("/proc").glob("[0-9]*"))))
    found: dict[int, str] = {}
    level = {os.getpid()}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        found |= {pid: _words(pid) for pid in level}
    return found


def _parent(process: Path) -> tuple[int, int] | None:
    """Return the pid of a process and that of its parent, None for one that has ended (proc_pid_stat(5))."""
    try:
        state, parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[:2]
    except OSError, ValueError:
        return None
    return None if state == b"Z" else (int(process.name), int(parent))


def _words(pid: int) -> str:
    """Return the command line of a process, "" when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return ""


def _end(pid: int) -> None:
    """End a process that a test has left."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError, PermissionError:
        return
