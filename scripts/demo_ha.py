"""Run the demo's Home Assistant: the real one, less the default integrations that the demo must not load.

`demo_ha.py CONFIG_FOLDER`; scripts/demo starts it as a child. Each integration left out either asks the internet (the
marketplace) or needs packages without a binary wheel (voice and cameras); none has to do with a homelab.
"""

import ctypes
import signal
import sys

from homeassistant import bootstrap
from homeassistant.__main__ import main

LEFT_OUT = {
    "ai_task",
    "assist_satellite",  # through assist_pipeline: pymicro-vad and pyspeex-noise want a C compiler
    "camera",  # libturbojpeg
    "conversation",
    "image_processing",
    "infrared",
    "marketplace",  # reads its catalog from the internet at every start
    "radio_frequency",
    "stt",
    "tts",
    "wake_word",
}
PR_SET_PDEATHSIG = 1  # prctl(2): the signal that the kernel sends when the parent ends


def end_with_parent() -> None:
    """Ask the kernel (Linux only) to stop this process when scripts/demo is gone, even when it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    bootstrap.DEFAULT_INTEGRATIONS.difference_update(LEFT_OUT)
    sys.argv = ["hass", "--config", sys.argv[1]]
    sys.exit(main())
