"""The file of bad logins as a real sshd and a real su(1) write it: only the first one's count."""

import json
from pathlib import Path
import shutil
import subprocess
import sys

from custom_components.homelab_monitor.client.probe.programs import probe_source

from .needs import needs
from .sshd import IS_ROOT, SSHD

PROBES = Path(__file__).resolve().parents[1] / "probes"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("unshare", "ip", "setpriv", "script", "su", "ssh-keygen")
MACHINE = r"""
set -e
mount --make-rprivate /
for place in /run /var/log; do mount -t tmpfs -o mode=755 none $place; done
ip link set lo up
mkdir -p /run/sshd
install -m 600 /dev/null /var/log/btmp
(cat /etc/passwd; echo eve:x:61001:61001::/run:/bin/sh) >/run/passwd
mount --bind /run/passwd /etc/passwd
ssh-keygen -q -t ed25519 -N '' -f /run/host
"$SSHD" -h /run/host -p 2299 -o ListenAddress=127.0.0.1 -o PasswordAuthentication=yes -o UsePAM=no
cat >/run/probe.py
tell() { "$PYTHON" -B /run/probe.py security </dev/null | tr -d '\n'; echo; }
as_eve() { setpriv --reuid 61001 --regid 61001 --clear-groups "$@"; }
mistype() { (echo wrong; sleep 4) | as_eve script -qec "su root -c true" /dev/null; }
tell
for each in $(seq 12); do mistype >/dev/null 2>&1 & done
sleep 6
tell
"$PYTHON" -B -c "$STRANGER"
stat -c %s /var/log/btmp
tell
"""
STRANGER = """
import asyncio, asyncssh
async def log_in():
    try:
        await asyncssh.connect("127.0.0.1", 2299, username="nobody-here", password="wrong", config=None,
                               known_hosts=None, client_keys=None, agent_path=None, preferred_auth="password")
    except asyncssh.PermissionDenied:
        pass
asyncio.run(log_in())
"""


def test_what_local_users_mistype_at_su_is_no_refused_ssh_login() -> None:
    needs(IS_ROOT and SSHD and all(map(shutil.which, PROGRAMS)), "root, sshd, su and util-linux")
    environ = {"SSHD": SSHD, "PYTHON": sys.executable, "STRANGER": STRANGER, "PATH": PATH}
    command = ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "bash", "-c", MACHINE]
    run = subprocess.run(command, env=environ, input=probe_source(PROBES), capture_output=True, timeout=60, check=True)
    before, mistyped, size, refused = map(json.loads, run.stdout.decode().splitlines())
    assert size > 12 * 384, "su and sshd have written"
    counts = [told["sections"]["security"]["failed_logins"] for told in (before, mistyped, refused)]
    assert [(each["source"], each["reason"]) for each in counts] == [("btmp", "none")] * 2 + [("btmp", "some")]
    assert counts[-1]["count"] == size // 384 - 12
