"""The time zone: of the machine as it is now, and of the lines of its logs as they were written."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest.mock import patch

from place import SOURCE, probe
from tree import Tree

HOUR = 3600
NOW = 1760000000.0  # 2025-10-09 08:53:20 UTC
FAILED = "Failed password for root from 192.0.2.7 port 40022 ssh2"
LOG = "/var/log/auth.log"


def zone_file(path, *times):
    """Write a zone (tzfile(5)) as (from when on, ahead of UTC); it takes the place of another at once."""
    moments = [int(at) for at, _ in times[1:]]
    content = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, len(moments), len(times), 4)
    content += struct.pack(f">{len(moments)}l", *moments) + bytes(range(1, len(times)))
    content += b"".join(struct.pack(">lbb", ahead, 0, 0) for _, ahead in times) + b"ABC\0"
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.rename(path + ".new", path)


class InZone(unittest.TestCase):
    """With a file of our own for /etc/localtime."""

    def setUp(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.addCleanup(time.tzset)
        self.path = os.path.join(folder, "localtime")
        patcher = patch.object(probe, "ZONE_FILE", self.path, create=True)
        patcher.start()
        self.addCleanup(patcher.stop)

    def zone(self, *times):
        zone_file(self.path, *times)

    def failed(self, tree, since=0.0):
        """Return the failed logins of a machine with a real zone; `since` is when it became that."""

        class Zoned(probe.RecordedHost):
            def timezone_offset(self, at=None):
                return probe.Host.timezone_offset(self, *() if at is None else (at,))

            def timezone_since(self):
                return since

        request = probe.Request({"id": "1", "sections": ["security"]})
        reply = probe.Probe(Zoned(tree.folder)).answer(request)
        return reply["sections"]["security"]["failed_logins"]

    def log(self, *lines, **more):
        """Return a machine whose log has these lines, each (ahead of UTC, seconds ago, how often)."""
        stamps = {LOG: [NOW - more.get("age", 60.0)] * 2 + [9], LOG + ".1": [NOW - 31 * HOUR] * 2 + [9]}
        tree = Tree(self, {"stamps": stamps}, boottime=864000.0)
        tree.write(LOG + ".1", "put away before\n")
        text = ""
        for ahead, ago, times in ((more.get("first", lines[0][0]), 30 * HOUR, 0), *lines):
            at = time.strftime("%b %e %H:%M:%S", time.gmtime(NOW - ago + ahead))
            text += (f"{at} nas sshd[812]: {FAILED}\n" * times) or f"{at} nas cron[7]: x\n"
        tree.write(LOG, text)
        return tree


class TheMachines(InZone):
    def test_a_living_probe_reports_the_zone_that_is_set_now(self):
        host = probe.Host()
        seen = []
        for ahead in (0, 9 * HOUR, -5 * HOUR, -5 * HOUR, HOUR):
            self.zone((0, ahead))
            seen.append(host.timezone_offset())
        self.assertEqual(seen, [0, 9 * HOUR, -5 * HOUR, -5 * HOUR, HOUR])
        os.unlink(self.path)
        self.assertEqual(host.timezone_offset(), 0)

    def test_a_link_that_leads_elsewhere_is_another_zone(self):
        host = probe.Host()
        for name, ahead in (("tokyo", 9 * HOUR), ("utc", 0), ("tokyo", 9 * HOUR)):
            target = os.path.join(os.path.dirname(self.path), name)
            if not os.path.exists(target):
                zone_file(target, (0, ahead))
            os.symlink(target, self.path + ".new")
            os.rename(self.path + ".new", self.path)
            self.assertEqual(host.timezone_offset(), ahead)

    def test_a_logins_own_zone_is_not_the_machines(self):
        self.zone((0, 2 * HOUR))
        program = SOURCE.replace(b'ZONE_FILE = "/etc/localtime"', f'ZONE_FILE = "{self.path}"'.encode())
        script = os.path.join(os.path.dirname(self.path), "probe.py")
        with open(script, "wb") as file:
            file.write(program)
        reported = subprocess.check_output(
            [sys.executable, script, "system"], env=dict(os.environ, TZ="Antarctica/Troll9")
        )
        self.assertIn(b'"timezone_offset_seconds": 7200', reported)

    def test_threads_that_ask_while_it_changes_get_one_or_the_other(self):
        host, seen = probe.Host(), set()
        self.zone((0, HOUR))
        ends = time.monotonic() + 0.5

        def ask():
            while time.monotonic() < ends:
                seen.add(host.timezone_offset())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        ahead = HOUR
        while time.monotonic() < ends:
            ahead = 3 * HOUR - ahead
            self.zone((0, ahead))
        for thread in threads:
            thread.join()
        self.assertEqual(seen, {HOUR, 2 * HOUR})


class TheLogs(InZone):
    def test_what_was_refused_before_the_clocks_went_forward_counts(self):
        self.zone((0, 0), (NOW - 1200, HOUR))
        reported = self.failed(self.log((0, 1800, 12)))
        self.assertEqual((reported["state"], reported["count"]), ("warning", 12))
        self.assertEqual(self.failed(self.log((0, 3700, 12)))["count"], 0)
        self.assertEqual(self.failed(self.log((0, 3700, 12), (HOUR, 100, 3)))["count"], 3)

    def test_what_was_refused_before_the_clocks_went_back_counts_in_either_hour(self):
        self.zone((0, HOUR), (NOW - 1200, 0))
        # 09:23:20 before the change; at 08:33:20 UTC it was 08:33:20 a second time.
        self.assertEqual(self.failed(self.log((HOUR, 1800, 12)))["count"], 12)
        self.assertEqual(self.failed(self.log((HOUR, 1800, 2), (0, 600, 3)))["count"], 5)
        # It may have been 15 minutes ago, as nothing tells the two hours apart.
        self.assertEqual(self.failed(self.log((HOUR, 75 * 60, 12)))["count"], 12)
        self.assertEqual(self.failed(self.log((HOUR, 3 * HOUR, 12)))["count"], 0)

    def test_each_line_has_the_offset_of_its_own_time(self):
        self.zone((0, 2 * HOUR), (NOW - 100, -9 * HOUR))  # a country that changes the side of the date line
        self.assertEqual(self.failed(self.log((2 * HOUR, 1800, 3)))["count"], 3)

    def test_before_the_zone_was_set_nothing_is_known(self):
        for old, new in ((9 * HOUR, 0), (0, 9 * HOUR)):
            self.zone((0, new))
            tree = self.log((old, 1800, 12), (new, 60, 1), first=old)
            self.assertEqual(self.failed(tree, since=NOW - 300)["reason"], "log_too_short")
            tree = self.log((old, 1800, 12), (new, 60, 11), first=old)
            reported = self.failed(tree, since=NOW - 300)
            self.assertEqual((reported["state"], reported["count"], reported["lower_bound"]), ("warning", 11, True))
            tree = self.log((old, 7200, 12), (new, 60, 1), first=old)
            self.assertEqual(self.failed(tree, since=NOW - 7000)["reason"], "some")

    def test_a_writer_that_keeps_the_zone_it_was_started_with_hides_nothing(self):
        for kept, zone in ((0, 9 * HOUR), (9 * HOUR, 0), (19800, 0), (0, -5 * HOUR)):
            self.zone((0, zone))
            reported = self.failed(self.log((kept, 1800, 12), (kept, 62, 1)))
            self.assertEqual((reported["state"], reported.get("count")), ("warning", 13), (kept, zone))
            self.assertNotIn("lower_bound", reported)

    def test_a_last_line_of_another_machine_moves_no_line_of_this_one(self):
        self.zone((0, 2 * HOUR))
        tree = self.log((2 * HOUR, 9000, 12), (2 * HOUR, 600, 1))
        with open(tree.folder + LOG, "a") as file:
            file.write(time.strftime("%b  9 %H:%M:%S", time.gmtime(NOW - 60)) + " router kernel: x\n")
        self.assertEqual(self.failed(tree)["count"], 1)

    def test_a_file_that_is_not_of_its_last_line_moves_nothing(self):
        self.zone((0, 0))
        self.assertEqual(self.failed(self.log((0, 5 * HOUR, 12), age=60.0))["count"], 0)
        self.assertEqual(self.failed(self.log((0, 5 * HOUR + 100, 12), age=60.0))["count"], 0)

    def test_a_line_of_december_is_last_years_in_january(self):
        january = 1767225600.0 + 60  # 2026-01-01 00:01:00 UTC
        tree = Tree(
            self,
            {"stamps": {LOG: [january - 120] * 2 + [9], LOG + ".1": [january - 3e5] * 2 + [9]}},
            epoch=january,
            boottime=9e5,
        )
        tree.write(LOG + ".1", "put away before\n")
        tree.write(LOG, f"Dec 29 00:00:00 nas cron[7]: x\nDec 31 23:59:00 nas sshd[812]: {FAILED}\n")
        self.zone((0, 0))
        self.assertEqual(self.failed(tree)["count"], 1)


if __name__ == "__main__":
    unittest.main()
