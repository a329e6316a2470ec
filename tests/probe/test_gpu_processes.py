"""What uses a card: what the kernel shows in fdinfo, and how rarely it is read."""

import unittest
from unittest.mock import patch

from place import probe
from tree import Tree, section

RADEON = "0000:03:00.0"
CLIENT = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t" + RADEON + "\ndrm-memory-vram:\t{} KiB\n"
SIZES = (
    # what is told of one descriptor, the bytes of a card of its own, of one in the system's memory
    ("drm-memory-vram:\t1024 KiB\ndrm-memory-gtt: \t512 KiB\ndrm-memory-cpu: \t64 KiB\n", 1 << 20, 3 << 19),
    ("drm-total-vram0:\t8 MiB\ndrm-resident-vram0:\t3 MiB\ndrm-total-system:\t1 MiB\n", 3 << 20, 4 << 20),
    ("drm-total-local0:\t4096\ndrm-shared-local0:\t0\ndrm-active-local0:\t0\n", 4096, 4096),
    ("drm-total-vram:\t2 GiB\n", 2 << 30, 2 << 30),
    # An integrated Intel has no video memory of its own.
    (
        "drm-total-system0:\t9 MiB\ndrm-resident-system0:\t6 MiB\ndrm-resident-stolen-system0:\t1 MiB\n",
        7 << 20,
        7 << 20,
    ),
    ("drm-engine-render:\t123 ns\n", 0, 0),
)


class Watched(probe.RecordedHost):
    """A machine that notes whose descriptors it is asked for, and has the test's clock."""

    passed = 0.0

    def __init__(self, root):
        super().__init__(root)
        self.asked = []

    def names(self, path, most=0):
        if path.endswith("/fd"):
            self.asked.append(path)
        return super().names(path, most)

    def boottime(self):
        return super().boottime() + self.passed


class GpuProcesses(unittest.TestCase):
    def setUp(self):
        self.tree = Tree(self)
        self.tree.card(RADEON, "0x1002", "amdgpu", power__runtime_status="active\n", mem_info_vram_total=8 << 30)
        self.tree.link("/proc/1/fd/0", "/dev/null")
        self.host = Watched(self.tree.folder)
        self.one = probe.Probe(self.host)

    def opens(self, pid, number, client, kibibytes):
        """Let a process open the card."""
        self.tree.link(f"/proc/{pid}/fd/{number}", "/dev/dri/renderD128")
        self.tree.write(f"/proc/{pid}/fdinfo/{number}", CLIENT.format(client, kibibytes))

    def reported(self, seconds=60):
        """Return {pid: bytes} a while later."""
        self.host.passed += seconds
        self.host.asked = []
        return {row["pid"]: row["memory_bytes"] for row in section(None, "gpu_processes", self.one)[0]["processes"]}

    def test_units_and_regions_of_every_driver(self):
        for text, own, shared in SIZES:
            with self.subTest(text):
                self.assertEqual(probe.parse_drm_memory(text, is_shared=False), own)
                self.assertEqual(probe.parse_drm_memory(text, is_shared=True), shared)

    def test_what_is_only_called_as_a_card_is_none(self):
        for pid, target in ((20, "/home/eve/card0"), (21, "/home/eve/dev/dri/card0"), (22, "/dev/dri/card0")):
            self.tree.link(f"/proc/{pid}/fd/3", target)
            self.tree.write(f"/proc/{pid}/fdinfo/3", "pos:\t0\nflags:\t02\nmnt_id:\t40\n")
        self.assertEqual(probe.drm_users(self.host, {}), [])

    def test_locks_without_end_cost_little(self):
        self.opens(10, 5, 1, 100)
        for number in range(6, 40):
            self.opens(10, number, 1, 100)
            lock = "lock:\t1: POSIX  ADVISORY  WRITE 10 00:2f:17 0 EOF\n"
            self.tree.write(f"/proc/10/fdinfo/{number}", "pos:\t0\n" + lock * 20000)
        read = sum(len(text) for text in probe.drm_descriptors(self.host, 10))
        self.assertLess(read, 1000)

    def test_who_takes_long_is_cut_off_and_the_list_is_not_whole(self):
        for pid in (10, 11, 12):
            self.opens(pid, 4, pid, 100)
        self.assertEqual(set(self.reported()), {10, 11, 12})
        memo = self.one.memos["gpu_processes"]
        clock, real = [0.0], probe.drm_descriptors

        def slow(host, pid):
            clock[0] += probe.LOOK_SECONDS + 0.1 if memo["looks"].get(pid) == -1 else 0
            return real(host, pid)

        with patch.object(probe.time, "monotonic", lambda: clock[0]), patch.object(probe, "drm_descriptors", slow):
            reported = probe.collect_gpu_processes(self.host, probe.Request({}), memo)
        self.assertEqual((len(reported["processes"]), reported["complete"]), (1, {"drm": False}))

    def test_clients_of_a_process_add_up_and_a_shared_one_counts_once(self):
        self.opens(10, 5, 1, 100)
        self.opens(10, 6, 2, 200)
        self.opens(10, 7, 2, 200)
        self.opens(11, 3, 2, 200)  # inherited
        self.assertEqual(self.reported(), {10: 300 << 10})

    def test_a_new_process_is_looked_at_twice_and_an_old_one_every_ten_minutes(self):
        self.tree.link("/proc/10/fd/0", "/dev/null")
        self.assertEqual(self.reported(), {})
        self.tree.link("/proc/11/fd/0", "/dev/null")
        self.assertEqual(self.reported(), {})
        self.assertEqual(self.host.asked, ["/proc/1/fd", "/proc/11/fd"])  # the first one: whether one may look at all
        self.opens(11, 4, 1, 100)
        self.assertEqual(self.reported(), {11: 100 << 10})
        self.opens(10, 4, 2, 300)
        self.assertEqual(self.reported(), {11: 100 << 10})
        self.assertNotIn("/proc/10/fd", self.host.asked)
        self.assertEqual(self.reported(600), {10: 300 << 10, 11: 100 << 10})

    def test_what_a_card_holds_is_read_each_time(self):
        self.opens(10, 4, 1, 100)
        self.reported()
        self.tree.write("/proc/10/fdinfo/4", CLIENT.format(1, 900))
        self.assertEqual(self.reported(), {10: 900 << 10})

    def test_a_sleeping_card_is_not_asked(self):
        self.opens(10, 4, 1, 100)
        self.tree.write("/sys/bus/pci/devices/" + RADEON + "/power/runtime_status", "suspended\n")
        self.assertEqual(self.reported(), {})
        self.assertEqual(self.host.asked, ["/proc/1/fd"])

    def test_who_may_not_look_says_so_and_reports_what_rocm_says_to_everybody(self):
        host = Tree(self)
        host.card(RADEON, "0x1002", "amdgpu", power__runtime_status="active\n")
        kfd = "/sys/class/kfd/kfd/"
        host.files(kfd + "topology/nodes/0", gpu_id="0\n", properties="location_id 0\ndomain 0\n")
        host.files(kfd + "topology/nodes/1", gpu_id="51545\n", properties="simd_count 8\nlocation_id 768\ndomain 0\n")
        host.write(kfd + "proc/77/vram_51545", "4096\n")
        host.write("/proc/77/comm", "llama-server\n")
        row = {"gpu": RADEON, "pid": 77, "memory_bytes": 4096, "name": "llama-server"}
        expected = {"complete": {"drm": False}, "processes": [row]}
        self.assertEqual(section(host.host(), "gpu_processes"), (expected, None, None))

    def test_an_address_of_rocm_is_one_of_pci(self):
        reported = probe.kfd_address("location_id 33563\ndomain 1\n")
        self.assertEqual(reported, "0001:83:03.3")


if __name__ == "__main__":
    unittest.main()
