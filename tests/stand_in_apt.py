"""A stand-in for apt-get on a machine of `tests.machine`: notes who called it how, and upgrades when a test lets it."""

from .machine import Machine
from .sshd import wait_until

_SCRIPT = """#!/bin/sh
for verb in "$@"; do :; done
printf '%s %s %s %s input=%s\\n' "$(id -un)" "$DEBIAN_FRONTEND" "$LC_ALL" "$*" "$(wc -c)" >>/run/apt-calls
[ "$verb" = upgrade ] || exit 0
while [ ! -e /run/apt-go ]; do sleep 0.05; done
echo "Reading package lists..."
[ -s /run/apt-go ] || exit 0
cat /run/apt-go; echo "N: Some more words."; exit 100
"""


class StandInApt:
    """The stand-in on one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        program = machine.folder / "sbin" / "apt-get"
        program.write_text(_SCRIPT)
        program.chmod(0o755)

    def offer_one(self) -> None:
        """Let the machine have package lists of its own, by which one package can be upgraded."""
        lists = "/var/lib/apt/lists"
        self.machine.run("sh", "-c", f"mount -t tmpfs tmpfs {lists} && touch {lists}/debian_dists_stable_Packages")
        self.machine.install("apt", "#!/bin/sh\necho 'curl/stable 8.2 amd64 [upgradable from: 8.1]'\n")

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
