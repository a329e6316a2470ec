"""Whose a socket is: who is asked, which of its holders it belongs to, and what ss reports."""

import unittest

from place import costly, probe
from tree import Tree

ID = "9f86d081" * 8
ROOT, WWW, BUS, EVE, SUB = 0, 33, 81, 1000, 100000
PASSWD = "root:x:0:0::/:\nwww:x:33:33::/:\nbus:x:81:81::/:\neve:x:1000:1000::/:\n"
ACCOUNTS = probe.parse_accounts(PASSWD)
SLICE = "/user.slice/user-1000.slice"
SESSION = SLICE + "/session-3.scope"
STATUS = "Name:\tx\nUmask:\t0022\nUid:\t{0}\t{1}\t{1}\t{1}\nGid:\t0\t0\t0\t0\nVmSize:\t 9 kB\n"
SYSTEMD = (1, "systemd", ROOT, 1, "/init.scope")
BROKER = (50, "dbus-daemon", BUS, 20, "/system.slice/dbus.service")
LOGIND = (60, "systemd-logind", ROOT, 21, "/system.slice/systemd-logind.service")


def process(tree, pid, name, *more):
    """Put a process in a tree; `more` is its real user, when it started, its control group and its effective user."""
    uid, start, group, effective = (more + (0, 100, "/", None)[len(more) :])[:4]
    stat = f"{pid} ({name}) S " + "0 " * 18 + f"{start} 0\n"
    status = STATUS.format(uid, uid if effective is None else effective)
    tree.files(f"/proc/{pid}", comm=name + "\n", stat=stat, status=status, cgroup="0::" + group + "\n")


class Machine(unittest.TestCase):
    def sockets(self, uid, *processes, **more):
        """Return the socket that all those processes hold, as it is told, and whether all owners are known."""
        row = {"version": 4, "address": "0.0.0.0", "port": 80, "inode": 7, "uid": uid, "group": 9}
        told = {"listeners": {"tcp": [row], "udp": []}, "group_ids": {"9": more.get("made_in", "/")}}
        told["open_sockets"] = {} if "run" in more else {str(one[0]): [7] for one in processes}
        tree = Tree(self, dict(told, run=more.get("run", {})))
        tree.write("/proc/net/tcp", "")
        tree.write("/etc/passwd", PASSWD)
        for one in processes:
            process(tree, *one)
        request = probe.Request({"sections": ["sockets"], "sudo": more.get("sudo", [])})
        section = probe.Probe(tree.host()).answer(request)["sections"]["sockets"]
        return section["sockets"][0], section["complete"]["owners"]

    def holder(self, uid, *processes, **more):
        """Return the process that a socket is told to be of, None where that is not known."""
        told, is_whole = self.sockets(uid, *processes, **more)
        self.assertEqual("pid" in told, is_whole)
        return told.get("pid")


class Belongs(Machine):
    def test_of_several_processes_the_first_is_reported(self):
        one = (900, "nginx", ROOT, 60, "/system.slice/nginx.service")
        two = (50, "nginx", WWW, 70, "/system.slice/nginx.service")
        told, _ = self.sockets(ROOT, one, two)
        self.assertEqual((told["process"], told["pid"], told["unit"]), ("nginx", 900, "nginx.service"))

    def test_what_a_user_has_sent_to_others_stays_that_users(self):
        eve = (700, "eves", EVE, 500, SESSION)
        for others in ((BROKER,), (LOGIND,), (BROKER, LOGIND, SYSTEMD)):
            self.assertEqual(self.holder(EVE, eve, *others), 700)

    def test_what_a_user_has_left_with_others_is_nobodys_process(self):
        for others in ((BROKER,), (LOGIND,), (SYSTEMD,), (BROKER, LOGIND, SYSTEMD)):
            told, is_whole = self.sockets(EVE, *others, made_in=SESSION)
            self.assertEqual((told.get("pid"), told.get("process"), is_whole), (None, None, False))
            self.assertEqual(told["unit"], "session-3.scope")  # where it was made still says something

    def test_a_setuid_program_is_its_callers(self):
        su = (700, "su", EVE, 500, SESSION, ROOT)
        self.assertEqual(self.holder(EVE, su, LOGIND), 700)

    def test_in_a_container_of_a_user_others_without_account_hold_what_is_the_users(self):
        group = SLICE + f"/user@1000.service/user.slice/libpod-{ID}.scope"
        self.assertEqual(self.holder(EVE, (700, "nginx", SUB + 32, 500, group), BROKER), 700)
        # One with an account in a user's session is somebody else.
        self.assertIsNone(self.holder(EVE, (700, "nginx", WWW, 500, SESSION)))

    def test_in_a_container_of_the_system_who_gave_root_up_keeps_its_sockets(self):
        one = (700, "dnsmasq", SUB + 102, 500, "/lxc.payload.media/system.slice/dnsmasq.service")
        self.assertEqual(self.holder(SUB, one, made_in="/lxc.payload.media/system.slice/dnsmasq.service"), 700)
        self.assertIsNone(self.holder(SUB, one, made_in="/lxc.payload.other"))


class Lent(Machine):
    WEB = "/system.slice/web.service"

    def test_what_systemd_opened_is_of_the_service_that_it_opened_it_for(self):
        service = (700, "web", WWW, 500, self.WEB)
        self.assertEqual(self.holder(ROOT, SYSTEMD, service, made_in="/init.scope"), 700)
        workers = (700, "web", WWW, 500, self.WEB), (701, "web", BUS, 600, self.WEB)
        self.assertEqual(self.holder(ROOT, SYSTEMD, *workers, made_in="/init.scope"), 700)
        self.assertEqual(self.holder(ROOT, SYSTEMD), 1)

    def test_a_service_that_sends_on_what_systemd_lent_it_makes_it_nobody_elses(self):
        service = (700, "web", WWW, 500, self.WEB)
        for other in (BROKER, LOGIND):
            self.assertIsNone(self.holder(ROOT, SYSTEMD, service, other, made_in="/init.scope"))

    def test_a_daemon_that_gave_root_up_keeps_its_socket_though_it_sends_it_on(self):
        daemon = (700, "dnsmasq", WWW, 500, self.WEB)
        self.assertEqual(self.holder(ROOT, daemon, made_in=self.WEB), 700)
        for other in (BROKER, LOGIND):
            self.assertEqual(self.holder(ROOT, daemon, other, made_in=self.WEB), 700)

    def test_without_groups_it_is_roots_or_of_one_user_or_nobodys(self):
        master, worker = (700, "nginx", ROOT, 500), (701, "nginx", WWW, 400)
        self.assertEqual(self.holder(ROOT, master, worker), 700)
        self.assertEqual(self.holder(ROOT, worker, (702, "nginx", WWW, 600)), 701)
        self.assertIsNone(self.holder(ROOT, worker, (50, "dbus-daemon", BUS, 20)))


class Asked(Machine):
    ASK = " ".join(probe.SUDO + probe.SS)
    LINE = 'tcp LISTEN 0 128 *:80 *:* users:(("sshd",pid=812,fd=3),("systemd",pid=1,fd=50)) ino:7 sk:1 <->\n'
    SSHD = (812, "sshd", ROOT, 5, "/system.slice/ssh.service")

    def test_ss_reports_the_owners_of_others_where_sudo_may_be_used(self):
        run = {self.ASK: {"output": self.LINE}}
        self.assertIsNone(self.holder(ROOT, self.SSHD, run=run))
        told, _ = self.sockets(ROOT, self.SSHD, run=run, sudo=["sockets"])
        self.assertEqual([told[name] for name in ("process", "pid", "unit")], ["sshd", 812, "ssh.service"])
        self.assertIsNone(self.holder(EVE, self.SSHD, run=run, sudo=["sockets"]))

    def test_a_sudo_that_wants_a_password_changes_nothing(self):
        for run in ({self.ASK: {"status": 1, "errors": "sudo: a password is required"}}, {}):
            self.assertIsNone(self.holder(ROOT, self.SSHD, run=run, sudo=["sockets"]))

    def asking(self, answer):
        """Return when ss was asked, of a poll each minute; `answer` is told how often that was by then."""
        moved, asked = [0.0], []

        class Asked(probe.RecordedHost):
            def boottime(self):
                return moved[0]

            def run(self, argv, timeout, tail=False, wanted=None):
                asked.append(moved[0])
                return answer(len(asked))

        row = {"version": 4, "address": "0.0.0.0", "port": 80, "inode": 7, "uid": WWW}
        tree = Tree(self, {"listeners": {"tcp": [row], "udp": []}, "open_sockets": {}, "addresses": []})
        tree.write("/proc/net/tcp", "")
        tree.write("/etc/passwd", PASSWD)
        one = probe.Probe(Asked(tree.folder))
        for moved[0] in range(0, 9000, 60):
            one.answer(probe.Request({"sections": ["sockets"], "sudo": ["sockets"]}))
        return asked

    def test_a_sudo_that_refuses_ss_is_asked_again_after_an_hour(self):
        # Each refusal is a line in the log of the machine, and perhaps a mail.
        self.assertEqual(self.asking(lambda _: (1, "", "sudo: a password is required")), [0.0, 3600.0, 7200.0])

    def test_an_ss_that_was_late_and_answers_again_is_forgiven(self):
        def answer(number):
            if number in (1, 2, 4):
                raise probe.Late("ss")
            return 0, "", ""

        asked = self.asking(answer)
        late = [asked[number] for number in (0, 1, 3)]
        pauses = [after - before for before, after in ((late[0], asked[1]), (late[1], asked[2]), (late[2], asked[4]))]
        self.assertEqual(pauses, [600.0, 1200.0, 600.0])

    def test_a_name_or_a_group_that_looks_like_ss_own_words_makes_no_owner(self):
        line = "tcp LISTEN 0 128 *:{} *:* users:({}) uid:1001 ino:{} sk:1 cgroup:{} <->   "
        names = ('",pid=812,fd=3)', '",pid=8,fd=1),(', ")) ino:7 sk:1 ", " ino:7 ", "\nx", '","', "),(", "users:((")
        for name in names:
            self.assertLessEqual(len(name), 15)  # the kernel keeps no more
            for group in ("/x", "/x ino:7 sk:1 ", '/users:(("sshd",pid=812,fd=3)) ino:7 sk:1 '):
                with self.subTest((name, group)):
                    holders = f'("{name}",pid=4711,fd=3),("{name}",pid=4712,fd=3)'
                    told = probe.parse_ss(line.format(8080, holders, 99, group) + "\n" + self.LINE)
                    self.assertEqual(told.pop(7), {812, 1})
                    self.assertIn(told, ({}, {99: {4711, 4712}}))

    def test_of_very_many_sockets_ss_lines_of_those_that_are_wanted_are_kept(self):
        kept = probe.LinesOf({7, 8})
        others = b'udp UNCONN 0 0 127.0.0.1:1 *:* users:(("x",pid=1,fd=3)) ino:77 sk:1 <->'
        self.assertEqual([kept.search(line) for line in (self.LINE.encode(), others, b"")], [True, False, False])

    def test_an_ss_that_is_late_is_left_alone_each_time_for_longer(self):
        moved, asked, at = [0.0], [], []

        class Slow(probe.RecordedHost):
            def boottime(self):
                return moved[0]

            def run(self, argv, timeout, tail=False, wanted=None):
                asked.append(moved[0])
                raise probe.Late(argv[0])

        tree = Tree(self, {"listeners": {"tcp": [], "udp": []}, "open_sockets": {"700": [8]}, "addresses": []})
        tree.told["listeners"]["tcp"] = [
            {"version": 4, "address": "0.0.0.0", "port": port, "inode": port, "uid": WWW} for port in (7, 8)
        ]
        tree.save()
        tree.write("/proc/net/tcp", "")
        tree.write("/etc/passwd", PASSWD)
        process(tree, 700, "web", WWW)
        one = probe.Probe(Slow(tree.folder))
        for moved[0] in range(0, 8000, 60):
            reply = one.answer(probe.Request({"sections": ["sockets"], "sudo": ["sockets"]}))
            told = [(row["port"], row.get("pid")) for row in reply["sections"]["sockets"]["sockets"]]
            at.append(told)
        self.assertEqual({repr(told) for told in at}, {"[(7, None), (8, 700)]"})
        pauses = [after - before for before, after in zip(asked, asked[1:])]
        self.assertTrue(2 <= len(pauses) <= 8, pauses)
        self.assertEqual(pauses, sorted(pauses))
        self.assertGreater(pauses[-1], pauses[0])


class Clock:
    """A clock that goes on where something takes time, whatever the machine is busy with."""

    now = 0.0

    def monotonic(self):
        return self.now


class Crowds(unittest.TestCase):
    def setUp(self):
        self.clock, kept = Clock(), probe.time
        self.addCleanup(setattr, probe, "time", kept)
        probe.time = self.clock

    def host(self, owners, holds, slow=(), groups=()):
        clock = self.clock

        class Crowded(probe.RecordedHost):
            def open_sockets(self, pid, most=10000):
                if pid in slow:
                    clock.now += most / 100000
                    return ([], False)
                return (holds.get(pid, []), True)

        tree = Tree(self)
        for pid, (real, effective) in owners.items():
            process(tree, pid, "x", real, 100, dict(groups).get(pid, "/"), effective)
        return Crowded(tree.folder)

    def found(self, owners, holds, owned, slow):
        return probe.find_holders(self.host(owners, holds, slow=set(slow)), owned, ACCOUNTS)

    def test_processes_with_many_descriptors_hide_nobody_who_holds_a_socket(self):
        eves = range(10, 70)
        owners = dict.fromkeys(eves, (EVE, EVE))
        owners.update({200: (ROOT, ROOT), 201: (WWW, WWW), 202: (BUS, BUS)})
        holds = {200: [1], 201: [2], 202: [3]}
        found = self.found(owners, holds, {1: ROOT, 2: WWW, 3: BUS}, eves)
        self.assertEqual(found, {1: {200}, 2: {201}, 3: {202}})
        self.assertLess(self.clock.now, probe.HOLDERS_SECONDS + 0.5)

    @costly
    def test_a_crowd_of_setuid_programs_is_its_callers(self):
        crowd = range(10, 1400)
        owners = dict.fromkeys(crowd, (EVE, ROOT))
        owners.update({2000: (ROOT, ROOT), 2001: (WWW, WWW)})
        # All of the crowd would take more than all the time there is.
        found = self.found(owners, {2000: [1], 2001: [2]}, {1: ROOT, 2: WWW, 3: EVE}, crowd)
        self.assertEqual(found, {1: {2000}, 2: {2001}})

    @costly
    def test_a_crowd_of_users_without_account_counts_as_one(self):
        crowd = range(10, 1400)
        owners = {pid: (SUB + pid, SUB + pid) for pid in crowd}
        owners.update({2000: (ROOT, ROOT), 2001: (WWW, WWW)})
        owned = {pid: SUB + pid for pid in crowd}
        owned.update({1: ROOT, 2: WWW})
        self.assertEqual(self.found(owners, {2000: [1], 2001: [2]}, owned, crowd), {1: {2000}, 2: {2001}})

    def test_first_come_the_users_whose_sockets_are_wanted(self):
        owners = {9: (EVE, EVE), 10: (EVE, EVE), 11: (BUS, BUS), 12: (ROOT, ROOT), 13: (WWW, WWW), 14: (ROOT, ROOT)}
        host = self.host(owners, {})
        pids = probe.list_pids(host)
        self.assertEqual(probe.in_turn(host, pids, ACCOUNTS, {ROOT, WWW}), [12, 13, 14, 9, 11, 10])
        self.assertEqual(probe.in_turn(host, pids, ACCOUNTS), [9, 11, 12, 13, 10, 14])

    def test_what_became_roots_in_a_users_session_is_that_users(self):
        owners = dict.fromkeys((9, 10, 11), (ROOT, ROOT))
        owners.update({12: (ROOT, ROOT), 13: (WWW, WWW)})
        host = self.host(owners, {}, groups=dict.fromkeys((9, 10, 11), SESSION))
        self.assertEqual(probe.in_turn(host, [9, 10, 11, 12, 13], ACCOUNTS), [9, 12, 13, 10, 11])

    def test_what_is_cut_is_looked_at_again_as_a_whole(self):
        asked = []

        class Host(probe.RecordedHost):
            def names(self, path, most=0):
                return ["7"]

            def open_sockets(self, pid, most):
                asked.append(most)
                return ([5], True) if most > 256 else ([], False)

        self.assertEqual(probe.find_holders(Host(Tree(self).folder), {5: 0}, {}), {5: {7}})
        self.assertEqual(asked, [256, probe.DESCRIPTORS_READ])

    @costly
    def test_of_a_socket_that_very_many_share_the_first_are_noted(self):
        owners = dict.fromkeys(range(11, 300), (EVE, EVE))
        owners.update(dict.fromkeys([*range(2, 10), 10], (ROOT, ROOT)))
        host = self.host(owners, {pid: [1] for pid in owners if pid >= 10})
        found = probe.find_holders(host, {1: ROOT}, ACCOUNTS)
        self.assertIn(10, found[1])
        self.assertLess(len(found[1]), 100)


if __name__ == "__main__":
    unittest.main()
