"""The configuration folder of the demo's Home Assistant: nothing in it looks for the internet.

What is written here is written at every start; what Home Assistant keeps there itself (users, history, hosts) stays.
"""

import json
from pathlib import Path
import shutil

REPOSITORY = Path(__file__).resolve().parent.parent
INTEGRATION = REPOSITORY / "custom_components/homelab_monitor"
BLUEPRINTS = REPOSITORY / "blueprints/automation/homelab_monitor"
MADE_IN_BROWSER = ("automations.yaml", "scenes.yaml", "scripts.yaml")
"""Files that Home Assistant's own editors write; they have to be there from the beginning."""
# The integrations are named one by one: default_config also brings discovery, the cloud and others that reach out.
CONFIGURATION = """\
# Written by scripts/demo at every start.
homeassistant:
  name: Homelab demo
  time_zone: {time_zone}
  country: DE
  currency: EUR
  unit_system: metric
  latitude: 0
  longitude: 0
  elevation: 0
api:
automation: !include automations.yaml
config:
diagnostics:
history:
logbook:
recorder:
repairs:
scene: !include scenes.yaml
script: !include scripts.yaml
system_health:
websocket_api:
logger:
  default: warning
  logs:
    custom_components.homelab_monitor: info
    homeassistant.components.camera.img_util: critical  # complains that a library for cameras is not installed
    homeassistant.loader: error  # warns of every custom integration
"""


def write(folder: Path, port: int) -> None:
    """Make or refresh the folder; Home Assistant must not be running."""
    (folder / ".storage").mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").write_text(CONFIGURATION.format(time_zone=time_zone()))
    for name in MADE_IN_BROWSER:
        (folder / name).touch()
    link_integration(folder / "custom_components")
    # Copies: the browser offers to delete a blueprint, and this checkout keeps its own.
    shutil.copytree(BLUEPRINTS, folder / "blueprints/automation" / BLUEPRINTS.name, dirs_exist_ok=True)
    store(folder, "http", http_settings(port), version=3)
    if not (folder / ".storage/onboarding").exists():
        # Only the step that makes the user is left: "core_config" would set up integrations that ask the internet.
        store(folder, "onboarding", {"done": ["core_config", "analytics", "integration"]}, version=4)


def link_integration(folder: Path) -> None:
    """Link the integration of this checkout, so that what is edited runs at the next start."""
    folder.mkdir(exist_ok=True)
    link = folder / INTEGRATION.name
    if link.is_symlink():
        link.unlink()
    link.symlink_to(INTEGRATION)


def http_settings(port: int) -> dict[str, object]:
    """Return the settings of the web server as *stable* ones.

    `http:` in configuration.yaml would only be tried for five minutes, then Home Assistant goes back to 0.0.0.0:8123.
    """
    stable = {
        "server_host": ["127.0.0.1"],
        "server_port": port,
        "cors_allowed_origins": [],
        "login_attempts_threshold": -1,
        "ip_ban_enabled": True,
        "ssl_profile": "intermediate_v6",
        "use_x_frame_options": True,
        "created_at": "2026-11-01T00:00:00+00:00",
        "error": None,
        "error_message": None,
    }
    return {"stable": stable, "pending": None, "yaml_migration_done": True}


def store(folder: Path, key: str, content: dict[str, object], *, version: int) -> None:
    """Write one file of Home Assistant's storage."""
    wrapped = {"version": version, "minor_version": 1, "key": key, "data": content}
    (folder / ".storage" / key).write_text(json.dumps(wrapped))


def time_zone() -> str:
    """Return this machine's time zone, UTC where it does not tell."""
    parts = Path("/etc/localtime").resolve().parts
    return "/".join(parts[parts.index("zoneinfo") + 1 :]) if "zoneinfo" in parts else "UTC"
