"""Every rule for root that we document or write: what it says, and what it lets through, under real tools."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
import re
import shutil

import pytest

from custom_components.homelab_monitor.client.checks.remedies import REMEDIES, remedy_for

from .superuser import SUDOS, Place

ROOT = Path(__file__).parents[1]
WORDS = {"manager": "apt", "disks": "sda nvme0n1", "tool": "/usr/sbin/smartctl"}
_SUDOERS = re.compile(r"^\s*[A-Za-z_%#+][\w.%-]* +ALL *= *.*$", re.MULTILINE)
_DOAS = re.compile(r"^ *permit .*$", re.MULTILINE)
RUNNERS = re.compile(r"/(?:[a-z]*sh|env|systemd-run|setsid|python\S*|perl|nice|xargs|su|sudo|find|awk) ")
"""Programs that run what their arguments say."""


def texts() -> Iterator[str]:
    """Yield everything that shows a rule: the pages, and the commands of the remedies."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield page.read_text()
    for key, family in REMEDIES:
        if found := remedy_for(key, family, "mon", WORDS):
            yield found.text


SUDO_RULES = sorted({line.strip() for text in texts() for line in _SUDOERS.findall(text)})
DOAS_RULES = sorted({line.strip() for text in texts() for line in _DOAS.findall(text)})


def test_the_rules_are_found() -> None:
    shown = "\n".join(SUDO_RULES)
    for word in ("nft", "iptables", "sshd", "fail2ban", "/ss -H", "homelab_monitor-update", "systemctl", "smartctl"):
        assert word in shown
    assert len(DOAS_RULES) == 10
    # A remedy also names the rules that it takes out, without a user.
    count = sum(len(re.findall(r"\S +ALL *=.*NOPASSWD:", text)) for text in texts())
    assert count == sum(len(_SUDOERS.findall(text)) for text in texts()), "none is written in another way"


@pytest.mark.parametrize("rule", SUDO_RULES)
def test_a_rule_names_one_command_whose_words_mean_themselves(rule: str) -> None:
    user, _, command = rule.partition(" ALL=(root) NOPASSWD: NOSETENV: ")
    assert user == "mon"
    path, *words = command.split(" ")
    assert re.fullmatch(r"(?:/usr)?(?:/local)?/s?bin/[a-z0-9_-]+", path)
    assert words, "a command without arguments allows any"
    if words != ['""']:
        # No quote, no wildcard, nothing that sudoers would have escaped; no space, as these are the words.
        assert all(re.fullmatch(r"[A-Za-z0-9/._-]+", word) for word in words)
    assert not RUNNERS.search(f"{path} "), "it runs what its arguments say"


@pytest.mark.parametrize("rule", DOAS_RULES)
def test_a_rule_of_doas_names_its_arguments(rule: str) -> None:
    assert re.fullmatch(r"permit nopass mon as root cmd /[a-z/_-]+ args( [\w./-]+)*", rule)


def splits(words: list[str]) -> Iterator[list[str]]:
    """Yield every way to split the same text into words."""
    for joints in product((False, True), repeat=len(words) - 1):
        parts = [words[0]]
        for word, joined in zip(words[1:], joints, strict=True):
            parts[-1:] = [f"{parts[-1]} {word}"] if joined else [parts[-1], word]
        yield parts


@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_sudo_lets_through_what_a_rule_says_and_no_more(place: Place) -> None:
    place.allow(*SUDO_RULES)
    assert place.run("visudo", "-c").returncode == 0
    for rule in SUDO_RULES:
        path, *words = rule.partition("NOSETENV: ")[2].split(" ")
        words = [] if words == ['""'] else words
        place.sh(f"rm -f $(readlink -f {path}) {path}; mkdir -p {path.rpartition('/')[0]}")
        place.write(path, "#!/bin/sh\nprintf '<%s>' \"$@\"\n", 0o755)
        exact = place.ask(path, *words)
        assert (exact.returncode, exact.stdout) == (0, "".join(f"<{word}>" for word in words) or "<>")
        others = [[*words, "x"], ["x", *words], [*words, ""], [f"{word}x" for word in words] or ["x"], ["--", *words]]
        others += [words[:-1]] if len(words) > 1 else []
        others += [[]] if words else []
        for other in others:
            assert place.ask(path, *other).returncode != 0, (rule, other)


@pytest.mark.parametrize("rule", SUDO_RULES)
def test_other_words_of_the_same_text_make_no_program_do_more(place: Place, rule: str) -> None:
    """sudo cannot tell them apart, so each program has to refuse them by itself, or do the same."""
    path, *words = rule.partition("NOSETENV: ")[2].split(" ")
    if words == ['""'] or len(words) < 2:
        assert list(splits(words)) == [words]
        return
    if not shutil.which(path):
        pytest.skip(f"needs {path}")
    place.allow(rule)
    exact = place.ask(path, *words)
    for other in splits(words):
        done = place.ask(path, *other)
        is_same = (done.returncode, done.stdout) == (exact.returncode, exact.stdout)
        assert is_same or done.returncode != 0, (other, done.stdout)


GUARDS = sorted({line for text in texts() for line in re.findall(r"^Defaults!.*$", text, re.MULTILINE)})
CALLER = ["HOME", "PATH", "TERM", "LANG", "LC_ALL", "LANGUAGE", "TZ", "DISPLAY", "XAUTHORITY", "TMPDIR", "MAIL"]
CALLER += ["XTABLES_LIBDIR", "DBUS_SYSTEM_BUS_ADDRESS", "SYSTEMCTL_FORCE_BUS", "SYSTEMD_PAGER", "LESSOPEN", "PAGER"]
CALLER += ["OPENSSL_CONF", "PYTHONSTARTUP", "LOCPATH", "GCONV_PATH", "MALLOC_TRACE", "GLIBC_TUNABLES", "NSS_X", "PS1"]
KEEPS = (
    "Defaults !env_reset",
    "Defaults:mon !env_reset",
    "Defaults>root !env_reset",
    f'Defaults env_keep += "{" ".join(CALLER)}"',
    f'Defaults env_check += "{" ".join(CALLER)}"',
    "Defaults !secure_path, !env_reset",
)


def programs(text: str) -> set[str]:
    """Return the programs of the rules in a text."""
    return {line.rpartition(": ")[2].split()[0] for line in _SUDOERS.findall(text)}


def test_every_rule_stands_beside_the_guard_of_its_program() -> None:
    blocks = [block for text in texts() for block in ("```" in text and text.split("```")[1::2]) or [text]]
    assert sum(bool(programs(block)) for block in blocks) > 10
    for block in blocks:
        missing = programs(block) - {guard.partition("!")[2].split()[0] for guard in GUARDS if guard in block}
        assert not missing, block


@pytest.mark.parametrize("place", SUDOS, indirect=True)
def test_no_variable_of_the_caller_reaches_a_program_that_a_rule_names(place: Place) -> None:
    """Many run code that a variable names, and sudo can be set up to keep them all."""
    commands = {}
    for rule in SUDO_RULES:
        command = rule.partition("NOSETENV: ")[2].removesuffix(' ""')
        commands.setdefault(command.split()[0], command)
    # All go before any comes: some are links to others.
    place.sh("".join(f"rm -f $(readlink -f {path}) {path}; mkdir -p {path.rpartition('/')[0]}\n" for path in commands))
    for path in commands:
        place.write(path, "#!/bin/sh\n/usr/bin/env\n", 0o755)
    variables = " ".join(f"{name}=/home/mon/mark:/usr/bin" for name in CALLER)
    asked = "".join(f"/usr/bin/sudo -n {command}\n" for command in commands.values())
    for keeps in KEEPS:
        for lines in ([keeps, *GUARDS, *SUDO_RULES], [*GUARDS, *SUDO_RULES, keeps]):
            place.allow(*lines)
            assert place.run("visudo", "-c").returncode == 0
            done = place.run("/usr/bin/env", *variables.split(), "/bin/sh", "-c", asked, user="mon")
            assert done.stdout.count("SUDO_UID=") == len(commands), done.stderr
            assert [line for line in done.stdout.splitlines() if "mark" in line] == [], keeps


SETS = ("Defaults setenv", "Defaults:mon setenv", "Defaults!/usr/sbin/sshd setenv")


@pytest.mark.parametrize("rule", SUDO_RULES)
def test_nobody_sets_a_variable_for_a_proposed_program_where_sudoers_lets_users_do_so(place: Place, rule: str) -> None:
    """`setenv` of sudoers(5) lets a caller name any variable, also LD_PRELOAD; sudo-rs has no such setting."""
    command = rule.partition("NOSETENV: ")[2].removesuffix(' ""')
    path = command.split()[0]
    place.sh(f"rm -f $(readlink -f {path}) {path}")
    place.write(path, "#!/bin/sh\nenv\n", 0o755)
    for line in SETS:
        for lines in ([line, *GUARDS, rule], [*GUARDS, rule, line]):
            place.allow(*lines)
            for words in ("sudo -n -E", "sudo -n LD_PRELOAD=/x PYTHONPATH=/x"):
                done = place.sh(f"PYTHONPATH=/x OPENSSL_CONF=/x {words} {command}", user="mon")
                assert not re.search(r"^(?:LD_|PYTHON|OPENSSL)", done.stdout, re.MULTILINE), (line, words)
            assert place.sh(f"sudo -n {command}", user="mon").returncode == 0


def test_no_rule_leaves_it_to_the_settings_whether_its_user_sets_variables() -> None:
    assert [rule for rule in SUDO_RULES if "NOPASSWD: NOSETENV: " not in rule] == []
