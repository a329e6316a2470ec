"""Cutting a probe's output into records, whatever the pieces it arrives in."""

from itertools import pairwise
import json
from pathlib import Path
import random
import tracemalloc
import zlib

import pytest

from custom_components.homelab_monitor.client.errors import BadReply, ReplyTooLarge
from custom_components.homelab_monitor.client.limits import NOISE_LIMIT, REPLY_LIMIT
from custom_components.homelab_monitor.client.probe import framing
from custom_components.homelab_monitor.client.probe.framing import (
    Hello,
    Marker,
    RawReply,
    ReplyParser,
)

MARKER = b"\x1ehomelab_monitor 1 3.11.2 4711 %s\n" % (b"0" * 32)
TEXT = json.dumps({"id": "1", "text": "x" * 2000}).encode()
PACKED = zlib.compress(TEXT)
STREAM = b"".join((
    b"Welcome!\nLast login: today\n",
    b"\x1ehomelab_monitor program\n",
    MARKER,
    b"\x1e1 2 j\n{}",
    b"noise between \x1e not a header\n",
    b"\x1e2 %d z\n%s" % (len(PACKED), PACKED),
    b"\x1e3 0 j\n",
))  # fmt: skip
RECORDS = [Hello(), Marker(1, "3.11.2", 4711, "0" * 32), RawReply("1", b"{}"), RawReply("2", TEXT), RawReply("3", b"")]


def _feed(parser: ReplyParser, *pieces: bytes) -> list[Hello | Marker | RawReply]:
    return [record for piece in pieces for record in parser.feed(piece)]


def test_records_are_found_between_noise() -> None:
    parser = ReplyParser("nas")
    assert _feed(parser, STREAM) == RECORDS
    assert parser.noise == "Welcome!"
    assert not parser.is_inside_record


def test_single_bytes_give_the_same_records() -> None:
    assert _feed(ReplyParser("nas"), *(STREAM[i : i + 1] for i in range(len(STREAM)))) == RECORDS


def test_random_pieces_give_the_same_records() -> None:
    choose = random.Random(7)
    for _ in range(300):
        cuts = sorted(choose.randrange(len(STREAM)) for _ in range(choose.randrange(12)))
        edges = [0, *cuts, len(STREAM)]
        pieces = [STREAM[start:end] for start, end in pairwise(edges)]
        assert _feed(ReplyParser("nas"), *pieces) == RECORDS


def test_a_separator_inside_a_payload_is_payload() -> None:
    payload = b"\x1e9 1 j\n" * 10
    assert _feed(ReplyParser("nas"), b"\x1e1 %d j\n%s" % (len(payload), payload)) == [RawReply("1", payload)]


def test_random_bytes_end_in_an_error_or_in_silence() -> None:
    choose = random.Random(3)
    ended = 0
    for _ in range(200):
        parser = ReplyParser("nas")
        try:
            for _ in range(10):
                _feed(parser, choose.randbytes(20_000))
        except BadReply:
            ended += 1
    assert ended > 150


@pytest.mark.parametrize("noise", [b"x" * (NOISE_LIMIT + 1), b"\x1e" * (NOISE_LIMIT + 200), b"\n" * (NOISE_LIMIT + 1)])
def test_too_much_noise_is_an_error(noise: bytes) -> None:
    with pytest.raises(BadReply) as caught:
        _feed(ReplyParser("nas"), noise)
    assert caught.value.key == "bad_reply"


def test_noise_between_many_replies_adds_up_to_nothing() -> None:
    parser = ReplyParser("nas")
    for _ in range(100):
        assert len(_feed(parser, b"y" * 10_000 + b"\x1e1 2 j\n{}")) == 1


def test_the_first_line_that_says_something_is_kept_as_noise() -> None:
    parser = ReplyParser("nas")
    _feed(parser, b"\n\n", b"  \x1b]0;title\x07 Mot", b"d of the day\nsecond", MARKER)
    assert parser.noise == "]0;title Motd of the day"


def test_a_quiet_shell_makes_no_noise() -> None:
    parser = ReplyParser("nas")
    _feed(parser, MARKER)
    assert parser.noise == ""


@pytest.mark.parametrize("header", [b"1 %d j" % (REPLY_LIMIT + 1), b"1 9999999999 z"])
def test_an_announced_flood_is_refused_at_once(header: bytes) -> None:
    with pytest.raises(ReplyTooLarge):
        _feed(ReplyParser("nas"), b"\x1e" + header + b"\n")


def test_what_unpacks_to_too_much_is_refused_in_little_memory() -> None:
    bomb = zlib.compress(b" " * (200 << 20), 9)
    tracemalloc.start()
    with pytest.raises(ReplyTooLarge):
        _feed(ReplyParser("nas"), b"\x1e1 %d z\n%s" % (len(bomb), bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("payload", [b"", b"no zlib at all", PACKED[:-5], b"\x00" * 100])
def test_a_damaged_compressed_reply_is_an_error(payload: bytes) -> None:
    with pytest.raises(BadReply):
        _feed(ReplyParser("nas"), b"\x1e1 %d z\n%s" % (len(payload), payload))


def test_a_record_of_the_greatest_size_arrives_whole() -> None:
    payload = b"z" * REPLY_LIMIT
    stream = b"\x1e1 %d j\n%s" % (REPLY_LIMIT, payload)
    parser = ReplyParser("nas")
    pieces = [stream[start : start + 32_768] for start in range(0, len(stream), 32_768)]
    assert _feed(parser, *pieces[:-1]) == []
    assert parser.is_inside_record
    assert _feed(parser, pieces[-1]) == [RawReply("1", payload)]


def test_the_probe_sends_no_more_than_is_read() -> None:
    source = (Path(framing.__file__).parents[2] / "probes" / "probe.py").read_text()
    assert f"\nREPLY_BYTES = {REPLY_LIMIT >> 20} << 20\n" in source
