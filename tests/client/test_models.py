"""Decoding what a host says: a section of a wrong shape costs only itself."""

import json
from pathlib import Path

import pytest

from custom_components.homelab_monitor.client.errors import BadReply
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply, restore_snapshot

PLAIN = Path(__file__).parents[1] / "fixtures" / "replies" / "plain.json"


def reply(**changes: object) -> bytes:
    return json.dumps(json.loads(PLAIN.read_text()) | changes).encode()


def with_section(name: str, section: object) -> bytes:
    document = json.loads(PLAIN.read_text())
    document["sections"][name] = section
    return json.dumps(document).encode()


def test_every_section_of_a_good_reply_is_typed() -> None:
    decoded = decode_reply("plain", reply())
    assert decoded.errors == {}
    assert decoded.sections.keys() == json.loads(PLAIN.read_text())["sections"].keys()


def test_memory_and_filesystems_count_as_free_and_df() -> None:
    sections = Snapshot().merged(decode_reply("plain", reply()), 100.0, 30.0).sections
    assert sections.memory is not None
    assert sections.memory.used_percent == 25
    assert sections.memory.swap_used_percent == 25
    assert sections.filesystems is not None
    root = sections.filesystems.filesystems[0]
    assert root.used_percent == pytest.approx(100 * 30 / 95)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("cpu", {"at": "soon", "times": {}}),
        ("cpu", [1, 2]),
        ("memory", {"total_bytes": "8"}),
        ("load", {"load1": float(10) ** 400 if False else 1e308 * 10, "load5": 0, "load15": 0}),
        ("load", {"load1": True, "load5": 0, "load15": 0}),
        ("network", {"at": 1.0, "interfaces": ["eth0"]}),
        ("filesystems", {"filesystems": {"/": {}}}),
        ("services", None),
        ("services", {"counts": 5}),
        ("system", {"hostname": {"a": 1}, "kernel": "x", "architecture": "y"}),
    ],
)
def test_a_section_of_a_wrong_shape_is_an_error_of_that_section_alone(name: str, section: object) -> None:
    document = with_section(name, section).replace(b"Infinity", b"1e999")
    decoded = decode_reply("plain", document)
    assert decoded.errors.keys() == {name}
    assert "wrong shape" in decoded.errors[name]
    assert name not in decoded.sections
    assert len(decoded.sections) == len(json.loads(PLAIN.read_text())["sections"]) - 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b"[" * 100_000,
        b'{"id": NaN}',
        b'{"id":"1","protocol":1,"boot_id":"b","epoch":1' + b"0" * 5000 + b',"sections":{}}',
        reply(protocol=2),
        reply(sections=[]),
        reply(epoch=None),
        reply(missing={"gpu": 5}),
        reply(missing=[]),
        reply(errors=None),
        reply(seconds=5),
        reply(boot_id={}),
        reply(error={"a": [1]}),
        b'{"id": "?", "error": "not JSON"}',
    ],
)
def test_a_payload_that_is_no_reply_is_refused_with_the_hosts_name(payload: bytes) -> None:
    with pytest.raises(BadReply, match="plain"):
        decode_reply("plain", payload)


def test_a_section_that_only_a_newer_probe_knows_is_ignored() -> None:
    decoded = decode_reply("plain", with_section("horoscope", {"lucky": 7}))
    assert "horoscope" not in decoded.sections
    assert decoded.errors == {}


def merged(snapshot: Snapshot, at: float, **changes: object) -> Snapshot:
    return snapshot.merged(decode_reply("plain", reply(**changes)), at, 30.0)


def test_a_failing_section_keeps_its_last_value_for_three_of_its_rounds() -> None:
    first = merged(Snapshot(), 1000.0)
    failing = {"sections": {}, "missing": {"services": "timed_out"}, "errors": {"load": "boom"}}
    soon = merged(first, 1029.0, **failing)
    assert soon.sections.load == first.sections.load
    assert soon.errors == {"load": "boom"}
    later = merged(soon, 1031.0, **failing)
    assert later.sections.load is None  # every poll: stale after 30 s
    assert later.sections.services == first.sections.services  # every 30 s: kept for 90 s
    assert merged(later, 1091.0, **failing).sections.services is None


def test_a_missing_section_is_gone_at_once_and_its_reason_is_kept() -> None:
    snapshot = merged(Snapshot(), 1000.0)
    snapshot = merged(snapshot, 1010.0, sections={}, missing={"sensors": "not_supported"})
    assert snapshot.sections.sensors is None
    assert snapshot.missing == {"gpu": "not_installed", "sensors": "not_supported"}
    assert snapshot.sections.cpu is not None


SOCKETS = {
    "complete": {"owners": True},
    "sockets": [{"protocol": "tcp", "address": "::", "port": 22, "exposure": "all"}],
}


def test_what_is_reported_on_demand_is_typed_and_never_part_of_a_snapshot() -> None:
    decoded = decode_reply("plain", reply(sections={"sockets": SOCKETS}, seconds={"sockets": 0.1}))
    assert decoded.sections["sockets"].sockets[0].port == 22
    late = decode_reply("plain", reply(sections={}, missing={"sockets": "timed_out"}, errors={"sockets": "boom"}))
    snapshot = merged(Snapshot(), 1000.0).merged(decoded, 1001.0, 30.0).merged(late, 1002.0, 30.0)
    assert "sockets" not in {
        *snapshot.as_dict()["sections"],
        *snapshot.ages,
        *snapshot.missing,
        *snapshot.errors,
        *snapshot.seconds,
    }


def test_what_is_reported_on_demand_is_not_restored() -> None:
    stored = merged(Snapshot(), 1000.0).as_dict()
    restored = restore_snapshot(stored | {"sections": {**stored["sections"], "sockets": SOCKETS}})
    assert "sockets" not in restored.as_dict()["sections"]
    assert restored.sections.cpu is not None


def test_the_boot_time_is_reported_by_the_hubs_clock() -> None:
    snapshot = merged(Snapshot(), 1_763_950_000.0, epoch=12.0)
    assert snapshot.boot_time == 1_763_950_000.0 - 5000.0


def asked(snapshot: Snapshot, sent: float, seconds: float, *, epoch: float, uptime: float) -> Snapshot:
    """Merge a reply that came some seconds after its request."""
    updates = {"manager": "apt", "pending": 0, "metadata_age_seconds": uptime + 50.0}
    sections = {"uptime": {"uptime_seconds": uptime}, "updates": updates}
    decoded = decode_reply("plain", reply(epoch=epoch, sections=sections))
    return snapshot.merged(decoded, sent + seconds, 30.0, sent=sent)


@pytest.mark.parametrize(
    ("epoch", "offset"), [(940.0, -60.0), (999.9, -0.1), (1000.0, 0.0), (1030.0, 0.0), (1065.0, 0.0), (1066.5, 1.5)]
)
def test_a_clock_is_as_wrong_as_is_proven(epoch: float, offset: float) -> None:
    """As in NTP: what request and reply took, and who held them up, says nothing about it."""
    snapshot = asked(Snapshot(), 1000.0, 65.0, epoch=epoch, uptime=100.0)
    assert snapshot.clock_offset_seconds == pytest.approx(offset)


def test_a_reply_that_is_late_moves_no_boot_time() -> None:
    snapshot = asked(Snapshot(), 1000.0, 0.5, epoch=1000.2, uptime=100.2)
    booted = snapshot.boot_time
    assert booted == pytest.approx(900.0, abs=0.5)
    for held_up, uptime in ((65.0, 110.2), (0.1, 180.2), (300.0, 479.0)):
        snapshot = asked(snapshot, 900.0 + uptime - 0.1, held_up, epoch=900.0 + uptime, uptime=uptime)
        assert snapshot.boot_time == pytest.approx(booted, abs=0.5)
        assert snapshot.lists_time == pytest.approx(booted - 50.0, abs=0.5)
    again = asked(snapshot, 2000.0, 0.2, epoch=2000.1, uptime=20.0)
    assert again.boot_time == pytest.approx(1980.0, abs=0.3), "it was started again"


def test_a_boot_time_that_was_late_at_first_is_mended_by_the_next_reply() -> None:
    late = asked(Snapshot(), 1000.0, 65.0, epoch=1000.1, uptime=100.0)
    assert asked(late, 1070.0, 0.2, epoch=1070.1, uptime=170.1).boot_time == pytest.approx(900.0, abs=0.2)


def test_what_an_earlier_version_stored_reports_its_clock_what_it_reported_then() -> None:
    stored = merged(Snapshot(), 1_763_940_090.5).as_dict()
    older = {name: value for name, value in stored.items() if name not in ("sent", "moments")}
    assert restore_snapshot(older).clock_offset_seconds == pytest.approx(-90.0)
    assert restore_snapshot(older).boot_time == restore_snapshot(stored).boot_time


def test_a_stored_snapshot_comes_back_as_it_was() -> None:
    snapshot = merged(Snapshot(), 1000.0)
    stored = json.loads(json.dumps(snapshot.as_dict()))
    assert restore_snapshot(stored) == snapshot


def test_a_stored_section_that_no_longer_fits_is_left_out() -> None:
    stored = json.loads(json.dumps(merged(Snapshot(), 1000.0).as_dict()))
    stored["sections"]["cpu"] = {"old": "shape"}
    restored = restore_snapshot(stored)
    assert restored.sections.cpu is None
    assert "cpu" not in restored.ages
    assert restored.sections.memory is not None


def test_what_an_earlier_version_stored_comes_back_without_what_has_no_type() -> None:
    snapshot = merged(Snapshot(), 1000.0)
    stored = json.loads(json.dumps(snapshot.as_dict()))
    stored["sections"] = json.loads(PLAIN.read_text())["sections"]
    for section in stored["sections"].values():
        section["junk"] = [{"x": [1]}]
    stored |= {"junk": 5, "seconds": stored["seconds"] | {"cpu": "x", "horoscope": 1.0}}
    restored = restore_snapshot(stored)
    assert restored.sections == snapshot.sections
    assert restored.ages == snapshot.ages
    assert restored.seconds == {}
    assert "junk" not in json.dumps(restored.as_dict())


@pytest.mark.parametrize("garbage", [None, 5, [], "x", {"cpu": 5}, {"cpu": float("inf")}])
def test_a_stored_value_of_a_wrong_shape_costs_only_itself(garbage: object) -> None:
    snapshot = merged(Snapshot(), 1000.0)
    for name in ("epoch", "received", "missing", "errors", "ages", "seconds", "boot_id"):
        restored = restore_snapshot(json.loads(json.dumps(snapshot.as_dict())) | {name: garbage})
        assert restored.sections == snapshot.sections, name
