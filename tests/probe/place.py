"""Where things are, and the probe as a module: for tests that run under Python 3.6, too."""

import importlib.util
import os

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROBE = os.path.join(ROOT, "custom_components", "homelab_monitor", "probes", "probe.py")
HOSTS = os.path.join(ROOT, "tests", "fixtures", "hosts")


def load_probe():
    """Return the probe as a module, without running it."""
    spec = importlib.util.spec_from_file_location("homelab_probe", PROBE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


probe = load_probe()


def read(*parts):
    """Return the text of a fixture file."""
    with open(os.path.join(HOSTS, *parts), encoding="utf-8") as file:
        return file.read()
