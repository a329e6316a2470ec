"""Report which machine this is, and end: the first program on a new connection, before anything else is sent.

Python 3.6 or newer, without most of its standard library; sent as the probe is, behind sections/machine_id.py.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sections.machine_id import machine_id_hash


def read_text(path: str) -> str:
    """Return a file's text without surrounding whitespace, "" if it cannot be read."""
    try:
        with open(os.environ.get("HOMELAB_MONITOR_ROOT", "") + path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip(" \t\r\n")
    except OSError:
        return ""


def introduce() -> None:
    """Print the marker of protocol 1."""
    version = ".".join(map(str, sys.version_info[:3]))
    words = ["homelab_monitor", "1", version, str(os.getpid()), machine_id_hash(read_text)]
    print(chr(30) + " ".join(word for word in words if word), flush=True)


introduce()
