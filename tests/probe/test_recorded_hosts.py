"""Recorded machines: the whole reply, and the system tools' own words of the same moment."""

import json
import math
import os
import re
import unittest

from place import HOSTS, probe, read

NAMES = sorted(name for name in os.listdir(HOSTS) if os.path.exists(os.path.join(HOSTS, name, "expected.json")))
TOLD = [name for name in NAMES if os.path.exists(os.path.join(HOSTS, name, "truth"))]
RECORDED = [name for name in NAMES if "recorded from no machine" not in read(name, "HOST.md")]
EVERYTHING = probe.polled_sections()
BETWEEN_BYTES = 64 << 20  # two readings of a machine that writes: some of it is between them


def reply_of(name):
    """Return what the probe says of a recorded machine, with numbers as JSON has them."""
    host = probe.RecordedHost(os.path.join(HOSTS, name))
    request = probe.Request({"id": "recorded", "sections": EVERYTHING})
    return json.loads(json.dumps(probe.clean(probe.Probe(host).answer(request))))


class RecordedHosts(unittest.TestCase):
    """The same tests over every machine; a failure names it."""

    maxDiff = None

    def test_there_are_machines_of_every_kind(self):
        synthetic = {"amd-desktop", "nas-zfs-btrfs", "nvidia-workstation", "raspberry-pi"}
        self.assertEqual(set(NAMES) - set(RECORDED), synthetic)
        self.assertLessEqual({"debian-systemd", "debian-vm", "lxc-container"}, set(RECORDED))

    def test_each_says_whether_it_was_recorded(self):
        for name in NAMES:
            with self.subTest(name):
                words = read(name, "HOST.md").lower()
                self.assertEqual("recorded from" in words and "recorded from no" not in words, name in RECORDED)
                self.assertEqual("synthetic" in words, name not in RECORDED)
                self.assertEqual("made by hand, too" in " ".join(words.split()), name in TOLD and name not in RECORDED)

    def test_the_whole_reply_is_as_expected(self):
        for name in NAMES:
            with self.subTest(name):
                expected = json.loads(read(name, "expected.json"))
                said = reply_of(name)
                for part in ("sections", "missing", "errors", "boot_id", "epoch"):
                    self.assertEqual(said[part], expected[part])

    def test_every_section_is_reported_missing_or_an_error(self):
        for name in NAMES:
            with self.subTest(name):
                said = reply_of(name)
                parts = [set(said[part]) for part in ("sections", "missing", "errors")]
                self.assertEqual(set.union(*parts), set(EVERYTHING))
                self.assertEqual(sum(map(len, parts)), len(EVERYTHING))


def df_rows(name, file):
    """Return what df prints as lists of six words; a source or mountpoint may have spaces in it."""
    line = re.compile(r"(.+?)\s+(\d+)\s+(\d+)\s+(-?\d+)\s+(\d+%|-)\s+(.+)$")
    return [line.match(one).groups() for one in read(name, "truth", file).splitlines()[1:]]


def shown(mountpoint):
    """Return a mountpoint as df prints it."""
    return re.sub(r"[\x00-\x1f]", "?", mountpoint)


class Truth(unittest.TestCase):
    """What `df`, `free`, `uptime` and `ip` said when the machine was recorded, or would say of one made by hand."""

    def each(self):
        for name in TOLD:
            with self.subTest(name):
                self.between = BETWEEN_BYTES if name in RECORDED else 1
                yield name, reply_of(name)["sections"]

    def test_filesystems_equal_df(self):
        for name, sections in self.each():
            rows = df_rows(name, "df.txt")
            sizes = {row[5]: row for row in rows}
            for one in sections["filesystems"]["filesystems"]:
                row = sizes[shown(one["mountpoint"])]
                self.assertEqual(one["total_bytes"], int(row[1]))
                self.assertLess(abs(one["used_bytes"] - int(row[2])), self.between)
                self.assertLess(abs(one["available_bytes"] - int(row[3])), self.between)
                percent = math.ceil(100 * one["used_bytes"] / (one["used_bytes"] + one["available_bytes"]))
                self.assertLessEqual(abs(percent - int(row[4].rstrip("%"))), 1 if name in RECORDED else 0)
            # What is on this machine, each once: df repeats a btrfs for each subvolume that is mounted.
            sources = {row[0] for row in rows if not re.match(r"(devtmpfs|udev|tmpfs|log2ram|none)$|.*:", row[0])}
            reported = [one["device"] for one in sections["filesystems"]["filesystems"]]
            self.assertEqual((len(reported), set(reported)), (len(set(reported)), sources))

    def test_inodes_equal_df(self):
        for name, sections in self.each():
            inodes = {row[5]: row for row in df_rows(name, "df-inodes.txt")}
            for one in sections["filesystems"]["filesystems"]:
                row = inodes[shown(one["mountpoint"])]
                self.assertEqual(one.get("inodes_total", 0), int(row[1]))
                self.assertLess(abs(one.get("inodes_used", 0) - int(row[2])), 2000 if name in RECORDED else 1)

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
                self.assertLess(abs(memory[field + "_bytes"] - truth[column]), self.between, field)
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

    def test_services_are_counted_as_systemctl_lists_them(self):
        for name in ("amd-desktop", "debian-systemd", "nas-zfs-btrfs", "raspberry-pi"):
            with self.subTest(name):
                listed = [line.split(None, 4) for line in read(name, "truth", "systemctl.txt").splitlines()]
                active = [words for words in listed if words[2] == "active"]
                self.assertEqual(reply_of(name)["sections"]["services"]["counts"]["active"], len(active))

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

    def test_a_card_that_does_not_report_its_power_has_none(self):
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


def rows_of(host, section, rows=None):
    """Return the rows of a section's list."""
    return reply_of(host)["sections"][section][rows or section]


class RaspberryPi(unittest.TestCase):
    """A machine without DMI, PCI graphics and pressure."""

    def test_the_device_tree_and_numbers_of_cores_name_it(self):
        reported = reply_of("raspberry-pi")["sections"]["hardware"]
        self.assertEqual((reported["model"], reported["cpu_model"]), ("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76"))
        self.assertEqual([reported[what] for what in ("sockets", "cores", "threads")], [1, 4, 4])
        expected = {
            "path": "platform/axi/1000fff000.mmc/mmc1",
            "model": "SD64G",
            "serial": "0x1a2b3c4d",
            "size_bytes": 63864569856,
            "rotational": False,
        }
        self.assertEqual(reported["disks"], {"mmcblk0": expected})

    def test_the_cpu_is_not_the_warmer_chip_beside_it(self):
        sensors = reply_of("raspberry-pi")["sections"]["sensors"]
        self.assertEqual((sensors["cpu_celsius"], sensors["cpu_critical_celsius"]), (52.4, 110.0))
        self.assertEqual([one["celsius"] for one in sensors["temperatures"]], [52.4, 55.9])
        self.assertEqual(sensors["fans"][0]["rpm"], 3124)

    def test_what_its_kernel_has_switched_off_is_missing_not_zero(self):
        said = reply_of("raspberry-pi")
        self.assertEqual(said["missing"]["pressure"], "not_supported")
        self.assertNotIn("memory_bytes", said["sections"]["services"]["units"][0])
        self.assertEqual(said["missing"]["gpu"], "not_installed")

    def test_a_folder_that_is_mounted_twice_is_no_filesystem(self):
        mountpoints = [row["mountpoint"] for row in rows_of("raspberry-pi", "filesystems")]
        self.assertEqual(mountpoints, ["/", "/boot/firmware"])


class AmdDesktop(unittest.TestCase):
    """Two cards of one maker, and who uses them."""

    def test_a_card_and_the_one_inside_the_cpu(self):
        big, small = rows_of("amd-desktop", "gpu", "gpus")
        self.assertEqual((big["usage_percent"], big["temperature_celsius"], big["power_watts"]), (63, 57.0, 187.0))
        self.assertEqual((big["memory_total_bytes"], big["memory_used_bytes"]), (25753026560, 11832295424))
        self.assertEqual((big["fan_percent"], big["throttle_reasons"]), (33, ["power"]))
        self.assertEqual((small["name"], small["throttle_reasons"]), ("AMD Raphael", []))
        # It lives in the system's memory: what is carved out for it and what it may borrow.
        self.assertEqual(small["memory_total_bytes"], 536870912 + 33241563136)
        for value in ("fan_percent", "fan_rpm", "power_limit_watts"):
            self.assertNotIn(value, small)

    def test_each_process_has_its_memory_once_and_its_owner(self):
        section = reply_of("amd-desktop")["sections"]["gpu_processes"]
        self.assertEqual(section["complete"], {"drm": True})
        rows = {row["name"]: row for row in section["processes"]}
        # Open twice in one process and once in another: one client, 60 MiB of its own and 20 borrowed.
        self.assertEqual(set(rows), {"ollama", "jellyfin-ffmpeg", "gnome-shell"})
        self.assertEqual(rows["gnome-shell"]["memory_bytes"], 80 << 20)
        self.assertEqual(rows["gnome-shell"]["unit"], "user@1000.service/org.gnome.Shell@wayland.service")
        self.assertEqual(rows["jellyfin-ffmpeg"]["memory_bytes"], (20480 + 98304) << 10)
        self.assertEqual(rows["jellyfin-ffmpeg"]["unit"], "jellyfin.service")
        # ROCm counts 8 MiB more than DRM does; system memory is none of the big card's.
        self.assertEqual(rows["ollama"]["memory_bytes"], (9437184 << 10) + (8 << 20))
        self.assertEqual((rows["ollama"]["gpu"], rows["ollama"]["container"][:8]), ("0000:03:00.0", "3b1f0c5d"))

    def test_temperatures_of_cards_are_reported_with_the_cards(self):
        sensors = reply_of("amd-desktop")["sections"]["sensors"]
        self.assertEqual(sensors["cpu_celsius"], 61.1)  # the CPU's own word, not the board's about it
        self.assertNotIn("amdgpu", {one["chip"] for one in sensors["temperatures"]})

    def test_modules_of_memory_are_known_by_their_socket_not_by_a_bus_that_is_counted(self):
        reported = [one["id"] for one in reply_of("amd-desktop")["sections"]["sensors"]["temperatures"]]
        self.assertEqual(reported[-2:], ["spd5118/0000:00:14.0-0051/temp1", "spd5118/0000:00:14.0-0053/temp1"])


class FileServer(unittest.TestCase):
    """ZFS, btrfs, mdraid and LVM, many of them mounted more than once."""

    @classmethod
    def setUpClass(cls):
        cls.sections = reply_of("nas-zfs-btrfs")["sections"]
        cls.rows = {row["mountpoint"]: row for row in cls.sections["filesystems"]["filesystems"]}

    def test_one_row_for_each_filesystem_of_its_own(self):
        zfs = {"/tank", "/tank/backup", "/tank/home videos", "/tank/media"}
        self.assertEqual(set(self.rows), {"/", "/boot/efi", "/mnt/pool", "/srv/old\traid"} | zfs)
        self.assertEqual(self.rows["/tank/home videos"]["device"], "tank/home videos")
        self.assertTrue(self.rows["/tank/backup"]["read_only"])

    def test_a_filesystem_of_several_disks_has_its_id_whichever_disk_it_was_mounted_by(self):
        self.assertEqual(self.rows["/mnt/pool"]["uuid"], "53535353-0000-4000-8000-00000000000b")
        self.assertEqual(self.rows["/srv/old\traid"]["uuid"], "53535353-0000-4000-8000-00000000000c")
        self.assertEqual(self.rows["/"]["uuid"], "53535353-0000-4000-8000-00000000000a")
        self.assertNotIn("uuid", self.rows["/tank"])

    def test_what_is_on_other_machines_is_named_and_left_alone(self):
        away = [{"mountpoint": "/mnt/cloud", "type": "fuse.rclone"}, {"mountpoint": "/mnt/offsite", "type": "nfs4"}]
        self.assertEqual(self.sections["filesystems"]["unwatched"], away)

    def test_a_snapshot_is_reported_to_whoever_watches_it(self):
        host = probe.RecordedHost(os.path.join(HOSTS, "nas-zfs-btrfs"))
        snapshot = "/tank/media/.zfs/snapshot/daily-2025-11-23"
        request = {"id": "1", "sections": ["filesystems"], "watch": {"filesystems": [snapshot]}}
        reply = probe.Probe(host).answer(probe.Request(request))
        rows = {row["mountpoint"]: row for row in reply["sections"]["filesystems"]["filesystems"]}
        self.assertEqual(rows[snapshot]["device"], "tank/media@daily-2025-11-23")

    def test_resting_disks_are_left_asleep_and_solid_state_ones_are_asked(self):
        sensors = self.sections["sensors"]
        self.assertEqual(len(sensors["asleep"]), 7)
        reported = [one["celsius"] for one in sensors["temperatures"] if one["chip"] == "drivetemp"]
        self.assertEqual((reported, sensors["cpu_celsius"]), ([40.0, 41.0], 47.0))

    def test_disks_are_whole_and_real(self):
        self.assertEqual(
            set(self.sections["disk_io"]["disks"]), {"nvme0n1", *("sd" + letter for letter in "abcdefghi")}
        )
        serials = {disk["serial"] for disk in self.sections["hardware"]["disks"].values()}
        self.assertEqual(len(serials), 10)

    def test_a_bond_and_a_bridge_count_and_containers_do_not(self):
        expected = {"enp1s0", "enp2s0", "bond0", "br0"}
        self.assertEqual(
            (set(self.sections["network"]["interfaces"]), self.sections["network"]["primary"]), (expected, "br0")
        )

    def test_what_the_cache_of_zfs_gives_back_is_reported(self):
        self.assertEqual(self.sections["memory"]["zfs_cache_bytes"], 20132659200 - 1048576000)


if __name__ == "__main__":
    unittest.main()
