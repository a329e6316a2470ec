"""What the remedies for updates leave of rules that are not word for word as they were installed: never without a word.

A rule may stand in a hundred ways in sudoers(5) and doas.conf(5). What lets its user do more than the script does is
told with its file and line, whatever the remedy, and so is what stays of ours when the script is removed: it ends as
failed then, so that the check keeps its colour and a person a reason.
"""

import re

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, parse_facts
from custom_components.homelab_monitor.client.checks.update_script import (
    OLD_RULES,
    SCRIPT,
    UNIT,
    guard_line,
    update_sudoers_line,
)
from custom_components.homelab_monitor.client.checks.updates_rule import evaluate_updates_rule
from custom_components.homelab_monitor.client.models import Updates

from .superuser import SUDOS, Place
from .test_rule_files import INSTALL, REMOVE, SYSTEM, apply, both_remedies, judged

both_sudos = pytest.mark.parametrize("place", SUDOS, indirect=True)
doas = pytest.mark.parametrize("place", ["doas"], indirect=True)

JOB = OLD_RULES[0].removeprefix("ALL=(root) NOPASSWD: ")
DANGEROUS = {
    "no blank after a comma": f"mon ALL=(root) NOPASSWD: /usr/bin/id,{JOB}",
    "no blank after a colon": f"mon ALL=(root)NOPASSWD:{JOB}",
    "an alias": f"Cmnd_Alias HM = {JOB}\nmon ALL=(root) NOPASSWD: HM",
    "an alias behind another": f"Cmnd_Alias A = /usr/bin/id : HM = {JOB}\nmon ALL=(root) NOPASSWD: HM",
    "behind the script": f'mon ALL=(root) NOPASSWD: {SCRIPT} "", {JOB}',
    "before the script": f'mon ALL=(root) NOPASSWD: {JOB}, {SCRIPT} ""',
    "groups": f"mon ALL=(ALL:ALL) NOPASSWD: {JOB}",
    "of a group": f"%mon ALL=(root) NOPASSWD: {JOB}",
    "of a number": f"#61900 ALL=(root) NOPASSWD: {JOB}",
    "behind a comment that does not go on": f"# one \\\nmon ALL=(root) NOPASSWD: {JOB}, /usr/bin/id",
    "behind a rule whose comment does not go on": f"root ALL=(ALL) ALL # \\\nmon ALL=(ALL) NOPASSWD: {JOB}",
    "on several lines": f"mon ALL=(ALL) NOPASSWD: /usr/bin/id, \\\n{JOB}",
    "a comma of its own": f"mon ALL=(root) NOPASSWD: /usr/bin/systemd-run -p A\\=b\\,c --unit\\={UNIT} /bin/sh -c id",
    "not as one user": f"mon ALL=(ALL, !eve) NOPASSWD: {JOB}",
    "a slash twice": f"mon ALL=(root) NOPASSWD: {JOB.replace('/bin/', '//bin/', 1)}",
}
OPEN = {
    "the script with anything": f"mon ALL=(root) NOPASSWD: {SCRIPT}",
    "no blank before the script": f"mon ALL=(root) NOPASSWD:{SCRIPT}",
    "an argument": f"mon ALL=(root) NOPASSWD: {SCRIPT} x",
    "an argument, with variables": f"mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} --check",
    "behind a comma": f"mon ALL=(root) NOPASSWD: /usr/bin/id,{SCRIPT}",
    "before a comma": f"mon ALL=(root) NOPASSWD:{SCRIPT},/usr/bin/id",
    "once without, once with": f'mon ALL=(root) NOPASSWD: {SCRIPT} "", {SCRIPT}',
    "before another machine": f"mon ALL=NOPASSWD:{SCRIPT}:other=NOPASSWD:/usr/bin/id",
    "a pattern": f"mon ALL=(root) NOPASSWD: {SCRIPT}*",
    "a comment at once": f"mon ALL=(root) NOPASSWD: {SCRIPT}#mine",
    "another way to write its place": f"mon ALL=(root) NOPASSWD: /usr/local//sbin/{UNIT}",
}
ODD = {
    "in a list": f'mon ALL=(root) NOPASSWD: /usr/bin/id, {SCRIPT} ""',
    "in a list without blanks": f'mon ALL=(root) NOPASSWD:/usr/bin/id,{SCRIPT} ""',
    "groups": f'mon ALL=(ALL:ALL) NOPASSWD: {SCRIPT} ""',
    "of a group": f'%mon ALL=(root) NOPASSWD: {SCRIPT} ""',
    "an alias": f'Cmnd_Alias HM=/usr/bin/id,{SCRIPT} ""\nmon ALL=(root) NOPASSWD: HM',
    "an alias of users": f'User_Alias HA = mon\nHA ALL=(root) NOPASSWD: {SCRIPT} ""',
    "with a password": f'mon ALL=(root) {SCRIPT} ""',
    "with a comment": f"{update_sudoers_line('mon')} # for Home Assistant",
}
NONE_OF_OURS = {
    "another program": f'mon ALL=(root) NOPASSWD: {SCRIPT}-backup ""',
    "one that is forbidden": f"mon ALL=(ALL:ALL) ALL, !{SCRIPT}, !/usr/bin/systemd-run *{UNIT}*",
    "a comment": f"# systemd-run --unit={UNIT} and {SCRIPT}\nroot ALL=(ALL) ALL # {SCRIPT}",
    "somebody's own systemd-run": "mon ALL=(root) NOPASSWD: /usr/bin/systemd-run --unit\\=backup",
}


def line_of(text: str) -> int:
    """Return the line in which the rule begins that counts."""
    lines = text.splitlines()
    return 1 if UNIT in lines[0] or re.search(r"[^#] \\$", lines[0].removeprefix("# one")) else 2


def told(place: Place, key: str, text: str) -> tuple[int, list[str]]:
    """Run a remedy over a file with this text, which has to stay; return how it ended and what it told of the file."""
    if place.way == "doas":
        file = "/etc/doas.conf"
        place.write(file, f"{text}\n")
    else:
        file = "/etc/sudoers.d/some"
        place.write(file, f"{text}\n", 0o440)
        if place.way == "sudo":
            assert place.run("visudo", "-cf", file).returncode == 0
    status, words = apply(place, key)
    assert text in place.sh(f"cat {file}").stdout
    return status, [line for line in words.splitlines() if line.startswith(f"{file}, line {line_of(text)}: ")]


@both_sudos
@both_remedies
@pytest.mark.parametrize("text", [*DANGEROUS.values(), *OPEN.values()], ids=[*DANGEROUS, *OPEN])
def test_a_rule_that_allows_more_is_reported_with_its_place_and_is_a_failure(place: Place, key: str, text: str) -> None:
    status, lines = told(place, key, text)
    assert (status, bool(lines)) == (1, True), text


@both_sudos
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_stays_of_a_rule_is_a_failure_only_where_it_had_to_go(place: Place, text: str) -> None:
    status, lines = told(place, REMOVE, text)
    assert (status, bool(lines)) == (1, True)
    assert place.sh(f"test -e {SCRIPT}").returncode == 1
    # Where the script is wanted such a rule does no harm.
    status, lines = told(place, INSTALL, text)
    assert (status, bool(lines)) == (0, True)


@both_sudos
@both_remedies
@pytest.mark.parametrize("text", NONE_OF_OURS.values(), ids=NONE_OF_OURS)
def test_what_is_none_of_ours_is_no_failure(place: Place, key: str, text: str) -> None:
    place.way == "sudo-rs" and "*" in text and pytest.skip("it knows no patterns within arguments")
    # Installing ours behind a rule that forbids the script lets it count.
    assert told(place, key, text) == (0, [])


@both_sudos
def test_a_rule_as_it_is_installed_is_nobodys_complaint(place: Place) -> None:
    assert apply(place, INSTALL) == (0, "")
    assert apply(place, INSTALL) == (0, "")
    assert apply(place, REMOVE)[0] == 0


@both_sudos
@both_remedies
@pytest.mark.parametrize(
    "line", ["@include /etc/more\\ rules/one", '@include "/etc/more rules/one"', "@include /etc/of.%h"]
)
def test_a_file_that_sudo_reads_is_looked_at_however_it_is_named(place: Place, key: str, line: str) -> None:
    place.sh("mkdir '/etc/more rules'")
    place.write("/etc/more rules/one", f"mon ALL=(ALL) NOPASSWD: {JOB}\n", 0o440)
    place.sh('cp -p "/etc/more rules/one" "/etc/of.$(hostname -s)"')
    place.write("/etc/sudoers.d/some", f"{line}\n", 0o440)
    if place.way == "sudo-rs" and "%h" in line:
        pytest.skip("it does not know the name of the machine here")
    status, words = apply(place, key)
    assert status == 1
    assert ", line 1: this rule lets its user run anything as root" in words


DOAS_BAD = {
    "the job": f"permit nopass mon as root cmd /usr/bin/systemd-run args --quiet --unit={UNIT} /bin/sh -c id",
    "behind a comment": f"# one \\\npermit nopass mon as root cmd {SCRIPT}",
    "no arguments named": f"permit nopass mon as root cmd {SCRIPT}",
    "in quotes": f'permit nopass mon as root cmd "{SCRIPT}"',
    "of a group": f"permit nopass :mon cmd {SCRIPT}",
    "on several lines": f"permit nopass mon as root \\\ncmd {SCRIPT}",
}
DOAS_ODD = {
    "its variables": f"permit nopass keepenv mon as root cmd {SCRIPT} args",
    "of a group": f"permit nopass :mon as root cmd {SCRIPT} args",
    "as anybody": f"permit nopass mon cmd {SCRIPT} args",
    "in quotes": f'permit nopass "mon" as root cmd {SCRIPT} args',
    "with a comment": f"permit nopass mon as root cmd {SCRIPT} args # for Home Assistant",
}


@doas
@both_remedies
@pytest.mark.parametrize("text", DOAS_BAD.values(), ids=DOAS_BAD)
def test_a_rule_of_doas_that_allows_more_is_reported_and_is_a_failure(place: Place, key: str, text: str) -> None:
    status, lines = told(place, key, text)
    assert (status, bool(lines)) == (1, True)
    assert len(set(lines)) == len(lines), "each is told once"


@doas
@pytest.mark.parametrize("text", DOAS_ODD.values(), ids=DOAS_ODD)
def test_what_stays_of_a_rule_of_doas_is_a_failure_only_where_it_had_to_go(place: Place, text: str) -> None:
    assert told(place, REMOVE, text)[0] == 1
    assert told(place, INSTALL, text)[0] == 0
    assert told(place, INSTALL, f"deny mon cmd {SCRIPT}")[0] == 0


@pytest.mark.parametrize(
    ("place", "text"),
    [
        *[("sudo", text) for text in DANGEROUS.values()],
        *[("sudo-rs", text) for text in DANGEROUS.values()],
        ("doas", DOAS_BAD["the job"]),
    ],
    indirect=["place"],
)
def test_the_check_is_red_as_long_as_the_old_job_is_allowed(place: Place, text: str) -> None:
    for key in (INSTALL, REMOVE):
        told(place, key, text)
        for user in ("mon", "root"):
            assert judged(place, user=user, wanted=key == INSTALL)[:2] == ("red", "updates_rule_old"), user


# ---------------------------------------------------------------- what a trial shows

EARLIER, LATER = "/etc/sudoers.d/aaa", "/etc/sudoers.d/zzz"
STAYS = {
    "a folder": (EARLIER, "mon ALL=(root) NOPASSWD: /usr/local/sbin/", 1),
    "a pattern": (EARLIER, "mon ALL=(root) NOPASSWD: /usr/bin/id, /usr/local/sbin/*", 1),
    "a pattern of a group": (LATER, "# one\n%mon ALL=(root) NOPASSWD: /usr/local/sbin/h*", 2),
    "variables of a later rule": (LATER, f'mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} ""', 1),
    "variables of a later pattern": (LATER, 'mon ALL=(root) NOPASSWD: SETENV: /usr/local/sbin/*-updat? ""', 1),
    "a variable that is kept": (LATER, f"Defaults:eve !lecture\nDefaults!{SCRIPT} env_keep += LD_PRELOAD", 2),
    "a variable that is checked": (LATER, f"Defaults!{SCRIPT} env_check += LD_AUDIT", 1),
    "variables like one": (LATER, f'Defaults!{SCRIPT} env_keep += "BASH_*"', 1),
    "all variables": (LATER, f"Defaults!{SCRIPT} !env_reset", 1),
    "any variable": (LATER, f'Defaults setenv\nmon ALL=(root) NOPASSWD: {SCRIPT} ""', 1),
    "a root folder": (LATER, f'mon ALL=(root) CHROOT=* NOPASSWD: {SCRIPT} ""', 1),
    "any root folder": (EARLIER, "Defaults runchroot=*", 1),
}


@pytest.mark.parametrize(("file", "text", "line"), STAYS.values(), ids=STAYS)
def test_what_the_check_still_says_after_the_repair_is_named_by_it(
    place: Place, file: str, text: str, line: int
) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.write(file, f"{text}\n", 0o440)
    status, words = apply(place, INSTALL)
    assert place.run("visudo", "-c").returncode == 0
    assert (status, f"{file}, line {line}: " in words) == (1, True), words
    assert judged(place)[:2] in {("red", "updates_rule_loose"), ("red", "updates_rule_open")}
    place.sh(f"rm {file}")
    assert apply(place, INSTALL) == (0, "")
    assert judged(place)[1] == "updates_rule_ready"


SHELLS = "Cmnd_Alias SHELLS = /bin/sh, /usr/bin/sh, /bin/bash, /usr/bin/bash"
CURED = {
    "a rule that ours hides": (EARLIER, f'mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} ""'),
    "settings for all": (EARLIER, 'Defaults !env_reset\nDefaults env_keep += "LANG BASH_ENV", setenv'),
    "a rule of another": (LATER, "eve ALL=(root) NOPASSWD: SETENV: /usr/local/sbin/*"),
    "a rule with a password": (EARLIER, "mon ALL=(root) SETENV: /usr/local/sbin/*"),
    "everything with a password": (EARLIER, "mon ALL=(ALL:ALL) ALL"),
    "everything": (LATER, "mon ALL=(ALL) NOPASSWD: SETENV: ALL"),
    "everything but shells": (EARLIER, f"{SHELLS}\nmon ALL=(ALL) NOPASSWD: ALL, !SHELLS"),
    "other programs": (LATER, "mon ALL=(root) NOPASSWD: SETENV: /usr/bin/id, /opt/*"),
    "no folder with programs": (LATER, "Defaults secure_path=/usr/local/sbin"),
    "another folder with programs": (EARLIER, "Defaults:mon secure_path=/opt/tools"),
}


@pytest.mark.parametrize(("file", "text"), CURED.values(), ids=CURED)
def test_what_changes_nothing_for_the_script_is_no_failure(place: Place, file: str, text: str) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.write(file, f"{text}\n", 0o440)
    assert place.run("visudo", "-c").returncode == 0
    assert apply(place, INSTALL)[0] == 0
    assert judged(place)[1] == "updates_rule_ready"


@pytest.mark.parametrize("place", ["sudo-rs"], indirect=True)
def test_what_sudo_rs_shows_to_nobody_is_named_by_the_repair(place: Place) -> None:
    for text in (
        f'mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} ""',
        "mon ALL=(root) NOPASSWD: SETENV: /usr/bin/id, /usr/local/sbin/",
        f"Defaults!{SCRIPT} env_keep += LD_PRELOAD",
        "mon ALL=(root) NOPASSWD: /usr/local/sbin/*",
    ):
        place.write(LATER, f"# one\n{text}\n", 0o440)
        status, words = apply(place, INSTALL)
        assert (status, f"{LATER}, line 2: " in words) == (1, True), (text, words)
    for text in (
        f"{update_sudoers_line('mon')}\n{guard_line(SCRIPT)}",
        "mon ALL=(root) NOPASSWD: SETENV: /usr/bin/id",
        f"{SHELLS}\nmon ALL=(ALL) NOPASSWD: ALL, !SHELLS",
    ):
        place.write(LATER, f"{text}\n", 0o440)
        assert apply(place, INSTALL) == (0, "")


@both_sudos
def test_the_check_says_what_sudo_rs_does_not_show(place: Place) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    assert apply(place, INSTALL) == (0, "")
    for lines, is_all in (((), False), (("mon ALL=(ALL) NOPASSWD: ALL",), True)):
        place.write(LATER, "".join(f"{line}\n" for line in lines), 0o440)
        told = parse_facts(place.run("sh", stdin=FACTS_SCRIPT, user="mon").stdout)
        reason = evaluate_updates_rule(told, Updates(manager="apt"), SYSTEM, is_wanted=True).reason
        is_partly = place.way == "sudo-rs" and not is_all
        assert reason == ("updates_rule_ready_sudo_rs" if is_partly else "updates_rule_ready")


@doas
def test_a_later_file_that_brings_variables_of_the_caller_is_named(place: Place) -> None:
    place.read_folder()
    place.write("/etc/doas.conf", "permit persist :wheel\n")
    place.write("/etc/doas.d/zzz.conf", f"permit nopass keepenv mon as root cmd {SCRIPT} args\n")
    status, words = apply(place, INSTALL)
    told = f"/etc/doas.d/zzz.conf: a rule of this file lets mon choose variables for {SCRIPT}. Change it by hand\n"
    assert (status, told in words) == (1, True), words


@doas
def test_a_rule_of_doas_with_an_argument_that_brings_variables_is_reported(place: Place) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    assert apply(place, INSTALL) == (0, "")
    ours = f"permit nopass mon as root cmd {SCRIPT} args"
    for rule, is_loose in (
        (f"permit nopass keepenv mon as root cmd {SCRIPT} args x", True),
        (f"permit nopass setenv {{ LD_PRELOAD }} mon as root cmd {SCRIPT} args x y", True),
        (f'permit nopass keepenv mon as root cmd {SCRIPT} args "x y"', True),
        (f"permit nopass keepenv eve as root cmd {SCRIPT} args x", False),
        (f"permit keepenv mon as root cmd {SCRIPT} args x", False),
        (f"deny mon as root cmd {SCRIPT} args x", False),
        ("permit nopass keepenv mon as root cmd /usr/bin/id args x", False),
    ):
        for rules in ((rule, ours), (ours, rule)):
            place.allow("permit nopass root", *rules)
            assert (rule, judged(place)[1]) == (rule, "updates_rule_loose" if is_loose else "updates_rule_ready")
        if is_loose:
            status, words = apply(place, INSTALL)
            assert (status, "/etc/doas.conf, line " in words) == (1, True), words
