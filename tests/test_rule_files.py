"""What the remedies do to sudo's and doas's files that other people have written, and what the check says is true.

Real sudo, sudo-rs and doas in a root of their own; a rule is what they make of it, not what it looks like.
"""

import json
from pathlib import Path

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, Family, parse_facts
from custom_components.homelab_monitor.client.checks.remedies import Remedy, Where, _script, remedy_for
from custom_components.homelab_monitor.client.checks.rule_remedies import (
    FIREWALL_RULE_FILE,
    RULE_FILE,
    SMART_RULE_FILE,
)
from custom_components.homelab_monitor.client.checks.update_script import (
    OLD_RULES,
    SCRIPT,
    TRIAL_SAYS,
    guard_line,
    update_doas_line,
    update_sudoers_line,
)
from custom_components.homelab_monitor.client.checks.updates_rule import evaluate_updates_rule
from custom_components.homelab_monitor.client.models import System, Updates

from .superuser import SUDOS, WAYS, Place
from .test_becoming_root import WORDS

INSTALL, REMOVE = "install_updates_rule", "remove_updates_rule"
OLD = f"mon {OLD_RULES[0]}"
MINE = update_sudoers_line("mon")
DOCS = Path(__file__).parents[1] / "docs"
REASONS = json.loads(WORDS.read_text())["selector"]["check_reason"]["options"]
SYSTEM = System(hostname="nas", kernel="6.12", architecture="x86_64", os_id="debian")
UPGRADE = "#!/bin/sh\nexit 0\n"
every_way = pytest.mark.parametrize("place", WAYS, indirect=True)
both_sudos = pytest.mark.parametrize("place", SUDOS, indirect=True)
doas = pytest.mark.parametrize("place", ["doas"], indirect=True)
both_remedies = pytest.mark.parametrize("key", [INSTALL, REMOVE])


def apply(place: Place, key: str, username: str = "mon", **words: str) -> tuple[int, str]:
    """Run what a remedy would run, as root; return how it ended and what it complained about."""
    found = remedy_for(key, Family.DEBIAN, username, {"manager": "apt"} | words)
    assert found
    done = place.sh(found.commands[0])
    return done.returncode, done.stderr


def judged(place: Place, *, wanted: bool = True, user: str = "mon") -> tuple[str, str, str | None]:
    """Return status, reason and remedy of the check."""
    told = parse_facts(place.run("sh", stdin=FACTS_SCRIPT, user=user).stdout)
    verdict = evaluate_updates_rule(told, Updates(manager="apt"), SYSTEM, is_wanted=wanted)
    # What sudo-rs does not show is said beside it, and has a test of its own.
    return verdict.status.value, verdict.reason.removesuffix("_sudo_rs"), verdict.remedy


def texts(place: Place) -> str:
    """Return every rule of the place, with the names of the files."""
    return place.sh("grep -rH . /etc/sudoers* /etc/doas.conf /etc/doas.d 2>/dev/null | sort").stdout


def left(place: Place) -> list[str]:
    """Return what lies about of a remedy that was cut off."""
    return place.sh("ls -Ad /etc/.home* /etc/sudoers.d/.home* /usr/local/sbin/.home* /run/home*").stdout.split()


# ---------------------------------------------------------------- who can change what a rule names

LINKED = "rm -rf /usr/local/sbin; mkdir -p -m 755 /srv/sbin; ln -s /srv/sbin /usr/local/sbin"
LOOSE = {
    "the folder of the link": f"{LINKED}; chown 0:61900 /usr/local; chmod 775 /usr/local",
    "a folder on the way of a link": "rm -rf /usr/local/sbin; mkdir -p /srv/loose /srv/sbin; chmod 755 /srv /srv/sbin; "
    "ln -s ../../srv/loose/../sbin /usr/local/sbin; chown mon /srv/loose",
    "a second link": "rm -rf /usr/local/sbin; mkdir -p /srv/loose /srv/sbin; chmod 755 /srv /srv/sbin; "
    "ln -s /srv/sbin /srv/loose/on; ln -s /srv/loose/on /usr/local/sbin; "
    "chown 0:61900 /srv/loose; chmod 775 /srv/loose",
    "the link itself": f"{LINKED}; chown -h mon /usr/local/sbin",
}


@every_way
@pytest.mark.parametrize("loosen", LOOSE.values(), ids=LOOSE)
def test_a_way_that_others_can_change_gets_no_script_and_is_reported(place: Place, loosen: str) -> None:
    assert place.sh(loosen).returncode == 0
    before = texts(place)
    status, words = apply(place, INSTALL)
    assert status == 1
    assert words.startswith("users other than root can change /")
    assert texts(place) == before
    assert place.sh(f"ls {SCRIPT}").returncode != 0
    # One that was installed before the way was loosened.
    place.sh("rm -rf /usr/local/sbin /srv/sbin /srv/loose; mkdir -m 755 /usr/local/sbin; chmod 755 /usr/local")
    assert apply(place, INSTALL) == (0, "")
    place.sh("mv /usr/local/sbin /srv/kept; " + loosen + f"; mv /srv/kept/* {SCRIPT}")
    assert judged(place) == ("red", "updates_script_unsafe", None)


def test_what_lies_where_others_can_write_can_be_removed(place: Place) -> None:
    assert apply(place, INSTALL) == (0, "")
    place.sh("chmod 777 /usr/local")
    assert apply(place, REMOVE) == (0, "")
    assert place.sh(f"ls {SCRIPT} {RULE_FILE}").stdout == ""


@every_way
def test_a_link_that_only_root_can_change_is_as_good_as_a_folder(place: Place) -> None:
    assert place.sh(f"chmod 755 /srv; {LINKED}").returncode == 0
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    assert apply(place, INSTALL) == (0, "")
    assert judged(place) == ("ok", "updates_rule_ready", None)
    assert place.ask(SCRIPT).returncode == 0
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("ls -A /srv/sbin").stdout == ""


@every_way
def test_a_program_that_others_put_below_usr_local_is_not_run_as_root(place: Place) -> None:
    place.sh("chown 0:61900 /usr/local/bin; chmod 2775 /usr/local/bin")
    names = "ls mktemp cat grep sed mv cp chmod rm mkdir flock readlink visudo doas sh env"
    for name in names.split():
        planted = f"printf '#!/bin/sh\\necho {name} >>/tmp/pwned; exit 1\\n' >/usr/local/bin/{name}"
        done = place.run("/bin/sh", "-c", f"{planted} && /bin/chmod 755 /usr/local/bin/{name}", user="mon")
        assert done.returncode == 0, done.stderr
    for key in (INSTALL, REMOVE):
        cure = remedy_for(key, Family.DEBIAN, "mon", {"manager": "apt"})
        assert cure
        done = place.run("/bin/sh", "-c", _script(cure, "token"))
        assert done.returncode == 0, done.stderr
    place.run("/bin/sh", "-c", _script(Remedy(key="x", where=Where.HOST, commands=("ls /",)), "token"))
    assert place.run("/bin/cat", "/tmp/pwned").stdout == ""
    place.run("sh", "-c", "ls")
    assert place.run("/bin/cat", "/tmp/pwned").stdout == "sh\n", "the trap works"


# ---------------------------------------------------------------- what belongs to somebody else

TO_ROOT = {
    "all and the script": f'mon ALL=(ALL:ALL) ALL, NOPASSWD: {SCRIPT} ""',
    "a comment": f"mon ALL=(ALL:ALL) ALL # Home Assistant may also run {SCRIPT}",
    "tags": f'mon ALL=(ALL:ALL) PASSWD: ALL, NOPASSWD: /usr/sbin/nft list ruleset, {SCRIPT} ""',
    "two users": f'eve, mon ALL=(root) NOPASSWD: {SCRIPT} ""',
    "another name": f'mon ALL=(root) NOPASSWD: {SCRIPT}-backup ""',
    "an argument": f"mon ALL=(root) NOPASSWD: /usr/bin/id mon {SCRIPT}",
    "another user": update_sudoers_line("eve"),
    "another user, longer": update_sudoers_line("mon2"),
    "a comment only": f'# doc: mon ALL=(root) NOPASSWD: {SCRIPT} ""\nroot ALL=(ALL) ALL',
    "a comment of the old": "# never use systemd-run for homelab_monitor-update here\nroot ALL=(ALL) ALL",
    "an alias": f'Cmnd_Alias HM = /usr/sbin/nft list ruleset, {SCRIPT} ""\nmon ALL=(root) NOPASSWD: HM',
    "an alias of users": f'User_Alias HA = mon\nHA ALL=(root) NOPASSWD: {SCRIPT} ""',
    "a commented default": f"Defaults:mon !requiretty # {SCRIPT}",
    "another unit": r"eve ALL=(root) NOPASSWD: /usr/bin/systemd-run --unit\=backup, "
    "/usr/bin/systemctl stop homelab_monitor-update.service",
}
"""Lines that hold the words of ours and more."""


@both_sudos
@both_remedies
def test_what_is_not_exactly_ours_stays_to_the_byte(place: Place, key: str) -> None:
    for number, text in enumerate(TO_ROOT.values()):
        place.write(f"/etc/sudoers.d/{number}", f"{text}\n", 0o440)
    for number, text in enumerate(TO_ROOT.values()):
        place.sh(f"rm -f {RULE_FILE}")
        status, words = apply(place, key)
        assert place.sh(f"cat /etc/sudoers.d/{number}").stdout == f"{text}\n", (status, words)
    assert judged(place, user="root", wanted=False)[1] != "updates_rule_old"


@both_sudos
@both_remedies
def test_a_file_that_holds_more_than_our_rule_keeps_the_rest(place: Place, key: str) -> None:
    rest = ("# mine\n", "Defaults:eve !lecture\n", "eve ALL=(root) NOPASSWD: /usr/bin/id\n", "root ALL=(ALL) ALL")
    text = f"{rest[0]}{OLD}\n{rest[1]}  {MINE.replace(' ', '  ')}\n{rest[2]}{OLD[:90]}\\\n{OLD[90:]}\n{rest[3]}\n"
    place.write("/etc/sudoers.d/some", text, 0o440)
    assert apply(place, key)[0] == 0
    kept = place.sh("cat /etc/sudoers.d/some").stdout
    assert kept.replace(f"  {MINE.replace(' ', '  ')}\n", "") == "".join(rest) + "\n"
    assert (MINE.split() in [line.split() for line in kept.splitlines()]) == (key == INSTALL)


@both_sudos
def test_the_only_way_to_root_is_still_there_afterwards(place: Place) -> None:
    line = f'mon ALL=(ALL:ALL) NOPASSWD: ALL, NOPASSWD: {SCRIPT} ""'
    place.write("/etc/sudoers", f"root ALL=(ALL:ALL) ALL\n{line}\n@includedir /etc/sudoers.d\n", 0o440)
    for key in (INSTALL, REMOVE):
        apply(place, key)
        assert place.ask("id", "-u").stdout == "0\n", key


@pytest.mark.parametrize("rule", [f"mon {OLD_RULES[1]}, /usr/bin/id", f"mon,eve {OLD_RULES[1]}"])
@both_remedies
def test_an_old_rule_that_holds_more_is_reported_with_its_line(place: Place, key: str, rule: str) -> None:
    place.write("/etc/sudoers.d/some", f"# one\n\n{rule}\n", 0o440)
    status, words = apply(place, key)
    assert status == 1
    assert words.startswith("/etc/sudoers.d/some, line 3: this rule lets its user run anything as root")
    assert place.sh("cat /etc/sudoers.d/some").stdout == f"# one\n\n{rule}\n"
    assert judged(place)[:2] == ("red", "updates_rule_old")


@doas
def test_what_is_not_exactly_ours_stays_in_doas_conf(place: Place) -> None:
    others = [
        f"# keep mon {SCRIPT}",
        update_doas_line("eve"),
        f"permit nopass mon as root cmd {SCRIPT}-backup args",
        f"permit persist mon # uses {SCRIPT}",
    ]
    place.write("/etc/doas.conf", "\n".join([*others, update_doas_line("mon")]), 0o600)
    assert apply(place, INSTALL) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout.splitlines() == [*others, update_doas_line("mon")]
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout.splitlines() == others
    assert place.sh("stat -c '%a %u' /etc/doas.conf").stdout == "600 0\n"


ATTACKER = """#!/bin/sh
"$0.real" "$@"
status=$?
cd /usr/local/sbin || exit 1
for each in .home* home* /etc/sudoers.d/.home* /etc/sudoers.d/zz* /etc/.home* /etc/doas.conf; do
  [ -f "$each" ] || continue
  setpriv --reuid=61900 --regid=61900 --clear-groups sh -c ': >>"$1"' sh "$each" 2>/dev/null || continue
  stat -c %i "$each" >>/tmp/held
done
exit $status
"""
"""After each step of root's the account opens for writing what it can, and keeps it: a file is known by its inode."""
SPOILED = {
    "the account's": "chown mon",
    "its group's": "chmod 775 {0}; chgrp mon",
    # As also an access list is shown, in the place of the group.
    "everybody's": "chmod 777",
}


@every_way
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_who_could_change_the_script_has_no_hold_on_what_the_repair_puts_there(place: Place, spoil: str) -> None:
    assert apply(place, INSTALL) == (0, "")
    # While it is open, no other file gets its inode.
    place.sh(f"{spoil.format(SCRIPT)} {SCRIPT}; echo held >/tmp/held; sleep 300 <{SCRIPT} >/dev/null 2>&1 &")
    place.write("/tmp/attacker", ATTACKER, 0o755)
    tools = "cat cp chown chmod mv"
    place.sh(f"for each in {tools}; do cp -p /usr/bin/$each /usr/bin/$each.real; done")
    place.sh(
        f"for each in {tools}; do cp.real /tmp/attacker /usr/bin/new; mv.real -f /usr/bin/new /usr/bin/$each; done"
    )
    assert apply(place, INSTALL) == (0, "")
    held = place.sh("cat.real /tmp/held").stdout.split()
    assert len(held) > 1, "the one that was there"
    assert place.sh(f"stat -c %i {SCRIPT}").stdout.strip() not in held
    # What was not yet in place is as good as the file: it is the same one.
    assert set(held[1:]) == {held[1]}
    assert place.sh(f"stat -c '%a %u:%g' {SCRIPT}").stdout == "755 0:0\n"


@both_sudos
def test_a_rule_file_of_ours_is_made_anew_with_the_mode_it_needs(place: Place) -> None:
    assert apply(place, INSTALL) == (0, "")
    place.sh(f"chgrp 61900 {RULE_FILE}; chmod 644 {RULE_FILE}; chmod 2755 /etc/sudoers.d; chgrp 61900 /etc/sudoers.d")
    assert apply(place, INSTALL) == (0, "")
    assert place.sh(f"stat -c '%a %u:%g' {RULE_FILE}").stdout == "440 0:0\n"


# ---------------------------------------------------------------- the disks


@both_sudos
def test_allowing_a_disk_forbids_no_other_one(place: Place) -> None:
    place.write("/usr/sbin/smartctl", "#!/bin/sh\n", 0o755)
    rule = "{} ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/smartctl -n standby -j -a /dev/{}"
    theirs = "eve ALL=(root) NOPASSWD: /usr/sbin/smartctl -i /dev/sdz"
    place.write(SMART_RULE_FILE, theirs, 0o440)
    for user, disks in (("mon", "sda"), ("ha", "sda"), ("mon", "sdb sdc"), ("mon", "sda sdb"), ("m.n", "sda")):
        assert apply(place, "allow_smart", user, tool="/usr/sbin/smartctl", disks=disks) == (0, "")
    added = (("mon", "sda"), ("ha", "sda"), ("mon", "sdb"), ("mon", "sdc"), ("m.n", "sda"))
    given = [rule.format(*one) for one in added]
    given.insert(1, guard_line("/usr/sbin/smartctl"))
    assert place.sh(f"cat {SMART_RULE_FILE}").stdout.splitlines() == [theirs, *given]
    for disk in ("sda", "sdb", "sdc"):
        assert place.ask("smartctl", "-n", "standby", "-j", "-a", f"/dev/{disk}").returncode == 0
    assert place.ask("smartctl", "-n", "standby", "-j", "-a", "/dev/sdd").returncode == 1


def test_a_link_to_smartctl_that_others_can_change_gets_no_rule(place: Place) -> None:
    place.write("/srv/smartctl", "#!/bin/sh\n", 0o755)
    place.sh("chmod 755 /srv; mkdir /opt/bin; chown mon /opt/bin; ln -s /srv/smartctl /opt/bin/smartctl")
    place.sh("rm -f /usr/sbin/smartctl; ln -s /opt/bin/smartctl /usr/sbin/smartctl")
    status, words = apply(place, "allow_smart", tool="/usr/sbin/smartctl", disks="sda")
    assert (status, words) == (1, "users other than root can change /opt/bin\n")
    assert texts(place).count("smartctl") == 0


# ---------------------------------------------------------------- the firewall

FIREWALL = ("nft -j list ruleset", "iptables-save", "ip6tables-save")


@both_sudos
def test_reading_the_firewall_is_allowed_and_nothing_more(place: Place) -> None:
    for name in ("nft", "iptables-save"):
        place.write(f"/usr/sbin/{name}", "#!/bin/sh\necho $0 $*\n", 0o755)
    place.sh("rm -f /usr/sbin/ip6tables-save")
    for user in ("mon", "mon", "ha"):
        assert apply(place, "allow_firewall", user) == (0, "")
    rule = "{} ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/{}"
    given = [rule.format(user, line) for user in ("mon", "ha") for line in (FIREWALL[0], 'iptables-save ""')]
    given[1:2] = [guard_line("/usr/sbin/nft"), given[1], guard_line("/usr/sbin/iptables-save")]
    assert place.sh(f"cat {FIREWALL_RULE_FILE}").stdout.splitlines() == given
    for command in FIREWALL[:2]:
        assert place.ask(*command.split()).returncode == 0
    for command in (
        "nft list ruleset",
        "nft flush ruleset",
        "iptables-save -M /tmp/x",
        "iptables-save -f /tmp/x",
        FIREWALL[2],
    ):
        assert place.ask(*command.split()).returncode != 0, command


@both_sudos
def test_a_later_rule_that_asks_for_a_password_is_moved_as_the_check_says(place: Place) -> None:
    later, include = "mon ALL=(ALL) ALL", "@includedir /etc/sudoers.d"
    place.write("/usr/sbin/nft", "#!/bin/sh\n", 0o755)
    place.write("/etc/sudoers", f"root ALL=(ALL:ALL) ALL\n{include}\n{later}\n", 0o440)
    assert apply(place, "allow_firewall") == (0, "")
    assert place.ask("nft", "-j", "list", "ruleset").returncode == 1
    for shown in (REASONS["firewall_rule_missing"], (DOCS / "troubleshooting.md").read_text()):
        assert include in shown
        assert any(f"{word} visudo" in shown.replace("`", "") for word in ("use", "with"))
    place.write("/etc/sudoers", f"root ALL=(ALL:ALL) ALL\n{later}\n{include}\n", 0o440)
    assert place.ask("nft", "-j", "list", "ruleset").returncode == 0


def test_without_its_programs_there_is_no_rule_for_the_firewall(place: Place) -> None:
    place.sh("rm -f /usr/sbin/nft /usr/sbin/*tables-save")
    status, words = apply(place, "allow_firewall")
    assert (status, words) == (1, "neither nft nor iptables-save is in /usr/sbin\n")
    assert place.sh(f"ls {FIREWALL_RULE_FILE}").returncode != 0


def test_a_link_to_iptables_that_others_can_change_gets_no_rule(place: Place) -> None:
    place.write("/srv/iptables-save", "#!/bin/sh\n", 0o755)
    place.sh("chmod 755 /srv; mkdir /opt/bin; chown mon /opt/bin; ln -s /srv/iptables-save /opt/bin/iptables-save")
    place.sh("rm -f /usr/sbin/iptables-save; ln -s /opt/bin/iptables-save /usr/sbin/iptables-save")
    status, words = apply(place, "allow_firewall")
    assert (status, words) == (1, "users other than root can change /opt/bin\n")
    assert texts(place).count("iptables-save") == 0


# ---------------------------------------------------------------- what is said is true

RULES = {
    "with a password": f'mon ALL=(root) NOPASSWD: /bin/ls, PASSWD: {SCRIPT} ""',
    "tags go on": f'mon ALL=(root) NOPASSWD: /bin/ls, {SCRIPT} ""',
    "as nobody": f'mon ALL=(nobody) NOPASSWD: {SCRIPT} ""',
    "as nobody too": f'mon ALL=(nobody, root) NOPASSWD: {SCRIPT} ""',
    "as all but root": f'mon ALL=(ALL, !root) NOPASSWD: {SCRIPT} ""',
    "as a group": f'mon ALL=(:nogroup) NOPASSWD: {SCRIPT} ""',
    "on another host": f'mon other=(root) NOPASSWD: {SCRIPT} ""',
    "forbidden after it": f'mon ALL=(root) NOPASSWD: {SCRIPT} "", !{SCRIPT}',
    "forbidden before it": f'mon ALL=(root) NOPASSWD: !{SCRIPT}, {SCRIPT} ""',
    "all with a password later": f"{MINE}\nmon ALL=(ALL:ALL) ALL",
    "all with a password before": f"mon ALL=(ALL:ALL) ALL\n{MINE}",
    "all without a password later": f"{MINE}\nmon ALL=(ALL:ALL) NOPASSWD: ALL",
    "all but the script": f"mon ALL=(ALL:ALL) NOPASSWD: ALL, !{SCRIPT}",
    "its folder forbidden later": f"{MINE}\nmon ALL=(root) NOPASSWD: /usr/bin/id, !/usr/local/sbin/",
    "wildcards": "mon ALL=(root) NOPASSWD: /usr/local/*/home*_monitor-*",
    "wildcards that do not fit": "mon ALL=(root) NOPASSWD: /usr/*/homelab_monitor-update, /usr/local/sbin/*-no*",
    "wildcards that forbid": f"{MINE}\nmon ALL=(root) NOPASSWD: /usr/bin/id, !/usr/local/sbin/homelab*",
    "another argument": f"mon ALL=(root) NOPASSWD: {SCRIPT} now",
    "a group": f'%mon ALL=(root) NOPASSWD: {SCRIPT} ""',
    "a uid": f'#61900 ALL=(root) NOPASSWD: {SCRIPT} ""',
}


@both_sudos
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_check_says_ready_exactly_where_sudo_lets_the_script_run(place: Place, rule: str) -> None:
    if "*" in rule and place.way == "sudo-rs":
        pytest.skip("it knows no wildcards within a path")
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    assert apply(place, INSTALL) == (0, "")
    place.allow(rule)
    runs = place.ask(SCRIPT).returncode == 0
    # A rule with wildcards allows arguments, and is red for that.
    ready = {"updates_rule_ready", "updates_rule_open"} if "*" in rule else {"updates_rule_ready"}
    assert (judged(place)[1] in ready) == runs, judged(place)


DEFAULTS = {
    "noexec": ("Defaults noexec", MINE),
    "a tag": ("", MINE.replace("NOPASSWD:", "NOEXEC: NOPASSWD:")),
    "no authentication": ("Defaults:mon !authenticate", MINE.replace("NOPASSWD: ", "")),
    "no authentication but": ("Defaults:mon !authenticate", MINE.replace("NOPASSWD:", "PASSWD:")),
}


@pytest.mark.parametrize("lines", DEFAULTS.values(), ids=DEFAULTS)
def test_defaults_of_sudo_count(place: Place, lines: tuple[str, ...]) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    assert apply(place, INSTALL) == (0, "")
    place.allow(*lines)
    runs = place.ask(SCRIPT).returncode == 0
    assert (judged(place)[1] == "updates_rule_ready") == runs, judged(place)


LATER = {
    "another rule": ("mon ALL=(ALL:ALL) ALL", "sudo does not let mon run it, because", "updates_rule_overruled"),
    "noexec": ("Defaults noexec", "sudo does not let mon run it", "updates_rule_noexec"),
    "no terminal": ("Defaults requiretty", "sudo does not let mon run it", "updates_rule_stopped"),
    "its effective user only": ("Defaults stay_setuid", "sudo does not let mon run it", "updates_rule_stopped"),
    "listpw": ("Defaults listpw=always", "sudo shows rules only with a password", "updates_rule_missing"),
    "a uid": (f"#61900 ALL=(root) NOPASSWD: {SCRIPT}", "/etc/sudoers, line 3: this rule lets", "updates_rule_open"),
}


@pytest.mark.parametrize(("line", "words", "reason"), LATER.values(), ids=LATER)
def test_a_rule_that_does_not_help_says_so_when_it_is_installed(
    place: Place, line: str, words: str, reason: str
) -> None:
    place.sh(f"echo '{line}' >>/etc/sudoers")
    status, told = apply(place, INSTALL)
    assert (status, told.startswith(words)) == (1, True), told
    assert judged(place)[1] == reason


@pytest.mark.parametrize("cure", [f"Defaults!{SCRIPT} !noexec", "Defaults:mon !noexec"])
def test_the_documented_exception_from_noexec_ends_the_repair(place: Place, cure: str) -> None:
    place.write("/etc/sudoers.d/own", f"Defaults noexec\n{cure}\n", 0o440)
    assert apply(place, INSTALL) == (0, "")
    assert judged(place)[1] == "updates_rule_ready"
    place.write("/etc/sudoers.d/own", f"Defaults!{SCRIPT} noexec\n", 0o440)
    assert apply(place, INSTALL)[0] == 1


@both_sudos
def test_the_rule_of_a_user_whose_name_is_a_number_is_ours_as_well(place: Place) -> None:
    for _ in range(2):
        assert apply(place, INSTALL, "4711") == (0, "")
        assert place.sh(f"cat {RULE_FILE}").stdout == f"{update_sudoers_line('4711')}\n{guard_line(SCRIPT)}\n"
    assert apply(place, REMOVE, "4711") == (0, "")
    assert place.sh(f"ls {RULE_FILE}").returncode != 0


@both_sudos
@pytest.mark.parametrize("folder", ["/etc/sudoers.d", ""])
def test_where_sudo_does_not_read_the_folder_nothing_is_put_anywhere(place: Place, folder: str) -> None:
    place.sh("sed -i /^@/d /etc/sudoers" + ("" if folder else "; rm -rf /etc/sudoers.d"))
    before = texts(place)
    for key, words in ((INSTALL, {}), ("allow_smart", {"tool": "/usr/sbin/smartctl", "disks": "sda"})):
        status, told = apply(place, key, **words)
        assert (status, told.startswith("sudo does not read /etc/sudoers.d")) == (1, True), told
    assert texts(place) == before
    assert place.sh("ls -A /usr/local/sbin").stdout == ""
    assert left(place) == ["/run/homelab_monitor-rules.lock"]


@doas
def test_a_folder_that_doas_does_not_read_gets_no_rule(place: Place) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.sh("mkdir -m 755 /etc/doas.d")
    place.write("/etc/doas.d/x.conf", f"{update_doas_line('mon')}\n")
    place.write("/etc/doas.conf", "permit persist :wheel", 0o644)
    apply(place, INSTALL)
    place.sh("sed -i /homelab/d /etc/doas.conf")
    assert judged(place)[1] == "updates_rule_missing"
    assert place.ask(SCRIPT).returncode == 1
    assert apply(place, INSTALL) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout == f"permit persist :wheel\n{update_doas_line('mon')}\n"
    assert judged(place)[1] == "updates_rule_ready"
    assert place.ask(SCRIPT).returncode == 0


@doas
def test_a_rule_of_doas_that_allows_arguments_is_found(place: Place) -> None:
    assert apply(place, INSTALL) == (0, "")
    place.allow(update_doas_line("mon").removesuffix(" args"))
    assert judged(place)[1] == "updates_rule_open"
    status, words = apply(place, INSTALL)
    assert status == 1
    assert words.startswith("/etc/doas.conf, line 1: this rule lets its user add arguments")
    place.allow("permit nopass mon")
    assert judged(place)[1] == "updates_rule_ready", "who may do everything needs no rule"


@both_sudos
def test_a_unit_with_odd_characters_is_named_as_documented(place: Place) -> None:
    shown = (Path(__file__).parents[1] / "docs/actions.md").read_text()
    dashed = r"foo\\\\x2dbar.service" if place.way == "sudo" else r"foo\\x2dbar.service"
    place.write("/usr/bin/systemctl", UPGRADE, 0o755)
    for rule, unit in ((dashed, r"foo\x2dbar.service"), (r"a\:b.service", "a:b.service")):
        assert f"`{rule}`" in shown
        place.allow(f"mon ALL=(root) NOPASSWD: /usr/bin/systemctl restart -- {rule}")
        assert place.ask("systemctl", "restart", "--", unit).returncode == 0, rule
        assert place.ask("systemctl", "restart", "--", "ssh.service").returncode == 1


@every_way
def test_who_may_do_everything_has_no_rule_that_is_left_over(place: Place) -> None:
    place.allow("permit nopass mon" if place.way == "doas" else "mon ALL=(ALL) NOPASSWD: ALL")
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)


# ---------------------------------------------------------------- files that are odd


@pytest.mark.parametrize(
    "text", [f"foo bar baz\n{OLD}\n", f"{OLD} \\\n", f"{OLD} \\", OLD, f"{OLD}\nfoo bar baz"], ids=range(5)
)
@both_remedies
def test_somebodys_broken_line_does_not_keep_the_dangerous_rule(place: Place, key: str, text: str) -> None:
    place.write("/etc/sudoers.d/some", text, 0o440)
    status, words = apply(place, key)
    assert status == 0, words
    assert "systemd-run" not in texts(place)
    assert ("foo bar baz" in texts(place)) == ("foo" in text)
    assert judged(place, wanted=False)[1] != "updates_rule_old"


@both_sudos
def test_a_broken_line_of_ours_is_not_put_in_place(place: Place) -> None:
    place.write("/etc/sudoers.d/some", f"{OLD}\n", 0o440)
    place.write(RULE_FILE, "foo bar baz", 0o440)
    assert apply(place, INSTALL)[0] != 0
    assert texts(place).count("homelab_monitor-update") == 0, "the dangerous one goes all the same"
    assert place.sh("ls -A /usr/local/sbin").stdout == ""


def test_a_rule_of_old_in_a_file_that_is_included_is_found_and_removed(place: Place) -> None:
    place.sh("sed -i '1a @include sudoers.local' /etc/sudoers")
    place.write("/etc/sudoers.local", f"{OLD}\nroot ALL=(ALL) ALL\n", 0o440)
    assert judged(place)[1] == "updates_rule_old"
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/sudoers.local").stdout == "root ALL=(ALL) ALL\n"
    assert judged(place, wanted=False)[1] == "updates_rule_none"


OTHER = "Plugin sudoers_policy sudoers.so sudoers_file=/etc/other"
PLACES = {
    "named in sudo.conf": (f"{OTHER}\n", "/etc/other", "/etc/other"),
    "a line that goes on": ("", "@include \\\n   /etc/other", "/etc/other"),
    "a line that goes on twice, with blanks": ("", "  @include \\  \n\\\n /etc/other", "/etc/other"),
    "behind a comment that does not go on": ("", "# x \\\n@include /etc/other", "/etc/other"),
    "an escaped space": ("", "@include /etc/ot\\ her", "/etc/ot her"),
    "quotes": ("", '@include "/etc/ot her"', "/etc/ot her"),
    "a path that goes on": ("", "@include /etc/ot\\\nher", "/etc/other"),
    "a folder with a space": ("", "@includedir /srv/some\\ rules", "/srv/some rules/other"),
    "a folder in a line that goes on": ("", "#includedir \\\n/srv/some", "/srv/some/other"),
    "named in sudo.conf, then included": (f"{OTHER}2\n", "/etc/other2 @include \\\n/etc/other", "/etc/other"),
}


@both_sudos
@pytest.mark.parametrize(("conf", "line", "path"), PLACES.values(), ids=PLACES)
def test_a_rule_of_old_is_found_in_every_file_that_sudo_reads(place: Place, conf: str, line: str, path: str) -> None:
    top = "root ALL=(ALL:ALL) ALL"
    place.sh(f"mkdir -p '{path.rpartition('/')[0]}'; chmod 755 /srv")
    for folder in ("/srv/some rules", "/srv/some"):
        place.sh(f"if [ -d '{folder}' ]; then chmod 755 '{folder}'; fi")
    if conf:
        place.write("/etc/sudo.conf", conf)
        first, _, include = line.partition(" ")
        place.write(first, f"{top}\n{include}\n", 0o440)
    else:
        place.write("/etc/sudoers", f"{top}\n{line}\n@includedir /etc/sudoers.d\n", 0o440)
    probe = "mon ALL=(root) NOPASSWD: /usr/bin/id -u\n"
    kept = place.run("cat", path).stdout
    place.write(path, f"{kept}{probe}", 0o440)
    if place.ask("/usr/bin/id", "-u").stdout != "0\n":
        pytest.skip("this one does not read it")
    place.write(path, f"{kept}{OLD.replace('mon', 'eve', 1)}\n", 0o440)
    # Of another user's rule only files tell.
    assert judged(place, user="root", wanted=False)[1] == "updates_rule_old"
    place.write(path, f"{kept}{OLD}\n{probe}", 0o440)
    assert judged(place, user="root", wanted=False)[1] == "updates_rule_old"
    assert apply(place, REMOVE) == (0, "")
    assert place.run("cat", path).stdout == f"{kept}{probe}"
    assert judged(place, user="root", wanted=False)[1] == "updates_rule_none"
    assert place.ask("/usr/bin/id", "-u").stdout == "0\n"


def test_a_rule_goes_only_where_the_file_that_counts_leads_to(place: Place) -> None:
    place.write("/etc/sudo.conf", f"{OTHER}\n")
    place.write("/etc/other", "root ALL=(ALL:ALL) ALL\n", 0o440)
    status, words = apply(place, INSTALL)
    assert (status, words.startswith("sudo does not read /etc/sudoers.d")) == (1, True), words
    assert place.sh(f"ls {RULE_FILE}").returncode != 0
    place.write("/etc/other", "root ALL=(ALL:ALL) ALL\n@includedir \\\n /etc/sudoers.d\n", 0o440)
    assert apply(place, INSTALL) == (0, "")
    assert judged(place)[1] == "updates_rule_ready"


@both_sudos
def test_a_rule_of_old_that_goes_on_behind_blanks_is_taken_out(place: Place) -> None:
    folded = OLD.replace(" --unit", " \\ \t\n  --unit")
    place.write("/etc/sudoers.d/some", f"{folded}\nroot ALL=(ALL) ALL\n", 0o440)
    assert judged(place, user="root", wanted=False)[1] == "updates_rule_old"
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/sudoers.d/some").stdout == "root ALL=(ALL) ALL\n"


def test_a_file_that_cannot_be_read_is_reported(place: Place) -> None:
    place.write("/etc/sudoers.d/some", f"{OLD}\n", 0o440)
    # As root of a host that may not read everything, such as on NFS.
    cure = remedy_for(REMOVE, Family.DEBIAN, "mon", {"manager": "apt"})
    assert cure
    bare = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    place.sh("chown 61900 /etc/sudoers.d/some; chmod 400 /etc/sudoers.d/some")
    done = place.run(*bare, "sh", "-c", cure.commands[0])
    assert (done.returncode, "this file could not be read: /etc/sudoers.d/some\n" in done.stderr) == (1, True), done


def test_a_link_stays_a_link_and_a_file_keeps_owner_and_mode(place: Place) -> None:
    place.sh(
        "mv /etc/sudoers /etc/sudoers.real; ln -s sudoers.real /etc/sudoers; mkdir -m 755 /srv/rules; chmod 755 /srv"
    )
    place.sh(f"echo '{OLD}' >>/etc/sudoers.real; ln -s /srv/rules/x /etc/sudoers.d/x")
    place.write("/srv/rules/x", f"{OLD}\nroot ALL=(ALL) ALL\n", 0o400)
    place.sh("chgrp 61900 /srv/rules/x")
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("readlink /etc/sudoers /etc/sudoers.d/x").stdout == "sudoers.real\n/srv/rules/x\n"
    assert place.sh("stat -c '%a %u:%g' /etc/sudoers.real /srv/rules/x").stdout == "440 0:0\n400 0:61900\n"
    assert "systemd-run" not in place.sh("cat /etc/sudoers /srv/rules/x").stdout


def test_a_file_in_a_folder_of_others_is_not_written(place: Place) -> None:
    place.write("/home/mon/rules", f"{OLD}\n", 0o440)
    place.sh("ln -s /home/mon/rules /etc/sudoers.d/x")
    status, words = apply(place, REMOVE)
    assert status == 1
    assert words.startswith("users other than root can change /home/mon\n")
    assert place.sh("ls -A /home/mon; cat /home/mon/rules").stdout == f"rules\n{OLD}\n"


INTERRUPTIBLE = """
import os, signal
for each in (signal.SIGINT, signal.SIGHUP):
    signal.signal(each, signal.SIG_DFL)
os.execvp("sh", ["sh", "/tmp/remedy"])
"""
"""What a shell starts in the background ignores the one signal, what nohup starts the other."""
SLOW = '#!/bin/sh\ntouch /tmp/asked\nsleep 1\nexec /usr/sbin/visudo.real "$@"\n'


@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT", "KILL"])
def test_a_remedy_that_is_cut_off_leaves_nothing_for_good(place: Place, signal: str) -> None:
    place.sh("mv /usr/sbin/visudo /usr/sbin/visudo.real")
    place.write("/usr/sbin/visudo", SLOW, 0o755)
    before = texts(place)
    cure = remedy_for(INSTALL, Family.DEBIAN, "mon", {"manager": "apt"})
    assert cure
    place.write("/tmp/remedy", cure.commands[0])
    place.write("/tmp/start", INTERRUPTIBLE)
    place.sh(f"setsid python3 /tmp/start & until [ -e /tmp/asked ]; do sleep 0.05; done; kill -{signal} -$!; wait")
    assert texts(place) == before
    assert place.sh("ls -A /usr/local/sbin").stdout == ""
    place.sh("touch /etc/sudoers.d/.homelab_monitor.abcdef /usr/local/sbin/.homelab_monitor.abcdef")
    place.sh("rm /usr/sbin/visudo; mv /usr/sbin/visudo.real /usr/sbin/visudo")
    assert apply(place, INSTALL) == (0, "")
    assert left(place) == ["/run/homelab_monitor-rules.lock"]


@pytest.mark.parametrize("tool", ["flock", "mkdir"])
def test_of_many_remedies_at_once_each_has_its_effect_once(place: Place, tool: str) -> None:
    if tool == "mkdir":
        place.sh("rm /usr/bin/flock")
    for number, user in enumerate(("mon", "ha", "mon", "ha")):
        cure = remedy_for(INSTALL, Family.DEBIAN, user, {"manager": "apt"})
        assert cure
        place.write(f"/tmp/{number}", cure.commands[0])
    place.sh("for each in 0 1 2 3; do sh /tmp/$each & done; wait")
    lines = place.sh(f"cat {RULE_FILE}").stdout.splitlines()
    assert sorted(lines) == [guard_line(SCRIPT), update_sudoers_line("ha"), MINE]
    assert set(left(place)) <= {"/run/homelab_monitor-rules.lock"}


def test_the_lock_is_no_door_for_who_can_write_in_run(place: Place) -> None:
    place.sh("chmod 1777 /run; ln -s /etc/planted /run/homelab_monitor-rules.lock")
    assert apply(place, INSTALL) == (1, "users other than root can change /run\n")
    assert place.sh("ls /etc/planted").returncode != 0


# ---------------------------------------------------------------- what doas reads

BRINGS = {
    "a brace ends a word": "permit nopass setenv{ FOO } mon as root cmd @ args",
    "no blanks at all": "permit nopass setenv{FOO}mon as root cmd @ args",
    "its options in another order": "permit setenv { X=1 FOO }nopass mon as root cmd @ args",
    "tabs": "permit\tnopass\tkeepenv\tmon as root cmd @ args",
    "a letter with a backslash": "permit nopass keep\\env mon as root cmd @ args",
    "quotes": 'permit nopass setenv { "FOO" } "mon" as "root" cmd "@" args',
    "from another variable": "permit nopass setenv { FOO=$FOO } mon as root cmd @ args",
    "under a comment that ends in a backslash": "# admins \\\npermit nopass keepenv mon as root cmd @ args",
    "before a comment that ends in a backslash": "permit nopass keepenv mon as root cmd @ args # \\\npermit mon cmd /x",
    "a comment within a word": "permit nopass keepenv mon as root cmd @ args#\\",
    "a line that goes on": "permit nopass keepenv \\\n mon as root cmd \\\n @ args",
    "behind a quoted #": 'permit nopass keepenv mon cmd "/x #y"\npermit nopass keepenv mon as root cmd @ args',
}
KEEPS_OUT = {
    "ours": "permit nopass mon as root cmd @ args",
    "ours under a comment that ends in a backslash": "# /\\_/\\\npermit nopass mon as root cmd @ args",
    "ours behind a quoted #": 'permit nopass setenv { X="a #b" } mon as root cmd @ args # keepenv',
    "it takes one out": "permit nopass setenv { -FOO } mon as root cmd @ args",
    "a value of its own": "permit nopass setenv { X=1 FOO=2 } mon as root cmd @ args",
    "a word like it": 'permit nopass mon cmd "id" args "keepenv" "a=$b"\npermit nopass mon as root cmd @ args',
    "an earlier rule": "permit nopass keepenv mon as root cmd @ args\npermit nopass mon as root cmd @ args",
    "for another one": "permit nopass mon as root cmd @ args\npermit nopass keepenv mon as root cmd /usr/bin/id",
}


@doas
@pytest.mark.parametrize("brings", [True, False])
def test_ready_is_said_exactly_where_doas_keeps_variables_of_the_caller_from_the_script(
    place: Place, brings: bool
) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    assert apply(place, INSTALL) == (0, "")
    script = place.sh(f"cat {SCRIPT}").stdout
    for name, rule in (BRINGS if brings else KEEPS_OUT).items():
        place.allow(rule.replace("@", SCRIPT))
        place.write(SCRIPT, '#!/bin/sh\necho "$(id -u) $FOO"\n', 0o755)
        ran = place.sh(f"FOO=evil doas -n {SCRIPT}", user="mon")
        assert (name, ran.stdout[:2], "evil" in ran.stdout) == (name, "0 ", brings), ran
        place.write(SCRIPT, script, 0o755)
        found = "updates_rule_loose" if brings else "updates_rule_ready"
        assert (name, judged(place)[1]) == (name, found)
        # A rule of ours at the end cures it.
        words = apply(place, INSTALL)[1]
        assert (name, judged(place)[1]) == (name, "updates_rule_ready"), words
        assert (name, place.ask(SCRIPT).returncode) == (name, 0)


@doas
@pytest.mark.parametrize(
    "head",
    ["permit persist :wheel # admins \\", "# /\\_/\\ ", "#\\", 'permit nopass root cmd "a #b" args # \\', "\\\n"],
)
def test_a_rule_of_ours_is_found_and_taken_out_below_what_only_looks_like_its_beginning(
    place: Place, head: str
) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.write("/etc/doas.conf", f"{head}\n")
    for _ in range(2):
        assert apply(place, INSTALL) == (0, "")
        assert judged(place)[1] == "updates_rule_ready"
        assert place.sh("cat /etc/doas.conf").stdout == f"{head}\n{update_doas_line('mon')}\n"
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout == f"{head}\n"


@doas
def test_the_job_of_old_is_found_in_what_doas_reads(place: Place) -> None:
    rule = "permit nopass mon as root cmd /usr/bin/systemd-run args \\\n --unit=homelab_monitor-update /bin/sh"
    for text, is_old in (
        (f"# \\\n{rule}", True),
        (f"deny {rule[14:]}", False),
        (f"# {rule.replace(chr(10), '')}", False),
    ):
        place.write("/etc/doas.conf", f"{text}\n")
        assert place.sh("doas -C /etc/doas.conf").returncode == 0
        assert (text, judged(place, wanted=False)[1] == "updates_rule_old") == (text, is_old)


# ---------------------------------------------------------------- what runs as the account

HOLDER = """#!/bin/sh
if [ "$(id -u)" != 0 ]; then
  ls -l /proc/$$/fd >>/tmp/held
  (sleep 300) &
  HOLD
fi
exec "$0.real" "$@"
"""
HOLDS = {
    "leaves something behind": ("sudo", "", "true"),
    "does not end": ("sudo", "exec sleep 300", "true"),
    "does not end, without timeout": ("sudo", "exec sleep 300", "rm /usr/bin/timeout"),
    "leaves something behind, without timeout": ("doas", "", "rm /usr/bin/timeout"),
    "does not read": ("doas", "exec sleep 300", "true"),
}


@pytest.mark.parametrize(("place", "hold", "prepare"), HOLDS.values(), ids=HOLDS, indirect=["place"])
def test_what_the_account_runs_holds_neither_the_lock_nor_the_repair(place: Place, hold: str, prepare: str) -> None:
    assert apply(place, INSTALL) == (0, "")
    script = place.sh(f"cat {SCRIPT}").stdout
    tool = place.way
    place.sh(f"{prepare}; : >/tmp/held; chmod 666 /tmp/held; mv /usr/bin/{tool} /usr/bin/{tool}.real")
    place.write(f"/usr/bin/{tool}", HOLDER.replace("HOLD", hold), 0o755)
    status, words = apply(place, INSTALL)
    assert place.sh("cat /tmp/held").stdout.count("total"), "it was asked"
    assert "homelab_monitor-rules" not in place.sh("cat /tmp/held").stdout
    assert place.sh(f"cat {SCRIPT}").stdout == script, words
    assert (status, words) == (0, "") or words.startswith("sudo does not let mon run it")
    assert place.sh("flock -n /run/homelab_monitor-rules.lock true").returncode == 0
    assert left(place) == ["/run/homelab_monitor-rules.lock"]
    place.sh(f"mv -f /usr/bin/{tool}.real /usr/bin/{tool}")
    assert apply(place, REMOVE) == (0, "")


@pytest.mark.parametrize("tool", ["flock", "mkdir"])
def test_who_waits_for_another_change_in_vain_is_told_what_to_do(place: Place, tool: str) -> None:
    place.write("/usr/bin/sleep", "#!/bin/sh\n", 0o755)
    if tool == "mkdir":
        place.sh("rm /usr/bin/flock; mkdir /run/homelab_monitor-rules.d")
        expected = "if none is, remove /run/homelab_monitor-rules.d"
        status, words = apply(place, INSTALL)
    else:
        cure = remedy_for(INSTALL, Family.DEBIAN, "mon", {"manager": "apt"})
        assert cure
        place.write("/tmp/remedy", cure.commands[0])
        done = place.sh("flock /run/homelab_monitor-rules.lock sh /tmp/remedy")
        status, words = done.returncode, done.stderr
        expected = "try again when it has ended"
    assert (status, expected in words, "rules.d" in words) == (1, True, tool == "mkdir"), words


def test_a_repair_that_was_killed_at_its_trial_says_so_and_the_next_one_fixes_it(place: Place) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.sh("mv /usr/bin/sudo /usr/bin/sudo.real")
    place.write("/usr/bin/sudo", HOLDER.replace("HOLD", "touch /tmp/held.now; exec sleep 300"), 0o755)
    place.sh(": >/tmp/held; chmod 666 /tmp/held")
    cure = remedy_for(INSTALL, Family.DEBIAN, "mon", {"manager": "apt"})
    assert cure
    place.write("/tmp/remedy", cure.commands[0])
    place.sh(
        "setsid sh /tmp/remedy >/dev/null 2>&1 & until [ -e /tmp/held.now ]; do sleep 0.1; done; kill -KILL -$!; wait"
    )
    place.sh("mv -f /usr/bin/sudo.real /usr/bin/sudo")
    asked = place.ask(SCRIPT)
    assert (asked.returncode, asked.stderr) == (75, f"{TRIAL_SAYS}\n")
    assert judged(place)[1:] == ("updates_script_outdated", INSTALL)
    assert apply(place, INSTALL) == (0, "")
    assert judged(place)[1] == "updates_rule_ready"
