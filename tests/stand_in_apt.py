"""A stand-in for apt-get and dpkg on a machine of `tests.machine`: notes who called it how.

It upgrades when a test lets it. What it would do, which the probe asks for, is what a test offers; that is not noted.
"""

from custom_components.homelab_monitor.client.checks.host_facts import Family
from custom_components.homelab_monitor.client.checks.remedies import remedy_for

from .machine import Machine
from .sshd import wait_until

_SCRIPT = """#!/bin/sh
case " $* " in *" -s "*) cat /run/apt-offers 2>/dev/null; exit 0;; esac
case ${0##*/} in dpkg) set -- dpkg "$@";; esac
for verb in "$@"; do :; done
printf '%s %s %s %s input=%s\\n' "$(id -un)" "$DEBIAN_FRONTEND" "$LC_ALL" "$*" "$(wc -c)" >>/run/apt-calls
[ "$verb" = upgrade ] || exit 0
while [ ! -e /run/apt-go ] && [ $((waited += 1)) -lt 1200 ]; do sleep 0.05; done
echo "Reading package lists..."
[ -s /run/apt-go ] || exit 0
cat /run/apt-go; echo "N: Some more words."; exit 100
"""


class StandInApt:
    """The stand-in on one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        program = machine.folder / "apt-get"
        program.write_text(_SCRIPT)
        program.chmod(0o755)
        # Nothing below /usr/local is looked at.
        for name in ("apt-get", "dpkg"):
            machine.run("mount", "--bind", str(program), f"/usr/bin/{name}")

    def allow(self, username: str) -> None:
        """Let a user install updates, as the repair does it."""
        remedy = remedy_for("install_updates_rule", Family.DEBIAN, username, {"manager": "apt"})
        assert remedy
        self.machine.run("sh", "-c", remedy.commands[0])

    def offer_one(self) -> None:
        """Let the machine have package lists, by which one package can be upgraded."""
        self.machine.run("touch", "/var/lib/apt/lists/debian_dists_stable_Packages")
        simulated = "1 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n"
        simulated += "Inst curl [8.1] (8.2 Debian:12/stable [amd64])\n"
        self.machine.run("tee", "/run/apt-offers", stdin=simulated)

    def let_go(self, failure: str = "") -> None:
        """Let an upgrade end, well or with these words."""
        self.machine.run("tee", "/run/apt-go", stdin=f"{failure}\n" if failure else "")

    @property
    def calls(self) -> list[str]:
        """Return who called it how, and how many bytes it could read."""
        return self.machine.run("sh", "-c", "cat /run/apt-calls 2>/dev/null || true").splitlines()

    def wait_until_started(self) -> None:
        """Wait until it is upgrading."""
        wait_until(lambda: any(" upgrade " in call for call in self.calls), "no upgrade was started")
