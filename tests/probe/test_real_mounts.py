"""Filesystems of a mount namespace of our own, as this kernel reports them: binds, a loop device, memory, autofs."""

import ctypes
import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

from place import HERE, probe

SETTIMEOUT = 0xC0089364  # AUTOFS_IOC_SETTIMEOUT (linux/auto_fs.h)
TELL = "import sys; sys.path.insert(0, sys.argv[1]); import test_real_mounts; test_real_mounts.main()"


def told(one, watched):
    """Return the rows of this machine by mountpoint, and what else is told."""
    request = probe.Request({"id": "1", "sections": ["filesystems"], "watch": {"filesystems": watched}})
    section = one.answer(request)["sections"]["filesystems"]
    return {row.pop("mountpoint"): row for row in section["filesystems"]}, section


def main():
    """Print what the probe tells of the filesystems below a folder, once for each list of watched ones."""
    folder, watched = sys.argv[2], json.loads(sys.argv[3])
    if "--autofs" in sys.argv:
        mount_autofs(folder + "/auto", 300)
    one, found = probe.Probe(probe.Host()), []
    for names in watched:
        rows, section = told(one, names)
        found.append(
            {
                "rows": {place[len(folder) :]: row for place, row in rows.items() if place.startswith(folder)},
                "unwatched": [row["mountpoint"][len(folder) :] for row in section.get("unwatched", [])],
                "late": [place[len(folder) :] for place in section.get("late", []) if place.startswith(folder)],
                "late_devices": section.get("late_devices", []),
            }
        )
    sys.stdout.write(json.dumps(found))


def mount_autofs(place, seconds):
    """Mount an autofs whose daemon we are, and memory on it, as the daemon would."""
    os.setpgid(0, 0)
    ends = os.pipe()
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={ends[1]},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
    if library.mount(b"daemon", place.encode(), b"autofs", 0, options):
        sys.exit(os.strerror(ctypes.get_errno()))
    door = os.open(place, os.O_RDONLY)
    fcntl.ioctl(door, SETTIMEOUT, struct.pack("L", seconds))
    os.close(door)
    if library.mount(b"nas", place.encode(), b"tmpfs", 0, b"size=1m"):
        sys.exit(os.strerror(ctypes.get_errno()))


@unittest.skipUnless(os.geteuid() == 0 and sys.platform == "linux", "needs root")
class RealMounts(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(subprocess.call, ["rm", "-rf", self.folder])

    def namespace(self, setup, *watched, more=()):
        """Return what is told in a mount namespace in which `setup` was run; $d is a folder there."""
        names = [[self.folder + name if name.startswith("/") else name for name in each] for each in watched]
        tell = [sys.executable, "-B", "-c", TELL, HERE, self.folder, json.dumps(names), *more]
        script = f'd={self.folder}; cd /; {setup}\nexec "$@"'
        command = ["unshare", "-m", "--propagation", "private", "sh", "-e", "-c", script, "sh", *tell]
        return json.loads(subprocess.check_output(command).decode())

    DISK = """
        rm -rf $d/*; truncate -s 24M $d/image; mkfs.ext4 -q $d/image; mkdir $d/disk $d/part; touch $d/file
        mount -o loop $d/image $d/disk; mkdir $d/disk/longer; echo > $d/disk/f
    """

    def has_loop_devices(self):
        try:
            subprocess.check_output(["unshare", "-m", "sh", "-e", "-c", f"d={self.folder}; {self.DISK}"])
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("needs loop devices and mkfs.ext4")

    def test_a_place_that_may_not_be_written_and_a_filesystem_that_may_not(self):
        self.has_loop_devices()
        bound = self.DISK + "mount --bind $d/disk $d/disk; mount -o remount,bind,ro $d/disk\n"
        (found,) = self.namespace(bound, [])
        self.assertEqual({place: row["read_only"] for place, row in found["rows"].items()}, {"/disk": False})
        (found,) = self.namespace(self.DISK + "mount -o remount,ro $d/disk\n", [])
        self.assertEqual({place: row["read_only"] for place, row in found["rows"].items()}, {"/disk": True})

    NEST = """
import os, sys
os.chdir(sys.argv[1] + "/eve")
for _ in range(20):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)
os.rename(sys.argv[1] + "/eve/a", "a", dst_dir_fd=os.open(".", os.O_RDONLY))
"""

    def test_what_a_user_moves_below_is_reported_by_the_number_that_the_kernel_gave_it(self):
        self.has_loop_devices()
        setup = self.DISK + "mkdir -p $d/eve/a/disk; mount -t tmpfs t $d/eve; mkdir -p $d/eve/a/disk; umount $d/disk\n"
        setup += "mount -o loop $d/image $d/eve/a/disk\n"
        (found,) = self.namespace(setup, [])
        row = found["rows"]["/eve/a/disk"]
        nest = f"{sys.executable} -c '{self.NEST}' $d\n"
        (found,) = self.namespace(setup + nest, [])
        self.assertEqual(found["rows"], {})
        self.assertEqual(len(found["late_devices"]), 1)
        self.assertRegex(found["late_devices"][0] + " " + row["device_number"], r"^7:\d+ 7:\d+$")
        engines = "mkdir -p $d/eve/docker/overlay2; chown 61001 $d/eve; mv $d/eve/a $d/eve/docker/overlay2/a\n"
        (found,) = self.namespace(setup + engines, [])
        self.assertEqual(set(found["rows"]), {"/eve/docker/overlay2/a/disk"})

    def test_a_chosen_one_that_a_user_gives_another_name_is_not_gone(self):
        setup = """
            mkdir -p $d/eve/a/disk; chmod 755 $d; chown 61001 $d/eve
            mount -t tmpfs t $d/eve/a/disk; mv $d/eve/a $d/eve/b
        """
        (found,) = self.namespace(setup, ["/eve/a/disk"])
        self.assertEqual((found["rows"], found["late"]), ({}, ["/eve/a/disk"]))

    def test_a_bound_file_stands_for_nothing_unless_it_is_chosen(self):
        self.has_loop_devices()
        setup = self.DISK + "mount --bind $d/disk/f $d/file; mount --bind $d/disk/longer $d/part; umount $d/disk\n"
        usual, chosen, both = self.namespace(setup, [], ["/file"], ["/file", "/part"])
        self.assertEqual(set(usual["rows"]), {"/part"})
        self.assertEqual((set(chosen["rows"]), set(both["rows"])), ({"/file", "/part"}, {"/file", "/part"}))
        self.assertEqual(both["rows"]["/file"]["total_bytes"], both["rows"]["/part"]["total_bytes"])

    def test_each_chosen_place_of_one_filesystem_is_reported(self):
        setup = """
            mkdir $d/a $d/b $d/c; mount -t tmpfs -o size=1m one $d/a; mkdir $d/a/x
            mount --bind $d/a/x $d/b; mount --bind $d/a $d/c
        """
        usual, two, pattern = self.namespace(setup, [], ["/b/", "/c"], ["/?"])
        self.assertEqual(set(usual["rows"]), set())
        self.assertEqual((set(two["rows"]), set(pattern["rows"])), ({"/b", "/c"}, {"/a", "/b", "/c"}))

    def test_what_was_moved_onto_another_is_what_is_seen(self):
        # Since Linux 6.8 the list is in the order of the first mounting, not in which they lie on each other.
        setup = """
            mkdir $d/a $d/b; mount -t tmpfs -o size=1m one $d/a; mount -t tmpfs -o size=2m two $d/b
            mount --move $d/a $d/b; df -k --output=size $d/b | tail -1 | grep -qw 1024
        """
        (found,) = self.namespace(setup, ["/a", "/b"])
        self.assertEqual({place: row["total_bytes"] for place, row in found["rows"].items()}, {"/b": 1 << 20})

    def test_what_an_autofs_mounted(self):
        with open("/proc/filesystems") as file:
            if "\tautofs\n" not in file.read():
                self.skipTest("needs autofs")
        usual, first, second = self.namespace("mkdir $d/auto", [], ["/auto"], ["/auto"], more=["--autofs"])
        self.assertEqual((usual["rows"], set(first["rows"])), ({}, {"/auto"}))
        self.assertEqual(first["rows"]["/auto"]["total_bytes"], 1 << 20)
        self.assertIn("age_seconds", second["rows"]["/auto"])


if __name__ == "__main__":
    unittest.main()
