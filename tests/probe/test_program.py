"""The files of the probe are one program: nothing in one may hide something of another."""

import ast
import collections
import glob
import os
import unittest

from place import PROBES, probe

FILES = [*sorted(glob.glob(os.path.join(PROBES, "sections", "*.py"))), os.path.join(PROBES, "probe.py")]
# What Debian's python3-minimal has, too: what else is missing is said before a section can fail on it.
LOADED_AT_START = {"os", "re", "sys", "time"}
# What several sections need, or is a part of one, and no section of its own.
SHARED = {
    "apt.py",
    "automatic_updates.py",
    "automounts.py",
    "container_words.py",
    "control_groups.py",
    "daemons.py",
    "firewall.py",
    "firewall_iptables.py",
    "firewall_nft.py",
    "firewall_rules.py",
    "firewall_text.py",
    "holders.py",
    "logins.py",
    "machine_id.py",
    "netlink.py",
    "nvidia.py",
    "nvml.py",
    "owners.py",
    "packages.py",
    "patience.py",
    "reboot.py",
    "ssh_visitors.py",
    "units_shown.py",
    "watched.py",
}


def parsed(path):
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def names_of(node):
    """Return the names that a statement of a module binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


class OneProgram(unittest.TestCase):
    def test_no_name_is_bound_by_two_files(self):
        bound = collections.Counter()
        for path in FILES:
            bound.update({name for node in parsed(path).body for name in names_of(node)})
        self.assertEqual({name for name, times in bound.items() if times > 1} - {"SECTIONS", "TYPE_CHECKING"}, set())

    def test_sections_load_at_start_only_what_every_python_has(self):
        for path in FILES[:-1]:
            loaded = {alias.name for node in parsed(path).body if isinstance(node, ast.Import) for alias in node.names}
            self.assertLessEqual(loaded, LOADED_AT_START, path)
            # Relative imports are for types: there is no package where the probe runs.
            self.assertFalse([node for node in parsed(path).body if isinstance(node, ast.ImportFrom)], path)

    def test_every_file_adds_a_section_but_for_what_sections_share(self):
        self.assertGreater(len(FILES), 5)
        told = [collector.read.__code__.co_name for collector in probe.COLLECTORS]
        for path in FILES[:-1]:
            mine = {name for node in parsed(path).body for name in names_of(node)}
            self.assertNotEqual(bool(mine.intersection(told)), os.path.basename(path) in SHARED, path)


if __name__ == "__main__":
    unittest.main()
