"""The rooms of the code: a file imports only from rooms below its own (docs/architecture.md)."""

import ast
from itertools import pairwise, takewhile
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("client.errors", "client.limits", "client.typed", "client.bucket", "client.time_limit"),
    ("client.models",),
    ("client.transport",),
    ("client.probe",),
    ("client.tracking",),
    ("client.checks",),
    ("client.control",),
    ("const", "markdown", "attributes"),
    ("settings", "state", "store", "sessions", "known_hosts", "batches", "offers"),
    ("health",),
    ("coordinator", "audience", "registration"),
    ("renewal",),
    ("entity", "subjects", "readings", "capability", "controls"),
    ("installation",),
    ("flow", "sensor"),
    (
        "binary_sensor",
        "button",
        "switch",
        "update",
        "event",
        "diagnostics",
        "config_flow",
        "repairs",
        "services",
        "api",
    ),
    ("__init__",),
)
"""From the ground up; a name stands for a file, or for a room with all that is in it."""
APART = ("flow", "sensor", *LAYERS[-2])
"""Rooms and files that know nothing of their neighbours in the same layer."""


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> tuple[int, str]:
    """Return the layer of a module, and the room or file that it is in."""
    for number, rooms in enumerate(LAYERS):
        for each in rooms:
            if name == each or name.startswith(f"{each}."):
                return number, each
    pytest.fail(f"{name} has no layer: give it one in LAYERS")


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
    mine, here = room(name)
    for other in imports(path):
        theirs, there = room(other)
        assert theirs < mine or here == there or (theirs == mine and here not in APART), f"{name} imports {other}"


def test_no_imports_go_in_a_circle() -> None:
    known = {module(path): imports(path) for path in FILES}
    seen: dict[str, bool] = {}

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way[way.index(name) :], name))}"
        if name not in seen:
            for other in sorted(known.get(name, ())):
                walk(other, (*way, name))
            seen[name] = True

    for name in known:
        walk(name, ())


@pytest.mark.parametrize("path", [p for p in FILES if module(p).startswith("client.")], ids=module)
def test_the_client_knows_no_home_assistant(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.partition(".")[0] == "homeassistant"]


def test_asyncssh_is_imported_in_one_place() -> None:
    importers = {module(p) for p in FILES if "import asyncssh" in p.read_text() or "from asyncssh" in p.read_text()}
    # The connection, the hook below it that counts what comes before asyncssh works on it, and the fingerprint.
    assert importers == {"client.transport.ssh", "client.transport.wire", "client.transport.keys"}


PAGE = ROOT.parents[1] / "docs" / "architecture.md"


def test_the_page_names_the_rooms_in_their_order() -> None:
    table = PAGE.read_text().partition("## The rooms")[2].partition("## ")[0]
    rows = [re.findall(r"`([a-z_/]+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")]
    named = [[name.replace("/", ".") for name in row] for row in rows]
    above = {name: number for number, row in enumerate(named) for name in row}
    assert above.keys() == {name for layer in LAYERS for name in layer}
    for lower, higher in pairwise(LAYERS):
        assert min(above[name] for name in lower) > max(above[name] for name in higher), (lower, higher)


def test_every_file_that_the_page_names_is_there() -> None:
    top = ROOT.parents[1]
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+(?:\.[a-z]+)?)/?`", PAGE.read_text()):
        places = [base / f"{name}{end}" for base in (ROOT, top) for end in ("", ".py")]
        assert any(place.exists() for place in places), name


@pytest.mark.parametrize(
    "room", ["client/transport", "client/probe", "client/tracking", "client/checks", "flow", "api"]
)
def test_the_page_says_what_each_file_of_a_room_knows(room: str) -> None:
    table = PAGE.read_text().partition("## The files of a room")[2].partition("## ")[0]
    rows = table.partition(f"| `{room}` |")[2].splitlines()
    named = {name for row in takewhile(lambda row: not row.startswith("| `"), rows) for name in _first_names(row)}
    assert named == {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}


def _first_names(row: str) -> list[str]:
    """Return the files that a row is about: those of its first column that is not empty."""
    columns = [column for column in row.split("|") if column.strip()]
    return re.findall(r"`([a-z_]+)`", columns[0]) if columns else []
