"""Parsers: pure, from literal lines of kernel files and programs."""

import json
import os
import unittest

from place import ROOT, probe


class Parsers(unittest.TestCase):
    def reported(self, lines):
        visible = probe.visible_mounts(probe.parse_mountinfo(lines)).values()
        return [row.first for row in probe.rows_of(visible, probe.Watched([]), 0, probe.Automounts())]

    def test_guest_time_is_counted_once(self):
        times, cores = probe.parse_stat("cpu  100 20 30 400 50 1 2 3 40 10\ncpu0 100 20 30 400 50 1 2 3 40 10\n", 100)
        self.assertEqual((times["user"], times["nice"]), (1.0, 0.2))
        self.assertEqual(round(sum(times.values()), 2), 6.06)
        # Busy is all but idle and iowait, with guests inside user: 606 - 450 ticks.
        self.assertEqual(cores, [[1.56, 6.06]])

    def test_a_stat_without_cpu_is_unreadable(self):
        with self.assertRaises(probe.Missing) as caught:
            probe.parse_stat("intr 1\n", 100)
        self.assertEqual(caught.exception.reason, "unreadable")

    def test_a_stat_of_an_old_kernel_has_fewer_columns(self):
        times, _ = probe.parse_stat("cpu 1 2 3 4\ncpu0 1 2 3 4\n", 1)
        self.assertEqual(times["steal"], 0)

    def test_meminfo_is_kibibytes(self):
        self.assertEqual(probe.parse_meminfo("MemTotal:  2 kB\nHugePages_Total: 7\n"), {"MemTotal": 2048})

    def test_loadavg(self):
        reported = probe.parse_loadavg("0.13 0.18 0.12 1/86 5288\n")
        self.assertEqual(reported, {"load1": 0.13, "load5": 0.18, "load15": 0.12, "running": 1, "threads": 86})

    def test_a_mountpoint_with_spaces_and_backslashes(self):
        line = "36 35 98:0 / /mnt/my\\040disk\\134x rw,noatime master:1 - ext3 /dev/root rw"
        mount = next(iter(probe.parse_mountinfo(line)))
        self.assertEqual((mount.mountpoint, mount.kind, mount.device), ("/mnt/my disk\\x", "ext3", "98:0"))

    def test_a_mount_hidden_by_a_later_one_on_the_same_place_is_left_out(self):
        lines = "1 0 8:1 / /data rw - ext4 /dev/sda1 rw\n2 0 8:2 / /data rw - ext4 /dev/sdb1 rw"
        self.assertEqual([one.device for one in self.reported(lines)], ["8:2"])

    def test_the_first_mount_of_all_is_its_own_parent_and_hides_nothing(self):
        # A system that runs from its initramfs: rootfs is what `/` is.
        lines = "1 1 0:2 / / rw - rootfs rootfs rw\n20 1 8:1 / /boot rw - vfat /dev/sda1 rw"
        reported = probe.visible_mounts(probe.parse_mountinfo(lines))
        self.assertEqual(sorted(reported), ["/", "/boot"])

    def test_what_is_left_of_a_line_that_was_cut_stands_in_the_place_of_no_other(self):
        for left in ("50 25 0:9 /" + "r" * 32000 + " ", "50 25 0:9 /" + "r" * 32000 + " /srv"):
            mount = probe.parse_mount(left + "\n" + "x" * 900 + " rw - tmpfs t rw")
            self.assertTrue(mount.is_too_deep)
            self.assertNotIn(mount.mountpoint, ("", "/", "/srv"))
        mount = probe.parse_mount("50 25 0:9 / /srv rw - fuse.x " + "s" * 32000 + "\n" + "x" * 900 + " rw")
        self.assertEqual((mount.mountpoint, mount.is_too_deep), ("/srv", False))

    def test_what_lies_below_a_later_mount_is_left_out_as_df_does(self):
        lines = [
            "1 1 0:2 / / rw - rootfs rootfs rw",
            "20 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "30 20 8:2 / /srv/data/photos rw - ext4 /dev/sda2 rw",
            "31 30 8:3 / /srv/data/photos/old rw - ext4 /dev/sda3 rw",
            "32 20 8:4 / /srv/database rw - ext4 /dev/sda4 rw",
            "33 20 8:5 / /srv/data rw - ext4 /dev/sda5 rw",
            "34 33 8:6 / /srv/data/music rw - ext4 /dev/sda6 rw",
        ]
        reported = self.reported("\n".join(lines))
        self.assertEqual([one.mountpoint for one in reported], ["/", "/srv/data", "/srv/data/music", "/srv/database"])
        self.assertEqual(reported[0].device, "8:1")

    def test_a_mountpoint_may_hold_what_unicode_takes_for_the_end_of_a_line(self):
        reported = list(probe.parse_mountinfo("30 20 8:2 / /srv/a\u2028b\x85c\\012d rw - ext4 /dev/sda2 rw\n"))
        self.assertEqual([one.mountpoint for one in reported], ["/srv/a\u2028b\x85c\nd"])

    def test_lines_of_mountinfo_that_make_no_sense_are_skipped(self):
        self.assertEqual(list(probe.parse_mountinfo("\nrubbish\n1 2 3 - x")), [])

    def test_nvidia_smi_fields_that_a_card_lacks(self):
        line = (
            "GPU-1, 00000000:01:00.0, Tesla, 570.1, [N/A], 24576, 412, 41, [Not Supported],"
            " [Unknown Error], [N/A], 210, 405, [N/A]"
        )
        gpu = next(iter(probe.parse_smi(line)))
        self.assertEqual(gpu["memory_total_bytes"], 24576 << 20)
        for field in ("usage_percent", "power_watts", "fan_percent", "throttle_reasons"):
            self.assertNotIn(field, gpu)

    def test_nvidia_smi_says_that_a_card_is_lost(self):
        for words in ("[GPU is lost]", "[GPU requires reset]"):
            line = "GPU-1, 00000000:01:00.0, Tesla, 570.1" + (", " + words) * 10
            self.assertEqual(next(iter(probe.parse_smi(line)))["state"], "lost", words)

    def test_words_that_are_no_card_are_no_card(self):
        self.assertEqual(list(probe.parse_smi("No devices were found\n\nFailed, to, initialize" + ", x" * 12)), [])

    def test_throttling_by_power_is_not_thermal_and_idle_is_none(self):
        self.assertEqual(probe.throttle_reasons(0x1), [])
        self.assertEqual(probe.throttle_reasons(0x4), ["power"])
        self.assertIn("thermal", probe.throttle_reasons(0x20))

    def test_a_template_instance_belongs_to_its_template(self):
        self.assertEqual(probe.template_of("backup@home.service"), "backup@.service")
        self.assertEqual(probe.template_of("backup.service"), "backup.service")

    def test_watched_names_may_be_patterns_and_lack_their_ending(self):
        lines = "nginx.service loaded active running x\nngx-a.service loaded active running y\n"
        listed = list(probe.parse_units(lines))
        chosen = probe.chosen_units(listed, set(), ["ngx-*", "nginx", "absent"])
        self.assertEqual(set(chosen), {"ngx-a.service", "nginx.service", "absent.service"})

    def test_a_name_that_systemctl_would_take_for_an_option_is_not_asked_for(self):
        self.assertEqual(probe.chosen_units([], set(), ["--host=evil", "a b", "$(reboot)"]), {})

    def test_degrees_of_a_loose_wire_are_none(self):
        self.assertIsNone(probe.degrees(-128000))
        self.assertEqual(probe.degrees(52375), 52.4)
        self.assertEqual(probe.degrees(-18500), -18.5)

    def test_default_routes_that_reject_or_are_down_do_not_count(self):
        self.assertTrue(probe.usable_route("0003"))
        self.assertFalse(probe.usable_route("0200"))
        self.assertFalse(probe.usable_route("0201"))

    def test_os_release_quotes(self):
        reported = probe.parse_assignments('ID=debian\nPRETTY_NAME="A \\"B\\""\n# no=thing\nX=\'y z\'\n')
        self.assertEqual(reported, {"ID": "debian", "PRETTY_NAME": 'A "B"', "X": "y z"})

    def test_a_request_that_is_none_is_refused(self):
        for line in (b"", b"[]", b"{}", b'{"id":"a b","sections":[]}', b'{"id":"1","sections":"cpu"}', b"\xff"):
            with self.subTest(line), self.assertRaises(ValueError):
                probe.parse_request(line)

    def test_an_error_is_one_printable_bounded_line(self):
        self.assertEqual(probe.first_line("\n \x1b[31mred\x1b[0m\nmore"), "[31mred [0m")
        self.assertEqual(len(probe.first_line("x" * 9999)), 300)

    def test_the_reason_is_the_line_that_a_program_marks_as_one_else_the_first(self):
        with open(os.path.join(ROOT, "tests", "fixtures", "tools", "reasons.json"), encoding="utf-8") as file:
            rows = json.load(file)
        for row in rows:
            with self.subTest(row["program"]):
                self.assertEqual(probe.reason_in(row["said"]), row["reason"] or probe.first_line(row["said"]))

    def test_bytes_that_are_no_utf8_become_a_reply_that_is_json(self):
        header, _, payload = probe.encode_reply({"id": "1", "name": "caf\udce9"}).partition(b"\n")
        self.assertTrue(header.startswith(b"\x1e1 "))
        self.assertIn(b"\\ufffd", payload)

    def test_a_world_wide_name_is_written_as_lsblk_does(self):
        self.assertEqual(probe.wwn("naa.5000c500a1b2c3d4"), "0x5000c500a1b2c3d4")
        self.assertEqual(probe.wwn("eui.0025388b91b1"), "eui.0025388b91b1")
        self.assertEqual(probe.wwn("t10.ATA     disk"), "")

    def test_an_unquoted_and_a_quoted_value_of_os_release(self):
        text = 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\nNAME=\'It is one\'\nHOME_URL="\n# A=b\n'
        reported = probe.parse_assignments(text)
        self.assertEqual(
            reported, {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12", "NAME": "It is one", "HOME_URL": '"'}
        )

    def test_numbers_that_systemd_does_not_know_are_left_out_of_a_service(self):
        one = next(iter(probe.parse_units("backup.service loaded failed failed Backup\n")))
        known = {"Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0", "MainPID": "0"}
        row = probe.unit_row(probe.Host(), one, known, "admin")
        self.assertEqual((row["exit_status"], row["restarts"], row["result"]), (2, 0, "exit-code"))
        self.assertNotIn("main_pid", row)
        row = probe.unit_row(
            probe.Host(), one, {"ExecMainStatus": "[not set]", "NRestarts": "3", "MainPID": "812"}, "admin"
        )
        self.assertEqual((row["restarts"], row["main_pid"]), (3, 812))
        self.assertNotIn("exit_status", row)


if __name__ == "__main__":
    unittest.main()
