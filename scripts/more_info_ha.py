"""Run Home Assistant for scripts/more_info: the demo's, which sets a host up anew at once when an entity is enabled."""

import sys

import demo_ha
from homeassistant import config_entries

RELOAD_SECONDS = 1
"""Home Assistant waits half a minute for more entities that a person may enable; here all are enabled at once."""


if __name__ == "__main__":
    config_entries.RELOAD_AFTER_UPDATE_DELAY = RELOAD_SECONDS
    sys.exit(demo_ha.main())
