"""Where the probe ends: how large each of its limits may be, at its own mechanism.

Other tests make a limit small to see what lies beyond it; these say what a host is spared, and what is still told.
"""

import json
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
import unittest

from place import HOSTS, costly, probe
from test_containers import IDENT
from tree import Tree

CROWD = 61000  # the first of many users


def ask(one, *sections, **more):
    return one.answer(probe.Request(dict({"id": "1", "sections": list(sections)}, **more)))


class Requests(unittest.TestCase):
    def test_the_time_that_a_request_gives_has_two_ends(self):
        wishes = {8: 8.0, -5: 0.5, 0: 0.5, 10**9: 300.0, "60": 8.0, None: 8.0, float("inf"): 300.0}
        told = {wish: probe.Request({"sections": [], "timeout": wish}).timeout for wish in wishes}
        self.assertEqual(told, wishes)
        self.assertEqual(probe.Request({"sections": [], "timeout": [60]}).timeout, 8.0)

    def test_a_name_that_is_no_text_is_passed_over(self):
        request = probe.Request({"sections": ["cpu", 7, ["cpu"], None, "cpu"], "watch": {"services": [1, "a.service"]}})
        self.assertEqual((request.sections, request.watch), (["cpu"], {"services": ["a.service"]}))


class Slow:
    """Collectors that take as long as a test wants, under names of real sections."""

    def __init__(self, test, budget=5.0, **seconds):
        self.seconds = seconds
        self.begun = []
        self.go_on = threading.Event()
        test.addCleanup(self.go_on.set)
        self.one = probe.Probe(probe.RecordedHost(os.path.join(HOSTS, "nvidia-workstation")))
        for name in seconds:
            self.one.collectors[name] = probe.Collector(name, self.reader(name), budget)

    def reader(self, name):
        def read(host, request, memo):
            self.begun.append((name, request.id))
            self.go_on.wait(self.seconds[name])
            return {"asked": request.id}

        return read

    def wait_for_answer(self):
        """Wait until what hung has come back, with nobody to take it."""
        deadline = time.monotonic() + 20
        while any(worker.done.locked() for worker in self.one.workers.values()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def ask(self, **more):
        """Return the reply's sections, what was late, and how long it took."""
        begun = time.monotonic()
        reply = ask(self.one, *self.seconds, **more)
        late = sorted(name for name, reason in reply["missing"].items() if reason == "timed_out")
        return reply["sections"], late, time.monotonic() - begun


class Workers(unittest.TestCase):
    def test_all_that_hang_share_the_time_of_one(self):
        slow = Slow(self, services=60, filesystems=60, gpu=60, containers=60)
        _, late, seconds = slow.ask(timeout=1)
        self.assertEqual(late, sorted(slow.seconds))
        self.assertLess(seconds, 3)

    def test_a_request_waits_no_longer_than_a_collector_may_take(self):
        slow = Slow(self, budget=0.5, services=60)
        _, late, seconds = slow.ask(timeout=60)
        self.assertEqual(late, ["services"])
        self.assertLess(seconds, 10)

    @costly
    def test_what_gave_up_by_itself_is_waited_for_a_second_until_it_has_been_in_time(self):
        slow = Slow(self, budget=30.0, services=0)
        read = slow.one.collectors["services"].read

        def gives_up(host, request, memo):
            raise probe.Late

        slow.one.collectors["services"].read = gives_up
        self.assertEqual(slow.ask()[1], ["services"])
        slow.one.collectors["services"].read = read
        slow.seconds["services"] = 60
        _, late, seconds = slow.ask(timeout=20)
        self.assertEqual(late, ["services"])
        self.assertLess(seconds, 10)
        slow.go_on.set()
        slow.wait_for_answer()
        self.assertIn("services", slow.ask(timeout=20)[0])
        slow.go_on.clear()
        slow.seconds["services"] = 2
        self.assertIn("services", slow.ask(timeout=20)[0])

    def test_what_comes_too_late_is_no_answer_to_the_next_request(self):
        slow = Slow(self, services=60)
        slow.ask(timeout=0.5)
        slow.go_on.set()
        slow.wait_for_answer()
        sections, _, _ = slow.ask(id="2", timeout=20)
        self.assertEqual(sections, {"services": {"asked": "2"}})
        sections, _, _ = slow.ask(id="3", timeout=20)
        self.assertEqual(sections, {"services": {"asked": "3"}})

    def test_one_that_has_not_come_back_is_not_waited_for_again(self):
        slow = Slow(self, services=60)
        slow.ask(timeout=0.5)
        _, late, seconds = slow.ask(timeout=30)
        self.assertEqual((late, slow.begun), (["services"], [("services", "1")]))
        self.assertLess(seconds, 3)


class Users(unittest.TestCase):
    def test_of_a_crowd_of_users_some_dozens_are_asked(self):
        looked = set()

        class Crowded(probe.RecordedHost):
            def names(self, path, most=0):
                return [str(CROWD + n) for n in range(2000)] if path == "/run/user" else super().names(path)

            def is_socket_of(self, path, uid):
                looked.add(uid)
                return True

        engines, silent = probe.find_users_engines(Crowded(Tree(self).folder), {}, 30.0)
        self.assertTrue(20 <= len(looked) <= 100, len(looked))
        self.assertLessEqual(len(engines), 200)
        self.assertEqual(silent, set())

    def told(self, *counts):
        """Return the section where root's and users' engines list so many containers."""
        engines = [probe.Engine("docker", f"u{n}" if n else "root", n) for n in range(len(counts))]

        def answer(host, engine, memo, deadline, now):
            rows = [{"Id": f"{n:064x}", "Names": [f"/{n}"], "State": "exited"} for n in range(counts[engine.uid])]
            probe.list_containers(engine, memo, rows, now)

        kept = probe.ask_engine, probe.find_engines, probe.find_users_engines
        probe.ask_engine, probe.find_engines = answer, lambda host: engines[:1]
        probe.find_users_engines = lambda host, memo, seconds: (engines[1:], set())
        try:
            return probe.collect_containers(Tree(self).host(), probe.Request({"sections": []}), {})
        finally:
            probe.ask_engine, probe.find_engines, probe.find_users_engines = kept

    def test_a_host_reports_so_many_containers_and_says_whose_list_is_cut(self):
        section = self.told(5000)
        self.assertTrue(500 <= len(section["containers"]) <= 1200)
        self.assertEqual(section["complete"], {"docker/root": False})

    def test_a_crowd_of_engines_cuts_nothing_off_of_roots(self):
        section = self.told(300, *[5000] * 40)
        owners = [row["owner"] for row in section["containers"]]
        self.assertEqual(owners.count("root"), 300)
        self.assertLessEqual(owners.count("u1"), 250)
        self.assertLessEqual(len(owners), 2500)
        self.assertIs(section["complete"]["docker/root"], True)
        self.assertEqual(set(section["complete"].values()), {True, False})
        self.assertLess(len(json.dumps(section)), 1 << 20)

    def test_an_engine_whose_last_rows_have_no_room_is_not_whole(self):
        section = self.told(900, *[199] * 7)
        cut = [source for source, is_whole in section["complete"].items() if not is_whole]
        shown = dict.fromkeys(section["complete"], 0)
        for row in section["containers"]:
            shown["docker/" + row["owner"]] += 1
        self.assertEqual(cut, [source for source, count in shown.items() if count < 199])
        self.assertTrue(cut)

    def test_a_users_engine_has_a_small_share_of_a_machine(self):
        self.assertTrue(1 <= probe.rest_after(0.5, 0.0) <= 60)
        self.assertTrue(1 <= probe.rest_after(0.0, 0.1) <= 60)
        self.assertTrue(60 <= probe.rest_after(1000.0, 1000.0) <= 150, "as long as its last list stands")


class Stream:
    """A conversation in which one answer is given."""

    def __init__(self, body):
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        self.at = 0

    def settimeout(self, seconds):
        pass

    def sendall(self, data):
        pass

    def recv(self, size):
        self.at += size
        return self.answer[self.at - size : self.at]


class Doors(unittest.TestCase):
    def door(self, uid, body=b"[]"):
        class Answering(probe.RecordedHost):
            def connect(self, path, timeout, uid=None):
                return Stream(body)

        engine = probe.Engine("docker", "eve" if uid else "root", uid)
        engine.paths.append("/run/docker.sock")
        kept, probe.connect_user = probe.connect_user, lambda host, engine, deadline: Stream(body)
        try:
            return probe.open_connection(Answering(Tree(self).folder), engine, time.monotonic() + 60)
        finally:
            probe.connect_user = kept

    def is_read(self, uid, body):
        door = self.door(uid, body)
        door.cpu_until = float("inf")
        try:
            return bool(door.ask("/"))
        except ValueError:
            return False

    def test_an_answer_has_an_end_and_a_users_an_earlier_one(self):
        def long(size):
            return b'["' + b"x" * size + b'"]'

        sizes = (200000, 2500000, 16000000)
        self.assertEqual([self.is_read(0, long(size)) for size in sizes], [True, True, False])
        self.assertEqual([self.is_read(CROWD, long(size)) for size in sizes], [True, False, False])

    def test_an_answer_has_so_many_values_and_a_users_fewer(self):
        def many(count):
            return b"[" + b"0," * count + b"0]"

        counts = (10000, 120000, 600000)
        self.assertEqual([self.is_read(0, many(count)) for count in counts], [True, True, False])
        self.assertEqual([self.is_read(CROWD, many(count)) for count in counts], [True, False, False])

    def test_a_users_engine_has_a_second_of_the_processor_in_a_round_at_most(self):
        clock = [100.0]
        kept, probe.cpu_clock = probe.cpu_clock, lambda: clock[0]
        try:
            door = self.door(CROWD)
            clock[0] += 0.1
            door.left()
            clock[0] += 2.0
            self.assertRaises(probe.Late, door.left)
            door = self.door(0)
            clock[0] += 2.0
            door.left()
        finally:
            probe.cpu_clock = kept


class Looks(unittest.TestCase):
    def test_a_round_looks_at_some_containers_closely_and_comes_back_to_a_few(self):
        asked = []

        class Door:
            def ask(self, target):
                asked.append(target)
                return {"State": {"Status": "exited"}, "HostConfig": {}}

        engine, host = probe.Engine("docker", "root"), Tree(self).host()
        memo = probe.EngineMemo(engine)
        rows = [{"Id": IDENT[:60] + f"{n:04x}", "Names": [f"/{n}"], "State": "exited"} for n in range(900)]
        now = 1000.0
        probe.list_containers(engine, memo, rows, now)
        probe.look_closer(host, engine, memo, Door())
        self.assertTrue(20 <= len(asked) <= 200, len(asked))
        for _ in range(100):
            probe.look_closer(host, engine, memo, Door())
        del asked[:]
        probe.list_containers(engine, memo, rows, now + 5000.0)
        probe.look_closer(host, engine, memo, Door())
        self.assertTrue(1 <= len(asked) <= 20, len(asked))


class Sockets(unittest.TestCase):
    def test_a_crowd_of_sockets_is_read_up_to_an_end_and_then_not_whole(self):
        looked = []

        class Crowded(probe.RecordedHost):
            def exists(self, path):
                return path == "/proc/net/tcp" or super().exists(path)

            def listeners(self, protocol, has_room):
                count = 60000 if protocol == "tcp" else 0
                return [{"version": 4, "address": "127.0.0.1", "port": n, "inode": n + 1} for n in range(count)]

            def addresses(self):
                return []

            def group_ids(self):
                return {}

        kept, probe.find_holders = probe.find_holders, lambda host, owned, accounts: looked.append(len(owned)) or {}
        try:
            host = Crowded(Tree(self).folder)
            section = probe.collect_sockets(host, probe.Request({"sections": []}), {})
        finally:
            probe.find_holders = kept
        self.assertTrue(2000 <= looked[0] <= 20000, looked)
        self.assertTrue(500 <= len(section["sockets"]) <= 2000)
        self.assertIs(section["complete"]["sockets"], False)

    def kernel(self, uids, seconds=600.0):
        """Let the kernel tell one socket of each of those users; return them all as far as the section reads them."""

        def told(*_):
            for inode, uid in enumerate(uids, 1):
                yield struct.pack("=BBBB", socket.AF_INET, 7, 0, 0) + bytes(60) + struct.pack("=II", uid, inode)

        self.addCleanup(setattr, probe, "LISTENERS_SECONDS", probe.LISTENERS_SECONDS)
        probe.LISTENERS_SECONDS = seconds
        parsed, kept = [], (probe.netlink_list, probe.parse_listener)
        probe.netlink_list = told
        probe.parse_listener = lambda *more: parsed.append(1) or kept[1](*more)
        try:
            share = probe.list_listeners(probe.Host(), "udp", {"0": "root", "33": "www", "1000": "eve"})
        finally:
            probe.netlink_list, probe.parse_listener = kept
        return share, len(parsed)

    def test_of_a_crowd_no_more_is_taken_apart_than_is_kept_and_everybody_has_some(self):
        crowds = ([1000] * 100000, [100000 + n for n in range(65536)])
        for crowd in crowds:
            share, parsed = self.kernel([*crowd, 0, *[33] * 100])
            rows = share.rows()
            self.assertTrue(share.is_cut)
            self.assertTrue(1000 <= len(rows) <= 10000, len(rows))
            self.assertLess(parsed, 2 * len(rows))
            told = [row["uid"] for row in rows]
            self.assertEqual((told.count(0), told.count(33)), (2, 200))  # of both families
        share, parsed = self.kernel([1000] * 100000, seconds=0.0)
        self.assertEqual((share.is_cut, len(share.rows())), (True, parsed))  # what came in time
        share, _ = self.kernel([1000, 0, 33])
        self.assertEqual((len(share.rows()), share.is_cut), (6, False))

    def test_the_kernels_files_are_read_line_by_line_and_not_kept(self):
        line = "0: 0100007F:{:04X} 00000000:0000 07 0:0 00:0 0 {} 0 {} 1 0\n"

        class Crowded(probe.RecordedHost):
            def read_bytes(self, path):
                if path.startswith("/proc/net/udp"):
                    raise MemoryError(path)
                return super().read_bytes(path)

        tree = Tree(self)
        tree.write("/proc/net/udp", "".join(line.format(n % 65536, 1000, n + 1) for n in range(50000)))
        tree.write("/proc/net/udp6", "head\n" + line.format(53, 0, 60000))
        self.addCleanup(setattr, probe, "LISTENERS_SECONDS", probe.LISTENERS_SECONDS)
        probe.LISTENERS_SECONDS = 600.0
        share = probe.list_listeners(Crowded(tree.folder), "udp", {"0": "root", "1000": "eve"})
        self.assertTrue(share.is_cut)
        self.assertTrue(1000 <= len(share.rows()) <= 10000)
        self.assertEqual([row["inode"] for row in share.rows() if row["uid"] == 0], [60000])

    def test_each_socket_for_ipv6_costs_the_same_however_many_there_are(self):
        def rows(count):
            return [{"version": 6, "address": "::", "port": n, "inode": 0, "uid": 0} for n in range(count)]

        looked = [0]

        class Row(dict):
            def __getitem__(self, key):
                looked[0] += 1
                return super().__getitem__(key)

        def cost(count):
            class Crowded(probe.RecordedHost):
                def exists(self, path):
                    return path == "/proc/net/tcp"

                def listeners(self, protocol, has_room):
                    return [Row(row) for row in rows(count if protocol == "tcp" else 0)]

                def addresses(self):
                    return []

            looked[0] = 0
            probe.collect_sockets(Crowded(Tree(self).folder), probe.Request({"sections": []}), {})
            return looked[0]

        self.assertLess(cost(1000), 3 * cost(500))

    def test_equal_sockets_of_a_crowd_are_one_and_the_list_still_not_whole(self):
        class Crowded(probe.RecordedHost):
            def exists(self, path):
                return path == "/proc/net/tcp"

            def listeners(self, protocol, has_room):
                count = 60000 if protocol == "tcp" else 0
                return [{"version": 4, "address": "127.0.0.1", "port": 53, "inode": 0}] * count

            def addresses(self):
                return []

        section = probe.collect_sockets(Crowded(Tree(self).folder), probe.Request({"sections": []}), {})
        self.assertEqual((len(section["sockets"]), section["complete"]["sockets"]), (1, False))


class Groups(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.kept = probe.GROUP_ROOTS, probe.inner_groups
        probe.GROUP_ROOTS = (os.fsencode(self.folder),)
        for name in ("cgroup.procs", "cgroup.controllers"):
            with open(self.folder + "/" + name, "w"):
                pass

    def tearDown(self):
        probe.GROUP_ROOTS, probe.inner_groups = self.kept

    def test_groups_without_end_are_read_up_to_one(self):
        read = []

        def inner(folder):
            read.append(folder)
            return [(len(read) * 100 + n, b"%d" % n) for n in range(100)]

        probe.inner_groups = inner
        self.assertTrue(len(probe.read_group_ids()) <= 10000)

    @costly
    def test_one_folder_has_so_many(self):
        for n in range(2600):
            os.mkdir(f"{self.folder}/{n}")
        self.assertTrue(500 <= len(probe.inner_groups(os.fsencode(self.folder))) <= 2500)

    def test_groups_that_are_slow_to_read_take_no_longer_than_a_section_may(self):
        clock = [time.monotonic()]

        class Slow:
            def monotonic(self):
                clock[0] += 0.5
                return clock[0]

        probe.inner_groups = lambda folder: [(int(clock[0] * 1000), b"x")]
        kept, probe.time = probe.time, Slow()
        try:
            began = clock[0]
            probe.read_group_ids()
        finally:
            probe.time = kept
        self.assertLess(clock[0] - began, 8)


if __name__ == "__main__":
    unittest.main()
