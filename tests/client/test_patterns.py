"""Every pattern of the client, applied to the worst that a host may say: each takes time in proportion to the text."""

import ast
from collections.abc import Iterator
import importlib
import inspect
from itertools import product
from pathlib import Path
import pkgutil
import re
import time
from types import ModuleType

import pytest

from custom_components.homelab_monitor import client
from custom_components.homelab_monitor.client.probe import process
from custom_components.homelab_monitor.client.probe.programs import INTERPRETERS

TEXT_BYTES = 64 << 10
"""As much as is kept of an output of a command."""
SECONDS = 0.5
METHODS = ("search", "match", "fullmatch", "finditer", "findall", "split", "sub")

_REPEATED = (
    *("1", "a", "A", " ", "\t", "\n", "\\", ",", ":", "/", "-", "_", ".", "=", "(", "[", "<", '"', "'", "%", "!", "é"),
    *(
        "a:",
        "a: ",
        "a/",
        "a, ",
        "a=",
        "a b. ",
        "://",
        "://a",
        "[1",
        "a[1",
        '"a ',
        "\\ ",
        " \n",
        "1.",
        "A_",
        "0a:",
        "()",
    ),
)
_BEGINNINGS = (
    *(
        "sudo: ",
        "sudo: user ",
        "doas: ",
        "sorry, user ",
        "E:",
        "Problem: ",
        "* a",
        "Error: No module named '",
        "maximum ",
    ),
    *(
        '<message type="error">',
        "ssh ",
        "ssh://",
        "-p",
        " (root) ",
        " (",
        "upgrade ended ",
        "SSH-",
        "sd",
        "nvme",
        '"',
        "\n",
    ),
)
_AFTER_A_BEGINNING = ("1", "a", " ", "a ", "not foun ", "may ", "/", "\\")


def _texts() -> Iterator[str]:
    """Return one character or word again and again, also behind what a pattern may begin with, and with another end."""
    for piece in _REPEATED:
        yield piece * (TEXT_BYTES // len(piece.encode()))
    for beginning, piece in product(_BEGINNINGS, _AFTER_A_BEGINNING):
        yield beginning + piece * (TEXT_BYTES // len(piece)) + "\0"
    for beginning in _BEGINNINGS:
        yield beginning * (TEXT_BYTES // len(beginning))


TEXTS = tuple(_texts())


def _modules() -> list[ModuleType]:
    """Return every module of the client."""
    return [
        importlib.import_module(name) for _, name, _ in pkgutil.walk_packages(client.__path__, f"{client.__name__}.")
    ]


def _compiled(module: ModuleType, tree: ast.AST) -> Iterator[tuple[str, re.Pattern, str]]:
    """Return the patterns that a module has made, with each method that it calls of them, else search."""
    calls = {
        (node.func.value.id, node.func.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    }
    for name, pattern in vars(module).items():
        if isinstance(pattern, re.Pattern):
            for method in [each for each in METHODS if (name, each) in calls] or ["search"]:
                yield name, pattern, method


def _written_out(tree: ast.AST) -> Iterator[tuple[str, re.Pattern, str]]:
    """Return the patterns that stand where they are applied: `re.search(r"…", text)`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        function, words = node.func, node.args[0] if node.args else None
        is_of_re = isinstance(function.value, ast.Name) and function.value.id == "re" and function.attr in METHODS
        if is_of_re and isinstance(words, ast.Constant):
            flags = re.MULTILINE if "MULTILINE" in ast.unparse(node) else 0
            yield f"line {node.lineno}", re.compile(words.value, flags), function.attr


def _patterns() -> dict[str, tuple[re.Pattern, str]]:
    """Return each way in which each pattern is applied, by name."""
    found = {"process._finds().search": (process._finds(INTERPRETERS), "search")}
    for module in _modules():
        tree = ast.parse(Path(inspect.getsourcefile(module) or "").read_text())
        for name, pattern, method in (*_compiled(module, tree), *_written_out(tree)):
            found[f"{module.__name__.rpartition('.')[2]}.{name}.{method}"] = pattern, method
    return found


PATTERNS = _patterns()


def _apply(pattern: re.Pattern, method: str, text: str) -> None:
    """Do it, to the end."""
    subject = text.encode() if isinstance(pattern.pattern, bytes) else text
    if method == "sub":
        pattern.sub(subject[:0], subject)
    elif method == "finditer":
        list(pattern.finditer(subject))
    else:
        getattr(pattern, method)(subject)


def test_they_are_found() -> None:
    assert {"remedies._WRONG.search", "errors.REASON.search", "errors._USERINFO.sub", "sudo_listing._COMMA.split"} <= {
        *PATTERNS
    }
    assert [name for name in PATTERNS if name.startswith("install_updates.line")]


@pytest.mark.parametrize("name", PATTERNS)
def test_no_text_of_a_host_takes_a_pattern_long(name: str) -> None:
    pattern, method = PATTERNS[name]
    for text in TEXTS:
        began = time.thread_time()
        _apply(pattern, method, text)
        spent = time.thread_time() - began
        assert spent < SECONDS, f"{spent:.1f} s for {text[:40]!r} and so on"
