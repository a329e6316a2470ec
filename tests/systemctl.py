"""A stand-in for systemctl on a machine of `tests.machine`, which runs no systemd.

It knows the services of a folder, says no to who is not root as polkit does, notes who called it
with what, and takes as long as a test lets it.
"""

from pathlib import Path

from .machine import Machine

_SCRIPT = """#!/bin/sh
# Services are files in /run/units with their state in them; `slow.service` stops when /run/release is there.
verb= unit=
for word in "$@"; do
  case $word in --no-ask-password) quiet=yes;; -*) ;; *) verb=${verb:-$word}; unit=$word;; esac
done
printf '%s %s\\n' "$(id -un)" "$*" >>/run/calls
if [ "$verb" = list-units ]; then
  for path in /run/units/*; do
    read -r state <"$path"; echo "${path##*/} loaded $state running A service"
  done
  exit 0
fi
if [ "$verb" = show ]; then
  [ -e "/run/units/$unit" ] && echo LoadState=loaded || echo LoadState=not-found
  echo "Id=$(cat "/run/aliases/$unit" 2>/dev/null || echo "$unit")"
  exit 0
fi
if [ "$(id -u)" != 0 ] && [ ! -e /run/polkit-allows ]; then
  echo "Failed to $verb $unit: Interactive authentication required." >&2; exit 1
fi
if [ "$unit" = broken.service ]; then
  echo "Job for $unit failed because the control process exited with error code." >&2
  echo failed >"/run/units/$unit"; exit 1
fi
while [ "$unit" = slow.service ] && [ ! -e /run/release ] && [ $((waited += 1)) -lt 1200 ]; do sleep 0.05; done
case $verb in
  start|restart) echo active >"/run/units/$unit";;
  stop) echo inactive >"/run/units/$unit";;
esac
"""
UNITS = ("web.service", "slow.service", "broken.service", "ssh.service", r"dev-disk\x2dby@2.service")


class Systemctl:
    """The stand-in on one machine."""

    def __init__(self, machine: Machine, *units: str) -> None:
        self.machine = machine
        program = machine.folder / "bin" / "systemctl"
        program.write_text(_SCRIPT)
        program.chmod(0o755)
        # As root it is called by its place.
        machine.run("mount", "--bind", "/usr/local/bin/systemctl", "/usr/bin/systemctl")
        folders = ("/run/units", "/run/aliases", "/run/systemd/system")
        machine.run("mkdir", "-p", *folders)
        machine.run("chmod", "777", "/run/units")
        for unit in units or UNITS:
            self.write(f"/run/units/{unit}", "active\n")
        self.write("/run/calls", "")

    def write(self, path: str, content: str = "") -> None:
        """Write a file on the machine that everybody may write."""
        self.machine.run("tee", path, stdin=content)
        self.machine.run("chmod", "666", path)

    def state(self, unit: str) -> str:
        """Return a unit's state."""
        return self.machine.run("cat", f"/run/units/{unit}").strip()

    @property
    def calls(self) -> list[str]:
        """Return who had it do what; questions do not count."""
        lines = self.machine.run("cat", "/run/calls").splitlines()
        return [line for line in lines if {"start", "stop", "restart"} & set(line.split())]


def place(machine: Machine, name: str, script: str, folder: str = "sbin") -> Path:
    """Put another program of a few lines on the machine."""
    program = machine.folder / folder / name
    program.write_text(script)
    program.chmod(0o755)
    return program
