"""What controls run as root: by its place, whatever PATH a user has, and exactly what the documented rules allow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
import re

import pytest

from custom_components.homelab_monitor.client.checks.update_script import (
    SCRIPT,
    update_doas_line,
    update_sudoers_line,
)
from custom_components.homelab_monitor.client.control.control import (
    PowerAction,
    RunAction,
    control_power,
    control_service,
)
from custom_components.homelab_monitor.client.transport.command import CommandResult
from custom_components.homelab_monitor.client.transport.ssh import Connection

from .superuser import SUDOS, WAYS, Place

DOCS = (Path(__file__).parents[1] / "docs/actions.md").read_text()
SUDO_RULES = re.findall(r"^mon ALL=.*$", DOCS, re.MULTILINE)
DOAS_RULES = re.findall(r"^permit .*$", DOCS, re.MULTILINE)
TOOLS = {
    "systemd": "systemd\n/usr/bin/systemctl\n",
    "busybox": "/sbin/poweroff\n/sbin/reboot\n",
    "sysv": "/sbin/shutdown\n",
}
every_way = pytest.mark.parametrize("place", WAYS, indirect=True)
pytestmark = pytest.mark.usefixtures("socket_enabled")


class Recorded:
    """A host with some tools and sudo; it notes what is run as root."""

    def __init__(self, tools: str) -> None:
        self.tools = tools
        self.ran: list[str] = []

    async def run(self, command: str, **_: object) -> CommandResult:
        if command == "sh":
            return CommandResult(f"uid=7\nsudo\n{self.tools}", "", 0)
        if command.startswith("env LC_ALL=C systemctl show"):
            return CommandResult("Id=nginx.service\nLoadState=loaded\n", "", 0)
        self.ran.append(command.removeprefix("env LC_ALL=C sudo -n -k -- "))
        return CommandResult("", "", 0)


async def commands() -> list[list[str]]:
    """Return every command that a control runs as root."""
    ran: list[str] = []
    for tools in TOOLS.values():
        host = Recorded(tools)
        for power in PowerAction:
            await control_power(host, "nas", power)  # type: ignore[arg-type]
        for action in RunAction if "systemd" in tools else ():
            await control_service(host, "nas", "nginx.service", action)  # type: ignore[arg-type]
        ran += host.ran
    return [command.split() for command in [*ran, SCRIPT]]


@every_way
async def test_each_documented_rule_lets_through_what_a_control_runs_and_nothing_else(place: Place) -> None:
    """Each is tried alone, and all others with it, so that no rule stands for two commands."""
    rules = [*DOAS_RULES, update_doas_line("mon")] if place.way == "doas" else [*SUDO_RULES, update_sudoers_line("mon")]
    ran = await commands()
    assert len(ran) == len(rules), "one rule for each"
    programs = {argv[0] for argv in ran}
    # All go before any comes: with systemd as init, `poweroff` is a link to `systemctl`.
    for path in programs:
        place.sh(f"rm -f {path}")
    for path in programs:
        place.write(path, "#!/bin/sh\nid -u\n", 0o755)
    allowed = set()
    for rule in rules:
        place.allow(rule)
        through = [" ".join(argv) for argv in ran if place.ask(*argv).stdout == "0\n"]
        assert len(through) == 1, (rule, through)
        allowed |= set(through)
        if place.way == "doas":
            told = [place.run("doas", "-C", "/etc/doas.conf", *argv, user="mon").stdout for argv in ran]
            assert told.count("permit nopass\n") == 1, rule
    assert allowed == {" ".join(argv) for argv in ran}


@asynccontextmanager
async def trapped(place: Place, *rules: str) -> AsyncIterator[Connection]:
    """Log in to a place whose user has a systemctl and a poweroff of their own first on the path."""
    place.allow(*rules)
    place.sh("mkdir -p /run/systemd/system /home/mon/bin; rm -f /usr/bin/systemctl")
    place.write(
        "/usr/bin/systemctl", "#!/bin/sh\necho Id=web.service; echo LoadState=loaded; id -u >>/tmp/real\n", 0o755
    )
    for tool in ("systemctl", "shutdown", "poweroff", "reboot"):
        place.write(
            f"/home/mon/bin/{tool}",
            "#!/bin/sh\necho Id=web.service; echo LoadState=loaded\n[ $(id -u) != 0 ] || touch /tmp/trapped\n",
            0o755,
        )
    async with place.logged_in() as connection:
        run = connection.run

        async def with_path(command: str, **options: object) -> CommandResult:
            # As `SetEnv` of a server or a profile does.
            return await run(f"env PATH=/home/mon/bin:$PATH {command}", **options)

        connection.run = with_path  # type: ignore[method-assign]
        yield connection


@pytest.mark.parametrize(
    ("place", "rule"),
    [(way, "mon ALL=(ALL) NOPASSWD: ALL") for way in SUDOS] + [("doas", "permit nopass keepenv setenv { PATH } mon")],
    indirect=["place"],
)
async def test_no_program_on_a_users_path_is_run_as_root(place: Place, rule: str) -> None:
    async with trapped(place, rule) as connection:
        await control_service(connection, "nas", "web.service", RunAction.RESTART)
        await control_power(connection, "nas", PowerAction.RESTART)
    assert place.sh("test -e /tmp/trapped").returncode == 1
    assert place.sh("cat /tmp/real").stdout.split()[-1] == "0"
