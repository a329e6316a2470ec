"""Security: what counts as a firewall, how sshd reads its settings, and that unknown is not off."""

import struct
import unittest

from place import probe
from test_updates import said
from tree import Tree, section

NOW = 1760000000.0  # 2025-10-09 08:53:20 UTC


def security(tree, sudo=(), name=None):
    """Return the section, or one part of it."""
    request = probe.Request({"id": "1", "sections": ["security"], "sudo": list(sudo)})
    reply = probe.Probe(tree.host()).answer(request)
    assert not reply["errors"], reply["errors"]
    told = reply["sections"]["security"]
    return told.get(name) if name else told


class FirewallRules(unittest.TestCase):
    def test_a_policy_that_drops_is_a_firewall(self):
        self.assertEqual(probe.nft_filters(said("nft-ufw")), "active")
        self.assertEqual(probe.iptables_filters(said("iptables-ufw")), "active")

    def test_a_last_rule_that_drops_is_one(self):
        text = said("nft-last-rule")
        self.assertEqual(probe.nft_filters(text), "active")
        without = "\n".join(line for line in text.splitlines() if "no way" not in line)
        self.assertEqual(probe.nft_filters(without), "some_rules")

    def test_a_last_rule_may_be_behind_a_jump(self):
        rules = "-P INPUT ACCEPT\n-A INPUT -i eth0 -j guard\n-A guard -p tcp --dport 22 -j ACCEPT\n-A guard -j REJECT\n"
        self.assertEqual(probe.iptables_filters(rules), "active")
        conditional = rules.replace("-i eth0 -j guard", "-p udp -j guard")
        self.assertEqual(probe.iptables_filters(conditional), "some_rules")

    def test_a_table_of_one_family_is_a_firewall_only_if_that_is_ipv4(self):
        rules = "table {} f {{\n\tchain in {{\n\t\ttype filter hook input priority filter; policy drop;\n\t}}\n}}\n"
        told = {family: probe.nft_filters(rules.format(family)) for family in ("inet", "ip", "ip6", "bridge", "arp")}
        self.assertEqual({family for family, judged in told.items() if judged == "active"}, {"inet", "ip"})
        self.assertNotIn("inactive", told.values())

    def test_what_docker_forwards_and_fail2ban_rejects_is_no_firewall(self):
        self.assertEqual(probe.iptables_filters(said("iptables-docker")), "inactive")
        self.assertEqual(probe.nft_filters(said("nft-fail2ban-docker")), "some_rules")

    def test_words_in_comments_and_names_mean_nothing(self):
        rules = '-P INPUT ACCEPT\n-A INPUT -m comment --comment "-j DROP" -j ACCEPT\n'
        self.assertEqual(probe.iptables_filters(rules), "inactive")

    def test_chains_that_lead_in_a_circle_end(self):
        self.assertEqual(probe.iptables_filters("-A INPUT -j a\n-A a -j b\n-A b -j a\n"), "inactive")

    def test_nothing_at_all_is_no_firewall(self):
        self.assertEqual(probe.nft_filters(""), "inactive")


class Firewall(unittest.TestCase):
    def part(self, told=None, sudo=(), **files):
        tree = Tree(self, told)
        for path, text in files.get("files", {}).items():
            tree.write(path, text)
        return security(tree, sudo, "firewall")

    def test_what_only_root_may_read_is_unknown_and_never_none(self):
        told = self.part(files={"/usr/sbin/nft": "", "/usr/sbin/iptables": ""})
        self.assertEqual(told, {"state": "unknown", "reason": "permission_denied"})

    def test_a_machine_without_any_tool_is_unknown(self):
        self.assertEqual(self.part(), {"state": "unknown", "reason": "no_tool"})

    def test_ufw_and_firewalld_tell_everybody(self):
        told = self.part(files={"/etc/ufw/ufw.conf": "ENABLED=yes\n"})
        self.assertEqual(told, {"state": "ok", "reason": "active", "backend": "ufw"})
        told = self.part(files={"/sys/fs/cgroup/system.slice/firewalld.service/cgroup.procs": ""})
        self.assertEqual(told["backend"], "firewalld")

    def test_a_ufw_that_is_off_leaves_the_question_to_the_kernels_rules(self):
        files = {"/etc/ufw/ufw.conf": "ENABLED=no\n", "/usr/sbin/nft": ""}
        told = self.part(files=files)
        self.assertEqual(told, {"state": "unknown", "reason": "permission_denied", "backend": "ufw"})
        told = self.part({"is_root": True, "run": {"nft list ruleset": {"output": ""}}}, files=files)
        self.assertEqual(told, {"state": "warning", "reason": "inactive", "backend": "ufw"})

    def test_sudo_is_used_only_where_the_request_allows_it_and_with_the_documented_line(self):
        run = {"sudo -n nft list ruleset": {"output": said("nft-ufw")}}
        self.assertEqual(self.part({"run": run}, files={"/usr/sbin/nft": ""})["reason"], "permission_denied")
        told = self.part({"run": run}, ["security"], files={"/usr/sbin/nft": ""})
        self.assertEqual(told, {"state": "ok", "reason": "active", "backend": "nftables"})

    def test_a_sudo_that_refuses_leaves_it_unknown(self):
        run = {"sudo -n nft list ruleset": {"status": 1, "errors": "sudo: a password is required\n"}}
        told = self.part({"run": run}, ["security"], files={"/usr/sbin/nft": ""})
        self.assertEqual(told, {"state": "unknown", "reason": "permission_denied"})

    def test_the_old_iptables_is_not_asked_where_its_modules_are_not_loaded(self):
        tree = Tree(self, {"is_root": True})
        tree.write("/usr/sbin/xtables-legacy-multi")
        tree.link("/usr/sbin/iptables", "xtables-legacy-multi")
        self.assertEqual(security(tree, name="firewall"), {"state": "warning", "reason": "inactive"})


class Sshd(unittest.TestCase):
    def part(self, config, more=None, told=None, sudo=()):
        tree = Tree(self, told)
        tree.write("/etc/ssh/sshd_config", config)
        for name, text in (more or {}).items():
            tree.write("/etc/ssh/sshd_config.d/" + name, text)
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

    def test_what_a_match_sets_is_said_and_does_not_count(self):
        config = (
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "Match User backup\n  PermitRootLogin yes\n  Include /etc/ssh/sshd_config.d/*.conf\n"
        )
        told = self.part(config, {"a.conf": "PasswordAuthentication yes\n"})
        self.assertEqual((told["state"], told["root_login"]), ("ok", "prohibit-password"))
        self.assertEqual(told["conditional"], ["passwordauthentication", "permitrootlogin"])

    def test_a_match_in_an_included_file_ends_with_it(self):
        config = "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n"
        told = self.part(config, {"a.conf": "Match Address 10.0.0.0/8\nPermitRootLogin yes\n"})
        self.assertEqual((told["root_login"], told["conditional"]), ("no", ["permitrootlogin"]))

    def test_match_all_is_for_everybody(self):
        self.assertEqual(self.part("Match all\nPermitRootLogin no\n")["root_login"], "no")

    def test_pam_may_ask_for_the_password_that_sshd_does_not_take(self):
        told = self.part("PasswordAuthentication no\nUsePAM yes\nPermitRootLogin yes\n")
        self.assertEqual((told["password_login"], told["reason"]), (True, "root_password_login"))
        told = self.part("PasswordAuthentication no\nUsePAM yes\nChallengeResponseAuthentication no\n")
        self.assertEqual(told["reason"], "keys_only")

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

    def test_fail2ban_tells_its_bans_to_root(self):
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
        on = {"run": {"apt-config dump APT::Periodic": {"output": 'APT::Periodic::Unattended-Upgrade "1";\n'}}}
        off = {"run": {"apt-config dump APT::Periodic": {"output": 'APT::Periodic::Unattended-Upgrade "0";\n'}}}
        self.assertEqual(self.part("automatic_updates", apt, on)["reason"], "inactive")
        apt[probe.TIMERS_WANTED + "apt-daily-upgrade.timer"] = ""
        self.assertEqual(self.part("automatic_updates", apt, on)["state"], "ok")
        self.assertEqual(self.part("automatic_updates", apt, off)["reason"], "inactive")
        self.assertEqual(self.part("automatic_updates", apt)["state"], "unknown")

    def test_dnf_automatic_may_only_tell(self):
        dnf = {"/etc/dnf/dnf.conf": "", probe.TIMERS_WANTED + "dnf-automatic.timer": ""}
        self.assertEqual(self.part("automatic_updates", dnf)["reason"], "only_tells")
        dnf["/etc/dnf/automatic.conf"] = "[commands]\napply_updates = yes\n"
        self.assertEqual(self.part("automatic_updates", dnf)["reason"], "active")

    def test_nobody_knows_how_other_systems_update_themselves(self):
        self.assertEqual(self.part("automatic_updates", {}), {"state": "unknown", "reason": "not_supported"})


FAILED = "Failed password for root from 192.0.2.7 port 40022 ssh2"
INVALID = "Invalid user admin from 192.0.2.7 port {}"


class FailedLogins(unittest.TestCase):
    def test_each_wrong_password_counts_and_a_stranger_once(self):
        stranger = "Failed password for invalid user admin from 192.0.2.7 port 40030 ssh2"
        lines = [
            FAILED,
            f"message repeated 2 times: [ {FAILED}]",
            INVALID.format(40030),
            stranger,
            INVALID.format(40031),
        ]
        self.assertEqual(probe.count_failed([*lines, "Accepted publickey for mon from 192.0.2.1 port 1 ssh2"]), 5)

    def test_a_journal_that_others_may_not_read_is_unknown_and_not_zero(self):
        hint = "Hint: You are currently not seeing messages from other users and the system.\n"
        run = {" ".join(probe.JOURNAL): {"output": "-- No entries --\n", "errors": hint}}
        tree = Tree(self, {"run": run})
        tree.write("/run/systemd/journal/socket")
        tree.write("/usr/bin/journalctl")
        self.assertEqual(security(tree, name="failed_logins"), {"state": "unknown", "reason": "permission_denied"})

    def test_many_are_a_warning(self):
        run = {" ".join(probe.JOURNAL): {"output": (FAILED + "\n") * 12}}
        tree = Tree(self, {"run": run})
        tree.write("/run/systemd/journal/socket")
        told = security(tree, name="failed_logins")
        self.assertEqual(told, {"state": "warning", "reason": "many", "source": "journal", "count": 12})

    def by_file(self, lines, name="auth.log", age=60.0, **clocks):
        tree = Tree(self, {"stamps": {"/var/log/" + name: [NOW - age, NOW - age, 9]}}, **clocks)
        tree.write("/var/log/" + name, "\n".join(lines) + "\n")
        return security(tree, name="failed_logins")

    def test_a_log_with_local_time_counts_the_last_hour(self):
        lines = [f"Oct  9 {clock} nas sshd[812]: {FAILED}" for clock in ("09:50:00", "09:55:00", "10:53:19")]
        told = self.by_file(lines, timezone_offset=7200)
        self.assertEqual((told["source"], told["count"]), ("auth.log", 2))

    def test_a_log_with_iso_time_counts_the_last_hour(self):
        stamps = ("2025-10-09T09:50:00.123456+02:00", "2025-10-09T09:55:00.1+02:00", "2025-10-09T08:00:00Z")
        told = self.by_file([f"{stamp} nas sshd-session[812]: {FAILED}" for stamp in stamps], "secure")
        self.assertEqual((told["source"], told["count"]), ("secure", 2))

    def test_a_line_of_december_is_last_years_in_january(self):
        january = 1767225600.0 + 60  # 2026-01-01 00:01:00 UTC
        self.assertEqual(probe.log_time("Dec 31 23:59:00 nas sshd[1]: x", january, 0), january - 120)

    def test_a_log_that_nobody_writes_any_more_tells_nothing(self):
        told = self.by_file([f"Oct  9 08:50:00 nas sshd[812]: {FAILED}"], age=90000)
        self.assertEqual(told, {"state": "unknown", "reason": "no_log"})

    def test_the_file_of_bad_logins_is_the_last_to_be_asked(self):
        tree = Tree(self)
        tree.write("/var/log/btmp", b"".join(struct.pack("=340xi40x", int(NOW) - ago) for ago in (10, 100, 4000)))
        told = security(tree, name="failed_logins")
        self.assertEqual((told["source"], told["count"]), ("btmp", 2))


if __name__ == "__main__":
    unittest.main()
