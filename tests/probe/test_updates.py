"""Pending updates: what each package manager says, when it is asked again, and why a reboot is due."""

import os
import shutil
import subprocess
import threading
import time
import unittest

from place import HOSTS, ROOT, probe
from tree import Tree, section

NOW = 1760000000.0
UPTIME = 1000.0


def said(name):
    """Return the recorded words of a program."""
    with open(os.path.join(ROOT, "tests", "fixtures", "tools", name + ".txt"), encoding="utf-8") as file:
        return file.read()


def stamps(*paths, **more):
    """Return stamps of files that are an hour old."""
    return {path: [more.get("at", NOW - 3600), more.get("at", NOW - 3600), 100] for path in paths}


class Counting(probe.RecordedHost):
    """A recorded machine that counts the programs that are run."""

    def __init__(self, root):
        super().__init__(root)
        self.asked = []

    def run(self, argv, timeout):
        self.asked.append(argv[0])
        return super().run(argv, timeout)


def machine(test, marks, metadata, run, **told):
    """Return a machine with a package manager's files."""
    known = stamps(*marks, *metadata)
    tree = Tree(test, dict({"run": run, "stamps": known}, **told))
    for path in known:
        tree.write(path, "x")
    return tree


APT_MARKS = ("/etc/apt/apt.conf", "/var/lib/dpkg/status")
SECURITY_LIST = "/var/lib/apt/lists/deb_dists_bookworm-security_main_binary-amd64_Packages.lz4"
PLAIN_LIST = "/var/lib/apt/lists/deb_dists_bookworm_main_binary-amd64_Packages"
APT_TEXT = (
    "apt/oldstable-security 2.6.2 amd64 [upgradable from: 2.6.1]\n"
    "tzdata/oldstable,oldstable-updates 2025b-0 all [upgradable from: 2025a-0]\n"
)


def apt_machine(test, *lists, **told):
    output = told.pop("output", APT_TEXT)
    answer = told.pop("answer", {"output": output, "errors": "\nWARNING: apt does not have a stable CLI interface.\n"})
    return machine(test, APT_MARKS, lists, {" ".join(probe.APT_LIST): answer}, **told)


class Apt(unittest.TestCase):
    def test_a_suite_for_security_makes_an_update_one(self):
        told, _, _ = section(apt_machine(self, SECURITY_LIST).host(), "updates")
        self.assertEqual((told["manager"], told["pending"], told["security"]), ("apt", 2, 1))
        first = {"name": "apt", "installed": "2.6.1", "available": "2.6.2", "security": True}
        self.assertEqual(told["packages"][0], first)
        self.assertEqual(told["metadata_age_seconds"], 3600)

    def test_without_a_suite_for_security_their_number_is_unknown(self):
        told, _, _ = section(apt_machine(self, PLAIN_LIST).host(), "updates")
        self.assertEqual(told["pending"], 2)
        self.assertNotIn("security", told)
        self.assertNotIn("security", told["packages"][0])

    def test_without_metadata_nothing_is_known_rather_than_nothing_pending(self):
        told, _, _ = section(apt_machine(self).host(), "updates")
        self.assertEqual(set(told), {"manager"})

    def test_apt_is_asked_again_only_when_something_changed(self):
        tree = apt_machine(self, SECURITY_LIST)
        host = Counting(tree.folder)
        one = probe.Probe(host)
        first, _, _ = section(host, "updates", one)
        self.assertEqual(section(host, "updates", one)[0], first)
        self.assertEqual(host.asked, ["apt"])
        host.told["stamps"]["/var/lib/dpkg/status"] = [NOW - 5, NOW - 5, 101]
        host.told["run"][" ".join(probe.APT_LIST)]["output"] = ""
        told, _, _ = section(host, "updates", one)
        self.assertEqual((told["pending"], told["security"]), (0, 0))
        self.assertEqual(host.asked, ["apt", "apt"])

    def test_an_apt_that_fails_is_an_error_in_its_words_and_is_asked_again(self):
        broken = {"status": 100, "errors": "E: The package lists or status file could not be parsed or opened.\n"}
        tree = apt_machine(self, SECURITY_LIST, answer=broken)
        host = Counting(tree.folder)
        one = probe.Probe(host)
        self.assertIn("could not be parsed", section(host, "updates", one)[2])
        section(host, "updates", one)
        self.assertEqual(host.asked, ["apt", "apt"])

    def test_long_lists_are_cut_and_say_so_with_security_first(self):
        lines = [f"p{number:03}/stable 2 amd64 [upgradable from: 1]\n" for number in range(250)]
        lines.append("zz/stable-security 2 amd64 [upgradable from: 1]\n")
        told, _, _ = section(apt_machine(self, SECURITY_LIST, output="".join(lines)).host(), "updates")
        self.assertEqual((told["pending"], told["security"], len(told["packages"])), (251, 1, 200))
        self.assertEqual(told["packages"][0]["name"], "zz")
        self.assertEqual(told["complete"], {"packages": False})

    @unittest.skipUnless(shutil.which("apt") and os.path.exists("/var/lib/dpkg/status"), "no apt here")
    def test_a_real_apt_is_equal_to_its_own_list(self):
        listed = subprocess.run(
            ["apt", "list", "--upgradable"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        ).stdout.decode()
        truth = [line.partition("/")[0] for line in listed.splitlines() if "upgradable from" in line]
        one, until = probe.Probe(probe.Host()), time.monotonic() + 60
        told, missing, error = section(one.host, "updates", one)
        while missing == "timed_out" and time.monotonic() < until:  # a machine that is busy with other tests
            time.sleep(0.5)
            told, missing, error = section(one.host, "updates", one)
        self.assertEqual((missing, error), (None, None))
        if "pending" in told:  # not where the package lists were thrown away
            self.assertEqual(told["pending"], len(truth))
            self.assertLessEqual({one["name"] for one in told["packages"]}, set(truth))
            self.assertEqual(len(told["packages"]), min(len(truth), probe.PACKAGES_SHOWN))


class Others(unittest.TestCase):
    def test_dnf_tells_versions_and_what_advisories_call_security(self):
        run = {
            " ".join(probe.DNF_CHECK): {"status": 100, "output": said("dnf-check-update")},
            " ".join([*probe.DNF_CHECK, "--security"]): {"status": 100, "output": said("dnf-check-update-security")},
            " ".join([*probe.RPM_VERSIONS, "demo-lib.noarch", "demo-tool.noarch"]): {
                "output": "demo-lib.noarch 1:1.0-1\ndemo-tool.noarch 1:1.0-1\n"
            },
            " ".join(probe.DNF_REBOOT): {
                "status": 1,
                "output": "…\nReboot is required to fully utilize these updates.\n",
            },
        }
        metadata = "/var/cache/dnf/updates-1/repodata/repomd.xml"
        told, _, _ = section(machine(self, ("/etc/dnf/dnf.conf",), (metadata,), run).host(), "updates")
        self.assertEqual((told["manager"], told["pending"], told["security"]), ("dnf", 2, 1))
        lib = {"name": "demo-lib", "installed": "1:1.0-1", "available": "1:1.2-3", "security": True}
        self.assertEqual(told["packages"][0], lib)
        self.assertEqual((told["reboot_required"], told["reboot_reasons"]), (True, ["core_updated"]))

    def test_a_dnf_without_the_plugin_has_no_word_on_reboots(self):
        metadata = "/var/cache/dnf/updates-1/repodata/repomd.xml"
        run = {
            " ".join(probe.DNF_CHECK): {"status": 0},
            " ".join(probe.DNF_REBOOT): {"status": 1, "errors": "No such command: needs-restarting."},
        }
        told, _, _ = section(machine(self, ("/etc/dnf/dnf.conf",), (metadata,), run).host(), "updates")
        self.assertEqual((told["pending"], told["security"]), (0, 0))
        self.assertNotIn("reboot_required", told)

    def test_what_is_obsoleted_is_no_update(self):
        text = "a.noarch 2-1 updates\nObsoleting Packages\nb.noarch 3-1 updates\n    c.noarch 1-1 @System\n"
        self.assertEqual(list(probe.parse_dnf(text)), [("a.noarch", "2-1")])

    def test_zypper_tells_packages_and_security_patches(self):
        run = {
            " ".join(probe.ZYPPER_LIST): {"output": said("zypper-list-updates")},
            " ".join(probe.ZYPPER_SECURITY): {"output": said("zypper-list-patches")},
            " ".join(probe.ZYPPER_REBOOT): {"status": 102},
        }
        metadata = "/var/cache/zypp/raw/oss/repodata/repomd.xml"
        told, _, _ = section(machine(self, ("/etc/zypp/zypp.conf",), (metadata,), run).host(), "updates")
        self.assertEqual((told["manager"], told["pending"], told["security"]), ("zypper", 2, 1))
        self.assertEqual(told["packages"][0], {"name": "demo-lib", "installed": "1:1.0-1", "available": "1:1.2-3"})
        self.assertEqual(told["reboot_reasons"], ["core_updated"])

    def test_pacman_leaves_out_what_is_ignored_and_ends_with_one_when_there_is_nothing(self):
        marks, metadata = ("/etc/pacman.conf", "/var/lib/pacman/local/x"), ("/var/lib/pacman/sync/core.db",)
        run = {"pacman -Qu": {"output": said("pacman-qu-ignored")}}
        told, _, _ = section(machine(self, marks, metadata, run).host(), "updates")
        self.assertEqual([one["name"] for one in told["packages"]], ["demo-tool"])
        self.assertNotIn("security", told)
        told, _, _ = section(machine(self, marks, metadata, {"pacman -Qu": {"status": 1}}).host(), "updates")
        self.assertEqual(told["pending"], 0)

    def test_apk(self):  # synthetic, in the words of apk-tools 2.14
        text = (
            "Installed:                                Available:\nca-certificates-bundle-20240226-r0 < 20241121-r1\n"
        )
        run = {"apk --no-network version -l <": {"output": text + "busybox-1.36.1-r5       < 1.36.1-r7 \n"}}
        metadata = ("/var/cache/apk/APKINDEX.066df28d.tar.gz",)
        told, _, _ = section(machine(self, ("/lib/apk/db/installed",), metadata, run).host(), "updates")
        names = [(one["name"], one["installed"], one["available"]) for one in told["packages"]]
        expected = [
            ("busybox", "1.36.1-r5", "1.36.1-r7"),
            ("ca-certificates-bundle", "20240226-r0", "20241121-r1"),
        ]
        self.assertEqual(names, expected)

    def test_opkg_forgets_its_lists_at_a_reboot_and_then_knows_nothing(self):  # synthetic
        run = {"opkg list-upgradable": {"output": "dnsmasq - 2.86-16 - 2.90-2\n"}}
        marks = ("/etc/opkg.conf", "/usr/lib/opkg/status")
        told, _, _ = section(machine(self, marks, ("/var/opkg-lists/base",), run).host(), "updates")
        self.assertEqual(told["packages"], [{"name": "dnsmasq", "installed": "2.86-16", "available": "2.90-2"}])
        self.assertEqual(section(machine(self, marks, (), run).host(), "updates")[0], {"manager": "opkg"})

    def test_a_system_without_a_known_manager_is_not_supported(self):
        self.assertEqual(section(Tree(self).host(), "updates"), (None, "not_supported", None))

    def test_another_ones_tools_with_an_empty_database_are_not_the_systems(self):
        metadata = "/var/cache/dnf/updates-1/repodata/repomd.xml"
        run = {" ".join(probe.DNF_CHECK): {"status": 0}, " ".join(probe.DNF_REBOOT): {"status": 0}}
        tree = machine(self, (*APT_MARKS, "/etc/dnf/dnf.conf"), (metadata,), run)
        host = tree.host()
        host.told["stamps"]["/var/lib/dpkg/status"] = [NOW, NOW, 0]
        self.assertEqual(section(host, "updates")[0]["manager"], "dnf")


class Reboot(unittest.TestCase):
    def kernels(self, running, installed, **more):
        """Return what is said of a machine with kernels: name → whether it came since the boot."""
        known = {}
        for name, is_new in installed.items():
            known["/lib/modules/" + name + "/modules.builtin"] = [1.0, NOW - (UPTIME / 2 if is_new else 2 * UPTIME), 9]
        tree = Tree(self, {"uname": ["box", running, "x86_64"], "stamps": known})
        for path in known:
            tree.write(path)
        tree.write("/proc/uptime", f"{UPTIME} 1.0\n")
        for path, text in more.get("files", {}).items():
            tree.write(path, text)
        return probe.reboot(tree.host(), more.get("wants"))

    def test_the_newest_kernel_runs(self):
        told = self.kernels("6.1.0-28-amd64", {"6.1.0-28-amd64": False, "6.1.0-25-amd64": False})
        self.assertEqual(told, {"reboot_required": False, "reboot_reasons": []})

    def test_a_newer_one_came_since_the_boot(self):
        told = self.kernels("6.1.0-25-amd64", {"6.1.0-25-amd64": False, "6.1.0-28-amd64": True})
        self.assertEqual(told["reboot_reasons"], ["kernel_updated"])

    def test_the_running_one_was_replaced_under_its_name(self):
        told = self.kernels("6.1.0-28-amd64", {"6.1.0-28-amd64": True})
        self.assertEqual(told["reboot_reasons"], ["kernel_updated"])

    def test_an_older_or_another_flavour_that_came_wants_nothing(self):
        told = self.kernels("6.6.31+rpt-rpi-v8", {"6.6.31+rpt-rpi-v8": False, "6.6.20+rpt-rpi-v8": True})
        self.assertIs(told["reboot_required"], False)
        told = self.kernels("6.6.58-1-lts", {"6.6.58-1-lts": False, "6.11.6-arch1-1": True})
        self.assertIs(told["reboot_required"], False)

    def test_a_newer_one_that_was_passed_over_at_the_boot_wants_nothing(self):
        told = self.kernels("6.8.12-4-pve", {"6.8.12-4-pve": False, "6.8.12-5-pve": False})
        self.assertIs(told["reboot_required"], False)

    def test_arch_takes_the_modules_of_the_running_kernel_away(self):
        told = self.kernels("6.11.5-arch1-1", {"6.11.6-arch1-1": True})
        self.assertEqual(told["reboot_reasons"], ["kernel_gone"])

    def test_a_kernel_that_no_package_brought_is_unknown(self):
        self.assertEqual(self.kernels("6.1.155-virt", {}), {})
        self.assertEqual(self.kernels("5.15.167.4-microsoft-standard-WSL2", {"6.1.0-28-amd64": True}), {})

    def test_a_container_is_unknown_unless_somebody_raises_the_flag(self):
        more = {"/run/systemd/container": "lxc\n"}
        kernels = {"6.8.12-4-pve": True}
        self.assertEqual(self.kernels("6.8.12-4-pve", kernels, files=more), {})
        more["/run/reboot-required"] = "*** System restart required ***\n"
        more["/run/reboot-required.pkgs"] = "libc6\ndbus\nlibc6\n"
        told = self.kernels("6.8.12-4-pve", kernels, files=more)
        self.assertEqual((told["reboot_reasons"], told["reboot_packages"]), (["flagged"], ["dbus", "libc6"]))

    def test_the_managers_word_counts(self):
        self.assertEqual(self.kernels("x", {}, wants=True)["reboot_reasons"], ["core_updated"])
        self.assertIs(self.kernels("x", {}, wants=False)["reboot_required"], False)


class Slow(unittest.TestCase):
    def test_a_slow_manager_costs_its_section_and_its_late_answer_is_used_at_the_next_request(self):
        class SlowHost(probe.RecordedHost):
            heal = threading.Event()

            def run(self, argv, timeout):
                if argv[0] == "apt":
                    self.heal.wait(20)
                return super().run(argv, timeout)

        host = SlowHost(os.path.join(HOSTS, "nvidia-workstation"))
        one = probe.Probe(host)
        reply = one.answer(probe.Request({"id": "1", "sections": ["load", "updates"], "timeout": 0.5}))
        self.assertEqual((reply["missing"], set(reply["sections"])), ({"updates": "timed_out"}, {"load"}))
        host.heal.set()
        time.sleep(0.3)
        self.assertEqual(section(host, "updates", one)[0]["pending"], 4)


if __name__ == "__main__":
    unittest.main()
