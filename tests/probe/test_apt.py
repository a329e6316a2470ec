"""What apt would install: by its recorded words, and by a real apt with repositories made for it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest
from unittest import mock

from place import probe
from test_updates import APT_MARKS, NOW, Counting, machine, said
from tree import section

SECURITY_LIST = "/var/lib/apt/lists/deb_dists_bookworm-security_main_binary-amd64_Packages.lz4"
PLAIN_LIST = "/var/lib/apt/lists/deb_dists_bookworm_main_binary-amd64_Packages"
WARNING = "\nWARNING: apt does not have a stable CLI interface. Use with caution in scripts.\n\n"


def recorded():
    """Return what the programs said, by their command lines."""
    return {
        " ".join(probe.APT_TRY): {"output": said("apt-get-simulated")},
        " ".join(probe.APT_TRY_PHASED): {"output": said("apt-get-simulated-phased")},
        " ".join(probe.APT_LIST): {"output": said("apt-list-upgradable"), "errors": WARNING},
        " ".join(probe.DPKG_STATES): {"output": said("dpkg-query-states")},
    }


def apt_machine(test, *lists, **run):
    """Return a machine with apt and its lists; `run` replaces what apt-get, or all, say."""
    return machine(test, APT_MARKS, lists, run.get("run", recorded()))


def inst(count):
    """Return a simulation in which that many packages are installed, the last one with a security fix."""
    lines = [f"Inst p{number:03} [1] (2 Debian:12/stable [amd64])\n" for number in range(count - 1)]
    lines.append("Inst zz [1] (2 Debian:12/stable, Debian-Security:12/stable-security [amd64])\n")
    return f"{count} upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n" + "".join(lines)


class Recorded(unittest.TestCase):
    def test_pending_is_what_the_job_would_install_and_what_it_leaves_is_reported_separately(self):
        told, missing, error = section(apt_machine(self, SECURITY_LIST).host(), "updates")
        self.assertEqual((missing, error), (None, None))
        self.assertEqual((told["manager"], told["pending"], told["security"]), ("apt", 6, 1))
        self.assertEqual(told["held"], {"count": 2, "security": 1})
        self.assertEqual(told["phased"], {"count": 1, "security": 0})
        self.assertEqual(told["kept_back"], {"count": 2, "security": 1})
        first = {"name": "fixed", "installed": "1.0", "available": "2.0", "security": True}
        self.assertEqual(told["packages"][:2], [first, {"name": "brand-new", "available": "2.0", "security": False}])
        names = {one["name"] for one in told["packages"]}
        self.assertEqual(names, {"fixed", "brand-new", "lib", "lib:i386", "needs-new", "plain"})
        self.assertEqual(told["metadata_age_seconds"], 3600)

    def test_of_lists_that_are_newer_than_the_clock_no_age_is_known(self):
        tree = apt_machine(self, SECURITY_LIST)
        for behind, age in ((0.0, 3600.0), (3660.0, 0.0), (7200.0, None), (1759999900.0, None)):
            tree.told["clocks"]["epoch"] = 1760000000.0 - behind
            tree.save()
            with self.subTest(behind=behind):
                told, _, error = section(tree.host(), "updates")
                self.assertEqual((told["pending"], told.get("metadata_age_seconds"), error), (6, age, None))

    def test_without_a_suite_for_security_their_number_is_unknown(self):
        told, _, _ = section(apt_machine(self, PLAIN_LIST).host(), "updates")
        self.assertEqual((told["pending"], told["held"], told["kept_back"]), (6, {"count": 2}, {"count": 2}))
        self.assertNotIn("security", told)
        self.assertNotIn("security", told["packages"][0])

    def test_without_metadata_nothing_is_known_rather_than_nothing_pending(self):
        told, _, _ = section(apt_machine(self).host(), "updates")
        self.assertEqual(set(told), {"manager"})

    def test_that_lists_were_fetched_once_does_not_make_up_for_them(self):
        # `rm -rf /var/lib/apt/lists/*` leaves when that was.
        told, _, error = section(apt_machine(self, *probe.APT_STAMPS).host(), "updates")
        self.assertEqual((told.get("pending"), error), (None, None))

    def test_where_all_can_be_upgraded_apt_is_asked_once_and_nothing_is_withheld(self):
        run = {" ".join(probe.APT_TRY): {"output": inst(3)}, " ".join(probe.DPKG_STATES): {"output": ""}}
        host = Counting(apt_machine(self, SECURITY_LIST, run=run).folder)
        told, _, _ = section(host, "updates")
        self.assertEqual((told["pending"], told["security"], host.asked), (3, 1, ["dpkg-query", "apt-get"]))
        self.assertEqual(told["unfinished"], 0)
        self.assertEqual([told[cause]["count"] for cause in ("held", "phased", "kept_back")], [0, 0, 0])

    def test_apt_is_asked_again_only_when_something_changed(self):
        host = Counting(apt_machine(self, SECURITY_LIST).folder)
        one = probe.Probe(host)
        first, _, _ = section(host, "updates", one)
        asked = list(host.asked)
        self.assertEqual(section(host, "updates", one)[0], first)
        self.assertEqual(host.asked, asked)
        host.record["stamps"]["/var/lib/dpkg/status"] = [NOW - 5, NOW - 5, 101]
        host.record["run"][" ".join(probe.APT_TRY)]["output"] = inst(1)
        told, _, _ = section(host, "updates", one)
        self.assertEqual((told["pending"], told["security"], len(host.asked)), (1, 1, len(asked) + 2))

    def test_a_setting_that_is_changed_in_its_place_counts_as_a_change(self):
        host = Counting(apt_machine(self, SECURITY_LIST).folder)
        path = "/etc/apt/apt.conf.d/50phasing"
        os.makedirs(os.path.dirname(host.path(path)))
        with open(host.path(path), "w"):
            pass
        host.record["stamps"][path] = [NOW - 9, NOW - 9, 10]
        one = probe.Probe(host)
        section(host, "updates", one)
        asked = len(host.asked)
        host.record["stamps"][path] = [NOW - 1, NOW - 1, 10]
        section(host, "updates", one)
        self.assertGreater(len(host.asked), asked)

    def test_an_apt_that_fails_is_an_error_with_its_reason_and_is_asked_again(self):
        words = "W: Target is configured twice\nE: The package lists or status file could not be parsed or opened.\n"
        run = {
            " ".join(probe.APT_TRY): {"status": 100, "output": "Reading package lists...\n", "errors": WARNING + words}
        }
        host = Counting(apt_machine(self, SECURITY_LIST, run=run).folder)
        one = probe.Probe(host)
        error = section(host, "updates", one)[2]
        self.assertEqual(error, "apt-get: E: The package lists or status file could not be parsed or opened.")
        section(host, "updates", one)
        self.assertEqual(host.asked, ["dpkg-query", "apt-get"] * 2)

    def test_what_dpkg_left_in_the_middle_is_pending_whatever_apt_says(self):
        lines = [
            "install ok installed fine:amd64 1.0",
            "hold ok half-configured p000:amd64 1.5",
            "install ok unpacked new:amd64 2.0",
            "install ok half-installed torn:all 1.0",
            "install ok triggers-awaited waits:all 1.0",
            "install ok triggers-pending due:all 1.0",
            "install reinstreq installed again:all 1.0",
            "deinstall ok half-configured leaves:all 1.0",
            "deinstall ok config-files gone:all 1.0",
            "unknown ok not-installed never:amd64 ",
        ]
        run = {
            " ".join(probe.APT_TRY): {"output": inst(2)},
            " ".join(probe.DPKG_STATES): {"output": "".join(line + "\n" for line in lines)},
        }
        told, _, _ = section(apt_machine(self, SECURITY_LIST, run=run).host(), "updates")
        self.assertEqual((told["pending"], told["unfinished"], told["security"]), (8, 7, 1))
        rows = {one["name"]: one for one in told["packages"]}
        self.assertEqual(set(rows), {"p000", "zz", "new", "torn", "waits", "due", "again", "leaves"})
        self.assertEqual(rows["torn"], {"name": "torn", "available": "1.0"})
        self.assertEqual(rows["p000"]["available"], "2", "what it becomes, where there is something newer")

    def test_where_apt_has_no_answer_what_is_unfinished_is_pending_and_of_security_nothing_is_known(self):
        run = recorded()
        run[" ".join(probe.APT_TRY)] = {"status": 100, "errors": "E: Broken packages\n"}
        run[" ".join(probe.DPKG_STATES)] = {"output": "install ok unpacked half:amd64 2.0\n"}
        told, missing, error = section(apt_machine(self, SECURITY_LIST, run=run).host(), "updates")
        self.assertEqual((told["pending"], told["unfinished"], missing, error), (1, 1, None, None))
        self.assertNotIn("security", told)

    def test_where_dpkg_reports_nothing_nothing_is_said_of_what_it_left(self):
        for answer in ({"status": 2, "errors": "dpkg-query: error: no\n"}, None):
            run = {" ".join(probe.APT_TRY): {"output": inst(2)}, " ".join(probe.DPKG_STATES): answer}
            told, missing, error = section(apt_machine(self, SECURITY_LIST, run=run).host(), "updates")
            self.assertEqual((told["pending"], missing, error), (2, None, None))
            self.assertNotIn("unfinished", told)

    def test_what_is_pending_is_reported_although_nobody_reports_what_is_left(self):
        for argv in (probe.APT_LIST, probe.DPKG_STATES, probe.APT_TRY_PHASED):
            for answer in ({"status": 100, "errors": "E: no\n"}, None):
                run = recorded()
                run[" ".join(argv)] = answer
                told, missing, error = section(apt_machine(self, SECURITY_LIST, run=run).host(), "updates")
                self.assertEqual((told["pending"], missing, error), (6, None, None))
                self.assertFalse({"held", "phased", "kept_back"} & set(told))

    def test_long_lists_are_cut_and_say_so_with_security_first(self):
        run = {" ".join(probe.APT_TRY): {"output": inst(251)}}
        told, _, _ = section(apt_machine(self, SECURITY_LIST, run=run).host(), "updates")
        self.assertEqual((told["pending"], told["security"], len(told["packages"])), (251, 1, 200))
        self.assertEqual(told["packages"][0]["name"], "zz")
        self.assertEqual(told["complete"], {"packages": False})

    def test_origins_may_hold_anything_but_their_end(self):
        text = "Inst a [1:2-3] (2:1~rc1 Google LLC (x):1.0/stable [amd64])\nInst b (1 localhost [all]) []\nRemv c [1]\n"
        rows = dict(probe.parse_inst(text))
        self.assertEqual(list(rows), ["a:amd64", "b:all"])
        self.assertEqual(
            rows["a:amd64"], {"name": "a", "installed": "1:2-3", "available": "2:1~rc1", "security": False}
        )
        self.assertEqual(rows["b:all"], {"name": "b", "available": "1", "security": False})


def stanza(name, version, **more):
    """Return a paragraph about one package; Multi_Arch is Multi-Arch."""
    fields = dict(
        {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "x", "Description": "x"}, **more
    )
    return "".join("{}: {}\n".format(key.replace("_", "-"), value) for key, value in fields.items())


def installed(name, wanted="install", **more):
    """Return a paragraph of dpkg's status; every package is old."""
    return stanza(name, "1.0", Status=wanted + " ok installed", **more)


def offered(name, **more):
    """Return a paragraph of a repository."""
    return stanza(name, "2.0", Filename="./x.deb", Size="1", SHA256="0" * 64, **more)


BOTH = [{"Architecture": "amd64", "Multi_Arch": "same"}, {"Architecture": "i386", "Multi_Arch": "same"}]
STATUS = [
    *(installed(name) for name in ("plain", "fixed", "phased", "kept", "needs-new", "blocker", "late-fixed", "latest")),
    *(installed(name, "hold") for name in ("held", "held-fixed")),
    *(installed("lib", **arch) for arch in BOTH),
]
UPDATES = [
    *(offered(name) for name in ("plain", "fixed", "held", "brand-new")),
    *(offered("lib", **arch) for arch in BOTH),
    offered("phased", Phased_Update_Percentage="0"),
    offered("kept", Conflicts="blocker"),
    offered("needs-new", Depends="brand-new"),
]
SECURITY = [offered("fixed"), offered("held-fixed"), offered("late-fixed", Conflicts="blocker")]


@unittest.skipUnless(shutil.which("apt-get") and shutil.which("dpkg-query"), "no apt here")
class Real(unittest.TestCase):
    """A real apt that has a status file, lists and settings of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("apt.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d"):
            os.makedirs(self.folder + "/etc/" + name)
        for name in ("lists/partial", "archives/partial", "dpkg/updates", "dpkg/info"):
            os.makedirs(self.folder + "/" + name)
        self.write("dpkg/status", "\n".join(STATUS))
        for suite, stanzas in (("stable-updates", UPDATES), ("stable-security", SECURITY)):
            self.publish(suite, "\n".join(stanzas))
        self.settings()
        environment = {"APT_CONFIG": self.folder + "/apt.conf", "DPKG_ADMINDIR": self.folder + "/dpkg", "LC_ALL": "C"}
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)
        self.apt("update")

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def publish(self, suite, packages):
        """Make a repository of one folder, which is trusted without a signature."""
        place = f"{self.folder}/repositories/{suite}"
        self.write(place + "/Packages", packages)
        digest, size = hashlib.sha256(packages.encode()).hexdigest(), len(packages)
        self.write(
            place + "/Release", f"Label: Test\nSuite: {suite}\nVersion: 1.0\nSHA256:\n {digest} {size} Packages\n"
        )
        self.write(f"etc/sources.list.d/{suite}.list", f"deb [trusted=yes] file:{place} ./\n")

    def settings(self, *more):
        lines = ['Dir::State "{0}"; Dir::State::status "{0}/dpkg/status"; Dir::Cache "{0}"; Dir::Etc "{0}/etc";']
        lines += ['APT::Architecture "amd64"; APT::Architectures {{ "amd64"; "i386"; }}; APT::Sandbox::User "";']
        lines += ['Acquire::Languages "none"; APT::Machine-ID "0123456789abcdef0123456789abcdef";', *more]
        self.write("apt.conf", "\n".join(lines).format(self.folder))

    def apt(self, *words):
        done = subprocess.run(["apt-get", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()

    def test_pending_is_what_a_real_apt_says_that_it_would_install(self):
        told = probe.read_apt(probe.Host())
        summary = self.apt("--simulate", "--with-new-pkgs", "upgrade")
        self.assertIn("5 upgraded, 1 newly installed, 0 to remove and 5 not upgraded.", summary)
        names = sorted(one["name"] for one in told["packages"])
        self.assertEqual(names, ["brand-new", "fixed", "lib", "lib:i386", "needs-new", "plain"])
        self.assertEqual(told["pending"], 6)
        causes = [told[cause]["count"] for cause in ("held", "phased", "kept_back")]
        self.assertEqual(causes, [2, 1, 2])

    def test_what_its_administrator_holds_is_no_longer_pending(self):
        held = [installed("plain", "hold") if one == installed("plain") else one for one in STATUS]
        self.assertNotEqual(held, STATUS)
        self.write("dpkg/status", "\n".join(held))
        told = probe.read_apt(probe.Host())
        self.assertEqual((told["pending"], told["held"]["count"]), (5, 3))
        self.assertNotIn("plain", {one["name"] for one in told["packages"]})

    def test_a_machine_that_takes_phased_updates_has_them_pending(self):
        self.settings('APT::Get::Always-Include-Phased-Updates "true";')
        told = probe.read_apt(probe.Host())
        self.assertEqual((told["pending"], told["phased"]["count"]), (7, 0))

    def test_no_lock_is_waited_for_and_nothing_is_written(self):
        locks = [
            self.folder + "/" + name for name in ("dpkg/lock", "dpkg/lock-frontend", "lists/lock", "archives/lock")
        ]
        held = [os.open(path, os.O_RDWR | os.O_CREAT) for path in locks]
        for fd in held:
            self.addCleanup(os.close, fd)
            fcntl.lockf(fd, fcntl.LOCK_EX)
        before = self.tree()
        # A process has no lock against itself: the programs are its children, and they would wait.
        self.assertEqual(probe.read_apt(probe.Host())["pending"], 6)
        self.assertEqual(self.tree(), before)

    def tree(self):
        walked = (os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        return {path: (os.stat(path).st_mtime, os.stat(path).st_size) for path in walked}

    def test_its_failure_is_reported_by_its_reason(self):
        self.write("dpkg/status", "nonsense\n")
        with self.assertRaisesRegex(probe.Broken, r"^apt-get: E: "):
            probe.read_apt(probe.Host())

    def test_what_a_failed_installation_left_is_pending_and_no_longer_up_to_date(self):
        """`latest` is the newest there is, so that apt itself counts nothing."""
        more = {"Config_Version": "0.9"}
        for state, fields in (
            ("half-configured", more),
            ("unpacked", more),
            ("triggers-pending", {"Triggers_Pending": "ldconfig"}),
        ):
            left = stanza("latest", "1.0", Status="install ok " + state, **fields)
            self.write("dpkg/status", "\n".join([*(one for one in STATUS if one != installed("latest")), left]))
            told = probe.read_apt(probe.Host())
            self.assertEqual((told["pending"], told["unfinished"]), (7, 1), state)
            self.assertIn("latest", {one["name"] for one in told["packages"]})

    def test_unmet_dependencies_that_can_be_mended_hide_none_of_what_the_job_installs_then(self):
        """The package that another one needs was never unpacked, as its download broke off."""
        before = probe.read_apt(probe.Host())
        left = stanza("half", "2.0", Status="install ok unpacked", Depends="brand-new")
        self.write("dpkg/status", "\n".join([*STATUS, left]))
        told = probe.read_apt(probe.Host())
        names = sorted(one["name"] for one in told["packages"])
        self.assertEqual(names, ["brand-new", "fixed", "half", "lib", "lib:i386", "needs-new", "plain"])
        self.assertEqual((told["pending"], told["unfinished"]), (7, 1))
        self.assertEqual(told.get("security"), before.get("security"))
        for cause in ("held", "phased", "kept_back"):
            self.assertEqual(told[cause], before[cause])

    def test_unmet_dependencies_that_nothing_mends_leave_what_is_unfinished_pending(self):
        left = stanza("half", "2.0", Status="install ok unpacked", Depends="nowhere")
        self.write("dpkg/status", "\n".join([*STATUS, left]))
        told = probe.read_apt(probe.Host())
        self.assertEqual([one["name"] for one in told["packages"]], ["half"])

    def test_an_apt_that_cannot_resolve_what_is_installed_says_so(self):
        self.write("dpkg/status", "\n".join([*STATUS, installed("broken", Depends="nowhere")]))
        with self.assertRaisesRegex(probe.Broken, r"^apt-get: E: Broken packages"):
            probe.read_apt(probe.Host())


class Wrong(unittest.TestCase):
    def test_a_tree_without_apt_get_is_not_installed(self):
        self.assertEqual(section(apt_machine(self, SECURITY_LIST, run={}).host(), "updates")[1], "not_installed")


if __name__ == "__main__":
    unittest.main()
