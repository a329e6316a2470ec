"""The probe programs, read once, and the command that starts one on a host.

The command never changes, so that audit rules and forced commands can name it. It sends a hello,
reads a line with a length, then that many bytes of zlib-compressed source, and runs them from
memory; its standard input stays open for requests. Nothing is sent before the hello: a login
shell that starts another shell instead of the command would read the program as commands.
Tried under sh, bash, dash, zsh, fish, tcsh, csh, ksh, mksh and busybox ash: nothing in it
has a meaning to one of those shells inside double quotes, and a shell that echoes the command
line does not send a hello by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
import zlib

BOOTSTRAP = (
    '{interpreter} -I -u -c "import sys,zlib;r=sys.stdin.buffer;'
    "print(chr(30)+'homelab_monitor program',flush=True);"
    "exec(compile(zlib.decompress(r.read(int(r.readline()))),'probe.py','exec'))\""
)
"""Flushed, as Python 3.6 buffers its output to a pipe despite `-u`."""
FORCED_COMMAND = 'command="{}"'.format(BOOTSTRAP.format(interpreter="python3").replace('"', '\\"'))
"""The option of authorized_keys that binds a key to the probe (sshd(8): only quotes are escaped)."""
INTERPRETERS = (
    "python3",
    "/usr/libexec/platform-python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/bin/python3",
)
"""Tried in this order: PATH, RHEL's own, and folders that PATH of a bare login may lack (BSD, Entware)."""


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
    who: Program
    """Reports the machine that it runs on, and ends."""


def load_programs(folder: Path | None = None) -> Programs:
    """Read the programs; blocking, so run it in an executor."""
    folder = folder or Path(__file__).parents[2] / "probes"
    files = probe_files(folder)
    source = b"".join(files.values())
    linux = Program("probe.py", source, _piecewise(files), sha256(source).hexdigest())
    who = b"".join((folder / name).read_bytes() for name in ("sections/machine_id.py", "who.py"))
    return Programs(linux=linux, who=make_program("who.py", who))


def probe_files(folder: Path) -> dict[str, bytes]:
    """Return the files of the probe for Linux by name, as they are sent: `cat host.py sections/*.py probe.py`."""
    paths = [folder / "host.py", *sorted(folder.glob("sections/*.py")), folder / "probe.py"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def probe_source(folder: Path) -> bytes:
    """Return the probe for Linux as one text."""
    return b"".join(probe_files(folder).values())


def make_program(name: str, source: bytes) -> Program:
    """Return a program of one file, ready to be sent."""
    return Program(name, source, _piece(source), sha256(source).hexdigest())


_LOADER = """_files = zlib.decompress(r.read(int(r.readline())))
for _name, _start, _end in {places}:
    exec(compile(_files[_start:_end], _name, "exec"))
"""
"""Compiling takes a hundred times a file's size: one after another, files need much less memory than all at once."""


def _piecewise(files: Mapping[str, bytes]) -> bytes:
    """Return a program of several files: the bootstrap command reads a loader, which reads the files."""
    ends = list(accumulate(map(len, files.values())))
    places = list(zip(files, [0, *ends], ends, strict=False))
    return _piece(_LOADER.format(places=places).encode()) + _piece(b"".join(files.values()))


def _piece(source: bytes) -> bytes:
    """Return one text as the bootstrap command reads it."""
    packed = zlib.compress(source, 9)
    return b"%d\n%b" % (len(packed), packed)
