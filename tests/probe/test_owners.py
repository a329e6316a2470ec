"""Who owns a process, from the control groups that real engines make."""

import unittest

from place import probe
from tree import Tree

ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
USER = "/user.slice/user-1000.slice/user@1000.service"
OWNERS = (
    # where, unit, container
    ("/system.slice/nginx.service", "nginx.service", None),
    ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", None),
    ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", None),
    ("/init.scope", "init.scope", None),
    (USER + "/app.slice/syncthing.service", "user@1000.service/syncthing.service", None),
    (USER + "/init.scope", "user@1000.service/init.scope", None),
    (f"/system.slice/docker-{ID}.scope", None, ID),
    (f"/system.slice/docker-{ID}.scope/system.slice/nginx.service", None, ID),  # systemd in Docker
    (f"/docker/{ID}", None, ID),  # the engine without systemd
    (f"/machine.slice/libpod-{ID}.scope/container", None, ID),
    (f"/machine.slice/libpod-conmon-{ID}.scope", f"libpod-conmon-{ID}.scope", None),  # watches it from outside
    (f"/system.slice/web.service/libpod-payload-{ID}", "web.service", ID),  # a quadlet
    (f"{USER}/user.slice/libpod-{ID}.scope/container", "user@1000.service", ID),
    # Claims of who may make groups there, as pam_cgfs lets users; no engine does.
    (f"/user.slice/user-1000.slice/session-3.scope/docker-{ID}.scope", "session-3.scope", None),
    (f"/user/eve/0/docker-{ID}.scope", None, None),
    (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", None, ID),
    (f"/kubepods/burstable/pod1f/{ID}", None, ID),
    ("/lxc.payload.media/system.slice/nginx.service", None, "media"),
    (f"/lxc.payload.media/system.slice/docker-{ID}.scope", None, "media"),  # the host's engine knows only LXC
    ("/lxc/101/ns/init.scope", None, "101"),  # Proxmox
    ("/lxc.monitor.media", None, None),
    ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn@web.service", None),
    ("/qemu.slice/100.scope", "100.scope", None),
    ("/", None, None),
)


class Owners(unittest.TestCase):
    def test_unit_and_container_of_every_engines_groups(self):
        for path, unit, container in OWNERS:
            with self.subTest(path):
                told = probe.parse_cgroup("0::" + path + "\n")
                expected = {"unit": unit, "container": container}
                self.assertEqual(told, {key: value for key, value in expected.items() if value})

    def test_with_the_old_hierarchies_systemds_own_is_asked(self):
        unit = "12:memory:/user.slice\n1:name=systemd:/system.slice/cron.service\n0::/\n"
        self.assertEqual(probe.parse_cgroup(unit), {"unit": "cron.service"})
        self.assertEqual(probe.parse_cgroup(f"4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n"), {"container": ID})

    def test_a_process_that_is_gone_has_no_owner(self):
        tree = Tree(self)
        tree.write("/proc/7/cgroup", "0::/system.slice/a:b.service\n")
        self.assertEqual(probe.owner_of(tree.host(), 7), {"unit": "a:b.service"})
        self.assertEqual(probe.owner_of(tree.host(), 8), {})


if __name__ == "__main__":
    unittest.main()
