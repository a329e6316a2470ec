"""The probe programs, read once, and the command that starts one on a host.

The command never changes, so that audit rules and forced commands can name it. It reads a
line with a length, then that many bytes of zlib-compressed source, and runs them from memory;
its standard input stays open for requests. Tried under sh, bash, dash, zsh, fish, tcsh, ksh and
busybox ash: nothing in it means anything to one of those shells inside double quotes.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
import zlib

BOOTSTRAP = (
    '{interpreter} -I -u -c "import sys,zlib;r=sys.stdin.buffer;'
    "exec(compile(zlib.decompress(r.read(int(r.readline()))),'probe.py','exec'))\""
)
INTERPRETERS = (
    "python3",
    "/usr/libexec/platform-python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/bin/python3",
)
"""Tried in this order: PATH, RHEL's own, and where PATH of a bare login may not lead (BSD, Entware)."""


@dataclass(frozen=True, slots=True)
class Program:
    """One probe program; `payload` is what the bootstrap command reads."""

    name: str
    source: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    digest: str


@dataclass(frozen=True, slots=True)
class Programs:
    """The probe program of every platform."""

    linux: Program


def load_programs(folder: Path | None = None) -> Programs:
    """Read the programs; blocking, so run it in an executor."""
    folder = folder or Path(__file__).parents[1] / "probes"
    return Programs(linux=make_program("probe.py", probe_source(folder)))


def probe_source(folder: Path) -> bytes:
    """Return the probe for Linux: its sections, then what starts it (`cat sections/*.py probe.py`)."""
    return b"".join(path.read_bytes() for path in [*sorted(folder.glob("sections/*.py")), folder / "probe.py"])


def make_program(name: str, source: bytes) -> Program:
    """Return the program ready to be sent."""
    packed = zlib.compress(source, 9)
    return Program(name, source, b"%d\n%b" % (len(packed), packed), sha256(source).hexdigest())
