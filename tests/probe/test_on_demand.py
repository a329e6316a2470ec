"""Processes and logs: data that is reported only on request."""

import os
import subprocess
import sys
import unittest

from place import probe
from tree import Tree, section

STATUS = "Name:\t{}\nState:\tS (sleeping)\nUid:\t0\t{}\t0\t0\nThreads:\t{}\nVmRSS:\t    {} kB\n"


def stat(name, pid=1, cpu=(12, 34), started=4300):
    """Return /proc/PID/stat as the kernel writes it."""
    rest = ["S", "1", "1", "1", "0", "-1", "4194560", "10", "0", "0", "0", *cpu, "0", "0", "20", "0", "1", "0", started]
    return " ".join(map(str, [pid, f"({name})", *rest, 0, 0]))


class Processes(unittest.TestCase):
    def add(self, tree, pid, name="web", uid=33, group=""):
        folder = "/proc/" + str(pid)
        tree.files(folder, stat=stat(name, pid), status=STATUS.format(name, uid, 3, 5276))
        tree.write(folder + "/cgroup", group)

    def test_a_process_is_reported_with_its_owner(self):
        tree = Tree(self)
        tree.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:\nagain:x:33:33::/:\n")
        self.add(tree, 1, "init", uid=0)
        self.add(tree, 812, "a) (b 7", group="0::/system.slice/web.service\n")
        self.add(tree, 900, "x", uid=4242, group="0::/system.slice/docker-{}.scope\n".format("ab" * 32))
        reported, _, _ = section(tree.host(), "processes")
        self.assertEqual((reported["at"], reported["total"], reported["complete"]), (1000.0, 3, {"processes": True}))
        self.assertEqual(
            reported["processes"][1],
            {
                "pid": 812,
                "name": "a) (b 7",
                "state": "S",
                "user": "www-data",
                "cpu_seconds": 0.46,
                "memory_bytes": 5276 << 10,
                "threads": 3,
                "started_seconds": 43.0,
                "unit": "web.service",
            },
        )
        self.assertEqual(reported["processes"][2]["user"], "4242")
        self.assertEqual(reported["processes"][2]["container"], "ab" * 32)

    def test_the_kernels_own_threads_have_no_memory(self):
        tree = Tree(self)
        tree.files("/proc/2", stat=stat("kthreadd", 2), status="Name:\tkthreadd\nUid:\t0\t0\t0\t0\nThreads:\t1\n")
        reported, _, _ = section(tree.host(), "processes")
        self.assertEqual(reported["processes"][0]["memory_bytes"], 0)

    def test_one_that_ends_meanwhile_and_one_that_is_hidden_are_left_out(self):
        tree = Tree(self)
        self.add(tree, 7)
        tree.write("/proc/8/stat", stat("gone", 8))
        tree.write("/proc/9/stat", "")
        reported, _, _ = section(tree.host(), "processes")
        self.assertEqual([one["pid"] for one in reported["processes"]], [7])
        self.assertEqual(reported["complete"], {"processes": False})  # PID 1 cannot be seen

    def test_of_too_many_those_are_reported_that_count(self):
        rows = [
            {"pid": n, "user": "eve", "memory_bytes": n, "cpu_seconds": -n, "started_seconds": 0} for n in range(5000)
        ]
        turns = dict.fromkeys(range(5000), "eve")
        kept = probe.notable(rows, turns)
        self.assertLessEqual(len(kept), 2000)
        pids = [one["pid"] for one in kept]
        self.assertEqual(pids, sorted(set(pids)))
        self.assertTrue({0, 499, 4000, 4999} <= set(pids))
        self.assertEqual(probe.notable(rows[:2000], turns), rows[:2000])

    def test_of_too_many_each_user_is_told_some(self):
        turns = {}

        def rows(pids, user):
            turns.update(dict.fromkeys(pids, user))
            return [
                {"pid": n, "user": user or str(n), "memory_bytes": n, "cpu_seconds": n, "started_seconds": n}
                for n in pids
            ]

        quiet = rows(range(100), "root") + rows(range(100, 130), "bob")
        for crowd in ("eve", None):  # the latter has as many numbers as he likes
            kept = {one["pid"] for one in probe.notable(quiet + rows(range(200000, 206000), crowd), turns)}
            self.assertLessEqual(set(range(130)), kept)
            self.assertLessEqual(len(kept), 2000)

    def test_whoever_runs_a_program_with_the_setuid_bit_takes_no_turn_of_roots(self):
        """Also where it has made itself root's altogether, as sudo(8) does before it asks for a password."""
        login = "0::/user.slice/user-1000.slice/session-3.scope\n"
        for real, cgroup in ((1000, "0::/system.slice/web.service\n"), (0, login)):
            tree = Tree(self)
            tree.write("/etc/passwd", "root:x:0:0::/:\neve:x:1000:1000::/:\n")

            class Crowded(probe.RecordedHost):
                def names(self, path, most=0):
                    return [str(pid) for pid in range(1, 2601)] if path == "/proc" else []

                def read_bytes(self, path, real=real, cgroup=cgroup):
                    if not path.startswith("/proc/") or path.count("/") != 3:
                        return super().read_bytes(path)
                    is_roots = int(path.split("/")[2]) > 2500
                    if path.endswith("/status"):
                        size = b"VmSize:\t 9 kB\nVmRSS:\t %d kB\n" % (1 if is_roots else 9)
                        return b"Name:\tx\nUid:\t%d\t0\t0\t0\n" % (0 if is_roots else real) + size
                    if path.endswith("/cgroup"):
                        return b"0::/system.slice/x.service\n" if is_roots else cgroup.encode()
                    return stat("x").encode()

            reported = section(Crowded(tree.folder), "processes")[0]["processes"]
            self.assertTrue(set(range(2501, 2601)) <= {one["pid"] for one in reported}, real)
            self.assertEqual({one["user"] for one in reported}, {"root"}, "the effective one is shown")

    def test_of_a_crowd_of_processes_so_many_are_read_and_some_of_each_user(self):
        read = []

        class Crowded(probe.RecordedHost):
            def names(self, path, most=0):
                return [str(pid) for pid in range(1, 40002)][: most or None] if path == "/proc" else []

            def read_bytes(self, path):
                if path.endswith("/status"):
                    pid = int(path.split("/")[2])
                    uid = {1: 0, 40000: 33, 40001: 33}.get(pid, 1000)
                    return b"Name:\tx\nUid:\t%d\t%d\t0\t0\n" % (uid, uid)
                if path.endswith("/stat"):
                    read.append(path)
                    return stat("x").encode()
                return super().read_bytes(path)

        tree = Tree(self)
        tree.write("/etc/passwd", "root:x:0:0::/:\nwww:x:33:33::/:\neve:x:1000:1000::/:\n")
        kept, probe.USERS_SECONDS = probe.USERS_SECONDS, 600.0
        try:
            reported = section(Crowded(tree.folder), "processes")[0]
        finally:
            probe.USERS_SECONDS = kept
        self.assertTrue(2000 <= len(read) <= 10000, len(read))
        self.assertEqual((reported["total"], reported["complete"]["processes"]), (40001, False))
        users = [one["user"] for one in reported["processes"]]
        self.assertEqual((users.count("root"), users.count("www")), (1, 2))

    def test_this_very_process_as_ps_sees_it(self):
        reported, _, _ = section(probe.Host(), "processes")
        mine = next(one for one in reported["processes"] if one["pid"] == os.getpid())
        argv = ["ps", "-o", "comm=,user:32=,rss=,nlwp=", "-p", str(os.getpid())]
        try:
            words = subprocess.check_output(argv).decode().split()
        except OSError:
            self.skipTest("no ps")
        self.assertEqual((mine["name"], mine["user"]), (words[0], words[1]))
        self.assertLess(abs(mine["memory_bytes"] - (int(words[2]) << 10)), 16 << 20)
        self.assertEqual(mine["threads"], int(words[3]))
        self.assertLess(mine["started_seconds"], probe.Host().boottime())

    def test_no_command_line_leaves_the_host(self):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "canary-password"], stdin=-1)
        try:
            reported, _, _ = section(probe.Host(), "processes")
        finally:
            child.stdin.close()
            child.wait()
        self.assertIn(child.pid, [one["pid"] for one in reported["processes"]])
        self.assertNotIn("canary", repr(reported))


def frame(stream, text):
    """Return what an engine makes of a line (Docker Engine API, stream format)."""
    content = text.encode()
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


class Logs(unittest.TestCase):
    UNIT = "journalctl --output=short-iso --no-pager --lines={} --unit={}"

    def tree(self, command="", **said):
        tree = Tree(self, {"run": {command: said}})
        tree.write("/run/systemd/system/.keep")
        return tree

    def ask(self, host, wish):
        watch = {"logs": wish}
        reply = probe.Probe(host).answer(probe.Request({"id": "1", "sections": ["logs"], "watch": watch}))
        return reply["sections"].get("logs"), reply["missing"].get("logs"), reply["errors"].get("logs")

    def test_the_end_of_a_services_log(self):
        tree = self.tree(
            self.UNIT.format(2, "web.service"),
            output="-- Logs begin at Mon --\n2025-11-24T10:00:00+0000 nas web[7]: a\n  b\n",
        )
        reported, missing, error = self.ask(tree.host(), ["2 service web.service"])
        self.assertEqual((missing, error), (None, None))
        self.assertEqual(reported, {"lines": ["2025-11-24T10:00:00+0000 nas web[7]: a", "  b"], "truncated": False})

    def test_an_empty_log_is_no_error(self):
        tree = self.tree(self.UNIT.format(2, "web.service"), output="-- No entries --\n")
        self.assertEqual(self.ask(tree.host(), ["2 service web.service"])[0], {"lines": [], "truncated": False})

    def test_who_may_not_read_the_journal_is_told_so(self):
        for status, words in (
            (1, "No journal files were opened due to insufficient permissions."),
            (0, "Hint: You are currently not seeing messages from other users and the system."),
        ):
            tree = self.tree(self.UNIT.format(2, "web.service"), status=status, errors=words, output="-- No entries --")
            self.assertEqual(self.ask(tree.host(), ["2 service web.service"])[1], "permission_denied")

    def test_a_service_that_systemd_does_not_know_has_no_log_unless_the_journal_still_has_lines_of_it(self):
        read, show = self.UNIT.format(2, "web.service"), "systemctl show --no-pager -p LoadState -- web.service"
        denied = "No journal files were opened due to insufficient permissions."
        for read_says, show_says, reported, missing in (
            ({"output": "-- No entries --"}, {"output": "LoadState=not-found"}, None, "not_installed"),
            ({"status": 1, "errors": denied}, {"output": "LoadState=not-found"}, None, "not_installed"),
            ({"output": "-- No entries --"}, {"output": "LoadState=loaded"}, [], None),
            ({"output": "-- No entries --"}, {"output": "LoadState=masked"}, [], None),
            ({"output": "-- No entries --"}, {"status": 1, "errors": "Failed to connect to bus"}, [], None),
            ({"status": 1, "errors": denied}, {"output": "LoadState=loaded"}, None, "permission_denied"),
            ({"output": "it was here\n"}, {"output": "LoadState=not-found"}, ["it was here"], None),
        ):
            tree = Tree(self, {"run": {read: read_says, show: show_says}})
            tree.write("/run/systemd/system/.keep")
            log, why, _ = self.ask(tree.host(), ["2 service web.service"])
            self.assertEqual((log and log["lines"], why), (reported, missing), (read_says, show_says))

    def test_without_systemd_there_is_no_journal(self):
        self.assertEqual(self.ask(Tree(self).host(), ["2 service web.service"])[1], "not_supported")

    def test_a_name_that_is_no_service_reaches_no_program(self):
        for name in ("--file=/etc/shadow", "*.service", "web", "a b.service", "web.service\n", "-x.service", "$(id)"):
            _, missing, error = self.ask(self.tree().host(), ["2 service " + name])
            self.assertIsNone(missing)
            self.assertIn(error, ("not the name of a service", "no log is named"), name)

    def test_a_wish_that_names_nothing_is_an_error(self):
        for wish in (
            [],
            ["service web.service"],
            ["2 unit web.service"],
            ["12345 service web.service"],
            ["2 service "],
        ):
            self.assertEqual(self.ask(self.tree().host(), wish)[2], "no log is named")

    def engine(self, content, terminal=False, path="/run/docker.sock"):
        tree = Tree(self)
        folder = path + "/containers/web/"
        tree.write(folder + "json", '{"Config": {"Tty": %s}}' % ("true" if terminal else "false"))
        tree.write(folder + "logs", content)
        return tree.host()

    def test_both_streams_of_a_container_come_in_their_order(self):
        content = frame(1, "T1 hello\nT2 wor") + frame(1, "ld\n") + frame(2, "T3 ächz\n") + frame(1, "cut off")[:9]
        reported, missing, error = self.ask(self.engine(content), ["10 container docker/root/web"])
        self.assertEqual((missing, error), (None, None))
        self.assertEqual(reported, {"lines": ["T1 hello", "T2 world", "T3 ächz", "c"], "truncated": False})

    def test_a_container_with_a_terminal_prints_plainly(self):
        host = self.engine("T1 hello\r\nT2 \x1b[1mbold\r\n", terminal=True)
        reported, _, _ = self.ask(host, ["1 container docker/root/web"])
        self.assertEqual(reported, {"lines": ["T2 \x1b[1mbold"], "truncated": True})

    def test_a_users_own_engine_is_asked_for_his_container(self):
        host = self.engine(frame(1, "mine\n"), path="/run/user/1000/podman/podman.sock")
        self.assertEqual(self.ask(host, ["1 container podman/1000/web"])[0]["lines"], ["mine"])
        self.assertEqual(self.ask(host, ["1 container podman/root/web"])[2], "the engine does not run")
        self.assertEqual(self.ask(host, ["1 container docker/1000/web"])[2], "the engine does not run")

    def test_what_is_no_container_of_the_engine_is_an_error(self):
        host = self.engine("")
        self.assertEqual(self.ask(host, ["1 container docker/root/other"])[1], "not_installed")
        for name, words in (
            ("docker/root/../web", "the engine does not run"),
            ("docker/root/we?b", "not the name of a container"),
            ("docker/root/-x", "not the name of a container"),
            ("docker/root/web/json?", "not the name of a container"),
            ("web", "the engine does not run"),
        ):
            self.assertEqual(self.ask(host, ["1 container " + name])[2], words, name)

    def test_lines_and_bytes_are_bounded(self):
        self.assertEqual(probe.parse_wish(["9999 service a.service"])[0], 500)
        self.assertEqual(probe.parse_wish(["0 service a.service"])[0], 1)
        self.assertEqual(probe.last_lines("a\nb\nc\n", 2), (["b", "c"], True))
        self.assertEqual(probe.last_lines("", 2), ([], False))
        lines, is_cut = probe.last_lines("".join(str(n) + " " + "ä" * 1000 + "\n" for n in range(400)), 400)
        self.assertTrue(is_cut)
        self.assertLessEqual(len("\n".join(lines).encode()), 64 << 10)
        self.assertTrue(lines[-1].startswith("399 "))

    def test_a_line_that_is_too_long_is_cut_and_leaves_room_for_the_others(self):
        lines, is_cut = probe.last_lines("first\n" + "x" * (10 << 20) + "\nlast\n", 3)
        self.assertEqual((lines, is_cut), (["first", "x" * 4096, "last"], True))

    def test_of_a_container_with_long_lines_fewer_are_asked_for(self):
        answers = {"tail=500": frame(1, "y" * (2 << 20)), "tail=32": frame(1, "long\n" * 32)}
        asked = []

        class Door(probe.RecordedConnection):
            def sendall(self, request):
                query = request.split(b" ", 2)[1].decode().rpartition("&")[2]
                if query in answers:
                    asked.append(query)
                    length = len(answers[query])
                    self.answers = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + answers[query]
                else:
                    super().sendall(request)

        host = self.engine("")
        host.connect = lambda path, timeout, uid=None: Door(host, path)
        reported, missing, error = self.ask(host, ["500 container docker/root/web"])
        self.assertEqual((missing, error, asked), (None, None, ["tail=500", "tail=32"]))
        self.assertEqual(reported, {"lines": ["long"] * 32, "truncated": True})


if __name__ == "__main__":
    unittest.main()
