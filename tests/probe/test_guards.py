"""Small guards whose absence nobody would see: each keeps a value from meaning something else."""

import ast
import io
import unittest

from place import FILES, probe
from tree import Tree, section


class Names(unittest.TestCase):
    """All files of the probe are run in one namespace."""

    def test_no_name_of_one_file_is_that_of_another(self):
        homes = {}
        for path, source in FILES.items():
            for node in ast.parse(source).body:
                names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    names += [one.id for one in ast.walk(target) if isinstance(one, ast.Name)]
                for name in names:
                    homes.setdefault(name, set()).add(path)
        shared = {name for name, paths in homes.items() if len(paths) > 1}
        self.assertGreater(len(homes), 500)
        self.assertEqual(shared, {"TYPE_CHECKING"})


class Filesystems(unittest.TestCase):
    def test_a_reserve_that_is_in_use_leaves_nothing_available(self):
        # statfs(2) tells f_bavail as unsigned; a filesystem filled by root into its reserve wraps around.
        (mount,) = probe.parse_mountinfo("36 35 8:1 / /data rw - ext4 /dev/sda1 rw\n")
        for available in ((1 << 64) - 5, -5):  # and Python tells it as it is signed
            row = probe.filesystem(mount, (4096, 1000, 10, available, 0, 0), "")
            self.assertEqual((row["available_bytes"], row["used_bytes"]), (0, 990 * 4096))

    def test_a_source_that_a_user_wrote_leads_to_no_disk(self):
        tree = Tree(self)
        tree.write("/dev/sda1")
        (mount,) = probe.parse_mountinfo("36 35 0:51 / /home/eve/m rw - fuse.x /dev/sda1 rw,user_id=1501\n")
        self.assertEqual(probe.kernel_name(tree.host(), mount), "")
        (mount,) = probe.parse_mountinfo("36 35 0:51 / /data rw - btrfs /dev/sda1 rw\n")
        self.assertEqual(probe.kernel_name(tree.host(), mount), "sda1")


class Numbers(unittest.TestCase):
    """What a machine tells need not fit: a share or a difference of it is within its range, or not told."""

    NASTY = (-1, 0, 1, 50, 100, 101, 1 << 31, (1 << 64) - 1)

    def memory(self, **kibibytes):
        tree = Tree(self)
        tree.write("/proc/meminfo", "".join(f"{name}: {value} kB\n" for name, value in kibibytes.items()))
        return section(tree.host(), "memory")[0]

    def test_more_memory_available_than_there_is_is_reported_by_the_caches(self):
        # lxcfs before 3.0 hands the machine's MemAvailable on.
        reported = self.memory(MemTotal=800, MemFree=100, MemAvailable=900, Buffers=50, Cached=60, Shmem=10)
        self.assertEqual(reported["available_bytes"], 200 << 10)
        reported = self.memory(MemTotal=800, MemFree=700, MemAvailable=900, Buffers=50, Cached=60, Shmem=0)
        self.assertNotIn("available_bytes", reported)

    def test_memory_that_is_available_is_there(self):
        for total in (0, 100):
            for free in self.NASTY[1:]:
                for shared in self.NASTY[1:]:
                    reported = self.memory(MemTotal=total, MemFree=free, MemAvailable=free, Cached=free, Shmem=shared)
                    self.assertTrue(0 <= reported.get("available_bytes", 0) <= reported["total_bytes"], reported)

    def test_a_card_is_reported_with_what_can_be(self):
        for value in self.NASTY:
            for total in self.NASTY:
                gpu = {"id": "1", "usage_percent": value, "fan_percent": value}
                reported = probe.believable(dict(gpu, memory_total_bytes=total, memory_used_bytes=value))
                self.assertEqual(reported.get("usage_percent"), value if 0 <= value <= 100 else None)
                self.assertEqual(reported.get("fan_percent"), min(value, 100) if value >= 0 else None)
                self.assertEqual(reported.get("memory_used_bytes"), value if 0 <= value <= total else None)
        self.assertEqual(probe.believable({"id": "1"}), {"id": "1"})


class Topology(unittest.TestCase):
    def test_cores_of_the_machine_are_not_reported_beside_the_cpus_of_a_container(self):
        for lxcfs, reported in (
            ("", {"threads": 2, "sockets": 1, "cores": 4}),
            ("99 1 0:43 / /proc/cpuinfo rw", {"threads": 2}),
        ):
            tree = Tree(self)
            tree.write("/proc/self/mountinfo", lxcfs + " - fuse.lxcfs lxcfs rw\n")
            tree.write("/proc/meminfo", "MemTotal: 1 kB\n")
            tree.write("/proc/net/dev", "\n\n")
            tree.write("/proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd08\n\nprocessor\t: 1\nCPU part\t: 0xd08\n")
            for n in range(4):
                folder = f"/sys/devices/system/cpu/cpu{n}/topology"
                tree.files(folder, thread_siblings_list=n, physical_package_id=0)
            found, _, _ = section(tree.host(), "hardware")
            self.assertEqual({key: found[key] for key in ("threads", "sockets", "cores") if key in found}, reported)


class Disks(unittest.TestCase):
    def machine(self):
        tree = Tree(self)
        counters = " 10 0 20 30 40 0 50 60 0 70 80\n"
        names = ("cciss/c0d0", "cciss/c0d0p1", "sda", "sda1", "sdb", "fd0", "loop0")
        tree.write("/proc/diskstats", "".join(f" 104 {n} {name}{counters}" for n, name in enumerate(names)))
        # A virtual floppy and the slot of a card reader are disks without a size.
        for name, size in (("cciss!c0d0", 1000), ("sda", 2000), ("sdb", 0), ("fd0", 0), ("loop0", 8)):
            tree.files("/sys/block/" + name, size=f"{size}\n", device__model="M\n", dev="1:1\n")
        tree.write("/proc/meminfo", "MemTotal: 1 kB\n")
        tree.write("/proc/net/dev", "\n\n")
        return tree

    def test_a_disk_has_the_name_of_sysfs_and_a_size(self):
        host = self.machine().host()
        disks, hardware = section(host, "disk_io")[0]["disks"], section(host, "hardware")[0]["disks"]
        self.assertEqual((sorted(disks), sorted(hardware)), (["cciss!c0d0", "sda"], ["cciss!c0d0", "sda"]))
        self.assertEqual(disks["cciss!c0d0"]["read_bytes"], 20 * 512)

    def test_a_filesystem_on_a_disk_with_a_slash_in_its_name_has_its_id(self):
        tree = self.machine()
        tree.link("/dev/disk/by-uuid/1234-ABCD", "../../cciss/c0d0p1")
        tree.write("/sys/dev/block/104:1/uevent", "MAJOR=104\nMINOR=1\nDEVNAME=cciss/c0d0p1\n")
        tree.write("/sys/fs/btrfs/5353/devices/cciss!c0d0p2")
        (mount,) = probe.parse_mountinfo("36 35 104:1 / /data rw - ext4 /dev/cciss/c0d0p1 rw\n")
        uuids = probe.uuids_by_device(tree.host())
        self.assertEqual(uuids[probe.kernel_name(tree.host(), mount)], "1234-ABCD")
        (mount,) = probe.parse_mountinfo("36 35 0:40 / /data rw - btrfs /dev/cciss/c0d0p2 rw\n")
        self.assertEqual(uuids[probe.kernel_name(tree.host(), mount)], "5353")


class Chips(unittest.TestCase):
    def test_alike_chips_without_an_address_keep_their_ids_whichever_the_kernel_finds_first(self):
        reported = []
        for first, second in ((0, 1), (1, 0), (10, 9)):
            tree = Tree(self)
            for number, bus, celsius in ((first, 2, 31000), (second, 11, 32000)):
                tree.chip(number, f"platform/soc/i2c-{bus}/{bus}-0048", "lm75", temp1_input=celsius)
            rows = section(tree.host(), "sensors")[0]["temperatures"]
            reported.append({row["id"]: row["celsius"] for row in rows})
        self.assertEqual(reported, [{"lm75/-0048/temp1": 31.0, "lm75/-0048/temp1#2": 32.0}] * 3)


class Engines(unittest.TestCase):
    def test_a_published_port_without_an_address_is_published_everywhere(self):
        # Podman leaves the address out then (API: "IP" is "").
        for reported in ({}, {"IP": ""}):
            port = probe.parse_port(dict({"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, **reported))
            self.assertEqual(port["host_ip"], "0.0.0.0")

    def test_a_yes_is_no_number(self):
        self.assertEqual(
            [probe.count_of(value) for value in (True, False, 1, -1, 1.5, "1", None)], [0, 0, 1, 0, 0, 0, 0]
        )

    def test_more_ports_than_are_shown_are_cut(self):
        ports = [{"PrivatePort": number, "Type": "tcp"} for number in range(1, 400)]
        row = probe.parse_listed("docker", {"Id": "a" * 64, "Names": ["/x"], "State": "running", "Ports": ports})
        self.assertEqual(len(row["ports"]), probe.PORTS_SHOWN)


class Owners(unittest.TestCase):
    def test_who_a_process_belongs_to_is_not_what_it_calls_itself(self):
        tree = Tree(self)
        # A name may hold a tab; the kernel escapes only newline and backslash (proc(5)).
        tree.write("/proc/70/status", "Name:\tUid:\t1501\t\nUmask:\t0022\nUid:\t0\t0\t0\t0\n")
        tree.write("/proc/70/cgroup", "0::/system.slice/x.service\n")
        self.assertFalse(probe.belongs_to(tree.host(), 70, 1501))


class Logins(unittest.TestCase):
    def test_where_journald_takes_what_anybody_logs_messages_is_not_counted(self):
        tree = Tree(self, {"uid": 1000, "stamps": {"/var/log/messages": [1760000000, 1760000000, 2500]}})
        tree.write("/run/systemd/journal/socket")
        line = "Oct  9 08:50:00 nas sshd[7]: Failed password for root from 192.0.2.7 port 40000 ssh2\n"
        tree.write("/var/log/messages", line * 30)
        self.assertEqual(probe.by_log(tree.host(), "/var/log/messages", {})[0], 30)
        host = tree.host()
        reported = probe.failed_logins(
            host, probe.Request({"id": "1", "sections": ["security"]}), probe.Daemons(host), {}
        )
        self.assertEqual(reported, {"state": "unknown", "reason": "no_log"})


class Refusals(unittest.TestCase):
    def test_sudo_is_not_asked_again_at_every_poll_what_it_has_refused(self):
        # sudo logs each refusal, and may send mail about it.
        refusal = {"status": 1, "errors": "sudo: a password is required\n"}
        asks = ["sudo -n nft -j list ruleset", "sudo -n nft list ruleset", " ".join(probe.SUDO + probe.SS)]
        tree = Tree(self, {"uid": 1000, "run": dict.fromkeys(asks, refusal)})
        tree.write("/usr/sbin/nft")
        host, asked, moved = tree.host(), [], [0.0]
        run, boottime = host.run, host.boottime
        host.run = lambda argv, *args, **more: asked.append(argv[0]) or run(argv, *args, **more)
        host.boottime = lambda: boottime() + moved[0]
        one = probe.Probe(host)
        request = {"id": "1", "sections": ["security", "sockets"], "sudo": ["security", "sockets"]}
        for _ in range(6):
            one.answer(probe.Request(request))
            probe.ask_ss(host, {7}, {}, float("inf"))
            moved[0] += 590.0
        self.assertEqual(asked.count("sudo"), 3)
        moved[0] += 3600.0
        one.answer(probe.Request(request))
        self.assertEqual(asked.count("sudo"), 5)


class Lines(unittest.TestCase):
    def test_the_end_of_a_line_that_is_too_long_is_no_request(self):
        reported = b"x" * probe.LINE_BYTES + b'{"id": "9", "sections": ["cpu"]}\n{"id": "1"}\n'
        requests = io.BytesIO(reported)
        with self.assertRaises(ValueError):
            probe.parse_request(probe.read_line(requests))
        self.assertEqual(probe.read_line(requests), b'{"id": "1"}\n')


if __name__ == "__main__":
    unittest.main()
