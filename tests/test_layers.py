"""The rooms of the house: a file imports only from below it (docs: DESIGN of the layers)."""

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"

LAYERS: tuple[set[str], ...] = (
    {"client.errors", "client.limits"},
    {"client.models.*"},
    {"client.*"},
    {"const", "markdown", "attributes"},
    {"alarms", "batches", "offers"},
    {"settings", "state", "store", "sessions", "checklist"},
    {"audience", "issues", "coordinator", "judgement", "registration", "discovery", "contact"},
    {"renewal"},
    {"entity", "subjects", "capability", "controls", "moves"},
    {"quantities", "upgrade"},
    {"host_sensors", "item_sensors"},
    {"sensor", "binary_sensor", "button", "switch", "update", "event", "diagnostics", "system_health"}
    | {
        "config_flow",
        "options_flow",
        "onboarding",
        "repairs",
        "services",
        "websocket_api",
        "http",
        "dashboard",
    },
    {"__init__"},
)
"""From the ground up; within a layer, platforms never import each other, the others may."""

LOOSE = {
    "client.*",
    "entity",
    "subjects",
    "settings",
    "store",
    "sessions",
    "issues",
    "coordinator",
    "judgement",
    "config_flow",
    "onboarding",
}
"""Files that may import files of their own layer."""


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(name: str) -> int:
    fitting = {
        pattern: number
        for number, patterns in enumerate(LAYERS)
        for pattern in patterns
        if fnmatchcase(name, pattern) or f"{name}.*" == pattern
    }
    assert fitting, f"{name} has no layer: give it one in LAYERS"
    return fitting[max(fitting, key=len)]


def imports(path: Path) -> set[str]:
    """Return the modules of this integration that a file imports."""
    here = module(path).split(".")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + (path.name == "__init__.py" and path.parent != ROOT)]
            parts = base + (node.module.split(".") if node.module else [])
            for name in node.names:
                whole = ".".join([*parts, name.name])
                found.add(whole if (ROOT / whole.replace(".", "/")).with_suffix(".py").exists() else ".".join(parts))
    return found - {"", "client"}


FILES = [p for p in sorted(ROOT.rglob("*.py")) if "probes" not in p.parts and module(p) != "client"]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_only_from_the_layers_below(path: Path) -> None:
    name = module(path)
    mine = layer(name)
    for other in imports(path):
        is_loose = name in LOOSE or name.startswith("client.")
        assert layer(other) < mine or (layer(other) == mine and is_loose), f"{name} imports {other}"


@pytest.mark.parametrize("path", [p for p in FILES if module(p).startswith("client.")], ids=module)
def test_the_client_knows_no_home_assistant(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.partition(".")[0] == "homeassistant"]


def test_asyncssh_is_imported_in_one_place() -> None:
    importers = {module(p) for p in FILES if "import asyncssh" in p.read_text() or "from asyncssh" in p.read_text()}
    # The connection, and the hook below it that counts what comes before asyncssh works on it.
    assert importers == {"client.ssh", "client.wire"}
