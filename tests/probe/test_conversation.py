"""Real child processes, started as an SSH server would start them, with the bootstrap command."""

import json
import os
import resource
import subprocess
import sys
import time
import unittest
import zlib

import place
from place import HOSTS, SOURCE
from tree import Tree

BOOTSTRAP = (
    "import sys,zlib;r=sys.stdin.buffer;print(chr(30)+'homelab_monitor program',flush=True);"
    "exec(compile(zlib.decompress(r.read(int(r.readline()))),'probe.py','exec'))"
)
EVERY_POLL = ("cpu", "memory", "load", "pressure", "uptime", "network", "disk_io", "sensors", "gpu")


class Conversation:
    """One probe process; leaves nothing behind."""

    def __init__(self, source=None, **environ):
        command = [sys.executable, "-I", "-u", "-c", BOOTSTRAP]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(os.environ, **environ))
        self.hello = self.process.stdout.readline()
        self.send(place.in_pieces(place.FILES) if source is None else place.piece(source))

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, *sections, **more):
        """Send a request and return (header words, reply)."""
        request = dict({"id": "7", "sections": sections}, **more)
        self.send(json.dumps(request).encode() + b"\n")
        return self.reply()

    def reply(self):
        words = self.process.stdout.readline().split()
        payload = self.process.stdout.read(int(words[1]))
        return words, json.loads((zlib.decompress(payload) if words[2] == b"z" else payload).decode())

    def __enter__(self):
        self.marker = self.process.stdout.readline()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()  # twice is no harm


class Conversations(unittest.TestCase):
    def test_it_says_hello_before_it_reads_anything(self):
        with Conversation() as probe:
            self.assertEqual(probe.hello, b"\x1ehomelab_monitor program\n")

    def test_the_marker_says_protocol_python_and_pid(self):
        with Conversation() as probe:
            name, protocol, python, pid = probe.marker.split()[:4]
            self.assertEqual((name, protocol), (b"\x1ehomelab_monitor", b"1"))
            self.assertEqual(python.decode(), ".".join(map(str, sys.version_info[:3])))
            self.assertEqual(int(pid), probe.process.pid)

    def test_the_marker_and_the_small_program_say_which_machine_it_is_where_it_has_an_id(self):
        files = [os.path.join(place.PROBES, name) for name in ("sections/machine_id.py", "who.py")]
        who = b""
        for path in files:
            with open(path, "rb") as file:
                who += file.read()
        etc, dbus, number = "/etc/machine-id", "/var/lib/dbus/machine-id", "0123456789abcdef" * 2 + "\n"
        told_by = (
            (etc, number, 5),
            (dbus, number, 5),
            (etc, "0" + number, 4),
            (etc, "uninitialized\n", 4),
            (etc, "", 4),
        )
        for path, told, words in told_by:
            tree = Tree(self, {"uname": ["nas", "6.8.0", "x86_64"]})
            if told:
                tree.write(path, told)
            with Conversation(HOMELAB_MONITOR_ROOT=tree.folder) as probe:
                section = probe.ask("system")[1]["sections"]["system"]
                self.assertEqual(probe.marker.decode().split()[4:], [section.get("machine_id_hash")] * (words - 4))
            with Conversation(who, HOMELAB_MONITOR_ROOT=tree.folder) as small:
                self.assertEqual(small.marker.split()[4:], probe.marker.split()[4:])
                self.assertEqual(small.marker.split()[:3], [b"\x1ehomelab_monitor", b"1", probe.marker.split()[2]])
                self.assertEqual((small.process.wait(10), small.process.stderr.read()), (0, b""))

    def test_requests_are_answered_one_after_the_other_by_their_id(self):
        with Conversation() as probe:
            for number in ("1", "2"):
                words, reply = probe.ask("load", "uptime", id=number)
                self.assertEqual((words[0], words[2]), (b"\x1e" + number.encode(), b"j"))
                self.assertEqual(reply["id"], number)
                self.assertEqual(set(reply["sections"]), {"load", "uptime"})

    def test_a_long_reply_is_compressed(self):
        with Conversation(HOMELAB_MONITOR_ROOT=os.path.join(HOSTS, "nvidia-workstation")) as probe:
            words, reply = probe.ask("cpu", "services", "gpu")
            self.assertEqual(words[2], b"z")
            self.assertEqual(set(reply["sections"]), {"cpu", "services", "gpu"})

    def test_an_unknown_section_is_not_supported(self):
        with Conversation() as probe:
            self.assertEqual(probe.ask("horoscope")[1]["missing"], {"horoscope": "not_supported"})

    def test_rubbish_is_answered_and_the_next_request_served(self):
        with Conversation() as probe:
            for line in (b"rubbish\n", b"\xff\xfe\n", b"x" * 3000000 + b"\n"):
                probe.send(line)
                words, reply = probe.reply()
                self.assertEqual(words[0], b"\x1e?")
                self.assertIn("error", reply)
            self.assertIn("load", probe.ask("load")[1]["sections"])

    def test_the_end_of_input_ends_it(self):
        with Conversation() as probe:
            probe.process.stdin.close()
            self.assertEqual(probe.process.wait(5), 0)

    def test_it_ends_by_itself_when_nobody_asks(self):
        with Conversation(SOURCE.replace(b"IDLE_SECONDS = 600.0", b"IDLE_SECONDS = 0.5")) as probe:
            self.assertEqual(probe.process.wait(5), 0)

    def test_where_no_thread_can_be_started_only_the_sections_that_need_one_fail(self):
        with Conversation() as probe:
            self.assertIn("load", probe.ask("load")[1]["sections"])
            with open(f"/proc/{probe.process.pid}/status") as file:
                size = next(int(line.split()[1]) for line in file if line.startswith("VmSize")) << 10
            # pthread_create(3): EAGAIN where there is no room for a stack, as where process numbers are used up.
            before = resource.prlimit(probe.process.pid, resource.RLIMIT_AS)
            resource.prlimit(probe.process.pid, resource.RLIMIT_AS, (size + (1 << 20), before[1]))
            reply = probe.ask("load", "filesystems", "security", "uptime")[1]
            self.assertEqual(set(reply["sections"]), {"load", "uptime"})
            self.assertEqual(set(reply["errors"]), {"filesystems", "security"})
            self.assertRegex(reply["errors"]["filesystems"], "thread")
            resource.prlimit(probe.process.pid, resource.RLIMIT_AS, before)
            self.assertEqual(set(probe.ask("load", "filesystems")[1]["sections"]), {"load", "filesystems"})

    def test_whatever_else_goes_wrong_ends_it_at_once_and_is_said(self):
        waits = b'def collect_uptime(host: "Host", request: "Request", memo: "Json") -> "Json":\n'
        odd = SOURCE.replace(b"        stale = is_stale(probe)\n", b"        raise KeyError('odd')\n")
        # One thread that never comes back, and one that holds up the end of an interpreter.
        stuck = (
            b"    import threading\n    threading.Thread(target=time.sleep, args=(60,)).start()\n    time.sleep(60)\n"
        )
        odd = odd.replace(b'Collector("uptime", collect_uptime)', b'Collector("uptime", collect_uptime, 0.2)')
        self.assertIn(waits, odd)
        with Conversation(odd.replace(waits, waits + stuck)) as probe:
            self.assertEqual(probe.ask("uptime")[1]["missing"], {"uptime": "timed_out"})
            self.assertEqual(probe.process.wait(5), 1)
            self.assertIn(b"KeyError: 'odd'", probe.process.stderr.read())

    def test_it_stays_small(self):
        with Conversation() as probe:
            probe.ask(*(collector.name for collector in place.probe.COLLECTORS))
            with open(f"/proc/{probe.process.pid}/status") as file:
                peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
            # It may take 32 MB; most of this is the interpreter's, as it compiles the program.
            self.assertLess(peak, 25 << 10)

    def test_it_is_nicer_than_who_started_it(self):
        with Conversation() as probe:
            with open(f"/proc/{probe.process.pid}/stat") as file:
                nice = int(file.read().rpartition(")")[2].split()[16])
            self.assertEqual(nice, min(19, os.nice(0) + 5))

    def test_an_ordinary_poll_is_cheap(self):
        with Conversation() as probe:
            probe.ask(*EVERY_POLL)
            before = cpu_seconds(probe.process.pid)
            for _ in range(100):
                probe.ask(*EVERY_POLL)
            # The budget over everything is 5 ms; this leaves it to services, filesystems and PID 1.
            self.assertLess((cpu_seconds(probe.process.pid) - before) / 100, 0.003)


class WithoutLibrary(unittest.TestCase):
    def test_a_python_without_json_is_named(self):
        with Conversation(b"import sys\nsys.modules['json'] = None\n" + SOURCE) as probe:
            self.assertEqual(probe.marker, b"")
            errors = probe.process.stderr.read().decode()
            self.assertEqual(probe.process.wait(5), 1)
            self.assertIn("json", errors)
            self.assertIn("standard library", errors)


class ByHand(unittest.TestCase):
    def test_it_prints_readable_json_and_ends(self):
        # The sections that use threads: the interpreter once waited for these at its end, for ever.
        command = [sys.executable, "-", "services", "filesystems", "system"]
        printed = subprocess.check_output(command, input=SOURCE, timeout=30)
        reply = json.loads(printed.decode())
        self.assertIn("system", reply["sections"])
        self.assertGreater(printed.count(b"\n"), 10)

    def test_a_reader_who_has_seen_enough_gets_no_traceback(self):
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-", "memory"], stdin=pipe, stdout=pipe, stderr=pipe)
        process.stdout.close()
        process.stdin.write(SOURCE)
        process.stdin.close()
        with process.stderr:
            self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(30), 0)


class Surroundings(unittest.TestCase):
    def test_programs_are_found_where_systems_have_them_and_never_in_the_folder_we_are_in(self):
        source = SOURCE.rpartition(b'\nif __name__ == "__main__":')[0] + b"\nprepare()\nprint(os.environ['PATH'])"
        for told in ("", ":", "/opt/bin::/bin", None):
            environ = {} if told is None else {"PATH": told}
            printed = subprocess.check_output([sys.executable, "-"], input=source, timeout=30, env=environ)
            folders = printed.decode().strip().split(":")
            self.assertLessEqual({"/usr/bin", "/bin", "/usr/sbin", "/sbin"}, set(folders), told)
            self.assertTrue(all(folder.startswith("/") for folder in folders), told)
            self.assertEqual(folders[:1] == ["/opt/bin"], told == "/opt/bin::/bin")


def cpu_seconds(pid):
    """Return the CPU time of a process and its children that ended."""
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


class ThisMachine(unittest.TestCase):
    def test_values_equal_the_kernels_own(self):
        with Conversation() as probe:
            _, reply = probe.ask("memory", "load", "uptime", "filesystems")
        with open("/proc/meminfo") as file:
            total = int(next(line for line in file if line.startswith("MemTotal")).split()[1]) * 1024
        self.assertEqual(reply["sections"]["memory"]["total_bytes"], total)
        self.assertLess(abs(reply["sections"]["load"]["load1"] - os.getloadavg()[0]), 0.3)
        with open("/proc/uptime") as file:
            self.assertLess(abs(reply["sections"]["uptime"]["uptime_seconds"] - float(file.read().split()[0])), 1)
        root = next(one for one in reply["sections"]["filesystems"]["filesystems"] if one["mountpoint"] == "/")
        truth = subprocess.check_output(["df", "-B1", "-P", "/"]).decode().splitlines()[1].split()
        self.assertEqual(root["total_bytes"], int(truth[1]))
        self.assertLess(abs(root["used_bytes"] - int(truth[2])), 64 << 20)
        self.assertLess(abs(reply["epoch"] - time.time()), 5)


if __name__ == "__main__":
    unittest.main()
