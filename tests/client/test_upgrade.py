"""Installing packages: one job per host that outlives its connection, and what is reported about its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import re
import shutil
import subprocess

import pytest

from custom_components.homelab_monitor.client.checks.rule_remedies import RULE_IN_PLACE
from custom_components.homelab_monitor.client.checks.update_script import (
    SCRIPT,
    update_doas_line,
    update_script,
    update_sudoers_line,
)
from custom_components.homelab_monitor.client.checks.updates_rule import can_install_updates
from custom_components.homelab_monitor.client.control.install_updates import (
    Installation,
    Phase,
    parse_upgrade,
    read_installation,
    start_installation,
)
from custom_components.homelab_monitor.client.errors import CommandNotRun, RepairInterrupted, UpgradeDenied
from custom_components.homelab_monitor.client.models import System, Updates
from custom_components.homelab_monitor.client.transport.ssh import Connection
from tests.machine import Machine
from tests.needs import needs
from tests.stand_in_apt import StandInApt

DOCS = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
MANAGERS = ("apt", "dnf", "zypper", "pacman", "apk")


def system(os_id: str = "some") -> System:
    return System(hostname="nas", kernel="6.12", architecture="x86_64", os_id=os_id)


@pytest.mark.parametrize(
    ("manager", "os_id", "can"),
    [
        *((manager, "some", True) for manager in MANAGERS),
        ("opkg", "openwrt", False),
        ("apk", "openwrt", False),
        ("zypper", "opensuse-leap", True),
        ("zypper", "opensuse-tumbleweed", False),
        ("pacman", "steamos", False),
        ("portage", "gentoo", False),
    ],
)
def test_what_can_be_installed_is_known_by_manager_and_system(manager: str, os_id: str, can: bool) -> None:
    assert can_install_updates(Updates(manager=manager), system(os_id)) is can


@pytest.mark.parametrize("image", ["ostree", "bootc", "transactional", "steamos", "one that is not known yet"])
def test_what_is_brought_up_to_date_as_a_whole_is_reported_by_what_it_is(image: str) -> None:
    assert not can_install_updates(Updates(manager="dnf", pending=3, image=image), system("fedora"))


def test_nothing_is_offered_while_the_host_has_not_reported_what_it_is() -> None:
    assert not can_install_updates(None, system())
    assert not can_install_updates(Updates(manager="apt"), None)


@pytest.mark.parametrize(
    ("told", "manager", "expected"),
    [
        ("upgrade none\n", "apt", Installation(phase=Phase.NONE)),
        ("Welcome!\nupgrade running\n", "apt", Installation(phase=Phase.RUNNING)),
        ("upgrade lost\n", "apt", Installation(phase=Phase.LOST)),
        ("upgrade ended 0\nDone.\n", "apt", Installation(phase=Phase.DONE)),
        ("upgrade ended 102\n", "zypper", Installation(phase=Phase.DONE)),
        ("upgrade ended 102\nbad\n", "apt", Installation(phase=Phase.FAILED, detail="bad")),
        (
            "upgrade ended 100\nReading package lists...\nE: The repository is gone.\nN: See apt-secure(8).\n",
            "apt",
            Installation(phase=Phase.FAILED, detail="E: The repository is gone."),
        ),
        (
            "upgrade ended 1\nDependencies resolved.\nError: \n Problem: conflicting requests\n  - no x\n",
            "dnf",
            Installation(phase=Phase.FAILED, detail="Problem: conflicting requests"),
        ),
        (
            (
                "upgrade ended 100\nSetting up a (2) ...\r\nJob for a.service failed.\r\n"
                "dpkg: error processing package a (--configure):\r\n"
                " installed a package post-installation script subprocess returned error exit status 1\r\n"
                "Errors were encountered while processing:\r\n a\r\n"
                "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
            ),
            "apt",
            Installation(
                phase=Phase.FAILED,
                detail="a: installed a package post-installation script subprocess returned error exit status 1",
            ),
        ),
        (
            (
                "upgrade ended 100\ndpkg: error processing archive /var/cache/apt/archives/b_2_all.deb (--unpack):\n"
                " trying to overwrite /usr/share/x, which is also in package c 1.0\nE: Sub-process …\n"
            ),
            "apt",
            Installation(
                phase=Phase.FAILED,
                detail="/var/cache/apt/archives/b_2_all.deb: "
                "trying to overwrite /usr/share/x, which is also in package c 1.0",
            ),
        ),
        (
            "upgrade ended 100\ndpkg: unrecoverable fatal error, aborting:\n files list of package d is missing\n",
            "apt",
            Installation(phase=Phase.FAILED, detail="files list of package d is missing"),
        ),
        (
            (
                "upgrade ended 100\ndpkg: error: dpkg frontend lock was locked by another process with pid 5\n"
                "Reading package lists...\nE: Packages need to be removed but remove is disabled.\n"
            ),
            "apt",
            Installation(phase=Phase.FAILED, detail="E: Packages need to be removed but remove is disabled."),
        ),
        (
            (
                "upgrade ended 100\ndpkg: error processing package e (--configure):\n"
                " dependency problems - leaving unconfigured\nE: Unmet dependencies.\n"
            ),
            "apt",
            Installation(phase=Phase.FAILED, detail="dpkg: error processing package e (--configure):"),
        ),
        ("upgrade ended 1\n", "apk", Installation(phase=Phase.FAILED, detail="exit status 1")),
        ("upgrade ended \n", "apk", Installation(phase=Phase.FAILED, detail="exit status ")),
        ("", "apt", None),
    ],
)
def test_what_a_host_reports_the_job(told: str, manager: str, expected: Installation | None) -> None:
    assert parse_upgrade(told, manager) == expected


@pytest.mark.parametrize("manager", MANAGERS)
def test_the_script_holds_one_fixed_command_and_nothing_that_quoting_could_change(manager: str) -> None:
    script = update_script(manager)
    assert script.startswith(f"#!/bin/sh\n# homelab_monitor-update 2 {manager}\n")
    assert "'" not in script
    assert "@" not in script
    assert "reboot" not in script
    job = script.partition('job="')[2].partition('"')[0]
    assert set(re.findall(r"\$\w+", job)) == {"$PATH", "$folder"}, "systemd would put its own words for others"
    assert "${" not in job
    assert "$$" not in job


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox ash"])
def test_every_shell_reads_the_script(manager: str, shell: str) -> None:
    needs(shutil.which(shell.split(maxsplit=1)[0]), shell)
    subprocess.run([*shell.split(), "-n"], input=update_script(manager), text=True, check=True)


def test_the_documentation_shows_the_script_its_commands_and_its_rules() -> None:
    shown = DOCS.read_text()
    assert f"```sh\n{update_script('apt')}```\n" in shown
    for manager in MANAGERS[1:]:
        command = update_script(manager).partition("(\n")[2].partition("\n) 9")[0].replace("\n", " ")
        assert f"`{command}`" in shown
    assert f"\n{update_sudoers_line('mon')}\n" in shown
    assert f"\n{update_doas_line('mon')}\n" in shown


@pytest.fixture
def machine(make_machine: Callable[[], Machine]) -> Machine:
    return make_machine()


@pytest.fixture
def apt(machine: Machine) -> StandInApt:
    """Return the stand-in of a machine that has the script, and a rule for nobody."""
    apt = StandInApt(machine)
    apt.allow("root")
    return apt


@asynccontextmanager
async def logged_in(machine: Machine, username: str) -> AsyncIterator[Connection]:
    """Lend a connection of its own, which ends with the block."""
    connection = await Connection.open(machine.target_for(username), machine.key, machine.host_keys, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def start(machine: Machine, username: str) -> None:
    async with logged_in(machine, username) as connection:
        await start_installation(connection, "nas", "apt")


async def look(machine: Machine, username: str) -> Installation:
    async with logged_in(machine, username) as connection:
        return await read_installation(connection, "nas", "apt")


async def ended(machine: Machine, username: str) -> Installation:
    """Return what is told when the job no longer runs."""
    async with asyncio.timeout(10):
        while (found := await look(machine, username)).phase is Phase.RUNNING:
            await asyncio.sleep(0.05)
    return found


async def test_the_job_outlives_its_connection_and_everybody_may_read_its_end(
    machine: Machine, apt: StandInApt
) -> None:
    machine.add_user("mon")
    machine.add_user("eve")
    apt.allow("mon")
    assert await look(machine, "mon") == Installation(phase=Phase.NONE)
    await start(machine, "mon")
    await asyncio.to_thread(apt.wait_until_started)
    assert await look(machine, "mon") == Installation(phase=Phase.RUNNING)
    assert await look(machine, "eve") == Installation(phase=Phase.RUNNING)
    apt.let_go()
    assert await ended(machine, "eve") == Installation(phase=Phase.DONE)
    configure, update, mend, upgrade = apt.calls
    assert configure == "root noninteractive C dpkg --configure -a --force-confdef --force-confold input=0"
    assert mend == (
        "root noninteractive C -o DPkg::Lock::Timeout=600 -y -o Dpkg::Options::=--force-confdef "
        "-o Dpkg::Options::=--force-confold --no-remove -f install input=0"
    )
    assert update == "root noninteractive C -o DPkg::Lock::Timeout=600 update input=0"
    assert upgrade == (
        "root noninteractive C -o DPkg::Lock::Timeout=600 -y -o Dpkg::Options::=--force-confdef "
        "-o Dpkg::Options::=--force-confold --with-new-pkgs upgrade input=0"
    )


async def test_two_starts_make_one_job_and_a_third_after_it_another(machine: Machine, apt: StandInApt) -> None:
    await start(machine, "root")
    await start(machine, "root")
    await asyncio.to_thread(apt.wait_until_started)
    await start(machine, "root")
    apt.let_go()
    assert (await ended(machine, "root")).phase is Phase.DONE
    assert len(apt.calls) == 4
    await start(machine, "root")
    assert (await ended(machine, "root")).phase is Phase.DONE
    assert len(apt.calls) == 8


async def test_a_failure_is_reported_in_the_words_of_the_package_manager(machine: Machine, apt: StandInApt) -> None:
    apt.let_go("E: Sub-process /usr/bin/dpkg returned an error code (1)")
    await start(machine, "root")
    assert await ended(machine, "root") == Installation(
        phase=Phase.FAILED, detail="E: Sub-process /usr/bin/dpkg returned an error code (1)"
    )


async def test_a_job_that_was_killed_is_lost_and_can_be_started_anew(machine: Machine, apt: StandInApt) -> None:
    await start(machine, "root")
    await asyncio.to_thread(apt.wait_until_started)
    machine.run("sh", "-c", "read pid _ </run/homelab_monitor-update/pid; kill -9 $pid")
    assert await ended(machine, "root") == Installation(phase=Phase.LOST)
    apt.let_go()
    await start(machine, "root")
    assert (await ended(machine, "root")).phase is Phase.DONE


@pytest.mark.parametrize("become", ["setpriv --reuid=eve --regid=eve --clear-groups", "setsid"], ids=["eve", "root"])
async def test_another_process_of_that_number_is_not_taken_for_the_job(
    machine: Machine, apt: StandInApt, become: str
) -> None:
    """Numbers are given again, and `su root homelab_monitor-update` is root's as well."""
    machine.add_user("eve")
    await start(machine, "root")
    await asyncio.to_thread(apt.wait_until_started)
    machine.run("sh", "-c", "read pid _ </run/homelab_monitor-update/pid; kill -9 $pid")
    pretends = "sleep 60; : /run/homelab_monitor-update permitted"
    with machine.spawn(*become.split(), "sh", "-c", pretends) as process:
        machine.run("sed", "-i", f"s/^[0-9]*/{process.pid}/", "/run/homelab_monitor-update/pid")
        assert await look(machine, "root") == Installation(phase=Phase.LOST)
        process.kill()


async def test_a_job_is_found_where_processes_of_others_are_hidden(machine: Machine, apt: StandInApt) -> None:
    machine.add_user("eve")
    machine.run("mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
    await start(machine, "root")
    await asyncio.to_thread(apt.wait_until_started)
    assert await look(machine, "eve") == Installation(phase=Phase.RUNNING)
    apt.let_go()
    assert await ended(machine, "eve") == Installation(phase=Phase.DONE)


@pytest.mark.parametrize("sudo", [None, ""], ids=["no sudo", "sudo with a password"])
async def test_who_may_not_become_root_is_refused_and_asked_nothing(
    machine: Machine, apt: StandInApt, sudo: str | None
) -> None:
    machine.add_user("mon", password="secret", sudo=sudo)
    async with asyncio.timeout(10):
        with pytest.raises(UpgradeDenied) as raised:
            await start(machine, "mon")
    assert raised.value.placeholders["manager"] == "apt"
    assert "password is required" in raised.value.detail
    assert apt.calls == []


@pytest.mark.parametrize("username", ["root", "mon"])
async def test_without_the_script_nothing_is_run_and_that_is_said(machine: Machine, username: str) -> None:
    apt = StandInApt(machine)
    machine.add_user("mon", sudo="NOPASSWD: ")
    with pytest.raises(UpgradeDenied, match=r"not found|No such file") as raised:
        await start(machine, username)
    assert SCRIPT in raised.value.detail
    assert apt.calls == []


@pytest.mark.parametrize("username", ["root", "mon"])
async def test_what_a_killed_repair_has_left_is_reported_as_that(
    machine: Machine, apt: StandInApt, username: str
) -> None:
    machine.add_user("mon", sudo="NOPASSWD: ")
    trial = RULE_IN_PLACE.partition('cat >$work/trial <<"END"\n')[2].partition("END\n")[0]
    machine.run("sh", "-c", f"cat >{SCRIPT}", stdin=trial)
    with pytest.raises(RepairInterrupted, match="was interrupted") as raised:
        await start(machine, username)
    assert raised.value.key == "repair_interrupted"
    assert apt.calls == []


async def test_what_says_nothing_is_not_taken_for_an_end(machine: Machine, apt: StandInApt) -> None:
    machine.add_user("mon", shell="/bin/false")
    async with logged_in(machine, "mon") as connection:
        with pytest.raises(CommandNotRun):
            await start_installation(connection, "nas", "apt")
    assert apt.calls == []


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("E: https://anna:s3cret@apt.example.org/x 401", "E: https://apt.example.org/x 401"),
        ("E: http://t0ken@a/ http://b/@x", "E: http://a/ http://b/@x"),
        ("E: mail anna@example.org about http://b/", "E: mail anna@example.org about http://b/"),
    ],
)
def test_what_a_mirror_is_logged_in_with_is_not_reported(told: str, kept: str) -> None:
    assert parse_upgrade(f"upgrade ended 100\n{told}\n", "apt").detail == kept


def test_a_password_that_would_be_cut_is_not_reported_in_part() -> None:
    told = parse_upgrade(f"upgrade ended 100\nE: https://anna:{'s3cret' * 60}@apt.example.org/x\n", "apt")
    assert told.detail == "E: https://apt.example.org/x"
