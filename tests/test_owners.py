"""Each part of what is remembered of a host is written by its owner alone."""

import ast
from collections.abc import Iterator
from dataclasses import fields

from custom_components.homelab_monitor.store import AudienceMemory, HostMemory, UpgradeMemory

from .test_layers import FILES, module

OWNERS: dict[str, set[str]] = {
    **{each.name: {"coordinator"} for each in fields(HostMemory)},
    **{each.name: {"audience"} for each in fields(AudienceMemory)},
    **{each.name: {"installation"} for each in fields(UpgradeMemory)},
    "chosen": {"entity"},
    **{name: set() for name in ("inventory", "seen", "audience", "upgrade")},
}
"""Who writes a field of what is remembered; some the store makes, and nobody puts another one in their place."""


def written() -> Iterator[tuple[str, str, str]]:
    """Yield module, object and name of each attribute that is assigned or deleted, in a tuple and in place as well."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                yield module(path), ast.unparse(node.value), node.attr


def test_each_part_of_what_is_remembered_is_written_by_its_owner_alone() -> None:
    kept = [each.name for part in (HostMemory, AudienceMemory, UpgradeMemory) for each in fields(part)]
    assert len(kept) == len(set(kept)), "a name says which part it is of"
    writers: dict[str, set[str]] = {name: set() for name in kept}
    for name, of, attribute in written():
        # What an object writes of its own is no part of the memory, whatever it is called.
        if attribute in writers and of != "self" and not name.startswith("client."):
            writers[attribute].add(name)
    assert writers == OWNERS


def test_only_the_store_says_what_is_remembered() -> None:
    assert {name for name, _, attribute in written() if attribute == "memory"} == {"store"}
