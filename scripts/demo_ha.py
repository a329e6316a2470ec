"""Run the demo's Home Assistant: the real one, less the default integrations that the demo must not load.

`demo_ha.py CONFIG_FOLDER`; scripts/demo starts it as a child. What is left out either asks the internet (marketplace)
or needs what a fresh machine lacks (voice and cameras: a C compiler, ffmpeg); none has to do with a homelab.
"""

import ctypes
import signal
import sys
from types import ModuleType

LEFT_OUT = {
    "ai_task",
    "assist_satellite",
    "camera",
    "conversation",
    "image_processing",
    "infrared",
    "marketplace",  # reads its catalog from the internet at every start
    "radio_frequency",
    "stt",
    "tts",
    "wake_word",
}
COMPILED = {"pymicro_vad": "MicroVad", "pyspeex_noise": "AudioProcessor"}
"""Modules without a binary wheel → the name that Home Assistant imports from them.

They clean up sound for voice assistants. Home Assistant imports them even where no voice is set up, as soon as the
browser asks which actions there are.
"""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends when the parent ends."""


def end_with_parent() -> None:
    """Ask the kernel (Linux only) to stop this process when scripts/demo is gone, even when it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stand_in(name: str, imported: str) -> None:
    """Put an empty module where a compiled one would be."""
    module = ModuleType(name)
    setattr(module, imported, None)
    sys.modules[name] = module


def main() -> int:
    """Run Home Assistant until it is stopped; return its exit status."""
    end_with_parent()
    for name, imported in COMPILED.items():
        stand_in(name, imported)
    from homeassistant import __main__ as home_assistant, bootstrap  # noqa: PLC0415 - after the stand-ins

    bootstrap.DEFAULT_INTEGRATIONS.difference_update(LEFT_OUT)
    sys.argv = ["hass", "--config", sys.argv[1]]
    return home_assistant.main()


if __name__ == "__main__":
    sys.exit(main())
