"""Who is logged in, where logind is all that notes it."""

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

    def test_of_more_sessions_than_are_read_no_number_is_told(self):
        for number in range(probe.SESSIONS_READ):
            self.session(str(number), terminal=34816)
            self.tree.write(f"/run/systemd/sessions/{number}.ref")
        self.assertEqual(self.users(), probe.SESSIONS_READ)
        self.session("more")
        self.assertIsNone(self.users())


if __name__ == "__main__":
    unittest.main()
