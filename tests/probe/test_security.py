"""Security: how sshd reads its settings, and that unknown is not off."""

import json
import os
import re
import struct
import time
import unittest
from unittest.mock import patch

from place import PROBES, probe
from test_updates import said
from tree import Tree, section

NOW = 1760000000.0  # 2025-10-09 08:53:20 UTC
SSHD_CONFIG, CONFIG_FOLDER = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d"
APT_TIMERS = ("apt-daily-upgrade.timer", "apt-daily.timer")
PERIODIC = 'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
LISTENER = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
mon:x:1000:1000::/home/mon:/bin/bash
bob:x:1001:1001::/home/bob:/bin/sh
sftp:x:1002:100::/srv:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nwheel:x:10:root,eve\nusers:x:100:\nmon:x:1000:\nbob:x:1001:\nfamily:x:1100:\nnogroup:x:65534:\n"


def security(tree, sudo=(), name=None):
    """Return the section, or one part of it."""
    request = probe.Request({"id": "1", "sections": ["security"], "sudo": list(sudo)})
    reply = probe.Probe(tree.host()).answer(request)
    assert not reply["errors"], reply["errors"]
    told = reply["sections"]["security"]
    return told.get(name) if name else told


class Sshd(unittest.TestCase):
    def part(self, config, more=None, told=None, sudo=()):
        tree = Tree(self, told)
        tree.write("/etc/ssh/sshd_config", config)
        for name, text in (more or {}).items():
            tree.write("/etc/ssh/sshd_config.d/" + name, text)
        tree.process(812, "sshd", LISTENER)
        tree.changed(SSHD_CONFIG, CONFIG_FOLDER, *(CONFIG_FOLDER + "/" + name for name in more or ()))
        return security(tree, sudo, "ssh")

    def test_without_a_word_passwords_are_taken(self):
        told = self.part("# nothing\n")
        expected = {"state": "warning", "reason": "password_login", "source": "sshd_config", "ports": [22]}
        self.assertEqual(told, dict(expected, root_login="prohibit-password", password_login=True, conditional=[]))

    def test_included_files_count_where_they_are_included_in_order_and_the_first_value_wins(self):
        config = "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\n"
        more = {
            "20-b.conf": "PasswordAuthentication yes\n",
            "10-a.conf": "passwordauthentication=no\n",
            "c.txt": "Port 1",
        }
        told = self.part(config, more)
        self.assertEqual((told["state"], told["reason"], told["ports"]), ("ok", "keys_only", [22]))
        told = self.part("PasswordAuthentication yes\nInclude sshd_config.d/*.conf\n", more)
        self.assertEqual(told["reason"], "password_login")

    def test_a_password_that_a_match_lets_in_is_no_login_by_keys_only(self):
        keys = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        on = "\n  PasswordAuthentication yes\n"
        some, root = "password_login_for_some", "root_password_login_for_some"
        for config, reason in (
            (keys + "PermitRootLogin yes\nMatch User root" + on, root),
            (keys + "Match Address 10.0.0.0/8" + on, some),
            (keys + "PermitRootLogin yes\nMatch Address 10.0.0.0/8" + on, root),
            (keys + "Match User *,!nobody" + on, some),
            (keys + "PermitRootLogin yes\nMatch User *,!root" + on, some),
            (keys + "PermitRootLogin yes\nMatch User bob" + on, some),
            (keys + "PermitRootLogin yes\nMatch User bob Address 10.0.0.0/8" + on, some),
            (keys + "UsePAM yes\nMatch Group family\nKbdInteractiveAuthentication yes\n", some),
            (keys + "Match User root" + on + "  PermitRootLogin yes\n", root),
            # In two blocks, of which somebody may be in both.
            (keys + "PermitRootLogin no\nMatch Address 10.0.0.0/8\nPermitRootLogin yes\nMatch User root" + on, root),
            (
                keys + "PermitRootLogin no\nMatch Address 10.0.0.1\nPermitRootLogin yes\nMatch Address 10.0.0.2" + on,
                some,
            ),
            # Passwords are on for all, root's in one block.
            ("PermitRootLogin no\nMatch Address 10.0.0.0/8\nPermitRootLogin yes\n", root),
            ("PermitRootLogin yes\nMatch User bob\nPasswordAuthentication no\n", "root_password_login"),
            # A key is wanted as well; the first that matches counts; nobody is in both.
            (keys + "Match User bob" + on + "AuthenticationMethods publickey,password\n", "keys_only"),
            (keys + "AuthenticationMethods publickey\nMatch User bob" + on, "keys_only"),
            (keys + "AuthenticationMethods publickey\nMatch User bob" + on + "AuthenticationMethods any\n", some),
            (keys + "Match User bob\nPasswordAuthentication no" + on, "keys_only"),
            (keys + "Match all\nPasswordAuthentication no\nMatch User bob" + on, "keys_only"),
            (keys + "Match User bob\nX11Forwarding yes\n", "keys_only"),
        ):
            told = self.part(config)
            is_on = reason != "keys_only"
            self.assertEqual((told["reason"], told["password_login"]), (reason, is_on), config)
            self.assertEqual(told["state"], "warning" if is_on else "ok")

    def decided(self, config, **more):
        """Return how root may log in, the reason and the doubts, on a machine with a few accounts."""
        tree = Tree(self, more.get("told"))
        for path, text in ((SSHD_CONFIG, config), ("/etc/passwd", PASSWD), ("/etc/group", GROUP)):
            tree.write(path, text)
        tree.process(812, "sshd", LISTENER)
        tree.changed(SSHD_CONFIG)
        part = security(tree, more.get("sudo", ()), "ssh")
        self.assertEqual(part["password_login"], part["reason"] != "keys_only", config)
        return part["root_login"], part["reason"], part.get("conditional")

    def test_who_may_not_log_in_at_all_is_not_let_in_by_anything_else(self):
        yes, keys = "PermitRootLogin yes\n", "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        on, some, root = "\n PasswordAuthentication yes\n", "password_login_for_some", "root_password_login"
        for config, login, reason in (
            (yes, "yes", root),
            (yes + "AllowUsers mon\n", "no", "password_login"),
            (yes + "AllowUsers mon\nallowusers = root\n", "yes", root),  # the lines add up
            (yes + "AllowUsers mon bob\nDenyUsers bob\n", "no", "password_login"),
            (yes + "AllowUsers r??t\n", "yes", root),
            (yes + "AllowUsers ro\n", "no", "password_login"),  # who is in no file may be in a directory
            (yes + "DenyUsers root\n", "no", "password_login"),
            (yes + "DenyUsers *\n", "no", "keys_only"),
            (yes + "DenyUsers r*\n", "no", "password_login"),
            (yes + "AllowUsers nobody\n", "no", "keys_only"),
            (yes + "AllowUsers sftp\n", "no", "password_login"),
            (yes + "AllowGroups mon\n", "no", "password_login"),
            (yes + "AllowGroups wheel\n", "yes", root),
            (yes + "DenyGroups root\n", "no", "password_login"),
            (yes + "DenyGroups adm wheel\n", "no", "password_login"),
            (yes + "AllowUsers root@*\n", "yes", root),
            (yes + "DenyUsers root@*\n", "no", "password_login"),
            (yes + "DenyUsers root@192.0.2.1\n", "yes", root),
            (keys + "DenyUsers bob\nMatch User bob" + on, "prohibit-password", "keys_only"),
            (keys + "AllowUsers mon\nMatch User bob" + on, "no", "keys_only"),
            (keys + "AllowUsers mon\nMatch User bob" + on + " AllowUsers bob\n", "no", some),
            (keys + "DenyGroups bob\nMatch User bob" + on, "prohibit-password", "keys_only"),
            (yes + "AllowUsers mon\nMatch Address 10.0.0.0/8\n AllowUsers root\n", "yes", root + "_for_some"),
            (yes + "Match User root\n AllowUsers mon\n", "no", "password_login"),
            (yes + "Match User root\n DenyUsers root\n", "no", "password_login"),
        ):
            self.assertEqual(self.decided(config), (login, reason, self.decided(config)[2]), config)

    def test_a_match_that_always_holds_for_root_holds_for_root(self):
        yes, keys = "PermitRootLogin yes\n", "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        off, on = "\n PasswordAuthentication no\n KbdInteractiveAuthentication no\n", "\n PasswordAuthentication yes\n"
        for config, login, reason in (
            (yes + "Match User root" + off, "yes", "password_login"),
            (yes + "Match user=ro*" + off, "yes", "password_login"),
            (yes + "Match Group wheel" + off, "yes", "password_login"),
            (yes + "Match Group root,!wheel" + off, "yes", "root_password_login"),
            (yes + "Match User root Address 10.0.0.0/8" + off, "yes", "root_password_login"),
            (yes + "Match User root\n PermitRootLogin prohibit-password\n", "prohibit-password", "password_login"),
            (keys + yes + "Match Group wheel" + on, "yes", "root_password_login_for_some"),
            (keys + yes + "Match Group bob" + on, "yes", "password_login_for_some"),
            (keys + "PermitRootLogin no\nMatch User root" + on, "no", "keys_only"),
            (keys + yes + "Match User root" + off + "Match Address 10.0.0.0/8" + on, "yes", "password_login_for_some"),
        ):
            self.assertEqual(self.decided(config)[:2], (login, reason), config)

    def test_a_port_on_which_nobody_listens_lets_nobody_in(self):
        keys = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        match = "Match LocalPort 2222\n PasswordAuthentication yes\n"
        self.assertEqual(self.decided(keys + match)[1], "keys_only")
        self.assertEqual(self.decided("Port 22\nPort 2222\n" + keys + match)[1], "password_login_for_some")
        self.assertEqual(self.decided("Port 2222\n" + keys + match)[1], "password_login_for_some")

    def test_what_lists_of_users_leave_open_is_said(self):
        told = self.decided("PermitRootLogin yes\nAllowUsers root@192.0.2.1\n")
        self.assertEqual(told, ("yes", "root_password_login_for_some", ["allowusers"]))
        told = self.decided("AllowGroups family\n")  # nobody here is in it, and a directory may have more
        self.assertEqual(told, ("no", "password_login_for_some", ["allowgroups"]))
        self.assertEqual(self.decided("AllowGroups bob\nDenyUsers eve\n"), ("no", "password_login", []))
        told = self.decided("Match Address 10.0.0.0/8\n DenyUsers root\n")
        self.assertEqual(told, ("prohibit-password", "password_login", ["denyusers"]))

    def test_the_lists_of_users_count_as_sshd_reports_them(self):
        said = "port 22\npermitrootlogin yes\npasswordauthentication yes\nallowusers mon\nallowusers bob\n"
        told = {"run": {"sshd -T": {"output": said}}, "is_root": True}
        for name, login in (("", "no"), ("allowusers root\n", "yes")):
            told["run"]["sshd -T"] = {"output": said + name}
            tree = Tree(self, told)
            for path, text in ((SSHD_CONFIG, ""), ("/etc/passwd", PASSWD), ("/usr/sbin/sshd", "")):
                tree.write(path, text)
            tree.process(812, "sshd", LISTENER)
            tree.changed(SSHD_CONFIG)
            self.assertEqual(security(tree, (), "ssh")["root_login"], login)

    def test_many_blocks_and_accounts_are_checked_in_time(self):
        blocks = "".join(f"Match User u{i} Address 10.0.{i}.0/24\n PasswordAuthentication yes\n" for i in range(200))
        blocks += "".join(f"Match Address 10.1.{i}.0/24\n PermitRootLogin yes\n" for i in range(200))
        tree = Tree(self)
        tree.write(SSHD_CONFIG, "PasswordAuthentication no\nKbdInteractiveAuthentication no\n" + blocks)
        tree.write("/etc/passwd", PASSWD + "".join(f"u{i}:x:{2000 + i}:100::/:/bin/sh\n" for i in range(5000)))
        tree.process(812, "sshd", LISTENER)
        tree.changed(SSHD_CONFIG)
        begun = time.process_time()
        self.assertEqual(security(tree, (), "ssh")["reason"], "password_login_for_some")
        self.assertLess(time.process_time() - begun, 3)

    def test_a_match_in_a_file_that_a_match_includes_is_for_whom_both_are(self):
        config = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        config += "Match User bob\n  {}Include sshd_config.d/*.conf\n"
        more = {"a.conf": "Match Address 10.0.0.0/8\nPasswordAuthentication yes\n"}
        self.assertEqual(self.part(config.format(""), more)["reason"], "password_login_for_some")
        self.assertEqual(self.part(config.format("PasswordAuthentication no\n  "), more)["reason"], "keys_only")

    def test_what_a_match_sets_is_said(self):
        config = (
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "Match User backup\n  PermitRootLogin yes\n  Include /etc/ssh/sshd_config.d/*.conf\n"
        )
        told = self.part(config, {"a.conf": "PasswordAuthentication yes\n"})
        self.assertEqual((told["reason"], told["root_login"]), ("password_login_for_some", "prohibit-password"))
        self.assertEqual(told["conditional"], ["passwordauthentication", "permitrootlogin"])

    def test_a_match_in_an_included_file_ends_with_it(self):
        config = "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n"
        told = self.part(config, {"a.conf": "Match User bob\nPermitRootLogin yes\n"})
        self.assertEqual((told["root_login"], told["conditional"]), ("no", ["permitrootlogin"]))

    def test_root_who_may_log_in_from_somewhere_may_log_in(self):
        for block, root in (
            ("Address 10.0.0.0/8", "yes"),
            ("User root", "yes"),
            ("User bob", "no"),
            ("User r*", "yes"),
        ):
            told = self.part(f"PermitRootLogin no\nMatch {block}\nPermitRootLogin yes\n")
            self.assertEqual(told["root_login"], root, block)

    def test_match_all_is_for_everybody_and_wins_over_what_stands_before_it(self):
        self.assertEqual(self.part("Match all\nPermitRootLogin no\n")["root_login"], "no")
        told = self.part(
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMatch User *\nPasswordAuthentication yes\n"
        )
        self.assertEqual((told["reason"], told["conditional"]), ("password_login", []))

    def test_the_methods_that_have_to_succeed_decide_together(self):
        config = "UsePAM yes\nPermitRootLogin yes\nAuthenticationMethods {}\n"
        for methods, reason in (
            ("publickey", "keys_only"),
            ("publickey,password publickey,keyboard-interactive", "keys_only"),
            ("publickey password", "root_password_login"),
            ("password,keyboard-interactive:pam", "root_password_login"),
            ("any", "root_password_login"),
        ):
            self.assertEqual(self.part(config.format(methods))["reason"], reason, methods)
        told = self.part("PasswordAuthentication no\nAuthenticationMethods password\n")
        self.assertEqual(told["password_login"], False)

    def test_pam_may_ask_for_the_password_that_sshd_does_not_take(self):
        told = self.part("PasswordAuthentication no\nUsePAM yes\nPermitRootLogin yes\n")
        self.assertEqual((told["password_login"], told["reason"]), (True, "root_password_login"))
        told = self.part("PasswordAuthentication no\nUsePAM yes\nChallengeResponseAuthentication no\n")
        self.assertEqual(told["reason"], "keys_only")

    def test_without_pam_nobody_is_asked_for_a_password_by_questions(self):
        # sshd has no other device that asks, so the default of KbdInteractiveAuthentication lets nobody in.
        told = self.part("PasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM no\n")
        self.assertEqual((told["reason"], told["password_login"]), ("keys_only", False))
        told = self.part("PasswordAuthentication no\n")
        self.assertEqual((told["state"], told["reason"]), ("ok", "keys_only"))

    def test_every_old_name_of_a_setting_is_that_setting(self):
        for name in ("ChallengeResponseAuthentication", "SkeyAuthentication"):
            told = self.part(f"PasswordAuthentication no\nUsePAM yes\n{name} no\n")
            self.assertEqual(told["reason"], "keys_only", name)

    def test_ports_add_up_and_addresses_may_bring_their_own(self):
        self.assertEqual(self.part("Port 22\nPort 2222 # by hand\n")["ports"], [22, 2222])
        config = "Port 22\nListenAddress 192.0.2.1:2222\nListenAddress [2001:db8::1]:2200\n"
        self.assertEqual(self.part(config)["ports"], [2200, 2222])
        self.assertEqual(self.part("Port 23\nListenAddress ::\n")["ports"], [23])

    def test_an_included_file_that_may_not_be_read_makes_it_unknown(self):
        class Closed(probe.RecordedHost):
            def read_bytes(self, path):
                if path.endswith("50-cloud-init.conf"):
                    raise PermissionError(13, "Permission denied")
                return super().read_bytes(path)

        tree = Tree(self)
        tree.write("/usr/sbin/sshd")
        tree.write("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication no\n")
        tree.write("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n")
        told, _, _ = section(Closed(tree.folder), "security")
        self.assertEqual(told["ssh"], {"state": "unknown", "reason": "permission_denied"})

    def test_sshd_itself_is_asked_where_we_may(self):
        tree = Tree(self, {"run": {"sudo -n sshd -T": {"output": "port 2022\npermitrootlogin without-password\n"}}})
        tree.write("/usr/sbin/sshd")
        tree.write("/etc/ssh/sshd_config", "Port 22\nMatch User x\nPasswordAuthentication no\n")
        tree.process(812, "sshd", LISTENER)
        tree.changed(SSHD_CONFIG)
        told = security(tree, ["security"], "ssh")
        self.assertEqual((told["source"], told["ports"]), ("sshd", [2022]))
        self.assertEqual((told["root_login"], told["conditional"]), ("prohibit-password", ["passwordauthentication"]))

    def test_files_that_include_each_other_end(self):
        told = self.part("Include /etc/ssh/sshd_config.d/*.conf\n", {"a.conf": "Include /etc/ssh/sshd_config\n"})
        self.assertEqual(told["ports"], [22])

    def test_dropbear_is_not_understood(self):
        tree = Tree(self)
        tree.write("/usr/sbin/dropbear")
        self.assertEqual(security(tree, name="ssh"), {"state": "unknown", "reason": "not_supported"})


class Others(unittest.TestCase):
    def part(self, name, files, told=None, sudo=()):
        tree = Tree(self, told)
        for path, text in files.items():
            tree.write(path, text)
        return security(tree, sudo, name)

    def test_selinux_and_apparmor(self):
        told = self.part("access_control", {"/sys/fs/selinux/enforce": "1"})
        self.assertEqual(told, {"state": "ok", "reason": "enforcing", "kind": "selinux"})
        self.assertEqual(self.part("access_control", {"/sys/fs/selinux/enforce": "0"})["reason"], "permissive")
        files = {"/sys/module/apparmor/parameters/enabled": "N\n"}
        self.assertEqual(self.part("access_control", files)["state"], "warning")
        self.assertIsNone(self.part("access_control", {}))

    def test_fail2ban_reports_its_bans_to_root(self):
        files = {"/etc/fail2ban/jail.conf": "", "/usr/bin/fail2ban-client": "", "/run/fail2ban/fail2ban.sock": ""}
        told = self.part("fail2ban", files)
        self.assertEqual(told, {"state": "ok", "reason": "active", "bans_unknown": "permission_denied"})
        run = {"fail2ban-client banned": {"output": said("fail2ban-banned")}}
        told = self.part("fail2ban", files, {"is_root": True, "run": run})
        self.assertEqual((told["bans"], told["jails"]), (2, {"sshd": 2}))
        old = {"fail2ban-client banned": {"status": 255, "errors": "ERROR NOK: ('Invalid command',)"}}
        told = self.part("fail2ban", files, {"is_root": True, "run": old})
        self.assertEqual(told["bans_unknown"], "unreadable")
        self.assertEqual(self.part("fail2ban", {"/etc/fail2ban/jail.conf": ""})["reason"], "inactive")

    def test_unattended_upgrades_has_to_be_there_wanted_and_started(self):
        apt = {"/etc/apt/sources.list": "", "/var/lib/dpkg/status": "x", "/run/systemd/system/x": ""}
        self.assertEqual(self.part("automatic_updates", apt)["reason"], "not_installed")
        apt["/usr/bin/unattended-upgrade"] = ""
        on = {"run": {"apt-config dump APT::Periodic": {"output": PERIODIC}}}
        off = {"run": {"apt-config dump APT::Periodic": {"output": 'APT::Periodic::Unattended-Upgrade "0";\n'}}}
        self.assertEqual(self.part("automatic_updates", apt, on)["reason"], "inactive")
        apt.update(dict.fromkeys(map(probe.TIMERS_WANTED.__add__, APT_TIMERS), ""))
        self.assertEqual(self.part("automatic_updates", apt, on)["state"], "ok")
        self.assertEqual(self.part("automatic_updates", apt, off)["reason"], "inactive")
        self.assertEqual(self.part("automatic_updates", apt)["state"], "unknown")

    def apt(self, *files, **run):
        """Return what is said of a machine with unattended-upgrades, where a word about each unit may be recorded."""
        known = {"/etc/apt/sources.list": "", "/var/lib/dpkg/status": "x", "/usr/bin/unattended-upgrade": ""}
        known.update(dict.fromkeys(map(probe.TIMERS_WANTED.__add__, APT_TIMERS), ""), **{"/run/systemd/system/x": ""})
        told = {"apt-config dump APT::Periodic": {"output": run.get("periodic", PERIODIC)}}
        if "units" in run:
            names = " ".join((*APT_TIMERS, "apt-daily-upgrade.service", "apt-daily.service"))
            told[" ".join(probe.SYSTEMCTL_UNITS) + " -- " + names] = {"output": run["units"]}
        tree = Tree(self, {"run": told})
        for path, text in known.items():
            tree.write(path, text)
        for path in files:
            tree.link(path, "/dev/null")
        return security(tree, name="automatic_updates")["reason"]

    def test_what_systemd_says_of_timer_and_service_counts_and_not_the_link(self):
        lists = "apt-daily.timer {} {} Daily apt download activities\n".format
        waits = lists("loaded", "active waiting")
        one = "apt-daily-upgrade.timer {} {} Daily apt upgrade\n"
        timer = (one + waits).format
        service = "apt-daily-upgrade.service {} inactive dead Daily apt upgrade and clean activities\n".format
        self.assertEqual(self.apt(units=timer("loaded", "active waiting") + service("loaded")), "active")
        self.assertEqual(self.apt(units=timer("masked", "inactive dead")), "inactive")
        self.assertEqual(self.apt(units=timer("loaded", "inactive dead") + service("loaded")), "inactive")
        self.assertEqual(self.apt(units=timer("loaded", "active waiting") + service("masked")), "inactive")
        self.assertEqual(self.apt(units=""), "inactive")
        self.assertEqual(self.apt(units=timer("loaded", "active elapsed")), "inactive")  # it has no next time
        for load, state in (("masked", "inactive dead"), ("loaded", "inactive dead"), ("loaded", "active elapsed")):
            told = self.apt(units=one.format("loaded", "active waiting") + lists(load, state))
            self.assertEqual(told, "lists_not_refreshed")

    def test_what_nobody_looks_for_is_never_installed(self):
        for lists, reason in (
            ('APT::Periodic::Update-Package-Lists "0";\n', "lists_not_refreshed"),
            ('APT::Periodic::Update-Package-Lists "";\n', "lists_not_refreshed"),
            ('APT::Periodic::Update-Package-Lists "0d";\n', "lists_not_refreshed"),
            ("", "lists_not_refreshed"),
            ('APT::Periodic::Update-Package-Lists "12h";\n', "active"),
            ('APT::Periodic::Update-Package-Lists "always";\n', "active"),
        ):
            told = self.apt(periodic='APT::Periodic::Unattended-Upgrade "1";\n' + lists)
            self.assertEqual(told, reason, lists)

    def test_without_systemd_a_cron_has_to_run_that_starts_the_script(self):
        script = "/etc/cron.daily/apt-compat"
        files = dict.fromkeys(("/etc/apt/sources.list", "/usr/bin/unattended-upgrade", script), "")
        tree = Tree(self, {"run": {"apt-config dump APT::Periodic": {"output": PERIODIC}}})
        for path, text in dict(files, **{"/var/lib/dpkg/status": "x"}).items():
            tree.write(path, text)
        os.chmod(tree.folder + script, 0o755)
        told = security(tree, name="automatic_updates")
        self.assertEqual((told["state"], told["reason"]), ("unknown", "permission_denied"))  # processes are hidden
        tree.process(1, "init")
        told = [security(tree, name="automatic_updates")["reason"]]
        for more in ({"uid": 1000}, {"inside": True}):
            tree.process(500, "cron", "/usr/sbin/cron -f", **more)
            told.append(security(tree, name="automatic_updates")["reason"])
        self.assertEqual(told, ["inactive"] * 3)
        for name in ("cron", "crond"):
            tree.process(500, name, "/usr/sbin/cron -f", started=100)
            tree.write("/run/crond.pid", "500\n")
            tree.changed("/run/crond.pid", at=100)
            self.assertEqual(security(tree, name="automatic_updates")["reason"], "active")
        os.chmod(tree.folder + script, 0o644)
        self.assertEqual(security(tree, name="automatic_updates")["reason"], "inactive")

    def test_where_systemd_says_nothing_its_files_do(self):
        self.assertEqual(self.apt(), "active")
        for unit, reason in (("apt-daily-upgrade", "inactive"), ("apt-daily", "lists_not_refreshed")):
            for folder in ("/etc/systemd/system/", "/run/systemd/system/"):
                self.assertEqual(self.apt(folder + unit + ".timer"), reason)
                self.assertEqual(self.apt(folder + unit + ".service"), reason)
        self.assertEqual(self.apt("/etc/systemd/system/another.timer"), "active")

    def test_a_systemd_that_does_not_answer_is_not_replaced_by_links(self):
        answers = {"apt-config dump APT::Periodic": {"output": PERIODIC}}
        apt = ("/etc/apt/x", "/var/lib/dpkg/status", "/usr/bin/unattended-upgrade")
        suse = ("/usr/bin/zypper", "/etc/zypp/repos.d/oss.repo")
        for files in (apt, suse, ("/usr/bin/dnf",), ("/run/ostree-booted",)):
            for err, reason in ((probe.Late("systemd"), "timed_out"), (probe.Broken("No bus"), "unreadable")):
                tree = Tree(self, {"run": answers})
                tree.write("/run/systemd/system/x")
                for path in (*files, *(probe.TIMERS_WANTED + timer for timer in (*APT_TIMERS, *probe.SUSE_TIMERS))):
                    tree.write(path)
                tree.write(probe.TIMERS_WANTED + probe.DNF_TIMERS[0])
                with patch.object(probe, "units_named", side_effect=err):
                    told = security(tree, name="automatic_updates")
                self.assertEqual((told["state"], told["reason"]), ("unknown", reason), files)

    def test_dnf_automatic_may_only_notify(self):
        dnf = {"/etc/dnf/dnf.conf": "", probe.TIMERS_WANTED + "dnf-automatic.timer": ""}
        self.assertEqual(self.part("automatic_updates", dnf)["reason"], "only_tells")
        dnf["/etc/dnf/automatic.conf"] = "[commands]\napply_updates = yes\n"
        self.assertEqual(self.part("automatic_updates", dnf)["reason"], "active")

    def test_a_suse_without_a_zypp_conf_is_known(self):
        suse = {"/usr/bin/zypper": "", "/etc/zypp/repos.d/oss.repo": "[oss]\n"}
        self.assertEqual(self.part("automatic_updates", suse)["reason"], "inactive")
        suse[probe.TIMERS_WANTED + "os-update.timer"] = ""
        told = self.part("automatic_updates", suse)
        self.assertEqual((told["state"], told["tool"]), ("ok", "os-update"))

    def image(self, *active, **files):
        """Return reason and tool of a system that is replaced as a whole, where some units are at work."""
        tree = Tree(self)
        names = {"/run/ostree-booted": "", "/usr/bin/rpm-ostree": "", "/usr/bin/dnf": ""}
        for path, text in dict(names, **files.get("files", {})).items():
            tree.write(path, text)
        units = [probe.Unit(name, ("loaded", "active", "waiting"), "") for name in active]
        with patch.object(probe, "units_named", return_value=units):
            told = security(tree, name="automatic_updates")
        return told["reason"], told.get("tool")

    def test_what_replaces_the_whole_system_counts_as_updating_it(self):
        self.assertEqual(self.image(), ("inactive", None))
        self.assertEqual(self.image("uupd.timer"), ("active", "uupd"))
        self.assertEqual(self.image("bootc-fetch-apply-updates.timer"), ("active", "bootc"))
        self.assertEqual(self.image("dnf-automatic.timer"), ("inactive", None))

    def test_rpm_ostree_does_what_its_policy_says(self):
        timer, path = "rpm-ostreed-automatic.timer", "/etc/rpm-ostreed.conf"
        for policy, reason in (
            ("#AutomaticUpdatePolicy=none\n", "inactive"),
            ("AutomaticUpdatePolicy=none\n", "inactive"),
            ("AutomaticUpdatePolicy=check\n", "only_tells"),
            ("AutomaticUpdatePolicy = stage\n", "active"),
            ("AutomaticUpdatePolicy=apply\nIdleExitTimeout=60\n", "active"),
        ):
            told = self.image(timer, files={path: "# By hand\n\n[Daemon]\n" + policy})
            self.assertEqual(told, (reason, None if reason == "inactive" else "rpm-ostree"), policy)
        told = self.image(timer, "uupd.timer", files={path: "[Daemon]\nAutomaticUpdatePolicy=check\n"})
        self.assertEqual(told, ("active", "uupd"))

    def test_zincati_runs_also_where_a_setting_keeps_it_from_updating(self):
        unit, off = "zincati.service", "[updates]\nenabled = false\n"
        folder, shipped = "/etc/zincati/config.d/", "/usr/lib/zincati/config.d/"
        self.assertEqual(self.image(unit), ("active", "zincati"))
        for files, reason in (
            ({folder + "90-off.toml": off}, "inactive"),
            ({folder + "90-off.toml": "updates.enabled = false\n"}, "inactive"),
            ({folder + "90-off.toml": off, folder + "95-on.toml": "[updates]\nenabled = true\n"}, "active"),
            ({shipped + "95-off.toml": off, folder + "95-off.toml": ""}, "active"),
            ({folder + "50.toml": "[identity]\nenabled = false\n[updates]\nstrategy = 'immediate'\n"}, "active"),
        ):
            self.assertEqual(self.image(unit, files=files)[0], reason, files)

    def test_an_image_of_which_no_tool_is_known_is_not_checked(self):
        tree = Tree(self)
        tree.write("/run/ostree-booted")
        with patch.object(probe, "units_named", return_value=[]):
            told = security(tree, name="automatic_updates")
        self.assertEqual(told, {"state": "unknown", "reason": "not_supported"})

    def test_nobody_knows_how_other_systems_update_themselves(self):
        self.assertEqual(self.part("automatic_updates", {}), {"state": "unknown", "reason": "not_supported"})


FAILED = "Failed password for root from 192.0.2.7 port 40022 ssh2"
INVALID = "Invalid user admin from 192.0.2.7 port {}"
MACHINE = "0123456789abcdef0123456789abcdef"

# What servers say of one login that was refused: OpenSSH 6.7 to 10, Dropbear 2018 to 2025.
REFUSED = (
    FAILED,
    "Failed password for invalid user  from 192.0.2.7 port 40022 ssh2",
    "Failed password for invalid user Failed password for root from 192.0.2.9 port 1 ssh2 from ::1 port 40022 ssh2",
    "Failed password for root from UNKNOWN port 65535 ssh2",
    "Failed keyboard-interactive/pam for root from 192.0.2.7 port 40022 ssh2",
    "error: PAM: Authentication failure for illegal user admin from attacker.example",
    "Invalid user admin from 192.0.2.7",
    "Invalid user  from 192.0.2.7 port 40022",
    "Invalid user a\\nb from x port 1 from fe80::1%eth0 port 40022",
    "Bad password attempt for 'root' from 192.0.2.7:40022",
    "bad PAM password attempt for 'root' from ::ffff:192.0.2.7:40022",
    "Login attempt for nonexistent user from 192.0.2.7:40022",
    "Login attempt for nonexistent user",
    "login attempt for nonexistent user 'x' from 192.0.2.7:40022",
)
# What strangers made servers write, and what is no refusal of a password.
NOT_REFUSED = (
    f"Received disconnect from 192.0.2.7 port 40022:11: {FAILED}",
    f"Received disconnect from 192.0.2.7 port 40022:11: message repeated 99999999999999999999 times: [ {FAILED}]",
    f"Received disconnect from 192.0.2.7 port 40022:11: {FAILED} [preauth]",
    f"Bad protocol version identification '{FAILED}' from 192.0.2.7 port 40022",
    f"banner exchange: Connection from 192.0.2.7 port 40022: {FAILED}",
    f"message repeated 5 times: [ {FAILED}]",
    f" {FAILED}",
    f"{FAILED} ",
    f"{FAILED} [preauth]",
    f"x\n{FAILED}",
    f"{FAILED}\nx",
    "Failed password for root",
    "Failed none for root from 192.0.2.7 port 40022 ssh2",  # every client begins like that
    "Failed publickey for root from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:abc",
    "Accepted password for root from 192.0.2.7 port 40022 ssh2",
    "Connection closed by invalid user Invalid user x from 192.0.2.7 port 40022",
    "Invalid user admin from 192.0.2.7 port 40022 ssh2",
    "Exit before auth from <192.0.2.7:40022>: (user 'root', 1 fails): Disconnect received: " + FAILED,
)


SYSTEM_JOURNAL = "/var/log/journal/" + MACHINE + "/system.journal"


def entry(message, pid=812, program="/usr/sbin/sshd", **more):
    """Return a line of `journalctl -o json`."""
    told = dict({"__CURSOR": "s=1", "_PID": str(pid), "MESSAGE": message}, **more)
    if program:
        told["_EXE"] = program
    return json.dumps(told) + "\n"


def bad_logins(*ago, line=b"ssh:notty"):
    """Return records of btmp(5), each so many seconds old."""
    return b"".join(struct.pack("=8x32s300xi40x", line, int(NOW) - each) for each in ago)


def journal_header(number, at):
    """Return the beginning of a journal's file whose first entry has this number and time (Unix seconds)."""
    return b"LPKSHHRH" + bytes(160) + struct.pack("<QQQ", number, 0, int(at * 1e6))


def put_away(number, at):
    """Return the path of a file of the journal that was full, by its first entry."""
    return f"{os.path.dirname(SYSTEM_JOURNAL)}/system@{7:032x}-{number:016x}-{int(at * 1e6):016x}.journal"


class Slow(unittest.TestCase):
    """What hangs makes its own part late; the clock is the test's."""

    def told(self, slow, timeout=8.0):
        """Return the section where these programs never answer, and the seconds that all of it took."""
        answers = {
            " ".join(["sudo", "-n", *argv]): {"output": "[]"} for argv in (probe.FAIL2BAN_BANNED, probe.NFT_JSON)
        }
        answers["sudo -n sshd -T"] = {"output": "passwordauthentication no\nkbdinteractiveauthentication no\n"}
        answers["sudo -n " + " ".join(probe.JOURNAL)] = {"output": entry(FAILED)}
        answers["apt-config dump APT::Periodic"] = {"output": ""}
        tree = Tree(self, {"uid": 1000, "run": answers, "stamps": {SYSTEM_JOURNAL: [NOW, NOW, 9]}})
        tree.process(812, "sshd", LISTENER)
        tree.changed(SSHD_CONFIG)
        for path in ("/usr/sbin/nft", "/usr/sbin/sshd", "/usr/bin/fail2ban-server", "/usr/bin/fail2ban-client"):
            tree.write(path)
        for path in ("/run/fail2ban/fail2ban.sock", "/etc/ssh/sshd_config", "/run/systemd/journal/socket"):
            tree.write(path)
        for path in ("/etc/apt/x", "/var/lib/dpkg/status", "/usr/bin/unattended-upgrade", "/usr/bin/journalctl"):
            tree.write(path)
        tree.write("/etc/machine-id", MACHINE)
        tree.write(put_away(1, NOW - 90000))
        clock = [0.0]

        class Host(probe.RecordedHost):
            def head(self, path, size):
                if path.startswith("/proc/"):
                    return super().head(path, size)
                raise PermissionError(13, "Permission denied")

            def run(self, argv, timeout, *more, **words):
                if slow.intersection(argv):
                    clock[0] += timeout
                    raise probe.Late(argv[0])
                return super().run(argv, timeout, *more, **words)

        with patch.object(probe.time, "monotonic", lambda: clock[0]):
            request = probe.Request({"id": "1", "sections": ["security"], "sudo": ["security"], "timeout": timeout})
            return probe.collect_security(Host(tree.folder), request, {}), clock[0]

    def test_one_program_that_hangs_makes_one_part_late(self):
        whole, _ = self.told(set())
        self.assertEqual(whole["failed_logins"]["count"], 1)
        for program, name in (("nft", "firewall"), ("fail2ban-client", "fail2ban"), ("journalctl", "failed_logins")):
            told, took = self.told({program})
            self.assertIn("timed_out", told[name].values())
            self.assertEqual(
                {key: told[key] for key in told if key != name}, {key: whole[key] for key in whole if key != name}
            )
            self.assertLess(took, 6.0)

    def test_all_that_hang_together_leave_the_section_in_time(self):
        for timeout, most in ((8.0, 6.0), (3.0, 3.0)):
            told, took = self.told({"nft", "sshd", "fail2ban-client", "apt-config", "journalctl"}, timeout)
            self.assertEqual(told["failed_logins"]["reason"], "timed_out")
            self.assertEqual(told["ssh"]["source"], "sshd_config")
            self.assertLess(took, most)


class FailedLogins(unittest.TestCase):
    def test_each_wrong_password_counts_and_a_stranger_once(self):
        stranger = "Failed password for invalid user admin from 192.0.2.7 port 40030 ssh2"
        said = [(1, FAILED), (1, FAILED), (2, INVALID.format(40030)), (2, stranger), (3, INVALID.format(40031))]
        said.append((4, "Accepted publickey for mon from 192.0.2.1 port 1 ssh2"))
        self.assertEqual(probe.count_failed((str(pid), 1, text) for pid, text in said), 4)

    def test_what_servers_say_of_a_refused_login_counts_once(self):
        for message in REFUSED:
            with self.subTest(message):
                self.assertEqual(probe.count_failed([("1", 1, message)]), 1)

    def test_what_strangers_make_servers_write_never_counts(self):
        for message in NOT_REFUSED:
            with self.subTest(message):
                self.assertEqual(probe.count_failed([("1", 1, message)]), 0)

    def test_a_wrong_answer_to_pam_counts_once_however_often_it_is_reported(self):
        pam = "error: PAM: Authentication failure for root from 192.0.2.7"
        sshd = "Failed keyboard-interactive/pam for root from 192.0.2.7 port 40022 ssh2"
        # Below the log level VERBOSE sshd begins to speak after half of the tries that it allows.
        self.assertEqual(probe.count_failed([("1", 1, text) for text in (pam, pam, pam, pam, sshd)]), 4)

    def in_journal(self, output, told=None, sudo=(), **result):
        argv = " ".join((["sudo", "-n"] if sudo else []) + probe.JOURNAL)
        tree = Tree(self, dict({"run": {argv: dict({"output": output}, **result)}}, **(told or {})))
        tree.told["clocks"].update((told or {}).get("clocks", {}))
        tree.told.setdefault("stamps", {})[SYSTEM_JOURNAL] = [NOW, NOW, 8 << 20]
        tree.save()
        tree.write("/run/systemd/journal/socket")
        tree.write("/usr/bin/journalctl")
        tree.write("/etc/machine-id", MACHINE + "\n")
        tree.write(SYSTEM_JOURNAL, journal_header(90000, NOW - 86400))
        return tree

    def test_a_journal_of_which_a_file_was_ignored_does_not_report_all(self):
        # systemd 257, journal_access_check_and_warn(); it ends with 0 all the same.
        folder = os.path.dirname(SYSTEM_JOURNAL)
        old = put_away(80000, NOW - 90000)
        for name, said_of, is_doubted in (
            (SYSTEM_JOURNAL, "is truncated, ignoring file.", True),
            (SYSTEM_JOURNAL, "uses an unsupported feature, ignoring file.\nUse SYSTEMD_LOG_LEVEL=debug …", True),
            (folder + "/system@new.journal", "corrupted, ignoring file.", True),
            (old, "corrupted, ignoring file.", False),
            (folder + "/user-1000.journal", "corrupted, ignoring file.", False),
        ):
            for sudo in ((), ("security",)):
                for count in (1, 12):
                    errors = f"Journal file {name} {said_of}\n"
                    tree = self.in_journal(entry(FAILED) * count, sudo=sudo, errors=errors)
                    tree.told["uid"] = 1000 if sudo else 0
                    tree.told["stamps"][old] = [NOW - 80000] * 3
                    tree.save()
                    with patch.object(probe, "may_read_journal", lambda _, allowed=not sudo: allowed):
                        told = security(tree, sudo=sudo, name="failed_logins")
                    if count == 12:
                        self.assertEqual((told["state"], told.get("lower_bound", False)), ("warning", is_doubted))
                    else:
                        expected = ("unknown", "unreadable") if is_doubted else ("ok", "some")
                        self.assertEqual((told["state"], told["reason"]), expected, (name, sudo))

    def test_only_what_root_wrote_in_the_name_of_an_ssh_server_is_asked_for(self):
        asked = [word for word in probe.JOURNAL if "=" in word and not word.startswith("-")]
        self.assertEqual(asked.count("_UID=0"), 1)
        names = {word.partition("=")[2] for word in asked if word.startswith("SYSLOG_IDENTIFIER=")}
        self.assertEqual(names, {"sshd", "sshd-session", "sshd-auth", "dropbear"})
        # Beside them only what journald itself says that it has dropped.
        self.assertEqual(asked[5:], ["_TRANSPORT=driver", "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"])
        self.assertEqual(probe.JOURNAL[-4:-2], ["+", "_TRANSPORT=driver"])
        # How many others write must not matter.
        self.assertFalse({"-n", "--lines"}.intersection(probe.JOURNAL))

    def suppressed(self, unit, *lines, words="Suppressed 812 messages from "):
        """Tell what is said where journald has dropped messages of a unit, and took these."""
        said = entry(words + unit, 59, "/usr/lib/systemd/systemd-journald", _SYSTEMD_UNIT="systemd-journald.service")
        told = security(self.in_journal("".join([*lines, said])), name="failed_logins")
        return told["reason"], told.get("count"), told.get("lower_bound")

    def test_what_journald_dropped_of_a_unit_of_an_ssh_server_may_have_been_failed_logins(self):
        for unit in ("ssh.service", "sshd.service", "dropbear.service", "sshd@4-192.0.2.1:22-192.0.2.9:40022.service"):
            self.assertEqual(self.suppressed(unit), ("log_dropped", None, None), unit)
            few, many = ([entry(FAILED, _SYSTEMD_UNIT=unit)] * count for count in (9, 10))
            self.assertEqual(self.suppressed(unit, *few), ("log_dropped", None, None), unit)
            self.assertEqual(self.suppressed(unit, *many), ("many", 10, True), unit)
        self.assertEqual(self.suppressed("/system.slice/ssh.service")[0], "log_dropped")
        closed = entry("Connection closed by 192.0.2.7 port 40022 [preauth]", _SYSTEMD_UNIT="door.service")
        self.assertEqual(self.suppressed("door.service", closed)[0], "log_dropped")
        by_hand = entry(FAILED, _SYSTEMD_UNIT="session-7.scope")
        self.assertEqual(self.suppressed("session-7.scope", by_hand)[0], "log_dropped")

    def test_what_journald_dropped_of_others_matters_to_nobody(self):
        left = entry("pam_unix(sshd:session): session closed for user eve", _SYSTEMD_UNIT="session-7.scope")
        fake = entry(FAILED, program="/usr/bin/su", _SYSTEMD_UNIT="door.service")
        for unit in ("docker.service", "session-7.scope", "user@1501.service", "door.service"):
            self.assertEqual(self.suppressed(unit, left, fake), ("none", 0, None), unit)
        for words in ("I Suppressed 812 messages from ", "Suppressed 8 messages from \n", "Suppressed messages from "):
            self.assertEqual(self.suppressed("ssh.service", words=words), ("none", 0, None), words)

    def test_a_line_of_each_unit_is_read_and_what_was_dropped(self):
        line = "Connection closed by 192.0.2.7 port 40022 [preauth]"
        lines = [entry(line, _SYSTEMD_UNIT=f"u{n % 3}.service").encode() for n in range(9)]
        kept = probe.LinesCounted()
        self.assertEqual([kept.search(one) for one in lines], [True] * 3 + [False] * 6)
        self.assertTrue(kept.search(entry("Suppressed 812 messages from ssh.service").encode()))
        crowd = probe.LinesCounted()
        for n in range(1000):
            crowd.search(entry(line, _SYSTEMD_UNIT=f"u{n}.service").encode())
        self.assertEqual(len(crowd.units), probe.UNITS_NOTED)

    def test_a_journal_that_says_more_than_is_read_reports_at_least_so_many(self):
        class Cut(probe.RecordedHost):
            def run(self, argv, timeout, tail=False, wanted=None):
                raise probe.TooLong(argv[0], super().run(argv, timeout, tail, wanted))

        class Closed(Cut):
            def head(self, path, size):
                raise PermissionError(13, "Permission denied")

        for kind, sudo in ((Cut, ()), (Closed, ("security",))):
            for count, told in ((0, ("unreadable", None)), (12, ("many", True))):
                host = kind(self.in_journal(entry(FAILED) * count, sudo=sudo).folder)
                part = self.asked(host)
                self.assertEqual((part["reason"], part.get("lower_bound")), told)

    def test_a_journal_that_takes_too_long_reports_at_least_so_many(self):
        class Slow(probe.RecordedHost):
            def run(self, argv, timeout, tail=False, wanted=None):
                raise probe.Late(argv[0], super().run(argv, timeout, tail, wanted))

        class Closed(Slow):
            def head(self, path, size):
                raise PermissionError(13, "Permission denied")

            def tail(self, path, size):
                raise PermissionError(13, "Permission denied")

        for kind, sudo in ((Slow, ()), (Closed, ("security",))):
            for count, told in ((0, ("timed_out", None)), (9, ("timed_out", None)), (12, ("many", True))):
                tree = self.in_journal(entry(FAILED) * count, sudo=sudo)
                tree.write("/var/log/btmp")
                part = self.asked(kind(tree.folder))
                self.assertEqual((part["reason"], part.get("lower_bound")), told)

    def test_a_program_that_never_stops_is_late_and_what_it_said_is_kept(self):
        host, begun = probe.Host(), time.monotonic()
        for argv in (["sh", "-c", "echo first; sleep 20"], ["sh", "-c", "echo first; exec yes"]):
            with self.assertRaises(probe.Late) as raised:
                host.run(argv, 0.3, wanted=re.compile(b"first"))
            self.assertEqual(raised.exception.result[1], "first\n")
        self.assertLess(time.monotonic() - begun, 5)

    def test_who_may_not_read_bad_logins_says_why_the_journal_was_not_read(self):
        class Closed(probe.RecordedHost):
            def tail(self, path, size):
                raise PermissionError(13, "Permission denied")

        tree = self.in_journal("")
        tree.write("/var/log/btmp")
        with patch.object(probe, "SECURITY_SECONDS", 0.0):
            self.assertEqual(self.asked(Closed(tree.folder)), {"state": "unknown", "reason": "timed_out"})

    def asked(self, host):
        """Return what is told where sudo may be asked."""
        request = probe.Request({"id": "1", "sections": ["security"], "sudo": ["security"]})
        return probe.Probe(host).answer(request)["sections"]["security"]["failed_logins"]

    def test_by_a_rule_of_an_earlier_version_it_is_not_known_whether_journald_dropped_some(self):
        class Closed(probe.RecordedHost):
            def head(self, path, size):
                raise PermissionError(13, "Permission denied")

        for count, told in (
            (3, {"state": "unknown", "reason": "permission_denied", "source": "journal"}),
            (12, {"state": "warning", "reason": "many", "source": "journal", "count": 12, "lower_bound": True}),
        ):
            tree = self.in_journal("", sudo=("security",), status=1, errors="sudo: a password is required")
            tree.told["run"]["sudo -n " + " ".join(probe.OLD_JOURNAL)] = {"output": entry(FAILED) * count}
            tree.save()
            tree.write(put_away(1000, NOW - 90000))
            self.assertEqual(self.asked(Closed(tree.folder)), told)

    def test_what_sudo_warns_of_is_no_refusal(self):
        warnings = "sudo: unable to resolve host nas: Name or service not known\n"
        warnings += "sudo: unable to open /var/log/sudo.log: Permission denied\n"
        for errors, reason in (
            (warnings + "Failed to access socket path\n", "unreadable"),
            (warnings + "sudo: a password is required\n", "permission_denied"),
            ("sudo: I'm sorry mon. I'm afraid I can't do that\n", "permission_denied"),
            ("Sorry, user mon is not allowed to execute it as root on nas.\n", "permission_denied"),
            ("Permission denied to socket\n".lower(), "permission_denied"),
        ):
            tree = Tree(self, {"uid": 1000, "run": {"sudo -n fail2ban-client banned": {"status": 1, "errors": errors}}})
            tree.write("/usr/bin/fail2ban-client")
            request = probe.Request({"id": "1", "sections": ["security"], "sudo": ["security"]})
            with self.assertRaises(probe.Unknown) as raised:
                probe.run_as_root(tree.host(), request, probe.FAIL2BAN_BANNED)
            self.assertEqual(raised.exception.reason, reason, errors)

    def test_the_line_for_sudo_is_the_documented_one(self):
        with open(os.path.join(PROBES, "README.md"), encoding="utf-8") as file:
            self.assertIn("`sudo -n " + " ".join(probe.JOURNAL) + "`", file.read())

    def test_a_program_of_roots_that_is_called_by_another_name_is_no_server(self):
        lines = [entry(FAILED, 1), entry(FAILED, 2, "/usr/bin/su"), entry(FAILED, 3, "/usr/bin/dockerd")]
        lines += [entry(FAILED, 4, "/usr/lib/openssh/sshd-session"), entry(FAILED, 5, "/usr/sbin/sshd (deleted)")]
        lines += [entry(FAILED, 6, None), entry(FAILED, 7, "/usr/sbin/dropbear"), entry(FAILED, 8, "/home/eve/sshd/x")]
        told = security(self.in_journal("".join(lines)), name="failed_logins")
        self.assertEqual((told["source"], told["count"]), ("journal", 5))

    def test_entries_that_make_no_sense_are_passed_over(self):
        lines = [entry(FAILED), "{", "[]\n", "7\n", entry(None), entry([1, -5]), entry(["x"]), entry({}), entry(10**30)]
        lines += [entry(list(FAILED.encode()), 2), '{"_PID": "3"}\n', "[" * 5000 + "\n", entry(FAILED, 4)[:-4]]
        told = security(self.in_journal("".join(lines)), name="failed_logins")
        self.assertEqual(told["count"], 2)

    def test_a_journal_that_others_may_not_read_is_unknown_and_not_zero(self):
        class Closed(probe.RecordedHost):
            def head(self, path, size):
                raise PermissionError(13, "Permission denied")

        tree = self.in_journal("")
        tree.write("/var/log/auth.log", f"Oct  9 08:50:00 nas sshd[812]: {FAILED}\n")
        told, _, _ = section(Closed(tree.folder), "security")
        self.assertEqual(told["failed_logins"], {"state": "unknown", "reason": "permission_denied"})
        tree = self.in_journal(entry(FAILED), sudo=["security"])
        tree.write(put_away(1000, NOW - 90000))
        closed = Closed(tree.folder)
        request = probe.Request({"id": "1", "sections": ["security"], "sudo": ["security"]})
        told = probe.Probe(closed).answer(request)["sections"]["security"]
        self.assertEqual((told["failed_logins"]["source"], told["failed_logins"]["count"]), ("journal", 1))

    def test_where_there_is_a_journal_no_file_counts_that_everybody_can_write_to(self):
        tree = self.in_journal(
            "", {"stamps": {"/var/log/auth.log": [NOW - 60, NOW - 60, 9]}}, status=1, errors="broken"
        )
        tree.write("/var/log/auth.log", f"Oct  9 08:50:00 nas sshd[812]: {FAILED}\n" * 20)
        told = security(tree, name="failed_logins")
        self.assertEqual(told, {"state": "unknown", "reason": "unreadable"})

    def test_many_are_a_warning(self):
        told = security(self.in_journal(entry(FAILED) * 12), name="failed_logins")
        self.assertEqual(told, {"state": "warning", "reason": "many", "source": "journal", "count": 12})

    def test_where_the_journal_has_dropped_what_is_younger_than_an_hour_none_is_not_said(self):
        booted = {"clocks": {"boottime": 86400.0, "epoch": NOW}}
        for count, expected in (
            (0, {"state": "unknown", "reason": "log_too_short", "source": "journal"}),
            (9, {"state": "unknown", "reason": "log_too_short", "source": "journal"}),
            (10, {"state": "warning", "reason": "many", "source": "journal", "count": 10, "lower_bound": True}),
        ):
            tree = self.in_journal(entry(FAILED) * count, booted)
            tree.write(SYSTEM_JOURNAL, journal_header(90000, NOW - 60))
            tree.write(put_away(80000, NOW - 3500))
            self.assertEqual(security(tree, name="failed_logins"), expected)

    def test_a_journal_that_reaches_back_far_enough_reports_all(self):
        day = {"clocks": {"boottime": 86400.0, "epoch": NOW}}
        for told, header, older in (
            (day, journal_header(90000, NOW - 3700), None),
            (day, journal_header(90000, NOW - 60), put_away(80000, NOW - 3700)),
            (day, journal_header(90000, NOW - 60), put_away(1, NOW - 1800)),  # the first that there ever was
            (day, journal_header(1, NOW - 60), None),
            ({"clocks": {"boottime": 600.0, "epoch": NOW}}, journal_header(90000, NOW - 590), None),
        ):
            tree = self.in_journal(entry(FAILED), told)
            tree.write(SYSTEM_JOURNAL, header)
            if older:
                tree.write(older)
            expected = {"state": "ok", "reason": "some", "source": "journal", "count": 1}
            self.assertEqual(security(tree, name="failed_logins"), expected)

    def test_old_files_of_a_journal_that_is_no_longer_written_there_say_nothing(self):
        tree = self.in_journal("", {"clocks": {"boottime": 86400.0, "epoch": NOW}})
        running = "/run/log/journal/" + MACHINE
        tree.write(put_away(1, NOW - 90000))
        tree.write(running + "/system.journal", journal_header(90000, NOW - 60))
        tree.told["stamps"].update({SYSTEM_JOURNAL: [NOW - 8000] * 3, running + "/system.journal": [NOW - 1] * 3})
        tree.save()
        self.assertEqual(security(tree, name="failed_logins")["reason"], "log_too_short")

    def test_users_files_and_what_is_no_journal_do_not_make_it_longer(self):
        tree = self.in_journal("", {"clocks": {"boottime": 86400.0, "epoch": NOW}})
        tree.write(SYSTEM_JOURNAL, journal_header(90000, NOW - 60))
        tree.write(put_away(1, NOW - 90000).replace("system@", "user-1501@"))
        self.assertEqual(security(tree, name="failed_logins")["reason"], "log_too_short")
        for content in (b"", b"LPKSHHRH", b"x" * 400):
            tree.write(SYSTEM_JOURNAL, content)
            self.assertEqual(security(tree, name="failed_logins")["reason"], "unreadable")

    def test_when_the_journal_was_begun_that_only_root_reads_reports_how_far_it_reaches(self):
        class Closed(probe.RecordedHost):
            def head(self, path, size):
                raise PermissionError(13, "Permission denied")

        for born, reason in (
            (NOW - 7200, "none"),
            (NOW - 60, "log_too_short"),
            ("-", "permission_denied"),
            (0, "permission_denied"),
        ):
            tree = self.in_journal("", {"clocks": {"boottime": 86400.0, "epoch": NOW}}, sudo=["security"])
            asked = "stat -c %W " + SYSTEM_JOURNAL
            tree.told["run"][asked] = {"output": f"{int(born) if born != '-' else born}\n"}
            tree.save()
            request = probe.Request({"id": "1", "sections": ["security"], "sudo": ["security"]})
            told = probe.Probe(Closed(tree.folder)).answer(request)["sections"]["security"]["failed_logins"]
            self.assertEqual(told["reason"], reason)

    def test_only_lines_that_may_count_are_kept_of_a_long_journal(self):
        chatter = entry("Connection closed by 192.0.2.7 port 40022 [preauth]")
        script = f"for i in $(seq 3000); do printf '%s' '{chatter * 5}'; done; printf '%s' '{entry(FAILED)}'"
        _, output, _ = probe.run_child(["sh", "-c", script], 20.0, [], wanted=probe.MAYBE_FAILED)
        self.assertEqual(output, entry(FAILED))
        for message in REFUSED:
            self.assertTrue(probe.MAYBE_FAILED.search(entry(message).encode()), message)
            self.assertTrue(probe.MAYBE_FAILED.search(entry(message).replace('": ', '" : ').encode()), message)

    def by_file(self, lines, name="auth.log", age=60.0, **clocks):
        stamps = {"/var/log/" + name: [NOW - age, NOW - age, 9], f"/var/log/{name}.1": [NOW - 7200, NOW - 7200, 9]}
        tree = Tree(self, {"stamps": stamps}, **clocks)
        tree.write("/var/log/" + name, "\n".join(lines) + "\n")
        tree.write(f"/var/log/{name}.1", "put away before\n")
        return security(tree, name="failed_logins")

    def test_a_log_with_local_time_counts_the_last_hour(self):
        lines = [f"Oct  9 {clock} nas sshd[812]: {FAILED}" for clock in ("09:50:00", "09:55:00", "10:53:19")]
        told = self.by_file(lines, timezone_offset=7200)
        self.assertEqual((told["source"], told["count"]), ("auth.log", 2))

    def test_a_log_with_iso_time_counts_the_last_hour(self):
        stamps = ("2025-10-09T09:50:00.123456+02:00", "2025-10-09T09:55:00.1+02:00", "2025-10-09T08:00:00Z")
        told = self.by_file([f"{stamp} nas sshd-session[812]: {FAILED}" for stamp in stamps], "secure")
        self.assertEqual((told["source"], told["count"]), ("secure", 2))

    def test_a_line_of_a_log_counts_only_as_a_whole(self):
        lines = [
            "Oct  9 07:50:00 nas cron[812]: an hour ago",
            f"Oct  9 08:50:00 nas sshd[812]: {FAILED}",
            f"Oct  9 08:50:00 nas sshd[812]: message repeated 2 times: [ {FAILED}]",
            "Oct  9 08:50:00 router authpriv.warn dropbear[7]: Bad password attempt for 'root' from 192.0.2.7:40022",
            f"Oct  9 08:50:00 nas sshd[812]: message repeated 99999999999999999999999 times: [ {FAILED}]",
            f"Oct  9 08:50:00 nas sshd[812]: Received disconnect from 192.0.2.7 port 1:11: sshd[1]: {FAILED}",
            f"Oct  9 08:50:00 nas sshd: {FAILED}",
            f"Oct  9 08:50:00 nas cron[812]: sshd[812]: {FAILED}",
            f"Oct  9 08:50:00 nas sshd-x[812]: {FAILED}",
            f"Oct  9 08:50:00 nas sshd[812]: {FAILED} and more",
        ]
        told = self.by_file(lines)
        self.assertEqual((told["source"], told["count"]), ("auth.log", 4))

    def logs(self, told, name="auth.log", **clocks):
        """Return a machine with files of a log, each (when it was last written, seconds ago, and its lines)."""
        stamps = {f"/var/log/{name}{end}": [NOW - ago, NOW - ago, 9] for end, (ago, _) in told.items()}
        tree = Tree(self, {"stamps": stamps}, **dict({"boottime": 86400.0 * 30}, **clocks))
        for end, (_, lines) in told.items():
            tree.write(f"/var/log/{name}{end}", "".join(line + "\n" for line in lines))
        return tree

    def test_a_log_that_was_begun_within_the_hour_counts_with_the_one_before_it(self):
        line = "Oct  9 {} nas sshd[812]: " + FAILED
        too_short = {"state": "unknown", "reason": "log_too_short", "source": "auth.log"}
        for older, oldest in ((".1", ".2.gz"), (".0", ".1"), ("-20251009", "-20251002.xz"), (".1", ".2")):
            files = {"": (60, [line.format("08:50:00")])}
            self.assertEqual(security(self.logs(files), name="failed_logins"), too_short)
            files[older] = (1800, [line.format(at) for at in ("07:50:00", "08:20:00")])
            # It may have been begun a minute before.
            self.assertEqual(security(self.logs(files), name="failed_logins"), too_short)
            files[oldest] = (3500, ["x"])
            self.assertEqual(security(self.logs(files), name="failed_logins"), too_short)
            files[oldest] = (7200, ["x"])
            told = security(self.logs(files), name="failed_logins")
            self.assertEqual((told["state"], told["count"]), ("ok", 2), older)

    def test_what_a_line_says_of_its_time_proves_no_log_whole(self):
        # BusyBox and GNU inetutils keep the time that a sender wrote, and any user may send.
        refused = "Oct  9 08:50:00 nas sshd[812]: " + FAILED
        for first in ("Oct  7 08:00:00 nas eve: x", "2025-10-07T08:00:00Z nas eve: x", "Oct 10 08:00:00 nas eve: x"):
            for older in ({}, {".1": (600, [first])}, {".1": (600, [first]), ".2.gz": (900, [])}, {".1.gz": (600, [])}):
                told = security(self.logs(dict({"": (60, [first, refused])}, **older)), name="failed_logins")
                self.assertEqual(told, {"state": "unknown", "reason": "log_too_short", "source": "auth.log"})
        self.assertEqual(
            security(self.logs({"": (60, [first, refused]), ".1.gz": (7200, [])}), name="failed_logins")["count"], 1
        )

    def test_a_refused_login_that_is_dated_before_its_file_was_begun_counts(self):
        # In its file it stands behind what was put away two hours ago.
        for at, count in (
            ("Oct  7 08:00:00", 1),
            ("Oct 10 08:00:00", 1),
            ("Oct  9 07:00:00", 0),
            ("Oct  9 08:00:00", 1),
        ):
            files = {"": (60, [f"{at} nas sshd[812]: {FAILED}"]), ".1": (7200, [])}
            self.assertEqual(security(self.logs(files), name="failed_logins")["count"], count, at)

    def seen_again(self, before, after, whose="auth.log", older=None, seconds=3700.0):
        """Return what a living probe tells of a log, when it has become another one, and after an hour."""
        tree = self.logs({"": (60, before)})
        host = tree.host()
        living = probe.Probe(host)
        request = probe.Request({"id": "1", "sections": ["security"]})
        first = living.answer(request)["sections"]["security"]["failed_logins"]
        self.assertEqual(first["reason"], "log_too_short")
        clocks = host.record["clocks"]
        clocks.update(epoch=clocks["epoch"] + seconds, boottime=clocks["boottime"] + seconds)
        path = tree.folder + "/var/log/"
        host.record["stamps"]["/var/log/auth.log"] = [clocks["epoch"] - 5] * 2 + [9]
        if older is not None:
            os.rename(path + "auth.log", path + "auth.log.1")
            host.record["stamps"]["/var/log/auth.log.1"] = [clocks["epoch"] - 600] * 2 + [9]
            with open(path + "auth.log.1", "a") as file:
                file.write("".join(line + "\n" for line in older))
        with open(path + "auth.log", "wb" if older is None else "xb") as file:  # the same file, or a new one
            file.write("".join(line + "\n" for line in after).encode())
        return living.answer(request)["sections"]["security"]["failed_logins"]

    def test_where_a_log_ended_an_hour_ago_the_hour_begins(self):
        line = "Oct  9 {} nas sshd[812]: " + FAILED
        before, new = [line.format("08:50:00")] * 3, [line.format(at) for at in ("09:00:00", "09:30:00", "08:00:00")]
        told = self.seen_again(before, before + new)
        self.assertEqual((told["state"], told["count"]), ("ok", 3), "dated before it was written")
        told = self.seen_again(before, new[:1], older=new[1:2])
        self.assertEqual((told["state"], told["count"]), ("ok", 2))
        for changed in (new[:1] * 9, [], [line.format("08:51:00")] * 5):
            self.assertEqual(self.seen_again(before, changed)["reason"], "log_too_short")
        self.assertEqual(self.seen_again(before, before + new, seconds=1800.0)["reason"], "log_too_short")
        with patch.object(probe, "LOG_TAIL_BYTES", 400):
            self.assertEqual(self.seen_again(before, before + new * 3)["reason"], "log_too_short")
        with patch.multiple(probe, LOG_TAIL_BYTES=400, MARK_BYTES=60):
            self.assertEqual(self.seen_again(before, before + new)["count"], 3)

    def test_a_log_that_none_was_put_away_of_is_as_old_as_its_file(self):
        line = f"Oct  9 08:50:00 nas sshd[812]: {FAILED}"
        for born, older, reason in (
            (7200, {}, "some"),
            (60, {}, "log_too_short"),
            (7200, {".1": (60, [])}, "log_too_short"),
        ):
            tree = self.logs(dict({"": (60, [line])}, **older))
            with patch.object(probe, "birth", lambda *_, born=born: NOW - born):
                self.assertEqual(security(tree, name="failed_logins")["reason"], reason)

    def test_of_several_dated_logs_the_last_one_stands_before_the_one_that_is_written(self):
        # logrotate with dateext keeps four of them: what was refused just before it came by stands in the newest.
        line = "Oct {} nas sshd[812]: " + FAILED
        files = {"": (60, [line.format(" 9 08:50:00")])}
        files["-20251009"] = (600, [line.format(" 3 03:00:00")] + [line.format(" 9 08:20:00")] * 3)
        files["-20250928"] = (86400 * 11, ["Sep 25 03:00:00 nas sshd[7]: " + FAILED])
        told = security(self.logs(files, name="secure"), name="failed_logins")
        self.assertEqual((told["state"], told["count"]), ("ok", 4))

    def test_a_log_of_this_boot_needs_none_that_is_older(self):
        # Begun with the machine, beside an empty one that logrotate has left.
        files = {"": (60, [f"Oct  9 08:52:20 nas sshd[812]: {FAILED}"]), ".1": (400, [])}
        told = security(self.logs(files, boottime=340.0), name="failed_logins")
        self.assertEqual((told["state"], told.get("count")), ("ok", 1))

    def test_of_a_log_that_is_longer_than_what_is_read_only_many_are_certain(self):
        line = f"Oct  9 08:50:00 nas sshd[812]: {FAILED}"
        with patch.object(probe, "LOG_TAIL_BYTES", 400):
            told = self.by_file(["Oct  9 07:00:00 nas cron[7]: x", *[line] * 8], boottime=86400.0)
            self.assertEqual(told["reason"], "log_too_short")
        with patch.object(probe, "LOG_TAIL_BYTES", 4000):
            told = self.by_file(["Oct  9 07:00:00 nas cron[7]: x", *[line] * 80], boottime=86400.0)
            self.assertEqual((told["state"], told["lower_bound"]), ("warning", True))

    def test_bad_logins_of_the_file_before_count_as_well(self):
        tree = Tree(self, {"stamps": {"/var/log/btmp.1": [NOW - 60, NOW - 60, 9]}})
        tree.write("/var/log/btmp")
        tree.write("/var/log/btmp.1", bad_logins(10, 100, 4000))
        tree.process(812, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        told = security(tree, name="failed_logins")
        self.assertEqual((told["source"], told["count"]), ("btmp", 2))

    def test_a_server_that_may_be_anybodys_may_leave_bad_logins_out_of_the_file(self):
        tree = Tree(self)
        tree.write("/var/log/btmp", bad_logins(10))
        tree.process(812, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        told = security(tree, name="failed_logins")
        self.assertEqual((told["source"], told.get("count")), ("btmp", 1))
        tree.process(900, "sshd", LISTENER, cgroup="/")
        told = security(tree, name="failed_logins")
        self.assertEqual(told, {"state": "unknown", "reason": "no_log", "source": "btmp"})

    def test_who_mistypes_at_su_is_no_refused_login(self):
        tree = Tree(self)
        tree.process(812, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        others = [bad_logins(*[10] * 12, line=line) for line in (b"pts/0", b"tty1", b"", b"ssh", b":0", b"ssh:nottyx")]
        tree.write("/var/log/btmp", b"".join(others) + bad_logins(10, 20))
        told = security(tree, name="failed_logins")
        self.assertEqual((told["state"], told["count"]), ("ok", 2))
        with patch.object(probe, "BTMP_BYTES", 384 * 4):
            tree.write("/var/log/btmp", bad_logins(*[10] * 9) + bad_logins(*[5] * 4, line=b"pts/0"))
            self.assertEqual(security(tree, name="failed_logins")["reason"], "log_too_short", "they pushed it out")
            tree.write("/var/log/btmp", bad_logins(9000, 8000, 7000, 6000, 5000, 4))
            self.assertEqual(security(tree, name="failed_logins")["count"], 1)

    def test_what_is_dated_in_the_future_is_not_of_the_last_hour(self):
        # Written while the clock was a month fast, or read while it is at 1970.
        month = 30 * 86400
        tree = Tree(self, boottime=86400.0)
        tree.write("/var/log/btmp", bad_logins(*[each - month for each in range(12)], 10, -1))
        tree.process(812, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        self.assertEqual(security(tree, name="failed_logins")["count"], 2)
        tree.told["clocks"].update(epoch=100.0, boottime=100.0)
        tree.save()
        self.assertEqual(security(tree, name="failed_logins")["count"], 0)
        line = "2025-{}-09T08:50:00.000000+00:00 nas sshd[{}]: " + FAILED
        before = "Oct  9 07:00:00 nas cron[7]: x"
        lines = [before, *[line.format("11", each) for each in range(12)], line.format("10", 99)]
        self.assertEqual(self.by_file(lines)["count"], 1)

    def test_what_the_journal_dates_in_the_future_is_not_of_the_last_hour(self):
        told = [entry(FAILED, pid, __REALTIME_TIMESTAMP=f"{int(NOW + 30 * 86400) * 10**6 + pid}") for pid in range(12)]
        told.append(entry(FAILED, 99, __REALTIME_TIMESTAMP=f"{int(NOW - 60) * 10**6}"))
        journal = probe.Journal("".join(told), NOW)
        self.assertEqual(probe.count_failed(journal.messages), 1)

    def test_a_log_that_nobody_writes_any_more_reports_nothing(self):
        told = self.by_file([f"Oct  9 08:50:00 nas sshd[812]: {FAILED}"], age=90000)
        self.assertEqual(told, {"state": "unknown", "reason": "no_log"})

    def test_the_file_of_bad_logins_is_the_last_to_be_asked(self):
        tree = Tree(self)
        tree.write("/var/log/btmp", bad_logins(10, 100, 4000))
        tree.process(812, "sshd", LISTENER)
        tree.write("/usr/sbin/sshd", b"\x7fELF\0/var/log/btmp\0")
        told = security(tree, name="failed_logins")
        self.assertEqual((told["source"], told["count"]), ("btmp", 2))


if __name__ == "__main__":
    unittest.main()
