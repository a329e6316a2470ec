"""Polls evaluate the checks again only when the outline of a snapshot changes: it has all that a check looks at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
import json
from typing import Any

import pytest

from custom_components.homelab_monitor.client.checks.evaluation import Evidence, evaluate_poll
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
