"""The reader of sshd_config against sshd itself: made-up configurations, and what `sshd -T` says of each.

HOMELAB_SSHD_CONFIGS says how many (60 unless given), HOMELAB_SSHD which program.
"""

import os
import random
import shutil
import subprocess
import tempfile
import unittest
from unittest.mock import patch

from place import costly, probe
from tree import Tree

SSHD = os.environ.get("HOMELAB_SSHD") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
COUNT = int(os.environ.get("HOMELAB_SSHD_CONFIGS", "60"))
VISITOR = "user=zz,host=visitor.example,addr=192.0.2.1,laddr=192.0.2.2,lport=22"
COMPARED = (
    "permitrootlogin",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "usepam",
    "authenticationmethods",
)
METHODS = ("any", "publickey", "password", "publickey,password password", "keyboard-interactive:pam", '"password"')
SETTINGS = (
    ("PermitRootLogin", ("yes", "no", "prohibit-password", "without-password", "forced-commands-only")),
    ("PasswordAuthentication", ("yes", "no")),
    ("KbdInteractiveAuthentication", ("yes", "no")),
    ("ChallengeResponseAuthentication", ("yes", "no")),
    ("AuthenticationMethods", METHODS),
    ("X11Forwarding", ("yes", "no")),
)
NOT_IN_A_MATCH = (("UsePAM", ("yes", "no")), ("Port", ("22", "2222", "22022")), ("LoginGraceTime", ("10",)))
OTHERS = (
    "User nobody",
    "Address 203.0.113.0/24",
    "LocalPort 9",
    "User nobody Address *",
    "User !zz,*",
    "Host *.invalid",
)
# Of these it is known whether they are for root, and for nobody.
WHOM = (
    "User root",
    "User ro*",
    "User r??t,bin",
    "User *,!root",
    "User nobody",
    "Group root",
    "Group nogroup,nobody",
    "Group *,!root",
    "LocalPort 22",
    "LocalPort 2222",
    "User root Group root",
    "User root LocalPort 9",
    "all",
)
LISTS = ("AllowUsers", "DenyUsers", "AllowGroups", "DenyGroups")
NAMES = ("root", "nobody", "ro* bin", '"nobody" root', "nobody@192.0.2.0/24")
EVERYBODY = ("all", "ALL", "User *", "Address *", "Host *", "User * Address *", "Address 0.0.0.0/0,::/0")


class MadeUp:
    """One configuration of up to three files."""

    def __init__(self, rng, folder):
        self.rng = rng
        self.folder = folder
        self.files = {}
        self.write("main", 0)

    def write(self, name, depth):
        lines, is_global = [], True
        for _ in range(self.rng.randint(0, 7)):
            kind = self.rng.random()
            if kind < 0.15:
                lines.append("Match " + self.rng.choice(OTHERS if self.rng.random() < 0.5 else EVERYBODY))
                is_global = False
            elif kind < 0.3 and depth < 2 and len(self.files) < 3:
                other = f"part{len(self.files) + self.rng.randint(0, 5) * 10}"
                if other not in self.files:
                    self.files[other] = ""
                    # A setting that no Match may hold makes sshd refuse the file where it is included in one.
                    self.write(other, depth + 1 if is_global else 9)
                    lines.append("Include {}/{}{}".format(self.folder, other, self.rng.choice(("", "*"))))
            else:
                rows = SETTINGS + (NOT_IN_A_MATCH if is_global and depth < 9 else ())
                keyword, values = self.rng.choice(rows)
                lines.append(self.line(keyword, self.rng.choice(values)))
        self.files[name] = "\n".join(lines) + "\n"

    def line(self, keyword, value):
        """Return one setting in one of the forms that people write."""
        keyword = self.rng.choice((keyword, keyword.lower(), keyword.upper()))
        between = self.rng.choice((" ", " ", "\t", "  ", "=", " = "))
        if self.rng.random() < 0.15 and " " not in value and '"' not in value:
            value = '"' + value + '"'
        return (
            self.rng.choice(("", "", "  ", "\t")) + keyword + between + value + self.rng.choice(("", "", " ", "  # so"))
        )


class WhomAMatchIsFor(unittest.TestCase):
    def test_addresses_of_one_version_are_not_everybody(self):
        text = "PasswordAuthentication yes\nMatch {}\nPasswordAuthentication no\n"
        for criteria in ("Address 0.0.0.0/0", "Address ::/0", "User * Address ::/0", "Address 0.0.0.0/0,10.0.0.0/8"):
            tree = Tree(self)
            tree.write("/etc/ssh/sshd_config", text.format(criteria))
            told, conditional = probe.sshd_settings(probe.sshd_lines(tree.host(), "/etc/ssh/sshd_config"))
            self.assertEqual(told["passwordauthentication"], ["yes"], criteria)
            self.assertEqual(conditional, {"passwordauthentication"}, criteria)


@unittest.skipUnless(SSHD, "there is no sshd")
class AgainstSshd(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        key = os.path.join(self.folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.head = "HostKey " + key + "\n"

    def asked(self, made, visitor=VISITOR):
        """Return what sshd does for the visitor, None where it refuses the file."""
        for name, text in made.files.items():
            with open(os.path.join(self.folder, name), "w") as file:
                file.write((self.head if name == "main" else "") + text)
        argv = [SSHD, "-T", "-f", os.path.join(self.folder, "main"), "-C", visitor]
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False
        )
        for name in made.files:
            os.remove(os.path.join(self.folder, name))
        if done.returncode:
            return None
        told = {}
        for line in done.stdout.splitlines():
            keyword, _, value = line.partition(" ")
            told.setdefault(keyword, []).append(value)
        return told

    def read(self, made):
        """Return what the probe reads."""
        tree = Tree(self)
        for name, text in made.files.items():
            tree.write(self.folder + "/" + name, text)
        return probe.sshd_settings(probe.sshd_lines(tree.host(), self.folder + "/main"))[0]

    @costly
    def test_the_settings_for_a_visitor_whom_no_other_block_is_for_are_sshds(self):
        accepted = 0
        for seed in range(10 * COUNT):
            made = MadeUp(random.Random(seed), self.folder)
            asked = self.asked(made)
            if asked is None:
                continue
            accepted += 1
            read = self.read(made)
            for keyword in COMPARED:
                default = probe.SSHD_DEFAULTS[keyword]
                ours = " ".join(read.get(keyword) or [default]).replace("without-password", "prohibit-password")
                theirs = asked[keyword][0].replace("without-password", "prohibit-password")
                self.assertEqual(ours, theirs, f"seed {seed}, {keyword}: {made.files}")
            self.assertEqual(probe.sshd_ports(read), sorted({int(port) for port in asked["port"]}), made.files)
            if accepted >= COUNT:
                break
        self.assertGreaterEqual(accepted, COUNT)

    def settled(self, rng):
        """Return a made-up configuration in which it is settled whom each Match is for."""
        lines = []
        for _ in range(rng.randint(1, 9)):
            if rng.random() < 0.35:
                lines.append("Match " + rng.choice(WHOM))
            elif rng.random() < 0.5:
                lines.append("{} {}".format(*map(rng.choice, (LISTS, NAMES))))
            else:
                keyword, values = rng.choice(SETTINGS)
                lines.append(self.made.line(keyword, rng.choice(values)))
        return "\n".join(lines) + "\n"

    @costly
    def test_what_is_decided_for_a_user_is_what_holds_for_that_user_at_sshd(self):
        self.made, counted = MadeUp(random.Random(0), self.folder), 0
        for seed in range(10 * COUNT):
            self.made.files = {"main": self.settled(random.Random(seed))}
            text = self.made.files["main"]
            user = ("root", "nobody")[seed % 2]
            asked = self.asked(self.made, VISITOR.replace("zz", user))
            if asked is None:
                continue
            tree = Tree(self)
            for name in ("/etc/passwd", "/etc/group"):
                with open(name, "rb") as file:
                    tree.write(name, file.read())
            tree.write(self.folder + "/main", text)
            lines = list(probe.sshd_lines(tree.host(), self.folder + "/main"))
            rules = probe.Rules(lines, probe.sshd_settings(lines)[0], [22])
            with patch.object(probe, "NO_SHELLS", ()), patch.object(
                probe.Caller, "may_come", return_value=(True, set())
            ):
                (way,) = rules.ways(probe.accounts(tree.host())[user])
            for keyword in COMPARED:
                ours = probe.values_of(way.settings)[keyword]
                if keyword == "authenticationmethods":
                    ours = " ".join(way.settings.get(keyword) or ["any"])
                theirs = asked[keyword][0].replace("without-password", "prohibit-password")
                self.assertEqual(ours, theirs, (seed, user, keyword, text))
            for keyword in probe.USER_LISTS:
                self.assertEqual(way.settings.get(keyword, []), asked.get(keyword, []), (seed, user, keyword, text))
            counted += 1
            if counted >= COUNT:
                break
        self.assertGreaterEqual(counted, COUNT)


if __name__ == "__main__":
    unittest.main()
