"""Where things are, and the probe as a module: for tests that run under Python 3.6, too."""

import glob
import os
import types

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROBES = os.path.join(ROOT, "custom_components", "homelab_monitor", "probes")
HOSTS = os.path.join(ROOT, "tests", "fixtures", "hosts")


def probe_source():
    """Return the probe as it is sent."""
    parts = []
    for path in [*sorted(glob.glob(os.path.join(PROBES, "sections", "*.py"))), os.path.join(PROBES, "probe.py")]:
        with open(path, "rb") as file:
            parts.append(file.read())
    return b"".join(parts)


def load_probe():
    """Return the probe as a module, without running it."""
    module = types.ModuleType("homelab_probe")
    exec(compile(SOURCE, "homelab_probe.py", "exec"), module.__dict__)
    return module


SOURCE = probe_source()
probe = load_probe()


def read(*parts):
    """Return the text of a fixture file."""
    with open(os.path.join(HOSTS, *parts), encoding="utf-8") as file:
        return file.read()
