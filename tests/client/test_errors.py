"""The vocabulary of errors: keys, placeholders, and remote text made safe."""

from collections.abc import Iterator
import json
from pathlib import Path
import re

import pytest

from custom_components.homelab_monitor.client import errors
from custom_components.homelab_monitor.client.errors import (
    HomelabError,
    HostKeyChanged,
    Unreachable,
    first_line,
    line_with,
    reason_in,
)

REASONS = json.loads((Path(__file__).parents[1] / "fixtures" / "tools" / "reasons.json").read_text())

LINES = {
    "": "",
    "\n\n  hello  \nworld": "hello",
    "tab\there": "tab here",
    "\x1b[31mred\x1b[0m": "[31mred [0m",
    "zero\x00width\u200b \u202erightmost": "zero width rightmost",
    "x" * 1000: "x" * 300,
    "\r\nnext\rline": "next",
    " ": "",
    "lone \ud800 surrogate": "lone surrogate",
}


def _children(kind: type[HomelabError]) -> Iterator[type[HomelabError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _children(child)


@pytest.mark.parametrize(("text", "line"), LINES.items())
def test_remote_text_is_cut_to_one_printable_line(text: str, line: str) -> None:
    assert first_line(text) == line


@pytest.mark.parametrize("row", REASONS, ids=lambda row: row["program"])
def test_the_reason_is_the_line_that_a_program_marks_as_one(row: dict[str, str]) -> None:
    assert reason_in(row["said"]) == row["reason"]


def test_of_what_is_looked_for_the_whole_line_is_reported() -> None:
    assert line_with(re.compile("denied"), "motd\n\tno: access denied here\nnext") == "no: access denied here"
    assert line_with(re.compile("denied"), "motd") == ""


@pytest.mark.parametrize("sign", ["\n", " ", "a ", "E:", "error: ", '<message type="error">'])
def test_a_huge_remote_text_costs_little(sign: str) -> None:
    first_line(sign * 50_000_000)
    reason_in(sign * 10_000_000)


def test_every_error_has_a_key_of_its_own() -> None:
    kinds = list(_children(HomelabError))
    # To people these are connections that were lost; what follows from them differs.
    assert {kind for kind in kinds if "key" not in vars(kind)} == {errors.NoGreeting, errors.LoginCut}
    named = [kind.key for kind in kinds if "key" in vars(kind)]
    assert len(named) >= 15
    assert len(set(named)) == len(named)


def test_only_what_a_person_must_fix_is_hard() -> None:
    hard = {kind.key for kind in _children(HomelabError) if kind.hard}
    assert hard == {
        "another_machine",
        "host_key_changed",
        "no_python",
        "python_incomplete",
        "not_supported",
        "command_not_run",
        "old_forced_command",
    }


def test_an_error_says_host_what_and_detail() -> None:
    err = Unreachable("nas", "No route to host\nmore")
    assert str(err) == "nas: unreachable: No route to host"
    assert err.placeholders == {"host": "nas", "detail": "No route to host"}
    assert str(Unreachable("nas")) == "nas: unreachable"


def test_special_errors_carry_their_own_placeholders() -> None:
    changed = HostKeyChanged("nas", expected="SHA256:a", offered="SHA256:b")
    assert changed.placeholders["expected"] == "SHA256:a"
    assert changed.placeholders["offered"] == "SHA256:b"
    assert errors.PythonIncomplete("nas", "json").placeholders["module"] == "json"
    assert errors.UnsupportedSystem("nas", "Windows").placeholders["system"] == "Windows"
