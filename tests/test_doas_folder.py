"""The rule for updates where doas reads a folder as well, as Alpine's does: what all files say together counts."""

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import FACTS_SCRIPT, Family, parse_facts
from custom_components.homelab_monitor.client.checks.remedies import remedy_for
from custom_components.homelab_monitor.client.checks.rule_remedies import DOAS_RULE_FILE
from custom_components.homelab_monitor.client.checks.update_script import SCRIPT, update_doas_line
from custom_components.homelab_monitor.client.checks.updates_rule import evaluate_updates_rule
from custom_components.homelab_monitor.client.models import System, Updates

from .superuser import Place

MINE = update_doas_line("mon")
SYSTEM = System(hostname="nas", kernel="6.12", architecture="x86_64", os_id="alpine")
READY, MISSING, LOOSE = "updates_rule_ready", "updates_rule_missing", "updates_rule_loose"
pytestmark = pytest.mark.parametrize("place", ["doas"], indirect=True)
both_kinds = pytest.mark.parametrize("alone", [False, True], ids=["both", "folder alone"])


def apply(place: Place, key: str = "install_updates_rule") -> tuple[int, str]:
    """Run what a remedy would run, as root; return how it ended and what it complained about."""
    found = remedy_for(key, Family.ALPINE, "mon", {"manager": "apk"})
    assert found
    done = place.sh(found.commands[0])
    return done.returncode, done.stderr


def judged(place: Place) -> str:
    """Return the reason of the check."""
    told = parse_facts(place.run("sh", stdin=FACTS_SCRIPT, user="mon").stdout)
    return evaluate_updates_rule(told, Updates(manager="apk"), SYSTEM, is_wanted=True).reason


@pytest.fixture
def ready(place: Place, alone: bool) -> Place:
    """Return a place whose doas reads the folder, where the script is installed."""
    place.write("/usr/bin/apk", "#!/bin/sh\n", 0o755)
    place.read_folder(alone=alone)
    place.write("/etc/doas.conf", "# nothing\n")
    place.write("/etc/doas.d/a.conf", "# nothing\n")
    assert apply(place) == (0, "")
    return place


FILES = {
    "ours": ({"zz.conf": [MINE]}, True),
    "denied later": ({"a.conf": [MINE], "b.conf": ["deny mon"]}, False),
    "denied before": ({"a.conf": ["deny mon"], "b.conf": [MINE]}, True),
    "with a password later": ({"a.conf": [MINE], "b.conf": ["permit persist mon as root"]}, False),
    "with a password before": ({"a.conf": ["permit persist mon as root"], "b.conf": [MINE]}, True),
    "capitals come first": ({"a.conf": [MINE], "B.conf": ["deny mon"]}, True),
    "a dash comes before a dot": ({".a.conf": ["deny mon"], "-b.conf": [MINE]}, False),
    "a hidden file": ({".a.conf": [MINE]}, True),
    "a hidden file that denies": ({".conf": ["deny mon"], "-.conf": [MINE]}, False),
    "another end of a name": ({"a.conf": [MINE], "b.conf.bak": ["deny mon"]}, True),
    "another program": ({"a.conf": [MINE], "b.conf": ["deny mon as root cmd id"]}, True),
    "everything later": ({"a.conf": ["deny mon"], "b.conf": ["permit nopass mon"]}, True),
    "everything, then this": ({"a.conf": ["permit nopass mon"], "b.conf": [f"deny mon as root cmd {SCRIPT}"]}, False),
    "a fault in another": ({"a.conf": [MINE], "b.conf": ["permit what is this"]}, False),
}


@both_kinds
def test_the_check_says_ready_where_all_files_together_let_the_script_run(ready: Place, alone: bool) -> None:
    for name, (files, runs) in FILES.items():
        ready.sh("rm -rf /etc/doas.d; mkdir -m 755 /etc/doas.d")
        for path, lines in files.items():
            ready.write(f"/etc/doas.d/{path}", "".join(f"{line}\n" for line in lines))
        ready.settle(alone=alone)
        assert (name, ready.ask(SCRIPT).returncode == 0) == (name, runs)
        assert (name, judged(ready)) == (name, READY if runs else MISSING)


@both_kinds
def test_what_the_main_file_says_counts_where_it_is_read(ready: Place, alone: bool) -> None:
    ready.sh("rm -f /etc/doas.d/*")
    ready.write("/etc/doas.conf", f"{MINE}\n")
    ready.write("/etc/doas.d/a.conf", "# nothing\n")
    ready.settle(alone=alone)
    assert (ready.ask(SCRIPT).returncode == 0) is not alone
    assert judged(ready) == (MISSING if alone else READY)


@both_kinds
def test_the_rule_is_put_where_it_counts_or_it_is_said_which_file_counts_more(ready: Place, alone: bool) -> None:
    ready.write("/etc/doas.conf", "permit persist mon as root\n")
    ready.write("/etc/doas.d/b.conf", "deny mon\n")
    assert apply(ready) == (0, "")
    ready.settle(alone=alone)
    assert ready.ask(SCRIPT).returncode == 0
    assert ready.sh(f"cat {DOAS_RULE_FILE}").stdout == f"{MINE}\n"
    ready.write("/etc/doas.d/zzz.conf", "permit persist mon as root\n")
    words = "/etc/doas.d/zzz.conf: a rule in this file overrides the one that was installed. Change it by hand\n"
    assert apply(ready) == (1, words)
    ready.settle(alone=alone)
    assert ready.ask(SCRIPT).returncode != 0
    assert judged(ready) == MISSING
    assert apply(ready, "remove_updates_rule") == (0, "")
    assert ready.sh("cd /etc/doas.d && ls").stdout == "a.conf\nb.conf\nzzz.conf\n"


@both_kinds
@pytest.mark.parametrize("hide", ["chmod 750 /etc/doas.d", "chmod 600 /etc/doas.d/b.conf"])
def test_what_its_user_may_not_read_makes_it_unknown(ready: Place, alone: bool, hide: str) -> None:
    for text in ("# nothing\n", "deny mon\n"):
        ready.write("/etc/doas.d/b.conf", text)
        ready.write("/etc/doas.conf", f"{MINE}\n")
        ready.sh(hide)
        ready.settle(alone=alone)
        assert judged(ready) == "updates_rule_not_known"


@both_kinds
def test_what_keeps_variables_of_its_user_is_reported_where_it_counts(ready: Place, alone: bool) -> None:
    kept = (
        f"permit nopass keepenv mon as root cmd {SCRIPT} args",
        f"permit setenv {{ ENV }} nopass mon cmd {SCRIPT} args",
    )
    for line in kept:
        ready.write("/etc/doas.d/zzz.conf", f"{line}\n")
        ready.settle(alone=alone)
        ready.write(SCRIPT, "#!/bin/sh\nenv\n", 0o755)
        assert "ENV=/x" in ready.sh(f"ENV=/x {' '.join(ready.prefix)} {SCRIPT}", user="mon").stdout
        assert judged(ready) == LOOSE
        ready.write("/etc/doas.d/zzz.conf", f"{line}\n{MINE}\n")
        assert judged(ready) == "updates_script_outdated"
    ready.write("/etc/doas.d/zzz.conf", "permit nopass keepenv mon\n")
    assert judged(ready) == "updates_script_outdated", "who may do everything needs no way around"


@pytest.mark.parametrize("alone", [False])
def test_a_doas_that_is_not_enabled_is_left_so(ready: Place) -> None:
    ready.sh(f"rm /etc/doas.conf {DOAS_RULE_FILE}")
    assert apply(ready) == (1, "doas is not enabled: there is no /etc/doas.conf\n")
    assert judged(ready) == MISSING


@pytest.mark.parametrize("alone", [False])
def test_a_link_in_the_place_of_the_folder_is_none(ready: Place) -> None:
    ready.sh("mv /etc/doas.d /srv/doas.d; chmod 755 /srv; ln -s /srv/doas.d /etc/doas.d")
    assert judged(ready) == MISSING
    assert apply(ready) == (0, "")
    assert ready.sh("cat /etc/doas.conf").stdout == f"# nothing\n{MINE}\n"
    assert judged(ready) == READY
