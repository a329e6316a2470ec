"""The list of units over D-Bus: what is said is right, the answer is understood, anything else leads to systemctl."""

import os
import shutil
import socket
import struct
import tempfile
import threading
import time
import unittest
from unittest.mock import patch

from place import probe

OK = b"OK 0123456789abcdef0123456789abcdef\r\n"
UNITS = (
    ("ssh.service", "OpenBSD Secure Shell server", "loaded", "active", "running"),
    ("bäckup.service", "Über Nacht", "loaded", "inactive", "dead"),
    ("a.service", "", "not-found", "inactive", "dead"),
)
LISTED = "a.service not-found inactive dead\nssh.service loaded active running from systemctl\n"


def text(value):
    raw = value.encode("utf-8")
    return struct.pack("=I", len(raw)) + raw + b"\0"


def aligned(content, to):
    return content + bytes(-len(content) % to)


def message(kind, body, serial=7):
    """Return a message as a bus sends it: with a reply serial and a sender in its header."""
    header = b"\x05\x01u\0" + struct.pack("=I", 2)
    header += b"\x07\x01s\0" + text(":1.4")
    start = probe.BUS_ORDER + bytes([kind, 1, 1]) + struct.pack("=III", len(body), serial, len(header))
    return aligned(start + header, 8) + body


def unit_list(units):
    """Return an a(ssssssouso) as systemd's manager answers it."""
    content = b""
    for words in units:
        content = aligned(content, 8)
        for word in (*words, "", "/org/freedesktop/systemd1/unit/x"):
            content = aligned(content, 4) + text(word)
        content = aligned(content, 4) + struct.pack("=I", 0)
        content = aligned(content, 4) + text("")
        content = aligned(content, 4) + text("/")
    return struct.pack("=II", len(content), 0) + content


class Bus:
    """A server that answers one client with what it is given, and keeps what it was told."""

    def __init__(self, *answers):
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, "bus")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(self.path)
        self.server.listen(5)
        self.answers = answers
        self.is_silent = self.is_talking = False
        self.closed = threading.Event()
        self.heard = []
        self.calls = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                door = self.server.accept()[0]
            except OSError:
                return
            self.calls += 1
            for answer in self.answers:
                self.heard.append(door.recv(65536))
                door.sendall(answer)
            if self.is_silent:
                self.closed.wait(5)
            for _ in range(250 if self.is_talking else 0):
                try:
                    door.sendall(message(4, text(":1.9")))
                except OSError:
                    break
                self.closed.wait(0.02)
            door.close()

    def close(self):
        self.closed.set()
        self.server.close()
        shutil.rmtree(self.folder)


class BusHost(probe.Host):
    """This machine, with a bus and a systemctl of the test's own."""

    def __init__(self, bus):
        super().__init__()
        self.bus = bus
        self.asked = []
        self.now = 1000.0

    def connect(self, path, timeout, uid=None):
        self.asked.append(path)
        return super().connect(self.bus, min(timeout, 0.3))

    def run(self, argv, timeout, tail=False, wanted=None):
        self.asked.append(argv[0])
        return 0, LISTED, ""

    def boottime(self):
        return self.now


class AnyUser(unittest.TestCase):
    """Root has a socket to systemd itself; anybody else has to say hello to the bus first."""

    uid, hello = 1000, message(2, text(":1.9"))

    def setUp(self):
        told = patch("os.geteuid", return_value=self.uid)
        told.start()
        self.addCleanup(told.stop)

    def list(self, *answers, is_silent=False):
        """Return the units, whom the probe asked, and what the bus heard."""
        bus = Bus(*answers)
        bus.is_silent = is_silent
        host = BusHost(bus.path)
        try:
            units = probe.list_units(host, {}, probe.LinesKept(set(), set()))
        finally:
            bus.close()
        return units, host.asked, bus.heard

    def test_the_right_socket_is_taken(self):
        _, asked, heard = self.list(OK, self.hello + message(2, unit_list(())))
        is_root = self.uid == 0
        self.assertEqual(asked, ["/run/systemd/private" if is_root else "/run/dbus/system_bus_socket"])
        self.assertEqual(b"Hello" in heard[1], not is_root)

    def test_who_never_stops_talking_meanwhile_holds_it_up_no_longer_than_a_silent_bus(self):
        bus = Bus(OK, (b"" if self.uid == 0 else self.hello) + message(4, text(":1.9")))
        bus.is_talking = True
        self.addCleanup(bus.close)
        begun = time.monotonic()
        with self.assertRaises(probe.Late):
            probe.bus_units(BusHost(bus.path), "*.service", seconds=0.5)
        self.assertLess(time.monotonic() - begun, 3.0)

    def test_what_others_say_meanwhile_is_overheard(self):
        signal = message(4, text(":1.9"))
        units, _, _ = self.list(OK, self.hello + signal + message(2, unit_list(UNITS)))
        self.assertEqual(len(units), len(UNITS))

    def test_the_answer_is_understood_and_sorted(self):
        units, asked, heard = self.list(OK, self.hello + message(2, unit_list(UNITS)))
        told = [(one.name, one.description, one.load, one.active, one.sub) for one in units]
        self.assertEqual(told, sorted(UNITS))
        self.assertNotIn("systemctl", asked)
        self.assertTrue(heard[0].startswith(b"\0AUTH EXTERNAL "))

    def test_the_call_is_aligned_as_the_specification_wants(self):
        _, _, heard = self.list(OK, self.hello + message(2, unit_list(())))
        call = heard[1][heard[1].rindex(probe.BUS_ORDER + b"\x01\0\x01") :]
        body, serial, header = struct.unpack_from("=III", call, 4)
        self.assertEqual((serial, len(call)), (2, 16 + header + -header % 8 + body))
        fields, at = {}, 0
        while at < header:
            at += -at % 8
            code, kind = call[16 + at], call[18 + at : 19 + at]
            size = call[20 + at] if kind == b"g" else struct.unpack_from("=I", call, 20 + at)[0]
            start = 16 + at + (5 if kind == b"g" else 8)
            fields[code] = call[start : start + size]
            at = start + size + 1 - 16
        self.assertEqual(
            fields,
            {
                1: b"/org/freedesktop/systemd1",
                2: b"org.freedesktop.systemd1.Manager",
                3: b"ListUnitsByPatterns",
                6: b"org.freedesktop.systemd1",
                8: b"asas",
            },
        )
        self.assertEqual(call[-body:], struct.pack("=II", 0, 14) + text("*.service"))

    def test_several_names_are_aligned_as_well(self):
        bus = Bus(OK, self.hello + message(2, unit_list(UNITS)))
        host = BusHost(bus.path)
        try:
            units = probe.units_named(host, ["ab.timer", "abcd.service"])
        finally:
            bus.close()
        self.assertEqual(len(units), len(UNITS))
        self.assertNotIn("systemctl", host.asked)
        body = aligned(text("ab.timer"), 4) + text("abcd.service")
        self.assertTrue(bus.heard[1].endswith(struct.pack("=II", 0, len(body)) + body))

    def test_what_is_no_answer_leads_to_systemctl(self):
        refusal = message(3, text("Unknown method ListUnitsByPatterns"))
        cut_short = message(2, unit_list(UNITS))[:-20]
        foreign = b"B" if probe.BUS_ORDER == b"l" else b"l"
        cases = {
            "refused": (b"REJECTED EXTERNAL\r\n",),
            "unknown": (OK, self.hello + refusal),
            "cut short": (OK, self.hello + cut_short),
            "nonsense": (OK, b"\xff" * 400),
            "other byte order": (OK, self.hello + foreign + message(2, b"")[1:]),
            "lying lengths": (OK, self.hello + message(2, struct.pack("=II", 4000, 0) + b"\xff" * 40)),
            "huge": (OK, probe.BUS_ORDER + b"\2\1\1" + struct.pack("=III", 1 << 30, 1, 8)),
            "gone": (b"",),
        }
        for name, answers in cases.items():
            with self.subTest(name):
                units, asked, _ = self.list(*answers)
                self.assertEqual(asked[-1], "systemctl")
                self.assertEqual([one.name for one in units], ["a.service", "ssh.service"])

    def test_a_bus_that_failed_is_left_alone_for_ten_minutes(self):
        bus, memo = Bus(b""), {}
        host = BusHost(bus.path)
        try:
            for _ in range(3):
                probe.list_units(host, memo, probe.LinesKept(set(), set()))
            host.now += 601
            probe.list_units(host, memo, probe.LinesKept(set(), set()))
        finally:
            bus.close()
        self.assertEqual(bus.calls, 2)

    def test_a_systemd_that_does_not_answer_is_late(self):
        with self.assertRaises(probe.Late):
            self.list(OK, is_silent=True)


class Root(AnyUser):
    uid, hello = 0, b""


if __name__ == "__main__":
    unittest.main()
