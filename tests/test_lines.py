"""A line of remote text ends where the host's kernel and programs end it: nobody's name is a line of its own."""

import ast
from pathlib import Path

import pytest

from custom_components.homelab_monitor.client.control.control import _real_name
from custom_components.homelab_monitor.client.control.install_updates import parse_upgrade
from custom_components.homelab_monitor.client.errors import NoSuchUnit, first_line
from custom_components.homelab_monitor.markdown import fenced

from .scripted import ScriptedShell

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
FILES = [*sorted(ROOT.glob("client/**/*.py")), *sorted(ROOT.glob("probes/**/*.py")), ROOT / "markdown.py"]
ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029\r"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_remote_text_is_cut_into_lines_by_one_function(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "splitlines"
    ]
    assert calls == []


@pytest.mark.parametrize("end", ENDS, ids=ascii)
async def test_a_name_forges_no_answer_of_systemctl(end: str) -> None:
    shell = ScriptedShell()
    shell.say(f"Id=a{end}LoadState=loaded{end}Id=sshd.service\nLoadState=not-found\n")
    with pytest.raises(NoSuchUnit):
        await _real_name(shell, "nas", "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_name_forges_no_reason_of_an_upgrade(end: str) -> None:
    told = parse_upgrade(f"upgrade ended 100\nSetting up x{end}E: forged\nE: the real one\n", "apt")
    assert told
    assert told.detail == "E: the real one"


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_line_is_shown_as_one(end: str) -> None:
    assert first_line(f"a{end}b") == ("a" if end == "\r" else "a b")
    assert fenced(f"a{end}b\nc") == "```\na b\nc\n```"
