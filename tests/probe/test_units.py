"""Which units are the administrator's own, and which have room."""

import os
import unittest

from place import probe
from tree import Tree

ADMIN = "/etc/systemd/system"


class OwnUnits(unittest.TestCase):
    def own(self, tree):
        return probe.admin_units(tree.host())

    def test_files_of_the_administrator_and_links_to_them_are(self):
        tree = Tree(self)
        tree.write(ADMIN + "/backup.service", "[Service]")
        tree.write("/srv/units/photos.service", "[Service]")
        tree.link(ADMIN + "/photos.service", "../../../srv/units/photos.service")
        self.assertEqual(self.own(tree), {"backup.service", "photos.service"})

    def test_what_packages_brought_is_not(self):
        tree = Tree(self)
        tree.write("/usr/lib/systemd/system/cron.service", "[Service]")
        tree.link(ADMIN + "/cron.service", "../../../usr/lib/systemd/system/cron.service")
        tree.link(ADMIN + "/gone.service", "../../../srv/gone.service")
        self.assertEqual(self.own(tree), set())

    def test_a_unit_that_a_user_makes_a_pipe_holds_nothing_up(self):
        # Root linked a file of a user's, who put a pipe in its place; systemd has it not in memory.
        tree = Tree(self, {"uid": 1000, "run": {" ".join(probe.SYSTEMCTL_LIST): {"output": ""}}})
        tree.write("/run/systemd/system/x")
        tree.write("/home/eve/sync.service", "[Service]")
        tree.link(ADMIN + "/sync.service", "../../../home/eve/sync.service")
        pipe = tree.host().path("/home/eve/sync.service")
        os.remove(pipe)
        os.mkfifo(pipe)
        self.addCleanup(os.close, os.open(pipe, os.O_RDWR))  # who waits for it at the end is let go
        request = probe.Request({"id": "1", "sections": ["services"], "timeout": 1})
        reply = probe.Probe(tree.host()).answer(request)
        self.assertEqual(reply["missing"], {})
        units = [(one["name"], one["active_state"]) for one in reply["sections"]["services"]["units"]]
        self.assertEqual(units, [("sync.service", "inactive")])

    def test_on_nixos_the_whole_folder_is_the_systems(self):
        # /etc/systemd/system leads through /etc/static into the store, where units are files and links.
        tree = Tree(self)
        store = "/nix/store/0abc-etc/etc/systemd/system"
        tree.write(store + "/sshd.service", "[Service]")
        tree.write("/nix/store/1abc-unit-nginx.service/nginx.service", "[Service]")
        tree.link(store + "/nginx.service", "../../../../1abc-unit-nginx.service/nginx.service")
        tree.link("/etc/static", "../nix/store/0abc-etc/etc")
        tree.link(ADMIN, "../static/systemd/system")
        self.assertTrue(tree.host().exists(ADMIN + "/nginx.service"))
        self.assertEqual(self.own(tree), set())


class Room(unittest.TestCase):
    def told(self, *lines, watch=(), own=()):
        """Return the section of a machine with these units, each "name load active sub"."""
        told = {
            "uid": 1000,
            "run": {" ".join(probe.SYSTEMCTL_LIST): {"output": "".join(line + "\n" for line in lines)}},
        }
        tree = Tree(self, told)
        tree.write("/run/systemd/system/x")
        for name in own:
            tree.write(ADMIN + "/" + name, "[Service]")
        host = tree.host()
        run = host.run
        host.run = lambda argv, *more, **words: (0, "", "") if argv[1] == "show" else run(argv, *more, **words)
        request = probe.Request({"id": "1", "sections": ["services"], "watch": {"services": list(watch)}})
        reply = probe.Probe(host).answer(request)
        self.assertFalse(reply["errors"])
        return reply["sections"]["services"]

    def told_at_length(self, lines, watch=(), own=()):
        """Return the section where systemctl says more than is read of a program."""

        class Long(probe.RecordedHost):
            def run(self, argv, timeout, tail=False, wanted=None):
                if argv[1] == "show":
                    return 0, "", ""
                by_name = argv[argv.index("--") + 1 :] if "--" in argv else ()
                asked = [line for line in lines if not by_name or line.split()[0] in by_name]
                with open(tree.folder + "/list", "w") as file:
                    file.write("\n".join(asked) + "\n")
                return probe.run_child(["cat", tree.folder + "/list"], timeout, [], tail, wanted)

        tree = Tree(self, {"uid": 1000})
        tree.write("/run/systemd/system/x")
        for name in own:
            tree.write(ADMIN + "/" + name, "[Service]")
        request = probe.Request({"id": "1", "sections": ["services"], "watch": {"services": list(watch)}})
        reply = probe.Probe(Long(tree.folder)).answer(request)
        self.assertFalse(reply["errors"])
        return reply["sections"]["services"]

    def test_more_instances_than_are_read_hide_no_service(self):
        knocks = [f"inbox@{n}-26901-1501.service loaded failed failed {'Takes in a backup ' * 6}" for n in range(20000)]
        others = ["database.service loaded failed failed", "web.service loaded active running"]
        others += ["own.service loaded failed failed", "vpn@home.service loaded failed failed"]
        quiet = [f"inbox@q{n}.service loaded active running" for n in range(700)]
        lines = [*knocks, *quiet, "inbox@watched.service loaded active running", *others]
        self.assertGreater(sum(map(len, knocks)), probe.OUTPUT_BYTES)
        told = self.told_at_length(lines, ["web", "inbox@watched.service"], ["own.service", "inbox@.service"])
        states = {unit["name"]: unit["active_state"] for unit in told["units"]}
        for line in ("inbox@watched.service loaded active", *others):
            self.assertEqual(states.get(line.split()[0]), line.split()[2], line)
        counts = told["counts"]
        self.assertEqual((counts["total"], counts["failed"], counts["active"]), (20705, 20003, 702))
        self.assertEqual(counts["not_shown"], 20705 - len(told["units"]))
        self.assertEqual(told["complete"], {"systemd": False})

    def test_of_a_list_that_is_cut_what_is_named_is_asked_for_by_its_name(self):
        many = [f"own-{n}.service loaded active running {'x' * 200}" for n in range(12000)]
        lines = [*many, "database.service loaded failed failed", "web.service loaded active running"]
        told = self.told_at_length(lines, ["database.service"], ["web.service"])
        states = {unit["name"]: unit["active_state"] for unit in told["units"]}
        self.assertEqual(states, {"database.service": "failed", "web.service": "active"})
        self.assertEqual(told["complete"], {"systemd": False})

    def names(self, told):
        return [unit["name"] for unit in told["units"]]

    def test_failed_instances_of_one_template_hide_no_other_service(self):
        knocks = [f"agent@{n}-192.0.2.1:22-192.0.2.9:{n}.service loaded failed failed" for n in range(400)]
        others = ["zfs-scrub.service loaded failed failed", "backup@home.service loaded failed failed"]
        quiet = ["web.service loaded active running", "ssh.service loaded active running"]
        told = self.told(*knocks, *others, *quiet, watch=["ssh"], own=["web.service", "agent@.service"])
        names = self.names(told)
        self.assertEqual(names[:3], ["ssh.service", "zfs-scrub.service", "web.service"])
        self.assertIn("backup@home.service", names)
        self.assertEqual(sum(1 for name in names if name.startswith("agent@")), 50)
        self.assertEqual(told["counts"]["not_shown"], 350)
        self.assertEqual(told["complete"], {"systemd": False})

    def test_an_instance_that_is_watched_by_name_stands_for_itself(self):
        knocks = [f"agent@{n}.service loaded failed failed" for n in range(400)]
        told = self.told(*knocks, "vpn@home.service loaded active running", watch=["agent@399", "vpn@home.service"])
        self.assertEqual(set(self.names(told)[:2]), {"agent@399.service", "vpn@home.service"})

    def test_of_many_services_those_that_failed_come_before_those_that_are_well(self):
        own = [f"a{n:03}.service" for n in range(250)]
        lines = [f"{name} loaded active running" for name in own[:-1]] + [own[-1] + " loaded failed failed"]
        told = self.told(*lines, "zfs.service loaded failed failed", own=own)
        self.assertEqual(set(self.names(told)[:2]), {own[-1], "zfs.service"})
        self.assertEqual((len(told["units"]), told["counts"]["not_shown"]), (200, 51))

    def test_where_all_have_room_all_are_reported(self):
        told = self.told(*(f"agent@{n}.service loaded failed failed" for n in range(200)))
        self.assertEqual((len(told["units"]), told["complete"]), (200, {"systemd": True}))
        self.assertNotIn("not_shown", told["counts"])

    def test_what_changes_while_no_state_does_is_asked_for_again_after_some_minutes(self):
        # A job that stays active without a process of its own: nothing else shows that it was run again.
        listed = {" ".join(probe.SYSTEMCTL_LIST): {"output": "mounts.service loaded active exited"}}
        show = " ".join([*probe.SYSTEMCTL_SHOW, probe.UNIT_PROPERTIES, "--", "mounts.service"])
        tree = Tree(self, {"uid": 1000, "run": listed})
        tree.write("/run/systemd/system/x")
        tree.write(ADMIN + "/mounts.service", "[Service]")
        host = tree.host()
        one, told = probe.Probe(host), []
        for seconds, restarts in ((0.0, 1), (10.0, 2), (probe.SHOW_SECONDS + 1, 3)):
            host.record["run"][show] = {"output": f"Id=mounts.service\nMainPID=0\nNRestarts={restarts}\n"}
            host.record["clocks"]["boottime"] = 1000.0 + seconds
            reply = one.answer(probe.Request({"id": "1", "sections": ["services"]}))
            self.assertFalse(reply["errors"])
            told.append(reply["sections"]["services"]["units"][0]["restarts"])
        self.assertEqual(told, [1, 1, 3])

    def test_the_memory_of_a_service_is_what_its_group_holds_now_and_no_limit_of_it(self):
        # systemd's own number may be minutes old, as it is asked for again after some minutes only.
        tree = Tree(self)
        group = "/system.slice/web.service"
        tree.files(
            "/sys/fs/cgroup" + group, **{"memory.current": "1000\n", "memory.max": "5000\n", "memory.peak": "4000\n"}
        )
        told = {"ControlGroup": group, "MemoryCurrent": "900"}
        self.assertEqual(probe.unit_memory(tree.host(), told), 1000)
        self.assertEqual(probe.unit_memory(Tree(self).host(), told), 900)

    def test_the_service_manager_of_another_user_is_reported_as_theirs(self):
        lines = [f"user@{uid}.service loaded failed failed" for uid in (0, 1000, 1501)]
        told = self.told(*lines, "user-runtime-dir@1501.service loaded failed failed")
        whose = {unit["name"]: unit.get("guest_uid") for unit in told["units"]}
        expected = {"user@0.service": None, "user@1000.service": None, "user@1501.service": 1501}
        self.assertEqual(whose, dict(expected, **{"user-runtime-dir@1501.service": 1501}))


if __name__ == "__main__":
    unittest.main()
