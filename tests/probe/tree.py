"""A machine made of a few files, for tests that need only those."""

import json
import os
import shutil
import tempfile

from place import probe


class Tree:
    """A folder that RecordedHost takes for a machine; gone at the end of the test that made it."""

    def __init__(self, test, told=None, **clocks):
        self.folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, self.folder)
        self.told = dict(told or {}, clocks=dict({"boottime": 1000.0, "epoch": 1760000000.0}, **clocks))
        self.save()

    def save(self):
        """Write what is not a file; again after `told` was changed."""
        self.write("/.host.json", json.dumps(self.told))

    def write(self, path, content=""):
        place = self.folder + path
        if not os.path.isdir(os.path.dirname(place)):
            os.makedirs(os.path.dirname(place))
        with open(place, "wb") as file:
            file.write(content if isinstance(content, bytes) else str(content).encode())

    def files(self, folder, **contents):
        """Write files of one folder; `device__model` is device/model."""
        for name, content in contents.items():
            self.write(folder + "/" + name.replace("__", "/"), content)

    def link(self, path, target):
        place = self.folder + path
        if not os.path.isdir(os.path.dirname(place)):
            os.makedirs(os.path.dirname(place))
        os.symlink(target, place)

    def process(self, pid, name, line="", started=100, **more):
        """Run a program, `started` seconds after the boot, by root unless a `uid` is told; `inside` of a container.

        It is in a service of its own unless a `cgroup` is told; which program it runs may be seen where `exe` says it.
        """
        rest = " ".join(["S 1", *["0"] * 17, str(started * 100), "0"])
        uid, inner = more.get("uid", 0), "\t7" if more.get("inside") else ""
        status = f"Name:\t{name}\nUid:\t{uid}\t0\t0\t0\nNSpid:\t{pid}{inner}\n"
        folder = "/proc/" + str(pid)
        self.files(folder, comm=name + "\n", stat=f"{pid} ({name}) {rest}", status=status)
        self.write(folder + "/cgroup", "0::" + more.get("cgroup", f"/system.slice/{name}.service") + "\n")
        if "exe" in more:
            self.link(folder + "/exe", more["exe"])
        self.write(folder + "/cmdline", (line or "/usr/sbin/" + name) + "\0")

    def changed(self, *paths, at=0.0):
        """Let files have been changed then, seconds after the boot; before it unless told."""
        booted = self.told["clocks"]["epoch"] - self.told["clocks"]["boottime"]
        self.told.setdefault("stamps", {}).update({path: [booted + at, booted + at, 9] for path in paths})
        self.save()

    def card(self, address, vendor, driver="", **files):
        """Put a graphics card on the PCI bus."""
        folder = "/sys/bus/pci/devices/" + address
        self.files(folder, **dict({"class": "0x030000\n", "vendor": vendor + "\n", "device": "0x1234\n"}, **files))
        if driver:
            self.link(folder + "/driver", "../../../../bus/pci/drivers/" + driver)

    def chip(self, number, place, name, **files):
        """Put a hardware monitor chip where the kernel would."""
        folder = "/sys/devices/" + place + "/hwmon" + str(number)
        self.files(folder, name=name, **files)
        self.link("/sys/class/hwmon/hwmon" + str(number), "../.." + folder[4:])

    def host(self):
        return probe.RecordedHost(self.folder)


def section(host, name, one=None):
    """Return the reply's parts for one section: (section, missing reason, error)."""
    reply = (one or probe.Probe(host)).answer(probe.Request({"id": "1", "sections": [name]}))
    return reply["sections"].get(name), reply["missing"].get(name), reply["errors"].get(name)
