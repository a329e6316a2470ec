"""What runs decides: which SSH server answers, whether it has read its files, and what it writes to the logs."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from unittest.mock import patch

from place import probe
import test_security
from test_security import LISTENER, NOW, PERIODIC, SSHD_CONFIG, security
from test_sshd_config import SSHD
from tree import Tree

KEYS = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
PASSWORDS = "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n"
FOLDER = "/etc/ssh/sshd_config.d"
OPEN = "sshd: /usr/sbin/sshd -D -o PasswordAuthentication=yes [listener] 0 of 10-100 startups"
NOT_SUPPORTED = {"state": "unknown", "reason": "not_supported"}
NONE = {"ssh": "not_supported", "fail2ban": "inactive", "automatic_updates": "inactive", "failed_logins": "no_log"}
NOT_RELOADED = {"state": "unknown", "reason": "not_reloaded"}


class Answers(unittest.TestCase):
    """Who answers SSH."""

    def setUp(self):
        self.tree = Tree(self)
        self.tree.process(1, "init", "/sbin/init", started=0)
        self.tree.write("/usr/sbin/sshd")
        self.tree.write(SSHD_CONFIG, KEYS)
        self.tree.changed(SSHD_CONFIG)

    def part(self):
        return security(self.tree, name="ssh")

    def test_files_of_a_server_that_does_not_run_say_nothing(self):
        self.assertEqual(self.part(), NOT_SUPPORTED)
        self.tree.process(600, "dropbear")
        self.assertEqual(self.part(), NOT_SUPPORTED)

    def test_a_second_server_of_another_kind_leaves_only_the_warning(self):
        self.tree.process(600, "dropbear")
        self.tree.process(812, "sshd", LISTENER)
        self.assertEqual(self.part(), NOT_SUPPORTED)
        self.tree.write(SSHD_CONFIG, PASSWORDS)
        self.assertEqual(self.part()["reason"], "password_login")

    def test_servers_of_users_and_of_containers_are_not_the_machines(self):
        self.tree.process(812, "sshd", LISTENER)
        self.tree.process(600, "dropbear", inside=True)
        self.tree.process(601, "dropbear", uid=1000)
        self.tree.process(602, "sshd", OPEN, inside=True)
        self.assertEqual(self.part()["reason"], "keys_only")
        shutil.rmtree(self.tree.folder + "/proc/812")
        self.assertEqual(self.part(), NOT_SUPPORTED)

    def test_who_has_ended_and_is_not_waited_for_is_no_daemon_and_costs_next_to_nothing(self):
        # A setuid program by the name of sshd: its folder in /proc stays root's, who called it is its real user.
        for pid in range(300, 400):
            self.tree.process(pid, "sshd", uid=61001)
            with open(f"{self.tree.folder}/proc/{pid}/stat") as file:
                told = file.read()
            self.tree.write(f"/proc/{pid}/stat", told.replace(") S ", ") Z "))
            self.tree.write(f"/proc/{pid}/cmdline")
        self.tree.process(812, "sshd", LISTENER)
        asked = []

        class Slow(probe.RecordedHost):
            def read_bytes(self, path):
                if path.startswith("/proc/3"):
                    asked.append(path)
                    time.sleep(0.002)
                return super().read_bytes(path)

        with patch.object(probe, "DAEMONS_SECONDS", 0.1):
            daemons = probe.Daemons(Slow(self.tree.folder))
        self.assertEqual([one.pid for one in daemons.called("sshd")], [812])
        self.assertFalse(daemons.is_late)
        self.assertEqual(len(asked), 100, "one file of each")

    def test_where_processes_are_hidden_nobody_knows(self):
        shutil.rmtree(self.tree.folder + "/proc/1")
        self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"})

    def test_a_server_for_each_connection_reads_the_files_anew(self):
        self.tree.process(900, "sshd", "sshd: mon [priv]", started=950)
        self.tree.changed(SSHD_CONFIG, at=970)
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.process(900, "sshd-session", "sshd-session: mon [priv]", started=950)
        self.assertEqual(self.part()["reason"], "keys_only")

    def test_the_sessions_of_a_server_are_no_servers(self):
        self.tree.process(812, "sshd", LISTENER, started=100)
        self.tree.process(900, "sshd", "sshd: mon [priv]", started=950)
        self.tree.changed(SSHD_CONFIG, at=500)
        self.assertEqual(self.part(), NOT_RELOADED)

    def test_a_file_that_was_changed_since_the_start_may_not_have_been_read(self):
        for line in (LISTENER, "/usr/sbin/sshd\0-D", "/usr/sbin/sshd"):
            self.tree.process(812, "sshd", line, started=100)
            self.tree.changed(SSHD_CONFIG, at=99)
            self.assertEqual(self.part()["reason"], "keys_only")
            self.tree.changed(SSHD_CONFIG, at=101)
            self.assertEqual(self.part(), NOT_RELOADED)

    def test_what_sshd_itself_reports_to_root_is_what_the_next_one_would_do(self):
        self.tree.told.update(uid=0, run={"sshd -T": {"output": KEYS.lower()}})
        self.tree.process(812, "sshd", LISTENER, started=100)
        self.tree.changed(SSHD_CONFIG, at=99)
        self.assertEqual((self.part()["reason"], self.part()["source"]), ("keys_only", "sshd"))
        self.tree.changed(SSHD_CONFIG, at=101)
        self.assertEqual(self.part(), NOT_RELOADED)

    def test_an_old_file_that_was_brought_later_counts_from_then(self):
        self.tree.process(812, "sshd", LISTENER, started=100)
        booted = NOW - 1000
        self.tree.told["stamps"][SSHD_CONFIG] = [booted - 5000, booted + 200, 9]
        self.tree.save()
        self.assertEqual(self.part(), NOT_RELOADED)

    def test_included_files_and_their_folder_count_as_well(self):
        self.tree.write(SSHD_CONFIG, "Include " + FOLDER + "/*.conf\n" + KEYS)
        self.tree.write(FOLDER + "/a.conf", "")
        self.tree.process(812, "sshd", LISTENER, started=100)
        self.tree.changed(SSHD_CONFIG, FOLDER, FOLDER + "/a.conf")
        self.assertEqual(self.part()["reason"], "keys_only")
        for path in (FOLDER, FOLDER + "/a.conf"):
            self.tree.changed(path, at=200)
            self.assertEqual(self.part(), NOT_RELOADED)
            self.tree.changed(path)

    def test_a_reload_is_known_by_the_file_that_sshd_writes_anew(self):
        self.tree.process(812, "sshd", LISTENER, started=100)
        self.tree.changed(SSHD_CONFIG, at=200)
        self.tree.write("/run/sshd.pid", "812\n")
        self.tree.changed("/run/sshd.pid", at=100)
        self.assertEqual(self.part(), NOT_RELOADED)
        self.tree.changed("/run/sshd.pid", at=201)
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.changed("/run/sshd.pid", at=5000)  # in the future, written by a clock that was wrong
        self.assertEqual(self.part(), NOT_RELOADED)
        self.tree.changed("/run/sshd.pid", at=201)
        self.tree.write("/run/sshd.pid", "811\n")
        self.assertEqual(self.part(), NOT_RELOADED)

    def test_the_command_line_comes_before_the_files(self):
        title = "sshd: /usr/sbin/sshd -D {} [listener] 0 of 10-100 startups"
        for options, reason in (
            ("-o PasswordAuthentication=yes", "password_login"),
            ("-oPasswordAuthentication=yes -p 2222", "password_login"),
            ("-o PasswordAuthentication yes", "password_login"),
            ("-4Do PasswordAuthentication yes -E /var/log/x", "password_login"),
            ("-oCiphers=aes128-ctr -o MACs=hmac-sha2-256", "keys_only"),
            ("-o #", "keys_only"),
            ("-x", "unreadable"),
            ("yes", "unreadable"),
            ("-o", "unreadable"),
        ):
            self.tree.process(812, "sshd", title.format(options))
            self.assertEqual(self.part()["reason"], reason, options)
        self.tree.process(812, "sshd", "/usr/sbin/sshd\0-D\0-o\0PasswordAuthentication yes")
        self.assertEqual(self.part()["reason"], "password_login")
        self.tree.process(812, "sshd", title.format("-p 2222"))
        self.assertEqual(self.part()["ports"], [2222])
        self.tree.process(812, "sshd", "sshd: /usr/sbin/sshd -D -o PasswordAuthen")  # a title that was cut
        self.assertEqual(self.part()["reason"], "unreadable")

    def test_the_port_of_the_command_line_is_where_it_listens(self):
        asked = "port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:22\n" + KEYS.lower()
        self.tree.told.update(uid=0, run={"sshd -T": {"output": asked}})
        for config, options, ports in (
            ("", "-D", [22]),
            ("Port 22\n", "-p 2022", [2022]),
            ("Port 22\n", "-p 2022 -p 2023", [2022, 2023]),
            ("ListenAddress 192.0.2.1\n", "-p 2022", [2022]),
            ("ListenAddress 192.0.2.1:2200\n", "-p 2022", [2200]),
            ("", "-o Port=2022", [2022]),
            ("", "-o ListenAddress=192.0.2.1:2022", [2022]),
        ):
            self.tree.write(SSHD_CONFIG, config + KEYS)
            self.tree.process(812, "sshd", "sshd: /usr/sbin/sshd " + options + " [listener] 0 of 10-100 startups")
            self.tree.changed(SSHD_CONFIG)
            self.assertEqual((self.part()["ports"], self.part()["source"]), (ports, "sshd"), config + options)

    def test_another_file_counts_where_the_server_was_given_one(self):
        self.tree.told.update(uid=0, run={"sshd -T": {"output": KEYS.lower()}})
        self.tree.process(812, "sshd", "sshd: /usr/sbin/sshd -f /etc/other [listener] 0 of 10-100 startups")
        self.tree.write("/etc/other", PASSWORDS)
        self.tree.changed("/etc/other")
        self.assertEqual(self.part()["reason"], "password_login")

    def test_of_several_servers_the_worst_counts(self):
        self.tree.process(812, "sshd", LISTENER)
        self.tree.process(813, "sshd", OPEN)
        self.assertEqual(self.part()["reason"], "password_login")

    def test_a_socket_of_fail2bans_without_a_fail2ban_is_nothing(self):
        self.tree.write("/usr/bin/fail2ban-server")
        self.tree.write("/run/fail2ban/fail2ban.sock")
        self.assertEqual(security(self.tree, name="fail2ban")["reason"], "inactive")
        self.tree.process(700, "fail2ban-server", "/usr/bin/python3\0/usr/bin/fail2ban-server")
        self.assertEqual(security(self.tree, name="fail2ban")["reason"], "active")


class Crowds(unittest.TestCase):
    """Another user has so many processes that there is no time to look at all."""

    def setUp(self):
        tree = self.tree = Tree(self, {"uid": 0, "run": {"apt-config dump APT::Periodic": {"output": PERIODIC}}})
        tree.process(1, "init", "/sbin/init", started=0)
        for path in ("/usr/sbin/sshd", "/usr/bin/fail2ban-server", "/run/fail2ban/fail2ban.sock", "/etc/apt/x"):
            tree.write(path)
        for path in ("/var/lib/dpkg/status", "/usr/bin/unattended-upgrade", "/etc/cron.daily/apt-compat"):
            tree.write(path)
        os.chmod(tree.folder + "/etc/cron.daily/apt-compat", 0o755)
        tree.write("/var/log/btmp")
        tree.write(SSHD_CONFIG, KEYS)
        tree.changed(SSHD_CONFIG)
        tree.process(700, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")

    def test_a_crowd_of_others_costs_a_look_at_whose_it_is(self):
        for pid in range(1000, 1050):
            self.tree.process(pid, "cron", uid=1501)
        self.tree.told["owners"] = {f"/proc/{pid}": 1501 for pid in range(1000, 1050)}
        self.tree.save()
        host, read = self.tree.host(), []
        read_bytes = host.read_bytes
        host.read_bytes = lambda path: read.append(path) or read_bytes(path)
        self.assertEqual([one.pid for one in probe.Daemons(host).found], [700])
        self.assertFalse([path for path in read if path.startswith("/proc/10")])

    def test_what_is_not_all_makes_nothing_ok_and_hides_no_warning(self):
        names = ("ssh", "fail2ban", "automatic_updates", "failed_logins")
        with patch.object(probe, "DAEMONS_SECONDS", -1.0):  # no time but for the first
            shutil.rmtree(self.tree.folder + "/proc/1")
            told = security(self.tree)
            self.assertEqual({name: told[name]["state"] for name in names}, dict.fromkeys(names, "unknown"))
            self.assertEqual(told["fail2ban"], {"state": "unknown", "reason": "timed_out"})
            self.assertEqual([told[name]["reason"] for name in names[:3]], ["timed_out"] * 3)
            self.tree.write(SSHD_CONFIG, PASSWORDS)
            self.assertEqual(security(self.tree, name="ssh")["reason"], "password_login")

    def test_a_list_that_was_cut_is_not_all(self):
        with patch.object(probe, "PIDS_LISTED", 2):
            self.assertEqual(security(self.tree, name="fail2ban")["reason"], "timed_out")

    def test_a_server_of_which_nothing_is_known_hides_no_warning_of_another(self):
        self.tree.process(600, "sshd", "sshd: /usr/sbin/sshd -D -o PasswordAuthen")  # a title that was cut
        self.assertEqual(security(self.tree, name="ssh"), {"state": "unknown", "reason": "unreadable"})
        self.tree.process(800, "sshd", OPEN)
        self.assertEqual(security(self.tree, name="ssh")["reason"], "password_login")


class Pretenders(unittest.TestCase):
    """Name and command line are what who started a process says; real root is who runs some setuid programs."""

    def setUp(self):
        self.tree = Tree(self, {"uid": 0, "run": {"apt-config dump APT::Periodic": {"output": PERIODIC}}})
        self.tree.process(1, "init", "/sbin/init", started=0)
        for path in ("/usr/sbin/sshd", "/usr/bin/fail2ban-server", "/etc/apt/x", "/var/lib/dpkg/status"):
            self.tree.write(path)
        for path in ("/usr/bin/unattended-upgrade", "/etc/cron.daily/apt-compat", "/var/log/btmp"):
            self.tree.write(path)
        os.chmod(self.tree.folder + "/etc/cron.daily/apt-compat", 0o755)
        self.tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        self.tree.write(SSHD_CONFIG, KEYS)
        self.tree.changed(SSHD_CONFIG)

    def part(self, name="ssh"):
        return security(self.tree, name=name)

    def told(self):
        parts = security(self.tree)
        return {name: parts[name]["reason"] for name in ("ssh", "fail2ban", "automatic_updates", "failed_logins")}

    def start(self, **more):
        for pid, name in enumerate(("sshd", "fail2ban-server", "cron"), 900):
            self.tree.process(pid, name, LISTENER if name == "sshd" else "", **more)

    def test_a_setuid_program_by_another_name_is_no_daemon(self):
        self.tree.told["modes"] = {f"/proc/{pid}/exe": 0o4755 for pid in (900, 901, 902)}
        self.tree.save()
        for group in ("/system.slice/cron.service", "/user.slice/user-1501.slice/user@1501.service/f1", "/"):
            self.start(exe="/usr/sbin/exim4", cgroup=group)
            self.assertEqual(self.told(), NONE, group)
            for pid in (900, 901, 902):
                os.remove(f"{self.tree.folder}/proc/{pid}/exe")

    def test_what_is_in_a_users_part_is_no_daemon_where_its_program_may_not_be_seen(self):
        self.tree.told["uid"] = 1000
        self.tree.save()
        for group in (
            "/user.slice/user-1501.slice/session-3.scope",
            "/user.slice/user-1501.slice/user@1501.service/app.slice/ssh.service",
            "/user/eve/ssh.service",
        ):
            self.start(cgroup=group)
            self.assertEqual(self.told(), NONE, group)

    def test_what_cannot_be_known_is_not_called_right_or_wrong(self):
        unknown = dict.fromkeys(("ssh", "fail2ban", "automatic_updates"), "permission_denied")
        for group in ("/", "/system.slice/other.service", "/system.slice/docker.service"):
            self.start(cgroup=group)
            self.assertEqual(self.told(), dict(unknown, failed_logins="no_log"), group)
            self.tree.process(900, "sshd", OPEN, cgroup=group)
            self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"}, group)
        self.tree.process(812, "sshd", OPEN)
        self.assertEqual(self.part()["reason"], "password_login")
        self.tree.process(812, "sshd", LISTENER)
        self.tree.process(900, "dropbear", cgroup="/")
        self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"})

    def test_whom_a_file_of_roots_names_is_who_it_says_where_nothing_else_reports(self):
        """As on a machine without systemd, which has no unit for what runs."""
        self.tree.told["uid"] = 1000
        for group in ("/", "/user.slice/user-1501.slice/session-3.scope"):
            self.start(cgroup=group)
            for path, pid in (("sshd", 900), ("fail2ban/fail2ban", 901), ("crond", 902)):
                self.tree.write(f"/run/{path}.pid", f"{pid}\n")
                self.tree.changed(f"/run/{path}.pid", at=100)
            told = self.told()
            self.assertEqual((told["ssh"], told["fail2ban"]), ("keys_only", "active"), group)
            self.assertNotEqual(told["automatic_updates"], "permission_denied", group)
            self.tree.process(900, "sshd", OPEN, cgroup=group)
            self.assertEqual(self.part()["reason"], "password_login", group)

    def test_a_group_in_which_logins_stay_says_nothing(self):
        """As with OpenRC, Dropbear, and an OpenSSH without pam_systemd: whoever logs in is in the server's group."""
        self.tree.told["uid"] = 1000
        self.tree.save()
        for name, line, group, own, is_sure in (
            ("sshd", OPEN, "/openrc.sshd", "/openrc.sshd", False),
            ("sshd", OPEN, "/openrc.sshd", "/user.slice/user-1000.slice/session-3.scope", False),
            ("sshd", OPEN, "/system.slice/ssh.service", "/system.slice/ssh.service", False),
            ("sshd", OPEN, "/system.slice/ssh.service/x", "/system.slice/ssh.service", False),
            ("sshd", OPEN, "/system.slice/ssh@7-1.service", "/system.slice/ssh@8-2.service", False),
            ("sshd", OPEN, "/system.slice/dropbear.service", "/system.slice/dropbear.service", False),
            ("dropbear", "", "/system.slice/dropbear.service", "/system.slice/dropbear.service", False),
            ("cron", "", "/system.slice/cron.service", "/user.slice/user-1000.slice/session-3.scope", False),
            ("cron", "", "/openrc.cronie", "/openrc.sshd", False),
            ("sshd", OPEN, "/system.slice/ssh.service", "/user.slice/user-1000.slice/session-3.scope", True),
            ("sshd", OPEN, "/system.slice/ssh.service", "/system.slice/dropbear.service", True),
            ("fail2ban-server", "", "/openrc.fail2ban", "/openrc.sshd", True),
        ):
            with self.subTest((name, group, own)):
                self.tree.write("/proc/self/cgroup", "0::" + own + "\n")
                self.tree.process(900, name, line, cgroup=group)
                self.assertEqual([one.is_sure for one in probe.Daemons(self.tree.host()).found], [is_sure])

    def test_what_a_login_left_in_the_servers_group_is_no_server(self):
        """As where a user kept the bus busy while logging in, so that pam_systemd gave up."""
        self.tree.told["uid"] = 1000
        self.tree.save()
        self.tree.write("/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n")
        self.tree.write("/proc/1/loginuid", "4294967295")
        for login, is_sure in (("4294967295", True), ("1501", False)):
            with self.subTest(login):
                self.tree.process(900, "sshd", OPEN, cgroup="/system.slice/ssh.service")
                self.tree.write("/proc/900/loginuid", login)
                self.assertEqual([one.is_sure for one in probe.Daemons(self.tree.host()).found], [is_sure])
        self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"})

    def test_who_lets_others_into_its_group_is_known_by_the_file_that_it_wrote_or_as_who_let_us_in(self):
        self.tree.told["uid"] = 1000
        self.tree.write("/proc/self/cgroup", "0::/openrc.sshd\n")
        self.tree.process(812, "sshd", LISTENER, cgroup="/openrc.sshd")
        self.assertEqual(self.part()["reason"], "permission_denied")
        self.tree.write("/proc/self/stat", "950 (python3) S 812 0\n")
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.write("/proc/self/stat", "950 (python3) S 1 0\n")
        self.tree.write("/run/sshd.pid", "812\n")
        self.tree.changed("/run/sshd.pid", at=100)
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.process(900, "sshd", OPEN, cgroup="/openrc.sshd")
        self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"})
        self.tree.write(SSHD_CONFIG, PASSWORDS)
        self.assertEqual(self.part()["reason"], "password_login")

    def of_parent(self, pid, parent, *words, **more):
        """Run a process that another one started."""
        self.tree.process(pid, *words, **more)
        with open(f"{self.tree.folder}/proc/{pid}/stat") as file:
            told = file.read()
        self.tree.write(f"/proc/{pid}/stat", told.replace(" S 1 ", f" S {parent} "))

    def test_who_is_called_a_server_takes_no_place_of_the_one_for_each_connection(self):
        """tcpsvd(8) starts an sshd -i for each; somebody else has something that is called sshd."""
        self.tree.told["uid"] = 1000
        self.tree.write(SSHD_CONFIG, PASSWORDS)
        self.tree.write("/proc/self/stat", "950 (python3) S 900 0\n")
        self.of_parent(900, 700, "sshd", "sshd: mon [priv]", started=950, cgroup="/openrc.sshd")
        self.assertEqual(self.part()["reason"], "password_login")
        title = "sshd: /usr/sbin/sshd -D -o PasswordAuthentication=no [listener] 0 of 10-100 startups"
        self.tree.process(910, "sshd", title, cgroup="/openrc.sshd")
        self.assertEqual(self.part()["reason"], "password_login")

    def test_one_for_each_connection_beside_one_that_listens_counts_as_well(self):
        self.tree.process(812, "sshd", LISTENER, exe="/usr/sbin/sshd")
        self.tree.write(SSHD_CONFIG, KEYS)
        self.tree.changed(SSHD_CONFIG, at=500)  # after the start of the one that listens
        for parent, servers in ((812, 1), (1, 1), (700, 2)):
            self.of_parent(900, parent, "sshd", "sshd: mon [priv]", started=950, exe="/usr/sbin/sshd")
            self.assertEqual(len(probe.Daemons(self.tree.host()).ssh_servers()), servers, parent)
            os.remove(self.tree.folder + "/proc/900/exe")

    def test_a_command_line_without_end_is_not_read_whole_and_not_taken_for_whole(self):
        self.tree.process(812, "sshd", "/usr/sbin/sshd\0" + "-4\0" * (4 << 20))
        host = self.tree.host()
        (one,) = probe.Daemons(host).found
        self.assertLess(sum(map(len, one.words)), 1 << 17)
        self.assertEqual(self.part()["reason"], "unreadable")

    def test_a_file_proves_nothing_that_is_not_roots_or_means_another_process(self):
        self.tree.told["uid"] = 1000
        self.start(cgroup="/")
        whole = {"content": "900\n", "at": 100, "owners": {}, "modes": {}}
        for change in (
            {"content": "90\n"},
            {"content": "900 1\n"},
            {"at": 99},  # written before it began: the number was another one's then
            {"at": 2000},  # in a time to come
            {"owners": {"/run": 1501}},
            {"owners": {"/run/sshd.pid": 1501}},
            {"modes": {"/run/sshd.pid": 0o666}},
            {"modes": {"/run": 0o777}},
        ):
            made = dict(whole, **change)
            self.tree.write("/run/sshd.pid", made["content"])
            self.tree.told.update(owners=made["owners"], modes=made["modes"])
            self.tree.changed("/run/sshd.pid", at=made["at"])
            self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"}, change)
        self.tree.told.update(owners={}, modes={})
        self.tree.changed("/run/sshd.pid", at=100)
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.process(812, "sshd", OPEN, cgroup="/")
        self.assertEqual(
            self.part(), {"state": "unknown", "reason": "permission_denied"}, "of another one nothing is known"
        )

    def test_roots_programs_are_known_by_their_file(self):
        self.tree.write("/usr/bin/x")
        for at, (exe, group, modes, owners, reason) in enumerate(
            (
                ("/usr/sbin/sshd", "/", {}, {}, "keys_only"),
                ("/usr/sbin/sshd (deleted)", "/system.slice/door.service", {}, {}, "keys_only"),
                ("/usr/sbin/sshd", "/user.slice/user-0.slice/session-3.scope", {}, {}, "permission_denied"),
                ("/usr/sbin/other", "/system.slice/ssh.service", {}, {}, "permission_denied"),
                ("/usr/sbin/sshd", "/system.slice/ssh.service", {"/proc/{}/exe": 0o775}, {}, "permission_denied"),
                ("/usr/sbin/sshd", "/system.slice/ssh.service", {}, {"/proc/{}/exe": 1501}, "permission_denied"),
                ("/usr/sbin/sshd", "/system.slice/ssh.service", {"/usr/sbin": 0o777}, {}, "permission_denied"),
                ("/usr/sbin/sshd", "/system.slice/ssh.service", {"/usr/sbin": 0o1777}, {}, "permission_denied"),
                ("/usr/sbin/sshd", "/system.slice/ssh.service", {}, {"/usr": 1501}, "permission_denied"),
                ("/home/eve/sshd", "/system.slice/ssh.service", {}, {}, "permission_denied"),
            )
        ):
            pid = 2000 + at
            self.tree.told["modes"] = {path.format(pid): mode for path, mode in modes.items()}
            self.tree.told["owners"] = {path.format(pid): uid for path, uid in owners.items()}
            self.tree.save()
            self.tree.process(pid, "sshd", LISTENER, exe=exe, cgroup=group)
            self.assertEqual(self.part()["reason"], reason, (exe, group, modes, owners))
            shutil.rmtree(f"{self.tree.folder}/proc/{pid}")

    def test_where_a_group_can_put_a_program_nothing_is_known_to_be_roots(self):
        # With the sticky bit nobody replaces what is there, and yet a member of the group may bring a program.
        for mode in (0o775, 0o1775):
            self.tree.told["modes"] = {"/usr/sbin": mode}
            self.tree.save()
            shutil.rmtree(self.tree.folder + "/proc/812", ignore_errors=True)
            self.tree.process(812, "sshd", LISTENER, exe="/usr/sbin/sshd", cgroup="/system.slice/ssh.service")
            self.assertEqual(self.part(), {"state": "unknown", "reason": "permission_denied"}, oct(mode))

    def test_a_file_that_a_command_line_names_is_read_only_where_it_is_roots_and_a_file(self):
        os.mkfifo(self.tree.folder + "/etc/fifo")
        self.tree.write("/etc/long", KEYS + "#" * (1 << 18))
        self.tree.write("/home/eve/config", KEYS)
        self.tree.write("/etc/writable", KEYS)
        self.tree.link("/etc/led", "../home/eve/config")
        self.tree.link("/etc/loop", "loop")
        self.tree.write("/etc/right", KEYS)
        self.tree.told.update(owners={"/home/eve": 1501}, modes={"/etc/writable": 0o666})
        self.tree.changed("/etc/fifo", "/etc/long", "/etc/writable", "/etc/right", "/home/eve/config", SSHD_CONFIG)
        title = "sshd: /usr/sbin/sshd -D -f {} [listener] 0 of 10-100 startups"
        for path, reason in (
            ("/etc/right", "keys_only"),
            ("/etc", "permission_denied"),
            ("/etc/fifo", "permission_denied"),
            ("/etc/long", "permission_denied"),
            ("/etc/writable", "permission_denied"),
            ("/home/eve/config", "permission_denied"),
            ("/etc/led", "permission_denied"),
            ("/etc/loop", "permission_denied"),
        ):
            self.tree.process(812, "sshd", title.format(path))
            self.assertEqual(self.in_time(), reason, path)
            self.tree.process(812, "sshd", LISTENER)
            self.tree.write(SSHD_CONFIG, "Include " + path + "\n" + KEYS)
            self.assertEqual(self.in_time(), reason, "Include " + path)
            self.tree.write(SSHD_CONFIG, KEYS)
        self.tree.write(SSHD_CONFIG, KEYS + "PidFile /etc/fifo\n")
        self.tree.changed(SSHD_CONFIG, at=500)
        self.assertEqual(self.in_time(), "not_reloaded")
        self.tree.process(812, "sshd", LISTENER.replace("/usr/sbin/sshd", "/etc/fifo"))
        self.assertEqual(self.in_time("failed_logins"), "no_log")

    def in_time(self, name="ssh"):
        """Return what is said, or that it waits for ever."""
        told = []
        asks = threading.Thread(target=lambda: told.append(self.part(name)["reason"]), daemon=True)
        asks.start()
        asks.join(2)
        return told[0] if told else "it waits"

    def test_who_started_this_connection_is_the_server_that_answers(self):
        self.tree.told["uid"] = 1000
        self.tree.save()
        for pid, parent in (("self", 901), ("901", 900), ("900", 1)):
            self.tree.write(f"/proc/{pid}/stat", f"{pid} (x) S {parent} 1\n")
        session = "/user.slice/user-1000.slice/session-3.scope"
        self.tree.process(900, "sshd", "sshd: mon [priv]", started=950, cgroup=session)
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.process(900, "sshd", LISTENER, cgroup="/")
        self.assertEqual(self.part()["reason"], "keys_only")
        self.tree.process(902, "sshd", "sshd: eve [priv]", started=950, cgroup=session)
        shutil.rmtree(self.tree.folder + "/proc/900")
        self.assertEqual(self.part(), NOT_SUPPORTED)


class Tells(unittest.TestCase):
    """What a server writes of those whom it refused."""

    def test_a_file_of_bad_logins_that_nobody_writes_proves_nothing(self):
        for name, line, content in (
            ("dropbear", "", b"\x7fELF"),
            ("sshd", LISTENER, b"\x7fELF"),
            ("sshd-session", "sshd-session: mon [priv]", b"\x7fELF"),
        ):
            tree = Tree(self)
            tree.process(600, name, line)
            tree.write("/usr/sbin/" + name, content)
            tree.write("/usr/lib/openssh/sshd-session", content)
            tree.write("/var/log/btmp")
            self.assertEqual(security(tree, name="failed_logins")["reason"], "no_log", name)
            tree.write("/usr/lib/openssh/sshd-session", content + b"\0/var/log/btmp\0")
            told = security(tree, name="failed_logins")["reason"]
            self.assertEqual(told, "no_log" if name == "dropbear" else "none")

    def test_a_server_that_logs_errors_only_does_not_report_refused_logins(self):
        for config, options, reason in (
            ("LogLevel ERROR\n", "", "not_logged"),
            ("LogLevel fatal\n", "", "not_logged"),
            ("LogLevel QUIET\n", "", "not_logged"),
            ("Match User x\nLogLevel QUIET\n", "", "not_logged"),
            ("LogLevel VERBOSE\nLogLevel QUIET\n", "", "none"),
            ("Match User x\nLogLevel\n", "", "none"),
            ("LogLevel\n", "", "none"),
            ("LogLevel INFO\n", "", "none"),
            ("", "", "none"),
            ("", " -o LogLevel=ERROR", "not_logged"),
            ("", " -q", "not_logged"),
            ("", " -E /var/log/sshd", "not_logged"),
        ):
            tree = test_security.FailedLogins.in_journal(self, "")
            tree.write(SSHD_CONFIG, config)
            tree.changed(SSHD_CONFIG)
            tree.process(812, "sshd", LISTENER.replace(" -D", " -D" + options))
            self.assertEqual(security(tree, name="failed_logins")["reason"], reason, config + options)


@unittest.skipUnless(SSHD and os.geteuid() == 0, "there is no sshd, or nobody who may start it")
class RealSshd(unittest.TestCase):
    """A server of this machine's sshd."""

    def wait(self, ready):
        deadline = time.monotonic() + 10
        while not ready():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_a_reload_and_what_was_changed_since_are_seen(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        config, key, pid_file = (os.path.join(folder, name) for name in ("config", "key", "pid"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            port = door.getsockname()[1]
        with open(config, "w") as file:
            file.write(f"HostKey {key}\nPidFile {pid_file}\nListenAddress 127.0.0.1:{port}\n{KEYS}")
        os.makedirs("/run/sshd", exist_ok=True)
        server = subprocess.Popen([SSHD, "-D", "-f", config, "-o", "PermitRootLogin no"], stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.wait(lambda: os.path.exists(pid_file))
        host = probe.Host()

        def told():
            daemons = probe.Daemons(host)
            one = next(one for one in daemons.named("sshd") if one.pid == server.pid)
            try:
                return probe.sshd_part(host, one, SSHD_CONFIG, "permission_denied", daemons)
            except probe.Unknown as err:
                return err.reason

        self.assertEqual((told()["reason"], told()["root_login"], told()["ports"]), ("keys_only", "no", [port]))
        time.sleep(0.05)
        with open(config, "a") as file:
            file.write("PermitRootLogin yes\n")
        self.assertEqual(told(), "not_reloaded")
        time.sleep(0.05)
        os.remove(pid_file)
        server.send_signal(signal.SIGHUP)
        self.wait(lambda: os.path.exists(pid_file) and probe.Host().text(pid_file))
        self.assertEqual(told()["reason"], "keys_only")


if __name__ == "__main__":
    unittest.main()
