"""Other users of the watched machine: their engines, mounts and names cost and show nothing that is not theirs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import unittest

from place import HOSTS, costly, probe
from test_containers import IDENT, requests
from tree import Tree, section

IS_ROOT = os.geteuid() == 0
EVE = 61001 if IS_ROOT else os.geteuid()
LISTED = {"Id": IDENT, "Names": ["/web"], "Image": "nginx", "State": "running", "Status": "Up 2 days"}
CGROUP = f"0::/user.slice/user-{EVE}.slice/user@{EVE}.service/libpod-{IDENT}.scope\n"


def answer(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def wake(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class Village:
    """A machine with one user's runtime folder, at whose sockets somebody listens."""

    def __init__(self, test):
        self.folder = tempfile.mkdtemp()
        self.asked = []
        self.ends = []
        test.addCleanup(shutil.rmtree, self.folder)
        test.addCleanup(self.close)
        os.chmod(self.folder, 0o755)
        self.home = self.make(f"/run/user/{EVE}", EVE)
        self.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\neve:x:{EVE}:{EVE}::/home/eve:/bin/sh\n")

    def close(self):
        """Wake whoever waits at a socket first: its number is soon another one's."""
        for end in self.ends:
            wake(end)
        time.sleep(0.02)
        for end in self.ends:
            end.close()

    def make(self, path, uid):
        """Make a folder of a user; those above are root's."""
        place = self.folder + path
        os.makedirs(place)
        os.chown(place, uid, -1)
        return place

    def write(self, path, text):
        place = self.folder + path
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w") as file:
            file.write(text)

    def listen(self, path, behave, uid=EVE, owner=EVE):
        """Let a user listen at a socket, which may be another one's file."""
        end = socket.socket(socket.AF_UNIX)
        self.ends.append(end)
        end.bind(self.folder + path)
        os.chown(self.folder + path, owner, -1)
        if IS_ROOT:
            os.seteuid(uid)
        end.listen(8)  # from here on the kernel knows whose it is
        if IS_ROOT:
            os.seteuid(0)
        threading.Thread(target=self.serve, args=(end, behave), daemon=True).start()

    def serve(self, end, behave):
        while True:
            try:
                door, _ = end.accept()
            except OSError:
                return
            self.ends.append(door)
            threading.Thread(target=self.talk, args=(door, behave), daemon=True).start()

    def talk(self, door, behave):
        try:
            if not callable(behave):
                for target in requests(door):
                    self.asked.append(target)
                    door.sendall(behave["list" if "all=1" in target else "look"])
            else:
                behave(door)
        except OSError:
            return

    def told(self, timeout=4, one=None):
        request = probe.Request({"id": "1", "sections": ["containers"], "timeout": timeout})
        reply = (one or probe.Probe(probe.Host(self.folder))).answer(request)
        assert not reply["errors"], reply["errors"]
        return reply["sections"].get("containers"), reply["missing"].get("containers")


def engine(listed, look=None):
    return {"list": answer(listed), "look": answer(look if look is not None else {"State": {}})}


class Engines(unittest.TestCase):
    def setUp(self):
        self.village = Village(self)
        self.path = f"/run/user/{EVE}/docker.sock"

    def test_a_users_own_engine_is_asked(self):
        self.village.listen(self.path, engine([LISTED]))
        told, _ = self.village.told()
        self.assertEqual(told["complete"], {"docker/eve": True})
        self.assertEqual([row["name"] for row in told["containers"]], ["web"])

    def test_a_socket_that_is_a_link_is_not_asked(self):
        self.village.make("/run/elsewhere", EVE)
        self.village.listen("/run/elsewhere/docker.sock", engine([LISTED]))
        os.symlink("../../elsewhere/docker.sock", self.village.folder + self.path)
        self.assertEqual(self.village.told(), (None, "not_installed"))
        self.assertEqual(self.village.asked, [])

    def test_a_socket_in_a_folder_that_is_a_link_is_not_asked(self):
        self.village.make("/run/elsewhere", EVE)
        self.village.listen("/run/elsewhere/podman.sock", engine([LISTED]))
        os.symlink("../../elsewhere", self.village.home + "/podman")
        self.assertEqual(self.village.told(), (None, "not_installed"))
        self.assertEqual(self.village.asked, [])

    def swapped(self, name, what, target):
        """Tell what is said, and who connected, where a socket becomes a link to another one behind the look at it."""
        village, connected = Village(self), []
        place, vault = village.home + what, village.folder + "/run/vault"
        os.makedirs(vault)
        os.makedirs(os.path.dirname(village.home + name), exist_ok=True)
        os.chown(os.path.dirname(village.home + name), EVE, -1)
        village.listen(
            "/run/vault/" + os.path.basename(name),
            connected.append,
            uid=0 if IS_ROOT else EVE,
            owner=0 if IS_ROOT else EVE,
        )
        village.listen(f"/run/user/{EVE}" + name, engine([LISTED]))

        class Swapped(probe.Host):
            def is_socket_of(self, path, uid):
                told = super().is_socket_of(path, uid)
                if told:
                    os.rename(place, place + ".away")
                    os.symlink(vault + target, place)
                    os.chown(place, EVE, -1, follow_symlinks=False)
                return told

        told = village.told(one=probe.Probe(Swapped(village.folder)))
        time.sleep(0.05)
        return told, connected + village.asked

    def test_what_a_user_swaps_behind_a_look_at_it_leads_to_no_other_socket(self):
        for name, what, target in (
            ("/docker.sock", "/docker.sock", "/docker.sock"),
            ("/podman/podman.sock", "/podman/podman.sock", "/podman.sock"),
            ("/podman/podman.sock", "/podman", ""),
        ):
            with self.subTest(what):
                self.assertEqual(self.swapped(name, what, target), ((None, "unreadable"), []))

    def test_without_proc_no_users_socket_is_asked(self):
        self.village.listen(self.path, engine([LISTED]))
        kept, probe.HELD = probe.HELD, "/proc/nowhere/"
        try:
            told, _ = self.village.told()
        finally:
            probe.HELD = kept
        self.assertEqual(told["engines"], [{"engine": "docker", "owner": "eve", "state": "stopped"}])
        self.assertEqual(self.village.asked, [])

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_a_socket_or_a_folder_of_somebody_else_is_not_asked(self):
        self.village.listen(self.path, engine([LISTED]), uid=EVE, owner=EVE + 1)
        self.village.make(f"/run/user/{EVE}/podman", EVE + 1)
        self.village.listen(f"/run/user/{EVE}/podman/podman.sock", engine([LISTED]))
        self.assertEqual(self.village.told(), (None, "not_installed"))
        self.assertEqual(self.village.asked, [])

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_where_somebody_else_listens_nothing_is_said(self):
        for uid in (0, EVE + 1):
            with self.subTest(uid):
                self.village = Village(self)
                self.village.listen(self.path, engine([LISTED]), uid=uid)
                self.assertEqual(self.village.told(), (None, "unreadable"))
                self.assertEqual(self.village.asked, [])

    def test_an_id_is_64_hex_digits_and_another_costs_its_row(self):
        bad = ["(a|aa)+$", "(((", IDENT[:-1], IDENT + "\n", IDENT.upper(), "../" * 20 + "1234", None, 7, [IDENT], {}]
        self.village.listen(self.path, engine([*(dict(LISTED, Id=one) for one in bad), 7, LISTED, {}]))
        self.village.write("/proc/7/cgroup", "0::/x/" + "a" * 40 + "!\n")
        begun = time.monotonic()
        told, _ = self.village.told()
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual([row["id"] for row in told["containers"]], [IDENT[:12]])
        self.assertEqual(told["complete"], {"docker/eve": False})
        self.assertEqual({target.split("/")[2] for target in self.village.asked if "all=1" not in target}, {IDENT})

    def pid_told(self, pid):
        self.village = Village(self)
        for number, uid, group in ((1, 0, "0::/init.scope\n"), (812, 0, f"0::/docker/{IDENT}\n"), (900, EVE, "0::/\n")):
            self.village.write(f"/proc/{number}/status", f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
            self.village.write(f"/proc/{number}/cgroup", group)
        self.village.write("/proc/901/status", "Uid:\t165536\t165536\t165536\t165536\n")
        self.village.write("/proc/901/cgroup", CGROUP)
        self.village.write(f"/sys/fs/cgroup/docker/{IDENT}/cpu.stat", "usage_usec 7000000\n")
        self.village.write(f"/sys/fs/cgroup/{CGROUP[4:-1]}/cpu.stat", "usage_usec 2000000\n")
        self.village.write("/var/tmp/eve/cgroup", f"0::/docker/{IDENT}\n")
        self.village.listen(self.path, engine([LISTED], {"State": {"Status": "running", "Pid": pid}, "HostConfig": {}}))
        told, _ = self.village.told()
        (row,) = told["containers"]
        return row.get("pid"), row.get("cpu_seconds")

    def test_an_engine_speaks_for_its_owners_processes_only(self):
        for pid in ("../var/tmp/eve", "812", True, -1, 0, 812.0, 1 << 22, 1 << 70, None, [812], 1, 812, 4711):
            with self.subTest(pid):
                self.assertEqual(self.pid_told(pid), (None, None))
        self.assertEqual(self.pid_told(900), (900, None))
        self.assertEqual(self.pid_told(901), (901, 2.0))

    def test_words_of_every_wrong_type_are_left_out(self):
        odd = [None, True, -1, 1e300, "x" * 9999, [], {}, ["x"], {"a": 1}, "\u202e\n\x1b[2J", 1 << 62]
        fields = ("Names", "Image", "State", "Status", "Ports", "Labels")
        listed = [dict(LISTED, Id=f"{n:064x}", **{field: odd[n % len(odd)] for field in fields}) for n in range(30)]
        port = {"IP": 7, "PrivatePort": True, "PublicPort": 1 << 40, "Type": "x" * 99}
        listed += [
            dict(LISTED, Id=f"{99 + n:064x}", Ports=[port, one], Labels={"com.docker.compose.project": one})
            for n, one in enumerate(odd)
        ]
        look = {"State": {"Pid": "x", "ExitCode": [], "StartedAt": "9" * 9999, "Health": {"Status": 7}, "OOMKilled": 1}}
        look.update(RestartCount=1e99, HostConfig={"RestartPolicy": {"Name": ["x"]}})
        self.village.listen(self.path, engine(listed, look))
        told, _ = self.village.told()
        self.assertEqual(len(told["containers"]), 30 + len(odd))
        for row in told["containers"]:
            for key, value in row.items():
                kinds = {"ports": list, "restarts": int, "exit_code": int, "uid": int}
                self.assertIs(type(value), kinds.get(key, str), (key, value))
            self.assertLessEqual(len(json.dumps(row)), 2000)
        self.assertEqual({row["restart_policy"] for row in told["containers"]}, {"no"})

    def test_a_users_list_without_end_is_cut_and_others_sections_are_reported(self):
        labels = {"com.docker.compose.project": "x" * 300}
        ports = [{"IP": "::", "PrivatePort": 1, "PublicPort": 2, "Type": "tcp"}] * 2
        listed = [dict(LISTED, Id=f"{n:064x}", Names=["/" + "y" * 400], Labels=labels, Ports=ports) for n in range(700)]
        self.village.listen(self.path, engine(listed))
        told, _ = self.village.told()
        self.assertEqual(
            (len(told["containers"]), told["complete"]), (probe.USER_CONTAINERS_SHOWN, {"docker/eve": False})
        )
        self.assertLess(len(json.dumps(told)), 500000)

    @costly
    def test_what_costs_much_to_read_is_not_read(self):
        big = 1 << 20
        head = b"HTTP/1.1 200 OK\r\n"
        bodies = {
            "depth": answer(b"[" * big),
            "depth that ends": answer(b"[" * 20000 + b"]" * 20000),
            "values": answer(b"[" + b"[]," * (big // 4) + b"[]]"),
            "digits": answer(b"[" + b"9" * (big - 9) + b"]"),
            "digits of a fraction": answer(b"[0." + b"9" * (big - 9) + b"]"),
            "an exponent": answer(b'[{"Id": 1e999}]'[:-1] + b", NaN]"),
            "a negative chunk": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"-1\r\n" * (big * 2),
            "small chunks": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * big,
            "a long chunk": head + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
            "a head without end": head + b"X: y\r\n" * big,
            "a long length": head + b"Content-Length: " + b"9" * 60000 + b"\r\n\r\n",
            "a long status": b"HTTP/1.1 " + b"2" * 60000 + b" OK\r\n\r\n",
            "a compressed answer": head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        }
        for name, body in bodies.items():
            with self.subTest(name):
                self.village = Village(self)
                self.village.listen(self.path, {"list": body, "look": b""})
                tracemalloc.start()
                begun = time.monotonic()
                told = self.village.told()
                seconds, (_, peak) = time.monotonic() - begun, tracemalloc.get_traced_memory()
                tracemalloc.stop()
                # A newer Python may read what is nested, and finds no container in it.
                self.assertIn(told[1], ("unreadable", "timed_out") if told[0] is None else (None,))
                self.assertEqual((told[0] or {"containers": []})["containers"], [])
                self.assertLess(seconds, 5)
                self.assertLess(peak, 20 << 20)

    def test_an_answer_that_drips_ends_with_its_time(self):
        def drip(door):
            door.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                door.sendall(b"X")
                time.sleep(0.1)

        self.village.listen(self.path, drip)
        begun = time.monotonic()
        self.assertEqual(self.village.told(timeout=2), (None, "timed_out"))
        self.assertLess(time.monotonic() - begun, 2)

    def test_roots_engine_has_its_time_however_many_users_hang(self):
        engines = [probe.Engine("docker", "root")] + [probe.Engine("docker", f"u{n}", n) for n in range(1, 40)]
        given = {}

        def ask(host, one, memo, deadline, now):
            given[one.source()] = deadline - time.monotonic()

        kept, probe.ask_engine = probe.ask_engine, ask
        try:
            probe.ask_engines(Tree(self).host(), engines, [], {}, time.monotonic() + 4)
        finally:
            probe.ask_engine = kept
        self.assertGreater(given["docker/root"], 1.9)
        self.assertEqual(len(given), 40)

    def test_of_a_user_who_left_and_came_back_nothing_old_is_reported(self):
        self.village.listen(self.path, engine([LISTED]))
        one = probe.Probe(probe.Host(self.village.folder))
        told, _ = self.village.told(one=one)
        self.assertEqual([row["name"] for row in told["containers"]], ["web"])
        shutil.rmtree(self.village.home)  # as systemd does at the end of the last session
        self.assertEqual(self.village.told(one=one), (None, "not_installed"))
        self.village.make(f"/run/user/{EVE}", EVE)
        heal = threading.Event()
        self.addCleanup(heal.set)
        self.village.listen(self.path, lambda door: heal.wait(20))
        self.assertEqual(self.village.told(timeout=1, one=one), (None, "timed_out"))

    def test_looking_for_users_sockets_keeps_nobody_waiting(self):
        class Hanging(probe.RecordedHost):
            def is_socket_of(self, path, uid):
                time.sleep(30)

            def exists(self, path):
                if path.startswith("/run/user/"):
                    time.sleep(30)
                return super().exists(path)

        host = Hanging(os.path.join(HOSTS, "nvidia-workstation"))
        host.record = dict(host.record, lists={"/run/user": ["1000"]})
        begun = time.monotonic()
        reply = probe.Probe(host).answer(probe.Request({"id": "1", "sections": ["cpu", "containers"], "timeout": 1}))
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual((set(reply["sections"]), reply["missing"]), ({"cpu", "containers"}, {}))
        self.assertEqual({row["owner"] for row in reply["sections"]["containers"]["engines"]}, {"root"})

    def test_users_who_hang_cost_others_nothing_for_long(self):
        heal = threading.Event()
        self.addCleanup(heal.set)
        looked = []

        class Hanging(probe.RecordedHost):
            def is_socket_of(self, path, uid):
                looked.append(uid)
                return not heal.wait(60) if uid < 2000 else super().is_socket_of(path, uid)

            def boottime(self):
                return clock[0]

        clock, tree = [1000.0], Tree(self)
        tree.write("/run/user/2000/docker.sock/containers/json", json.dumps([LISTED]))
        host = Hanging(tree.folder)
        host.record = dict(host.record, lists={"/run/user": [str(uid) for uid in range(1001, 1009)]})
        one = probe.Probe(host)
        for _ in range(10):
            request = probe.Request({"id": "1", "sections": ["containers"], "timeout": 1})
            told = one.answer(request)["sections"].get("containers")
            clock[0] += 30
            if told:
                break
        self.assertEqual([row["owner"] for row in (told or {"containers": []})["containers"]], ["2000"])
        self.assertEqual(sorted(set(looked)), [*range(1001, 1009), 2000])
        self.assertLessEqual(max(looked.count(uid) for uid in range(1001, 1009)), 1)


class Reply(unittest.TestCase):
    def test_a_section_that_is_too_long_costs_no_other(self):
        sections = {"cpu": {"at": 1}, "containers": {"x": "y" * (5 << 20)}, "filesystems": {"x": ["z" * (1 << 20)] * 5}}
        reply = {"id": "7", "protocol": 1, "sections": sections, "missing": {}, "errors": {}}
        head, _, body = probe.encode_reply(reply).partition(b"\n")
        self.assertLess(len(body), probe.REPLY_BYTES)
        told = json.loads((probe.zlib.decompress(body) if head.endswith(b" z") else body).decode())
        self.assertEqual(told["sections"], {"cpu": {"at": 1}})
        self.assertEqual(set(told["errors"]), {"containers", "filesystems"})


FUSE = "{0} 25 0:{0} / {1} rw,nosuid,nodev,relatime - {2} eve rw,user_id={3},group_id=0{4}\n"


class Mounts(unittest.TestCase):
    def wanted(self, kind, user, allow="", uid=1000, watched=()):
        (mount,) = probe.parse_mountinfo(FUSE.format(40, "/home/eve/x", kind, user, allow).rstrip("\n"))
        return probe.is_usual(mount, uid) or probe.Watched(list(watched)).fits(mount, uid)

    def test_fuse_counts_only_where_root_or_the_probes_user_mounted_it(self):
        allow = ",default_permissions,allow_other"
        for kind in ("fuse.mergerfs", "fuseblk", "fuse.unionfs", "fuse.apfs"):
            for user, told, uid, is_wanted in (
                (1001, allow, 1000, False),
                (1001, allow, 0, False),
                (1001, "", 0, False),
                (10, allow, 1, False),
                (0, allow, 1000, True),
                (0, "", 1000, False),
                (0, "", 0, True),
                (1000, "", 1000, True),
            ):
                with self.subTest((kind, user, told, uid)):
                    self.assertEqual(self.wanted(kind, user, told, uid), is_wanted)
        self.assertTrue(self.wanted("fuse.mergerfs", 1001, allow, watched=["/home/eve/x"]))

    def test_a_type_that_only_looks_like_the_kernels_does_not_count(self):
        for kind in ("fuse", "fuse.ext4", "fuse.zfs", "fuse.mergerfs\\040x", "fuse.ext4\\012x"):
            self.assertFalse(self.wanted(kind, 0, ",allow_other"))
        # The options of a place are not what the kernel noted of the filesystem.
        (mount,) = probe.parse_mountinfo("40 25 0:40 / /x rw,user_id=0,allow_other - fuse.mergerfs e rw,user_id=7")
        self.assertFalse(probe.is_usual(mount, 1000))

    def machine(self, lines, **told):
        tree = Tree(self, dict({"statvfs": {}}, **told))
        tree.write("/proc/self/mountinfo", "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + lines)
        return tree

    def test_a_made_up_full_disk_is_not_reported_and_not_asked_for(self):
        sizes = [4096, 1000, 500, 400, 10, 5]
        full = {"/": sizes, "/home/eve/x": [4096, 1000, 0, 0, 10, 5]}
        line = FUSE.format(40, "/home/eve/x", "fuse.mergerfs", 1001, ",allow_other")
        for is_root in (False, True):
            told, _, _ = section(self.machine(line, statvfs=full, is_root=is_root).host(), "filesystems")
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/"])
            self.assertEqual((told["complete"], told.get("late")), ({"mounts": True}, None))

    def hanging(self, count, kind="nfs4"):
        places = [f"/mnt/{n}" for n in range(count)]
        lines = "".join(f"{40 + n} 25 0:{40 + n} / {place} rw - {kind} nas:/{n} rw\n" for n, place in enumerate(places))
        heal = threading.Event()
        self.addCleanup(heal.set)

        stuck = []  # the threads that stand in a mount

        class Hanging(probe.RecordedHost):
            def statvfs(self, path, mount, *args):
                if path != "/" and not heal.is_set():
                    stuck.append(threading.current_thread().name)
                    heal.wait(60)
                return (4096, 1000, 500, 400, 10, 5)

        return Hanging(self.machine(lines).folder), places, heal, stuck

    def test_a_filesystem_of_roots_is_not_gone_because_a_user_closes_the_way_to_it(self):
        """With FUSE as well: only a stranger's own refuses for good."""
        allow = ",default_permissions,allow_other"
        for error in (PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file or directory")):

            class Closed(probe.RecordedHost):
                def statvfs(self, path, mount, *args, error=error):
                    raise error

            for kind, user, more, uid, is_late in (
                ("fuse.mergerfs", 0, allow, 1000, True),
                ("fuseblk", 0, allow, 1000, True),
                ("fuse.mergerfs", 1000, "", 1000, True),
                ("fuse.mergerfs", 1001, allow, 1000, False),
            ):
                with self.subTest((kind, user, error)):
                    tree = Tree(self, {"uid": uid})
                    tree.write("/proc/self/mountinfo", FUSE.format(40, "/home/eve/pool", kind, user, more))
                    request = probe.Request(
                        {"id": "1", "sections": ["filesystems"], "watch": {"filesystems": ["/home/eve/pool"]}}
                    )
                    told = probe.collect_filesystems(Closed(tree.folder), request, {})
                    self.assertEqual(told["complete"], {"mounts": True})
                    self.assertEqual(told.get("late", []), ["/home/eve/pool"] if is_late else [])

    def test_any_number_of_strangers_mounts_hides_none_of_roots(self):
        lines = "".join(FUSE.format(100 + n, f"/home/eve/{n}", "fuse.sshfs", 1001, "") for n in range(6000))
        lines += "9000 25 8:9 / /srv rw - ext4 /dev/sdb1 rw\n"
        sizes = [4096, 1000, 500, 400, 10, 5]
        told, _, _ = section(self.machine(lines, statvfs={"/": sizes, "/srv": sizes}).host(), "filesystems")
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/", "/srv"])
        self.assertEqual(told["complete"], {"mounts": False})

    @costly
    def test_mounts_that_hang_have_a_few_threads_and_no_more(self):
        host, places, heal, stuck = self.hanging(30)
        one = probe.Probe(host)
        request = probe.Request({"id": "1", "sections": ["filesystems"], "watch": {"filesystems": places}})
        for _ in range(3):
            told = one.answer(request)["sections"]["filesystems"]
            self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/"])
            self.assertEqual((set(told["late"]), told["complete"]), (set(places), {"mounts": False}))
            self.assertTrue(1 <= len(stuck) <= probe.MOST_STUCK, stuck)
        begun = time.monotonic()
        one.answer(request)
        self.assertLess(time.monotonic() - begun, 0.9)
        heal.set()
        time.sleep(0.3)
        self.assertEqual(len(one.answer(request)["sections"]["filesystems"]["filesystems"]), 31)

    def test_another_mount_over_the_one_that_is_meant_does_not_answer_for_it(self):
        with open("/proc/self/mountinfo") as file:
            mount = next(one for one in probe.parse_mountinfo(file.read()) if one.mountpoint == "/proc")
        host = probe.Host()
        self.assertEqual(host.statvfs("/proc", mount.id)[0], os.statvfs("/proc").f_frsize)
        with self.assertRaises(OSError):
            host.statvfs("/proc", mount.id + "1")

    def test_many_mounts_in_each_other_cost_little(self):
        place, lines = "/home/eve", []
        for n in range(1000):
            place += "/a"
            lines.append(
                FUSE.format(40 + n, place, "fuse.sshfs", 1001, ",allow_other").replace(
                    " 25 ", f" {39 + n if n else 25} "
                )
            )
        deep = "".join(lines)
        flat = "".join(
            FUSE.format(2000 + n, "/home/eve" + "/b" * 2000 + f"/{n}", "fuse.sshfs", 1001, "") for n in range(1000)
        )
        begun = time.process_time()
        told, _, _ = section(
            self.machine(deep + flat, statvfs={"/": [4096, 1000, 500, 400, 10, 5]}).host(), "filesystems"
        )
        self.assertLess(time.process_time() - begun, 2)
        self.assertEqual([row["mountpoint"] for row in told["filesystems"]], ["/"])
        self.assertLessEqual(len(told["unwatched"]), probe.MOST_UNWATCHED)

    def test_what_users_mount_does_not_push_out_what_may_be_watched(self):
        lines = "".join(FUSE.format(100 + n, f"/home/eve/{n}", "fuse.sshfs", 1001, "") for n in range(300))
        lines += "900 25 0:900 / /mnt/nas rw - nfs4 nas:/ rw\n"
        told, _, _ = section(self.machine(lines, statvfs={"/": [4096, 1000, 500, 400, 10, 5]}).host(), "filesystems")
        self.assertIn({"mountpoint": "/mnt/nas", "type": "nfs4"}, told["unwatched"])

    def test_a_cover_is_found_wherever_it_is(self):
        lines = (
            "26 25 8:2 / /home rw - ext4 /dev/sda2 rw\n"
            "27 26 8:3 / /home/eve/data rw - ext4 /dev/sda3 rw\n"
            "28 27 8:4 / /home/eve/data/deep rw - ext4 /dev/sda4 rw\n"
            "29 26 8:5 / /home/eve2 rw - ext4 /dev/sda5 rw\n"
        )
        cover = FUSE.format(30, "/home/eve", "fuse.x", 1001, "").replace(" 25 ", " 26 ")
        told = probe.visible_mounts(probe.parse_mountinfo(lines + cover))
        self.assertEqual(set(told), {"/home", "/home/eve", "/home/eve2"})


class Daemons(unittest.TestCase):
    """Real processes and files."""

    @unittest.skipUnless(IS_ROOT, "only root can give a program the setuid bit")
    def test_real_roots_process_of_a_setuid_program_is_no_server(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for mode, is_sure in ((0o4755, []), (0o755, [True])):
            program = os.path.join(folder, "sshd")
            shutil.copy(shutil.which("sleep"), program)
            os.chmod(program, mode)
            child = subprocess.Popen(["/usr/sbin/sshd", "60"], executable=program)
            self.addCleanup(child.wait)
            self.addCleanup(child.kill)
            for _ in range(50):  # on a busy machine others come and go while all processes are read
                found = [one.is_sure for one in probe.Daemons(probe.Host()).found if one.pid == child.pid]
                if found == is_sure:
                    break
                time.sleep(0.1)
            self.assertEqual(found, is_sure)
            os.remove(program)

    def test_nothing_that_waits_or_never_ends_is_opened_for_a_file_of_roots(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        os.mkfifo(folder + "/fifo")
        os.symlink("/dev/zero", folder + "/zero")
        with open(folder + "/file", "w") as file:
            file.write("x")
        with open(folder + "/theirs", "w") as file:
            os.chmod(folder + "/theirs", 0o666)
        for path in ("/dev/zero", "/dev/null", folder, folder + "/fifo", folder + "/zero", folder + "/theirs"):
            with self.assertRaises(OSError):
                probe.Host().read_roots(path)
        self.assertEqual(probe.Host().read_roots("/proc/self/status"), "")
        if os.geteuid() == 0:
            self.assertEqual(probe.Host().read_roots(folder + "/file"), "x")
            os.chown(folder + "/file", 1501, -1)
        with self.assertRaises(probe.Theirs):
            probe.Host().read_roots(folder + "/file")


class Descriptors(unittest.TestCase):
    def test_of_a_process_with_any_number_of_descriptors_some_are_looked_at(self):
        ends = [socket.socket() for _ in range(60)]
        try:
            self.assertEqual(len(probe.Host().names("/proc/self/fd", 20)), 20)
            inodes, is_whole = probe.read_open_sockets(os.getpid(), 20)
            self.assertLessEqual(len(inodes), 20)
            self.assertFalse(is_whole)
            inodes, is_whole = probe.read_open_sockets(os.getpid(), 10000)
            self.assertGreaterEqual(len(inodes), 60)
            self.assertTrue(is_whole)
        finally:
            for end in ends:
                end.close()
        self.assertEqual(len(probe.Host().names("/proc/self/fd")), len(os.listdir("/proc/self/fd")))


class Children(unittest.TestCase):
    def test_children_that_cannot_be_ended_are_bounded(self):
        class Stuck:
            def poll(self):
                return None

        unreaped = [Stuck() for _ in range(probe.MOST_UNREAPED)]
        with self.assertRaises(probe.Late):
            probe.run_child([sys.executable, "-c", ""], 5.0, unreaped)
        self.assertEqual(probe.run_child(["echo", "x"], 5.0, unreaped[1:])[1], "x\n")


if __name__ == "__main__":
    unittest.main()
