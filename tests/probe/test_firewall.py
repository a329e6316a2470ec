"""The firewall: rules that the real tools made, as each tool prints them, and what a visitor could reach behind them.

The files are tests/fixtures/firewalls: NAME.sh is how the rules were made, what is to be said and what was found
(tests/homelab/test_firewall.py connects again), NAME.json is what each tool said.
"""

import functools
import glob
import json
import os
import unittest

from place import ROOT, probe
from tree import Tree

ROUTE = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\n"
)
ADDRESSES = [
    {"interface": "lo", "version": 4, "address": "127.0.0.1", "prefix_length": 8, "scope": "host"},
    {"interface": "eth0", "version": 4, "address": "198.51.100.2", "prefix_length": 24, "scope": "global"},
    {"interface": "eth0", "version": 6, "address": "2001:db8:1::2", "prefix_length": 64, "scope": "global"},
    {"interface": "eth0", "version": 6, "address": "fe80::2", "prefix_length": 64, "scope": "link"},
]
NEW = ("nft -j list ruleset", "iptables-save", "ip6tables-save")
OLD = ("nft list ruleset", "iptables -S")
EVERY = (*NEW, *OLD, "iptables-legacy-save", "ip6tables-legacy-save")
REFUSED = {"status": 1, "errors": "sudo: a password is required\n"}
NO_JSON = {"status": 1, "errors": "Error: JSON support not compiled-in\n"}
OPEN = ["accepted"] * 4


def names():
    folder = os.path.join(ROOT, "tests", "fixtures", "firewalls")
    return sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(folder, "*.json")))


@functools.lru_cache(None)
def recorded(name):
    """Return what the tools said, what is to be said, and what was found."""
    with open(os.path.join(ROOT, "tests", "fixtures", "firewalls", name + ".json"), encoding="utf-8") as file:
        told = json.load(file)
    with open(os.path.join(ROOT, "tests", "fixtures", "firewalls", name + ".sh"), encoding="utf-8") as file:
        expected, backend, found = (line.partition(":")[2].strip() for line in file.read().split("\n")[:3])
    # After a slash: what a newer nft than the recorded one leads to.
    return told, {"reason": expected.split("/")[0], "backend": backend}, found.split()


class Asking(probe.RecordedHost):
    """A recorded machine that notes what is run."""

    asked = None

    def run(self, argv, *args, **more):
        self.asked.append(" ".join(argv))
        return super().run(argv, *args, **more)


class Machine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.trees, cls.cleanups = {}, []

    @classmethod
    def tearDownClass(cls):
        for function, folder in cls.cleanups:
            function(folder)

    @classmethod
    def addCleanup(cls, function, *arguments):  # noqa: N802 - trees are kept for all tests of the class
        cls.cleanups.append((function, *arguments))

    def machine(self, run, files=(), is_root=False, kind="nft"):
        """Return a host with the programs and answers; without root they are sudo's."""
        programs = tuple(sorted({command.split()[0] for command in run}))
        key = (programs, tuple(sorted(files)), kind)
        if key not in self.trees:
            self.trees[key] = self.tree(*key)
        run = run if is_root else {"sudo -n " + command: answer for command, answer in run.items()}
        host = Asking(self.trees[key].folder)
        host.record = dict(host.record, is_root=is_root, uid=0 if is_root else 1000, addresses=ADDRESSES, run=run)
        host.asked = []
        return host

    def tree(self, programs, files, kind):
        """Return a tree with programs, those of iptables as the links that they are."""
        tree = Tree(self)
        for path in (*files, "/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"):
            tree.write(path)
        for program in programs:
            if program == "nft":
                tree.write("/usr/sbin/nft")
            else:
                tree.link("/usr/sbin/" + program, "xtables-{}-multi".format("legacy" if "legacy" in program else kind))
        tree.write("/proc/net/route", ROUTE)
        return tree

    def verdict(self, host, sudo=("security",)):
        return probe.firewall(host, probe.Request({"id": "1", "sections": ["security"], "sudo": list(sudo)}))


def may(told, *allowed, **others):
    """Return the answers where sudo lets only some commands through."""
    return {command: told["run"][command] if command in allowed else others.get("other", REFUSED) for command in EVERY}


class Recorded(Machine):
    def test_there_are_many(self):
        self.assertGreater(len(names()), 60)

    def test_what_is_said_is_what_was_found(self):
        for name in names():
            told, expected, found = recorded(name)
            with self.subTest(name):
                said = self.verdict(self.machine(told["run"], told["files"], is_root=True))
                self.assertIn(expected["reason"], (said["reason"], said["state"]))
                if said["state"] == "ok":
                    self.assertEqual((said["backend"], found[1], found[3]), (expected["backend"], "refused", "refused"))
                if said["reason"] == "inactive":
                    self.assertEqual(found, OPEN)

    def test_by_the_documented_rules_of_sudo_the_same_is_said(self):
        for name in names():
            told, expected, _ = recorded(name)
            with self.subTest(name):
                said = self.verdict(self.machine(may(told, *NEW), told["files"]))
                if told["files"]:  # beside the new iptables there is an old one, which has no rule
                    self.assertIn((said["state"], said["reason"]), [("unknown", "permission_denied"), ("ok", "active")])
                else:
                    self.assertIn(expected["reason"], (said["reason"], said["state"]))

    def test_whatever_may_be_asked_no_verdict_is_wrong(self):
        ways = {
            "old": OLD,
            "nft": NEW[:1],
            "old nft": OLD[:1],
            "iptables": NEW[1:],
            "old iptables": OLD[1:],
            "none": (),
        }
        for name in names():
            told, _, found = recorded(name)
            for way, allowed in ways.items():
                with self.subTest(name, way=way):
                    said = self.verdict(self.machine(may(told, *allowed), told["files"]))
                    self.no_lie(said, found, knows_ipv6=way != "old iptables")
            with self.subTest(name, way="no JSON"):
                answers = dict(may(told, *NEW[1:]), **{NEW[0]: NO_JSON})
                self.no_lie(self.verdict(self.machine(answers, told["files"])), found)

    def no_lie(self, said, found, knows_ipv6=True):
        if said["state"] == "ok":
            self.assertEqual(found[1], "refused")
            if knows_ipv6:
                self.assertEqual(found[3], "refused")
        if said["reason"] == "inactive":
            self.assertEqual(found, OPEN)

    def test_the_old_rules_of_sudo_still_report_what_they_reported(self):
        for name, reason in {
            "nothing": "inactive",
            "nft-policy": "active",
            "nft-last-rule": "active",
            "nft-prerouting": "active",
            "nft-names": "inactive",
            "nft-bans": "inactive",
            "nft-some-ports": "some_rules",
            "iptables-by-hand": "active",
            "iptables-state": "active",
            "docker": "inactive",
            "fail2ban": "inactive",
            "ufw": "active",
            "ufw-allow": "inactive",
            "ufw-flushed": "inactive",
            "firewalld-public": "active",
            "firewalld-trusted": "inactive",
        }.items():
            told, _, _ = recorded(name)
            with self.subTest(name):
                said = self.verdict(self.machine(may(told, *OLD), told["files"]))
                self.assertEqual((said["reason"], said.get("old_rules")), (reason, True))
                said = self.verdict(self.machine(may(told, *NEW), told["files"]))
                self.assertNotIn("old_rules", said)


class Rules(unittest.TestCase):
    def judged(self, tables, **more):
        return probe.evaluate(tables, probe.Visitor(4, more.get("interface", "eth0"), ["198.51.100.2"]))[0]

    def iptables(self, text, **more):
        return self.judged(probe.parse_iptables(text, "ip"), **more)

    def test_chains_that_lead_in_a_circle_end(self):
        self.assertEqual(self.iptables("-P INPUT ACCEPT\n-N a\n-N b\n-A INPUT -j a\n-A a -j b\n-A b -j a\n"), "open")
        self.assertEqual(self.iptables("-P INPUT DROP\n-N a\n-N b\n-A INPUT -j a\n-A a -g b\n-A b -j a\n"), "closed")

    def test_a_target_or_a_condition_that_nobody_knows_is_not_off(self):
        self.assertEqual(self.iptables("-P INPUT ACCEPT\n-A INPUT -j DELUDE\n"), "vague")
        self.assertEqual(self.iptables("-P INPUT ACCEPT\n-A INPUT -m fancy --fancy 7 -j DROP\n"), "vague")
        self.assertEqual(self.iptables("-P INPUT DROP\n-A INPUT -m fancy --fancy 7 -j ACCEPT\n"), "vague")
        self.assertEqual(self.iptables("-P INPUT DROP\n-A INPUT -m fancy --fancy 7 -j DROP\n"), "closed")
        rule = {"family": "ip", "table": "t", "chain": "c"}
        for expression in ({"fancy": 7}, {"xt": {"type": "match", "name": "fancy"}}, None):
            told = [{"table": {"family": "ip", "name": "t"}}]
            told.append({"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "prio": 0}})
            told.append({"rule": dict(rule, expr=[expression, {"drop": None}])})
            self.assertEqual(self.judged(probe.parse_nft_json(json.dumps({"nftables": told}))), "vague", expression)
        text = "table ip t {\n\tchain c {\n\t\ttype filter hook input priority filter; policy accept;\n\t\t%s\n\t}\n}\n"
        self.assertEqual(self.judged(probe.parse_nft_text(text % "xt match fancy drop")), "vague")
        self.assertEqual(self.judged(probe.parse_nft_text(text % 'xt target "FANCY"')), "vague")
        self.assertEqual(self.judged(probe.parse_nft_text(text % 'xt target "REJECT"')), "closed")

    def test_a_set_of_addresses_is_one_of_its_sources(self):
        text = "*filter\n:INPUT %s [0:0]\n-A INPUT -m set --match-set friends %s -j %s\nCOMMIT\n"
        self.assertEqual(self.iptables(text % ("DROP", "src", "ACCEPT")), "closed")
        self.assertEqual(self.iptables(text % ("ACCEPT", "src", "DROP")), "open")

    def test_who_is_no_fragment_is_looked_at_by_a_rule_for_what_is_none(self):
        text = (
            "table ip filter {\n chain input {\n type filter hook input priority 0; policy accept;\n %s drop\n }\n}\n"
        )
        for looked_at, nothing in (("8191", "0"), ("0x1fff", "0x0")):  # nft 1.0.6, nft 1.1.7
            told = [text % f"ip frag-off & {looked_at} {how} {nothing}" for how in ("!=", "==")]
            self.assertEqual([self.judged(probe.parse_nft_text(each)) for each in told], ["open", "closed"])

    def test_what_comes_in_goes_out_of_no_interface(self):
        text = "table ip t {\n\tchain c {\n\t\ttype filter hook input priority 0; policy %s;\n\t\t%s\n\t}\n}\n"
        for word in ("oif", "oifname"):
            for policy, verdict, level in (("accept", "drop", "open"), ("drop", "accept", "closed")):
                told = probe.parse_nft_text(text % (policy, f'{word} "eth0" {verdict}'))
                self.assertEqual(self.judged(told), level, (word, policy))

    def test_names_of_interfaces_may_end_in_a_wildcard(self):
        for name, level in {"eth+": "closed", "eth0": "closed", "+": "closed", "eth": "open", "wl+": "open"}.items():
            rules = f"-P INPUT ACCEPT\n-A INPUT -i {name} -j DROP\n"
            self.assertEqual(self.iptables(rules), level, name)

    def test_text_of_ones_own_is_no_option(self):
        self.assertEqual(self.iptables("-P INPUT DROP\n-A INPUT -m comment --comment -j -j ACCEPT\n"), "open")
        self.assertEqual(self.iptables('-P INPUT ACCEPT\n-A INPUT -j LOG --log-prefix "-j DROP "\n'), "open")

    def test_an_element_of_a_map_for_all_others_is_not_for_those_that_are_named(self):
        verdicts = {"set": [["*", {"drop": None}], ["eth0", {"accept": None}]]}
        table = probe.Table("ip", "t", "nftables")
        table.chains["c"] = probe.parse_nft_rule(
            [{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": verdicts}}], table
        )
        table.add_base("c", "input", 0, "accept")
        self.assertEqual((self.judged([table]), self.judged([table], interface="wlan0")), ("open", "closed"))

    def test_what_is_no_ruleset_is_unreadable(self):
        for text in ("", "[]", "{", '{"nftables": [{"rule": {}}]}', '{"nftables": 7}', "[" * 100000):
            with self.assertRaises(probe.Unknown, msg=text[:9]):
                probe.parse_nft_json(text)


class Children(Machine):
    def asked(self, name, *allowed, **more):
        told, _, _ = recorded(name)
        host = self.machine(may(told, *allowed), more.get("files", ()))
        self.verdict(host)
        return [command.replace("sudo -n ", "") for command in host.asked]

    def test_nft_alone_is_asked_where_it_can_report(self):
        for name in ("nothing", "nft-policy", "firewalld-public", "iptables-raw", "nft-some-ports"):
            self.assertEqual(self.asked(name, *NEW), ["nft -j list ruleset"], name)

    def test_iptables_is_asked_for_what_nft_only_names(self):
        self.assertEqual(self.asked("iptables-by-hand", *NEW), list(NEW))

    def test_with_the_old_rules_of_sudo_one_refusal_is_enough(self):
        # Each one may be a failed login to sudo-rs, and three of them lock the account.
        self.assertEqual(self.asked("nft-policy", *OLD), ["nft -j list ruleset", "nft list ruleset"])
        self.assertEqual(
            self.asked("nothing", *OLD, files=["/proc/net/ip_tables_names"]), ["nft -j list ruleset", *OLD]
        )

    def test_what_is_refused_is_not_asked_again(self):
        told, _, _ = recorded("nothing")
        host = self.machine(may(told))
        self.verdict(host)
        count = len(host.asked)
        self.assertEqual(self.verdict(host)["reason"], "permission_denied")
        self.assertEqual(len(host.asked), count)

    def test_without_the_option_nothing_is_asked(self):
        told, _, _ = recorded("ufw")
        host = self.machine(may(told, *NEW), ["/etc/ufw/ufw.conf"])
        self.assertEqual(
            self.verdict(host, sudo=()), {"state": "unknown", "reason": "permission_denied", "backend": "ufw"}
        )
        self.assertEqual(host.asked, [])


class Files(Machine):
    def test_a_machine_without_any_tool_is_unknown(self):
        self.assertEqual(self.verdict(self.machine({})), {"state": "unknown", "reason": "no_tool"})

    def test_that_ufw_or_firewalld_is_on_does_not_say_what_its_rules_are(self):
        empty = {"nft -j list ruleset": {"output": '{"nftables": []}'}}
        for path, backend in (
            ("/etc/ufw/ufw.conf", "ufw"),
            ("/sys/fs/cgroup/system.slice/firewalld.service/cgroup.procs", "firewalld"),
        ):
            host = self.machine(empty, [path], is_root=True)
            self.assertEqual(self.verdict(host), {"state": "warning", "reason": "inactive", "backend": backend})
            host = self.machine({"nft -j list ruleset": REFUSED}, [path])
            self.assertEqual(
                self.verdict(host), {"state": "unknown", "reason": "permission_denied", "backend": backend}
            )

    def test_the_old_iptables_is_not_asked_where_its_modules_are_not_loaded(self):
        host = self.machine({"iptables-save": REFUSED, "ip6tables-save": REFUSED}, is_root=True, kind="legacy")
        self.assertEqual(self.verdict(host), {"state": "warning", "reason": "inactive"})
        self.assertEqual(host.asked, [])

    def test_what_is_cut_off_is_unknown(self):
        told, _, _ = recorded("iptables-legacy")
        for command in ("iptables-legacy-save", "nft -j list ruleset"):
            text = told["run"][command]["output"]
            run = {command.replace("-legacy", ""): {"output": text[: len(text) // 2]}}
            host = self.machine(run, ["/proc/net/ip_tables_names"], is_root=True, kind="legacy")
            self.assertEqual(self.verdict(host), {"state": "unknown", "reason": "unreadable"}, command)

    def test_ipv6_counts_where_the_machine_has_an_address(self):
        told, _, _ = recorded("nft-of-ipv4")
        host = self.machine(told["run"], is_root=True)
        self.assertEqual(self.verdict(host)["reason"], "some_rules")
        host.record["addresses"] = [one for one in ADDRESSES if one["scope"] != "global" or one["version"] == 4]
        self.assertEqual(self.verdict(host)["reason"], "active")


if __name__ == "__main__":
    unittest.main()
