"""Who is logged in, where logind is all that notes it; how many processes there are."""

import unittest

from place import probe
from tree import Tree, section

GROUPS = "/sys/fs/cgroup/user.slice/user-1000.slice"


class LoggedIn(unittest.TestCase):
    def setUp(self):
        self.tree = Tree(self)
        self.tree.write("/run/systemd/sessions/0.ref")

    def session(self, name, terminal=0, **more):
        """Note a session as logind does; `terminal` is the device number that its shell has."""
        fields = dict({"UID": "1000", "STATE": "active", "TYPE": "tty", "CLASS": "user"}, **more)
        fields.setdefault("SCOPE", f"session-{name}.scope")
        text = "# This is private data. Do not parse.\n" + "".join(f"{key}={value}\n" for key, value in fields.items())
        self.tree.write("/run/systemd/sessions/" + name, text)
        self.tree.write(f"{GROUPS}/session-{name}.scope/cgroup.procs", f"90{name}\n91{name}\n")
        self.tree.write(f"/proc/90{name}/stat", f"90{name} (sshd (x) y) S 1 90 90 0 -1 4194560")
        self.tree.write(f"/proc/91{name}/stat", f"91{name} (-bash) S 90 91 91 {terminal} 91 4194304")

    def users(self):
        return section(self.tree.host(), "system")[0].get("users")

    def test_a_command_over_ssh_as_ours_is_nobody(self):
        self.assertEqual(self.users(), 0)
        self.session("1", SERVICE="sshd", LEADER="901")
        self.assertEqual(self.users(), 0)

    def test_a_terminal_over_ssh_is_somebody(self):
        self.session("1", SERVICE="sshd")
        self.session("2", terminal=34816, SERVICE="sshd")
        self.assertEqual(self.users(), 1)

    def test_a_console_and_a_desktop_are_somebody(self):
        self.session("1", TTY="tty1", SEAT="seat0")
        text = "CLASS=user\nTYPE=wayland\nSTATE=active\nUID=1000\nSCOPE=session-2.scope\n"
        self.tree.write("/run/systemd/sessions/2", text)
        self.tree.write("/run/systemd/sessions/3", text.replace("active", "closing"))
        self.tree.write("/run/systemd/sessions/4", text.replace("CLASS=user", "CLASS=greeter"))
        self.assertEqual(self.users(), 2)

    def test_a_hundred_logins_of_one_user_hide_nobody(self):
        for number in range(300):
            self.session(str(number), UID="1501", SERVICE="sshd")
        self.session("zz", terminal=34816, SERVICE="sshd")
        self.assertEqual(self.users(), 1)

    def test_of_more_sessions_than_are_read_no_number_is_reported(self):
        for number in range(probe.SESSIONS_READ):
            self.session(str(number), terminal=34816)
            self.tree.write(f"/run/systemd/sessions/{number}.ref")
        self.assertEqual(self.users(), probe.SESSIONS_READ)
        self.session("more")
        self.assertIsNone(self.users())


class Processes(unittest.TestCase):
    def test_who_sees_no_processes_but_his_own_cannot_count_them(self):
        tree = Tree(self)
        tree.write("/proc/loadavg", "0.13 0.18 0.12 1/86 5288\n")
        tree.process(4711, "python3", uid=1000)
        reported = section(tree.host(), "load")[0]
        self.assertEqual((reported["threads"], reported.get("processes")), (86, None))
        tree.process(1, "init")
        self.assertEqual(section(tree.host(), "load")[0]["processes"], 2)


class Frequency(unittest.TestCase):
    def test_a_cpu_that_does_not_say_how_fast_it_runs_is_not_counted_as_one_that_stands_still(self):
        tree = Tree(self)
        tree.write("/proc/stat", "cpu 1 0 0 1\ncpu0 1 0 0 1\n")
        for number, said in enumerate(("1800000", "<unknown>", "2400000")):
            tree.write(f"/sys/devices/system/cpu/cpufreq/policy{number}/scaling_cur_freq", said + "\n")
        self.assertEqual(section(tree.host(), "cpu")[0]["frequency_hz"], 2100000000)


if __name__ == "__main__":
    unittest.main()
