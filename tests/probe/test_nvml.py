"""NVIDIA's library, really loaded through ctypes: a stand-in with its structs, compiled here."""

import ctypes
import os
import shutil
import subprocess
import tempfile
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

    def nvml(self):
        return probe.Nvml()

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
        told, missing, error = section(self.host, "gpu")
        self.assertEqual((missing, error), (None, None))
        return told["gpus"]

    def test_every_value_is_in_the_contracts_unit(self):
        told, _, _ = section(self.host, "gpu")
        self.assertEqual((told["driver"], told["source"]), ("570.195.03", "nvml"))
        self.assertEqual(
            told["gpus"][0],
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

    def test_what_a_card_does_not_tell_is_left_out(self):
        small = self.gpus()[1]
        self.assertEqual(small["usage_percent"], 0)
        for field in ("power_watts", "power_limit_watts", "fan_percent"):
            self.assertNotIn(field, small)
        self.assertEqual(small["throttle_reasons"], [])  # idle is no reason

    def test_an_old_library_knows_the_old_memory_struct(self):
        self.fake.fake_set(0, -1, 0)
        self.assertEqual(self.gpus()[0]["memory_used_bytes"], 5769803776)

    def test_the_library_is_closed_after_every_reading(self):
        self.gpus()
        self.assertEqual(self.fake.fake_opened(), 0)
        self.fake.fake_set(0, 0, 1)
        self.gpus()
        self.assertEqual(self.fake.fake_opened(), 0)

    def test_a_card_that_fell_off_the_bus_is_lost_and_the_other_is_told(self):
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

    def test_after_an_error_an_old_process_ends_and_a_young_one_stays(self):
        one = probe.Probe(self.host)
        section(self.host, "gpu", one)
        self.fake.fake_set(MISMATCH, -1, 1)
        section(self.host, "gpu", one)
        self.assertFalse(probe.is_stale(one))
        self.host.passed = 120.0
        section(self.host, "gpu", one)
        self.assertTrue(probe.is_stale(one))

    def test_a_card_that_another_container_has_is_none_of_ours(self):
        self.tree.card("0000:0c:00.0", "0x10de", "nvidia")
        self.tree.write("/run/systemd/container", "lxc")
        self.assertEqual([gpu["pci_address"] for gpu in self.gpus()], [BIG, SMALL])


if __name__ == "__main__":
    unittest.main()
