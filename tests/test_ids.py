"""No id is taken apart to learn something: what it is about is looked up."""

import ast
from collections.abc import Iterator
from pathlib import Path
import re

import pytest

from custom_components.homelab_monitor.sensor.items import SERVICE_SENSORS
from custom_components.homelab_monitor.subjects import SERVICE

from .test_contract import TABLES
from .test_layers import FILES, module

ID = re.compile(r"\b(?:unique|entity|item|issue|device|host|entry)_id\b|\bidentifiers?\b")
PARTS = re.compile(
    r"r?(?:split|partition|find|index)|(?:remove|starts|ends)(?:prefix|suffix|with)|match|fullmatch|search"
)
"""What looks into a text."""
MADE_OF = {
    ("client.tracking.inventory", "item_id"): "whether two ids could be joined with a row's key to the same one",
    ("client.tracking.labels", "item_id"): "an input's id as the host reports it, of which the contract says the parts",
}
"""The ids that are looked into all the same: where, and what is learned."""


def looked_into(tree: ast.AST) -> Iterator[str]:
    """Yield what is taken apart or compared in part, as its source says it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and PARTS.fullmatch(node.func.attr):
            yield from map(ast.unparse, (node.func.value, *node.args))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            yield ast.unparse(node.value)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_id_is_taken_apart(path: Path) -> None:
    texts = looked_into(ast.parse(path.read_text()))
    found = {match[0] for text in texts for match in ID.finditer(text)}
    assert found == {known for where, known in MADE_OF if where == module(path)}


def test_the_actions_know_every_entity_of_a_service() -> None:
    about = [row for table in TABLES.values() for row in table if row.subject is SERVICE]
    assert about == list(SERVICE_SENSORS), "services looks for the unit among the entities of these rows"
