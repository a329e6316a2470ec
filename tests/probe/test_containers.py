"""Containers: what recorded engines said, how seldom they are asked, and engines that do not behave."""

import json
import os
import shutil
import socket
import tempfile
import threading
import time
import unittest

from place import ROOT, probe
from tree import Tree, section

ENGINES = os.path.join(ROOT, "tests", "fixtures", "engines")
IDENT = "91ce74022074d7829640388d60bcbd545c0d3e4cd2b72c5079311abadff84be4"


def answers(engine, *parts):
    """Return a recorded answer."""
    with open(os.path.join(ENGINES, engine, *parts), encoding="utf-8") as file:
        return json.load(file)


class OfSwarm(unittest.TestCase):
    def test_the_service_of_a_task_is_reported(self):
        # As `docker service create --name shop_web` makes them.
        labels = {"com.docker.swarm.service.name": "shop_web", "com.docker.swarm.task.name": "shop_web.1.x9"}
        row = probe.parse_listed("docker", {"Id": "9" * 64, "Names": ["/shop_web.1.x9"], "Labels": labels})
        self.assertEqual((row["name"], row["swarm_service"]), ("shop_web.1.x9", "shop_web"))
        self.assertNotIn("swarm_service", probe.parse_listed("docker", {"Id": "9" * 64, "Names": ["/web"]}))


class OutOfMemory(unittest.TestCase):
    def test_one_that_the_kernel_killed_for_its_memory_is_distinguished_from_one_that_was_just_killed(self):
        # `docker run -m 8m debian tail /dev/zero`, and `docker kill` of another one: both end with 137.
        killed = {"State": {"Status": "exited", "ExitCode": 137, "OOMKilled": True}}
        stopped = {"State": {"Status": "exited", "ExitCode": 137, "OOMKilled": False}}
        reported = [probe.parse_inspected(document) for document in (killed, stopped)]
        self.assertEqual([one["exit_code"] for one in reported], [137, 137])
        self.assertEqual([one.get("oom_killed") for one in reported], [True, None])


class Clocked(probe.RecordedHost):
    """A recorded machine whose clock a test moves; it notes what is asked at sockets."""

    def __init__(self, root):
        super().__init__(root)
        self.now = 1000.0
        self.asked = []

    def boottime(self):
        return self.now

    def connect(self, path, timeout, uid=None):
        door = super().connect(path, timeout)
        send = door.sendall

        def noted(request):
            self.asked.append(request.split(b" ")[1].decode())
            send(request)

        door.sendall = noted
        return door


class Machine(Tree):
    """A tree with the answers of engines at their sockets."""

    def __init__(self, test, **sockets):
        super().__init__(test)
        for path, engine in sockets.items():
            self.give(path.replace("__", "/"), engine)

    def give(self, path, engine):
        shutil.copytree(os.path.join(ENGINES, engine), self.folder + path)

    def host(self):
        return Clocked(self.folder)


def docker(test):
    machine = Machine(test)
    machine.give("/run/docker.sock", "docker-20.10")
    return machine


def rows(reported):
    return {row["name"]: row for row in reported["containers"]}


class Recorded(unittest.TestCase):
    def test_docker_reports_every_state_health_and_exit_code(self):
        reported, missing, error = section(docker(self).host(), "containers")
        self.assertEqual((missing, error), (None, None))
        said = {
            name: (row["state"], row.get("health"), row.get("exit_code"), row["restart_policy"])
            for name, row in rows(reported).items()
        }
        self.assertEqual(
            said,
            {
                "bad": ("exited", None, 4, "no"),
                "crash": ("restarting", None, 3, "always"),
                "done": ("exited", None, 0, "no"),
                "fresh": ("created", None, None, "no"),
                "paused": ("paused", "none", None, "no"),
                "sick": ("running", "unhealthy", None, "no"),
                "stopped": ("exited", None, 137, "no"),
                "warming": ("running", "starting", None, "no"),
                "web": ("running", "healthy", None, "unless-stopped"),
            },
        )
        self.assertEqual(rows(reported)["crash"]["restarts"], 3)
        self.assertEqual(rows(reported)["web"]["compose_project"], "shop")
        self.assertEqual(rows(reported)["web"]["compose_service"], "web")
        self.assertEqual(reported["engines"], [{"engine": "docker", "owner": "root", "state": "ok"}])
        self.assertEqual(reported["complete"], {"docker/root": True})

    def test_podman_says_the_same_in_its_own_words(self):
        machine = Machine(self)
        machine.give("/run/podman/podman.sock", "podman-4.3")
        reported, _, _ = section(machine.host(), "containers")
        said = {
            name: (row["state"], row.get("health"), row.get("exit_code"), row["restart_policy"])
            for name, row in rows(reported).items()
        }
        self.assertEqual(
            said,
            {
                "bad": ("exited", None, 4, "no"),
                "crash": ("exited", None, 3, "on-failure"),
                "done": ("exited", None, 0, "no"),
                "fresh": ("created", None, None, "no"),
                "paused": ("paused", "none", None, "no"),
                "sick": ("running", "unhealthy", None, "no"),
                "web": ("running", "healthy", None, "unless-stopped"),
            },
        )
        self.assertEqual({row["engine"] for row in reported["containers"]}, {"podman"})

    def test_a_docker_socket_that_leads_to_podman_is_podman(self):
        machine = Machine(self)
        machine.give("/run/podman/podman.sock", "podman-4.3")
        machine.link("/run/docker.sock", "podman/podman.sock")
        reported, _, _ = section(machine.host(), "containers")
        self.assertEqual(reported["complete"], {"podman/root": True})
        self.assertEqual(len(reported["containers"]), 7)

    def test_engines_of_users_have_their_names(self):
        machine = docker(self)
        machine.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmon:x:1500:1500::/home/mon:/bin/sh\n")
        machine.give("/run/user/1500/podman/podman.sock", "podman-4.3")
        machine.give("/run/user/1600/docker.sock", "docker-20.10")
        reported, _, _ = section(machine.host(), "containers")
        self.assertEqual(set(reported["complete"]), {"docker/root", "podman/mon", "docker/1600"})
        webs = [(row["engine"], row["owner"]) for row in reported["containers"] if row["name"] == "web"]
        self.assertEqual(webs, [("docker", "root"), ("podman", "mon"), ("docker", "1600")])
        uids = {(row["owner"], row.get("uid")) for row in reported["containers"]}
        self.assertEqual(uids, {("root", None), ("mon", 1500), ("1600", 1600)})

    def test_statistics_of_an_engine_are_in_the_same_units(self):
        ident = next(one["Id"] for one in answers("podman-4.3", "containers", "json") if one["Names"] == ["/sick"])
        stats = os.path.join(ENGINES, "podman-4.3", "containers", ident, "stats")
        self.assertTrue(os.path.exists(stats))
        self.assertEqual(probe.parse_stats(answers("podman-4.3", "containers", ident, "stats")), {"cpu_seconds": 0.046})


class Parsers(unittest.TestCase):
    def test_a_moment(self):
        self.assertEqual(probe.parse_moment("2026-11-25T00:00:16.679432364Z"), 1795564816)
        self.assertEqual(probe.parse_moment("2026-11-25T02:00:16+02:00"), 1795564816)
        self.assertEqual(probe.parse_moment("2026-11-24T18:30:16.5-05:30"), 1795564816)
        self.assertIsNone(probe.parse_moment("0001-01-01T00:00:00Z"))
        self.assertIsNone(probe.parse_moment(""))

    def test_the_group_is_the_containers_own(self):
        ident = IDENT
        text = (
            "12:memory:/docker/{0}\n"
            "3:cpu,cpuacct:/docker/{0}/inner\n"
            "1:name=systemd:/docker/{0}\n"
            "0::/x/libpod-{0}.scope/container\n"
        )
        self.assertEqual(
            probe.parse_groups(text.format(ident), ident),
            [
                ("", "/x/libpod-" + ident + ".scope"),
                ("cpu,cpuacct", "/docker/" + ident),
                ("memory", "/docker/" + ident),
            ],
        )
        self.assertEqual(probe.parse_groups("0::/user.slice/user-1000.slice\n\nodd\n", ident), [])

    def test_memory_is_anonymous_and_shared_in_both_versions(self):
        self.assertEqual(probe.parse_memory(b"anon 100\nfile 50\nshmem 7\nanon_thp 3\n"), (100, 7))
        self.assertEqual(
            probe.parse_memory(b"cache 900\nrss 1\nshmem 2\ntotal_cache 900\ntotal_rss 100\ntotal_shmem 7"), (100, 7)
        )
        self.assertEqual(probe.memory_of(probe.parse_memory(b"")), {})

    def test_a_name_is_its_own_and_not_that_of_a_link(self):
        listed = {"Id": IDENT, "Names": ["/app/db", "/db"], "State": "running", "Status": "Up 2 days", "Image": "pg"}
        self.assertEqual(probe.parse_listed("docker", listed)["name"], "db")

    def test_ports_that_are_published_say_where(self):
        self.assertEqual(
            probe.parse_port({"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}),
            {"port": 80, "protocol": "tcp", "host_port": 8080, "host_ip": "::"},
        )
        self.assertEqual(probe.parse_port({"PrivatePort": 53, "Type": "udp"}), {"port": 53, "protocol": "udp"})


class Use(unittest.TestCase):
    """Where CPU time and memory are read."""

    def use(self, **files):
        machine = docker(self)
        web = next(one["Id"] for one in answers("docker-20.10", "containers", "json") if one["Names"] == ["/web"])
        pid = answers("docker-20.10", "containers", web, "json")["State"]["Pid"]
        for path, content in files.items():
            place = path.replace("__", "/").replace("PID", str(pid)).replace("ID", web).replace("_stat", ".stat")
            machine.write("/" + place, content.replace("ID", web))
        host = machine.host()
        reported, _, _ = section(host, "containers")
        self.stats = [target for target in host.asked if "stats" in target and web in target]
        row = rows(reported)["web"]
        return row.get("cpu_seconds"), row.get("memory_bytes")

    def test_version_2(self):
        use = self.use(
            proc__PID__cgroup="0::/docker/ID\n",
            sys__fs__cgroup__docker__ID__cpu_stat="usage_usec 2500000\nuser_usec 1\n",
            sys__fs__cgroup__docker__ID__memory_stat="anon 4096\nfile 999\nshmem 512\n",
        )
        self.assertEqual((use, self.stats), ((2.5, 4608), []))

    def test_version_1(self):
        use = self.use(
            proc__PID__cgroup="4:memory:/docker/ID\n2:cpuacct:/docker/ID\n0::/\n",
            **{
                "sys__fs__cgroup__cpuacct__docker__ID__cpuacct.usage": "2500000000\n",
                "sys__fs__cgroup__memory__docker__ID__memory_stat": "rss 1\ntotal_rss 4096\ntotal_shmem 512\n",
            },
        )
        self.assertEqual((use, self.stats), ((2.5, 4608), []))

    def test_a_kernel_that_counts_no_memory(self):
        use = self.use(
            proc__PID__cgroup="0::/docker/ID\n", sys__fs__cgroup__docker__ID__cpu_stat="usage_usec 2500000\n"
        )
        self.assertEqual((use, self.stats), ((2.5, None), []))

    def test_processes_that_are_hidden(self):
        use = self.use(**{"sys__fs__cgroup__system.slice__docker-ID.scope__cpu_stat": "usage_usec 2500000\n"})
        self.assertEqual((use, self.stats), ((2.5, None), []))

    def test_a_users_engine_gets_no_group_of_another_by_the_name_of_its_container(self):
        machine = Machine(self)
        machine.give("/run/user/1500/docker.sock", "docker-20.10")
        web = next(one["Id"] for one in answers("docker-20.10", "containers", "json") if one["Names"] == ["/web"])
        pid = answers("docker-20.10", "containers", web, "json")["State"]["Pid"]
        machine.process(pid, "sleep", uid=1500, cgroup="/user.slice/user-1500.slice/session-1.scope")
        machine.write(f"/sys/fs/cgroup/system.slice/docker-{web}.scope/cpu.stat", "usage_usec 77000000\n")
        machine.write(f"/sys/fs/cgroup/system.slice/docker-{web}.scope/memory.stat", "anon 4096\n")
        reported, _, _ = section(machine.host(), "containers")
        row = rows(reported)["web"]
        self.assertEqual((row["uid"], row["pid"]), (1500, pid))
        self.assertNotEqual(row.get("cpu_seconds"), 77.0)
        self.assertNotEqual(row.get("memory_bytes"), 4096)

    def test_the_engine_is_asked_only_where_nothing_else_reports(self):
        self.use()
        self.assertEqual(len(self.stats), 1)


class Seldom(unittest.TestCase):
    """An engine is asked for as little as possible."""

    def setUp(self):
        self.machine = docker(self)
        self.change("crash", State="running", Status="Up 2 seconds")
        self.host = self.machine.host()
        self.probe = probe.Probe(self.host)

    def look(self, seconds=30):
        """Let time pass; return what Docker is asked for besides the list and what its containers use."""
        self.host.now += seconds
        self.host.asked = []
        self.reported, self.missing, _ = section(self.host, "containers", self.probe)
        others = [target for target in self.host.asked if "stats" not in target]
        self.assertLessEqual(others.count("/containers/json?all=1"), 1)
        return [target for target in others if "all=1" not in target]

    def change(self, name, **fields):
        path = self.machine.folder + "/run/docker.sock/containers/json"
        with open(path, encoding="utf-8") as file:
            listed = json.load(file)
        for one in listed:
            if one["Names"] == ["/" + name]:
                one.update(fields)
        self.machine.write("/run/docker.sock/containers/json", json.dumps(listed))

    def test_only_what_changed_is_looked_at_again(self):
        self.assertEqual(len(self.look()), 9)
        self.assertEqual(self.look(), [])
        self.change("web", State="exited", Status="Exited (1) 2 seconds ago")
        (asked,) = self.look()
        self.assertIn(rows(self.reported)["web"]["id"], asked)
        self.assertEqual(rows(self.reported)["web"]["exit_code"], 1)
        self.assertEqual(self.look(), [])

    def test_health_is_on_the_list(self):
        self.look()
        self.change("web", Status="Up 9 minutes (unhealthy)")
        self.assertEqual(self.look(), [])
        self.assertEqual(rows(self.reported)["web"]["health"], "unhealthy")

    def test_what_restarts_all_the_time_is_always_looked_at(self):
        self.look()
        self.change("crash", State="restarting", Status="Restarting (3) 2 seconds ago")
        self.assertEqual([len(self.look()) for _ in range(3)], [1, 1, 1])
        self.assertEqual(rows(self.reported)["crash"]["exit_code"], 3)

    def test_a_first_process_that_is_gone_is_a_restart(self):
        web = next(one["Id"] for one in answers("docker-20.10", "containers", "json") if one["Names"] == ["/web"])
        pid = answers("docker-20.10", "containers", web, "json")["State"]["Pid"]
        self.machine.write(f"/proc/{pid}/cgroup", "")
        self.look()
        self.assertEqual(self.look(), [])
        shutil.rmtree(self.machine.folder + f"/proc/{pid}")
        (asked,) = self.look()
        self.assertIn(web, asked)

    def test_after_ten_minutes_a_few_are_looked_at_again(self):
        self.look()
        self.assertEqual([len(self.look(seconds)) for seconds in (610, 30, 30)], [5, 4, 0])

    def test_many_containers_are_looked_at_in_turns_and_all_listed_at_once(self):
        listed = answers("docker-20.10", "containers", "json")
        many = [dict(listed[0], Id=f"{number:064x}", Names=[f"/c{number:03}"]) for number in range(120)]
        self.machine.write("/run/docker.sock/containers/json", json.dumps(many))
        for number in range(120):
            self.machine.write(f"/run/docker.sock/containers/{number:064x}/json", json.dumps({"State": {}}))
        self.assertEqual([len(self.look()) for _ in range(4)], [50, 50, 20, 0])
        self.assertEqual((len(self.reported["containers"]), self.reported["complete"]), (120, {"docker/root": True}))

    def test_a_container_that_goes_while_it_is_looked_at_is_still_listed(self):
        shutil.rmtree(self.machine.folder + "/run/docker.sock/containers/" + self.ident("web"))
        self.look()
        self.assertEqual(rows(self.reported)["web"]["state"], "running")

    def ident(self, name):
        listed = answers("docker-20.10", "containers", "json")
        return next(one["Id"] for one in listed if one["Names"] == ["/" + name])

    def test_podman_is_asked_every_two_minutes_and_when_something_ends(self):
        machine = Machine(self)
        machine.give("/run/podman/podman.sock", "podman-4.3")
        listed = answers("podman-4.3", "containers", "json")
        for one in listed:
            pid = answers("podman-4.3", "containers", one["Id"], "json")["State"]["Pid"]
            if pid:
                machine.write(f"/proc/{pid}/cgroup", "")
        self.host = machine.host()
        self.probe = probe.Probe(self.host)
        lists = []
        for _ in range(6):
            self.look()
            lists.append(self.host.asked.count("/containers/json?all=1"))
            self.assertEqual(len(self.reported["containers"]), 7)
        self.assertEqual(lists, [1, 0, 0, 0, 1, 0])
        shutil.rmtree(machine.folder + f"/proc/{pid_of(listed, 'web')}")
        self.look()
        self.assertEqual(self.host.asked.count("/containers/json?all=1"), 1)

    def test_an_engine_that_is_named_is_asked_at_once(self):
        machine = Machine(self)
        machine.give("/run/podman/podman.sock", "podman-4.3")
        for one in answers("podman-4.3", "containers", "json"):
            machine.write(f"/proc/{pid_of([one], one['Names'][0][1:])}/cgroup", "")
        host = machine.host()
        one = probe.Probe(host)
        lists = []
        for named in ([], [], ["podman/root"], ["docker/root"], []):
            host.asked, host.now = [], host.now + 1
            one.answer(probe.Request({"id": "1", "sections": ["containers"], "watch": {"containers": named}}))
            lists.append(host.asked.count("/containers/json?all=1"))
        self.assertEqual(lists, [1, 0, 1, 0, 0])


def pid_of(listed, name):
    ident = next(one["Id"] for one in listed if one["Names"] == ["/" + name])
    return answers("podman-4.3", "containers", ident, "json")["State"]["Pid"]


class Absent(unittest.TestCase):
    """Not there, not running and not allowed are three things."""

    def test_a_machine_without_engines(self):
        self.assertEqual(section(Tree(self).host(), "containers"), (None, "not_installed", None))

    def test_an_engine_that_is_stopped(self):
        machine = Tree(self)
        machine.write("/usr/bin/dockerd")
        reported, _, _ = section(machine.host(), "containers")
        self.assertEqual(reported["engines"], [{"engine": "docker", "owner": "root", "state": "stopped"}])
        self.assertEqual((reported["complete"], reported["containers"]), ({"docker/root": False}, []))

    def test_an_engine_that_may_not_be_used(self):
        machine = Tree(self, {"denied": ["/run/docker.sock"]})
        self.assertEqual(section(machine.host(), "containers"), (None, "permission_denied", None))

    def test_one_that_may_not_be_used_beside_one_that_may(self):
        machine = Tree(self, {"denied": ["/run/podman/podman.sock"]})
        shutil.copytree(os.path.join(ENGINES, "docker-20.10"), machine.folder + "/run/docker.sock")
        reported, _, _ = section(machine.host(), "containers")
        self.assertEqual(reported["complete"], {"podman/root": False, "docker/root": True})
        self.assertEqual([row["state"] for row in reported["engines"]], ["permission_denied", "ok"])

    def test_a_docker_that_somebody_stopped_is_not_started_by_asking(self):
        machine = docker(self)
        machine.write("/run/systemd/units/.keep")
        machine.write("/lib/systemd/system/docker.socket")
        machine.write("/run/docker.pid", "77")
        host = machine.host()
        reported, _, _ = section(host, "containers")
        self.assertEqual((reported["engines"][0]["state"], host.asked), ("stopped", []))
        for path in ("/run/systemd/units/invocation:docker.service", "/proc/77"):
            with self.subTest(path):
                machine.link(path, ".")
                reported, _, _ = section(host, "containers")
                self.assertEqual(reported["engines"][0]["state"], "ok")
                os.unlink(machine.folder + path)


class Server:
    """A real socket whose other end does what a test says."""

    def __init__(self, test, behave):
        folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, folder)
        self.path = os.path.join(folder, "engine.sock")
        self.behave = behave
        self.calls = 0
        self.doors = []
        test.addCleanup(lambda: [door.close() for door in self.doors])
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        test.addCleanup(self.listener.close)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                door, _ = self.listener.accept()
            except OSError:
                return
            self.calls += 1
            self.doors.append(door)
            threading.Thread(target=self.behave, args=(door,), daemon=True).start()


class ServedHost(probe.Host):
    """This machine with another Docker; it has nothing else."""

    def __init__(self, server):
        super().__init__("/nonexistent")
        self.server = server
        self.now = 1000.0

    def boottime(self):
        return self.now

    def connect(self, path, timeout, uid=None):
        if path != "/run/docker.sock":
            raise FileNotFoundError(path)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.settimeout(timeout)
        door.connect(self.server.path)
        return door


def requests(door):
    """Yield the targets that are asked for."""
    buffer = b""
    while True:
        chunk = door.recv(4096)
        if not chunk:
            return
        buffer += chunk
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            yield head.split(b" ")[1].decode()


def chunked(document):
    body = json.dumps(document).encode()
    parts = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


LISTED = [{"Id": IDENT, "Names": ["/web"], "Image": "nginx", "State": "running", "Status": "Up 2 days"}]


class Misbehaving(unittest.TestCase):
    def ask(self, behave, timeout=1.0):
        self.server = Server(self, behave)
        self.host = ServedHost(self.server)
        self.probe = probe.Probe(self.host)
        return self.again(timeout)

    def again(self, timeout=1.0):
        request = probe.Request({"id": "1", "sections": ["containers"], "timeout": timeout})
        begun = time.monotonic()
        reply = self.probe.answer(request)
        self.seconds = time.monotonic() - begun
        return reply["sections"].get("containers"), reply["missing"].get("containers")

    def test_an_answer_in_small_pieces(self):
        def behave(door):
            for target in requests(door):
                answer = chunked(LISTED if "all=1" in target else {"State": {"Status": "running"}, "RestartCount": 3})
                for place in range(0, len(answer), 11):
                    door.sendall(answer[place : place + 11])

        reported, _ = self.ask(behave, timeout=8)
        self.assertEqual((reported["containers"][0]["name"], reported["containers"][0]["restarts"]), ("web", 3))

    def test_one_that_never_answers_is_late_and_left_alone_for_a_minute(self):
        reported, missing = self.ask(lambda door: time.sleep(30))
        self.assertEqual((reported, missing), (None, "timed_out"))
        self.assertLess(self.seconds, 1.0)
        self.host.now += 30
        self.assertEqual(self.again(), (None, "timed_out"))
        self.assertLess(self.seconds, 0.2)
        self.assertEqual(self.server.calls, 1)
        self.host.now += 31
        self.again()
        self.assertEqual(self.server.calls, 2)

    def test_one_that_hangs_at_a_container_has_reported_its_list(self):
        def behave(door):
            for target in requests(door):
                if "all=1" in target:
                    door.sendall(chunked(LISTED))

        reported, _ = self.ask(behave)
        self.assertEqual(reported["complete"], {"docker/root": True})
        self.assertEqual(reported["containers"][0]["state"], "running")
        self.assertNotIn("restarts", reported["containers"][0])

    def test_what_was_reported_stands_for_a_while_when_an_engine_hangs(self):
        is_well = [True]

        def behave(door):
            for target in requests(door):
                if not is_well[0]:
                    time.sleep(30)
                door.sendall(chunked(LISTED if "all=1" in target else {}))

        self.ask(behave, timeout=8)
        is_well[0] = False
        self.host.now += 30
        reported, _ = self.again()
        self.assertEqual((reported["complete"], reported["engines"][0]["state"]), ({"docker/root": False}, "timed_out"))
        self.assertEqual([row["name"] for row in reported["containers"]], ["web"])
        self.host.now += 130
        self.assertEqual(self.again(), (None, "timed_out"))
        is_well[0] = True
        self.host.now += 61
        reported, _ = self.again(8)
        self.assertEqual(reported["complete"], {"docker/root": True})

    def test_nonsense_is_unreadable(self):
        answers = (
            b"",
            b"220 smtp ready\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]",
            b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"a": "b"}  ',
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
            b'HTTP/1.1 500 Oops\r\nContent-Length: 15\r\n\r\n{"message":"x"}',
        )
        for answer in answers:
            with self.subTest(answer):

                def behave(door, answer=answer):
                    door.recv(4096)
                    door.sendall(answer)
                    door.close()

                self.assertEqual(self.ask(behave), (None, "unreadable"))


if __name__ == "__main__":
    unittest.main()
