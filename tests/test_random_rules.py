"""What the check says of made-up policies of sudo, held against what sudo does under them.

A policy is a few lines of a small grammar of sudoers(5): users, run-as lists, options, tags, commands and settings that
the check has to understand or to leave unknown. Each is tried for real: with the script alone, with an argument, and
with a variable of the caller.
"""

from collections.abc import Iterator
import random

import pytest

from custom_components.homelab_monitor.client.update_script import SCRIPT, UpdatesRule, guard_line, parse_updates_rule

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
OPTIONS += ("TIMEOUT=1h ", "CHROOT=* ")
TAGS = ("NOPASSWD: ", "NOPASSWD: ", "NOPASSWD: NOSETENV: ", "PASSWD: ", "", "NOEXEC: ", "EXEC: ", "SETENV: ")
TAGS += ("NOPASSWD: SETENV: ", "NOPASSWD: NOEXEC: ", "LOG_OUTPUT: ", "NOPASSWD: INTERCEPT: ", "NOINTERCEPT: ")
COMMANDS = (f'{SCRIPT} ""', f'{SCRIPT} ""', SCRIPT, f"!{SCRIPT}", "ALL", "/usr/local/sbin/", "!/usr/local/sbin/")
COMMANDS += ("/usr/local/sbin/*", "!/usr/local/sbin/h*", "/usr/local/*/homelab_*", f"{SCRIPT} x", f"{SCRIPT} *", "UP")
COMMANDS += ("/usr/bin/id", "!/usr/bin/su", "/usr/bin/", "/usr/local/sbin/homelab_monitor-updat?", "!UP", "list")
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
    sudo -n -k -l </dev/null 2>&1 | sed "s/^/sudo /"
    sudo -n -k -l {SCRIPT} </dev/null 2>/dev/null | grep -q "^/" && echo allowed || echo refused
    echo ==
    sudo -n -k {SCRIPT} </dev/null 2>/dev/null
    echo ==
    sudo -n -k {SCRIPT} anything </dev/null 2>/dev/null
    echo ==
    MARK=caller sudo -n -k {SCRIPT} </dev/null 2>/dev/null
    sudo -n -k MARK=caller {SCRIPT} </dev/null 2>/dev/null
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


def faults(found: UpdatesRule, alone: str, argument: str, variable: str) -> Iterator[str]:
    """Yield what the check says that is not so."""
    runs = "uid=0" in alone
    is_ready = found.has_rule and not found.is_refused and not found.stopped_by
    is_denied = found.has_rule is False or found.is_refused or (found.has_rule and found.stopped_by != "")
    if is_ready and not runs:
        yield "ready, but it does not run"
    if is_denied and runs:
        yield "not allowed, but it runs"
    has_all = not found.is_named and not found.is_open
    if is_ready and not found.is_open and not has_all and "uid=0" in argument:
        yield "without arguments, but it takes one"
    if is_ready and not found.loosened_by and not has_all and not found.is_open and "MARK=caller" in variable:
        yield "no variable of the caller, but there is one"


# Another seed makes other policies: some hundreds of them were tried.
@pytest.mark.parametrize("seed", [7])
@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_of_made_up_policies_nothing_is_said_that_sudo_does_not_do(place: Place, seed: int) -> None:
    place.write(SCRIPT, '#!/bin/sh\necho "uid=$(id -u) MARK=$MARK"\n', 0o755)
    policies = ["\n".join(rules(random.Random(f"{seed}.{number}"), place.way)) for number in range(POLICIES)]
    texts = "".join(f"cat >{number:04} <<'END'\n{text}\nEND\n" for number, text in enumerate(policies))
    assert place.run("sh", stdin=f"mkdir /run/policies && cd /run/policies\n{texts}").returncode == 0
    tried, known, wrong = 0, 0, []
    for part in place.sh(RUN_ALL).stdout.split("POLICY ")[1:]:
        number, _, rest = part.partition("\n")
        listed, alone, argument, variable = rest.split("==\n")
        told = [f"place -rwxr-xr-x 0 {SCRIPT}", f"real {SCRIPT}", *listed.splitlines()]
        told += ["listed"] if "may run the following" in listed else []
        if "listed" not in told:
            # What the listing hides is told as that.
            continue
        told += ["sudo_rs"] if place.way == "sudo-rs" else []
        found = parse_updates_rule(told)
        tried, known = tried + 1, known + (found.has_rule is not None)
        if place.way == "sudo-rs":
            # It tells of arguments when it is asked, and nothing of variables.
            argument = variable = ""
        wrong += [f"{each}:\n{policies[int(number)]}\n{listed}" for each in faults(found, alone, argument, variable)]
    assert wrong == [], "\n\n".join(wrong)
    assert tried > POLICIES / 4, "visudo takes most of them"
    assert known > tried / 2, "not all is left unknown"
