"""Sockets: the kernel's structs and files, who can reach what, and whose it is."""

import os
import socket
import struct
import unittest

from place import HOSTS, probe
from tree import Tree, section

ID = "9f86d081" * 8
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(address, port, inode, state="0A"):
    """Return a line of /proc/net/tcp or tcp6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    digits = "".join(f"{number:08X}" for number in struct.unpack(f"={len(raw) // 4}I", raw))
    return f"   0: {digits}:{port:04X} {'0' * len(digits)}:0000 {state} 0:0 00:0 0 33 0 {inode} 1 0\n"


def row(address, port=80, inode=7, **more):
    return dict(
        {"version": 6 if ":" in address else 4, "address": address, "port": port, "inode": inode, "uid": 33}, **more
    )


class Kernel(unittest.TestCase):
    def message(self, address, *attributes, **more):
        """Return one socket as sock_diag(7) tells it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        raw = socket.inet_pton(family, address).ljust(16, b"\0")
        head = struct.pack("=BBBB", family, 10, 0, 0) + struct.pack(">HH", 8080, 0) + raw + bytes(16)
        body = head + struct.pack("=I8xIIIII", more.get("index", 0), 0, 0, 0, 33, 4711)
        parts = (struct.pack("=HH", 4 + len(part), kind) + part + bytes(-len(part) % 4) for kind, part in attributes)
        return body + b"".join(parts)

    def test_a_socket_is_reported_with_its_interface_group_and_what_it_takes(self):
        marks = (8, b"\0"), (11, b"\1"), (21, struct.pack("=Q", 1 << 40))
        reported = probe.parse_listener(self.message("fe80::1", *marks, index=2), {2: "eth0"})
        expected = row("fe80::1", 8080, 4711, interface="eth0", only_ipv6=True, group=1 << 40)
        self.assertEqual(reported, expected)

    def test_an_old_kernel_reports_less(self):
        self.assertEqual(probe.parse_listener(self.message("192.0.2.2"), {}), row("192.0.2.2", 8080, 4711))

    def test_files_report_the_same_of_what_listens_and_nothing_of_what_is_connected(self):
        text = HEAD + line("127.0.0.1", 8080, 12) + line("127.0.0.1", 22, 13, "01") + line("::1", 80, 14)
        reported = list(probe.parse_proc_net(text.splitlines(), "0A", lambda uid: True))
        self.assertEqual(reported, [row("127.0.0.1", 8080, 12), row("::1", 80, 14)])


class Reach(unittest.TestCase):
    def test_what_an_address_says_of_who_can_reach_it(self):
        for address, reported in (
            ("127.0.0.53", "machine"),
            ("::1", "machine"),
            ("0.0.0.0", "all"),
            ("::", "all"),
            ("192.168.1.2", "lan"),
            ("169.254.1.1", "lan"),
            ("100.64.0.7", "lan"),
            ("fd00::2", "lan"),
            ("fe80::2", "lan"),
            ("224.0.0.251", "lan"),
            ("ff05::2", "lan"),
            ("8.8.4.4", "all"),
            ("2600::1", "all"),
        ):
            with self.subTest(address):
                self.assertEqual(probe.exposure(row(address), []), reported)

    def test_every_address_of_one_interface_is_as_public_as_those_are(self):
        addresses = [{"interface": "eth0", "address": "8.8.4.4"}, {"interface": "virbr0", "address": "192.168.122.1"}]
        for interface, reported in (("eth0", "all"), ("virbr0", "lan"), ("lo", "machine"), ("gone0", "lan")):
            with self.subTest(interface):
                self.assertEqual(probe.exposure(row("::", interface=interface), addresses), reported)

    def test_a_socket_for_every_ipv6_address_says_itself_whether_it_takes_ipv4(self):
        self.assertTrue(probe.takes_ipv4(row("::", only_ipv6=False), {80}, True))
        self.assertFalse(probe.takes_ipv4(row("::", only_ipv6=True), set(), False))

    def test_without_its_word_the_neighbour_and_the_rule_decide(self):
        self.assertTrue(probe.takes_ipv4(row("::"), {81}, False))
        self.assertFalse(probe.takes_ipv4(row("::"), {80}, False))
        self.assertFalse(probe.takes_ipv4(row("::"), set(), True))
        self.assertFalse(probe.takes_ipv4(row("::1"), set(), False))


class Section(unittest.TestCase):
    def sockets(self, *rows, **reported):
        """Return who listens on TCP, as the section tells it."""
        tree = Tree(self, dict({"listeners": {"tcp": list(rows), "udp": []}}, **reported))
        tree.write("/proc/net/tcp", HEAD)
        tree.write("/etc/passwd", "root:x:0:0::/:\nweb:x:33:33::/:\neve:x:1000:1000::/:\n")
        return section(tree.host(), "sockets")[0]

    def test_without_the_process_the_group_reports_the_unit_or_container(self):
        groups = {"11": "/system.slice/ssh.service", "12": f"/system.slice/docker-{ID}.scope", "13": "/init.scope"}
        rows = [row("::", port, port, group=port) for port in (11, 12, 13, 14)]
        reported = self.sockets(*rows, group_ids=groups)
        owners = [
            {name: one[name] for name in ("unit", "container", "pid") if name in one} for one in reported["sockets"]
        ]
        # What systemd opened it opened for somebody else: nobody knows for whom.
        self.assertEqual(owners, [{"unit": "ssh.service"}, {"container": ID}, {}, {}])
        self.assertFalse(reported["complete"]["owners"])

    def test_what_the_kernel_listens_at_is_nobodys_and_nobody_is_missed(self):
        reported = self.sockets(row("0.0.0.0", 2049, 0))
        self.assertEqual((len(reported["sockets"]), reported["complete"]["owners"]), (1, True))
        self.assertNotIn("pid", reported["sockets"][0])

    def test_of_too_many_each_user_is_told_some(self):
        def reported(uids):
            crowd = [row("0.0.0.0", 1024 + n, n, uid=uid) for n, uid in enumerate(uids)]
            listed = self.sockets(*crowd, row("0.0.0.0", 50000, 1 << 20, uid=0), row("0.0.0.0", 50001, 1 << 21))
            ports = [one["port"] for one in listed["sockets"]]
            self.assertEqual((ports[-2:], ports), ([50000, 50001], sorted(ports)))
            self.assertEqual((len(ports), listed["complete"]["sockets"]), (probe.SOCKETS_SHOWN, False))

        reported([1000] * 3000)
        reported(range(100000, 103000))  # one user, who gives his processes any number

    def test_of_too_many_to_look_at_each_users_are_looked_at(self):
        rows = [row("::", n, uid=1000) for n in range(50)] + [row("::", 99, uid=0)]
        kept = probe.first_of_each(rows, 10, {"0": "root", "1000": "eve"})
        self.assertEqual([one["port"] for one in kept], [0, 99, *range(1, 9)])

    def test_equal_sockets_are_reported_once(self):
        self.assertEqual(len(self.sockets(*(row("::", 80, inode) for inode in range(5)))["sockets"]), 1)

    def test_too_many_are_cut_and_that_is_said(self):
        reported = self.sockets(*(row("::", port, port) for port in range(1, 1202)))
        self.assertEqual((len(reported["sockets"]), reported["complete"]["sockets"]), (1000, False))

    def test_without_a_network_in_proc_it_is_not_supported(self):
        self.assertEqual(section(Tree(self).host(), "sockets"), (None, "not_supported", None))


class Workstation(unittest.TestCase):
    def test_a_machine_whose_kernel_has_only_files_reports_all_that_they_hold(self):
        reported = section(probe.RecordedHost(os.path.join(HOSTS, "nvidia-workstation")), "sockets")[0]
        self.assertEqual(reported["complete"], {"sockets": True, "owners": False})
        rows = [(one["protocol"], one["address"], one["port"], one["exposure"]) for one in reported["sockets"]]
        expected = [
            ("tcp", "0.0.0.0", 22, "all"),
            ("tcp", "::", 22, "all"),
            ("udp", "127.0.0.53", 53, "machine"),
            ("udp", "fe80::ff:fe00:500", 546, "lan"),
            ("tcp", "::1", 631, "machine"),
            ("tcp", "::", 3000, "all"),
            ("udp", "224.0.0.251", 5353, "lan"),
            ("tcp", "192.168.1.20", 8080, "lan"),
            ("tcp", "127.0.0.1", 9200, "machine"),
            ("tcp", "127.0.0.1", 11434, "machine"),
            ("udp", "0.0.0.0", 51820, "all"),
            ("udp", "::", 51820, "all"),
        ]
        self.assertEqual(rows, expected)
        self.assertEqual([one["port"] for one in reported["sockets"] if len(one["families"]) == 2], [3000])
        owned = [(one["port"], one["process"], one["pid"], one["unit"]) for one in reported["sockets"] if "pid" in one]
        self.assertEqual(owned, [(11434, "ollama", 2211, "ollama.service")])


class ThisMachine(unittest.TestCase):
    def test_a_socket_of_this_process_is_found_with_its_reach(self):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
            door.bind(("127.0.0.1", 0))
            door.listen(1)
            port = door.getsockname()[1]
            reported, missing, error = section(probe.Host(), "sockets")
        self.assertEqual((missing, error), (None, None))
        mine = next(one for one in reported["sockets"] if (one["protocol"], one["port"]) == ("tcp", port))
        self.assertEqual((mine["pid"], mine["exposure"], mine["families"]), (os.getpid(), "machine", ["ipv4"]))


if __name__ == "__main__":
    unittest.main()
