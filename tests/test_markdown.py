"""What a host says stays text wherever Home Assistant renders Markdown."""

import pytest

from custom_components.homelab_monitor.markdown import copyable, escaped, fenced, has_long_word, inline, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text 42 äöü", "plain text 42 äöü"),
        ("<svg onload=alert(1)>", r"\<svg onload\=alert\(1\)\>"),
        ("[a](javascript:x)", r"\[a\]\(javascript\:x\)"),
        ("![](http://x)", r"\!\[\]\(http\:\/\/x\)"),
        ("www.example.org a@b.c", r"www\.example\.org a\@b\.c"),
        ("`code` **b** _i_ ~s~", r"\`code\` \*\*b\*\* \_i\_ \~s\~"),
        ("# title\n\n- list\n    code", r"\# title \- list code"),
        ("a | b\\", r"a \| b\\"),
        ("bell\x07 bidi\u202e zero\u200b", "bell bidi zero"),
        ("", ""),
    ],
)
def test_every_punctuation_mark_is_literal_and_there_is_one_line(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("ls -l", "```\nls -l\n```"),
        ("a\nb\n", "```\na\nb\n```"),
        ("echo `date`", "```\necho `date`\n```"),
        ("```\n<b>", "````\n```\n<b>\n````"),
        ("````x", "`````\n````x\n`````"),
        ("a\x1b[31m\u202e", "```\na [31m \n```"),
        ("", "```\n```"),
    ],
)
def test_a_block_stays_as_it_is_and_cannot_be_left(text: str, block: str) -> None:
    assert fenced(text) == block


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ls -l | wc", "`ls -l | wc`"),
        ("sudo a\n\nsudo b\n", "`sudo a`\n`sudo b`"),
        ("echo `date` <b>", "``echo `date` <b>``"),
        ("`date`", "`` `date` ``"),
        ("a\x1b[31m", "`a [31m`"),
        ("two  spaces", "```\ntwo  spaces\n```"),
        ("", ""),
    ],
)
def test_code_that_wraps_is_copied_as_it_is_and_cannot_be_left(text: str, code: str) -> None:
    assert copyable(text) == code


def test_a_table_has_one_line_per_row() -> None:
    assert (
        table(("a", "b"), [("1", "2"), ("3", escaped("x|\ny"))])
        == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | x\\| y |"
    )


def test_a_long_word_is_code_that_wraps_and_nothing_is_put_between_its_characters() -> None:
    assert inline("short words <b> stay") == r"short words \<b\> stay"
    shown = "SHA256:abcdefghijklmnop/qrstuvwxyz <b>`"
    assert inline(shown) == f"`` {shown} ``"
    assert [has_long_word("x" * length) for length in (16, 17)] == [False, True]
