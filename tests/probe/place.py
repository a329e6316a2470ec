"""Where things are, and the probe as a module: for tests that run under Python 3.6, too."""

import glob
import os
import time
import types
import unittest
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROBES = os.path.join(ROOT, "custom_components", "homelab_monitor", "probes")
HOSTS = os.path.join(ROOT, "tests", "fixtures", "hosts")

costly = unittest.skipIf(os.environ.get("PROBE_TESTS") == "quick", "takes seconds, and the Python hardly matters")
"""Marks a test that scripts/test runs under the oldest and the newest Python only."""


def probe_files():
    """Return the files of the probe by name, in the order in which they are sent."""
    sections = sorted(glob.glob(os.path.join(PROBES, "sections", "*.py")))
    paths = [os.path.join(PROBES, "host.py"), *sections, os.path.join(PROBES, "probe.py")]
    files = {}
    for path in paths:
        with open(path, "rb") as file:
            files[os.path.relpath(path, PROBES)] = file.read()
    return files


def in_pieces(files):
    """Return what is sent: a loader for the bootstrap command, then the files that it reads and runs one by one."""
    loader, start = "_files = zlib.decompress(r.read(int(r.readline())))\n", 0
    for name, source in files.items():
        loader += f"exec(compile(_files[{start}:{start + len(source)}], {name!r}, 'exec'))\n"
        start += len(source)
    return piece(loader.encode("ascii")) + piece(b"".join(files.values()))


def piece(source):
    """Return one text as the bootstrap command reads it."""
    packed = zlib.compress(source)
    return b"%d\n%s" % (len(packed), packed)


def load_probe():
    """Return the probe as a module, without running it."""
    module = types.ModuleType("homelab_probe")
    exec(compile(SOURCE, "homelab_probe.py", "exec"), module.__dict__)
    return module


FILES = probe_files()
SOURCE = b"".join(FILES.values())
probe = load_probe()


def read(*parts):
    """Return the text of a fixture file."""
    with open(os.path.join(HOSTS, *parts), encoding="utf-8") as file:
        return file.read()


def has_ended(hanging, seconds=30):
    """Return whether the thread of a round has ended within so many seconds."""
    until = time.monotonic() + seconds
    while hanging.is_running and time.monotonic() < until:
        time.sleep(0.01)
    return not hanging.is_running
