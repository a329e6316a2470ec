"""What a living probe remembers: a day of its clock, in which nothing that it reported may get lost."""

import json
import os
import unittest

from place import HOSTS, costly, probe

NAMES = sorted(name for name in os.listdir(HOSTS) if os.path.exists(os.path.join(HOSTS, name, "expected.json")))
DAY_SECONDS = 86400.0
STEPS = (10.0, 10.0, 9.9, 0.1, 30.0, 61.0, 250.0, 599.9, 0.1, 600.0, 601.0, 3600.0)
"""Ordinary polls, and what lies just before, at and beyond the ages at which things are read anew."""


class MovedHost(probe.RecordedHost):
    """A recorded machine whose clock a test moves."""

    def __init__(self, name):
        super().__init__(os.path.join(HOSTS, name))
        self.moved = 0.0

    def boottime(self):
        return super().boottime() + self.moved

    def epoch(self):
        return super().epoch() + self.moved


def shape(value):
    """Return what there is without how much of it: the keys of objects, and each thing of a list."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__ if not isinstance(value, (int, float)) else "number"


class ADay(unittest.TestCase):
    """Every recorded machine, asked for everything for 24 hours by one probe."""

    maxDiff = None

    @costly
    def test_the_last_reply_reports_all_that_the_first_reported(self):
        for name in NAMES:
            with self.subTest(name):
                host = MovedHost(name)
                living = probe.Probe(host)
                first = self.reported(living)
                number, sizes = 0, []
                while host.moved < DAY_SECONDS:
                    host.moved += STEPS[number % len(STEPS)]
                    number += 1
                    now = self.reported(living)
                    for _ in range(3 if now != first else 0):
                        # On a busy machine a program is late now and then; what got lost stays so.
                        now = self.reported(living) if now != first else now
                    for part in ("missing", "errors", "sections"):
                        self.assertEqual(now[part], first[part], f"{host.moved} s: {part}")
                    if number % len(STEPS) == 0:
                        sizes.append(sum(len(repr(memo)) for memo in living.memos.values()))
                self.assertLessEqual(max(sizes), sizes[0] * 1.1 + 200, "what is remembered does not grow")

    def reported(self, living):
        # A new one each time: what it may cost counts from when it was made.
        request = probe.Request({"id": "day", "sections": probe.polled_sections()})
        reply = json.loads(json.dumps(probe.clean(living.answer(request))))
        return {part: shape(reply[part]) for part in ("sections", "missing", "errors")}


class Remembered(unittest.TestCase):
    """The one place in which things that hardly change are remembered."""

    def setUp(self):
        self.reads = []

    def read(self, value):
        self.reads.append(value)
        if isinstance(value, Exception):
            raise value
        return value

    def test_it_is_read_once_until_it_is_old(self):
        one = probe.Remembered(10.0)
        reported = [one.get(now, None, lambda now=now: self.read(now)) for now in (100.0, 109.9, 110.0, 119.0)]
        self.assertEqual(reported, [100.0, 100.0, 110.0, 110.0])

    def test_it_is_read_again_when_what_it_hangs_on_is_another(self):
        one = probe.Remembered(10.0)
        reported = [one.get(100.0, key, lambda key=key: self.read(key)) for key in ("a", "a", "b", "a")]
        self.assertEqual(reported, ["a", "a", "b", "a"])
        self.assertEqual(self.reads, ["a", "b", "a"])

    def test_a_reading_that_fails_is_not_remembered(self):
        one = probe.Remembered(10.0)
        one.get(100.0, None, lambda: self.read("old"))
        with self.assertRaises(OSError):
            one.get(110.0, None, lambda: self.read(OSError()))
        self.assertEqual(one.get(110.0, None, lambda: self.read("new")), "new")

    def test_each_name_is_read_once_and_all_of_them_again_when_they_are_old(self):
        each = probe.RememberedEach(10.0)
        for now, names in ((100.0, "ab"), (105.0, "abc"), (109.0, "c"), (110.0, "ca"), (111.0, "ca"), (121.0, "")):
            reported = each.each(now, names, self.read)
            self.assertEqual(reported, {name: name for name in names}, now)
        self.assertEqual("".join(self.reads), "abcca")

    def test_names_that_come_and_go_do_not_put_off_the_reading_of_the_others(self):
        each = probe.RememberedEach(10.0)
        for number in range(30):
            each.each(100.0 + number, ("stays", f"veth{number}"), self.read)
        self.assertEqual(self.reads.count("stays"), 3)
        self.assertEqual(len(each.value), 2)


if __name__ == "__main__":
    unittest.main()
