"""Interfaces: addresses out of the kernel's structs and out of ip(8), the gateway, the name servers."""

import socket
import struct
import unittest
from unittest.mock import patch

from place import probe
from tree import Tree, section

LINE = "{}: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n"
NET_DEV = "Inter-|\n face |\n" + "".join(map(LINE.format, ("lo", "eth0", "wg0")))
ROUTE = "{} 00000000 {} 0003 0 0 100 00000000 0 0 0\n"
NAMES = {2: "eth0", 3: "wg0"}


def attribute(kind, content):
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def message(family, prefix, flags, scope, *attributes):
    """Return one address as the kernel tells it, of interface 2."""
    return struct.pack("=BBBBI", family, prefix, flags, scope, 2) + b"".join(attributes)


def packed(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def one(interface, address, prefix_length=24, scope="global", **marks):
    version = 6 if ":" in address else 4
    reported = {"interface": interface, "version": version, "address": address}
    return dict(reported, prefix_length=prefix_length, scope=scope, **marks)


class Netlink(unittest.TestCase):
    def test_of_a_point_to_point_link_our_own_end_is_reported(self):
        ends = attribute(1, packed("10.8.0.1")), attribute(2, packed("10.8.0.2")), attribute(3, b"eth0\0")
        reported = probe.parse_address(message(socket.AF_INET, 32, 0x80, 0, *ends), NAMES)
        self.assertEqual(reported, one("eth0", "10.8.0.2", 32))

    def test_flags_that_do_not_fit_a_byte_are_reported_beside_it(self):
        marks = attribute(1, packed("2001:db8::7")), attribute(8, struct.pack("=I", 0x21 | 0x100))
        reported = probe.parse_address(message(socket.AF_INET6, 64, 0, 0, *marks), NAMES)
        self.assertEqual(reported, one("eth0", "2001:db8::7", 64, temporary=True, deprecated=True))

    def test_a_second_ipv4_address_is_not_temporary(self):
        reported = probe.parse_address(message(socket.AF_INET, 24, 1, 0, attribute(1, packed("192.0.2.3"))), NAMES)
        self.assertEqual(reported, one("eth0", "192.0.2.3"))

    def test_a_scope_without_a_name_is_reported_as_a_number(self):
        reported = probe.parse_address(message(socket.AF_INET, 24, 0, 42, attribute(1, packed("192.0.2.3"))), NAMES)
        self.assertEqual(reported["scope"], "42")

    def test_what_is_no_ip_address_or_of_a_lost_interface_is_left_out(self):
        self.assertIsNone(probe.parse_address(message(7, 24, 0, 0, attribute(1, b"abcd")), NAMES))
        self.assertIsNone(probe.parse_address(message(socket.AF_INET, 24, 0, 0), NAMES))
        self.assertIsNone(probe.parse_address(message(socket.AF_INET, 24, 0, 0, attribute(1, packed("192.0.2.3"))), {}))

    def test_messages_start_at_multiples_of_four(self):
        raw = struct.pack("=IHHII", 17, 20, 0, 1, 0) + b"a   " + struct.pack("=IHHII", 18, 3, 0, 1, 0) + b"bc"
        self.assertEqual(list(probe.netlink_messages(raw)), [(20, b"a"), (3, b"bc")])

    def test_nonsense_ends_the_reading(self):
        with self.assertRaises(OSError):
            list(probe.netlink_messages(bytes(16)))
        self.assertEqual(probe.netlink_attributes(bytes(8)), {})


class Section(unittest.TestCase):
    def tree(self, **reported):
        tree = Tree(self, reported)
        tree.write("/proc/net/dev", NET_DEV)
        tree.write("/sys/class/net/eth0/device/x")
        return tree

    def reported(self, tree):
        reported, missing, error = section(tree.host(), "interfaces")
        self.assertEqual((missing, error), (None, None))
        return reported

    def test_without_netlink_ip_is_asked(self):
        printed = """[{"ifname": "eth0", "addr_info": [{"family": "inet", "local": "192.0.2.2", "prefixlen": 24,
            "scope": "global"}, {"family": "inet6", "local": "2001:db8::2", "prefixlen": 64, "scope": "global",
            "temporary": true}, {}]}, {"ifname": "lo"}]"""
        reported = self.reported(self.tree(run={"ip -j addr": {"output": printed}}))["interfaces"]["eth0"]
        self.assertEqual(reported["ipv4"], [{"address": "192.0.2.2", "prefix_length": 24, "scope": "global"}])
        address = {"address": "2001:db8::2", "prefix_length": 64, "scope": "global", "temporary": True}
        self.assertEqual(reported["ipv6"], [address])

    def test_addresses_that_nobody_reports_are_unknown_and_not_none(self):
        for run in ({}, {"ip -j addr": {"status": 255, "errors": 'Option "-j" is unknown'}}):
            reported = self.reported(self.tree(run=run))["interfaces"]["eth0"]
            self.assertEqual(reported, {"type": "physical"})
        self.assertEqual(self.reported(self.tree(addresses=[]))["interfaces"]["eth0"]["ipv4"], [])

    def test_a_speed_that_is_none_is_not_reported(self):
        for words, speed in (("1000", 10**9), ("-1", None), ("65535", None), ("4294967295", None), ("", None)):
            tree = self.tree()
            tree.files("/sys/class/net/eth0", speed=words + "\n", operstate="up\n", mtu="9000\n")
            reported = self.reported(tree)["interfaces"]["eth0"]
            self.assertEqual(
                (reported.get("speed_bits_per_second"), reported["state"], reported["mtu"]), (speed, "up", 9000)
            )

    def test_a_tunnel_has_no_speed_whatever_its_driver_says(self):
        tree = self.tree()
        tree.files("/sys/class/net/wg0", uevent="DEVTYPE=wireguard\n", speed="10\n")
        self.assertEqual(self.reported(tree)["interfaces"]["wg0"], {"type": "vpn"})

    def primary(self, addresses, route="eth0", gateway="010200C0", route6=""):
        tree = self.tree(addresses=addresses)
        tree.write("/proc/net/route", ROUTE.format(route, gateway) if route else "")
        tree.write("/proc/net/ipv6_route", route6)
        reported = self.reported(tree)
        return [reported.get(name) for name in ("primary", "primary_address", "gateway_ipv4", "gateway_ipv6")]

    def test_the_primary_address_is_that_in_the_gateways_network(self):
        addresses = [
            one("wg0", "192.0.2.9"),
            one("eth0", "10.0.0.2", 8),
            one("eth0", "192.0.2.2"),
            one("eth0", "192.0.2.3"),
        ]
        self.assertEqual(self.primary(addresses), ["eth0", "192.0.2.2", "192.0.2.1", None])

    def test_the_primary_address_is_the_one_that_the_route_names(self):
        # ip route add default via 192.0.2.1 dev eth0 src 192.0.2.77
        addresses = [
            one("wg0", "192.0.2.9"),
            one("eth0", "192.0.2.2"),
            one("eth0", "192.0.2.77"),
            one("eth0", "fe80::2", 64, "link"),
        ]
        for source, primary in (
            ("192.0.2.77", "192.0.2.77"),
            ("192.0.2.2", "192.0.2.2"),
            ("", "192.0.2.2"),
            ("192.0.2.9", "192.0.2.2"),  # by a rule of another table
        ):
            tree = self.tree(addresses=addresses, source_address=source)
            tree.write("/proc/net/route", ROUTE.format("eth0", "010200C0"))
            self.assertEqual(self.reported(tree)["primary_address"], primary, source)

    def test_the_kernel_is_asked_for_the_source_without_a_packet(self):
        host = probe.Host()
        with patch.object(socket.socket, "send", side_effect=AssertionError), patch.object(
            socket.socket, "sendto", side_effect=AssertionError
        ):
            source = host.source_address()
        self.assertIn(source, [""] + [one["address"] for one in host.addresses()])

    def test_a_link_without_a_gateway_has_a_primary_address_all_the_same(self):
        self.assertEqual(self.primary([one("wg0", "10.8.0.2", 32)], "wg0", "00000000"), ["wg0", "10.8.0.2", None, None])

    def test_an_address_that_lasts_is_preferred_and_none_of_the_link_alone_is_taken(self):
        zeros = "0" * 32
        route6 = f"{zeros} 00 {zeros} 00 fe80{'0' * 27}1 00000400 1 0 00000003 eth0\n"
        addresses = [one("eth0", "fe80::2", 64, "link"), one("eth0", "2001:db8::7", 64, temporary=True)]
        self.assertEqual(self.primary(addresses, "", "", route6), ["eth0", "2001:db8::7", None, "fe80::1"])
        addresses.append(one("eth0", "2001:db8::2", 64))
        self.assertEqual(self.primary(addresses, "", "", route6), ["eth0", "2001:db8::2", None, "fe80::1"])

    def test_without_an_ipv4_address_the_ipv6_one_is_reported(self):
        zeros = "0" * 32
        route6 = f"{zeros} 00 {zeros} 00 {zeros} 00000400 1 0 00000001 wg0\n"
        reported = self.primary([one("wg0", "fd00::2", 64)], "eth0", "010200C0", route6)
        self.assertEqual(reported, ["eth0", "fd00::2", "192.0.2.1", None])


class NameServers(unittest.TestCase):
    def servers(self, text, upstreams=None):
        tree = Tree(self)
        if text is not None:
            tree.write("/etc/resolv.conf", text)
        if upstreams is not None:
            tree.write("/run/systemd/resolve/resolv.conf", upstreams)
        reported = probe.name_servers(tree.host())
        return reported.get("dns_servers"), reported.get("search_domains")

    def test_the_last_of_domain_and_search_counts(self):
        text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n"
        text += "domain a.test\nsearch b.test c.test\n"
        self.assertEqual(self.servers(text), (["192.0.2.1", "fe80::1%eth0"], ["b.test", "c.test"]))

    def test_behind_resolveds_own_address_are_the_real_servers(self):
        upstreams = "nameserver 192.0.2.1\nsearch .\n"
        self.assertEqual(self.servers("nameserver 127.0.0.53\n", upstreams), (["192.0.2.1"], []))
        self.assertEqual(self.servers("nameserver 127.0.0.53\n", "# No DNS servers known.\n"), ([], []))

    def test_a_resolver_of_the_users_own_is_reported_as_it_is(self):
        self.assertEqual(self.servers("nameserver 127.0.0.1\n", "nameserver 192.0.2.1\n"), (["127.0.0.1"], []))
        self.assertEqual(self.servers("nameserver 127.0.0.53\n"), (["127.0.0.53"], []))

    def test_without_the_file_nobody_knows(self):
        self.assertEqual(self.servers(None), (None, None))


if __name__ == "__main__":
    unittest.main()
