"""What the check says of made-up policies of sudo, held against what sudo does under them.

A policy is a few lines of a small grammar of sudoers(5): users, run-as lists, options, tags, commands and settings that
the check has to understand or to leave unknown. Each is tried for real: with the script alone, with an argument, and
with a variable of the caller; each with an argument, by a link and as a group, too.
"""

from collections.abc import Iterator
from dataclasses import replace
import random

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, parse_facts
from custom_components.homelab_monitor.client.checks.update_script import SCRIPT, guard_line, update_script
from custom_components.homelab_monitor.client.checks.updates_rule import evaluate_updates_rule
from custom_components.homelab_monitor.client.models import System, Updates

from .superuser import SUDOS, Place

POLICIES = 50
USERS = ("mon", "mon", "%mon", "#61900", "ALL")
RUNAS = (
    "(root)",
    "(root)",
    "(ALL)",
    "(ALL:ALL)",
    "",
    "(nobody)",
    "(ALL, !root)",
    "(nobody, root)",
    "(#0)",
    "(:nogroup)",
    "(#00)",
    "(%root)",
    "(root:nogroup)",
)
OPTIONS = (
    "",
    "",
    "",
    "",
    "CWD=* ",
    "CWD=/ ",
    "CWD=/nowhere ",
    "NOTAFTER=20200101000000Z ",
    "NOTAFTER=20990101000000Z ",
)
OPTIONS += ("TIMEOUT=1h ", "CHROOT=* ", "CHROOT=/srv ")
TAGS = ("NOPASSWD: ", "NOPASSWD: ", "NOPASSWD: NOSETENV: ", "PASSWD: ", "", "NOEXEC: ", "EXEC: ", "SETENV: ")
TAGS += ("NOPASSWD: SETENV: ", "NOPASSWD: NOEXEC: ", "LOG_OUTPUT: ", "NOPASSWD: INTERCEPT: ", "NOINTERCEPT: ")
COMMANDS = (f'{SCRIPT} ""', f'{SCRIPT} ""', SCRIPT, f"!{SCRIPT}", "ALL", "/usr/local/sbin/", "!/usr/local/sbin/")
COMMANDS += ("/usr/local/sbin/*", "!/usr/local/sbin/h*", "/usr/local/*/homelab_*", f"{SCRIPT} x", f"{SCRIPT} *", "UP")
COMMANDS += ("/usr/bin/id", "!/usr/bin/su", "/usr/bin/", "/usr/local/sbin/homelab_monitor-updat?", "!UP", "list")
COMMANDS += (
    '/usr/local/sbin/homelab_monitor-updat? ""',
    '/usr/local/sbin/[a-z]* ""',
    "/usr/local/sbin/[!h]*",
    f"^{SCRIPT}$ ^$",
)
COMMANDS += ("/usr//local/sbin/homelab_monitor-update", '/opt/updates ""', '/opt/homelab_monitor-update ""', "/opt/*")
COMMANDS += (f"{SCRIPT} [a-z]*", rf"/usr/bin/echo a\\, {SCRIPT}", rf"/usr/bin/echo a\, {SCRIPT}", "sudoedit /etc/motd")
OURS = f'mon ALL=(root) NOPASSWD: NOSETENV: {SCRIPT} ""'
SCOPES = ("", "", ":mon", "@ALL", ">root", ">nobody", f"!{SCRIPT}", "!/usr/bin/id", "!UP", "!/usr/local/sbin/*")
SETTINGS = ("noexec", "!noexec", "requiretty", "!requiretty", "!authenticate", "authenticate", "runas_default=nobody")
SETTINGS += (
    "setenv",
    "!setenv",
    "!env_reset",
    "env_reset",
    'env_keep += "MARK LANG"',
    "env_check += MARK",
    "!env_keep",
)
SETTINGS += ("runcwd=/nowhere", "runcwd=*", "stay_setuid", "!stay_setuid", "umask=077", "use_pty", "intercept")
SETTINGS += ("exempt_group=mon", "secure_path=/bin", 'badpass_message="no, noexec"', "rlimit_core=0", "targetpw")
RUN_ALL = f"""
cd /run/policies
for each in *; do
  cat $each >/etc/sudoers.d/rules; chmod 440 /etc/sudoers.d/rules
  visudo -c >/dev/null 2>&1 && echo "POLICY $each" || continue
  setpriv --reuid=61900 --regid=61900 --clear-groups sh -c '
    sh </run/facts
    try() {{ sudo -n -k "$@" </dev/null 2>/dev/null; }}
    echo; echo ==
    try {SCRIPT}
    echo ==
    try /usr/bin/env
    echo ==
    for word in x anything; do try {SCRIPT} $word; done
    echo ==
    MARK=caller try {SCRIPT}
    for name in {SCRIPT} /opt/updates /opt/homelab_monitor-update; do
      try MARK=caller $name; try MARK=caller $name x; try -g nogroup MARK=caller $name
    done
  '
done
"""


GRAMMAR = {
    "sudo": (OPTIONS, TAGS, SETTINGS, SCOPES, COMMANDS),
    "sudo-rs": (
        ("",),
        ("NOPASSWD: ", "NOPASSWD: ", "NOPASSWD: NOSETENV: ", "PASSWD: ", "", "SETENV: ", "NOPASSWD: SETENV: "),
        ('env_keep += "MARK LANG"', "use_pty", "targetpw", "rootpw", "!env_keep"),
        ("", ":mon", "@ALL", f"!{SCRIPT}", "!/usr/bin/id"),
        tuple(each for each in COMMANDS if not set("*?") & set(each)),
    ),
}


def rules(dice: random.Random, way: str) -> Iterator[str]:
    """Yield the lines of a policy; sudo-rs knows less, and takes nothing that it does not know."""
    OPTIONS, TAGS, SETTINGS, SCOPES, COMMANDS = GRAMMAR[way]  # noqa: N806
    yield f'Cmnd_Alias UP = /usr/bin/true, {SCRIPT} ""'
    if dice.random() < 0.4:
        yield OURS
    for _ in range(dice.choice((1, 1, 2, 3))):
        if dice.random() < 0.4:
            yield f"Defaults{dice.choice(SCOPES)} {dice.choice(SETTINGS)}"
        commands = [
            f"{dice.choice(OPTIONS) if dice.random() < 0.3 else ''}{dice.choice(TAGS)}{dice.choice(COMMANDS)}"
            for _ in range(dice.choice((1, 1, 2, 3)))
        ]
        yield f"{dice.choice(USERS)} ALL={dice.choice(RUNAS)} {', '.join(commands)}"
        if dice.random() < 0.4:
            yield f"Defaults{dice.choice(SCOPES)} {dice.choice(SETTINGS)}"
    if dice.random() < 0.2:
        yield guard_line(SCRIPT)
    if dice.random() < 0.3:
        yield OURS


DENIED = {f"updates_rule_{word}" for word in ("missing", "overruled", "noexec", "stopped", "refused")}
SYSTEM = System(hostname="nas", kernel="6.12", architecture="x86_64", os_id="debian")


def faults(reason: str, alone: str, other: str, argument: str, variable: str) -> Iterator[str]:
    """Yield what the check says that is not so."""
    runs = "uid=0" in alone
    if reason in DENIED and runs:
        yield "not allowed, but it runs"
    if reason != "updates_rule_ready":
        return
    if not runs:
        yield "ready, but it does not run"
    # Who may run any other program may do everything.
    if not other and "uid=0" in argument:
        yield "without arguments, but it takes one"
    if not other and "MARK=caller" in variable:
        yield "no variable of the caller, but there is one"


# Another seed makes other policies: some hundreds of them were tried.
@pytest.mark.parametrize("seed", [7])
@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_of_made_up_policies_nothing_is_said_that_sudo_does_not_do(place: Place, seed: int) -> None:
    place.write(SCRIPT, '#!/bin/sh\necho "uid=$(id -u) MARK=$MARK"\n', 0o755)
    place.sh(f"chmod 755 /opt; for name in updates homelab_monitor-update; do ln -s {SCRIPT} /opt/$name; done")
    place.write("/run/facts", FACTS_SCRIPT)
    policies = ["\n".join(rules(random.Random(f"{seed}.{number}"), place.way)) for number in range(POLICIES)]
    texts = "".join(f"cat >{number:04} <<'END'\n{text}\nEND\n" for number, text in enumerate(policies))
    assert place.run("sh", stdin=f"mkdir /run/policies && cd /run/policies\n{texts}").returncode == 0
    tried, known, wrong = 0, 0, []
    for part in place.sh(RUN_ALL).stdout.split("POLICY ")[1:]:
        number, _, rest = part.partition("\n")
        told, alone, other, argument, variable = rest.split("==\n")
        facts = parse_facts(told)
        assert facts.is_complete, told
        if not facts.updates_rule.is_shown:
            # What the listing hides is told as that.
            continue
        facts = replace(facts, updates_rule=replace(facts.updates_rule, text=update_script("apt")))
        reason = evaluate_updates_rule(facts, Updates(manager="apt"), SYSTEM, is_wanted=True).reason
        reason = reason.removesuffix("_sudo_rs")
        tried, known = tried + 1, known + (reason != "updates_rule_not_known")
        if place.way == "sudo-rs":
            # It tells of arguments when it is asked for some, and nothing of variables.
            argument = variable = ""
        wrong += [
            f"{each}:\n{policies[int(number)]}\n{told}" for each in faults(reason, alone, other, argument, variable)
        ]
    assert wrong == [], "\n\n".join(wrong)
    assert tried > POLICIES / 4, "visudo takes most of them"
    assert known > tried / 2, "not all is left unknown"
