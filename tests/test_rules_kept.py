"""What the remedies leave as sound as it was: files that somebody else names, odd names, what is not sudo after all."""

from pathlib import Path
import re

import pytest

from custom_components.homelab_monitor.client.checks.rule_remedies import (
    DOAS_RULE_FILE,
    FIREWALL_RULE_FILE,
    RULE_FILE,
)
from custom_components.homelab_monitor.client.checks.update_script import OLD_RULES, SCRIPT, update_doas_line

from .superuser import SUDOS, Place
from .test_rule_files import INSTALL, MINE, OLD, REMOVE, UPGRADE, apply, both_remedies, judged, texts

CLIENT = Path(__file__).parents[1] / "custom_components/homelab_monitor/client"
TOP = "root ALL=(ALL:ALL) ALL"
STRICT = """\
Plugin sudoers_policy sudoers.so error_recovery=false
Plugin sudoers_io sudoers.so
Plugin sudoers_audit sudoers.so error_recovery=false
"""
"""As each sudo before 1.9.3: whatever is wrong with one file, nobody becomes root."""
both_sudos = pytest.mark.parametrize("place", SUDOS, indirect=True)


# ---------------------------------------------------------------- a file that is named


@both_sudos
@both_remedies
@pytest.mark.parametrize("line", ["@include /etc/sudoers.local", "#include /etc/sudoers.local"])
def test_a_file_that_a_line_names_stays_if_nothing_is_left_in_it(place: Place, key: str, line: str) -> None:
    # To sudo-rs the old rule is a fault.
    rule = OLD if place.way == "sudo" else MINE
    place.write("/etc/sudo.conf", STRICT)
    place.write("/etc/sudoers.local", f"{rule}\n", 0o440)
    place.write("/etc/sudoers.d/eve", "mon ALL=(root) NOPASSWD: /usr/bin/id\n", 0o440)
    place.write("/etc/sudoers", f"{TOP}\n{line}\n@includedir /etc/sudoers.d\n", 0o440)
    assert place.run("visudo", "-c").returncode == 0
    assert apply(place, key) == (0, "")
    assert place.run("visudo", "-c").returncode == 0
    assert place.ask("/usr/bin/id", "-u").stdout == "0\n"
    kept = "" if rule == OLD or key == REMOVE else f"{rule}\n"
    assert place.sh("cat /etc/sudoers.local").stdout == kept


def test_also_a_file_of_ours_stays_where_a_line_names_it(place: Place) -> None:
    place.write("/etc/sudoers", f"{TOP}\n@includedir /etc/sudoers.d\n@include {RULE_FILE}\n", 0o440)
    place.write(RULE_FILE, "", 0o440)
    assert apply(place, INSTALL) == (0, "")
    assert apply(place, REMOVE) == (0, "")
    assert place.run("visudo", "-c").returncode == 0
    assert place.sh(f"cat {RULE_FILE}; stat -c %a {RULE_FILE}").stdout == "440\n"


@pytest.mark.parametrize("place", ["doas"], indirect=True)
def test_doas_conf_stays_and_our_own_file_goes(place: Place) -> None:
    place.sh("mkdir -m 755 /etc/doas.d")
    for path in ("/etc/doas.conf", DOAS_RULE_FILE):
        place.write(path, f"{update_doas_line('mon')}\n")
    assert apply(place, REMOVE) == (0, "")
    assert place.sh(f"cat /etc/doas.conf && ! ls {DOAS_RULE_FILE}").returncode == 0


# ---------------------------------------------------------------- names

NAMES = ("CORP\\admins", "CORP\\netadmins", "CORP\\cloud", "CORP\\0101", "-n", "*", "a b", "trailing ", "%s", "a'b")


@both_sudos
def test_a_file_of_any_name_is_looked_at(place: Place) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    for name in NAMES:
        place.write(f"/etc/sudoers.d/{name}", f"{OLD}\n{TOP}\n", 0o440)
    assert apply(place, INSTALL) == (0, "")
    assert "systemd-run" not in texts(place)
    assert judged(place)[1] == "updates_rule_ready"
    assert apply(place, REMOVE) == (0, "")
    for name in NAMES:
        assert place.run("cat", f"/etc/sudoers.d/{name}").stdout == f"{TOP}\n"


@both_sudos
def test_what_stays_in_a_file_of_any_name_is_reported_with_its_name(place: Place) -> None:
    for name in NAMES:
        place.write(f"/etc/sudoers.d/{name}", f"{OLD}, /usr/bin/id\n", 0o440)
    for key in (INSTALL, REMOVE):
        status, words = apply(place, key)
        assert status == 1
        for name in NAMES:
            assert f"/etc/sudoers.d/{name}, line 1: this rule lets its user run anything as root" in words


@both_sudos
def test_a_file_whose_name_has_a_line_break_is_reported_and_hinders_nothing(place: Place) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.write("/etc/sudoers.d/a\nb", f"{TOP}\n", 0o440)
    words = "the name of this file has a line break, so it was not read: /etc/sudoers.d/a b"
    for key, runs in ((INSTALL, True), (REMOVE, False)):
        status, said = apply(place, key)
        assert (status, said.strip()) == (1, words)
        assert (place.ask(SCRIPT).returncode == 0) == runs
    assert apply(place, "allow_firewall")[0] == 0


FIXED = {'echo "uid=$(id -u)"', "echo $tool", "echo $folder/$tool", "echo $$", "echo \\\\$?", "echo $?"}


def test_no_shell_text_prints_foreign_words_with_echo() -> None:
    """Of some shells' echo a backslash, or a dash in front, has a meaning of its own."""
    found = [
        f"{path.name}: {line}"
        for path in sorted(CLIENT.rglob("*.py"))
        for line in re.findall(r"\becho [^;|&>\n]*\$[^;|&>\n]*", path.read_text())
        if line.partition("'")[0].strip() not in FIXED
    ]
    assert found == []


# ---------------------------------------------------------------- where sudo reads

READ = {
    "a dot": "@includedir /etc/./sudoers.d\n",
    "two slashes": "@includedir //etc//sudoers.d//\n",
    "a link": "@includedir /etc/linked\n",
    "relative": "@includedir sudoers.d\n",
    "the ends of lines of Windows": "@includedir /etc/sudoers.d\r\n",
    "in quotes": '@includedir "/etc/sudoers.d"\n',
}


@both_sudos
@pytest.mark.parametrize("line", READ.values(), ids=READ)
def test_the_folder_is_known_however_it_is_named(place: Place, line: str) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.sh("ln -s sudoers.d /etc/linked")
    place.write("/etc/sudoers", f"{TOP}\n{line}", 0o440)
    if place.run("visudo", "-c").returncode:
        pytest.skip("it does not read that")
    assert apply(place, INSTALL) == (0, "")
    assert place.ask(SCRIPT).returncode == 0
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("ls -A /etc/sudoers.d").stdout == ""


def test_a_name_that_names_the_machine_twice_is_known(place: Place) -> None:
    place.sh("echo '@include /etc/%h-%h' >>/etc/sudoers")
    place.write("/tmp/rule", f"mon {OLD_RULES[0]}\n{TOP}\n", 0o440)
    place.sh('cp -p /tmp/rule "/etc/$(hostname -s)-$(hostname -s)"')
    assert place.run("visudo", "-c").returncode == 0
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/*-$(hostname -s)").stdout == f"{TOP}\n"


# ---------------------------------------------------------------- what counts

SHIM = r"""#!/bin/sh
user=; flags=
while getopts EHPSbknisu: option; do
  case $option in n) flags=-n;; u) user=$OPTARG;; [EHPSbkis]) ;; *) echo "sudo: not supported" >&2; exit 1;; esac
done
shift $((OPTIND - 1))
exec doas $flags ${user:+-u "$user"} "$@"
"""
"""What doas-sudo-shim does."""


@pytest.mark.parametrize("place", ["doas"], indirect=True)
@pytest.mark.parametrize("clear", ["true", "rm -rf /etc/sudoers /etc/sudoers.d"], ids=["with files of sudo", "without"])
def test_a_sudo_that_calls_doas_gets_a_rule_of_doas(place: Place, clear: str) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.write("/usr/bin/sudo", SHIM, 0o755)
    place.sh(f"{clear}; rm -f /usr/sbin/visudo-rs /usr/bin/visudo-rs")
    place.allow("permit persist :wheel")
    assert apply(place, INSTALL) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout == f"permit persist :wheel\n{update_doas_line('mon')}\n"
    assert judged(place)[1] == "updates_rule_ready"
    assert place.ask(SCRIPT).returncode == 0
    assert apply(place, REMOVE) == (0, "")
    assert place.sh("cat /etc/doas.conf").stdout == "permit persist :wheel\n"
    status, words = apply(place, "allow_firewall")
    assert (status, words) == (1, "sudo is not installed: only its rules can allow this\n")


LATER = {
    "as another": ("mon ALL=(nobody) ALL", True),
    "as another group": ("mon ALL=(:nogroup) ALL", True),
    "as all but root": ("mon ALL=(ALL, !root) ALL", True),
    "as another, forbidden": (f"mon ALL=(nobody) NOPASSWD: ALL, !{SCRIPT}", True),
    "logged": ("mon ALL=(ALL:ALL) LOG_INPUT: LOG_OUTPUT: ALL", False),
    "as two": ("mon ALL=(nobody, root) ALL", False),
    "long": (f"mon ALL=(ALL) /usr/bin/{'a' * 60}, /usr/bin/{'b' * 60}, ALL", False),
}


@pytest.mark.parametrize(("line", "counts"), LATER.values(), ids=LATER)
def test_only_a_later_rule_that_is_for_root_counts_more(place: Place, line: str, counts: bool) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.sh(f"echo '{line}' >>/etc/sudoers")
    assert place.run("visudo", "-c").returncode == 0
    status, words = apply(place, INSTALL)
    assert (status, words.startswith("sudo does not let mon run it")) == (0 if counts else 1, not counts), words
    assert (place.ask(SCRIPT).returncode == 0) == counts
    assert judged(place)[1] == ("updates_rule_ready" if counts else "updates_rule_overruled")


def test_a_setting_that_ends_the_job_is_reported_where_there_is_no_systemd(place: Place) -> None:
    place.sh("sed -i '1i Defaults log_subcmds' /etc/sudoers")
    told = "sudo does not let updates run in the background: remove Defaults log_subcmds, or exempt"
    words = f"{told} {SCRIPT} from it\n"
    assert apply(place, INSTALL) == (1, words)
    place.sh(f"sed -i '1i Defaults!{SCRIPT} !log_subcmds' /etc/sudoers")
    assert apply(place, INSTALL) == (0, "")


# ---------------------------------------------------------------- what somebody edits meanwhile

MORE = "eve ALL=(root) NOPASSWD: /usr/bin/keepme\n"


def edited_while(place: Place, key: str, file: str, line: str) -> tuple[int, str]:
    """Apply a remedy; somebody adds a line to a file when all is read, and nothing is put in place yet."""
    tool = "cp" if file == "/etc/sudoers.d/admin" or place.way == "doas" else "chown"
    place.sh(f"mv /usr/bin/{tool} /usr/bin/{tool}.real")
    edit = f"""#!/bin/sh
case "$*" in *{file.rpartition("/")[0]}/.homelab*)
  [ -e /tmp/edited ] || {{ touch /tmp/edited; echo '{line}' >>{file}; }};;
esac
exec /usr/bin/{tool}.real "$@"
"""
    place.write(f"/usr/bin/{tool}", edit, 0o755)
    place.sh("rm -f /tmp/edited")
    done = apply(place, key)
    place.sh(f"mv -f /usr/bin/{tool}.real /usr/bin/{tool}")
    assert place.sh("test -e /tmp/edited").returncode == 0, "it was edited"
    return done


@both_sudos
@both_remedies
def test_an_edit_during_a_repair_is_not_lost_and_the_repair_says_so(place: Place, key: str) -> None:
    rule = OLD if place.way == "sudo" else f"mon {OLD_RULES[1]}"
    place.write("/etc/sudoers.d/admin", f"{TOP}\n{rule}\n", 0o440)
    status, words = edited_while(place, key, "/etc/sudoers.d/admin", MORE[:-1])
    assert (status, "/etc/sudoers.d/admin is being edited" in words) == (1, True), words
    assert place.sh("cat /etc/sudoers.d/admin").stdout == f"{TOP}\n{rule}\n{MORE}"
    assert apply(place, key)[0] == 0
    assert place.sh("cat /etc/sudoers.d/admin").stdout == f"{TOP}\n{MORE}"


@both_sudos
@pytest.mark.parametrize(
    ("key", "file"), [(INSTALL, RULE_FILE), ("allow_firewall", FIREWALL_RULE_FILE)], ids=["updates", "firewall"]
)
@pytest.mark.parametrize("before", ["", MORE.replace("keepme", "before")])
def test_an_edit_of_our_own_file_is_not_lost_either(place: Place, key: str, file: str, before: str) -> None:
    place.write("/usr/sbin/iptables-save", "#!/bin/sh\n", 0o755)
    if before:
        place.write(file, before, 0o440)
    status, words = edited_while(place, key, file, MORE[:-1])
    assert (status, f"{file} is being edited" in words) == (1, True), words
    assert place.sh(f"cat {file}").stdout == before + MORE
    assert apply(place, key)[0] == 0
    assert place.sh(f"cat {file}").stdout.startswith(before + MORE)


@pytest.mark.parametrize("place", ["doas"], indirect=True)
@both_remedies
def test_an_edit_of_doas_conf_is_not_lost(place: Place, key: str) -> None:
    rule = update_doas_line("mon") + "\n" if key == REMOVE else ""
    place.write("/etc/doas.conf", f"permit persist :wheel\n{rule}")
    status, words = edited_while(place, key, "/etc/doas.conf", "permit eve cmd keepme")
    assert (status, "/etc/doas.conf is being edited" in words) == (1, True), words
    assert place.sh("cat /etc/doas.conf").stdout == f"permit persist :wheel\n{rule}permit eve cmd keepme\n"


@pytest.mark.parametrize("place", ["doas"], indirect=True)
@both_remedies
def test_a_user_who_locks_a_file_that_all_may_read_holds_no_repair_up(place: Place, key: str) -> None:
    place.sh("useradd eve")
    place.write("/etc/doas.conf", f"permit persist :wheel\n{update_doas_line('mon')}\n", 0o644)
    hold = "setpriv --reuid eve --clear-groups flock /etc/doas.conf sleep 30 >/dev/null 2>&1 &"
    place.sh(f"{hold} while flock -n /etc/doas.conf true; do sleep 0.05; done")
    assert apply(place, key) == (0, "")
    line = f"{update_doas_line('mon')}\n" if key == INSTALL else ""
    assert place.sh("cat /etc/doas.conf").stdout == f"permit persist :wheel\n{line}"


@both_sudos
def test_a_file_that_visudo_has_open_is_left_alone(place: Place) -> None:
    rule = OLD if place.way == "sudo" else f"mon {OLD_RULES[1]}"
    other = TOP if place.way == "sudo" else "root ALL=(ALL:ALL) ALL"
    text = f"{other}\n{rule}\n" if place.way == "sudo" else f"{other}\n{MINE}\n"
    place.write("/etc/sudoers.d/admin", text, 0o440)
    place.write("/usr/bin/editor", "#!/bin/sh\ntouch /tmp/open\nsleep 3\n", 0o755)
    key = INSTALL if place.way == "sudo" else REMOVE
    hold = "EDITOR=/usr/bin/editor visudo -f /etc/sudoers.d/admin >/dev/null 2>&1 & "
    place.sh(f"{hold} until [ -e /tmp/open ]; do sleep 0.05; done")
    status, words = apply(place, key)
    assert (status, "/etc/sudoers.d/admin is being edited" in words) == (1, True), words
    assert place.sh("cat /etc/sudoers.d/admin").stdout == text
    place.sh("while [ -e /etc/sudoers.d/admin.tmp ] || ! flock -n /etc/sudoers.d/admin true; do sleep 0.1; done")
    assert apply(place, key)[0] == 0
    assert place.sh("cat /etc/sudoers.d/admin").stdout == f"{other}\n"


# ---------------------------------------------------------------- comments, and lines that go on


@both_sudos
@pytest.mark.parametrize("text", ["#-- x \\\n", "#- \\\n", "# x \\\n", "#\\\n", "# x \\"])
def test_what_ends_an_included_file_does_not_go_on_behind_it(place: Place, text: str) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.write("/etc/sudoers", f"{TOP}\n@include /etc/sudoers.inc\n@includedir /etc/sudoers.d\n", 0o440)
    place.write("/etc/sudoers.inc", text, 0o440)
    assert apply(place, INSTALL) == (0, "")
    assert place.ask(SCRIPT).returncode == 0 or place.way == "sudo-rs"
    place.write("/etc/sudoers.d/admin", f"#-- of old \\\nmon {OLD_RULES[0]}\n#-- {OLD}\n", 0o440)
    assert judged(place, user="root")[1] == "updates_rule_old"
    assert apply(place, INSTALL) == (0, "")
    assert place.sh("cat /etc/sudoers.d/admin").stdout == f"#-- of old \\\n#-- {OLD}\n"
    assert judged(place, user="root")[1] == "updates_rule_ready"


@pytest.mark.parametrize("last", ["eve ALL=(root) /bin/ls \\", "eve ALL=(root) /bin/ls \\\n", "\\\n", "# x \\"])
def test_a_last_line_that_goes_on_does_not_go_on_in_ours(place: Place, last: str) -> None:
    place.write("/usr/bin/apt-get", UPGRADE, 0o755)
    place.write("/usr/sbin/iptables-save", UPGRADE, 0o755)
    for key, file, program in ((INSTALL, RULE_FILE, SCRIPT), ("allow_firewall", FIREWALL_RULE_FILE, "iptables-save")):
        place.write(file, last, 0o440)
        assert apply(place, key) == (0, "")
        assert place.run("visudo", "-c").returncode == 0
        assert place.ask(program).returncode == 0
