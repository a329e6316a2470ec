"""What somebody can do who has the rule for installing updates and wants more, under real sudo, sudo-rs and doas.

Without systemd, whose part is tested in the homelab: here the script has to hold by itself.
"""

from concurrent.futures import ThreadPoolExecutor
import gzip
from pathlib import Path
import re
import shutil
import time

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import (
    FACTS_SCRIPT,
    Facts,
    Family,
    Privilege,
    parse_facts,
)
from custom_components.homelab_monitor.client.checks.remedies import remedy_for
from custom_components.homelab_monitor.client.checks.sudo_listing import SETTINGS
from custom_components.homelab_monitor.client.checks.update_script import (
    SCRIPT,
    UpdatesRule,
    guard_line,
    parse_updates_rule,
    update_doas_line,
    update_script,
    update_sudoers_line,
)
from custom_components.homelab_monitor.client.checks.updates_rule import evaluate_updates_rule
from custom_components.homelab_monitor.client.control.install_updates import _LOOK
from custom_components.homelab_monitor.client.models import System, Updates

from .needs import needs
from .sshd import wait_until
from .superuser import SUDOS, WAYS, Place

FOLDER = "/run/homelab_monitor-update"
OLD = (
    r"mon ALL=(root) NOPASSWD: /usr/bin/systemd-run --quiet --collect --no-ask-password --unit\=homelab_monitor-update "
    r"/bin/sh -c umask 022; mkdir -p /run/homelab_monitor-update && cd /run/homelab_monitor-update && rm -f status || "
    r"exit; export LC_ALL\=C DEBIAN_FRONTEND\=noninteractive; { dnf -y --refresh upgrade; } >output 2>&1 </dev/null; "
    r"echo $\? >ended; mv ended status"
)
"""A rule as it was once documented."""
APT = """#!/bin/sh
for verb in "$@"; do :; done
[ "$verb" = upgrade ] || exit 0
{ id -u; pwd; wc -c; env | grep -v OLDPWD | sort; umask; grep SigIgn /proc/self/status; ulimit -f; ulimit -t
  cut -d" " -f7 /proc/self/stat; echo end; } >>/tmp/told 2>&1
while [ -e /tmp/wait ] && [ $((waited += 1)) -lt 1200 ]; do sleep 0.05; done
"""
every_way = pytest.mark.parametrize("place", WAYS, indirect=True)
both_sudos = pytest.mark.parametrize("place", SUDOS, indirect=True)


def remedy(place: Place, key: str, username: str = "mon") -> str:
    """Run what a remedy would run, as root; return what it complained about, "" when all went well."""
    found = remedy_for(key, Family.DEBIAN, username, {"manager": "apt"})
    assert found
    done = place.sh(found.commands[0])
    return "" if done.returncode == 0 else done.stderr or "failed"


@pytest.fixture
def ready(place: Place) -> Place:
    """Return a place where updates can be installed."""
    place.write("/usr/bin/apt-get", APT, 0o755)
    assert remedy(place, "install_updates_rule") == ""
    return place


def told(place: Place, *, expected: bool = True) -> str:
    """Return what the upgrade that ran saw around it, "" when none ran."""
    for _ in range(60 if expected else 10):
        text = place.sh("cat /tmp/told 2>/dev/null").stdout
        if "end\n" in text and (not expected or place.sh(f"test -e {FOLDER}/status").returncode == 0):
            return text
        time.sleep(0.05)
    return text


CLEAN = """0
/run/homelab_monitor-update
0
DEBIAN_FRONTEND=noninteractive
HOME=/root
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
PWD=/run/homelab_monitor-update
0022
SigIgn:	0000000000000000
unlimited
unlimited
0
end
"""


@every_way
def test_the_rule_starts_the_upgrade_and_everybody_may_read_its_end(ready: Place) -> None:
    done = ready.ask(SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert told(ready) == CLEAN
    assert ready.run("cat", f"{FOLDER}/status", user="mon").stdout == "0\n"
    listed = ready.sh(f"stat -c '%U %a %n' {SCRIPT} {FOLDER} {FOLDER}/*").stdout.splitlines()
    assert listed == [
        f"root 755 {SCRIPT}",
        f"root 755 {FOLDER}",
        f"root 600 {FOLDER}/lock",
        f"root 644 {FOLDER}/output",
        f"root 644 {FOLDER}/pid",
        f"root 644 {FOLDER}/status",
    ]


@every_way
@pytest.mark.parametrize("words", [("x",), ("",), ("-c", "id"), ("--help",), (" ",)])
def test_no_argument_is_let_through(ready: Place, words: tuple[str, ...]) -> None:
    assert ready.ask(SCRIPT, *words).returncode != 0
    assert ready.run(SCRIPT, *words).returncode == 2, "root itself is told as well"
    assert told(ready, expected=False) == ""


@every_way
def test_nothing_else_can_be_run(ready: Place) -> None:
    ready.sh(f"ln -s {SCRIPT} /tmp/link")
    ready.write("/tmp/homelab_monitor-update", "#!/bin/sh\nid -u >/tmp/told\n", 0o755)
    for words in (
        ("/tmp/homelab_monitor-update",),
        ("/tmp/link", "x"),
        ("homelab_monitor-update", "x"),
        ("sh", SCRIPT),
        ("/bin/sh", "-c", SCRIPT),
        ("systemd-run", SCRIPT),
        ("-s",),
        ("-i",),
        ("-e", SCRIPT),
        ("-u", "mon", SCRIPT),
    ):
        done = ready.run(*ready.prefix[:2], *words, user="mon")
        assert done.returncode != 0, words
    assert told(ready, expected=False) == ""


@every_way
def test_what_the_caller_has_around_it_does_not_reach_root(ready: Place) -> None:
    """Programs in the path and in the current folder, variables, input, a file mask."""
    names = "env id mkdir chmod setsid flock systemd-run sh apt-get rm mv"
    ready.sh("mkdir -p /home/mon/bin; touch /tmp/mine; chmod 666 /tmp/mine")
    for name in names.split():
        ready.write(f"/home/mon/bin/{name}", "#!/bin/sh\nid -u >>/tmp/mine\n", 0o755)
    variables = (
        "PATH=/home/mon/bin:$PATH IFS=/ ENV=/home/mon/bin/sh BASH_ENV=/home/mon/bin/sh LD_PRELOAD=/home/mon/x.so "
        "APT_CONFIG=/home/mon/apt.conf DEBIAN_FRONTEND=readline HOME=/home/mon SYSTEMD_LOG_LEVEL=7 LANG=tr_TR.UTF-8 "
        "LC_ALL=tr_TR.UTF-8 CDPATH=/home/mon SHELLOPTS=xtrace PS4='$(id)' http_proxy=http://192.0.2.1"
    )
    asked = " ".join(("/usr/bin/" + ready.prefix[0], *ready.prefix[1:], SCRIPT))
    done = ready.sh(f"umask 0; cd /home/mon/bin; echo y | {variables} {asked}", user="mon")
    assert done.returncode == 0, done.stderr
    assert told(ready) == CLEAN
    assert ready.sh("cat /tmp/mine").stdout == ""


@every_way
def test_how_late_timers_may_be_for_the_caller_is_not_so_for_the_job(ready: Place) -> None:
    """prctl(2), PR_SET_TIMERSLACK: a sleep of root's job would never end."""
    ready.write("/usr/bin/apt-get", "#!/bin/sh\ncat /proc/self/timerslack_ns >>/run/slack\n", 0o755)
    asked = ", ".join(repr(word) for word in ("/usr/bin/" + ready.prefix[0], *ready.prefix[1:], SCRIPT))
    slack = (
        f"import ctypes, os; ctypes.CDLL(None).prctl(29, ctypes.c_ulong(10**16)); os.execvp([{asked}][0], [{asked}])"
    )
    done = ready.run("python3", "-c", slack, user="mon")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: ready.sh("cat /run/homelab_monitor-update/status").stdout != "", "no end")
    assert set(ready.sh("cat /run/slack").stdout.split()) == {"50000"}


def test_what_sudo_is_told_to_keep_does_not_reach_the_package_manager(ready: Place) -> None:
    ready.sh("echo 'Defaults !env_reset' >/etc/sudoers.d/keep; echo 'Defaults !secure_path' >>/etc/sudoers.d/keep")
    done = ready.sh(f"APT_CONFIG=/home/mon/x PATH=/home/mon:$PATH HOME=/home/mon sudo -n {SCRIPT}", user="mon")
    assert done.returncode == 0, done.stderr
    assert told(ready) == CLEAN


@both_sudos
def test_no_variable_of_the_caller_reaches_the_shell_that_reads_the_script(ready: Place) -> None:
    """Before its first line bash, as `sh` of many systems, loads what LOCPATH and GCONV_PATH say."""
    ready.write(SCRIPT, "#!/bin/sh\ncat /proc/$$/environ\n", 0o755)
    ready.write("/etc/sudoers.d/a", 'Defaults env_keep += "LOCPATH GCONV_PATH LC_ALL"\nDefaults !env_reset\n', 0o440)
    done = ready.sh(f"LOCPATH=/home/mon/mark GCONV_PATH=/home/mon/mark LC_ALL=mark sudo -n {SCRIPT}", user="mon")
    assert done.returncode == 0
    assert "mark" not in done.stdout
    assert "SUDO_UID=" in done.stdout, "sudo-rs keeps it as well"


@every_way
@pytest.mark.parametrize("limit", ["-S -f 1", "-S -t 1", "-S -n 256", "-S -d 200000", "-f 4", "-t 5"])
def test_limits_of_the_caller_are_lifted_or_nothing_starts(ready: Place, limit: str) -> None:
    """A limit that ends a package manager in the middle leaves a broken system."""
    asked = " ".join((*ready.prefix, SCRIPT))
    done = ready.sh(f"ulimit {limit}; {asked}", user="mon")
    if done.returncode:
        assert "limits that cannot be lifted" in done.stderr or limit.startswith("-f"), done.stderr
        assert told(ready, expected=False) == ""
    else:
        assert told(ready) == CLEAN


ASKED_OF_IT = """#!/bin/sh
for verb in "$@"; do :; done
[ "$verb" = upgrade ] || exit 0
{ while read -r name value; do case $name in Max) echo "$value" | tr -s " ";; esac; done </proc/self/limits
  nice; chrt -p $$; ionice -p $$; echo end; } >/tmp/told 2>&1
"""
SET_BY_IT = """
import os, resource, sys
for number in (resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK, 11):
    resource.setrlimit(number, (1, int(sys.argv[1]) if len(sys.argv[1]) > 1 else resource.getrlimit(number)[1]))
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.nice(15)
os.execvp("ionice", ["ionice", "-c", "3", *sys.argv[2:]])
"""
"""11 is the number of waiting signals."""


@every_way
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_few_processes_or_a_low_priority_of_the_caller_are_not_the_jobs(ready: Place, shell: str) -> None:
    needs(shutil.which(shell), shell)
    ready.write("/usr/bin/apt-get", ASKED_OF_IT.replace("/bin/sh", "/bin/dash"), 0o755)
    ready.write("/tmp/set", SET_BY_IT)
    ready.sh(f"cp $(readlink -f /usr/bin/{shell}) /tmp/sh && mv /tmp/sh /bin/sh")
    done = ready.run("python3", "/tmp/set", "-", *ready.prefix, SCRIPT, user="mon")
    assert done.returncode == 0, done.stderr
    text = told(ready)
    limits = {line.rpartition(" ")[0].rpartition(" ")[0]: line for line in text.splitlines()}
    for name in ("processes", "locked memory", "pending signals"):
        found = re.search(rf"^{name} (\S+)", text, re.MULTILINE)
        assert found, limits
        assert found[1] == "unlimited" or int(found[1]) > 100, text
    assert re.search(r"^0\n.*SCHED_OTHER\n.*priority: 0\nnone", text, re.MULTILINE), text


@every_way
def test_limits_that_nobody_can_lift_are_reported_and_nothing_starts(ready: Place) -> None:
    ready.write("/usr/bin/apt-get", ASKED_OF_IT, 0o755)
    ready.write("/tmp/set", SET_BY_IT)
    done = ready.run("python3", "/tmp/set", "10", *ready.prefix, SCRIPT, user="mon")
    if done.returncode:
        assert "the caller has limits that cannot be lifted: Max " in done.stderr
        assert told(ready, expected=False) == ""
    else:
        assert re.search("^processes unlimited", told(ready), re.MULTILINE), "this root can"


@every_way
def test_signals_that_the_caller_ignores_are_not_ignored_by_the_package_manager(ready: Place) -> None:
    ignoring = (
        "import os, signal; [signal.signal(each, signal.SIG_IGN) for each in (1, 2, 13, 15, 17)]; "
        f"os.execvp({ready.prefix[0]!r}, {[*ready.prefix, SCRIPT]!r})"
    )
    done = ready.run("python3", "-c", ignoring, user="mon")
    # doas itself no longer learns how its child ended.
    assert done.returncode == (1 if ready.way == "doas" else 0), done.stderr
    assert told(ready) == CLEAN


@every_way
def test_the_job_has_no_terminal_of_the_callers_and_goes_on_without_it(ready: Place) -> None:
    ready.sh("touch /tmp/wait")
    done = ready.run("script", "-qec", " ".join((*ready.prefix, SCRIPT)), "/dev/null", user="mon")
    assert done.returncode == 0, done.stdout
    ready.sh("rm /tmp/wait")
    assert told(ready) == CLEAN


@every_way
def test_of_many_calls_at_once_one_starts_a_job(ready: Place) -> None:
    ready.sh("touch /tmp/wait")
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: ready.ask(SCRIPT).returncode, range(8)))
    assert sorted(codes) == [0, *[1] * 7]
    refused = ready.ask(SCRIPT)
    assert "installed already" in refused.stderr
    assert ready.run("flock", "-n", f"{FOLDER}/lock", "true", user="mon").returncode != 0, "nobody else can hold it"
    ready.sh("rm /tmp/wait")
    assert told(ready) == CLEAN, "once"
    deadline = time.monotonic() + 5
    while ready.ask(SCRIPT).returncode and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told(ready).startswith(CLEAN), "and again when it is over"


@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_a_service_that_a_package_starts_keeps_no_later_update_waiting(ready: Place) -> None:
    # What its scripts leave running outlives the job for years.
    leaves = f"{APT}[ -e /tmp/left ] || {{ sleep 60 >/dev/null 2>&1 & echo $! >/tmp/left; }}\n"
    ready.write("/usr/bin/apt-get", leaves, 0o755)
    assert ready.ask(SCRIPT).returncode == 0
    assert told(ready) == CLEAN
    assert ready.sh("kill -0 $(cat /tmp/left)").returncode == 0, "it still runs"
    deadline = time.monotonic() + 5
    while (again := ready.ask(SCRIPT)).returncode and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (again.returncode, again.stderr) == (0, "")


ZOMBIE = f"""
import os, time
pid = os.fork() or os._exit(0)
while (fields := open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split())[0] != "Z":
    time.sleep(0.01)
os.mkdir("{FOLDER}")
open("{FOLDER}/pid", "w").write(f"{{pid}} {{fields[19]}}")
os.system("sh")
"""


def test_a_job_that_has_ended_and_of_which_nobody_asks_how_is_not_running(place: Place) -> None:
    assert place.run("python3", "-c", ZOMBIE, stdin=_LOOK).stdout == "upgrade lost\n"


PLANTED = (
    "mkdir /run/homelab_monitor-update",
    "mkdir /home/mon/mine; ln -s /home/mon/mine /run/homelab_monitor-update",
    "ln -s /home/mon/nowhere /run/homelab_monitor-update",
    "ln -s /etc /run/homelab_monitor-update",
    "mkfifo /run/homelab_monitor-update",
)


@pytest.mark.parametrize("plant", PLANTED)
def test_what_somebody_planted_in_run_is_not_used(ready: Place, plant: str) -> None:
    assert ready.sh(plant, user="mon").returncode != 0, "only root can write there"
    ready.sh("chmod 1777 /run")
    planted = ready.sh(plant, user="mon")
    assert planted.returncode == 0, planted.stderr
    assert ready.ask(SCRIPT).returncode == 1
    assert told(ready, expected=False) == ""
    assert ready.sh("find /home/mon/mine /home/mon/nowhere /etc/lock /etc/status -type f").stdout == ""


# ---------------------------------------------------------------- the remedies


PROGRAM = "022; mkdir -p /run/homelab_monitor-update"
"""What a part of the old rule's text looks like to sudo when it is one word: a relative path."""
UNIT_OF_OLD = ("--quiet", "--collect", "--no-ask-password", "--unit=homelab_monitor-update /bin/sh -c umask")
START_A_UNIT = '#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --*) shift;; *) exec "$@";; esac; done\n'


def resplit(place: Place) -> bool:
    """Tell whether the user can run a program of its own as root by splitting the words of the old rule anew."""
    rest = re.sub(r"\\(.)", r"\1", OLD).partition(f"{PROGRAM} ")[2].split(" ")
    place.write("/usr/bin/systemd-run", START_A_UNIT, 0o755)
    place.sh("mkdir -p '/home/mon/022; mkdir -p /run'; rm -f /tmp/pwned")
    place.write(f"/home/mon/{PROGRAM}", "#!/bin/sh\nid -u >/tmp/pwned\n", 0o755)
    words = [*place.prefix, "/usr/bin/systemd-run", *UNIT_OF_OLD, PROGRAM, *rest]
    place.run("sh", "-c", 'cd /home/mon && exec "$@"', "sh", *words, user="mon")
    return place.sh("cat /tmp/pwned").stdout == "0\n"


def test_the_old_rule_gives_root_and_the_remedy_takes_it_out_wherever_it_stands(place: Place) -> None:
    folded = OLD.replace(" --unit", " \\\n  --unit").replace("; export", "; \\\n  export")
    place.write("/etc/sudoers.d/zz_homelab_monitor_updates", f"{OLD}\n", 0o440)
    assert resplit(place), "the stand-in must be one that shows the fault"
    mine = ("# mine\nmon ALL=(root) NOPASSWD: /usr/sbin/iptables -S\n", "eve ALL=(ALL) ALL\n")
    place.write("/etc/sudoers.d/a b", f"{folded}\n".join(mine), 0o440)
    place.write("/etc/sudoers.d/eve", OLD.replace("mon", "eve", 1) + "\n", 0o440)
    place.sh(f"cat >>/etc/sudoers <<'E'\n{OLD}\nE")
    assert remedy(place, "install_updates_rule") == ""
    assert place.sh("grep -rl systemd-run /etc/sudoers /etc/sudoers.d").stdout == ""
    assert not resplit(place)
    assert place.sh("cat '/etc/sudoers.d/a b'").stdout == "".join(mine)
    assert place.sh("ls /etc/sudoers.d").stdout == "a b\neve\nzz_homelab_monitor_updates\n"
    assert place.sh("cat /etc/sudoers.d/eve").stdout == "", "somebody's own file stays, if empty"
    assert place.sh("cat /etc/sudoers").stdout == "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"
    assert place.sh("cat /etc/sudoers.d/zz*").stdout == f"{update_sudoers_line('mon')}\n{guard_line(SCRIPT)}\n"
    assert place.sh("stat -c '%u %g %a' /etc/sudoers /etc/sudoers.d/*").stdout == "0 0 440\n" * 4
    assert place.run("visudo", "-c").returncode == 0


@every_way
def test_what_was_installed_can_be_removed_and_nothing_stays(place: Place) -> None:
    place.allow("permit nopass eve cmd id" if place.way == "doas" else "eve ALL=(root) NOPASSWD: /usr/bin/id -u")
    before = place.sh("ls -A /etc /etc/sudoers.d /usr/local/sbin; cat /etc/doas.conf /etc/sudoers.d/*").stdout
    for _ in range(2):
        assert remedy(place, "install_updates_rule") == ""
        rule = update_doas_line("mon") if place.way == "doas" else update_sudoers_line("mon")
        assert place.sh("cat /etc/doas.conf /etc/sudoers.d/*").stdout.splitlines().count(rule) == 1, "once"
        assert place.sh(f"cat {SCRIPT}").stdout == update_script("apt")
    assert remedy(place, "remove_updates_rule") == ""
    assert place.sh("ls -A /etc /etc/sudoers.d /usr/local/sbin; cat /etc/doas.conf /etc/sudoers.d/*").stdout == before
    assert place.ask(SCRIPT).returncode != 0


@both_sudos
def test_the_rule_of_another_user_stays(place: Place) -> None:
    others = [update_sudoers_line("simon"), update_sudoers_line("mo.n")]
    place.write("/etc/sudoers.d/zz_homelab_monitor_updates", "".join(f"{line}\n" for line in others), 0o440)
    assert remedy(place, "install_updates_rule") == ""
    guard = guard_line(SCRIPT)
    assert place.sh("cat /etc/sudoers.d/*").stdout.splitlines() == [*others, update_sudoers_line("mon"), guard]
    assert remedy(place, "install_updates_rule", "m.n") == ""
    assert remedy(place, "install_updates_rule", "root") == "", "root needs no rule"
    rules = [*others, update_sudoers_line("mon"), update_sudoers_line("m.n"), guard]
    assert place.sh("cat /etc/sudoers.d/*").stdout.splitlines() == rules


@pytest.mark.parametrize("folder", ["/usr/local/sbin", "/usr/local", "/usr"])
@pytest.mark.parametrize("mode", ["775", "757"])
def test_where_others_can_write_above_the_script_no_rule_is_made(place: Place, folder: str, mode: str) -> None:
    place.sh(f"chmod {mode} {folder}")
    assert remedy(place, "install_updates_rule") == f"users other than root can change {folder}\n"
    assert place.sh("ls -A /etc/sudoers.d /usr/local/sbin").stdout == "/etc/sudoers.d:\n\n/usr/local/sbin:\n"


def test_a_sudoers_file_that_visudo_refuses_is_not_put_in_place(place: Place) -> None:
    place.write("/etc/sudoers.d/old", f"{OLD}\n", 0o440)
    refusing = "#!/bin/sh\ncase $2 in /etc/*) ;; *) echo parse error >&2; exit 1;; esac\n"
    place.write("/usr/sbin/visudo", refusing, 0o755)
    words = "/etc/sudoers.d/old: parse error\nparse error\n"
    assert remedy(place, "install_updates_rule") == words
    assert place.sh("cat /etc/sudoers.d/old").stdout == f"{OLD}\n"
    assert place.sh("ls -A /etc/sudoers.d /usr/local/sbin").stdout == "/etc/sudoers.d:\nold\n\n/usr/local/sbin:\n"


# ---------------------------------------------------------------- the check


def facts(place: Place, user: str = "mon") -> Facts:
    """Return what a user's shell tells of the place."""
    done = place.run("sh", stdin=FACTS_SCRIPT, user=user)
    found = parse_facts(done.stdout)
    assert found.is_complete, done.stderr
    return found


SYSTEM = System(hostname="nas", kernel="6.12", architecture="x86_64", os_id="debian")


def judged(place: Place, *, wanted: bool = True, user: str = "mon") -> tuple[str, str, str | None]:
    """Return status, reason and remedy of the check."""
    verdict = evaluate_updates_rule(facts(place, user), Updates(manager="apt"), SYSTEM, is_wanted=wanted)
    # What sudo-rs does not show is said beside it, and has a test of its own.
    return verdict.status.value, verdict.reason.removesuffix("_sudo_rs"), verdict.remedy


INSTALL, REMOVE = "install_updates_rule", "remove_updates_rule"


@every_way
def test_the_check_follows_what_is_on_the_host(place: Place) -> None:
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)
    assert judged(place) == ("amber", "updates_script_missing", INSTALL)
    assert remedy(place, INSTALL) == ""
    assert judged(place) == ("ok", "updates_rule_ready", None)
    assert judged(place, user="root") == ("ok", "updates_rule_ready", None)
    assert judged(place, wanted=False) == ("amber", "updates_script_unused", REMOVE)
    place.sh(f"sed -i 's/^# homelab_monitor-update .*/# homelab_monitor-update 0 apt/' {SCRIPT}")
    assert judged(place) == ("red", "updates_script_outdated", INSTALL)
    assert remedy(place, INSTALL) == ""
    place.sh("rm -f /etc/sudoers.d/*; : >/etc/doas.conf")
    assert judged(place) == ("amber", "updates_rule_missing", INSTALL)
    assert remedy(place, INSTALL) == ""
    place.sh(f"rm {SCRIPT}")
    assert judged(place) == ("amber", "updates_script_missing", INSTALL)
    if place.way != "sudo-rs":
        # It counts a question that it refuses as a failed login, and is not asked for a script that is gone.
        assert judged(place, wanted=False) == ("amber", "updates_script_unused", REMOVE)
    assert remedy(place, REMOVE) == ""
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)


@both_sudos
def test_the_old_rule_is_found_by_its_user_and_by_root(place: Place) -> None:
    place.write("/etc/sudoers.d/some", f"{OLD}\n", 0o440)
    # To sudo-rs the line is none, and its user could not use it.
    for user in ("mon", "root") if place.way == "sudo" else ("root",):
        assert judged(place, user=user) == ("red", "updates_rule_old", INSTALL)
        assert judged(place, user=user, wanted=False) == ("red", "updates_rule_old", REMOVE)
    assert remedy(place, REMOVE) == ""
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)


def test_what_the_host_has_not_reported_is_not_checked() -> None:
    plain = Facts(system="Linux", is_complete=True)
    apt = Updates(manager="apt")
    for known in ((None, apt, SYSTEM), (Facts(), apt, SYSTEM), (plain, None, SYSTEM), (plain, apt, None)):
        assert evaluate_updates_rule(*known, is_wanted=True).status == "unknown"
    opkg = evaluate_updates_rule(plain, Updates(manager="opkg"), SYSTEM, is_wanted=True)
    assert (opkg.status, opkg.reason) == ("info", "updates_rule_none"), "nothing is offered for it"


@pytest.mark.parametrize(
    ("privilege", "is_shown", "reason"),
    [
        (Privilege.SUDO, False, "updates_rule_not_known"),  # Defaults listpw=always
        (Privilege.DOAS, False, "updates_rule_not_known"),
        (Privilege.SUDO, True, "updates_rule_missing"),
        (Privilege.SUDO_PASSWORD, False, "updates_rule_missing"),
        (Privilege.NONE, False, "updates_rule_missing"),
    ],
)
def test_who_may_run_something_by_rules_that_do_not_show_may_be_allowed_this_too(
    privilege: Privilege, is_shown: bool, reason: str
) -> None:
    rule = UpdatesRule(is_there=True, text=update_script("apt"), is_shown=is_shown)
    told = Facts(system="Linux", privilege=privilege, updates_rule=rule, is_complete=True)
    assert evaluate_updates_rule(told, Updates(manager="apt"), SYSTEM, is_wanted=True).reason == reason


@pytest.mark.parametrize(("updates", "system"), [(None, SYSTEM), (Updates(manager="apt"), None), (None, None)])
def test_a_rule_of_old_is_reported_although_the_host_says_nothing_of_its_updates(
    updates: Updates | None, system: System | None
) -> None:
    # Whoever has it may run anything as root: no silence of the host hides that.
    told = Facts(updates_rule=parse_updates_rule(["old"]), is_complete=True)
    verdict = evaluate_updates_rule(told, updates, system, is_wanted=True)
    assert (verdict.status.value, verdict.reason, verdict.remedy) == ("red", "updates_rule_old", REMOVE)


@pytest.mark.parametrize("place", ["sudo", "doas"], indirect=True)
def test_the_tools_of_busybox_are_enough(place: Place) -> None:
    needs(shutil.which("busybox"), "busybox")
    tools = "sh ls sed grep mktemp cat chown chmod mv rm mkdir stat head tr readlink dirname id uname env timeout find"
    place.sh(f"mkdir /bb; for tool in {tools}; do ln -s /bin/busybox /bb/$tool; done")
    if place.way == "sudo":
        place.write("/etc/sudoers.d/old", OLD.replace(" --unit", " \\\n  --unit") + "\n", 0o440)
    for key, reason in ((INSTALL, "updates_rule_ready"), (REMOVE, "updates_script_missing")):
        found = remedy_for(key, Family.ALPINE, "mon", {"manager": "apt"})
        assert found
        done = place.sh(f"PATH=/bb:$PATH; {found.commands[0]}")
        assert done.returncode == 0, done.stderr
        asked = place.run("env", "PATH=/bb:/usr/bin:/bin", "/bb/sh", stdin=FACTS_SCRIPT, user="mon")
        verdict = evaluate_updates_rule(parse_facts(asked.stdout), Updates(manager="apt"), SYSTEM, is_wanted=True)
        assert verdict.reason == reason
    # A file that is not ours stays, if empty.
    assert place.sh("cd /etc/sudoers.d; ls; cat *").stdout == ("old\n" if place.way == "sudo" else "")


@pytest.mark.parametrize(
    "word", ["NOPASSWD: ", "systemd-run ", f"{SCRIPT} x, ", f" {SCRIPT}/", "text ", "place x ", "*", "a*, ", "(", ", "]
)
def test_a_host_that_lists_without_end_costs_no_time(word: str) -> None:
    listed = word * ((64 << 10) // len(word))
    started = time.process_time()
    found = parse_updates_rule([f"sudo {listed}", f"sudo     (root) {listed}", f"place {listed}", f"text {listed}"])
    assert time.process_time() - started < 0.3
    assert not found.has_old_rule
    assert not found.has_rule


def test_a_listing_that_was_cut_is_never_ready() -> None:
    """What counts most comes last."""
    rules = [f'sudo     (root) NOPASSWD: {SCRIPT} ""', *["sudo     (root) NOPASSWD: /usr/bin/id x"] * 600]
    told = [f"place -rwxr-xr-x 0 {SCRIPT}", "sudo User mon may run the following commands on nas:", "listed", "allowed"]
    assert parse_updates_rule([*told, *rules[:9]]).has_rule
    assert parse_updates_rule([*told, *rules]).has_rule is None
    assert parse_updates_rule([*told, *rules[:9], "cut"]).has_rule is None


@pytest.mark.parametrize("setting", ["role=staff_r", "apparmor_profile=confined"])
def test_where_sudo_confines_what_it_runs_nothing_is_ready(setting: str) -> None:
    """Only a kernel with SELinux or AppArmor heeds them, so that no sudo of ours can show it."""
    rule = f'sudo     (root) NOPASSWD: {SCRIPT} ""'
    told = [f"place -rwxr-xr-x 0 {SCRIPT}", "listed", "allowed", "sudo Matching Defaults entries for mon on nas:"]
    assert parse_updates_rule([*told, "sudo     use_pty", rule]).stopped_by == ""
    assert parse_updates_rule([*told, f"sudo     use_pty, {setting}", rule]).stopped_by == setting.partition("=")[0]
    off = f"sudo     !{setting.partition('=')[0]}"
    assert parse_updates_rule([*told, off, rule]).stopped_by == ""


def test_of_many_rules_the_last_ones_are_not_left_out_in_silence(place: Place) -> None:
    assert remedy(place, INSTALL) == ""
    place.allow(
        RULE, *(f"mon ALL=(root) NOPASSWD: /usr/bin/id number-{each}" for each in range(500)), "mon ALL=(ALL) ALL"
    )
    assert judged(place)[1] == UNKNOWN


RULE = update_sudoers_line("mon")
ASKS = RULE.replace("NOPASSWD: ", "")
READY, MISSING, UNKNOWN = "updates_rule_ready", "updates_rule_missing", "updates_rule_not_known"
REFUSED, NOEXEC, STOPPED = "updates_rule_refused", "updates_rule_noexec", "updates_rule_stopped"
OVERRULED, LOOSE, OPEN = "updates_rule_overruled", "updates_rule_loose", "updates_rule_open"
GUARD = guard_line(SCRIPT)
ANYWHERE = {
    "other programs": (["mon ALL=(root) NOPASSWD: /usr/bin/*"], MISSING),
    "what tells of sudo": (["mon ALL=(root) NOPASSWD: /usr/bin/true"], MISSING),
    "a letter forbidden": ([RULE, "mon ALL=(root) !/usr/local/sbin/[a-z]*"], OVERRULED),
    "a letter with a password": ([RULE, "mon ALL=(root) PASSWD: /usr/local/sbin/homelab_monitor-updat?"], OVERRULED),
    "a letter of another": ([RULE, "mon ALL=(root) PASSWD: /usr/local/sbin/[a-g]*"], READY),
    "all letters but this one": ([RULE, "mon ALL=(root) PASSWD: /usr/local/sbin/[!h]*"], READY),
    "a letter that is not read": ([RULE, "mon ALL=(root) !/usr/local/sbin/[_-z]*"], REFUSED),
    "forbidden": ([RULE, f"mon ALL=(root) !{SCRIPT}"], OVERRULED),
    "everything with a password": ([RULE, "mon ALL=(ALL) ALL"], OVERRULED),
    "everything": (["mon ALL=(ALL) NOPASSWD: ALL"], READY),
    "everything but root": (["mon ALL=(ALL,!root) NOPASSWD: ALL"], MISSING),
    "as another, later": ([RULE, "mon ALL=(nobody) ALL"], READY),
    "as another, forbidden": ([RULE, f"mon ALL=(nobody) NOPASSWD: ALL, !{SCRIPT}"], READY),
    "as another group": ([RULE, "mon ALL=(:nogroup) ALL"], READY),
}
"""What sudo and sudo-rs make of rules alike."""
WITH_SUDO = {
    "expired": ([RULE.replace("NOPASSWD", "NOTAFTER=20200101000000Z NOPASSWD")], REFUSED),
    "still valid": ([RULE.replace("NOPASSWD", "NOTAFTER=20990101000000Z NOPASSWD")], READY),
    "to come": ([RULE.replace("NOPASSWD", "NOTBEFORE=20990101000000Z NOPASSWD")], REFUSED),
    "everything, expired without a password": (
        ["mon ALL=(ALL) ALL", "mon ALL=(ALL) NOTAFTER=20200101000000Z NOPASSWD: ALL"],
        UNKNOWN,
    ),
    "with a password, expired": ([RULE, "mon ALL=(ALL) NOTAFTER=20200101000000Z PASSWD: ALL"], UNKNOWN),
    "forbidden, not yet": ([RULE, f"mon ALL=(root) NOTBEFORE=20990101000000Z !{SCRIPT}"], UNKNOWN),
    "a wrong digest": ([RULE.replace("NOSETENV:", f"NOSETENV: sha256:{'0' * 64}")], REFUSED),
    "a folder of its own": ([RULE.replace("NOPASSWD", "CWD=/nowhere NOPASSWD")], UNKNOWN),
    "any folder": ([RULE.replace("NOPASSWD", "CWD=* NOPASSWD")], READY),
    "an expression": ([f'mon ALL=(root) NOPASSWD: ^{SCRIPT}$ ""'], UNKNOWN),
    "an expression later": ([RULE, "mon ALL=(root) PASSWD: ^/usr/local/.*$"], UNKNOWN),
    "aliases": (["Cmnd_Alias UP = " + SCRIPT + ' ""', "Runas_Alias OP = root", "mon ALL=(OP) NOPASSWD: UP"], READY),
    "noexec": (["Defaults noexec", RULE], NOEXEC),
    "noexec for the script": ([RULE, f"Defaults!{SCRIPT} noexec"], NOEXEC),
    "noexec for some": ([RULE, "Defaults!/usr/local/sbin/*, /usr/bin/id noexec"], UNKNOWN),
    "noexec for another": ([RULE, "Defaults!/usr/bin/id noexec"], READY),
    "noexec as root": ([RULE, "Defaults>root noexec"], NOEXEC),
    "noexec as another": ([RULE, "Defaults>mon noexec"], READY),
    "noexec, not for the script": (["Defaults noexec", RULE, f"Defaults!{SCRIPT} !noexec"], READY),
    "noexec, not for the user": (["Defaults noexec", RULE, "Defaults:mon !noexec"], READY),
    "noexec, not as root": (["Defaults noexec", "Defaults>root !noexec", RULE], UNKNOWN),
    "noexec as root or not": (["Defaults>root !noexec", "Defaults noexec", RULE], UNKNOWN),
    "noexec, but for a tag": (["Defaults noexec", RULE.replace("NOPASSWD:", "NOPASSWD: EXEC:")], READY),
    "a terminal for the script": ([RULE, f"Defaults!{SCRIPT} requiretty"], STOPPED),
    "a terminal, not for the user": (["Defaults requiretty", RULE, "Defaults:mon !requiretty"], READY),
    "a password for the script": (["Defaults !authenticate", ASKS, f"Defaults!{SCRIPT} authenticate"], MISSING),
    "a password, but for a tag": ([RULE, f"Defaults!{SCRIPT} authenticate"], READY),
    "no password": (["Defaults !authenticate", ASKS], READY),
    "exempt": (["Defaults exempt_group=mon", ASKS], UNKNOWN),
    "another to become": (["Defaults runas_default=nobody", RULE], REFUSED),
    "everything as another": (["Defaults runas_default=nobody", "mon ALL=(ALL) NOPASSWD: ALL"], STOPPED),
    "every program looked at": (["Defaults intercept", RULE], STOPPED),
    "every program of another looked at": (
        [f'mon ALL=(root) NOPASSWD: NOSETENV: INTERCEPT: /usr/bin/id, NOINTERCEPT: {SCRIPT} ""'],
        READY,
    ),
    "another root folder": (["Defaults runchroot=/tmp", RULE], REFUSED),
    "a folder that is missing": (["Defaults runcwd=/nowhere", RULE], STOPPED),
    "another way to write it": ([RULE, f"mon ALL=(root) PASSWD: /{SCRIPT}"], UNKNOWN),
    "a way back": ([RULE, "mon ALL=(root) PASSWD: /usr/local/sbin/../sbin/homelab_monitor-update"], UNKNOWN),
    "perhaps a link": ([RULE, "mon ALL=(root) PASSWD: /srv/homelab_monitor-update"], UNKNOWN),
    "logged": ([RULE, "mon ALL=(ALL:ALL) LOG_INPUT: LOG_OUTPUT: ALL"], OVERRULED),
    "logged, with a password": ([RULE, f"mon ALL=(root) PASSWD: LOG_OUTPUT: {SCRIPT}"], OVERRULED),
    "not logged": ([RULE.replace("NOSETENV:", "NOLOG_OUTPUT: NOLOG_INPUT:")], READY),
    "logged, noexec": ([RULE.replace("NOSETENV:", "LOG_OUTPUT: NOEXEC:")], NOEXEC),
    "its programs logged": (["Defaults log_subcmds", RULE], UNKNOWN),
    "its programs not logged": (["Defaults log_subcmds", RULE, f"Defaults!{SCRIPT} !log_subcmds"], READY),
    "a way to log": (["Defaults intercept_type=trace", RULE], READY),
    "a folder of its own for an earlier one as well": (
        [f'mon ALL=(root) CWD=/nowhere NOPASSWD: /usr/bin/id, NOSETENV: {SCRIPT} ""'],
        UNKNOWN,
    ),
    "expired, as an earlier one": (
        [ASKS, f'mon ALL=(root) NOTAFTER=20200101000000Z NOPASSWD: /usr/bin/id, NOSETENV: {SCRIPT} ""'],
        UNKNOWN,
    ),
    "only its effective user": (["Defaults stay_setuid", RULE], STOPPED),
    "any root folder": (["Defaults runchroot=*", RULE], LOOSE),
    "any root folder as root": ([RULE, "Defaults>root runchroot=*"], LOOSE),
    "any root folder for another": ([RULE, "Defaults!/usr/bin/id runchroot=*"], READY),
    "any root folder by the rule": ([RULE.replace("NOPASSWD", "CHROOT=* NOPASSWD")], LOOSE),
    "any root folder, and everything": (["Defaults runchroot=*", "mon ALL=(ALL) NOPASSWD: ALL"], READY),
    "any variable": (["Defaults setenv", RULE.replace("NOSETENV: ", "")], LOOSE),
    "any variable, but for a tag": (["Defaults setenv", RULE], READY),
    "any variable by a tag": ([RULE.replace("NOSETENV", "SETENV")], LOOSE),
    "variables that stay": (["Defaults !env_reset", RULE], LOOSE),
    "variables that stay, behind the guard": (["Defaults !env_reset", RULE, GUARD], READY),
    "a variable that is kept": (['Defaults env_keep += "LANG LD_PRELOAD"', RULE], LOOSE),
    "a variable that is kept, behind the guard": (['Defaults env_keep += "LANG LD_PRELOAD"', RULE, GUARD], READY),
    "a variable that is kept in spite of the guard": ([RULE, GUARD, f'Defaults!{SCRIPT} env_keep += "ENV"'], LOOSE),
    "a variable that is checked": (["Defaults env_check += LD_LIBRARY_PATH", RULE], LOOSE),
    "a variable that is kept for some": ([RULE, "Defaults!/usr/local/*/*, /usr/bin/id env_keep += ENV"], UNKNOWN),
    "variables of a desktop": (['Defaults env_keep = "COLORS DISPLAY HISTSIZE LS_COLORS LC_TIME LC_*"', RULE], READY),
    "variables from a file of root's": (["Defaults env_file=/etc/environment", RULE], READY),
    "variables from a file of anybody's": (["Defaults env_file=/home/mon/environment", RULE], UNKNOWN),
    "a log somewhere": (["Defaults log_output, iolog_dir=/home/mon/log", RULE], UNKNOWN),
    "a log in its place": (['Defaults log_output, iolog_dir="/var/log/sudo-io/%{user}"', RULE], READY),
    "a way out of its place": (["Defaults log_output, iolog_dir=/var/log/../../home/mon", RULE], UNKNOWN),
    "a log of its own": (["Defaults logfile=/var/log/sudo.log", RULE], READY),
    "a log elsewhere": (["Defaults log_servers=127.0.0.1:9", RULE], UNKNOWN),
    "a mailer of anybody's": (["Defaults mailerpath=/home/mon/mail", RULE], UNKNOWN),
    "little memory": (["Defaults rlimit_as=1", RULE], UNKNOWN),
    "no core": (["Defaults rlimit_core=0", RULE], READY),
    "open files": (["Defaults closefrom_override", RULE], UNKNOWN),
    "exempt from a rule's password": (["Defaults>root exempt_group=mon", RULE.replace("NOPASSWD", "PASSWD")], UNKNOWN),
    "every program looked at, and allowed": (
        ["Defaults intercept", "mon ALL=(ALL) NOPASSWD: ALL"],
        UNKNOWN,
    ),
    "everything in any root folder": (["mon ALL=(ALL) CHROOT=* NOPASSWD: ALL"], UNKNOWN),
    "with arguments": (["mon ALL=(root) NOPASSWD: /usr/local/sbin/homelab_monitor-updat?", RULE], OPEN),
    "perhaps with arguments": ([r"mon ALL=(root) NOPASSWD: ^/usr/local/[a-z/]*d.*$", RULE], UNKNOWN),
    "perhaps without programs": ([RULE, 'mon ALL=(root) NOPASSWD: NOEXEC: ^/usr/local/.*$ ""'], UNKNOWN),
    "perhaps in a folder": ([RULE, 'mon ALL=(root) CWD=/nowhere NOPASSWD: /usr/local/sbin/[_-z]* ""'], UNKNOWN),
    "a root folder of another": ([RULE, "mon ALL=(root) CHROOT=/srv NOPASSWD: /usr/bin/id -u"], UNKNOWN),
    "any root folder of another": ([RULE, "mon ALL=(nobody) CHROOT=* NOPASSWD: /usr/bin/id"], READY),
    "a root folder of another, and no rule": (["mon ALL=(root) CHROOT=/srv NOPASSWD: /usr/bin/id -u"], MISSING),
    "a list with the script": (
        ["Cmnd_Alias UP = /usr/bin/true, /usr/bin/id -u, " + SCRIPT, RULE, "Defaults!UP noexec"],
        UNKNOWN,
    ),
    "a list without the script": (["Cmnd_Alias UP = /usr/bin/true, /usr/bin/id -u", RULE, "Defaults!UP noexec"], READY),
    "a password for what a link leads to": ([RULE, "mon ALL=(root) PASSWD: /opt/*"], UNKNOWN),
    "a comma in an argument": ([RULE, r"mon ALL=(root) NOPASSWD: SETENV: /usr/bin/logger a\, b"], READY),
    "with arguments, perhaps without a password": (
        ["Defaults!/usr/local/*/* !authenticate", f"mon ALL=(root) {SCRIPT}", RULE],
        UNKNOWN,
    ),
    "words that look like settings": (['Defaults badpass_message="no, noexec, \\"stay_setuid"', RULE], READY),
    "what does not matter": (
        ["Defaults use_pty, umask=0077, lecture=always, !root_sudo, secure_path=/bin", RULE],
        READY,
    ),
}
WITH_SUDO_RS = {
    "any arguments": ([f"mon ALL=(root) NOPASSWD: {SCRIPT} *"], OPEN),
    "an alias": ([f'Cmnd_Alias UP = {SCRIPT} ""', "mon ALL=(root) NOPASSWD: UP"], READY),
    "an alias of users": (["Runas_Alias OP = root", RULE.replace("(root)", "(OP)")], UNKNOWN),
    "settings that it does not know": (["Defaults noexec", RULE, f"Defaults!{SCRIPT} requiretty"], READY),
}


@both_sudos
def test_ready_is_said_only_where_sudo_runs_the_script(place: Place) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.write(SCRIPT, update_script("apt"), 0o755)
    place.sh(f"chmod 755 /opt; mkdir /opt/more; ln -s {SCRIPT} /opt/more/; ln -s more/homelab_monitor-update /opt/")
    cases = ANYWHERE | (WITH_SUDO if place.way == "sudo" else WITH_SUDO_RS)
    for name, (lines, reason) in cases.items():
        place.allow(*lines)
        assert place.way == "sudo-rs" or place.run("visudo", "-c").returncode == 0, name
        assert (name, judged(place)[1]) == (name, reason)
        deadline = time.monotonic() + 20
        while (done := place.ask(SCRIPT)).returncode and "installed already" in done.stderr:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if reason not in {UNKNOWN, OPEN}:
            assert (name, done.returncode == 0) == (name, reason in (READY, LOOSE)), done.stderr


PASSES = {
    "a letter": ('SETENV: /usr/local/sbin/homelab_monitor-updat? ""', "MARK=x @"),
    "letters": ('SETENV: /usr/local/sbin/[a-z]* ""', "MARK=x @"),
    "letters that are not read": ('SETENV: /usr/local/sbin/[_-z]* ""', "MARK=x @"),
    "an expression": ("SETENV: ^/usr/local/sbin/homelab.*$ ^$", "MARK=x @"),
    "an argument": ("SETENV: @ x", "MARK=x @ x"),
    "an argument of letters": ("SETENV: @ [a-z]*", "MARK=x @ x"),
    "a slash more": ('SETENV: /usr//local/sbin/homelab_monitor-update ""', "MARK=x @"),
    "a link": ('SETENV: /opt/homelab_monitor-update ""', "MARK=x /opt/homelab_monitor-update"),
    "a link by another name": ('SETENV: /opt/updates ""', "MARK=x /opt/updates"),
    "a folder": ("SETENV: /usr/local/sbin/", "MARK=x @"),
    "behind an odd argument": (r'/usr/bin/echo a\\, SETENV: @ ""', "MARK=x @"),
    "behind an odd argument, taken back": (
        r"SETENV: /usr/bin/echo a\\, NOSETENV: /usr/bin/id, SETENV: @ x",
        "MARK=x @ x",
    ),
    "any root folder, an argument": ("CHROOT=* @ x", "-R / @ x"),
}
PASSES_AS = {
    "a number": ('(#00) NOPASSWD: SETENV: @ ""', "MARK=x @"),
    "a group": ('(%root) NOPASSWD: SETENV: @ ""', "MARK=x @"),
    "a group besides": ('(root:nogroup) NOPASSWD: SETENV: @ ""', "-g nogroup MARK=x @"),
    "any group besides": ('(ALL:ALL) NOPASSWD: SETENV: @ ""', "-g nogroup MARK=x @"),
}
"""Whom else than `(root)` it names, and how it is called then."""


@pytest.mark.parametrize("is_later", [True, False])
def test_what_brings_something_of_the_callers_in_any_other_way_is_never_ready(place: Place, is_later: bool) -> None:
    """The last rule that fits counts for each call by itself: so does an earlier one that is called in another way."""
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.sh(f"chmod 755 /opt; ln -s {SCRIPT} /opt/homelab_monitor-update; ln -s {SCRIPT} /opt/updates")
    cases = {name: (f"(root) NOPASSWD: {rule}", call) for name, (rule, call) in PASSES.items()} | PASSES_AS
    for name, (rule, call) in cases.items():
        other = f"mon ALL={rule.replace('@', SCRIPT)}".replace("NOPASSWD: CHROOT=*", "CHROOT=* NOPASSWD:")
        place.allow(*((RULE, GUARD, other) if is_later else (other, RULE, GUARD)))
        assert place.run("visudo", "-c").returncode == 0, name
        place.write(SCRIPT, '#!/bin/sh\necho "$(id -u) $MARK"\n', 0o755)
        came = place.sh(f"sudo -n {call.replace('@', SCRIPT)}", user="mon").stdout
        place.write(SCRIPT, update_script("apt"), 0o755)
        found = judged(place)
        if came.startswith("0 x"):
            assert (name, found[:2]) in {(name, ("red", LOOSE)), (name, ("red", OPEN))}
        elif came:
            assert (name, found[0]) == (name, "red")
        else:
            assert not is_later, f"{name} shows what it has to"
            assert (name, found[1]) == (name, READY) or found[0] == "red"


def test_what_brings_something_alone_is_red_although_nothing_lets_the_script_run_as_it_is(place: Place) -> None:
    place.write(SCRIPT, update_script("apt"), 0o755)
    for rule in (f"SETENV: {SCRIPT} x", f"{SCRIPT} x", f"sudoedit {SCRIPT}", "sudoedit /usr/local/sbin/*"):
        place.allow(f"mon ALL=(root) NOPASSWD: {rule}")
        assert (rule, judged(place)[0]) == (rule, "red")
    for rule in (f"PASSWD: SETENV: {SCRIPT}", "NOPASSWD: sudoedit /etc/motd", f"NOPASSWD: !{SCRIPT} x"):
        place.allow(f"mon ALL=(root) {rule}")
        assert (rule, judged(place)[1]) == (rule, MISSING)


DEBIAN = ["Defaults env_reset, mail_badpass", 'Defaults secure_path="/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"']
USUAL = {
    "nothing else": ([], READY),
    "Debian": ([*DEBIAN, "%sudo ALL=(ALL:ALL) ALL", "root ALL=(ALL:ALL) ALL"], READY),
    "Debian's sudo group": ([*DEBIAN, "%mon ALL=(ALL:ALL) ALL"], READY),
    "Fedora": (['Defaults env_keep = "COLORS DISPLAY LS_COLORS LC_TIME"', "%mon ALL=(ALL) ALL"], READY),
    "all with a password": (["mon ALL=(ALL) ALL"], READY),
    "all with a password and variables": (["mon ALL=(ALL) SETENV: ALL"], READY),
    "all without": (["mon ALL=(ALL) NOPASSWD: ALL"], READY),
    "all without, in any group": (["%mon ALL=(ALL:ALL) NOPASSWD: ALL"], READY),
    "all without, and variables": (["mon ALL=(ALL) NOPASSWD: SETENV: ALL"], READY),
    "all without, and more": (["mon ALL=(ALL) NOPASSWD: ALL", f"mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} x"], READY),
    "programs": (["mon ALL=(root) NOPASSWD: /usr/bin/systemctl restart nginx, /usr/sbin/smartctl *"], READY),
    "programs with variables": (["mon ALL=(root) NOPASSWD: SETENV: /usr/bin/rsync, /opt/tools/*, /srv/[a-z]*"], READY),
    "programs with a password": (["mon ALL=(root) /usr/bin/systemctl, /usr/local/sbin/backup-*"], READY),
    "programs beside it": (["mon ALL=(root) NOPASSWD: /usr/local/sbin/backup, /usr/local/bin/"], READY),
    "a folder of programs": (["mon ALL=(root) NOPASSWD: /usr/bin/"], READY),
    "as others": (["mon ALL=(www-data, postgres) NOPASSWD: SETENV: ALL"], READY),
    "as itself": (["mon ALL=(mon) NOPASSWD: SETENV: ALL"], READY),
    "a group of others": (["mon ALL=(:nogroup) NOPASSWD: SETENV: ALL"], READY),
    "files to edit": (["mon ALL=(root) NOPASSWD: sudoedit /etc/hosts"], READY),
    "a script of its own, in its folder": (["mon ALL=(root) CWD=/srv NOPASSWD: /srv/deploy x"], READY),
    "a rule that ours hides": ([f'mon ALL=(root) NOPASSWD: SETENV: {SCRIPT} ""'], READY),
}
"""What stands in front of our rule on most machines."""


def test_beside_usual_policies_ours_is_ready(place: Place) -> None:
    place.sh("mkdir -p /opt/tools /srv; chmod 755 /opt /srv; touch /srv/deploy; chmod 755 /srv/deploy")
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.write(SCRIPT, update_script("apt"), 0o755)
    for name, (lines, reason) in USUAL.items():
        place.allow(*lines, RULE, GUARD)
        assert place.run("visudo", "-c").returncode == 0, name
        assert (name, judged(place)[1]) == (name, reason)


def test_every_setting_that_sudo_knows_is_weighed(place: Place) -> None:
    """Of the words of its plugin those count that visudo takes for settings; a manual may be missing, or too new."""
    words = set()
    for folder in ("/usr/libexec/sudo", "/usr/lib/sudo", "/usr/lib64/sudo", "/usr/local/libexec/sudo"):
        if (plugin := Path(folder) / "sudoers.so").exists():
            words |= {word.decode() for word in re.findall(rb"(?<=\0)[a-z_]{3,40}(?=\0)", plugin.read_bytes())}
    needs(words, "the plugin of sudo")
    candidates = sorted(words - {"include", "includedir"})
    place.write("/tmp/rules", "".join(f"Defaults !{word}\n" for word in candidates), 0o440)
    done = place.run("visudo", "-cf", "/tmp/rules")
    unknown = set(re.findall(r'unknown defaults entry "(\w+)"', done.stdout + done.stderr))
    known = set(candidates) - unknown
    assert len(known) > 150, "a sudo has many"
    assert known >= {"noexec", "log_servers", "iolog_dir", "stay_setuid", "runchroot"}
    assert known - SETTINGS == set()


def test_a_setting_that_is_newer_than_this_leaves_a_rule_unknown() -> None:
    told = [f"place -rwxr-xr-x 0 {SCRIPT}", "listed", "allowed", "sudo Matching Defaults entries for mon on nas:"]
    rule = f'sudo     (root) NOSETENV: NOPASSWD: {SCRIPT} ""'
    assert parse_updates_rule([*told, "sudo     use_pty", rule]).has_rule
    assert parse_updates_rule([*told, "sudo     use_pty, some_new_one", rule]).has_rule is None
    assert parse_updates_rule([*told, "sudo     use_pty, Odd:1", rule]).has_rule is None


@pytest.mark.parametrize("manual", [Path("/usr/share/man/man5/sudoers.5.gz")])
def test_every_setting_of_the_manual_is_weighed(manual: Path) -> None:
    needs(manual.exists(), "the manual of sudo")
    text = gzip.decompress(manual.read_bytes()).decode()
    options = text.partition("\n.Sh SUDOERS OPTIONS")[2].partition("\n.Sh ")[0]
    named = set(re.findall(r"^\.It ([a-z_]+)$", options, re.MULTILINE))
    # Values of settings stand in lists as well.
    named -= set(re.findall(r"\w+", "dso trace global ppid tty kernel always never digest_only once all any json sudo"))
    assert len(named) > 150
    assert named - SETTINGS == set()


def test_what_rules_of_doas_allow_that_do_not_show_is_not_denied_by_those_of_sudo(place: Place) -> None:
    needs(shutil.which("doas"), "opendoas")
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    place.write(SCRIPT, update_script("apt"), 0o755)
    place.write("/etc/doas.conf", f"{update_doas_line('mon')}\n", 0o600)
    for lines in (
        ["mon ALL=(root) NOPASSWD: /usr/bin/true"],
        [RULE, "mon ALL=(ALL) ALL"],
        [RULE, f"mon ALL=(root) !{SCRIPT}"],
        ["Defaults noexec", RULE],
    ):
        place.allow(*lines)
        assert (lines, judged(place)[1]) == (lines, UNKNOWN)
        done = place.run("doas", "-n", SCRIPT, user="mon")
        assert done.returncode == 0 or "installed already" in done.stderr
    place.allow(RULE, GUARD)
    assert judged(place)[1] == READY, "what sudo does shows"


@pytest.mark.parametrize("place", ["doas"], indirect=True)
def test_rules_of_doas_that_nobody_may_read_are_not_taken_for_one(place: Place) -> None:
    place.write("/usr/bin/apt-get", "#!/bin/sh\n", 0o755)
    assert remedy(place, INSTALL) == ""
    for lines in ((), ("permit nopass mon as root cmd true",), ("permit nopass eve",), (update_doas_line("mon"),)):
        place.allow(*lines)
        allowed = place.ask(SCRIPT).returncode == 0
        assert judged(place)[1] == (READY if allowed else MISSING), lines
        place.sh("chmod 600 /etc/doas.conf")
        assert judged(place) == ("unknown", UNKNOWN, None), lines
    place.sh("rm /etc/doas.conf")
    assert judged(place)[1] == MISSING


@both_sudos
def test_a_rule_that_allows_arguments_is_found(place: Place) -> None:
    assert remedy(place, INSTALL) == ""
    place.allow(f"mon ALL=(root) NOPASSWD: {SCRIPT}")
    assert judged(place) == ("red", "updates_rule_open", INSTALL)
    assert remedy(place, INSTALL).startswith("/etc/sudoers.d/rules, line 1: this rule lets its user add arguments")
    assert judged(place) == ("red", "updates_rule_open", INSTALL), "a line of somebody else's is theirs to change"
    place.sh("rm /etc/sudoers.d/rules")
    assert judged(place) == ("ok", "updates_rule_ready", None)
    place.allow("mon ALL=(ALL) NOPASSWD: ALL")
    assert judged(place) == ("ok", "updates_rule_ready", None), "who may do everything needs no rule"


@pytest.mark.parametrize(
    ("spoil", "path", "cure"),
    [
        (f"chmod 775 {SCRIPT}", SCRIPT, INSTALL),
        (f"chown mon {SCRIPT}", SCRIPT, INSTALL),
        (f"chmod 644 {SCRIPT}", SCRIPT, INSTALL),
        (f"chmod 4755 {SCRIPT}", SCRIPT, INSTALL),
        (f"mv {SCRIPT} /tmp/x; ln -s /tmp/x {SCRIPT}", SCRIPT, INSTALL),
        ("chmod 777 /usr/local/sbin", "/usr/local/sbin", None),
        ("chown mon /usr/local", "/usr/local", None),
        ("cd /usr/local; mv sbin own; chown mon own; ln -s own sbin", "/usr/local/own", None),
    ],
)
def test_a_script_that_others_can_change_is_found(place: Place, spoil: str, path: str, cure: str | None) -> None:
    assert remedy(place, INSTALL) == ""
    assert place.sh(spoil).returncode == 0
    assert judged(place) == ("red", "updates_script_unsafe", cure)
    assert facts(place).updates_rule.unsafe == path
    if cure:
        assert remedy(place, INSTALL) == ""
        assert judged(place) == ("ok", "updates_rule_ready", None)


NEST = """
import os
os.chdir("/tmp/eve")
for _ in range(40000):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)
os.rename("/tmp/eve/a", "a", dst_dir_fd=os.open(".", os.O_RDONLY))
"""


def test_a_list_of_mounts_that_a_user_made_long_holds_nothing_up(place: Place) -> None:
    """Whoever owns the folder above a mountpoint moves that as deep as they like: its line has megabytes then."""
    assert remedy(place, INSTALL) == ""
    mounts = "mkdir /tmp/eve; mount -t tmpfs t /tmp/eve && mkdir -p /tmp/eve/a/disk && mount -t tmpfs t /tmp/eve/a/disk"
    assert place.sh(mounts).returncode == 0
    assert place.run("python3", "-c", NEST).returncode == 0
    assert int(place.sh("wc -c </proc/self/mounts").stdout) > 8_000_000
    begun = time.monotonic()
    assert judged(place) == ("ok", "updates_rule_ready", None)
    assert time.monotonic() - begun < 4


OTHERS_CAN = ("chgrp 61900 /usr/local/sbin; chmod 2775 /usr/local/sbin", "rm -r /usr/local/sbin; chmod 777 /usr/local")


@every_way
@pytest.mark.parametrize("spoil", OTHERS_CAN)
def test_a_rule_for_a_script_that_others_can_put_there_is_as_bad_as_one_that_they_can_change(
    place: Place, spoil: str
) -> None:
    place.sh(spoil)
    assert judged(place) == ("amber", "updates_script_missing", INSTALL), "no rule, no harm"
    rule = (update_doas_line("mon"),) if place.way == "doas" else (RULE, GUARD)
    place.allow(*rule)
    assert judged(place) == ("red", "updates_script_unsafe", None)
    assert judged(place, wanted=False) == ("red", "updates_script_unsafe", REMOVE)
    planted = f"mkdir -p /usr/local/sbin; printf '#!/bin/sh\\nid -u\\n' >{SCRIPT} && chmod 755 {SCRIPT}"
    assert place.sh(planted, user="mon").returncode == 0
    assert place.ask(SCRIPT).stdout == "0\n", "so can anybody"
    place.sh(f"rm {SCRIPT}")
    assert remedy(place, REMOVE) == ""
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)
    place.allow("permit nopass mon" if place.way == "doas" else "mon ALL=(ALL) NOPASSWD: ALL")
    assert judged(place)[1] == "updates_script_missing", "who may do everything needs no such door"


def test_a_filesystem_that_is_read_only_has_a_reason_and_no_remedy(place: Place) -> None:
    read_only = "mount --bind /usr /usr && mount -o remount,bind,ro /usr"
    assert place.sh(read_only).returncode == 0
    assert judged(place) == ("amber", "updates_script_read_only", None)
    assert judged(place, wanted=False) == ("info", "updates_rule_none", None)
    place.write("/etc/sudoers.d/some", f"{OLD}\n", 0o440)
    assert judged(place) == ("red", "updates_rule_old", REMOVE), "what is dangerous can be removed all the same"
