"""Polls evaluate the checks again only when the outline of a snapshot changes: it has all that a check looks at."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import copy
from dataclasses import fields
import json
from pathlib import Path
from typing import Any

import pytest

from custom_components.homelab_monitor.client.checks import evaluation
from custom_components.homelab_monitor.client.checks.evaluation import Evidence, evaluate_poll
from custom_components.homelab_monitor.client.checks.report import CheckStatus
from custom_components.homelab_monitor.client.models import SECTIONS, Sections
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.transport.target import Target
from custom_components.homelab_monitor.health.monitor import _outline

from .recorded import recorded_hosts, recorded_reply

FIGURES = {"ages"}
"""What a check looks at for a figure that it shows, and not for its verdict."""


@contextmanager
def spying(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Note which parts of a snapshot are looked at."""
    looked: set[str] = set()
    parts = {field.name for field in fields(Snapshot)} - {"sections"}

    def spy(kind: type, names: set[str], prefix: str) -> Callable[[Any, str], Any]:
        def look(self: Any, name: str) -> Any:
            if name in names:
                looked.add(prefix + name)
            return object.__getattribute__(self, name)

        return look

    with monkeypatch.context() as patched:
        patched.setattr(Snapshot, "__getattribute__", spy(Snapshot, parts, ""), raising=False)
        patched.setattr(Sections, "__getattribute__", spy(Sections, set(SECTIONS), "section "), raising=False)
        yield looked


@pytest.mark.parametrize("name", [path.name for path in recorded_hosts()])
def test_a_poll_is_evaluated_when_anything_changes_that_a_check_looks_at(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = decode_reply("host", json.dumps(recorded_reply(name)).encode())
    snapshot = Snapshot().merged(reply, 1e9, 30.0)
    with spying(monkeypatch) as by_checks:
        rows = evaluate_poll(
            Evidence(target=Target("mon", "host", 22), snapshot=snapshot, installs_updates=True, sudo=("security",))
        )
    with spying(monkeypatch) as by_outline:
        _outline(snapshot)
    assert rows
    assert "section system" in by_checks
    assert by_checks - by_outline - FIGURES == set(), "add it to `_outline` in health/monitor.py"


WORDS = sorted(
    {
        node.value
        for node in ast.walk(ast.parse(Path(evaluation.__file__).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
)
"""All words that a check may compare a value with."""


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a container and the key or number in it of every single value."""
    for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(each, (dict, list)):
            yield from leaves(each)
        yield value, key


def others(value: Any) -> tuple[Any, ...]:
    """Return what a value may be instead."""
    if isinstance(value, bool):
        return (not value, None)
    if isinstance(value, str):
        return (*WORDS, "", "yes", "no", None)
    return (None, 0, 1, 10**6) if isinstance(value, (int, float)) else (None, type(value)())


def verdicts(snapshot: Snapshot) -> list[tuple[str, object, object]]:
    """Return what issues are made of: what the checks find, without the figures, and without why something is fine."""
    about = Evidence(target=Target("mon", "host", 22), snapshot=snapshot, installs_updates=True, sudo=("security",))
    rows = evaluate_poll(about)
    return [(row.check, row.status, row.reason) for row in rows if row.status is not CheckStatus.OK]


@pytest.mark.parametrize("name", ["debian-systemd", "nvidia-workstation"])
@pytest.mark.parametrize("section", ["security", "updates", "uptime", "gpu", "services", "containers", "memory"])
def test_whatever_changes_a_verdict_changes_the_outline(name: str, section: str) -> None:
    reply = recorded_reply(name)

    def read(document: dict[str, Any]) -> Snapshot:
        part = {**document, "sections": {section: document["sections"][section]}}
        return Snapshot().merged(decode_reply("host", json.dumps(part).encode()), document["epoch"], 30.0)

    if section not in reply["sections"]:
        pytest.skip(f"{name} has none")
    before, document = read(reply), copy.deepcopy(reply)
    found, outline, missed = verdicts(before), _outline(before), set()
    for place, key in leaves(document["sections"][section]):
        value = place[key]
        for other in others(value):
            place[key] = other
            after = read(document)
            if _outline(after) == outline and verdicts(after) != found:
                missed.add((key, other))
        place[key] = value
    assert missed == set(), "add it to `_outline` in health/monitor.py"
