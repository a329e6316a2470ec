"""The files of the probe are one program: nothing in one may hide something of another."""

import ast
import collections
import json
import os
import re
import subprocess
import sys
import unittest

from place import FILES, PROBES, ROOT, SOURCE, probe

FIRST, *SECTIONS, LAST = FILES
PAGES = ("README.md", "docs/architecture.md", "docs/troubleshooting.md", os.path.join(PROBES, "README.md"))
BY_HAND = "cat probes/host.py probes/sections/*.py probes/probe.py | ssh user@host python3 -"
# What Debian's python3-minimal has, too: what else is missing is said before a section can fail on it.
LOADED_AT_START = {"os", "re", "sys", "time"}
# What several sections need, or is a part of one, and no section of its own.
SHARED = {
    "apt.py",
    "automatic_updates.py",
    "automounts.py",
    "cards.py",
    "container_words.py",
    "control_groups.py",
    "daemons.py",
    "firewall.py",
    "firewall_iptables.py",
    "firewall_nft.py",
    "firewall_rules.py",
    "firewall_text.py",
    "holders.py",
    "installed.py",
    "logins.py",
    "machine_id.py",
    "mounts.py",
    "nvidia.py",
    "nvml.py",
    "owners.py",
    "packages.py",
    "patience.py",
    "reboot.py",
    "ssh_visitors.py",
    "sshd_config.py",
    "units_shown.py",
    "verdicts.py",
    "watched.py",
}


def parsed(name):
    """Return one file of the program as a tree; `who.py`, which is no part of it, as well."""
    with open(os.path.join(PROBES, name), encoding="utf-8") as file:
        return ast.parse(file.read())


def imported_by(name):
    """Return the files of the program that one names in its imports."""
    found = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = os.path.dirname(name) if node.level == 1 else ""
            found.add(os.path.join(folder, *node.module.split(".")) + ".py")
    return found


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
        self.assertEqual({name for name, times in bound.items() if times > 1} - {"TYPE_CHECKING"}, set())

    def test_host_is_first_and_needs_no_other_file(self):
        self.assertEqual((FIRST, LAST), ("host.py", "probe.py"))
        self.assertEqual(imported_by(FIRST), set())

    def test_sections_need_host_and_one_another_and_probe_needs_both(self):
        for name in SECTIONS:
            self.assertLessEqual(imported_by(name), {FIRST, *SECTIONS} - {name}, name)
        self.assertLessEqual(imported_by(LAST), {FIRST, *SECTIONS})
        self.assertEqual(imported_by("who.py"), {os.path.join("sections", "machine_id.py")})

    def test_no_imports_go_in_a_circle(self):
        known = {name: imported_by(name) for name in FILES}
        while known:
            free = {name for name, others in known.items() if not others.intersection(known)}
            self.assertTrue(free, f"a circle among {sorted(known)}")
            known = {name: others for name, others in known.items() if name not in free}

    def test_sections_may_come_in_the_order_of_any_language(self):
        # By hand the shell sorts them: outside of the C locale as if there were no underscores.
        names = {"__name__": "by_hand"}
        for name in (FIRST, *sorted(SECTIONS, key=lambda name: name.replace("_", "")), LAST):
            exec(compile(FILES[name], name, "exec"), names)
        self.assertEqual(names["polled_sections"](), probe.polled_sections())

    def test_every_section_is_in_the_one_table(self):
        told = [collector.read.__code__.co_name for collector in probe.COLLECTORS]
        self.assertEqual(told, ["collect_" + collector.name for collector in probe.COLLECTORS])
        bound = {name for path in SECTIONS for node in parsed(path).body for name in names_of(node)}
        self.assertEqual(sorted(told), sorted(name for name in bound if name.startswith("collect_")))

    def test_sections_load_at_start_only_what_every_python_has(self):
        for path in SECTIONS:
            loaded = {alias.name for node in parsed(path).body if isinstance(node, ast.Import) for alias in node.names}
            self.assertLessEqual(loaded, LOADED_AT_START, path)
            # Relative imports are for types: there is no package where the probe runs.
            self.assertFalse([node for node in parsed(path).body if isinstance(node, ast.ImportFrom)], path)

    def test_every_file_adds_a_section_but_for_what_sections_share(self):
        self.assertGreater(len(SECTIONS), 5)
        told = [collector.read.__code__.co_name for collector in probe.COLLECTORS]
        for path in SECTIONS:
            mine = {name for node in parsed(path).body for name in names_of(node)}
            self.assertNotEqual(bool(mine.intersection(told)), os.path.basename(path) in SHARED, path)


class ByHand(unittest.TestCase):
    """Whoever wants to see what is sent runs one line, the same on every page."""

    def test_every_page_has_the_same_line(self):
        for page in PAGES:
            with open(os.path.join(ROOT, page), encoding="utf-8") as file:
                told = set(re.findall(r"cat [^`\n]*sections/[^`\n]*", file.read()))
            self.assertEqual(told, {BY_HAND}, page)

    def test_the_line_sends_what_home_assistant_sends(self):
        script = BY_HAND.partition("|")[0]
        self.assertEqual(
            subprocess.check_output(["sh", "-c", script], cwd=ROOT, env=dict(os.environ, LC_ALL="C")), SOURCE
        )

    def test_the_line_prints_one_readable_reply(self):
        # ssh is this machine, and python3 the one that runs this test.
        shims = 'ssh() { shift; "$@"; }\npython3() { "$PYTHON" "$@"; }\n'
        told = subprocess.check_output(
            ["sh", "-c", shims + BY_HAND], cwd=ROOT, env=dict(os.environ, PYTHON=sys.executable)
        )
        self.assertGreater(told.count(b"\n"), 20)
        reply = json.loads(told.decode("ascii"))
        self.assertEqual((reply["id"], reply["protocol"], reply["errors"]), ("by-hand", 1, {}))
        self.assertEqual(set(reply["sections"]) | set(reply["missing"]), set(probe.polled_sections()))
        self.assertGreater(reply["sections"]["uptime"]["uptime_seconds"], 0)


if __name__ == "__main__":
    unittest.main()
