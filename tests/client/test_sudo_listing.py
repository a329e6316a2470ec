"""What a listing of sudo costs, and which words of it are tags and options, by the manual."""

import gzip
import itertools
from pathlib import Path
import re
import string
import time
import tracemalloc

import pytest

from custom_components.homelab_monitor.client.checks.sudo_listing import Listed, read_listing
from custom_components.homelab_monitor.client.limits import SUDO_LIST_CHARACTERS

PATH = "/usr/local/sbin/update"
TAGS = ("EXEC", "FOLLOW", "INTERCEPT", "LOG_INPUT", "LOG_OUTPUT", "MAIL", "PASSWD", "SETENV")
OPTIONS = (
    "APPARMOR_PROFILE",
    "CHROOT",
    "CWD",
    "LIMITPRIVS",
    "NOTAFTER",
    "NOTBEFORE",
    "PRIVS",
    "ROLE",
    "TIMEOUT",
    "TYPE",
)
NAMES = ["".join(each) for n in (1, 2, 3) for each in itertools.product(string.ascii_uppercase + "_", repeat=n)]


def listed(*rules: str) -> Listed:
    lines = ["User mon may run the following commands on nas:", *(f"    (root) {rule}" for rule in rules)]
    return read_listing(lines, [PATH], is_sudo_rs=False, is_allowed=True)


def full(first: str, each: str) -> str:
    """Return a text as long as one that is read, with one word again and again behind another one."""
    return first + each * ((SUDO_LIST_CHARACTERS - 40 - len(first)) // len(each))


MADE_UP = {
    "a tag of its own before each command": ",".join(f"{name}: ALL" for name in NAMES[:1800]),
    "a real tag before each command": full("", "NOEXEC: ALL,EXEC: ALL,SETENV: ALL,"),
    "made-up tags, then commands": full("".join(f"{name}: " for name in NAMES[:1500]), "ALL,"),
    "made-up options, then commands": full("".join(f"{name}=* " for name in NAMES[:1200]), "ALL,"),
    "both, then commands": full("".join(f"{name}: {name}=* " for name in NAMES[:700]), "ALL,"),
    "one long option, then commands": full(f"CHROOT=/{'x' * 8000} ", "ALL,"),
    "one long time limit, then commands": full(f"TIMEOUT={'9' * 8000} ", "ALL,"),
    "options again and again": full("", "CWD=* CHROOT=* TIMEOUT=1 ALL,"),
    "digests": full("", "sha224:x "),
    "commands": full("", "ALL,"),
    "a long path": full("/", "*/"),
    "users": full("", "root,"),
}


@pytest.mark.parametrize("rule", MADE_UP.values(), ids=MADE_UP)
def test_a_listing_costs_little_memory_and_time_whatever_it_says(rule: str) -> None:
    assert len(rule) <= SUDO_LIST_CHARACTERS
    tracemalloc.start()
    try:
        listed(rule)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    spent = []
    for _ in range(3):
        started = time.process_time()
        listed(rule)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.06


@pytest.mark.parametrize("size", [200, 1600])
def test_settings_of_a_listing_cost_little(size: int) -> None:
    settings = ", ".join(f'env_keep+="{name}"' for name in NAMES[:size])
    lines = ["Matching Defaults entries for mon on nas:", f"    {settings}", f"    (root) NOPASSWD: {PATH}"]
    started = time.process_time()
    read_listing(lines, [PATH], is_sudo_rs=False, is_allowed=True)
    assert time.process_time() - started < 0.06


@pytest.mark.parametrize("tag", [f"{no}{tag}" for tag in TAGS for no in ("", "NO")])
def test_every_tag_of_sudo_is_known(tag: str) -> None:
    harmful = {"NOEXEC", "INTERCEPT", "PASSWD"}
    found = listed(f'NOPASSWD: {tag}: {PATH} ""')
    assert (found.has_rule is True and not found.stopped_by) is (tag not in harmful)


@pytest.mark.parametrize(
    "rule", ["NOSUCH: {0}", "NOSUCH: /bin/ls, {0}", "SUCH: NOEXEC: EXEC: {0}", "SUCH=1 SUCH=* {0}"]
)
def test_a_tag_or_an_option_that_is_newer_than_this_leaves_a_rule_unknown(rule: str) -> None:
    named = rule.format(f'{PATH} ""')
    assert listed(f"NOPASSWD: {named}").has_rule is None
    assert listed(f"NOPASSWD: {named}", f'NOPASSWD: {PATH} ""').has_rule is True


def test_the_last_option_of_a_name_counts_and_stays_on() -> None:
    assert listed(f'NOPASSWD: CWD=/tmp CWD=* {PATH} ""').has_rule is True
    assert listed(f'NOPASSWD: CWD=* CWD=/tmp {PATH} ""').has_rule is None
    assert listed(f'NOPASSWD: CHROOT=* /bin/ls, {PATH} ""').has_root_folder
    assert listed(f'NOPASSWD: ROLE=x /bin/ls, {PATH} ""').has_rule is None


def test_a_rule_with_a_root_folder_of_its_own_leaves_those_before_it() -> None:
    # In that folder sudo may not find the program, and then the rule before it counts.
    found = listed(f"NOPASSWD: {PATH}", f"PASSWD: CHROOT=/srv {PATH}")
    assert (found.has_rule, found.may_run, found.is_open) == (None, True, True)
    found = listed(f"NOPASSWD: {PATH}", f"PASSWD: {PATH}")
    assert (found.has_rule, found.may_run, found.is_open) == (False, False, False)


WITHOUT = {"sudo 1.9.13": f'{PATH} ""', "sudo 1.9.5": rf"{PATH} \"\""}
"""A rule that ends in `""`, as versions of sudo list it."""


@pytest.mark.parametrize("shown", WITHOUT.values(), ids=WITHOUT)
def test_a_rule_without_arguments_is_known_however_a_version_quotes_them(shown: str) -> None:
    found = listed(f"NOSETENV: NOPASSWD: {shown}")
    assert (found.has_rule, found.may_run, found.is_named, found.is_open) == (True, True, True, False)
    found = listed(f"NOSETENV: NOPASSWD: {PATH}", f"NOSETENV: NOPASSWD: {shown}")
    assert (found.has_rule, found.is_open) == (True, True)
    found = listed(f"NOSETENV: NOPASSWD: {shown}", "ALL")
    assert (found.has_rule, found.overruled_by) == (False, "(root) ALL")


def test_variables_that_a_sudo_rs_shows_are_reported() -> None:
    """Of 0.2.15; the one of Debian 13 shows no tags of this kind."""
    for rules, loose in (
        ([f'SETENV: NOPASSWD: {PATH} ""'], "setenv"),
        ([f'NOSETENV: NOPASSWD: {PATH} ""'], ""),
        ([f'SETENV: NOPASSWD: /usr/bin/rsync "", NOSETENV: {PATH} ""'], ""),
    ):
        lines = [f"    (root) {rule}" for rule in rules]
        found = read_listing(lines, [PATH], is_sudo_rs=True, is_allowed=True)
        assert (rules, found.loosened_by) == (rules, loose)


MANUAL = Path("/usr/share/man/man5/sudoers.5.gz")


@pytest.mark.skipif(not MANUAL.exists(), reason="no manual of sudo here")
def test_all_tags_and_options_of_the_manual_are_known() -> None:
    text = gzip.decompress(MANUAL.read_bytes()).decode()
    (tags,) = re.findall(r"^Tag_Spec ::= \((.*?)\)", text, re.DOTALL | re.MULTILINE)
    assert {word.removeprefix("NO") for word in re.findall(r"'([A-Z_]+)'", tags)} <= set(TAGS)
    options = set(re.findall(r"'([A-Z_]+)=[a-z]+'", text))
    assert len(options) > 8
    assert options <= set(OPTIONS)
