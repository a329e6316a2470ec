"""Pending updates: what each package manager reports, when it is queried again, and why a reboot is required."""

import os
import threading
import time
import unittest

from place import HOSTS, ROOT, probe
from tree import Tree, section

NOW = 1760000000.0
UPTIME = 1000.0
DAY = 86400.0


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

    def run(self, argv, timeout, tail=False, wanted=None):
        self.asked.append(argv[0])
        return super().run(argv, timeout)


def machine(test, marks, metadata, run, **told):
    """Return a machine with a package manager's files."""
    known = stamps(*marks, *metadata)
    tree = Tree(test, dict({"run": run, "stamps": known}, **told))
    for path in known:
        tree.write(path, '<data type="updateinfo">' if path.endswith("repomd.xml") else "x")
    return tree


# As openSUSE Tumbleweed has them since libzypp 17.38: without a zypp.conf that nobody changed.
ZYPPER_MARKS = ("/usr/bin/zypper", "/etc/zypp/repos.d/openSUSE:repo-oss.repo")
APT_MARKS = ("/etc/apt/apt.conf", "/var/lib/dpkg/status")


class Others(unittest.TestCase):
    def test_dnf_reports_versions_and_what_advisories_call_security(self):
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

    def test_where_no_repository_has_advisories_the_number_of_security_fixes_is_unknown(self):
        run = {
            " ".join(probe.DNF_CHECK): {"status": 100, "output": said("dnf-check-update")},
            " ".join([*probe.DNF_CHECK, "--security"]): {"status": 0},
            " ".join([*probe.RPM_VERSIONS, "demo-lib.noarch", "demo-tool.noarch"]): {},
            " ".join(probe.ZYPPER_LIST): {"output": said("zypper-list-updates")},
            " ".join(probe.ZYPPER_SECURITY): {"output": said("zypper-list-patches-none")},
        }
        dnf = (("/etc/dnf/dnf.conf",), ("/var/cache/dnf/baseos-1/repodata/repomd.xml",))
        zypper = (ZYPPER_MARKS, ("/var/cache/zypp/raw/oss/repodata/repomd.xml",))
        for marks, metadata in (dnf, zypper):
            tree = machine(self, marks, metadata, run)
            tree.write(metadata[0], '<data type="primary">')
            told, missing, error = section(tree.host(), "updates")
            self.assertEqual((told and told["pending"], missing, error), (2, None, None))
            self.assertNotIn("security", told)

    def test_what_dnf_locks_or_excludes_is_held_and_not_pending(self):
        run = {
            " ".join(probe.DNF_CHECK): {"status": 100, "output": said("dnf-check-update-locked")},
            " ".join([*probe.DNF_CHECK, "--security"]): {
                "status": 100,
                "output": said("dnf-check-update-locked-security"),
            },
            " ".join([*probe.RPM_VERSIONS, "demo-fixed.noarch", "demo-plain.noarch"]): {"output": ""},
            " ".join(probe.DNF_ALL): {"output": said("dnf-repoquery-upgrades")},
            " ".join([*probe.DNF_ALL, "--security"]): {"output": said("dnf-repoquery-upgrades-security")},
            " ".join(probe.DNF_REBOOT): {"status": 0},
        }
        metadata = "/var/cache/dnf/updates-1/repodata/repomd.xml"
        for path, text in (
            ("/etc/dnf/plugins/versionlock.list", "\n# Added lock\ndemo-held-0:1.0-1.*\n"),
            ("/etc/dnf/versionlock.toml", 'version = "1.0"\n[[packages]]\nname = "demo-held"\n'),
            ("/etc/dnf/dnf.conf", "[main]\ngpgcheck=True\nexcludepkgs=demo-excl\n"),
            ("/etc/yum.repos.d/t.repo", "[t]\nname=t\nexclude = demo-held*\n"),
        ):
            tree = machine(self, ("/etc/dnf/dnf.conf",), (metadata,), run)
            tree.write(path, text)
            told, _, _ = section(tree.host(), "updates")
            self.assertEqual((told["pending"], told["security"]), (2, 1), path)
            self.assertEqual(told["held"], {"count": 3, "security": 1}, path)

    def test_dnf_5_is_asked_of_roots_metadata_and_not_of_the_users_own_clone(self):
        # dnf5 5.4.6: another user's call clones root's cache into ~/.cache, and reads that also when root's is newer.
        clone, root = "demo-old.noarch 1-1 updates\n", "demo-lib.noarch 1:1.2-3 updates\n"
        mine = "dnf --setopt=cachedir=/var/cache/libdnf5 --setopt=logdir=/var/log "
        logged = "dnf --setopt=cachedir=/var/cache/libdnf5 "
        dropped = (
            "Cannot open log file: (13) - Permission denied [/var/log/dnf5.log]. Dropping all logs. To redirect …\n"
        )
        refused = "Cannot open log file: (13) - Permission denied [/var/log/dnf5.log]\n"
        metadata = "/var/cache/libdnf5/updates-1/repodata/repomd.xml"
        reboot = {"status": 1, "output": "Reboot is required to fully utilize these updates.\n"}
        for release, start in (("5.4", mine), ("5.2", logged)):
            run = {"dnf -q -C check-update": {"status": 100, "output": clone}}
            run["dnf -q -C needs-restarting -r"] = {"status": 0, "output": "Reboot should not be necessary.\n"}
            for words, told in (("check-update", {"status": 100, "output": root}), ("needs-restarting -r", reboot)):
                run[mine + "-q -C " + words] = {"status": 1, "errors": refused}
                run[start + "-q -C " + words] = dict(told, errors=dropped if start is mine else "")
            run[start + "-q -C check-update --security"] = {}
            run.setdefault(mine + "-q -C check-update --security", {"status": 1, "errors": refused})
            run["rpm -q --qf %{NAME}.%{ARCH} %{EVR}\\n -- demo-lib.noarch"] = {"output": "demo-lib.noarch 1:1.0-1\n"}
            tree = machine(self, ("/etc/dnf/dnf.conf", "/usr/bin/dnf5"), (metadata,), run)
            tree.link("/usr/bin/dnf", "dnf5")
            told, missing, error = section(tree.host(), "updates")
            self.assertEqual((missing, error), (None, None), release)
            self.assertEqual([one["name"] for one in told["packages"]], ["demo-lib"], release)
            self.assertEqual(told["reboot_reasons"], ["core_updated"], release)

    def test_root_and_dnf_4_have_no_clone(self):
        run = {"dnf -q -C check-update": {"status": 0}, "dnf -q -C needs-restarting -r": {"status": 0}}
        metadata = "/var/cache/libdnf5/updates-1/repodata/repomd.xml"
        for target, more in (("dnf5", {"is_root": True}), ("dnf-3", {})):
            tree = machine(self, ("/etc/dnf/dnf.conf", "/usr/bin/" + target), (metadata,), run, **more)
            tree.link("/usr/bin/dnf", target)
            self.assertEqual(section(tree.host(), "updates")[0]["pending"], 0, target)

    def test_the_reason_of_a_dnf_5_is_not_that_it_keeps_no_log(self):
        errors = "Cannot open log file: (13) - Permission denied [/var/log/dnf5.log]. Dropping all logs. To …\n"
        errors += "No such repository\n"
        run = {"dnf --setopt=cachedir=/var/cache/libdnf5 --setopt=logdir=/var/log -q -C check-update": {}}
        run[next(iter(run))] = {"status": 1, "errors": errors}
        metadata = "/var/cache/libdnf5/updates-1/repodata/repomd.xml"
        tree = machine(self, ("/etc/dnf/dnf.conf", "/usr/bin/dnf5"), (metadata,), run)
        tree.link("/usr/bin/dnf", "dnf5")
        self.assertEqual(section(tree.host(), "updates")[2], "dnf: No such repository")

    def test_what_dnf_excludes_may_be_named_in_the_lines_below(self):
        for text, withholds in (
            ("[main]\nexcludepkgs =\n    kernel*\n    demo\n", True),
            ("[main]\nexclude=\n# not the kernel\n\tkernel*\n", True),
            ("[main]\nexcludepkgs: demo\n", True),
            ("[main]\nexcludepkgs=\n\n[x]\nname=x\n", False),
            ("[main]\nexcludepkgs =  \ninstalls = x\n", False),
            ("[main]\nexclude=\n#x\n", False),
        ):
            tree = Tree(self)
            tree.write("/etc/dnf/dnf.conf", text)
            self.assertIs(bool(probe.dnf_withholds(tree.host())), withholds, text)

    def test_a_dnf_that_cannot_be_asked_for_what_is_locked_still_reports_what_is_pending(self):
        run = {" ".join(probe.DNF_CHECK): {"status": 0}, " ".join(probe.DNF_ALL): {"status": 2, "errors": "x"}}
        tree = machine(self, ("/etc/dnf/dnf.conf",), ("/var/cache/dnf/updates-1/repodata/repomd.xml",), run)
        tree.write("/etc/dnf/plugins/versionlock.list", "demo-held-0:1.0-1.*\n")
        self.assertEqual(probe.read_dnf(tree.host())["pending"], 0)
        self.assertNotIn("held", probe.read_dnf(tree.host()))

    def test_a_dnf_without_locks_is_not_asked_for_more(self):
        run = {" ".join(probe.DNF_CHECK): {"status": 0}, " ".join(probe.DNF_REBOOT): {"status": 0}}
        tree = machine(self, ("/etc/dnf/dnf.conf",), ("/var/cache/dnf/updates-1/repodata/repomd.xml",), run)
        tree.write("/etc/dnf/plugins/versionlock.list", "\n# none\n")
        tree.write("/etc/dnf/versionlock.toml", 'version = "1.0"\n')
        tree.write("/etc/dnf/dnf.conf", "[main]\n#exclude=x\nexcludepkgs=\n")
        told, _, _ = section(tree.host(), "updates")
        self.assertEqual((told["pending"], told["held"]), (0, {"count": 0, "security": 0}))

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

    def test_zypper_reports_packages_and_security_patches(self):
        run = {
            " ".join(probe.ZYPPER_LIST): {"output": said("zypper-list-updates")},
            " ".join(probe.ZYPPER_SECURITY): {"output": said("zypper-list-patches")},
            " ".join(probe.ZYPPER_REBOOT): {"status": 102},
        }
        metadata = "/var/cache/zypp/raw/oss/repodata/repomd.xml"
        told, _, _ = section(machine(self, ZYPPER_MARKS, (metadata,), run).host(), "updates")
        self.assertEqual((told["manager"], told["pending"], told["security"]), ("zypper", 2, 1))
        self.assertEqual(told["packages"][0], {"name": "demo-lib", "installed": "1:1.0-1", "available": "1:1.2-3"})
        self.assertEqual(told["reboot_reasons"], ["core_updated"])

    def test_what_zypper_locks_is_held_and_a_locked_patch_is_not_needed(self):
        run = {
            " ".join(probe.ZYPPER_LIST): {"output": said("zypper-list-updates-locked")},
            " ".join(probe.ZYPPER_ALL): {"output": said("zypper-list-updates-all")},
            " ".join(probe.ZYPPER_SECURITY): {"output": said("zypper-list-patches-locked")},
            " ".join(probe.ZYPPER_REBOOT): {"status": 0},
        }
        tree = machine(self, ZYPPER_MARKS, ("/var/cache/zypp/raw/oss/repodata/repomd.xml",), run)
        tree.write("/etc/zypp/locks", "\ntype: package\nmatch_type: glob\nsolvable_name: demo-held*\n\n")
        told, _, _ = section(tree.host(), "updates")
        self.assertEqual((told["pending"], told["security"], told["held"]), (3, 0, {"count": 2}))

    def test_zypper_reports_its_reason_in_its_xml(self):
        run = {" ".join(probe.ZYPPER_LIST): {"status": 2, "output": said("zypper-error")}}
        tree = machine(self, ZYPPER_MARKS, ("/var/cache/zypp/raw/oss/repodata/repomd.xml",), run)
        self.assertEqual(section(tree.host(), "updates")[2], "zypper: The flag --bad is not known.")

    def test_pacman_leaves_out_what_is_ignored_and_ends_with_one_when_there_is_nothing(self):
        marks, metadata = ("/etc/pacman.conf", "/var/lib/pacman/local/demo-1-1"), ("/var/lib/pacman/sync/core.db",)
        run = {"pacman -Qu": {"output": said("pacman-qu-ignored")}}
        told, _, _ = section(machine(self, marks, metadata, run).host(), "updates")
        self.assertEqual([one["name"] for one in told["packages"]], ["demo-tool"])
        self.assertEqual((told["pending"], told["held"]), (1, {"count": 1}))
        self.assertNotIn("security", told)
        told, _, _ = section(machine(self, marks, metadata, {"pacman -Qu": {"status": 1}}).host(), "updates")
        self.assertEqual(told["pending"], 0)

    def test_a_pacman_that_could_not_read_all_is_no_pacman_without_updates(self):
        # pacman 6.0.2: a database that was cut, a missing Include, one repository of two that was never refreshed.
        cut = "error: could not open file /var/lib/pacman/sync/core.db: truncated gzip input\n"
        gone = "error: config file /etc/pacman.d/gone could not be read: No such file or directory\n"
        never = "warning: database file for 'extra' does not exist (use '-Sy' to download)\n"
        marks, metadata = ("/etc/pacman.conf", "/var/lib/pacman/local/demo-1-1"), ("/var/lib/pacman/sync/core.db",)
        for status, output in ((1, ""), (0, said("pacman-qu-ignored"))):
            for errors in (cut, gone, never, "warning: something else\n" + cut):
                run = {"pacman -Qu": {"status": status, "output": output, "errors": errors}}
                told = section(machine(self, marks, metadata, run).host(), "updates")
                self.assertEqual(told, (None, None, "pacman: " + errors.split("\n")[-2]))
        newer = "warning: linux: local (6.2-1) is newer than core (6.1-1)\n"
        run = {"pacman -Qu": {"status": 1, "errors": newer}}
        self.assertEqual(section(machine(self, marks, metadata, run).host(), "updates")[0]["pending"], 0)

    def test_no_manager_that_complains_has_reported_all_whatever_its_status(self):
        cases = (  # synthetic, in the words of the tools
            (probe.read_apk, probe.APK_LIST, "WARNING: Ignoring https://a.test/v3.20/main: BAD archive\n"),
            (
                probe.read_apk,
                probe.APK_LIST,
                "WARNING: opening from cache https://a.test/main: No such file or directory\n",
            ),
            (probe.read_apk, probe.APK_LIST, "ERROR: Unable to read database: Permission denied\n"),
            (probe.read_opkg, probe.OPKG_LIST, "Collected errors:\n * opkg_conf_parse_file: Failed to open /etc/x.\n"),
            (probe.read_dnf, probe.DNF_CHECK, "Error: Cache-only enabled but no cache for 'updates'\n"),
            (probe.read_apt, probe.APT_TRY, "E: The package cache file is corrupted\n"),
        )
        for read, argv, errors in cases:
            for status in (0, 1, 100, 101, 103):
                tree = machine(self, ("/x",), ("/y",), {" ".join(argv): {"status": status, "errors": errors}})
                with self.assertRaises(probe.Broken, msg=(argv, status)) as caught:
                    read(tree.host())
                self.assertIn(errors.strip().split("\n")[-1].strip(" *"), str(caught.exception))
        said_xml = '<stream>\n<message type="error">Skipping repository oss because of the above error.</message>\n'
        tree = machine(self, ("/x",), ("/y",), {" ".join(probe.ZYPPER_LIST): {"output": said_xml}})
        self.assertRaises(probe.Broken, probe.read_zypper, tree.host())

    def test_what_is_only_a_warning_takes_nothing_away(self):
        cases = (
            (probe.read_apk, probe.APK_LIST, "WARNING: opening /media/usb/apks: No such file or directory\n"),
            (
                probe.read_apt,
                probe.APT_TRY,
                "WARNING: apt does not have a stable CLI interface.\nW: Target is configured twice\n",
            ),
            (probe.read_dnf, probe.DNF_CHECK, "Failed to set locale, defaulting to C.UTF-8\n"),
            (probe.read_opkg, probe.OPKG_LIST, "warning: x\n"),
        )
        for read, argv, errors in cases:
            tree = machine(self, ("/x",), ("/y",), {" ".join(argv): {"errors": errors}})
            self.assertEqual(read(tree.host())["pending"], 0, argv)

    def test_what_is_only_asked_besides_costs_no_answer_when_it_complains(self):
        run = {
            " ".join(probe.DNF_CHECK): {"status": 100, "output": "demo.noarch 2-1 updates\n"},
            " ".join([*probe.DNF_CHECK, "--security"]): {},
            " ".join([*probe.RPM_VERSIONS, "demo.noarch"]): {
                "status": 1,
                "errors": "error: cannot open Packages database\n",
            },
            " ".join(probe.DNF_REBOOT): {"status": 1, "errors": "Error: No such command: needs-restarting.\n"},
        }
        metadata = "/var/cache/dnf/updates-1/repodata/repomd.xml"
        told, _, _ = section(machine(self, ("/etc/dnf/dnf.conf",), (metadata,), run).host(), "updates")
        self.assertEqual(told["packages"], [{"name": "demo", "available": "2-1", "security": False}])

    def test_the_lists_of_apk_are_as_old_as_their_download_and_not_as_their_making(self):
        index = "/var/cache/apk/APKINDEX.066df28d.tar.gz"
        tree = machine(self, ("/lib/apk/db/installed",), (index,), {"apk --no-network version -l <": {}})
        tree.told["stamps"].update({index: [NOW - 86400, NOW - 60, 9], "/var/cache/apk": [NOW - 60, NOW - 60, 9]})
        tree.save()
        self.assertEqual(section(tree.host(), "updates")[0]["metadata_age_seconds"], 60.0)
        os.unlink(tree.folder + index)
        del tree.told["stamps"][index]
        tree.save()
        self.assertEqual(section(tree.host(), "updates")[0], {"manager": "apk"})

    def test_apk_begins_a_version_at_the_last_dash_before_a_digit(self):  # synthetic, in the words of apk-tools 2.14
        names = [
            ("busybox", "1.36.1-r5", "1.36.1-r7"),
            ("ca-certificates-bundle", "20240226-r0", "20241121-r1"),
            ("font-misc-7x14", "1.1.2-r3", "1.1.3-r0"),
            ("linux-6-lts", "6.6.58-r0", "6.6.59-r0"),
            ("lua5.4-9p", "0.4_git20240101-r2", "0.5-r0"),
            ("pc-98", "2", "3"),
        ]
        lines = [f"{name}-{old:<30} < {new} {'@edge' if name == 'busybox' else ''}\n" for name, old, new in names]
        text = "Installed:                                Available:\n" + "".join(lines)
        run = {"apk --no-network version -l <": {"output": text}}
        metadata = ("/var/cache/apk/APKINDEX.066df28d.tar.gz",)
        told, _, _ = section(machine(self, ("/lib/apk/db/installed",), metadata, run).host(), "updates")
        self.assertEqual([(one["name"], one["installed"], one["available"]) for one in told["packages"]], names)

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
        host.record["stamps"]["/var/lib/dpkg/status"] = [NOW, NOW, 0]
        self.assertEqual(section(host, "updates")[0]["manager"], "dnf")


class Whose(unittest.TestCase):
    """Which manager is the system's own."""

    def manager(self, *paths, **more):
        tree = Tree(self, {"stamps": more.get("stamps", {})})
        for path in paths:
            tree.write(path, "x")
        try:
            return probe.manager_of(tree.host()).name
        except probe.Missing:
            return None

    def test_an_image_without_the_program_reports_the_image(self):
        tree = Tree(self)
        for path in ("/etc/dnf/dnf.conf", "/run/ostree-booted", "/run/ostree/staged-deployment"):
            tree.write(path, "x")
        told = {"manager": "dnf", "image": "ostree", "reboot_required": True, "reboot_reasons": ["image_staged"]}
        self.assertEqual(section(tree.host(), "updates")[0], told)

    def test_settings_that_nobody_changed_may_be_gone(self):
        self.assertEqual(self.manager(*ZYPPER_MARKS), "zypper")
        self.assertEqual(self.manager("/usr/bin/dnf", "/etc/yum.repos.d/fedora.repo"), "dnf")
        self.assertEqual(self.manager("/etc/dnf/dnf.conf"), "dnf")
        self.assertEqual(self.manager("/etc/opkg/opkg.conf", "/var/lib/opkg/status"), "opkg")
        self.assertEqual(self.manager("/etc/pacman.conf", "/usr/lib/holo/pacmandb/local/bash-5.2-1/desc"), "pacman")

    def test_what_is_installed_beside_another_is_not_the_systems(self):
        pacman = ("/etc/pacman.conf", "/var/lib/pacman/local/ALPM_DB_VERSION")
        self.assertEqual(self.manager("/usr/bin/dnf", "/usr/bin/zypper", "/etc/zypp/zypp.conf", *pacman), "dnf")
        self.assertEqual(self.manager("/usr/bin/dnf", *ZYPPER_MARKS), "zypper")
        arch = ("/etc/pacman.conf", "/var/lib/pacman/local/bash-5.2-1/desc")
        self.assertEqual(self.manager("/usr/bin/dnf", "/etc/dnf/dnf.conf", *ZYPPER_MARKS, *arch), "pacman")
        self.assertEqual(self.manager("/usr/bin/dnf", "/lib/apk/db/installed"), "apk")
        empty = {"/lib/apk/db/installed": [NOW, NOW, 0]}
        self.assertEqual(self.manager("/usr/bin/dnf", "/lib/apk/db/installed", stamps=empty), "dnf")
        self.assertIsNone(self.manager("/etc/zypp/zypp.conf", "/etc/apt/sources.list"))


class Watched(unittest.TestCase):
    FILES = (
        ("apt", "/etc/apt/sources.list.d", "debian.sources"),
        ("apt", "/etc/apt/preferences.d", "pin"),
        ("apt", "/etc/apt/apt.conf.d", "20auto-upgrades"),
        ("zypper", "/etc/zypp/repos.d", "oss.repo"),
        ("dnf", "/etc/yum.repos.d", "fedora.repo"),
        ("pacman", "/etc/pacman.d", "mirrorlist"),
        ("apk", "/etc/apk/repositories.d", "more.list"),
        ("opkg", "/etc/opkg", "distfeeds.conf"),
    )

    def test_a_file_that_is_written_in_place_is_seen_where_its_folder_is_watched(self):
        for name, folder, file in self.FILES:
            tree = Tree(self, {"stamps": stamps(folder, folder + "/" + file)})
            tree.write(folder + "/" + file)
            watched = [one.watched for one in probe.MANAGERS if one.name == name and folder in one.watched]
            self.assertTrue(watched, folder)
            for patterns in watched:
                before = probe.stamps_of(tree.host(), patterns)
                tree.told["stamps"].update(stamps(folder + "/" + file, at=NOW))
                tree.save()
                self.assertNotEqual(probe.stamps_of(tree.host(), patterns), before, folder)

    def test_no_watched_folder_is_left_out(self):
        known = {folder for _, folder, _ in self.FILES}
        told = {one for row in probe.MANAGERS for one in row.watched if one.startswith("/etc") and one.endswith(".d")}
        self.assertLessEqual(told, known)

    def test_what_was_changed_in_place_makes_it_ask_again(self):
        path = "/etc/apk/repositories.d/more.list"
        run = {" ".join(probe.APK_LIST): {"output": ""}}
        tree = machine(self, ["/usr/lib/apk/db/installed", path], ["/var/cache/apk/APKINDEX.1.tar.gz"], run)
        host = Counting(tree.folder)
        one = probe.Probe(host)
        for _ in range(2):
            section(host, "updates", one)
            self.assertEqual(host.asked, ["apk"])
        host.record["stamps"][path] = [NOW - 1, NOW - 1, 100]
        section(host, "updates", one)
        self.assertEqual(host.asked, ["apk", "apk"])


class Image(unittest.TestCase):
    def image(self, *paths, **files):
        tree = machine(self, ("/etc/opkg.conf", "/usr/lib/opkg/status"), (), {})
        for path in paths:
            tree.write(path)
        for path, text in files.items():
            tree.write("/proc/" + path.replace("__", "/"), text)
        return section(tree.host(), "updates")[0].get("image")

    def test_what_is_brought_up_to_date_as_a_whole_is_known_by_what_it_is(self):
        self.assertIsNone(self.image())
        self.assertEqual(self.image("/run/ostree-booted"), "ostree")
        self.assertEqual(self.image("/usr/bin/steamos-readonly"), "steamos")
        words = "root=UUID=1 rw composefs=0123 quiet\n"
        self.assertEqual(self.image("/usr/bin/bootc", cmdline=words), "bootc")
        mounts = "/dev/vda3 / btrfs ro,relatime,subvol=/@/.snapshots/1/snapshot 0 0\n/dev/vda3 /var btrfs rw 0 0\n"
        self.assertEqual(self.image("/usr/sbin/transactional-update", self__mounts=mounts), "transactional")

    def test_of_several_things_mounted_at_the_root_the_last_one_counts(self):
        tool = "/usr/sbin/transactional-update"
        first, last = "rootfs / rootfs rw 0 0\n", "/dev/vda3 / btrfs ro,relatime 0 0\n"
        self.assertEqual(self.image(tool, self__mounts=first + last), "transactional")
        self.assertIsNone(self.image(tool, self__mounts=last + first))

    def test_a_tool_that_is_only_installed_makes_no_image(self):
        self.assertIsNone(self.image("/usr/bin/bootc", cmdline="root=UUID=1 rw\n"))
        self.assertIsNone(self.image(cmdline="composefs=0123\n", self__mounts="/dev/sda1 / ext4 ro,relatime 0 0\n"))
        mounts = "/dev/vda3 / btrfs rw,relatime 0 0\n/dev/vda3 /.snapshots btrfs ro 0 0\n"
        self.assertIsNone(self.image("/usr/sbin/transactional-update", self__mounts=mounts))


# Names as they follow each other on real systems.
NEWER = (
    ("6.1.0-25-amd64", "6.1.0-28-amd64"),  # Debian
    ("6.1.0-0.deb11.21-amd64", "6.1.0-0.deb11.25-amd64"),
    ("6.1.0-43-amd64", "6.12.38+deb13-amd64"),
    ("6.12.22+bpo-amd64", "6.12.95+deb12-amd64"),
    ("6.12.27-amd64", "6.12.33+deb13-amd64"),
    ("6.12.90+deb13-amd64", "6.12.90+deb13.1-amd64"),
    ("6.12.90+deb13.1-amd64", "6.12.94+deb13-amd64"),
    ("6.16.12+deb14-amd64", "6.16.12+deb14+1-amd64"),
    ("6.1.0-43-cloud-amd64", "6.12.38+deb13-cloud-amd64"),
    ("6.1.0-28-rt-arm64", "6.12.38+deb13-rt-arm64"),
    ("6.12.38+deb13-arm64-16k", "6.12.43+deb13-arm64-16k"),
    ("6.1.0-28-686-pae", "6.1.0-31-686-pae"),
    ("6.1.0-28-armmp-lpae", "6.12.38+deb13-armmp-lpae"),
    ("6.8.12-11-pve", "6.14.8-2-bpo12-pve"),  # Proxmox
    ("6.14.8-2-bpo12-pve", "6.17.2-1-pve"),
    ("6.8.0-88-generic", "6.8.0-90-generic"),  # Ubuntu
    ("6.8.0-1010-raspi", "6.8.0-1012-raspi"),
    ("6.14.0-1008-azure-nvidia", "6.14.0-1010-azure-nvidia"),
    ("6.8.0-88-lowlatency-hwe", "6.8.0-90-lowlatency-hwe"),
    ("6.17.7-200.fc42.x86_64", "6.17.8-300.fc43.x86_64"),  # Fedora
    ("6.18.0-0.rc4.36.fc44.x86_64", "6.18.0-0.rc5.40.fc44.x86_64"),
    ("6.18.0-0.rc4.251105g1c353dc8d962.39.fc44.x86_64", "6.18.0-65.fc44.x86_64"),
    ("6.17.7-200.fc43.aarch64+16k", "6.17.8-200.fc43.aarch64+16k"),
    ("5.14.0-427.el9.x86_64", "5.14.0-427.8.1.el9_4.x86_64"),  # RHEL and its kin
    ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-503.11.1.el9_5.x86_64"),
    ("6.12.0-55.9.1.el10_0.x86_64", "6.12.0-124.8.1.el10_1.x86_64"),
    ("5.15.0-208.159.3.el8uek.x86_64", "5.15.0-300.163.18.el9uek.x86_64"),
    ("6.1.115-126.197.amzn2023.x86_64", "6.1.119-129.201.amzn2023.x86_64"),
    ("6.11.5-arch1-1", "6.11.6-arch1-1"),  # Arch
    ("6.11.6-arch1-1", "6.11.6-arch1-2"),
    ("6.6.58-1-lts", "6.6.59-1-lts"),
    ("6.11.5-zen1-1-zen", "6.11.6-zen1-2-zen"),
    ("6.11.6-hardened1-1-hardened", "6.11.7-hardened1-1-hardened"),
    ("6.12.0-rc6-1-mainline", "6.12.0-1-mainline"),
    ("6.6.65-1-MANJARO", "6.6.69-1-MANJARO"),
    ("6.11.5-1-default", "6.11.6-1-default"),  # openSUSE
    ("6.4.0-150600.23.25-default", "6.4.0-150600.23.30-default"),
    ("6.12.9-1-longterm", "6.12.11-1-longterm"),
    ("6.1.0-rpi8-rpi-v8", "6.6.20+rpt-rpi-v8"),  # Raspberry Pi OS
    ("6.6.31+rpt-rpi-2712", "6.12.34+rpt-rpi-2712"),
    ("6.1.21-v7l+", "6.1.63-v7l+"),
    ("6.6.58-0-lts", "6.12.13-0-lts"),  # Alpine
    ("6.6.58-0-virt", "6.6.60-0-virt"),
    ("6.6.58-gentoo-x86_64", "6.6.58-gentoo-r1-x86_64"),
    ("6.6.62-current-rockchip64", "6.6.63-current-rockchip64"),  # Armbian
    ("6.11.5-x64v3-xanmod1", "6.11.6-x64v3-xanmod1"),
)
# What may be installed side by side, with names that are as new as each other.
FLAVOURS = (
    ("6.12.38+deb13-amd64", "6.12.38+deb13-cloud-amd64", "6.12.38+deb13-rt-amd64", "6.12.38-pve"),
    ("6.12.38+deb13-arm64", "6.12.38+deb13-arm64-16k", "6.12.38+deb13-rpi", "6.12.38+rpt-rpi-v8"),
    ("6.1.0-28-686", "6.1.0-28-686-pae", "6.1.0-28-rt-686-pae"),
    ("6.8.0-88-generic", "6.8.0-88-lowlatency", "6.8.0-88-generic-64k", "6.8.0-88-aws", "6.8.0-88-azure-nvidia"),
    (
        "6.17.7-200.fc43.x86_64",
        "6.17.7-200.fc43.x86_64+debug",
        "6.17.7-cachyos1.fc43.x86_64",
        "6.17.7-1.surface.fc43.x86_64",
    ),
    (
        "5.14.0-427.el9_4.x86_64",
        "5.14.0-427.el9_4.x86_64+rt",
        "5.14.0-427.el9uek.x86_64",
        "5.14.0-427.el9.elrepo.x86_64",
    ),
    ("6.11.6-arch1-1", "6.11.6-1-lts", "6.11.6-zen1-1-zen", "6.11.6-hardened1-1-hardened", "6.11.6-1-cachyos"),
    ("6.11.6-1-default", "6.11.6-1-longterm", "6.11.6-1-rt", "6.11.6-1-kvmsmall"),
    ("6.6.31+rpt-rpi-v6", "6.6.31+rpt-rpi-v7", "6.6.31+rpt-rpi-v7l", "6.6.31+rpt-rpi-v8", "6.6.31+rpt-rpi-2712"),
    ("6.6.58-0-lts", "6.6.58-0-virt", "6.6.58-0-rpi"),
    ("6.11.6-x64v3-xanmod1", "6.11.6-1-liquorix-amd64", "6.11.6-amd64"),
)


class Reboot(unittest.TestCase):
    def kernels(self, running, installed, **more):
        """Return what is said of a machine with kernels: name → whether it came since the boot."""
        known = {}
        for name, is_new in installed.items():
            stamp = [1.0, NOW - (UPTIME / 2 if is_new else 2 * UPTIME), 9]
            known.update({"/lib/modules/" + name: stamp, "/lib/modules/" + name + "/modules.builtin": stamp})
        known.update(more.get("stamps", {}))
        tree = Tree(self, {"uname": ["box", running, "x86_64"], "stamps": known})
        for name in installed:
            tree.write("/lib/modules/" + name + "/modules.builtin")
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

    def clocks(self, clock, uptime, **came):
        """Return why a reboot is due on a machine whose clock shows that: when its kernels came; made months before."""
        names = {"running": "6.12.25+rpt-rpi-v8", "newer": "6.12.34+rpt-rpi-v8"}
        kernels = {"/lib/modules/" + names[which]: [NOW - 90 * DAY, at, 9] for which, at in came.items()}
        kernels.update({path + "/modules.builtin": stamp for path, stamp in kernels.items()})
        told = {"uname": ["pi", names["running"], "aarch64"], "stamps": kernels}
        tree = Tree(self, told, epoch=clock, boottime=uptime)
        for path in kernels:
            tree.write(path + ("" if path.endswith("builtin") else "/modules.dep"))
        tree.write("/proc/uptime", f"{uptime} 1.0\n")
        return probe.reboot(tree.host(), None)["reboot_reasons"]

    def test_no_kernel_came_since_the_boot_because_the_clock_is_behind(self):
        # Without a battery the clock begins at 1970, or where fake-hwclock(8) has left it, until NTP sets it.
        for clock, uptime in ((100.0, 100.0), (40 * DAY, 40 * DAY), (NOW - 3540, 60.0), (NOW - 200 * DAY, 50 * DAY)):
            with self.subTest(clock=clock, uptime=uptime):
                self.assertEqual(self.clocks(clock, uptime, running=NOW - 30 * DAY), [])
                self.assertEqual(self.clocks(clock, uptime, running=NOW - 30 * DAY, newer=NOW - 1200), [])
        # One that never sets it: what came in an earlier life came then by such a clock as well.
        self.assertEqual(self.clocks(9000.0, 9000.0, running=3000.0), [])
        self.assertEqual(self.clocks(9000.0, 9000.0, running=60.0, newer=3000.0), [])

    def test_a_kernel_that_came_is_reported_as_soon_as_the_clock_is_right(self):
        self.assertEqual(self.clocks(NOW, 7200.0, running=NOW - 30 * DAY, newer=NOW - 3600), ["kernel_updated"])
        self.assertEqual(self.clocks(NOW, 7200.0, running=NOW - 3600), ["kernel_updated"])
        # One under the same name that was made since the boot.
        self.assertEqual(self.clocks(NOW, 200 * DAY, running=NOW - 3600), ["kernel_updated"])
        self.assertEqual(self.clocks(NOW, 7200.0, running=NOW - 30 * DAY, newer=NOW - 7300), [])

    def test_an_older_or_another_flavour_that_came_wants_nothing(self):
        told = self.kernels("6.6.31+rpt-rpi-v8", {"6.6.31+rpt-rpi-v8": False, "6.6.20+rpt-rpi-v8": True})
        self.assertIs(told["reboot_required"], False)
        told = self.kernels("6.6.58-1-lts", {"6.6.58-1-lts": False, "6.11.6-arch1-1": True})
        self.assertIs(told["reboot_required"], False)

    def test_a_newer_one_of_the_flavour_is_known_by_the_names_that_distributions_give(self):
        for running, new in NEWER:
            told = self.kernels(running, {running: False, new: True})
            self.assertEqual(told["reboot_reasons"], ["kernel_updated"], (running, new))
            told = self.kernels(running, {new: True})
            self.assertEqual(told["reboot_reasons"], ["kernel_gone"], (running, new))

    def test_an_older_one_that_comes_again_wants_nothing(self):
        for old, running in NEWER:
            told = self.kernels(running, {running: False, old: True})
            self.assertIs(told["reboot_required"], False, (running, old))

    def test_of_several_flavours_only_a_newer_one_of_the_running_flavour_counts(self):
        for names in FLAVOURS:
            for running in names:
                for other in names:
                    if other != running:
                        told = self.kernels(running, {running: False, other: True})
                        self.assertIs(told["reboot_required"], False, (running, other))
                        self.assertEqual(self.kernels(running, {other: True}), {}, (running, other))

    def test_what_an_image_has_staged_waits_for_the_reboot(self):
        kernels = {"6.17.7-200.fc43.x86_64": False}
        running, locked = next(iter(kernels)), "/run/ostree/staged-deployment-locked"
        for path in (
            "/run/ostree/staged-deployment",
            "/run/composefs/staged-deployment",
            "/run/steamos-atomupd/reboot_for_update",
        ):
            told = self.kernels(running, kernels, files={"/run/ostree-booted": "", path: "x"})
            self.assertEqual((told["reboot_required"], told["reboot_reasons"]), (True, ["image_staged"]), path)
        told = self.kernels(running, kernels, files={"/run/ostree/staged-deployment": "x", locked: ""})
        self.assertIs(told["reboot_required"], False)  # a reboot would not bring it
        self.assertIs(self.kernels(running, kernels, files={"/run/ostree-booted": ""})["reboot_required"], False)

    def test_the_flag_of_zyppers_plugins_counts_without_zypper(self):
        kernels = {"6.11.6-1-default": False}
        told = self.kernels("6.11.6-1-default", kernels, files={"/run/reboot-needed": ""})
        self.assertEqual(told["reboot_reasons"], ["flagged"])

    def test_a_link_to_its_file_from_elsewhere_is_no_new_kernel(self):
        # ostree 2025: each deployment has folders of its own, and links to the files of one store.
        name = "6.17.7-200.fc43.x86_64"
        linked = {"/lib/modules/" + name + "/modules.builtin": [0.0, NOW - 1, 9]}
        self.assertIs(self.kernels(name, {name: False}, stamps=linked)["reboot_required"], False)

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

            def run(self, argv, timeout, tail=False, wanted=None):
                if argv[0] == "apt-get":
                    self.heal.wait(20)
                return super().run(argv, timeout)

        host = SlowHost(os.path.join(HOSTS, "nvidia-workstation"))
        one = probe.Probe(host)
        reply = one.answer(probe.Request({"id": "1", "sections": ["load", "updates"], "timeout": 0.5}))
        self.assertEqual((reply["missing"], set(reply["sections"])), ({"updates": "timed_out"}, {"load"}))
        host.heal.set()
        time.sleep(0.3)
        self.assertEqual(section(host, "updates", one)[0]["pending"], 3)


if __name__ == "__main__":
    unittest.main()
