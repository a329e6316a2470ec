"""The capability test: facts from texts, rows from evidence, and whole tests of hosts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
import json
from pathlib import Path
import re
import shutil
import socket
from subprocess import run
from tempfile import TemporaryDirectory
import time
from types import SimpleNamespace

import pytest

from custom_components.homelab_monitor.client.checks import evaluation, host_facts, testing, updates_rule
from custom_components.homelab_monitor.client.checks.evaluation import CHECKS, Evidence, evaluate, evaluate_poll
from custom_components.homelab_monitor.client.checks.host_facts import (
    FACTS_SCRIPT,
    Access,
    Engine,
    Facts,
    Family,
    Privilege,
    Smart,
    family_of,
    parse_facts,
    wants_password,
)
from custom_components.homelab_monitor.client.checks.remedies import REMEDIES, remedy_for
from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, restore_report
from custom_components.homelab_monitor.client.checks.testing import run_checks
from custom_components.homelab_monitor.client.errors import (
    BadReply,
    ChannelRefused,
    CommandNotRun,
    ConnectionLost,
    ConnectionRefused,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    NameNotFound,
    NoPython,
    NotSSH,
    OldForcedCommand,
    ProbeFailed,
    PythonIncomplete,
    TimedOut,
    Unreachable,
    UnsupportedSystem,
)
from custom_components.homelab_monitor.client.models import Firewall, Security
from custom_components.homelab_monitor.client.probe.programs import load_programs
from custom_components.homelab_monitor.client.probe.snapshot import Reply, Snapshot, decode_reply
from custom_components.homelab_monitor.client.transport.target import Target
from tests import fake_host as fake
from tests.between import Between
from tests.fake_host import Channel, FakeHost
from tests.machine import Machine
from tests.sshd import Sshd

REPLIES = Path(__file__).parents[1] / "fixtures" / "replies"
TARGET = Target("mon", "nas.lan")
NO_OPTIONS = {"installs_updates": False, "sudo": ()}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"
NOW = 1_763_940_000.5


def snapshot(offset: float = 0.0, **changes: object) -> Snapshot:
    """Return what a plain host told, with some of it changed."""
    document = json.loads((REPLIES / "plain.json").read_text())
    for part, values in changes.items():
        document[part] |= values
        for name in values if part != "sections" else ():
            document["sections"].pop(name, None)
    reply = decode_reply("nas", json.dumps(document).encode())
    return Snapshot().merged(reply, NOW - offset, 0.0)


def facts(**changes: object) -> Facts:
    """Return the facts of a plain Debian host."""
    plain = Facts(
        system="Linux",
        kernel="6.1.0",
        architecture="x86_64",
        os_release={"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12"},
        privilege=Privilege.SUDO_PASSWORD,
        systemd="systemd 252",
        is_complete=True,
    )
    return replace(plain, **changes)


def evidence(**changes: object) -> Evidence:
    """Return what is known of a host that has nothing to complain about."""
    plain = Evidence(
        target=TARGET,
        host_keys=(HOST_KEY,),
        is_connected=True,
        rtt_seconds=0.0123,
        python=("3.11.2", "python3"),
        snapshot=snapshot(),
        poll_seconds=0.25,
        facts=facts(),
        **NO_OPTIONS,
    )
    return replace(plain, **changes)


def row(check: str, **changes: object) -> CheckResult:
    """Return the row of one check over changed evidence."""
    return next(each for each in evaluate(evidence(**changes)) if each.check == check)


def failed(error: HomelabError, *, connected: bool = False) -> Evidence:
    """Return what is known when an error came before everything else."""
    return Evidence(target=TARGET, host_keys=(HOST_KEY,), is_connected=connected, error=error, **NO_OPTIONS)


# ---------------------------------------------------------------- judging


def test_a_plain_host_is_green():
    rows = evaluate(evidence())
    assert {each.check: (each.status.value, each.reason) for each in rows} == {
        "reachable": ("ok", "answers_in"),
        "host_key": ("ok", "host_key_pinned"),
        "login": ("ok", "logged_in"),
        "system": ("ok", "system_known"),
        "shell": ("ok", "shell_quiet"),
        "python": ("ok", "python_found"),
        "probe": ("ok", "probe_ran"),
        "too_much": ("ok", "within_limits"),
        "proc": ("ok", "uptime_today"),
        "clock": ("ok", "clock_right"),
        "docker": ("info", "docker_not_installed"),
        "podman": ("info", "podman_not_installed"),
        "systemd": ("ok", "systemd_version"),
        "gpu": ("info", "gpu_none"),
        "smart": ("info", "smart_not_installed"),
        "firewall": ("info", "firewall_denied"),
        "sudo": ("info", "sudo_asks_password"),
        "updates_rule": ("info", "updates_rule_none"),
    }
    assert Report(rows=rows).hindrance is None


def test_without_evidence_nothing_is_checked():
    rows = evaluate(Evidence(target=TARGET, **NO_OPTIONS))
    assert [each.check for each in rows] == [check.key for check in CHECKS]
    assert {each.status for each in rows} == {CheckStatus.UNKNOWN}


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (Unreachable("nas", "no route"), "unreachable", None),
        (ConnectionRefused("nas"), "connection_refused", "start_sshd"),
        (NameNotFound("nas"), "name_not_found", None),
        (TimedOut("nas"), "timed_out", None),
        (ConnectionLost("nas"), "connection_lost", None),
        (NotSSH("nas"), "not_ssh", None),
    ],
)
def test_a_host_that_is_not_reached_says_why_and_nothing_else_is_checked(error, reason, remedy):
    first, *others = evaluate(failed(error))
    assert (first.check, first.status, first.reason, first.remedy) == ("reachable", CheckStatus.RED, reason, remedy)
    assert first.placeholders["address"] == "nas.lan"
    assert {each.status for each in others} == {CheckStatus.UNKNOWN}


def test_a_changed_host_key_shows_both_fingerprints():
    rows = {
        each.check: each for each in evaluate(failed(HostKeyChanged("nas", expected="SHA256:a", offered="SHA256:b")))
    }
    assert rows["reachable"].status is CheckStatus.OK
    assert (rows["host_key"].status, rows["host_key"].remedy) == (CheckStatus.RED, "accept_host_key")
    assert (rows["host_key"].placeholders["expected"], rows["host_key"].placeholders["offered"]) == (
        "SHA256:a",
        "SHA256:b",
    )
    assert rows["login"].status is CheckStatus.UNKNOWN


def test_a_refused_key_is_the_logins_row():
    rows = {each.check: each for each in evaluate(failed(KeyRefused("nas")))}
    assert (rows["reachable"].status, rows["host_key"].status) == (CheckStatus.OK, CheckStatus.OK)
    assert (rows["login"].status, rows["login"].reason, rows["login"].remedy) == (
        CheckStatus.RED,
        "key_refused",
        "authorize",
    )


@pytest.mark.parametrize(
    ("error", "check", "reason", "remedy"),
    [
        (NoPython("nas"), "python", "no_python", "install_python"),
        (PythonIncomplete("nas", "json"), "python", "python_incomplete", "install_python"),
        (UnsupportedSystem("nas", "Windows"), "system", "not_supported", None),
        (ProbeFailed("nas", "boom"), "probe", "probe_failed", None),
        (BadReply("nas", "boom"), "probe", "probe_failed", None),
        (TimedOut("nas", "no reply"), "probe", "probe_failed", None),
        (ChannelRefused("nas"), "probe", "probe_failed", None),
        (ConnectionLost("nas", "the probe's channel closed"), "probe", "connection_lost", None),
    ],
)
def test_what_fails_after_the_login_is_one_red_row(error, check, reason, remedy):
    rows = evaluate(failed(error, connected=True))
    assert [(each.check, each.reason, each.remedy) for each in rows if each.status is CheckStatus.RED] == [
        (check, reason, remedy)
    ]
    assert next(each for each in rows if each.check == "login").status is CheckStatus.OK


def test_a_channel_that_is_refused_before_the_connection_counts_still_means_that_the_host_answers():
    assert evaluate(failed(ChannelRefused("nas")))[0].reason == "answers"


def test_an_answer_without_a_round_trip_time_is_an_answer():
    assert row("reachable", rtt_seconds=None).reason == "answers"
    assert row("reachable", rtt_seconds=0.0004).placeholders == {"milliseconds": "0.4"}
    assert row("reachable", rtt_seconds=0.00002).placeholders == {"milliseconds": "0.1"}
    assert row("reachable", rtt_seconds=0.123).placeholders == {"milliseconds": "123"}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "Debian GNU/Linux 12 (bookworm) · systemd · x86_64"),
        ({"snapshot": None}, "Debian GNU/Linux 12 · systemd · x86_64"),
        ({"snapshot": None, "facts": facts(systemd="")}, "Debian GNU/Linux 12 · x86_64"),
        (
            {
                "snapshot": snapshot(
                    sections={
                        "system": {
                            "hostname": "a",
                            "kernel": "6",
                            "architecture": "mips",
                            "os_name": "OpenWrt",
                            "os_version": "24",
                        }
                    }
                )
            },
            "OpenWrt 24 · mips",
        ),
        ({"snapshot": None, "facts": facts(os_release={})}, "Linux · systemd · x86_64"),
    ],
)
def test_the_system_is_named(changes, shown):
    assert row("system", **changes).placeholders == {"system": shown}


def test_a_system_without_a_probe_is_named():
    mac = row("system", snapshot=None, facts=facts(system="Darwin", os_release={}))
    assert (mac.status, mac.reason, mac.placeholders) == (CheckStatus.RED, "not_supported", {"system": "Darwin"})
    assert row("system", snapshot=None, facts=None).status is CheckStatus.UNKNOWN


def test_a_talking_login_shell_is_quoted():
    for changes in ({"noise": "Welcome!"}, {"facts": facts(noise="Welcome!")}):
        talking = row("shell", **changes)
        assert (talking.status, talking.placeholders, talking.remedy) == (
            CheckStatus.AMBER,
            {"line": "Welcome!"},
            "quiet_shell",
        )
    named = row("shell", noise="Welcome!", facts=facts(shell="/usr/bin/zsh"))
    assert (named.reason, named.placeholders) == ("shell_noise_of", {"line": "Welcome!", "shell": "/usr/bin/zsh"})
    assert row("shell", snapshot=None, facts=None).status is CheckStatus.UNKNOWN
    assert row("shell", snapshot=None).status is CheckStatus.OK


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (CommandNotRun("nas"), "command_not_run", "plain_shell"),
        (CommandNotRun("nas", "1) status"), "command_not_run_said", "plain_shell"),
        (OldForcedCommand("nas"), "old_forced_command", "renew_forced_command"),
    ],
)
def test_a_login_shell_that_runs_no_command_is_the_one_red_row(error, reason, remedy):
    rows = evaluate(failed(error, connected=True))
    assert [(each.check, each.reason, each.remedy) for each in rows if each.status is CheckStatus.RED] == [
        ("shell", reason, remedy)
    ]
    assert [each.check for each in evaluate_poll(failed(error)) if each.status is CheckStatus.RED] == ["shell"]


@pytest.mark.parametrize(
    ("changes", "reason", "placeholders"),
    [
        (
            {"missing": {"cpu": "timed_out", "load": "timed_out"}},
            "section_timed_out",
            {"sections": "cpu, load"},
        ),
        (
            {"missing": dict.fromkeys(("cpu", "load", "memory", "network", "uptime"), "timed_out")},
            "section_timed_out",
            {"sections": "cpu, load, memory, network +1"},
        ),
        (
            {"errors": {"memory": "wrong <b>shape</b>\nsecond line"}},
            "section_failed",
            {"sections": "memory", "detail": "wrong <b>shape</b>"},
        ),
    ],
)
def test_a_dry_run_that_lacks_something_is_amber(changes, reason, placeholders):
    amber = row("probe", snapshot=snapshot(**changes))
    assert (amber.status, amber.reason, amber.placeholders) == (CheckStatus.AMBER, reason, placeholders)


def test_a_broken_graphics_card_is_not_a_broken_probe():
    broken = snapshot(errors={"gpu": "NVML: Driver/library version mismatch"})
    assert row("probe", snapshot=broken).status is CheckStatus.OK
    card = row("gpu", snapshot=broken)
    assert (card.status, card.placeholders, card.remedy) == (
        CheckStatus.AMBER,
        {"detail": "NVML: Driver/library version mismatch"},
        "restart_host",
    )


CARD = {"id": "GPU-1", "vendor": "nvidia", "name": "RTX 4090"}


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"sections": {"gpu": {"gpus": [CARD]}}}, CheckStatus.OK, "gpu_found"),
        ({"sections": {"gpu": {"gpus": [CARD | {"state": "suspended"}]}}}, CheckStatus.OK, "gpu_found"),
        ({"sections": {"gpu": {"gpus": [CARD, CARD | {"state": "lost"}]}}}, CheckStatus.AMBER, "gpu_lost"),
        ({"missing": {"gpu": "not_installed"}}, CheckStatus.INFO, "gpu_none"),
        ({"missing": {"gpu": "not_supported"}}, CheckStatus.INFO, "gpu_none"),
        ({"missing": {"gpu": "permission_denied"}}, CheckStatus.AMBER, "gpu_denied"),
        ({"missing": {"gpu": "timed_out"}}, CheckStatus.UNKNOWN, "not_tested"),
    ],
)
def test_a_graphics_card_is_there_absent_broken_or_unknown(changes, status, reason):
    judged = row("gpu", snapshot=snapshot(**changes))
    assert (judged.status, judged.reason) == (status, reason)


@pytest.mark.parametrize(
    ("seconds", "reason", "shown"),
    [
        (59.0, "uptime_today", {"hours": "0", "minutes": "0"}),
        (86399.0, "uptime_today", {"hours": "23", "minutes": "59"}),
        (86400.0, "uptime", {"days": "1.0"}),
        (8726400.0, "uptime", {"days": "101.0"}),
    ],
)
def test_how_long_a_host_has_been_up_is_reported_in_units_that_say_something(seconds, reason, shown):
    told = row("proc", snapshot=snapshot(sections={"uptime": {"at": 1.0, "uptime_seconds": seconds}}))
    assert (told.status, told.reason, told.placeholders) == (CheckStatus.OK, reason, shown)


def test_proc_that_cannot_be_read_is_amber():
    denied = row("proc", snapshot=snapshot(missing={"uptime": "permission_denied"}))
    assert (denied.status, denied.placeholders) == (CheckStatus.AMBER, {"detail": "permission_denied"})
    broken = row("proc", snapshot=snapshot(errors={"uptime": "no such file"}))
    assert broken.placeholders == {"detail": "no such file"}


@pytest.mark.parametrize(
    ("offset", "status", "reason", "shown"),
    [
        (59.9, CheckStatus.OK, "clock_right", "+59.9"),
        (-60.0, CheckStatus.OK, "clock_right", "-60.0"),
        (-0.01, CheckStatus.OK, "clock_right", "+0.0"),
        (60.1, CheckStatus.AMBER, "clock_fast", "60"),
        (-3600.0, CheckStatus.AMBER, "clock_slow", "3600"),
    ],
)
def test_a_clock_may_be_a_minute_off(offset, status, reason, shown):
    clock = row("clock", snapshot=snapshot(offset))
    assert (clock.status, clock.reason, clock.placeholders) == (status, reason, {"seconds": shown})


@pytest.mark.parametrize(
    ("check", "engine", "status", "reason", "remedy"),
    [
        ("docker", Engine(), CheckStatus.INFO, "docker_not_installed", None),
        ("docker", Engine(access=Access.DENIED), CheckStatus.AMBER, "docker_denied", "join_docker"),
        ("docker", Engine(access=Access.STOPPED, error="down"), CheckStatus.AMBER, "docker_stopped", "start_docker"),
        ("docker", Engine(access=Access.LATE), CheckStatus.UNKNOWN, "docker_late", None),
        ("docker", Engine(access=Access.USABLE, version="27.3.1"), CheckStatus.OK, "docker_version", None),
        ("docker", Engine(access=Access.USABLE), CheckStatus.OK, "docker_usable", None),
        ("podman", Engine(), CheckStatus.INFO, "podman_not_installed", None),
        ("podman", Engine(access=Access.DENIED), CheckStatus.AMBER, "podman_denied", None),
        ("podman", Engine(access=Access.STOPPED), CheckStatus.INFO, "podman_unused", None),
        (
            "podman",
            Engine(access=Access.STOPPED, has_containers=True),
            CheckStatus.AMBER,
            "podman_stopped",
            "start_podman",
        ),
        ("podman", Engine(access=Access.LATE), CheckStatus.UNKNOWN, "podman_late", None),
        ("podman", Engine(access=Access.USABLE, version="4.3.1"), CheckStatus.OK, "podman_version", None),
    ],
)
def test_a_container_engine_is_absent_denied_stopped_or_usable(check, engine, status, reason, remedy):
    judged = row(check, facts=facts(**{check: engine}))
    assert (judged.status, judged.reason, judged.remedy) == (status, reason, remedy)
    assert row(check, facts=None).status is CheckStatus.UNKNOWN


@pytest.mark.parametrize("init", ["", "systemd 252"])
def test_what_systemd_would_do_is_offered_only_where_it_runs(init):
    stopped = Engine(access=Access.STOPPED, error="down", has_containers=True)
    told = facts(systemd=init, docker=stopped, podman=stopped)
    remedies = {each.check: each.remedy for each in evaluate(evidence(facts=told, snapshot=snapshot(3600.0)))}
    wanted = {"docker": "start_docker", "podman": "start_podman", "clock": "set_clock"}
    assert {check: remedies[check] for check in wanted} == (wanted if init else dict.fromkeys(wanted))


def test_a_poll_knows_what_runs_a_host_from_the_probe():
    for init, remedy in (("systemd", "set_clock"), ("sleep", None), (None, "set_clock")):
        seen = snapshot(3600.0)
        system = replace(seen.sections.system, os_id="debian", init=init)
        seen = replace(seen, sections=replace(seen.sections, system=system))
        rows = evaluate_poll(evidence(snapshot=seen, facts=None))
        clock = next(each for each in rows if each.check == "clock")
        assert (clock.reason, clock.remedy) == ("clock_fast", remedy)


def test_without_systemd_services_are_no_complaint():
    assert row("systemd", facts=facts(systemd="")).status is CheckStatus.INFO
    for unclear in (None, facts(is_complete=False)):
        assert row("systemd", facts=unclear).status is CheckStatus.UNKNOWN


@pytest.mark.parametrize(
    ("smart", "status", "reason"),
    [
        (Smart(), CheckStatus.INFO, "smart_not_installed"),
        (Smart(tool="/usr/sbin/smartctl"), CheckStatus.INFO, "smart_no_disks"),
        (Smart(tool="/usr/sbin/smartctl", readable=("sda",)), CheckStatus.OK, "smart_readable"),
        (Smart(tool="/usr/sbin/smartctl", readable=("sda",), denied=("sdb",)), CheckStatus.INFO, "smart_denied"),
    ],
)
def test_the_health_of_disks_is_reported_and_no_rights_are_offered_for_it(smart, status, reason):
    judged = row("smart", facts=facts(smart=smart))
    assert (judged.status, judged.reason, judged.remedy) == (status, reason, None)
    assert row("smart", facts=None).status is CheckStatus.UNKNOWN


@pytest.mark.parametrize(
    ("part", "status", "reason", "remedy"),
    [
        (None, CheckStatus.UNKNOWN, "not_tested", None),
        (Firewall(state="ok", reason="active"), CheckStatus.OK, "firewall_readable", None),
        (Firewall(state="warning", reason="inactive"), CheckStatus.OK, "firewall_readable", None),
        (Firewall(state="unknown", reason="some_rules"), CheckStatus.OK, "firewall_readable", None),
        (Firewall(state="unknown", reason="no_tool"), CheckStatus.INFO, "firewall_no_tool", None),
        (Firewall(state="unknown", reason="permission_denied"), CheckStatus.INFO, "firewall_denied", None),
        (Firewall(state="unknown", reason="unreadable"), CheckStatus.INFO, "firewall_unreadable", None),
        (
            Firewall(state="ok", reason="active", old_rules=True),
            CheckStatus.AMBER,
            "firewall_rules_old",
            "allow_firewall",
        ),
    ],
)
def test_old_rules_of_sudo_for_the_firewall_are_to_be_renewed(part, status, reason, remedy):
    seen = evidence().snapshot
    judged = row("firewall", snapshot=replace(seen, sections=replace(seen.sections, security=Security(firewall=part))))
    assert (judged.status, judged.reason, judged.remedy) == (status, reason, remedy)
    assert row("firewall", snapshot=None).status is CheckStatus.UNKNOWN


@pytest.mark.parametrize(
    ("sudo", "part", "judged"),
    [
        (("security",), "permission_denied", (CheckStatus.AMBER, "firewall_rule_missing", "allow_firewall")),
        (("sockets",), "permission_denied", (CheckStatus.INFO, "firewall_denied", None)),
        (("security",), "active", (CheckStatus.OK, "firewall_readable", None)),
        (("security",), "no_tool", (CheckStatus.INFO, "firewall_no_tool", None)),
    ],
)
def test_an_option_that_has_no_effect_without_a_rule_offers_the_rule(sudo, part, judged):
    seen = evidence().snapshot
    security = Security(firewall=Firewall(state="unknown", reason=part))
    found = row("firewall", snapshot=replace(seen, sections=replace(seen.sections, security=security)), sudo=sudo)
    assert (found.status, found.reason, found.remedy) == judged


@pytest.mark.parametrize("privilege", Privilege)
def test_how_root_is_reached_is_only_reported(privilege):
    assert row("sudo", facts=facts(privilege=privilege)).status is CheckStatus.INFO
    assert row("sudo", facts=facts(privilege=None)).status is CheckStatus.UNKNOWN
    assert row("sudo", facts=None).status is CheckStatus.UNKNOWN


def test_every_remedy_that_a_row_names_is_in_the_catalog():
    named = {"start_sshd", "accept_host_key", "authorize", "quiet_shell", "install_python", "set_clock", "join_docker"}
    named |= {"start_docker", "start_podman", "restart_host", "allow_smart", "plain_shell", "renew_forced_command"}
    named |= {"install_updates_rule", "remove_updates_rule", "allow_firewall"}
    assert {remedy for remedy, _ in REMEDIES} == named
    source = Path(evaluation.__file__).read_text() + Path(updates_rule.__file__).read_text()
    # The health of disks is not read yet: no check asks for its rules before it is.
    assert {remedy for remedy in named if f'"{remedy}"' not in source} == {"allow_smart"}


def test_a_script_that_reported_nothing_makes_no_check_ok():
    """A field of the facts that the script did not report must not look like a good answer."""
    rows = evaluate(Evidence(target=TARGET, is_connected=True, facts=Facts(is_complete=True), **NO_OPTIONS))
    # These are known from the connection itself.
    assert {each.check for each in rows if each.status is CheckStatus.OK} <= {"reachable", "host_key", "login", "shell"}


def test_the_family_comes_from_the_best_witness():
    assert evidence().family is Family.DEBIAN
    assert evidence(facts=None).family is Family.DEBIAN
    assert evidence(facts=facts(os_release={"ID": "alpine"})).family is Family.ALPINE
    assert Evidence(target=TARGET, **NO_OPTIONS).family is Family.OTHER
    assert evidence(facts=facts(system="Darwin", os_release={})).family is Family.MACOS
    assert failed(UnsupportedSystem("nas", "Windows")).family is Family.WINDOWS


# ---------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("os_id", "like", "family"),
    [
        ("ubuntu", "debian", Family.DEBIAN),
        ("linuxmint", "ubuntu debian", Family.DEBIAN),
        ("rocky", "rhel centos fedora", Family.FEDORA),
        ("opensuse-tumbleweed", "opensuse suse", Family.SUSE),
        ("endeavouros", "arch", Family.ARCH),
        ("alpine", None, Family.ALPINE),
        ("openwrt", "lede openwrt", Family.OPENWRT),
        ("nixos", "", Family.OTHER),
        (None, None, Family.OTHER),
    ],
)
def test_families_by_os_release(os_id, like, family):
    assert family_of(os_id, like) is family


FACTS = """Welcome to nas
\x1euname
Linux
6.1.0
x86_64
\x1eos_release
PRETTY_NAME="Al's \\"Box\\" 1"
ID=debian
 # a comment
ID_LIKE='a b'
\x1eid
1000
mon
\x1eshell
/bin/bash
/usr/bin/fish
\x1esystemd
systemd 252 (252.30)
\x1esudo
sudo: a password is required

1
uid
\x1edoas
\x1edocker
installed
socket denied
error permission denied
\x1epodman
installed
version 4.3.1
socket usable
containers
\x1esmart
tool /usr/sbin/smartctl
readable nvme0n1
denied sda
denied sdb
\x1eend
"""


@pytest.mark.parametrize("end", ["\v", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_what_an_engine_says_of_itself_writes_no_line_of_the_facts(end: str) -> None:
    text = f"\x1edocker\ninstalled\nversion 27{end}socket usable{end}containers\n\x1eend\n"
    engine = parse_facts(text).docker
    assert (engine.access, engine.has_containers) == (Access.STOPPED, False)


def test_facts_are_read():
    assert parse_facts(FACTS) == Facts(
        system="Linux",
        kernel="6.1.0",
        architecture="x86_64",
        os_release={"PRETTY_NAME": 'Al\'s "Box" 1', "ID": "debian", "ID_LIKE": "a b"},
        privilege=Privilege.SUDO_PASSWORD,
        shell="/bin/bash",
        systemd="systemd 252 (252.30)",
        docker=Engine(access=Access.DENIED, error="permission denied"),
        podman=Engine(access=Access.USABLE, version="4.3.1", has_containers=True),
        smart=Smart(tool="/usr/sbin/smartctl", readable=("nvme0n1",), denied=("sda", "sdb")),
        noise="Welcome to nas",
        is_complete=True,
    )


@pytest.mark.parametrize("text", ["", "\x1e", "\x1euname\n", "'sh' is not recognized\r\n", "\x1esudo\n\x1edocker\n???"])
def test_facts_of_a_host_that_reported_nothing_have_their_defaults(text):
    assert replace(parse_facts(text), noise="") == Facts()


@pytest.mark.parametrize(
    ("text", "privilege"),
    [
        ("\x1eid\n0\nroot\n\x1esudo\n\n0\nuid 0\n", Privilege.ROOT),
        ("\x1eid\n1000\nmon\n\x1esudo\n\n0\nuid 0\n", Privilege.SUDO),
        ("\x1esudo\nsudo: a warning\n\n0\nuid 0 \n", Privilege.SUDO),
        ("\x1esudo\n\n0\nuid \n", Privilege.NONE),
        ("\x1esudo\n\n0\nuid 65534\n", Privilege.NONE),
        ("\x1esudo\n\n1\nuid 0\n", Privilege.NONE),
        ("\x1esudo\n0\nuid 0\n\n1\nuid \n", Privilege.NONE),
        ("\x1esudo\nsudo-rs: interactive authentication is required\n\n1\nuid \n", Privilege.SUDO_PASSWORD),
        ("\x1esudo\nSorry, user mon may not run sudo on nas.\n\n1\nuid \n", Privilege.NONE),
        ("\x1esudo\n\n124\nuid \n\x1edoas\nuid 0\n", Privilege.DOAS),
        ("\x1esudo\n\n124\nuid \n\x1edoas\nuid 65534\n", None),
        ("\x1esudo\n\n143\nuid \n\x1edoas\nuid \n", None),
        ("\x1esudo\n\x1edoas\nuid \n", Privilege.NONE),
    ],
)
def test_the_way_to_root(text, privilege):
    assert parse_facts(text).privilege is privilege


@pytest.mark.parametrize(
    ("lines", "access"),
    [
        ("installed\n", Access.STOPPED),
        ("socket usable\nerror Cannot connect\n", Access.STOPPED),
        ("error Cannot connect to the Docker daemon\n", Access.ABSENT),
        ("socket denied\nsocket usable\n", Access.USABLE),
        ("installed\nsocket usable\nlate\n", Access.LATE),
        ("socket usable\nlate\nsocket usable\nerror Cannot connect\n", Access.LATE),
        ("socket usable\nlate\nsocket usable\nversion 27\n", Access.USABLE),
        ("installed\nversion 4.3.1\nlate\n", Access.LATE),
    ],
)
def test_the_way_to_an_engine(lines, access):
    assert parse_facts(f"\x1edocker\n{lines}").docker.access is access


def hung(*programs: str) -> Iterator[str]:
    """Yield what the script tells where programs do not answer, once by each status of timeout(1)."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        for name in (*programs, "timeout"):
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        # Of coreutils and of busybox, without the wait.
        for status in (124, 143):
            ended = f'for one in {" ".join(programs)}; do if [ "$one" = "$2" ]; then exit {status}; fi; done'
            (folder / "timeout").write_text(f'#!/bin/sh\n{ended}\nshift\nexec "$@"\n')
            (folder / "socket").unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(str(folder / "socket"))
                script = FACTS_SCRIPT.replace("PATH=$PATH:", f"PATH={folder}:$PATH:", 1)
                script = script.replace("/var/run/docker.sock", f"{folder}/socket")
                told = run(["sh"], input=script, text=True, capture_output=True, timeout=60, check=False).stdout
            yield told


def test_an_engine_that_does_not_answer_is_not_one_that_is_stopped() -> None:
    for told in hung("docker", "podman"):
        found = parse_facts(told)
        assert found.is_complete
        assert (found.docker.access, found.podman.access) == (Access.LATE, Access.LATE)
        assert row("docker", facts=found).remedy is None


def test_one_who_does_not_answer_whether_he_makes_us_root_may_do_so() -> None:
    for told in hung("doas"):
        sudo = "".join(f"\x1e{part}" for part in told.split("\x1e")[1:] if not part.startswith(("sudo\n", "id\n")))
        assert parse_facts(sudo).privilege is None


def test_a_disk_that_does_not_answer_is_neither_readable_nor_denied() -> None:
    smart = parse_facts("\x1esmart\ntool /usr/sbin/smartctl\nreadable sda\nlate sdb\n\x1eend\n").smart
    assert (smart.readable, smart.late) == (("sda",), ("sdb",))
    judged = row("smart", facts=facts(smart=smart))
    assert (judged.status, judged.reason, judged.remedy) == (CheckStatus.UNKNOWN, "smart_late", None)
    assert judged.placeholders == {"disks": "sdb"}


def test_a_request_of_sudo_for_a_password_is_distinguished_from_other_words():
    assert not wants_password("Sorry, try again.")


# ---------------------------------------------------------------- the report


def test_a_report_is_stored_and_read_back():
    report = Report(rows=evaluate(failed(ConnectionRefused("nas", "why"))), at=NOW, seconds=1.5, family=Family.ALPINE)
    assert restore_report(json.loads(json.dumps(report.as_dict()))) == report
    assert report.hindrance == report.row("reachable")
    assert Report(rows=evaluate(evidence(noise="x"))).hindrance is None
    assert report.row("reachable").status is CheckStatus.RED
    assert report.row("nothing") is None


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {},
        {"at": 1.0},
        {"at": 1.0, "seconds": 1.0, "family": "debian", "rows": "none"},
        {"at": 1.0, "seconds": 1.0, "family": "unheard of", "rows": []},
        {"at": [], "seconds": 1.0, "family": "debian", "rows": []},
        {"at": 1.0, "seconds": 1.0, "family": "debian", "rows": [{}]},
        {"at": 1.0, "seconds": 1.0, "family": "debian", "rows": [3]},
        {
            "at": 1.0,
            "seconds": 1.0,
            "family": "debian",
            "rows": [{"check": "a", "status": "ok", "reason": "b", "placeholders": [], "remedy": None}],
        },
    ],
)
def test_a_stored_report_that_cannot_be_read_is_none(stored):
    assert restore_report(stored) is None


# ---------------------------------------------------------------- whole tests


async def speaks_shell(host: FakeHost, channel: Channel) -> None:
    """Answer the facts script and be an honest probe."""
    if not channel.is_script:
        await fake.honest(host, channel)
        return
    await channel.script()
    channel.write(FACTS.removeprefix("Welcome to nas\n").encode())


async def forced_command(host: FakeHost, channel: Channel) -> None:
    """Run nothing but the probe, whatever is asked for."""
    await fake.honest(host, channel)


async def test_a_whole_test_of_a_host(fake_host: FakeHost, make_session: Callable):
    fake_host.behaviour = speaks_shell
    fake_host.sections = json.loads((REPLIES / "plain.json").read_text())["sections"]
    fake_host.epoch = time.time()
    shares: list[float] = []
    session = make_session(fake_host)
    report, seen = await run_checks(session, fake_host.target, fake_host.host_keys, shares.append)
    assert {each.check: each.status.value for each in report.rows if each.status is not CheckStatus.OK} == {
        "docker": "amber",
        "gpu": "info",
        "smart": "info",
        "firewall": "info",
        "sudo": "info",
        "updates_rule": "info",
    }
    assert report.family is Family.DEBIAN
    assert report.row("docker").placeholders == {"username": "monitor"}
    assert seen.sections.system.hostname == "plain"
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_a_host_that_runs_nothing_but_the_probe_is_still_checked(fake_host: FakeHost, make_session: Callable):
    fake_host.behaviour = forced_command
    report, seen = await run_checks(make_session(fake_host), fake_host.target, fake_host.host_keys)
    assert seen
    assert report.row("probe").status is CheckStatus.OK
    assert report.row("docker").status is CheckStatus.UNKNOWN


async def test_facts_that_come_too_late_are_unknown(fake_host: FakeHost, make_session: Callable, monkeypatch):
    async def hangs(host: FakeHost, channel: Channel) -> None:
        if channel.is_script:
            await channel.script()
            await channel.process.wait_closed()
        await fake.honest(host, channel)

    monkeypatch.setattr(testing, "FACTS_SECONDS", 0.1)
    fake_host.behaviour = hangs
    report, _ = await run_checks(make_session(fake_host), fake_host.target, fake_host.host_keys)
    assert report.row("docker").status is CheckStatus.UNKNOWN


@pytest.mark.parametrize(("name", "reason"), [("hang", "probe_failed"), ("half_a_reply", "probe_failed")])
async def test_a_probe_that_misbehaves_is_red(fake_host: FakeHost, make_session: Callable, name: str, reason: str):
    fake_host.behaviour = fake.MISBEHAVIOURS[name][0]
    session = make_session(fake_host, timeout=0.5)
    report, seen = await run_checks(session, fake_host.target, fake_host.host_keys)
    assert seen is None
    assert (report.row("probe").status, report.row("probe").reason) == (CheckStatus.RED, reason)
    assert report.row("login").status is CheckStatus.OK


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_test_that_is_cut_off_says_that_the_connection_was_lost(
    sshd: Sshd, make_session: Callable, how: str
) -> None:
    found = []
    for at in (8, 10, 12):
        async with Between(sshd.port, how, at) as between:
            target = between.target(sshd.target)
            cut = SimpleNamespace(target=target, key=sshd.key, host_keys=sshd.host_keys)
            session = make_session(cut, programs=load_programs(), timeout=5)
            report, _ = await run_checks(session, target, sshd.host_keys)
            found += [row.reason for row in report.rows if row.status is CheckStatus.RED]
    assert found
    assert set(found) == {"connection_lost"}


async def test_a_host_that_is_off_is_red_in_one_row(fake_host: FakeHost, make_session: Callable):
    await fake_host.stop()
    report, seen = await run_checks(make_session(fake_host), fake_host.target, fake_host.host_keys)
    assert seen is None
    assert report.row("reachable").reason == "connection_refused"
    assert [each for each in report.rows if each.status not in (CheckStatus.RED, CheckStatus.UNKNOWN)] == []


async def test_windows_is_named_and_not_asked_for_facts(fake_host: FakeHost, make_session: Callable, monkeypatch):
    session = make_session(fake_host)
    connection = await session.connect()
    monkeypatch.setattr(type(connection), "server_version", "SSH-2.0-OpenSSH_for_Windows_9.5")
    report, _ = await run_checks(session, fake_host.target, fake_host.host_keys)
    assert report.row("system").placeholders["system"] == "Windows"
    assert report.family is Family.WINDOWS
    assert fake_host.commands == []


async def test_a_real_machine_before_and_after_its_remedies(
    make_machine: Callable[[], Machine], make_session: Callable
):
    machine = make_machine()
    machine.add_user("mon", sudo="NOPASSWD: ", shell="/bin/bash")
    machine.install_docker()
    (machine.folder / "home" / "mon" / ".bashrc").write_text("echo Hello there\n")
    session = make_session(machine, "mon", timeout=20)
    report, _ = await run_checks(session, machine.target_for("mon"), machine.host_keys)
    rows = {each.check: each for each in report.rows}
    assert rows["shell"].status is CheckStatus.AMBER
    assert rows["shell"].placeholders == {"line": "Hello there", "shell": "/bin/bash"}
    assert (rows["docker"].status, rows["docker"].reason) == (CheckStatus.AMBER, "docker_denied")
    assert rows["sudo"].reason == "sudo_passwordless"
    assert rows["login"].status is CheckStatus.OK
    if shutil.which("systemctl") is None:
        assert rows["systemd"].status is CheckStatus.INFO
    (machine.folder / "home" / "mon" / ".bashrc").unlink()
    cure = remedy_for("join_docker", report.family, "mon", rows["docker"].placeholders)
    assert cure
    machine.run(*cure.commands[0].split())
    again = make_session(machine, "mon", timeout=20)
    report, _ = await run_checks(again, machine.target_for("mon"), machine.host_keys)
    assert report.row("docker").placeholders == {"version": "27.3.1"}
    assert report.row("shell").status is CheckStatus.OK


# ---------------------------------------------------------------- a slow first reading


class SlowSession:
    """Answers at its third poll what it is late with at first."""

    def __init__(self, late: str, polls: int) -> None:
        self.late, self.polls = late, polls
        self.asked: list[tuple[str, ...]] = []
        self.with_sudo: list[tuple[str, ...]] = []
        self.python = ("3.11.2", "python3")
        self.noise = self.rtt_seconds = self.connection = None
        self.host_keys = ()

    async def connect(self) -> None:
        if self.asked:
            raise ConnectionLost("plain", "it answers polls alone")

    async def poll(self, sections: list[str], *, sudo: Sequence[str] = ()) -> Reply:
        self.asked.append(tuple(sections))
        self.with_sudo.append(tuple(sudo))
        document = json.loads((REPLIES / "plain.json").read_text())
        if len(self.asked) < self.polls:
            del document["sections"][self.late]
            document["missing"][self.late] = "timed_out"
        return decode_reply("plain", json.dumps(document).encode(), sections)


@pytest.mark.parametrize(("polls", "status"), [(1, CheckStatus.OK), (3, CheckStatus.OK), (99_999, CheckStatus.AMBER)])
async def test_a_first_reading_has_longer_than_a_poll(
    monkeypatch: pytest.MonkeyPatch, polls: int, status: CheckStatus
) -> None:
    monkeypatch.setattr(testing, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(testing, "FIRST_SECONDS", 0.2)
    session = SlowSession("updates", polls)
    report, seen = await run_checks(session, TARGET, ())
    assert report.row("probe").status is status
    assert (seen.sections.updates is not None) is (status is CheckStatus.OK)
    assert all(asked == ("updates",) for asked in session.asked[1:])


@pytest.mark.parametrize("late", ["security", "updates"])
async def test_a_test_asks_with_sudo_what_polls_ask_with_it(monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    monkeypatch.setattr(testing, "AGAIN_SECONDS", 0.001)
    session = SlowSession(late, 2)
    await run_checks(session, TARGET, (), sudo=("security", "sockets"))
    assert session.asked[1:] == [(late,)]
    assert session.with_sudo == [("security",), tuple({late} & {"security"})]


class LostSession(SlowSession):
    """Answers the first poll, and is gone then."""

    async def poll(self, sections: list[str], *, sudo: Sequence[str] = ()) -> Reply:
        if not self.asked:
            return await super().poll(sections)
        self.asked.append(tuple(sections))
        raise ConnectionLost("plain", "while it was waited for")


class SwappedSession(SlowSession):
    """Answers the first poll; whoever is asked then is another machine."""

    other = HostKeyChanged("plain", expected="SHA256:a", offered="SHA256:b")

    async def connect(self) -> None:
        if self.asked:
            raise self.other

    async def poll(self, sections: list[str], *, sudo: Sequence[str] = ()) -> Reply:
        if self.asked:
            raise self.other
        return await super().poll(sections)


@pytest.mark.parametrize("polls", [1, 99], ids=["asked for facts", "asked for what was late"])
async def test_who_answers_in_place_of_the_host_during_a_test_is_reported(
    monkeypatch: pytest.MonkeyPatch, polls: int
) -> None:
    monkeypatch.setattr(testing, "AGAIN_SECONDS", 0.001)
    report, _ = await run_checks(SwappedSession("updates", polls), TARGET, ())
    assert isinstance(report.error, HostKeyChanged)
    assert report.row("host_key").status is CheckStatus.RED


async def test_a_host_that_is_lost_while_a_slow_reading_is_waited_for_keeps_what_it_has_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(testing, "AGAIN_SECONDS", 0.001)
    session = LostSession("updates", 99)
    report, seen = await run_checks(session, TARGET, ())
    assert session.asked[1:] == [("updates",)], "asked no more"
    assert (report.row("login").status, report.row("probe").status) == (CheckStatus.OK, CheckStatus.AMBER)
    assert (seen.sections.updates, list(seen.late)) == (None, ["updates"])
    assert seen.sections.memory.total_bytes == 8_000_000_000


def test_the_script_reports_what_is_read_of_it_and_a_recorded_host_has_all_of_it() -> None:
    said = set(re.findall(r"^(?:\{[A-Z_]+\})?say (\w+)", FACTS_SCRIPT, re.MULTILINE))
    read = set(re.findall(r'reported\.get\("(\w+)"', Path(host_facts.__file__).read_text())) | {"end"}
    assert said == read
    recorded = set(re.findall(r"\x1e(\w+)", FACTS))
    assert said - recorded == {"updates_rule"}, "which has its own tests: tests/test_update_rule.py"
