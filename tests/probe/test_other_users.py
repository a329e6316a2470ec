"""What another user of a host can do to the values of root's items: names with odd ends, covers, hangs, crowds."""

import ast
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import unittest

from place import FILES, costly, probe
from test_neighbours import EVE, FUSE, LISTED, Village, answer, engine
from tree import Tree

# What str.splitlines() takes for the end of a line and the kernel does not: mkdir(2) refuses only \n in a group's name.
ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029\r"
IDENT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
OWN = f"/user.slice/user-{EVE}.slice/user@{EVE}.service"
SIZES = [4096, 1000, 500, 400, 10, 5]


class Lines(unittest.TestCase):
    def test_a_name_in_a_control_group_ends_no_line(self):
        for end in ENDS:
            with self.subTest(repr(end)):
                text = f"0::{OWN}/x{end}0::/system.slice/nginx.service\n"
                self.assertEqual(probe.parse_cgroup(text), {"unit": f"user@{EVE}.service/nginx.service"})
                text = f"0::{OWN}/x{end}0::/system.slice/docker-{IDENT}.scope\n"
                self.assertEqual(probe.parse_cgroup(text)["unit"], f"user@{EVE}.service")
                ((_, path),) = probe.parse_groups(text, IDENT)
                self.assertTrue(path.startswith(OWN))

    def test_the_group_in_which_a_socket_was_made_is_one_path(self):
        for end in ENDS:
            host = Tree(self, {"group_ids": {"9": f"{OWN}/x{end}0::/system.slice/nginx.service"}}).host()
            told = probe.owner(host, {"inode": 7, "group": 9}, probe.Holders(host, {}, {}))
            self.assertEqual(told, {"unit": f"user@{EVE}.service/nginx.service"}, repr(end))

    def test_a_name_that_ends_in_a_space_of_unicode_is_not_shortened(self):
        tree = Tree(self)
        for end in ENDS[:-1]:
            tree.write("/proc/7/cgroup", f"0::{OWN}/sync.service{end}\n")
            self.assertEqual(probe.owner_of(tree.host(), 7), {"unit": f"user@{EVE}.service"}, repr(end))

    def test_a_process_is_of_the_user_whose_part_it_is_in_whatever_names_come_below(self):
        tree = Tree(self)
        tree.write("/proc/7/status", "Uid:\t165536\t165536\t165536\t165536\n")
        for name in ("x\v0::/user.slice/user-77.slice/y", "user-77.slice/y"):
            tree.write("/proc/7/cgroup", f"0::{OWN}/{name}\n")
            self.assertFalse(probe.belongs_to(tree.host(), 7, 77), name)
            self.assertTrue(probe.belongs_to(tree.host(), 7, EVE), name)

    def test_a_label_of_a_disk_writes_no_property(self):
        tree = Tree(self)
        tree.write("/sys/block/sdb/dev", "8:16\n")
        for end in ENDS:
            tree.write(
                "/run/udev/data/b8:16", f"E:ID_SERIAL_SHORT=REAL\nE:ID_FS_LABEL=x{end}E:ID_SERIAL_SHORT=FORGED\n"
            )
            self.assertEqual(probe.disk_hardware(tree.host(), "sdb")["serial"], "REAL", repr(end))

    def test_a_line_of_a_log_is_one(self):
        for end in ENDS[:-1]:
            self.assertEqual(
                probe.last_lines(f"one\ntwo{end}2026-01-01 root: all is well\n", 1)[0],
                [f"two{end}2026-01-01 root: all is well"],
            )
        self.assertEqual(probe.last_lines("one\r\ntwo\r\n", 5)[0], ["one", "two"])

    def test_an_account_is_one_line(self):
        for end in ENDS:
            text = f"root:x:0:0::/root:/bin/sh\neve:x:7:7:E{end}root:x:8:8:/home/eve:/bin/sh\n"
            self.assertEqual(probe.parse_accounts(text), {"0": "root", "7": "eve"}, repr(end))

    def test_no_file_of_the_probe_lets_unicode_say_where_a_line_ends(self):
        functions = []
        for source in FILES.values():
            functions += [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        found = [
            function.name
            for function in functions
            if any(isinstance(node, ast.Attribute) and node.attr == "splitlines" for node in ast.walk(function))
        ]
        self.assertEqual(found, [])


class Covers(unittest.TestCase):
    def told(self, lines, watched=(), error=None, **sizes):
        tree = Tree(self, {"uid": 0, "statvfs": dict({"/": SIZES}, **sizes)})
        tree.write("/proc/self/mountinfo", "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + lines)
        host = tree.host()
        if error:
            kept = host.statvfs
            host.statvfs = lambda path, *more: kept(path, *more) if path == "/" else error_out(error)
        request = probe.Request({"id": "1", "sections": ["filesystems"], "watch": {"filesystems": list(watched)}})
        told = probe.Probe(host).answer(request)["sections"]["filesystems"]
        return [row["mountpoint"] for row in told["filesystems"]], told.get("late", []), told["complete"]["mounts"]

    DISK = "26 25 8:2 / /mnt/media rw - ext4 /dev/sdb1 rw\n"
    OVER = FUSE.format(40, "/mnt/media", "fuse", EVE, "").replace(" 25 ", " 26 ")

    def test_what_a_user_mounted_something_over_is_not_gone(self):
        sizes = {"/mnt/media": SIZES}
        self.assertEqual(self.told(self.DISK, **sizes), (["/", "/mnt/media"], [], True))
        for kind in ("fuse", "fuse.mergerfs", "fuse.sshfs", "fuseblk"):
            over = self.OVER.replace(" fuse ", f" {kind} ")
            self.assertEqual(self.told(self.DISK + over, **sizes), (["/"], ["/mnt/media"], False), kind)
        above = FUSE.format(40, "/mnt", "fuse", EVE, ",allow_other")
        self.assertEqual(self.told(self.DISK + above, **sizes), (["/"], ["/mnt/media"], False))

    def test_what_root_mounted_something_over_is_gone(self):
        over = self.OVER.replace(f"user_id={EVE}", "user_id=0")
        self.assertEqual(self.told(self.DISK + over, **{"/mnt/media": SIZES})[:2], (["/"], []))
        over = "40 26 8:3 / /mnt/media rw - ext4 /dev/sdc1 rw\n"
        self.assertEqual(self.told(self.DISK + over, **{"/mnt/media": SIZES}), (["/", "/mnt/media"], [], True))

    def test_what_can_be_reached_elsewhere_is_asked_there(self):
        other = "27 25 8:2 / /srv/media rw - ext4 /dev/sdb1 rw\n"
        told = self.told(self.DISK + other + self.OVER, **{"/srv/media": SIZES})
        self.assertEqual(told, (["/", "/srv/media"], [], True))

    def test_a_watched_place_is_not_reported_by_the_sizes_of_a_cover(self):
        for disk in (self.DISK, "26 25 0:50 / /mnt/media rw - nfs4 nas:/ rw\n"):
            told = self.told(disk + self.OVER, watched=["/mnt/media"], **{"/mnt/media": SIZES})
            self.assertEqual(told, (["/"], ["/mnt/media"], False))
        alone = FUSE.format(40, "/mnt/media", "fuse.sshfs", EVE, "")
        self.assertEqual(self.told(alone, watched=["/mnt/media"], **{"/mnt/media": SIZES})[0], ["/", "/mnt/media"])

    def test_what_may_not_be_reached_any_more_is_not_gone(self):
        for error in (PermissionError, FileNotFoundError):
            self.assertEqual(self.told(self.DISK, error=error), (["/"], ["/mnt/media"], True))
        part = self.DISK.replace(" / /mnt", " /@media /mnt")  # of btrfs, or bound
        self.assertEqual(self.told(part, error=PermissionError), (["/"], ["/mnt/media"], True))
        alone = FUSE.format(40, "/mnt/x", "fuse.sshfs", EVE, "")
        self.assertEqual(self.told(alone, watched=["/mnt/x"], error=PermissionError), (["/"], [], True))


def error_out(error):
    raise error("no")


class Hangs(unittest.TestCase):
    """A user's folder that does not answer, as whoever owns it may mount anything on it."""

    def village(self, blocks):
        village = Village(self)
        heal = threading.Event()
        self.addCleanup(heal.set)
        self.hanging = []  # a name for each thread that stands in the user's folder

        def hang():
            self.hanging.append(threading.current_thread().name)
            heal.wait(60)

        class Hanging(probe.Host):
            def is_socket_of(self, path, uid):
                if "look" in blocks:
                    hang()
                return super().is_socket_of(path, uid)

            def connect(self, path, timeout, uid=None):
                if uid and "connect" in blocks:
                    hang()
                return super().connect(path, timeout, uid)

        os.makedirs(village.folder + "/run/podman")
        village.listen("/run/docker.sock", engine([LISTED]), uid=0, owner=0)
        village.listen(f"/run/user/{EVE}/docker.sock", engine([dict(LISTED, Names=["/eves"])]))
        return village, probe.Probe(Hanging(village.folder))

    def names(self, told):
        return sorted(row["name"] for row in told["containers"])

    @costly
    @unittest.skipUnless(EVE == 61001, "needs root")
    def test_roots_containers_are_reported_while_a_users_folder_hangs(self):
        for way in ("look", "connect"):
            with self.subTest(way):
                blocks = set()
                village, one = self.village(blocks)
                self.assertEqual(self.names(village.told(one=one)[0]), ["eves", "web"])
                blocks.add(way)
                hanging = {"engine": "docker", "owner": "eve", "state": "timed_out"}
                until = time.monotonic() + 10
                # It rests after every answer, for longer the longer that took.
                while hanging not in village.told(one=one)[0]["engines"] and time.monotonic() < until:
                    time.sleep(0.1)
                for _ in range(3):
                    begun = time.monotonic()
                    told, missing = village.told(one=one)
                    self.assertIsNone(missing)
                    self.assertEqual(self.names(told), ["eves", "web"])  # as they were, for a while
                    self.assertIn(hanging, told["engines"])
                    self.assertIs(told["complete"]["docker/root"], True)
                    self.assertIsNot(told["complete"].get("docker/eve"), True)
                self.assertLess(time.monotonic() - begun, 0.9)  # it is not waited for again
                self.assertEqual(len(self.hanging), 1)  # and no further thread is lost to it

    @unittest.skipUnless(EVE == 61001, "needs root")
    def test_the_log_of_roots_container_needs_no_users_folder(self):
        _, one = self.village({"look", "connect"})
        request = probe.Request({"id": "1", "sections": ["logs"], "watch": {"logs": ["5 container docker/root/web"]}})
        begun = time.monotonic()
        reply = one.answer(request)
        self.assertLess(time.monotonic() - begun, 0.95)
        self.assertNotIn("logs", reply["missing"])
        request.watch["logs"] = ["5 container docker/eve/eves"]
        reply = one.answer(request)
        self.assertLess(time.monotonic() - begun, 3)
        self.assertEqual(reply["errors"], {"logs": "the engine does not run"})


class Groups(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.kept = probe.GROUP_ROOTS
        probe.GROUP_ROOTS = (os.fsencode(self.folder),)
        for name in ("cgroup.procs", "cgroup.controllers"):
            with open(self.folder + "/" + name, "w"):
                pass

    def tearDown(self):
        probe.GROUP_ROOTS = self.kept

    @costly
    def test_groups_in_each_other_end_nothing(self):
        os.makedirs(self.folder + "/system.slice/web.service")
        os.mkdir(self.folder + "/user.slice")
        here = os.getcwd()
        os.chdir(self.folder + "/user.slice")
        self.addCleanup(os.chdir, here)
        for _ in range(3000):  # longer than a path may be
            os.mkdir("d")
            os.chdir("d")
        try:
            self.assertIn("/system.slice/web.service", probe.read_group_ids().values())
        finally:
            for _ in range(3000):
                os.chdir("..")
                os.rmdir("d")

    @costly
    def test_a_crowd_of_groups_hides_no_others(self):
        crowd = self.folder + "/system.slice/eve.service"
        for place in (
            crowd,
            self.folder + "/system.slice/web.service/inner/more",
            self.folder + "/user.slice/user-7.slice",
        ):
            os.makedirs(place)
        for n in range(2500):
            os.mkdir(f"{crowd}/{n}")
            os.mkdir(f"{self.folder}/user.slice/user-7.slice/{n}")
        kept, probe.GROUPS_READ = probe.GROUPS_READ, 2300
        try:
            found = probe.read_group_ids()
        finally:
            probe.GROUPS_READ = kept
        self.assertLessEqual(len(found), 2300)
        self.assertTrue({"/system.slice/web.service", "/system.slice/web.service/inner/more"} <= set(found.values()))
        number = os.stat(self.folder + "/system.slice/web.service").st_ino
        self.assertEqual(found[number], "/system.slice/web.service")


class Costs(unittest.TestCase):
    def setUp(self):
        self.village = Village(self)
        self.one = probe.Probe(probe.Host(self.village.folder))
        self.path = f"/run/user/{EVE}/docker.sock"

    def cost(self):
        begun = time.process_time()
        told, _ = self.village.told(one=self.one)
        return told, time.process_time() - begun

    def test_an_engine_that_costs_much_is_cut_short_and_then_rests(self):
        listed = [
            dict(LISTED, Id=hashlib.sha256(b"%d" % n).hexdigest(), Names=[f"/{n}"], State="restarting")
            for n in range(100)
        ]
        look = json.dumps({"State": {}, "x": [0] * 30000, "pad": "x" * 300000}).encode()
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks += b"".join(b"1\r\n%c\r\n" % byte for byte in look) + b"0\r\n\r\n"
        for name, body in (("plain", answer(look)), ("chunks", chunks)):
            with self.subTest(name):
                self.setUp()
                self.village.listen(self.path, {"list": answer(listed), "look": body})
                told, seconds = self.cost()
                self.assertEqual(told["engines"], [{"engine": "docker", "owner": "eve", "state": "ok"}])
                self.assertLess(seconds, 1.5)
                asked = len(self.village.asked)
                for _ in range(3):
                    told, seconds = self.cost()
                    self.assertEqual((len(told["containers"]), told["complete"]), (100, {"docker/eve": True}))
                    self.assertLess(seconds, 0.1)
                self.assertEqual(len(self.village.asked), asked)

    def test_a_round_of_an_engine_has_a_share_of_the_processor_whatever_its_time(self):
        listed = [dict(LISTED, Id=hashlib.sha256(b"%d" % n).hexdigest(), Names=[f"/{n}"]) for n in range(40)]
        self.village.listen(self.path, engine(listed, {"State": {}, "x": [0] * 3000}))
        kept, probe.USER_CPU_SECONDS = probe.USER_CPU_SECONDS, 0.03
        try:
            told, _ = self.cost()
        finally:
            probe.USER_CPU_SECONDS = kept
        self.assertEqual(told["complete"], {"docker/eve": True})
        self.assertLess(sum(target.endswith("/json") for target in self.village.asked), 40)

    def test_an_engine_that_ends_its_processes_all_the_time_rests_as_well(self):
        memo = probe.EngineMemo(probe.Engine("docker", "eve", EVE))
        memo.state, memo.rest_until, memo.ask_at = "ok", 100.0, 0.0
        memo.containers = [probe.Container(IDENT)]
        memo.containers[0].process = "/proc/does-not-exist"
        self.assertFalse(memo.is_due(self.one.host, 99.0))
        self.assertTrue(memo.is_due(self.one.host, 100.0))

    @costly
    def test_a_quick_engine_is_asked_in_every_round(self):
        self.village.listen(self.path, engine([LISTED]))
        for _ in range(2):
            self.cost()
            time.sleep(2.0)
        self.assertEqual(sum("all=1" in target for target in self.village.asked), 2)

    def test_what_is_cut_off_an_answer_costs_what_is_cut(self):
        ends = probe.HttpConnection.__new__(probe.HttpConnection)
        ends.buffer, ends.limit = bytearray(b"1\r\nx\r\n" * 40000 + b"0\r\n\r\n"), 1 << 20
        ends.deadline, ends.cpu_until = time.monotonic() + 60, float("inf")
        begun = time.process_time()
        self.assertEqual(ends.read_chunks(), b"x" * 40000)
        self.assertLess(time.process_time() - begun, 0.6)


class Cards(unittest.TestCase):
    @costly
    def test_processes_with_many_descriptors_do_not_make_the_section_late(self):
        class Crowded(probe.RecordedHost):
            def names(self, path, most=0):
                if path == "/proc":
                    return [str(pid) for pid in range(10, 200)]
                time.sleep(0.05)
                return []

        host, memo = Crowded(Tree(self).folder), {}
        begun = time.monotonic()
        probe.drm_users(host, memo)
        self.assertLess(time.monotonic() - begun, probe.LOOK_SECONDS + 1.5)
        first = [pid for pid, looks in memo["looks"].items() if looks >= probe.EARLY_LOOKS]
        probe.drm_users(host, memo)
        second = [pid for pid, looks in memo["looks"].items() if looks >= probe.EARLY_LOOKS]
        self.assertGreater(len(second), len(first))


if __name__ == "__main__":
    unittest.main()
