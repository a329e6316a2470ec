"""What becomes of a command's output: bounded, and behind the hello where its input waits for one."""

from collections.abc import Iterable
from itertools import pairwise
import random
import shlex
import subprocess
import tracemalloc

import pytest

from custom_components.homelab_monitor.client.limits import NOISE_KEPT
from custom_components.homelab_monitor.client.transport.command import ANNOUNCED, Output, Question

HELLO = b"\x1ehomelab_monitor input\n"


QUESTION = Question(b"token:", begun=b"work\n")


def fed(pieces: Iterable[bytes], question: Question | None = None) -> Output:
    output = Output(1000, announced=True, question=question)
    for piece in pieces:
        output.output(piece)
    return output


def single(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def test_the_line_in_front_says_hello_and_becomes_the_command() -> None:
    told = subprocess.run(
        ["sh", "-c", f"{ANNOUNCED}cat - {shlex.quote('/dev/null')}"], input=b"given", capture_output=True, check=True
    )
    assert told.stdout == HELLO + b"given"


@pytest.mark.parametrize("cut", [single, lambda data: [data]])
def test_what_comes_before_the_hello_is_noise_and_what_comes_behind_it_is_kept(cut) -> None:
    output = fed(cut(b"\n\x1eWelcome\nto nas \x1ehomelab_monitor " + HELLO + b"told\n" + HELLO))
    assert output.has_begun
    assert output.noise == "Welcome"
    assert output.result(0, None).stdout == "told\n" + HELLO.decode()


def test_random_pieces_give_the_same() -> None:
    choose = random.Random(7)
    stream = b"Welcome\n" + HELLO + b"told"
    for _ in range(200):
        cuts = [0, *sorted(choose.randrange(len(stream)) for _ in range(4)), len(stream)]
        output = fed(stream[start:end] for start, end in pairwise(cuts))
        assert (output.noise, output.result(0, None).stdout) == ("Welcome", "told")


@pytest.mark.parametrize("echo", ["printf %s", "echo", "/bin/echo -e", "printf", "printf %b"])
def test_a_command_line_that_is_printed_is_no_hello(echo: str) -> None:
    line = ANNOUNCED + "sh"
    printed = subprocess.run(["dash", "-c", f'{echo} "$1"', "dash", line], capture_output=True, check=True).stdout
    assert b"homelab_monitor" in printed
    assert not fed([printed, b"\n"]).has_begun
    assert not fed([printed.decode().encode("unicode_escape"), b"\n"]).has_begun


def test_the_hello_of_a_forced_command_ends_the_waiting() -> None:
    output = fed([b"Welcome\n", b"\x1ehomelab_monitor program\n", b"more"])
    assert output.complete.is_set()
    assert not output.has_begun


def test_a_cue_counts_behind_the_hello_and_in_any_pieces() -> None:
    output = fed([b"Welcome\n"], QUESTION)
    output.error_output(b"sh: sudo -p token: what\n")
    output.output(HELLO)
    assert (output.asked, output.news.is_set()) == (0, False)
    for piece in single(b"[sudo: token"):
        output.error_output(piece)
    assert (output.asked, output.news.is_set()) == (0, False)
    output.error_output(b":] Password: ")
    assert (output.asked, output.news.is_set()) == (1, True)
    assert output.may_ask
    output.error_output(b"token:Sorry.\ntoken:")
    assert output.result(None, "KILL").asked == 2, "how often it asks again matters to nobody"


@pytest.mark.parametrize("cut", [single, lambda data: [data]])
def test_the_work_counts_behind_the_hello_and_ends_all_questions(cut) -> None:
    output = fed([b"work\n"], QUESTION)
    assert output.may_ask
    for piece in cut(HELLO + b"noise work"):
        output.output(piece)
    assert (output.may_ask, output.news.is_set()) == (True, False)
    output.output(b"\nwork\n")
    assert (output.may_ask, output.news.is_set()) == (False, True)
    assert output.result(0, None).stdout == "noise work\nwork\n"


def test_who_waits_learns_of_the_end() -> None:
    output = fed([b"logged out"], QUESTION)
    output.ended()
    assert output.begun.is_set()
    assert output.news.is_set()
    assert not output.may_ask
    assert not output.has_begun
    assert output.words == "logged out"


def test_a_flood_before_the_hello_takes_no_memory() -> None:
    output = Output(1000, announced=True, question=QUESTION)
    chunk = b"x" * (1 << 16)
    tracemalloc.start()
    for _ in range(1000):
        output.output(chunk)
        output.error_output(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert len(output._noise) == NOISE_KEPT
    output.output(HELLO)
    assert output.has_begun
