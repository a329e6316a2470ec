"""NVIDIA's library, really loaded through ctypes: a stand-in with its structs, compiled here."""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
import unittest

from place import HERE, probe
from tree import Tree, section

COMPILER = shutil.which("cc")
BIG, SMALL = "0000:0a:00.0", "0000:0b:00.0"
MISMATCH = 18


class NvmlHost(probe.RecordedHost):
    """A recorded machine with a library and a clock of the test's own."""

    library = ""
    passed = 0.0

    def load_library(self, name):
        return ctypes.CDLL(name)

    def boottime(self):
        return super().boottime() + self.passed


@unittest.skipUnless(COMPILER, "needs a C compiler")
class Nvml(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        path = os.path.join(cls.folder, "libnvidia-ml.so.1")
        subprocess.check_call([COMPILER, "-shared", "-fPIC", "-o", path, os.path.join(HERE, "fake_nvml.c")])
        cls.libraries, probe.NVML_LIBRARIES = probe.NVML_LIBRARIES, (path,)
        cls.fake = ctypes.CDLL(path)

    @classmethod
    def tearDownClass(cls):
        probe.NVML_LIBRARIES = cls.libraries
        shutil.rmtree(cls.folder)

    def setUp(self):
        self.fake.fake_set(0, -1, 1)
        self.tree = Tree(self)
        self.tree.card(BIG, "0x10de", "nvidia", power__runtime_status="active\n")
        self.tree.card(SMALL, "0x10de", "nvidia", power__runtime_status="active\n")
        self.tree.write("/dev/nvidiactl")
        self.host = NvmlHost(self.tree.folder)

    def gpus(self):
        reported, missing, error = section(self.host, "gpu")
        self.assertEqual((missing, error), (None, None))
        return reported["gpus"]

    def test_every_value_is_in_the_contracts_unit(self):
        reported, _, _ = section(self.host, "gpu")
        self.assertEqual((reported["driver"], reported["source"]), ("570.195.03", "nvml"))
        self.assertEqual(
            reported["gpus"][0],
            {
                "id": "GPU-aaaaaaaa-0000-0000-0000-000000000001",
                "vendor": "nvidia",
                "name": "NVIDIA GeForce RTX 3090",
                "uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000001",
                "state": "ok",
                "pci_address": BIG,
                "usage_percent": 97,
                "memory_total_bytes": 25769803776,
                "memory_used_bytes": 5369803776,  # without the driver's reserve, as nvidia-smi
                "temperature_celsius": 71,
                "power_watts": 214.553,
                "power_limit_watts": 350.0,
                "fan_percent": 0,
                "clock_hz": 1695000000,
                "memory_clock_hz": 9751000000,
                "throttle_reasons": ["thermal", "power"],
            },
        )

    def test_what_a_card_does_not_report_is_left_out(self):
        small = self.gpus()[1]
        self.assertEqual(small["usage_percent"], 0)
        for field in ("power_watts", "power_limit_watts", "fan_percent"):
            self.assertNotIn(field, small)
        self.assertEqual(small["throttle_reasons"], [])  # idle is no reason

    def test_a_slowdown_by_heat_or_power_is_none_by_the_hardware_as_well(self):
        for bits, reasons in ((0x48, ["thermal"]), (0x88, ["power"]), (0x8, ["hardware"]), (0x1, [])):
            self.assertEqual(probe.throttle_reasons(bits), reasons)

    def test_an_old_library_knows_the_old_memory_struct(self):
        self.fake.fake_set(0, -1, 0)
        self.assertEqual(self.gpus()[0]["memory_used_bytes"], 5769803776)

    def test_the_library_is_closed_after_every_reading(self):
        self.gpus()
        self.assertEqual(self.fake.fake_opened(), 0)
        self.fake.fake_set(0, 0, 1)
        self.gpus()
        self.assertEqual(self.fake.fake_opened(), 0)

    def test_a_card_that_fell_off_the_bus_is_lost_and_the_other_is_reported(self):
        self.fake.fake_set(0, 0, 1)
        self.tree.write("/proc/driver/nvidia/gpus/" + BIG + "/information", "Model: \t NVIDIA GeForce RTX 3090\n")
        lost, other = self.gpus()
        self.assertEqual((lost["state"], lost["id"], lost["name"]), ("lost", BIG, "NVIDIA GeForce RTX 3090"))
        self.assertNotIn("usage_percent", lost)
        self.assertEqual(other["state"], "ok")

    def test_a_sleeping_card_is_not_touched(self):
        self.tree.write("/sys/bus/pci/devices/" + BIG + "/power/runtime_status", "suspended\n")
        before = self.fake.fake_asked(0)
        other, asleep = self.gpus()
        self.assertEqual((asleep["state"], asleep["pci_address"]), ("suspended", BIG))
        self.assertEqual((other["state"], other["pci_address"]), ("ok", SMALL))
        self.assertEqual(self.fake.fake_asked(0), before)

    def test_with_all_cards_asleep_the_library_is_not_even_opened(self):
        for address in (BIG, SMALL):
            self.tree.write("/sys/bus/pci/devices/" + address + "/power/runtime_status", "suspended\n")
        self.fake.fake_set(MISMATCH, -1, 1)
        self.assertEqual([gpu["state"] for gpu in self.gpus()], ["suspended", "suspended"])

    def test_a_broken_driver_is_an_error_in_its_own_words(self):
        self.fake.fake_set(MISMATCH, -1, 1)
        self.assertEqual(section(self.host, "gpu"), (None, None, "NVML: Driver/library version mismatch"))

    def test_a_driver_that_is_broken_for_good_ends_no_process(self):
        self.fake.fake_set(MISMATCH, -1, 1)
        one = probe.Probe(self.host)
        for self.host.passed in range(0, 7200, 60):
            self.assertEqual(section(self.host, "gpu", one)[2], "NVML: Driver/library version mismatch")
            self.assertFalse(probe.is_stale(one))

    def test_a_driver_that_broke_after_ten_minutes_ends_the_process_once(self):
        one = probe.Probe(self.host)
        section(self.host, "gpu", one)
        self.fake.fake_set(MISMATCH, -1, 1)
        self.host.passed = 590.0
        section(self.host, "gpu", one)
        self.assertFalse(probe.is_stale(one))
        self.host.passed = 610.0
        section(self.host, "gpu", one)
        self.assertTrue(probe.is_stale(one))
        following = probe.Probe(self.host)  # what the next process is like: it never worked there
        self.host.passed = 7200.0
        section(self.host, "gpu", following)
        self.assertFalse(probe.is_stale(following))

    def test_a_library_that_was_replaced_ends_the_process_at_its_first_error(self):
        one = probe.Probe(self.host)
        section(self.host, "gpu", one)
        self.replace_library()
        section(self.host, "gpu", one)
        self.assertFalse(probe.is_stale(one))  # the old one still fits the kernel's module
        self.fake.fake_set(MISMATCH, -1, 1)
        section(self.host, "gpu", one)
        self.assertTrue(probe.is_stale(one))

    def test_a_card_that_fails_is_lost_and_when_all_fail_it_is_the_driver(self):
        self.fake.fake_fails(0, 999)
        self.assertEqual([gpu["state"] for gpu in self.gpus()], ["lost", "ok"])
        self.tree.write("/sys/bus/pci/devices/" + SMALL + "/power/runtime_status", "suspended\n")
        self.assertEqual(section(self.host, "gpu")[2], "NVML: Unknown Error")

    def test_a_call_that_never_returns_costs_only_its_section_and_heals(self):
        one = probe.Probe(self.host)
        self.tree.write("/proc/loadavg", "0.13 0.18 0.12 1/86 5288\n")
        self.addCleanup(self.fake.fake_hangs, 0)
        self.fake.fake_hangs(1)
        asked = self.fake.fake_asked(0)
        request = probe.Request({"id": "1", "sections": ["gpu", "load", "gpu_processes"], "timeout": 1})
        for _ in range(2):
            begun = time.monotonic()
            reply = one.answer(request)
            self.assertLess(time.monotonic() - begun, 2.0)
            self.assertEqual(reply["missing"], {"gpu": "timed_out"})
            self.assertEqual(set(reply["sections"]), {"load", "gpu_processes"})
        self.fake.fake_hangs(0)
        time.sleep(0.1)
        self.assertIn("gpu", one.answer(request)["sections"])
        # Twice for each list of processes; for the cards once before it hung, and once after.
        self.assertEqual(self.fake.fake_asked(0) - asked, 3 + 2)

    def processes(self):
        reported, missing, error = section(self.host, "gpu_processes")
        self.assertEqual((missing, error), (None, None))
        return reported

    def test_processes_are_reported_with_their_memory_name_and_owner(self):
        self.tree.write("/proc/2000/comm", "ollama\n")
        self.tree.write("/proc/2000/cgroup", "0::/system.slice/ollama.service\n")
        self.addCleanup(self.fake.fake_processes, 2)
        uuid = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
        expected = [
            {"gpu": uuid, "pid": 2000, "memory_bytes": 1000 << 20, "name": "ollama", "unit": "ollama.service"},
            {"gpu": uuid, "pid": 2001, "name": ""},  # gone meanwhile; the driver does not tell its memory
        ]
        self.assertEqual(self.processes(), {"complete": {"nvidia": True}, "processes": expected})
        self.fake.fake_processes(300)
        self.assertEqual([one["pid"] for one in self.processes()["processes"]][:3], [2000, 2002, 2004])
        self.assertEqual(len(self.processes()["processes"]), probe.MOST_PROCESSES)
        self.assertEqual(self.fake.fake_opened(), 0)

    def test_a_lost_card_has_no_processes_and_a_broken_driver_is_an_error(self):
        self.fake.fake_set(0, 0, 1)
        self.assertEqual(self.processes()["processes"], [])
        self.fake.fake_set(MISMATCH, -1, 1)
        self.assertEqual(section(self.host, "gpu_processes")[2], "NVML: Driver/library version mismatch")

    def test_with_all_cards_asleep_nobody_is_asked_for_processes(self):
        for address in (BIG, SMALL):
            self.tree.write("/sys/bus/pci/devices/" + address + "/power/runtime_status", "suspended\n")
        self.fake.fake_set(MISMATCH, -1, 1)
        self.assertEqual(self.processes()["processes"], [])

    def test_in_a_container_the_numbers_of_processes_are_those_of_its_host(self):
        self.tree.write("/run/systemd/container", "lxc")
        self.assertEqual(self.processes(), {"complete": {"nvidia": False}, "processes": []})

    def replace_library(self):
        """Do what an update of the driver does: another file under the old name."""
        path = probe.NVML_LIBRARIES[0]
        shutil.copy(path, path + ".new")
        os.rename(path + ".new", path)

    def test_a_card_that_another_container_has_is_none_of_ours(self):
        self.tree.card("0000:0c:00.0", "0x10de", "nvidia")
        self.tree.write("/run/systemd/container", "lxc")
        self.assertEqual([gpu["pci_address"] for gpu in self.gpus()], [BIG, SMALL])


if __name__ == "__main__":
    unittest.main()
