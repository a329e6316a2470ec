"""AMD and Intel cards, temperature chips, interfaces, disks: small machines made of a few files of sysfs."""

import os
import unittest
from unittest.mock import patch

from place import probe
from tree import Tree, section

RADEON = "0000:03:00.0"
IGPU = "0000:00:02.0"
PCI = "/sys/bus/pci/devices/"


class BusyOnce(probe.RecordedHost):
    """A machine whose firmware is busy at the first question."""

    asked = 0

    def number(self, path):
        if path.endswith("gpu_busy_percent"):
            self.asked += 1
            if self.asked == 1:
                return None  # EBUSY
        return super().number(path)


class Clock(probe.RecordedHost):
    """A machine whose clock the test moves."""

    passed = 0.0

    def boottime(self):
        return super().boottime() + self.passed


class Cards(unittest.TestCase):
    def setUp(self):
        self.tree = Tree(self)

    def amd(self, **more):
        files = dict(
            {
                "power__runtime_status": "active\n",
                "gpu_busy_percent": "37\n",
                "mem_info_vram_total": "17163091968\n",
                "mem_info_vram_used": "1000000000\n",
                "mem_info_gtt_total": "8000000000\n",
                "mem_info_gtt_used": "50000000\n",
                "gpu_metrics": b"\x78\x00\x01\x03" + bytes(116),
                "unique_id": "9c1d2e3f4a5b6c7d\n",
            },
            **more,
        )
        self.tree.card(RADEON, "0x1002", "amdgpu", **files)
        monitor = {
            "temp1_input": "48000\n",
            "power1_average": "41000000\n",
            "power1_cap": "272000000\n",
            "pwm1": "51\n",
            "pwm1_max": "255\n",
            "freq1_input": "1700000000\n",
            "freq2_input": "96000000\n",
        }
        self.tree.files(PCI + RADEON + "/hwmon/hwmon4", **monitor)

    def gpu(self, host=None):
        reported, missing, error = section(host or self.tree.host(), "gpu")
        self.assertEqual((missing, error), (None, None))
        return reported["gpus"][0]

    def test_a_radeon_reports_all_its_values(self):
        self.amd()
        self.assertEqual(
            self.gpu(),
            {
                "id": RADEON,
                "vendor": "amd",
                "name": "AMD GPU 0x1234",
                "pci_address": RADEON,
                "state": "ok",
                "uuid": "9c1d2e3f4a5b6c7d",
                "usage_percent": 37,
                "memory_total_bytes": 17163091968,
                "memory_used_bytes": 1000000000,
                "temperature_celsius": 48.0,
                "power_watts": 41.0,
                "power_limit_watts": 272.0,
                "fan_percent": 20,
                "clock_hz": 1700000000,
                "memory_clock_hz": 96000000,
                "throttle_reasons": [],
            },
        )

    def test_a_radeon_that_is_slowed_down_says_why(self):
        for bit, reasons in ((0, ["power"]), (16, ["power"]), (36, ["thermal"]), (47, ["hardware"]), (57, [])):
            for version, offset in ((b"\x01\x03", 112), (b"\x02\x02", 120)):
                with self.subTest(bit, version=version):
                    table = b"\x80\x00" + version + bytes(offset - 4) + (1 << bit).to_bytes(8, "little")
                    self.assertEqual(probe.amd_throttle_reasons(table), reasons)
        untold = b"\x78\x00\x01\x03" + bytes(108) + b"\xff" * 8
        for table in (untold, untold[:60], b"", b"\x60\x00\x01\x01" + bytes(92), b"\x08\x01\x03\x00" + bytes(260)):
            self.assertIsNone(probe.amd_throttle_reasons(table))

    def test_the_edge_stands_for_a_card_and_an_accelerator_without_one_has_its_junction(self):
        self.amd()
        folder = PCI + RADEON + "/hwmon/hwmon4"
        self.tree.files(folder, temp1_label="junction", temp2_label="edge", temp2_input="51000")
        self.assertEqual(self.gpu()["temperature_celsius"], 51.0)
        self.tree.files(folder, temp2_label="mem")
        self.assertEqual(self.gpu()["temperature_celsius"], 48.0)

    def test_a_fan_without_percent_reports_its_turns(self):
        self.amd()
        os.remove(self.tree.folder + PCI + RADEON + "/hwmon/hwmon4/pwm1")
        self.tree.files(PCI + RADEON + "/hwmon/hwmon4", fan1_input="1180\n")
        gpu = self.gpu()
        self.assertEqual((gpu["fan_rpm"], gpu.get("fan_percent")), (1180, None))

    def test_a_fan_whose_driver_names_no_most_runs_at_most_at_255(self):
        # Documentation/hwmon/sysfs-interface.rst: pwm1 is 0 to 255.
        self.amd()
        os.remove(self.tree.folder + PCI + RADEON + "/hwmon/hwmon4/pwm1_max")
        self.assertEqual(self.gpu()["fan_percent"], 20)

    def test_a_card_that_draws_nothing_draws_zero_watts(self):
        self.amd()
        self.tree.files(PCI + RADEON + "/hwmon/hwmon4", power1_average="0\n", power1_input="9000000\n")
        self.assertEqual(self.gpu()["power_watts"], 0.0)

    def test_a_card_that_may_fall_asleep_is_not_kept_awake(self):
        self.amd(power__control="auto\n", power__autosuspend_delay_ms="10000\n")
        one, moved = probe.Probe(Clock(self.tree.folder)), "/sys/bus/pci/devices/" + RADEON + "/gpu_busy_percent"
        usages = []
        for seconds, usage in ((0, 37), (10, 50), (20, 60), (30, 70)):
            one.host.passed = seconds
            self.tree.write(moved, usage)
            usages.append(section(None, "gpu", one)[0]["gpus"][0]["usage_percent"])
        self.assertEqual(usages, [37, 37, 60, 60])
        self.tree.write("/sys/bus/pci/devices/" + RADEON + "/power/control", "on\n")
        self.assertEqual(section(None, "gpu", one)[0]["gpus"][0]["usage_percent"], 70)

    def test_a_card_of_the_old_driver_has_its_temperature(self):
        self.tree.card(RADEON, "0x1002", "radeon", power__runtime_status="active\n")
        self.tree.files(PCI + RADEON + "/hwmon/hwmon4", temp1_input="62000\n")
        self.assertEqual(self.gpu()["temperature_celsius"], 62.0)

    def test_a_busy_firmware_is_asked_again_once(self):
        self.amd()
        host = BusyOnce(self.tree.folder)
        self.assertEqual(self.gpu(host)["usage_percent"], 37)
        self.assertEqual(host.asked, 2)

    def test_an_apu_counts_the_memory_that_it_shares_too(self):
        for version in (b"\x02\x02", b"\x03\x00"):
            self.tree = Tree(self)
            self.amd(gpu_metrics=b"\x78\x00" + version + bytes(116), mem_info_vram_total="2147483648\n")
            gpu = self.gpu()
            self.assertEqual(gpu["memory_total_bytes"], 2147483648 + 8000000000)
            self.assertEqual(gpu["memory_used_bytes"], 1050000000)

    def test_a_sleeping_radeon_is_left_asleep(self):
        self.amd(power__runtime_status="suspended\n")
        gpu = self.gpu()
        self.assertEqual(gpu["state"], "suspended")
        self.assertNotIn("usage_percent", gpu)

    def test_the_name_comes_from_the_list_of_pci_ids(self):
        self.amd()
        listed = (
            "# comment\n0e11  Compaq\n\t1234  Not this one\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n"
            "\t1233  Other\n\t1234  Navi 31 [Radeon RX 7900 XT/7900 XTX]\n\t\t1043 0506  A board\n10de  NVIDIA\n"
        )
        self.tree.write("/usr/share/misc/pci.ids", listed)
        self.assertEqual(self.gpu()["name"], "AMD Radeon RX 7900 XT/7900 XTX")

    def test_an_intel_card_has_a_name_and_a_state(self):
        self.tree.card(IGPU, "0x8086", "i915", power__runtime_status="suspended\n")
        reported = {
            "id": IGPU,
            "vendor": "intel",
            "name": "Intel GPU 0x1234",
            "pci_address": IGPU,
            "state": "suspended",
        }
        self.assertEqual(self.gpu(), reported)

    def test_an_intel_card_reports_clock_heat_and_why_it_is_slow(self):
        self.tree.card(IGPU, "0x8086", "i915", power__runtime_status="active\n")
        self.tree.files(PCI + IGPU + "/drm/renderD128", dev="226:128\n")
        clocks = PCI + IGPU + "/drm/card1/gt/gt0"
        self.tree.files(clocks, rps_act_freq_mhz="1150\n", throttle_reason_status="0\n", throttle_reason_thermal="1\n")
        monitor = {"temp1_input": "61000", "power1_max": "190000000", "fan1_input": "900"}
        self.tree.files(PCI + IGPU + "/hwmon/hwmon3", **monitor)
        gpu = self.gpu()
        reported = {key: gpu[key] for key in ("clock_hz", "temperature_celsius", "power_limit_watts", "fan_rpm")}
        expected = {"clock_hz": 1150000000, "temperature_celsius": 61.0, "power_limit_watts": 190.0, "fan_rpm": 900}
        self.assertEqual((reported, gpu["throttle_reasons"]), (expected, []))
        self.tree.files(clocks, throttle_reason_status="1\n", throttle_reason_pl1="1\n")
        self.assertEqual(self.gpu()["throttle_reasons"], ["thermal", "power"])

    def test_an_intel_card_of_the_new_driver_reports_the_same(self):
        self.tree.card(IGPU, "0x8086", "xe", power__runtime_status="active\n")
        folder = PCI + IGPU + "/tile0/gt0/freq0"
        self.tree.files(folder, act_freq="0\n", throttle__status="1\n", throttle__reason_prochot="1\n")
        gpu = self.gpu()
        self.assertEqual((gpu["clock_hz"], gpu["throttle_reasons"]), (0, ["hardware"]))

    def test_cards_of_virtual_machines_and_servers_are_none(self):
        self.tree.card("0000:01:00.0", "0x10de", "vfio-pci")  # given to a VM
        self.tree.card("0000:02:00.0", "0x1a03", "ast")  # a server's console
        self.tree.card("0000:04:00.0", "0x8086")  # nobody uses it
        self.tree.card("0000:05:00.0", "0x8086", "intel_vpu", **{"class": "0x120000"})  # NPU
        self.assertEqual(section(self.tree.host(), "gpu"), (None, "not_installed", None))

    def test_a_container_does_not_have_the_cards_of_its_host(self):
        self.amd()
        self.tree.card("0000:01:00.0", "0x10de", "nvidia")
        self.tree.write("/run/systemd/container", "lxc\n")
        self.assertEqual(section(self.tree.host(), "gpu"), (None, "not_installed", None))
        self.tree.write("/dev/dri/renderD128")
        self.assertEqual(self.gpu()["vendor"], "amd")

    def test_an_nvidia_driver_without_its_programs_is_broken_not_absent(self):
        self.tree.card("0000:01:00.0", "0x10de", "nvidia")
        reported, missing, error = section(self.tree.host(), "gpu")
        self.assertEqual((reported, missing), (None, None))
        self.assertIn("nvidia-smi", error)

    def test_an_nvidia_card_that_nobody_set_up_is_none(self):
        self.tree.card("0000:01:00.0", "0x10de")
        self.assertEqual(section(self.tree.host(), "gpu"), (None, "not_installed", None))

    def test_an_nvidia_card_of_the_free_driver_has_a_name(self):
        self.tree.card("0000:01:00.0", "0x10de", "nouveau")
        self.assertEqual(self.gpu()["name"], "NVIDIA GPU 0x1234")


class Chips(unittest.TestCase):
    def setUp(self):
        self.tree = Tree(self)

    def sensors(self, one=None):
        return section(self.tree.host(), "sensors", one)[0]

    def test_a_package_stands_for_its_cores(self):
        files = {"temp1_input": "61000", "temp1_label": "Package id 0", "temp1_max": "84000", "temp1_crit": "100000"}
        cores = {"temp2_input": "58000", "temp2_label": "Core 0", "temp3_input": "61000", "temp3_label": "Core 1"}
        self.tree.chip(0, "platform/coretemp.0/hwmon", "coretemp", **dict(files, **cores))
        reported = self.sensors()
        expected = {"id": "coretemp/coretemp.0/temp1", "chip": "coretemp", "label": "Package id 0", "celsius": 61.0}
        self.assertEqual(reported["temperatures"], [dict(expected, max_celsius=84.0, critical_celsius=100.0)])
        self.assertEqual((reported["cpu_celsius"], reported["cpu_critical_celsius"]), (61.0, 100.0))

    def test_two_sockets_show_the_hotter_one(self):
        for number, value in ((0, "51000"), (1, "66000")):
            place = "platform/coretemp." + str(number) + "/hwmon"
            self.tree.chip(number, place, "coretemp", temp1_input=value, temp1_label="Package id " + str(number))
        reported = self.sensors()
        self.assertEqual((reported["cpu_celsius"], len(reported["temperatures"])), (66.0, 2))

    def test_the_die_is_truer_than_the_control_value(self):
        files = {"temp1_input": "77000", "temp1_label": "Tctl", "temp2_input": "50000", "temp2_label": "Tdie"}
        self.tree.chip(0, "pci0000:00/0000:00:18.3/hwmon", "k10temp", **files)
        reported = self.sensors()
        self.assertEqual(reported["cpu_celsius"], 50.0)
        self.assertEqual(reported["temperatures"][0]["id"], "k10temp/0000:00:18.3/temp1")

    def test_the_id_of_an_nvme_is_its_place_not_its_number(self):
        place = "pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0"
        self.tree.chip(7, place, "nvme", temp1_input="38850", temp1_label="Composite", temp1_max="65261850")
        one = self.sensors()["temperatures"][0]
        self.assertEqual(one, {"id": "nvme/0000:3d:00.0/temp1", "chip": "nvme", "label": "Composite", "celsius": 38.9})

    def test_a_hot_drive_or_chipset_is_not_the_cpu(self):
        self.tree.chip(0, "virtual/thermal/thermal_zone0", "acpitz", temp1_input="95000")
        self.assertNotIn("cpu_celsius", self.sensors())

    def test_a_pi_without_a_chip_has_its_thermal_zone(self):
        zone = "/sys/class/thermal/thermal_zone0"
        self.tree.files(
            zone, type="cpu-thermal", temp="48312", trip_point_0_type="critical", trip_point_0_temp="110000"
        )
        self.tree.files("/sys/class/thermal/thermal_zone1", type="gpu-thermal", temp="80000")
        reported = self.sensors()
        self.assertEqual((reported["cpu_celsius"], reported["cpu_critical_celsius"]), (48.3, 110.0))

    def test_a_zone_that_is_a_chip_too_is_reported_once(self):
        self.tree.chip(0, "virtual/thermal/thermal_zone0", "cpu_thermal", temp1_input="48312")
        self.tree.files("/sys/class/thermal/thermal_zone0", type="cpu-thermal", temp="48312")
        self.assertEqual(len(self.sensors()["temperatures"]), 1)

    def swap(self, folder, one, other):
        """Give two things each other's names."""
        for before, after in ((one, "x"), (other, one), ("x", other)):
            os.rename(self.tree.folder + folder + before, self.tree.folder + folder + after)

    def test_chips_that_change_numbers_between_two_polls_keep_their_own_values(self):
        board = {"temp1_input": "31000", "temp1_label": "SYSTIN", "fan1_input": "700"}
        self.tree.chip(0, "platform/nct6775.656/hwmon", "nct6775", **board)
        self.tree.chip(1, "pci0000:00/0000:00:18.3/hwmon", "k10temp", temp1_input="71000", temp1_label="Tctl")
        one = probe.Probe(self.tree.host())
        before = section(None, "sensors", one)[0]
        self.assertEqual(before["cpu_celsius"], 71.0)
        # As the kernel shows it after rmmod of both, and modprobe in the other order.
        for number in (0, 1):
            os.remove(self.tree.folder + f"/sys/class/hwmon/hwmon{number}")
        for number, place in ((0, "platform/nct6775.656"), (1, "pci0000:00/0000:00:18.3")):
            folder = self.tree.folder + "/sys/devices/" + place + "/hwmon/hwmon"
            os.rename(folder + str(number), folder + str(1 - number))
            self.tree.link(f"/sys/class/hwmon/hwmon{1 - number}", f"../../devices/{place}/hwmon/hwmon{1 - number}")
        reported = section(None, "sensors", one)[0]
        self.assertEqual((reported["cpu_celsius"], reported["fans"]), (71.0, before["fans"]))
        by_id = {each["id"]: each["celsius"] for each in reported["temperatures"]}
        self.assertEqual(by_id, {each["id"]: each["celsius"] for each in before["temperatures"]})

    def test_a_chip_that_took_the_number_of_another_is_not_that_one(self):
        # A disk in a bay: the same number, the same place, another disk.
        place = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/hwmon"
        self.tree.chip(0, place, "drivetemp", temp1_input="34000", device__wwid="naa.5000c500a1b2c3d4\n")
        one = probe.Probe(self.tree.host())
        self.assertEqual(
            section(None, "sensors", one)[0]["temperatures"][0]["id"], "drivetemp/naa.5000c500a1b2c3d4/temp1"
        )
        folder = self.tree.folder + "/sys/devices/" + place
        os.rename(folder, folder + "-old")
        os.remove(self.tree.folder + "/sys/class/hwmon/hwmon0")
        self.tree.chip(0, place, "drivetemp", temp1_input="51000", device__wwid="naa.5000c500deadbeef\n")
        reported = section(None, "sensors", one)[0]["temperatures"][0]
        self.assertEqual((reported["id"], reported["celsius"]), ("drivetemp/naa.5000c500deadbeef/temp1", 51.0))

    def test_thermal_zones_that_change_numbers_are_read_by_their_kind(self):
        self.tree.files("/sys/class/thermal/thermal_zone0", type="cpu-thermal", temp="48312")
        self.tree.files("/sys/class/thermal/thermal_zone1", type="gpu-thermal", temp="80000")
        one = probe.Probe(self.tree.host())
        self.assertEqual(section(None, "sensors", one)[0]["cpu_celsius"], 48.3)
        self.swap("/sys/class/thermal/", "thermal_zone0", "thermal_zone1")
        self.assertEqual(section(None, "sensors", one)[0]["cpu_celsius"], 48.3)

    def test_what_does_not_change_is_planned_once(self):
        self.tree.chip(0, "pci0000:00/0000:00:18.3/hwmon", "k10temp", temp1_input="71000", temp1_label="Tctl")
        self.tree.files("/sys/class/thermal/thermal_zone0", type="cpu-thermal", temp="48312")
        one, planned = probe.Probe(self.tree.host()), []
        plan = probe.plan_inputs
        with patch.object(probe, "plan_inputs", lambda host: planned.append(1) or plan(host)):
            for _ in range(4):
                section(None, "sensors", one)
        self.assertLessEqual(len(planned), 2)

    def test_graphics_cards_are_reported_in_their_own_section(self):
        self.tree.chip(0, "pci0000:00/0000:03:00.0/hwmon", "amdgpu", temp1_input="48000")
        self.assertEqual(section(self.tree.host(), "sensors"), (None, "not_supported", None))

    def test_a_chip_whose_device_sleeps_is_left_asleep(self):
        place = "pci0000:00/0000:3d:00.0"
        self.tree.chip(0, place + "/nvme/nvme0", "nvme", temp1_input="30000")
        self.tree.write("/sys/devices/" + place + "/power/runtime_status", "suspended\n")
        reported = self.sensors()
        self.assertEqual((reported["temperatures"], reported["asleep"]), ([], ["nvme/0000:3d:00.0/temp1"]))

    def test_a_disk_is_asked_for_its_temperature_only_when_it_has_just_worked(self):
        place = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
        self.tree.chip(0, place + "/hwmon", "drivetemp", temp1_input="34000", device__wwid="naa.5000c500a1b2c3d4\n")
        folder = "/sys/class/hwmon/hwmon0/device/"
        self.tree.files(folder, model="ST8000VN004\n", block__sda__x="")
        self.tree.files("/sys/block/sda", queue__rotational="1\n", stat="10 0 800 5 20 0 1600 5 0 5 5\n")
        one = probe.Probe(self.tree.host())
        ids = ["drivetemp/naa.5000c500a1b2c3d4/temp1"]
        for _ in range(2):  # a disk that did nothing may stand still
            reported = section(None, "sensors", one)[0]
            self.assertEqual((reported["temperatures"], reported["asleep"]), ([], ids))
        self.tree.write("/sys/block/sda/stat", "11 0 808 5 20 0 1600 5 0 5 5\n")
        reported = section(None, "sensors", one)[0]
        self.assertEqual(
            [(one["id"], one["label"], one["celsius"]) for one in reported["temperatures"]],
            [(ids[0], "ST8000VN004", 34.0)],
        )
        self.assertEqual(section(None, "sensors", one)[0]["asleep"], ids)

    def test_a_solid_state_disk_may_be_asked_at_any_time(self):
        place = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
        self.tree.chip(0, place + "/hwmon", "drivetemp", temp1_input="34000", device__wwid="t10.ATA  SSD  S1\n")
        self.tree.files("/sys/class/hwmon/hwmon0/device", block__sda__x="")
        self.tree.files("/sys/block/sda", queue__rotational="0\n", stat="10 0 800 5 20 0 1600 5 0 5 5\n")
        self.assertEqual(self.sensors()["temperatures"][0]["id"], "drivetemp/t10.ATA_SSD_S1/temp1")


NAMES = (
    "lo eth0 wlan0 br0 docker0 br-0123456789ab veth12ab tap100i0 vmbr0 fwbr100i0 vlan20 bond0 wg0 tun0 zt7nnig26 pair0"
    " cali12 dummy0"
)
NET_DEV = "Inter-|\n face |\n" + "".join(f"{name}: 100 2 0 0 0 0 0 0 200 3 0 0 0 0 0 0\n" for name in NAMES.split())


class Interfaces(unittest.TestCase):
    def setUp(self):
        self.more = {}

    def network(self, *cards, **types):
        tree = Tree(self)
        tree.write(
            "/proc/net/dev", NET_DEV + "".join(f"{name}: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n" for name in self.more)
        )
        folder = "/sys/class/net/"
        for card in cards:
            tree.write(folder + card + "/device/x")
        for name, devtype in types.items():
            tree.write(folder + name + "/uevent", "INTERFACE=" + name + "\nDEVTYPE=" + devtype + "\n")
        tree.write(folder + "wlan0/phy80211/x")
        for name in ("tun0", "zt7nnig26"):
            tree.write(folder + name + "/tun_flags", "0x1001")
        tree.files(folder + "pair0", ifindex="7", iflink="12")
        for name, links in self.more.items():
            tree.files(folder + name, ifindex="9", iflink="2")
            for link in links:
                tree.write(folder + name + "/" + link + "/x")
        tree.write("/proc/net/route", "Iface\n")
        return section(tree.host(), "network")[0]

    def test_a_users_own_interfaces_count_and_those_of_engines_do_not(self):
        types = {"br0": "bridge", "vmbr0": "bridge", "vlan20": "vlan", "bond0": "bond", "wg0": "wireguard"}
        reported = self.network("eth0", "wlan0", docker0="bridge", **types)
        expected = {"eth0", "wlan0", "br0", "vmbr0", "vlan20", "bond0", "wg0", "tun0", "zt7nnig26"}
        self.assertEqual(set(reported["interfaces"]), expected)
        self.assertNotIn("primary", reported)

    def test_a_macvlan_of_the_users_counts_beside_real_cards_and_a_virtual_machines_tap_does_not(self):
        # As Linux 6.18 shows them: neither has a DEVTYPE, both have an iflink of another number, and a lower device.
        self.more = {"shim0": ("lower_eth0",), "macvtap0": ("lower_eth0", "macvtap")}
        reported = self.network("eth0")["interfaces"]
        self.assertIn("shim0", reported)
        self.assertNotIn("macvtap0", reported)
        self.assertNotIn("pair0", reported)

    def test_a_containers_own_end_of_a_pair_counts(self):
        self.assertIn("pair0", self.network(bond0="bond")["interfaces"])

    def test_of_two_default_routes_the_cheaper_one_is_primary(self):
        tree = Tree(self)
        tree.write("/proc/net/dev", NET_DEV)
        head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        route = "{} 00000000 0101A8C0 0003 0 0 {} 00000000 0 0 0\n"
        for cheap, dear in (("wlan0", "br-0123456789ab"), ("br-0123456789ab", "wlan0")):
            tree.write("/proc/net/route", head + route.format(dear, 600) + route.format(cheap, 100))
            reported = section(tree.host(), "network")[0]
            self.assertEqual(reported["primary"], cheap)
        self.assertIn("br-0123456789ab", reported["interfaces"])  # an engine's, but the way out

    def test_without_ipv4_the_ipv6_route_is_primary(self):
        tree = Tree(self)
        tree.write("/proc/net/dev", NET_DEV)
        zeros = "0" * 32
        reject = f"{zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 00200200 lo"
        route = f"{zeros} 00 {zeros} 00 {'fe80'.ljust(32, '0')} 00000400 1 0 00000003 eth0"
        tree.write("/proc/net/ipv6_route", reject + "\n" + route + "\n")
        self.assertEqual(section(tree.host(), "network")[0]["primary"], "eth0")

    def test_an_interface_has_the_number_that_distinguishes_it_from_others_of_its_name(self):
        tree = Tree(self)
        tree.write("/proc/net/dev", NET_DEV)
        for name, number in (("eth0", "2"), ("wlan0", "3")):
            tree.files("/sys/class/net/" + name, device__x="", ifindex=number + "\n")
        reported = section(tree.host(), "network")[0]["interfaces"]
        self.assertEqual({name: reported[name].get("number") for name in ("eth0", "wlan0")}, {"eth0": 2, "wlan0": 3})

    def test_an_interface_that_another_took_the_name_of_is_what_that_one_is(self):
        # A bridge `lan0` was deleted, and a VPN of that name was made, between two polls.
        tree = Tree(self)
        tree.write("/proc/net/dev", "\n\nlan0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n")
        folder = "/sys/class/net/lan0/"
        tree.files(folder, ifindex="7", iflink="7", uevent="DEVTYPE=bridge\n")
        one = probe.Probe(tree.host())
        for name in ("hardware", "interfaces", "network"):
            section(None, name, one)
        tree.files(folder, ifindex="8", iflink="8", uevent="INTERFACE=lan0\n", tun_flags="0x1001")
        tree.write("/proc/meminfo", "MemTotal: 1 kB\n")
        for name in ("hardware", "interfaces"):
            reported = section(None, name, one)
            self.assertEqual(reported[0]["interfaces"]["lan0"]["type"], "vpn", name)

    def test_sixty_pairs_of_containers_cost_no_look_into_sysfs(self):
        tree = Tree(self)
        lines = "".join(f"veth{number:04x}: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n" for number in range(60))
        tree.write("/proc/net/dev", NET_DEV + lines)
        host = tree.host()
        looked = []
        host.text = lambda path: looked.append(path) or ""
        one = probe.Probe(host)
        section(host, "network", one)
        self.assertEqual([path for path in looked if "veth" in path], [])
        del looked[:]
        section(host, "network", one)
        self.assertEqual(looked, [])  # nothing is asked twice in ten minutes


class Disks(unittest.TestCase):
    def test_whole_disks_count_and_what_is_stacked_on_them_does_not(self):
        names = (
            "sda sda1 nvme0n1 nvme0n1p1 nvme0c0n1 mmcblk0 mmcblk0p1 mmcblk0boot0 vda xvda"
            " md0 dm-0 loop0 zram0 sr0 zd16 nbd0"
        )
        tree = Tree(self)
        line = "8 0 {} 1 0 8 2000 3 0 16 4000 0 5000 6000\n"
        tree.write("/proc/diskstats", "".join(line.format(name) for name in names.split()))
        for name in ("sda", "nvme0n1", "mmcblk0", "mmcblk0boot0", "vda", "xvda", "sr0", "nvme0c0n1"):
            tree.write("/sys/block/" + name + "/device/x")
        reported = section(tree.host(), "disk_io")[0]["disks"]
        self.assertEqual(set(reported), {"sda", "nvme0n1", "mmcblk0", "vda", "xvda"})
        expected = {"read_bytes": 4096, "written_bytes": 8192, "reads": 1, "writes": 3}
        seconds = {"read_seconds": 2.0, "write_seconds": 4.0, "busy_seconds": 5.0}
        self.assertEqual(reported["sda"], dict(expected, **seconds))

    def test_without_diskstats_it_is_not_supported(self):
        self.assertEqual(section(Tree(self).host(), "disk_io"), (None, "not_supported", None))


SATA, XHCI = "pci0000:00/0000:00:17.0", "pci0000:00/0000:00:14.0"
EXPANDER = "pci0000:00/0000:01:00.0/host{0}/port-{0}:0/expander-{0}:0/port-{0}:0:4/end_device-{0}:0:4"
# Path, and where the kernel puts the disk at two boots that count hosts, ports, buses and controllers otherwise.
DISK_PATHS = (
    (
        "0000:00:17.0/ata3/host1/0:0:0",
        SATA + "/ata3/host2/target2:0:0/2:0:0:0/block/sdc",
        SATA + "/ata9/host14/target14:0:0/14:0:0:0/block/sda",
    ),
    (
        "0000:00:17.0/ata2/host1/1:0:0",  # behind a port multiplier
        SATA + "/ata2/host1/target1:1:0/1:1:0:0/block/sdb",
        SATA + "/ata8/host13/target13:1:0/13:1:0:0/block/sdb",
    ),
    (
        "0000:00:14.0/usb2/2/2.1/2.1:1.0/host1/0:0:0",  # a dock with two bays and one serial number
        XHCI + "/usb4/4-2/4-2.1/4-2.1:1.0/host6/target6:0:0/6:0:0:0/block/sdd",
        XHCI + "/usb2/2-2/2-2.1/2-2.1:1.0/host4/target4:0:0/4:0:0:0/block/sdf",
    ),
    (
        "0000:00:14.0/usb2/2/2.1/2.1:1.0/host1/0:0:1",
        XHCI + "/usb4/4-2/4-2.1/4-2.1:1.0/host6/target6:0:0/6:0:0:1/block/sde",
        XHCI + "/usb2/2-2/2-2.1/2-2.1:1.0/host4/target4:0:0/4:0:0:1/block/sdc",
    ),
    (
        "0000:00:14.0/usb1/2/2:1.0/host1/0:0:0",
        XHCI + "/usb3/3-2/3-2:1.0/host7/target7:0:0/7:0:0:0/block/sdf",
        XHCI + "/usb1/1-2/1-2:1.0/host3/target3:0:0/3:0:0:0/block/sdd",
    ),
    (
        "0000:03:00.0/nvme1/n2",
        "pci0000:00/0000:00:1b.0/0000:03:00.0/nvme/nvme1/nvme1n2",
        "pci0000:00/0000:00:1b.0/0000:03:00.0/nvme/nvme0/nvme0n2",
    ),
    (
        "0000:00:04.0/virtio1",
        "pci0000:00/0000:00:04.0/virtio1/block/vda",
        "pci0000:00/0000:00:04.0/virtio3/block/vdb",
    ),
    (
        "0000:01:00.0/host1/0/0/0:4/0:4/0:4:0",
        EXPANDER.format(9) + "/target9:0:4/9:0:4:0/block/sdh",
        EXPANDER.format(0) + "/target0:0:4/0:0:4:0/block/sde",
    ),
    (
        "platform/axi/1000fff000.mmc/mmc1",  # the number behind the colon is the card's
        "platform/axi/1000fff000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
        "platform/axi/1000fff000.mmc/mmc_host/mmc2/mmc2:aaaa/block/mmcblk2",
    ),
    ("vbd-51712", "vbd-51712/block/xvda", "vbd-51712/block/xvda"),
    ("", "virtual/nvme-subsystem/nvme-subsys0/nvme2n1", "virtual/nvme-subsystem/nvme-subsys1/nvme3n1"),
)


class DiskPaths(unittest.TestCase):
    def test_a_path_says_where_a_disk_is_plugged_in_and_stays_when_a_boot_counts_otherwise(self):
        self.assertEqual(len({row[0] for row in DISK_PATHS}), len(DISK_PATHS))
        for boot, ports in ((1, range(1, 5)), (2, range(7, 11))):
            tree = Tree(self)
            for port in ports:  # those without a disk are there, too
                tree.write("/sys/devices/" + SATA + f"/ata{port}/x")
            for row in DISK_PATHS:
                tree.write("/sys/devices/" + row[boot] + "/x")
                tree.link("/sys/block/" + os.path.basename(row[boot]), "../devices/" + row[boot])
            host = tree.host()
            reported = [probe.disk_path(host, os.path.basename(row[boot])) for row in DISK_PATHS]
            self.assertEqual(reported, [row[0] for row in DISK_PATHS])

    def test_the_hardware_reports_it(self):
        tree = Tree(self)
        tree.write("/proc/meminfo", "MemTotal: 1 kB\n")
        tree.write("/proc/net/dev", "a\nb\n")
        tree.write("/sys/devices/" + DISK_PATHS[0][1] + "/device/x")
        tree.link("/sys/block/sdc", "../devices/" + DISK_PATHS[0][1])
        self.assertEqual(
            section(tree.host(), "hardware")[0]["disks"], {"sdc": {"path": "0000:00:17.0/ata1/host1/0:0:0"}}
        )


if __name__ == "__main__":
    unittest.main()
