"""What never answers costs only its own section, and heals by itself."""

import os
import re
import threading
import time
import unittest

from place import HOSTS, has_ended, probe


class HangingHost(probe.RecordedHost):
    """A recorded machine of which some mountpoints and programs hang until `heal` is set."""

    def __init__(self, mountpoints=(), programs=()):
        super().__init__(os.path.join(HOSTS, "nvidia-workstation"))
        self.mountpoints = mountpoints
        self.programs = programs
        self.asked = []
        self.heal = threading.Event()

    def statvfs(self, path, mount, *args):
        self.asked.append(path)
        if path in self.mountpoints:
            self.heal.wait(30)
        return super().statvfs(path, mount, *args)

    def run(self, argv, timeout, tail=False, wanted=None):
        self.asked.append(argv[0])
        if argv[0] in self.programs:
            self.heal.wait(30)
        return super().run(argv, timeout)


def ask(one, *sections, **more):
    return one.answer(probe.Request(dict({"id": "1", "sections": list(sections)}, **more)))


class Hanging(unittest.TestCase):
    def test_a_program_that_never_answers_leaves_the_others_on_time(self):
        host = HangingHost(programs=("systemctl",))
        one = probe.Probe(host)
        begun = time.monotonic()
        reply = ask(one, "cpu", "services", "filesystems", timeout=1)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(reply["missing"], {"services": "timed_out"})
        self.assertEqual(set(reply["sections"]), {"cpu", "filesystems"})
        # It is not asked again while it has not come back …
        reply = ask(one, "services", timeout=1)
        self.assertEqual(reply["missing"], {"services": "timed_out"})
        self.assertEqual(host.asked.count("systemctl"), 1)
        # … and works again when it has.
        host.programs = ()
        host.heal.set()
        time.sleep(0.3)
        self.assertIn("services", ask(one, "services", timeout=5)["sections"])

    def test_collectors_that_are_quick_run_one_after_the_other_and_slow_ones_side_by_side(self):
        """Python's threads take twice the CPU time when they run side by side."""
        one = probe.Probe(probe.RecordedHost(os.path.join(HOSTS, "nvidia-workstation")))
        running, most = [], []

        def collector(name, seconds):
            def read(host, request, memo):
                running.append(name)
                most.append(len(running))
                time.sleep(seconds)
                running.remove(name)
                return {}

            return probe.Collector(name, read, 5)

        self.addCleanup(setattr, probe, "TURN_SECONDS", probe.TURN_SECONDS)
        for seconds, turn, side_by_side in ((0.001, 5, 1), (1, 0.02, 4)):
            probe.TURN_SECONDS = turn  # 20 ms may pass in between on a busy machine
            one.collectors = {name: collector(name, seconds) for name in "abcd"}
            one.memos, one.workers = {name: {} for name in "abcd"}, {}
            del most[:]
            begun = time.monotonic()
            self.assertEqual(len(ask(one, *"abcd")["sections"]), 4)
            self.assertEqual(max(most), side_by_side)
            self.assertLess(time.monotonic() - begun, 3)

    def test_a_mount_that_hangs_is_named_and_the_others_are_reported(self):
        host = HangingHost(mountpoints=("/boot/efi",))
        one = probe.Probe(host)
        begun = time.monotonic()
        section = ask(one, "filesystems")["sections"]["filesystems"]
        self.assertLess(time.monotonic() - begun, 5)
        self.assertEqual([row["mountpoint"] for row in section["filesystems"]], ["/", "/srv/my media"])
        self.assertEqual((section["late"], section["complete"]), (["/boot/efi"], {"mounts": False}))
        begun = time.monotonic()
        self.assertEqual(ask(one, "filesystems")["sections"]["filesystems"]["late"], ["/boot/efi"])
        self.assertLess(time.monotonic() - begun, 0.9)
        self.assertEqual(host.asked.count("/boot/efi"), 1)
        host.mountpoints = ()
        host.heal.set()
        time.sleep(0.3)
        section = ask(one, "filesystems")["sections"]["filesystems"]
        self.assertEqual((len(section["filesystems"]), section["complete"]), (3, {"mounts": True}))

    def test_what_answers_after_it_was_given_up_answers_nobody(self):
        heal = threading.Event()
        self.addCleanup(heal.set)
        asking = probe.Round(["nas", "next"], lambda name: heal.wait(30))
        asking.wait(time.monotonic())
        self.assertEqual(asking.left(), ["nas", "next"])
        heal.set()
        self.assertTrue(has_ended(asking))
        self.assertEqual((asking.answers, asking.left()), ({}, ["nas", "next"]))

    def test_a_real_child_that_hangs_is_killed_with_its_children_and_reaped(self):
        unreaped = []
        begun = time.monotonic()
        marker = f"86399.{os.getpid()}"
        with self.assertRaises(probe.Late):
            probe.run_child(["sh", "-c", f"sleep {marker} & sleep {marker}"], 0.5, unreaped)
        self.assertLess(time.monotonic() - begun, 3)
        time.sleep(0.2)
        self.assertEqual(commands_with(marker), [])
        self.assertEqual([child for child in unreaped if child.poll() is None], [])

    def test_a_child_that_floods_is_bounded(self):
        begun = time.monotonic()
        try:
            _, output, _ = probe.run_child(["sh", "-c", "yes"], 1.0, [])
            self.assertLessEqual(len(output), 4 * probe.OUTPUT_BYTES)
        except (probe.Late, probe.Broken):
            pass
        self.assertLess(time.monotonic() - begun, 4)

    def test_of_too_much_the_beginning_is_kept_or_the_end(self):
        with self.assertRaises(probe.TooLong) as raised:
            probe.run_child(["seq", "1", "1000000"], 20.0, [])
        told = {False: raised.exception.result, True: probe.run_child(["seq", "1", "1000000"], 20.0, [], True)}
        for tail, (status, output, _) in told.items():
            self.assertEqual(status, 0)
            self.assertLessEqual(len(output), probe.OUTPUT_BYTES + (64 << 10))
            self.assertEqual(output.startswith("1\n2\n"), not tail)
            self.assertEqual(output.endswith("\n1000000\n"), tail)

    def test_only_what_is_cut_off_is_too_long(self):
        full = f"head -c {probe.OUTPUT_BYTES} /dev/zero"
        self.assertEqual(len(probe.run_child(["sh", "-c", full], 20.0, [])[1]), probe.OUTPUT_BYTES)
        noisy = "seq 1 1000000 >&2; echo well"
        self.assertEqual(probe.run_child(["sh", "-c", noisy], 20.0, [])[:2], (0, "well\n"))
        sifted = probe.run_child(["seq", "1", "1000000"], 20.0, [], wanted=re.compile(b"^777777$"))
        self.assertEqual(sifted[:2], (0, "777777\n"))

    def test_nobody_takes_the_beginning_of_what_a_program_says_for_the_whole(self):
        """Each program of a recorded machine ends with so much that the rest of its answer is not read."""

        class Cut(probe.RecordedHost):
            def run(self, argv, timeout, tail=False, wanted=None):
                told = super().run(argv, timeout, tail, wanted)
                if tail:
                    return told
                raise probe.TooLong(argv[0], told)

        for name in sorted(os.listdir(HOSTS)):
            with self.subTest(name):
                host = Cut(os.path.join(HOSTS, name))
                names = ("services", "updates", "security", "system", "interfaces", "gpu")
                reply = ask(probe.Probe(host), *names)
                told = reply["sections"]
                self.assertIn("system", told)
                self.assertFalse(told.get("services", {}).get("complete", {}).get("systemd"))
                self.assertNotIn("pending", told.get("updates", {}))
                parts = told.get("security", {})
                for part in ("firewall", "failed_logins", "automatic_updates"):
                    if part in parts and parts[part].get("source") != "btmp":
                        self.assertNotEqual(parts[part]["state"], "ok", part)

    def test_a_collector_that_breaks_is_an_error_of_its_section_alone(self):
        host = HangingHost()
        host.record = dict(host.record, run={})
        reply = ask(probe.Probe(host), "load", "services", "gpu")
        self.assertEqual(set(reply["sections"]), {"load"})
        self.assertEqual(set(reply["errors"]), {"services", "gpu"})
        self.assertIn("nvidia-smi", reply["errors"]["gpu"])


def commands_with(word):
    """Return the command lines that hold a word."""
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    line = file.read()
            except OSError:
                continue
            if word in line:
                found.append(line)
    return found


if __name__ == "__main__":
    unittest.main()
