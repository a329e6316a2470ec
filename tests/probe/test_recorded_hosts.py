"""Recorded machines: the whole reply, and the system tools' own words of the same moment."""

import json
import os
import unittest

from place import HOSTS, probe, read

NAMES = sorted(name for name in os.listdir(HOSTS) if os.path.exists(os.path.join(HOSTS, name, "expected.json")))
RECORDED = [name for name in NAMES if os.path.exists(os.path.join(HOSTS, name, "truth"))]
EVERYTHING = probe.polled_sections()


def reply_of(name):
    """Return what the probe says of a recorded machine, with numbers as JSON has them."""
    host = probe.RecordedHost(os.path.join(HOSTS, name))
    request = probe.Request({"id": "recorded", "sections": EVERYTHING})
    return json.loads(json.dumps(probe.clean(probe.Probe(host).answer(request))))


class RecordedHosts(unittest.TestCase):
    """The same tests over every machine; a failure names it."""

    maxDiff = None

    def test_there_is_a_virtual_machine_a_container_and_a_workstation(self):
        self.assertLessEqual({"debian-vm", "lxc-container", "nvidia-workstation"}, set(NAMES))

    def test_each_says_whether_it_was_recorded(self):
        for name in NAMES:
            with self.subTest(name):
                words = read(name, "HOST.md").lower()
                self.assertEqual("recorded from" in words and "recorded from no" not in words, name in RECORDED)
                self.assertEqual("synthetic" in words, name not in RECORDED)

    def test_the_whole_reply_is_as_expected(self):
        for name in NAMES:
            with self.subTest(name):
                expected = json.loads(read(name, "expected.json"))
                said = reply_of(name)
                for part in ("sections", "missing", "errors", "boot_id", "epoch"):
                    self.assertEqual(said[part], expected[part])

    def test_every_section_is_told_missing_or_an_error(self):
        for name in NAMES:
            with self.subTest(name):
                said = reply_of(name)
                parts = [set(said[part]) for part in ("sections", "missing", "errors")]
                self.assertEqual(set.union(*parts), set(EVERYTHING))
                self.assertEqual(sum(map(len, parts)), len(EVERYTHING))


class Truth(unittest.TestCase):
    """What `df`, `free`, `uptime` and `ip` said when the machine was recorded."""

    def each(self):
        for name in RECORDED:
            with self.subTest(name):
                yield name, reply_of(name)["sections"]

    def test_filesystems_equal_df(self):
        for name, sections in self.each():
            rows = [line.split(None, 5) for line in read(name, "truth", "df.txt").splitlines()[1:]]
            sizes = {row[5]: row for row in rows}
            for one in sections["filesystems"]["filesystems"]:
                row = sizes[one["mountpoint"]]
                self.assertEqual(one["total_bytes"], int(row[1]))
                # Two readings of a machine that writes: some of it is between them.
                self.assertLess(abs(one["used_bytes"] - int(row[2])), 64 << 20)
                self.assertLess(abs(one["available_bytes"] - int(row[3])), 64 << 20)
                percent = 100 * one["used_bytes"] / (one["used_bytes"] + one["available_bytes"])
                self.assertLessEqual(abs(percent - int(row[4].rstrip("%"))), 1)
            data = {row[5] for row in rows if row[0] not in ("devtmpfs", "tmpfs", "none")}
            self.assertEqual({one["mountpoint"] for one in sections["filesystems"]["filesystems"]}, data)

    def test_inodes_equal_df(self):
        for name, sections in self.each():
            rows = [line.split(None, 5) for line in read(name, "truth", "df-inodes.txt").splitlines()[1:]]
            inodes = {row[5]: row for row in rows}
            for one in sections["filesystems"]["filesystems"]:
                row = inodes[one["mountpoint"]]
                self.assertEqual(one["inodes_total"], int(row[1]))
                self.assertLess(abs(one["inodes_used"] - int(row[2])), 2000)

    def test_memory_equals_free(self):
        for name, sections in self.each():
            lines = [line.split() for line in read(name, "truth", "free.txt").splitlines()]
            truth = dict(zip(lines[0], map(int, lines[1][1:])))
            memory = sections["memory"]
            self.assertEqual(memory["total_bytes"], truth["total"])
            for field, column in (
                ("free", "free"),
                ("available", "available"),
                ("buffers", "buffers"),
                ("cached", "cache"),
            ):
                self.assertLess(abs(memory[field + "_bytes"] - truth[column]), 64 << 20, field)
            self.assertEqual(memory["swap_total_bytes"], int(lines[2][1]))

    def test_load_equals_uptime(self):
        for name, sections in self.each():
            words = read(name, "truth", "uptime.txt").rpartition("load average:")[2].split(",")
            for field, word in zip(("load1", "load5", "load15"), words):
                self.assertLess(abs(sections["load"][field] - float(word)), 0.2)

    def test_interfaces_and_the_primary_one_equal_ip(self):
        for name, sections in self.each():
            links = {link["ifname"]: link for link in json.loads(read(name, "truth", "ip-addr.txt"))}
            routes = json.loads(read(name, "truth", "ip-route.txt"))
            default = [route["dev"] for route in routes if route["dst"] == "default"]
            self.assertEqual(sections["network"].get("primary"), default[0] if default else None)
            for interface, hardware in sections["hardware"]["interfaces"].items():
                self.assertIn(interface, links)
                if "mac" in hardware:
                    self.assertEqual(hardware["mac"], links[interface]["address"])

    def test_processors_equal_lscpu(self):
        for name, sections in self.each():
            fields = json.loads(read(name, "truth", "lscpu.txt"))["lscpu"]
            truth = {field["field"]: field["data"] for field in fields}
            self.assertIn(truth["Architecture:"], sections["system"]["architecture"])
            self.assertIn(truth["Model name:"], sections["hardware"]["cpu_model"])

    def test_services_equal_systemctl(self):
        listed = [line.split(None, 4) for line in read("debian-systemd", "truth", "systemctl.txt").splitlines()]
        truth = {words[0]: words[1:4] for words in listed if words[1] == "loaded" or words[2] != "inactive"}
        section = reply_of("debian-systemd")["sections"]["services"]
        states = [active for _, active, _ in truth.values()]
        self.assertEqual(section["counts"], dict({state: states.count(state) for state in states}, total=len(truth)))
        shown = {unit["name"]: unit for unit in section["units"]}
        expected = {"webapp.service", "broken.service", "backup@home.service", "spare.service"}
        self.assertEqual(set(shown), expected)
        for name in expected - {"spare.service"}:
            said = [shown[name][field] for field in ("load_state", "active_state", "sub_state")]
            self.assertEqual(said, truth[name])
        # Never started, so systemd does not have it in memory, and nobody makes it load it.
        self.assertNotIn("spare.service", truth)
        self.assertEqual(shown["spare.service"]["active_state"], "inactive")
        self.assertEqual(shown["broken.service"]["exit_status"], 1)


class Workstation(unittest.TestCase):
    """What is easily got wrong on a machine with everything."""

    @classmethod
    def setUpClass(cls):
        cls.sections = reply_of("nvidia-workstation")["sections"]

    def test_each_filesystem_counts_once_and_keeps_the_spaces_of_its_name(self):
        rows = self.sections["filesystems"]["filesystems"]
        self.assertEqual([row["mountpoint"] for row in rows], ["/", "/boot/efi", "/srv/my media"])
        self.assertEqual(rows[2]["uuid"], "22222222-2222-4222-8222-222222222222")

    def test_network_filesystems_are_named_and_left_alone(self):
        self.assertEqual(self.sections["filesystems"]["unwatched"], [{"mountpoint": "/mnt/nas", "type": "nfs4"}])

    def test_interfaces_of_containers_do_not_count(self):
        self.assertEqual(set(self.sections["network"]["interfaces"]), {"enp5s0", "wlp6s0", "wg0"})

    def test_partitions_and_mappings_are_no_disks(self):
        self.assertEqual(set(self.sections["disk_io"]["disks"]), {"sda", "nvme0n1"})

    def test_an_unconnected_input_is_left_out_and_a_fan_that_stands_is_zero(self):
        labels = [one["label"] for one in self.sections["sensors"]["temperatures"]]
        self.assertNotIn("AUXTIN0", labels)
        self.assertEqual(self.sections["sensors"]["fans"][0]["rpm"], 0)
        self.assertEqual(self.sections["sensors"]["cpu_celsius"], 52.4)

    def test_a_card_that_does_not_tell_its_power_has_none(self):
        big, small = self.sections["gpu"]["gpus"]
        self.assertEqual(big["power_watts"], 214.55)
        self.assertEqual(big["throttle_reasons"], ["power"])
        self.assertNotIn("power_watts", small)
        self.assertEqual(small["usage_percent"], 0)

    def test_units_of_the_administrator_and_failed_ones_are_shown(self):
        units = {unit["name"]: unit for unit in self.sections["services"]["units"]}
        self.assertEqual(set(units), {"backup.service", "ollama.service", "fwupd-refresh.service"})
        self.assertEqual(units["ollama.service"]["origin"], "admin")
        self.assertEqual(units["fwupd-refresh.service"]["origin"], "package")
        self.assertNotIn("memory_bytes", units["fwupd-refresh.service"])  # the sentinel 2^64 - 1 is no size
        self.assertEqual(self.sections["services"]["counts"]["failed"], 1)

    def test_what_nobody_filled_in_is_no_maker(self):
        self.assertNotIn("vendor", self.sections["hardware"])
        self.assertEqual(self.sections["hardware"]["cores"], 8)


if __name__ == "__main__":
    unittest.main()
