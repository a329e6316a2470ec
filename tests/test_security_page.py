"""The page on security: each promise names a test, and the test is there."""

from pathlib import Path
import re

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"


def test_every_test_that_a_promise_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 40
    missing = [(file, name) for file, name in named if not re.search(rf"\bdef {name}\(", (TESTS / file).read_text())]
    assert missing == []


def test_every_row_of_promises_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and "verified by" not in line]
    promises = [row for row in rows if not set(row) <= set("|- ")]
    assert [row for row in promises if ".py::test_" not in row] == []
