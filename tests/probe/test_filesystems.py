"""Which filesystems are reported, and by which of their mounts: recorded mount lists, and real ones in a namespace."""

import json
import os
import tempfile
import threading
import time
import unittest

from place import costly, has_ended, probe
from tree import Tree

ROOT = "25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
SIZES = [4096, 1000, 500, 400, 10, 5]
FULL = [4096, 1000, 0, 0, 10, 5]


class Told(unittest.TestCase):
    """A machine of a list of mounts, each of which answers with sizes of its own."""

    def machine(self, lines, root=ROOT, **told):
        tree = Tree(self, dict({"statvfs": {}, "uid": 0}, **told))
        tree.write("/proc/self/mountinfo", root + lines)
        places = [mount.mountpoint for mount in probe.parse_mountinfo(root + lines)]
        for place in places:
            tree.told["statvfs"].setdefault(place, SIZES)
        tree.save()
        return tree

    def section(self, host, watched=(), one=None):
        request = {"id": "1", "sections": ["filesystems"], "watch": {"filesystems": list(watched)}}
        reply = (one or probe.Probe(host)).answer(probe.Request(request))
        self.assertEqual((reply["missing"], reply["errors"]), ({}, {}))
        return reply["sections"]["filesystems"]

    def rows(self, lines, watched=(), **told):
        host = self.machine(lines, **told).host()
        return {row["mountpoint"]: row for row in self.section(host, watched)["filesystems"]}


class Visible(unittest.TestCase):
    def test_of_mounts_on_each_other_the_one_without_another_on_it_is_seen_whatever_their_order(self):
        lines = [
            "25 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "30 40 8:2 / /x rw - btrfs /dev/sda2 rw",  # moved onto the next one
            "40 25 0:50 / /x rw - tmpfs tmpfs rw",
            "41 40 0:51 / /x/lower rw - tmpfs tmpfs rw",  # below what was moved onto its parent
            "42 30 0:52 / /x/upper rw - tmpfs tmpfs rw",
        ]
        for told in (lines, lines[::-1]):
            found = probe.visible_mounts(probe.parse_mountinfo("\n".join(told) + "\n"))
            self.assertEqual({place: one.id for place, one in found.items()}, {"/": "25", "/x": "30", "/x/upper": "42"})


class Named(Told):
    def test_who_mounts_with_fuse_cannot_name_the_device_of_another_filesystem(self):
        # What is known by the same UUID is the same filesystem, with its history.
        fuse = "40 25 0:40 / /home/eve/x rw - fuse.mergerfs /dev/sda1 rw,user_id=1001,group_id=1001,allow_other\n"
        tree = self.machine(fuse)
        tree.link("/dev/disk/by-uuid/1111-2222", "../../sda1")
        rows = {row["mountpoint"]: row for row in self.section(tree.host(), ["/home/eve/x"])["filesystems"]}
        self.assertEqual(
            {place: row.get("uuid") for place, row in rows.items()}, {"/": "1111-2222", "/home/eve/x": None}
        )


class ReadOnly(Told):
    def test_a_place_that_may_not_be_written_makes_no_filesystem_read_only(self):
        for place, itself, is_read_only in (
            ("ro", "rw", False),
            ("rw", "ro", True),
            ("ro", "ro", True),
            ("rw", "rw", False),
        ):
            line = f"26 25 8:2 / /data {place},relatime - ext4 /dev/sdb1 {itself},errors=remount-ro\n"
            with self.subTest(line):
                self.assertIs(self.rows(line)["/data"]["read_only"], is_read_only)

    def test_a_filesystem_that_the_kernel_made_read_only_is_distinguished_from_one_that_is_mounted_so(self):
        booted = 1760000000 - 1000
        for place, options, errors, is_read_only, by_error in (
            ("rw", "rw,errors=remount-ro", {}, False, False),
            ("rw", "ro,errors=remount-ro", {}, True, False),
            ("ro", "ro", {"errors_count": "0\n", "last_error_time": "0\n"}, True, False),
            ("rw", "ro", {"errors_count": "0\n", "last_error_time": "0\n"}, True, False),
            # The superblock remembers errors over boots, until e2fsck has seen to them.
            ("ro", "ro", {"errors_count": "3\n", "last_error_time": f"{booted - 86400}\n"}, True, False),
            ("ro", "ro,errors=remount-ro", {"errors_count": "3\n", "last_error_time": f"{booted + 500}\n"}, True, True),
            ("rw", "ro,errors=remount-ro", {"errors_count": "3\n", "last_error_time": f"{booted + 500}\n"}, True, True),
            ("rw", "rw,errors=continue", {"errors_count": "3\n", "last_error_time": f"{booted + 500}\n"}, False, False),
            # Linux 6.15: it stays `rw` and refuses to be written (fs/ext4/super.c).
            ("rw", "rw,errors=remount-ro,emergency_ro", {}, True, True),
            ("rw", "rw,shutdown", {}, True, True),
        ):
            with self.subTest(place=place, options=options, errors=errors):
                self.assertEqual(self.ext4(place, options, errors), (is_read_only, by_error))

    def ext4(self, place, options, errors, **clocks):
        """Return whether a filesystem is read-only, and by an error, by the options of its place and its own."""
        tree = self.machine(f"26 25 8:17 / /data {place},relatime - ext4 /dev/mapper/data {options}\n")
        tree.told["clocks"].update(clocks)
        tree.save()
        tree.write("/sys/dev/block/8:17/uevent", "DEVNAME=dm-3\n")
        tree.files("/sys/fs/ext4/dm-3", **errors)
        row = next(one for one in self.section(tree.host())["filesystems"] if one["mountpoint"] == "/data")
        return row["read_only"], row.get("read_only_by_error", False)

    def test_an_error_lasts_when_the_clock_is_set(self):
        # Booted with the time that fake-hwclock(8) saved three weeks ago; an error after 20 s; then NTP sets the clock.
        saved, now = 1760000000.0 - 21 * 86400, 1760000000.0
        error = {"errors_count": "1\n", "last_error_time": f"{int(saved) + 20}\n"}
        for epoch, boottime in ((saved + 40, 40.0), (now, 60.0), (now + 600, 660.0), (60.0, 60.0)):
            with self.subTest(epoch=epoch):
                told = self.ext4("rw", "ro,errors=remount-ro", error, epoch=epoch, boottime=boottime)
                self.assertEqual(told, (True, True))

    def test_an_error_of_an_earlier_boot_is_none_of_this_one_because_the_clock_is_behind(self):
        error = {"errors_count": "1\n", "last_error_time": f"{1760000000 - 30 * 86400}\n"}
        told = self.ext4("ro", "ro,errors=remount-ro", error, epoch=60.0, boottime=60.0)
        self.assertEqual(told, (True, False))

    def test_a_word_of_whoever_mounted_it_is_no_error_of_the_kernels(self):
        fuse = "40 25 0:40 / /data rw - fuse.mergerfs a:b rw,user_id=0,group_id=0,allow_other,emergency_ro,shutdown\n"
        row = self.rows(fuse)["/data"]
        self.assertEqual((row["read_only"], row.get("read_only_by_error")), (False, None))

    def test_the_mount_that_names_a_filesystem_is_the_same_whoever_may_write_where(self):
        # CoreOS: the system is mounted read-only at /sysroot, and what may be written of it somewhere below /.
        lines = (
            "26 25 8:2 / /sysroot ro,relatime - xfs /dev/sdb4 rw\n"
            "27 25 8:2 /ostree/deploy/fedora-coreos/var /var rw,relatime - xfs /dev/sdb4 rw\n"
        )
        rows = self.rows(lines)
        self.assertEqual(set(rows), {"/", "/sysroot"})
        self.assertFalse(rows["/sysroot"]["read_only"])


NFS = "{0} 25 0:{1} / {2} rw,relatime - nfs4 nas:{2} rw,vers=4.2,addr=192.0.2.9\n"


class Chosen(Told):
    def test_two_exports_that_share_a_device_are_both_reported_where_both_are_chosen(self):
        lines = NFS.format(26, 50, "/mnt/films") + NFS.format(27, 50, "/mnt/music")
        self.assertEqual(set(self.rows(lines, ["/mnt/films", "/mnt/music"])), {"/", "/mnt/films", "/mnt/music"})
        for chosen, other in (("/mnt/films", "/mnt/music"), ("/mnt/music", "/mnt/films")):
            told = self.section(self.machine(lines).host(), [chosen])
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", chosen])
            self.assertEqual(told["unwatched"], [{"mountpoint": other, "type": "nfs4"}])

    def test_a_part_of_a_local_filesystem_is_reported_beside_it_where_it_is_chosen(self):
        lines = (
            "26 25 0:30 /@data /srv rw,relatime - btrfs /dev/sdb1 rw,subvol=/@data\n"
            "27 25 0:30 /@home /home rw,relatime - btrfs /dev/sdb1 rw,subvol=/@home\n"
            "28 25 8:3 / /xfs rw,relatime - xfs /dev/sdc1 rw,prjquota\n"
            "29 25 8:3 /projects/web /var/www rw,relatime - xfs /dev/sdc1 rw,prjquota\n"
        )
        self.assertEqual(set(self.rows(lines)), {"/", "/srv", "/xfs"})
        # The quota of a project is what statfs(2) tells in its folder.
        sizes = {"/xfs": SIZES, "/var/www": [4096, 100, 10, 10, 5, 1]}
        rows = self.rows(lines, ["/home", "/var/www"], statvfs=sizes)
        self.assertEqual(set(rows), {"/", "/srv", "/home", "/xfs", "/var/www"})
        self.assertEqual((rows["/xfs"]["total_bytes"], rows["/var/www"]["total_bytes"]), (4096000, 409600))

    def test_what_is_chosen_and_reported_anyway_is_reported_once(self):
        lines = "26 25 8:2 / /srv rw - ext4 /dev/sdb1 rw\n27 25 8:3 /a /data rw - ext4 /dev/sdc1 rw\n"
        for chosen in (["/", "/srv", "/data"], ["*"], ["/srv", "/srv/", "/s*", "/data", "/dat?"]):
            told = self.section(self.machine(lines).host(), chosen)
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/data", "/srv"])
            self.assertEqual((told["complete"], told.get("late")), ({"mounts": True}, None))

    def test_what_is_chosen_is_asked_and_late_once(self):
        asked = []

        class Counting(probe.RecordedHost):
            def statvfs(self, path, mount, *args):
                asked.append(path)
                if path == "/data":
                    raise OSError("stale")
                return super().statvfs(path, mount, *args)

        lines = "26 25 8:2 / /srv rw - ext4 /dev/sdb1 rw\n27 25 8:3 /a /data rw - ext4 /dev/sdc1 rw\n"
        told = self.section(Counting(self.machine(lines).folder), ["/srv", "/data"])
        self.assertEqual((asked.count("/srv"), told["late"]), (1, ["/data"]))

    def test_the_root_of_a_machine_without_disks_is_reported_and_not_offered(self):
        root = "25 1 0:20 / / rw,relatime - nfs4 nas:/root rw\n"
        told = self.section(self.machine("", root=root).host())
        self.assertEqual(([row["mountpoint"] for row in told["filesystems"]], told.get("unwatched")), (["/"], None))

    def test_patterns_and_a_slash_at_the_end_choose(self):
        lines = NFS.format(26, 50, "/mnt/films") + NFS.format(27, 51, "/mnt/music") + NFS.format(28, 52, "/srv/nas")
        lines += "29 25 0:60 / /mnt/ramdisk rw - tmpfs tmpfs rw\n30 25 0:61 / /mnt/auto rw - autofs a rw,timeout=1\n"
        for chosen, told in (
            (["/mnt/*"], {"/mnt/films", "/mnt/music", "/mnt/ramdisk"}),
            (["/mnt/m*"], {"/mnt/music"}),
            (["*/films", "/srv/na[st]"], {"/mnt/films", "/srv/nas"}),
            (["/mnt/????s"], {"/mnt/films"}),
            (["/mnt/films/"], {"/mnt/films"}),
            (["/mnt/films//", "/", ""], {"/mnt/films"}),
            (["/mnt/films/*", "/MNT/*", "mnt", "[z-a]", "/mnt"], set()),
        ):
            with self.subTest(chosen):
                self.assertEqual(set(self.rows(lines, chosen)) - {"/"}, told)

    def test_a_name_with_the_marks_of_a_pattern_is_a_name_too(self):
        lines = NFS.format(26, 50, "/mnt/[old]") + NFS.format(27, 51, "/mnt/o")
        self.assertEqual(set(self.rows(lines, ["/mnt/[old]"])), {"/", "/mnt/[old]", "/mnt/o"})

    def test_a_pattern_does_not_vouch_for_what_users_and_engines_mount(self):
        lines = (
            "26 25 0:70 / /home/eve/x rw - fuse.mergerfs x rw,user_id=1501,group_id=0,allow_other\n"
            "27 25 0:71 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw\n"
            "28 25 8:1 /etc/app.conf /srv/app.conf rw - ext4 /dev/sda1 rw\n"
        )
        tree = self.machine(lines)
        tree.write("/srv/app.conf")
        places = ["/home/eve/x", "/srv/app.conf", "/var/lib/docker/overlay2/1/merged"]
        for chosen, told in ((["*"], ["/"]), (["/home/eve/*", "/srv/*", "/var/*"], ["/"]), (places, ["/", *places])):
            section = self.section(tree.host(), chosen)
            self.assertEqual([row["mountpoint"] for row in section["filesystems"]], told)

    def test_a_chosen_place_that_a_stranger_covers_is_not_gone(self):
        lines = NFS.format(26, 50, "/mnt/films") + NFS.format(27, 50, "/mnt/music")
        lines += "40 27 0:90 / /mnt/music rw - fuse.x eve rw,user_id=1501\n"
        for chosen in (["/mnt/films", "/mnt/music"], ["/mnt/*"]):
            told = self.section(self.machine(lines).host(), chosen)
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/mnt/films"])
            self.assertEqual((told["late"], told["complete"]), (["/mnt/music"], {"mounts": False}))

    def test_a_pattern_that_takes_long_holds_nothing_up(self):
        place = "/home/eve/" + "a" * 4000
        line = f"26 25 0:70 / {place} rw - fuse.x x rw,user_id=1501,group_id=0,allow_other\n"
        begun = time.process_time()
        self.assertEqual(set(self.rows(line, ["/home/*a*a*a*a*a*b"])), {"/"})
        self.assertLess(time.process_time() - begun, 5)


EVES = {"owners": {"/home/eve": 1501}}
DISK = "{0} 25 8:{0} / {1} rw,relatime - ext4 /dev/sdx{0} rw\n"
STRANGERS = "{0} 25 0:{0} / {1} rw - fuse.sshfs eve rw,user_id=1501,group_id=0\n"
DEEP = "/home/eve" + "/ddddddddd" * 500


class Renamed(Told):
    """Whoever owns a folder above a mountpoint says what that is called, and how long its path is."""

    def test_a_filesystem_at_a_path_that_is_too_long_is_late_by_the_number_that_nobody_changes(self):
        lines = DISK.format(30, DEEP + "/disk") + DISK.format(31, DEEP + "/more") + DISK.format(32, "/srv")
        told = self.section(self.machine(lines).host())
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/srv"])
        self.assertEqual((told["late_devices"], len(told["late"])), (["8:30", "8:31"], 2))
        self.assertLess(max(map(len, told["late"])), 300)
        self.assertEqual(told["complete"], {"mounts": False})

    def test_every_row_has_the_numbers_that_nobody_changes(self):
        row = self.rows(DISK.format(30, "/home/eve/disk"))["/home/eve/disk"]
        self.assertEqual((row["device_number"], row["mount_id"]), ("8:30", 30))

    def test_what_is_closed_or_covered_has_its_number_too(self):
        class Closed(probe.RecordedHost):
            def statvfs(self, path, mount, *args):
                if path == "/srv":
                    raise PermissionError(13, "Permission denied")
                return super().statvfs(path, mount, *args)

        lines = DISK.format(30, "/srv") + DISK.format(31, "/home/eve/disk")
        lines += STRANGERS.format(40, "/home/eve")
        told = self.section(Closed(self.machine(lines).folder))
        self.assertEqual((told["late"], told["late_devices"]), (["/home/eve/disk", "/srv"], ["8:30", "8:31"]))

    def test_a_place_that_looks_like_an_engines_counts_only_where_root_made_it(self):
        for folder, is_told in (
            ("/var/lib/docker/overlay2/", False),
            ("/var/lib/kubelet/pods/1/volumes/", False),
            ("/home/eve/docker/overlay2/", True),
            ("/home/eve/containers/storage/overlay/", True),
            ("/home/eve/kubelet/pods/", True),
            ("/home/eve/.zfs/snapshot/", True),
        ):
            with self.subTest(folder):
                tree = self.machine(DISK.format(30, folder + "a/disk"), **EVES)
                os.makedirs(tree.folder + folder)
                told = [row["mountpoint"] for row in self.section(tree.host())["filesystems"]]
                self.assertEqual(told, ["/", folder + "a/disk"] if is_told else ["/"])

    def test_a_snapshot_says_itself_what_it_is(self):
        lines = "30 25 0:50 / /tank rw - zfs tank rw\n31 30 0:51 / /tank/.zfs/snapshot/1 ro - zfs tank@1 ro\n"
        self.assertEqual(set(self.rows(lines)), {"/", "/tank"})

    def test_a_place_in_a_folder_that_never_answers_holds_nothing_up(self):
        heal = threading.Event()
        self.addCleanup(heal.set)

        class Hanging(probe.RecordedHost):
            def roots_status(self, path):
                heal.wait(60)

        lines = DISK.format(30, "/nas/docker/overlay2/x") + DISK.format(31, "/srv")
        begun = time.monotonic()
        told = self.section(Hanging(self.machine(lines).folder))
        self.assertLess(time.monotonic() - begun, 3)
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/nas/docker/overlay2/x", "/srv"])

    def test_what_is_chosen_and_not_there_is_late_where_others_than_root_could_have_moved_it(self):
        memory = "30 25 0:60 / /home/eve/b/disk rw - tmpfs t rw\n"
        for chosen, is_late in (("/home/eve/a/disk", True), ("/mnt/usb", False), ("/home/eve", False)):
            with self.subTest(chosen):
                tree = self.machine(memory, **EVES)
                os.makedirs(tree.folder + "/home/eve")
                os.makedirs(tree.folder + "/mnt")
                told = self.section(tree.host(), [chosen + "/"])
                self.assertEqual(told.get("late", []), [chosen] if is_late else [])
                self.assertEqual(told["complete"], {"mounts": True})

    def test_what_a_stranger_mounts_at_a_chosen_place_says_whose_it_is(self):
        line = "40 25 0:90 / /home/eve/x rw - fuse.mergerfs e rw,user_id=1501,group_id=0,allow_other\n"
        row = self.rows(line + DISK.format(41, "/srv"), ["/home/eve/x"])
        self.assertEqual((row["/home/eve/x"]["guest_uid"], row["/srv"].get("guest_uid")), (1501, None))
        self.assertNotIn("guest_uid", self.rows(line, ["/home/eve/x"], uid=1501)["/home/eve/x"])

    def test_another_mount_of_a_filesystem_answers_where_the_way_to_the_first_is_closed(self):
        lines = "30 25 8:9 / /b/disk rw - ext4 /dev/sdb rw\n31 25 8:9 / /the/main/place rw - ext4 /dev/sdb rw\n"
        for error in (PermissionError(13, "x"), FileNotFoundError(2, "x"), OSError("another one is there")):
            asked = []

            class Closed(probe.RecordedHost):
                closed = ("/b/disk",)

                def statvfs(self, path, mount, *args, error=error, asked=asked):
                    asked.append(path)
                    if path in self.closed:
                        raise error
                    return super().statvfs(path, mount, *args)

            host = Closed(self.machine(lines).folder)
            told = self.section(host)
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/the/main/place"])
            self.assertEqual((told["complete"], told.get("late")), ({"mounts": True}, None))
            host.closed = ("/b/disk", "/the/main/place")
            self.assertEqual(self.section(host)["late"], ["/b/disk"])

    def test_a_file_that_stands_where_something_else_is_meant_is_no_single_file(self):
        host = probe.Host()
        with open("/proc/self/mountinfo") as file:
            mount = next(one for one in probe.parse_mountinfo(file.read()) if one.mountpoint == "/proc")
        with self.assertRaises(probe.SingleFile):
            host.statvfs("/proc/uptime", mount.id, False)
        self.assertTrue(host.statvfs("/proc", mount.id, False))
        with self.assertRaises(OSError) as raised:
            host.statvfs("/proc/uptime", mount.id + "1", False)
        self.assertNotIsInstance(raised.exception, probe.SingleFile)


class Long(Told):
    """What users make long is not read whole, and hides nothing of root's."""

    def test_a_line_without_end_costs_little_and_hides_nobody(self):
        lines = DISK.format(30, "/early") + STRANGERS.format(40, "/home/eve" + "/d" * 3000000)
        lines += DISK.format(41, "/home/eve" + "/d" * 2000000 + "/disk") + DISK.format(42, "/late")
        tree = self.machine(lines)
        begun = time.process_time()
        told = self.section(tree.host())
        self.assertLess(time.process_time() - begun, 2)
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/early", "/late"])
        self.assertEqual((told["late_devices"], len(told["late"])), (["8:41"], 1))
        self.assertLess(len(json.dumps(told)), 3000)

    def test_a_folder_without_end_that_is_mounted_somewhere_is_reported_by_its_number(self):
        lines = f"30 25 8:9 {'/d' * 2000000} /home/eve/disk rw - ext4 /dev/sdb rw\n" + DISK.format(42, "/late")
        told = self.section(self.machine(lines).host())
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/late"])
        self.assertEqual(told["late_devices"], ["8:9"])

    def test_what_takes_too_long_to_read_is_reported_as_far_as_it_was_read(self):
        lines = ROOT + DISK.format(30, "/srv")

        class Slow(probe.RecordedHost):
            def short_lines(self, path, most, seconds):
                yield from lines.split("\n")
                raise probe.Late(path)

        told = self.section(Slow(self.machine(DISK.format(30, "/srv")).folder))
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/srv"])
        self.assertEqual(told["complete"], {"mounts": False, "names": False})

    def test_the_lines_of_a_file_are_those_that_it_has_and_of_long_ones_both_ends(self):
        tree = self.machine("")
        for size in (0, 1, 9, 10, 11, 65530, 65536, 65541, 200000):
            wanted = ["a", "b" * size, "", "c" * (2 * size), "d"]
            tree.write("/x", "".join(line + "\n" for line in wanted))
            told = list(tree.host().short_lines("/x", 5, 60))
            self.assertEqual(len(told), len(wanted), size)
            for line, found in zip(wanted, told):
                cut = line[:5] + "\n" + line[-5:]
                self.assertIn(found, (line, cut) if len(line) <= 65546 else (cut,), size)
        tree.write("/x", "b" * 100 + "\n" + "c" * 100000 + "\n")
        with self.assertRaises(probe.Late):
            list(tree.host().short_lines("/x", 5, -1))

    def test_names_of_users_leave_room_for_all_else(self):
        name = b"/home/eve/" + b"\xff" * 4000
        lines = "".join(STRANGERS.format(100 + n, "%") for n in range(300)).encode()
        for n in range(300):
            lines = lines.replace(b" % ", b" " + name + b"%d " % n, 1)
        lines += "".join(DISK.format(1000 + n, "%") for n in range(300)).encode()
        for n in range(300):
            lines = lines.replace(b" % ", b" " + name + b"/%d " % n, 1)
        tree = self.machine(DISK.format(30, "/srv"))
        tree.write("/proc/self/mountinfo", (ROOT + DISK.format(30, "/srv")).encode() + lines)
        told = self.section(tree.host())
        self.assertLess(len(json.dumps(told)), 2 << 20)
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]][-1], "/srv")
        self.assertEqual(told["complete"]["names"], False)
        self.assertEqual(len(told["late_devices"]), 300)

    def test_a_file_of_any_length_is_not_read_whole(self):
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(probe.FILE_BYTES)
            self.assertEqual(len(probe.Host().read_bytes(file.name)), probe.FILE_BYTES)
            file.truncate(1 << 40)
            begun = time.monotonic()
            with self.assertRaises(OSError):
                probe.Host().read_bytes(file.name)
            self.assertEqual(probe.Host().text(file.name), "")
            self.assertLess(time.monotonic() - begun, 5)

    def test_who_replaced_a_file_of_proc_is_found_behind_lines_without_end(self):
        tree = self.machine(
            STRANGERS.format(40, "/home/eve" + "/d" * 3000000) + "99 1 0:43 / /proc/meminfo rw - x y rw\n"
        )
        self.assertEqual(probe.replaced_files(tree.host(), {}), {"/proc/meminfo"})
        tree.write("/proc/self/mounts", "a / ext4 ro 0 0\nb /home/eve" + "/d" * 3000000 + " x rw 0 0\n")
        self.assertTrue(probe.root_is_read_only(tree.host()))


class Files(Told):
    def machine(self, lines, files=(), **told):
        tree = super().machine(lines, **told)
        for place in files:
            tree.write(place)
        return tree

    LINES = (
        "26 25 8:2 /f /etc/app.conf rw - ext4 /dev/sdb1 rw\n"
        "27 25 8:2 /volumes/app/_data /data rw - ext4 /dev/sdb1 rw\n"
        "28 25 8:3 /only/this /srv/one.img rw - ext4 /dev/sdc1 rw\n"
    )

    def test_a_file_never_stands_for_a_filesystem_that_a_folder_shows(self):
        rows = self.rows(self.LINES, files=("/etc/app.conf", "/srv/one.img"))
        self.assertEqual(set(rows), {"/", "/data"})

    def test_a_file_is_reported_where_it_is_chosen(self):
        files = ("/etc/app.conf", "/srv/one.img")
        rows = self.rows(self.LINES, ["/etc/app.conf", "/srv/one.img/"], files=files)
        self.assertEqual(set(rows), {"/", "/data", "/etc/app.conf", "/srv/one.img"})

    def test_pools_and_encrypted_folders_are_local(self):
        self.assertIn("/home/anna/.private", self.rows("26 25 0:70 / /home/anna/.private rw - ecryptfs /home/x rw\n"))
        for kind in ("fuse.shfs", "fuse.gocryptfs", "fuse.mergerfs"):
            for user, uid, more, is_told in (
                (0, 1000, ",allow_other", True),
                (0, 1000, "", False),
                (1000, 1000, "", True),
                (1501, 1000, ",allow_other", False),
                (1501, 0, ",allow_other", False),
            ):
                line = f"26 25 0:70 / /mnt/user rw - {kind} shfs rw,user_id={user},group_id=0{more}\n"
                with self.subTest(line):
                    self.assertEqual("/mnt/user" in self.rows(line, uid=uid), is_told)


class Autofs(Told):
    DIRECT = "30 25 0:40 / /mnt/nas rw,relatime - autofs systemd-1 rw,fd=51,pgrp=1,timeout={0},minproto=5,direct\n"
    NAS = "{0} 30 0:50 / /mnt/nas rw,relatime - nfs4 nas:/ rw\n"
    INDIRECT = "31 25 0:41 / /net rw,relatime - autofs /etc/auto.net rw,fd=7,pgrp=900,timeout=60,indirect\n"
    UNDER = "41 31 8:9 / /net/disk rw - ext4 /dev/sdx1 rw\n42 41 8:10 / /net/disk/deep rw - ext4 /dev/sdy1 rw\n"

    def living(self, lines):
        """Return a machine whose clock and mounts can be changed, its probe, and what it was asked for."""
        tree, asked = self.machine(lines), []

        class Living(probe.RecordedHost):
            now, mounts, error, free = 1000.0, lines, None, 500

            def boottime(self):
                return self.now

            def short_lines(self, path, most, seconds):
                return iter((ROOT + self.mounts).split("\n"))

            def statvfs(self, path, mount, *args):
                if path == "/":
                    return tuple(SIZES)
                asked.append((path, mount))
                if self.error:
                    raise self.error
                return 4096, 1000, self.free, self.free, 0, 0

        host = Living(tree.folder)
        return host, probe.Probe(host), asked

    def told(self, host, one, watched=("/mnt/nas",)):
        section = self.section(host, watched, one)
        ages = {row["mountpoint"]: row.get("age_seconds") for row in section["filesystems"]}
        del ages["/"]
        return ages, section.get("late", []), section["complete"]["mounts"]

    def test_what_autofs_mounted_is_left_alone_like_autofs(self):
        lines = self.DIRECT.format(300) + self.NAS.format(40) + self.INDIRECT + self.UNDER
        host, one, asked = self.living(lines)
        self.assertEqual(self.told(host, one, ()), ({}, [], True))
        self.assertEqual(asked, [])
        unwatched = [row["mountpoint"] for row in self.section(host, (), one)["unwatched"]]
        self.assertEqual(unwatched, ["/mnt/nas", "/net/disk", "/net/disk/deep"])

    def test_a_local_filesystem_that_is_mounted_elsewhere_too_is_reported_there(self):
        lines = self.INDIRECT + self.UNDER + "50 25 8:9 /sub /srv/disk rw - ext4 /dev/sdx1 rw\n"
        host, one, asked = self.living(lines)
        self.assertEqual(self.told(host, one, ()), ({"/srv/disk": None}, [], True))
        self.assertEqual(asked, [("/srv/disk", "50")])

    def test_a_chosen_one_is_asked_once_and_again_after_two_timeouts(self):
        host, one, asked = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        for seconds, age, times in (
            (0, None, 1),
            (60, 60, 1),
            (599, 599, 1),
            (600, None, 2),
            (1199, 599, 2),
            (1201, None, 3),
        ):
            host.now = 1000.0 + seconds
            self.assertEqual(self.told(host, one), ({"/mnt/nas": age}, [], True), seconds)
            self.assertEqual(len(asked), times, seconds)

    def test_values_stay_as_they_were_while_it_rests(self):
        host, one, _ = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        before = self.section(host, ["/mnt/nas"], one)["filesystems"][1]
        host.now, host.free = 1300.0, 7
        self.assertEqual(self.section(host, ["/mnt/nas"], one)["filesystems"][1], dict(before, age_seconds=300))
        host.now = 1600.0
        self.assertEqual(self.section(host, ["/mnt/nas"], one)["filesystems"][1]["available_bytes"], 7 * 4096)

    def test_one_that_is_mounted_anew_is_asked_anew(self):
        host, one, asked = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        self.told(host, one)
        host.now, host.mounts = 1060.0, self.DIRECT.format(300) + self.NAS.format(77)
        self.assertEqual(self.told(host, one)[0], {"/mnt/nas": None})
        self.assertEqual(asked, [("/mnt/nas", "40"), ("/mnt/nas", "77")])

    def test_one_that_was_unmounted_keeps_its_values_as_long_as_a_look_would_mount_it(self):
        host, one, asked = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        self.told(host, one)
        host.now, host.mounts = 50000.0, self.DIRECT.format(300)
        self.assertEqual(self.told(host, one), ({"/mnt/nas": 49000}, [], True))
        self.assertEqual(self.told(host, one, ()), ({}, [], True))
        self.assertEqual(len(asked), 1)
        host.mounts = ""
        self.assertEqual(self.told(host, one), ({}, [], True))

    def test_one_that_nobody_has_seen_mounted_is_late_and_never_touched(self):
        host, one, asked = self.living(self.DIRECT.format(300))
        self.assertEqual(self.told(host, one, ["/mnt/nas/", "/mnt/*"]), ({}, ["/mnt/nas"], True))
        self.assertEqual(asked, [])

    def test_a_pattern_names_no_place_that_would_be_mounted(self):
        host, one, asked = self.living(self.INDIRECT)
        self.assertEqual(self.told(host, one, ["/net/*", "/net/disk"]), ({}, ["/net/disk"], True))
        self.assertEqual(asked, [])

    def test_one_that_failed_and_was_unmounted_is_late_in_a_list_that_is_whole(self):
        host, one, _ = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        host.error = OSError("stale")
        self.assertEqual(self.told(host, one), ({}, ["/mnt/nas"], False))
        host.mounts = self.DIRECT.format(300)
        self.assertEqual(self.told(host, one), ({}, ["/mnt/nas"], True))

    def test_one_that_hung_is_not_asked_sooner_either(self):
        host, one, asked = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        answer, heal = host.statvfs, threading.Event()
        self.addCleanup(heal.set)

        def hang(path, mount, *args):
            told = answer(path, mount, *args)
            if path != "/":
                heal.wait(60)
            return told

        host.statvfs = hang
        self.assertEqual(self.told(host, one), ({}, ["/mnt/nas"], False))
        heal.set()
        (stuck,) = one.memos["filesystems"]["stuck"]["risky"].values()
        self.assertTrue(has_ended(stuck))
        host.now += 60
        self.assertEqual(self.told(host, one), ({}, ["/mnt/nas"], False))
        self.assertEqual(len(asked), 1)

    def test_a_look_passes_through_all_that_lies_above(self):
        lines = self.INDIRECT + self.UNDER + "43 42 0:42 / /net/disk/deep/more rw - autofs x rw,timeout=30,indirect\n"
        lines += "44 43 8:11 / /net/disk/deep/more/a rw - ext4 /dev/sdz1 rw\n"
        host, one, asked = self.living(lines)
        for seconds, times in ((0, 1), (60, 1), (119, 1), (120, 2)):
            host.now = 1000.0 + seconds
            self.told(host, one, ["/net/disk/deep/more/a"])
            self.assertEqual(len(asked), times)

    def test_one_that_fails_is_not_asked_sooner_either(self):
        host, one, asked = self.living(self.DIRECT.format(300) + self.NAS.format(40))
        host.error = OSError("stale")
        for seconds in (0, 60, 599):
            host.now = 1000.0 + seconds
            self.assertEqual(self.told(host, one), ({}, ["/mnt/nas"], False))
        self.assertEqual(len(asked), 1)
        host.now, host.error = 1600.0, None
        self.assertEqual(self.told(host, one), ({"/mnt/nas": None}, [], True))

    def test_what_never_expires_is_asked_each_time_and_without_a_word_rarely(self):
        for line, times in ((self.DIRECT.format(0), 3), (self.DIRECT.replace(",timeout={0}", ""), 1)):
            host, one, asked = self.living(line + self.NAS.format(40))
            for seconds in (0, 60, 1199):
                host.now = 1000.0 + seconds
                self.told(host, one)
            self.assertEqual(len(asked), times)


class Numbers(Told):
    @costly
    def test_every_size_is_within_its_range_or_the_filesystem_is_named_as_not_understood(self):
        nasty = (0, 1, 5, 1000, 1001, -1, -5, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
        line = "26 25 8:2 / /data rw - ext4 /dev/sdb1 rw\n"
        for free in nasty:
            for available in nasty:
                for inodes in nasty:
                    sizes = {"/": SIZES, "/data": [4096, 1000, free, available, 100, inodes]}
                    told = self.section(self.machine(line, statvfs=sizes).host())
                    rows = {row["mountpoint"]: row for row in told["filesystems"]}
                    row = rows.get("/data")
                    if row is None:
                        self.assertEqual((told["late"], told["complete"]), (["/data"], {"mounts": True}))
                        self.assertTrue(not 0 <= free <= 1000 or 1000 < available < 1 << 63, (free, available))
                        continue
                    for key in ("used_bytes", "available_bytes"):
                        self.assertTrue(0 <= row[key] <= row["total_bytes"], (key, row))
                    self.assertTrue(0 <= row.get("inodes_used", 0) <= row["inodes_total"], row)


if __name__ == "__main__":
    unittest.main()
